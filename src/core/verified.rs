//! Passwords that were right a short while ago: a hash for every request would be too dear. Only right ones are kept, so
//! nobody who does not know one can push others out. Neither names nor passwords are: they are known by a keyed hash.

use std::cell::RefCell;
use std::collections::HashMap;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};

/// How many are remembered on a core: 64 bytes each.
const KEPT_MAX: usize = 10_000;

/// What stands for a caller's credentials.
pub type Tag = [u8; 32];

/// See the [module](self).
pub struct Verified {
    key: Key,
    until_ms: RefCell<HashMap<Tag, u64, foldhash::fast::RandomState>>,
}

impl Default for Verified {
    fn default() -> Self {
        // Random, and never told: what is in memory can not be tried out elsewhere.
        let mut key = [0; 32];
        let filled = aws_lc_rs::rand::fill(&mut key).is_ok();
        debug_assert!(filled, "the system has random bytes");
        Self { key: Key::new(HMAC_SHA256, &key), until_ms: RefCell::default() }
    }
}

impl Verified {
    /// What stands for these credentials at this reading of the users' file.
    #[must_use]
    pub fn tag(&self, reading: u64, credentials: &[u8]) -> Tag {
        let mut context = Context::with_key(&self.key);
        context.update(&reading.to_le_bytes());
        context.update(credentials);
        Tag::try_from(context.sign().as_ref()).unwrap_or_default()
    }

    /// Whether they were right, a short while ago.
    #[must_use]
    pub fn holds(&self, tag: &Tag, now_ms: u64) -> bool {
        self.until_ms.borrow().get(tag).is_some_and(|until_ms| now_ms < *until_ms)
    }

    /// They are right, until then.
    pub fn add(&self, tag: Tag, now_ms: u64, until_ms: u64) {
        let mut kept = self.until_ms.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, until_ms| now_ms < *until_ms);
            // All of them are verified again: rare, and bounded by the queue for that.
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
        }
        kept.insert(tag, until_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_a_time_and_for_one_reading() {
        let verified = Verified::default();
        let tag = verified.tag(1, b"a:secret");
        verified.add(tag, 0, 100);
        assert!(verified.holds(&tag, 99) && !verified.holds(&tag, 100));
        for other in
            [verified.tag(2, b"a:secret"), verified.tag(1, b"a:secres"), Verified::default().tag(1, b"a:secret")]
        {
            assert!(!verified.holds(&other, 0));
        }
    }

    #[test]
    fn it_is_bounded() {
        let verified = Verified::default();
        for n in 0..3 * KEPT_MAX as u64 {
            verified.add(verified.tag(n, b""), 0, if n % 2 == 0 { 0 } else { 10 });
        }
        assert!(verified.until_ms.borrow().len() <= KEPT_MAX);
        assert!(verified.holds(&verified.tag(3 * KEPT_MAX as u64 - 1, b""), 5));
    }
}
