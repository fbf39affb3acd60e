//! One request as the filters and the route's action see it. Its memory is reused from request to request.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::coding::Compression;
use crate::http::encode::{self, Edits};
use crate::http::forwarded::Tells;
use crate::http::framing::Framing;
use crate::http::head::{Field, RequestHead, ResponseHead, Span};
use crate::http::known::{Known, folded, is_same_name};
use crate::http::own::OwnLines;
use crate::http::quota::Quota;
use crate::io::Buf;
use crate::limit::charges::Charges;
use crate::observe::log_fields::LogFields;
use crate::route::Params;
use crate::route::encode::{self as percent, Source, means};
use crate::route::predicates::{Asked, Place};
use crate::route::template::Facts;
use crate::shared::FilterMetrics;
use crate::shared::in_flight::Guard;
use crate::tls::Session;

/// Gets each piece of a body that passes by, without chunks, and is told which one is the last.
pub type Tee = Box<dyn FnMut(&[u8], bool)>;

/// A filter that bounds a body which does not say its length.
pub struct BodyLimiter {
    /// Its name.
    pub name: String,
    /// Its counters.
    pub metrics: FilterMetrics,
}

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
    /// Pairs of the query that filters have read and that go no further: they are taken out once all filters have run.
    pub read_pairs: Vec<Span>,
    /// Whom the request is for: lower case, without port or trailing dot; empty if it does not say.
    pub host: Vec<u8>,
    /// The same as the client wrote it, with port.
    pub authority: Vec<u8>,
    /// What the route's path parameters matched.
    pub params: Params,
    /// How the body is delimited.
    pub framing: Framing,
    /// It is passed on as one that asks for another protocol: a 101 may answer it.
    pub asks_upgrade: bool,
    /// Most bytes of its body, by the route and by filters.
    pub body_limit: Option<u64>,
    /// The filter that says so, if it is one and the body does not say its length: whether it passes is seen at its end.
    pub body_limiter: Option<BodyLimiter>,
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
    /// In which fields upstreams are told who calls, and a trusted proxy tells it.
    pub tells: Tells,
    /// How and whom the client has asked, as a trusted proxy tells in Forwarded.
    pub said: Said,
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
    pub principal: Principal,
    /// What the client is told of its limits, in every answer.
    pub quota: Quota,
    /// It only asks whether another may be sent, see [`cors`](crate::filter::cors).
    pub is_preflight: bool,
    /// Lines of filters, in every answer.
    pub own: OwnLines,
    /// What rate limits have taken for it.
    pub charges: Charges,
    /// Whether its answer may be compressed, and what became of that.
    pub compression: Compression,
    /// Concurrency limits that it counts for, to its end.
    pub in_flight: Vec<Guard>,
    /// The filter that refused it.
    pub refused_by: String,
    /// What plugins noted.
    pub plugins: PluginNotes,
    /// Filters that would have refused it but for their `dry_run`, as the access log shows them.
    pub would_refuse: Vec<u8>,
    /// It came as a copy of another, and is not copied again.
    pub is_copy: bool,
    /// Mirrors that get a copy of it, by their place in the snapshot.
    pub mirrors: Vec<usize>,
    /// Sees its body on its way to the upstream.
    pub tee: Option<Tee>,
    /// What else filters have to say of it, as the access log shows it.
    pub notes: Vec<u8>,
    /// The head of its answer as it was sent, where the access log shows fields of it.
    pub answer_head: RefCell<Vec<u8>>,
}

