//! What became of the parts, and what that makes of the whole. No I/O, and no clock.

use crate::core::Held;
use crate::end::PartReason;
use crate::http::head::Span;
use crate::http::reply::{Row, part_row, propagated_row};
use crate::io::Buf;
use crate::json::{self, Shape};
use crate::snapshot::aggregate::{Aggregate, Part};

use super::call::{Answered, Failed};

/// Where a part stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has not begun.
    #[default]
    Waiting,
    /// Its calls run.
    Running,
    /// It has ended.
    Ended,
}

/// Where a part's value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// There is none: null stands for it.
    #[default]
    Nothing,
    /// Its upstream, now.
    Upstream,
    /// Its upstream, earlier.
    Stale,
    /// The config.
    Static,
}

/// What is done with a value before it goes into the answer.
pub enum Edit {
    /// Nothing.
    Never,
    /// It is an item: the array of all of them is edited.
    Later,
    /// It is edited into this buffer.
    Into(Buf),
}

/// One part of one request. Its memory is used again.
#[derive(Default)]
pub struct Outcome {
    /// Where it stands.
    pub phase: Phase,
    /// When it began, in µs since the process began; `None`: it was never asked.
    pub from_us: Option<u64>,
    /// How long it took, in µs.
    pub took_us: u64,
    /// What went wrong. With a value of its upstream, it went wrong for some of its items.
    pub reason: Option<PartReason>,
    /// The status that its upstream answered last.
    pub status: Option<u16>,
    /// Seconds after which to come again, if its upstream limits its callers.
    pub retry_after: Option<u32>,
    /// Where its value comes from.
    pub source: Source,
    /// Whether its upstream has answered any of its calls with success.
    pub live: bool,
    /// Bytes that were received for it.
    pub received: usize,
    /// Its field lines, if they go into the answer.
    pub lines: Vec<u8>,
    /// What its request was made of, if its last good answer may stand for it.
    pub key: Vec<u8>,
    /// The answer as it was received.
    pub buf: Buf,
    /// Where in it the body begins.
    pub body_at: usize,
    /// Where in it the value is, before it is edited.
    pub span: (usize, usize),
    /// The value once it is edited.
    pub edited: Option<Buf>,
    /// What the buffers count against the core's memory.
    pub held: Vec<Held>,
}

impl Outcome {
    /// Ready for the next request. Buffers were taken out before.
    pub fn reset(&mut self) {
        self.lines.clear();
        self.key.clear();
        self.held.clear();
        *self = Self {
            lines: std::mem::take(&mut self.lines),
            key: std::mem::take(&mut self.key),
            held: std::mem::take(&mut self.held),
            ..Self::default()
        };
    }

    /// The value that other parts may use: what was received, before it is edited.
    pub fn value<'a>(&'a self, part: &'a Part) -> &'a [u8] {
        match self.source {
            Source::Nothing => b"null",
            Source::Static => part.fallback.as_deref().unwrap_or(b"null"),
            Source::Upstream | Source::Stale => {
                self.buf.bytes().get(self.span.0..self.span.1).filter(|value| !value.is_empty()).unwrap_or(b"null")
            }
        }
    }

    /// The value that goes into the answer.
    pub fn output<'a>(&'a self, part: &'a Part) -> &'a [u8] {
        match &self.edited {
            Some(edited) if matches!(self.source, Source::Upstream | Source::Stale) => edited.bytes(),
            _ => self.value(part),
        }
    }

    /// Takes an answer in. One without the part's document, or one that can not lie flat among others, is none.
    pub fn accept(&mut self, part: &Part, answered: Answered, edit: Edit) -> Result<(), Failed> {
        let Answered { buf, at, status, lines, held } = answered;
        self.received += buf.len() - at;
        self.held.extend(held);
        (self.buf, self.lines, self.status) = (buf, lines, Some(status));
        self.take_value(part, at, edit)?;
        (self.source, self.live) = (Source::Upstream, true);
        Ok(())
    }

    /// Takes the array of a `for_each` in, whose items have been taken in before.
    pub fn accept_array(&mut self, part: &Part, array: Buf, reason: Option<PartReason>, edit: Edit) {
        self.span = (0, array.len());
        self.buf = array;
        (self.source, self.reason) = (Source::Upstream, reason);
        if let Edit::Into(mut edited) = edit {
            part.edit.apply(self.buf.bytes(), edited.vec());
            self.edited = Some(edited);
        }
    }

