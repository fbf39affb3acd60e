//! The representative profile of the load tests, for benches: its requests, its config, and a gateway in memory.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use ringway::config;
use ringway::core::Core;
use ringway::io::Stream;
use ringway::io::memory::{MemoryStream, pair};
use ringway::proxy::plane::{Downstream, Plane};
use ringway::shared::log_ring::{self, Consumer, RING_BYTES_DEFAULT};
use ringway::shared::metrics::Registry;
use ringway::snapshot::build::{Inputs, build};

/// Sizes of request heads, in bytes: the least a client sends, and what a browser sends.
pub(crate) const HEAD_BYTES: [usize; 2] = [60, 1229];
/// Where the upstream would be; nothing is ever dialled.
pub(crate) const ENDPOINT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9000);
/// The upstream's name in the config.
pub(crate) const UPSTREAM: &str = "origin";

/// With these, 99 routes that overlap, and a catch-all.
const RESOURCES: usize = 33;

/// What the upstream answers: a body of 128 bytes.
pub(crate) fn answer() -> Vec<u8> {
    let mut answer =
        b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/json\r\nContent-Length: 128\r\n\r\n".to_vec();
    answer.extend([b'x'; 128]);
    answer
}

/// One request for each route, each head of `bytes` bytes, in an order that jumps about.
pub(crate) fn requests(bytes: usize) -> Vec<Vec<u8>> {
    let mut paths = vec!["/assets/app.js".to_owned()];
    for i in 1..=RESOURCES {
        let (resource, id) = (format!("/api/v1/res{i}"), 1000 + i * 37);
        paths.extend([format!("{resource}/{id}"), format!("{resource}/{id}/sub"), format!("{resource}/list")]);
    }
    (0..paths.len()).map(|i| request(&paths[i * 37 % paths.len()], bytes)).collect()
}

/// The host pads the short head, a cookie the long one.
fn request(path: &str, bytes: usize) -> Vec<u8> {
    let line = format!("GET {path} HTTP/1.1\r\nHost: ");
    let text = if bytes < 100 {
        let pad = bytes - line.len() - ".test\r\n\r\n".len();
        format!("{line}{}.test\r\n\r\n", "h".repeat(pad))
    } else {
        let fields = include_str!("../loadtest/headers.txt").replace('\n', "\r\n");
        let front = format!("{line}api.example.com\r\n{fields}Cookie: session=");
        let pad = bytes - front.len() - "\r\n\r\n".len();
        format!("{front}{}\r\n\r\n", "c".repeat(pad))
    };
    assert_eq!(text.len(), bytes);
    text.into_bytes()
}

/// All deadlines and bounds at their defaults; only connections do not end, since a bench has one.
fn config() -> String {
    let mut text = format!(
        "listeners:
  - {{ address: 127.0.0.1:8080, max_requests: none }}
upstreams:
  {UPSTREAM}: {{ endpoints: [\"{ENDPOINT}\"], pool: {{ max_requests: 1000000000 }} }}
admin: off
routes:
  - {{ name: rest, match: {{ path: \"/{{*rest}}\" }}, forward: {{ upstream: {UPSTREAM} }} }}
"
    );
    for i in 1..=RESOURCES {
        for (name, tail) in [("", "/{id}"), ("_sub", "/{id}/sub"), ("_list", "/list")] {
            text += &format!(
                "  - {{ name: res{i}{name}, match: {{ path: \"/api/v1/res{i}{tail}\" }}, forward: {{ upstream: {UPSTREAM} }} }}\n"
            );
        }
    }
    text
}

/// A worker's data plane with its access log on, and the log writer's end.
pub(crate) fn plane() -> (Rc<Plane>, Consumer) {
    let config = match config::parse("bench.yaml", &config(), &|_| None) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    };
    let metrics = Registry::default();
    let inputs = Inputs {
        config: &config,
        addresses: &Default::default(),
        tls: &Default::default(),
        worker: 0,
        workers: 1,
        metrics: &metrics,
        seed: 1,
    };
    let snapshot = match build(&inputs) {
        Ok(snapshot) => Box::new(snapshot),
        Err(errors) => panic!("{errors}"),
    };
    let (producer, consumer) = log_ring::ring(RING_BYTES_DEFAULT, metrics.core(0));
    let core = Rc::new(Core::new(0, metrics.core(0), Some(producer)));
    (Rc::new(Plane::new(core, snapshot)), consumer)
}

/// A client's connection to that worker, and the client's end.
pub(crate) fn downstream(plane: &Plane) -> (Rc<Downstream>, MemoryStream) {
    let (near, far) = pair();
    let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let down = Downstream {
        stream: Stream::Memory(near),
        peer,
        peer_text: peer.ip().to_string(),
        listener: 0,
        slot: plane.core.deadlines.slot(),
        session: Default::default(),
        half_answered: Default::default(),
        idle_since_ms: Cell::new(None),
        served: Cell::new(0),
        opened_ms: 0,
    };
    (Rc::new(down), far)
}
