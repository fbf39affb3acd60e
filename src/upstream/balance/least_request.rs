//! The least loaded of all endpoints.
//!
//! As with two random choices the load is the time a request would wait, (in flight + 1) / weight, and idle endpoints share
//! requests by weight: otherwise the heaviest would get all of them at low load. Of several alike one is drawn at random,
//! since cores that begin at the same place would move in step. Looking at all of them costs a few nanoseconds for each;
//! beyond some tens of endpoints two random choices are nearly as good and cost the same at any number.

use super::waits_less;
use crate::upstream::random::XorShift;

/// Picks the endpoint at which a request would wait least.
#[derive(Clone, Debug)]
pub struct LeastRequest {
    weights: Box<[u32]>,
    random: XorShift,
}

impl LeastRequest {
    /// One endpoint per weight. Cores should have different seeds.
    pub fn new(weights: &[u32], seed: u64) -> Self {
        Self { weights: weights.into(), random: XorShift::new(seed) }
    }

    /// See [`Balance::pick`](super::Balance::pick).
    pub fn pick(&mut self, load: impl Fn(usize) -> u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(usize, u32, u32)> = None;
        let (mut idle_weights, mut alike) = (0_u32, 1_u32);
        for (i, weight) in self.weights.iter().enumerate().filter(|(i, weight)| **weight > 0 && usable(*i)) {
            let this = load(i);
            if this == 0 {
                idle_weights = idle_weights.saturating_add(*weight);
            }
            let Some((_, least, its_weight)) = best else {
                best = Some((i, this, *weight));
                continue;
            };
            if waits_less(this, *weight, least, its_weight) {
                (best, alike) = (Some((i, this, *weight)), 1);
            } else if this > 0 && !waits_less(least, its_weight, this, *weight) {
                // Each of them is kept with the same chance, however many there will be (Vitter, "Random Sampling with a
                // Reservoir", 1985).
                alike += 1;
                if self.random.below(alike) == 0 {
                    best = Some((i, this, *weight));
                }
            }
        }
        let (picked, least, _) = best?;
        if least > 0 {
            return Some(picked);
        }
        let mut left = self.random.below(idle_weights);
        let is_it = |(i, weight): (usize, &u32)| {
            if *weight == 0 || !usable(i) || load(i) > 0 {
                return None;
            }
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it.then_some(i)
        };
        self.weights.iter().enumerate().find_map(is_it).or(Some(picked))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counts(weights: &[u32], picks: usize, load: impl Fn(usize) -> u32) -> Vec<usize> {
        let mut least_request = LeastRequest::new(weights, 1);
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[least_request.pick(&load, |_| true).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn idle_endpoints_share_requests_by_weight() {
        for weights in [&[1, 1][..], &[4, 1], &[1, 2, 3, 0, 4], &[1000, 1]] {
            let picks = 100_000;
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts(weights, picks, |_| 0).into_iter().zip(weights) {
                let expected = picks as f64 * f64::from(*weight) / f64::from(total);
                assert!((count as f64 - expected).abs() <= 4.0 * expected.sqrt(), "{weights:?}: {count} of {expected}");
            }
        }
    }

    #[test]
    fn the_least_loaded_is_always_picked_and_those_alike_in_turn_by_chance() {
        let loads = [3, 2, 9, 2, 2];
        let counts = counts(&[1; 5], 30_000, |i| loads[i]);
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!([1, 3, 4].iter().all(|i| (9_500..10_500).contains(&counts[*i])), "{counts:?}");
    }

    #[test]
    fn what_counts_is_how_long_a_request_would_wait() {
        assert_eq!(counts(&[4, 1], 100, |i| [2, 0][i]), [100, 0], "3/4 is less than 1/1");
        assert_eq!(counts(&[4, 1], 100, |i| [4, 0][i]), [0, 100], "5/4 is more than 1/1");
        let even = counts(&[2, 1], 10_000, |i| [3, 1][i]);
        assert!((4_700..5_300).contains(&even[0]), "4/2 is 2/1: {even:?}");
    }

    #[test]
    fn requests_that_never_end_fill_endpoints_by_weight() {
        let weights = [1, 2, 5];
        let mut least_request = LeastRequest::new(&weights, 7);
        let mut loads = [0_u32; 3];
        for _ in 0..800 {
            let picked = least_request.pick(|i| loads[i], |_| true).unwrap();
            loads[picked] += 1;
        }
        assert_eq!(loads, [100, 200, 500]);
    }
}
