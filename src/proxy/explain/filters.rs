//! What filters would do. Those that decide by the request alone are run; of those that draw lots, wait, or ask somebody it is
//! said what they would do. A request that one refuses goes on all the same, to show what is behind it.

use std::rc::Rc;

use serde::Serialize;

use crate::config::{Config, routes};
use crate::filter::header_edits::HeaderEdits;
use crate::filter::jwt::Place;
use crate::filter::limit_key::{Fact, LimitKey};
use crate::filter::{self, Filter, Flow};
use crate::http::reply;
use crate::observe::access_log::UNIX_CLIENT;
use crate::request::Request;
use crate::snapshot::{Route, filter_names};

use super::super::plane::{Downstream, Live, Plane};
use super::super::question;
use super::sent::About;

/// One filter.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The key of its block.
    pub kind: &'static str,
    /// What it does by what is known.
    pub does: String,
    /// The status that it answers instead of letting the request pass.
    pub answers: Option<u16>,
}

/// Runs them, in order.
pub(super) fn run(
    req: &mut Request,
    route: &Route,
    raw: &routes::Route,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Downstream,
    config: &Config,
) -> Vec<Step> {
    let filters = route.filters.get(down.listener).map(Vec::as_slice).unwrap_or_default();
    let listener = config.listeners.get(down.listener);
    let mut names = listener.map(|listener| filter_names(config, raw, listener)).unwrap_or_default().into_iter();
    let mut steps = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let (kind, mut does) = about(filter, req, config);
        let mut answers = None;
        let runs = !matches!(
            filter,
            Filter::Fault(_) | Filter::Mirror(_) | Filter::Plugin(_) | Filter::RateLimit(_) | Filter::Concurrency(_)
        );
        // Those before it have run.
        let so_far = filters.get(..=index).unwrap_or_default();
        let flow = if runs { filter::on_request(so_far, index, req, &plane.core).1 } else { Flow::Continue };
        match (flow, filter) {
            (Flow::Continue, _) => {}
            (Flow::Reply(reply), _) => {
                let why = reply.kind.map_or("by itself", |kind| reply::row(kind).message);
                does = format!("{does}; answers {}: {why}", reply.status);
                answers = Some(reply.status);
            }
            (Flow::Ask, Filter::ExtAuth(asks)) => {
                let upstream = About { live, down, config }.upstream(asks.upstream);
                let host = upstream.and_then(|upstream| upstream.endpoints.into_iter().next());
                let mut out = Vec::new();
                let host = host.map(|endpoint| endpoint.address).unwrap_or_default();
                if question::write(asks, req, &host, down, &mut out) {
                    let line = out.split(|b| *b == b'\r').next().unwrap_or_default();
                    does = format!("{does}: {}", String::from_utf8_lossy(line));
                }
            }
            // What is waited for is not asked here.
            (Flow::Wait(_) | Flow::Ask, _) => {}
        }
        steps.push(Step { name: names.next().unwrap_or_default(), kind, does, answers });
    }
    steps
}