impl Request {
    /// Makes it ready for the next head, keeping its memory. The buffer was taken out before.
    pub fn reset(&mut self) {
        self.path.clear();
        self.query = None;
        self.read_pairs.clear();
        self.host.clear();
        self.authority.clear();
        self.edits.clear();
        self.answer_edits.clear();
        self.framing = Framing::None;
        self.asks_upgrade = false;
        self.body_limit = None;
        self.body_limiter = None;
        self.client = None;
        self.from_trusted = false;
        self.said = Said::default();
        self.session = None;
        self.request_id.clear();
        self.received = 0;
        self.parts.clear();
        self.principal.clear();
        self.quota.clear();
        self.own.clear();
        self.is_preflight = false;
        self.charges.clear();
        self.compression.clear();
        self.in_flight.clear();
        self.refused_by.clear();
        self.would_refuse.clear();
        self.plugins.clear();
        self.notes.clear();
        self.answer_head.get_mut().clear();
        self.is_copy = false;
        self.mirrors.clear();
        self.tee = None;
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

    /// Notes who calls, and tells the upstream in a field of this name; what the client says in it does not pass.
    pub fn set_principal(&mut self, name: &str, field: Option<&str>) {
        self.principal.set(name);
        if let Some(field) = field {
            self.disown(field);
            self.edits.add(field.as_bytes(), |out| out.extend_from_slice(name.as_bytes()));
        }
    }

    /// The client's fields of this name are not believed: nobody sees them, and they go no further. Nor does what filters
    /// have put there so far.
    pub fn disown(&mut self, name: &str) {
        self.head.fields.hide(name.as_bytes(), self.buf.bytes());
        self.edits.remove(name.as_bytes());
    }

    /// The values of all fields that are of this name to anyone, in any case, and with `_` for `-`; but for those that are not
    /// believed.
    pub fn fields_named(&self, name: &[u8]) -> impl Iterator<Item = Span> {
        let bytes = self.bytes();
        let is_it = move |field: &&Field| is_same_name(field.name.of(bytes), name) && field.is_seen();
        self.head.fields.iter().filter(is_it).map(|field| field.value)
    }

    /// The values of that name, or of its twin with `_`, that a key is made of: what filters have written in place of the
    /// client's, or beside it. What they only took out, as a credential that they have read, counts as it came.
    pub fn decisive<'r>(&'r self, name: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
        let written = || self.edits.added().filter(move |(added, _)| is_same_name(added, name)).map(|(_, value)| value);
        let is_overruled = !self.edits.is_empty()
            && (self.edits.disowns(name) || (self.edits.replaces(name) && written().next().is_some()));
        let came = (!is_overruled).then(|| self.fields_named(name).map(|value| value.of(self.bytes())));
        came.into_iter().flatten().chain(written())
    }

