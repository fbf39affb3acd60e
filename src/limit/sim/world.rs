//! The simulated world: processes with cores and control, a network, one Redis, faults, and a virtual clock. What runs
//! in it is the code that serves; only Redis is the model of its scripts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::oracle::Oracle;
use super::process::Process;
use super::setup::{Defect, Faults, Random, Seen, Setup};
use crate::limit::OnUnavailable;
use crate::limit::model::{Call, Central};
use crate::limit::sync::{ALIVE_US, Answer, Ask, HEARTBEAT_US, PERIOD_URGENT_US, PERIOD_US};

/// The simulation begins here: a wall clock's time in µs, and no round number.
pub(super) const BEGIN_US: u64 = 1_700_000_000_000_123;

pub(super) enum Event {
    Request,
    Control(usize),
    Sweep(usize),
    /// A message reaches Redis.
    Arrive(Message),
    /// Its answer reaches the process.
    Reply(Message, u64, Vec<Answer>, u64),
    Timeout(Message),
    Fault,
    Thaw,
}

#[derive(Clone)]
pub(super) struct Message {
    pub(super) process: usize,
    pub(super) life: u32,
    pub(super) asks: Vec<Ask>,
    pub(super) call: Option<Call>,
    pub(super) sent_us: u64,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) redis: Central,
    pub(super) redis_offset: i64,
    pub(super) frozen_until: u64,
    /// Messages at a frozen Redis' door.
    pub(super) door: Vec<Message>,
    pub(super) processes: Vec<Process>,
    pub(super) events: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) bodies: BTreeMap<u64, Event>,
    pub(super) sequence: u64,
    pub(super) oracles: Vec<Oracle>,
    pub(super) seen: Seen,
    pub(super) faults: Vec<String>,
}

impl World {
    /// Runs to the end, or to the first broken promise.
    pub(super) fn run(setup: Setup) -> Result<Seen, String> {
        let mut world = World::new(setup);
        let end = BEGIN_US + setup.length_us;
        while let Some(Reverse((at, id))) = world.events.pop() {
            if at > end {
                break;
            }
            world.now = at;
            let Some(event) = world.bodies.remove(&id) else { continue };
            if let Err(what) = world.step(event) {
                return Err(format!("{what}\n{setup:?}\n{}", world.faults.join("\n")));
            }
        }
        (0..setup.processes).try_for_each(|i| world.conserved(i))?;
        for oracle in &world.oracles {
            world.seen.worst = world.seen.worst.max(oracle.worst);
            world.seen.allowed = oracle.allowed();
            world.seen.admitted += oracle.admitted;
        }
        Ok(world.seen)
    }

