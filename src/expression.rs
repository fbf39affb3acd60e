//! Regular expressions that can not explode, neither when they are loaded nor when they are matched: an [`Expression`] says
//! whether it matches, a [`Grouping`] what its groups match. Each holds only what its question takes.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::value::Invalid;

/// Longer ones are programs, and unreadable.
const TEXT_BYTES_MAX: usize = 512;
/// What an expression may be compiled into: it bounds both memory, and the work per byte where captures are wanted.
const PROGRAM_BYTES_MAX: usize = 32 << 10;
/// The automaton that decides whether there is a match: one load per byte of the text, whatever the text is. Expressions
/// with thousands of states, such as `[01]*1[01]{12}`, do not fit: an automaton that is built while matching would be
/// thrown away and built again by a hostile text of 1 KiB, which took 6 ms when it was measured.
const AUTOMATON_BYTES_MAX: usize = 512 << 10;
/// What building it may take beside; with both bounds it takes at most some 20 ms.
const BUILDING_BYTES_MAX: usize = 1 << 20;
/// The automaton of the crate, for who wants groups, per expression and worker.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// A regular expression about bytes that is asked whether it matches: [`Self::is_match`] takes some 2 ns per byte, whatever the
/// expression and the text are, and its size is bounded.
#[derive(Debug, Clone)]
pub struct Expression {
    text: Arc<str>,
    /// Never changed, so that workers may share it.
    automaton: Arc<DFA<Vec<u32>>>,
}

/// A regular expression about bytes that is asked what its groups match. A clone has working memory of its own: a worker that
/// has its own clone shares no lock with others.
#[derive(Debug, Clone)]
pub struct Grouping(Regex);

impl Expression {
    /// Reads an expression in the syntax of the regex crate. It matches anywhere in a text unless it begins with `^` and
    /// ends with `$`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (_, automaton) = compile(text)?;
        Ok(Self { text: text.into(), automaton: Arc::new(automaton) })
    }

    /// Whether it matches anywhere in `text`.
    #[inline]
    pub fn is_match(&self, text: &[u8]) -> bool {
        let input = Input::new(text).anchored(Anchored::No).earliest(true);
        // An automaton fails on bytes that it was told to give up at: this one on none.
        matches!(self.automaton.try_search_fwd(&input), Ok(Some(_)))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Grouping {
    /// Reads what [`Expression::parse`] reads, and nothing else: an expression that explodes there is none here.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        compile(text).map(|(regex, _)| Self(regex))
    }

    /// What finds its groups.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Grouping {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Both forms of an expression, each within its bounds: who keeps one of them knows that the other could be.
fn compile(text: &str) -> Result<(Regex, DFA<Vec<u32>>), Invalid> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Invalid::new("is too long", format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    let explodes = || {
        Invalid::new(
            "is a regular expression that explodes",
            "lower its repetitions, or use `(?-u)` where letters beyond ASCII do not matter",
        )
    };
    let built = RegexBuilder::new(text).size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(CACHE_BYTES_MAX).build();
    let regex = built.map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => explodes(),
        e => Invalid::new("is not a regular expression", reason(&e.to_string())),
    })?;
    let bounds = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .determinize_size_limit(Some(BUILDING_BYTES_MAX));
    let automaton = dense::Builder::new()
        .configure(bounds)
        .syntax(syntax::Config::new().utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build(text);
    match automaton {
        Ok(automaton) => Ok((regex, automaton)),
        Err(e) if e.is_size_limit_exceeded() => Err(explodes()),
        // What else the crate can read, an automaton can do.
        Err(_) => Err(Invalid::new(
            "has a word boundary of all the alphabets",
            "write `(?-u:\\b)`, for which a word is letters, digits and `_` of ASCII",
        )),
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
        assert!(why("[01]*1[01]{20}").starts_with("is a regular expression that explodes"), "in its automaton");
        assert!(why(r"\bword\b").contains(r"(?-u:\b)"));
        assert_eq!(why("a("), "is not a regular expression (unclosed group)");
        assert_eq!(why(&"a".repeat(513)), "is too long (at most 512 bytes)");
    }

    #[test]
    fn both_ways_of_matching_agree() {
        let texts: [&[u8]; 9] =
            [b"", b"v1", b"xv12 ", b"abc-\xc3\xa9", b"\xff\x00", b"A.b.C", b"10.0.0.1", b"foo bar", b"a\nb"];
        for pattern in [
            "",
            "^$",
            "^v[0-9]+$",
            "v\\d",
            "(?i)a\\.B",
            r"(?-u)^\w+$",
            r"(?-u:\b)bar(?-u:\b)",
            "(?m)^b$",
            "é",
            "[^a]",
            r"(?-u)\xff",
            "a.b",
            "(?s)a.b",
        ] {
            let (expression, grouping) = (Expression::parse(pattern).unwrap(), Grouping::parse(pattern).unwrap());
            for text in texts {
                assert_eq!(expression.is_match(text), grouping.regex().is_match(text), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn a_long_hostile_text_does_not_block_a_core() {
        // The worst that is let in: the automaton is as large as it may be, and no text makes it larger.
        let expression = Expression::parse(r"(?-u)a.{11}b").unwrap();
        let text: Vec<u8> =
            (0..32 << 10).map(|i: u32| if i.wrapping_mul(2_654_435_761) >> 31 == 0 { b'a' } else { b'c' }).collect();
        let best = (0..20).map(|_| {
            let begin = std::time::Instant::now();
            assert!(!expression.is_match(&text));
            begin.elapsed()
        });
        let best = best.min().unwrap();
        assert!(best.as_micros() < 1000, "{best:?}");
    }

    #[test]
    fn it_matches_bytes_that_are_no_text() {
        let expression = Expression::parse("^v[0-9]+").unwrap();
        assert!(expression.is_match(b"v12\xff"));
        assert!(!expression.is_match(b"\xffv12"));
    }
}