/// The key of a filter's block, and what it is about. Nothing that a client or the config keeps secret is in it.
fn about(filter: &Filter, req: &Request, config: &Config) -> (&'static str, String) {
    let upstream = |index: usize| config.upstreams.get(index).map_or("", |upstream| upstream.name.value.as_str());
    match filter {
        Filter::RequestHeaders(filter) => ("request_headers", edits(&filter.edits)),
        Filter::SecurityHeaders(filter) => {
            let names: Vec<&str> = filter.fields.iter().map(|(name, _)| *name).collect();
            ("security_headers", format!("adds to the answer: {}", names.join(", ")))
        }
        Filter::Compress(_) => ("compress", "compresses the answer, if its type and size are right for it".to_owned()),
        Filter::Cors(filter) => ("cors", {
            let origin = req.head.fields.get(b"origin", req.bytes());
            match origin {
                None => "no Origin: nothing to allow".to_owned(),
                Some(origin) if filter.origins.allow(origin) => "pages of this Origin may read the answer".to_owned(),
                Some(_) => "pages of this Origin may not read the answer".to_owned(),
            }
        }),
        Filter::Ip(filter) => {
            let is_allowed = req.client.is_some_and(|client| filter.networks.allows(client));
            (
                "ip",
                if is_allowed { "the client's address may call" } else { "the client's address may not call" }
                    .to_owned(),
            )
        }
        Filter::RequestLimits(_) => ("request_limits", "the request is within its limits, or answered".to_owned()),
        Filter::ApiKey(filter) => ("api_key", {
            let header = filter.header.as_ref().map(|name| format!("the field {name}"));
            let query = filter.query.as_ref().map(|name| format!("the query parameter {name}"));
            format!("needs a key in {}", header.into_iter().chain(query).collect::<Vec<_>>().join(" or "))
        }),
        Filter::Basic(_) => {
            ("basic", "needs name and password in Authorization; they are not compared here".to_owned())
        }
        Filter::RateLimit(limit) => {
            let dry = if limit.dry_run { ", counted only" } else { "" };
            ("rate_limit", format!("key = {}; takes {}{dry}", key(&limit.key, req), limit.cost))
        }
        Filter::Concurrency(limit) => {
            let dry = if limit.dry_run { ", counted only" } else { "" };
            ("concurrency", format!("key = {}; at most {} in flight{dry}", key(&limit.key, req), limit.max))
        }
        Filter::Jwt(filter) => ("jwt", {
            let place = |place: &Place| match place {
                Place::Authorization => "Authorization".to_owned(),
                Place::Header(name) => format!("the field {name}"),
                Place::Cookie(name) => format!("the cookie {name}"),
                Place::Query(name) => format!("the query parameter {name}"),
            };
            let places = filter.from.iter().map(place).collect::<Vec<_>>().join(" or ");
            format!("{} a token in {places}", if filter.optional { "looks for" } else { "needs" })
        }),
        Filter::Plugin(plugin) => ("plugin", format!("runs `{}`; what it does is not shown", plugin.plugin)),
        Filter::ExtAuth(filter) => ("ext_auth", format!("asks {}", upstream(filter.upstream))),
        Filter::Fault(filter) => ("fault", {
            let percent = |per_million: u32| f64::from(per_million) / 10_000.0;
            let delay = filter.delay.map(|(ms, share)| format!("delays {} % by {ms} ms", percent(share)));
            let abort = filter.abort.map(|(status, share)| format!("answers {status} to {} %", percent(share)));
            let when: Vec<&str> = filter.when.iter().map(|(name, _)| name.as_str()).collect();
            let of = if when.is_empty() { String::new() } else { format!(" of those with {}", when.join(", ")) };
            format!("{}{of}", delay.into_iter().chain(abort).collect::<Vec<_>>().join(", "))
        }),
        Filter::Mirror(mirror) => {
            let share = f64::from(mirror.per_million) / 10_000.0;
            ("mirror", format!("copies {share} % to {}", upstream(mirror.upstream)))
        }
    }
}

fn edits(edits: &HeaderEdits) -> String {
    let names = |fields: &[(String, crate::route::template::Template)]| {
        fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let words = [("removes", edits.remove.join(", ")), ("sets", names(&edits.set)), ("adds", names(&edits.add))];
    let words = words.into_iter().filter(|(_, names)| !names.is_empty());
    words.map(|(verb, names)| format!("{verb} {names}")).collect::<Vec<_>>().join("; ")
}

/// What a limit counts by: of what may be a credential only whether it is there.
fn key(key: &LimitKey, req: &Request) -> String {
    let there = |is: bool| if is { "present" } else { "missing" };
    let fact = |fact: &Fact| match fact {
        Fact::Ip => format!("ip {}", req.client.map_or_else(|| UNIX_CLIENT.to_owned(), |ip| ip.to_string())),
        Fact::Header(name) => {
            format!("header.{name} ({})", there(req.decisive(name.as_str().as_bytes()).next().is_some()))
        }
        Fact::Cookie(name) => {
            let is_it = |pair: &[u8]| crate::request::cookie_value(pair, name.as_bytes()).is_some();
            format!("cookie.{name} ({})", there(req.cookies().any(is_it)))
        }
        Fact::Query(name) => {
            let is_it = |pair: &[u8]| crate::request::pair_value(pair, name.as_bytes()).is_some();
            format!("query.{name} ({})", there(req.pairs().any(is_it)))
        }
        Fact::Param(i) => format!("path parameter {}", req.params.get(*i, req.path_str())),
        Fact::Name(name) => name.to_string(),
        Fact::Principal => format!("principal {}", req.principal.get().unwrap_or("(unknown)")),
    };
    if key.0.is_empty() {
        return "one for all".to_owned();
    }
    key.0.iter().map(fact).collect::<Vec<_>>().join(" + ")
}
