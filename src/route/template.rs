//! Text with values of the request in it: `/v2/users/{user_id}`, `https://{host}{path}?{query}`.
//!
//! | name | value |
//! |---|---|
//! | `{client_ip}` `{request_id}` `{path}` | of the request; the first is empty for clients of a Unix socket |
//! | `{host}` `{hostname}` | the host asked for, as the client wrote it and without its port |
//! | `{query}` | the whole query without `?`; a `?` in front of a missing one goes too |
//! | `{path.NAME}`, or just `{NAME}` | a parameter of the route's path |
//! | `{query.NAME}` `{header.NAME}` | the first of that name |
//! | `{tls.server_name}` `{tls.version}` | of the TLS connection; empty without TLS |
//! | `{tls.client.subject}` `….san}` `….fingerprint}` `….serial}` | of the client's verified certificate; empty without one |
//! | `{deadline_ms}` | what is left of the route's time when a request is sent to an upstream: only in the fields of such requests |
//! | `{parts.NAME.key}`, `{ITEM.key}` | of an earlier part's answer: only in the requests of an aggregation |
//!
//! `{{` and `}}` are literal braces. An unknown name is an error when the template is read; a missing value is empty.
//! Every value is hostile and is encoded for the place it goes to (see the table in `encode.rs`): it can not add a
//! segment, a query, a fragment, a dot segment, a header or, in a Location, a host.

use std::fmt;
use std::io::Write as _;

use http::HeaderName;

use super::encode::{self, Source, Spot};
pub use super::facts::Facts;
use super::facts::{FACTS, LEFT, TLS_FACTS};
use crate::text;

/// Where the rendered text goes: decides how values are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The path of a request to an upstream.
    Path,
    /// The path of a request to an upstream, and behind a `?` its query.
    Target,
    /// The value of one pair of a query.
    Query,
    /// The value of a header field.
    Header,
    /// The value of a Location field: a path, or a URL with scheme and host, and either may have a query.
    Location,
}

/// A template that was read; rendering it can not fail and allocates nothing but what `out` needs to grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    ClientIp,
    RequestId,
    Host,
    Hostname,
    Path,
    WholeQuery,
    Param(usize),
    Query(String),
    Header(HeaderName),
    /// Index into [`TLS_FACTS`].
    Tls(usize),
    /// What is left of the route's time.
    Left,
    /// Index into the values of earlier answers.
    Value(usize),
}

/// What is wrong with a template, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl TemplateError {
    /// With this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

fn error<T>(text: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError(text.into()))
}

impl Template {
    /// Reads a template. `params` are the names of the route's path parameters in the order of the pattern, as
    /// [`param_names`](super::param_names) gives them.
    ///
    /// # Errors
    /// An unknown name, or braces that do not fit.
    pub fn parse(text: &str, params: &[String]) -> Result<Template, TemplateError> {
        Template::read(text, params, &[])
    }

    /// What stands in the braces of a text, in its order, as far as they fit.
    pub fn names(text: &str) -> Vec<&str> {
        let mut names = Vec::new();
        let mut left = text;
        while let Some((_, inner)) = left.split_once('{') {
            left = match (inner.strip_prefix('{'), inner.split_once('}')) {
                (Some(behind), _) => behind,
                (None, Some((name, behind))) => {
                    names.push(name);
                    behind
                }
                (None, None) => return names,
            };
        }
        names
    }

    fn read(text: &str, params: &[String], values: &[String]) -> Result<Template, TemplateError> {
        let piece = |piece| match piece {
            text::Piece::Literal(literal) => Ok(Piece::Literal(literal)),
            text::Piece::Name(name) => Piece::parse(name, params, values),
        };
        let pieces = text::pieces(text).map_err(TemplateError::new)?;
        Ok(Template { pieces: pieces.into_iter().map(piece).collect::<Result<_, _>>()? })
    }

    /// Reads a template for [`Place::Header`].
    ///
    /// # Errors
    /// As [`Template::parse`], and when it has a line break or another control character (RFC 9110 5.5).
    pub fn parse_header(text: &str, params: &[String]) -> Result<Template, TemplateError> {
        Template::read_header(text, params, &[])
    }

    /// As [`Template::parse_header`], for a request that is written when it is sent: what is left of its time is known. With
    /// `values` as for [`Template::parse_target`].
    ///
    /// # Errors
    /// As [`Template::parse_header`].
    pub fn parse_sent_header(text: &str, params: &[String], values: &[String]) -> Result<Template, TemplateError> {
        let values: Vec<String> = values.iter().cloned().chain([LEFT.to_owned()]).collect();
        Template::read_header(text, params, &values)
    }

