//! What can be wrong with predicates, priorities, slashes, splits and what sticks to them.
#![allow(clippy::unwrap_used)]

use super::routes::Action;
use super::split::{Sticky, Target};
use super::tests::read;
use crate::route::predicates::{Place, Test};

/// The errors of these routes, each without its file.
fn refused(routes: &str) -> Vec<String> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:80 }}]\nupstreams: {{ a: {{ endpoints: [a:1] }}, b: {{ endpoints: [b:1] }} }}\nroutes:\n{routes}"
    );
    let errors = read(&text).map(|_| ()).expect_err(routes);
    errors.lines().map(|line| line.split_once(':').unwrap().1.to_owned()).collect()
}

#[track_caller]
fn matching(keys: &str, expected: &[&str]) {
    let errors = refused(&format!("- {{ match: {{ path: /, {keys} }}, respond: {{}} }}\n"));
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error}\nhas not: {expected}");
    }
}

#[track_caller]
fn forward(keys: &str, expected: &str) {
    let errors = refused(&format!("- {{ match: {{ path: / }}, forward: {{ {keys} }} }}\n"));
    assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:#?}\nhas not: {expected}");
}

#[test]
fn what_is_wrong_with_predicates_is_told() {
    matching(
        "headers: { X-A: yes }",
        &["match.headers.X-A: `yes` is not a word that is known here (present, absent, { equals: yes }"],
    );
    matching(
        "headers: { x-a: present, X-A: absent }",
        &["`x-a` is here twice (remove one; case does not matter, nor does `_` for `-` in fields)"],
    );
    matching("headers: { host: present }", &["`host` is matched by a key of its own (use `host` of match)"]);
    matching("headers: { 'a b': present }", &["`a b` is not the name of a header field"]);
    matching("cookies: { 'a=b': present }", &["`a=b` is not the name of a cookie"]);
    matching("cookies: { a: { equals: 'x;y' } }", &["has a `;` in it"]);
    matching("query: { '': present }", &["is not the key of a query"]);
    matching("query: { q: {} }", &["says not one thing (give exactly one of equals, prefix, regex)"]);
    matching("query: { q: { equals: a, prefix: b } }", &["says not one thing"]);
    matching("query: { q: { equal: a } }", &["says not one thing", "unknown key (did you mean `equals`?)"]);
    matching("query: { q: { equals: [] } }", &["has 0 items (allowed: 1 to 64)"]);
    matching("query: { q: { equals: [a, a] } }", &["`a` is listed twice"]);
    matching("query: { q: { prefix: '' } }", &["is empty (write `present`"]);
    matching("headers: { x: { equals: \"a\\nb\" } }", &["has a control character in it"]);
    for blank in ["equals: ' a'", "equals: [a, 'a\t']", "prefix: ' a'"] {
        matching(
            &format!("headers: {{ x: {{ {} }} }}", blank.replace('\'', "\"")),
            &["has a blank at its start or end"],
        );
    }
    // A prefix may end in one: only the second name is wrong here.
    matching("headers: { x: { prefix: 'Bearer ' }, X: present }", &["`x` is here twice"]);
    matching("headers: { x: { regex: '(' } }", &["is not a regular expression (unclosed group)"]);
    matching("headers: { x: { regex: '(a{100}){100}' } }", &["is a regular expression that explodes"]);
    matching("headers: { x: { regex: '[01]*1[01]{20}' } }", &["is a regular expression that explodes"]);
    matching("headers: { x: { regex: '\\bx\\b' } }", &["(?-u:\\b)"]);
    let many: Vec<String> = (0..17).map(|i| format!("h{i}: present")).collect();
    matching(&format!("headers: {{ {} }}", many.join(", ")), &["has 17 entries (at most 16)"]);
    matching(
        "headers: [], cookies: x, priority: 1001",
        &["must be a mapping", "must be a mapping", "allowed: -1000 to 1000"],
    );
    let secret = refused(&format!(
        "- {{ match: {{ path: /, headers: {{ x-api-key: {{ equals: [{}] }} }} }}, respond: {{}} }}\n",
        "hush".repeat(300)
    ));
    assert!(secret.len() == 1 && secret[0].contains("is too long") && !secret[0].contains("hush"), "{secret:?}");
    matching("priority: high", &["`high` is not a whole number"]);
    matching("trailing_slash: strikt", &["did you mean `strict`?"]);
    matching(
        "trailing_slash: match",
        &["match.trailing_slash: the path `/` has no other form (leave `trailing_slash` out)"],
    );
    let rest = refused("- { match: { path: '/a/{*rest}', trailing_slash: redirect }, respond: {} }\n");
    assert!(rest.len() == 1 && rest[0].contains("takes paths with and without a slash"), "{rest:?}");
}

