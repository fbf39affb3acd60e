//! Writing to the client: the head of an answer that the gateway makes, and bytes, as fast as they are taken.

use crate::context::Context;
use crate::error::{Error, Kind};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::reply::{self, Reply};
use crate::io::{Buf, Fired, guard};
use crate::request::Request;
use crate::snapshot::ListenerSpec;

use super::finish::kind_of;
use super::plane::Downstream;
use super::{answer, upload};

/// RFC 9110 8.6: no Content-Length where there can be no body.
pub(super) fn is_bodiless(reply: &Reply) -> bool {
    reply.status == 204 || reply.status == 304
}

/// Appends the head of an answer that the gateway makes.
pub(super) fn write_reply_head(
    reply: &Reply,
    req: &Request,
    core: &crate::core::Core,
    keep: bool,
    hsts: &[u8],
    out: &mut Vec<u8>,
) {
    reply::status_line(reply.status, out);
    out.extend_from_slice(&reply.fields);
    encode::field_of(b"Date", |out| core.write_date(out), out);
    let framing = if is_bodiless(reply) { Framing::None } else { Framing::Length(reply.body.len() as u64) };
    upload::write_framing(framing, out);
    out.extend_from_slice(hsts);
    answer::write_connection(req.head.version, keep, out);
    req.write_own(out);
    out.extend_from_slice(b"\r\n");
}

/// The head of an answer is about to be sent: notes what the log tells of it.
#[inline]
pub(super) fn begin_answer(status: u16, head: &[u8], req: &Request, rules: &ListenerSpec, cx: &mut Context) {
    cx.begin_answer(status, head.len());
    if !rules.logged_fields.is_empty() {
        keep_head(head, req);
    }
}

/// Keeps the head of an answer for the log: of a later one, if this is not sent after all, nothing is left.
#[cold]
pub(super) fn keep_head(head: &[u8], req: &Request) {
    let mut kept = req.answer_head.borrow_mut();
    kept.clear();
    kept.extend_from_slice(head);
}

/// How often within its deadline a pending write is looked at for progress. The kernel takes more only when a good part
/// of its send buffer is free, which may be megabytes: a slow reader makes progress long before.
const WRITE_LOOKS: u32 = 4;

/// Writes all of `out` to the client and gives it back emptied. A client that takes nothing for `write_ms` is given up.
pub async fn write_downstream(down: &Downstream, write_ms: u32, mut out: Buf, cx: &mut Context) -> Result<Buf, Error> {
    cx.bytes_out += out.len() as u64;
    while !out.is_empty() {
        let mut write = std::pin::pin!(down.stream.write(out));
        let mut progress_ms = down.slot.now_ms();
        let mut before = usize::MAX;
        out = loop {
            let due_ms = down.slot.now_ms().saturating_add((write_ms / WRITE_LOOKS).max(1).into());
            match guard(&down.slot, due_ms, write.as_mut()).await {
                Ok((Ok(()), rest)) => break rest,
                Ok((Err(_), _)) => return Err(Kind::ClientGone.never()),
                Err(Fired::Deadline) => {
                    let left = down.stream.unacknowledged();
                    if left < std::mem::replace(&mut before, left) && before != usize::MAX {
                        progress_ms = down.slot.now_ms();
                    }
                    if down.slot.now_ms().saturating_sub(progress_ms) >= write_ms.into() {
                        return Err(Kind::WriteTimeout.never());
                    }
                }
                Err(fired) => return Err(kind_of(fired, Kind::WriteTimeout).never()),
            }
        };
    }
    out.clear();
    Ok(out)
}
