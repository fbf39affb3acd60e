//! What a simulated run is made of, and what it shows.

use crate::limit::Spec;

/// A defect to be built in, so that one sees the oracle go red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    None,
    /// Redis grants tokens and keeps them.
    GrantsAreFree,
    /// A lease counts from when the answer came.
    LeaseFromAnswer,
    /// Debt never reaches Redis.
    DebtIsForgotten,
    /// Redis does not know a repeated question.
    RepeatsCount,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    None,
    /// Only what the promise allows nothing more for.
    Unpardoned,
    All,
}

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) spec: Spec,
    pub(super) seed: u64,
    pub(super) processes: usize,
    pub(super) cores: u64,
    pub(super) keys: u64,
    /// Requests a second, of all processes and keys.
    pub(super) demand: f64,
    /// All requests go to one process and core.
    pub(super) one_core: bool,
    pub(super) length_us: u64,
    pub(super) faults: Faults,
    pub(super) defect: Defect,
}

/// What a run showed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) admitted: u64,
    /// Admitted in the second half.
    pub(super) admitted_late: u64,
    pub(super) requests: u64,
    /// Worst excess over R·T, and what was promised.
    pub(super) worst: u64,
    pub(super) allowed: u64,
    pub(super) calls: u64,
    pub(super) away: u64,
}

/// xorshift64* (Vigna, 2016).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * u128::from(n)) >> 64) as u64
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
