//! Unix sockets, towards clients and towards upstreams: who may connect, whose paths are taken over, and what is known of a
//! client that has no address.

use crate::support::client::get;
use crate::support::foreign::{curl, curl_trust, output};
use crate::support::gateway::{self, BINARY, Process};
use crate::support::message::ok;
use crate::support::names::{CONNECTIONS, end};
use crate::support::{Client, Gateway, Setup, Upstream, eventually, foreign, free_port, temp_dir, tls};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A gateway that listens on a Unix socket too, which is the second listener.
fn with_socket(setup: Setup, keys: &str) -> (Gateway, PathBuf) {
    let path = temp_dir("socket").join("public.sock");
    let gateway = setup.another_listener(&format!("name: local, address: \"unix:{}\"{keys}", path.display())).start();
    (gateway, path)
}

/// Answers each request with its own head, and counts its connections.
fn unix_upstream() -> (PathBuf, Arc<AtomicUsize>) {
    let path = temp_dir("upstream").join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") && stream.write_all(&ok(std::mem::take(&mut head))).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (path, connections)
}

#[test]
fn curl_reaches_the_gateway_over_a_socket_and_by_port_side_by_side() {
    let upstream = Upstream::says("hello");
    for workers in ["1", "2"] {
        let (gateway, path) = with_socket(Setup::forward(&upstream).workers(workers), "");
        let socket = path.to_str().unwrap();
        for n in 0..4 {
            assert_eq!(curl(&["--unix-socket", socket, &format!("http://any/s{n}")]), "hello");
            assert_eq!(curl(&[&format!("{}/t{n}", foreign::url(gateway.addr))]), "hello");
        }
        let mut open = [Client::unix(&path), Client::unix(&path), Client::connect(&gateway)];
        for client in &mut open {
            assert_eq!(client.get("/open").text(), "hello");
        }
        gateway.wait_sum(CONNECTIONS, &[], 3.0); // those of curl are closed a moment behind its end
        let (line, other) = (gateway.log_of("/s3"), gateway.log_of("/t3"));
        assert_eq!((&line["client"], &other["client"]), (&"unix:".into(), &"127.0.0.1".into()));
        assert_eq!(line["end"], end::OK);
    }
}

#[test]
fn tls_is_spoken_over_a_socket_too() {
    let upstream = Upstream::says("hello");
    let files = tls::files();
    let keys =
        format!(", tls: {{ certificates: [{{ cert: {}, key: {} }}] }}", files.cert.display(), files.key.display());
    let (_gateway, path) = with_socket(Setup::forward(&upstream), &keys);
    let url = format!("https://{}/x", tls::NAME);
    let ca = ["--cacert", files.ca.to_str().unwrap()];
    let said = output("curl", &[&["-sS", "--unix-socket", path.to_str().unwrap()], &ca[..], &[&url, &url]].concat());
    assert_eq!(said, "hellohello");
}

