//! Both codecs behind one face: bytes in pieces go in, messages and how it ended come out.

use bytes::BytesMut;
use http::{HeaderMap, Method};
use monoio_codec::{Decoded, Decoder};
use monoio_http::common::IntoParts;
use monoio_http::common::request::Request as TheirRequest;
use monoio_http::common::response::Response as TheirResponse;
use monoio_http::h1::codec::decoder::{
    ChannelWrapper, GenericHeadDecoder, NextDecoder, RequestHeadDecoder, ResponseHeadDecoder,
};
use ringway::config;
use ringway::http::framing;
use ringway::http::h1::payload::Payload;
use ringway::http::head::{Bounds, Fields, ResponseHead, Version};
use ringway::http::reply::row;
use ringway::io::Buf;
use ringway::proxy::receive::{self, Arrival};
use ringway::request::Request;
use ringway::snapshot::Snapshot;
use ringway::snapshot::build::build;
use ringway::snapshot::inputs::{Inputs, Made};
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One message as it was understood. The first line of a request is `GET /target 1.1`, that of an answer `200 1.1`; fields
/// are sorted by their names, in small letters, those of one name in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it begins.
    pub at: usize,
    pub line: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// What happened behind the last whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing is left.
    All,
    /// A message has begun, and waits for more bytes.
    More,
    /// The connection would be closed, for this reason.
    Refused(String),
    /// The task has panicked.
    Panicked(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub messages: Vec<Message>,
    pub end: End,
    /// Where what did not become a message begins.
    pub end_at: usize,
}

/// Which way the messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Requests,
    Answers,
}

fn sorted(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|a, b| a.0.cmp(&b.0)); // stable: those of one name keep their order
    fields
}

/// The bytes of one connection, in pieces that end at `cuts`.
struct Feed<'a> {
    bytes: &'a [u8],
    cuts: &'a [usize],
    at: usize,
}

impl<'a> Feed<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let end =
            self.cuts.iter().copied().find(|cut| *cut > self.at).unwrap_or(self.bytes.len()).min(self.bytes.len());
        let piece = &self.bytes[self.at..end];
        self.at = end;
        (!piece.is_empty()).then_some(piece)
    }
}

/// The gateway's own codec, as a connection drives it: head, what is decided about it, body.
pub struct Ours {
    snapshot: Snapshot,
}

impl Ours {
    pub fn new() -> Self {
        let text = "listeners: [{ address: \"127.0.0.1:0\" }]\nadmin: off\nroutes: []\n";
        let config = config::parse("differential.yaml", text, &|_| None).unwrap_or_else(|e| panic!("{e}"));
        let snapshot = build(&Inputs { config: &config, made: &Made::alone(), worker: 0, seed: 1 });
        Self { snapshot: snapshot.unwrap_or_else(|e| panic!("{e}")) }
    }

    pub fn read(&self, way: Way, bytes: &[u8], cuts: &[usize]) -> Outcome {
        let mut feed = Feed { bytes, cuts, at: 0 };
        let (mut messages, mut rest) = (Vec::new(), Vec::new());
        loop {
            let at = feed.at - rest.len();
            let message = match way {
                Way::Requests => self.request(at, &mut rest, &mut feed),
                Way::Answers => answer(at, &mut rest, &mut feed),
            };
            match message {
                Ok(message) => messages.push(message),
                Err(end) => return Outcome { messages, end, end_at: at },
            }
        }
    }

    /// The next request; `rest` is what was read behind the one before, and is left so for the next.
    fn request(&self, at: usize, rest: &mut Vec<u8>, feed: &mut Feed<'_>) -> Result<Message, End> {
        let rules = &self.snapshot.listeners[0];
        let mut req = Request { buf: Buf::with_capacity(64 * 1024), ..Request::default() };
        req.buf.extend(&std::mem::take(rest));
        let refused = |kind| End::Refused(format!("{} {}", row(kind).status, row(kind).message));
        let mut arrival = Arrival::new(&rules.bounds);
        while !arrival.look(&mut req.buf, &mut req.head, &rules.bounds).map_err(refused)? {
            match feed.next() {
                Some(piece) => req.buf.extend(piece),
                None if req.buf.is_empty() => return Err(End::All),
                None => return Err(End::More),
            }
        }
        receive::decide(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), rules, &self.snapshot, &mut req).map_err(refused)?;
        *rest = req.bytes().get(req.head.fields.len..).unwrap().to_vec();
        let head = &req.head;
        let target = String::from_utf8_lossy(head.target.of(req.bytes()));
        let line = format!("{} {target} {}", head.method, version(head.version));
        let fields = fields(&head.fields, req.bytes());
        Ok(Message { at, line, fields, body: body(Payload::of(req.framing), rest, feed)? })
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::H10 => "1.0",
        Version::H11 => "1.1",
    }
}

fn fields(fields: &Fields, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let pair = |field: &ringway::http::head::Field| {
        let name = String::from_utf8(field.name.of(bytes).to_ascii_lowercase()).unwrap();
        (name, field.value.of(bytes).to_vec())
    };
    sorted(fields.iter().map(pair).collect())
}

