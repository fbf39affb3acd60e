//! `api_key`: who calls by a key that they show. Digests are made by programs of others.

use crate::support::browser::{Fetch, Page};
use crate::support::foreign::{output, output_of};
use crate::support::message::{Response, ok};
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, eventually, temp_dir};
use std::path::Path;

const KEY: &str = "k-3f1d0c5b7a2e";
const GOLD: &str = "k-gold%41+ b/=";

/// By coreutils.
fn sha256(key: &str) -> String {
    output_of("sha256sum", &[], key.as_bytes()).split_whitespace().next().unwrap().to_string()
}

/// By OpenSSL.
fn openssl_sha256(key: &str) -> String {
    output_of("openssl", &["dgst", "-sha256", "-r"], key.as_bytes()).split_whitespace().next().unwrap().to_string()
}

fn known() -> String {
    format!(
        "keys: [{{ sha256: {}, owner: acme }}, {{ sha256: {}, owner: globex, tags: [gold, write] }}]",
        sha256(KEY),
        openssl_sha256(GOLD).to_uppercase()
    )
}

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

fn keyed(upstream: &Upstream, keys: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!(
            "filters: {{ who: {{ api_key: {{ {keys} }} }}, fair: {{ rate_limit: {{ rate: 2/h, key: principal }} }} }}"
        ))
        .forward_all("filters: [who]")
}

fn with(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn is_challenge(answer: &Response) {
    answer.is_gateways_own(401);
    assert_eq!(answer.fields.get("www-authenticate"), Some("Key realm=\"who\""));
}

/// What the gateway wrote anywhere.
fn told(gateway: &Gateway) -> String {
    format!("{}{}", std::fs::read_to_string(&gateway.log).unwrap_or_default(), gateway.process.output())
}

#[test]
fn a_key_in_a_field_says_who_calls_and_is_not_forwarded() {
    let upstream = upstream();
    let gateway = keyed(&upstream, &format!("header: X-Api-Key, principal_header: X-Caller, {}", known())).start();
    let mut client = Client::connect(&gateway);
    let fields = format!("x-api-KEY: {KEY}\r\nX-Caller: root\r\nx_caller: root\r\nX-Other: 1\r\n");
    assert_eq!(client.ask(with(&fields)).status, 200);
    let seen = &upstream.requests()[0].fields;
    assert!(!seen.has("x-api-key") && seen.get("x-other") == Some("1"), "{seen:?}");
    assert_eq!((seen.all("x-caller"), seen.has("x_caller")), (vec!["acme"], false), "a client can not say who it is");
    for fields in ["", "X-Api-Keys: k\r\n", "Authorization: Bearer k\r\n"] {
        let answer = client.ask(with(fields));
        is_challenge(&answer);
        assert_eq!(answer.json()["code"], 40101, "{fields}");
    }
    for key in ["wrong", "", &KEY[1..], &format!("{KEY}x"), &KEY.to_uppercase(), &sha256(KEY), "\u{e9}\u{20ac}"] {
        let answer = client.ask(with(&format!("X-Api-Key: {key}\r\n")));
        is_challenge(&answer);
        assert_eq!(answer.json()["code"], 40102, "{key}");
    }
    assert_eq!(upstream.requests().len(), 1);
    let line = gateway.wait_log(|line| line["status"] == 401);
    assert_eq!((&line["refused_by"], &line["end"]), (&"who".into(), &"filter_refused".into()));
    let counted =
        |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "who"), ("outcome", outcome)]);
    assert_eq!((counted("passed"), counted("refused")), (1.0, 10.0));
}

