//! Credentials are taken out of an explanation by the rules of the access log: where they are told by the names of fields and
//! query keys, and logins of URLs, wherever these are written; and then their values, wherever templates have put them. In
//! messages, fields that the config may fill with its own secrets are hidden by the rules of `check --print` as well.

use std::ops::Range;

use crate::config::is_likely_secret;
use crate::observe::redact::Redact;
use crate::proxy::explain::Explanation;
use crate::text;

const HIDDEN: &str = "***";
/// Shorter values are hidden where they are told by a name only: they would be found in any text.
const SECRET_BYTES_MIN: usize = 4;

/// Puts `***` in place of what in the request of this head is a credential.
pub(super) fn credentials(told: &mut Explanation, head: &[u8], redact: &Redact) {
    let secrets = secrets(&String::from_utf8_lossy(head), redact);
    let hide = |text: &mut String| *text = without(&pairs_and_logins(text, redact), &secrets);
    for message in told.sent.iter_mut().map(|sent| &mut sent.request).chain(told.answer.iter_mut().map(|a| &mut a.head))
    {
        *message = fields(message, redact);
        hide(message);
    }
    if let Some(answer) = &mut told.answer {
        hide(&mut answer.body);
    }
    if let Some(request) = &mut told.request {
        [&mut request.method, &mut request.host, &mut request.path].into_iter().for_each(&hide);
        request.query.iter_mut().for_each(&hide);
    }
    if let Some(route) = &mut told.route {
        route.params.iter_mut().for_each(|(_, value)| hide(value));
    }
    told.others.iter_mut().for_each(|other| hide(&mut other.why));
    told.filters.iter_mut().for_each(|step| hide(&mut step.does));
}

/// Values of a request that are hidden, the longest first: of what is a part of another, that is shown no more.
fn secrets(head: &str, redact: &Redact) -> Vec<Vec<u8>> {
    let mut found: Vec<&str> = Vec::new();
    for line in head.lines() {
        match line.split_once(':') {
            Some((name, value)) if redact.hides_header(name) => {
                let value = value.trim();
                found.push(value);
                // Behind a scheme, and of each cookie.
                found.extend(value.split_once(' ').map(|(_, behind)| behind.trim()));
                found.extend(value.split(';').filter_map(|pair| Some(pair.split_once('=')?.1.trim())));
            }
            _ => {
                for hidden in spans(line, redact).into_iter().filter_map(|span| line.get(span)) {
                    found.push(hidden);
                    // A password alone, and each of the pairs that `;` parts.
                    found.extend(hidden.split_once(':').map(|(_, password)| password));
                    found.extend(hidden.split(';').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)));
                }
            }
        }
    }
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for value in found {
        // As filters and templates may have decoded it, and as that is shown.
        let decoded: Vec<u8> = text::decoded(value.as_bytes(), true).collect();
        secrets.push(text::decoded(value.as_bytes(), false).collect());
        secrets.push(String::from_utf8_lossy(&decoded).into_owned().into_bytes());
        secrets.push(decoded);
        secrets.push(value.as_bytes().to_vec());
    }
    secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// A message whose fields of hidden names have no values.
fn fields(message: &str, redact: &Redact) -> String {
    let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let line = |line: &str| match line.split_once(':') {
        Some((name, _)) if redact.hides_header(name) || is_likely_secret(name) => format!("{name}: {HIDDEN}"),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = head.split("\r\n").map(line).collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// A text without the values of hidden query keys, and without logins of URLs.
fn pairs_and_logins(text: &str, redact: &Redact) -> String {
    let mut shown = text.to_owned();
    for span in spans(text, redact).into_iter().rev() {
        shown.replace_range(span, HIDDEN);
    }
    shown
}

/// Where these are, in order, none within another. A pair may be anywhere: templates put queries into fields and bodies.
fn spans(text: &str, redact: &Redact) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || "?&#\"".contains(c)) {
        let pair = piece.trim_end_matches(|c: char| c.is_whitespace() || "?&#\"".contains(c));
        if let Some(from) = redact.hidden_from(pair.as_bytes()) {
            spans.push(start + from..start + pair.len());
        }
        start += piece.len();
    }
    for (at, _) in text.match_indices("//") {
        let before = text.get(..at).unwrap_or_default();
        let from = at + 2;
        let rest = text.get(from..).unwrap_or_default();
        let authority = rest.split(|c: char| c.is_whitespace() || "/\\?#".contains(c)).next().unwrap_or_default();
        let begins_url = before.is_empty() || before.ends_with(|c: char| c == ':' || c.is_whitespace());
        if let (true, Some(len)) = (begins_url, authority.rfind('@')) {
            spans.push(from..from + len);
        }
    }
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    spans.dedup_by(|next, before| {
        let overlaps = next.start < before.end;
        if overlaps {
            before.end = before.end.max(next.end);
        }
        overlaps
    });
    spans
}

