//! A Location that leads to the upstream, made to lead through the gateway: the way back of a path rewrite and of the Host.

use super::rewrite::PathRewrite;

/// As whom the upstream knows itself, and as whom the client knows the gateway.
pub struct Ends<'a> {
    /// How the upstream is spoken to: `http` or `https`.
    pub scheme: &'a str,
    /// Whether an authority is the upstream's: it is given without the port that the scheme, given too, has by default.
    pub is_own: &'a dyn Fn(&str, &str) -> bool,
    /// How the client asked: `http` or `https`.
    pub client_scheme: &'a str,
    /// Whom it asked; empty if it did not say.
    pub client_authority: &'a str,
    /// The path that it asked for.
    pub asked: &'a str,
}

/// An authority without the port that the scheme has by default (RFC 9110 4.2.1, 4.2.2).
pub fn without_default_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

/// Appends where `location` leads through the gateway; false if it stays as it is: it leads elsewhere, to where no path of
/// the client leads, or nothing changes.
pub fn location(location: &str, rewrite: &PathRewrite, ends: &Ends<'_>, out: &mut Vec<u8>) -> bool {
    let absolute = ["http", "https"].iter().find_map(|scheme| {
        let front = location.get(..scheme.len()).filter(|front| front.eq_ignore_ascii_case(scheme))?;
        location.get(front.len()..)?.strip_prefix("://").map(|rest| (*scheme, rest))
    });
    let other = || location.strip_prefix("//").map(|rest| (ends.scheme, rest));
    let (names_host, rest) = match absolute.or_else(other) {
        Some((scheme, rest)) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
            if authority.is_empty() || !(ends.is_own)(without_default_port(authority, scheme), scheme) {
                return false;
            }
            (true, rest)
        }
        None if location.starts_with('/') => (false, location),
        None => return false,
    };
    let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let Some((front, path)) = rewrite.back(path, ends.asked) else { return false };
    let start = out.len();
    if names_host && !ends.client_authority.is_empty() {
        for text in [ends.client_scheme, "://", ends.client_authority] {
            out.extend_from_slice(text.as_bytes());
        }
    }
    let at_path = out.len();
    for text in [front, path] {
        out.extend_from_slice(text.as_bytes());
    }
    if at_path == start {
        // Two slashes would be another host, and none another path. Browsers drop tabs (WHATWG URL 4.4).
        let slashes = out.iter().skip(start).take_while(|byte| matches!(byte, b'/' | b'\\' | b'\t')).count();
        out.drain(start..start + slashes);
        out.insert(start, b'/');
    }
    out.extend_from_slice(tail.as_bytes());
    if out.get(start..) == Some(location.as_bytes()) {
        out.truncate(start);
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn led(rewrite: &PathRewrite, authority: &str, from: &str) -> Option<String> {
        let ends = Ends {
            scheme: "http",
            is_own: &|authority, _| ["up:9000", "www.up"].contains(&authority.to_ascii_lowercase().as_str()),
            client_scheme: "https",
            client_authority: authority,
            asked: "/user/7",
        };
        let mut out = b"x".to_vec();
        let changed = location(from, rewrite, &ends, &mut out);
        assert!(changed || out == b"x");
        changed.then(|| String::from_utf8(out).unwrap().split_off(1))
    }

    #[test]
    fn what_is_the_upstreams_leads_back_and_what_is_not_stays() {
        let rewrite = PathRewrite::prefix(Some("/user"), Some("/v2")).unwrap();
        let led = |from: &str| led(&rewrite, "gw.example:8443", from);
        for (from, to) in [
            ("http://up:9000/v2/login?a=b#c", "https://gw.example:8443/user/login?a=b#c"),
            ("HTTPS://UP:9000/v2", "https://gw.example:8443/user"),
            ("http://www.up:80/v2/", "https://gw.example:8443/user/"),
            ("http://www.up/v2//evil.com", "https://gw.example:8443/user//evil.com"),
            ("//up:9000/v2/x", "https://gw.example:8443/user/x"),
            ("/v2/login", "/user/login"),
            ("/v2?x", "/user?x"),
        ] {
            assert_eq!(led(from).as_deref(), Some(to), "{from}");
        }
        for from in [
            "http://up:9001/v2/x",
            "http://www.up:443/v2/x",
            "http://evil.com/v2/x",
            "http://up:9000@evil.com/v2/x",
            "http://up:9000\\@evil.com/v2/",
            "http:///v2/x",
            "http:/v2/x",
            "//evil.com/v2/x",
            "/other",
            "/v22",
            "http://up:9000",
            "login",
            "?x",
            "",
            "mailto:a@b",
            "ftp://up:9000/v2/x",
            "http",
            "é",
        ] {
            assert_eq!(led(from), None, "{from}");
        }
    }

    #[test]
    fn a_path_alone_never_names_a_host() {
        let rewrite = PathRewrite::prefix(None, Some("/v2")).unwrap();
        assert_eq!(led(&rewrite, "", "http://up:9000/v2//evil.com").as_deref(), Some("/evil.com"));
        assert_eq!(led(&rewrite, "", "http://up:9000/v2?x").as_deref(), Some("/?x"));
        assert_eq!(led(&rewrite, "gw", "/v2//evil.com").as_deref(), Some("/evil.com"));
        assert_eq!(led(&rewrite, "gw", "/v2/\\evil.com").as_deref(), Some("/evil.com"));
        assert_eq!(led(&rewrite, "gw", "/v2/\t/evil.com").as_deref(), Some("/evil.com"));
        assert_eq!(led(&rewrite, "gw", "/v2/\t\\\t/evil.com").as_deref(), Some("/evil.com"));
        assert_eq!(led(&PathRewrite::Keep, "gw", "http://up:9000").as_deref(), Some("https://gw"));
        assert_eq!(led(&PathRewrite::Keep, "gw", "/x"), None);
    }
}
