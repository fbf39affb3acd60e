//! What one TLS session tells about the client: what it asked for, and who it is.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{AttributeTypeAndValue, GeneralName, RelativeDistinguishedName, X509Name};

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
    /// Its subject (RFC 4514), such as `CN=billing,O=Example`.
    pub subject: String,
    /// Its alternative names, such as `DNS:billing.internal,URI:spiffe://example/billing`.
    pub san: String,
    /// SHA-256 of it, in lower-case hex.
    pub fingerprint: String,
    /// Its serial number, in lower-case hex.
    pub serial: String,
}

/// Subject and names of a certificate together, in bytes: they go into heads of requests. A part of a name could be taken
/// for another one, so a certificate with more is refused.
const IDENTITY_BYTES_MAX: usize = 8 * 1024;

impl ClientIdentity {
    /// What a certificate says; `None` for one that can not be read, or says too much.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = super::files::parse(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let san: Vec<String> = names.iter().filter_map(name).collect();
        let (subject, san) = (distinguished_name(parsed.subject()), san.join(","));
        if subject.len() + san.len() > IDENTITY_BYTES_MAX {
            return None;
        }
        Some(Self {
            subject,
            san,
            fingerprint: hex(digest(&SHA256, certificate).as_ref()),
            serial: hex(parsed.raw_serial()),
        })
    }
}

/// RFC 4514: the last of the parts first, with escapes, so that no value can be taken for a part of its own.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<&RelativeDistinguishedName<'_>> = name.iter_rdn().collect();
    let part = |rdn: &&RelativeDistinguishedName<'_>| rdn.iter().map(attribute).collect::<Vec<_>>().join("+");
    parts.iter().rev().map(part).collect::<Vec<_>>().join(",")
}

/// `CN=value`, or the number of an attribute that has no short name; a value that is no text in hex (RFC 4514 2.4).
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = oid2abbrev(attribute.attr_type(), oid_registry()).map(str::to_owned);
    let kind = kind.unwrap_or_else(|_| attribute.attr_type().to_id_string());
    match attribute.as_str() {
        Ok(text) => format!("{kind}={}", escaped(&visible(text))),
        Err(_) => format!("{kind}=#{}", hex(attribute.as_slice())),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, c) in text.chars().enumerate() {
        let at_end = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if at_end || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn of(parts: &[(DnType, &str)], names: &[&str]) -> Option<ClientIdentity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        ClientIdentity::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn a_value_can_not_be_taken_for_another_part_of_the_name() {
        let o = DnType::OrganizationName;
        for (cn, expected) in [
            ("billing", "CN=billing,O=Example"),
            ("x,O=Admin", "CN=x\\,O\\=Admin,O=Example"),
            (" #a\"+;<>\\ ", "CN=\\ #a\\\"\\+\\;\\<\\>\\\\\\ ,O=Example"),
            ("#ff", "CN=\\#ff,O=Example"),
            ("a\r\nb\u{1b}", "CN=a\u{fffd}\u{fffd}b\u{fffd},O=Example"),
            ("Zoë", "CN=Zoë,O=Example"),
        ] {
            let identity = of(&[(o.clone(), "Example"), (DnType::CommonName, cn)], &[]).unwrap();
            assert_eq!(identity.subject, expected, "{cn}");
        }
    }

    #[test]
    fn a_certificate_that_says_too_much_is_refused() {
        let many: Vec<String> = (0..1000).map(|n| format!("host-{n}.example.com")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(of(&[], &many).is_none());
        assert_eq!(of(&[], &many[..2]).unwrap().san, "DNS:host-0.example.com,DNS:host-1.example.com");
    }
}
