//! `routes`: which requests are meant, and what becomes of them.

use std::collections::HashMap;

use http::StatusCode;

use super::aggregate::{self, Aggregate};
use super::decode::{Block, Keys, Value};
use super::errors;
use super::filters::limits::{self, Costs};
use super::forward::{self, Forward};
use super::headers::{self, Direction, HeaderTemplate};
use super::listeners::{EncodedSlashes, Listener};
use super::matching::{self, Match};
use super::references::Defined;
use super::report::{Located, Report, quote};
use super::rewrite;
use super::templates::Params;
use crate::http::error_form::ErrorForms;
use crate::route::template::Template;
use crate::route::{Field, RouteSpec, Router};
use crate::value::{ByteSize, Duration, Invalid};

pub(super) const KEYS: Keys = Keys {
    known: &[
        "name",
        "match",
        "filters",
        "without",
        "cost",
        "timeout",
        "body_limit",
        "errors",
        "forward",
        "aggregate",
        "respond",
        "redirect",
    ],
    later: &[],
};
pub(super) const RESPOND_KEYS: Keys = Keys { known: &["status", "headers", "body"], later: &[] };
pub(super) const REDIRECT_KEYS: Keys = Keys { known: &["to", "status"], later: &[] };

const ACTIONS: [&str; 4] = ["forward", "aggregate", "respond", "redirect"];
const TIMEOUT: Duration = Duration::from_secs(30);
const ROUTES_MAX: usize = 100_000;
/// An answer of the config is held in memory by every worker.
const BODY_BYTES_MAX: usize = 1 << 20;

/// One kind of request and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique among routes; made of methods, host and path if none is given, so that it does not depend on other routes.
    pub name: Located<String>,
    /// Which requests are meant.
    pub matches: Match,
    /// Names of filters of this route, in order; all of them exist.
    pub filters: Vec<Located<String>>,
    /// Names of filters of all routes or of the listener that do not act on this route; all of them exist.
    pub without: Vec<Located<String>>,
    /// What a request costs of rate limits.
    pub costs: Costs,
    /// From the request's head to the head of the answer.
    pub timeout: Duration,
    /// The largest request body; `None`: any.
    pub body_limit: Option<ByteSize>,
    /// How errors are told, where it differs from what is said for the gateway.
    pub errors: Option<ErrorForms>,
    /// What becomes of the request.
    pub action: Action,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It goes to an upstream.
    Forward(Box<Forward>),
    /// Several upstreams are asked, and their answers put together.
    Aggregate(Box<Aggregate>),
    /// The gateway answers.
    Respond(Respond),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// `respond`.
#[derive(Debug, Clone, PartialEq)]
pub struct Respond {
    /// 200 to 599.
    pub status: StatusCode,
    /// Beside those that the gateway writes itself.
    pub headers: Vec<HeaderTemplate>,
    /// As it is, no template; empty for 204, 205 and 304.
    pub body: String,
}

/// `redirect`.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// A template, like `https://{host}{path}`.
    pub to: Located<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// A route as far as it could be read: what is wrong with one part of it does not keep the others from being checked.
pub(super) struct Draft<'d> {
    item: Value<'d>,
    /// Derived if none is given, or a wrong one.
    name: Option<Located<String>>,
    name_given: bool,
    matches: Option<Match>,
    /// What templates of this route may name.
    pub(super) params: Params,
    pub(super) filters: Vec<Located<String>>,
    pub(super) without: Vec<Located<String>>,
    pub(super) costs: Costs,
    pub(super) timeout: Duration,
    body_limit: Option<ByteSize>,
    errors: Option<ErrorForms>,
    action: Option<Action>,
}

