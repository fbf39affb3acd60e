//! `tls` of a listener and of an upstream. The files it names are read at once: what is wrong with one of them stands
//! among the other errors, at the place of its name.

use std::path::{Path, PathBuf};

use super::decode::{Block, Keys, Value};
use crate::tls::client::ClientFiles;
use crate::tls::server::{CertificateFiles, ClientAuthFiles, ServerFiles};
use crate::tls::{MinVersion, files};
use crate::value::{Duration, Invalid};

pub(super) const LISTENER_KEYS: Keys =
    Keys { known: &["certificates", "min_version", "client", "ticket_secrets", "unknown_name", "hsts"], later: &[] };
pub(super) const CERTIFICATE_KEYS: Keys = Keys { known: &["cert", "key", "ocsp"], later: &[] };
pub(super) const CLIENT_KEYS: Keys = Keys { known: &["ca", "crl", "mode"], later: &[] };
pub(super) const HSTS_KEYS: Keys = Keys { known: &["max_age", "include_subdomains", "preload"], later: &[] };
pub(super) const UPSTREAM_KEYS: Keys =
    Keys { known: &["server_name", "ca", "client", "min_version", "insecure_skip_verify"], later: &[] };
pub(super) const UPSTREAM_CLIENT_KEYS: Keys = Keys { known: &["cert", "key"], later: &[] };

/// Certificates of one listener; each costs memory on every core.
const CERTIFICATES_MAX: usize = 1000;
const TICKET_SECRETS_MAX: usize = 8;
/// What browsers' preload lists ask for, in days.
const PRELOAD_DAYS_MIN: u64 = 365;
const DAY: u64 = 86_400;

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    /// What it is made of.
    pub files: ServerFiles,
    /// The value of Strict-Transport-Security in every answer (RFC 6797).
    pub hsts: Option<String>,
}

/// TLS of a listener.
pub(super) fn listener(value: &Value<'_>) -> Option<ListenerTls> {
    let block = value.block(&LISTENER_KEYS)?;
    let certificates = block
        .required("certificates")
        .and_then(|v| v.list_of(1..=CERTIFICATES_MAX, |v| certificate(v, &CERTIFICATE_KEYS)))
        .unwrap_or_default();
    let files = ServerFiles {
        certificates,
        min_version: block.or("min_version", MinVersion::Tls12, min_version),
        client: block.get("client").and_then(client),
        ticket_secrets: block.or("ticket_secrets", Vec::new(), |v| {
            v.list_of(1..=TICKET_SECRETS_MAX, |v| file(v, files::ticket_secret).map(|(path, _)| path))
        }),
        refuse_unknown_names: block.or("unknown_name", false, |v| v.word(&[("default", false), ("refuse", true)], &[])),
    };
    Some(ListenerTls { files, hsts: block.get("hsts").and_then(hsts) })
}

/// TLS of an upstream.
pub(super) fn upstream(value: &Value<'_>) -> Option<ClientFiles> {
    let block = value.block(&UPSTREAM_KEYS)?;
    let insecure_skip_verify = block.or("insecure_skip_verify", false, |v| v.boolean());
    let files = client_files(&block, value, !insecure_skip_verify);
    Some(ClientFiles {
        server_name: block.get("server_name").and_then(|v| v.parse(server_name)),
        min_version: block.or("min_version", MinVersion::Tls12, min_version),
        insecure_skip_verify,
        ..files
    })
}

/// `ca` and `client` of a block: whom the gateway trusts, and who it is to them. The system's authorities have to be
/// there if they are relied on.
pub(super) fn client_files(block: &Block<'_>, value: &Value<'_>, verifies: bool) -> ClientFiles {
    let ca = match verifies {
        true => authorities(block.get("ca"), value).flatten(),
        false => block.get("ca").and_then(given_authorities).flatten(),
    };
    let certificate = block.get("client").and_then(|v| certificate(v, &UPSTREAM_CLIENT_KEYS));
    ClientFiles { ca, certificate, ..ClientFiles::default() }
}