#[test]
fn a_client_of_a_socket_has_no_address_and_what_it_says_of_others_counts_only_if_it_is_trusted() {
    let upstream = Upstream::says("ok");
    let ask = |top: &str, fields: &str| {
        let setup = Setup::new()
            .upstream("u", &[&upstream], "")
            .forward_path("/{*rest}", "request_headers: { set: { x-ip: \"<{client_ip}>\" } }");
        let (gateway, path) = with_socket(setup.top(top), "");
        let answer = Client::unix(&path).ask(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(answer.status, 200);
        let fields = upstream.requests().pop().unwrap().fields;
        let of = |name: &str| fields.get(name).map(str::to_owned);
        (of("x-ip").unwrap(), of("x-forwarded-for"), gateway.log_of("/a")["client"].clone())
    };
    let said = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n";
    assert_eq!(ask("", said), ("<>".into(), None, "unix:".into()));
    assert_eq!(ask("trusted_proxies: [0.0.0.0/0, \"::/0\"]", said), ("<>".into(), None, "unix:".into()));
    assert_eq!(ask("trusted_proxies: [unix]", ""), ("<>".into(), None, "unix:".into()));
    assert_eq!(
        ask("trusted_proxies: [unix]", said),
        ("<192.0.2.2>".into(), Some("192.0.2.1, 192.0.2.2".into()), "192.0.2.2".into())
    );
    assert_eq!(ask("trusted_proxies: [unix, 192.0.2.2]", said).0, "<192.0.2.1>");
}

#[test]
fn limits_take_all_clients_of_a_socket_for_one_and_lists_of_networks_hold_none_of_them() {
    let route = |path: &str, filter: &str| {
        format!("match: {{ path: {path} }}, filters: [{filter}], respond: {{ status: 200, body: ok }}")
    };
    let setup = Setup::new()
        .top(
            "filters: { few: { rate_limit: { rate: 1/h, burst: 2, key: ip } }, \
             some: { ip: { allow: [0.0.0.0/0, \"::/0\"] } }, others: { ip: { deny: [0.0.0.0/0] } } }",
        )
        .route(&route("/few", "few"))
        .route(&route("/some", "some"))
        .route(&route("/others", "others"));
    let (gateway, path) = with_socket(setup, "");
    let statuses = [(); 3].map(|()| Client::unix(&path).get("/few").status);
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(gateway.get("/few").status, 200, "a client with an address is another");
    assert_eq!(Client::unix(&path).get("/some").status, 403);
    assert_eq!(Client::unix(&path).get("/others").status, 200);
}

#[test]
fn a_cap_is_for_all_workers_together_and_exact() {
    for all in ["", "connections: 15"] {
        let (each, most) = if all.is_empty() { (11, [11, 11]) } else { (11, [11, 4]) };
        let setup = Setup::new().workers("2").plain().top(all).listener(&format!("bounds: {{ connections: {each} }}"));
        let (gateway, path) = with_socket(
            setup.route("match: { path: \"/{*rest}\" }, respond: { status: 200, body: ok }"),
            &format!(", bounds: {{ connections: {each} }}"),
        );
        let mut kept = Vec::new();
        let connects: [&dyn Fn() -> Client; 2] = [&|| Client::unix(&path), &|| Client::connect(&gateway)];
        for (connect, most) in connects.into_iter().zip(most) {
            for _ in 0..most {
                let mut client = connect();
                assert_eq!(client.get("/x").status, 200, "whichever worker it comes to");
                kept.push(client);
            }
            for _ in 0..3 {
                connect().response().is_gateways_own(503);
            }
        }
        let workers =
            ["0", "1"].map(|worker| gateway.metrics().sum("ringway_worker_connections", &[("worker", worker)]));
        assert!(workers.iter().sum::<f64>() == (most[0] + most[1]) as f64, "{workers:?}");
        drop(kept);
        eventually("places are free again", || {
            let mut client = Client::unix(&path);
            client.try_send(get("/x")).ok()?;
            client.try_response().is_ok_and(|answer| answer.status == 200).then_some(())
        });
    }
}

#[test]
fn the_mode_is_as_configured_and_the_path_is_gone_behind_the_end() {
    for (keys, mode) in [("", 0o660), (", mode: 0600", 0o600), (", mode: \"0666\"", 0o666)] {
        let (mut gateway, path) = with_socket(Setup::new(), keys);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        gateway.term();
        assert_eq!(gateway.wait_exit().code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn a_drain_finishes_what_runs_on_a_socket_and_a_new_gateway_takes_the_path_meanwhile() {
    let gate = crate::support::Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        while conn.request().is_some() {
            open.wait();
            conn.write(ok("finished"));
        }
    });
    let (mut gateway, path) = with_socket(Setup::forward(&upstream).workers("2"), "");
    let mut client = Client::unix(&path);
    client.send(get("/running"));
    upstream.wait_requests(1);
    let mut idle = Client::unix(&path);
    gateway.term();
    idle.is_closed();
    eventually("the path to be free", || (!path.exists()).then_some(()));
    let next = Setup::new().route("match: { path: /next }, respond: { body: next }");
    let keys = format!("name: local, address: \"unix:{}\"", path.display());
    let next = next.another_listener(&keys).start();
    assert_eq!(Client::unix(&path).get("/next").text(), "next");
    gate.open();
    assert_eq!(client.response().text(), "finished");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert_eq!(Client::unix(&path).get("/next").text(), "next", "the path of the new one was left alone");
    drop(next);
}

/// What a gateway says that can not have `path`.
fn refused(path: &Path) -> String {
    Setup::new().another_listener(&format!("name: local, address: \"unix:{}\"", path.display())).refused()
}

#[test]
fn only_the_socket_of_a_dead_gateway_is_taken_over() {
    let (mut gateway, path) = with_socket(Setup::new(), "");
    let said = refused(&path);
    assert!(said.contains("listener local: ") && said.contains("another process listens there: stop it"), "{said}");
    assert_eq!(Client::unix(&path).get("/x").status, 404, "and it was not disturbed");
    gateway.process.signal(rustix::process::Signal::KILL);
    gateway.wait_exit();
    assert!(path.exists());
    let after = Setup::new().another_listener(&format!("name: local, address: \"unix:{}\"", path.display())).start();
    assert_eq!(Client::unix(&path).get("/x").status, 404);
    drop(after);

    let dir = temp_dir("taken");
    let at = |name: &str| dir.join(name);
    std::fs::write(at("file"), "mine").unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
    for (path, what) in [
        (at("file"), "a file that is no socket"),
        (at("folder"), "a folder that is no socket"),
        (at("link"), "a symbolic link that is no socket"),
        (at("none/x"), "its folder does not exist"),
    ] {
        let said = refused(&path);
        assert!(said.contains(what), "{said}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "mine");
    let other = UnixListener::bind(at("other")).unwrap();
    assert!(refused(&at("other")).contains("another process listens there"));
    drop(other);
}

#[test]
fn doctor_says_what_is_in_the_way_of_a_socket() {
    let dir = temp_dir("doctor");
    let (free, taken, file) = (dir.join("free"), dir.join("taken"), dir.join("file"));
    let _listener = UnixListener::bind(&taken).unwrap();
    std::fs::write(&file, "").unwrap();
    let addresses = [&free, &taken, &file].map(|path| format!("{{ address: \"unix:{}\" }}", path.display()));
    let config = dir.join("gateway.yaml");
    std::fs::write(&config, format!("admin: off\nlisteners: [{}]\n", addresses.join(", "))).unwrap();
    let (_, said, _) = gateway::run(&["doctor", "-c", config.to_str().unwrap()]);
    for expected in ["free can be had", "another process listens there", "a file that is no socket"] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!free.exists(), "nothing was made");
}

#[test]
fn a_flood_of_connections_to_a_socket_is_capped_like_any_other() {
    // Few on both: what a machine has no room for would be cut in proportion.
    let setup = Setup::new().listener("bounds: { connections: 100 }");
    let (gateway, path) = with_socket(setup, ", bounds: { connections: 2 }");
    let mut held: Vec<Client> = (0..2).map(|_| Client::unix(&path)).collect();
    for client in &mut held {
        assert_eq!(client.get("/x").status, 404);
    }
    let mut over = Client::unix(&path);
    assert_eq!(over.response().status, 503);
    over.is_closed();
    assert_eq!(gateway.get("/x").status, 404, "the other listener has its own cap");
    drop(held);
    eventually("room", || (Client::unix(&path).get("/x").status == 404).then_some(()));
}

#[test]
fn an_upstream_on_a_socket_is_asked_and_its_connections_are_kept() {
    let (path, connections) = unix_upstream();
    let endpoint = format!("[\"unix:{}\"]", path.display());
    let gateway = Setup::new().plain_upstream_at("u", &endpoint, "").forward_all("").start();
    let mut client = Client::connect(&gateway);
    for n in 0..5 {
        let answer = client.get(&format!("/u{n}"));
        assert_eq!(answer.status, 200);
        let head = answer.text();
        assert!(head.starts_with(&format!("GET /u{n} HTTP/1.1\r\nHost: localhost\r\n")), "{head}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(gateway.log_of("/u4")["endpoint"], format!("unix:{}", path.display()));
}

#[test]
fn an_upstream_socket_that_is_not_there_or_dead_is_an_upstream_that_can_not_be_reached() {
    let dir = temp_dir("dead");
    let (none, dead, file) = (dir.join("none"), dir.join("dead"), dir.join("file"));
    drop(UnixListener::bind(&dead).unwrap());
    std::fs::write(&file, "").unwrap();
    for path in [none, dead, file] {
        let endpoint = format!("[\"unix:{}\"]", path.display());
        let gateway = Setup::new().plain_upstream_at("u", &endpoint, "").forward_all("").start();
        assert_eq!(gateway.get("/x").status, 503);
        assert_eq!(gateway.log_of("/x")["end"], "upstream_connect");
    }
}

#[test]
fn an_upstream_socket_whose_queue_is_full_is_waited_for_until_the_deadline_and_holds_up_nobody() {
    let path = temp_dir("full").join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        );
        let socket = socket.unwrap();
        let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => waiting.push(UnixStream::from(socket)),
            Err(e) => break assert_eq!(e, rustix::io::Errno::AGAIN),
        }
    }
    let endpoint = format!("[\"unix:{}\"]", path.display());
    let setup = Setup::new().plain_upstream_at("u", &endpoint, "timeouts: { connect: 300ms }");
    let gateway = setup.forward_path("/u", "").route("match: { path: /own }, respond: { body: own }").start();
    let mut client = Client::connect(&gateway);
    client.send(get("/u"));
    assert_eq!(gateway.get("/own").text(), "own", "the core goes on");
    assert_eq!(client.response().status, 504);
    // Room is made while the next one waits.
    client.send(get("/u"));
    let mut asked = Vec::new();
    for _ in 0..=waiting.len() {
        asked.push(listener.accept().unwrap().0);
    }
    let answers = asked.pop().map(|mut stream| {
        let mut head = [0; 4];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(&ok("there")).unwrap();
        stream
    });
    assert_eq!(client.response().text(), "there");
    drop((answers, waiting));
}

#[test]
fn nginx_is_an_upstream_on_a_socket_and_is_in_front_of_one() {
    let app = temp_dir("nginx-app").join("app.sock");
    let upstream = foreign::nginx(&format!(
        "server {{ listen unix:{}; location / {{ return 200 \"app $host $request_uri\\n\"; }} }}
         server {{ listen @listen@; return 204; }}",
        app.display()
    ));
    let endpoint = format!("[\"unix:{}\"]", app.display());
    let setup = Setup::new().plain_upstream_at("u", &endpoint, "").forward_all("").top("trusted_proxies: [unix]");
    let (gateway, path) = with_socket(setup, "");
    for n in 0..3 {
        let said = curl(&[&format!("{}/n{n}", foreign::url(gateway.addr))]);
        assert_eq!(said, format!("app localhost /n{n}\n"));
    }
    let front = foreign::nginx(&format!(
        "server {{ listen @listen@; location / {{ proxy_pass http://unix:{}:; proxy_http_version 1.1;
           proxy_set_header X-Forwarded-For $remote_addr; }} }}",
        path.display()
    ));
    let options = curl_trust();
    let url = format!("{}/front", foreign::url(front.addr));
    assert_eq!(curl(&[&options[..], &[&url]].concat()), "app localhost /front\n");
    assert_eq!(gateway.log_of("/front")["client"], "127.0.0.1", "as nginx says, who is trusted");
    drop(upstream);
}

