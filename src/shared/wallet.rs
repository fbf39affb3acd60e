//! The process wallet: what the cores of one process know together about the keys of one limit. A bounded table of
//! atomic words that neither a core nor control ever waits for. It knows nothing of tokens: what the words mean, and
//! how they change, is the business of `limit`.
//!
//! **Finding a key.** The table is fixed. Of each slot the tag and the first word, which is all that most decisions need,
//! lie together, four slots in a cache line; the other words have a line of their own. A key's 64-bit hash (foldhash,
//! with a seed drawn at start, so that nobody outside can aim) names a slot, and the key lives there or in one of the
//! next [`WINDOW`] (linear probing: Knuth, "Notes on open addressing", 1963). With twice as many slots as keys most keys
//! cost one cache miss, and some 35 in 100,000 find no place. A separate array of tags and all words in one line took
//! three misses and 275 ns for a decision among 100,000 keys, where this takes 50 to 80.
//!
//! A tag is 56 bits of the hash and 8 bits that count the tenants of its slot. Two keys with equal 56 bits would share a
//! bucket: among 100,000 live keys that happens to one pair in 14 million tables, and can not be provoked.
//!
//! **Claiming a slot** is rare: once per key, not per core. It needs the small locks of the window's blocks, which are
//! only ever tried: the holder has some ten stores to do. Whoever fails [`TRIES`] times, because a holder was
//! descheduled, uses the limit's overflow slot for this once, and so nobody waits and no key gets two slots.
//!
//! **Evicting.** A slot is given to another key only when its words carry no information (the caller says when: a full
//! bucket, no lease, no debt). So an eviction never forgets what was consumed; when no slot of its window can go, the
//! key uses the overflow slot, one bucket for all such keys. This is what a million random keys end in.
//!
//! **The race of an eviction with a core that has just found the slot**: each change of a word is followed by a look at
//! the tag. The evictor makes the tag busy before it looks at the words for the last time and before it resets them, so
//! a change is either seen by that last look (the key stays), or its maker sees another tag and knows that it changed
//! nothing of its key. What it took from the next tenant is then lost, never gained.

use std::hash::BuildHasher;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Words per slot, from 1; word 0 is the tag.
pub const WORDS: usize = 7;
/// Slots whose tags and first words share a cache line.
const PER_LINE: usize = 4;
/// Slots in which a key may be.
const WINDOW: usize = 16;
/// Tries for the locks of a window: about 1 µs, ten times what a holder needs.
const TRIES: usize = 64;
/// Keys of one table at most: 640 MB of it.
pub const MOST_KEYS: u32 = 4_000_000;
/// A tag's bits that count tenants.
const TENANT_BITS: u64 = 0xff;
/// The tag of a slot that is changing hands. No key has it.
const BUSY: u64 = u64::MAX;
/// The tag of the overflow slot, which never changes hands. No key has it.
const OVERFLOW: u64 = 1;

/// A key's slot, as its tenant: worthless once another key has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    index: u32,
    tag: u64,
}

impl At {
    /// Which slot, from 0. The overflow slot is the last.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// What tells this tenant from the one before and the one after.
    #[must_use]
    pub const fn tag(self) -> u64 {
        self.tag
    }

    /// Whether this is the slot of all keys that found no room.
    #[must_use]
    pub const fn is_overflow(self) -> bool {
        self.tag == OVERFLOW
    }
}

/// Why a word was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged<E> {
    /// The slot has another tenant.
    Gone,
    /// The caller's function refused.
    Refused(E),
}

/// The words of one key.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    near: &'a Near,
    far: &'a Far,
}

impl<'a> Words<'a> {
    /// Word number `word`, from 1; 0 when there is none.
    #[inline]
    #[must_use]
    pub fn get(&self, word: usize) -> u64 {
        self.cell(word).map_or(0, |w| w.load(Acquire))
    }

    /// Sets word number `word`. For a slot's next tenant only, inside of [`Table::claim`].
    pub fn set(&self, word: usize, value: u64) {
        if let Some(w) = self.cell(word) {
            w.store(value, Release);
        }
    }

