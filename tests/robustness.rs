//! What an unfriendly world does to the gateway: too many connections, too few descriptors, silence.

use crate::support::client::get;
use crate::support::message::ok;
use crate::support::misbehave::{answers, answers_and_closes};
use crate::support::names::REFUSED;
use crate::support::{
    Client, Gate, Link, PATIENCE, Setup, Upstream, eventually, eventually_within, free_port, gateway, temp_dir, tls,
};
use std::time::Duration;

/// The bound is 4 KiB; a build without optimisation has larger futures. Over TLS it is 12 KiB.
fn idle_bytes_max() -> u64 {
    if tls::is_on() { 12 * 1024 } else { 8 * 1024 }
}

#[test]
fn an_idle_connection_costs_little_memory() {
    let upstream = Upstream::start(answers(ok(vec![b'x'; 2000])));
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_header: 60s }").start();
    let use_and_keep = |n: usize| -> Vec<Client> {
        let mut clients: Vec<Client> = (0..n).map(|_| Client::connect(&gateway)).collect();
        for client in &mut clients {
            assert_eq!(client.get("/x").status, 200);
        }
        clients
    };
    let first = use_and_keep(500);
    let before = gateway.rss();
    let more = use_and_keep(4000);
    let each = gateway.rss().saturating_sub(before) / more.len() as u64;
    assert!(each < idle_bytes_max(), "{each} bytes per idle connection");
    drop((first, more));
    eventually("they are all closed", || {
        (gateway.metrics().sum(crate::support::names::CONNECTIONS, &[]) == 0.0).then_some(())
    });
}

#[test]
fn an_idle_gateway_uses_next_to_no_processor_time() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers("2").start();
    let clients: Vec<Client> = (0..50).map(|_| Client::connect(&gateway)).collect();
    gateway.get("/x");
    let before = gateway.cpu();
    std::thread::sleep(Duration::from_millis(1500));
    let spent = gateway.cpu() - before;
    assert!(spent < Duration::from_millis(300), "{spent:?} of 1.5 s, doing nothing");
    drop(clients);
}

#[test]
fn out_of_descriptors_it_neither_spins_nor_dies_and_recovers() {
    let upstream = Upstream::says("ok");
    let mut gateway = Setup::forward(&upstream).descriptors(64).start();
    let mut first = Client::connect(&gateway);
    assert_eq!(first.get("/x").status, 200);
    let many: Vec<Client> = (0..120).map(|_| Client::arrive(&gateway)).collect();
    std::thread::sleep(Duration::from_millis(200));
    let before = gateway.cpu();
    std::thread::sleep(Duration::from_millis(1000));
    let spent = gateway.cpu() - before;
    assert!(spent < Duration::from_millis(400), "{spent:?} of 1 s: it spins");
    assert_eq!(first.get("/x").status, 200, "who was there is served");
    drop(many);
    eventually("new connections are served again", || {
        let mut client = Client::connect(&gateway);
        client.try_send(get("/x")).ok()?;
        client.try_response().is_ok_and(|r| r.status == 200).then_some(())
    });
    gateway.is_well();
}

