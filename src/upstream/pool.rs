//! Idle connections to one endpoint, on one core. The newest is used first, so that the surplus ages and goes.
//!
//! Before one is used it must have been found quiet: bytes that wait on it were asked for by nobody, and its other side may
//! have closed it. One system call asks about several of them, as many as were wanted lately: requests that come in the
//! same turn of the core's loop share it.

/// Connections that are asked about at once, at most.
pub const ASKED_MAX: usize = 16;
/// How long a connection counts as quiet that was found so, in µs: about a turn of the loop, in which nothing else would be
/// seen either.
const QUIET_US: u64 = 50;

/// When connections are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Idle connections kept on this core.
    pub idle: usize,
    /// Longest idle time, in ms.
    pub idle_ms: u32,
    /// Longest life, in ms.
    pub age_ms: u32,
    /// Most requests one connection carries.
    pub requests: u32,
}

/// A connection and its history.
#[derive(Debug)]
pub struct Pooled<T> {
    /// The connection.
    pub conn: T,
    /// When it was opened, in ms since the process began.
    pub opened_ms: u64,
    /// Requests it has carried.
    pub requests: u32,
}

#[derive(Debug)]
struct Idle<T> {
    pooled: Pooled<T>,
    since_ms: u64,
    /// When it was last found quiet, in µs since the process began.
    quiet_us: Option<u64>,
}

/// The idle connections of one endpoint.
#[derive(Debug)]
pub struct Pool<T> {
    idle: Vec<Idle<T>>,
    /// When any were asked about last, in µs since the process began; how many are next time; and how many were taken since.
    asked_us: u64,
    ahead: usize,
    taken: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { idle: Vec::new(), asked_us: 0, ahead: 1, taken: 0 }
    }
}

impl<T> Pool<T> {
    /// The connection that was used last, of those that are still quiet, at `now_us` since the process began. `are_quiet`
    /// says of several which are, by a bit each, the first in the lowest; those that are not are dropped.
    pub fn take(
        &mut self,
        now_us: u64,
        limits: &PoolLimits,
        are_quiet: impl Fn(&[Option<&T>; ASKED_MAX]) -> u32,
    ) -> Option<Pooled<T>> {
        loop {
            let newest = self.idle.last()?;
            if newest.quiet_us.is_some_and(|us| now_us.saturating_sub(us) <= QUIET_US) {
                break;
            }
            if is_spent(&newest.pooled, newest.since_ms, now_us / 1000, limits) {
                // Those below are older still; prune drops them without making this request pay.
                self.idle.pop();
                return None;
            }
            self.ask(now_us, &are_quiet);
        }
        self.taken += 1;
        self.idle.pop().map(|idle| idle.pooled)
    }

    /// Asks about the newest ones, and drops those that are not quiet.
    fn ask(&mut self, now_us: u64, are_quiet: impl Fn(&[Option<&T>; ASKED_MAX]) -> u32) {
        if now_us.saturating_sub(self.asked_us) <= QUIET_US {
            self.ahead = (self.ahead * 2).min(ASKED_MAX);
        } else if self.taken * 2 < self.ahead {
            self.ahead = (self.ahead / 2).max(1);
        }
        (self.asked_us, self.taken) = (now_us, 0);
        let from = self.idle.len().saturating_sub(self.ahead);
        let asked = self.idle.get(from..).unwrap_or_default();
        let quiet = are_quiet(&std::array::from_fn(|i| asked.get(i).map(|idle| &idle.pooled.conn)));
        let mut bits = (0..from).map(|_| true).chain((0..ASKED_MAX).map(|i| quiet & 1 << i != 0));
        for idle in self.idle.iter_mut().skip(from) {
            idle.quiet_us = Some(now_us);
        }
        if quiet.count_ones() as usize != self.idle.len() - from {
            self.idle.retain(|_| bits.next().unwrap_or(true));
        }
    }

    /// Keeps a connection for the next request, unless it is spent or the pool is full.
    pub fn put(&mut self, pooled: Pooled<T>, now_ms: u64, limits: &PoolLimits) {
        if self.idle.len() < limits.idle && !is_spent(&pooled, now_ms, now_ms, limits) {
            self.idle.push(Idle { pooled, since_ms: now_ms, quiet_us: None });
        }
    }

    /// Drops what is spent, or no longer `alive`; how many that were.
    pub fn prune(&mut self, now_ms: u64, limits: &PoolLimits, alive: impl Fn(&T) -> bool) -> usize {
        let before = self.idle.len();
        let is_kept = |Idle { pooled, since_ms, .. }: &Idle<T>| {
            !is_spent(pooled, *since_ms, now_ms, limits) && alive(&pooled.conn)
        };
        self.idle.retain(is_kept);
        before - self.idle.len()
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.idle.clear();
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }
}

