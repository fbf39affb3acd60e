//! `listeners`: where clients connect, and what one connection and one message may cost.

use std::net::SocketAddr;

use super::decode::{Block, Keys, Value};
use super::hosts;
use super::references::Names;
use super::report::{Located, quote};
use super::tls::{self, ListenerTls};
use super::{TrustedProxies, trusted_proxies};
use crate::socket::{SocketName, is_abstract};
use crate::value::{ByteSize, Duration, Invalid};

pub(super) const KEYS: Keys = Keys {
    known: &[
        "name",
        "address",
        "mode",
        "proxy_protocol",
        "tls",
        "https_redirect",
        "bounds",
        "timeouts",
        "max_requests",
        "max_age",
        "half_close",
        "paths",
        "filters",
    ],
    later: &[("protocols", "HTTP/2")],
};
pub(super) const PROXY_PROTOCOL_KEYS: Keys = Keys { known: &["trusted"], later: &[] };
pub(super) const BOUNDS_KEYS: Keys =
    Keys { known: &["connections", "connections_per_client", "handshakes", "head", "headers", "target"], later: &[] };
pub(super) const TIMEOUTS_KEYS: Keys =
    Keys { known: &["tls_handshake", "request_header", "request_body", "keep_alive", "write"], later: &[] };
pub(super) const PATHS_KEYS: Keys = Keys { known: &["merge_slashes", "encoded_slashes"], later: &[] };

/// Each listener is a socket per worker.
const LISTENERS_MAX: usize = 64;
/// Owner and group may connect, as a proxy in front does that is of the group; nobody else on the machine may.
pub(super) const MODE_DEFAULT: u32 = 0o660;

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique among listeners; the address as it was written if none is given.
    pub name: Located<String>,
    /// Shares no connection with another listener's; port 0 lets the kernel choose a port.
    pub address: SocketName,
    /// Permissions of a Unix socket's path: who may write may connect.
    pub mode: u32,
    /// Who begins each connection with a PROXY header; `None`: nobody.
    pub proxy_protocol: Option<TrustedProxies>,
    /// Certificates and whom to let in, if it speaks TLS.
    pub tls: Option<ListenerTls>,
    /// Every request is sent to the same URL with `https`, at this port.
    pub https_redirect: Option<u16>,
    /// What a connection and a message may cost.
    pub bounds: Bounds,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// Requests after which a connection is closed; `None`: never.
    pub max_requests: Option<u32>,
    /// Age at which a connection is closed after the request at hand; `None`: never.
    pub max_age: Option<Duration>,
    /// What a client's half-close means.
    pub half_close: HalfClose,
    /// How the path of a request is read.
    pub paths: Paths,
    /// Names of filters for every request of this listener, in order; all of them exist.
    pub filters: Vec<Located<String>>,
}

/// What a connection and a message may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections of this listener, per process.
    pub connections: u32,
    /// Open connections of one client's address, per process; `None`: as many as there may be at all.
    pub connections_per_client: Option<u32>,
    /// TLS handshakes under way at a time, per process; further ones wait.
    pub handshakes: u32,
    /// Request line and header fields together; more is answered 431.
    pub head: ByteSize,
    /// Number of header fields; more are answered 431.
    pub headers: u32,
    /// Request target; a longer one is answered 414. At most `head`.
    pub target: ByteSize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: None,
            handshakes: 1_000,
            head: ByteSize::from_kib(32),
            headers: 100,
            target: ByteSize::from_kib(8),
        }
    }
}

/// How long a client may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From accepting a connection to the end of its TLS handshake.
    pub tls_handshake: Duration,
    /// From the first byte of a request to the end of its head, however slowly the bytes drip.
    pub request_header: Duration,
    /// Between two pieces of a request body.
    pub request_body: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// Without the client taking any byte of an answer.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_secs(5),
            request_header: Duration::from_secs(10),
            request_body: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            write: Duration::from_secs(30),
        }
    }
}

/// What it means when a client closes its sending side while its request is being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    /// It is gone: the upstream call is cancelled.
    Gone,
    /// It still reads: the request at hand is answered, then the connection is closed.
    Answer,
}

/// How the path of a request is read, before routes are matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Whether `//` counts as `/`.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub encoded_slashes: EncodedSlashes,
}

