//! The last good answers of parts that may fall back on them: what one core remembers, within a bound.
//!
//! An answer is kept under everything that its request was made of, so that nobody gets what another was answered. The
//! oldest go first when the bound is reached.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Keys longer than this are not worth their memory.
const KEY_BYTES_MAX: usize = 4 * 1024;
/// What an entry costs beside its bytes, about.
const ENTRY_BYTES: usize = 128;

/// One core's memory of good answers. It outlives snapshots.
#[derive(Default)]
pub struct LastGood {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Rc<[u8]>, Entry, foldhash::quality::RandomState>,
    /// By the order in which they were kept.
    order: BTreeMap<u64, Rc<[u8]>>,
    next: u64,
    bytes: usize,
}

struct Entry {
    body: Rc<[u8]>,
    kept_ms: u64,
    place: u64,
}

impl LastGood {
    /// Keeps `body` as the answer to `key` at `now_ms`, within `bytes_max` for all entries.
    pub fn keep(&self, key: &[u8], body: &[u8], now_ms: u64, bytes_max: usize) {
        let size = cost(key, body);
        if key.len() > KEY_BYTES_MAX || size > bytes_max {
            return;
        }
        let mut state = self.state.borrow_mut();
        let State { entries, order, next, bytes } = &mut *state;
        let place = *next;
        *next += 1;
        match entries.get_mut(key) {
            Some(entry) => {
                if let Some(key) = order.remove(&entry.place) {
                    order.insert(place, key);
                }
                if *entry.body != *body {
                    *bytes = *bytes + body.len() - entry.body.len();
                    entry.body = body.into();
                }
                (entry.kept_ms, entry.place) = (now_ms, place);
            }
            None => {
                let key: Rc<[u8]> = key.into();
                order.insert(place, Rc::clone(&key));
                entries.insert(key, Entry { body: body.into(), kept_ms: now_ms, place });
                *bytes += size;
            }
        }
        while *bytes > bytes_max {
            let Some((_, key)) = order.pop_first() else { break };
            if let Some(entry) = entries.remove(&key) {
                *bytes -= cost(&key, &entry.body);
            }
        }
    }

    /// The answer to `key`, if it is no older than `age_ms` at `now_ms`.
    pub fn get(&self, key: &[u8], now_ms: u64, age_ms: u64) -> Option<Rc<[u8]>> {
        let state = self.state.borrow();
        let entry = state.entries.get(key)?;
        (now_ms.saturating_sub(entry.kept_ms) <= age_ms).then(|| Rc::clone(&entry.body))
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.state.borrow().bytes
    }
}

fn cost(key: &[u8], body: &[u8]) -> usize {
    key.len() + body.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_of_a_key_is_given_up_to_its_age() {
        let memory = LastGood::default();
        memory.keep(b"a", b"1", 100, 10_000);
        memory.keep(b"a", b"22", 200, 10_000);
        assert_eq!(memory.get(b"a", 300, 100).as_deref(), Some(&b"22"[..]));
        assert_eq!(memory.get(b"a", 301, 100), None);
        assert_eq!(memory.get(b"b", 200, 100), None);
        assert_eq!(memory.bytes(), 1 + 2 + ENTRY_BYTES);
    }

    #[test]
    fn the_oldest_make_room_and_nothing_is_counted_twice() {
        let memory = LastGood::default();
        for n in 0..1000_u32 {
            memory.keep(&n.to_be_bytes(), &[0; 100], 0, 3 * (104 + ENTRY_BYTES));
            memory.keep(&0_u32.to_be_bytes(), &[0; 100], 0, 3 * (104 + ENTRY_BYTES));
        }
        let there = |n: u32| memory.get(&n.to_be_bytes(), 0, 0).is_some();
        assert!(there(0) && there(999) && there(998) && !there(997));
        assert_eq!(memory.bytes(), 3 * (104 + ENTRY_BYTES));
        memory.keep(&[0; KEY_BYTES_MAX + 1], b"", 0, 1 << 20);
        memory.keep(b"large", &[0; 1000], 0, 1000);
        assert_eq!(memory.bytes(), 3 * (104 + ENTRY_BYTES));
    }
}
