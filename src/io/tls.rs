//! TLS over TCP: rustls between this core's socket and whoever reads and writes plaintext.
//!
//! Reads go into the caller's buffer: ciphertext first, and the plaintext, which is never longer, takes its place. So a
//! waiting connection holds one small buffer, as it does without TLS. It is why rustls' unbuffered connection is used: the
//! buffered one keeps 4 KiB of its own for as long as it lives, a third of what an idle connection may cost; in speed they
//! are alike. What is written leaves as one buffer of whole records. Bytes that rustls itself has to say (tickets,
//! answers to key updates) leave in front of the next of ours.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use super::buffers::{Buf, Buffers};
use super::stream::TcpIo;

/// Plaintext that becomes one write: what a body's buffer holds.
const PLAIN_MAX: usize = 64 * 1024;
/// What a record adds to at most [`RECORD_PLAIN_MAX`] of plaintext: head, tag and content type (RFC 8446 5.2), or an
/// explicit nonce (RFC 5288 3).
const RECORD_EXTRA: usize = 5 + 16 + 1 + 8;
const RECORD_PLAIN_MAX: usize = 16 * 1024;
/// A record's head: type, version, length.
const RECORD_HEAD: usize = 5;
/// A buffer for the longest record (RFC 5246 6.2.3), where the caller's is too small for it.
const RECORD_WIRE_MAX: usize = RECORD_HEAD + RECORD_PLAIN_MAX + 2048;
/// What handshake messages are read into.
const HANDSHAKE_BYTES: usize = 4096;
/// Bytes of a handshake that wait for their end: more than any chain of certificates has.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;
/// What rustls says by itself at one time (tickets, alerts, key updates) fits, or is asked for again with more room.
const SAYS_BYTES: usize = 512;
/// Messages that wait to be sent when an error ends a connection: a flight of a handshake and the alert.
const LAST_SAYS_MAX: usize = 32;
/// Pieces that a liveness check reads at most: more than tickets is a reason not to use a connection again.
const TICKET_READS_MAX: usize = 8;
/// The type of a record that begins a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 22;

