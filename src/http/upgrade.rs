//! Upgrade (RFC 9110 7.8): which protocols a client asked for go on, and which one an upstream's 101 switches to. A 101 is
//! believed only where every rule holds: behind it there are no messages any more, and nobody looks at what passes.

use http::Method;

use super::framing::{self, Framing};
use super::head::{Fields, RequestHead, ResponseHead, Version, is_token};

/// Behind these come requests again (RFC 9113 3.1, RFC 2817), which no route, filter or limit would see.
pub const REQUESTS_AGAIN: [&str; 5] = ["h2c", "h2", "http", "https", "tls"];
/// Protocols of one request that go on; nobody asks for more in earnest.
const ASKED_MAX: usize = 8;

/// The protocols of all Upgrade fields, in order: `websocket`, or with a version as in `foo/2`.
fn protocols<'b>(fields: &'b Fields, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
    let values = fields.named(b"upgrade", bytes).map(|field| field.value.of(bytes));
    values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

fn is_protocol(text: &[u8]) -> bool {
    let mut halves = text.splitn(2, |&byte| byte == b'/');
    halves.all(|half| !half.is_empty() && half.iter().all(|&byte| is_token(byte)))
}

/// The protocols that `head` asks for and that are among `allowed`, which are names in small letters without a version.
pub fn asked<'b>(head: &'b RequestHead, bytes: &'b [u8], allowed: &'b [String]) -> impl Iterator<Item = &'b [u8]> {
    let is_allowed = move |protocol: &&[u8]| {
        let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
        is_protocol(protocol) && allowed.iter().any(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes()))
    };
    protocols(&head.fields, bytes).filter(is_allowed).take(ASKED_MAX)
}

/// Whether a request is passed on as one that asks for an upgrade: only on HTTP/1.1 (RFC 9110 7.8), and only a GET without a
/// body, since no one could say what belongs to the body and what to the tunnel.
pub fn may_pass(head: &RequestHead, framing: Framing, bytes: &[u8], allowed: &[String]) -> bool {
    head.fields.upgrade
        && head.version == Version::H11
        && head.method == Method::GET
        && matches!(framing, Framing::None | Framing::Length(0))
        && asked(head, bytes, allowed).next().is_some()
}

/// Whether what the client sends next may be meant for a protocol that is no HTTP. Clients that ask for HTTP again, some of
/// them with every request, wait for a 101.
#[cold]
pub fn leaves_http(head: &RequestHead, bytes: &[u8]) -> bool {
    let name = |protocol: &[u8]| protocol.split(|&byte| byte == b'/').next().unwrap_or_default().to_ascii_lowercase();
    let is_http = |protocol: &[u8]| REQUESTS_AGAIN.iter().any(|again| name(protocol) == again.as_bytes());
    head.fields.upgrade && !protocols(&head.fields, bytes).all(is_http)
}

