//! The graph of parts at work: what can begin does, what has ended lets others begin, and what can not be done without
//! ends the whole. All calls run in the request's own task.

mod items;
mod standing;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::core::ms;
use crate::end::PartReason;
use crate::error::{Error, Kind};
use crate::io::guard;
use crate::io::recycle::{Recycler, Running};
use crate::json;
use crate::request::Request;
use crate::snapshot::aggregate::{Aggregate, OnMissing, Part, Parts, Reference};

use super::super::checkout::Wanted;
use super::super::finish::kind_of;
use super::super::plane::{Downstream, Live, Plane};
use super::call::{Answered, Failed, Order};
use super::outcome::{Edit, Outcome, Phase, Source};
use super::render::{PartFacts, Sender, Values};
use super::{merge, shadow};
use items::{Items, Known};

/// Requests of parts are small: the client's fields are not passed on but for a few. Larger ones grow their buffer.
const REQUEST_BYTES: usize = 2 * 1024;

/// Why a fan-out ends before all of its parts have.
pub enum Stop {
    /// A part failed that the whole can not do without.
    Lost,
    /// The request itself can not go on: its client left, the gateway stops, memory is out.
    Broken(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Broken(e)
    }
}

/// What a request's fan-out works on. The memory is the plane's.
#[derive(Default)]
pub struct Memory {
    /// By the index of the part.
    pub outcomes: Vec<Outcome>,
    /// The answer's body.
    pub body: merge::Body,
    /// The answer's field lines.
    pub fields: Vec<u8>,
    values: Values,
    /// By the index of the part; empty where no part asks for each item of something.
    items: Vec<Items>,
    finished: Vec<Finished>,
}

/// What a fan-out is about.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The plan.
    pub plan: &'a Aggregate,
    /// The index of its route.
    pub route: usize,
    /// The client's request.
    pub req: &'a Request,
    /// Its body, if parts pass it on.
    pub body: &'a [u8],
    /// The snapshot.
    pub live: &'a Rc<Live>,
    /// The worker's data plane.
    pub plane: &'a Rc<Plane>,
    /// The client's connection.
    pub down: &'a Rc<Downstream>,
    /// When the route's time is over, in ms since the process began.
    pub due_ms: u64,
}

/// Calls that run, in recycled boxes.
pub struct Fanout<'a, F, M> {
    about: About<'a>,
    memory: &'a mut Memory,
    recycler: &'a Recycler<F>,
    make: M,
    calls: Vec<Call<'a, F>>,
    /// Stands for a part that does not exist, which no index is of.
    nobody: Outcome,
    /// When this turn began, in µs since the process began: the clock is read once for all that it does.
    now_us: u64,
    /// Since when any call runs, in µs since the process began.
    busy_from_us: Option<u64>,
    /// How long any call ran, in µs: the union of their times.
    pub busy_us: u64,
}

struct Call<'a, F> {
    part: usize,
    item: Option<usize>,
    running: Running<'a, F>,
}

type CallResult = Result<Answered, Failed>;
/// Part, item, and what came of it.
type Finished = (usize, Option<usize>, CallResult);

impl Memory {
    /// Gives back what the request no longer needs.
    pub fn release(&mut self, buffers: &crate::io::Buffers) {
        for outcome in &mut self.outcomes {
            buffers.give(std::mem::take(&mut outcome.buf));
            if let Some(edited) = outcome.edited.take() {
                buffers.give(edited);
            }
            outcome.reset();
        }
        self.items.clear();
    }
}

