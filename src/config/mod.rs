//! The config as the operator wrote it, with defaults filled in: [`load`] a file or [`parse`] a text.
//!
//! Reading goes through three steps, each of which records every error it finds: `tree` (YAML with line and column, no
//! anchors, variables replaced), `decode` (typed values), and one file per block. What blocks say of each other is checked
//! here too, names (`references`), templates (`templates`, `filters`), routes for the same requests (`routes`) and sockets,
//! also in blocks of which another part is wrong: one run tells everything, and a [`Config`] can be built as it is.
//!
//! Beside them stands what helps who writes one: `schema`, rows of every key with kind and default, from which come the JSON
//! Schema ([`json_schema`]) and the defaults that `print` writes out ([`effective`]).

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

pub mod access_log;
pub mod aggregate;
pub mod balance;
mod cookies;
pub mod credentials;
mod decode;
mod errors;
pub mod filters;
pub mod forward;
pub mod headers;
mod hints;
pub mod hosts;
pub mod listeners;
pub mod matching;
pub mod observe;
mod predicates;
mod print;
pub mod query;
pub mod rate_limits;
mod references;
pub mod report;
pub mod rewrite;
pub mod routes;
mod schema;
mod secrets;
pub mod split;
mod templates;
pub mod tls;
mod tree;
mod upgrade;
pub mod upstreams;
mod variables;

pub use print::effective;
pub use report::{Error, Errors, Located, Position, Report};
pub use schema::json_schema;
pub use secrets::is_likely as is_likely_secret;

use crate::http::error_form::ErrorForms;
use crate::http::forwarded::Tells;
use crate::limit::Spec;
use crate::plugin::Registry;
use crate::tls::files;
use crate::value::{Duration, Invalid};
use aggregate::AggregationMemory;
use decode::{Keys, Value};
use filters::NamedFilter;
use filters::limits::RateLimit;
use listeners::Listener;
use observe::{Admin, Observe};
use rate_limits::RateLimits;
use references::Defined;
use routes::{Draft, Route};
use tree::Node;
use upstreams::Upstream;

const KEYS: Keys = Keys {
    known: &[
        "workers",
        "connections",
        "drain",
        "errors",
        "forwarded",
        "trusted_proxies",
        "listeners",
        "upstreams",
        "filters",
        "all_routes",
        "routes",
        "aggregation",
        "rate_limits",
        "observe",
        "admin",
    ],
    later: &[("source", "etcd")],
};
const ALL_ROUTES_KEYS: Keys = Keys { known: &["filters"], later: &[] };

/// `CPU_SETSIZE` of Linux: an affinity mask names no more.
const CPUS_MAX: u32 = 1024;
const TRUSTED_MAX: usize = 1024;
/// More than any machine has descriptors for.
const CONNECTIONS_MAX: u32 = 100_000_000;

/// Everything an operator can say. Names are unique, every name that refers to an upstream or a filter exists, templates
/// can be read, and no two routes are for the same requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from, for errors that are found later.
    pub file: String,
    /// How many cores serve.
    pub workers: Workers,
    /// Open connections of clients, on all listeners together; `None`: as many as each may have.
    pub connections: Option<u32>,
    /// How long requests may still take after a first SIGTERM.
    pub drain: Duration,
    /// How errors are told.
    pub errors: ErrorForms,
    /// In which fields upstreams are told who calls, and trusted proxies tell it.
    pub forwarded: Tells,
    /// Networks whose forwarding fields (X-Forwarded-For …) are believed.
    pub trusted_proxies: TrustedProxies,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// In the order of the file.
    pub upstreams: Vec<Upstream>,
    /// In the order of the file.
    pub filters: Vec<NamedFilter>,
    /// Names of filters for every route, in order, before those of listener and route.
    pub all_routes_filters: Vec<Located<String>>,
    /// In the order of the file.
    pub routes: Vec<Route>,
    /// What aggregations may hold in memory.
    pub aggregation: AggregationMemory,
    /// How limits hold across processes.
    pub rate_limits: RateLimits,
    /// What the gateway tells about requests.
    pub observe: Observe,
    /// Where the admin API listens; `None`: nowhere.
    pub admin: Option<Admin>,
}

