//! Passwords, where the planes meet: a core asks, and threads of control hash. A hash is slow by intention, and would stop
//! all that a core does. The queue between them is short, so that a flood of wrong passwords is refused at once instead of
//! being worked off for minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::{Argon2, PasswordVerifier, password_hash::phc::PasswordHash};
use async_channel::{Receiver, Sender};

use crate::value::Invalid;

/// bcrypt reads so many bytes of a password and no more.
const BCRYPT_BYTES: usize = 72;
/// Costs of bcrypt up to this take a second and more.
const BCRYPT_COST_MAX: u32 = 14;
/// argon2: memory of one hash, in KiB, and passes over it. Each thread may need as much at a time.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 16;

/// The hash of a password, as a file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// `$2y$…`, also `$2a$` and `$2b$`.
    Bcrypt(String),
    /// `$argon2id$…`, also `$argon2i$` and `$argon2d$`.
    Argon2(String),
}

/// Not even a hash is printed.
impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Hash {
    /// Reads a hash. What is wrong with it is said without it.
    ///
    /// # Errors
    /// It is of another kind, or so dear that few requests would keep all threads busy.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const REMEDY: &str = "bcrypt or argon2, as `htpasswd -B` or `argon2` make them";
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| Invalid::new("has a damaged hash", REMEDY))?;
            if parts.get_cost() > BCRYPT_COST_MAX {
                let remedy = format!("at most {BCRYPT_COST_MAX}: each login would take seconds of a processor");
                return Err(Invalid::new(format!("has a hash of cost {}", parts.get_cost()), remedy));
            }
            return Ok(Self::Bcrypt(text.to_owned()));
        }
        if text.starts_with("$argon2") {
            let damaged = || Invalid::new("has a damaged hash", REMEDY);
            let hash = PasswordHash::new(text).map_err(|_| damaged())?;
            argon2::Params::try_from(&hash).map_err(|_| damaged())?;
            argon2::Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| damaged())?;
            if hash.salt.is_none() || hash.hash.is_none() {
                return Err(damaged());
            }
            let number = |name: &str| hash.params.get_decimal(name).unwrap_or(0);
            if number("m") > ARGON2_KIB_MAX || number("t") > ARGON2_PASSES_MAX {
                let remedy = format!("at most m={ARGON2_KIB_MAX} and t={ARGON2_PASSES_MAX}");
                return Err(Invalid::new("has a hash that needs too much", remedy));
            }
            return Ok(Self::Argon2(text.to_owned()));
        }
        Err(Invalid::new("has a hash of a kind that is not understood, or no longer safe", REMEDY))
    }

    /// Whether it is the hash of `password`. This takes a while.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self {
            // It reads no more than 72 bytes: with a longer password others would be right too.
            Self::Bcrypt(hash) => {
                let is_right = bcrypt::verify(password.get(..BCRYPT_BYTES).unwrap_or(password), hash).unwrap_or(false);
                is_right && password.len() <= BCRYPT_BYTES
            }
            Self::Argon2(hash) => {
                PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
            }
        }
    }
}

/// Whether a password is the one of a hash.
pub struct Question {
    password: Box<[u8]>,
    hash: Arc<Hash>,
    answer: Sender<bool>,
}

impl Question {
    /// Works it out, unless nobody waits for it any more.
    pub fn work(self) {
        if !self.answer.is_closed() {
            let _ = self.answer.try_send(self.hash.is_of(&self.password)); // who asked may have left meanwhile
        }
    }
}

/// A core's end of the queue.
#[derive(Clone, Debug)]
pub struct Asker(Option<Sender<Question>>);

/// An answer to come.
#[derive(Debug)]
pub struct Answer(Receiver<bool>);

/// A queue for so many questions: what cores hold, and what threads work off.
#[must_use]
pub fn queue(length: usize) -> (Asker, Receiver<Question>) {
    let (sender, receiver) = async_channel::bounded(length.max(1));
    (Asker(Some(sender)), receiver)
}

impl Asker {
    /// Works everything out by itself, while who asks waits: for a command, which serves nobody meanwhile.
    #[must_use]
    pub fn alone() -> Self {
        Self(None)
    }

    /// Asks; `None` if as many wait already as may.
    #[must_use]
    pub fn ask(&self, password: &[u8], hash: &Arc<Hash>) -> Option<Answer> {
        let (answer, receiver) = async_channel::bounded(1);
        let question = Question { password: password.into(), hash: Arc::clone(hash), answer };
        match &self.0 {
            Some(queue) => queue.try_send(question).ok()?,
            None => question.work(),
        }
        Some(Answer(receiver))
    }
}

impl Answer {
    /// Waits for it; `false` too if it could not be worked out.
    pub async fn get(self) -> bool {
        self.0.recv().await.unwrap_or(false)
    }
}

/// A number that stands for one reading of a file: what was verified against another one says nothing.
#[must_use]
pub fn next_reading() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `htpasswd -nbB -C 4 u secret`, and `echo -n secret | argon2 saltsalt -id -m 8 -t 1 -e`.
    const ARGON2: &str = "$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHQ$";

    #[test]
    fn hashes_of_known_kinds_are_read_and_compared() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = Hash::parse(&bcrypt.replace("$2b$", prefix)).unwrap();
            assert!(hash.is_of(b"secret") && !hash.is_of(b"Secret") && !hash.is_of(b""), "{prefix}");
        }
        assert_eq!(format!("{:?}", Hash::parse(&bcrypt).unwrap()), "***");
        for (hash, what) in [
            ("secret", "a kind that is not understood"),
            ("$apr1$salt$hash", "a kind that is not understood"),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "a kind that is not understood"),
            ("", "a kind that is not understood"),
            ("$2y$10$tooshort", "damaged"),
            ("$argon2id$v=19$m=1", "damaged"),
            (ARGON2, "damaged"),
            (&bcrypt.replace("$04$", "$31$"), "a hash of cost 31"),
            ("$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "needs too much"),
            ("$argon2x$v=19$m=256,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "damaged"),
        ] {
            let fault = Hash::parse(hash).unwrap_err();
            assert!(fault.what.contains(what), "{hash}: {fault}");
            assert!(hash.is_empty() || !fault.to_string().contains(hash), "a hash is not quoted");
        }
    }

    #[test]
    fn a_full_queue_says_so_and_who_left_is_not_worked_for() {
        let (asker, questions) = queue(2);
        let hash = Arc::new(Hash::parse(&bcrypt::hash("secret", 4).unwrap()).unwrap());
        let (right, gone) = (asker.ask(b"secret", &hash).unwrap(), asker.ask(b"secret", &hash).unwrap());
        assert!(asker.ask(b"secret", &hash).is_none());
        drop(gone);
        while let Ok(question) = questions.try_recv() {
            question.work();
        }
        assert_eq!(right.0.try_recv(), Ok(true));
        let lost = asker.ask(b"secret", &hash).unwrap();
        drop(questions);
        assert!(asker.ask(b"secret", &hash).is_none() && lost.0.try_recv().is_err());
    }
}
