//! Which endpoint and which connection a request takes, and when it may be sent a second time.

use crate::support::client::{get, post};
use crate::support::message::ok;
use crate::support::misbehave::*;
use crate::support::names;
use crate::support::upstream::Ending;
use crate::support::{Client, Gate, Gateway, Setup, Upstream};
use std::net::TcpListener;

fn shares(gateway: &Gateway, upstreams: &[&Upstream], n: usize) -> Vec<usize> {
    let mut client = Client::connect(gateway);
    for _ in 0..n {
        assert_eq!(client.get("/x").status, 200);
    }
    upstreams.iter().map(|u| u.requests().len()).collect()
}

#[test]
fn round_robin_takes_turns_by_weight() {
    let (a, b, c) = (Upstream::says("a"), Upstream::says("b"), Upstream::says("c"));
    let endpoints =
        format!("[\"{}\", {{ address: \"{}\", weight: 2 }}, {{ address: \"{}\", weight: 5 }}]", a.addr, b.addr, c.addr);
    let gateway = Setup::new().upstream_at("u", &endpoints, "balance: round_robin").forward_all("").start();
    assert_eq!(shares(&gateway, &[&a, &b, &c], 80), [10, 20, 50]);
}

#[test]
fn weighted_round_robin_is_smooth() {
    let (a, b) = (Upstream::says("a"), Upstream::says("b"));
    let endpoints = format!("[\"{}\", {{ address: \"{}\", weight: 3 }}]", a.addr, b.addr);
    let gateway = Setup::new().upstream_at("u", &endpoints, "balance: round_robin").forward_all("").start();
    let mut client = Client::connect(&gateway);
    let order: String = (0..40).map(|_| client.get("/x").text()).collect();
    assert!(!order.contains("aa") && !order.contains("bbbb"), "{order}");
}

#[test]
fn p2c_spreads_and_respects_weights() {
    let (a, b, c) = (Upstream::says("a"), Upstream::says("b"), Upstream::says("c"));
    let gateway = Setup::new().upstream("u", &[&a, &b, &c], "balance: p2c").forward_all("").start();
    let even = shares(&gateway, &[&a, &b, &c], 300);
    assert!(even.iter().all(|n| (50..=180).contains(n)), "{even:?}");
    let (a, b) = (Upstream::says("a"), Upstream::says("b"));
    let endpoints = format!("[\"{}\", {{ address: \"{}\", weight: 4 }}]", a.addr, b.addr);
    let gateway = Setup::new().upstream_at("u", &endpoints, "").forward_all("").start();
    let uneven = shares(&gateway, &[&a, &b], 300);
    assert!(uneven[1] > uneven[0], "{uneven:?}");
}

#[test]
fn p2c_avoids_an_endpoint_that_is_busy() {
    let gate = Gate::default();
    let slow = Upstream::waits(&gate, "slow");
    let fast = Upstream::says("fast");
    let gateway = Setup::new().upstream("u", &[&slow, &fast], "").forward_all("").start();
    let mut stuck: Vec<Client> = Vec::new();
    while slow.requests().is_empty() {
        let mut client = Client::connect(&gateway);
        client.send(get("/x"));
        // Either it is answered at once or it is the one that got stuck.
        stuck.push(client);
        if fast.requests().len() + slow.requests().len() < stuck.len() {
            crate::support::eventually("the request to arrive", || {
                (fast.requests().len() + slow.requests().len() >= stuck.len()).then_some(())
            });
        }
    }
    let mut client = Client::connect(&gateway);
    for _ in 0..50 {
        assert_eq!(client.get("/x").text(), "fast");
    }
    gate.open();
}

#[test]
fn connections_are_kept_and_used_again() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).start();
    for _ in 0..5 {
        let mut client = Client::connect(&gateway);
        for _ in 0..10 {
            assert_eq!(client.get("/x").status, 200);
        }
    }
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 50));
}

#[test]
fn as_many_connections_as_requests_at_once_and_no_more() {
    let gate = Gate::default();
    let upstream = Upstream::waits(&gate, "ok");
    let gateway = Setup::forward(&upstream).start();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        client.send(get("/x"));
    }
    upstream.wait_requests(8);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    for client in &mut clients {
        assert_eq!(client.get("/x").status, 200);
    }
    assert_eq!(upstream.connections(), 8);
}

