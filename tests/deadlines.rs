//! HTTP.md, "Deadlines": each one set small, what the client sees when it passes, and the reason in the access log.

use crate::support::client::{get, post};
use crate::support::message::ok;
use crate::support::misbehave::*;
use crate::support::names::end;
use crate::support::{Client, Gate, Gateway, Setup, Upstream, eventually};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No earlier than configured, less the tick of a core that was quiet before (20 ms), and not much later: eight
/// scenarios share two cores.
fn took(start: Instant, ms: u64) {
    let took = start.elapsed();
    assert!(took > Duration::from_millis(ms - 40), "only {took:?} of {ms} ms");
    assert!(took < Duration::from_millis(ms) + Duration::from_secs(4), "{took:?} instead of {ms} ms");
}

fn ended(gateway: &Gateway, path: &str, reason: &str) {
    let line = gateway.log_of(path);
    assert_eq!(line["end"], reason, "{line}");
}

#[test]
fn request_header_covers_the_whole_head_however_slowly_it_drips() {
    let upstream = Upstream::says("never");
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_header: 400ms }").start();
    let mut client = Client::connect(&gateway);
    let start = Instant::now();
    client.send("GET /drip HTTP/1.1\r\nHost: gw.test\r\nX: ");
    while start.elapsed() < Duration::from_secs(4) && client.try_send("y").is_ok() {
        std::thread::sleep(Duration::from_millis(30));
    }
    let gave_up = start.elapsed();
    client.response().is_gateways_own(408);
    client.is_gone();
    assert!(gave_up > Duration::from_millis(360) && gave_up < Duration::from_secs(4), "{gave_up:?}");
    let mut client = Client::connect(&gateway);
    let start = Instant::now();
    client.send("GET /half HTTP/1.1\r\nHo");
    client.response().is_gateways_own(408);
    took(start, 400);
    client.is_closed();
    upstream.heard_nothing();
    let line = gateway.wait_log(|line| line["status"] == 408);
    assert_eq!(line["end"], end::REQUEST_HEADER, "{line}");
}

#[test]
fn request_header_applies_to_later_requests_of_a_connection_too() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_header: 400ms }").start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/first").status, 200);
    // Longer than request_header, shorter than keep_alive: waiting between requests is not dripping.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(client.get("/second").status, 200);
    let start = Instant::now();
    client.send("GET /third HTT");
    client.response().is_gateways_own(408);
    took(start, 400);
    client.is_closed();
}

#[test]
fn a_connection_that_never_says_anything_is_closed() {
    let upstream = Upstream::says("never");
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_header: 400ms, keep_alive: 400ms }").start();
    let mut client = Client::connect(&gateway);
    let start = Instant::now();
    client.is_closed();
    took(start, 400);
}

#[test]
fn request_body_is_an_idle_deadline() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_body: 400ms }").start();
    let mut client = Client::connect(&gateway);
    client.send("POST /steady HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 10\r\n\r\n");
    client.send_in_pieces(b"0123456789", 1, Duration::from_millis(80));
    assert_eq!(client.response().text(), "0123456789", "800 ms in all, but never 400 without a byte");
    for framing in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"] {
        let mut client = Client::connect(&gateway);
        let start = Instant::now();
        client.send(format!("POST /stalled HTTP/1.1\r\nHost: gw.test\r\n{framing}"));
        client.response().is_gateways_own(408);
        took(start, 400);
        client.is_closed();
    }
    ended(&gateway, "/stalled", end::REQUEST_BODY);
    assert_eq!(upstream.reparse().concat().len(), 1, "the stalled ones were broken off, not finished");
}

