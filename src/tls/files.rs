//! Reading certificates, keys, revocation lists and stapled answers. Faults say what is wrong with a file, not which: the
//! caller knows where its name was written.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use crate::value::Invalid;

/// Largest file that is read: revocation lists of large authorities have megabytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Certificates of one chain.
const CHAIN_MAX: usize = 16;
/// Longest label of a PEM block that is shown.
const LABEL_BYTES_MAX: usize = 40;
/// Shortest secret for tickets, in bytes: as long as the keys that are derived from it.
pub const TICKET_SECRET_MIN: usize = 32;

/// A certificate with its key, ready to be shown to clients.
pub struct Certificate {
    /// Chain, key and stapled answer.
    pub certified: Arc<CertifiedKey>,
    /// The DNS names it is for, in lower case; wildcards begin with `*.`.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// All of a file.
///
/// # Errors
/// It can not be read, is not a regular file, or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Invalid> {
    let failed = |cause: io::Error| Invalid::new(format!("can not be read: {cause}"), "check path and permissions");
    // A pipe is opened without waiting for its other side, and then refused.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Invalid::new("is not a regular file", "name the file itself"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Invalid::new("is larger than 16 MiB", ""));
    }
    Ok(bytes)
}

/// Whether others than the owner may read a secret.
pub fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// The PEM blocks of a file (RFC 7468), all of which must be of a kind that has a use here. What is said about a file
/// never quotes it: it may hold a key in a shape that is not recognised.
fn sections(bytes: &[u8], useful: &[SectionKind]) -> Result<Vec<(SectionKind, Vec<u8>)>, Invalid> {
    if bytes.first() == Some(&0x30) {
        return Err(Invalid::new("is DER", "write it as PEM, `openssl x509`, `pkey` and `crl` convert it"));
    }
    if bytes.contains(&0) {
        return Err(Invalid::new("is not text", "it must be PEM"));
    }
    let encrypted = || {
        Invalid::new(
            "holds an encrypted private key, and nobody is there to type its password",
            "write it without: `openssl pkey -in FILE -out FILE`, readable only by its owner",
        )
    };
    for line in bytes.split(|&b| b == b'\n') {
        let line = line.trim_ascii_end();
        if line == b"Proc-Type: 4,ENCRYPTED" {
            return Err(encrypted()); // RFC 1421
        }
        let Some(label) = line.strip_prefix(b"-----BEGIN ") else { continue };
        let label = label.strip_suffix(b"-----").and_then(|label| std::str::from_utf8(label).ok()).unwrap_or_default();
        let kind = match label {
            "CERTIFICATE" => SectionKind::Certificate,
            "PRIVATE KEY" => SectionKind::PrivateKey,
            "RSA PRIVATE KEY" => SectionKind::RsaPrivateKey,
            "EC PRIVATE KEY" => SectionKind::EcPrivateKey,
            "X509 CRL" => SectionKind::Crl,
            // openssl writes it in front of such a key, which names its curve itself.
            "EC PARAMETERS" if useful.contains(&SectionKind::EcPrivateKey) => continue,
            "ENCRYPTED PRIVATE KEY" => return Err(encrypted()),
            _ => return Err(useless(label)),
        };
        if !useful.contains(&kind) {
            return Err(useless(label));
        }
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        found.push(section.map_err(|e| Invalid::new(pem_fault(&e), "write it again"))?);
    }
    Ok(found)
}

/// A label is shown only if it looks like one: capitals, digits and spaces.
fn useless(label: &str) -> Invalid {
    let is_label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.chars().all(is_label) {
        return Invalid::new(
            "has a line that only begins like a PEM block",
            "each BEGIN and END stands on its own line",
        );
    }
    Invalid::new(format!("holds a PEM block {label:?}, which has no use here"), "remove it")
}

fn pem_fault(e: &pem::Error) -> &'static str {
    match e {
        pem::Error::MissingSectionEnd { .. } => "is not whole: a PEM block has no END",
        pem::Error::Base64Decode(_) => "is not valid PEM: what stands in a block is not base64",
        _ => "is not valid PEM",
    }
}

