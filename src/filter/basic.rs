//! `basic`: callers that send name and password (RFC 7617). Hashes are compared off the core; what was right stays so for a
//! short while.
//!
//! A name that is not known takes as long as one that is: the password is then compared with the hash of another user, the
//! same one for the same name. While the queue is full, passwords that were not seen before are answered 503; those that
//! were right a moment ago pass.

use std::collections::HashMap;
use std::future::Future;
use std::hash::BuildHasher;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::core::Core;
use crate::core::verified::Tag;
use crate::error::Kind;
use crate::http::encode;
use crate::http::known::Known;
use crate::http::reply::Reply;
use crate::request::Request;
use crate::shared::passwords::{Answer, Asker, Hash, next_reading};
use crate::shared::{FilterMetrics, Rules};

use super::{Flow, Verdict, note_refusal};

/// Name and password together are no longer, in bytes.
const DECODED_BYTES_MAX: usize = 1024;
/// What a client is told that comes while the queue is full. In s.
const RETRY_AFTER_S: u64 = 1;

/// The filter.
#[derive(Clone, Debug)]
pub struct Basic {
    /// Its name.
    pub name: String,
    /// Who may call.
    pub users: Rules<Users>,
    /// Who compares hashes.
    pub asker: Asker,
    /// The value of WWW-Authenticate.
    pub challenge: String,
    /// Whether the upstream gets name and password too.
    pub is_forwarded: bool,
    /// The field by which the upstream is told who calls.
    pub principal_header: Option<String>,
    /// How long a password that was right is taken for right, in ms.
    pub cache_ms: u64,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// Users and the hashes of their passwords: one reading of a file.
#[derive(Debug)]
pub struct Users {
    reading: u64,
    by_name: HashMap<String, Rules<Hash>>,
    decoys: Vec<Rules<Hash>>,
    choice: foldhash::quality::RandomState,
}

impl Users {
    /// These; none: nobody may call.
    #[must_use]
    pub fn new(users: Vec<(String, Hash)>) -> Self {
        let by_name: HashMap<String, Rules<Hash>> =
            users.into_iter().map(|(name, hash)| (name, Rules::new(hash))).collect();
        let decoys: Vec<Rules<Hash>> = by_name.values().cloned().collect();
        Self { reading: next_reading(), by_name, decoys, choice: Default::default() }
    }

    /// The hash of a user, or another one to be compared with in its place; and whether it is the user's.
    fn hash(&self, user: &str) -> Option<(&Rules<Hash>, bool)> {
        if let Some(hash) = self.by_name.get(user) {
            return Some((hash, true));
        }
        let number = usize::try_from(self.choice.hash_one(user) >> 1).unwrap_or(0);
        let decoy = number.checked_rem(self.decoys.len()).and_then(|index| self.decoys.get(index))?;
        Some((decoy, false))
    }
}

impl Basic {
    /// Makes out who calls; waits where that has to be worked out.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        let mut space = [0; DECODED_BYTES_MAX];
        let credentials = match credentials(req, &mut space) {
            Ok(credentials) => credentials,
            Err(kind) => return self.refuse(kind, req),
        };
        let Some((user, password)) = credentials.split_once(':') else {
            return self.refuse(Kind::CredentialsWrong, req);
        };
        let tag = core.verified.tag(self.users.reading, credentials.as_bytes());
        if core.verified.holds(&tag, core.deadlines.now_ms()) {
            self.accept(user, req);
            return Flow::Continue;
        }
        let Some((hash, is_users)) = self.users.hash(user) else { return self.refuse(Kind::CredentialsWrong, req) };
        match self.asker.ask(password.as_bytes(), hash) {
            Some(answer) => {
                self.metrics.waited.add(1);
                Flow::Wait(Box::pin(self.wait(answer, is_users, tag, req.request_id.clone(), core)))
            }
            None => self.refuse(Kind::PasswordsBusy, req),
        }
    }

    fn wait(
        &self,
        answer: Answer,
        is_users: bool,
        tag: Tag,
        request_id: String,
        core: &Core,
    ) -> impl Future<Output = Verdict> + use<> {
        let (verified, deadlines, cache_ms) = (Rc::clone(&core.verified), Rc::clone(&core.deadlines), self.cache_ms);
        let (by, metrics, line) = (self.name.clone(), FilterMetrics::clone(&self.metrics), self.challenge_line());
        async move {
            let is_right = answer.get().await && is_users;
            if is_right {
                let now_ms = deadlines.now_ms();
                verified.add(tag, now_ms, now_ms.saturating_add(cache_ms));
                return Verdict::Again;
            }
            metrics.refused.add(1);
            Verdict::Refuse { by, reply: Reply::from_error(Kind::CredentialsWrong, &request_id, &line) }
        }
    }

    fn accept(&self, user: &str, req: &mut Request) {
        self.metrics.passed.add(1);
        if !self.is_forwarded {
            req.edits.remove(b"authorization");
        }
        req.set_principal(user, self.principal_header.as_deref());
    }

    fn challenge_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        encode::field(b"WWW-Authenticate", self.challenge.as_bytes(), &mut line);
        line
    }

    #[cold]
    fn refuse(&self, kind: Kind, req: &mut Request) -> Flow {
        note_refusal(&self.name, &self.metrics, req);
        Flow::Reply(match kind {
            Kind::PasswordsBusy => Reply::come_again(kind, &req.request_id, RETRY_AFTER_S),
            _ => Reply::from_error(kind, &req.request_id, &self.challenge_line()),
        })
    }
}

/// `name:password` of the one Authorization field. RFC 7617 2: UTF-8, and no control characters in either.
fn credentials<'s>(req: &Request, space: &'s mut [u8; DECODED_BYTES_MAX]) -> Result<&'s str, Kind> {
    let mut fields = req.head.fields.all(Known::Authorization).map(|field| field.value.of(req.bytes()));
    let value = fields.next().ok_or(Kind::CredentialsMissing)?;
    if fields.next().is_some() {
        return Err(Kind::CredentialsWrong);
    }
    let (scheme, rest) = value.split_at_checked("Basic".len()).ok_or(Kind::CredentialsMissing)?;
    if !scheme.eq_ignore_ascii_case(b"Basic") || rest.first() != Some(&b' ') {
        return Err(Kind::CredentialsMissing);
    }
    let encoded = rest.trim_ascii();
    // What does not fit is wrong too: a hash must not become dearer by what is hashed.
    let length = STANDARD.decode_slice(encoded, space).map_err(|_| Kind::CredentialsWrong)?;
    let text = space.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(Kind::CredentialsWrong)?;
    match text.chars().any(char::is_control) {
        true => Err(Kind::CredentialsWrong),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_that_is_not_known_has_a_hash_too_and_always_the_same() {
        assert!(Users::new(Vec::new()).hash("u3").is_none());
        let hash = |n: u32| Hash::parse(&bcrypt::hash(n.to_string(), 4).unwrap()).unwrap();
        let users = Users::new((0..5).map(|n| (format!("u{n}"), hash(n))).collect());
        assert!(users.hash("u3").unwrap().1);
        let (decoy, is_users) = users.hash("nobody").unwrap();
        assert!(!is_users);
        assert!(Rules::ptr_eq(decoy, users.hash("nobody").unwrap().0));
    }
}