#[test]
fn no_more_idle_connections_are_kept_than_the_pool_may() {
    let gate = Gate::default();
    let upstream = Upstream::waits(&gate, "ok");
    let gateway = Setup::new().upstream("u", &[&upstream], "pool: { idle: 2 }").forward_all("").start();
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        client.send(get("/x"));
    }
    upstream.wait_requests(6);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    crate::support::eventually("all but two are closed", || {
        ((0..6).filter(|&n| upstream.ending(n).is_some()).count() == 4).then_some(())
    });
    let endings: Vec<_> = (0..6).map(|n| upstream.ending(n)).collect();
    assert!(
        endings.iter().flatten().all(|end| *end == Ending::Fin),
        "an idle connection is closed politely: {endings:?}"
    );
}

#[test]
fn a_pooled_connection_carries_no_more_requests_than_it_may() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::new().upstream("u", &[&upstream], "pool: { max_requests: 2 }").forward_all("").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..6 {
        assert_eq!(client.get("/x").status, 200);
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn an_idle_connection_with_bytes_on_it_is_never_used() {
    for garbage in [ok("poison"), b"x".to_vec(), b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n".to_vec()]
    {
        let (gate, poisoned) = (Gate::default(), Gate::default());
        let script = poisons_the_first(ok("first"), garbage, ok("clean"), gate.clone(), poisoned.clone());
        let upstream = Upstream::start(script);
        let gateway = Setup::forward(&upstream).start();
        let mut client = Client::connect(&gateway);
        assert_eq!(client.get("/a").text(), "first");
        gate.open();
        poisoned.wait();
        assert_eq!(client.ask(post("/b", "hello")).text(), "clean");
        assert_eq!(upstream.connections(), 2);
        assert_eq!(upstream.reparse()[0].len(), 1, "nothing more was sent on the poisoned one");
    }
}

#[test]
fn an_idle_connection_that_its_upstream_closed_is_never_used() {
    for reset in [false, true] {
        let gate = Gate::default();
        let open = gate.clone();
        let upstream = Upstream::start(move |conn| {
            if conn.index == 0 {
                conn.request();
                conn.write(ok("first"));
                open.wait();
                if reset {
                    conn.reset_on_close();
                }
                return;
            }
            answers(ok("fresh"))(conn);
        });
        let gateway = Setup::forward(&upstream).start();
        let mut client = Client::connect(&gateway);
        assert_eq!(client.get("/a").text(), "first");
        gate.open();
        upstream.wait_over(0);
        // A POST: if it were sent on the dead connection, it could not be sent again.
        assert_eq!(client.ask(post("/b", "hello")).text(), "fresh");
        assert_eq!(upstream.requests().len(), 2);
    }
}

#[test]
fn an_idempotent_request_on_a_reused_connection_that_broke_is_sent_once_more() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let later: Vec<u8> = match method {
            "HEAD" => b"HTTP/1.1 200 OK\r\nX-Try: second\r\nContent-Length: 6\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nX-Try: second\r\nContent-Length: 6\r\n\r\nsecond".to_vec(),
        };
        let upstream = Upstream::start(breaks_after(1, ok("first"), later));
        let gateway = Setup::forward(&upstream).start();
        let mut client = Client::connect(&gateway);
        assert_eq!(client.get("/a").text(), "first");
        client.send(format!("{method} /b HTTP/1.1\r\nHost: gw.test\r\n\r\n"));
        let answer = if method == "HEAD" { client.response_to_head() } else { client.response() };
        assert_eq!((answer.status, answer.fields.get("x-try")), (200, Some("second")), "{method}");
        let whole = upstream.reparse();
        assert_eq!((whole[0].len(), whole[1].len()), (2, 1), "{method}");
        assert_eq!(whole[0][1].target, whole[1][0].target);
        assert_eq!(gateway.metrics().sum(names::RETRIES, &[]), 1.0);
    }
}

