//! `mirror`: copies of requests for another upstream, which no answer ever waits for or shows.

use crate::support::aggregate::{json, part};
use crate::support::client::{get, post, post_chunked};
use crate::support::message::{Request, ok};
use crate::support::misbehave::{answers, answers_and_closes, drips, never_answers, resets, stalls_after};
use crate::support::upstream::Conn;
use crate::support::{Client, Gate, Gateway, Setup, Upstream, eventually};
use std::time::{Duration, Instant};

fn with(upstream: &Upstream, copy: &Upstream, keys: &str) -> Setup {
    setup(upstream, copy, keys).forward_all("filters: [copy]")
}

fn setup(upstream: &Upstream, copy: &Upstream, keys: &str) -> Setup {
    Setup::new().upstream("u", &[upstream], "").upstream("next", &[copy], "").top(&format!(
        "filters: {{ copy: {{ mirror: {{ upstream: next, {keys} }} }}, office: {{ ip: {{ deny: [127.0.0.1] }} }} }}"
    ))
}

fn counted(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "copy"), ("outcome", outcome)])
}

fn wait_counted(gateway: &Gateway, outcome: &str, n: f64) {
    gateway.wait_sum("ringway_filter_requests_total", &[("filter", "copy"), ("outcome", outcome)], n);
}

#[test]
fn a_copy_is_what_the_upstream_gets_and_a_mark() {
    let (upstream, copy) = (Upstream::says("real"), Upstream::says("copy"));
    let gateway = setup(&upstream, &copy, "unsafe_methods: true")
        .route(
            "match: { path: \"/v1/{*rest}\" }, filters: [copy], forward: { upstream: u, rewrite: { strip_prefix: /v1 }, \
             request_headers: { set: { x-gateway: ringway }, remove: [x-debug] } }",
        )
        .start();
    let request = "POST /v1/a?x=1 HTTP/1.1\r\nHost: h\r\nAuthorization: t\r\nX-Debug: 1\r\n\
                   Content-Length: 5\r\n\r\nhello";
    assert_eq!(gateway.ask(request).text(), "real");
    let (sent, copied) = (upstream.only_request(), copy.wait_requests(1).remove(0));
    assert_eq!(
        (copied.method.as_str(), copied.target.as_str(), copied.body.as_slice()),
        ("POST", "/a?x=1", &b"hello"[..])
    );
    assert_eq!(copied.fields.all("x-ringway-mirror"), ["copy"]);
    assert!(!sent.fields.has("x-ringway-mirror"), "nobody can claim that it is one");
    let without = |request: &Request| -> Vec<(String, String)> {
        let other =
            |(name, _): &&(String, String)| !["host", "x-ringway-mirror"].contains(&name.to_lowercase().as_str());
        request.fields.0.iter().filter(other).cloned().collect()
    };
    assert_eq!(without(&sent), without(&copied));
    assert_eq!(copied.fields.get("host"), Some(copy.addr.to_string().as_str()));
    wait_counted(&gateway, "sent", 1.0);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringway_upstream_requests_total", &[("upstream", "next")]), 1.0);
}

#[test]
fn a_copy_is_not_copied_again() {
    let (upstream, copy) = (Upstream::says("real"), Upstream::says("copy"));
    let gateway = with(&upstream, &copy, "").start();
    let mut client = Client::connect(&gateway);
    for field in ["X-Ringway-Mirror: other", "x_ringway_mirror: other"] {
        assert_eq!(client.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n")).text(), "real");
    }
    client.get("/last");
    assert_eq!(copy.wait_requests(1).remove(0).target, "/last", "the only one");
    wait_counted(&gateway, "sent", 1.0);
    assert!(upstream.requests().iter().all(|sent| !format!("{sent:?}").to_lowercase().contains("mirror")));
}

#[test]
fn a_copy_is_copied_by_none_of_several_mirrors() {
    let (upstream, copy) = (Upstream::says("real"), Upstream::says("copy"));
    let names = ["a", "b", "c"];
    let mirrors = names.map(|name| format!("{name}: {{ mirror: {{ upstream: next }} }}")).join(", ");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream("next", &[&copy], "")
        .top(&format!("filters: {{ {mirrors} }}"))
        .top("all_routes: { filters: [a] }")
        .forward_all("filters: [b, c]")
        .start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask("GET /copied HTTP/1.1\r\nHost: h\r\nX-Ringway-Mirror: other\r\n\r\n").text(), "real");
    client.get("/own");
    let copies = copy.wait_requests(3);
    assert!(copies.iter().all(|request| request.target == "/own"), "{:?}", copy.targets());
    let mut by: Vec<_> = copies.iter().filter_map(|copy| copy.fields.get("x-ringway-mirror")).collect();
    by.sort_unstable();
    assert_eq!(by, names);
    assert!(upstream.requests().iter().all(|sent| !sent.fields.has("x-ringway-mirror")));
}

