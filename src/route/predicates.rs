//! What a route wants of a request beside host, path and method: its header fields, cookies and the pairs of its query.

use std::borrow::Cow;

use crate::expression::Expression;

/// Where in the request a predicate looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Its header fields.
    Header,
    /// Its cookies.
    Cookie,
    /// The pairs of its query.
    Query,
}

/// What is wanted of the values of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// One of them is one of these, byte by byte.
    Equals(Vec<String>),
    /// One of them begins so.
    Prefix(String),
    /// The expression matches somewhere in one of them.
    Regex(Expression),
}

/// One thing that is wanted of a request.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// Where to look.
    pub place: Place,
    /// The name of the field (in lower case, with `-` for `_`), the cookie or the key of the query (as it is meant, not as it is escaped).
    pub name: String,
    /// What its values must be.
    pub test: Test,
    /// What they are compared with, as it may be shown to people.
    pub shown: String,
}

/// Those that want the same are the same, however that may be shown.
impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        (self.place, &self.name, &self.test) == (other.place, &other.name, &other.test)
    }
}

/// A request, as far as predicates ask about it.
pub trait Asked {
    /// Whether the request has a value of this name for which `is_meant` says so. Names of header fields are the same in any
    /// case; values are as they are meant: those of a query without the encoding that a URL gave them.
    fn has(&self, place: Place, name: &str, is_meant: &dyn Fn(&[u8]) -> bool) -> bool;

    /// Gives every cookie, every pair of the query, or every header field that may be seen, with its name, both as [`Asked::has`]
    /// compares them: names of header fields in lower case, with `-` for `_`.
    fn each<'r>(&'r self, _place: Place, _take: &mut dyn FnMut(Cow<'r, [u8]>, Cow<'r, [u8]>)) {}

    /// Gives the name of every header field that will be there, with whatever value is wanted.
    fn each_announced<'r>(&'r self, _take: &mut dyn FnMut(Cow<'r, [u8]>)) {}
}

/// A request without fields and query.
impl Asked for () {
    fn has(&self, _place: Place, _name: &str, _is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        false
    }
}

impl Predicate {
    /// Whether it holds. A name that is there several times satisfies by any of its values.
    pub(super) fn holds(&self, asked: &dyn Asked) -> bool {
        let any = |is_meant: &dyn Fn(&[u8]) -> bool| asked.has(self.place, &self.name, is_meant);
        match &self.test {
            Test::Present => any(&|_| true),
            Test::Absent => !any(&|_| true),
            Test::Equals(texts) => any(&|value| texts.iter().any(|text| text.as_bytes() == value)),
            Test::Prefix(text) => any(&|value| value.starts_with(text.as_bytes())),
            Test::Regex(expression) => any(&|value| expression.is_match(value)),
        }
    }

    /// Why it does not hold.
    pub(super) fn why_not(&self, asked: &dyn Asked) -> String {
        let is_there = asked.has(self.place, &self.name, &|_| true);
        match &self.test {
            Test::Absent => "is there".to_owned(),
            _ if !is_there => "is not there".to_owned(),
            // What it is instead may be a secret.
            Test::Equals(_) => format!("is not {}", self.shown),
            Test::Prefix(_) => format!("does not begin with {}", self.shown),
            Test::Regex(_) => format!("is not like {}", self.shown),
            Test::Present => "is there".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Values of the header field `x`.
    struct Values(&'static [&'static str]);

    impl Asked for Values {
        fn has(&self, place: Place, name: &str, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
            place == Place::Header && name == "x" && self.0.iter().any(|value| is_meant(value.as_bytes()))
        }
    }

    #[test]
    fn any_value_satisfies_and_absent_wants_none() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let tests = [
            Test::Present,
            Test::Absent,
            Test::Equals(texts(&["a", "b"])),
            Test::Prefix("a".into()),
            Test::Regex(Expression::parse("^.b").unwrap()),
        ];
        let cases: [(&[&str], [bool; 5]); 6] = [
            (&[], [false, true, false, false, false]),
            (&[""], [true, false, false, false, false]),
            (&["a"], [true, false, true, true, false]),
            (&["c", "b"], [true, false, true, false, false]),
            (&["cb", "abc"], [true, false, false, true, true]),
            (&["A"], [true, false, false, false, false]),
        ];
        for (values, expected) in cases {
            for (test, expected) in tests.iter().zip(expected) {
                let predicate = |name: &str| Predicate {
                    place: Place::Header,
                    name: name.into(),
                    test: test.clone(),
                    shown: String::new(),
                };
                assert_eq!(predicate("x").holds(&Values(values)), expected, "{values:?} {test:?}");
                assert_eq!(predicate("y").holds(&Values(values)), *test == Test::Absent, "another name");
            }
        }
    }

    #[test]
    fn why_it_does_not_hold_tells_no_value_of_the_request_and_none_that_may_not_be_shown() {
        let why = |test, values| {
            let shown = "***".to_owned();
            Predicate { place: Place::Header, name: "x".into(), test, shown }.why_not(&Values(values))
        };
        assert_eq!(why(Test::Present, &[]), "is not there");
        assert_eq!(why(Test::Absent, &["secret"]), "is there");
        assert_eq!(why(Test::Equals(vec!["a".into(), "b".into()]), &["secret"]), "is not ***");
        assert_eq!(why(Test::Prefix("a".into()), &["secret"]), "does not begin with ***");
        assert_eq!(why(Test::Regex(Expression::parse("^a$").unwrap()), &["secret"]), "is not like ***");
    }
}