    fn read_header(text: &str, params: &[String], values: &[String]) -> Result<Template, TemplateError> {
        if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\t') {
            return error(format!("{c:?} can not be in the value of a header; remove it"));
        }
        Template::read(text, params, values)
    }

    /// Reads a template for [`Place::Path`].
    ///
    /// # Errors
    /// As [`Template::parse`], and when it does not begin with a slash, or has a query, a fragment or a dot segment.
    pub fn parse_path(text: &str, params: &[String]) -> Result<Template, TemplateError> {
        let template = Template::parse(text, params)?;
        if !text.starts_with('/') && template.pieces.first() != Some(&Piece::Path) {
            return error("the path does not begin with a slash; write one in front");
        }
        for literal in template.literals() {
            if let Some(c) = literal.chars().find(|c| !c.is_ascii_graphic() || "?#".contains(*c)) {
                return error(format!(
                    "{c:?} can not be in a path; the query is kept as it is, and other characters are written like %20"
                ));
            }
        }
        template.without_dot_segments(text)
    }

    /// Reads a template for [`Place::Target`]. `values` are the names of what it may take from earlier answers, as they
    /// stand in its braces; [`Facts::value`] is asked for them by their place in this list.
    ///
    /// # Errors
    /// As [`Template::parse`], and when it does not begin with a slash, or has a fragment or a dot segment.
    pub fn parse_target(text: &str, params: &[String], values: &[String]) -> Result<Template, TemplateError> {
        let template = Template::read(text, params, values)?;
        if !text.starts_with('/') {
            return error("the path does not begin with a slash; write one in front");
        }
        if let Some(c) = template.literals().flat_map(str::chars).find(|c| !c.is_ascii_graphic() || *c == '#') {
            return error(format!("{c:?} can not be in a path or query; other characters are written like %20"));
        }
        template.without_dot_segments(text.split('?').next().unwrap_or_default())
    }

    /// Reads a template for [`Place::Query`]. Its literal text is plain: what can not be in a query is encoded.
    ///
    /// # Errors
    /// As [`Template::parse`], and when it names the whole query, which is many pairs.
    pub fn parse_query_value(text: &str, params: &[String]) -> Result<Template, TemplateError> {
        let mut template = Template::parse(text, params)?;
        for piece in &mut template.pieces {
            match piece {
                Piece::WholeQuery => return error("`{query}` is the whole query; write `{query.NAME}` for one value"),
                Piece::Literal(text) => *text = encode::query_text(text),
                _ => {}
            }
        }
        Ok(template)
    }

    /// Whether it depends on when the request is sent.
    pub fn is_timed(&self) -> bool {
        self.pieces.contains(&Piece::Left)
    }

    fn without_dot_segments(self, path: &str) -> Result<Template, TemplateError> {
        if encode::has_dot_segments(path.as_bytes()) {
            return error("the path has a dot segment; write the path that it leads to");
        }
        // With a value behind it, it would mean something else.
        if self.literals().any(encode::has_lone_percent) {
            return error("a `%` is not followed by two hexadecimal digits; write %25 for the sign itself");
        }
        Ok(self)
    }

    /// Reads a template for [`Place::Location`].
    ///
    /// # Errors
    /// As [`Template::parse`], and when a client could choose the host that it is sent to: the text must begin with
    /// `/`, `{path}` or `https://host`, and the host may hold no value but `{host}` and `{hostname}`.
    pub fn parse_location(text: &str, params: &[String]) -> Result<Template, TemplateError> {
        let template = Template::parse(text, params)?;
        if let Some(c) = template.literals().flat_map(str::chars).find(|c| !c.is_ascii_graphic()) {
            return error(format!("{c:?} can not be in a URL; write it percent-encoded, like %20"));
        }
        let relative =
            (text.starts_with('/') && !text.starts_with("//")) || template.pieces.first() == Some(&Piece::Path);
        if relative {
            return Ok(template);
        }
        if !["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
            return error("the location begins neither with a slash nor with http:// or https://; write one of these");
        }
        if !template.host_is_fixed() {
            return error(
                "a client could choose the host of this location; write the host, {host} or {hostname}, with a slash \
                 behind it",
            );
        }
        Ok(template)
    }

    /// Whether the authority of an absolute URL is made of literal text, `{host}` and `{hostname}` only, and is not empty.
    fn host_is_fixed(&self) -> bool {
        let mut empty = true;
        for (i, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Literal(text) => {
                    let text = if i == 0 { text.split_once("://").map_or("", |(_, text)| text) } else { text };
                    let end = text.find(['/', '\\', '?', '#']);
                    empty &= end.unwrap_or(text.len()) == 0;
                    if end.is_some() {
                        return !empty;
                    }
                }
                Piece::Host | Piece::Hostname => empty = false,
                // Always begins with a slash, and so ends the authority.
                Piece::Path => return !empty,
                _ => return false,
            }
        }
        !empty
    }

    /// Whether it holds no values.
    pub fn is_literal(&self) -> bool {
        self.literal().is_some()
    }

    /// The text, if it holds no values.
    pub fn literal(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the text to `out` with the values of one request in it, encoded for `place`.
    pub fn render<F: Facts>(&self, facts: &F, place: Place, out: &mut Vec<u8>) {
        let start = out.len();
        let mut into = match place {
            Place::Header => Spot::Header,
            Place::Query => Spot::Query,
            Place::Path | Place::Target | Place::Location => Spot::Path,
        };
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => {
                    out.extend_from_slice(text.as_bytes());
                    if matches!(place, Place::Location | Place::Target) && text.contains('?') {
                        into = Spot::Query;
                    }
                }
                Piece::ClientIp => {
                    // Addresses are made of characters that are safe everywhere, and writing to a Vec can not fail.
                    if let Some(ip) = facts.client_ip() {
                        let _ = write!(out, "{ip}");
                    }
                }
                Piece::RequestId => encode::push(out, facts.request_id().as_bytes(), Source::Text, into),
                Piece::Host => push_host(out, facts.host(), place, into),
                Piece::Hostname => push_host(out, facts.hostname(), place, into),
                Piece::Path => encode::push(out, facts.path().as_bytes(), Source::Path, into),
                Piece::Param(i) => encode::push(out, facts.param(*i).as_bytes(), Source::Path, into),
                Piece::WholeQuery => match facts.query_string() {
                    Some(query) => encode::push(out, query.as_bytes(), Source::WholeQuery, into),
                    None if out.len() > start && out.last() == Some(&b'?') => out.truncate(out.len() - 1),
                    None => {}
                },
                Piece::Query(name) => {
                    encode::push(out, facts.query(name).unwrap_or_default().as_bytes(), Source::Query, into);
                }
                Piece::Tls(index) => {
                    encode::push(out, tls_fact(*index, facts).as_bytes(), Source::Text, into);
                }
                Piece::Header(name) => {
                    encode::push(out, facts.header(name.as_str()).unwrap_or_default(), Source::Text, into);
                }
                Piece::Left => {
                    if let Some(left_ms) = facts.left_ms() {
                        let _ = write!(out, "{left_ms}");
                    }
                }
                Piece::Value(index) => encode::push(out, facts.value(*index).text, Source::Text, into),
            }
        }
        match place {
            Place::Header | Place::Query => {}
            Place::Path | Place::Target => encode::defuse_dot_segments(out, start),
            Place::Location => tidy_location(out, start),
        }
    }

    fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| if let Piece::Literal(text) = piece { Some(text.as_str()) } else { None })
    }
}

