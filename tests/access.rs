//! Who may call, and what with: `ip` and `request_limits`.

use crate::support::client::{post, post_chunked};
use crate::support::foreign::{curl, url};
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::{Client, Setup, Upstream};

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

fn with(upstream: &Upstream, filter: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ f: {{ {filter} }} }}"))
        .top("trusted_proxies: [127.0.0.1]")
        .forward_all("filters: [f]")
}

fn from(address: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n\r\n")
}

#[test]
fn addresses_are_let_in_by_the_longest_prefix() {
    let upstream = upstream();
    let filter = "ip: { allow: [10.0.0.0/8, 10.9.1.1, 2001:db8::/32], deny: [10.9.0.0/16, \"2001:db8:bad::/48\"] }";
    let gateway = with(&upstream, filter).start();
    let mut client = Client::connect(&gateway);
    for (address, status) in [
        ("10.1.1.1", 200),
        ("10.9.2.2", 403),
        ("10.9.1.1", 200),
        ("::ffff:10.1.1.1", 200),
        ("::ffff:10.9.2.2", 403),
        ("192.0.2.1", 403),
        ("2001:db8:1::1", 200),
        ("2001:db8:bad::1", 403),
        // What the proxy does not vouch for is not believed: the last one counts.
        ("10.1.1.1, 192.0.2.1", 403),
        ("192.0.2.1, 10.1.1.1", 200),
    ] {
        assert_eq!(client.ask(from(address)).status, status, "{address}");
    }
    let refused = client.ask(from("192.0.2.1"));
    refused.is_gateways_own(403);
    assert_eq!(refused.json()["code"], 40301);
    let line = gateway.wait_log(|line| line["status"] == 403);
    assert_eq!((&line["refused_by"], &line["end"]), (&"f".into(), &"filter_refused".into()));
    assert_eq!(upstream.requests().len(), 5, "what is refused is not forwarded");
    let counted =
        |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "f"), ("outcome", outcome)]);
    assert_eq!((counted("passed"), counted("refused")), (5.0, 6.0));
}

#[test]
fn whom_nobody_vouches_for_is_its_own_address() {
    let upstream = upstream();
    let filter = "filters: { f: { ip: { deny: [127.0.0.1] } } }";
    let gateway = Setup::new().upstream("u", &[&upstream], "").top(filter).forward_all("filters: [f]").start();
    assert_eq!(gateway.ask(from("10.1.1.1")).status, 403, "X-Forwarded-For of anybody is not believed");
}

#[test]
fn thousands_of_networks_are_no_burden() {
    let upstream = upstream();
    let mut list = String::new();
    for a in 0..200 {
        for b in 0..100 {
            list.push_str(&format!("10.{a}.{b}.0/24, "));
        }
    }
    let gateway = with(&upstream, &format!("ip: {{ deny: [{list} 192.0.2.0/24] }}")).start();
    let mut client = Client::connect(&gateway);
    for (address, status) in [("10.199.99.9", 403), ("10.200.1.1", 200), ("10.0.100.1", 200), ("192.0.2.1", 403)] {
        assert_eq!(client.ask(from(address)).status, status, "{address}");
    }
}

