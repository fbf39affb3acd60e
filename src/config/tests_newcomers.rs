//! What is said of mistakes that who writes a first config makes: the place, and what would help.
#![allow(clippy::unwrap_used)]

use super::parse;

const UPSTREAM: &str = "listeners: [{ address: 127.0.0.1:8080 }]\nupstreams:\n  u: { endpoints: [127.0.0.1:1] }\n";

fn said(text: &str) -> String {
    parse("f", text, &|_| None).unwrap_err().to_string()
}

/// Each text with the one line that is said of it, or its beginning and its end parted by `…`.
fn table(texts: &[(&str, &str)]) {
    for (text, expected) in texts {
        let said = said(text);
        let (begin, end) = expected.split_once('…').unwrap_or((expected, expected));
        assert!(
            said.starts_with(begin) && said.ends_with(end) && said.lines().count() == 1,
            "{text}\n{said}\n{expected}"
        );
    }
}

#[test]
fn faults_of_the_syntax_say_what_they_come_from() {
    table(&[
        ("listeners:\n\t- address: 127.0.0.1:1\n", "f:2:2: …(indent with spaces: YAML takes no tabs there)"),
        (
            "a:\n  b:\n    c: 1\n   d: 2\n",
            "f:4:4: …(keys of one block begin in the same column: compare the indentation of this line with those above it)",
        ),
        (
            "a:\n  - name: a\n     address: b\n",
            "f:3:13: …(this line is indented further than those that it belongs to, or a text with `: ` in it needs quotes)",
        ),
        (
            "a: { path: /a/{id} }\n",
            "f:1:15: …(a `{` or `[` is not closed, or a text with one of `{ } [ ] ,` in it needs quotes, like \"/user/{id}\")",
        ),
        (
            "a: { b: [1] \nc: 1\n",
            "f:2:1: …is not closed, or a text with one of `{ } [ ] ,` in it needs quotes, like \"/user/{id}\")",
        ),
        ("a: \"b\nc: 1\n", "f:2:1: …(a quote that was opened above this line is not closed)"),
        ("a: \"C:\\q\"\n", "f:1:4: …(within \"…\" a `\\` begins an escape: write `\\\\`, or use single quotes)"),
        ("%YAML 1.1\n---\na: 1\n", "f:1:1: …(remove the line that begins with `%`)"),
        ("a: 1\n\0\n", "f:2:1: …(the file has a character that is no text: remove it)"),
        ("a: @b\n", "f:1:4: …(text with any of `{ } [ ] , : # * & !` in it is best put in quotes)"),
        (
            "listeners: [{ address: *:8080 }]\n",
            "f:1:24: aliases…(write the value out; text that begins with `*` needs quotes)",
        ),
    ]);
    for empty in ["", "# nothing\n"] {
        assert_eq!(said(empty), "f:1:1: the file is empty (ten lines are enough: see config/examples/minimal.yaml)");
    }
}

