//! A slow router written straight from the rules, and a comparison of random routes and requests with the real one.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::cmp::Reverse;

use http::Method;

use super::predicates::{Asked, Place, Predicate, Test};
use super::{Lookup, Params, RouteSpec, Router, TrailingSlash, Verdict};

/// A seeded generator (splitmix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(n).unwrap()).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

#[derive(Clone)]
struct Route {
    host: Option<&'static str>,
    path: String,
    methods: Vec<Method>,
    predicates: Vec<Predicate>,
    priority: i32,
    trailing_slash: TrailingSlash,
}

impl Route {
    fn spec(&self) -> RouteSpec<'_> {
        RouteSpec {
            host: self.host,
            path: &self.path,
            methods: &self.methods,
            predicates: &self.predicates,
            priority: self.priority,
            trailing_slash: self.trailing_slash,
        }
    }

    /// The patterns that it matches.
    fn forms(&self) -> Vec<String> {
        let other = if self.trailing_slash == TrailingSlash::Match { Some(other_form(&self.path)) } else { None };
        std::iter::once(self.path.clone()).chain(other).collect()
    }
}

/// With a slash at the end, or without the one that is there.
fn other_form(path: &str) -> String {
    path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned)
}

/// The header fields of a request.
struct Fields(Vec<(&'static str, &'static str)>);

impl Asked for Fields {
    fn has(&self, place: Place, name: &str, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        place == Place::Header && self.0.iter().any(|(known, value)| *known == name && is_meant(value.as_bytes()))
    }

    fn each<'r>(&'r self, place: Place, take: &mut dyn FnMut(Cow<'r, [u8]>, Cow<'r, [u8]>)) {
        let fields = self.0.iter().filter(|_| place == Place::Header);
        fields.for_each(|(name, value)| take(name.as_bytes().into(), value.as_bytes().into()));
    }
}

/// How special a match of a segment is (less is more so): its kind, its literal text, that in front.
type Rank = (u8, Reverse<usize>, Reverse<usize>);

/// The parameter's text if the segment matches, and how special the match is.
fn match_segment<'p>(pattern: &str, segment: &'p str) -> Option<(Rank, Option<&'p str>)> {
    let Some((before, tail)) = pattern.split_once('{') else {
        return (pattern == segment).then_some(((0, Reverse(0), Reverse(0)), None));
    };
    let after = tail.split_once('}').unwrap().1;
    let inner = segment.strip_prefix(before)?.strip_suffix(after)?;
    let kind = if before.len() + after.len() == 0 { 2 } else { 1 };
    (!inner.is_empty()).then_some(((kind, Reverse(before.len() + after.len()), Reverse(before.len())), Some(inner)))
}

/// Order of preference of a match, and what the parameters are.
type Match<'p> = ((bool, Reverse<usize>, Vec<Rank>), Vec<&'p str>);

fn match_path<'p>(pattern: &str, path: &'p str) -> Option<Match<'p>> {
    let (fixed, rest) = match pattern.split_once("/{*") {
        Some((fixed, _)) => (fixed, true),
        None => (pattern, false),
    };
    let fixed: Vec<&str> = fixed.split('/').skip(1).collect();
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    if fixed.len() > segments.len() || (!rest && fixed.len() < segments.len()) {
        return None;
    }
    let (mut ranks, mut params) = (Vec::new(), Vec::new());
    for (pattern, segment) in fixed.iter().zip(&segments) {
        let (rank, param) = match_segment(pattern, segment)?;
        ranks.push(rank);
        params.extend(param);
    }
    if rest {
        let used: usize = segments[..fixed.len()].iter().map(|s| s.len() + 1).sum();
        params.push(path.get(used + 1..).unwrap_or(""));
    }
    let length = if rest { fixed.len() } else { 0 };
    Some(((rest, Reverse(length), ranks), params))
}

fn host_rank(pattern: Option<&str>, host: &str) -> Option<(u8, Reverse<usize>)> {
    match pattern {
        None => Some((2, Reverse(0))),
        Some(pattern) => match pattern.strip_prefix('*') {
            Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some((1, Reverse(suffix.len()))),
            None => (host == pattern).then_some((0, Reverse(0))),
        },
    }
}

