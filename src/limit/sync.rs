//! Control's side of a limit through Redis: which keys to ask about, and what an answer means. No I/O: control sends
//! what [`Sync::drain`] says and brings the answers to [`Sync::apply`].
//!
//! **What an unanswered question costs.** It may have been executed or not, so what it asked for is treated as the
//! promise needs it: tokens that went back with it are gone, tokens that it may have been granted are never used, and
//! the debt is told again with the next question (at worst Redis charges it twice). Questions must not be sent twice:
//! a client library's own retries have to be off. If the network repeats or delays one even so, the script knows by
//! its stamp: it heeds only stamps higher than the last one of this process, and no returns older than a lease's life.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limit::bucket::UNITS_MAX;
use crate::limit::lease::{Demand, Lease};
use crate::limit::spec::{ANSWER_MAX_US, Spec};
use crate::limit::words::{DEBT, DENIED, Debt, KNOWN, Known, LEASE, LOCAL, Until, WAITING};
use crate::shared::wallet::{At, Table};

/// How often control drains.
pub const PERIOD_US: u64 = 20_000;
/// How soon it may drain again when [`Table::is_urgent`].
pub const PERIOD_URGENT_US: u64 = 5_000;
/// How often it tells Redis that this process lives, when it asks nothing else: less than half of the shortest
/// `away_after_us`, since the answer is also what says that Redis is there.
pub const HEARTBEAT_US: u64 = 40_000;
/// A process that was not heard of for this long does not count any more. A shorter time would let a pause of one
/// raise the shares of the others.
pub const ALIVE_US: u64 = 10_000_000;
/// How long fewer processes must be counted before it is believed: a reconnect with jitter takes a few seconds.
pub const FEWER_AFTER_US: u64 = 5_000_000;
/// How long tokens are kept at hand for a request that was refused for want of a lease, where nothing may be spent ahead:
/// it was told to come again in a second.
const WANTED_US: u64 = 3_000_000;
/// Unspent tokens of a limit with a low rate go back after this long, of others after half their life.
const PROMPT_US: u64 = 50_000;

/// One key's question to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    at: At,
    /// The key's digest: the end of its name in Redis.
    pub name: [u64; 2],
    /// Redis' bucket: n tokens in p µs.
    pub n: u64,
    /// See [`Self::n`].
    pub p: u64,
    /// Redis' bucket: how much it holds, in units of 1/p tokens.
    pub cap: u64,
    /// Redis' bucket: how far it may be from full, in the same units.
    pub deepest: u64,
    /// What may be granted at most.
    pub most: u64,
    /// N.
    pub processes: u64,
    /// With fewer tokens a grant is of no use.
    pub need: u64,
    /// Tokens asked for.
    pub want: u64,
    /// Tokens spent that Redis does not know of.
    pub debt: u64,
    /// Unspent tokens that go back.
    pub returned: u64,
    /// When it was made. The lease counts from here.
    pub sent_us: u64,
    overdrawn: u64,
    away: u64,
}

impl Ask {
    /// Whether it is about the key of this slot.
    #[must_use]
    pub fn is_of(&self, at: At) -> bool {
        self.at == at
    }

    /// The script's arguments for this key, in its order.
    #[must_use]
    pub const fn args(&self) -> [u64; 10] {
        let Self { n, p, cap, deepest, most, processes, need, want, debt, returned, .. } = *self;
        [n, p, cap, deepest, most, processes, need, want, debt, returned]
    }
}

/// The script's answer for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Tokens granted.
    pub granted: u64,
    /// Tokens that are left; below zero when there is debt to be paid back.
    pub left: i64,
    /// How long until there will be `need` tokens, in µs; 0 when there are.
    pub wait_us: u64,
}

/// What happened to a limit's tokens, for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flows {
    /// Tokens that Redis granted in answers that came in time.
    pub granted: u64,
    /// Tokens that went back to Redis.
    pub returned: u64,
    /// Tokens that expired in the process wallet.
    pub expired: u64,
    /// Debt that Redis charged.
    pub charged: u64,
    /// Granted tokens that paid for debt at once.
    pub paid: u64,
}

/// Control's records of one limit.
#[derive(Debug)]
pub struct Sync {
    table: Arc<Table>,
    cores: u64,
    keys: Vec<Key>,
    /// Leases that may have to go back, by the time to look at them: (time, slot).
    leased: VecDeque<(u64, At)>,
    marked: Vec<usize>,
    from: usize,
    fewer_since_us: Option<u64>,
    flows: Flows,
}

