//! Forms of the access log other than plain JSON: the common and combined formats, templates, and JSON with fields of the
//! operator's own. A form is compiled once into parts; [`line`](super::line) writes lines of them.

use super::access_log;
use super::redact::Redact;
use crate::text;

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
    pub(super) key: Vec<u8>,
    pub(super) parts: Vec<Part>,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub(super) what: What,
    pub(super) style: Style,
}

/// What stands there.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// Text of the operator's, escaped already where it must be.
    Literal(Vec<u8>),
    /// What is known of every request.
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
pub(super) enum Shown {
    /// All of it, up to the longest that is shown.
    All,
    /// That it is there.
    Hidden,
    /// A URL: without secrets, and without its query if that is not logged.
    Url { with_query: bool },
}

/// How a value is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Between double quotes.
    Quoted,
    /// Up to the next space.
    Bare,
    /// Within a JSON string.
    Json,
}

/// What is known of every request, by its name in [`FACTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_name_is_told() {
        let fault = |text: &str| Format::template(text, &Redact::default()).unwrap_err();
        for name in ["client", "header", "header.", "header.a b", "query.", "cookie.a", "", "response.a"] {
            assert_eq!(fault(&format!("{{{name}}}")), Fault::Unknown(name.to_owned()));
        }
        assert!(matches!(fault("{a"), Fault::Braces(_)));
    }

    #[test]
    fn fields_of_the_answer_are_known_and_no_field_is_plain_json() {
        let format =
            Format::template("{response_header.X-B}{response_header.a}{response_header.x-b}", &Redact::default());
        assert_eq!(format.unwrap().answer_headers(), ["a", "x-b"]);
        assert_eq!(Format::json_with(&[], &Redact::default()), Ok(Format::Json));
    }
}