impl Config {
    /// Names of the filters for requests of a route on a listener, in order: those of all routes, then the listener's, then
    /// the route's; each once, and without those that the route refuses.
    pub fn filters_of<'c>(&'c self, route: &'c Route, listener: &'c Listener) -> Vec<&'c str> {
        let names = filters::acting(&self.all_routes_filters, listener, &route.filters, &route.without);
        names.into_iter().map(|name| name.value.as_str()).collect()
    }

    /// The numbers of the rate limit `name`: its own, and what follows from its routes and from Redis.
    ///
    /// # Errors
    /// Which number is wrong, and what would be right.
    pub fn spec_of(&self, name: &str, limit: &RateLimit) -> Result<Spec, Invalid> {
        let uses =
            |route: &&Route| self.listeners.iter().any(|listener| self.filters_of(route, listener).contains(&name));
        let costs = self.routes.iter().filter(uses).map(|route| route.costs.of(name));
        let cost_max = costs.max().unwrap_or(1).max(1);
        limit.spec(cost_max, self.rate_limits.redis.is_some(), self.rate_limits.on_unavailable)
    }
}

/// Whose word on who the client is counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Those that connect from these networks.
    pub networks: Vec<IpNet>,
    /// Those that connect over Unix sockets.
    pub unix: bool,
}

/// How many cores serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workers {
    /// As many as the affinity mask and the cgroup quota allow.
    Auto,
    /// So many, at least 1.
    Count(u32),
    /// One on each of these CPUs; at least one, none twice.
    Cpus(Vec<u32>),
}

/// Reads a config file, with the variables of this process and the plugins that are compiled in.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, plugins: &Registry) -> Result<Config, Errors> {
    let text = read_text(path)?;
    parse_with(&path.display().to_string(), &text, &|name| std::env::var(name).ok(), plugins)
}

/// The text of a config file.
///
/// # Errors
/// Why it can not be read.
pub fn read_text(path: &Path) -> Result<String, Errors> {
    let report = Report::new(&path.display().to_string());
    let text = read_config(path).map_err(|fault| report.error(&Position::default(), fault.what, fault.remedy));
    report.finish(text.ok())
}

/// The config itself, which may come through a pipe.
fn read_config(path: &Path) -> Result<String, Invalid> {
    let failed =
        |cause: std::io::Error| Invalid::new(format!("can not be read: {cause}"), "check path and permissions");
    // One byte more than is allowed shows that there is too much; a device that never ends is read no further.
    let limit = u64::try_from(tree::FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    utf8(bytes)
}

/// A file that a config names, and that is read again while the gateway runs: nothing of it may be waited for.
fn read_named(path: &Path) -> Result<String, Invalid> {
    utf8(files::read(path)?)
}

fn utf8(bytes: Vec<u8>) -> Result<String, Invalid> {
    String::from_utf8(bytes).map_err(|fault| {
        let valid = fault.as_bytes().get(..fault.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        Invalid::new(format!("is not UTF-8: see line {line}"), "save it as UTF-8")
    })
}

/// Reads the text of a config without plugins; `file_name` is for messages, `env` gives the values of variables.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file_name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Errors> {
    parse_with(file_name, text, env, &Registry::default())
}

/// The same with the plugins that are compiled in.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_with(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    plugins: &Registry,
) -> Result<Config, Errors> {
    let report = Report::new(file_name);
    let config = tree::read(text, env, &report).and_then(|root| document(&root, file_name, plugins, &report));
    report.finish(config)
}

