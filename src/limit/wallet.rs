//! A core's wallet of one limit, and the decision itself: [`CoreWallet::check`].
//!
//! It has a fixed number of pockets for the keys that are busy right now. Tokens in one were taken in a chunk, so that a
//! busy key costs one atomic operation in 64 requests, and nothing shared is touched in between. A key that this core
//! asks for less than every 5 ms gets no chunk, only what it needs: for the many keys that are not busy a check is a
//! look at their line in the process wallet, and a denied one writes nothing anywhere.
//!
//! **Why chunks do not make the bucket leak.** What is in the bucket and what cores hold must never be more than the
//! burst together. Tokens that a core holds count as spent, so it may hold no more than what the bucket lacks: as the
//! bucket fills, held tokens expire one by one, the last one when the bucket would be full. The core knows that time
//! when it takes them, since the bucket's word is the time. Others who take tokens can only put it off, and what two
//! cores hold was taken one after the other, so it adds up. Putting tokens back is allowed only while nobody took any
//! since.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::limit::Decision;
use crate::limit::bucket::{Shape, full_at_us};
use crate::limit::lease::Lease;
use crate::limit::pocket::{Pocket, TOKENS_MAX};
use crate::limit::spec::{CHUNK_MAX, OnUnavailable, Spec};
use crate::limit::words::{self, BUCKET, DEBT, DENIED, Debt, KNOWN, Known, LEASE, LOCAL, Until, WAITING};
use crate::shared::wallet::{At, Table, Unchanged, WORDS};

/// Tokens that a core has not spent for this long go back, so that another core finds them.
const HELD_MAX_US: u64 = 20_000;
/// Chunks remembered for that; those beyond are spent or expire.
const HELD_MAX: usize = 4096;
/// Pockets of a core at most: 128 KiB, which stays in its cache. More keys than this are not busy on one core at once.
const POCKETS_MAX: usize = 4096;
/// What a client is told then: control's period, after which there is an answer.
const ANSWER_SOON_MS: u64 = 20;
/// What a client is told while Redis is away and everything is denied.
const AWAY_RETRY_MS: u64 = 1_000;
/// Looks for a slot that an eviction took away in between, before the overflow slot decides.
const TRIES: usize = 4;

/// What a core decided and had, for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens spent out of buckets and leases.
    pub spent: u64,
    /// Tokens spent ahead of an answer.
    pub overdrawn: u64,
    /// Tokens spent while Redis was away.
    pub away: u64,
    /// Requests denied.
    pub denied: u64,
    /// Tokens that expired in this core.
    pub expired: u64,
}

/// One core's part of a limit. It outlives the config; [`Spec`] comes with each check.
#[derive(Debug)]
pub struct CoreWallet {
    table: Arc<Table>,
    cores: u64,
    own: RefCell<Own>,
}

#[derive(Debug)]
struct Own {
    /// [`Pocket`]s, by the lower bits of the key's hash.
    pockets: Vec<[u64; 4]>,
    held: VecDeque<Held>,
    latest_us: u64,
    /// The fingerprint of the limit's numbers at the last check, and how often they changed (modulo 256): what a core holds of a key, and
    /// until when it denies it, is forgotten when they do.
    spec: Option<u64>,
    epoch: u64,
    counts: Counts,
}

/// A chunk that may have to go back.
#[derive(Debug, Clone, Copy)]
struct Held {
    at: At,
    hash: u64,
    tokens: u64,
    since_us: u64,
    /// The bucket after it was taken; not used for leases.
    word: u64,
}

/// One check, and where it happens.
#[derive(Clone, Copy)]
struct Call<'a> {
    table: &'a Table,
    spec: &'a Spec,
    cores: u64,
    at: At,
    hash: u64,
    cost: u64,
    now_us: u64,
    /// Whether the answer is to say what Redis has besides.
    tells: bool,
}

/// The slot has another tenant: look again.
struct Gone;

impl CoreWallet {
    /// A core's part of the limit that `table` is the process wallet of, in a process with `cores` cores.
    #[must_use]
    pub fn new(table: Arc<Table>, cores: u64) -> Self {
        let own = Own {
            pockets: vec![[0; 4]; table.slots().next_power_of_two().min(POCKETS_MAX)],
            held: VecDeque::new(),
            latest_us: 0,
            spec: None,
            epoch: 0,
            counts: Counts::default(),
        };
        Self { table, cores: cores.max(1), own: RefCell::new(own) }
    }

