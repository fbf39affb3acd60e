//! Bodies that nobody wants: those of requests that the gateway answers without them. A limit on bodies holds for them as
//! well, so that a client learns that it sends too much whatever its route does.
//!
//! One that says its length is judged by that, and left where it is. One in chunks is read to its end, or to its limit,
//! and thrown away: behind it the connection carries the next request.

use std::rc::Rc;

use crate::context::Context;
use crate::error::{Error, Kind};
use crate::http::framing::Framing;
use crate::http::h1::payload::Payload;
use crate::io::buffers::ANSWER_BYTES;
use crate::request::Request;
use crate::snapshot::{Action, ListenerSpec};

use super::forward::expects_continue;
use super::plane::{Downstream, Plane};
use super::upload::{announces_too_much, more};

/// Whether what is done with a request leaves its body aside, and the body has a limit.
pub(super) fn is_bounded(action: &Action, req: &Request) -> bool {
    let is_wanted = match action {
        Action::Forward(_) => true,
        Action::Aggregate(plan) => plan.passes_body,
        Action::Respond(_) | Action::Redirect(_) => false,
    };
    !is_wanted && req.body_limit.is_some()
}

/// Sees to it that the body keeps to its limit. One in chunks is gone then, by `due_ms`.
///
/// # Errors
/// The body's: it is too large, malformed, or does not come in time.
pub(super) async fn read_away(
    req: &mut Request,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    plane: &Plane,
    due_ms: u64,
    cx: &mut Context,
) -> Result<(), Error> {
    if announces_too_much(req) {
        return Err(Kind::BodyTooLarge.never());
    }
    // A client that waits to be asked for its body is not asked: it gets the answer at once (RFC 9110 10.1.1).
    let waits = req.behind_head().is_empty() && expects_continue(req);
    let (Framing::Chunked, Some(limit), false) = (req.framing, req.body_limit, waits) else { return Ok(()) };
    let buffers = &plane.core.buffers;
    let mut payload = Payload::of(req.framing);
    let mut buf = buffers.take(req.behind_head().len().max(ANSWER_BYTES));
    buf.extend(req.behind_head());
    let mut received = 0;
    let consumed = loop {
        let came = buf.len();
        let step = payload.take(buf.bytes_mut());
        cx.bytes_in += step.as_ref().map_or(came, |step| step.consumed) as u64;
        let step = step.map_err(|_| Kind::BodyMalformed.never())?;
        received += step.data as u64;
        if received > limit {
            return Err(Kind::BodyTooLarge.never());
        }
        if step.done {
            break step.consumed;
        }
        buf.clear();
        (_, buf) = more(buf, (due_ms, Kind::BodyTimeout), down, rules, &plane.core, cx).await?;
    };
    buf.consume(consumed);
    let head = req.head.fields.len;
    req.buf.truncate(head);
    if req.buf.spare() < buf.len() {
        req.buf.grow(head + buf.len(), buffers);
    }
    req.buf.extend(buf.bytes());
    req.framing = Framing::None;
    buffers.give(buf);
    Ok(())
}
