//! A connection for one request: which endpoint, an idle connection of its pool that is still quiet, or a new one.

use std::rc::Rc;

use crate::core::{Core, CoreEndpoint, UpstreamStream};
use crate::end::Failure;
use crate::error::{Error, Kind, Side};
use crate::http::proxy_protocol;
use crate::io::dial::DialError;
use crate::io::tls::HandshakeError;
use crate::io::{Fired, Slot, Stream, dial, guard};
use crate::snapshot::UpstreamSpec;
use crate::socket::SocketName;
use crate::upstream::endpoint::InFlight;
use crate::upstream::pool::{ASKED_MAX, Pooled};

use super::finish::kind_of;
use super::plane::Downstream;

/// A connection of one endpoint, out of its pool for one request.
pub struct Lease {
    /// The connection.
    pub stream: UpstreamStream,
    in_flight: InFlight<UpstreamStream>,
    opened_ms: u64,
    requests: u32,
}

impl Lease {
    /// Whether it has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.requests > 0
    }

    /// Gives the connection back for the next request.
    pub fn give_back(self, spec: &UpstreamSpec, now_ms: u64) {
        let Self { stream, in_flight, opened_ms, requests } = self;
        let pooled = Pooled { conn: stream, opened_ms, requests: requests.saturating_add(1) };
        in_flight.endpoint().pool.borrow_mut().put(pooled, now_ms, &spec.pool);
    }
}

/// Where a connection is wanted to, and until when.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The upstream.
    pub spec: &'a UpstreamSpec,
    /// Its endpoints on this core, in the balancer's order.
    pub endpoints: &'a [Rc<CoreEndpoint>],
    /// This core.
    pub core: &'a Core,
    /// The deadline of who waits.
    pub slot: &'a Slot,
    /// Whose request it is for; `None`: the gateway's own.
    pub client: Option<&'a Downstream>,
    /// When the time for the whole is over, in ms since the process began.
    pub due_ms: u64,
}