#[test]
fn a_wrong_predicate_tells_no_credential() {
    let told = |keys: &str| {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:80 }}]\nroutes: [{{ match: {{ path: /, {keys} }}, respond: {{}} }}]"
        );
        let hush = |_: &str| Some("hush-value".to_owned());
        let errors = super::parse("f", &text, &hush).map(|_| ()).unwrap_err().to_string();
        assert!(!errors.contains("hush"), "{keys}: {errors}");
        errors
    };
    for keys in [
        "headers: { authorization: '${S}' }",
        "headers: { authorization: Bearer hush }",
        "headers: { x-a: 'a ${S}' }",
        "cookies: { sid: '${S}' }",
        "cookies: { sid: hush }",
        "query: { api_key: '${S}' }",
        "query: { q: { equals: ['${S}', '${S}'] } }",
        "headers: { authorization: { equals: [hush, hush] } }",
    ] {
        told(keys);
    }
    assert!(told("cookies: { sid: '${S}' }").contains("{ equals: ${S} }"));
    assert!(told("query: { q: { equals: ['${S}', '${S}'] } }").contains("`${S}` is listed twice"));
}

#[test]
fn a_path_that_no_request_can_have_is_refused() {
    let of = |listeners: &str, path: &str| {
        let text = format!("listeners: [{listeners}]\nroutes: [{{ match: {{ path: '{path}' }}, respond: {{}} }}]");
        read(&text).map(|_| ()).map_err(|errors| errors.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let (one, keeps) = ("{ address: '127.0.0.1:80' }", "{ address: '127.0.0.1:81', paths: { encoded_slashes: keep } }");
    let merges = "{ address: '127.0.0.1:82', paths: { merge_slashes: true } }";
    for (listeners, path, remedy) in [
        (
            one,
            "/%c3%a4dmin/{*r}",
            "`%c3%a4dmin` can never match, since paths are normalised before routing (write `%C3%A4dmin`)",
        ),
        (one, "/%61pi", "write `api`"),
        (one, "/x|y", "write %7C"),
        (one, "/bad%zz", "write %25"),
        (one, "/api/<id>", "write `{name}`"),
        (one, "/api/*", "write `{*rest}`"),
        (one, "/api/:id", "write `{id}`"),
        (
            one,
            "/a%2Fb",
            "`/a%2Fb` can never match: no listener lets %2F and %5C into a path (write `paths: { encoded_slashes: keep }`",
        ),
        (merges, "/a//b", "`/a//b` can never match: every listener has `merge_slashes` (write one slash)"),
    ] {
        let errors = of(listeners, path).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(remedy), "{path}: {errors:?}");
    }
    for (listeners, path) in [
        (format!("{one}, {keeps}"), "/a%2Fb"),
        (format!("{one}, {merges}"), "/a//b"),
        (one.to_owned(), "/%C3%A4dmin/{*r}"),
        (one.to_owned(), "/v1/a:b/(c);d=e,f/@g!$$&"),
        (one.to_owned(), "/%3Aid"),
    ] {
        assert_eq!(of(&listeners, path), Ok(()), "{path}");
    }
}

#[test]
fn a_rewrite_takes_what_paths_have_and_sends_what_paths_may_have() {
    let of = |rewrite: &str| {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:80 }}]\nupstreams: {{ a: {{ endpoints: [a:1] }} }}\nroutes: [{{ match: {{ path: '/{{*r}}' }}, \
             forward: {{ upstream: a, rewrite: {{ {rewrite} }} }} }}]"
        );
        read(&text).map(|_| ())
    };
    for (rewrite, remedy) in [
        ("strip_prefix: /%61pi", "no path begins with `/%61pi`, since paths are normalised; write `/api`"),
        ("strip_prefix: /%c3%a4", "write `/%C3%A4`"),
        ("strip_prefix: /a%zz", "%25"),
        ("strip_prefix: /a%2Fb", "`/a%2Fb` can never match: no listener lets %2F and %5C into a path"),
        ("strip_prefix: /a|b", "write %7C"),
        ("add_prefix: /a%zz", "%25"),
    ] {
        let errors = of(rewrite).unwrap_err();
        assert!(errors.lines().count() == 1 && errors.contains(remedy), "{rewrite}: {errors}");
    }
    for rewrite in ["add_prefix: /%c3%a4/*|", "strip_prefix: /%C3%A4", "path: '/%7B{r}%7d'"] {
        assert_eq!(of(rewrite), Ok(()), "{rewrite}");
    }
}

