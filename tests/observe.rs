//! The access log, the metrics and the probes: every request is there once, and the numbers add up.

use crate::support::client::{get, post, post_chunked};
use crate::support::gateway::{self, BINARY, Process};
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::names::{self, end};
use crate::support::wire::Fault;
use crate::support::{Client, Gate, Setup, Upstream, eventually, free_port, temp_dir, tls};
use rustix::process::Signal;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

const FIELDS: [&str; 17] = [
    "time",
    "client",
    "method",
    "host",
    "path",
    "route",
    "upstream",
    "endpoint",
    "status",
    "bytes_in",
    "bytes_out",
    "total_us",
    "upstream_us",
    "added_us",
    "end",
    "request_id",
    "",
];

#[test]
fn a_log_line_has_exactly_these_fields_and_they_are_true() {
    let upstream = Upstream::start(|conn| {
        while conn.request().is_some() {
            std::thread::sleep(Duration::from_millis(60));
            conn.write(ok("hello"));
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let request = post("/a/b?token=secret", "hello world");
    let mut client = Client::connect(&gateway);
    client.send(&request);
    let answer = client.response();
    assert_eq!(answer.status, 200);
    let line = gateway.wait_log(|line| line["status"] == 200);
    let text = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!text.contains("secret"), "a query is not logged: {text}");
    let mut at = 0;
    for field in FIELDS.iter().filter(|f| !f.is_empty()) {
        let key = format!("\"{field}\":");
        let found = text[at..].find(&key).unwrap_or_else(|| panic!("{field} is missing or out of order: {text}"));
        at += found + key.len();
    }
    assert_eq!(line.as_object().unwrap().len(), FIELDS.len() - 1, "{line}");
    for (field, value) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "gw.test"),
        ("path", "/a/b"),
        ("route", "all"),
        ("upstream", "u"),
        ("endpoint", &upstream.addr.to_string()),
        ("end", end::OK),
        ("request_id", upstream.only_request().fields.get("x-request-id").unwrap()),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    let number = |field: &str| line[field].as_u64().unwrap_or_else(|| panic!("{field}: {line}"));
    assert_eq!(number("bytes_in"), request.len() as u64);
    assert!((5 + 30..5 + 400).contains(&number("bytes_out")), "{line}");
    let (total, waited, added) = (number("total_us"), number("upstream_us"), number("added_us"));
    assert!((50_000..5_000_000).contains(&waited), "{line}");
    assert!(total >= waited && added <= total, "{line}");
    assert!(total.abs_diff(waited + added) < 2_000, "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let days = now / 86_400;
    let year = 1970 + (days as f64 / 365.2425) as u64;
    assert!(time.starts_with(&year.to_string()), "{time}");
}

#[test]
fn every_request_has_one_line_and_only_one() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers("2").start();
    std::thread::scope(|scope| {
        for c in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = Client::connect(gateway);
                for n in 0..250 {
                    assert_eq!(client.get(&format!("/{c}/{n}")).status, 200);
                }
            });
        }
    });
    let lines = eventually("1000 lines", || Some(gateway.log_lines()).filter(|l| l.len() >= 1000));
    let mut paths: Vec<&str> = lines.iter().map(|l| l["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!((lines.len(), paths.len()), (1000, 1000));
    assert_eq!(gateway.metrics().sum(names::LOG_DROPPED, &[]), 0.0);
    // Readiness and metrics were asked for meanwhile: the admin listener is not in the log.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(gateway.log_lines().len(), 1000);
}

#[test]
fn answers_of_the_gateway_itself_are_logged_too() {
    let upstream = Upstream::says("never");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route("name: here, match: { path: /here }, respond: { status: 200, body: x }")
        .start();
    gateway.get("/here");
    gateway.get("/nowhere");
    let line = gateway.log_of("/here");
    assert_eq!((line["status"].as_u64(), line["route"].as_str()), (Some(200), Some("here")));
    assert!(line["upstream"].is_null() && line["endpoint"].is_null(), "{line}");
    assert_eq!(line["upstream_us"], 0);
    let line = gateway.log_of("/nowhere");
    assert_eq!((line["status"].as_u64(), line["end"].as_str()), (Some(404), Some(end::NOT_FOUND)));
    assert!(line["route"].is_null(), "{line}");
}

#[test]
fn hostile_text_can_not_break_a_log_line() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).start();
    let target = "/%22,%22end%22:%22x\"'<script>{}[]|^`%0a\\";
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target.replace('\\', "%25"));
    gateway.ask(&request);
    let _ = Client::connect(&gateway).ask(b"GET /\xff\xfe\"quote HTTP/1.1\r\nHost: a\r\n\r\n");
    let lines = eventually("two lines", || Some(gateway.log_lines()).filter(|l| l.len() >= 2));
    for line in lines {
        assert_eq!(line.as_object().unwrap().len(), FIELDS.len() - 1, "{line}");
    }
}

