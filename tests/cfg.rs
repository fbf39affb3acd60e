//! What helps with the config: `check --print`, the JSON Schema, the manual page.

use crate::support::gateway::{BINARY, run};
use crate::support::{root, temp_dir};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The distribution's own: what its package `python3-jsonschema` is for.
const PYTHON: &str = "/usr/bin/python3";

/// What the command says, which must end well.
fn said(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    stdout
}

/// Runs a program that reads `input`, and must end well.
fn piped(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Beside the reading: either pipe may be full.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{program}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What an independent validator says of each document by the schema that `ringway schema` prints.
fn validated(documents: &[&str]) -> Vec<Option<String>> {
    let schema: Value = serde_json::from_str(&said(&["schema"])).unwrap();
    let script = root().join("tests/support/schema.py");
    let order = json!({ "schema": schema, "documents": documents }).to_string();
    serde_json::from_str(&piped(PYTHON, &[script.to_str().unwrap()], &order)).unwrap()
}

fn configs() -> Vec<PathBuf> {
    let config = root().join("config");
    let examples = std::fs::read_dir(config.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<PathBuf> = examples.chain([config.join("gateway.yaml"), config.join("demo.yaml")]).collect();
    assert!(paths.len() > 12);
    paths
}

/// `gateway.yaml` with the keys in it that are commented out, as far as they go with the others.
fn uncommented(gateway: &str) -> String {
    let mut inside = false;
    let line = |line: &str| {
        let text = line.trim_start();
        let starts = ["# tls:", "# rate_limits:"].iter().any(|begin| text.starts_with(begin));
        inside = (inside || starts) && text.starts_with('#') && !text.is_empty();
        let inner = line.replacen("# ", "", 1);
        // A line of prose stays one.
        if inside && inner.contains(':') && !inner.trim_start().starts_with("redis:/") {
            inner
        } else {
            line.to_owned()
        }
    };
    gateway.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_config_of_the_project_is_right_by_the_schema() {
    let texts: Vec<(PathBuf, String)> =
        configs().into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    let whole = uncommented(&std::fs::read_to_string(root().join("config/gateway.yaml")).unwrap());
    for key in ["certificates", "ticket_secrets", "hsts", "insecure_skip_verify", "on_unavailable"] {
        let has = whole.lines().any(|line| line.trim_start().starts_with(&format!("{key}:")));
        assert!(has, "{key} is among them:\n{whole}");
    }
    let documents: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).chain([whole.as_str()]).collect();
    let wrong = validated(&documents);
    let names = texts.iter().map(|(path, _)| path.display().to_string()).chain(["gateway.yaml, uncommented".into()]);
    for (name, wrong) in names.zip(wrong) {
        assert_eq!(wrong, None, "{name}");
    }
}

#[test]
fn what_is_wrong_is_wrong_by_the_schema_too() {
    const ROUTE: &str = "{ match: { path: /a }, respond: {} }";
    let with = |key: &str| format!("listeners: [{{ address: 127.0.0.1:1 }}]\n{key}");
    let listener = |key: &str| format!("listeners: [{{ address: 127.0.0.1:1, {key} }}]");
    let upstream = |key: &str| with(&format!("upstreams: {{ u: {{ endpoints: [10.0.0.1:1], {key} }} }}"));
    // With what they name, so that nothing else can be wrong with them.
    let to = |key: &str| with(&format!("upstreams: {{ u: {{ endpoints: [10.0.0.1:1] }} }}\n{key}"));
    let filter = |key: &str| to(&format!("filters: {{ f: {{ {key} }} }}"));
    let route = |key: &str| to(&format!("routes: [{{ match: {{ path: /a }}, {key} }}]"));
    let part = |key: &str| {
        route(&format!("aggregate: {{ parts: [{{ name: a, upstream: u, request: {{ path: /a }}, {key} }}] }}"))
    };
    let right = [
        with(&format!("routes: [{ROUTE}]")),
        with("drain: ${DRAIN:-5s}\nworkers: ${N}"),
        listener("bounds: { connections: 5, head: \"${HEAD}\" }"),
        upstream("tls: {}"),
        upstream("tls: { min_version: 1.3 }"),
        filter("security_headers: { opener_policy: off }"),
        filter(
            "ext_auth: { upstream: u, path: /verify, principal: x-user, cache: { ttl: 5s, key: [header.x-a, ip] } }",
        ),
        filter("fault: { delay: { time: 5ms, percent: 0.1% }, when: { x-fault: present, x-n: 1 } }"),
        filter("mirror: { upstream: u, percent: 5%, max_body: 0B }"),
        filter("compress: { codings: [br], levels: { br: 0 }, types: [text/*, application/*+json] }"),
        upstream("timeouts: { tunnel_idle: 1d }"),
        route("forward: { upstream: u, upgrade: off }"),
        route("forward: { upstream: u, upgrade: [websocket] }"),
        route("respond: { status: 204 }"),
        part("when: \"query.a != null\", success: [200, 202-204]"),
        with("admin: false\nobserve: { access_log: { to: false } }"),
        upstream("proxy_protocol: \"false\""),
        route("forward: { upstream: u, upgrade: false }"),
        filter("security_headers: { opener_policy: false, frame_options: false, content_security_policy: off }"),
    ];
    let wrong = [
        "{}".to_owned(),
        "listeners: []".to_owned(),
        "listeners: [{}]".to_owned(),
        "listeners: [{ address: nonsense }]".to_owned(),
        with("worker: 1"),
        with("workers: 0"),
        with("workers: some"),
        with("drain: 10"),
        with("drain: 1.5s"),
        with("admin: on"),
        with("admin: true"),
        upstream("proxy_protocol: true"),
        with("errors: false"),
        with("source: { etcd: {} }"),
        with("trusted_proxies: [example.com]"),
        with("observe: { access_log: { to: relative.log } }"),
        with("observe: { access_log: { format: text } }"),
        with("upstreams: { u: {} }"),
        listener("bounds: { connections: -1 }"),
        listener("bounds: { headers: 257 }"),
        listener("half_close: maybe"),
        listener("timeouts: { keepalive: 5s }"),
        listener("tls: {}"),
        listener("tls: { certificates: [{ cert: site.pem, key: /site.key }] }"),
        listener("protocols: [h2]"),
        upstream("balance: p3c"),
        upstream("pool: { idle: many }"),
        upstream("timeouts: 5s"),
        filter(""),
        filter("ip: { allow: [10.0.0.0/8] }, cors: { origins: ['*'] }"),
        filter("ip: {}"),
        filter("acme-tenant: {}"),
        filter("rate_limit: { burst: 5 }"),
        filter("rate_limit: { rate: fast }"),
        filter("rate_limit: { rate: 5/s, key: phase.of.the.moon }"),
        filter("api_key: { header: x, keys: [{ sha256: abc, owner: me }] }"),
        filter("jwt: { audience: any, jwks: 'https://h/' }"),
        filter("jwt: { issuer: any, audience: any, keys: [{ kid: a }] }"),
        filter("jwt: { issuer: any, audience: any, keys: [{ public_key: /a, algorithm: none }] }"),
        filter("request_limits: { methods: [get] }"),
        filter("ext_auth: { upstream: u }"),
        filter("ext_auth: { upstream: u, path: verify }"),
        filter("ext_auth: { upstream: u, path: /, on_failure: maybe }"),
        filter("ext_auth: { upstream: u, path: /, cache: {} }"),
        filter("ext_auth: { upstream: u, path: /, cache: { ttl: 5s, key: route } }"),
        filter("ext_auth: { upstream: u, path: /, cache: { ttl: 5s, max_entries: 15 } }"),
        filter("fault: {}"),
        filter("fault: { delay: { percent: 5% } }"),
        filter("fault: { abort: { status: 200 } }"),
        filter("fault: { abort: { percent: 5 } }"),
        filter("fault: { abort: {}, max_delayed: 0 }"),
        filter("mirror: { percent: 5% }"),
        filter("mirror: { upstream: u, max_in_flight: 10001 }"),
        filter("compress: { codings: [deflate] }"),
        filter("compress: { codings: [] }"),
        filter("compress: { levels: { gzip: 7 } }"),
        filter("compress: { types: [json] }"),
        filter("compress: { accept_encoding: gzip }"),
        upstream("timeouts: { tunnel_idle: none }"),
        with("routes: [{ respond: {} }]"),
        with("routes: [{ match: { path: a }, respond: {} }]"),
        route("timeout: 30"),
        route("respond: {}, redirect: { to: / }"),
        route("respond: { status: 100 }"),
        route("redirect: { to: /, status: 200 }"),
        route("forward: {}"),
        route("forward: { upstream: u, upgrade: [] }"),
        route("forward: { upstream: u, upgrade: websocket }"),
        part("timeout: soon"),
        part("success: [100-200]"),
        part("shadow: { sample: 5 }"),
    ];
    let documents: Vec<&str> = right.iter().chain(&wrong).map(String::as_str).collect();
    let verdicts = validated(&documents);
    let path = temp_dir("cfg-wrong").join("wrong.yaml");
    for (document, verdict) in documents.iter().zip(&verdicts).take(right.len()) {
        assert_eq!(*verdict, None, "{document}");
        if !document.contains('$') {
            std::fs::write(&path, document).unwrap();
            said(&["check", "-c", path.to_str().unwrap()]);
        }
    }
    for (document, verdict) in documents.iter().zip(&verdicts).skip(right.len()) {
        assert!(verdict.is_some(), "the schema allows {document}");
        std::fs::write(&path, document).unwrap();
        let (code, stdout, _) = run(&["check", "-c", path.to_str().unwrap()]);
        assert_eq!(code, 1, "the decoder allows {document}: {stdout}");
    }
}

#[test]
fn what_is_printed_loads_again_and_prints_the_same() {
    let example = root().join("config/examples/aggregate.yaml");
    let once = said(&["check", "-c", example.to_str().unwrap(), "--print"]);
    assert!(once.contains("max_part_bytes: 1MiB") && once.contains("drain: 30s"), "{once}");
    let path = temp_dir("cfg-print").join("printed.yaml");
    std::fs::write(&path, &once).unwrap();
    assert_eq!(said(&["check", "-c", path.to_str().unwrap(), "--print"]), once);
    assert!(said(&["check", "-c", path.to_str().unwrap()]).contains(": ok: "));
    assert_eq!(validated(&[&once]), [None]);
    std::fs::write(&path, "listeners: [{ address: 127.0.0.1:1, adress: x }]").unwrap();
    let (code, stdout, stderr) = run(&["check", "-c", path.to_str().unwrap(), "--print"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("did you mean `address`?"), "{stderr}");
}

#[test]
fn programs_that_read_and_write_yaml_1_1_or_json_change_nothing() {
    // With what such a program takes for something else.
    let own = "listeners: [{ address: \"unix:/tmp/never-bound.sock\", mode: \"0660\" }]\n\
               upstreams: { no: { endpoints: [\"10.0.0.1:1\"], proxy_protocol: off } }\nfilters:\n  \
               on: { security_headers: { opener_policy: off, frame_options: off, hsts: off } }\n  \
               f: { rate_limit: { rate: 1/s, headers: off } }\nroutes:\n  - match: { path: /a, headers: { x-a: { equals: \"on\" } } }\n    \
               forward: { upstream: \"no\", upgrade: off, request_headers: { set: { x-b: \"010\", x-c: \"1:30\", x-d: \"NO\" } } }\n\
               observe: { access_log: { to: off } }\nadmin: off\n";
    let own = own.replace(" no: {", " \"no\": {").replace("  on: {", "  \"on\": {").replace(", hsts: off", "");
    // But for those that name files which are not here.
    let is_here = |path: &PathBuf| run(&["check", "-c", path.to_str().unwrap()]).0 == 0;
    let here = configs().into_iter().filter(is_here);
    let mut texts: Vec<String> = here.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(texts.len() > 15);
    texts.push(own);
    let path = temp_dir("cfg-rewritten").join("gateway.yaml");
    let printed = |text: &str| {
        std::fs::write(&path, text).unwrap();
        // Of what is JSON to others it is kept whether it was in quotes, which makes no difference for a word.
        said(&["check", "-c", path.to_str().unwrap(), "--print"]).replace("body: \"none\"", "body: none")
    };
    let prints: Vec<String> = texts.iter().map(|text| printed(text)).collect();
    let rewritten = |texts: &[String]| -> Vec<[String; 2]> {
        let script = root().join("tests/support/rewrite.py");
        serde_json::from_str(&piped(PYTHON, &[script.to_str().unwrap()], &json!(texts).to_string())).unwrap()
    };
    assert!(rewritten(&texts).last().unwrap()[0].contains("proxy_protocol: false"), "such a program is asked");
    for (texts, name) in [(&texts, "as it is"), (&prints, "as it is printed")] {
        for (text, print) in rewritten(texts).iter().flatten().zip(prints.iter().flat_map(|print| [print, print])) {
            assert_eq!(printed(text), *print, "{name}:\n{text}");
        }
    }
}

#[test]
fn a_manual_page() {
    let page = said(&["man"]);
    let shown = piped("groff", &["-man", "-Tutf8", "-ww", "-P-cbou"], &page);
    assert!(page.contains("Exit codes: "), "{page}");
    for text in ["ringway check", "--print", "SYNOPSIS"] {
        assert!(shown.contains(text), "{text}:\n{shown}");
    }
}

#[test]
fn output_that_can_not_be_written_is_an_error_and_one_that_nobody_reads_is_none() {
    for args in [&["schema"][..], &["man"], &["completions", "bash"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = Command::new(BINARY).args(args).stdout(full).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("standard output: "), "{done:?}");
    }
    let (reads, writes) = std::io::pipe().unwrap();
    drop(reads);
    let done = Command::new(BINARY).arg("schema").stdout(writes).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}
