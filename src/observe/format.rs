//! Lines of the access log in another form than plain JSON: the common and combined formats, templates, and JSON with fields
//! of the operator's own. A form is compiled once into parts; a line is one pass over them, without an allocation.
//!
//! Every value is hostile. In a text it is escaped as Apache does (`\"`, `\\`, `\n`, `\xhh`: what is left is visible ASCII), and
//! outside of quotes its spaces too: no client can forge the end of a line, of a quoted value, or a column.

use super::access_log::{self, Record, number};
use super::redact::{HIDDEN, Redact};
use super::time::TimeCache;
use crate::socket::SocketName;
use crate::text;

/// Longest value of a field or query key that is shown, in bytes; what is longer is cut: lines must fit the log's ring.
const VALUE_BYTES_MAX: usize = 1024;
/// What stands behind a value that was cut.
const CUT: &[u8] = b"...";
/// What stands for a value that is not there.
const MISSING: &[u8] = b"-";
/// The status of a request that was never answered, as nginx writes it: who reads these formats takes nothing but a number.
const UNANSWERED: u16 = 499;
/// All requests, in parts per million.
pub const ALL: u32 = 1_000_000;

/// The common log format of Apache and nginx, but for the query.
const COMMON: &str = "{client_ip} - {principal} [{time_common}] \"{request_line}\" {status} {body_bytes}";

/// Which lines are written, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// What a line is like.
    pub format: Format,
    /// What lines must not show.
    pub redact: Redact,
    /// How many of a million requests are logged; those that failed or were slow always are.
    pub sample: u32,
    /// Requests that took so long, in µs, are always logged.
    pub slow_us: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { format: Format::Json, redact: Redact::default(), sample: ALL, slow_us: u64::MAX }
    }
}

/// What a line is like.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// The fields of [`write_json`](access_log::write_json).
    Json,
    /// The same with more of them.
    JsonWith(Vec<Field>),
    /// Other text.
    Text(Vec<Part>),
}

/// A field of the operator's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// As it is written: `"name":`
    key: Vec<u8>,
    parts: Vec<Part>,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    what: What,
    style: Style,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Literal(Vec<u8>),
    Fact(Fact),
    /// A field of the request, in lower case.
    Header(String, Shown),
    /// A field of the answer, in lower case.
    AnswerHeader(String, Shown),
    /// The first value of a query key.
    Query(String, Shown),
}

/// How much of a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    All,
    /// That it is there.
    Hidden,
    /// A URL: without secrets, and without its query if that is not logged.
    Url {
        with_query: bool,
    },
}

/// How a value is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Between double quotes.
    Quoted,
    /// Up to the next space.
    Bare,
    /// Within a JSON string.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Time,
    TimeCommon,
    ClientIp,
    Principal,
    Method,
    Path,
    Query,
    Target,
    Protocol,
    RequestLine,
    /// The same with the query.
    WholeRequestLine,
    Host,
    Route,
    Upstream,
    Endpoint,
    Status,
    BytesIn,
    BytesOut,
    BodyBytes,
    TotalUs,
    UpstreamUs,
    AddedUs,
    DurationMs,
    End,
    RequestId,
    RefusedBy,
    WouldRefuse,
    Notes,
    Parts,
    Coding,
    BytesUncoded,
}

/// What can stand in braces, beside the names that [`NAMED`] begins.
const FACTS: [(&str, Fact); 30] = [
    ("time", Fact::Time),
    ("time_common", Fact::TimeCommon),
    ("client_ip", Fact::ClientIp),
    ("principal", Fact::Principal),
    ("method", Fact::Method),
    ("path", Fact::Path),
    ("query", Fact::Query),
    ("target", Fact::Target),
    ("protocol", Fact::Protocol),
    ("request_line", Fact::RequestLine),
    ("host", Fact::Host),
    ("route", Fact::Route),
    ("upstream", Fact::Upstream),
    ("endpoint", Fact::Endpoint),
    ("status", Fact::Status),
    ("bytes_in", Fact::BytesIn),
    ("bytes_out", Fact::BytesOut),
    ("body_bytes", Fact::BodyBytes),
    ("total_us", Fact::TotalUs),
    ("upstream_us", Fact::UpstreamUs),
    ("added_us", Fact::AddedUs),
    ("duration_ms", Fact::DurationMs),
    ("end", Fact::End),
    ("request_id", Fact::RequestId),
    ("refused_by", Fact::RefusedBy),
    ("would_refuse", Fact::WouldRefuse),
    ("notes", Fact::Notes),
    ("parts", Fact::Parts),
    ("coding", Fact::Coding),
    ("bytes_uncoded", Fact::BytesUncoded),
];

