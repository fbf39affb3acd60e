//! From a request's host, path and method to the index of a route.
//!
//! ```
//! use http::Method;
//! use ringway::route::{Lookup, RouteSpec, Router};
//!
//! let router = Router::build(&[
//!     RouteSpec { path: "/user/{id}", methods: &[Method::GET], ..RouteSpec::default() },
//!     RouteSpec { path: "/user/{*rest}", ..RouteSpec::default() },
//!     RouteSpec { host: Some("*.example.com"), path: "/", ..RouteSpec::default() },
//! ])
//! .expect("no problem");
//!
//! let Lookup::Found { route, params } = router.find("", "/user/7", &Method::GET, &()) else { panic!() };
//! assert_eq!((route, params.get(0, "/user/7")), (0, "7"));
//! assert!(matches!(router.find("", "/user/7/a", &Method::GET, &()), Lookup::Found { route: 1, .. }));
//! assert!(matches!(router.find("a.example.com", "/", &Method::GET, &()), Lookup::Found { route: 2, .. }));
//! assert!(matches!(router.find("", "/", &Method::GET, &()), Lookup::NotFound));
//! ```
//!
//! The order in which routes are asked:
//! 1. **Host levels**: the exact name, wildcards from the longest, any host. A level without an answer passes on.
//! 2. **In a level**: the higher priority first.
//! 3. **Of a priority**: patterns that match the whole path before `{*rest}` prefixes.
//! 4. **Of patterns**: segment by segment from the left, literal text beats a parameter with text around it
//!    (`img-{id}.png`, more text first), and that beats `{param}`.
//! 5. **Of prefixes**: most segments before `{*rest}`, then as for patterns.
//! 6. **Of one pattern**: the route with more predicates first, then as in the config.
//!
//! A route whose predicates or methods do not fit is passed over; only when nothing else fits is the answer "method not
//! allowed", if one failed by its method alone. Nothing allocates but that answer, values of a query that are escaped, and what many
//! predicates gather of a query or of cookies. The path is matched as it is: the codec has removed dot segments before.

use std::fmt;

use http::Method;

pub mod back;
pub mod body;
pub mod condition;
mod edges;
pub(crate) mod encode;
mod explain;
pub mod facts;
mod host;
mod leaf;
mod level;
mod method;
mod params;
mod path;
mod pattern;
pub mod predicates;
pub mod query;
#[cfg(test)]
mod reference;
pub mod replace;
pub mod rewrite;
mod seen;
pub mod template;

pub use explain::{Candidate, Verdict};
pub use params::Params;
pub use pattern::{PARAMS_MAX, PatternError, param_names};

use predicates::{Asked, Predicate};

/// What a route matches.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteSpec<'a> {
    /// `api.example.com`, `*.example.com` (one label or more), or any host.
    pub host: Option<&'a str>,
    /// `/users`, `/users/{id}`, `/img/{name}.png`, `/static/{*rest}`.
    pub path: &'a str,
    /// The methods it takes; empty: every method. GET brings HEAD with it.
    pub methods: &'a [Method],
    /// What else must hold: sorted by place and name, and each of them once.
    pub predicates: &'a [Predicate],
    /// Among routes of the same host the higher one is asked first.
    pub priority: i32,
    /// What is made of a slash at the end that the path has and a request lacks, or the other way round.
    pub trailing_slash: TrailingSlash,
}

/// What is made of a path that differs from a route's by a slash at its end only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrailingSlash {
    /// It is another path.
    #[default]
    Strict,
    /// It is the same path.
    Match,
    /// The client is sent to the form that the route has, unless another route takes the request.
    Redirect,
}

/// Which part of a [`RouteSpec`] has a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// [`RouteSpec::host`]
    Host,
    /// [`RouteSpec::path`]
    Path,
    /// [`RouteSpec::methods`]
    Methods,
    /// [`RouteSpec::priority`]
    Priority,
    /// [`RouteSpec::trailing_slash`]
    TrailingSlash,
}

/// Why a route can not be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Index of the route.
    pub route: usize,
    /// Index of the earlier route it conflicts with.
    pub other: Option<usize>,
    /// Where the problem is.
    pub field: Field,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// The answer of [`Router::find`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A route matches.
    Found {
        /// Its index in what the router was built from.
        route: usize,
        /// What its parameters matched.
        params: Params,
    },
    /// A route matches the path with, or without, a slash at its end, and sends the client there.
    Redirect {
        /// Its index in what the router was built from.
        route: usize,
        /// The path that it matches.
        path: String,
    },
    /// A route matches all but the method: 405.
    MethodNotAllowed {
        /// The value of the Allow field that must come with it (RFC 9110 15.5.6).
        allow: String,
    },
    /// No route matches: 404.
    NotFound,
}

