//! What a log line must not show: the values of some header fields and query keys, and passwords in URLs.
//!
//! Keys are compared as whoever reads the query may: percent-decoded, in any case, and with the brackets of a list behind
//! them (`token[]`). Where a pair holds `;`, which old readers take for `&`, all behind the first hidden key is hidden.

use crate::text;

/// What is shown instead.
pub const HIDDEN: &[u8] = b"***";

/// Fields whose values are credentials, in any message.
pub const HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token"];

/// Query keys whose values are credentials: of RFC 6750 and of OAuth clients, and what else is called so everywhere.
pub const QUERY: [&str; 6] = ["access_token", "id_token", "refresh_token", "client_secret", "password", "api_key"];

/// Names of fields and query keys whose values are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redact {
    headers: Vec<String>,
    query: Vec<String>,
}

impl Default for Redact {
    fn default() -> Self {
        Self::new(&[], &[])
    }
}

impl Redact {
    /// These, beside [`HEADERS`] and [`QUERY`].
    pub fn new(headers: &[&str], query: &[&str]) -> Self {
        let lower = |always: &[&str], more: &[&str]| {
            let mut names: Vec<String> = [always, more].concat().iter().map(|name| name.to_ascii_lowercase()).collect();
            names.sort();
            names.dedup();
            names
        };
        Self { headers: lower(&HEADERS, headers), query: lower(&QUERY, query) }
    }

    /// Whether the value of a field of this name is hidden. To some upstreams `_` is the same as `-`.
    pub fn hides_header(&self, name: &str) -> bool {
        let letter = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
        self.headers.iter().any(|hidden| hidden.bytes().map(letter).eq(name.bytes().map(letter)))
    }

    /// Whether the value of a query key is hidden, however it is written.
    pub fn hides_key(&self, written: &[u8]) -> bool {
        self.query.iter().any(|hidden| {
            let mut letters = text::decoded(written, true).map(|b| b.to_ascii_lowercase());
            hidden.bytes().all(|b| letters.next() == Some(b)) && matches!(letters.next(), None | Some(b'['))
        })
    }

    /// Gives a query to `write`, piece by piece.
    pub(super) fn query(&self, query: &[u8], write: &mut dyn FnMut(&[u8])) {
        for (n, pair) in query.split(|b| *b == b'&').enumerate() {
            if n > 0 {
                write(b"&");
            }
            match self.hidden_from(pair) {
                None => write(pair),
                Some(at) => {
                    write(pair.get(..at).unwrap_or_default());
                    write(HIDDEN);
                }
            }
        }
    }

    /// The same for a URL, without its fragment, which may hold tokens too, and without name and password.
    pub(super) fn url(&self, url: &[u8], with_query: bool, write: &mut dyn FnMut(&[u8])) {
        let url = url.split(|b| *b == b'#').next().unwrap_or_default();
        let at = memchr::memchr(b'?', url).unwrap_or(url.len());
        let (place, query) = url.split_at_checked(at).unwrap_or((url, b""));
        match login_of(place) {
            None => write(place),
            Some((from, to)) => {
                write(place.get(..from).unwrap_or_default());
                write(HIDDEN);
                write(place.get(to..).unwrap_or_default());
            }
        }
        if let (true, Some(query)) = (with_query, query.strip_prefix(b"?")) {
            write(b"?");
            self.query(query, write);
        }
    }

    /// Where in a pair of a query its hidden part begins.
    pub fn hidden_from(&self, pair: &[u8]) -> Option<usize> {
        let mut at = 0;
        for part in pair.split(|b| *b == b';') {
            if let Some(equals) = memchr::memchr(b'=', part)
                && self.hides_key(part.get(..equals).unwrap_or_default())
            {
                return Some(at + equals + 1);
            }
            at += part.len() + 1;
        }
        None
    }
}

/// The part of a request target that is logged: up to its query or fragment. A login in it, which is no part of any target
/// that is served (RFC 9110 4.2.4), and all before it are left out.
pub fn shown_path(target: &[u8]) -> &[u8] {
    let path = target.get(..memchr::memchr2(b'?', b'#', target).unwrap_or(target.len())).unwrap_or_default();
    if path.first() == Some(&b'/') { path } else { without_login(path) }
}