thread_local! {
    static NAMED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whoever chooses a certificate says here which name the client asked for: rustls' unbuffered connection does not tell,
/// and asks for the certificate within the call that reads the name.
pub fn client_names(name: Option<&str>) {
    NAMED.set(name.map(str::to_owned));
}

/// A TLS connection on this core's driver.
pub struct TlsIo {
    tcp: TcpIo,
    session: RefCell<Session>,
    /// Records of which the socket has not taken all.
    sending: RefCell<Option<Sending>>,
    /// A write is on its way: nothing may go between its records.
    in_flight: Cell<bool>,
    /// Bytes of `sending`, also while the kernel has them.
    unsent: Cell<usize>,
    buffers: Rc<Buffers>,
}

/// Records, and how many bytes of the caller's buffer they stand for.
struct Sending {
    wire: Buf,
    plain: usize,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

struct Session {
    side: Side,
    /// What came and is not whole yet. rustls remembers places in it: every call gets it again, in front of what is new.
    parked: Buf,
    /// Plaintext that found no room in the caller's buffer.
    left: Buf,
    /// What rustls has to say, ready to be sent.
    says: Vec<u8>,
    /// The other side has said that it ends.
    ended: bool,
    /// rustls has found a fault: it is not called again, since nobody has the bytes any more that it remembers.
    broken: bool,
    /// The name that the client asked for.
    name: Option<String>,
}

/// Why a handshake did not come to its end.
pub enum HandshakeError {
    /// The other side closed or reset the connection.
    Closed,
    /// It speaks something else: these are its first bytes.
    NotTls(Buf),
    /// What rustls found wrong; the other side was told by an alert.
    Tls(rustls::Error),
}

impl TlsIo {
    /// The server's side of a connection that was accepted. The handshake is yet to be done.
    pub fn server(tcp: TcpIo, config: &Arc<ServerConfig>, buffers: &Rc<Buffers>) -> Result<Self, rustls::Error> {
        Ok(Self::new(tcp, Side::Server(UnbufferedServerConnection::new(Arc::clone(config))?), buffers))
    }

    /// The client's side of a connection that was dialled, to be asked for `name`. The handshake is yet to be done.
    pub fn client(
        tcp: TcpIo,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        buffers: &Rc<Buffers>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(tcp, Side::Client(UnbufferedClientConnection::new(Arc::clone(config), name)?), buffers))
    }

    fn new(tcp: TcpIo, side: Side, buffers: &Rc<Buffers>) -> Self {
        let session = Session {
            side,
            parked: Buf::default(),
            left: Buf::default(),
            says: Vec::new(),
            ended: false,
            broken: false,
            name: None,
        };
        Self {
            tcp,
            session: RefCell::new(session),
            sending: RefCell::default(),
            in_flight: Cell::new(false),
            unsent: Cell::new(0),
            buffers: Rc::clone(buffers),
        }
    }

    pub(super) fn tcp(&self) -> &TcpIo {
        &self.tcp
    }

    /// Bytes of records that the kernel has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.get()
    }

    /// Shakes hands. Guard it with a deadline; after an error the connection is to be closed.
    pub async fn handshake(&self) -> Result<(), HandshakeError> {
        let mut buf = self.buffers.take(HANDSHAKE_BYTES);
        let mut first = true;
        let result = loop {
            let pumped = self.session.borrow_mut().pump_handshake(&mut buf, &self.buffers);
            let failed = pumped.err();
            if failed.is_some() || self.session.borrow().must_send_now() {
                let wire = self.session.borrow_mut().take_says(&self.buffers);
                // An alert says why.
                let sent = self.write_out(wire).await;
                if sent.is_err() && failed.is_none() {
                    break Err(HandshakeError::Closed);
                }
            }
            if let Some(e) = failed {
                break Err(HandshakeError::Tls(e));
            }
            if !self.session.borrow().common().is_handshaking() {
                break Ok(());
            }
            if buf.spare() == 0 {
                if buf.len() >= HANDSHAKE_BYTES_MAX {
                    break Err(HandshakeError::Tls(rustls::Error::PeerMisbehaved(
                        rustls::PeerMisbehaved::MessageInterleavedWithHandshakeMessage,
                    )));
                }
                let larger = buf.larger();
                buf.grow(larger, &self.buffers);
            }
            let (read, filled) = self.tcp.read(buf).await;
            buf = filled;
            if !matches!(read, Ok(n) if n > 0) {
                break Err(HandshakeError::Closed);
            }
            let is_server = matches!(self.session.borrow().side, Side::Server(_));
            if std::mem::take(&mut first) && is_server && buf.bytes().first() != Some(&HANDSHAKE_RECORD) {
                return Err(HandshakeError::NotTls(buf));
            }
        };
        if result.is_ok() && !buf.is_empty() {
            self.session.borrow_mut().park(buf.bytes(), &self.buffers);
        }
        self.buffers.give(buf);
        result
    }

    async fn write_out(&self, mut wire: Buf) -> io::Result<()> {
        while !wire.is_empty() {
            let (result, rest) = self.tcp.write(wire).await;
            wire = rest;
            match result? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => wire.consume(n),
            }
        }
        self.buffers.give(wire);
        Ok(())
    }

    /// Writes bytes as they are, to a client that does not speak TLS, and reads until it leaves: closing before would
    /// reset them away. Guard it.
    pub async fn answer_plainly(&self, wire: Buf) {
        if self.write_out(wire).await.is_err() {
            return;
        }
        let _ = rustix::net::shutdown(self.tcp.fd(), rustix::net::Shutdown::Write); // then it has left
        let mut buf = self.buffers.take(HANDSHAKE_BYTES);
        loop {
            let (read, filled) = self.tcp.read(buf).await;
            buf = filled;
            if !matches!(read, Ok(n) if n > 0) {
                break;
            }
            buf.clear();
        }
        self.buffers.give(buf);
    }

    /// See [`super::Stream::read`].
    pub(super) async fn read(&self, mut buf: Buf) -> (io::Result<usize>, Buf) {
        loop {
            let taken = self.session.borrow_mut().take_left(&mut buf, &self.buffers);
            if let Some(n) = taken {
                return (Ok(n), buf);
            }
            // A record must come in one piece: in the caller's buffer if it has the room, else in one of our own.
            let before = buf.len();
            let own = self.session.borrow().begin(&mut buf, &self.buffers);
            let (read, filled) = match own {
                None => {
                    let (read, filled) = self.tcp.read(buf).await;
                    buf = filled;
                    (read, None)
                }
                Some(inbox) => {
                    let (read, inbox) = self.tcp.read(inbox).await;
                    (read, Some(inbox))
                }
            };
            let parked = std::mem::take(&mut self.session.borrow_mut().parked);
            let came = match read {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            };
            if let Err(e) = came {
                buf.truncate(before);
                self.session.borrow_mut().parked = parked;
                return (Err(e), buf);
            }
            self.buffers.give(parked); // a copy of it is in front of what came
            let decrypted = match filled {
                None => {
                    let n = buf.len() - before;
                    let mut plain = self.buffers.take(n);
                    let used = self.session.borrow_mut().pump(buf.last_mut(n), &mut plain);
                    if let Ok(used) = used {
                        let rest = buf.bytes().get(before + used..).unwrap_or_default();
                        self.session.borrow_mut().park(rest, &self.buffers);
                    }
                    buf.truncate(before);
                    buf.extend(plain.bytes()); // no longer than the records that it was in
                    let n = plain.len();
                    self.buffers.give(plain);
                    used.map(|_| n)
                }
                Some(mut inbox) => {
                    let mut plain = self.buffers.take(inbox.len());
                    let mut session = self.session.borrow_mut();
                    let used = session.pump(inbox.bytes_mut(), &mut plain);
                    if let Ok(used) = used {
                        inbox.consume(used);
                        session.park(inbox.bytes(), &self.buffers);
                    }
                    self.buffers.give(inbox);
                    session.left = plain;
                    used.map(|_| 0) // taken from there
                }
            };
            match decrypted {
                Ok(0) => {}
                Ok(n) => return (Ok(n), buf),
                Err(e) => return (Err(self.failed(e)), buf),
            }
        }
    }

    /// See [`super::Stream::write`].
    pub(super) async fn write(&self, mut buf: Buf) -> (io::Result<()>, Buf) {
        let under_way = self.sending.borrow_mut().take();
        let Sending { wire, plain } = match under_way {
            Some(sending) => sending,
            None => {
                let sealed = self.session.borrow_mut().seal(buf.bytes(), &self.buffers);
                match sealed {
                    Ok(sending) => sending,
                    Err(e) => return (Err(e), buf),
                }
            }
        };
        self.in_flight.set(true);
        self.unsent.set(wire.len());
        let (result, mut wire) = self.tcp.write(wire).await;
        self.in_flight.set(false);
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
            Ok(n) => wire.consume(n),
            Err(e) => return (Err(e), buf),
        }
        self.unsent.set(wire.len());
        if wire.is_empty() {
            self.buffers.give(wire);
            buf.consume(plain);
        } else {
            *self.sending.borrow_mut() = Some(Sending { wire, plain });
        }
        (Ok(()), buf)
    }

    /// Tells the other side why, if it can be told at once.
    #[cold]
    fn failed(&self, e: rustls::Error) -> io::Error {
        self.send_now();
        invalid(e)
    }

    /// Sends what rustls has to say, as far as the socket takes it without waiting.
    fn send_now(&self) {
        if self.in_flight.get() || self.sending.borrow().is_some() {
            return; // within a record of ours
        }
        let says = std::mem::take(&mut self.session.borrow_mut().says);
        if !says.is_empty() {
            // The connection ends: what the socket does not take is not said.
            let _ = rustix::net::send(self.tcp.fd(), &says, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// See [`super::Stream::say_end`].
    pub(super) fn say_end(&self) {
        self.session.borrow_mut().say_end();
        self.send_now();
    }

    /// See [`super::Stream::is_quiet`]. Tickets and key updates that wait are taken in: they are no answer to anything.
    pub(super) fn is_quiet(&self) -> bool {
        let mut session = self.session.borrow_mut();
        if !session.is_idle() || self.sending.borrow().is_some() {
            return false;
        }
        if self.tcp.is_quiet() {
            return true;
        }
        let mut bytes = [0; 4096];
        for _ in 0..TICKET_READS_MAX {
            match rustix::net::recv(self.tcp.fd(), &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((n, _)) => {
                    let (mut plain, came) = (Buf::default(), bytes.get_mut(..n).unwrap_or_default());
                    let used = session.pump(came, &mut plain);
                    let Ok(used) = used else { return false };
                    session.park(came.get(used..).unwrap_or_default(), &self.buffers);
                    if !plain.is_empty() || !session.is_idle() {
                        return false;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// The name the client asked for (RFC 6066 3).
    pub fn server_name(&self) -> Option<String> {
        self.session.borrow().name.clone()
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// `TLSv1.2` or `TLSv1.3`, once hands were shaken.
    pub fn version(&self) -> &'static str {
        match self.session.borrow().common().protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "",
        }
    }

    /// The other side's certificate and those it sent with it; also of a resumed session.
    pub fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        self.session.borrow().common().peer_certificates().map(<[_]>::to_vec).unwrap_or_default()
    }
}

/// How long the record that begins with these bytes is, or the shortest one could be.
fn whole_record(begun: &[u8]) -> usize {
    match begun {
        [_, _, _, high, low, ..] => RECORD_HEAD + usize::from(u16::from_be_bytes([*high, *low])),
        _ => RECORD_WIRE_MAX,
    }
}

/// What a turn of rustls' state machine asks for.
enum Turn {
    Again,
    Rest,
}

/// One turn: plaintext goes to `plain`, what rustls has to say to `says`. The bytes to be dropped come with it.
fn turn<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &mut Buf,
    says: &mut Vec<u8>,
    ended: &mut bool,
) -> (usize, Result<Turn, rustls::Error>) {
    let UnbufferedStatus { discard, state, .. } = status;
    let turn = match state {
        Err(e) => return (discard, Err(e)),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => plain.extend(record.payload),
                    Err(e) => return (discard, Err(e)),
                }
            }
            Turn::Again
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            append(says, |room| match data.encode(room) {
                Ok(n) => Ok(n),
                Err(EncodeError::InsufficientSize(e)) => Err(Some(e)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
            Turn::Again
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done(); // it is in `says`, and leaves in order
            Turn::Again
        }
        Ok(ConnectionState::PeerClosed) => {
            *ended = true;
            Turn::Again
        }
        // Early data is not offered; whatever else comes with another version of rustls waits.
        Ok(_) => Turn::Rest,
    };
    (discard, Ok(turn))
}

/// Appends what `write` writes into the room it is given, with more room if it asks for it.
fn append(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>) {
    let start = out.len();
    let mut room = SAYS_BYTES;
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(n) => return out.truncate(start + n),
            Err(Some(InsufficientSizeError { required_size })) => room = required_size,
            Err(None) => break,
        }
    }
    out.truncate(start);
}

impl Session {
    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(conn) => conn,
            Side::Client(conn) => conn,
        }
    }

    /// Whether the handshake waits for what rustls has to say. What can go with the first bytes of ours goes with them:
    /// a client's last message in front of its request, and tickets in front of an answer.
    fn must_send_now(&self) -> bool {
        if self.says.is_empty() {
            return false;
        }
        let common = self.common();
        if common.is_handshaking() || common.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return true;
        }
        matches!(self.side, Side::Server(_)) && self.left.is_empty()
    }

    /// Nothing has come that was not taken, and the other side has not said that it ends.
    fn is_idle(&self) -> bool {
        !self.ended && self.left.is_empty() && self.parked.is_empty()
    }

    /// All that rustls has to say.
    fn take_says(&mut self, buffers: &Buffers) -> Buf {
        let mut wire = buffers.take(self.says.len());
        wire.extend(&self.says);
        self.says = Vec::new();
        wire
    }

    /// Where the next bytes are to be read: behind what is parked, a copy of which goes in front of them. `None`: into
    /// `buf`, which has the room for a whole record.
    fn begin(&self, buf: &mut Buf, buffers: &Buffers) -> Option<Buf> {
        let parked = self.parked.bytes();
        if parked.is_empty() {
            return None;
        }
        if buf.spare() >= whole_record(parked).max(parked.len() + 1) {
            buf.extend(parked);
            return None;
        }
        // Step by step: who only says that a long record comes gets no room for it.
        let mut inbox = buffers.take(self.parked.larger());
        inbox.extend(parked);
        Some(inbox)
    }

    /// Hands `wire`, which begins with what is parked, to rustls, as far as there are whole records in it; how far that was.
    fn pump(&mut self, wire: &mut [u8], plain: &mut Buf) -> Result<usize, rustls::Error> {
        if self.broken {
            return Err(rustls::Error::General("used after a fault".into()));
        }
        let mut used = 0;
        loop {
            let Some(rest) = wire.get_mut(used..) else { return Ok(used) };
            let Self { side, says, ended, .. } = self;
            let (discard, turned) = match side {
                Side::Server(conn) => turn(conn.process_tls_records(rest), plain, says, ended),
                Side::Client(conn) => turn(conn.process_tls_records(rest), plain, says, ended),
            };
            used += discard;
            match turned {
                Ok(Turn::Again) => {}
                Ok(Turn::Rest) => return Ok(used),
                Err(e) => {
                    self.collect_alert();
                    self.broken = true;
                    return Err(e);
                }
            }
        }
    }

    /// After an error: what was to be said before it, and the alert that it put up. As long as there is any, rustls gives
    /// it out before it looks at what came.
    #[cold]
    fn collect_alert(&mut self) {
        for _ in 0..LAST_SAYS_MAX {
            if !self.common().wants_write() {
                return;
            }
            let Self { side, says, ended, .. } = self;
            let _ = match side {
                Side::Server(conn) => turn(conn.process_tls_records(&mut []), &mut Buf::default(), says, ended),
                Side::Client(conn) => turn(conn.process_tls_records(&mut []), &mut Buf::default(), says, ended),
            };
        }
    }

    /// The same within a handshake; data behind it is kept.
    fn pump_handshake(&mut self, buf: &mut Buf, buffers: &Buffers) -> Result<(), rustls::Error> {
        let mut plain = Buf::default();
        NAMED.set(None);
        let used = self.pump(buf.bytes_mut(), &mut plain);
        if let Some(name) = NAMED.take() {
            self.name = Some(name);
        }
        buf.consume(used?);
        if !plain.is_empty() {
            let mut left = buffers.take(plain.len());
            left.extend(plain.bytes());
            self.left = left;
        }
        Ok(())
    }

    /// Keeps the beginning of a record.
    fn park(&mut self, rest: &[u8], buffers: &Buffers) {
        if !rest.is_empty() {
            let mut parked = buffers.take(rest.len());
            parked.extend(rest);
            self.parked = parked;
        }
    }

    /// Moves plaintext that is there into `buf`: `Some(0)` is the announced end, `None` that nothing is there.
    fn take_left(&mut self, buf: &mut Buf, buffers: &Buffers) -> Option<usize> {
        if self.left.is_empty() {
            return if self.ended || buf.spare() == 0 { Some(0) } else { None };
        }
        let n = self.left.len().min(buf.spare());
        buf.extend(self.left.bytes().get(..n).unwrap_or_default());
        self.left.consume(n);
        if self.left.is_empty() {
            buffers.give(std::mem::take(&mut self.left));
        }
        Some(n)
    }

    /// Makes records of what fits into one write, behind what rustls has to say.
    fn seal(&mut self, plain: &[u8], buffers: &Buffers) -> io::Result<Sending> {
        let plain = plain.get(..PLAIN_MAX).unwrap_or(plain);
        let room = plain.len() + (plain.len() / RECORD_PLAIN_MAX + 1) * RECORD_EXTRA;
        let mut wire = buffers.take(self.says.len() + room);
        if self.broken {
            return Err(io::ErrorKind::NotConnected.into());
        }
        loop {
            // What waits to be said, an update of keys perhaps, comes first.
            if !self.says.is_empty() {
                wire.extend(&self.says);
                self.says = Vec::new();
            }
            let Self { side, says, ended, parked, .. } = self;
            let begun = parked.bytes_mut(); // of which nothing more comes of itself
            let sealed = match side {
                Side::Server(conn) => seal_turn(conn.process_tls_records(begun), plain, room, &mut wire, says, ended),
                Side::Client(conn) => seal_turn(conn.process_tls_records(begun), plain, room, &mut wire, says, ended),
            };
            if sealed? {
                return Ok(Sending { wire, plain: plain.len() });
            }
        }
    }

    fn say_end(&mut self) {
        if self.broken || self.common().is_handshaking() {
            return;
        }
        let Self { side, says, ended, parked, .. } = self;
        for _ in 0..LAST_SAYS_MAX {
            let begun = parked.bytes_mut();
            let said = match side {
                Side::Server(conn) => close_turn(conn.process_tls_records(begun), says, ended),
                Side::Client(conn) => close_turn(conn.process_tls_records(begun), says, ended),
            };
            if said {
                return;
            }
        }
    }
}

