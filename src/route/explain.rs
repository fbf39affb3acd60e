//! Which routes a request could take, and why it takes none of the others: for people, not for requests.

use http::Method;

use super::method::Set;
use super::params::Params;
use super::path::Search;
use super::predicates::{Asked, Place};
use super::{Lookup, Router};

/// What is to be said of a route and a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches. The first one that does is the route that is taken.
    Matches,
    /// Its path has or lacks a slash at the end, and it sends the client to the other form.
    Redirects,
    /// All but the method fits.
    Method,
    /// Host and path fit, but not this.
    Predicate {
        /// Where it looks.
        place: Place,
        /// What it looks at.
        name: String,
        /// What it is not; without any value of the request.
        why: String,
    },
    /// It is for other hosts.
    OtherHost,
    /// It is for other paths.
    OtherPath,
}

/// A route, and what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its index in what the router was built from.
    pub route: usize,
    /// Whether it matches.
    pub verdict: Verdict,
    /// What its parameters match; none if host or path do not.
    pub params: Params,
}

/// How a walk has come by a leaf.
#[derive(Clone, Copy)]
pub(super) enum Passed {
    /// The pattern matches the whole path.
    Whole,
    /// The pattern goes on with `{*rest}`, after so many segments, from there in the path.
    Rest { depth: usize, at: usize },
}

/// What a walk has seen that is to tell all candidates instead of finding one.
pub(super) struct Trace {
    /// The method that is looked for.
    pub(super) method: Set,
    seen: Vec<(Passed, Candidate)>,
    /// Where the walk that is under way began.
    began: usize,
}

impl Trace {
    pub(super) fn note(&mut self, route: u32, verdict: Verdict, passed: Passed, mut params: Params, path_len: usize) {
        if let Passed::Rest { at, .. } = passed {
            params.push(at.min(path_len), path_len);
        }
        self.seen.push((passed, Candidate { route: route as usize, verdict, params }));
    }

    /// Puts what a walk has seen into the order of preference: whole paths as they were passed, then the deepest rest.
    pub(super) fn end_of_walk(&mut self) {
        let rank = |passed: &Passed| match passed {
            Passed::Whole => usize::MAX,
            Passed::Rest { depth, .. } => *depth,
        };
        if let Some(of_walk) = self.seen.get_mut(self.began..) {
            of_walk.sort_by_key(|(passed, _)| std::cmp::Reverse(rank(passed)));
        }
        self.began = self.seen.len();
    }
}

impl Router {
    /// What is to be said of every route and a request, which is as for [`Router::find`]: first those whose host and path
    /// fit, in the order in which they are asked, then all others. It walks by the code of `find`.
    #[must_use]
    pub fn explain(&self, host: &str, path: &str, method: &Method, asked: &dyn Asked) -> Vec<Candidate> {
        let mut trace = Trace { method: self.methods.bit(method), seen: Vec::new(), began: 0 };
        let mut asked_levels = Vec::new();
        if path.len() <= usize::from(u16::MAX) {
            // No route is found by a method that there is not, so that the walk goes everywhere.
            let mut search = Search::new(path, 0, asked);
            search.trace = Some(&mut trace);
            self.hosts.find(host, |level| {
                asked_levels.push(std::ptr::from_ref(level));
                level.find(&mut search)
            });
        }
        let mut candidates: Vec<Candidate> = trace.seen.into_iter().map(|(_, candidate)| candidate).collect();
        let mut known: std::collections::HashSet<usize> = candidates.iter().map(|candidate| candidate.route).collect();
        let redirect = match self.find(host, path, method, asked) {
            Lookup::Redirect { route, .. } => Some(route),
            _ => None,
        };
        let mut others = Vec::new();
        for level in self.hosts.levels() {
            let is_asked = asked_levels.iter().any(|asked| std::ptr::eq(*asked, level));
            for route in level.trees().flat_map(|tree| tree.routes()).map(|route| route as usize) {
                if !known.insert(route) {
                    continue;
                }
                let verdict = match is_asked {
                    _ if redirect == Some(route) => Verdict::Redirects,
                    true => Verdict::OtherPath,
                    false => Verdict::OtherHost,
                };
                others.push(Candidate { route, verdict, params: Params::default() });
            }
        }
        others.sort_by_key(|other| (other.verdict != Verdict::Redirects, other.route));
        candidates.append(&mut others);
        candidates
    }
}
