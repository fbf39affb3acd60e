//! A condition cut into words and signs.

use crate::json;
use crate::route::template::TemplateError;

/// The longer ones first: `<=` is not `<` and something.
const SIGNS: [&str; 14] = ["||", "&&", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ","];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A name, or one of the words `true`, `false`, `null` and `in`.
    Name(&'t str),
    /// What stood in quotes.
    Text(String),
    /// As it was written, in the grammar of JSON.
    Number(&'t str),
    Sign(&'static str),
    End,
}

pub(super) struct Tokens<'t> {
    text: &'t str,
    /// In bytes.
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next one and where it begins; again and again [`Token::End`] after the last.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'t>), TemplateError> {
        let all = self.text.get(self.at..).unwrap_or_default();
        let left = all.trim_start();
        let begin = self.at.saturating_add(all.len() - left.len());
        self.at = begin;
        let Some(first) = left.chars().next() else { return Ok((begin, Token::End)) };
        let token = match first {
            '\'' | '"' => return Ok((begin, Token::Text(self.quoted(begin, first)?))),
            '-' | '0'..='9' => Token::Number(self.take(left, number_end(left))),
            _ if first.is_alphabetic() || first == '_' => Token::Name(self.take(left, name_end(left))),
            _ => match SIGNS.iter().find(|sign| left.starts_with(**sign)) {
                Some(sign) => {
                    self.at = begin.saturating_add(sign.len());
                    Token::Sign(sign)
                }
                None => return self.wrong(begin, &stranger(first)),
            },
        };
        match token {
            Token::Number(number) if !is_number(number) => {
                self.wrong(begin, &format!("`{number}` is no number; expected one like 7, -1.5 or 2e3"))
            }
            token => Ok((begin, token)),
        }
    }

    fn take(&mut self, left: &'t str, length: usize) -> &'t str {
        self.at = self.at.saturating_add(length);
        left.get(..length).unwrap_or_default()
    }

    /// A text, whose first quote is at `begin`. A backslash makes a quote or a backslash part of it.
    fn quoted(&mut self, begin: usize, quote: char) -> Result<String, TemplateError> {
        let mut text = String::new();
        let mut chars = self.text.get(begin..).unwrap_or_default().char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at = begin.saturating_add(offset).saturating_add(1);
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '\'' | '"'))) => text.push(c),
                    _ => {
                        let at = begin.saturating_add(offset);
                        return self.wrong(at, "expected a quote or a backslash behind `\\`; write `\\\\` for one");
                    }
                },
                _ => text.push(c),
            }
        }
        self.wrong(begin, &format!("the text that begins here does not end; expected {quote}"))
    }

    /// An error about the byte `at`; people count characters, from 1.
    pub(super) fn wrong<T>(&self, at: usize, what: &str) -> Result<T, TemplateError> {
        let character = self.text.get(..at).unwrap_or_default().chars().count().saturating_add(1);
        Err(TemplateError::new(format!("character {character} of the condition: {what}")))
    }
}

/// The length of the name in front. An index belongs to it, but `in['a']` is a word and a list.
fn name_end(left: &str) -> usize {
    let mut end = 0;
    loop {
        let rest = left.get(end..).unwrap_or_default();
        let part = rest.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))).unwrap_or(rest.len());
        end = end.saturating_add(part);
        let rest = left.get(end..).unwrap_or_default();
        match rest.find(']') {
            Some(close) if rest.starts_with('[') && left.get(..end) != Some("in") => {
                end = end.saturating_add(close).saturating_add(1);
            }
            _ => return end,
        }
    }
}

fn number_end(left: &str) -> usize {
    left.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(left.len())
}

fn is_number(text: &str) -> bool {
    let mut check = json::Validator::default();
    json::shape(text.as_bytes()) == Some(json::Shape::Number)
        && check.feed(text.as_bytes()).and_then(|()| check.finish()).is_ok()
}

fn stranger(c: char) -> String {
    match c {
        '=' => "expected `==`".to_owned(),
        '&' => "expected `&&`".to_owned(),
        '|' => "expected `||`".to_owned(),
        '{' | '}' => "names stand without braces here; expected one like `parts.user.tier`".to_owned(),
        c => format!("{c:?} has no meaning here; a text needs quotes, like 'gold'"),
    }
}
