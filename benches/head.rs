//! Cost of heads, step by step: reading, deciding, writing. `httparse` is the grammar alone, the floor of `parse`;
//! `monoio_http` is what the codec of monoio's own HTTP library takes for the same, framing included.

mod gateway;
mod profile;

use std::hint::black_box;
use std::mem::MaybeUninit;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gateway::{downstream, plane};
use http::Method;
use monoio_codec::{Decoded, Decoder};
use monoio_http::common::request::Request as TheirRequest;
use monoio_http::common::response::Response as TheirResponse;
use monoio_http::h1::codec::decoder::{ChannelWrapper, GenericHeadDecoder, RequestHeadDecoder, ResponseHeadDecoder};
use profile::{HEAD_BYTES, answer, config, requests};
use ringway::http::framing;
use ringway::http::head::{Bounds, RequestHead, ResponseHead};
use ringway::http::known::Known;
use ringway::http::target::{EncodedSlashes, PathPolicy, Target, normalize, split};
use ringway::proxy::{receive, upstream_head};
use ringway::request::Request;
use ringway::snapshot::Action;

/// A listener's defaults.
const BOUNDS: Bounds = Bounds { head: 32 * 1024, fields: FIELDS, target: 8 * 1024 };
const FIELDS: usize = 100;

fn read(c: &mut Criterion) {
    for bytes in HEAD_BYTES {
        let text = requests(bytes).swap_remove(1);
        c.bench_function(&format!("request/httparse/{bytes}"), |b| {
            b.iter(|| {
                let mut table = [const { MaybeUninit::uninit() }; FIELDS];
                let mut request = httparse::Request::new(&mut []);
                let status = request.parse_with_uninit_headers(black_box(&text), &mut table);
                assert!(matches!(status, Ok(httparse::Status::Complete(_))));
                request.headers.len()
            });
        });
        let mut theirs = GenericHeadDecoder::<TheirRequest, RequestHeadDecoder, ChannelWrapper>::default();
        c.bench_function(&format!("request/monoio_http/{bytes}"), |b| {
            let head = |mut buf: BytesMut| assert!(matches!(theirs.decode(&mut buf), Ok(Decoded::Some(_))));
            b.iter_batched(|| BytesMut::from(&*text), head, BatchSize::SmallInput);
        });
        let mut head = RequestHead::default();
        c.bench_function(&format!("request/parse/{bytes}"), |b| {
            b.iter(|| assert_eq!(head.parse(black_box(&text), &BOUNDS), Ok(true)));
        });
        c.bench_function(&format!("request/framing/{bytes}"), |b| {
            b.iter(|| framing::of_request(black_box(&head), &text));
        });
        let names: Vec<_> = head.fields.iter().map(|field| field.name.of(&text)).collect();
        c.bench_function(&format!("request/known/{bytes}"), |b| {
            b.iter(|| names.iter().filter(|name| Known::of(black_box(name)) != Known::Other).count());
        });
    }
}

fn read_answer(c: &mut Criterion) {
    let text = answer();
    c.bench_function("answer/httparse", |b| {
        b.iter(|| {
            let mut table = [const { MaybeUninit::uninit() }; FIELDS];
            let mut response = httparse::Response::new(&mut []);
            let config = httparse::ParserConfig::default();
            let status = config.parse_response_with_uninit_headers(&mut response, black_box(&text), &mut table);
            assert!(matches!(status, Ok(httparse::Status::Complete(_))));
            response.headers.len()
        });
    });
    let mut theirs = GenericHeadDecoder::<TheirResponse, ResponseHeadDecoder, ChannelWrapper>::default();
    c.bench_function("answer/monoio_http", |b| {
        let head = |mut buf: BytesMut| assert!(matches!(theirs.decode(&mut buf), Ok(Decoded::Some(_))));
        b.iter_batched(|| BytesMut::from(&*text), head, BatchSize::SmallInput);
    });
    let mut head = ResponseHead::default();
    c.bench_function("answer/parse", |b| {
        b.iter(|| assert_eq!(head.parse(black_box(&text), &BOUNDS), Ok(true)));
    });
    c.bench_function("answer/framing", |b| {
        b.iter(|| framing::of_response(&Method::GET, black_box(&head), &text));
    });
}

fn target(c: &mut Criterion) {
    let policy = PathPolicy { merge_slashes: false, encoded_slashes: EncodedSlashes::Reject };
    let cases = [
        ("normal", "/api/v1/res7/1259/sub?page=2"),
        ("escapes", "/api/v1/r%C3%A9s/%7Euser?page=2"),
        ("dots", "/api/./v1/x/../res7/1259?page=2"),
    ];
    for (name, text) in cases {
        let mut out = Vec::new();
        c.bench_function(&format!("target/{name}"), |b| {
            b.iter(|| {
                let Ok(Target::Origin { path, .. }) = split(&Method::GET, black_box(text.as_bytes())) else {
                    panic!("not a path")
                };
                out.clear();
                normalize(path, &policy, &mut out).is_ok()
            });
        });
    }
}

/// From a parsed head to what routing needs, and the head that the upstream gets.
fn pass_on(c: &mut Criterion) {
    let (plane, _log) = plane(&config(""));
    let (down, _client) = downstream(&plane);
    let live = plane.live();
    let (Some(rules), Some(route)) = (live.snapshot.listeners.first(), live.snapshot.routes.get(1)) else {
        panic!("no listener or route")
    };
    let Action::Forward(action) = &route.action else { panic!("{} forwards nothing", route.name) };
    for bytes in HEAD_BYTES {
        let text = requests(bytes).swap_remove(1);
        let mut req = Request::default();
        req.buf.extend(&text);
        assert_eq!(req.head.parse(&text, &BOUNDS), Ok(true));
        c.bench_function(&format!("request/decide/{bytes}"), |b| {
            b.iter(|| {
                req.path.clear();
                req.authority.clear();
                receive::decide(down.peer.ip(), rules, &live.snapshot, &mut req).is_ok()
            });
        });
        receive::name(&plane.core, &mut req);
        let mut out = Vec::with_capacity(16 * 1024);
        c.bench_function(&format!("upstream_head/write/{bytes}"), |b| {
            b.iter(|| {
                out.clear();
                let written =
                    upstream_head::write(black_box(&req), action, "127.0.0.1:9000", down.peer().text(), 1000, &mut out);
                assert!(written);
                out.len()
            });
        });
    }
}

criterion_group!(benches, read, read_answer, target, pass_on);
criterion_main!(benches);
