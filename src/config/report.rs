//! Where a text stands in the file, and the list of everything that is wrong with it.
//! Reading the file and building snapshots from it both record errors here and go on, so that an operator sees them all.

use std::cell::{Cell, RefCell};
use std::fmt;

/// More errors than an operator reads at once; the rest is counted. It also bounds what a hostile file can cost.
const ERRORS_MAX: usize = 100;

/// Longer quotations say no more.
const QUOTE_CHARS_MAX: usize = 60;

/// A place in the config: where in the file, and the way of keys that leads there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// Counted from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// Counted in characters from 1.
    pub column: u32,
    /// For example `routes[2].forward.upstream`; empty for the whole document.
    pub key_path: String,
}

/// A value and the place it was written at, which makes no difference between two of them: the same text elsewhere in a file
/// is the same config.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub at: Position,
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file, as it was named to the reader.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty where the fault already says it.
    pub remedy: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Visible(&self.file))?;
        if self.at.line > 0 {
            write!(f, ":{}:{}", self.at.line, self.at.column)?;
        }
        if !self.at.key_path.is_empty() {
            write!(f, ": {}", Visible(&self.at.key_path))?;
        }
        write!(f, ": {}", Visible(&self.what))?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", Visible(&self.remedy)) }
    }
}

impl std::error::Error for Error {}

/// Everything that is wrong, in the order of the file; never empty. Printed one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    list: Vec<Error>,
    uncounted: usize,
}

impl Errors {
    /// The errors in the order of the file, at most the first hundred that were found.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.list.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.list.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{error}")?;
        }
        if self.uncounted > 0 { write!(f, "\nand {} more errors", self.uncounted) } else { Ok(()) }
    }
}

impl std::error::Error for Errors {}

/// Collects errors while a file is read or a snapshot is built from it.
#[derive(Debug)]
pub struct Report {
    file: String,
    errors: RefCell<Vec<Error>>,
    uncounted: Cell<usize>,
}

impl Report {
    /// A report about this file, without errors.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), errors: RefCell::new(Vec::new()), uncounted: Cell::new(0) }
    }

    /// Records one error; `remedy` may be empty.
    pub fn error(&self, at: &Position, what: impl Into<String>, remedy: impl Into<String>) {
        if self.is_full() {
            self.uncounted.set(self.uncounted.get().saturating_add(1));
            return;
        }
        let error = Error { file: self.file.clone(), at: at.clone(), what: what.into(), remedy: remedy.into() };
        self.errors.borrow_mut().push(error);
    }

    /// Whether further errors are only counted: what they would have said need not be worked out.
    pub(super) fn is_full(&self) -> bool {
        self.errors.borrow().len() >= ERRORS_MAX
    }

    /// The value if it is there and nothing was wrong.
    ///
    /// # Errors
    /// All that was recorded.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Errors> {
        let mut list = self.errors.into_inner();
        list.sort_by_key(|error| (error.at.line, error.at.column));
        match value {
            Some(value) if list.is_empty() => Ok(value),
            _ => {
                // Errors is never empty: a value that is missing without a word is told as such.
                if list.is_empty() {
                    let what = "could not be read".to_owned();
                    list.push(Error { file: self.file, at: Position::default(), what, remedy: String::new() });
                }
                Err(Errors { list, uncounted: self.uncounted.get() })
            }
        }
    }
}

/// A text of the operator's in a message: quoted and of bounded length.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}

/// A candidate that `word` may have been meant to be, if one is near enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A misspelling changes few letters of a short word; the bound also keeps the cost of the comparison small.
    let length = word.chars().count();
    if length > 64 {
        return None;
    }
    let near_enough = (length / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 128)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= near_enough)
        .min()
        .map(|(_, candidate)| candidate)
}

/// " (did you mean …?)" without the brackets: the candidate that is nearest to `word`, if one is near enough.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean {}?", quote(candidate)))
}

/// Text for a terminal: control characters are escaped, so that a file can not move the cursor of who reads the error.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split_inclusive(char::is_control).try_for_each(|piece| {
            let text = piece.trim_end_matches(char::is_control);
            let control = piece.get(text.len()..).unwrap_or_default();
            write!(f, "{text}{}", control.escape_default())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(line: u32, key_path: &str) -> Position {
        Position { line, column: 5, key_path: key_path.to_owned() }
    }

    #[test]
    fn errors_come_in_the_order_of_the_file_one_per_line() {
        let report = Report::new("gateway.yaml");
        let remedy = did_you_mean("usres", ["orders", "users"]).unwrap();
        report.error(&at(12, "routes[2].forward.upstream"), "unknown upstream `usres`", remedy);
        report.error(&at(3, "drain"), "odd\u{1b}[2J", "");
        let errors = report.finish(Some(())).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "gateway.yaml:3:5: drain: odd\\u{1b}[2J\n\
             gateway.yaml:12:5: routes[2].forward.upstream: unknown upstream `usres` (did you mean `users`?)"
        );
    }

    #[test]
    fn only_so_many_are_kept_and_the_rest_is_counted() {
        let report = Report::new("f");
        (0..250).for_each(|line| report.error(&at(line, ""), "x", ""));
        let errors = report.finish::<()>(None).unwrap_err();
        assert_eq!(errors.iter().count(), 100);
        assert!(errors.to_string().ends_with("and 150 more errors"));
    }

    #[test]
    fn a_missing_value_is_an_error_and_far_words_are_no_suggestion() {
        assert_eq!(Report::new("f").finish::<()>(None).unwrap_err().to_string(), "f: could not be read");
        assert_eq!(did_you_mean("timeout", ["upstream", "drain"]), None);
        assert_eq!(quote(&"ä".repeat(100)).chars().count(), 63);
    }
}
