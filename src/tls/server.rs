//! A listener's side: which certificate a client gets, whether it must show one, and what became of that.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::files::{self, Certificate};
use super::identity::ClientIdentity;
use super::tickets::{Secrets, Tickets};
use super::{MinVersion, provider};
use crate::io;
use crate::value::Invalid;

/// What a listener's TLS is made of, by the names of its files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServerFiles {
    /// At least one; the first is for clients that name no host, or one that no certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version that is spoken.
    pub min_version: MinVersion,
    /// Whether clients show certificates.
    pub client: Option<ClientAuthFiles>,
    /// Secrets of tickets, the newest first; without any, this process makes its own.
    pub ticket_secrets: Vec<PathBuf>,
    /// Clients that name a host that no certificate is for are refused, instead of getting the first.
    pub refuse_unknown_names: bool,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that signed it, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// An OCSP answer to be stapled, DER.
    pub ocsp: Option<PathBuf>,
}

/// How clients are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthFiles {
    /// The authorities that sign client certificates, PEM.
    pub ca: PathBuf,
    /// What these have revoked, PEM or DER.
    pub crl: Option<PathBuf>,
    /// No certificate, no connection.
    pub required: bool,
}

/// What was read of a listener's files and can be used.
#[derive(Default)]
pub struct Parts {
    certificates: Vec<Option<(PathBuf, Certificate)>>,
    client: Option<Verifier>,
    secrets: Option<Secrets>,
}

/// Who verifies client certificates, and a digest of what it asks for.
type Verifier = (Arc<dyn ClientCertVerifier>, Vec<u8>);

impl Parts {
    /// When its certificates end.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        let parts = self.certificates.iter().flatten();
        parts.map(|(file, loaded)| Expiry { file: file.clone(), not_after: loaded.not_after })
    }
}

impl CertificateFiles {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong, with the name of the file.
    pub fn load(&self) -> Result<Certificate, String> {
        let ocsp = self.ocsp.as_ref().map(|path| files::ocsp(path).map_err(named(path))).transpose()?;
        let chain = files::chain(&self.cert).map_err(named(&self.cert))?;
        files::pair(chain, files::key(&self.key).map_err(named(&self.key))?, ocsp).map_err(named(&self.key))
    }
}

/// `FILE what is wrong (remedy)`.
pub(super) fn named(path: &std::path::Path) -> impl FnOnce(Invalid) -> String {
    move |fault| format!("{} {fault}", path.display())
}

impl ServerFiles {
    /// All of the files, for watching.
    pub fn paths(&self) -> Vec<PathBuf> {
        let certificates = self.certificates.iter().flat_map(|c| [Some(&c.cert), Some(&c.key), c.ocsp.as_ref()]);
        let client = self.client.iter().flat_map(|c| [Some(&c.ca), c.crl.as_ref()]);
        certificates.chain(client).flatten().chain(&self.ticket_secrets).cloned().collect()
    }

    /// Those that only their owner should be able to read.
    pub fn secret_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.certificates.iter().map(|c| &c.key).chain(&self.ticket_secrets)
    }

    /// Reads the files. `own` are the secrets of tickets of a process that was given none. A part whose files can not be
    /// used stays as it was `before`, so that a fault in one does not keep a revocation in another from counting; `None` if it
    /// was not there before. What is wrong goes to `faults`, with the name of the file.
    pub fn load(&self, own: &Secrets, before: &mut Parts, faults: &mut Vec<String>) -> Option<Listener> {
        let mut wrong = |fault: String| faults.push(fault);
        before.certificates.resize_with(self.certificates.len(), || None);
        for (files, part) in self.certificates.iter().zip(&mut before.certificates) {
            match files.load() {
                Ok(loaded) => *part = Some((files.cert.clone(), loaded)),
                Err(fault) => wrong(fault),
            }
        }
        if let Some(client) = &self.client {
            match client.load() {
                Ok(loaded) => before.client = Some(loaded),
                Err(fault) => wrong(fault),
            }
        }
        if self.ticket_secrets.is_empty() {
            before.secrets = Some(own.clone());
        } else {
            let read = self.ticket_secrets.iter().map(|path| files::ticket_secret(path).map_err(named(path)));
            match read.collect::<Result<Vec<_>, _>>() {
                Ok(secrets) => before.secrets = Some(Secrets::new(secrets)),
                Err(fault) => wrong(fault),
            }
        }
        match self.build(before) {
            Ok(listener) => listener,
            Err(fault) => {
                wrong(fault);
                None
            }
        }
    }

    fn build(&self, parts: &Parts) -> Result<Option<Listener>, String> {
        let mut names: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        let mut default = Vec::new();
        for (index, part) in parts.certificates.iter().enumerate() {
            let Some((_, loaded)) = part else { return Ok(None) };
            // Two certificates for the same names, of other kinds of keys, are one choice.
            if index == 0 || self.same_names_as_first(&names, loaded, &default) {
                default.push(Arc::clone(&loaded.certified));
            }
            for name in &loaded.names {
                names.entry(name.clone()).or_default().push(Arc::clone(&loaded.certified));
            }
        }
        let names = BySni { names, default, refuse_unknown: self.refuse_unknown_names };
        let names = Arc::new(names);
        let (verifier, context) = match (&self.client, &parts.client) {
            (None, _) => (None, Vec::new()),
            (Some(_), Some((verifier, context))) => (Some(Arc::clone(verifier)), context.clone()),
            (Some(_), None) => return Ok(None),
        };
        let Some(secrets) = &parts.secrets else { return Ok(None) };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.versions())
            .map_err(|e| e.to_string())?;
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder.with_cert_resolver(Arc::<BySni>::clone(&names));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Tickets::new(secrets, context));
        let required = self.client.as_ref().is_some_and(|client| client.required);
        Ok(Some(Listener { config: Arc::new(config), names, verifier, required }))
    }

    fn same_names_as_first(
        &self,
        names: &HashMap<String, Vec<Arc<CertifiedKey>>>,
        loaded: &Certificate,
        default: &[Arc<CertifiedKey>],
    ) -> bool {
        let is_first = |name: &String| {
            names.get(name).is_some_and(|keys| keys.iter().any(|key| default.iter().any(|d| Arc::ptr_eq(d, key))))
        };
        !loaded.names.is_empty() && loaded.names.iter().all(is_first)
    }
}