#[test]
fn the_metrics_add_up() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_all("")
        .route("name: gone, match: { path: /gone }, respond: { status: 410 }")
        .workers("2")
        .start();
    let before = gateway.metrics();
    for _ in 0..7 {
        gateway.get("/x");
    }
    let mut client = Client::connect(&gateway);
    for _ in 0..5 {
        client.get("/gone");
    }
    client.ask(post("/up", vec![b'x'; 10_000]));
    client.ask(post_chunked("/up", &[b'x'; 10_000], 1000));
    let after = eventually("14 requests counted", || {
        let metrics = gateway.metrics();
        (metrics.sum(names::REQUESTS, &[]) - before.sum(names::REQUESTS, &[]) >= 14.0).then_some(metrics)
    });
    let grew = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    assert_eq!(grew(names::REQUESTS, &[]), 14.0);
    assert_eq!(grew(names::REQUESTS, &[("route", "gone")]), 5.0);
    assert_eq!(grew(names::REQUESTS, &[("route", "all"), ("code", "2xx")]), 9.0);
    assert_eq!(grew(names::REQUESTS, &[("code", "4xx")]), 5.0);
    assert_eq!(grew(names::ENDS, &[]), 14.0);
    assert_eq!(grew(names::ENDS, &[("end", end::OK)]), 14.0);
    assert_eq!(grew(&format!("{}_count", names::DURATION), &[]), 14.0);
    assert_eq!(grew(names::UPSTREAM_REQUESTS, &[("upstream", "u")]), 9.0);
    assert_eq!(grew(names::ACCEPTED, &[]), 8.0);
    assert!(
        (20_000.0..22_000.0).contains(&grew(names::RECEIVED, &[("route", "all")])),
        "{}",
        grew(names::RECEIVED, &[])
    );
    assert!((20_000.0..23_000.0).contains(&grew(names::SENT, &[("route", "all")])), "{}", grew(names::SENT, &[]));
    let lines = eventually("14 lines", || Some(gateway.log_lines()).filter(|l| l.len() >= 14));
    let logged: u64 = lines.iter().filter(|l| l["route"] == "all").map(|l| l["bytes_in"].as_u64().unwrap()).sum();
    assert_eq!(logged as f64, grew(names::RECEIVED, &[("route", "all")]), "log and metrics tell the same");
    assert_eq!(after.sum(names::REQUESTS_ACTIVE, &[]), 0.0);
    eventually("one connection is open", || (gateway.metrics().sum(names::CONNECTIONS, &[]) == 1.0).then_some(()));
    drop(client);
    eventually("no connection is open", || (gateway.metrics().sum(names::CONNECTIONS, &[]) == 0.0).then_some(()));
}

