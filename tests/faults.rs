//! `fault`: delays and failures on purpose, a share or by a field, bounded, and told as such.

use crate::support::aggregate::{json, part};
use crate::support::client::{get, post};
use crate::support::names::ENDS;
use crate::support::{Client, Gateway, Setup, Upstream, eventually};
use std::time::{Duration, Instant};

fn with(upstream: &Upstream, keys: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ chaos: {{ fault: {{ {keys} }} }} }}"))
        .forward_all("filters: [chaos]")
}

fn counted(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "chaos"), ("outcome", outcome)])
}

#[test]
fn a_delay_comes_before_the_upstream_is_asked_and_is_told() {
    let upstream = Upstream::says("hi");
    let gateway = with(&upstream, "delay: { time: 300ms }").start();
    let mut client = Client::connect(&gateway);
    let start = Instant::now();
    client.send(post("/slow", "body"));
    eventually("it waits", || (counted(&gateway, "waited") == 1.0).then_some(()));
    // Looked at first: on a slow machine the delay may be over by then.
    let asked = upstream.heads().len();
    assert!(asked == 0 || start.elapsed() >= Duration::from_millis(300), "asked {asked} times");
    assert_eq!(client.response().text(), "hi");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let line = gateway.log_of("/slow");
    assert_eq!((&line["end"], &line["notes"]), (&"ok".into(), &serde_json::json!(["chaos:delayed"])));
    assert!(line["added_us"].as_u64().unwrap() >= 250_000, "{line}");
    assert_eq!((counted(&gateway, "passed"), counted(&gateway, "refused")), (1.0, 0.0));
    assert_eq!(upstream.only_request().body, b"body");
}

#[test]
fn a_failure_is_the_gateways_and_says_that_it_was_injected() {
    let upstream = Upstream::says("hi");
    let gateway = with(&upstream, "abort: { status: 418 }").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        let answer = client.ask(post("/a", "body"));
        answer.is_gateways_own(418);
        assert_eq!(
            (answer.json()["code"].as_u64(), answer.json()["message"].as_str().unwrap().contains("inject")),
            (Some(41809), true)
        );
    }
    let line = gateway.log_of("/a");
    assert_eq!((&line["end"], &line["refused_by"]), (&"fault_injected".into(), &"chaos".into()));
    assert_eq!((counted(&gateway, "passed"), counted(&gateway, "refused")), (0.0, 2.0));
    gateway.wait_sum(ENDS, &[("end", "fault_injected")], 2.0);
    assert!(upstream.heads().is_empty());
    let gateway = with(&upstream, "delay: { time: 100ms }, abort: {}").start();
    let start = Instant::now();
    gateway.get("/both").is_gateways_own(503);
    assert!(start.elapsed() >= Duration::from_millis(100));
    let line = gateway.log_of("/both");
    assert_eq!((&line["end"], &line["notes"]), (&"fault_injected".into(), &serde_json::json!(["chaos:delayed"])));
}

#[test]
fn a_share_of_the_requests_is_drawn_for_each_fault_by_itself() {
    let upstream = Upstream::says("hi");
    let gateway = with(&upstream, "delay: { time: 1ms, percent: 30% }, abort: { status: 500, percent: 30% }").start();
    let mut client = Client::connect(&gateway);
    let failed = (0..1000).filter(|_| client.get("/a").status == 500).count();
    // Five deviations of 14.5 to either side: once in a million runs.
    assert!((228..=372).contains(&failed), "{failed}");
    let waited = counted(&gateway, "waited") as usize;
    assert!((228..=372).contains(&waited), "{waited}");
    assert_eq!((counted(&gateway, "refused") as usize, counted(&gateway, "passed") as usize), (failed, 1000 - failed));
    let gateway = with(&upstream, "abort: { percent: 0% }").start();
    let mut client = Client::connect(&gateway);
    assert!((0..200).all(|_| client.get("/a").status == 200));
}

#[test]
fn only_who_has_the_fields_is_hit() {
    let upstream = Upstream::says("hi");
    let gateway = with(&upstream, "abort: {}, when: { X-Fault: \"on\", x-team: present }").start();
    let mut client = Client::connect(&gateway);
    for (fields, status) in [
        ("", 200),
        ("X-Fault: on\r\n", 200),
        ("X-Team: a\r\n", 200),
        ("X-Fault: off\r\nX-Team: a\r\n", 200),
        ("X-Fault: On\r\nX-Team: a\r\n", 200),
        ("x-fault: on\r\nx-team: a\r\n", 503),
        ("X-Fault: off\r\nX-FAULT: on\r\nX-Team:\r\n", 503),
    ] {
        assert_eq!(client.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).status, status, "{fields:?}");
    }
    let open = with(&upstream, "abort: { percent: 0% }").start();
    assert_eq!(
        open.ask("GET /a HTTP/1.1\r\nHost: h\r\nX-Fault: on\r\nX-Team: a\r\n\r\n").status,
        200,
        "nobody is asked to"
    );
}

#[test]
fn no_more_than_so_many_wait_and_who_leaves_makes_room() {
    let upstream = Upstream::says("hi");
    let gateway = with(&upstream, "delay: { time: 25s }, max_delayed: 1").start();
    let mut waits = Client::connect(&gateway);
    waits.send(get("/first"));
    eventually("it waits", || (counted(&gateway, "waited") == 1.0).then_some(()));
    assert_eq!(gateway.get("/second").status, 200, "it is not delayed");
    assert_eq!(counted(&gateway, "dropped"), 1.0);
    drop(waits);
    assert_eq!(gateway.log_of("/first")["end"], "client_gone");
    let mut waits = Client::connect(&gateway);
    waits.send(get("/third"));
    eventually("it waits", || (counted(&gateway, "waited") == 2.0).then_some(()));
}

#[test]
fn a_drain_ends_the_wait() {
    let upstream = Upstream::says("hi");
    let mut gateway = with(&upstream, "delay: { time: 25s }").top("drain: 300ms").start();
    let mut client = Client::connect(&gateway);
    client.send(get("/a"));
    eventually("it waits", || (counted(&gateway, "waited") == 1.0).then_some(()));
    let start = Instant::now();
    gateway.term();
    gateway.wait_exit();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn every_kind_of_route_can_have_one() {
    let upstream = Upstream::start(crate::support::misbehave::answers(json("{}")));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("filters: { chaos: { fault: { delay: { time: 50ms }, abort: {}, when: { x-fault: present } } } }")
        .top("all_routes: { filters: [chaos] }")
        .route("match: { path: /respond }, respond: { body: fixed }")
        .aggregate("match: { path: /many }", "", &[part("it", "/", "")])
        .start();
    let mut client = Client::connect(&gateway);
    for path in ["/respond", "/many"] {
        client.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Fault: 1\r\n\r\n")).is_gateways_own(503);
        assert_eq!(client.get(path).status, 200);
    }
}

#[test]
fn a_delay_that_the_route_does_not_have_is_refused() {
    let upstream = Upstream::says("hi");
    let said = with(&upstream, "delay: { time: 30s }").refused();
    assert!(said.contains("a delay of 30s is not within the timeout of the route"), "{said}");
    assert!(said.contains("shorten it below 30s"), "{said}");
}
