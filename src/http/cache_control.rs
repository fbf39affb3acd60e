//! Cache-Control (RFC 9111 5.2) of an answer that is for one client alone.

use super::known::is_same_name;

/// What keeps an answer out of shared caches.
#[derive(Debug, PartialEq, Eq)]
pub enum Private {
    /// It says so already.
    Said,
    /// One more line: `private`.
    Add,
    /// A line instead of all others: what they say contradicts it, and not every cache believes the stricter of two.
    Instead(Vec<u8>),
}

/// What must become of the Cache-Control lines with these values. For the client's own cache they say what they did.
pub fn private(values: &[&[u8]]) -> Private {
    let directives =
        || values.iter().copied().flat_map(Directives).map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
    // `private="set-cookie"` is about one field, and many caches do not know that form (RFC 9111 5.2.2.7).
    let says = |directive: &[u8]| is_same_name(directive, b"private") || is_same_name(directive, b"no-store");
    let contradicts = |directive: &[u8]| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        [&b"public"[..], b"s-maxage", b"private"].iter().any(|other| is_same_name(name, other))
    };
    if directives().any(says) {
        return Private::Said;
    }
    if !directives().any(contradicts) {
        return Private::Add;
    }
    // In front: behind a quote that never ends it would be part of it.
    let mut instead = b"private".to_vec();
    for directive in directives().filter(|directive| !contradicts(directive)) {
        instead.extend_from_slice(b", ");
        instead.extend_from_slice(directive);
    }
    Private::Instead(instead)
}

/// Whether a field tells caches of a network what to do whatever Cache-Control says: `CDN-Cache-Control` and a network's own in that form
/// (RFC 9213), or what came before it.
pub fn is_for_networks(name: &[u8]) -> bool {
    const SUFFIX: &[u8] = b"cdn-cache-control";
    let end = name.len().checked_sub(SUFFIX.len()).and_then(|at| name.get(at..));
    end.is_some_and(|end| is_same_name(end, SUFFIX)) || is_same_name(name, b"surrogate-control")
}

/// The parts of a list between commas that are not within quotes.
struct Directives<'a>(&'a [u8]);

impl<'a> Iterator for Directives<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.iter().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' => return !quoted,
                _ => {}
            }
            false
        });
        let (directive, rest) = self.0.split_at_checked(end.unwrap_or(self.0.len())).unwrap_or_default();
        self.0 = rest.get(1..).unwrap_or_default();
        Some(directive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Private {
        private(&values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_said_is_left_and_what_contradicts_is_taken_out() {
        for said in [&["private"][..], &["max-age=1, Private"], &["public", "no-store"], &["s-maxage=1 ,\tNO-STORE ,"]]
        {
            assert_eq!(of(said), Private::Said, "{said:?}");
        }
        for silent in [&[][..], &[""], &["max-age=60"], &["no-cache", "must-revalidate"], &["x=\"private, no-store\""]]
        {
            assert_eq!(of(silent), Private::Add, "{silent:?}");
        }
        for (values, expected) in [
            (&["public"][..], "private"),
            (&["public, max-age=60", "s-maxage=600, immutable"], "private, max-age=60, immutable"),
            (&["Public , S-MaxAge = 9"], "private"),
            (&["private=\"set-cookie, x\", max-age=60"], "private, max-age=60"),
            (&["no-cache=\"a, public\", public"], "private, no-cache=\"a, public\""),
            (&["public, x=\"\\\", private\""], "private, x=\"\\\", private\""),
            (&["s-maxage=1, x=\"open, private"], "private, x=\"open, private"),
        ] {
            assert_eq!(of(values), Private::Instead(expected.into()), "{values:?}");
        }
    }

    #[test]
    fn fields_for_networks_are_known_by_their_end() {
        for name in ["CDN-Cache-Control", "cloudflare-cdn-cache-control", "Surrogate-Control"] {
            assert!(is_for_networks(name.as_bytes()), "{name}");
        }
        for name in ["Cache-Control", "cdn-cache-control-x", "surrogate-control2", ""] {
            assert!(!is_for_networks(name.as_bytes()), "{name}");
        }
    }
}
