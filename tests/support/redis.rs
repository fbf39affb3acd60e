//! A real `redis-server` for a scenario: alone, with a password, over TLS, followed by replicas and sentinels, or as a
//! cluster. Each is a process of its own on a free port, and is killed by its pid when the scenario ends.

use super::tls::files;
use super::{eventually, free_port, temp_dir};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// How one is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    password: Option<String>,
    over_tls: bool,
    more: Vec<String>,
}

/// One `redis-server`, empty at its start.
#[derive(Debug)]
pub struct Redis {
    pub port: u16,
    options: Options,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

/// What it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Number(i64),
    Error(String),
    Nothing,
    List(Vec<Reply>),
}

impl Options {
    pub fn new() -> Options {
        Options::default()
    }

    /// `requirepass`.
    pub fn password(mut self, password: &str) -> Options {
        self.password = Some(password.into());
        self
    }

    /// TLS on its port, with the certificate of this test run for 127.0.0.1.
    pub fn over_tls(mut self) -> Options {
        self.over_tls = true;
        self
    }

    /// One more of `redis-server`'s arguments with its value.
    pub fn with(mut self, words: &[&str]) -> Options {
        self.more.extend(words.iter().map(ToString::to_string));
        self
    }

    pub fn start(self) -> Redis {
        Redis::start_at(free_port(), self)
    }
}

impl Redis {
    /// One with nothing special.
    pub fn start() -> Redis {
        Options::new().start()
    }

    /// One on a port of the caller's choice.
    pub fn start_at(port: u16, options: Options) -> Redis {
        let redis = Redis { port, options, dir: temp_dir("redis"), child: Mutex::default() };
        redis.launch();
        redis
    }

