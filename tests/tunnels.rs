//! Upgrades byte by byte: a tunnel only behind the upstream's 101, what passes it and how it ends, and what hostile clients
//! and upstreams make of it.

use crate::support::client::get;
use crate::support::gateway::Gateway;
use crate::support::message::Response;
use crate::support::misbehave::answers;
use crate::support::names::{CONNECTIONS, REQUESTS_ACTIVE, SENT, TUNNELS, TUNNELS_OPENED, end};
use crate::support::upstream::{Conn, Ending};
use crate::support::wire::show;
use crate::support::{Client, Gate, Seeded, Setup, Upstream, eventually};
use std::net::TcpListener;
use std::time::Duration;

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: gw.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// What is there, at least a byte; nothing once the gateway has ended its side.
pub fn piece(conn: &mut Conn) -> Option<Vec<u8>> {
    let mut got = Vec::new();
    conn.wire.exact(1, &mut |bytes| got.extend_from_slice(bytes)).ok()?;
    let more = conn.wire.waiting().len() as u64;
    conn.wire.exact(more, &mut |bytes| got.extend_from_slice(bytes)).ok()?;
    Some(got)
}

/// Switches, sends everything back, and once the gateway has ended its side says `bye`.
fn echoes(conn: &mut Conn) {
    if conn.request().is_none() || !conn.write(SWITCH) {
        return;
    }
    while let Some(bytes) = piece(conn) {
        if !conn.write(&bytes) {
            return;
        }
    }
    conn.write("bye");
}

fn switched(client: &mut Client) -> Response {
    client.send(ASK);
    let head = client.head().unwrap();
    assert_eq!(head.status, 101, "{head:?}");
    head
}

fn read(client: &mut Client, n: usize) -> Vec<u8> {
    let mut got = Vec::new();
    client.wire.exact(n as u64, &mut |bytes| got.extend_from_slice(bytes)).unwrap();
    got
}

pub fn says(client: &mut Client, bytes: &str) {
    assert_eq!(read(client, bytes.len()), bytes.as_bytes());
}

pub fn ends(gateway: &Gateway) {
    eventually("the tunnel to be closed on both sides", || {
        let metrics = gateway.metrics();
        let open = [TUNNELS, REQUESTS_ACTIVE, CONNECTIONS].map(|name| metrics.sum(name, &[]));
        (open == [0.0; 3]).then_some(())
    });
}

