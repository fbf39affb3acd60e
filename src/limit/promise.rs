//! What can pass at worst: the formula of the contract with a limit's own numbers, and in words.
//!
//! For every interval of length T: admitted ≤ B + R·T + min(R·τ, N·L) + N·D. What each term stands for: the bucket was
//! full; it refilled; processes held tokens that were leased before the interval; and they spent tokens in it that
//! Redis charged only after it.

use crate::limit::spec::{OnUnavailable, Spec};

/// The promise of a limit for N processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    spec: Spec,
    processes: u64,
}

impl Promise {
    /// The promise of `spec` when `processes` share it. One that is not shared holds for each process by itself.
    #[must_use]
    pub const fn new(spec: Spec, processes: u64) -> Self {
        Self { spec, processes: if spec.set().is_shared && processes > 0 { processes } else { 1 } }
    }

    /// The terms that do not grow with time: (bucket, at hand, ahead of an answer).
    #[must_use]
    pub fn terms(&self) -> (u64, u64, u64) {
        let n = self.processes;
        if !self.spec.set().is_shared {
            return (self.spec.set().burst, 0, 0);
        }
        let bucket = self.spec.central(n).cap() / self.spec.shape().p();
        (bucket, self.spec.leased_max(n), n * self.spec.overdraft(n))
    }

    /// Tokens that can pass at most within any interval of `us` µs, while Redis answers all processes and keeps its data.
    #[must_use]
    pub fn bound(&self, us: u64) -> u64 {
        let (bucket, at_hand, ahead) = self.terms();
        // A token that comes in within the interval counts whole.
        bucket + at_hand + ahead + self.spec.shape().tokens_in(us) + 1
    }

    /// What comes on top each time Redis loses its data, its clock is set forward, or it comes back after it was away
    /// for all processes (until the last of them has told what it spent meanwhile).
    #[must_use]
    pub fn per_loss(&self) -> u64 {
        let (bucket, at_hand, _) = self.terms();
        // Leases that are out by then count by their number: that few are out because few came in does not hold any more.
        let leased = (self.processes * self.spec.lease_max(self.processes)).saturating_sub(at_hand);
        if self.spec.set().is_shared { bucket + leased } else { 0 }
    }

    /// What comes on top each time a process crashes: what it spent ahead is never charged, and the next one may again.
    #[must_use]
    pub fn per_crash(&self) -> u64 {
        2 * self.spec.overdraft(self.processes) * u64::from(self.spec.set().is_shared)
    }

    /// The promise in words, a sentence a line: what `ringway check` prints.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let (set, n) = (self.spec.set(), self.processes);
        let (bucket, at_hand, ahead) = self.terms();
        let rate = format!("{} each {}", set.tokens, unit(set.per_us));
        let worst = self.bound(set.per_us);
        if !set.is_shared {
            return vec![
                format!("Each process by itself lets {} pass at once and {rate}.", set.burst),
                format!("In any {} never more than {worst}.", unit(set.per_us)),
            ];
        }
        let mut lines = vec![
            format!("{n} processes together let {bucket} pass at once and {rate}."),
            format!(
                "In any {} never more than {worst}: that, {at_hand} that processes may have at hand (they keep {} for {} \
                 at most), and {ahead} that they may spend ahead of Redis' answer, which it charges afterwards.",
                unit(set.per_us),
                self.spec.lease_max(n),
                time(set.life_us)
            ),
            format!("In the long run never more than {rate}."),
            format!(
                "Each time that Redis loses its data, was away for all, or its clock is set forward, up to {} more can pass.",
                self.per_loss()
            ),
        ];
        lines.push(self.describe_away());
        if self.spec.overdraft(n) == 0 {
            lines.push("The first request of a key in a process is denied, since nothing may be spent ahead.".into());
        }
        if set.reserve && bucket + at_hand + ahead > set.burst {
            lines.push(format!(
                "The burst of {} is too small for {n} processes to hold anything back: reserve does not hold.",
                set.burst
            ));
        }
        let needed = self.spec.shape().tokens_in(self.spec.set().life_us / 20);
        if set.burst / (2 * n) < needed {
            lines.push(format!(
                "A burst of {} is too small to use the rate: a process may hold {}, and needs {needed} between two \
                 answers. {} would do.",
                set.burst,
                self.spec.lease_max(n),
                2 * n * needed
            ));
        }
        lines
    }

    fn describe_away(&self) -> String {
        let (set, share) = (self.spec.set(), self.spec.share(self.processes));
        let after = time(set.away_after_us);
        let each = share.time_us(1);
        let local = format!("one each {}, and {} at once", time(each), share.cap() / share.p());
        match set.on_unavailable {
            OnUnavailable::Deny => format!("A process that has had no answer for {after} denies all."),
            OnUnavailable::Allow => {
                format!("A process that has had no answer for {after} lets all pass: there is no bound then.")
            }
            OnUnavailable::LocalShare => format!(
                "A process that has had no answer for {after} lets its share pass: {local}; when others do get answers, \
                 that comes on top."
            ),
            OnUnavailable::LocalFull => format!(
                "A process that has had no answer for {after} keeps the whole limit by itself: {local}; that comes on top."
            ),
        }
    }
}