/// True once `plain` is in `wire`, false if rustls had something to say before.
fn seal_turn<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &[u8],
    room: usize,
    wire: &mut Buf,
    says: &mut Vec<u8>,
    ended: &mut bool,
) -> io::Result<bool> {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        let start = wire.len();
        wire.vec().resize(start + room, 0);
        let sealed = traffic.encrypt(plain, wire.last_mut(room)).map_err(|e| io::Error::other(e.to_string()))?;
        wire.truncate(start + sealed);
        return Ok(true);
    }
    match turn(status, &mut Buf::default(), says, ended).1 {
        Ok(Turn::Again) => Ok(false),
        Ok(Turn::Rest) => Err(io::ErrorKind::NotConnected.into()),
        Err(e) => Err(invalid(e)),
    }
}

/// True once the end is in `says`, or can not be said.
fn close_turn<D>(status: UnbufferedStatus<'_, '_, D>, says: &mut Vec<u8>, ended: &mut bool) -> bool {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        append(says, |room| match traffic.queue_close_notify(room) {
            Ok(n) => Ok(n),
            Err(EncryptError::InsufficientSize(e)) => Err(Some(e)),
            Err(EncryptError::EncryptExhausted) => Err(None),
        });
        return true;
    }
    !matches!(turn(status, &mut Buf::default(), says, ended).1, Ok(Turn::Again))
}

fn invalid(e: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}