#[derive(Debug, Clone, Copy, Default)]
struct Key {
    tag: u64,
    demand: Demand,
    /// When the question that waits for its answer was sent; 0: none does.
    asked_us: u64,
    /// Tokens in the lease, and when that was.
    seen: u64,
    seen_us: u64,
    /// Until when tokens are kept at hand for requests of this cost, which were refused for want of a lease.
    wanted_until_us: u64,
    wanted: u64,
    /// Tokens to go back with the next question, and when they would have expired.
    back: u64,
    back_until_us: u64,
}

impl Key {
    /// Whether a request may come again that only what lies ready can let through, since nothing may be spent ahead.
    fn is_wanted(&self, spec: &Spec, n: u64, now_us: u64) -> bool {
        spec.overdraft(n) == 0 && now_us < self.wanted_until_us
    }
}

impl Sync {
    /// Control's side of the limit that `table` is the process wallet of, in a process with `cores` cores.
    #[must_use]
    pub fn new(table: Arc<Table>, cores: u64) -> Self {
        let keys = vec![Key::default(); table.slots()];
        Self {
            table,
            cores,
            keys,
            leased: VecDeque::new(),
            marked: Vec::new(),
            from: 0,
            fewer_since_us: None,
            flows: Flows::default(),
        }
    }

    /// Redis answered a heartbeat that was sent at `sent_us`: `processes` are alive.
    ///
    /// More count at once, fewer only once that has been so for [`FEWER_AFTER_US`]: a Redis that lost its data counts
    /// from one again, and the first process must not take the shares of all.
    pub fn heard(&mut self, sent_us: u64, processes: u64) {
        self.table.set_contact(sent_us);
        let is_fewer = processes < self.table.processes();
        self.fewer_since_us = if is_fewer { self.fewer_since_us.or(Some(sent_us)) } else { None };
        if self.fewer_since_us.is_none_or(|since_us| sent_us >= since_us + FEWER_AFTER_US) {
            self.table.set_processes(processes);
            self.fewer_since_us = None;
        }
    }

    /// The questions to send now, up to about `max`. Each must be followed by [`Self::apply`] or [`Self::lost`].
    pub fn drain(&mut self, spec: &Spec, now_us: u64, max: usize) -> Vec<Ask> {
        while let Some((due_us, at)) = self.leased.front().copied() {
            if due_us > now_us {
                break;
            }
            self.leased.pop_front();
            self.table.mark(at, false);
        }
        let mut marked = std::mem::take(&mut self.marked);
        marked.clear();
        self.from = self.table.take_marked(self.from, max, |index| marked.push(index));
        let asks = marked.iter().filter_map(|index| self.ask(spec, *index, now_us)).collect();
        self.marked = marked;
        asks
    }

