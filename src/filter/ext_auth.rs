//! `ext_auth`: a service is asked about each request, and says whether it goes on. Here is what is made of what it says;
//! asking it is the proxy's (`proxy/question.rs`).
//!
//! 2xx lets the request pass; a redirect and 4xx are its answer, whatever becomes of the rest of it; everything else says
//! nothing about the request, and `on_failure` decides. An answer holds for its own request alone, unless `cache` says
//! otherwise: then for those that send the same in all fields that the service gets, ask the same of it, with the same
//! method and the same query, which may carry a token.

use std::rc::Rc;

use bytes::Bytes;
use http::Method;

use crate::core::Core;
use crate::core::decisions::{Decision, Grant, Refusal};
use crate::core::verified::Tag;
use crate::error::Kind;
use crate::http::encode::copy_fields;
use crate::http::head::{Field, ResponseHead};
use crate::http::known::Known;
use crate::http::reply::Reply;
use crate::observe::access_log;
use crate::request::Request;
use crate::route::template::{Facts, Place, Template};
use crate::shared::FilterMetrics;

use super::limit_key::LimitKey;
use super::{Flow, note_refusal};

/// The filter.
#[derive(Clone, Debug)]
pub struct ExtAuth {
    /// Its name.
    pub name: String,
    /// Who is asked: index into the snapshot's upstreams.
    pub upstream: usize,
    /// The method of the question.
    pub method: Method,
    /// Its path and query.
    pub target: Template,
    /// The request's fields that go along, in lower case.
    pub headers: Vec<String>,
    /// Fields of an answer that lets it pass, for the upstream.
    pub response_headers: Vec<String>,
    /// Those for the client.
    pub client_headers: Vec<String>,
    /// Fields of a refusal for the client.
    pub refusal_headers: Vec<String>,
    /// The field of an answer that says who calls.
    pub principal: Option<String>,
    /// How long it may take, in ms.
    pub timeout_ms: u32,
    /// A request about which nothing is said passes.
    pub allows_on_failure: bool,
    /// The largest body of an answer, in bytes.
    pub body_bytes_max: usize,
    /// For how long an answer is remembered, if it is.
    pub cache: Option<Cache>,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// How answers are remembered.
#[derive(Clone, Debug)]
pub struct Cache {
    /// How long an answer holds, in ms.
    pub ttl_ms: u64,
    /// What it depends on beside method, query and the fields that are sent; `None`: all that is sent.
    pub key: Option<LimitKey>,
    /// How many are remembered on this core.
    pub entries_max: usize,
    /// Stands for the filter and its rules.
    pub identity: u64,
}

/// Fields about a body, which go where the body goes.
pub const ABOUT_BODY: [&str; 3] = ["content-type", "content-encoding", "content-language"];

impl ExtAuth {
    /// Lets the request pass, or answers it, as the service said a short while ago about such a one; else it is to be asked.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        if let Some(cache) = &self.cache {
            let tag = req.without_read_pairs(|req| self.tag(cache, req, core));
            if let Some(decision) = core.decisions.get(cache.identity, &tag, core.deadlines.now_ms()) {
                self.metrics.cached.add(1);
                return self.follow(&decision, req);
            }
        }
        self.metrics.waited.add(1);
        Flow::Ask
    }

    /// What becomes of the request now that the service was asked.
    pub fn on_answer(&self, said: Result<Decision, Kind>, req: &mut Request, core: &Core) -> Flow {
        match said {
            Ok(decision) => {
                let once = match &decision {
                    Decision::Allow(grant) => grant.once,
                    Decision::Refuse(refusal) => refusal.once,
                };
                let decision = Rc::new(decision);
                if let Some(cache) = self.cache.as_ref().filter(|_| !once) {
                    let tag = req.without_read_pairs(|req| self.tag(cache, req, core));
                    let until_ms = core.deadlines.now_ms().saturating_add(cache.ttl_ms);
                    core.decisions.put(cache.identity, tag, until_ms, Rc::clone(&decision), cache.entries_max);
                }
                self.follow(&decision, req)
            }
            Err(kind) => self.on_failure(kind, req, core),
        }
    }

    /// What is remembered is known by it.
    fn tag(&self, cache: &Cache, req: &Request, core: &Core) -> Tag {
        let write = |out: &mut Vec<u8>| {
            self.target.render(req, Place::Target, out);
            out.push(0);
            req.write_fields(&self.headers, out);
            out.push(0);
            for part in [req.query_str().unwrap_or_default(), req.head.method.as_str()] {
                out.extend_from_slice(part.as_bytes());
                out.push(0);
            }
            match &cache.key {
                Some(key) => key.write(req, out),
                None => {
                    for part in [req.scheme(), req.asked_host(), &req.path] {
                        out.extend_from_slice(part);
                        out.push(0);
                    }
                    if let Some(ip) = req.client_ip() {
                        out.extend_from_slice(ip.to_string().as_bytes());
                    }
                    // The way that trusted proxies tell is told on.
                    let way =
                        [Known::ForwardedFor, Known::Forwarded, Known::Via].map(|known| req.head.fields.all(known));
                    for field in way.into_iter().flatten().filter(|_| req.from_trusted) {
                        out.push(0);
                        out.extend_from_slice(field.value.of(req.bytes()));
                    }
                }
            }
        };
        core.with_limit_key(write, |key| core.verified.tag(cache.identity, key))
    }

    #[cold]
    fn on_failure(&self, kind: Kind, req: &mut Request, core: &Core) -> Flow {
        self.metrics.failed.add(1);
        match kind {
            // Nobody is to blame but the request or the gateway itself: that opens no door.
            Kind::TargetTooLong
            | Kind::MemoryFull
            | Kind::Exhausted
            | Kind::Internal
            | Kind::Drained
            | Kind::ClientGone => {
                note_refusal(&self.name, &self.metrics, req);
                return Flow::Reply(Reply::from_error(kind, &req.request_id, b""));
            }
            _ => {}
        }
        let then = if self.allows_on_failure { "pass" } else { "are answered 503" };
        core.note(format!("filter {}: its upstream says nothing ({kind:?}): requests {then}", self.name));
        if self.allows_on_failure {
            access_log::write_note(&self.name, "unchecked", &mut req.notes);
            return self.follow(&Decision::Allow(Grant::default()), req);
        }
        note_refusal(&self.name, &self.metrics, req);
        Flow::Reply(Reply::from_error(Kind::AuthorizationFailed, &req.request_id, b""))
    }

    fn follow(&self, decision: &Decision, req: &mut Request) -> Flow {
        match decision {
            Decision::Allow(grant) => {
                self.metrics.passed.add(1);
                self.grant(grant, req);
                Flow::Continue
            }
            Decision::Refuse(refusal) => {
                note_refusal(&self.name, &self.metrics, req);
                Flow::Reply(answer(refusal, &req.request_id))
            }
        }
    }

    fn grant(&self, grant: &Grant, req: &mut Request) {
        // Whoever else claims to tell this is not believed, whether the service tells it or not.
        for name in &self.response_headers {
            req.disown(name);
        }
        for (name, value) in named(&self.response_headers, &grant.request) {
            req.edits.add(name, |out| out.extend_from_slice(value));
        }
        for (name, value) in named(&self.client_headers, &grant.client) {
            req.own.add(name, |out| out.extend_from_slice(value));
        }
        if let Some(principal) = &grant.principal {
            req.principal.set(principal);
        }
    }

    /// What goes along with a request that an answer with this head lets pass.
    ///
    /// # Errors
    /// When it does not say clearly who calls.
    pub fn read_grant(&self, head: &ResponseHead, bytes: &[u8]) -> Result<Grant, Kind> {
        let taken = |names: &[String]| {
            let mut fields = Vec::new();
            for (at, name) in names.iter().enumerate() {
                fields.extend(values(head, bytes, name).map(|value| (at, value.into())));
            }
            fields
        };
        let client = taken(&self.client_headers);
        Ok(Grant {
            once: forbids_storing(head, bytes) || !client.is_empty(),
            request: taken(&self.response_headers),
            client,
            principal: match &self.principal {
                Some(name) => read_principal(values(head, bytes, name))?,
                None => None,
            },
        })
    }

    /// The refusal that an answer with this head is, and the field lines about its body.
    #[must_use]
    pub fn read_refusal(&self, head: &ResponseHead, bytes: &[u8]) -> (Refusal, Bytes) {
        let (mut lines, mut about_body) = (Vec::new(), Vec::new());
        let is = |field: &Field, name: &[u8]| field.name.of(bytes).eq_ignore_ascii_case(name);
        let listed = |field: &Field| head.fields.is_listed(field, bytes);
        let wanted = |field: &Field| self.refusal_headers.iter().any(|name| is(field, name.as_bytes()));
        copy_fields(&head.fields, bytes, |field| listed(field) || !wanted(field), &mut lines);
        let is_about_body = |field: &Field| ABOUT_BODY.iter().any(|name| is(field, name.as_bytes()));
        copy_fields(&head.fields, bytes, |field| listed(field) || !is_about_body(field), &mut about_body);
        let once = forbids_storing(head, bytes)
            || !matches!(head.status, 401 | 403)
            || values(head, bytes, "set-cookie").next().is_some();
        (Refusal { status: head.status, lines: lines.into(), body: None, once }, about_body.into())
    }
}

