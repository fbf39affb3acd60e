//! rustls' state machine over this core's buffers: ciphertext in, plaintext out, and the reverse. No I/O.
//!
//! rustls remembers places in what it was given and did not take: it gets the same bytes again in every call, in front of
//! what is new, and is not called any more after a fault. Otherwise it would look for a message where none is.

use std::cell::RefCell;
use std::io;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, ProtocolVersion};

use super::buffers::{Buf, Buffers};

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
/// What rustls says by itself at one time (tickets, alerts, key updates) fits, or is asked for again with more room.
const SAYS_BYTES: usize = 512;
/// Messages that wait to be sent when an error ends a connection: a flight of a handshake and the alert.
const LAST_SAYS_MAX: usize = 32;

thread_local! {
    static NAMED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whoever chooses a certificate says here which name the client asked for: rustls' unbuffered connection does not tell,
/// and asks for the certificate within the call that reads the name.
pub fn client_names(name: Option<&str>) {
    NAMED.set(name.map(str::to_owned));
}

/// Records, and how many bytes of the caller's buffer they stand for.
pub(super) struct Sending {
    pub(super) wire: Buf,
    pub(super) plain: usize,
}

pub(super) enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

pub(super) struct Session {
    pub(super) side: Side,
    /// What came and is not whole yet. rustls remembers places in it: every call gets it again, in front of what is new.
    pub(super) parked: Buf,
    /// Plaintext that found no room in the caller's buffer.
    pub(super) left: Buf,
    /// What rustls has to say, ready to be sent.
    pub(super) says: Vec<u8>,
    /// The other side has said that it ends.
    pub(super) ended: bool,
    /// rustls has found a fault: it is not called again, since nobody has the bytes any more that it remembers.
    pub(super) broken: bool,
    /// The name that the client asked for.
    pub(super) name: Option<String>,
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
            append(says, SAYS_BYTES, |room| match data.encode(room) {
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

/// Appends what `write` writes into the room it is given, with more room if it asks for it; whether it wrote.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    let start = out.len();
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(n) => {
                out.truncate(start + n);
                return true;
            }
            Err(Some(InsufficientSizeError { required_size })) => room = required_size,
            Err(None) => break,
        }
    }
    out.truncate(start);
    false
}

/// How much more room a failed encryption asks for, if that is what it needs.
fn needs(e: EncryptError) -> Option<InsufficientSizeError> {
    match e {
        EncryptError::InsufficientSize(e) => Some(e),
        EncryptError::EncryptExhausted => None,
    }
}

impl Session {
    pub(super) fn new(side: Side) -> Self {
        let (parked, left, says) = (Buf::default(), Buf::default(), Vec::new());
        Self { side, parked, left, says, ended: false, broken: false, name: None }
    }

    pub(super) fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(conn) => conn,
            Side::Client(conn) => conn,
        }
    }

    /// Whether the handshake waits for what rustls has to say. What can go with the first bytes of ours goes with them:
    /// a client's last message in front of its request, and tickets in front of an answer.
    pub(super) fn must_send_now(&self) -> bool {
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
    pub(super) fn is_idle(&self) -> bool {
        !self.ended && self.left.is_empty() && self.parked.is_empty()
    }

    /// All that rustls has to say.
    pub(super) fn take_says(&mut self, buffers: &Buffers) -> Buf {
        let mut wire = buffers.take(self.says.len());
        wire.extend(&self.says);
        self.says = Vec::new();
        wire
    }

    /// Where the next bytes are to be read: behind what is parked, a copy of which goes in front of them. `None`: into
    /// `buf`, which has the room for a whole record.
    pub(super) fn begin(&self, buf: &mut Buf, buffers: &Buffers) -> Option<Buf> {
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
    pub(super) fn pump(&mut self, wire: &mut [u8], plain: &mut Buf) -> Result<usize, rustls::Error> {
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
    pub(super) fn pump_handshake(&mut self, buf: &mut Buf, buffers: &Buffers) -> Result<(), rustls::Error> {
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
    pub(super) fn park(&mut self, rest: &[u8], buffers: &Buffers) {
        if !rest.is_empty() {
            let mut parked = buffers.take(rest.len());
            parked.extend(rest);
            self.parked = parked;
        }
    }

    /// Moves plaintext that is there into `buf`: `Some(0)` is the announced end, `None` that nothing is there.
    pub(super) fn take_left(&mut self, buf: &mut Buf, buffers: &Buffers) -> Option<usize> {
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
    pub(super) fn seal(&mut self, plain: &[u8], buffers: &Buffers) -> io::Result<Sending> {
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

    pub(super) fn say_end(&mut self) {
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
        // The answer to a key update that was asked for goes in front, and needs more room.
        if !append(wire.vec(), room, |into| traffic.encrypt(plain, into).map_err(needs)) {
            return Err(io::Error::other("the keys of this connection are used up"));
        }
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
        append(says, SAYS_BYTES, |room| traffic.queue_close_notify(room).map_err(needs));
        return true;
    }
    !matches!(turn(status, &mut Buf::default(), says, ended).1, Ok(Turn::Again))
}

pub(super) fn invalid(e: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}
