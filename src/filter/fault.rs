//! `fault`: requests that are made to wait or to fail, a share of them or those that ask for it, to see how callers bear it.
//! What was injected is told as such in log and metrics, so that nobody looks for its cause elsewhere.

use std::future::Future;

use crate::core::Core;
use crate::error::Kind;
use crate::http::reply::Reply;
use crate::io::sleep_ms;
use crate::observe::access_log;
use crate::request::Request;
use crate::shared::FilterMetrics;
use crate::shared::in_flight::{Full, Guard, InFlight};

use super::{Flow, Verdict, note_refusal};

/// The filter.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its name.
    pub name: String,
    /// How long in ms, and how many of a million requests.
    pub delay: Option<(u64, u32)>,
    /// With which status, and how many of a million requests.
    pub abort: Option<(u16, u32)>,
    /// Fields that a request must have for it; `None`: with any value.
    pub when: Vec<(String, Option<String>)>,
    /// Those that wait now.
    pub delayed: InFlight,
    /// And how many may: each holds a connection.
    pub delayed_max: u64,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

impl Fault {
    /// Lets pass, waits, answers, or first waits and then answers. Both are drawn for each request by themselves.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        if !self.when.iter().all(|(name, wanted)| has(req, name, wanted.as_deref())) {
            self.metrics.passed.add(1);
            return Flow::Continue;
        }
        let drawn = |per_million: u32| core.random.borrow_mut().draws(per_million);
        let delay_ms = self.delay.filter(|(_, share)| drawn(*share)).map(|(ms, _)| ms);
        let status = self.abort.filter(|(_, share)| drawn(*share)).map(|(status, _)| status);
        if let Some(delay_ms) = delay_ms {
            match self.delayed.begin(b"", self.delayed_max) {
                Ok(place) => {
                    self.metrics.waited.add(1);
                    access_log::write_note(&self.name, "delayed", &mut req.notes);
                    return Flow::Wait(Box::pin(self.wait(delay_ms, place, status, req.request_id.clone())));
                }
                Err(Full) => self.metrics.dropped.add(1),
            }
        }
        match status {
            Some(status) => {
                note_refusal(&self.name, &self.metrics, req);
                Flow::Reply(Reply::with_status(status, Kind::FaultInjected, &req.request_id, b""))
            }
            None => {
                self.metrics.passed.add(1);
                Flow::Continue
            }
        }
    }

    fn wait(
        &self,
        delay_ms: u64,
        place: Guard,
        status: Option<u16>,
        request_id: String,
    ) -> impl Future<Output = Verdict> + use<> {
        let (by, metrics) = (self.name.clone(), FilterMetrics::clone(&self.metrics));
        async move {
            sleep_ms(delay_ms).await;
            drop(place);
            match status {
                Some(status) => {
                    metrics.refused.add(1);
                    let reply = Reply::with_status(status, Kind::FaultInjected, &request_id, b"");
                    Verdict::Refuse { by, reply }
                }
                None => {
                    metrics.passed.add(1);
                    Verdict::Pass
                }
            }
        }
    }
}

fn has(req: &Request, name: &str, wanted: Option<&str>) -> bool {
    let mut values = req.fields_named(name.as_bytes()).map(|value| value.of(req.bytes()));
    match wanted {
        None => values.next().is_some(),
        Some(wanted) => values.any(|value| value == wanted.as_bytes()),
    }
}
