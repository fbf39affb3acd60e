//! A scripted upstream: one thread per connection runs the script, every received byte is recorded, and the requests
//! in them are read by the strict parser.

use super::message::Request;
use super::wire::{Fault, Wire};
use super::{Gate, PATIENCE, Socket, eventually, tls};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How the gateway ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a FIN; over TLS, announced.
    Fin,
    /// Over TLS: by a FIN that was not announced.
    Cut,
    Reset,
}

/// What happened on one connection.
#[derive(Default)]
pub struct Record {
    bytes: Mutex<Vec<u8>>,
    ended: Mutex<Option<Ending>>,
    /// The script of this connection is over and the socket closed.
    over: AtomicBool,
    written: AtomicU64,
    keep_no_bytes: AtomicBool,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    records: Mutex<Vec<Arc<Record>>>,
    heads: Mutex<Vec<Request>>,
    requests: Mutex<Vec<Request>>,
    faults: Mutex<Vec<String>>,
}

pub struct Upstream {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Listens on a port of its own and runs `script` for each connection.
    pub fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Upstream {
        Upstream::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a listener that the scenario made.
    pub fn listen(listener: TcpListener, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Upstream {
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (record, index) = accepting.admit();
                let (shared, script) = (accepting.clone(), script.clone());
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
                    let stream = if tls::is_on() { Socket::server(stream) } else { Socket::plain(stream) };
                    let mut tee = Tee { stream, record: record.clone(), shared: shared.clone() };
                    tee.shake();
                    let mut conn = Conn { index, wire: Wire::new(tee), shared };
                    script(&mut conn);
                    drop(conn);
                    record.over.store(true, Ordering::SeqCst);
                });
            }
        });
        Upstream { addr, shared }
    }

    /// An upstream that answers every request with 200 and the given body.
    pub fn says(body: &str) -> Upstream {
        Upstream::start(super::misbehave::answers(super::message::ok(body)))
    }

    /// The same once the gate is open.
    pub fn waits(gate: &Gate, body: &str) -> Upstream {
        let (gate, answer) = (gate.clone(), super::message::ok(body));
        Upstream::start(move |conn| {
            while conn.request().is_some() {
                gate.wait();
                conn.write(&answer);
            }
        })
    }

    /// Sends every request's body back; `x-serial` tells the number of the request.
    pub fn echo() -> Upstream {
        Upstream::start(|conn| {
            while let Some(request) = conn.request() {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nX-Serial: {}\r\nX-Method: {}\r\nContent-Length: {}\r\n\r\n",
                    request.serial,
                    request.method,
                    request.body.len()
                );
                let body = if request.method == "HEAD" { &[][..] } else { &request.body };
                if !conn.write([head.as_bytes(), body].concat()) {
                    return;
                }
            }
        })
    }

    pub fn connections(&self) -> usize {
        self.shared.records.lock().unwrap().len()
    }

    fn record(&self, conn: usize) -> Arc<Record> {
        self.shared.records.lock().unwrap()[conn].clone()
    }

    /// Everything that came on a connection, byte for byte.
    pub fn bytes(&self, conn: usize) -> Vec<u8> {
        self.record(conn).bytes.lock().unwrap().clone()
    }

    /// Bytes written on all connections.
    pub fn total_written(&self) -> u64 {
        self.shared.records.lock().unwrap().iter().map(|r| r.written.load(Ordering::SeqCst)).sum()
    }

    /// How the gateway ended a connection, if it did and the script was reading.
    pub fn ending(&self, conn: usize) -> Option<Ending> {
        *self.record(conn).ended.lock().unwrap()
    }

    /// Waits until the gateway has ended a connection.
    pub fn wait_ended(&self, conn: usize) -> Ending {
        eventually("the gateway closes its upstream connection", || {
            (self.connections() > conn).then(|| self.ending(conn)).flatten()
        })
    }

    /// Waits until the script of a connection is over and its socket closed.
    pub fn wait_over(&self, conn: usize) {
        eventually("the script of the connection ends", || {
            (self.connections() > conn && self.record(conn).over.load(Ordering::SeqCst)).then_some(())
        });
    }

    /// The heads of requests that arrived, whether or not their bodies did.
    pub fn heads(&self) -> Vec<Request> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub fn wait_heads(&self, n: usize) -> Vec<Request> {
        eventually(&format!("{n} request heads at the upstream"), || Some(self.heads()).filter(|h| h.len() >= n))
    }

    /// The requests that arrived whole.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The one request that arrived.
    pub fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }

    pub fn wait_requests(&self, n: usize) -> Vec<Request> {
        eventually(&format!("{n} whole requests at the upstream"), || Some(self.requests()).filter(|r| r.len() >= n))
    }

    /// Asserts that no byte ever came.
    pub fn heard_nothing(&self) {
        let n = self.connections();
        for conn in 0..n {
            let bytes = self.bytes(conn);
            assert!(bytes.is_empty(), "the upstream got {}", super::wire::show(&bytes));
        }
    }

    /// Reads the recorded bytes of every connection again, from nothing but the record: each must be whole requests
    /// and nothing else, but for one unfinished request at the end of a connection that the gateway broke off.
    /// Gives the whole ones, by connection.
    pub fn reparse(&self) -> Vec<Vec<Request>> {
        let faults = self.shared.faults.lock().unwrap().clone();
        assert!(faults.is_empty(), "malformed bytes at the upstream: {faults:?}");
        let parse = |conn: usize| {
            let bytes = self.bytes(conn);
            let mut wire = Wire::new(&bytes[..]);
            let mut requests = Vec::new();
            loop {
                match Request::read(&mut wire) {
                    Ok(request) => requests.push(request),
                    Err(Fault::End | Fault::Cut) => return requests,
                    Err(e) => panic!("connection {conn}: {e:?} in {}", super::wire::show(&bytes)),
                }
            }
        };
        (0..self.connections()).map(parse).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        let faults = self.shared.faults.lock().unwrap();
        if !std::thread::panicking() {
            assert!(faults.is_empty(), "malformed bytes at the upstream: {faults:?}");
        }
    }
}

