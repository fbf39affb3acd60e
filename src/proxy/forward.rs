//! Forwarding: choose an endpoint, check out a connection, send the request, wait for the head of its answer.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::context::Context;
use crate::core::{Core, CoreEndpoint, UpstreamStream, ms};
use crate::end::Failure;
use crate::error::{Error, Kind, Side};
use crate::http::encode::copy_fields;
use crate::http::framing;
use crate::http::head::{Bounds, HeadError, Scan, Version};
use crate::http::known::Known;
use crate::io::buffers::ANSWER_BYTES;
use crate::io::dial::DialError;
use crate::io::tls::HandshakeError;
use crate::io::{Buf, Fired, Stream, dial, guard};
use crate::request::Request;
use crate::snapshot::{Forward, Route, UpstreamSpec};
use crate::upstream::endpoint::InFlight;
use crate::upstream::pool::Pooled;

use super::answer::Answer;
use super::connection::write_downstream;
use super::finish::kind_of;
use super::plane::{Downstream, Live, Plane};
use super::retry::{Try, may_retry};
use super::upload::{self, OnSent, Upload, alongside, write_upstream};
use super::upstream_head;

/// A forwarded head and a small body leave in one write of at most about this size.
pub const OUT_BYTES: usize = 16 * 1024;
/// Bounds of an answer's head: beyond them it is a bad response.
const ANSWER_BOUNDS: Bounds = Bounds { head: 32 * 1024, fields: 256, target: 0 };
/// Interim answers (1xx) passed on before the final one; more is an upstream gone wild.
const INTERIM_MAX: usize = 16;

/// A connection of one endpoint, out of its pool for one request.
pub struct Lease {
    /// The connection.
    pub stream: UpstreamStream,
    in_flight: InFlight<UpstreamStream>,
    opened_ms: u64,
    requests: u32,
}

impl Lease {
    fn is_reused(&self) -> bool {
        self.requests > 0
    }

    /// Gives the connection back for the next request.
    pub fn give_back(self, spec: &UpstreamSpec, now_ms: u64) {
        let Self { stream, in_flight, opened_ms, requests } = self;
        let pooled = Pooled { conn: stream, opened_ms, requests: requests.saturating_add(1) };
        in_flight.endpoint().pool.borrow_mut().put(pooled, now_ms, &spec.pool);
    }
}

/// Where a forwarded request stands.
struct Call<'a> {
    spec: &'a UpstreamSpec,
    endpoints: &'a [Rc<CoreEndpoint>],
    core: &'a Rc<Core>,
    down: &'a Rc<Downstream>,
    /// Longest stall of the client, in ms.
    write_ms: u32,
    /// When the route's time is over.
    route_due_ms: u64,
}