#[test]
fn predicates_arrive_sorted_and_name_the_route() {
    let config = read(
        "listeners: [{ address: 127.0.0.1:80 }]
routes:
  - match: { path: /a, query: { q: { regex: ^x }, '%41': absent }, headers: { X-B: { equals: [b, a] }, x-a: { prefix: v } }, priority: -3 }
    respond: {}",
    )
    .unwrap();
    let route = &config.routes[0];
    assert_eq!(route.name.value, "/a header.x-a header.x-b query.%41 query.q");
    assert_eq!((route.matches.priority, route.matches.predicates.len()), (-3, 4));
    let b = &route.matches.predicates[1];
    assert_eq!((b.place, &b.test), (Place::Header, &Test::Equals(vec!["a".into(), "b".into()])));
}

#[test]
fn routes_for_the_same_requests_name_both_lines() {
    let conflict = |one: &str, other: &str| {
        refused(&format!(
            "- {{ name: one, match: {{ {one} }}, respond: {{}} }}\n- {{ name: other, match: {{ {other} }}, respond: {{}} }}\n"
        ))
    };
    let cases = [
        (
            "path: '/a/{x}', headers: { x-b: present, X-A: { equals: [p, q] } }",
            "path: '/a/{y}', headers: { x-a: { equals: [q, p] }, x-b: present }, methods: [GET]",
            "the same pattern with the same predicates as an earlier route's, and their methods overlap: see the route `one` on line 4",
        ),
        ("path: /a, priority: 5", "path: /a, priority: 5", "`/a` is the same pattern as an earlier route's"),
        (
            "path: /a/",
            "path: /a, trailing_slash: match",
            "match.trailing_slash: `/a` is, with `trailing_slash: match`, the same pattern as an earlier route's, and their methods \
             overlap: see the route `one` on line 4 (let one of them have both forms, or write `trailing_slash: strict`)",
        ),
        ("path: /a, trailing_slash: match", "path: /a/", "is, with `trailing_slash: match`, the same"),
    ];
    for (one, other, expected) in cases {
        let errors = conflict(one, other);
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:#?}\nhas not: {expected}");
        assert!(errors[0].starts_with("5:"), "{errors:?}");
    }
    for (one, other) in [
        ("path: /a, headers: { x: present }", "path: /a, headers: { x: absent }"),
        ("path: /a, headers: { x: present }", "path: /a, cookies: { x: present }"),
        ("path: /a", "path: /a, priority: 1"),
        ("path: /a", "path: /a/"),
        ("path: /a, trailing_slash: redirect", "path: /a/, trailing_slash: redirect"),
        ("path: /a, trailing_slash: match, methods: [GET]", "path: /a/, methods: [PUT]"),
    ] {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:80 }}]\nroutes:\n- {{ name: one, match: {{ {one} }}, respond: {{}} }}\n- {{ name: other, match: {{ {other} }}, respond: {{}} }}\n"
        );
        assert!(read(&text).is_ok(), "{one} | {other}");
    }
    for (one, other) in [("x-a: present", "x_a: present"), ("X_A: { equals: 1 }", "x-a: { equals: 1 }")] {
        let with = |test: &str| format!("path: /a, headers: {{ {test} }}");
        let errors = conflict(&with(one), &with(other));
        assert!(errors.len() == 1 && errors[0].contains("the same predicates"), "{errors:?}");
    }
    let both = refused("- { match: { path: /a, headers: { x-a: present, x_a: absent } }, respond: {} }\n");
    assert!(both.len() == 1 && both[0].contains("`x-a` is here twice"), "{both:?}");
}