fn document(root: &Node, file_name: &str, plugins: &Registry, report: &Report) -> Option<Config> {
    let root = Value::root(root, report);
    let block = root.block(&KEYS)?;
    let defined = Defined::of(&block, report);
    let listeners = block.required("listeners").and_then(|v| listeners::decode(v, &defined.filters));
    let listeners = listeners.unwrap_or_default();
    let filters = block.or("filters", Vec::new(), |v| filters::decode(v, &defined.upstreams, plugins));
    let all_routes_filters = block.or("all_routes", Vec::new(), |v| {
        Some(v.block(&ALL_ROUTES_KEYS)?.or("filters", Vec::new(), |v| defined.filters.list(v)))
    });
    let routes = block.or("routes", Vec::new(), |v| routes::decode(v, &defined, report));
    routes::check_paths(&routes, &listeners, report);
    let everywhere: Vec<_> = all_routes_filters.iter().chain(listeners.iter().flat_map(|l| &l.filters)).collect();
    filters::check_uses(&filters, &routes, &everywhere, report);
    let upstreams = block.or("upstreams", Vec::new(), upstreams::decode);
    balance::check_uses(&upstreams, &filters, &routes, &everywhere, report);
    filters::order::check(&filters, &all_routes_filters, &listeners, &routes, report);
    let rate_limits = block.or("rate_limits", RateLimits::default(), rate_limits::decode);
    let has_redis = block.get("rate_limits").is_some_and(|v| v.keys().any(|key| key == "redis"));
    rate_limits::check_without_redis(&filters, has_redis, report);
    let admin = block.or("admin", Some(Admin::default()), observe::admin);
    check_admin(admin.as_ref(), block.get("admin"), &listeners, report);
    Some(Config {
        file: file_name.to_owned(),
        workers: block.or("workers", Workers::Auto, workers),
        connections: block.or("connections", None, |v| v.or_none(|v| v.count(1..=CONNECTIONS_MAX))),
        drain: block
            .or("drain", Duration::from_secs(30), |v| v.duration(Duration::from_secs(0)..=Duration::from_secs(3600))),
        errors: block.or("errors", errors::default(), errors::decode),
        forwarded: block.or("forwarded", Tells::default(), |v| {
            let words = [("x-forwarded", Tells::XForwarded), ("forwarded", Tells::Forwarded), ("both", Tells::Both)];
            v.word(&words, &[])
        }),
        trusted_proxies: block.or("trusted_proxies", TrustedProxies::default(), |v| trusted_proxies(v, 0)),
        listeners,
        upstreams,
        filters,
        all_routes_filters,
        routes: routes.into_iter().filter_map(Draft::finish).collect(),
        aggregation: block.or("aggregation", AggregationMemory::default(), aggregate::memory),
        rate_limits,
        observe: block.or("observe", Observe::default(), observe::decode),
        admin,
    })
}

fn workers(value: &Value<'_>) -> Option<Workers> {
    if !value.is_list() {
        return value
            .or_word("auto", |v| v.count(1..=CPUS_MAX))
            .map(|count| count.map_or(Workers::Auto, Workers::Count));
    }
    let mut cpus = Vec::new();
    for item in value.list(1..=1024)? {
        match item.count(0..=CPUS_MAX - 1) {
            Some(cpu) if cpus.contains(&cpu) => item.error(format!("CPU {cpu} is listed twice"), "remove one"),
            Some(cpu) => cpus.push(cpu),
            None => {}
        }
    }
    Some(Workers::Cpus(cpus))
}

impl TrustedProxies {
    /// Whether who connects from there is one of them; `None` is a Unix socket.
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        address.map_or(self.unix, |address| self.networks.iter().any(|net| net.contains(&address)))
    }
}

/// Networks, and `unix`.
fn trusted_proxies(value: &Value<'_>, least: usize) -> Option<TrustedProxies> {
    let read = |text: &str| if text == "unix" { Ok(None) } else { network(text).map(Some) };
    let all = value.list_of(least..=TRUSTED_MAX, |item| item.parse(read))?;
    Some(TrustedProxies { unix: all.contains(&None), networks: all.into_iter().flatten().collect() })
}

/// `10.0.0.0/8`, or one address.
pub(in crate::config) fn network(text: &str) -> Result<IpNet, Invalid> {
    let invalid = || Invalid::new("is not a network", "write an address, or one with a prefix length, like 10.0.0.0/8");
    let net: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().map_err(|_| invalid())?,
    };
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Invalid::new("has bits set beyond its prefix", format!("write {}, or a longer prefix", net.trunc())))
}

/// Two sockets that are not of one group can not share an address. `given` is the block, if the document has one.
fn check_admin(admin: Option<&Admin>, given: Option<&Value<'_>>, listeners: &[Listener], report: &Report) {
    let Some(Admin { address: admin, .. }) = admin else { return };
    let Some(listener) = listeners.iter().find(|listener| hosts::overlap(&listener.address, admin)) else {
        return;
    };
    let what = if listener.address == *admin {
        format!("the admin API and a listener both use {admin}")
    } else {
        format!("{admin} of the admin API and {} of a listener overlap", listener.address)
    };
    let (at, remedy) = match given {
        Some(given) => (given.at(), "give admin another address, or `off`"),
        None => (listener.name.at.clone(), "give it another port, or `admin` another address, or `off`"),
    };
    report.error(&at, what, remedy);
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_access;
#[cfg(test)]
mod tests_at_once;
#[cfg(test)]
mod tests_balance;
#[cfg(test)]
mod tests_ext_auth;
#[cfg(test)]
mod tests_jwt;
#[cfg(test)]
mod tests_limits;
#[cfg(test)]
mod tests_listeners;
#[cfg(test)]
mod tests_matching;
#[cfg(test)]
mod tests_newcomers;
#[cfg(test)]
mod tests_plugins;