    /// All cookies, as `name=value` (RFC 6265 5.4), over all Cookie fields: HTTP/2 clients may send several (RFC 9113 8.2.3).
    pub fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        let fields = self.fields_named(b"cookie").map(|value| value.of(self.bytes()));
        fields.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
    }

    /// The pairs of the query.
    pub fn pairs(&self) -> impl Iterator<Item = &[u8]> {
        let query = self.query.map(|query| query.of(self.bytes()));
        query.into_iter().flat_map(|query| query.split(|byte| *byte == b'&'))
    }

    /// The upstream gets no pair of the query that `is_read` says. Other filters still find it.
    pub fn drop_pairs(&mut self, is_read: impl Fn(&[u8]) -> bool) {
        let mut read = std::mem::take(&mut self.read_pairs); // the request is read while they are written
        let base = self.buf.bytes();
        read.extend(self.pairs().filter(|pair| is_read(pair)).map(|pair| Span::within(base, pair)));
        self.read_pairs = read;
    }

    /// Runs `with` while the query is without the pairs that go no further. Other filters still find them behind it.
    pub fn without_read_pairs<T>(&mut self, with: impl FnOnce(&mut Self) -> T) -> T {
        let whole = self.begin_without_read_pairs();
        let result = with(self);
        self.end_without_read_pairs(whole);
        result
    }

    /// The first half of [`Self::without_read_pairs`], for what waits: gives what the other half needs.
    pub fn begin_without_read_pairs(&mut self) -> Option<WholeQuery> {
        let query = self.query.filter(|_| !self.read_pairs.is_empty())?;
        let whole = WholeQuery { query, text: query.of(self.bytes()).to_vec(), read_pairs: self.read_pairs.clone() };
        self.cut_query();
        Some(whole)
    }

    /// The second half.
    pub fn end_without_read_pairs(&mut self, whole: Option<WholeQuery>) {
        let Some(WholeQuery { query, text, read_pairs }) = whole else { return };
        if let Some(place) = self.buf.bytes_mut().get_mut(query.start()..query.end()) {
            place.copy_from_slice(&text);
        }
        (self.query, self.read_pairs) = (Some(query), read_pairs);
    }

    /// Takes the pairs out of the query that go no further. It happens in place, behind which nothing moves.
    pub fn cut_query(&mut self) {
        if self.read_pairs.is_empty() {
            return;
        }
        let read = std::mem::take(&mut self.read_pairs);
        self.keep_query(|at| !read.iter().any(|pair| pair.start() == at));
        self.read_pairs = read;
        self.read_pairs.clear();
    }

    fn keep_query(&mut self, keeps: impl Fn(usize) -> bool) {
        let Some(span) = self.query else { return };
        let Some(query) = self.buf.bytes_mut().get_mut(span.start()..span.end()) else { return };
        let (mut kept, mut at, mut pairs) = (0, 0, 0);
        while let Some(rest) = query.get(at..) {
            let end = at + memchr::memchr(b'&', rest).unwrap_or(rest.len());
            if keeps(span.start() + at) {
                if pairs > 0
                    && let Some(between) = query.get_mut(kept)
                {
                    *between = b'&';
                    kept += 1;
                }
                // What is kept never runs ahead of what is read.
                query.copy_within(at..end, kept);
                kept += end - at;
                pairs += 1;
            }
            at = end + 1;
        }
        self.query = (pairs > 0).then(|| {
            let bytes = self.buf.bytes();
            Span::within(bytes, bytes.get(span.start()..span.start() + kept).unwrap_or_default())
        });
    }

    /// Appends those fields of the client that are named, in lower case, as filters left them; those of each name in their
    /// order.
    pub fn write_fields(&self, names: &[String], out: &mut Vec<u8>) {
        let (fields, bytes) = (&self.head.fields, self.bytes());
        for name in names {
            self.edits.write_added_of(name.as_bytes(), out);
            if self.edits.replaces(name.as_bytes()) {
                continue;
            }
            // Its twin with `_` is the same to some upstreams, which get both.
            let same = |field: &&Field| is_same_name(field.name.of(bytes), name.as_bytes()) && field.is_seen();
            for field in fields.iter().filter(same).filter(|field| !fields.is_listed(field, bytes)) {
                encode::field(field.name.of(bytes), field.value.of(bytes), out);
            }
        }
    }

    /// How the client asked, as upstreams are told.
    pub fn scheme(&self) -> &[u8] {
        self.kept_or(Known::ForwardedProto, self.said.proto, self.own_scheme())
    }

    /// How the connection was made on which the request came.
    pub fn own_scheme(&self) -> &'static [u8] {
        if self.session.is_some() { b"https" } else { b"http" }
    }

    /// For whom the client asked, as upstreams are told.
    pub fn asked_host(&self) -> &[u8] {
        self.kept_or(Known::ForwardedHost, self.said.host, &self.authority)
    }

    fn kept_or<'a>(&'a self, known: Known, said: Option<Span>, own: &'a [u8]) -> &'a [u8] {
        let kept = match self.tells {
            _ if !self.from_trusted => None,
            Tells::Forwarded => said,
            Tells::XForwarded | Tells::Both => self.head.fields.all(known).next().map(|field| field.value),
        };
        kept.map_or(own, |kept| kept.of(self.bytes()))
    }

    /// Appends path and query as routes see them, without what filters have taken out.
    pub fn write_uri(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.path);
        if let Some(query) = self.query_str() {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
    }

    /// Appends what the client is told in every answer: last in a head of which `out` has all else.
    #[inline]
    pub fn write_own(&self, out: &mut Vec<u8>) {
        self.quota.write(out);
        self.own.write(out);
    }

    /// The host as text; it is ASCII by construction.
    pub fn host_str(&self) -> &str {
        std::str::from_utf8(&self.host).unwrap_or_default()
    }
}

