//! The literal edges of a path tree: from a node, by the text of a segment, to a node.
//!
//! One open-addressed table for the whole tree: with ten thousand routes most of a lookup's time is cache misses, and
//! this way a step costs one line of the table, one of the texts and one of the nodes, however many siblings there are.

use std::hash::{BuildHasher, Hasher};

/// A node's place in its tree. The root is never at the end of an edge, so its 0 marks an empty slot.
pub(super) type NodeId = u32;

const EMPTY: NodeId = 0;

/// See the [module](self). At most half of the slots are taken, so that a search for what is not there ends soon.
#[derive(Default)]
pub(super) struct Edges {
    slots: Vec<Slot>,
    taken: usize,
    texts: Vec<u8>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    parent: NodeId,
    child: NodeId,
    /// The text's place in `texts`.
    start: u32,
    len: u32,
}

impl Edges {
    /// Where `segment` leads from `parent`.
    #[inline]
    pub(super) fn get(&self, parent: NodeId, segment: &[u8]) -> Option<NodeId> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = self.hash(parent, segment) & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.child == EMPTY {
                return None;
            }
            if slot.parent == parent && slot.len as usize == segment.len() && self.text(slot) == segment {
                return Some(slot.child);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an edge that is not there yet.
    pub(super) fn insert(&mut self, parent: NodeId, segment: &[u8], child: NodeId) {
        if (self.taken + 1) * 2 > self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots.resize((old.len() * 2).max(8), Slot::default());
            for slot in old.into_iter().filter(|slot| slot.child != EMPTY) {
                self.place(slot);
            }
        }
        // More than 4 GiB of text: such an edge leads nowhere.
        let (Ok(start), Ok(len)) = (u32::try_from(self.texts.len()), u32::try_from(segment.len())) else { return };
        self.texts.extend_from_slice(segment);
        self.place(Slot { parent, child, start, len });
        self.taken += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.hash(slot.parent, self.text(&slot)) & mask;
        while self.slots[at].child != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    #[inline]
    fn text(&self, slot: &Slot) -> &[u8] {
        let start = slot.start as usize;
        self.texts.get(start..start + slot.len as usize).unwrap_or_default()
    }

    #[inline]
    fn hash(&self, parent: NodeId, segment: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(segment);
        // The upper bits do not matter: they are masked off.
        hasher.finish() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_edge_and_no_other() {
        let mut edges = Edges::default();
        assert_eq!(edges.get(0, b"a"), None);
        for parent in 0..50 {
            for text in ["", "a", "b", "ab", "a-segment-that-is-longer-than-others"] {
                let child = edges.taken as u32 + 1;
                edges.insert(parent, text.as_bytes(), child);
                assert_eq!(edges.get(parent, text.as_bytes()), Some(child));
            }
        }
        assert_eq!(edges.get(0, b""), Some(1));
        assert_eq!(edges.get(49, b"ab"), Some(249));
        assert_eq!(edges.get(49, b"c"), None);
        assert_eq!(edges.get(50, b"a"), None);
        assert!(edges.taken * 2 <= edges.slots.len());
    }
}
