//! Which endpoint a request sticks to, when it goes elsewhere, and what an endpoint that drains still gets.

use crate::support::client::{get, post};
use crate::support::foreign::{self, curl, haproxy, haproxy_server};
use crate::support::message::ok;
use crate::support::misbehave::{answers, breaks_after};
use crate::support::names;
use crate::support::{Client, Gate, Gateway, Setup, Upstream, eventually, temp_dir};
use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;

/// Every balancer, with the key that makes requests of [`asks`] stick.
const BALANCERS: [&str; 4] = ["p2c", "round_robin", "least_request", "{ hash: { header: x-user } }"];

/// Tries that bounded load sent elsewhere.
const SPILLS: &str = "ringway_upstream_hash_spills_total";

fn by(balance: &str) -> String {
    format!("balance: {balance}")
}

fn asks(user: &str) -> String {
    format!("GET /item/{user} HTTP/1.1\r\nHost: gw.test\r\nX-User: {user}\r\n\r\n")
}

fn three() -> [Upstream; 3] {
    ["a", "b", "c"].map(Upstream::says)
}

#[test]
fn the_same_key_goes_to_the_same_endpoint_on_every_core_and_after_a_restart() {
    type Ask = fn(&str) -> String;
    let kinds: [(&str, Ask); 5] = [
        ("header: x-user", asks),
        ("cookie: sid", |key| format!("GET /item/1 HTTP/1.1\r\nHost: a\r\nCookie: a=b; sid={key}\r\n\r\n")),
        ("query: t", |key| format!("GET /item/1?u=1&t={key} HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("path: id", |key| format!("GET /item/{key} HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("ip: true", |key| {
            format!(
                "GET /item/1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{}\r\n\r\n",
                key.trim_start_matches("user-")
            )
        }),
    ];
    let upstreams = three();
    let all: Vec<&Upstream> = upstreams.iter().collect();
    for (kind, request) in kinds {
        let mut places: HashMap<String, String> = HashMap::new();
        for _ in 0..2 {
            let gateway = Setup::new()
                .workers("2")
                .top("trusted_proxies: [127.0.0.1]")
                .upstream("u", &all, &by(&format!("{{ hash: {{ {kind} }} }}")))
                .forward_path("/item/{id}", "")
                .start();
            let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(&gateway)).collect();
            for n in 0..40 {
                let key = format!("user-{n}");
                for client in &mut clients {
                    let text = client.ask(request(&key)).text();
                    assert_eq!(*places.entry(key.clone()).or_insert(text.clone()), text, "{kind} {key}");
                }
            }
            let metrics = gateway.metrics();
            for worker in ["0", "1"] {
                let open = metrics.sum("ringway_worker_connections", &[("worker", worker)]);
                assert!(open > 0.0, "both workers were asked");
            }
        }
        let used = ["a", "b", "c"].map(|name| places.values().filter(|place| *place == name).count());
        assert!(used.iter().all(|n| *n > 0), "{kind}: {used:?}");
    }
}

#[test]
fn keys_are_shared_out_by_weight_and_requests_without_a_key_spread() {
    let [a, b, c] = three();
    let endpoints =
        format!("[\"{}\", {{ address: \"{}\", weight: 2 }}, {{ address: \"{}\", weight: 5 }}]", a.addr, b.addr, c.addr);
    let gateway =
        Setup::new().upstream_at("u", &endpoints, &by("{ hash: { header: x-user } }")).forward_all("").start();
    let shares = || [&a, &b, &c].map(|upstream| upstream.requests().len());
    let mut client = Client::connect(&gateway);
    for n in 0..400 {
        assert_eq!(client.ask(asks(&format!("{n}"))).status, 200);
    }
    let of_keys = shares();
    for (share, range) in of_keys.into_iter().zip([20..90, 60..150, 190..310]) {
        assert!(range.contains(&share), "{of_keys:?}");
    }
    // None, an empty one, and one that nobody can tell: all of them on one endpoint would be the worst answer.
    for fields in ["", "X-User:\r\n", "X-User: 1\r\nX-User: 2\r\n"] {
        let before = shares();
        for _ in 0..100 {
            assert_eq!(client.ask(format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).status, 200);
        }
        let after = shares();
        assert!(after.iter().zip(before).all(|(after, before)| *after > before), "{fields:?}: {before:?} {after:?}");
    }
}

#[test]
fn a_field_that_a_filter_writes_is_the_key_and_not_what_a_client_says_there() {
    let upstreams = three();
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let gateway = Setup::new()
        .top(
            "filters: { who: { api_key: { header: x-key, keys: [{ owner: o, \
             sha256: 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 }], principal_header: x-user } }, \
             ed: { request_headers: { set: { X_User: fixed } } }, \
             old: { request_headers: { rename: { x-old: x-user } } } }",
        )
        .upstream("u", &all, &by("{ hash: { header: x-user }, max_load: none }"))
        .route("match: { path: /who }, filters: [who], forward: { upstream: u }")
        .route("match: { path: /ed }, filters: [ed], forward: { upstream: u }")
        .route("match: { path: /old }, filters: [old], forward: { upstream: u }")
        .forward_path("/own", "request_headers: { set: { x-user: q } }")
        .start();
    for (path, field) in [("/who", "X-Key: key"), ("/ed", ""), ("/old", "X-Old: o"), ("/own", "")] {
        let field = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        let homes: HashSet<String> = (0..40)
            .map(|n| gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}X-User: {n}\r\n\r\n")).text())
            .collect();
        assert_eq!(homes.len(), 1, "{path}: {homes:?}");
    }
}

#[test]
fn one_hot_key_overloads_nobody_and_its_endpoint_gets_it_again_once_there_is_room() {
    for (max_load, most) in [("125%", 10), ("none", 24)] {
        let gate = Gate::default();
        let upstreams = ["a", "b", "c"].map(|name| Upstream::waits(&gate, name));
        let all: Vec<&Upstream> = upstreams.iter().collect();
        let balance = by(&format!("{{ hash: {{ header: x-user }}, max_load: {max_load} }}"));
        let gateway = Setup::new().upstream("u", &all, &balance).forward_all("").start();
        let mut clients: Vec<Client> = (0..24).map(|_| Client::connect(&gateway)).collect();
        let mut first = None;
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(asks("hot"));
            let counts = eventually("the request to arrive", || {
                let counts: Vec<usize> = upstreams.iter().map(|upstream| upstream.heads().len()).collect();
                (counts.iter().sum::<usize>() > n).then_some(counts)
            });
            let busiest = counts.iter().position(|count| *count > 0);
            first = first.or(busiest);
            if n < 8 {
                assert_eq!(counts[first.unwrap()], n + 1, "a few stay together");
            }
        }
        let counts: Vec<usize> = upstreams.iter().map(|upstream| upstream.heads().len()).collect();
        assert_eq!((counts.iter().max(), counts[first.unwrap()]), (Some(&most), most), "{max_load}: {counts:?}");
        let spills = |upstream: &str| gateway.metrics().sum(SPILLS, &[("upstream", upstream)]);
        assert_eq!(spills("u"), (24 - most) as f64, "{max_load}: each that went elsewhere is counted");
        gate.open();
        let home = ["a", "b", "c"][first.unwrap()];
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
        for client in &mut clients {
            assert_eq!(client.ask(asks("hot")).text(), home, "{max_load}");
        }
        assert_eq!(spills("u"), (24 - most) as f64, "and no other");
    }
}

