//! What a process holds of a key's tokens: a lease in one word (tokens, when they expire, and at how few to ask for
//! more), and how many tokens to ask for.

/// Bits of the tokens: 4 million.
const TOKEN_BITS: u32 = 22;
/// Bits of the exponent of the low mark.
const LOW_BITS: u32 = 5;
/// Bits of the expiry in ms: 4 years of a process.
const EXPIRY_BITS: u32 = 37;
/// The largest lease.
pub const TOKENS_MAX: u64 = (1 << TOKEN_BITS) - 1;

const _: () = assert!(TOKEN_BITS + LOW_BITS + EXPIRY_BITS == 64);

/// A lease, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease {
    /// Unspent tokens.
    pub tokens: u64,
    /// When they are worth nothing any more, in ms of the process' clock: rounded down, since later would be too much.
    pub expiry_ms: u64,
    /// With fewer than 2 to this power it is time to ask for more.
    low: u64,
}

impl Lease {
    /// `tokens` that expire at `expiry_us`. More than [`TOKENS_MAX`] are as many.
    #[must_use]
    pub fn new(tokens: u64, expiry_us: u64) -> Self {
        let tokens = tokens.min(TOKENS_MAX);
        // The power of two at or under 30 % of it; 0 stands for none, since a lease of one or two is asked for when gone.
        let low = (tokens * 3 / 10).checked_ilog2().map_or(0, u64::from);
        Self { tokens, expiry_ms: (expiry_us / 1000).min((1 << EXPIRY_BITS) - 1), low }
    }

    /// Reads a word.
    #[inline]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        Self {
            tokens: word >> (LOW_BITS + EXPIRY_BITS),
            low: (word >> EXPIRY_BITS) & ((1 << LOW_BITS) - 1),
            expiry_ms: word & ((1 << EXPIRY_BITS) - 1),
        }
    }

    /// Writes a word.
    #[inline]
    #[must_use]
    pub const fn pack(self) -> u64 {
        (self.tokens << (LOW_BITS + EXPIRY_BITS)) | (self.low << EXPIRY_BITS) | self.expiry_ms
    }

    /// When it expires, in µs.
    #[inline]
    #[must_use]
    pub const fn expiry_us(self) -> u64 {
        self.expiry_ms * 1000
    }

    /// Unspent tokens that are still worth something.
    #[inline]
    #[must_use]
    pub const fn usable(self, now_us: u64) -> u64 {
        if now_us < self.expiry_us() { self.tokens } else { 0 }
    }

    /// Takes at least `least`, and up to `most` but no more than one `share`th of what is there beyond that: the lease
    /// that is left and the tokens; `None` when `least` are not there.
    #[inline]
    #[must_use]
    pub fn take(self, now_us: u64, least: u64, most: u64, share: u64) -> Option<(Self, u64)> {
        let there = self.usable(now_us);
        if there < least {
            return None;
        }
        let tokens = (there / share.max(1)).clamp(least, most.max(least));
        Some((Self { tokens: there - tokens, ..self }, tokens))
    }

    /// The same lease with tokens put back that were taken from it.
    #[must_use]
    pub fn with_more(self, tokens: u64) -> Self {
        Self { tokens: (self.tokens + tokens).min(TOKENS_MAX), ..self }
    }

    /// The same lease with no more than `tokens`.
    #[must_use]
    pub fn keep(self, tokens: u64) -> Self {
        Self { tokens: self.tokens.min(tokens), ..self }
    }

    /// Whether it is time to ask for more.
    #[inline]
    #[must_use]
    pub const fn is_low(self) -> bool {
        self.tokens < 1 << self.low
    }

    /// A new lease on top of this one: the lease, and the tokens that have to go back because they are too old to join.
    ///
    /// Joined tokens expire when the older ones do, since a later time would let those live longer than promised. Older
    /// ones that have less than half their life left would cost the new ones too much of theirs.
    #[must_use]
    pub fn join(self, now_us: u64, tokens: u64, expiry_us: u64, life_us: u64) -> (Self, u64) {
        let there = self.usable(now_us);
        if tokens == 0 {
            (self, 0)
        } else if there == 0 {
            (Self::new(tokens, expiry_us), 0)
        } else if self.expiry_us() < now_us + life_us / 2 {
            (Self::new(tokens, expiry_us), there)
        } else {
            (Self::new(there + tokens, expiry_us.min(self.expiry_us())), 0)
        }
    }
}

