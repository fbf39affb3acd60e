//! What goes wrong, and what the promise allows for it.

use super::process::Process;
use super::setup::Faults;
use super::world::{BEGIN_US, Event, World};
use crate::limit::Promise;

impl World {
    pub(super) fn pardon(&mut self, tokens: u64) {
        let (now, life_us) = (self.now, self.setup.spec.set().life_us);
        self.oracles.iter_mut().for_each(|oracle| oracle.pardon_for(now, tokens, life_us));
    }

    pub(super) fn fault(&mut self) {
        let i = self.random.below(self.processes.len() as u64) as usize;
        let is_unpardoned = self.setup.faults == Faults::Unpardoned;
        let kind = self.random.below(if is_unpardoned { 7 } else { 10 });
        let most = match kind {
            4..=5 if is_unpardoned => 100_000, // too short for anybody to think that Redis is away
            _ if self.random.one_in(4) => 3_000_000,
            _ => 400_000,
        };
        let length = 1 + self.random.below(most);
        let until = self.now + length;
        let promise = Promise::new(self.setup.spec, self.setup.processes as u64);
        let what = match kind {
            0 => {
                self.processes[i].paused_until = until;
                "pause"
            }
            1 => {
                self.processes[i].stuck_until = until;
                "control stuck"
            }
            2 | 3 => {
                self.processes[i].cut_until = until;
                "cut off"
            }
            4 => {
                self.processes.iter_mut().for_each(|p| p.cut_until = until);
                self.pardon_return(length, &promise);
                "all cut off"
            }
            5 => {
                self.frozen_until = until;
                self.at(length, Event::Thaw);
                self.pardon_return(length, &promise);
                "Redis frozen"
            }
            6 => {
                self.redis_offset -= length as i64;
                "Redis clock back"
            }
            7 => {
                self.redis.forget();
                self.pardon(promise.per_loss());
                "Redis empty"
            }
            8 => {
                self.redis_offset += length as i64;
                self.pardon(promise.per_loss().min(self.setup.spec.shape().tokens_in(length) + 1));
                "Redis clock forward"
            }
            _ => {
                let life = self.processes[i].life + 1;
                let mut process = Process::new(&self.setup, i, life, self.now, &mut self.random);
                process.cut_until = self.processes[i].cut_until;
                self.processes[i] = process;
                // All are known when one starts: without that it would believe to be alone for one heartbeat.
                (0..self.processes.len()).for_each(|other| self.be_known(other));
                self.first_beat(i);
                self.pardon(promise.per_crash());
                "crash"
            }
        };
        self.faults.push(format!("{} µs: {what}, process {i}, {length} µs", self.now - BEGIN_US));
    }

    /// Redis comes back after it was away for all: the first process is granted tokens that the others spent already.
    pub(super) fn pardon_return(&mut self, length: u64, promise: &Promise) {
        if length + 100_000 > self.setup.spec.set().away_after_us {
            self.pardon(promise.per_loss());
        }
    }
}
