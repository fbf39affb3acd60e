//! Aggregation: one request, several upstream calls, one answer (AGGREGATION.md).
//!
//! [`aggregate`] is the story: the client's [`body`] if parts want it, the [`fanout`] of parts ([`render`] their requests,
//! [`call`] their upstreams), what became of them ([`outcome`]), the answer put together ([`fields`], [`merge`]) and [`send`].

pub mod body;
pub mod call;
pub mod fanout;
pub mod fields;
pub mod merge;
pub mod outcome;
pub mod render;
pub mod send;
pub mod shadow;

use std::rc::Rc;

use crate::context::Context;
use crate::core::ms;
use crate::end::End;
use crate::error::{Error, Kind};
use crate::filter::request_limits;
use crate::io::Buf;
use crate::observe::access_log;
use crate::request::Request;
use crate::snapshot::Route;
use crate::snapshot::aggregate::Aggregate;

use self::fanout::{About, Fanout, Memory, Stop};
use self::outcome::{Failure, Outcome, Source, failure, shown};
use super::plane::{Downstream, Live, Plane};

/// An answer that is put together and yet to be sent.
pub struct Merged {
    /// Its status.
    pub status: u16,
    /// Its field lines and body, and the values in it.
    pub memory: Box<Memory>,
    /// What the client sent behind a body that was read for the parts.
    pub collected: Option<Buf>,
}

/// Asks the parts' upstreams, and puts their answers together.
///
/// # Errors
/// When the request can not be answered at all: its body, its client, the gateway's own memory.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub async fn aggregate(
    req: &mut Request,
    index: usize,
    route: &Route,
    plan: &Aggregate,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    cx: &mut Context,
) -> Result<Merged, Error> {
    let rules = live.snapshot.listeners.get(down.listener).ok_or(Kind::Internal.never())?;
    let due_ms = ms(cx.started_us).saturating_add(route.timeout_ms.into());
    if plan.passes_body && req.body_limit.is_some_and(|limit| plan.request_bytes_max < limit) {
        request_limits::let_body_pass(req);
    }
    let collected = body::collect(req, plan, down, rules, &plane.core, due_ms, cx).await?;
    let mut memory = plane.take_fanout();
    let about = About { plan, route: index, req, body: body::of(req, collected.as_ref()), live, plane, down, due_ms };
    down.slot.watch(down.stream.watch_fd(), rules.half_close_is_gone);
    let recycler = plane.calls(&call::call);
    let mut fanout = Fanout::new(about, &mut memory, &recycler, call::call);
    let result = fanout.run().await;
    cx.upstream_spent_us = Some(fanout.busy_us);
    drop(fanout);
    record(plan, &memory.outcomes, &mut req.parts);
    let failure = match result {
        Err(Stop::Broken(e)) => {
            plane.give_fanout(memory);
            return Err(e);
        }
        Ok(()) => failure(plan, &memory.outcomes),
        Err(Stop::Lost) => failure(plan, &memory.outcomes).or(Some(Failure::unnamed())),
    };
    let complete = failure.is_none() && merge::is_complete(plan, &memory.outcomes);
    let Memory { outcomes, body, fields, .. } = &mut *memory;
    let (status, written) = match &failure {
        None => {
            merge::body(plan, outcomes, body);
            (200, None)
        }
        Some(failure) => {
            cx.end = End::PartFailed;
            let written = live.snapshot.error_forms(Some(index)).open(&failure.row, &req.request_id, &mut body.text);
            if written.is_open {
                merge::failure_meta(plan, outcomes, &mut body.text);
            }
            body.end();
            (failure.row.status, Some(written))
        }
    };
    fields::write(req, plan, outcomes, complete, failure.as_ref(), written.as_ref(), fields);
    Ok(Merged { status, memory, collected: collected.map(|collected| collected.leftover) })
}

/// Counts the parts, and writes down what the access log tells of them.
fn record(plan: &Aggregate, outcomes: &[Outcome], log: &mut Vec<u8>) {
    log.clear();
    for (_, part, outcome) in shown(plan, outcomes) {
        if outcome.from_us.is_some() {
            part.metrics.ended(outcome.reason, outcome.took_us);
        } else if let Some(reason) = outcome.reason {
            part.metrics.failed.add(reason.index(), 1);
        }
        match outcome.source {
            Source::Static => part.metrics.fallback_static.add(1),
            Source::Stale => part.metrics.fallback_stale.add(1),
            Source::Upstream | Source::Nothing => {}
        }
        let reason = outcome.reason.map(|reason| reason.code());
        access_log::write_part(&part.name, outcome.status, reason, outcome.took_us, log);
    }
}
