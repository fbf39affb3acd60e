//! What all connections of a worker share: its core, and the snapshot that new requests are served by.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::core::{Core, CoreEndpoint};
use crate::http::proxy_protocol::Ends;
use crate::io::recycle::Recycler;
use crate::io::{Slot, Stream};
use crate::request::Request;
use crate::shared::in_flight::{Full, Guard};
use crate::snapshot::{ListenerSpec, Snapshot};
use crate::tls::Session;
use crate::upstream::pool::PoolLimits;

use super::aggregate::call::{CallMemory, Order};
use super::aggregate::fanout::Memory;
use super::gate::Gate;

/// An IPv6 network of a customer has at most this many bytes (RFC 6177).
const NETWORK_BYTES: usize = 8;
/// Request memory kept for reuse; more concurrent requests than this go through the allocator.
const REQUESTS_FREE_MAX: usize = 256;
/// The same for the calls of parts.
const CALLS_FREE_MAX: usize = 1024;

/// A snapshot in use on this core, joined with the core's own endpoints.
pub struct Live {
    /// The rules.
    pub snapshot: Box<Snapshot>,
    endpoints: Vec<Vec<Rc<CoreEndpoint>>>,
}

impl Live {
    /// The endpoints of the upstream at `index`, in the balancer's order.
    pub fn endpoints(&self, index: usize) -> &[Rc<CoreEndpoint>] {
        self.endpoints.get(index).map(Vec::as_slice).unwrap_or_default()
    }
}

/// One worker's data plane.
pub struct Plane {
    /// What the core owns.
    pub core: Rc<Core>,
    live: RefCell<Rc<Live>>,
    retiring: RefCell<Vec<Rc<Live>>>,
    #[allow(clippy::vec_box)] // the boxes are what is recycled: they move in and out of futures as pointers
    requests: RefCell<Vec<Box<Request>>>,
    downstreams: RefCell<Vec<Option<Rc<Downstream>>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
    gates: RefCell<Vec<Rc<Gate>>>,
    /// Boxes for the calls of parts; their type has no name here.
    calls: OnceCell<Rc<dyn Any>>,
    #[allow(clippy::vec_box)]
    call_memory: RefCell<Vec<Box<CallMemory>>>,
    #[allow(clippy::vec_box)]
    fanouts: RefCell<Vec<Box<Memory>>>,
    /// Connections over a cap that are being told so.
    pub refusing: Cell<u64>,
}

/// Who is at the other end of a client connection.
pub struct Peer {
    address: Option<SocketAddr>,
    text: String,
}

impl Peer {
    /// Of this address; of none, if it is a Unix socket's.
    pub fn new(address: Option<SocketAddr>) -> Self {
        let text = address.map(|address| address.ip().to_canonical().to_string()).unwrap_or_default();
        Self { address, text }
    }

    /// Its IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }

    /// The same as text, which is written into every forwarded request; empty if it has none.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What a PROXY header says.
pub struct Told {
    /// Who connected to the proxy.
    pub peer: Peer,
    /// And where.
    pub destination: SocketAddr,
}

/// One client connection.
pub struct Downstream {
    /// Its bytes.
    pub stream: Stream,
    /// Who connected: the client, or the proxy before us.
    pub peer: Peer,
    /// Who does, as the PROXY header of a trusted one says.
    pub told: OnceCell<Told>,
    /// Its place among those of its client, where these are counted.
    pub place: OnceCell<Guard>,
    /// Whose request is served, as far as he has an address; behind trusted proxies the one they name.
    pub client: Cell<Option<IpAddr>>,
    /// Index of its listener.
    pub listener: usize,
    /// Its place in the table of deadlines.
    pub slot: Slot,
    /// What its TLS handshake told; empty before, and without TLS.
    pub session: OnceCell<Rc<Session>>,
    /// An answer was begun that can not be ended: the client must see a cut.
    pub half_answered: Cell<bool>,
    /// Since when it waits for a request, in ms since the process began; `None` within one.
    pub idle_since_ms: Cell<Option<u64>>,
    /// Requests begun.
    pub served: Cell<u32>,
    /// When it was accepted, in ms since the process began.
    pub opened_ms: u64,
}

/// A connection's entry in the worker's list; removed on drop, however the connection ends.
pub struct Registered {
    plane: Rc<Plane>,
    index: usize,
}

impl Downstream {
    /// Who connected: the client, or the proxy before us that speaks HTTP.
    pub fn peer(&self) -> &Peer {
        self.told.get().map_or(&self.peer, |told| &told.peer)
    }