/// A text without these values, however they are written.
fn without(text: &str, secrets: &[Vec<u8>]) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let found = secrets.iter().find_map(|secret| written(rest.as_bytes(), secret));
        match found.and_then(|len| rest.get(len..)) {
            Some(behind) => {
                shown.push_str(HIDDEN);
                rest = behind;
            }
            None => {
                shown.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
    }
    shown
}

/// How many bytes at the start of a text stand for a value: each as it is, percent-encoded, or escaped in JSON.
fn written(text: &[u8], value: &[u8]) -> Option<usize> {
    let mut left = text;
    for &byte in value {
        left = match left {
            [b'%', rest @ ..] if let_through(rest, byte).is_some() => let_through(rest, byte)?,
            [first, rest @ ..] if *first == byte => rest,
            [b'+', rest @ ..] if byte == b' ' => rest,
            [b'\\', first, rest @ ..] if *first == byte => rest,
            _ => return None,
        };
    }
    Some(text.len() - left.len())
}

/// What follows a triplet that stands for this byte.
fn let_through(behind_percent: &[u8], byte: u8) -> Option<&[u8]> {
    text::triplet(behind_percent).filter(|(meant, _)| *meant == byte).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_however_they_are_written() {
        let head = "GET /a?%74oken=s%2F3cr%20t&b=1;password=p4ss HTTP/1.1\r\nReferer: https://ann:l0gin@h/\r\nCookie: a=c00kie; b=x\r\n\
                    Authorization: Bearer t\"ok\r\nX-Short: no\r\nX_Auth_Token: abc\r\n\r\n";
        let secrets = secrets(head, &Redact::new(&["x-short"], &["token"]));
        for (text, shown) in [
            ("/x/s%2F3cr%20t", "/x/***"),
            ("a s/3cr t b", "a *** b"),
            ("s/3cr+t", "***"),
            ("S/3cr t", "S/3cr t"),
            ("p4ss p%34ss", "*** ***"),
            ("l0gin ann:l0gin ann%3Al0gin", "*** *** ***"),
            ("c00kie", "***"),
            ("{\"a\":\"t\\\"ok\"}", "{\"a\":\"***\"}"),
            ("Bearer t\"ok", "***"),
            ("no abc é", "no abc é"),
        ] {
            assert_eq!(without(text, &secrets), shown, "{text}");
        }
    }

    #[test]
    fn pairs_and_logins_are_hidden_wherever_they_are() {
        let redact = Redact::new(&[], &["token"]);
        for (text, shown) in [
            ("Location: https://u:p@h/?TOKEN=a#access_token=b", "Location: https://***@h/?TOKEN=***#access_token=***"),
            ("x: a=1;token=b;c&d", "x: a=1;token=***&d"),
            ("https://u:a?b@h", "https://u:a?b@h"),
            ("https://a;token=x@h/ //u@h", "https://*** //***@h"),
            ("{\"a\":\"/x?token=y\",\"token\":1}", "{\"a\":\"/x?token=***\",\"token\":1}"),
            ("/a//b@c/", "/a//b@c/"),
            ("", ""),
        ] {
            assert_eq!(pairs_and_logins(text, &redact), shown, "{text}");
        }
    }
}