#[test]
fn requests_in_progress_are_shown_while_they_last() {
    let gate = Gate::default();
    let upstream = Upstream::waits(&gate, "ok");
    let gateway = Setup::forward(&upstream).start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        client.send(get("/x"));
    }
    upstream.wait_requests(3);
    eventually("three in progress", || (gateway.metrics().sum(names::REQUESTS_ACTIVE, &[]) == 3.0).then_some(()));
    assert_eq!(gateway.metrics().sum(names::CONNECTIONS, &[]), 3.0);
    gate.open();
    for client in &mut clients {
        client.response();
    }
    eventually("none in progress", || (gateway.metrics().sum(names::REQUESTS_ACTIVE, &[]) == 0.0).then_some(()));
}

#[test]
fn the_driver_is_the_one_that_this_run_is_about() {
    let epoll = std::env::var("MONOIO_FORCE_LEGACY_DRIVER").is_ok_and(|v| v == "1");
    let expected = if epoll { "epoll" } else { "io_uring" };
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers("2").start();
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum(names::DRIVER, &[("driver", expected)]), 2.0, "{:?}", metrics.find(names::DRIVER, &[]));
    assert_eq!(metrics.sum(names::DRIVER, &[]), 2.0);
    let said = eventually("it says where it listens, its last word", || {
        Some(gateway.process.output()).filter(|said| said.contains("ringway: listening on "))
    });
    assert_eq!(said.matches(&format!("ringway: 2 workers on {expected}")).count(), 1, "one line for all:\n{said}");
    let times = said.matches("io_uring is not used").count();
    assert_eq!(times, usize::from(epoll), "the cause is told once, if there is one:\n{said}");
}

#[test]
fn workers_that_share_a_cpu_are_warned_about() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers(&(cpus + 1).to_string()).start();
    eventually("a warning", || {
        let said = gateway.process.output();
        said.contains(&format!("warning: {} workers share {cpus} CPU", cpus + 1)).then_some(())
    });
}

#[test]
fn control_keeps_off_the_workers_cpus_where_there_are_others() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers("1").start();
    let task = format!("/proc/{0}/task", gateway.process.pid());
    let cpus_of = |thread: &str| -> Vec<String> {
        let tasks = std::fs::read_dir(&task).unwrap().flatten();
        let named = tasks
            .filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|name| name.trim_end() == thread));
        let lines = named.filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok());
        lines
            .filter_map(|s| Some(s.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?.trim().to_string()))
            .collect()
    };
    let worker = cpus_of("worker-0");
    assert_eq!(worker.len(), 1);
    for thread in ["ringway", "operator", "access-log"] {
        let cpus = cpus_of(thread);
        assert_eq!(cpus.len(), 1, "{thread}: {cpus:?}");
        let alone = std::thread::available_parallelism().unwrap().get() == 1;
        assert_eq!(cpus == worker, alone, "{thread} runs on {cpus:?}, the worker on {worker:?}");
    }
}

#[test]
fn while_names_are_looked_up_the_admin_listener_answers_and_a_signal_is_heard() {
    // A name server that never answers, for this process alone. Without the rights to make one there is nothing to see.
    let may = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    let (true, Ok(_silent)) = (may, UdpSocket::bind("127.53.53.53:53")) else { return };
    let (dir, admin) = (temp_dir("silent"), free_port());
    let (config, servers) = (dir.join("gateway.yaml"), dir.join("resolv.conf"));
    std::fs::write(&servers, "nameserver 127.53.53.53\n").unwrap();
    let setup = Setup::new().upstream_at("u", "[\"slow.example.com:80\"]", "").forward_all("");
    std::fs::write(&config, setup.yaml(free_port(), admin, &dir.join("log"))).unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", servers.display());
    let mut command = Command::new("unshare");
    let mut process = Process::spawn(command.args(["-m", "sh", "-c", &script, "sh", BINARY, "run", "-c"]).arg(&config));
    let admin = (std::net::Ipv4Addr::LOCALHOST, admin).into();
    let ready = eventually("an answer", || gateway::get(admin, "/readyz"));
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("starting")));
    assert_eq!(ready.json()["unresolved"], serde_json::json!([]), "the look-up is not over");
    assert_eq!(gateway::get(admin, "/healthz").unwrap().status, 200);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(Duration::from_secs(2)).code(), Some(0));
}

