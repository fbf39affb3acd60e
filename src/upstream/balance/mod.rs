//! Which endpoint of an upstream gets the next request.
//!
//! A balancer belongs to one core and one snapshot: it is built from the endpoints' weights, knows endpoints by their
//! index, and asks its caller how loaded and how usable each one is. Weight 0 takes an endpoint out. A retry that wants
//! another endpoint says so through `usable`.

mod p2c;
mod round_robin;

pub use p2c::P2c;
pub use round_robin::RoundRobin;

/// One balancer of one core.
#[derive(Clone, Debug)]
pub enum Balance {
    /// The less loaded of two random endpoints.
    P2c(P2c),
    /// Each in turn, by weight.
    RoundRobin(RoundRobin),
}

impl Balance {
    /// Picks an endpoint for which `usable` holds; `None` if there is none. `load` gives the requests in flight to an
    /// endpoint.
    #[inline]
    pub fn pick(&mut self, load: impl Fn(usize) -> u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Balance::P2c(p2c) => p2c.pick(load, usable),
            Balance::RoundRobin(round_robin) => round_robin.pick(usable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(weights: &[u32]) -> [Balance; 2] {
        [Balance::P2c(P2c::new(weights, 1)), Balance::RoundRobin(RoundRobin::new(weights, 1))]
    }

    #[test]
    fn only_usable_endpoints_with_weight_are_picked() {
        for n in 1..8_usize {
            for usable in 0..1_usize << n {
                let weights: Vec<u32> = (0..n).map(|i| [0, 1, 1, 7][i % 4]).collect();
                let works = |i: usize| weights[i] > 0 && usable & (1 << i) != 0;
                let any = (0..n).any(works);
                for mut balance in both(&weights) {
                    for _ in 0..20 {
                        match balance.pick(|_| 3, |i| usable & (1 << i) != 0) {
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
        for mut balance in both(&[]) {
            assert_eq!(balance.pick(|_| 0, |_| true), None);
        }
    }

    #[test]
    fn one_endpoint_is_always_picked() {
        for mut balance in both(&[5]) {
            assert_eq!((balance.pick(|_| 9, |_| true), balance.pick(|_| 9, |i| i != 0)), (Some(0), None));
        }
    }
}
