//! Message heads: spans over the buffer they arrived in. No header map, and no allocation per header.
//!
//! httparse reads the grammar; what it is lenient about is checked here, in the gaps between what it found: a line ends
//! with CRLF and nothing else (RFC 9112 2.2), whatever stands between a value and its line's end is white space.

use std::mem::MaybeUninit;

use http::Method;

use super::known::{Known, is_same_name};

/// Most fields a head may have whatever the config says: the parser's table lives on the stack.
pub const FIELDS_MAX: usize = 256;
/// Names that Connection may list: each is compared with each field.
const LISTED_MAX: usize = 32;
/// Empty lines before a request line that are skipped (RFC 9112 2.2 asks for at least one).
const EMPTY_LINES_MAX: usize = 4;

/// Bytes `start..start + len` of the head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The bytes it stands for.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }

    /// Where it starts.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Where it ends.
    pub fn end(self) -> usize {
        (self.start + self.len) as usize
    }

    /// Its first `len` bytes; `None` if that is nothing.
    pub fn shortened(self, len: usize) -> Option<Self> {
        let len = u32::try_from(len).ok().filter(|len| *len > 0)?;
        Some(Self { start: self.start, len: self.len.min(len) })
    }

    /// Where `part`, a slice of `base`, lies in it.
    pub fn within(base: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(base.as_ptr() as usize);
        Self { start: u32::try_from(start).unwrap_or(0), len: u32::try_from(part.len()).unwrap_or(0) }
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name, in the case it came in.
    pub name: Span,
    /// Its value without surrounding white space.
    pub value: Span,
    /// What it is to a gateway.
    pub known: Known,
}

impl Field {
    /// Whether anything may depend on it.
    pub fn is_seen(&self) -> bool {
        self.known != Known::Unbelieved
    }
}

/// HTTP/1.0 or HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunks, no keep-alive unless asked for.
    H10,
    /// HTTP/1.1.
    #[default]
    H11,
}

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes from the first to the empty line, in all.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1: what was expected.
    Malformed(&'static str),
    /// More bytes than [`Bounds::head`].
    TooLarge,
    /// More lines than [`Bounds::fields`].
    TooManyFields,
    /// More bytes than [`Bounds::target`].
    TargetTooLong,
    /// A version other than 1.0 and 1.1.
    Version,
}

/// Fields of a head, and what Connection said about them.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    /// Bytes of the head, with the empty line.
    pub len: usize,
    /// Connection: close
    pub close: bool,
    /// Connection: keep-alive
    pub keep_alive: bool,
    /// Connection: upgrade
    pub upgrade: bool,
    /// Names listed by Connection about which nothing else decides, and which are not about the content; fields of these names
    /// are hop-by-hop.
    pub listed: Vec<Span>,
    /// Whether there is one that may be [`Known::Unbelieved`]: most requests have none, and are not looked through.
    may_claim: bool,
}

impl Fields {
    fn clear(&mut self) {
        self.list.clear();
        self.listed.clear();
        (self.close, self.keep_alive, self.upgrade, self.len) = (false, false, false, 0);
        self.may_claim = false;
    }

