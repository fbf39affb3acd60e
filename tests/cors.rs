//! `cors`: a browser's sequence of preflight and request, as the Fetch standard has it (`support/browser.rs`), and what is
//! on the wire.

use crate::support::browser::{Fetch, Page};
use crate::support::message::ok;
use crate::support::misbehave::{answers, closes_before_the_answer};
use crate::support::{Client, Setup, Upstream};

const APP: &str = "https://app.example.com";

fn upstream() -> Upstream {
    // An upstream with CORS of its own, which would double the gateway's.
    Upstream::start(answers(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-expose-headers: X-Secret\r\nX-Secret: s\r\n\
         X-Total: 7\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nhi",
    ))
}

fn cors(upstream: &Upstream, keys: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ web: {{ cors: {{ {keys} }} }} }}"))
        .forward_all("filters: [web]")
}

fn preflight(path: &str, origin: &str, method: &str, more: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n{more}\r\n"
    )
}

#[test]
fn a_browser_asks_first_and_then_reads_the_answer() {
    let upstream = upstream();
    let keys = format!("origins: [\"{APP}\"], headers: [content-type, authorization], expose_headers: [x-total]");
    let gateway = cors(&upstream, &keys).start();
    let mut page = Page::of(APP, &gateway);
    let put = Fetch::new("PUT", "/a").field("Content-Type", "application/json").field("Authorization", "Bearer t");
    let seen = page.fetch(&put).unwrap();
    assert_eq!((seen.status, seen.field("x-total"), seen.field("x-secret")), (200, Some("7"), None));
    assert_eq!((page.preflights, seen.body.as_str()), (1, "hi"));
    page.fetch(&put).unwrap();
    assert_eq!(page.preflights, 1, "it is remembered");
    page.fetch(&Fetch::new("GET", "/a")).unwrap();
    assert_eq!(page.preflights, 1, "a simple request needs none");
    let methods: Vec<String> = upstream.requests().iter().map(|r| r.method.clone()).collect();
    assert_eq!(methods, ["PUT", "PUT", "GET"], "no preflight is forwarded");
    let refused = page.fetch(&Fetch::new("GET", "/b").field("X-Odd", "1")).unwrap_err();
    assert!(refused.contains("x-odd is not in Access-Control-Allow-Headers"), "{refused}");
    let refused = page.fetch(&Fetch::new("PURGE", "/b")).unwrap_err();
    assert!(refused.contains("PURGE is not in Access-Control-Allow-Methods"), "{refused}");
    let refused = page.fetch(&Fetch::new("GET", "/b").with_credentials()).unwrap_err();
    assert!(refused.contains("Access-Control-Allow-Credentials"), "{refused}");
    let mut other = Page::of("https://evil.example", &gateway);
    assert!(other.fetch(&put).unwrap_err().contains("no Access-Control-Allow-Origin: 403"));
    assert!(other.fetch(&Fetch::new("GET", "/a")).unwrap_err().contains("no Access-Control-Allow-Origin: 200"));
}

