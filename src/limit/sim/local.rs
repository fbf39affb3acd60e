//! The bucket of one process, and what a flood costs: cores that interleave at random on a virtual clock, and threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::oracle::Oracle;
use super::setup::Random;
use super::{S, spec_of};
use crate::limit::{Answer, CoreWallet, Decision, Settings, Spec, Sync};
use crate::shared::wallet::Table;

fn wallets(table: &Arc<Table>, cores: u64) -> Vec<CoreWallet> {
    (0..cores).map(|_| CoreWallet::new(Arc::clone(table), cores)).collect()
}

/// Cores share one key at random for 20 s; gives what an exact bucket would have admitted and what was.
fn share_a_key(seed: u64) -> (u64, u64) {
    let mut random = Random(seed * 2 + 1);
    let (tokens, per_us) = [(100, S), (7, S), (30, 60 * S), (2000, S)][random.below(4) as usize];
    let burst = [1, 3, 10, 100, 1000][random.below(5) as usize];
    let mut set = Settings::new(tokens, per_us, burst);
    set.cost_max = (1 + random.below(3)).min(burst);
    let spec = Spec::new(set).unwrap();
    let cores = wallets(&Arc::new(Table::new(1)), 1 + random.below(4));
    let (mut oracle, mut exact) = (Oracle::new(&spec, 1, 1), 0);
    let (mut now, mut word, mut admitted, mut phase_end, mut step, mut few) = (S, 0, 0, 0, 1, 1);
    while now < 21 * S {
        if now >= phase_end {
            // Times of much and of little, on all cores and on one.
            phase_end = now + random.below(2 * S);
            step = 1 + 2 * (per_us / tokens) / [8, 3, 1, 2][random.below(4) as usize];
            few = 1 + random.below(cores.len() as u64);
        }
        now += random.below(step + 1);
        let cost = 1 + random.below(set.cost_max);
        if let Ok(taken) = spec.shape().take(word, now, cost, cost, 1) {
            (word, exact) = (taken.word, exact + cost);
        }
        let core = &cores[random.below(few) as usize];
        if core.check(&spec, b"key", cost, now).is_allowed() {
            admitted += cost;
            oracle.admit(now, cost).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        if random.one_in(4) {
            cores.iter().for_each(|core| core.sweep(&spec, now));
        }
    }
    (exact, admitted)
}

#[test]
fn the_bucket_of_a_process_is_exact_whatever_its_cores_hold() {
    let (mut exact, mut admitted) = (0, 0);
    for seed in 0..150 {
        let (e, a) = share_a_key(seed);
        assert!(a * 100 >= e * 90, "seed {seed}: {a} of {e}: tokens were stranded");
        (exact, admitted) = (exact + e, admitted + a);
    }
    println!("cores admitted {admitted} of the {exact} that one bucket would have");
    assert!(admitted * 100 >= exact * 98);
}

#[test]
fn threads_never_admit_more_than_the_bucket_holds() {
    // No time passes: what is admitted is what was there.
    let spec = Spec::new(Settings::new(1, S, 10_000)).unwrap();
    let (table, admitted) = (Arc::new(Table::new(16)), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let core = CoreWallet::new(Arc::clone(&table), 4);
                let mine = (0..20_000).filter(|_| core.check(&spec, b"key", 1, S).is_allowed()).count();
                admitted.fetch_add(mine as u64, SeqCst);
            });
        }
    });
    let (all, left) = (admitted.load(SeqCst), 4 * 64);
    assert!(all <= 10_000 && all + left >= 10_000, "{all}");
}

#[test]
fn a_million_keys_take_no_more_memory_and_share_one_bucket_at_worst() {
    let spec = Spec::new(Settings::new(1, 3600 * S, 2)).unwrap();
    let table = Arc::new(Table::new(10_000));
    let core = CoreWallet::new(Arc::clone(&table), 1);
    let bytes = table.bytes();
    let admitted = (0..1_000_000_u64).filter(|k| core.check(&spec, &k.to_le_bytes(), 1, S + k).is_allowed()).count();
    let slots = table.slots();
    assert!(admitted <= slots + 2 && admitted > slots * 9 / 10, "{admitted} with {slots} slots");
    assert_eq!((table.bytes(), table.pressure().1), (bytes, 0), "no key was forgotten that had consumed something");
    // An hour later all of them are full again, and make room.
    assert!(core.check(&spec, b"new", 1, 4000 * S).is_allowed() && core.check(&spec, b"new", 1, 4000 * S).is_allowed());
    assert!(!core.check(&spec, b"new", 1, 4000 * S).is_allowed());
    assert_eq!(table.pressure().1, 1);
    println!("{} bytes a key of keys_max, and {} per core", bytes / 10_000, 4096 * 32);
}