#[test]
fn each_limit_has_its_answer() {
    let upstream = upstream();
    let keys = "body: 10B, headers: 5, header_bytes: 200B, methods: [GET, POST], content_types: [application/json, \"image/*\"]";
    let gateway = with(&upstream, &format!("request_limits: {{ {keys} }}")).start();
    let ask = |request: &str| gateway.ask(request);
    let typed = |kind: &str| format!("POST /a HTTP/1.1\r\nHost: h\r\n{kind}Content-Length: 2\r\n\r\n{{}}");
    for kind in ["application/json", "Application/JSON; charset=utf-8", "image/png", "IMAGE/x"] {
        assert_eq!(ask(&typed(&format!("Content-Type: {kind}\r\n"))).status, 200, "{kind}");
    }
    for kind in [
        "text/plain",
        "application/jsonx",
        "application",
        "",
        "image",
        "application/json, text/plain",
        "é",
        "image/",
        "image/png, text/html",
        "image/x y",
        "image/<script>",
    ] {
        let refused = ask(&typed(&format!("Content-Type: {kind}\r\n")));
        refused.is_gateways_own(415);
        assert_eq!(refused.fields.get("accept"), Some("application/json, image/*"));
    }
    assert_eq!(ask(&typed("")).status, 415, "a body without a type");
    let two = "Content-Type: application/json\r\nContent-Type: application/json\r\n";
    assert_eq!(ask(&typed(two)).status, 415);
    let twins = "Content-Type: application/json\r\nContent_Type: text/html\r\n";
    assert_eq!(ask(&typed(twins)).status, 415, "some take one for the other");
    let listed =
        "Content-Type: application/json\r\nContent-Language: en\r\nConnection: content-type, content_language\r\n";
    assert_eq!(ask(&typed(listed)).status, 200);
    upstream.reparse();
    let seen = upstream.requests().pop().unwrap().fields;
    let about = (seen.get("content-type"), seen.get("content-language"));
    assert_eq!(about, (Some("application/json"), Some("en")), "what was let in by its type goes on with it");
    assert_eq!(ask("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").status, 200, "no body needs no type");
    let refused = ask("DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n");
    refused.is_gateways_own(405);
    assert_eq!(refused.fields.get("allow"), Some("GET, HEAD, POST"));
    let mut client = Client::connect(&gateway);
    client.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response_to_head().status, 200);
    let many = "X-A: 1\r\n".repeat(5);
    ask(&format!("GET /a HTTP/1.1\r\nHost: h\r\n{many}\r\n")).is_gateways_own(431);
    let long = "x".repeat(200);
    let refused = ask(&format!("GET /a HTTP/1.1\r\nHost: h\r\nX-A: {long}\r\n\r\n"));
    refused.is_gateways_own(431);
    assert_eq!(refused.json()["code"], 43104);
    assert_eq!(ask(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n")).status, 200, "the target is not a field");
    let big = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Type: image/a\r\nContent-Length: 11\r\n\r\n12345678901";
    ask(big).is_gateways_own(413);
    assert_eq!(gateway.wait_log(|line| line["status"] == 413)["end"], "body_too_large");
    assert_eq!(gateway.wait_log(|line| line["status"] == 415)["end"], "filter_refused");
}

#[test]
fn a_body_that_goes_too_far_is_cut_off_and_the_tighter_limit_holds() {
    let upstream = upstream();
    let setup = |route_limit: &str| {
        Setup::new()
            .upstream("u", &[&upstream], "")
            .top("filters: { f: { request_limits: { body: 1000B } }, g: { request_limits: { body: 5000B } } }")
            .forward_all(&format!("filters: [f, g], body_limit: {route_limit}"))
            .start()
    };
    for (route_limit, limit) in [("none", 1000), ("2000B", 1000), ("500B", 500)] {
        let gateway = setup(route_limit);
        assert_eq!(gateway.ask(post("/a", vec![b'x'; limit])).status, 200);
        assert_eq!(gateway.ask(post("/a", vec![b'x'; limit + 1])).status, 413);
        assert_eq!(gateway.ask(post_chunked("/a", &vec![b'x'; limit], 100)).status, 200);
        gateway.ask(post_chunked("/a", &vec![b'x'; limit + 1], 100)).is_gateways_own(413);
        // Told before the body is asked for.
        let expects =
            format!("POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", limit + 1);
        let mut client = Client::connect(&gateway);
        client.send(expects);
        let answer = client.response();
        assert!(answer.status == 413 && answer.interim.is_empty(), "{answer:?}");
    }
}

/// Routes that want no body, with a limit on it.
fn unwanted(upstream: &Upstream, limit: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ f: {{ request_limits: {{ {limit} }} }} }}"))
        .top("all_routes: { filters: [f] }")
        .route("match: { path: /says }, respond: { body: mine }")
        .route("match: { path: /moved }, redirect: { to: /says }")
        .route("match: { path: /page }, aggregate: { parts: [{ name: a, upstream: u, request: { path: / } }] }")
        .route("match: { path: /next }, respond: { body: next }")
}

const UNWANTED: [(&str, u16); 3] = [("/says", 200), ("/moved", 308), ("/page", 200)];

