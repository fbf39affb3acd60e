//! The head of an answer: whether its body may be compressed, and what the head says then.
//!
//! Both are made of the head as it was written for the client, so that they are the same for every kind of answer and see what
//! filters and the route's edits made of it. It is `HTTP/1.1 200 OK`, field lines, and an empty line, each with its CRLF.

use super::{Coding, Compression, Policy};
use crate::end::Skip;
use crate::http::encode;

/// What is to become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its coding and level, or why it has none.
    pub coding: Result<(Coding, u8), Skip>,
    /// Another client would get other bytes: caches must know (RFC 9110 12.5.5).
    pub varies: bool,
}

/// What a head says that matters here.
#[derive(Default)]
struct Facts {
    is_listed: bool,
    types: usize,
    is_encoded: bool,
    is_fixed: bool,
    is_range: bool,
    length: Option<u64>,
}

/// Fields that are about the bytes of a body, or about how it is cut: none of them is true of a compressed one (RFC 9110 14.3,
/// RFC 9530, and older ones). Trailers were announced, and are left out for the same reason.
const ABOUT_BYTES: [&[u8]; 9] = [
    b"content-length",
    b"transfer-encoding",
    b"trailer",
    b"accept-ranges",
    b"content-digest",
    b"repr-digest",
    b"digest",
    b"content-md5",
    b"content-encoding", // `identity`, or it would not be compressed
];

/// What is to become of the answer with this status and head.
#[must_use]
pub fn judge(policy: &Policy, asked: &Compression, status: u16, head: &[u8]) -> Verdict {
    let skip = |reason, varies| Verdict { coding: Err(reason), varies };
    // RFC 9110 15.3.5, 15.3.6, 15.4.5. A 304 stands for an answer that may have been compressed.
    if status < 200 || matches!(status, 204 | 205 | 304) {
        return skip(Skip::NoBody, status == 304);
    }
    let facts = facts(policy, head);
    if !facts.is_listed {
        skip(Skip::Type, false)
    } else if facts.is_encoded {
        skip(Skip::Encoded, true)
    } else if facts.is_fixed {
        skip(Skip::NoTransform, false)
    } else if status == 206 || facts.is_range {
        // RFC 9110 15.3.7: it varies as the whole does.
        skip(Skip::Partial, true)
    } else if facts.length.is_some_and(|bytes| bytes < policy.bytes_min.max(1)) {
        skip(Skip::Small, false)
    } else if asked.is_forbidden() {
        skip(Skip::NoTransform, true)
    } else {
        match asked.wanted() {
            Some(choice) => Verdict { coding: Ok(choice), varies: true },
            None => skip(Skip::NotAccepted, true),
        }
    }
}

fn facts(policy: &Policy, head: &[u8]) -> Facts {
    let mut facts = Facts::default();
    for (name, value) in fields(head) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"content-type") {
            // Two are none: who reads which is anybody's guess.
            facts.types += 1;
            facts.is_listed = facts.types == 1 && is_listed(policy, value);
        } else if is(b"content-encoding") {
            facts.is_encoded |= items(value).any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        } else if is(b"cache-control") {
            facts.is_fixed |= says_no_transform(value);
        } else if is(b"content-range") {
            facts.is_range = true;
        } else if is(b"content-length") {
            facts.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        }
    }
    facts
}

fn is_listed(policy: &Policy, value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let mut halves = essence.splitn(2, |byte| *byte == b'/');
    let (Some(kind), Some(subtype)) = (halves.next(), halves.next()) else { return false };
    policy.types.iter().any(|range| range.holds(kind, subtype))
}

/// Whether a Cache-Control says that nobody may change the content (RFC 9111 5.2.2.6, and 5.2.1.6 of requests).
#[must_use]
pub fn says_no_transform(value: &[u8]) -> bool {
    items(value).any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// The items of a list, those that are empty left out (RFC 9110 5.6.1.2).
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// The field lines of a head, each with its CRLF.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split_inclusive(|byte| *byte == b'\n').skip(1).filter(|line| *line != b"\r\n")
}

fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default().trim_ascii())
}

fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(head).map(field)
}

/// Says that the answer depends on Accept-Encoding, unless the head says so.
pub fn add_vary(head: &mut Vec<u8>) {
    let says = |value: &[u8]| items(value).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if fields(head).any(|(name, value)| name.eq_ignore_ascii_case(b"vary") && says(value)) {
        return;
    }
    open(head);
    encode::field(b"Vary", b"Accept-Encoding", head);
    head.extend_from_slice(b"\r\n");
}