#[test]
fn a_post_is_never_sent_twice() {
    let upstream = Upstream::start(breaks_after(1, ok("first"), ok("second")));
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/a").text(), "first");
    client.send(post("/b", "hello"));
    client.response().is_gateways_own(502);
    assert_eq!(upstream.requests().iter().filter(|r| r.method == "POST").count(), 1);
    assert_eq!(gateway.log_of("/b")["end"], names::end::RESET);
}

#[test]
fn a_fresh_connection_that_breaks_is_no_reason_to_ask_again() {
    let upstream = Upstream::start(closes_before_the_answer);
    let gateway = Setup::forward(&upstream).start();
    gateway.get("/x").is_gateways_own(502);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn after_the_first_byte_of_an_answer_nothing_is_sent_again() {
    let upstream = Upstream::start(|conn| {
        if conn.index > 0 {
            return answers(ok("second"))(conn);
        }
        conn.request();
        conn.write(ok("first"));
        conn.request();
        conn.write("H");
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/a").text(), "first");
    client.send(get("/b"));
    client.response().is_gateways_own(502);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_retry_happens_once() {
    let upstream = Upstream::start(|conn| {
        conn.request();
        if conn.index == 0 {
            conn.write(ok("first"));
            conn.request();
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/a").text(), "first");
    client.send(get("/b"));
    client.response().is_gateways_own(502);
    assert_eq!(upstream.requests().iter().filter(|r| r.target == "/b").count(), 2);
}

#[test]
fn an_endpoint_that_refuses_connections_is_the_upstreams_fault() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Setup::new().upstream_at("u", &format!("[\"{closed}\"]"), "").forward_all("").start();
    let answer = gateway.get("/x");
    assert!([502, 503].contains(&answer.status), "{answer:?}");
    answer.is_gateways_own(answer.status);
    let line = gateway.log_of("/x");
    assert_eq!(line["end"], "upstream_connect", "{line}");
}

#[test]
fn an_endpoint_may_be_a_host_name() {
    let upstream = Upstream::says("found");
    // `localhost` may mean ::1 as well: whoever listens there answers the same.
    let port = upstream.addr.port();
    let _v6 = TcpListener::bind(("::1", port)).ok().map(|l| Upstream::listen(l, answers(ok("found"))));
    let gateway = Setup::new().upstream_at("u", &format!("[\"localhost:{port}\"]"), "").forward_all("").start();
    for _ in 0..4 {
        assert_eq!(gateway.get("/x").text(), "found");
    }
    let host = upstream.requests().first().map(|r| r.fields.get("host").unwrap().to_string());
    assert!(host.is_none_or(|h| h == format!("localhost:{port}")));
}

#[test]
fn a_name_that_does_not_resolve_is_503_and_the_rest_works() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::new()
        .upstream_at("lost", "[\"does-not-exist.invalid:80\"]", "")
        .upstream("u", &[&upstream], "")
        .route("match: { path: /lost }, forward: { upstream: lost }")
        .forward_all("")
        .start();
    assert_eq!(gateway.get("/x").text(), "fine");
    gateway.get("/lost").is_gateways_own(503);
    assert_eq!(gateway.metrics().sum("ringway_names_unresolved", &[]), 1.0);
    let ready = crate::support::gateway::get(gateway.admin, "/readyz").unwrap();
    assert_eq!(ready.status, 200, "the rest works");
    let unresolved = ready.json()["unresolved"].as_array().unwrap().clone();
    assert_eq!(unresolved.len(), 1, "{unresolved:?}");
    assert_eq!(unresolved[0]["name"], "does-not-exist.invalid");
    assert!(unresolved[0]["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{unresolved:?}");
}

#[test]
fn two_workers_share_the_connections_and_each_keeps_its_own_pool() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers("2").start();
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(&gateway)).collect();
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/x").status, 200);
        }
    }
    assert_eq!(upstream.connections(), 2, "one request at a time: one connection per worker");
    let metrics = gateway.metrics();
    for worker in ["0", "1"] {
        let open = metrics.sum("ringway_worker_connections", &[("worker", worker)]);
        assert!((5.0..=35.0).contains(&open), "worker {worker} has {open} of 40");
    }
}