#[test]
fn a_thousand_slow_heads_do_not_keep_others_waiting() {
    let upstream = Upstream::says("ok");
    // Longer than a thousand handshakes on either side take a build without optimisation.
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "timeouts: { connect: 30s }")
        .forward_all("")
        .listener("timeouts: { request_header: 60s }")
        .start();
    let mut slow: Vec<Client> = (0..1000).map(|_| Client::connect(&gateway)).collect();
    for client in &mut slow {
        client.send("GET /slow HTTP/1.1\r\nHost: gw.te");
    }
    let mut quick = Client::connect(&gateway);
    let start = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(quick.get("/x").status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    for client in &mut slow {
        client.send("st\r\n\r\n");
    }
    for client in &mut slow {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn the_access_log_may_go_to_standard_output_or_nowhere() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).log("stdout").start();
    gateway.get("/here");
    let line = eventually("a line on standard output", || {
        let text = gateway.process.stdout.lock().unwrap();
        text.lines().find(|l| l.contains("/here")).map(String::from)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["status"], 200);
    let gateway = Setup::forward(&upstream).log("\"off\"").start();
    assert_eq!(gateway.get("/x").status, 200);
    assert!(gateway.process.stdout.lock().unwrap().is_empty());
}

#[test]
fn a_client_that_pipelines_without_end_costs_no_memory_and_keeps_nobody_waiting() {
    use std::io::{Read, Write};
    let gateway = Setup::new().route("match: { path: \"/x\" }, respond: { status: 200, body: hi }").start();
    // Never a whole number of requests per read: the buffer is never empty between two of them.
    let request = format!("GET /x HTTP/1.1\r\nHost: gw.test\r\nX-Pad: {}\r\n\r\n", "y".repeat(20_000)).repeat(100);
    let mut sender = Link::dial(gateway.addr).unwrap();
    let mut reader = sender.clone();
    let before = gateway.rss();
    let reading = std::thread::spawn(move || while reader.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {});
    let start = std::time::Instant::now();
    let sending = std::thread::spawn(move || {
        while start.elapsed() < Duration::from_secs(3) {
            sender.write_all(request.as_bytes()).unwrap();
        }
        sender.0.tcp.shutdown(std::net::Shutdown::Both).unwrap();
    });
    while start.elapsed() < Duration::from_millis(2500) {
        let asked = std::time::Instant::now();
        assert_eq!(gateway.get("/x").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    let grew = gateway.rss().saturating_sub(before);
    assert!(grew < 16 << 20, "{grew} bytes");
    sending.join().unwrap();
    reading.join().unwrap();
}

#[test]
fn out_of_descriptors_waiting_clients_are_closed_again_and_again_not_left_hanging() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).descriptors(64).start();
    let many: Vec<Client> = (0..120).map(|_| Client::arrive(&gateway)).collect();
    for client in &many {
        client.wire.stream.0.tcp.set_nonblocking(true).unwrap();
    }
    // Long before request_header closes those that were accepted.
    eventually_within(Duration::from_secs(4), "several are closed", || {
        let closed = |client: &&Client| matches!(client.wire.stream.0.tcp.peek(&mut [0]), Ok(0));
        (many.iter().filter(closed).count() >= 5).then_some(())
    });
}

/// Asserts that the gateway does not start with a config, and says all of `says`.
fn refused(yaml: &str, says: &[&str]) {
    let config = temp_dir("refused").join("gateway.yaml");
    std::fs::write(&config, yaml).unwrap();
    let mut process =
        gateway::Process::spawn(std::process::Command::new(gateway::BINARY).arg("run").arg("-c").arg(config));
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(1), "{}", process.output());
    for part in says {
        eventually(part, || process.stderr.lock().unwrap().contains(part).then_some(()));
    }
}

#[test]
fn a_second_gateway_on_the_same_port_is_refused_and_the_first_goes_on() {
    let upstream = Upstream::says("first");
    let gateway = Setup::forward(&upstream).workers("2").start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/x").status, 200);
    let setup = Setup::forward(&upstream);
    let remedy = "another process listens there: stop it, or choose another address";
    let listener = format!("listener public: {}: ", gateway.addr);
    refused(&setup.yaml(gateway.addr.port(), free_port(), "/dev/null".as_ref()), &[&listener, remedy]);
    let admin = format!("admin: {}: ", gateway.admin);
    refused(&setup.yaml(free_port(), gateway.admin.port(), "/dev/null".as_ref()), &[&admin, remedy]);
    assert_eq!(client.get("/x").status, 200);
    assert_eq!(gateway.get("/x").text(), "first");
}

