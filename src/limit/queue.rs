//! Who waits for a place under a concurrency limit, on one core: first come, first served, per key. It knows no time and
//! no count of what is in flight: who is first asks again until there is a place.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// The queues of one core.
#[derive(Debug, Default)]
pub struct Queues {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    limits: HashMap<Box<str>, OfLimit, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct OfLimit {
    waiting: usize,
    /// Tickets by key, each queue in ascending order.
    keys: HashMap<Box<[u8]>, VecDeque<u64>, foldhash::fast::RandomState>,
}

/// A place in a queue; given up when dropped.
#[derive(Debug)]
pub struct Ticket {
    queues: Rc<Queues>,
    limit: Box<str>,
    key: Box<[u8]>,
    number: u64,
}

impl Queues {
    /// Whether anybody waits for this key.
    #[must_use]
    pub fn is_waiting(&self, limit: &str, key: &[u8]) -> bool {
        let state = self.state.borrow();
        state.limits.get(limit).is_some_and(|limit| limit.waiting > 0 && limit.keys.contains_key(key))
    }

    /// The last place in the queue of `key`; `None` if `max` wait for this limit already, over all keys.
    #[must_use]
    pub fn join(self: &Rc<Self>, limit: &str, key: Box<[u8]>, max: usize) -> Option<Ticket> {
        if max == 0 {
            return None;
        }
        let mut state = self.state.borrow_mut();
        let number = state.last + 1;
        let of_limit = state.limits.entry(limit.into()).or_default();
        if of_limit.waiting >= max {
            return None;
        }
        of_limit.waiting += 1;
        of_limit.keys.entry(key.clone()).or_default().push_back(number);
        state.last = number;
        Some(Ticket { queues: Rc::clone(self), limit: limit.into(), key, number })
    }
}

impl Ticket {
    /// What it waits for.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How many wait for the same key and came before.
    #[must_use]
    pub fn ahead(&self) -> usize {
        let state = self.queues.state.borrow();
        let queue = state.limits.get(&self.limit).and_then(|limit| limit.keys.get(&self.key));
        queue.map_or(0, |queue| queue.partition_point(|number| *number < self.number))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.queues.state.borrow_mut();
        let Some(of_limit) = state.limits.get_mut(&self.limit) else { return };
        if let Some(queue) = of_limit.keys.get_mut(&self.key) {
            queue.retain(|number| *number != self.number);
            if queue.is_empty() {
                of_limit.keys.remove(&self.key);
            }
        }
        of_limit.waiting = of_limit.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_comes_first_is_first_and_who_leaves_lets_the_others_forward() {
        let queues = Rc::new(Queues::default());
        let join = |key: &[u8]| queues.join("busy", key.into(), 4);
        let (a, b, c) = (join(b"k").unwrap(), join(b"k").unwrap(), join(b"k").unwrap());
        let other = join(b"other").unwrap();
        assert_eq!((a.ahead(), b.ahead(), c.ahead(), other.ahead()), (0, 1, 2, 0));
        assert!(join(b"k").is_none(), "four wait for this limit");
        drop(b);
        assert_eq!((a.ahead(), c.ahead()), (0, 1));
        drop(a);
        assert_eq!((c.ahead(), c.key()), (0, b"k".as_slice()));
        assert!(queues.is_waiting("busy", b"k") && !queues.is_waiting("other", b"k"));
        drop(c);
        assert!(!queues.is_waiting("busy", b"k") && queues.is_waiting("busy", b"other"));
        drop(other);
        assert!(queues.join("busy", b"k".as_slice().into(), 0).is_none());
        assert!(queues.state.borrow().limits["busy"].keys.is_empty(), "nothing is kept of who has left");
    }
}
