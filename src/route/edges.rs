//! The literal edges of a path tree: from a node, by the text of a segment, to a node.
//!
//! One open-addressed table for the whole tree: with ten thousand routes most of a lookup's time is cache misses, and
//! this way a step costs one line of the table, however many siblings there are. A segment of up to 16 bytes is compared
//! as two integers that lie in the slot; only longer ones are looked up in the texts.

/// A node's place in its tree. The root is never at the end of an edge, so its 0 marks an empty slot.
pub(super) type NodeId = u32;

const EMPTY: NodeId = 0;

/// See the [module](self). At most half of the slots are taken, so that a search for what is not there ends soon. What
/// is in the table comes from the config alone, so its hash needs no secret: no client can make its chains longer.
#[derive(Default)]
pub(super) struct Edges {
    slots: Vec<Slot>,
    taken: usize,
    /// The texts longer than 16 bytes.
    texts: Vec<u8>,
}

/// Half a cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Slot {
    key: Key,
    parent: NodeId,
    child: NodeId,
    /// Place of a long text in `texts`.
    start: u32,
}

/// The beginning and the end of a segment, which overlap if it is shorter than both together, and its length: equal keys
/// of up to 16 bytes mean equal segments.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    first: u64,
    last: u64,
    len: u32,
}

impl Key {
    const WHOLE_MAX: usize = 16;

    #[inline]
    fn new(segment: &[u8]) -> Key {
        let (first, last) = if let (Some(first), Some(last)) = (segment.first_chunk(), segment.last_chunk()) {
            (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
        } else if let (Some(first), Some(last)) = (segment.first_chunk(), segment.last_chunk()) {
            (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
        } else {
            // At most three bytes: the first, the middle one and the last are all there are.
            let byte = |at: usize| segment.get(at).map_or(0, |b| u64::from(*b));
            (byte(0) | byte(segment.len() / 2) << 8, byte(segment.len().wrapping_sub(1)))
        };
        // Paths longer than 64 KiB are not searched for, so no two lengths are taken for one.
        Key { first, last, len: segment.len() as u32 }
    }

    #[inline]
    fn hash(&self, parent: NodeId) -> usize {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ (product >> 64) as u64
        };
        // Odd constants from the digits of pi and e; each multiplication spreads every bit over the result.
        let text = fold(self.first ^ 0x243f_6a88_85a3_08d3, self.last ^ 0xb7e1_5162_8aed_2a6b);
        let place = u64::from(parent) << 32 | u64::from(self.len);
        // Only as many low bits as the table has slots are used.
        fold(text ^ place, 0x9e37_79b9_7f4a_7c15) as usize
    }
}

impl Edges {
    /// Where `segment` leads from `parent`.
    #[inline]
    pub(super) fn get(&self, parent: NodeId, segment: &[u8]) -> Option<NodeId> {
        let key = Key::new(segment);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = key.hash(parent) & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.key == key
                && slot.parent == parent
                && (segment.len() <= Key::WHOLE_MAX || self.is_text(slot, segment))
            {
                return (slot.child != EMPTY).then_some(slot.child);
            }
            if slot.child == EMPTY {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn is_text(&self, slot: &Slot, segment: &[u8]) -> bool {
        let start = slot.start as usize;
        self.texts.get(start..start + segment.len()) == Some(segment)
    }

    /// Adds an edge that is not there yet.
    pub(super) fn insert(&mut self, parent: NodeId, segment: &[u8], child: NodeId) {
        if (self.taken + 1) * 2 > self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots.resize((old.len() * 2).max(8), Slot::default());
            old.into_iter().filter(|slot| slot.child != EMPTY).for_each(|slot| self.place(slot));
        }
        // With more than 4 GiB of long texts this one would not be found.
        let start = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        if segment.len() > Key::WHOLE_MAX {
            self.texts.extend_from_slice(segment);
        }
        self.place(Slot { key: Key::new(segment), parent, child, start });
        self.taken += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.key.hash(slot.parent) & mask;
        while self.slots[at].child != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_edge_and_no_other() {
        let mut edges = Edges::default();
        assert_eq!(edges.get(0, b""), None);
        // Of each length two texts that differ in one byte only, wherever it is.
        let base: String = ('a'..='z').collect();
        let mut texts = vec![String::new()];
        for len in 1..=base.len() {
            for at in 0..len {
                let mut text = base[..len].to_owned();
                text.replace_range(at..=at, "_");
                texts.push(text);
            }
        }
        for parent in 0..3 {
            for text in &texts {
                assert_eq!(edges.get(parent, text.as_bytes()), None, "{text}");
                edges.insert(parent, text.as_bytes(), edges.taken as u32 + 1);
            }
        }
        let all = (0..3).flat_map(|parent| texts.iter().map(move |text| (parent, text)));
        for (i, (parent, text)) in all.enumerate() {
            assert_eq!(edges.get(parent, text.as_bytes()), Some(i as u32 + 1), "{text}");
        }
        assert_eq!(edges.get(3, b"_"), None);
        assert_eq!(edges.get(2, base.as_bytes()), None);
        assert!(edges.taken * 2 <= edges.slots.len());
    }
}