    /// Whether a request of `key` that costs `cost` may pass at `now_us`, in µs of the process' clock. It waits for
    /// nothing. With several limits, ask the one most likely to deny first: what was taken is not given back.
    #[inline]
    pub fn check(&self, spec: &Spec, key: &[u8], cost: u64, now_us: u64) -> Decision {
        self.decide(spec, key, cost, now_us, false)
    }

    /// The same, and `remaining` is what is left of `key` as far as this process knows: with what Redis had besides, for a
    /// `RateLimit` field. It costs another cache miss where the key is not busy.
    #[inline]
    pub fn check_and_tell(&self, spec: &Spec, key: &[u8], cost: u64, now_us: u64) -> Decision {
        self.decide(spec, key, cost, now_us, true)
    }

    #[inline]
    fn decide(&self, spec: &Spec, key: &[u8], cost: u64, now_us: u64, tells: bool) -> Decision {
        if cost == 0 {
            return Decision::Allow { remaining: spec.set().burst };
        }
        if cost > spec.set().cost_max {
            return Decision::Deny { retry_after_ms: spec.reset_ms(0), remaining: 0 };
        }
        let mut own = self.own.borrow_mut();
        // Time stands still rather than going back: the cores' clocks are read at different moments.
        own.latest_us = own.latest_us.max(now_us);
        let now_us = own.latest_us;
        if own.spec != Some(spec.fingerprint()) {
            own.spec = Some(spec.fingerprint());
            own.epoch = (own.epoch + 1) & 0xff;
        }
        let hash = self.table.hash(key);
        if let Some(decision) = own.pay_from_pocket(spec, hash, cost, now_us) {
            return decision;
        }
        let mut call =
            Call { table: &self.table, spec, cores: self.cores, at: self.table.overflow(), hash, cost, now_us, tells };
        for _ in 0..TRIES {
            call.at = match self.table.find(hash) {
                Some(at) => at,
                None => self.claim(spec, hash, key, now_us, &mut own.counts),
            };
            if let Ok(decision) = own.decide(&call) {
                return decision;
            }
        }
        call.at = self.table.overflow();
        own.decide(&call).unwrap_or(Decision::Deny { retry_after_ms: ANSWER_SOON_MS, remaining: 0 })
    }

    #[cold]
    fn claim(&self, spec: &Spec, hash: u64, key: &[u8], now_us: u64, counts: &mut Counts) -> At {
        // Redis gets a digest: short, of one length, and nobody reads API keys or addresses out of it.
        let name = if spec.set().is_shared { halves(digest(&SHA256, key).as_ref()) } else { [0; 2] };
        let contact_us = self.table.contact_us();
        let forgotten = Cell::new(0);
        let at = self.table.claim(
            hash,
            name,
            |words| words::is_forgettable(words, spec, now_us, contact_us),
            |words| {
                let lease = Lease::unpack(words.get(LEASE));
                forgotten.set(if spec.set().is_shared { lease.tokens } else { 0 });
                (1..=WORDS).for_each(|i| words.set(i, 0));
            },
        );
        counts.expired += forgotten.get();
        at
    }

    /// Takes back what [`Self::check`] just let pass, since the request goes no further: the tokens are this core's, to be
    /// spent on the same key while they are worth something. What there is no place for is lost, and never gained.
    pub fn give_back(&self, spec: &Spec, key: &[u8], cost: u64, now_us: u64) {
        let mut own = self.own.borrow_mut();
        let now_us = own.latest_us.max(now_us);
        let hash = self.table.hash(key);
        let (slot, epoch) = (own.slot_of(hash), own.epoch);
        let Some(at) = self.table.find(hash) else { return };
        // What was spent ahead is not charged then. If the question about it is under way, it stands for the next one.
        let is_owed = spec.set().is_shared
            && self.table.update(at, DEBT, |word| {
                let debt = Debt::unpack(word);
                let overdrawn = debt.overdrawn.checked_sub(cost).ok_or(())?;
                Ok::<_, ()>((Debt { overdrawn, ..debt }.pack(), ()))
            }) == Ok(());
        if is_owed {
            own.counts.overdrawn = own.counts.overdrawn.saturating_sub(cost);
            return;
        }
        let Some(word) = own.pockets.get_mut(slot) else { return };
        let mut pocket = Pocket::unpack(*word);
        if pocket.hash != hash || pocket.epoch != epoch || pocket.tokens + cost > TOKENS_MAX {
            return;
        }
        pocket.tokens += cost;
        pocket.expire(spec, now_us);
        *word = pocket.pack();
        own.counts.spent = own.counts.spent.saturating_sub(cost);
        if own.held.len() < HELD_MAX {
            own.held.push_back(Held { at, hash, tokens: cost, since_us: now_us, word: 0 });
        }
    }

