//! What log and metrics tell of a request is true of it: whose time it took, how many bytes came, when it began, and who
//! refused it.

use crate::support::client::{get, post, post_chunked};
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::names::{self, end};
use crate::support::{Client, Gate, Gateway, Setup, Upstream, eventually};
use serde_json::Value;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(400);
/// What is told of a pause at least: deadlines and ticks of some milliseconds are within it.
const TOLD_US: u64 = 300_000;

fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("{field}: {line}"))
}

/// What of its time a request took neither the upstream nor the gateway.
fn of_client(line: &Value) -> u64 {
    number(line, "total_us") - number(line, "added_us") - number(line, "upstream_us")
}

const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1";

/// Forwards bodies, passes them to the parts of a page, and throws them away.
fn taking_bodies(upstream: &Upstream) -> Setup {
    let part = "{ name: a, upstream: u, request: { path: /part, method: POST, body: pass } }";
    Setup::new()
        .upstream("u", &[upstream], "")
        .top("filters: { l: { request_limits: { body: 1MiB } } }")
        .route(&format!("match: {{ path: '/page/{{n}}' }}, aggregate: {{ parts: [{part}] }}"))
        .route("match: { path: '/own/{n}' }, filters: [l], respond: { body: hi }")
        .forward_all("")
}

#[test]
fn a_head_that_comes_slowly_is_not_the_gateways_time() {
    let upstream = Upstream::says("hello");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .listener("timeouts: { request_header: 900ms }")
        .route("match: { path: /own }, respond: { body: hi }")
        .forward_all("")
        .start();
    for path in ["/own", "/forwarded"] {
        let mut client = Client::connect(&gateway);
        let head = get(path);
        let (first, rest) = head.split_at(24);
        client.send(first);
        std::thread::sleep(PAUSE);
        client.send(rest);
        assert_eq!(client.response().status, 200);
        let line = gateway.log_of(path);
        assert!(of_client(&line) >= TOLD_US, "{line}");
    }
    let mut client = Client::connect(&gateway);
    client.send("GET /never");
    assert_eq!(client.response().status, 408);
    let line = gateway.wait_log(|line| line["status"] == 408);
    assert_eq!(line["end"], end::REQUEST_HEADER);
    assert!(of_client(&line) >= 2 * TOLD_US, "{line}");
}

