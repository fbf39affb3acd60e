//! From the config of a balancer to the one of this worker, and to what requests stick by.

use crate::config::balance::{Balance as Raw, Hash as RawHash};
use crate::config::filters::limits::Fact as RawFact;
use crate::filter::limit_key::Fact;
use crate::route::param_names;
use crate::shared::UpstreamMetrics;
use crate::upstream::balance::hash::Bound;
use crate::upstream::balance::{Balance, Hash, LeastRequest, P2c, RoundRobin};

use super::build::share;
use super::filters::free;
use super::inputs::Inputs;
use super::{EndpointSpec, HashedBy};

/// Requests in flight to an endpoint, per process, below which nobody's requests are sent elsewhere: what one browser sends
/// at a time.
const SPARE: u32 = 8;

/// The balancer of endpoints with these weights.
pub(super) fn balance(
    raw: &Raw,
    endpoints: &[EndpointSpec],
    weights: &[u32],
    metrics: &UpstreamMetrics,
    inputs: &Inputs<'_>,
) -> Balance {
    match raw {
        Raw::P2c => Balance::P2c(P2c::new(weights, inputs.seed)),
        Raw::RoundRobin => Balance::RoundRobin(RoundRobin::new(weights, inputs.worker)),
        Raw::LeastRequest => Balance::LeastRequest(LeastRequest::new(weights, inputs.seed)),
        Raw::Hash(raw) => {
            let spare = u32::try_from(share(SPARE, inputs.made.workers)).unwrap_or(SPARE);
            let bound = raw.max_load.map(|percent| Bound { percent, spare });
            // By address: what a host name stands for may come in any order.
            let names = endpoints.iter().map(|endpoint| endpoint.address.to_string());
            let named: Vec<(String, u32)> = names.zip(weights.iter().copied()).collect();
            Balance::Hash(Box::new(Hash::new(&named, bound, inputs.seed).counted(metrics.clone())))
        }
    }
}

/// What requests stick by, if they do.
pub(super) fn hashed_by(raw: &Raw, inputs: &Inputs<'_>) -> Option<Box<HashedBy>> {
    let Raw::Hash(RawHash { by, .. }) = raw else { return None };
    let RawFact::Path(name) = &by.value else { return Some(Box::new(HashedBy::Fact(free(&by.value)?))) };
    let param = |pattern: &str| param_names(pattern).ok()?.iter().position(|param| param == name).map(Fact::Param);
    let routes = inputs.config.routes.iter().map(|route| param(&route.matches.path.value));
    Some(Box::new(HashedBy::Param(routes.collect())))
}