#[test]
fn a_start_that_fails_behind_the_bind_leaves_no_path() {
    let dir = temp_dir("failed");
    let (path, config) = (dir.join("a.sock"), dir.join("gateway.yaml"));
    let port = free_port();
    let text = format!(
        "admin: off\nlisteners:\n- {{ address: \"unix:{}\" }}\n- {{ address: \"unix:{}/none/b.sock\" }}\n\
         - {{ address: \"127.0.0.1:{port}\" }}\n",
        path.display(),
        dir.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut process = Process::spawn(Command::new(BINARY).args(["run", "-c"]).arg(&config));
    assert_eq!(process.wait_exit(crate::support::PATIENCE).code(), Some(1));
    assert!(!path.exists(), "{}", process.output());
}

#[test]
fn all_listeners_together_have_a_cap_and_the_admin_api_is_not_counted() {
    let (gateway, path) = with_socket(Setup::new().plain().top("connections: 3"), "");
    let mut held = [Client::connect(&gateway), Client::connect(&gateway), Client::unix(&path)];
    for client in &mut held {
        assert_eq!(client.get("/x").status, 404);
    }
    for mut over in [Client::connect(&gateway), Client::unix(&path)] {
        assert_eq!(over.response().status, 503);
        over.is_closed();
    }
    assert_eq!(gateway::get(gateway.admin, "/readyz").map(|r| r.status), Some(200));
    assert_eq!(gateway.metrics().sum("ringway_connections_refused_total", &[]), 2.0);
    drop(held);
    eventually("room", || (Client::unix(&path).get("/x").status == 404).then_some(()));
}

#[test]
fn one_address_may_have_so_many_connections_but_a_socket_has_no_address() {
    let setup = Setup::new().plain().listener("bounds: { connections_per_client: 2 }");
    let (gateway, path) = with_socket(setup, ", bounds: { connections_per_client: 1 }");
    let mut held = [Client::connect(&gateway), Client::connect(&gateway), Client::unix(&path), Client::unix(&path)];
    for client in &mut held {
        assert_eq!(client.get("/x").status, 404);
    }
    let mut over = Client::connect(&gateway);
    assert_eq!(over.response().status, 503);
    over.is_closed();
    let url = format!("http://{}/x", gateway.addr);
    let other = output("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", "127.0.0.9", &url]);
    assert_eq!(other, "404");
    drop(held);
    eventually("room", || (Client::connect(&gateway).get("/x").status == 404).then_some(()));
}

