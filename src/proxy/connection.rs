//! One downstream connection: wait, serve a request, wait again. It alone writes the final answer.

use std::future::Future;
use std::rc::Rc;

use crate::context::Context;
use crate::core::ms;
use crate::end::Closed;
use crate::error::{Error, Kind};
use crate::filter;
use crate::http::reply::{self, Reply};
use crate::http::upgrade;
use crate::io::buffers::IDLE_BYTES;
use crate::io::recycle::Recycler;
use crate::io::{Buf, guard};
use crate::request::Request;
use crate::snapshot::{Action, ListenerSpec};

use super::accept::Counted;
use super::aggregate::{self, Merged};
use super::checkout::count_failure;
use super::exchange::{Response, exchange};
use super::finish::{closed_by, deadline_of, end_of, finish};
use super::forward::OUT_BYTES;
use super::idle::{await_request, is_before_request};
use super::plane::{Downstream, Live, Plane};
use super::to_client::{begin_answer, is_bodiless, write_downstream, write_reply_head};
use super::tunnel::{Switched, Tunnel};
use super::{answer, compress, connect, greet, plugins, receive, tunnel, upload};

/// A client that is cut off while it still sends is read for this long, in ms, so that it sees the answer and not a
/// reset (RFC 9112 9.6).
const LINGER_MS: u64 = 2_000;

/// What becomes of a connection after a request.
pub enum Next {
    /// Wait for the next one; bytes of it may be there.
    Keep(Buf),
    /// Close it.
    Close(Closed),
    /// It carries no requests any more.
    Tunnel(Box<Tunnel>),
}

/// The keep-alive loop. `requests` and `make` give each request a recycled box, so that a waiting connection holds
/// nothing but this small future and a 1 KiB buffer.
pub async fn serve<F, M>(down: Rc<Downstream>, plane: Rc<Plane>, requests: Rc<Recycler<F>>, make: M, counted: Counted)
where
    F: Future<Output = Next>,
    M: Fn(Rc<Downstream>, Rc<Plane>, Buf) -> F,
{
    let metrics = Rc::clone(&plane.core);
    let registered = plane.register(&down);
    metrics.metrics.connections_accepted.add(1);
    metrics.metrics.connections_active.add(1);
    let closing = Closing { core: metrics, reason: Closed::Panic };
    let is_greeted = greet::is_wanted(&down, plane.live().snapshot.listeners.get(down.listener));
    // Boxed, and over before the first request.
    let greeted = if is_greeted { Box::pin(greet::greet(&down, &plane)).await } else { Ok(Buf::default()) };
    let is_there = greeted.is_ok();
    let reason = match greeted {
        Ok(first) => keep_alive(&down, &plane, &requests, &make, first).await,
        Err(reason) => reason,
    };
    if is_there && !down.half_answered.get() {
        down.stream.say_end();
    }
    closing.with(reason);
    drop((registered, counted));
}

/// Counts the close of a connection even if its task panics.
struct Closing {
    core: Rc<crate::core::Core>,
    reason: Closed,
}

impl Closing {
    fn with(mut self, reason: Closed) {
        self.reason = reason;
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.core.metrics.connections_active.add(-1);
        self.core.metrics.connections_closed.add(self.reason.index(), 1);
    }
}

async fn keep_alive<F, M>(
    down: &Rc<Downstream>,
    plane: &Rc<Plane>,
    requests: &Recycler<F>,
    make: &M,
    first: Buf,
) -> Closed
where
    F: Future<Output = Next>,
    M: Fn(Rc<Downstream>, Rc<Plane>, Buf) -> F,
{
    let mut class = IDLE_BYTES;
    let mut buf = first;
    let tunnel = loop {
        if is_before_request(buf.bytes()) {
            match await_request(down, plane, class, buf).await {
                Ok(filled) => buf = filled,
                Err(reason) => return reason,
            }
        }
        down.served.set(down.served.get().saturating_add(1));
        match requests.run(|| make(Rc::clone(down), Rc::clone(plane), buf)).await {
            Next::Keep(rest) => buf = rest,
            Next::Close(reason) => return reason,
            Next::Tunnel(tunnel) => break tunnel,
        }
        // The buffer that holds the next head in one read; a larger one goes back while nothing comes.
        if buf.is_empty() {
            class = buf.capacity().clamp(IDLE_BYTES, IDLE_CLASS_MAX);
        }
    };
    // Awaited here, where nothing of the loop is held any more.
    Box::pin(tunnel.run(down, plane)).await
}

/// Largest buffer that a connection waits with; heads beyond it are rare and pay for a second read.
const IDLE_CLASS_MAX: usize = 8 * 1024;