/// Whether a status is a refusal: a redirect to where one can log in, or a fault of the client's. What is about the
/// connection to the service, which is the gateway's own, says nothing of the client.
#[must_use]
pub fn is_refusal(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308) || (matches!(status, 400..=499) && !matches!(status, 407 | 408 | 421))
}

/// Whether the service itself says that its answer is for once (RFC 9111 5.2.2).
fn forbids_storing(head: &ResponseHead, bytes: &[u8]) -> bool {
    let directives = values(head, bytes, "cache-control").flat_map(|value| value.split(|byte| *byte == b','));
    let name = |directive: &'_ [u8]| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"no-store") || name.eq_ignore_ascii_case(b"no-cache")
    };
    directives.into_iter().any(name)
}

fn named<'f>(
    names: &'f [String],
    fields: &'f [(usize, Box<[u8]>)],
) -> impl Iterator<Item = (&'f [u8], &'f [u8])> + use<'f> {
    fields.iter().filter_map(|(at, value)| Some((names.get(*at)?.as_bytes(), &**value)))
}

fn values<'b>(head: &'b ResponseHead, bytes: &'b [u8], name: &'b str) -> impl Iterator<Item = &'b [u8]> + use<'b> {
    let fields = head.fields.named(name.as_bytes(), bytes).filter(|field| !head.fields.is_listed(field, bytes));
    fields.map(|field| field.value.of(bytes))
}