fn is_spent<T>(pooled: &Pooled<T>, since_ms: u64, now_ms: u64, limits: &PoolLimits) -> bool {
    now_ms.saturating_sub(since_ms) >= u64::from(limits.idle_ms)
        || now_ms.saturating_sub(pooled.opened_ms) >= u64::from(limits.age_ms)
        || pooled.requests >= limits.requests
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PoolLimits = PoolLimits { idle: 2, idle_ms: 100, age_ms: 1000, requests: 3 };

    fn conn(id: u32, opened_ms: u64, requests: u32) -> Pooled<u32> {
        Pooled { conn: id, opened_ms, requests }
    }

    #[test]
    fn the_newest_comes_first_and_the_pool_is_bounded() {
        let mut pool = Pool::default();
        for id in 1..=3 {
            pool.put(conn(id, 0, 1), 10, &LIMITS);
        }
        assert_eq!(pool.len(), 2);
        assert_eq!(pool.take(20_000, &LIMITS, |_| u32::MAX).unwrap().conn, 2);
    }

    #[test]
    fn spent_ones_are_neither_kept_nor_given() {
        let mut pool = Pool::default();
        pool.put(conn(1, 0, 3), 0, &LIMITS);
        pool.put(conn(2, 0, 1), 1000, &LIMITS);
        assert!(pool.is_empty(), "too many requests, too old");
        pool.put(conn(3, 0, 1), 0, &LIMITS);
        assert!(pool.take(100_000, &LIMITS, |_| u32::MAX).is_none(), "idle too long");
    }

    /// A pool of connections 0 to `n`, of which those in `noisy` are not quiet; takes at each of `at_us`, in all of which so
    /// many questions were asked.
    fn taken(n: u32, noisy: &[u32], at_us: &[u64]) -> (Vec<Option<u32>>, usize) {
        let limits = PoolLimits { idle: 100, requests: 100, ..LIMITS };
        let (mut pool, questions) = (Pool::default(), std::cell::Cell::new(0));
        for id in 0..n {
            pool.put(conn(id, 0, 1), 0, &limits);
        }
        let are_quiet = |asked: &[Option<&u32>; ASKED_MAX]| {
            questions.set(questions.get() + 1);
            let is_quiet = |id: &Option<&u32>| id.is_some_and(|id| !noisy.contains(id));
            asked.iter().enumerate().map(|(i, id)| u32::from(is_quiet(id)) << i).sum()
        };
        let take = |us: &u64| pool.take(*us, &limits, are_quiet).map(|pooled| pooled.conn);
        (at_us.iter().map(take).collect(), questions.get())
    }

    #[test]
    fn those_that_are_wanted_in_one_turn_are_asked_about_together() {
        let (ids, questions) = taken(40, &[], &[1000; 31]);
        assert!(ids.iter().flatten().copied().eq((9..40).rev()));
        assert_eq!(questions, 5, "about 1, 2, 4, 8, 16 and no more at once");
        let apart: Vec<u64> = (1..=31).map(|n| n * 1000).collect();
        assert_eq!(taken(40, &[], &apart).1, 31, "an answer does not hold for long");
    }

    #[test]
    fn what_is_not_quiet_is_dropped_wherever_it_lies() {
        let (ids, _) = taken(10, &[9, 7, 6, 4, 0], &[1000; 6]);
        assert_eq!(ids, [Some(8), Some(5), Some(3), Some(2), Some(1), None]);
        assert_eq!(taken(3, &[0, 1, 2], &[1000]).0, [None]);
    }

    #[test]
    fn fewer_are_asked_about_when_fewer_are_wanted() {
        let mut at_us = vec![1000; 15];
        at_us.extend((1..=8).map(|n| 1000 + n * 1000));
        let (ids, questions) = taken(40, &[], &at_us);
        assert_eq!(ids.iter().flatten().count(), 23);
        assert_eq!(questions, 4 + 8);
    }

    #[test]
    fn prune_drops_the_dead() {
        let mut pool = Pool::default();
        pool.put(conn(1, 0, 1), 0, &LIMITS);
        pool.put(conn(2, 0, 1), 50, &LIMITS);
        assert_eq!(pool.prune(100, &LIMITS, |id| *id != 7), 1);
        assert_eq!(pool.prune(100, &LIMITS, |id| *id != 2), 1);
    }
}
