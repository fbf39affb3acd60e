//! HTTP.md, "Responses": which answers of an upstream are passed on, and how the client can tell that one broke.

use crate::support::client::{get, post};
use crate::support::message::{Framing, Response, chunked, ok};
use crate::support::misbehave::*;
use crate::support::wire::Fault;
use crate::support::{Client, Gate, Gateway, Setup, Upstream, tls};
use std::time::Duration;

fn gateway(upstream: &Upstream) -> Gateway {
    Setup::new().upstream("u", &[upstream], "timeouts: { first_byte: 5s, body: 5s }").forward_all("").start()
}

/// The path of a case tells the upstream which answer to give.
fn by_number(answers: Vec<Vec<u8>>) -> Upstream {
    Upstream::start(move |conn| {
        if let Some(request) = conn.request() {
            let n: usize = request.target.trim_start_matches('/').parse().unwrap();
            conn.write(&answers[n]);
            // The gateway must notice on its own, not because the connection closes.
            conn.until_ended();
        }
    })
}

#[test]
fn an_answer_with_a_doubtful_head_is_502_and_never_passed_on() {
    let with = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello").into_bytes();
    let status = |line: &str| format!("{line}\r\nContent-Length: 5\r\n\r\nhello").into_bytes();
    let many = "X: y\r\n".repeat(300);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("both length and coding", with("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("length in letters", with("Content-Length: five")),
        ("negative length", with("Content-Length: -5")),
        ("length with a plus", with("Content-Length: +5")),
        ("empty length", with("Content-Length:")),
        ("two lengths that differ", with("Content-Length: 5\r\nContent-Length: 6")),
        ("a list of lengths that differ", with("Content-Length: 5, 6")),
        ("length past 64 bits", with("Content-Length: 99999999999999999999999")),
        ("unknown coding", with("Transfer-Encoding: gzip")),
        ("gzip, chunked", with("Transfer-Encoding: gzip, chunked")),
        ("chunked twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("chunked, gzip", with("Transfer-Encoding: chunked, gzip")),
        ("no colon", with("X\r\nContent-Length: 5")),
        ("empty name", with(": x\r\nContent-Length: 5")),
        ("space before the colon", with("X : y\r\nContent-Length: 5")),
        ("NUL in a value", with("X: a\0b\r\nContent-Length: 5")),
        ("control byte in a value", with("X: a\x01b\r\nContent-Length: 5")),
        ("bare CR in a value", with("X: a\rb\r\nContent-Length: 5")),
        ("NUL in a name", with("X\0: y\r\nContent-Length: 5")),
        ("obs-fold", with("X: a\r\n b\r\nContent-Length: 5")),
        ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_vec()),
        ("no HTTP at all", b"220 mail.example ESMTP\r\n\r\n".to_vec()),
        ("version 2.0", status("HTTP/2.0 200 OK")),
        ("version 1.2", status("HTTP/1.2 200 OK")),
        ("version 0.9", status("HTTP/0.9 200 OK")),
        ("another protocol", status("HTTQ/1.1 200 OK")),
        ("letters for a status", status("HTTP/1.1 abc OK")),
        ("status of two digits", status("HTTP/1.1 20 OK")),
        ("status of four digits", status("HTTP/1.1 2000 OK")),
        ("status 099", status("HTTP/1.1 099 OK")),
        ("status 000", status("HTTP/1.1 000 OK")),
        ("no status", status("HTTP/1.1")),
        ("NUL in the reason", status("HTTP/1.1 200 O\0K")),
        ("leading space", status(" HTTP/1.1 200 OK")),
        ("300 fields", format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 5\r\n\r\nhello").into_bytes()),
        ("64 KiB of head", with(&format!("X: {}\r\nContent-Length: 5", "y".repeat(64 << 10)))),
        ("1 MiB of head without an end", format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(1 << 20)).into_bytes()),
        (
            "101 that nobody asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
    ];
    let upstream = by_number(cases.iter().map(|(_, bytes)| bytes.clone()).collect());
    let gateway = gateway(&upstream);
    let mut wrong = Vec::new();
    for (n, (name, _)) in cases.iter().enumerate() {
        let mut client = Client::connect(&gateway);
        client.send(get(&format!("/{n}")));
        match client.try_response() {
            Ok(r) if r.status == 502 => r.is_gateways_own(502),
            other => wrong.push(format!("{name}: {:?}", other.map(|r| (r.status, r.text())))),
        }
    }
    assert!(wrong.is_empty(), "not 502:\n{}", wrong.join("\n"));
    for conn in 0..upstream.connections() {
        upstream.wait_ended(conn);
    }
    assert_eq!(upstream.connections(), cases.len(), "none was reused, none was retried");
}

/// Reads an answer whose head is fine; gives how its body failed.
fn broken_body(client: &mut Client) -> (Response, Fault) {
    let mut head = client.head().unwrap();
    assert_eq!(head.status, 200);
    let fault = head.read_body(&mut client.wire).expect_err("a clean end of a truncated body");
    (head, fault)
}

fn is_cut(fault: &Fault) {
    assert!(matches!(fault, Fault::Cut | Fault::Reset), "{fault:?}");
}

#[test]
fn a_body_cut_short_by_the_upstream_never_ends_cleanly() {
    let starts: [(&str, &str); 4] = [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
        ("chunked, in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello"),
        ("chunked, between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("chunked, without the last line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
    ];
    for (name, start) in starts {
        for reset in [false, true] {
            let gate = Gate::default();
            let upstream = match reset {
                false => Upstream::start(starts_and_closes(start, gate.clone())),
                true => Upstream::start(starts_and_resets(start, gate.clone())),
            };
            let gateway = gateway(&upstream);
            let mut client = Client::connect(&gateway);
            client.send(get("/x"));
            let mut head = client.head().unwrap_or_else(|e| panic!("{name}: {e:?}"));
            gate.open();
            let fault = head.read_body(&mut client.wire).expect_err(name);
            is_cut(&fault);
            assert!("hello".starts_with(&head.text()), "{name}: {:?}", head.text());
            client.is_cut_off();
        }
    }
}

#[test]
fn a_close_delimited_body_that_ends_by_a_reset_does_not_end_cleanly() {
    // Over TLS an end that is not announced is none either (RFC 8446 6.1).
    for reset in if tls::is_on() { &[true, false][..] } else { &[true] } {
        for version in ["1.1", "1.0"] {
            let (gate, start) = (Gate::default(), "HTTP/1.1 200 OK\r\n\r\nhello");
            let upstream = match reset {
                true => Upstream::start(starts_and_resets(start, gate.clone())),
                false => Upstream::start(starts_and_is_cut(start, gate.clone())),
            };
            let gateway = gateway(&upstream);
            let mut client = Client::connect(&gateway);
            client.send(format!("GET /x HTTP/{version}\r\nHost: gw.test\r\n\r\n"));
            let mut head = client.head().unwrap();
            gate.open();
            is_cut(&head.read_body(&mut client.wire).expect_err("a clean end"));
            client.is_cut_off();
        }
    }
}

#[test]
fn a_bad_chunk_never_becomes_a_clean_answer() {
    let bodies = [
        "g\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\nfffffffffffffffff\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    ];
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let upstream = by_number(bodies.iter().map(|body| format!("{head}{body}").into_bytes()).collect());
    let gateway = gateway(&upstream);
    for (n, body) in bodies.iter().enumerate() {
        let mut client = Client::connect(&gateway);
        client.send(get(&format!("/{n}")));
        match client.try_response() {
            Ok(r) => {
                assert_eq!(r.status, 502, "{body:?} became {r:?}");
            }
            Err(fault) => {
                is_cut(&fault);
                client.is_cut_off();
            }
        }
        assert!(client.rest().0.is_empty());
        upstream.wait_ended(n);
    }
}

#[test]
fn an_upstream_that_breaks_before_the_answer_is_502() {
    for (name, upstream) in [
        ("closes", Upstream::start(closes_before_the_answer)),
        ("resets", Upstream::start(resets)),
        ("half a status line", Upstream::start(answers_and_closes("HTTP/1.1 2"))),
        ("half a head", Upstream::start(answers_and_closes("HTTP/1.1 200 OK\r\nContent-Le"))),
        ("half a head and a reset", Upstream::start(answers_and_resets("HTTP/1.1 200 OK\r\nContent-Le"))),
    ] {
        let gateway = gateway(&upstream);
        let mut client = Client::connect(&gateway);
        client.send(post("/x", "hello"));
        client.response().is_gateways_own(502);
        assert_eq!(upstream.heads().len(), 1, "{name}: a POST is sent once");
        assert_eq!(client.ask(post("/y", "hello")).status, 502, "{name}: the client's connection lives");
    }
}

#[test]
fn a_close_delimited_answer_is_passed_on_whole() {
    let body = "x".repeat(300_000);
    let upstream = Upstream::start(answers_and_closes(format!("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n{body}")));
    let gateway = gateway(&upstream);
    let answer = gateway.get("/x");
    assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    let upstream = Upstream::start(answers_and_closes("HTTP/1.0 200 OK\r\n\r\nold"));
    let gateway = self::gateway(&upstream);
    let answer = gateway.get("/x");
    assert_eq!((answer.text().as_str(), answer.version.as_str()), ("old", "HTTP/1.1"));
}

#[test]
fn answers_without_a_body_have_none_whatever_their_head_says() {
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            let answer = match request.target.as_str() {
                "/204" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1234\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
                "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                other => panic!("{other}"),
            };
            if !conn.write(answer) {
                return;
            }
        }
    });
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/204").status, 204);
    let answer = client.get("/304");
    assert_eq!((answer.status, answer.fields.get("etag")), (304, Some("\"a\"")));
    client.send("HEAD /head HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    let answer = client.response_to_head();
    assert_eq!((answer.status, answer.fields.get("content-length")), (200, Some("1234")));
    client.send("HEAD /head-chunked HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert_eq!(client.response_to_head().status, 200);
    assert_eq!(client.get("/empty").framing, Framing::Length(0));
    assert_eq!(upstream.connections(), 1, "every one of them left the upstream's connection usable");
}

#[test]
fn bytes_behind_an_answer_without_a_body_are_never_taken_for_the_next_answer() {
    for (request, answer) in [
        (get("/x"), "HTTP/1.1 204 No Content\r\n\r\n"),
        (get("/x"), "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (get("/x"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (get("/x").replace("GET", "HEAD"), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ] {
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        let first = format!("{answer}{poison}");
        let upstream = Upstream::start(move |conn| {
            if conn.index == 0 {
                conn.request();
                conn.write(&first);
                conn.until_ended();
                return;
            }
            answers(ok("clean"))(conn);
        });
        let gateway = gateway(&upstream);
        let mut client = Client::connect(&gateway);
        client.send(&request);
        let got = client.response_to_head();
        assert_eq!(got.status.to_string(), &answer[9..12]);
        let next = client.get("/next");
        assert_eq!(next.text(), "clean", "after {answer:?}");
        assert_eq!(upstream.connections(), 2);
    }
}

#[test]
fn bytes_behind_an_answer_are_never_taken_for_the_next_answer() {
    let poison = ok("poison");
    for answer in [
        ok("first"),
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(b"first", 5)].concat(),
    ] {
        let both = [answer, poison.clone()].concat();
        let upstream = Upstream::start(move |conn| {
            if conn.index == 0 {
                conn.request();
                conn.write(&both);
                conn.until_ended();
                return;
            }
            answers(ok("clean"))(conn);
        });
        let gateway = gateway(&upstream);
        let mut client = Client::connect(&gateway);
        assert_eq!(client.get("/x").text(), "first");
        assert_eq!(client.get("/next").text(), "clean");
    }
}

#[test]
fn interim_answers_are_passed_on_and_the_final_one_follows() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\nLink: </c.css>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let upstream = Upstream::start(answers(answer));
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        let answer = client.get("/x");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        let statuses: Vec<u16> = answer.interim.iter().map(|r| r.status).collect();
        assert_eq!(statuses, [103, 102, 103]);
        assert_eq!(answer.interim[0].fields.get("link"), Some("</a.css>; rel=preload"));
        assert_eq!(answer.interim[2].fields.all("link"), ["</b.css>", "</c.css>"]);
    }
    let old = gateway.ask("GET /x HTTP/1.0\r\nHost: gw.test\r\n\r\n");
    assert_eq!(old.text(), "hello");
    assert!(old.interim.is_empty(), "RFC 9110 15.2: no 1xx to a 1.0 client");
}

#[test]
fn an_interim_answer_tells_nothing_that_the_gateway_changes_in_answers() {
    let answer = "HTTP/1.1 103 Early Hints\r\nX-Internal: secret\r\nX_Internal: 2\r\nLocation: http://10.0.0.1/v2\r\n\
                  Set-Cookie: a=b; Domain=users.internal\r\nAccess-Control-Allow-Origin: *\r\n\
                  LINK: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\nUpload-Offset: 7\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let upstream = Upstream::start(answers(answer));
    let gateway = Setup::new()
        .top("filters: { pages: { cors: { origins: [\"https://app.test\"] } } }")
        .upstream("u", &[&upstream], "")
        .forward_path("/plain", "")
        .forward_path("/removed", "response_headers: { remove: [x-internal, link] }")
        .forward_path("/renamed", "response_headers: { rename: { x-internal: x-other, link: x-link } }")
        .forward_path("/back", "rewrite: { location: true, cookies: { domain: { users.internal: gw.test } } }")
        .route("match: { path: /filtered }, filters: [pages], forward: { upstream: u }")
        .start();
    let all = "x-internal x_internal location set-cookie access-control-allow-origin link upload-offset";
    for (path, gone) in [
        ("/plain", ""),
        ("/removed", "x-internal x_internal link"),
        ("/renamed", "x-internal x_internal link"),
        ("/back", "location set-cookie"),
        ("/filtered", "access-control-allow-origin"),
    ] {
        let answer = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\n\r\n"));
        assert_eq!((answer.status, answer.interim.len()), (200, 1), "{path}");
        let names = answer.interim[0].fields.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect::<Vec<_>>();
        let kept: Vec<&str> = all.split(' ').filter(|name| !gone.split(' ').any(|gone| gone == *name)).collect();
        assert_eq!(names, kept, "{path}");
    }
}

#[test]
fn an_interim_answer_arrives_before_the_final_one_exists() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        conn.request();
        conn.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        open.wait();
        conn.write(ok("final"));
        conn.until_ended();
    });
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    client.send(get("/x"));
    // The status line of the interim answer, read by hand: the strict reader waits for the final one.
    assert_eq!(client.wire.line().unwrap(), b"HTTP/1.1 103 Early Hints");
    while !client.wire.line().unwrap().is_empty() {}
    gate.open();
    assert_eq!(client.response().text(), "final");
}

