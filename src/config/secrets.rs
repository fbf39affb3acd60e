//! What of a config is not shown: neither by `check --print` nor in messages. Whether a value is a secret is told by what the
//! key promises, since nobody can tell it from the value; a key too many costs no more than three stars.

use std::borrow::Cow;

/// What is written for a secret.
pub(super) const MASK: &str = "***";

/// Parts of names whose values are credentials, wherever they stand in the name.
const WORDS: [&str; 8] = ["secret", "passw", "token", "key", "cookie", "credential", "signature", "authoriz"];
/// The same, where they are a whole word of the name.
const WHOLE_WORDS: [&str; 4] = ["auth", "sig", "pass", "pwd"];
/// What stands before a credential in Authorization and says nothing of it (RFC 9110 11.4).
const SCHEMES: [&str; 5] = ["basic", "bearer", "token", "apikey", "digest"];

/// Blocks whose keys are names of fields.
const FIELDS: [&str; 6] = ["set", "add", "append", "headers", "cookies", "query"];

/// Whether what a field, a parameter or a key of this name holds is probably a credential.
pub fn is_likely(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WHOLE_WORDS.contains(&word))
}

/// Whether the keys of a block are names of fields, parameters or cookies.
pub(super) fn are_fields(block: &str) -> bool {
    FIELDS.iter().any(|fields| block.ends_with(fields))
}

/// Whether it is a variable and nothing else: it tells where a secret comes from, and nothing of it.
pub(super) fn is_one_variable(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// A credential as it may be shown: only what is a variable, and the scheme before it.
pub(super) fn masked(text: &str) -> String {
    let word = |text: &str| if is_one_variable(text) { text.to_owned() } else { MASK.to_owned() };
    match text.split_once(' ') {
        Some((scheme, rest)) if SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            format!("{scheme} {}", word(rest))
        }
        _ => word(text),
    }
}

/// A URL, or a path with a query, without passwords and without the values of parameters that are credentials, unless they
/// are variables. Another text stays as it is.
pub(super) fn without_passwords(url: &str) -> Cow<'_, str> {
    let mask = |text: &str| if text.is_empty() || is_one_variable(text) { text.to_owned() } else { MASK.to_owned() };
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let shown = match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (login, rest))) => {
            let login = match login.split_once(':') {
                Some((user, password)) => format!("{user}:{}", mask(password)),
                None => login.to_owned(),
            };
            Cow::Owned(format!("{scheme}://{login}@{rest}"))
        }
        None => Cow::Borrowed(url),
    };
    let Some(query) = query else { return shown };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if is_likely(name) => format!("{name}={}", mask(value)),
        _ => pair.to_owned(),
    };
    Cow::Owned(format!("{shown}?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&")))
}

/// A value in a message about the key that `key_path` leads to.
pub(super) fn in_message<'t>(key_path: &str, text: &'t str) -> Cow<'t, str> {
    let mut keys = key_path.rsplit('.');
    let (mut key, mut block) = (keys.next().unwrap_or_default(), keys.next().unwrap_or_default());
    // What the value of a field is compared with tells it too.
    if ["equals", "prefix"].iter().any(|with| key.starts_with(with)) {
        (key, block) = (block, keys.next().unwrap_or_default());
    }
    // Keys of the config's own, as `key: ip` of a limit, hold none.
    let is_credential = are_fields(block) && is_likely(key) || block == "cookies" && keys.next() == Some("match");
    if is_credential && !is_one_variable(text) { Cow::Borrowed(MASK) } else { without_passwords(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_promise_a_credential() {
        for name in [
            "Authorization",
            "proxy-authorization",
            "cookie",
            "x-vault-token",
            "api-key",
            "apikey",
            "x-auth-key",
            "X-Auth",
            "private-token",
            "sig",
            "client_secret",
            "password",
        ] {
            assert!(is_likely(name), "{name}");
        }
        for name in ["x-gateway", "x-author", "host", "content-type", "x-signal", "passage", "x-request-id"] {
            assert!(!is_likely(name), "{name}");
        }
    }

    #[test]
    fn a_credential_shows_its_variable_and_its_scheme_only() {
        for (text, shown) in [
            ("${A}", "${A}"),
            ("Bearer ${A}", "Bearer ${A}"),
            ("Bearer HARD-${A}", "Bearer ***"),
            ("Basic cGFzcw==", "Basic ***"),
            ("HARD$$CODED", "***"),
            ("${A:-default}", "***"),
            ("two words", "***"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn urls_lose_passwords() {
        for (url, shown) in [
            ("${URL}", "${URL}"),
            ("redis://:${A}@h:1", "redis://:${A}@h:1"),
            ("redis://:a${A}@h:1", "redis://:***@h:1"),
            ("https://u:p@h/x?api_key=1&x=2&sig=${S}", "https://u:***@h/x?api_key=***&x=2&sig=${S}"),
            ("https://user@h/x", "https://user@h/x"),
            ("/check?token=abc&next={path}", "/check?token=***&next={path}"),
            ("a text", "a text"),
        ] {
            assert_eq!(without_passwords(url), shown);
        }
        assert_eq!(in_message("filters.f.request_headers.set.X-Token", "a\u{7}b"), MASK);
        assert_eq!(in_message("routes[0].match.cookies.sid.equals[1]", "a"), MASK);
        assert_eq!(in_message("routes[0].forward.rewrite.cookies.domain", "a"), "a");
        assert_eq!(in_message("filters.f.jwt.jwks", "https://u:p@h/"), "https://u:***@h/");
    }
}
