//! What a limit counts by: facts of the request, one or several joined, as bytes.
//!
//! A fact that the request does not have is another key than one that is empty: whoever leaves a field out shares one
//! bucket with all who do, and none with those who send it empty. So does whoever sends a field, cookie or parameter more
//! than once: upstreams differ in which of them they take, and a second one must not choose a fresh bucket. Joined facts
//! are told apart by their lengths, so that no value can pass for two.

use std::net::IpAddr;

use http::HeaderName;

use crate::request::{Request, cookie_value, pair_value};
use crate::route::encode::{Source, decode};
use crate::route::template::Facts;

/// What a limit counts by; without any fact there is one count for all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitKey(pub Vec<Fact>);

/// One fact of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The client's address, behind trusted proxies the one they name; of an IPv6 address the network, which is what one
    /// customer has. All clients of Unix sockets are one.
    Ip,
    /// The field of this name. What a client says in one that filters have written decides nothing.
    Header(HeaderName),
    /// The cookie of this name (RFC 6265 5.4), without the quotes that its value may have (4.1.1).
    Cookie(String),
    /// The query parameter of this name, however name and value are escaped.
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
/// There more than once.
const SEVERAL: u8 = 2;
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
    /// Appends the value of this fact of `req`, and gives it; `None` if the request does not have it, has it empty, or has it
    /// more than once. Of a field it is what filters have written, if they have.
    pub fn only_value<'o>(&self, req: &Request, out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
        let start = out.len();
        self.write(req, out);
        let (mark, value) = out.get(start..)?.split_first()?;
        (*mark == PRESENT && !value.is_empty()).then_some(value)
    }

    #[inline]
    fn write(&self, req: &Request, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(PRESENT);
        let mark = match self {
            Fact::Ip => match req.client_ip() {
                Some(IpAddr::V4(v4)) => append(Some(&v4.octets()), out),
                Some(IpAddr::V6(v6)) => append(v6.octets().get(..NETWORK_BYTES), out),
                None => append(None, out),
            },
            Fact::Header(name) => one(req.decisive(name.as_str().as_bytes()), out),
            Fact::Cookie(name) => {
                one(req.cookies().filter_map(|pair| cookie_value(pair, name.as_bytes())).map(unquoted), out)
            }
            Fact::Query(name) => query(req, name.as_bytes(), out),
            Fact::Param(index) => {
                decode(req.param(*index).as_bytes(), Source::Path, out);
                PRESENT
            }
            Fact::Name(name) => append(Some(name.as_bytes()), out),
            Fact::Principal => append(req.principal.get().map(str::as_bytes), out),
        };
        if let Some(place) = out.get_mut(start) {
            *place = mark;
        }
    }
}

fn append(value: Option<&[u8]>, out: &mut Vec<u8>) -> u8 {
    let Some(value) = value else { return MISSING };
    out.extend_from_slice(value);
    PRESENT
}

fn one<'r>(mut values: impl Iterator<Item = &'r [u8]>, out: &mut Vec<u8>) -> u8 {
    let first = values.next();
    if values.next().is_some() { SEVERAL } else { append(first, out) }
}

/// A value in quotes is the same as one without (RFC 6265 4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value)
}

