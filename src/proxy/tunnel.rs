//! A tunnel (RFC 9110 7.8, 9.3.6): the upstream has answered 101, or a CONNECT was answered, and from then on bytes pass both ways as they come, until both
//! sides have ended theirs. Nothing of it is a message any more, so neither connection is ever used for a request again.
//!
//! It begins behind the upstream's 101, or the 200 that confirms a CONNECT, and never before: bytes that a client sends early wait in its head's buffer. A tunnel
//! may live for days, so it holds on to nothing of the request's snapshot.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use crate::context::Context;
use crate::core::{Core, UpstreamStream};
use crate::end::{Closed, End};
use crate::error::{Error, Kind};
use crate::http::framing::Framing;
use crate::http::upgrade;
use crate::io::buffers::{BODY_BYTES, IDLE_BYTES};
use crate::io::{Buf, Fired, Slot, Stream, guard};
use crate::request::Request;
use crate::shared::RouteMetrics;
use crate::snapshot::{Action, ListenerSpec, Route, UpstreamSpec};
use crate::socket::SocketName;

use super::answer::{After, Answer, Coding, write_head};
use super::checkout::Lease;
use super::finish::{self, closed_by, deadline_of, end_of, kind_of};
use super::forward::OUT_BYTES;
use super::log::{self, Names};
use super::plane::{Downstream, Live, Plane};
use super::to_client::{begin_answer, write_downstream};
use super::upload::write_upstream;

/// Once one side has ended, the other may be silent for no longer than this, in ms: TCP does not tell a side that is done
/// sending from one that is gone.
const HALF_IDLE_MS: u32 = 60_000;
/// A read that fills less than this part of its buffer is followed by one with a buffer of its own size: a tunnel mostly
/// waits, and what waits should be small.
const FILLED_PART: usize = 4;

/// What a request leaves to the tunnel that it becomes.
pub struct Switched {
    lease: Lease,
    /// What the client has sent behind its head.
    early: Buf,
    idle_ms: u32,
    /// Longest stall of the client, in ms.
    write_ms: u32,
    /// Longest stall of the upstream, in ms.
    stall_ms: u32,
    route: String,
    upstream: String,
    endpoint: Option<SocketName>,
    metrics: RouteMetrics,
}

/// A tunnel, with the request whose log line is written at its end. Limits that count the request count it until then.
pub struct Tunnel {
    switched: Box<Switched>,
    req: Box<Request>,
    cx: Context,
}

/// Passes the upstream's 101 on to the client, with what has come behind it. An error before the first byte was sent leaves
/// [`Context::status`] at 0: the client can still be told.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub async fn switch(
    answer: Answer,
    req: &Request,
    live: &Live,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    spec: &UpstreamSpec,
    core: &Core,
    cx: &mut Context,
) -> Result<Box<Switched>, Error> {
    let Answer { lease, mut buf, .. } = answer;
    let Some(route) = cx.route.and_then(|index| live.snapshot.routes.get(index)) else {
        return Err(Kind::Internal.never());
    };
    let Action::Forward(action) = &route.action else { return Err(Kind::Internal.never()) };
    let asked = upgrade::asked(&req.head, req.bytes(), &action.upgrade);
    let protocol =
        upgrade::switched_to(&req.answer, buf.bytes(), asked).map_err(|what| Kind::BadResponse(what).never())?;
    let mut out = core.buffers.take(OUT_BYTES);
    let after = After::Switch(protocol);
    write_head(req, buf.bytes(), Framing::None, Coding::Plain, after, &rules.hsts, core, out.vec());
    let head_bytes = out.len();
    buf.consume(req.answer.fields.len);
    out.extend(buf.bytes());
    core.buffers.give(buf);
    let early = early(req, core);
    begin_answer(req.answer.status, out.bytes().get(..head_bytes).unwrap_or_default(), req, rules, cx);
    // From now on a client that ends its side has not left: that is passed on.
    down.slot.unwatch();
    core.buffers.give(write_downstream(down, rules.write_ms, out, cx).await?);
    Ok(Switched::new(lease, early, route, spec, rules, cx))
}

/// What the client has sent behind its head.
pub(super) fn early(req: &Request, core: &Core) -> Buf {
    let mut early = core.buffers.take(req.behind_head().len());
    early.extend(req.behind_head());
    early
}

