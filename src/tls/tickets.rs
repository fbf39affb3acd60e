//! Tickets (RFC 8446 4.6.1, RFC 5077): a session's state, sealed and kept by the client. Any core, and with a shared
//! secret any machine, can open it.
//!
//! A ticket is the id of its key, a nonce, and AES-256-GCM-SIV (RFC 8452) over the state: no machine has to coordinate
//! nonces with another. What a listener asks of clients is bound into each ticket, so that none that was given without a
//! client certificate resumes where one is required.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// How long a client may resume a session, in seconds.
const LIFETIME_S: u32 = 12 * 3600;
const ID_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// Secrets of which keys are derived: the first seals, all open. Rotate by putting a new one in front.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Arc<[u8]>>);

impl Secrets {
    /// These, the newest first.
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(secrets.into_iter().map(Arc::from).collect())
    }

    /// A new random one in front, and one of those before it: sessions survive one rotation.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn rotated(&self) -> Result<Self, &'static str> {
        let mut fresh = [0; KEY_BYTES];
        rand::fill(&mut fresh).map_err(|_| "the system gives no random bytes")?;
        let kept = self.0.first().cloned();
        Ok(Self(std::iter::once(Arc::from(fresh.as_slice())).chain(kept).collect()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ticket secrets", self.0.len())
    }
}

/// Seals and opens the tickets of one listener.
pub struct Tickets {
    keys: Vec<Key>,
    /// What the listener asks of its clients.
    context: Vec<u8>,
}

struct Key {
    id: [u8; ID_BYTES],
    key: LessSafeKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tickets under {} keys", self.keys.len())
    }
}

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn derive(secret: &[u8]) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, b"ringway tickets").extract(secret);
        let (mut id, mut key) = ([0; ID_BYTES], [0; KEY_BYTES]);
        secret.expand(&[b"id"], Bytes(ID_BYTES)).ok()?.fill(&mut id).ok()?;
        secret.expand(&[b"key"], Bytes(KEY_BYTES)).ok()?.fill(&mut key).ok()?;
        Some(Self { id, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key).ok()?) })
    }
}

impl Tickets {
    /// Tickets under `secrets`, for a listener that asks `context` of its clients.
    pub fn new(secrets: &Secrets, context: Vec<u8>) -> Self {
        Self { keys: secrets.0.iter().filter_map(|secret| Key::derive(secret)).collect(), context }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.keys.is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let Key { id, key } = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(ID_BYTES + NONCE_LEN + plain.len() + TAG_BYTES);
        ticket.extend_from_slice(id);
        ticket.extend_from_slice(&nonce);
        let mut state = plain.to_vec();
        let aad = Aad::from(self.context.as_slice());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut state).ok()?;
        ticket.extend_from_slice(&state);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_at_checked(ID_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let Key { key, .. } = self.keys.iter().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut state = sealed.to_vec();
        let plain = key.open_in_place(nonce, Aad::from(self.context.as_slice()), &mut state).ok()?.len();
        state.truncate(plain);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(secrets: &Secrets, context: &str) -> Tickets {
        Tickets::new(secrets, context.into())
    }

    #[test]
    fn another_machine_with_the_same_secret_opens_a_ticket_and_no_other_does() {
        let secrets = Secrets::new([vec![7; 48]]);
        let ticket = tickets(&secrets, "").encrypt(b"state").unwrap();
        assert_eq!(tickets(&secrets, "").decrypt(&ticket).unwrap(), b"state");
        assert!(tickets(&Secrets::new([vec![8; 48]]), "").decrypt(&ticket).is_none());
        assert!(!ticket.windows(5).any(|w| w == b"state"));
    }

    #[test]
    fn a_listener_that_asks_for_more_does_not_take_it() {
        let secrets = Secrets::new([vec![7; 32]]);
        let ticket = tickets(&secrets, "no client certificate").encrypt(b"state").unwrap();
        assert!(tickets(&secrets, "client certificate required").decrypt(&ticket).is_none());
    }

    #[test]
    fn a_rotation_keeps_the_last_secret_and_forgets_the_one_before() {
        let first = Secrets::default().rotated().unwrap();
        let ticket = tickets(&first, "").encrypt(b"state").unwrap();
        let second = first.rotated().unwrap();
        assert!(tickets(&second, "").decrypt(&ticket).is_some());
        assert!(tickets(&second.rotated().unwrap(), "").decrypt(&ticket).is_none());
    }

    #[test]
    fn garbage_is_no_ticket() {
        let tickets = tickets(&Secrets::new([vec![1; 32]]), "");
        let good = tickets.encrypt(b"state").unwrap();
        for n in 0..good.len() {
            assert!(tickets.decrypt(&good[..n]).is_none());
            let mut bad = good.clone();
            bad[n] ^= 1;
            assert!(tickets.decrypt(&bad).is_none());
        }
    }
}