#[test]
fn names_that_do_not_show_what_differs_are_numbered() {
    let unnamed = |matches: &[&str]| -> String {
        matches.iter().map(|matches| format!("- {{ match: {{ {matches} }}, respond: {{}} }}\n")).collect()
    };
    let with = |value: &str| format!("path: /a, headers: {{ x: {{ equals: {value} }} }}");
    let all = [&with("a"), &with("b"), "path: /a", &with("c"), "path: /a, priority: 2"];
    let config = read(&format!("listeners: [{{ address: 127.0.0.1:80 }}]\nroutes:\n{}", unnamed(&all))).unwrap();
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.value.as_str()).collect();
    assert_eq!(names, ["/a header.x", "/a header.x #2", "/a", "/a header.x #3", "/a #2"]);
    let errors = refused(&unnamed(&[&with("a"), &with("b"), &with("a")]));
    assert!(errors.len() == 1 && errors[0].contains("see the route `/a header.x` on line "), "{errors:?}");
}

#[test]
fn there_is_a_bound_to_what_one_pattern_asks() {
    let routes = |n: usize, test: &dyn Fn(usize) -> String| -> String {
        (0..n)
            .map(|i| {
                format!("- {{ name: r{i}, match: {{ path: /a, headers: {{ x: {} }} }}, respond: {{}} }}\n", test(i))
            })
            .collect()
    };
    let errors = refused(&routes(257, &|i| format!("{{ equals: v{i} }}")));
    assert!(errors.len() == 1 && errors[0].contains("have more than 256 routes with predicates"), "{errors:?}");
    let errors = refused(&routes(33, &|i| format!("{{ regex: ^v{i} }}")));
    assert!(errors.len() == 1 && errors[0].contains("have more than 32 regular expressions"), "{errors:?}");
    let errors = refused(
        &(0..34)
            .map(|i| format!("- {{ match: {{ path: /{i}, priority: {i} }}, respond: {{}} }}\n"))
            .collect::<String>(),
    );
    assert!(errors.len() == 1 && errors[0].contains("have more than 32 priorities"), "{errors:?}");
}

#[test]
fn what_is_wrong_with_a_split_is_told() {
    forward(
        "split: { a: 1 }, upstream: b",
        "forward.split: stands beside `upstream` (give exactly one of upstream and split)",
    );
    forward("rewrite: {}", "the key `upstream` is missing (add it, or `split` for several upstreams)");
    forward("split: { a: 0, b: 0 }", "nothing goes anywhere");
    forward("split: {}", "nothing goes anywhere");
    forward("split: { a: 1, c: 1 }", "forward.split.c: unknown upstream `c`");
    forward("split: { a: 10001, b: 1 }", "allowed: 0 to 10000");
    forward(
        "upstream: a, sticky: { cookie: c }",
        "there is no `split` whose upstreams a client could stick to (to let clients stick to an endpoint",
    );
    forward("split: { a: 1 }, sticky: {}", "says not what sticks (give exactly one of cookie and header)");
    forward("split: { a: 1 }, sticky: { cookie: a, header: b }", "says not what sticks");
    forward("split: { a: 1 }, sticky: { cookie: 'a;b' }", "is not the name of a cookie");
    forward("split: { a: 1 }, sticky: { header: 'a b' }", "is not the name of a header field");
    forward("split: { a: 1 }, sticky: { header: a, max_age: 1d }", "only a cookie has an age");
    forward(
        "split: { a: 1 }, sticky: { header: a, cache_control: keep }",
        "without a cookie no answer is for one client",
    );
    forward(
        "split: { a: 1 }, sticky: { cookie: a, cache_control: public }",
        "`public` is not a word that is known here",
    );
    forward("split: { a: 1 }, sticky: { cookie: a, max_age: 401d }", "allowed: 1s to 400d");
}

#[test]
fn a_split_arrives() {
    let config = read(
        "listeners: [{ address: 127.0.0.1:80 }]
upstreams: { a: { endpoints: [a:1] }, b: { endpoints: [b:1] } }
routes: [{ match: { path: / }, forward: { split: { a: 95, b: 5 }, sticky: { cookie: C, max_age: 1d } } }]",
    )
    .unwrap();
    let Action::Forward(forward) = &config.routes[0].action else { panic!() };
    let Target::Split(split) = &forward.target else { panic!() };
    let weights: Vec<_> = split.weights.iter().map(|(name, weight)| (name.value.as_str(), *weight)).collect();
    assert_eq!(weights, [("a", 95), ("b", 5)]);
    assert_eq!(
        split.sticky,
        Some(Sticky::Cookie {
            name: "C".into(),
            max_age: Some(crate::value::Duration::from_secs(86_400)),
            is_private: true
        })
    );
}