impl Switched {
    /// What a request on this route leaves.
    pub(super) fn new(
        lease: Lease,
        early: Buf,
        route: &Route,
        spec: &UpstreamSpec,
        rules: &ListenerSpec,
        cx: &Context,
    ) -> Box<Self> {
        Box::new(Self {
            lease,
            early,
            idle_ms: spec.tunnel_idle_ms,
            write_ms: rules.write_ms,
            stall_ms: spec.body_ms,
            route: route.name.clone(),
            upstream: spec.name.clone(),
            endpoint: cx.endpoint.and_then(|index| Some(spec.endpoints.get(index)?.address.clone())),
            metrics: RouteMetrics::clone(&route.metrics),
        })
    }
}

impl Tunnel {
    /// The tunnel of this request.
    pub fn new(switched: Box<Switched>, req: Box<Request>, cx: Context) -> Box<Self> {
        Box::new(Self { switched, req, cx })
    }

    /// Runs until it ends. Why the client's connection is closed then.
    pub async fn run(self: Box<Self>, down: &Rc<Downstream>, plane: &Plane) -> Closed {
        let core = &plane.core;
        let Self { switched, req, mut cx } = *self;
        let Switched { lease, early, idle_ms, write_ms, stall_ms, route, upstream, endpoint, metrics } = *switched;
        let open = Open::new(core);
        let switched_cx = cx;
        let up_slot = core.deadlines.slot();
        let (shared, bytes) = (Shared::new(core, idle_ms, down.slot.now_ms()), [Cell::new(0), Cell::new(0)]);
        let [bytes_in, bytes_out] = &bytes;
        let came_in = |n| {
            bytes_in.set(bytes_in.get() + n);
            metrics.bytes_in.add(n);
        };
        let went_out = |n| {
            bytes_out.set(bytes_out.get() + n);
            metrics.bytes_out.add(n);
        };
        let from_client = pass(
            Way {
                shared: &shared,
                side: Side::Client,
                from: &down.stream,
                slot: &up_slot,
                to: To::Upstream { stream: &lease.stream, stall_ms },
                passed: &came_in,
            },
            early,
        );
        let from_upstream = pass(
            Way {
                shared: &shared,
                side: Side::Upstream,
                from: &lease.stream,
                slot: &down.slot,
                to: To::Client { down, write_ms },
                passed: &went_out,
            },
            Buf::default(),
        );
        // Once a side has ended, a reset of it is seen by the other direction alone.
        let client_ended = || down.slot.watch(down.stream.watch_fd(), false);
        let upstream_ended = || up_slot.watch(lease.stream.watch_fd(), false);
        let slots = (&down.slot, &up_slot);
        let ended = both(&shared, slots, pin!(from_client), client_ended, pin!(from_upstream), upstream_ended).await;
        down.slot.unwatch();
        up_slot.unwatch();
        let closed = match ended {
            Ok(side) => {
                cx.end = side.ended();
                Closed::Tunnel
            }
            Err(kind) => {
                cx.end = end_of(kind);
                if let Some(deadline) = deadline_of(kind) {
                    core.metrics.deadlines.add(deadline.index(), 1);
                }
                // An end that was not meant must not look like one, neither to TLS nor to TCP.
                down.half_answered.set(true);
                down.stream.cut();
                lease.stream.cut();
                closed_by(kind)
            }
        };
        drop(lease);
        let [bytes_in, bytes_out] = bytes.map(Cell::into_inner);
        let now_us = core.clock.now_us();
        // Its bytes were counted as they passed, and its time is no time that anybody waited for an answer.
        finish::count(&metrics, &Context { end: cx.end, ..switched_cx }, switched_cx.upstream_until_us);
        cx.bytes_in += bytes_in;
        cx.bytes_out += bytes_out;
        cx.hear_upstream(now_us);
        let names = Names { route: &route, upstream: &upstream, endpoint: endpoint.as_ref() };
        log::write(&req, down, &plane.live().snapshot.access_log, core, &cx, names, now_us);
        let mut req = req;
        core.buffers.give(std::mem::take(&mut req.buf));
        plane.give_request(req);
        drop(open);
        closed
    }
}

/// Counts a tunnel while it is open, even if its task panics.
struct Open<'c>(&'c Core);

