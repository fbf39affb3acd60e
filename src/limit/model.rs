//! What `script.lua` and `heartbeat.lua` do, in Rust, number for number: the simulation runs it, and a test compares it
//! with the scripts in a real Redis. Nothing that serves uses it.

use std::collections::BTreeMap;

use crate::limit::sync::Answer;

/// Where sums stop, as in the script.
const MOST: i64 = 1 << 52;
/// Stamps a key keeps beyond two per process before old ones are removed.
const SEEN_MAX: usize = 64;
/// How old those are.
const SEEN_US: i64 = 60_000_000;

/// What Redis keeps of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    d: i64,
    f: i64,
    l: i64,
    seen: BTreeMap<Box<str>, i64>,
    expires_ms: i64,
}

/// A Redis that knows the two scripts. Its clock is passed in, in µs.
#[derive(Debug, Clone, Default)]
pub struct Central {
    keys: BTreeMap<[u64; 2], Entry>,
    alive: BTreeMap<Box<str>, i64>,
}

/// A call of `script.lua`.
#[derive(Debug, Clone)]
pub struct Call {
    /// The process' name, longer than one letter.
    pub who: Box<str>,
    /// See [`crate::limit::sync::Stamps`].
    pub stamp: u64,
    /// µs after which returns are too old: τ.
    pub old_us: u64,
    /// Per key its name and [`crate::limit::sync::Ask::args`].
    pub keys: Vec<([u64; 2], [u64; 10])>,
}

impl Central {
    /// `script.lua`.
    pub fn call(&mut self, call: &Call, now_us: i64) -> Vec<Answer> {
        call.keys.iter().map(|(name, args)| self.one(call, *name, args.map(signed), now_us)).collect()
    }

    fn one(&mut self, call: &Call, name: [u64; 2], args: [i64; 10], now: i64) -> Answer {
        let [n, p, cap, deepest, most, processes, need, want, debt, returned] = args;
        self.expire(name, now);
        let entry = self.keys.entry(name).or_insert_with(|| Entry { l: now, ..Entry::default() });
        let seen = entry.seen.get(&call.who).copied().unwrap_or(-1);

        let mut missing = (entry.d.min(MOST / n) * n + entry.f.min(n - 1)).min(deepest);
        let passed = (now - entry.l).max(0).min(missing / n + 1);
        missing = (missing - passed * n).max(0);

        let (mut granted, stamp) = (0, signed(call.stamp));
        if stamp > seen {
            missing = (missing + debt * p).min(deepest);
            if now - stamp <= signed(call.old_us) {
                missing = (missing - returned * p).max(0);
            }
            let there = (cap - missing).max(0) / p;
            if want > 0 && there >= need {
                let share = need.max(there / processes);
                granted = want.max(need).min(most).min(share).min(there);
                missing += granted * p;
            }
        }

        (entry.d, entry.f, entry.l) = (missing / n, missing % n, now);
        entry.seen.insert(call.who.clone(), stamp.max(seen));
        entry.expires_ms = now / 1000 + ceil(entry.d + 1 + signed(call.old_us), 1000);
        if 3 + entry.seen.len() > SEEN_MAX + usize::try_from(2 * processes).unwrap_or(0) {
            entry.seen.retain(|_, stamp| *stamp >= now - SEEN_US);
        }
        Answer {
            granted: granted.unsigned_abs(),
            left: (cap - missing).div_euclid(p),
            wait_us: ceil((need * p - (cap - missing)).max(0), n).unsigned_abs(),
        }
    }

    fn expire(&mut self, name: [u64; 2], now: i64) {
        if self.keys.get(&name).is_some_and(|entry| entry.expires_ms <= now / 1000) {
            self.keys.remove(&name);
        }
    }

    /// `heartbeat.lua`: how many processes are alive.
    pub fn heartbeat(&mut self, who: &str, alive_us: u64, now_us: i64) -> u64 {
        self.alive.insert(who.into(), now_us);
        self.alive.retain(|_, heard| (now_us - *heard).abs() <= signed(alive_us));
        self.alive.len() as u64
    }

    /// Keys that are kept, at `now_us`.
    pub fn len(&mut self, now_us: i64) -> usize {
        self.keys.retain(|_, entry| entry.expires_ms > now_us / 1000);
        self.keys.len()
    }

