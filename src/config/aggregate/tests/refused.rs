//! What is refused, each with its words and its line, and what is so near to it that it must not be.

use super::*;

#[track_caller]
fn errors(keys: &str) -> String {
    read(&document(keys)).expect_err(keys)
}

/// The one error is on this line and has these words in it.
#[track_caller]
fn refused(keys: &str, line: u32, says: &[&str]) {
    let error = errors(keys);
    assert_eq!(error.lines().count(), 1, "nothing else: {keys}\n{error}");
    assert!(error.starts_with(&format!("f:{line}:")), "line {line}: {keys}\n{error}");
    for words in says {
        assert!(error.contains(words), "{words:?}: {keys}\n{error}");
    }
}

#[test]
fn what_can_not_be_is_refused_by_line() {
    let long = format!("name: {}", "a".repeat(65));
    let list: [(&[&str], u32, &[&str]); 86] = [
        (&["name: a", "name: a"], 9, &["parts[1].name", "a part `a` already exists on line 8", "give it another name"]),
        (&["name: a-b"], 8, &["`a-b` is not a name of a part", "1 to 64 letters, digits and _"]),
        (&[&long], 8, &["is not a name of a part"]),
        (&["name: a, into: b", "name: b"], 9, &["`b` is already the key of the part `a`", "another `into`"]),
        (&["name: a", "name: b, into: a"], 9, &["`a` is already the key of the part `a`"]),
        // Circles.
        (
            &["name: a, request: { path: '/{parts.b.x}' }", "name: b, request: { path: '/{parts.a.x}' }"],
            8,
            &["parts[0].request.path", "a → b → a"],
        ),
        (&["name: a, request: { path: '/{parts.a.x}' }"], 8, &["in a circle: a → a"]),
        (&["name: a, when: 'parts.a.x == null'"], 8, &["a → a"]),
        (&["name: a, for_each: { in: 'parts.a', as: x }"], 8, &["a → a"]),
        (
            &[
                "name: a, when: 'parts.c.x'",
                "name: b, request: { path: /, set_headers: { x: '{parts.a}' } }",
                "name: c, for_each: { in: 'parts.b', as: x }",
            ],
            8,
            &["a → c → b → a"],
        ),
        // Names that lead nowhere.
        (
            &["name: user", "name: b, request: { path: '/{parts.usr.x}' }"],
            9,
            &["`parts.usr.x` names an unknown part `usr`", "did you mean `user`?"],
        ),
        (
            &["name: user", "name: b, request: { path: '/{parts.nothing}' }"],
            9,
            &["unknown part `nothing`", "the parts are user, b"],
        ),
        (
            &["name: user", "name: b, for_each: { in: 'parts.usr[*].id', as: id }"],
            9,
            &["for_each.in", "did you mean `user`?"],
        ),
        (&["name: user", "name: b, when: 'parts.usr.x == 1'"], 9, &["parts[1].when", "did you mean `user`?"]),
        (
            &["name: user", "name: b, request: { method: POST, path: /, body: '{parts.usr.x}' }"],
            9,
            &["request.body", "did you mean `user`?"],
        ),
        (
            &["name: user", "name: b, request: { path: /, set_headers: { x: '{parts.usr}' } }"],
            9,
            &["set_headers.x", "did you mean `user`?"],
        ),
        (
            &["name: s, shadow: { sample: 5% }", "name: b, request: { path: '/{parts.s.x}' }"],
            9,
            &["names the shadow `s`", "thrown away"],
        ),
        (&["name: a, request: { path: '/{usr}' }"], 8, &["there is no value `{usr}`", "did you mean `{path.user}`?"]),
        (&["name: a, request: { path: '/{client-ip}' }"], 8, &["did you mean `{client_ip}`?"]),
        (&["name: a, when: \"usr == 'x'\""], 8, &["character 1 of the condition", "did you mean `{path.user}`?"]),
        (&["name: a, when: \"user = 'x'\""], 8, &["character 6 of the condition: expected `==`"]),
        (&["name: a", "name: b, request: { path: '/{parts.a.}' }"], 9, &["`parts.a.` leads nowhere: an empty key"]),
        (&["name: a", "name: b, request: { path: '/{parts.}' }"], 9, &["`parts.` leads nowhere"]),
        (
            &["name: a", "name: b, request: { path: '/{parts.a[*].x}' }"],
            9,
            &["`parts.a[*].x` is many values", "for_each"],
        ),
        (&["name: a", "name: b, when: 'parts.a[*].x == 1'"], 9, &["is many values"]),
        (&["name: a, upstream: v"], 8, &["unknown upstream `v`"]),
        // for_each.
        (
            &["name: a", "name: b, for_each: { in: 'query.x', as: id }"],
            9,
            &["`query.x` is not in the answer of another part", "parts.orders[*].id"],
        ),
        (
            &["name: a", "name: b, for_each: { in: parts.a, as: user }"],
            9,
            &["`user` is a parameter of the route's path"],
        ),
        (
            &["name: a", "name: b, for_each: { in: parts.a, as: host }"],
            9,
            &["`host` means something else in templates"],
        ),
        (&["name: a", "name: b, for_each: { in: parts.a, as: parts }"], 9, &["means something else"]),
        (&["name: a", "name: b, for_each: { in: parts.a, as: a.b }"], 9, &["is no name for an item"]),
        (&["name: a", "name: b, for_each: { in: parts.a, as: x, max: 1001 }"], 9, &["allowed: 1 to 1000"]),
        (&["name: a", "name: b, for_each: { in: parts.a, as: x, concurrency: 65 }"], 9, &["allowed: 1 to 64"]),
        (&["name: a", "name: b, for_each: { in: parts.a }"], 9, &["the key `as` is missing"]),
        (
            &["name: a", "name: b, when: 'x.y == 1', for_each: { in: parts.a, as: x }"],
            9,
            &["`x.y` has no value here: `when` is asked once"],
        ),
        (
            &["name: a", "name: b, for_each: { in: parts.a, as: xyz }", "name: c, request: { path: '/{xyz.id}' }"],
            10,
            &["there is no value `{xyz.id}`"],
        ),
        (
            &["name: a", "name: b, request: { path: '/{x[*]}' }, for_each: { in: parts.a, as: x }"],
            9,
            &["is many values"],
        ),
        // Requests.
        (&["name: a, request: { path: /, body: pass }"], 8, &["a GET has no body", "method: POST"]),
        (&["name: a, request: { path: /, body: '{}' }"], 8, &["a GET has no body"]),
        (&["name: a, request: { path: /, method: HEAD }"], 8, &["`HEAD` can not be the method of a part", "no JSON"]),
        (&["name: a, request: { path: /, method: TRACE }"], 8, &["no JSON"]),
        (
            &["name: a, request: { path: /, headers: [Content-Type] }"],
            8,
            &["goes with the body by itself", "body: pass"],
        ),
        (&["name: a, request: { path: /, method: CONNECT }"], 8, &["no JSON"]),
        (&["name: a, request: { path: /, method: post }"], 8, &["methods are in capitals: POST"]),
        (&["name: a, request: { path: /, method: POST, body: '{\"a\": }' }"], 8, &["the body is not JSON"]),
        (&["name: a, request: { path: /, method: POST, body: Pass }"], 8, &["the body is not JSON", "none or pass"]),
        (&["name: a, request: { path: x }"], 8, &["does not begin as it must"]),
        (&["name: a, request: { path: '/a/../b' }"], 8, &["dot segment"]),
        (&["name: a, request: {}"], 8, &["the key `path` is missing"]),
        (
            &["name: a, request: { path: /, headers: [x-a], set_headers: { X-A: b } }"],
            8,
            &["`x-a` is both passed and set"],
        ),
        (&["name: a, request: { path: /, headers: [x-a, X-A] }"], 8, &["`x-a` is listed twice"]),
        (&["name: a, request: { path: '/?q={user}', query: [q] }"], 8, &["`q` is both passed and in the path"]),
        (&["name: a, request: { path: /, query: ['a=b'] }"], 8, &["is not the name of a query parameter"]),
        (&["name: a, request: { path: /, set_headers: { host: b } }"], 8, &["`host` can not be changed here"]),
        (&["name: a, request: { path: /, set_headers: { Range: b } }"], 8, &["`Range` can not be sent", "whole"]),
        // Answers.
        (&["name: a, allow: [x], deny: [y]"], 8, &["parts[0].deny: allow already says what is kept", "either"]),
        (&["name: a, allow: ['x[0].y']"], 8, &["allow[0]: `x[0].y` has a `[…]` in it", "write x.y"]),
        (&["name: a, deny: ['x[*].y']"], 8, &["write x.y"]),
        (&["name: a, deny: ['x..y']"], 8, &["`x..y` is not a path: an empty key"]),
        (&["name: a, rename: { 'x[0]': y }"], 8, &["`x[0]` has a `[…]` in it"]),
        (&["name: a, rename: { x: '' }"], 8, &["rename.x", "is empty"]),
        (&["name: a, rename: { x: \"a\\tb\" }"], 8, &["control character"]),
        (&["name: a, rename: { x.a: z, x.b: z }"], 8, &["two keys of one object become `z`"]),
        (&["name: a, target: 'x[*]'"], 8, &["target: `x[*]` leads to many values"]),
        (&["name: a, into: ''"], 8, &["into", "is empty"]),
        (&["name: a, success: [199]"], 8, &["success[0]: `199` is no status", "from 200 to 599"]),
        (&["name: a, success: [299-200]"], 8, &["is no status"]),
        (&["name: a, success: []"], 8, &["has 0 items"]),
        (&["name: a, propagate_status: [200]"], 8, &["allowed: 400 to 599"]),
        (&["name: a, propagate_status: [404], success: [200-404]"], 8, &["`404` is a success of this part"]),
        (&["name: a, content_type: xml"], 8, &["allowed: json, any"]),
        (&["name: a, fallback: {}"], 8, &["says nothing"]),
        (&["name: a, fallback: { stale: 5m, dato: [] }"], 8, &["unknown key (did you mean `data`?)"]),
        (&["name: a, timeout: 5ms"], 8, &["allowed: 10ms to 1h"]),
        (&["name: a, timeout: 3s"], 8, &["`3s` is longer than the route's timeout (2s)", "raise timeout of the route"]),
        (&["name: a, tiemout: 1s"], 8, &["parts[0].tiemout: unknown key (did you mean `timeout`?)"]),
        // Shadows.
        (&["name: a, shadow: { sample: 5% }"], 7, &["aggregate.parts: every part is a shadow"]),
        (
            &["name: b", "name: a, shadow: { sample: 5% }, required: true"],
            9,
            &["required: no answer waits for a shadow"],
        ),
        (
            &["name: b", "name: a, shadow: { sample: 5% }, fallback: { data: 1 }"],
            9,
            &["fallback: the answer of a shadow is thrown away"],
        ),
        (&["name: b", "name: a, shadow: { sample: 5% }, into: x"], 9, &["into: the answer of a shadow"]),
        (&["name: b", "name: a, shadow: { sample: 5% }, target: x"], 9, &["target: the answer of a shadow"]),
        (&["name: b", "name: a, shadow: { sample: 5% }, rename: { a: b }"], 9, &["rename: the answer of a shadow"]),
        (&["name: b", "name: a, shadow: { sample: 5 }"], 9, &["`5` is no share of the requests", "5% or 0.1%"]),
        (&["name: b", "name: a, shadow: { sample: 101% }"], 9, &["0% to 100%"]),
        (&["name: b", "name: a, shadow: { sample: 0.00001% }"], 9, &["is no share"]),
        (&["name: b", "name: a, shadow: {}"], 9, &["the key `sample` is missing"]),
    ];
    for (given, line, says) in list {
        refused(&parts(given), line, says);
    }
    for name in [
        "connection",
        "te",
        "trailer",
        "keep-alive",
        "upgrade",
        "proxy-authorization",
        "host",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "range",
        "if-none-match",
        "If-Range",
        "expect",
        "X-Forwarded-For",
        "x-forwarded-port",
        "x-request-id",
        "Via",
        "forwarded",
        "x-real-ip",
        "x_forwarded_for",
        "a b",
        "''",
    ] {
        refused(
            &parts(&[&format!("name: a, request: {{ path: /, headers: [{name}] }}")]),
            8,
            &["request.headers[0]: "],
        );
    }
}

