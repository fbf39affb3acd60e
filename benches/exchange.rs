//! Cost of one forwarded request without the kernel: a keep-alive connection, its exchange and a pooled upstream
//! connection on in-memory io, the access log on. `relay` moves the same bytes and does nothing else.
//!
//! It fails if the steady state allocates more than once per request.

mod counting;
mod gateway;
mod pooled;
mod profile;

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use counting::count;
use criterion::Criterion;
use gateway::{downstream, plane};
use pooled::{Chores, idle_connection, serve};
use profile::{HEAD_BYTES, answer, config, requests};
use ringway::io::memory::{MemoryStream, pair};
use ringway::io::{Buf, Stream};
use ringway::limit::{Answer, Sync};
use ringway::proxy::plane::Plane;
use ringway::shared::log_ring::Consumer;
use ringway::snapshot::RateLimitSpec;

/// The bar of the project; anything above is a defect.
const ALLOCATIONS_MAX: u64 = 1;
/// Exchanges between two rounds of what a tick and the log writer do: about as many as a busy core has in 4 ms.
const TICK: usize = 1024;

/// Something between a client and an upstream, and both of them.
struct Rig {
    between: Pin<Box<dyn Future<Output = ()>>>,
    client: MemoryStream,
    upstream: MemoryStream,
    requests: Vec<Vec<u8>>,
    answer: Vec<u8>,
    next: usize,
    /// What the upstream got, and what the client got.
    seen: (Vec<u8>, Vec<u8>),
}

impl Rig {
    fn new(
        between: impl Future<Output = ()> + 'static,
        client: MemoryStream,
        upstream: MemoryStream,
        head: usize,
    ) -> Self {
        let (requests, answer) = (requests(head), answer());
        Self { between: Box::pin(between), client, upstream, requests, answer, next: 0, seen: Default::default() }
    }

    /// One request and its answer.
    fn exchange(&mut self) {
        self.next = if self.next + 1 >= self.requests.len() { 0 } else { self.next + 1 };
        self.seen.0.clear();
        self.seen.1.clear();
        self.client.send(black_box(&self.requests[self.next]));
        self.run();
        assert!(self.upstream.drain(&mut self.seen.0) > 0, "nothing came to the upstream");
        self.upstream.send(black_box(&self.answer));
        self.run();
        assert!(self.client.drain(&mut self.seen.1) > 0, "nothing came to the client");
    }

    fn run(&mut self) {
        let waits = self.between.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(waits, "the connection ended");
    }
}

/// A rig around the gateway, and what else a worker does.
struct Gateway {
    rig: Rig,
    plane: Rc<Plane>,
    log: Consumer,
    chores: Chores,
    /// Redis' and control's part of its rate limit, if it has one.
    control: Option<(Sync, RateLimitSpec)>,
    /// What control allocated: it is another thread's.
    by_control: u64,
}

/// A rate limit through Redis for all routes.
const LIMITED: &str = "rate_limits: { redis: { url: \"redis://127.0.0.1:6379\" } }
filters: { fair: { rate_limit: { rate: 1000000/s, burst: 10000000, key: ip } } }
all_routes: { filters: [fair] }
";

