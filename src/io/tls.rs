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
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};

use super::buffers::{Buf, Buffers};
use super::records::{Sending, Session, Side, invalid};
use super::stream::TcpIo;

/// What handshake messages are read into.
const HANDSHAKE_BYTES: usize = 4096;
/// Bytes of a handshake that wait for their end: more than any chain of certificates has.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;
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
    /// It ends without a word.
    is_cut: Cell<bool>,
    buffers: Rc<Buffers>,
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
        Self {
            tcp,
            session: RefCell::new(Session::new(side)),
            sending: RefCell::default(),
            in_flight: Cell::new(false),
            unsent: Cell::new(0),
            is_cut: Cell::new(false),
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
            if self.session.borrow().parked.len() > HANDSHAKE_BYTES_MAX {
                return (Err(io::ErrorKind::InvalidData.into()), buf); // a message in pieces that never ends
            }
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
                    if plain.is_empty() {
                        self.buffers.give(plain);
                    } else {
                        session.left = plain;
                    }
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

    /// What is dropped from now on says no end.
    pub(super) fn say_nothing_more(&self) {
        self.is_cut.set(true);
    }

    /// See [`super::Stream::say_end`].
    pub(super) fn say_end(&self) {
        self.session.borrow_mut().say_end();
        self.send_now();
    }

    /// See [`super::Stream::is_quiet`]. Tickets and key updates that wait are taken in: they are no answer to anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet_if(self.tcp.is_quiet())
    }

    /// The same where the socket has been asked.
    pub(super) fn is_quiet_if(&self, tcp_is_quiet: bool) -> bool {
        let mut session = self.session.borrow_mut();
        if !session.is_idle() || self.sending.borrow().is_some() {
            return false;
        }
        if tcp_is_quiet {
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

    /// See [`super::Stream::has_more`].
    pub(super) fn has_more(&self) -> bool {
        let is_there = {
            let session = self.session.borrow();
            session.ended || !session.left.is_empty()
        };
        is_there || !self.tcp.is_quiet()
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

impl Drop for TlsIo {
    /// A client says that it ends, also within a request: its length tells a server that it is not whole, and the server may
    /// not keep a session that ended without a word (RFC 9112 9.8). A server says so only where the answer was whole.
    fn drop(&mut self) {
        if !self.is_cut.get() && matches!(self.session.get_mut().side, Side::Client(_)) {
            self.say_end();
        }
    }
}
