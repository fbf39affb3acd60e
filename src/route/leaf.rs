//! The routes of one pattern, told apart by method and by what else they want of a request.
//!
//! A leaf holds its only route itself: with one AND it is found. Leaves with more routes, and those whose routes have
//! predicates, have a list in a side table, in the order in which its routes are asked: those with more predicates first,
//! then as in the config.

use super::explain::{Passed, Verdict};
use super::method::{self, Set};
use super::path::Search;
use super::predicates::{Predicate, Test};

/// No list.
const NONE: u32 = u32::MAX;
/// Routes with predicates that one pattern may have: they are asked one by one.
const PREDICATED_MAX: usize = 256;
/// Regular expressions that the routes of one pattern may have: each takes up to 60 µs for a head full of hostile text, so all
/// together some 2 ms.
const EXPRESSIONS_MAX: usize = 32;

/// The routes of one pattern.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    /// What the first route accepts; nothing if there is no route, and [`method::LOOK_CLOSER`] if that is not all it wants.
    pub(super) accepts: Set,
    route: u32,
    /// Into `Leaves::lists`.
    list: u32,
}

pub(super) const NO_ROUTE: Leaf = Leaf { accepts: 0, route: 0, list: NONE };

/// What leaves do not hold themselves.
#[derive(Default)]
pub(super) struct Leaves {
    lists: Vec<Vec<Entry>>,
}

/// A route of a list.
struct Entry {
    /// The methods that it names.
    named: Set,
    /// The same, with HEAD for GET unless another route with the same predicates has it (RFC 9110 9.3.2).
    accepts: Set,
    route: u32,
    predicates: Box<[Predicate]>,
}

/// Why a route can not be added to a leaf.
pub(super) enum Refused {
    /// This route is for the same requests.
    Same(u32),
    /// There would be too many of these.
    TooMany(&'static str, usize),
}

impl Leaves {
    /// The route of a pattern for the request that is looked for; notes the methods there are when there is none.
    #[inline]
    pub(super) fn pick(&self, leaf: &Leaf, passed: Passed, search: &mut Search<'_>) -> Option<u32> {
        if leaf.accepts & search.method != 0 {
            return Some(leaf.route);
        }
        self.look_closer(leaf, passed, search)
    }

    fn look_closer(&self, leaf: &Leaf, passed: Passed, search: &mut Search<'_>) -> Option<u32> {
        if leaf.list == NONE && leaf.accepts != 0 {
            return search.judge(method::with_head(leaf.accepts), leaf.route, &[], passed);
        }
        let list = self.lists.get(leaf.list as usize)?;
        list.iter().find_map(|entry| search.judge(entry.accepts, entry.route, &entry.predicates, passed))
    }

    /// All routes of a leaf.
    pub(super) fn routes(&self, leaf: &Leaf) -> impl Iterator<Item = u32> {
        let list = self.lists.get(leaf.list as usize).map(Vec::as_slice).unwrap_or_default();
        let only = (leaf.list == NONE && leaf.accepts != 0).then_some(leaf.route);
        only.into_iter().chain(list.iter().map(|entry| entry.route))
    }

    /// Adds a route to a leaf.
    pub(super) fn insert(
        &mut self,
        leaf: &mut Leaf,
        methods: Set,
        route: u32,
        predicates: &[Predicate],
    ) -> Result<(), Refused> {
        if leaf.accepts == 0 && predicates.is_empty() {
            (leaf.accepts, leaf.route) = (methods, route);
            return Ok(());
        }
        if leaf.list == NONE {
            let first = Entry::new(leaf.accepts, leaf.route, &[]);
            self.lists.push(if leaf.accepts == 0 { Vec::new() } else { vec![first] });
            leaf.list = u32::try_from(self.lists.len() - 1).unwrap_or(NONE);
        }
        let Some(list) = self.lists.get_mut(leaf.list as usize) else {
            return Err(Refused::TooMany("patterns with several routes", self.lists.len()));
        };
        let mut added = Entry::new(methods, route, predicates);
        let mut same = list.iter_mut().filter(|entry| *entry.predicates == *predicates);
        if let Some(other) = same.find(|entry| entry.named & methods != 0) {
            return Err(Refused::Same(other.route));
        }
        bounded(list, predicates)?;
        for other in list.iter_mut().filter(|entry| *entry.predicates == *predicates) {
            if methods & method::HEAD != 0 {
                other.accepts = other.named;
            }
            if other.named & method::HEAD != 0 {
                added.accepts = added.named;
            }
        }
        list.insert(list.partition_point(|entry| entry.predicates.len() >= predicates.len()), added);
        if let Some(first) = list.first() {
            let plain = first.predicates.is_empty();
            (leaf.accepts, leaf.route) = (if plain { first.accepts } else { method::LOOK_CLOSER }, first.route);
        }
        Ok(())
    }
}

impl Entry {
    fn new(methods: Set, route: u32, predicates: &[Predicate]) -> Entry {
        Entry { named: methods, accepts: method::with_head(methods), route, predicates: predicates.into() }
    }
}

/// Whether a route with these predicates may be added to the list.
fn bounded(list: &[Entry], predicates: &[Predicate]) -> Result<(), Refused> {
    if predicates.is_empty() {
        return Ok(());
    }
    if list.iter().filter(|entry| !entry.predicates.is_empty()).count() == PREDICATED_MAX {
        return Err(Refused::TooMany("routes with predicates", PREDICATED_MAX));
    }
    let expressions = |predicates: &[Predicate]| predicates.iter().filter(|p| matches!(p.test, Test::Regex(_))).count();
    let all = list.iter().map(|entry| expressions(&entry.predicates)).sum::<usize>() + expressions(predicates);
    if all > EXPRESSIONS_MAX {
        return Err(Refused::TooMany("regular expressions", EXPRESSIONS_MAX));
    }
    Ok(())
}

impl Search<'_> {
    /// The route, if it takes the request; otherwise notes why it does not. When all candidates are to be told, it is noted
    /// in any case and never given.
    fn judge(&mut self, accepts: Set, route: u32, predicates: &[Predicate], passed: Passed) -> Option<u32> {
        let method = self.trace.as_ref().map_or(self.method, |trace| trace.method);
        let failed = predicates.iter().find(|predicate| !self.seen.holds(predicate));
        let fits = failed.is_none() && accepts & method != 0;
        if failed.is_none() && !fits {
            self.refused |= accepts;
        }
        let Some(trace) = &mut self.trace else { return fits.then_some(route) };
        let verdict = match failed {
            Some(failed) => Verdict::Predicate {
                place: failed.place,
                name: failed.name.clone(),
                why: failed.why_not(self.seen.asked),
            },
            None if fits => Verdict::Matches,
            None => Verdict::Method,
        };
        trace.note(route, verdict, passed, self.params, self.path.len());
        None
    }
}
