//! Forwarding: choose an endpoint, check out a connection, send the request, wait for the head of its answer.

use std::rc::Rc;

use crate::context::Context;
use crate::core::{Core, CoreEndpoint, ms};
use crate::error::{Error, Kind};
use crate::filter::header_edits::Came;
use crate::http::encode::copy_fields;
use crate::http::framing;
use crate::http::head::{Bounds, Field, HeadError, Scan, Version};
use crate::http::known::{Known, is_same_name};
use crate::http::upgrade;
use crate::io::buffers::ANSWER_BYTES;
use crate::io::{Buf, guard};
use crate::request::Request;
use crate::snapshot::{Forward, Route, UpstreamSpec};

use super::answer::{Answer, is_left_out};
use super::checkout::{Lease, Picked, Wanted, count_failure};
use super::mirror;
use super::plane::{Downstream, Live, Plane};
use super::retry::{Try, may_retry};
use super::split;
use super::to_client::write_downstream;
use super::upload::{self, OnSent, Upload, alongside, write_upstream};
use super::{upstream_head, way_back};

/// A forwarded head and a small body leave in one write of at most about this size.
pub const OUT_BYTES: usize = 16 * 1024;
/// Bounds of an answer's head: beyond them it is a bad response.
pub const ANSWER_BOUNDS: Bounds = Bounds { head: 32 * 1024, fields: 256, target: 0 };
/// Interim answers (1xx) passed on before the final one; more is an upstream gone wild.
pub const INTERIM_MAX: usize = 16;

/// Where a forwarded request stands.
struct Call<'a> {
    action: &'a Forward,
    spec: &'a UpstreamSpec,
    endpoints: &'a [Rc<CoreEndpoint>],
    core: &'a Rc<Core>,
    down: &'a Rc<Downstream>,
    /// Whether the listener says itself what HSTS is.
    has_hsts: bool,
    /// Longest stall of the client, in ms.
    write_ms: u32,
    /// When the route's time is over.
    route_due_ms: u64,
}

/// Sends `req` to the route's upstream, or to one of them. The answer's head has come when this returns, its body is yet to be pulled.
pub async fn forward(
    req: &mut Request,
    route: &Route,
    action: &Forward,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    cx: &mut Context,
) -> Result<Answer, Error> {
    // What sticks by a field sticks by what this writes.
    edit(req, action);
    let (upstream, new_cookie) = split::upstream(action, req, &plane.core);
    let (Some(spec), Some(rules)) = (live.snapshot.upstreams.get(upstream), live.snapshot.listeners.get(down.listener))
    else {
        return Err(Kind::Internal.never());
    };
    cx.upstream = Some(upstream);
    let core = &plane.core;
    if upload::announces_too_much(req) {
        return Err(Kind::BodyTooLarge.never());
    }
    // Before anything is asked of anybody, the client included; what is not rewritten fits.
    let mut line = Vec::new();
    if action.rewrites_target() && !upstream_head::write_line(req, action, &mut line) {
        return Err(Kind::TargetTooLong.never());
    }
    if !req.mirrors.is_empty() {
        req.tee = mirror::send(req, cx.route, Some(action), live, plane, down);
    }
    ask_upgrade(req, action);
    let with_head = upload::with_head(req);
    if with_head.is_none() && req.behind_head().is_empty() && expects_continue(req) {
        send_continue(down, rules.write_ms, cx).await?;
    }
    let bounds = upload::Bounds {
        limit: req.body_limit,
        read_ms: rules.request_body_ms,
        write_ms: spec.body_ms,
        trailers_pass: req.edits.is_empty() && action.timed.is_empty() && req.head.fields.listed.is_empty(),
    };
    let call = Call {
        action,
        spec,
        endpoints: live.endpoints(upstream),
        core,
        down,
        has_hsts: !rules.hsts.is_empty(),
        write_ms: rules.write_ms,
        route_due_ms: ms(cx.started_us).saturating_add(route.timeout_ms.into()),
    };
    down.slot.watch(down.stream.watch_fd(), rules.half_close_is_gone);
    let now_us = core.clock.now_us();
    cx.ask_upstream(now_us);
    let mut again = false;
    loop {
        let result = attempt(req, &call, &line, with_head, bounds, now_us, again, cx).await;
        let until_us = core.clock.now_us();
        if let Ok(Answer { upload: Some(upload), .. }) = &result {
            cx.client_us += upload.waited_us(until_us);
        }
        cx.hear_upstream(until_us);
        let (error, reused) = match result {
            Ok(answer) => {
                if action.way_back.is_some() || !action.response_headers.is_empty() {
                    way_back::edit(action, spec, req, answer.buf.bytes());
                }
                if let Some(cookie) = new_cookie {
                    cookie.give(action, req, answer.buf.bytes());
                }
                return Ok(answer);
            }
            Err(failed) => failed,
        };
        count_failure(spec, error);
        let tried = Try { reused, again, idempotent: req.head.method.is_idempotent(), replayable: with_head.is_some() };
        if !may_retry(&error, tried) {
            return Err(error);
        }
        core.metrics.retries.add(1);
        again = true;
    }
}