impl Wanted<'_> {
    /// The endpoint to ask, by its index; `key` is what [`UpstreamSpec::key_of`] makes of the request.
    #[inline]
    pub fn pick(&self, key: Option<u64>) -> Result<usize, Error> {
        let picked = self.spec.balance.borrow_mut().pick(key, |i| self.load(i), |_| true);
        picked.ok_or_else(|| self.no_endpoint())
    }

    /// The same for a request that has just failed at an endpoint: another one, if there is any.
    #[cold]
    pub fn pick_again(&self, key: Option<u64>, failed: Option<usize>) -> Result<usize, Error> {
        let is_other = |i: usize| Some(i) != failed;
        let other = self.spec.balance.borrow_mut().pick(key, |i| self.load(i), is_other);
        other.map_or_else(|| self.pick(key), Ok)
    }

    fn load(&self, index: usize) -> u32 {
        self.endpoints.get(index).map_or(u32::MAX, |endpoint| endpoint.in_flight())
    }

    #[cold]
    fn no_endpoint(&self) -> Error {
        let UpstreamSpec { name, none_because, .. } = self.spec;
        self.core.note(format!("upstream {name}: no endpoint to ask: {none_because}"));
        Kind::NoEndpoint.never()
    }

    /// An idle connection to endpoint number `index` that is quiet at `now_us` since the process began.
    pub fn take_idle(&self, index: usize, now_us: u64) -> Option<Lease> {
        let endpoint = self.endpoints.get(index)?;
        let metrics = &self.core.metrics;
        let are_quiet = |streams: &[Option<&UpstreamStream>; ASKED_MAX]| {
            let quiet = Stream::are_quiet(&streams.map(|stream| stream.map(|stream| &**stream)));
            let asked = streams.iter().flatten().count() as u64;
            metrics.pool_discarded.add(asked.saturating_sub(quiet.count_ones().into()));
            quiet
        };
        let Pooled { conn, opened_ms, requests } =
            endpoint.pool.borrow_mut().take(now_us, &self.spec.pool, are_quiet)?;
        metrics.pool_hits.add(1);
        Some(Lease { stream: conn, in_flight: endpoint.enter(), opened_ms, requests })
    }

    /// An idle connection to endpoint number `index` that is quiet at `now_us` since the process began, or a new one; only a
    /// new one if `fresh_only`.
    pub async fn check_out(&self, index: usize, now_us: u64, fresh_only: bool) -> Result<Lease, Error> {
        let Self { spec, core, slot, .. } = *self;
        if !fresh_only && let Some(lease) = self.take_idle(index, now_us) {
            return Ok(lease);
        }
        let endpoint = self.endpoints.get(index).ok_or(Kind::NoEndpoint.never())?;
        core.metrics.pool_misses.add(1);
        let in_flight = endpoint.enter();
        let now_ms = slot.now_ms();
        let due_ms = self.due_ms.min(now_ms.saturating_add(spec.connect_ms.into()));
        // Boxed: dialling is rare, and its state would be carried by every request.
        match guard(slot, due_ms, Box::pin(self.connect(index, &endpoint.address))).await {
            Ok(Ok(stream)) => {
                core.metrics.connects.add(1);
                Ok(Lease { stream: Rc::new(stream), in_flight, opened_ms: now_ms, requests: 0 })
            }
            Ok(Err(kind)) => {
                core.metrics.connect_failures.add(1);
                Err(kind.never())
            }
            Err(fired) => {
                core.metrics.connect_failures.add(1);
                Err(self.fired(fired, Kind::ConnectTimeout).never())
            }
        }
    }

    /// What it means that a wait was given up in this phase.
    pub fn fired(&self, fired: Fired, phase: Kind) -> Kind {
        let is_over = self.slot.now_ms() >= self.due_ms;
        kind_of(fired, if is_over { Kind::RouteTimeout } else { phase })
    }

    /// A new connection to endpoint number `index`, over TLS if the upstream speaks it.
    async fn connect(&self, index: usize, address: &SocketName) -> Result<Stream, Kind> {
        let Self { spec, core, .. } = *self;
        let mut preface = Vec::new();
        if let Some(version) = spec.proxy_protocol {
            proxy_protocol::write(version, self.client.and_then(Downstream::ends), &mut preface);
        }
        let Some(tls) = &spec.tls else { return dial::dial(address, preface).await.map_err(|_| Kind::Connect) };
        let note = |why: &str| core.note(format!("upstream {}: {address}: no TLS: {why}", spec.name));
        let Some(name) = spec.endpoints.get(index).and_then(|endpoint| endpoint.server_name.as_ref()) else {
            note("its host is no name that a certificate can be for; set `tls.server_name`");
            return Err(Kind::UpstreamTls);
        };
        match dial::dial_tls(address, preface, &tls.config, name, &core.buffers).await {
            Ok(stream) => {
                let resumed = stream.tls().is_some_and(|io| io.is_resumed());
                let counter = if resumed {
                    &core.metrics.upstream_handshakes_resumed
                } else {
                    &core.metrics.upstream_handshakes_full
                };
                counter.add(1);
                Ok(stream)
            }
            Err(DialError::Connect(_)) => Err(Kind::Connect),
            Err(DialError::Tls(HandshakeError::Tls(e))) => {
                note(&format!("{e}; see `tls.ca`, `tls.server_name` and `tls.client`"));
                Err(Kind::UpstreamTls)
            }
            Err(DialError::Tls(_)) => {
                note("it closed the connection within the handshake; does it speak TLS there?");
                Err(Kind::UpstreamTls)
            }
        }
    }
}

/// Counts a call of an endpoint that failed, before its answer or within it.
#[cold]
pub fn count_failure(spec: &UpstreamSpec, error: Error) {
    let failure = match error.kind {
        Kind::Connect => Failure::Connect,
        Kind::UpstreamTls => Failure::Tls,
        Kind::ConnectTimeout | Kind::FirstByteTimeout | Kind::RouteTimeout | Kind::UpstreamBodyTimeout => {
            Failure::Timeout
        }
        Kind::BadResponse(_) => Failure::BadResponse,
        kind if kind.side() == Side::Upstream => Failure::Reset,
        _ => return, // the client's doing
    };
    spec.metrics.failures.add(failure.index(), 1);
}
