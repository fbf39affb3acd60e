//! `cors`: which pages of other origins may read the answers (Fetch, "CORS protocol").
//!
//! A preflight is answered here and never forwarded, whether or not the route lists OPTIONS: the route is the one that the
//! announced request would take. Every other answer says whether the page may read it, also those that the gateway makes:
//! without that a script would see a network error where it should see a 401 or a 429. What an upstream says of its own is
//! replaced: two answers to one question are none (Fetch 3.2.5 fails on a list).

use std::borrow::Cow;
use std::collections::HashSet;

use http::Method;

use crate::core::Core;
use crate::error::Kind;
use crate::http::known::{folded, is_same_name};
use crate::http::reply::Reply;
use crate::request::Request;
use crate::route::predicates::{Asked, Place};
use crate::shared::FilterMetrics;

use super::{Flow, note_refusal};

const ORIGIN: &[u8] = b"origin";
const REQUEST_METHOD: &[u8] = b"access-control-request-method";
const REQUEST_HEADERS: &[u8] = b"access-control-request-headers";
const REQUEST_PRIVATE_NETWORK: &[u8] = b"access-control-request-private-network";

/// The filter. Its texts are values of fields, ready to be sent.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Its name.
    pub name: String,
    /// Who may read answers.
    pub origins: Origins,
    /// Whether requests may come with cookies and the like; never together with any origin.
    pub credentials: bool,
    /// Methods that may be asked with.
    pub methods: String,
    /// Fields that may be sent beside the safelisted ones; empty: none.
    pub headers: String,
    /// Fields of answers that may be read beside the safelisted ones; empty: none.
    pub expose_headers: String,
    /// How long a browser may remember a preflight, in s.
    pub max_age_s: String,
    /// Whether pages of a public network may ask a private one.
    pub private_network: bool,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// Origins, as browsers write them: `https://app.example.com`, `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// All.
    pub any: bool,
    /// These.
    pub exact: HashSet<String>,
    /// Those that begin and end so, with labels of a host between: `https://` and `.example.com`.
    pub wildcards: Vec<(String, String)>,
}

impl Origins {
    /// Whether pages of this origin may read answers. Origins are compared byte by byte (RFC 6454 5).
    #[must_use]
    pub fn allow(&self, origin: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(origin) else { return false };
        self.any || self.exact.contains(text) || self.wildcards.iter().any(|(front, end)| within(text, front, end))
    }
}

/// Whether only labels of a host stand between the two.
fn within(origin: &str, front: &str, end: &str) -> bool {
    let labels = origin.strip_prefix(front).and_then(|rest| rest.strip_suffix(end)).unwrap_or_default();
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        !label.is_empty() && label.bytes().all(plain)
    };
    labels.split('.').all(is_label)
}

/// The method that a preflight announces; `None`: the request is none.
pub fn announced(req: &Request) -> Option<Method> {
    if req.head.method != Method::OPTIONS {
        return None;
    }
    req.head.fields.get(ORIGIN, req.bytes())?;
    Method::from_bytes(req.head.fields.get(REQUEST_METHOD, req.bytes())?).ok()
}

/// The request that a preflight announces, as far as it tells: what will be in a field is not known, only that it will be
/// there; cookies are never sent with preflights.
pub struct Announced<'r>(pub &'r Request);

impl Announced<'_> {
    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let (fields, bytes) = (&self.0.head.fields, self.0.bytes());
        let lists = fields.named(REQUEST_HEADERS, bytes).map(|field| field.value.of(bytes));
        lists.flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }
}

impl Asked for Announced<'_> {
    fn has(&self, place: Place, name: &str, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        let is_announced = || self.names().any(|listed| is_same_name(listed, name.as_bytes()));
        (place == Place::Header && is_announced()) || self.0.has(place, name, is_meant)
    }

    fn each_announced<'r>(&'r self, take: &mut dyn FnMut(Cow<'r, [u8]>)) {
        self.names().for_each(|name| take(folded(name)));
    }

    fn each<'r>(&'r self, place: Place, take: &mut dyn FnMut(Cow<'r, [u8]>, Cow<'r, [u8]>)) {
        self.0.each(place, take);
    }
}

