//! Cost of one aggregated request without the kernel: a keep-alive connection, its fan-out over pooled upstream connections
//! on in-memory io, validation, the merge, the access log. Parts of 150 bytes, 1 KiB and 64 KiB.
//!
//! It fails if the steady state allocates more than a few times per request.

mod counting;
mod gateway;
mod pooled;

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Waker};

use counting::count;
use criterion::{Criterion, Throughput};
use gateway::{ENDPOINT, UPSTREAM, downstream, plane};
use pooled::{Chores, idle_connection, serve};
use ringway::io::memory::MemoryStream;
use ringway::proxy::plane::Plane;
use ringway::shared::log_ring::Consumer;

/// Parts, and bytes of each.
const SHAPES: [(usize, usize); 3] = [(3, 150), (3, 1024), (16, 64 * 1024)];
/// The futures of the fan-out and of its sending, the list of calls, and the answer on its way between them.
const ALLOCATIONS_MAX: u64 = 4;
/// Requests between two rounds of what a tick and the log writer do.
const TICK: usize = 256;

/// A worker with one client and an upstream connection for each part.
struct Rig {
    connection: Pin<Box<dyn Future<Output = ()>>>,
    plane: Rc<Plane>,
    log: Consumer,
    client: MemoryStream,
    upstreams: Vec<MemoryStream>,
    answer: Vec<u8>,
    request: Vec<u8>,
    seen: Vec<u8>,
    chores: Chores,
}

impl Rig {
    fn new(parts: usize, bytes: usize) -> Self {
        let mut config = format!(
            "listeners: [{{ address: 127.0.0.1:8080, max_requests: none }}]
upstreams:
  {UPSTREAM}: {{ endpoints: [\"{ENDPOINT}\"], pool: {{ max_requests: 1000000000 }} }}
admin: off
routes:
  - name: page
    match: {{ path: \"/page/{{id}}\" }}
    aggregate:
      parts:
"
        );
        for i in 0..parts {
            config += &format!(
                "        - {{ name: p{i}, upstream: {UPSTREAM}, request: {{ path: \"/part/{i}/{{id}}\" }} }}\n"
            );
        }
        let (plane, log) = plane(&config);
        let (down, client) = downstream(&plane);
        let upstreams = (0..parts).map(|_| idle_connection(&plane)).collect();
        let connection = Box::pin(serve(down, Rc::clone(&plane)));
        let mut rig = Self {
            connection,
            plane,
            log,
            client,
            upstreams,
            answer: answer(bytes),
            request: b"GET /page/7 HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n".to_vec(),
            seen: Vec::new(),
            chores: Chores::once_in(TICK),
        };
        for _ in 0..8 {
            rig.exchange();
            assert!(rig.seen.starts_with(b"HTTP/1.1 200 OK\r\n") && rig.seen.len() > parts * bytes, "{:?}", rig.seen);
        }
        rig
    }

    fn exchange(&mut self) {
        self.chores.before_request(&self.plane, &mut self.log);
        self.client.send(black_box(&self.request));
        self.run();
        for upstream in &self.upstreams {
            self.seen.clear();
            assert!(upstream.drain(&mut self.seen) > 0, "nothing came to an upstream");
            upstream.send(black_box(&self.answer));
        }
        self.run();
        self.seen.clear();
        assert!(self.client.drain(&mut self.seen) > 0, "nothing came to the client");
    }

    fn run(&mut self) {
        let waits = self.connection.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(waits, "the connection ended");
    }
}

/// An answer whose body is an array of ordinary records, of about `bytes`.
fn answer(bytes: usize) -> Vec<u8> {
    let mut body = String::from("[");
    let mut n = 1000;
    while body.len() + 1 < bytes {
        let comma = if body.len() > 1 { "," } else { "" };
        let record = format!(
            "{comma}{{\"id\":{n},\"name\":\"Ada Lovelace\",\"tags\":[\"a\",\"b\"],\"cents\":12990,\"open\":true}}"
        );
        if body.len() + record.len() + 1 > bytes {
            let pad = bytes.saturating_sub(body.len() + comma.len() + 3);
            body += &format!("{comma}\"{}\"", "x".repeat(pad));
            break;
        }
        body += &record;
        n += 1;
    }
    body.push(']');
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn main() -> ExitCode {
    for (parts, bytes) in SHAPES {
        let mut rig = Rig::new(parts, bytes);
        let mut most = 0;
        let rounds = 4 * TICK;
        let all: u64 = (0..rounds)
            .map(|_| {
                let n = count(|| rig.exchange());
                most = most.max(n);
                n
            })
            .sum();
        eprintln!("merge/{parts}x{bytes}: {all} allocations in {rounds} requests, at most {most} in one");
        if parts == 3 && all / rounds as u64 > ALLOCATIONS_MAX {
            eprintln!("an aggregated request may allocate {ALLOCATIONS_MAX} times");
            return ExitCode::FAILURE;
        }
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("merge");
    for (parts, bytes) in SHAPES {
        let mut rig = Rig::new(parts, bytes);
        group.throughput(Throughput::Bytes((parts * bytes) as u64));
        group.bench_function(format!("{parts}x{bytes}"), |b| b.iter(|| rig.exchange()));
    }
    group.finish();
    criterion.final_summary();
    ExitCode::SUCCESS
}