/// Filters that say who may call and what browsers are told. The key of a long head is its User-Agent.
fn access(head: usize) -> String {
    const FILTERS: &str = "
filters:
  safe: { security_headers: {} }
  web: { cors: { origins: [\"https://app.example.com\"], credentials: true, expose_headers: [x-total] } }
  near: { ip: { allow: [127.0.0.0/8, 10.0.0.0/8], deny: [10.9.0.0/16] } }
  sane: { request_limits: { body: 1MiB, headers: 50, header_bytes: 8KiB, methods: [GET, POST], content_types: [application/json] } }
";
    let agent = include_str!("../loadtest/headers.txt").lines().find_map(|line| line.strip_prefix("User-Agent: "));
    match agent.filter(|_| head > HEAD_BYTES[0]) {
        None => format!("{FILTERS}all_routes: {{ filters: [safe, web, near, sane] }}\n"),
        Some(agent) => {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, agent.as_bytes());
            let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            format!(
                "{FILTERS}  who: {{ api_key: {{ header: user-agent, principal_header: x-caller, keys: [{{ sha256: {hex}, owner: acme }}] }} }}
all_routes: {{ filters: [safe, web, near, sane, who] }}\n"
            )
        }
    }
}

impl Gateway {
    fn new(head: usize, top: &str) -> Self {
        let (plane, log) = plane(&config(top));
        let limit = plane.live().snapshot.rate_limits.first().cloned();
        let control = limit.map(|limit| (Sync::new(limit.wallet.table.clone(), 1), limit));
        let (down, client) = downstream(&plane);
        let upstream = idle_connection(&plane);
        let mut gateway = Self {
            rig: Rig::new(serve(down, Rc::clone(&plane)), client, upstream, head),
            plane,
            log,
            chores: Chores::once_in(TICK),
            control,
            by_control: 0,
        };
        gateway.sync();
        gateway.check_and_warm_up();
        gateway
    }

    fn exchange(&mut self) {
        if self.chores.before_request(&self.plane, &mut self.log) {
            self.sync();
        }
        self.rig.exchange();
    }

    /// What control does at another core's cost, and what this core's tick does: tokens are leased, and held ones go back.
    fn sync(&mut self) {
        let Some((control, limit)) = &mut self.control else { return };
        let now_us = self.plane.core.clock.now_us();
        self.by_control += count(|| {
            control.heard(now_us, 1);
            for ask in control.drain(&limit.spec, now_us, 1024) {
                control.apply(&limit.spec, &ask, &Answer { granted: ask.want, left: 1_000_000, wait_us: 0 }, now_us);
            }
        });
        self.plane.sweep_limits();
    }

    /// Every route twice; what is measured is what is meant.
    fn check_and_warm_up(&mut self) {
        for _ in 0..2 * self.rig.requests.len() {
            self.exchange();
            let (forwarded, answered) = (&self.rig.seen.0, &self.rig.seen.1);
            let asked = &self.rig.requests[self.rig.next];
            let line = asked.split(|&b| b == b'\r').next().unwrap_or_default();
            assert!(forwarded.starts_with(line) && forwarded.ends_with(b"\r\n\r\n"));
            assert!(forwarded.windows(15).any(|w| w == b"X-Forwarded-For"));
            assert!(answered.starts_with(b"HTTP/1.1 200 OK\r\n") && answered.ends_with(&[b'x'; 128]));
        }
        let mut logged = Vec::new();
        self.log.consume(usize::MAX, |a, b| {
            logged.extend([a, b].concat());
            logged.len()
        });
        let routes: std::collections::BTreeSet<_> = logged
            .split(|&b| b == b'\n')
            .filter_map(|line| line.windows(9).position(|w| w == b"\"route\":\"").and_then(|at| line.get(at + 9..)))
            .map(|name| name.split(|&b| b == b'"').next())
            .collect();
        assert_eq!(routes.len(), self.rig.requests.len(), "each request has a route of its own");
    }
}

/// Moves a head one way and an answer the other, through the gateway's streams and buffers.
async fn relay(down: Stream, upstream: Stream) {
    let mut buf = Buf::with_capacity(16 * 1024);
    loop {
        for (from, to) in [(&down, &upstream), (&upstream, &down)] {
            let (_, filled) = from.read(buf).await;
            let (_, emptied) = to.write(filled).await;
            buf = emptied;
            buf.clear();
        }
    }
}

fn exchange(c: &mut Criterion) {
    for head in HEAD_BYTES {
        let mut gateway = Gateway::new(head, "");
        c.bench_function(&format!("exchange/{head}"), |b| b.iter(|| gateway.exchange()));
        let mut gateway = Gateway::new(head, LIMITED);
        c.bench_function(&format!("exchange_limited/{head}"), |b| b.iter(|| gateway.exchange()));
        let mut gateway = Gateway::new(head, &access(head));
        c.bench_function(&format!("exchange_access/{head}"), |b| b.iter(|| gateway.exchange()));
        let ((near, client), (far, upstream)) = (pair(), pair());
        let mut rig = Rig::new(relay(Stream::Memory(near), Stream::Memory(far)), client, upstream, head);
        c.bench_function(&format!("relay/{head}"), |b| b.iter(|| rig.exchange()));
    }
}

/// The most allocations that one request of the steady state makes; all routes, log and ticks included.
fn allocations(name: &str, head: usize, top: &str) -> u64 {
    let mut gateway = Gateway::new(head, top);
    let requests = 20 * TICK;
    let (mut all, mut most) = (0, 0);
    for _ in 0..requests {
        let before = gateway.by_control;
        let n = count(|| gateway.exchange()) - (gateway.by_control - before);
        all += n;
        most = most.max(n);
    }
    eprintln!("{name}/{head}: {all} allocations in {requests} requests, at most {most} in one");
    most
}

/// How much more a request takes with filters than without: the median over rounds that take turns.
fn ratio_of(head: usize, top: &str) -> f64 {
    const ROUNDS: usize = 60;
    let mut gateways = [Gateway::new(head, ""), Gateway::new(head, top)];
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let [without, with] = gateways.each_mut().map(|gateway| {
                let start = Instant::now();
                (0..2 * TICK).for_each(|_| gateway.exchange());
                start.elapsed().as_secs_f64()
            });
            with / without
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn main() -> ExitCode {
    assert_eq!(count(|| drop(black_box(Box::new(1_u64)))), 1, "the counter counts");
    let most = HEAD_BYTES.map(|head| {
        let profiles =
            [("exchange", String::new()), ("exchange_limited", LIMITED.to_owned()), ("exchange_access", access(head))];
        profiles.map(|(name, top)| allocations(name, head, &top)).into_iter().max().unwrap_or_default()
    });
    let most = most.into_iter().max().unwrap_or_default();
    if most > ALLOCATIONS_MAX {
        eprintln!("a request may allocate {ALLOCATIONS_MAX} times at most");
        return ExitCode::FAILURE;
    }
    if !std::env::args().any(|arg| arg == "--test") {
        for head in HEAD_BYTES {
            eprintln!("exchange_limited/{head}: {:.3} of one without the limit (bar 1.05)", ratio_of(head, LIMITED));
            eprintln!("exchange_access/{head}: {:.3} of one without filters", ratio_of(head, &access(head)));
        }
    }
    let mut criterion = Criterion::default().configure_from_args();
    exchange(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}