impl<'a, F, M> Fanout<'a, F, M>
where
    F: Future<Output = CallResult>,
    M: Fn(Order) -> F,
{
    /// A fan-out that has not begun.
    pub fn new(about: About<'a>, memory: &'a mut Memory, recycler: &'a Recycler<F>, make: M) -> Self {
        let count = about.plan.parts.len();
        memory.outcomes.resize_with(count, Outcome::default);
        memory.body.clear();
        let calls = Vec::with_capacity(count);
        let now_us = about.plane.core.clock.now_us();
        let nobody = Outcome::default();
        Self { about, memory, recycler, make, calls, nobody, now_us, busy_from_us: None, busy_us: 0 }
    }

    /// Runs all parts to their end, or until it must stop: then the others are given up, and their connections closed.
    pub async fn run(&mut self) -> Result<(), Stop> {
        let result = self.run_parts().await;
        self.calls.clear();
        self.idle();
        for index in 0..self.about.plan.parts.len() {
            if self.outcome(index).phase != Phase::Ended {
                self.end(index);
                self.outcome(index).reason = Some(PartReason::Cancelled);
            }
        }
        result
    }

    async fn run_parts(&mut self) -> Result<(), Stop> {
        loop {
            self.begin_ready()?;
            if self.calls.is_empty() {
                return self.settle();
            }
            self.wait().await?;
            let mut finished = std::mem::take(&mut self.memory.finished);
            // Declared order decides, not who was faster by a hair.
            finished.sort_unstable_by_key(|(part, item, _)| (*part, *item));
            for (part, item, result) in finished.drain(..) {
                if let Err(Failed { fatal: Some(kind), .. }) = &result {
                    return Err(kind.never().into());
                }
                self.finished(part, item, result)?;
            }
            self.memory.finished = finished;
            if self.calls.is_empty() {
                self.idle();
            }
        }
    }

    /// Waits until some calls have ended.
    async fn wait(&mut self) -> Result<(), Error> {
        let (calls, finished) = (&mut self.calls, &mut self.memory.finished);
        let ended = poll_fn(|cx| {
            let mut i = 0;
            while let Some(call) = calls.get_mut(i) {
                match Pin::new(&mut call.running).poll(cx) {
                    Poll::Ready(result) => {
                        let call = calls.swap_remove(i);
                        finished.push((call.part, call.item, result));
                    }
                    Poll::Pending => i += 1,
                }
            }
            if finished.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        });
        // Each call has its own deadline; this one only sees the client leave and the gateway stop.
        let ended = guard(&self.about.down.slot, u64::MAX, ended).await;
        self.now_us = self.about.plane.core.clock.now_us();
        ended.map_err(|fired| kind_of(fired, Kind::Internal).never())
    }

    /// Begins what can begin, and what can once that has ended at once.
    fn begin_ready(&mut self) -> Result<(), Stop> {
        loop {
            let ended = self.ended();
            let ready = |(index, part): (usize, &Part)| {
                let waits = self.memory.outcomes.get(index).is_some_and(|outcome| outcome.phase == Phase::Waiting);
                (waits && part.after & !ended == 0).then_some(index)
            };
            let ready: Parts = self.about.plan.parts.iter().enumerate().filter_map(ready).map(bit).sum();
            if ready == 0 {
                return Ok(());
            }
            for index in (0..self.about.plan.parts.len()).filter(|index| ready & bit(*index) != 0) {
                self.begin(index)?;
            }
            if self.ended() == ended {
                return Ok(());
            }
        }
    }

    fn begin(&mut self, index: usize) -> Result<(), Stop> {
        let Some(part) = self.about.plan.parts.get(index) else { return Ok(()) };
        if let Some(per_million) = part.shadow_per_million
            && !self.about.plane.core.random.borrow_mut().draws(per_million)
        {
            self.end(index);
            return Ok(());
        }
        if let Some(when) = &part.when {
            self.take_values(part.when_values.iter(), None);
            if !when.holds(&PartFacts { req: self.about.req, values: &self.memory.values, left_ms: None }) {
                return self.skip(index);
            }
        }
        let lost =
            |other: usize| self.memory.outcomes.get(other).is_some_and(|o| o.source == Source::Nothing && !o.is_well());
        if (0..self.about.plan.parts.len()).any(|other| part.needs & bit(other) != 0 && lost(other)) {
            return self.failed(index, part, Failed::because(PartReason::Dependency));
        }
        match &part.for_each {
            Some(for_each) => self.begin_items(index, part, for_each),
            None => self.ask(index, part, None),
        }
    }

    /// Sends the request of a part, or of an item of it.
    fn ask(&mut self, index: usize, part: &'a Part, item: Option<usize>) -> Result<(), Stop> {
        let there = match item.and_then(|item| self.take_item(index, item)) {
            None => self.take_values(part.values.iter(), None),
            Some((json, known)) => {
                let there = self.take_values(part.values.iter(), Some((&json, &known)));
                self.put_known(index, known);
                there
            }
        };
        if !there {
            return match (part.on_missing, item) {
                (OnMissing::Skip, None) => self.skip(index),
                (OnMissing::Skip, Some(_)) => self.not_sent(index, part, item, PartReason::Condition),
                (OnMissing::Fail, _) => self.not_sent(index, part, item, PartReason::Dependency),
            };
        }
        let About { live, plane, down, req, body, .. } = self.about;
        let Some(spec) = live.snapshot.upstreams.get(part.upstream) else { return Err(Kind::Internal.never().into()) };
        if part.stale_ms.is_some() {
            let mut key = Vec::new();
            let facts = PartFacts { req, values: &self.memory.values, left_ms: None };
            let route = live.snapshot.routes.get(self.about.route).map_or("", |route| &route.name);
            if !(Sender { part, facts, body, down }).write_key(route, &spec.name, &mut key) {
                key.clear();
            }
            if let Some(place) = self.place(index, item) {
                place.key = key;
            }
        }
        let due_ms = self.about.due_ms.min(ms(self.now_us).saturating_add(part.timeout_ms.into()));
        let endpoints = live.endpoints(part.upstream);
        let wanted = Wanted { spec, endpoints, core: &plane.core, slot: &down.slot, client: None, due_ms };
        let key = spec.key_of(req, Some(self.about.route), &plane.core);
        let Ok(endpoint) = wanted.pick(key) else { return self.not_sent(index, part, item, PartReason::Connect) };
        let host = spec.host_of(endpoint);
        let mut out = plane.core.buffers.take(REQUEST_BYTES);
        let left_ms = Some(due_ms.saturating_sub(ms(self.now_us)));
        let facts = PartFacts { req, values: &self.memory.values, left_ms };
        let fits = Sender { part, facts, body, down }.write(host, out.vec());
        if !fits {
            return self.not_sent(index, part, item, PartReason::Dependency);
        }
        let is_shadow = part.is_shadow();
        let mut held = if is_shadow { plane.core.hold_for_shadow() } else { plane.core.hold() };
        match held.grow(out.capacity()) {
            Ok(()) => {}
            Err(_) if is_shadow => return self.not_sent(index, part, item, PartReason::Cancelled),
            Err(e) => return Err(e.into()),
        }
        let order = Order {
            plane: Rc::clone(plane),
            live: Rc::clone(live),
            route: self.about.route,
            part: index,
            endpoint,
            key,
            lease: if is_shadow { None } else { wanted.take_idle(endpoint, self.now_us) },
            out,
            due_ms,
            held,
        };
        if is_shadow {
            shadow::send(order);
            match item.and_then(|_| self.memory.items.get_mut(index)) {
                Some(items) => items.open = items.open.saturating_sub(1),
                None => self.end(index),
            }
            return Ok(());
        }
        let now_us = self.now_us;
        let outcome = self.outcome(index);
        outcome.phase = Phase::Running;
        outcome.from_us.get_or_insert(now_us);
        self.busy_from_us.get_or_insert(now_us);
        let running = self.recycler.run(|| (self.make)(order));
        self.calls.push(Call { part: index, item, running });
        Ok(())
    }

    /// A request that can not be made.
    fn not_sent(&mut self, index: usize, part: &'a Part, item: Option<usize>, reason: PartReason) -> Result<(), Stop> {
        let failed = Failed::because(reason);
        match item {
            None => self.failed(index, part, failed),
            Some(item) => {
                if let Some(items) = self.memory.items.get_mut(index) {
                    items.open = items.open.saturating_sub(1);
                }
                self.item_ended(index, part, item, Err(failed))
            }
        }
    }

    /// Looks up values that a template or a condition names; whether all are scalars that say something.
    fn take_values(&mut self, references: impl Iterator<Item = &'a Reference>, item: Option<(&[u8], &Known)>) -> bool {
        let mut values = std::mem::take(&mut self.memory.values);
        values.clear();
        let mut there = true;
        for (n, reference) in references.enumerate() {
            // What is the same for all items was looked up once for them.
            let known = item.and_then(|(_, known)| known.get(n)?.as_deref());
            let json = known.or_else(|| self.lookup(reference, item.map(|(json, _)| json))).unwrap_or_default();
            there &= values.push(json, json::scalar_text);
        }
        self.memory.values = values;
        there
    }

    fn lookup<'s>(&'s self, reference: &Reference, item: Option<&'s [u8]>) -> Option<&'s [u8]> {
        let value = match reference.part {
            None => item?,
            Some(other) => self.memory.outcomes.get(other)?.value(self.about.plan.parts.get(other)?),
        };
        json::find(value, &reference.path)
    }

    fn finished(&mut self, index: usize, item: Option<usize>, result: CallResult) -> Result<(), Stop> {
        let Some(part) = self.about.plan.parts.get(index) else { return Ok(()) };
        if self.outcome(index).phase == Phase::Ended {
            return Ok(()); // given up in the same turn
        }
        if let (Some(item), Some(for_each)) = (item, &part.for_each) {
            return self.item_finished(index, part, for_each, item, result);
        }
        let edit = match &result {
            Ok(answered) => self.edit(index, part, answered.buf.len())?,
            Err(_) => Edit::Never,
        };
        let accepted = result.and_then(|answered| self.outcome(index).accept(part, answered, edit));
        match accepted {
            Ok(()) => {
                if let Some(outcome) = self.memory.outcomes.get(index) {
                    self.keep(part, outcome);
                }
                self.end(index);
                Ok(())
            }
            Err(failed) => self.failed(index, part, failed),
        }
    }

    fn skip(&mut self, index: usize) -> Result<(), Stop> {
        self.end(index);
        self.outcome(index).reason = Some(PartReason::Condition);
        Ok(())
    }

    /// Room for the edited value, if it is to be edited.
    fn edit(&mut self, index: usize, part: &Part, bytes: usize) -> Result<Edit, Stop> {
        if part.edit.is_nothing() {
            return Ok(Edit::Never);
        }
        let core = &self.about.plane.core;
        let mut held = core.hold();
        held.grow(bytes)?;
        let edited = core.buffers.take(bytes);
        self.outcome(index).held.push(held);
        Ok(Edit::Into(edited))
    }

    /// What can be said only once all are there: whether they are too much together, or in each other's way.
    fn settle(&mut self) -> Result<(), Stop> {
        let plan = self.about.plan;
        let mut total = 0_usize;
        for (index, part) in plan.parts.iter().enumerate() {
            let bytes = self.outcome(index).bytes();
            if total.saturating_add(bytes) > plan.total_bytes_max {
                self.refused(index, part, PartReason::TooLarge)?;
            } else {
                total += bytes;
            }
        }
        while let Some(index) = merge::conflict(plan, &self.memory.outcomes) {
            let Some(part) = plan.parts.get(index) else { break };
            self.refused(index, part, PartReason::BadBody)?;
        }
        Ok(())
    }

    fn ended(&self) -> Parts {
        let ended = |(index, outcome): (usize, &Outcome)| (outcome.phase == Phase::Ended).then_some(index);
        self.memory.outcomes.iter().enumerate().filter_map(ended).map(bit).sum()
    }

    fn end(&mut self, index: usize) {
        let now_us = self.now_us;
        let outcome = self.outcome(index);
        if outcome.phase != Phase::Ended {
            outcome.phase = Phase::Ended;
            outcome.took_us = outcome.from_us.map_or(0, |from| now_us.saturating_sub(from));
        }
    }

    fn idle(&mut self) {
        if let Some(from) = self.busy_from_us.take() {
            self.busy_us += self.now_us.saturating_sub(from);
        }
    }

    fn outcome(&mut self, index: usize) -> &mut Outcome {
        match self.memory.outcomes.get_mut(index) {
            Some(outcome) => outcome,
            None => &mut self.nobody,
        }
    }

    fn place(&mut self, index: usize, item: Option<usize>) -> Option<&mut Outcome> {
        match item {
            None => self.memory.outcomes.get_mut(index),
            Some(item) => self.item(index, item).map(|item| &mut item.outcome),
        }
    }
}

fn bit(index: usize) -> Parts {
    1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0)
}
