//! The one switch that runs the scenarios over TLS, the certificates of this test run, and a blocking connection that
//! speaks TLS or not. It is rustls, as in the gateway, but nothing of the gateway's code; the scenarios with other
//! people's programs bring OpenSSL to both sides.

use super::temp_dir;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustix::net::RecvFlags;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

/// Whether this run is over TLS, on both sides of the gateway.
pub fn is_on() -> bool {
    static ON: LazyLock<bool> = LazyLock::new(|| match std::env::var("RINGWAY_TEST_TLS").as_deref() {
        Err(_) | Ok("" | "0") => false,
        Ok("1") => true,
        Ok(other) => panic!("RINGWAY_TEST_TLS is 1 or not set, not {other}"),
    });
    *ON
}

/// One text or another.
pub fn either<'a>(over_tls: &'a str, plain: &'a str) -> &'a str {
    if is_on() { over_tls } else { plain }
}

/// The name that is asked for, on either side of the gateway.
pub const NAME: &str = "gw.test";

/// The files of a certificate for [`NAME`], localhost and 127.0.0.1, and of who signed it.
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Certificate and key in one, as HAProxy wants them.
    pub bundle: PathBuf,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Made once per run.
pub fn files() -> &'static Files {
    static FILES: LazyLock<Files> = LazyLock::new(make);
    &FILES
}

fn make() -> Files {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "ringway tests");
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let mut leaf = CertificateParams::new(vec![NAME.into(), "localhost".into(), "127.0.0.1".into()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let cert_pem = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
    let key_pem = key.serialize_pem();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    // Every gateway has this name here: a ticket of one would be shown to another.
    client.resumption = Resumption::disabled();
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let private = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let server = server.with_no_client_auth().with_single_cert(chain, private).unwrap();

    let dir = temp_dir("tls");
    let write = |name: &str, mode: u32, text: String| {
        let path = dir.join(name);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    };
    Files {
        bundle: write("bundle.pem", 0o600, format!("{cert_pem}{key_pem}")),
        ca: write("ca.pem", 0o644, ca_pem),
        cert: write("cert.pem", 0o644, cert_pem),
        key: write("key.pem", 0o600, key_pem),
        client: Arc::new(client),
        server: Arc::new(server),
    }
}

/// The `tls` key of a listener, or nothing in a run without TLS.
pub fn of_listener() -> String {
    if !is_on() {
        return String::new();
    }
    let Files { cert, key, .. } = files();
    format!("tls: {{ certificates: [{{ cert: {}, key: {} }}] }}", cert.display(), key.display())
}

/// The `tls` key of an upstream, or nothing in a run without TLS.
pub fn of_upstream() -> String {
    if !is_on() {
        return String::new();
    }
    format!("tls: {{ ca: {}, server_name: {NAME} }}", files().ca.display())
}

/// Plaintext that becomes one write.
const PIECE: usize = 64 * 1024;

/// A blocking connection, with TLS on it or not. One thread may read while another writes.
#[derive(Debug)]
pub struct Socket {
    pub tcp: TcpStream,
    tls: Option<Tls>,
    /// It ends without a word: by a reset, or cut.
    abrupt: AtomicBool,
}

#[derive(Debug)]
struct Tls {
    session: Mutex<Connection>,
    /// Ciphertext that came and was not looked at yet.
    came: Mutex<Vec<u8>>,
    sending: Mutex<Sending>,
}

#[derive(Debug, Default)]
struct Sending {
    wire: Vec<u8>,
    sent: usize,
    /// Bytes of the caller that `wire` stands for.
    plain: usize,
}

impl Sending {
    fn push(&mut self, mut tcp: &TcpStream) -> Result<()> {
        while self.sent < self.wire.len() {
            match tcp.write(&self.wire[self.sent..])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => self.sent += n,
            }
        }
        self.wire.clear();
        self.sent = 0;
        Ok(())
    }

    fn records(&mut self, session: &mut Connection) -> Result<()> {
        while session.wants_write() {
            session.write_tls(&mut self.wire)?;
        }
        Ok(())
    }
}

impl Socket {
    /// Without TLS.
    pub fn plain(tcp: TcpStream) -> Socket {
        Socket { tcp, tls: None, abrupt: AtomicBool::new(false) }
    }

    /// The client's side. The handshake begins with the first read or write, or by [`Socket::shake`].
    pub fn client(tcp: TcpStream) -> Socket {
        let name = ServerName::try_from(NAME).unwrap();
        Socket::over(tcp, ClientConnection::new(files().client.clone(), name).unwrap().into())
    }

    /// The server's side.
    pub fn server(tcp: TcpStream) -> Socket {
        Socket::over(tcp, ServerConnection::new(files().server.clone()).unwrap().into())
    }

