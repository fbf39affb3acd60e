//! Filters as a worker runs them. What is the same for every route is made once for a snapshot.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;

use crate::coding::Policy as Compressing;
use crate::config::filters::{self as raw, Filter as Raw, api_key, ext_auth as raw_ext_auth, jwt as raw_jwt, limits};
use crate::config::listeners::Listener;
use crate::config::{Config, Located, Report, routes};
use crate::filter::Filter;
use crate::filter::api_key::ApiKey;
use crate::filter::basic::Basic;
use crate::filter::compress::Compress;
use crate::filter::concurrency::Concurrency;
use crate::filter::cors::Cors;
use crate::filter::ext_auth::{self, ExtAuth};
use crate::filter::fault::Fault;
use crate::filter::ip::{Ip, Networks};
use crate::filter::jwt::{Jwt, Place};
use crate::filter::limit_key::{Fact, LimitKey};
use crate::filter::mirror::Mirror;
use crate::filter::plugin::Plugin;
use crate::filter::rate_limit::RateLimit;
use crate::filter::request_headers::RequestHeaders;
use crate::filter::request_limits::RequestLimits;
use crate::filter::security_headers::SecurityHeaders;
use crate::http::quota::Policy;
use crate::jwt::KeySet;
use crate::route::template::Template;
use crate::shared::Rules;
use crate::shared::limits::Limits;
use crate::value::ByteSize;

use super::RateLimitSpec;
use super::build::{edits, millis, share};
use super::inputs::Inputs;

/// What is the same for every route and listener: made once, since there may be many routes.
pub(super) struct Common {
    /// Whole filters, by name.
    filters: HashMap<String, Filter>,
    /// All rate limits with their process wallets, used or not.
    pub(super) rate_limits: Vec<RateLimitSpec>,
}

impl Common {
    pub(super) fn new(inputs: &Inputs<'_>, report: &Report) -> Self {
        let of = |named: &raw::NamedFilter| match &named.filter {
            Raw::RateLimit(raw) => rate_limit(named, raw, inputs.config, &inputs.made.limits, report),
            _ => None,
        };
        let rate_limits = inputs.config.filters.iter().filter_map(of).collect();
        Self { filters: filters(inputs, report), rate_limits }
    }

    /// All mirrors, used or not, by their number.
    pub(super) fn mirrors(&self) -> Vec<Rules<Mirror>> {
        let of = |filter: &Filter| match filter {
            Filter::Mirror(mirror) => Some(Rules::clone(mirror)),
            _ => None,
        };
        let mut mirrors: Vec<Rules<Mirror>> = self.filters.values().filter_map(of).collect();
        mirrors.sort_by_key(|mirror| mirror.number);
        mirrors
    }
}

