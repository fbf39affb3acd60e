//! What the scenarios are built from: a gateway started from the built binary, a scripted upstream, a raw client,
//! and strict parsers of their own. Nothing here uses the gateway's code: a test that shared its parser with the
//! gateway would share its mistakes.

pub mod aggregate;
pub mod authority;
pub mod browser;
pub mod client;
pub mod decoders;
pub mod foreign;
pub mod gateway;
pub mod issuer;
pub mod load;
pub mod message;
pub mod metrics;
pub mod misbehave;
pub mod names;
pub mod redis;
pub mod setup;
pub mod tls;
pub mod tls_client;
pub mod upstream;
pub mod wire;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use client::Client;
pub use gateway::Gateway;
pub use setup::Setup;
pub use tls::Socket;
pub use upstream::Upstream;

/// How long anything may take before a scenario is called hung. Generous: two cores run eight scenarios at once.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Polls `cond` until it gives something, for at most [`PATIENCE`].
pub fn eventually<T>(what: &str, cond: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, cond)
}

/// Polls `cond` until it gives something; panics with `what` at the deadline.
pub fn eventually_within<T>(deadline: Duration, what: &str, cond: impl FnMut() -> Option<T>) -> T {
    polled(deadline, cond).unwrap_or_else(|| panic!("waited {deadline:?} in vain for: {what}"))
}

/// As [`eventually`], for who can say more about what was there instead.
pub fn eventually_or<T>(cond: impl FnMut() -> Option<T>) -> Option<T> {
    polled(PATIENCE, cond)
}

fn polled<T>(deadline: Duration, mut cond: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = cond() {
            return Some(found);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A door that a scenario opens: scripted upstreams wait at it, so that nothing has to be timed.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, PATIENCE * 2, |open| !*open).unwrap();
        assert!(*open, "nobody opened the gate");
    }
}

/// A connection between a test client and the gateway. The one place that decides how it is made: with TLS in a run over
/// TLS ([`tls::is_on`]).
#[derive(Debug, Clone)]
pub struct Link(pub Arc<Socket>);

impl Link {
    /// Connects and, over TLS, shakes hands. A handshake that fails is told by the first read or write: only a refused
    /// connection is an error here.
    pub fn dial(to: SocketAddr) -> std::io::Result<Link> {
        let link = Link::arrive(to)?;
        let _ = link.0.shake();
        Ok(link)
    }

    /// Connects and does not wait for anything that the gateway has to say: hands are shaken by the first read.
    pub fn arrive(to: SocketAddr) -> std::io::Result<Link> {
        let tcp = connect(to)?;
        Ok(Link(Arc::new(if tls::is_on() { Socket::client(tcp) } else { Socket::plain(tcp) })))
    }

    /// Connects without TLS, whatever run this is.
    pub fn dial_plain(to: SocketAddr) -> std::io::Result<Link> {
        Ok(Link(Arc::new(Socket::plain(connect(to)?))))
    }
}

impl Link {
    /// Connects and says `header` first; over TLS, where that is `wanted`, hands are shaken behind it. The kernel holds it back
    /// for a while, so that what comes behind it arrives with it.
    pub fn behind(to: SocketAddr, header: &[u8], wanted: bool) -> std::io::Result<Link> {
        let mut tcp = connect(to)?;
        rustix::net::sockopt::set_tcp_cork(&tcp, true)?;
        tcp.write_all(header)?;
        Ok(Link(Arc::new(if wanted && tls::is_on() { Socket::client(tcp) } else { Socket::plain(tcp) })))
    }

    /// Connects to a Unix socket, without TLS. A stream is a stream: std's type for TCP reads and writes it as well.
    pub fn dial_unix(path: &std::path::Path) -> std::io::Result<Link> {
        let stream = TcpStream::from(std::os::fd::OwnedFd::from(std::os::unix::net::UnixStream::connect(path)?));
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Link(Arc::new(Socket::plain(stream))))
    }
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A port that nothing listens on, below the ephemeral range and never given out twice by this process: two gateways
/// on one port would share it silently (SO_REUSEPORT).
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id().wrapping_mul(397).wrapping_add(n) % 20_000) as u16;
        if port != 8080 && port != 9900 && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The package's folder.
pub fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of its own for one scenario. What earlier runs left behind is removed first: a test binary has no end at
/// which it could tidy up.
pub fn temp_dir(what: &str) -> std::path::PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let all = std::env::temp_dir().join("ringway-test");
    if n == 0 {
        for run in all.read_dir().into_iter().flatten().flatten() {
            if !std::path::Path::new("/proc").join(run.file_name()).exists() {
                let _ = std::fs::remove_dir_all(run.path());
            }
        }
    }
    let dir = all.join(std::process::id().to_string()).join(format!("{what}-{n}"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A small seeded generator (splitmix64): the same inputs in every run.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(n + 8);
        while out.len() < n {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(n);
        out
    }
}
