//! What one worker runs: owned by it, built by control, never changed. Raw config is elsewhere; this is born valid.

pub mod aggregate;
pub mod build;
mod filters;
mod parts;
pub mod start;

use std::cell::RefCell;
use std::net::SocketAddr;

use bytes::Bytes;
use ipnet::IpNet;
use rustls::pki_types::ServerName;

use crate::filter::Filter;
use crate::filter::header_edits::HeaderEdits;
use crate::filter::mirror::Mirror;
use crate::http::head::Bounds;
use crate::http::target::PathPolicy;
use crate::limit::Spec;
use crate::route::Router;
use crate::route::rewrite::PathRewrite;
use crate::route::template::Template;
use crate::shared::limits::Wallet;
use crate::shared::{RouteMetrics, Rules, UpstreamMetrics};
use crate::tls;
use crate::upstream;
use crate::upstream::balance::Balance;
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
    /// Rate limits, for each core's chores.
    pub rate_limits: Vec<RateLimitSpec>,
    /// Who gets copies of requests, by the number that their filter has.
    pub mirrors: Vec<Rules<Mirror>>,
    /// Whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Counts requests that no route matches.
    pub no_route: RouteMetrics,
    /// Bytes that this worker's aggregations may hold together.
    pub aggregate_bytes_max: usize,
    /// Bytes of good answers that this worker may remember.
    pub stale_bytes_max: usize,
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
    /// How its connections speak TLS, if they do.
    pub tls: Option<ListenerTls>,
    /// A line for every answer (RFC 6797), with its CRLF; empty without one.
    pub hsts: Box<[u8]>,
    /// Requests are sent to the same URL with `https`, at this port.
    pub https_redirect: Option<u16>,
    /// What goes into answers to requests that no route matches.
    pub filters: Vec<Filter>,
    /// Connections this worker may have on it.
    pub connections_max: usize,
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
    Forward(Forward),
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
    /// What the upstream's request target is.
    pub rewrite: PathRewrite,
    /// What the upstream's Host is.
    pub host: HostPolicy,
    /// Protocols that connections may switch to: names in small letters.
    pub upgrade: Vec<String>,
    /// Changes to the request's fields.
    pub request_headers: HeaderEdits,
    /// Changes to the answer's fields.
    pub response_headers: HeaderEdits,
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
    },
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
    pub address: SocketAddr,
    /// The Host it is asked by.
    pub host: String,
    /// Whose certificate it must show, where TLS is spoken.
    pub server_name: Option<ServerName<'static>>,
    /// All that a TLS connection to it depends on; empty without TLS.
    pub identity: String,
}

/// One upstream's rules.
pub struct UpstreamSpec {
    /// Stable, for pools, logs and metrics.
    pub name: String,
    /// In the balancer's order.
    pub endpoints: Vec<EndpointSpec>,
    /// How TLS is spoken to them, if it is.
    pub tls: Option<tls::Upstream>,
    /// Chooses among them.
    pub balance: RefCell<Balance>,
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

impl UpstreamSpec {
    /// The Host of endpoint number `index`.
    pub fn host_of(&self, index: usize) -> &str {
        self.endpoints.get(index).map_or("", |endpoint| &endpoint.host)
    }
}