/// Takes the empty line off, for more fields.
fn open(head: &mut Vec<u8>) {
    head.truncate(head.len().saturating_sub(2));
}

/// Copies a head as that of the same answer with `coding`, and without the empty line: the fields that say where its body ends
/// come behind it, see [`frame`]. A strong ETag becomes a weak one (RFC 9110 8.8.1), one that is none is left out.
pub fn encoded(head: &[u8], coding: Coding, out: &mut Vec<u8>) {
    let status_line = head.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    out.extend_from_slice(status_line);
    copy(head, |name| ABOUT_BYTES.iter().any(|known| name.eq_ignore_ascii_case(known)), out);
    encode::field(b"Content-Encoding", coding.name().as_bytes(), out);
}

/// Copies the head of a 304: what it stands for may have been compressed, and had a weak ETag then, and other bytes than
/// those that the upstream tells of. To one that was not, a
/// weak one is as good (RFC 9111 4.3.4).
pub fn not_modified(head: &[u8], out: &mut Vec<u8>) {
    let status_line = head.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    out.extend_from_slice(status_line);
    copy(head, |name| ABOUT_BYTES.iter().any(|known| name.eq_ignore_ascii_case(known)), out);
    out.extend_from_slice(b"\r\n");
}

fn copy(head: &[u8], drop: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    for line in lines(head) {
        let (name, value) = field(line);
        if drop(name) {
            continue;
        }
        match (name.eq_ignore_ascii_case(b"etag"), value) {
            (false, _) | (true, [b'W', b'/', b'"', ..]) => out.extend_from_slice(line),
            (true, [b'"', .., b'"']) => {
                encode::field_of(
                    name,
                    |out| [&b"W/"[..], value].iter().for_each(|part| out.extend_from_slice(part)),
                    out,
                );
            }
            (true, _) => {}
        }
    }
}

/// Where an encoded body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// After so many bytes.
    Length(usize),
    /// With the last chunk.
    Chunks,
    /// With the connection.
    Close,
}