/// What begins a name that the operator chooses the end of.
pub const NAMED: [&str; 3] = ["header.", "response_header.", "query."];

/// All names without an end of the operator's choice.
pub fn names() -> impl Iterator<Item = &'static str> {
    FACTS.iter().map(|(name, _)| *name)
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Its braces: what, and what would be right.
    Braces(&'static str),
    /// There is nothing of this name.
    Unknown(String),
}

/// What formats may know of a request beside its [`Record`].
pub trait Asked {
    /// `HTTP/1.1`; empty if its head could not be read.
    fn protocol(&self) -> &str;
    /// Its query, if it has one.
    fn query(&self) -> Option<&[u8]>;
    /// Who calls, if that is known.
    fn principal(&self) -> Option<&str>;
    /// Bytes of the answer behind its head, as they were sent.
    fn body_bytes(&self) -> u64;
    /// The first field of this name, which is in lower case.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The same of the answer as it was sent.
    fn answer_header(&self, name: &str) -> Option<&[u8]>;
}

impl Format {
    /// The common log format, with the query or without.
    pub fn common(with_query: bool) -> Self {
        let mut parts = compile(COMMON, false, &Redact::default()).unwrap_or_default();
        for part in parts.iter_mut().filter(|part| with_query && part.what == What::Fact(Fact::RequestLine)) {
            part.what = What::Fact(Fact::WholeRequestLine);
        }
        Self::Text(parts)
    }

    /// The combined log format: the common one with Referer, whose query is logged as that of the request is, and User-Agent.
    pub fn combined(with_query: bool, redact: &Redact) -> Self {
        let Self::Text(mut parts) = Self::common(with_query) else { return Self::Json };
        let of = |name: &str| compile(&format!("{{header.{name}}}"), false, redact).unwrap_or_default();
        let literal = |text: &str| Part { what: What::Literal(text.into()), style: Style::Quoted };
        parts.push(literal(" \""));
        parts.extend(of("referer"));
        parts.push(literal("\" \""));
        parts.extend(of("user-agent"));
        parts.push(literal("\""));
        for part in &mut parts {
            if let What::Header(_, Shown::Url { with_query: its }) = &mut part.what {
                *its = with_query;
            }
        }
        quote(&mut parts);
        Self::Text(parts)
    }

    /// A template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn template(text: &str, redact: &Redact) -> Result<Self, Fault> {
        compile(text, false, redact).map(Self::Text)
    }

    /// JSON with these fields more, each a name and a template.
    ///
    /// # Errors
    /// What is wrong with a template.
    pub fn json_with(fields: &[(&str, &str)], redact: &Redact) -> Result<Self, Fault> {
        let field = |(name, text): &(&str, &str)| {
            let mut key = Vec::new();
            access_log::string(name.as_bytes(), &mut key);
            key.push(b':');
            Ok(Field { key, parts: compile(text, true, redact)? })
        };
        let fields: Vec<Field> = fields.iter().map(field).collect::<Result<_, _>>()?;
        Ok(if fields.is_empty() { Self::Json } else { Self::JsonWith(fields) })
    }

    /// Fields of the answer that lines show: each name once, in lower case.
    pub fn answer_headers(&self) -> Vec<String> {
        let parts: Vec<&Part> = match self {
            Self::Json => Vec::new(),
            Self::JsonWith(fields) => fields.iter().flat_map(|field| &field.parts).collect(),
            Self::Text(parts) => parts.iter().collect(),
        };
        let name = |part: &Part| if let What::AnswerHeader(name, _) = &part.what { Some(name.clone()) } else { None };
        let mut names: Vec<String> = parts.into_iter().filter_map(name).collect();
        names.sort();
        names.dedup();
        names
    }
}

