//! Answers made by the gateway: the one table from what went wrong to status, code and message.

use bytes::Bytes;

use crate::end::PartReason;
use crate::error::Kind;

use super::encode;

/// One answer. The envelope's code is `status × 100 + detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Status code (RFC 9110 15).
    pub status: u16,
    /// Tells apart what shares a status.
    pub detail: u32,
    /// For people.
    pub message: &'static str,
    /// The connection is closed after it: where the next request would begin is in doubt, or the client is not to be
    /// listened to any longer.
    pub close: bool,
}

impl Row {
    /// The code of the envelope.
    pub fn code(&self) -> u64 {
        u64::from(self.status) * 100 + u64::from(self.detail)
    }

    /// The status in words; for one that has none, the message.
    pub fn title(&self) -> &'static str {
        let known = http::StatusCode::from_u16(self.status).ok().and_then(|code| code.canonical_reason());
        known.unwrap_or(self.message)
    }
}

/// The answer for `kind`. What can not be answered any more (the client has gone, or half an answer was sent) has a row
/// all the same, so that the table is whole; it is never sent.
pub fn row(kind: Kind) -> Row {
    let (status, detail, message, close) = match kind {
        Kind::Malformed(message) => (400, 1, message, true),
        Kind::BodyMalformed => (400, 2, "the request body's chunks are malformed", true),
        Kind::TokenRepeated => (400, 3, "the request has more than one token", false),
        Kind::CredentialsMissing => (401, 1, "credentials are missing", false),
        Kind::CredentialsWrong => (401, 2, "the credentials are not valid", false),
        Kind::TokenMissing => (401, 1, "a token is required", false),
        Kind::TokenInvalid => (401, 2, "the token is not accepted", false),
        Kind::AddressDenied => (403, 1, "this address may not call", false),
        Kind::OriginRefused => (403, 2, "pages of this origin may not ask", false),
        Kind::RightMissing => (403, 3, "the caller may not do this", false),
        // Never shown: the plugin's own answer is.
        Kind::PluginRefused => (403, 5, "a plugin refused the request", false),
        // With the status that the service has said.
        Kind::AuthorizationRefused => (403, 4, "the authorization service refuses this request", false),
        Kind::NoRoute => (404, 1, "no route matches", false),
        Kind::MethodNotAllowed => (405, 1, "the route does not allow this method", false),
        Kind::MethodRefused => (405, 2, "this method is not allowed here", false),
        Kind::HeaderTimeout => (408, 1, "the request head did not arrive in time", true),
        Kind::BodyTimeout => (408, 2, "the request body did not arrive in time", true),
        Kind::BodyTooLarge => (413, 1, "the request body is larger than the route allows", true),
        Kind::TargetTooLong => (414, 1, "the request target is too long", true),
        Kind::TypeRefused => (415, 1, "request bodies of this type are not accepted here", false),
        Kind::Misdirected => (421, 1, "the host is not the one named in the TLS handshake", true),
        Kind::RateLimited => (429, 1, "more requests than the rate limit allows", false),
        Kind::TooManyInFlight => (429, 2, "more requests at a time than the limit allows", false),
        Kind::HeadTooLarge => (431, 1, "the request head is too large", true),
        Kind::TooManyFields => (431, 2, "the request has too many header fields", true),
        Kind::FieldsRefused => (431, 3, "the request has more header fields than are allowed here", false),
        Kind::HeadRefused => (431, 4, "the request's header fields have more bytes than are allowed here", false),
        Kind::ClientGone => (499, 1, "the client left", true),
        Kind::WriteTimeout => (499, 2, "the client did not take the answer in time", true),
        Kind::Internal => (500, 1, "an error in the gateway", true),
        Kind::PluginFailed => (500, 2, "a plugin of the gateway failed", false),
        Kind::UnknownCoding => (501, 1, "the only transfer coding understood is chunked", true),
        Kind::Reset => (502, 1, "the upstream closed the connection before it answered", false),
        Kind::BadResponse(_) => (502, 2, "the upstream's answer is not valid HTTP", false),
        Kind::Truncated => (502, 3, "the upstream's answer ended early", true),
        Kind::UpstreamTls => (502, 4, "no TLS connection to the upstream that can be trusted", false),
        Kind::NoEndpoint => (503, 1, "the upstream has no endpoint to ask", false),
        Kind::Connect => (503, 2, "the upstream can not be reached", false),
        Kind::Overloaded => (503, 3, "the gateway has as many connections as it may", true),
        Kind::Exhausted => (503, 13, "the gateway has no file descriptor left for the upstream", false),
        Kind::Drained => (503, 4, "the gateway is stopping", true),
        Kind::MemoryFull => (503, 5, "the gateway holds as many answers as it may", false),
        Kind::PasswordsBusy => (503, 6, "as many passwords are being verified as may", false),
        Kind::KeysMissing => (503, 7, "the keys that tokens are checked with are not there yet", false),
        Kind::AuthorizationFailed => (503, 8, "the authorization service does not say whether this may pass", false),
        // With the status that the filter says.
        Kind::FaultInjected => (503, 9, "a fault that the gateway was told to inject", false),
        Kind::ConnectTimeout => (504, 1, "the upstream did not accept a connection in time", false),
        Kind::FirstByteTimeout => (504, 2, "the upstream did not answer in time", false),
        Kind::RouteTimeout => (504, 3, "the route's time is over", false),
        Kind::UpstreamBodyTimeout => (504, 4, "the upstream's answer stalled", true),
        // Never sent: a tunnel has no answers.
        Kind::TunnelIdle => (504, 5, "nothing passed the tunnel for too long", true),
        Kind::Version => (505, 1, "only HTTP/1.0 and HTTP/1.1 are spoken here", true),
    };
    Row { status, detail, message, close }
}

