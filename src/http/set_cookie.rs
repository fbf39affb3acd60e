//! Set-Cookie with another Domain or Path (RFC 6265 4.1.1). Everything else stays byte for byte, also what is broken.

/// What attributes become.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CookieMap {
    /// Domains, in small letters and without a leading dot, and what they become; `None`: the attribute is left out, and the
    /// cookie belongs to the host that was asked.
    pub domains: Vec<(String, Option<String>)>,
    /// Paths of whole segments, the longest first, and what they become.
    pub paths: Vec<(String, String)>,
}

impl CookieMap {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.paths.is_empty()
    }

    /// Appends the value of a Set-Cookie field as it becomes; false if it stays as it is.
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let mut changed = false;
        for (index, part) in value.split(|byte| *byte == b';').enumerate() {
            let kept = out.len();
            if index > 0 {
                out.push(b';');
            }
            out.extend_from_slice(part);
            // The first is name and value, whatever it is called.
            let Some(at) = part.iter().position(|byte| *byte == b'=').filter(|_| index > 0) else { continue };
            let (name, said) = (part.get(..at).unwrap_or_default(), part.get(at + 1..).unwrap_or_default());
            let said = said.trim_ascii();
            let new = if name.trim_ascii().eq_ignore_ascii_case(b"domain") {
                self.domain(said)
            } else if name.trim_ascii().eq_ignore_ascii_case(b"path") {
                self.path(said).map(Some)
            } else {
                None
            };
            if let Some(new) = new {
                changed = true;
                out.truncate(kept);
                if let Some(new) = new {
                    out.push(b';');
                    out.extend_from_slice(part.get(..=at).unwrap_or_default());
                    out.extend_from_slice(&new);
                }
            }
        }
        if !changed {
            out.truncate(start);
        }
        changed
    }

    fn domain(&self, said: &[u8]) -> Option<Option<Vec<u8>>> {
        // RFC 6265 5.2.3: a leading dot means nothing.
        let said = said.strip_prefix(b".").unwrap_or(said);
        let (_, to) = self.domains.iter().find(|(from, _)| said.eq_ignore_ascii_case(from.as_bytes()))?;
        Some(to.as_ref().map(|to| to.clone().into_bytes()))
    }

    fn path(&self, said: &[u8]) -> Option<Vec<u8>> {
        self.paths.iter().find_map(|(from, to)| {
            let rest = said.strip_prefix(from.trim_end_matches('/').as_bytes())?;
            if !(rest.is_empty() || rest.starts_with(b"/")) || said.is_empty() {
                return None;
            }
            let new = [to.trim_end_matches('/').as_bytes(), rest].concat();
            Some(if new.is_empty() { b"/".to_vec() } else { new })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(value: &str) -> Option<String> {
        let map = CookieMap {
            domains: vec![("users.internal".into(), Some("example.com".into())), ("gone.internal".into(), None)],
            paths: vec![
                ("/v2/admin".into(), "/admin".into()),
                ("/v2".into(), "/".into()),
                ("/".into(), "/user".into()),
            ],
        };
        let mut out = b"x".to_vec();
        let changed = map.apply(value.as_bytes(), &mut out);
        assert!(changed || out == b"x");
        changed.then(|| String::from_utf8(out).unwrap_or_default().split_off(1))
    }

    #[test]
    fn only_the_attributes_change() {
        for (value, expected) in [
            ("a=b; Domain=users.internal; Path=/v2/x; Secure", "a=b; Domain=example.com; Path=/x; Secure"),
            ("a=b;domain = .USERS.internal ;HttpOnly", "a=b;domain =example.com;HttpOnly"),
            ("a=b; Domain=gone.internal; Secure", "a=b; Secure"),
            ("a=b; path=/v2", "a=b; path=/"),
            ("a=b; path=/v2/", "a=b; path=/"),
            ("a=b; path=/v2/admin/x", "a=b; path=/admin/x"),
            ("a=b; path=/v22", "a=b; path=/user/v22"),
            ("a=b; path=/", "a=b; path=/user/"),
            ("domain=users.internal; ; =; path=/x; path=/y", "domain=users.internal; ; =; path=/user/x; path=/user/y"),
        ] {
            assert_eq!(applied(value).as_deref(), Some(expected), "{value}");
        }
        for value in
            ["", ";", "a=b", "a=b; Domain=other; Path=\"/v2\"", "a=b; Path; Domain; Path=", "path=/v2", "a=b; Path=x"]
        {
            assert_eq!(applied(value), None, "{value}");
        }
    }
}
