//! Parts whose upstreams mean harm or are broken: each ends in its reason and in time, the other parts are fine, and the
//! gateway goes on.

use crate::support::aggregate::{json, json_of, part, part_of};
use crate::support::upstream::Conn;
use crate::support::{Client, Gateway, Setup, Upstream, eventually};
use std::time::{Duration, Instant};

/// What an upstream does behind its bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Waits,
    Closes,
    Resets,
}

use Then::*;

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    then: Then,
    reason: &'static str,
}

fn case(name: &'static str, reason: &'static str, then: Then, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), then, reason }
}

/// Answers `/N` with the bytes of case N.
fn hostile(cases: &[Case]) -> Upstream {
    let answers: Vec<(Vec<u8>, Then)> = cases.iter().map(|case| (case.bytes.clone(), case.then)).collect();
    Upstream::start(move |conn| {
        while let Some(request) = conn.request() {
            let (bytes, then) = &answers[request.target[1..].parse::<usize>().unwrap()];
            conn.write(bytes);
            match then {
                Waits => {}
                Closes => return,
                Resets => return conn.reset_on_close(),
            }
        }
    })
}

pub fn beside(upstream: &Upstream, fine: &Upstream, keys: &str) -> Setup {
    let parts =
        [part_of("fine", "first", "/fine", ""), part("it", "/{id}", keys), part_of("fine", "last", "/fine", "")];
    Setup::new().upstream("u", &[upstream], "").upstream("fine", &[fine], "").page("", &parts)
}