    /// Those of lines that the gateway wrote itself, each with its CRLF, as if the empty line of a head followed.
    pub fn of_lines(lines: &[u8]) -> Self {
        let field = |line| {
            let (name, value) = <[u8]>::split_at_checked(line, memchr::memchr(b':', line)?)?;
            let value = value.get(1..)?.trim_ascii();
            let [name_span, value] = [name, value].map(|part| Span::within(lines, part));
            Some(Field { name: name_span, value, known: Known::of(name) })
        };
        let list = lines.split_inclusive(|&b| b == b'\n').filter_map(field).collect();
        Self { list, len: lines.len() + 2, ..Self::default() }
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Those that are `known`.
    pub fn all(&self, known: Known) -> impl DoubleEndedIterator<Item = &Field> {
        self.list.iter().filter(move |field| field.known == known)
    }

    /// Those of that name, in any case, that anybody may see.
    pub fn named(&self, name: &[u8], bytes: &[u8]) -> impl Iterator<Item = &Field> {
        self.came(name, bytes).filter(|field| field.is_seen())
    }

    /// The value of the first one of that name, in any case, that anybody may see.
    pub fn get<'b>(&self, name: &[u8], bytes: &'b [u8]) -> Option<&'b [u8]> {
        self.named(name, bytes).next().map(|field| field.value.of(bytes))
    }

    /// Those of that name, in any case, whether or not they are believed: to be shown, and for nothing to depend on.
    pub fn came(&self, name: &[u8], bytes: &[u8]) -> impl Iterator<Item = &Field> {
        self.list.iter().filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name))
    }

    /// Claims but for those that are `believed`, and what is one, or framing, to those who take `_` for `-`, become
    /// [`Known::Unbelieved`].
    #[inline]
    pub fn disbelieve(&mut self, believed: impl Fn(Known) -> bool, bytes: &[u8]) {
        if self.may_claim {
            for field in &mut self.list {
                let is_claim = match field.known {
                    Known::HopByHop => field.name.of(bytes).contains(&b'_'),
                    known => known.is_claim() && !believed(known),
                };
                if is_claim {
                    field.known = Known::Unbelieved;
                }
            }
        }
    }

    /// From now on the fields of that name are not there for anybody: no template, no key and no condition finds them, and
    /// they are not passed on. Their lines keep their place, since what is passed on is copied in runs.
    pub fn hide(&mut self, name: &[u8], bytes: &[u8]) {
        let Ok(len) = u32::try_from(name.len()) else { return };
        // Of few names the length is the same.
        let same = |field: &&mut Field| field.name.len == len && is_same_name(field.name.of(bytes), name);
        for field in self.list.iter_mut().filter(same) {
            field.name.len = 0;
            field.known = Known::HopByHop;
        }
    }

    /// Whether Connection lists this field, and may remove it: never Host, credentials, framing, or what tells who
    /// calls (RFC 9110 7.6.1; HTTP.md).
    pub fn is_listed(&self, field: &Field, bytes: &[u8]) -> bool {
        if self.listed.is_empty() || !may_be_listed(field.known) {
            return false;
        }
        let name = field.name.of(bytes);
        self.listed.iter().any(|listed| listed.of(bytes).eq_ignore_ascii_case(name))
    }

    /// Takes over what httparse found, checking every gap. `from` is where the first line ends, before its CRLF.
    fn fill(&mut self, bytes: &[u8], found: &[httparse::Header<'_>], from: usize, len: usize) -> Result<(), HeadError> {
        self.clear();
        self.len = len;
        let mut line_end = from;
        for header in found {
            let name = Span::within(bytes, header.name.as_bytes());
            expect_line_end(bytes, line_end, name.start())?;
            let known = Known::of(header.name.as_bytes());
            let value = Span::within(bytes, header.value);
            line_end = if header.value.is_empty() { name.end() + 1 } else { value.end() };
            self.list.push(Field { name, value, known });
            self.may_claim |= known == Known::HopByHop || known.is_claim();
            if known == Known::Connection {
                self.read_connection(bytes, value)?;
            }
        }
        // The last line's CRLF, then the empty line's.
        let empty_line = len.saturating_sub(2);
        if bytes.get(empty_line..len) != Some(b"\r\n") {
            return Err(HeadError::Malformed("a line must end with CRLF"));
        }
        expect_line_end(bytes, line_end, empty_line)
    }

    fn read_connection(&mut self, bytes: &[u8], value: Span) -> Result<(), HeadError> {
        for option in value.of(bytes).split(|&b| b == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !option.is_empty() && may_be_listed(Known::of(option)) && !is_about_content(option) {
                if !option.iter().all(|&b| is_token(b)) {
                    return Err(HeadError::Malformed("Connection must list field names"));
                }
                if self.listed.len() == LISTED_MAX {
                    return Err(HeadError::Malformed("Connection lists too many fields"));
                }
                self.listed.push(Span::within(bytes, option));
            }
        }
        Ok(())
    }
}

/// Whether a name begins with `content-`. Without such fields a body would be read as something else than the sender and all
/// filters have taken it for (RFC 9110 7.6.1: they are not for one hop), so that no option removes them.
fn is_about_content(name: &[u8]) -> bool {
    const START: &[u8] = b"content-";
    name.get(..START.len()).is_some_and(|start| is_same_name(start, START))
}

/// Whether Connection decides about such a field; about the others it is decided already, whatever Connection says.
fn may_be_listed(known: Known) -> bool {
    matches!(known, Known::Other | Known::Date | Known::Trailer | Known::StrictTransportSecurity)
}

/// RFC 9110 5.6.2: what names and methods are made of.
pub fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Between a value's end and the next line's start: white space, then CRLF, once.
fn expect_line_end(bytes: &[u8], from: usize, to: usize) -> Result<(), HeadError> {
    let gap = bytes.get(from..to).unwrap_or_default();
    let ok = match gap {
        b"\r\n" => true,
        _ => gap.strip_suffix(b"\r\n").is_some_and(|ows| ows.iter().all(|&b| b == b' ' || b == b'\t')),
    };
    if ok { Ok(()) } else { Err(HeadError::Malformed("a line must end with CRLF")) }
}

