//! `ext_auth`: a service is asked about each request. What it is told, what its answers do, and what becomes of requests
//! when it is broken, slow or hostile.

use crate::support::aggregate::{json, part};
use crate::support::browser::{Fetch, Page};
use crate::support::client::{get, post, post_chunked};
use crate::support::foreign::{curl, nginx, output_of, python_server, url};
use crate::support::message::Request;
use crate::support::misbehave::{answers, never_answers};
use crate::support::upstream::Conn;
use crate::support::{Client, Setup, Upstream, eventually, tls};
use std::time::{Duration, Instant};

fn with(upstream: &Upstream, service: &Upstream, keys: &str) -> Setup {
    filters(upstream, service, &format!("gate: {{ ext_auth: {{ upstream: auth, path: /verify, {keys} }} }}"))
        .forward_all("filters: [gate]")
}

fn filters(upstream: &Upstream, service: &Upstream, filters: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .upstream("auth", &[service], "")
        .top(&format!("filters: {{ {filters} }}"))
}

fn says(status: u16, lines: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Any\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Lets those in who show the password of their name: `Authorization: NAME`.
fn by_name() -> Upstream {
    Upstream::by(|request: &Request| match request.fields.get("authorization") {
        Some(name) => says(200, &format!("X-User: {name}\r\n"), ""),
        None => says(401, "WWW-Authenticate: Name\r\n", ""),
    })
}

fn as_name(path: &str, name: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {name}\r\n\r\n")
}

#[test]
fn a_service_whose_first_endpoint_refuses_connections_is_asked_at_the_other() {
    let (upstream, service) = (Upstream::says("hi"), Upstream::start(answers(says(204, "", ""))));
    let refuses = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream_at("auth", &format!("[\"{refuses}\", \"{}\"]", service.addr), "balance: least_request")
        .top("filters: { gate: { ext_auth: { upstream: auth, path: /verify } } }")
        .forward_all("filters: [gate]")
        .start();
    let mut client = Client::connect(&gateway);
    for _ in 0..20 {
        assert_eq!(client.get("/x").status, 200);
    }
}

#[test]
fn what_the_service_is_told() {
    let (upstream, service) = (Upstream::says("hi"), Upstream::start(answers(says(204, "", ""))));
    let keys = "gate: { ext_auth: { upstream: auth, path: \"/v?of={host}\", headers: [authorization, cookie, x-tenant], method: POST } }";
    let gateway = filters(&upstream, &service, keys).forward_all("filters: [gate]").start();
    let request = "PUT /a/%62?x=1&y HTTP/1.1\r\nHost: h:1\r\nAuthorization: Bearer t\r\nCookie: a=1\r\nX-Tenant: t1\r\n\
                   X-Tenant: t2\r\nX-Other: o\r\nX-Forwarded-Uri: /public\r\nX-Original-URL: http://h/public\r\n\
                   X-Forwarded-Method: GET\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(gateway.ask(request).text(), "hi");
    let asked = service.only_request();
    assert_eq!((asked.method.as_str(), asked.target.as_str(), asked.body.len()), ("POST", "/v?of=h%3A1", 0));
    let scheme = tls::either("https", "http");
    for (name, values) in [
        ("host", vec![service.addr.to_string()]),
        ("authorization", vec!["Bearer t".to_owned()]),
        ("cookie", vec!["a=1".to_owned()]),
        ("x-tenant", vec!["t1".to_owned(), "t2".to_owned()]),
        ("x-other", vec![]),
        ("content-type", vec![]),
        ("content-length", vec!["0".to_owned()]),
        ("x-forwarded-method", vec!["PUT".to_owned()]),
        ("x-forwarded-uri", vec!["/a/b?x=1&y".to_owned()]),
        ("x-original-method", vec!["PUT".to_owned()]),
        ("x-original-url", vec![format!("{scheme}://h:1/a/b?x=1&y")]),
        ("x-forwarded-for", vec!["127.0.0.1".to_owned()]),
        ("x-forwarded-host", vec!["h:1".to_owned()]),
        ("x-forwarded-proto", vec![scheme.to_owned()]),
    ] {
        assert_eq!(asked.fields.all(name), values, "{name}");
    }
    let sent = upstream.only_request();
    assert_eq!(
        (sent.body.as_slice(), sent.fields.get("x-request-id")),
        (&b"hello"[..], asked.fields.get("x-request-id"))
    );
}

#[test]
fn who_passes_is_told_to_the_upstream_and_nobody_else_can_claim_it() {
    let upstream = Upstream::says("hi");
    let service = Upstream::by(|request: &Request| match request.fields.get("authorization") {
        Some("none") => says(200, "", "ignored"),
        name => says(
            200,
            &format!(
                "X-User: {0}\r\nX-Group: a\r\nX-Group: b\r\nX-Secret: s\r\nSet-Cookie: s={0}\r\nSet-Cookie: t=1\r\n",
                name.unwrap()
            ),
            "",
        ),
    });
    let keys = "response_headers: [X-User, x-group, authorization], client_headers: [set-cookie], principal: x-user";
    let fair = "fair: { rate_limit: { rate: 2/h, key: principal } }";
    let gateway =
        filters(&upstream, &service, &format!("gate: {{ ext_auth: {{ upstream: auth, path: /, {keys} }} }}, {fair}"))
            .forward_all("filters: [gate, fair]")
            .start();
    let ask = |name: &str| {
        gateway.ask(format!(
            "GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: {name}\r\nX-User: root\r\nx_user: root\r\nX-GROUP: root\r\n\r\n"
        ))
    };
    let answer = ask("alice");
    assert_eq!(answer.fields.all("set-cookie"), ["s=alice", "t=1"]);
    assert!(!answer.fields.has("x-user") && !answer.fields.has("x-secret"), "{answer:?}");
    assert_eq!(ask("none").status, 200);
    let requests = upstream.wait_requests(2);
    let seen = |n: usize, name: &str| requests[n].fields.all(name).join("|");
    assert_eq!(
        (seen(0, "x-user"), seen(0, "x-group"), seen(0, "x_user")),
        ("alice".into(), "a|b".into(), String::new())
    );
    assert_eq!((seen(1, "x-user"), seen(1, "x-group"), seen(1, "x_user")), Default::default());
    assert_eq!((seen(0, "authorization"), seen(0, "x-secret")), Default::default());
    assert_eq!((ask("alice").status, ask("alice").status, ask("bob").status), (200, 429, 200), "each by themselves");
}

#[test]
fn a_refusal_is_the_answer() {
    let upstream = Upstream::says("hi");
    let service = Upstream::by(|request: &Request| match request.fields.get("authorization").unwrap() {
        "login" => says(302, "Location: https://id.test/login?rd=a\r\nSet-Cookie: state=1\r\nX-Secret: s\r\n", "<a>"),
        "basic" => says(401, "WWW-Authenticate: Basic realm=\"r\"\r\nWWW-Authenticate: Name\r\nServer: s\r\n", ""),
        "page" => says(403, "Content-Type: text/html\r\nContent-Encoding: gzip\r\n", "<h1>no</h1>"),
        "chunked" => b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n".to_vec(),
        "hidden" => says(404, "", ""),
        "later" => says(429, "Retry-After: 7\r\n", ""),
        "large" => says(403, "Content-Type: text/html\r\n", &"x".repeat(2000)),
        "cut" => b"HTTP/1.1 403 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nno".to_vec(),
        _ => b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
    });
    // Whatever becomes of its body: a refusal opens no door.
    let gateway = with(&upstream, &service, "max_body: 1KiB, timeout: 500ms, on_failure: allow").start();
    let ask = |name: &str| gateway.ask(as_name("/a", name));
    let login = ask("login");
    assert_eq!((login.status, login.fields.get("location")), (302, Some("https://id.test/login?rd=a")));
    assert_eq!((login.fields.get("set-cookie"), login.fields.get("x-secret")), (Some("state=1"), None));
    let basic = ask("basic");
    basic.is_gateways_own(401);
    assert_eq!(basic.fields.all("www-authenticate"), ["Basic realm=\"r\"", "Name"]);
    assert_eq!((basic.json()["code"].as_u64(), basic.fields.get("server")), (Some(40104), None));
    let page = ask("page");
    assert_eq!((page.status, page.text().as_str()), (403, "<h1>no</h1>"));
    assert_eq!(page.fields.get("content-type"), Some("text/html"));
    assert_eq!(page.fields.get("content-encoding"), Some("gzip"), "whatever it is, it is as it was");
    assert_eq!((ask("chunked").status, ask("chunked").text().as_str()), (403, "no"));
    ask("hidden").is_gateways_own(404);
    let later = ask("later");
    later.is_gateways_own(429);
    assert_eq!(later.fields.get("retry-after"), Some("7"));
    for (name, status) in [("large", 403), ("cut", 403), ("broken", 401)] {
        ask(name).is_gateways_own(status);
    }
    let mut client = Client::connect(&gateway);
    client.send("HEAD /a HTTP/1.1\r\nHost: h\r\nAuthorization: page\r\n\r\n");
    assert_eq!(client.response_to_head().status, 403);
    assert_eq!(client.ask(as_name("/a", "hidden")).status, 404, "the connection goes on");
    assert!(upstream.heads().is_empty());
    let line = gateway.wait_log(|line| line["status"] == 302);
    assert_eq!((&line["refused_by"], &line["end"]), (&"gate".into(), &"filter_refused".into()));
}

#[test]
fn bodies_wait_until_the_service_has_spoken() {
    let (upstream, service) = (Upstream::echo(), by_name());
    let gateway = with(&upstream, &service, "").start();
    let body = vec![b'x'; 300_000];
    let insert = |request: Vec<u8>| {
        let at = request.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
        [&request[..at], b"Authorization: a\r\n", &request[at..]].concat()
    };
    let mut client = Client::connect(&gateway);
    assert!(client.ask(insert(post("/a", &body))).body == body);
    assert!(client.ask(insert(post_chunked("/a", &body, 5000))).body == body);
    let expects =
        |name: &str| format!("POST /a HTTP/1.1\r\nHost: h\r\n{name}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let mut client = Client::connect(&gateway);
    client.send(expects(""));
    let refused = client.response();
    assert!(refused.status == 401 && refused.interim.is_empty(), "{refused:?}");
    let mut client = Client::connect(&gateway);
    client.send(expects("Authorization: a\r\n"));
    assert_eq!(client.wire.line().unwrap(), b"HTTP/1.1 100 Continue");
    assert!(client.wire.line().unwrap().is_empty());
    client.send("hi");
    assert_eq!(client.response().text(), "hi");
    assert!(service.requests().iter().all(|request| request.body.is_empty()));
}

/// What a service does behind its bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Waits,
    Closes,
    Resets,
    Drips,
}

fn hostile() -> Vec<(&'static str, Vec<u8>, Then)> {
    use Then::*;
    let many = |n: usize| "HTTP/1.1 100 Continue\r\n\r\n".repeat(n).into_bytes();
    vec![
        ("nothing", b"".to_vec(), Waits),
        ("closed", b"".to_vec(), Closes),
        ("reset", b"".to_vec(), Resets),
        ("garbage", b"\x16\x03\x01\x00\xa5 hello\r\n\r\n".to_vec(), Waits),
        ("http/0.9", b"<html>200 OK</html>".to_vec(), Closes),
        ("half a head", b"HTTP/1.1 200 OK\r\nX-User: a".to_vec(), Closes),
        ("a head that stops", b"HTTP/1.1 200 OK\r\nX-User: a\r\n".to_vec(), Waits),
        ("a dripping head", b"HTTP/1.1 200 OK\r\n".to_vec(), Drips),
        ("a huge head", format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(100_000)).into_bytes(), Waits),
        ("many fields", format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(5000)).into_bytes(), Waits),
        ("a flood of 1xx", many(10_000), Waits),
        (
            "101",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec(),
            Waits,
        ),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n".to_vec(), Waits),
        (
            "length and chunks",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Waits,
        ),
        ("a long body", says(200, "", &"x".repeat(20_000)), Waits),
        ("a body that is announced", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec(), Waits),
        ("an endless body", [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 200_000]].concat(), Drips),
        ("a body that drips", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(), Drips),
        ("a body that ends early", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec(), Closes),
        ("a bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".to_vec(), Waits),
        ("500", says(500, "", ""), Waits),
        ("503", says(503, "Retry-After: 1\r\n", "down"), Waits),
        ("300", says(300, "", ""), Waits),
        ("304", b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(), Waits),
        ("407", says(407, "", ""), Waits),
        ("two callers", says(200, "X-User: alice\r\nX-User: bob\r\n", ""), Waits),
        (
            "a caller without a name",
            b"HTTP/1.1 200 OK\r\nX-User: \xff\xfe\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Waits,
        ),
    ]
}

