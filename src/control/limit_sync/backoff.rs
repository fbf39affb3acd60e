//! How long to wait, and how much to ask. Randomness and times are passed in.

use std::time::Duration;

/// The first attempt to connect again comes within this, the next within twice as much ...
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// ... and so on up to this.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// And none at once: a Redis that accepts and closes would be asked without end.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// A connection that held so long ends a row of failures.
const HELD_MIN: Duration = Duration::from_secs(1);

/// Exponential with full jitter (Brooker, "Exponential Backoff and Jitter", 2015): processes that lost the same Redis do
/// not come back at the same time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait before the next attempt; `random` is of all 64 bits.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let most = WAIT_FIRST.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        most.mul_f64(random as f64 / u64::MAX as f64).max(WAIT_MIN)
    }

    /// A connection held for so long.
    pub(super) fn held(&mut self, time: Duration) {
        if time >= HELD_MIN {
            self.failures = 0;
        }
    }
}

/// Keys that are asked about at once: fewer when Redis is busy, or all processes together would ask for more than it can
/// answer in time, and none would get anything.
#[derive(Debug)]
pub(super) struct Pace {
    keys: usize,
}

const KEYS_FIRST: usize = 512;
const KEYS_MIN: usize = 32;
/// Redis is busy with them for some 15 ms.
const KEYS_MAX: usize = 2048;
/// An answer that took longer says that it is busy: half of what it may take.
const SLOW_US: u64 = 25_000;
/// Within this there is room for more.
const FAST_US: u64 = 10_000;

impl Default for Pace {
    fn default() -> Self {
        Self { keys: KEYS_FIRST }
    }
}

impl Pace {
    /// So many at most.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// Questions about so many keys took `us` µs; `None`: too long.
    pub(super) fn took(&mut self, keys: usize, us: Option<u64>) {
        self.keys = match us {
            Some(us) if us <= FAST_US && keys >= self.keys / 2 => self.keys + KEYS_MIN,
            Some(us) if us <= SLOW_US => self.keys,
            _ => self.keys / 2,
        };
        self.keys = self.keys.clamp(KEYS_MIN, KEYS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_spread_out() {
        let mut backoff = Backoff::default();
        let most: Vec<u128> = (0..9).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(most, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.next(0), WAIT_MIN);
        assert_eq!(backoff.next(u64::MAX / 2).as_millis(), 2500);
        backoff.held(Duration::from_millis(999));
        assert_eq!(backoff.next(u64::MAX), WAIT_MAX);
        backoff.held(Duration::from_secs(1));
        assert_eq!(backoff.next(u64::MAX), WAIT_FIRST);
        assert_eq!((0..100).map(|_| backoff.next(u64::MAX)).last(), Some(WAIT_MAX));
    }

    #[test]
    fn a_busy_redis_is_asked_less() {
        let mut pace = Pace::default();
        pace.took(10, Some(1_000));
        assert_eq!(pace.keys(), KEYS_FIRST, "that few keys are answered fast says nothing");
        pace.took(400, Some(1_000));
        assert_eq!(pace.keys(), KEYS_FIRST + KEYS_MIN);
        pace.took(400, Some(20_000));
        assert_eq!(pace.keys(), KEYS_FIRST + KEYS_MIN);
        pace.took(400, Some(30_000));
        assert_eq!(pace.keys(), (KEYS_FIRST + KEYS_MIN) / 2);
        (0..20).for_each(|_| pace.took(400, None));
        assert_eq!(pace.keys(), KEYS_MIN);
        (0..200).for_each(|_| pace.took(KEYS_MAX, Some(0)));
        assert_eq!(pace.keys(), KEYS_MAX);
    }
}
