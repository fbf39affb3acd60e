//! What one TLS session tells about the client: what it asked for, and who it is.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::GeneralName;

/// Facts of one connection, for routing, limits, filters and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The name it asked for (RFC 6066 3), in lower case; empty if it named none.
    pub server_name: String,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Who it is, if it showed a certificate that was accepted.
    pub client: Option<ClientIdentity>,
}

/// A client's certificate, which was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Its subject (RFC 4514 in form), such as `CN=billing, O=Example`.
    pub subject: String,
    /// Its alternative names, such as `DNS:billing.internal,URI:spiffe://example/billing`.
    pub san: String,
    /// SHA-256 of it, in lower-case hex.
    pub fingerprint: String,
    /// Its serial number, in lower-case hex.
    pub serial: String,
}

impl ClientIdentity {
    /// What a certificate says. One that can not be read was not verified either.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = super::files::parse(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let san: Vec<String> = names.iter().filter_map(name).collect();
        Some(Self {
            subject: visible(&parsed.subject().to_string()),
            san: san.join(","),
            fingerprint: hex(digest(&SHA256, certificate).as_ref()),
            serial: hex(parsed.raw_serial()),
        })
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    let text = match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(mail) => format!("email:{mail}"),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => format!("IP:{}", std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?)),
            16 => format!("IP:{}", std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?)),
            _ => return None,
        },
        _ => return None,
    };
    // A comma separates names: one within a name would let its owner add another.
    Some(visible(&text).replace(',', "%2C"))
}

/// An authority may sign anything: control characters do not go further.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // a String takes all
    }
    text
}
