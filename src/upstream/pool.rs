//! Idle connections to one endpoint, on one core. The newest is used first, so that the surplus ages and goes.

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

/// The idle connections of one endpoint.
#[derive(Debug)]
pub struct Pool<T> {
    idle: Vec<(Pooled<T>, u64)>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { idle: Vec::new() }
    }
}

impl<T> Pool<T> {
    /// The connection that was used last. Whether it still works is for the caller to see.
    pub fn take(&mut self, now_ms: u64, limits: &PoolLimits) -> Option<Pooled<T>> {
        let (pooled, since) = self.idle.pop()?;
        if is_spent(&pooled, since, now_ms, limits) {
            // Those below are older still; prune drops them without making this request pay.
            return None;
        }
        Some(pooled)
    }

    /// Keeps a connection for the next request, unless it is spent or the pool is full.
    pub fn put(&mut self, pooled: Pooled<T>, now_ms: u64, limits: &PoolLimits) {
        if self.idle.len() < limits.idle && !is_spent(&pooled, now_ms, now_ms, limits) {
            self.idle.push((pooled, now_ms));
        }
    }

    /// Drops what is spent, or no longer `alive`; how many that were.
    pub fn prune(&mut self, now_ms: u64, limits: &PoolLimits, alive: impl Fn(&T) -> bool) -> usize {
        let before = self.idle.len();
        self.idle.retain(|(pooled, since)| !is_spent(pooled, *since, now_ms, limits) && alive(&pooled.conn));
        before - self.idle.len()
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
        assert_eq!(pool.take(20, &LIMITS).unwrap().conn, 2);
    }

    #[test]
    fn spent_ones_are_neither_kept_nor_given() {
        let mut pool = Pool::default();
        pool.put(conn(1, 0, 3), 0, &LIMITS);
        pool.put(conn(2, 0, 1), 1000, &LIMITS);
        assert!(pool.is_empty(), "too many requests, too old");
        pool.put(conn(3, 0, 1), 0, &LIMITS);
        assert!(pool.take(100, &LIMITS).is_none(), "idle too long");
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