fn service_of(cases: Vec<(&'static str, Vec<u8>, Then)>) -> Upstream {
    Upstream::start(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            let case = request.fields.get("x-forwarded-uri").unwrap()[1..].parse::<usize>().unwrap();
            let (_, bytes, then) = &cases[case];
            conn.write(bytes);
            match then {
                Then::Waits => {}
                Then::Closes => return,
                Then::Resets => return conn.reset_on_close(),
                Then::Drips => {
                    while conn.write("x") {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    return;
                }
            }
        }
    })
}

#[test]
fn a_service_that_says_nothing_lets_nobody_in_and_holds_nobody_up() {
    let (upstream, service) = (Upstream::says("hi"), service_of(hostile()));
    let mut gateway = with(&upstream, &service, "timeout: 400ms, principal: x-user").start();
    let mut client = Client::connect(&gateway);
    let mut wrong = Vec::new();
    for (n, (name, ..)) in hostile().iter().enumerate() {
        let start = Instant::now();
        let answer = client.get(&format!("/{n}"));
        if answer.status != 503 || start.elapsed() > Duration::from_millis(2500) {
            wrong.push(format!("{name}: {} after {:?}", answer.status, start.elapsed()));
            continue;
        }
        answer.is_gateways_own(503);
        assert_eq!(answer.json()["code"], 50308, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(upstream.heads().is_empty());
    let line = gateway.wait_log(|line| line["path"] == "/0");
    assert_eq!((&line["refused_by"], &line["end"]), (&"gate".into(), &"authorization_failed".into()));
    let counted = |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("outcome", outcome)]);
    let cases = hostile().len() as f64;
    assert_eq!(
        (counted("passed"), counted("refused"), counted("failed"), counted("waited")),
        (0.0, cases, cases, cases)
    );
    eventually("connections of broken answers are closed", || (gateway.sockets() < 20).then_some(()));
    gateway.is_well();
    gateway.process.wait_said("filter gate: its upstream says nothing");
}