/// Whether the head's end has not arrived yet. The scan resumes where it stopped, so a head that drips in byte by byte
/// costs no more than one that comes at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    seen: usize,
}

impl Scan {
    /// Looks at the bytes that are new for an empty line.
    pub fn has_end(&mut self, bytes: &[u8]) -> bool {
        // An empty line is LF followed by LF or CRLF; whether that is allowed is the parser's business.
        let from = self.seen.saturating_sub(2);
        let new = bytes.get(from..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', new) {
            if let Some([b'\n', ..] | [b'\r', b'\n', ..]) = new.get(at + 1..) {
                return true;
            }
        }
        self.seen = bytes.len();
        false
    }
}

/// How many bytes of empty lines stand before the request line (RFC 9112 2.2).
pub fn empty_lines(bytes: &[u8]) -> usize {
    let lines = bytes.chunks(2).take(EMPTY_LINES_MAX).take_while(|line| *line == b"\r\n").count();
    lines * 2
}

/// A request head.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// Any token; well-known ones are compared by identity.
    pub method: Method,
    /// The request target as it came.
    pub target: Span,
    /// The version in the request line.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
}

impl RequestHead {
    /// Forgets the head that was read, keeping the memory: spans must not outlive their buffer.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.target = Span::default();
        self.version = Version::default();
        self.fields.clear();
    }

    /// Reads a head from the start of `bytes`. `Ok(false)`: its end has not arrived.
    pub fn parse(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<bool, HeadError> {
        let mut table = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let table = table.get_mut(..bounds.fields.min(FIELDS_MAX)).unwrap_or_default();
        let mut request = httparse::Request::new(&mut []);
        let window = bytes.get(..bounds.head).unwrap_or(bytes);
        // httparse skips any number of empty lines, also bare LF; those that are allowed were skipped before.
        if bytes.first().is_some_and(|&b| !is_token(b)) {
            return Err(HeadError::Malformed("not a request line"));
        }
        let len = match request.parse_with_uninit_headers(window, table) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return too_large_already(bytes, bounds, request.path).map(|()| false),
            // Which version it names is known once the line is whole.
            Err(httparse::Error::Version) if memchr::memchr(b'\n', bytes).is_none() => {
                return too_large_already(bytes, bounds, request.path).map(|()| false);
            }
            Err(e) => return Err(explain_request(e, bytes)),
        };
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(HeadError::Malformed("no request line"));
        };
        if target.len() > bounds.target {
            return Err(HeadError::TargetTooLong);
        }
        self.method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed("not a method"))?;
        self.target = Span::within(bytes, target.as_bytes());
        self.version = if request.version == Some(0) { Version::H10 } else { Version::H11 };
        // One space, then HTTP/1.x: httparse has checked both.
        let line_end = self.target.end() + " HTTP/1.1".len();
        self.fields.fill(bytes, request.headers, line_end, len)?;
        Ok(true)
    }

    /// Whether the connection stays open after the answer, as far as the client asked (RFC 9112 9.3).
    pub fn wants_keep_alive(&self) -> bool {
        match self.version {
            Version::H11 => !self.fields.close,
            Version::H10 => self.fields.keep_alive && !self.fields.close,
        }
    }
}

/// A head whose end has not come: is it over a bound already?
fn too_large_already(bytes: &[u8], bounds: &Bounds, target: Option<&str>) -> Result<(), HeadError> {
    let target_len = match target {
        Some(target) => target.len(),
        // Still within the target: it began behind the first space.
        None => memchr::memchr(b' ', bytes).map_or(0, |space| bytes.len() - space - 1),
    };
    if target_len > bounds.target {
        return Err(HeadError::TargetTooLong);
    }
    if bytes.len() >= bounds.head {
        return Err(HeadError::TooLarge);
    }
    Ok(())
}

#[cold]
fn explain_request(e: httparse::Error, bytes: &[u8]) -> HeadError {
    match e {
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version if names_another_version(bytes) => HeadError::Version,
        httparse::Error::Version => HeadError::Malformed("the request line must end with HTTP/1.1"),
        httparse::Error::HeaderName => HeadError::Malformed("not a field name"),
        httparse::Error::HeaderValue => HeadError::Malformed("a control character in a field value"),
        httparse::Error::NewLine => HeadError::Malformed("a line must end with CRLF"),
        httparse::Error::Token | httparse::Error::Status => HeadError::Malformed("not a request line"),
    }
}