#[test]
fn a_form_that_is_wrong_says_which_is_right() {
    let route = |keys: &str| format!("{UPSTREAM}routes:\n  - match: {{ path: /a }}\n{keys}");
    for (text, expected) in [
        (
            "listeners: { address: 127.0.0.1:1 }".to_owned(),
            "listeners: must be a list, not a mapping of keys (begin each item with `- `)",
        ),
        (
            "listeners:\n  - address:127.0.0.1:1".to_owned(),
            "(write its keys, each as `key: value` with a space behind the colon)",
        ),
        (
            UPSTREAM.replace("[127.0.0.1:1]", "127.0.0.1:1"),
            "must be a list, not a single value (put it in brackets: [a, b])",
        ),
        (
            UPSTREAM.replace("  u:", "  - u:"),
            "must be a mapping of keys, not a list (write its keys without `-` and `[ ]`, each as `key: value`)",
        ),
        (
            route("    filters: [{ ip: {} }]\n    forward: { upstream: u }"),
            "must be a name, not a mapping of keys (it is defined elsewhere by a name of its own, and named here)",
        ),
        (route("    upstream: u"), "routes[0].upstream: unknown key (it belongs under `forward`)"),
        (route("    upstream: u"), "routes[0]: has no action (give exactly one of "),
        (route("    host: a.test\n    respond: {}"), "routes[0].host: unknown key (it belongs under `match`)"),
        (
            "listeners: [{ address: 127.0.0.1:1, tls: { cert: /a, key: /b } }]".to_owned(),
            "tls.cert: unknown key (it belongs under `certificates`, in an item of its list)",
        ),
        (format!("include: a.yaml\n{UPSTREAM}"), "include: unknown key (one file holds the whole config)"),
        (
            format!("{UPSTREAM}\u{a0}drain: 5s\n"),
            "unknown key (it has U+00A0 in it, which looks like a space: type a space there)",
        ),
        (format!("{UPSTREAM}drain: \u{201c}5s\u{201d}\n"), "(these quotes are a part of the text: use \"\")"),
        (
            format!("{UPSTREAM}drain: 30 s\n"),
            "it has a space in it (write the unit directly after the number, like 5s)",
        ),
        (UPSTREAM.replace("[127.0.0.1:1]", "[{ address: 127.0.0.1:1, drain: yes }]"), "(did you mean `true`?)"),
        (
            route("    respond: {}").replace("/a", "/a/*"),
            "`*` is no wildcard here (write `{*rest}` for all that is left, or `{name}` for a segment",
        ),
        (route("    respond: {}").replace("/a", "/a/:id"), "(write `{id}`, which a literal `:id` fits too)"),
    ] {
        let said = said(&text);
        assert!(said.contains(expected), "{text}\n{said}\n{expected}");
    }
}

#[test]
fn addresses_that_others_take_say_what_is_taken_here() {
    for (address, expected) in [
        ("127.0.0.1:80800", "no port is that large (1 to 65535)"),
        ("127.0.0.1", "it has no port (write ip:port, "),
        ("\"::1\"", "it has no port (write ip:port, "),
        (
            "\":8080\"",
            "it has a port alone (write 0.0.0.0:8080 for all addresses, or 127.0.0.1:8080 for this machine alone)",
        ),
        ("8080", "it has a port alone (write 0.0.0.0:8080 for all addresses"),
        ("\"*:8080\"", "it has a port alone (write 0.0.0.0:8080 for all addresses"),
        ("localhost:8080", "it has a name (write 127.0.0.1:8080)"),
        ("example.com:8080", "is not an address (write ip:port, "),
        ("nonsense", "is not an address (write ip:port, "),
    ] {
        let said = said(&format!("listeners: [{{ address: {address} }}]"));
        assert!(said.starts_with("f:1:24: listeners[0].address: ") && said.contains(expected), "{address}: {said}");
    }
}

#[test]
fn a_key_that_is_misspelt_is_not_missing_too() {
    table(&[
        ("Listeners: [{ address: 127.0.0.1:1 }]\n", "f:1:1: Listeners: unknown key (did you mean `listeners`?)"),
        (
            "listeners: [{ adress: 127.0.0.1:1 }]\n",
            "f:1:15: listeners[0].adress: unknown key (did you mean `address`?)",
        ),
    ]);
    assert!(said("listeners: [{ nothing: 1 }]\n").contains("the key `address` is missing"));
}

#[test]
fn off_is_false_to_those_who_write_yaml_1_1() {
    let with = |text: &str| parse("f", &format!("{UPSTREAM}{text}"), &|_| None);
    assert_eq!(
        with("admin: false\nobserve: { access_log: { to: false } }"),
        with("admin: off\nobserve: { access_log: { to: off } }")
    );
    assert!(with("admin: no").is_err() && with("admin: true").is_err() && with("errors: false").is_err());
}
