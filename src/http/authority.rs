//! The authority of a request: the Host field, the authority of an absolute target, the target of CONNECT.
//!
//! RFC 9110 7.2, RFC 9112 3.2, RFC 3986 3.2.2. One host and at most one port; userinfo is never accepted
//! (RFC 9110 4.2.4).

use std::fmt;
use std::net::Ipv6Addr;

/// The longest name in bytes, a trailing dot included: DNS allows no more (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// `65535`; more digits could only be leading zeros, which nobody sends.
const PORT_DIGITS_MAX: usize = 5;

/// A valid host and port, borrowed from the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// The name for matching: case as sent, the trailing dot of a full name dropped, brackets of IPv6 kept.
    /// Never empty. ASCII.
    pub name: &'a str,
    /// `None` when absent or empty (`host:` means the default port, RFC 3986 3.2.3).
    pub port: Option<u16>,
}

impl Host<'_> {
    /// Replaces what is in `out` by the name in lower case.
    pub fn lowercase_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.name.bytes().map(|b| b.to_ascii_lowercase()));
    }
}

/// Why an authority is refused; always 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    /// Empty, or a port alone. An `http` URI must name a host (RFC 9110 4.2.1), so a gateway has no use for it.
    Empty,
    /// A byte that no host has: userinfo, a path, a list, spaces, `%`, non-ASCII.
    Byte,
    /// An empty label: a leading dot, or two in a row.
    Label,
    /// More than 255 bytes.
    Long,
    /// A bracket that is not closed, or no IPv6 address inside. Zones and IPvFuture are refused.
    Ipv6,
    /// Not digits, or above 65535.
    Port,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::Byte => "the host has a byte that no host may have",
            Self::Label => "the host has an empty label",
            Self::Long => "the host is longer than 255 bytes",
            Self::Ipv6 => "the host is not a valid IPv6 address in brackets",
            Self::Port => "the port is not a number up to 65535",
        })
    }
}

impl std::error::Error for HostError {}

/// Reads one authority without userinfo.
///
/// A name takes letters, digits and `- . _ ~`. The `sub-delims` and escapes that RFC 3986 also allows are refused: no
/// DNS name has them, and `a.example,b.example` is two hosts to somebody. IPv4 addresses are names made of digits.
/// IPv6 needs brackets.
///
/// # Errors
/// A [`HostError`], always 400. The empty field that RFC 9112 3.2 allows for targets without an authority has its own
/// variant, so that a caller may let it pass.
#[inline]
pub fn validate_host(raw: &[u8]) -> Result<Host<'_>, HostError> {
    if raw.first() == Some(&b'[') {
        return validate_ipv6(raw);
    }
    // A name that has not begun counts as a dot, so that a leading dot is a pair too.
    let (mut pairs, mut prev) = (0, DOT);
    let mut end = raw.len();
    for (at, &byte) in raw.iter().enumerate() {
        let class = CLASS[usize::from(byte)];
        if class == 0 {
            end = at;
            break;
        }
        pairs |= class & prev;
        prev = class;
    }
    let (name, port) = raw.split_at_checked(end).ok_or(HostError::Byte)?;
    if !matches!(port.first(), None | Some(b':')) {
        return Err(HostError::Byte);
    }
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if pairs & DOT != 0 {
        return Err(HostError::Label);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(HostError::Long);
    }
    let port = parse_port(port)?;
    let name = str::from_utf8(name.strip_suffix(b".").unwrap_or(name)).map_err(|_| HostError::Byte)?;
    Ok(Host { name, port })
}

#[cold]
fn validate_ipv6(raw: &[u8]) -> Result<Host<'_>, HostError> {
    let end = raw.iter().position(|b| *b == b']').ok_or(HostError::Ipv6)?;
    let (name, port) = raw.split_at_checked(end + 1).ok_or(HostError::Ipv6)?;
    let name = str::from_utf8(name).map_err(|_| HostError::Ipv6)?;
    let inside = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).ok_or(HostError::Ipv6)?;
    inside.parse::<Ipv6Addr>().map_err(|_| HostError::Ipv6)?;
    Ok(Host { name, port: parse_port(port)? })
}

/// What follows the name: nothing, or `:` and digits.
#[inline]
fn parse_port(raw: &[u8]) -> Result<Option<u16>, HostError> {
    let digits = match raw.split_first() {
        None | Some((b':', [])) => return Ok(None),
        Some((b':', digits)) if digits.len() <= PORT_DIGITS_MAX => digits,
        Some((b':', _)) => return Err(HostError::Port),
        Some(_) => return Err(HostError::Byte),
    };
    let mut port = 0u32;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return Err(HostError::Port);
        }
        port = port * 10 + u32::from(byte - b'0');
    }
    u16::try_from(port).map(Some).map_err(|_| HostError::Port)
}

const LABEL: u8 = 1;
const DOT: u8 = 2;

/// The bytes of a name; 0 for all others.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = match b as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => LABEL,
            b'.' => DOT,
            _ => 0,
        };
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn valid_hosts() {
        for (raw, name, port) in [
            ("example.com", "example.com", None),
            ("Example.COM:8080", "Example.COM", Some(8080)),
            ("a_b~c-d", "a_b~c-d", None),
            ("example.com.", "example.com", None),
            ("example.com.:80", "example.com", Some(80)),
            ("example.com:", "example.com", None),
            ("h:65535", "h", Some(65535)),
            ("h:00080", "h", Some(80)),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]", "[::1]", None),
            ("[FE80::1]:443", "[FE80::1]", Some(443)),
            ("[::ffff:1.2.3.4]:", "[::ffff:1.2.3.4]", None),
        ] {
            let host = validate_host(raw.as_bytes()).unwrap();
            assert_eq!((host.name, host.port), (name, port), "{raw}");
            let mut lower = b"left over".to_vec();
            host.lowercase_into(&mut lower);
            assert_eq!(lower, name.to_ascii_lowercase().into_bytes());
        }
    }

    #[test]
    fn refused_hosts() {
        use HostError::*;
        for (raw, error) in [
            ("", Empty),
            (":80", Empty),
            (".", Label),
            (".a", Label),
            ("a..b", Label),
            ("a..", Label),
            ("user@h", Byte),
            ("user:pass@h", Port),
            ("a,b", Byte),
            ("a b", Byte),
            ("a/b", Byte),
            ("a%2eb", Byte),
            ("a\0", Byte),
            ("h\r\nx", Byte),
            ("é", Byte),
            ("a]", Byte),
            ("h:80:80", Port),
            ("h:+80", Port),
            ("h: 80", Port),
            ("h:65536", Port),
            ("h:000080", Port),
            ("h:80a", Port),
            ("::1", Empty),
            ("[::1", Ipv6),
            ("[]", Ipv6),
            ("[", Ipv6),
            ("[[::1]]", Ipv6),
            ("[1.2.3.4]", Ipv6),
            ("[fe80::1%25eth0]", Ipv6),
            ("[v1.x]", Ipv6),
            ("[::1]80", Byte),
            ("[::1]:x", Port),
        ] {
            assert_eq!(validate_host(raw.as_bytes()), Err(error), "{raw:?}");
        }
        assert!(validate_host("a".repeat(255).as_bytes()).is_ok());
        assert_eq!(validate_host("a".repeat(256).as_bytes()), Err(Long));
        for b in (0..=255u8).filter(|b| !b.is_ascii_alphanumeric() && !b"-._~:".contains(b)) {
            assert_eq!(validate_host(&[b'a', b, b'a']), Err(Byte), "{b:#x}");
        }
    }
}
