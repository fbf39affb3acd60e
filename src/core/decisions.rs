//! What services that authorise requests have said a short while ago. What it was said about is known by a keyed hash only
//! ([`Verified::tag`](super::verified::Verified::tag)).
//!
//! Whoever sends made-up credentials fills the place of refusals, and pushes no caller out who may come in. Each place has
//! two generations: once the young one is full it becomes the old one, and what was old is forgotten.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;

use super::verified::Tag;

/// Filters, of this and of earlier configs, whose decisions are kept; beyond it all are forgotten.
const FILTERS_MAX: usize = 64;
/// Larger ones are not kept, in bytes.
const DECISION_BYTES_MAX: usize = 4 * 1024;

/// What was said about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes.
    Allow(Grant),
    /// It is answered.
    Refuse(Refusal),
}

/// What goes along with a request that passes. Fields are told by their place in the filter's lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Fields for the upstream.
    pub request: Vec<(usize, Box<[u8]>)>,
    /// Fields for the client.
    pub client: Vec<(usize, Box<[u8]>)>,
    /// Who calls.
    pub principal: Option<String>,
    /// It is for this request alone.
    pub once: bool,
}

/// The answer to one that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// Its field lines.
    pub lines: Bytes,
    /// The lines about its body, and the body; `None`: it is the gateway's own.
    pub body: Option<(Bytes, Bytes)>,
    /// It is for this request alone.
    pub once: bool,
}

impl Decision {
    fn bytes(&self) -> usize {
        let of = |fields: &[(usize, Box<[u8]>)]| fields.iter().map(|(_, value)| value.len()).sum::<usize>();
        match self {
            Self::Allow(grant) => {
                of(&grant.request) + of(&grant.client) + grant.principal.as_ref().map_or(0, String::len)
            }
            Self::Refuse(refusal) => {
                refusal.lines.len() + refusal.body.as_ref().map_or(0, |(lines, body)| lines.len() + body.len())
            }
        }
    }
}

type Generation = HashMap<Tag, (u64, Rc<Decision>), foldhash::fast::RandomState>;

#[derive(Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

impl Generations {
    fn get(&self, tag: &Tag, now_ms: u64) -> Option<Rc<Decision>> {
        let (until_ms, decision) = self.young.get(tag).or_else(|| self.old.get(tag))?;
        (now_ms < *until_ms).then(|| Rc::clone(decision))
    }

    fn put(&mut self, tag: Tag, until_ms: u64, decision: Rc<Decision>, entries_max: usize) {
        if self.young.len() >= (entries_max / 2).max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tag, (until_ms, decision));
    }
}

/// See the [module](self).
#[derive(Default)]
pub struct Decisions {
    /// By what stands for a filter and its rules: those that pass, and refusals.
    filters: RefCell<HashMap<u64, (Generations, Generations), foldhash::fast::RandomState>>,
}

impl Decisions {
    /// What was said about it, if that still holds.
    #[must_use]
    pub fn get(&self, filter: u64, tag: &Tag, now_ms: u64) -> Option<Rc<Decision>> {
        let filters = self.filters.borrow();
        let (passed, refused) = filters.get(&filter)?;
        passed.get(tag, now_ms).or_else(|| refused.get(tag, now_ms))
    }

    /// It holds until then. At most `entries_max` are kept of a filter, a quarter of them refusals.
    pub fn put(&self, filter: u64, tag: Tag, until_ms: u64, decision: Rc<Decision>, entries_max: usize) {
        if decision.bytes() > DECISION_BYTES_MAX {
            return;
        }
        let mut filters = self.filters.borrow_mut();
        if filters.len() >= FILTERS_MAX && !filters.contains_key(&filter) {
            filters.clear();
        }
        let (passed, refused) = filters.entry(filter).or_default();
        match *decision {
            Decision::Allow(_) => passed.put(tag, until_ms, decision, entries_max - entries_max / 4),
            Decision::Refuse(_) => refused.put(tag, until_ms, decision, entries_max / 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(n: u64) -> Tag {
        let mut tag = Tag::default();
        tag.iter_mut().zip(n.to_le_bytes()).for_each(|(to, from)| *to = from);
        tag
    }

    fn allow() -> Rc<Decision> {
        Rc::new(Decision::Allow(Grant::default()))
    }

    fn refuse(bytes: usize) -> Rc<Decision> {
        Rc::new(Decision::Refuse(Refusal { status: 403, lines: vec![b'x'; bytes].into(), body: None, once: false }))
    }

    #[test]
    fn it_holds_for_a_time_and_for_one_filter() {
        let decisions = Decisions::default();
        decisions.put(1, tag(1), 100, allow(), 16);
        assert!(decisions.get(1, &tag(1), 99).is_some() && decisions.get(1, &tag(1), 100).is_none());
        assert!(decisions.get(2, &tag(1), 0).is_none() && decisions.get(1, &tag(2), 0).is_none());
        decisions.put(1, tag(3), 100, refuse(DECISION_BYTES_MAX + 1), 16);
        assert!(decisions.get(1, &tag(3), 0).is_none());
    }

    #[test]
    fn a_flood_of_refusals_pushes_nobody_out() {
        let decisions = Decisions::default();
        decisions.put(1, tag(0), 100, allow(), 16);
        for n in 1..1000 {
            decisions.put(1, tag(n), 100, refuse(0), 16);
        }
        assert!(decisions.get(1, &tag(0), 0).is_some());
        let kept = (1..1000).filter(|n| decisions.get(1, &tag(*n), 0).is_some()).count();
        assert!((1..=4).contains(&kept), "{kept}");
        for n in 1000..2000 {
            decisions.put(1, tag(n), 100, allow(), 16);
        }
        let kept = (1000..2000).filter(|n| decisions.get(1, &tag(*n), 0).is_some()).count();
        assert!((6..=12).contains(&kept), "{kept}");
        for n in 0..1000 {
            decisions.put(n, tag(n), 100, allow(), 16);
        }
        assert!(decisions.filters.borrow().len() <= FILTERS_MAX);
    }
}
