//! Rate limits of one process, from outside: who is counted, what is told, what is refused. Through Redis: `limits_redis`.

use crate::support::foreign::{curl, url};
use crate::support::message::ok;
use crate::support::misbehave::{answers, never_answers};
use crate::support::{Client, Gateway, Setup, Upstream, eventually};
use std::time::{Duration, Instant};

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

/// Filters, and a route that has them.
fn limited(upstream: &Upstream, filters: &str, used: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ {filters} }}"))
        .forward_all(&format!("filters: {used}"))
}

/// So few tokens come in that none does within a scenario.
const SLOW: &str = "rate: 2/h";

fn statuses(client: &mut Client, request: &str, n: usize) -> Vec<u16> {
    (0..n).map(|_| client.ask(request).status).collect()
}

fn with(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn nobody_gets_a_bucket_by_what_it_claims() {
    let upstream = upstream();
    for (key, claim) in [("x-forwarded-for", "X-Forwarded-For: 10.0.0."), ("x_real_ip", "x_real_ip: 10.0.0.")] {
        let filters = format!("fair: {{ rate_limit: {{ {SLOW}, key: header.{key} }} }}");
        let gateway = limited(&upstream, &filters, "[fair]").start();
        let statuses = (0..3).map(|n| gateway.ask(with(&format!("{claim}{n}\r\n"))).status);
        assert_eq!(statuses.collect::<Vec<_>>(), [200, 200, 429], "{key}");
    }
}

#[test]
fn a_field_that_a_filter_writes_chooses_the_bucket() {
    let upstream = upstream();
    let filters = format!(
        "ed: {{ request_headers: {{ set: {{ x-user: fixed }} }} }}, fair: {{ rate_limit: {{ {SLOW}, key: header.x-user }} }}"
    );
    let gateway = limited(&upstream, &filters, "[ed, fair]").start();
    let statuses: Vec<u16> = (0..3).map(|n| gateway.ask(with(&format!("X-User: {n}\r\n"))).status).collect();
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn the_burst_passes_then_429_says_when_to_come_again() {
    let upstream = upstream();
    let gateway = limited(&upstream, "fair: { rate_limit: { rate: 2/m } }", "[fair]").start();
    let mut client = Client::connect(&gateway);
    let first = client.get("/a");
    assert_eq!(first.status, 200);
    assert_eq!(first.fields.get("ratelimit-policy"), Some("\"fair\";q=2;w=60"));
    assert_eq!(first.fields.get("ratelimit"), Some("\"fair\";r=1;t=30"));
    assert_eq!(client.get("/b").fields.get("ratelimit"), Some("\"fair\";r=0;t=60"));
    let refused = client.get("/c");
    refused.is_gateways_own(429);
    assert_eq!(refused.json()["code"], 42901);
    let wait: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
    assert!((25..=30).contains(&wait), "{refused:?}");
    assert_eq!(refused.fields.get("ratelimit"), Some(format!("\"fair\";r=0;t={wait}").as_str()));
    assert!(!refused.fields.has("x-ratelimit-limit") && !first.fields.has("x-ratelimit-limit"));
    assert_eq!(upstream.requests().len(), 2, "what is refused is not forwarded");
    let line = gateway.log_of("/c");
    assert_eq!(
        (&line["end"], &line["refused_by"], &line["status"]),
        (&"rate_limited".into(), &"fair".into(), &429.into())
    );
    assert!(gateway.log_of("/a")["refused_by"].is_null());
    let counted =
        |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "fair"), ("outcome", outcome)]);
    assert_eq!((counted("passed"), counted("refused"), counted("would_refuse")), (2.0, 1.0, 0.0));
}

