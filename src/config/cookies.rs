//! `rewrite.cookies`: Domain and Path of the cookies that the upstream sets, as the client is to have them.

use super::decode::{Keys, Value};
use super::hosts;
use super::report::quote;
use crate::http::set_cookie::CookieMap;
use crate::value::Invalid;

pub(super) const KEYS: Keys = Keys { known: &["domain", "path"], later: &[] };

/// Each is compared with every cookie; more than this is a mistake.
const ENTRIES_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 1024;

pub(super) fn decode(value: &Value<'_>) -> Option<CookieMap> {
    let block = value.block(&KEYS)?;
    let domains = block.or("domain", Vec::new(), |v| {
        pairs(v, domain, |v| {
            v.or_none(|v| v.parse(|text| if text.is_empty() { Err(no_domain()) } else { domain(text) }))
        })
    });
    let mut paths = block.or("path", Vec::new(), |v| pairs(v, path, |v| v.parse(path)));
    // The longest that fits is meant, wherever it stands.
    paths.sort_by_key(|(from, _): &(String, String)| std::cmp::Reverse(from.len()));
    Some(CookieMap { domains, paths })
}

fn pairs<'d, T>(
    value: &Value<'d>,
    read_key: fn(&str) -> Result<String, Invalid>,
    read: impl Fn(&Value<'d>) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    let mut pairs: Vec<(String, T)> = Vec::new();
    for (key, value) in value.entries(ENTRIES_MAX)? {
        let to = read(&value);
        match read_key(&key.text) {
            Err(fault) => {
                value.at_key(key).error(format!("{} {}", quote(&key.text), fault.what), fault.remedy);
            }
            Ok(from) if pairs.iter().any(|(earlier, _)| *earlier == from) => {
                value.at_key(key).error(format!("{} is given twice", quote(&key.text)), "remove one");
            }
            Ok(from) => pairs.extend(to.map(|to| (from, to))),
        }
    }
    Some(pairs)
}

fn no_domain() -> Invalid {
    Invalid::new("is not a domain", "write one like example.com; none leaves the attribute out")
}

/// In small letters, without the leading dot that means nothing.
fn domain(text: &str) -> Result<String, Invalid> {
    let bare = text.strip_prefix('.').unwrap_or(text);
    let host = hosts::authority(bare)?;
    if host.contains(':') {
        return Err(Invalid::new("has a port, and cookies know none", "remove the port"));
    }
    Ok(host)
}

fn path(text: &str) -> Result<String, Invalid> {
    let is_path = text.starts_with('/') && text.len() <= PATH_BYTES_MAX;
    // RFC 6265 4.1.1: a semicolon would end the attribute.
    if !is_path || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        let remedy = format!("it begins with `/`, has no space and no `;`, and at most {PATH_BYTES_MAX} bytes");
        return Err(Invalid::new("is not the path of a cookie", remedy));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{report::Report, tree};
    use super::*;

    fn read(text: &str) -> Result<CookieMap, String> {
        let report = Report::new("f");
        let root = tree::read(text, &|_| None, &report).unwrap();
        let map = decode(&Value::root(&root, &report));
        report.finish(map).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_longest_path_comes_first_and_domains_are_small() {
        let map = read("domain: { .Users.Internal: Example.com, a.b: none }\npath: { /: /x, /v2: /user }").unwrap();
        let domains = [("users.internal".to_owned(), Some("example.com".to_owned())), ("a.b".to_owned(), None)];
        assert_eq!(map.domains, domains);
        assert_eq!(map.paths, [("/v2".to_owned(), "/user".to_owned()), ("/".to_owned(), "/x".to_owned())]);
    }

    #[test]
    fn what_would_break_a_cookie_is_refused() {
        for (text, why) in [
            ("path: { v2: /user }", "is not the path of a cookie"),
            ("path: { /v2: '/a; Domain=evil' }", "is not the path of a cookie"),
            ("path: { /v2: \"/a\\r\\nb\" }", "is not the path of a cookie"),
            ("domain: { a.b: 'c d' }", "is not a label"),
            ("domain: { a.b: 'c:80' }", "has a port"),
            ("domain: { a.b: c.d, A.b: e.f }", "given twice"),
            ("domain: { a.b: '' }", "is not a domain"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