fn model(routes: &[Route], host: &str, path: &str, method: &Method, asked: &Fields) -> String {
    match taken(routes, host, path, method, asked) {
        Ok(found) => found,
        Err(allow) => {
            let other = other_form(path);
            // The other form has or lacks one slash, not several, and `//name` is another host to many.
            let has_other = path != "/" && !path.starts_with("//") && !other.ends_with("//") && !path.ends_with("//");
            if let (true, Ok(found)) = (has_other, taken(routes, host, &other, method, asked)) {
                let route: usize = found.split(':').next().unwrap().parse().unwrap();
                if routes[route].trailing_slash == TrailingSlash::Redirect {
                    return format!("308:{route} {other}");
                }
            }
            if allow.is_empty() { "404".into() } else { format!("405:{}", allow.join(", ")) }
        }
    }
}

/// The route and its parameters, or else the methods that are allowed.
fn taken(routes: &[Route], host: &str, path: &str, method: &Method, asked: &Fields) -> Result<String, Vec<String>> {
    let mut matches = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        for form in route.forms() {
            if let (Some(level), Some((rank, params))) = (host_rank(route.host, host), match_path(&form, path)) {
                let pattern = (level, Reverse(route.priority), rank);
                matches.push((pattern, Reverse(route.predicates.len()), index, params));
            }
        }
    }
    matches.sort();
    matches.retain(|(_, _, index, _)| routes[*index].predicates.iter().all(|predicate| predicate.holds(asked)));
    // No list means any method but CONNECT: all that the routes together know.
    let known = routes.iter().flat_map(|route| &route.methods);
    let any: Vec<Method> = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"]
        .iter()
        .map(|m| m.parse().unwrap())
        .chain(known.filter(|m| *m != Method::CONNECT).cloned())
        .collect();
    let listed = |index: usize| if routes[index].methods.is_empty() { &any } else { &routes[index].methods };
    let accepts = |index: usize| match routes[index].methods.as_slice() {
        [] => method != Method::CONNECT,
        methods => methods.contains(method),
    };
    for (pattern, _, index, params) in &matches {
        // The same pattern with the same predicates: a route that names HEAD goes before one that has it through GET.
        let same = |other: usize| routes[other].predicates == routes[*index].predicates;
        let others = || matches.iter().filter(|(other, _, i, _)| other == pattern && same(*i));
        let by_get = *method == Method::HEAD
            && routes[*index].methods.contains(&Method::GET)
            && !others().any(|(_, _, other, _)| accepts(*other));
        if accepts(*index) || by_get {
            return Ok(format!("{index}:{}", params.join(",")));
        }
    }
    let mut allow: Vec<String> =
        matches.iter().flat_map(|(_, _, i, _)| listed(*i)).map(|m| m.as_str().to_owned()).collect();
    if allow.iter().any(|method| method == "GET") {
        allow.push("HEAD".into());
    }
    allow.sort_unstable();
    allow.dedup();
    Err(allow)
}

fn random_path(random: &mut Random, segments: &[&str], depth: usize) -> String {
    let mut path = String::new();
    for _ in 0..random.below(depth) {
        path.push('/');
        path.push_str(random.of(segments));
    }
    path
}

fn random_route(random: &mut Random, methods: &[&[Method]]) -> Route {
    let segments = ["a", "b", "ab", "a{}", "{}b", "a{}b", "{}bb", "{}", "{}", ""];
    let mut path = random_path(random, &segments, 4);
    while let Some(at) = path.find("{}") {
        path.insert_str(at + 1, &format!("p{at}"));
    }
    if path.is_empty() || random.below(3) == 0 {
        path.push_str("/{*rest}");
    }
    let host = [None, None, Some("h.x.y"), Some("*.x.y"), Some("*.y")][random.below(5)];
    let trailing_slash = [TrailingSlash::Strict, TrailingSlash::Match, TrailingSlash::Redirect];
    Route {
        host,
        path,
        methods: random.of(methods).to_vec(),
        predicates: random_predicates(random),
        priority: [0, 0, 0, 0, 7, -3][random.below(6)],
        trailing_slash: trailing_slash[random.below(6).saturating_sub(3)],
    }
}

fn random_predicates(random: &mut Random) -> Vec<Predicate> {
    let mut predicates = Vec::new();
    for name in ["x", "y"] {
        let test = match random.below(10) {
            0 => Test::Present,
            1 => Test::Absent,
            2 => Test::Equals(vec!["1".into()]),
            3 => Test::Prefix("1".into()),
            _ => continue,
        };
        predicates.push(Predicate { place: Place::Header, name: name.into(), test, shown: String::new() });
    }
    predicates
}

fn random_fields(random: &mut Random) -> Fields {
    let mut fields = Fields(Vec::new());
    while random.below(2) == 0 && fields.0.len() < 4 {
        fields.0.push((["x", "y"][random.below(2)], ["1", "2", "12"][random.below(3)]));
    }
    fields
}

