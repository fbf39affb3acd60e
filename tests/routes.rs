//! Which route a request takes, what the routes' actions answer, and how the request changes on its way upstream.

use crate::support::client::post;
use crate::support::message::{Request, ok};
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, tls};

/// Routes that answer their own name.
pub fn naming(routes: &[(&str, &str)]) -> Setup {
    let route = |setup: Setup, (name, matches): &(&str, &str)| {
        setup.route(&format!("name: {name}, match: {{ {matches} }}, respond: {{ status: 200, body: {name} }}"))
    };
    routes.iter().fold(Setup::new(), route)
}

/// What each request is answered with: the body, or the status where that is not 200.
pub fn table(gateway: &Gateway, cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (host, path, expected) in cases {
        let answer = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let got = if answer.status == 200 { answer.text() } else { answer.status.to_string() };
        if got != *expected {
            wrong.push(format!("{host}{path}: {got} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends one request through and gives what the upstream saw.
fn seen(setup: Setup, upstream: &Upstream, request: &str) -> Request {
    let gateway = setup.start();
    let answer = gateway.ask(request);
    assert_eq!(answer.status, 200, "{answer:?}");
    upstream.reparse();
    upstream.requests().pop().unwrap()
}

#[test]
fn exact_and_param_paths_come_before_prefixes_and_the_longest_prefix_wins() {
    let gateway = naming(&[
        ("root", r#"path: "/""#),
        ("exact", r#"path: "/user/me""#),
        ("param", r#"path: "/user/{id}""#),
        ("two", r#"path: "/user/{id}/order/{order}""#),
        ("orders", r#"path: "/user/{id}/order/{*rest}""#),
        ("user", r#"path: "/user/{*rest}""#),
        ("any", r#"path: "/{*rest}""#),
    ])
    .start();
    table(
        &gateway,
        &[
            ("a", "/", "root"),
            ("a", "/user/me", "exact"),
            ("a", "/user/7", "param"),
            ("a", "/user/me/", "user"),
            ("a", "/user/7/order/9", "two"),
            ("a", "/user/7/order/9/x", "orders"),
            ("a", "/user/7/order", "orders"),
            ("a", "/user/7/order/", "orders"),
            ("a", "/user/7/other", "user"),
            ("a", "/user/", "user"),
            ("a", "/user", "user"),
            ("a", "/users", "any"),
            ("a", "/User/me", "any"),
            ("a", "/user/me?x=/user/7", "exact"),
            ("a", "/x/y/z", "any"),
        ],
    );
}

#[test]
fn hosts_go_from_exact_to_the_longest_wildcard_to_any_and_fall_through() {
    let gateway = naming(&[
        ("exact", r#"host: api.example.com, path: "/a""#),
        ("wild", r#"host: "*.example.com", path: "/{*rest}""#),
        ("longer", r#"host: "*.eu.example.com", path: "/a""#),
        ("any", r#"path: "/a""#),
        ("other", r#"path: "/only-any""#),
    ])
    .start();
    table(
        &gateway,
        &[
            ("api.example.com", "/a", "exact"),
            ("API.Example.COM", "/a", "exact"),
            ("api.example.com:8080", "/a", "exact"),
            ("api.example.com", "/b", "wild"),
            ("x.example.com", "/a", "wild"),
            ("x.eu.example.com", "/a", "longer"),
            ("x.eu.example.com", "/b", "wild"),
            ("example.com", "/a", "any"),
            ("example.org", "/a", "any"),
            ("example.org", "/b", "404"),
            ("badexample.com", "/a", "any"),
            ("[::1]", "/a", "any"),
        ],
    );
}

#[test]
fn a_path_that_a_host_does_not_know_falls_through_to_the_next_level() {
    let gateway = naming(&[("exact", "host: a.test, path: /a"), ("any", "path: /b")]).start();
    table(&gateway, &[("a.test", "/a", "exact"), ("a.test", "/b", "any"), ("b.test", "/a", "404")]);
}

#[test]
fn no_route_is_404_in_the_one_envelope() {
    let gateway = naming(&[("a", "path: /a")]).start();
    let answer = gateway.get("/b");
    answer.is_gateways_own(404);
    assert_eq!(answer.json()["code"], 40401);
}

#[test]
fn a_method_no_route_takes_is_405_with_allow() {
    let gateway = naming(&[
        ("read", "path: /a, methods: [GET, HEAD]"),
        ("write", "path: /a, methods: [POST, PUT]"),
        ("odd", "path: /b, methods: [PURGE]"),
    ])
    .start();
    table(&gateway, &[("a", "/a", "read")]);
    assert_eq!(gateway.ask(post("/a", "")).text(), "write");
    let answer = gateway.ask("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n");
    answer.is_gateways_own(405);
    let mut allow: Vec<&str> = answer.fields.get("allow").unwrap().split(", ").collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST", "PUT"]);
    let answer = gateway.get("/b");
    answer.is_gateways_own(405);
    assert_eq!(answer.fields.get("allow"), Some("PURGE"));
    assert_eq!(gateway.ask("PURGE /b HTTP/1.1\r\nHost: a\r\n\r\n").text(), "odd");
}

#[test]
fn respond_gives_status_fields_and_body() {
    let gateway = Setup::new()
        .route(
            r#"match: { path: /robots.txt }, respond: { status: 203, headers: { content-type: text/plain, x-you: "{client_ip}" }, body: "User-agent: *\nDisallow: /\n" }"#,
        )
        .route("match: { path: /nothing }, respond: { status: 204 }")
        .start();
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        let answer = client.get("/robots.txt");
        assert_eq!((answer.status, answer.text().as_str()), (203, "User-agent: *\nDisallow: /\n"));
        assert_eq!(answer.fields.get("content-type"), Some("text/plain"));
        assert_eq!(answer.fields.get("x-you"), Some("127.0.0.1"));
        assert_eq!(client.get("/nothing").status, 204);
    }
    let answer = client.ask(post("/robots.txt", vec![b'x'; 10_000]));
    assert_eq!(answer.status, 203, "a body that nobody wanted does not spoil the connection");
    if answer.fields.has("connection") {
        client.is_gone();
    } else {
        assert_eq!(client.get("/nothing").status, 204);
    }
}

#[test]
fn redirect_gives_status_and_location() {
    let gateway = Setup::new()
        .route(r#"match: { path: "/old/{*rest}" }, redirect: { to: "https://new.example{path}", status: 301 }"#)
        .route(r#"match: { path: "/item/{id}" }, redirect: { to: "/i/{path.id}" }"#)
        .route(r#"match: { path: /secure }, redirect: { to: "https://{hostname}/new" }"#)
        .route(r#"match: { path: /same }, redirect: { to: "https://{host}/new" }"#)
        .start();
    for (path, host, expected) in [
        ("/secure", "H.example:38080", "https://h.example/new"),
        ("/secure", "[::1]:38080", "https://[::1]/new"),
        ("/secure", "h.example", "https://h.example/new"),
        ("/same", "h.example:38080", "https://h.example:38080/new"),
    ] {
        let answer = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.fields.get("location")), (308, Some(expected)), "{path} {host}");
    }
    let answer = gateway.get("/old/a/b");
    assert_eq!((answer.status, answer.fields.get("location")), (301, Some("https://new.example/old/a/b")));
    let answer = gateway.get("/item/7");
    assert_eq!((answer.status, answer.fields.get("location")), (308, Some("/i/7")));
    let answer = gateway.get("/item/a%0d%0aSet-Cookie:x");
    let location = answer.fields.get("location").unwrap_or_default();
    assert!(!answer.fields.has("set-cookie") && !location.contains(['\r', '\n']), "{answer:?}");
}

#[test]
fn prefixes_are_stripped_and_added_and_the_query_survives() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/strip/{*rest}", "rewrite: { strip_prefix: /strip }")
        .forward_path("/add/{*rest}", "rewrite: { add_prefix: /v1 }")
        .forward_path("/both/{*rest}", "rewrite: { strip_prefix: /both, add_prefix: /v2 }")
        .forward_path("/order/{user}/{id}", r#"rewrite: { path: "/u/{path.user}/o/{path.id}" }"#)
        .forward_path("/same/{*rest}", "")
        .start();
    for (path, expected) in [
        ("/strip/a/b?q=1&r=/x", "/a/b?q=1&r=/x"),
        ("/strip", "/"),
        ("/strip/", "/"),
        ("/strip?q", "/?q"),
        ("/add/x", "/v1/add/x"),
        ("/both/x?y", "/v2/x?y"),
        ("/order/7/9?z=1", "/u/7/o/9?z=1"),
        ("/order/a%20b/9", "/u/a%20b/o/9"),
        ("/same/%7Ea/%41%2a?%2f=../..", "/same/~a/A%2A?%2f=../.."),
        ("/same/x?", "/same/x?"),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let target = upstream.requests().pop().unwrap().target;
        // An empty query may be dropped or kept: both are the same resource to every upstream we know.
        assert_eq!(target.trim_end_matches('?'), expected.trim_end_matches('?'), "{path}");
    }
    upstream.reparse();
}

#[test]
fn dot_segments_are_removed_before_matching_and_what_matched_is_forwarded() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/public/{*rest}", "")
        .route("match: { path: \"/secret/{*rest}\" }, respond: { status: 403 }")
        .start();
    for (path, expected) in [
        ("/public/./a", "/public/a"),
        ("/public/a/../b", "/public/b"),
        ("/public/a/b/../../c", "/public/c"),
        ("/x/../public/a", "/public/a"),
        ("/public/a/..", "/public/"),
        ("/public/a/.", "/public/a/"),
        ("/public/...", "/public/..."),
        ("/public/.a/..b", "/public/.a/..b"),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(upstream.requests().pop().unwrap().target, expected, "{path}");
    }
    gateway.get("/../../public/a").is_gateways_own(400);
    let before = upstream.requests().len();
    for path in [
        "/public/../secret/x",
        "/public/%2e%2e/secret/x",
        "/public/%2E./secret/x",
        "/public/.%2e/secret/x",
        "/public/a/%2e%2e/%2e%2e/secret/x",
        "/public/..;/secret/x",
        "/public/..%2fsecret/x",
        "/public/..%5csecret/x",
        "/public/..\\secret/x",
    ] {
        let answer = gateway.get(path);
        let forwarded: Vec<String> = upstream.requests().into_iter().skip(before).map(|r| r.target).collect();
        let harmless = |target: &String| target.starts_with("/public/") && target.contains("..;");
        assert!(
            [400, 403].contains(&answer.status) || forwarded.iter().all(harmless),
            "{path}: {} {forwarded:?}",
            answer.status
        );
    }
}

#[test]
fn encoded_slashes_and_nul_are_refused_unless_kept_by_the_listener() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).start();
    for path in ["/a%2Fb", "/a%2fb", "/a%5Cb", "/a%5cb", "/a%00b", "/%00", "/a%2f..%2fb"] {
        gateway.get(path).is_gateways_own(400);
    }
    assert_eq!(gateway.get("/a?b=%2F%5C%00").status, 200, "the query is nobody's path");
    assert_eq!(upstream.only_request().target, "/a?b=%2F%5C%00");
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).listener("paths: { encoded_slashes: keep }").start();
    for path in ["/a%2Fb", "/a%2fb", "/a%5Cb"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
        let target = upstream.requests().pop().unwrap().target;
        assert!(target.eq_ignore_ascii_case(path), "{path}: {target}: what was matched is what is forwarded");
    }
    gateway.get("/a%00b").is_gateways_own(400);
}

#[test]
fn duplicate_slashes_stay_unless_merged_by_the_listener() {
    for (merge, cases) in [
        ("false", [("/a//b", "/a//b"), ("//a", "//a"), ("/a/b//", "/a/b//")]),
        ("true", [("/a//b", "/a/b"), ("///a", "/a"), ("/a/b//", "/a/b/")]),
    ] {
        let upstream = Upstream::says("ok");
        let gateway = Setup::forward(&upstream).listener(&format!("paths: {{ merge_slashes: {merge} }}")).start();
        for (path, expected) in cases {
            assert_eq!(gateway.get(path).status, 200, "{path}");
            assert_eq!(upstream.requests().pop().unwrap().target, expected, "merge {merge}: {path}");
        }
    }
}

#[test]
fn the_host_sent_upstream_follows_the_routes_policy() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/default", "")
        .forward_path("/upstream", "rewrite: { host: upstream }")
        .forward_path("/pass", "rewrite: { host: pass }")
        .forward_path("/literal", "rewrite: { host: fixed.example }")
        .start();
    let addr = upstream.addr.to_string();
    for (path, expected) in
        [("/default", addr.as_str()), ("/upstream", &addr), ("/pass", "gw.test"), ("/literal", "fixed.example")]
    {
        assert_eq!(gateway.get(path).status, 200);
        assert_eq!(upstream.requests().pop().unwrap().fields.get("host"), Some(expected), "{path}");
    }
}

#[test]
fn absolute_form_wins_over_host_and_becomes_it() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route("match: { host: real.test, path: /x }, forward: { upstream: u, rewrite: { host: pass } }")
        .start();
    let answer = gateway.ask("GET http://real.test/x?y=1 HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(answer.status, 200);
    let request = upstream.only_request();
    assert_eq!((request.target.as_str(), request.fields.get("host")), ("/x?y=1", Some("real.test")));
    assert_eq!(gateway.ask("GET http://other.test/x HTTP/1.1\r\nHost: real.test\r\n\r\n").status, 404);
    assert_eq!(gateway.ask("GET http://real.test HTTP/1.1\r\nHost: real.test\r\n\r\n").status, 404, "its path is /");
}

#[test]
fn forwarding_fields_tell_the_truth_and_those_of_a_stranger_are_dropped() {
    let upstream = Upstream::says("ok");
    let request = "GET /x HTTP/1.1\r\nHost: gw.test:81\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
                   X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
                   X-Request-Id: mine\r\nVia: 1.0 fred\r\n\r\n";
    let setup = Setup::forward(&upstream);
    let gateway = setup.start();
    assert_eq!(gateway.ask(request).status, 200);
    let got = upstream.only_request();
    assert_eq!(got.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.fields.get("x-forwarded-proto"), Some(tls::either("https", "http")));
    assert_eq!(got.fields.get("x-forwarded-host"), Some("gw.test:81"));
    assert!(!got.fields.has("forwarded"), "{got:?}");
    let id = got.fields.get("x-request-id").unwrap();
    assert_ne!(id, "mine");
    let via = got.fields.all("via").join(", ");
    assert!(via.ends_with("1.1 ringway"), "{via}");
    let line = gateway.log_of("/x");
    assert_eq!((line["client"].as_str(), line["request_id"].as_str()), (Some("127.0.0.1"), Some(id)));
    let text = format!("{got:?}");
    assert!(!text.contains("6.6.6.6") || got.fields.has("x-real-ip"), "{text}");
}

#[test]
fn a_trusted_proxys_forwarding_fields_are_kept_and_extended() {
    let upstream = Upstream::says("ok");
    let request = "GET /x HTTP/1.1\r\nHost: inner.test\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
                   X-Forwarded-Host: outer.test\r\nX-Request-Id: from-the-edge\r\n\r\n";
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("trusted_proxies: [127.0.0.0/8]")
        .forward_path("/{*rest}", r#"request_headers: { set: { x-client: "{client_ip}" } }"#)
        .start();
    assert_eq!(gateway.ask(request).status, 200);
    let got = upstream.only_request();
    let chain = got.fields.all("x-forwarded-for").join(", ");
    assert_eq!(chain, "6.6.6.6, 203.0.113.9, 127.0.0.1");
    assert_eq!(got.fields.get("x-forwarded-proto"), Some("https"));
    assert_eq!(got.fields.get("x-forwarded-host"), Some("outer.test"));
    assert_eq!(got.fields.get("x-request-id"), Some("from-the-edge"));
    assert_eq!(got.fields.get("x-client"), Some("203.0.113.9"), "the first address that is not a trusted proxy's");
    assert_eq!(gateway.log_of("/x")["client"], "203.0.113.9");
    // Nonsense from a trusted proxy must neither panic nor be believed.
    for chain in ["", "unknown", "6.6.6.6,", ",,,", "1.2.3.4:80", "[::1]", "a, b, 9.9.9.9", "\u{fc}"] {
        let answer = gateway.ask(format!("GET /y HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {chain}\r\n\r\n"));
        assert_eq!(answer.status, 200, "{chain:?}");
    }
}

#[test]
fn request_ids_are_one_per_request_and_go_everywhere() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/{*rest}", r#"response_headers: { set: { x-request-id: "{request_id}" } }"#)
        .start();
    let mut client = Client::connect(&gateway);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = client.get("/x");
        let id = answer.fields.get("x-request-id").unwrap().to_string();
        assert_eq!(upstream.requests().pop().unwrap().fields.get("x-request-id"), Some(id.as_str()));
        gateway.wait_log(|line| line["request_id"] == id.as_str());
        assert!(ids.insert(id));
    }
}

#[test]
fn hop_by_hop_fields_of_a_request_stay_behind() {
    let upstream = Upstream::says("ok");
    let request = "GET /x HTTP/1.1\r\nHost: gw.test\r\nConnection: X-Private, keep-alive\r\nKeep-Alive: timeout=9\r\n\
                   X-Private: secret\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: gzip\r\n\
                   Upgrade: h2c\r\nX-Kept: yes\r\nAuthorization: Bearer x\r\n\r\n";
    let got = seen(Setup::forward(&upstream), &upstream, request);
    for name in ["x-private", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
        assert!(!got.fields.has(name), "{name}: {got:?}");
    }
    assert!(got.fields.all("connection").iter().all(|v| !v.to_lowercase().contains("x-private")), "{got:?}");
    assert_eq!((got.fields.get("x-kept"), got.fields.get("authorization")), (Some("yes"), Some("Bearer x")));
}

#[test]
fn connection_can_not_take_away_what_the_gateway_needs() {
    let upstream = Upstream::says("ok");
    let attack = "POST /x HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer x\r\n\
                  Connection: host, authorization, x-forwarded-for, X-Forwarded-Proto, x-forwarded-host, x-request-id, via\r\n\
                  Connection: content-length, transfer-encoding, cache-control\r\nContent-Length: 5\r\n\r\nhello";
    let got = seen(Setup::forward(&upstream), &upstream, attack);
    assert_eq!(got.body, b"hello");
    assert!(got.fields.has("host"));
    assert_eq!(got.fields.get("authorization"), Some("Bearer x"));
    assert_eq!(got.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    for name in ["x-forwarded-proto", "x-forwarded-host", "x-request-id", "via"] {
        assert!(got.fields.has(name), "{name}: {got:?}");
    }
    let upstream = Upstream::says("ok");
    let chunked = "POST /x HTTP/1.1\r\nHost: gw.test\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(seen(Setup::forward(&upstream), &upstream, chunked).body, b"hello");
}

#[test]
fn te_trailers_survives() {
    let upstream = Upstream::says("ok");
    let request = "GET /x HTTP/1.1\r\nHost: gw.test\r\nConnection: TE\r\nTE: trailers\r\n\r\n";
    let got = seen(Setup::forward(&upstream), &upstream, request);
    assert!(got.fields.get("te").is_none_or(|te| te == "trailers"), "{got:?}");
}

#[test]
fn order_case_and_duplicates_of_a_requests_fields_survive() {
    let upstream = Upstream::says("ok");
    let request =
        "GET /x HTTP/1.1\r\nHost: gw.test\r\nX-Zed: 1\r\nx-ALPHA: 2\r\nX-Zed: 3\r\nx-empty:\r\nX-High: \u{e9}\r\n\r\n";
    let got = seen(Setup::forward(&upstream), &upstream, request);
    let kept: Vec<(&str, &str)> = got
        .fields
        .0
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .filter(|(n, _)| ["x-zed", "x-alpha", "x-empty", "x-high"].contains(&n.to_lowercase().as_str()))
        .collect();
    assert_eq!(kept, [("X-Zed", "1"), ("x-ALPHA", "2"), ("X-Zed", "3"), ("x-empty", ""), ("X-High", "\u{c3}\u{a9}")]);
}

#[test]
fn header_edits_set_add_and_remove_both_ways() {
    let answer = "HTTP/1.1 200 OK\r\nServer: secret\r\nX-Old: 1\r\nX-Old: 2\r\nVary: a\r\nContent-Length: 2\r\n\r\nok";
    let upstream = Upstream::start(answers(answer));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path(
            "/user/{id}",
            r#"request_headers: { set: { x-gateway: ringway, x-user: "{path.id}", x-q: "{query.q}", x-h: "{header.x-in}", x-host: "{host}", x-none: "{query.nope}" }, add: { x-many: "2" }, remove: [X-Debug] },
               response_headers: { set: { x-old: new, x-id: "{request_id}" }, add: { vary: b }, remove: [server] }"#,
        )
        .start();
    let answer = gateway.ask(
        "GET /user/a%20b?q=1%202 HTTP/1.1\r\nHost: gw.test\r\nX-Gateway: fake\r\nx-debug: 1\r\nX-DEBUG: 2\r\nX-Many: 1\r\nX-In: in\r\n\r\n",
    );
    let got = upstream.only_request();
    assert_eq!(got.fields.all("x-gateway"), ["ringway"]);
    assert!(["a b", "a%20b"].contains(&got.fields.get("x-user").unwrap()), "{got:?}");
    assert!(["1 2", "1%202"].contains(&got.fields.get("x-q").unwrap()), "{got:?}");
    assert_eq!((got.fields.get("x-h"), got.fields.get("x-host")), (Some("in"), Some("gw.test")));
    assert_eq!(got.fields.get("x-none").unwrap_or_default(), "");
    assert_eq!(got.fields.all("x-many"), ["1", "2"]);
    assert!(!got.fields.has("x-debug"));
    assert_eq!(answer.fields.all("x-old"), ["new"]);
    assert_eq!(answer.fields.all("vary"), ["a", "b"]);
    assert_eq!(answer.fields.get("x-id"), got.fields.get("x-request-id"));
    assert!(!answer.fields.has("server"), "{answer:?}");
    assert_eq!(answer.text(), "ok");
}

#[test]
fn a_template_can_not_be_used_to_inject_fields() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/user/{id}", r#"request_headers: { set: { x-user: "{path.id}", x-q: "{query.q}" } }"#)
        .start();
    for path in
        ["/user/a%0d%0aX-Evil:%201", "/user/a?q=%0d%0aX-Evil:%201", "/user/a%0aX-Evil:1?q=%0a", "/user/x?q=%00%7f%01"]
    {
        let answer = gateway.get(path);
        assert!([200, 400].contains(&answer.status), "{path}: {answer:?}");
    }
    for request in upstream.reparse().concat() {
        assert!(!request.fields.has("x-evil"), "{request:?}");
    }
}

#[test]
fn filters_run_in_order_all_routes_then_listener_then_route_unless_left_out() {
    let upstream = Upstream::start(answers(ok("ok")));
    let filter = |name: &str| format!("  {name}: {{ request_headers: {{ add: {{ x-order: {name} }} }} }}\n");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters:\n{}", ["one", "two", "three", "four"].map(filter).concat()))
        .top("all_routes: { filters: [two] }")
        .listener("filters: [one]")
        .forward_path("/plain", "")
        .route("match: { path: /more }, filters: [four, three], forward: { upstream: u }")
        .route("match: { path: /less }, filters: [four], without: [two, one], forward: { upstream: u }")
        .start();
    for (path, expected) in
        [("/plain", vec!["two", "one"]), ("/more", vec!["two", "one", "four", "three"]), ("/less", vec!["four"])]
    {
        assert_eq!(gateway.get(path).status, 200);
        assert_eq!(upstream.requests().pop().unwrap().fields.all("x-order"), expected, "{path}");
    }
}

#[test]
fn two_listeners_serve_the_same_routes_with_their_own_settings() {
    let upstream = Upstream::says("ok");
    let second = crate::support::free_port();
    let gateway = Setup::forward(&upstream)
        .listener("bounds: { headers: 3 }")
        .listener(&format!(
            "max_requests: 1\n  - name: second\n    address: \"127.0.0.1:{second}\"\n    {}",
            tls::of_listener()
        ))
        .start();
    let request = "GET /x HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
    gateway.ask(request).is_gateways_own(431);
    let mut client = Client::to(([127, 0, 0, 1], second).into());
    assert_eq!(client.ask(request).text(), "ok");
    assert_eq!(client.ask(request).text(), "ok");
}
