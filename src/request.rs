//! One request as the filters and the route's action see it. Its memory is reused from request to request.

use std::net::IpAddr;
use std::rc::Rc;

use crate::http::encode::Edits;
use crate::http::framing::Framing;
use crate::http::head::{RequestHead, ResponseHead, Span};
use crate::http::quota::Quota;
use crate::io::Buf;
use crate::route::Params;
use crate::route::template::Facts;
use crate::shared::in_flight::Guard;
use crate::tls::Session;

/// A request whose head has come. Spans are into [`Request::buf`], which does not move while the request lives.
#[derive(Default)]
pub struct Request {
    /// The head as it came, then what came behind it.
    pub buf: Buf,
    /// Where everything is in it.
    pub head: RequestHead,
    /// The path that routes match and upstreams get: normalised once.
    pub path: Vec<u8>,
    /// The query, without its `?`.
    pub query: Option<Span>,
    /// Whom the request is for: lower case, without port or trailing dot; empty if it does not say.
    pub host: Vec<u8>,
    /// The same as the client wrote it, with port.
    pub authority: Vec<u8>,
    /// What the route's path parameters matched.
    pub params: Params,
    /// How the body is delimited.
    pub framing: Framing,
    /// Changes to the fields that go to the upstream.
    pub edits: Edits,
    /// Changes to the fields of its answer.
    pub answer_edits: Edits,
    /// The head of the upstream's answer.
    pub answer: ResponseHead,
    /// The client, behind trusted proxies the one they name.
    pub client: Option<IpAddr>,
    /// Whether the downstream address is a trusted proxy: its forwarding fields are kept.
    pub from_trusted: bool,
    /// What the TLS handshake of its connection told.
    pub session: Option<Rc<Session>>,
    /// The request's id.
    pub request_id: String,
    /// Bytes of it that were read, its head's as far as it came.
    pub received: u64,
    /// What the access log tells of the parts that it was made of.
    pub parts: Vec<u8>,
    /// When its head had come, or a filter had let it wait, in µs since the process began.
    pub received_us: u64,
    /// Who calls, once a filter has made that out.
    pub principal: Option<Box<str>>,
    /// What the client is told of its limits, in every answer.
    pub quota: Quota,
    /// Concurrency limits that it counts for, to its end.
    pub in_flight: Vec<Guard>,
    /// The filter that refused it.
    pub refused_by: String,
    /// Filters that would have refused it but for their `dry_run`, as the access log shows them.
    pub would_refuse: Vec<u8>,
}

impl Request {
    /// Makes it ready for the next head, keeping its memory. The buffer was taken out before.
    pub fn reset(&mut self) {
        self.path.clear();
        self.query = None;
        self.host.clear();
        self.authority.clear();
        self.edits.clear();
        self.answer_edits.clear();
        self.framing = Framing::None;
        self.client = None;
        self.from_trusted = false;
        self.session = None;
        self.request_id.clear();
        self.received = 0;
        self.parts.clear();
        self.principal = None;
        self.quota.clear();
        self.in_flight.clear();
        self.refused_by.clear();
        self.would_refuse.clear();
        self.head.clear();
    }

    /// The bytes that spans are into.
    pub fn bytes(&self) -> &[u8] {
        self.buf.bytes()
    }

    /// What has come behind the head.
    pub fn behind_head(&self) -> &[u8] {
        self.buf.bytes().get(self.head.fields.len..).unwrap_or_default()
    }

    /// The path as text; it is ASCII by construction.
    pub fn path_str(&self) -> &str {
        std::str::from_utf8(&self.path).unwrap_or_default()
    }

    /// The query as text; it is ASCII by construction.
    pub fn query_str(&self) -> Option<&str> {
        self.query.map(|query| std::str::from_utf8(query.of(self.bytes())).unwrap_or_default())
    }

    /// The host as text; it is ASCII by construction.
    pub fn host_str(&self) -> &str {
        std::str::from_utf8(&self.host).unwrap_or_default()
    }
}

impl Facts for Request {
    fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    fn client_ip(&self) -> IpAddr {
        self.client.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn host(&self) -> &str {
        std::str::from_utf8(&self.authority).unwrap_or_default()
    }

    fn hostname(&self) -> &str {
        self.host_str()
    }

    fn path(&self) -> &str {
        self.path_str()
    }

    fn query_string(&self) -> Option<&str> {
        self.query_str()
    }

    fn param(&self, i: usize) -> &str {
        self.params.get(i, self.path_str())
    }

    fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.query_str()?.split('&');
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.fields.get(name.as_bytes(), self.bytes())
    }
}
