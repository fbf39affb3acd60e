//! The answer on its way: what is small in one write, and a large value from the buffer that it was received in.

use std::rc::Rc;

use crate::context::Context;
use crate::core::Core;
use crate::error::Error;
use crate::http::framing::Framing;
use crate::http::{encode, reply};
use crate::io::Buf;
use crate::request::Request;
use crate::snapshot::ListenerSpec;
use crate::snapshot::aggregate::Aggregate;

use super::super::answer::write_connection;
use super::super::compress;
use super::super::forward::OUT_BYTES;
use super::super::plane::Downstream;
use super::super::to_client::{begin_answer, write_downstream};
use super::super::upload::write_framing;
use super::Merged;
use super::fanout::Memory;
use super::merge::Piece;
use super::outcome::{Outcome, Source};

/// A value of at least this size is not copied: the write of a buffer of its own costs less.
const LARGE_BYTES: usize = 8 * 1024;

/// Sends the answer. Returns whether the client's connection may be kept; an error leaves the client with part of it.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub async fn send(
    merged: &mut Merged,
    plan: &Aggregate,
    req: &Request,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    core: &Core,
    keep: bool,
    cx: &mut Context,
) -> Result<bool, Error> {
    let Memory { outcomes, body, fields, .. } = &mut *merged.memory;
    let mut out = core.buffers.take(OUT_BYTES);
    let head = out.vec();
    reply::status_line(merged.status, head);
    head.extend_from_slice(fields);
    if !req.answer_edits.replaces(b"date") {
        encode::field_of(b"Date", |out| core.write_date(out), head);
    }
    write_framing(Framing::Length(body.len as u64), head);
    head.extend_from_slice(&rules.hsts);
    write_connection(req.head.version, keep, head);
    req.write_own(head);
    head.extend_from_slice(b"\r\n");
    cx.status = merged.status;
    if let Some(policy) = req.compression.policy()
        && let Some(packed) = compress::begin(policy, req, merged.status, keep, down, rules, core, &mut out)
    {
        let slices = body.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(from, to) => body.text.get(*from..*to),
            Piece::Value(index) => Some(outcomes.get(*index)?.output(plan.parts.get(*index)?)),
        });
        return Box::pin(packed.send(slices, cx)).await;
    }
    begin_answer(merged.status, out.bytes(), req, rules, cx);
    let mut writer = Writer { out, down, rules, core };
    if req.head.method != http::Method::HEAD {
        for piece in &body.pieces {
            match piece {
                Piece::Text(from, to) => writer.copy(body.text.get(*from..*to).unwrap_or_default(), cx).await?,
                Piece::Value(index) => {
                    let (Some(outcome), Some(part)) = (outcomes.get_mut(*index), plan.parts.get(*index)) else {
                        continue;
                    };
                    match outcome.output(part).len() {
                        ..LARGE_BYTES => writer.copy(outcome.output(part), cx).await?,
                        _ => match take(outcome) {
                            Some(value) => writer.hand_over(value, cx).await?,
                            None => writer.copy(outcome.output(part), cx).await?,
                        },
                    }
                }
            }
        }
    }
    writer.flush(cx).await?;
    core.buffers.give(writer.out);
    Ok(keep)
}

/// The value in the buffer that it was received in, or edited into.
fn take(outcome: &mut Outcome) -> Option<Buf> {
    if !matches!(outcome.source, Source::Upstream | Source::Stale) {
        return None;
    }
    if let Some(edited) = outcome.edited.take() {
        return Some(edited);
    }
    let (from, to) = outcome.span;
    let mut buf = std::mem::take(&mut outcome.buf);
    buf.truncate(to);
    buf.consume(from);
    Some(buf)
}

struct Writer<'a> {
    /// What is yet to be written.
    out: Buf,
    down: &'a Rc<Downstream>,
    rules: &'a ListenerSpec,
    core: &'a Core,
}

impl Writer<'_> {
    /// Appends a copy; what is full is written.
    async fn copy(&mut self, mut bytes: &[u8], cx: &mut Context) -> Result<(), Error> {
        while !bytes.is_empty() {
            let n = bytes.len().min(self.out.spare());
            let (now, later) = bytes.split_at(n);
            self.out.extend(now);
            bytes = later;
            if !bytes.is_empty() {
                self.flush(cx).await?;
                if self.out.capacity() < OUT_BYTES {
                    self.core.buffers.give(std::mem::replace(&mut self.out, self.core.buffers.take(OUT_BYTES)));
                }
            }
        }
        Ok(())
    }

    /// Writes what is there, and goes on in the buffer of the value: what follows it is appended there.
    async fn hand_over(&mut self, value: Buf, cx: &mut Context) -> Result<(), Error> {
        self.flush(cx).await?;
        self.core.buffers.give(std::mem::replace(&mut self.out, value));
        Ok(())
    }

    async fn flush(&mut self, cx: &mut Context) -> Result<(), Error> {
        let out = std::mem::take(&mut self.out);
        self.out = write_downstream(self.down, self.rules.write_ms, out, cx).await?;
        Ok(())
    }
}
