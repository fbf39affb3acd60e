//! Requests in flight per key on this process, counted exactly across its cores: one atomic add when a request begins
//! and one when it ends, and nothing to wait for.

use std::sync::Arc;

use crate::shared::wallet::{At, Table, Unchanged, Words};

/// The word of a slot that counts.
const COUNT: usize = 1;
/// Looks for a slot that an eviction took away in between, before the overflow slot counts.
const TRIES: usize = 4;

/// The counts of one limit.
#[derive(Debug, Clone)]
pub struct InFlight(Arc<Table>);

/// As many as may be are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// One request in flight: ends when dropped.
#[derive(Debug)]
#[must_use = "the request counts until this is dropped"]
pub struct Guard {
    table: Arc<Table>,
    at: At,
}

impl InFlight {
    /// Counts for `keys_max` keys; keys beyond share one count.
    #[must_use]
    pub fn new(keys_max: u32) -> Self {
        Self(Arc::new(Table::new(keys_max)))
    }

    /// Begins a request of `key`, of which `max` may be in flight.
    ///
    /// # Errors
    /// [`Full`] when there are as many already.
    pub fn begin(&self, key: &[u8], max: u64) -> Result<Guard, Full> {
        let hash = self.0.hash(key);
        for _ in 0..TRIES {
            // A count of zero says nothing; and it is left as it is, so that an add that came too late and is taken
            // back below harms no new tenant.
            let at = self
                .0
                .find(hash)
                .unwrap_or_else(|| self.0.claim(hash, [0; 2], |w| w.get(COUNT) == 0, |_: Words<'_>| ()));
            match self.add(at, max) {
                Ok(()) => return Ok(Guard { table: Arc::clone(&self.0), at }),
                Err(Unchanged::Refused(Full)) => return Err(Full),
                Err(Unchanged::Gone) => {}
            }
        }
        let at = self.0.overflow();
        self.add(at, max).map(|()| Guard { table: Arc::clone(&self.0), at }).map_err(|_| Full)
    }

    /// Requests of `key` in flight now.
    #[must_use]
    pub fn count(&self, key: &[u8]) -> u64 {
        self.0.find(self.0.hash(key)).map_or(0, |at| self.0.get(at, COUNT))
    }

    fn add(&self, at: At, max: u64) -> Result<(), Unchanged<Full>> {
        let mut added = false;
        let result = self.0.update(at, COUNT, |n| {
            added = n < max;
            if added { Ok((n + 1, ())) } else { Err(Full) }
        });
        if added && result == Err(Unchanged::Gone) {
            subtract(&self.0, at);
        }
        result
    }
}

/// Takes one back, whoever is the tenant now.
fn subtract(table: &Table, at: At) {
    let _ = table.update(at, COUNT, |n| Ok::<_, ()>((n.saturating_sub(1), ())));
}

impl Drop for Guard {
    fn drop(&mut self) {
        subtract(&self.table, self.at);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn a_request_counts_until_it_is_dropped() {
        let limit = InFlight::new(10);
        let (a, b) = (limit.begin(b"a", 2).unwrap(), limit.begin(b"a", 2).unwrap());
        assert_eq!(limit.begin(b"a", 2).err(), Some(Full));
        assert!(limit.begin(b"other", 2).is_ok());
        drop(a);
        assert_eq!(limit.count(b"a"), 1);
        let c = limit.begin(b"a", 2).unwrap();
        assert_eq!(limit.begin(b"a", 1).err(), Some(Full), "a lower limit after a reload holds at once");
        drop((b, c));
        assert_eq!(limit.count(b"a"), 0);
    }

    #[test]
    fn threads_never_exceed_the_limit_while_keys_push_each_other_out() {
        let limit = InFlight::new(4);
        let active: Arc<[AtomicU64; 40]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let threads: Vec<_> = (0..4_u64)
            .map(|t| {
                let (limit, active) = (limit.clone(), Arc::clone(&active));
                std::thread::spawn(move || {
                    let mut worst = 0;
                    let mut begun = 0;
                    for i in 0..20_000_u64 {
                        let key = (i * (t + 1)) % 40;
                        if let Ok(guard) = limit.begin(&key.to_le_bytes(), 2) {
                            let index = usize::try_from(key).unwrap();
                            let own = !guard.at.is_overflow();
                            worst = worst.max(if own { active[index].fetch_add(1, SeqCst) + 1 } else { 0 });
                            begun += 1;
                            if own {
                                active[index].fetch_sub(1, SeqCst);
                            }
                        }
                    }
                    (worst, begun)
                })
            })
            .collect();
        for thread in threads {
            let (worst, begun) = thread.join().unwrap();
            assert!(worst <= 2 && begun > 1000, "{worst} {begun}");
        }
        for index in 0..limit.0.slots() {
            assert_eq!(limit.0.tenant(index).map_or(0, |at| limit.0.get(at, COUNT)), 0, "all were given back");
        }
    }
}
