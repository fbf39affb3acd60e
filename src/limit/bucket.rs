//! A token bucket in one word, exact, with the time passed in.
//!
//! It is the generic cell rate algorithm (ITU-T I.371, 1996, "virtual scheduling") in whole numbers: the word is the time
//! at which the bucket will be full, 48 bits of µs and 16 bits of a fraction of one. That time does not move while the
//! bucket refills, so nothing accumulates, nothing drifts, and one compare-and-swap takes tokens.
//!
//! A rate of n tokens in p µs counts in units of 1/n µs, of which a token is worth p: no division is inexact. And since
//! a word is a time, it stays right when a reload changes rate or burst (to within the fraction): a bucket that
//! would have been full in 3 s still will be; there are no units to mix up.

/// Bits of the fraction of a µs, so that n is at most 2^16.
const FRACTION_BITS: u32 = 16;
/// The largest n.
pub const N_MAX: u64 = 1 << FRACTION_BITS;
/// The largest capacity in units: four of them, and a token, can be added without overflow, in Lua's doubles too.
pub const UNITS_MAX: u64 = 1 << 50;

/// Rate and size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    n: u64,
    p: u64,
    cap: u64,
}

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The bucket's word after it.
    pub word: u64,
    /// How many tokens.
    pub tokens: u64,
    /// How many are left.
    pub left: u64,
}

impl Shape {
    /// `n` tokens in `p_us` µs and `tokens` at most. Values out of range are brought into it, towards less.
    #[must_use]
    pub fn new(n: u64, p_us: u64, tokens: u64) -> Self {
        let p = p_us.clamp(1, UNITS_MAX);
        Self { n: n.clamp(1, N_MAX), p, cap: tokens.saturating_mul(p).clamp(p, UNITS_MAX.max(p)) }
    }

    /// Tokens in n ...
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// ... this many µs; also what a token is worth in units.
    #[must_use]
    pub const fn p(&self) -> u64 {
        self.p
    }

    /// The capacity in units.
    #[must_use]
    pub const fn cap(&self) -> u64 {
        self.cap
    }

    /// Units that are missing at `now_us`. Never more than there can be: a word from a larger bucket is an empty one.
    #[inline]
    fn missing(&self, word: u64, now_us: u64) -> u64 {
        let full_us = full_at_us(word);
        if full_us < now_us {
            return 0;
        }
        let fraction = (word & (N_MAX - 1)).min(self.n - 1);
        ((full_us - now_us).saturating_mul(self.n)).saturating_add(fraction).min(self.cap)
    }

    #[inline]
    fn word(&self, missing: u64, now_us: u64) -> u64 {
        ((now_us + missing / self.n) << FRACTION_BITS) | (missing % self.n)
    }

    /// The word of a bucket that is empty at `now_us`.
    #[must_use]
    pub fn empty(&self, now_us: u64) -> u64 {
        self.word(self.cap, now_us)
    }

    /// Whole tokens there at `now_us`.
    #[inline]
    #[must_use]
    pub fn tokens(&self, word: u64, now_us: u64) -> u64 {
        (self.cap - self.missing(word, now_us)) / self.p
    }

    /// Takes at least `least`, and up to `most` but no more than one `share`th of what is there beyond that.
    ///
    /// # Errors
    /// When `least` are not there: the µs until they will be.
    #[inline]
    pub fn take(&self, word: u64, now_us: u64, least: u64, most: u64, share: u64) -> Result<Taken, u64> {
        let missing = self.missing(word, now_us);
        let (room, needed) = (self.cap - missing, least.saturating_mul(self.p));
        if needed > room {
            return Err((needed - room).div_ceil(self.n));
        }
        let there = room / self.p;
        let tokens = (there / share.max(1)).clamp(least, most.max(least));
        Ok(Taken { word: self.word(missing + tokens * self.p, now_us), tokens, left: there - tokens })
    }

    /// The word of an empty bucket in place of one that would be more than empty: one of a larger bucket, before a reload.
    /// It would take long to become less than empty.
    #[must_use]
    pub fn settle(&self, word: u64, now_us: u64) -> Option<u64> {
        let empty = self.empty(now_us);
        (word > empty).then_some(empty)
    }

    /// Puts back `tokens` that were taken.
    #[must_use]
    pub fn give(&self, word: u64, now_us: u64, tokens: u64) -> u64 {
        self.word(self.missing(word, now_us).saturating_sub(tokens.saturating_mul(self.p)), now_us)
    }