#[test]
fn a_body_that_nobody_wants_has_its_limit_too() {
    let upstream =
        Upstream::start(answers("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1"));
    let gateway = unwanted(&upstream, "body: 1000B").start();
    for (path, status) in UNWANTED {
        // Within it the body is thrown away, and behind it comes the next request, in whatever pieces.
        for piece in [1, 7, 100, 1000] {
            let mut client = Client::connect(&gateway);
            let body = post_chunked(path, &[b'x'; 1000], piece);
            client.send([&body[..], b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
            assert_eq!(client.response().status, status, "{path}: {piece}");
            assert_eq!(client.response().text(), "next");
            assert_eq!(client.get("/next").text(), "next");
        }
        let mut client = Client::connect(&gateway);
        client.send_in_pieces(&post_chunked(path, &[b'x'; 40], 9), 5, std::time::Duration::from_millis(1));
        assert_eq!(client.response().status, status);
        assert_eq!(client.get("/next").text(), "next");
        // Beyond it, whether it says so or not; its end is not waited for.
        gateway.ask(post(path, [b'x'; 1001])).is_gateways_own(413);
        gateway.ask(post_chunked(path, &[b'x'; 1001], 100)).is_gateways_own(413);
        let mut client = Client::connect(&gateway);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"));
        client.send([b'x'; 1001]);
        client.response().is_gateways_own(413);
        client.is_closed();
        // A chunk that is none ends it, as anywhere.
        let mut client = Client::connect(&gateway);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"));
        client.response().is_gateways_own(400);
        client.is_closed();
        // Who waits to be asked for the body is told at once, and not asked.
        let mut client = Client::connect(&gateway);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        let answer = client.response();
        assert!(answer.status == status && answer.interim.is_empty(), "{answer:?}");
        client.is_closed();
    }
    let line = gateway.wait_log(|line| line["path"] == "/says" && line["status"] == 200);
    assert!(line["bytes_in"].as_u64().unwrap() > 1000, "the body is counted: {line}");
}

#[test]
fn a_body_that_nobody_wants_must_come_in_time() {
    let upstream = Upstream::says("1");
    let setup = unwanted(&upstream, "body: 1000B").listener("timeouts: { request_body: 300ms }");
    let setup = setup.route("match: { path: /short }, timeout: 400ms, respond: { body: mine }");
    let mut gateway = setup.start();
    for path in ["/says", "/moved", "/page"] {
        let mut client = Client::connect(&gateway);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"));
        client.response().is_gateways_own(408);
        client.is_closed();
    }
    // One that drips is no upstream's fault either.
    let mut client = Client::connect(&gateway);
    client.send("POST /short HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n");
    let start = std::time::Instant::now();
    while start.elapsed() < crate::support::PATIENCE && client.try_send("x").is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        if gateway.log_lines().iter().any(|line| line["path"] == "/short") {
            break;
        }
    }
    client.response().is_gateways_own(408);
    // A client that leaves in the middle costs nothing.
    let mut client = Client::connect(&gateway);
    client.send("POST /says HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
    drop(client);
    gateway.wait_log(|line| line["path"] == "/says" && line["end"] == "client_gone");
    assert_eq!(gateway.get("/next").text(), "next");
    gateway.is_well();
}

#[test]
fn without_a_limit_nobody_waits_for_a_body_that_nobody_wants() {
    let upstream = Upstream::says("1");
    let gateway =
        unwanted(&upstream, "headers: 50").route("match: { path: /bound }, respond: {}, body_limit: 10B").start();
    let mut client = Client::connect(&gateway);
    client.send("POST /says HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
    assert_eq!(client.response().text(), "mine");
    client.is_closed();
    // A route's own limit is one as well.
    assert_eq!(gateway.ask(post_chunked("/bound", b"0123456789", 3)).status, 200);
    gateway.ask(post_chunked("/bound", b"0123456789a", 3)).is_gateways_own(413);
    gateway.ask(post("/bound", b"0123456789a")).is_gateways_own(413);
}

#[test]
fn curl_uploads_what_nobody_wants_within_the_limit_only() {
    let upstream = Upstream::says("1");
    let gateway = unwanted(&upstream, "body: 1000B").start();
    let upload = |size: usize| {
        let body = "x".repeat(size);
        let chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}"];
        curl(&[&chunked[..], &["--data-binary", &body, &format!("{}/says", url(gateway.addr))]].concat())
    };
    assert_eq!((upload(1000), upload(1001), upload(100_000)), ("200".into(), "413".into(), "413".into()));
}