    fn cell(&self, word: usize) -> Option<&'a AtomicU64> {
        if word == 1 { Some(&self.near.first) } else { self.far.words.get(word.checked_sub(2)?) }
    }
}

/// What most decisions need of a slot.
#[derive(Debug, Default)]
struct Near {
    tag: AtomicU64,
    first: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Near; PER_LINE]);

/// The rest of it, and what its tenant is called outside.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Far {
    words: [AtomicU64; WORDS - 1],
    name: [AtomicU64; 2],
}

/// One limit's keys in this process.
pub struct Table {
    random: foldhash::quality::RandomState,
    /// Slots that a hash can name.
    homes: usize,
    /// The slots, and the overflow slot as the last: two arrays of the same slots.
    near: Box<[Line]>,
    far: Box<[Far]>,
    /// One per [`WINDOW`] slots.
    locks: Box<[AtomicBool]>,
    /// One bit per slot that control has to look at.
    dirty: Box<[AtomicU64]>,
    urgent: AtomicBool,
    /// When the last answered question was sent, in µs; see [`Table::contact_us`].
    contact_us: AtomicU64,
    processes: AtomicU64,
    overflows: AtomicU64,
    evictions: AtomicU64,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("slots", &self.far.len()).finish_non_exhaustive()
    }
}

impl Table {
    /// A table for `keys_max` keys: 80 bytes a slot, two slots a key.
    #[must_use]
    pub fn new(keys_max: u32) -> Self {
        let homes = usize::try_from(keys_max.clamp(1, MOST_KEYS)).unwrap_or(1) * 2;
        let slots = homes + WINDOW;
        Self {
            random: foldhash::quality::RandomState::default(),
            homes,
            near: (0..slots.div_ceil(PER_LINE)).map(|_| Line::default()).collect(),
            far: (0..slots).map(|_| Far::default()).collect(),
            locks: (0..slots.div_ceil(WINDOW)).map(|_| AtomicBool::default()).collect(),
            dirty: (0..slots.div_ceil(64)).map(|_| AtomicU64::default()).collect(),
            urgent: AtomicBool::default(),
            contact_us: AtomicU64::default(),
            processes: AtomicU64::new(1),
            overflows: AtomicU64::default(),
            evictions: AtomicU64::default(),
        }
    }

