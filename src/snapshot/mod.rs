//! What one worker runs: owned by it, built by control, never changed. Raw config is elsewhere; this is born valid.

pub mod aggregate;
mod balance;
pub mod build;
mod filters;
pub mod inputs;
mod log;
mod parts;
pub mod start;

use std::cell::RefCell;

use bytes::Bytes;
use rustls::pki_types::ServerName;

use crate::config::TrustedProxies;
use crate::core::Core;
use crate::filter::Filter;
use crate::filter::header_edits::HeaderEdits;
use crate::filter::limit_key::Fact;
use crate::filter::mirror::Mirror;
use crate::http::error_form::{ErrorForms, Nearest};
use crate::http::forwarded::Tells;
use crate::http::head::Bounds;
use crate::http::proxy_protocol;
use crate::http::reply::Reply;
use crate::http::set_cookie::CookieMap;
use crate::http::target::PathPolicy;
use crate::limit::Spec;
use crate::observe::format::Rules;
use crate::request::Request;
use crate::route::Router;
use crate::route::query::QueryEdits;
use crate::route::rewrite::PathRewrite;
use crate::route::template::Template;
use crate::shared::in_flight::InFlight;
use crate::shared::limits::Wallet;
use crate::shared::places::Cap;
use crate::shared::{self, RouteMetrics, UpstreamMetrics};
use crate::socket::SocketName;
use crate::tls;
use crate::upstream;
use crate::upstream::balance::Balance;
use crate::upstream::balance::hash::hash_key;
use crate::upstream::pool::PoolLimits;

use self::aggregate::Aggregate;
pub use self::filters::names as filter_names;

/// Everything a worker needs to serve requests.
pub struct Snapshot {
    /// Finds the index into `routes`.
    pub router: Router,
    /// In the order of the config.
    pub routes: Vec<Route>,
    /// In the order of the config.
    pub upstreams: Vec<UpstreamSpec>,
    /// In the order of the config.
    pub listeners: Vec<ListenerSpec>,
    /// Connections that the process may have on all listeners together, if that is bounded.
    pub connections: Option<Cap>,
    /// Connections over a cap that this worker answers at the same time.
    pub refusals_max: u64,
    /// Rate limits, for each core's chores.
    pub rate_limits: Vec<RateLimitSpec>,
    /// Who gets copies of requests, by the number that their filter has.
    pub mirrors: Vec<shared::Rules<Mirror>>,
    /// Which lines the access log has, and how they are written.
    pub access_log: Rules,
    /// How errors are told.
    pub errors: ErrorForms,
    /// How routes tell them, each way once.
    pub route_errors: Vec<ErrorForms>,
    /// In which fields upstreams are told who calls.
    pub forwarded: Tells,
    /// Whose forwarding fields are believed.
    pub trusted_proxies: TrustedProxies,
    /// Counts requests that no route matches.
    pub no_route: RouteMetrics,
    /// Bytes that this worker's aggregations may hold together.
    pub aggregate_bytes_max: usize,
    /// Bytes of good answers that this worker may remember.
    pub stale_bytes_max: usize,
}

impl Snapshot {
    /// How errors are told to requests that take the route of this index, or none.
    pub fn error_forms(&self, route: Option<usize>) -> Nearest<'_> {
        let own = route.and_then(|index| self.routes.get(index)?.errors);
        Nearest { route: own.and_then(|index| self.route_errors.get(index)), all: &self.errors }
    }

    /// Gives an answer to such a request the form of an error, if it is one of the table.
    #[inline]
    pub fn shape(&self, reply: &mut Reply, route: Option<usize>, request_id: &str) {
        if reply.is_standard {
            self.error_forms(route).shape(reply, request_id);
        }
    }
}

/// A rate limit: its numbers, and what its cores know together.
#[derive(Clone, Debug)]
pub struct RateLimitSpec {
    /// Its filter's name.
    pub name: String,
    /// Its numbers.
    pub spec: Spec,
    /// Its process wallet.
    pub wallet: Wallet,
}