#[test]
fn tokens_come_in_at_the_rate() {
    let upstream = upstream();
    let gateway = limited(&upstream, "fair: { rate_limit: { rate: 20/s, burst: 2 } }", "[fair]")
        .listener("max_requests: none")
        .start();
    let mut client = Client::connect(&gateway);
    assert_eq!(statuses(&mut client, &with(""), 2), [200, 200]);
    let (start, mut passed) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(1) {
        passed += u32::from(client.get("/a").status == 200);
    }
    // A loaded machine may be slow to ask, never fast.
    let most = 20.0 * start.elapsed().as_secs_f64() + 1.0;
    assert!(passed >= 10 && f64::from(passed) <= most, "{passed} of {most}");
}

#[test]
fn curl_comes_again_when_it_is_told_to() {
    let upstream = upstream();
    let gateway = limited(&upstream, "fair: { rate_limit: { rate: 1/3s } }", "[fair]").start();
    assert_eq!(gateway.get("/a").status, 200);
    let start = Instant::now();
    // It retries once: by itself after a second, which is too early, by Retry-After in time.
    let (url, body) = (format!("{}/a", url(gateway.addr)), gateway.dir.join("body"));
    let args = ["--retry", "1", "-o", body.to_str().unwrap(), "-w", "%{http_code}", &url];
    assert_eq!(curl(&args), "200");
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn what_clients_are_told_is_a_choice() {
    let upstream = Upstream::start(answers("HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 7\r\nContent-Length: 0\r\n\r\n"));
    let filters =
        "quiet: { rate_limit: { rate: 5/h, headers: off } }, loud: { rate_limit: { rate: 1/h, headers: legacy } }";
    let gateway = limited(&upstream, filters, "[quiet]")
        .route("match: { path: /loud }, filters: [loud], forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    let quiet = client.get("/a");
    assert!(!quiet.fields.has("ratelimit") && !quiet.fields.has("ratelimit-policy"), "{quiet:?}");
    assert_eq!(quiet.fields.get("x-ratelimit-limit"), Some("7"), "the upstream's passes");
    let loud = client.get("/loud");
    assert_eq!(loud.fields.all("x-ratelimit-limit"), ["1"], "only ours: {loud:?}");
    assert_eq!(
        (loud.fields.get("x-ratelimit-remaining"), loud.fields.get("x-ratelimit-reset")),
        (Some("0"), Some("3600"))
    );
    let refused = client.get("/loud");
    assert_eq!((refused.status, refused.fields.get("x-ratelimit-remaining")), (429, Some("0")));
}

#[test]
fn keys_are_what_they_say() {
    let upstream = upstream();
    let cases: [(&str, &str, &str, &str); 12] = [
        ("header.x-key", "X-Key: a\r\n", "X-Key: a\r\nX-Other: 1\r\n", "X-Key: b\r\n"),
        ("header.x-key", "", "X-Other: 1\r\n", "X-Key:\r\n"),
        ("header.x-key", "X-Key: a\r\nX-Key: b\r\n", "X-Key: c\r\nX-Key: d\r\n", "X-Key: a\r\n"),
        ("cookie.sid", "Cookie: a=1; sid=x\r\n", "Cookie: sid=x; b=2\r\n", "Cookie: sid=y\r\n"),
        ("cookie.sid", "Cookie: sid=x\r\n", "Cookie: sid=\"x\"\r\n", "Cookie: sid=x; sid=z\r\n"),
        (
            "ip",
            "X-Forwarded-For: 2001:db8:1:2::1\r\n",
            "X-Forwarded-For: 2001:db8:1:2:3::4\r\n",
            "X-Forwarded-For: 2001:db8:1:3::1\r\n",
        ),
        (
            "ip",
            "X-Forwarded-For: 203.0.113.9\r\n",
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n",
            "X-Forwarded-For: 203.0.113.8\r\n",
        ),
        (
            "ip",
            "X-Forwarded-For: 203.0.113.9:5555\r\n",
            "X-Forwarded-For: 6.6.6.6:1, 203.0.113.9:6666, 127.0.0.1:7777\r\n",
            "X-Forwarded-For: 203.0.113.8:5555\r\n",
        ),
        (
            "ip",
            "X-Forwarded-For: [2001:db8:1:2::1]:80\r\n",
            "X-Forwarded-For: [2001:db8:1:2::2]\r\n",
            "X-Forwarded-For: [2001:db8:1:3::1]:80\r\n",
        ),
        ("[ip, header.x-key]", "X-Key: a\r\n", "X-Key: a\r\n", "X-Key: b\r\n"),
        ("none", "X-Key: a\r\n", "X-Key: b\r\n", ""),
        ("principal", "X-Key: a\r\n", "X-Key: b\r\n", ""),
    ];
    for (key, first, same, other) in cases {
        let gateway = limited(&upstream, &format!("fair: {{ rate_limit: {{ rate: 1/h, key: {key} }} }}"), "[fair]")
            .top("trusted_proxies: [127.0.0.1]")
            .start();
        let mut client = Client::connect(&gateway);
        assert_eq!(client.ask(with(first)).status, 200, "{key}");
        assert_eq!(client.ask(with(same)).status, 429, "{key}: {first:?} and {same:?} are one");
        if !other.is_empty() {
            assert_eq!(client.ask(with(other)).status, 200, "{key}: {other:?} is another");
        }
    }
}

#[test]
fn parameters_queries_routes_and_listeners_are_keys() {
    let upstream = upstream();
    let filters = "user: { rate_limit: { rate: 1/h, key: path.id } }, tenant: { rate_limit: { rate: 1/h, key: query.t } }, \
                   way: { rate_limit: { rate: 1/h, key: [route, listener] } }";
    let gateway = limited(&upstream, filters, "[]")
        .route("match: { path: \"/user/{id}\" }, filters: [user], forward: { upstream: u }")
        .route("match: { path: \"/user/{id}/orders\" }, filters: [user], forward: { upstream: u }")
        .route("match: { path: /tenant }, filters: [tenant], forward: { upstream: u }")
        .route("match: { path: /x }, filters: [way], forward: { upstream: u }")
        .route("match: { path: /y }, filters: [way], forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    let mut ask = |path: &str| client.get(path).status;
    assert_eq!((ask("/user/7"), ask("/user/%37"), ask("/user/8")), (200, 429, 200));
    assert_eq!(ask("/user/7/orders"), 429, "a limit is shared by the routes that name it");
    assert_eq!(
        (ask("/tenant?t=a"), ask("/tenant?u=1&%74=%61"), ask("/tenant?t=b"), ask("/tenant")),
        (200, 429, 200, 200)
    );
    assert_eq!((ask("/tenant?t=c&t=d"), ask("/tenant?t=e&t=f")), (200, 429), "who has two chooses no fresh bucket");
    assert_eq!((ask("/x"), ask("/x"), ask("/y"), ask("/y")), (200, 429, 200, 429));
}

#[test]
fn of_several_limits_the_tightest_answers_and_costs_are_per_route() {
    let upstream = upstream();
    let filters = "day: { rate_limit: { rate: 10/d } }, hour: { rate_limit: { rate: 4/h } }";
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ {filters} }}"))
        .top("all_routes: { filters: [day] }")
        .listener("filters: [hour]")
        .route("match: { path: /cheap }, forward: { upstream: u }")
        .route("match: { path: /dear }, cost: { day: 5 }, forward: { upstream: u }")
        .route("match: { path: /free }, without: [day, hour], forward: { upstream: u }")
        .route("match: { path: /none }, cost: 0, forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    let cheap = client.get("/cheap");
    assert_eq!(cheap.fields.all("ratelimit-policy"), ["\"day\";q=10;w=86400", "\"hour\";q=4;w=3600"]);
    assert_eq!(cheap.fields.get("ratelimit"), Some("\"hour\";r=3;t=900"));
    assert_eq!(client.get("/dear").fields.get("ratelimit"), Some("\"day\";r=4;t=51840"));
    let refused = client.get("/dear");
    assert_eq!((refused.status, refused.fields.get("retry-after")), (429, Some("8640")), "4 left, 5 needed");
    assert_eq!(gateway.wait_log(|line| line["status"] == 429)["refused_by"], "day");
    assert!(!client.get("/free").fields.has("ratelimit"));
    assert!(!client.get("/none").fields.has("ratelimit"), "what costs nothing is not counted");
    assert_eq!(statuses(&mut client, "GET /cheap HTTP/1.1\r\nHost: h\r\n\r\n", 3), [200, 200, 429], "the hour's");
}

#[test]
fn who_is_refused_by_a_limit_of_his_own_takes_nothing_of_the_one_he_shares() {
    let upstream = upstream();
    let filters =
        "all: { rate_limit: { rate: 10/h, key: none } }, each: { rate_limit: { rate: 1/h, key: header.x-key } }";
    let gateway = limited(&upstream, filters, "[all, each]").start();
    let mut client = Client::connect(&gateway);
    let abuser = statuses(&mut client, &with("X-Key: abuser\r\n"), 30);
    assert_eq!((abuser[0], abuser[1..].iter().all(|status| *status == 429)), (200, true), "{abuser:?}");
    for n in 0..9 {
        assert_eq!(client.ask(with(&format!("X-Key: {n}\r\n"))).status, 200, "{n}");
    }
    assert_eq!(client.ask(with("X-Key: 9\r\n")).status, 429);
}

#[test]
fn who_waits_in_vain_takes_nothing_of_the_limits_before() {
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            if request.target == "/hold" {
                std::thread::sleep(Duration::from_millis(1500)); // so long the one place is taken
            }
            conn.write(ok("hello"));
        }
    });
    let filters = "all: { rate_limit: { rate: 3/h, key: none } }, \
                   one: { concurrency: { max: 1, key: none, queue: 5, queue_timeout: 100ms } }";
    let gateway = limited(&upstream, filters, "[all, one]").start();
    let mut holder = Client::connect(&gateway);
    holder.send("GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("it is there", || (in_flight(&gateway) == 1.0).then_some(()));
    let mut client = Client::connect(&gateway);
    assert_eq!(statuses(&mut client, &with(""), 4), [429; 4], "there is no place in time");
    assert_eq!(holder.response().status, 200);
    assert_eq!(statuses(&mut client, &with(""), 3), [200, 200, 429], "2 of 3 tokens are left");
}