impl Piece {
    pub(super) fn parse(name: &str, params: &[String], values: &[String]) -> Result<Piece, TemplateError> {
        let param = |name: &str| params.iter().position(|param| param == name);
        let is_value = |name: &str| values.iter().any(|value| value == name);
        let is_fact = FACTS.contains(&name) && !is_value(name);
        if (is_fact || (name == LEFT && is_value(LEFT))) && param(name).is_some() {
            return error(format!(
                "`{{{name}}}` could be the request's {name} or the parameter of this name; \
                 write `{{path.{name}}}` for the parameter, or rename it"
            ));
        }
        if let Some(index) = values.iter().position(|value| value == name) {
            return Ok(if name == LEFT { Piece::Left } else { Piece::Value(index) });
        }
        if FACTS.contains(&name) {
            return Ok(match name {
                "client_ip" => Piece::ClientIp,
                "request_id" => Piece::RequestId,
                "host" => Piece::Host,
                "hostname" => Piece::Hostname,
                "path" => Piece::Path,
                _ => Piece::WholeQuery,
            });
        }
        if let Some(index) = TLS_FACTS.iter().position(|(fact, _)| *fact == name) {
            return Ok(Piece::Tls(index));
        }
        let piece = match name.split_once('.') {
            Some(("query", name)) if !name.is_empty() => Some(Piece::Query(name.to_owned())),
            Some(("header", name)) => HeaderName::from_bytes(name.as_bytes()).ok().map(Piece::Header),
            Some(("path", name)) => param(name).map(Piece::Param),
            Some(_) => None,
            None => param(name).map(Piece::Param),
        };
        piece.map_or_else(|| Err(unknown(name, params)), Ok)
    }

