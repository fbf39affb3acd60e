//! The client's body, read whole for parts that pass it on: several may, and each needs all of it.

use std::rc::Rc;

use crate::context::Context;
use crate::core::{Core, Held};
use crate::error::{Error, Kind};
use crate::http::framing::Framing;
use crate::http::h1::payload::Payload;
use crate::io::Buf;
use crate::io::buffers::ANSWER_BYTES;
use crate::request::Request;
use crate::snapshot::ListenerSpec;
use crate::snapshot::aggregate::Aggregate;

use super::super::forward::{expects_continue, send_continue};
use super::super::plane::Downstream;
use super::super::upload;

/// A body that did not come with its head.
pub struct Collected {
    body: Buf,
    /// What the client sent behind it.
    pub leftover: Buf,
    _held: Held,
}

/// The body's bytes: of one that was collected, or of one that came with the head.
pub fn of<'a>(req: &'a Request, collected: Option<&'a Collected>) -> &'a [u8] {
    match collected {
        Some(collected) => collected.body.bytes(),
        None => req.behind_head().get(..upload::with_head(req).unwrap_or(0)).unwrap_or_default(),
    }
}

/// Reads the body, if parts pass it on and it has not come with the head, by `due_ms`. One that nobody wants is left where
/// it is.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub async fn collect(
    req: &Request,
    plan: &Aggregate,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    core: &Core,
    due_ms: u64,
    cx: &mut Context,
) -> Result<Option<Collected>, Error> {
    let limit = match plan.passes_body {
        true => plan.request_bytes_max.min(req.body_limit.unwrap_or(u64::MAX)),
        false => req.body_limit.unwrap_or(u64::MAX),
    };
    if matches!(req.framing, Framing::Length(n) if n > limit) {
        return Err(Kind::BodyTooLarge.never());
    }
    if !plan.passes_body || upload::with_head(req).is_some() {
        return Ok(None);
    }
    if req.behind_head().is_empty() && expects_continue(req) {
        send_continue(down, rules.write_ms, cx).await?;
    }
    Box::pin(read(req, usize::try_from(limit).unwrap_or(usize::MAX), down, rules, core, due_ms, cx)).await.map(Some)
}

#[allow(clippy::too_many_arguments)] // as above
async fn read(
    req: &Request,
    limit: usize,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    core: &Core,
    until_ms: u64,
    cx: &mut Context,
) -> Result<Collected, Error> {
    let mut held = core.hold();
    let mut buf = core.buffers.take(req.behind_head().len().max(ANSWER_BYTES));
    held.grow(buf.capacity())?;
    buf.extend(req.behind_head());
    let mut leftover = Buf::default();
    let mut payload = Payload::of(req.framing);
    let mut fresh = buf.len();
    loop {
        let from = buf.len() - fresh;
        let step = payload.take(buf.last_mut(fresh));
        cx.bytes_in += step.as_ref().map_or(fresh, |step| step.consumed) as u64;
        let step = step.map_err(|_| Kind::BodyMalformed.never())?;
        leftover.extend(buf.bytes().get(from + step.consumed..).unwrap_or_default());
        buf.truncate(from + step.data);
        if buf.len() > limit {
            return Err(Kind::BodyTooLarge.never());
        }
        if step.done {
            return Ok(Collected { body: buf, leftover, _held: held });
        }
        held.make_room(&mut buf, payload.left(), &core.buffers)?;
        (fresh, buf) = upload::more(buf, (until_ms, Kind::RouteTimeout), down, rules, core, cx).await?;
    }
}
