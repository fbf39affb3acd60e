//! What stands for a part that failed: the last good answer to the same request, or what the config says.

use crate::support::aggregate::{asks, by, json, json_of, part_of};
use crate::support::{Client, Gateway, Setup, Upstream, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Answers `{"from":<path>,"who":<authorization>,"secret":1}` while it is on, and 500 otherwise.
fn switched() -> (Upstream, Arc<AtomicBool>) {
    let on = Arc::new(AtomicBool::new(true));
    let is_on = on.clone();
    let upstream = Upstream::by(move |request| match is_on.load(Ordering::SeqCst) {
        false => json_of(500, "", "{}"),
        true => {
            let who = request.fields.get("authorization").unwrap_or("nobody");
            json(format!("{{ \"from\": \"{}\", \"who\":\"{who}\",\"secret\":1}}", request.target))
        }
    });
    (upstream, on)
}

/// A page with a part that is well, from the second upstream, and one that has a fallback.
fn with_stale(upstream: &Upstream, top: &str, keys: &str) -> (Gateway, Upstream) {
    let well = Upstream::pages(&[("/a", "1")]);
    let request = "path: \"/b/{id}\", headers: [authorization], query: [page]";
    let parts =
        [part_of("well", "a", "/a", "required: false"), asks("b", "u", request, &format!("required: false, {keys}"))];
    let setup = Setup::new().upstream("u", &[upstream], "").upstream("well", &[&well], "").top(top);
    (setup.page("", &parts).start(), well)
}

#[test]
fn the_last_good_answer_stands_for_a_part_that_fails() {
    let (upstream, on) = switched();
    let (gateway, _well) = with_stale(&upstream, "", "deny: [secret], fallback: { stale: 5m, data: \"none\" }");
    let mut client = Client::connect(&gateway);
    let fresh = r#"{"a":1,"b":{"from":"/b/1","who":"nobody"}}"#;
    let compact = |data: &str| data.replace(": ", ":").replace("{ ", "{");
    assert_eq!(compact(&client.get("/page/1").data()), fresh);
    on.store(false, Ordering::SeqCst);
    let (data, meta) = client.get("/page/1").partial();
    assert_eq!(compact(&data), fresh, "as it would be, also what is denied");
    assert_eq!(
        meta,
        r#"{"degraded":["b"],"parts":{"b":{"state":"fallback","source":"stale","reason":"status","status":500,"ms":0}}}"#
    );
    let (data, meta) = client.get("/page/2").partial();
    assert_eq!(data, r#"{"a":1,"b":"none"}"#, "nobody has asked for this one while it worked");
    assert!(meta.contains(r#""source":"static""#), "{meta}");
    on.store(true, Ordering::SeqCst);
    client.get("/page/1").data();
    let fallbacks =
        |source: &str| gateway.metrics().sum("ringway_part_fallbacks_total", &[("part", "b"), ("source", source)]);
    assert_eq!((fallbacks("stale"), fallbacks("static")), (1.0, 1.0));
}

#[test]
fn a_last_good_answer_belongs_to_one_request_alone() {
    let (upstream, on) = switched();
    let (gateway, _well) = with_stale(&upstream, "", "fallback: { stale: 5m }");
    let ask = |target: &str, who: &str| gateway.ask(format!("GET /page/{target} HTTP/1.1\r\nHost: a\r\n{who}\r\n"));
    let ada = "Authorization: Bearer ada\r\n";
    ask("1?page=1&other=2", ada).data();
    on.store(false, Ordering::SeqCst);
    let (data, _) = ask("1?page=1&other=3", ada).partial();
    assert!(data.contains("Bearer ada"), "what is not passed on does not matter: {data}");
    for (target, who) in [
        ("1?page=1", "Authorization: Bearer bob\r\n"),
        ("1?page=1", ""),
        ("1?page=1", "Authorization: Bearer ADA\r\n"),
        ("1?page=2", ada),
        ("1", ada),
        ("2?page=1", ada),
        ("1?page=1&page=2", ada),
    ] {
        let (data, _) = ask(target, who).partial();
        assert_eq!(data, r#"{"a":1,"b":null}"#, "{target} {who}");
    }
}

#[test]
fn a_last_good_answer_is_served_up_to_its_age_only() {
    let (upstream, on) = switched();
    let (gateway, _well) = with_stale(&upstream, "", "fallback: { stale: 1s, data: 0 }");
    let mut client = Client::connect(&gateway);
    client.get("/page/1").data();
    let kept = Instant::now();
    on.store(false, Ordering::SeqCst);
    assert!(client.get("/page/1").partial().1.contains("\"stale\"") || kept.elapsed() > Duration::from_millis(900));
    eventually("it is too old", || client.get("/page/1").partial().1.contains("\"static\"").then_some(()));
    let age = kept.elapsed();
    assert!((900..5000).contains(&age.as_millis()), "{age:?}");
}

#[test]
fn memory_for_last_good_answers_is_bounded() {
    let on = Arc::new(AtomicBool::new(true));
    let is_on = on.clone();
    let upstream = Upstream::start(by(move |_| match is_on.load(Ordering::SeqCst) {
        true => json(format!("\"{}\"", "x".repeat(4000))),
        false => json_of(500, "", "{}"),
    }));
    let (gateway, _well) = with_stale(&upstream, "aggregation: { stale_memory: 64KiB }", "fallback: { stale: 5m }");
    let mut client = Client::connect(&gateway);
    for n in 0..200 {
        client.get(&format!("/page/{n}")).data();
    }
    on.store(false, Ordering::SeqCst);
    let kept: Vec<bool> =
        (0..200).map(|n| client.get(&format!("/page/{n}")).partial().1.contains("\"stale\"")).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    assert!((1..=16).contains(&count), "64 KiB hold at most 16 of 4 KB, and some: {count}");
}
