//! A share of the requests for each of several upstreams: at random, or by a value that sticks to one of them.
//!
//! Both are what [`Hash`] does with endpoints: a value draws for each name, without a value the weights decide alone. Changing
//! the weight of one upstream moves values to it or from it, and none between the others; their order does not matter, and
//! every process and core chooses the same.

use std::cell::RefCell;

use super::balance::hash::{Hash, hash_key};

/// Upstreams and their weights.
#[derive(Debug)]
pub struct Split {
    upstreams: Box<[usize]>,
    draws: RefCell<Hash>,
}

impl Split {
    /// Of upstreams, each with its index, name and weight. Those of weight 0 get nothing. Cores should have different seeds.
    pub fn new<'n>(upstreams: impl Iterator<Item = (usize, &'n str, u32)>, seed: u64) -> Split {
        let (upstreams, named): (Vec<usize>, Vec<(String, u32)>) =
            upstreams.map(|(upstream, name, weight)| (upstream, (name.to_owned(), weight))).unzip();
        Split { upstreams: upstreams.into(), draws: RefCell::new(Hash::new(&named, None, seed)) }
    }

    /// The one that a value sticks to, or without one any by chance, by its index; `None` if all weights are 0.
    pub fn pick(&self, value: Option<&[u8]>) -> Option<usize> {
        let drawn = self.draws.borrow_mut().pick(value.map(hash_key), |_| 0, |_| true)?;
        self.upstreams.get(drawn).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VALUES: usize = 20_000;

    fn split(weights: &[(&str, u32)]) -> Split {
        Split::new(weights.iter().enumerate().map(|(i, (name, weight))| (i, *name, *weight)), 1)
    }

    /// How many of [`VALUES`] values stick to each.
    fn shares(split: &Split, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        (0..VALUES).for_each(|i| counts[split.pick(Some(format!("user-{i}").as_bytes())).unwrap()] += 1);
        counts
    }

    fn is_near(count: usize, share: f64) -> bool {
        let expected = share * VALUES as f64;
        // Five standard deviations of the binomial distribution.
        (count as f64 - expected).abs() <= 5.0 * (expected * (1.0 - share)).sqrt()
    }

    #[test]
    fn chance_follows_the_weights() {
        let split = split(&[("a", 95), ("zero", 0), ("b", 5)]);
        let mut counts = [0; 3];
        (0..VALUES).for_each(|_| counts[split.pick(None).unwrap()] += 1);
        assert!(is_near(counts[0], 0.95) && counts[1] == 0 && is_near(counts[2], 0.05), "{counts:?}");
    }

    #[test]
    fn values_stick_by_weight_whatever_the_order() {
        let one = split(&[("a", 60), ("b", 30), ("zero", 0), ("c", 10)]);
        let other = split(&[("c", 10), ("b", 30), ("a", 60)]);
        let counts = shares(&one, 4);
        assert!(
            is_near(counts[0], 0.6) && is_near(counts[1], 0.3) && counts[2] == 0 && is_near(counts[3], 0.1),
            "{counts:?}"
        );
        let (names, others) = (["a", "b", "zero", "c"], ["c", "b", "a"]);
        for value in [&b""[..], b"x", b"\xff\x00", &[b'y'; 9000]] {
            assert_eq!(names[one.pick(Some(value)).unwrap()], others[other.pick(Some(value)).unwrap()]);
        }
    }

    #[test]
    fn a_changed_weight_moves_no_more_than_it_must() {
        let before = split(&[("a", 90), ("b", 10), ("c", 50)]);
        let after = split(&[("a", 90), ("b", 30), ("c", 50)]);
        let mut moved = 0;
        for i in 0..VALUES {
            let value = format!("user-{i}");
            let (from, to) =
                (before.pick(Some(value.as_bytes())).unwrap(), after.pick(Some(value.as_bytes())).unwrap());
            if from != to {
                assert_eq!(to, 1, "only to the one that got more");
                moved += 1;
            }
        }
        assert!(is_near(moved, 30.0 / 170.0 - 10.0 / 150.0), "{moved}");
    }

    #[test]
    fn without_weight_there_is_none() {
        let none = split(&[("a", 0)]);
        assert_eq!((none.pick(Some(b"x")), none.pick(None)), (None, None));
    }
}
