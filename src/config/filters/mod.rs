//! `filters`: what is done to a request or an answer on its way, named here and used by name.

pub mod api_key;
pub mod basic;
pub mod compress;
pub mod cors;
pub mod ext_auth;
pub mod fault;
pub mod ip;
pub mod jwt;
pub mod limits;
pub mod mirror;
pub(super) mod order;
pub mod plugin;
pub mod request_limits;
pub mod security_headers;

use std::collections::HashMap;

use super::decode::{Keys, Value, check_name};
use super::headers::{self, Direction, HeaderEdits};
use super::listeners::Listener;
use super::references::Names;
use super::report::{Located, Report, quote};
use super::routes::Draft;
use super::templates::Params;
use crate::limit::OnUnavailable;
use crate::plugin::Registry;
use crate::route::template::{Template, TemplateError};
use api_key::ApiKey;
use basic::Basic;
use compress::Compress;
use cors::Cors;
use ext_auth::ExtAuth;
use fault::Fault;
use ip::Ip;
use jwt::Jwt;
use limits::{Concurrency, Fact, RateLimit};
use mirror::Mirror;
use plugin::Plugin;
use request_limits::RequestLimits;
use security_headers::SecurityHeaders;

pub(super) const KEYS: Keys = Keys {
    known: &[
        "request_headers",
        "security_headers",
        "compress",
        "cors",
        "ip",
        "request_limits",
        "api_key",
        "jwt",
        "basic",
        "ext_auth",
        "rate_limit",
        "concurrency",
        "fault",
        "mirror",
    ],
    later: &[],
};

const FILTERS_MAX: usize = 1000;

/// A filter and the name it is used by.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedFilter {
    /// Unique among filters.
    pub name: Located<String>,
    /// What it does.
    pub filter: Filter,
}

/// What a filter does.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Changes the header fields of the request before it is forwarded.
    RequestHeaders(HeaderEdits),
    /// What browsers are told in every answer.
    SecurityHeaders(SecurityHeaders),
    /// Which answers are compressed.
    Compress(Compress),
    /// Which pages of other origins may read the answers.
    Cors(Cors),
    /// Who may call, by address.
    Ip(Ip),
    /// What a request may be like.
    RequestLimits(RequestLimits),
    /// Callers that show a key.
    ApiKey(ApiKey),
    /// Callers that send name and password.
    Basic(Basic),
    /// So many requests in which time.
    RateLimit(Box<RateLimit>),
    /// So many requests at a time.
    Concurrency(Concurrency),
    /// A signed token.
    Jwt(Box<Jwt>),
    /// One of others, compiled in.
    Plugin(Plugin),
    /// A service that is asked.
    ExtAuth(Box<ExtAuth>),
    /// Delays and failures on purpose.
    Fault(Fault),
    /// Copies for another upstream.
    Mirror(Mirror),
}

/// All filters, in the order of the file.
pub(super) fn decode(value: &Value<'_>, upstreams: &Names<'_>, plugins: &Registry) -> Option<Vec<NamedFilter>> {
    let mut filters = Vec::new();
    for (key, value) in value.entries(FILTERS_MAX)? {
        let at_key = value.at_key(key);
        if let Err(fault) = check_name(&key.text) {
            at_key.error(format!("{} {}", quote(&key.text), fault.what), fault.remedy);
        }
        if let Some(filter) = filter(&value, upstreams, plugins) {
            filters.push(NamedFilter { name: at_key.locate(key.text.clone()), filter });
        }
    }
    Some(filters)
}