#[test]
fn the_port_of_a_gateway_that_has_ended_can_be_had_at_once() {
    let upstream = Upstream::says("ok");
    let mut first = Setup::forward(&upstream).start();
    let mut client = Client::connect(&first);
    assert_eq!(client.get("/x").status, 200);
    first.term(); // it closes first, so the connection stays in TIME_WAIT on its side
    client.is_closed();
    assert_eq!(first.wait_exit().code(), Some(0));
    let config = temp_dir("again").join("gateway.yaml");
    let yaml = Setup::forward(&upstream).yaml(first.addr.port(), first.admin.port(), "/dev/null".as_ref());
    std::fs::write(&config, yaml).unwrap();
    let mut again =
        gateway::Process::spawn(std::process::Command::new(gateway::BINARY).arg("run").arg("-c").arg(config));
    eventually("the second one is ready", || {
        assert!(again.exited().is_none(), "{}", again.output());
        gateway::get(first.admin, "/readyz").filter(|r| r.status == 200)
    });
}

#[test]
fn an_answer_is_not_reset_away_when_more_requests_come_behind_the_last() {
    let gateway = Setup::new().route("match: { path: \"/x\" }, respond: { status: 200, body: hi }").start();
    for _ in 0..20 {
        let mut client = Client::connect(&gateway);
        // More than the gateway reads at once from a new connection: the rest waits unread when it closes.
        client
            .send("GET /x HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n".to_string() + &get("/x").repeat(200));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(client.response().status, 200);
        client.is_closed();
    }
}

#[test]
fn an_access_log_that_can_not_be_opened_is_said_plainly() {
    let upstream = Upstream::says("ok");
    let plainly = "cannot open the access log /nonexistent/access.log: No such file or directory (os error 2); the \
                   directory must exist and be writable for the gateway's user\n";
    let yaml = Setup::forward(&upstream).yaml(free_port(), free_port(), "/nonexistent/access.log".as_ref());
    refused(&yaml, &[plainly]);
}

#[test]
fn clients_over_the_cap_leave_descriptors_for_the_upstreams_of_those_within() {
    // Each request needs a new connection, and its descriptor.
    let upstream =
        Upstream::start(answers_and_closes("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"));
    let gateway = Setup::forward(&upstream).plain().descriptors(256).start();
    let mut within: Vec<Client> = (0..5).map(|_| Client::connect(&gateway)).collect();
    within.iter_mut().for_each(|client| assert_eq!(client.get("/x").status, 200));
    let over: Vec<Client> = (0..600).map(|_| Client::arrive(&gateway)).collect();
    eventually("the flood is refused", || (gateway.metrics().sum(REFUSED, &[]) > 400.0).then_some(()));
    for _ in 0..10 {
        within.iter_mut().for_each(|client| assert_eq!(client.get("/x").status, 200));
    }
    drop(over);
    drop(within);
    let counts = eventually("all of them are closed, as the counts say", || {
        let metrics = gateway.metrics();
        let of = |name: &str| metrics.sum(name, &[]);
        let accepted = of("ringway_connections_accepted_total");
        (accepted == of("ringway_connections_closed_total") && accepted >= 605.0).then_some(metrics)
    });
    let overloaded = counts.sum("ringway_connections_closed_total", &[("reason", "overloaded")]);
    assert_eq!(overloaded, counts.sum(REFUSED, &[]), "whether they were told or not");
}

#[test]
fn without_a_descriptor_for_the_upstream_it_is_the_gateway_that_is_overloaded() {
    let gate = Gate::default();
    let upstream = Upstream::waits(&gate, "ok");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route("match: { path: /here }, respond: { status: 200, body: here }")
        .forward_all("")
        .plain()
        .descriptors(256)
        .start();
    let mut clients: Vec<Client> = (0..140).map(|_| Client::connect(&gateway)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/here").text(), "here"));
    clients.iter_mut().for_each(|client| client.send(get("/x")));
    let line = gateway.wait_log(|line| line["end"] == "overloaded");
    assert_eq!(line["status"], 503, "{line}");
    gate.open();
    let answers: Vec<_> = clients.iter_mut().map(Client::response).collect();
    let lost = answers.iter().filter(|answer| answer.status != 200);
    assert!(lost.clone().count() > 0 && lost.clone().all(|answer| answer.json()["code"] == 50313));
    gateway.process.wait_said("the gateway's own limit");
    assert_eq!(gateway.metrics().sum("ringway_upstream_failures_total", &[]), 0.0, "the upstream is not to blame");
}
