//! `for_each`: a call for each item of an array, so many at a time, and their answers as an array in the items' order.

use std::future::Future;

use crate::end::PartReason;
use crate::json::{self, Shape, Step};
use crate::snapshot::aggregate::{ForEach, OnMissing, Part, Reference};

use super::super::call::{Failed, Order};
use super::super::outcome::{Edit, Outcome, Phase, Source};
use super::super::render::VALUE_BYTES_MAX;
use super::{CallResult, Fanout, Stop};

/// Values by the place of their reference; `None` for one that differs from item to item.
pub(super) type Known = Vec<Option<Vec<u8>>>;

/// The calls of a `for_each`.
#[derive(Default)]
pub(super) struct Items {
    list: Vec<Item>,
    next: usize,
    pub(super) open: usize,
    /// There were more than may be asked for.
    too_many: bool,
    /// What the part's templates take from other parts, by the place of the reference: the same for every item.
    known: Known,
}

impl Items {
    fn received(&self) -> usize {
        self.list.iter().map(|item| item.outcome.received).sum()
    }
}

/// One item.
#[derive(Default)]
pub(super) struct Item {
    pub(super) json: Vec<u8>,
    pub(super) outcome: Outcome,
}

impl<'a, F, M> Fanout<'a, F, M>
where
    F: Future<Output = CallResult>,
    M: Fn(Order) -> F,
{
    /// Begins a part that asks once for each item.
    pub(super) fn begin_items(&mut self, index: usize, part: &'a Part, for_each: &'a ForEach) -> Result<(), Stop> {
        let mut found = Vec::new();
        let source = for_each
            .items
            .part
            .and_then(|other| Some(self.memory.outcomes.get(other)?.value(self.about.plan.parts.get(other)?)));
        let path = &for_each.items.path;
        let each = path.iter().position(|step| matches!(step, Step::Each));
        let array = path.get(..each.unwrap_or(path.len())).and_then(|path| json::find(source?, path));
        let Some(array) = array.filter(|array| json::shape(array) == Some(Shape::Array)) else {
            return match part.on_missing {
                OnMissing::Skip => self.skip(index),
                OnMissing::Fail => self.failed(index, part, Failed::because(PartReason::Dependency)),
            };
        };
        // The array itself may be named instead of what is in it.
        let whole = match each.and_then(|each| path.get(each..)) {
            Some(path) => json::find_all(array, path, &mut found, for_each.max + 1),
            None => {
                found.extend(json::elements(array).take(for_each.max + 1));
                true
            }
        };
        let too_many = !whole || found.len() > for_each.max;
        found.truncate(for_each.max);
        let list: Vec<Item> =
            found.iter().map(|json| Item { json: json.to_vec(), outcome: Outcome::default() }).collect();
        if self.memory.items.is_empty() {
            self.memory.items.resize_with(self.about.plan.parts.len(), Items::default);
        }
        let of_parts = |reference: &Reference| {
            reference.part.map(|_| self.lookup(reference, None).filter(|json| json.len() <= VALUE_BYTES_MAX))
        };
        let known = part.values.iter().map(|value| of_parts(value).map(|json| json.unwrap_or_default().to_vec()));
        let known = known.collect();
        if let Some(items) = self.memory.items.get_mut(index) {
            *items = Items { list, too_many, known, ..Items::default() };
        }
        let now_us = self.now_us;
        let outcome = self.outcome(index);
        outcome.phase = Phase::Running;
        outcome.from_us = Some(now_us);
        self.next_items(index, part, for_each)
    }

    /// Begins as many items as may run; ends the part once none is left.
    fn next_items(&mut self, index: usize, part: &'a Part, for_each: &ForEach) -> Result<(), Stop> {
        loop {
            let Some(items) = self.memory.items.get_mut(index) else { return Ok(()) };
            if items.next == items.list.len() {
                return if items.open == 0 { self.items_ended(index, part) } else { Ok(()) };
            }
            if items.open >= for_each.concurrency {
                return Ok(());
            }
            let item = items.next;
            items.next += 1;
            items.open += 1;
            self.ask(index, part, Some(item))?;
            if self.outcome(index).phase == Phase::Ended {
                return Ok(());
            }
        }
    }

    /// Takes in what came of an item. One that failed, and that nothing stands for, ends a part that is needed whole.
    pub(super) fn item_ended(
        &mut self,
        index: usize,
        part: &'a Part,
        item: usize,
        result: CallResult,
    ) -> Result<(), Stop> {
        let Some(mut outcome) = self.item(index, item).map(|item| std::mem::take(&mut item.outcome)) else {
            return Ok(());
        };
        let result = result.and_then(|answered| outcome.accept(part, answered, Edit::Later));
        let mut lost = None;
        match result {
            Ok(()) => self.keep(part, &outcome),
            Err(failed) => {
                outcome.fail(failed.clone());
                self.recall(part, &mut outcome, true);
                match outcome.source {
                    Source::Stale => part.metrics.fallback_stale.add(1),
                    _ if part.needed && !outcome.is_well() => lost = Some(failed),
                    _ => {}
                }
            }
        }
        if let Some(place) = self.item(index, item) {
            place.outcome = outcome;
        }
        match lost {
            Some(failed) => {
                self.give_up(index);
                self.failed(index, part, failed)
            }
            None => Ok(()),
        }
    }

    /// Puts the items' values into one array, in their order. Those that failed are null.
    fn items_ended(&mut self, index: usize, part: &'a Part) -> Result<(), Stop> {
        let core = &self.about.plane.core;
        let Some(items) = self.memory.items.get_mut(index).map(std::mem::take) else { return Ok(()) };
        let length = items.list.iter().map(|item| item.outcome.value(part).len() + 1).sum::<usize>() + 2;
        let mut array_held = core.hold();
        array_held.grow(length)?;
        let mut array = core.buffers.take(length);
        array.extend(b"[");
        for (n, item) in items.list.iter().enumerate() {
            if n > 0 {
                array.extend(b",");
            }
            array.extend(item.outcome.value(part));
        }
        array.extend(b"]");
        let (received, too_many) = (items.received(), items.too_many);
        let first_failed = items.list.iter().find(|item| !item.outcome.is_well()).map(|item| &item.outcome);
        let mut failed = first_failed.map(|outcome| {
            let failed = Failed::because(outcome.reason.unwrap_or(PartReason::BadBody));
            Failed { status: outcome.status, retry_after: outcome.retry_after, ..failed }
        });
        if too_many {
            failed.get_or_insert(Failed::because(PartReason::TooLarge));
        }
        let any_live = items.list.iter().any(|item| item.outcome.is_live());
        let status = items.list.iter().find_map(|item| item.outcome.status);
        let mut held = vec![array_held];
        for item in items.list {
            core.buffers.give(item.outcome.buf);
            held.extend(item.outcome.held);
        }
        let outcome = self.outcome(index);
        (outcome.received, outcome.status, outcome.held, outcome.live) = (received, status, held, any_live);
        let cut = too_many && part.needed;
        match failed {
            Some(failed) if cut || !any_live => return self.failed(index, part, failed),
            failed => {
                let edit = self.edit(index, part, array.len())?;
                self.outcome(index).accept_array(part, array, failed.map(|failed| failed.reason), edit);
            }
        }
        self.end(index);
        Ok(())
    }

    /// An item's call has ended: the next one may begin.
    pub(super) fn item_finished(
        &mut self,
        index: usize,
        part: &'a Part,
        for_each: &ForEach,
        item: usize,
        result: CallResult,
    ) -> Result<(), Stop> {
        if let Some(items) = self.memory.items.get_mut(index) {
            items.open = items.open.saturating_sub(1);
        }
        self.item_ended(index, part, item, result)?;
        if self.outcome(index).phase == Phase::Ended {
            return Ok(());
        }
        let received: usize = self.memory.items.get(index).map_or(0, Items::received);
        if received > self.about.plan.part_bytes_max {
            self.give_up(index);
            return self.failed(index, part, Failed::because(PartReason::TooLarge));
        }
        self.next_items(index, part, for_each)
    }

    /// Ends the calls of a part that has failed.
    fn give_up(&mut self, index: usize) {
        self.calls.retain(|call| call.part != index);
    }

    /// The JSON of an item, which is needed once, and what is known for all of them; to be put back.
    pub(super) fn take_item(&mut self, index: usize, item: usize) -> Option<(Vec<u8>, Known)> {
        let items = self.memory.items.get_mut(index)?;
        let known = std::mem::take(&mut items.known);
        Some((std::mem::take(&mut items.list.get_mut(item)?.json), known))
    }

    /// Puts back what [`Self::take_item`] took.
    pub(super) fn put_known(&mut self, index: usize, known: Known) {
        if let Some(items) = self.memory.items.get_mut(index) {
            items.known = known;
        }
    }

    /// An item, if there it is.
    pub(super) fn item(&mut self, index: usize, item: usize) -> Option<&mut Item> {
        self.memory.items.get_mut(index)?.list.get_mut(item)
    }
}
