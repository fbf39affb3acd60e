//! What a limit is: its numbers as the operator set them, and what follows from them for N processes.

use std::hash::BuildHasher;

use crate::limit::bucket::{N_MAX, Shape, UNITS_MAX};
use crate::limit::lease::TOKENS_MAX;
use crate::value::Invalid;

/// What to do with a key's requests while Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnUnavailable {
    /// Each process keeps its share: R/N and B/N, empty when Redis went away.
    #[default]
    LocalShare,
    /// All are denied.
    Deny,
    /// All are allowed.
    Allow,
    /// Each process keeps the whole limit for itself.
    LocalFull,
}

/// A limit as set. Times are in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settings {
    /// So many tokens ...
    pub tokens: u64,
    /// ... come in within this time.
    pub per_us: u64,
    /// B: tokens there can be at most.
    pub burst: u64,
    /// What the dearest request costs.
    pub cost_max: u64,
    /// Whether processes share it through Redis; else it holds for this process, exactly.
    pub is_shared: bool,
    /// τ: how long a lease lives.
    pub life_us: u64,
    /// D: what a process may spend of a key ahead of the answer. 0: nothing, so the first request of a key is denied.
    /// `None`: a quarter of the burst for all processes together, so that a few requests at once pass, and 1 with
    /// [`Self::reserve`].
    pub overdraft: Option<u64>,
    /// How long there may be no answer before Redis counts as away.
    pub away_after_us: u64,
    /// What to do then.
    pub on_unavailable: OnUnavailable,
    /// Whether Redis holds back what processes may have at hand, so that never more than B + R·T passes.
    pub reserve: bool,
}

impl Settings {
    /// `tokens` in `per_us` µs, `burst` at most, everything else as by default, in this process.
    #[must_use]
    pub const fn new(tokens: u64, per_us: u64, burst: u64) -> Self {
        Self {
            tokens,
            per_us,
            burst,
            cost_max: 1,
            is_shared: false,
            life_us: 1_000_000,
            overdraft: None,
            away_after_us: 250_000,
            on_unavailable: OnUnavailable::LocalShare,
            reserve: false,
        }
    }

    /// The same through Redis.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }
}

/// The dearest request: costs have 16 bits in a core's wallet, and a chunk is taken on top.
pub const COST_MAX: u64 = 60_000;
/// The shortest life of a lease: ten of control's periods, or leases expire between two questions.
pub const LIFE_MIN_US: u64 = 200_000;
/// How long control waits for an answer before it gives it up.
pub const ANSWER_MAX_US: u64 = 50_000;

/// A limit that is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    shape: Shape,
    set: Settings,
    fingerprint: u64,
}

impl Spec {
    /// A limit with these settings.
    ///
    /// # Errors
    /// When they are none: which number, and what would be right.
    pub fn new(set: Settings) -> Result<Self, Invalid> {
        if set.tokens == 0 || set.per_us == 0 {
            return Err(Invalid::new("is not a rate: it lets nothing pass", "write at least 1 per unit of time"));
        }
        let (n, p) = reduce(set.tokens, set.per_us);
        if set.burst == 0 || set.burst.checked_mul(p).is_none_or(|units| units > UNITS_MAX) {
            let most = UNITS_MAX / p;
            return Err(Invalid::new("is not a burst for this rate", format!("write 1 to {most}")));
        }
        if set.cost_max == 0 || set.cost_max > set.burst.min(COST_MAX) {
            let remedy = format!("write 1 to {}, since no more is ever there at once", set.burst.min(COST_MAX));
            return Err(Invalid::new("is not a cost for this burst", remedy));
        }
        if set.is_shared && set.life_us < LIFE_MIN_US {
            return Err(Invalid::new("is too short for a lease", format!("write at least {}ms", LIFE_MIN_US / 1000)));
        }
        if set.is_shared && set.away_after_us < 2 * ANSWER_MAX_US {
            let remedy = format!("write at least {}ms, twice what an answer may take", 2 * ANSWER_MAX_US / 1000);
            return Err(Invalid::new("is too soon to give Redis up", remedy));
        }
        let fingerprint = foldhash::quality::FixedState::default().hash_one(set);
        Ok(Self { shape: Shape::new(n, p, set.burst), set, fingerprint })
    }