/// One request from its first bytes to its log line.
pub async fn request(down: Rc<Downstream>, plane: Rc<Plane>, buf: Buf) -> Next {
    let live = plane.live();
    let Some(rules) = live.snapshot.listeners.get(down.listener) else { return Next::Close(Closed::Requested) };
    let core = &plane.core;
    core.metrics.requests_active.add(1);
    let active = Active { plane: &plane };
    let mut req = plane.take_request();
    req.buf = buf;
    req.session = down.session.get().map(Rc::clone);
    req.received = req.buf.len() as u64;
    let mut cx = Context::new(core.clock.now_us());
    core.deadlines.set_now(ms(cx.started_us));
    let came_with = req.received;
    let received = receive::head(&down, rules, core, &mut req).await;
    // Read again only where the head came in more than one piece, or not at all.
    let at_once = received.is_ok() && req.received == came_with;
    req.received_us = if at_once { cx.started_us } else { core.clock.now_us() };
    cx.client_us = req.received_us.saturating_sub(cx.started_us);
    let received = received.and_then(|()| receive::decide(down.peer().ip(), rules, &live.snapshot, &mut req));
    down.client.set(req.client);
    receive::name(core, &mut req);
    cx.bytes_in = match received {
        Ok(()) => req.head.fields.len as u64,
        Err(_) => req.received,
    };
    let next = match received {
        Ok(()) => answer_request(&mut req, &live, &plane, &down, rules, &mut cx).await,
        Err(kind) => Box::pin(refuse(kind, &mut req, &live, &plane, &down, rules, &mut cx)).await,
    };
    down.slot.unwatch();
    let next = match next {
        Ok(Consumed::Tunnel(switched)) => return Next::Tunnel(Tunnel::new(switched, req, cx)),
        next => next,
    };
    if cx.status != 0 || cx.bytes_in > 0 {
        finish(&mut req, &down, &live, core, &cx);
    }
    let next = match next {
        Ok(consumed) => Next::Keep(take_rest(&mut req, consumed)),
        Err(ended) => {
            core.buffers.give(std::mem::take(&mut req.buf));
            if ended.unread {
                Box::pin(linger(&down, &plane)).await;
            }
            Next::Close(ended.reason)
        }
    };
    plane.give_request(req);
    drop(active);
    next
}

struct Active<'a> {
    plane: &'a Plane,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.plane.core.metrics.requests_active.add(-1);
    }
}

/// Why the connection is closed behind a request.
struct Ended {
    reason: Closed,
    /// The client may still be sending: it is read for a while, so that it sees the answer.
    unread: bool,
}

impl Ended {
    fn at_once(reason: Closed) -> Self {
        Self { reason, unread: false }
    }
}

/// How much of the buffer the request took, when the connection stays open.
enum Consumed {
    /// So many bytes, head included.
    Bytes(usize),
    /// All of it, and this came behind the body.
    All(Buf),
    /// No request follows: from now on both sides speak another protocol.
    Tunnel(Box<Switched>),
}

fn take_rest(req: &mut Request, consumed: Consumed) -> Buf {
    let mut buf = std::mem::take(&mut req.buf);
    match consumed {
        Consumed::Bytes(n) => buf.consume(n),
        Consumed::All(rest) => {
            buf.clear();
            buf.extend(rest.bytes());
        }
        Consumed::Tunnel(_) => buf.clear(),
    }
    buf
}

async fn answer_request(
    req: &mut Request,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    cx: &mut Context,
) -> Result<Consumed, Ended> {
    let core = &plane.core;
    let mut response = exchange(req, live, plane, down, cx).await;
    if let Response::Reply(reply) = &mut response {
        live.snapshot.shape(reply, cx.route, &req.request_id);
    }
    if req.plugins.seen > 0 {
        plugins::on_response(&mut response, req, live, plane, down, cx);
    }
    // Decided now: a drain may have begun while the upstream was asked.
    let limit = closes_after(req, down, rules, plane);
    let answer = match response {
        Response::Reply(reply) => {
            req.own.is_not_upstreams();
            cx.bytes_in += upload::with_head(req).unwrap_or(0) as u64;
            return send_reply(reply, req, plane, down, rules, limit, cx).await;
        }
        Response::Merged(merged) => {
            return Box::pin(send_merged(*merged, req, live, plane, down, rules, limit, cx)).await;
        }
        Response::Connected(connected) => {
            return match Box::pin(connect::confirm(*connected, req, live, down, rules, core, cx)).await {
                Ok(switched) => Ok(Consumed::Tunnel(switched)),
                Err(e) => Err(cut_off(e, plane, down, cx)),
            };
        }
        Response::Answer(answer) => answer,
    };
    let Some(spec) = cx.upstream.and_then(|index| live.snapshot.upstreams.get(index)) else {
        return Err(Ended::at_once(Closed::Requested));
    };
    let with_head = upload::with_head(req);
    let mut leftover = None;
    let sent = if req.answer.status == 101 {
        match Box::pin(tunnel::switch(answer, req, live, down, rules, spec, core, cx)).await {
            Ok(switched) => return Ok(Consumed::Tunnel(switched)),
            Err(e) => Err(e),
        }
    } else {
        answer::send(answer, req, down, rules, spec, core, limit.is_none(), &mut leftover, cx).await
    };
    if let Some(n) = with_head {
        cx.bytes_in += n as u64;
    }
    match sent {
        Ok(true) => Ok(match (with_head, leftover) {
            (Some(n), _) => Consumed::Bytes(req.head.fields.len + n),
            (None, rest) => Consumed::All(rest.unwrap_or_default()),
        }),
        Ok(false) => Err(Ended { reason: limit.unwrap_or(Closed::Requested), unread: sends_on(req, down, with_head) }),
        Err(e) => {
            note(e, plane, cx);
            count_failure(spec, e);
            if cx.status == 0 {
                // Nothing was sent yet: the client can still be told.
                req.own.is_not_upstreams();
                let mut reply = Reply::from_error(e.kind, &req.request_id, b"");
                live.snapshot.shape(&mut reply, cx.route, &req.request_id);
                if req.plugins.seen > 0 {
                    plugins::on_reply(&mut reply, req, live, plane, down, cx);
                }
                return send_reply(reply, req, plane, down, rules, Some(closed_by(e.kind)), cx).await;
            }
            down.half_answered.set(true);
            Err(Ended::at_once(closed_by(e.kind)))
        }
    }
}

