//! A request as a plugin sees it.

use std::any::Any;
use std::net::IpAddr;

use super::{Failure, InvalidField, LogValue, check, check_name, check_of_answer};
use crate::http::head::Field;
use crate::http::known::{Known, is_same_name};
use crate::request::Request as Inner;

/// A caller's name is a key of limits and a label in logs.
const PRINCIPAL_BYTES_MAX: usize = 256;

/// A request whose head has come, and which the filters before this one let pass. It is not forwarded yet: what is set and
/// removed here is what the upstream gets.
pub struct Request<'r> {
    pub(super) inner: &'r mut Inner,
    /// Names of the route's path parameters.
    params: &'r [String],
    /// The filter's name, for its log fields.
    filter: &'r str,
}

impl<'r> Request<'r> {
    pub(crate) fn new(inner: &'r mut Inner, params: &'r [String], filter: &'r str) -> Self {
        Self { inner, params, filter }
    }

    /// The method, as `GET`.
    pub fn method(&self) -> &str {
        self.inner.head.method.as_str()
    }

    /// The path as routes match it: normalised, percent-encoded, with its `/` in front.
    pub fn path(&self) -> &str {
        self.inner.path_str()
    }

    /// The query without its `?`, as it came but for what filters took out of it (keys, tokens).
    pub fn query(&self) -> Option<&str> {
        self.inner.query_str()
    }

    /// What a parameter of the route's path matched, percent-encoded: `id` of `/user/{id}`. None if the route has no such parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        let index = self.params.iter().position(|param| param == name)?;
        Some(self.inner.params.get(index, self.inner.path_str()))
    }

    /// Whom it is for: lower case, without port. Empty if it does not say (HTTP/1.0).
    pub fn host(&self) -> &str {
        self.inner.host_str()
    }

    /// The client's address; behind `trusted_proxies` that of the client that they name.
    pub fn client(&self) -> Option<IpAddr> {
        self.inner.client
    }

    /// Its id, which upstream, client and log are told too.
    pub fn id(&self) -> &str {
        &self.inner.request_id
    }

    /// Who calls, once a filter has made that out (`api_key`, `basic`, `jwt`, a plugin).
    pub fn principal(&self) -> Option<&str> {
        self.inner.principal.get()
    }

    /// The value of a field, in any case, if the request has exactly one of that name: which of several counts is anybody's guess, and
    /// who decides by one of them decides by what a client wanted to be seen. See [`fields_named`](Self::fields_named).
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        only(self.fields_named(name))
    }

    /// The same as text; `None` also if it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.field(name)?).ok()
    }

    /// The values of all fields of that name, in order; a name with `_` for `-` is the same, as it is to some upstreams.
    pub fn fields_named<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s [u8]> {
        named(self.fields(), name)
    }

    /// All fields that the upstream would get from client and filters so far, with their names as they were written. Those that the
    /// gateway writes itself are not among them: see [`host`](Self::host), [`client`](Self::client), [`id`](Self::id).
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let bytes = self.inner.bytes();
        let clients = self.inner.head.fields.iter().filter(|field| self.is_shown(field));
        clients.map(|field| (field.name.of(bytes), field.value.of(bytes))).chain(self.inner.edits.added())
    }

    fn is_shown(&self, field: &Field) -> bool {
        let (bytes, head) = (self.inner.bytes(), &self.inner.head);
        let is_clients_own = match field.known {
            Known::Other | Known::Authorization | Known::Date | Known::StrictTransportSecurity => true,
            Known::ContentLength => true,
            // What nobody vouches for is not shown.
            Known::Forwarded | Known::ForwardedOther => self.inner.from_trusted,
            _ => false,
        };
        is_clients_own && !head.fields.is_listed(field, bytes) && !self.inner.edits.removes(field.name, bytes)
    }

    /// Sets a field of the request, in place of all of that name.
    ///
    /// # Errors
    /// It can not be written.
    pub fn set_field(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        check(name, value.as_ref())?;
        self.inner.edits.set(name.as_bytes(), |out| out.extend_from_slice(value.as_ref()));
        Ok(())
    }

    /// Adds a field beside those of that name.
    ///
    /// # Errors
    /// It can not be written.
    pub fn add_field(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        check(name, value.as_ref())?;
        self.inner.edits.add(name.as_bytes(), |out| out.extend_from_slice(value.as_ref()));
        Ok(())
    }

    /// Takes all fields of that name out.
    ///
    /// # Errors
    /// They can not be changed.
    pub fn remove_field(&mut self, name: &str) -> Result<(), InvalidField> {
        check_name(name)?;
        self.inner.edits.remove(name.as_bytes());
        Ok(())
    }

    /// Sets a field of the answer, whoever makes it (refusals of later filters included), in place of others of that name.
    ///
    /// # Errors
    /// It can not be written.
    pub fn set_answer_field(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        check_of_answer(name, value.as_ref())?;
        self.inner.own.set(name.as_bytes(), |out| out.extend_from_slice(value.as_ref()));
        Ok(())
    }

    /// Says who calls: `principal` of limits behind this filter. The upstream is told by a field, if at all.
    ///
    /// # Errors
    /// It is no name: empty, or more than 256 bytes.
    pub fn set_principal(&mut self, name: &str) -> Result<(), Failure> {
        if name.is_empty() || name.len() > PRINCIPAL_BYTES_MAX {
            return Err(Failure::new(format!("a principal has 1 to {PRINCIPAL_BYTES_MAX} bytes, not {}", name.len())));
        }
        self.inner.principal.set(name);
        Ok(())
    }

    /// Keeps something until the answer is seen: [`Response::kept`](super::Response::kept). One thing for each filter; it replaces
    /// what was kept before.
    pub fn keep<T: Any>(&mut self, value: T) {
        let owner = self.owner();
        let kept = &mut self.inner.plugins.kept;
        kept.retain(|(other, _)| *other != owner);
        kept.push((owner, Box::new(value)));
    }

    /// Which of the request's filters this is: names are in one place as long as the request is.
    fn owner(&self) -> usize {
        self.filter.as_ptr().addr()
    }

    pub(super) fn take_kept<T: Any>(&mut self) -> Option<T> {
        let owner = self.owner();
        let kept = &mut self.inner.plugins.kept;
        let index = kept.iter().position(|(other, value)| *other == owner && value.is::<T>())?;
        kept.swap_remove(index).1.downcast().ok().map(|value| *value)
    }

    /// Adds a field to the request's line in the access log, below `plugins` and the name of the filter; of one key the last value
    /// counts. `false`: it is left out, since the key is none (1 to 64 letters, digits and `_`, `-`, `.`), or since there are
    /// too many (32 fields, or 4 KiB, of all plugins together). Texts are escaped, and cut at 1,024 bytes.
    pub fn log<'v>(&mut self, key: &str, value: impl Into<LogValue<'v>>) -> bool {
        self.inner.plugins.log.set(self.filter, key, value.into())
    }
}