#[test]
fn what_parts_are_to_each_other_and_the_answer() {
    let list: [(&str, &[&str], u32, &[&str]); 27] = [
        (
            "headers_from: usr",
            &["name: user"],
            7,
            &["headers_from: it names an unknown part `usr`", "did you mean `user`?"],
        ),
        ("headers_from: s", &["name: user", "name: s, shadow: { sample: 1% }"], 7, &["names the shadow `s`"]),
        ("headers_from: e", &["name: a", "name: e, for_each: { in: parts.a, as: x }"], 7, &["many answers"]),
        ("on_conflict: first", &["name: a"], 7, &["only in a merged answer", "envelope: merge"]),
        ("{ envelope: raw, expose_parts: always }", &["name: a"], 7, &["only a uniform answer has a `meta`"]),
        ("{ envelope: merge, expose_parts: on_degraded }", &["name: a"], 7, &["only a uniform answer"]),
        ("completed_header: false", &["name: a"], 7, &["is not the name of a field", "none"]),
        ("completed_header: Date", &["name: a"], 7, &["already means something"]),
        ("envelope: flat", &["name: a"], 7, &["`flat` is not a word", "uniform, merge, raw"]),
        ("enveloppe: raw", &["name: a"], 7, &["unknown key (did you mean `envelope`?)"]),
        ("completed_header: content-type", &["name: a"], 7, &["already means something"]),
        ("completed_header: 'a b'", &["name: a"], 7, &["is not a field name"]),
        ("response_headers: { set: { x: '{parts.a.x}' } }", &["name: a"], 7, &["there is no value `{parts.a.x}`"]),
        ("limits: { max_part_bytes: 1B }", &["name: a"], 7, &["allowed: 1KiB to 64MiB"]),
        (
            "limits: { max_part_bytes: 2MiB, max_total_bytes: 1MiB }",
            &["name: a"],
            7,
            &["`1MiB` is less than one part may have (2MiB)"],
        ),
        (
            "server_timing: true",
            &["name: a, request: { path: /, method: POST }", "name: b", "name: c, request: { path: /, method: PUT }"],
            10,
            &["parts[2].request.method", "`a` (POST), `c` (PUT)", "allow_unsafe_fanout: true"],
        ),
        (
            "server_timing: true",
            &["name: a", "name: b, request: { path: /, method: DELETE }, for_each: { in: parts.a, as: x }"],
            9,
            &["`b` (DELETE for each item)"],
        ),
        (
            "envelope: merge",
            &["name: a, required: false"],
            8,
            &["parts[0].required: the part is optional", "`into`, `allow` or `fallback.data`"],
        ),
        ("{ envelope: merge, status_policy: any }", &["name: a, into: x", "name: b"], 7, &["`b` may fail", "`into`"]),
        ("envelope: merge", &["name: a, when: 'query.x != null'"], 8, &["parts[0].when: the part is not always asked"]),
        ("envelope: merge", &["name: a, on_missing: skip"], 8, &["on_missing: the part may be left out"]),
        ("envelope: merge", &["name: a, required: false, fallback: { stale: 5m }"], 8, &["the part is optional"]),
        ("envelope: merge", &["name: a, fallback: { data: [] }"], 8, &["fallback.data is no mapping"]),
        (
            "envelope: merge",
            &["name: a", "name: b, for_each: { in: parts.a, as: x }"],
            9,
            &["makes an array", "`into`"],
        ),
        ("envelope: merge", &["name: a, into: x", "name: b, into: x"], 9, &["`x` is already the key of the part `a`"]),
        (
            "allow_unsafe_fanout: maybe",
            &["name: a, request: { path: /, method: POST }", "name: b, request: { path: /, method: POST }"],
            7,
            &["`maybe` is not a word"],
        ),
        ("status_policy: some", &["name: a"], 7, &["`some` is not a word"]),
    ];
    for (key, given, line, says) in list {
        // Keys in braces are several, of one line.
        let key = key
            .strip_prefix("{ ")
            .and_then(|key| key.strip_suffix(" }"))
            .map_or(key.to_owned(), |keys| keys.replace(", ", "\n      "));
        let extra = u32::try_from(key.lines().count()).unwrap() - 1;
        let line = line + extra;
        refused(&format!("      {key}\n{}", parts(given)), if line > 7 + extra { line + 1 } else { line }, says);
    }
    // Long texts are told as such, soon, and not searched for names.
    let many: String = (0..200_000).map(|i| format!("{{parts.p{i}}}")).collect();
    refused(&parts(&[&format!("name: a, request: {{ path: '/{many}' }}")]), 8, &["request.path", "is too long"]);
    let many = many.replace(['{', '}'], " ");
    refused(&parts(&[&format!("name: a, when: '{many}'")]), 8, &["at most 4096 bytes"]);
    refused("      envelope: raw", 6, &["the key `parts` is missing"]);
    refused("      parts: []", 7, &["has 0 items"]);
    let many: Vec<String> = (0..33).map(|i| format!("name: p{i}")).collect();
    refused(&parts(&many.iter().map(String::as_str).collect::<Vec<_>>()), 7, &["has 33 items", "1 to 32"]);
}