impl ClientAuthFiles {
    fn load(&self) -> Result<Verifier, String> {
        let roots = files::roots(&self.ca).map_err(named(&self.ca))?;
        let mut digest = Context::new(&SHA256);
        digest.update(if self.required { b"required" } else { b"optional" });
        for root in &roots.roots {
            digest.update(&root.subject);
            digest.update(&root.subject_public_key_info);
        }
        let verifier = self.verifier(roots)?;
        Ok((verifier, digest.finish().as_ref().to_vec()))
    }

    fn verifier(&self, roots: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        if let Some(crl) = &self.crl {
            let lists = files::revocations(crl).map_err(named(crl))?;
            files::covers(&lists, &self.ca).map_err(named(crl))?;
            builder = builder.with_crls(lists);
        }
        if !self.required {
            builder = builder.allow_unauthenticated();
        }
        let blamed = self.crl.as_ref().unwrap_or(&self.ca);
        builder.build().map_err(|e| format!("{} can not be used: {e}", blamed.display()))
    }

    /// Reads and checks them.
    ///
    /// # Errors
    /// What is wrong, with the name of the file.
    pub fn check(&self) -> Result<(), String> {
        self.load().map(drop)
    }
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The file it was read from.
    pub file: PathBuf,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Expiry {
    /// Whole days from now; negative once it has ended.
    pub fn days(&self) -> i64 {
        (self.not_after - files::now_unix()).div_euclid(86_400)
    }
}

/// What one listener's handshakes run on.
#[derive(Clone)]
pub struct Listener {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    names: Arc<BySni>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Clients must show a certificate.
    pub required: bool,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS, client certificates {}", if self.required { "required" } else { "not required" })
    }
}

impl Listener {
    /// Whether a handshake for this host is refused.
    pub fn refuses(&self, server_name: &str) -> bool {
        self.names.refuse_unknown && self.names.find(server_name).is_none()
    }

    /// Whether clients are asked for a certificate, and if so whether they must show one.
    pub fn wants_certificate(&self) -> Option<bool> {
        self.verifier.as_ref().map(|_| self.required)
    }

    /// Who the client is, behind a handshake. A resumed session is looked at again: its certificate may have expired or
    /// been revoked since, and rustls verifies only what is sent.
    ///
    /// # Errors
    /// It is not, or no longer, to be let in.
    pub fn admit(&self, chain: &[CertificateDer<'_>], resumed: bool) -> Result<Option<ClientIdentity>, rustls::Error> {
        let Some(verifier) = &self.verifier else { return Ok(None) };
        let Some((leaf, others)) = chain.split_first() else {
            return if self.required { Err(rustls::Error::NoCertificatesPresented) } else { Ok(None) };
        };
        if resumed {
            verifier.verify_client_cert(leaf, others, UnixTime::now())?;
        }
        let unreadable = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        ClientIdentity::of(leaf).map(Some).ok_or(unreadable)
    }
}

/// Chooses by the name that the client asks for: exact, then `*.` for one label, then the first certificate.
struct BySni {
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
    refuse_unknown: bool,
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates for {} names", self.names.len())
    }
}

impl BySni {
    fn find(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.to_ascii_lowercase();
        if let Some(exact) = self.names.get(&name) {
            return Some(exact);
        }
        let (_, domain) = name.split_once('.')?;
        self.names.get(&format!("*.{domain}")).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        io::records::client_names(hello.server_name());
        let known = hello.server_name().map(|name| self.find(name));
        let keys = match known {
            Some(None) if self.refuse_unknown => return None,
            Some(Some(keys)) => keys,
            Some(None) | None => &self.default,
        };
        // Of an RSA and an ECDSA certificate, the first whose signatures the client takes.
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys.iter().find(fits).or(keys.first()).cloned()
    }
}