    /// Puts tokens back that were not spent for 20 ms. To be called every few ms; usually there is nothing to do.
    pub fn sweep(&self, spec: &Spec, now_us: u64) {
        let mut own = self.own.borrow_mut();
        while let Some(held) = own.held.front().copied() {
            if now_us.saturating_sub(held.since_us) < HELD_MAX_US {
                break;
            }
            own.held.pop_front();
            own.give_back(&self.table, spec, held, now_us);
        }
    }

    /// What this core decided so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.own.borrow().counts
    }

    /// Tokens in this core's wallet, over all keys: for tests.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.own.borrow().pockets.iter().map(|word| Pocket::unpack(*word).tokens).sum()
    }

    /// The process wallet.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

impl Own {
    /// Where a key's pocket is. The table goes by the upper bits of the hash, this by the lower ones.
    #[inline]
    fn slot_of(&self, hash: u64) -> usize {
        usize::try_from(hash).unwrap_or_default() & (self.pockets.len() - 1)
    }

    /// The short way: the key is busy, and there are tokens in its pocket.
    #[inline]
    fn pay_from_pocket(&mut self, spec: &Spec, hash: u64, cost: u64, now_us: u64) -> Option<Decision> {
        let slot = self.slot_of(hash);
        let word = self.pockets.get_mut(slot)?;
        let mut pocket = Pocket::unpack(*word);
        let has_tokens = pocket.hash == hash && pocket.epoch == self.epoch && pocket.tokens >= cost;
        if !has_tokens || !pocket.is_fresh(spec, now_us) {
            return None;
        }
        pocket.tokens -= cost;
        self.counts.spent += cost;
        let decision = pocket.allow(pocket.remaining.saturating_sub(cost));
        *word = pocket.pack();
        Some(decision)
    }

    #[inline]
    fn decide(&mut self, call: &Call<'_>) -> Result<Decision, Gone> {
        let slot = self.slot_of(call.hash);
        let old = self.pockets.get(slot).map_or_else(Pocket::default, |word| Pocket::unpack(*word));
        let is_mine = old.hash == call.hash && old.epoch == self.epoch;
        // Another key's tokens are not thrown away for a key that may come only once.
        let is_taken = !is_mine
            && old.tokens > 0
            && old.epoch == self.epoch
            && old.is_fresh(call.spec, call.now_us)
            && call.now_us < old.taken_us + HELD_MAX_US;
        let mut pocket = if is_mine { old } else { Pocket { hash: call.hash, epoch: self.epoch, ..Pocket::default() } };
        let expired = pocket.expire(call.spec, call.now_us);
        let decision =
            if call.spec.set().is_shared { self.draw_lease(call, &mut pocket) } else { self.draw(call, &mut pocket) };
        let is_denied = matches!(decision, Ok(Decision::Deny { .. }));
        self.counts.denied += u64::from(is_denied);
        let is_kept = is_taken || (is_denied && !is_mine);
        if !is_kept && let Some(word) = self.pockets.get_mut(slot) {
            self.counts.expired += if is_mine { expired } else { old.tokens };
            *word = pocket.pack();
        }
        decision
    }

    /// Out of the process' own bucket.
    fn draw(&mut self, call: &Call<'_>, pocket: &mut Pocket) -> Result<Decision, Gone> {
        if pocket.tokens >= call.cost {
            // Some expired, and enough did not.
            pocket.tokens -= call.cost;
            self.counts.spent += call.cost;
            return Ok(pocket.allow(pocket.remaining.saturating_sub(call.cost)));
        }
        let (shape, needed) = (call.spec.shape(), call.cost - pocket.tokens);
        let chunk = pocket.next_chunk(call.now_us, CHUNK_MAX);
        let most = needed + chunk - 1;
        let taken = call.table.update(call.at, BUCKET, |word| {
            shape.take(word, call.now_us, needed, most, 2 * call.cores).map(|t| (t.word, t))
        });
        match taken {
            Ok(taken) => {
                pocket.put_in(taken.tokens, full_at_us(taken.word), chunk, call.now_us);
                self.spend(call, pocket, taken.word);
                Ok(pocket.allow(taken.left + pocket.tokens))
            }
            Err(Unchanged::Refused(wait_us)) => {
                // As empty as can be: perhaps emptier than that, after a reload.
                if wait_us.saturating_mul(shape.n()) >= needed * shape.p() {
                    let settle = |word| shape.settle(word, call.now_us).map(|word| (word, ())).ok_or(());
                    let _ = call.table.update(call.at, BUCKET, settle);
                }
                Ok(pocket.deny(wait_us))
            }
            Err(Unchanged::Gone) => Err(Gone),
        }
    }

