//! `errors`: in which form the gateway tells what went wrong.

use std::path::{Path, PathBuf};

use super::decode::{Block, Keys, Value};
use super::read_named;
use super::report::{did_you_mean, quote};
use crate::http::error_form::{ErrorForms, Escape, Format, OwnBody, Piece, VALUES};
use crate::value::Invalid;

pub(super) const KEYS: Keys = Keys { known: &["format", "bodies"], later: &[] };
pub(super) const BODY_KEYS: Keys = Keys { known: &["content_type", "body", "file"], later: &[] };

const BODIES_MAX: usize = 64;
/// Every worker holds it, and an answer is written at once.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Each may be a hundred bytes in the answer.
const VALUES_MAX: usize = 64;
const TYPE_BYTES_MAX: usize = 256;

/// What holds where nothing is said.
pub(super) fn default() -> ErrorForms {
    ErrorForms { format: Some(Format::default()), bodies: Vec::new() }
}

/// What is said for the gateway.
pub(super) fn decode(value: &Value<'_>) -> Option<ErrorForms> {
    let forms = of_route(value)?;
    Some(ErrorForms { format: forms.format.or(Some(Format::default())), ..forms })
}

/// What is said for a route: what it leaves open is said for the gateway.
pub(super) fn of_route(value: &Value<'_>) -> Option<ErrorForms> {
    if !value.is_mapping() {
        return Some(ErrorForms { format: Some(format(value)?), bodies: Vec::new() });
    }
    let block = value.block(&KEYS)?;
    let format = block.or("format", None, |v| format(v).map(Some));
    Some(ErrorForms { format, bodies: block.or("bodies", Vec::new(), bodies) })
}

fn format(value: &Value<'_>) -> Option<Format> {
    value.word(&[("envelope", Format::Envelope), ("problem+json", Format::Problem), ("text", Format::Text)], &[])
}

fn bodies(value: &Value<'_>) -> Option<Vec<OwnBody>> {
    let mut bodies: Vec<OwnBody> = Vec::new();
    for (key, value) in value.entries(BODIES_MAX)? {
        let body = value.block(&BODY_KEYS).and_then(|block| body(&block));
        match statuses(&key.text) {
            Ok(statuses) => bodies.extend(body.map(|body| OwnBody { statuses, ..body })),
            Err(fault) => value.at_key(key).error(format!("{} {}", quote(&key.text), fault.what), fault.remedy),
        }
    }
    // One for a status comes before that of its class.
    bodies.sort_by_key(|body| body.statuses.1 - body.statuses.0);
    Some(bodies)
}

fn statuses(text: &str) -> Result<(u16, u16), Invalid> {
    match text {
        "4xx" => return Ok((400, 499)),
        "5xx" => return Ok((500, 599)),
        _ => {}
    }
    let status = text.parse().ok().filter(|status| text.len() == 3 && (400..=599).contains(status));
    let what = || Invalid::new("is not a status that tells of an error", "400 to 599, 4xx or 5xx");
    status.map(|status| (status, status)).ok_or_else(what)
}

fn body(block: &Block<'_>) -> Option<OwnBody> {
    let content_type = block.required("content_type").and_then(|v| {
        let line = v.line(TYPE_BYTES_MAX)?.value;
        let is_type = line.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
        if !is_type || !line.is_ascii() {
            v.error(format!("{} is not a media type", quote(&line)), "like text/html; charset=utf-8");
            return None;
        }
        Some(line)
    });
    let (at, text) = match (block.get("body"), block.get("file")) {
        (Some(_), Some(file)) => {
            file.error("is given beside body", "use one of them");
            return None;
        }
        (Some(body), None) => (body, body.text()?.to_owned()),
        (None, Some(file)) => {
            let path = file.parse(|text| match Path::new(text).is_absolute() {
                true => Ok(PathBuf::from(text)),
                false => Err(Invalid::new("is not an absolute path", "begin it with `/`")),
            })?;
            let read = read_named(&path)
                .map_err(|fault| file.error(format!("{} {}", path.display(), fault.what), fault.remedy));
            (file, read.ok()?)
        }
        (None, None) => {
            block.value().error("has no body", "add body, or file");
            return None;
        }
    };
    if text.len() > BODY_BYTES_MAX {
        at.error("is too long", format!("at most {} KiB", BODY_BYTES_MAX >> 10));
        return None;
    }
    let content_type = content_type?;
    let escape = Escape::of(&content_type);
    match pieces(&text, escape) {
        Ok(pieces) => Some(OwnBody { statuses: (0, 0), content_type, pieces, escape }),
        Err(fault) => {
            at.error(fault.what, fault.remedy);
            None
        }
    }
}