/// What the hop that is believed says of the client's request.
#[derive(Debug, Default, Clone, Copy)]
pub struct Said {
    /// The scheme.
    pub proto: Option<Span>,
    /// The Host.
    pub host: Option<Span>,
}

/// What plugins note about a request.
#[derive(Debug, Default)]
pub struct PluginNotes {
    /// How many of its route's plugins have seen it: the first so many. They see the answer too.
    pub seen: usize,
    /// What they add to its log line.
    pub log: LogFields,
    /// What each keeps until it sees the answer, by where its filter is.
    pub kept: Vec<(usize, Box<dyn Any>)>,
}

impl PluginNotes {
    fn clear(&mut self) {
        if self.seen > 0 || !self.log.is_empty() || !self.kept.is_empty() {
            self.seen = 0;
            self.log.clear();
            self.kept.clear();
        }
    }
}

/// A query as it came, see [`Request::without_read_pairs`].
pub struct WholeQuery {
    query: Span,
    text: Vec<u8>,
    read_pairs: Vec<Span>,
}

/// Who calls, once that is known. Its memory is reused.
#[derive(Debug, Default)]
pub struct Principal {
    name: String,
    is_known: bool,
}

impl Principal {
    /// The caller's name, once a filter has made it out.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.is_known.then_some(self.name.as_str())
    }

    /// It is this one.
    pub fn set(&mut self, name: &str) {
        self.name.clear();
        self.name.push_str(name);
        self.is_known = true;
    }

    /// Nobody knows.
    pub fn clear(&mut self) {
        self.name.clear();
        self.is_known = false;
    }
}

/// The value of one of [`Request::cookies`], if it has this name.
pub fn cookie_value<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    Some(pair.strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
}

/// The value of one of [`Request::pairs`], if it has this name, however the name is escaped; empty for a name alone.
pub fn pair_value<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
    let (written, value) = (pair.get(..at)?, pair.get(at + 1..).unwrap_or_default());
    means(written, Source::Query, name).then_some(value)
}

/// A name or a value of the query as it is meant.
fn meant(written: Option<&[u8]>) -> Cow<'_, [u8]> {
    let written = written.unwrap_or_default();
    if memchr::memchr2(b'%', b'+', written).is_none() {
        return written.into();
    }
    let mut decoded = Vec::with_capacity(written.len());
    percent::decode(written, Source::Query, &mut decoded);
    decoded.into()
}

impl Facts for Request {
    fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.client
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
        let value = self.pairs().find_map(|pair| pair_value(pair, name.as_bytes()))?;
        std::str::from_utf8(value).ok()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.fields.get(name.as_bytes(), self.bytes())
    }
}

impl Asked for Request {
    fn has(&self, place: Place, name: &str, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        let name = name.as_bytes();
        match place {
            Place::Header => self.fields_named(name).any(|value| is_meant(value.of(self.bytes()))),
            Place::Cookie => self.cookies().filter_map(|pair| cookie_value(pair, name)).any(is_meant),
            Place::Query => {
                let values = self.pairs().filter_map(|pair| pair_value(pair, name));
                values.map(|value| meant(Some(value))).any(|value| is_meant(&value))
            }
        }
    }

