//! An upstream's answer on its way to the client: head and first bytes in one write, then a fixed window.

use std::rc::Rc;

use crate::context::Context;
use crate::core::Core;
use crate::error::{Error, Kind};
use crate::http::encode::{self, copy_fields};
use crate::http::framing::Framing;
use crate::http::h1::payload::Payload;
use crate::http::head::{Field, Version};
use crate::http::known::Known;
use crate::http::upgrade;
use crate::io::buffers::{BODY_BYTES, HEADROOM, TAILROOM};
use crate::io::{Buf, guard};
use crate::request::Request;
use crate::snapshot::{ListenerSpec, UpstreamSpec};

use super::checkout::Lease;
use super::compress;
use super::finish::kind_of;
use super::forward::OUT_BYTES;
use super::plane::Downstream;
use super::to_client::{begin_answer, write_downstream};
use super::upload::{Upload, alongside, write_chunk, write_framing};

/// Bodies of unknown length are read in pieces of this size until one fills it: event streams stay small.
const PIECE_BYTES: usize = 16 * 1024;

/// An answer whose head has come.
pub struct Answer {
    /// The connection it comes on.
    pub lease: Lease,
    /// The head, and what came with it.
    pub buf: Buf,
    /// How the body is delimited.
    pub framing: Framing,
    /// The request body, if it was streamed.
    pub upload: Option<Upload>,
    /// Longest pause in the body, in ms.
    pub body_ms: u32,
}

/// How the client gets the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As bytes, with a length or up to the end of the connection.
    Plain,
    /// In chunks.
    Chunks,
}

/// What the client is told of its connection.
#[derive(Clone, Copy)]
pub(super) enum After<'p> {
    /// It may send another request.
    Keep,
    /// It is closed.
    Close,
    /// It speaks this protocol from then on.
    Switch(&'p [u8]),
}

/// Sends the answer, and keeps the upstream's connection if it can be used again. Returns whether the client's may be;
/// what it sent behind a streamed request body goes to `leftover`.
/// An error after the first byte leaves the client with half an answer: its connection must be cut.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub async fn send(
    answer: Answer,
    req: &Request,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    spec: &UpstreamSpec,
    core: &Core,
    keep: bool,
    leftover: &mut Option<Buf>,
    cx: &mut Context,
) -> Result<bool, Error> {
    let Answer { lease, mut buf, framing, mut upload, body_ms } = answer;
    let sent_whole = |upload: &Option<Upload>| {
        upload.as_ref().is_none_or(|upload| upload.outcome().is_some_and(|done| done.result.is_ok()))
    };
    let coding = match (framing, req.head.version) {
        (Framing::Chunked | Framing::Close, Version::H11) => Coding::Chunks,
        _ => Coding::Plain,
    };
    let until_close = coding == Coding::Plain && matches!(framing, Framing::Chunked | Framing::Close);
    // An answer before the whole request: it is streamed, then both connections are closed, even if the rest of the
    // request is sent meanwhile. The upstream may never have read it as a body.
    let asked_whole = sent_whole(&upload);
    let keep = keep && !until_close && asked_whole;
    // Trailers may be merged into the head by who receives them (RFC 9110 6.5.1): where fields are edited or listed by
    // Connection, none pass.
    let edited = !req.answer_edits.is_empty() || req.own.replaces_any();
    let trailers_pass = !edited && req.answer.fields.listed.is_empty();

    let mut out = core.buffers.take(OUT_BYTES);
    let after = if keep { After::Keep } else { After::Close };
    write_head(req, buf.bytes(), framing, coding, after, &rules.hsts, core, out.vec());
    buf.consume(req.answer.fields.len);
    let packed = match req.compression.policy() {
        None => None,
        Some(policy) => compress::begin(policy, req, req.answer.status, keep, down, rules, core, &mut out),
    };
    let (keep, surplus) = match packed {
        Some(packed) => {
            let rest = Payload::of(framing);
            Box::pin(packed.stream(rest, buf, &lease, &mut upload, body_ms, cx)).await?
        }
        None => {
            let head_bytes = out.len();
            let (rest, mut surplus) = begin(framing, &mut buf, &mut out, coding, trailers_pass)
                .map_err(|()| Kind::BadResponse("bad chunk"))?;
            core.buffers.give(buf);
            begin_answer(req.answer.status, out.bytes().get(..head_bytes).unwrap_or_default(), req, rules, cx);
            let write = write_downstream(down, rules.write_ms, out, cx);
            let mut out = alongside(upload.as_mut(), None, write).await??;

            if let Some(rest) = rest {
                core.buffers.give(std::mem::take(&mut out));
                let streamed =
                    Box::pin(stream(rest, &lease, &mut upload, body_ms, down, rules, coding, trailers_pass, core, cx));
                let streamed = streamed.await;
                if streamed.is_err() && until_close {
                    // Only a reset tells this client that the end it sees is not the end.
                    down.stream.reset_on_close();
                }
                surplus |= streamed?;
            }
            core.buffers.give(out);
            (keep, surplus)
        }
    };
    if asked_whole && !surplus && framing != Framing::Close && req.answer.keeps_alive() {
        lease.give_back(spec, down.slot.now_ms());
    }
    if let Some(upload) = upload {
        cx.bytes_in += upload.received();
        *leftover = upload.into_outcome().map(|uploaded| uploaded.leftover);
    }
    Ok(keep)
}