fn compile(text: &str, is_json: bool, redact: &Redact) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    for piece in text::pieces(text).map_err(Fault::Braces)? {
        let what = match piece {
            text::Piece::Literal(text) if is_json => {
                let mut escaped = Vec::new();
                access_log::text(text.as_bytes(), &mut escaped);
                What::Literal(escaped)
            }
            text::Piece::Literal(text) => What::Literal(text.into_bytes()),
            text::Piece::Name(name) => named(name, redact).ok_or_else(|| Fault::Unknown(name.to_owned()))?,
        };
        parts.push(Part { what, style: if is_json { Style::Json } else { Style::Bare } });
    }
    if !is_json {
        quote(&mut parts);
    }
    Ok(parts)
}

/// Finds out which values stand between quotes.
fn quote(parts: &mut [Part]) {
    let mut is_quoted = false;
    for part in parts {
        match &part.what {
            What::Literal(text) => is_quoted ^= text.iter().filter(|b| **b == b'"').count() % 2 == 1,
            _ => part.style = if is_quoted { Style::Quoted } else { Style::Bare },
        }
    }
}

fn named(name: &str, redact: &Redact) -> Option<What> {
    if let Some((_, fact)) = FACTS.iter().find(|(known, _)| *known == name) {
        return Some(What::Fact(*fact));
    }
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b); // RFC 9110 5.6.2
    let (kind, name) = name.split_once('.').filter(|(_, name)| !name.is_empty())?;
    let hidden = |is_hidden, other| if is_hidden { Shown::Hidden } else { other };
    match kind {
        "header" | "response_header" if name.bytes().all(is_token) => {
            let name = name.to_ascii_lowercase();
            let is_url = matches!(&*name, "referer" | "location" | "content-location");
            let shown =
                hidden(redact.hides_header(&name), if is_url { Shown::Url { with_query: true } } else { Shown::All });
            Some(if kind == "header" { What::Header(name, shown) } else { What::AnswerHeader(name, shown) })
        }
        "query" => Some(What::Query(name.to_owned(), hidden(redact.hides_key(name.as_bytes()), Shown::All))),
        _ => None,
    }
}

/// Appends the line for `r`, with its newline, to `out`.
pub fn write(rules: &Rules, r: &Record<'_>, asked: &dyn Asked, clock: &mut TimeCache, out: &mut Vec<u8>) {
    let mut line = Line { redact: &rules.redact, r, asked, clock, out };
    match &rules.format {
        Format::Json => access_log::write_json(r, line.clock, line.out),
        Format::JsonWith(fields) => {
            access_log::write_json(r, line.clock, line.out);
            line.out.truncate(line.out.len().saturating_sub(b"}\n".len()));
            line.out.extend_from_slice(b",\"fields\":{");
            for (n, field) in fields.iter().enumerate() {
                if n > 0 {
                    line.out.push(b',');
                }
                line.field(field);
            }
            line.out.extend_from_slice(b"}}\n");
        }
        Format::Text(parts) => {
            parts.iter().for_each(|part| line.part(part));
            line.out.push(b'\n');
        }
    }
}

