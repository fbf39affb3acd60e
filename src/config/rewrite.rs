//! `rewrite` of a route that forwards: how path, query and host differ between the request and what the upstream gets, and what
//! of the answer is turned back.

use super::cookies;
use super::decode::{Keys, Value};
use super::hosts;
use super::query::{self, QueryEdits};
use super::report::{Located, quote};
use super::templates::{self, Params};
use crate::expression::Grouping;
use crate::http::set_cookie::CookieMap;
use crate::route;
use crate::route::replace::Replace;
use crate::route::template::{Template, TemplateError};
use crate::value::Invalid;

pub(super) const KEYS: Keys = Keys {
    known: &["strip_prefix", "add_prefix", "path", "regex", "query", "host", "location", "cookies"],
    later: &[],
};
pub(super) const REGEX_KEYS: Keys = Keys { known: &["match", "to"], later: &[] };

pub(super) const PATH_BYTES_MAX: usize = 1024;

/// How request and answer differ between client and upstream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rewrite {
    /// The path.
    pub path: PathRewrite,
    /// The query.
    pub query: QueryEdits,
    /// The Host field.
    pub host: HostRewrite,
    /// Whether Location and Content-Location that lead to the upstream lead through the gateway.
    pub location: bool,
    /// Attributes of the answer's cookies.
    pub cookies: CookieMap,
}

/// What becomes of the path.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum PathRewrite {
    /// As it was matched.
    #[default]
    Keep,
    /// First `strip` is taken from its front, if it is there as whole segments, then `add` is put in front. At least one
    /// is given; both begin with `/` and do not end with it.
    Prefix {
        /// Taken from the front.
        strip: Option<Located<String>>,
        /// Put in front.
        add: Option<Located<String>>,
    },
    /// A template that gives the whole path, like `/v2/{path.id}`.
    Template(Located<String>),
    /// A template of what an expression, that must match the whole path, finds in it. Other paths stay.
    Regex {
        /// See [`Replace::expression`].
        expression: Grouping,
        /// See [`Replace::new`].
        to: Located<String>,
    },
}

/// The Host field that the upstream gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostRewrite {
    /// The address of the endpoint as it is configured.
    #[default]
    Upstream,
    /// The Host of the request.
    Pass,
    /// This host, with a port if one was written.
    Literal(String),
}

/// The block; `pattern` is the path that the route matches, `params` are what templates may name.
pub(super) fn decode(value: &Value<'_>, pattern: Option<&str>, params: &Params) -> Option<Rewrite> {
    let block = value.block(&KEYS)?;
    let host = block.or("host", HostRewrite::Upstream, |v| match v.text()? {
        "upstream" => Some(HostRewrite::Upstream),
        "pass" => Some(HostRewrite::Pass),
        _ => v.parse(hosts::authority).map(HostRewrite::Literal),
    });
    let strip = block.get("strip_prefix").and_then(|v| strip_prefix(v, pattern));
    let add =
        block.get("add_prefix").and_then(|v| prefix(v, |add| route::rewrite::PathRewrite::prefix(None, Some(add))));
    let template = block.get("path").and_then(|v| target_template(v, &["/", "{"], params, Template::parse_path));
    let regex = block.get("regex").and_then(regex);
    let has_prefix = block.get("strip_prefix").is_some() || block.get("add_prefix").is_some();
    match (block.get("path"), block.get("regex")) {
        (Some(_), Some(at)) => at.error("gives the whole path, as path does", "use one of path and regex"),
        (Some(at), None) if has_prefix => {
            at.error("gives the whole path already", "use either path, or strip_prefix and add_prefix");
        }
        (None, Some(at)) if has_prefix => {
            at.error("gives the whole path already", "use either regex, or strip_prefix and add_prefix");
        }
        _ => {}
    }
    let path = match (template, regex, strip, add) {
        (Some(template), ..) => PathRewrite::Template(template),
        (None, Some((expression, to)), ..) => PathRewrite::Regex { expression, to },
        (None, None, None, None) => PathRewrite::Keep,
        (None, None, strip, add) => PathRewrite::Prefix { strip, add },
    };
    let query = block.or("query", QueryEdits::default(), |v| query::decode(v, params));
    let location = block.or("location", false, Value::boolean);
    let cookies = block.or("cookies", CookieMap::default(), cookies::decode);
    Some(Rewrite { path, query, host, location, cookies })
}