/// Whether an upstream's field is for one hop alone, or a filter or the route has another in its place, or none.
#[inline]
pub(super) fn is_left_out(req: &Request, field: &Field, bytes: &[u8]) -> bool {
    req.answer.fields.is_listed(field, bytes)
        || req.answer_edits.removes(field.name, bytes)
        || (!req.own.is_empty() && req.own.replaces(field.name.of(bytes)))
}

/// The status line and fields as the client gets them.
#[allow(clippy::too_many_arguments)]
pub(super) fn write_head(
    req: &Request,
    bytes: &[u8],
    framing: Framing,
    coding: Coding,
    after: After<'_>,
    hsts: &[u8],
    core: &Core,
    out: &mut Vec<u8>,
) {
    let head = &req.answer;
    // The reason phrase survives: everything behind `HTTP/1.x` goes on as it came.
    let line_end = head.fields.iter().next().map_or(head.fields.len.saturating_sub(2), |field| field.name.start());
    out.extend_from_slice(b"HTTP/1.1");
    out.extend_from_slice(bytes.get("HTTP/1.1".len()..line_end).unwrap_or_default());
    let (mut length_seen, mut date_seen) = (false, false);
    let drop = |field: &Field| {
        let dropped = match field.known {
            Known::Connection | Known::HopByHop | Known::Te | Known::TransferEncoding => true,
            Known::Trailer => coding == Coding::Plain,
            // RFC 9110 8.6: none on 1xx and 204; elsewhere the first, which the others equal.
            Known::ContentLength => {
                let listed = field.value.of(bytes).contains(&b',');
                std::mem::replace(&mut length_seen, true) || listed || matches!(head.status, 101 | 204)
            }
            // The listener's own wins.
            Known::StrictTransportSecurity => !hsts.is_empty(),
            Known::Date => {
                date_seen = true;
                false
            }
            _ => false,
        };
        dropped || is_left_out(req, field, bytes)
    };
    copy_fields(&head.fields, bytes, drop, out);
    let listed_length = |f: &crate::http::head::Field| f.value.of(bytes).contains(&b',');
    if let (Framing::Length(_), true) =
        (framing, head.fields.all(Known::ContentLength).next().is_some_and(listed_length))
    {
        write_framing(framing, out);
    }
    // RFC 9110 6.6.1: who forwards an answer without a date adds one.
    if !date_seen && !req.answer_edits.replaces(b"date") {
        encode::field_of(b"Date", |out| core.write_date(out), out);
    }
    if coding == Coding::Chunks {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(hsts);
    match after {
        After::Keep => write_connection(req.head.version, true, out),
        After::Close => write_connection(req.head.version, false, out),
        After::Switch(protocol) => upgrade::write_asked(std::iter::once(protocol), out),
    }
    if head.status == 426 {
        upgrade::write_offered(&head.fields, bytes, out);
    }
    req.answer_edits.write_added_but(|name| req.own.replaces(name), out);
    req.write_own(out);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112 9.3, 9.6: said only where it is not the version's default.
pub fn write_connection(version: Version, keep: bool, out: &mut Vec<u8>) {
    match (version, keep) {
        (_, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (Version::H10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (Version::H11, true) => {}
    }
}

/// Puts the body bytes that came with the head behind it, and tells what is still to come, and whether bytes came that
/// belong to no answer.
fn begin(
    framing: Framing,
    buf: &mut Buf,
    out: &mut Buf,
    coding: Coding,
    trailers_pass: bool,
) -> Result<(Option<Payload>, bool), ()> {
    let there = buf.len();
    let mut payload = Payload::of(framing);
    let step = payload.take(buf.bytes_mut()).map_err(drop)?;
    append(out, buf.bytes().get(..step.data).unwrap_or_default(), coding);
    if !step.done {
        return Ok((Some(payload), false));
    }
    let trailers = payload.take_trailers().filter(|_| trailers_pass);
    append_last(out, coding, trailers.as_deref());
    Ok((None, there > step.consumed))
}

/// Puts a piece of a body behind what is there.
pub fn append(out: &mut Buf, data: &[u8], coding: Coding) {
    match coding {
        Coding::Plain => out.extend(data),
        Coding::Chunks if data.is_empty() => {}
        Coding::Chunks => {
            let mut line = [0; HEADROOM];
            let n = crate::http::h1::chunked::prefix(data.len(), &mut line);
            out.extend(line.get(HEADROOM - n..).unwrap_or_default());
            out.extend(data);
            out.extend(b"\r\n");
        }
    }
}

fn append_last(out: &mut Buf, coding: Coding, trailers: Option<&[u8]>) {
    if coding == Coding::Chunks {
        let mut end = Buf::with_capacity(HEADROOM + TAILROOM);
        end.reserve_ends();
        write_chunk(&mut end, true, trailers);
        out.extend(end.bytes());
    }
}

/// The rest of a body, one buffer at a time: read, decode, encode, write. Returns whether bytes came that belong to no
/// answer.
#[allow(clippy::too_many_arguments)]
async fn stream(
    mut rest: Payload,
    lease: &Lease,
    upload: &mut Option<Upload>,
    body_ms: u32,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    coding: Coding,
    trailers_pass: bool,
    core: &Core,
    cx: &mut Context,
) -> Result<bool, Error> {
    let mut surplus = false;
    let mut size = rest.left().map_or(PIECE_BYTES, |left| left.clamp(PIECE_BYTES, BODY_BYTES));
    let mut buf = core.buffers.take(size);
    loop {
        buf.reserve_ends();
        let due_ms = down.slot.now_ms().saturating_add(body_ms.into());
        let read = guard(&down.slot, due_ms, lease.stream.read(buf));
        let (n, filled) = match alongside(upload.as_mut(), None, read).await? {
            Ok((n, filled)) => (n.unwrap_or(usize::MAX), filled),
            Err(fired) => return Err(kind_of(fired, Kind::UpstreamBodyTimeout).never()),
        };
        cx.hear_upstream(core.clock.now_us());
        buf = filled;
        let full = buf.spare() == 0;
        let ended = match rest {
            Payload::Close if n == 0 => true,
            _ if n == 0 || n == usize::MAX => return Err(Kind::Truncated.never()),
            _ => {
                let came = buf.len();
                let step = rest.take(buf.bytes_mut()).map_err(|_| Kind::Truncated.never())?;
                buf.truncate(step.data);
                surplus = step.done && came > step.consumed;
                step.done
            }
        };
        let trailers = if ended { rest.take_trailers().filter(|_| trailers_pass) } else { None };
        if coding == Coding::Chunks {
            write_chunk(&mut buf, ended, trailers.as_deref());
        }
        let write = write_downstream(down, rules.write_ms, buf, cx);
        buf = alongside(upload.as_mut(), None, write).await??;
        if ended {
            break;
        }
        if full && size < BODY_BYTES {
            size = BODY_BYTES;
            core.buffers.give(std::mem::replace(&mut buf, core.buffers.take(size)));
        }
    }
    core.buffers.give(buf);
    Ok(surplus)
}
