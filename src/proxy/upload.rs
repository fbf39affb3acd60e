//! A request body on its way to the upstream, in a fixed window: read, decode, encode, write, again. The client is read
//! only as fast as the upstream takes.
//!
//! It runs beside the wait for the answer, in the same task: an upstream may answer before it has the whole body.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::core::{Core, UpstreamStream};
use crate::error::{Error, Kind, Side};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::h1::chunked::{CRLF, LAST_CHUNK, prefix};
use crate::http::h1::payload::Payload;
use crate::io::buffers::BODY_BYTES;
use crate::io::{Buf, Slot, guard};
use crate::request::{Request, Tee};
use crate::snapshot::ListenerSpec;

use super::finish::kind_of;
use super::plane::Downstream;
use super::write::{Unwritten, write_all};

/// A body up to this size that has arrived with its head is sent with it, in one write.
pub const WITH_HEAD_MAX: usize = 8 * 1024;

/// Bytes of the body that have arrived whole and leave with the head; `None`: it must be streamed.
pub fn with_head(req: &Request) -> Option<usize> {
    match req.framing {
        Framing::None => Some(0),
        Framing::Length(n) => usize::try_from(n).ok().filter(|&n| n <= WITH_HEAD_MAX && n <= req.behind_head().len()),
        Framing::Chunked | Framing::Close => None,
    }
}

/// Whether a body says itself that it is longer than it may be.
pub fn announces_too_much(req: &Request) -> bool {
    matches!((req.framing, req.body_limit), (Framing::Length(n), Some(limit)) if n > limit)
}

/// More of a body, for who reads it for itself: how many bytes came, behind those of `buf`. The client's next piece may take
/// as long as the listener says, and all of it is there by `until_ms`.
///
/// # Errors
/// The client is gone or takes too long: `over` behind `until_ms`.
pub async fn more(
    buf: Buf,
    (until_ms, over): (u64, Kind),
    down: &Downstream,
    rules: &ListenerSpec,
    core: &Core,
    cx: &mut crate::context::Context,
) -> Result<(usize, Buf), Error> {
    let due_ms = until_ms.min(down.slot.now_ms().saturating_add(rules.request_body_ms.into()));
    let from_us = core.clock.now_us();
    let read = guard(&down.slot, due_ms, down.stream.read(buf)).await;
    cx.client_us += core.clock.now_us().saturating_sub(from_us);
    match read {
        Ok((Ok(n), filled)) if n > 0 => Ok((n, filled)),
        Ok(_) => Err(Kind::ClientGone.never()),
        Err(fired) => {
            let is_over = down.slot.now_ms() >= until_ms;
            Err(kind_of(fired, if is_over { over } else { Kind::BodyTimeout }).never())
        }
    }
}

/// How a streamed body is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most bytes, by the route.
    pub limit: Option<u64>,
    /// Longest pause of the client, in ms.
    pub read_ms: u32,
    /// Longest stall of the upstream, in ms.
    pub write_ms: u32,
    /// Whether trailer fields pass. They may be merged into the head by who receives them (RFC 9110 6.5.1): where fields
    /// are edited or listed by Connection, none do.
    pub trailers_pass: bool,
}

/// What became of a streamed body.
pub struct Uploaded {
    /// Whether all of it was sent.
    pub result: Result<(), Error>,
    /// What the client sent behind it: its next request.
    pub leftover: Buf,
}

/// A streamed body.
pub struct Upload {
    running: Option<Pin<Box<dyn Future<Output = Uploaded>>>>,
    done: Option<Uploaded>,
    seen: Rc<Seen>,
}

/// What can be told of an upload while it runs.
#[derive(Default)]
struct Seen {
    received: Cell<u64>,
    waited_us: Cell<u64>,
    waits_since_us: Cell<Option<u64>>,
}

impl Seen {
    fn waited_us(&self, now_us: u64) -> u64 {
        self.waited_us.get() + self.waits_since_us.get().map_or(0, |since_us| now_us.saturating_sub(since_us))
    }
}

