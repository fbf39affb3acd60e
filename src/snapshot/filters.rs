//! Filters as a worker runs them.

use crate::config::filters::{self as raw, Filter as Raw, limits};
use crate::config::listeners::Listener;
use crate::config::{Config, Located, Report, routes};
use crate::filter::Filter;
use crate::filter::concurrency::Concurrency;
use crate::filter::limit_key::{Fact, LimitKey};
use crate::filter::rate_limit::RateLimit;
use crate::filter::request_headers::RequestHeaders;
use crate::http::quota::Policy;
use crate::shared::limits::Limits;

use super::RateLimitSpec;
use super::build::{Inputs, edits, millis, share};

/// Those of all routes, then the listener's, then the route's; each once, and without those that the route refuses.
pub(super) fn of(
    route: &routes::Route,
    listener: &Listener,
    inputs: &Inputs<'_>,
    params: &[String],
    report: &Report,
) -> Vec<Filter> {
    let config = inputs.config;
    let by_name = |name: &&str| config.filters.iter().find(|filter| filter.name.value == *name);
    config
        .filters_of(route, listener)
        .iter()
        .filter_map(by_name)
        .filter_map(|named| {
            Some(match &named.filter {
                Raw::RequestHeaders(raw) => {
                    Filter::RequestHeaders(RequestHeaders { edits: edits(raw, params, report) })
                }
                Raw::RateLimit(raw) => {
                    let limit = rate_limit(named, raw, config, inputs.limits, report)?;
                    Filter::RateLimit(Box::new(RateLimit {
                        key: key(&raw.key, route, listener, params),
                        cost: route.costs.of(&limit.name).into(),
                        dry_run: raw.dry_run,
                        policy: policy(raw, &limit),
                        metrics: inputs.metrics.filter(inputs.worker, &limit.name),
                        name: limit.name,
                        spec: limit.spec,
                        wallet: limit.wallet,
                    }))
                }
                Raw::Concurrency(raw) => Filter::Concurrency(Box::new(Concurrency {
                    name: named.name.value.clone(),
                    max: raw.max.into(),
                    in_flight: inputs.limits.in_flight(&named.name.value, raw.keys_max),
                    key: key(&raw.key, route, listener, params),
                    queue: if raw.queue == 0 { 0 } else { share(raw.queue, inputs.workers) },
                    queue_ms: millis(raw.queue_timeout.get()).into(),
                    dry_run: raw.dry_run,
                    metrics: inputs.metrics.filter(inputs.worker, &named.name.value),
                })),
            })
        })
        .collect()
}

/// What clients are told. Of what does not hold yet they are told nothing.
fn policy(raw: &limits::RateLimit, limit: &RateLimitSpec) -> Option<Policy> {
    if raw.dry_run || raw.headers == limits::Headers::Off {
        return None;
    }
    let window_s = limit.spec.reset_ms(0).div_ceil(1000);
    Some(Policy::new(&limit.name, limit.spec.set().burst, window_s, raw.headers == limits::Headers::Legacy))
}

/// All rate limits of a config, with their process wallets: used or not.
pub(super) fn rate_limits(config: &Config, limits: &Limits, report: &Report) -> Vec<RateLimitSpec> {
    let of = |named: &raw::NamedFilter| match &named.filter {
        Raw::RateLimit(raw) => rate_limit(named, raw, config, limits, report),
        _ => None,
    };
    config.filters.iter().filter_map(of).collect()
}

fn rate_limit(
    named: &raw::NamedFilter,
    raw: &limits::RateLimit,
    config: &Config,
    limits: &Limits,
    report: &Report,
) -> Option<RateLimitSpec> {
    let name = &named.name.value;
    let spec = match config.spec_of(name, raw) {
        Ok(spec) => spec,
        Err(fault) => {
            report.error(&raw.burst.at, fault.what, fault.remedy);
            return None;
        }
    };
    let wallet = limits.wallet(name, spec.set().is_shared, raw.keys_max);
    Some(RateLimitSpec { name: name.clone(), spec, wallet })
}

fn key(raw: &[Located<limits::Fact>], route: &routes::Route, listener: &Listener, params: &[String]) -> LimitKey {
    let fact = |fact: &Located<limits::Fact>| {
        Some(match &fact.value {
            limits::Fact::Ip => Fact::Ip,
            limits::Fact::Header(name) => Fact::Header(name.clone()),
            limits::Fact::Cookie(name) => Fact::Cookie(name.clone()),
            limits::Fact::Query(name) => Fact::Query(name.clone()),
            // The config has checked that there is one.
            limits::Fact::Path(name) => Fact::Param(params.iter().position(|param| param == name)?),
            limits::Fact::Route => Fact::Name(route.name.value.as_str().into()),
            limits::Fact::Listener => Fact::Name(listener.name.value.as_str().into()),
            limits::Fact::Principal => Fact::Principal,
        })
    };
    LimitKey(raw.iter().filter_map(fact).collect())
}
