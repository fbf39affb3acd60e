//! A core's pocket for one busy key: tokens that were taken in a chunk, and until when they are worth something.

use crate::limit::Decision;
use crate::limit::spec::Spec;

/// A key that takes again within this time gets a larger chunk.
const BUSY_US: u64 = 5_000;
/// Tokens have 16 bits in a pocket.
pub(super) const TOKENS_MAX: u64 = 0xffff;

/// What a core holds of a busy key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pocket {
    pub(super) hash: u64,
    pub(super) tokens: u64,
    /// When the tokens are worth nothing any more.
    pub(super) until_us: u64,
    /// Tokens left for everybody, when last seen.
    pub(super) remaining: u64,
    /// When tokens were taken last.
    pub(super) taken_us: u64,
    pub(super) chunk: u64,
    /// [`Own::epoch`] when this was written.
    pub(super) epoch: u64,
}

impl Pocket {
    #[inline]
    pub(super) const fn unpack(word: [u64; 4]) -> Self {
        let [hash, counts, until_us, taken] = word;
        Self {
            hash,
            tokens: counts & 0xffff,
            until_us,
            remaining: counts >> 32,
            taken_us: taken >> 16,
            chunk: taken & 0xff,
            epoch: (taken >> 8) & 0xff,
        }
    }

    #[inline]
    pub(super) fn pack(&self) -> [u64; 4] {
        let counts = (self.remaining.min(0xffff_ffff) << 32) | self.tokens;
        [self.hash, counts, self.until_us, (self.taken_us << 16) | (self.epoch << 8) | self.chunk]
    }

    #[inline]
    pub(super) fn allow(&mut self, remaining: u64) -> Decision {
        self.remaining = remaining;
        Decision::Allow { remaining }
    }

    pub(super) fn deny(&self, wait_us: u64) -> Decision {
        Decision::Deny { retry_after_ms: wait_us.div_ceil(1000), remaining: self.tokens }
    }

    /// Whether all tokens in it are worth something.
    #[inline]
    pub(super) fn is_fresh(&self, spec: &Spec, now_us: u64) -> bool {
        let left_us = self.until_us.saturating_sub(now_us);
        if spec.set().is_shared { left_us > 0 } else { left_us * spec.shape().n() >= self.tokens * spec.shape().p() }
    }

    /// Drops tokens that are worth nothing any more, and says how many.
    pub(super) fn expire(&mut self, spec: &Spec, now_us: u64) -> u64 {
        if self.is_fresh(spec, now_us) {
            return 0;
        }
        let fresh = if spec.set().is_shared { 0 } else { spec.shape().tokens_in(self.until_us.saturating_sub(now_us)) };
        let expired = self.tokens.saturating_sub(fresh);
        self.tokens -= expired;
        expired
    }

    /// How many tokens to take beyond what is needed, plus one: twice as many as before while the key is busy.
    pub(super) fn next_chunk(&self, now_us: u64, most: u64) -> u64 {
        let is_busy = self.chunk > 0 && now_us.saturating_sub(self.taken_us) < BUSY_US;
        if is_busy { (self.chunk * 2).clamp(1, most) } else { 1 }
    }

    pub(super) fn put_in(&mut self, tokens: u64, until_us: u64, chunk: u64, now_us: u64) {
        self.until_us = if self.tokens > 0 { self.until_us.min(until_us) } else { until_us };
        (self.tokens, self.chunk, self.taken_us) = (self.tokens + tokens, chunk, now_us);
    }
}
