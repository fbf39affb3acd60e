//! From config to snapshot. Every worker gets one of its own; nothing is published unless all of them were built.

use std::cell::RefCell;
use std::collections::HashMap;

use rustls::pki_types::ServerName;

use crate::config::headers::{HeaderEdits as RawEdits, HeaderTemplate};
use crate::config::hosts::{Address, EndpointAddress};
use crate::config::listeners::{EncodedSlashes, HalfClose, Listener};
use crate::config::query::QueryEdits as RawQuery;
use crate::config::rewrite::{HostRewrite, PathRewrite as RawPath};
use crate::config::split::{self as raw_split, Target};
use crate::config::{Errors, Located, Report, forward as raw_forward, routes, upstreams};
use crate::filter::header_edits::HeaderEdits;
use crate::http::error_form::ErrorForms;
use crate::http::head::Bounds;
use crate::http::target;
use crate::io::files;
use crate::route::param_names;
use crate::route::query::QueryEdits;
use crate::route::replace::Replace;
use crate::route::rewrite::PathRewrite;
use crate::route::template::Template;
use crate::shared::metrics::NO_ROUTE;
use crate::shared::places::Cap;
use crate::socket::SocketName;
use crate::tls;
use crate::upstream;
use crate::upstream::pool::PoolLimits;
use crate::value::ByteSize;

use super::balance;
use super::filters::{self, Common};
use super::inputs::Inputs;
use super::log;
use super::parts;
use super::{
    Action, EndpointSpec, Forward, HostPolicy, ListenerSpec, ListenerTls, PerClient, Redirect, Respond, Route,
    Snapshot, Split, Sticky, UpstreamSpec, WayBack,
};

/// Builds one worker's snapshot.
///
/// # Errors
/// None for a config that was read: it has been checked. Errors are recorded all the same, for one made in another way.
pub fn build(inputs: &Inputs<'_>) -> Result<Snapshot, Errors> {
    let Inputs { config, made, worker, .. } = inputs;
    let report = Report::new(&config.file);
    let matches: Vec<_> = config.routes.iter().map(|raw| (&raw.name, &raw.matches)).collect();
    let router = routes::router(&matches, &report);
    let common = Common::new(inputs, &report);
    let mut ways = Ways::default();
    let mut route = |raw| route(raw, inputs, &common, &mut ways, &report);
    let routes: Vec<Route> = config.routes.iter().filter_map(&mut route).collect();
    let access_log = log::rules(config, &report);
    let logged_fields = access_log.format.answer_headers();
    let listener =
        |(i, raw)| ListenerSpec { logged_fields: logged_fields.clone(), ..listener(i, raw, inputs, &common, &report) };
    let snapshot = router.map(|router| Snapshot {
        router,
        routes,
        upstreams: config.upstreams.iter().enumerate().map(|(i, raw)| upstream(i, raw, inputs, &report)).collect(),
        listeners: config.listeners.iter().enumerate().map(listener).collect(),
        // Not the name of any listener's.
        connections: config.connections.map(|most| cap("all", most, inputs)),
        refusals_max: files::refusals(files::limit(), inputs.made.workers),
        rate_limits: common.rate_limits.clone(),
        mirrors: common.mirrors(),
        errors: config.errors.clone(),
        route_errors: ways.list,
        forwarded: config.forwarded,
        access_log,
        trusted_proxies: config.trusted_proxies.clone(),
        no_route: made.metrics.route(*worker, NO_ROUTE),
        aggregate_bytes_max: share_bytes(config.aggregation.memory, inputs.made.workers),
        stale_bytes_max: share_bytes(config.aggregation.stale_memory, inputs.made.workers),
    });
    report.finish(snapshot)
}

/// The ways in which routes tell errors. Many routes may have the same pages, which are large: each is kept once.
#[derive(Default)]
struct Ways<'c> {
    list: Vec<ErrorForms>,
    known: HashMap<&'c ErrorForms, usize>,
}

impl<'c> Ways<'c> {
    fn index_of(&mut self, forms: &'c ErrorForms) -> usize {
        *self.known.entry(forms).or_insert_with(|| {
            self.list.push(forms.clone());
            self.list.len() - 1
        })
    }
}

