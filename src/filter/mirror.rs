//! `mirror`: which requests are copied to another upstream. A copy is made once all filters have let the request pass
//! (`proxy/mirror.rs`): what is refused is not copied.

use crate::core::Core;
use crate::request::Request;
use crate::shared::FilterMetrics;
use crate::shared::in_flight::InFlight;

use super::Flow;

/// Tells the one who gets a copy that it is one, and of which filter. What clients send under this name does not pass, and
/// what comes under it is not copied again.
pub const MARK: &str = "X-Ringway-Mirror";

/// The filter.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its name.
    pub name: String,
    /// Its place among the mirrors of the snapshot.
    pub number: usize,
    /// Who gets the copies: index into the snapshot's upstreams.
    pub upstream: usize,
    /// Of how many of a million requests.
    pub per_million: u32,
    /// Also of requests that may change something.
    pub unsafe_methods: bool,
    /// The largest body that is copied, in bytes.
    pub body_bytes_max: usize,
    /// Copies that are on their way.
    pub in_flight: InFlight,
    /// And how many may be.
    pub in_flight_max: u64,
    /// How long one may take, in ms.
    pub timeout_ms: u32,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

impl Mirror {
    /// Notes that the request is to be copied, if it is drawn.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        // Two gateways that mirror to each other would copy one request without end.
        // Noted for the mirrors behind this one, which do not see the field any more.
        let is_marked = req.fields_named(MARK.as_bytes()).next().is_some();
        req.is_copy |= is_marked;
        req.head.fields.hide(MARK.as_bytes(), req.buf.bytes());
        let may_be = !req.is_copy && (self.unsafe_methods || req.head.method.is_safe());
        if may_be && core.random.borrow_mut().draws(self.per_million) {
            req.mirrors.push(self.number);
        }
        Flow::Continue
    }
}