impl Draft<'_> {
    fn has_match_of(&self, other: &Draft<'_>) -> bool {
        self.matches
            .as_ref()
            .zip(other.matches.as_ref())
            .is_some_and(|(a, b)| a.predicates == b.predicates && a.priority == b.priority)
    }

    /// What to call it in a message.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} on line {}", quote(&name.value), self.item.at().line),
            None => format!("on line {}", self.item.at().line),
        }
    }

    /// What is looked for in the paths of requests.
    fn paths(&self) -> impl Iterator<Item = &Located<String>> {
        let strip = match &self.action {
            Some(Action::Forward(forward)) => match &forward.rewrite.path {
                rewrite::PathRewrite::Prefix { strip, .. } => strip.as_ref(),
                _ => None,
            },
            _ => None,
        };
        self.matches.iter().map(|matches| &matches.path).chain(strip)
    }

    /// The upstreams that its action asks.
    pub(super) fn upstreams(&self) -> Vec<&str> {
        match &self.action {
            Some(Action::Forward(forward)) => forward.target.upstreams().map(|name| name.value.as_str()).collect(),
            Some(Action::Aggregate(plan)) => plan.parts.iter().map(|part| part.upstream.value.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The route; `None` if a part is missing or wrong, which is recorded.
    pub(super) fn finish(self) -> Option<Route> {
        let Self { filters, without, costs, timeout, body_limit, errors, .. } = self;
        Some(Route {
            name: self.name?,
            matches: self.matches?,
            filters,
            without,
            costs,
            timeout,
            body_limit,
            errors,
            action: self.action?,
        })
    }
}

/// All routes, in the order of the file.
pub(super) fn decode<'d>(value: &Value<'d>, defined: &Defined<'_>, report: &Report) -> Option<Vec<Draft<'d>>> {
    let mut drafts = value.list_of(0..=ROUTES_MAX, |item| route(item, defined, report))?;
    number_names(&mut drafts);
    check_names(&drafts);
    let readable = drafts.iter().filter_map(|draft| Some((draft.name.as_ref()?, draft.matches.as_ref()?)));
    router(&readable.collect::<Vec<_>>(), report);
    Some(drafts)
}

/// Routes whose names are derived and the same, but which differ in what a name does not show (values of predicates, the
/// priority), are numbered from the second on: `/a #2`. Those that do not differ conflict, which is told by the router.
fn number_names(drafts: &mut [Draft<'_>]) {
    let mut groups: HashMap<String, Vec<usize>> = HashMap::with_capacity(drafts.len());
    for at in 0..drafts.len() {
        let Some(draft) = drafts.get(at).filter(|draft| !draft.name_given) else { continue };
        let Some(name) = draft.name.as_ref().map(|name| name.value.clone()) else { continue };
        let group = groups.entry(name).or_default();
        let is_one_of_them = group.iter().filter_map(|other| drafts.get(*other)).any(|other| draft.has_match_of(other));
        if is_one_of_them {
            continue;
        }
        group.push(at);
        let number = group.len();
        if let Some(name) = drafts.get_mut(at).and_then(|draft| draft.name.as_mut())
            && number > 1
        {
            name.value.push_str(&format!(" #{number}"));
        }
    }
}

/// Two routes whose names are derived and the same also conflict, which is told then.
fn check_names(drafts: &[Draft<'_>]) {
    let mut earlier: HashMap<&str, &Draft<'_>> = HashMap::with_capacity(drafts.len());
    for draft in drafts {
        let Some(name) = &draft.name else { continue };
        match earlier.insert(&name.value, draft) {
            Some(same) if draft.name_given || same.name_given || !draft.has_match_of(same) => {
                let what = format!("a route {} already exists on line {}", quote(&name.value), same.item.at().line);
                draft.item.error(what, "give it another name, or another match if it has no name");
            }
            _ => {}
        }
    }
}

/// What no listener lets into a path is in no request: such a route would never be asked, and another would answer.
pub(super) fn check_paths(drafts: &[Draft<'_>], listeners: &[Listener], report: &Report) {
    if listeners.is_empty() {
        return;
    }
    let refuses = listeners.iter().all(|listener| listener.paths.encoded_slashes == EncodedSlashes::Reject);
    let merges = listeners.iter().all(|listener| listener.paths.merge_slashes);
    for path in drafts.iter().flat_map(Draft::paths) {
        if refuses && (path.value.contains("%2F") || path.value.contains("%5C")) {
            let what = format!("{} can never match: no listener lets %2F and %5C into a path", quote(&path.value));
            report.error(&path.at, what, "write `paths: { encoded_slashes: keep }` at a listener, or remove it");
        }
        if merges && path.value.contains("//") {
            let what = format!("{} can never match: every listener has `merge_slashes`", quote(&path.value));
            report.error(&path.at, what, "write one slash");
        }
    }
}

/// The router of routes with these names, by their place in the list; `None` if two of them are for the same requests,
/// which is recorded.
pub fn router(routes: &[(&Located<String>, &Match)], report: &Report) -> Option<Router> {
    let host = |matches: &Match| matches.host.as_ref().map(|host| host.value.to_string());
    let hosts: Vec<Option<String>> = routes.iter().map(|(_, matches)| host(matches)).collect();
    let specs: Vec<RouteSpec<'_>> = routes
        .iter()
        .zip(&hosts)
        .map(|((_, matches), host)| RouteSpec {
            host: host.as_deref(),
            path: &matches.path.value,
            methods: &matches.methods,
            predicates: &matches.predicates,
            priority: matches.priority,
            trailing_slash: matches.trailing_slash.value,
        })
        .collect();
    let problems = match Router::build(&specs) {
        Ok(router) => return Some(router),
        Err(problems) => problems,
    };
    for problem in problems {
        let Some((_, matches)) = routes.get(problem.route) else { continue };
        let at = match (problem.field, &matches.host) {
            (Field::Host, Some(host)) => &host.at,
            (Field::TrailingSlash, _) => &matches.trailing_slash.at,
            _ => &matches.path.at,
        };
        let what = match problem.other.and_then(|other| routes.get(other)) {
            Some((name, other)) => {
                format!("{}: see the route {} on line {}", problem.what, quote(&name.value), other.path.at.line)
            }
            None => problem.what,
        };
        report.error(at, what, problem.remedy);
    }
    None
}

fn route<'d>(item: &Value<'d>, defined: &Defined<'_>, report: &Report) -> Option<Draft<'d>> {
    let block = item.block(&KEYS)?;
    let (matches, params) = block.required("match").map_or((None, Params::Any), matching::decode);
    let timeout =
        block.unless_wrong("timeout", TIMEOUT, |v| v.duration(Duration::from_millis(10)..=Duration::from_secs(86_400)));
    let around = aggregate::Route { params: &params, timeout, upstreams: &defined.upstreams, report };
    let action = action(&block, matches.as_ref(), &around);
    let filters = block.or("filters", Vec::new(), |v| defined.filters.list(v));
    let without = block.or("without", Vec::new(), |v| defined.filters.list(v));
    if let Some(both) = without.iter().find(|name| filters.iter().any(|used| used.value == name.value)) {
        let what = format!("{} is in both filters and without", quote(&both.value));
        block.get("without").unwrap_or(item).error(what, "remove it from one of them");
    }
    let costs = block.or("cost", Costs::default(), |v| limits::costs(v, |name| defined.filters.check(name)));
    let body_limit =
        block.or("body_limit", None, |v| v.or_none(|v| v.size(ByteSize::from_bytes(0)..=ByteSize::from_kib(1 << 30))));
    let errors = block.or("errors", None, |v| errors::of_route(v).map(Some));
    let given = block.get("name").and_then(|v| v.name());
    let name_given = given.is_some();
    let name = given.or_else(|| matches.as_ref().map(|matches| item.locate(matching::derived_name(matches))));
    let item = item.clone();
    let timeout = timeout.unwrap_or(TIMEOUT);
    Some(Draft {
        item,
        name,
        name_given,
        matches,
        params,
        filters,
        without,
        costs,
        timeout,
        body_limit,
        errors,
        action,
    })
}

fn action(block: &Block<'_>, matches: Option<&Match>, route: &aggregate::Route<'_>) -> Option<Action> {
    let aggregate::Route { params, upstreams, .. } = *route;
    let given: Vec<_> = ACTIONS.iter().filter_map(|key| Some((*key, block.get(key)?))).collect();
    // All that are given are read, for what is wrong with them.
    let read = |(key, value): &(&str, &Value<'_>)| match *key {
        "forward" => Some(Action::Forward(Box::new(forward::decode(value, matches, params, upstreams)?))),
        "aggregate" => Some(Action::Aggregate(Box::new(aggregate::decode(value, route)?))),
        "respond" => respond(value, params).map(Action::Respond),
        _ => redirect(value, params).map(Action::Redirect),
    };
    if let (true, Some((_, value))) =
        (matches.is_some_and(Match::is_connect), given.iter().find(|(key, _)| *key != "forward"))
    {
        value.error("can not answer CONNECT, which asks for a tunnel", "use `forward`");
    }
    let mut actions: Vec<Option<Action>> = given.iter().map(read).collect();
    match given.as_slice() {
        [_] => actions.pop().flatten(),
        [] => {
            block.value().error("has no action", format!("give exactly one of {}", ACTIONS.join(", ")));
            None
        }
        [_, (_, second), ..] => {
            second.error("a second action", format!("give exactly one of {}", ACTIONS.join(", ")));
            None
        }
    }
}

fn respond(value: &Value<'_>, params: &Params) -> Option<Respond> {
    let block = value.block(&RESPOND_KEYS)?;
    let status = block.or("status", StatusCode::OK, |v| {
        // 1xx is never a final answer (RFC 9110 15.2).
        v.count(200..=599).and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
    });
    let headers = block.or("headers", Vec::new(), |v| headers::fields(v, Direction::Response, params));
    let body = block.or("body", String::new(), |v| {
        v.parse(|text| match text.len() {
            0..=BODY_BYTES_MAX => Ok(text.to_owned()),
            _ => Err(Invalid::new("is too long", format!("at most {} MiB", BODY_BYTES_MAX >> 20))),
        })
    });
    // RFC 9110 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status.as_u16(), 204 | 205 | 304) && !body.is_empty() {
        let at = block.get("body").unwrap_or(value);
        at.error(format!("an answer {} has no body", status.as_u16()), "remove it, or use another status");
    }
    Some(Respond { status, headers, body })
}

fn redirect(value: &Value<'_>, params: &Params) -> Option<Redirect> {
    const STATUSES: [(&str, StatusCode); 5] = [
        ("301", StatusCode::MOVED_PERMANENTLY),
        ("302", StatusCode::FOUND),
        ("303", StatusCode::SEE_OTHER),
        ("307", StatusCode::TEMPORARY_REDIRECT),
        ("308", StatusCode::PERMANENT_REDIRECT),
    ];
    let block = value.block(&REDIRECT_KEYS)?;
    let status = block.or("status", StatusCode::PERMANENT_REDIRECT, |v| v.word(&STATUSES, &[]));
    let beginnings = ["/", "{", "http://", "https://"];
    let to = block.required("to");
    let to = to.and_then(|v| rewrite::target_template(v, &beginnings, params, Template::parse_location))?;
    Some(Redirect { to, status })
}
