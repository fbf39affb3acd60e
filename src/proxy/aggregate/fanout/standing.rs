//! What stands for a part that failed: its last good answer, or a value of the config; and good answers kept for that.

use std::future::Future;

use crate::core::ms;
use crate::end::PartReason;
use crate::snapshot::aggregate::Part;

use super::super::call::{Failed, Order};
use super::super::outcome::{Edit, Outcome, Source};
use super::{CallResult, Fanout, Stop};

impl<'a, F, M> Fanout<'a, F, M>
where
    F: Future<Output = CallResult>,
    M: Fn(Order) -> F,
{
    /// Notes a failure; what stands for the part may save the whole.
    pub(super) fn failed(&mut self, index: usize, part: &'a Part, failed: Failed) -> Result<(), Stop> {
        self.end(index);
        let mut outcome = std::mem::take(self.outcome(index));
        outcome.fail(failed);
        self.recall(part, &mut outcome, false);
        *self.outcome(index) = outcome;
        self.or_static(index, part)
    }

    /// Takes the value of an answer back that is good in itself and can not be used here: nor can one like it.
    pub(super) fn refused(&mut self, index: usize, part: &'a Part, reason: PartReason) -> Result<(), Stop> {
        let status = self.outcome(index).status;
        self.outcome(index).fail(Failed { status, ..Failed::because(reason) });
        self.or_static(index, part)
    }

    /// The value of the config stands for a part that has none; without one the whole may be lost.
    fn or_static(&mut self, index: usize, part: &'a Part) -> Result<(), Stop> {
        let outcome = self.outcome(index);
        if outcome.source == Source::Nothing && part.fallback.is_some() {
            outcome.source = Source::Static;
        }
        if outcome.source == Source::Nothing && part.needed { Err(Stop::Lost) } else { Ok(()) }
    }

    /// Keeps a good answer for a time when there is none.
    pub(super) fn keep(&self, part: &Part, outcome: &Outcome) {
        if part.stale_ms.is_some() {
            let (core, bytes_max) = (&self.about.plane.core, self.about.live.snapshot.stale_bytes_max);
            core.last_good.keep(&outcome.key, outcome.body(), ms(self.now_us), bytes_max);
        }
    }

    /// Takes the last good answer in place of one that failed.
    pub(super) fn recall(&self, part: &Part, outcome: &mut Outcome, is_item: bool) {
        let Some(age_ms) = part.stale_ms.filter(|_| !outcome.key.is_empty()) else { return };
        let core = &self.about.plane.core;
        let Some(body) = core.last_good.get(&outcome.key, ms(self.now_us), age_ms) else { return };
        let mut buf = core.buffers.take(body.len());
        buf.extend(&body);
        core.buffers.give(std::mem::replace(&mut outcome.buf, buf));
        let edit = match (is_item, part.edit.is_nothing()) {
            (true, _) => Edit::Later,
            (false, true) => Edit::Never,
            (false, false) => Edit::Into(core.buffers.take(body.len())),
        };
        // The config may have changed since: what it asks for now may not be in it.
        if outcome.take_value(part, 0, edit).is_ok() {
            outcome.source = Source::Stale;
        }
    }
}