/// What is left when a client got half an answer.
fn cut_off(e: Error, plane: &Plane, down: &Downstream, cx: &mut Context) -> Ended {
    note(e, plane, cx);
    down.half_answered.set(true);
    Ended::at_once(closed_by(e.kind))
}

/// Why the connection is not kept after this request, whatever comes of it.
fn closes_after(req: &Request, down: &Downstream, rules: &ListenerSpec, plane: &Plane) -> Option<Closed> {
    let age_ms = || plane.core.deadlines.now_ms().saturating_sub(down.opened_ms);
    if !req.head.wants_keep_alive() || may_be_no_request(req, down) {
        Some(Closed::Requested)
    } else if plane.core.draining.get() {
        Some(Closed::Drain)
    } else if down.served.get() >= rules.max_requests {
        Some(Closed::MaxRequests)
    } else if rules.max_age_ms != u32::MAX && age_ms() >= u64::from(rules.max_age_ms) {
        Some(Closed::MaxAge)
    } else {
        None
    }
}

/// Whether what the client sends behind this request may be meant for the protocol that it asked for, and is no request:
/// always where it asked for a tunnel or for what is no HTTP, also if that was not passed on, else if anything has come.
fn may_be_no_request(req: &Request, down: &Downstream) -> bool {
    let has_more = || sends_on(req, down, upload::with_head(req));
    let is_doubtful = || upgrade::leaves_http(&req.head, req.bytes()) || has_more();
    req.head.method == http::Method::CONNECT || (req.head.fields.upgrade && is_doubtful())
}

#[cold]
fn note(e: Error, plane: &Plane, cx: &mut Context) {
    cx.end = end_of(e.kind);
    if let Some(deadline) = deadline_of(e.kind) {
        plane.core.metrics.deadlines.add(deadline.index(), 1);
    }
}

/// Answers a request whose head is refused, and closes.
#[cold]
async fn refuse(
    kind: Kind,
    req: &mut Request,
    live: &Live,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    cx: &mut Context,
) -> Result<Consumed, Ended> {
    if kind != Kind::ClientGone {
        plane.core.metrics.parse_error(reply::row(kind).status);
    }
    let mut reply = Reply::from_error(kind, &req.request_id, b"");
    live.snapshot.shape(&mut reply, None, &req.request_id);
    filter::on_unread(&rules.filters, req, &plane.core);
    send_reply(reply, req, plane, down, rules, Some(closed_by(kind)), cx).await
}

/// Whether the client has sent more than the request, or may: closing then would reset the answer away. `body` are the
/// bytes of a body that came whole.
fn sends_on(req: &Request, down: &Downstream, body: Option<usize>) -> bool {
    body.is_none_or(|n| req.behind_head().len() > n) || !down.stream.is_quiet()
}