    fn ask(&mut self, spec: &Spec, index: usize, now_us: u64) -> Option<Ask> {
        let (at, n) = (self.table.tenant(index)?, self.table.processes());
        let mut key = self.keys.get(index).copied()?;
        if key.tag != at.tag() {
            self.flows.expired += key.back;
            key = Key { tag: at.tag(), ..Key::default() };
        }
        if key.asked_us != 0 && now_us < key.asked_us + ANSWER_MAX_US {
            self.table.mark(at, false);
            return None;
        }
        let mut lease = Lease::unpack(self.table.get(at, LEASE));
        let overdrawn = Debt::unpack(self.table.get(at, DEBT)).overdrawn;
        let spent = key.seen.saturating_sub(lease.tokens) + overdrawn;
        key.demand.note(spent, now_us.saturating_sub(key.seen_us));
        let waiting = Until::unpack(self.table.get(at, WAITING));
        if waiting.us != 0 {
            (key.wanted, key.wanted_until_us) = (waiting.cost.max(1), now_us + WANTED_US);
        }
        let is_wanted = key.is_wanted(spec, n, now_us);
        let need = if is_wanted { key.wanted } else { waiting.cost.max(1) };
        let is_low_rate = spec.is_low_rate(n);
        if now_us >= key.back_until_us {
            self.flows.expired += std::mem::take(&mut key.back);
        }
        let mut returned = std::mem::take(&mut key.back);
        let taken = self.take_back(spec, at, &key.demand, is_low_rate && !is_wanted, now_us);
        returned += taken;
        lease.tokens = Lease::unpack(self.table.get(at, LEASE)).tokens;

        // What cores hold in chunks counts as held.
        let cores_hold = self.cores * (spec.chunk_max(n, self.cores) - 1);
        let most = spec.lease_max(n).saturating_sub(cores_hold).max(spec.set().cost_max);
        let held = lease.usable(now_us);
        let is_dry = (waiting.us != 0 || is_wanted) && held < need;
        // A key that is not busy needs no lease: its requests spend ahead, and one that nobody asks for wants nothing.
        let is_busy = spent > 0 && lease.is_low() && key.demand.is_busy();
        // With a low rate tokens are spent ahead and charged, and none lies about; but without overdrafts one must.
        let want = match (is_low_rate, is_dry) {
            (true, _) if spec.overdraft(n) > 0 => 0,
            (true, false) => 0,
            (true, true) => need,
            (false, _) if is_dry || is_busy => key.demand.want(is_dry, need, most),
            (false, _) => 0,
        };
        let (overdrawn, away, debt) = self.debt(spec, at, n, now_us);
        let ask = Ask {
            at,
            name: self.table.name(at),
            n: spec.central(n).n(),
            p: spec.central(n).p(),
            cap: spec.central(n).cap(),
            deepest: spec.deepest(n).saturating_mul(spec.shape().p()).min(4 * UNITS_MAX),
            most: most.saturating_sub(held),
            processes: n,
            need,
            want: want.saturating_sub(held),
            debt,
            returned,
            sent_us: now_us,
            overdrawn,
            away,
        };
        (key.seen, key.seen_us) = (lease.tokens, now_us);
        let is_idle = ask.want == 0 && debt == 0 && returned == 0 && waiting.us == 0;
        key.asked_us = if is_idle { 0 } else { now_us };
        if let Some(slot) = self.keys.get_mut(index) {
            *slot = key;
        }
        if is_idle {
            return None;
        }
        self.flows.returned += returned;
        Some(ask)
    }

    /// Takes unspent tokens out of a lease that is due: all but what the key's demand will need of them.
    fn take_back(&self, spec: &Spec, at: At, demand: &Demand, is_low_rate: bool, now_us: u64) -> u64 {
        let life_us = spec.set().life_us;
        let after_us = if is_low_rate { PROMPT_US } else { life_us / 2 };
        let taken = self.table.update(at, LEASE, |word| {
            let lease = Lease::unpack(word);
            let (usable, left_us) = (lease.usable(now_us), lease.expiry_us().saturating_sub(now_us));
            if usable == 0 || left_us > life_us - after_us {
                return Err(());
            }
            let kept = if is_low_rate { 0 } else { demand.over(left_us).min(usable) };
            Ok((lease.keep(kept).pack(), usable - kept))
        });
        taken.unwrap_or(0)
    }

    /// What Redis does not know of: (overdrawn, spent while away, what to charge for both).
    ///
    /// Of what was spent while Redis was away, the part that came in at R/N meanwhile is not charged: Redis' bucket
    /// took that in too, and lost it when it was full.
    fn debt(&self, spec: &Spec, at: At, n: u64, now_us: u64) -> (u64, u64, u64) {
        let debt = Debt::unpack(self.table.get(at, DEBT));
        let word = self.table.get(at, LOCAL);
        let share = spec.share(n);
        let missing = (share.cap() / share.p()).saturating_sub(share.tokens(word, now_us));
        let away = if word == 0 { debt.away } else { debt.away.min(missing) };
        (debt.overdrawn, debt.away, debt.overdrawn + away)
    }

