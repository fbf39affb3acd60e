//! Lines of the access log in one of the [forms](super::format): a line is one pass over its parts, without an allocation.
//!
//! Every value is hostile. In a text it is escaped as Apache does (`\"`, `\\`, `\n`, `\xhh`: what is left is visible ASCII), and
//! outside of quotes its spaces too: no client can forge the end of a line, of a quoted value, or a column.

use super::access_log::{self, Record, number};
use super::format::{Fact, Field, Format, Part, Rules, Shown, Style, What};
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
    use super::super::format::{NAMED, names};
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
}
