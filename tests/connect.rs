//! CONNECT: a tunnel where a route names it, to where the route says, and 405 everywhere else.

use crate::support::foreign::{curl, curl_trust};
use crate::support::names::{TUNNELS_OPENED, end};
use crate::support::{Client, Setup, Upstream};
use crate::tunnels::{ends, piece, says};

const ASK: &str = "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\n";

/// A tunnel for `db.test`, and a plain route for everything else.
fn opens(upstream: &Upstream) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .route("name: db, match: { host: db.test, path: /, methods: [CONNECT] }, forward: { upstream: u }")
        .forward_all("")
}

fn echo() -> Upstream {
    Upstream::start(|conn| while piece(conn).is_some_and(|bytes| conn.write(&bytes)) {})
}

#[test]
fn a_route_that_names_connect_opens_a_tunnel_to_its_upstream() {
    let upstream = echo();
    let gateway = opens(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(ASK);
    let head = client.head().unwrap();
    assert_eq!(head.status, 200, "{head:?}");
    // RFC 9110 9.3.6: neither framing field is in it.
    assert!(!head.fields.has("content-length") && !head.fields.has("transfer-encoding"), "{head:?}");
    assert!(head.fields.has("date") && !head.fields.has("connection"), "{head:?}");
    client.send("GET /secret HTTP/1.1\r\n\r\n");
    says(&mut client, "GET /secret HTTP/1.1\r\n\r\n");
    assert_eq!(gateway.metrics().sum(TUNNELS_OPENED, &[]), 1.0);
    client.half_close();
    ends(&gateway);
    let line = gateway.wait_log(|line| line["method"] == "CONNECT");
    assert_eq!(
        (&line["status"], &line["route"], &line["end"]),
        (&200.into(), &"db".into(), &end::TUNNEL_CLIENT.into())
    );
}

#[test]
fn what_is_sent_before_the_200_waits_for_it() {
    let upstream = echo();
    let gateway = opens(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(format!("{ASK}early"));
    assert_eq!(client.head().unwrap().status, 200);
    says(&mut client, "early");
}

#[test]
fn no_other_route_takes_connect_and_nothing_behind_a_refused_one_is_a_request() {
    let upstream = Upstream::says("never");
    let gateway = opens(&upstream).start();
    for request in [
        "CONNECT other.test:5432 HTTP/1.1\r\nHost: other.test:5432\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: db.test\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = Client::connect(&gateway);
        client.send(request);
        let refused = client.response();
        assert_eq!(refused.status, 405, "{refused:?}");
        assert!(!refused.fields.get("allow").unwrap_or_default().contains("CONNECT"), "{refused:?}");
        client.is_closed();
    }
    // A plain request for the host of the tunnel falls through to the route for everything.
    upstream.heard_nothing();
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: db.test\r\n\r\n").text(), "never");
}

#[test]
fn a_body_of_connect_is_refused() {
    let upstream = Upstream::says("never");
    let gateway = opens(&upstream).start();
    for framing in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let mut client = Client::connect(&gateway);
        client.send(format!("CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test\r\n{framing}"));
        assert_eq!(client.response().status, 400);
        client.is_closed();
    }
    upstream.heard_nothing();
}

#[test]
fn an_upstream_that_is_not_there_is_told_and_the_connection_closed() {
    let gateway = Setup::new()
        .plain_upstream_at("u", "[127.0.0.1:1]", "")
        .route("match: { path: /, methods: [CONNECT] }, forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    client.send(format!("{ASK}GET /x HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().status, 503);
    client.is_closed();
    ends(&gateway);
}

#[test]
fn curl_speaks_http_through_the_tunnel() {
    let inner = Upstream::says("through the tunnel");
    let gateway = Setup::new()
        .plain()
        .upstream("u", &[&inner], "")
        .route("match: { host: inner.test, path: /, methods: [CONNECT] }, forward: { upstream: u }")
        .start();
    let proxy = format!("http://{}", gateway.addr);
    let got = curl(&[&curl_trust()[..], &["--proxytunnel", "--proxy", &proxy, "http://inner.test/x"]].concat());
    assert_eq!(got, "through the tunnel");
    assert_eq!(inner.only_request().target, "/x");
}

#[test]
fn connect_in_a_config_is_alone_on_the_root_and_forwarded_as_it_is() {
    let refused = |route: &str| {
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ endpoints: [127.0.0.1:1] }} }}\nroutes:\n  - {route}\n"
        );
        ringway::config::parse("f", &yaml, &|_| None).unwrap_err().to_string()
    };
    for (route, told) in [
        ("{ match: { path: /, methods: [CONNECT, GET] }, forward: { upstream: u } }", "together with other methods"),
        ("{ match: { path: /x, methods: [CONNECT] }, forward: { upstream: u } }", "names no path"),
        ("{ match: { path: /, methods: [CONNECT] }, respond: { status: 200 } }", "use `forward`"),
        (
            "{ match: { path: /, methods: [CONNECT] }, forward: { upstream: u, rewrite: { host: pass } } }",
            "can be changed",
        ),
    ] {
        let text = refused(route);
        assert!(text.contains(told), "{route}: {text}");
    }
}