impl Default for Paths {
    fn default() -> Self {
        Self { merge_slashes: false, encoded_slashes: EncodedSlashes::Reject }
    }
}

/// What happens to a path with `%2F` or `%5C` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// Answered 400: an upstream that decodes them would see other segments than the gateway matched.
    Reject,
    /// Matched as ordinary characters of a segment and passed on as they are.
    Keep,
}

/// All listeners; at least one. `filters` are those that they may name.
pub(super) fn decode(value: &Value<'_>, filters: &Names<'_>) -> Option<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    for item in value.list(1..=LISTENERS_MAX)? {
        let Some(listener) = listener(&item, filters) else { continue };
        let named = !listener.name.value.is_empty();
        let same_name = |earlier: &&Listener| named && earlier.name.value == listener.name.value;
        let same_port = |earlier: &&Listener| hosts::overlap(&earlier.address, &listener.address);
        if let Some(same) = listeners.iter().find(same_name) {
            let what = format!("a listener {} already exists on line {}", quote(&same.name.value), same.name.at.line);
            item.error(what, "give each its own name and address");
        } else if let Some(same) = listeners.iter().find(same_port) {
            let (what, remedy) = if same.address == listener.address {
                (format!("{} is the address of another listener", listener.address), "remove one")
            } else {
                let (address, other) = (&listener.address, &same.address);
                (format!("{address} and {other} of another listener overlap"), "give one of them another port")
            };
            item.error(what, remedy);
        }
        listeners.push(listener);
    }
    Some(listeners)
}

/// A listener without a valid address (recorded) gets port 0, and no name if none is given: the rest is read all the same.
fn listener(item: &Value<'_>, filters: &Names<'_>) -> Option<Listener> {
    let block = item.block(&KEYS)?;
    let address_value = block.required("address");
    let address = address_value.and_then(|v| v.parse(hosts::listen_name));
    let default_name =
        address_value.unwrap_or(item).locate(address.as_ref().map(|a| a.to_string()).unwrap_or_default());
    let mode = mode(&block, address.as_ref());
    let tls = block.get("tls").and_then(tls::listener);
    let https_redirect = block.or("https_redirect", None, |v| v.or_none(|v| v.count(1..=65_535)));
    if let (Some(value), Some(_), Some(_)) = (block.get("https_redirect"), https_redirect, block.get("tls")) {
        value.error("this listener speaks HTTPS itself", "write it at a listener without `tls`");
    }
    if let (Some(value), Some(port), Some(address)) = (block.get("https_redirect"), https_redirect, &address)
        && address.ip().is_some_and(|address| u32::from(address.port()) == port)
    {
        value.error(
            "this is the listener's own port: a client would be sent in circles",
            "the port of a listener with `tls`",
        );
    }
    if let (Some(value), Some(_)) = (block.get("filters"), https_redirect)
        && value.names().is_some_and(|names| !names.is_empty())
    {
        value.error(
            "this listener sends all requests to https before any filter",
            "write them at the listener with `tls`",
        );
    }
    let proxy_protocol = block.get("proxy_protocol").and_then(|v| proxy_protocol(v, address.as_ref()));
    Some(Listener {
        mode,
        proxy_protocol,
        tls,
        https_redirect: https_redirect.and_then(|port| u16::try_from(port).ok()),
        name: block.or("name", default_name, |v| v.name()),
        address: address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)).into()),
        bounds: block.or("bounds", Bounds::default(), bounds),
        timeouts: block.or("timeouts", Timeouts::default(), timeouts),
        max_requests: block.or("max_requests", Some(10_000), |v| v.or_none(|v| v.count(1..=1_000_000_000))),
        max_age: block.or("max_age", None, |v| {
            v.or_none(|v| v.duration(Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)))
        }),
        half_close: block.or("half_close", HalfClose::Gone, |v| {
            v.word(&[("gone", HalfClose::Gone), ("answer", HalfClose::Answer)], &[])
        }),
        paths: block.or("paths", Paths::default(), paths),
        filters: block.or("filters", Vec::new(), |v| filters.list(v)),
    })
}