#[test]
fn what_is_on_the_wire() {
    let upstream = upstream();
    let keys = format!("origins: [\"{APP}\"], headers: [x-a, x-b], max_age: 1h, expose_headers: [x-total]");
    let gateway = cors(&upstream, &keys).start();
    let mut client = Client::connect(&gateway);
    let answer = client.ask(preflight("/a", APP, "PUT", "Access-Control-Request-Headers: x-a\r\n"));
    assert_eq!(answer.status, 204, "{answer:?}");
    let get = |name: &str| answer.fields.get(name);
    assert_eq!(get("access-control-allow-origin"), Some(APP));
    assert_eq!(get("access-control-allow-methods"), Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
    assert_eq!((get("access-control-allow-headers"), get("access-control-max-age")), (Some("x-a, x-b"), Some("3600")));
    assert_eq!(answer.fields.all("vary"), ["Origin", "Access-Control-Request-Method, Access-Control-Request-Headers"]);
    assert!(get("access-control-allow-credentials").is_none() && get("access-control-expose-headers").is_none());
    let answer = client.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\nOrigin: {APP}\r\n\r\n"));
    assert_eq!(answer.fields.get("access-control-allow-origin"), Some(APP), "only ours: {answer:?}");
    assert_eq!(answer.fields.get("access-control-expose-headers"), Some("x-total"));
    assert_eq!(answer.fields.all("vary"), ["Accept", "Origin"]);
    for fields in ["", "Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin:\r\n"] {
        let answer = client.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!((answer.status, answer.fields.all("vary")), (200, vec!["Accept", "Origin"]), "{fields:?}");
        let named: Vec<_> =
            answer.fields.0.iter().filter(|(n, _)| n.to_lowercase().starts_with("access-control")).collect();
        assert!(named.is_empty(), "{fields:?}: {named:?}");
    }
    let refused = client.ask(preflight("/a", "https://evil.example", "PUT", ""));
    refused.is_gateways_own(403);
    assert!(refused.fields.0.iter().all(|(n, _)| !n.to_lowercase().starts_with("access-control")), "{refused:?}");
    let line = gateway.wait_log(|line| line["status"] == 403);
    assert_eq!((&line["refused_by"], &line["end"]), (&"web".into(), &"filter_refused".into()));
}

#[test]
fn routes_that_do_not_list_options_answer_preflights_and_others_forward_them() {
    let upstream = Upstream::start(answers(ok("hi")));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ web: {{ cors: {{ origins: [\"{APP}\"] }} }} }}"))
        .route("match: { path: /a, methods: [POST] }, filters: [web], forward: { upstream: u }")
        .route("match: { path: /a, methods: [DELETE] }, forward: { upstream: u }")
        .route("match: { path: /theirs }, forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask(preflight("/a", APP, "POST", "")).status, 204);
    assert_eq!(client.ask(preflight("/a", APP, "DELETE", "")).status, 405, "that route has no cors, and no OPTIONS");
    assert_eq!(client.ask(preflight("/a", APP, "PUT", "")).status, 405);
    assert_eq!(client.ask(preflight("/none", APP, "POST", "")).status, 404);
    // OPTIONS that are no preflights are requests like any others.
    assert_eq!(client.ask("OPTIONS /a HTTP/1.1\r\nHost: h\r\n\r\n").status, 405);
    assert_eq!(client.ask(format!("OPTIONS /a HTTP/1.1\r\nHost: h\r\nOrigin: {APP}\r\n\r\n")).status, 405);
    assert_eq!(client.ask(preflight("/a", APP, "not a method", "")).status, 405);
    assert!(upstream.heads().is_empty());
    assert_eq!(client.ask(preflight("/theirs", APP, "POST", "")).text(), "hi", "an upstream may have CORS of its own");
    assert_eq!(upstream.requests()[0].method, "OPTIONS");
}

#[test]
fn every_answer_can_be_read_by_the_page() {
    let upstream = Upstream::start(answers(ok("{}")));
    let broken = Upstream::start(closes_before_the_answer);
    let filters = format!(
        "filters: {{ web: {{ cors: {{ origins: [\"{APP}\"], credentials: true }} }}, fair: {{ rate_limit: {{ rate: 1/h }} }}, \
         office: {{ ip: {{ allow: [203.0.113.0/24] }} }} }}"
    );
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream("broken", &[&broken], "")
        .top(&filters)
        .top("all_routes: { filters: [web] }")
        .route("match: { path: /ok }, forward: { upstream: u }")
        .route("match: { path: /bad }, forward: { upstream: broken }")
        .route("match: { path: /limited }, filters: [fair], forward: { upstream: u }")
        .route("match: { path: /office }, filters: [office], forward: { upstream: u }")
        .route("match: { path: /post, methods: [POST] }, forward: { upstream: u }")
        .route("match: { path: /star }, respond: { headers: { Access-Control-Allow-Origin: '*' } }")
        .route(
            "match: { path: /set }, forward: { upstream: u, response_headers: { set: { Access-Control-Allow-Origin: '*' } } }",
        )
        .route("match: { path: /many }, aggregate: { parts: [{ name: a, upstream: u, request: { path: / } }] }")
        .start();
    let mut page = Page::of(APP, &gateway);
    assert_eq!(page.fetch(&Fetch::new("GET", "/limited").with_credentials()).unwrap().status, 200);
    for (path, status) in [
        ("/ok", 200),
        ("/bad", 502),
        ("/limited", 429),
        ("/office", 403),
        ("/post", 405),
        ("/none", 404),
        ("/star", 200),
        ("/set", 200),
        ("/many", 200),
    ] {
        let seen = page.fetch(&Fetch::new("GET", path).with_credentials()).map(|seen| seen.status);
        assert_eq!(seen, Ok(status), "{path}");
    }
    // A preflight is refused by no other filter: it can not show who asks.
    let put = Fetch::new("PUT", "/office");
    assert_eq!(page.fetch(&put).map(|seen| seen.status), Ok(403));
    assert_eq!(page.preflights, 1);
}

#[test]
fn of_two_on_a_route_the_last_one_answers_everything() {
    let upstream = upstream();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(
            "filters: { all: { cors: { origins: [\"https://a.example\"] } }, own: { cors: { origins: [\"https://b.example\"] } }, \
             safe: { security_headers: {} } }",
        )
        .top("all_routes: { filters: [all] }")
        .listener("filters: [safe]")
        .forward_all("filters: [own]")
        .start();
    let mut client = Client::connect(&gateway);
    for (origin, status, allowed) in
        [("https://a.example", 403, None), ("https://b.example", 204, Some("https://b.example"))]
    {
        let before = client.ask(preflight("/a", origin, "GET", ""));
        assert_eq!((before.status, before.fields.get("access-control-allow-origin")), (status, allowed), "{origin}");
        assert_eq!(before.fields.get("x-content-type-options"), Some("nosniff"));
        let behind = client.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n\r\n"));
        assert_eq!((behind.status, behind.fields.get("access-control-allow-origin")), (200, allowed), "{origin}");
    }
    let whole = client.ask("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((whole.status, whole.fields.get("x-content-type-options")), (204, Some("nosniff")));
}

#[test]
fn origins_by_wildcard_all_and_null() {
    let upstream = upstream();
    let gateway = cors(&upstream, "origins: [\"https://*.example.com\", \"null\"]").start();
    for (origin, reads) in [
        ("https://a.example.com", true),
        ("https://a.b.example.com", true),
        ("null", true),
        ("https://example.com", false),
        ("http://a.example.com", false),
        ("https://a.example.com:8443", false),
        ("https://a.example.com.evil.test", false),
    ] {
        let seen = Page::of(origin, &gateway).fetch(&Fetch::new("DELETE", "/a"));
        assert_eq!(seen.is_ok(), reads, "{origin}: {seen:?}");
    }
    let keys =
        "origins: ['*'], methods: ['*'], headers: ['*', authorization], expose_headers: ['*'], private_network: true";
    let gateway = cors(&upstream, keys).start();
    let mut page = Page::of("https://anyone.test", &gateway);
    let mut odd = Fetch::new("PURGE", "/a").field("X-Odd", "1").field("Authorization", "x");
    odd.private_network = true;
    assert_eq!(page.fetch(&odd).unwrap().field("x-secret"), Some("s"));
    assert!(page.fetch(&Fetch::new("GET", "/a").with_credentials()).is_err());
    let answer = gateway.ask(preflight("/a", "null", "PUT", ""));
    assert_eq!(answer.fields.get("access-control-allow-origin"), Some("*"));
    assert!(!answer.fields.has("access-control-allow-private-network"), "only where it was asked");
}

#[test]
fn hostile_preflights_do_no_harm() {
    let upstream = Upstream::start(answers(ok("hi")));
    let mut gateway = cors(&upstream, "origins: [\"https://*.example.com\"]").start();
    let long = "a".repeat(20_000);
    for origin in [long.as_str(), "https://\u{e9}.example.com", "https://a\t.example.com", "*", "https://*.example.com"]
    {
        assert_eq!(gateway.ask(preflight("/a", origin, "PUT", "")).status, 403, "{origin:.40}");
    }
    let twice = "Origin: https://b.example.com\r\n";
    assert_eq!(gateway.ask(preflight("/a", "https://a.example.com", "PUT", twice)).status, 403);
    assert_eq!(gateway.ask(preflight("/a", "https://a.example.com\u{1}", "PUT", "")).status, 400);
    // Names and methods are told, not mirrored: whatever is asked for, the answer is the config's.
    let names = format!("Access-Control-Request-Headers: {}\r\n", vec!["x-evil"; 2000].join(","));
    let answer = gateway.ask(preflight("/a", "https://a.example.com", "PUT", &names));
    assert_eq!(answer.status, 204);
    assert!(!answer.fields.has("access-control-allow-headers"));
    assert!(upstream.heads().is_empty());
    gateway.is_well();
}
