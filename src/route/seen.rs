//! What a look-up has seen of a request's fields, query and cookies: for patterns with many predicates these are read once, not
//! once for each predicate of each route.

use std::borrow::Cow;

use super::predicates::{Asked, Place, Predicate, Test};

/// So many predicates are asked of the request itself: for a few it costs less than to gather all there is.
const DIRECT_MAX: u32 = 4;
/// The same for header fields: where a name is not there, most fields are told from it by its length alone.
const DIRECT_FIELDS_MAX: u32 = 16;

/// A name and a value, both as they are meant.
type Pair<'p> = (Cow<'p, [u8]>, Cow<'p, [u8]>);

/// The request of a look-up, and what was gathered of it. Nothing is gathered for routes without predicates.
pub(super) struct Seen<'p> {
    pub(super) asked: &'p dyn Asked,
    direct: u32,
    direct_fields: u32,
    announced: Vec<Cow<'p, [u8]>>,
    fields: Option<Vec<Pair<'p>>>,
    cookies: Option<Vec<Pair<'p>>>,
    query: Option<Vec<Pair<'p>>>,
}

impl<'p> Seen<'p> {
    #[inline]
    pub(super) fn new(asked: &'p dyn Asked) -> Self {
        Seen { asked, direct: 0, direct_fields: 0, announced: Vec::new(), fields: None, cookies: None, query: None }
    }

    /// Whether a predicate holds, see [`Predicate::holds`].
    pub(super) fn holds(&mut self, predicate: &Predicate) -> bool {
        let asked = self.asked;
        let (gathered, direct, direct_max) = match predicate.place {
            Place::Header => (&mut self.fields, &mut self.direct_fields, DIRECT_FIELDS_MAX),
            Place::Cookie => (&mut self.cookies, &mut self.direct, DIRECT_MAX),
            Place::Query => (&mut self.query, &mut self.direct, DIRECT_MAX),
        };
        if gathered.is_none() && *direct < direct_max {
            *direct += 1;
            return predicate.holds(asked);
        }
        let is_header = predicate.place == Place::Header;
        if gathered.is_none() && is_header {
            asked.each_announced(&mut |name| self.announced.push(name));
            self.announced.sort_unstable();
        }
        let pairs = gathered.get_or_insert_with(|| gather(asked, predicate.place));
        let is_announced = |name: &Cow<'_, [u8]>| name.as_ref().cmp(predicate.name.as_bytes());
        if is_header && self.announced.binary_search_by(is_announced).is_ok() {
            return predicate.test != Test::Absent;
        }
        holds(predicate, pairs)
    }
}

