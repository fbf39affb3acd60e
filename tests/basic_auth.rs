//! `basic`: names and passwords, with files of htpasswd and argon2, and curl as the client.

use crate::support::foreign::{curl, output, output_of, url};
use crate::support::gateway::run;
use crate::support::message::{Response, ok};
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, eventually, temp_dir, tls};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

/// A file with one user, by htpasswd.
fn file(cost: &str, user: &str, password: &str) -> PathBuf {
    let file = temp_dir("basic").join("users");
    output("htpasswd", &["-cbB", "-C", cost, file.to_str().unwrap(), user, password]);
    file
}

fn guarded(upstream: &Upstream, file: &Path, keys: &str) -> Setup {
    let comma = if keys.is_empty() { "" } else { ", " };
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ staff: {{ basic: {{ file: {}{comma}{keys} }} }} }}", file.display()))
        .forward_all("filters: [staff]")
        .route("match: { path: /open }, forward: { upstream: u }")
}

fn base64(text: &str) -> String {
    output_of("base64", &["-w0"], text.as_bytes())
}

fn as_user(credentials: &str) -> String {
    with(&format!("Authorization: Basic {}\r\n", base64(credentials)))
}

fn with(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn is_challenge(answer: &Response) {
    answer.is_gateways_own(401);
    assert_eq!(answer.fields.get("www-authenticate"), Some("Basic realm=\"restricted\", charset=\"UTF-8\""));
}

fn counted(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "staff"), ("outcome", outcome)])
}

#[test]
fn curl_comes_in_with_a_password_of_htpasswd() {
    let upstream = upstream();
    let file = file("5", "ann", "s3cr3t:with colon");
    let gateway = guarded(&upstream, &file, "principal_header: x-user").start();
    let (url, body) = (format!("{}/a", url(gateway.addr)), gateway.dir.join("body"));
    let ask = |user: &str| {
        curl(&["-u", user, "-H", "X-User: root", "-o", body.to_str().unwrap(), "-w", "%{http_code}", &url])
    };
    assert_eq!(ask("ann:s3cr3t:with colon"), "200");
    let seen = upstream.requests()[0].fields.clone();
    assert!(!seen.has("authorization") && seen.all("x-user") == ["ann"], "{seen:?}");
    assert_eq!((ask("ann:s3cr3t").as_str(), ask("bob:s3cr3t:with colon").as_str()), ("401", "401"));
    assert_eq!(upstream.requests().len(), 1);
    eventually("a line each", || (gateway.log_lines().len() == 3).then_some(()));
    let told = format!("{}{}", std::fs::read_to_string(&gateway.log).unwrap(), gateway.process.output());
    assert!(!told.contains("s3cr3t") && !told.contains(&base64("ann:s3cr3t")), "{told}");
}

#[test]
fn argon2_hashes_and_passwords_that_are_passed_on() {
    let upstream = upstream();
    let file = temp_dir("basic").join("users");
    let of = |kind: &str, password: &str| {
        output_of("argon2", &["saltsalt", kind, "-m", "8", "-t", "1", "-e"], password.as_bytes())
    };
    let text = format!("# staff\n\nann:{}\r\nbob:{}\n", of("-id", "geh\u{e4}im").trim(), of("-i", "b").trim());
    std::fs::write(&file, text).unwrap();
    let gateway = guarded(&upstream, &file, "forward: true, realm: staff only").start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask(as_user("ann:geh\u{e4}im")).status, 200, "UTF-8, as the challenge says");
    assert_eq!(client.ask(as_user("bob:b")).status, 200);
    let wrong = client.ask(as_user("bob:B"));
    assert_eq!(wrong.fields.get("www-authenticate"), Some("Basic realm=\"staff only\", charset=\"UTF-8\""));
    let passed_on = upstream.requests()[1].fields.get("authorization").map(str::to_owned);
    assert_eq!(passed_on, Some(format!("Basic {}", base64("bob:b"))));
}

