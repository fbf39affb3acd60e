//! What templates may know of a request, and what it is called there.

use std::net::IpAddr;

use crate::tls::Session;

/// Facts a template may use, without those that carry a name of their own.
pub(super) const FACTS: [&str; 6] = ["client_ip", "request_id", "host", "hostname", "path", "query"];

/// What is left of the route's time: not known before a request is sent.
pub(crate) const LEFT: &str = "deadline_ms";

/// Facts of the TLS connection.
pub(super) const TLS_FACTS: [(&str, TlsFact); 6] = [
    ("tls.server_name", |session| &session.server_name),
    ("tls.version", |session| session.version),
    ("tls.client.subject", |session| session.client.as_ref().map_or("", |client| &client.subject)),
    ("tls.client.san", |session| session.client.as_ref().map_or("", |client| &client.san)),
    ("tls.client.fingerprint", |session| session.client.as_ref().map_or("", |client| &client.fingerprint)),
    ("tls.client.serial", |session| session.client.as_ref().map_or("", |client| &client.serial)),
];
pub(super) type TlsFact = fn(&Session) -> &str;

/// What templates may know of a request.
pub trait Facts {
    /// The TLS session of its connection, if it has one.
    fn session(&self) -> Option<&Session>;
    /// The client's address, behind trusted proxies the one they name; `None` of one that came over a Unix socket.
    fn client_ip(&self) -> Option<IpAddr>;
    /// The request's id.
    fn request_id(&self) -> &str;
    /// The host asked for, as the client wrote it or in lower case, with or without port.
    fn host(&self) -> &str;
    /// The same without port, an IPv6 address in brackets.
    fn hostname(&self) -> &str;
    /// The path, percent-encoded, without dot segments.
    fn path(&self) -> &str;
    /// All of the query, without its `?`, percent-encoded; `None` if there is none.
    fn query_string(&self) -> Option<&str>;
    /// The `i`-th parameter of the route's path, percent-encoded.
    fn param(&self, i: usize) -> &str;
    /// The first value of that name in the query, percent-encoded.
    fn query(&self, name: &str) -> Option<&str>;
    /// The first header field of that name, which is in lower case.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The `i`-th value of earlier answers that the template names. Empty where there are no earlier answers.
    fn value(&self, _i: usize) -> Value<'_> {
        Value::default()
    }
    /// What is left of the route's time, in ms, where a request is being sent.
    fn left_ms(&self) -> Option<u64> {
        None
    }
}

/// The facts of another, of which some are more, or others.
pub trait Over {
    /// Whose facts they are.
    type Base: Facts;
    /// The other.
    fn base(&self) -> &Self::Base;
    /// See [`Facts::param`].
    fn param(&self, i: usize) -> &str {
        self.base().param(i)
    }
    /// See [`Facts::value`].
    fn value(&self, i: usize) -> Value<'_> {
        self.base().value(i)
    }
    /// See [`Facts::left_ms`].
    fn left_ms(&self) -> Option<u64> {
        self.base().left_ms()
    }
}

impl<T: Over> Facts for T {
    fn session(&self) -> Option<&Session> {
        self.base().session()
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.base().client_ip()
    }

    fn request_id(&self) -> &str {
        self.base().request_id()
    }

    fn host(&self) -> &str {
        self.base().host()
    }

    fn hostname(&self) -> &str {
        self.base().hostname()
    }

    fn path(&self) -> &str {
        self.base().path()
    }

    fn query_string(&self) -> Option<&str> {
        self.base().query_string()
    }

    fn param(&self, i: usize) -> &str {
        Over::param(self, i)
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.base().query(name)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.base().header(name)
    }

    fn value(&self, i: usize) -> Value<'_> {
        Over::value(self, i)
    }

    fn left_ms(&self) -> Option<u64> {
        Over::left_ms(self)
    }
}

/// The facts of a request, and how much of its time is left as it is sent.
pub struct Timed<'a, F> {
    /// The request.
    pub base: &'a F,
    /// In ms.
    pub left_ms: u64,
}

impl<F: Facts> Over for Timed<'_, F> {
    type Base = F;

    fn base(&self) -> &F {
        self.base
    }

    fn left_ms(&self) -> Option<u64> {
        Some(self.left_ms)
    }
}

/// A scalar of an earlier answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its text: of a string what it says, without quotes and escapes.
    pub text: &'a [u8],
    /// Its JSON.
    pub json: &'a [u8],
}
