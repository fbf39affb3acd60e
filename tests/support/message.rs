//! Requests and responses as strict parsers of our own read them: a parser here accepts only what a careful sender
//! writes, so whatever the gateway sends is held to more than what others would tolerate.

use super::wire::{Fault, Wire, bad, show};
use std::io::Read;

/// Fields in the order and case in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of a field that is there exactly once.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is there {} times: {self:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    fn push_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            return bad(format!("no colon: {}", show(line)));
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
            return bad(format!("field name: {}", show(line)));
        }
        if value.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return bad(format!("control byte in a value: {}", show(line)));
        }
        self.0.push((latin1(name), latin1(value).trim_matches([' ', '\t']).to_string()));
        Ok(())
    }

    /// How the body is framed: both ways at once, a listed or repeated length, a coding other than chunked: faults.
    fn framing(&self) -> Result<Option<Framing>, Fault> {
        match (self.all("content-length").as_slice(), self.all("transfer-encoding").as_slice()) {
            ([], []) => Ok(None),
            ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
            ([n], []) if !n.is_empty() && n.len() < 19 && n.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Some(Framing::Length(n.parse().map_err(|_| Fault::Bad(format!("length {n}")))?)))
            }
            (n, te) => bad(format!("content-length {n:?} with transfer-encoding {te:?}")),
        }
    }
}

/// Where the end of a body comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Nothing,
    Length(u64),
    Chunked,
    Close,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Which connection of the upstream it came on, from 0.
    pub conn: usize,
    /// Which request of the upstream it is, from 0.
    pub serial: usize,
}

impl Request {
    /// The head of a request, strictly.
    pub fn head<S: Read>(wire: &mut Wire<S>) -> Result<Request, Fault> {
        let line = wire.first_line()?;
        let text = latin1(&line);
        let parts: Vec<&str> = text.split(' ').collect();
        let [method, target, version] = parts[..] else {
            return bad(format!("request line {}", show(&line)));
        };
        if method.is_empty() || !method.bytes().all(is_token) {
            return bad(format!("method {method}"));
        }
        if !(target.starts_with('/') || (target == "*" && method == "OPTIONS"))
            || !target.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#')
        {
            return bad(format!("target {target}"));
        }
        if version != "HTTP/1.1" {
            return bad(format!("version {version}: an upstream is always spoken to in 1.1"));
        }
        let fields = read_fields(wire)?;
        if fields.all("host").len() != 1 {
            return bad(format!("{} Host fields", fields.all("host").len()));
        }
        let framing = fields.framing()?.unwrap_or(Framing::Nothing);
        Ok(Request {
            method: method.into(),
            target: target.into(),
            version: version.into(),
            fields,
            framing,
            body: Vec::new(),
            trailers: Fields::default(),
            conn: 0,
            serial: 0,
        })
    }

    /// The body that belongs to the head, in pieces to `sink`; trailers are kept.
    pub fn stream_body<S: Read>(&mut self, wire: &mut Wire<S>, sink: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        self.trailers = body(wire, self.framing, sink)?;
        Ok(())
    }

    /// A whole request.
    pub fn read<S: Read>(wire: &mut Wire<S>) -> Result<Request, Fault> {
        let mut request = Request::head(wire)?;
        let mut bytes = Vec::new();
        request.stream_body(wire, &mut |piece| bytes.extend_from_slice(piece))?;
        request.body = bytes;
        Ok(request)
    }
}

#[derive(Clone)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The 1xx answers that came before it.
    pub interim: Vec<Response>,
}

/// With its body as text.
impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {:?} {:?}", self.version, self.status, self.reason, self.framing, self.fields.0)?;
        write!(f, " body {} trailers {:?} interim {:?}", show(&self.body), self.trailers.0, self.interim)
    }
}