#[test]
fn what_is_no_name_and_password_is_told_so() {
    let upstream = upstream();
    let file = file("4", "ann", "secret");
    let mut gateway = guarded(&upstream, &file, "").start();
    let right = base64("ann:secret");
    for fields in [
        "",
        "Authorization: Bearer x\r\n",
        "Authorization: Basicx\r\n",
        "Authorization:\r\n",
        "Authorization: Basic \r\n",
        "X-A: b\r\n",
    ] {
        let answer = gateway.ask(with(fields));
        is_challenge(&answer);
        assert_eq!(answer.json()["code"], 40101, "{fields:?}");
    }
    let long = base64(&format!("ann:{}", "x".repeat(10_000)));
    for value in [
        "Basic =",
        "Basic not*base64",
        &format!("Basic {}", base64("ann")),
        &format!("Basic {}", base64("ann:secret\0")),
        &format!("Basic {}", base64("ann\n:secret")),
        &format!("Basic {}", base64(":")),
        &format!("Basic {}", base64("ann:")),
        &format!("Basic {}", base64("ANN:secret")),
        &format!("Basic {right}, Basic {right}"),
        &format!("Basic {long}"),
        "Basic //79/A==",
    ] {
        let answer = gateway.ask(with(&format!("Authorization: {value}\r\n")));
        is_challenge(&answer);
        assert_eq!(answer.json()["code"], 40102, "{value}");
    }
    let twice = format!("Authorization: Basic {right}\r\n").repeat(2);
    is_challenge(&gateway.ask(with(&twice)));
    assert_eq!(gateway.ask(with(&format!("authorization: bAsIc   {right} \r\n"))).status, 200);
    let line = gateway.wait_log(|line| line["status"] == 401);
    assert_eq!((&line["refused_by"], &line["end"]), (&"staff".into(), &"filter_refused".into()));
    gateway.is_well();
}

#[test]
fn what_was_right_is_not_hashed_again_until_the_file_changes() {
    let upstream = upstream();
    let file = file("9", "ann", "first");
    let gateway = guarded(&upstream, &file, "").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..5 {
        assert_eq!(client.ask(as_user("ann:first")).status, 200);
    }
    assert_eq!((counted(&gateway, "waited"), counted(&gateway, "passed")), (1.0, 5.0));
    for _ in 0..2 {
        assert_eq!(client.ask(as_user("ann:wrong")).status, 401);
    }
    assert_eq!(counted(&gateway, "waited"), 3.0, "what is wrong is never remembered");
    output("htpasswd", &["-bB", "-C", "9", file.to_str().unwrap(), "ann", "second"]);
    eventually("the new password", || (gateway.ask(as_user("ann:second")).status == 200).then_some(()));
    assert_eq!(gateway.ask(as_user("ann:first")).status, 401, "also for who was remembered");
    std::fs::write(&file, "ann:$apr1$nonsense$x\n").unwrap();
    let said = eventually("it says so", || {
        let said = gateway.process.stderr.lock().unwrap().clone();
        // It may be read half written before, which is told too.
        said.contains("users:1:1: the user `ann` has a hash of a kind that is not understood").then_some(said)
    });
    assert!(said.contains("stays in use"), "{said}");
    assert!(!said.contains("nonsense"), "{said}");
    assert_eq!(gateway.ask(as_user("ann:second")).status, 200);
}

#[test]
fn the_callers_name_is_a_key_of_limits() {
    let upstream = upstream();
    let file = file("4", "ann", "a");
    output("htpasswd", &["-bB", "-C", "4", file.to_str().unwrap(), "bob", "b"]);
    let filters = format!(
        "filters: {{ staff: {{ basic: {{ file: {} }} }}, fair: {{ rate_limit: {{ rate: 1/h, key: principal }} }} }}",
        file.display()
    );
    // Behind a filter that waits, the others run on.
    let gateway =
        Setup::new().upstream("u", &[&upstream], "").top(&filters).forward_all("filters: [staff, fair]").start();
    let mut client = Client::connect(&gateway);
    let mut ask = |credentials: &str| client.ask(as_user(credentials)).status;
    assert_eq!((ask("ann:a"), ask("ann:a"), ask("bob:b"), ask("bob:b"), ask("bob:x")), (200, 429, 200, 429, 401));
}