#[test]
fn a_body_that_comes_slowly_is_neither_the_upstreams_nor_the_gateways_time() {
    let upstream = Upstream::start(answers(JSON));
    let gateway = taking_bodies(&upstream).listener("timeouts: { request_body: 900ms }").start();
    for path in ["/forwarded", "/page/1", "/own/1"] {
        let mut client = Client::connect(&gateway);
        let request = post_chunked(path, &[b'x'; 20_000], 5_000);
        let mut pieces = request.chunks(7_000).peekable();
        while let Some(piece) = pieces.next() {
            client.send(piece);
            if pieces.peek().is_some() {
                std::thread::sleep(PAUSE);
            }
        }
        assert_eq!(client.response().status, 200);
        let line = gateway.log_of(path);
        assert!(of_client(&line) >= 2 * TOLD_US, "{line}");
    }
    let mut client = Client::connect(&gateway);
    client.send("POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    let line = gateway.log_of("/late");
    assert_eq!(line["end"], end::REQUEST_BODY);
    assert!(of_client(&line) >= 2 * TOLD_US, "{line}");
}

#[test]
fn an_upstream_that_is_slow_is_told_with_a_body_as_well() {
    let upstream = Upstream::start(|conn| {
        while conn.request().is_some() {
            std::thread::sleep(PAUSE);
            conn.write(ok("hello"));
        }
    });
    let gateway = Setup::forward(&upstream).start();
    assert_eq!(gateway.ask(post("/whole", vec![b'x'; 100_000])).status, 200);
    let line = gateway.log_of("/whole");
    assert!(number(&line, "upstream_us") >= TOLD_US, "{line}");
}

#[test]
fn an_answer_that_is_taken_slowly_is_neither_the_upstreams_nor_the_gateways_time() {
    const LARGE: usize = 48 << 20;
    let written = Gate::default();
    let upstream = {
        let written = written.clone();
        Upstream::start(move |conn| {
            conn.request();
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            conn.write(vec![b'x'; 1 << 20]);
            written.open();
            conn.write(vec![b'x'; LARGE - (1 << 20)]);
        })
    };
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/large"));
    written.wait();
    std::thread::sleep(4 * PAUSE);
    assert_eq!(client.response().body.len(), LARGE);
    let line = gateway.log_of("/large");
    assert!(of_client(&line) >= TOLD_US, "{line}");
}

#[test]
fn bytes_in_are_those_on_the_wire() {
    let upstream = Upstream::start(answers(JSON));
    let gateway = taking_bodies(&upstream).start();
    let mut all = 0;
    let mut n = 0;
    for place in ["/forwarded", "/page", "/own"] {
        let mut ask = |request: &dyn Fn(&str) -> Vec<u8>, size: usize| {
            n += 1;
            let path = format!("{place}/{n}");
            let request = request(&path);
            let mut client = Client::connect(&gateway);
            client.send_in_pieces(&request, size, Duration::from_millis(1));
            assert_eq!(client.response().status, 200);
            let line = gateway.log_of(&path);
            assert_eq!(number(&line, "bytes_in"), request.len() as u64, "{line}");
            all += request.len();
        };
        for size in [usize::MAX, 1_500] {
            ask(&|path| post_chunked(path, &[b'x'; 1_000], 1), size);
            ask(&|path| post_chunked(path, &[b'x'; 20_000], 7_000), size);
            ask(&|path| post(path, [b'x'; 50]), size);
        }
        // A connection that is closed behind it changes nothing.
        ask(
            &|path| {
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello").into()
            },
            1_000,
        );
        let trailer = "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: v\r\n\r\n";
        ask(&|path| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{trailer}").into(), 1_000);
    }
    assert_eq!(gateway.metrics().sum(names::RECEIVED, &[]), all as f64, "log and metrics tell the same");
}

fn closed(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().sum("ringway_connections_closed_total", &[("reason", reason)])
}

#[test]
fn an_empty_line_behind_a_request_begins_none() {
    let upstream = Upstream::says("hello");
    let setup = Setup::forward(&upstream).listener("timeouts: { keep_alive: 400ms, request_header: 10s }");
    let gateway = setup.route("match: { path: /own }, respond: { body: hi }").start();
    // With the body and behind it, as some old clients do; its connection is idle, and ends as such.
    for request in [
        "POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n",
        "GET /own HTTP/1.1\r\nHost: a\r\n\r\n\r",
    ] {
        let mut client = Client::connect(&gateway);
        client.send(request);
        assert_eq!(client.response().text(), "hi");
        client.is_closed();
        let mut client = Client::connect(&gateway);
        assert_eq!(client.get("/own").text(), "hi");
        client.send("\r\n");
        client.is_closed();
    }
    eventually("all four were idle", || (closed(&gateway, "keep_alive") == 4.0).then_some(()));
    // Whoever leaves behind it has asked nothing.
    let mut client = Client::connect(&gateway);
    client.send("POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n");
    assert_eq!(client.response().text(), "hi");
    drop(client);
    eventually("it has left", || (closed(&gateway, "client") == 1.0).then_some(()));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum(names::REQUESTS, &[("code", "none")]), 0.0);
    assert_eq!(metrics.sum(names::REQUESTS, &[]), 5.0);
    // A request that does come behind it begins with its own first byte.
    let mut client = Client::connect(&gateway);
    client.send("\r\n");
    std::thread::sleep(Duration::from_millis(100));
    client.send("\r\n\r\nGET /behind HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response().text(), client.response().text()), ("hello".into(), "hello".into()));
    let line = gateway.log_of("/behind");
    assert_eq!(number(&line, "bytes_in"), "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n".len() as u64);
    assert!(of_client(&line) < 50_000, "{line}");
    // They are bounded, as in front of a first request.
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/own").text(), "hi");
    client.send("\r\n".repeat(20));
    assert_eq!(client.response().status, 400);
    client.is_gone();
}

#[test]
fn a_body_that_goes_too_far_is_refused_by_the_filter_that_bounds_it() {
    let upstream = Upstream::start(answers(ok("hello")));
    let part = "{ name: a, upstream: u, content_type: any, request: { path: /part, method: POST, body: pass } }";
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("filters: { a: { request_limits: { body: 2000B } }, b: { request_limits: { body: 1000B } }, c: { request_limits: { body: 1MiB } } }")
        .route("match: { path: /two }, filters: [a, b], forward: { upstream: u }")
        .route("match: { path: /own }, filters: [a], respond: { body: hi }")
        .route("match: { path: /route }, filters: [a], body_limit: 500B, forward: { upstream: u }")
        .route(&format!("match: {{ path: /page }}, filters: [c], aggregate: {{ limits: {{ max_request_bytes: 1KiB }}, parts: [{part}] }}"))
        .start();
    let counted = |filter, outcome| {
        gateway.metrics().sum("ringway_filter_requests_total", &[("filter", filter), ("outcome", outcome)])
    };
    let refused = |path: &str, size: usize, request: Vec<u8>, by: Option<&str>| {
        let before = gateway.log_lines().len();
        gateway.ask(request).is_gateways_own(413);
        let lines = eventually("its line", || Some(gateway.log_lines()).filter(|lines| lines.len() > before));
        let line = lines.last().unwrap();
        assert_eq!((&line["path"], &line["end"]), (&path.into(), &"body_too_large".into()));
        assert_eq!(line["refused_by"].as_str(), by, "{path}, {size}: {line}");
    };
    let chunked = |path: &str, size: usize| post_chunked(path, &vec![b'x'; size], 100);
    refused("/two", 1_001, post("/two", [b'x'; 1_001]), Some("b"));
    refused("/two", 1_001, chunked("/two", 1_001), Some("b"));
    refused("/own", 2_001, post("/own", [b'x'; 2_001]), Some("a"));
    refused("/own", 2_001, chunked("/own", 2_001), Some("a"));
    assert_eq!((counted("a", "passed"), counted("a", "refused")), (2.0, 2.0));
    assert_eq!((counted("b", "passed"), counted("b", "refused")), (0.0, 2.0));
    // Not where another limit is the tighter one.
    refused("/route", 501, post("/route", [b'x'; 501]), None);
    refused("/route", 501, chunked("/route", 501), None);
    refused("/page", 2_000, chunked("/page", 2_000), None);
    assert_eq!((counted("a", "passed"), counted("a", "refused")), (4.0, 2.0));
    assert_eq!((counted("c", "passed"), counted("c", "refused")), (1.0, 0.0));
    // What keeps to it has passed.
    assert_eq!(gateway.ask(chunked("/two", 1_000)).status, 200);
    eventually("it is counted", || ((counted("a", "passed"), counted("b", "passed")) == (5.0, 1.0)).then_some(()));
}
