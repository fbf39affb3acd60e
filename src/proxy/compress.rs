//! A compressed answer on its way: what comes is encoded a piece at a time, and what was encoded is sent at once.
//!
//! Pieces are of at most 16 KiB, each of them is flushed, and behind each is a read or a write: a core is never kept for more
//! than about a millisecond, and what an upstream has sent is on its way to the client whenever the upstream pauses. Answers
//! that fit into the first piece are sent with their length; longer ones are chunked, or end with an HTTP/1.0 client's
//! connection. Half an answer is cut like any other: its last chunk never comes.

use std::rc::Rc;

use crate::coding::encoder::{Op, ROOM_MIN};
use crate::coding::head::{self, Frame};
use crate::coding::{Done, Policy};
use crate::context::Context;
use crate::core::Core;
use crate::core::encoders::Running;
use crate::end::Skip;
use crate::error::{Error, Kind};
use crate::http::h1::payload::Payload;
use crate::http::head::Version;
use crate::io::{self, Buf, guard};
use crate::request::Request;
use crate::snapshot::ListenerSpec;

use super::answer::{Coding, append};
use super::checkout::Lease;
use super::finish::kind_of;
use super::plane::Downstream;
use super::to_client::{keep_head, write_downstream};
use super::upload::{Upload, alongside, write_chunk};

/// What is encoded in one go: at most a millisecond's work.
const PIECE_BYTES: usize = 16 * 1024;
/// So many bytes of a piece take about as long as one operation, see [`io::spend`].
const BYTES_PER_OP: usize = 128;

/// An answer that is compressed, of which nothing was sent yet.
pub struct Packed<'a> {
    encoder: Running<'a>,
    down: &'a Rc<Downstream>,
    rules: &'a ListenerSpec,
    core: &'a Core,
    status: u16,
    /// The head, until it is sent.
    head: Option<Buf>,
    /// What was encoded and not sent yet.
    out: Buf,
    /// Bytes that the encoder was given since the last flush.
    unflushed: usize,
    /// Bytes before and after.
    count: Count<'a>,
    keep: bool,
    is_chunked: bool,
}

/// Bytes before and after; they count however the answer ends.
struct Count<'a> {
    policy: &'a Policy,
    req: &'a Request,
    coding: crate::coding::Coding,
    came: u64,
    left: u64,
    /// The head has left.
    is_begun: bool,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.policy.metrics.bytes_in.add(self.came);
        self.policy.metrics.bytes_out.add(self.left);
        // Before that the client may still be told something else.
        if self.is_begun {
            self.policy.metrics.answers.add(self.coding.index(), 1);
            self.req.compression.note(Done { coding: self.coding, bytes: self.came });
        }
    }
}

/// Decides about an answer whose head was written to `out`, and says there what is to be said. `Some`: its body is to be
/// compressed, and the head was taken. Boxed: who sends answers as they are should not carry it.
#[inline(never)]
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub fn begin<'a>(
    policy: &'a Policy,
    req: &'a Request,
    status: u16,
    keep: bool,
    down: &'a Rc<Downstream>,
    rules: &'a ListenerSpec,
    core: &'a Core,
    out: &mut Buf,
) -> Option<Box<Packed<'a>>> {
    let verdict = head::judge(policy, &req.compression, status, out.bytes());
    if verdict.varies {
        head::add_vary(out.vec());
    }
    let is_head = req.head.method == http::Method::HEAD;
    let choice = match verdict.coding {
        Ok(choice) => choice,
        Err(reason) => {
            policy.metrics.skipped.add(reason.index(), 1);
            if status == 304 && req.compression.wanted().is_some() {
                rewrite(out, core, 0, head::not_modified);
            }
            return None;
        }
    };
    if is_head {
        // What a GET would have been told, as far as that is known: how long it would be is not (RFC 9110 9.3.2).
        rewrite(out, core, 0, |from, to| {
            head::encoded(from, choice.0, to);
            to.extend_from_slice(b"\r\n");
        });
        return None;
    }
    let Some(encoder) = core.encoders.take(choice, policy.streams_max) else {
        policy.metrics.skipped.add(Skip::Busy.index(), 1);
        return None;
    };
    let coding = encoder.coding();
    // The first of the body goes behind it, into the same write.
    rewrite(out, core, PIECE_BYTES, |from, to| head::encoded(from, coding, to));
    if !rules.logged_fields.is_empty() {
        keep_head(out.bytes(), req);
    }
    let mut body = core.buffers.take(PIECE_BYTES);
    body.reserve_ends();
    Some(Box::new(Packed {
        encoder,
        down,
        rules,
        core,
        status,
        head: Some(std::mem::take(out)),
        out: body,
        unflushed: 0,
        count: Count { policy, req, coding, came: 0, left: 0, is_begun: false },
        keep,
        is_chunked: req.head.version == Version::H11,
    }))
}