/// Sends `req` to the route's upstream. The answer's head has come when this returns, its body is yet to be pulled.
pub async fn forward(
    req: &mut Request,
    route: &Route,
    action: &Forward,
    live: &Live,
    plane: &Plane,
    down: &Rc<Downstream>,
    cx: &mut Context,
) -> Result<Answer, Error> {
    let (Some(spec), Some(rules)) =
        (live.snapshot.upstreams.get(action.upstream), live.snapshot.listeners.get(down.listener))
    else {
        return Err(Kind::Internal.never());
    };
    cx.upstream = Some(action.upstream);
    let core = &plane.core;
    if matches!((req.framing, route.body_limit), (framing::Framing::Length(n), Some(limit)) if n > limit) {
        return Err(Kind::BodyTooLarge.never());
    }
    if !action.request_headers.is_empty() {
        let mut edits = std::mem::take(&mut req.edits);
        action.request_headers.apply(req, &mut edits);
        req.edits = edits;
    }
    if !action.response_headers.is_empty() {
        let mut edits = std::mem::take(&mut req.answer_edits);
        action.response_headers.apply(req, &mut edits);
        req.answer_edits = edits;
    }
    let with_head = upload::with_head(req);
    if with_head.is_none() && req.behind_head().is_empty() && expects_continue(req) {
        send_continue(down, rules.write_ms, cx).await?;
    }
    let bounds = upload::Bounds {
        limit: route.body_limit,
        read_ms: rules.request_body_ms,
        write_ms: spec.body_ms,
        trailers_pass: req.edits.is_empty() && req.head.fields.listed.is_empty(),
    };
    let call = Call {
        spec,
        endpoints: live.endpoints(action.upstream),
        core,
        down,
        write_ms: rules.write_ms,
        route_due_ms: ms(cx.started_us).saturating_add(route.timeout_ms.into()),
    };
    down.slot.watch(down.stream.watch_fd(), rules.half_close_is_gone);
    cx.upstream_from_us = Some(core.clock.now_us());
    let mut again = false;
    loop {
        let result = attempt(req, action, &call, with_head, bounds, again, cx).await;
        cx.upstream_until_us = core.clock.now_us();
        let (error, reused) = match result {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        count_failure(spec, error);
        let tried = Try { reused, again, idempotent: req.is_idempotent(), replayable: with_head.is_some() };
        if !may_retry(&error, tried) {
            return Err(error);
        }
        core.metrics.retries.add(1);
        again = true;
    }
}

/// One try: its error comes with whether it was made on a reused connection.
async fn attempt(
    req: &mut Request,
    action: &Forward,
    call: &Call<'_>,
    with_head: Option<usize>,
    bounds: upload::Bounds,
    fresh_only: bool,
    cx: &mut Context,
) -> Result<Answer, (Error, bool)> {
    let (lease, index) = check_out(call, fresh_only, cx).await.map_err(|e| (e, false))?;
    let reused = lease.is_reused();
    let failed = |e: Error| (e, reused);
    call.spec.metrics.requests.add(1);
    let host = call.spec.endpoints.get(index).map(|endpoint| endpoint.host.as_str()).unwrap_or_default();
    let mut out = call.core.buffers.take(OUT_BYTES);
    upstream_head::write(req, action, host, call.down, out.vec());
    if let Some(n) = with_head {
        out.extend(req.behind_head().get(..n).unwrap_or_default());
    }
    let out = write_upstream(&lease.stream, &call.down.slot, call.spec.body_ms, out).await.map_err(failed)?;
    call.core.buffers.give(out);
    let upload = match with_head {
        Some(_) => None,
        None => Some(Upload::start(
            Rc::clone(call.down),
            Rc::clone(&lease.stream),
            Rc::clone(call.core),
            req.framing,
            req.behind_head(),
            bounds,
        )),
    };
    await_head(req, call, lease, upload, cx).await.map_err(failed)
}

/// An idle connection that is still quiet, or a new one.
async fn check_out(call: &Call<'_>, fresh_only: bool, cx: &mut Context) -> Result<(Lease, usize), Error> {
    let Call { spec, endpoints, core, down, .. } = call;
    let load = |i: usize| endpoints.get(i).map_or(u32::MAX, |endpoint| endpoint.in_flight());
    let index = spec.balance.borrow_mut().pick(load, |_| true);
    let (Some(index), Some(endpoint)) = (index, index.and_then(|i| endpoints.get(i))) else {
        return Err(Kind::NoEndpoint.never());
    };
    cx.endpoint = Some(endpoint.address);
    let in_flight = endpoint.enter();
    let now_ms = down.slot.now_ms();
    let idle = || if fresh_only { None } else { endpoint.pool.borrow_mut().take(now_ms, &spec.pool) };
    while let Some(Pooled { conn, opened_ms, requests }) = idle() {
        // Bytes that wait on an idle connection were asked for by nobody: it is poisoned.
        if conn.is_quiet() {
            core.metrics.pool_hits.add(1);
            return Ok((Lease { stream: conn, in_flight, opened_ms, requests }, index));
        }
        core.metrics.pool_discarded.add(1);
    }
    core.metrics.pool_misses.add(1);
    let due_ms = call.route_due_ms.min(now_ms.saturating_add(spec.connect_ms.into()));
    // Boxed: dialling is rare, and its state would be carried by every request.
    match guard(&down.slot, due_ms, Box::pin(connect(spec, index, endpoint.address, core))).await {
        Ok(Ok(stream)) => {
            core.metrics.connects.add(1);
            Ok((Lease { stream: Rc::new(stream), in_flight, opened_ms: now_ms, requests: 0 }, index))
        }
        Ok(Err(kind)) => {
            core.metrics.connect_failures.add(1);
            Err(kind.never())
        }
        Err(fired) => {
            core.metrics.connect_failures.add(1);
            Err(call.fired(fired, Kind::ConnectTimeout).never())
        }
    }
}

/// A new connection to endpoint number `index`, over TLS if the upstream speaks it.
async fn connect(spec: &UpstreamSpec, index: usize, address: SocketAddr, core: &Core) -> Result<Stream, Kind> {
    let Some(tls) = &spec.tls else { return dial::dial(address).await.map_err(|_| Kind::Connect) };
    let note = |why: &str| core.note(format!("upstream {}: {address}: no TLS: {why}", spec.name));
    let Some(name) = spec.endpoints.get(index).and_then(|endpoint| endpoint.server_name.as_ref()) else {
        note("its host is no name that a certificate can be for; set `tls.server_name`");
        return Err(Kind::UpstreamTls);
    };
    match dial::dial_tls(address, &tls.config, name, &core.buffers).await {
        Ok(stream) => {
            let resumed = stream.tls().is_some_and(|io| io.is_resumed());
            let counter = if resumed {
                &core.metrics.upstream_handshakes_resumed
            } else {
                &core.metrics.upstream_handshakes_full
            };
            counter.add(1);
            Ok(stream)
        }
        Err(DialError::Connect(_)) => Err(Kind::Connect),
        Err(DialError::Tls(HandshakeError::Tls(e))) => {
            note(&format!("{e}; see `tls.ca`, `tls.server_name` and `tls.client`"));
            Err(Kind::UpstreamTls)
        }
        Err(DialError::Tls(_)) => {
            note("it closed the connection within the handshake; does it speak TLS there?");
            Err(Kind::UpstreamTls)
        }
    }
}

impl Call<'_> {
    fn fired(&self, fired: Fired, phase: Kind) -> Kind {
        let is_over = self.down.slot.now_ms() >= self.route_due_ms;
        kind_of(fired, if is_over { Kind::RouteTimeout } else { phase })
    }
}