fn route<'c>(
    raw: &'c routes::Route,
    inputs: &Inputs<'_>,
    common: &Common,
    ways: &mut Ways<'c>,
    report: &Report,
) -> Option<Route> {
    let config = inputs.config;
    // A bad pattern is reported by the router.
    let params = param_names(&raw.matches.path.value).ok()?;
    let of = |listener| filters::of(raw, listener, inputs, common, &params, report);
    let filters = config.listeners.iter().map(of).collect();
    let name = &raw.name.value;
    let action = match &raw.action {
        routes::Action::Forward(raw) => Action::Forward(Box::new(forward(raw, inputs, &params, report)?)),
        routes::Action::Aggregate(raw) => Action::Aggregate(Box::new(parts::aggregate(
            raw,
            parts::Inputs {
                params: &params,
                upstream: &|name| config.upstreams.iter().position(|upstream| upstream.name.value == name),
                metrics: &|part| inputs.made.metrics.part(inputs.worker, name, part),
                response_headers: edits(&raw.response_headers, &params, report),
                report,
            },
        )?)),
        routes::Action::Respond(raw) => Action::Respond(Respond {
            status: raw.status.as_u16(),
            fields: fields(&raw.headers, &params, report),
            body: raw.body.clone().into(),
        }),
        routes::Action::Redirect(raw) => Action::Redirect(Redirect {
            status: raw.status.as_u16(),
            to: template(&raw.to, report, |text| Template::parse_location(text, &params))?,
        }),
    };
    Some(Route {
        name: name.clone(),
        filters,
        timeout_ms: millis(raw.timeout.get()),
        body_limit: raw.body_limit.map(|size| size.bytes()),
        errors: raw.errors.as_ref().map(|forms| ways.index_of(forms)),
        action,
        metrics: inputs.made.metrics.route(inputs.worker, name),
    })
}

fn forward(raw: &raw_forward::Forward, inputs: &Inputs<'_>, params: &[String], report: &Report) -> Option<Forward> {
    let index = |name: &str| inputs.config.upstreams.iter().position(|upstream| upstream.name.value == name);
    let upstream = raw.target.upstreams().find_map(|name| index(&name.value))?;
    let split = match &raw.target {
        Target::Upstream(_) => None,
        // Not the seed that its upstreams draw endpoints by.
        Target::Split(raw) => Some(Box::new(split(raw, index, inputs.seed.rotate_left(32)))),
    };
    let rewrite = match &raw.rewrite.path {
        RawPath::Keep => PathRewrite::Keep,
        RawPath::Prefix { strip, add } => {
            let text = |prefix: &Option<Located<String>>| prefix.as_ref().map(|p| p.value.clone());
            let at = strip.as_ref().or(add.as_ref()).map(|p| p.at.clone()).unwrap_or_default();
            match PathRewrite::prefix(text(strip).as_deref(), text(add).as_deref()) {
                Ok(rewrite) => rewrite,
                Err(what) => {
                    report.error(&at, what, "a prefix begins with `/`");
                    return None;
                }
            }
        }
        RawPath::Template(text) => template(text, report, |text| PathRewrite::template(text, params))?,
        RawPath::Regex { expression, to } => {
            let replace = template(to, report, |to| Replace::new(expression.clone(), to))?;
            PathRewrite::Regex(Box::new(replace))
        }
    };
    let (request_headers, timed) = sent_edits(&raw.request_headers, params, report);
    let way_back = (raw.rewrite.location || !raw.rewrite.cookies.is_empty())
        .then(|| Box::new(WayBack { location: raw.rewrite.location, cookies: raw.rewrite.cookies.clone() }));
    Some(Forward {
        upstream,
        split,
        rewrite,
        query: query(&raw.rewrite.query, params, report)?,
        host: match &raw.rewrite.host {
            HostRewrite::Upstream => HostPolicy::Upstream,
            HostRewrite::Pass => HostPolicy::Pass,
            HostRewrite::Literal(host) => HostPolicy::Literal(host.clone()),
        },
        upgrade: raw.upgrade.clone(),
        request_headers,
        timed,
        way_back,
        response_headers: edits(&raw.response_headers, params, report),
    })
}

fn split(raw: &raw_split::Split, index: impl Fn(&str) -> Option<usize>, seed: u64) -> Split {
    let weights = raw.weights.iter().filter_map(|(name, weight)| Some((index(&name.value)?, &*name.value, *weight)));
    let sticky = raw.sticky.as_ref().map(|sticky| match sticky {
        raw_split::Sticky::Header(name) => Sticky::Header(name.clone()),
        raw_split::Sticky::Cookie { name, max_age, is_private } => {
            let age = max_age.map(|age| format!("; Max-Age={}", age.get().as_secs())).unwrap_or_default();
            let attributes = format!("; Path=/; HttpOnly; SameSite=Lax{age}");
            Sticky::Cookie { name: name.clone(), attributes, is_private: *is_private }
        }
    });
    Split { upstreams: upstream::split::Split::new(weights, seed), sticky }
}