#[test]
fn agrees_with_the_rules_on_random_routes_and_requests() {
    let methods: [&[Method]; 6] = [
        &[],
        &[Method::GET],
        &[Method::POST],
        &[Method::HEAD, Method::PUT],
        &["PURGE".parse().unwrap()],
        &[Method::CONNECT],
    ];
    let asked: Vec<Method> =
        ["GET", "HEAD", "POST", "PUT", "PURGE", "BAN", "CONNECT"].iter().map(|m| m.parse().unwrap()).collect();
    let mut counts = [0; 4];
    for seed in 0..200 {
        let random = &mut Random(seed);
        let mut routes: Vec<Route> = Vec::new();
        for _ in 0..1 + random.below(60) {
            routes.push(random_route(random, &methods));
        }
        // Routes that conflict are taken out, which also shows that build names them all.
        let specs = |routes: &[Route]| -> Result<Router, Vec<usize>> {
            let specs: Vec<_> = routes.iter().map(Route::spec).collect();
            Router::build(&specs).map_err(|problems| problems.iter().map(|p| p.route).collect())
        };
        let router = specs(&routes).unwrap_or_else(|bad| {
            let mut index = 0;
            routes.retain(|_| (!bad.contains(&index), index += 1).0);
            specs(&routes).unwrap()
        });
        for _ in 0..300 {
            let segments = ["a", "b", "ab", "acb", "acbb", "abb", "z", ""];
            let mut path = random_path(random, &segments, 5);
            if !routes.is_empty() && random.below(4) == 0 {
                // One that differs from a route's by its last slash only.
                let route = &routes[random.below(routes.len())].path;
                path = other_form(
                    &route
                        .split('/')
                        .map(|part| if part.contains('{') { "acb" } else { part })
                        .collect::<Vec<_>>()
                        .join("/"),
                );
            }
            if path.is_empty() {
                path.push('/');
            }
            let host = random.of(&["", "h.x.y", "g.x.y", "x.y", "g.y", "g.h.x.y"]);
            let method = &asked[random.below(asked.len())];
            let fields = random_fields(random);
            let lookup = router.find(host, &path, method, &fields);
            let found = match &lookup {
                Lookup::Found { route, params } => format!("{route}:{}", texts(params, &path).join(",")),
                Lookup::Redirect { route, path } => format!("308:{route} {path}"),
                Lookup::MethodNotAllowed { allow } => format!("405:{allow}"),
                Lookup::NotFound => "404".into(),
            };
            let expected = model(&routes, host, &path, method, &fields);
            assert_eq!(found, expected, "seed {seed}: {method} {host} {path} {:?}", fields.0);
            explains(&router, &lookup, routes.len(), (host, &path, method, &fields));
            counts[match lookup {
                Lookup::Found { .. } => 0,
                Lookup::MethodNotAllowed { .. } => 1,
                Lookup::NotFound => 2,
                Lookup::Redirect { .. } => 3,
            }] += 1;
        }
    }
    assert!(counts[..3].iter().all(|count| *count > 2000) && counts[3] > 100, "the cases are lopsided: {counts:?}");
}

fn texts<'p>(params: &Params, path: &'p str) -> Vec<&'p str> {
    (0..params.len()).map(|i| params.get(i, path)).collect()
}

/// What is explained is what was found, and every route has its verdict.
fn explains(
    router: &Router,
    found: &Lookup,
    routes: usize,
    (host, path, method, fields): (&str, &str, &Method, &Fields),
) {
    let told = router.explain(host, path, method, fields);
    let context = || format!("{method} {host} {path} {:?}: {told:?}", fields.0);
    let mut seen: Vec<usize> = told.iter().map(|candidate| candidate.route).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..routes).collect::<Vec<_>>(), "each once: {}", context());
    let first = |verdict| told.iter().find(|candidate| candidate.verdict == verdict);
    let taken = first(Verdict::Matches).map(|candidate| (candidate.route, texts(&candidate.params, path)));
    match found {
        Lookup::Found { route, params } => {
            assert_eq!(taken, Some((*route, texts(params, path))), "{}", context());
        }
        Lookup::Redirect { route, .. } => {
            assert_eq!((taken, first(Verdict::Redirects).map(|c| c.route)), (None, Some(*route)), "{}", context());
        }
        Lookup::MethodNotAllowed { .. } => {
            assert!(taken.is_none() && first(Verdict::Method).is_some(), "{}", context());
        }
        Lookup::NotFound => {
            assert!(taken.is_none() && first(Verdict::Method).is_none(), "{}", context());
        }
    }
}
