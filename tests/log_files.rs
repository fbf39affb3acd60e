//! The access log's file under load and in trouble: rotated by logrotate, on a full disk, in a directory that is gone, and a
//! named pipe. No line is lost, cut or written twice where there is room; no request waits; it is told once.

use crate::support::foreign::curl;
use crate::support::gateway::{self, BINARY, Gateway, Process};
use crate::support::load::Stop;
use crate::support::metrics::Metrics;
use crate::support::{Client, PATIENCE, Setup, eventually, free_port, names, temp_dir, tls};
use rustix::process::Signal;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

fn answering() -> Setup {
    Setup::new().route("match: { path: \"/{*rest}\" }, respond: { body: a }")
}

/// Client and number of each line, by its path `/client/number`, in the order of the file.
fn requests(file: &Path) -> Vec<(usize, usize)> {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{}: its last line is cut", file.display());
    let request = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (client, number) = line["path"].as_str().unwrap()[1..].split_once('/').unwrap();
        (client.parse().unwrap(), number.parse().unwrap())
    };
    text.lines().map(request).collect()
}

#[test]
fn rotations_under_load_lose_no_line_and_none_is_in_the_wrong_file() {
    const CLIENTS: usize = 4;
    let gateway = answering().workers("2").start();
    let conf = |signal: &str| {
        format!(
            "{} {{\n rotate 99\n nocreate\n sharedscripts\n postrotate\n kill -{signal} {}\n endscript\n}}\n",
            gateway.log.display(),
            gateway.process.pid()
        )
    };
    let dir = temp_dir("rotations");
    std::fs::set_permissions(&gateway.dir, PermissionsExt::from_mode(0o755)).unwrap();
    let rotations = ["USR1", "HUP", "USR1", "HUP", "USR1"];
    let stop = AtomicBool::new(false);
    let sent: Vec<usize> = std::thread::scope(|scope| {
        let client = |n: usize| {
            let (gateway, stop) = (&gateway, &stop);
            move || {
                let (mut client, mut sent) = (Client::connect(gateway), 0);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get(&format!("/{n}/{sent}")).status, 200);
                    sent += 1;
                }
                sent
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(client(n))).collect();
        let stopped = Stop(&stop);
        for (n, signal) in rotations.iter().enumerate() {
            let conf_file = dir.join(format!("conf-{n}"));
            std::fs::write(&conf_file, conf(signal)).unwrap();
            std::fs::set_permissions(&conf_file, PermissionsExt::from_mode(0o644)).unwrap();
            eventually("lines before a rotation", || {
                std::fs::metadata(&gateway.log).is_ok_and(|about| about.len() > 20_000).then_some(())
            });
            let done = Command::new("logrotate")
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .args(["-f", "-s"])
                .args([dir.join("state"), conf_file])
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            eventually("a new file", || gateway.log.exists().then_some(()));
        }
        drop(stopped);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let all: usize = sent.iter().sum();
    let mode = std::fs::metadata(&gateway.log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "no more than 0640: {mode:o}");
    // The oldest has the highest number.
    let rotated = (1..=rotations.len()).rev().map(|n| gateway.log.with_extension(format!("log.{n}")));
    let files: Vec<_> = rotated.chain([gateway.log.clone()]).collect();
    let found = eventually("all lines", || {
        let found: Vec<_> = files.iter().map(|file| requests(file)).collect();
        (found.iter().map(Vec::len).sum::<usize>() >= all).then_some(found)
    });
    assert!(found.iter().take(rotations.len()).all(|file| !file.is_empty()));
    // Each client's requests follow each other, also from file to file, each once.
    let mut next = [0; CLIENTS];
    for (client, number) in found.into_iter().flatten() {
        assert_eq!(number, next[client], "of client {client}");
        next[client] += 1;
    }
    assert_eq!(next.to_vec(), sent);
    let metrics = gateway.metrics();
    assert_eq!((metrics.sum(names::LOG_DROPPED, &[]), metrics.sum("ringway_log_lines_lost_total", &[])), (0.0, 0.0));
}

/// How often the gateway has said this.
fn said(process: &Process, what: &str) -> usize {
    process.output().matches(what).count()
}

#[test]
fn on_a_full_disk_no_request_waits_and_no_line_is_lost_while_memory_lasts() {
    if tls::is_on() {
        return; // the disk knows nothing of it, and this gateway is started by hand
    }
    // A disk of its own for this process alone. Without the rights to make one there is nothing to see.
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        return;
    }
    let (dir, port, admin) = (temp_dir("full"), free_port(), free_port());
    let disk = dir.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let config = dir.join("gateway.yaml");
    std::fs::write(&config, answering().plain().yaml(port, admin, &disk.join("access.log"))).unwrap();
    let script = format!("mount -t tmpfs -o size=64k none {} && exec \"$@\"", disk.display());
    let mut command = Command::new("unshare");
    let process = Process::spawn(command.args(["-m", "sh", "-c", &script, "sh", BINARY, "run", "-c"]).arg(&config));
    let admin = (std::net::Ipv4Addr::LOCALHOST, admin).into();
    eventually("it is ready", || (gateway::get(admin, "/readyz")?.status == 200).then_some(()));
    let inside = Path::new("/proc").join(process.pid().to_string()).join("root").join(disk.strip_prefix("/").unwrap());
    let filler = inside.join("filler");
    std::fs::write(&filler, vec![b'x'; 40 << 10]).unwrap();
    let gateway_at = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let mut client = Client::to(gateway_at);
    (0..200).for_each(|n| assert_eq!(client.get(&format!("/0/{n}")).status, 200));
    eventually("it is told", || (said(&process, "can not be written to") == 1).then_some(()));
    // Nothing was rotated: the half of a line that is there gets its other half.
    process.signal(Signal::HUP);
    (200..300).for_each(|n| assert_eq!(client.get(&format!("/0/{n}")).status, 200));
    // A disk that has more room: the log is more than there was.
    std::fs::remove_file(&filler).unwrap();
    let log = inside.join("access.log");
    let remount = Command::new("nsenter")
        .args(["-t", &process.pid().to_string(), "-m", "mount", "-o", "remount,size=1m"])
        .arg(&disk)
        .status();
    assert!(remount.unwrap().success());
    eventually("all lines", || (std::fs::read_to_string(&log).unwrap().lines().count() == 300).then_some(()));
    assert_eq!(requests(&log), (0..300).map(|n| (0, n)).collect::<Vec<_>>());
    eventually("it is told that it is over", || (said(&process, "again") == 1).then_some(()));
    assert_eq!(said(&process, "can not be written to"), 1, "{}", process.output());
}

