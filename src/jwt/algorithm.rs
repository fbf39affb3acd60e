//! Signature algorithms (RFC 7518 3.1, RFC 8037 3.1), by name and as sets.

use std::fmt;

use jsonwebtoken::Algorithm;

/// Those that are known, by the names that tokens and keys use. `none` is not one.
pub const NAMES: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// A set of algorithms: one bit each, in the order of [`NAMES`].
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms(u16);

impl Algorithms {
    /// HMAC with a secret.
    pub const HMAC: Self = Self(0b111);
    /// RSA, with PKCS #1 or PSS padding.
    pub const RSA: Self = Self(0b111_111 << 3);
    /// ECDSA on P-256.
    pub const P256: Self = Self(1 << 9);
    /// ECDSA on P-384.
    pub const P384: Self = Self(1 << 10);
    /// Ed25519.
    pub const ED25519: Self = Self(1 << 11);
    /// All that are known.
    pub const ALL: Self = Self(0b1111_1111_1111);

    /// This one alone.
    #[must_use]
    pub fn only(algorithm: Algorithm) -> Self {
        Self(NAMES.iter().position(|(_, known)| *known == algorithm).map_or(0, |index| 1 << index))
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What one of them has.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(self, algorithm: Algorithm) -> bool {
        !self.and(Self::only(algorithm)).is_empty()
    }

    /// The names of its members.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(_, algorithm)| self.has(*algorithm)).map(|(name, _)| *name)
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The algorithm of that name, which is told by case (RFC 7515 4.1.1).
#[must_use]
pub fn by_name(name: &str) -> Option<Algorithm> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_they_are_named_after() {
        let names = |set: Algorithms| set.names().collect::<Vec<_>>().join(" ");
        assert_eq!(names(Algorithms::HMAC), "HS256 HS384 HS512");
        assert_eq!(names(Algorithms::RSA), "RS256 RS384 RS512 PS256 PS384 PS512");
        assert_eq!(names(Algorithms::P256.or(Algorithms::P384)), "ES256 ES384");
        assert_eq!(names(Algorithms::ED25519), "EdDSA");
        assert_eq!(Algorithms::ALL.names().count(), NAMES.len());
        assert!(Algorithms::RSA.and(Algorithms::HMAC).is_empty());
    }

    #[test]
    fn none_is_no_algorithm_in_any_case() {
        for name in ["none", "None", "NONE", "", "hs256", "ES512", "ES256K", "HS256 "] {
            assert_eq!(by_name(name), None, "{name}");
        }
        assert_eq!(by_name("EdDSA"), Some(Algorithm::EdDSA));
    }
}