pub fn fine() -> Upstream {
    Upstream::pages(&[("/fine", r#"{"well":true}"#)])
}

pub const WITHOUT: &str = r#"{"first":{"well":true},"it":null,"last":{"well":true}}"#;

/// Asks for each case, and asserts that it ends as it should within its deadline.
fn each_ends_in_its_reason(cases: &[Case]) {
    let (upstream, fine) = (hostile(cases), fine());
    let gateway = beside(&upstream, &fine, "required: false, timeout: 1s").start();
    let mut client = Client::connect(&gateway);
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let start = Instant::now();
        let answer = client.get(&format!("/page/{n}"));
        let took = start.elapsed();
        let slow = took > Duration::from_millis(if case.reason == "timeout" { 1500 } else { 900 });
        if case.reason == "ok" {
            if answer.fields.get("x-gateway-completed") != Some("true") || slow {
                wrong.push(format!("{}: {took:?}, {answer:?}", case.name));
            }
            continue;
        }
        if answer.json()["code"] != 1 {
            wrong.push(format!("{}: it passed: {answer:?}", case.name));
            continue;
        }
        let (data, _) = answer.partial();
        let reason = answer.reason("it");
        if data != WITHOUT || reason != case.reason || slow {
            wrong.push(format!("{}: {reason} instead of {} after {took:?}, {data}", case.name, case.reason));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(upstream.requests().len(), cases.len(), "none was asked twice");
    eventually("connections of broken answers are closed", || (gateway.sockets() < 30).then_some(()));
    assert_eq!(fine.connections(), 2, "the others' connections are as good as before");
}

#[test]
fn what_is_not_json_is_a_bad_body() {
    let texts: Vec<(&'static str, Vec<u8>)> = vec![
        ("text", b"hello".to_vec()),
        ("html", b"<html></html>".to_vec()),
        ("cut off", b"{\"a\":".to_vec()),
        ("cut off in a string", b"\"abc".to_vec()),
        ("only whitespace", b"  \r\n".to_vec()),
        ("two values", b"{}{}".to_vec()),
        ("something behind", b"{} x".to_vec()),
        ("a key in the envelope's place", b"1},\"admin\":{\"x\":1".to_vec()),
        ("an end too many", b"[1]]".to_vec()),
        ("a comma too many", b"[1,]".to_vec()),
        ("a comma first", b"[,1]".to_vec()),
        ("an object's comma too many", b"{\"a\":1,}".to_vec()),
        ("no colon", b"{\"a\" 1}".to_vec()),
        ("a key without quotes", b"{a:1}".to_vec()),
        ("single quotes", b"{'a':1}".to_vec()),
        ("a comment", b"{/* */}".to_vec()),
        ("NaN", b"NaN".to_vec()),
        ("Infinity", b"-Infinity".to_vec()),
        ("a plus", b"+1".to_vec()),
        ("leading zero", b"01".to_vec()),
        ("no digit before the point", b".5".to_vec()),
        ("no digit behind the point", b"1.".to_vec()),
        ("no exponent", b"1e".to_vec()),
        ("hex", b"0x10".to_vec()),
        ("a minus alone", b"-".to_vec()),
        ("True", b"True".to_vec()),
        ("tru", b"tru".to_vec()),
        ("nullx", b"nullx".to_vec()),
        ("a line feed in a string", b"\"a\nb\"".to_vec()),
        ("a NUL in a string", b"\"a\0b\"".to_vec()),
        ("a NUL behind", b"1\0".to_vec()),
        ("an unknown escape", b"\"\\x41\"".to_vec()),
        ("a short escape", b"\"\\u12\"".to_vec()),
        ("an escape of no digits", b"\"\\u12g4\"".to_vec()),
        ("vertical tab as whitespace", b"\x0b1".to_vec()),
        ("no-break space as whitespace", b"\xc2\xa01".to_vec()),
        ("byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("UTF-16", b"\xff\xfe1\0".to_vec()),
        ("a lone continuation byte", b"\"\x80\"".to_vec()),
        ("a cut sequence", b"\"\xe6\x97\"".to_vec()),
        ("overlong slash", b"\"\xc0\xaf\"".to_vec()),
        ("a surrogate in UTF-8", b"\"\xed\xa0\x80\"".to_vec()),
        ("beyond U+10FFFF", b"\"\xf4\x90\x80\x80\"".to_vec()),
        ("Latin-1", b"\"\xfc\"".to_vec()),
        ("a key twice", b"{\"a\":1,\"a\":2}".to_vec()),
        ("a key twice, escaped", b"{\"a\":1,\"\\u0061\":1}".to_vec()),
        ("a key twice, deep", b"[{\"x\":{\"a\":1,\"b\":2,\"a\":3}}]".to_vec()),
        ("a key twice, empty", b"{\"\":1,\"\":2}".to_vec()),
        ("65 levels", [b"[".repeat(65), b"]".repeat(65)].concat()),
        ("65 levels of objects", [b"{\"a\":".repeat(65), b"1".to_vec(), b"}".repeat(65)].concat()),
        ("10,000 levels", b"[".repeat(10_000)),
        ("half a million levels", b"[".repeat(500_000)),
    ];
    let mut cases: Vec<Case> =
        texts.into_iter().map(|(name, body)| case(name, "bad_body", Waits, json(body))).collect();
    let deepest = [b"[".repeat(64), b"]".repeat(64)].concat();
    cases.push(case("64 levels", "ok", Waits, json(deepest)));
    cases.push(case("the same key on different levels", "ok", Waits, json(br#"{"a":{"a":[{"a":1},{"a":2}]},"A":1}"#)));
    let many: Vec<String> = (0..5000).map(|n| format!("\"k{n}\":{n}")).collect();
    cases.push(case("5000 keys", "ok", Waits, json(format!("{{{}}}", many.join(",")))));
    cases.push(case(
        "5000 keys and one of them again",
        "bad_body",
        Waits,
        json(format!("{{{},\"k77\":0}}", many.join(","))),
    ));
    each_ends_in_its_reason(&cases);
}

#[test]
fn a_head_that_promises_something_else_is_not_believed() {
    let with = |lines: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    each_ends_in_its_reason(&[
        case("html", "bad_body", Waits, with("Content-Type: text/html\r\n", "{}")),
        case("text", "bad_body", Waits, with("Content-Type: text/plain; charset=application/json\r\n", "{}")),
        case("a form", "bad_body", Waits, with("Content-Type: application/x-www-form-urlencoded\r\n", "1")),
        case("jsonp", "bad_body", Waits, with("Content-Type: application/javascript\r\n", "1")),
        case("an empty type", "bad_body", Waits, with("Content-Type: \r\n", "1")),
        case("json", "ok", Waits, with("Content-Type: APPLICATION/JSON ; charset=UTF-8\r\n", "{}")),
        case("+json", "ok", Waits, with("Content-Type: application/problem+json\r\n", "{}")),
        case("no type", "ok", Waits, with("", "{}")),
        case("no body of a wrong type", "ok", Waits, with("Content-Type: text/html\r\n", "")),
        case("gzip", "bad_body", Waits, with("Content-Encoding: gzip\r\n", "\x1f\u{8b}")),
        case(
            "gzip of what is JSON",
            "bad_body",
            Waits,
            with("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "{}"),
        ),
        case("br", "bad_body", Waits, with("Content-Encoding: br\r\n", "{}")),
        case("two codings", "bad_body", Waits, with("Content-Encoding: identity, gzip\r\n", "{}")),
        case(
            "two codings in two fields",
            "bad_body",
            Waits,
            with("Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", "{}"),
        ),
        case("identity", "ok", Waits, with("Content-Encoding: identity\r\n", "{}")),
    ]);
}

#[test]
fn content_type_any_looks_at_the_body_alone() {
    let cases = [
        case("text", "ok", Waits, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"),
        case(
            "no JSON",
            "bad_body",
            Waits,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
        ),
    ];
    let (upstream, fine) = (hostile(&cases), fine());
    let gateway = beside(&upstream, &fine, "required: false, content_type: any").start();
    assert!(gateway.get("/page/0").data().contains(r#""it":{}"#));
    assert_eq!(gateway.get("/page/1").reason("it"), "bad_body");
}

#[test]
fn what_is_not_http_or_ends_too_early() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let with = |rest: &str| format!("{head}{rest}").into_bytes();
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    each_ends_in_its_reason(&[
        case("nothing", "reset", Closes, ""),
        case("a reset", "reset", Resets, ""),
        case("half a head", "reset", Closes, "HTTP/1.1 200 OK\r\nContent-"),
        case("a head alone", "reset", Closes, with("Content-Length: 10\r\n\r\n")),
        case("half a body", "reset", Closes, with("Content-Length: 10\r\n\r\n[1,2")),
        case("half a body and a reset", "reset", Resets, with("Content-Length: 10\r\n\r\n[1,2")),
        case("whole JSON of a body that is cut", "reset", Closes, with("Content-Length: 10\r\n\r\n[1]")),
        case("a chunked head alone", "reset", Closes, with("Transfer-Encoding: chunked\r\n\r\n")),
        case("no last chunk", "reset", Closes, with("Transfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n")),
        case(
            "no line behind the last chunk",
            "reset",
            Closes,
            with("Transfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n"),
        ),
        case("JSON until a reset", "reset", Resets, with("\r\n[1]")),
        case("silence", "timeout", Waits, ""),
        case("silence in the head", "timeout", Waits, "HTTP/1.1 200 OK\r\n"),
        case("silence behind the head", "timeout", Waits, with("Content-Length: 10\r\n\r\n")),
        case("silence in the body", "timeout", Waits, with("Content-Length: 10\r\n\r\n[1,2")),
        case("silence behind whole JSON without an end", "timeout", Waits, with("\r\n[1]")),
        case("silence between chunks", "timeout", Waits, with("Transfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n")),
        case("no HTTP", "bad_body", Waits, "220 mail.example ESMTP\r\n\r\n"),
        case("JSON without a head", "bad_body", Waits, "{\"a\":1}\r\n\r\n"),
        case("lone CRs", "bad_body", Waits, "HTTP/1.1 200 OK\rContent-Length: 2\r\r{}\r\n\r\n"),
        case("lone LFs", "bad_body", Waits, "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
        case("NUL in a field", "bad_body", Waits, with("X: a\0b\r\nContent-Length: 2\r\n\r\n{}")),
        case("an unknown version", "bad_body", Waits, "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        case("two lengths", "bad_body", Waits, with("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}")),
        case(
            "length and chunks",
            "bad_body",
            Waits,
            with("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        ),
        case("a bad chunk", "bad_body", Waits, with("Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")),
        case(
            "a chunk without its end",
            "bad_body",
            Waits,
            with("Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n"),
        ),
        case("an endless field", "bad_body", Waits, with(&format!("X: {}", "y".repeat(1 << 20)))),
        case("a flood of 1xx", "bad_body", Waits, interim.repeat(10_000)),
        case("101", "bad_body", Waits, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        case("a few 1xx", "ok", Waits, [interim.repeat(3).into_bytes(), json("1")].concat()),
        case("an error behind a 1xx", "status", Waits, [interim.as_bytes().to_vec(), json_of(500, "", "{}")].concat()),
    ]);
}

#[test]
fn a_byte_now_and_then_does_not_buy_time() {
    let slow = Upstream::start(|conn: &mut Conn| {
        conn.request();
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while conn.write("1\r\n \r\n") {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let fine = fine();
    let gateway = beside(&slow, &fine, "required: false, timeout: 600ms").start();
    let start = Instant::now();
    let answer = gateway.get("/page/1");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!((answer.partial().0.as_str(), answer.reason("it").as_str()), (WITHOUT, "timeout"));
    slow.wait_over(0);
}

#[test]
fn a_connection_with_more_than_its_answer_is_not_used_again() {
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("surplus", [json("1"), b"x".to_vec()].concat(), "1"),
        ("a second answer", [json("1"), json("\"poison\"")].concat(), "1"),
        (
            "surplus behind chunks",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n".to_vec(),
            "1",
        ),
        ("a body of a 204", b"HTTP/1.1 204 No Content\r\n\r\n{\"x\":1}".to_vec(), "null"),
        ("a body of length 0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{\"x\":1}".to_vec(), "null"),
        ("surplus behind an error", [json_of(500, "", "{}"), b"x".to_vec()].concat(), "null"),
    ];
    for (name, answer, value) in cases {
        let upstream = Upstream::start(crate::support::misbehave::answers(answer));
        let fine = fine();
        let gateway = beside(&upstream, &fine, "required: false").start();
        let mut client = Client::connect(&gateway);
        for n in 1..=3 {
            let data = client.get("/page/1").json()["data"]["it"].to_string();
            assert_eq!((data.as_str(), upstream.connections()), (value, n), "{name}");
        }
    }
}

#[test]
fn many_hostile_parts_at_once_do_not_hurt_the_one_that_is_well() {
    let cases = [
        case("deep", "bad_body", Waits, json(b"[".repeat(10_000))),
        case("silent", "timeout", Waits, ""),
        case("cut", "reset", Closes, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1"),
        case("large", "too_large", Waits, "HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n["),
        case("garbage", "bad_body", Waits, "\0\0\0\0"),
        case("reset", "reset", Resets, ""),
    ];
    let (upstream, fine) = (hostile(&cases), fine());
    let parts: Vec<String> = (0..cases.len())
        .map(|n| part(&format!("p{n}"), &format!("/{n}"), "required: false, timeout: 1500ms"))
        .collect();
    let parts = [&parts[..], &[part_of("fine", "fine", "/fine", "")]].concat();
    let mut gateway: Gateway =
        Setup::new().upstream("u", &[&upstream], "").upstream("fine", &[&fine], "").page("", &parts).start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(&gateway);
                for _ in 0..3 {
                    let answer = client.get("/page/1");
                    assert!(answer.partial().0.ends_with(r#""fine":{"well":true}}"#));
                    (0..cases.len()).for_each(|n| {
                        assert_eq!(answer.reason(&format!("p{n}")), cases[n].reason, "{}", cases[n].name)
                    });
                }
            });
        }
    });
    gateway.is_well();
    eventually("no socket is left behind", || (gateway.sockets() < 30).then_some(()));
}
