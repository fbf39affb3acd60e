//! What the upstreams of an aggregation are asked: what of the client is passed on, what the gateway adds, where values go,
//! and what becomes of bodies.

use crate::support::aggregate::{asks, json, json_of, part, part_of, path_of};
use crate::support::client::{get, post, post_chunked};
use crate::support::message::{Framing, Request};
use crate::support::misbehave::{answers_before_the_body, breaks_after};
use crate::support::{Client, Gateway, Seeded, Setup, Upstream, eventually};

fn page(upstream: &Upstream, keys: &str, parts: &[String]) -> Gateway {
    Setup::new().upstream("u", &[upstream], "").page(keys, parts).start()
}

fn names(request: &Request) -> Vec<String> {
    let mut names: Vec<String> = request.fields.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn only_what_is_listed_is_passed_on() {
    let upstream = Upstream::by(|_| json("1"));
    let parts = [
        asks("bare", "u", "path: \"/bare?own=1\"", ""),
        asks("some", "u", "path: \"/some\", headers: [authorization, x-list, accept], query: [page, q]", ""),
        asks("both", "u", "path: \"/both?own=1\", query: [page]", ""),
    ];
    let gateway = page(&upstream, "", &parts);
    let answer = gateway.ask(
        "GET /page/1?page=2&secret=3&q=%20a+b&page=&pages=4&page&Q=1 HTTP/1.1\r\nHost: shop.test\r\nAuthorization: Bearer x\r\n\
         Cookie: a=b\r\nX-List: one\r\nx-list: two\r\nX-Other: no\r\nAccept: text/x\r\nAccept-Encoding: gzip\r\n\
         User-Agent: test\r\nIf-None-Match: \"x\"\r\nRange: bytes=0-1\r\nTE: trailers\r\nConnection: x-hop, te\r\nX-Hop: 1\r\n\
         Upgrade: h2c\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n",
    );
    assert_eq!(answer.data(), r#"{"bare":1,"some":1,"both":1}"#);
    let requests = upstream.requests();
    let of = |path: &str| requests.iter().find(|request| path_of(request) == path).unwrap();
    assert_eq!(of("/bare").target, "/bare?own=1");
    assert_eq!(of("/both").target, "/both?own=1&page=2&page=&page");
    assert_eq!(of("/some").target, "/some?page=2&q=%20a+b&page=&page");
    let (bare, some) = (of("/bare"), of("/some"));
    for request in [bare, some, of("/both")] {
        assert_eq!(request.fields.get("accept-encoding"), Some("identity"), "{request:?}");
        assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"), "{request:?}");
        assert_eq!(request.fields.get("x-forwarded-host"), Some("shop.test"), "{request:?}");
        assert_eq!(request.fields.get("x-request-id"), requests[0].fields.get("x-request-id"), "one for all");
        assert!(request.fields.get("x-request-id").is_some_and(|id| !id.is_empty()), "{request:?}");
        assert_eq!(request.fields.get("host"), Some(upstream.addr.to_string().as_str()));
        assert_eq!((request.method.as_str(), request.framing), ("GET", Framing::Nothing));
    }
    assert_eq!(bare.fields.get("accept"), Some("application/json"));
    let own = [
        "accept",
        "accept-encoding",
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ];
    assert_eq!(names(bare), own, "nothing of the client's own");
    let mut more = [&own[..], &["authorization", "x-list"]].concat();
    more.sort_unstable();
    assert_eq!(names(some), more);
    assert_eq!((some.fields.get("authorization"), some.fields.get("accept")), (Some("Bearer x"), Some("text/x")));
    assert_eq!(some.fields.all("x-list"), ["one", "two"], "all of a name, in their order");
    upstream.reparse();
}

#[test]
fn fields_that_are_set_have_the_values_of_the_request_and_of_other_parts() {
    let upstream =
        Upstream::by(|request| json(if path_of(request) == "/user" { r#"{"n":"a\r\nX-Evil: 1"}"# } else { "1" }));
    let set = "path: /x, set_headers: { accept: \"text/y\", x-id: \"<{id}>\", x-of: \"{parts.user.n}\", x-to: \"{header.x-from}\" }";
    let gateway = page(&upstream, "", &[part("user", "/user", ""), asks("x", "u", set, "")]);
    gateway.ask("GET /page/7 HTTP/1.1\r\nHost: a\r\nX-From: me\r\n\r\n").data();
    let request = upstream.requests().remove(1);
    let of = |name: &str| request.fields.get(name).map(str::to_owned);
    assert_eq!(of("accept").as_deref(), Some("text/y"));
    assert_eq!(of("x-id").as_deref(), Some("<7>"));
    assert_eq!(of("x-of").as_deref(), Some("a%0D%0AX-Evil: 1"));
    assert_eq!(of("x-to").as_deref(), Some("me"));
}

#[test]
fn what_the_client_calls_hop_by_hop_never_passes_even_if_listed() {
    let upstream = Upstream::by(|_| json("1"));
    let gateway = page(&upstream, "", &[asks("a", "u", "path: /a, headers: [x-hop, x-stays]", "")]);
    gateway.ask("GET /page/1 HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Stays: 2\r\n\r\n").data();
    let request = upstream.only_request();
    assert_eq!((request.fields.get("x-hop"), request.fields.get("x-stays")), (None, Some("2")));
}

#[test]
fn what_a_part_says_can_not_leave_its_place_in_a_path() {
    let hostile = [
        "../admin",
        "..",
        ".",
        "a/b?x#y",
        "a?x=1",
        "a#b",
        "a b",
        "a%2fb",
        "%2e%2e",
        "\\..\\x",
        "ü/日本",
        "a\r\nX-Evil: 1\r\n\r\n",
        "\0",
        "\u{7f}",
        "&own=2",
        ";p",
        "a//b",
        "{id}",
        "x\" HTTP/1.1",
        "//evil.test/",
        "http://evil.test/",
        "+",
        "~-_.",
    ];
    let said = hostile.map(|value| serde_json::json!({ "v": value }).to_string());
    let upstream = Upstream::by(move |request| match path_of(request).strip_prefix("/say/") {
        Some(n) => json(&said[n.parse::<usize>().unwrap()]),
        None => json("1"),
    });
    let parts = [
        part("say", "/say/{id}", ""),
        part("in_path", "/in/{parts.say.v}/end", "required: false"),
        part("in_query", "/query?own=1&v={parts.say.v}", "required: false"),
        asks(
            "in_body",
            "u",
            r#"method: POST, path: "/body", body: '{"v": {parts.say.v}, "t": "<{parts.say.v}>"}'"#,
            "required: false",
        ),
    ];
    let gateway = page(&upstream, "", &parts);
    for (n, value) in hostile.iter().enumerate() {
        let before = upstream.requests().len();
        let answer = gateway.get(&format!("/page/{n}"));
        assert_eq!(answer.status, 200, "{value:?}: {answer:?}");
        let requests = upstream.requests().split_off(before);
        for request in &requests {
            assert!(!request.fields.has("x-evil") && request.target.is_ascii(), "{value:?}: {request:?}");
        }
        let targets: Vec<&str> = requests.iter().map(|request| request.target.as_str()).collect();
        if let Some(target) = targets.iter().find(|target| target.starts_with("/in/")) {
            let segments: Vec<&str> = target.split('/').collect();
            assert!(
                segments.len() == 4 && segments[3] == "end" && !target.contains(['?', '#', '\\']),
                "{value:?}: {target}"
            );
            assert!(![".", ".."].contains(&segments[2]), "{value:?}: {target}");
            assert!(decodes_to(segments[2], value), "{value:?} became {target}");
        } else {
            panic!("{value:?}: {targets:?}");
        }
        let query = targets.iter().find_map(|target| target.strip_prefix("/query?own=1&v=")).unwrap();
        assert!(!query.contains(['&', '#', '=']) && decodes_to(query, value), "{value:?} became {query}");
        let body = requests.iter().find(|request| request.method == "POST").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body.body).unwrap();
        assert_eq!(body, serde_json::json!({ "v": value, "t": format!("<{value}>") }));
    }
    upstream.reparse();
}

/// Whether percent-decoding once, or twice for what an upstream could take for a separator, gives this text.
fn decodes_to(text: &str, value: &str) -> bool {
    let decode = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut rest = bytes;
        while let [b, tail @ ..] = rest {
            let hex = (*b == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    rest = &tail[2..];
                }
                None => {
                    out.push(*b);
                    rest = tail;
                }
            }
        }
        out
    };
    let once = decode(text.as_bytes());
    once == value.as_bytes() || decode(&once) == value.as_bytes()
}

#[test]
fn a_value_that_is_too_long_for_a_target_fails_its_part_alone() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/say" => json(format!("\"{}\"", "x".repeat(100_000))),
        _ => json("1"),
    });
    let parts =
        [part("say", "/say", "allow: [none]"), part("it", "/it/{parts.say}", "required: false"), part("c", "/c", "")];
    let answer = page(&upstream, "", &parts).get("/page/1");
    assert!(answer.partial().0.ends_with(r#""it":null,"c":1}"#), "{answer:?}");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn values_of_the_request_go_into_paths_too() {
    let upstream = Upstream::by(|request| json(format!("\"{}\"", request.target)));
    let parts = [part("a", "/a/{id}?q={query.q}", ""), part("b", "/b/{path.id}", ""), part("c", "/c?x={id}&y=1", "")];
    let gateway = page(&upstream, "", &parts);
    let data = gateway.get("/page/a%20b;c?q=1%262").data();
    assert_eq!(data, r#"{"a":"/a/a%20b;c?q=1%262","b":"/b/a%20b;c","c":"/c?x=a%20b%3Bc&y=1"}"#);
    let data = gateway.get("/page/a&y=2").data();
    assert_eq!(data, r#"{"a":"/a/a&y=2?q=","b":"/b/a&y=2","c":"/c?x=a%26y%3D2&y=1"}"#);
}

/// Tells method, content type and body of what it is asked.
fn telling() -> Upstream {
    Upstream::by(|request| {
        let content_type = request.fields.get("content-type").unwrap_or("none");
        let said = serde_json::json!([request.method, content_type, request.body.len(), request.target]);
        json(said.to_string())
    })
}

fn with_bodies(upstream: &Upstream) -> Gateway {
    let parts = [
        asks("get", "u", "path: /get", ""),
        asks("pass", "u", "method: POST, path: /pass, body: pass", ""),
        asks("put", "u", "method: PUT, path: \"/put/{id}\", body: pass", ""),
        asks("made", "u", r#"method: PATCH, path: /made, body: '{"id": "{id}", "n": [1, {}]}'"#, ""),
        asks("none", "u", "method: POST, path: /none", ""),
    ];
    page(upstream, "allow_unsafe_fanout: true, limits: { max_request_bytes: 100KiB }", &parts)
}

#[test]
fn bodies_are_passed_whole_to_each_part_that_wants_them() {
    let upstream = telling();
    let gateway = with_bodies(&upstream);
    let mut client = Client::connect(&gateway);
    let made = r#"{"id": "1", "n": [1, {}]}"#;
    for size in [0, 1, 1000, 16 << 10, 40_000, 100 << 10] {
        let body = Seeded(size as u64).bytes(size);
        let typed = |mut request: Vec<u8>| {
            let at = request.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
            request.splice(at..at, b"Content-Type: text/x\r\n".iter().copied());
            request
        };
        for request in [typed(post("/page/1", &body)), typed(post_chunked("/page/1", &body, 777))] {
            let before = upstream.requests().len();
            let data = client.ask(request).data();
            let wanted = format!(
                r#"{{"get":["GET","none",0,"/get"],"pass":["POST","text/x",{size},"/pass"],"put":["PUT","text/x",{size},"/put/1"],"made":["PATCH","application/json",{},"/made"],"none":["POST","none",0,"/none"]}}"#,
                made.len()
            );
            assert_eq!(data, wanted, "{size}");
            for request in upstream.requests().split_off(before) {
                match request.method.as_str() {
                    "GET" => assert_eq!(request.framing, Framing::Nothing),
                    "PATCH" => assert_eq!(request.body, made.as_bytes()),
                    _ if path_of(&request) == "/none" => assert_eq!(request.framing, Framing::Length(0)),
                    _ => assert!(request.body == body && request.framing == Framing::Length(size as u64)),
                }
            }
        }
    }
}

#[test]
fn a_request_behind_a_body_is_answered_too() {
    let upstream = telling();
    let gateway = with_bodies(&upstream);
    for body in ["x".repeat(20), "y".repeat(60_000)] {
        for framed in [post("/page/1", &body), post_chunked("/page/1", body.as_bytes(), 5000)] {
            let mut client = Client::connect(&gateway);
            client.send([framed.clone(), framed, get("/nowhere").into_bytes()].concat());
            for _ in 0..2 {
                assert!(client.response().data().contains(&format!(r#""pass":["POST","none",{}"#, body.len())));
            }
            assert_eq!(client.response().status, 404);
            let line = gateway.log_of("/page/1");
            assert!(line["bytes_in"].as_u64().is_some_and(|n| n as usize > 20), "{line}");
        }
    }
}

#[test]
fn a_body_that_is_too_large_is_413_and_nobody_is_asked() {
    let upstream = telling();
    let gateway = with_bodies(&upstream);
    let body = vec![b'x'; (100 << 10) + 1];
    for request in [post("/page/1", &body), post_chunked("/page/1", &body, 10_000)] {
        let mut client = Client::connect(&gateway);
        client.send(request);
        client.response().is_gateways_own(413);
        client.is_gone();
    }
    let mut client = Client::connect(&gateway);
    client.send("POST /page/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 102401\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.response();
    answer.is_gateways_own(413);
    assert!(answer.interim.is_empty(), "it is not asked for what it will not get rid of");
    upstream.heard_nothing();
}

#[test]
fn expect_is_answered_once_the_body_is_wanted() {
    let upstream = telling();
    let gateway = with_bodies(&upstream);
    for (framing, body) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let mut client = Client::connect(&gateway);
        client.send(format!("POST /page/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"));
        assert_eq!(client.wire.line().unwrap(), b"HTTP/1.1 100 Continue");
        assert_eq!(client.wire.line().unwrap(), b"");
        client.send(body);
        assert!(client.response().data().contains(r#""pass":["POST","none",5"#));
    }
}

#[test]
fn a_body_that_no_part_wants_is_not_taken_for_a_request() {
    let upstream = telling();
    let gateway = page(&upstream, "", &[part("a", "/a", "")]);
    let smuggled = get("/page/smuggled");
    for framed in [post("/page/1", &smuggled), post_chunked("/page/1", smuggled.as_bytes(), 10)] {
        let mut client = Client::connect(&gateway);
        client.send(framed);
        assert_eq!(client.response().data(), r#"{"a":["GET","none",0,"/a"]}"#);
        drop(client.try_send(get("/page/2")));
        // Either the body was skipped or the connection is closed: the next answer is that of the next request.
        if let Ok(answer) = client.try_response() {
            answer.data();
        }
    }
    let lines = eventually("a line for each that was framed", || {
        let lines = gateway.log_lines();
        (lines.iter().filter(|line| line["path"] == "/page/1").count() == 2).then_some(lines)
    });
    assert!(lines.iter().all(|line| line["path"] != "/page/smuggled"), "{lines:?}");
}

#[test]
fn expect_for_a_body_that_no_part_wants_is_not_answered() {
    let upstream = telling();
    let gateway = page(&upstream, "", &[part("a", "/a", "")]);
    let mut client = Client::connect(&gateway);
    client.send("POST /page/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.data(), r#"{"a":["GET","none",0,"/a"]}"#);
    assert!(answer.interim.is_empty());
    client.is_closed();
}

#[test]
fn a_body_that_does_not_come_ends_like_any_other() {
    let upstream = telling();
    let parts = [asks("pass", "u", "method: POST, path: /pass, body: pass", "")];
    let setup = Setup::new().upstream("u", &[&upstream], "").listener("timeouts: { request_body: 400ms }");
    let gateway = setup.page("", &parts).start();
    for (framing, status) in [
        ("Content-Length: 10\r\n\r\n12345", 408),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", 408),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400),
    ] {
        let mut client = Client::connect(&gateway);
        client.send(format!("POST /page/1 HTTP/1.1\r\nHost: a\r\n{framing}"));
        client.response().is_gateways_own(status);
        client.is_gone();
    }
    let mut client = Client::connect(&gateway);
    client.send("POST /page/gone HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    drop(client);
    assert_eq!(gateway.log_of("/page/gone")["end"], crate::support::names::end::CLIENT_GONE);
    upstream.heard_nothing();
}

#[test]
fn the_routes_deadline_holds_for_a_body_that_drips_too() {
    let upstream = telling();
    let parts = [asks("pass", "u", "method: POST, path: /pass, body: pass", "")];
    let setup = Setup::new().upstream("u", &[&upstream], "").page_within("500ms", "", &parts);
    let gateway = setup.start();
    let mut client = Client::connect(&gateway);
    client.send("POST /page/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    let start = std::time::Instant::now();
    for _ in 0..8 {
        client.send("x");
        std::thread::sleep(std::time::Duration::from_millis(50)); // a pace, not a wait
    }
    let status = client.response().status;
    assert!(start.elapsed().as_millis() < 1500, "answered after {:?}", start.elapsed());
    assert!([408, 504].contains(&status), "{status}");
}

#[test]
fn an_answer_before_the_whole_request_is_an_answer() {
    for size in [10, 900_000] {
        let upstream = Upstream::start(answers_before_the_body(json_of(413, "", "{}")));
        let parts = [asks("pass", "u", "method: POST, path: /pass, body: pass", "propagate_status: [413]")];
        page(&upstream, "", &parts).ask(post("/page/1", vec![b'x'; size])).failed(413, &["pass"]);
    }
}

#[test]
fn a_get_is_sent_once_more_on_a_broken_connection_and_an_unsafe_part_never() {
    let methods = ["GET", "OPTIONS"].map(|m| (m, true)).into_iter();
    for (method, again) in methods.chain(["POST", "PUT", "PATCH", "DELETE"].map(|m| (m, false))) {
        let upstream = Upstream::start(breaks_after(1, json("1"), json("2")));
        let request = format!("method: {method}, path: /a");
        let gateway = page(&upstream, "", &[asks("a", "u", &request, "")]);
        assert_eq!(gateway.get("/page/1").data(), r#"{"a":1}"#);
        let answer = gateway.get("/page/1");
        match again {
            true => assert_eq!(answer.data(), r#"{"a":2}"#, "{method}"),
            false => assert_eq!(answer.failed(502, &["a"])["parts"]["a"]["reason"], "reset", "{method}"),
        }
        assert_eq!(upstream.requests().len(), if again { 3 } else { 2 }, "{method}");
    }
}

#[test]
fn more_than_one_unsafe_part_is_refused_or_never_sent_twice() {
    let upstream = Upstream::start(breaks_after(1, json("1"), json("2")));
    let unsafe_part = |name: &str, method: &str| asks(name, "u", &format!("method: {method}, path: /{name}"), "");
    let parts = [unsafe_part("a", "PUT"), unsafe_part("b", "DELETE")];
    let said = Setup::new().upstream("u", &[&upstream], "").page("", &parts).refused();
    assert!(said.contains("allow_unsafe_fanout"), "{said}");
    // One after the other, so that both meet the connection that breaks.
    let parts = [unsafe_part("a", "PUT"), asks("b", "u", "method: DELETE, path: \"/b/{parts.a}\"", "")];
    let gateway = page(&upstream, "allow_unsafe_fanout: true", &parts);
    let meta = gateway.get("/page/1").failed(502, &["b"]);
    assert_eq!(meta["parts"]["b"]["reason"], "reset");
    assert_eq!(upstream.targets(), ["/a", "/b/1"]);
}

#[test]
fn a_shadow_gets_the_body_too() {
    let (upstream, other) = (telling(), Upstream::by(|_| json_of(500, "", "{}")));
    let parts = [
        asks("a", "u", "path: /a", ""),
        asks("s", "other", "method: POST, path: \"/s/{id}\", body: pass, headers: [x-a]", "shadow: { sample: 100% }"),
    ];
    let gateway =
        Setup::new().upstream("u", &[&upstream], "").upstream("other", &[&other], "").page("", &parts).start();
    gateway.ask("POST /page/7 HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello").data();
    let request = other.wait_requests(1).remove(0);
    assert_eq!(
        (request.target.as_str(), request.body.as_slice(), request.fields.get("x-a")),
        ("/s/7", &b"hello"[..], Some("b"))
    );
}

#[test]
fn parts_may_go_to_different_upstreams_by_different_names() {
    let (a, b) = (Upstream::pages(&[("/x", "\"a\"")]), Upstream::pages(&[("/x", "\"b\"")]));
    let parts = [part_of("a", "one", "/x", ""), part_of("b", "two", "/x", ""), part_of("a", "three", "/x", "")];
    let gateway = Setup::new().upstream("a", &[&a], "").upstream("b", &[&b], "").page("", &parts).start();
    assert_eq!(gateway.get("/page/1").data(), r#"{"one":"a","two":"b","three":"a"}"#);
    assert_eq!((a.requests().len(), b.requests().len()), (2, 1));
}