#[test]
fn keep_alive_closes_an_idle_connection_without_a_word() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).listener("timeouts: { keep_alive: 400ms }").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..3 {
        assert_eq!(client.get("/x").status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    let start = Instant::now();
    assert_eq!(client.get("/x").status, 200);
    client.is_closed();
    took(start, 400);
    let lines = eventually("a line each", || Some(gateway.log_lines()).filter(|lines| lines.len() >= 4));
    assert!(lines.iter().all(|line| line["status"] == 200), "nobody is to blame: {lines:?}");
}

#[test]
fn write_ends_a_client_that_does_not_read() {
    let upstream = Upstream::start(answers(ok(vec![b'x'; 64 << 20])));
    let gateway = Setup::forward(&upstream).listener("timeouts: { write: 400ms }").start();
    let mut client = Client::connect(&gateway);
    client.send(get("/stuck"));
    upstream.wait_over(0);
    ended(&gateway, "/stuck", end::WRITE);
    let (got, _) = client.rest();
    assert!(got.len() < 64 << 20);
}

#[test]
fn body_spares_an_upstream_that_reads_slowly() {
    const PIECES: usize = 40;
    const PIECE: usize = 20 << 10;
    const ALL: usize = 12 << 20;
    let upstream = Upstream::start(|conn| {
        conn.head();
        conn.keep_no_bytes();
        for _ in 0..PIECES {
            conn.wire.exact(PIECE as u64, &mut |_| {}).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        conn.wire.exact((ALL - PIECES * PIECE) as u64, &mut |_| {}).unwrap();
        conn.write(ok("taken"));
    });
    let gateway = Setup::new().upstream("u", &[&upstream], "timeouts: { body: 1s }").forward_all("").start();
    let mut client = Client::connect(&gateway);
    client.send(post("/slow", vec![b'x'; ALL]));
    assert_eq!(client.response().text(), "taken");
    let line = gateway.log_of("/slow");
    assert_eq!(line["end"], end::OK);
    assert!(line["bytes_in"].as_u64().unwrap() > ALL as u64, "{line}");
}

#[test]
fn body_ends_an_upstream_that_takes_nothing_and_what_came_is_counted() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        conn.head();
        open.wait();
    });
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "timeouts: { body: 500ms, first_byte: 500ms }")
        .forward_all("")
        .start();
    let mut client = Client::connect(&gateway);
    client.send(format!("POST /stuck HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {}\r\n\r\n", 64 << 20));
    while client.try_send(vec![b'x'; 64 << 10]).is_ok() {}
    let line = gateway.log_of("/stuck");
    gate.open();
    assert_eq!(line["status"], 504);
    assert!(line["bytes_in"].as_u64().unwrap() > 64 << 10, "{line}");
}

#[test]
fn write_spares_a_client_that_reads_slowly() {
    let upstream = Upstream::start(answers(ok(vec![b'x'; 8 << 20])));
    let gateway = Setup::forward(&upstream).listener("timeouts: { write: 500ms }").start();
    let mut client = Client::connect(&gateway);
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.wire.stream.0.tcp, 256 << 10).unwrap();
    client.send(get("/slow"));
    let mut answer = client.head().unwrap();
    for _ in 0..12 {
        client.wire.exact(512 << 10, &mut |_| {}).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    answer.framing = crate::support::message::Framing::Length(2 << 20);
    answer.read_body(&mut client.wire).unwrap();
    ended(&gateway, "/slow", end::OK);
}

#[test]
fn max_requests_closes_after_that_many() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).listener("max_requests: 3").start();
    let mut client = Client::connect(&gateway);
    for n in 1..=3 {
        let answer = client.get("/x");
        let closes = answer.fields.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        assert_eq!((answer.status, closes), (200, n == 3), "request {n}");
    }
    client.is_closed();
}

#[test]
fn max_age_closes_after_the_request_that_passes_it() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).listener("max_age: 1s").start();
    let start = Instant::now();
    let mut client = Client::connect(&gateway);
    loop {
        assert!(start.elapsed() < Duration::from_secs(5));
        client.send(get("/x"));
        match client.try_response() {
            Ok(answer) if answer.fields.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")) => break,
            Ok(answer) => assert_eq!(answer.status, 200),
            Err(e) => panic!("{e:?} after {:?}: closed without saying so", start.elapsed()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    took(start, 1000);
    client.is_closed();
}

/// A listener whose queue is full: the kernel drops further SYNs, so a connect neither succeeds nor fails.
pub struct Deaf {
    pub addr: SocketAddr,
    _socket: rustix::fd::OwnedFd,
    _queued: Vec<TcpStream>,
}

pub fn deaf() -> Deaf {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&socket, 0).unwrap();
    let addr = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 64, "the queue never fills");
    }
    Deaf { addr, _socket: socket, _queued: queued }
}