#[test]
fn a_named_pipe_that_nobody_reads_holds_nothing_up() {
    let dir = temp_dir("pipe");
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut gateway = answering().log(pipe.to_str().unwrap()).start();
    // More than the pipe and the memory of a core have room for: 6 MB.
    let long = "x".repeat(6000);
    let mut client = Client::connect(&gateway);
    (0..1000).for_each(|n| assert_eq!(client.get(&format!("/{n}/{long}")).status, 200));
    let dropped = || gateway.metrics().sum(names::LOG_DROPPED, &[]);
    eventually("lines are dropped", || (dropped() > 0.0).then_some(()));
    eventually("it is told", || (said(&gateway.process, "which takes nothing") == 1).then_some(()));
    let text = dir.join("text");
    let mut reader = Command::new("sh").args(["-c", "exec cat \"$0\" > \"$1\""]).args([&pipe, &text]).spawn().unwrap();
    let lines = eventually("the lines that were kept", || {
        let text = std::fs::read_to_string(&text).unwrap_or_default();
        (text.lines().count() as f64 >= 1000.0 - dropped() && text.ends_with('\n')).then_some(text)
    });
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "each is whole");
    eventually("it is told that it is over", || (said(&gateway.process, "again") == 1).then_some(()));
    // The next reader gets what comes while there is none.
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(client.get("/later").status, 200);
    let later = Command::new("timeout").args(["10", "head", "-n", "1"]).arg(&pipe).output().unwrap();
    assert!(String::from_utf8_lossy(&later.stdout).contains("\"path\":\"/later\""), "{later:?}");
    gateway.term();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_directory_that_is_gone_is_told_once_and_the_log_is_back_when_it_is() {
    let dir = temp_dir("gone").join("logs");
    std::fs::create_dir(&dir).unwrap();
    let log = dir.join("access.log");
    let gateway: Gateway = answering().log(log.to_str().unwrap()).start();
    gateway.get("/0/0");
    eventually("a line", || (requests(&log).len() == 1).then_some(()));
    std::fs::remove_dir_all(&dir).unwrap();
    gateway.process.signal(Signal::USR1);
    eventually("it is told", || (said(&gateway.process, "cannot open the access log") == 1).then_some(()));
    gateway.process.signal(Signal::HUP);
    assert_eq!(gateway.get("/0/1").status, 200);
    std::fs::create_dir(&dir).unwrap();
    eventually("the log is back", || log.exists().then_some(()));
    gateway.get("/0/2");
    eventually("its next line", || requests(&log).contains(&(0, 2)).then_some(()));
    assert_eq!(said(&gateway.process, "cannot open the access log"), 1, "{}", gateway.process.output());
    eventually("it is told that it is back", || (said(&gateway.process, "is open") == 1).then_some(()));
    // One that was removed without a word is made anew as well.
    std::fs::remove_file(&log).unwrap();
    eventually("a new file", || log.exists().then_some(()));
}