    /// Out of what Redis leased to this process.
    fn draw_lease(&mut self, call: &Call<'_>, pocket: &mut Pocket) -> Result<Decision, Gone> {
        let needed = call.cost - pocket.tokens;
        let most_chunk = call.spec.chunk_max(call.table.processes(), call.cores);
        let chunk = pocket.next_chunk(call.now_us, most_chunk);
        let taken = call.table.update(call.at, LEASE, |word| {
            let taken = Lease::unpack(word).take(call.now_us, needed, needed + chunk - 1, 2 * call.cores);
            taken.map(|(left, tokens)| (left.pack(), (left, tokens))).ok_or(())
        });
        match taken {
            Ok((left, tokens)) => {
                if left.is_low() {
                    call.table.mark(call.at, true);
                }
                pocket.put_in(tokens, left.expiry_us(), chunk, call.now_us);
                self.spend(call, pocket, 0);
                let besides = if call.tells { besides(call) } else { 0 };
                Ok(pocket.allow((left.tokens + pocket.tokens + besides).min(call.spec.set().burst)))
            }
            Err(Unchanged::Refused(())) => self.without_lease(call, pocket),
            Err(Unchanged::Gone) => Err(Gone),
        }
    }

    /// Spends out of the core's wallet, and remembers the rest of the chunk.
    #[inline]
    fn spend(&mut self, call: &Call<'_>, pocket: &mut Pocket, word: u64) {
        pocket.tokens -= call.cost;
        self.counts.spent += call.cost;
        if pocket.tokens > 0 && self.held.len() < HELD_MAX {
            let held = Held { at: call.at, hash: call.hash, tokens: pocket.tokens, since_us: call.now_us, word };
            self.held.push_back(held);
        }
    }

    /// No tokens here: what Redis said, a local bucket while it is away, an overdraft, or no.
    #[cold]
    fn without_lease(&mut self, call: &Call<'_>, pocket: &mut Pocket) -> Result<Decision, Gone> {
        let denied = Until::unpack(call.table.get(call.at, DENIED));
        let most_us = call.spec.wait_max_us(call.table.processes());
        // A longer denial is from before a reload.
        if call.now_us < denied.us && denied.us <= call.now_us + most_us && call.cost >= denied.cost {
            return Ok(pocket.deny(denied.us - call.now_us));
        }
        if let Some(since_us) = away_since(call) {
            return self.while_away(call, pocket, since_us);
        }
        if may_overdraw(call) {
            let most = call.spec.overdraft_for(call.table.processes(), call.cost);
            let spent = call.table.update(call.at, DEBT, |word| {
                let debt = Debt::unpack(word);
                let overdrawn = debt.overdrawn + call.cost;
                if overdrawn <= most { Ok((Debt { overdrawn, ..debt }.pack(), ())) } else { Err(()) }
            });
            match spent {
                Ok(()) => {
                    self.counts.overdrawn += call.cost;
                    call.table.mark(call.at, true);
                    return Ok(pocket.allow(besides(call)));
                }
                Err(Unchanged::Gone) => return Err(Gone),
                Err(Unchanged::Refused(())) => {}
            }
        }
        wait(call, true)?;
        Ok(pocket.deny(ANSWER_SOON_MS * 1000))
    }

    fn while_away(&mut self, call: &Call<'_>, pocket: &mut Pocket, since_us: u64) -> Result<Decision, Gone> {
        wait(call, false)?;
        let share = match call.spec.set().on_unavailable {
            OnUnavailable::Deny => return Ok(pocket.deny(AWAY_RETRY_MS * 1000)),
            OnUnavailable::Allow => {
                self.counts.away += call.cost;
                return Ok(pocket.allow(call.spec.set().burst));
            }
            OnUnavailable::LocalShare | OnUnavailable::LocalFull => call.spec.share(call.table.processes()),
        };
        let taken = call.table.update(call.at, LOCAL, |word| {
            let word = if word == 0 { first_word(call.spec, &share, since_us) } else { word };
            share.take(word, call.now_us, call.cost, call.cost, 1).map(|t| (t.word, t.left))
        });
        match taken {
            Ok(left) => {
                self.counts.away += call.cost;
                owe(call)?;
                Ok(pocket.allow(left))
            }
            Err(Unchanged::Refused(wait_us)) => Ok(pocket.deny(wait_us)),
            Err(Unchanged::Gone) => Err(Gone),
        }
    }

