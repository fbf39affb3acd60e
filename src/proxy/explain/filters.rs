//! What filters would do. Those that decide by the request alone are run, and passwords are compared; of those that draw lots,
//! wait, or ask somebody it is said what they would do, and what only their answer would tell. A request that one refuses goes on
//! all the same, to show what is behind it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use serde::Serialize;

use crate::config::{Config, filters as named, routes};
use crate::core::decisions::Decision;
use crate::error::Kind;
use crate::filter::header_edits::HeaderEdits;
use crate::filter::jwt::Place;
use crate::filter::limit_key::{Fact, LimitKey};
use crate::filter::{self, Filter, Flow, Verdict};
use crate::http::reply;
use crate::observe::access_log::UNIX_CLIENT;
use crate::request::Request;
use crate::snapshot::{Route, filter_names};

use super::super::plane::Plane;
use super::super::question;
use super::sent::About;
use super::{Asked, Unknown};

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
    /// What can not be known here.
    pub unknown: Vec<String>,
}

/// Runs them, in order; with what of the fields that an upstream gets can not be known.
pub(super) fn run(
    req: &mut Request,
    route: &Route,
    raw: &routes::Route,
    about: &About<'_>,
    plane: &Rc<Plane>,
    asked: &Asked,
) -> (Vec<Step>, Vec<Unknown>) {
    let About { down, config, .. } = *about;
    let filters = route.filters.get(down.listener).map(Vec::as_slice).unwrap_or_default();
    let listener = config.listeners.get(down.listener);
    let mut names = listener.map(|listener| filter_names(config, raw, listener)).unwrap_or_default().into_iter();
    let (mut steps, mut fields) = (Vec::new(), Vec::new());
    for (index, filter) in filters.iter().enumerate() {
        let name = names.next().unwrap_or_default();
        let (kind, mut does) = words(filter, req, config);
        let (mut answers, mut unknown) = (None, Vec::new());
        let runs = !matches!(
            filter,
            Filter::Fault(_) | Filter::Mirror(_) | Filter::Plugin(_) | Filter::RateLimit(_) | Filter::Concurrency(_)
        );
        // Those before it have run.
        let so_far = filters.get(..=index).unwrap_or_default();
        let mut run = || filter::on_request(so_far, index, req, &plane.core).1;
        let mut flow = match if runs { run() } else { Flow::Continue } {
            Flow::Wait(verdict) => match at_once(verdict) {
                Some(Verdict::Again) => run(),
                Some(Verdict::Refuse { reply, .. }) => Flow::Reply(reply),
                Some(Verdict::Admit(_) | Verdict::Pass) | None => Flow::Continue,
            },
            flow => flow,
        };
        let mut from_answer = |name: &str, from: String| fields.push(Unknown { name: name.to_owned(), from });
        match (&flow, filter) {
            (Flow::Continue, Filter::Basic(_)) => {
                does = format!("{does}; those of {} are right", req.principal.get().unwrap_or_default());
            }
            (Flow::Ask, Filter::ExtAuth(asks)) => {
                let upstream = about.upstream(asks.upstream);
                let host = upstream.and_then(|upstream| upstream.endpoints.into_iter().next());
                let mut out = Vec::new();
                let host = host.map(|endpoint| endpoint.address).unwrap_or_default();
                if question::write(asks, req, &host, down, &mut out) {
                    let line = out.split(|b| *b == b'\r').next().unwrap_or_default();
                    does = format!("{does}: {}", String::from_utf8_lossy(line));
                }
                unknown.push("whether it lets the request pass".to_owned());
                let granted = &asked.granted;
                let is_given = |name: &str| granted.head.fields.named(name.as_bytes(), &granted.bytes).next().is_some();
                for name in asks.response_headers.iter().filter(|name| !is_given(name)) {
                    let service = config_name(config, asks.upstream);
                    from_answer(name, format!("from {service}'s answer, or --ext-auth-header"));
                }
                unknown
                    .extend(asks.client_headers.iter().map(|name| format!("{name} for the client: from its answer")));
                if let Some(name) = asks.principal.as_ref().filter(|name| !is_given(name)) {
                    unknown.push(format!("who calls, for limits and the log: {name} of its answer"));
                }
                let said = asks.read_grant(&granted.head, &granted.bytes).map(Decision::Allow);
                flow = asks.on_answer(said, req, &plane.core);
            }
            (Flow::Reply(reply), Filter::Jwt(jwt)) => {
                jwt.headers.iter().for_each(|field| from_answer(field, format!("from the token that {name} accepts")));
                jwt.assume_right(req);
                let keys = keys_of(config, &name).filter(|_| reply.kind != Some(Kind::TokenMissing));
                unknown.extend(keys.map(|host| format!("the keys of {host}, which are not fetched here")));
                if reply.kind == Some(Kind::KeysMissing) {
                    unknown.push("whether the token is right; what follows is what would be if it is".to_owned());
                    unknown.push("who calls, for limits and the log: the token says it".to_owned());
                    flow = Flow::Continue;
                }
            }
            (Flow::Reply(_), Filter::Basic(_) | Filter::ApiKey(_)) => {
                let field = match filter {
                    Filter::Basic(basic) => basic.principal_header.as_ref(),
                    Filter::ApiKey(keys) => keys.principal_header.as_ref(),
                    _ => None,
                };
                field.into_iter().for_each(|field| from_answer(field, format!("who calls, as {name} makes it out")));
            }
            (_, Filter::Plugin(_)) => unknown.push("what it reads, changes or answers".to_owned()),
            _ => {}
        }
        match (flow, filter) {
            (Flow::Continue, _) => {}
            (Flow::Reply(reply), _) => {
                let why = reply.kind.map_or("by itself", |kind| reply::row(kind).message);
                does = format!("{does}; answers {}: {why}", reply.status);
                answers = Some(reply.status);
            }
            // What is waited for is not asked here.
            (Flow::Wait(_) | Flow::Ask, _) => {}
        }
        steps.push(Step { name, kind, does, answers, unknown });
    }
    (steps, fields)
}

