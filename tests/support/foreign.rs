//! Programs that nobody here wrote, as clients, as upstreams and as proxies in front of the gateway.

use super::gateway::Process;
use super::{eventually, temp_dir};
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

/// nginx with the given text inside `http { … }`; `@listen@` and `@dir@` are replaced.
pub fn nginx(http: &str) -> Server {
    let (addr, dir) = (port(), temp_dir("nginx"));
    let http = http.replace("@listen@", &addr.to_string()).replace("@dir@", &dir.display().to_string());
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log off;\n{paths}{http}\n}}\n",
        dir.display()
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    Server::start(addr, Command::new("nginx").arg("-p").arg(&dir).arg("-c").arg(&config))
}

/// HAProxy with the given sections after the defaults; `@listen@` is replaced.
pub fn haproxy(sections: &str) -> Server {
    let (addr, dir) = (port(), temp_dir("haproxy"));
    let text = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n{}\n",
        sections.replace("@listen@", &addr.to_string())
    );
    let config = dir.join("haproxy.cfg");
    std::fs::write(&config, text).unwrap();
    Server::start(addr, Command::new("haproxy").arg("-db").arg("-f").arg(&config))
}

/// A Python program that listens on the port given as its first argument.
pub fn python_server(program: &str) -> Server {
    let addr = port();
    Server::start(addr, Command::new("python3").args(["-c", program, &addr.port().to_string()]))
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
    output("curl", &[&["-sS", "--max-time", "20"], args].concat())
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