impl Cors {
    /// Notes what answers say, and answers a preflight.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        req.own.replace_all_of(b"access-control-");
        // Also where there is no Origin: a cache must not hand such an answer to a page (Fetch 3.2.6).
        req.own.add(b"Vary", |out| out.extend_from_slice(b"Origin"));
        let is_allowed = self.allow_origin(req);
        if req.is_preflight {
            return self.answer(req, is_allowed);
        }
        if is_allowed && !self.expose_headers.is_empty() {
            set(req, b"Access-Control-Expose-Headers", self.expose_headers.as_bytes());
        }
        self.metrics.passed.add(1);
        Flow::Continue
    }

    /// Says that the origin may read the answer, if it may.
    fn allow_origin(&self, req: &mut Request) -> bool {
        let Request { own, head, buf, .. } = req;
        let bytes = buf.bytes();
        let mut given = head.fields.named(ORIGIN, bytes).map(|field| field.value.of(bytes));
        // A browser sends one.
        let (Some(origin), None) = (given.next(), given.next()) else { return false };
        if !self.origins.allow(origin) {
            return false;
        }
        let value: &[u8] = if self.origins.any { b"*" } else { origin };
        own.set(b"Access-Control-Allow-Origin", |out| out.extend_from_slice(value));
        if self.credentials {
            own.set(b"Access-Control-Allow-Credentials", |out| out.extend_from_slice(b"true"));
        }
        true
    }

    /// What may be asked is told as it is, whatever was asked: the browser compares, and says what is missing.
    fn answer(&self, req: &mut Request, is_allowed: bool) -> Flow {
        let varies: &[u8] = if self.private_network {
            b"Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
        } else {
            b"Access-Control-Request-Method, Access-Control-Request-Headers"
        };
        req.own.add(b"Vary", |out| out.extend_from_slice(varies));
        if !is_allowed {
            note_refusal(&self.name, &self.metrics, req);
            return Flow::Reply(Reply::from_error(Kind::OriginRefused, &req.request_id, b""));
        }
        self.metrics.passed.add(1);
        set(req, b"Access-Control-Allow-Methods", self.methods.as_bytes());
        if !self.headers.is_empty() {
            set(req, b"Access-Control-Allow-Headers", self.headers.as_bytes());
        }
        set(req, b"Access-Control-Max-Age", self.max_age_s.as_bytes());
        let private = req.head.fields.get(REQUEST_PRIVATE_NETWORK, req.bytes());
        if self.private_network && private.is_some_and(|value| value == b"true") {
            set(req, b"Access-Control-Allow-Private-Network", b"true");
        }
        Flow::Reply(Reply {
            status: 204,
            fields: Default::default(),
            body: Default::default(),
            close: false,
            kind: None,
            is_standard: false,
        })
    }
}

fn set(req: &mut Request, name: &[u8], value: &[u8]) {
    req.own.set(name, |out| out.extend_from_slice(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_labels_of_a_host_and_nothing_else() {
        let origins = Origins {
            exact: ["https://app.example.com".to_owned(), "null".to_owned()].into(),
            wildcards: vec![("https://".into(), ".example.com".into()), ("http://".into(), ".test:8080".into())],
            any: false,
        };
        for origin in ["https://app.example.com", "https://a.b-c.example.com", "null", "http://x.test:8080"] {
            assert!(origins.allow(origin.as_bytes()), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil.com",
            "https://evil.com/.example.com",
            "https://evil.com?.example.com",
            "https://evil.com#.example.com",
            "https://user@.example.com",
            "https://evilexample.com",
            "https://A.example.com",
            "https://a.example.com ",
            "https://é.example.com",
            "http://x.test:80800",
            "http://x.test",
            "NULL",
            "*",
            "",
        ] {
            assert!(!origins.allow(origin.as_bytes()), "{origin}");
        }
        assert!(!origins.allow(b"https://\xff.example.com"));
    }
}