#[test]
fn a_file_that_may_not_grow_any_more_ends_nothing() {
    let dir = temp_dir("long");
    let log = dir.join("access.log");
    let (port, admin) = (free_port(), free_port());
    let config = dir.join("gateway.yaml");
    let yaml = format!(
        "workers: 1\nadmin: {{ address: '127.0.0.1:{admin}' }}\nlisteners: [{{ address: '127.0.0.1:{port}' }}]\n\
         observe: {{ access_log: {{ to: {} }} }}\nroutes: [{{ match: {{ path: /a }}, respond: {{}} }}]\n",
        log.display()
    );
    std::fs::write(&config, yaml).unwrap();
    // 4 KiB.
    let mut process =
        Process::spawn(Command::new("prlimit").arg("--fsize=4096").arg(BINARY).args(["run", "-c"]).arg(&config));
    eventually("it listens", || process.output().contains("listening on").then_some(()));
    let ask = |n: u32| curl(&["-o", "/dev/null", "-w", "%{http_code} ", &format!("http://127.0.0.1:{port}/a?[1-{n}]")]);
    assert_eq!(ask(100), "200 ".repeat(100));
    eventually("it is told", || process.output().contains("can not be written").then_some(()));
    assert_eq!(ask(1), "200 ");
    assert!(process.exited().is_none());
}

/// A gateway whose standard output, and with `2>&1` its standard error too, is a pipe that blocks; and its reader.
struct Piped {
    process: Process,
    reader: File,
    gateway: SocketAddr,
    admin: SocketAddr,
}

fn piped(redirect: &str) -> Piped {
    let (dir, port, admin) = (temp_dir("stdout"), free_port(), free_port());
    let (config, pipe) = (dir.join("gateway.yaml"), dir.join("pipe"));
    std::fs::write(&config, answering().plain().log("stdout").yaml(port, admin, Path::new("-"))).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let script = format!("exec \"$0\" run -c \"$1\" > \"$2\" {redirect}");
    let process = Process::spawn(Command::new("sh").args(["-c", &script, BINARY]).args([&config, &pipe]));
    // It is open for reading once the shell has opened it for writing.
    let reader = File::open(pipe).unwrap();
    let (gateway, admin) = ((Ipv4Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, admin).into());
    eventually("it is ready", || (gateway::get(admin, "/readyz")?.status == 200).then_some(()));
    Piped { process, reader, gateway, admin }
}