#[test]
fn what_is_right_is_taken() {
    for given in [
        &["name: a, request: { path: /, method: POST, body: pass }", "name: b"][..],
        &[
            "name: a",
            "name: b, request: { path: '/{parts.a}' }",
            "name: c, request: { path: '/{parts.b.x}{parts.a.y}' }",
        ],
        &["name: a, timeout: 2s"],
        &["name: a, request: { path: '/{{parts.nobody}}' }"],
        &["name: a, request: { path: /, set_headers: { x-forwarded-for: '{client_ip}', via: x } }"],
        &["name: a", "name: s, shadow: { sample: 0% }, request: { path: '/{parts.a.x}' }, required: false"],
        &["name: a", "name: b, for_each: { in: 'parts.a.x[*].y', as: x }, request: { path: '/{x}/{x[0]}/{x.y}' }"],
        &["name: a, rename: { x.a: z, y.a: z }"],
        &["name: a, into: s", "name: s, shadow: { sample: 1.5% }"],
    ] {
        aggregate(&parts(given));
    }
    for given in [
        &["name: a, required: false, into: x"][..],
        &["name: a, required: false, allow: [x]"],
        &["name: a, when: 'query.x != null', fallback: { data: { x: null } }"],
        &["name: a", "name: s, shadow: { sample: 5% }, when: 'query.x != null'"],
    ] {
        aggregate(&format!("      envelope: merge\n{}", parts(given)));
    }
    let fanout = parts(&["name: a, request: { path: /, method: POST }", "name: b, request: { path: /, method: POST }"]);
    aggregate(&format!("      allow_unsafe_fanout: true\n{fanout}"));
}

