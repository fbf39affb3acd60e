//! Keys that tokens are checked with. Each knows the algorithms it is for.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use jsonwebtoken::DecodingKey;
use rustls::pki_types::pem::{PemObject, SectionKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::Algorithms;
use crate::shared::doorbell::Doorbell;
use crate::value::Invalid;

/// The shortest RSA key that is accepted (RFC 7518 3.3), and the longest that is checked at all, in bytes of its modulus.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// The longest exponent of such a key, in bytes: 65537 is what all have, and the time of a check grows with it.
const EXPONENT_BYTES: std::ops::RangeInclusive<usize> = 1..=4;
/// How a PEM block begins (RFC 7468).
const BEGIN: &[u8] = b"-----BEGIN ";
const REMEDY: &str = "RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519, as `openssl pkey -pubout` writes it";

/// One key.
#[derive(Clone)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithms: Algorithms,
    fingerprint: [u8; 32],
    decoding: DecodingKey,
}

/// The raw material of a key, by its kind.
pub(super) enum Material<'a> {
    /// Modulus and exponent, big-endian.
    Rsa(&'a [u8], &'a [u8]),
    /// An uncompressed point.
    P256(&'a [u8]),
    /// An uncompressed point.
    P384(&'a [u8]),
    /// A compressed point (RFC 8032).
    Ed25519(&'a [u8]),
    /// A secret.
    Secret(&'a [u8]),
}

impl Material<'_> {
    /// All that such a key can be for.
    fn algorithms(&self) -> Algorithms {
        match self {
            Self::Rsa(..) => Algorithms::RSA,
            Self::P256(_) => Algorithms::P256,
            Self::P384(_) => Algorithms::P384,
            Self::Ed25519(_) => Algorithms::ED25519,
            Self::Secret(_) => Algorithms::HMAC,
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Rsa(n, e) => {
                RSA_BYTES.contains(&significant(n).len()) && EXPONENT_BYTES.contains(&significant(e).len())
            }
            Self::P256(point) => point.len() == 65 && point.first() == Some(&4),
            Self::P384(point) => point.len() == 97 && point.first() == Some(&4),
            Self::Ed25519(point) => point.len() == 32,
            Self::Secret(_) => true,
        }
    }
}

/// Without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

impl Key {
    /// A key of this material for those of `wanted` that it can be for; `None` if there are none, or it is no key.
    pub(super) fn new(kid: Option<&str>, material: &Material<'_>, wanted: Algorithms) -> Option<Self> {
        let algorithms = material.algorithms().and(wanted);
        if algorithms.is_empty() || !material.is_whole() {
            return None;
        }
        let mut fingerprint = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            fingerprint.update(&bytes.len().to_le_bytes());
            fingerprint.update(bytes);
        };
        let decoding = match material {
            Material::Rsa(n, e) => {
                part(significant(n));
                part(significant(e));
                DecodingKey::from_rsa_raw_components(significant(n), significant(e))
            }
            Material::P256(point) | Material::P384(point) => {
                part(point);
                DecodingKey::from_ec_der(point)
            }
            Material::Ed25519(point) => {
                part(point);
                DecodingKey::from_ed_der(point)
            }
            Material::Secret(secret) => {
                part(secret);
                DecodingKey::from_secret(secret)
            }
        };
        part(kid.unwrap_or_default().as_bytes());
        part(&[u8::from(kid.is_some())]);
        part(format!("{algorithms:?}").as_bytes());
        let mut digest = [0; 32];
        digest.iter_mut().zip(fingerprint.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Some(Self { kid: kid.map(Into::into), algorithms, fingerprint: digest, decoding })
    }

    /// A shared secret. It must be as long as the hash of each of its algorithms (RFC 7518 3.2).
    ///
    /// # Errors
    /// What is wrong with it; never what it says.
    pub fn from_secret(kid: Option<&str>, secret: &[u8], wanted: Algorithms) -> Result<Self, Invalid> {
        let wanted = wanted.and(Algorithms::HMAC);
        let longest = wanted.names().filter_map(|name| name.get(2..)?.parse::<usize>().ok()).max().unwrap_or(256) / 8;
        // Whoever has such a key, which is everybody, could sign with it.
        if secret.windows(BEGIN.len()).any(|part| part == BEGIN) {
            return Err(Invalid::new("is a key in PEM and no secret", "name it as public_key"));
        }
        if secret.len() < longest {
            let what = format!("is a secret of {} bytes", secret.len());
            return Err(Invalid::new(what, format!("at least {longest}: `openssl rand -hex {longest}` makes one")));
        }
        let key = Self::new(kid, &Material::Secret(secret), wanted);
        key.ok_or_else(|| Invalid::new("is a secret", "its algorithm is one of HS256, HS384 and HS512"))
    }

    /// A public key in PEM: `PUBLIC KEY`, or the one of a `CERTIFICATE`. Without `wanted` it is for the usual algorithm of
    /// its kind: RS256, ES256, ES384, EdDSA.
    ///
    /// # Errors
    /// What is wrong with it; never what it says.
    pub fn from_pem(kid: Option<&str>, pem: &[u8], wanted: Option<Algorithms>) -> Result<Self, Invalid> {
        let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
        let (kind, der) = match (sections.next(), sections.next()) {
            (Some(Ok(section)), None) => section,
            (Some(Ok(_)), Some(_)) => return Err(Invalid::new("holds more than one PEM block", "a file for each key")),
            _ => return Err(Invalid::new("holds no public key in PEM", REMEDY)),
        };
        let info = match kind {
            SectionKind::PublicKey => SubjectPublicKeyInfo::from_der(&der).map(|(_, info)| info).ok(),
            SectionKind::Certificate => {
                X509Certificate::from_der(&der).map(|(_, c)| c.tbs_certificate.subject_pki).ok()
            }
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(Invalid::new("holds a private key, which only who signs may have", REMEDY));
            }
            _ => None,
        };
        let unusable = || Invalid::new("holds no public key that can be used", REMEDY);
        let info = info.ok_or_else(unusable)?;
        let material = material(&info).filter(Material::is_whole).ok_or_else(unusable)?;
        let usual = match material {
            Material::Rsa(..) => Algorithms::only(jsonwebtoken::Algorithm::RS256),
            _ => material.algorithms(),
        };
        Self::new(kid, &material, wanted.unwrap_or(usual)).ok_or_else(|| {
            let names: Vec<&str> = material.algorithms().names().collect();
            Invalid::new("holds a key that is not for this algorithm", format!("it is for {}", names.join(", ")))
        })
    }

    /// The name that tokens know it by.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it is for.
    #[must_use]
    pub const fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    pub(super) const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// The key of a certificate or of a `PUBLIC KEY`, if it is of a known kind.
fn material<'a>(info: &'a SubjectPublicKeyInfo<'_>) -> Option<Material<'a>> {
    let bytes: &[u8] = &info.subject_public_key.data;
    let curve =
        info.algorithm.parameters.as_ref().and_then(|any| Oid::try_from(any).ok()).map(|oid| oid.to_id_string());
    match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
        // RFC 3279 2.3.1
        ("1.2.840.113549.1.1.1", _) => match info.parsed() {
            Ok(PublicKey::RSA(rsa)) => Some(Material::Rsa(rsa.modulus, rsa.exponent)),
            _ => None,
        },
        // RFC 5480 2.1.1.1
        ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Some(Material::P256(bytes)),
        ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Some(Material::P384(bytes)),
        // RFC 8410 3
        ("1.3.101.112", _) => Some(Material::Ed25519(bytes)),
        _ => None,
    }
}

/// Two keys are the same if they are of the same material, name and algorithms.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// Without its material, which may be a secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// What has been fetched for a filter, and how to ask for more.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `None` until a first fetch was good.
    pub keys: Option<Arc<[Key]>>,
    /// For a token whose key is not known.
    pub bell: Doorbell,
}