/// `None` within if nothing is changed.
fn query(raw: &RawQuery, params: &[String], report: &Report) -> Option<Option<Box<QueryEdits>>> {
    let mut edits = QueryEdits::default();
    raw.remove.iter().for_each(|name| edits.remove(name));
    raw.set.iter().for_each(|(name, _)| edits.remove(name));
    for (name, value) in raw.set.iter().chain(&raw.add) {
        template(value, report, |text| edits.add(name, text, params))?;
    }
    Some((!raw.is_empty()).then(|| Box::new(edits)))
}

pub(super) fn edits(raw: &RawEdits, params: &[String], report: &Report) -> HeaderEdits {
    sent_edits(raw, params, report).0
}

/// The edits, and by themselves those fields that depend on when the request is sent.
fn sent_edits(raw: &RawEdits, params: &[String], report: &Report) -> (HeaderEdits, Vec<(String, Template)>) {
    let timed = |fields: &mut Vec<(String, Template)>| -> Vec<_> {
        fields.extract_if(.., |(_, value)| value.is_timed()).collect()
    };
    let (mut set, mut add) = (fields(&raw.set, params, report), fields(&raw.add, params, report));
    let (timed_set, timed_add) = (timed(&mut set), timed(&mut add));
    let replaced = timed_set.iter().map(|(name, _)| name.clone());
    let edits = HeaderEdits {
        rename: raw.rename.clone(),
        remove: raw.remove.iter().cloned().chain(replaced).collect(),
        set,
        append: fields(&raw.append, params, report),
        add,
    };
    (edits, timed_set.into_iter().chain(timed_add).collect())
}

fn fields(raw: &[HeaderTemplate], params: &[String], report: &Report) -> Vec<(String, Template)> {
    let field = |raw: &HeaderTemplate| {
        // What may not be said in it is known since it was read.
        let value = template(&raw.value, report, |text| Template::parse_sent_header(text, params, &[]))?;
        Some((raw.name.clone(), value))
    };
    raw.iter().filter_map(field).collect()
}

fn template<T, E: ToString>(
    text: &Located<String>,
    report: &Report,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    parse(&text.value).map_err(|e| report.error(&text.at, e.to_string(), "")).ok()
}

fn upstream(index: usize, raw: &upstreams::Upstream, inputs: &Inputs<'_>, report: &Report) -> UpstreamSpec {
    let tls = inputs.made.tls.upstreams.get(index).and_then(|cores| cores.get(inputs.worker)).cloned();
    if tls.is_none() && raw.tls.is_some() {
        report.error(&raw.name.at, "its certificates were not read", "");
    }
    let mut endpoints: Vec<EndpointSpec> = Vec::new();
    let mut weights = Vec::new();
    // One that drains is as one that is not there: requests at hand keep what they have of it.
    for endpoint in raw.endpoints.iter().filter(|endpoint| !endpoint.drain) {
        let host = endpoint.address.host();
        let addresses = match &endpoint.address {
            EndpointAddress::Tcp(Address::Ip(address)) => vec![SocketName::Ip(*address)],
            EndpointAddress::Unix(path) => vec![SocketName::Unix(path.as_str().into())],
            EndpointAddress::Tcp(Address::Name { host, port }) => {
                let ips = inputs.made.addresses.get(host).map(Vec::as_slice).unwrap_or_default();
                ips.iter().map(|ip| SocketName::Ip((*ip, *port).into())).collect()
            }
        };
        let server_name = tls.as_ref().and_then(|tls| server_name(tls, &endpoint.address));
        let mut identity = tls.as_ref().map(|tls| format!("{} {server_name:?}", tls.identity)).unwrap_or_default();
        if raw.proxy_protocol.is_some() {
            // Connections that were kept before belong to nobody.
            identity.push_str(" PROXY");
        }
        for address in addresses {
            let (host, server_name, identity) = (host.clone(), server_name.clone(), identity.clone());
            endpoints.push(EndpointSpec { address, host, server_name, identity });
            weights.push(endpoint.weight);
        }
    }
    let metrics = inputs.made.metrics.upstream(inputs.worker, &raw.name.value);
    let all_drain = raw.endpoints.iter().all(|endpoint| endpoint.drain);
    UpstreamSpec {
        name: raw.name.value.clone(),
        balance: RefCell::new(balance::balance(&raw.balance, &endpoints, &weights, &metrics, inputs)),
        hashed_by: balance::hashed_by(&raw.balance, inputs),
        none_because: if all_drain {
            "all of its endpoints drain (`drain: true`)"
        } else {
            "its host names do not resolve"
        },
        endpoints,
        proxy_protocol: raw.proxy_protocol,
        tls,
        pool: PoolLimits {
            // The next request may be another client's.
            idle: if raw.proxy_protocol.is_some() { 0 } else { share(raw.pool.idle, inputs.made.workers) },
            idle_ms: millis(raw.pool.idle_timeout.get()),
            age_ms: millis(raw.pool.max_age.get()),
            requests: raw.pool.max_requests,
        },
        connect_ms: millis(raw.timeouts.connect.get()),
        first_byte_ms: millis(raw.timeouts.first_byte.get()),
        body_ms: millis(raw.timeouts.body.get()),
        tunnel_idle_ms: millis(raw.timeouts.tunnel_idle.get()),
        metrics,
    }
}

