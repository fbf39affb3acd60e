//! The path that is sent to the upstream.

use super::pattern::is_dots;
use super::template::{Facts, Place, Template, TemplateError};

/// What happens to a request's path on its way to the upstream. The query is never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRewrite {
    /// Nothing.
    #[default]
    Keep,
    /// A prefix is taken off, or put in front, or the one is replaced by the other.
    Prefix(Prefix),
    /// The path is made anew.
    Template(Template),
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
        Ok(if prefix == Prefix::default() { PathRewrite::Keep } else { PathRewrite::Prefix(prefix) })
    }

    /// Makes the path from a template, see [`Template::parse_path`].
    ///
    /// # Errors
    /// What is wrong with the template, and what would be right.
    pub fn template(text: &str, params: &[String]) -> Result<PathRewrite, TemplateError> {
        Template::parse_path(text, params).map(PathRewrite::Template)
    }

    /// Appends the request target in origin form (RFC 9112 3.2.1): the path, which always begins with `/`, and the query.
    pub fn apply<F: Facts>(&self, path: &str, query: Option<&str>, facts: &F, out: &mut Vec<u8>) {
        match self {
            PathRewrite::Keep => push_path(out, "", path),
            PathRewrite::Prefix(Prefix { strip, add }) => push_path(out, add, stripped(path, strip)),
            PathRewrite::Template(template) => {
                let start = out.len();
                template.render(facts, Place::Path, out);
                // Only a template that begins with `{path}` can get here, with a path that begins without slash.
                if out.get(start) != Some(&b'/') {
                    out.insert(start, b'/');
                }
            }
        }
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
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
    if prefix.split('/').any(is_dots) {
        return Err(format!("the prefix `{prefix}` has a dot segment; write the path that it leads to"));
    }
    Ok(prefix.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::tests::{Request, names};
    use super::*;

    fn apply(rewrite: &PathRewrite, path: &'static str, query: Option<&'static str>) -> String {
        let request = Request { params: ["7", "a"], query, header: b"", path };
        let mut out = b"GET ".to_vec();
        rewrite.apply(path, query, &request, &mut out);
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
            assert_eq!(apply(&rewrite, path, None), expected, "{strip:?} {add:?} {path}");
        }
    }

    #[test]
    fn the_query_stays_as_it_is() {
        let rewrite = PathRewrite::prefix(Some("/user"), None).unwrap();
        assert_eq!(apply(&rewrite, "/user", Some("a=%2f?&b")), "/?a=%2f?&b");
        assert_eq!(apply(&PathRewrite::Keep, "/user", Some("")), "/user?");
    }

    #[test]
    fn templates_make_a_path() {
        let rewrite = PathRewrite::template("/users/{id}", &names()).unwrap();
        assert_eq!(apply(&rewrite, "/x", Some("q=1")), "/users/7?q=1");
        let rewrite = PathRewrite::template("{path}/x", &names()).unwrap();
        assert_eq!(apply(&rewrite, "", None), "/x");
        assert_eq!(apply(&rewrite, "a", None), "/a/x");
    }

    #[test]
    fn bad_prefixes_are_refused() {
        for prefix in ["user", "", "/a?b", "/a b", "/{id}", "/a/../b", "/."] {
            assert!(PathRewrite::prefix(Some(prefix), None).is_err(), "{prefix}");
            assert!(PathRewrite::prefix(None, Some(prefix)).is_err(), "{prefix}");
        }
    }
}