/// The keys of one filter: those of the config, and those that are fetched. A copy shares them.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    own: Arc<[Key]>,
    source: Option<Source>,
}

/// Keys that are tried on one token at most: each costs up to 100 µs.
const TRIES_MAX: usize = 4;

impl KeySet {
    /// Keys of the config and, if it names a place for more, what has come from there.
    #[must_use]
    pub fn new(own: impl Into<Arc<[Key]>>, source: Option<Source>) -> Self {
        Self { own: own.into(), source }
    }

    /// All keys that are there.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        let fetched = self.source.iter().filter_map(|source| source.keys.as_deref()).flatten();
        self.own.iter().chain(fetched)
    }

    /// Whether keys are to be fetched and none have ever come.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.keys.is_none())
    }

    /// Asks for the keys to be fetched; how often that is done is for who fetches. Never waits.
    #[cold]
    pub fn ask(&self) {
        if let Some(source) = &self.source {
            source.bell.ring();
        }
    }

    /// Keys that may have signed a token of that algorithm that names this key; a token that names none is tried with all
    /// of its algorithm if they are few. Which algorithms a key is for is not asked here.
    pub(super) fn named(&self, kid: Option<&str>) -> Vec<&Key> {
        let Some(kid) = kid else { return self.iter().collect() };
        let named: Vec<&Key> = self.iter().filter(|key| key.kid() == Some(kid)).collect();
        if named.is_empty() { self.own.iter().filter(|key| key.kid.is_none()).collect() } else { named }
    }

    /// Of `named`, those for that algorithm; none if they are too many to be tried.
    pub(super) fn for_algorithm<'k>(named: &[&'k Key], algorithm: jsonwebtoken::Algorithm) -> Vec<&'k Key> {
        let keys: Vec<&Key> = named.iter().copied().filter(|key| key.algorithms.has(algorithm)).collect();
        if keys.len() > TRIES_MAX { Vec::new() } else { keys }
    }

    /// Stands for these keys and what is asked of tokens: what was found right under one identity may not be under another.
    #[must_use]
    pub fn identity(&self, filter: &str, rules: &super::Rules) -> u64 {
        let mut context = Context::new(&SHA256);
        for text in [filter, &format!("{rules:?}")] {
            context.update(&text.len().to_le_bytes());
            context.update(text.as_bytes());
        }
        self.iter().for_each(|key| context.update(&key.fingerprint));
        context.finish().as_ref().iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_as_long_as_its_hash_and_never_printed() {
        let secret = "0123456789abcdef0123456789abcdef";
        let hs256 = Algorithms::only(jsonwebtoken::Algorithm::HS256);
        let key = Key::from_secret(Some("k"), secret.as_bytes(), hs256).unwrap();
        assert!(!format!("{key:?}").contains("0123") && !format!("{key:?}").contains("48, 49"), "{key:?}");
        let fault = |wanted| Key::from_secret(None, secret.as_bytes(), wanted).unwrap_err().to_string();
        assert_eq!(fault(Algorithms::HMAC), "is a secret of 32 bytes (at least 64: `openssl rand -hex 64` makes one)");
        assert!(fault(Algorithms::RSA).contains("HS256, HS384"));
        let pem = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n";
        let hs256 = Algorithms::only(jsonwebtoken::Algorithm::HS256);
        assert!(Key::from_secret(None, pem, hs256).err().unwrap().what.contains("is a key in PEM"));
    }

    #[test]
    fn a_pem_is_a_key_of_its_kind_alone() {
        let pem = |alg| rcgen::KeyPair::generate_for(alg).unwrap();
        let p256 = pem(&rcgen::PKCS_ECDSA_P256_SHA256);
        let read = |pem: &str, wanted| Key::from_pem(None, pem.as_bytes(), wanted);
        let names = |key: &Key| key.algorithms().names().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&read(&p256.public_key_pem(), None).unwrap()), "ES256");
        assert_eq!(names(&read(&pem(&rcgen::PKCS_ECDSA_P384_SHA384).public_key_pem(), None).unwrap()), "ES384");
        assert_eq!(names(&read(&pem(&rcgen::PKCS_ED25519).public_key_pem(), None).unwrap()), "EdDSA");
        let hmac = read(&p256.public_key_pem(), Some(Algorithms::HMAC)).unwrap_err().to_string();
        assert_eq!(hmac, "holds a key that is not for this algorithm (it is for ES256)");
        assert!(read(&p256.serialize_pem(), None).unwrap_err().what.contains("private key"));
        let twice = format!("{0}{0}", p256.public_key_pem());
        assert!(read(&twice, None).unwrap_err().what.contains("more than one"));
        for text in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "secret"] {
            assert!(read(text, None).unwrap_err().what.contains("no public key"), "{text}");
        }
    }

    #[test]
    fn what_was_found_right_depends_on_keys_rules_and_filter() {
        let hs256 = Algorithms::only(jsonwebtoken::Algorithm::HS256);
        let key = |kid, byte| Key::from_secret(kid, &[byte; 32], hs256).unwrap();
        let id = |keys: &[Key], filter| KeySet::new(keys, None).identity(filter, &super::super::Rules::default());
        let one = id(&[key(Some("a"), 1)], "f");
        assert_eq!(one, id(&[key(Some("a"), 1)], "f"));
        assert_ne!(one, id(&[key(Some("a"), 2)], "f"));
        assert_ne!(one, id(&[key(Some("b"), 1)], "f"));
        assert_ne!(one, id(&[key(None, 1)], "f"));
        assert_ne!(one, id(&[key(Some("a"), 1), key(None, 2)], "f"));
        assert_ne!(one, id(&[key(Some("a"), 1)], "g"));
    }
}