#[test]
fn a_key_in_the_query_is_taken_out_of_the_target() {
    let upstream = upstream();
    let gateway = keyed(&upstream, &format!("query: api_key, {}", known())).start();
    let mut client = Client::connect(&gateway);
    let gold = "k-gold%2541%2B+b/%3D";
    for (target, forwarded) in [
        (format!("/a?api_key={KEY}"), "/a"),
        (format!("/a?x=1&api_key={KEY}&y=%20"), "/a?x=1&y=%20"),
        (format!("/a?api%5Fkey={KEY}&x"), "/a?x"),
        (format!("/a?x&api_key={gold}"), "/a?x"),
    ] {
        assert_eq!(client.get(&target).status, 200, "{target}");
        assert_eq!(upstream.requests().last().unwrap().target, forwarded);
    }
    for target in [
        "/a".to_string(),
        "/a?api_key".to_string(),
        "/a?api_key=".to_string(),
        "/a?api_keys=1".to_string(),
        format!("/a?api_key={KEY}&api_key={KEY}"),
        format!("/a?api_key={KEY}&api%5fkey=x"),
        format!("/a?API_KEY={KEY}"),
        format!("/a?x=api_key={KEY}"),
    ] {
        is_challenge(&client.get(&target));
    }
    eventually("the log is written", || (gateway.log_lines().len() == 12).then_some(()));
    assert!(!told(&gateway).contains(KEY), "{}", told(&gateway));
}

#[test]
fn two_keys_are_none() {
    let upstream = upstream();
    let gateway = keyed(&upstream, &format!("header: x-api-key, query: key, {}", known())).start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask(with(&format!("X-Api-Key: {KEY}\r\n"))).status, 200);
    assert_eq!(client.get(&format!("/a?key={KEY}")).status, 200);
    is_challenge(&client.ask(with(&format!("X-Api-Key: {KEY}\r\nX-Api-Key: {KEY}\r\n"))));
    is_challenge(&client.ask(with(&format!("X-Api-Key: {KEY}\r\nX_Api_Key: wrong\r\n"))));
    is_challenge(&client.ask(format!("GET /a?key={KEY} HTTP/1.1\r\nHost: h\r\nX-Api-Key: {KEY}\r\n\r\n")));
    is_challenge(&client.ask(format!("GET /a?key= HTTP/1.1\r\nHost: h\r\nX-Api-Key: {KEY}\r\n\r\n")));
    assert_eq!(upstream.requests().len(), 2);
    assert!(upstream.requests().iter().all(|r| r.target == "/a" && !r.fields.has("x-api-key")));
}

#[test]
fn what_one_filter_takes_out_of_the_query_others_have_read() {
    let upstream = upstream();
    let (partners, known) = (format!("query: key, keys: [{{ sha256: {}, owner: acme }}]", sha256(KEY)), known());
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!(
            "filters: {{ one: {{ api_key: {{ {partners} }} }}, two: {{ api_key: {{ query: key, {known} }} }}, \
             by_key: {{ rate_limit: {{ rate: 5/h, key: query.key }} }}, all: {{ rate_limit: {{ rate: 2/h, key: none }} }} }}"
        ))
        .forward_all("filters: [by_key, one, two, all]")
        .route("match: { path: /other }, filters: [by_key, one, two], forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    let mut status = |path: &str| client.get(&format!("{path}?x=1&key={KEY}&y")).status;
    assert_eq!((status("/a"), status("/a")), (200, 200));
    assert_eq!(upstream.requests()[1].target, "/a?x=1&y");
    // What is refused by the last limit is given back to the first: to the bucket that it was taken from.
    assert!((0..10).all(|_| status("/a") == 429));
    assert_eq!(gateway.wait_log(|line| line["status"] == 429)["refused_by"], "all");
    assert_eq!([(); 4].map(|()| status("/other")), [200, 200, 200, 429]);
}

#[test]
fn a_field_of_the_callers_name_is_the_gateways_for_later_filters_too() {
    let upstream = upstream();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!(
            "filters: {{ who: {{ api_key: {{ header: x-api-key, principal_header: x-caller, {} }} }}, \
             copy: {{ request_headers: {{ set: {{ x-copy: \"{{header.x-caller}}\" }} }} }}, \
             fair: {{ rate_limit: {{ rate: 2/h, key: header.x-caller }} }} }}",
            known()
        ))
        .forward_all("filters: [who, copy, fair]")
        .start();
    let mut client = Client::connect(&gateway);
    let mut ask = |n: u32| client.ask(with(&format!("X-Api-Key: {KEY}\r\nX-Caller: root{n}\r\n"))).status;
    assert_eq!([ask(1), ask(2), ask(3)], [200, 200, 429], "no bucket for each name that a client makes up");
    assert_eq!(upstream.requests()[0].fields.all("x-caller"), ["acme"]);
    assert!(!format!("{:?}", upstream.requests()).contains("root"));
}