fn filter(value: &Value<'_>, upstreams: &Names<'_>, plugins: &Registry) -> Option<Filter> {
    let names: Vec<&str> = plugins.list().map(|(name, _)| name).collect();
    let block = value.block_with(&KEYS, &names)?;
    let given = KEYS.known.iter().chain(&names);
    let given: Vec<_> = given.filter_map(|key| Some((*key, block.get(key)?))).collect();
    // All that are given are read, for what is wrong with them.
    let read = |(key, value): &(&str, &Value<'_>)| match *key {
        // Which parameters its templates may name depends on the routes that use it.
        "request_headers" => headers::edits(value, Direction::Request, &Params::Any).map(Filter::RequestHeaders),
        "security_headers" => security_headers::decode(value).map(Filter::SecurityHeaders),
        "compress" => compress::decode(value).map(Filter::Compress),
        "cors" => cors::decode(value).map(Filter::Cors),
        "ip" => ip::decode(value).map(Filter::Ip),
        "request_limits" => request_limits::decode(value).map(Filter::RequestLimits),
        "api_key" => api_key::decode(value).map(Filter::ApiKey),
        "basic" => basic::decode(value).map(Filter::Basic),
        "rate_limit" => limits::rate_limit(value).map(|limit| Filter::RateLimit(Box::new(limit))),
        "ext_auth" => ext_auth::decode(value, upstreams).map(|asked| Filter::ExtAuth(Box::new(asked))),
        "fault" => fault::decode(value).map(Filter::Fault),
        "mirror" => mirror::decode(value, upstreams).map(Filter::Mirror),
        "jwt" => jwt::jwt(value).map(|jwt| Filter::Jwt(Box::new(jwt))),
        "concurrency" => limits::concurrency(value).map(Filter::Concurrency),
        name => plugin::decode(value, plugins.find(name)?, plugins).map(Filter::Plugin),
    };
    let mut filters: Vec<Option<Filter>> = given.iter().map(read).collect();
    match given.as_slice() {
        [_] => filters.pop().flatten(),
        [] => {
            // A filter of a later version is already told about.
            if value.keys().next().is_none() {
                value.error(
                    "says nothing",
                    format!("give it exactly one of {}", [KEYS.known, &names].concat().join(", ")),
                );
            }
            None
        }
        [_, (_, second), ..] => {
            second.error("a filter does one thing, and this is a second", "give it a name of its own");
            None
        }
    }
}

impl Filter {
    /// Its templates, all of them for values of header fields.
    fn templates(&self) -> impl Iterator<Item = &Located<String>> {
        let edits = match self {
            Self::RequestHeaders(edits) => Some(edits),
            _ => None,
        };
        edits.into_iter().flat_map(|edits| edits.set.iter().chain(&edits.add)).map(|field| &field.value)
    }

    /// Whether it is about answers alone: such filters come first, so that answers of those that refuse have it too. Among
    /// them `cors` is last, which answers preflights.
    pub fn is_about_answers(&self) -> bool {
        matches!(self, Self::SecurityHeaders(_) | Self::Cors(_) | Self::Compress(_))
    }

    /// Its place before or behind filters of other kinds; where that is the same, the order of the lists holds.
    pub fn rank(&self) -> u8 {
        match self {
            Self::SecurityHeaders(_) | Self::Compress(_) => 0,
            Self::Cors(_) => 1,
            _ => 2,
        }
    }

    /// What it counts by.
    fn key(&self) -> &[Located<Fact>] {
        match self {
            Self::RateLimit(limit) => &limit.key,
            Self::Concurrency(limit) => &limit.key,
            _ => &[],
        }
    }
}

/// The filters that act on a route of a listener, in order: those of all routes, then the listener's, then the route's;
/// each once, and `without` those that the route refuses.
pub(super) fn acting<'c>(
    all_routes: &'c [Located<String>],
    listener: &'c Listener,
    route: &'c [Located<String>],
    without: &[Located<String>],
) -> Vec<&'c Located<String>> {
    let mut names: Vec<&Located<String>> = Vec::new();
    for name in all_routes.iter().chain(&listener.filters).chain(route) {
        let is = |other: &Located<String>| other.value == name.value;
        if !without.iter().any(is) && !names.iter().any(|earlier| is(earlier)) {
            names.push(name);
        }
    }
    names
}

