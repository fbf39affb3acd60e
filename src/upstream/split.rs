//! A share of the requests for each of several upstreams: at random, or by a value that sticks to one of them.
//!
//! A value sticks by weighted rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
//! 1998; weights after Schindelhauer and Schomaker, 2005): each upstream draws a lot from the hash of the value and its own
//! name, and the best lot for its weight wins. Changing the weight of one upstream moves values to it or from it, and none
//! between the others; their order does not matter, and every process and core chooses the same.

use super::random::XorShift;

/// Upstreams and their weights.
#[derive(Clone, Debug)]
pub struct Split {
    choices: Box<[Choice]>,
    total: u32,
}

#[derive(Clone, Debug)]
struct Choice {
    upstream: usize,
    weight: u32,
    /// The hash of its name.
    name: u64,
}

impl Split {
    /// Of upstreams, each with its index, name and weight. Those of weight 0 get nothing.
    pub fn new<'n>(upstreams: impl Iterator<Item = (usize, &'n str, u32)>) -> Split {
        let choices: Box<[Choice]> = upstreams
            .filter(|(_, _, weight)| *weight > 0)
            .map(|(upstream, name, weight)| Choice { upstream, weight, name: fnv1a(name.as_bytes()) })
            .collect();
        let total = choices.iter().fold(0_u32, |total, choice| total.saturating_add(choice.weight));
        Split { choices, total }
    }

    /// One of them by chance, by its index; `None` if all weights are 0.
    pub fn at_random(&self, random: &mut XorShift) -> Option<usize> {
        let mut drawn = random.below(self.total);
        let is_it = |choice: &&Choice| {
            let hit = drawn < choice.weight;
            drawn = drawn.saturating_sub(choice.weight);
            hit
        };
        self.choices.iter().find(is_it).map(|choice| choice.upstream)
    }

    /// The one that a value sticks to, by its index; `None` if all weights are 0.
    pub fn of(&self, value: &[u8]) -> Option<usize> {
        let value = fnv1a(value);
        let lot = |choice: &Choice| lot(mixed(value ^ mixed(choice.name)), choice.weight);
        self.choices.iter().min_by(|a, b| lot(a).total_cmp(&lot(b))).map(|choice| choice.upstream)
    }
}

/// Exponentially distributed at the rate of the weight: the smallest of several is that of one with the probability of its
/// share.
fn lot(hash: u64, weight: u32) -> f64 {
    let high = u32::try_from(hash >> 32).unwrap_or(u32::MAX);
    let between_0_and_1 = (f64::from(high) + 0.5) / (f64::from(u32::MAX) + 1.0);
    -between_0_and_1.ln() / f64::from(weight)
}

/// Fowler, Noll and Vo's hash: always the same, unlike those of tables. A client that wants a certain upstream can find a value
/// for it, as it could by trying.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finish of splitmix64: every bit of the result depends on every bit.
fn mixed(hash: u64) -> u64 {
    let mut z = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VALUES: usize = 20_000;

    fn split(weights: &[(&str, u32)]) -> Split {
        Split::new(weights.iter().enumerate().map(|(i, (name, weight))| (i, *name, *weight)))
    }

    /// How many of [`VALUES`] values stick to each.
    fn shares(split: &Split, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        (0..VALUES).for_each(|i| counts[split.of(format!("user-{i}").as_bytes()).unwrap()] += 1);
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
        let mut random = XorShift::new(1);
        let mut counts = [0; 3];
        (0..VALUES).for_each(|_| counts[split.at_random(&mut random).unwrap()] += 1);
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
            assert_eq!(names[one.of(value).unwrap()], others[other.of(value).unwrap()]);
        }
    }

    #[test]
    fn a_changed_weight_moves_no_more_than_it_must() {
        let before = split(&[("a", 90), ("b", 10), ("c", 50)]);
        let after = split(&[("a", 90), ("b", 30), ("c", 50)]);
        let mut moved = 0;
        for i in 0..VALUES {
            let value = format!("user-{i}");
            let (from, to) = (before.of(value.as_bytes()).unwrap(), after.of(value.as_bytes()).unwrap());
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
        assert_eq!((none.of(b"x"), none.at_random(&mut XorShift::new(1))), (None, None));
    }
}