fn certificates(bytes: &[u8], useful: &[SectionKind]) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let sections = sections(bytes, useful)?.into_iter();
    let ders: Vec<_> = sections
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if ders.is_empty() {
        return Err(Invalid::new("holds no certificate", "it must have a PEM block -----BEGIN CERTIFICATE-----"));
    }
    Ok(ders)
}

/// A chain: the certificate itself, then those that signed it. A key in the same file is left alone.
///
/// # Errors
/// No certificate, another PEM block, one that can not be read, is not valid yet or any more.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    use SectionKind::{Certificate, EcPrivateKey, PrivateKey, RsaPrivateKey};
    let chain = certificates(&read(path)?, &[Certificate, PrivateKey, RsaPrivateKey, EcPrivateKey])?;
    if chain.len() > CHAIN_MAX {
        return Err(Invalid::new(format!("holds {} certificates", chain.len()), format!("at most {CHAIN_MAX}")));
    }
    let now = now_unix();
    for (index, der) in chain.iter().enumerate() {
        let parsed = parse(der)?;
        let which = match index {
            0 => "its certificate".to_owned(),
            _ => format!("certificate {} of its chain", index + 1),
        };
        let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
        if until.timestamp() < now {
            return Err(Invalid::new(format!("{which} expired at {until}"), "renew it"));
        }
        if from.timestamp() > now {
            return Err(Invalid::new(format!("{which} is not valid before {from}"), "check the clock"));
        }
    }
    Ok(chain)
}

/// A private key, in PKCS #8, PKCS #1 or SEC 1. A chain in the same file is left alone.
///
/// # Errors
/// No key, more than one, another PEM block, one that is encrypted.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Invalid> {
    use SectionKind::{Certificate, EcPrivateKey, PrivateKey, RsaPrivateKey};
    let sections = sections(&read(path)?, &[PrivateKey, RsaPrivateKey, EcPrivateKey, Certificate])?;
    let mut keys = sections.into_iter().filter_map(|(kind, der)| match kind {
        PrivateKey => Some(PrivateKeyDer::Pkcs8(der.into())),
        RsaPrivateKey => Some(PrivateKeyDer::Pkcs1(der.into())),
        EcPrivateKey => Some(PrivateKeyDer::Sec1(der.into())),
        _ => None,
    });
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(Invalid::new("holds more than one private key", "leave one")),
        (None, _) => Err(Invalid::new("holds no private key", "it must have a PEM block -----BEGIN PRIVATE KEY-----")),
    }
}

/// A chain and its key, which must belong together, with a stapled answer if there is one.
///
/// # Errors
/// The key is not the certificate's, or of a kind that is not known.
pub fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ocsp: Option<Vec<u8>>,
) -> Result<Certificate, Invalid> {
    let leaf = chain.first().ok_or_else(|| Invalid::new("holds no certificate", ""))?;
    let (names, not_after) = {
        let parsed = parse(leaf)?;
        (dns_names(&parsed), parsed.validity().not_after.timestamp())
    };
    let mut certified = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            Invalid::new("is not the key of this certificate", "both must come from the same issue")
        }
        e => Invalid::new(
            format!("can not be used: {e}"),
            "RSA of 2048 bits or more, ECDSA P-256, P-384, P-521, Ed25519",
        ),
    })?;
    certified.ocsp = ocsp;
    Ok(Certificate { certified: Arc::new(certified), names, not_after })
}

/// An OCSP answer to be stapled (RFC 6960), in DER.
///
/// # Errors
/// It is not one, or says that it was not successful.
pub fn ocsp(path: &Path) -> Result<Vec<u8>, Invalid> {
    let bytes = read(path)?;
    let invalid = |what: &str| Invalid::new(what, "write it with `openssl ocsp … -respout FILE`");
    let (_, sequence) =
        x509_parser::der_parser::parse_der(&bytes).map_err(|_| invalid("is not an OCSP response in DER"))?;
    let items = sequence.as_sequence().map_err(|_| invalid("is not an OCSP response in DER"))?;
    // OCSPResponseStatus: successful (0), RFC 6960 4.2.1.
    let is_successful = items
        .first()
        .is_some_and(|status| matches!(status.content, x509_parser::der_parser::ber::BerObjectContent::Enum(0)));
    if !is_successful || items.len() < 2 {
        return Err(invalid("is an OCSP response without a successful answer"));
    }
    Ok(bytes)
}

