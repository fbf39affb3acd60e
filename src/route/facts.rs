//! What templates may know of a request, and what it is called there.

use std::net::IpAddr;

use crate::tls::Session;

/// Facts a template may use, without those that carry a name of their own.
pub(super) const FACTS: [&str; 6] = ["client_ip", "request_id", "host", "hostname", "path", "query"];

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
}

/// A scalar of an earlier answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its text: of a string what it says, without quotes and escapes.
    pub text: &'a [u8],
    /// Its JSON.
    pub json: &'a [u8],
}
