//! An answer as a plugin sees it, before its head is sent.

use std::any::Any;

use super::request::{named, only};
use super::{InvalidField, LogValue, Request, check_name, check_of_answer, not_date};
use crate::http::encode;
use crate::http::head::Field;
use crate::http::known::{Known, is_same_name};

/// An answer. What is set and removed here is what the client gets. Fields that the gateway itself puts into every answer (those of
/// `cors`, `security_headers` and limits, Date, Content-Length, HSTS) are not seen here, and win over others of their name.
pub struct Response<'r> {
    request: Request<'r>,
    head: Head<'r>,
}

/// The head, as it stands where it comes from.
pub(crate) enum Head<'r> {
    /// That of an upstream: it is in the request, with these bytes.
    Upstream(&'r [u8]),
    /// One that was made here: its status, and its lines, each with its CRLF.
    Own(u16, &'r mut Vec<u8>),
}

impl<'r> Response<'r> {
    pub(crate) fn new(request: Request<'r>, head: Head<'r>) -> Self {
        Self { request, head }
    }

    /// The request that it answers.
    pub fn request(&self) -> &Request<'r> {
        &self.request
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        match self.head {
            Head::Upstream(_) => self.request.inner.answer.status,
            Head::Own(status, _) => status,
        }
    }

    /// Whether it is an upstream's, and not one that the gateway made: a refusal, an error, or an aggregation.
    pub fn is_upstreams(&self) -> bool {
        matches!(self.head, Head::Upstream(_))
    }

    /// The value of a field, in any case, if the answer has exactly one of that name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        only(self.fields_named(name))
    }

    /// The same as text; `None` also if it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.field(name)?).ok()
    }

    /// The values of all fields of that name, in order; a name with `_` for `-` is the same.
    pub fn fields_named<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s [u8]> {
        named(self.fields(), name)
    }

    /// All fields that the client would get, but for those that the gateway puts into every answer.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (bytes, lines): (&[u8], &[u8]) = match &self.head {
            Head::Upstream(bytes) => (bytes, b""),
            Head::Own(_, lines) => (b"", lines),
        };
        let inner = &self.request.inner;
        let is_upstreams = self.is_upstreams();
        let theirs = inner.answer.fields.iter().filter(move |_| is_upstreams);
        let theirs = theirs.filter(move |field| self.is_shown(field, bytes));
        let theirs = theirs.map(move |field| (field.name.of(bytes), field.value.of(bytes)));
        let is_written = move |(name, _): &(&[u8], &[u8])| is_upstreams && !inner.own.replaces(name);
        let edited = inner.answer_edits.added().filter(is_written);
        theirs.chain(edited).chain(lines_of(lines).map(|(name, value, _)| (name, value)))
    }

    fn is_shown(&self, field: &Field, bytes: &[u8]) -> bool {
        let inner = &self.request.inner;
        let is_hop = matches!(
            field.known,
            Known::Connection | Known::HopByHop | Known::Te | Known::TransferEncoding | Known::Trailer
        );
        !is_hop
            && !inner.answer.fields.is_listed(field, bytes)
            && !inner.answer_edits.removes(field.name, bytes)
            && !inner.own.replaces(field.name.of(bytes))
    }

    /// Sets a field, in place of all of that name.
    ///
    /// # Errors
    /// It can not be written.
    pub fn set_field(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        check_of_answer(name, value.as_ref())?;
        self.remove(name);
        self.add(name, value.as_ref());
        Ok(())
    }

    /// Adds a field beside those of that name.
    ///
    /// # Errors
    /// It can not be written.
    pub fn add_field(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        check_of_answer(name, value.as_ref())?;
        self.add(name, value.as_ref());
        Ok(())
    }

    /// Takes all fields of that name out.
    ///
    /// # Errors
    /// They can not be changed.
    pub fn remove_field(&mut self, name: &str) -> Result<(), InvalidField> {
        check_name(name).and_then(|()| not_date(name))?;
        self.remove(name);
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        match &mut self.head {
            Head::Upstream(_) => self.request.inner.answer_edits.remove(name.as_bytes()),
            Head::Own(_, lines) => {
                let kept: Vec<u8> = lines_of(lines)
                    .filter(|(line, ..)| !is_same_name(line, name.as_bytes()))
                    .flat_map(|(.., line)| line.iter().copied())
                    .collect();
                **lines = kept;
            }
        }
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        if self.request.inner.own.replaces(name.as_bytes()) {
            return; // it would stand beside the one that is in every answer
        }
        match &mut self.head {
            Head::Upstream(_) => {
                self.request.inner.answer_edits.add(name.as_bytes(), |out| out.extend_from_slice(value));
            }
            Head::Own(_, lines) => encode::field(name.as_bytes(), value, lines),
        }
    }

    /// What [`Request::keep`] kept, if it is of that type. It is given once.
    pub fn kept<T: Any>(&mut self) -> Option<T> {
        self.request.take_kept()
    }

    /// As [`Request::log`].
    pub fn log<'v>(&mut self, key: &str, value: impl Into<LogValue<'v>>) -> bool {
        self.request.log(key, value)
    }
}

