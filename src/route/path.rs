//! The tree of the path patterns of one host level, and the search through it.
//!
//! A level of the tree is a segment of the path. The search is depth first: the literal child, then parameters with
//! literal text (the most of it first), then the plain parameter. The first pattern that ends where the path ends wins,
//! and of the `{*rest}` patterns passed on the way the deepest is kept in case none does; of equally deep ones the
//! first, which is the one with the literal further left. A pattern whose methods do not fit is passed over. One walk
//! thus gives both answers; matchit's tree finds only one pattern per lookup, static first, and can neither compare
//! depths nor go on after a method that does not fit.
//!
//! Each node is visited at most once, so a lookup costs no more than the patterns that share the path's beginning.

use super::edges::{Edges, NodeId};
use super::explain::{Passed, Trace};
use super::leaf::{Leaf, Leaves, NO_ROUTE, Refused};
use super::method::Set;
use super::params::Params;
use super::pattern::{Pattern, Segment};
use super::predicates::{Asked, Predicate};
use super::seen::Seen;

/// No node, or no entry of a side table. Nothing is found there.
const NONE: u32 = u32::MAX;

/// The patterns of one host level. What few nodes have is in side tables, to keep nodes small and together.
pub(super) struct Tree {
    nodes: Vec<Node>,
    literals: Edges,
    affixed: Vec<Vec<(Affixes, NodeId)>>,
    leaves: Leaves,
}

/// What may follow the segments that lead here.
#[derive(Clone, Copy)]
struct Node {
    /// Routes whose pattern ends here.
    end: Leaf,
    /// Routes whose pattern goes on with `{*rest}`.
    rest: Leaf,
    param: NodeId,
    /// Into `Tree::affixed`.
    affixed: u32,
    has_literals: bool,
}

/// The literal text around a parameter.
struct Affixes {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

const NEW_NODE: Node = Node { end: NO_ROUTE, rest: NO_ROUTE, param: NONE, affixed: NONE, has_literals: false };

/// One lookup: what is looked for and what was seen so far.
pub(super) struct Search<'p> {
    pub(super) path: &'p [u8],
    pub(super) method: Set,
    pub(super) seen: Seen<'p>,
    /// Methods of the routes that match all but the method.
    pub(super) refused: Set,
    pub(super) params: Params,
    /// The best `{*rest}` pattern so far, and what its parameters are.
    best: Option<Rest>,
    best_params: Params,
    /// All candidates are to be told, and none found.
    pub(super) trace: Option<&'p mut Trace>,
}

/// A `{*rest}` pattern that the search has passed.
#[derive(Clone, Copy)]
struct Rest {
    route: u32,
    /// Segments in front of the rest.
    depth: usize,
    /// Parameters in front of the rest.
    params: usize,
    /// Where in the path the rest begins.
    at: usize,
}

impl<'p> Search<'p> {
    #[inline]
    pub(super) fn new(path: &'p str, method: Set, asked: &'p dyn Asked) -> Self {
        Self::with(path, method, Seen::new(asked))
    }

    #[inline]
    fn with(path: &'p str, method: Set, seen: Seen<'p>) -> Self {
        let (params, best_params) = (Params::default(), Params::default());
        Search { path: path.as_bytes(), method, seen, refused: 0, params, best: None, best_params, trace: None }
    }

    /// The search for another path of the same request.
    pub(super) fn again<'q>(self, path: &'q str) -> Search<'q>
    where
        'p: 'q,
    {
        Search::with(path, self.method, self.seen)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Tree { nodes: vec![NEW_NODE], literals: Edges::default(), affixed: Vec::new(), leaves: Leaves::default() }
    }
}

impl Tree {
    /// The route for what `search` looks for, and its parameters.
    #[inline]
    pub(super) fn find(&self, search: &mut Search<'_>) -> Option<(u32, Params)> {
        if search.path.first() != Some(&b'/') {
            return None;
        }
        // An earlier level may have left some.
        search.params.truncate(0);
        match self.walk(0, 1, 0, search) {
            Some(route) => Some((route, search.params)),
            None if search.trace.is_some() => {
                search.trace.as_mut()?.end_of_walk();
                None
            }
            None => search.best.map(|rest| (rest.route, search.best_params)),
        }
    }

    /// `at` is where the next segment begins; one past the end of the path when all of it was used. `depth` counts the
    /// segments used. Parameters pushed here are left for the caller to take back.
    fn walk(&self, mut id: NodeId, mut at: usize, mut depth: usize, search: &mut Search<'_>) -> Option<u32> {
        let path = search.path;
        // The deepest `{*rest}` on the way from here, whose parameters are still on the stack: nothing is copied as long
        // as a pattern that matches the whole path may be found.
        let mut deepest = None;
        let found = loop {
            let Some(node) = self.nodes.get(id as usize) else { break None };
            let params = search.params.len();
            if node.rest.accepts != 0
                && let Some(route) = self.leaves.pick(&node.rest, Passed::Rest { depth, at }, search)
            {
                deepest = Some(Rest { route, depth, params, at });
            }
            let Some(left) = path.get(at..) else { break self.leaves.pick(&node.end, Passed::Whole, search) };
            let segment = first_segment(left);
            let end = at + segment.len();
            let child = if node.has_literals { self.literals.get(id, segment) } else { None };
            if let Some(child) = child {
                // Recursing only where there is another way keeps the common walk one loop.
                if node.param == NONE && node.affixed == NONE {
                    (id, at, depth) = (child, end + 1, depth + 1);
                    continue;
                }
                if let Some(route) = self.walk(child, end + 1, depth + 1, search) {
                    return Some(route);
                }
                search.params.truncate(params);
            }
            if node.affixed != NONE
                && let Some(route) = self.walk_affixed(node.affixed, segment, at, depth, search)
            {
                return Some(route);
            }
            if node.param == NONE || segment.is_empty() {
                break None;
            }
            search.params.push(at, end);
            (id, at, depth) = (node.param, end + 1, depth + 1);
        };
        if found.is_none()
            && let Some(rest) = deepest
            && search.best.is_none_or(|best| rest.depth > best.depth)
        {
            search.best = Some(rest);
            search.best_params = search.params;
            search.best_params.truncate(rest.params);
            search.best_params.push(rest.at.min(path.len()), path.len());
        }
        found
    }

