//! HTTP.md, "Requests": what is refused, with which status, and that a refused request leaves no trace upstream.

use crate::support::client::{get, post_chunked};
use crate::support::message::Response;
use crate::support::wire::{Fault, show};
use crate::support::{Client, Gateway, Setup, Upstream};
use std::time::Duration;

/// A request that follows each malformed one on the same connection: were it answered, or seen upstream, two parties
/// would disagree about where the malformed one ended.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n";

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Case {
    Case { name, bytes: bytes.into(), statuses }
}

fn small(upstream: &Upstream) -> Gateway {
    Setup::forward(upstream).listener("timeouts: { request_header: 3s, request_body: 3s, keep_alive: 3s }").start()
}

/// Each case: one answer of the gateway's own with a listed status, then the end of the connection.
fn all_refused(gateway: &Gateway, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for Case { name, bytes, statuses } in cases {
        let mut client = Client::connect(gateway);
        // The gateway may close while we still send: what counts is what it answered.
        let _ = client.try_send([&bytes[..], SMUGGLED.as_bytes()].concat());
        let verdict = match client.try_response() {
            Err(e) => Err(format!("no answer: {e:?}")),
            Ok(r) if !statuses.contains(&r.status) => Err(format!("{} {}", r.status, r.text())),
            Ok(r) => {
                r.is_gateways_own(r.status);
                match client.rest() {
                    (more, Ok(()) | Err(Fault::Reset)) if more.is_empty() => Ok(()),
                    (more, end) => Err(format!("after {}: {} {end:?}", r.status, show(&more))),
                }
            }
        };
        if let Err(verdict) = verdict {
            wrong.push(format!("{name} (wanted {statuses:?} and close): {verdict}\n    sent {}", show(&bytes)));
        }
    }
    assert!(wrong.is_empty(), "{} cases wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn head(lines: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n\r\n")
}

