//! Heads and framings, a line for each rule of HTTP.md: what ours makes of them, and which rule says who is right where
//! the other codec does not agree.

use super::codecs::Way::{self, Answers, Requests};
use super::rules::Right::{self, *};

/// What ours makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// So many whole messages, and nothing left.
    Whole(usize),
    /// So many, and then one that waits for more.
    More(usize),
    /// Refused with this status, behind as many whole ones.
    Refused(usize, u16),
}
use Verdict::{More, Refused, Whole};

pub struct Case {
    pub name: &'static str,
    pub way: Way,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
    /// What decides between the codecs; `None` where they agree.
    pub right: Option<Right>,
}

/// A request line, fields and what follows.
fn request(line: &str, rest: &str) -> Vec<u8> {
    format!("{line}\r\nHost: gw.test\r\n{rest}").into_bytes()
}

/// A GET with these field lines.
fn fields(lines: &str) -> Vec<u8> {
    request("GET /x HTTP/1.1", &format!("{lines}\r\n\r\n"))
}

/// A POST with these field lines and this behind its head.
fn post(lines: &str, body: &str) -> Vec<u8> {
    request("POST /x HTTP/1.1", &format!("{lines}\r\n\r\n{body}"))
}

/// A chunked POST.
fn chunks(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

/// An answer.
fn answer(line: &str, rest: &str) -> Vec<u8> {
    format!("{line}\r\n{rest}").into_bytes()
}

/// A request behind another: where it is not seen, or seen in the wrong place, the codec has lost the boundary.
pub const NEXT: &str = "GET /next HTTP/1.1\r\nHost: gw.test\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |way, name, bytes: Vec<u8>, verdict, right| cases.push(Case { name, way, bytes, verdict, right });
    let mut req = |name, bytes, verdict, right| add(Requests, name, bytes, verdict, right);

    // Request lines (RFC 9112 3).
    req("the least request", request("GET / HTTP/1.1", "\r\n"), Whole(1), None);
    req("path and query", request("GET /a/b?c=d&e HTTP/1.1", "\r\n"), Whole(1), None);
    req("a method of its own", request("PURGE /x HTTP/1.1", "\r\n"), Whole(1), None);
    req("HTTP/1.0 without a Host", b"GET /x HTTP/1.0\r\n\r\n".to_vec(), Whole(1), None);
    req("an empty line first", [b"\r\n", &*request("GET / HTTP/1.1", "\r\n")].concat(), Whole(1), None);
    req("two pipelined", [&*fields("A: b"), NEXT.as_bytes()].concat(), Whole(2), None);
    req("no version", b"GET /x\r\n\r\n".to_vec(), Refused(0, 400), None);
    req("HTTP/0.9", b"GET /x HTTP/0.9\r\nHost: gw.test\r\n\r\n".to_vec(), Refused(0, 505), None);
    req("HTTP/2.0", request("GET /x HTTP/2.0", "\r\n"), Refused(0, 505), None);
    req("HTTP/1.2", request("GET /x HTTP/1.2", "\r\n"), Refused(0, 505), None);
    req("a version in small letters", request("GET /x http/1.1", "\r\n"), Refused(0, 400), None);
    req("two spaces before the target", request("GET  /x HTTP/1.1", "\r\n"), Refused(0, 400), None);
    req("two spaces before the version", request("GET /x  HTTP/1.1", "\r\n"), Refused(0, 400), None);
    req("a space behind the version", request("GET /x HTTP/1.1 ", "\r\n"), Refused(0, 400), None);
    req("a tab for a space", request("GET\t/x HTTP/1.1", "\r\n"), Refused(0, 400), None);
    req("a space first", request(" GET /x HTTP/1.1", "\r\n"), Refused(0, 400), None);
    req("a method that is no token", request("G(T /x HTTP/1.1", "\r\n"), Refused(0, 400), None);
    req("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Refused(0, 400), Some(Early));
    req("SSH", b"SSH-2.0-OpenSSH_9.7\r\n".to_vec(), Refused(0, 400), Some(Early));
    req("half a head", b"GET /x HTTP/1.1\r\nHost: gw.te".to_vec(), More(0), None);
    req("half a line", b"GET /".to_vec(), More(0), None);

    // Targets (RFC 9112 3.2, RFC 3986).
    req("absolute form", request("GET http://gw.test/x HTTP/1.1", "\r\n"), Whole(1), None);
    req("absolute form without a path", request("GET http://gw.test HTTP/1.1", "\r\n"), Whole(1), Some(EmptyPath));
    req("asterisk form", request("OPTIONS * HTTP/1.1", "\r\n"), Whole(1), None);
    req("authority form", request("CONNECT gw.test:443 HTTP/1.1", "\r\n"), Whole(1), None);
    req("asterisk for GET", request("GET * HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("authority for GET", request("GET gw.test:443 HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("a path without its slash", request("GET x HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("a fragment", request("GET /x#y HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("userinfo", request("GET http://u:p@gw.test/x HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("another scheme", request("GET ftp://gw.test/x HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("an escaped NUL", request("GET /x%00 HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("an escaped slash", request("GET /x%2Fy HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("half an escape", request("GET /x%4 HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("above the root", request("GET /../x HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("a control byte in the target", request("GET /x\x01y HTTP/1.1", "\r\n"), Refused(0, 400), None);
    req("UTF-8 in the target", request("GET /é HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req("brackets in the query", request("GET /x?a[]=1 HTTP/1.1", "\r\n"), Whole(1), None);
    req("a brace in the path", request("GET /{x} HTTP/1.1", "\r\n"), Refused(0, 400), Some(Target));
    req(
        "a target of 9 KiB",
        request(&format!("GET /{} HTTP/1.1", "a".repeat(9 * 1024)), "\r\n"),
        Refused(0, 414),
        Some(Bounds),
    );

    // Host (RFC 9112 3.2).
    req("no Host", b"GET /x HTTP/1.1\r\n\r\n".to_vec(), Refused(0, 400), Some(Host));
    req("two Hosts", fields("Host: gw.test"), Refused(0, 400), Some(Host));
    req("two hosts in one", b"GET /x HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n".to_vec(), Refused(0, 400), Some(Host));
    req("an empty Host", b"GET /x HTTP/1.1\r\nHost:\r\n\r\n".to_vec(), Refused(0, 400), Some(Host));
    req(
        "a port that is no number",
        b"GET /x HTTP/1.1\r\nHost: gw.test:8x\r\n\r\n".to_vec(),
        Refused(0, 400),
        Some(Host),
    );
    req("an open bracket", b"GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n".to_vec(), Refused(0, 400), Some(Host));
    req("a path in Host", b"GET /x HTTP/1.1\r\nHost: gw.test/y\r\n\r\n".to_vec(), Refused(0, 400), Some(Host));
    req("IPv6 and a port", b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".to_vec(), Whole(1), None);

    // Field lines (RFC 9112 2.2, 5).
    req("white space around a value", fields("A: \t b \t"), Whole(1), None);
    req("an empty value", fields("A:"), Whole(1), None);
    req("a name twice", fields("A: 1\r\nB: 2\r\na: 3"), Whole(1), None);
    req("bytes above ASCII in a value", fields("A: é"), Whole(1), None);
    req("bare LF throughout", b"GET /x HTTP/1.1\nHost: gw.test\n\n".to_vec(), Refused(0, 400), Some(StrictLines));
    req(
        "bare LF behind the line",
        b"GET /x HTTP/1.1\nHost: gw.test\r\n\r\n".to_vec(),
        Refused(0, 400),
        Some(StrictLines),
    );
    req("bare LF behind a field", fields("A: b\nC: d"), Refused(0, 400), Some(StrictLines));
    req("bare LF at the end", b"GET /x HTTP/1.1\r\nHost: gw.test\r\n\n".to_vec(), Refused(0, 400), Some(StrictLines));
    req("bare CR in a value", fields("A: b\rC: d"), Refused(0, 400), None);
    req("a folded line", fields("A: b\r\n c"), Refused(0, 400), None);
    req("a space before the colon", fields("A : b"), Refused(0, 400), None);
    req("a space before the name", fields(" A: b"), Refused(0, 400), None);
    req("no colon", fields("A"), Refused(0, 400), None);
    req("no name", fields(": b"), Refused(0, 400), None);
    req("a name that is no token", fields("A(b): c"), Refused(0, 400), None);
    req("NUL in a value", fields("A: b\0c"), Refused(0, 400), None);
    req("DEL in a value", fields("A: b\x7fc"), Refused(0, 400), None);
    req("97 fields", fields(&["A: b"; 96].join("\r\n")), Whole(1), Some(FieldCount));
    req("101 fields", fields(&["A: b"; 100].join("\r\n")), Refused(0, 431), None);
    req("a head of 33 KiB", fields(&format!("A: {}", "b".repeat(33 * 1024))), Refused(0, 431), Some(Bounds));
    req(
        "33 KiB without an end",
        fields("A: b")[..38].iter().copied().chain([b'b'; 33 * 1024]).collect(),
        Refused(0, 431),
        Some(Bounds),
    );
    req("a name of 70 KB", fields(&format!("{}: b", "A".repeat(70_000))), Refused(0, 431), Some(HugeName));
    req("Connection lists no names", fields("Connection: a b"), Refused(0, 400), Some(Connection));
    req(
        "Connection lists 40 names",
        fields(&format!("Connection: {}", (0..40).map(|i| format!("x{i}")).collect::<Vec<_>>().join(","))),
        Refused(0, 400),
        Some(Connection),
    );

    // Content-Length (RFC 9110 8.6, RFC 9112 6.3).
    req("a body", post("Content-Length: 5", "hello"), Whole(1), None);
    req("a body and another request", post("Content-Length: 5", &format!("hello{NEXT}")), Whole(2), None);
    req("no body", post("Content-Length: 0", NEXT), Whole(2), None);
    req("a body of a GET", request("GET /x HTTP/1.1", &format!("Content-Length: 2\r\n\r\nhi{NEXT}")), Whole(2), None);
    req("half a body", post("Content-Length: 5", "hel"), More(0), None);
    req("leading zeros", post("Content-Length: 0005", "hello"), Whole(1), None);
    req(
        "lengths that differ",
        post("Content-Length: 5\r\nContent-Length: 6", "hello"),
        Refused(0, 400),
        Some(LengthsDiffer),
    );
    req("the same length twice", post("Content-Length: 5\r\nContent-Length: 5", "hello"), Whole(1), None);
    req("the same length in a list", post("Content-Length: 5, 5", "hello"), Whole(1), Some(LengthList));
    req("a list that differs", post("Content-Length: 5, 6", "hello"), Refused(0, 400), None);
    req("a sign", post("Content-Length: +5", "hello"), Refused(0, 400), None);
    req("a negative length", post("Content-Length: -5", "hello"), Refused(0, 400), None);
    req("hexadecimal", post("Content-Length: 0x5", "hello"), Refused(0, 400), None);
    req("an empty length", post("Content-Length:", "hello"), Refused(0, 400), None);
    req(
        "an empty length and a right one",
        post("Content-Length: 5\r\nContent-Length:", "hello"),
        Refused(0, 400),
        Some(LengthsDiffer),
    );
    req("a length beyond 64 bits", post("Content-Length: 18446744073709551616", "hello"), Refused(0, 400), None);
    req("a length in another alphabet", post("Content-Length: ５", "hello"), Refused(0, 400), None);

    // Transfer-Encoding (RFC 9112 6.1).
    req("chunks", chunks(&format!("5\r\nhello\r\n0\r\n\r\n{NEXT}")), Whole(2), None);
    req("chunked in capitals", post("Transfer-Encoding: CHUNKED", "0\r\n\r\n"), Whole(1), None);
    req(
        "both lengths",
        post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        Refused(0, 400),
        Some(BothLengths),
    );
    req(
        "both lengths, the other way",
        post("Transfer-Encoding: chunked\r\nContent-Length: 44", &format!("0\r\n\r\n{NEXT}")),
        Refused(0, 400),
        Some(BothLengths),
    );
    req(
        "chunked twice",
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        Refused(0, 400),
        Some(OneCoding),
    );
    req(
        "chunked, then another",
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", "0\r\n\r\n"),
        Refused(0, 400),
        Some(OneCoding),
    );
    req("chunked in a list", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), Refused(0, 400), None);
    req("gzip, chunked", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), Refused(0, 501), None);
    req("identity", post("Transfer-Encoding: identity", NEXT), Refused(0, 501), Some(OneCoding));
    req(
        "identity and a length",
        post("Transfer-Encoding: identity\r\nContent-Length: 5", "hello"),
        Refused(0, 501),
        Some(OneCoding),
    );
    req("an unknown coding", post("Transfer-Encoding: x", "hello"), Refused(0, 501), None);
    req("no coding", post("Transfer-Encoding:", "hello"), Refused(0, 400), None);
    req("a quoted coding", post("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"), Refused(0, 400), None);
    req("a vertical tab before the coding", post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"), Refused(0, 400), None);
    req(
        "chunked on HTTP/1.0",
        request("POST /x HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refused(0, 400),
        Some(ChunkedOn10),
    );

    // Chunks (RFC 9112 7.1).
    req("sizes in both cases", chunks("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), Whole(1), None);
    req("a size with zeros", chunks("0005\r\nhello\r\n000\r\n\r\n"), Whole(1), None);
    req("an extension", chunks("5;a=b\r\nhello\r\n0\r\n\r\n"), Whole(1), Some(Extensions));
    req("an extension with a quoted line end", chunks("5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req(
        "17 KiB of extensions",
        chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(17 * 1024))),
        Refused(0, 400),
        None,
    );
    req("trailers", chunks(&format!("5\r\nhello\r\n0\r\nA: b\r\n\r\n{NEXT}")), Whole(2), Some(Trailers));
    req("a trailer that is no field", chunks("0\r\nA b\r\n\r\n"), Refused(0, 400), None);
    req("9 KiB of trailers", chunks(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(9 * 1024))), Refused(0, 400), None);
    req("no size", chunks("\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req(
        "an empty line for the last chunk",
        chunks(&format!("5\r\nhello\r\n\r\n\r\n{NEXT}")),
        Refused(0, 400),
        Some(NoSize),
    );
    req("a size that is no number", chunks("g\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req("a size with a sign", chunks("+5\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req("a size with 0x", chunks("0x5\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req("a space behind the size", chunks("5 \r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req("a size of 17 digits", chunks("00000000000000005\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), Some(SizeDigits));
    req("the largest size", chunks("ffffffffffffffff\r\nhello"), More(0), Some(HugeChunk));
    req("a size beyond 64 bits", chunks("10000000000000000\r\nhello"), Refused(0, 400), None);
    req("bare LF behind the size", chunks("5\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req("bare LF behind the data", chunks("5\r\nhello\n0\r\n\r\n"), Refused(0, 400), None);
    req("more data than the size", chunks("3\r\nhello\r\n0\r\n\r\n"), Refused(0, 400), None);
    req("bare LF at the end of the chunks", chunks("0\r\n\n"), Refused(0, 400), Some(StrictLines));
    req("half a chunk", chunks("5\r\nhel"), More(0), None);
    req("chunks without an end", chunks("5\r\nhello\r\n"), More(0), None);

    let mut ans = |name, bytes, verdict, right| add(Answers, name, bytes, verdict, right);
    // Answers (RFC 9112 4, 6.3), to a GET.
    ans("a body", answer("HTTP/1.1 200 OK", "Content-Length: 5\r\n\r\nhello"), Whole(1), None);
    ans(
        "an answer in chunks",
        answer("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        Whole(1),
        None,
    );
    ans("no reason", answer("HTTP/1.1 200 ", "Content-Length: 0\r\n\r\n"), Whole(1), None);
    ans("no reason and no space", answer("HTTP/1.1 200", "Content-Length: 0\r\n\r\n"), Whole(1), None);
    ans("an answer of HTTP/1.0", answer("HTTP/1.0 200 OK", "Content-Length: 2\r\n\r\nhi"), Whole(1), None);
    ans(
        "100, then 200",
        answer("HTTP/1.1 100 Continue", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        Whole(2),
        None,
    );
    ans("up to the connection's end", answer("HTTP/1.1 200 OK", "\r\nhello"), Whole(1), Some(UntilClose));
    ans("204 with a length", answer("HTTP/1.1 204 No Content", "Content-Length: 5\r\n\r\n"), Whole(1), Some(NoBody));
    ans("304 with a length", answer("HTTP/1.1 304 Not Modified", "Content-Length: 5\r\n\r\n"), Whole(1), Some(NoBody));
    ans(
        "304 in chunks",
        answer("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked\r\n\r\n"),
        Whole(1),
        Some(NoBody),
    );
    ans(
        "an answer with both lengths",
        answer("HTTP/1.1 200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refused(0, 502),
        Some(BothLengths),
    );
    ans(
        "lengths of an answer that differ",
        answer("HTTP/1.1 200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        Refused(0, 502),
        Some(LengthsDiffer),
    );
    ans(
        "chunks from HTTP/1.0",
        answer("HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refused(0, 502),
        Some(ChunkedOn10),
    );
    ans(
        "gzip as a transfer coding",
        answer("HTTP/1.1 200 OK", "Transfer-Encoding: gzip\r\n\r\nhello"),
        Refused(0, 502),
        None,
    );
    ans("a status of two digits", answer("HTTP/1.1 20 OK", "\r\n"), Refused(0, 502), None);
    ans("status 999", answer("HTTP/1.1 999 What", "Content-Length: 0\r\n\r\n"), Refused(0, 502), Some(Status));
    ans("status 099", answer("HTTP/1.1 099 What", "Content-Length: 0\r\n\r\n"), Refused(0, 502), None);
    ans("two spaces before the status", answer("HTTP/1.1  200 OK", "Content-Length: 0\r\n\r\n"), Refused(0, 502), None);
    ans(
        "an empty line before an answer",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        Refused(0, 502),
        Some(EmptyLineFirst),
    );
    ans("ICY", answer("ICY 200 OK", "\r\n"), Refused(0, 502), None);
    ans("HTTP/2", answer("HTTP/2 200", "\r\n"), Refused(0, 502), None);
    ans("bare LF in an answer", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec(), Refused(0, 502), Some(StrictLines));
    ans(
        "a folded line of an answer",
        answer("HTTP/1.1 200 OK", "A: b\r\n c\r\nContent-Length: 0\r\n\r\n"),
        Refused(0, 502),
        None,
    );
    ans("an answer's field without a colon", answer("HTTP/1.1 200 OK", "A b\r\n\r\n"), Refused(0, 502), None);
    ans("NUL in an answer's field", answer("HTTP/1.1 200 OK", "A: \0\r\n\r\n"), Refused(0, 502), None);
    ans(
        "an answer's name of 70 KB",
        answer("HTTP/1.1 200 OK", &format!("{}: b\r\n\r\n", "A".repeat(70_000))),
        Refused(0, 502),
        Some(HugeName),
    );
    ans("half an answer's head", b"HTTP/1.1 200 OK\r\nContent-".to_vec(), More(0), None);
    ans("half an answer's body", answer("HTTP/1.1 200 OK", "Content-Length: 5\r\n\r\nhel"), More(0), None);
    cases
}