impl<'c> Open<'c> {
    fn new(core: &'c Core) -> Self {
        core.metrics.tunnels_opened.add(1);
        core.metrics.tunnels_active.add(1);
        core.metrics.requests_active.add(1);
        Self(core)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.tunnels_active.add(-1);
        self.0.metrics.requests_active.add(-1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Upstream,
}

impl Side {
    /// The tunnel ended since this side ended it first.
    fn ended(self) -> End {
        match self {
            Self::Client => End::TunnelClient,
            Self::Upstream => End::TunnelUpstream,
        }
    }

    /// This side has broken off.
    fn broken(self) -> Kind {
        match self {
            Self::Client => Kind::ClientGone,
            Self::Upstream => Kind::Truncated,
        }
    }
}

/// What both directions know.
struct Shared<'c> {
    core: &'c Core,
    idle_ms: u32,
    /// When a byte has passed last, in either direction.
    moved_ms: Cell<u64>,
    /// Who has ended its side first.
    first: Cell<Option<Side>>,
    /// Directions that wait for their side to take what has come.
    writing: Cell<u32>,
    /// Bytes that the kernel has and neither side has taken, when they were looked at last since a byte has passed.
    untaken: Cell<usize>,
}

impl<'c> Shared<'c> {
    fn new(core: &'c Core, idle_ms: u32, now_ms: u64) -> Self {
        Self {
            core,
            idle_ms,
            moved_ms: Cell::new(now_ms),
            first: Cell::new(None),
            writing: Cell::new(0),
            untaken: Cell::new(usize::MAX),
        }
    }

    /// When it has been silent for too long.
    fn due_ms(&self) -> u64 {
        let idle_ms = if self.first.get().is_some() { self.idle_ms.min(HALF_IDLE_MS) } else { self.idle_ms };
        self.moved_ms.get().saturating_add(idle_ms.into())
    }

    /// A byte has passed.
    fn moved(&self, now_ms: u64) {
        self.moved_ms.set(now_ms);
        self.untaken.set(usize::MAX);
    }

    /// Whether a side has taken of what the kernel has for it, which can be megabytes, since it was looked at last: it is slow
    /// then, and not silent.
    fn is_taken(&self, untaken: usize, now_ms: u64) -> bool {
        let taken = untaken > 0 && untaken < self.untaken.replace(untaken);
        if taken {
            self.moved_ms.set(now_ms);
        }
        taken
    }
}

enum To<'t> {
    Client { down: &'t Downstream, write_ms: u32 },
    Upstream { stream: &'t UpstreamStream, stall_ms: u32 },
}

impl To<'_> {
    fn side(&self) -> Side {
        match self {
            Self::Client { .. } => Side::Client,
            Self::Upstream { .. } => Side::Upstream,
        }
    }
}

/// One direction.
struct Way<'t> {
    shared: &'t Shared<'t>,
    /// Whose bytes these are.
    side: Side,
    from: &'t Stream,
    /// The deadline of what is waited for in this direction: one thing at a time.
    slot: &'t Slot,
    to: To<'t>,
    passed: &'t dyn Fn(u64),
}

impl Way<'_> {
    async fn read(&self, buf: Buf) -> Result<(usize, Buf), Kind> {
        // The same read goes on while only the other direction moves: dropped, it could lose bytes.
        let mut read = pin!(self.from.read(buf));
        loop {
            match guard(self.slot, self.shared.due_ms(), read.as_mut()).await {
                Ok((Ok(n), filled)) => return Ok((n, filled)),
                Ok((Err(_), _)) => return Err(self.side.broken()),
                // Who is slow to take is not silent: that is bounded by how long it may take nothing.
                Err(Fired::Deadline) if self.shared.writing.get() > 0 => self.shared.moved(self.slot.now_ms()),
                Err(Fired::Deadline) if self.slot.now_ms() < self.shared.due_ms() => {}
                Err(Fired::Deadline) if self.shared.is_taken(self.untaken(), self.slot.now_ms()) => {}
                // The other side, which has ended before, was reset.
                Err(Fired::Gone) => return Err(self.to.side().broken()),
                Err(fired) => return Err(kind_of(fired, Kind::TunnelIdle)),
            }
        }
    }

    fn untaken(&self) -> usize {
        let to = match &self.to {
            To::Client { down, .. } => down.stream.unacknowledged(),
            To::Upstream { stream, .. } => stream.unacknowledged(),
        };
        to + self.from.unacknowledged()
    }

    async fn write(&self, buf: Buf) -> Result<Buf, Kind> {
        self.shared.writing.set(self.shared.writing.get() + 1);
        let written = match &self.to {
            To::Upstream { stream, stall_ms } => {
                write_upstream(stream, self.slot, *stall_ms, u64::MAX, buf).await.map_err(|e| match e.kind {
                    Kind::Reset | Kind::ClientGone => Side::Upstream.broken(),
                    kind => kind,
                })
            }
            To::Client { down, write_ms } => {
                let mut uncounted = Context::new(0);
                write_downstream(down, *write_ms, buf, &mut uncounted).await.map_err(|e| e.kind)
            }
        };
        self.shared.writing.set(self.shared.writing.get() - 1);
        self.shared.moved(self.slot.now_ms());
        written
    }

    fn end(&self) {
        match &self.to {
            To::Upstream { stream, .. } => stream.shutdown_write(),
            To::Client { down, .. } => down.stream.shutdown_write(),
        }
        if self.shared.first.get().is_none() {
            self.shared.first.set(Some(self.side));
        }
    }
}

