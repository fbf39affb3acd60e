//! The TLS handshake of one downstream connection: within its deadline, so many at a time, and what became of it.

use std::rc::Rc;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::end::{Closed, Deadline, Handshake};
use crate::http::reply;
use crate::io::tls::{HandshakeError, TlsIo};
use crate::io::{Buf, Fired, guard};
use crate::snapshot::ListenerTls;
use crate::tls::Session;

use super::plane::{Downstream, Plane};

/// Longest time that a client which speaks HTTP without TLS is given to take its answer and leave, in ms.
const PLAIN_MS: u64 = 1_000;
/// What it is told.
const PLAIN_TEXT: &[u8] = b"This port speaks TLS: use https://\n";

/// Shakes hands with the client, if its listener speaks TLS; `first` are bytes of it that have come. Afterwards [`Downstream::session`] says who it is.
pub async fn shake(down: &Rc<Downstream>, plane: &Rc<Plane>, first: Buf) -> Result<(), Closed> {
    let Some(io) = down.stream.tls() else { return Ok(()) };
    let live = plane.live();
    let rules = live.snapshot.listeners.get(down.listener).and_then(|rules| rules.tls.as_ref());
    let Some(rules) = rules else { return Err(Closed::TlsHandshake) };
    let due_ms = down.opened_ms.saturating_add(rules.handshake_ms.into());
    let shaken = guard(&down.slot, due_ms, async {
        let _inside = plane.gate(down.listener).enter(rules.handshakes_max).await;
        io.handshake(first).await
    });
    let outcome = match shaken.await {
        Ok(Ok(())) => admit(io, rules).map(|session| drop(down.session.set(Rc::new(session)))),
        Ok(Err(HandshakeError::Closed)) => Err(Handshake::Closed),
        Ok(Err(HandshakeError::NotTls(first))) => Err(speak_plainly(down, io, first).await),
        Ok(Err(HandshakeError::Tls(e))) => Err(outcome_of(&e)),
        Err(Fired::Gone) => Err(Handshake::Closed),
        Err(Fired::Shutdown) => Err(Handshake::Drain),
        Err(Fired::Deadline) => {
            plane.core.metrics.deadlines.add(Deadline::TlsHandshake.index(), 1);
            Err(Handshake::Timeout)
        }
    };
    let counted = match outcome {
        Ok(()) if io.is_resumed() => Handshake::Resumed,
        Ok(()) => Handshake::Full,
        Err(why) => why,
    };
    plane.core.metrics.handshakes.add(counted.index(), 1);
    outcome.map_err(|_| Closed::TlsHandshake)
}

fn admit(io: &TlsIo, rules: &ListenerTls) -> Result<Session, Handshake> {
    let chain = io.peer_certificates();
    let client = rules.rules.admit(&chain, io.is_resumed()).map_err(|e| outcome_of(&e))?;
    let server_name = io.server_name().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    Ok(Session { server_name, version: io.version(), client })
}

/// A client that sent something else: one that speaks HTTP is told so, in plain text (RFC 9110 15.5.1).
#[cold]
async fn speak_plainly(down: &Rc<Downstream>, io: &TlsIo, first: Buf) -> Handshake {
    // A method and a space, as a request line begins.
    let word = first.bytes().iter().take(24).position(|b| !b.is_ascii_uppercase());
    if !word.is_some_and(|end| end > 2 && first.bytes().get(end) == Some(&b' ')) {
        return Handshake::NotTls;
    }
    let mut out = Buf::with_capacity(256);
    reply::status_line(400, out.vec());
    out.extend(b"Content-Type: text/plain\r\nConnection: close\r\nContent-Length: ");
    out.extend(PLAIN_TEXT.len().to_string().as_bytes());
    out.extend(b"\r\n\r\n");
    out.extend(PLAIN_TEXT);
    let due_ms = down.slot.now_ms().saturating_add(PLAIN_MS);
    let _ = guard(&down.slot, due_ms, io.answer_plainly(out)).await; // a client that stays is left
    Handshake::PlainHttp
}

/// What a TLS error means.
fn outcome_of(e: &TlsError) -> Handshake {
    match e {
        TlsError::NoCertificatesPresented => Handshake::CertificateMissing,
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Handshake::CertificateExpired
        }
        TlsError::InvalidCertificate(CertificateError::Revoked) => Handshake::CertificateRevoked,
        TlsError::InvalidCertificate(_) | TlsError::InvalidCertRevocationList(_) => Handshake::CertificateInvalid,
        TlsError::AlertReceived(AlertDescription::CloseNotify) => Handshake::Closed,
        TlsError::AlertReceived(_) => Handshake::Refused,
        TlsError::PeerIncompatible(_) | TlsError::NoApplicationProtocol => Handshake::NothingInCommon,
        // What rustls says when no certificate is chosen, and nothing else.
        TlsError::General(_) => Handshake::UnknownName,
        TlsError::InvalidMessage(_) => Handshake::NotTls,
        _ => Handshake::Protocol,
    }
}