/// The file of who may sign a server's certificate; without it, or with `system`, those that the system trusts. `value` is
/// what they are for. `None`: what is given is wrong, which was said.
pub(super) fn authorities(given: Option<&Value<'_>>, value: &Value<'_>) -> Option<Option<PathBuf>> {
    let ca = given.map_or(Some(None), given_authorities);
    if ca == Some(None)
        && let Err(fault) = files::system_roots()
    {
        value.error(fault.what, fault.remedy);
    }
    ca
}

fn given_authorities(value: &Value<'_>) -> Option<Option<PathBuf>> {
    value.or_word("system", |v| file(v, files::roots).map(|(path, _)| path))
}

fn certificate(value: &Value<'_>, keys: &Keys) -> Option<CertificateFiles> {
    let block = value.block(keys)?;
    let chain = block.required("cert").and_then(|v| file(v, files::chain));
    let key_value = block.required("key");
    let key = key_value.and_then(|v| file(v, files::key));
    let ocsp = block.get("ocsp").map(|v| file(v, files::ocsp));
    let ((cert, chain), (key, key_der)) = (chain?, key?);
    key_value?.parse(|_| files::pair(chain, key_der, None))?;
    let ocsp = match ocsp {
        None => None,
        Some(read) => Some(read?.0),
    };
    Some(CertificateFiles { cert, key, ocsp })
}

fn client(value: &Value<'_>) -> Option<ClientAuthFiles> {
    let block = value.block(&CLIENT_KEYS)?;
    let required = block.or("mode", true, |v| v.word(&[("required", true), ("optional", false)], &[]));
    let ca = block.required("ca").and_then(|v| file(v, files::roots));
    let crl = block.get("crl").map(|v| file(v, files::revocations));
    let crl = match crl {
        None => None,
        Some(read) => Some(read?.0),
    };
    let client = ClientAuthFiles { ca: ca?.0, crl, required };
    if let Err(what) = client.check() {
        value.error(what, "");
    }
    Some(client)
}

fn hsts(value: &Value<'_>) -> Option<String> {
    let block = value.block(&HSTS_KEYS)?;
    let max_age = block.or("max_age", Duration::from_secs(365 * DAY), |v| {
        v.duration(Duration::from_secs(0)..=Duration::from_secs(10 * 365 * DAY))
    });
    let subdomains = block.or("include_subdomains", false, |v| v.boolean());
    let preload = block.or("preload", false, |v| v.boolean());
    let seconds = max_age.get().as_secs();
    if preload && (seconds < PRELOAD_DAYS_MIN * DAY || !subdomains) {
        let remedy =
            format!("set include_subdomains: true and max_age: {PRELOAD_DAYS_MIN}d or more, or leave preload out");
        block.get("preload").unwrap_or(value).error("browsers' preload lists do not take this", remedy);
    }
    let parts = [(subdomains, "; includeSubDomains"), (preload, "; preload")];
    Some(parts.iter().filter(|(wanted, _)| *wanted).fold(format!("max-age={seconds}"), |text, (_, part)| text + part))
}

fn min_version(value: &Value<'_>) -> Option<MinVersion> {
    value.word(&[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)], &[])
}

/// The name of a file, and what `read` makes of it.
fn file<T>(value: &Value<'_>, read: impl FnOnce(&Path) -> Result<T, Invalid>) -> Option<(PathBuf, T)> {
    value.parse(|text| {
        // Relative to which directory would depend on who starts the gateway.
        if !text.starts_with('/') || text.contains(char::is_control) {
            return Err(Invalid::new("is not the absolute path of a file", "write it from the `/` on"));
        }
        let path = PathBuf::from(text);
        let read = read(&path)?;
        Ok((path, read))
    })
}

fn server_name(text: &str) -> Result<String, Invalid> {
    match rustls::pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(text.to_ascii_lowercase()),
        Err(_) => Err(Invalid::new("is not a host name", "write it without scheme and port, like users.internal")),
    }
}
