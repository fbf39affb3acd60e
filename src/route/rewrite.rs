//! The path that is sent to the upstream.

use super::encode;
use super::replace::Replace;
use super::template::{Facts, Place, Template, TemplateError};
use crate::http::target;

/// What happens to a request's path on its way to the upstream.
#[derive(Clone, Debug, Default)]
pub enum PathRewrite {
    /// Nothing.
    #[default]
    Keep,
    /// A prefix is taken off, or put in front, or the one is replaced by the other.
    Prefix(Prefix),
    /// The path is made anew.
    Template(Template),
    /// The same, of what an expression finds in it. A path that it does not match stays.
    Regex(Box<Replace>),
}

/// Prefixes of whole segments, each empty or `/like/this`, without a slash at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    strip: String,
    add: String,
}

impl PathRewrite {
    /// Takes `strip` off paths that begin with it, then puts `add` in front. `/user` is taken off `/user` and `/user/1`,
    /// not off `/users`; paths that do not begin with `strip` get `add` all the same.
    ///
    /// # Errors
    /// What is wrong with a prefix, and what would be right.
    pub fn prefix(strip: Option<&str>, add: Option<&str>) -> Result<PathRewrite, String> {
        let prefix = Prefix { strip: read_prefix(strip)?, add: read_prefix(add)? };
        // It is looked for in paths that are normalised; what is put in front is sent as it is.
        if let Some(c) = encode::stranger(&prefix.strip) {
            return Err(format!("{c:?} can not be in the path of a request; write {}", encode::triplets(c)));
        }
        match target::spelling(&prefix.strip) {
            Ok(spelling) if spelling == prefix.strip => {}
            Ok(spelling) => {
                let strip = &prefix.strip;
                return Err(format!("no path begins with `{strip}`, since paths are normalised; write `{spelling}`"));
            }
            Err(fault) => return Err(format!("no path begins with `{}`, since {fault}; remove it", prefix.strip)),
        }
        Ok(if prefix == Prefix::default() { PathRewrite::Keep } else { PathRewrite::Prefix(prefix) })
    }

    /// Makes the path from a template, see [`Template::parse_path`].
    ///
    /// # Errors
    /// What is wrong with the template, and what would be right.
    pub fn template(text: &str, params: &[String]) -> Result<PathRewrite, TemplateError> {
        Template::parse_path(text, params).map(PathRewrite::Template)
    }

    /// Appends the path of the request target in origin form (RFC 9112 3.2.1), which always begins with `/`.
    pub fn apply<F: Facts>(&self, path: &str, facts: &F, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            PathRewrite::Keep => push_path(out, "", path),
            PathRewrite::Prefix(Prefix { strip, add }) => push_path(out, add, stripped(path, strip)),
            PathRewrite::Template(template) => {
                template.render(facts, Place::Path, out);
                one_slash(out, start);
            }
            PathRewrite::Regex(replace) if replace.apply(path, facts, out) => one_slash(out, start),
            PathRewrite::Regex(_) => push_path(out, "", path),
        }
    }

    /// The path under which the client finds what the upstream calls `path`: the way back, for the answer to a request for
    /// `asked`. `None` if there is none, or nobody knows. The first part of the answer comes before the second.
    pub fn back<'p>(&'p self, path: &'p str, asked: &str) -> Option<(&'p str, &'p str)> {
        match self {
            PathRewrite::Prefix(Prefix { strip, add }) => {
                let rest = path.strip_prefix(add.as_str())?;
                if !(rest.is_empty() || add.is_empty() || rest.starts_with('/')) {
                    return None;
                }
                // What was not taken off is not put back.
                let front = if stripped(asked, strip).len() == asked.len() { "" } else { strip };
                Some((front, rest))
            }
            _ => Some(("", path)),
        }
    }
}

/// A path that was put together begins with one slash: two would be another host to many, and one that is missing (only a
/// template that begins with `{path}` can get there) is none.
fn one_slash(out: &mut Vec<u8>, start: usize) {
    let slashes = out.iter().skip(start).take_while(|byte| **byte == b'/').count();
    match slashes {
        0 => out.insert(start, b'/'),
        1 => {}
        more => drop(out.drain(start..start + more - 1)),
    }
}

