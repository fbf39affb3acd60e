//! `match` of a route: which requests are meant.

use http::Method;

use super::decode::{Block, Keys, Value};
use super::hosts::{self, HostMatch};
use super::predicates;
use super::report::Located;
use super::templates::Params;
use crate::route::predicates::Predicate;
use crate::route::{TrailingSlash, param_names};
use crate::value::Invalid;

pub(super) const KEYS: Keys = Keys {
    known: &["host", "path", "methods", "headers", "cookies", "query", "priority", "trailing_slash"],
    later: &[],
};

const PATH_BYTES_MAX: usize = 1024;
/// Room enough to order routes, and short enough to be read.
pub(super) const PRIORITY_MAX: i32 = 1000;

/// Which requests are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// `None`: any host.
    pub host: Option<Located<HostMatch>>,
    /// A pattern that begins with `/`, like `/user/{id}` or `/user/{*rest}`.
    pub path: Located<String>,
    /// Sorted, each once; empty: any method.
    pub methods: Vec<Method>,
    /// What else must hold: sorted, each name of a place once.
    pub predicates: Vec<Predicate>,
    /// Higher ones are asked first.
    pub priority: i32,
    /// What a slash at the end of the path means.
    pub trailing_slash: Located<TrailingSlash>,
}

/// `GET,POST api.example.com/user/{id} header.x-beta`, of which only the path is always there.
pub(super) fn derived_name(matches: &Match) -> String {
    let methods: Vec<&str> = matches.methods.iter().map(Method::as_str).collect();
    let space = if methods.is_empty() { "" } else { " " };
    let host = matches.host.as_ref().map(|host| host.value.to_string()).unwrap_or_default();
    let predicates: String = matches.predicates.iter().map(predicates::label).collect();
    format!("{}{space}{host}{}{predicates}", methods.join(","), matches.path.value)
}

/// The match if all of it is right, and in any case the parameters of its path, as far as they can be made out.
pub(super) fn decode(value: &Value<'_>) -> (Option<Match>, Params) {
    let Some(block) = value.block(&KEYS) else { return (None, Params::Any) };
    let host = block.get("host").map(|v| Some(v.locate(v.parse(hosts::host_match)?)));
    let path_value = block.required("path").and_then(|v| Some((v, v.text()?)));
    let params = path_value.map_or(Params::Any, |(_, text)| Params::of(text));
    let path = path_value.and_then(|(v, _)| path(v));
    let methods = block
        .get("methods")
        .map_or(Some(Vec::new()), |v| methods(v).inspect(|methods| check_connect(v, methods, path.as_ref())));
    let predicates = predicates::decode(&block);
    let priority = block.unless_wrong("priority", 0, |v| v.integer(-PRIORITY_MAX..=PRIORITY_MAX));
    let trailing_slash = trailing_slash(&block);
    // What is wrong must not turn into "any host" or "any method", nor must the derived name.
    let host = match host {
        None => Some(None),
        Some(host) => host.map(Some),
    };
    let whole = || {
        let (host, path, methods, priority) = (host?, path?, methods?, priority?);
        let trailing_slash = match trailing_slash? {
            Some(given) => given,
            None => Located { value: TrailingSlash::default(), at: path.at.clone() },
        };
        Some(Match { host, path, methods, predicates: predicates?, priority, trailing_slash })
    };
    (whole(), params)
}

fn trailing_slash(block: &Block<'_>) -> Option<Option<Located<TrailingSlash>>> {
    const WORDS: [(&str, TrailingSlash); 3] =
        [("strict", TrailingSlash::Strict), ("match", TrailingSlash::Match), ("redirect", TrailingSlash::Redirect)];
    block.unless_wrong("trailing_slash", None, |v| v.word(&WORDS, &[]).map(|word| Some(v.locate(word))))
}

/// CONNECT asks for a tunnel and names no path (RFC 9110 9.3.6): nothing else is routed like it.
fn check_connect(value: &Value<'_>, methods: &[Method], path: Option<&Located<String>>) {
    if !methods.contains(&Method::CONNECT) {
        return;
    }
    if methods.len() > 1 {
        value.error("CONNECT is together with other methods", "give it a route of its own");
    }
    if let Some(path) = path.filter(|path| path.value != "/") {
        value.report().error(
            &path.at,
            "CONNECT names no path",
            "write `path: /`, and the host that it names in `host`",
        );
    }
}

/// A pattern is compared with paths after their dot segments are removed and before `?`.
fn path(value: &Value<'_>) -> Option<Located<String>> {
    let path = value.parse(|text| {
        if !text.starts_with('/') {
            return Err(Invalid::new("does not begin with `/`", "a path is matched from its start, like /user/{id}"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(Invalid::new("is too long", format!("at most {PATH_BYTES_MAX} bytes")));
        }
        if text.contains(['?', '#']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let remedy = "write it percent-encoded, without query and fragment";
            return Err(Invalid::new("has a character that no path has", remedy));
        }
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(Invalid::new("has a segment `.` or `..`", "requests are matched after those are removed"));
        }
        Ok(text.to_owned())
    })?;
    if let Err(fault) = param_names(&path) {
        value.error(fault.what(), fault.remedy());
        return None;
    }
    Some(value.locate(path))
}

impl Match {
    /// Whether it is for tunnels that a client asks for by CONNECT.
    pub fn is_connect(&self) -> bool {
        self.methods.contains(&Method::CONNECT)
    }
}

pub(super) fn methods(value: &Value<'_>) -> Option<Vec<Method>> {
    let items = value.list(1..=32)?;
    let mut methods: Vec<Method> = items.iter().filter_map(|item| item.parse(method)).collect();
    let all_right = methods.len() == items.len();
    methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    methods.dedup();
    all_right.then_some(methods)
}

pub(super) fn method(text: &str) -> Result<Method, Invalid> {
    let token = Method::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= 32);
    match token {
        None => Err(Invalid::new("is not a method", "like GET")),
        // Methods differ by case (RFC 9110 9.1), and none in use has a small letter.
        Some(_) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            Err(Invalid::new("is not a method", format!("methods are in capitals: {}", text.to_ascii_uppercase())))
        }
        Some(method) => Ok(method),
    }
}
