//! One address of an upstream, as one core knows it. It outlives snapshots: in-flight counts and pools are not lost when
//! names are resolved again or a config changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::pool::Pool;
use crate::shared::UpstreamMetrics;
use crate::socket::SocketName;

/// How long an endpoint that could not be reached is asked only if there is no other, in ms.
const AVOIDED_MS: u64 = 1_000;

/// An endpoint and what this core has open to it.
pub struct Endpoint<T> {
    /// Where it is.
    pub address: SocketName,
    in_flight: Cell<u32>,
    /// Until when it is avoided, in ms since the process began; 0: the last connection came about.
    avoided_until_ms: Cell<u64>,
    /// Idle connections.
    pub pool: RefCell<Pool<T>>,
    /// Counts of its upstream on this core.
    metrics: UpstreamMetrics,
    /// It is in no snapshot that new requests are served by: what is idle is closed, what is under way is not.
    pub drains: Cell<bool>,
}

impl<T> Endpoint<T> {
    /// An endpoint without connections.
    pub fn new(address: SocketName, metrics: UpstreamMetrics) -> Self {
        Self {
            address,
            in_flight: Cell::new(0),
            avoided_until_ms: Cell::new(0),
            pool: RefCell::default(),
            metrics,
            drains: Cell::new(false),
        }
    }

    /// Whether others are to be asked before it: it could not be reached a moment ago.
    pub fn is_avoided(&self, now_ms: u64) -> bool {
        now_ms < self.avoided_until_ms.get()
    }

    /// It is about to be connected to. Of one that could not be reached, one request finds out for all whether it can be again.
    /// Until when it is avoided meanwhile, if it is.
    pub fn tries(&self, now_ms: u64) -> Option<u64> {
        (self.avoided_until_ms.get() > 0).then(|| self.fails(now_ms))
    }

    /// It could not be reached. Until when it is avoided.
    pub fn fails(&self, now_ms: u64) -> u64 {
        let until_ms = now_ms.saturating_add(AVOIDED_MS);
        self.avoided_until_ms.set(until_ms);
        until_ms
    }

    /// A connection came about.
    pub fn connects(&self) {
        self.avoided_until_ms.set(0);
    }

    /// Requests that wait for it or receive from it now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Counts one request as in flight until the guard is dropped.
    pub fn enter(self: &Rc<Self>) -> InFlight<T> {
        self.in_flight.set(self.in_flight.get() + 1);
        self.metrics.in_flight.add(1);
        InFlight { endpoint: Rc::clone(self) }
    }
}

/// One request in flight.
pub struct InFlight<T> {
    endpoint: Rc<Endpoint<T>>,
}

impl<T> InFlight<T> {
    /// Where it is in flight to.
    pub fn endpoint(&self) -> &Rc<Endpoint<T>> {
        &self.endpoint
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        self.endpoint.in_flight.set(self.endpoint.in_flight.get().saturating_sub(1));
        self.endpoint.metrics.in_flight.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_can_not_be_reached_is_avoided_for_a_second_and_then_tried_by_one_request() {
        let endpoint: Endpoint<()> = Endpoint::new(SocketName::Unix("/a".into()), UpstreamMetrics::default());
        assert!(!endpoint.is_avoided(0) && endpoint.tries(5).is_none());
        assert_eq!(endpoint.fails(10), 1_010);
        assert!(endpoint.is_avoided(1_009) && !endpoint.is_avoided(1_010));
        assert_eq!(endpoint.tries(1_020), Some(2_020));
        assert!(endpoint.is_avoided(1_021), "the others wait for what the first finds");
        endpoint.connects();
        assert!(!endpoint.is_avoided(1_022) && endpoint.tries(1_022).is_none());
    }

    #[test]
    fn in_flight_counts_down_however_a_request_ends() {
        let metrics = UpstreamMetrics::default();
        let endpoint: Rc<Endpoint<()>> = Rc::new(Endpoint::new(SocketName::Unix("/a".into()), metrics.clone()));
        let one = endpoint.enter();
        let two = endpoint.enter();
        assert_eq!((endpoint.in_flight(), metrics.in_flight.get()), (2, 2));
        drop(one);
        drop(two);
        assert_eq!((endpoint.in_flight(), metrics.in_flight.get()), (0, 0));
    }
}