/// Both fields, as an upstream gets them.
pub fn write_asked<'b>(asked: impl Iterator<Item = &'b [u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Upgrade: ");
    for (i, protocol) in asked.enumerate() {
        out.extend_from_slice(if i == 0 { b"" } else { b", " });
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\nConnection: Upgrade\r\n");
}

/// Both fields, as the client gets them that is told to upgrade: a 426 names the protocols (RFC 9110 15.5.22).
#[cold]
pub fn write_offered(fields: &Fields, bytes: &[u8], out: &mut Vec<u8>) {
    let mut offered = protocols(fields, bytes).filter(|protocol| is_protocol(protocol)).take(ASKED_MAX).peekable();
    if offered.peek().is_some() {
        write_asked(offered, out);
    }
}

/// The one protocol that a 101 switches to, which must be one of those `asked` for.
///
/// # Errors
/// What is wrong with the 101: nothing may follow it then.
pub fn switched_to<'b, 'a>(
    answer: &'b ResponseHead,
    bytes: &'b [u8],
    mut asked: impl Iterator<Item = &'a [u8]>,
) -> Result<&'b [u8], &'static str> {
    if answer.version != Version::H11 {
        return Err("a 101 of HTTP/1.0");
    }
    if !answer.fields.upgrade {
        return Err("a 101 without `Connection: upgrade`");
    }
    // RFC 9110 8.6 and RFC 9112 6.1: neither field may be in it; a length of 0 says nothing wrong.
    if !framing::announces_nothing(&answer.fields, answer.version, bytes) {
        return Err("a 101 that announces a body");
    }
    let mut protocols = protocols(&answer.fields, bytes);
    match (protocols.next(), protocols.next()) {
        (Some(protocol), None) if asked.any(|asked| asked.eq_ignore_ascii_case(protocol)) => Ok(protocol),
        (Some(_), None) => Err("a 101 to a protocol that was not asked for"),
        _ => Err("a 101 that names not exactly one protocol"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::head::Bounds;

    const BOUNDS: Bounds = Bounds { head: 4096, fields: 16, target: 64 };

    #[test]
    fn a_client_that_asks_for_http_again_does_not_leave_it() {
        for (fields, leaves) in [
            ("Connection: upgrade\r\nUpgrade: websocket\r\n", true),
            ("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", true),
            ("Connection: upgrade\r\nUpgrade: H2C\r\nUpgrade: TLS/1.0, HTTP/2.0\r\n", false),
            ("Connection: upgrade\r\n", false),
            ("Upgrade: websocket\r\n", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let mut head = RequestHead::default();
            assert!(head.parse(text.as_bytes(), &BOUNDS).unwrap());
            assert_eq!(leaves_http(&head, text.as_bytes()), leaves, "{fields}");
        }
    }

    fn asked_by(text: &str, allowed: &[&str]) -> Option<String> {
        let (text, allowed) = (text.as_bytes(), allowed.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut head = RequestHead::default();
        assert!(head.parse(text, &BOUNDS).unwrap());
        let framing = framing::of_request(&head, text).unwrap();
        let mut out = Vec::new();
        write_asked(asked(&head, text, &allowed), &mut out);
        may_pass(&head, framing, text, &allowed).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_allowed_goes_on_written_anew() {
        let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let both = |protocols: &str| Some(format!("Upgrade: {protocols}\r\nConnection: Upgrade\r\n"));
        for (fields, passes) in [
            ("Connection: upgrade\r\nUpgrade: websocket\r\n", both("websocket")),
            ("connection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\n", both("WebSocket")),
            ("Connection: upgrade\r\nUpgrade: h2c, websocket/13 ,foo\r\nUpgrade: x\r\n", both("websocket/13, foo")),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", both("websocket")),
            ("Upgrade: websocket\r\n", None),
            ("Connection: upgrade\r\n", None),
            ("Connection: upgrade\r\nUpgrade: h2c\r\n", None),
            ("Connection: upgrade\r\nUpgrade: websocket x\r\n", None),
            ("Connection: upgrade\r\nUpgrade: websocket/\r\n", None),
            ("Connection: upgrade\r\nUpgrade: websocket/1/2\r\n", None),
            ("Connection: upgrade\r\nUpgrade: websockets\r\n", None),
            ("Connection: upgrade\r\nUp_grade: websocket\r\n", None),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", None),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n", None),
        ] {
            assert_eq!(asked_by(&get(fields), &["websocket", "foo"]), passes, "{fields:?}");
            assert_eq!(asked_by(&get(fields), &[]), None);
        }
        let websocket = "Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        for line in ["GET / HTTP/1.0", "POST / HTTP/1.1", "HEAD / HTTP/1.1"] {
            assert_eq!(asked_by(&format!("{line}\r\n{websocket}"), &["websocket"]), None, "{line}");
        }
        let many = format!("Connection: upgrade\r\nUpgrade: {}\r\n", "foo,".repeat(1000));
        assert_eq!(asked_by(&get(&many), &["foo"]).unwrap().matches("foo").count(), ASKED_MAX);
    }

    #[test]
    fn a_101_must_keep_every_rule() {
        let switched = |text: &str| {
            let mut head = ResponseHead::default();
            assert!(head.parse(text.as_bytes(), &BOUNDS).unwrap());
            let asked = [&b"foo"[..], b"WebSocket"].into_iter();
            switched_to(&head, text.as_bytes(), asked).map(|protocol| String::from_utf8_lossy(protocol).into_owned())
        };
        let good = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(switched(&format!("HTTP/1.1 101 X\r\n{good}\r\n")), Ok("websocket".into()));
        assert_eq!(switched(&format!("HTTP/1.1 101 X\r\n{good}Content-Length: 0\r\n\r\n")), Ok("websocket".into()));
        for (text, wrong) in [
            (format!("HTTP/1.0 101 X\r\n{good}\r\n"), "HTTP/1.0"),
            ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n".into(), "without `Connection: upgrade`"),
            ("HTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\n".into(), "not exactly one"),
            (format!("HTTP/1.1 101 X\r\n{good}Upgrade: foo\r\n\r\n"), "not exactly one"),
            ("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".into(), "not asked for"),
            ("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket/13\r\n\r\n".into(), "not asked for"),
            (format!("HTTP/1.1 101 X\r\n{good}Content-Length: 5\r\n\r\n"), "announces a body"),
            (format!("HTTP/1.1 101 X\r\n{good}Content-Length: 0\r\nContent-Length: 1\r\n\r\n"), "announces a body"),
            (format!("HTTP/1.1 101 X\r\n{good}Transfer-Encoding: chunked\r\n\r\n"), "announces a body"),
        ] {
            let error = switched(&text).unwrap_err();
            assert!(error.contains(wrong), "{text:?}: {error}");
        }
    }
}