/// `HTTP/` DIGIT `.` DIGIT at the end of the first line: a request, of a version not spoken here.
fn names_another_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii_end();
    let last = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    match last {
        b"HTTP/1.0" | b"HTTP/1.1" => false, // then something else is wrong with the line
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// A response head.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// 100–599.
    pub status: u16,
    /// The reason phrase, as it came; may be empty.
    pub reason: Span,
    /// The version in the status line.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
}

impl ResponseHead {
    /// Reads a head from the start of `bytes`. `Ok(false)`: its end has not arrived.
    pub fn parse(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<bool, HeadError> {
        let mut table = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let table = table.get_mut(..bounds.fields.min(FIELDS_MAX)).unwrap_or_default();
        let mut response = httparse::Response::new(&mut []);
        let window = bytes.get(..bounds.head).unwrap_or(bytes);
        let config = httparse::ParserConfig::default();
        let len = match config.parse_response_with_uninit_headers(&mut response, window, table) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() >= bounds.head => return Err(HeadError::TooLarge),
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Err(httparse::Error::HeaderName) => return Err(HeadError::Malformed("not a field name")),
            Err(httparse::Error::HeaderValue) => {
                return Err(HeadError::Malformed("a control character in a field value"));
            }
            Err(_) => return Err(HeadError::Malformed("not a status line")),
        };
        // httparse skips empty lines before the status line; nothing allows them.
        let starts_at_once = bytes.starts_with(b"HTTP/1.");
        self.status = response
            .code
            .filter(|code| starts_at_once && (100..600).contains(code))
            .ok_or(HeadError::Malformed("not a status line"))?;
        self.version = if response.version == Some(0) { Version::H10 } else { Version::H11 };
        // `HTTP/1.1 200`, then a space and the reason, or nothing.
        let line = memchr::memchr(b'\n', bytes).unwrap_or(0);
        let status_end = "HTTP/1.1 200".len();
        let rest = bytes.get(status_end..line).unwrap_or_default();
        let reason = rest.strip_suffix(b"\r").ok_or(HeadError::Malformed("a line must end with CRLF"))?;
        let line_end = line - 1;
        self.reason = Span::within(bytes, reason.strip_prefix(b" ").unwrap_or(reason));
        self.fields.fill(bytes, response.headers, line_end, len)?;
        Ok(true)
    }

    /// Whether the upstream keeps its connection open after this message (RFC 9112 9.3).
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::H11 => !self.fields.close,
            Version::H10 => self.fields.keep_alive && !self.fields.close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { head: 512, fields: 8, target: 64 };

