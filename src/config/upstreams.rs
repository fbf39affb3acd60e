//! `upstreams`: named sets of endpoints, how one of them is chosen, and how connections to it are kept.

use super::balance::{self, Balance};
use super::decode::{Block, Keys, Value, check_name};
use super::hosts::{self, EndpointAddress};
use super::report::{Located, quote};
use super::tls;
use crate::http::proxy_protocol::Version;
use crate::tls::client::ClientFiles;
use crate::value::Duration;

pub(super) const KEYS: Keys = Keys {
    known: &["endpoints", "balance", "pool", "timeouts", "proxy_protocol", "tls"],
    later: &[
        ("budget", "upstream budgets"),
        ("health", "health checks"),
        ("eject", "outlier ejection"),
        ("breaker", "circuit breakers"),
        ("retry", "retry policies"),
        ("protocols", "HTTP/2"),
    ],
};
pub(super) const ENDPOINT_KEYS: Keys = Keys { known: &["address", "weight", "drain"], later: &[] };
pub(super) const POOL_KEYS: Keys = Keys { known: &["idle", "idle_timeout", "max_age", "max_requests"], later: &[] };
pub(super) const TIMEOUTS_KEYS: Keys = Keys { known: &["connect", "first_byte", "body", "tunnel_idle"], later: &[] };

const UPSTREAMS_MAX: usize = 10_000;
const ENDPOINTS_MAX: usize = 1024;

/// A named set of endpoints that give the same answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Unique among upstreams; what outlives a config (pools, counts) is kept under it.
    pub name: Located<String>,
    /// At least one; no address twice.
    pub endpoints: Vec<Endpoint>,
    /// How one endpoint is chosen.
    pub balance: Balance,
    /// How connections are kept.
    pub pool: Pool,
    /// How long an endpoint may take.
    pub timeouts: Timeouts,
    /// What each connection begins with, to say whose it is.
    pub proxy_protocol: Option<Version>,
    /// Whom the gateway believes and who it is, if it speaks TLS to the endpoints.
    pub tls: Option<ClientFiles>,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its share of requests relative to the others: 1 to 1000.
    pub weight: u32,
    /// It gets no new requests.
    pub drain: bool,
}

/// How connections to an endpoint are kept for the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Idle connections kept per endpoint, in the whole process; 0 keeps none.
    pub idle: u32,
    /// How long one is kept idle.
    pub idle_timeout: Duration,
    /// Age after which one is not used again.
    pub max_age: Duration,
    /// Requests after which one is not used again.
    pub max_requests: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: 64,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            max_requests: 10_000,
        }
    }
}

/// How long an endpoint may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept a connection, and shake hands on it where TLS is spoken.
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer's body.
    pub body: Duration,
    /// Between two pieces of what passes a tunnel, in either direction.
    pub tunnel_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(15),
            body: Duration::from_secs(30),
            tunnel_idle: Duration::from_secs(3600),
        }
    }
}

/// All upstreams, in the order of the file.
pub(super) fn decode(value: &Value<'_>) -> Option<Vec<Upstream>> {
    let mut upstreams = Vec::new();
    for (key, value) in value.entries(UPSTREAMS_MAX)? {
        let at_key = value.at_key(key);
        if let Err(fault) = check_name(&key.text) {
            at_key.error(format!("{} {}", quote(&key.text), fault.what), fault.remedy);
        }
        let Some(block) = value.block(&KEYS) else { continue };
        upstreams.push(upstream(at_key.locate(key.text.clone()), &block));
    }
    Some(upstreams)
}

fn upstream(name: Located<String>, block: &Block<'_>) -> Upstream {
    let endpoints = block.required("endpoints").and_then(endpoints).unwrap_or_default();
    let tls = block.get("tls").and_then(tls::upstream);
    let is_nameless = |endpoint: &Endpoint| matches!(endpoint.address, EndpointAddress::Unix(_));
    if let (Some(value), Some(tls)) = (block.get("tls"), &tls)
        && tls.server_name.is_none()
        && endpoints.iter().any(is_nameless)
    {
        value.error("a Unix socket has no host that its certificate could be for", "write `server_name`");
    }
    Upstream {
        name,
        endpoints,
        balance: block.or("balance", Balance::P2c, balance::decode),
        pool: block.or("pool", Pool::default(), pool),
        timeouts: block.or("timeouts", Timeouts::default(), timeouts),
        proxy_protocol: block.or("proxy_protocol", None, |v| {
            v.word(&[("off", None), ("v1", Some(Version::V1)), ("v2", Some(Version::V2))], &[])
        }),
        tls,
    }
}

fn endpoints(value: &Value<'_>) -> Option<Vec<Endpoint>> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in value.list(1..=ENDPOINTS_MAX)? {
        let Some(endpoint) = endpoint(&item) else { continue };
        if endpoints.iter().any(|earlier| earlier.address == endpoint.address) {
            item.error(format!("{} is listed twice", endpoint.address), "remove one; `weight` gives it more requests");
        } else {
            endpoints.push(endpoint);
        }
    }
    Some(endpoints)
}

fn endpoint(item: &Value<'_>) -> Option<Endpoint> {
    if !item.is_mapping() {
        return Some(Endpoint { address: item.parse(hosts::endpoint_address)?, weight: 1, drain: false });
    }
    let block = item.block(&ENDPOINT_KEYS)?;
    let weight = block.or("weight", 1, |v| v.count(1..=1000));
    let drain = block.or("drain", false, Value::boolean);
    Some(Endpoint { address: block.required("address")?.parse(hosts::endpoint_address)?, weight, drain })
}

fn pool(value: &Value<'_>) -> Option<Pool> {
    let block = value.block(&POOL_KEYS)?;
    let default = Pool::default();
    let day = Duration::from_secs(86_400);
    Some(Pool {
        idle: block.or("idle", default.idle, |v| v.count(0..=100_000)),
        idle_timeout: block.or("idle_timeout", default.idle_timeout, |v| v.duration(Duration::from_millis(10)..=day)),
        max_age: block.or("max_age", default.max_age, |v| v.duration(Duration::from_secs(1)..=day)),
        max_requests: block.or("max_requests", default.max_requests, |v| v.count(1..=1_000_000_000)),
    })
}

fn timeouts(value: &Value<'_>) -> Option<Timeouts> {
    let block = value.block(&TIMEOUTS_KEYS)?;
    let default = Timeouts::default();
    let shortest = Duration::from_millis(10);
    let hour = shortest..=Duration::from_secs(3600);
    Some(Timeouts {
        connect: block.or("connect", default.connect, |v| v.duration(shortest..=Duration::from_secs(300))),
        first_byte: block.or("first_byte", default.first_byte, |v| v.duration(hour.clone())),
        body: block.or("body", default.body, |v| v.duration(hour.clone())),
        tunnel_idle: block
            .or("tunnel_idle", default.tunnel_idle, |v| v.duration(shortest..=Duration::from_secs(86_400))),
    })
}
