//! `forward` of a route: which upstream gets the request, and what is changed on the way there and back.

use super::decode::{Keys, Value};
use super::headers::{self, Direction, HeaderEdits};
use super::matching::Match;
use super::references::Names;
use super::report::Located;
use super::rewrite::{self, Rewrite};
use super::templates::Params;
use super::upgrade;

pub(super) const KEYS: Keys = Keys {
    known: &["upstream", "rewrite", "upgrade", "request_headers", "response_headers"],
    later: &[("split", "weighted splits"), ("retry", "retry policies")],
};

/// `forward`.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// The name of an upstream, which exists.
    pub upstream: Located<String>,
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
    // A split, of a later version, is already told about: it stands for the upstream.
    let split = value.keys().any(|key| key == "split");
    let upstream = if split { None } else { block.required("upstream").and_then(|v| upstreams.one(v)) };
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
    Some(Forward { upstream: upstream?, rewrite, upgrade, request_headers, response_headers })
}