#[test]
fn least_request_fills_by_weight_and_never_asks_the_busier_one() {
    let gate = Gate::default();
    let upstreams = ["a", "b", "c"].map(|name| Upstream::waits(&gate, name));
    let [a, b, c] = &upstreams;
    let endpoints =
        format!("[\"{}\", {{ address: \"{}\", weight: 2 }}, {{ address: \"{}\", weight: 3 }}]", a.addr, b.addr, c.addr);
    let gateway = Setup::new().upstream_at("u", &endpoints, &by("least_request")).forward_all("").start();
    let mut clients: Vec<Client> = (0..30).map(|_| Client::connect(&gateway)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(get("/x"));
        eventually("the request to arrive", || {
            (upstreams.iter().map(|upstream| upstream.heads().len()).sum::<usize>() > n).then_some(())
        });
    }
    assert_eq!([a, b, c].map(|upstream| upstream.heads().len()), [5, 10, 15]);
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));

    let gate = Gate::default();
    let (slow, fast, faster) = (Upstream::waits(&gate, "slow"), Upstream::says("fast"), Upstream::says("fast"));
    let gateway = Setup::new().upstream("u", &[&slow, &fast, &faster], &by("least_request")).forward_all("").start();
    let mut stuck: Vec<Client> = Vec::new();
    while slow.heads().is_empty() {
        let mut client = Client::connect(&gateway);
        client.send(get("/x"));
        stuck.push(client);
        eventually("the request to arrive", || {
            let arrived: usize = [&slow, &fast, &faster].map(|upstream| upstream.heads().len()).iter().sum();
            (arrived >= stuck.len()).then_some(())
        });
    }
    let mut client = Client::connect(&gateway);
    for _ in 0..50 {
        assert_eq!(client.get("/x").text(), "fast");
    }
    let shares = [&fast, &faster].map(|upstream| upstream.requests().len());
    assert!(shares.iter().all(|n| *n >= 10), "idle ones take turns by chance: {shares:?}");
    gate.open();
}