/// One listener's rules.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// For people.
    pub name: String,
    /// Who begins each connection with a PROXY header, if anybody does.
    pub proxy_protocol: Option<TrustedProxies>,
    /// How its connections speak TLS, if they do.
    pub tls: Option<ListenerTls>,
    /// A line for every answer (RFC 6797), with its CRLF; empty without one.
    pub hsts: Box<[u8]>,
    /// Requests are sent to the same URL with `https`, at this port.
    pub https_redirect: Option<u16>,
    /// What goes into answers to requests that no route matches.
    pub filters: Vec<Filter>,
    /// Fields of answers that the access log shows, in lower case.
    pub logged_fields: Vec<String>,
    /// Connections that the process may have on it.
    pub connections: Cap,
    /// Connections that one client may have on it, on all workers together.
    pub per_client: Option<PerClient>,
    /// Bounds of request heads.
    pub bounds: Bounds,
    /// What happens to paths before they are matched.
    pub paths: PathPolicy,
    /// A whole head must arrive within this, in ms.
    pub request_header_ms: u32,
    /// Longest pause in a request body, in ms.
    pub request_body_ms: u32,
    /// Longest pause between requests, in ms.
    pub keep_alive_ms: u32,
    /// Longest time a write may make no progress, in ms.
    pub write_ms: u32,
    /// Requests one connection may carry.
    pub max_requests: u32,
    /// How long a connection may live, in ms.
    pub max_age_ms: u32,
    /// A client that ends its side has left; otherwise it still gets its answer.
    pub half_close_is_gone: bool,
}

/// How many connections one client may have.
#[derive(Clone, Debug)]
pub struct PerClient {
    /// How many each has.
    pub counts: InFlight,
    /// How many it may have.
    pub max: u64,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Certificates, and whom to let in.
    pub rules: tls::Listener,
    /// From accepting a connection to the end of its handshake, in ms.
    pub handshake_ms: u32,
    /// Handshakes under way at a time, on this worker.
    pub handshakes_max: usize,
}

/// One route.
pub struct Route {
    /// Stable, for logs and metrics.
    pub name: String,
    /// What runs before the action, per listener.
    pub filters: Vec<Vec<Filter>>,
    /// From the request's first byte to the head of the answer, in ms.
    pub timeout_ms: u32,
    /// Most bytes of a request body.
    pub body_limit: Option<u64>,
    /// Index into the snapshot's `route_errors`.
    pub errors: Option<usize>,
    /// What is done with a request.
    pub action: Action,
    /// This core's counters for it.
    pub metrics: RouteMetrics,
}

impl Route {
    /// What its deadline is called in the config.
    pub fn timeout_key(&self) -> String {
        format!("routes.{}.timeout", self.name)
    }
}

/// What a route does.
pub enum Action {
    /// Send the request to an upstream and its answer back.
    Forward(Box<Forward>),
    /// Ask several upstreams and put their answers together.
    Aggregate(Box<Aggregate>),
    /// Answer this.
    Respond(Respond),
    /// Send the client elsewhere.
    Redirect(Redirect),
}

/// How a request is forwarded.
pub struct Forward {
    /// Index into the snapshot's upstreams.
    pub upstream: usize,
    /// Which of several it is, if there are several.
    pub split: Option<Box<Split>>,
    /// What the path of the upstream's request target is.
    pub rewrite: PathRewrite,
    /// What changes in its query.
    pub query: Option<Box<QueryEdits>>,
    /// What the upstream's Host is.
    pub host: HostPolicy,
    /// Protocols that connections may switch to: names in small letters.
    pub upgrade: Vec<String>,
    /// Changes to the request's fields.
    pub request_headers: HeaderEdits,
    /// Fields that depend on when it is sent.
    pub timed: Vec<(String, Template)>,
    /// What of the answer is turned back into what the client knows.
    pub way_back: Option<Box<WayBack>>,
    /// Changes to the answer's fields.
    pub response_headers: HeaderEdits,
}

