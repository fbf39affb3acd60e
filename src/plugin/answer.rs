//! An answer that a plugin gives instead of the route's action.

use bytes::Bytes;

use super::response::lines_of;
use super::{InvalidField, check_of_answer};
use crate::error::Kind;
use crate::http::encode;
use crate::http::reply::Reply;
use crate::json::write::push_string;
use crate::request::Request;

/// Statuses that end a request (RFC 9110 15); others are none of a plugin's.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

/// An answer. Content-Length, Date and Connection are the gateway's to write, and what other filters put into every answer
/// (CORS, limits) is in this one too.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    fields: Vec<u8>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Bytes(Bytes),
    Envelope { detail: u8, message: String },
}

impl Answer {
    /// An answer without fields and body. A status that is none, below 200 or over 599, becomes 500.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = if STATUSES.contains(&status) { status } else { 500 };
        Self { status, fields: Vec::new(), body: Body::Bytes(Bytes::new()) }
    }

    /// What the gateway's own errors look like: `{"code":40390,"message":"…","data":null,"request_id":"…"}`, where the code is the
    /// status and `detail` (0 to 99), which tells apart what shares a status. 90 and above are never ringway's own.
    #[must_use]
    pub fn envelope(status: u16, detail: u8, message: impl Into<String>) -> Self {
        let mut answer = Self::new(status);
        encode::field(b"Content-Type", b"application/json", &mut answer.fields);
        answer.body = Body::Envelope { detail: detail.min(99), message: message.into() };
        answer
    }

    /// Adds a field.
    ///
    /// # Errors
    /// It can not be written.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, InvalidField> {
        check_of_answer(name, value.as_ref())?;
        encode::field(name.as_bytes(), value.as_ref(), &mut self.fields);
        Ok(self)
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Bytes(body.into());
        self
    }

    /// Whether it refuses the request.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status >= 400
    }

    /// The answer to this request, without lines that others put into every answer to it.
    pub(crate) fn into_reply(mut self, req: &Request) -> Reply {
        if req.own.replaces_any() {
            let kept = lines_of(&self.fields).filter(|(name, ..)| !req.own.replaces(name));
            self.fields = kept.flat_map(|(.., line)| line.iter().copied()).collect();
        }
        let kind = self.is_refusal().then_some(Kind::PluginRefused);
        let body = match self.body {
            Body::Bytes(body) => body,
            Body::Envelope { detail, message } => {
                let mut text = b"{\"code\":".to_vec();
                encode::number(u64::from(self.status) * 100 + u64::from(detail), &mut text);
                text.extend_from_slice(b",\"message\":");
                push_string(message.as_bytes(), &mut text);
                text.extend_from_slice(b",\"data\":null,\"request_id\":\"");
                text.extend_from_slice(req.request_id.as_bytes());
                text.extend_from_slice(b"\"}");
                text.into()
            }
        };
        Reply { status: self.status, fields: self.fields.into(), body, close: false, kind, is_standard: false }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_envelope_is_json_whatever_it_says() {
        let mut req = Request { request_id: "id".into(), ..Request::default() };
        req.own.set(b"x-own", |out| out.push(b'1'));
        let reply = Answer::envelope(403, 90, "no \"x\"\n\u{1}é")
            .field("X-Own", "2")
            .unwrap()
            .field("X-A", "1")
            .unwrap()
            .into_reply(&req);
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["request_id"], "id");
        assert_eq!((&body["code"], &body["message"]), (&40390.into(), &"no \"x\"\n\u{1}é".into()));
        assert_eq!((reply.status, reply.kind), (403, Some(Kind::PluginRefused)));
        assert_eq!(reply.fields, "Content-Type: application/json\r\nX-A: 1\r\n");
    }

    #[test]
    fn a_status_that_ends_no_request_is_a_500() {
        for status in [0, 101, 199, 600, u16::MAX] {
            assert_eq!(Answer::new(status).into_reply(&Request::default()).status, 500);
        }
        assert_eq!(Answer::new(204).into_reply(&Request::default()).kind, None);
        assert!(Answer::new(200).field("Content-Length", "3").is_err());
    }
}
