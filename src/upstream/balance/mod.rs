//! Which endpoint of an upstream gets the next request.
//!
//! A balancer belongs to one core and one snapshot: it is built from the endpoints' weights, knows endpoints by their
//! index, and asks its caller how loaded and how usable each one is. Weight 0 takes an endpoint out. A retry that wants
//! another endpoint says so through `usable`.

pub mod hash;
mod least_request;
mod p2c;
mod round_robin;

pub use hash::Hash;
pub use least_request::LeastRequest;
pub use p2c::P2c;
pub use round_robin::RoundRobin;

/// One balancer of one core.
#[derive(Clone, Debug)]
pub enum Balance {
    /// The less loaded of two random endpoints.
    P2c(P2c),
    /// Each in turn, by weight.
    RoundRobin(RoundRobin),
    /// The least loaded of all.
    LeastRequest(LeastRequest),
    /// By a key of the request.
    Hash(Box<Hash>),
}

impl Balance {
    /// Picks an endpoint for which `usable` holds; `None` if there is none. `load` gives the requests in flight to an
    /// endpoint, from this core. `key` is the hash of what the request is to stick by, if it has that.
    #[inline]
    pub fn pick(
        &mut self,
        key: Option<u64>,
        load: impl Fn(usize) -> u32,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self {
            Balance::P2c(p2c) => p2c.pick(load, usable),
            Balance::RoundRobin(round_robin) => round_robin.pick(usable),
            Balance::LeastRequest(least_request) => least_request.pick(load, usable),
            Balance::Hash(hash) => hash.pick(key, load, usable),
        }
    }
}

/// Whether a request would wait less at an endpoint with so many in flight and this weight than at the other one: it waits
/// for (in flight + 1) / weight.
#[inline]
fn waits_less(load: u32, weight: u32, other_load: u32, other_weight: u32) -> bool {
    let wait = |load: u32, weight: u32| (u64::from(load) + 1).saturating_mul(u64::from(weight));
    wait(load, other_weight) < wait(other_load, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(weights: &[u32]) -> [Balance; 5] {
        let named: Vec<(String, u32)> =
            weights.iter().enumerate().map(|(i, weight)| (i.to_string(), *weight)).collect();
        let bound = hash::Bound { percent: 125, spare: 0 };
        [
            Balance::P2c(P2c::new(weights, 1)),
            Balance::RoundRobin(RoundRobin::new(weights, 1)),
            Balance::LeastRequest(LeastRequest::new(weights, 1)),
            Balance::Hash(Box::new(Hash::new(&named, None, 1))),
            Balance::Hash(Box::new(Hash::new(&named, Some(bound), 1))),
        ]
    }

    #[test]
    fn only_usable_endpoints_with_weight_are_picked() {
        for n in 1..8_usize {
            for usable in 0..1_usize << n {
                let weights: Vec<u32> = (0..n).map(|i| [0, 1, 1, 7][i % 4]).collect();
                let works = |i: usize| weights[i] > 0 && usable & (1 << i) != 0;
                let any = (0..n).any(works);
                for mut balance in all(&weights) {
                    for round in 0..40 {
                        let key = (round % 4 > 0).then(|| hash::hash_key(&[round]));
                        match balance.pick(key, |i| [3, 0, 50][i % 3], |i| usable & (1 << i) != 0) {
                            Some(picked) => assert!(works(picked), "{balance:?}"),
                            None => assert!(!any, "{balance:?}"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        for mut balance in all(&[]) {
            assert_eq!(balance.pick(Some(1), |_| 0, |_| true), None);
        }
    }

    #[test]
    fn one_endpoint_is_always_picked() {
        for mut balance in all(&[5]) {
            assert_eq!(
                (balance.pick(Some(1), |_| 9, |_| true), balance.pick(None, |_| 9, |i| i != 0)),
                (Some(0), None)
            );
        }
    }
}