#[test]
fn a_denied_abuser_asks_redis_nothing() {
    let spec = spec_of(10, 60 * S, 10);
    let table = Arc::new(Table::new(16));
    let core = CoreWallet::new(Arc::clone(&table), 2);
    let mut control = Sync::new(Arc::clone(&table), 2);
    control.heard(S, 4);
    assert!(core.check(&spec, b"abuser", 1, S).is_allowed(), "ahead of the answer");
    assert!(!core.check(&spec, b"abuser", 1, S).is_allowed());
    let asks = control.drain(&spec, S + 5_000, 100);
    assert_eq!((asks.len(), asks[0].debt), (1, 1));
    control.apply(&spec, &asks[0], &Answer { granted: 0, left: 57, wait_us: 0 }, S + 5_500);
    let told = core.check_and_tell(&spec, b"abuser", 1, S + 5_600);
    assert_eq!(told, Decision::Allow { remaining: 9 }, "never more than the burst");
    let asks = control.drain(&spec, S + 5_700, 100);
    control.apply(&spec, &asks[0], &Answer { granted: 0, left: -3, wait_us: 24 * S }, S + 6_000);
    for i in 0..1000 {
        let now = S + 20_000 + i * 20_000;
        control.heard(now, 4);
        let Decision::Deny { retry_after_ms, .. } = core.check(&spec, b"abuser", 1, now) else { panic!("admitted") };
        assert!((3_900..25_000).contains(&retry_after_ms), "{retry_after_ms}");
        assert_eq!(control.drain(&spec, now + 1, 100), []);
    }
}

#[test]
fn a_million_keys_through_redis_are_asked_about_in_bounded_batches() {
    let spec = spec_of(100, S, 100);
    let table = Arc::new(Table::new(1_000));
    let core = CoreWallet::new(Arc::clone(&table), 1);
    let mut control = Sync::new(Arc::clone(&table), 1);
    let (mut asked, mut worst) = (0, 0);
    for k in 0..200_000_u64 {
        let now = S + k * 10;
        core.check(&spec, &k.to_le_bytes(), 1, now);
        if k % 500 == 0 {
            control.heard(now, 1);
            let asks = control.drain(&spec, now, 256);
            (asked, worst) = (asked + asks.len(), worst.max(asks.len()));
            asks.iter().for_each(|ask| {
                control.apply(&spec, ask, &Answer { granted: 0, left: 99, wait_us: 0 }, now + 1_000);
            });
        }
    }
    assert!(worst < 256 + 64 && asked > 10_000, "{worst} {asked}");
    assert!(table.pressure().1 > 10_000, "keys that were answered make room");
}

#[test]
fn a_changed_limit_holds_at_once_and_keeps_what_was_consumed() {
    let (small, large) = (Settings::new(10, 60 * S, 10), Settings::new(1000, 60 * S, 1000));
    let (small, large) = (Spec::new(small).unwrap(), Spec::new(large).unwrap());
    let core = CoreWallet::new(Arc::new(Table::new(1)), 1);
    let admit = |spec: &Spec, now: u64| (0..2000).filter(|_| core.check(spec, b"k", 1, now).is_allowed()).count();
    assert_eq!(admit(&small, S), 10);
    assert_eq!(admit(&large, 4 * S), 50, "3 s of the new rate");
    assert_eq!(admit(&small, 4 * S + 6 * S), 1, "6 s of the old one");
    let day = Spec::new(Settings::new(1, 86_400 * S, 1)).unwrap();
    assert_eq!((admit(&day, 200 * S), admit(&day, 201 * S)), (1, 0));
    assert_eq!((admit(&large, 202 * S), admit(&large, 205 * S)), (0, 50), "a day's wait is not carried over");
}