/// The text, cut at the values in it. All other braces are text: JSON, CSS and scripts are full of them.
fn pieces(text: &str, escape: Escape) -> Result<Vec<Piece>, Invalid> {
    let mut pieces = Vec::new();
    let (mut literal, mut left) = (String::new(), text);
    while let Some((before, behind)) = left.split_once('{') {
        literal.push_str(before);
        let name = behind.split_once('}').map(|(name, _)| name);
        let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let Some(name) = name.filter(is_name) else {
            literal.push('{');
            left = behind;
            continue;
        };
        let Some(index) = VALUES.iter().position(|value| *value == name) else {
            let known = || format!("known: {}; for a brace that is text, put a space behind it", VALUES.join(", "));
            let remedy = did_you_mean(name, VALUES.iter().copied()).unwrap_or_else(known);
            return Err(Invalid::new(format!("has no value `{{{name}}}`"), remedy));
        };
        if escape == Escape::Unknown {
            let remedy = "text/plain, text/html, XML and JSON can hold values; remove them, or change content_type";
            return Err(Invalid::new(
                "has values in it, and it is not known how they are written in this type",
                remedy,
            ));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Value(index));
        left = behind.get(name.len() + 1..).unwrap_or_default();
    }
    literal.push_str(left);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    if pieces.iter().filter(|piece| matches!(piece, Piece::Value(_))).count() > VALUES_MAX {
        return Err(Invalid::new("has too many values in it", format!("at most {VALUES_MAX}")));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{report::Report, tree};
    use super::*;

    fn read(text: &str) -> Result<ErrorForms, String> {
        let report = Report::new("f");
        let root = tree::read(&format!("errors: {text}"), &|_| None, &report).unwrap();
        let root = Value::root(&root, &report);
        let forms = decode(&root.entries(1).unwrap()[0].1);
        report.finish(forms).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_word_or_a_block_and_the_status_before_its_class() {
        assert_eq!(read("problem+json").unwrap().format, Some(Format::Problem));
        assert_eq!(read("{}").unwrap().format, Some(Format::Envelope));
        let forms = read(
            "{ format: text, bodies: { 5xx: { content_type: text/css, body: 'a { b }' }, \
             503: { content_type: application/json, body: '{\"a\": {\"id\": \"{request_id}\"}}' } } }",
        )
        .unwrap();
        assert_eq!(forms.format, Some(Format::Text));
        let statuses: Vec<_> = forms.bodies.iter().map(|body| body.statuses).collect();
        assert_eq!(statuses, [(503, 503), (500, 599)]);
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(forms.bodies[0].pieces, [text("{\"a\": {\"id\": \""), Piece::Value(0), text("\"}}")]);
        assert_eq!(forms.bodies[1].pieces, [text("a { b }")]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, why) in [
            ("problem", "allowed: envelope, problem+json, text"),
            ("{ bodies: { 200: { content_type: a/b, body: x } } }", "is not a status that tells of an error"),
            ("{ bodies: { 4x: { content_type: a/b, body: x } } }", "is not a status"),
            ("{ bodies: { 404: { content_type: html, body: x } } }", "is not a media type"),
            ("{ bodies: { 404: { content_type: \"a/b\\r\\nx: y\", body: x } } }", "control character"),
            ("{ bodies: { 404: { content_type: a/b } } }", "has no body"),
            ("{ bodies: { 404: { content_type: a/b, body: x, file: /x } } }", "beside body"),
            ("{ bodies: { 404: { content_type: a/b, file: x } } }", "absolute path"),
            ("{ bodies: { 404: { content_type: a/b, file: /no/such/file } } }", "can not be read"),
            ("{ bodies: { 404: { content_type: text/html, body: '{requestid}' } } }", "did you mean `request_id`?"),
            ("{ bodies: { 404: { content_type: text/javascript, body: '{message}' } } }", "it is not known how"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        let long = "x".repeat(BODY_BYTES_MAX + 1);
        assert!(
            read(&format!("{{ bodies: {{ 404: {{ content_type: a/b, body: {long} }} }} }}"))
                .unwrap_err()
                .contains("64 KiB")
        );
    }
}