#[test]
fn an_endpoint_that_drains_gets_nothing_and_where_all_do_it_is_503_and_said_why() {
    for balance in BALANCERS {
        let (a, b) = (Upstream::says("a"), Upstream::says("b"));
        let endpoints = format!("[\"{}\", {{ address: \"{}\", weight: 1000, drain: true }}]", a.addr, b.addr);
        let gateway = Setup::new().upstream_at("u", &endpoints, &by(balance)).forward_all("").start();
        let mut client = Client::connect(&gateway);
        for n in 0..30 {
            assert_eq!(client.ask(asks(&format!("{n}"))).text(), "a", "{balance}");
        }
        assert_eq!(b.connections(), 0);
    }
    let endpoints = "[{ address: \"127.0.0.1:1\", drain: true }, { address: \"gone.invalid:1\", drain: true }]";
    let gateway = Setup::new().upstream_at("u", endpoints, "").forward_all("").start();
    gateway.get("/x").is_gateways_own(503);
    assert_eq!(gateway.log_of("/x")["end"], names::end::NO_ENDPOINT);
    let why = "upstream u: no endpoint to ask: all of its endpoints drain (`drain: true`)";
    eventually("the operator is told", || gateway.process.stderr.lock().unwrap().contains(why).then_some(()));
    assert_eq!(gateway.metrics().sum("ringway_names_unresolved", &[]), 0.0, "nobody asks where it was");
}

#[test]
fn only_the_keys_of_an_endpoint_that_drains_move() {
    let upstreams = ["a", "b", "c", "d"].map(Upstream::says);
    let places = |drains: Option<usize>| -> Vec<String> {
        let endpoints = upstreams.iter().enumerate();
        let endpoints = endpoints.map(|(i, u)| format!("{{ address: \"{}\", drain: {} }}", u.addr, drains == Some(i)));
        let endpoints = format!("[{}]", endpoints.collect::<Vec<_>>().join(", "));
        let gateway =
            Setup::new().upstream_at("u", &endpoints, &by("{ hash: { header: x-user } }")).forward_all("").start();
        let mut client = Client::connect(&gateway);
        (0..200).map(|n| client.ask(asks(&format!("{n}"))).text()).collect()
    };
    let (all, without) = (places(None), places(Some(1)));
    for (before, after) in all.iter().zip(&without) {
        assert!(after != "b" && (before == "b" || before == after), "{before} {after}");
    }
    let moved: Vec<&String> =
        without.iter().zip(&all).filter(|(_, before)| *before == "b").map(|(after, _)| after).collect();
    assert!(["a", "c", "d"].iter().all(|name| moved.iter().any(|place| place == name)), "spread: {moved:?}");
}

/// HAProxy, whose `hash-type consistent` promises the same: how many of the keys move, and how they are shared out.
#[test]
fn haproxy_moves_as_many_keys_as_the_gateway_does() {
    let upstreams = ["a", "b", "c", "d", "e"].map(Upstream::says);
    let ask = |addr: SocketAddr| -> Vec<String> {
        let mut client = Client::to(addr);
        (0..300).map(|n| client.ask(asks(&format!("{n}"))).text()).collect()
    };
    let gateways = |upstreams: &[Upstream]| {
        let all: Vec<&Upstream> = upstreams.iter().collect();
        let gateway = Setup::new().upstream("u", &all, &by("{ hash: { header: x-user } }")).forward_all("").start();
        ask(gateway.addr)
    };
    let haproxys = |upstreams: &[Upstream]| {
        let servers = upstreams.iter().enumerate();
        let servers = servers.map(|(i, u)| format!("  server s{i} {} id {}\n", haproxy_server(u.addr), i + 1));
        let server = haproxy(&format!(
            "frontend f\n  bind @listen@\n  default_backend b\nbackend b\n  balance hdr(x-user)\n  hash-type consistent sdbm avalanche\n  hash-balance-factor 150\n{}",
            servers.collect::<String>()
        ));
        ask(server.addr)
    };
    for (who, places) in [("the gateway", &gateways as &dyn Fn(&[Upstream]) -> Vec<String>), ("HAProxy", &haproxys)] {
        let (all, fewer) = (places(&upstreams), places(&upstreams[..4]));
        let moved: Vec<_> = all.iter().zip(&fewer).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(before, _)| *before == "e"), "{who}: between others: {moved:?}");
        let share = moved.len();
        println!("{who}: {share} of 300 keys move when one of five goes");
        assert!((25..110).contains(&share), "{who}: {share} of 300, where a fifth is 60");
    }
}