impl Upload {
    /// Starts to send; `first` is what has arrived behind the head.
    pub fn start(
        down: Rc<Downstream>,
        stream: UpstreamStream,
        core: Rc<Core>,
        framing: Framing,
        first: &[u8],
        bounds: Bounds,
        tee: Option<Tee>,
    ) -> Self {
        let size = match framing {
            Framing::Length(n) => usize::try_from(n).unwrap_or(BODY_BYTES).min(BODY_BYTES),
            _ => BODY_BYTES,
        };
        // Within the largest class of the free lists; should `first` not fit, the buffer grows.
        let ends = crate::io::buffers::HEADROOM + crate::io::buffers::TAILROOM;
        let mut buf = core.buffers.take((size.max(first.len()) + ends).min(BODY_BYTES));
        buf.reserve_ends();
        buf.extend(first);
        let seen = Rc::new(Seen::default());
        let body = Body { payload: Payload::of(framing), length: 0, seen: Rc::clone(&seen), bounds, tee };
        let running = run(down, stream, core, body, buf);
        Self { running: Some(Box::pin(running)), done: None, seen }
    }

    /// Bytes of the body received so far, as on the wire: with the lines around its chunks.
    pub fn received(&self) -> u64 {
        self.seen.received.get()
    }

    /// How long the client was waited for up to `now_us`, in µs.
    pub fn waited_us(&self, now_us: u64) -> u64 {
        self.seen.waited_us(now_us)
    }

    /// What became of it, if it has ended.
    pub fn outcome(&self) -> Option<&Uploaded> {
        self.done.as_ref()
    }

    /// What became of it, if it has ended, to keep.
    pub fn into_outcome(self) -> Option<Uploaded> {
        self.done
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&Uploaded> {
        if let Some(running) = self.running.as_mut() {
            let Poll::Ready(uploaded) = running.as_mut().poll(cx) else { return Poll::Pending };
            self.running = None;
            self.done = Some(uploaded);
        }
        match self.done.as_ref() {
            Some(done) => Poll::Ready(done),
            None => Poll::Pending,
        }
    }
}

struct Body {
    payload: Payload,
    /// How long it is so far.
    length: u64,
    seen: Rc<Seen>,
    bounds: Bounds,
    tee: Option<Tee>,
}

impl Body {
    /// Turns what was read into what is to be written, in place; true when that was the last. What follows the body
    /// goes to `leftover`.
    fn pass(&mut self, buf: &mut Buf, leftover: &mut Buf) -> Result<bool, Error> {
        let came = buf.len();
        let step = self.payload.take(buf.bytes_mut());
        let consumed = step.as_ref().map_or(came, |step| step.consumed);
        self.seen.received.set(self.seen.received.get() + consumed as u64);
        let step = step.map_err(|_| Kind::BodyMalformed.never())?;
        leftover.extend(buf.bytes().get(step.consumed..).unwrap_or_default());
        buf.truncate(step.data);
        self.length += step.data as u64;
        if self.bounds.limit.is_some_and(|limit| self.length > limit) {
            return Err(Kind::BodyTooLarge.never());
        }
        if let Some(tee) = &mut self.tee {
            tee(buf.bytes(), step.done);
        }
        if matches!(self.payload, Payload::Chunked(_)) {
            let trailers = self.payload.take_trailers().filter(|_| self.bounds.trailers_pass);
            write_chunk(buf, step.done, trailers.as_deref());
        }
        Ok(step.done)
    }
}

/// Makes a chunk of the bytes in `buf`, which has room at both ends, and ends the message with it if `last`.
pub fn write_chunk(buf: &mut Buf, last: bool, trailers: Option<&[u8]>) {
    if !buf.is_empty() {
        let n = prefix(buf.len(), buf.headroom());
        buf.prepend(n);
        buf.extend(CRLF);
    }
    if last {
        match trailers {
            None => buf.extend(LAST_CHUNK),
            Some(lines) => {
                buf.extend(b"0\r\n");
                buf.extend(lines);
                buf.extend(CRLF);
            }
        }
    }
}

async fn run(down: Rc<Downstream>, stream: UpstreamStream, core: Rc<Core>, mut body: Body, mut buf: Buf) -> Uploaded {
    let bounds = body.bounds;
    let slot = core.deadlines.slot();
    let mut leftover = Buf::default();
    let result = loop {
        match body.pass(&mut buf, &mut leftover) {
            Err(e) => break Err(e),
            Ok(done) => {
                match write_upstream(&stream, &slot, bounds.write_ms, u64::MAX, buf).await {
                    Ok(emptied) => buf = emptied,
                    Err(e) => {
                        buf = Buf::default();
                        break Err(e);
                    }
                }
                if done {
                    break Ok(());
                }
            }
        }
        buf.reserve_ends();
        let due_ms = slot.now_ms().saturating_add(bounds.read_ms.into());
        body.seen.waits_since_us.set(Some(core.clock.now_us()));
        let read = guard(&slot, due_ms, down.stream.read(buf)).await;
        body.seen.waited_us.set(body.seen.waited_us(core.clock.now_us()));
        body.seen.waits_since_us.set(None);
        match read {
            Ok((Ok(n), filled)) if n > 0 => buf = filled,
            Ok(_) => {
                buf = Buf::default();
                break Err(Kind::ClientGone.never());
            }
            Err(fired) => {
                buf = Buf::default();
                break Err(kind_of(fired, Kind::BodyTimeout).never());
            }
        }
    };
    core.buffers.give(buf);
    Uploaded { result, leftover }
}

/// Writes all of `buf` to the upstream and gives it back emptied. The upstream may take nothing for `stall_ms`, and all of
/// it is done by `until_ms`.
pub async fn write_upstream(
    stream: &UpstreamStream,
    slot: &Slot,
    stall_ms: u32,
    until_ms: u64,
    buf: Buf,
) -> Result<Buf, Error> {
    write_all(stream, slot, stall_ms, until_ms, buf).await.map_err(|unwritten| match unwritten {
        Unwritten::Broken => Kind::Reset.safe(),
        Unwritten::Stalled => Kind::UpstreamBodyTimeout.never(),
        Unwritten::Fired(fired) => kind_of(fired, Kind::UpstreamBodyTimeout).never(),
    })
}

/// What the end of the upload begins: the wait for the answer's first byte.
#[derive(Clone, Copy)]
pub struct OnSent<'a> {
    /// The deadline of the operation that runs alongside.
    pub slot: &'a Slot,
    /// How long the answer may take from then, in ms.
    pub first_byte_ms: u32,
    /// When the route's time is over.
    pub route_due_ms: u64,
}