/// The next answer to a GET. One that the connection's end delimits takes all that comes.
fn answer(at: usize, rest: &mut Vec<u8>, feed: &mut Feed<'_>) -> Result<Message, End> {
    const BOUNDS: Bounds = ringway::proxy::forward::ANSWER_BOUNDS;
    let refused = |why: String| End::Refused(format!("502 {why}"));
    let mut head = ResponseHead::default();
    let mut bytes = std::mem::take(rest);
    while bytes.is_empty() || !head.parse(&bytes, &BOUNDS).map_err(|e| refused(format!("{e:?}")))? {
        match feed.next() {
            Some(piece) => bytes.extend_from_slice(piece),
            None if bytes.is_empty() => return Err(End::All),
            None => return Err(End::More),
        }
    }
    let framing = framing::of_response(&Method::GET, &head, &bytes).map_err(|e| refused(format!("{e:?}")))?;
    *rest = bytes.get(head.fields.len..).unwrap().to_vec();
    let line = format!("{} {}", head.status, version(head.version));
    Ok(Message { at, line, fields: fields(&head.fields, &bytes), body: body(Payload::of(framing), rest, feed)? })
}

fn body(mut payload: Payload, rest: &mut Vec<u8>, feed: &mut Feed<'_>) -> Result<Vec<u8>, End> {
    let mut body = Vec::new();
    let until_close = matches!(payload, Payload::Close);
    loop {
        let step = payload.take(rest).map_err(|e| End::Refused(format!("chunk: {e}")))?;
        body.extend_from_slice(&rest[..step.data]);
        rest.drain(..step.consumed);
        if step.done {
            return Ok(body);
        }
        match feed.next() {
            Some(piece) => rest.extend_from_slice(piece),
            None if until_close => return Ok(body),
            None => return Err(End::More),
        }
    }
}

/// monoio-http's codec, driven as its own `GenericDecoder` does: the head decoder, then the body decoder that it names.
pub fn theirs(way: Way, bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut feed = Feed { bytes, cuts, at: 0 };
    let (mut messages, mut buf) = (Vec::new(), BytesMut::new());
    loop {
        let at = feed.at - buf.len();
        let next = catch_unwind(AssertUnwindSafe(|| match way {
            Way::Requests => {
                let mut decoder = GenericHeadDecoder::<TheirRequest, RequestHeadDecoder, ChannelWrapper>::default();
                let (request, next) = head(&mut decoder, &mut buf, &mut feed)?;
                let (parts, _) = IntoParts::into_parts(request);
                let line = format!("{} {} {}", parts.method, parts.uri, version_of(parts.version));
                their_message(at, line, &parts.headers, next, &mut buf, &mut feed)
            }
            Way::Answers => {
                let mut decoder = GenericHeadDecoder::<TheirResponse, ResponseHeadDecoder, ChannelWrapper>::default();
                let (response, next) = head(&mut decoder, &mut buf, &mut feed)?;
                let (parts, _) = IntoParts::into_parts(response);
                let line = format!("{} {}", parts.status.as_u16(), version_of(parts.version));
                their_message(at, line, &parts.headers, next, &mut buf, &mut feed)
            }
        }));
        let end = match next {
            Ok(Ok(message)) => {
                messages.push(message);
                continue;
            }
            Ok(Err(end)) => end,
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                End::Panicked(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
            }
        };
        return Outcome { messages, end, end_at: at };
    }
}

fn version_of(version: http::Version) -> &'static str {
    if version == http::Version::HTTP_10 { "1.0" } else { "1.1" }
}

fn head<D: Decoder>(decoder: &mut D, buf: &mut BytesMut, feed: &mut Feed<'_>) -> Result<D::Item, End>
where
    D::Error: std::fmt::Display,
{
    loop {
        match decoder.decode(buf).map_err(|e| End::Refused(e.to_string()))? {
            Decoded::Some(item) => return Ok(item),
            Decoded::Insufficient | Decoded::InsufficientAtLeast(_) => match feed.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None if buf.is_empty() => return Err(End::All),
                None => return Err(End::More),
            },
        }
    }
}

fn their_message<F, S, B>(
    at: usize,
    line: String,
    headers: &HeaderMap,
    next: NextDecoder<F, S, B>,
    buf: &mut BytesMut,
    feed: &mut Feed<'_>,
) -> Result<Message, End>
where
    B: AsRef<[u8]>,
    F: Decoder<Item = B, Error: std::fmt::Display>,
    S: Decoder<Item = Option<B>, Error: std::fmt::Display>,
{
    let pairs = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let fields = sorted(pairs.collect());
    let open = |end| if end == End::All { End::More } else { end }; // the message has begun
    let mut body = Vec::new();
    match next {
        NextDecoder::None => {}
        NextDecoder::Fixed(mut decoder, _) => {
            body.extend_from_slice(head(&mut decoder, buf, feed).map_err(open)?.as_ref());
        }
        NextDecoder::Streamed(mut decoder, _) => {
            while let Some(piece) = head(&mut decoder, buf, feed).map_err(open)? {
                body.extend_from_slice(piece.as_ref());
            }
        }
    }
    Ok(Message { at, line, fields, body })
}

/// How many bytes of a body of `whole` each codec has passed on, ours first, when all but its last have come.
pub fn passed_on_before_the_end(whole: usize) -> (usize, usize) {
    let mut piece = vec![b'x'; whole - 1];
    let ours = Payload::of(framing::Framing::Length(whole as u64)).take(&mut piece).map_or(0, |step| step.data);
    let mut buf = BytesMut::from(&*format!("POST / HTTP/1.1\r\nContent-Length: {whole}\r\n\r\n"));
    buf.extend_from_slice(&piece);
    let mut decoder = GenericHeadDecoder::<TheirRequest, RequestHeadDecoder, ChannelWrapper>::default();
    let Ok(Decoded::Some((_, NextDecoder::Fixed(mut body, _)))) = decoder.decode(&mut buf) else {
        panic!("theirs reads no head")
    };
    let theirs = match body.decode(&mut buf) {
        Ok(Decoded::Some(piece)) => piece.len(),
        _ => 0,
    };
    (ours, theirs)
}