/// Ends a head that [`encoded`] made.
pub fn frame(head: &mut Vec<u8>, frame: Frame) {
    match frame {
        Frame::Length(n) => encode::field_of(b"Content-Length", |out| encode::number(n as u64, out), head),
        Frame::Chunks => encode::field(b"Transfer-Encoding", b"chunked", head),
        Frame::Close => {
            // It may have been kept, had its length been known.
            let kept = b"\r\nConnection: keep-alive";
            if let Some(at) = memchr::memmem::find(head, b"\r\nConnection: keep-alive\r\n") {
                head.drain(at..at + kept.len());
            }
            if memchr::memmem::find(head, b"\r\nConnection: close\r\n").is_none() {
                encode::field(b"Connection", b"close", head);
            }
        }
    }
    head.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::{Subtype, TypeRange};
    use super::*;
    use crate::shared::Rules;

    fn policy() -> Policy {
        let range = |kind: &str, subtype| TypeRange { kind: kind.into(), subtype };
        Policy {
            codings: vec![(Coding::Gzip, 5)],
            types: vec![range("text", Subtype::Any), range("application", Subtype::Is("json".into()))],
            bytes_min: 100,
            streams_max: 1,
            metrics: Default::default(),
        }
    }

    fn verdict(status: u16, fields: &str) -> Verdict {
        let policy = policy();
        let mut asked = Compression::default();
        asked.begin(&Rules::new(policy.clone()), Some((Coding::Gzip, 5)), false);
        judge(&policy, &asked, status, format!("HTTP/1.1 {status} X\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn what_is_compressed_and_what_is_not() {
        let json = "Content-Type: application/json\r\n";
        let coded = |status, fields: &str| verdict(status, &format!("{json}{fields}"));
        for (status, fields) in [
            (200, ""),
            (200, "Content-Length: 100\r\n"),
            (404, "Content-Length: 101\r\n"),
            (200, "Content-Encoding: identity\r\n"),
            (200, "Cache-Control: public, max-age=1\r\n"),
            (200, "X-Content-Length: 1\r\nX: no-transform\r\n"),
        ] {
            let expected = Verdict { coding: Ok((Coding::Gzip, 5)), varies: true };
            assert_eq!(coded(status, fields), expected, "{status} {fields}");
        }
        for (status, fields, reason, varies) in [
            (204, "", Skip::NoBody, false),
            (205, "", Skip::NoBody, false),
            (304, "", Skip::NoBody, true),
            (206, "", Skip::Partial, true),
            (200, "content-range: bytes 0-1/2\r\n", Skip::Partial, true),
            (200, "Content-Encoding: br\r\n", Skip::Encoded, true),
            (200, "Content-Encoding: identity, GZIP\r\n", Skip::Encoded, true),
            (200, "Cache-Control: private\r\ncache-control: max-age=1 , No-Transform\r\n", Skip::NoTransform, false),
            (200, "Content-Length: 99\r\n", Skip::Small, false),
            (200, "Content-Length: 0\r\n", Skip::Small, false),
            (200, "Content-Type: text/html\r\n", Skip::Type, false),
        ] {
            assert_eq!(coded(status, fields), Verdict { coding: Err(reason), varies }, "{status} {fields}");
        }
        for kind in ["", "Content-Type: image/png\r\n", "Content-Type: text\r\n", "Content-Type: text/event-stream\r\n"]
        {
            assert_eq!(verdict(200, kind).coding, Err(Skip::Type), "{kind}");
        }
        assert!(verdict(200, "content-type: Text/HTML; charset=utf-8\r\n").coding.is_ok());
    }

    #[test]
    fn the_head_says_what_is_true_of_the_encoded_body() {
        let head =
            b"HTTP/1.1 200 Fine: yes\r\nContent-Type: text/html\r\nETag: \"a\"\r\nContent-Length: 9\r\nDigest: x\r\n\
            Repr-Digest: y\r\nContent-Digest: z\r\ncontent-md5: m\r\nAccept-Ranges: bytes\r\nX-A: 1\r\n\
            Connection: keep-alive\r\n\r\n";
        let written = |ends| {
            let mut out = Vec::new();
            encoded(head, Coding::Brotli, &mut out);
            frame(&mut out, ends);
            String::from_utf8(out).unwrap()
        };
        let kept = "HTTP/1.1 200 Fine: yes\r\nContent-Type: text/html\r\nETag: W/\"a\"\r\nX-A: 1\r\n";
        let rest = |more: &str| format!("{kept}{more}\r\n");
        assert_eq!(
            written(Frame::Chunks),
            rest("Connection: keep-alive\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked\r\n")
        );
        assert_eq!(
            written(Frame::Length(7)),
            rest("Connection: keep-alive\r\nContent-Encoding: br\r\nContent-Length: 7\r\n")
        );
        assert_eq!(written(Frame::Close), rest("Content-Encoding: br\r\nConnection: close\r\n"));
        // A value is no line, whatever it says.
        let mut head = b"HTTP/1.1 200 OK\r\nX: Connection: keep-alive\r\nY: Connection: close\r\n".to_vec();
        frame(&mut head, Frame::Close);
        assert!(head.ends_with(b"X: Connection: keep-alive\r\nY: Connection: close\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn vary_is_added_once_and_etags_are_weakened_once() {
        for (fields, is_added) in [
            ("", true),
            ("Vary: Origin\r\n", true),
            ("Vary: Origin, accept-encoding\r\n", false),
            ("vary: *\r\n", false),
            ("X-Vary: Accept-Encoding\r\n", true),
        ] {
            let mut head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
            add_vary(&mut head);
            let expected = if is_added { "Vary: Accept-Encoding\r\n" } else { "" };
            assert_eq!(String::from_utf8(head).unwrap(), format!("HTTP/1.1 200 OK\r\n{fields}{expected}\r\n"));
        }
        for (tag, expected) in [
            ("ETag: W/\"a\"\r\n", "ETag: W/\"a\"\r\n"),
            ("etag:  \"a,b\" \r\n", "etag: W/\"a,b\"\r\n"),
            ("ETag: a\r\n", ""),
            ("ETag: \"\r\n", ""),
            ("ETag: \"\"\r\n", "ETag: W/\"\"\r\n"),
            ("X-ETag: \"a\"\r\n", "X-ETag: \"a\"\r\n"),
        ] {
            let mut out = Vec::new();
            not_modified(format!("HTTP/1.1 304 X\r\n{tag}\r\n").as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 304 X\r\n{expected}\r\n"));
        }
    }
}
