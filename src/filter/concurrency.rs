//! `concurrency`: how many requests of a key may be in flight on this process at a time; those over it are refused, or
//! wait their turn for a short while.

use std::future::Future;

use crate::core::Core;
use crate::error::Kind;
use crate::http::encode;
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
/// How often the first who waits looks for a place, in ms; who is further behind looks as much less often.
const LOOK_MS: u64 = 1;
/// But at least this often, in ms: those ahead may give up.
const LOOK_MAX_MS: u64 = 50;

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
        async move {
            let mut left_ms = wait_ms;
            loop {
                let ahead = ticket.ahead();
                if ahead == 0
                    && let Ok(guard) = in_flight.begin(ticket.key(), max)
                {
                    metrics.passed.add(1);
                    return Verdict::Admit(guard);
                }
                if left_ms == 0 {
                    return Verdict::Refuse { by: name, reply: refuse(&metrics, &request_id) };
                }
                let look_ms = LOOK_MS.saturating_mul(ahead as u64 + 1).min(LOOK_MAX_MS).min(left_ms);
                sleep_ms(look_ms).await;
                left_ms -= look_ms;
            }
        }
    }
}

#[cold]
fn refuse(metrics: &FilterMetrics, request_id: &str) -> Reply {
    metrics.refused.add(1);
    let mut lines = Vec::with_capacity(32);
    encode::field_of(b"Retry-After", |out| encode::number(RETRY_AFTER_S, out), &mut lines);
    Reply::from_error(Kind::TooManyInFlight, request_id, &lines)
}