#[test]
fn behind_the_upstreams_101_bytes_pass_both_ways_until_both_sides_have_ended() {
    let upstream = Upstream::start(echoes);
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    let head = switched(&mut client);
    assert_eq!((head.fields.get("upgrade"), head.fields.get("connection")), (Some("websocket"), Some("Upgrade")));
    let asked = upstream.only_request();
    assert_eq!((asked.fields.get("upgrade"), asked.fields.get("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(asked.fields.get("via"), Some("1.1 ringway"));
    eventually("the tunnel to be counted", || {
        let metrics = gateway.metrics();
        ([TUNNELS, TUNNELS_OPENED, REQUESTS_ACTIVE].map(|name| metrics.sum(name, &[])) == [1.0; 3]).then_some(())
    });
    for text in ["\0\u{1}frame", "GET /no-request HTTP/1.1\r\nHost: gw.test\r\n\r\n"] {
        client.send(text);
        says(&mut client, text);
    }
    let mut large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    large.truncate(3_000_001);
    let sent = large.clone();
    let writer = client.wire.stream.clone();
    let sender = std::thread::spawn(move || Client { wire: crate::support::wire::Wire::new(writer) }.send(sent));
    assert!(read(&mut client, large.len()) == large, "as it was sent");
    sender.join().unwrap();
    // What was passed on is counted behind the write.
    eventually("its bytes are counted while it is open", || {
        (gateway.metrics().sum(SENT, &[]) > 3_000_000.0).then_some(())
    });
    client.half_close();
    says(&mut client, "bye");
    client.is_closed();
    let line = gateway.log_of("/ws");
    assert_eq!((&line["status"], &line["end"]), (&101.into(), &end::TUNNEL_CLIENT.into()), "{line}");
    assert!(line["bytes_in"].as_u64() > Some(3_000_000) && line["bytes_out"].as_u64() > Some(3_000_000), "{line}");
    assert_eq!(line["route"], "all");
    ends(&gateway);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn what_comes_behind_the_101_and_the_upstreams_end_are_passed_on() {
    let upstream = Upstream::start(|conn| {
        conn.request();
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        conn.write(format!(
            "{early}HTTP/1.1 101 As You Like\r\nUpgrade: WebSocket\r\nX-Mine: yes\r\nConnection: x-hop, upgrade\r\n\
             X-Hop: no\r\nContent-Length: 0\r\n\r\nfirst frame"
        ));
    });
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/ws", "response_headers: { set: { x-gateway: yes } }")
        .start();
    let mut client = Client::connect(&gateway);
    let head = switched(&mut client);
    assert_eq!((head.reason.as_str(), head.interim.len()), ("As You Like", 1), "{head:?}");
    assert_eq!(head.fields.get("upgrade"), Some("WebSocket"));
    assert_eq!((head.fields.get("x-mine"), head.fields.get("x-gateway")), (Some("yes"), Some("yes")));
    assert!(!head.fields.has("x-hop"), "{head:?}");
    says(&mut client, "first frame");
    client.is_closed();
    drop(client);
    assert_eq!(gateway.log_of("/ws")["end"], end::TUNNEL_UPSTREAM);
    ends(&gateway);
}

#[test]
fn bytes_before_the_101_wait_for_it() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        conn.request();
        open.wait();
        conn.write(SWITCH);
        conn.until_ended();
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send(format!("{ASK}early"));
    upstream.wait_requests(1);
    client.send(" later");
    assert!(upstream.bytes(0).ends_with(b"\r\n\r\n"), "nothing passes: {}", show(&upstream.bytes(0)));
    gate.open();
    assert_eq!(client.head().unwrap().status, 101);
    eventually("what was held back", || upstream.bytes(0).ends_with(b"\r\n\r\nearly later").then_some(()));
    client.half_close();
    client.is_closed();
}

#[test]
fn an_upgrade_that_the_upstream_does_not_answer_by_101_is_the_last_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    for status in ["200 OK", "426 Upgrade Required", "401 Unauthorized"] {
        let upstream = Upstream::start(answers(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi")));
        let gateway = Setup::forward(&upstream).start();
        for behind in ["", smuggled, "\u{1}\u{2}frame"] {
            let mut client = Client::connect(&gateway);
            let answer = client.ask(format!("{ASK}{behind}"));
            assert_eq!((answer.text().as_str(), answer.fields.get("connection")), ("hi", Some("close")), "{answer:?}");
            assert!(!answer.fields.has("upgrade"));
            let _ = client.try_send(smuggled);
            client.is_gone();
        }
        let targets: Vec<String> = upstream.reparse().concat().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, ["/ws"; 3], "{status}");
    }
}

#[test]
fn without_permission_it_is_a_request_like_any_other_and_the_last_one() {
    let upstream = Upstream::says("plain");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/off", "upgrade: off")
        .forward_path("/named", "upgrade: [Foo]")
        .forward_path("/default", "")
        .start();
    let ask = |path: &str, upgrade: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\nUpgrade: {upgrade}\r\n\r\n"
        )
    };
    for (path, upgrade, connection) in [
        ("/off", "websocket", Some("close")),
        ("/named", "websocket", Some("close")),
        ("/default", "foo, x/", Some("close")),
        ("/default", "h2c", None), // some clients ask for it with every request
    ] {
        let mut client = Client::connect(&gateway);
        let answer = client.ask(ask(path, upgrade));
        let told = (answer.text(), answer.fields.get("connection").map(str::to_owned));
        assert_eq!(told, ("plain".to_owned(), connection.map(str::to_owned)), "{path} {upgrade}");
        if connection.is_some() {
            let _ = client.try_send(get("/smuggled"));
            client.is_gone();
        } else {
            assert_eq!(client.get("/default").text(), "plain", "the connection goes on");
        }
        assert!(!upstream.targets().contains(&"/smuggled".to_owned()));
        let last = upstream.requests().pop().unwrap();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert!(!last.fields.has(name), "{last:?}");
        }
    }
    // But not where it is in doubt whether what follows is a request.
    let mut client = Client::connect(&gateway);
    let answer = client.ask(format!("{}{}", ask("/off", "h2c"), get("/default")));
    assert_eq!((answer.text().as_str(), answer.fields.get("connection")), ("plain", Some("close")));
    client.is_gone();
    assert_eq!(upstream.requests().len(), 6);
    assert_eq!(gateway.ask(ask("/named", "websocket, foo/2")).text(), "plain");
    assert_eq!(upstream.requests().pop().unwrap().fields.get("upgrade"), Some("foo/2"), "what is allowed of it");
}

