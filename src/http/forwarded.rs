//! The Forwarded field (RFC 7239): who called, whom, and how, hop by hop.

use super::head::is_token;

/// In which fields upstreams are told who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tells {
    /// X-Forwarded-For, -Proto and -Host.
    #[default]
    XForwarded,
    /// Forwarded.
    Forwarded,
    /// All of these.
    Both,
}

/// What one hop says. A value with escapes in it, which no address, scheme or host has, is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Element<'v> {
    /// Who called it.
    pub node: Option<&'v [u8]>,
    /// How: the scheme.
    pub proto: Option<&'v [u8]>,
    /// Whom: the Host.
    pub host: Option<&'v [u8]>,
}

/// The value without the empty elements around it, which nobody should write (RFC 9110 5.6.1.1).
pub fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b',' | b' ' | b'\t', rest @ ..] | [rest @ .., b',' | b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a field's value, in their order, without empty ones (RFC 9110 5.6.1.2); `None` if it is malformed: nothing
/// of it can be believed, and what is put behind it might be taken for a part of it.
pub fn elements(value: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    let mut element = None;
    let mut rest = value.trim_ascii();
    loop {
        match rest.split_first() {
            None => break,
            Some((b',', behind)) => {
                elements.extend(element.take());
                rest = behind.trim_ascii_start();
            }
            Some((b';', behind)) => {
                element.get_or_insert_with(Element::default);
                rest = behind.trim_ascii_start();
            }
            Some(_) => {
                let element = element.get_or_insert_with(Element::default);
                let (name, behind) = token(rest)?;
                let (said, behind) = match behind.strip_prefix(b"=")? {
                    [b'"', quoted @ ..] => quoted_text(quoted)?,
                    plain => token(plain).map(|(said, behind)| (Some(said), behind))?,
                };
                let place = match name.to_ascii_lowercase().as_slice() {
                    b"for" => Some(&mut element.node),
                    b"proto" => Some(&mut element.proto),
                    b"host" => Some(&mut element.host),
                    _ => None,
                };
                if let Some(place) = place {
                    // RFC 7239 4: each only once.
                    if place.is_some() {
                        return None;
                    }
                    *place = said;
                }
                rest = behind.trim_ascii_start();
                if !matches!(rest.first(), None | Some(b',' | b';')) {
                    return None;
                }
            }
        }
    }
    elements.extend(element);
    Some(elements)
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// What stands before the quote that ends it, and what behind; escapes make it nothing that is of use.
fn quoted_text(text: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let mut at = 0;
    let mut is_plain = true;
    loop {
        match text.get(at)? {
            b'"' => return Some((text.get(..at).filter(|_| is_plain), text.get(at + 1..).unwrap_or_default())),
            b'\\' => {
                is_plain = false;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// Appends the element of this hop: `for=192.0.2.1;host="a:8080";proto=https`. A client without an address is unknown, and
/// one that has asked nobody leaves out `host`.
pub fn write(peer: &str, authority: &[u8], proto: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"for=");
    match peer {
        "" => out.extend_from_slice(b"unknown"),
        // RFC 7239 6: IPv6 in brackets, and brackets and colons only in quotes.
        peer if peer.contains(':') => {
            for text in ["\"[", peer, "]\""] {
                out.extend_from_slice(text.as_bytes());
            }
        }
        peer => out.extend_from_slice(peer.as_bytes()),
    }
    if !authority.is_empty() {
        out.extend_from_slice(b";host=");
        write_value(authority, out);
    }
    out.extend_from_slice(b";proto=");
    write_value(proto, out);
}

fn write_value(value: &[u8], out: &mut Vec<u8>) {
    if value.iter().all(|byte| is_token(*byte)) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (peer, authority, text) in [
            ("192.0.2.1", "a.example", "for=192.0.2.1;host=a.example;proto=https"),
            ("2001:db8::1", "[::1]:8080", "for=\"[2001:db8::1]\";host=\"[::1]:8080\";proto=https"),
            ("", "", "for=unknown;proto=https"),
        ] {
            let mut out = Vec::new();
            write(peer, authority.as_bytes(), b"https", &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), text);
            let elements = elements(&out).unwrap();
            assert_eq!((elements.len(), elements[0].proto), (1, Some(&b"https"[..])));
            assert_eq!(elements[0].host.unwrap_or_default(), authority.as_bytes());
        }
    }

    #[test]
    fn elements_are_cut_outside_of_quotes_only() {
        let nodes = |text: &'static str| -> Option<Vec<Option<&str>>> {
            let elements = elements(text.as_bytes())?;
            Some(elements.iter().map(|e| e.node.map(|node| std::str::from_utf8(node).unwrap())).collect())
        };
        assert_eq!(nodes("for=a, For=\"b,for=c\";by=x ,proto=http; ;"), Some(vec![Some("a"), Some("b,for=c"), None]));
        assert_eq!(nodes("for=\"a\\\"b\""), Some(vec![None]), "escapes");
        for text in ["", ",", " ,, ,"] {
            assert_eq!(nodes(text), Some(vec![]), "{text}");
        }
        assert_eq!(nodes(",for=a,,for=b, "), Some(vec![Some("a"), Some("b")]));
        assert_eq!(trimmed(b" ,for=a,,for=b ,\t,"), b"for=a,,for=b");
        assert_eq!(trimmed(b", ,"), b"");
        for text in
            ["for", "for=", "for=\"a", "for=\"a\\", "for=a b", "for=[::1]", "for=a;for=b", "=a", "for =a", "for=\"a\"b"]
        {
            assert_eq!(nodes(text), None, "{text}");
        }
    }
}
