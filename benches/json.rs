//! Cost of checking answers while they arrive: ordinary API JSON at once and as buffers of 8 KiB bring it. Target:
//! 700 MB/s. `serde_json` checks the grammar alone, at once: neither UTF-8 nor whether keys come twice.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::json::validate::Validator;
use serde::de::IgnoredAny;

/// One of the records that a list consists of: 20 members, short strings, some numbers, one escape.
fn record(i: usize) -> String {
    format!(
        r#"{{"id":{id},"uuid":"5f0c{i:04x}-7a1e-4b52-9d3c-aa00bb11cc22","name":"Customer \"{i}\"","email":"customer{i}@example.com","active":{active},"balance":{balance}.{cents:02},"created_at":"2024-05-17T12:34:56Z","tags":["alpha","beta","gamma"],"address":{{"street":"{i} Long Road","city":"Köln","zip":"{zip}","geo":{{"lat":48.2{i},"lon":16.37{i}}}}},"note":null}}"#,
        id = 100_000 + i,
        active = i % 2 == 1,
        balance = i * 37,
        cents = i % 100,
        zip = 1000 + i % 9000,
    )
}

/// An array of records, as near to `bytes` as whole records allow.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = "[".to_owned();
    for i in 0.. {
        text.push_str(&record(i));
        if text.len() + record(i).len() / 2 >= bytes {
            break;
        }
        text.push(',');
    }
    text.push(']');
    text.into_bytes()
}

fn validate(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    for kib in [1, 64] {
        let text = text(kib * 1024);
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut validator = Validator::default();
        for (name, piece) in [("whole", text.len()), ("8KiB", 8 * 1024)] {
            group.bench_function(format!("{kib}KiB/{name}"), |b| {
                b.iter(|| {
                    validator.reset();
                    for piece in black_box(&text).chunks(piece) {
                        assert_eq!(validator.feed(piece), Ok(()));
                    }
                    assert_eq!(validator.finish(), Ok(()));
                });
            });
        }
        group.bench_function(format!("{kib}KiB/serde_json"), |b| {
            b.iter(|| assert!(serde_json::from_slice::<IgnoredAny>(black_box(&text)).is_ok()));
        });
    }
    group.finish();
}

criterion_group!(benches, validate);
criterion_main!(benches);
