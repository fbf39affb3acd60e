//! Cost of a limit's decision: key, hash, look-up among 100,000 live keys, and the answer. Target: 120 ns, and no
//! allocation.

mod counting;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use counting::count;
use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderName;
use ringway::core::Core;
use ringway::filter::Flow;
use ringway::filter::limit_key::{Fact, LimitKey};
use ringway::filter::rate_limit::RateLimit;
use ringway::http::head::Bounds;
use ringway::http::quota::Policy;
use ringway::limit::{Answer, CoreWallet, Settings, Spec, Sync};
use ringway::request::Request;
use ringway::shared::limits::Limits;
use ringway::shared::wallet::Table;

const KEYS: u64 = 100_000;
const S: u64 = 1_000_000;

/// A client's key as a filter builds it: 16 bytes of an address.
fn key(i: u64) -> [u8; 16] {
    let mut key = [0x20; 16];
    key[8..].copy_from_slice(&i.to_le_bytes());
    key
}

/// Keys in an order that no prefetcher guesses.
fn walk() -> impl FnMut() -> u64 {
    let at = Cell::new(1_u64);
    move || {
        at.set(at.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        ((at.get() >> 32) * KEYS) >> 32
    }
}

fn spec(set: Settings) -> Spec {
    match Spec::new(set) {
        Ok(spec) => spec,
        Err(fault) => panic!("{fault}"),
    }
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    let wide = spec(Settings::new(1_000_000, S, 10_000_000));
    let tight = spec(Settings::new(1, 3600 * S, 1));

    let fill = |spec: &Spec| {
        let core = CoreWallet::new(Arc::new(Table::new(100_000)), 2);
        (0..KEYS).for_each(|i| {
            black_box(core.check(spec, &key(i), 1, S));
        });
        println!("{} of {KEYS} keys found no room", core.table().pressure().0);
        core
    };

    // What the machine takes for one line out of as many: no look-up can take less, and neighbours' noise shows here.
    let (lines, mut next) = (vec![[1_u64; 8]; 200_000], walk());
    group.bench_function("floor/hash_and_one_line_of_200k", |b| {
        let random = foldhash::quality::RandomState::default();
        b.iter(|| {
            let hash = std::hash::BuildHasher::hash_one(&random, &black_box(key(next()))[..]);
            lines.get(usize::try_from(((hash >> 32) * 200_000) >> 32).unwrap_or(0)).map(|line| line[0])
        });
    });

    let (core, mut next, mut now) = (fill(&wide), walk(), S);
    group.bench_function("allow/one_process/100k_keys", |b| {
        b.iter(|| {
            now += 1;
            core.check(&wide, black_box(&key(next())), 1, now)
        });
    });
    group.bench_function("allow/one_process/one_hot_key", |b| {
        b.iter(|| {
            now += 1;
            core.check(&wide, black_box(&key(7)), 1, now)
        });
    });

    let (core, mut next) = (fill(&tight), walk());
    (0..KEYS).for_each(|i| assert!(!core.check(&tight, &key(i), 1, 2 * S).is_allowed()));
    group.bench_function("deny/100k_keys", |b| {
        b.iter(|| core.check(&tight, black_box(&key(next())), 1, 2 * S));
    });
    group.bench_function("deny/one_hot_key", |b| {
        b.iter(|| core.check(&tight, black_box(&key(7)), 1, 2 * S));
    });

    // Through Redis: each key holds a lease, in its process' wallet one step away, and control fills up what is spent.
    let long = Settings { life_us: 1_000_000 * S, ..Settings::new(1_000_000, S, 10_000_000).shared() };
    let leased = spec(long);
    let (core, mut next) = (CoreWallet::new(Arc::new(Table::new(100_000)), 2), walk());
    let mut control = Sync::new(Arc::clone(core.table()), 2);
    let fill_up = |control: &mut Sync, now: u64| {
        control.heard(now, 1);
        loop {
            let asks = control.drain(&leased, now, 10_000);
            if asks.is_empty() {
                break;
            }
            let answer = |want| Answer { granted: if want > 0 { 4_000_000 } else { 0 }, left: 1_000_000, wait_us: 0 };
            asks.iter().for_each(|ask| control.apply(&leased, ask, &answer(ask.want), now + 1));
        }
    };
    let mut now = S;
    control.heard(now, 1);
    (0..KEYS).for_each(|i| {
        core.check(&leased, &key(i), 1, now);
        core.check(&leased, &key(i), 1, now);
    });
    fill_up(&mut control, now + 1);
    for (name, is_hot) in [("allow/leased/100k_keys", false), ("allow/leased/one_hot_key", true)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                now += 1;
                if now.is_multiple_of(65_536) {
                    fill_up(&mut control, now);
                }
                core.check(&leased, black_box(&key(if is_hot { 7 } else { next() })), 1, now)
            });
        });
    }
    println!("leased: {:?}", core.counts());
    group.finish();
}

/// The whole filter: the key is taken out of a request, 100,000 clients are told apart, and the answer's fields are noted.
fn filter(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter");
    let wide = spec(Settings::new(1_000_000, S, 10_000_000));
    let text = include_str!("../loadtest/headers.txt").replace('\n', "\r\n");
    let text = format!(
        "GET /a?tenant=acme HTTP/1.1\r\nHost: api.example.com\r\n{text}Cookie: a=1; sid=0123456789abcdef\r\n\r\n"
    );
    let header = |name| LimitKey(vec![Fact::Header(HeaderName::from_static(name))]);
    let keys = [
        ("ip", LimitKey(vec![Fact::Ip]), None),
        ("ip_and_fields", LimitKey(vec![Fact::Ip]), Some(Policy::new("fair", 10_000_000, 10, false))),
        ("header", header("user-agent"), None),
        ("cookie", LimitKey(vec![Fact::Cookie("sid".into())]), None),
    ];
    for (name, key, policy) in keys {
        let core = Core::new(0, Default::default(), None);
        let filter = RateLimit {
            name: "fair".into(),
            spec: wide,
            wallet: Limits::new(2).wallet("fair", false, 100_000),
            key,
            cost: 1,
            dry_run: false,
            gives_back: false,
            policy,
            metrics: Default::default(),
        };
        let mut req = Request { buf: core.buffers.take(4096), received_us: S, ..Request::default() };
        req.buf.extend(text.as_bytes());
        let bounds = Bounds { head: 8192, fields: 100, target: 1000 };
        assert!(matches!(req.head.parse(req.buf.bytes(), &bounds), Ok(true)));
        let address = |i: u64| Some(std::net::Ipv4Addr::from_bits(u32::try_from(i).unwrap_or_default()).into());
        (0..KEYS).for_each(|i| {
            req.client = address(i);
            req.charges.clear();
            assert!(matches!(filter.on_request(0, &mut req, &core), Flow::Continue));
        });
        let mut next = walk();
        let mut once = || {
            req.received_us += 1;
            req.client = address(next());
            req.quota.clear();
            req.charges.clear();
            filter.on_request(0, &mut req, &core)
        };
        let mut many = || (0..100_000).for_each(|_| drop(black_box(once())));
        many(); // what it remembers of chunks has its size
        let allocations = count(many);
        assert_eq!(allocations, 0, "{name}");
        group.bench_function(format!("{name}/100k_keys"), |b| b.iter(&mut once));
    }
    group.finish();
}

criterion_group!(benches, decide, filter);
criterion_main!(benches);