#[test]
fn a_limit_behind_a_queue_decides_when_the_wait_is_over() {
    let upstream = Upstream::start(|conn| {
        while conn.request().is_some() {
            std::thread::sleep(Duration::from_millis(600)); // so long takes one request
            conn.write(ok("hello"));
        }
    });
    let filters = "one: { concurrency: { max: 1, key: none, queue: 5, queue_timeout: 10s } }, \
                   fair: { rate_limit: { rate: 2/s, burst: 1 } }";
    let gateway = limited(&upstream, filters, "[one, fair]").start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    clients.iter_mut().for_each(|client| client.send(with("")));
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.response().status).collect();
    assert_eq!(statuses, [200, 200, 200], "a token comes in while each of them waits");
}

#[test]
fn a_dry_run_marks_and_counts_and_lets_pass() {
    let upstream = upstream();
    let filters = format!(
        "one: {{ rate_limit: {{ {SLOW}, dry_run: true }} }}, two: {{ concurrency: {{ max: 1, dry_run: true }} }}"
    );
    let gateway = limited(&upstream, &filters, "[one, two]").start();
    let mut client = Client::connect(&gateway);
    assert_eq!(statuses(&mut client, &with(""), 3), [200, 200, 200]);
    let marked = gateway.wait_log(|line| line["would_refuse"].is_array());
    assert_eq!((&marked["would_refuse"], &marked["status"]), (&serde_json::json!(["one"]), &200.into()));
    assert!(!client.get("/a").fields.has("ratelimit"), "clients are not told of what does not hold yet");
    let counted =
        gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "one"), ("outcome", "would_refuse")]);
    assert_eq!(counted, 2.0);
}