#[test]
fn the_admin_listener_answers_probes_and_nothing_else() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).start();
    let get = |path: &str| gateway::get(gateway.admin, path).unwrap();
    assert_eq!(get("/healthz").status, 200);
    let ready = get("/readyz");
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
    assert!(ready.text().ends_with("}\n"), "a line of its own in a terminal");
    assert_eq!(get("/nothing").status, 404);
    assert!(get("/metrics").fields.get("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert_eq!(gateway.get("/healthz").text(), "ok", "the public listener forwards this path like any other");
}

#[test]
fn workers_auto_takes_every_core_it_may_use() {
    let upstream = Upstream::start(answers(ok("ok")));
    let gateway = Setup::forward(&upstream).workers("auto").start();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(gateway.metrics().find(names::DRIVER, &[]).len(), cores);
    let pinned = Setup::forward(&upstream).workers("[0]").start();
    assert_eq!(pinned.metrics().find(names::DRIVER, &[]).len(), 1);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pinned.process.pid())).unwrap();
    let allowed: Vec<String> = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|s| {
            Some(s.lines().find(|l| l.starts_with("Cpus_allowed_list:"))?.split_whitespace().nth(1)?.to_string())
        })
        .collect();
    assert!(allowed.iter().any(|cpus| cpus == "0"), "no thread is pinned: {allowed:?}");
}

#[test]
fn at_the_cap_a_connection_is_told_503_and_closed() {
    let upstream = Upstream::says("ok");
    // Over TLS it is closed without an answer: a handshake only to say no would cost more than it says.
    let gateway = Setup::forward(&upstream).plain().listener("bounds: { connections: 3 }").start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/x").status, 200);
    }
    let mut one_too_many = Client::connect(&gateway);
    let _ = one_too_many.try_send(get("/x"));
    let answer = one_too_many.response();
    assert_eq!(answer.status, 503, "{answer:?}");
    one_too_many.is_gone();
    assert_eq!(gateway.metrics().sum("ringway_connections_refused_total", &[]), 1.0);
    clients.pop();
    eventually("there is room again", || {
        let mut client = Client::connect(&gateway);
        let _ = client.try_send(get("/x"));
        client.try_response().is_ok_and(|r| r.status == 200).then_some(())
    });
    assert_eq!(clients[0].get("/x").status, 200, "the others never noticed");
    let gateway = Setup::forward(&upstream).listener("bounds: { connections: 1 }").start();
    let mut first = Client::connect(&gateway);
    assert_eq!(first.get("/x").status, 200);
    let told = Client::connect(&gateway).try_response();
    match tls::is_on() {
        true => assert!(matches!(told, Err(Fault::Cut | Fault::Reset)), "{told:?}"),
        false => assert!(told.is_ok_and(|answer| answer.status == 503)),
    }
    assert_eq!(gateway.metrics().sum("ringway_connections_refused_total", &[]), 1.0);
    assert_eq!(first.get("/x").status, 200, "who was there stays");
}

#[test]
fn requests_that_wait_for_an_upstream_are_counted_while_they_do() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        conn.head();
        open.wait();
        conn.write(ok("late"));
    });
    let gateway = Setup::forward(&upstream).start();
    let in_flight =
        |n: f64| (gateway.metrics().sum("ringway_upstream_in_flight", &[("upstream", "u")]) == n).then_some(());
    eventually("none waits", || in_flight(0.0));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&gateway)).collect();
    clients.iter_mut().for_each(|client| client.send(get("/x")));
    eventually("three wait", || in_flight(3.0));
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "late"));
    eventually("none waits any more", || in_flight(0.0));
}