fn filters(inputs: &Inputs<'_>, report: &Report) -> HashMap<String, Filter> {
    let make = |named: &raw::NamedFilter| {
        let name = &named.name.value;
        let metrics = || inputs.made.metrics.filter(inputs.worker, name);
        let filter = match &named.filter {
            Raw::SecurityHeaders(raw) => Filter::SecurityHeaders(Rules::new(SecurityHeaders {
                fields: raw.fields.clone(),
                is_override: raw.is_override,
                metrics: metrics(),
            })),
            Raw::Compress(raw) => Filter::Compress(Rules::new(Compress {
                policy: Rules::new(Compressing {
                    codings: raw.codings.clone(),
                    types: raw.types.clone(),
                    bytes_min: raw.min_size.bytes(),
                    streams_max: share(raw.streams, inputs.made.workers),
                    metrics: inputs.made.metrics.compression(inputs.worker, name),
                }),
                asks_identity: raw.asks_identity,
                metrics: metrics(),
            })),
            Raw::Cors(raw) => Filter::Cors(Rules::new(Cors {
                name: name.clone(),
                origins: raw.origins.clone(),
                credentials: raw.credentials,
                methods: raw.methods.clone(),
                headers: raw.headers.clone(),
                expose_headers: raw.expose_headers.clone(),
                max_age_s: raw.max_age.get().as_secs().to_string(),
                private_network: raw.private_network,
                metrics: metrics(),
            })),
            Raw::Ip(raw) => Filter::Ip(Rules::new(Ip {
                name: name.clone(),
                networks: Networks::new(&raw.allow, &raw.deny),
                metrics: metrics(),
            })),
            Raw::RequestLimits(raw) => {
                let bytes = |size: ByteSize| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
                Filter::RequestLimits(Rules::new(RequestLimits {
                    name: name.clone(),
                    body: raw.body.map(ByteSize::bytes),
                    fields: raw.headers.and_then(|n| usize::try_from(n).ok()),
                    field_bytes: raw.header_bytes.map(bytes),
                    methods: raw.methods.clone(),
                    types: raw.content_types.clone(),
                    metrics: metrics(),
                }))
            }
            Raw::ApiKey(raw) => Filter::ApiKey(Rules::new(ApiKey {
                name: name.clone(),
                header: raw.header.clone(),
                query: raw.query.clone(),
                keys: match &raw.source {
                    api_key::Source::Inline(keys) => keys.clone(),
                    api_key::Source::File(path) => {
                        inputs.made.credentials.keys.get(path).cloned().or_else(|| not_read(named, report))?
                    }
                },
                required_tags: raw.required_tags.clone(),
                principal_header: raw.principal_header.clone(),
                metrics: metrics(),
            })),
            Raw::Basic(raw) => Filter::Basic(Rules::new(Basic {
                name: name.clone(),
                users: inputs.made.credentials.users.get(&raw.file).cloned().or_else(|| not_read(named, report))?,
                asker: inputs.made.passwords.clone(),
                challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", raw.realm),
                is_forwarded: raw.forward,
                principal_header: raw.principal_header.clone(),
                cache_ms: millis(raw.cache.get()).into(),
                metrics: metrics(),
            })),
            Raw::ExtAuth(raw) => Filter::ExtAuth(Rules::new(ext_auth(name, raw, inputs, report)?)),
            Raw::Fault(raw) => Filter::Fault(Rules::new(Fault {
                name: name.clone(),
                delay: raw
                    .delay
                    .as_ref()
                    .map(|delay| &delay.value)
                    .map(|delay| (millis(delay.time.get()).into(), delay.per_million)),
                abort: raw.abort.map(|abort| (abort.status, abort.per_million)),
                when: raw.when.clone(),
                delayed: inputs.made.limits.in_flight(name, 1),
                delayed_max: raw.max_delayed.into(),
                metrics: metrics(),
            })),
            Raw::Mirror(raw) => Filter::Mirror(Rules::new(Mirror {
                name: name.clone(),
                number: number_of(name, inputs),
                upstream: upstream_of(&raw.upstream, inputs, report)?,
                per_million: raw.per_million,
                unsafe_methods: raw.unsafe_methods,
                body_bytes_max: usize::try_from(raw.max_body.bytes()).unwrap_or(usize::MAX),
                in_flight: inputs.made.limits.in_flight(name, 1),
                in_flight_max: raw.max_in_flight.into(),
                timeout_ms: millis(raw.timeout.get()),
                metrics: metrics(),
            })),
            Raw::Jwt(raw) => Filter::Jwt(Rules::new(jwt(name, raw, inputs))),
            Raw::RequestHeaders(_) | Raw::RateLimit(_) | Raw::Concurrency(_) | Raw::Plugin(_) => return None,
        };
        Some((name.clone(), filter))
    };
    inputs.config.filters.iter().filter_map(make).collect()
}

/// A filter that is missing would let everybody in: such a snapshot is never published.
fn not_read<T>(named: &raw::NamedFilter, report: &Report) -> Option<T> {
    report.error(&named.name.at, "its file was not read", "");
    None
}

/// What goes into answers to requests that no route matches: filters of all routes, then the listener's.
pub(super) fn without_route(listener: &Listener, config: &Config, common: &Common) -> Vec<Filter> {
    let names = config.all_routes_filters.iter().chain(&listener.filters).map(|name| name.value.as_str());
    let by_name = |name: &str| config.filters.iter().find(|filter| filter.name.value == name);
    let about_answers = names.filter_map(by_name).filter(|named| named.filter.is_about_answers()).collect();
    in_order(about_answers).into_iter().filter_map(|named| common.filters.get(&named.name.value).cloned()).collect()
}

