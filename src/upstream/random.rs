//! Random numbers that decide nothing secret.

/// The mix of splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014): every bit of the
/// result depends on every bit.
#[inline]
pub(super) fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Marsaglia, "Xorshift RNGs", 2003, with Vigna's multiplier: fast, and good enough to choose endpoints and samples.
#[derive(Clone, Debug)]
pub struct XorShift(u64);

impl XorShift {
    /// Spreads the seed (splitmix64), since cores count theirs from zero; the state must not be zero.
    pub fn new(seed: u64) -> Self {
        XorShift(mixed(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).max(1))
    }

    /// The next 64 bits.
    #[inline]
    #[allow(clippy::should_implement_trait)] // it has no end
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Whether this one is among so many of a million.
    pub fn draws(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < per_million
    }

    /// A number below `below`.
    pub fn below(&mut self, below: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(below)) >> 32).unwrap_or(0)
    }
}