fn sum(admin: SocketAddr, name: &str) -> f64 {
    Metrics::parse(&gateway::get(admin, "/metrics").unwrap().text()).unwrap().sum(name, &[])
}

#[test]
fn standard_output_that_nobody_reads_is_told_and_holds_nothing_up() {
    if tls::is_on() {
        return; // the pipe knows nothing of it, and this gateway is started by hand
    }
    let Piped { mut process, mut reader, gateway, admin } = piped("");
    let long = "x".repeat(6000);
    let mut client = Client::to(gateway);
    (0..1000).for_each(|n| assert_eq!(client.get(&format!("/{n}/{long}")).status, 200));
    eventually("lines are dropped", || (sum(admin, names::LOG_DROPPED) > 0.0).then_some(()));
    eventually("it is told", || (said(&process, "waits for stdout, which takes nothing") == 1).then_some(()));
    let reads = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    eventually("it is told that it is over", || (said(&process, "written to stdout again") == 1).then_some(()));
    let dropped = sum(admin, names::LOG_DROPPED);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(0));
    let text = reads.join().unwrap().unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "each is whole");
    assert_eq!(text.lines().count() as f64, 1000.0 - dropped);
}

#[test]
fn what_the_gateway_says_is_never_within_a_line_of_a_log_that_shares_the_stream() {
    if tls::is_on() {
        return; // the pipe knows nothing of it, and this gateway is started by hand
    }
    let Piped { mut process, mut reader, gateway, .. } = piped("2>&1");
    // More than the pipe takes, and each more than it takes in one piece.
    let long = "x".repeat(6000);
    let mut client = Client::to(gateway);
    (0..100).for_each(|n| assert_eq!(client.get(&format!("/{n}/{long}")).status, 200));
    eventually("the pipe is full", || (rustix::io::ioctl_fionread(&reader).unwrap() > 32 << 10).then_some(()));
    process.signal(Signal::TERM);
    client.is_closed();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(0));
    let (told, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("ringway: "));
    assert!(told.iter().any(|line| line.contains("draining")), "{told:?}");
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "each is whole");
    assert_eq!(lines.len(), 100);
}

#[test]
fn signals_lose_no_line_of_a_pipe_whose_reader_is_slow() {
    let pipe = temp_dir("slow").join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut gateway = answering().log(pipe.to_str().unwrap()).start();
    let mut reader = File::open(&pipe).unwrap();
    // More than the pipe takes, so that one of them is cut in the middle, and less than the memory of a core.
    let long = "x".repeat(1200);
    let mut client = Client::connect(&gateway);
    (0..300).for_each(|n| assert_eq!(client.get(&format!("/{n}/{long}")).status, 200));
    let mut read = vec![0; 100 << 10];
    for piece in read.chunks_mut(5 << 10) {
        gateway.process.signal(Signal::HUP);
        gateway.metrics();
        gateway.process.signal(Signal::USR1);
        reader.read_exact(piece).unwrap();
    }
    gateway.term();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let text = String::from_utf8(read).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "each is whole");
    assert_eq!(text.lines().count(), 300);
}

#[test]
fn a_file_that_ends_in_half_a_line_is_gone_on_with_on_the_next() {
    let log = temp_dir("half").join("access.log");
    std::fs::write(&log, "{\"time\":\"whole\"}\n{\"time\":\"ha").unwrap();
    let gateway = answering().log(log.to_str().unwrap()).start();
    gateway.get("/0/0");
    let text = eventually("its line", || {
        std::fs::read_to_string(&log).ok().filter(|text| text.ends_with("}\n") && text.contains("/0/0"))
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[1]), (3, "{\"time\":\"ha"), "{text}");
    assert!(serde_json::from_str::<serde_json::Value>(lines[2]).is_ok(), "{text}");
}