fn rewrite(out: &mut Buf, core: &Core, room: usize, write: impl FnOnce(&[u8], &mut Vec<u8>)) {
    let mut other = core.buffers.take(out.len() + HEAD_EXTRA + room);
    write(out.bytes(), other.vec());
    core.buffers.give(std::mem::replace(out, other));
}

/// What a head may get longer by, about.
const HEAD_EXTRA: usize = 256;

impl Packed<'_> {
    /// Sends an upstream's answer; `buf` is what came of the body with its head, as it came. Returns whether the client's
    /// connection may be kept, and whether bytes came that belong to no answer. See [`send`](super::answer::send) for errors.
    pub async fn stream(
        mut self: Box<Self>,
        rest: Payload,
        buf: Buf,
        lease: &Lease,
        upload: &mut Option<Upload>,
        body_ms: u32,
        cx: &mut Context,
    ) -> Result<(bool, bool), Error> {
        let streamed = self.pull(rest, buf, lease, upload, body_ms, cx).await;
        if streamed.is_err() && self.head.is_none() && !self.is_chunked {
            // Only a reset tells this client that the end it sees is not the end.
            self.down.stream.reset_on_close();
        }
        let surplus = streamed?;
        Ok((self.finish(), surplus))
    }

    async fn pull(
        &mut self,
        mut rest: Payload,
        mut buf: Buf,
        lease: &Lease,
        upload: &mut Option<Upload>,
        body_ms: u32,
        cx: &mut Context,
    ) -> Result<bool, Error> {
        loop {
            let came = buf.len();
            let step = rest.take(buf.bytes_mut()).map_err(|_| match self.head {
                Some(_) => Kind::BadResponse("bad chunk").never(),
                None => Kind::Truncated.never(),
            })?;
            self.feed(buf.bytes().get(..step.data).unwrap_or_default(), step.done, upload, cx).await?;
            if step.done {
                self.core.buffers.give(buf);
                return Ok(came > step.consumed);
            }
            if !lease.stream.has_more() {
                self.flush(upload, cx).await?;
            }
            self.core.buffers.give(buf);
            let due_ms = self.down.slot.now_ms().saturating_add(body_ms.into());
            let read = guard(&self.down.slot, due_ms, lease.stream.read(self.core.buffers.take(PIECE_BYTES)));
            let (n, filled) = match alongside(upload.as_mut(), None, read).await? {
                Ok((n, filled)) => (n.unwrap_or(usize::MAX), filled),
                Err(fired) => return Err(kind_of(fired, Kind::UpstreamBodyTimeout).never()),
            };
            cx.hear_upstream(self.core.clock.now_us());
            buf = filled;
            match rest {
                Payload::Close if n == 0 => {
                    self.feed(b"", true, upload, cx).await?;
                    self.core.buffers.give(buf);
                    return Ok(false);
                }
                _ if n == 0 || n == usize::MAX => return Err(Kind::Truncated.never()),
                _ => {}
            }
        }
    }

    /// Sends an answer that is here as a whole. Returns whether the client's connection may be kept.
    pub async fn send<'b>(
        mut self: Box<Self>,
        slices: impl Iterator<Item = &'b [u8]>,
        cx: &mut Context,
    ) -> Result<bool, Error> {
        let mut slices = slices.peekable();
        while let Some(slice) = slices.next() {
            self.feed(slice, slices.peek().is_none(), &mut None, cx).await?;
        }
        Ok(self.finish())
    }

    fn finish(self) -> bool {
        let Self { encoder, out, core, keep, .. } = self;
        encoder.give_back();
        core.buffers.give(out);
        keep
    }

    /// Encodes `data`, a piece at a time.
    async fn feed(
        &mut self,
        data: &[u8],
        last: bool,
        upload: &mut Option<Upload>,
        cx: &mut Context,
    ) -> Result<(), Error> {
        self.count.came += data.len() as u64;
        let mut pieces = data.chunks(PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            if self.unflushed + piece.len() > PIECE_BYTES {
                self.push(b"", Op::Flush, upload, cx).await?;
            }
            let op = if last && pieces.peek().is_none() { Op::Finish } else { Op::Go };
            self.push(piece, op, upload, cx).await?;
        }
        if last && data.is_empty() {
            self.push(b"", Op::Finish, upload, cx).await?;
        }
        Ok(())
    }

    /// Sends all that came so far.
    async fn flush(&mut self, upload: &mut Option<Upload>, cx: &mut Context) -> Result<(), Error> {
        if self.unflushed > 0 {
            self.push(b"", Op::Flush, upload, cx).await
        } else if self.head.is_some() {
            self.write(false, upload, cx).await
        } else {
            Ok(())
        }
    }

    async fn push(
        &mut self,
        mut data: &[u8],
        op: Op,
        upload: &mut Option<Upload>,
        cx: &mut Context,
    ) -> Result<(), Error> {
        io::spend(u32::try_from(data.len() / BYTES_PER_OP).unwrap_or(u32::MAX));
        self.unflushed = if op == Op::Go { self.unflushed + data.len() } else { 0 };
        loop {
            if self.out.spare() < ROOM_MIN {
                self.write(false, upload, cx).await?;
            }
            let encoder = &mut self.encoder;
            let step = self.out.fill(|room| encoder.step(data, room, op).map(|step| (step.written, step)));
            let step = step.map_err(|_| Kind::Internal.never())?;
            self.count.left += step.written as u64;
            data = data.get(step.taken..).unwrap_or_default();
            if step.done {
                break;
            }
            if step.taken == 0 && step.written == 0 {
                return Err(Kind::Internal.never()); // it would not end
            }
        }
        if op == Op::Go { Ok(()) } else { self.write(op == Op::Finish, upload, cx).await }
    }

    /// Sends what was encoded, behind the head if that was not sent yet.
    async fn write(&mut self, last: bool, upload: &mut Option<Upload>, cx: &mut Context) -> Result<(), Error> {
        let mut out = std::mem::take(&mut self.out);
        let coding = if self.is_chunked { Coding::Chunks } else { Coding::Plain };
        if let Some(mut first) = self.head.take() {
            self.count.is_begun = true;
            let frame = match (last, self.is_chunked) {
                (true, _) => Frame::Length(out.len()),
                (false, true) => Frame::Chunks,
                (false, false) => Frame::Close,
            };
            self.keep &= frame != Frame::Close;
            head::frame(first.vec(), frame);
            cx.begin_answer(self.status, first.len());
            append(&mut first, out.bytes(), if last { Coding::Plain } else { coding });
            self.core.buffers.give(std::mem::replace(&mut out, first));
        } else if coding == Coding::Chunks {
            write_chunk(&mut out, last, None);
        }
        let write = write_downstream(self.down, self.rules.write_ms, out, cx);
        let emptied = alongside(upload.as_mut(), None, write).await??;
        self.core.buffers.give(emptied);
        self.out = self.core.buffers.take(PIECE_BYTES);
        self.out.reserve_ends();
        Ok(())
    }
}
