//! A connection for one request: which endpoint, an idle connection of its pool that is still quiet, or a new one.

use std::rc::Rc;

use crate::core::{Core, CoreEndpoint, UpstreamStream};
use crate::end::Failure;
use crate::error::{Error, Kind, Side};
use crate::http::proxy_protocol;
use crate::io::dial::DialError;
use crate::io::listen::is_exhausted;
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

/// Which endpoint was picked for a request.
#[derive(Clone, Copy, Debug)]
pub struct Picked {
    /// Its index.
    pub index: usize,
    /// What it was chosen by, if it was.
    pub key: Option<u64>,
    /// Connections that have carried requests are not good enough.
    pub fresh_only: bool,
    /// One endpoint has failed already: no other is tried.
    pub again: bool,
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
        if self.slot.now_ms() < self.core.avoids_until_ms.get() {
            return self.pick_sound(key, None).ok_or_else(|| self.no_endpoint());
        }
        let picked = self.spec.balance.borrow_mut().pick(key, |i| self.load(i), |_| true);
        picked.ok_or_else(|| self.no_endpoint())
    }

    /// The same for a request that has just failed at an endpoint: another one, if there is any.
    #[cold]
    pub fn pick_again(&self, key: Option<u64>, failed: Option<usize>) -> Result<usize, Error> {
        self.pick_sound(key, failed).map_or_else(|| self.pick(key), Ok)
    }

    /// One that can be reached, as far as is known; else one that can not, but never `failed`.
    #[cold]
    fn pick_sound(&self, key: Option<u64>, failed: Option<usize>) -> Option<usize> {
        let now_ms = self.slot.now_ms();
        let is_other = |i: usize| Some(i) != failed;
        let is_sound = |i: usize| is_other(i) && self.endpoints.get(i).is_some_and(|at| !at.is_avoided(now_ms));
        let mut balance = self.spec.balance.borrow_mut();
        let sound = balance.pick(key, |i| self.load(i), is_sound);
        sound.or_else(|| balance.pick(key, |i| self.load(i), is_other))
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

    /// An idle connection to an endpoint that is quiet at `now_us` since the process began, or a new one; only a new one if
    /// `picked` says so. Where none comes about, one other endpoint is tried: nothing has been sent, so that is safe for every
    /// request. `picked` names it from then on.
    pub async fn check_out(&self, picked: &mut Picked, now_us: u64) -> Result<Lease, Error> {
        if !picked.fresh_only
            && let Some(lease) = self.take_idle(picked.index, now_us)
        {
            return Ok(lease);
        }
        // Boxed: dialling is rare, and its state would be carried by every request.
        Box::pin(self.dial(picked)).await
    }

    async fn dial(&self, picked: &mut Picked) -> Result<Lease, Error> {
        let kind = match self.dial_one(picked.index).await {
            Ok(lease) => return Ok(lease),
            Err(kind) => kind,
        };
        let is_unsent = matches!(kind, Kind::Connect | Kind::ConnectTimeout | Kind::UpstreamTls);
        let other = (is_unsent && !picked.again).then(|| self.pick_sound(picked.key, Some(picked.index))).flatten();
        let Some(other) = other else { return Err(kind.never()) };
        count_failure(self.spec, kind.never());
        self.core.metrics.retries.add(1);
        (picked.index, picked.again) = (other, true);
        self.dial_one(other).await.map_err(Kind::never)
    }

    /// A new connection to endpoint number `index`, and what is learnt of it thereby.
    async fn dial_one(&self, index: usize) -> Result<Lease, Kind> {
        let Self { spec, core, slot, .. } = *self;
        let endpoint = self.endpoints.get(index).ok_or(Kind::NoEndpoint)?;
        let avoid = |until_ms: u64| core.avoids_until_ms.set(core.avoids_until_ms.get().max(until_ms));
        core.metrics.pool_misses.add(1);
        let in_flight = endpoint.enter();
        let now_ms = slot.now_ms();
        if let Some(until_ms) = endpoint.tries(now_ms) {
            avoid(until_ms);
        }
        let due_ms = self.due_ms.min(now_ms.saturating_add(spec.connect_ms.into()));
        let kind = match guard(slot, due_ms, self.connect(index, &endpoint.address)).await {
            Ok(Ok(stream)) => {
                core.metrics.connects.add(1);
                endpoint.connects();
                return Ok(Lease { stream: Rc::new(stream), in_flight, opened_ms: now_ms, requests: 0 });
            }
            Ok(Err(kind)) => kind,
            Err(fired) => self.fired(fired, Kind::ConnectTimeout),
        };
        core.metrics.connect_failures.add(1);
        if kind.side() == Side::Upstream {
            avoid(endpoint.fails(slot.now_ms()));
        }
        if kind == Kind::ConnectTimeout {
            self.not_reached(&endpoint.address, &format!("none within `timeouts.connect` ({} ms)", spec.connect_ms));
        }
        Err(kind)
    }

    /// Tells the operator why there is no connection.
    #[cold]
    fn not_reached(&self, address: &SocketName, why: &str) {
        self.core.note(format!("upstream {}: {address}: no connection: {why}", self.spec.name));
    }

    /// What it means that no connection came about.
    #[cold]
    fn refused(&self, address: &SocketName, e: &std::io::Error) -> Kind {
        if is_exhausted(e) {
            // No fault of the upstream: the next one would not be reached either.
            self.not_reached(address, &format!("{e}: the gateway's own limit; raise it (`ulimit -n`, LimitNOFILE=)"));
            return Kind::Exhausted;
        }
        self.not_reached(address, &e.to_string());
        Kind::Connect
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
        let Some(tls) = &spec.tls else {
            return dial::dial(address, preface).await.map_err(|e| self.refused(address, &e));
        };
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
            Err(DialError::Connect(e)) => Err(self.refused(address, &e)),
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