/// Applies the route's changes to the fields of the request.
pub(super) fn edit(req: &mut Request, action: &Forward) {
    if !action.request_headers.is_empty() {
        let mut edits = std::mem::take(&mut req.edits);
        action.request_headers.apply(req, Some(Came::with(req)), &mut edits);
        req.edits = edits;
    }
}

/// Decides whether the request is passed on as one that asks for another protocol.
pub(super) fn ask_upgrade(req: &mut Request, action: &Forward) {
    if req.head.fields.upgrade {
        req.asks_upgrade = upgrade::may_pass(&req.head, req.framing, req.bytes(), &action.upgrade);
    }
}

/// One try: its error comes with whether it was made on a reused connection. `line` is the first line of what is sent, where
/// that was made before.
#[allow(clippy::too_many_arguments)]
async fn attempt(
    req: &mut Request,
    call: &Call<'_>,
    line: &[u8],
    with_head: Option<usize>,
    bounds: upload::Bounds,
    now_us: u64,
    fresh_only: bool,
    cx: &mut Context,
) -> Result<Answer, (Error, bool)> {
    let wanted = call.wanted();
    let key = call.spec.key_of(req, cx.route, call.core);
    let index = if fresh_only { wanted.pick_again(key, cx.endpoint) } else { wanted.pick(key) };
    let index = index.map_err(|e| (e, false))?;
    let mut picked = Picked { index, key, fresh_only, again: fresh_only };
    let checked_out = wanted.check_out(&mut picked, now_us).await;
    let index = picked.index;
    cx.endpoint = Some(index);
    let lease = checked_out.map_err(|e| (e, false))?;
    let reused = lease.is_reused();
    let failed = |e: Error| (e, reused);
    call.spec.metrics.requests.add(1);
    let host = call.spec.host_of(index);
    let mut out = call.core.buffers.take(OUT_BYTES);
    out.extend(line);
    if line.is_empty() && !upstream_head::write_line(req, call.action, out.vec()) {
        lease.give_back(call.spec, call.down.slot.now_ms());
        return Err((Kind::TargetTooLong.never(), reused));
    }
    let left_ms = call.route_due_ms.saturating_sub(call.down.slot.now_ms());
    upstream_head::write_fields(req, call.action, host, call.down.peer().text(), left_ms, out.vec());
    if let Some(n) = with_head {
        out.extend(req.behind_head().get(..n).unwrap_or_default());
    }
    let out = write_upstream(&lease.stream, &call.down.slot, call.spec.body_ms, u64::MAX, out).await.map_err(failed)?;
    call.core.buffers.give(out);
    let mut upload = match with_head {
        Some(_) => None,
        None => {
            let tee = req.tee.take();
            Some(Upload::start(
                Rc::clone(call.down),
                Rc::clone(&lease.stream),
                Rc::clone(call.core),
                req.framing,
                req.behind_head(),
                bounds,
                tee,
            ))
        }
    };
    let answer = await_head(req, call, lease, &mut upload, cx).await;
    if let (Err(_), Some(upload)) = (&answer, &upload) {
        cx.bytes_in += upload.received();
        cx.client_us += upload.waited_us(call.core.clock.now_us());
    }
    answer.map_err(failed)
}

impl<'a> Call<'a> {
    fn wanted(&self) -> Wanted<'a> {
        let Self { spec, endpoints, core, down, route_due_ms, .. } = *self;
        Wanted { spec, endpoints, core, slot: &down.slot, client: Some(down), due_ms: route_due_ms }
    }
}