    fn over(tcp: TcpStream, mut session: Connection) -> Socket {
        session.set_buffer_limit(None);
        let tls = Tls { session: Mutex::new(session), came: Mutex::default(), sending: Mutex::default() };
        Socket { tcp, tls: Some(tls), abrupt: AtomicBool::new(false) }
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Goes on with the handshake; done, when there is none to do.
    pub fn shake(&self) -> Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        loop {
            tls.flush(&self.tcp)?;
            if !tls.session.lock().unwrap().is_handshaking() {
                return Ok(());
            }
            if !tls.pull(&self.tcp)? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// `Ok(0)` is an end that the other side announced, where the protocol can; an end without that is
    /// [`ErrorKind::UnexpectedEof`].
    pub fn read(&self, buf: &mut [u8]) -> Result<usize> {
        let Some(tls) = &self.tls else { return (&self.tcp).read(buf) };
        loop {
            let read = tls.session.lock().unwrap().reader().read(buf);
            match read {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            let _ = tls.flush(&self.tcp); // who can not be told anything may still have said something
            tls.pull(&self.tcp)?;
        }
    }

    /// After an error, the next call must be given the same bytes. Within the handshake it keeps them and does not wait.
    pub fn write(&self, plain: &[u8]) -> Result<usize> {
        let Some(tls) = &self.tls else { return (&self.tcp).write(plain) };
        let mut sending = tls.sending.lock().unwrap();
        if sending.plain == 0 {
            sending.push(&self.tcp)?;
            let mut session = tls.session.lock().unwrap();
            let piece = &plain[..plain.len().min(PIECE)];
            session.writer().write_all(piece)?;
            sending.records(&mut session)?;
            sending.plain = piece.len();
        }
        sending.push(&self.tcp)?;
        Ok(std::mem::take(&mut sending.plain))
    }

    /// Whether anything waits to be read: bytes of the other side, or its end. Tickets are nothing.
    pub fn is_silent(&self) -> bool {
        self.tcp.set_nonblocking(true).unwrap();
        let silent = match &self.tls {
            None => self.tcp.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock),
            Some(_) => self.read(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock),
        };
        self.tcp.set_nonblocking(false).unwrap();
        silent
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        self.say_end().unwrap();
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// The connection will end with a reset instead of a FIN.
    pub fn reset_on_close(&self) {
        self.abrupt.store(true, Ordering::SeqCst);
        rustix::net::sockopt::set_socket_linger(&self.tcp, Some(Duration::ZERO)).unwrap();
    }

    /// The connection will end with a FIN alone: TLS is not told that it is the end.
    pub fn cut_on_close(&self) {
        self.abrupt.store(true, Ordering::SeqCst);
    }

    fn say_end(&self) -> Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        tls.session.lock().unwrap().send_close_notify();
        tls.flush(&self.tcp)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.abrupt.load(Ordering::SeqCst) || self.tls.is_none() || std::thread::panicking() {
            return;
        }
        let _ = self.tcp.set_nonblocking(true);
        // Tickets that nobody has read would turn the FIN into a reset.
        let _ = rustix::net::recv(&self.tcp, &mut [0; 4096], RecvFlags::DONTWAIT);
        let _ = self.say_end();
    }
}

impl Tls {
    /// Sends what rustls has to say of its own; leaves it to the next write when one is under way.
    fn flush(&self, tcp: &TcpStream) -> Result<()> {
        let Ok(mut sending) = self.sending.try_lock() else { return Ok(()) };
        if sending.plain > 0 {
            return Ok(());
        }
        sending.records(&mut self.session.lock().unwrap())?;
        sending.push(tcp)
    }

    /// Gives rustls what has come, or waits for more; false at the end of the TCP connection.
    fn pull(&self, mut tcp: &TcpStream) -> Result<bool> {
        let mut came = self.came.lock().unwrap();
        let mut more = true;
        if came.is_empty() {
            let mut piece = vec![0; PIECE];
            let n = tcp.read(&mut piece)?;
            piece.truncate(n);
            *came = piece;
            more = n > 0;
        }
        let mut session = self.session.lock().unwrap();
        let mut rest = &came[..];
        // As much as rustls takes without anybody reading: it is asked again when its plaintext is used up.
        session.read_tls(&mut rest)?;
        let taken = came.len() - rest.len();
        came.drain(..taken);
        let processed = session.process_new_packets();
        drop(session);
        if let Err(e) = processed {
            let _ = self.flush(tcp); // an alert that says why
            return Err(Error::new(ErrorKind::InvalidData, e));
        }
        Ok(more)
    }
}

#[test]
fn the_switch_is_one() {
    let gateway = super::Setup::new().route("match: { path: /x }, respond: { status: 200, body: hi }").start();
    assert_eq!(gateway.get("/x").text(), "hi");
    let link = super::Link::dial_plain(gateway.addr).unwrap();
    let answer = super::Client { wire: super::wire::Wire::new(link) }.get("/x");
    assert_eq!(answer.status, if is_on() { 400 } else { 200 }, "without TLS");
}

#[test]
fn a_cut_can_be_told_from_an_end() {
    let pair = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Socket::client(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let server = Socket::server(listener.accept().unwrap().0);
        let server = std::thread::spawn(move || server.shake().map(|()| server));
        client.shake().unwrap();
        (client, server.join().unwrap().unwrap())
    };
    let read_by = |client: Socket| {
        (client.read(&mut [0; 8]).map_err(|e| e.kind()), client.read(&mut [0; 8]).map_err(|e| e.kind()))
    };
    let (client, server) = pair();
    assert!(client.is_silent(), "tickets are nothing");
    drop(server);
    super::eventually("the end to be seen", || (!client.is_silent()).then_some(()));
    let (client, server) = pair();
    assert_eq!(server.write(b"half").unwrap(), 4);
    drop(server);
    assert_eq!(read_by(client), (Ok(4), Ok(0)));
    let (client, server) = pair();
    assert_eq!(server.write(b"half").unwrap(), 4);
    server.cut_on_close();
    drop(server);
    assert_eq!(read_by(client), (Ok(4), Err(ErrorKind::UnexpectedEof)));
    let (client, server) = pair();
    server.reset_on_close();
    drop(server);
    assert_eq!(read_by(client).0, Err(ErrorKind::ConnectionReset));
}