    fn request(text: &str) -> Result<Option<RequestHead>, HeadError> {
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &BOUNDS).map(|complete| complete.then_some(head))
    }

    fn response(text: &str) -> Result<Option<ResponseHead>, HeadError> {
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), &BOUNDS).map(|complete| complete.then_some(head))
    }

    #[test]
    fn a_head_is_spans_over_its_buffer() {
        let text = "GET /a?b HTTP/1.1\r\nHost: x\r\nEmpty:\r\nX-A:  v \t\r\n\r\nrest";
        let head = request(text).unwrap().unwrap();
        assert_eq!((head.target.of(text.as_bytes()), head.fields.len), (&b"/a?b"[..], text.len() - 4));
        assert_eq!(head.fields.get(b"x-a", text.as_bytes()), Some(&b"v"[..]));
        assert_eq!(head.fields.get(b"empty", text.as_bytes()), Some(&b""[..]));
        assert_eq!(head.fields.get(b"none", text.as_bytes()), None);
    }

    #[test]
    fn every_line_ends_with_crlf_and_nothing_else() {
        for text in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
            "GET / HTTP/1.1\r\nHost: x\n\n",
            "GET / HTTP/1.1\r\nEmpty:\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\n: x\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\0\r\n\r\n",
            "GET / http/1.1\r\nHost: x\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: a b\r\n\r\n",
        ] {
            assert!(matches!(request(text), Err(HeadError::Malformed(_))), "{text:?}: {:?}", request(text));
        }
        assert_eq!(request("GET / HTTP/2.0\r\n\r\n").unwrap_err(), HeadError::Version);
    }

    #[test]
    fn another_version_is_told_from_nonsense_however_the_line_comes() {
        for (line, error) in [
            ("GET / HTTP/2.0", HeadError::Version),
            ("GET / HTTP/x.y", HeadError::Malformed("the request line must end with HTTP/1.1")),
        ] {
            assert!((1..=line.len()).all(|n| matches!(request(&line[..n]), Ok(None))), "{line}");
            assert_eq!(request(&format!("{line}\r\n")).unwrap_err(), error);
        }
        assert_eq!(request(&format!("GET / HTTP/2{}", "0".repeat(600))).unwrap_err(), HeadError::TooLarge);
    }

    #[test]
    fn bounds_hold_before_and_after_the_end_has_come() {
        let long = "a".repeat(65);
        assert_eq!(request(&format!("GET /{long} HTTP/1.1\r\n\r\n")).unwrap_err(), HeadError::TargetTooLong);
        assert_eq!(request(&format!("GET /{long}")).unwrap_err(), HeadError::TargetTooLong);
        let large = "b".repeat(600);
        assert_eq!(request(&format!("GET / HTTP/1.1\r\nA: {large}\r\n\r\n")).unwrap_err(), HeadError::TooLarge);
        assert_eq!(request(&format!("GET / HTTP/1.1\r\nA: {large}")).unwrap_err(), HeadError::TooLarge);
        let many = "a: b\r\n".repeat(9);
        assert_eq!(request(&format!("GET / HTTP/1.1\r\n{many}\r\n")).unwrap_err(), HeadError::TooManyFields);
    }

    #[test]
    fn the_scan_finds_the_end_however_the_bytes_come() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut scan = Scan::default();
        for n in 1..text.len() {
            assert!(!scan.has_end(&text[..n]), "at {n}");
        }
        assert!(scan.has_end(text));
    }

    #[test]
    fn connection_lists_what_is_hop_by_hop_but_never_host_or_credentials() {
        let text = "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: y\r\nX-Hop: z\r\nConnection: close, x-hop, Host, authorization, content-type\r\nContent-Type: a\r\n\r\n";
        let head = request(text).unwrap().unwrap();
        assert!(head.fields.close && !head.wants_keep_alive());
        let listed: Vec<_> = head.fields.iter().filter(|f| head.fields.is_listed(f, text.as_bytes())).collect();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name.of(text.as_bytes()), b"X-Hop");
    }

    #[test]
    fn lines_that_were_written_here_are_fields_too() {
        let lines = b"A: 1\r\nVary:  B, C \r\nd:\r\nA: 2\r\n";
        let fields = Fields::of_lines(lines);
        let all = |name: &[u8]| fields.named(name, lines).map(|field| field.value.of(lines)).collect::<Vec<_>>();
        assert_eq!(
            (fields.count(), all(b"a"), all(b"vary"), all(b"D")),
            (4, vec![&b"1"[..], b"2"], vec![&b"B, C"[..]], vec![&b""[..]])
        );
        let mut out = Vec::new();
        crate::http::encode::copy_fields(&fields, lines, |field| field.name.of(lines) == b"Vary", &mut out);
        assert_eq!(out, b"A: 1\r\nd:\r\nA: 2\r\n");
        out.clear();
        crate::http::encode::copy_fields(&Fields::of_lines(b""), b"", |_| false, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn what_nobody_believes_is_not_found_by_its_name() {
        let text = "GET / HTTP/1.1\r\nX-Forwarded-For: 1\r\nX_Real-IP: 2\r\nVia: 3\r\nUpgrade: 4\r\napi_key_of_mine: 5\r\n\r\n";
        let bytes = text.as_bytes();
        let mut fields = request(text).unwrap().unwrap().fields;
        fields.disbelieve(|known| known == Known::Via, bytes);
        for name in ["x-forwarded-for", "x_real-ip"] {
            assert_eq!(fields.get(name.as_bytes(), bytes), None, "{name}");
            assert_eq!(fields.came(name.as_bytes(), bytes).count(), 1, "{name} is shown");
        }
        for name in ["via", "upgrade", "api_key_of_mine"] {
            assert!(fields.get(name.as_bytes(), bytes).is_some(), "{name}");
        }
    }

    #[test]
    fn status_lines() {
        let text = "HTTP/1.1 404 Not  Found\r\nA: b\r\n\r\n";
        let head = response(text).unwrap().unwrap();
        assert_eq!((head.status, head.reason.of(text.as_bytes())), (404, &b"Not  Found"[..]));
        for text in ["HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 \r\n\r\n"] {
            assert_eq!(response(text).unwrap().unwrap().reason.of(text.as_bytes()), b"");
        }
        for text in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 999 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\r\n",
            "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(response(text).is_err(), "{text:?}");
        }
    }
}
