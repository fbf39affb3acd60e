//! A question about a request, which an `ext_auth` filter puts to a service: the same call as any other of an upstream, with
//! a deadline of its own. What the answer means is the filter's.

use bytes::Bytes;
use http::Method;

use crate::core::decisions::{Decision, Refusal};
use crate::error::Kind;
use crate::filter::ext_auth::{ExtAuth, is_refusal};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::head::ResponseHead;
use crate::request::Request;
use crate::route::template::Place;

use super::call::{Broken, Call, Taker, Whole};
use super::checkout::Wanted;
use super::plane::{Downstream, Live, Plane};
use super::upload::write_framing;
use super::upstream_head::{self, TARGET_BYTES_MAX};

/// A question is the request's few fields that go along, and its target three times. Larger ones grow their buffer.
const QUESTION_BYTES: usize = 2 * 1024;

/// Asks about a request that takes the route of this index, and waits for the answer until `due_ms` at most. Dropping it closes its connection.
///
/// # Errors
/// Why nothing was said about the request.
pub async fn ask(
    filter: &ExtAuth,
    req: &Request,
    route: Option<usize>,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
    due_ms: u64,
) -> Result<Decision, Kind> {
    let core = &plane.core;
    let spec = live.snapshot.upstreams.get(filter.upstream).ok_or(Kind::Internal)?;
    let slot = core.deadlines.slot();
    let due_ms = due_ms.min(slot.now_ms().saturating_add(filter.timeout_ms.into()));
    let wanted = Wanted { spec, endpoints: live.endpoints(filter.upstream), core, slot: &slot, client: None, due_ms };
    let key = spec.key_of(req, route, core);
    let endpoint = wanted.pick(key).map_err(|e| e.kind)?;
    let host = spec.host_of(endpoint);
    let mut out = core.buffers.take(QUESTION_BYTES);
    if !write(filter, req, host, down, out.vec()) {
        return Err(Kind::TargetTooLong);
    }
    let mut held = core.hold_for_filter();
    held.grow(out.capacity()).map_err(|e| e.kind)?;
    let mut head = ResponseHead::default();
    let mut taken = Taken { filter, refusal: None };
    let call = Call { wanted, key, method: &filter.method, safe: filter.method.is_safe() };
    let result = call.ask(endpoint, None, out, &mut head, &mut taken, &mut held).await;
    match (result, taken.refusal) {
        (Ok(Whole { buf, at }), Some((refusal, about_body))) => {
            let body = buf.bytes().get(at..).filter(|body| !body.is_empty());
            let body = body.map(|body| (about_body, Bytes::copy_from_slice(body)));
            core.buffers.give(buf);
            Ok(Decision::Refuse(Refusal { body, ..refusal }))
        }
        (Ok(Whole { buf, .. }), None) => {
            let grant = filter.read_grant(&head, buf.bytes());
            core.buffers.give(buf);
            grant.map(Decision::Allow)
        }
        // Its status has said it: what becomes of the rest opens no door.
        (Err(_), Some((refusal, _))) => Ok(Decision::Refuse(Refusal { once: true, ..refusal })),
        (Err(Broken::Transport(e)), None) => Err(e.kind),
        (Err(Broken::Answer(kind)), None) => Err(kind),
    }
}

/// Appends the whole question, as the endpoint that is asked as `host` gets it; false if its target is too long.
///
/// What it tells of the request has the names that nginx' ingress, Traefik and Caddy use, so that services made for these
/// understand it.
pub(super) fn write(filter: &ExtAuth, req: &Request, host: &str, down: &Downstream, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(filter.method.as_str().as_bytes());
    out.push(b' ');
    let start = out.len();
    filter.target.render(req, Place::Target, out);
    if out.len() - start > TARGET_BYTES_MAX {
        return false;
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    encode::field(b"Host", host.as_bytes(), out);
    out.extend_from_slice(b"Accept-Encoding: identity\r\n");
    req.write_fields(&filter.headers, out);
    upstream_head::write_who(req, down.peer().text(), |_| false, out);
    // Of the target what routes see, not the client's way to write it: both must not mean different things.
    let method = req.head.method.as_str().as_bytes();
    encode::field(b"X-Forwarded-Method", method, out);
    encode::field_of(b"X-Forwarded-Uri", |out| req.write_uri(out), out);
    encode::field(b"X-Original-Method", method, out);
    let url = |out: &mut Vec<u8>| {
        for part in [req.scheme(), b"://", req.asked_host()] {
            out.extend_from_slice(part);
        }
        req.write_uri(out);
    };
    encode::field_of(b"X-Original-URL", url, out);
    if ![Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS].contains(&filter.method) {
        // RFC 9110 8.6: where a method expects a body, its absence is said.
        write_framing(Framing::Length(0), out);
    }
    out.extend_from_slice(b"\r\n");
    true
}

/// What is taken of the answer.
struct Taken<'a> {
    filter: &'a ExtAuth,
    /// And the lines about its body.
    refusal: Option<(Refusal, Bytes)>,
}

impl Taker for Taken<'_> {
    type Fault = Kind;
    const DROPS_BODY: bool = false;

    fn head(&mut self, head: &ResponseHead, bytes: &[u8], framing: Framing) -> Result<(), Kind> {
        if is_refusal(head.status) {
            self.refusal = Some(self.filter.read_refusal(head, bytes));
        } else if !matches!(head.status, 200..=299) {
            return Err(Kind::BadResponse("a status that says nothing about the request"));
        }
        match framing {
            Framing::Length(n) if usize::try_from(n).is_ok_and(|n| n <= self.filter.body_bytes_max) => Ok(()),
            Framing::Length(_) => Err(TOO_LARGE),
            _ => Ok(()),
        }
    }

    fn piece(&mut self, _piece: &[u8], len: usize) -> Result<(), Kind> {
        if len > self.filter.body_bytes_max { Err(TOO_LARGE) } else { Ok(()) }
    }

    fn end(&mut self, _len: usize) -> Result<(), Kind> {
        Ok(())
    }
}

const TOO_LARGE: Kind = Kind::BadResponse("a body larger than max_body");
