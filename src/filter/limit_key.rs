//! What a limit counts by: facts of the request, one or several joined, as bytes.
//!
//! A fact that the request does not have is another key than one that is empty: whoever leaves a field out shares one
//! bucket with all who do, and none with those who send it empty. Joined facts are told apart by their lengths, so that
//! no value can pass for two.

use std::net::IpAddr;

use http::HeaderName;

use crate::request::Request;
use crate::route::encode::{Source, decode};
use crate::route::template::Facts;

/// What a limit counts by; without any fact there is one count for all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitKey(pub Vec<Fact>);

/// One fact of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The client's address, behind trusted proxies the one they name; of an IPv6 address the network, which is what one
    /// customer has.
    Ip,
    /// The first field of this name.
    Header(HeaderName),
    /// The first cookie of this name (RFC 6265 5.4).
    Cookie(String),
    /// The first query parameter of this name.
    Query(String),
    /// The parameter of the route's path with this index.
    Param(usize),
    /// This text: the name of the route, or of the listener.
    Name(Box<str>),
    /// Who calls, as a filter before this one made out.
    Principal,
}

const MISSING: u8 = 0;
const PRESENT: u8 = 1;
/// An IPv6 network of a customer has at most this many bytes (RFC 6177).
const NETWORK_BYTES: usize = 8;

impl LimitKey {
    /// Appends the key of `req`.
    #[inline]
    pub fn write(&self, req: &Request, out: &mut Vec<u8>) {
        match self.0.as_slice() {
            [fact] => fact.write(req, out),
            facts => {
                for fact in facts {
                    let start = out.len();
                    out.extend_from_slice(&[0; 4]);
                    fact.write(req, out);
                    // A head is far smaller than 4 GiB.
                    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
                    if let Some(place) = out.get_mut(start..start + 4) {
                        place.copy_from_slice(&len.to_le_bytes());
                    }
                }
            }
        }
    }
}

impl Fact {
    #[inline]
    fn write(&self, req: &Request, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(PRESENT);
        let mut value = |value: Option<&[u8]>| match (value, out.get_mut(start)) {
            (Some(value), _) => out.extend_from_slice(value),
            (None, Some(mark)) => *mark = MISSING,
            (None, None) => {}
        };
        match self {
            Fact::Ip => match req.client_ip() {
                IpAddr::V4(v4) => value(Some(&v4.octets())),
                IpAddr::V6(v6) => value(v6.octets().get(..NETWORK_BYTES)),
            },
            Fact::Header(name) => value(req.header(name.as_str())),
            Fact::Cookie(name) => value(cookie(req, name)),
            // What was escaped is the same value as what was not.
            Fact::Query(name) => match req.query(name) {
                Some(text) => decode(text.as_bytes(), Source::Query, out),
                None => value(None),
            },
            Fact::Param(index) => decode(req.param(*index).as_bytes(), Source::Path, out),
            Fact::Name(name) => value(Some(name.as_bytes())),
            Fact::Principal => value(req.principal.as_deref().map(str::as_bytes)),
        }
    }
}

/// The first cookie of this name, over all Cookie fields: HTTP/2 clients may send several (RFC 9113 8.2.3).
fn cookie<'r>(req: &'r Request, name: &str) -> Option<&'r [u8]> {
    let bytes = req.bytes();
    let fields = req.head.fields.iter().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(b"cookie"));
    let pairs = fields.flat_map(|field| field.value.of(bytes).split(|byte| *byte == b';'));
    pairs
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"="))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::head::{Bounds, Span};
    use crate::io::Buf;
    use crate::io::Buffers;

    fn request(query: &str, fields: &str, client: &str) -> Request {
        let text = format!("GET /a?{query} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut req = Request { client: Some(client.parse().unwrap()), ..Request::default() };
        let mut buf: Buf = Buffers::default().take(4096);
        buf.extend(text.as_bytes());
        req.buf = buf;
        assert!(req.head.parse(text.as_bytes(), &Bounds { head: 4096, fields: 10, target: 1000 }).unwrap());
        let at = text.find('?').unwrap() + 1;
        req.query = Some(Span::within(req.buf.bytes(), &req.buf.bytes()[at..at + query.len()]));
        req
    }

    fn key(facts: &[Fact], req: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        LimitKey(facts.to_vec()).write(req, &mut out);
        out
    }

    #[test]
    fn an_ipv6_customer_is_one_key_and_an_ipv4_address_is_one() {
        let of = |client: &str| key(&[Fact::Ip], &request("", "", client));
        assert_eq!(of("2001:db8:1:2:aaaa::1"), of("2001:db8:1:2:bbbb::2"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
    }

    #[test]
    fn missing_is_not_empty_and_joined_values_do_not_run_together() {
        let header = |name: &'static str| Fact::Header(HeaderName::from_static(name));
        let req = |fields: &str| request("", fields, "::1");
        assert_ne!(key(&[header("x-a")], &req("")), key(&[header("x-a")], &req("X-A:\r\n")));
        let both = [header("x-a"), header("x-b")];
        assert_ne!(key(&both, &req("X-A: 1\r\nX-B: 23\r\n")), key(&both, &req("X-A: 12\r\nX-B: 3\r\n")));
        assert_eq!(key(&both, &req("X-A: 1\r\nX-B: 2\r\n")), key(&both, &req("X-B: 2\r\nX-A: 1\r\n")));
        assert_eq!(key(&[], &req("")), Vec::<u8>::new());
        assert_ne!(key(&[Fact::Principal], &req("")), key(&[Fact::Name("".into())], &req("")));
    }

    #[test]
    fn cookies_and_queries_by_name() {
        let req = request("tenant=a%62&t=2", "Cookie: sid2=no; sid=abc ; x=1\r\nCookie: sid=later\r\n", "::1");
        assert_eq!(key(&[Fact::Cookie("sid".into())], &req), b"\x01abc");
        assert_eq!(key(&[Fact::Cookie("si".into())], &req), [MISSING]);
        assert_eq!(key(&[Fact::Query("tenant".into())], &req), b"\x01ab");
        assert_eq!(key(&[Fact::Query("ten".into())], &req), [MISSING]);
    }
}
