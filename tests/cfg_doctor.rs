//! `ringway doctor` under limits, masks and filters as machines and containers have them.

use crate::support::gateway::BINARY;
use crate::support::{root, temp_dir};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

fn config(text: &str) -> PathBuf {
    let path = temp_dir("doctor").join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Exit code and what `ringway doctor` says, started by other programs that change what it may do.
fn doctor(by: &[&str], config: Option<&PathBuf>) -> (i32, String) {
    let mut args: Vec<&str> = by.to_vec();
    args.extend([BINARY, "doctor"]);
    args.extend(config.iter().flat_map(|path| ["-c", path.to_str().unwrap()]));
    let output = Command::new(args[0]).args(&args[1..]).env_remove("MONOIO_FORCE_LEGACY_DRIVER").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

/// The only line about something that is of this level.
fn line<'s>(said: &'s str, level: &str, about: &str) -> &'s str {
    let is = |line: &&str| line.split_ascii_whitespace().take(2).eq([level, about]);
    said.lines().find(is).unwrap_or_else(|| panic!("no {level} about {about}:\n{said}"))
}

#[test]
fn a_machine_as_it_is() {
    let (code, said) = doctor(&[], None);
    assert_eq!(code, 0, "{said}");
    for about in ["kernel", "io_uring", "descriptors", "cpus", "ports", "clock", "network"] {
        assert!(said.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some(about)), "{about}:\n{said}");
    }
    assert!(said.lines().last().unwrap().starts_with("0 errors, "), "{said}");
    assert!(said.lines().all(|line| line.len() > 10 && !line.contains("warning  warning")));
}

#[test]
fn few_descriptors_for_what_the_config_allows() {
    let path = config("listeners: [{ address: 127.0.0.1:0, bounds: { connections: 100 } }]\nadmin: off\n");
    let (code, said) = doctor(&["prlimit", "--nofile=100:100"], Some(&path));
    assert_eq!(code, 0, "{said}");
    let told = line(&said, "warning", "descriptors");
    assert!(told.contains("100 connections are allowed") && told.contains("LimitNOFILE="), "{told}");
    let (_, said) = doctor(&["prlimit", "--nofile=1000:4000"], Some(&path));
    assert!(line(&said, "ok", "descriptors").contains("4000"), "the hard limit counts, as for `run`: {said}");
}

#[test]
fn what_keeps_the_gateway_from_starting_is_an_error() {
    let path = config("workers: 1\nlisteners: [{ address: 127.0.0.1:0 }]\nadmin: off\n");
    let (code, said) = doctor(&["prlimit", "--nofile=20:20"], Some(&path));
    assert_eq!(code, 1, "{said}");
    assert!(line(&said, "error", "descriptors").contains("too few files"), "{said}");
    let run = Command::new("prlimit").args(["--nofile=20:20", BINARY, "run", "-c"]).arg(&path).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).contains("too few files"), "{run:?}");
    let log =
        "listeners: [{ address: 127.0.0.1:0 }]\nadmin: off\nobserve: { access_log: { to: /nowhere/access.log } }\n";
    let (code, said) = doctor(&[], Some(&config(log)));
    assert_eq!(code, 1, "{said}");
    assert!(line(&said, "error", "access_log").contains("/nowhere/access.log can not be written"), "{said}");
}

#[test]
fn a_mask_that_leaves_fewer_cpus_than_workers() {
    let path = config("workers: 3\nlisteners: [{ address: 127.0.0.1:0 }]\nadmin: off\n");
    let (_, said) = doctor(&["taskset", "-c", "0"], Some(&path));
    let told = line(&said, "warning", "cpus");
    assert!(told.contains("1 CPU: 3 workers") && told.contains("workers: auto"), "{told}");
    let path = config("workers: [0, 1]\nlisteners: [{ address: 127.0.0.1:0 }]\nadmin: off\n");
    let (code, said) = doctor(&["taskset", "-c", "0"], Some(&path));
    assert_eq!(code, 1, "{said}");
    assert!(line(&said, "error", "workers").contains("CPU 1"), "{said}");
    assert!(said.ends_with("1 error, 0 warnings\n") || said.contains("\n1 error, "), "{said}");
}

#[test]
fn io_uring_that_a_filter_forbids_or_the_environment() {
    let script = root().join("tests/support/refuse.py");
    let (code, said) = doctor(&["/usr/bin/python3", script.to_str().unwrap(), "io_uring"], None);
    assert_eq!(code, 0, "it runs on epoll: {said}");
    let told = line(&said, "warning", "io_uring");
    assert!(told.contains("epoll") && told.contains("seccomp") && told.contains("io_uring_setup"), "{told}");
    let (_, said) = doctor(&["env", "MONOIO_FORCE_LEGACY_DRIVER=1"], None);
    assert!(line(&said, "warning", "io_uring").contains("unset it"), "{said}");
}

#[test]
fn ports_that_are_taken_or_need_a_right() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let path = config(&format!("listeners: [{{ address: \"{address}\" }}]\nadmin: off\n"));
    let (code, said) = doctor(&[], Some(&path));
    assert_eq!(code, 0, "it may be the gateway: {said}");
    assert!(line(&said, "warning", "ports").contains("another process"), "{said}");

    let first: u16 =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    let path = config("listeners: [{ address: 127.0.0.1:79 }]\nadmin: off\n");
    let without: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-net_bind_service"],
        false => &[],
    };
    let (code, said) = doctor(without, Some(&path));
    if first > 79 {
        assert_eq!(code, 1, "{said}");
        assert!(line(&said, "error", "ports").contains("CAP_NET_BIND_SERVICE"), "{said}");
    } else {
        assert_eq!(code, 0, "every port is free for all here: {said}");
    }
}

#[test]
fn a_config_that_is_wrong_is_told_first() {
    let (code, said) = doctor(&[], Some(&config("listners: []\n")));
    assert_eq!(code, 1);
    assert!(said.contains("did you mean `listeners`?") && !said.contains("kernel"), "{said}");
}
