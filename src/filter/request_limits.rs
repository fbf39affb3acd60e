//! `request_limits`: what a request may be like, tighter than the listener's bounds and the route's `body_limit`.
//!
//! A body that announces too much is refused before the upstream hears of it; one that does not say its length is cut off
//! where it goes too far, as at the route's limit, of which the tighter one holds.

use http::Method;

use crate::core::Core;
use crate::end::End;
use crate::error::Kind;
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::head::is_token;
use crate::http::reply::Reply;
use crate::request::{BodyLimiter, Request};
use crate::shared::FilterMetrics;

use super::{Flow, note_refusal};

/// The filter.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Its name.
    pub name: String,
    /// Bytes of a body.
    pub body: Option<u64>,
    /// Header fields.
    pub fields: Option<usize>,
    /// Bytes of the header fields' lines.
    pub field_bytes: Option<usize>,
    /// Methods, HEAD wherever GET is; empty: any.
    pub methods: Vec<Method>,
    /// Types of bodies; empty: any.
    pub types: Vec<MediaRange>,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// `image/png`, or `image/*`; in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    /// In front of the slash.
    pub kind: String,
    /// Behind it; `None`: any.
    pub subtype: Option<String>,
}

impl MediaRange {
    /// Whether a type is within it.
    #[must_use]
    pub fn holds(&self, kind: &[u8], subtype: &[u8]) -> bool {
        kind.eq_ignore_ascii_case(self.kind.as_bytes())
            && self.subtype.as_ref().is_none_or(|own| subtype.eq_ignore_ascii_case(own.as_bytes()))
    }
}

impl RequestLimits {
    /// Lets pass what keeps to all limits.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        if let Some(kind) = self.fault(req) {
            return self.refuse(kind, req);
        }
        if let Some(limit) = self.body {
            let is_tightest = req.body_limit.is_none_or(|other| limit <= other);
            // Of two filters that say the same it is the first, as of bodies that say their length.
            let is_said = req.body_limit == Some(limit) && req.body_limiter.is_some();
            if is_tightest && !is_said {
                req.body_limit = Some(limit);
                if req.framing == Framing::Chunked {
                    let_body_pass(req);
                    req.body_limiter =
                        Some(BodyLimiter { name: self.name.clone(), metrics: FilterMetrics::clone(&self.metrics) });
                    return Flow::Continue;
                }
            }
        }
        self.metrics.passed.add(1);
        Flow::Continue
    }

    fn fault(&self, req: &Request) -> Option<Kind> {
        let fields = &req.head.fields;
        if !self.methods.is_empty() && !self.methods.contains(&req.head.method) {
            return Some(Kind::MethodRefused);
        }
        if self.fields.is_some_and(|max| fields.count() > max) {
            return Some(Kind::FieldsRefused);
        }
        if self.field_bytes.is_some_and(|max| lines_len(req) > max) {
            return Some(Kind::HeadRefused);
        }
        if !self.types.is_empty() && has_body(req.framing) && !self.takes(req) {
            return Some(Kind::TypeRefused);
        }
        match (self.body, req.framing) {
            (Some(max), Framing::Length(n)) if n > max => Some(Kind::BodyTooLarge),
            _ => None,
        }
    }

    /// Whether the type of the body is one of those allowed. Two are none: who reads which is anybody's guess.
    fn takes(&self, req: &Request) -> bool {
        let bytes = req.bytes();
        let mut given = req.fields_named(b"content-type").map(|value| value.of(bytes));
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let mut halves = essence.splitn(2, |&byte| byte == b'/');
        let (Some(kind), Some(subtype)) = (halves.next(), halves.next()) else { return false };
        // RFC 9110 8.3.1: two tokens. What is more might be read as another type by others.
        let is_whole = |half: &[u8]| !half.is_empty() && half.iter().all(|byte| is_token(*byte));
        if !is_whole(kind) || !is_whole(subtype) {
            return false;
        }
        self.types.iter().any(|range| range.holds(kind, subtype))
    }

    #[cold]
    fn refuse(&self, kind: Kind, req: &mut Request) -> Flow {
        note_refusal(&self.name, &self.metrics, req);
        let mut line = Vec::new();
        match kind {
            // RFC 9110 15.5.6
            Kind::MethodRefused => {
                let names: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
                encode::field(b"Allow", names.join(", ").as_bytes(), &mut line);
            }
            // RFC 9110 15.5.16, 12.5.1
            Kind::TypeRefused => {
                let name = |range: &MediaRange| format!("{}/{}", range.kind, range.subtype.as_deref().unwrap_or("*"));
                let names: Vec<String> = self.types.iter().map(name).collect();
                encode::field(b"Accept", names.join(", ").as_bytes(), &mut line);
            }
            _ => {}
        }
        Flow::Reply(Reply::from_error(kind, &req.request_id, &line))
    }
}

/// A request has ended whose body a filter bounded: whether the body went too far is known now.
pub fn on_end(limiter: &BodyLimiter, end: End, req: &mut Request) {
    match end {
        End::BodyTooLarge => note_refusal(&limiter.name, &limiter.metrics, req),
        _ => limiter.metrics.passed.add(1),
    }
}

/// Another limit on the body is tighter than that of the filter that bounded it so far.
pub fn let_body_pass(req: &mut Request) {
    if let Some(limiter) = req.body_limiter.take() {
        limiter.metrics.passed.add(1);
    }
}

fn has_body(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// Bytes of the lines of all fields.
fn lines_len(req: &Request) -> usize {
    let fields = &req.head.fields;
    let start = fields.iter().next().map_or(fields.len, |field| field.name.start());
    // Behind them is the empty line.
    fields.len.saturating_sub(2).saturating_sub(start)
}