#[test]
fn a_malformed_request_line_is_refused_and_the_connection_closed() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let line = |line: &str| format!("{line}\r\nHost: gw.test\r\n\r\n");
    all_refused(
        &gateway,
        vec![
            case("bare LF throughout", "GET /x HTTP/1.1\nHost: gw.test\n\n", &[400]),
            case("bare LF after the request line", "GET /x HTTP/1.1\nHost: gw.test\r\n\r\n", &[400]),
            case("bare CR after the request line", "GET /x HTTP/1.1\rHost: gw.test\r\n\r\n", &[400]),
            case("leading space", line(" GET /x HTTP/1.1"), &[400]),
            case("two spaces before the target", line("GET  /x HTTP/1.1"), &[400]),
            case("two spaces before the version", line("GET /x  HTTP/1.1"), &[400, 505]),
            case("trailing space", line("GET /x HTTP/1.1 "), &[400]),
            case("trailing junk", line("GET /x HTTP/1.1 x"), &[400]),
            case("tabs for spaces", line("GET\t/x\tHTTP/1.1"), &[400]),
            case("space in the target", line("GET /x y HTTP/1.1"), &[400, 505]),
            case("control byte in the target", line("GET /x\x01y HTTP/1.1"), &[400]),
            case("NUL in the target", line("GET /x\0y HTTP/1.1"), &[400]),
            case("DEL in the target", line("GET /x\x7fy HTTP/1.1"), &[400]),
            case("CR in the target", line("GET /x\ry HTTP/1.1"), &[400]),
            case("fragment in the target", line("GET /x#y HTTP/1.1"), &[400]),
            case("target without a slash", line("GET x HTTP/1.1"), &[400]),
            case("asterisk with GET", line("GET * HTTP/1.1"), &[400]),
            case("no method", line("/x HTTP/1.1"), &[400]),
            case("empty method", line(" /x HTTP/1.1"), &[400]),
            case("method with a separator", line("GE(T /x HTTP/1.1"), &[400]),
            case("method with NUL", line("GE\0T /x HTTP/1.1"), &[400]),
            case("absolute form of another scheme", line("GET ftp://gw.test/x HTTP/1.1"), &[400]),
            case("absolute form without a host", line("GET http:///x HTTP/1.1"), &[400]),
            case("absolute form with userinfo", line("GET http://u@gw.test/x HTTP/1.1"), &[400]),
            case("bad escape in the path", line("GET /%zz HTTP/1.1"), &[400]),
            case("cut escape in the path", line("GET /x% HTTP/1.1"), &[400]),
            case("TLS instead of HTTP", *b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[400]),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn only_http_1_0_and_1_1_are_spoken_and_nothing_is_taken_for_0_9() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let line = |line: &str| format!("{line}\r\nHost: gw.test\r\n\r\n");
    all_refused(
        &gateway,
        vec![
            case("0.9 simple request", "GET /x\r\n\r\n", &[400, 505]),
            case("0.9 named", line("GET /x HTTP/0.9"), &[505]),
            case("1.2", line("GET /x HTTP/1.2"), &[505]),
            case("1.10", line("GET /x HTTP/1.10"), &[400, 505]),
            case("2.0", line("GET /x HTTP/2.0"), &[505]),
            case("3.0", line("GET /x HTTP/3.0"), &[505]),
            case("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]),
            case("no dot", line("GET /x HTTP/11"), &[400, 505]),
            case("lower case", line("GET /x http/1.1"), &[400, 505]),
            case("another protocol", line("GET /x HTTQ/1.1"), &[400, 505]),
            case("version with a sign", line("GET /x HTTP/+1.1"), &[400, 505]),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn malformed_fields_are_refused_and_the_connection_closed() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    all_refused(
        &gateway,
        vec![
            case("bare LF after a field", "GET /x HTTP/1.1\r\nHost: gw.test\nX: y\r\n\r\n", &[400]),
            case("bare LF at the end of the head", "GET /x HTTP/1.1\r\nHost: gw.test\r\n\n", &[400]),
            case("LF LF at the end of the head", "GET /x HTTP/1.1\r\nHost: gw.test\n\n", &[400]),
            case("CR CR LF", "GET /x HTTP/1.1\r\nHost: gw.test\r\r\n\r\n", &[400]),
            case("bare CR in a value", head("X: a\rb"), &[400]),
            case("LF in a value", head("X: a\nContent-Length: 5"), &[400]),
            case("NUL in a value", head("X: a\0b"), &[400]),
            case("control byte in a value", head("X: a\x01b"), &[400]),
            case("vertical tab in a value", head("X: a\x0bb"), &[400]),
            case("escape in a value", head("X: \x1b[0m"), &[400]),
            case("DEL in a value", head("X: a\x7fb"), &[400]),
            case("obs-fold with a space", head("X: a\r\n b"), &[400]),
            case("obs-fold with a tab", head("X: a\r\n\tb"), &[400]),
            case("obs-fold of the first field", "GET /x HTTP/1.1\r\n X: y\r\nHost: gw.test\r\n\r\n", &[400]),
            case("obs-fold that hides a length", head("X: a\r\n Content-Length: 5"), &[400]),
            case("space before the colon", head("X : a"), &[400]),
            case("tab before the colon", head("X\t: a"), &[400]),
            case("space before the colon of the length", head("Content-Length : 5"), &[400]),
            case("space before the colon of the coding", head("Transfer-Encoding : chunked"), &[400]),
            case("empty name", head(": a"), &[400]),
            case("no colon", head("X"), &[400]),
            case("space inside a name", head("X Y: a"), &[400]),
            case("separator in a name", head("X@Y: a"), &[400]),
            case("NUL in a name", head("X\0Y: a"), &[400]),
            case("non-ASCII name", "GET /x HTTP/1.1\r\nHost: gw.test\r\nX\u{e9}: a\r\n\r\n", &[400]),
            case("quoted name", head("\"X\": a"), &[400]),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn there_is_exactly_one_valid_host() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let host = |host: &str| format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    all_refused(
        &gateway,
        vec![
            case("none on 1.1", "GET /x HTTP/1.1\r\nX: y\r\n\r\n", &[400]),
            case("none on 1.1 with absolute form", "GET http://gw.test/x HTTP/1.1\r\nX: y\r\n\r\n", &[400]),
            case("two that differ", "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
            case("two that agree", "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400]),
            case("two on 1.0", "GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
            case("empty", host(""), &[400]),
            case("space inside", host("a b"), &[400]),
            case("slash", host("a/b"), &[400]),
            case("query", host("a?b"), &[400]),
            case("fragment", host("a#b"), &[400]),
            case("userinfo", host("u@a"), &[400]),
            case("list", host("a,b"), &[400]),
            case("letters in the port", host("a:8x"), &[400]),
            case("sign in the port", host("a:+80"), &[400]),
            case("two ports", host("a:80:81"), &[400]),
            case("port too large", host("a:65536"), &[400]),
            case("bracket not closed", host("[::1"), &[400]),
            case("bracket not opened", host("::1]"), &[400]),
            case("nonsense in brackets", host("[gw.test]"), &[400]),
            case("junk after the bracket", host("[::1]x"), &[400]),
            case("bare IPv6", host("::1"), &[400]),
            case("backslash", host("a\\b"), &[400]),
            case("control byte", host("a\x01b"), &[400]),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn valid_hosts_are_accepted() {
    let upstream = Upstream::says("fine");
    let gateway = small(&upstream);
    for host in ["gw.test", "gw.test:80", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a-b_c.test", "GW.Test"]
    {
        let answer = gateway.ask(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status, 200, "{host}");
    }
    assert_eq!(gateway.ask("GET /x HTTP/1.0\r\n\r\n").status, 200, "1.0 needs no Host");
}

#[test]
fn a_doubtful_length_is_refused() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let length = |lines: &str| format!("POST /x HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n\r\nhello");
    all_refused(
        &gateway,
        vec![
            case("letters", length("Content-Length: 5x"), &[400]),
            case("plus", length("Content-Length: +5"), &[400]),
            case("minus", length("Content-Length: -5"), &[400]),
            case("hex", length("Content-Length: 0x5"), &[400]),
            case("empty", length("Content-Length:"), &[400]),
            case("inner space", length("Content-Length: 5 5"), &[400]),
            case("decimal point", length("Content-Length: 5.0"), &[400]),
            case("underscore", length("Content-Length: 5_0"), &[400]),
            case("two fields that differ", length("Content-Length: 5\r\nContent-Length: 6"), &[400]),
            case("a list that differs", length("Content-Length: 5, 6"), &[400]),
            case("a list with nothing", length("Content-Length: 5,"), &[400]),
            case("past 64 bits", length("Content-Length: 18446744073709551621"), &[400]),
            case("far past 64 bits", length("Content-Length: 99999999999999999999999999"), &[400]),
            case("vertical tab", length("Content-Length: \x0b5"), &[400]),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn repeated_equal_lengths_are_forwarded_as_one() {
    let upstream = Upstream::echo();
    let gateway = small(&upstream);
    for lines in
        ["Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5\r\ncontent-length:5"]
    {
        let answer = gateway.ask(format!("POST /x HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n\r\nhello"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{lines}");
    }
    for request in upstream.requests() {
        assert_eq!(request.fields.all("content-length"), ["5"]);
    }
}

#[test]
fn a_doubtful_transfer_coding_is_refused() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let coding = |lines: &str| format!("POST /x HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n\r\n0\r\n\r\n");
    all_refused(
        &gateway,
        vec![
            case("with a length after", coding("Transfer-Encoding: chunked\r\nContent-Length: 5"), &[400]),
            case("with a length before", coding("Content-Length: 5\r\nTransfer-Encoding: chunked"), &[400]),
            case("with a length of 0", coding("Content-Length: 0\r\nTransfer-Encoding: chunked"), &[400]),
            case("unknown coding with a length", coding("Content-Length: 5\r\nTransfer-Encoding: x"), &[400, 501]),
            case("gzip", coding("Transfer-Encoding: gzip"), &[501]),
            case("gzip, chunked", coding("Transfer-Encoding: gzip, chunked"), &[400, 501]),
            case("chunked, gzip", coding("Transfer-Encoding: chunked, gzip"), &[400, 501]),
            case("chunked, chunked", coding("Transfer-Encoding: chunked, chunked"), &[400, 501]),
            case("chunked twice", coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), &[400]),
            case(
                "chunked, then identity",
                coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
                &[400, 501],
            ),
            case("identity", coding("Transfer-Encoding: identity"), &[400, 501]),
            case("xchunked", coding("Transfer-Encoding: xchunked"), &[501]),
            case("chunkedx", coding("Transfer-Encoding: chunkedx"), &[501]),
            case("with a parameter", coding("Transfer-Encoding: chunked;q=1"), &[400, 501]),
            case("quoted", coding("Transfer-Encoding: \"chunked\""), &[400, 501]),
            case("in a list with nothing", coding("Transfer-Encoding: chunked,"), &[400, 501]),
            case("empty", coding("Transfer-Encoding:"), &[400, 501]),
            case("vertical tab", coding("Transfer-Encoding: \x0bchunked"), &[400]),
            case("NUL behind", coding("Transfer-Encoding: chunked\0"), &[400]),
            case("on 1.0", "POST /x HTTP/1.0\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
            case(
                "on 1.0 with keep-alive",
                "POST /x HTTP/1.0\r\nHost: gw.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                &[400],
            ),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn a_broken_chunked_body_is_refused_and_never_finished_upstream() {
    let upstream = Upstream::echo();
    let gateway = small(&upstream);
    let body = |body: &[u8]| {
        let head = b"POST /x HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        [head, body].concat()
    };
    let long = |n: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(n));
    let many = "5;ab=cd\r\nhello\r\n".repeat(4000) + "0\r\n\r\n";
    let trailers = |n: usize| "0\r\n".to_string() + &"T: v\r\n".repeat(n) + "\r\n";
    all_refused(
        &gateway,
        vec![
            case("no hex", body(b"g\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("minus", body(b"-5\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("plus", body(b"+5\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("0x", body(b"0x5\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("empty size", body(b"\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("leading space", body(b" 5\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("17 digits", body(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("past 64 bits", body(b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("junk after the size", body(b"5 x\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("bare LF after the size", body(b"5\nhello\r\n0\r\n\r\n"), &[400]),
            case("bare CR after the size", body(b"5\rhello\r\n0\r\n\r\n"), &[400]),
            case("no CRLF after the data", body(b"5\r\nhello0\r\n\r\n"), &[400]),
            case("LF after the data", body(b"5\r\nhello\n0\r\n\r\n"), &[400]),
            case("two other bytes after the data", body(b"5\r\nhelloXX0\r\n\r\n"), &[400]),
            case("data longer than its size", body(b"4\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("bare LF in an extension", body(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("bare CR in an extension", body(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("NUL in an extension", body(b"5;a\0b\r\nhello\r\n0\r\n\r\n"), &[400]),
            case("one extension over 16 KiB", body(long(17 * 1024).as_bytes()), &[400]),
            case("many extensions over 16 KiB", body(many.as_bytes()), &[400]),
            case("trailer without a colon", body(b"5\r\nhello\r\n0\r\nX\r\n\r\n"), &[400]),
            case("trailer with a bare LF", body(b"5\r\nhello\r\n0\r\nX: y\n\r\n"), &[400]),
            case("trailer folded", body(b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"), &[400]),
            case("trailer with NUL", body(b"5\r\nhello\r\n0\r\nX: y\0\r\n\r\n"), &[400]),
            case("bare LF at the end", body(b"5\r\nhello\r\n0\r\n\n"), &[400]),
            case("too many trailers", body(trailers(500).as_bytes()), &[400, 431]),
            case(
                "trailers too long",
                body(format!("0\r\nT: {}\r\n\r\n", "v".repeat(64 * 1024)).as_bytes()),
                &[400, 431],
            ),
        ],
    );
    let whole: Vec<_> = upstream.reparse().into_iter().flatten().collect();
    assert!(whole.is_empty(), "finished upstream: {whole:?}");
}

#[test]
fn chunk_extensions_and_size_digits_within_the_rule_are_accepted() {
    let upstream = Upstream::echo();
    let gateway = small(&upstream);
    for body in [
        "5;ext\r\nhello\r\n0\r\n\r\n",
        "5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n00\r\n\r\n",
    ] {
        let head = "POST /x HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = gateway.ask(format!("{head}{body}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{body:?}");
    }
    assert_eq!(upstream.reparse().concat().len(), 4, "and the extensions are gone");
}

#[test]
fn heads_past_the_bounds_are_refused_before_they_are_kept() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let fields = |n: usize| "X: y\r\n".repeat(n);
    all_refused(
        &gateway,
        vec![
            case("33 KiB in one field", head(&format!("X: {}", "y".repeat(33 * 1024))), &[431]),
            case("a name of 70 KB", head(&format!("{}: y", "X".repeat(70_000))), &[431]),
            case(
                "1 MiB without an end",
                format!("GET /x HTTP/1.1\r\nHost: gw.test\r\nX: {}", "y".repeat(1 << 20)),
                &[431],
            ),
            case("101 fields", format!("GET /x HTTP/1.1\r\nHost: gw.test\r\n{}\r\n", fields(100)), &[431]),
            case(
                "target of 8193 bytes",
                format!("GET /{} HTTP/1.1\r\nHost: gw.test\r\n\r\n", "a".repeat(8192)),
                &[414],
            ),
            case(
                "target of 20 KiB",
                format!("GET /{} HTTP/1.1\r\nHost: gw.test\r\n\r\n", "a".repeat(20 << 10)),
                &[414],
            ),
            case("target without an end", format!("GET /{}", "a".repeat(64 << 10)), &[414, 431]),
        ],
    );
    upstream.heard_nothing();
}

#[test]
fn heads_at_the_bounds_are_accepted() {
    let upstream = Upstream::says("fine");
    let gateway = small(&upstream);
    let fields = format!("GET /x HTTP/1.1\r\nHost: gw.test\r\n{}\r\n", "X: y\r\n".repeat(99));
    assert_eq!(gateway.ask(fields).status, 200, "100 fields");
    let target = format!("GET /{} HTTP/1.1\r\nHost: gw.test\r\n\r\n", "a".repeat(8191));
    assert_eq!(gateway.ask(target).status, 200, "a target of 8192 bytes");
    let frame = head("X: ").len();
    let large = head(&format!("X: {}", "y".repeat(32 * 1024 - frame)));
    assert_eq!(large.len(), 32 * 1024);
    assert_eq!(gateway.ask(large).status, 200, "a head of 32 KiB");
}

#[test]
fn bounds_are_config_keys() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).listener("bounds: { head: 1KiB, headers: 5, target: 64B }").start();
    assert_eq!(gateway.get("/short").status, 200);
    let before = upstream.requests().len();
    all_refused(
        &gateway,
        vec![
            case("head", head(&format!("X: {}", "y".repeat(1100))), &[431]),
            case("fields", head("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1"), &[431]),
            case("target", get(&format!("/{}", "a".repeat(64))), &[414]),
        ],
    );
    assert_eq!(upstream.requests().len(), before);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_like_any_other() {
    let upstream = Upstream::echo();
    let gateway = small(&upstream);
    let mut client = Client::connect(&gateway);
    client.send_in_pieces(&post_chunked("/drip?a=b", b"hello drip", 3), 1, Duration::from_micros(300));
    assert_eq!(client.response().text(), "hello drip");
    client.send_in_pieces(&post_chunked("/drip", b"and again", 9), 7, Duration::from_micros(300));
    assert_eq!(client.response().text(), "and again");
    assert_eq!(upstream.reparse().concat().len(), 2);
}

#[test]
fn connect_is_refused() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    for request in
        ["CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test:443\r\n\r\n", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let answer: Response = gateway.ask(request);
        assert!([400, 405].contains(&answer.status), "{answer:?}");
        answer.is_gateways_own(answer.status);
    }
    let answer = gateway.ask("CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test:443\r\n\r\n");
    assert_eq!(answer.status, 405);
    upstream.heard_nothing();
}

#[test]
fn options_asterisk_is_answered() {
    let upstream = Upstream::says("fine");
    let gateway = small(&upstream);
    let answer = gateway.ask("OPTIONS * HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert_eq!(answer.status, 204);
    assert!(answer.fields.get("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
    upstream.heard_nothing();
}

#[test]
fn a_good_request_before_a_bad_one_is_served_and_the_bad_one_ends_the_connection() {
    let upstream = Upstream::says("first");
    let gateway = small(&upstream);
    let mut client = Client::connect(&gateway);
    client.send(format!("{}GET /bad HTTP/1.1\r\nHost : gw.test\r\n\r\n{SMUGGLED}", get("/good")));
    assert_eq!(client.response().text(), "first");
    client.response().is_gateways_own(400);
    client.is_gone();
    assert_eq!(upstream.only_request().target, "/good");
}

#[test]
fn a_clients_fault_is_counted_and_logged_as_the_clients() {
    let upstream = Upstream::says("never");
    let gateway = small(&upstream);
    let mut client = Client::connect(&gateway);
    client.send(head("X : y"));
    client.response().is_gateways_own(400);
    let line = gateway.wait_log(|line| line["status"] == 400);
    assert!(line["upstream"].is_null(), "{line}");
    assert_eq!(line["end"], crate::support::names::end::BAD_REQUEST, "{line}");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum(crate::support::names::PARSE_ERRORS, &[("code", "400")]), 1.0);
    assert_eq!(metrics.sum(crate::support::names::PARSE_ERRORS, &[]), 1.0);
}