/// A line that is being written.
struct Line<'a> {
    redact: &'a Redact,
    r: &'a Record<'a>,
    asked: &'a dyn Asked,
    clock: &'a mut TimeCache,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// A field whose value is not there is null; one that is put together from several is a text in any case.
    fn field(&mut self, field: &Field) {
        self.out.extend_from_slice(&field.key);
        let start = self.out.len();
        self.out.push(b'"');
        field.parts.iter().for_each(|part| self.part(part));
        self.out.push(b'"');
        if matches!(&*field.parts, [Part { what, .. }] if !matches!(what, What::Literal(_)))
            && self.out.len() == start + 2
        {
            self.out.truncate(start);
            self.out.extend_from_slice(b"null");
        }
    }

    fn part(&mut self, part: &Part) {
        let Part { what, style } = part;
        if let What::Literal(text) = what {
            return self.out.extend_from_slice(text);
        }
        let start = self.out.len();
        match what {
            What::Literal(_) => {}
            What::Fact(fact) => self.fact(*fact, *style),
            What::Header(name, shown) => self.value(self.asked.header(name), *shown, *style),
            What::AnswerHeader(name, shown) => self.value(self.asked.answer_header(name), *shown, *style),
            What::Query(name, shown) => self.pair(name, *shown, *style),
        }
        if self.out.len() == start && *style != Style::Json {
            self.out.extend_from_slice(MISSING);
        }
    }

    fn value(&mut self, value: Option<&[u8]>, shown: Shown, style: Style) {
        let Some(value) = value else { return };
        let redact = self.redact;
        match shown {
            Shown::Hidden => put(HIDDEN, style, self.out),
            Shown::All => self.cut(style, |write| write(value)),
            Shown::Url { with_query } => self.cut(style, |write| redact.url(value, with_query, write)),
        }
    }

    /// The first value of a query key.
    fn pair(&mut self, name: &str, shown: Shown, style: Style) {
        let Some((pair, from)) = pair_of(self.asked.query(), name) else { return };
        // Another key may stand behind a `;` in it.
        let hidden = self.redact.hidden_from(pair).filter(|_| shown == Shown::All);
        let value = pair.get(from..hidden.map_or(pair.len(), |at| at.max(from))).unwrap_or_default();
        if hidden.is_none() {
            return self.value(Some(value), shown, style);
        }
        self.cut(style, |write| [value, HIDDEN].into_iter().for_each(write));
    }

    /// Appends pieces of a value up to its longest length. Secrets are out of them already: what is cut is not recognised.
    fn cut(&mut self, style: Style, pieces: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        let out = &mut *self.out;
        let (mut left, mut is_cut) = (VALUE_BYTES_MAX, false);
        pieces(&mut |piece| {
            let shown = piece.get(..left).unwrap_or(piece);
            put(shown, style, out);
            left -= shown.len();
            is_cut |= shown.len() < piece.len();
        });
        if is_cut {
            out.extend_from_slice(CUT);
        }
    }

    fn query(&mut self, mark: &[u8], style: Style) {
        if let Some(query) = self.asked.query() {
            let out = &mut *self.out;
            put(mark, style, out);
            self.redact.query(query, &mut |piece| put(piece, style, out));
        }
    }

    fn request_line(&mut self, with_query: bool, style: Style) {
        if self.r.method.is_empty() {
            return;
        }
        put(self.r.method.as_bytes(), style, self.out);
        put(b" ", style, self.out);
        put(self.r.path, style, self.out);
        if with_query {
            self.query(b"?", style);
        }
        put(b" ", style, self.out);
        put(self.asked.protocol().as_bytes(), style, self.out);
    }

    fn fact(&mut self, fact: Fact, style: Style) {
        let r = self.r;
        match fact {
            Fact::Time => self.clock.write(r.unix_us, self.out),
            // Its one space is always there.
            Fact::TimeCommon => self.clock.write_common(r.unix_us, self.out),
            Fact::ClientIp => match r.client {
                Some(client) => access_log::ip(client, self.out),
                None => self.out.extend_from_slice(access_log::UNIX_CLIENT.as_bytes()),
            },
            Fact::Principal => put(self.asked.principal().unwrap_or_default().as_bytes(), style, self.out),
            Fact::Method => put(r.method.as_bytes(), style, self.out),
            Fact::Path => put(r.path, style, self.out),
            Fact::Query => self.query(b"", style),
            Fact::Target => {
                put(r.path, style, self.out);
                self.query(b"?", style);
            }
            Fact::Protocol => put(self.asked.protocol().as_bytes(), style, self.out),
            Fact::RequestLine => self.request_line(false, style),
            Fact::WholeRequestLine => self.request_line(true, style),
            Fact::Host => put(r.host, style, self.out),
            Fact::Route => put(r.route.as_bytes(), style, self.out),
            Fact::Upstream => put(r.upstream.as_bytes(), style, self.out),
            Fact::Endpoint => match r.endpoint {
                Some(SocketName::Ip(address)) => access_log::address(*address, self.out),
                Some(SocketName::Unix(path)) => {
                    self.out.extend_from_slice(b"unix:");
                    put(path.as_bytes(), style, self.out);
                }
                None => {}
            },
            Fact::Status => number(if r.status == 0 { UNANSWERED } else { r.status }.into(), self.out),
            Fact::BytesIn => number(r.bytes_in, self.out),
            Fact::BytesOut => number(r.bytes_out, self.out),
            Fact::BodyBytes => match self.asked.body_bytes() {
                0 => {}
                bytes => number(bytes, self.out),
            },
            Fact::TotalUs => number(r.total_us, self.out),
            Fact::UpstreamUs => number(r.upstream_us, self.out),
            Fact::AddedUs => number(r.added_us, self.out),
            Fact::DurationMs => access_log::millis(r.total_us, self.out),
            Fact::End => put(r.end.as_bytes(), style, self.out),
            Fact::RequestId => put(r.request_id.as_bytes(), style, self.out),
            Fact::RefusedBy => put(r.refused_by.as_bytes(), style, self.out),
            Fact::WouldRefuse => put(r.would_refuse, style, self.out),
            Fact::Notes => put(r.notes, style, self.out),
            Fact::Parts => put(r.parts, style, self.out),
            Fact::Coding => put(r.coding.map_or("", |(coding, _)| coding).as_bytes(), style, self.out),
            Fact::BytesUncoded => {
                if let Some((_, bytes)) = r.coding {
                    number(bytes, self.out);
                }
            }
        }
    }
}