#[test]
fn on_failure_allow_lets_pass_and_says_so() {
    let (upstream, service) = (Upstream::says("hi"), service_of(hostile()));
    let gateway =
        with(&upstream, &service, "timeout: 400ms, principal: x-user, on_failure: allow, response_headers: [x-user]")
            .start();
    let mut client = Client::connect(&gateway);
    for (n, (name, ..)) in hostile().iter().enumerate() {
        let answer = client.ask(format!("GET /{n} HTTP/1.1\r\nHost: h\r\nX-User: root\r\n\r\n"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "hi"), "{name}");
    }
    assert!(
        upstream.requests().iter().all(|request| !request.fields.has("x-user")),
        "what clients claim does not pass"
    );
    let line = gateway.wait_log(|line| line["path"] == "/1");
    assert_eq!(line["notes"], serde_json::json!(["gate:unchecked"]));
    // What is the request's own fault opens no door.
    let long = format!("/{}", "a".repeat(7000));
    let keys = "gate: { ext_auth: { upstream: auth, path: \"/{path}{path}\", on_failure: allow } }";
    let gateway = filters(&upstream, &service, keys).forward_all("filters: [gate]").start();
    gateway.get(&long).is_gateways_own(414);
}

#[test]
fn when_the_routes_time_is_over_nothing_is_sent_on() {
    let (upstream, service) = (Upstream::says("hi"), Upstream::start(never_answers));
    for keys in ["on_failure: allow", "on_failure: deny"] {
        let gateway =
            filters(&upstream, &service, &format!("gate: {{ ext_auth: {{ upstream: auth, path: /, {keys} }} }}"))
                .forward_all("filters: [gate], timeout: 300ms")
                .start();
        gateway.ask(post("/a", b"x")).is_gateways_own(504);
        assert_eq!(gateway.wait_log(|line| line["status"] == 504)["end"], "route_timeout", "{keys}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn twins_with_underscores_are_told_too() {
    let (upstream, service) = (Upstream::says("hi"), Upstream::start(answers(says(204, "", ""))));
    let gateway = with(&upstream, &service, "headers: [x-tenant]").start();
    gateway.ask("GET /a HTTP/1.1\r\nHost: h\r\nX-Tenant: mine\r\nX_Tenant: other\r\nX-Original-URL: /b\r\n\r\n");
    let asked = service.only_request();
    assert_eq!((asked.fields.get("x-tenant"), asked.fields.get("x_tenant")), (Some("mine"), Some("other")));
    assert!(!upstream.only_request().fields.has("x-original-url"), "that path was not asked about");
}

#[test]
fn nobody_to_ask_is_a_failure_too() {
    let upstream = Upstream::says("hi");
    let gone = crate::support::free_port();
    for (failure, status) in [("deny", 503), ("allow", 200)] {
        let gateway = Setup::new()
            .upstream("u", &[&upstream], "")
            .upstream_at("auth", &format!("[\"127.0.0.1:{gone}\"]"), "")
            .top(&format!("filters: {{ gate: {{ ext_auth: {{ upstream: auth, path: /, on_failure: {failure} }} }} }}"))
            .forward_all("filters: [gate]")
            .start();
        assert_eq!(gateway.get("/a").status, status);
    }
    // The route's time is the client's: it ends the wait for the service as well.
    let service = Upstream::start(never_answers);
    let gateway = filters(&upstream, &service, "gate: { ext_auth: { upstream: auth, path: /, timeout: 60s } }")
        .forward_all("filters: [gate], timeout: 300ms")
        .start();
    let start = Instant::now();
    assert!([503, 504].contains(&gateway.get("/a").status) && start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_client_that_leaves_ends_the_question() {
    let (upstream, service) = (Upstream::says("hi"), Upstream::start(never_answers));
    let gateway = with(&upstream, &service, "timeout: 60s").start();
    for (n, reset) in [false, true].into_iter().enumerate() {
        let mut client = Client::connect(&gateway);
        client.send(get(&format!("/gone{n}")));
        service.wait_requests(n + 1);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        service.wait_ended(n);
        assert_eq!(gateway.log_of(&format!("/gone{n}"))["end"], "client_gone");
    }
    assert!(upstream.heads().is_empty());
    eventually("nothing is left of it", || (gateway.sockets() < 15).then_some(()));
}

#[test]
fn connections_to_the_service_are_kept_and_a_stale_one_costs_nobody() {
    let upstream = Upstream::says("hi");
    let service = Upstream::by(|_: &Request| says(200, "", ""));
    let gateway = with(&upstream, &service, "").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..5 {
        assert_eq!(client.get("/a").status, 200);
    }
    assert_eq!(service.connections(), 1);
    let service = Upstream::start(|conn: &mut Conn| {
        // The second request on a connection meets its end.
        if conn.request().is_some() {
            conn.write(says(200, "", ""));
            conn.request();
        }
    });
    let gateway = with(&upstream, &service, "").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..4 {
        assert_eq!(client.get("/a").status, 200);
    }
}

#[test]
fn an_answer_is_remembered_for_those_who_send_the_same() {
    let (upstream, service) = (Upstream::says("hi"), by_name());
    let keys = "response_headers: [x-user], cache: { ttl: 1h }";
    let gateway = with(&upstream, &service, keys).start();
    let mut client = Client::connect(&gateway);
    let mut asked = 0;
    let mut ask = |request: String, is_new: bool, user: &str| {
        let before = upstream.requests().len();
        let answer = client.ask(&request);
        asked += usize::from(is_new);
        assert_eq!(service.requests().len(), asked, "{request}");
        match user {
            "" => assert_eq!((answer.status, answer.fields.get("www-authenticate")), (401, Some("Name"))),
            user => assert_eq!(upstream.requests()[before].fields.all("x-user"), [user], "{request}"),
        }
    };
    ask(as_name("/a", "alice"), true, "alice");
    ask(as_name("/a", "alice"), false, "alice");
    ask(as_name("/a", "bob"), true, "bob");
    ask(as_name("/a", "bob"), false, "bob");
    ask(as_name("/a", "alice"), false, "alice");
    ask(as_name("/b", "alice"), true, "alice");
    ask(as_name("/a?t=1", "alice"), true, "alice");
    ask(as_name("/a", "alice").replace("GET", "PUT"), true, "alice");
    ask(as_name("/a", "alice").replace("Host: h", "Host: other"), true, "alice");
    ask(as_name("/a", "alice\r\nCookie: s=1"), true, "alice");
    ask(as_name("/a", "alice\r\nCookie: s=2"), true, "alice");
    ask(as_name("/a", "alice\r\nX-User: root"), false, "alice");
    ask(get("/a"), true, "");
    ask(get("/a"), false, "");
    let counted = |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("outcome", outcome)]);
    assert_eq!((counted("cached"), counted("waited")), (5.0, asked as f64));
    assert_eq!((counted("passed"), counted("refused")), (asked as f64 + 3.0, 2.0));
}

#[test]
fn an_answer_about_one_way_is_not_remembered_for_another() {
    let (upstream, service) = (Upstream::says("hi"), by_name());
    for (tells, field, way) in [("x-forwarded", "X-Forwarded-For", ""), ("forwarded", "Forwarded", "for=")] {
        let gateway = with(&upstream, &service, "cache: { ttl: 1h }")
            .top(&format!("forwarded: {tells}"))
            .top("trusted_proxies: [127.0.0.1]")
            .start();
        let before = service.requests().len();
        for (first, asked) in [("10.1.1.1", 1), ("10.1.1.1", 1), ("10.2.2.2", 2), ("10.1.1.1", 2)] {
            let said = format!("alice\r\n{field}: {way}{first}, {way}203.0.113.9");
            assert_eq!(gateway.ask(as_name("/a", &said)).status, 200);
            assert_eq!(service.requests().len() - before, asked, "{tells} {first}");
        }
    }
}

#[test]
fn with_a_key_the_path_does_not_count_but_credentials_and_the_query_always_do() {
    let (upstream, service) = (Upstream::says("hi"), by_name());
    let gateway = with(&upstream, &service, "cache: { ttl: 1h, key: header.x-tenant }").start();
    let mut client = Client::connect(&gateway);
    for (request, asked) in [
        (as_name("/a", "alice"), 1),
        (as_name("/b", "alice"), 1),
        (as_name("/b", "bob"), 2),
        (as_name("/a", "alice\r\nX-Tenant: t"), 3),
        (as_name("/c", "alice\r\nX-Tenant: t"), 3),
        (as_name("/a?token=1", "alice"), 4),
        (as_name("/a?token=2", "alice"), 5),
        (get("/a?token=1"), 6),
        (get("/a?token=2"), 7),
        (as_name("/a", "alice").replace("GET", "DELETE"), 8),
    ] {
        client.ask(&request);
        assert_eq!(service.requests().len(), asked, "{request}");
    }
}

#[test]
fn what_is_for_once_or_no_answer_is_not_remembered_and_the_rest_not_for_long() {
    let upstream = Upstream::says("hi");
    let service = Upstream::by(|request: &Request| match request.fields.get("authorization").unwrap() {
        "once" => says(200, "Cache-Control: private, no-store\r\n", ""),
        "cookie" => says(200, "Set-Cookie: a=b\r\n", ""),
        "login" => says(302, "Location: /\r\n", ""),
        "broken" => says(500, "", ""),
        _ => says(403, "", ""),
    });
    let gateway = with(&upstream, &service, "client_headers: [set-cookie], cache: { ttl: 100ms }").start();
    let mut client = Client::connect(&gateway);
    let mut asked = 0;
    for name in ["once", "cookie", "login", "broken"] {
        for _ in 0..3 {
            client.ask(as_name("/a", name));
            asked += 1;
            assert_eq!(service.requests().len(), asked, "{name}");
        }
    }
    client.ask(as_name("/a", "no"));
    eventually("it is forgotten", || {
        client.ask(as_name("/a", "no"));
        (service.requests().len() >= asked + 2).then_some(())
    });
}

#[test]
fn it_guards_every_kind_of_route_and_preflights_go_before_it() {
    const APP: &str = "https://app.example.com";
    let upstream = Upstream::by(|request: &Request| json(format!("{:?}", request.fields.all("x-user").join(","))));
    let service = by_name();
    let all = format!(
        "gate: {{ ext_auth: {{ upstream: auth, path: /, response_headers: [x-user] }} }}, \
         web: {{ cors: {{ origins: [\"{APP}\"], headers: [authorization] }} }}"
    );
    let gateway = filters(&upstream, &service, &all)
        .top("all_routes: { filters: [gate, web] }")
        .route("match: { path: /forward }, forward: { upstream: u }")
        .route("match: { path: /respond }, respond: { body: fixed }")
        .route("match: { path: /open }, without: [gate], respond: { body: open }")
        .route("match: { path: /moved }, redirect: { to: /forward }")
        .aggregate(
            "match: { path: /many }",
            "",
            &[part("it", "/", "").replace("path: \"/\"", "path: \"/\", headers: [x-user]")],
        )
        .start();
    let mut client = Client::connect(&gateway);
    for path in ["/forward", "/respond", "/moved", "/many"] {
        let refused = client.get(path);
        refused.is_gateways_own(401);
        assert!(refused.fields.all("vary").contains(&"Origin"), "{refused:?}");
    }
    assert_eq!(client.get("/open").text(), "open");
    assert_eq!(client.get("/none").status, 404);
    assert_eq!(client.ask(as_name("/forward", "alice")).text(), "\"alice\"");
    assert_eq!(client.ask(as_name("/respond", "alice")).text(), "fixed");
    assert_eq!(client.ask(as_name("/moved", "alice")).status, 308);
    assert_eq!(client.ask(as_name("/many", "alice")).json()["data"]["it"], "alice");
    let asked = service.requests().len();
    let mut page = Page::of(APP, &gateway);
    assert_eq!(page.fetch(&Fetch::new("GET", "/forward").field("Authorization", "bob")).unwrap().status, 200);
    assert_eq!((page.preflights, service.requests().len()), (1, asked + 1), "nobody is asked about a preflight");
    assert_eq!(page.fetch(&Fetch::new("GET", "/forward")).unwrap().status, 401, "pages can read the refusal");
}

#[test]
fn filters_behind_it_and_before_it_keep_their_order() {
    let (upstream, service) = (Upstream::says("hi"), by_name());
    let all = "a: { ext_auth: { upstream: auth, path: /a } }, b: { ext_auth: { upstream: auth, path: /b } }, \
               few: { concurrency: { max: 1, key: none, queue: 10, queue_timeout: 10s } }, \
               fair: { rate_limit: { rate: 3/h, key: none } }";
    let gateway = filters(&upstream, &service, all).forward_all("filters: [fair, a, few, b]").start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask(as_name("/x", "alice")).status, 200);
    assert_eq!(service.targets(), ["/a", "/b"]);
    assert_eq!(client.get("/x").status, 401, "an attempt counts");
    assert_eq!(client.ask(as_name("/x", "alice")).status, 200);
    assert_eq!(client.ask(as_name("/x", "alice")).status, 429, "who is over a limit before it is not asked about");
    assert_eq!(service.targets().len(), 5);
}

#[test]
fn what_filters_before_it_take_out_of_the_query_is_not_told_and_the_answer_is_remembered() {
    let (upstream, service) = (Upstream::says("hi"), by_name());
    let digest = output_of("sha256sum", &[], b"k-3f1d0c5b").split_whitespace().next().unwrap().to_string();
    let all = format!(
        "gate: {{ ext_auth: {{ upstream: auth, path: /verify, cache: {{ ttl: 1h }} }} }}, \
         who: {{ api_key: {{ query: key, keys: [{{ sha256: {digest}, owner: acme }}] }} }}, \
         all: {{ rate_limit: {{ rate: 3/h, key: none }} }}, each: {{ rate_limit: {{ rate: 2/h, key: query.key }} }}"
    );
    let gateway = filters(&upstream, &service, &all).forward_all("filters: [all, who, gate, each]").start();
    let mut client = Client::connect(&gateway);
    let ask = as_name("/a?x=1&key=k-3f1d0c5b", "alice");
    assert_eq!([(); 4].map(|()| client.ask(&ask).status), [200, 200, 429, 429]);
    assert_eq!(gateway.wait_log(|line| line["status"] == 429)["refused_by"], "each", "what it refuses is given back");
    assert!(!format!("{:?}", service.only_request()).contains("k-3f1d0c5b"), "{:?}", service.only_request());
    assert_eq!(upstream.requests()[0].target, "/a?x=1");
}

const PYTHON_SERVICE: &str = r#"
import http.server, ssl, sys
class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        uri = self.headers.get("X-Forwarded-Uri") or self.headers.get("X-Original-URI")
        who = self.headers.get("Authorization")
        status = 204 if who == "good" else 403 if who == "bad" else 401
        if uri.startswith("/public"): status = 200
        if uri.startswith("/broken"): status = 500
        self.send_response(status)
        self.send_header("X-User", str(who))
        if status == 401: self.send_header("WWW-Authenticate", 'Basic realm="python"')
        if status != 204: self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn a_real_service_says_the_same_through_nginx_and_through_the_gateway() {
    let (service, upstream) = (python_server(PYTHON_SERVICE), Upstream::says("hi"));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream_at("auth", &format!("[\"{}\"]", service.addr), "")
        .top("filters: { gate: { ext_auth: { upstream: auth, path: /, response_headers: [x-user] } } }")
        .forward_all("filters: [gate]")
        .start();
    let peer = nginx(&format!(
        "server {{ listen @listen@; proxy_http_version 1.1; proxy_set_header Connection \"\";
           location / {{ auth_request /_auth; auth_request_set $who $upstream_http_x_user; proxy_set_header X-User $who; proxy_set_header Connection \"\";
             proxy_pass {}; }}
           location = /_auth {{ internal; proxy_pass {}/; proxy_pass_request_body off; proxy_set_header Content-Length \"\";
             proxy_set_header X-Original-URI $request_uri; proxy_set_header Connection \"\"; }} }}",
        url(upstream.addr),
        url(service.addr),
    ));
    for (path, who, ours, theirs) in [
        ("/a", "good", "200", "200"),
        ("/a", "bad", "403", "403"),
        ("/a", "", "401", "401"),
        ("/public/a", "", "200", "200"),
        ("/broken", "good", "503", "500"),
    ] {
        let field = format!("Authorization: {who}");
        let ask = |addr| curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", &field, &(url(addr) + path)]);
        assert_eq!((ask(gateway.addr).as_str(), ask(peer.addr).as_str()), (ours, theirs), "{path} {who}");
    }
    let challenge = |addr| curl(&["-i", "-o", "-", &(url(addr) + "/a")]);
    for addr in [gateway.addr, peer.addr] {
        assert!(challenge(addr).contains("WWW-Authenticate: Basic realm=\"python\""));
    }
    let seen: Vec<String> = upstream.requests().iter().map(|r| r.fields.all("x-user").join("|")).collect();
    assert_eq!(seen, ["good", "good", "None", "None"], "each of both");
}

#[test]
fn nothing_of_credentials_or_answers_is_told_anywhere() {
    let upstream = Upstream::says("hi");
    let service = Upstream::by(|request: &Request| match request.fields.get("x-case").unwrap() {
        "yes" => says(200, "X-User: s3cret\r\nSet-Cookie: s=s3cret\r\n", "s3cret"),
        "no" => says(403, "X-User: s3cret\r\n", "s3cret"),
        "broken" => says(500, "X-User: s3cret\r\n", "s3cret"),
        _ => b"HTTP/1.1 200 s3cret\r\nX-User: s3cret\r\nX-User: s3cret\r\n\r\ns3cret".to_vec(),
    });
    let keys = "gate: { ext_auth: { upstream: auth, path: \"/v?{query}\", headers: [authorization, cookie, x-case], principal: x-user, \
                response_headers: [x-user], client_headers: [set-cookie], cache: { ttl: 1s } } }, \
                copies: { mirror: { upstream: u } }";
    let gateway = filters(&upstream, &service, keys).forward_all("filters: [gate, copies]").start();
    for (case, status) in [("yes", 200), ("no", 403), ("broken", 503), ("odd", 503)] {
        let answer = gateway.ask(format!(
            "GET /{case}?token=s3cret HTTP/1.1\r\nHost: h\r\nAuthorization: s3cret\r\nCookie: a=s3cret\r\nX-Case: {case}\r\n\r\n"
        ));
        assert_eq!(answer.status, status, "{case}");
        gateway.log_of(&format!("/{case}"));
        if status == 503 {
            assert!(!answer.text().contains("s3cret"), "{answer:?}");
        }
    }
    let metrics = crate::support::gateway::get(gateway.admin, "/metrics").unwrap().text();
    let told = gateway.process.output() + &std::fs::read_to_string(&gateway.log).unwrap() + &metrics;
    assert!(!told.contains("s3cret"), "{told}");
}

#[test]
fn many_at_once_wait_beside_each_other_and_leave_nothing_behind() {
    let upstream = Upstream::says("hi");
    let service = Upstream::by(|request: &Request| {
        std::thread::sleep(Duration::from_millis(100));
        match request.fields.get("authorization") {
            Some("in") => says(200, "", ""),
            _ => says(401, "", ""),
        }
    });
    let gateway = with(&upstream, &service, "timeout: 10s").start();
    let mut clients: Vec<(Client, &str)> =
        (0..60).map(|n| (Client::connect(&gateway), ["in", "out", "gone"][n % 3])).collect();
    let start = Instant::now();
    for (client, who) in &mut clients {
        client.send(as_name("/a", who));
    }
    for (mut client, who) in clients {
        match who {
            "in" => assert_eq!(client.response().status, 200),
            "out" => assert_eq!(client.response().status, 401),
            _ => drop(client),
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    eventually("clients and questions have gone", || {
        let metrics = gateway.metrics();
        let active = metrics.sum(crate::support::names::REQUESTS_ACTIVE, &[]);
        // 60 to the service and 20 to the upstream may be kept.
        (active == 0.0 && gateway.sockets() < 100).then_some(())
    });
    assert_eq!(gateway.ask(as_name("/a", "in")).status, 200);
}