#[cold]
fn without_login(target: &[u8]) -> &[u8] {
    let authority = authority_of(target).or_else(|| target.split(|b| *b == b'/').next().map(|part| (0, part.len())));
    let login = authority.and_then(|(from, to)| memchr::memrchr(b'@', target.get(from..to)?).map(|at| from + at + 1));
    target.get(login.unwrap_or(0)..).unwrap_or_default()
}

/// From where to where a URL has name and password.
fn login_of(place: &[u8]) -> Option<(usize, usize)> {
    let (from, to) = authority_of(place)?;
    memchr::memrchr(b'@', place.get(from..to)?).map(|at| (from, from + at))
}

/// Where the authority of a URL is: behind `//`, which begins it or follows its scheme.
fn authority_of(place: &[u8]) -> Option<(usize, usize)> {
    let slashes = memchr::memmem::find(place, b"//")?;
    if slashes > 0 && place.get(slashes - 1) != Some(&b':') {
        return None;
    }
    let from = slashes + 2;
    Some((from, from + memchr::memchr2(b'/', b'\\', place.get(from..)?).unwrap_or(place.len() - from)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> String {
        let mut out = Vec::new();
        write(&mut |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_of_named_keys_are_hidden_however_the_keys_are_written() {
        let redact = Redact::new(&[], &["Token", "code"]);
        for (query, expected) in [
            ("a=1&token=s&b=2", "a=1&token=***&b=2"),
            ("token=s&TOKEN=t&ToKeN=", "token=***&TOKEN=***&ToKeN=***"),
            ("%74oken=s&tok%65n=s=t", "%74oken=***&tok%65n=***"),
            ("token[]=s&token%5b0%5D=t", "token[]=***&token%5b0%5D=***"),
            ("tokens=1&atoken=2&token&tok=3", "tokens=1&atoken=2&token&tok=3"),
            ("a=1;token=s;t&code=x;y", "a=1;token=***&code=***"),
            ("access_token=s&Password=t", "access_token=***&Password=***"),
            ("", ""),
            ("&&=&=token", "&&=&=token"),
        ] {
            assert_eq!(shown(|write| redact.query(query.as_bytes(), write)), expected, "{query}");
        }
    }

    #[test]
    fn urls_lose_login_fragment_and_hidden_values() {
        let redact = Redact::default();
        for (url, with, without) in [
            ("https://a/b?id_token=x&y=1#access_token=z", "https://a/b?id_token=***&y=1", "https://a/b"),
            ("https://user:pa@ss@a/b@c?x=1", "https://***@a/b@c?x=1", "https://***@a/b@c"),
            ("//user@a", "//***@a", "//***@a"),
            ("/a//b@c", "/a//b@c", "/a//b@c"),
            ("#access_token=z", "", ""),
            ("nonsense", "nonsense", "nonsense"),
        ] {
            assert_eq!(shown(|write| redact.url(url.as_bytes(), true, write)), with, "{url}");
            assert_eq!(shown(|write| redact.url(url.as_bytes(), false, write)), without, "{url}");
        }
    }

    #[test]
    fn of_a_target_only_the_path_is_logged() {
        for (target, path) in [
            ("/a/b?c", "/a/b"),
            ("/a#access_token=x", "/a"),
            ("/a//b@c", "/a//b@c"),
            ("http://a/b@c?x", "http://a/b@c"),
            ("http://user:pass@a/b?x", "a/b"),
            ("user:pass@a:443", "a:443"),
            ("a:443", "a:443"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(shown_path(target.as_bytes()), path.as_bytes(), "{target}");
        }
    }

    #[test]
    fn fields_are_hidden_in_any_case_and_with_underscores() {
        let redact = Redact::new(&["X-My-Key"], &[]);
        assert!(
            ["x-my-key", "X_MY-KEY", "Cookie", "SET-COOKIE", "x_api_key"].iter().all(|name| redact.hides_header(name))
        );
        assert!(!redact.hides_header("x-my-keys") && !redact.hides_header("user-agent"));
    }
}