/// The routes that use each filter, by its name. `everywhere` are names of filters of all routes and of listeners.
pub(super) fn users<'r, 'd>(
    routes: &'r [Draft<'d>],
    everywhere: &[&'r Located<String>],
) -> HashMap<&'r str, Vec<&'r Draft<'d>>> {
    let mut used_by: HashMap<&str, Vec<&Draft<'_>>> = HashMap::new();
    for route in routes {
        let refused = |name: &str| route.without.iter().any(|without| without.value == name);
        let inherited = everywhere.iter().map(|name| name.value.as_str()).filter(|name| !refused(name));
        for name in inherited.chain(route.filters.iter().map(|name| name.value.as_str())) {
            used_by.entry(name).or_default().push(route);
        }
    }
    used_by
}

/// What a filter says must be right for every route that uses it. What is not is recorded once, whatever the number of
/// such routes. `everywhere` are names of filters of all routes and of listeners.
pub(super) fn check_uses(
    filters: &[NamedFilter],
    routes: &[Draft<'_>],
    everywhere: &[&Located<String>],
    report: &Report,
) {
    let used_by = users(routes, everywhere);
    for NamedFilter { name, filter } in filters {
        let users = used_by.get(name.value.as_str()).map(Vec::as_slice).unwrap_or_default();
        let used = |route: &Draft<'_>| format!("the route {} uses this filter", route.label());
        for template in filter.templates() {
            let Some((route, fault)) = users.iter().find_map(|route| Some((route, fault(template, route)?))) else {
                continue;
            };
            report.error(&template.at, fault.to_string(), used(route));
        }
        for Located { value, at } in filter.key() {
            let Fact::Path(param) = value else { continue };
            if let Some(route) = users.iter().find(|route| !route.params.has(param)) {
                report.error(at, format!("there is no path parameter {}", quote(param)), used(route));
            }
        }
        if let Filter::RateLimit(limit) = filter {
            check_costs(&name.value, limit, users, report);
        }
        if let Filter::Fault(injected) = filter {
            fault::check_delay(injected, users, report);
        }
    }
    for route in routes {
        check_cost_names(route, filters, everywhere, report);
    }
}

/// A cost of what the route does not have would never be taken.
fn check_cost_names(route: &Draft<'_>, filters: &[NamedFilter], everywhere: &[&Located<String>], report: &Report) {
    let is = |name: &Located<String>, other: &Located<String>| name.value == other.value;
    for (name, _) in &route.costs.of {
        // One that is not there is told already.
        let Some(filter) = filters.iter().find(|filter| is(&filter.name, name)) else { continue };
        let quoted = quote(&name.value);
        let used = everywhere.iter().copied().chain(&route.filters).any(|used| is(used, name));
        if !matches!(filter.filter, Filter::RateLimit(_)) {
            report.error(&name.at, format!("{quoted} is no rate limit: it takes no tokens"), "remove it, or name one");
        } else if !used || route.without.iter().any(|without| is(without, name)) {
            let what = format!("the route {} does not use {quoted}", route.label());
            report.error(&name.at, what, "add it to its filters, or remove it here");
        }
    }
}

/// A request that costs more than there can ever be would never pass.
fn check_costs(name: &str, limit: &RateLimit, users: &[&Draft<'_>], report: &Report) {
    let mut told: Vec<&super::report::Position> = Vec::new();
    for route in users {
        let cost = route.costs.of(name);
        let Err(fault) = limit.spec(cost.max(1), false, OnUnavailable::LocalShare) else { continue };
        let Some(at) = route.costs.place(name).filter(|at| !told.contains(at)) else { continue };
        told.push(at);
        report.error(at, format!("{cost} {} of the rate limit {}", fault.what, quote(name)), fault.remedy);
    }
}

fn fault(template: &Located<String>, route: &Draft<'_>) -> Option<TemplateError> {
    Template::parse_header(&template.value, &route.params.of_template(&template.value)).err()
}
