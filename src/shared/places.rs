//! Places for connections, counted exactly across the cores of this process: one atomic update when a connection comes and
//! one when it goes, and nothing to wait for. Shares of each core would refuse clients on a busy core while others have room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places are taken.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<AtomicUsize>);

/// The places of a listener, or of the process, and how many there are.
#[derive(Debug, Clone)]
pub struct Cap {
    /// Those that are taken.
    pub places: Places,
    /// How many there are.
    pub max: usize,
}

/// A place: free again when dropped.
#[derive(Debug)]
#[must_use = "the place is free again once this is dropped"]
pub struct Place(Arc<AtomicUsize>);

impl Cap {
    /// A place, if one is free.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let more = |taken: usize| (taken < self.max).then_some(taken + 1);
        // Nothing else is read by what it says.
        let taken = self.places.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Place(Arc::clone(&self.places.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_places_are_taken_as_there_are_whoever_takes_them() {
        let cap = Cap { places: Places::default(), max: 100 };
        let take = || -> Vec<Place> { (0..100).filter_map(|_| cap.take()).collect() };
        let taken: Vec<Vec<Place>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 100);
        assert!(cap.take().is_none());
        drop(taken);
        assert!(cap.take().is_some());
    }
}
