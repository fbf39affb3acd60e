//! What a config itself says is a credential, beside what names promise: what the log must not show, fields and parameters in
//! which filters look for one, and all cookies.

use super::{Class, Shown, secrets};
use crate::config::Config;
use crate::config::filters::Filter;
use crate::config::filters::jwt::Place;

/// Masks it, wherever a field, a parameter or a cookie has a value or is compared with one.
pub(super) fn hide(root: &mut Shown, config: &Config) {
    let redact = &config.observe.access_log.redact;
    let mut names: Vec<&str> = redact.headers.iter().chain(&redact.query).map(String::as_str).collect();
    for filter in &config.filters {
        match &filter.filter {
            Filter::ApiKey(key) => names.extend([&key.header, &key.query].into_iter().flatten().map(String::as_str)),
            Filter::Jwt(jwt) => names.extend(jwt.from.iter().map(|place| match place {
                Place::Header(name) | Place::Cookie(name) | Place::Query(name) => name.as_str(),
            })),
            _ => {}
        }
    }
    hide_in(root, ("", ""), &names);
}

/// `keys` are the last two that lead there.
fn hide_in(shown: &mut Shown, keys: (&str, &str), names: &[&str]) {
    match shown {
        Shown::Mapping(entries) => {
            let are_fields = secrets::are_fields(keys.1);
            for (key, value) in entries {
                if keys == ("match", "cookies") || are_fields && names.iter().any(|name| is_same(name, key)) {
                    mask(value);
                } else {
                    hide_in(value, (keys.1, key), names);
                }
            }
        }
        Shown::List(items) => items.iter_mut().for_each(|item| hide_in(item, keys, names)),
        Shown::Text(_) => {}
    }
}

/// To some upstreams `_` is the same as `-`.
fn is_same(name: &str, key: &str) -> bool {
    let letter = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.bytes().map(letter).eq(key.bytes().map(letter))
}

/// A value, or what values are compared with; `present` and `absent` tell nothing.
fn mask(shown: &mut Shown) {
    match shown {
        Shown::Text(text) if matches!(text.class, Class::Written | Class::Foreign) => text.class = Class::Secret,
        Shown::Text(_) => {}
        Shown::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| mask_all(value)),
        Shown::List(items) => items.iter_mut().for_each(mask_all),
    }
}

fn mask_all(shown: &mut Shown) {
    match shown {
        Shown::Text(text) => text.class = Class::Secret,
        _ => mask(shown),
    }
}