#[test]
fn what_comes_while_the_answer_is_made_is_no_request_either() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    for (protocol, refused) in [("websocket", false), ("h2c", false), ("websocket", true)] {
        let gate = Gate::default();
        let opened = gate.clone();
        let upstream = Upstream::start(move |conn: &mut Conn| {
            while conn.request().is_some() {
                opened.wait();
                let status = if refused { "403 Forbidden" } else { "200 OK" };
                conn.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let gateway = Setup::new()
            .top("filters: { gate: { ext_auth: { upstream: u, path: /auth } } }")
            .upstream("u", &[&upstream], "")
            .route(&format!(
                "match: {{ path: /ws }}, filters: [{}], forward: {{ upstream: u, upgrade: off }}",
                if refused { "gate" } else { "" }
            ))
            .route("match: { path: /smuggled }, forward: { upstream: u }")
            .start();
        let mut client = Client::connect(&gateway);
        client.send(ASK.replace("websocket", protocol));
        upstream.wait_heads(1);
        client.send(smuggled);
        gate.open();
        let answer = client.response();
        assert_eq!((answer.status, answer.fields.get("connection")), (if refused { 403 } else { 200 }, Some("close")));
        client.is_gone();
        assert_eq!(upstream.requests().len(), 1, "{protocol}");
    }
}

#[test]
fn a_101_that_breaks_a_rule_opens_nothing() {
    let answers = [
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.0 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\n",
    ];
    let upstream = Upstream::start(move |conn| {
        if conn.request().is_some() {
            conn.write(answers[conn.index]);
            conn.until_ended();
        }
    });
    let gateway = Setup::forward(&upstream).start();
    for (n, bad) in answers.iter().enumerate() {
        let mut client = Client::connect(&gateway);
        let answer = client.ask(format!("{ASK}{}", get("/smuggled")));
        assert_eq!(answer.status, 502, "{bad:?}");
        answer.is_gateways_own(502);
        client.is_gone();
        upstream.wait_ended(n);
    }
    assert_eq!(upstream.reparse().concat().len(), answers.len(), "nothing but the requests was sent");
    assert_eq!(gateway.metrics().sum(TUNNELS_OPENED, &[]), 0.0);
}

#[test]
fn a_101_to_a_request_that_could_not_ask_for_it_is_refused() {
    let upstream = Upstream::start(|conn| {
        if conn.head().is_some() {
            conn.write(SWITCH);
            conn.until_ended();
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let fields = "Host: gw.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    for request in [
        format!("GET /x HTTP/1.0\r\n{fields}\r\n"),
        format!("POST /x HTTP/1.1\r\n{fields}\r\n"),
        format!("HEAD /x HTTP/1.1\r\n{fields}\r\n"),
        format!("GET /x HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\nhello"),
        format!("GET /x HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "GET /x HTTP/1.1\r\nHost: gw.test\r\nUpgrade: websocket\r\n\r\n".into(),
        "GET /x HTTP/1.1\r\nHost: gw.test\r\nConnection: upgrade\r\n\r\n".into(),
    ] {
        let mut client = Client::connect(&gateway);
        client.send(&request);
        let status =
            if request.starts_with("HEAD") { client.response_to_head().status } else { client.response().status };
        assert_eq!(status, 502, "{request:?}");
    }
    for asked in upstream.heads() {
        assert!(!asked.fields.has("upgrade") && !asked.fields.has("connection"), "{asked:?}");
    }
}

#[test]
fn a_silent_tunnel_ends_and_one_in_which_either_side_speaks_does_not() {
    let upstream = Upstream::start(|conn| {
        let target = conn.request().map(|request| request.target).unwrap_or_default();
        conn.write(SWITCH);
        let pieces = if target == "/ws" { 0 } else { 30 };
        for _ in 0..pieces {
            std::thread::sleep(Duration::from_millis(100)); // within the deadline each, beyond it together
            conn.write("x");
        }
        conn.until_ended();
    });
    let gateway = Setup::new().upstream("u", &[&upstream], "timeouts: { tunnel_idle: 2s }").forward_all("").start();
    let mut silent = Client::connect(&gateway);
    switched(&mut silent);
    silent.is_cut_off();
    let line = gateway.log_of("/ws");
    assert_eq!((&line["end"], &line["status"]), (&end::TUNNEL_IDLE.into(), &101.into()));
    assert_eq!(gateway.metrics().sum("ringway_deadlines_fired_total", &[("deadline", "tunnel_idle")]), 1.0);
    upstream.wait_ended(0);
    let mut fed = Client::connect(&gateway);
    fed.send(ASK.replace("/ws", "/fed"));
    assert_eq!(fed.head().unwrap().status, 101);
    assert_eq!(read(&mut fed, 30), [b'x'; 30]);
    fed.is_cut_off();
    ends(&gateway);
}

#[test]
fn a_side_that_breaks_off_ends_the_other() {
    let upstream = Upstream::start(|conn| {
        conn.request();
        conn.write(SWITCH);
        let told = piece(conn);
        if told.as_deref() == Some(b"reset!") {
            conn.reset_on_close();
        } else {
            conn.until_ended();
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    switched(&mut client);
    client.send("x");
    eventually("it came", || upstream.bytes(0).ends_with(b"x").then_some(()));
    client.reset();
    assert_ne!(upstream.wait_ended(0), Ending::Fin, "a cut must not look like an end that was meant");
    assert_eq!(gateway.log_of("/ws")["end"], end::CLIENT_GONE);
    let mut client = Client::connect(&gateway);
    client.send(ASK.replace("/ws", "/reset"));
    assert_eq!(client.head().unwrap().status, 101);
    client.send("reset!");
    client.is_cut_off();
    assert_eq!(gateway.log_of("/reset")["end"], end::TRUNCATED);
    // One that has ended its side, and then goes altogether, while the upstream never ends.
    let mut client = Client::connect(&gateway);
    client.send(ASK.replace("/ws", "/half"));
    assert_eq!(client.head().unwrap().status, 101);
    client.half_close();
    upstream.wait_ended(2);
    drop(client);
    ends(&gateway);
}

#[test]
fn a_half_closed_tunnel_whose_client_is_reset_does_not_wait_for_the_upstream() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        conn.request();
        conn.write(SWITCH);
        conn.until_ended();
        open.wait(); // it never ends its side
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    switched(&mut client);
    client.half_close();
    upstream.wait_ended(0);
    client.reset();
    ends(&gateway);
    gate.open();
    assert_eq!(gateway.log_of("/ws")["end"], end::TUNNEL_CLIENT);
}

#[test]
fn a_drain_lets_tunnels_run_and_ends_them_at_its_deadline() {
    let upstream = Upstream::start(echoes);
    let mut gateway = Setup::forward(&upstream).top("drain: 1500ms").start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        switched(client);
    }
    gateway.term();
    eventually("the drain has begun", || {
        crate::support::gateway::get(gateway.admin, "/readyz").is_none_or(|r| r.status == 503).then_some(())
    });
    let [quiet, busy, done] = &mut clients[..] else { panic!() };
    done.send("still here");
    says(done, "still here");
    done.half_close();
    says(done, "bye");
    done.is_closed();
    // One that never pauses is ended too.
    let writer = busy.wire.stream.clone();
    let chatter = std::thread::spawn(move || {
        let mut chatty = Client { wire: crate::support::wire::Wire::new(writer) };
        while chatty.try_send([b'x'; 512]).is_ok() {}
    });
    let (_, _) = busy.rest();
    quiet.is_cut_off();
    chatter.join().unwrap();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let ended: Vec<_> = gateway.log_lines().iter().map(|line| line["end"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ended.iter().filter(|e| *e == end::DRAIN).count(), 2, "{ended:?}");
}

#[test]
fn who_takes_nothing_is_given_up_and_costs_a_buffer() {
    const TOTAL: usize = 64 << 20;
    let upstream = Upstream::start(|conn| {
        conn.request();
        conn.write(SWITCH);
        let block = vec![b'x'; 1 << 20];
        for _ in 0..TOTAL >> 20 {
            if !conn.write(&block) {
                return;
            }
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let stalling = Setup::forward(&upstream).listener("timeouts: { write: 400ms }").start();
    let mut slow = Client::connect(&gateway);
    switched(&mut slow);
    let before = gateway.rss();
    let mut written = 0;
    let mut same = 0;
    eventually("the upstream to be held back", || {
        let now = upstream.total_written();
        same = if now == written { same + 1 } else { 0 };
        written = now;
        (same > 40).then_some(())
    });
    assert!(gateway.rss() < before + (4 << 20), "{} bytes more", gateway.rss() - before);
    assert_eq!(read(&mut slow, TOTAL).len(), TOTAL, "all of it, once it is read");
    slow.half_close();
    slow.is_closed();
    let mut stuck = Client::connect(&stalling);
    switched(&mut stuck);
    assert_eq!(stalling.log_of("/ws")["end"], end::WRITE);
    ends(&stalling);
}

#[test]
fn filters_act_on_the_request_and_count_it_to_the_tunnels_end() {
    let upstream = Upstream::start(echoes);
    let gateway = Setup::forward(&upstream)
        .top("filters: { one: { concurrency: { max: 1, key: none } }, office: { ip: { deny: [127.0.0.0/8] } } }")
        .route("match: { path: /one }, filters: [one], forward: { upstream: u }")
        .route("match: { path: /denied }, filters: [office], forward: { upstream: u }")
        .start();
    let one = ASK.replace("/ws", "/one");
    let mut first = Client::connect(&gateway);
    first.send(&one);
    assert_eq!(first.head().unwrap().status, 101);
    let mut second = Client::connect(&gateway);
    second.ask(format!("{one}{}", get("/smuggled"))).is_gateways_own(429);
    second.is_gone();
    gateway.ask(ASK.replace("/ws", "/denied")).is_gateways_own(403);
    first.half_close();
    says(&mut first, "bye");
    first.is_closed();
    ends(&gateway);
    let mut third = Client::connect(&gateway);
    third.send(&one);
    assert_eq!(third.head().unwrap().status, 101, "there is room again");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn tunnels_that_end_in_every_way_leave_nothing_behind() {
    let upstream = Upstream::start(|conn| {
        let Some(request) = conn.request() else { return };
        let Some(way) = request.target.strip_prefix("/ws?").and_then(|way| way.parse::<usize>().ok()) else { return };
        conn.write(SWITCH);
        match way % 5 {
            0 => conn.until_ended(),
            1 => drop(conn.write(vec![b'y'; 300_000])),
            2 => conn.reset_on_close(),
            3 => conn.cut_on_close(),
            _ => while piece(conn).is_some_and(|bytes| conn.write(bytes)) {},
        }
    });
    let mut gateway = Setup::forward(&upstream).workers("2").start();
    let mut seeded = Seeded(7);
    let mut waiting = Vec::new();
    for n in 0..200 {
        let mut client = Client::connect(&gateway);
        client.send(ASK.replace("/ws", &format!("/ws?{n}")));
        if client.head().map(|head| head.status) != Ok(101) {
            continue; // the reset came before it
        }
        let _ = client.try_send(vec![b'x'; (seeded.next() % 100_000) as usize]);
        match seeded.next() % 4 {
            0 => client.reset(),
            // Over TLS a cut, and in any case perhaps too late.
            1 => drop(client.wire.stream.0.tcp.shutdown(std::net::Shutdown::Write)),
            2 => drop(client),
            _ => waiting.push(client),
        }
    }
    assert!(gateway.metrics().sum(TUNNELS_OPENED, &[]) > 100.0);
    drop(waiting);
    ends(&gateway);
    let lines = eventually("a line each", || Some(gateway.log_lines()).filter(|lines| lines.len() == 200));
    assert!(lines.iter().all(|line| line["end"] != "internal"), "{lines:?}");
    gateway.is_well();
}

#[test]
fn garbage_in_a_tunnel_is_the_business_of_its_ends() {
    let garbage = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n\0\u{7f}";
    let upstream = Upstream::start(move |conn| {
        conn.request();
        conn.write(SWITCH);
        conn.write(garbage);
        conn.until_ended();
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    switched(&mut client);
    says(&mut client, garbage);
    client.half_close();
    client.is_closed();
    // The upstream's connection is used for nothing else.
    let plain = Client::connect(&gateway).ask(ASK.replace("Upgrade: websocket\r\n", "")).status;
    assert_eq!((plain, upstream.connections()), (502, 2));
    assert_eq!(gateway.metrics().sum(TUNNELS_OPENED, &[]), 1.0);
}

/// A peer that takes little at a time, but all the time.
fn drips(mut take: impl FnMut(u64)) {
    for _ in 0..60 {
        take(20 << 10);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_side_that_reads_slowly_is_neither_silent_nor_stuck() {
    const ALL: usize = 12 << 20;
    let upstream = Upstream::start(|conn| {
        let target = conn.request().map(|request| request.target).unwrap_or_default();
        conn.keep_no_bytes();
        conn.write(SWITCH);
        if target == "/down" {
            conn.write(vec![b'x'; ALL]);
        } else {
            drips(|n| conn.wire.exact(n, &mut |_| {}).unwrap());
            conn.wire.exact(ALL as u64 - 60 * (20 << 10), &mut |_| {}).unwrap();
            conn.write("all");
        }
        conn.until_ended();
    });
    let times = "timeouts: { tunnel_idle: 1s, body: 1s }";
    let gateway =
        Setup::new().upstream("u", &[&upstream], times).forward_all("").listener("timeouts: { write: 1s }").start();
    let mut down = Client::connect(&gateway);
    down.send(ASK.replace("/ws", "/down"));
    assert_eq!(down.head().unwrap().status, 101);
    drips(|n| down.wire.exact(n, &mut |_| {}).unwrap());
    down.wire.exact(ALL as u64 - 60 * (20 << 10), &mut |_| {}).unwrap();
    let mut up = Client::connect(&gateway);
    up.send(ASK.replace("/ws", "/up"));
    assert_eq!(up.head().unwrap().status, 101);
    up.send(vec![b'x'; ALL]);
    says(&mut up, "all");
}

#[test]
fn a_426_names_the_protocols_and_nothing_else_does() {
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            let status = if request.target == "/426" { "426 Upgrade Required" } else { "400 Bad Request" };
            let offer = "Upgrade: websocket, b@d\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n";
            conn.write(format!("HTTP/1.1 {status}\r\n{offer}"));
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    let told = client.get("/426");
    assert_eq!((told.fields.get("upgrade"), told.fields.get("connection")), (Some("websocket"), Some("Upgrade")));
    let other = client.get("/400");
    assert!(!other.fields.has("upgrade") && !other.fields.has("connection"), "{other:?}");
}

#[test]
fn what_the_kernel_holds_for_a_slow_side_is_not_lost_to_silence() {
    const ALL: usize = 200_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8 << 10).unwrap(); // accepted ones inherit it
    let upstream = Upstream::listen(listener, |conn| {
        conn.request();
        conn.write(SWITCH);
        for _ in 0..ALL / 8_000 {
            conn.wire.exact(8_000, &mut |_| {}).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
        conn.write("all");
        conn.until_ended();
    });
    let gateway =
        Setup::new().upstream("u", &[&upstream], "timeouts: { tunnel_idle: 1s, body: 1s }").forward_all("").start();
    let mut client = Client::connect(&gateway);
    switched(&mut client);
    client.send(vec![b'x'; ALL]);
    says(&mut client, "all");
    // One that takes nothing is silent for all that.
    client.is_cut_off();
    assert_eq!(gateway.log_of("/ws")["end"], end::TUNNEL_IDLE);
}
