//! Smooth weighted round robin, as nginx does it: each round every endpoint gains its weight, the one that has most is
//! picked and pays what all gained. Over a cycle each is picked exactly by its weight, and never in bursts.

/// Picks that building it may spend to reach the place in the cycle where a core starts.
const ROUNDS_MAX: usize = 1024;

/// Picks each endpoint in its turn.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    slots: Box<[Slot]>,
    /// With equal weights taking the next one gives the same distribution at a cost that does not grow with their number.
    equal: bool,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    weight: i64,
    credit: i64,
}

impl RoundRobin {
    /// One endpoint per weight. Cores should have different values of `start`, so that they do not move in step.
    pub fn new(weights: &[u32], start: usize) -> RoundRobin {
        let slots = weights.iter().map(|weight| Slot { weight: i64::from(*weight), credit: 0 }).collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let next = start.checked_rem(weights.len()).unwrap_or_default();
        let mut round_robin = RoundRobin { slots, equal, next };
        if !equal {
            for _ in 0..start % ROUNDS_MAX {
                round_robin.pick_smooth(|_| true);
            }
        }
        round_robin
    }

    /// See [`Balance::pick`](super::Balance::pick).
    #[inline]
    pub fn pick(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        if self.equal { self.pick_next(usable) } else { self.pick_smooth(usable) }
    }

    /// Going on behind the one picked, not behind the one whose turn it was, spreads the turns of an unusable endpoint.
    #[inline]
    fn pick_next(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.slots.len();
        if self.slots.first()?.weight == 0 {
            return None;
        }
        let picked = (self.next..n).chain(0..self.next).find(|i| usable(*i))?;
        self.next = if picked + 1 == n { 0 } else { picked + 1 };
        Some(picked)
    }

    #[inline]
    fn pick_smooth(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut gained = 0;
        let mut best: Option<(usize, i64)> = None;
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if slot.weight > 0 && usable(i) {
                slot.credit += slot.weight;
                gained += slot.weight;
                if best.is_none_or(|(_, most)| slot.credit > most) {
                    best = Some((i, slot.credit));
                }
            }
        }
        let (picked, _) = best?;
        self.slots.get_mut(picked)?.credit -= gained;
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn picks(round_robin: &mut RoundRobin, n: usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..n).map(|_| round_robin.pick(&usable).unwrap()).collect()
    }

    fn count(picks: &[usize], i: usize) -> u32 {
        u32::try_from(picks.iter().filter(|picked| **picked == i).count()).unwrap()
    }

    #[test]
    fn the_sequence_is_nginx_s() {
        assert_eq!(picks(&mut RoundRobin::new(&[5, 1, 1], 0), 7, |_| true), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_cycle_is_exact_wherever_it_starts() {
        for weights in [&[1, 1, 1][..], &[3, 2, 1], &[1, 0, 4], &[7]] {
            let cycle: u32 = weights.iter().sum();
            for start in 0..10 {
                let picks = picks(&mut RoundRobin::new(weights, start), cycle as usize, |_| true);
                for (i, weight) in weights.iter().enumerate() {
                    let share =
                        if weights.iter().all(|w| w == weight) { cycle / weights.len() as u32 } else { *weight };
                    assert_eq!(count(&picks, i), share, "{weights:?} from {start}: {picks:?}");
                }
            }
        }
    }

    #[test]
    fn turns_of_an_unusable_endpoint_are_spread_over_the_others() {
        let equal = picks(&mut RoundRobin::new(&[1; 4], 0), 300, |i| i != 1);
        assert_eq!([0, 2, 3].map(|i| count(&equal, i)), [100; 3]);
        let weighted = picks(&mut RoundRobin::new(&[3, 5, 2, 1], 0), 600, |i| i != 1);
        assert_eq!([0, 2, 3].map(|i| count(&weighted, i)), [300, 200, 100]);
    }

    #[test]
    fn cores_start_at_different_places() {
        let firsts =
            |weights: &[u32]| -> Vec<_> { (0..3).map(|core| RoundRobin::new(weights, core).pick(|_| true)).collect() };
        assert_eq!(firsts(&[1; 3]), [Some(0), Some(1), Some(2)]);
        assert_eq!(firsts(&[2, 1]), [Some(0), Some(1), Some(0)]);
    }
}
