//! The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt): what a proxy that passes on bytes
//! alone says in front of them, about who connected to it. Read strictly: who may say so may not say it wrongly.

use std::net::{IpAddr, SocketAddr};

/// Section 2.1: the longest line of version 1, with its CRLF.
const LINE_BYTES_MAX: usize = 107;
/// Section 2.2: what version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of version 2, behind which come as many bytes as it says.
const FIXED_BYTES: usize = 16;
/// Most bytes behind the fixed part. Addresses take 36, a Unix path 216; a certificate's name, an ALPN, a cloud's ids take the
/// rest. 65535 could be announced.
const BEHIND_BYTES_MAX: usize = 2048;
/// Section 2.2.3: a checksum over the whole header, with zeros in its own place.
const TLV_CRC32C: u8 = 0x03;

/// Who connected, and to which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What was found at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The beginning of a header.
    Part,
    /// A header of so many bytes. Without ends it says nothing about a client: it is the proxy's own connection, or one that
    /// came to it in another way than over TCP.
    Header(usize, Option<Ends>),
}

/// It is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// As soon as it can not become one any more.
pub fn read(bytes: &[u8]) -> Result<Found, NoHeader> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        read_v2(bytes)
    } else if begins(b"PROXY ") {
        read_v1(bytes)
    } else {
        Err(NoHeader)
    }
}

fn read_v1(bytes: &[u8]) -> Result<Found, NoHeader> {
    let line = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    // CRLF, and neither of them anywhere else.
    let Some(end) = line.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
        return if line.len() < LINE_BYTES_MAX { Ok(Found::Part) } else { Err(NoHeader) };
    };
    match (line.get(end), line.get(end + 1)) {
        (Some(b'\r'), Some(b'\n')) => {}
        (Some(b'\r'), None) if line.len() < LINE_BYTES_MAX => return Ok(Found::Part),
        _ => return Err(NoHeader),
    }
    let line = line.get(..end).unwrap_or_default();
    if line.split(|byte| *byte == b' ').nth(1) == Some(b"UNKNOWN") {
        // Whatever else the line says is to be ignored, and may be anything.
        return Ok(Found::Header(end + 2, None));
    }
    let mut words = std::str::from_utf8(line).map_err(|_| NoHeader)?.split(' ').skip(1);
    let family = words.next().ok_or(NoHeader)?;
    let mut word = || words.next().ok_or(NoHeader);
    let (source, destination) = (address(family, word()?)?, address(family, word()?)?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(NoHeader);
    }
    let ends = Ends {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Ok(Found::Header(end + 2, Some(ends)))
}

fn address(family: &str, text: &str) -> Result<IpAddr, NoHeader> {
    match family {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| NoHeader),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| NoHeader),
        _ => Err(NoHeader),
    }
}

fn port(text: &str) -> Result<u16, NoHeader> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number).ok_or(NoHeader)
}

fn read_v2(bytes: &[u8]) -> Result<Found, NoHeader> {
    let (command, family) = (bytes.get(12).copied(), bytes.get(13).copied());
    let is_local = match command {
        None => return Ok(Found::Part),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(NoHeader), // another version, or a command that is not known
    };
    // Address bytes by family and transport: a datagram is no connection.
    let least = match family {
        None => return Ok(Found::Part),
        _ if is_local => 0,
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        Some(_) => return Err(NoHeader),
    };
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES) else { return Ok(Found::Part) };
    let behind = usize::from(u16::from_be_bytes([high, low]));
    if behind < least || behind > BEHIND_BYTES_MAX {
        return Err(NoHeader);
    }
    let Some(behind) = bytes.get(FIXED_BYTES..FIXED_BYTES + behind) else { return Ok(Found::Part) };
    // What says nothing of a client may say it in any form; whatever its addresses are, it need not have any.
    let is_loose = is_local || least == 0;
    let addresses = match family {
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        _ => 0,
    };
    let extensions = behind.get(addresses..).unwrap_or_default();
    match checksum(extensions) {
        Ok(None) => {}
        Ok(Some((at, sum))) => {
            let (before, after) = (FIXED_BYTES + addresses + at, FIXED_BYTES + behind.len());
            let parts = [bytes.get(..before), Some(&[0; 4]), bytes.get(before + 4..after)];
            if crc32c(parts.into_iter().flatten().flatten()) != sum {
                return Err(NoHeader);
            }
        }
        Err(NoHeader) if is_loose => {}
        Err(NoHeader) => return Err(NoHeader),
    }
    let ends = match (is_local, family) {
        (false, Some(0x11)) => ends::<4>(behind),
        (false, Some(0x21)) => ends::<16>(behind),
        _ => None,
    };
    Ok(Found::Header(FIXED_BYTES + behind.len(), ends))
}

