//! The request of one part: what the config says of it, what it passes on from the client, what the gateway adds.

use std::ops::Range;

use http::Method;

use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::known::is_same_name;
use crate::request::Request;
use crate::route::facts::{Over, Value};
use crate::route::template::Place;
use crate::snapshot::aggregate::{Body, Part};

use super::super::plane::Downstream;
use super::super::upload::write_framing;
use super::super::upstream_head::{self, TARGET_BYTES_MAX};

/// A value longer than this is none: what a template takes is an id or a word, not a document.
pub const VALUE_BYTES_MAX: usize = 8 * 1024;
/// What a request was made of is remembered up to this length; longer bodies are not worth it.
const KEY_BODY_BYTES_MAX: usize = 4 * 1024;

/// What a client says about its body goes where the body goes.
const PASSED_WITH_BODY: [&[u8]; 3] = [b"content-type", b"content-encoding", b"content-language"];

/// Values of earlier answers, as one part's templates name them. Reused.
#[derive(Debug, Default)]
pub struct Values {
    bytes: Vec<u8>,
    list: Vec<(Range<usize>, Range<usize>)>,
}

impl Values {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    /// Adds a value by its JSON. `text` appends what it says and tells whether it says anything.
    pub fn push(&mut self, json: &[u8], text: impl FnOnce(&[u8], &mut Vec<u8>) -> bool) -> bool {
        let start = self.bytes.len();
        let json = if json.len() <= VALUE_BYTES_MAX { json } else { b"" };
        self.bytes.extend_from_slice(json);
        let middle = self.bytes.len();
        let says = text(json, &mut self.bytes) && self.bytes.len() > middle;
        self.list.push((start..middle, middle..self.bytes.len()));
        says
    }
}

/// The facts of a request, and the values of earlier answers.
pub struct PartFacts<'a> {
    /// The client's request.
    pub req: &'a Request,
    /// The values that the template at hand names.
    pub values: &'a Values,
    /// What is left of the time for it, in ms, where it is about to be sent.
    pub left_ms: Option<u64>,
}

impl Over for PartFacts<'_> {
    type Base = Request;

    fn base(&self) -> &Request {
        self.req
    }

    fn value(&self, i: usize) -> Value<'_> {
        let Some((json, text)) = self.values.list.get(i) else { return Value::default() };
        let of = |range: &Range<usize>| self.values.bytes.get(range.clone()).unwrap_or_default();
        Value { text: of(text), json: of(json) }
    }

    fn left_ms(&self) -> Option<u64> {
        self.left_ms
    }
}

/// What the request of a part is made of.
pub struct Sender<'a> {
    /// The part.
    pub part: &'a Part,
    /// The request it is made for.
    pub facts: PartFacts<'a>,
    /// The client's body, if parts pass it on.
    pub body: &'a [u8],
    /// The client's connection.
    pub down: &'a Downstream,
}

impl Sender<'_> {
    /// Appends the whole request, as the endpoint that is asked as `host` gets it; false if its target is too long.
    pub fn write(&self, host: &str, out: &mut Vec<u8>) -> bool {
        let Self { part, facts, down, .. } = self;
        let req = facts.req;
        out.extend_from_slice(part.method.as_str().as_bytes());
        out.push(b' ');
        if !self.write_target(out) {
            return false;
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(b"\r\nAccept-Encoding: identity\r\n");
        let is_set = |name: &[u8]| part.set_headers.iter().any(|(set, _)| is_same_name(set.as_bytes(), name));
        if !is_set(b"accept") && !part.headers.iter().any(|name| name == "accept") {
            out.extend_from_slice(b"Accept: application/json\r\n");
        }
        self.facts.req.write_fields(&self.part.headers, out);
        for (name, value) in &part.set_headers {
            encode::field_of(name.as_bytes(), |out| value.render(facts, Place::Header, out), out);
        }
        upstream_head::write_who(req, down.peer().text(), is_set, out);
        match &part.body {
            Body::None if [Method::GET, Method::DELETE, Method::OPTIONS].contains(&part.method) => {
                out.extend_from_slice(b"\r\n");
            }
            // RFC 9110 8.6: where a method expects a body, its absence is said.
            Body::None => out.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
            Body::Pass => {
                for name in PASSED_WITH_BODY {
                    if let Some(value) = req.head.fields.get(name, req.bytes()).filter(|_| !is_set(name)) {
                        encode::field(name, value, out);
                    }
                }
                write_body(self.body, out);
            }
            Body::Template(template) => {
                if !is_set(b"content-type") {
                    encode::field(b"Content-Type", b"application/json", out);
                }
                let mut body = Vec::new();
                template.render(facts, &mut body);
                write_body(&body, out);
            }
        }
        true
    }

    /// Appends all that the answer may depend on, and nothing that differs between two of the same requests: the client's
    /// address is told to the upstream and is not in it. False if there is too much of it.
    pub fn write_key(&self, route: &str, upstream: &str, out: &mut Vec<u8>) -> bool {
        let req = self.facts.req;
        let (host, scheme) = (req.asked_host(), req.scheme());
        for text in [route.as_bytes(), self.part.name.as_bytes(), upstream.as_bytes(), host, scheme] {
            out.extend_from_slice(text);
            out.push(0);
        }
        out.extend_from_slice(self.part.method.as_str().as_bytes());
        out.push(0);
        let _ = self.write_target(out); // one that is too long is not sent, and not kept
        out.push(0);
        self.facts.req.write_fields(&self.part.headers, out);
        for (name, value) in &self.part.set_headers {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            value.render(&self.facts, Place::Header, out);
            out.push(0);
        }
        match &self.part.body {
            Body::None => true,
            Body::Pass => {
                for name in PASSED_WITH_BODY {
                    out.extend_from_slice(req.head.fields.get(name, req.bytes()).unwrap_or_default());
                    out.push(0);
                }
                out.extend_from_slice(self.body.get(..KEY_BODY_BYTES_MAX).unwrap_or(self.body));
                self.body.len() <= KEY_BODY_BYTES_MAX
            }
            Body::Template(template) => {
                template.render(&self.facts, out);
                true
            }
        }
    }

    fn write_target(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.part.target.render(&self.facts, Place::Target, out);
        let passed = self.facts.req.query_str().filter(|_| !self.part.query.is_empty());
        for pair in passed.unwrap_or_default().split('&') {
            let name = pair.split('=').next().unwrap_or_default();
            if self.part.query.iter().any(|wanted| wanted == name) {
                let has_query = out.get(start..).unwrap_or_default().contains(&b'?');
                out.push(if has_query { b'&' } else { b'?' });
                out.extend_from_slice(pair.as_bytes());
            }
        }
        out.len() - start <= TARGET_BYTES_MAX
    }
}

fn write_body(body: &[u8], out: &mut Vec<u8>) {
    write_framing(Framing::Length(body.len() as u64), out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}