/// Who begins each connection with a PROXY header.
fn proxy_protocol(value: &Value<'_>, address: Option<&SocketName>) -> Option<TrustedProxies> {
    let block = value.block(&PROXY_PROTOCOL_KEYS)?;
    let trusted = block.required("trusted")?;
    let proxies = trusted_proxies(trusted, 1)?;
    let is_unix = address.map(|address| address.ip().is_none());
    match is_unix {
        Some(true) if !proxies.unix => trusted.error("who connects to a Unix socket has no address", "write [unix]"),
        Some(false) if proxies.networks.is_empty() => {
            trusted.error("nobody connects to a port over a Unix socket", "write the proxy's address, or its network");
        }
        _ => {}
    }
    Some(proxies)
}

/// `mode` beside an `address`: permissions of the path, if it has any.
pub(super) fn mode(block: &Block<'_>, address: Option<&SocketName>) -> u32 {
    match (block.get("mode"), address) {
        (Some(value), Some(SocketName::Ip(_))) => {
            value.error("a port has no path that it could be the mode of", "remove it, or listen on unix:/path");
        }
        (Some(value), Some(SocketName::Unix(name))) if is_abstract(name) => {
            let remedy = "remove it (whoever is in the same network namespace may connect), or listen on unix:/path";
            value.error("an abstract socket has no permissions", remedy);
        }
        _ => {}
    }
    block.or("mode", MODE_DEFAULT, |v| v.parse(permissions))
}

/// Permissions, as chmod takes them.
fn permissions(text: &str) -> Result<u32, Invalid> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3);
    let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    mode.ok_or_else(|| {
        Invalid::new("are no permissions", "write four octal digits, like \"0660\": owner and group may connect; in quotes, for many programs read another number without")
    })
}

fn bounds(value: &Value<'_>) -> Option<Bounds> {
    let block = value.block(&BOUNDS_KEYS)?;
    let default = Bounds::default();
    let bounds = Bounds {
        connections: block.or("connections", default.connections, |v| v.count(1..=1_000_000)),
        connections_per_client: block.or("connections_per_client", None, |v| v.or_none(|v| v.count(1..=1_000_000))),
        handshakes: block.or("handshakes", default.handshakes, |v| v.count(1..=1_000_000)),
        // Less than 1 KiB does not hold what browsers send; more than 1 MiB is memory that any client can claim.
        head: block.or("head", default.head, |v| v.size(ByteSize::from_kib(1)..=ByteSize::from_kib(1024))),
        // The table of fields that a head is parsed into has this many rows.
        headers: block.or("headers", default.headers, |v| v.count(1..=256)),
        target: block.or("target", default.target, |v| v.size(ByteSize::from_bytes(64)..=ByteSize::from_kib(1024))),
    };
    if bounds.target > bounds.head {
        let what = format!("target ({}) is larger than head ({}), which contains it", bounds.target, bounds.head);
        block.get("target").unwrap_or(value).error(what, "raise head or lower target");
    }
    Some(bounds)
}

fn timeouts(value: &Value<'_>) -> Option<Timeouts> {
    let block = value.block(&TIMEOUTS_KEYS)?;
    let default = Timeouts::default();
    let shortest = Duration::from_millis(10);
    let hour = shortest..=Duration::from_secs(3600);
    Some(Timeouts {
        tls_handshake: block.or("tls_handshake", default.tls_handshake, |v| v.duration(hour.clone())),
        request_header: block.or("request_header", default.request_header, |v| v.duration(hour.clone())),
        request_body: block.or("request_body", default.request_body, |v| v.duration(hour.clone())),
        keep_alive: block.or("keep_alive", default.keep_alive, |v| v.duration(shortest..=Duration::from_secs(86_400))),
        write: block.or("write", default.write, |v| v.duration(hour.clone())),
    })
}

fn paths(value: &Value<'_>) -> Option<Paths> {
    let block = value.block(&PATHS_KEYS)?;
    let default = Paths::default();
    Some(Paths {
        merge_slashes: block.or("merge_slashes", default.merge_slashes, |v| v.boolean()),
        encoded_slashes: block.or("encoded_slashes", default.encoded_slashes, |v| {
            v.word(&[("reject", EncodedSlashes::Reject), ("keep", EncodedSlashes::Keep)], &[])
        }),
    })
}