/// The first pair of a query with this key, and where its value begins.
fn pair_of<'q>(query: Option<&'q [u8]>, name: &str) -> Option<(&'q [u8], usize)> {
    query?.split(|b| *b == b'&').find_map(|pair| {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let key = pair.get(..at)?;
        text::decoded(key, true).eq(name.bytes()).then_some((pair, at + 1))
    })
}

/// Appends a value so that it can not end what it stands in.
fn put(value: &[u8], style: Style, out: &mut Vec<u8>) {
    match style {
        Style::Json => access_log::text(value, out),
        Style::Quoted | Style::Bare => {
            if value.iter().fold(false, |dirty, &b| dirty | special(b, style)) {
                escaped(value, style, out);
            } else {
                out.extend_from_slice(value);
            }
        }
    }
}

const fn special(b: u8, style: Style) -> bool {
    (b < 0x20) | (b == b'"') | (b == b'\\') | (b >= 0x7f) | (b == b' ' && matches!(style, Style::Bare))
}

/// As Apache's `ap_escape_logitem`.
#[cold]
fn escaped(value: &[u8], style: Style, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &b in value {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b if special(b, style) => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'x', digit(b >> 4), digit(b & 15)]);
            }
            b => out.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Request {
        headers: Vec<(&'static str, Vec<u8>)>,
        query: Option<&'static str>,
        principal: Option<&'static str>,
    }

    impl Asked for Request {
        fn protocol(&self) -> &str {
            "HTTP/1.1"
        }
        fn query(&self) -> Option<&[u8]> {
            self.query.map(str::as_bytes)
        }
        fn principal(&self) -> Option<&str> {
            self.principal
        }
        fn body_bytes(&self) -> u64 {
            7
        }
        fn header(&self, name: &str) -> Option<&[u8]> {
            self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_slice())
        }
        fn answer_header(&self, name: &str) -> Option<&[u8]> {
            (name == "location").then_some(b"https://a/cb?id_token=s&x=1")
        }
    }

    fn request() -> Request {
        Request {
            headers: vec![
                ("user-agent", b"curl/8.5 \"x\"\\\x1b[2J\x80\xc3\xa9\t\x7f".to_vec()),
                ("referer", b"https://u:p@ex.test/a?token=s&b=2#f".to_vec()),
                ("authorization", b"Bearer secret".to_vec()),
                ("long", vec![b'x'; 5000]),
                ("empty", vec![]),
            ],
            query: Some("a=1&TOKEN=s&%74oken=t&access_token=u"),
            principal: Some("ann lee"),
        }
    }

    fn record() -> Record<'static> {
        Record {
            host: b"api.example.com",
            path: b"/a\"b%0a",
            route: "r",
            upstream: "",
            endpoint: None,
            request_id: "id",
            notes: b"\"gate:unchecked\"",
            ..access_log::tests::record()
        }
    }

    fn redact() -> Redact {
        Redact::new(&["x-secret"], &["token"])
    }

    fn line(format: Format, r: &Record<'_>, asked: &Request) -> String {
        let rules = Rules { format, redact: redact(), ..Rules::default() };
        let mut out = b"kept".to_vec();
        out.clear();
        write(&rules, r, asked, &mut TimeCache::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn template(text: &str) -> String {
        let line = line(Format::template(text, &redact()).unwrap(), &record(), &request());
        line.strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn common_and_combined_read_as_apache_writes_them() {
        assert_eq!(
            line(Format::common(false), &record(), &request()),
            "192.0.2.107 - ann\\x20lee [21/Sep/2026:14:13:20 +0000] \"GET /a\\\"b%0a HTTP/1.1\" 200 7\n"
        );
        let agent = "curl/8.5 \\\"x\\\"\\\\\\x1b[2J\\x80\\xc3\\xa9\\t\\x7f";
        assert_eq!(
            line(Format::combined(false, &redact()), &record(), &request()),
            format!(
                "192.0.2.107 - ann\\x20lee [21/Sep/2026:14:13:20 +0000] \"GET /a\\\"b%0a HTTP/1.1\" 200 7 \
                 \"https://***@ex.test/a\" \"{agent}\"\n"
            )
        );
        let with_query = line(Format::combined(true, &redact()), &record(), &request());
        assert!(
            with_query.contains("\"GET /a\\\"b%0a?a=1&TOKEN=***&%74oken=***&access_token=*** HTTP/1.1\""),
            "{with_query}"
        );
        assert!(with_query.contains("\"https://***@ex.test/a?token=***&b=2\""), "{with_query}");
        let nobody = Request { headers: vec![], query: None, principal: None };
        let never = Record { method: "", path: b"", status: 0, ..record() };
        assert_eq!(
            line(Format::combined(true, &redact()), &never, &nobody),
            "192.0.2.107 - - [21/Sep/2026:14:13:20 +0000] \"-\" 499 7 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn every_name_of_a_template_is_there_and_known_to_the_readme() {
        let readme = include_str!("../../README.md");
        for name in names() {
            let shown = template(&format!("{{{name}}}"));
            assert!(!shown.is_empty() && !shown.contains(' ') || name == "time_common", "{name}: {shown}");
            assert!(readme.contains(&format!("`{{{name}}}`")), "README.md does not know {{{name}}}");
        }
        for name in NAMED {
            assert!(readme.contains(&format!("`{{{name}NAME}}`")), "README.md does not know {{{name}NAME}}");
        }
        assert_eq!(
            template(
                "{time}\t{client_ip} {method} {{{path}}} {status} {bytes_out} {duration_ms} {upstream} {endpoint}"
            ),
            "2026-09-21T14:13:20.123456Z\t192.0.2.107 GET {/a\\\"b%0a} 200 345 1.543 - -"
        );
        assert_eq!(template("{notes} {request_line}"), "\\\"gate:unchecked\\\" GET\\x20/a\\\"b%0a\\x20HTTP/1.1");
    }

    #[test]
    fn secrets_are_hidden_and_long_values_cut() {
        assert_eq!(template("{header.Authorization} {header.cookie} {header.nothing} {header.empty}"), "*** - - -");
        assert_eq!(template("{query.a} {query.token} {query.Token} {query.access_token} {query.b}"), "1 *** - *** -");
        assert_eq!(template("{query} {query.TOKEN}"), "a=1&TOKEN=***&%74oken=***&access_token=*** ***");
        assert_eq!(template("{target}"), "/a\\\"b%0a?a=1&TOKEN=***&%74oken=***&access_token=***");
        assert_eq!(template("{response_header.location}"), "https://a/cb?id_token=***&x=1");
        let of_query = |query: &'static str, text: &str| {
            let asked = Request { query: Some(query), ..request() };
            line(Format::template(text, &redact()).unwrap(), &record(), &asked)
        };
        for (query, shown) in [
            ("foo=1;token=S3CR3T", "1;token=***\n"),
            ("foo=1;a=b;%74oken=S3CR3T;c&foo=2", "1;a=b;%74oken=***\n"),
            ("a=2;token=S3CR3T&foo=1;b", "1;b\n"),
            ("foo;token=S3CR3T", "-\n"),
            ("foo", "-\n"),
        ] {
            assert_eq!(of_query(query, "{query.foo}"), shown, "{query}");
        }
        assert!(!of_query("token;x=S3CR3T", "{query} {query.token;x}").contains("***"), "no key that is hidden");
        assert_eq!(template("{header.long}"), format!("{}...", "x".repeat(1024)));
        assert_eq!(
            Format::template("{response_header.X-B}{response_header.a}{response_header.x-b}", &redact())
                .unwrap()
                .answer_headers(),
            ["a", "x-b"]
        );
    }

    #[test]
    fn a_url_is_cut_behind_its_secrets() {
        let referer = |url: String| {
            let asked = Request { headers: vec![("referer", url.into_bytes())], query: None, principal: None };
            line(Format::template("{header.referer}", &redact()).unwrap(), &record(), &asked)
        };
        let filler = "x".repeat(1100);
        assert_eq!(referer(format!("https://u:S3CR3T{filler}@h/a")), "https://***@h/a\n");
        assert_eq!(referer(format!("https://h/?token=S3CR3T{filler}&b=1")), "https://h/?token=***&b=1\n");
        assert_eq!(referer(format!("https://h/{filler}")), format!("https://h/{}...\n", "x".repeat(1024 - 10)));
        assert_eq!(referer(format!("https://h/{}", "x".repeat(1024 - 10))).len(), 1025);
        assert!(referer(format!("https://h/{}?token=S", "x".repeat(1024 - 17))).ends_with("?token=...\n"));
    }

    #[test]
    fn values_out_of_quotes_have_no_spaces_and_within_they_do() {
        let agent = "curl/8.5 \\\"x";
        assert!(template("\"{header.user-agent}\"").starts_with(&format!("\"{agent}")));
        assert!(template("{header.user-agent} \"\"").starts_with("curl/8.5\\x20\\\"x"));
        assert!(template("\"a\" {header.user-agent}").starts_with("\"a\" curl/8.5\\x20"));
    }

    #[test]
    fn json_has_the_operators_fields_behind_its_own() {
        let fields = [("ua", "{header.user-agent}"), ("who", "\"{principal}\" {header.x}"), ("none", "{header.x}")];
        let format = Format::json_with(&fields, &redact()).unwrap();
        let text = line(format, &record(), &request());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["fields"]["ua"], "curl/8.5 \"x\"\\\u{1b}[2J\u{fffd}\u{e9}\t\u{7f}");
        assert_eq!(value["fields"]["who"], "\"ann lee\" ");
        assert!(value["fields"]["none"].is_null() && value["path"] == "/a\"b%0a");
        assert!(!text.trim_end_matches('\n').contains(char::is_control), "{text}");
        assert_eq!(Format::json_with(&[], &redact()), Ok(Format::Json));
    }

    #[test]
    fn no_bytes_break_a_line_or_a_column() {
        let all: Vec<u8> = (0..=255).collect();
        let asked = Request { headers: vec![("x", all)], query: None, principal: None };
        let text = line(Format::template("a \"{header.x}\" {header.x}", &redact()).unwrap(), &record(), &asked);
        let shown = text.strip_suffix('\n').unwrap();
        assert!(shown.bytes().all(|b| (0x20..0x7f).contains(&b)), "{shown}");
        // Both columns are found again by who reads escapes.
        let (quoted, bare) = shown.strip_prefix("a \"").unwrap().rsplit_once(' ').unwrap();
        let is_escaped = |text: &str| text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        let quoted = quoted.strip_suffix('"').unwrap();
        assert!(!is_escaped(quoted) && !bare.contains(' '));
        assert!(quoted.match_indices('"').all(|(at, _)| is_escaped(&quoted[..at])), "{quoted}");
    }

    #[test]
    fn what_is_no_name_is_told() {
        let fault = |text: &str| Format::template(text, &redact()).unwrap_err();
        for name in ["client", "header", "header.", "header.a b", "query.", "cookie.a", "", "response.a"] {
            assert_eq!(fault(&format!("{{{name}}}")), Fault::Unknown(name.to_owned()));
        }
        assert!(matches!(fault("{a"), Fault::Braces(_)));
    }
}