/// Filters as they run. Of several `cors` the last one alone, the most special: two would say different things of one
/// origin, one to a preflight and the other to the request behind it.
fn in_order(mut named: Vec<&raw::NamedFilter>) -> Vec<&raw::NamedFilter> {
    let is_cors = |named: &&raw::NamedFilter| matches!(named.filter, Raw::Cors(_));
    if let Some(last) = named.iter().rposition(is_cors) {
        let mut index = 0..;
        named.retain(|named| index.next() == Some(last) || !is_cors(named));
    }
    named.sort_by_key(|named| named.filter.rank());
    named
}

/// The names of the filters of a route on a listener, in the order in which they run.
pub fn names(config: &Config, route: &routes::Route, listener: &Listener) -> Vec<String> {
    chain(config, route, listener).into_iter().map(|named| named.name.value.clone()).collect()
}

/// Those of all routes, then the listener's, then the route's; each once, and without those that the route refuses.
fn chain<'c>(config: &'c Config, route: &'c routes::Route, listener: &'c Listener) -> Vec<&'c raw::NamedFilter> {
    let by_name = |name: &&str| config.filters.iter().find(|filter| filter.name.value == *name);
    in_order(config.filters_of(route, listener).iter().filter_map(by_name).collect())
}

/// The same as they run.
pub(super) fn of(
    route: &routes::Route,
    listener: &Listener,
    inputs: &Inputs<'_>,
    common: &Common,
    params: &[String],
    report: &Report,
) -> Vec<Filter> {
    let filters = chain(inputs.config, route, listener)
        .into_iter()
        .filter_map(|named| {
            if let Some(filter) = common.filters.get(&named.name.value) {
                return Some(filter.clone());
            }
            Some(match &named.filter {
                Raw::RequestHeaders(raw) => {
                    Filter::RequestHeaders(RequestHeaders { edits: edits(raw, params, report) })
                }
                Raw::RateLimit(raw) => {
                    let is_it = |limit: &&RateLimitSpec| limit.name == named.name.value;
                    let limit = common.rate_limits.iter().find(is_it)?;
                    Filter::RateLimit(Box::new(RateLimit {
                        key: key(&raw.key, route, listener, params),
                        cost: route.costs.of(&limit.name).into(),
                        dry_run: raw.dry_run,
                        gives_back: false,
                        policy: policy(raw, limit),
                        metrics: inputs.made.metrics.filter(inputs.worker, &limit.name),
                        name: limit.name.clone(),
                        spec: limit.spec,
                        wallet: limit.wallet.clone(),
                    }))
                }
                Raw::Concurrency(raw) => Filter::Concurrency(Box::new(Concurrency {
                    name: named.name.value.clone(),
                    max: raw.max.into(),
                    in_flight: inputs.made.limits.in_flight(&named.name.value, raw.keys_max),
                    key: key(&raw.key, route, listener, params),
                    queue: if raw.queue == 0 { 0 } else { share(raw.queue, inputs.made.workers) },
                    queue_ms: millis(raw.queue_timeout.get()).into(),
                    dry_run: raw.dry_run,
                    metrics: inputs.made.metrics.filter(inputs.worker, &named.name.value),
                })),
                Raw::Plugin(raw) => {
                    let metrics = inputs.made.metrics.filter(inputs.worker, &named.name.value);
                    let plugin = Plugin::new(&named.name.value, raw.name, &raw.object, params, metrics);
                    Filter::Plugin(Rules::new(plugin))
                }
                // Made above, unless something is wrong with it.
                _ => return None,
            })
        })
        .collect();
    with_later_limits(filters)
}

/// Tells limits which of them have another one behind them.
fn with_later_limits(mut filters: Vec<Filter>) -> Vec<Filter> {
    let mut is_followed = false;
    for filter in filters.iter_mut().rev() {
        if let Filter::RateLimit(limit) = filter {
            limit.gives_back = is_followed;
        }
        is_followed |= matches!(filter, Filter::RateLimit(_) | Filter::Concurrency(_));
    }
    filters
}

