//! WebSockets between programs that nobody here wrote: the client and the server of Python's `websockets`, with the gateway
//! in between.

use crate::support::names::{TUNNELS, TUNNELS_OPENED, end};
use crate::support::{Setup, eventually, foreign, tls};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

/// The distribution's own: what its package `python3-websockets` is for.
const PYTHON: &str = "/usr/bin/python3";
const PROGRAM: &str = include_str!("support/websocket.py");
const TUNNEL_COUNT: usize = 1000;
/// What a tunnel may cost while it waits, both connections and TLS on both of them included.
const TUNNEL_BYTES_MAX: u64 = 48 * 1024;

#[test]
fn messages_pings_and_close_codes_pass_and_a_thousand_tunnels_are_open_at_once() {
    let server = foreign::python_server_by(PYTHON, PROGRAM);
    let gateway = Setup::new().upstream_at("u", &format!("[\"{}\"]", server.addr), "").forward_all("").start();
    let url = format!("{}://{}", tls::either("wss", "ws"), gateway.addr);
    let mut command = Command::new(PYTHON);
    command.args(["-c", PROGRAM, "ask", &url, &TUNNEL_COUNT.to_string()]);
    if tls::is_on() {
        command.arg(&tls::files().ca);
    }
    let before = gateway.rss();
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    if line == "open\n" {
        gateway.wait_sum(TUNNELS, &[], TUNNEL_COUNT as f64);
        let each = (gateway.rss() - before) / TUNNEL_COUNT as u64;
        assert!(each < TUNNEL_BYTES_MAX, "{each} bytes for each");
        client.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        said.read_to_string(&mut line).unwrap();
    }
    let out = client.wait_with_output().unwrap();
    assert!(line == "open\ndone\n" && out.status.success(), "{line}{}", String::from_utf8_lossy(&out.stderr));
    gateway.wait_sum(TUNNELS, &[], 0.0);
    let opened = gateway.metrics().sum(TUNNELS_OPENED, &[]);
    assert_eq!(opened, (TUNNEL_COUNT + 4) as f64);
    let lines = eventually("a line each", || Some(gateway.log_lines()).filter(|lines| lines.len() as f64 == opened));
    let orderly = |ended: &str| [end::TUNNEL_CLIENT, end::TUNNEL_UPSTREAM].contains(&ended);
    let other: Vec<_> = lines.iter().filter(|line| !orderly(line["end"].as_str().unwrap())).collect();
    assert!(other.is_empty(), "{} like {:?}", other.len(), other[0]);
}
