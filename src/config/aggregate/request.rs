//! `request` of a part: what its upstream is asked. Nothing of the client's request is passed on but what is named.

use http::Method;

use super::scope::{Scope, Taken};
use super::{Body, Request, data};
use crate::config::decode::{Keys, Value};
use crate::config::headers::{self, Direction};
use crate::config::report::{Located, quote};
use crate::config::{matching, rewrite, templates};
use crate::http::known::Known;
use crate::route::body::BodyTemplate;
use crate::route::template::Template;
use crate::value::Invalid;

pub(in crate::config) const KEYS: Keys =
    Keys { known: &["method", "path", "headers", "set_headers", "query", "body"], later: &[] };

/// Each is work for every request; more than this is a mistake.
const FIELDS_MAX: usize = 100;
const QUERY_NAME_BYTES_MAX: usize = 128;
/// Every worker holds it.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The block, and the method by itself: what is wrong with one key does not keep others from being checked.
pub(super) struct Draft<'d> {
    pub(super) request: Option<Request>,
    /// `None` if it is wrong.
    pub(super) method: Option<Method>,
    /// Where the method stands, or else the block.
    pub(super) method_at: Value<'d>,
}

pub(super) fn decode<'d>(value: &Value<'d>, scope: &Scope<'_>, taken: &Taken<'_, 'd>) -> Draft<'d> {
    let Some(block) = value.block(&KEYS) else {
        return Draft { request: None, method: None, method_at: value.clone() };
    };
    let method = block.unless_wrong("method", Method::GET, |v| v.parse(method));
    let path = block.required("path").and_then(|v| path(v, scope, taken));
    let headers = block.or("headers", Vec::new(), passed_headers);
    let set_headers = block.or("set_headers", Vec::new(), |v| {
        headers::fields_read_by(v, Direction::Part, |value, text| {
            let names = taken.take(value, &Template::names(&text.value));
            let parse = |text: &str, params: &[String]| Template::parse_sent_header(text, params, &names);
            templates::checked(value, text, scope.params, parse)
        })
    });
    if let Some(both) = headers.iter().find(|name| set_headers.iter().any(|set| headers::is_same(&set.name, name))) {
        let what = format!("{} is both passed and set", quote(both));
        block.get("headers").unwrap_or(value).error(what, "remove it from headers or from set_headers");
    }
    let query = block.or("query", Vec::new(), passed_query);
    let path_query = path.as_ref().and_then(|path| path.value.split_once('?')).map_or("", |(_, query)| query);
    let in_path = |name: &&String| path_query.split('&').any(|pair| pair.split('=').next() == Some(name.as_str()));
    if let Some(both) = query.iter().find(in_path) {
        let what = format!("{} is both passed and in the path: upstreams differ in which they take", quote(both));
        block.get("query").unwrap_or(value).error(what, "remove it from query or from path");
    }
    let body = block.or("body", Body::None, |v| body(v, scope, taken));
    if let (Some(method @ (Method::GET | Method::HEAD)), true) = (&method, body != Body::None) {
        let what = format!("a {method} has no body (RFC 9110 9.3.1)");
        block.get("body").unwrap_or(value).error(what, "write body: none, or method: POST");
    }
    let whole = || Some(Request { method: method.clone()?, path: path?, headers, set_headers, query, body });
    let request = whole();
    Draft { request, method, method_at: block.get("method").unwrap_or(value).clone() }
}

fn method(text: &str) -> Result<Method, Invalid> {
    match text {
        "HEAD" | "CONNECT" | "TRACE" => {
            Err(Invalid::new("can not be the method of a part: there is no JSON in the answer", "use GET"))
        }
        _ => matching::method(text),
    }
}

fn path<'d>(value: &Value<'d>, scope: &Scope<'_>, taken: &Taken<'_, 'd>) -> Option<Located<String>> {
    // What is too long is told below, and not searched.
    let text = value.plain_text().filter(|text| text.len() <= rewrite::PATH_BYTES_MAX).unwrap_or_default();
    let names = taken.take(value, &Template::names(text));
    rewrite::target_template(value, &["/"], scope.params, |text, params| Template::parse_target(text, params, &names))
}

/// Names of fields in lower case.
fn passed_headers(value: &Value<'_>) -> Option<Vec<String>> {
    value.each_once(0..=FIELDS_MAX, |item| item.parse(passed_header), String::as_str)
}

fn passed_header(text: &str) -> Result<String, Invalid> {
    headers::check_field(text, Direction::Part)?;
    if ["content-type", "content-encoding", "content-language"].iter().any(|own| headers::is_same(text, own)) {
        return Err(Invalid::new("goes with the body by itself", "remove it; `body: pass` brings it along"));
    }
    match Known::of(text.as_bytes()) {
        Known::Other | Known::Authorization | Known::Date | Known::StrictTransportSecurity => {}
        Known::Forwarded | Known::ForwardedOther => {
            let remedy = "clients could claim anything in it; write it with set_headers, like \"{client_ip}\"";
            return Err(Invalid::new("can not be passed", remedy));
        }
        Known::HopByHop | Known::Te | Known::Trailer | Known::Connection => {
            return Err(Invalid::new("can not be passed: it is about the client's own connection", "remove it"));
        }
        _ => return Err(Invalid::new("can not be passed: the gateway writes it itself", "remove it")),
    }
    Ok(text.to_ascii_lowercase())
}

fn passed_query(value: &Value<'_>) -> Option<Vec<String>> {
    let name = |text: &str| {
        let is_name = |c: char| c.is_ascii_graphic() && !"&=#+%?".contains(c);
        match text.len() {
            1..=QUERY_NAME_BYTES_MAX if text.chars().all(is_name) => Ok(text.to_owned()),
            _ => Err(Invalid::new(
                "is not the name of a query parameter",
                format!("1 to {QUERY_NAME_BYTES_MAX} characters without & = # + % ?"),
            )),
        }
    };
    value.each_once(0..=FIELDS_MAX, |item| item.parse(name), String::as_str)
}

/// A mapping or list is JSON whose strings may have values in them; text is JSON already, with values in and between its
/// strings.
fn body<'d>(value: &Value<'d>, scope: &Scope<'_>, taken: &Taken<'_, 'd>) -> Option<Body> {
    let text = if value.is_mapping() || value.is_list() {
        data::json(value)?
    } else {
        match value.text()? {
            "none" => return Some(Body::None),
            "pass" => return Some(Body::Pass),
            text if text.len() > BODY_BYTES_MAX => {
                value.error("is too long", format!("at most {} KiB", BODY_BYTES_MAX >> 10));
                return None;
            }
            text => text.to_owned(),
        }
    };
    let found = BodyTemplate::names(&text);
    let names = taken.take(value, &found);
    let params = scope.params.of_names(&found.into_iter().map(str::to_owned).collect::<Vec<_>>());
    match BodyTemplate::parse(&text, &params, &names) {
        Ok(_) => Some(Body::Template(value.locate(text))),
        Err(fault) => {
            value.error(fault.to_string(), "or write none or pass");
            None
        }
    }
}
