//! `ext_auth`: a service that is asked about each request before it goes on.

use http::Method;

use super::super::decode::{Block, Keys, Value};
use super::super::headers::{self, Direction};
use super::super::references::Names;
use super::super::report::Located;
use super::super::templates::Params;
use super::super::{matching, rewrite};
use super::limits::{self, Fact};
use crate::filter::ext_auth::ABOUT_BODY;
use crate::http::known::Known;
use crate::route::template::Template;
use crate::value::{ByteSize, Duration, Invalid};

pub(in crate::config) const KEYS: Keys = Keys {
    known: &[
        "upstream",
        "path",
        "method",
        "headers",
        "response_headers",
        "client_headers",
        "refusal_headers",
        "principal",
        "timeout",
        "on_failure",
        "max_body",
        "cache",
    ],
    later: &[],
};
pub(in crate::config) const CACHE_KEYS: Keys = Keys { known: &["ttl", "key", "max_entries"], later: &[] };

/// Each is looked for in every request or answer; more than this is a mistake.
const FIELDS_MAX: usize = 64;
/// What of a refusal helps a client on: how to come in, where to go, and when.
const REFUSAL_HEADERS: [&str; 5] = ["www-authenticate", "location", "set-cookie", "retry-after", "cache-control"];

/// `ext_auth`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtAuth {
    /// Who is asked: the name of an upstream, which exists.
    pub upstream: Located<String>,
    /// Path and query of the question, as a template without path parameters.
    pub path: Located<String>,
    /// Its method.
    pub method: Method,
    /// The request's fields that go along, in lower case.
    pub headers: Vec<String>,
    /// Fields of an answer that lets it pass, which the upstream gets; in lower case.
    pub response_headers: Vec<String>,
    /// Fields of such an answer that the client gets; in lower case.
    pub client_headers: Vec<String>,
    /// Fields of a refusal that the client gets; in lower case.
    pub refusal_headers: Vec<String>,
    /// The field of an answer that says who calls, in lower case.
    pub principal: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// A request about which nobody says anything passes.
    pub allows_on_failure: bool,
    /// The largest body of an answer.
    pub max_body: ByteSize,
    /// For how long answers are remembered, if they are.
    pub cache: Option<Cache>,
}

/// `cache`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// How long an answer holds.
    pub ttl: Duration,
    /// What an answer depends on beside method, query and the fields that are sent; `None`: all that is sent.
    pub key: Option<Vec<Located<Fact>>>,
    /// Answers that are remembered, per process.
    pub max_entries: u32,
}

pub(super) fn decode(value: &Value<'_>, upstreams: &Names<'_>) -> Option<ExtAuth> {
    let block = value.block(&KEYS)?;
    let upstream = block.required("upstream").and_then(|v| upstreams.one(v));
    // It serves many routes, so that there are no path parameters that it could name.
    let none = Params::Named(Vec::new());
    let parse = |text: &str, params: &[String]| Template::parse_target(text, params, &[]);
    let path = block.required("path").and_then(|v| rewrite::target_template(v, &["/"], &none, parse));
    let to_client = |v: &Value<'_>| fields(v, told);
    let default = || REFUSAL_HEADERS.iter().map(|name| (*name).to_owned()).collect();
    let principal = block.unless_wrong("principal", None, |v| v.or_none(|v| v.parse(set)));
    let cache = block.unless_wrong("cache", None, |v| cache(v).map(Some));
    Some(ExtAuth {
        method: block.or("method", Method::GET, |v| v.parse(method)),
        headers: block.or("headers", vec!["authorization".into(), "cookie".into()], |v| fields(v, sent)),
        response_headers: block.or("response_headers", Vec::new(), |v| fields(v, set)),
        client_headers: block.or("client_headers", Vec::new(), to_client),
        refusal_headers: block.or("refusal_headers", default(), to_client),
        timeout: block
            .or("timeout", Duration::from_secs(1), |v| v.duration(Duration::from_millis(10)..=Duration::from_secs(60))),
        allows_on_failure: block.or("on_failure", false, |v| v.word(&[("deny", false), ("allow", true)], &[])),
        max_body: block
            .or("max_body", ByteSize::from_kib(16), |v| v.size(ByteSize::from_bytes(0)..=ByteSize::from_kib(256))),
        principal: principal?,
        cache: cache?,
        path: path?,
        upstream: upstream?,
    })
}

fn cache(value: &Value<'_>) -> Option<Cache> {
    let block = value.block(&CACHE_KEYS)?;
    let ttl = block.required("ttl").and_then(|v| v.duration(Duration::from_millis(100)..=Duration::from_secs(3600)));
    Some(Cache {
        key: cache_key(&block),
        max_entries: block.or("max_entries", 10_000, |v| v.count(16..=1_000_000)),
        ttl: ttl?,
    })
}

fn cache_key(block: &Block<'_>) -> Option<Vec<Located<Fact>>> {
    let given = block.get("key")?;
    let facts = limits::key(block);
    if facts.iter().any(|fact| matches!(fact.value, Fact::Path(_) | Fact::Route | Fact::Listener)) {
        let remedy =
            "the service is told neither of routes nor of listeners: leave the key out, and all that it is told counts";
        given.error("has a fact that no answer can depend on", remedy);
    }
    Some(facts)
}

fn method(text: &str) -> Result<Method, Invalid> {
    match text {
        "CONNECT" | "TRACE" => Err(Invalid::new("can not be the method of a question", "use GET")),
        _ => matching::method(text),
    }
}

fn fields(value: &Value<'_>, check: fn(&str) -> Result<String, Invalid>) -> Option<Vec<String>> {
    value.each_once(0..=FIELDS_MAX, |item| item.parse(check), String::as_str)
}

/// A field of the client that the service gets.
fn sent(text: &str) -> Result<String, Invalid> {
    headers::check_field(text, Direction::Part)?;
    let lower = text.to_ascii_lowercase();
    let is_own = ["accept-encoding", "x-original-url", "x-original-method"].contains(&lower.as_str());
    match Known::of(text.as_bytes()) {
        Known::Other | Known::Authorization if !is_own => Ok(lower),
        _ => {
            Err(Invalid::new("can not be sent on: the gateway itself tells what is known of the request", "remove it"))
        }
    }
}

/// A field of the service that the upstream gets.
fn set(text: &str) -> Result<String, Invalid> {
    headers::check_field(text, Direction::Request)?;
    match Known::of(text.as_bytes()) {
        // As who is logged in is told by some: X-Forwarded-User.
        Known::Other | Known::Authorization | Known::Forwarded | Known::ForwardedOther => Ok(text.to_ascii_lowercase()),
        _ => Err(Invalid::new("can not be taken from an answer: the gateway writes it itself", "remove it")),
    }
}

/// A field of the service that the client gets.
fn told(text: &str) -> Result<String, Invalid> {
    headers::check_field(text, Direction::Response)?;
    let lower = text.to_ascii_lowercase();
    let about_body = ABOUT_BODY.contains(&lower.as_str());
    if lower.starts_with("access-control-") {
        return Err(Invalid::new("is for pages of other origins", "the filter `cors` tells them"));
    }
    match Known::of(text.as_bytes()) {
        _ if lower == "content-range" => Err(Invalid::new("is about another body", "remove it")),
        _ if about_body => Err(Invalid::new("goes with the body by itself", "remove it")),
        Known::Other => Ok(lower),
        _ => Err(Invalid::new("can not be taken from an answer: the gateway writes it itself", "remove it")),
    }
}
