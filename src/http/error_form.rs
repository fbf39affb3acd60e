//! The form of the answers that the gateway makes when something goes wrong: the envelope, problem details (RFC 9457), plain
//! text, and bodies of the operator's own.

use super::encode;
use super::reply::{JSON_LINE, Reply, Row, open_envelope, row};

/// What stands in a body of the operator's own for what is known of an error.
pub const VALUES: [&str; 4] = ["request_id", "status", "code", "message"];

/// The form where nothing of the operator's own fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `{"code":40401,"message":"…","data":null,"request_id":"…"}`
    #[default]
    Envelope,
    /// RFC 9457.
    Problem,
    /// A line for people.
    Text,
}

/// The forms of error answers, as far as one place says them: all that is said for the gateway, or for a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ErrorForms {
    /// That of all without a body of the operator's own here; `None`: what is said elsewhere holds for them.
    pub format: Option<Format>,
    /// Bodies of the operator's own; of several for one status the first holds.
    pub bodies: Vec<OwnBody>,
}

/// The forms that hold for a request: of two that fit, that of its route.
#[derive(Debug, Clone, Copy)]
pub struct Nearest<'f> {
    /// Those of its route, if it has one that says any.
    pub route: Option<&'f ErrorForms>,
    /// Those of the gateway.
    pub all: &'f ErrorForms,
}

/// A body of the operator's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnBody {
    /// First and last status that it is for.
    pub statuses: (u16, u16),
    /// Its type.
    pub content_type: String,
    /// What it is made of.
    pub pieces: Vec<Piece>,
    /// How values are written.
    pub escape: Escape,
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Piece {
    /// This text.
    Text(String),
    /// The value of that place in [`VALUES`].
    Value(usize),
}

/// What values must not be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Escape {
    /// Nothing: they are text.
    None,
    /// Anything but the content of a JSON string.
    Json,
    /// Anything but text or the value of an attribute, in HTML and XML.
    Markup,
    /// It is not known how values would have to be written: there are none.
    Unknown,
}

impl Escape {
    /// That of a type, whatever its parameters are.
    pub fn of(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "text/plain" => Self::None,
            "text/html" | "text/xml" | "application/xml" => Self::Markup,
            "application/json" => Self::Json,
            _ if kind.ends_with("+xml") => Self::Markup,
            _ if kind.ends_with("+json") => Self::Json,
            _ => Self::Unknown,
        }
    }

    fn push(self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            match (self, byte) {
                (Self::Markup, b'&') => out.extend_from_slice(b"&amp;"),
                (Self::Markup, b'<') => out.extend_from_slice(b"&lt;"),
                (Self::Markup, b'>') => out.extend_from_slice(b"&gt;"),
                (Self::Markup, b'"') => out.extend_from_slice(b"&quot;"),
                (Self::Markup, b'\'') => out.extend_from_slice(b"&#39;"),
                (Self::Json, b'"' | b'\\') => out.extend_from_slice(&[b'\\', *byte]),
                (Self::Json, ..0x20) => out.push(b' '),
                _ => out.push(*byte),
            }
        }
    }
}

/// A body that was written.
pub struct Written<'f> {
    /// Its type.
    pub content_type: &'f [u8],
    /// It is a JSON object that is yet to be closed, and may have further members.
    pub is_open: bool,
    /// It is the operator's own, which need not say the request's id.
    pub is_own: bool,
}

impl ErrorForms {
    /// Whether all answers are envelopes, as far as this decides.
    fn is_standard(&self) -> bool {
        matches!(self.format, None | Some(Format::Envelope)) && self.bodies.is_empty()
    }

    fn body_for(&self, status: u16) -> Option<&OwnBody> {
        self.bodies.iter().find(|body| (body.statuses.0..=body.statuses.1).contains(&status))
    }
}

impl<'f> Nearest<'f> {
    /// Gives an answer of the table its form. Others have theirs.
    pub fn shape(self, reply: &mut Reply, request_id: &str) {
        let is_standard = self.all.is_standard() && self.route.is_none_or(ErrorForms::is_standard);
        if std::mem::take(&mut reply.is_standard)
            && !is_standard
            && let Some(kind) = reply.kind
        {
            // The status may be another than the table's: some are the operator's.
            self.shape_row(&Row { status: reply.status, ..row(kind) }, reply, request_id);
        }
    }

    #[cold]
    fn shape_row(self, row: &Row, reply: &mut Reply, request_id: &str) {
        let mut body = Vec::with_capacity(256);
        let written = self.open(row, request_id, &mut body);
        if written.is_open {
            body.push(b'}');
        }
        let mut fields = Vec::with_capacity(64 + reply.fields.len());
        encode::field(b"Content-Type", written.content_type, &mut fields);
        if written.is_own {
            encode::field(b"X-Request-Id", request_id.as_bytes(), &mut fields);
        }
        fields.extend_from_slice(reply.fields.strip_prefix(JSON_LINE).unwrap_or(&reply.fields));
        (reply.fields, reply.body) = (fields.into(), body.into());
    }

    /// Appends the body for `row`.
    #[cold]
    pub fn open(self, row: &Row, request_id: &str, out: &mut Vec<u8>) -> Written<'f> {
        let mut format = None;
        for forms in self.route.into_iter().chain([self.all]) {
            if let Some(body) = forms.body_for(row.status) {
                body.write(row, request_id, out);
                return Written { content_type: body.content_type.as_bytes(), is_open: false, is_own: true };
            }
            format = forms.format;
            if format.is_some() {
                break;
            }
        }
        let format = format.unwrap_or_default();
        let content_type: &[u8] = match format {
            Format::Envelope => {
                open_envelope(row, request_id, out);
                b"application/json"
            }
            Format::Problem => {
                open_problem(row, request_id, out);
                b"application/problem+json"
            }
            Format::Text => {
                write_text(row, request_id, out);
                b"text/plain; charset=utf-8"
            }
        };
        Written { content_type, is_open: format != Format::Text, is_own: false }
    }
}