/// One name, or none. Two are a riddle, and limits would count one caller under the name of another.
fn read_principal<'b>(mut values: impl Iterator<Item = &'b [u8]>) -> Result<Option<String>, Kind> {
    const UNCLEAR: Kind = Kind::BadResponse("does not say clearly who calls");
    match (values.next(), values.next()) {
        (None, _) | (Some(b""), None) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value).map(|name| Some(name.to_owned())).map_err(|_| UNCLEAR),
        (Some(_), Some(_)) => Err(UNCLEAR),
    }
}

#[cold]
fn answer(refusal: &Refusal, request_id: &str) -> Reply {
    const KIND: Kind = Kind::AuthorizationRefused;
    let Refusal { status, lines, body, .. } = refusal;
    let (more, body) = match body {
        Some(body) => body.clone(),
        // A redirect needs none (RFC 9110 15.4).
        None if *status < 400 => (Bytes::new(), Bytes::new()),
        None => return Reply::with_status(*status, KIND, request_id, lines),
    };
    let fields = [lines.as_ref(), more.as_ref()].concat().into();
    Reply { status: *status, fields, body, close: false, kind: Some(KIND), is_standard: false }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::head::Bounds;

    #[test]
    fn statuses_say_yes_or_no_or_nothing() {
        for status in [301, 302, 303, 307, 308, 400, 401, 403, 404, 429, 431] {
            assert!(is_refusal(status), "{status}");
        }
        for status in [200, 204, 300, 304, 407, 408, 421, 500, 502, 503, 599] {
            assert!(!is_refusal(status), "{status}");
        }
    }

    #[test]
    fn who_calls_is_one_name_or_none() {
        let read = |values: &[&'static [u8]]| read_principal(values.iter().copied());
        assert_eq!((read(&[]).unwrap(), read(&[b""]).unwrap()), (None, None));
        assert_eq!(read(&[b"alice"]).unwrap().as_deref(), Some("alice"));
        assert!(read(&[b"alice", b"bob"]).is_err() && read(&[b"\xff"]).is_err() && read(&[b"", b""]).is_err());
    }

    #[test]
    fn what_is_for_once_is_not_remembered() {
        let filter = ExtAuth {
            name: "f".into(),
            upstream: 0,
            method: Method::GET,
            target: Template::parse("/", &[]).unwrap(),
            headers: Vec::new(),
            response_headers: vec!["x-user".into()],
            client_headers: vec!["set-cookie".into()],
            refusal_headers: vec!["location".into(), "set-cookie".into()],
            principal: Some("x-user".into()),
            timeout_ms: 1,
            allows_on_failure: false,
            body_bytes_max: 0,
            cache: None,
            metrics: FilterMetrics::default(),
        };
        let read = |text: &str| {
            let mut head = ResponseHead::default();
            assert!(head.parse(text.as_bytes(), &Bounds { head: 4096, fields: 10, target: 0 }).unwrap());
            match is_refusal(head.status) {
                true => Decision::Refuse(filter.read_refusal(&head, text.as_bytes()).0),
                false => Decision::Allow(filter.read_grant(&head, text.as_bytes()).unwrap()),
            }
        };
        let once = |text: &str| match read(text) {
            Decision::Allow(grant) => grant.once,
            Decision::Refuse(refusal) => refusal.once,
        };
        assert!(!once("HTTP/1.1 200 OK\r\nX-User: a\r\nCache-Control: max-age=1\r\n\r\n"));
        assert!(once("HTTP/1.1 200 OK\r\nCache-Control: max-age=1, No-Store\r\n\r\n"));
        assert!(once("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n\r\n"));
        assert!(!once("HTTP/1.1 403 No\r\n\r\n") && once("HTTP/1.1 429 No\r\n\r\n"));
        assert!(once("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"));
        assert!(once("HTTP/1.1 401 No\r\nset-cookie: a=b\r\n\r\n"));
        let Decision::Allow(grant) = read("HTTP/1.1 204 OK\r\nX-User: a\r\nX-Other: b\r\n\r\n") else { panic!() };
        assert_eq!((grant.request, grant.principal.as_deref()), (vec![(0, (*b"a").into())], Some("a")));
        let named = "HTTP/1.1 403 No\r\nLocation: /x\r\nConnection: location\r\nX-Y: z\r\nContent-Type: a/b\r\n\r\n";
        let Decision::Refuse(refusal) = read(named) else { panic!() };
        assert!(refusal.lines.is_empty(), "what Connection lists is about the connection alone: {refusal:?}");
    }
}
