//! `forward` of a route: which upstream gets the request, and what is changed on the way there and back.

use super::decode::{Keys, Value};
use super::headers::{self, Direction, HeaderEdits};
use super::matching::Match;
use super::references::Names;
use super::rewrite::{self, Rewrite};
use super::split::{self, Target};
use super::templates::Params;
use super::upgrade;

pub(super) const KEYS: Keys = Keys {
    known: &["upstream", "split", "sticky", "rewrite", "upgrade", "request_headers", "response_headers"],
    later: &[("retry", "retry policies")],
};

/// `forward`.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Where requests go to.
    pub target: Target,
    /// Changes to path and host.
    pub rewrite: Rewrite,
    /// Protocols that connections may switch to: names in small letters, each once.
    pub upgrade: Vec<String>,
    /// Changes to the request.
    pub request_headers: HeaderEdits,
    /// Changes to the answer.
    pub response_headers: HeaderEdits,
}

pub(super) fn decode(
    value: &Value<'_>,
    matches: Option<&Match>,
    params: &Params,
    upstreams: &Names<'_>,
) -> Option<Forward> {
    let block = value.block(&KEYS)?;
    let target = split::target(&block, upstreams);
    let path = matches.map(|matches| matches.path.value.as_str());
    let rewrite = block.or("rewrite", Rewrite::default(), |v| rewrite::decode(v, path, params));
    let upgrade = block.get("upgrade").map_or_else(|| vec![upgrade::DEFAULT.to_owned()], upgrade::decode);
    let request_headers =
        block.or("request_headers", HeaderEdits::default(), |v| headers::edits(v, Direction::Request, params));
    let response_headers =
        block.or("response_headers", HeaderEdits::default(), |v| headers::edits(v, Direction::Response, params));
    let changes = [
        ("rewrite", rewrite != Rewrite::default()),
        ("upgrade", upgrade != [upgrade::DEFAULT]),
        ("request_headers", request_headers != HeaderEdits::default()),
        ("response_headers", response_headers != HeaderEdits::default()),
    ];
    for (key, _) in changes.iter().filter(|(_, given)| *given && matches.is_some_and(Match::is_connect)) {
        let at = block.get(key).unwrap_or(value);
        at.error("nothing that passes a tunnel can be changed", "remove it, or the method CONNECT");
    }
    Some(Forward { target: target?, rewrite, upgrade, request_headers, response_headers })
}