    pub(super) fn new(setup: Setup) -> Self {
        let mut random = Random(setup.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let n = setup.processes as u64;
        let processes = (0..setup.processes).map(|i| Process::new(&setup, i, 0, BEGIN_US, &mut random)).collect();
        let mut world = World {
            setup,
            now: BEGIN_US,
            random,
            redis: Central::default(),
            redis_offset: 0,
            frozen_until: 0,
            door: Vec::new(),
            processes,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            sequence: 0,
            oracles: (0..setup.keys).map(|_| Oracle::new(&setup.spec, n, n)).collect(),
            seen: Seen::default(),
            faults: Vec::new(),
        };
        // All are known before the first request, so that N is the same for all from the start.
        for _ in 0..2 {
            (0..setup.processes).for_each(|i| world.first_beat(i));
        }
        world.at(1, Event::Request);
        for i in 0..setup.processes {
            let offset = world.random.below(PERIOD_URGENT_US);
            world.at(offset, Event::Control(i));
            world.at(offset, Event::Sweep(i));
        }
        if setup.faults != Faults::None {
            world.at(200_000, Event::Fault);
        }
        world
    }

    pub(super) fn be_known(&mut self, i: usize) {
        let redis_us = self.redis_clock();
        self.redis.heartbeat(&self.processes[i].who, ALIVE_US, redis_us);
    }

    pub(super) fn first_beat(&mut self, i: usize) {
        let redis_us = self.redis_clock();
        let process = &mut self.processes[i];
        let n = self.redis.heartbeat(&process.who, ALIVE_US, redis_us);
        let local = process.clock(self.now);
        process.sync.heard(local, n);
        process.stamps.heard(redis_us as u64, local);
        (process.beat_us, process.drained_us) = (self.now, self.now);
    }

    pub(super) fn at(&mut self, after_us: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after_us, self.sequence)));
        self.bodies.insert(self.sequence, event);
    }

    pub(super) fn redis_clock(&self) -> i64 {
        self.now as i64 + self.redis_offset
    }

    pub(super) fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Request => {
                let mean = (1_000_000.0 / self.setup.demand) as u64;
                let gap = self.random.below(2 * mean + 1);
                self.at(gap, Event::Request);
                // Now and then a page with many parts.
                let burst = if self.random.one_in(50) { 10 } else { 1 };
                (0..burst).try_for_each(|_| self.request())
            }
            Event::Control(i) => {
                self.at(PERIOD_URGENT_US, Event::Control(i));
                self.control(i)
            }
            Event::Sweep(i) => {
                self.at(20_000, Event::Sweep(i));
                let process = &self.processes[i];
                if process.paused_until <= self.now {
                    let now = process.clock(self.now);
                    process.cores.iter().for_each(|core| core.sweep(&self.setup.spec, now));
                }
                Ok(())
            }
            Event::Arrive(message) => {
                self.arrive(message);
                Ok(())
            }
            Event::Reply(message, n, answers, redis_us) => {
                self.reply(&message, n, &answers, redis_us);
                Ok(())
            }
            Event::Timeout(message) => {
                let process = &mut self.processes[message.process];
                if process.life == message.life {
                    message.asks.iter().for_each(|ask| process.sync.lost(ask));
                }
                Ok(())
            }
            Event::Fault => {
                let after = 100_000 + self.random.below(1_500_000);
                self.at(after, Event::Fault);
                self.fault();
                Ok(())
            }
            Event::Thaw => {
                let mut waiting = std::mem::take(&mut self.door);
                // Redis reads its connections in any order.
                if self.random.one_in(2) {
                    waiting.reverse();
                }
                waiting.into_iter().for_each(|m| self.arrive(m));
                Ok(())
            }
        }
    }

    pub(super) fn request(&mut self) -> Result<(), String> {
        let n = self.processes.len() as u64;
        let (i, c) =
            if self.setup.one_core { (0, 0) } else { (self.random.below(n), self.random.below(self.setup.cores)) };
        let key = self.random.below(self.setup.keys);
        let cost = 1 + self.random.below(self.setup.spec.set().cost_max);
        let process = &self.processes[i as usize];
        if process.paused_until > self.now {
            return Ok(());
        }
        self.seen.requests += 1;
        let mut now = process.clock(self.now);
        let is_set_back = self.has_faults() && self.random.one_in(200);
        if is_set_back {
            now -= self.random.below(2_000_000);
        } else if self.has_faults() && self.random.one_in(20) {
            // A core that read its clock a little earlier.
            now -= self.random.below(300);
        }
        let core = &process.cores[c as usize];
        let before = core.counts();
        let decision = core.check(&self.setup.spec, &key.to_le_bytes(), cost, now);
        let after = core.counts();
        if !decision.is_allowed() {
            return Ok(());
        }
        let is_away = after.away > before.away;
        let is_alone = is_away
            && self
                .processes
                .iter()
                .enumerate()
                .any(|(other, p)| other != i as usize && p.contact() > process.contact() + 100_000);
        if after.spent > before.spent && !is_set_back {
            let granted = process.granted_us.get(&key).copied().unwrap_or(0);
            let life = self.setup.spec.set().life_us;
            // The clocks' drift over one life.
            if self.now > granted + life + life / 1000 {
                return Err(format!("at {} µs a token of {granted} µs was spent", self.now - BEGIN_US));
            }
        }
        if self.now > BEGIN_US + self.setup.length_us / 2 {
            self.seen.admitted_late += cost;
        }
        self.seen.away += u64::from(is_away);
        let mode = self.setup.spec.set().on_unavailable;
        if is_away && mode != OnUnavailable::Allow {
            let contact = self.processes[i as usize].contact();
            let (share, since) = &mut self.processes[i as usize].share[key as usize];
            if mode == OnUnavailable::LocalFull && *since != contact {
                // It is full each time that Redis goes away.
                share.pardon(self.now, self.setup.spec.set().burst);
            }
            *since = contact;
            share.admit(self.now, cost).map_err(|e| format!("local bucket of process {i}: {e}"))?;
        }
        let oracle = &mut self.oracles[key as usize];
        // What a process that is cut off admits while others are not comes on top, and so do modes without a share.
        if is_alone || (is_away && mode != OnUnavailable::LocalShare) {
            oracle.pardon(self.now, cost);
        }
        let excess = oracle.admit(self.now, cost);
        if is_alone || (is_away && mode != OnUnavailable::LocalShare) {
            return Ok(());
        }
        excess.map_err(|e| format!("key {key}: {e}, by process {i} ({before:?} {after:?})"))
    }

    pub(super) fn control(&mut self, i: usize) -> Result<(), String> {
        let now = self.now;
        let process = &mut self.processes[i];
        if process.paused_until > now || process.stuck_until > now {
            return Ok(());
        }
        if self.random.one_in(16) {
            self.conserved(i)?;
        }
        let process = &mut self.processes[i];
        let local = process.clock(now);
        let is_due = now >= process.drained_us + PERIOD_US || process.sync.table().is_urgent();
        if is_due && process.stamps.next(local).is_some() {
            process.drained_us = now;
            let asks = process.sync.drain(&self.setup.spec, local, 100);
            if !asks.is_empty() {
                let stamp = process.stamps.next(local).unwrap_or(0);
                let mut call = Call {
                    who: process.who.clone(),
                    stamp,
                    old_us: self.setup.spec.set().life_us,
                    keys: asks.iter().map(|ask| (ask.name, ask.args())).collect(),
                };
                if self.setup.defect == Defect::DebtIsForgotten {
                    call.keys.iter_mut().for_each(|(_, args)| args[8] = 0);
                }
                let message = Message { process: i, life: process.life, asks, call: Some(call), sent_us: local };
                self.seen.calls += 1;
                self.send(message);
            }
        }
        let process = &mut self.processes[i];
        if now >= process.beat_us + HEARTBEAT_US {
            process.beat_us = now;
            let message = Message { process: i, life: process.life, asks: Vec::new(), call: None, sent_us: local };
            self.send(message);
        }
        Ok(())
    }

    /// Tokens that were granted were spent, went back, expired or are still there.
    pub(super) fn conserved(&self, i: usize) -> Result<(), String> {
        let process = &self.processes[i];
        let (flows, mut spent, mut expired, mut there) = (process.sync.flows(), 0, 0, process.sync.outstanding());
        for core in &process.cores {
            let counts = core.counts();
            (spent, expired, there) = (spent + counts.spent, expired + counts.expired, there + core.tokens());
        }
        expired += flows.expired;
        let sum = spent + flows.paid + flows.returned + expired + there;
        if flows.granted == sum {
            return Ok(());
        }
        Err(format!(
            "process {i}: granted {} but spent {spent}, returned {}, expired {expired}, there {there}",
            flows.granted, flows.returned
        ))
    }

    pub(super) fn has_faults(&self) -> bool {
        self.setup.faults != Faults::None
    }
}