/// A gateway whose admin API is on a path, with these keys beside its address.
fn with_admin(keys: &str) -> (Process, std::net::SocketAddr, PathBuf) {
    let dir = temp_dir("admin");
    let (port, path) = (free_port(), dir.join("admin.sock"));
    let text = format!(
        "listeners: [{{ address: \"127.0.0.1:{port}\" }}]\nadmin: {{ address: \"unix:{}\"{keys} }}\n\
         routes: [{{ match: {{ path: /x }}, respond: {{ body: ok }} }}]\nobserve: {{ access_log: {{ to: off }} }}\nworkers: 1\n",
        path.display()
    );
    let config = dir.join("gateway.yaml");
    std::fs::write(&config, text).unwrap();
    let process = Process::spawn(Command::new(BINARY).args(["run", "-c"]).arg(config));
    (process, (std::net::Ipv4Addr::LOCALHOST, port).into(), path)
}

/// What curl hears of the admin API: its status and its body.
fn ask_admin(path: &Path, page: &str) -> (String, String) {
    let (socket, url) = (path.to_str().unwrap(), format!("http://admin{page}"));
    let said = output("curl", &["-sS", "--max-time", "20", "-w", "%{http_code}", "--unix-socket", socket, &url]);
    let (body, status) = said.split_at(said.len() - 3);
    (status.to_owned(), body.to_owned())
}

