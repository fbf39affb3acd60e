//! Certificates for scenarios: an authority of the scenario's own, what it issued, and what it revoked.

use super::temp_dir;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Signs certificates; its own is the file `ca`.
pub struct Authority {
    pub ca: PathBuf,
    pub ca_key: PathBuf,
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was issued.
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub serial: u64,
}

impl Issued {
    /// As an item of `certificates`, or as the `client` of an upstream.
    pub fn yaml(&self) -> String {
        format!("{{ cert: {}, key: {} }}", self.cert.display(), self.key.display())
    }

    /// Takes the files of another one: what a renewal does.
    pub fn replace_by(&self, other: &Issued) {
        put(&self.cert, &std::fs::read_to_string(&other.cert).unwrap());
        put(&self.key, &std::fs::read_to_string(&other.key).unwrap());
    }
}

/// Writes a file beside and moves it into its place, readable by its owner only.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// How a certificate is to be.
pub struct Wanted<'a> {
    pub names: &'a [&'a str],
    pub common_name: &'a str,
    pub uri: Option<&'a str>,
    pub expired: bool,
}

impl Authority {
    pub fn new() -> Authority {
        let dir = temp_dir("authority");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let name = format!("authority {}", dir.file_name().unwrap().display());
        params.distinguished_name.push(DnType::CommonName, name);
        let (ca, ca_key) = (dir.join("ca.pem"), dir.join("ca.key"));
        put(&ca, &params.self_signed(&key).unwrap().pem());
        put(&ca_key, &key.serialize_pem());
        Authority { ca, ca_key, dir, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these DNS names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_as(&Wanted { names, common_name: names.first().unwrap_or(&"nobody"), uri: None, expired: false })
    }

    pub fn expired(&self, names: &[&str]) -> Issued {
        self.issue_as(&Wanted { names, common_name: names.first().unwrap_or(&"nobody"), uri: None, expired: true })
    }

    pub fn issue_as(&self, wanted: &Wanted<'_>) -> Issued {
        static NEXT: AtomicU64 = AtomicU64::new(1000);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let names: Vec<String> = wanted.names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.use_authority_key_identifier_extension = true;
        if let Some(uri) = wanted.uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        if wanted.expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let (cert, key_file) = (self.dir.join(format!("{serial}.pem")), self.dir.join(format!("{serial}.key")));
        put(&cert, &params.signed_by(&key, &self.issuer).unwrap().pem());
        put(&key_file, &key.serialize_pem());
        Issued { cert, key: key_file, serial }
    }

    /// Writes the list of what is revoked, and gives its file.
    pub fn revoke(&self, revoked: &[&Issued]) -> PathBuf {
        let revoked_certs = revoked
            .iter()
            .map(|issued| RevokedCertParams {
                serial_number: SerialNumber::from(issued.serial),
                revocation_time: date_time_ymd(2024, 6, 17),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 6, 17),
            next_update: date_time_ymd(2090, 6, 17),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.dir.join("revoked.crl");
        put(&file, &list.signed_by(&self.issuer).unwrap().pem().unwrap());
        file
    }

    /// A directory with files of the names that the examples and the README use under /etc/ringway.
    pub fn etc(&self) -> String {
        let copy = |from: &Path, name: &str| {
            std::fs::copy(from, self.dir.join(name)).unwrap();
        };
        for name in ["site", "api", "gw"] {
            let issued = self.issue(&[name]);
            copy(&issued.cert, &format!("{name}.pem"));
            copy(&issued.key, &format!("{name}.key"));
        }
        copy(&self.ca, "clients.pem");
        copy(&self.ca, "internal.pem");
        copy(&self.revoke(&[]), "clients.crl");
        std::fs::write(self.dir.join("ticket.key"), [7; 80]).unwrap();
        self.dir.display().to_string()
    }

    /// A successful OCSP answer about a certificate, made by openssl.
    pub fn ocsp(&self, about: &Issued) -> PathBuf {
        let (index, request, answer) =
            (self.dir.join("index.txt"), self.dir.join("ocsp.req"), self.dir.join("ocsp.der"));
        std::fs::write(&index, format!("V\t900101000000Z\t\t{:04X}\tunknown\t/CN=x\n", about.serial)).unwrap();
        let (ca, key, cert) = (self.ca.to_str().unwrap(), self.ca_key.to_str().unwrap(), about.cert.to_str().unwrap());
        let (index, request, answer_file) =
            (index.to_str().unwrap(), request.to_str().unwrap(), answer.to_str().unwrap());
        super::foreign::output("openssl", &["ocsp", "-issuer", ca, "-cert", cert, "-no_nonce", "-reqout", request]);
        let sign = ["ocsp", "-index", index, "-CA", ca, "-rsigner", ca, "-rkey", key, "-reqin", request];
        super::foreign::output("openssl", &[&sign[..], &["-ndays", "7", "-respout", answer_file]].concat());
        answer
    }
}