/// How long the tokens asked for are to last. Asking at 30 % then means some 14 questions a second for a busy key, and
/// what is stranded when traffic moves to another process is 100 ms of it.
const HORIZON_US: u64 = 100_000;
/// Shorter times between two questions say little about a rate.
const SAMPLE_MIN_US: u64 = 1_000;

/// How fast a process spends a key's tokens: a moving average over questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    per_s: u64,
    asked: u64,
}

impl Demand {
    /// `spent` tokens in the last `us` µs.
    pub fn note(&mut self, spent: u64, us: u64) {
        let sample = spent.saturating_mul(1_000_000) / us.max(SAMPLE_MIN_US);
        // Half weight: a burst is followed within two questions, and forgotten as fast.
        self.per_s = self.per_s / 2 + sample.div_ceil(2);
    }

    /// Whether it is worth a lease: at least two requests within [`HORIZON_US`].
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.over(HORIZON_US) > 1
    }

    /// Tokens spent in `us` µs at this rate, rounded up.
    #[must_use]
    pub fn over(&self, us: u64) -> u64 {
        self.per_s.saturating_mul(us).div_ceil(1_000_000)
    }

    /// How many tokens a process should hold: enough for [`HORIZON_US`], at least `need`, and twice as many as the last
    /// time when those were not enough.
    pub fn want(&mut self, is_dry: bool, need: u64, most: u64) -> u64 {
        let asked = if is_dry { self.asked.saturating_mul(2) } else { 0 };
        self.asked = self.over(HORIZON_US).max(asked).max(need).min(most);
        self.asked
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_word_reads_back_and_expires() {
        let lease = Lease::new(1000, 5_000_999);
        assert_eq!(Lease::unpack(lease.pack()), lease);
        assert_eq!((lease.usable(4_999_999), lease.usable(5_000_000)), (1000, 0));
        let most = Lease::new(u64::MAX, u64::MAX);
        assert_eq!((Lease::unpack(most.pack()), most.tokens), (most, TOKENS_MAX));
    }

    #[test]
    fn chunks_shrink_and_the_low_mark_is_under_30_percent() {
        let lease = Lease::new(100, 1_000_000);
        let (left, tokens) = lease.take(0, 1, 64, 4).unwrap();
        assert_eq!((left.tokens, tokens), (75, 25));
        assert!(!left.is_low() && Lease { tokens: 15, ..left }.is_low());
        assert_eq!(Lease { tokens: 3, ..left }.take(0, 1, 64, 4).unwrap().1, 1);
        assert_eq!(left.take(1_000_000, 1, 1, 1), None);
        assert!(!Lease::new(1, 1).is_low() && Lease { tokens: 0, ..Lease::new(1, 1) }.is_low());
    }

    #[test]
    fn joined_tokens_never_live_longer() {
        let (s, life) = (1_000_000, 1_000_000);
        let old = Lease::new(10, 2 * s);
        assert_eq!(old.join(s, 5, 2 * s + 300_000, life), (Lease::new(15, 2 * s), 0));
        assert_eq!(old.join(s + 600_000, 5, 2 * s + 600_000, life), (Lease::new(5, 2 * s + 600_000), 10));
        assert_eq!(old.join(2 * s, 5, 3 * s, life), (Lease::new(5, 3 * s), 0));
        assert_eq!(old.join(s + 600_000, 0, 3 * s, life), (old, 0));
    }

    #[test]
    fn demand_is_followed_and_a_dry_wallet_asks_for_more() {
        let mut demand = Demand::default();
        assert_eq!(demand.want(true, 1, 100), 1);
        assert_eq!([demand.want(true, 1, 100), demand.want(true, 1, 100), demand.want(true, 1, 3)], [2, 4, 3]);
        for _ in 0..20 {
            demand.note(50, 50_000);
        }
        assert_eq!(demand.want(false, 1, 1000), 100);
        for _ in 0..20 {
            demand.note(0, 50_000);
        }
        assert_eq!((demand.want(false, 1, 1000), demand.over(1_000_000)), (1, 0));
    }
}