impl Forward {
    /// Whether the target of what is sent is made anew, and may be longer than the client's.
    pub fn rewrites_target(&self) -> bool {
        !matches!(self.rewrite, PathRewrite::Keep) || self.query.is_some()
    }
}

/// Several upstreams for one route.
pub struct Split {
    /// Their shares; by their place in the snapshot.
    pub upstreams: upstream::split::Split,
    /// What sticks to one of them.
    pub sticky: Option<Sticky>,
}

/// What sticks to one upstream.
pub enum Sticky {
    /// What this field says; its name is in lower case.
    Header(String),
    /// What this cookie says. Clients without it get one.
    Cookie {
        /// Its name.
        name: String,
        /// What stands behind its value when it is set, but for `Secure`.
        attributes: String,
        /// Whether an answer that hands it out is kept out of shared caches.
        is_private: bool,
    },
}

/// What an upstream says of itself, and what the client is to read instead.
#[derive(Debug)]
pub struct WayBack {
    /// Whether Location and Content-Location that lead to the upstream lead through the gateway.
    pub location: bool,
    /// Attributes of Set-Cookie.
    pub cookies: CookieMap,
}

/// The Host field of forwarded requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// The endpoint's address as the config writes it.
    Upstream,
    /// What the client sent.
    Pass,
    /// This.
    Literal(String),
}

/// An answer without an upstream.
pub struct Respond {
    /// Status code.
    pub status: u16,
    /// Its fields.
    pub fields: Vec<(String, Template)>,
    /// Its body.
    pub body: Bytes,
}

/// Where a redirect leads.
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The Location field.
    pub to: Template,
}

/// One address of an upstream.
pub struct EndpointSpec {
    /// Where it listens.
    pub address: SocketName,
    /// The Host it is asked by.
    pub host: String,
    /// Whose certificate it must show, where TLS is spoken.
    pub server_name: Option<ServerName<'static>>,
    /// All that a connection to it depends on beside its address; empty for a plain one.
    pub identity: String,
}

/// One upstream's rules.
pub struct UpstreamSpec {
    /// Stable, for pools, logs and metrics.
    pub name: String,
    /// In the balancer's order.
    pub endpoints: Vec<EndpointSpec>,
    /// What each connection begins with, to say whose it is. It carries one request: its pool keeps none.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// How TLS is spoken to them, if it is.
    pub tls: Option<tls::Upstream>,
    /// Chooses among them.
    pub balance: RefCell<Balance>,
    /// What requests stick by, if they do.
    pub hashed_by: Option<Box<HashedBy>>,
    /// Why there is no endpoint, if there is none.
    pub none_because: &'static str,
    /// When connections are given up.
    pub pool: PoolLimits,
    /// Deadline of connecting, in ms.
    pub connect_ms: u32,
    /// Deadline from the request sent to the first byte of the answer, in ms.
    pub first_byte_ms: u32,
    /// Longest pause in an answer's body, in ms.
    pub body_ms: u32,
    /// Longest time in which nothing passes a tunnel, in ms.
    pub tunnel_idle_ms: u32,
    /// This core's counters for it.
    pub metrics: UpstreamMetrics,
}

/// What requests stick to an endpoint by.
pub enum HashedBy {
    /// The same fact of every request.
    Fact(Fact),
    /// A parameter of the path: where that is one of the routes has it, by the index of the route.
    Param(Box<[Option<Fact>]>),
}

impl UpstreamSpec {
    /// The hash of what `req`, which takes the route of this index, sticks by; `None` if it has nothing of the kind.
    #[inline]
    pub fn key_of(&self, req: &Request, route: Option<usize>, core: &Core) -> Option<u64> {
        let fact = match &**self.hashed_by.as_ref()? {
            HashedBy::Fact(fact) => fact,
            HashedBy::Param(routes) => routes.get(route?)?.as_ref()?,
        };
        core.with_key_buffer(|out| fact.only_value(req, out).map(hash_key))
    }

    /// The Host of endpoint number `index`.
    pub fn host_of(&self, index: usize) -> &str {
        self.endpoints.get(index).map_or("", |endpoint| &endpoint.host)
    }
}