    /// Whose connection it is, for an upstream that wants to know: the client's that its request is for, and where it
    /// connected to. `None` where he has no address.
    pub fn ends(&self) -> Option<Ends> {
        let ip = self.client.get()?;
        let destination = match self.told.get() {
            Some(told) => told.destination,
            // A Unix socket has none, while the client that a proxy names has one.
            None => self.stream.local_address().unwrap_or_else(|| match ip {
                IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            }),
        };
        // Of a client that another proxy names, the port is not known.
        let port = self.peer().address.filter(|_| self.peer().ip() == Some(ip)).map_or(0, |address| address.port());
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        Some(Ends { source: SocketAddr::new(ip, port), destination })
    }

    /// Takes a place among the connections of this client, if these are counted.
    ///
    /// # Errors
    /// [`Full`] if he has as many as he may.
    pub fn take_place(&self, rules: &ListenerSpec) -> Result<(), Full> {
        let Some(per_client) = &rules.per_client else { return Ok(()) };
        let guard = match self.peer().ip() {
            // Clients of a Unix socket can not be told apart.
            None => return Ok(()),
            Some(IpAddr::V4(v4)) => per_client.counts.begin(&v4.octets(), per_client.max)?,
            // Of IPv6 a customer has a network.
            Some(IpAddr::V6(v6)) => {
                per_client.counts.begin(v6.octets().get(..NETWORK_BYTES).unwrap_or_default(), per_client.max)?
            }
        };
        let _ = self.place.set(guard);
        Ok(())
    }

    /// Takes in what a PROXY header says, once.
    pub fn tell(&self, Ends { source, destination }: Ends) {
        let _ = self.told.set(Told { peer: Peer::new(Some(source)), destination });
    }
}

impl Plane {
    /// A data plane that serves by `snapshot`.
    pub fn new(core: Rc<Core>, snapshot: Box<Snapshot>) -> Self {
        let live = join(&core, snapshot);
        Self {
            core,
            live: RefCell::new(Rc::new(live)),
            retiring: RefCell::default(),
            requests: RefCell::default(),
            downstreams: RefCell::default(),
            free: RefCell::default(),
            open: Cell::new(0),
            gates: RefCell::default(),
            calls: OnceCell::new(),
            call_memory: RefCell::default(),
            fanouts: RefCell::default(),
            refusing: Cell::new(0),
        }
    }

    /// The snapshot for a request that begins now; it keeps it to its end.
    pub fn live(&self) -> Rc<Live> {
        Rc::clone(&self.live.borrow())
    }

    /// New requests are served by `snapshot` from now on.
    pub fn publish(&self, snapshot: Box<Snapshot>) {
        let next = Rc::new(join(&self.core, snapshot));
        let old = self.live.replace(Rc::clone(&next));
        // A request on an old snapshot may run for hours: the idle connections of who is gone do not wait for it.
        for (live, drains) in [(&old, true), (&next, false)] {
            live.endpoints.iter().flatten().for_each(|endpoint| endpoint.drains.set(drains));
        }
        self.retiring.borrow_mut().push(old);
    }

    /// Snapshots that no request uses any more, to be dropped elsewhere.
    pub fn retired(&self) -> Vec<Box<Snapshot>> {
        let mut retiring = self.retiring.borrow_mut();
        let (done, waiting): (Vec<_>, Vec<_>) = retiring.drain(..).partition(|live| Rc::strong_count(live) == 1);
        *retiring = waiting;
        done.into_iter().filter_map(Rc::into_inner).map(|live| live.snapshot).collect()
    }

    /// Closes idle upstream connections that are spent or dead. Called about once a second.
    pub fn prune(&self, now_ms: u64) {
        let live = self.live();
        let limits_of = |name: &str| -> Option<PoolLimits> {
            live.snapshot.upstreams.iter().find(|spec| spec.name == name).map(|spec| spec.pool)
        };
        self.core.prune(now_ms, limits_of);
    }