#[test]
fn endless_interim_answers_end_at_the_routes_deadline() {
    let upstream = Upstream::start(|conn| {
        conn.request();
        while conn.write("HTTP/1.1 102 Processing\r\n\r\n") {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let gateway = Setup::new().upstream("u", &[&upstream], "").forward_all("timeout: 400ms").start();
    let answer = gateway.get("/x");
    assert!([502, 504].contains(&answer.status), "{answer:?}");
    assert!(!answer.interim.is_empty());
}

#[test]
fn an_answer_before_the_body_was_sent_is_streamed_and_both_sides_closed() {
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nthanks";
    let upstream = Upstream::start(answers_before_the_body(answer));
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    client.send("POST /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 10000000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (403, "thanks"));
    upstream.wait_ended(0);
    client.is_gone();
    assert!(upstream.requests().is_empty());
}

#[test]
fn reason_order_case_and_duplicates_survive() {
    let answer = "HTTP/1.1 418 I'm a (short) teapot\r\nX-Zed: 1\r\nsEt-CooKie: a=1\r\nX-Alpha: 2\r\nSet-Cookie: b=2\r\n\
                  x-empty:\r\nX-High: \u{e9}\r\nContent-Length: 3\r\n\r\ntea";
    let upstream = Upstream::start(answers(answer));
    let gateway = gateway(&upstream);
    let got = gateway.get("/x");
    assert_eq!((got.status, got.reason.as_str()), (418, "I'm a (short) teapot"));
    let kept: Vec<(&str, &str)> = got
        .fields
        .0
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .filter(|(n, _)| n.starts_with(['X', 'x', 's', 'S']) && !n.eq_ignore_ascii_case("x-request-id"))
        .collect();
    let high = "\u{c3}\u{a9}";
    assert_eq!(
        kept,
        [
            ("X-Zed", "1"),
            ("sEt-CooKie", "a=1"),
            ("X-Alpha", "2"),
            ("Set-Cookie", "b=2"),
            ("x-empty", ""),
            ("X-High", high)
        ]
    );
    let empty_reason = Upstream::start(answers("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(self::gateway(&empty_reason).get("/x").reason, "");
}

#[test]
fn hop_by_hop_fields_of_an_answer_stay_behind() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Private, keep-alive\r\nKeep-Alive: timeout=9\r\nX-Private: secret\r\n\
                  Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nTE: trailers\r\nX-Kept: yes\r\n\
                  Content-Length: 2\r\n\r\nok";
    let upstream = Upstream::start(answers(answer));
    let gateway = gateway(&upstream);
    let got = gateway.get("/x");
    assert_eq!(got.text(), "ok");
    assert_eq!(got.fields.get("x-kept"), Some("yes"));
    for name in ["x-private", "keep-alive", "proxy-authenticate", "proxy-connection", "upgrade", "te"] {
        assert!(!got.fields.has(name), "{name}: {got:?}");
    }
    let attack =
        Upstream::start(answers("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok"));
    assert_eq!(self::gateway(&attack).get("/x").text(), "ok", "Connection can not take the framing away");
}

#[test]
fn an_upstream_that_says_close_is_not_asked_again_on_that_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        // It goes on listening on the connection: whether to close is the gateway's decision.
        let upstream = Upstream::start(answers(answer));
        let gateway = gateway(&upstream);
        let mut client = Client::connect(&gateway);
        for _ in 0..3 {
            let got = client.get("/x");
            assert_eq!((got.status, got.text().as_str()), (200, "ok"));
        }
        assert_eq!(upstream.connections(), 3, "{answer:?}");
    }
}

#[test]
fn an_answer_in_single_bytes_is_passed_on_whole() {
    let answer =
        [b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(b"hello, slow world", 4)]
            .concat();
    let upstream = Upstream::start(drips(answer, Duration::from_millis(1)));
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        assert_eq!(client.get("/x").text(), "hello, slow world");
    }
}

#[test]
fn a_body_streams_before_it_is_complete() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        conn.request();
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        open.wait();
        conn.write("4\r\nlast\r\n0\r\n\r\n");
        conn.until_ended();
    });
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    client.send(get("/x"));
    let mut answer = client.head().unwrap();
    let mut first = Vec::new();
    assert_eq!(client.wire.line().unwrap(), b"5");
    client.wire.exact(5, &mut |piece| first.extend_from_slice(piece)).unwrap();
    assert_eq!(first, b"first");
    assert_eq!(client.wire.line().unwrap(), b"");
    gate.open();
    answer.read_body(&mut client.wire).unwrap();
    assert_eq!(answer.text(), "last");
}

