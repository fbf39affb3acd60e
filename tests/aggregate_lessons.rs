//! What a hostile helper found in aggregation, kept from coming back.

use crate::support::aggregate::{asks, json, json_of, part, part_of, path_of};
use crate::support::{Client, Setup, Upstream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An upstream that announces a megabyte and sends none of it.
fn announces_much() -> Upstream {
    Upstream::start(|conn| {
        while conn.request().is_some() {
            conn.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n[");
        }
    })
}

#[test]
fn shadows_take_no_memory_from_answers() {
    let (upstream, greedy) = (Upstream::pages(&[("/a", "1")]), announces_much());
    let parts = [part("a", "/a", ""), part_of("greedy", "s", "/s", "shadow: { sample: 100% }")];
    let setup = Setup::new().upstream("u", &[&upstream], "").upstream("greedy", &[&greedy], "");
    let gateway = setup.top("aggregation: { memory: 1MiB }").page("", &parts).start();
    let mut client = Client::connect(&gateway);
    for _ in 0..50 {
        assert_eq!(client.get("/page/1").data(), r#"{"a":1}"#);
    }
}

#[test]
fn a_last_good_answer_stays_with_the_host_that_was_asked_for() {
    let on = Arc::new(AtomicBool::new(true));
    let is_on = on.clone();
    let upstream = Upstream::by(move |request| match is_on.load(Ordering::SeqCst) {
        true => json(format!("\"{}\"", request.fields.get("x-forwarded-host").unwrap_or("none"))),
        false => json_of(500, "", "{}"),
    });
    let well = Upstream::pages(&[("/a", "1")]);
    let parts = [
        part_of("well", "a", "/a", ""),
        part("b", "/b", "required: false, fallback: { stale: 5m }"),
        part("c", "/b", "required: false, fallback: { stale: 5m }, success: [404]"),
    ];
    let setup = Setup::new().upstream("u", &[&upstream], "").upstream("well", &[&well], "");
    let gateway = setup.page("", &parts).start();
    let mut client = Client::connect(&gateway);
    let ask = |client: &mut Client, host: &str| {
        client.send(format!("GET /page/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response().partial().0
    };
    assert_eq!(ask(&mut client, "tenant-a"), r#"{"a":1,"b":"tenant-a","c":null}"#);
    on.store(false, Ordering::SeqCst);
    assert_eq!(ask(&mut client, "tenant-b"), r#"{"a":1,"b":null,"c":null}"#, "nor that of another part");
    assert_eq!(ask(&mut client, "tenant-a"), r#"{"a":1,"b":"tenant-a","c":null}"#);
}

#[test]
fn an_answer_that_is_in_conflict_does_not_come_back_as_the_last_good_one() {
    let upstream = Upstream::pages(&[("/x", r#"{"a":1}"#), ("/y", r#"{"a":2,"b":3}"#)]);
    let parts = [part("x", "/x", ""), part("y", "/y", "required: false, fallback: { stale: 5m, data: { z: 1 } }")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("envelope: merge", &parts).start();
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        let answer = client.get("/page/1");
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"a":1,"z":1}"#), "{answer:?}");
    }
}

#[test]
fn the_null_of_a_part_that_is_left_out_gives_way_to_a_value() {
    let upstream = Upstream::pages(&[("/x", r#"{"price":11}"#), ("/y", r#"{"price":22}"#)]);
    for on_conflict in ["error", "first", "last", "append"] {
        let parts = [
            part("x", "/x", "when: \"query.x == '1'\", allow: [price]"),
            part("y", "/y", "when: \"query.x != '1'\", allow: [price]"),
        ];
        let keys = format!("envelope: merge, on_conflict: {on_conflict}");
        let gateway = Setup::new().upstream("u", &[&upstream], "").page(&keys, &parts).start();
        let mut client = Client::connect(&gateway);
        assert_eq!(client.get("/page/1?x=1").text(), r#"{"price":11}"#, "{on_conflict}");
        assert_eq!(client.get("/page/1").text(), r#"{"price":22}"#, "{on_conflict}");
    }
}

#[test]
fn an_empty_list_out_of_the_config_is_no_answer_of_an_upstream() {
    let upstream = Upstream::by(|_| json_of(500, "", "{}"));
    let parts = [
        part("orders", "/orders", "required: false, fallback: { data: [] }"),
        part("details", "/orders/{o}", "required: false, for_each: { in: \"parts.orders[*].id\", as: o }"),
    ];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    Client::connect(&gateway).get("/page/1").failed(502, &["orders"]);
}

#[test]
fn fields_of_a_part_whose_answer_can_not_be_used_are_not_passed_on() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/a" => json("1"),
        _ => json_of(200, "Expires: 0\r\nX-Part: b\r\n", "{}"),
    });
    let parts = [part("a", "/a", ""), part("b", "/b", "required: false, target: data")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("headers_from: b", &parts).start();
    let answer = Client::connect(&gateway).get("/page/1");
    assert_eq!(answer.partial().0, r#"{"a":1,"b":null}"#);
    assert_eq!((answer.fields.get("expires"), answer.fields.get("x-part")), (None, None));
}

#[test]
fn a_401_that_becomes_the_answer_says_how_to_come_in() {
    let upstream = Upstream::by(|_| json_of(401, "WWW-Authenticate: Bearer realm=\"x\"\r\nX-Other: 1\r\n", "{}"));
    let parts = [part("a", "/a", "propagate_status: [401]")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    let answer = Client::connect(&gateway).get("/page/1");
    answer.failed(401, &["a"]);
    assert_eq!(answer.fields.get("www-authenticate"), Some("Bearer realm=\"x\""));
    assert_eq!(answer.fields.get("x-other"), None);
}

#[test]
fn many_items_that_use_a_large_answer_do_not_hold_up_the_core() {
    let large = format!(r#"{{"pad":"{}","last":7}}"#, "[".repeat(900_000));
    let list = format!("[{}]", vec!["1"; 1000].join(","));
    let upstream = Upstream::by(move |request| match path_of(request) {
        "/large" => json(&large),
        "/list" => json(&list),
        _ => json("0"),
    });
    let parts = [
        part("large", "/large", ""),
        part("list", "/list", ""),
        asks(
            "items",
            "u",
            "path: \"/{parts.large.last}/{parts.large.nothing}/{i}\"",
            "required: false, on_missing: skip, for_each: { in: \"parts.list\", as: i, max: 1000, concurrency: 64 }",
        ),
    ];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    // On one worker: the whole answer takes no longer than the core was busy, which was two seconds when each item looked
    // for its values anew. The best of a few, since other tests run beside it.
    let mut client = Client::connect(&gateway);
    let best = (0..3)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(client.get("/page/1").status, 200);
            begun.elapsed()
        })
        .min();
    assert!(best.unwrap() < Duration::from_secs(1), "{best:?}");
}