/// The authorities of a file, to be trusted.
///
/// # Errors
/// No certificate, another PEM block, or one that can not be an authority.
pub fn roots(path: &Path) -> Result<RootCertStore, Invalid> {
    let mut store = RootCertStore::empty();
    for (index, der) in certificates(&read(path)?, &[SectionKind::Certificate])?.into_iter().enumerate() {
        let which = index + 1;
        let parsed = parse(&der)?;
        let is_authority = match parsed.basic_constraints() {
            Ok(Some(constraints)) => constraints.value.ca,
            _ => parsed.subject() == parsed.issuer(), // an old root, which says so by signing itself
        };
        if !is_authority {
            let what = format!("certificate {which} in it is no authority's: its owner could sign for others");
            return Err(Invalid::new(what, "name those that sign, not what they signed"));
        }
        store.add(der).map_err(|e| Invalid::new(format!("certificate {which} in it can not be trusted: {e}"), ""))?;
    }
    Ok(store)
}

/// The authorities that this system trusts.
///
/// # Errors
/// There are none.
pub fn system_roots() -> Result<RootCertStore, Invalid> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let remedy = "install the package ca-certificates, or name a file with `ca:`";
        return Err(Invalid::new("this system has no certificate authorities", remedy));
    }
    Ok(store)
}

/// Revocation lists (RFC 5280 5), in PEM or one in DER.
///
/// # Errors
/// No list, or another PEM block.
pub fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Invalid> {
    let bytes = read(path)?;
    let lists: Vec<Vec<u8>> = match bytes.first() {
        Some(0x30) => vec![bytes],
        _ => sections(&bytes, &[SectionKind::Crl])?.into_iter().map(|(_, der)| der).collect(),
    };
    if lists.is_empty() {
        return Err(Invalid::new("holds no revocation list", "it must have a PEM block -----BEGIN X509 CRL-----"));
    }
    Ok(lists.into_iter().map(CertificateRevocationListDer::from).collect())
}

/// Authorities without a list of their own: whatever they signed would be refused, since nobody knows whether it is revoked.
///
/// # Errors
/// Names the first.
pub fn covers(lists: &[CertificateRevocationListDer<'_>], ca: &Path) -> Result<(), Invalid> {
    let issuers: Vec<Vec<u8>> = lists
        .iter()
        .filter_map(|der| CertificateRevocationList::from_der(der).ok())
        .map(|(_, list)| list.tbs_cert_list.issuer.as_raw().to_vec())
        .collect();
    for der in certificates(&read(ca)?, &[SectionKind::Certificate])? {
        let authority = parse(&der)?;
        if !issuers.iter().any(|issuer| issuer == authority.subject().as_raw()) {
            return Err(Invalid::new(
                format!("has no list of {:?}, whose clients would all be refused", authority.subject().to_string()),
                "put the lists of all authorities of `ca` into one file",
            ));
        }
    }
    Ok(())
}

/// A secret from which ticket keys are derived: random bytes.
///
/// # Errors
/// It is too short, or too long to be one.
pub fn ticket_secret(path: &Path) -> Result<Vec<u8>, Invalid> {
    let bytes = read(path)?;
    if (TICKET_SECRET_MIN..=1024).contains(&bytes.len()) {
        return Ok(bytes);
    }
    Err(Invalid::new(
        format!("has {} bytes", bytes.len()),
        format!("{TICKET_SECRET_MIN} to 1024 random ones: `openssl rand -out FILE 80`"),
    ))
}

/// What tells one state of a file from another: where it is, when it was modified and changed, and its length.
pub type Stamp = (u64, u64, (i64, i64, i64, i64), u64);

/// Which files stand at these paths now: another one, or another content, gives another stamp. Links are followed, so
/// that a swapped link counts too.
pub fn stamp<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt;
    // Who copies a time of modification along does not set the one of the change.
    let of = |path: &PathBuf| {
        std::fs::metadata(path).map_or(Stamp::default(), |m| {
            (m.dev(), m.ino(), (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()), m.len())
        })
    };
    paths.into_iter().map(of).collect()
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Invalid> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|e| Invalid::new(format!("holds a certificate that can not be read: {e}"), ""))?;
    Ok(parsed)
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

pub(super) fn now_unix() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