    /// Whether the request does not have it. What is not of its query or header is always there.
    pub(super) fn is_missing<F: Facts>(&self, facts: &F) -> bool {
        match self {
            Piece::WholeQuery => facts.query_string().is_none(),
            Piece::Query(name) => facts.query(name).is_none(),
            Piece::Header(name) => facts.header(name.as_str()).is_none(),
            _ => false,
        }
    }

    /// What the value says, without the encoding that a URL gave it.
    pub(super) fn with_text<F: Facts, T>(&self, facts: &F, with: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Piece::Literal(text) => with(text.as_bytes()),
            Piece::ClientIp => with(facts.client_ip().map(|ip| ip.to_string()).unwrap_or_default().as_bytes()),
            Piece::RequestId => with(facts.request_id().as_bytes()),
            Piece::Host => with(facts.host().as_bytes()),
            Piece::Hostname => with(facts.hostname().as_bytes()),
            Piece::Path => with(&encode::decoded(facts.path().as_bytes(), Source::Path)),
            Piece::Param(i) => with(&encode::decoded(facts.param(*i).as_bytes(), Source::Path)),
            Piece::WholeQuery => with(facts.query_string().unwrap_or_default().as_bytes()),
            Piece::Query(name) => {
                with(&encode::decoded(facts.query(name).unwrap_or_default().as_bytes(), Source::Query))
            }
            Piece::Header(name) => with(facts.header(name.as_str()).unwrap_or_default()),
            Piece::Tls(index) => with(tls_fact(*index, facts).as_bytes()),
            Piece::Left => with(facts.left_ms().map(|left_ms| left_ms.to_string()).unwrap_or_default().as_bytes()),
            Piece::Value(index) => with(facts.value(*index).text),
        }
    }
}

/// What the TLS connection tells, empty without one; `index` is that of [`TLS_FACTS`].
fn tls_fact<F: Facts>(index: usize, facts: &F) -> &str {
    TLS_FACTS.get(index).zip(facts.session()).map_or("", |((_, fact), session)| fact(session))
}

/// Lists what there is, and the name that was probably meant.
fn unknown(name: &str, params: &[String]) -> TemplateError {
    if name == LEFT {
        let why = "is what is left of a route's time when its request is sent: only `set` and `add` of a route's \
                   request_headers and `set_headers` of a part have it";
        return TemplateError(format!("`{{{LEFT}}}` {why}"));
    }
    let mut known: Vec<String> = FACTS.iter().map(|fact| (*fact).to_owned()).collect();
    if name.starts_with("tls") {
        known = TLS_FACTS.iter().map(|(fact, _)| (*fact).to_owned()).collect(); // the long list for who asks for it
    }
    known.extend(params.iter().map(|param| format!("path.{param}")));
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    let bare = |known: &str| known.strip_prefix("path.").map_or(usize::MAX, distance);
    let meant = known.iter().map(|known| (distance(known).min(bare(known)), known)).min();
    let meant = match meant {
        // As many letters as a slip changes in a name of this length; a parameter's bare name counts.
        Some((distance, known)) if distance <= (name.len() / 3).clamp(1, 2) => {
            format!(", did you mean `{{{known}}}`?")
        }
        _ => ".".to_owned(),
    };
    known.extend(["query.NAME".to_owned(), "header.NAME".to_owned()]);
    TemplateError(format!("there is no value `{{{name}}}`{meant} Known: {}", known.join(", ")))
}

fn push_host(out: &mut Vec<u8>, host: &str, place: Place, into: Spot) {
    match place {
        Place::Location => encode::push_host(out, host),
        Place::Path | Place::Target | Place::Query | Place::Header => {
            encode::push(out, host.as_bytes(), Source::Text, into)
        }
    }
}

/// Keeps a location on the host it names: browsers take `//name` at the beginning for another host.
fn tidy_location(out: &mut Vec<u8>, start: usize) {
    let text = out.get(start..).unwrap_or_default();
    let path = match text.first() {
        Some(b'/') => {
            let slashes = text.iter().take_while(|b| **b == b'/').count();
            out.drain(start..start + slashes - 1);
            start
        }
        _ => {
            let authority = memchr::memmem::find(text, b"://").map_or(0, |at| at + 3);
            let after = text.get(authority..).unwrap_or_default();
            start + authority + memchr::memchr2(b'/', b'?', after).unwrap_or(after.len())
        }
    };
    encode::defuse_dot_segments(out, path);
}

#[cfg(test)]
pub(super) mod tests;