#[test]
fn bodies_that_come_slowly_take_places_of_copies_and_nothing_else() {
    let (upstream, copy) = (Upstream::echo(), Upstream::says("copy"));
    let gateway = with(&upstream, &copy, "unsafe_methods: true, max_in_flight: 3").start();
    let slow: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = Client::connect(&gateway);
            client.send("POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n");
            client
        })
        .collect();
    wait_counted(&gateway, "dropped", 2.0);
    assert_eq!(gateway.ask(get("/a")).status, 200);
    wait_counted(&gateway, "dropped", 3.0);
    drop(slow);
    eventually("their places are free again", || {
        gateway.ask(get("/b"));
        (counted(&gateway, "sent") > 0.0).then_some(())
    });
}

#[test]
fn unsafe_methods_and_bodies_that_are_not_at_hand_are_not_copied() {
    let (upstream, copy) = (Upstream::echo(), Upstream::says("copy"));
    let gateway = with(&upstream, &copy, "").start();
    let mut client = Client::connect(&gateway);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        client.ask(format!("{method} /{method} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    client.send("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n");
    client.response_to_head();
    client.get("/get");
    copy.wait_requests(2);
    let mut copied = copy.targets(); // each copy is a task of its own: their order is nobody's
    copied.sort();
    assert_eq!(copied, ["/get", "/head"]);
    let gateway = with(&upstream, &copy, "unsafe_methods: true, max_body: 1KiB").start();
    let mut client = Client::connect(&gateway);
    let large = vec![b'x'; 100_000];
    for request in [post("/large", &large), post("/over", &large[..1025]), post_chunked("/over", &large[..1025], 100)] {
        assert_eq!(client.ask(request).status, 200);
    }
    assert_eq!((counted(&gateway, "dropped"), counted(&gateway, "sent")), (3.0, 0.0));
    for (n, request) in [
        post("/fits", &large[..1024]),
        post_chunked("/fits", &large[..1024], 100),
        post("/small", b"small"),
        post_chunked("/small", b"small", 3),
        post_chunked("/empty", b"", 3),
    ]
    .into_iter()
    .enumerate()
    {
        let echoed = client.ask(request).body;
        assert!(copy.wait_requests(3 + n)[2 + n].body == echoed, "{n}");
    }
    // One that comes in pieces passes by as it comes.
    let before = upstream.heads().len();
    client.send("POST /pieces HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
    upstream.wait_heads(before + 1);
    assert_eq!(copy.requests().len(), 7);
    client.send("def");
    assert_eq!(client.response().text(), "abcdef");
    assert_eq!(copy.wait_requests(8)[7].body, b"abcdef");
    // Of one that does not come to its end there is no copy.
    let mut client = Client::connect(&gateway);
    client.send("POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
    upstream.wait_heads(before + 2);
    drop(client);
    wait_counted(&gateway, "dropped", 4.0);
    assert_eq!(copy.requests().len(), 8);
}

#[test]
fn whatever_the_other_one_does_the_answer_is_the_same_and_as_fast() {
    let upstream = Upstream::says("real");
    let endless = |conn: &mut Conn| {
        conn.request();
        conn.write("HTTP/1.1 200 OK\r\n\r\n");
        while conn.write([b'x'; 65536]) {}
    };
    let huge_head = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(100_000));
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    let copies: Vec<(&str, Upstream)> = vec![
        ("never answers", Upstream::start(never_answers)),
        ("resets", Upstream::start(resets)),
        ("garbage", Upstream::start(answers("\x16\x03\x01 hello\r\n\r\n"))),
        ("a head that stops", Upstream::start(stalls_after("HTTP/1.1 200 OK\r\n"))),
        ("drips", Upstream::start(drips("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", Duration::from_millis(5)))),
        ("endless", Upstream::start(endless)),
        ("a huge head", Upstream::start(answers_and_closes(huge_head))),
        ("1xx", Upstream::start(answers_and_closes(flood))),
        ("101", Upstream::start(answers("HTTP/1.1 101 X\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n"))),
        ("announced", Upstream::start(answers("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"))),
    ];
    for (name, copy) in &copies {
        let mut gateway = with(&upstream, copy, "timeout: 300ms").start();
        let mut client = Client::connect(&gateway);
        let start = Instant::now();
        for _ in 0..5 {
            let answer = client.get("/a");
            assert_eq!((answer.status, answer.text().as_str()), (200, "real"), "{name}");
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
        wait_counted(&gateway, "failed", 5.0);
        assert_eq!(counted(&gateway, "sent"), 5.0, "{name}");
        eventually("its connections are closed", || (gateway.sockets() < 15).then_some(()));
        let lines = gateway.log_lines();
        assert!(lines.iter().all(|line| line["end"] == "ok" && line["upstream"] == "u"), "{name}: {lines:?}");
        gateway.is_well();
    }
    // Nobody there at all.
    let gone = crate::support::free_port();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream_at("next", &format!("[\"127.0.0.1:{gone}\"]"), "")
        .top("filters: { copy: { mirror: { upstream: next } } }")
        .forward_all("filters: [copy]")
        .start();
    assert_eq!(gateway.get("/a").text(), "real");
    wait_counted(&gateway, "failed", 1.0);
}

#[test]
fn no_more_than_so_many_are_on_their_way() {
    let (upstream, gate) = (Upstream::says("real"), Gate::default());
    let copy = Upstream::waits(&gate, "copy");
    let gateway = with(&upstream, &copy, "max_in_flight: 2, timeout: 30s").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..5 {
        assert_eq!(client.get("/a").text(), "real");
    }
    copy.wait_requests(2);
    assert_eq!((counted(&gateway, "sent"), counted(&gateway, "dropped")), (2.0, 3.0));
    gate.open();
    eventually("there is room again", || {
        client.get("/b");
        (counted(&gateway, "sent") > 2.0).then_some(())
    });
    assert_eq!(counted(&gateway, "failed"), 0.0);
}

#[test]
fn answers_are_thrown_away_and_connections_kept() {
    let (upstream, body) = (Upstream::says("real"), vec![b'x'; 900_000]);
    let copy = Upstream::start(answers(ok(&body)));
    let gateway = with(&upstream, &copy, "").start();
    let mut client = Client::connect(&gateway);
    eventually("a connection carries several", || {
        client.get("/a");
        copy.wait_requests(1);
        (copy.requests().len() > copy.connections()).then_some(())
    });
    assert_eq!((counted(&gateway, "failed"), counted(&gateway, "dropped")), (0.0, 0.0));
    let large = Upstream::start(answers(ok(vec![b'x'; 1_100_000])));
    let gateway = with(&upstream, &large, "").start();
    assert_eq!(gateway.get("/a").text(), "real");
    wait_counted(&gateway, "failed", 1.0);
    large.wait_over(0);
}

#[test]
fn a_copy_is_never_sent_twice() {
    let upstream = Upstream::says("real");
    let copy = Upstream::start(|conn: &mut Conn| {
        // The second request on a connection meets its end.
        if conn.request().is_some() {
            conn.write(ok("copy"));
            conn.request();
        }
    });
    let gateway = with(&upstream, &copy, "").start();
    let mut client = Client::connect(&gateway);
    client.get("/1");
    copy.wait_requests(1);
    eventually("its connection is kept", || {
        let idle = gateway.metrics().sum("ringway_filter_requests_total", &[("outcome", "sent")]);
        (idle == 1.0).then_some(())
    });
    for n in 2..=6 {
        client.get(&format!("/{n}"));
        copy.wait_requests(n);
    }
    assert_eq!(copy.requests().len(), 6, "one each");
}

#[test]
fn what_is_refused_is_not_copied_and_what_is_answered_in_another_way_is() {
    let upstream = Upstream::start(answers(json("{}")));
    let copy = Upstream::says("copy");
    let gateway = setup(&upstream, &copy, "")
        .top("all_routes: { filters: [copy] }")
        .route("match: { path: /denied }, filters: [office], forward: { upstream: u }")
        .route("match: { path: /respond }, respond: { body: fixed }")
        .route("match: { path: /moved }, redirect: { to: / }")
        .aggregate("match: { path: /many }", "", &[part("it", "/", "")])
        .start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/denied").status, 403);
    assert_eq!(client.get("/none").status, 404);
    for (path, status) in [("/respond?a=b", 200), ("/moved", 308), ("/many", 200)] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
    copy.wait_requests(3);
    let mut targets = copy.targets();
    targets.sort();
    assert_eq!(targets, ["/many", "/moved", "/respond?a=b"]);
}

#[test]
fn a_share_is_drawn_and_who_leaves_takes_no_copy_along() {
    let upstream = Upstream::says("real");
    let copy = Upstream::says("copy");
    let gateway = with(&upstream, &copy, "percent: 30%, max_in_flight: 1000").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..1000 {
        client.get("/a");
    }
    let sent = counted(&gateway, "sent") as usize;
    // Five deviations of 14.5 to either side: once in a million runs.
    assert!((228..=372).contains(&sent), "{sent}");
    copy.wait_requests(sent);
    let (never, slow) = (Upstream::start(never_answers), Upstream::start(never_answers));
    let gateway = with(&never, &slow, "timeout: 1s").start();
    let mut client = Client::connect(&gateway);
    client.send(get("/gone"));
    slow.wait_requests(1);
    never.wait_requests(1);
    drop(client);
    never.wait_ended(0);
    assert_eq!((slow.ending(0), counted(&gateway, "failed")), (None, 0.0), "it has its own time");
    slow.wait_ended(0);
    wait_counted(&gateway, "failed", 1.0);
}
