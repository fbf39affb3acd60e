//! The oracle: knows what was admitted when, and what had happened, and nothing of how the limit works.

use crate::limit::{Promise, Spec};

/// Checks one key's admissions against the promise, for all intervals at once.
///
/// `excess` is the largest, over all beginnings of an interval that ends now, of what was admitted in it less R·T: like
/// a bucket that drains at R and is filled by admissions. It never may be above the terms that do not grow with time.
pub(super) struct Oracle {
    n: i64,
    p: i64,
    allowed: i64,
    excess: i64,
    /// What an interval that begins before `loose_until` may have more.
    loose: i64,
    loose_until: u64,
    at_us: u64,
    /// N·L less min(R·τ, N·L).
    unspent: i64,
    /// The most it ever was, in tokens.
    pub(super) worst: u64,
    pub(super) admitted: u64,
}

impl Oracle {
    /// `fewest` is the smallest number of processes that any of them believed in, `processes` how many there are.
    pub(super) fn new(spec: &Spec, processes: u64, fewest: u64) -> Self {
        let (bucket, at_hand, ahead) = Promise::new(*spec, processes).terms();
        // While processes disagree about N, each takes L by its own count.
        let held = processes * spec.lease_max(fewest);
        let unspent = if spec.set().is_shared { held.saturating_sub(at_hand) } else { 0 };
        Self::of(spec.shape().n(), spec.shape().p(), (bucket + at_hand + ahead) * spec.shape().p(), unspent)
    }

    /// A local bucket's own oracle: rate and size of one share.
    pub(super) fn of_share(spec: &Spec, processes: u64) -> Self {
        let share = spec.share(processes);
        Self::of(share.n(), share.p(), share.cap() + share.p(), 0)
    }

    fn of(n: u64, p: u64, allowed: u64, unspent: u64) -> Self {
        Self {
            n: n as i64,
            p: p as i64,
            allowed: allowed as i64,
            excess: 0,
            loose: 0,
            loose_until: 0,
            at_us: 0,
            unspent: (unspent * p) as i64,
            worst: 0,
            admitted: 0,
        }
    }

    pub(super) fn admit(&mut self, now_us: u64, cost: u64) -> Result<(), String> {
        self.pass(now_us);
        self.excess += cost as i64 * self.p;
        self.admitted += cost;
        let excess = u64::try_from((self.excess + self.p - 1) / self.p).unwrap_or(0);
        self.worst = self.worst.max(excess);
        if self.excess <= self.allowed {
            return Ok(());
        }
        Err(format!("at {now_us} µs {excess} over R·T, promised {}", self.allowed()))
    }

    /// Something happened that the promise allows `tokens` more for.
    pub(super) fn pardon(&mut self, now_us: u64, tokens: u64) {
        self.pass(now_us);
        self.excess = (self.excess - tokens as i64 * self.p).max(-self.loose);
    }

    /// The same, when the bucket gained tokens that did not come in with time. An interval that begins within a lease's
    /// life after it may find a full bucket and all leases out: min(R·τ, N·L) holds only for tokens that came in.
    pub(super) fn pardon_for(&mut self, now_us: u64, tokens: u64, life_us: u64) {
        self.pass(now_us);
        (self.loose, self.loose_until) = (self.unspent, now_us + life_us);
        self.excess = (self.excess - tokens as i64 * self.p).max(-self.loose);
    }

    fn pass(&mut self, now_us: u64) {
        if now_us >= self.loose_until {
            self.loose = 0;
        }
        self.excess = (self.excess - (now_us - self.at_us) as i64 * self.n).max(-self.loose);
        self.at_us = now_us;
    }

    pub(super) fn allowed(&self) -> u64 {
        (self.allowed / self.p).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limit::Settings;

    #[test]
    fn it_finds_the_one_interval_that_is_too_much() {
        let spec = Spec::new(Settings::new(10, 1_000_000, 5)).unwrap();
        let mut oracle = Oracle::new(&spec, 1, 1);
        for at in [0, 0, 0, 0, 0, 100_000, 200_000, 5_000_000, 5_000_000] {
            oracle.admit(at, 1).unwrap();
        }
        assert!(oracle.admit(5_000_001, 4).is_err());
    }
}