#[test]
fn connect_is_504_when_the_upstream_does_not_even_accept() {
    let deaf = deaf();
    let gateway = Setup::new()
        .upstream_at("u", &format!("[\"{}\"]", deaf.addr), "timeouts: { connect: 400ms }")
        .forward_all("")
        .start();
    let start = Instant::now();
    gateway.get("/x").is_gateways_own(504);
    took(start, 400);
    ended(&gateway, "/x", end::CONNECT);
}

#[test]
fn first_byte_is_504() {
    let upstream = Upstream::start(never_answers);
    let gateway = Setup::new().upstream("u", &[&upstream], "timeouts: { first_byte: 400ms }").forward_all("").start();
    let start = Instant::now();
    gateway.ask(post("/x", "hello")).is_gateways_own(504);
    took(start, 400);
    ended(&gateway, "/x", end::FIRST_BYTE);
    upstream.wait_ended(0);
    assert_eq!(upstream.requests().len(), 1, "a deadline is no reason to ask twice");
}

#[test]
fn an_upstream_body_that_stalls_is_cut() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let upstream = Upstream::start(stalls_after(start));
        let gateway = Setup::new().upstream("u", &[&upstream], "timeouts: { body: 400ms }").forward_all("").start();
        let begun = Instant::now();
        let mut client = Client::connect(&gateway);
        client.send(get("/x"));
        let mut head = client.head().unwrap();
        assert!(head.read_body(&mut client.wire).is_err(), "a clean end");
        client.is_cut_off();
        took(begun, 400);
        assert_eq!(head.text(), "hello", "what had come was passed on");
        upstream.wait_ended(0);
        ended(&gateway, "/x", end::UPSTREAM_BODY);
    }
}

#[test]
fn the_routes_timeout_covers_everything_up_to_the_answers_head() {
    let upstream =
        Upstream::start(drips("HTTP/1.1 200 OK\r\nX-Long: ".to_string() + &"y".repeat(500), Duration::from_millis(20)));
    let gateway = Setup::new().upstream("u", &[&upstream], "").forward_all("timeout: 500ms").start();
    let start = Instant::now();
    gateway.get("/x").is_gateways_own(504);
    took(start, 500);
    ended(&gateway, "/x", end::TOTAL);
}

#[test]
fn after_the_head_only_idle_deadlines_hold() {
    let body: Vec<Vec<u8>> = (0..15).map(|n| format!("1\r\n{}\r\n", n % 10).into_bytes()).collect();
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
    pieces.extend(body);
    pieces.push(b"0\r\n\r\n".to_vec());
    let upstream = Upstream::start(answers_in_pieces(pieces, Duration::from_millis(80)));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "timeouts: { first_byte: 400ms, body: 600ms }")
        .forward_all("timeout: 400ms")
        .start();
    let start = Instant::now();
    assert_eq!(gateway.get("/x").text(), "012345678901234");
    assert!(start.elapsed() > Duration::from_millis(1000));
    ended(&gateway, "/x", end::OK);
}

#[test]
fn a_pooled_connection_is_closed_after_its_idle_timeout() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::new().upstream("u", &[&upstream], "pool: { idle_timeout: 500ms }").forward_all("").start();
    let start = Instant::now();
    gateway.get("/x");
    upstream.wait_ended(0);
    took(start, 500);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn deadlines_of_many_connections_pass_independently() {
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            if request.target == "/never" {
                return conn.until_ended();
            }
            conn.write(ok("fine"));
        }
    });
    let gateway = Setup::new().upstream("u", &[&upstream], "timeouts: { first_byte: 600ms }").forward_all("").start();
    let mut stuck: Vec<Client> = (0..50).map(|_| Client::connect(&gateway)).collect();
    let start = Instant::now();
    for client in &mut stuck {
        client.send(get("/never"));
    }
    let mut busy = Client::connect(&gateway);
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(busy.get("/fine").status, 200);
    }
    for client in &mut stuck {
        client.response().is_gateways_own(504);
    }
    took(start, 600);
    assert_eq!(busy.get("/fine").status, 200);
}