#[test]
fn a_retry_goes_to_another_endpoint() {
    for balance in BALANCERS {
        let breaks = Upstream::start(breaks_after(1, ok("breaks"), ok("again")));
        let fine = Upstream::says("fine");
        let gateway = Setup::new().upstream("u", &[&breaks, &fine], &by(balance)).forward_all("").start();
        let mut client = Client::connect(&gateway);
        // With a hash, a user of the endpoint that breaks.
        let user = (0..).map(|n| format!("user-{n}")).find(|user| client.ask(asks(user)).text() == "breaks").unwrap();
        let mut answer = String::new();
        while breaks.heads().len() < 2 {
            answer = client.ask(asks(&user)).text();
        }
        assert_eq!(answer, "fine", "{balance}");
        assert_eq!((breaks.connections(), gateway.metrics().sum(names::RETRIES, &[])), (1, 1.0), "{balance}");
    }
    // With nobody else there, the same one on a fresh connection.
    let alone = Upstream::start(breaks_after(1, ok("first"), ok("second")));
    let gateway = Setup::new().upstream("u", &[&alone], &by("least_request")).forward_all("").start();
    let mut client = Client::connect(&gateway);
    assert_eq!([client.get("/a").text(), client.get("/b").text()], ["first", "second"]);
}

/// An address that refuses connections.
fn refuses() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The endpoints of an upstream, of which the first refuses connections.
fn behind_one_that_refuses(upstreams: &[Upstream]) -> String {
    let addresses = std::iter::once(refuses()).chain(upstreams.iter().map(|upstream| upstream.addr));
    format!("[{}]", addresses.map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", "))
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_request_whatever_the_balancer_and_the_method() {
    for balance in BALANCERS {
        let upstreams = three();
        let endpoints = behind_one_that_refuses(&upstreams);
        let gateway = Setup::new().workers("2").upstream_at("u", &endpoints, &by(balance)).forward_all("").start();
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&gateway)).collect();
        for n in 0..200 {
            for client in &mut clients {
                assert_eq!(client.ask(asks(&format!("user-{n}"))).status, 200, "{balance}");
            }
            let client = &mut clients[n % 4];
            assert_eq!(client.ask(post("/x", "body")).status, 200, "{balance}: nothing had been sent");
            let chunked = format!("POST /x HTTP/1.1\r\nHost: a\r\nX-User: {n}\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert_eq!(client.ask(chunked + "4\r\nbody\r\n0\r\n\r\n").status, 200, "{balance}: nor of a stream");
        }
        let shares: Vec<usize> = upstreams.iter().map(|upstream| upstream.requests().len()).collect();
        assert_eq!(shares.iter().sum::<usize>(), 1200, "{balance}: each once");
        assert!(shares.iter().all(|share| *share > 200), "{balance}: {shares:?}");
        let failed = gateway.metrics().sum(names::RETRIES, &[]);
        assert!(
            (1.0..60.0).contains(&failed),
            "{balance}: it is asked about once a second and core, not {failed} times"
        );
        gateway.process.wait_said("no connection: Connection refused");
    }
}

#[test]
fn an_endpoint_that_comes_back_is_asked_again() {
    let fine = Upstream::says("fine");
    let back = refuses();
    let endpoints = format!("[\"{back}\", \"{}\"]", fine.addr);
    let gateway = Setup::new().upstream_at("u", &endpoints, &by("round_robin")).forward_all("").start();
    let mut client = Client::connect(&gateway);
    (0..4).for_each(|_| assert_eq!(client.get("/x").text(), "fine"));
    let _back = named(TcpListener::bind(back).unwrap(), "back", &Gate::default());
    eventually("it is asked again", || (client.get("/x").text() == "back").then_some(()));
}

