//! Power of two choices: two different endpoints drawn at random, the less loaded one wins (Mitzenmacher, "The Power of
//! Two Choices in Randomized Load Balancing", 2001).
//!
//! Endpoints are drawn by weight from an alias table (Vose, "A Linear Algorithm for Generating Random Numbers with a
//! Given Distribution", 1991). The load is the time a request would wait, (in flight + 1) / weight; between two idle
//! endpoints the one drawn first wins, so that at low load requests follow the weights instead of all going to the
//! heaviest.

use super::waits_less;
use crate::upstream::random::XorShift;

/// Draws for a second endpoint that differs from the first, before the one next to it is taken: it matters only where
/// one endpoint has nearly all the weight.
const REDRAWS_MAX: usize = 4;

/// Picks the less loaded of two random endpoints.
#[derive(Clone, Debug)]
pub struct P2c {
    slots: Box<[Slot]>,
    random: XorShift,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    weight: u32,
    /// Share of this slot's draws that it keeps, of 2^32; the others go to `alias`.
    keep: u64,
    alias: usize,
}

impl P2c {
    /// One endpoint per weight. Cores should have different seeds.
    pub fn new(weights: &[u32], seed: u64) -> P2c {
        P2c { slots: alias_table(weights), random: XorShift::new(seed) }
    }

    /// See [`Balance::pick`](super::Balance::pick).
    #[inline]
    pub fn pick(&mut self, load: impl Fn(usize) -> u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let usable = |i: usize| self.slots.get(i).is_some_and(|slot| slot.weight > 0) && usable(i);
        let n = self.slots.len();
        if n < 2 {
            return usable(0).then_some(0);
        }
        let first = draw(&self.slots, &mut self.random);
        let second = if n == 2 {
            1 - first
        } else {
            let mut draws = (0..REDRAWS_MAX).map(|_| draw(&self.slots, &mut self.random));
            draws.find(|second| *second != first).unwrap_or((first + 1) % n)
        };
        match (usable(first), usable(second)) {
            (true, true) if self.is_less(second, first, &load) => Some(second),
            (true, _) => Some(first),
            (false, true) => Some(second),
            (false, false) => self.scan(first, load, usable),
        }
    }

    /// Whether a request would wait less at `a` than at `b`.
    #[inline]
    fn is_less(&self, a: usize, b: usize, load: &impl Fn(usize) -> u32) -> bool {
        let (Some(slot_a), Some(slot_b)) = (self.slots.get(a), self.slots.get(b)) else { return false };
        let (load_a, load_b) = (load(a), load(b));
        load_a | load_b != 0 && waits_less(load_a, slot_a.weight, load_b, slot_b.weight)
    }

    /// The least loaded of all usable endpoints; rare, so its cost does not matter.
    #[cold]
    fn scan(&self, start: usize, load: impl Fn(usize) -> u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.slots.len();
        let all = (0..n).map(|i| (start + i) % n).filter(|i| usable(*i));
        all.reduce(|best, i| if self.is_less(i, best, &load) { i } else { best })
    }
}

/// One endpoint, by weight. `slots` is not empty.
#[inline]
fn draw(slots: &[Slot], random: &mut XorShift) -> usize {
    let bits = random.next();
    // The upper half chooses the slot (Lemire's multiplication instead of a division), the lower half flips its coin.
    let at = usize::try_from(((bits >> 32) * slots.len() as u64) >> 32).unwrap_or_default();
    match slots.get(at) {
        Some(slot) if bits & 0xffff_ffff >= slot.keep => slot.alias,
        _ => at,
    }
}

fn alias_table(weights: &[u32]) -> Box<[Slot]> {
    const ONE: u64 = 1 << 32;
    let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let n = weights.len() as u128;
    let mut slots: Box<[Slot]> =
        weights.iter().enumerate().map(|(alias, weight)| Slot { weight: *weight, keep: ONE, alias }).collect();
    if total == 0 {
        return slots;
    }
    // Shares in units of total / n: a slot holds exactly `total` of them.
    let mut shares: Vec<u128> = weights.iter().map(|w| u128::from(*w) * n).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|i| shares[*i] < total);
    while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
        slots[poor].keep = u64::try_from((shares[poor] << 32) / total).unwrap_or(ONE);
        slots[poor].alias = rich;
        shares[rich] -= total - shares[poor];
        if shares[rich] < total {
            large.pop();
            small.push(rich);
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counts(p2c: &mut P2c, picks: usize, load: impl Fn(usize) -> u32, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut counts = vec![0; p2c.slots.len()];
        for _ in 0..picks {
            counts[p2c.pick(&load, &usable).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn idle_endpoints_are_picked_by_weight() {
        for weights in [&[1, 1][..], &[2, 1], &[1, 2, 3, 4], &[100, 1, 1, 0], &[u32::MAX, u32::MAX, 1], &[3; 50]] {
            let counts = counts(&mut P2c::new(weights, 7), 50_000, |_| 0, |_| true);
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            for (count, weight) in counts.iter().zip(weights) {
                let expected = 50_000.0 * f64::from(*weight) / total;
                let off = (*count as f64 - expected).abs();
                assert!(off <= 5.0 * expected.sqrt() + 1.0, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn the_less_loaded_of_the_two_wins() {
        let loads = [9, 0, 5, 7];
        let counts = counts(&mut P2c::new(&[1; 4], 3), 120_000, |i| loads[i], |_| true);
        assert_eq!(counts[0], 0, "the most loaded never wins");
        for (i, pairs_won) in [(1, 3.0), (2, 2.0), (3, 1.0)] {
            assert!((counts[i] as f64 - 20_000.0 * pairs_won).abs() < 1_500.0, "{counts:?}");
        }
        let mut weighted = P2c::new(&[3, 1], 3);
        assert_eq!(weighted.pick(|i| [2, 1][i], |_| true), Some(0)); // 3/3 < 2/1
        assert_eq!(weighted.pick(|i| [6, 1][i], |_| true), Some(1)); // 7/3 > 2/1
    }

    #[test]
    fn loads_even_out_by_weight_under_pressure() {
        let weights = [4, 2, 1, 1];
        let mut p2c = P2c::new(&weights, 11);
        let mut loads = [0; 4];
        for _ in 0..8_000 {
            let picked = p2c.pick(|i| loads[i], |_| true).unwrap();
            loads[picked] += 1;
        }
        for (load, weight) in loads.iter().zip(weights) {
            assert!(load.abs_diff(weight * 1000) < 50, "{loads:?}");
        }
    }

    #[test]
    fn when_neither_of_the_two_is_usable_the_least_loaded_other_is() {
        let mut p2c = P2c::new(&[1; 100], 5);
        assert!(counts(&mut p2c, 1000, |i| u32::from(i != 42), |i| i == 17 || i == 42)[17] < 50);
        assert_eq!(p2c.pick(|_| u32::MAX, |i| i == 99), Some(99));
        assert_eq!(p2c.pick(|_| 0, |_| false), None);
    }

    #[test]
    fn seeds_make_cores_differ() {
        let picks = |seed| -> Vec<_> {
            let mut p2c = P2c::new(&[1; 10], seed);
            (0..20).map(|_| p2c.pick(|_| 0, |_| true)).collect()
        };
        assert_ne!(picks(0), picks(1));
        assert_eq!(picks(0), picks(0));
    }
}
