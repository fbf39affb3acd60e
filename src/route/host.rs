//! Host patterns: exact names, `*.suffix` wildcards, and everything else.
//!
//! A wildcard stands for one label or more: `*.example.com` is asked for `a.example.com` and `a.b.example.com`, not for
//! `example.com`.

use std::collections::HashMap;

use super::level::Level;

/// Longest name in the DNS, and so the longest that can match anything but "any host" (RFC 1035 2.3.4). It also bounds
/// the number of wildcards tried for one request.
const NAME_BYTES_MAX: usize = 253;

type Names = HashMap<Box<str>, Level, foldhash::fast::RandomState>;

/// The routes by host level.
#[derive(Default)]
pub(super) struct Hosts {
    exact: Names,
    /// By what follows the `*.`.
    wildcards: Names,
    any: Level,
}

/// A host pattern that was read, in lower case.
enum Host {
    Exact(String),
    Wildcard(String),
}

impl Hosts {
    /// The level for a route's host.
    ///
    /// # Errors
    /// What is wrong with the pattern, and the remedy.
    pub(super) fn level(&mut self, pattern: Option<&str>) -> Result<&mut Level, (String, String)> {
        Ok(match pattern.map(read).transpose()? {
            None => &mut self.any,
            Some(Host::Exact(name)) => self.exact.entry(name.into()).or_default(),
            Some(Host::Wildcard(suffix)) => self.wildcards.entry(suffix.into()).or_default(),
        })
    }

    /// Asks the levels in their order until one answers: the exact name, wildcards from the longest, any.
    #[inline]
    pub(super) fn find<T>(&self, host: &str, mut ask: impl FnMut(&Level) -> Option<T>) -> Option<T> {
        if self.exact.is_empty() && self.wildcards.is_empty() {
            return ask(&self.any);
        }
        self.find_named(host, &mut ask).or_else(|| ask(&self.any))
    }

    /// All levels, in no order.
    pub(super) fn levels(&self) -> impl Iterator<Item = &Level> {
        self.exact.values().chain(self.wildcards.values()).chain([&self.any])
    }

    fn find_named<T>(&self, host: &str, ask: &mut impl FnMut(&Level) -> Option<T>) -> Option<T> {
        // A name may end with the dot of the DNS root (RFC 9110 4.2.3 leaves that to the DNS: it is the same host).
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || host.len() > NAME_BYTES_MAX {
            return None;
        }
        if let Some(found) = self.exact.get(host).and_then(&mut *ask) {
            return Some(found);
        }
        if self.wildcards.is_empty() {
            return None;
        }
        let suffixes = std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, suffix)| suffix));
        suffixes.skip(1).find_map(|suffix| self.wildcards.get(suffix).and_then(&mut *ask))
    }
}

fn read(pattern: &str) -> Result<Host, (String, String)> {
    let name = pattern.strip_prefix("*.").unwrap_or(pattern);
    let fault = |what: String, remedy: &str| Err((what, remedy.to_owned()));
    if pattern == "*" {
        return fault("`*` is no host".into(), "leave `host` out to match any host");
    }
    if name.contains('*') {
        return fault(format!("the host `{pattern}` has a `*` that is not its first label"), "write `*.example.com`");
    }
    if name.contains('/') {
        return fault(format!("the host `{pattern}` has a slash"), "write the name alone, without scheme and path");
    }
    let address = name.starts_with('[') && name.ends_with(']') && name == pattern;
    if name.contains(':') && !address {
        return fault(
            format!("the host `{pattern}` has a colon"),
            "write it without port (hosts are compared without one); an IPv6 address needs brackets",
        );
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || (address && "[]:%".contains(c));
    if let Some(c) = name.chars().find(|c| !plain(*c)) {
        return fault(format!("the host `{pattern}` has {c:?} in it"), "write non-ASCII names in their `xn--` form");
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name.len() > NAME_BYTES_MAX || name.split('.').any(str::is_empty) {
        return fault(
            format!("`{pattern}` is no host name"),
            "write a name like `api.example.com` or `*.example.com`, of at most 253 bytes, or leave `host` out",
        );
    }
    Ok(if pattern.starts_with("*.") { Host::Wildcard(name) } else { Host::Exact(name) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refuses_what_is_no_host_and_says_what_is_right() {
        let cases = [
            ("*", "leave `host` out"),
            ("a.*.com", "*.example.com"),
            ("*a.com", "*.example.com"),
            ("http://a.com", "without scheme"),
            ("a.com:80", "without port"),
            ("*.[::1]", "without port"),
            ("bücher.de", "xn--"),
            ("a b", "xn--"),
            ("", "leave `host` out"),
            ("a..b", "leave `host` out"),
            ("*.", "leave `host` out"),
        ];
        for (pattern, expected) in cases {
            let (_, remedy) = Hosts::default().level(Some(pattern)).err().unwrap();
            assert!(remedy.contains(expected), "{pattern}: {remedy}");
        }
        for pattern in ["a.com", "*.a.com", "A.COM.", "[::1]", "localhost", "10.0.0.1"] {
            assert!(Hosts::default().level(Some(pattern)).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn levels_are_asked_from_exact_to_any() {
        let mut hosts = Hosts::default();
        for pattern in ["a.b.c", "*.b.c", "*.c"] {
            hosts.level(Some(pattern)).unwrap();
        }
        let levels_asked = |host: &str| {
            let mut count = 0;
            hosts.find(host, |_| {
                count += 1;
                None::<()>
            });
            count
        };
        assert_eq!(levels_asked("a.b.c"), 4);
        assert_eq!(levels_asked("x.b.c"), 3);
        assert_eq!(levels_asked("b.c"), 2);
        assert_eq!(levels_asked("c"), 1);
        assert_eq!(levels_asked(""), 1);
    }
}
