//! A worker's data plane in memory, for benches.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use ringway::config;
use ringway::core::Core;
use ringway::io::Stream;
use ringway::io::memory::{MemoryStream, pair};
use ringway::proxy::plane::{Downstream, Peer, Plane};
use ringway::shared::log_ring::{self, Consumer, RING_BYTES_DEFAULT};
use ringway::snapshot::build::build;
use ringway::snapshot::inputs::{Inputs, Made};

/// Where the upstream would be; nothing is ever dialled.
pub(crate) const ENDPOINT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9000);
/// The upstream's name in the config.
pub(crate) const UPSTREAM: &str = "origin";

/// A worker's data plane with its access log on, and the log writer's end.
pub(crate) fn plane(config: &str) -> (Rc<Plane>, Consumer) {
    let config = match config::parse("bench.yaml", config, &|_| None) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    };
    let made = Made::alone();
    let snapshot = match build(&Inputs { config: &config, made: &made, worker: 0, seed: 1 }) {
        Ok(snapshot) => Box::new(snapshot),
        Err(errors) => panic!("{errors}"),
    };
    let (producer, consumer) = log_ring::ring(RING_BYTES_DEFAULT, made.metrics.core(0));
    let core = Rc::new(Core::new(0, made.metrics.core(0), Some(producer)));
    (Rc::new(Plane::new(core, snapshot)), consumer)
}

/// A client's connection to that worker, and the client's end.
pub(crate) fn downstream(plane: &Plane) -> (Rc<Downstream>, MemoryStream) {
    let (near, far) = pair();
    let down = Downstream {
        stream: Stream::Memory(near),
        peer: Peer::new(Some(SocketAddr::from(([127, 0, 0, 1], 40_000)))),
        told: Default::default(),
        client: Default::default(),
        place: Default::default(),
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
