//! What the words of a key's slot in the process wallet mean.

use crate::limit::bucket::full_at_us;
use crate::limit::lease::Lease;
use crate::limit::spec::Spec;
use crate::shared::wallet::Words;

/// Of a limit of this process alone: the bucket. It is the near word, as is the lease: a limit is one or the other, and
/// one that becomes the other begins with a new table.
pub(super) const BUCKET: usize = 1;
/// Of a limit through Redis: the [`Lease`].
pub(super) const LEASE: usize = 1;
/// Of a limit through Redis: the local bucket while Redis is away. 0: none.
pub(super) const LOCAL: usize = 2;
/// [`Debt`].
pub(super) const DEBT: usize = 3;
/// Denied until when, for which cost: [`Until`]; by Redis' answer.
pub(super) const DENIED: usize = 4;
/// Waiting for an answer since when, for which cost: [`Until`].
pub(super) const WAITING: usize = 5;
/// [`Known`]: Redis' last answer.
pub(super) const KNOWN: usize = 6;

/// A time and a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Until {
    pub(super) us: u64,
    pub(super) cost: u64,
}

impl Until {
    #[inline]
    pub(super) const fn unpack(word: u64) -> Self {
        Self { us: word >> 16, cost: word & 0xffff }
    }

    #[inline]
    pub(super) fn pack(self) -> u64 {
        (self.us << 16) | self.cost.min(0xffff)
    }
}

/// What was spent that Redis does not know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Debt {
    /// Ahead of an answer.
    pub(super) overdrawn: u64,
    /// From the local bucket while Redis was away.
    pub(super) away: u64,
}

impl Debt {
    #[inline]
    pub(super) const fn unpack(word: u64) -> Self {
        Self { overdrawn: word & 0xffff_ffff, away: word >> 32 }
    }

    #[inline]
    pub(super) fn pack(self) -> u64 {
        const MOST: u64 = 0xffff_ffff;
        (self.away.min(MOST) << 32) | self.overdrawn.min(MOST)
    }
}

/// Tokens that Redis had when it answered, and when that was. The word is 0 as long as it never did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    pub(super) ms: u64,
    pub(super) tokens: u64,
}

impl Known {
    const TOKEN_BITS: u32 = 24;

    #[inline]
    pub(super) const fn unpack(word: u64) -> Self {
        Self { ms: word >> Self::TOKEN_BITS, tokens: word & ((1 << Self::TOKEN_BITS) - 1) }
    }

    pub(super) fn pack(self) -> u64 {
        (self.ms.max(1) << Self::TOKEN_BITS) | self.tokens.min((1 << Self::TOKEN_BITS) - 1)
    }

    /// What there would be now if nobody had taken any since.
    pub(super) fn tokens_now(self, spec: &Spec, now_us: u64) -> u64 {
        let us = now_us.saturating_sub(self.ms * 1000);
        (self.tokens + spec.shape().tokens_in(us)).min(spec.set().burst)
    }
}

/// Whether the slot's words say nothing that a new tenant would not start with.
pub(super) fn is_forgettable(words: Words<'_>, spec: &Spec, now_us: u64, contact_us: u64) -> bool {
    if !spec.set().is_shared {
        return full_at_us(words.get(BUCKET)) < now_us;
    }
    let waiting = Until::unpack(words.get(WAITING));
    // While Redis is away nobody answers, and a key whose local bucket is full has nothing to lose by it.
    let is_asking = waiting.us != 0 && now_us < waiting.us.max(contact_us) + spec.set().away_after_us;
    full_at_us(words.get(LOCAL)) < now_us
        && !is_asking
        && Lease::unpack(words.get(LEASE)).usable(now_us) == 0
        && Debt::unpack(words.get(DEBT)).overdrawn == 0
        && Until::unpack(words.get(DENIED)).us <= now_us
}
