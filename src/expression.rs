//! [`Expression`]: a regular expression that can not explode, neither when it is loaded nor when it is matched.

use regex::bytes::{Regex, RegexBuilder};

use crate::value::Invalid;

/// Longer ones are programs, and unreadable.
const TEXT_BYTES_MAX: usize = 512;
/// What an expression may be compiled into: it bounds both memory, and the work per byte where the automaton is given up.
const PROGRAM_BYTES_MAX: usize = 32 << 10;
/// The automaton that is built while matching, per expression and worker.
const AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// A regular expression about bytes. It is matched in time linear in the text (finite automata, no backtracking), and its
/// size is bounded. A clone has working memory of its own: a worker that has its own clone shares no lock with others.
#[derive(Debug, Clone)]
pub struct Expression(Regex);

impl Expression {
    /// Reads an expression in the syntax of the regex crate. It matches anywhere in a text unless it begins with `^` and
    /// ends with `$`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Invalid::new("is too long", format!("at most {TEXT_BYTES_MAX} bytes")));
        }
        let built = RegexBuilder::new(text).size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(AUTOMATON_BYTES_MAX).build();
        built.map(Self).map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => Invalid::new(
                "is a regular expression that explodes",
                "lower its repetitions, or use `(?-u)` where letters beyond ASCII do not matter",
            ),
            e => Invalid::new("is not a regular expression", reason(&e.to_string())),
        })
    }

    /// Whether it matches anywhere in `text`.
    #[inline]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// The expression itself, for who replaces with it.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// The last line of the crate's message says what is wrong, those before it draw where.
fn reason(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explodes_or_is_none_is_refused() {
        let why = |text: &str| Expression::parse(text).unwrap_err().to_string();
        assert!(why("(a{100}){100}").starts_with("is a regular expression that explodes"));
        assert!(why(r"\pL{1000}").contains("(?-u)"));
        assert_eq!(why("a("), "is not a regular expression (unclosed group)");
        assert_eq!(why(&"a".repeat(513)), "is too long (at most 512 bytes)");
    }

    #[test]
    fn it_matches_bytes_that_are_no_text() {
        let expression = Expression::parse("^v[0-9]+").unwrap();
        assert!(expression.is_match(b"v12\xff"));
        assert!(!expression.is_match(b"\xffv12"));
    }
}
