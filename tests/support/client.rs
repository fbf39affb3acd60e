//! A raw client: it sends exactly the bytes it is given and reads answers with the strict parser.

use super::message::Response;
use super::wire::{Fault, Wire, show};
use super::{Gateway, Link};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

pub struct Client {
    pub wire: Wire<Link>,
}

impl Client {
    pub fn connect(gateway: &Gateway) -> Client {
        if gateway.is_plain { Client::over(Link::dial_plain(gateway.addr)) } else { Client::to(gateway.addr) }
    }

    /// To an address where TLS is spoken in a run over TLS.
    pub fn to(addr: SocketAddr) -> Client {
        Client::over(Link::dial(addr))
    }

    /// Behind a proxy that passes on bytes alone, and says this first.
    pub fn behind(gateway: &Gateway, header: &[u8]) -> Client {
        Client::over(Link::behind(gateway.addr, header, !gateway.is_plain))
    }

    /// To a Unix socket where TLS is never spoken.
    pub fn unix(path: &std::path::Path) -> Client {
        Client::over(Link::dial_unix(path))
    }

    /// Connected, but not yet heard: over TLS no hand was shaken. The answer is to be read next.
    pub fn arrive(gateway: &Gateway) -> Client {
        Client::over(Link::arrive(gateway.addr))
    }

    fn over(link: std::io::Result<Link>) -> Client {
        Client { wire: Wire::new(link.unwrap_or_else(|e| panic!("connect: {e}"))) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|e| panic!("send: {e}"));
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    /// One write per piece, with a short pause between them so that each arrives alone.
    pub fn send_in_pieces(&mut self, bytes: &[u8], size: usize, pause: Duration) {
        for piece in bytes.chunks(size) {
            self.send(piece);
            std::thread::sleep(pause);
        }
    }

    /// A GET, and its whole answer.
    pub fn get(&mut self, path: &str) -> Response {
        self.ask(get(path))
    }

    /// Any request but HEAD, and its whole answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response()
    }

    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|e| panic!("no good answer: {e:?}"))
    }

    pub fn try_response(&mut self) -> Result<Response, Fault> {
        let mut response = self.head()?;
        response.read_body(&mut self.wire)?;
        Ok(response)
    }

    pub fn head(&mut self) -> Result<Response, Fault> {
        Response::head(&mut self.wire, false)
    }

    /// The answer to a HEAD request.
    pub fn response_to_head(&mut self) -> Response {
        Response::head(&mut self.wire, true).unwrap_or_else(|e| panic!("no good answer: {e:?}"))
    }

    /// Asserts that the gateway closes in an orderly way and says nothing more.
    pub fn is_closed(&mut self) {
        assert_eq!(self.rest(), (Vec::new(), Ok(())), "expected the end of the connection");
    }

    /// Asserts that the gateway says nothing more and that the connection ends, be it by a reset (as when it closes
    /// while bytes of ours wait unread).
    pub fn is_gone(&mut self) {
        let (more, end) = self.rest();
        assert!(more.is_empty(), "unexpected: {}", show(&more));
        assert!(matches!(end, Ok(()) | Err(Fault::Reset)), "{end:?}");
    }

    /// The same behind half an answer. TLS can say that an end is meant: that must not be said here.
    pub fn is_cut_off(&mut self) {
        let (more, end) = self.rest();
        assert!(more.is_empty(), "unexpected: {}", show(&more));
        match end {
            Err(Fault::Cut | Fault::Reset) => {}
            Ok(()) if !self.wire.stream.0.is_tls() => {}
            other => panic!("{other:?}"),
        }
    }

    /// Everything that still comes, and how it ends.
    pub fn rest(&mut self) -> (Vec<u8>, Result<(), Fault>) {
        let mut more = Vec::new();
        let end = self.wire.drain(&mut |piece| more.extend_from_slice(piece));
        (more, end)
    }

    /// Asserts that nothing came so far.
    pub fn is_silent(&mut self) {
        assert!(self.wire.waiting().is_empty(), "unexpected: {}", show(self.wire.waiting()));
        assert!(self.wire.stream.0.is_silent(), "something came, or the end");
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        self.wire.stream.0.half_close();
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        self.wire.stream.0.reset_on_close();
    }
}

/// A plain GET.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\n\r\n")
}

/// A plain POST with a length.
pub fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out =
        format!("POST {path} HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// A plain POST with a chunked body.
pub fn post_chunked(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut out = format!("POST {path} HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    out.extend_from_slice(&super::message::chunked(body, size));
    out
}