impl OwnBody {
    fn write(&self, row: &Row, request_id: &str, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(0) => self.escape.push(request_id.as_bytes(), out),
                Piece::Value(1) => encode::number(row.status.into(), out),
                Piece::Value(2) => encode::number(row.code(), out),
                Piece::Value(_) => self.escape.push(row.message.as_bytes(), out),
            }
        }
    }
}

/// RFC 9457 3.1: of a type that says no more than the status does (4.2.1), with code and id as members of its own (3.2).
fn open_problem(row: &Row, request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":\"");
    Escape::Json.push(row.title().as_bytes(), out);
    out.extend_from_slice(b"\",\"status\":");
    encode::number(row.status.into(), out);
    out.extend_from_slice(b",\"detail\":\"");
    Escape::Json.push(row.message.as_bytes(), out);
    out.extend_from_slice(b"\",\"code\":");
    encode::number(row.code(), out);
    out.extend_from_slice(b",\"request_id\":\"");
    Escape::Json.push(request_id.as_bytes(), out);
    out.push(b'"');
}

/// `404 Not Found: no route matches (code 40401, request 0123abc)`
fn write_text(row: &Row, request_id: &str, out: &mut Vec<u8>) {
    encode::number(row.status.into(), out);
    for text in [" ", row.title(), ": ", row.message, " (code "] {
        out.extend_from_slice(text.as_bytes());
    }
    encode::number(row.code(), out);
    for text in [", request ", request_id, ")\n"] {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Kind;

    fn shaped(forms: &ErrorForms, kind: Kind) -> (String, String) {
        let mut reply = Reply::from_error(kind, "id<'&\"", b"Allow: GET\r\n");
        Nearest { route: None, all: forms }.shape(&mut reply, "id<'&\"");
        assert_eq!(reply.status, row(kind).status);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&reply.fields), text(&reply.body))
    }

    #[test]
    fn every_form_keeps_the_other_fields() {
        let mut forms = ErrorForms { format: Some(Format::Problem), bodies: Vec::new() };
        let (fields, body) = shaped(&forms, Kind::MethodNotAllowed);
        assert_eq!(fields, "Content-Type: application/problem+json\r\nAllow: GET\r\n");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((body["status"].as_u64(), body["title"].as_str()), (Some(405), Some("Method Not Allowed")));
        assert_eq!((body["type"].as_str(), body["request_id"].as_str()), (Some("about:blank"), Some("id<'&\"")));
        forms.format = Some(Format::Text);
        let (fields, body) = shaped(&forms, Kind::NoRoute);
        assert_eq!(fields, "Content-Type: text/plain; charset=utf-8\r\nAllow: GET\r\n");
        assert_eq!(body, "404 Not Found: no route matches (code 40401, request id<'&\")\n");
    }

    #[test]
    fn own_bodies_hold_values_that_are_nothing_else() {
        let own = |statuses, content_type: &str| OwnBody {
            statuses,
            content_type: content_type.into(),
            pieces: vec![Piece::Value(0), Piece::Text("|".into()), Piece::Value(3), Piece::Value(2), Piece::Value(1)],
            escape: Escape::of(content_type),
        };
        let bodies = vec![own((404, 404), "text/html; charset=utf-8"), own((400, 499), "application/vnd.x+json")];
        let forms = ErrorForms { format: None, bodies };
        let (fields, body) = shaped(&forms, Kind::NoRoute);
        assert!(fields.starts_with("Content-Type: text/html; charset=utf-8\r\nX-Request-Id: id"), "{fields}");
        assert_eq!(body, "id&lt;&#39;&amp;&quot;|no route matches40401404");
        assert_eq!(shaped(&forms, Kind::RateLimited).1, "id<'&\\\"|more requests than the rate limit allows42901429");
        assert!(shaped(&forms, Kind::Connect).1.starts_with("{\"code\":50302"), "no body of one's own fits");
    }

    #[test]
    fn the_nearest_that_is_said_holds_by_status_and_a_format_for_all() {
        let own = |statuses, text: &str| OwnBody {
            statuses,
            content_type: "text/plain".into(),
            pieces: vec![Piece::Text(text.into())],
            escape: Escape::None,
        };
        let all = ErrorForms {
            format: Some(Format::Problem),
            bodies: vec![own((404, 404), "all 404"), own((500, 599), "all 5xx")],
        };
        let body = |route: &ErrorForms, kind| {
            let mut reply = Reply::from_error(kind, "id", b"");
            Nearest { route: Some(route), all: &all }.shape(&mut reply, "id");
            String::from_utf8(reply.body.to_vec()).unwrap()
        };
        let some = ErrorForms { format: None, bodies: vec![own((503, 503), "its 503"), own((400, 499), "its 4xx")] };
        assert_eq!((body(&some, Kind::Connect), body(&some, Kind::NoRoute)), ("its 503".into(), "its 4xx".into()));
        assert_eq!(body(&some, Kind::RouteTimeout), "all 5xx", "what a route does not say is said for all");
        let whole = ErrorForms { format: Some(Format::Envelope), bodies: some.bodies };
        assert_eq!(body(&whole, Kind::Connect), "its 503");
        assert!(body(&whole, Kind::RouteTimeout).starts_with("{\"code\":50403"), "its format is for all");
        let nothing = ErrorForms::default();
        assert_eq!(body(&nothing, Kind::NoRoute), "all 404");
        assert!(body(&nothing, Kind::RateLimited).starts_with("{\"type\""));
    }
}
