//! What happens to messages between processes and Redis, and Redis itself.

use super::setup::Defect;
use super::world::{Event, Message, World};
use crate::limit::Spec;
use crate::limit::model::Call;
use crate::limit::spec::ANSWER_MAX_US;
use crate::limit::sync::{ALIVE_US, Answer, Ask};

impl World {
    pub(super) fn delay(&mut self) -> u64 {
        if self.setup.defect == Defect::LeaseFromAnswer {
            return 5_000 + self.random.below(15_000); // the slower, the longer such a lease lives
        }
        match self.random.below(if self.has_faults() { 100 } else { 90 }) {
            0..90 => 100 + self.random.below(900),
            90..97 => self.random.below(30_000),
            _ => self.random.below(400_000),
        }
    }

    pub(super) fn send(&mut self, message: Message) {
        self.at(ANSWER_MAX_US, Event::Timeout(message.clone()));
        let cut_until = self.processes[message.process].cut_until;
        let delay = self.delay();
        if cut_until > self.now {
            // The kernel goes on sending what was written, until the connection is given up.
            if self.random.one_in(4) {
                self.at(cut_until - self.now + delay, Event::Arrive(message));
            }
            return;
        }
        if self.has_faults() && self.random.one_in(50) {
            return;
        }
        let is_return = message.asks.iter().any(|ask| ask.returned > 0 && ask.want == 0);
        // A network with malice repeats just what gives tokens back.
        let is_repeated = self.has_faults()
            && if self.setup.defect == Defect::RepeatsCount { is_return } else { self.random.one_in(30) };
        if is_repeated {
            let later = delay + self.random.below(200_000);
            self.at(later, Event::Arrive(message.clone()));
        }
        self.at(delay, Event::Arrive(message));
    }

    pub(super) fn arrive(&mut self, message: Message) {
        if self.frozen_until > self.now {
            self.door.push(message);
            return;
        }
        let redis_us = self.redis_clock();
        let process = &self.processes[message.process];
        let (who, is_same) = (process.who.clone(), process.life == message.life);
        let (mut n, mut answers) = (0, Vec::new());
        match &message.call {
            None => n = self.redis.heartbeat(&who, ALIVE_US, redis_us),
            Some(call) => {
                let mut call = call.clone();
                if self.setup.defect == Defect::RepeatsCount {
                    call.who = format!("p{}", self.sequence).into();
                }
                answers = self.redis.call(&call, redis_us);
                for ((ask, answer), (name, args)) in message.asks.iter().zip(&answers).zip(&call.keys) {
                    if answer.granted > 0 && is_same {
                        self.note_grant(message.process, ask);
                    }
                    if self.setup.defect == Defect::GrantsAreFree && answer.granted > 0 {
                        let mut args = *args;
                        (args[7], args[8], args[9]) = (0, 0, answer.granted);
                        let back = Call {
                            who: "defect".into(),
                            stamp: u64::MAX >> 8,
                            old_us: u64::MAX >> 8,
                            keys: vec![(*name, args)],
                        };
                        let stamp = redis_us as u64 + self.sequence % 1000;
                        self.redis.call(&Call { stamp, ..back }, redis_us);
                    }
                }
            }
        }
        if self.has_faults() && self.random.one_in(50) {
            return;
        }
        let delay = self.delay();
        let held = self.processes[message.process].cut_until.saturating_sub(self.now);
        self.at(held + delay, Event::Reply(message, n, answers, redis_us as u64));
    }

    pub(super) fn note_grant(&mut self, process: usize, ask: &Ask) {
        let now = self.now;
        let process = &mut self.processes[process];
        for key in 0..self.setup.keys {
            let table = process.sync.table();
            let at = table.find(table.hash(&key.to_le_bytes()));
            if at.is_some_and(|at| ask.is_of(at)) {
                process.granted_us.insert(key, now);
            }
        }
    }

    pub(super) fn reply(&mut self, message: &Message, n: u64, answers: &[Answer], redis_us: u64) {
        let now = self.now;
        let process = &self.processes[message.process];
        let wait = process.paused_until.max(process.stuck_until);
        if wait > now {
            let reply = Event::Reply(message.clone(), n, answers.to_vec(), redis_us);
            self.at(wait - now, reply);
            return;
        }
        let process = &mut self.processes[message.process];
        if process.life != message.life {
            return;
        }
        let local = process.clock(now);
        // An answer that comes too late says nothing about Redis now.
        if local >= message.sent_us + ANSWER_MAX_US {
            return;
        }
        process.stamps.heard(redis_us, local);
        if message.call.is_none() {
            process.sync.heard(message.sent_us, n);
        }
        let spec = if self.setup.defect == Defect::LeaseFromAnswer {
            let mut set = *self.setup.spec.set();
            set.life_us += local - message.sent_us;
            Spec::new(set).unwrap_or(self.setup.spec)
        } else {
            self.setup.spec
        };
        for (ask, answer) in message.asks.iter().zip(answers) {
            process.sync.apply(&spec, ask, answer, local);
        }
    }
}