    /// Whether no key is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// FLUSHALL, or a restart without a copy on disk.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

const fn ceil(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn ask(central: &mut Central, stamp: u64, now: i64, change: impl FnOnce(&mut [u64; 10])) -> Answer {
        let mut args = [100, 1_000_000, 100_000_000, 1 << 50, 12, 4, 1, 0, 0, 0];
        change(&mut args);
        let call = Call { who: "p1".into(), stamp, old_us: 1_000_000, keys: vec![([1, 2], args)] };
        central.call(&call, now)[0]
    }

    #[test]
    fn it_refills_charges_takes_back_and_grants() {
        let mut redis = Central::default();
        let now = 1000 * S;
        let stamp = |at: i64| at.unsigned_abs();
        let first = ask(&mut redis, stamp(now), now, |a| a[7] = 50);
        assert_eq!(first, Answer { granted: 12, left: 88, wait_us: 0 }, "min(want, L, tokens/N)");
        let second = ask(&mut redis, stamp(now) + 1, now + S / 20, |a| (a[7], a[8], a[9]) = (5, 60, 2));
        assert_eq!(second, Answer { granted: 5, left: 88 + 5 - 60 + 2 - 5, wait_us: 0 });
        let debt = ask(&mut redis, stamp(now) + 2, now + S / 20, |a| (a[7], a[8]) = (5, 40));
        assert_eq!(debt, Answer { granted: 0, left: -10, wait_us: 110_000 });
        assert_eq!(redis.len(now + 2 * S), 1);
        assert_eq!(redis.len(now + 3 * S), 0, "gone when it is full and the stamp is old");
    }

    #[test]
    fn what_comes_twice_late_or_out_of_order_does_no_harm() {
        let mut redis = Central::default();
        let now = 1000 * S;
        ask(&mut redis, 1_000_000_000, now, |a| a[8] = 50);
        let left = |redis: &mut Central, stamp, at, returned| ask(redis, stamp, at, |a| a[9] = returned).left;
        assert_eq!(left(&mut redis, 1_000_000_001, now, 10), 60);
        assert_eq!(left(&mut redis, 1_000_000_001, now, 10), 60, "twice");
        assert_eq!(left(&mut redis, 1_000_000_000, now, 10), 60, "out of order");
        ask(&mut redis, 1_000_000_002, now, |a| a[8] = 1000);
        assert_eq!(left(&mut redis, 1_000_000_003, now + S + 4, 10), -840, "late");
        assert_eq!(ask(&mut redis, 1_000_000_003, now + S + 4, |a| a[7] = 5).granted, 0);
    }

    #[test]
    fn a_clock_set_back_gives_nothing_and_takes_nothing() {
        let mut redis = Central::default();
        let now = 1000 * S;
        ask(&mut redis, 1, now, |a| a[8] = 50);
        assert_eq!(ask(&mut redis, 2, now - 500 * S, |_| ()).left, 50);
        assert_eq!(ask(&mut redis, 3, now - 500 * S + S / 10, |_| ()).left, 60);
    }

    #[test]
    fn what_a_larger_limit_left_behind_is_no_deeper_than_this_one_goes() {
        let mut redis = Central::default();
        let day = [1, 86_400 * 1_000_000, 86_400 * 1_000_000, 1 << 50, 1, 1, 1, 0, 1, 0];
        let call = Call { who: "p1".into(), stamp: 1, old_us: 1_000_000, keys: vec![([1, 2], day)] };
        redis.call(&call, 1000 * S);
        let next = ask(&mut redis, 2, 1000 * S, |a| a[3] = 200_000_000);
        assert_eq!((next.left, next.wait_us), (-100, 1_010_000));
    }

    #[test]
    fn processes_are_counted_while_they_are_heard_of() {
        let mut redis = Central::default();
        assert_eq!(redis.heartbeat("p1", 1_000_000, 0), 1);
        assert_eq!(redis.heartbeat("p2", 1_000_000, S), 2);
        assert_eq!(redis.heartbeat("p2", 1_000_000, S + 1), 1);
        assert_eq!(redis.heartbeat("p1", 1_000_000, 1), 2, "its clock was set back, by no more than one lives");
        assert_eq!(redis.heartbeat("p1", 1_000_000, -1), 1, "and further: who is not heard of again does not count");
    }

    #[test]
    fn stamps_of_processes_that_are_gone_are_removed() {
        let mut redis = Central::default();
        for i in 0..500_i64 {
            let now = (1000 + i) * S;
            let args = [1, 3_600_000_000, 3_600_000_000, 1 << 50, 1, 1, 1, 0, 1, 0];
            let who = format!("p{i}").into();
            redis.call(&Call { who, stamp: now.unsigned_abs(), old_us: 1_000_000, keys: vec![([0, 0], args)] }, now);
        }
        assert!(redis.keys.values().all(|entry| entry.seen.len() <= SEEN_MAX));
    }
}