/// Where the keys of a `jwt` filter would be fetched.
fn keys_of<'c>(config: &'c Config, name: &str) -> Option<&'c str> {
    let filter = config.filters.iter().find(|filter| filter.name.value == name)?;
    match &filter.filter {
        named::Filter::Jwt(jwt) => jwt.jwks.as_ref()?.url.host(),
        _ => None,
    }
}

fn config_name(config: &Config, upstream: usize) -> &str {
    config.upstreams.get(upstream).map_or("", |upstream| upstream.name.value.as_str())
}

/// What a filter decides without waiting for anybody.
fn at_once(mut verdict: Pin<Box<dyn Future<Output = Verdict>>>) -> Option<Verdict> {
    match verdict.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => Some(verdict),
        Poll::Pending => None,
    }
}

/// The key of a filter's block, and what it is about. Nothing that a client or the config keeps secret is in it.
fn words(filter: &Filter, req: &Request, config: &Config) -> (&'static str, String) {
    let upstream = |index: usize| config_name(config, index);
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
        Filter::RequestLimits(_) => ("request_limits", "looks at size, fields, method and type".to_owned()),
        Filter::ApiKey(filter) => ("api_key", {
            let header = filter.header.as_ref().map(|name| format!("the field {name}"));
            let query = filter.query.as_ref().map(|name| format!("the query parameter {name}"));
            format!("needs a key in {}", header.into_iter().chain(query).collect::<Vec<_>>().join(" or "))
        }),
        Filter::Basic(_) => ("basic", "needs name and password in Authorization".to_owned()),
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
        Filter::Plugin(plugin) => ("plugin", format!("runs `{}`", plugin.plugin)),
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
    let renamed = edits.rename.iter().map(|(old, new)| format!("{old} to {new}")).collect::<Vec<_>>().join(", ");
    let words = [
        ("renames", renamed),
        ("removes", edits.remove.join(", ")),
        ("sets", names(&edits.set)),
        ("appends to", names(&edits.append)),
        ("adds", names(&edits.add)),
    ];
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
