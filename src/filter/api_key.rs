//! `api_key`: callers that show a key. What is known of a key is its SHA-256, and who owns it.
//!
//! The presented key is hashed, and the digest looked up. How long that takes depends on the length of what was presented
//! and, within the table, on digests; but what one could learn of a stored digest by the clock does not lead to the key
//! that has it: that would be a preimage of SHA-256. So nothing here depends on a secret in a way that tells it, however
//! many keys there are. It needs keys that can not be guessed: 128 random bits or more (`openssl rand -hex 32`).

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};

use crate::core::Core;
use crate::error::Kind;
use crate::http::encode;
use crate::http::reply::Reply;
use crate::request::{Request, pair_value};
use crate::route::encode::{Source, decode};
use crate::shared::{FilterMetrics, Rules};

use super::{Flow, note_refusal};

/// A SHA-256.
pub type Digest = [u8; 32];

/// The filter.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its name.
    pub name: String,
    /// The field that a key comes in.
    pub header: Option<String>,
    /// The query parameter that a key comes in.
    pub query: Option<String>,
    /// Keys that are known.
    pub keys: Rules<Keys>,
    /// Tags of which a key needs all.
    pub required_tags: Vec<String>,
    /// The field by which the upstream is told who calls.
    pub principal_header: Option<String>,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// Keys, by their digest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys(pub HashMap<Digest, Owner>);

/// Whose key it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The name by which limits, logs and upstreams know the caller.
    pub name: String,
    /// What the key is for.
    pub tags: Vec<String>,
}

impl Keys {
    /// Who owns this key.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<&Owner> {
        let digest = Digest::try_from(digest(&SHA256, key).as_ref()).ok()?;
        self.0.get(&digest)
    }
}

/// Why a caller is turned away.
enum Fault {
    Missing,
    Wrong,
    NoRight,
}

impl ApiKey {
    /// Makes out who calls, and takes the key out of what is forwarded.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        match self.owner(req) {
            Ok(owner) => {
                self.accept(owner, req);
                Flow::Continue
            }
            Err(fault) => self.refuse(&fault, req),
        }
    }

    fn owner(&self, req: &Request) -> Result<&Owner, Fault> {
        let bytes = req.bytes();
        let named = self.header.iter().flat_map(|name| req.fields_named(name.as_bytes()));
        let mut fields = named.map(|value| value.of(bytes));
        let mut values = req.pairs().filter_map(|pair| self.value_of(pair));
        // More than one is refused: which of them others would take is anybody's guess.
        let owner = match (fields.next(), fields.next(), values.next(), values.next()) {
            (None, _, None, _) => return Err(Fault::Missing),
            (Some(key), None, None, _) => self.keys.owner(key),
            (None, _, Some(key), None) if key.iter().any(|byte| b"%+".contains(byte)) => {
                let mut decoded = Vec::with_capacity(key.len());
                decode(key, Source::Query, &mut decoded);
                self.keys.owner(&decoded)
            }
            (None, _, Some(key), None) => self.keys.owner(key),
            _ => return Err(Fault::Wrong),
        };
        let owner = owner.ok_or(Fault::Wrong)?;
        match self.required_tags.iter().all(|tag| owner.tags.contains(tag)) {
            true => Ok(owner),
            false => Err(Fault::NoRight),
        }
    }

    /// The value of a pair of the query, if it is the key's.
    fn value_of<'p>(&self, pair: &'p [u8]) -> Option<&'p [u8]> {
        pair_value(pair, self.query.as_ref()?.as_bytes())
    }

    fn accept(&self, owner: &Owner, req: &mut Request) {
        self.metrics.passed.add(1);
        if let Some(name) = &self.header {
            req.edits.remove(name.as_bytes());
        }
        if self.query.is_some() {
            req.drop_pairs(|pair| self.value_of(pair).is_some());
        }
        req.set_principal(&owner.name, self.principal_header.as_deref());
    }

    #[cold]
    fn refuse(&self, fault: &Fault, req: &mut Request) -> Flow {
        note_refusal(&self.name, &self.metrics, req);
        let kind = match fault {
            Fault::Missing => Kind::CredentialsMissing,
            Fault::Wrong => Kind::CredentialsWrong,
            Fault::NoRight => return Flow::Reply(Reply::from_error(Kind::RightMissing, &req.request_id, b"")),
        };
        // RFC 9110 15.5.2 wants a challenge, and no scheme is registered for keys.
        let mut line = Vec::new();
        let challenge = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"Key realm=\"");
            out.extend_from_slice(self.name.as_bytes());
            out.push(b'"');
        };
        encode::field_of(b"WWW-Authenticate", challenge, &mut line);
        Flow::Reply(Reply::from_error(kind, &req.request_id, &line))
    }
}