impl Response {
    /// The head of the final response, with the interim ones that came before it.
    pub fn head<S: Read>(wire: &mut Wire<S>, to_head_request: bool) -> Result<Response, Fault> {
        let mut interim = Vec::new();
        loop {
            let mut head = Self::one_head(wire, to_head_request)?;
            if (100..200).contains(&head.status) && head.status != 101 {
                interim.push(head);
                continue;
            }
            head.interim = interim;
            return Ok(head);
        }
    }

    fn one_head<S: Read>(wire: &mut Wire<S>, to_head_request: bool) -> Result<Response, Fault> {
        let line = wire.first_line()?;
        let text = latin1(&line);
        let mut parts = text.splitn(3, ' ');
        let (version, status, reason) = (parts.next(), parts.next(), parts.next());
        let (Some(version @ ("HTTP/1.1" | "HTTP/1.0")), Some(status), Some(reason)) = (version, status, reason) else {
            return bad(format!("status line {}", show(&line)));
        };
        if status.len() != 3 || !status.bytes().all(|b| b.is_ascii_digit()) || status < "100" {
            return bad(format!("status line {}", show(&line)));
        }
        let status = status.parse().map_err(|_| Fault::Bad("status".into()))?;
        let fields = read_fields(wire)?;
        let framing = match fields.framing()? {
            _ if to_head_request || matches!(status, 100..200 | 204 | 304) => Framing::Nothing,
            Some(framing) => framing,
            None => Framing::Close,
        };
        if matches!(status, 100..200 | 204) && (fields.has("transfer-encoding") || fields.has("content-length")) {
            return bad(format!("a {status} that announces a body (RFC 9110 8.6, RFC 9112 6.1)"));
        }
        Ok(Response {
            version: version.into(),
            status,
            reason: reason.into(),
            fields,
            framing,
            body: Vec::new(),
            trailers: Fields::default(),
            interim: Vec::new(),
        })
    }

    /// The body that belongs to the head, kept in `body` as far as it came.
    pub fn read_body<S: Read>(&mut self, wire: &mut Wire<S>) -> Result<(), Fault> {
        let kept = &mut self.body;
        self.trailers = body(wire, self.framing, &mut |piece| kept.extend_from_slice(piece))?;
        Ok(())
    }

    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", show(&self.body)))
    }

    /// Asserts that this is an answer the gateway itself made, with the given status, in the one envelope.
    pub fn is_gateways_own(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.fields.get("content-type"), Some("application/json"), "{self:?}");
        let envelope = self.json();
        let keys: Vec<&str> = envelope.as_object().unwrap().keys().map(String::as_str).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["code", "data", "message", "request_id"], "{envelope}");
        assert_eq!(envelope["code"].as_u64().unwrap() / 100, u64::from(status), "{envelope}");
        assert!(envelope["data"].is_null(), "{envelope}");
        assert!(!envelope["message"].as_str().unwrap().is_empty(), "{envelope}");
        assert!(!envelope["request_id"].as_str().unwrap().is_empty(), "{envelope}");
    }
}

fn read_fields<S: Read>(wire: &mut Wire<S>) -> Result<Fields, Fault> {
    let mut fields = Fields::default();
    loop {
        let line = wire.line()?;
        if line.is_empty() {
            return Ok(fields);
        }
        fields.push_line(&line)?;
    }
}

fn body<S: Read>(wire: &mut Wire<S>, framing: Framing, sink: &mut dyn FnMut(&[u8])) -> Result<Fields, Fault> {
    let mut trailers = Fields::default();
    match framing {
        Framing::Nothing => {}
        Framing::Length(n) => wire.exact(n, sink)?,
        Framing::Close => wire.drain(sink)?,
        Framing::Chunked => {
            for line in wire.chunked(sink)? {
                trailers.push_line(&line)?;
            }
        }
    }
    Ok(trailers)
}

/// RFC 9110 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// One char per byte: nothing is lost, nothing can fail.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| b as char).collect()
}

/// `body` in chunks of `size`.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 8 + 16);
    for piece in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// A plain 200 with a length.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}
