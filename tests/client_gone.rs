//! A client that leaves takes its upstream call with it; `half_close: answer` keeps it for those who only stop sending.

use crate::support::client::{get, post};
use crate::support::message::ok;
use crate::support::misbehave::{drips, never_answers};
use crate::support::names::end;
use crate::support::{Client, Gate, Setup, Upstream, eventually};
use std::time::{Duration, Instant};

/// The sweep looks at exchanges that have waited 50 ms; the rest is allowance for two busy cores.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_client_that_closes_while_it_waits_ends_the_upstream_call() {
    let upstream = Upstream::start(never_answers);
    let gateway = Setup::forward(&upstream).start();
    for (n, reset) in [false, true].into_iter().enumerate() {
        let mut client = Client::connect(&gateway);
        client.send(post(&format!("/gone{n}"), "hello"));
        upstream.wait_requests(n + 1);
        let left = Instant::now();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        upstream.wait_ended(n);
        assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
        let line = gateway.log_of(&format!("/gone{n}"));
        assert_eq!(line["end"], end::CLIENT_GONE, "{line}");
    }
}

#[test]
fn a_client_that_closes_behind_pipelined_bytes_is_seen_to_leave() {
    let upstream = Upstream::start(never_answers);
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/first") + &get("/second"));
    upstream.wait_requests(1);
    drop(client);
    upstream.wait_ended(0);
    assert_eq!(upstream.requests().len(), 1, "nobody waits for the second one");
}

#[test]
fn a_client_that_leaves_during_the_answer_ends_the_upstreams_work() {
    let upstream = Upstream::start(|conn| {
        conn.request();
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while conn.write("5\r\nhello\r\n") {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/stream"));
    client.head().unwrap();
    drop(client);
    upstream.wait_over(0);
    assert_eq!(gateway.log_of("/stream")["end"], end::CLIENT_GONE);
}

#[test]
fn a_client_that_leaves_during_a_silent_answer_is_noticed_too() {
    let upstream = Upstream::start(|conn| {
        conn.request();
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        conn.until_ended();
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/events"));
    client.head().unwrap();
    let left = Instant::now();
    drop(client);
    upstream.wait_ended(0);
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
}

#[test]
fn a_client_that_leaves_during_its_upload_never_finishes_the_request_upstream() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let upstream = Upstream::echo();
        let gateway = Setup::forward(&upstream).start();
        let mut client = Client::connect(&gateway);
        client.send(format!("POST /half HTTP/1.1\r\nHost: gw.test\r\n{framing}\r\n\r\n64\r\nhello"));
        upstream.wait_heads(1);
        drop(client);
        upstream.wait_ended(0);
        assert!(upstream.reparse().concat().is_empty());
        let line = gateway.log_of("/half");
        assert_eq!(line["end"], end::CLIENT_GONE, "{line}");
    }
}

#[test]
fn a_half_close_counts_as_gone() {
    let upstream = Upstream::start(never_answers);
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/half"));
    upstream.wait_requests(1);
    client.half_close();
    upstream.wait_ended(0);
    assert!(client.rest().0.is_empty());
}

#[test]
fn a_half_close_is_answered_where_the_listener_says_so() {
    let (gate, asked) = (Gate::default(), Gate::default());
    let (open, seen) = (gate.clone(), asked.clone());
    let upstream = Upstream::start(move |conn| {
        while conn.request().is_some() {
            seen.open();
            open.wait();
            conn.write(ok("late"));
        }
    });
    let gateway = Setup::forward(&upstream).listener("half_close: answer").start();
    let mut client = Client::connect(&gateway);
    client.send(get("/half"));
    client.half_close();
    asked.wait();
    // Well past the 50 ms after which the sweep would have looked.
    std::thread::sleep(Duration::from_millis(400));
    gate.open();
    assert_eq!(client.response().text(), "late");
    client.is_closed();
}

#[test]
fn a_client_that_waits_is_not_taken_for_one_that_left() {
    let upstream = Upstream::start(drips(ok("patience"), Duration::from_millis(15)));
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/a") + &get("/b"));
    assert_eq!(client.response().text(), "patience");
    assert_eq!(client.response().text(), "patience");
}

#[test]
fn hundreds_of_clients_that_leave_at_once_leave_no_socket_behind() {
    let upstream = Upstream::start(never_answers);
    let gateway = Setup::forward(&upstream).start();
    let before = gateway.sockets();
    let mut clients: Vec<Client> = (0..300).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        client.send(get("/x"));
    }
    upstream.wait_requests(300);
    drop(clients);
    eventually("all sockets are closed", || (gateway.sockets() <= before).then_some(()));
}
