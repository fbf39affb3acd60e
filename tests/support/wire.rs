//! Bytes from a stream, a line or a body at a time, and what can go wrong with them.

use std::io::{ErrorKind, Read};

/// Why a message could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The stream ended where a message could have begun.
    End,
    /// The stream ended inside a message, or over TLS without that being announced (RFC 8446 6.1).
    Cut,
    /// The other side reset the connection.
    Reset,
    /// Nothing came for a long time.
    Timeout,
    /// The bytes break a rule.
    Bad(String),
}

pub fn bad<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Bad(why.into()))
}

/// A buffered reader that keeps the bytes it has not handed out.
pub struct Wire<S> {
    pub stream: S,
    buf: Vec<u8>,
    at: usize,
}

const PIECE: usize = 64 * 1024;
/// No line of a valid message is longer than this here; the gateway's own bounds are smaller.
const LINE_MAX: usize = 256 * 1024;

impl<S: Read> Wire<S> {
    pub fn new(stream: S) -> Self {
        Wire { stream, buf: Vec::new(), at: 0 }
    }

    /// Bytes that were read from the stream and not yet used.
    pub fn waiting(&self) -> &[u8] {
        &self.buf[self.at..]
    }

    fn fill(&mut self) -> Result<(), Fault> {
        if self.at == self.buf.len() {
            self.buf.clear();
            self.at = 0;
        }
        let old = self.buf.len();
        self.buf.resize(old + PIECE, 0);
        let read = self.stream.read(&mut self.buf[old..]);
        self.buf.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Fault::End),
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Fault::Timeout),
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Err(Fault::Reset),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(Fault::Cut),
            Err(e) => bad(format!("read: {e}")),
        }
    }

    /// The first line of a message: the stream may end in front of it.
    pub fn first_line(&mut self) -> Result<Vec<u8>, Fault> {
        if self.at == self.buf.len() {
            self.fill()?;
        }
        self.line()
    }

    /// One line without its CRLF. A bare LF, a bare CR or a NUL is a fault.
    pub fn line(&mut self) -> Result<Vec<u8>, Fault> {
        let mut scanned = self.at;
        loop {
            if let Some(n) = self.buf[scanned..].iter().position(|&b| b == b'\n') {
                let end = scanned + n;
                let line = self.buf[self.at..end].to_vec();
                self.at = end + 1;
                return match line.split_last() {
                    Some((b'\r', line)) if line.iter().any(|&b| b == b'\r' || b == 0) => {
                        bad(format!("CR or NUL inside a line: {}", show(line)))
                    }
                    Some((b'\r', line)) => Ok(line.to_vec()),
                    _ => bad(format!("bare LF after: {}", show(&line))),
                };
            }
            if self.buf.len() - self.at > LINE_MAX {
                return bad("line too long");
            }
            let waiting = self.buf.len() - self.at;
            self.fill().map_err(cut)?;
            scanned = self.at + waiting;
        }
    }

    /// Exactly `n` bytes, handed to `sink` in pieces.
    pub fn exact(&mut self, mut n: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        while n > 0 {
            if self.at == self.buf.len() {
                self.fill().map_err(cut)?;
            }
            let take = (self.buf.len() - self.at).min(usize::try_from(n).unwrap_or(usize::MAX));
            sink(&self.buf[self.at..self.at + take]);
            self.at += take;
            n -= take as u64;
        }
        Ok(())
    }

    /// Everything until the stream ends in an orderly way.
    pub fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        loop {
            sink(&self.buf[self.at..]);
            self.at = self.buf.len();
            match self.fill() {
                Ok(()) => {}
                Err(Fault::End) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// A chunked body, strictly: sizes of hex digits alone, no extensions (the gateway writes none), CRLF everywhere.
    /// Gives the trailer lines.
    pub fn chunked(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<Vec<Vec<u8>>, Fault> {
        loop {
            let line = self.line()?;
            let text = std::str::from_utf8(&line).unwrap_or("?");
            if line.is_empty() || line.len() > 16 || !line.iter().all(u8::is_ascii_hexdigit) {
                return bad(format!("chunk size {}", show(&line)));
            }
            let size = u64::from_str_radix(text, 16).map_err(|e| Fault::Bad(e.to_string()))?;
            if size == 0 {
                break;
            }
            self.exact(size, sink)?;
            let end = self.line()?;
            if !end.is_empty() {
                return bad(format!("after a chunk: {}", show(&end)));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.push(line);
        }
    }
}

fn cut(fault: Fault) -> Fault {
    if fault == Fault::End { Fault::Cut } else { fault }
}

/// Bytes for a message to a human, shortened.
pub fn show(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(300)].escape_ascii().to_string();
    if bytes.len() > 300 { format!("\"{text}\"… ({} bytes)", bytes.len()) } else { format!("\"{text}\"") }
}
