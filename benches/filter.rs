//! Cost of checking who calls: a token that the core knows (target: 300 ns, and no allocation), one of many, and one that
//! is new. Each request takes its token from the field, adds two fields of claims and says who calls. And cost of compressing
//! answers: what the client takes, and 1 and 64 KiB of JSON in each coding.

mod counting;

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use counting::count;
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use ringway::coding::encoder::Op;
use ringway::coding::{Coding, Policy};
use ringway::core::Core;
use ringway::filter::Flow;
use ringway::filter::compress::Compress;
use ringway::filter::jwt::{Jwt, Place};
use ringway::http::head::Bounds;
use ringway::jwt::{Key, KeySet, Rules};
use ringway::request::Request;

const TOKENS: usize = 1000;

fn filter(keys: &[Key]) -> Jwt {
    let rules = Rules {
        issuers: vec!["https://id.example.com".into()],
        audiences: vec!["api".into()],
        taken: vec!["sub".into(), "tenant".into()],
        ..Rules::default()
    };
    let keys = KeySet::new(keys, None);
    Jwt {
        name: "who".into(),
        from: vec![Place::Authorization],
        token_bytes_max: 8192,
        identity: keys.identity("who", &rules),
        rules,
        keys,
        headers: vec!["x-user".into(), "x-tenant".into()],
        forward: true,
        optional: false,
        realm: "api".into(),
        metrics: Default::default(),
    }
}

/// A token of usual size, 600 bytes.
fn token(n: usize, key: &EncodingKey) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"2026-1","typ":"JWT"}"#);
    let payload = format!(
        r#"{{"iss":"https://id.example.com","aud":"api","sub":"user-{n}","tenant":"acme","exp":9999999999,"iat":1700000000,"scope":"{}"}}"#,
        "orders:read ".repeat(20)
    );
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    match crypto::sign(signed.as_bytes(), key, Algorithm::ES256) {
        Ok(signature) => format!("{signed}.{signature}"),
        Err(e) => panic!("{e}"),
    }
}

fn request(token: &str, core: &Core) -> Request {
    // The one of its own would be a second token.
    let others = include_str!("../loadtest/headers.txt").lines().filter(|line| !line.starts_with("Authorization"));
    let fields: String = others.map(|line| format!("{line}\r\n")).collect();
    let text = format!("GET /a HTTP/1.1\r\nHost: api.example.com\r\n{fields}Authorization: Bearer {token}\r\n\r\n");
    let mut req = Request { buf: core.buffers.take(8192), ..Request::default() };
    req.buf.extend(text.as_bytes());
    let bounds = Bounds { head: 8192, fields: 100, target: 1000 };
    assert!(matches!(req.head.parse(req.buf.bytes(), &bounds), Ok(true)));
    req
}

fn jwt(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter/jwt");
    let Ok(pair) = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256) else { panic!("no key") };
    let Ok(key) = Key::from_pem(Some("2026-1"), pair.public_key_pem().as_bytes(), None) else { panic!("no key") };
    let private = EncodingKey::from_ec_der(&pair.serialize_der());
    let (core, filter) = (Core::new(0, Default::default(), None), filter(&[key]));
    let mut requests: Vec<Request> = (0..TOKENS).map(|n| request(&token(n, &private), &core)).collect();
    let run = |req: &mut Request| {
        req.edits.clear();
        assert!(matches!(filter.on_request(req, &core), Flow::Continue));
    };
    requests.iter_mut().for_each(run);
    requests.iter_mut().for_each(run);
    let allocations = count(|| requests.iter_mut().for_each(run));
    assert_eq!(allocations, 0, "a known token");
    if let Some(req) = requests.first_mut() {
        assert_eq!(req.principal.get(), Some("user-0"));
        group.bench_function("es256_known", |b| b.iter(|| run(black_box(req))));
    }
    let mut next = 0;
    group.bench_function(format!("es256_known/one_of_{TOKENS}"), |b| {
        b.iter(|| {
            next = (next + 7919) % TOKENS;
            if let Some(req) = requests.get_mut(next) {
                run(black_box(req));
            }
        });
    });
    if let Some(req) = requests.first_mut() {
        group.bench_function("es256_new", |b| {
            b.iter(|| {
                *core.tokens.borrow_mut() = Default::default();
                run(black_box(req));
            });
        });
    }
    group.finish();
}

/// What a client takes is read without an allocation; a body costs what its coding does.
fn compress(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter/compress");
    let core = Core::new(0, Default::default(), None);
    let choices = Coding::ALL.map(|coding| (coding, coding.level_default()));
    let policy = Policy {
        codings: choices.to_vec(),
        types: Vec::new(),
        bytes_min: 1024,
        streams_max: 1,
        metrics: Default::default(),
    };
    let filter = Compress { policy: policy.into(), asks_identity: false, metrics: Default::default() };
    let mut req = Request { buf: core.buffers.take(1024), ..Request::default() };
    req.buf.extend(b"GET /a HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, deflate, br;q=0.9, zstd\r\n\r\n");
    assert!(matches!(req.head.parse(req.buf.bytes(), &Bounds { head: 8192, fields: 100, target: 1000 }), Ok(true)));
    let run = |req: &mut Request| assert!(matches!(filter.on_request(req, &core), Flow::Continue));
    run(&mut req);
    assert_eq!(count(|| run(&mut req)), 0, "the wish of a client");
    group.bench_function("accept", |b| b.iter(|| run(black_box(&mut req))));
    let json: Vec<u8> = (0..)
        .flat_map(|n| format!("{{\"id\":{n},\"name\":\"user {}\"}},", n * 7919 % 1000).into_bytes())
        .take(65_536)
        .collect();
    let mut out = vec![0; 32 * 1024];
    for (choice, size) in choices.iter().flat_map(|choice| [(*choice, 1024), (*choice, json.len())]) {
        let body = json.get(..size).unwrap_or_default();
        group.bench_function(format!("{}_{}/{size}", choice.0.name(), choice.1), |b| {
            b.iter(|| encode(&core, choice, black_box(body), &mut out));
        });
    }
    group.finish();
}

/// As an answer is: in flushed pieces of 16 KiB.
fn encode(core: &Core, choice: (Coding, u8), body: &[u8], out: &mut [u8]) {
    let Some(mut running) = core.encoders.take(choice, 1) else { panic!("there is one place") };
    let mut pieces = body.chunks(16 * 1024).peekable();
    while let Some(piece) = pieces.next() {
        let op = if pieces.peek().is_none() { Op::Finish } else { Op::Flush };
        assert!(running.step(piece, out, op).is_ok_and(|step| step.done), "room for all");
    }
    running.give_back();
}

criterion_group!(benches, jwt, compress);
criterion_main!(benches);