/// `regex`: what is found, and the path that it is made into.
fn regex(value: &Value<'_>) -> Option<(Grouping, Located<String>)> {
    let block = value.block(&REGEX_KEYS)?;
    let expression = block.required("match").and_then(|v| v.parse(Replace::expression));
    let to = block.required("to");
    let Some(expression) = expression else {
        // Which groups there are is not known; that there is no text at all can be told.
        to.and_then(Value::text);
        return None;
    };
    let groups = Params::Named(Replace::names(&expression));
    let to = to.and_then(|v| {
        target_template(v, &["/"], &groups, |text, groups| {
            let is_other_style = |(at, _): (usize, &str)| text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
            if text.match_indices(['$', '\\']).any(is_other_style) {
                return Err(TemplateError::new("a group is written in braces here: {1}; `$` itself is %24 in a path"));
            }
            Template::parse_path(text, groups)
        })
    })?;
    Some((expression, to))
}

fn prefix<T>(value: &Value<'_>, read: impl FnOnce(&str) -> Result<T, String>) -> Option<Located<String>> {
    let prefix = value.parse(|text| {
        if text.len() > PATH_BYTES_MAX {
            return Err(Invalid::new("is too long", format!("at most {PATH_BYTES_MAX} bytes")));
        }
        if !text.starts_with('/') || text.ends_with('/') {
            return Err(Invalid::new("is not a prefix", "it begins with `/` and does not end with it, like /user"));
        }
        if text.contains(['?', '#', '{', '}']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new(
                "is not a prefix: it has a character that no path has",
                "use `path` for a template",
            ));
        }
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(Invalid::new("is not a prefix: it has a segment `.` or `..`", "write the path it leads to"));
        }
        Ok(text.to_owned())
    })?;
    if let Err(what) = read(&prefix) {
        value.error(what, "");
        return None;
    }
    Some(value.locate(prefix))
}

/// A prefix that the route's own pattern rules out is a mistake that would otherwise do nothing, silently.
fn strip_prefix(value: &Value<'_>, pattern: Option<&str>) -> Option<Located<String>> {
    let strip = prefix(value, |strip| route::rewrite::PathRewrite::prefix(Some(strip), None))?;
    if let Some(pattern) = pattern {
        let literal = pattern.split('{').next().unwrap_or_default();
        let continues = strip.value.starts_with(literal) && literal.len() < pattern.len();
        let contained = literal.strip_prefix(&strip.value).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !continues && !contained {
            let what = format!("no path of {} begins with {}", quote(pattern), quote(&strip.value));
            value.error(what, "remove it, or change match.path");
        }
    }
    Some(strip)
}

/// A template for a path or a URL, which begins in one of these ways and is then read by `parse`.
pub(super) fn target_template(
    value: &Value<'_>,
    beginnings: &[&str],
    params: &Params,
    parse: impl FnOnce(&str, &[String]) -> Result<Template, TemplateError>,
) -> Option<Located<String>> {
    let template = value.parse(|text| {
        if text.len() > PATH_BYTES_MAX {
            return Err(Invalid::new("is too long", format!("at most {PATH_BYTES_MAX} bytes")));
        }
        if !beginnings.iter().any(|beginning| text.starts_with(beginning)) {
            let what = "does not begin as it must";
            return Err(Invalid::new(what, format!("with one of {}", beginnings.join(" "))));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new("has a space, a control character or a letter beyond ASCII", "percent-encode it"));
        }
        Ok(text.to_owned())
    })?;
    templates::checked(value, value.locate(template), params, parse)
}