fn jwt(name: &str, raw: &raw_jwt::Jwt, inputs: &Inputs<'_>) -> Jwt {
    let source = raw.jwks.is_some().then(|| inputs.made.key_sets.get(name).cloned().unwrap_or_default());
    let keys = KeySet::new(Arc::clone(&raw.keys), source);
    let place = |place: &raw_jwt::Place| match place {
        raw_jwt::Place::Header(name) if name == "authorization" => Place::Authorization,
        raw_jwt::Place::Header(name) => Place::Header(name.clone()),
        raw_jwt::Place::Cookie(name) => Place::Cookie(name.clone()),
        raw_jwt::Place::Query(name) => Place::Query(name.clone()),
    };
    Jwt {
        name: name.to_owned(),
        from: raw.from.iter().map(place).collect(),
        token_bytes_max: usize::try_from(raw.token_max.bytes()).unwrap_or(usize::MAX),
        rules: raw.rules.clone(),
        identity: keys.identity(name, &raw.rules),
        keys,
        headers: raw.headers.clone(),
        forward: raw.forward,
        optional: raw.optional,
        realm: raw.realm.clone(),
        metrics: inputs.made.metrics.filter(inputs.worker, name),
    }
}

/// The index of the upstream of that name.
fn upstream_of(name: &Located<String>, inputs: &Inputs<'_>, report: &Report) -> Option<usize> {
    let index = inputs.config.upstreams.iter().position(|upstream| upstream.name.value == name.value);
    if index.is_none() {
        report.error(&name.at, "there is no such upstream", "");
    }
    index
}

/// The place of a mirror among all of them.
fn number_of(name: &str, inputs: &Inputs<'_>) -> usize {
    let mirrors = inputs.config.filters.iter().filter(|named| matches!(named.filter, Raw::Mirror(_)));
    mirrors.take_while(|named| named.name.value != name).count()
}

fn ext_auth(name: &str, raw: &raw_ext_auth::ExtAuth, inputs: &Inputs<'_>, report: &Report) -> Option<ExtAuth> {
    let target = Template::parse_target(&raw.path.value, &[], &[]);
    let target = target.map_err(|e| report.error(&raw.path.at, e.to_string(), "")).ok()?;
    Some(ExtAuth {
        name: name.to_owned(),
        upstream: upstream_of(&raw.upstream, inputs, report)?,
        method: raw.method.clone(),
        target,
        headers: raw.headers.clone(),
        response_headers: raw.response_headers.clone(),
        client_headers: raw.client_headers.clone(),
        refusal_headers: raw.refusal_headers.clone(),
        principal: raw.principal.clone(),
        timeout_ms: millis(raw.timeout.get()),
        allows_on_failure: raw.allows_on_failure,
        body_bytes_max: usize::try_from(raw.max_body.bytes()).unwrap_or(usize::MAX),
        cache: raw.cache.as_ref().map(|cache| ext_auth::Cache {
            ttl_ms: millis(cache.ttl.get()).into(),
            key: cache.key.as_ref().map(|facts| LimitKey(facts.iter().filter_map(|fact| free(&fact.value)).collect())),
            entries_max: share(cache.max_entries, inputs.made.workers),
            // Whatever of it changes, what was remembered before is not believed.
            identity: FixedState::default().hash_one(format!("{name} {raw:?}")),
        }),
        metrics: inputs.made.metrics.filter(inputs.worker, name),
    })
}

/// What clients are told. Of what does not hold yet they are told nothing.
fn policy(raw: &limits::RateLimit, limit: &RateLimitSpec) -> Option<Policy> {
    if raw.dry_run || raw.headers == limits::Headers::Off {
        return None;
    }
    let window_s = limit.spec.reset_ms(0).div_ceil(1000);
    Some(Policy::new(&limit.name, limit.spec.set().burst, window_s, raw.headers == limits::Headers::Legacy))
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
            // The config has checked that there is one.
            limits::Fact::Path(name) => Fact::Param(params.iter().position(|param| param == name)?),
            limits::Fact::Route => Fact::Name(route.name.value.as_str().into()),
            limits::Fact::Listener => Fact::Name(listener.name.value.as_str().into()),
            other => free(other)?,
        })
    };
    LimitKey(raw.iter().filter_map(fact).collect())
}

/// A fact that does not depend on route and listener.
pub(super) fn free(fact: &limits::Fact) -> Option<Fact> {
    Some(match fact {
        limits::Fact::Ip => Fact::Ip,
        limits::Fact::Header(name) => Fact::Header(name.clone()),
        limits::Fact::Cookie(name) => Fact::Cookie(name.clone()),
        limits::Fact::Query(name) => Fact::Query(name.clone()),
        limits::Fact::Principal => Fact::Principal,
        limits::Fact::Path(_) | limits::Fact::Route | limits::Fact::Listener => return None,
    })
}
