//! An upstream's side: whom the gateway trusts, and who it is to them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::server::{CertificateFiles, Expiry, named};
use super::{MinVersion, files, provider};

/// Sessions kept for resumption, per core and upstream: one for each endpoint, and some to spare.
const SESSIONS_MAX: usize = 1024;

/// What an upstream's TLS is made of, by the names of its files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientFiles {
    /// The authorities that may sign its certificate, PEM; without it those of the system.
    pub ca: Option<PathBuf>,
    /// Whose certificate it must be, and which name it is asked for; without it the endpoint's host.
    pub server_name: Option<String>,
    /// The certificate that the gateway shows.
    pub certificate: Option<CertificateFiles>,
    /// The lowest version that is spoken.
    pub min_version: MinVersion,
    /// Whoever answers is believed.
    pub insecure_skip_verify: bool,
}

/// What one core's connections to an upstream run on.
#[derive(Clone)]
pub struct Upstream {
    /// For rustls.
    pub config: Arc<ClientConfig>,
    /// Whose certificate it must be, if not the endpoint's host's.
    pub server_name: Option<ServerName<'static>>,
    /// Stands for all that makes a connection one of these: whom it trusts, whom it asks for, who it is.
    pub identity: String,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS as {:?}", self.server_name)
    }
}

impl ClientFiles {
    /// All of the files, for watching.
    pub fn paths(&self) -> Vec<PathBuf> {
        let certificate = self.certificate.iter().flat_map(|c| [&c.cert, &c.key]);
        self.ca.iter().chain(certificate).cloned().collect()
    }

    /// Those that only their owner should be able to read.
    pub fn secret_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.certificate.iter().map(|c| &c.key)
    }

    /// Reads the files, for each of so many cores: sessions to be resumed are a core's own.
    ///
    /// # Errors
    /// What is wrong, with the name of the file.
    pub fn load(&self, workers: usize) -> Result<(Vec<Upstream>, Vec<Expiry>), String> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.min_version.versions())
            .map_err(|e| e.to_string())?;
        let mut identity = format!("{:?} {:?} ", self.server_name, self.min_version);
        let builder = if self.insecure_skip_verify {
            identity += "unverified ";
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            let roots = match &self.ca {
                None => files::system_roots().map_err(|fault| fault.to_string())?,
                Some(ca) => files::roots(ca).map_err(named(ca))?,
            };
            for root in &roots.roots {
                identity += &short(&root.subject_public_key_info);
            }
            builder.with_root_certificates(roots)
        };
        let mut expiries = Vec::new();
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let loaded = certificate.load()?;
                expiries.push(Expiry { file: certificate.cert.clone(), not_after: loaded.not_after });
                let leaf = loaded.certified.cert.first().map(|der| short(der)).unwrap_or_default();
                identity += &format!(" as {leaf}");
                let single = rustls::sign::SingleCertAndKey::from(loaded.certified);
                builder.with_client_cert_resolver(Arc::new(single))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server_name = match &self.server_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|e| format!("{name}: {e}"))?),
        };
        let identity = short(identity.as_bytes());
        let one = |_| {
            let mut config = config.clone();
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Upstream { config: Arc::new(config), server_name: server_name.clone(), identity: identity.clone() }
        };
        Ok(((0..workers).map(one).collect(), expiries))
    }
}

fn short(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Believes any certificate, as `insecure_skip_verify` says. Handshakes are still signed by its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