    /// The door to the handshakes of listener number `index`.
    pub fn gate(&self, index: usize) -> Rc<Gate> {
        let mut gates = self.gates.borrow_mut();
        while gates.len() <= index {
            gates.push(Rc::default());
        }
        gates.get(index).map(Rc::clone).unwrap_or_default()
    }

    /// Memory for a request.
    pub fn take_request(&self) -> Box<Request> {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the memory back for the next one.
    pub fn give_request(&self, mut request: Box<Request>) {
        let mut requests = self.requests.borrow_mut();
        if requests.len() < REQUESTS_FREE_MAX {
            request.reset();
            requests.push(request);
        }
    }

    /// Boxes for the calls of parts, which `make` makes: one function makes them all.
    pub fn calls<F: Future + 'static>(&self, _make: &impl Fn(Order) -> F) -> Rc<Recycler<F>> {
        let calls = self.calls.get_or_init(|| Rc::new(Recycler::<F>::default()));
        Rc::clone(calls).downcast().unwrap_or_default()
    }

    /// Memory for a part's call.
    pub fn take_call(&self) -> Box<CallMemory> {
        self.call_memory.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the memory back for the next one.
    pub fn give_call(&self, memory: Box<CallMemory>) {
        let mut free = self.call_memory.borrow_mut();
        if free.len() < CALLS_FREE_MAX {
            free.push(memory);
        }
    }

    /// Memory for an aggregation.
    pub fn take_fanout(&self) -> Box<Memory> {
        self.fanouts.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the memory back for the next one.
    pub fn give_fanout(&self, mut memory: Box<Memory>) {
        memory.release(&self.core.buffers);
        let mut free = self.fanouts.borrow_mut();
        if free.len() < REQUESTS_FREE_MAX {
            free.push(memory);
        }
    }

    /// Gives back what this core's wallets have held for too long. Called with every tick.
    pub fn sweep_limits(&self) {
        let live = self.live();
        if live.snapshot.rate_limits.is_empty() {
            return;
        }
        let now_us = self.core.clock.now_us();
        for limit in &live.snapshot.rate_limits {
            self.core.wallet(&limit.wallet).sweep(&limit.spec, now_us);
        }
    }

    /// Client connections open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Enters a connection into the list, until what is returned is dropped.
    pub fn register(self: &Rc<Self>, downstream: &Rc<Downstream>) -> Registered {
        let mut list = self.downstreams.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            list.push(None);
            list.len() - 1
        });
        if let Some(entry) = list.get_mut(index) {
            *entry = Some(Rc::clone(downstream));
        }
        self.open.set(self.open.get() + 1);
        Registered { plane: Rc::clone(self), index }
    }

    /// Ends connections that have waited for a request for `grace_ms`. Bytes that have arrived are still read: the reading
    /// side alone is shut.
    pub fn end_idle(&self, now_ms: u64, grace_ms: u64) {
        for downstream in self.downstreams.borrow().iter().flatten() {
            let is_over = |since_ms: u64| now_ms.saturating_sub(since_ms) >= grace_ms;
            if downstream.idle_since_ms.get().is_some_and(is_over) {
                downstream.stream.shutdown_read();
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(entry) = self.plane.downstreams.borrow_mut().get_mut(self.index) {
            *entry = None;
        }
        self.plane.free.borrow_mut().push(self.index);
        self.plane.open.set(self.plane.open.get().saturating_sub(1));
    }
}

fn join(core: &Core, snapshot: Box<Snapshot>) -> Live {
    let of = |spec: &crate::snapshot::UpstreamSpec| {
        let of_core =
            |e: &crate::snapshot::EndpointSpec| core.endpoint(&spec.name, &e.address, &e.identity, &spec.metrics);
        spec.endpoints.iter().map(of_core).collect()
    };
    let endpoints = snapshot.upstreams.iter().map(of).collect();
    // Made here, not while a request is served.
    snapshot.rate_limits.iter().for_each(|limit| drop(core.wallet(&limit.wallet)));
    core.set_memory(snapshot.aggregate_bytes_max);
    Live { snapshot, endpoints }
}