/// Where the checksum stands among the extensions, if there is one, and what it is.
///
/// # Errors
/// They are not what they say: one is cut, the checksum has another length, or there are two of them.
fn checksum(extensions: &[u8]) -> Result<Option<(usize, u32)>, NoHeader> {
    let mut found = None;
    let mut rest = extensions;
    while let Some((&[kind, high, low], behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = behind.split_at_checked(len).ok_or(NoHeader)?;
        if kind == TLV_CRC32C {
            let sum = value.try_into().map(u32::from_be_bytes).map_err(|_| NoHeader)?;
            if found.replace((extensions.len() - behind.len(), sum)).is_some() {
                return Err(NoHeader);
            }
        }
        rest = next;
    }
    if rest.is_empty() { Ok(found) } else { Err(NoHeader) }
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: a header of 70 bytes takes half a microsecond, once a connection.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let bit = |sum: u32| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
    !bytes.fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| bit(sum)))
}

/// Two addresses of `N` bytes, then their ports.
fn ends<const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let address = |at: usize| <[u8; N]>::try_from(bytes.get(at..at + N)?).ok().map(IpAddr::from);
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    Some(Ends {
        source: SocketAddr::new(address(0)?, port(2 * N)?),
        destination: SocketAddr::new(address(N)?, port(2 * N + 2)?),
    })
}

/// The version that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Appends a header; without ends it says that the connection is the gateway's own, or that of a client without an address.
pub fn write(version: Version, ends: Option<Ends>, out: &mut Vec<u8>) {
    let ends = match ends {
        // One header has one family.
        Some(Ends { source, destination }) if source.is_ipv4() != destination.is_ipv4() => {
            Some(Ends { source: as_v6(source), destination: as_v6(destination) })
        }
        ends => ends,
    };
    match version {
        Version::V1 => write_v1(ends, out),
        Version::V2 => write_v2(ends, out),
    }
}