/// Reads up to the end of the final answer's head.
async fn await_head(
    req: &mut Request,
    call: &Call<'_>,
    lease: Lease,
    mut upload: Option<Upload>,
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
            Err(fired) => return Err(call.fired(fired, Kind::FirstByteTimeout).never()),
        };
        // As with request heads: parsed at once, and one that drips in when it has ended or doubled.
        while buf.len() >= parse_at || buf.len() >= ANSWER_BOUNDS.head || scan.has_end(buf.bytes()) {
            if !req.answer.parse(buf.bytes(), &ANSWER_BOUNDS).map_err(bad_head)? {
                parse_at = (buf.len() * 2).max(1);
                break;
            }
            if req.answer.status == 101 {
                return Err(Kind::BadResponse("101 without an upgrade").never());
            }
            if req.answer.status >= 200 {
                let framing = framing::of_response(&req.head.method, &req.answer, buf.bytes());
                let framing = framing.map_err(|_| Kind::BadResponse("no one can say where it ends").never())?;
                return Ok(Answer { lease, buf, framing, upload, body_ms: spec.body_ms });
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

fn bad_head(e: HeadError) -> Error {
    let what = match e {
        HeadError::Malformed(what) => what,
        HeadError::Version => "another version",
        _ => "its head is too large",
    };
    Kind::BadResponse(what).never()
}

/// RFC 9110 15.2: a proxy passes on interim answers, to clients that know them.
async fn pass_on_interim(req: &Request, buf: &Buf, call: &Call<'_>, cx: &mut Context) -> Result<(), Error> {
    if req.head.version == Version::H10 {
        return Ok(());
    }
    let (answer, bytes) = (&req.answer, buf.bytes());
    let mut out = call.core.buffers.take(OUT_BYTES);
    crate::http::reply::status_line(answer.status, out.vec());
    let is_hop =
        |known| matches!(known, Known::Connection | Known::HopByHop | Known::TransferEncoding | Known::ContentLength);
    copy_fields(&answer.fields, bytes, |f| is_hop(f.known) || answer.fields.is_listed(f, bytes), out.vec());
    out.extend(b"\r\n");
    let out = write_downstream(call.down, call.write_ms, out, cx).await?;
    call.core.buffers.give(out);
    Ok(())
}

/// RFC 9110 10.1.1, on HTTP/1.1 only.
fn expects_continue(req: &Request) -> bool {
    let is_continue = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    req.head.version == Version::H11 && req.head.fields.all(Known::Expect).any(|f| is_continue(f.value.of(req.bytes())))
}

#[cold]
async fn send_continue(down: &Rc<Downstream>, write_ms: u32, cx: &mut Context) -> Result<(), Error> {
    let mut out = Buf::with_capacity(32);
    out.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
    Box::pin(write_downstream(down, write_ms, out, cx)).await.map(drop)
}

/// Counts a call of an endpoint that failed, before its answer or within it.
#[cold]
pub fn count_failure(spec: &UpstreamSpec, error: Error) {
    let failure = match error.kind {
        Kind::Connect => Failure::Connect,
        Kind::UpstreamTls => Failure::Tls,
        Kind::ConnectTimeout | Kind::FirstByteTimeout | Kind::RouteTimeout | Kind::UpstreamBodyTimeout => {
            Failure::Timeout
        }
        Kind::BadResponse(_) => Failure::BadResponse,
        kind if kind.side() == Side::Upstream => Failure::Reset,
        _ => return, // the client's doing
    };
    spec.metrics.failures.add(failure.index(), 1);
}
