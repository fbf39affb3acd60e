//! Lines that filters put into every answer, by the example of `security_headers`: an upstream's answer, one that was put
//! together, and every one that the gateway makes itself.

use crate::support::message::ok;
use crate::support::misbehave::{answers, closes_before_the_answer};
use crate::support::{Client, Setup, Upstream};

const NAMES: [&str; 6] = [
    "x-content-type-options",
    "x-frame-options",
    "content-security-policy",
    "referrer-policy",
    "permissions-policy",
    "x-permitted-cross-domain-policies",
];

fn upstream() -> Upstream {
    Upstream::start(answers(
        "HTTP/1.1 200 OK\r\nX-Frame-Options: SAMEORIGIN\r\nreferrer-policy: origin\r\nContent-Length: 2\r\n\r\nhi",
    ))
}

fn with(upstream: &Upstream, keys: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ safe: {{ security_headers: {{ {keys} }} }} }}"))
        .forward_all("filters: [safe]")
}

#[test]
fn the_preset_is_added_and_what_the_upstream_says_is_kept() {
    let upstream = upstream();
    let gateway = with(&upstream, "").start();
    let answer = gateway.get("/a");
    assert_eq!(answer.fields.all("x-frame-options"), ["SAMEORIGIN"]);
    assert_eq!(answer.fields.all("referrer-policy"), ["origin"]);
    assert_eq!(answer.fields.get("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.fields.get("content-security-policy"), Some("frame-ancestors 'none'"));
    assert_eq!(answer.text(), "hi");
    assert!(NAMES.iter().all(|name| answer.fields.has(name)), "{answer:?}");
}

#[test]
fn with_override_the_upstreams_are_replaced() {
    let upstream = upstream();
    let keys = "override: true, frame_options: DENY, referrer_policy: off, opener_policy: same-origin";
    let answer = with(&upstream, keys).start().get("/a");
    assert_eq!(answer.fields.all("x-frame-options"), ["DENY"]);
    assert_eq!(answer.fields.all("referrer-policy"), ["origin"], "what is off is not ours");
    assert_eq!(answer.fields.get("cross-origin-opener-policy"), Some("same-origin"));
}

#[test]
fn every_answer_has_them() {
    let upstream = Upstream::start(answers(ok("{}")));
    let broken = Upstream::start(closes_before_the_answer);
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream("broken", &[&broken], "")
        .top("filters: { safe: { security_headers: {} }, fair: { rate_limit: { rate: 1/h } } }")
        // Behind the one that refuses, and yet its answer has them.
        .top("all_routes: { filters: [fair, safe] }")
        .route("match: { path: /ok }, forward: { upstream: u }, without: [fair]")
        .route("match: { path: /bad }, forward: { upstream: broken }, without: [fair]")
        .route("match: { path: /limited }, forward: { upstream: u }")
        .route("match: { path: /post, methods: [POST] }, forward: { upstream: u }, without: [fair]")
        .route("match: { path: /here }, respond: { status: 200, headers: { x-frame-options: SAMEORIGIN } }, without: [fair]")
        .route("match: { path: /moved }, redirect: { to: /here }, without: [fair]")
        .route("match: { path: /many }, aggregate: { parts: [{ name: a, upstream: u, request: { path: / } }] }, without: [fair]")
        .route("match: { path: /bare }, respond: {}, without: [fair, safe]")
        .start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/limited").status, 200);
    for (path, status) in [
        ("/ok", 200),
        ("/bad", 502),
        ("/limited", 429),
        ("/post", 405),
        ("/nowhere", 404),
        ("/here", 200),
        ("/moved", 308),
        ("/many", 200),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        for name in NAMES {
            assert_eq!(answer.fields.all(name).len(), 1, "{path}: {name}: {answer:?}");
        }
    }
    assert_eq!(gateway.get("/here").fields.get("x-frame-options"), Some("SAMEORIGIN"), "the route's own is kept");
    assert!(!gateway.get("/bare").fields.has("x-frame-options"));
    let counted = gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "safe"), ("outcome", "passed")]);
    assert!(counted >= 8.0, "{counted}");
    // What one request was told is not told to the next of its connection.
    assert_eq!(client.get("/ok").fields.all("x-frame-options"), ["DENY"]);
    assert!(!client.get("/bare").fields.has("x-frame-options"));
}