impl Shared {
    fn admit(&self) -> (Arc<Record>, usize) {
        let mut records = self.records.lock().unwrap();
        records.push(Arc::default());
        (records.last().unwrap().clone(), records.len() - 1)
    }
}

/// The upstream's end of one connection, as the script sees it.
pub struct Conn {
    /// Which connection this is, from 0.
    pub index: usize,
    pub wire: Wire<Tee>,
    shared: Arc<Shared>,
}

impl Conn {
    /// The next whole request; nothing once the gateway has gone or has sent something malformed.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        let mut body = Vec::new();
        let read = request.stream_body(&mut self.wire, &mut |piece| body.extend_from_slice(piece));
        self.note(read)?;
        request.body = body;
        self.shared.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// The next request's head alone.
    pub fn head(&mut self) -> Option<Request> {
        let read = Request::head(&mut self.wire);
        let mut request = self.note(read)?;
        let mut heads = self.shared.heads.lock().unwrap();
        request.conn = self.index;
        request.serial = heads.len();
        heads.push(request.clone());
        Some(request)
    }

    /// The body of a request whose head was read, in pieces.
    pub fn body(&mut self, request: &mut Request, sink: &mut dyn FnMut(&[u8])) -> Option<()> {
        let read = request.stream_body(&mut self.wire, sink);
        self.note(read)
    }

    /// A malformed request is kept as a fault, which fails the scenario.
    fn note<T>(&self, read: Result<T, Fault>) -> Option<T> {
        if let Err(Fault::Bad(why)) = &read {
            self.shared.faults.lock().unwrap().push(why.clone());
        }
        read.ok()
    }

    /// Writes all of it; false once the gateway has gone.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let mut bytes = bytes.as_ref();
        let mut since = Instant::now();
        while !bytes.is_empty() {
            match self.wire.stream.stream.write(bytes) {
                Ok(n) => {
                    self.wire.stream.record.written.fetch_add(n as u64, Ordering::SeqCst);
                    bytes = &bytes[n..];
                    since = Instant::now();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && since.elapsed() < PATIENCE * 4 => {
                    if self.shared.stop.load(Ordering::SeqCst) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads and records until the gateway ends the connection.
    pub fn until_ended(&mut self) {
        let _ = self.wire.drain(&mut |_| {});
    }

    /// From now on bytes are counted, not kept: for bodies that should not be held twice.
    pub fn keep_no_bytes(&self) {
        self.wire.stream.record.keep_no_bytes.store(true, Ordering::SeqCst);
    }

    /// The connection will end with a reset instead of a FIN.
    pub fn reset_on_close(&self) {
        self.wire.stream.stream.reset_on_close();
    }

    /// The connection will end with a FIN that TLS does not announce.
    pub fn cut_on_close(&self) {
        self.wire.stream.stream.cut_on_close();
    }
}

/// A stream that records what it reads.
pub struct Tee {
    stream: Socket,
    record: Arc<Record>,
    shared: Arc<Shared>,
}

impl Tee {
    /// Repeats what waits, until it is done or the scenario is over.
    fn patiently<T>(&self, mut once: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
        let start = Instant::now();
        loop {
            match once() {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if self.shared.stop.load(Ordering::SeqCst) || start.elapsed() > PATIENCE * 4 {
                        return Err(e);
                    }
                }
                done => return done,
            }
        }
    }

    /// What fails here fails again when the script reads.
    fn shake(&mut self) {
        let _ = self.patiently(|| self.stream.shake());
    }
}

impl Read for Tee {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.patiently(|| self.stream.read(buf));
        let ending = match &read {
            Ok(0) => Ending::Fin,
            Ok(n) => {
                if !self.record.keep_no_bytes.load(Ordering::SeqCst) {
                    self.record.bytes.lock().unwrap().extend_from_slice(&buf[..*n]);
                }
                return read;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return read,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ending::Cut,
            Err(_) => Ending::Reset,
        };
        *self.record.ended.lock().unwrap() = Some(ending);
        read
    }
}
