//! `forward.split` and `forward.sticky`: several upstreams for one route, and what sticks to one of them.

use http::HeaderName;

use super::decode::{Block, Keys, Value};
use super::references::Names;
use super::report::{Located, quote};
use crate::value::{Duration, Invalid};

pub(super) const STICKY_KEYS: Keys = Keys { known: &["cookie", "header", "max_age", "cache_control"], later: &[] };

/// Upstreams of one split.
const UPSTREAMS_MAX: usize = 64;
pub(super) const WEIGHT_MAX: u32 = 10_000;
/// Browsers keep no cookie longer (RFC 6265bis 5.5).
const AGE_MAX: Duration = Duration::from_secs(400 * 86_400);

/// Where a request goes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The name of an upstream, which exists.
    Upstream(Located<String>),
    /// One of several.
    Split(Split),
}

/// Upstreams with their weights, at least one of which is not 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Names of upstreams, which exist, each once.
    pub weights: Vec<(Located<String>, u32)>,
    /// What sticks to one of them.
    pub sticky: Option<Sticky>,
}

/// What sticks to one upstream.
#[derive(Debug, Clone, PartialEq)]
pub enum Sticky {
    /// What a client has in this cookie; one that has none gets one.
    Cookie {
        /// Its name.
        name: String,
        /// How long a browser keeps it; `None`: until it is closed.
        max_age: Option<Duration>,
        /// Whether an answer that hands it out is kept out of shared caches, whatever the upstream says.
        is_private: bool,
    },
    /// What a client has in this field, whose name is in lower case.
    Header(String),
}

impl Target {
    /// The upstreams that it names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Located<String>> {
        let (one, several) = match self {
            Self::Upstream(name) => (Some(name), [].as_slice()),
            Self::Split(split) => (None, split.weights.as_slice()),
        };
        one.into_iter().chain(several.iter().map(|(name, _)| name))
    }
}

/// `upstream`, or `split` and `sticky`, of `forward`.
pub(super) fn target(block: &Block<'_>, upstreams: &Names<'_>) -> Option<Target> {
    let sticky = block.unless_wrong("sticky", None, |v| sticky(v).map(Some));
    match (block.get("upstream"), block.get("split")) {
        (Some(one), None) => {
            if let Some(at) = block.get("sticky") {
                let remedy =
                    "to let clients stick to an endpoint of one upstream is its `balance: { hash: … }`; remove it";
                at.error("there is no `split` whose upstreams a client could stick to", remedy);
            }
            upstreams.one(one).map(Target::Upstream)
        }
        (None, Some(split)) => {
            let weights = weights(split, upstreams);
            Some(Target::Split(Split { weights: weights?, sticky: sticky? }))
        }
        (Some(one), Some(split)) => {
            upstreams.one(one);
            weights(split, upstreams);
            split.error("stands beside `upstream`", "give exactly one of upstream and split");
            None
        }
        (None, None) => {
            block.value().error("the key `upstream` is missing", "add it, or `split` for several upstreams");
            None
        }
    }
}

fn weights(value: &Value<'_>, upstreams: &Names<'_>) -> Option<Vec<(Located<String>, u32)>> {
    let entries = value.entries(UPSTREAMS_MAX)?;
    let mut all_right = true;
    let mut weights = Vec::new();
    for (key, weight) in entries {
        let name = weight.at_key(key).locate(key.text.clone());
        upstreams.check(&name);
        match weight.count(0..=WEIGHT_MAX) {
            Some(weight) => weights.push((name, weight)),
            None => all_right = false,
        }
    }
    if all_right && weights.iter().all(|(_, weight)| *weight == 0) {
        value.error("nothing goes anywhere", "give at least one upstream a weight that is not 0");
        return None;
    }
    all_right.then_some(weights)
}

fn sticky(value: &Value<'_>) -> Option<Sticky> {
    let block = value.block(&STICKY_KEYS)?;
    let max_age = block.unless_wrong("max_age", None, |v| v.duration(Duration::from_secs(1)..=AGE_MAX).map(Some));
    let is_private = block.unless_wrong("cache_control", true, |v| v.word(&[("private", true), ("keep", false)], &[]));
    match (block.get("cookie"), block.get("header")) {
        (Some(cookie), None) => {
            // RFC 6265 4.1.1: the name of a cookie is a token.
            let name = cookie.parse(|text| token(text, "is not the name of a cookie", "like ringway"));
            Some(Sticky::Cookie { name: name?, max_age: max_age?, is_private: is_private? })
        }
        (None, Some(header)) => {
            let name = header.parse(|text| token(text, "is not the name of a header field", "like x-user"));
            if let Some(at) = block.get("max_age") {
                at.error("only a cookie has an age", format!("remove it, or use {} instead", quote("cookie")));
            }
            if let Some(at) = block.get("cache_control") {
                let remedy = format!("remove it, or use {} instead", quote("cookie"));
                at.error("without a cookie no answer is for one client alone", remedy);
            }
            name.map(|name| Sticky::Header(name.to_ascii_lowercase()))
        }
        _ => {
            value.error("says not what sticks", "give exactly one of cookie and header");
            None
        }
    }
}

fn token(text: &str, what: &str, remedy: &str) -> Result<String, Invalid> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) if text.len() <= 128 => Ok(text.to_owned()),
        _ => Err(Invalid::new(what, remedy)),
    }
}