    /// How many slots there are, with the overflow slot.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.far.len()
    }

    /// Bytes of memory, which do not depend on how many keys come.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.near) + size_of_val(&*self.far) + size_of_val(&*self.locks) + size_of_val(&*self.dirty)
    }

    /// A key's hash in this table.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.random.hash_one(key)
    }

    /// The slot of the key with this hash, if it has one.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64) -> Option<At> {
        let (home, wanted) = (self.home(hash), tag_of(hash));
        for index in home..home + WINDOW {
            let tag = self.near(index)?.tag.load(Acquire);
            if tag & !TENANT_BITS == wanted {
                return Some(At { index: u32::try_from(index).unwrap_or(u32::MAX), tag });
            }
            // A slot never becomes free again, so that no key is behind a free one.
            if tag == 0 {
                return None;
            }
        }
        None
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        // Lemire's multiplication instead of a division.
        usize::try_from(((hash >> 32) * self.homes as u64) >> 32).unwrap_or_default()
    }

    #[inline]
    fn near(&self, index: usize) -> Option<&Near> {
        self.near.get(index / PER_LINE)?.0.get(index % PER_LINE)
    }

    #[inline]
    fn cell(&self, index: usize, word: usize) -> Option<&AtomicU64> {
        if word == 1 { Some(&self.near(index)?.first) } else { self.far.get(index)?.words.get(word.checked_sub(2)?) }
    }

    /// Where a key's window begins, without its last slot if that would be the overflow slot.
    fn window(&self, home: usize) -> std::ops::Range<usize> {
        home..(home + WINDOW).min(self.far.len() - 1)
    }

    /// The slot of all keys that found no room.
    #[must_use]
    pub fn overflow(&self) -> At {
        At { index: u32::try_from(self.far.len() - 1).unwrap_or(u32::MAX), tag: OVERFLOW }
    }

    /// A slot for the key with this hash: its own if it has one, else the first that is free or whose words `evictable`
    /// says to carry no information, else the overflow slot. `first` sets the words of a new tenant, `name` is its name.
    #[cold]
    pub fn claim(
        &self,
        hash: u64,
        name: [u64; 2],
        evictable: impl Fn(Words<'_>) -> bool,
        first: impl Fn(Words<'_>),
    ) -> At {
        let home = self.home(hash);
        for _ in 0..TRIES {
            let Some(_locks) = self.try_lock(home) else {
                std::hint::spin_loop();
                continue;
            };
            if let Some(at) = self.find(hash).or_else(|| self.settle(hash, name, &evictable, &first)) {
                return at;
            }
            break;
        }
        self.overflows.fetch_add(1, Relaxed);
        self.overflow()
    }

    /// Puts a key into a slot of its window, whose locks the caller holds.
    fn settle(
        &self,
        hash: u64,
        name: [u64; 2],
        evictable: &impl Fn(Words<'_>) -> bool,
        first: &impl Fn(Words<'_>),
    ) -> Option<At> {
        for index in self.window(self.home(hash)) {
            let words = Words { near: self.near(index)?, far: self.far.get(index)? };
            let (tag, old) = (&words.near.tag, words.near.tag.load(Relaxed));
            if old != 0 && !evictable(words) {
                continue;
            }
            tag.store(BUSY, SeqCst);
            // What came in before the tag was busy counts; the look after it is the one that decides.
            if old != 0 && !evictable(words) {
                tag.store(old, SeqCst);
                continue;
            }
            first(words);
            for (cell, value) in words.far.name.iter().zip(name) {
                cell.store(value, Release);
            }
            let new = tag_of(hash) | (old.wrapping_add(1) & TENANT_BITS);
            tag.store(new, SeqCst);
            self.evictions.fetch_add(u64::from(old != 0), Relaxed);
            return Some(At { index: u32::try_from(index).unwrap_or(u32::MAX), tag: new });
        }
        None
    }

    /// What the tenant of a slot is called outside. It may be the next tenant's already, whose words are then not this
    /// one's either.
    #[must_use]
    pub fn name(&self, at: At) -> [u64; 2] {
        self.far.get(at.index()).map_or([0; 2], |far| [far.name[0].load(Acquire), far.name[1].load(Acquire)])
    }

    /// Whether the slot still has this tenant.
    #[inline]
    #[must_use]
    pub fn holds(&self, at: At) -> bool {
        at.is_overflow() || self.near(at.index()).is_some_and(|near| near.tag.load(SeqCst) == at.tag)
    }

    /// The tenant of slot number `index`, if it has one.
    #[must_use]
    pub fn tenant(&self, index: usize) -> Option<At> {
        if index == self.overflow().index() {
            return Some(self.overflow());
        }
        let tag = self.near(index)?.tag.load(Acquire);
        (tag != 0 && tag != BUSY).then_some(At { index: u32::try_from(index).ok()?, tag })
    }

    /// A word of a slot. It may be of the next tenant already: only [`Self::update`] is sure.
    #[inline]
    #[must_use]
    pub fn get(&self, at: At, word: usize) -> u64 {
        self.cell(at.index(), word).map_or(0, |w| w.load(Acquire))
    }

    /// Changes a word to what `change` makes of it, unless it refuses, and says what it said with it.
    ///
    /// # Errors
    /// [`Unchanged::Refused`] with what `change` refused with; [`Unchanged::Gone`] when the slot has another tenant.
    #[inline]
    pub fn update<T, E>(
        &self,
        at: At,
        word: usize,
        mut change: impl FnMut(u64) -> Result<(u64, T), E>,
    ) -> Result<T, Unchanged<E>> {
        let Some(cell) = self.cell(at.index(), word) else { return Err(Unchanged::Gone) };
        let mut old = cell.load(Acquire);
        loop {
            let (new, said) = match change(old) {
                Ok(changed) => changed,
                Err(refusal) if self.holds(at) => return Err(Unchanged::Refused(refusal)),
                Err(_) => return Err(Unchanged::Gone),
            };
            match cell.compare_exchange_weak(old, new, AcqRel, Acquire) {
                Ok(_) if self.holds(at) => return Ok(said),
                Ok(_) => return Err(Unchanged::Gone),
                Err(now) => old = now,
            }
        }
    }

    /// Asks control to look at a slot: within its period, or as soon as it can when `urgent`.
    #[inline]
    pub fn mark(&self, at: At, urgent: bool) {
        let bit = 1_u64 << (at.index() % 64);
        // A read first: a hot key is marked by many requests, and only the first one may write.
        if let Some(dirty) = self.dirty.get(at.index() / 64)
            && dirty.load(Relaxed) & bit == 0
        {
            dirty.fetch_or(bit, AcqRel);
        }
        if urgent && !self.urgent.load(Relaxed) {
            self.urgent.store(true, Release);
        }
    }

    /// Whether something is marked urgent. For control; [`Self::take_marked`] clears it.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent.load(Acquire)
    }

    /// Shows up to `max` marked slots, from slot number `from` on and round, and clears their marks. Says where to go on.
    pub fn take_marked(&self, from: usize, max: usize, mut each: impl FnMut(usize)) -> usize {
        self.urgent.store(false, SeqCst);
        let n = self.dirty.len();
        let mut shown = 0;
        for i in 0..n {
            let at = (from + i) % n;
            let Some(word) = self.dirty.get(at) else { break };
            if word.load(Relaxed) == 0 {
                continue;
            }
            if shown >= max {
                self.urgent.store(true, Release);
                return at;
            }
            let mut bits = word.swap(0, AcqRel);
            while bits != 0 {
                each(at * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
                shown += 1;
            }
        }
        from
    }

    /// When the last question that was answered had been sent, in µs of the process' clock.
    #[inline]
    #[must_use]
    pub fn contact_us(&self) -> u64 {
        self.contact_us.load(Acquire)
    }

    /// Control heard from Redis; the question had been sent at `sent_us`.
    pub fn set_contact(&self, sent_us: u64) {
        self.contact_us.fetch_max(sent_us, AcqRel);
    }

    /// How many processes share the limit.
    #[inline]
    #[must_use]
    pub fn processes(&self) -> u64 {
        self.processes.load(Acquire)
    }

    /// Control counted `n` processes.
    pub fn set_processes(&self, n: u64) {
        self.processes.store(n.max(1), Release);
    }

    /// Requests that had to use the overflow slot as often as they looked for one, and keys that made room for others.
    #[must_use]
    pub fn pressure(&self) -> (u64, u64) {
        (self.overflows.load(Relaxed), self.evictions.load(Relaxed))
    }

    fn try_lock(&self, home: usize) -> Option<Locks<'_>> {
        let (a, b) = (home / WINDOW, self.window(home).end.saturating_sub(1) / WINDOW);
        let (first, second) = (self.locks.get(a)?, self.locks.get(b)?);
        if first.swap(true, SeqCst) {
            return None;
        }
        if a != b && second.swap(true, SeqCst) {
            first.store(false, SeqCst);
            return None;
        }
        Some(Locks { first, second })
    }
}

struct Locks<'a> {
    first: &'a AtomicBool,
    second: &'a AtomicBool,
}

impl Drop for Locks<'_> {
    fn drop(&mut self) {
        self.second.store(false, SeqCst);
        self.first.store(false, SeqCst);
    }
}