fn gather(asked: &dyn Asked, place: Place) -> Vec<Pair<'_>> {
    let mut pairs = Vec::new();
    asked.each(place, &mut |name, value| pairs.push((name, value)));
    // Equal ones say the same, and in order none of them is looked at but those that may be meant.
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn holds(predicate: &Predicate, pairs: &[Pair<'_>]) -> bool {
    let name = predicate.name.as_bytes();
    let from = pairs.partition_point(|(other, _)| other.as_ref() < name);
    let behind = pairs.get(from..).unwrap_or_default();
    let values = behind.get(..behind.partition_point(|(other, _)| other.as_ref() == name)).unwrap_or_default();
    // The first value that is not less than the text.
    let at = |text: &str| values.get(values.partition_point(|(_, value)| value.as_ref() < text.as_bytes()));
    match &predicate.test {
        Test::Present => !values.is_empty(),
        Test::Absent => values.is_empty(),
        Test::Equals(texts) => {
            !values.is_empty()
                && texts.iter().any(|text| at(text).is_some_and(|(_, value)| **value == *text.as_bytes()))
        }
        Test::Prefix(text) => at(text).is_some_and(|(_, value)| value.starts_with(text.as_bytes())),
        Test::Regex(expression) => values.iter().any(|(_, value)| expression.is_match(value)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use http::Method;

    use super::super::{Lookup, RouteSpec, Router, TrailingSlash};
    use super::*;
    use crate::expression::Expression;

    /// Pairs of the query, which are its header fields too, and how often all of them were looked at.
    struct Pairs {
        pairs: Vec<(String, String)>,
        looks: Cell<usize>,
    }

    impl Pairs {
        fn new(pairs: Vec<(String, String)>) -> Self {
            Pairs { pairs, looks: Cell::new(0) }
        }
    }

    impl Asked for Pairs {
        fn has(&self, place: Place, name: &str, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
            self.looks.set(self.looks.get() + 1);
            place != Place::Cookie && self.pairs.iter().any(|(n, value)| n == name && is_meant(value.as_bytes()))
        }

        fn each<'r>(&'r self, place: Place, take: &mut dyn FnMut(Cow<'r, [u8]>, Cow<'r, [u8]>)) {
            self.looks.set(self.looks.get() + 1);
            if place != Place::Cookie {
                self.pairs.iter().for_each(|(name, value)| take(name.as_bytes().into(), value.as_bytes().into()));
            }
        }
    }

    /// The predicates of many routes, all but each route's last of what is absent.
    fn sixteen_of_256_routes(about: impl Fn(usize, usize) -> (Place, String)) -> Vec<Vec<Predicate>> {
        let one = |route, i| {
            let (place, name) = about(route, i);
            let test = if i == 15 { Test::Present } else { Test::Absent };
            Predicate { place, name, test, shown: String::new() }
        };
        (0..256).map(|route| (0..16).map(|i| one(route, i)).collect()).collect()
    }

    fn specs(all: &[Vec<Predicate>]) -> Vec<RouteSpec<'_>> {
        all.iter().map(|predicates| RouteSpec { path: "/q", predicates, ..RouteSpec::default() }).collect()
    }

    #[test]
    fn however_many_predicates_there_are_the_query_is_read_a_few_times() {
        let all = sixteen_of_256_routes(|route, i| {
            let place = if i % 2 == 0 { Place::Cookie } else { Place::Query };
            (place, format!("n{route:03}{i:02}"))
        });
        let mut specs = specs(&all);
        specs.push(RouteSpec { path: "/z/", trailing_slash: TrailingSlash::Redirect, ..RouteSpec::default() });
        let router = Router::build(&specs).unwrap();
        let pairs = Pairs::new((0..3900).map(|i| (format!("x{i}"), "v".to_owned())).collect());
        assert_eq!(router.find("", "/q", &Method::GET, &pairs), Lookup::NotFound);
        assert!(pairs.looks.get() <= 6, "{} looks at all pairs", pairs.looks.get());
        // With the slash the path is looked for a second time, without it.
        pairs.looks.set(0);
        assert_eq!(router.find("", "/q/", &Method::GET, &pairs), Lookup::NotFound);
        assert!(pairs.looks.get() <= 6, "{} looks at all pairs", pairs.looks.get());
        let last = Pairs::new(vec![("n25515".to_owned(), String::new())]);
        assert!(matches!(router.find("", "/q", &Method::GET, &last), Lookup::Found { route: 255, .. }));
    }

    #[test]
    fn however_many_predicates_there_are_the_fields_are_read_a_few_times() {
        let all = sixteen_of_256_routes(|route, i| (Place::Header, format!("x-{route:03}-{i:02}")));
        let router = Router::build(&specs(&all)).unwrap();
        let fields = Pairs::new((0..250).map(|i| (format!("x-{i:03}-zz"), "v".to_owned())).collect());
        assert_eq!(router.find("", "/q", &Method::GET, &fields), Lookup::NotFound);
        assert!(fields.looks.get() <= 17, "{} looks at all fields", fields.looks.get());
        let last = Pairs::new(vec![("x-255-15".to_owned(), String::new())]);
        assert!(matches!(router.find("", "/q", &Method::GET, &last), Lookup::Found { route: 255, .. }));
    }

    #[test]
    fn what_was_gathered_answers_as_the_request_does() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let tests = [
            Test::Present,
            Test::Absent,
            Test::Equals(texts(&["a", "b"])),
            Test::Equals(texts(&["zz"])),
            Test::Prefix("a".into()),
            Test::Prefix("ab".into()),
            Test::Regex(Expression::parse("^.b").unwrap()),
        ];
        let cases: [&[(&str, &str)]; 6] = [
            &[],
            &[("x", "")],
            &[("x", "b"), ("w", "a"), ("y", "ab")],
            &[("x", "ab"), ("x", "ab"), ("x", "0")],
            &[("xx", "a"), ("", "b"), ("w", "zz")],
            &[("x", "zz"), ("x", "aa"), ("y", "a")],
        ];
        for case in cases {
            let pairs = Pairs::new(case.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
            let gathered = gather(&pairs, Place::Query);
            for (test, name) in tests.iter().flat_map(|test| ["x", "y", "", "z"].map(|name| (test, name))) {
                let predicate =
                    Predicate { place: Place::Query, name: name.into(), test: test.clone(), shown: String::new() };
                assert_eq!(holds(&predicate, &gathered), predicate.holds(&pairs), "{case:?} {predicate:?}");
            }
        }
    }
}