#[test]
fn tags_are_rights() {
    let upstream = upstream();
    let gateway = keyed(&upstream, &format!("header: x-api-key, required_tags: [gold, write], {}", known())).start();
    let refused = gateway.ask(with(&format!("X-Api-Key: {KEY}\r\n")));
    refused.is_gateways_own(403);
    assert!(refused.json()["code"] == 40303 && !refused.fields.has("www-authenticate"), "{refused:?}");
    assert_eq!(gateway.ask(with(&format!("X-Api-Key: {GOLD}\r\n"))).status, 200);
    is_challenge(&gateway.ask(with("X-Api-Key: wrong\r\n")));
}

#[test]
fn limits_count_by_the_owner_of_a_key() {
    let upstream = upstream();
    let keys = format!(
        "header: x-api-key, keys: [{{ sha256: {}, owner: acme }}, {{ sha256: {}, owner: acme }}, {{ sha256: {}, owner: globex }}]",
        sha256("one"),
        sha256("two"),
        sha256("three")
    );
    let gateway = keyed(&upstream, &keys)
        .route("match: { path: /limited }, filters: [who, fair], forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    let mut ask =
        |key: &str| client.ask(format!("GET /limited HTTP/1.1\r\nHost: h\r\nX-Api-Key: {key}\r\n\r\n")).status;
    assert_eq!((ask("one"), ask("two"), ask("one")), (200, 200, 429), "two keys, one owner");
    assert_eq!((ask("three"), ask("wrong")), (200, 401));
}

#[test]
fn a_part_of_an_aggregation_gets_the_owner_and_not_the_key() {
    let upstream = Upstream::start(answers(ok("{}")));
    let gateway = keyed(&upstream, &format!("header: x-api-key, query: key, principal_header: x-caller, {}", known()))
        .route(
            "match: { path: /many }, filters: [who], aggregate: { parts: [{ name: a, upstream: u, \
             request: { path: /part, headers: [x-api-key, x-caller], query: [key, x] } }] }",
        )
        .start();
    let mut client = Client::connect(&gateway);
    let fields = format!("X-Api-Key: {KEY}\r\nX-Caller: root\r\n");
    assert_eq!(client.ask(format!("GET /many?x=1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).status, 200);
    assert_eq!(client.get(&format!("/many?key={KEY}&x=1")).status, 200);
    for request in upstream.requests() {
        assert!(!request.fields.has("x-api-key") && request.target == "/part?x=1", "{request:?}");
        assert_eq!(request.fields.all("x-caller"), ["acme"]);
    }
}

fn write(path: &Path, text: &str) {
    // As careful tools do: the file is never half there.
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn a_file_of_keys_is_read_again_and_a_bad_one_is_not_believed() {
    let upstream = upstream();
    let file = temp_dir("keys").join("keys.yaml");
    let list = |keys: &[&str]| {
        let lines: String = keys.iter().map(|k| format!("  - {{ sha256: {}, owner: {k} }}\n", sha256(k))).collect();
        format!("keys:\n{lines}")
    };
    write(&file, &list(&["old"]));
    let gateway = keyed(&upstream, &format!("header: x-api-key, file: {}", file.display())).start();
    let status = |key: &str| gateway.ask(with(&format!("X-Api-Key: {key}\r\n"))).status;
    assert_eq!((status("old"), status("new")), (200, 401));
    write(&file, &list(&["new"]));
    eventually("the new key is known", || (status("new") == 200).then_some(()));
    assert_eq!(status("old"), 401, "what is not in the file any more is forgotten");
    // One that is wrong keeps what was read before, and says so with its place.
    write(&file, &format!("{}  - {{ sha256: k-plain-secret, owner: x }}\n", list(&["third"])));
    let said = eventually("it says so", || {
        let said = gateway.process.stderr.lock().unwrap().clone();
        said.contains("stays in use").then_some(said)
    });
    assert!(said.contains(&format!("{}:3:15: keys[1].sha256: is not a SHA-256", file.display())), "{said}");
    assert!(!said.contains("k-plain-secret"), "what may be a key is not told: {said}");
    assert_eq!((status("new"), status("third")), (200, 401));
    write(&file, &list(&["third"]));
    eventually("it is right again", || (status("third") == 200).then_some(()));
    // What never ends, or never begins, holds nothing up.
    std::fs::remove_file(&file).unwrap();
    output("mkfifo", &[file.to_str().unwrap()]);
    eventually("it says that this is none", || {
        gateway.process.stderr.lock().unwrap().contains("is not a regular file").then_some(())
    });
    write(&file, &list(&["fourth"]));
    eventually("it is a file again", || (status("fourth") == 200).then_some(()));
    // As long as before and of the same time: only its change is told by the file system.
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, list(&["fifthh"])).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    eventually("it was changed in place", || (status("fifthh") == 200).then_some(()));
    write(&file, &list(&["third"]));
    eventually("the third is back", || (status("third") == 200).then_some(()));
    std::fs::remove_file(&file).unwrap();
    eventually("it says that it is gone", || {
        gateway.process.stderr.lock().unwrap().contains("can not be read").then_some(())
    });
    assert_eq!(status("third"), 200);
}

#[test]
fn pages_can_ask_with_a_key_and_read_why_they_may_not() {
    let upstream = upstream();
    let app = "https://app.example.com";
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!(
            "filters: {{ web: {{ cors: {{ origins: [\"{app}\"], headers: [x-api-key] }} }}, \
             who: {{ api_key: {{ header: x-api-key, {} }} }} }}",
            known()
        ))
        // The key is asked for first; the preflight, which has none, is answered all the same.
        .forward_all("filters: [who, web]")
        .start();
    let mut page = Page::of(app, &gateway);
    let ask = |key: &str| Fetch::new("DELETE", "/a").field("X-Api-Key", key);
    assert_eq!(page.fetch(&ask(KEY)).unwrap().status, 200);
    assert_eq!(page.fetch(&ask("wrong")).unwrap().status, 401);
    assert_eq!(page.fetch(&Fetch::new("GET", "/a")).unwrap().status, 401);
    assert_eq!(page.preflights, 1);
}

#[test]
fn hostile_keys_do_no_harm_and_none_is_told() {
    let upstream = upstream();
    let mut gateway = keyed(&upstream, &format!("header: x-api-key, query: key, {}", known())).start();
    let long = "s3cr3t".repeat(4000);
    is_challenge(&gateway.ask(with(&format!("X-Api-Key: {long}\r\n"))));
    gateway.ask(with(&format!("X-Api-Key: {}\r\n", "s3cr3t".repeat(17_000)))).is_gateways_own(431);
    assert_eq!(gateway.ask(with("X-Api-Key: s3cr3t\u{1}\r\n")).status, 400);
    assert_eq!(gateway.ask(with("X-Api-Key: s3cr3t\0\r\n")).status, 400);
    for key in ["%00", "%e2%82%ac", "s3cr3t%0d%0a", &"%41".repeat(1000)] {
        is_challenge(&gateway.get(&format!("/a?key={key}")));
    }
    for key in ["%", "%zz"] {
        gateway.get(&format!("/a?key={key}")).is_gateways_own(400);
    }
    let many: String = (0..500).map(|n| format!("&key{n}=1")).collect();
    is_challenge(&gateway.get(&format!("/a?x{many}&key=s3cr3t")));
    gateway.is_well();
    assert!(upstream.requests().is_empty() && !told(&gateway).contains("s3cr3t"), "{}", told(&gateway));
}

#[test]
fn check_reads_the_file_too() {
    let dir = temp_dir("check");
    let (file, config) = (dir.join("keys.yaml"), dir.join("gateway.yaml"));
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:8081 }}]\nfilters: {{ who: {{ api_key: {{ header: k, file: {} }} }} }}\n",
        file.display()
    );
    std::fs::write(&config, text).unwrap();
    let check = || crate::support::gateway::run(&["check", "-c", config.to_str().unwrap()]);
    let (code, _, said) = check();
    assert!(code == 1 && said.contains("gateway.yaml:2:") && said.contains("can not be read"), "{said}");
    std::fs::write(&file, format!("keys: [{{ sha256: {}, owner: a }}]", sha256("k"))).unwrap();
    let (code, _, said) = check();
    assert_eq!(code, 0, "{said}");
    assert!(output("ls", &[dir.to_str().unwrap()]).contains("keys.yaml"));
}
