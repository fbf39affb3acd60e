//! Clients that ask seldom, and those that come at once: what is promised to them is not only a bound.

use std::sync::Arc;

use super::S;
use crate::limit::model::{Call, Central};
use crate::limit::{CoreWallet, Decision, Settings, Spec, Stamps, Sync};
use crate::shared::wallet::Table;

/// One process of one core, and a Redis that answers within a ms. There are `others` besides, which do nothing.
struct Process {
    spec: Spec,
    core: CoreWallet,
    control: Sync,
    redis: Central,
    stamps: Stamps,
    now_us: u64,
    asked: usize,
}

const CONTROL_US: u64 = 5_000;

impl Process {
    fn new(set: Settings, processes: u64) -> Self {
        let table = Arc::new(Table::new(1000));
        let mut control = Sync::new(Arc::clone(&table), 1);
        control.heard(S, processes);
        let (spec, core) = (Spec::new(set).unwrap(), CoreWallet::new(table, 1));
        let (redis, stamps) = (Central::default(), Stamps::default());
        Self { spec, core, control, redis, stamps, now_us: S, asked: 0 }
    }

    /// Lets `us` pass, with control at work.
    fn pass(&mut self, us: u64) {
        let until_us = self.now_us + us;
        while self.now_us < until_us {
            self.now_us += CONTROL_US;
            let (now_us, n) = (self.now_us, self.control.table().processes());
            self.control.heard(now_us, n);
            self.stamps.heard(now_us, now_us);
            for ask in self.control.drain(&self.spec, now_us, 1000) {
                self.asked += 1;
                let stamp = self.stamps.next(now_us).unwrap();
                let keys = vec![(ask.name, ask.args())];
                let call = Call { who: "me".into(), stamp, old_us: self.spec.set().life_us, keys };
                let answers = self.redis.call(&call, now_us as i64 + 500);
                self.control.apply(&self.spec, &ask, &answers[0], now_us + 1_000);
            }
            self.core.sweep(&self.spec, self.now_us);
        }
    }

    fn ask(&mut self, key: &[u8], cost: u64) -> Decision {
        self.core.check(&self.spec, key, cost, self.now_us)
    }

    /// So many of some requests that come `every_us` pass.
    fn passed(&mut self, requests: usize, cost: u64, every_us: u64) -> usize {
        let one = |process: &mut Self| {
            process.pass(every_us);
            process.ask(b"client", cost).is_allowed()
        };
        (0..requests).filter(|_| one(self)).count()
    }
}

fn shared(tokens: u64, per_us: u64, burst: u64, change: impl FnOnce(&mut Settings)) -> Settings {
    let mut set = Settings::new(tokens, per_us, burst).shared();
    change(&mut set);
    set
}

#[test]
fn who_stays_far_below_the_limit_always_passes() {
    for (tokens, per_us, burst, cost, processes, every_us) in [
        (100, S, 200, 20, 11, 2 * S),
        (10, S, 10, 5, 3, 2 * S),
        (5, S, 20, 10, 3, 5 * S),
        (20, 60 * S, 20, 1, 1, 4 * S),
        (1, S, 5, 1, 8, 3 * S),
        (100, S, 200, 1, 3, S / 10),
    ] {
        let mut process = Process::new(shared(tokens, per_us, burst, |set| set.cost_max = cost), processes);
        let passed = process.passed(40, cost, every_us);
        assert_eq!(passed, 40, "{tokens}/{per_us}, burst {burst}, cost {cost}, N {processes}, every {every_us}");
    }
}

#[test]
fn where_nothing_may_be_spent_ahead_who_comes_again_passes() {
    for (name, set, processes) in [
        ("overdraft 0", shared(20, 60 * S, 20, |set| set.overdraft = Some(0)), 1),
        ("a fast one", shared(100, S, 100, |set| set.overdraft = Some(0)), 2),
        ("reserve", shared(20, 60 * S, 4, |set| set.reserve = true), 3),
    ] {
        let mut process = Process::new(set, processes);
        // The first is refused and comes again when it is told to; then each in its time.
        let mut refused = 0;
        for _ in 0..12 {
            process.pass(4 * S);
            while let Decision::Deny { retry_after_ms, .. } = process.ask(b"client", 1) {
                refused += 1;
                assert!(refused <= 24, "{name}: refused again and again");
                process.pass(retry_after_ms.div_ceil(1000) * S);
            }
        }
    }
}

#[test]
fn some_requests_at_once_are_what_a_burst_is_for() {
    for (processes, at_once) in [(1, 50), (3, 16), (10, 5)] {
        let mut process = Process::new(shared(100, S, 200, |_| ()), processes);
        process.pass(S);
        for time in 0..3 {
            let passed = (0..at_once).filter(|_| process.ask(b"client", 1).is_allowed()).count();
            assert_eq!(passed, at_once, "{processes} processes, time {time}");
            process.pass(3 * S);
        }
    }
}

#[test]
fn keys_that_nobody_asks_for_are_not_asked_about() {
    let mut process = Process::new(shared(100, S, 100, |_| ()), 2);
    for key in 0..500_u64 {
        process.ask(&key.to_le_bytes(), 1);
        process.ask(&key.to_le_bytes(), 1);
    }
    process.pass(5 * S);
    let before = process.asked;
    process.pass(60 * S);
    assert_eq!(process.asked, before, "a minute without a request");
}

#[test]
fn a_dear_request_does_not_let_cheap_ones_spend_as_much_ahead() {
    let mut process = Process::new(shared(20, 60 * S, 20, |set| (set.cost_max, set.overdraft) = (20, Some(2))), 3);
    let at_once = (0..20).filter(|_| process.ask(b"client", 1).is_allowed()).count();
    assert_eq!(at_once, 2);
}

#[test]
fn what_is_given_back_is_there_again() {
    for is_shared in [false, true] {
        let set = Settings { is_shared, ..Settings::new(10, 3600 * S, 10) };
        let mut process = Process::new(set, 1);
        process.pass(S);
        let mut passed = 0;
        for n in 0..60 {
            if process.ask(b"client", 1).is_allowed() {
                passed += 1;
                if n % 2 == 0 {
                    process.core.give_back(&process.spec, b"client", 1, process.now_us);
                    passed -= 1;
                }
            }
            process.pass(CONTROL_US);
        }
        assert!((9..=10).contains(&passed), "shared {is_shared}: {passed} of 10");
    }
}