/// What was escaped is the same as what was not, in names as in values.
fn query(req: &Request, name: &[u8], out: &mut Vec<u8>) -> u8 {
    let mut values = req.pairs().filter_map(|pair| pair_value(pair, name));
    match (values.next(), values.next()) {
        (None, _) => MISSING,
        (Some(_), Some(_)) => SEVERAL,
        (Some(value), None) => {
            decode(value, Source::Query, out);
            PRESENT
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::encode::Edits;
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
    fn what_filters_have_written_decides_and_not_what_a_client_says_there() {
        let of = |edit: &dyn Fn(&mut Edits)| {
            let mut req = request("", "X_User: zed\r\n", "::1");
            edit(&mut req.edits);
            key(&[Fact::Header(HeaderName::from_static("x-user"))], &req)
        };
        let write = |out: &mut Vec<u8>| out.extend_from_slice(b"acme");
        assert_eq!(of(&|_| {}), b"\x01zed");
        assert_eq!(of(&|edits| edits.set(b"X_User", write)), b"\x01acme");
        assert_eq!(of(&|edits| edits.set(b"x-other", |_| {})), b"\x01zed");
        assert_eq!(of(&|edits| edits.drop_came(b"x-user")), [MISSING], "a new name of which the old one is missing");
        assert_eq!(of(&|edits| edits.remove(b"x-user")), b"\x01zed", "a credential that was read");
        assert_eq!(of(&|edits| edits.add(b"x-user", write)), [SEVERAL]);
    }

    #[test]
    fn cookies_and_queries_by_name() {
        let req = request("tenant=a%62&t=2", "Cookie: sid2=no; sid=abc ; x=1\r\nCookie: y=later\r\n", "::1");
        assert_eq!(key(&[Fact::Cookie("sid".into())], &req), b"\x01abc");
        assert_eq!(key(&[Fact::Cookie("y".into())], &req), b"\x01later");
        assert_eq!(key(&[Fact::Cookie("si".into())], &req), [MISSING]);
        assert_eq!(key(&[Fact::Query("tenant".into())], &req), b"\x01ab");
        assert_eq!(key(&[Fact::Query("ten".into())], &req), [MISSING]);
    }

    #[test]
    fn a_parameter_is_found_however_its_name_is_escaped() {
        let of = |name: &str, query: &str| key(&[Fact::Query(name.into())], &request(query, "", "::1"));
        for query in ["t=a", "%74=a", "u=1&%74=%61", "t=a&tt=b&%75=c"] {
            assert_eq!(of("t", query), b"\x01a", "{query}");
        }
        for query in ["a+b=1", "a%20b=1"] {
            assert_eq!(of("a b", query), b"\x011", "{query}");
            assert_eq!(of("a+b", query), [MISSING], "{query}");
        }
        assert_eq!(of("a+b", "a%2Bb=1=2"), b"\x011=2");
        assert_eq!((of("t", "t"), of("t", "t="), of("t", "%74")), (vec![PRESENT], vec![PRESENT], vec![PRESENT]));
    }

    #[test]
    fn what_is_there_more_than_once_is_one_key_for_all() {
        let of = |fact: Fact, query: &str, fields: &str| key(&[fact], &request(query, fields, "::1"));
        let header = Fact::Header(HeaderName::from_static("x-a"));
        for (fact, query, fields) in [
            (header.clone(), "", "X-A: 1\r\nX-A: 2\r\n"),
            (header, "", "x-a: 3\r\nX-B: 1\r\nX-A: 3\r\n"),
            (Fact::Cookie("s".into()), "", "Cookie: s=1; s=2\r\n"),
            (Fact::Cookie("s".into()), "", "Cookie: s=3\r\nCookie: s=\"4\"\r\n"),
            (Fact::Query("t".into()), "t=1&t=2", ""),
            (Fact::Query("t".into()), "t=3&%74", ""),
        ] {
            assert_eq!(of(fact, query, fields), [SEVERAL], "{query} {fields}");
        }
    }

    #[test]
    fn one_value_is_what_is_there_once_and_says_something() {
        let header = Fact::Header(HeaderName::from_static("x-a"));
        let of = |fact: &Fact, fields: &str| {
            let mut out = b"before".to_vec();
            fact.only_value(&request("t=%61", fields, "203.0.113.9"), &mut out).map(<[u8]>::to_vec)
        };
        assert_eq!(of(&header, "X-A: 1\r\n").as_deref(), Some(&b"1"[..]));
        for fields in ["", "X-A:\r\n", "X-A: 1\r\nX-A: 1\r\n"] {
            assert_eq!(of(&header, fields), None, "{fields}");
        }
        assert_eq!(of(&Fact::Query("t".into()), "").as_deref(), Some(&b"a"[..]));
        assert_eq!(of(&Fact::Ip, "").as_deref(), Some(&[203, 0, 113, 9][..]));
    }

    #[test]
    fn of_a_field_the_one_value_is_what_filters_have_written() {
        let header = Fact::Header(HeaderName::from_static("x-a"));
        let of = |fields: &str, edit: &dyn Fn(&mut Request)| {
            let mut req = request("", fields, "::1");
            edit(&mut req);
            header.only_value(&req, &mut Vec::new()).map(<[u8]>::to_vec)
        };
        let set = |req: &mut Request| req.edits.set(b"X_A", |out| out.extend_from_slice(b"own"));
        assert_eq!(of("X-A: 1\r\nX_A: 2\r\n", &set).as_deref(), Some(&b"own"[..]));
        assert_eq!(of("", &|req| req.set_principal("acme", Some("x-a"))).as_deref(), Some(&b"acme"[..]));
        assert_eq!(of("X-A: 1\r\n", &|req| req.edits.remove(b"x-a")).as_deref(), Some(&b"1"[..]), "as it came");
        assert_eq!(of("X-A: 1\r\n", &|req| req.edits.add(b"x-a", |out| out.push(b'2'))), None, "two");
        assert_eq!(of("X-A: 1\r\n", &|req| req.edits.set(b"x-b", |out| out.push(b'2'))).as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn a_quoted_cookie_is_the_same_as_one_that_is_not() {
        let of = |value: &str| key(&[Fact::Cookie("s".into())], &request("", &format!("Cookie: s={value}\r\n"), "::1"));
        assert_eq!((of("\"abc\""), of("\"\"")), (b"\x01abc".to_vec(), vec![PRESENT]));
        for value in ["\"", "\"abc", "abc\""] {
            assert_eq!(of(value)[1..], *value.as_bytes());
        }
    }
}
