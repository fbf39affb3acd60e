//! A path made anew by a regular expression: `^/old/([0-9]+)/(.*)$` and `/new/{1}/{2}`.

use std::cell::RefCell;

use regex::bytes::CaptureLocations;

use super::facts::{Facts, Over};
use super::template::{Place, Template, TemplateError};
use crate::expression::Grouping;
use crate::value::Invalid;

/// Each is work for every request; more than this is a mistake.
const GROUPS_MAX: usize = 16;

/// An expression that must match the whole path, and the path that is made where it does.
#[derive(Debug, Clone)]
pub struct Replace {
    expression: Grouping,
    to: Template,
    /// Groups by the index that the template has for them.
    groups: Vec<usize>,
    /// Reused from request to request.
    locations: RefCell<CaptureLocations>,
}

impl Replace {
    /// Reads an expression. It need not begin with `^` and end with `$`: it matches whole paths, or not at all.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn expression(text: &str) -> Result<Grouping, Invalid> {
        // By itself first, so that a brace that closes the group below is no way out of it.
        Grouping::parse(text)?;
        if text.is_empty() {
            return Err(Invalid::new("is empty", "no path is: every path begins with a slash"));
        }
        let whole = Grouping::parse(&format!("^(?:{text})$"));
        // A comment of `(?x)` at its end goes on to the end of the line, which means nothing there.
        let whole = whole.or_else(|fault| Grouping::parse(&format!("^(?:{text}\n)$")).map_err(|_| fault))?;
        if whole.regex().captures_len() > GROUPS_MAX + 1 {
            return Err(Invalid::new("has too many groups", format!("at most {GROUPS_MAX}; (?:…) is none")));
        }
        Ok(whole)
    }

    /// The names by which a template calls the groups: numbers from 0, then names.
    pub fn names(expression: &Grouping) -> Vec<String> {
        let regex = expression.regex();
        let numbers = (0..regex.captures_len()).map(|group| group.to_string());
        numbers.chain(regex.capture_names().flatten().map(str::to_owned)).collect()
    }

    /// The path is made of `to`, see [`Template::parse_path`], in which the groups stand for what they matched.
    ///
    /// # Errors
    /// What is wrong with the template, and what would be right.
    pub fn new(expression: Grouping, to: &str) -> Result<Self, TemplateError> {
        let regex = expression.regex();
        let named = regex.capture_names().enumerate().filter_map(|(group, name)| name.map(|_| group));
        let groups = (0..regex.captures_len()).chain(named).collect();
        let locations = RefCell::new(regex.capture_locations());
        let to = Template::parse_path(to, &Self::names(&expression))?;
        Ok(Self { expression, to, groups, locations })
    }

    /// Appends the path that is made of `path`; false if the expression does not match it.
    pub fn apply<F: Facts>(&self, path: &str, facts: &F, out: &mut Vec<u8>) -> bool {
        let mut locations = self.locations.borrow_mut();
        if self.expression.regex().captures_read(&mut locations, path.as_bytes()).is_none() {
            return false;
        }
        self.to.render(&Matched { facts, path, locations: &locations, groups: &self.groups }, Place::Path, out);
        true
    }
}

/// What the groups matched, and what there is to know of the request.
struct Matched<'a, F> {
    facts: &'a F,
    path: &'a str,
    locations: &'a CaptureLocations,
    groups: &'a [usize],
}

impl<F: Facts> Over for Matched<'_, F> {
    type Base = F;

    fn base(&self) -> &F {
        self.facts
    }

    fn param(&self, i: usize) -> &str {
        let span = self.groups.get(i).and_then(|group| self.locations.get(*group));
        span.and_then(|(from, to)| self.path.get(from..to)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::tests::Request;
    use super::*;

    fn replaced(expression: &str, to: &str, path: &'static str) -> Option<String> {
        let replace = Replace::new(Replace::expression(expression).unwrap(), to).unwrap();
        let request = Request { params: ["7", "a"], query: None, header: b"a/b", path };
        let mut out = Vec::new();
        replace.apply(path, &request, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn groups_go_into_the_path_by_number_and_by_name() {
        let old = "^/old/([0-9]+)/(?<rest>.*)$";
        assert_eq!(replaced(old, "/new/{1}/{rest}", "/old/7/a/b%2Fc").as_deref(), Some("/new/7/a/b%2Fc"));
        assert_eq!(replaced(old, "/{2}/{1}", "/old/7/").as_deref(), Some("//7"));
        assert_eq!(replaced(old, "/{0}", "/old/7/x").as_deref(), Some("//old/7/x"));
        assert_eq!(replaced(old, "/x", "/old/a/x"), None);
        assert_eq!(replaced("/a|/b", "/c", "/b").as_deref(), Some("/c"), "the whole path without ^ and $");
        assert_eq!(replaced("/a|/b", "/c", "/bc"), None);
        assert_eq!(replaced("(?x) /a  # it) ends", "/c", "/a").as_deref(), Some("/c"), "a comment");
        assert_eq!(replaced("(?x) /a  # it) ends", "/c", "/a\n"), None);
        assert_eq!(replaced("/(a)?b", "/{1}-{header.x-h}", "/b").as_deref(), Some("/-a%252Fb"));
    }

    #[test]
    fn what_is_cut_out_of_a_path_can_not_become_something_else() {
        for (expression, to, path, made) in [
            ("/a(.)(.*)", "/{1}{2}", "/a%2e%2e", "/%252e%2e"),
            ("/(.*)%(.*)", "/{1}%25{2}", "/a%2f", "/a%252f"),
            ("/(.)x(.)/(.*)", "/{1}{2}/{3}", "/.x./etc", "/%252E%252E/etc"),
            ("/(.*)x", "/{1}/y", "/..x", "/%252E%252E/y"),
        ] {
            assert_eq!(replaced(expression, to, path).as_deref(), Some(made), "{expression} {path}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let why = |expression: &str| Replace::expression(expression).unwrap_err().to_string();
        assert!(why("a)|(b").contains("unopened group"), "{}", why("a)|(b"));
        assert!(why(&"(a)".repeat(17)).contains("too many groups"));
        let bad = |to: &str| Replace::new(Replace::expression("/(a)").unwrap(), to).unwrap_err().to_string();
        assert!(why("").contains("is empty"));
        assert!(bad("/{2}").contains("there is no value `{2}`"), "{}", bad("/{2}"));
        assert!(bad("{1}").contains("does not begin with a slash"));
        assert!(bad("/%{1}").contains("two hexadecimal digits"));
        assert!(bad("/../{1}").contains("dot segment"));
        assert!(bad("/{deadline_ms}").contains("when its request is sent"));
    }
}