/// The bits of a tag that tell keys apart. Values that mean something else are moved out of the way.
#[inline]
const fn tag_of(hash: u64) -> u64 {
    let bits = hash & !TENANT_BITS;
    if bits == 0 || bits == !TENANT_BITS { 0xff00 } else { bits }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;

    fn never(_: Words<'_>) -> bool {
        false
    }

    fn nothing(_: Words<'_>) {}

    #[test]
    fn a_key_has_one_slot_and_the_table_fills_to_its_promise() {
        let table = Table::new(20_000);
        let (mut seen, mut homeless) = (std::collections::HashSet::new(), 0);
        for key in 0..20_000_u32 {
            let hash = table.hash(&key.to_le_bytes());
            assert_eq!(table.find(hash), None);
            let at = table.claim(hash, [0; 2], never, nothing);
            if at.is_overflow() {
                homeless += 1;
                continue;
            }
            assert!(seen.insert(at.index()));
            assert_eq!(table.find(hash), Some(at));
            assert_eq!(table.claim(hash, [0; 2], never, nothing), at, "claimed twice is found");
        }
        assert!(homeless < 20, "{homeless} of 20,000");
        let more = (20_000..80_000_u32).map(|k| table.claim(table.hash(&k.to_le_bytes()), [0; 2], never, nothing));
        assert!(more.filter(|at| at.is_overflow()).count() > 35_000, "and then it is full");
        assert!(table.bytes() < 20_000 * 162, "{}", table.bytes());
    }

    #[test]
    fn only_a_slot_without_information_is_given_away_and_its_old_tenant_notices() {
        let table = Table::new(1);
        let hash = |k: u32| table.hash(&k.to_le_bytes());
        let full = |w: Words<'_>| w.set(1, 1);
        let old: Vec<At> = (0..60).map(|k| table.claim(hash(k), [0; 2], never, full)).collect();
        assert!(table.claim(hash(99), [0; 2], never, full).is_overflow());
        let one = old.iter().position(|at| !at.is_overflow() && at.index() > 1).unwrap();
        table.update(old[one], 1, |_| Ok::<_, ()>((0, ()))).unwrap();
        let idle = |w: Words<'_>| w.get(1) == 0;
        let new = table.claim(hash(99), [5, 6], idle, |w| w.set(1, 7));
        assert_eq!((new.index(), table.get(new, 1), table.name(new)), (old[one].index(), 7, [5, 6]));
        assert!(!table.holds(old[one]) && table.holds(new) && table.find(hash(one as u32)).is_none());
        let taken = table.update(old[one], 1, |w| Ok::<_, ()>((w - 1, ())));
        assert_eq!(taken, Err(Unchanged::Gone), "what was taken from the next tenant is lost, not gained");
        assert!(table.claim(hash(100), [0; 2], idle, nothing).is_overflow());
        assert_eq!(table.pressure().1, 1);
    }

    #[test]
    fn a_held_lock_sends_a_key_to_the_overflow_slot_instead_of_making_it_wait() {
        let table = Table::new(8);
        let hash = table.hash(b"k");
        let held = table.try_lock(table.home(hash)).unwrap();
        assert!(table.claim(hash, [0; 2], never, nothing).is_overflow());
        drop(held);
        assert!(!table.claim(hash, [0; 2], never, nothing).is_overflow());
    }

    #[test]
    fn threads_that_claim_the_same_keys_agree_on_their_slots() {
        let table = Arc::new(Table::new(4096));
        let run = |table: &Table| -> Vec<At> {
            (0..2000_u32)
                .map(|k| {
                    let hash = table.hash(&k.to_le_bytes());
                    loop {
                        let at = table.find(hash).unwrap_or_else(|| table.claim(hash, [0; 2], never, nothing));
                        if !at.is_overflow() {
                            table.update(at, 1, |w| Ok::<_, ()>((w + 1, ()))).unwrap();
                            break at;
                        }
                    }
                })
                .collect()
        };
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn({
                    let t = Arc::clone(&table);
                    move || run(&t)
                })
            })
            .collect();
        let all: Vec<Vec<At>> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(all[0].iter().all(|at| table.get(*at, 1) == 4));
    }

    #[test]
    fn marks_are_kept_until_taken_and_urgency_is_told() {
        let table = Table::new(500);
        let at: Vec<At> =
            (0..100_u32).map(|k| table.claim(table.hash(&k.to_le_bytes()), [0; 2], never, nothing)).collect();
        at.iter().for_each(|at| table.mark(*at, false));
        assert!(!table.is_urgent());
        table.mark(at[0], true);
        assert!(table.is_urgent());
        let mut seen = Vec::new();
        let mut from = 0;
        for _ in 0..20 {
            from = table.take_marked(from, 10, |i| seen.push(i));
        }
        let mut marked: Vec<usize> = at.iter().map(|at| at.index()).collect();
        seen.sort_unstable();
        marked.sort_unstable();
        assert_eq!(seen, marked);
        assert!(!table.is_urgent());
        table.mark(table.overflow(), true);
        table.take_marked(0, 10, |i| assert_eq!(table.tenant(i), Some(table.overflow())));
    }
}