    fn each<'r>(&'r self, place: Place, take: &mut dyn FnMut(Cow<'r, [u8]>, Cow<'r, [u8]>)) {
        match place {
            Place::Header => {
                let bytes = self.bytes();
                for field in self.head.fields.iter().filter(|field| field.is_seen()) {
                    take(folded(field.name.of(bytes)), field.value.of(bytes).into());
                }
            }
            Place::Cookie => {
                for pair in self.cookies() {
                    let Some(at) = memchr::memchr(b'=', pair) else { continue };
                    let (name, value) = (pair.get(..at), pair.get(at + 1..));
                    let plain = |text: Option<&'r [u8]>| Cow::from(text.unwrap_or_default().trim_ascii());
                    take(plain(name), plain(value));
                }
            }
            Place::Query => {
                for pair in self.pairs() {
                    let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
                    take(meant(pair.get(..at)), meant(pair.get(at + 1..)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Bounds;
    use crate::io::Buffers;

    #[test]
    fn all_fields_cookies_and_pairs_are_given_as_they_are_compared() {
        let text = b"GET /?a=1&%61=%31&b&=c+d&a%3D=x%00 HTTP/1.1\r\nCookie: a = 1;b;=c; d=\"e=f\"\r\ncookie: a=\r\n\
            X_Beta: 1\r\nx-beta:\r\nX_Real_IP: 2\r\n\r\n";
        let mut req = Request { buf: Buffers::default().take(1024), ..Request::default() };
        req.buf.extend(text);
        assert!(req.head.parse(text, &Bounds { head: 4096, fields: 20, target: 100 }).unwrap());
        req.head.fields.disbelieve(|_| true, text);
        req.query = text.get(6..34).map(|part| Span::within(text, part));
        req.query = req.query.map(|_| Span::within(req.buf.bytes(), req.buf.bytes().get(6..34).unwrap_or_default()));
        let each = |place| {
            let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            req.each(place, &mut |name, value| all.push((name.into_owned(), value.into_owned())));
            all
        };
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let cookies = [pair("a", "1"), pair("", "c"), pair("d", "\"e=f\""), pair("a", "")];
        assert_eq!(each(Place::Cookie), cookies);
        let pairs = [pair("a", "1"), pair("a", "1"), pair("b", ""), pair("", "c d"), pair("a=", "x\0")];
        assert_eq!(each(Place::Query), pairs);
        assert_eq!(each(Place::Header)[2..], [pair("x-beta", "1"), pair("x-beta", "")]);
        for place in [Place::Header, Place::Cookie, Place::Query] {
            let all = each(place);
            for (name, value) in all.iter().filter(|(name, _)| !name.is_empty()) {
                let name = std::str::from_utf8(name).unwrap_or_default();
                assert!(req.has(place, name, &|other| other == value), "{name}");
            }
        }
    }

    #[test]
    fn pairs_of_a_query_are_taken_out_in_place() {
        for (query, left) in [
            ("key=1", None),
            ("a=1&key=2&b=3", Some("a=1&b=3")),
            ("key=1&a", Some("a")),
            ("a&key", Some("a")),
            ("key&key=2", None),
            ("a=1&&b=key", Some("a=1&&b=key")),
            ("", Some("")),
            ("keys=1&key=", Some("keys=1")),
        ] {
            let text = format!("GET /?{query} HTTP/1.1");
            let mut req = Request { buf: Buffers::default().take(1024), ..Request::default() };
            req.buf.extend(text.as_bytes());
            let bytes = req.buf.bytes();
            req.query = bytes.get(6..6 + query.len()).map(|part| Span::within(bytes, part));
            let is_key = |pair: &[u8]| pair.split(|b| *b == b'=').next() == Some(b"key");
            req.drop_pairs(is_key);
            assert_eq!(req.without_read_pairs(|req| req.query_str().map(str::to_owned)).as_deref(), left, "{query}");
            assert_eq!(req.query_str(), Some(query), "filters behind it find it");
            req.drop_pairs(is_key);
            req.cut_query();
            assert_eq!(req.query_str(), left, "{query}");
            assert!(req.buf.bytes().ends_with(b" HTTP/1.1") && req.buf.bytes().starts_with(b"GET /?"));
        }
    }
}