/// Sends an answer made by the gateway.
async fn send_reply(
    reply: Reply,
    req: &Request,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    limit: Option<Closed>,
    cx: &mut Context,
) -> Result<Consumed, Ended> {
    let core = &plane.core;
    if let Some(kind) = reply.kind {
        note(kind.never(), plane, cx);
        if kind == Kind::ClientGone {
            return Err(Ended::at_once(closed_by(kind)));
        }
    }
    down.slot.unwatch();
    // The next request begins behind this one's body: keep the connection only where that is known.
    let body = upload::with_head(req);
    let limit = limit.or(match reply.kind {
        Some(kind) if reply.close => Some(closed_by(kind)),
        _ if reply.close || body.is_none() => Some(Closed::Requested),
        _ => None,
    });
    let mut out = core.buffers.take(OUT_BYTES);
    write_reply_head(&reply, req, core, limit.is_none(), &rules.hsts, out.vec());
    cx.status = reply.status;
    let packed = match req.compression.policy() {
        None => None,
        Some(policy) => compress::begin(policy, req, reply.status, limit.is_none(), down, rules, core, &mut out),
    };
    let sent = match packed {
        None => {
            begin_answer(reply.status, out.bytes(), req, rules, cx);
            if req.head.method != http::Method::HEAD && !is_bodiless(&reply) {
                out.extend(&reply.body);
            }
            write_downstream(down, rules.write_ms, out, cx).await.map(|out| {
                core.buffers.give(out);
                true
            })
        }
        Some(packed) => Box::pin(packed.send(std::iter::once(&*reply.body), cx)).await,
    };
    let limit = limit_behind(sent, limit, plane, down, cx)?;
    match (limit, body) {
        (None, Some(n)) => Ok(Consumed::Bytes(req.head.fields.len + n)),
        (limit, _) => {
            Err(Ended { reason: limit.unwrap_or(Closed::Requested), unread: reply.close || sends_on(req, down, body) })
        }
    }
}

/// Sends an answer that was put together from several.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
async fn send_merged(
    mut merged: Merged,
    req: &Request,
    live: &Live,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    limit: Option<Closed>,
    cx: &mut Context,
) -> Result<Consumed, Ended> {
    let plan = match cx.route.and_then(|index| live.snapshot.routes.get(index)).map(|route| &route.action) {
        Some(Action::Aggregate(plan)) => plan,
        _ => return Err(Ended::at_once(Closed::Requested)),
    };
    down.slot.unwatch();
    let with_head = upload::with_head(req);
    let limit = limit.or((with_head.is_none() && merged.collected.is_none()).then_some(Closed::Requested));
    let sent = aggregate::send::send(&mut merged, plan, req, down, rules, &plane.core, limit.is_none(), cx).await;
    let Merged { memory, collected, .. } = merged;
    plane.give_fanout(memory);
    cx.bytes_in += with_head.unwrap_or(0) as u64;
    let limit = limit_behind(sent, limit, plane, down, cx)?;
    match (limit, with_head, collected) {
        (None, Some(n), _) => Ok(Consumed::Bytes(req.head.fields.len + n)),
        (None, None, Some(rest)) => Ok(Consumed::All(rest)),
        (limit, ..) => {
            Err(Ended { reason: limit.unwrap_or(Closed::Requested), unread: sends_on(req, down, with_head) })
        }
    }
}

/// Why the connection is not kept behind an answer: its sending says whether it may be, `limit` what was decided before.
fn limit_behind(
    sent: Result<bool, Error>,
    limit: Option<Closed>,
    plane: &Plane,
    down: &Downstream,
    cx: &mut Context,
) -> Result<Option<Closed>, Ended> {
    match sent {
        Ok(true) => Ok(limit),
        Ok(false) => Ok(limit.or(Some(Closed::Requested))),
        Err(e) => Err(cut_off(e, plane, down, cx)),
    }
}

/// Ends our side and reads what still comes, for a while: closing with unread bytes would reset the connection, and
/// the answer with it.
#[cold]
async fn linger(down: &Rc<Downstream>, plane: &Rc<Plane>) {
    down.stream.shutdown_write();
    let due_ms = down.slot.now_ms().saturating_add(LINGER_MS);
    let mut buf = plane.core.buffers.take(OUT_BYTES);
    loop {
        match guard(&down.slot, due_ms, down.stream.read_away(buf)).await {
            Ok((Ok(n), mut filled)) if n > 0 => {
                filled.clear();
                buf = filled;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a waiting connection costs beside its buffer: 10,000 of them are the rule, not the exception.
    const IDLE_FUTURE_BYTES_MAX: usize = 1024;

    #[test]
    fn an_idle_connection_holds_a_small_future() {
        fn of_output<A, B, C, D, E, T>(_: impl FnOnce(A, B, C, D, E) -> T) -> usize {
            size_of::<T>()
        }
        fn sizes<F: Future<Output = Next>, M: Fn(Rc<Downstream>, Rc<Plane>, Buf) -> F>(_: M) -> (usize, usize) {
            (of_output(serve::<F, M>), size_of::<F>())
        }
        let (waiting, serving) = sizes(request);
        assert!(waiting <= IDLE_FUTURE_BYTES_MAX, "{waiting} bytes; a request's future has {serving}");
    }
}
