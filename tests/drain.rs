//! SIGTERM: nobody is reset, what runs is finished, the rest is told to go; a second signal ends it at once.

use crate::support::client::get;
use crate::support::gateway::{BINARY, Process};
use crate::support::misbehave::{answers_in_pieces, never_answers};
use crate::support::names::end;
use crate::support::wire::Fault;
use crate::support::{Client, Gate, Link, Setup, Upstream, eventually, free_port, gateway, temp_dir};
use rustix::process::Signal;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

fn held() -> (Upstream, Gate) {
    let gate = Gate::default();
    let upstream = Upstream::waits(&gate, "finished");
    (upstream, gate)
}

#[test]
fn a_running_request_is_finished_and_the_exit_code_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (upstream, gate) = held();
        let mut gateway = Setup::forward(&upstream).start();
        let mut client = Client::connect(&gateway);
        client.send(get("/running"));
        upstream.wait_requests(1);
        let mut idle = Client::connect(&gateway);
        gateway.process.signal(signal);
        eventually("not ready any more", || {
            gateway::get(gateway.admin, "/readyz").is_none_or(|r| r.status == 503).then_some(())
        });
        // An idle connection is closed when the worker has heard of it too.
        idle.is_closed();
        gate.open();
        let answer = client.response();
        assert_eq!(answer.text(), "finished");
        assert!(answer.fields.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")), "{answer:?}");
        client.is_closed();
        assert_eq!(gateway.wait_exit().code(), Some(0));
        assert_eq!(gateway.log_of("/running")["end"], end::OK, "the log was written out before the end");
    }
}

#[test]
fn a_long_answer_is_finished() {
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
    pieces.extend((0..20).map(|_| b"5\r\nhello\r\n".to_vec()));
    pieces.push(b"0\r\n\r\n".to_vec());
    let upstream = Upstream::start(answers_in_pieces(pieces, Duration::from_millis(30)));
    let mut gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/long"));
    let mut head = client.head().unwrap();
    gateway.term();
    head.read_body(&mut client.wire).unwrap();
    assert_eq!(head.body.len(), 100);
    client.is_closed();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn idle_connections_are_closed_without_a_reset() {
    let upstream = Upstream::says("ok");
    let mut gateway = Setup::forward(&upstream).workers("2").start();
    let mut used: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    for client in &mut used {
        assert_eq!(client.get("/x").status, 200);
    }
    let mut fresh: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    let start = Instant::now();
    gateway.term();
    for client in used.iter_mut().chain(&mut fresh) {
        client.is_closed();
    }
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "nothing was running: {:?}", start.elapsed());
}

#[test]
fn connections_in_the_accept_queue_are_served_not_reset() {
    for workers in ["1", "2"] {
        let upstream = Upstream::says("ok");
        let mut gateway = Setup::forward(&upstream).workers(workers).start();
        // While the process stands still the kernel completes the handshakes: these wait in the queues.
        gateway.process.signal(Signal::STOP);
        let mut clients: Vec<Client> = (0..40).map(|_| Client::arrive(&gateway)).collect();
        for client in &mut clients {
            client.send(get("/queued"));
        }
        gateway.term();
        gateway.process.signal(Signal::CONT);
        let answers: Vec<Result<u16, Fault>> = clients.iter_mut().map(|c| c.try_response().map(|r| r.status)).collect();
        let served = answers.iter().filter(|a| **a == Ok(200)).count();
        assert_eq!(served, 40, "{workers} workers: {answers:?}");
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
}

#[test]
fn under_load_every_request_that_was_taken_is_answered() {
    let upstream = Upstream::says("ok");
    let mut gateway = Setup::forward(&upstream).workers("2").start();
    let addr = gateway.addr;
    let term = Gate::default();
    let broken: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|_| {
                let term = term.clone();
                scope.spawn(move || {
                    let (mut broken, mut served) = (Vec::new(), 0);
                    for _ in 0..100_000 {
                        // A refused connection is fine: nothing was taken. Anything after that must be answered.
                        let Ok(link) = Link::dial(addr) else { break };
                        let mut client = Client { wire: crate::support::wire::Wire::new(link) };
                        match client.try_send(get("/x")) {
                            Ok(()) => match client.try_response() {
                                Ok(answer) if answer.status == 200 => served += 1,
                                other => broken.push(format!("{other:?}")),
                            },
                            Err(e) => broken.push(format!("send: {e}")),
                        }
                        if served == 50 {
                            term.open();
                        }
                    }
                    broken
                })
            })
            .collect();
        term.wait();
        gateway.term();
        clients.into_iter().flat_map(|c| c.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "{} broken: {:?}", broken.len(), &broken[..broken.len().min(5)]);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn the_drain_deadline_ends_what_is_not_finished() {
    let upstream = Upstream::start(never_answers);
    let mut gateway = Setup::forward(&upstream).top("drain: 600ms").start();
    let mut client = Client::connect(&gateway);
    client.send(get("/endless"));
    upstream.wait_requests(1);
    let start = Instant::now();
    gateway.term();
    let (rest, _) = client.rest();
    gateway.wait_exit();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(580) && took < Duration::from_secs(5), "{took:?}");
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 50"), "{}", crate::support::wire::show(&rest));
    assert_eq!(gateway.log_of("/endless")["end"], end::DRAIN);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::start(never_answers);
    let mut gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(get("/endless"));
    upstream.wait_requests(1);
    gateway.term();
    eventually("the drain has begun", || {
        gateway::get(gateway.admin, "/readyz").is_none_or(|r| r.status == 503).then_some(())
    });
    assert!(gateway.process.exited().is_none());
    let start = Instant::now();
    gateway.term();
    gateway.wait_exit();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_request_that_was_sent_in_part_when_the_drain_began_is_finished() {
    let upstream = Upstream::echo();
    let mut gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send("POST /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 5\r\n\r\nhe");
    upstream.wait_heads(1);
    gateway.term();
    eventually("the drain has begun", || {
        gateway::get(gateway.admin, "/readyz").is_none_or(|r| r.status == 503).then_some(())
    });
    client.send("llo");
    assert_eq!(client.response().text(), "hello");
    client.is_closed();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_standard_error_that_nobody_reads_stops_neither_the_start_nor_the_end() {
    let (_unread, mut pipe) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&pipe, true).unwrap();
    let full = loop {
        if let Err(e) = pipe.write(&[b'x'; 4096]) {
            break e;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let upstream = Upstream::says("ok");
    let (dir, port, admin) = (temp_dir("full"), free_port(), free_port());
    let config = dir.join("gateway.yaml");
    std::fs::write(&config, Setup::forward(&upstream).top("drain: 1s").yaml(port, admin, &dir.join("log"))).unwrap();
    // Opened anew, so that it blocks, unlike the end that filled it.
    let full = format!("exec \"$@\" 2>/proc/{}/fd/{}", std::process::id(), pipe.as_raw_fd());
    let mut process = Process::spawn(Command::new("sh").args(["-c", &full, "sh", BINARY, "run", "-c"]).arg(&config));
    eventually("the gateway is ready", || {
        gateway::get(([127, 0, 0, 1], admin).into(), "/readyz").filter(|r| r.status == 200)
    });
    let mut client =
        Client { wire: crate::support::wire::Wire::new(Link::dial(([127, 0, 0, 1], port).into()).unwrap()) };
    assert_eq!(client.get("/x").status, 200);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(Duration::from_secs(1 + 3)).code(), Some(0));
}
