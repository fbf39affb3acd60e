//! Reading a path pattern: `/user/{id}`, `/img/thumb-{name}.png`, `/static/{*rest}`.
//!
//! A pattern is cut into segments at `/`. `{name}` takes one segment or, between literal text, a part of it; `{*name}`
//! stands alone at the end and takes all that is left, nothing included.
//!
//! Requests come normalised ([`target::normalize`](crate::http::target::normalize)). What no request can have is refused here:
//! its route would never be asked, and another would answer without that one's filters.

use std::fmt;

use super::encode;
use crate::http::target::{self, TargetError};

/// Parameters one pattern may have: their spans live in a fixed array of every request.
pub const PARAMS_MAX: usize = 16;
/// Segments one pattern may have: the search through the tree recurses at most once per segment.
pub(super) const SEGMENTS_MAX: usize = 64;
/// Bytes one pattern may have: longer than any target that the default bounds let in.
pub(super) const PATTERN_BYTES_MAX: usize = 8192;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this text; empty between two slashes and after a last one.
    Literal(String),
    /// One non-empty parameter between two texts, either of which may be empty.
    Param { before: String, after: String },
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The segments, without a last `{*rest}`.
    pub(super) segments: Vec<Segment>,
    /// Whether `{*rest}` ends it.
    pub(super) rest: bool,
    /// The parameters' names from left to right, that of `{*rest}` last.
    pub(super) names: Vec<String>,
}

/// What is wrong with a pattern, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    what: String,
    remedy: String,
}

impl PatternError {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        PatternError { what: what.into(), remedy: remedy.into() }
    }

    /// What is wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to write instead.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for PatternError {}