/// Whose certificate an endpoint must show: the upstream's `server_name`, or else the host it is written by.
fn server_name(tls: &tls::Upstream, address: &EndpointAddress) -> Option<ServerName<'static>> {
    let of_host = || match address {
        EndpointAddress::Tcp(Address::Ip(address)) => Some(ServerName::from(address.ip())),
        EndpointAddress::Tcp(Address::Name { host, .. }) => ServerName::try_from(host.clone()).ok(),
        EndpointAddress::Unix(_) => None,
    };
    tls.server_name.clone().or_else(of_host)
}

fn listener(index: usize, raw: &Listener, inputs: &Inputs<'_>, common: &Common, report: &Report) -> ListenerSpec {
    let workers = inputs.made.workers;
    let tls = inputs.made.tls.listeners.get(index).cloned().flatten();
    if tls.is_none() && raw.tls.is_some() {
        // It must never speak plainly instead.
        report.error(&raw.name.at, "its certificates were not read", "");
    }
    let hsts = raw.tls.as_ref().and_then(|tls| tls.hsts.as_ref());
    let bytes = |size: crate::value::ByteSize| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    ListenerSpec {
        name: raw.name.value.clone(),
        proxy_protocol: raw.proxy_protocol.clone(),
        tls: tls.map(|rules| ListenerTls {
            rules,
            handshake_ms: millis(raw.timeouts.tls_handshake.get()),
            handshakes_max: share(raw.bounds.handshakes, workers),
        }),
        hsts: hsts
            .map(|value| format!("Strict-Transport-Security: {value}\r\n"))
            .unwrap_or_default()
            .into_bytes()
            .into(),
        https_redirect: raw.https_redirect,
        filters: filters::without_route(raw, inputs.config, common),
        logged_fields: Vec::new(),
        connections: cap(&format!("listener {}", raw.name.value), raw.bounds.connections, inputs),
        per_client: raw.bounds.connections_per_client.map(|max| PerClient {
            // Not the name of any filter: those have no spaces. There are no more clients than connections.
            counts: inputs.made.limits.in_flight(&format!("listener {}", raw.name.value), raw.bounds.connections),
            max: max.into(),
        }),
        bounds: Bounds {
            head: bytes(raw.bounds.head),
            fields: usize::try_from(raw.bounds.headers).unwrap_or(usize::MAX),
            target: bytes(raw.bounds.target),
        },
        paths: target::PathPolicy {
            merge_slashes: raw.paths.merge_slashes,
            encoded_slashes: match raw.paths.encoded_slashes {
                EncodedSlashes::Reject => target::EncodedSlashes::Reject,
                EncodedSlashes::Keep => target::EncodedSlashes::Keep,
            },
        },
        request_header_ms: millis(raw.timeouts.request_header.get()),
        request_body_ms: millis(raw.timeouts.request_body.get()),
        keep_alive_ms: millis(raw.timeouts.keep_alive.get()),
        write_ms: millis(raw.timeouts.write.get()),
        max_requests: raw.max_requests.unwrap_or(u32::MAX),
        max_age_ms: raw.max_age.map_or(u32::MAX, |age| millis(age.get())),
        half_close_is_gone: raw.half_close == HalfClose::Gone,
    }
}

/// A cap of connections of the process, whichever workers they are on.
fn cap(name: &str, most: u32, inputs: &Inputs<'_>) -> Cap {
    Cap { places: inputs.made.limits.places(name), max: usize::try_from(most).unwrap_or(usize::MAX) }
}

/// A count that is per process, shared out among workers; each gets at least its part.
pub(super) fn share(count: u32, workers: usize) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).div_ceil(workers.max(1))
}

/// The same for bytes.
fn share_bytes(size: ByteSize, workers: usize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX).div_ceil(workers.max(1))
}

pub(super) fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX - 1)
}