    fn launch(&self) {
        let port = self.port.to_string();
        let mut args: Vec<String> = vec![];
        let mut add = |words: &[&str]| args.extend(words.iter().map(ToString::to_string));
        if self.options.over_tls {
            let path = |path: &PathBuf| path.display().to_string();
            let (ca, cert, key) = (path(&files().ca), path(&files().cert), path(&files().key));
            add(&["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
            add(&["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key]);
        } else {
            add(&["--port", &port]);
        }
        if let Some(password) = &self.options.password {
            add(&["--requirepass", password]);
        }
        args.extend(self.options.more.iter().cloned());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(&self.dir).args(args);
        *self.child.lock().unwrap() = Some(spawn(command));
        // It answers anything at all: over TLS that it accepts has to do.
        eventually("redis-server listens", || {
            if self.options.over_tls {
                TcpStream::connect(self.address()).ok().map(drop)
            } else {
                ask(self.port, &["PING"]).map(drop)
            }
        });
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Of this one, as `rate_limits.redis.url`.
    pub fn url(&self) -> String {
        let scheme = if self.options.over_tls { "rediss" } else { "redis" };
        let login = self.options.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> i32 {
        self.child.lock().unwrap().as_ref().expect("it runs").id() as i32
    }

    /// SIGSTOP: it accepts connections, since the kernel does that, and says nothing.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGKILL. Nothing listens on its port afterwards.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it and starts an empty one on the same port.
    pub fn restart(&self) {
        self.kill();
        self.launch();
    }

    /// Starts it again after [`Redis::kill`].
    pub fn start_again(&self) {
        self.launch();
    }

    /// A command, and its answer.
    pub fn command(&self, words: &[&str]) -> Reply {
        let auth = self.options.password.as_ref();
        let reply = match auth {
            None => ask(self.port, words),
            Some(password) => ask_all(self.port, &[&["AUTH", password], words]).and_then(|mut all| all.pop()),
        };
        reply.unwrap_or_else(|| panic!("redis-server on {} does not answer {words:?}", self.port))
    }

    /// A line of `INFO`.
    pub fn info(&self, section: &str, name: &str) -> Option<String> {
        let Reply::Text(text) = self.command(&["INFO", section]) else { return None };
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned()))
    }

    /// How often a command has run.
    pub fn calls(&self, command: &str) -> u64 {
        let line = self.info("commandstats", &format!("cmdstat_{command}")).unwrap_or_default();
        let calls = line.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse().ok());
        calls.unwrap_or(0)
    }

    /// The names of its keys.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let Reply::List(keys) = self.command(&["KEYS", pattern]) else { panic!("no list of keys") };
        keys.into_iter().map(|key| if let Reply::Text(key) = key { key } else { panic!("{key:?}") }).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sentinels on a master.
#[derive(Debug)]
pub struct Sentinel {
    pub port: u16,
    _redis: Redis,
}

impl Sentinel {
    /// One that watches `master` under the name `main` and replaces it after half a second of silence.
    pub fn of(master: &Redis) -> Sentinel {
        let port = free_port();
        let config = temp_dir("sentinel").join("sentinel.conf");
        let text = format!(
            "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n",
            master.port
        );
        std::fs::write(&config, text).unwrap();
        let redis = Redis { port, options: Options::new(), dir: temp_dir("sentinel"), child: Mutex::default() };
        let mut command = Command::new("redis-server");
        command.arg(&config).args(["--sentinel", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        *redis.child.lock().unwrap() = Some(spawn(command));
        eventually("a sentinel knows its master", || {
            let known = ask(port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"])?;
            matches!(known, Reply::List(_)).then_some(())
        });
        Sentinel { port, _redis: redis }
    }

    pub fn command(&self, words: &[&str]) -> Reply {
        ask(self.port, words).expect("a sentinel answers")
    }

    /// The port of the master that it names.
    pub fn master(&self) -> Option<u16> {
        match self.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]) {
            Reply::List(words) => match words.as_slice() {
                [_, Reply::Text(port)] => port.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// How many replicas it has found.
    pub fn replicas(&self) -> usize {
        match self.command(&["SENTINEL", "REPLICAS", "main"]) {
            Reply::List(replicas) => replicas.len(),
            _ => 0,
        }
    }
}

/// Three masters that share the slots.
pub fn cluster(node_timeout_ms: u32) -> Vec<Redis> {
    let timeout = node_timeout_ms.to_string();
    let one = |_| {
        let port = free_port();
        // Its bus would be 10,000 higher: above the ephemeral range's begin, where others may be.
        let bus = free_port().to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", &timeout];
        (Redis::start_at(port, Options::new().with(&options)), bus)
    };
    let all: Vec<(Redis, String)> = (0..3).map(one).collect();
    for ((redis, _), (from, to)) in all.iter().zip([(0, 5460), (5461, 10_922), (10_923, 16_383)]) {
        let added = redis.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
        assert_eq!(added, Reply::Text("OK".into()));
    }
    let (first, first_bus) = &all[0];
    for (redis, _) in &all[1..] {
        let met = redis.command(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), first_bus]);
        assert_eq!(met, Reply::Text("OK".into()));
    }
    let all: Vec<Redis> = all.into_iter().map(|(redis, _)| redis).collect();
    eventually("the cluster is whole", || {
        let is_whole = |redis: &Redis| {
            let Reply::Text(info) = redis.command(&["CLUSTER", "INFO"]) else { return false };
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        all.iter().all(is_whole).then_some(())
    });
    all
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: apt-get install redis-server")
}

/// One command without TLS; `None` if it can not be asked.
pub fn ask(port: u16, words: &[&str]) -> Option<Reply> {
    ask_all(port, &[words])?.pop()
}

fn ask_all(port: u16, commands: &[&[&str]]) -> Option<Vec<Reply>> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = String::new();
    for words in commands {
        text += &format!("*{}\r\n", words.len());
        words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
    }
    (&stream).write_all(text.as_bytes()).ok()?;
    let mut reader = BufReader::new(&stream);
    commands.iter().map(|_| read(&mut reader)).collect()
}

fn read(from: &mut impl BufRead) -> Option<Reply> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    Some(match kind {
        "+" => Reply::Text(rest.into()),
        "-" => Reply::Error(rest.into()),
        ":" => Reply::Number(rest.parse().ok()?),
        "$" if rest == "-1" => Reply::Nothing,
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().ok()? + 2];
            from.read_exact(&mut text).ok()?;
            text.truncate(text.len() - 2);
            Reply::Text(String::from_utf8_lossy(&text).into_owned())
        }
        "*" if rest == "-1" => Reply::Nothing,
        "*" => Reply::List((0..rest.parse::<usize>().ok()?).map(|_| read(from)).collect::<Option<_>>()?),
        _ => return None,
    })
}