/// The answer of an aggregation that fails with one of its parts, for that reason.
pub fn part_row(reason: PartReason) -> Row {
    let (status, detail, message) = match reason {
        PartReason::Status => (502, 10, "a part of the answer was refused by its upstream"),
        PartReason::BadBody => (502, 11, "a part of the answer is not what it should be"),
        PartReason::TooLarge => (502, 12, "a part of the answer is too large"),
        PartReason::Reset => (502, 13, "an upstream broke off a part of the answer"),
        PartReason::Dependency => (502, 14, "a part of the answer lacks what it depends on"),
        PartReason::Connect => (503, 10, "the upstream of a part of the answer can not be reached"),
        PartReason::BreakerOpen => (503, 11, "the upstream of a part of the answer is not asked, since it fails"),
        PartReason::RateLimited => (503, 12, "the upstream of a part of the answer limits its callers"),
        PartReason::Timeout => (504, 10, "a part of the answer did not come in time"),
        // Neither makes a request fail.
        PartReason::Condition | PartReason::Cancelled => (502, 15, "a part of the answer is missing"),
    };
    Row { status, detail, message, close: false }
}

/// The answer of an aggregation that takes over the status of a part.
pub fn propagated_row(status: u16) -> Row {
    let known = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    Row { status, detail: 0, message: known.unwrap_or("the upstream's status"), close: false }
}

/// The envelope: `{"code":40401,"message":"no route matches","data":null,"request_id":"…"}`. Messages and ids hold
/// nothing that JSON must escape: messages are this file's and the codec's, ids are visible ASCII without `"` and `\`.
pub fn envelope(row: &Row, request_id: &str, out: &mut Vec<u8>) {
    open_envelope(row, request_id, out);
    out.push(b'}');
}

/// The envelope without the brace that ends it: what follows is another member, or that brace.
pub fn open_envelope(row: &Row, request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"code\":");
    encode::number(row.code(), out);
    out.extend_from_slice(b",\"message\":\"");
    out.extend_from_slice(row.message.as_bytes());
    out.extend_from_slice(b"\",\"data\":null,\"request_id\":\"");
    out.extend_from_slice(request_id.as_bytes());
    out.push(b'"');
}

/// The line of the envelope's type, the first of each such answer.
pub(super) const JSON_LINE: &[u8] = b"Content-Type: application/json\r\n";

/// An answer that no upstream made.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Field lines, each with its CRLF; without Content-Length, Date and Connection, which belong to the writer.
    pub fields: Bytes,
    /// The body.
    pub body: Bytes,
    /// Close the connection behind it.
    pub close: bool,
    /// What went wrong, if it is the answer to that.
    pub kind: Option<Kind>,
    /// Its body is the envelope of that: it may be said in another form.
    pub is_standard: bool,
}

impl Reply {
    /// One that is said by its status and these lines.
    pub fn without_body(status: u16, fields: Vec<u8>) -> Self {
        let body = Default::default();
        Self { status, fields: fields.into(), body, close: false, kind: None, is_standard: false }
    }

    /// The envelope for `kind`, with further field `lines` (`Allow: …` CRLF).
    #[cold]
    pub fn from_error(kind: Kind, request_id: &str, lines: &[u8]) -> Self {
        Self::from_row(row(kind), kind, request_id, lines)
    }

    /// The same with another status, where the table does not decide about it.
    #[cold]
    pub fn with_status(status: u16, kind: Kind, request_id: &str, lines: &[u8]) -> Self {
        Self::from_row(Row { status, ..row(kind) }, kind, request_id, lines)
    }

    fn from_row(row: Row, kind: Kind, request_id: &str, lines: &[u8]) -> Self {
        let mut body = Vec::with_capacity(160);
        envelope(&row, request_id, &mut body);
        Self {
            status: row.status,
            fields: [JSON_LINE, lines].concat().into(),
            body: body.into(),
            close: row.close,
            kind: Some(kind),
            is_standard: true,
        }
    }

    /// The same, with the advice to come again in so many seconds (RFC 9110 10.2.3).
    #[cold]
    pub fn come_again(kind: Kind, request_id: &str, seconds: u64) -> Self {
        let mut line = Vec::with_capacity(32);
        encode::field_of(b"Retry-After", |out| encode::number(seconds, out), &mut line);
        Self::from_error(kind, request_id, &line)
    }
}

/// The status line of an answer that the gateway makes.
pub fn status_line(status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    encode::number(u64::from(status), out);
    let known = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    out.push(b' ');
    out.extend_from_slice(known.unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_json_and_its_code_says_the_status() {
        for kind in [Kind::NoRoute, Kind::Malformed("a line must end with CRLF"), Kind::Version] {
            let row = row(kind);
            let mut out = Vec::new();
            envelope(&row, "0123abc", &mut out);
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(json["code"].as_u64().unwrap() / 100, u64::from(row.status));
            assert_eq!(json["message"], row.message);
            assert!(json["data"].is_null() && json["request_id"] == "0123abc");
        }
    }

    #[test]
    fn a_framing_fault_always_closes() {
        for kind in
            [Kind::Malformed(""), Kind::BodyMalformed, Kind::UnknownCoding, Kind::HeadTooLarge, Kind::BodyTooLarge]
        {
            assert!(row(kind).close);
        }
    }
}
