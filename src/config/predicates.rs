//! `match.headers`, `match.cookies` and `match.query`: what a route wants beside host, path and method.

use http::HeaderName;

use super::decode::{Block, Keys, Value, check_name};
use super::report::quote;
use super::secrets;
use crate::expression::Expression;
use crate::route::predicates::{Place, Predicate, Test};
use crate::value::Invalid;

pub(super) const PREDICATE_KEYS: Keys = Keys { known: &["equals", "prefix", "regex"], later: &[] };

/// Names of one place that a route may look at: each is looked for in all of them.
pub(super) const NAMES_MAX: usize = 16;
/// Values that one may equal.
pub(super) const VALUES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;
const BLANK: [char; 2] = [' ', '\t'];
const PLACES: [(&str, Place); 3] = [("headers", Place::Header), ("cookies", Place::Cookie), ("query", Place::Query)];

/// ` header.x-beta`, for names of routes.
pub(super) fn label(predicate: &Predicate) -> String {
    let place = match predicate.place {
        Place::Header => "header",
        Place::Cookie => "cookie",
        Place::Query => "query",
    };
    match check_name(&predicate.name) {
        Ok(()) => format!(" {place}.{}", predicate.name),
        Err(_) => format!(" {place}"),
    }
}

/// All predicates of a `match`, sorted; `None` if one is wrong, which is recorded.
pub(super) fn decode(block: &Block<'_>) -> Option<Vec<Predicate>> {
    let mut all_right = true;
    let mut predicates: Vec<Predicate> = Vec::new();
    for (key, place) in PLACES {
        let Some(value) = block.get(key) else { continue };
        let Some(entries) = value.entries(NAMES_MAX) else {
            all_right = false;
            continue;
        };
        for (key, value) in entries {
            let at_key = value.at_key(key);
            let name = name(&at_key, place, &key.text);
            let is_secret = place == Place::Cookie || secrets::is_likely(&key.text);
            let test = test(&value, place, is_secret);
            let (Some(name), Some((test, shown))) = (name, test) else {
                all_right = false;
                continue;
            };
            if predicates.iter().any(|other| other.place == place && other.name == name) {
                at_key.error(
                    format!("{} is here twice", quote(&name)),
                    "remove one; case does not matter, nor does `_` for `-` in fields",
                );
                all_right = false;
            }
            predicates.push(Predicate { place, name, test, shown });
        }
    }
    predicates.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
    all_right.then_some(predicates)
}

fn name(at_key: &Value<'_>, place: Place, text: &str) -> Option<String> {
    let is_token = || HeaderName::from_bytes(text.as_bytes()).is_ok();
    let fault = match place {
        Place::Header if !is_token() => Some(("is not the name of a header field", "like x-beta")),
        Place::Header if text.eq_ignore_ascii_case("host") => {
            Some(("is matched by a key of its own", "use `host` of match"))
        }
        // RFC 6265 4.1.1: the name of a cookie is a token.
        Place::Cookie if !is_token() => Some(("is not the name of a cookie", "like session")),
        Place::Query if text.is_empty() || text.len() > TEXT_BYTES_MAX => {
            Some(("is not the key of a query", "1 to 1024 bytes, as it is meant: without %XX"))
        }
        _ => None,
    };
    if let Some((what, remedy)) = fault {
        at_key.error(format!("{} {what}", quote(text)), remedy);
        return None;
    }
    // To some upstreams `_` and `-` are the same in the name of a field, and so they are to predicates.
    Some(if place == Place::Header { text.to_ascii_lowercase().replace('_', "-") } else { text.to_owned() })
}

/// What is wanted, and what of it may be shown.
fn test(value: &Value<'_>, place: Place, is_secret: bool) -> Option<(Test, String)> {
    if !value.is_mapping() {
        return value.parse(|text| match text {
            "present" => Ok((Test::Present, String::new())),
            "absent" => Ok((Test::Absent, String::new())),
            _ => {
                // As it may be shown: it may be a credential, and come from a variable.
                let shown = value.shown(is_secret);
                let remedy = format!("present, absent, {{ equals: {shown} }}, {{ prefix: … }} or {{ regex: … }}");
                Err(Invalid::new("is not a word that is known here", remedy))
            }
        });
    }
    let block = value.block(&PREDICATE_KEYS)?;
    let given: Vec<_> = PREDICATE_KEYS.known.iter().filter_map(|key| Some((*key, block.get(key)?))).collect();
    let [(key, wanted)] = given.as_slice() else {
        value.error("says not one thing", format!("give exactly one of {}", PREDICATE_KEYS.known.join(", ")));
        return None;
    };
    let text = |value: &Value<'_>| value.parse(|text| check_text(text, text.trim_end_matches(BLANK), place));
    match *key {
        "equals" if wanted.is_list() => {
            let pair = |value: &Value<'_>| Some((text(value)?, value.shown(is_secret)));
            let mut texts = wanted.each_once(1..=VALUES_MAX, pair, |(text, _)| text.as_str())?;
            texts.sort_unstable();
            let (texts, mut shown): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
            shown.dedup(); // several secrets
            Some((Test::Equals(texts), shown.join(" or ")))
        }
        "equals" => Some((Test::Equals(vec![text(wanted)?]), wanted.shown(is_secret))),
        "prefix" => wanted
            .parse(|text| match text {
                "" => Err(Invalid::new("is empty", "write `present` where any value will do")),
                // What ends in a blank may go on behind it.
                text => check_text(text, text, place),
            })
            .map(|text| (Test::Prefix(text), wanted.shown(is_secret))),
        _ => wanted.parse(Expression::parse).map(|regex| (Test::Regex(regex), wanted.shown(is_secret))),
    }
}

/// `trimmed` is what of the text may be left at its end, when a field with it is read.
fn check_text(text: &str, trimmed: &str, place: Place) -> Result<String, Invalid> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Invalid::new("is too long", format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    // Only what is escaped in a query can be anything.
    if place != Place::Query && text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Invalid::new(
            "has a control character in it",
            "no request that is let in has one there: remove it",
        ));
    }
    // RFC 9110 5.5: blanks around the value of a field are no part of it.
    if place == Place::Header && trimmed.trim_start_matches(BLANK) != text {
        return Err(Invalid::new("has a blank at its start or end", "fields are read without those: remove it"));
    }
    if place == Place::Cookie && text.contains(';') {
        return Err(Invalid::new("has a `;` in it", "a cookie ends there: remove it"));
    }
    Ok(text.to_owned())
}
