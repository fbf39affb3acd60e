//! `rate_limit` and `concurrency`: how much of what a filter lets pass.

use http::HeaderName;

use super::super::decode::{Block, Keys, Value};
use super::super::report::{Located, Position, quote};
use crate::limit::{OnUnavailable, Settings, Spec};
use crate::shared::wallet::MOST_KEYS;
use crate::value::{Duration, Invalid, Rate};

pub(in crate::config) const RATE_LIMIT_KEYS: Keys = Keys {
    known: &[
        "rate",
        "burst",
        "key",
        "headers",
        "dry_run",
        "keys",
        "shared",
        "on_unavailable",
        "reserve",
        "overdraft",
        "lease",
    ],
    later: &[],
};
/// Keys that mean nothing without Redis.
const OF_REDIS: [&str; 4] = ["on_unavailable", "reserve", "overdraft", "lease"];
pub(in crate::config) const CONCURRENCY_KEYS: Keys =
    Keys { known: &["max", "key", "queue", "queue_timeout", "dry_run", "keys"], later: &[] };

/// Keys that a limit remembers: 16 MB of memory, 29 MB through Redis.
const KEYS_MAX_DEFAULT: u32 = 100_000;
/// A key of more facts than this is a mistake.
const FACTS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 128;
const MAX_IN_FLIGHT: u32 = 1_000_000;
/// Each who waits holds a connection.
const QUEUE_MAX: u32 = 10_000;

/// `rate_limit`: so many requests in which time.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// So many tokens in which time.
    pub rate: Rate,
    /// Tokens there can be at most.
    pub burst: Located<u64>,
    /// What it counts by.
    pub key: Vec<Located<Fact>>,
    /// Which fields tell clients of it.
    pub headers: Headers,
    /// Nothing is refused.
    pub dry_run: bool,
    /// Keys that are told apart at a time.
    pub keys_max: u32,
    /// Whether processes share it through Redis; `None`: if there is one.
    pub shared: Option<Located<bool>>,
    /// What to do while Redis is away; `None`: as for all.
    pub on_unavailable: Option<OnUnavailable>,
    /// Whether never more than burst and rate may pass.
    pub reserve: bool,
    /// What a process may spend of a key ahead of Redis' answer; `None`: by burst and processes.
    pub overdraft: Option<u64>,
    /// How long a process may keep what it leased.
    pub lease: Duration,
    /// Which of the keys are given that mean nothing without Redis, and where.
    pub of_redis: Vec<Located<&'static str>>,
}

/// `concurrency`: so many requests at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrency {
    /// Requests of a key in flight, at least 1.
    pub max: u32,
    /// What it counts by.
    pub key: Vec<Located<Fact>>,
    /// Requests that may wait, over all keys.
    pub queue: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Nothing is refused.
    pub dry_run: bool,
    /// Keys that are told apart at a time.
    pub keys_max: u32,
}

/// Which fields tell clients of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// None but Retry-After.
    Off,
    /// `RateLimit` and `RateLimit-Policy`.
    Draft,
    /// These and `X-RateLimit-*`.
    Legacy,
}

/// A fact of a request that a limit counts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The client's address.
    Ip,
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// A parameter of the route's path.
    Path(String),
    /// The route.
    Route,
    /// The listener.
    Listener,
    /// Who calls, as an earlier filter made out.
    Principal,
}

/// What a request costs of the rate limits that it passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Costs {
    /// Of limits that are not named below; `None`: 1.
    pub of_all: Option<Located<u32>>,
    /// By the name of the filter.
    pub of: Vec<(Located<String>, u32)>,
}

impl Costs {
    /// Of the limit of this name.
    pub fn of(&self, filter: &str) -> u32 {
        let named = self.of.iter().find(|(name, _)| name.value == filter).map(|(_, cost)| *cost);
        named.or(self.of_all.as_ref().map(|cost| cost.value)).unwrap_or(1)
    }

    /// Where that is written.
    pub fn place(&self, filter: &str) -> Option<&Position> {
        let named = self.of.iter().find(|(name, _)| name.value == filter).map(|(name, _)| &name.at);
        named.or(self.of_all.as_ref().map(|cost| &cost.at))
    }
}

impl RateLimit {
    /// Its numbers, for requests of which the dearest costs `cost_max`. `is_shared` and `unavailable` are what holds where
    /// it says nothing of its own.
    ///
    /// # Errors
    /// Which number is wrong, and what would be right.
    pub fn spec(&self, cost_max: u32, is_shared: bool, unavailable: OnUnavailable) -> Result<Spec, Invalid> {
        let micros = |time: Duration| u64::try_from(time.get().as_micros()).unwrap_or(u64::MAX);
        let base = Settings::new(self.rate.count(), micros(self.rate.per()), self.burst.value);
        Spec::new(Settings {
            cost_max: cost_max.into(),
            is_shared: self.shared.as_ref().map_or(is_shared, |shared| shared.value),
            reserve: self.reserve,
            overdraft: self.overdraft,
            life_us: micros(self.lease),
            on_unavailable: self.on_unavailable.unwrap_or(unavailable),
            ..base
        })
    }
}

