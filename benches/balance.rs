//! Cost of choosing an endpoint. Target: a few nanoseconds for small upstreams.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::upstream::balance::hash::Bound;
use ringway::upstream::balance::{Balance, Hash, LeastRequest, P2c, RoundRobin};

fn pick(c: &mut Criterion) {
    for n in [1_usize, 2, 3, 10, 100, 1000] {
        let equal = vec![1; n];
        let mixed: Vec<u32> = (0..n).map(|i| [1, 2, 5][i % 3]).collect();
        let in_flight: Vec<u32> = (0..n).map(|i| [3, 0, 7, 1][i % 4]).collect();
        let hash = |weights: &[u32], bound| {
            let named: Vec<(String, u32)> =
                weights.iter().enumerate().map(|(i, w)| (format!("10.0.0.{i}:9000"), *w)).collect();
            Balance::Hash(Box::new(Hash::new(&named, bound, 1)))
        };
        let bound = Some(Bound { percent: 125, spare: 0 });
        let balancers = [
            ("p2c", Balance::P2c(P2c::new(&equal, 1))),
            ("p2c_weights", Balance::P2c(P2c::new(&mixed, 1))),
            ("round_robin", Balance::RoundRobin(RoundRobin::new(&equal, 1))),
            ("round_robin_weights", Balance::RoundRobin(RoundRobin::new(&mixed, 1))),
            ("least_request", Balance::LeastRequest(LeastRequest::new(&equal, 1))),
            ("least_request_weights", Balance::LeastRequest(LeastRequest::new(&mixed, 1))),
            ("hash", hash(&equal, None)),
            ("hash_bound", hash(&equal, bound)),
            ("hash_weights", hash(&mixed, None)),
        ];
        for (name, mut balance) in balancers {
            let mut key = 0_u64;
            c.bench_function(&format!("{name}/{n}"), |b| {
                b.iter(|| {
                    key += 1;
                    balance.pick(Some(key), |i| black_box(&in_flight)[i], |i| black_box(i) != usize::MAX)
                });
            });
        }
    }
}

criterion_group!(benches, pick);
criterion_main!(benches);