#[test]
fn one_run_tells_everything() {
    let text = document(
        "      envelope: raww
      headers_from: nobody
      parts:
        - name: a
          upstream: v
          request: { path: '/{nope}/{parts.nobody.x}', headers: [host], body: pass, methd: GET }
          timeout: 3h
          when: 'parts.b.x = 1'
          fallback: { data: { a: 1 }, stale: 1 }
        - { name: a b, upstream: u }
        - name: c
          upstream: u
          request: { path: '/{parts.a.x}' }
          for_each: { in: nothing, as: host, max: 0 }
          shadow: { sample: x }
",
    )
    .replace("/u/{user}", "no-slash/{user}")
    .replace("timeout: 2s", "timeout: never");
    let errors = parse("f", &text, &|_| None).unwrap_err();
    let seen: Vec<String> = errors
        .iter()
        .map(|error| format!("{} {}", error.at.line, error.at.key_path.replace("routes[0].aggregate", "…")))
        .collect();
    let expected = [
        "4 routes[0].match.path",
        "5 routes[0].timeout",
        "7 ….envelope",
        "8 ….headers_from",
        "11 ….parts[0].upstream",
        "12 ….parts[0].request.path",
        "12 ….parts[0].request.path",
        "12 ….parts[0].request.headers[0]",
        "12 ….parts[0].request.body",
        "12 ….parts[0].request.methd",
        "13 ….parts[0].timeout",
        "14 ….parts[0].when",
        "14 ….parts[0].when",
        "15 ….parts[0].fallback.stale",
        "16 ….parts[1]",
        "16 ….parts[1].name",
        "20 ….parts[2].for_each.in",
        "20 ….parts[2].for_each.as",
        "20 ….parts[2].for_each.max",
        "21 ….parts[2].shadow.sample",
    ];
    assert_eq!(seen, expected, "{errors}");
    // Any name may have been meant to be that of a part that can not be read.
    refused(
        &format!("{}        - nonsense\n", parts(&["name: a, request: { path: '/{parts.b.x}' }"])),
        9,
        &["parts[1]"],
    );
}