pin_project_lite::pin_project! {
    /// See [`alongside`].
    pub struct Alongside<'a, F> {
        upload: Option<&'a mut Upload>,
        on_sent: Option<OnSent<'a>>,
        #[pin]
        op: F,
    }
}

/// Runs `op` while the upload goes on. Ends early if the client is at fault; an upstream that no longer takes the body
/// may have answered, so that ends nothing.
pub fn alongside<'a, F: Future>(
    upload: Option<&'a mut Upload>,
    on_sent: Option<OnSent<'a>>,
    op: F,
) -> Alongside<'a, F> {
    Alongside { upload, on_sent, op }
}

impl<F: Future> Future for Alongside<'_, F> {
    type Output = Result<F::Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let running = this.upload.as_mut().filter(|upload| upload.running.is_some());
        if let Some(Poll::Ready(uploaded)) = running.map(|upload| upload.poll(cx)) {
            match uploaded.result {
                // A client that has begun to get its answer may stop sending; the answer goes on.
                Err(e) if e.kind == Kind::BodyTimeout && this.on_sent.is_none() => {}
                Err(e) if e.kind.side() != Side::Upstream => return Poll::Ready(Err(e)),
                _ => {
                    if let Some(OnSent { slot, first_byte_ms, route_due_ms }) = this.on_sent {
                        slot.arm(slot.now_ms().saturating_add((*first_byte_ms).into()).min(*route_due_ms));
                    }
                }
            }
        }
        this.op.poll(cx).map(Ok)
    }
}

/// The framing fields of a message (RFC 9112 6).
pub fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Length(n) => {
            encode::field_of(b"Content-Length", |out| encode::number(n, out), out);
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::Close => {}
    }
}