    /// Its settings.
    #[must_use]
    pub const fn set(&self) -> &Settings {
        &self.set
    }

    /// What tells its numbers from others at one look.
    #[inline]
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The whole limit as a bucket.
    #[inline]
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How long until a bucket with `remaining` tokens is full again, in ms, rounded up.
    #[must_use]
    pub fn reset_ms(&self, remaining: u64) -> u64 {
        self.shape.time_us(self.set.burst.saturating_sub(remaining)).div_ceil(1000)
    }

    /// L: the most that a process may hold of a key, of `n` processes: B/2N, and never less than a request needs.
    #[inline]
    #[must_use]
    pub fn lease_max(&self, n: u64) -> u64 {
        (self.set.burst / n.saturating_mul(2).max(1)).max(self.set.cost_max).min(TOKENS_MAX)
    }

    /// How much of L each of `cores` cores may hold: a quarter of it for all of them, and nothing when that is little.
    #[inline]
    #[must_use]
    pub fn chunk_max(&self, n: u64, cores: u64) -> u64 {
        (self.lease_max(n) / cores.saturating_mul(4).max(1)).clamp(1, CHUNK_MAX)
    }

    /// D: what a process may spend ahead of the answer, by requests of which the dearest costs `cost`: what is set, but
    /// N·D ≤ B, and not less than that request needs.
    #[inline]
    #[must_use]
    pub fn overdraft_for(&self, n: u64, cost: u64) -> u64 {
        if self.overdraft(n) == 0 { 0 } else { self.overdraft_set(n).max(cost) }
    }

    #[inline]
    fn overdraft_set(&self, n: u64) -> u64 {
        let n = n.max(1);
        let most = match self.set.overdraft {
            Some(set) => set,
            None if self.set.reserve => 1,
            None => self.set.burst / n.saturating_mul(4),
        };
        most.min(self.set.burst / n).max(1)
    }

    /// The same for the dearest requests that there are.
    #[inline]
    #[must_use]
    pub fn overdraft(&self, n: u64) -> u64 {
        if self.set.overdraft == Some(0) {
            return 0;
        }
        let d = self.overdraft_set(n).max(self.set.cost_max);
        let is_covered = self.leased_max(n).saturating_add(n.saturating_mul(d)) < self.set.burst;
        if self.set.reserve && !is_covered { 0 } else { d }
    }

    /// min(R·τ, N·L): what `n` processes hold at most of a key.
    #[must_use]
    pub fn leased_max(&self, n: u64) -> u64 {
        let fresh = self.shape.tokens_in(self.set.life_us).saturating_add(1);
        fresh.min(n.saturating_mul(self.lease_max(n)))
    }

    /// Redis' bucket for `n` processes. With `reserve` it is smaller by all that they may have at hand.
    #[must_use]
    pub fn central(&self, n: u64) -> Shape {
        let back = if self.set.reserve { self.leased_max(n) + n * self.overdraft(n) } else { 0 };
        Shape::new(self.shape.n(), self.shape.p(), self.set.burst.saturating_sub(back).max(self.set.cost_max))
    }

    /// How far Redis' bucket goes at most, in tokens from full: to empty, and below by what may be spent ahead and while
    /// Redis was away. What would be deeper is of a larger limit, before a reload, or was charged twice.
    #[must_use]
    pub fn deepest(&self, n: u64) -> u64 {
        2 * self.set.burst + n.saturating_mul(self.overdraft(n).max(self.set.cost_max))
    }

    /// The longest that a key may have to wait for tokens, in µs.
    #[must_use]
    pub fn wait_max_us(&self, n: u64) -> u64 {
        self.shape.time_us(self.deepest(n))
    }

    /// The bucket of one process while Redis is away: R/N, and B/N but never less than a request needs.
    #[must_use]
    pub fn share(&self, n: u64) -> Shape {
        let n = if self.set.on_unavailable == OnUnavailable::LocalFull { 1 } else { n.max(1) };
        let tokens = (self.set.burst / n).max(self.set.cost_max);
        Shape::new(self.shape.n(), self.shape.p().saturating_mul(n), tokens)
    }

