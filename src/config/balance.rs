//! `balance` of an upstream: how one of its endpoints is chosen.

use super::decode::{Keys, Value};
use super::filters::limits::{Fact, named_fact};
use super::filters::{self, Filter, NamedFilter};
use super::report::{Located, Report, quote};
use super::routes::Draft;
use super::upstreams::Upstream;
use crate::value::Invalid;

pub(super) const KEYS: Keys = Keys { known: &["hash", "max_load"], later: &[] };
pub(super) const HASH_KEYS: Keys = Keys { known: &FACTS, later: &[] };
/// What requests can stick by.
pub(super) const FACTS: [&str; 5] = ["ip", "header", "cookie", "query", "path"];
/// Percent of the average; less would leave requests without any endpoint.
const MAX_LOAD: std::ops::RangeInclusive<u32> = 101..=1000;
const MAX_LOAD_DEFAULT: u32 = 125;

/// How one endpoint is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Balance {
    /// The less busy one of two chosen at random by weight.
    P2c,
    /// In turn, by weight.
    RoundRobin,
    /// The least busy of all, by weight.
    LeastRequest,
    /// The same for the same key.
    Hash(Hash),
}

/// `hash`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hash {
    /// What requests stick by.
    pub by: Located<Fact>,
    /// What an endpoint takes at most, in percent of the average; `None`: all that is meant for it.
    pub max_load: Option<u32>,
}

pub(super) fn decode(value: &Value<'_>) -> Option<Balance> {
    if value.is_mapping() {
        return hash(value).map(Balance::Hash);
    }
    // `hash` alone says not by what.
    if value.plain_text() == Some("hash") {
        value.error("says not by what", "like { hash: { header: x-user } }");
        return None;
    }
    match value.word(&[("p2c", 0), ("round_robin", 1), ("least_request", 2)], &[])? {
        0 => Some(Balance::P2c),
        1 => Some(Balance::RoundRobin),
        _ => Some(Balance::LeastRequest),
    }
}

fn hash(value: &Value<'_>) -> Option<Hash> {
    let block = value.block(&KEYS)?;
    let by = block.required("hash").and_then(fact);
    let max_load = block.or("max_load", Some(MAX_LOAD_DEFAULT), |v| v.or_none(|v| v.parse(percent)));
    Some(Hash { by: by?, max_load })
}

/// Exactly one of the facts.
fn fact(value: &Value<'_>) -> Option<Located<Fact>> {
    let block = value.block(&HASH_KEYS)?;
    let given: Vec<_> = FACTS.iter().filter_map(|key| Some((*key, block.get(key)?))).collect();
    let one = format!("give exactly one of {}", FACTS.join(", "));
    // All that are given are read, for what is wrong with them.
    let mut facts: Vec<Option<Located<Fact>>> = given.iter().map(|(kind, value)| fact_of(kind, value)).collect();
    match given.as_slice() {
        [_] => facts.pop().flatten(),
        [] => {
            // A key that is none is already told about.
            if value.keys().next().is_none() {
                value.error("says not by what", one);
            }
            None
        }
        [_, (_, second), ..] => {
            second.error("a second thing to stick by", one);
            None
        }
    }
}

fn fact_of(kind: &str, value: &Value<'_>) -> Option<Located<Fact>> {
    if kind == "ip" {
        if !value.boolean()? {
            value.error("does not say by what", "write true, or give another of header, cookie, query, path");
            return None;
        }
        return Some(value.locate(Fact::Ip));
    }
    let named = |text: &str| {
        named_fact(kind, text)
            .ok_or_else(|| Invalid::new(format!("is not the name of a {kind}"), "1 to 128 characters"))
    };
    Some(value.locate(value.parse(named)?))
}

fn percent(text: &str) -> Result<u32, Invalid> {
    let remedy = || format!("{}% to {}% of the average, or none", MAX_LOAD.start(), MAX_LOAD.end());
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse().ok()).filter(|percent| MAX_LOAD.contains(percent));
    percent.ok_or_else(|| Invalid::new("is no share that an endpoint can take", remedy()))
}

/// A parameter that requests stick by must be one of every route that uses the upstream, be it through a filter.
/// `everywhere` are names of filters of all routes and of listeners.
pub(super) fn check_uses(
    upstreams: &[Upstream],
    named: &[NamedFilter],
    routes: &[Draft<'_>],
    everywhere: &[&Located<String>],
    report: &Report,
) {
    let by_param = |upstream: &Upstream| match &upstream.balance {
        Balance::Hash(Hash { by: Located { value: Fact::Path(param), at }, .. }) => {
            Some((upstream.name.value.clone(), param.clone(), at.clone()))
        }
        _ => None,
    };
    let sticky: Vec<_> = upstreams.iter().filter_map(by_param).collect();
    if sticky.is_empty() {
        return;
    }
    let users = filters::users(routes, everywhere);
    for (upstream, param, at) in sticky {
        let through = named.iter().filter(|named| used_by(&named.filter) == Some(&upstream));
        let through = through.filter_map(|named| users.get(named.name.value.as_str())).flatten().copied();
        let direct = routes.iter().filter(|route| route.upstreams().contains(&upstream.as_str()));
        if let Some(route) = direct.chain(through).find(|route| !route.params.has(&param)) {
            let what = format!("there is no path parameter {}", quote(&param));
            report.error(&at, what, format!("the route {} uses this upstream", route.label()));
        }
    }
}

/// The upstream that a filter asks.
fn used_by(filter: &Filter) -> Option<&String> {
    match filter {
        Filter::ExtAuth(asked) => Some(&asked.upstream.value),
        Filter::Mirror(mirror) => Some(&mirror.upstream.value),
        _ => None,
    }
}