fn as_v6(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

fn write_v1(ends: Option<Ends>, out: &mut Vec<u8>) {
    let Some(Ends { source, destination }) = ends else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    out.extend_from_slice(line.as_bytes());
}

fn write_v2(ends: Option<Ends>, out: &mut Vec<u8>) {
    // LOCAL for one without ends: HAProxy takes PROXY without a family for a fault.
    let (command, family, behind): (u8, u8, u8) = match ends {
        None => (0x20, 0x00, 0),
        Some(ends) if ends.source.is_ipv4() => (0x21, 0x11, 12),
        Some(_) => (0x21, 0x21, 36),
    };
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[command, family, 0, behind]);
    if let Some(Ends { source, destination }) = ends {
        for address in [source, destination] {
            match address.ip() {
                IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
            }
        }
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ends_of(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn v2(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
        let len = u16::try_from(behind.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, behind].concat()
    }

    #[test]
    fn what_is_written_is_read_and_a_part_of_it_is_a_part() {
        let v4 = ends_of("192.0.2.1:56324", "198.51.100.1:443");
        let v6 = ends_of("[2001:db8::1]:1", "[2001:db8::2]:65535");
        let mixed = ends_of("[2001:db8::1]:1", "198.51.100.1:443");
        let mapped = ends_of("[2001:db8::1]:1", "[::ffff:198.51.100.1]:443");
        for version in [Version::V1, Version::V2] {
            for (ends, told) in [(Some(v4), Some(v4)), (Some(v6), Some(v6)), (Some(mixed), Some(mapped)), (None, None)]
            {
                let mut header = Vec::new();
                write(version, ends, &mut header);
                let len = header.len();
                for end in 0..len {
                    assert_eq!(read(&header[..end]), Ok(Found::Part), "{version:?} {ends:?} {end}");
                }
                header.extend_from_slice(b"GET / HTTP/1.1\r\n");
                assert_eq!(read(&header), Ok(Found::Header(len, told)), "{version:?} {ends:?}");
            }
        }
    }

    #[test]
    fn lines_that_the_specification_shows_are_read() {
        let longest = "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"
            .replace("ffff:f...f:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(longest.len(), 104);
        assert!(matches!(read(longest.as_bytes()), Ok(Found::Header(104, Some(_)))));
        let unknown = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
        assert_eq!(read(unknown.as_bytes()), Ok(Found::Header(107, None)));
        assert_eq!(read(b"PROXY UNKNOWN\r\nGET"), Ok(Found::Header(15, None)));
        assert_eq!(read(b"PROXY UNKNOWN \xff\xfe \0\r\nGET"), Ok(Found::Header(20, None)));
    }

    #[test]
    fn lines_that_are_none_are_refused_at_once() {
        let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4",
            "PROXYTCP4",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r \n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 99999 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1:1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY UNKNOWN x\n\r\n",
            "PROXY UNKNOWNS\r\n",
            &too_long,
            &"PROXY TCP4 ".repeat(20),
        ] {
            assert_eq!(read(line.as_bytes()), Err(NoHeader), "{line:?}");
        }
        assert_eq!(read(b"PROXY TCP4 \xff\xfe\r\n"), Err(NoHeader));
    }

    #[test]
    fn version_2_is_read_whatever_comes_behind_its_addresses() {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let told = Some(ends_of("192.0.2.1:56324", "198.51.100.1:443"));
        for (header, told) in [
            (v2(0x21, 0x11, &addresses), told),
            (v2(0x21, 0x11, &[&addresses[..], &[0xee, 3, 0x84], &[0xff; 900]].concat()), told),
            (v2(0x21, 0x11, &[&addresses[..], &[4, 0, 0], &[4, 7, 0xee], &[0; 2030]].concat()), told),
            (v2(0x20, 0x11, &addresses), None),
            (v2(0x20, 0x77, b"whatever"), None),
            (v2(0x21, 0x00, b"whatever"), None),
            (v2(0x21, 0x31, &[b'x'; 216]), None),
        ] {
            assert_eq!(read(&header), Ok(Found::Header(header.len(), told)), "{header:?}");
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]), Ok(Found::Part), "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn version_2_that_is_wrong_is_refused_at_once() {
        for header in [
            v2(0x31, 0x11, &[0; 12]), // version 3
            v2(0x11, 0x11, &[0; 12]), // version 1 in binary
            v2(0x22, 0x11, &[0; 12]), // a command that is none
            v2(0x21, 0x12, &[0; 12]), // a datagram
            v2(0x21, 0x41, &[0; 12]), // a family that is none
            v2(0x21, 0x11, &[0; 11]), // no room for its addresses
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x11, &[0; 2049])[..16].to_vec(), // before any of it has come
            v2(0x20, 0x00, &[0; 65_535])[..16].to_vec(),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            b"\r\n\r\nGET".to_vec(),
        ] {
            assert_eq!(read(&header), Err(NoHeader), "{header:?}");
        }
    }

    /// A header with these extensions, whose checksum, if it has one, is made right.
    fn summed(command: u8, family: u8, addresses: &[u8], extensions: &[u8]) -> Vec<u8> {
        let mut header = v2(command, family, &[addresses, extensions].concat());
        if let Ok(Some((at, _))) = checksum(extensions) {
            let at = FIXED_BYTES + addresses.len() + at;
            header[at..at + 4].fill(0);
            let sum = crc32c(header.iter());
            header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        }
        header
    }

    #[test]
    fn a_checksum_is_that_of_the_whole_header_or_it_is_refused() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283, "the check value of CRC-32C");
        assert_eq!(crc32c([0; 32].iter()), 0x8a91_36aa, "RFC 3720 B.4");
        let sum = [3, 0, 4, 0, 0, 0, 0];
        let others = [&[5, 0, 2, b'i', b'd'][..], &sum, &[0xe0, 0, 0]].concat();
        for (command, family, len) in
            [(0x21, 0x11, 12), (0x21, 0x21, 36), (0x21, 0x31, 216), (0x21, 0, 0), (0x20, 0, 0), (0x20, 0x11, 12)]
        {
            for extensions in [&sum[..], &others] {
                let header = summed(command, family, &vec![7; len], extensions);
                assert!(matches!(read(&header), Ok(Found::Header(n, _)) if n == header.len()), "{header:?}");
                for end in 0..header.len() {
                    assert_eq!(read(&header[..end]), Ok(Found::Part), "{end}");
                }
                // One bit anywhere behind the signature: whatever it makes of the header, it is no good one.
                // But for what calls it a checksum: without that, it is a header that has none.
                let kind =
                    header.len() - extensions.len() + extensions.windows(3).position(|tlv| tlv == [3, 0, 4]).unwrap();
                for bit in (0..(header.len() - 12) * 8).filter(|bit| 12 + bit / 8 != kind) {
                    let mut wrong = header.clone();
                    wrong[12 + bit / 8] ^= 1 << (bit % 8);
                    let is_loose = command == 0x20 || family == 0;
                    let read = read(&wrong);
                    assert!(is_loose || !matches!(read, Ok(Found::Header(..))), "{read:?} of {wrong:?}");
                    let at = header.len() - extensions.len();
                    let in_place = 12 + bit / 8 < 14 || 12 + bit / 8 >= at;
                    assert!(in_place || !matches!(read, Ok(Found::Header(n, _)) if n == header.len()), "{wrong:?}");
                }
            }
        }
    }

    #[test]
    fn extensions_are_what_they_say_they_are() {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let right = summed(0x21, 0x11, &addresses, &[3, 0, 4, 0, 0, 0, 0]);
        let sum = &right[right.len() - 7..];
        for extensions in [
            &[3, 0, 4, 1, 2, 3, 4][..], // a wrong one
            &[3, 0, 3, 1, 2, 3],        // of another length
            &[3, 0, 0],
            &[3, 0, 5, 0, 0, 0, 0, 0],
            &[sum, sum].concat(), // two
            &[4, 0, 1],           // cut
            &[4, 0xff, 0xff, 0],
            &[4],
            &[4, 0],
            &[4, 0, 0, 0],
        ] {
            assert_eq!(read(&v2(0x21, 0x11, &[&addresses, extensions].concat())), Err(NoHeader), "{extensions:?}");
            assert_eq!(read(&v2(0x21, 0x21, &[&[7; 36], extensions].concat())), Err(NoHeader), "{extensions:?}");
        }
        let local = v2(0x20, 0x00, &[3, 0, 4, 1, 2, 3, 4]);
        assert_eq!(read(&local), Err(NoHeader), "a checksum counts also where nothing else does");
    }

    /// Whatever comes: no panic, and what was refused stays refused with more bytes behind it.
    #[test]
    fn any_bytes_are_read_or_refused_for_good() {
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(seed >> 56).unwrap()
        };
        let mut good = Vec::new();
        write(Version::V1, Some(ends_of("192.0.2.1:56324", "198.51.100.1:443")), &mut good);
        let good_v2 = summed(0x21, 0x21, &[7; 36], &[3, 0, 4, 0, 0, 0, 0, 4, 0, 4, 7, 7, 7, 7]);
        for round in 0..20_000 {
            let mut bytes = if round % 2 == 0 { good.clone() } else { good_v2.clone() };
            for _ in 0..=next() % 3 {
                let at = usize::from(next()) % bytes.len();
                bytes[at] = next();
            }
            let mut refused = false;
            for end in 0..=bytes.len() {
                match read(&bytes[..end]) {
                    Err(NoHeader) => refused = true,
                    Ok(_) => assert!(!refused, "{bytes:?}"),
                }
            }
        }
    }
}
