//! Writing to the client: the head of an answer that the gateway makes, and bytes, as fast as they are taken.

use crate::context::Context;
use crate::error::{Error, Kind};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::reply::{self, Reply};
use crate::io::Buf;
use crate::io::deadline::TICK_MS;
use crate::request::Request;
use crate::snapshot::ListenerSpec;

use super::finish::kind_of;
use super::plane::Downstream;
use super::write::{Unwritten, write_all};
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

/// Writes all of `out` to the client and gives it back emptied. A client that takes nothing for `write_ms` is given up.
pub async fn write_downstream(down: &Downstream, write_ms: u32, out: Buf, cx: &mut Context) -> Result<Buf, Error> {
    cx.bytes_out += out.len() as u64;
    let from_ms = down.slot.now_ms();
    let written = write_all(&down.stream, &down.slot, write_ms, u64::MAX, out).await;
    // The clock is not read for this: it took at least so long, and what is shorter than a tick is not told.
    let waited_ms = down.slot.now_ms().saturating_sub(from_ms).saturating_sub(TICK_MS);
    cx.client_us += waited_ms * 1_000;
    written.map_err(|unwritten| match unwritten {
        Unwritten::Broken => Kind::ClientGone.never(),
        Unwritten::Stalled => Kind::WriteTimeout.never(),
        Unwritten::Fired(fired) => kind_of(fired, Kind::WriteTimeout).never(),
    })
}