#[test]
fn parts_go_elsewhere_too_where_nobody_listens_and_without_anybody_else_the_upstream_is_unreachable() {
    let fine = Upstream::start(answers(json("\"fine\"")));
    let endpoints = format!("[\"{}\", \"{}\"]", refuses(), fine.addr);
    let part = "aggregate: { parts: [{ name: p, upstream: u, request: { path: /part } }] }";
    let gateway = Setup::new()
        .upstream_at("u", &endpoints, &by("least_request"))
        .upstream_at("alone", &format!("[\"{}\"]", refuses()), "")
        .route(&format!("match: {{ path: /all }}, {part}"))
        .route("match: { path: /alone }, forward: { upstream: alone }")
        .start();
    let mut client = Client::connect(&gateway);
    for _ in 0..20 {
        assert_eq!(client.get("/all").json()["data"]["p"], "fine");
    }
    let hosts: Vec<Option<String>> = fine.requests().iter().map(|r| r.fields.get("host").map(String::from)).collect();
    assert!(hosts.iter().all(|host| *host == Some(fine.addr.to_string())), "{hosts:?}");
    let retries = gateway.metrics().sum(names::RETRIES, &[]);
    client.get("/alone").is_gateways_own(503);
    assert_eq!(gateway.metrics().sum(names::RETRIES, &[]), retries, "there is nobody else");
}

fn json(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into()
}

#[test]
fn parts_stick_by_the_clients_request_and_their_retries_are_asked_by_the_name_of_who_gets_them() {
    let breaks = Upstream::start(breaks_after(1, json("\"breaks\""), json("\"again\"")));
    let fine = Upstream::start(answers(json("\"fine\"")));
    let part = "aggregate: { parts: [{ name: p, upstream: u, request: { path: /part } }] }";
    let gateway = Setup::new()
        .upstream("u", &[&breaks, &fine], &by("{ hash: { path: id } }"))
        .route(&format!("match: {{ path: \"/item/{{id}}\" }}, {part}"))
        .start();
    let mut client = Client::connect(&gateway);
    let mut place = |user: &str| {
        let answer = client.get(&format!("/item/{user}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"]["p"].as_str().unwrap().to_owned()
    };
    let user = (0..).map(|n| format!("user-{n}")).find(|user| place(user) == "breaks").unwrap();
    let before = fine.requests().len();
    assert_eq!(place(&user), "fine", "its connection broke, and it went elsewhere");
    assert_eq!((breaks.connections(), fine.requests().len()), (1, before + 1));
    let hosts: Vec<Option<String>> = fine.requests().iter().map(|r| r.fields.get("host").map(String::from)).collect();
    assert!(hosts.iter().all(|host| *host == Some(fine.addr.to_string())), "{hosts:?}");
    for _ in 0..5 {
        assert_eq!(place(&user), "again", "it sticks");
    }
}

#[test]
fn curl_sticks_by_its_cookie() {
    let upstreams = three();
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let gateway =
        Setup::new().workers("2").upstream("u", &all, &by("{ hash: { cookie: sid } }")).forward_all("").start();
    let url = foreign::url(gateway.addr) + "/x";
    for user in ["alice", "bob", "carol"] {
        // Each run is a connection of its own, on one core or the other.
        let said: Vec<String> = (0..4).map(|n| curl(&["-b", &format!("n={n}; sid=\"{user}\""), &url])).collect();
        assert!(said.iter().all(|name| *name == said[0]), "{user}: {said:?}");
        let plain = gateway.ask(format!("GET /y HTTP/1.1\r\nHost: a\r\nCookie: sid={user}\r\n\r\n"));
        assert_eq!(plain.text(), said[0], "with quotes or without");
    }
}

#[test]
fn large_keys_and_very_many_of_them() {
    let upstreams = three();
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let gateway = Setup::new().upstream("u", &all, &by("{ hash: { cookie: sid } }")).forward_all("").start();
    let mut client = Client::connect(&gateway);
    let request = |sid: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\nCookie: sid={sid}\r\n\r\n");
    for end in ["1", "2", "3", "4"] {
        let large = format!("{}{end}", "x".repeat(8 * 1024));
        let first = client.ask(request(&large)).text();
        assert!((0..5).all(|_| client.ask(request(&large)).text() == first), "8 KiB stick too");
    }
    let before: Vec<usize> = all.iter().map(|upstream| upstream.requests().len()).collect();
    let mut client = Client::connect(&gateway); // one carries 10,000 requests and no more
    for batch in 0..100 {
        client.send((0..100).map(|n| request(&format!("{batch}-{n}"))).collect::<String>());
        (0..100).for_each(|_| assert_eq!(client.response().status, 200));
    }
    for (upstream, before) in all.iter().zip(before) {
        let share = upstream.requests().len() - before;
        assert!((3_000..3_700).contains(&share), "{share} of 10000 keys");
    }
    assert!(gateway.rss() < 200 << 20, "no key is remembered");
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// Answers its name, switches where that is asked for and then sends one byte back at a time, and lets requests for `/slow`
/// wait for the gate.
fn named(listener: TcpListener, name: &'static str, gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::listen(listener, move |conn| {
        while let Some(request) = conn.request() {
            if request.target == "/ws" {
                let mut byte = Vec::new();
                conn.write(SWITCH);
                while conn.wire.exact(1, &mut |bytes| byte = bytes.to_vec()).is_ok() {
                    conn.write(&byte);
                }
                return;
            }
            if request.target == "/slow" {
                gate.wait();
            }
            if !conn.write(ok(name)) {
                return;
            }
        }
    })
}