/// The names of a pattern's parameters from left to right, that of `{*rest}` last: the order of
/// [`Params`](super::Params) and the list that [`Template::parse`](super::template::Template::parse) wants.
///
/// # Errors
/// When the pattern is none.
pub fn param_names(pattern: &str) -> Result<Vec<String>, PatternError> {
    Pattern::parse(pattern).map(|pattern| pattern.names)
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Pattern, PatternError> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(PatternError::new(
                format!("the path `{text}` does not begin with a slash"),
                format!("write `/{text}`"),
            ));
        };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::new("the path is too long", format!("use at most {PATTERN_BYTES_MAX} bytes")));
        }
        let mut pattern = Pattern { segments: Vec::new(), rest: false, names: Vec::new() };
        let mut segments = inner.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment.starts_with("{*") {
                pattern.read_rest(segment, segments.peek().is_none())?;
            } else {
                pattern.read_segment(segment)?;
            }
        }
        if pattern.segments.len() > SEGMENTS_MAX {
            let what = format!("the path has {} segments", pattern.segments.len());
            return Err(PatternError::new(what, format!("use at most {SEGMENTS_MAX}, or `{{*rest}}` for the others")));
        }
        Ok(pattern)
    }

    /// The pattern with a slash at its end if it has none, or without the one it has.
    ///
    /// # Errors
    /// What is wrong with asking for it, and the remedy.
    pub(super) fn other_form(&self) -> Result<Pattern, (String, String)> {
        let refused = |what: &str| Err((what.to_owned(), "leave `trailing_slash` out".to_owned()));
        if self.rest {
            return refused("`{*rest}` takes paths with and without a slash at the end");
        }
        let mut other = self.clone();
        let empty = Segment::Literal(String::new());
        if other.segments.last() != Some(&empty) {
            other.segments.push(empty);
        } else if other.segments.len() > 1 {
            other.segments.pop();
        } else {
            return refused("the path `/` has no other form");
        }
        Ok(other)
    }

    fn read_rest(&mut self, segment: &str, last: bool) -> Result<(), PatternError> {
        let Some(name) = segment.strip_prefix("{*").and_then(|rest| rest.strip_suffix('}')) else {
            return Err(PatternError::new(
                format!("`{segment}` mixes `{{*…}}` with other text"),
                "let `{*rest}` stand alone after the last slash",
            ));
        };
        if !last {
            return Err(PatternError::new(
                format!("`{segment}` is not at the end"),
                "`{*rest}` takes all that is left: move it to the end, or use `{name}` for one segment",
            ));
        }
        self.rest = true;
        self.add_name(name)
    }

    fn read_segment(&mut self, segment: &str) -> Result<(), PatternError> {
        let (mut before, mut after, mut has_param) = (String::new(), String::new(), false);
        let mut chars = segment.chars();
        while let Some(c) = chars.next() {
            let left = chars.as_str();
            match c {
                '{' | '}' if left.starts_with(c) => {
                    return Err(PatternError::new(
                        format!("`{segment}` has a literal brace, which can not be in the path of a request"),
                        "clients send it percent-encoded: write %7B or %7D",
                    ));
                }
                '{' if has_param => {
                    return Err(PatternError::new(
                        format!("`{segment}` has two parameters in one segment"),
                        "put a slash between them, or take the whole segment as one parameter",
                    ));
                }
                '{' if left.starts_with('*') => {
                    return Err(PatternError::new(
                        format!("`{segment}` mixes `{{*…}}` with other text"),
                        "let `{*rest}` stand alone after the last slash",
                    ));
                }
                '{' => {
                    let Some((name, left)) = left.split_once('}') else {
                        return Err(PatternError::new(
                            format!("`{segment}` opens a brace and does not close it"),
                            "close it, or write %7B for a literal brace",
                        ));
                    };
                    self.add_name(name)?;
                    has_param = true;
                    chars = left.chars();
                }
                '}' => {
                    return Err(PatternError::new(
                        format!("`{segment}` closes a brace that was not opened"),
                        "write %7D for a literal brace",
                    ));
                }
                _ => {
                    check_char(c)?;
                    if has_param { after.push(c) } else { before.push(c) }
                }
            }
        }
        if !has_param && encode::dots(before.as_bytes()).is_some() {
            return Err(PatternError::new(
                format!("the segment `{before}` can never match, since dot segments are removed before routing"),
                "remove it",
            ));
        }
        if let Some(name) = before.strip_prefix(':').filter(|name| !has_param && name.starts_with(begins_name)) {
            return Err(PatternError::new(
                format!("the segment `{before}` is no parameter"),
                format!("write `{{{name}}}`, which a literal `{before}` fits too"),
            ));
        }
        check_spelling(&before)?;
        check_spelling(&after)?;
        self.segments.push(if has_param { Segment::Param { before, after } } else { Segment::Literal(before) });
        Ok(())
    }

    fn add_name(&mut self, name: &str) -> Result<(), PatternError> {
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(PatternError::new(
                format!("`{name}` is no name for a parameter"),
                "use letters, digits, `_` and `-`, as in `{user_id}`",
            ));
        }
        if self.names.iter().any(|known| known == name) {
            return Err(PatternError::new(format!("the parameter `{name}` is there twice"), "rename one of them"));
        }
        if self.names.len() == PARAMS_MAX {
            return Err(PatternError::new(
                format!("the path has more than {PARAMS_MAX} parameters"),
                "use `{*rest}` for the last ones",
            ));
        }
        self.names.push(name.to_owned());
        Ok(())
    }
}

