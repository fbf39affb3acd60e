//! Tokens that one core has found right, so that each is checked once. Bounded by count and by bytes.
//!
//! A token is found by a keyed hash of its end, which is its signature, and then compared as a whole. It is kept under the
//! identity of what it was checked by: other keys or other rules do not find it. Whoever asks looks at its time. When room
//! is needed, what was not used since the last round goes (CLOCK).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::Rc;

use super::rules::Verified;

/// Tokens of one core.
pub const TOKENS_MAX: usize = 16_384;
/// Bytes that they hold together on one core.
pub const BYTES_MAX: usize = 16 << 20;
/// What an entry holds beside its token: itself, its place in the index, and what allocations are rounded up by.
const ENTRY_BYTES: usize = 160;
/// A signature has at least 32 bytes, 43 characters; two tokens that are right do not end in the same.
const HASHED_BYTES: usize = 64;

/// One core's tokens.
#[derive(Debug)]
pub struct Cache {
    hasher: foldhash::quality::RandomState,
    index: HashMap<u64, usize, foldhash::fast::RandomState>,
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
    tokens_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    identity: u64,
    token: Box<[u8]>,
    verified: Rc<Verified>,
    used: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.token.len() + self.verified.bytes()
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(TOKENS_MAX, BYTES_MAX)
    }
}

impl Cache {
    /// An empty one for so many tokens and bytes.
    #[must_use]
    pub fn new(tokens_max: usize, bytes_max: usize) -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            index: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            tokens_max,
            bytes_max,
        }
    }

    fn hash(&self, identity: u64, token: &[u8]) -> u64 {
        let end = token.get(token.len().saturating_sub(HASHED_BYTES)..).unwrap_or_default();
        self.hasher.hash_one((identity, end))
    }

    /// What is known of a token under that identity, whether or not its time is over.
    #[inline]
    pub fn get(&mut self, identity: u64, token: &[u8]) -> Option<Rc<Verified>> {
        let hash = self.hash(identity, token);
        let entry = self.slots.get_mut(*self.index.get(&hash)?)?.as_mut()?;
        if entry.identity != identity || *entry.token != *token {
            return None;
        }
        entry.used = true;
        Some(Rc::clone(&entry.verified))
    }

    /// Remembers a token that was found right.
    #[cold]
    pub fn put(&mut self, identity: u64, token: &[u8], verified: Rc<Verified>, now_s: f64) {
        let hash = self.hash(identity, token);
        let entry = Entry { hash, identity, token: token.into(), verified, used: false };
        let bytes = entry.bytes();
        if bytes > self.bytes_max || self.tokens_max == 0 {
            return;
        }
        self.remove(hash);
        while self.index.len() >= self.tokens_max || self.bytes + bytes > self.bytes_max {
            self.evict(now_s);
        }
        self.bytes += bytes;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(entry);
        }
        self.index.insert(hash, slot);
    }

    /// Forgets a token: its time is over.
    #[cold]
    pub fn forget(&mut self, identity: u64, token: &[u8]) {
        self.remove(self.hash(identity, token));
    }

    fn remove(&mut self, hash: u64) {
        let Some(slot) = self.index.remove(&hash) else { return };
        if let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(entry.bytes());
            self.free.push(slot);
        }
    }

    /// Moves the hand by one: what it finds over or unused goes, what was used gets another round. Two rounds at most pass
    /// until something goes.
    fn evict(&mut self, now_s: f64) {
        self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
        let Some(Some(entry)) = self.slots.get_mut(self.hand) else { return };
        if std::mem::take(&mut entry.used) && entry.verified.at(now_s).is_ok() {
            return;
        }
        let hash = entry.hash;
        self.remove(hash);
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes that they hold.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(until_s: f64) -> Rc<Verified> {
        let values = Box::default();
        Rc::new(Verified { from_s: 0.0, until_s, has_right: true, principal: None, values })
    }

    fn token(n: usize) -> Vec<u8> {
        format!("{n:0100}").into_bytes()
    }

    #[test]
    fn a_token_is_found_whole_and_under_its_identity_alone() {
        let mut cache = Cache::default();
        cache.put(1, &token(7), right(10.0), 0.0);
        assert!(cache.get(1, &token(7)).is_some());
        assert!(cache.get(2, &token(7)).is_none() && cache.get(1, &token(8)).is_none());
        let other = [b"x".as_slice(), &token(7)].concat();
        assert!(cache.get(1, &other).is_none(), "of the same end, and thus of the same hash");
        cache.put(1, &other, right(10.0), 0.0);
        assert!(cache.get(1, &other).is_some() && cache.get(1, &token(7)).is_none() && cache.len() == 1);
        cache.forget(1, &other);
        assert!(cache.is_empty() && cache.bytes() == 0);
    }

    #[test]
    fn count_and_bytes_are_bounded_and_what_is_used_stays() {
        let mut cache = Cache::new(100, 1 << 20);
        for n in 0..100 {
            cache.put(1, &token(n), right(10.0), 0.0);
        }
        for n in 100..1000 {
            assert!(cache.get(1, &token(7)).is_some(), "{n}");
            cache.put(1, &token(n), right(10.0), 0.0);
            assert_eq!(cache.len(), 100);
        }
        let per_token = cache.bytes() / 100;
        let mut small = Cache::new(1000, per_token * 10 + 1);
        for n in 0..1000 {
            small.put(1, &token(n), right(10.0), 0.0);
            assert!(small.bytes() <= per_token * 10 + 1);
        }
        assert_eq!(small.len(), 10);
        small.put(1, &vec![b'x'; per_token * 20], right(10.0), 0.0);
        assert_eq!(small.len(), 10, "what is larger than all room is not kept");
    }

    #[test]
    fn what_is_over_goes_although_it_was_used() {
        let mut cache = Cache::new(2, 1 << 20);
        cache.put(1, &token(1), right(5.0), 0.0);
        cache.put(1, &token(2), right(50.0), 0.0);
        assert!(cache.get(1, &token(1)).is_some() && cache.get(1, &token(2)).is_some());
        cache.put(1, &token(3), right(50.0), 6.0);
        cache.put(1, &token(4), right(50.0), 6.0);
        assert!(cache.get(1, &token(1)).is_none());
    }
}