/// Name, value and the whole of each line.
pub(super) fn lines_of(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    lines.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        (name, value.get(1..).unwrap_or_default().trim_ascii(), line)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::head::Bounds;
    use crate::request::Request as Inner;

    const THEIRS: &[u8] =
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nServer: s\r\nKeep-Alive: x\r\nAccess-Control-Max-Age: 9\r\nContent-Length: 0\r\n\r\n";

    fn names(response: &Response<'_>) -> Vec<String> {
        response.fields().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn an_upstreams_answer_is_seen_and_edited_as_the_client_gets_it() {
        let mut inner = Inner::default();
        assert!(inner.answer.parse(THEIRS, &Bounds { head: 1000, fields: 20, target: 0 }).unwrap());
        inner.own.replace_all_of(b"access-control-");
        inner.answer_edits.set(b"server", |out| out.extend_from_slice(b"mine"));
        let mut response = Response::new(Request::new(&mut inner, &[], "f"), Head::Upstream(THEIRS));
        assert_eq!(names(&response), ["X-A", "Content-Length", "server"]);
        assert_eq!((response.status(), response.text("Server")), (200, Some("mine")));
        response.remove_field("x-a").unwrap();
        response.set_field("Server", "other").unwrap();
        response.add_field("X-B", "2").unwrap();
        assert!(response.remove_field("Content-Length").is_err());
        assert_eq!(names(&response), ["Content-Length", "Server", "X-B"]);
        let mut out = Vec::new();
        inner.answer_edits.write_added(&mut out);
        assert_eq!(out, b"Server: other\r\nX-B: 2\r\n");
    }

    #[test]
    fn an_answer_of_the_gateways_is_edited_in_place() {
        let mut inner = Inner::default();
        // What is left of an upstream's is not shown.
        assert!(inner.answer.parse(THEIRS, &Bounds { head: 1000, fields: 20, target: 0 }).unwrap());
        let mut lines = b"Content-Type: application/json\r\nRetry-After: 1\r\n".to_vec();
        let mut response = Response::new(Request::new(&mut inner, &[], "f"), Head::Own(503, &mut lines));
        assert_eq!((response.status(), response.is_upstreams()), (503, false));
        assert_eq!(response.text("retry-after"), Some("1"));
        response.request.set_answer_field("X-Own", "1").unwrap();
        response.set_field("x-own", "2").unwrap();
        response.set_field("retry_after", "2").unwrap();
        response.add_field("X-B", "a: b").unwrap();
        assert!(response.add_field("X-B", "a\r\nb").is_err() && response.field("x-c").is_none());
        assert_eq!(response.text("x-b"), Some("a: b"));
        assert_eq!(lines, b"Content-Type: application/json\r\nretry_after: 2\r\nX-B: a: b\r\n");
    }
}