fn is_ready(path: &Path) {
    eventually("the admin API to be ready", || {
        (UnixStream::connect(path).is_ok() && ask_admin(path, "/readyz").0 == "200").then_some(())
    });
}

#[test]
fn the_admin_api_is_asked_over_a_path_by_who_may_write_to_it() {
    for (keys, mode) in [("", 0o660), (", mode: 0600", 0o600)] {
        let (mut process, addr, path) = with_admin(keys);
        is_ready(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let line = format!("listening on http://{addr}, admin on unix:{}", path.display());
        eventually("the line of the start", || process.stderr.lock().unwrap().contains(&line).then_some(()));
        let (status, metrics) = ask_admin(&path, "/metrics");
        assert!(status == "200" && metrics.contains("\nringway_connections_active 0\n"), "{metrics}");
        assert_eq!(ask_admin(&path, "/healthz").0, "200");
        let (status, body) = ask_admin(&path, "/nothing");
        assert!(status == "404" && body.contains("40401"), "{body}");
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait_exit(crate::support::PATIENCE).code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn the_admin_api_keeps_its_path_while_it_drains_as_it_would_keep_a_port() {
    let (mut process, addr, path) = with_admin("");
    is_ready(&path);
    let mut held = std::net::TcpStream::connect(addr).unwrap();
    held.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n").unwrap();
    eventually("it to be there", || {
        ask_admin(&path, "/metrics").1.contains("\nringway_connections_active 1\n").then_some(())
    });
    process.signal(rustix::process::Signal::TERM);
    eventually("the drain to be told", || {
        let (status, body) = ask_admin(&path, "/readyz");
        (status == "503" && body.contains("\"draining\"")).then_some(())
    });
    held.write_all(b"\r\n").unwrap();
    let mut said = String::new();
    held.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert_eq!(process.wait_exit(crate::support::PATIENCE).code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_path_of_the_admin_api_is_taken_over_from_the_dead_only() {
    let (mut process, _, path) = with_admin("");
    is_ready(&path);
    let config = path.with_file_name("gateway.yaml");
    let config = config.to_str().unwrap();
    let again = std::fs::read_to_string(config).unwrap();
    let other = path.with_file_name("other.yaml");
    std::fs::write(&other, again.replacen("127.0.0.1:", "127.0.0.2:", 1)).unwrap();
    let other = other.to_str().unwrap();
    let (code, _, said) = gateway::run(&["run", "-c", other]);
    let expected = format!("admin: {}: another process listens there: stop it", path.display());
    assert!(code == 1 && said.contains(&expected), "{said}");
    assert_eq!(ask_admin(&path, "/healthz").0, "200", "and it was not disturbed");
    let (_, said, _) = gateway::run(&["doctor", "-c", other]);
    assert!(said.contains(&expected) && said.contains("all is well if it is the gateway itself"), "{said}");
    let (code, said, _) = gateway::run(&["explain", "GET", "/x", "-c", other]);
    assert!(code == 0 && said.contains("/x"), "{said}");
    process.signal(rustix::process::Signal::KILL);
    process.wait_exit(crate::support::PATIENCE);
    assert!(path.exists());
    let (_, said, _) = gateway::run(&["doctor", "-c", other]);
    assert!(said.contains(&format!("admin: unix:{} can be had", path.display())), "{said}");
    let next = Process::spawn(Command::new(BINARY).args(["run", "-c", other]));
    is_ready(&path);
    drop(next);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "mine").unwrap();
    let (code, _, said) = gateway::run(&["run", "-c", other]);
    assert!(code == 1 && said.contains("a file that is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
