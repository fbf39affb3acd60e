//! `concurrency`: how many requests of a key may be in flight on this process at a time; those over it are refused, or
//! wait their turn for a short while.

use std::future::Future;

use crate::core::{Clock, Core, ms};
use crate::error::Kind;
use crate::http::reply::Reply;
use crate::io::sleep_ms;
use crate::limit::queue::Ticket;
use crate::observe::access_log;
use crate::request::Request;
use crate::shared::FilterMetrics;
use crate::shared::in_flight::{Full, InFlight};

use super::limit_key::LimitKey;
use super::{Flow, Verdict};

/// What a refused client is told: others end within this time, as a rule. In s.
const RETRY_AFTER_S: u64 = 1;
/// Who has waited at its place in the queue for so many times a ms looks that many ms less often: at a key whose requests
/// end fast nobody stays at a place for long, and what takes long is found free an eighth later at most.
const PATIENCE: u64 = 8;
/// How often the first of a key looks at least, in ms: a thousand of them together 40 times a ms.
const LOOK_FIRST_MAX_MS: u64 = 25;
/// And those behind it, in ms: all ahead of them may give up at once.
const LOOK_MAX_MS: u64 = 100;

/// The filter, as one route and listener use it.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// Its name, which is that of the limit.
    pub name: String,
    /// Requests of a key that may be in flight.
    pub max: u64,
    /// The limit's counts.
    pub in_flight: InFlight,
    /// What it counts by.
    pub key: LimitKey,
    /// Requests that may wait on this core, over all keys.
    pub queue: usize,
    /// How long one may wait, in ms.
    pub queue_ms: u64,
    /// What would be refused is counted and logged, and passes.
    pub dry_run: bool,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

impl Concurrency {
    /// Counts the request until it ends; one too many waits for its turn, or is answered 429.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        let begun = core.with_limit_key(
            |out| self.key.write(req, out),
            |key| {
                // Who comes later than those who wait does not go first.
                let waits = self.queue > 0 && core.queues.is_waiting(&self.name, key);
                if waits { Err(key.into()) } else { self.in_flight.begin(key, self.max).map_err(|Full| key.into()) }
            },
        );
        let key: Box<[u8]> = match begun {
            Ok(guard) => {
                self.metrics.passed.add(1);
                req.in_flight.push(guard);
                return Flow::Continue;
            }
            Err(key) => key,
        };
        if self.dry_run {
            self.metrics.would_refuse.add(1);
            access_log::write_name(&self.name, &mut req.would_refuse);
            return Flow::Continue;
        }
        match core.queues.join(&self.name, key, self.queue) {
            Some(ticket) => {
                self.metrics.waited.add(1);
                Flow::Wait(Box::pin(self.wait(ticket, req.request_id.clone())))
            }
            None => {
                req.refused_by.push_str(&self.name);
                Flow::Reply(refuse(&self.metrics, &req.request_id))
            }
        }
    }

    fn wait(&self, ticket: Ticket, request_id: String) -> impl Future<Output = Verdict> + use<> {
        let (in_flight, max, wait_ms) = (self.in_flight.clone(), self.max, self.queue_ms);
        let (name, metrics) = (self.name.clone(), FilterMetrics::clone(&self.metrics));
        // By the clock: a core that is busy wakes sleepers late.
        let clock = Clock::start();
        async move {
            let begun_ms = ms(clock.now_us());
            let (mut place, mut since_ms) = (usize::MAX, begun_ms);
            loop {
                let now_ms = ms(clock.now_us());
                let ahead = ticket.ahead();
                if ahead == 0
                    && let Ok(guard) = in_flight.begin(ticket.key(), max)
                {
                    metrics.passed.add(1);
                    return Verdict::Admit(guard);
                }
                let left_ms = wait_ms.saturating_sub(now_ms.saturating_sub(begun_ms));
                if left_ms == 0 {
                    return Verdict::Refuse { by: name, reply: refuse(&metrics, &request_id) };
                }
                if std::mem::replace(&mut place, ahead) != ahead {
                    since_ms = now_ms;
                }
                sleep_ms(look_ms(ahead, now_ms.saturating_sub(since_ms)).min(left_ms)).await;
            }
        }
    }
}

/// When to look again, who has `ahead` before it and has had for `still_ms`.
fn look_ms(ahead: usize, still_ms: u64) -> u64 {
    let max = if ahead == 0 { LOOK_FIRST_MAX_MS } else { LOOK_MAX_MS };
    // At most one leaves a ms, as a rule: it is not its turn earlier.
    (ahead as u64 + 1).max(still_ms / PATIENCE).min(max)
}

#[cold]
fn refuse(metrics: &FilterMetrics, request_id: &str) -> Reply {
    metrics.refused.add(1);
    Reply::come_again(Kind::TooManyInFlight, request_id, RETRY_AFTER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks of one who waits so long at a place in the queue.
    fn looks(ahead: usize, wait_ms: u64) -> u64 {
        let (mut now_ms, mut looks) = (0, 0);
        while now_ms < wait_ms {
            now_ms += look_ms(ahead, now_ms);
            looks += 1;
        }
        looks
    }

    #[test]
    fn who_waits_longer_looks_less_often() {
        assert_eq!((look_ms(0, 0), look_ms(0, 15), look_ms(0, 80), look_ms(0, 60_000)), (1, 1, 10, 25));
        assert_eq!((look_ms(1, 0), look_ms(30, 0), look_ms(5000, 0)), (2, 31, 100));
        assert!(looks(0, 1000) < 80, "{}", looks(0, 1000));
        assert!((1..10).all(|ahead| looks(ahead, 1000) <= looks(0, 1000)));
        assert!(looks(0, 20) >= 15, "what ends fast is found free at once");
    }
}