#[test]
fn a_chunked_answer_reaches_a_1_0_client_without_chunks() {
    let answer =
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(b"hello old world", 4)].concat();
    let upstream = Upstream::start(answers(answer));
    let gateway = gateway(&upstream);
    for keep in ["", "Connection: keep-alive\r\n"] {
        let mut client = Client::connect(&gateway);
        client.send(format!("GET /x HTTP/1.0\r\nHost: gw.test\r\n{keep}\r\n"));
        let got = client.response();
        assert_eq!((got.text().as_str(), got.framing), ("hello old world", Framing::Close));
        assert!(!got.fields.has("transfer-encoding"));
    }
}

#[test]
fn a_broken_body_for_a_1_0_client_ends_by_a_reset_not_by_a_clean_close() {
    let gate = Gate::default();
    let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let upstream = Upstream::start(starts_and_closes(start, gate.clone()));
    let gateway = gateway(&upstream);
    let mut client = Client::connect(&gateway);
    client.send("GET /x HTTP/1.0\r\nHost: gw.test\r\n\r\n");
    let mut head = client.head().unwrap();
    gate.open();
    assert_eq!(head.read_body(&mut client.wire), Err(Fault::Reset), "the close is all that a 1.0 client can tell from");
}

#[test]
fn a_broken_answer_is_cut_and_the_next_connection_is_served() {
    let gate = Gate::default();
    gate.open();
    let upstream = Upstream::start(starts_and_closes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", gate));
    let gateway = gateway(&upstream);
    for _ in 0..3 {
        let mut client = Client::connect(&gateway);
        client.send(get("/x"));
        let (_, fault) = broken_body(&mut client);
        is_cut(&fault);
        client.is_cut_off();
    }
    let line = gateway.log_of("/x");
    assert_eq!(line["end"], crate::support::names::end::TRUNCATED, "{line}");
}
