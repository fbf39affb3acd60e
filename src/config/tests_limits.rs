//! What is wrong with limits, and what is right.
#![allow(clippy::unwrap_used)]

use super::filters::Filter;
use super::filters::limits::{Fact, Headers, RateLimit};
use super::parse;
use crate::value::Duration;

/// The limit of a config whose one filter `f` says this, used by one route with these keys.
fn read(filter: &str, route: &str) -> Result<super::Config, String> {
    parse("f", &document(filter, route), &|_| None).map_err(|e| e.to_string())
}

fn document(filter: &str, route: &str) -> String {
    format!(
        "listeners: [{{ address: 127.0.0.1:80 }}]\nfilters: {{ f: {{ {filter} }} }}\n\
         routes: [{{ match: {{ path: \"/u/{{id}}\" }}, filters: [f], respond: {{}}{route} }}]"
    )
}

fn error(filter: &str, route: &str) -> String {
    read(filter, route).unwrap_err()
}

fn limit(keys: &str) -> RateLimit {
    let config = read(&format!("rate_limit: {{ {keys} }}"), "").unwrap();
    match &config.filters[0].filter {
        Filter::RateLimit(limit) => RateLimit::clone(limit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rate_is_enough() {
    let limit = limit("rate: 100/s");
    assert_eq!(
        (limit.burst.value, limit.keys_max, limit.headers, limit.dry_run),
        (100, 100_000, Headers::Draft, false)
    );
    assert_eq!(limit.key.iter().map(|fact| fact.value.clone()).collect::<Vec<_>>(), [Fact::Ip]);
    assert_eq!(
        (limit.lease, limit.overdraft, limit.reserve, limit.shared.is_none()),
        (Duration::from_secs(1), None, false, true)
    );
    assert_eq!(self::limit("rate: 5/m, burst: 20").burst.value, 20);
    let keys = self::limit("rate: 1/s, key: [header.X-Key, path.id, route, principal]").key;
    let facts: Vec<_> = keys.into_iter().map(|fact| fact.value).collect();
    assert_eq!(
        facts,
        [Fact::Header(http::HeaderName::from_static("x-key")), Fact::Path("id".into()), Fact::Route, Fact::Principal]
    );
    assert!(self::limit("rate: 1/s, key: none").key.is_empty());
}

#[test]
fn what_is_no_limit_is_refused_with_its_remedy() {
    for (filter, expected) in [
        ("rate_limit: {}", "f:2:17: filters.f.rate_limit: the key `rate` is missing (add it)"),
        ("rate_limit: { rate: 100 }", "is not a rate (write how many in which time, like 100/s"),
        ("rate_limit: { rate: 0/s }", "lets nothing pass"),
        ("rate_limit: { rate: 1/s, burst: 0 }", "allowed: 1 to"),
        ("rate_limit: { rate: 1/d, burst: 4000000000 }", "is not a burst for this rate"),
        ("rate_limit: { rate: 1/s, key: address }", "is nothing that a limit can count by (write ip, header.NAME"),
        ("rate_limit: { rate: 1/s, key: header. }", "is nothing that a limit can count by"),
        ("rate_limit: { rate: 1/s, key: [ip, ip] }", "one of its facts is there twice"),
        ("rate_limit: { rate: 1/s, key: [] }", "has 0 items"),
        (
            "rate_limit: { rate: 1/s, key: path.user }",
            "there is no path parameter `user` (the route `/u/{id}` on line 3 uses",
        ),
        ("rate_limit: { rate: 1/s, keys: 0 }", "allowed: 1 to 4000000"),
        ("rate_limit: { rate: 1/s, keys: 4000001 }", "allowed: 1 to 4000000"),
        ("concurrency: { max: 1, keys: 4000001 }", "allowed: 1 to 4000000"),
        ("rate_limit: { rate: 1.5/s }", "`1.5` is not a whole number (write how many in which time"),
        ("rate_limit: { rate: 1/s, headers: standard }", "allowed: off, draft, legacy"),
        ("rate_limit: { rate: 1/s, brust: 2 }", "did you mean `burst`?"),
        ("rate_limit: { rate: 1/s }, concurrency: { max: 1 }", "a filter does one thing, and this is a second"),
        ("concurrency: {}", "the key `max` is missing"),
        ("concurrency: { max: 0 }", "allowed: 1 to"),
        ("concurrency: { max: 1, queue_timeout: 1s }", "nothing waits without a queue (give queue, or remove it)"),
        ("concurrency: { max: 1, queue: 100000 }", "allowed: 0 to 10000"),
    ] {
        let error = error(filter, "");
        assert!(error.contains(expected), "{filter}: {error}");
        assert_eq!(error.lines().count(), 1, "{filter}: nothing follows from it: {error}");
    }
}

#[test]
fn a_cost_is_a_number_or_one_by_filter_and_fits_the_burst() {
    let cost = |route: &str| read("rate_limit: { rate: 10/s }", route).map(|config| config.routes[0].costs.of("f"));
    assert_eq!(cost(""), Ok(1));
    assert_eq!(cost(", cost: 3"), Ok(3));
    assert_eq!(cost(", cost: { f: 0 }"), Ok(0));
    for (route, expected) in [
        (
            ", cost: 11",
            "11 is not a cost for this burst of the rate limit `f` (write 1 to 10, since no more is ever there at once)",
        ),
        (", cost: { f: 11 }", "is not a cost for this burst"),
        (", cost: { g: 1 }", "unknown filter `g` (did you mean `f`?"),
        (", cost: {}", "names no filter"),
        (", without: [], cost: { busy: 1 }", "`busy` is no rate limit: it takes no tokens (remove it, or name one)"),
        (
            ", cost: { other: 1 }",
            "the route `/u/{id}` on line 3 does not use `other` (add it to its filters, or remove it here)",
        ),
        (", cost: -1", "is not a whole number"),
    ] {
        let more =
            "rate_limit: { rate: 10/s } }, busy: { concurrency: { max: 1 } }, other: { rate_limit: { rate: 1/s }";
        let error = error(more, route);
        assert!(error.contains(expected), "{route}: {error}");
        assert_eq!(error.lines().count(), 1, "{route}: {error}");
    }
}

#[test]
fn what_is_about_redis_needs_one() {
    for key in ["lease: 1s", "reserve: false", "overdraft: 2", "on_unavailable: deny"] {
        let filter = format!("rate_limit: {{ rate: 100/s, {key} }}");
        let (name, _) = key.split_once(':').unwrap();
        let error = error(&filter, "");
        assert!(error.contains("and there is none (give rate_limits.redis.url, or remove it)"), "{key}: {error}");
        assert!(error.contains(&format!("filters.f.rate_limit.{name}: ")), "{key}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let text = format!("{}\nrate_limits: {{ redis: {{ url: 'redis://a' }} }}", document(&filter, ""));
        assert!(parse("f", &text, &|_| None).is_ok(), "{text}");
        let wrong = text.replace("lease: 1s", "lease: 10ms");
        assert!(
            wrong == text || parse("f", &wrong, &|_| None).unwrap_err().to_string().contains("allowed: 200ms to 1m")
        );
    }
}

#[test]
fn what_redirects_all_requests_has_no_filters() {
    let listener = |keys: &str| {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:80{keys} }}]\nfilters: {{ f: {{ rate_limit: {{ rate: 1/s }} }} }}"
        );
        parse("f", &text, &|_| None).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(
        listener(", https_redirect: 443, filters: [f]").unwrap_err(),
        "f:1:59: listeners[0].filters: this listener sends all requests to https before any filter (write them at the \
         listener with `tls`)"
    );
    for fine in [", https_redirect: 443, filters: []", ", https_redirect: none, filters: [f]", ", filters: [f]"] {
        assert_eq!(listener(fine), Ok(()), "{fine}");
    }
}

/// A config with these filters of all routes, of its listener, and of its routes.
fn ordered(all: &str, listener: &str, routes: &[&str]) -> Result<(), String> {
    let mut text = format!(
        "listeners: [{{ address: 127.0.0.1:80, filters: {listener} }}]\nfilters:\n  a: {{ concurrency: {{ max: 1, queue: 1 }} }}\n  \
         b: {{ concurrency: {{ max: 1, queue: 1 }} }}\n  c: {{ concurrency: {{ max: 1, queue: 1 }} }}\n  \
         none: {{ concurrency: {{ max: 1 }} }}\n  dry: {{ concurrency: {{ max: 1, queue: 1, dry_run: true }} }}\n\
         all_routes: {{ filters: {all} }}\nroutes:\n"
    );
    for (i, filters) in routes.iter().enumerate() {
        text.push_str(&format!("  - {{ match: {{ path: /{i} }}, filters: {filters}, respond: {{}} }}\n"));
    }
    parse("f", &text, &|_| None).map(drop).map_err(|e| e.to_string())
}

#[test]
fn limits_that_are_waited_for_come_in_one_order() {
    assert_eq!(
        ordered("[]", "[]", &["[a, b]", "[b, a]"]).unwrap_err(),
        "f:11:41: routes[1].filters[1]: requests of the route `/1` on line 11 hold `b` and wait for `a`, those of the route \
         `/0` on line 10 hold `a` and wait for `b` (line 10, column 41): they can wait for each other (list them in the same \
         order everywhere, or give one of them no queue)"
    );
    for (all, listener, routes) in [
        ("[a]", "[]", ["[b]", "[c]"].as_slice()),
        ("[]", "[a]", &["[b]", "[a, b]"]),
        ("[]", "[]", &["[a, b]", "[b, c]", "[a, c]"]),
        ("[]", "[]", &["[a, none]", "[none, a]"]),
        ("[]", "[]", &["[a, dry]", "[dry, a]"]),
        ("[]", "[]", &["[a, b]", "[b]", "[a]"]),
        ("[a]", "[]", &["[b], without: [a]", "[b]"]),
    ] {
        assert_eq!(ordered(all, listener, routes), Ok(()), "{all} {listener} {routes:?}");
    }
    for (all, listener, routes) in [
        ("[a]", "[]", ["[b]", "[b, a], without: []", "[b]"].as_slice()),
        ("[]", "[]", &["[a, b]", "[b, c]", "[c, a]"]),
        ("[a]", "[b]", &["[]", "[b, c, a]"]),
    ] {
        let is_wrong = ordered(all, listener, routes);
        if all == "[]" {
            assert_eq!(is_wrong.unwrap_err().lines().count(), 1, "{routes:?}");
        } else {
            assert_eq!(is_wrong, Ok(()), "what is for all comes first everywhere: {routes:?}");
        }
    }
}