/// Passes what comes until the side it comes from has ended, and that too. One buffer at a time: who is slow to take slows
/// down who sends.
async fn pass(way: Way<'_>, early: Buf) -> Result<(), Kind> {
    let core = way.shared.core;
    let mut buf = early;
    let mut size = IDLE_BYTES;
    loop {
        // A deadline of the whole process fires once, and bytes that are there already win over it.
        if core.deadlines.is_over() {
            return Err(Kind::Drained);
        }
        if !buf.is_empty() {
            let n = buf.len() as u64;
            buf = way.write(buf).await?;
            (way.passed)(n);
        }
        if buf.capacity() != size {
            core.buffers.give(std::mem::replace(&mut buf, core.buffers.take(size)));
        }
        let (n, filled) = way.read(buf).await?;
        if n == 0 {
            core.buffers.give(filled);
            way.end();
            return Ok(());
        }
        way.shared.moved(way.slot.now_ms());
        size = next_size(size, n);
        buf = filled;
    }
}

/// The size of the next buffer behind a read of `n` bytes into one of `size`.
fn next_size(size: usize, n: usize) -> usize {
    if n >= size {
        (size * FILLED_PART).min(BODY_BYTES)
    } else if n < size / FILLED_PART {
        n.next_power_of_two().max(IDLE_BYTES)
    } else {
        size
    }
}

/// Both directions as one: until both have ended, or one is broken. Who ended first.
async fn both<A, B>(
    shared: &Shared<'_>,
    (down_slot, up_slot): (&Slot, &Slot),
    mut from_client: Pin<&mut A>,
    client_ended: impl Fn(),
    mut from_upstream: Pin<&mut B>,
    upstream_ended: impl Fn(),
) -> Result<Side, Kind>
where
    A: Future<Output = Result<(), Kind>>,
    B: Future<Output = Result<(), Kind>>,
{
    let (mut client_runs, mut upstream_runs) = (true, true);
    let result = poll_fn(|cx| {
        if client_runs && let Poll::Ready(ended) = from_client.as_mut().poll(cx) {
            client_runs = false;
            if ended.is_err() {
                return Poll::Ready(ended);
            }
            client_ended();
            down_slot.arm(shared.due_ms());
        }
        if upstream_runs && let Poll::Ready(ended) = from_upstream.as_mut().poll(cx) {
            upstream_runs = false;
            if ended.is_err() {
                return Poll::Ready(ended);
            }
            upstream_ended();
            up_slot.arm(shared.due_ms());
        }
        if client_runs || upstream_runs { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await;
    match (shared.first.get(), result) {
        // A side that has ended and takes nothing any more has ended altogether.
        (Some(side), Err(kind)) if kind == side.broken() => Ok(side),
        (_, Err(kind)) => Err(kind),
        (first, Ok(())) => Ok(first.unwrap_or(Side::Client)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::CoreMetrics;

    #[test]
    fn a_tunnel_of_which_half_is_left_may_not_be_silent_for_as_long() {
        let core = Core::new(0, CoreMetrics::default(), None);
        for (idle_ms, half_ms) in [(3_600_000, HALF_IDLE_MS), (1_000, 1_000)] {
            let shared = Shared::new(&core, idle_ms, 5);
            assert_eq!(shared.due_ms(), 5 + u64::from(idle_ms));
            shared.moved_ms.set(100);
            shared.first.set(Some(Side::Upstream));
            assert_eq!(shared.due_ms(), 100 + u64::from(half_ms));
        }
    }

    #[test]
    fn a_buffer_grows_with_what_comes_and_shrinks_with_it() {
        assert_eq!(next_size(1024, 1024), 4096);
        assert_eq!(next_size(64 * 1024, 64 * 1024), BODY_BYTES);
        assert_eq!(next_size(4096, 1024), 4096);
        assert_eq!(next_size(64 * 1024, 5000), 8192);
        assert_eq!(next_size(64 * 1024, 1), IDLE_BYTES);
    }
}
