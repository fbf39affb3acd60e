//! Aggregation: one request, several upstream calls, one answer (AGGREGATION.md).
//!
//! [`aggregate`] is the story: the client's [`body`] if parts want it, the [`fanout`] of parts ([`render`] their requests,
//! [`call`] their upstreams), what became of them ([`outcome`]), the answer put together ([`merge`]) and [`send`].

pub mod body;
pub mod call;
pub mod fanout;
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
use crate::http::encode;
use crate::http::error_form::Written;
use crate::io::Buf;
use crate::observe::access_log;
use crate::request::Request;
use crate::snapshot::Route;
use crate::snapshot::aggregate::Aggregate;

use self::fanout::{About, Fanout, Memory, Stop};
use self::outcome::{Failure, Outcome, Source, failure, shown};
use super::plane::{Downstream, Live, Plane};

/// What every aggregated answer is (RFC 8259 11 defines no charset, which some clients want to see all the same).
const CONTENT_TYPE: &[u8] = b"application/json; charset=utf-8";

/// An answer that is put together and yet to be sent.
pub struct Merged {
    /// Its status.
    pub status: u16,
    /// Its field lines and body, and the values in it.
    pub memory: Box<Memory>,
    /// What the client sent behind a body that was read for the parts, and how long that body was.
    pub collected: Option<(Buf, u64)>,
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
    if !plan.response_headers.is_empty() {
        let mut edits = std::mem::take(&mut req.answer_edits);
        plan.response_headers.apply(req, None, &mut edits);
        req.answer_edits = edits;
    }
    let due_ms = ms(cx.started_us).saturating_add(route.timeout_ms.into());
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
            let written = live.snapshot.errors.open(&failure.row, &req.request_id, &mut body.text);
            if written.is_open {
                merge::failure_meta(plan, outcomes, &mut body.text);
            }
            body.end();
            (failure.row.status, Some(written))
        }
    };
    write_fields(req, plan, outcomes, complete, failure.as_ref(), written.as_ref(), fields);
    Ok(Merged { status, memory, collected: collected.map(|collected| (collected.leftover, collected.received)) })
}

/// Writes the field lines of an answer, but for Content-Length, Date and Connection.
fn write_fields(
    req: &Request,
    plan: &Aggregate,
    outcomes: &[Outcome],
    complete: bool,
    failure: Option<&Failure>,
    written: Option<&Written<'_>>,
    out: &mut Vec<u8>,
) {
    out.clear();
    let edits = &req.answer_edits;
    let mut own = |name: &[u8], write: &dyn Fn(&mut Vec<u8>)| {
        if !edits.replaces(name) {
            encode::field_of(name, write, out);
        }
    };
    let content_type = written.filter(|written| !written.content_type.eq(b"application/json"));
    let content_type = content_type.map_or(CONTENT_TYPE, |written| written.content_type);
    own(b"Content-Type", &|out| out.extend_from_slice(content_type));
    if written.is_some_and(|written| written.is_own) {
        own(b"X-Request-Id", &|out| out.extend_from_slice(req.request_id.as_bytes()));
    }
    if let Some(name) = &plan.completed_header {
        own(name.as_bytes(), &|out| out.extend_from_slice(if complete { b"true" } else { b"false" }));
    }
    if !complete {
        own(b"Cache-Control", &|out| out.extend_from_slice(b"no-store"));
    }
    if let Some(seconds) = failure.and_then(|failure| failure.retry_after) {
        own(b"Retry-After", &|out| encode::number(seconds.into(), out));
    }
    if plan.server_timing && outcomes.iter().any(|outcome| outcome.from_us.is_some()) {
        own(b"Server-Timing", &|out| server_timing(plan, outcomes, out));
    }
    let lines = match failure {
        Some(failure) => failure.part.filter(|_| failure.row.status == 401),
        None => plan.headers_from,
    };
    let lines = lines.and_then(|index| outcomes.get(index));
    for line in lines.map(|outcome| outcome.lines.as_slice()).unwrap_or_default().split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        let replaced = edits.replaces(name)
            || req.own.replaces(name)
            || (!complete && name.eq_ignore_ascii_case(b"cache-control"));
        if !replaced {
            out.extend_from_slice(line);
        }
    }
    edits.write_added_but(|name| req.own.replaces(name), out);
}

/// `user;dur=12.3, orders;dur=200.1;desc="timeout"` (W3C Server Timing), of those parts that were asked.
fn server_timing(plan: &Aggregate, outcomes: &[Outcome], out: &mut Vec<u8>) {
    let start = out.len();
    for (_, part, outcome) in shown(plan, outcomes).filter(|(_, _, outcome)| outcome.from_us.is_some()) {
        if out.len() > start {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(part.name.as_bytes());
        out.extend_from_slice(b";dur=");
        encode::number(outcome.took_us / 1000, out);
        out.push(b'.');
        encode::number(outcome.took_us % 1000 / 100, out);
        if let Some(reason) = outcome.reason {
            out.extend_from_slice(b";desc=\"");
            out.extend_from_slice(reason.code().as_bytes());
            out.push(b'"');
        }
    }
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
