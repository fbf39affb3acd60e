//! TLS over TCP: rustls' buffered connection between this core's socket and whoever reads and writes plaintext.
//!
//! Reads go into the caller's buffer: ciphertext first, which rustls takes out of it record by record, and the plaintext
//! comes back in the room that became free. So a waiting connection holds one small buffer, as it does without TLS.
//! What is written leaves as one buffer of whole records. Bytes that rustls itself has to say (tickets, answers to key
//! updates) leave in front of the next of ours.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
};

use super::buffers::{Buf, Buffers};
use super::stream::TcpIo;

/// Plaintext that becomes one write: what a body's buffer holds.
const PLAIN_MAX: usize = 64 * 1024;
/// A record's head, tag and content type (RFC 8446 5.2), for each 16 KiB or less.
const RECORD_EXTRA: usize = 5 + 16 + 1 + 8;
const RECORD_PLAIN_MAX: usize = 16 * 1024;
/// What handshake messages are read into.
const HANDSHAKE_BYTES: usize = 4096;
/// Pieces that a liveness check reads at most: more than tickets is a reason not to use a connection again.
const TICKET_READS_MAX: usize = 8;
/// The type of a record that begins a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 22;

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

struct Session {
    conn: Connection,
    /// Ciphertext that came when rustls held as much plaintext as it may.
    parked: Vec<u8>,
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
        Ok(Self::new(tcp, Connection::Server(ServerConnection::new(Arc::clone(config))?), buffers))
    }

    /// The client's side of a connection that was dialled, to be asked for `name`. The handshake is yet to be done.
    pub fn client(
        tcp: TcpIo,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        buffers: &Rc<Buffers>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(tcp, Connection::Client(ClientConnection::new(Arc::clone(config), name)?), buffers))
    }

    fn new(tcp: TcpIo, conn: Connection, buffers: &Rc<Buffers>) -> Self {
        Self {
            tcp,
            session: RefCell::new(Session { conn, parked: Vec::new() }),
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
            if self.session.borrow_mut().must_send_now() {
                let wire = self.session.borrow_mut().records(self.buffers.take(HANDSHAKE_BYTES));
                if self.write_out(wire).await.is_err() {
                    break Err(HandshakeError::Closed);
                }
            }
            if !self.session.borrow().conn.is_handshaking() {
                break Ok(());
            }
            buf.clear();
            let (read, filled) = self.tcp.read(buf).await;
            buf = filled;
            if !matches!(read, Ok(n) if n > 0) {
                break Err(HandshakeError::Closed);
            }
            let is_server = matches!(self.session.borrow().conn, Connection::Server(_));
            if std::mem::take(&mut first) && is_server && buf.bytes().first() != Some(&HANDSHAKE_RECORD) {
                return Err(HandshakeError::NotTls(buf));
            }
            let fed = self.session.borrow_mut().feed_handshake(buf.bytes());
            if let Err(e) = fed {
                // The alert says why.
                let wire = self.session.borrow_mut().records(self.buffers.take(HANDSHAKE_BYTES));
                let _ = self.write_out(wire).await;
                break Err(HandshakeError::Tls(e));
            }
        };
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
            let taken = self.session.borrow_mut().take_plaintext(&mut buf);
            match taken {
                Ok(Some(n)) => return (Ok(n), buf),
                Ok(None) => {}
                Err(e) => return (Err(self.failed(e)), buf),
            }
            let (read, filled) = self.tcp.read(buf).await;
            buf = filled;
            let n = match read {
                Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buf),
                Ok(n) => n,
                Err(e) => return (Err(e), buf),
            };
            let before = buf.len().saturating_sub(n);
            let decrypted = self.session.borrow_mut().decrypt(buf.last_mut(n));
            match decrypted {
                Ok(plain) => {
                    buf.truncate(before + plain);
                    if plain > 0 {
                        return (Ok(plain), buf);
                    }
                }
                Err(e) => {
                    buf.truncate(before);
                    return (Err(self.failed(e)), buf);
                }
            }
        }
    }

    /// See [`super::Stream::write`].
    pub(super) async fn write(&self, mut buf: Buf) -> (io::Result<()>, Buf) {
        let under_way = self.sending.borrow_mut().take();
        let Sending { wire, plain } = match under_way {
            Some(sending) => sending,
            None => {
                let sealed = self.seal(buf.bytes());
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

    fn seal(&self, plain: &[u8]) -> io::Result<Sending> {
        let mut session = self.session.borrow_mut();
        let plain = plain.get(..PLAIN_MAX).unwrap_or(plain);
        let n = session.conn.writer().write(plain)?;
        let wire = self.buffers.take(n + (n / RECORD_PLAIN_MAX + 1) * RECORD_EXTRA);
        Ok(Sending { wire: session.records(wire), plain: n })
    }

    /// Tells the other side why, if it can be told at once.
    #[cold]
    fn failed(&self, e: io::Error) -> io::Error {
        self.send_now();
        e
    }

    /// Sends what rustls has to say, as far as the socket takes it without waiting.
    fn send_now(&self) {
        if self.in_flight.get() || self.sending.borrow().is_some() {
            return; // within a record of ours
        }
        let wire = self.session.borrow_mut().records(self.buffers.take(RECORD_EXTRA));
        if !wire.is_empty() {
            // The connection ends: what the socket does not take is not said.
            let _ = rustix::net::send(self.tcp.fd(), wire.bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        self.buffers.give(wire);
    }

    /// See [`super::Stream::say_end`].
    pub(super) fn say_end(&self) {
        self.session.borrow_mut().conn.send_close_notify();
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
                    let came = bytes.get_mut(..n).unwrap_or_default();
                    if !matches!(session.decrypt(came), Ok(0)) || !session.is_idle() {
                        return false;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// The name the client asked for (RFC 6066 3), in lower case.
    pub fn server_name(&self) -> Option<String> {
        match &self.session.borrow().conn {
            Connection::Server(conn) => conn.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        }
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// `TLSv1.2` or `TLSv1.3`, once hands were shaken.
    pub fn version(&self) -> &'static str {
        match self.session.borrow().conn.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "",
        }
    }

    /// The other side's certificate and those it sent with it; also of a resumed session.
    pub fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        self.session.borrow().conn.peer_certificates().map(<[_]>::to_vec).unwrap_or_default()
    }
}

impl Session {
    /// Whether the handshake waits for what rustls has to say. What can go with the first bytes of ours goes with them:
    /// a client's last message in front of its request, and tickets in front of an answer.
    fn must_send_now(&mut self) -> bool {
        if !self.conn.wants_write() {
            return false;
        }
        if self.conn.is_handshaking() || self.conn.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return true;
        }
        matches!(self.conn, Connection::Server(_)) && self.is_idle()
    }

    /// No plaintext waits, and the other side has not said that it ends.
    fn is_idle(&mut self) -> bool {
        let nothing = matches!(self.conn.reader().fill_buf(), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        nothing && self.parked.is_empty()
    }

    /// All that rustls has to send, behind what is in `wire`.
    fn records(&mut self, mut wire: Buf) -> Buf {
        while self.conn.wants_write() && self.conn.write_tls(wire.vec()).is_ok_and(|n| n > 0) {}
        wire
    }

    fn feed_handshake(&mut self, mut came: &[u8]) -> Result<(), rustls::Error> {
        while !came.is_empty() {
            match self.conn.read_tls(&mut came) {
                Ok(0) => return Ok(()), // the other side has said that it ends
                Ok(_) => {
                    self.conn.process_new_packets()?;
                }
                Err(_) => {
                    // It can not take more before somebody reads.
                    self.parked.extend_from_slice(came);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Moves plaintext that is there into `buf`: `Some(0)` is the announced end, `None` that nothing is there.
    fn take_plaintext(&mut self, buf: &mut Buf) -> io::Result<Option<usize>> {
        if buf.spare() == 0 {
            return Ok(Some(0)); // as a read into a full buffer does
        }
        loop {
            let mut taken = 0;
            while buf.spare() > 0 {
                let mut reader = self.conn.reader();
                let n = match reader.fill_buf() {
                    Ok([]) if taken == 0 => return Ok(Some(0)),
                    Ok(plain) => {
                        let n = plain.len().min(buf.spare());
                        buf.extend(plain.get(..n).unwrap_or_default());
                        n
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(e) => return Err(e),
                };
                if n == 0 {
                    break;
                }
                reader.consume(n);
                taken += n;
            }
            if taken > 0 {
                return Ok(Some(taken));
            }
            if self.parked.is_empty() {
                return Ok(None);
            }
            let parked = std::mem::take(&mut self.parked);
            self.feed_handshake(&parked).map_err(invalid)?;
        }
    }

    /// Takes ciphertext out of `wire` and puts plaintext at its front; how much that is. Plaintext that finds no room
    /// stays with rustls.
    fn decrypt(&mut self, wire: &mut [u8]) -> io::Result<usize> {
        if !self.parked.is_empty() {
            self.parked.extend_from_slice(wire); // in order
            return Ok(0);
        }
        let (mut taken, mut plain) = (0, 0);
        while let Some(mut rest) = wire.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.conn.read_tls(&mut rest) {
                Ok(0) => break, // the other side has said that it ends: the rest is nothing (RFC 8446 6.1)
                Ok(n) => taken += n,
                Err(_) => {
                    self.parked.extend_from_slice(rest);
                    break;
                }
            }
            self.conn.process_new_packets().map_err(invalid)?;
            let room = wire.get_mut(plain..taken).unwrap_or_default();
            match self.conn.reader().read(room) {
                Ok(n) => plain += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(plain)
    }
}

fn invalid(e: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}