    /// Finds the value in the buffer behind `at`, and edits it.
    pub fn take_value(&mut self, part: &Part, at: usize, edit: Edit) -> Result<(), Failed> {
        self.body_at = at;
        let body = self.buf.bytes().get(at..).unwrap_or_default();
        let whole = if body.is_empty() { b"null" } else { json::trim(body) };
        let value = json::find(whole, &part.document).ok_or(Failed::because(PartReason::BadBody))?;
        let lies_flat = part.key.is_empty() && !part.is_shadow();
        if lies_flat && !matches!(json::shape(value), Some(Shape::Object | Shape::Null)) {
            return Err(Failed::because(PartReason::BadBody));
        }
        if let Edit::Into(mut edited) = edit {
            part.edit.apply(value, edited.vec());
            self.edited = Some(edited);
        }
        // The null that stands for an empty body is not in the buffer.
        let span = if body.is_empty() { Span::default() } else { Span::within(self.buf.bytes(), value) };
        self.span = (span.start(), span.end());
        Ok(())
    }

    /// The body as it was received.
    pub fn body(&self) -> &[u8] {
        self.buf.bytes().get(self.body_at..).unwrap_or_default()
    }

    /// What it counts against the limit of all parts: what was received for it, now or earlier.
    pub fn bytes(&self) -> usize {
        match self.source {
            Source::Upstream => self.received,
            Source::Stale => self.body().len(),
            Source::Static | Source::Nothing => 0,
        }
    }

    /// Notes that it has no answer of its upstream.
    pub fn fail(&mut self, failed: Failed) {
        self.reason = Some(failed.reason);
        self.status = failed.status.or(self.status);
        (self.retry_after, self.lines) = (failed.retry_after, failed.lines);
        (self.source, self.live, self.edited) = (Source::Nothing, false, None);
    }

    /// Whether it is as it was meant to be: answered in full, or rightly not asked.
    pub fn is_well(&self) -> bool {
        matches!(self.reason, None | Some(PartReason::Condition))
    }

    /// Whether its upstream has answered, now or earlier.
    pub fn is_live(&self) -> bool {
        self.source == Source::Stale || (self.source == Source::Upstream && self.live)
    }

    /// The word for it in meta.
    pub fn state(&self) -> &'static str {
        match (self.source, self.reason) {
            (Source::Upstream, None) => "ok",
            (Source::Upstream, Some(_)) => "partial",
            (Source::Stale | Source::Static, _) => "fallback",
            (Source::Nothing, Some(PartReason::Condition)) => "skipped",
            (Source::Nothing, _) => "failed",
        }
    }
}

/// Those parts of `plan` whose answers count, with their index and what became of them.
pub fn shown<'a>(plan: &'a Aggregate, outcomes: &'a [Outcome]) -> impl Iterator<Item = (usize, &'a Part, &'a Outcome)> {
    let all = plan.parts.iter().zip(outcomes).enumerate().map(|(i, (part, outcome))| (i, part, outcome));
    all.filter(|(_, part, _)| !part.is_shadow())
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Index of the part that decides it.
    pub part: Option<usize>,
    /// The answer's row.
    pub row: Row,
    /// Seconds after which to come again.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// For a request that has failed though no part that is told of has.
    pub fn unnamed() -> Self {
        Self { part: None, row: part_row(PartReason::Cancelled), retry_after: None }
    }
}

/// Whether the request has failed as a whole, and the part that decides how: the first one in declared order that it can
/// not do without. Where nothing live is left, it has failed in any case: fallbacks of the config alone are no answer.
pub fn failure(plan: &Aggregate, outcomes: &[Outcome]) -> Option<Failure> {
    let lost = |outcome: &Outcome| !outcome.is_well() && outcome.reason != Some(PartReason::Cancelled);
    let gone = |outcome: &Outcome| outcome.source == Source::Nothing && lost(outcome);
    let needed = shown(plan, outcomes).find(|(_, part, outcome)| part.needed && gone(outcome));
    let none_live = || {
        let dead = !shown(plan, outcomes).any(|(_, _, outcome)| outcome.is_live());
        if dead { shown(plan, outcomes).find(|(_, _, outcome)| lost(outcome)) } else { None }
    };
    let (index, part, outcome) = needed.or_else(none_live)?;
    let row = match outcome.status.filter(|status| part.propagate_status.contains(status)) {
        Some(status) => propagated_row(status),
        None => part_row(outcome.reason.unwrap_or(PartReason::BadBody)),
    };
    Some(Failure { part: Some(index), row, retry_after: outcome.retry_after })
}
