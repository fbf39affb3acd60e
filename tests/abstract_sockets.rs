//! Abstract Unix sockets, towards clients, upstreams and operators: a name without a file, which goes with who holds it.

use crate::support::client::get;
use crate::support::foreign::{nginx, output};
use crate::support::gateway::{self, BINARY, Process};
use crate::support::message::ok;
use crate::support::{Gate, Gateway, Setup, Upstream, eventually, free_port, temp_dir, tls};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::Command;

/// A name that no other scenario has.
fn name(what: &str) -> String {
    format!("ringway-{what}-{}", std::process::id())
}

fn address(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).unwrap()
}

fn with_socket(setup: Setup, name: &str) -> Gateway {
    setup.another_listener(&format!("name: local, address: \"unix:@{name}\"")).start()
}

/// What curl gets from there.
fn curl(name: &str, url: &str) -> String {
    output("curl", &["-sS", "--max-time", "20", "--abstract-unix-socket", name, url])
}

#[test]
fn curl_reaches_the_gateway_by_a_name_without_a_file() {
    let upstream = Upstream::says("hello");
    for workers in ["1", "2"] {
        let name = name("curl");
        let mut gateway = with_socket(Setup::forward(&upstream).workers(workers), &name);
        for n in 0..4 {
            assert_eq!(curl(&name, &format!("http://any/s{n}")), "hello");
        }
        assert_eq!(gateway.log_of("/s3")["client"], "unix:");
        let refused = Setup::new().another_listener(&format!("name: b, address: \"unix:@{name}\"")).refused();
        assert!(refused.contains(&format!("listener b: @{name}: another process has that name")), "{refused}");
        assert_eq!(curl(&name, "http://any/after"), "hello", "and it was not disturbed");
        gateway.process.signal(rustix::process::Signal::KILL);
        gateway.wait_exit();
        let next = with_socket(Setup::forward(&upstream), &name);
        assert_eq!(curl(&name, "http://any/next"), "hello", "the dead leave nothing behind");
        drop(next);
    }
}

#[test]
fn a_drain_finishes_what_runs_and_a_new_gateway_takes_the_name_meanwhile() {
    let gate = Gate::default();
    let open = gate.clone();
    let upstream = Upstream::start(move |conn| {
        while conn.request().is_some() {
            open.wait();
            conn.write(ok("finished"));
        }
    });
    let name = name("drain");
    let mut gateway = with_socket(Setup::forward(&upstream).workers("2"), &name);
    let mut client = UnixStream::connect_addr(&address(&name)).unwrap();
    client.write_all(get("/running").as_bytes()).unwrap();
    upstream.wait_requests(1);
    gateway.term();
    eventually("the name to be free", || UnixStream::connect_addr(&address(&name)).is_err().then_some(()));
    let next = with_socket(Setup::new().route("match: { path: /next }, respond: { body: next }"), &name);
    assert_eq!(curl(&name, "http://any/next"), "next");
    gate.open();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("finished"), "{said}");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert_eq!(curl(&name, "http://any/next"), "next");
    drop(next);
}

/// nginx can not listen on one: socat stands in front of it.
#[test]
fn an_upstream_by_name_is_asked() {
    let server = nginx("server { listen @listen@; location / { return 200 \"nginx $http_host\"; } }");
    let name = name("upstream");
    let _socat = Process::spawn(
        Command::new("socat").args([format!("ABSTRACT-LISTEN:{name},fork"), format!("TCP:{}", server.addr)]),
    );
    eventually("socat to listen", || UnixStream::connect_addr(&address(&name)).ok());
    let endpoint = format!("[\"unix:@{name}\"]");
    let setup = match tls::is_on() {
        true => {
            let ca = tls::files().ca.display();
            let keys = format!("tls: {{ server_name: {}, ca: {ca} }}", tls::NAME);
            Setup::new().plain_upstream_at("u", &endpoint, &keys)
        }
        false => Setup::new().plain_upstream_at("u", &endpoint, ""),
    };
    let gateway = setup.forward_all("").start();
    for n in 0..3 {
        let answer = gateway.get(&format!("/u{n}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "nginx localhost"));
    }
    assert_eq!(gateway.log_of("/u2")["endpoint"], format!("unix:@{name}"));
}

#[test]
fn an_upstream_by_a_name_that_nobody_has_can_not_be_reached() {
    let endpoint = format!("[\"unix:@{}\"]", name("nobody"));
    let gateway = Setup::new().plain_upstream_at("u", &endpoint, "").forward_all("").start();
    assert_eq!(gateway.get("/x").status, 503);
    assert_eq!(gateway.log_of("/x")["end"], "upstream_connect");
}

#[test]
fn the_admin_api_has_a_name_and_doctor_and_explain_know_it() {
    let (dir, port, name) = (temp_dir("abstract"), free_port(), name("admin"));
    let config = dir.join("gateway.yaml");
    let text = format!(
        "listeners: [{{ address: \"unix:@{name}-x\" }}, {{ address: \"127.0.0.1:{port}\" }}]\nadmin: {{ address: \"unix:@{name}\" }}\n\
         routes: [{{ match: {{ path: /x }}, respond: {{ body: ok }} }}]\nobserve: {{ access_log: {{ to: off }} }}\nworkers: 1\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let (_, said, _) = gateway::run(&["doctor", "-c", config]);
    assert!(said.contains(&format!("admin: unix:@{name} can be had")), "{said}");
    assert!(said.contains(&format!("unix:@{name}-x can be had")), "{said}");
    let process = Process::spawn(Command::new(BINARY).args(["run", "-c", config]));
    let line = format!("listening on unix:@{name}-x, http://127.0.0.1:{port}, admin on unix:@{name}");
    eventually("the line of the start", || process.stderr.lock().unwrap().contains(&line).then_some(()));
    assert!(curl(&name, "http://admin/readyz").contains("\"ready\""));
    assert_eq!(curl(&format!("{name}-x"), "http://any/x"), "ok");
    let (_, said, _) = gateway::run(&["doctor", "-c", config]);
    assert!(said.contains(&format!("admin: @{name}: another process has that name")), "{said}");
    let (code, said, _) = gateway::run(&["explain", "GET", "/x", "-c", config]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn names_are_as_long_as_they_are_written() {
    let name = name("long");
    let longer = format!("{name}{}", "x".repeat(107 - name.len()));
    let _other = UnixListener::bind_addr(&address(&name)).unwrap();
    let gateway = with_socket(Setup::new().route("match: { path: /x }, respond: { body: ok }"), &longer);
    assert_eq!(curl(&longer, "http://any/x"), "ok");
    drop(gateway);
}
