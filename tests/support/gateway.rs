//! The gateway under test: the built binary as a process of its own, with its output, log, metrics and memory at hand.

use super::message::Response;
use super::metrics::Metrics;
use super::{Client, PATIENCE, Setup, eventually, eventually_or, eventually_within, free_port, names, temp_dir};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The binary that cargo built for this test run.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// A running command whose output is collected; killed by its id when dropped.
pub struct Process {
    child: Child,
    pub stdout: Arc<Mutex<String>>,
    pub stderr: Arc<Mutex<String>>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
        Process { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        eventually_within(within, "the process exits", || self.exited())
    }

    /// Waits until the process has said `what`: its output arrives a moment behind what it did.
    pub fn wait_said(&self, what: &str) -> String {
        let mut said = String::new();
        let found = eventually_or(|| {
            said = self.output();
            said.contains(what).then_some(())
        });
        assert!(found.is_some(), "it never said {what:?}:\n{said}");
        said
    }

    pub fn output(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout.lock().unwrap(), self.stderr.lock().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = text.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            let mut kept = kept.lock().unwrap();
            kept.push_str(&String::from_utf8_lossy(&line));
            kept.push('\n');
        }
    });
    text
}

pub struct Gateway {
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub process: Process,
    pub dir: PathBuf,
    pub log: PathBuf,
    /// Its listener speaks no TLS, also in a run over TLS.
    pub is_plain: bool,
    /// Panics are what the scenario is about: those of plugins, which are told, but end no task.
    pub may_panic: bool,
}

impl Gateway {
    pub fn start(setup: Setup) -> Gateway {
        let dir = temp_dir("gateway");
        let (port, admin, log) = (free_port(), free_port(), dir.join("access.log"));
        let config = dir.join("gateway.yaml");
        let yaml = setup.yaml(port, admin, &log);
        std::fs::write(&config, &yaml).unwrap();
        let binary = setup.binary.as_deref().unwrap_or(Path::new(BINARY));
        let mut command = Command::new(binary);
        if let Some(n) = setup.descriptors {
            command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {n}; exec \"$@\""), "sh"]).arg(binary);
        }
        command.envs(setup.env.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(command.args(["run", "-c"]).arg(&config));
        let (addr, admin) = ((Ipv4Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, admin).into());
        let mut gateway = Gateway { addr, admin, process, dir, log, is_plain: setup.is_plain, may_panic: false };
        eventually_within(Duration::from_secs(10), "the gateway to be ready", || {
            if let Some(status) = gateway.process.exited() {
                panic!("the gateway exited ({status})\n{}\nconfig:\n{yaml}", gateway.process.output());
            }
            (get(admin, "/readyz")?.status == 200).then_some(())
        });
        gateway
    }

    /// A GET on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        Client::connect(self).get(path)
    }

    /// Any request but HEAD on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        Client::connect(self).ask(request)
    }

    pub fn metrics(&self) -> Metrics {
        let response = get(self.admin, "/metrics").expect("no answer from /metrics");
        assert_eq!(response.status, 200);
        Metrics::parse(&response.text()).unwrap_or_else(|e| panic!("/metrics: {e}\n{}", response.text()))
    }

    /// Waits until the series of a name add up to `n`. What a request or a connection comes to is counted behind its last byte,
    /// so that whoever read that byte may be faster than the count.
    pub fn wait_sum(&self, name: &str, labels: &[(&str, &str)], n: f64) {
        let mut sum = 0.0;
        let found = eventually_or(|| {
            sum = self.metrics().sum(name, labels);
            (sum == n).then_some(())
        });
        assert!(found.is_some(), "{name}{labels:?} is {sum}, not {n}");
    }

    /// The lines of the access log so far; a line that is still being written is left out.
    pub fn log_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("log line is not JSON ({e}): {line}"));
        whole.lines().map(parse).collect()
    }

    /// The first line of the access log for which `wanted` holds.
    pub fn wait_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        eventually("a line of the access log", || {
            seen = self.log_lines();
            seen.iter().find(|line| wanted(line)).cloned()
        })
    }

    /// The line about a path.
    pub fn log_of(&self, path: &str) -> Value {
        self.wait_log(|line| line["path"] == path)
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processor time spent so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap();
        let fields: Vec<u64> = stat.rsplit(") ").next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        // utime and stime, in the ticks of /proc (1/100 s); the state letter before them is not a number.
        Duration::from_millis((fields[10] + fields[11]) * 10)
    }

    pub fn term(&self) {
        self.process.signal(Signal::TERM);
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait_exit(PATIENCE)
    }

    /// How many sockets the process holds, listeners and all.
    pub fn sockets(&self) -> usize {
        let Ok(fds) = Path::new(&format!("/proc/{}/fd", self.process.pid())).read_dir() else { return 0 };
        let is_socket = |e: &std::fs::DirEntry| {
            std::fs::read_link(e.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        fds.flatten().filter(is_socket).count()
    }

    /// Asserts that the gateway serves: a request that has nothing to do with what came before is answered.
    pub fn is_well(&mut self) {
        assert!(self.process.exited().is_none(), "the gateway died\n{}", self.process.output());
        assert_eq!(get(self.admin, "/healthz").map(|r| r.status), Some(200));
    }
}

impl Drop for Gateway {
    /// A panic anywhere in the gateway fails the scenario, whatever it was about.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("gateway said:\n{}", self.process.output());
            return;
        }
        if self.process.exited().is_none() {
            let metrics = eventually("/metrics", || get(self.admin, "/metrics"));
            let metrics = Metrics::parse(&metrics.text()).unwrap();
            assert!(metrics.has(names::PANICS), "no metric {}", names::PANICS);
            assert_eq!(metrics.sum(names::PANICS, &[]), 0.0, "panics\n{}", self.process.output());
        }
        let stderr = self.process.stderr.lock().unwrap();
        assert!(self.may_panic || !stderr.contains("panicked at"), "{stderr}");
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A GET to the admin listener; nothing if it can not be reached.
pub fn get(admin: SocketAddr, path: &str) -> Option<Response> {
    use std::io::Write;
    let stream = std::net::TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut wire = super::wire::Wire::new(stream);
    wire.stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut response = Response::head(&mut wire, false).ok()?;
    response.read_body(&mut wire).ok()?;
    Some(response)
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub fn run(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(BINARY).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}