/// Whether a name of a parameter may have it.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Refuses what can not be in the path of a request, so that the pattern could never match.
fn check_char(c: char) -> Result<(), PatternError> {
    match c {
        '?' => Err(PatternError::new("a path has no `?`", "the query is no part of what is matched: remove it")),
        '#' => Err(PatternError::new("a path has no `#`", "clients never send a fragment: remove it, or write %23")),
        '*' => Err(PatternError::new(
            "`*` is no wildcard here",
            "write `{*rest}` for all that is left, or `{name}` for a segment or a part of one: a literal `*` fits them too",
        )),
        '<' | '>' => Err(PatternError::new(
            format!("`{c}` can not be in the path of a request"),
            format!("write `{{name}}` for a parameter, or {} for the sign itself", encode::triplets(c)),
        )),
        c if encode::stranger(c.encode_utf8(&mut [0; 4])).is_none() => Ok(()),
        c => Err(PatternError::new(
            format!("{c:?} can not be in the path of a request"),
            format!("clients send it percent-encoded: write {}", encode::triplets(c)),
        )),
    }
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Refuses what is spelled in no request as it is here.
fn check_spelling(piece: &str) -> Result<(), PatternError> {
    match target::spelling(piece) {
        Ok(spelling) if spelling == piece => Ok(()),
        Ok(spelling) => Err(PatternError::new(
            format!("`{piece}` can never match, since paths are normalised before routing"),
            format!("write `{spelling}`"),
        )),
        Err(TargetError::Escape) => {
            Err(PatternError::new("a `%` is not followed by two hexadecimal digits", "write %25 for the sign itself"))
        }
        Err(fault) => {
            Err(PatternError::new(format!("`{piece}` can never match, since {fault}, which is refused"), "remove it"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lit(text: &str) -> Segment {
        Segment::Literal(text.into())
    }

    #[test]
    fn reads_segments_parameters_and_rest() {
        let p = Pattern::parse("/a/{id}/img-{name}.png/{*rest}").unwrap();
        assert_eq!(p.names, ["id", "name", "rest"]);
        assert!(p.rest);
        assert_eq!(p.segments[0], lit("a"));
        assert_eq!(p.segments[1], Segment::Param { before: String::new(), after: String::new() });
        assert_eq!(p.segments[2], Segment::Param { before: "img-".into(), after: ".png".into() });
        assert_eq!(Pattern::parse("/").unwrap().segments, [lit("")]);
        assert_eq!(Pattern::parse("/a/").unwrap().segments, [lit("a"), lit("")]);
        assert_eq!(Pattern::parse("/{*r}").unwrap().segments, []);
        assert_eq!(Pattern::parse("/%7Bx%7D:batch").unwrap().segments, [lit("%7Bx%7D:batch")]);
        let braces = Pattern::parse("/%7B{x}%7D").unwrap();
        assert_eq!(braces.segments, [Segment::Param { before: "%7B".into(), after: "%7D".into() }]);
        assert_eq!(param_names("/{a}/{b-2}").unwrap(), ["a", "b-2"]);
    }

    #[test]
    fn says_what_is_wrong_and_what_is_right() {
        let many: String = (0..17).map(|i| format!("/{{p{i}}}")).collect();
        let deep = "/x".repeat(SEGMENTS_MAX + 1);
        let cases = [
            ("users", "write `/users`"),
            ("", "write `/`"),
            ("/{a}/{a}", "rename one"),
            ("/{a}{b}", "put a slash between"),
            ("/{*r}/x", "move it to the end"),
            ("/x{*r}", "stand alone"),
            ("/{*r}.png", "stand alone"),
            ("/{a", "close it"),
            ("/{*a", "stand alone"),
            ("/a}", "%7D"),
            ("/{{x}}", "%7B"),
            ("/{}", "letters"),
            ("/{*}", "letters"),
            ("/{a.b}", "letters"),
            ("/a?x=1", "query"),
            ("/a#b", "%23"),
            ("/a b", "%20"),
            ("/é", "percent-encoded"),
            ("/a/../b", "remove it"),
            ("/a/%2E./b", "remove it"),
            ("/x|y", "write %7C"),
            ("/a^", "write %5E"),
            ("/\"q\"", "write %22"),
            ("/a\\b", "write %5C"),
            ("/é", "write %C3%A9"),
            ("/%c3%a4dmin/{*r}", "write `%C3%A4dmin`"),
            ("/%61pi", "write `api`"),
            ("/{x}.%6Ason", "write `.json`"),
            ("/bad%zz", "write %25"),
            ("/%4{x}", "write %25"),
            ("/a%00b", "encoded NUL"),
            ("/a%2F..", "remove it"),
            ("/api/*", "`{*rest}`"),
            ("/api/:id", "write `{id}`"),
            ("/api/<id>", "write `{name}` for a parameter, or %3C"),
            (many.as_str(), "{*rest}"),
            (deep.as_str(), "at most 64"),
        ];
        for (text, remedy) in cases {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
