//! How an endpoint is chosen: what is wrong with what an upstream says of that, and what is right.
#![allow(clippy::unwrap_used)]

use super::balance::{Balance, Hash};
use super::filters::limits::Fact;
use super::parse;
use super::upstreams::Upstream;

/// An upstream `u` with these keys, and lines that follow.
fn read(keys: &str, more: &str) -> Result<Upstream, String> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:80 }}]\nupstreams: {{ u: {{ endpoints: [a:1], {keys} }}, v: {{ endpoints: [b:1] }} }}\n{more}"
    );
    parse("f", &text, &|_| None).map(|config| config.upstreams[0].clone()).map_err(|e| e.to_string())
}

#[test]
fn every_balancer_by_its_word_or_its_key() {
    let of = |balance: &str| read(&format!("balance: {balance}"), "").unwrap().balance;
    assert_eq!([of("p2c"), of("round_robin"), of("least_request")], {
        [Balance::P2c, Balance::RoundRobin, Balance::LeastRequest]
    });
    for (hash, by, max_load) in [
        ("{ hash: { ip: true } }", Fact::Ip, Some(125)),
        ("{ hash: { header: X-User } }", Fact::Header("x-user".parse().unwrap()), Some(125)),
        ("{ hash: { cookie: SID }, max_load: 101% }", Fact::Cookie("SID".into()), Some(101)),
        ("{ hash: { query: t }, max_load: 1000% }", Fact::Query("t".into()), Some(1000)),
        ("{ hash: { path: id }, max_load: none }", Fact::Path("id".into()), None),
    ] {
        let Balance::Hash(Hash { by: read, max_load: load }) = of(hash) else { panic!("{hash}") };
        assert_eq!((read.value, load), (by, max_load), "{hash}");
    }
}

#[test]
fn what_is_wrong_is_told_with_a_remedy() {
    for (balance, expected) in [
        (
            "least_requests",
            "f:2:46: upstreams.u.balance: `least_requests` is not a word that is known here (did you mean `least_request`?)",
        ),
        ("hash", "f:2:46: upstreams.u.balance: says not by what (like { hash: { header: x-user } })"),
        ("{}", "the key `hash` is missing"),
        ("{ max_load: none }", "the key `hash` is missing"),
        (
            "{ hash: {} }",
            "upstreams.u.balance.hash: says not by what (give exactly one of ip, header, cookie, query, path)",
        ),
        ("{ hash: { header: a, cookie: b } }", "upstreams.u.balance.hash.cookie: a second thing to stick by"),
        ("{ hash: { ip: false } }", "does not say by what"),
        ("{ hash: { header: 'a b' } }", "`a b` is not the name of a header (1 to 128 characters)"),
        ("{ hash: { header: '' } }", "is not the name of a header"),
        ("{ hash: { cookie: 'a=b' } }", "is not the name of a cookie"),
        ("{ hash: { query: 'a&b' } }", "is not the name of a query"),
        ("{ hash: { headr: a } }", "did you mean `header`?"),
        ("{ hash: { ip: true }, maxload: none }", "did you mean `max_load`?"),
        (
            "{ hash: { ip: true }, max_load: 100% }",
            "`100%` is no share that an endpoint can take (101% to 1000% of the average, or none)",
        ),
        ("{ hash: { ip: true }, max_load: 1.25 }", "101% to 1000%"),
        ("{ hash: { ip: true }, max_load: '%' }", "101% to 1000%"),
        ("{ hash: { ip: true }, max_load: 99999999999% }", "101% to 1000%"),
    ] {
        let error = read(&format!("balance: {balance}"), "").expect_err(balance);
        assert!(error.contains(expected), "{balance}: {error}");
        assert_eq!(error.lines().count(), 1, "{balance}: nothing follows from it: {error}");
    }
}

#[test]
fn an_endpoint_drains_only_if_it_says_so() {
    let drains = |endpoints: &str| -> Vec<bool> {
        let text =
            format!("listeners: [{{ address: 127.0.0.1:80 }}]\nupstreams: {{ u: {{ endpoints: [{endpoints}] }} }}");
        let config = parse("f", &text, &|_| None).unwrap();
        config.upstreams[0].endpoints.iter().map(|endpoint| endpoint.drain).collect()
    };
    assert_eq!(drains("a:1, { address: b:1 }, { address: c:1, drain: true }, { address: d:1, drain: false }"), {
        [false, false, true, false]
    });
    let error = read("balance: p2c", "").map(|_| ()).and_then(|()| {
        let text =
            "listeners: [{ address: 127.0.0.1:80 }]\nupstreams: { u: { endpoints: [{ address: a:1, weight: 0 }] } }";
        parse("f", text, &|_| None).map(|_| ()).map_err(|e| e.to_string())
    });
    assert!(error.unwrap_err().contains("allowed: 1 to 1000"));
}

#[test]
fn a_parameter_to_stick_by_is_one_of_every_route_that_uses_the_upstream() {
    let with = |more: &str| read("balance: { hash: { path: id } }", more);
    let routes = |routes: &str| with(&format!("routes: [{routes}]"));
    assert!(routes("{ match: { path: '/a/{id}' }, forward: { upstream: u } }, { match: { path: /b }, forward: { upstream: v } }").is_ok());
    let at = "f:2:62: upstreams.u.balance.hash.path: there is no path parameter `id` (the route";
    for (more, route) in [
        (
            "routes: [{ match: { path: '/a/{id}' }, forward: { upstream: u } },\n{ name: odd, match: { path: '/{other}' }, forward: { upstream: u } }]",
            "`odd` on line 4",
        ),
        (
            "routes: [{ name: odd, match: { path: /a }, aggregate: { parts: [{ name: p, upstream: u, request: { path: / } }] } }]",
            "`odd` on line 3",
        ),
        (
            "filters: { copy: { mirror: { upstream: u } } }\nroutes: [{ name: odd, match: { path: /a }, filters: [copy], forward: { upstream: v } }]",
            "`odd` on line 4",
        ),
        (
            "filters: { asks: { ext_auth: { upstream: u, path: / } } }\nall_routes: { filters: [asks] }\nroutes: [{ name: odd, match: { path: /a }, respond: {} }]",
            "`odd` on line 5",
        ),
    ] {
        let error = with(more).expect_err(more);
        assert!(error.starts_with(at) && error.contains(route), "{more}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