    /// Whether leases would strand tokens: fewer come in within a lease's life than there are processes.
    #[inline]
    #[must_use]
    pub fn is_low_rate(&self, n: u64) -> bool {
        self.shape.tokens_in(self.set.life_us) < n
    }
}

/// The most that a core takes out of the process wallet at once, beyond what it needs: a 64th of the atomic operations
/// is as good as none, and more would only be stranded.
pub const CHUNK_MAX: u64 = 64;

/// The rate in lowest terms, n at most [`N_MAX`]. Where it has none, the next lower rate that has: it is slower by less
/// than one in p, which is one in 65,536 up to a million a second.
fn reduce(tokens: u64, per_us: u64) -> (u64, u64) {
    let divisor = gcd(tokens, per_us);
    let (n, p) = (tokens / divisor, per_us / divisor);
    if n <= N_MAX {
        return (n, p);
    }
    let p = (u128::from(p) * u128::from(N_MAX)).div_ceil(u128::from(n));
    (N_MAX, u64::try_from(p).unwrap_or(u64::MAX))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(change: impl FnOnce(&mut Settings)) -> Spec {
        let mut set = Settings::new(100, 1_000_000, 100).shared();
        change(&mut set);
        Spec::new(set).unwrap()
    }

    #[test]
    fn the_numbers_of_the_contract() {
        let spec = spec(|_| ());
        assert_eq!((spec.lease_max(4), spec.overdraft(4), spec.leased_max(4)), (12, 6, 48));
        let one = self::spec(|s| s.overdraft = Some(1));
        assert_eq!((one.overdraft(4), one.overdraft_for(4, 3)), (1, 3));
        assert_eq!((spec.central(4), spec.share(4).tokens_in(4_000_000)), (*spec.shape(), 100));
        assert_eq!((spec.chunk_max(1, 2), spec.chunk_max(4, 2)), (6, 1));
        assert_eq!((spec.reset_ms(100), spec.reset_ms(99), spec.reset_ms(0)), (0, 10, 1000));
    }

    #[test]
    fn reserve_holds_back_all_that_may_be_at_hand() {
        let spec = spec(|s| s.reserve = true);
        assert_eq!(spec.central(4).cap() / spec.shape().p(), 100 - 48 - 4);
        let tight = self::spec(|s| (s.reserve, s.burst) = (true, 8));
        assert_eq!((tight.overdraft(8), tight.central(8).cap()), (0, tight.shape().p()));
    }

    #[test]
    fn a_low_limit_is_known_and_still_lets_a_first_request_pass() {
        let low = spec(|s| (s.tokens, s.per_us, s.burst) = (5, 60_000_000, 5));
        assert!(low.is_low_rate(8) && !spec(|_| ()).is_low_rate(8));
        assert_eq!((low.overdraft(8), low.lease_max(8)), (1, 1));
        assert_eq!(low.share(8).cap(), low.share(8).p());
    }

    #[test]
    fn rates_are_reduced_and_never_become_faster() {
        for (tokens, per_us) in [(86_400, 86_400_000_000), (999_983, 1_000_000), (123_456_789, 1_000_000)] {
            let (n, p) = reduce(tokens, per_us);
            let (set, got) = (u128::from(tokens) * u128::from(p), u128::from(n) * u128::from(per_us));
            assert!(n <= N_MAX && got <= set && (set - got) * 500 < set, "{tokens}: {n}/{p}");
        }
        assert_eq!(reduce(86_400, 86_400_000_000), (1, 1_000_000));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_a_remedy() {
        let error = |change: fn(&mut Settings)| {
            let mut set = Settings::new(100, 1_000_000, 100).shared();
            change(&mut set);
            Spec::new(set).unwrap_err().to_string()
        };
        assert!(error(|s| s.tokens = 0).contains("lets nothing pass"));
        assert!(error(|s| s.burst = 0).contains("burst") && error(|s| s.burst = u64::MAX).contains("write 1 to"));
        assert!(error(|s| s.cost_max = 101).contains("write 1 to 100"));
        assert!(error(|s| s.life_us = 10).contains("200ms") && error(|s| s.away_after_us = 10).contains("100ms"));
    }
}