/// Reads up to the end of the final answer's head.
async fn await_head(
    req: &mut Request,
    call: &Call<'_>,
    lease: Lease,
    upload: &mut Option<Upload>,
    cx: &mut Context,
) -> Result<Answer, Error> {
    let Call { spec, core, down, .. } = call;
    let slot = &down.slot;
    let due_from_now_ms = || call.route_due_ms.min(slot.now_ms().saturating_add(spec.first_byte_ms.into()));
    let mut first_byte_due_ms = due_from_now_ms();
    let mut was_sending = upload.is_some();
    let mut buf = core.buffers.take(ANSWER_BYTES);
    let mut scan = Scan::default();
    let mut parse_at = 0;
    let mut interim = 0;
    loop {
        let sending = upload.as_ref().is_some_and(|upload| upload.outcome().is_none());
        // While the body is being sent, only the route's time runs; the answer's begins behind it.
        if std::mem::replace(&mut was_sending, sending) && !sending {
            first_byte_due_ms = due_from_now_ms();
        }
        let begun = interim > 0 || !buf.is_empty();
        let due_ms = if sending || begun { call.route_due_ms } else { first_byte_due_ms };
        let read = guard(slot, due_ms, lease.stream.read(buf));
        let on_sent = OnSent { slot, first_byte_ms: spec.first_byte_ms, route_due_ms: call.route_due_ms };
        let read = alongside(upload.as_mut(), Some(on_sent), read).await?;
        buf = match read {
            Ok((Ok(n), filled)) if n > 0 => filled,
            Ok((_, filled)) if filled.is_empty() && interim == 0 => return Err(Kind::Reset.safe()),
            Ok(_) => return Err(Kind::BadResponse("ended within its head").never()),
            Err(fired) => return Err(call.wanted().fired(fired, Kind::FirstByteTimeout).never()),
        };
        // As with request heads: parsed at once, and one that drips in when it has ended or doubled.
        while buf.len() >= parse_at || buf.len() >= ANSWER_BOUNDS.head || scan.has_end(buf.bytes()) {
            if !req.answer.parse(buf.bytes(), &ANSWER_BOUNDS).map_err(bad_head)? {
                parse_at = (buf.len() * 2).max(1);
                break;
            }
            if req.answer.status == 101 && !req.asks_upgrade {
                return Err(Kind::BadResponse("101 without an upgrade").never());
            }
            if req.answer.status >= 200 || req.answer.status == 101 {
                let framing = framing::of_response(&req.head.method, &req.answer, buf.bytes());
                let framing = framing.map_err(|_| Kind::BadResponse("no one can say where it ends").never())?;
                return Ok(Answer { lease, buf, framing, upload: upload.take(), body_ms: spec.body_ms });
            }
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(Kind::BadResponse("too many interim answers").never());
            }
            pass_on_interim(req, &buf, call, cx).await?;
            buf.consume(req.answer.fields.len);
            (scan, parse_at) = (Scan::default(), 0);
        }
        if buf.spare() == 0 {
            let larger = Buf::larger(&buf);
            buf.grow(larger, &core.buffers);
        }
    }
}

/// What it means that an answer's head can not be read.
pub fn bad_head(e: HeadError) -> Error {
    let what = match e {
        HeadError::Malformed(what) => what,
        HeadError::Version => "another version",
        _ => "its head is too large",
    };
    Kind::BadResponse(what).never()
}

/// RFC 9110 15.2: a proxy passes on interim answers, to clients that know them. What the final answer gets in another form, from
/// the route, a filter or the listener, is left out: nothing gets around those by coming early.
async fn pass_on_interim(req: &Request, buf: &Buf, call: &Call<'_>, cx: &mut Context) -> Result<(), Error> {
    if req.head.version == Version::H10 {
        return Ok(());
    }
    let (answer, bytes) = (&req.answer, buf.bytes());
    let mut out = call.core.buffers.take(OUT_BYTES);
    crate::http::reply::status_line(answer.status, out.vec());
    let drop = |field: &Field| {
        let name = field.name.of(bytes);
        let leads_back = || way_back::LED_BACK.iter().any(|led| is_same_name(led, name));
        match field.known {
            Known::Connection | Known::HopByHop | Known::TransferEncoding | Known::ContentLength => true,
            Known::StrictTransportSecurity if call.has_hsts => true,
            _ => {
                is_left_out(req, field, bytes)
                    || call.action.response_headers.edits(name)
                    || (call.action.way_back.is_some() && leads_back())
            }
        }
    };
    copy_fields(&answer.fields, bytes, drop, out.vec());
    out.extend(b"\r\n");
    let out = write_downstream(call.down, call.write_ms, out, cx).await?;
    call.core.buffers.give(out);
    Ok(())
}

/// RFC 9110 10.1.1, on HTTP/1.1 only.
pub fn expects_continue(req: &Request) -> bool {
    let is_continue = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    req.head.version == Version::H11 && req.head.fields.all(Known::Expect).any(|f| is_continue(f.value.of(req.bytes())))
}

/// Tells a client that waits for it to send its body.
#[cold]
pub async fn send_continue(down: &Rc<Downstream>, write_ms: u32, cx: &mut Context) -> Result<(), Error> {
    let mut out = Buf::with_capacity(32);
    out.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
    Box::pin(write_downstream(down, write_ms, out, cx)).await.map(drop)
}