#[test]
fn explain_compares_passwords_and_goes_on_as_that_caller() {
    let upstream = upstream();
    let file = file("4", "ann", "secret");
    let gateway = guarded(&upstream, &file, "principal_header: X-User").start();
    let config = gateway.dir.join("gateway.yaml");
    let explain = |more: &[&str], credentials: &str| {
        let line = format!("Authorization: Basic {}", base64(credentials));
        let url = if tls::is_on() { "https://h/a" } else { "http://h/a" };
        let args = ["explain", "GET", url, "-H", &line, "--json", "-c", config.to_str().unwrap()];
        let (code, said, complaint) = run(&[&args[..], more].concat());
        assert_eq!((code, complaint.as_str()), (0, ""), "{credentials}: {said}");
        said
    };
    let parsed =
        |credentials: &str| -> Value { serde_json::from_str(&explain(&["--credentials"], credentials)).unwrap() };
    assert_eq!(gateway.ask(as_user("ann:secret")).status, 200);
    let told = parsed("ann:secret");
    let head = |text: &str| -> Vec<String> {
        let lines = text.split("\r\n").filter(|line| !line.starts_with("X-Request-Id: "));
        lines.map(str::to_owned).collect()
    };
    let explained = head(told["sent"][0]["request"].as_str().unwrap());
    assert_eq!(explained, head(std::str::from_utf8(&upstream.bytes(0)).unwrap()));
    assert!(explained.contains(&"X-User: ann".to_owned()), "{explained:?}");
    assert_eq!(told["filters"][0]["answers"], Value::Null);
    assert!(told["filters"][0]["does"].as_str().unwrap().ends_with("those of ann are right"), "{told}");
    for wrong in ["ann:secrets", "bob:secret"] {
        assert_eq!(parsed(wrong)["filters"][0]["answers"], 401, "{wrong}");
    }
    let hidden = explain(&[], "ann:secret");
    assert!(!hidden.contains("secret") && !hidden.contains(&base64("ann:secret")), "{hidden}");
}

#[test]
fn a_name_that_is_not_known_takes_as_long_as_one_that_is() {
    let upstream = upstream();
    let file = file("9", "ann", "secret");
    let gateway = guarded(&upstream, &file, "").start();
    let mut client = Client::connect(&gateway);
    let mut once = |user: &str, n: usize| {
        let start = Instant::now();
        assert_eq!(client.ask(as_user(&format!("{user}:wrong{n}"))).status, 401);
        start.elapsed()
    };
    // In turn, and the fastest of each: others use this machine too.
    let times: Vec<_> = (0..10).map(|n| (once("ann", n), once("nobody", n))).collect();
    let known = times.iter().map(|(known, _)| *known).min().unwrap();
    let unknown = times.iter().map(|(_, unknown)| *unknown).min().unwrap();
    let ratio = unknown.as_secs_f64() / known.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{known:?} and {unknown:?}");
    assert_eq!(counted(&gateway, "waited"), 20.0);
}

#[test]
fn a_flood_of_wrong_passwords_stops_nobody_else() {
    let upstream = upstream();
    // A twentieth of a second each, and more where others use this machine: the flood comes far faster.
    let file = file("10", "ann", "secret");
    let gateway = guarded(&upstream, &file, "").start();
    let mut ann = Client::connect(&gateway);
    assert_eq!(ann.ask(as_user("ann:secret")).status, 200);
    let request = as_user("ann:guess");
    let mut flood: Vec<Client> = (0..120).map(|_| Client::connect(&gateway)).collect();
    flood.iter_mut().for_each(|client| client.send(&request));
    eventually("the queue is full", || (counted(&gateway, "refused") >= 40.0).then_some(()));
    let start = Instant::now();
    assert_eq!(gateway.get("/open").status, 200);
    assert_eq!(ann.ask(as_user("ann:secret")).status, 200, "who is remembered comes in");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let busy = gateway.wait_log(|line| line["status"] == 503);
    assert_eq!((&busy["refused_by"], &busy["end"]), (&"staff".into(), &"overloaded".into()));
    // Who leaves gives up its place in the queue, as soon as a thread comes to it.
    drop(flood);
    eventually("they have left", || (gateway.metrics().sum("ringway_requests_active", &[]) == 0.0).then_some(()));
    eventually("a guess is worked off", || (gateway.ask(&request).status == 401).then_some(()));
}

#[test]
fn a_full_queue_is_503_with_retry_after() {
    let upstream = upstream();
    let file = file("7", "ann", "secret");
    let gateway = guarded(&upstream, &file, "").start();
    let request = as_user("ann:guess");
    let mut flood: Vec<Client> = (0..120).map(|_| Client::connect(&gateway)).collect();
    flood.iter_mut().for_each(|client| client.send(&request));
    // Which of them came in vain is nobody's choice; most likely the last.
    let mut answers = flood.iter_mut().rev().map(Client::response);
    let refused = answers.find(|answer| answer.status == 503).expect("one of 120 comes in vain");
    refused.is_gateways_own(503);
    assert_eq!((refused.json()["code"].as_u64(), refused.fields.get("retry-after")), (Some(50306), Some("1")));
}