/// The routes of one snapshot, ready to be asked.
#[derive(Default)]
pub struct Router {
    hosts: host::Hosts,
    methods: method::Methods,
    /// Routes with [`TrailingSlash::Redirect`], in their order.
    redirects: Vec<u32>,
}

impl Router {
    /// Builds the router; a route is known by its index in `specs`.
    ///
    /// # Errors
    /// Every problem of every route.
    pub fn build(specs: &[RouteSpec<'_>]) -> Result<Router, Vec<Problem>> {
        let mut router = Router::default();
        let added = (0..specs.len()).filter_map(|route| router.add(route, specs).err());
        let problems: Vec<Problem> = added.collect();
        if problems.is_empty() { Ok(router) } else { Err(problems) }
    }

    fn add(&mut self, route: usize, specs: &[RouteSpec<'_>]) -> Result<(), Problem> {
        let problem = |field, what: String, remedy: String| Problem { route, other: None, field, what, remedy };
        let Some(spec) = specs.get(route) else { return Ok(()) };
        let pattern = pattern::Pattern::parse(spec.path)
            .map_err(|e| problem(Field::Path, e.what().to_owned(), e.remedy().to_owned()))?;
        let other_form = match spec.trailing_slash {
            TrailingSlash::Strict => None,
            _ => Some(pattern.other_form().map_err(|(what, remedy)| problem(Field::TrailingSlash, what, remedy))?),
        };
        let methods = self.methods.set(spec.methods).ok_or_else(|| {
            let what = format!("the routes name more than {} methods outside the standard ones", method::OTHERS_MAX);
            problem(Field::Methods, what, "leave `methods` out where every method may pass".into())
        })?;
        let level = self.hosts.level(spec.host).map_err(|(what, remedy)| problem(Field::Host, what, remedy))?;
        let index = u32::try_from(route).map_err(|_| {
            problem(Field::Path, "there are more than 2^32 routes".into(), "use prefixes and parameters".into())
        })?;
        let tree = level.tree(spec.priority).ok_or_else(|| {
            let what = format!("the routes of one host have more than {} priorities", level::PRIORITIES_MAX);
            problem(Field::Priority, what, "use fewer: the more specific route wins without any".into())
        })?;
        let refused = |why, is_other_form| conflict(route, specs, why, is_other_form);
        tree.insert(&pattern, methods, index, spec.predicates).map_err(|why| refused(why, false))?;
        match other_form {
            Some(other) if spec.trailing_slash == TrailingSlash::Match => {
                tree.insert(&other, methods, index, spec.predicates).map_err(|why| refused(why, true))?;
            }
            Some(_) => self.redirects.push(index),
            None => {}
        }
        Ok(())
    }

    /// Finds the route for a request. `host` is in lower case and without port, empty if the request has none; `path`
    /// is without query. Paths beyond 65,535 bytes are known by no route.
    #[inline]
    pub fn find(&self, host: &str, path: &str, method: &Method, asked: &dyn Asked) -> Lookup {
        if path.len() > usize::from(u16::MAX) {
            return Lookup::NotFound;
        }
        let mut search = path::Search::new(path, self.methods.bit(method), asked);
        match self.hosts.find(host, |level| level.find(&mut search)) {
            Some((route, params)) => Lookup::Found { route: route as usize, params },
            None => self.not_found(host, path, search),
        }
    }

    #[cold]
    fn not_found(&self, host: &str, path: &str, search: path::Search<'_>) -> Lookup {
        let refused = search.refused;
        if let Some(redirect) = self.redirect(host, path, search) {
            return redirect;
        }
        match refused {
            0 => Lookup::NotFound,
            refused => Lookup::MethodNotAllowed { allow: self.methods.names(refused) },
        }
    }

    /// Where the request would be known with, or without, a slash at the end of its path.
    fn redirect(&self, host: &str, path: &str, before: path::Search<'_>) -> Option<Lookup> {
        // To many `//name` is another host, and to browsers `/\name` too: a location must not begin so.
        if self.redirects.is_empty() || path.starts_with("//") || path.starts_with("/\\") {
            return None;
        }
        let other = match path.strip_suffix('/') {
            Some("") => return None,
            Some(without) if without.ends_with('/') => return None,
            Some(without) => without.to_owned(),
            None if path.len() == usize::from(u16::MAX) => return None,
            None => format!("{path}/"),
        };
        let mut search = before.again(&other);
        let (route, _) = self.hosts.find(host, |level| level.find(&mut search))?;
        self.redirects.binary_search(&route).ok()?;
        Some(Lookup::Redirect { route: route as usize, path: other })
    }
}

/// Why a route can not be added.
fn conflict(route: usize, specs: &[RouteSpec<'_>], why: leaf::Refused, is_other_form: bool) -> Problem {
    let spec = |route: usize| specs.get(route).copied().unwrap_or_default();
    let path = spec(route).path;
    let problem = |other, what, remedy: &str| {
        let field = if is_other_form { Field::TrailingSlash } else { Field::Path };
        Problem { route, other, field, what, remedy: remedy.to_owned() }
    };
    let other = match why {
        leaf::Refused::Same(other) => other as usize,
        leaf::Refused::TooMany(what, max) => {
            let what = format!("the routes of the pattern `{path}` have more than {max} {what}");
            return problem(None, what, "they would be asked one by one: use paths, hosts or `equals` instead");
        }
    };
    // Patterns that are the same may name their parameters differently, but have the same number of slashes.
    let forms_differ = path.matches('/').count() != spec(other).path.matches('/').count();
    let what = if is_other_form || forms_differ {
        format!(
            "`{path}` is, with `trailing_slash: match`, the same pattern as an earlier route's, and their methods overlap"
        )
    } else if spec(route).predicates.is_empty() {
        format!("`{path}` is the same pattern as an earlier route's, and their methods overlap")
    } else {
        format!(
            "`{path}` is the same pattern with the same predicates as an earlier route's, and their methods overlap"
        )
    };
    let remedy = if is_other_form || forms_differ {
        "let one of them have both forms, or write `trailing_slash: strict`"
    } else {
        "give each its own methods, host, path, predicates or priority, or remove one"
    };
    problem(Some(other), what, remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];

    fn router(specs: &[(&str, &[Method])]) -> Router {
        let specs: Vec<_> =
            specs.iter().map(|(path, methods)| RouteSpec { path, methods, ..RouteSpec::default() }).collect();
        Router::build(&specs).map_err(|p| p[0].to_string()).unwrap()
    }

    /// The route and its parameters, as `2 id=7`-like text: `2:7,8`, `405:GET, HEAD` or `404`.
    fn ask(router: &Router, host: &str, path: &str, method: Method) -> String {
        match router.find(host, path, &method, &()) {
            Lookup::Found { route, params } => {
                let params: Vec<_> = (0..params.len()).map(|i| params.get(i, path)).collect();
                format!("{route}:{}", params.join(","))
            }
            Lookup::MethodNotAllowed { allow } => format!("405:{allow}"),
            Lookup::Redirect { route, path } => format!("308:{route} {path}"),
            Lookup::NotFound => "404".into(),
        }
    }

    #[track_caller]
    fn check(router: &Router, cases: &[(&str, &str)]) {
        for (path, expected) in cases {
            assert_eq!(ask(router, "", path, Method::GET), *expected, "{path}");
        }
    }

    #[test]
    fn patterns_come_before_prefixes_and_literals_before_parameters() {
        let router = router(&[
            ("/user/{id}", &[]),
            ("/user/me", &[]),
            ("/user/{*rest}", &[]),
            ("/{a}/{b}/{*rest}", &[]),
            ("/{x}/me", &[]),
            ("/img/thumb-{id}.png", &[]),
            ("/img/{name}.png", &[]),
            ("/img/{name}", &[]),
            ("/", &[]),
            ("/slash/", &[]),
            ("/x{a}", &[]),
            ("/{a}yy", &[]),
            ("/{a}y", &[]),
        ]);
        check(
            &router,
            &[
                ("/user/me", "1:"),
                ("/user/7", "0:7"),
                ("/user", "2:"),
                ("/user/", "2:"),
                ("/user/a/b", "3:user,a,b"), // two segments before the rest beat one
                ("/user//b", "2:/b"),        // a parameter is never empty
                ("/other/me", "4:other"),
                ("/other/7", "3:other,7,"),
                ("/img/thumb-1.png", "5:1"),
                ("/img/thumb-.png", "6:thumb-"),
                ("/img/.png", "7:.png"),
                ("/", "8:"),
                ("/slash/", "9:"),
                ("/slash", "404"),
                ("/x1yy", "11:x1"),     // more text beats less, wherever it is
                ("/x1y", "10:1y"),      // of as much, that in front
                ("/User/me", "4:User"), // paths are case-sensitive
                ("//", "404"),
                ("", "404"),
                ("*", "404"),
            ],
        );
    }

    #[test]
    fn parameters_of_a_way_that_was_given_up_are_forgotten() {
        let router = router(&[("/{a}/x/{b}/y", &[]), ("/p-{a}/x/{b}/z", &[]), ("/p-1/{c}/{d}/w", &[]), ("/{*r}", &[])]);
        check(
            &router,
            &[
                ("/p-1/x/2/y", "0:p-1,2"),
                ("/p-1/x/2/z", "1:1,2"),
                ("/p-1/x/2/w", "2:x,2"),
                ("/p-1/x/2/v", "3:p-1/x/2/v"),
            ],
        );
    }

    #[test]
    fn a_pattern_that_does_not_take_the_method_is_passed_over() {
        let purge: &[Method] = &["PURGE".parse().unwrap()];
        let router = router(&[
            ("/a/b", POST),
            ("/a/{x}", GET),
            ("/a/{*rest}", &[Method::PUT]),
            ("/a/b", purge),
            ("/h/{x}", GET),
            ("/h/{y}", &[Method::HEAD]),
            ("/any", &[]),
        ]);
        let ask = |path, method: &str| ask(&router, "", path, method.parse().unwrap());
        assert_eq!(ask("/a/b", "POST"), "0:");
        assert_eq!(ask("/a/b", "GET"), "1:b");
        assert_eq!(ask("/a/b", "HEAD"), "1:b");
        assert_eq!(ask("/a/b", "PUT"), "2:b");
        assert_eq!(ask("/a/b", "PURGE"), "3:");
        assert_eq!(ask("/a/b", "DELETE"), "405:GET, HEAD, POST, PURGE, PUT");
        assert_eq!(ask("/a/c", "BAN"), "405:GET, HEAD, PUT");
        assert_eq!(ask("/h/1", "HEAD"), "5:1");
        assert_eq!(ask("/any", "BAN"), "6:");
        assert_eq!(ask("/none", "BAN"), "404");
    }

    #[test]
    fn host_levels_pass_on_what_they_do_not_know() {
        let spec = |host, path, methods| RouteSpec { host, path, methods, ..RouteSpec::default() };
        let router = Router::build(&[
            spec(Some("api.example.com"), "/a", &[]),
            spec(Some("*.example.com"), "/{x}", GET),
            spec(Some("*.b.example.com"), "/a", POST),
            spec(None, "/c/{*rest}", &[Method::PUT]),
            spec(Some("API.other.com"), "/c/d", GET),
        ])
        .unwrap();
        let ask = |host, path, method| ask(&router, host, path, method);
        assert_eq!(ask("api.example.com", "/a", Method::GET), "0:");
        assert_eq!(ask("api.example.com.", "/a", Method::GET), "0:");
        assert_eq!(ask("api.example.com", "/b", Method::GET), "1:b");
        assert_eq!(ask("a.b.example.com", "/a", Method::POST), "2:");
        assert_eq!(ask("a.b.example.com", "/a", Method::GET), "1:a");
        assert_eq!(ask("a.b.example.com", "/a", Method::PUT), "405:GET, HEAD, POST");
        assert_eq!(ask("example.com", "/a", Method::GET), "404");
        assert_eq!(ask("api.other.com", "/c/d", Method::PUT), "3:d");
        assert_eq!(ask("api.other.com", "/c/d", Method::POST), "405:GET, HEAD, PUT");
        assert_eq!(ask("", "/c", Method::PUT), "3:");
        assert_eq!(ask(&"a.".repeat(4000), "/c", Method::PUT), "3:");
    }

    #[test]
    fn every_problem_is_named_with_its_route() {
        let spec = |host, path, methods| RouteSpec { host, path, methods, ..RouteSpec::default() };
        let problems = Router::build(&[
            spec(None, "/a/{x}", GET),
            spec(None, "a", &[]),
            spec(Some("*"), "/a", &[]),
            spec(None, "/a/{other}", &[Method::POST, Method::GET]),
            spec(None, "/a/{x}", POST),
            spec(None, "/a/{x}", &[]),
            spec(Some("a.com"), "/a/{x}", &[]),
            spec(Some("A.com"), "/a/{x}", GET),
        ])
        .err()
        .unwrap();
        let seen: Vec<_> = problems.iter().map(|p| (p.route, p.other, p.field)).collect();
        let expected = [
            (1, None, Field::Path),
            (2, None, Field::Host),
            (3, Some(0), Field::Path),
            (5, Some(0), Field::Path),
            (7, Some(6), Field::Path),
        ];
        assert_eq!(seen, expected);
        assert!(problems[2].to_string().contains("methods overlap; give each its own"));
    }

    #[test]
    fn paths_too_long_for_spans_are_known_by_no_route() {
        let router = router(&[("/{*rest}", &[])]);
        assert_eq!(ask(&router, "", &format!("/{}", "a".repeat(65_535)), Method::GET), "404");
        let longest = format!("/{}", "a".repeat(65_534));
        assert_eq!(ask(&router, "", &longest, Method::GET), format!("0:{}", &longest[1..]));
    }
}