/// `path` without `strip`; empty if that was all of it. What is left of `/st//evil.com` must not begin with two slashes:
/// to many that is another host.
fn stripped<'p>(path: &'p str, strip: &str) -> &'p str {
    match path.strip_prefix(strip) {
        Some(rest) if rest.starts_with("//") && !strip.is_empty() => {
            rest.get(rest.len() - rest.trim_start_matches('/').len() - 1..).unwrap_or_default()
        }
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

fn push_path(out: &mut Vec<u8>, add: &str, path: &str) {
    out.extend_from_slice(add.as_bytes());
    // `/user` with `/user` replaced by `/api` is `/api`, not `/api/`.
    if !path.starts_with('/') && (add.is_empty() || !path.is_empty()) {
        out.push(b'/');
    }
    out.extend_from_slice(path.as_bytes());
}

fn read_prefix(prefix: Option<&str>) -> Result<String, String> {
    let Some(prefix) = prefix else { return Ok(String::new()) };
    if !prefix.starts_with('/') {
        return Err(format!("the prefix `{prefix}` does not begin with a slash; write `/{prefix}`"));
    }
    if prefix.contains(['{', '}']) {
        return Err(format!("the prefix `{prefix}` has braces; use a path template to put values into the path"));
    }
    if let Some(c) = prefix.chars().find(|c| !c.is_ascii_graphic() || "?#".contains(*c)) {
        return Err(format!("{c:?} can not be in a path; write it percent-encoded, like %20, or remove it"));
    }
    if encode::has_lone_percent(prefix) {
        return Err("a `%` is not followed by two hexadecimal digits; write %25 for the sign itself".to_owned());
    }
    if encode::has_dot_segments(prefix.as_bytes()) {
        return Err(format!("the prefix `{prefix}` has a dot segment; write the path that it leads to"));
    }
    Ok(prefix.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::tests::{Request, names};
    use super::*;

    fn apply(rewrite: &PathRewrite, path: &'static str) -> String {
        let request = Request { params: ["7", "/a"], query: None, header: b"", path };
        let mut out = b"GET ".to_vec();
        rewrite.apply(path, &request, &mut out);
        String::from_utf8(out).unwrap().split_off(4)
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let cases = [
            (Some("/user"), None, "/user/1", "/1"),
            (Some("/user/"), None, "/user/1", "/1"),
            (Some("/user"), None, "/user", "/"),
            (Some("/user"), None, "/user/", "/"),
            (Some("/user"), None, "/users", "/users"),
            (Some("/user"), None, "/other", "/other"),
            (None, Some("/api/"), "/x", "/api/x"),
            (None, Some("/api"), "/", "/api/"),
            (Some("/user"), Some("/api"), "/user", "/api"),
            (Some("/user"), Some("/api"), "/user/", "/api/"),
            (Some("/user"), Some("/api"), "/user/1", "/api/1"),
            (Some("/user"), Some("/api"), "/x", "/api/x"),
            (Some("/"), None, "/x", "/x"),
            (None, None, "/x", "/x"),
            (None, None, "", "/"),
            (None, Some("/api"), "x", "/api/x"),
        ];
        for (strip, add, path, expected) in cases {
            let rewrite = PathRewrite::prefix(strip, add).unwrap();
            assert_eq!(apply(&rewrite, path), expected, "{strip:?} {add:?} {path}");
        }
    }

    #[test]
    fn templates_and_expressions_make_a_path() {
        let rewrite = PathRewrite::template("/users/{id}", &names()).unwrap();
        assert_eq!(apply(&rewrite, "/x"), "/users/7");
        let rewrite = PathRewrite::template("{path}/x", &names()).unwrap();
        assert_eq!(apply(&rewrite, ""), "/x");
        assert_eq!(apply(&rewrite, "a"), "/a/x");
        assert_eq!(apply(&PathRewrite::template("/{rest}", &names()).unwrap(), "/x"), "/a");
        let replace = Replace::new(Replace::expression("/old(/.*)").unwrap(), "/{1}").unwrap();
        let rewrite = PathRewrite::Regex(Box::new(replace));
        assert_eq!(apply(&rewrite, "/old///evil.com"), "/evil.com");
        assert_eq!(apply(&rewrite, "/other"), "/other");
    }

    #[test]
    fn the_way_back_of_a_prefix() {
        for (strip, add, path, asked, back) in [
            (Some("/user"), None, "/login", "/user/1", Some(("/user", "/login"))),
            (Some("/user"), Some("/v2"), "/v2/login", "/user/1", Some(("/user", "/login"))),
            (Some("/user"), Some("/v2"), "/v2", "/user", Some(("/user", ""))),
            (Some("/user"), Some("/v2"), "/v22", "/user/1", None),
            (Some("/user"), Some("/v2"), "/other", "/user/1", None),
            (None, Some("/v2"), "/v2/x", "/x", Some(("", "/x"))),
            (Some("/user"), Some("/v2"), "/v2/x", "/other", Some(("", "/x"))),
        ] {
            let rewrite = PathRewrite::prefix(strip, add).unwrap();
            assert_eq!(rewrite.back(path, asked), back, "{strip:?} {add:?} {path} {asked}");
        }
        assert_eq!(PathRewrite::Keep.back("/x", "/y"), Some(("", "/x")));
    }

    #[test]
    fn bad_prefixes_are_refused() {
        for prefix in ["user", "", "/a?b", "/a b", "/{id}", "/a/../b", "/."] {
            assert!(PathRewrite::prefix(Some(prefix), None).is_err(), "{prefix}");
            assert!(PathRewrite::prefix(None, Some(prefix)).is_err(), "{prefix}");
        }
    }
}