    /// Tries the parameters with literal text; leaves the parameters as they were unless it finds a route.
    fn walk_affixed(
        &self,
        affixed: u32,
        segment: &[u8],
        at: usize,
        depth: usize,
        search: &mut Search<'_>,
    ) -> Option<u32> {
        let params = search.params.len();
        for (affixes, child) in self.affixed.get(affixed as usize)? {
            let Some((start, stop)) = affixes.inner(segment, at) else { continue };
            search.params.push(start, stop);
            if let Some(route) = self.walk(*child, at + segment.len() + 1, depth + 1, search) {
                return Some(route);
            }
            search.params.truncate(params);
        }
        None
    }

    /// All routes.
    pub(super) fn routes(&self) -> impl Iterator<Item = u32> {
        let leaves = self.nodes.iter().flat_map(|node| [&node.end, &node.rest]);
        leaves.flat_map(|leaf| self.leaves.routes(leaf))
    }
}

/// What comes before the first slash, or all there is. Segments are short: eight bytes at a time in place are faster
/// than a call of memchr (bit trick: Mycroft, "Determine if a word has a byte equal to n").
#[inline]
fn first_segment(path: &[u8]) -> &[u8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const SLASHES: u64 = ONES * b'/' as u64;
    let (words, last) = path.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let zero_at_slash = u64::from_le_bytes(*word) ^ SLASHES;
        let found = zero_at_slash.wrapping_sub(ONES) & !zero_at_slash & (ONES << 7);
        if found != 0 {
            return path.get(..i * 8 + found.trailing_zeros() as usize / 8).unwrap_or_default();
        }
    }
    let length = last.iter().position(|b| *b == b'/').map_or(path.len(), |at| words.len() * 8 + at);
    path.get(..length).unwrap_or_default()
}

impl Affixes {
    /// Where the parameter of `segment`, which begins at `at` in the path, begins and ends.
    fn inner(&self, segment: &[u8], at: usize) -> Option<(usize, usize)> {
        let inner = segment.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let start = at + self.before.len();
        (!inner.is_empty()).then_some((start, start + inner.len()))
    }

    /// Sorts the most literal text to the front, then the most in front of the parameter.
    fn key(&self) -> impl Ord {
        let (before, after) = (self.before.len(), self.after.len());
        (std::cmp::Reverse((before + after, before)), self.before.clone(), self.after.clone())
    }
}

/// Building: everything here comes from the config, before any request.
impl Tree {
    /// Adds a pattern.
    pub(super) fn insert(
        &mut self,
        pattern: &Pattern,
        methods: Set,
        route: u32,
        predicates: &[Predicate],
    ) -> Result<(), Refused> {
        let mut id = 0;
        for segment in &pattern.segments {
            id = match segment {
                Segment::Literal(text) => self.literal(id, text.as_bytes()),
                Segment::Param { before, after } if before.is_empty() && after.is_empty() => self.param(id),
                Segment::Param { before, after } => {
                    self.affixed(id, Affixes { before: before.as_bytes().into(), after: after.as_bytes().into() })
                }
            };
        }
        let node = &mut self.nodes[id as usize];
        let leaf = if pattern.rest { &mut node.rest } else { &mut node.end };
        self.leaves.insert(leaf, methods, route, predicates)
    }

    fn literal(&mut self, id: NodeId, text: &[u8]) -> NodeId {
        self.literals.get(id, text).unwrap_or_else(|| {
            let child = self.add();
            self.literals.insert(id, text, child);
            self.nodes[id as usize].has_literals = true;
            child
        })
    }

    fn param(&mut self, id: NodeId) -> NodeId {
        if self.nodes[id as usize].param == NONE {
            self.nodes[id as usize].param = self.add();
        }
        self.nodes[id as usize].param
    }

    fn affixed(&mut self, id: NodeId, affixes: Affixes) -> NodeId {
        if self.nodes[id as usize].affixed == NONE {
            self.nodes[id as usize].affixed = side_id(self.affixed.len());
            self.affixed.push(Vec::new());
        }
        let list = self.nodes[id as usize].affixed as usize;
        match self.affixed[list].binary_search_by(|(known, _)| known.key().cmp(&affixes.key())) {
            Ok(at) => self.affixed[list][at].1,
            Err(at) => {
                let child = self.add();
                self.affixed[list].insert(at, (affixes, child));
                child
            }
        }
    }

    fn add(&mut self) -> NodeId {
        self.nodes.push(NEW_NODE);
        side_id(self.nodes.len() - 1)
    }
}

/// A place in a table as it is kept in nodes. Four billion nodes do not fit into memory before they do not fit here.
fn side_id(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::first_segment;

    #[test]
    fn a_segment_ends_at_the_first_slash() {
        for len in 0..40 {
            let text = "-.0\u{ff}oO/".repeat(5);
            let plain: Vec<u8> = text.bytes().filter(|b| *b != b'/').take(len).collect();
            assert_eq!(first_segment(&plain), plain);
            for tail in 0..20 {
                let path: Vec<u8> = plain.iter().copied().chain([b'/'; 1]).chain(text.bytes().take(tail)).collect();
                assert_eq!(first_segment(&path), plain);
            }
        }
    }
}
