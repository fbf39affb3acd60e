//! Trailer fields: which may be forwarded, and in what shape.
//!
//! RFC 9110 6.5.1: a recipient may merge trailers into the head, so a field that frames, routes, authenticates or
//! describes the message must not come in after the gateway decided on those. Such fields are dropped, not refused:
//! the message itself is sound.

use std::fmt;

use crate::http::head::is_token;

/// Why a trailer section is refused: it can not be read as fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailerError {
    /// No colon, an empty name, a space before the colon, a folded line, or a name that is not a token (RFC 9110 5.1).
    Name,
    /// A control character in the value (RFC 9110 5.5).
    Value,
}

impl fmt::Display for TrailerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a trailer field has no valid name",
            Self::Value => "a trailer field has a control character in its value",
        })
    }
}

impl std::error::Error for TrailerError {}

/// Fields that no trailer may set, in lower case.
#[rustfmt::skip]
const FORBIDDEN: [&[u8]; 34] = [
    // Framing, and the connection's own (RFC 9110 7.6.1, RFC 9112 6)
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
    // Routing, and what the gateway itself says about the request
    b"forwarded", b"host", b"max-forwards", b"via", b"x-real-ip", b"x-request-id",
    // Authentication and state
    b"authentication-info", b"authorization", b"cookie", b"set-cookie", b"www-authenticate",
    // Controls and conditions of a request
    b"cache-control", b"expect", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"pragma", b"range",
    // Control data of a response
    b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"warning",
];

/// Whole families that no trailer may set. `content-` says how to read the content (RFC 9110 6.5.1), which was read by
/// then; `proxy-` is for the next hop alone; `x-forwarded-` is the gateway's.
const FORBIDDEN_PREFIXES: [&[u8]; 3] = [b"content-", b"proxy-", b"x-forwarded-"];

/// A digest of the content can only be known at its end: RFC 9530 2 puts it into trailers.
const ALLOWED_DIGEST: &[u8] = b"content-digest";

/// More bytes than any forbidden name has.
const FORBIDDEN_BYTES_MAX: usize = 32;

/// True when a trailer of this name must not be forwarded. Case is ignored, and `_` counts as `-`: upstreams that hand
/// fields on as CGI variables take `content_length` for `content-length`.
pub fn is_forbidden(name: &[u8]) -> bool {
    let mut folded = [0; FORBIDDEN_BYTES_MAX];
    for (slot, byte) in folded.iter_mut().zip(name) {
        *slot = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    }
    let folded_name = folded.get(..name.len()).unwrap_or(&folded);
    if folded_name == ALLOWED_DIGEST {
        return false;
    }
    FORBIDDEN_PREFIXES.iter().any(|prefix| folded_name.starts_with(prefix)) || FORBIDDEN.contains(&folded_name)
}

/// Reads `buf[start..]`, one field line without its CRLF, and puts `name: value\r\n` in its place, or nothing if the
/// field is not to be forwarded.
///
/// # Errors
/// [`TrailerError`]; `buf` is then cut at `start`.
pub fn finish_line(buf: &mut Vec<u8>, start: usize) -> Result<(), TrailerError> {
    if start >= buf.len() {
        return Err(TrailerError::Name);
    }
    let line = buf.split_off(start);
    let colon = memchr::memchr(b':', &line).ok_or(TrailerError::Name)?;
    let (name, value) = line.split_at_checked(colon).ok_or(TrailerError::Name)?;
    // A space before the colon, or before the name (obs-fold), fails here: neither is a token (RFC 9112 5.1, 5.2).
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(TrailerError::Name);
    }
    let value = trim(value.get(1..).unwrap_or_default());
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7F) {
        return Err(TrailerError::Value);
    }
    if !is_forbidden(name) {
        for part in [name, b": ", value, b"\r\n"] {
            buf.extend_from_slice(part);
        }
    }
    Ok(())
}

/// Without the optional whitespace around a value (RFC 9110 5.6.3: space and tab only).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(line: &[u8]) -> Result<Vec<u8>, TrailerError> {
        let mut buf = b"before\r\n".to_vec();
        buf.extend_from_slice(line);
        let done = finish_line(&mut buf, 8);
        assert!(buf.starts_with(b"before\r\n"));
        done.map(|()| buf.split_off(8))
    }

    #[test]
    fn lines_become_clean() {
        for (line, clean) in [
            (&b"grpc-status: 0"[..], &b"grpc-status: 0\r\n"[..]),
            (b"A:b", b"A: b\r\n"),
            (b"A: \t b c \t", b"A: b c\r\n"),
            (b"A:", b"A: \r\n"),
            (b"A::", b"A: :\r\n"),
            (b"A:\xff\tb", b"A: \xff\tb\r\n"),
            (b"Content-Digest: x", b"Content-Digest: x\r\n"),
            (b"Content-Length: 1", b""),
            (b"TRANSFER_ENCODING: chunked", b""),
        ] {
            assert_eq!(finish(line).as_deref(), Ok(clean), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for line in [&b""[..], b"a", b":", b": a", b"a : b", b" a: b", b"\ta: b", b"a b: c", b"a\0: b", b"\xc3\xa9: b"]
        {
            assert_eq!(finish(line), Err(TrailerError::Name), "{}", line.escape_ascii());
        }
        for b in (0..b' ').filter(|b| *b != b'\t').chain([0x7F]) {
            assert_eq!(finish(&[b'a', b':', b'b', b, b'c']), Err(TrailerError::Value), "{b:#x}");
            assert_eq!(finish(&[b'a', b':', b'b', b]), Err(TrailerError::Value), "{b:#x}");
        }
    }

    #[test]
    fn forbidden_names() {
        for name in ["Host", "content-type", "Content_Length", "proxy-x", "X-Forwarded-For", "Authorization", "TE"] {
            assert!(is_forbidden(name.as_bytes()), "{name}");
        }
        for name in ["grpc-status", "x-checksum", "repr-digest", "content", "hosts", "server-timing", "etag"] {
            assert!(!is_forbidden(name.as_bytes()), "{name}");
        }
        assert!(is_forbidden(&[b"content-".as_slice(), &[b'a'; 100]].concat()));
        assert!(!is_forbidden(&[b'a'; 100]));
        assert!(FORBIDDEN.iter().all(|name| is_forbidden(name) && name.len() < FORBIDDEN_BYTES_MAX));
    }
}