const UNITS: [(&str, &str, u64); 5] = [
    ("d", "day", 86_400_000_000),
    ("h", "hour", 3_600_000_000),
    ("min", "minute", 60_000_000),
    ("s", "second", 1_000_000),
    ("ms", "1 ms", 1_000),
];

/// A time in its largest unit that divides it: `250 ms`.
fn time(us: u64) -> String {
    match UNITS.iter().find(|(.., length)| us >= *length && us.is_multiple_of(*length)) {
        Some((unit, _, length)) => format!("{} {unit}", us / length),
        None => format!("{us} µs"),
    }
}

/// The same after "each" and "in any": `second`.
fn unit(us: u64) -> String {
    UNITS.iter().find(|(.., length)| us == *length).map_or_else(|| time(us), |(_, name, _)| (*name).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limit::spec::Settings;

    fn promise(n: u64, change: impl FnOnce(&mut Settings)) -> Promise {
        let mut set = Settings::new(100, 1_000_000, 100).shared();
        change(&mut set);
        Promise::new(Spec::new(set).unwrap(), n)
    }

    #[test]
    fn the_numbers_of_the_contract() {
        let p = promise(4, |_| ());
        assert_eq!(p.terms(), (100, 48, 24));
        assert_eq!(p.bound(1_000_000), 273);
        assert_eq!(p.per_loss(), 100);
        let strict = promise(4, |s| s.reserve = true);
        assert!(strict.bound(1_000_000) <= 201, "reserve: no more than B + R·T");
        let alone = promise(4, |s| s.is_shared = false);
        assert_eq!((alone.terms(), alone.bound(0)), ((100, 0, 0), 101));
    }

    #[test]
    fn it_reads_like_a_promise() {
        let lines = promise(4, |_| ()).describe();
        assert_eq!(lines[0], "4 processes together let 100 pass at once and 100 each second.");
        assert_eq!(
            lines[1],
            "In any second never more than 273: that, 48 that processes may have at hand (they keep 12 for 1 s at \
             most), and 24 that they may spend ahead of Redis' answer, which it charges afterwards."
        );
        assert!(lines[4].contains("250 ms lets its share pass: one each 40 ms, and 25 at once"), "{}", lines[4]);
        let text = |p: Promise| p.describe().join("\n");
        assert!(text(promise(8, |s| s.overdraft = Some(0))).contains("first request of a key"));
        assert!(text(promise(64, |s| (s.reserve, s.burst) = (true, 64))).contains("too small for 64 processes"));
        assert!(text(promise(4, |s| s.burst = 10)).contains("40 would do"));
        assert!(text(promise(1, |s| s.on_unavailable = OnUnavailable::Allow)).contains("no bound"));
        assert!(text(promise(1, |s| s.is_shared = false)).contains("Each process by itself lets 100 pass"));
    }
}
