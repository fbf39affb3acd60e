//! The load generator of `compare.sh --tls` for what wrk cannot do: connect, shake hands, ask once, close, and all over again.
//!
//! `handshake [--resume] [--seconds N] [--connections N] ADDRESS CA.pem`, for example
//! `handshake --resume 127.0.0.1:8443 ca.pem`.
//!
//! Each of N threads has one connection at a time: TCP, a TLS 1.3 handshake for `load.test`, `GET /health`, the whole answer
//! (a 200 with a Content-Length), close_notify and FIN, and then it waits until the other side has closed as well: closing
//! belongs to what is measured. There is only one way to shake hands, so that every server does the same work: X25519,
//! `TLS13_AES_256_GCM_SHA384`, and the certificate is verified.
//!
//! With `--resume` each thread uses the tickets that its earlier connections got; its very first handshake is a full one.
//! A run in which fewer than 99 % of the others were of the kind that was asked for is a failure.
//!
//! Two lines come out: `KINDS full resumed tickets`, and `RESULT connections microseconds bytes errors`, as of profile.lua.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, Stream};

const USAGE: &str = "usage: handshake [--resume] [--seconds N] [--connections N] ADDRESS CA.pem (ip:port)";
/// The name that is asked for; the certificate must be for it.
const NAME: &str = "load.test";
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: load.test\r\nAccept: */*\r\n\r\n";
/// Longest answer, head included.
const ANSWER_MAX: usize = 16 * 1024;
/// After so long without a byte a connection counts as an error.
const PATIENCE: Duration = Duration::from_secs(5);
/// Errors after which a thread gives up: something is wrong with the server, not with one connection.
const ERRORS_MAX: u64 = 10;
/// Share of the handshakes that must be of the kind that was asked for, in percent.
const KIND_MIN: u64 = 99;

struct Options {
    resume: bool,
    seconds: u64,
    connections: usize,
    address: SocketAddr,
    roots: RootCertStore,
}

#[derive(Default)]
struct Counts {
    full: u64,
    resumed: u64,
    tickets: u64,
    bytes: u64,
    errors: u64,
    first_error: Option<String>,
}

fn main() {
    if let Err(message) = start() {
        eprintln!("handshake: {message}");
        std::process::exit(1);
    }
}

fn start() -> Result<(), String> {
    let options = Arc::new(options()?);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(options.seconds);
    let threads: Vec<_> = (0..options.connections)
        .map(|_| {
            let options = Arc::clone(&options);
            std::thread::spawn(move || over_and_over(&options, end))
        })
        .collect();
    let mut all = Counts::default();
    for thread in threads {
        let counts = thread.join().map_err(|_| "a thread panicked")??;
        all.full += counts.full;
        all.resumed += counts.resumed;
        all.tickets += counts.tickets;
        all.bytes += counts.bytes;
        all.errors += counts.errors;
        all.first_error = all.first_error.or(counts.first_error);
    }
    let (micros, count) = (begin.elapsed().as_micros(), all.full + all.resumed);
    println!("KINDS {} {} {}", all.full, all.resumed, all.tickets);
    println!("RESULT {count} {micros} {} {}", all.bytes, all.errors);
    if let Some(error) = all.first_error {
        eprintln!("handshake: the first of {} errors: {error}", all.errors);
    }
    let (wanted, kind, firsts) = match options.resume {
        true => (all.resumed, "resumed", options.connections as u64),
        false => (all.full, "full", 0),
    };
    if wanted == 0 || wanted * 100 < count.saturating_sub(firsts) * KIND_MIN {
        return Err(format!("only {wanted} of {count} handshakes were {kind}: not what was to be measured"));
    }
    Ok(())
}

fn options() -> Result<Options, String> {
    let (mut resume, mut seconds, mut connections, mut rest) = (false, 1, 8, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u32>().ok()).filter(|n| *n > 0).ok_or(USAGE);
        match arg.as_str() {
            "--resume" => resume = true,
            "--seconds" => seconds = number()?.into(),
            "--connections" => connections = number()? as usize,
            _ => rest.push(arg),
        }
    }
    let [address, ca] = rest.as_slice() else { return Err(USAGE.to_owned()) };
    let address = address.parse().map_err(|e| format!("{address}: {e}; {USAGE}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| format!("{ca}: {e}"))? {
        let certificate = certificate.map_err(|e| format!("{ca}: {e}"))?;
        roots.add(certificate).map_err(|e| format!("{ca}: {e}"))?;
    }
    Ok(Options { resume, seconds, connections, address, roots })
}

/// The only way there is to shake hands. Each thread has its own, and so its own tickets.
fn config(options: &Options) -> Result<Arc<ClientConfig>, String> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .with_root_certificates(options.roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if options.resume { Resumption::in_memory_sessions(32) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// One connection after the other, until `end`.
fn over_and_over(options: &Options, end: Instant) -> Result<Counts, String> {
    let config = config(options)?;
    let name = ServerName::try_from(NAME).map_err(|e| e.to_string())?;
    let mut counts = Counts::default();
    while Instant::now() < end && counts.errors < ERRORS_MAX {
        if let Err(error) = once(options.address, &config, &name, &mut counts) {
            counts.errors += 1;
            counts.first_error.get_or_insert(error.to_string());
        }
    }
    Ok(counts)
}

/// One connection, from its SYN to its last FIN.
fn once(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    counts: &mut Counts,
) -> io::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
    let mut stream = Stream::new(&mut tls, &mut socket);
    // The handshake comes first, and the request in a segment of its own behind it, as with curl and wrk.
    stream.write_all(REQUEST)?;
    stream.flush()?;
    let bytes = read_answer(&mut stream)?;
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    socket.shutdown(Shutdown::Write)?;
    let mut rest = [0; 1024];
    while socket.read(&mut rest)? > 0 {} // the other side's close_notify
    match tls.handshake_kind() {
        Some(HandshakeKind::Full) => counts.full += 1,
        Some(HandshakeKind::Resumed) => counts.resumed += 1,
        kind => return Err(io::Error::other(format!("a handshake of the kind {kind:?}"))),
    }
    counts.tickets += u64::from(tls.tls13_tickets_received());
    counts.bytes += bytes as u64;
    Ok(())
}

/// Reads the answer, and gives its length.
fn read_answer(stream: &mut impl Read) -> io::Result<usize> {
    let (mut answer, mut filled) = ([0; ANSWER_MAX], 0);
    loop {
        let n = stream.read(answer.get_mut(filled..).unwrap_or_default())?;
        filled += n;
        let got = &answer[..filled];
        if n == 0 {
            return Err(io::Error::other(format!("no whole answer: {:?}", String::from_utf8_lossy(got))));
        }
        let Some(head) = memchr::memmem::find(got, b"\r\n\r\n").map(|at| at + 4) else { continue };
        let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let (true, Some(length)) = (text.starts_with("http/1.1 200 "), length) else {
            return Err(io::Error::other(format!("no 200 with a Content-Length: {text:?}")));
        };
        if filled >= head + length {
            return Ok(filled);
        }
    }
}
