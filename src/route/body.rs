//! A JSON body with values of the request, and of earlier answers, in it: `{"user": "{user_id}", "tier": {parts.user.tier}}`.
//!
//! The braces of JSON are always followed by a quote, a space or each other, never by a name, so `{name}` can be nothing
//! but a value and nothing needs escaping. Inside of a JSON string a value is text. Elsewhere it is a JSON scalar: that
//! of an earlier answer keeps its type, anything else is a string. Either way what it says can not become structure.

use super::facts::{FACTS, Facts};
use super::template::{Piece, TemplateError};
use crate::json;

/// A body template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyTemplate {
    pieces: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Within quotes of the literal text around it.
    InString(Piece),
    /// Where JSON has a value.
    Scalar(Piece),
}

impl BodyTemplate {
    /// What stands where a value may, in the order of the text.
    pub fn names(text: &str) -> Vec<&str> {
        text.split('{').skip(1).filter_map(name_at).collect()
    }

    /// Reads a template; `params` and `values` are as for `Template::parse_target`.
    ///
    /// # Errors
    /// An unknown name, or a text that is not JSON once the values are in it.
    pub fn parse(text: &str, params: &[String], values: &[String]) -> Result<BodyTemplate, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let (mut in_string, mut escaped) = (false, false);
        let mut sample = String::new();
        let mut left = text;
        while let Some(c) = left.chars().next() {
            left = left.get(c.len_utf8()..).unwrap_or_default();
            let name = if c == '{' && !escaped { name_at(left) } else { None };
            if let Some(name) = name {
                left = left.get(name.len() + 1..).unwrap_or_default();
                let piece = Piece::parse(name, params, values)?;
                if !literal.is_empty() {
                    pieces.push(Part::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(if in_string { Part::InString(piece) } else { Part::Scalar(piece) });
                sample.push('0');
                continue;
            }
            match c {
                '"' if !escaped => in_string = !in_string,
                _ => {}
            }
            escaped = in_string && c == '\\' && !escaped;
            literal.push(c);
            sample.push(c);
        }
        if !literal.is_empty() {
            pieces.push(Part::Literal(literal));
        }
        let mut check = json::Validator::default();
        match check.feed(sample.as_bytes()).and_then(|()| check.finish()) {
            Ok(()) => Ok(BodyTemplate { pieces }),
            Err(fault) => Err(TemplateError::new(format!(
                "the body is not JSON ({fault}); write JSON with values in it, like {{\"id\": \"{{{}}}\"}}",
                FACTS[1]
            ))),
        }
    }

    /// Appends the body with the values of one request in it.
    pub fn render<F: Facts>(&self, facts: &F, out: &mut Vec<u8>) {
        for part in &self.pieces {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::InString(piece) => piece.with_text(facts, |text| json::push_string_content(text, out)),
                Part::Scalar(Piece::Value(index)) => out.extend_from_slice(facts.value(*index).json),
                Part::Scalar(piece) => piece.with_text(facts, |text| json::push_string(text, out)),
            }
        }
    }
}

/// The name in front of a closing brace, if a value begins here.
fn name_at(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('}')?;
    let first = name.chars().next()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-[]*".contains(c);
    ((first.is_ascii_alphabetic() || first == '_') && name.chars().all(fits)).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::tests::{Request, names};
    use super::*;

    fn rendered(text: &str) -> String {
        let request = Request { params: ["a%22b", "x%20y"], query: Some("q=1+2%5C"), header: b"\"\xff", path: "/p" };
        let mut out = Vec::new();
        BodyTemplate::parse(text, &names(), &[]).unwrap().render(&request, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_text_in_strings_and_scalars_elsewhere() {
        assert_eq!(
            rendered(r#"{"id": "<{id}>", "rest": {rest}, "n": [1, {}]}"#),
            r#"{"id": "<a\"b>", "rest": "x y", "n": [1, {}]}"#
        );
        assert_eq!(
            rendered(r#"["{query.q}", {header.x-h}, "\"{id}"]"#),
            "[\"1 2\\\\\", \"\\\"\u{fffd}\", \"\\\"a\\\"b\"]"
        );
        assert_eq!(rendered("{id}"), r#""a\"b""#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", r#"{"a": }"#, r#"{"a": "{id}}"#, r#"{{id}: 1}"#, "{nothing}", "id={id}"] {
            assert!(BodyTemplate::parse(text, &names(), &[]).is_err(), "{text}");
        }
    }
}