#[test]
fn the_cores_of_a_process_share_one_bucket_exactly() {
    let upstream = upstream();
    let gateway = limited(&upstream, "fair: { rate_limit: { rate: 100/h } }", "[fair]").workers("2").start();
    let passed: usize = std::thread::scope(|scope| {
        let ask = |_| {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = Client::connect(gateway);
                (0..50).filter(|_| client.get("/a").status == 200).count()
            })
        };
        let clients: Vec<_> = (0..8).map(ask).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!((99..=101).contains(&passed), "{passed} of 400 requests passed a limit of 100");
}

#[test]
fn heads_and_bodies_of_refused_requests_do_no_harm() {
    let upstream = upstream();
    let gateway = limited(&upstream, "fair: { rate_limit: { rate: 1/h } }", "[fair]").start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/a").status, 200);
    client.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!((head.status, head.body.len()), (429, 0));
    assert!(head.fields.has("retry-after") && head.fields.has("ratelimit"));
    // A body that has come is read past; one that has not closes the connection behind the answer.
    assert_eq!(client.ask("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").status, 429);
    assert_eq!(client.get("/a").status, 429);
    client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc");
    assert_eq!(client.response().status, 429);
    client.is_closed();
}

#[test]
fn keys_beyond_the_table_share_a_bucket_and_memory_does_not_grow() {
    let upstream = upstream();
    let filter = "fair: { rate_limit: { rate: 1000/h, key: header.x-key, keys: 100 } }";
    let gateway = limited(&upstream, filter, "[fair]").start();
    let mut client = Client::connect(&gateway);
    let mut ask = |from: u32, to: u32| -> usize {
        let mut refused = 0;
        for n in from..to {
            refused += usize::from(client.ask(with(&format!("X-Key: {n}\r\n"))).status == 429);
        }
        refused
    };
    ask(0, 500);
    let before = gateway.rss();
    let refused = ask(500, 3500);
    assert!(gateway.rss() < before + (8 << 20), "{} to {}", before, gateway.rss());
    assert!(refused > 0, "3000 keys that were never seen share the 1000 tokens of the one bucket");
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("ringway_requests_active", &[])
}