/// The values of those of this name.
pub(super) fn named<'f>(
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    name: &str,
) -> impl Iterator<Item = &'f [u8]> {
    fields.filter(move |(field, _)| is_same_name(field, name.as_bytes())).map(|(_, value)| value)
}

/// The one that there is.
pub(super) fn only<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<&'v [u8]> {
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::head::Bounds;
    use crate::io::Buffers;

    fn request(fields: &str) -> Inner {
        let mut req = Inner { buf: Buffers::default().take(1024), ..Inner::default() };
        req.buf.extend(format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        let Inner { head, buf, .. } = &mut req;
        assert!(head.parse(buf.bytes(), &Bounds { head: 1000, fields: 20, target: 100 }).unwrap());
        req
    }

    #[test]
    fn a_plugin_sees_what_the_upstream_would_get() {
        let mut inner = request(
            "X-User: forged\r\nA: 1\r\na: 2\r\nX-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nConnection: B\r\nB: x\r\nC: 3\r\n",
        );
        inner.edits.set(b"x-user", |out| out.extend_from_slice(b"alice"));
        inner.edits.remove(b"c");
        let mut request = Request::new(&mut inner, &[], "f");
        assert_eq!(request.text("X-USER"), Some("alice"));
        assert_eq!((request.field("a"), request.fields_named("A").count()), (None, 2));
        for hidden in ["host", "x-forwarded-for", "x-real-ip", "connection", "b", "c"] {
            assert_eq!(request.field(hidden), None, "{hidden}");
        }
        assert_eq!(request.text("X_User"), Some("alice"), "its twin is it");
        request.add_field("d", "4").unwrap();
        request.remove_field("A").unwrap();
        let names: Vec<_> = request.fields().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [b"x-user".to_vec(), b"d".to_vec()]);
        request.set_field("a", "5").unwrap();
        assert_eq!(request.text("a"), Some("5"));
    }

    #[test]
    fn what_can_not_be_written_changes_nothing() {
        let mut inner = request("A: 1\r\n");
        let mut request = Request::new(&mut inner, &[], "f");
        assert!(request.set_field("a", "x\r\nb: y").is_err() && request.add_field("host", "x").is_err());
        assert!(request.remove_field("content-length").is_err() && request.set_answer_field("a b", "x").is_err());
        assert!(request.set_principal("").is_err() && request.set_principal(&"x".repeat(257)).is_err());
        assert_eq!((request.text("a"), request.principal()), (Some("1"), None));
        assert!(inner.edits.is_empty() && inner.own.is_empty());
    }

    #[test]
    fn what_is_kept_is_the_filters_own() {
        let mut inner = request("");
        let (one, other) = (String::from("f"), String::from("f"));
        let mut request = Request::new(&mut inner, &[], &one);
        request.keep(1_u8);
        request.keep(2_u8);
        Request::new(&mut inner, &[], &other).keep("other");
        let mut request = Request::new(&mut inner, &[], &one);
        assert_eq!(
            (request.take_kept::<&str>(), request.take_kept::<u8>(), request.take_kept::<u8>()),
            (None, Some(2), None)
        );
        inner.reset();
        assert!(inner.plugins.kept.is_empty());
    }
}