    fn give_back(&mut self, table: &Table, spec: &Spec, held: Held, now_us: u64) {
        let slot = self.slot_of(held.hash);
        let Some(slot) = self.pockets.get_mut(slot) else { return };
        let mut pocket = Pocket::unpack(*slot);
        if pocket.hash != held.hash || pocket.epoch != self.epoch {
            return;
        }
        self.counts.expired += pocket.expire(spec, now_us);
        // Of several chunks only the last one can go back to a bucket, and only as long as nobody took after it.
        let tokens = pocket.tokens.min(held.tokens);
        let given = tokens > 0
            && if spec.set().is_shared {
                let given = table.update(held.at, LEASE, |word| {
                    let lease = Lease::unpack(word);
                    let fits = lease.usable(now_us) == lease.tokens && lease.expiry_us() <= pocket.until_us;
                    if fits { Ok((lease.with_more(tokens).pack(), ())) } else { Err(()) }
                });
                given.is_ok()
            } else {
                let given = table.update(held.at, BUCKET, |word| {
                    if word == held.word { Ok((spec.shape().give(word, now_us, tokens), ())) } else { Err(()) }
                });
                given.is_ok()
            };
        if given {
            pocket.tokens -= tokens;
        }
        *slot = pocket.pack();
    }
}

/// Since when Redis has been away, for this key or for all; `None` while it is not.
fn away_since(call: &Call<'_>) -> Option<u64> {
    let (contact_us, after_us) = (call.table.contact_us(), call.spec.set().away_after_us);
    if contact_us + after_us < call.now_us {
        return Some(contact_us);
    }
    let waiting = Until::unpack(call.table.get(call.at, WAITING));
    (waiting.us != 0 && waiting.us + after_us < call.now_us).then_some(waiting.us)
}

/// The local bucket when Redis went away: empty, since what is left of the limit may be with another process.
fn first_word(spec: &Spec, share: &Shape, since_us: u64) -> u64 {
    if spec.set().on_unavailable == OnUnavailable::LocalFull { 1 } else { share.empty(since_us) }
}

/// Whether tokens may be spent ahead of the answer: when Redis never said anything of the key, and when it had as many. All
/// processes may do so at once, which is what the promise says. It is how keys spend that are not busy enough for a lease,
/// and all of a limit so low that leases would strand tokens.
fn may_overdraw(call: &Call<'_>) -> bool {
    let word = call.table.get(call.at, KNOWN);
    word == 0 || Known::unpack(word).tokens_now(call.spec, call.now_us) >= call.cost
}

/// What Redis has of the key as far as is known here, without what was spent ahead of it. A bucket that Redis has not
/// answered about yet is taken to be full.
fn besides(call: &Call<'_>) -> u64 {
    let there = match call.table.get(call.at, KNOWN) {
        0 => call.spec.set().burst,
        word => Known::unpack(word).tokens_now(call.spec, call.now_us),
    };
    there.saturating_sub(Debt::unpack(call.table.get(call.at, DEBT)).overdrawn)
}

/// Asks for an answer.
fn wait(call: &Call<'_>, urgent: bool) -> Result<(), Gone> {
    let asked = call.table.update(call.at, WAITING, |word| {
        let old = Until::unpack(word);
        let us = if old.us == 0 { call.now_us } else { old.us };
        let new = Until { us, cost: old.cost.max(call.cost) };
        if new == old { Err(()) } else { Ok((new.pack(), ())) }
    });
    if asked == Err(Unchanged::Gone) {
        return Err(Gone);
    }
    call.table.mark(call.at, urgent);
    Ok(())
}

/// Notes what was spent while Redis was away.
fn owe(call: &Call<'_>) -> Result<(), Gone> {
    let owed = call.table.update(call.at, DEBT, |word| {
        let debt = Debt::unpack(word);
        Ok::<_, ()>((Debt { away: debt.away + call.cost, ..debt }.pack(), ()))
    });
    if owed.is_err() { Err(Gone) } else { Ok(()) }
}

fn halves(digest: &[u8]) -> [u64; 2] {
    let mut bytes = digest.chunks_exact(8).map(|c| c.iter().fold(0_u64, |n, b| (n << 8) | u64::from(*b)));
    [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)]
}
