//! What is printed, over every config of the project, and over texts that YAML makes something else of.
#![allow(clippy::unwrap_used)]

use super::super::tests::Files;
use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("9000".to_owned()),
        "LISTEN" => None,
        _ => Some(SECRET.to_owned()),
    }
}

fn printed(text: &str) -> String {
    effective("f", text, &env, &Registry::default()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn read(text: &str) -> Config {
    parse_with("f", text, &env, &Registry::default()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// Everything in `config/` that is a config.
fn files(dir: &str) -> Vec<(String, String)> {
    let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut paths: Vec<_> =
        std::fs::read_dir(config.join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.extend([config.join("gateway.yaml"), config.join("demo.yaml")]);
    let text = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap().replace("/etc/ringway", dir);
    paths.iter().map(|path| (path.display().to_string(), text(path))).collect()
}

#[test]
fn what_is_printed_is_the_same_config_and_stays_as_it_is() {
    let made = Files::make("print");
    let files = files(&made.dir);
    assert!(files.len() > 12);
    for (name, text) in files {
        let once = printed(&text);
        assert!(read(&once) == read(&text), "{name}");
        assert_eq!(printed(&once), once, "{name}: nothing is left to fill in");
        assert!(!once.contains(SECRET), "{name}: {once}");
    }
}

#[test]
fn defaults_are_written_out_and_names_given() {
    let text = "listeners: [{ address: 127.0.0.1:8080 }]\nupstreams: { u: { endpoints: ['10.0.0.1:${PORT}'] } }\n\
                filters: { fair: { rate_limit: { rate: 7/s } }, busy: { concurrency: { max: 1, queue: 2 } } }\n\
                routes: [{ match: { path: /a }, forward: { upstream: u } }, { match: { path: /b, methods: [GET] }, respond: {} }]";
    let once = printed(text);
    for line in [
        "workers: auto",
        "drain: 30s",
        "  - name: 127.0.0.1:8080",
        "      connections: 20000",
        "    endpoints: [10.0.0.1:9000]",
        "      idle_timeout: 60s",
        "      burst: 7",
        "      queue_timeout: 500ms",
        "  - name: /a",
        "        host: upstream",
        "      body: \"\"",
        "  address: 127.0.0.1:9900",
    ] {
        assert!(once.lines().any(|given| given == line), "{line}\n{once}");
    }
    assert!(!once.contains("name: GET"), "that is no name that could be written: {once}");
    assert!(!once.contains("on_unavailable"), "it means something without Redis: {once}");
}

#[test]
fn what_a_route_leaves_open_about_errors_stays_open() {
    let printed = printed(
        "listeners: [{ address: 127.0.0.1:8080 }]\nerrors: text\nroutes:\n\
         - { match: { path: /a }, respond: {}, errors: { bodies: { 404: { content_type: a/b, body: x } } } }\n\
         - { match: { path: /b }, respond: {}, errors: envelope }\n- { match: { path: /c }, respond: {} }",
    );
    assert_eq!(printed.matches("format: ").count(), printed.matches("format: json").count(), "{printed}");
    assert!(printed.contains("errors: text") && printed.contains("    errors: envelope"), "{printed}");
    assert_eq!(printed.matches("errors:").count(), 3, "{printed}");
}

#[test]
fn secrets_are_masked_and_variables_stay_variables() {
    let text = "listeners: [{ address: 127.0.0.1:8080 }]\nupstreams: { u: { endpoints: [10.0.0.1:1] } }\n\
                filters:\n  who: { jwt: { issuer: any, audience: any, keys: [{ secret: '${A}' }, { kid: b, secret: '${LATER}' }] } }\n\
                \u{20} mark: { request_headers: { set: { x-token: 'Bearer ${A}', Authorization: 'Basic cGFzcw==', x-price: '$$5', x-auth: 'HARD$$CODED' } } }\n\
                \u{20} far: { jwt: { issuer: any, audience: any, jwks: 'https://h/keys?api_key=abc' } }\n\
                rate_limits: { redis: { url: 'redis://me:hunter2@10.0.0.1:6379/0' } }\n\
                routes: [{ match: { path: /a, headers: { Authorization: { equals: ['Basic c2FmZQ==', '${A}'] }, cookie: absent, x-key: { prefix: '${A}' }, x-b: { regex: '^${A}' } }, cookies: { session: { prefix: 'HARD$$CODED' }, beta: present } }, redirect: { to: 'https://me:opensesame@h/?sig=opensesame' } }]";
    let once = printed(text);
    for (shown, hidden) in [
        ("secret: \"${A}\"", SECRET),
        ("x-token: \"Bearer ${A}\"", SECRET),
        ("cookie: absent", "c2FmZQ"),
        ("equals: [\"Basic ***\", \"${A}\"]", SECRET),
        ("prefix: \"${A}\"", SECRET),
        ("regex: \"^${A}\"", SECRET),
        ("prefix: \"***\"", "HARD"),
        ("beta: present", "HARD"),
        ("Authorization: \"Basic ***\"", "cGFzcw"),
        ("x-auth: \"***\"", "HARD"),
        ("jwks: \"https://h/keys?api_key=***\"", "abc"),
        ("to: \"https://me:***@h/?sig=***\"", "opensesame"),
        ("url: \"redis://me:***@10.0.0.1:6379/0\"", "hunter2"),
    ] {
        assert!(once.contains(shown) && !once.contains(hidden), "{shown}\n{once}");
    }
    assert!(once.contains("x-price: \"$$5\""), "{once}");
}

#[test]
fn what_a_config_says_is_secret_is_masked() {
    let text = "listeners: [{ address: 127.0.0.1:8080 }]\nupstreams: { u: { endpoints: [10.0.0.1:1] } }\n\
                filters:\n  pay: { api_key: { header: X-My, query: mine, keys: [{ sha256: d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272, owner: p }] } }\n\
                \u{20} who: { jwt: { issuer: any, audience: any, keys: [{ secret: '${A}' }], from: [header.x-jw, query.jt] } }\n\
                routes: [{ match: { path: /a, headers: { x-sess: { equals: [HARD1] }, x-my: absent, x-jw: { prefix: HARD2 }, x-open: { equals: shown } },\
                cookies: { sid: { equals: HARD3 }, lang: present, x: { equals: '${A}' } }, query: { mine: { equals: HARD4 }, jt: { regex: HARD5 } } },\
                forward: { upstream: u, rewrite: { cookies: { domain: { a.test: b.test } } }, request_headers: { set: { X_Sess: HARD6, x-my: 'Bearer ${A}' } } } }]\n\
                observe: { access_log: { redact: { headers: [x-sess] } } }";
    let once = printed(text);
    for (shown, hidden) in [
        ("equals: [\"***\"]", "HARD"),
        ("x-my: absent", "HARD"),
        ("lang: present", "HARD"),
        ("equals: shown", "HARD"),
        ("equals: \"${A}\"", SECRET),
        ("X_Sess: \"***\"", "HARD"),
        ("x-my: \"Bearer ${A}\"", SECRET),
        ("a.test: b.test", "HARD"),
    ] {
        assert!(once.contains(shown) && !once.contains(hidden), "{shown}\n{once}");
    }
}

#[test]
fn every_text_survives() {
    let text = |text: &str| {
        let yaml = Shown::Mapping(vec![(
            "k: #".to_owned(),
            Shown::List(vec![Shown::plain(text), Shown::Mapping(vec![("a".to_owned(), Shown::plain(text))])]),
        )])
        .write(false);
        let report = Report::new("f");
        let root = tree::read(&yaml, &|_| None, &report);
        let root = report.finish(root).unwrap_or_else(|errors| panic!("{errors}\n{yaml}"));
        let NodeKind::Mapping(entries) = root.kind else { panic!("{yaml}") };
        let NodeKind::Sequence(items) = &entries[0].1.kind else { panic!("{yaml}") };
        let NodeKind::Mapping(inner) = &items[1].kind else { panic!("{yaml}") };
        for node in [&items[0], &inner[0].1] {
            let NodeKind::Scalar(scalar) = &node.kind else { panic!("{yaml}") };
            assert_eq!(scalar.text, text, "{yaml}");
            assert!(!scalar.is_null(), "{yaml}");
        }
    };
    for given in [
        "",
        "~",
        "null",
        "a b",
        "a: b",
        "#",
        "- a",
        "-1",
        "a\nb\t\u{7}\u{85}\u{2028}é",
        "$",
        "${A}",
        "\"\\",
        "{",
        "[",
        "*",
        "1:",
        "'",
        " a ",
    ] {
        text(given);
    }
}
