//! `rate_limits`: the Redis that holds limits across processes, and what limits do while it is away.

use super::decode::{Block, Keys, Value};
use super::filters::limits::on_unavailable;
use super::filters::{Filter, NamedFilter};
use super::hosts::Address;
use super::report::{Report, quote};
use super::tls;
use crate::limit::OnUnavailable;
use crate::tls::ClientFiles;
use crate::value::{Invalid, Secret};

mod url;

pub(super) const KEYS: Keys = Keys { known: &["redis", "on_unavailable"], later: &[] };
pub(super) const REDIS_KEYS: Keys = Keys { known: &["url", "ca", "client", "prefix"], later: &[] };

/// Each key of every limit begins with it.
const PREFIX_BYTES_MAX: usize = 64;

/// How limits hold across processes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RateLimits {
    /// `None`: each process holds its limits by itself.
    pub redis: Option<Redis>,
    /// What limits do while Redis is away, unless they say it themselves.
    pub on_unavailable: OnUnavailable,
}

/// Where Redis is, and how to speak to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// At least one: Redis, or sentinels, or some of a cluster.
    pub addresses: Vec<Address>,
    /// What is there.
    pub layout: Layout,
    /// Who the gateway is to Redis.
    pub login: Login,
    /// Which of its databases.
    pub db: u32,
    /// Files of a connection over TLS; `None`: without.
    pub tls: Option<ClientFiles>,
    /// The begin of the names of its keys.
    pub prefix: String,
}

/// What is at the addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum Layout {
    /// One Redis. Of several addresses the first that answers.
    Single,
    /// Sentinels that know where it is.
    Sentinel {
        /// What they call it.
        master: String,
        /// Who the gateway is to them.
        login: Login,
    },
    /// Some masters or replicas of a Redis Cluster, which know the others.
    Cluster,
}

/// A user and a password. Without a password nobody logs in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Login {
    /// `None`: Redis' default user.
    pub user: Option<String>,
    /// Never printed.
    pub password: Option<Secret>,
}

impl Redis {
    /// Where it is, for people: without user and password.
    pub fn place(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        match &self.layout {
            Layout::Sentinel { master, .. } => format!("{master} of {}", addresses.join(",")),
            Layout::Single | Layout::Cluster => addresses.join(","),
        }
    }
}

/// The `rate_limits` block.
pub(super) fn decode(value: &Value<'_>) -> Option<RateLimits> {
    let block = value.block(&KEYS)?;
    let redis = block.unless_wrong("redis", None, |v| redis(v).map(Some));
    if let (Some(given), Some(None)) = (block.get("on_unavailable"), &redis) {
        given.error("there is no Redis that could be away", "give redis, or remove it");
    }
    Some(RateLimits {
        redis: redis.flatten(),
        on_unavailable: block.or("on_unavailable", OnUnavailable::LocalShare, on_unavailable),
    })
}

fn redis(value: &Value<'_>) -> Option<Redis> {
    let block = value.block(&REDIS_KEYS)?;
    let prefix = block.or("prefix", "ringway".to_owned(), |v| v.parse(prefix));
    let url = block.required("url").and_then(|v| {
        // Not `parse`, which would show the text: there may be a password in it.
        let text = v.text()?;
        url::read(text).map_err(|Invalid { what, remedy }| v.error(format!("the URL {what}"), remedy)).ok()
    });
    let over_tls = url.as_ref().is_none_or(|url| url.over_tls);
    let tls = if over_tls { Some(tls::client_files(&block, value, url.is_some())) } else { refuse_tls(&block) };
    let url = url?;
    Some(Redis { addresses: url.addresses, layout: url.layout, login: url.login, db: url.db, tls, prefix })
}

fn refuse_tls(block: &Block<'_>) -> Option<ClientFiles> {
    for given in ["ca", "client"].iter().filter_map(|key| block.get(key)) {
        given.error("is of no use without TLS", "write the URL with rediss, or remove it");
    }
    None
}

/// Colons are what separates it from the rest of a key's name.
fn prefix(text: &str) -> Result<String, Invalid> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > PREFIX_BYTES_MAX || !text.chars().all(is_fine) {
        let remedy = format!("1 to {PREFIX_BYTES_MAX} letters, digits and signs of `-_.`");
        return Err(Invalid::new("is no begin of a name", remedy));
    }
    Ok(text.to_owned())
}

/// What a limit says of Redis means nothing when there is none.
/// `has_redis`: the document gives one, right or wrong.
pub(super) fn check_without_redis(filters: &[NamedFilter], has_redis: bool, report: &Report) {
    if has_redis {
        return;
    }
    for named in filters {
        let Filter::RateLimit(limit) = &named.filter else { continue };
        if let Some(shared) = limit.shared.as_ref().filter(|shared| shared.value) {
            let what = format!("{} can not be shared without Redis", quote(&named.name.value));
            report.error(&shared.at, what, "give rate_limits.redis.url, or remove it");
        }
        for key in &limit.of_redis {
            let what = format!("{} says how a limit is shared through Redis, and there is none", key.value);
            report.error(&key.at, what, "give rate_limits.redis.url, or remove it");
        }
    }
}

#[cfg(test)]
mod tests;
