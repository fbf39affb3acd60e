//! A slow router written straight from the rules, and a comparison of random routes and requests with the real one.

#![allow(clippy::unwrap_used)]

use std::cmp::Reverse;

use http::Method;

use super::{Lookup, Params, RouteSpec, Router};

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

fn model(routes: &[Route], host: &str, path: &str, method: &Method) -> String {
    let mut matches = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        if let (Some(level), Some((rank, params))) = (host_rank(route.host, host), match_path(&route.path, path)) {
            matches.push((level, rank, index, params));
        }
    }
    matches.sort();
    // The same pattern: the route that names HEAD goes before the one that has it through GET.
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
    let by_get = |index: usize| method == Method::HEAD && routes[index].methods.contains(&Method::GET);
    for (level, rank, ..) in &matches {
        let same = || matches.iter().filter(|(l, r, ..)| (l, r) == (level, rank));
        let hit = same().find(|(_, _, index, _)| accepts(*index)).or_else(|| same().find(|(_, _, i, _)| by_get(*i)));
        if let Some((_, _, index, params)) = hit {
            return format!("{index}:{}", params.join(","));
        }
    }
    let mut allow: Vec<&str> = matches.iter().flat_map(|(_, _, i, _)| listed(*i)).map(|m| m.as_str()).collect();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.sort_unstable();
    allow.dedup();
    if allow.is_empty() { "404".into() } else { format!("405:{}", allow.join(", ")) }
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
    Route { host, path, methods: random.of(methods).to_vec() }
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
    let mut counts = [0; 3];
    for seed in 0..200 {
        let random = &mut Random(seed);
        let mut routes: Vec<Route> = Vec::new();
        for _ in 0..1 + random.below(60) {
            routes.push(random_route(random, &methods));
        }
        // Routes that conflict are taken out, which also shows that build names them all.
        let specs = |routes: &[Route]| -> Result<Router, Vec<usize>> {
            let specs: Vec<_> =
                routes.iter().map(|r| RouteSpec { host: r.host, path: &r.path, methods: &r.methods }).collect();
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
            if path.is_empty() {
                path.push('/');
            }
            let host = random.of(&["", "h.x.y", "g.x.y", "x.y", "g.y", "g.h.x.y"]);
            let method = &asked[random.below(asked.len())];
            let found = match router.find(host, &path, method) {
                Lookup::Found { route, params } => format!("{route}:{}", texts(&params, &path).join(",")),
                Lookup::MethodNotAllowed { allow } => format!("405:{allow}"),
                Lookup::NotFound => "404".into(),
            };
            let expected = model(&routes, host, &path, method);
            assert_eq!(found, expected, "seed {seed}: {method} {host} {path}");
            counts[if found.starts_with("405:") { 1 } else { usize::from(found == "404") * 2 }] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 2000), "the cases are lopsided: {counts:?}");
}

fn texts<'p>(params: &Params, path: &'p str) -> Vec<&'p str> {
    (0..params.len()).map(|i| params.get(i, path)).collect()
}
