//! Lines that filters put into every answer, by the example of `security_headers`: an upstream's answer, one that was put
//! together, and every one that the gateway makes itself.

use crate::support::foreign::{curl, url};
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

/// Requests that can not be read, and the statuses of their answers.
fn unreadable() -> Vec<(String, u16)> {
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let fields: String = (0..30).map(|n| format!("x{n}: y\r\n")).collect();
    vec![
        (get("/a b", ""), 400),
        ("GET /get HTTP/1.1\r\n\r\n".into(), 400),
        ("GET /get HTTP/1.1\nHost: a\n\n".into(), 400),
        ("\u{16}\u{3}\u{1}\r\n\r\n".into(), 400),
        (get("/%00", ""), 400),
        (get(&format!("/{}", "a".repeat(2000)), ""), 414),
        (get("/get", &format!("x: {}\r\n", "y".repeat(6000))), 431),
        (get("/get", &fields), 431),
        (get("/get", "Transfer-Encoding: gzip\r\n"), 501),
        ("GET /get HTTP/3.0\r\nHost: a\r\n\r\n".into(), 505),
        ("GET /get HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example.com\r\nAccept-Encoding: gz".into(), 408),
    ]
}

const BOUNDS: &str = "bounds: { head: 4KiB, headers: 20, target: 1KiB }";
const FILTERS: &str = "filters: { safe: { security_headers: { content_security_policy: off, frame_options: SAMEORIGIN } }, \
                       web: { cors: { origins: [\"https://app.example.com\"] } }, small: { compress: { min_size: 1B } }, \
                       locked: { ip: { deny: [0.0.0.0/0] } } }";

#[test]
fn requests_that_can_not_be_read_are_answered_with_them_too() {
    let upstream = upstream();
    let setup = || {
        let setup = Setup::new().upstream("u", &[&upstream], "").top(FILTERS).listener(BOUNDS);
        setup.listener("timeouts: { request_header: 500ms }").forward_all("")
    };
    let everywhere = setup().top("all_routes: { filters: [locked, safe, web, small] }").start();
    let at_the_listener = setup().listener("filters: [web, small, safe]").start();
    for gateway in [&everywhere, &at_the_listener] {
        for (request, status) in unreadable() {
            let mut client = Client::connect(gateway);
            client.send(&request);
            let answer = client.response();
            answer.is_gateways_own(status);
            assert_eq!(answer.fields.all("x-frame-options"), ["SAMEORIGIN"], "{request:?}: {answer:?}");
            assert_eq!(answer.fields.all("x-content-type-options"), ["nosniff"], "{answer:?}");
            // What is off stays off, and what asks the request does not act: nothing of it is believed.
            for name in ["content-security-policy", "access-control-allow-origin", "content-encoding", "vary"] {
                assert!(!answer.fields.has(name), "{name}: {answer:?}");
            }
            client.is_closed();
        }
    }
    let counted =
        everywhere.metrics().sum("ringway_filter_requests_total", &[("filter", "safe"), ("outcome", "passed")]);
    assert!(counted >= unreadable().len() as f64, "{counted}");
    // One that a route uses is none for all.
    let at_a_route = Setup::new().upstream("u", &[&upstream], "").top(FILTERS).listener(BOUNDS);
    let at_a_route = at_a_route.forward_all("filters: [safe]").start();
    let answer = at_a_route.ask("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.fields.has("x-frame-options")), (400, false));
}

#[test]
fn what_curl_reads_of_a_head_that_is_too_large_has_them() {
    let upstream = upstream();
    let gateway = Setup::new().upstream("u", &[&upstream], "").top(FILTERS).top("all_routes: { filters: [safe] }");
    let gateway = gateway.listener(BOUNDS).forward_all("").start();
    let large = format!("x-large: {}", "y".repeat(6000));
    let head = curl(&["-o", "/dev/null", "-D", "-", "-H", &large, &url(gateway.addr)]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 431 "), "{head}");
    assert!(head.contains("x-frame-options: sameorigin\r\n") && head.contains("x-content-type-options: nosniff\r\n"));
}

#[test]
fn a_connection_over_the_cap_is_told_with_them() {
    let upstream = upstream();
    // Over TLS it is closed without an answer.
    let setup = Setup::forward(&upstream).plain().top(FILTERS).top("all_routes: { filters: [safe, web] }");
    let gateway = setup.listener("bounds: { connections: 1 }").start();
    let mut first = Client::connect(&gateway);
    assert_eq!(first.get("/x").status, 200);
    let answer = Client::connect(&gateway).response();
    answer.is_gateways_own(503);
    assert_eq!(
        (answer.fields.all("x-frame-options"), answer.fields.get("retry-after")),
        (vec!["SAMEORIGIN"], Some("1"))
    );
    assert_eq!(answer.fields.all("content-length").len(), 1);
}