pub(super) fn rate_limit(value: &Value<'_>) -> Option<RateLimit> {
    let block = value.block(&RATE_LIMIT_KEYS)?;
    let rate: Option<Rate> = block.required("rate").and_then(|v| v.parse(str::parse));
    let burst_at = block.get("burst").or(block.get("rate"));
    let burst = block.unless_wrong("burst", None, |v| v.count(1..=u32::MAX).map(|n| Some(u64::from(n))));
    let key = key(&block);
    let limit = RateLimit {
        rate: rate?,
        burst: burst_at?.locate(burst?.unwrap_or(rate?.count())),
        key,
        headers: block.or("headers", Headers::Draft, |v| {
            v.word(&[("off", Headers::Off), ("draft", Headers::Draft), ("legacy", Headers::Legacy)], &[])
        }),
        dry_run: block.or("dry_run", false, Value::boolean),
        keys_max: keys_max(&block),
        shared: block.get("shared").and_then(|v| Some(v.locate(v.boolean()?))),
        on_unavailable: block.or("on_unavailable", None, |v| on_unavailable(v).map(Some)),
        reserve: block.or("reserve", false, Value::boolean),
        overdraft: block.or("overdraft", None, |v| v.or_word("auto", |v| v.count(0..=1_000_000).map(u64::from))),
        lease: block
            .or("lease", Duration::from_secs(1), |v| v.duration(Duration::from_millis(200)..=Duration::from_secs(60))),
        of_redis: OF_REDIS.iter().filter_map(|key| Some(block.get(key)?.locate(*key))).collect(),
    };
    // What follows from rate and burst alone is told here; costs and Redis are the document's.
    if let Err(fault) = limit.spec(1, false, OnUnavailable::LocalShare) {
        burst_at?.error(format!("{} {}", limit.burst.value, fault.what), fault.remedy);
        return None;
    }
    Some(limit)
}

/// `on_unavailable`: what to do while Redis is away.
pub(in crate::config) fn on_unavailable(value: &Value<'_>) -> Option<OnUnavailable> {
    const WORDS: [(&str, OnUnavailable); 4] = [
        ("local_share", OnUnavailable::LocalShare),
        ("deny", OnUnavailable::Deny),
        ("allow", OnUnavailable::Allow),
        ("local_full", OnUnavailable::LocalFull),
    ];
    value.word(&WORDS, &[])
}

pub(super) fn concurrency(value: &Value<'_>) -> Option<Concurrency> {
    let block = value.block(&CONCURRENCY_KEYS)?;
    let max = block.required("max").and_then(|v| v.count(1..=MAX_IN_FLIGHT));
    let queue = block.or("queue", 0, |v| v.count(0..=QUEUE_MAX));
    let timeout = block.get("queue_timeout");
    if let Some(timeout) = timeout.filter(|_| queue == 0) {
        timeout.error("nothing waits without a queue", "give queue, or remove it");
    }
    Some(Concurrency {
        max: max?,
        key: key(&block),
        queue,
        queue_timeout: block.or("queue_timeout", Duration::from_millis(500), |v| {
            v.duration(Duration::from_millis(1)..=Duration::from_secs(60))
        }),
        dry_run: block.or("dry_run", false, Value::boolean),
        keys_max: keys_max(&block),
    })
}

fn keys_max(block: &Block<'_>) -> u32 {
    block.or("keys", KEYS_MAX_DEFAULT, |v| v.count(1..=MOST_KEYS))
}

/// `none`, one fact, or a list of them; without it the client's address.
pub(super) fn key(block: &Block<'_>) -> Vec<Located<Fact>> {
    let Some(value) = block.get("key") else { return vec![block.value().locate(Fact::Ip)] };
    let one = |v: &Value<'_>| Some(v.locate(v.parse(fact)?));
    if !value.is_list() {
        return value.or_none(one).flatten().into_iter().collect();
    }
    let facts = value.list_of(1..=FACTS_MAX, one).unwrap_or_default();
    for (i, twice) in facts.iter().enumerate() {
        if facts.iter().take(i).any(|earlier| earlier.value == twice.value) {
            value.error("one of its facts is there twice", "remove one");
        }
    }
    facts
}

fn fact(text: &str) -> Result<Fact, Invalid> {
    const REMEDY: &str = "write ip, header.NAME, cookie.NAME, query.NAME, path.NAME, route, listener, principal, a list of these, or none";
    let fact = match text.split_once('.') {
        Some((kind, name)) => named_fact(kind, name),
        None => match text {
            "ip" => Some(Fact::Ip),
            "route" => Some(Fact::Route),
            "listener" => Some(Fact::Listener),
            "principal" => Some(Fact::Principal),
            _ => None,
        },
    };
    fact.ok_or_else(|| Invalid::new("is nothing that a limit can count by", REMEDY))
}

/// The header field, cookie, query parameter or path parameter of this name.
pub(in crate::config) fn named_fact(kind: &str, name: &str) -> Option<Fact> {
    match kind {
        _ if name.is_empty() || name.len() > NAME_BYTES_MAX => None,
        "header" => HeaderName::from_bytes(name.as_bytes()).ok().map(Fact::Header),
        // RFC 6265 4.1.1: a cookie's name is a token.
        "cookie" => HeaderName::from_bytes(name.as_bytes()).ok().map(|_| Fact::Cookie(name.to_owned())),
        "query" if !name.contains(['=', '&', '#']) => Some(Fact::Query(name.to_owned())),
        "path" => Some(Fact::Path(name.to_owned())),
        _ => None,
    }
}

/// `cost` of a route: a number, or a number by the name of a filter.
pub(in crate::config) fn costs(value: &Value<'_>, check_name: impl Fn(&Located<String>)) -> Option<Costs> {
    const RANGE: std::ops::RangeInclusive<u32> = 0..=60_000;
    if !value.is_mapping() {
        return Some(Costs { of_all: Some(value.locate(value.count(RANGE)?)), of: Vec::new() });
    }
    let mut of = Vec::new();
    for (key, cost) in value.entries(64)? {
        let name = cost.at_key(key).locate(key.text.clone());
        check_name(&name);
        if let Some(cost) = cost.count(RANGE) {
            of.push((name, cost));
        }
    }
    if of.is_empty() {
        value.error("names no filter", format!("write {} or a number", quote("{ name: 5 }")));
    }
    Some(Costs { of_all: None, of })
}