#[test]
fn an_address_that_vanishes_from_dns_drains() {
    // A /etc/hosts for this process alone. Without the rights to make one there is nothing to see.
    let may = std::process::Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        return;
    }
    let gate = Gate::default();
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let (leaves, stays) = (named(first, "leaves", &gate), named(second, "stays", &gate));
    let (dir, program) = (temp_dir("hosts"), std::path::Path::new(crate::support::gateway::BINARY));
    let (hosts, script) = (dir.join("hosts"), dir.join("run.sh"));
    std::fs::write(&hosts, "127.0.0.1 pair.test\n127.0.0.2 pair.test\n").unwrap();
    let inner = format!("mount --bind {} /etc/hosts && exec {} \"$@\"", hosts.display(), program.display());
    std::fs::write(&script, format!("#!/bin/sh\nexec unshare -m sh -c '{inner}' sh \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let gateway: Gateway = Setup::new()
        .binary(&script)
        .upstream_at("u", &format!("[\"pair.test:{port}\"]"), "balance: round_robin")
        .forward_all("")
        .start();
    // A tunnel, a request and an idle connection to each of the two.
    let mut tunnels = [Client::connect(&gateway), Client::connect(&gateway)];
    for tunnel in &mut tunnels {
        tunnel.send(UPGRADE);
        assert_eq!(tunnel.head().unwrap().status, 101);
    }
    let mut slow = [Client::connect(&gateway), Client::connect(&gateway)];
    slow.iter_mut().for_each(|client| client.send(get("/slow")));
    eventually("each has one", || (leaves.heads().len() == 2 && stays.heads().len() == 2).then_some(()));
    let mut client = Client::connect(&gateway);
    let mut both = [client.get("/x").text(), client.get("/x").text()];
    both.sort();
    assert_eq!(both, ["leaves", "stays"]);
    let idle = leaves.heads().last().unwrap().conn;
    std::fs::write(&hosts, "127.0.0.2 pair.test\n").unwrap();
    eventually("its idle connection is closed", || leaves.ending(idle));
    let before = leaves.heads().len();
    for _ in 0..10 {
        assert_eq!(client.get("/x").text(), "stays");
        assert_eq!(client.ask(post("/x", "body")).text(), "stays");
    }
    assert_eq!(leaves.heads().len(), before, "no new requests");
    for tunnel in &mut tunnels {
        tunnel.send("!");
        let mut back = Vec::new();
        tunnel.wire.exact(1, &mut |bytes| back.extend_from_slice(bytes)).unwrap();
        assert_eq!(back, b"!", "tunnels live on");
    }
    gate.open();
    let mut answered: Vec<String> = slow.iter_mut().map(|client| client.response().text()).collect();
    answered.sort();
    assert_eq!(answered, ["leaves", "stays"], "requests at hand are finished");
    eventually("what it was finished on is closed as well", || {
        let open = (0..leaves.connections()).filter(|conn| leaves.ending(*conn).is_none()).count();
        (open == 1).then_some(())
    });
}
