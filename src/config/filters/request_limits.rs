//! `request_limits`: what a request may be like.

use http::Method;

use super::super::decode::{Keys, Value};
use super::super::matching;
use crate::filter::request_limits::MediaRange;
use crate::value::{ByteSize, Invalid};

pub(in crate::config) const KEYS: Keys =
    Keys { known: &["body", "headers", "header_bytes", "methods", "content_types"], later: &[] };

const TYPES_MAX: usize = 64;
const TYPE_BYTES_MAX: usize = 128;

/// `request_limits`: at least one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestLimits {
    /// The largest body; `None`: as for the route.
    pub body: Option<ByteSize>,
    /// Header fields; `None`: as for the listener.
    pub headers: Option<u32>,
    /// Bytes of header fields; `None`: as for the listener.
    pub header_bytes: Option<ByteSize>,
    /// Sorted, with HEAD where GET is; empty: any.
    pub methods: Vec<Method>,
    /// Empty: any.
    pub content_types: Vec<MediaRange>,
}

pub(super) fn decode(value: &Value<'_>) -> Option<RequestLimits> {
    let block = value.block(&KEYS)?;
    let mut methods = block.or("methods", Vec::new(), matching::methods);
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD); // RFC 9110 9.3.2
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    }
    let (from, to) = (ByteSize::from_bytes(0), ByteSize::from_kib(1 << 30));
    let limits = RequestLimits {
        body: block.or("body", None, |v| v.size(from..=to).map(Some)),
        headers: block.or("headers", None, |v| v.count(1..=256).map(Some)),
        header_bytes: block
            .or("header_bytes", None, |v| v.size(ByteSize::from_bytes(64)..=ByteSize::from_kib(1024)).map(Some)),
        methods,
        content_types: block.or("content_types", Vec::new(), |v| v.list_of(1..=TYPES_MAX, |v| v.parse(media_range))),
    };
    if value.keys().next().is_none() {
        value.error("limits nothing", format!("give one of {}", KEYS.known.join(", ")));
        return None;
    }
    Some(limits)
}

/// RFC 9110 8.3.1, without parameters.
fn media_range(text: &str) -> Result<MediaRange, Invalid> {
    let invalid = || Invalid::new("is not a media type", "like application/json or image/*, without parameters");
    let is_token =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| crate::http::head::is_token(byte) && byte != b'*');
    let (kind, subtype) = text.split_once('/').filter(|_| text.len() <= TYPE_BYTES_MAX).ok_or_else(invalid)?;
    if !is_token(kind) || !(subtype == "*" || is_token(subtype)) {
        return Err(invalid());
    }
    let subtype = (subtype != "*").then(|| subtype.to_ascii_lowercase());
    Ok(MediaRange { kind: kind.to_ascii_lowercase(), subtype })
}