mod concurrency {
    use super::*;
    use crate::support::Gate;

    fn busy(upstream: &Upstream, keys: &str) -> Gateway {
        limited(upstream, &format!("busy: {{ concurrency: {{ {keys} }} }}"), "[busy]").start()
    }

    #[test]
    fn one_too_many_is_refused_until_one_ends() {
        let gate = Gate::default();
        let upstream = Upstream::waits(&gate, "hello");
        let gateway = busy(&upstream, "max: 2");
        let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&gateway)).collect();
        clients.iter_mut().for_each(|client| client.send(with("")));
        eventually("two in flight", || (upstream.heads().len() == 2).then_some(()));
        let mut third = Client::connect(&gateway);
        let refused = third.ask(with(""));
        refused.is_gateways_own(429);
        assert_eq!((refused.json()["code"].as_u64(), refused.fields.get("retry-after")), (Some(42902), Some("1")));
        let line = gateway.wait_log(|line| line["status"] == 429);
        assert_eq!((&line["end"], &line["refused_by"]), (&"concurrency_limited".into(), &"busy".into()));
        gate.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
        assert_eq!(third.ask(with("")).status, 200);
    }

    #[test]
    fn a_place_is_free_again_however_its_request_ended() {
        let upstream = Upstream::start(never_answers);
        let gateway = busy(&upstream, "max: 1");
        for _ in 0..3 {
            let mut client = Client::connect(&gateway);
            client.send(with(""));
            let asked = upstream.heads().len() + 1;
            eventually("it is asked for", || {
                (upstream.heads().len() >= asked || in_flight(&gateway) == 1.0).then_some(())
            });
            drop(client);
            eventually("it has ended", || (in_flight(&gateway) == 0.0).then_some(()));
        }
        let mut client = Client::connect(&gateway);
        client.send(with(""));
        eventually("it is let through", || (in_flight(&gateway) == 1.0).then_some(()));
        assert_eq!(gateway.metrics().sum("ringway_filter_requests_total", &[("outcome", "refused")]), 0.0);
        assert_eq!(Client::connect(&gateway).ask(with("")).status, 429);
    }

    #[test]
    fn who_waits_comes_in_turn() {
        let gate = Gate::default();
        let upstream = Upstream::waits(&gate, "hello");
        let gateway = busy(&upstream, "max: 1, queue: 2, queue_timeout: 10s");
        let mut first = Client::connect(&gateway);
        first.send(with(""));
        eventually("one in flight", || (upstream.heads().len() == 1).then_some(()));
        let waited = || gateway.metrics().sum("ringway_filter_requests_total", &[("outcome", "waited")]);
        let mut waiting: Vec<Client> = Vec::new();
        for n in 0..2 {
            let mut client = Client::connect(&gateway);
            client.send(format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"));
            eventually("it waits", || (waited() == f64::from(n + 1)).then_some(()));
            waiting.push(client);
        }
        assert_eq!(Client::connect(&gateway).ask(with("")).status, 429, "the queue is full");
        gate.open();
        assert_eq!(first.response().status, 200);
        waiting.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
        let paths: Vec<String> = upstream.requests().iter().map(|r| r.target.clone()).collect();
        assert_eq!(paths, ["/a", "/0", "/1"], "first come, first served");
    }

    #[test]
    fn waiting_has_an_end() {
        let upstream = Upstream::start(never_answers);
        let gateway = busy(&upstream, "max: 1, queue: 5, queue_timeout: 1s");
        let mut first = Client::connect(&gateway);
        first.send(with(""));
        eventually("one in flight", || (upstream.heads().len() == 1).then_some(()));
        let start = Instant::now();
        let refused = Client::connect(&gateway).ask(with(""));
        refused.is_gateways_own(429);
        // Sleeps are longer than asked for: added up, the second was 2.1 s.
        assert!((990..1800).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(gateway.wait_log(|line| line["status"] == 429)["refused_by"], "busy");
        // Who leaves while waiting is not waited for: its place in the queue is free.
        let gateway = busy(&upstream, "max: 1, queue: 1, queue_timeout: 60s");
        let mut first = Client::connect(&gateway);
        first.send(with(""));
        eventually("one in flight", || (upstream.heads().len() == 2).then_some(()));
        let mut leaves = Client::connect(&gateway);
        leaves.send(with(""));
        eventually("two are there", || (in_flight(&gateway) == 2.0).then_some(()));
        drop(leaves);
        eventually("one has left", || (in_flight(&gateway) == 1.0).then_some(()));
        assert_eq!(gateway.wait_log(|line| line["end"] == "client_gone")["status"], 0);
    }

    #[test]
    fn the_routes_time_holds_while_waiting() {
        let upstream = Upstream::start(never_answers);
        let gateway = Setup::new()
            .upstream("u", &[&upstream], "")
            .top("filters: { busy: { concurrency: { max: 1, queue: 5, queue_timeout: 60s, key: none } } }")
            .route("match: { path: /slow }, filters: [busy], forward: { upstream: u }")
            .route("match: { path: /short }, filters: [busy], timeout: 100ms, forward: { upstream: u }")
            .start();
        let mut first = Client::connect(&gateway);
        first.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
        eventually("one in flight", || (upstream.heads().len() == 1).then_some(()));
        let late = Client::connect(&gateway).get("/short");
        late.is_gateways_own(504);
        assert_eq!(gateway.log_of("/short")["end"], "route_timeout");
    }
}
