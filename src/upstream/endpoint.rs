//! One address of an upstream, as one core knows it. It outlives snapshots: in-flight counts and pools are not lost when
//! names are resolved again or a config changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::pool::Pool;
use crate::shared::UpstreamMetrics;
use crate::socket::SocketName;

/// An endpoint and what this core has open to it.
pub struct Endpoint<T> {
    /// Where it is.
    pub address: SocketName,
    in_flight: Cell<u32>,
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
        Self { address, in_flight: Cell::new(0), pool: RefCell::default(), metrics, drains: Cell::new(false) }
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
