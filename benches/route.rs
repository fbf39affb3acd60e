//! Cost of finding a route among overlapping ones. Target: 150 ns at 10,000.
//!
//! Per resource five routes that overlap (a literal, a parameter, a literal and a parameter under it, a prefix), under
//! catch-alls that match everything. Each iteration asks for another resource, so that caches are as cold as with real
//! traffic. `matchit` is what the router would be with that crate: two trees, patterns and then prefixes, without the
//! methods and without the right order of prefixes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use ringway::route::{Lookup, RouteSpec, Router};

const KINDS: [(&str, &str); 5] =
    [("literal", "/search"), ("param", "/1234"), ("params", "/1234/items/abc"), ("prefix", "/1/2/3/4"), ("bare", "")];

fn patterns(count: usize) -> Vec<String> {
    let mut patterns = vec!["/{*rest}".to_owned(), "/api/{version}/{*rest}".to_owned()];
    for i in 0.. {
        for tail in ["", "/{id}", "/search", "/{id}/items/{item}", "/{*rest}"] {
            if patterns.len() == count {
                return patterns;
            }
            patterns.push(format!("/api/v1/resource{i}{tail}"));
        }
    }
    patterns
}

/// One path per resource, in an order that jumps about.
fn paths(count: usize, tail: &str) -> Vec<String> {
    let resources = (count - 2).div_ceil(5);
    (0..resources).map(|i| format!("/api/v1/resource{}{tail}", i * 7919 % resources)).collect()
}

/// Calls `ask` with another path each time.
fn cycle<'a, T>(paths: &'a [String], ask: impl Fn(&'a str) -> T) -> impl FnMut() -> T {
    let mut next = 0;
    move || {
        next = if next + 1 >= paths.len() { 0 } else { next + 1 };
        ask(black_box(&paths[next]))
    }
}

fn find(c: &mut Criterion) {
    for count in [10, 1_000, 10_000] {
        let patterns = patterns(count);
        let specs: Vec<_> = patterns.iter().map(|path| RouteSpec { path, ..RouteSpec::default() }).collect();
        let Ok(router) = Router::build(&specs) else { panic!("the routes conflict") };
        for (kind, tail) in KINDS {
            let paths = paths(count, tail);
            let mut ask = cycle(&paths, |path| router.find("api.example.com", path, &Method::GET, &()));
            assert!(matches!(ask(), Lookup::Found { .. }));
            c.bench_function(&format!("find/{kind}/{count}"), |b| b.iter(&mut ask));
        }
        let mut ask = || router.find("api.example.com", black_box("/elsewhere/a/b"), &Method::GET, &());
        c.bench_function(&format!("find/catch_all/{count}"), |b| b.iter(&mut ask));
    }
}

fn hosts(c: &mut Criterion) {
    let hosts: Vec<_> =
        (0..1000).map(|i| (format!("api{i}.example.com"), format!("*.tenant{i}.example.com"))).collect();
    let specs: Vec<_> = hosts
        .iter()
        .flat_map(|(exact, wildcard)| [(exact, "/user/{*rest}"), (exact, "/user/{id}"), (wildcard, "/user/{*rest}")])
        .map(|(host, path)| RouteSpec { host: Some(host), path, methods: &[Method::GET], ..RouteSpec::default() })
        .collect();
    let Ok(router) = Router::build(&specs) else { panic!("the routes conflict") };
    let asked: Vec<_> = (0..1000).map(|i| format!("api{}.example.com", i * 619 % 1000)).collect();
    let mut ask = cycle(&asked, |host| router.find(host, "/user/1234", &Method::GET, &()));
    c.bench_function("host/exact", |b| b.iter(&mut ask));
    let asked: Vec<_> = (0..1000).map(|i| format!("a.b.tenant{}.example.com", i * 619 % 1000)).collect();
    let mut ask = cycle(&asked, |host| router.find(host, "/user/1234/a", &Method::GET, &()));
    c.bench_function("host/wildcard", |b| b.iter(&mut ask));
}

fn matchit(c: &mut Criterion) {
    for count in [10, 1_000, 10_000] {
        let (mut exact, mut prefixes) = (matchit::Router::new(), matchit::Router::new());
        for (i, pattern) in patterns(count).into_iter().enumerate() {
            let tree = if pattern.contains("{*") { &mut prefixes } else { &mut exact };
            assert!(tree.insert(pattern, i).is_ok());
        }
        for (kind, tail) in &KINDS[..4] {
            let paths = paths(count, tail);
            let mut ask = cycle(&paths, |path| exact.at(path).or_else(|_| prefixes.at(path)));
            c.bench_function(&format!("matchit/{kind}/{count}"), |b| b.iter(|| ask().map(|found| *found.value)));
        }
    }
}

fn build(c: &mut Criterion) {
    let patterns = patterns(10_000);
    let specs: Vec<_> = patterns.iter().map(|path| RouteSpec { path, ..RouteSpec::default() }).collect();
    c.bench_function("build/10000", |b| b.iter(|| Router::build(&specs).is_ok()));
}

criterion_group!(benches, find, hosts, matchit, build);
criterion_main!(benches);
