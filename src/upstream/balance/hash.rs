//! Requests with the same key go to the same endpoint, on every core and every machine, as long as it is not overloaded.
//!
//! The endpoint is found by weighted rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit
//! Rates", 1998; weights: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005): each endpoint draws a
//! number from the key and its own address, and the best one wins. What an endpoint draws depends on no other, so one that
//! goes gives up its keys alone, one that comes or gets more weight takes its share from all, and no key moves between two
//! others: exactly, where a ring does it about, and a Maglev table not quite. A ring of 1024 endpoints would have 160,000
//! points for shares within 10 %, in the memory of each core; a draw costs a few nanoseconds and no memory.
//!
//! Overload is bounded (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018): an endpoint
//! takes no more than `max_load` times its share of what is in flight, else the next best for that key does. That is what
//! answers clients that choose their keys: one hot key overloads nobody. Below a few requests in flight nobody is
//! overloaded: in a small crowd even two requests of one client are more than a fair share.

use xxhash_rust::xxh3::xxh3_64;

use super::{P2c, waits_less};
use crate::shared::UpstreamMetrics;
use crate::upstream::random::mixed;

/// Picks by a key.
#[derive(Clone, Debug)]
pub struct Hash {
    slots: Box<[Slot]>,
    /// All weights are alike: the largest draw wins.
    equal: bool,
    weights: u64,
    bound: Option<Bound>,
    /// For requests without a key.
    without_key: P2c,
    /// Where those that went elsewhere are counted.
    metrics: Option<UpstreamMetrics>,
}

/// What an endpoint takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Of its share of the requests in flight, in percent: more than 100.
    pub percent: u32,
    /// Requests in flight that are never too many.
    pub spare: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    id: u64,
    weight: u32,
    per_weight: f64,
}

/// The hash of a key: XXH3 with 64 bits and seed 0, which is defined for good.
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

impl Hash {
    /// One endpoint per name and weight. It is the names that draw, so that their order does not matter: whoever has the
    /// same names has the same picks. Cores should have different seeds for requests without a key.
    pub fn new(endpoints: &[(String, u32)], bound: Option<Bound>, seed: u64) -> Self {
        let weights: Vec<u32> = endpoints.iter().map(|(_, weight)| *weight).collect();
        let slot = |(name, weight): &(String, u32)| {
            let id = xxh3_64(name.as_bytes());
            Slot { id, weight: *weight, per_weight: 1.0 / f64::from(*weight).max(1.0) }
        };
        Self {
            slots: endpoints.iter().map(slot).collect(),
            equal: weights.windows(2).all(|pair| pair.first() == pair.last()),
            weights: weights.iter().map(|weight| u64::from(*weight)).sum(),
            bound,
            without_key: P2c::new(&weights, seed),
            metrics: None,
        }
    }

    /// Counts requests that went elsewhere since their first choice was overloaded.
    pub fn counted(self, metrics: UpstreamMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// See [`Balance::pick`](super::Balance::pick).
    pub fn pick(
        &mut self,
        key: Option<u64>,
        load: impl Fn(usize) -> u32,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        // Without a key nothing has to stick: all of them on one endpoint would be the worst of all answers.
        let Some(key) = key else { return self.without_key.pick(load, usable) };
        let first = self.best(key, &usable)?;
        match self.bound {
            Some(bound) if load(first) >= bound.spare.max(1) => self.within(bound, key, first, load, usable),
            _ => Some(first),
        }
    }

    /// The best for the key that is not overloaded. That others are is known by all loads alone.
    #[cold]
    fn within(
        &self,
        bound: Bound,
        key: u64,
        first: usize,
        load: impl Fn(usize) -> u32,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let loaded = (0..self.slots.len()).filter(|i| self.weight(*i) > 0);
        // One more than there is: the request itself counts.
        let total = loaded.map(|i| u64::from(load(i))).sum::<u64>() + 1;
        let has_room = |i: usize| {
            let share = total.saturating_mul(self.weight(i).into()).saturating_mul(bound.percent.into());
            let most = share.div_ceil(self.weights.saturating_mul(100).max(1));
            u64::from(load(i)) < most.max(bound.spare.into())
        };
        if has_room(first) {
            return Some(first);
        }
        // All together have room for more than all there is, but perhaps not those that are usable.
        let least = || {
            let all = (0..self.slots.len()).filter(|i| self.weight(*i) > 0 && usable(*i));
            all.reduce(|a, b| if waits_less(load(b), self.weight(b), load(a), self.weight(a)) { b } else { a })
        };
        let picked = self.best(key, &|i| usable(i) && has_room(i)).or_else(least);
        if let Some(metrics) = &self.metrics
            && picked != Some(first)
        {
            metrics.hash_spills.add(1);
        }
        picked
    }

    fn weight(&self, i: usize) -> u32 {
        self.slots.get(i).map_or(0, |slot| slot.weight)
    }

    /// The endpoint with the best draw, of those that are usable.
    #[inline]
    fn best(&self, key: u64, usable: &impl Fn(usize) -> bool) -> Option<usize> {
        if self.equal { self.best_of_equal(key, usable) } else { self.best_by_weight(key, usable) }
    }

    /// The largest draw: the same that [`Self::best_by_weight`] would find, without its logarithms.
    fn best_of_equal(&self, key: u64, usable: &impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(usize, u64)> = None;
        for (i, slot) in self.slots.iter().enumerate() {
            let drawn = draw(key, slot.id);
            if best.is_none_or(|(_, most)| drawn > most) && slot.weight > 0 && usable(i) {
                best = Some((i, drawn));
            }
        }
        best.map(|(i, _)| i)
    }

    /// The smallest of -ln(draw) / weight: of exponentials with these rates each is the smallest by its share.
    fn best_by_weight(&self, key: u64, usable: &impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (i, slot) in self.slots.iter().enumerate() {
            let drawn = unit(draw(key, slot.id));
            let least = best.map_or(f64::INFINITY, |(_, least)| least);
            // -ln(x) is never less than 1 - x, which nearly always says enough.
            if (1.0 - drawn) * slot.per_weight >= least {
                continue;
            }
            let waits = -drawn.ln() * slot.per_weight;
            if (best.is_none() || waits < least) && slot.weight > 0 && usable(i) {
                best = Some((i, waits));
            }
        }
        best.map(|(i, _)| i)
    }
}

/// What an endpoint draws for a key. Changing it moves every key: it is part of what machines agree on.
#[inline]
fn draw(key: u64, id: u64) -> u64 {
    mixed(key ^ id)
}

/// A draw as a number in 0..1: its upper 53 bits, which a float holds exactly.
#[inline]
fn unit(drawn: u64) -> f64 {
    const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
    (drawn >> 11) as f64 * SCALE
}

#[cfg(test)]
mod tests;
