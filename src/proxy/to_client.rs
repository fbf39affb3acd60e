//! Writing to the client: the head of an answer that the gateway makes, and bytes, as fast as they are taken.

use crate::context::Context;
use crate::error::{Error, Kind};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::reply::{self, Reply};
use crate::io::Buf;
use crate::request::Request;

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

/// Writes all of `out` to the client and gives it back emptied. A client that takes nothing for `write_ms` is given up.
pub async fn write_downstream(down: &Downstream, write_ms: u32, out: Buf, cx: &mut Context) -> Result<Buf, Error> {
    cx.bytes_out += out.len() as u64;
    write_all(&down.stream, &down.slot, write_ms, u64::MAX, out).await.map_err(|unwritten| match unwritten {
        Unwritten::Broken => Kind::ClientGone.never(),
        Unwritten::Stalled => Kind::WriteTimeout.never(),
        Unwritten::Fired(fired) => kind_of(fired, Kind::WriteTimeout).never(),
    })
}