    /// The µs in which `tokens` come in.
    #[must_use]
    pub fn time_us(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.p).div_ceil(self.n)
    }

    /// The whole tokens that come in within `us` µs.
    #[must_use]
    pub fn tokens_in(&self, us: u64) -> u64 {
        us.saturating_mul(self.n) / self.p
    }
}

/// When the bucket with this word will be full, in µs, rounded down.
#[inline]
#[must_use]
pub const fn full_at_us(word: u64) -> u64 {
    word >> FRACTION_BITS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_holds_a_burst_and_refills_exactly() {
        for (n, p, burst) in [(100, 1_000_000, 100), (7, 1_000_000, 3), (3, 60_000_000, 5), (65_536, 99_991, 40)] {
            let shape = Shape::new(n, p, burst);
            let start = 5_000_000;
            let mut word = 0;
            let mut taken = 0;
            // A walk with odd steps over 1,000 tokens' time, asking for one token at each step.
            let (mut now, end) = (start, start + shape.time_us(1000));
            while now < end {
                while let Ok(t) = shape.take(word, now, 1, 1, 1) {
                    (word, taken) = (t.word, taken + 1);
                }
                now += (shape.time_us(1) / 7).max(1);
            }
            let exact = burst + (now - start) * n / p;
            assert!(taken <= exact && taken + 2 >= exact, "{n}/{p}: {taken} of {exact}");
        }
    }

    #[test]
    fn a_refusal_says_when_it_will_not_be_one() {
        let shape = Shape::new(7, 1_000_000, 3);
        let mut word = shape.empty(1_000);
        for _ in 0..500 {
            let now = full_at_us(word);
            let now = now.saturating_sub(shape.time_us(3) - 1);
            let wait = shape.take(word, now, 1, 1, 1).err().unwrap_or(0);
            if wait > 1 {
                assert!(shape.take(word, now + wait - 1, 1, 1, 1).is_err());
            }
            word = shape.take(word, now + wait, 1, 1, 1).unwrap().word;
        }
    }

    #[test]
    fn a_chunk_shrinks_to_what_is_needed_when_tokens_are_scarce() {
        let shape = Shape::new(100, 1_000_000, 100);
        let take = |word| shape.take(word, 0, 1, 64, 8).unwrap();
        let first = take(0);
        assert_eq!((first.tokens, first.left), (12, 88));
        let mut word = first.word;
        let mut all = first.tokens;
        while let Ok(t) = shape.take(word, 0, 1, 64, 8) {
            (word, all) = (t.word, all + t.tokens);
        }
        assert_eq!(all, 100, "and none is stranded");
        assert_eq!(shape.tokens(shape.give(word, 0, 30), 0), 30);
        assert_eq!(shape.tokens(shape.give(word, 0, 300), 0), 100);
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let shape = Shape::new(100, 1_000_000, 10);
        let word = shape.take(0, 9_000_000, 10, 10, 1).unwrap().word;
        assert_eq!(shape.tokens(word, 8_000_000), 0);
        assert_eq!(shape.tokens(word, 9_050_000), 5);
    }

    #[test]
    fn a_reload_keeps_the_time_until_full() {
        let slow = Shape::new(10, 60_000_000, 10);
        let fast = Shape::new(1000, 60_000_000, 1000);
        let word = slow.empty(1_000_000);
        assert_eq!(fast.tokens(word, 1_000_000), 0);
        assert_eq!(fast.tokens(word, 31_000_000), 500);
        let word = fast.empty(1_000_000);
        assert_eq!(slow.tokens(word, 31_000_000), 5);
        let day = Shape::new(1, 86_400_000_000, 1);
        assert_eq!(fast.tokens(day.empty(0), 0), 0, "a word from a larger bucket is an empty one");
        let settled = fast.settle(day.empty(0), 0).unwrap();
        assert_eq!((fast.tokens(settled, 30_000_000), fast.settle(settled, 1)), (500, None), "and refills at once");
    }

    #[test]
    fn no_value_overflows() {
        for shape in [Shape::new(u64::MAX, u64::MAX, u64::MAX), Shape::new(0, 0, 0), Shape::new(1, u64::MAX, 1)] {
            for word in [0, u64::MAX, 1 << 63] {
                for now in [0, 1 << 47] {
                    let _ = shape.take(word, now, u64::MAX, u64::MAX, 0);
                    let _ = (shape.tokens(word, now), shape.give(word, now, u64::MAX), shape.empty(now));
                }
            }
        }
    }
}