    /// The answer to `ask`, at `now_us`.
    pub fn apply(&mut self, spec: &Spec, ask: &Ask, answer: &Answer, now_us: u64) {
        self.table.set_contact(ask.sent_us);
        let (table, at) = (Arc::clone(&self.table), ask.at);
        let Some(key) = self.keys.get_mut(at.index()) else { return };
        if key.tag != at.tag() || key.asked_us != ask.sent_us || now_us >= ask.sent_us + ANSWER_MAX_US {
            return; // given up: its debt was told again, its tokens are nobody's
        }
        key.asked_us = 0;
        let granted = answer.granted.min(ask.most);
        let settled = table.update(at, DEBT, |word| {
            let debt = Debt::unpack(word);
            let mut left = Debt {
                overdrawn: debt.overdrawn.saturating_sub(ask.overdrawn),
                away: debt.away.saturating_sub(ask.away),
            };
            // What was spent while the question was under way is paid out of the answer at once: if it were charged with
            // the next question only, it would come on top until then.
            let paid_away = left.away.min(granted);
            let paid_overdrawn = left.overdrawn.min(granted - paid_away);
            left = Debt { overdrawn: left.overdrawn - paid_overdrawn, away: left.away - paid_away };
            Ok::<_, ()>((left.pack(), (left, paid_away + paid_overdrawn)))
        });
        let Ok((left, paid)) = settled else { return };
        self.flows.charged += ask.debt;
        self.flows.granted += granted;
        self.flows.paid += paid;
        let granted = granted - paid;

        let (life_us, expiry_us) = (spec.set().life_us, ask.sent_us + spec.set().life_us);
        let joined = table.update(at, LEASE, |word| {
            let old = Lease::unpack(word);
            let (new, back) = old.join(now_us, granted, expiry_us, life_us);
            let expired = if granted > 0 { old.tokens - old.usable(now_us) } else { 0 };
            Ok::<_, ()>((new.pack(), (new, old.expiry_us(), back, expired)))
        });
        let Ok((lease, old_expiry_us, back, expired)) = joined else {
            self.flows.expired += granted;
            return;
        };
        self.flows.expired += expired;
        if back > 0 {
            // Tokens that wait for their way back already expire no later.
            key.back_until_us = if key.back > 0 { key.back_until_us.min(old_expiry_us) } else { old_expiry_us };
            key.back += back;
        }
        (key.seen, key.seen_us) = (lease.tokens, now_us);

        let tokens = u64::try_from(answer.left).unwrap_or(0);
        set(&table, at, KNOWN, Known { ms: now_us / 1000, tokens }.pack());
        let is_denied = lease.usable(now_us) < ask.need && answer.wait_us > 0;
        let denied = Until { us: now_us + answer.wait_us, cost: ask.need };
        set(&table, at, DENIED, if is_denied { denied.pack() } else { 0 });
        set(&table, at, WAITING, 0);
        if left.away == 0 {
            set(&table, at, LOCAL, 0);
        }
        if left != Debt::default() || key.back > 0 {
            table.mark(at, false);
        }
        if granted > 0 {
            let n = ask.processes;
            let is_prompt = spec.is_low_rate(n) && !key.is_wanted(spec, n, now_us);
            let after_us = if is_prompt { PROMPT_US } else { life_us / 2 };
            self.leased.push_back((ask.sent_us + after_us, at));
        }
    }

    /// There was no answer to `ask`: it failed, or took too long.
    pub fn lost(&mut self, ask: &Ask) {
        if let Some(key) = self.keys.get_mut(ask.at.index())
            && key.tag == ask.at.tag()
            && key.asked_us == ask.sent_us
        {
            key.asked_us = 0;
            self.table.mark(ask.at, false);
        }
    }

    /// What happened to this limit's tokens so far.
    #[must_use]
    pub fn flows(&self) -> Flows {
        self.flows
    }

    /// Tokens in leases, and on their way back, over all keys. It looks at every slot: for tests.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        let leased = (0..self.table.slots()).filter_map(|i| self.table.tenant(i));
        let leased: u64 = leased.map(|at| Lease::unpack(self.table.get(at, LEASE)).tokens).sum();
        leased + self.keys.iter().map(|key| key.back).sum::<u64>()
    }

    /// The process wallet.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// Sets a word, unless the slot has another tenant by now.
fn set(table: &Table, at: At, word: usize, value: u64) {
    let _ = table.update(at, word, |_| Ok::<_, ()>((value, ())));
}

/// What time it is at Redis, as far as its last answer tells: the stamps of questions.
///
/// A stamp is never later than Redis' clock was when it was made (unless that clock was set back), so that an old
/// question is known by its age; and stamps only grow, so that it is known by its order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamps {
    redis_us: u64,
    heard_us: u64,
    last: u64,
}

impl Stamps {
    /// An answer came at `now_us` that said `redis_us` of Redis' clock.
    pub fn heard(&mut self, redis_us: u64, now_us: u64) {
        (self.redis_us, self.heard_us) = (redis_us, now_us);
    }

    /// The stamp of questions that are sent now. `None` before the first answer: heartbeats have none.
    pub fn next(&mut self, now_us: u64) -> Option<u64> {
        if self.redis_us == 0 {
            return None;
        }
        self.last = (self.redis_us + now_us.saturating_sub(self.heard_us)).max(self.last + 1);
        Some(self.last)
    }
}
