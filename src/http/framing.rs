//! Where a message's body ends (RFC 9112 6). A gateway must be stricter than a server: any doubt is an error.

use http::Method;

use super::head::{Fields, RequestHead, ResponseHead, Version, is_token};
use super::known::Known;

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The connection's end (responses only).
    Close,
}

/// Why no one can say for sure where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// What is wrong: 400 from a client, 502 from an upstream.
    Malformed(&'static str),
    /// A transfer coding other than chunked: 501 from a client.
    UnknownCoding,
}

/// The framing of a request (RFC 9112 6.3, rules 3–7 with every "ought to" as a "must").
pub fn of_request(head: &RequestHead, bytes: &[u8]) -> Result<Framing, FramingError> {
    explicit(&head.fields, head.version, bytes).map(|framing| framing.unwrap_or(Framing::None))
}

/// The framing of a response to a request with `method` (RFC 9112 6.3, rules 1, 2 and 8 for what has no body or no
/// end). Contradictions are errors even where no body follows.
pub fn of_response(method: &Method, head: &ResponseHead, bytes: &[u8]) -> Result<Framing, FramingError> {
    let explicit = explicit(&head.fields, head.version, bytes)?;
    if *method == Method::HEAD || head.status < 200 || head.status == 204 || head.status == 304 {
        return Ok(Framing::None);
    }
    Ok(explicit.unwrap_or(Framing::Close))
}

/// Whether a message's fields say that no body follows, or say nothing about it.
pub fn announces_nothing(fields: &Fields, version: Version, bytes: &[u8]) -> bool {
    matches!(explicit(fields, version, bytes), Ok(None | Some(Framing::Length(0))))
}

fn explicit(fields: &Fields, version: Version, bytes: &[u8]) -> Result<Option<Framing>, FramingError> {
    let mut length = None;
    let mut chunked = false;
    for field in fields.iter() {
        match field.known {
            Known::ContentLength => length = Some(content_length(length, field.value.of(bytes))?),
            Known::TransferEncoding if chunked => return Err(FramingError::Malformed("Transfer-Encoding twice")),
            Known::TransferEncoding => {
                transfer_encoding(field.value.of(bytes))?;
                chunked = true;
            }
            _ => {}
        }
    }
    match (chunked, length) {
        // RFC 9112 6.1: "ought to be handled as an error": it is how requests are smuggled.
        (true, Some(_)) => Err(FramingError::Malformed("both Transfer-Encoding and Content-Length")),
        // RFC 9112 6.1: faulty framing, even if it seems to work.
        (true, None) if version == Version::H10 => Err(FramingError::Malformed("Transfer-Encoding on HTTP/1.0")),
        (true, None) => Ok(Some(Framing::Chunked)),
        (false, length) => Ok(length.map(Framing::Length)),
    }
}

/// RFC 9110 8.6: digits; repeated or listed values must agree.
fn content_length(before: Option<u64>, value: &[u8]) -> Result<u64, FramingError> {
    let mut agreed = before;
    for part in value.split(|&b| b == b',') {
        let part = part.trim_ascii();
        let mut number: Option<u64> = if part.is_empty() { None } else { Some(0) };
        for &digit in part {
            number = number
                .filter(|_| digit.is_ascii_digit())
                .and_then(|n| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        }
        let number = number.ok_or(FramingError::Malformed("Content-Length is not a number"))?;
        if agreed.is_some_and(|agreed| agreed != number) {
            return Err(FramingError::Malformed("Content-Length values differ"));
        }
        agreed = Some(number);
    }
    agreed.ok_or(FramingError::Malformed("Content-Length is empty"))
}

/// Exactly `chunked`, once.
fn transfer_encoding(value: &[u8]) -> Result<(), FramingError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    for coding in value.split(|&b| b == b',') {
        let name = coding.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
            return Err(FramingError::Malformed("Transfer-Encoding is not a list of codings"));
        }
        if !name.eq_ignore_ascii_case(b"chunked") {
            return Err(FramingError::UnknownCoding);
        }
    }
    Err(FramingError::Malformed("Transfer-Encoding must be chunked, once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Bounds;

    const BOUNDS: Bounds = Bounds { head: 4096, fields: 16, target: 64 };

    fn request(fields: &str) -> Result<Framing, FramingError> {
        let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        assert!(head.parse(text.as_bytes(), &BOUNDS).unwrap(), "{text:?}");
        of_request(&head, text.as_bytes())
    }

    fn response(method: Method, text: &str) -> Result<Framing, FramingError> {
        let mut head = ResponseHead::default();
        assert!(head.parse(text.as_bytes(), &BOUNDS).unwrap(), "{text:?}");
        of_response(&method, &head, text.as_bytes())
    }

    #[test]
    fn requests() {
        assert_eq!(request(""), Ok(Framing::None));
        assert_eq!(request("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(request("Content-Length: 5, 5\r\nContent-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(request("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 5,\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert!(matches!(request(fields), Err(FramingError::Malformed(_))), "{fields:?}: {:?}", request(fields));
        }
        for fields in ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked"] {
            let fields = format!("Transfer-Encoding: {fields}\r\n");
            assert_eq!(request(&fields), Err(FramingError::UnknownCoding), "{fields:?}");
        }
    }

    #[test]
    fn responses() {
        let get = || Method::GET;
        assert_eq!(response(get(), "HTTP/1.1 200 OK\r\n\r\n"), Ok(Framing::Close));
        assert_eq!(response(get(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), Ok(Framing::Length(3)));
        assert_eq!(response(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), Ok(Framing::None));
        for status in [100, 204, 304] {
            assert_eq!(
                response(get(), &format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\n")),
                Ok(Framing::None)
            );
        }
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n",
        ] {
            assert!(response(get(), text).is_err(), "{text:?}");
            assert!(response(Method::HEAD, text).is_err(), "{text:?}");
        }
    }
}
