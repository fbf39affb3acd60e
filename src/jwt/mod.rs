//! JSON Web Tokens (RFC 7519) as signed ones come (JWS compact, RFC 7515): what a token is, which keys may have signed it,
//! and what it must say. No I/O and no clock: keys and the time come from who asks.
//!
//! A key decides which algorithms it is for, a token never does: an algorithm is looked for among the keys' own, so that
//! no public key is ever the secret of an HMAC (RFC 8725 2.1), and `none` is no algorithm at all. What a token's header
//! says of keys (`jwk`, `jku`, `x5u`, `x5c`) is not read.

pub mod algorithm;
pub mod cache;
pub mod json;
pub mod jwks;
pub mod key;
pub mod rules;
pub mod token;

pub use algorithm::Algorithms;
pub use cache::Cache;
pub use key::{Key, KeySet, Source};
pub use rules::{Rules, Verified};
pub use token::verify;

/// Why a token is not accepted. What clients are told is one of these words and nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no signed token: its form, its header, its payload.
    Malformed,
    /// It is longer than is read.
    TooLong,
    /// Its algorithm is none that is accepted, or none of its key's.
    Algorithm,
    /// No key of that name, or none that could have signed it.
    UnknownKey,
    /// No keys have been fetched yet, and it is signed with none of those that the config has.
    NoKeys,
    /// The signature is not that of its key.
    Signature,
    /// `exp` is over (RFC 7519 4.1.4).
    Expired,
    /// It has no `exp`, which is required.
    Endless,
    /// `nbf` or `iat` lies ahead (RFC 7519 4.1.5, 4.1.6).
    NotYet,
    /// `iss` is no accepted one.
    Issuer,
    /// `aud` names none of those that it is checked for.
    Audience,
}

impl Fault {
    /// What a client is told: visible ASCII without `"` and `\` (RFC 6750 3).
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::TooLong => "the token is too long",
            Self::Algorithm => "the algorithm is not accepted",
            Self::UnknownKey => "the key is not known",
            Self::NoKeys => "the keys are not there yet",
            Self::Signature => "the signature is wrong",
            Self::Expired => "the token has expired",
            Self::Endless => "the token does not say when it ends",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the issuer is not accepted",
            Self::Audience => "the token is for another audience",
        }
    }
}
