//! Programs that nobody here wrote, as clients, as upstreams and as proxies in front of the gateway.

use super::gateway::Process;
use super::{eventually, temp_dir, tls};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// A program that listens; it is killed by its id when dropped.
pub struct Server {
    pub addr: SocketAddr,
    _process: Process,
}

impl Server {
    fn start(addr: SocketAddr, command: &mut Command) -> Server {
        let mut process = Process::spawn(command);
        eventually(&format!("{command:?} to listen"), || {
            assert!(process.exited().is_none(), "{command:?} exited\n{}", process.output());
            TcpStream::connect(addr).ok()
        });
        Server { addr, _process: process }
    }
}

fn port() -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, super::free_port()).into()
}

/// nginx with the given text inside `http { … }`; `@listen@`, `@url@` (of itself) and `@dir@` are replaced. In a run over
/// TLS it serves and trusts the certificates of this run.
pub fn nginx(http: &str) -> Server {
    let (addr, dir) = (port(), temp_dir("nginx"));
    let (listen, certificates) = if tls::is_on() {
        let tls::Files { ca, cert, key, .. } = tls::files();
        let (ca, cert, key) = (ca.display(), cert.display(), key.display());
        let (serves, trusts) = (
            format!("ssl_certificate {cert}; ssl_certificate_key {key};"),
            format!("proxy_ssl_trusted_certificate {ca}; proxy_ssl_verify on; proxy_ssl_name {};", tls::NAME),
        );
        (format!("{addr} ssl"), format!("{serves}\n{trusts}\nproxy_ssl_server_name on;\n"))
    } else {
        (addr.to_string(), String::new())
    };
    let http =
        http.replace("@listen@", &listen).replace("@url@", &url(addr)).replace("@dir@", &dir.display().to_string());
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log off;\n{paths}{certificates}{http}\n}}\n",
        dir.display()
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    Server::start(addr, Command::new("nginx").arg("-p").arg(&dir).arg("-c").arg(&config))
}

/// HAProxy with the given sections after the defaults; `@listen@` is replaced, and in a run over TLS followed by its
/// certificate. The address of a server is to be made by [`haproxy_server`].
pub fn haproxy(sections: &str) -> Server {
    let (addr, dir) = (port(), temp_dir("haproxy"));
    let listen = match tls::is_on() {
        true => format!("{addr} ssl crt {}", tls::files().bundle.display()),
        false => addr.to_string(),
    };
    let text = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n{}\n",
        sections.replace("@listen@", &listen)
    );
    let config = dir.join("haproxy.cfg");
    std::fs::write(&config, text).unwrap();
    Server::start(addr, Command::new("haproxy").arg("-db").arg("-f").arg(&config))
}

/// An address as HAProxy's `server` lines have it.
pub fn haproxy_server(addr: SocketAddr) -> String {
    match tls::is_on() {
        true => {
            let (ca, name) = (tls::files().ca.display(), tls::NAME);
            format!("{addr} ssl verify required ca-file {ca} sni str({name}) verifyhost {name} check-sni {name}")
        }
        false => addr.to_string(),
    }
}

/// A Python program that listens on the port given as its first argument; in a run over TLS, with certificate and key
/// as the next two.
pub fn python_server(program: &str) -> Server {
    python_server_by("python3", program)
}

/// The same by an interpreter of one's own.
pub fn python_server_by(python: &str, program: &str) -> Server {
    let addr = port();
    let mut command = Command::new(python);
    command.args(["-c", program, &addr.port().to_string()]);
    if tls::is_on() {
        command.args([&tls::files().cert, &tls::files().key]);
    }
    Server::start(addr, &mut command)
}

/// The URL of an address.
pub fn url(addr: SocketAddr) -> String {
    format!("{}://{addr}", tls::either("https", "http"))
}

/// The options that make curl believe the certificates of this run.
pub fn curl_trust() -> Vec<&'static str> {
    if tls::is_on() { vec!["--cacert", tls::files().ca.to_str().unwrap()] } else { Vec::new() }
}

/// Sends bytes and gives all that came back until the other side closed: by nc, or by what OpenSSL has in its place.
pub fn nc(to: SocketAddr, bytes: &[u8]) -> String {
    if !tls::is_on() {
        return output_of("nc", &["-w", "10", "127.0.0.1", &to.port().to_string()], bytes);
    }
    let (to, ca) = (to.to_string(), tls::files().ca.to_str().unwrap());
    let s_client = ["10", "openssl", "s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-CAfile", ca];
    output_of("timeout", &[&s_client[..], &["-servername", tls::NAME, "-connect", &to]].concat(), bytes)
}

/// Runs a program to its end and gives what it printed; panics with everything it said when it fails.
pub fn output(program: &str, args: &[&str]) -> String {
    output_of(program, args, b"")
}

/// The same with bytes on its standard input.
pub fn output_of(program: &str, args: &[&str], stdin: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = input.write_all(&bytes);
    });
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {}\n{stdout}\n{stderr}", out.status);
    stdout.into_owned()
}

/// What a program printed, however it ended: curl counts a connection that is closed behind an early answer as an error.
pub fn output_whatever(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// curl, quiet, with a limit on its time.
pub fn curl(args: &[&str]) -> String {
    output("curl", &[&["-sS", "--max-time", "20"], &curl_trust()[..], args].concat())
}

/// `openssl s_client` to the gateway with these bytes on its standard input: all that it said, however it ended.
pub fn openssl_client(gateway: &super::Gateway, args: &[&str], stdin: &[u8]) -> String {
    let addr = gateway.addr.to_string();
    let mut child = Command::new("timeout")
        .args(["20", "openssl", "s_client", "-connect", &addr])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin); // it may have ended before
    let out = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// `openssl s_client` that stays connected.
pub struct SClient {
    child: std::process::Child,
    said: std::sync::mpsc::Receiver<u8>,
}

pub fn s_client(gateway: &super::Gateway, args: &[&str]) -> SClient {
    let addr = gateway.addr.to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &addr])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (tell, said) = std::sync::mpsc::channel();
    let out = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        for byte in std::io::Read::bytes(out) {
            if byte.is_err() || tell.send(byte.unwrap()).is_err() {
                return;
            }
        }
    });
    SClient { child, said }
}

impl SClient {
    /// Sends these bytes and waits until what comes back ends with `until`.
    pub fn ask(&mut self, bytes: &[u8], until: &str) -> String {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
        let mut said = Vec::new();
        while !said.ends_with(until.as_bytes()) {
            match self.said.recv_timeout(super::PATIENCE) {
                Ok(byte) => said.push(byte),
                Err(e) => panic!("no {until:?} but {e} behind {:?}", String::from_utf8_lossy(&said)),
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
