//! `jwt`: who calls, as a signed token says. A token that was found right is remembered by the core; keys are there or are
//! not: nothing here waits for them. Of a token nothing is told to anyone but the upstream.

use std::rc::Rc;

use crate::core::Core;
use crate::error::Kind;
use crate::http::encode::{self, Edits};
use crate::http::head::{Span, is_token};
use crate::http::known::Known;
use crate::http::reply::Reply;
use crate::jwt::{Fault, KeySet, Rules, Verified, verify};
use crate::request::{Request, cookie_value, pair_value};
use crate::shared::FilterMetrics;

use super::{Flow, note_refusal};

/// The filter, as one route and listener use it.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Its name.
    pub name: String,
    /// Where a token may be; the first place that has one counts, and what is in the others goes no further.
    pub from: Vec<Place>,
    /// Longer tokens are not read, in bytes.
    pub token_bytes_max: usize,
    /// What a token must say.
    pub rules: Rules,
    /// Who may have signed it.
    pub keys: KeySet,
    /// Stands for keys and rules: under what tokens are remembered.
    pub identity: u64,
    /// Fields that tell the upstream of claims: [`Rules::taken`], in its order.
    pub headers: Vec<String>,
    /// The token goes on to the upstream.
    pub forward: bool,
    /// Requests without a token pass.
    pub optional: bool,
    /// For WWW-Authenticate; visible ASCII without `"` and `\`.
    pub realm: String,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer TOKEN` (RFC 6750 2.1).
    Authorization,
    /// The whole value of a field.
    Header(String),
    /// A cookie (RFC 6265 5.4).
    Cookie(String),
    /// A query parameter (RFC 6750 2.3), however its name is escaped; its value as it is: no byte of a token needs an escape.
    Query(String),
}

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    One(Span),
    /// More than one: which of them the upstream would read is not known.
    Several,
}

impl Jwt {
    /// Lets the request pass if its token is right, and says then who calls; answers it otherwise.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        // Whoever else claims to tell this is not believed, with a token and without.
        for name in &self.headers {
            req.disown(name);
        }
        let found =
            self.from.iter().map(|place| place.find(req)).enumerate().find(|(_, found)| *found != Found::Nothing);
        let (place, token) = match found.unwrap_or((0, Found::Nothing)) {
            (place, Found::One(token)) => (place, token),
            (_, Found::Several) => return self.refuse(req, Kind::TokenRepeated, None),
            (_, Found::Nothing) if self.optional => {
                self.metrics.passed.add(1);
                return Flow::Continue;
            }
            (_, Found::Nothing) => return self.refuse(req, Kind::TokenMissing, None),
        };
        let verified = match self.check(token.of(req.bytes()), core, req.received_us) {
            Ok(verified) => verified,
            Err(Fault::NoKeys) => return self.refuse(req, Kind::KeysMissing, None),
            Err(fault) => return self.refuse(req, Kind::TokenInvalid, Some(fault.words())),
        };
        if !verified.has_right {
            return self.refuse(req, Kind::RightMissing, None);
        }
        self.metrics.passed.add(1);
        for (name, value) in self.headers.iter().zip(&verified.values) {
            if let Some(value) = value {
                req.edits.add(name.as_bytes(), |out| out.extend_from_slice(value));
            }
        }
        if let Some(principal) = &verified.principal {
            req.principal.set(principal);
        }
        self.strip(place, req);
        Flow::Continue
    }

    /// What becomes of a request if its token is right, but for what the token says: for who tells that and has no keys.
    pub fn assume_right(&self, req: &mut Request) {
        let place = self.from.iter().position(|place| place.find(req) != Found::Nothing);
        self.strip(place.unwrap_or(self.from.len()), req);
    }

    /// Nobody has looked at a token in another place: the upstream must not take it for one that was checked.
    fn strip(&self, place: usize, req: &mut Request) {
        let goes_on = |index: usize| self.forward && index == place;
        self.from.iter().enumerate().filter(|(index, _)| !goes_on(*index)).for_each(|(_, place)| place.strip(req));
    }

    /// `at_us` is the time of the request, in µs since the process began.
    #[inline]
    fn check(&self, token: &[u8], core: &Core, at_us: u64) -> Result<Rc<Verified>, Fault> {
        // Exact to the µs until 2255.
        let now_s = core.clock.unix_us(at_us) as f64 / 1e6;
        if token.len() > self.token_bytes_max {
            return Err(Fault::TooLong);
        }
        let known = core.tokens.borrow_mut().get(self.identity, token);
        let Some(verified) = known else { return self.check_anew(token, core, now_s) };
        core.metrics.tokens_known.add(1);
        if let Err(fault) = verified.at(now_s) {
            core.tokens.borrow_mut().forget(self.identity, token);
            return Err(fault);
        }
        Ok(verified)
    }

    #[cold]
    fn check_anew(&self, token: &[u8], core: &Core, now_s: f64) -> Result<Rc<Verified>, Fault> {
        core.metrics.tokens_checked.add(1);
        match verify(token, &self.keys, &self.rules, now_s) {
            Ok(verified) => {
                let verified = Rc::new(verified);
                core.tokens.borrow_mut().put(self.identity, token, Rc::clone(&verified), now_s);
                Ok(verified)
            }
            Err(fault) => {
                // The issuer may have new keys: control looks, this request does not wait for it.
                if matches!(fault, Fault::UnknownKey | Fault::NoKeys | Fault::Signature) {
                    self.keys.ask();
                }
                Err(fault)
            }
        }
    }

    /// The answer, with a challenge (RFC 6750 3) where another token would help.
    #[cold]
    fn refuse(&self, req: &mut Request, kind: Kind, words: Option<&str>) -> Flow {
        note_refusal(&self.name, &self.metrics, req);
        let mut lines = Vec::with_capacity(160);
        let error = match kind {
            Kind::TokenRepeated => Some(("invalid_request", "more than one token")),
            Kind::TokenInvalid => Some(("invalid_token", words.unwrap_or_default())),
            Kind::RightMissing => Some(("insufficient_scope", "the token does not have this right")),
            // RFC 6750 3.1: who has not tried is not told what was wrong.
            _ => None,
        };
        if kind != Kind::KeysMissing {
            let challenge = |out: &mut Vec<u8>| {
                let mut param = |name: &str, value: &str| {
                    let comma = if name == "realm" { "" } else { ", " };
                    out.extend_from_slice(format!("{comma}{name}=\"{value}\"").as_bytes());
                };
                param("realm", &self.realm);
                if let Some((error, words)) = error {
                    param("error", error);
                    param("error_description", words);
                }
                if kind == Kind::RightMissing && !self.rules.scopes.names().is_empty() {
                    param("scope", &self.rules.scopes.names().join(" "));
                }
            };
            encode::field_of(
                b"WWW-Authenticate",
                |out| {
                    out.extend_from_slice(b"Bearer ");
                    challenge(out);
                },
                &mut lines,
            );
        }
        Flow::Reply(Reply::from_error(kind, &req.request_id, &lines))
    }
}

impl Place {
    fn find(&self, req: &Request) -> Found {
        let bytes = req.bytes();
        let span = |token: &[u8]| Span::within(bytes, token);
        match self {
            Self::Authorization => {
                let mut fields = req.head.fields.all(Known::Authorization).map(|field| field.value.of(bytes));
                match (fields.next(), fields.next()) {
                    (Some(value), None) => only(bearer(value).map(span).into_iter()),
                    (None, _) => Found::Nothing,
                    // There may be one (RFC 9110 5.3, 11.6.2).
                    (Some(_), Some(_)) => Found::Several,
                }
            }
            Self::Header(name) => only(req.fields_named(name.as_bytes())),
            Self::Cookie(name) => only(req.cookies().filter_map(|pair| cookie_value(pair, name.as_bytes())).map(span)),
            Self::Query(name) => only(req.pairs().filter_map(|pair| parameter(pair, name)).map(span)),
        }
    }

    /// Takes its tokens out of what goes to the upstream.
    fn strip(&self, req: &mut Request) {
        if self.find(req) == Found::Nothing {
            return;
        }
        match self {
            Self::Authorization => req.edits.remove(b"authorization"),
            Self::Header(name) => req.edits.remove(name.as_bytes()),
            Self::Cookie(name) => {
                let mut edits = std::mem::take(&mut req.edits); // the request is read while they are written
                keep_cookies(req, |pair| cookie_value(pair, name.as_bytes()).is_none(), &mut edits);
                req.edits = edits;
            }
            Self::Query(name) => req.drop_pairs(|pair| parameter(pair, name).is_some()),
        }
    }
}

fn only(mut tokens: impl Iterator<Item = Span>) -> Found {
    match (tokens.next(), tokens.next()) {
        (None, _) => Found::Nothing,
        (Some(token), None) => Found::One(token),
        (Some(_), Some(_)) => Found::Several,
    }
}

/// The credentials of the scheme Bearer, which is told in any case (RFC 9110 11.1); `None` for other schemes. What is not a
/// space behind it belongs to a token, which is no good one then: others may be less strict about it.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let goes_on = rest.first().is_some_and(|byte| is_token(*byte));
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (scheme.eq_ignore_ascii_case(SCHEME) && !goes_on).then(|| rest.get(spaces..).unwrap_or_default())
}

/// Notes that of all cookies only those are passed on. What an earlier filter made of them counts.
fn keep_cookies(req: &Request, wanted: impl Fn(&[u8]) -> bool, edits: &mut Edits) {
    let mut line = Vec::new();
    edits.write_added_of(b"cookie", &mut line);
    let edited = line.strip_prefix(b"cookie: ").unwrap_or(&line).split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let all: Vec<&[u8]> = if edits.replaces(b"cookie") { edited.collect() } else { req.cookies().collect() };
    let rest: Vec<&[u8]> = all.into_iter().filter(|pair| !pair.is_empty() && wanted(pair)).collect();
    edits.remove(b"cookie");
    if !rest.is_empty() {
        edits.add(b"cookie", |out| out.extend_from_slice(&rest.join(b"; ".as_slice())));
    }
}

fn parameter<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    pair_value(pair, name.as_bytes()).filter(|_| pair.contains(&b'='))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::head::Bounds;
    use crate::io::Buffers;

    fn request(query: &str, fields: &str) -> Request {
        let text = format!("GET /a?{query} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut req = Request { buf: Buffers::default().take(4096), ..Request::default() };
        req.buf.extend(text.as_bytes());
        assert!(req.head.parse(text.as_bytes(), &Bounds { head: 4096, fields: 10, target: 1000 }).unwrap());
        let at = text.find('?').unwrap() + 1;
        req.query = Some(Span::within(req.buf.bytes(), &req.buf.bytes()[at..at + query.len()]));
        req
    }

    fn found(place: &Place, req: &Request) -> Result<String, &'static str> {
        match place.find(req) {
            Found::Nothing => Err("nothing"),
            Found::Several => Err("several"),
            Found::One(span) => Ok(String::from_utf8(span.of(req.bytes()).to_vec()).unwrap()),
        }
    }

    #[test]
    fn a_token_is_found_in_its_place_and_only_one() {
        let authorization = |fields: &str| found(&Place::Authorization, &request("", fields));
        assert_eq!(authorization("authorization: bEARER  a.b.c\r\n").unwrap(), "a.b.c");
        assert_eq!(authorization("Authorization: Bearer\r\n").unwrap(), "");
        assert_eq!(authorization("Authorization: Basic Bearer\r\n"), Err("nothing"));
        assert_eq!(authorization("Authorization: Bearera\r\nX-Authorization: Bearer a\r\n"), Err("nothing"));
        for other in ["Bearer a", "Basic YTpi", "Bearer\ta"] {
            let both = format!("Authorization: Bearer a\r\nAuthorization: {other}\r\n");
            assert_eq!(authorization(&both), Err("several"), "{other}");
        }
        assert_eq!(authorization("Authorization: Bearer\ta\r\n").unwrap(), "\ta");
        assert_eq!(authorization("Authorization: Bearer,a\r\n").unwrap(), ",a");
        let header = Place::Header("X-Token".into());
        assert_eq!(found(&header, &request("", "x-token: a\r\n")).unwrap(), "a");
        assert_eq!(found(&header, &request("", "x-token: a\r\nX-TOKEN: b\r\n")), Err("several"));
        assert_eq!(found(&header, &request("", "x_token: a\r\nX-Token: a\r\n")), Err("several"));
        assert_eq!(found(&header, &request("", "X_Token: a\r\n")).unwrap(), "a");
        let cookie = Place::Cookie("t".into());
        assert_eq!(found(&cookie, &request("", "Cookie: tt=x; t=a ; u=t\r\n")).unwrap(), "a");
        assert_eq!(found(&cookie, &request("", "Cookie: t=a\r\nCookie: t=a\r\n")), Err("several"));
        let query = Place::Query("t".into());
        assert_eq!(found(&query, &request("tt=x&t=a&u", "")).unwrap(), "a");
        assert_eq!(found(&query, &request("t=a&t=b", "")), Err("several"));
        assert_eq!(found(&query, &request("t=a&%74=b", "")), Err("several"));
        assert_eq!(found(&query, &request("%74=a", "")).unwrap(), "a");
        assert_eq!(found(&query, &request("t", "")), Err("nothing"));
    }

    #[test]
    fn what_is_stripped_leaves_the_rest_as_it_was() {
        let query = |query: &str| {
            let mut req = request(query, "");
            Place::Query("t".into()).strip(&mut req);
            req.cut_query();
            req.query_str().map(str::to_owned)
        };
        assert_eq!(query("a=1&t=x&b=2").as_deref(), Some("a=1&b=2"));
        assert_eq!(query("t=x&b=2").as_deref(), Some("b=2"));
        assert_eq!(query("a=1&t=x").as_deref(), Some("a=1"));
        assert_eq!(query("a=1&tt=x").as_deref(), Some("a=1&tt=x"));
        assert_eq!(query("t=x"), None);
        assert_eq!(query("%74=x&a=1&t=y").as_deref(), Some("a=1"));
        let cookie = |fields: &str| {
            let mut req = request("", fields);
            Place::Cookie("t".into()).strip(&mut req);
            let mut out = Vec::new();
            req.edits.write_added(&mut out);
            (req.edits.replaces(b"Cookie"), String::from_utf8(out).unwrap())
        };
        assert_eq!(cookie("Cookie: a=1; t=x; b=2\r\nCookie: c=3\r\n"), (true, "cookie: a=1; b=2; c=3\r\n".into()));
        assert_eq!(cookie("Cookie: t=x\r\n"), (true, String::new()));
        assert_eq!(cookie("Cookie: a=1\r\n"), (false, String::new()));
        let mut req = request("", "Cookie: a=1; t=x; u=y; b=2\r\n");
        for name in ["t", "u", "t"] {
            Place::Cookie(name.into()).strip(&mut req);
        }
        let mut out = Vec::new();
        req.edits.write_added(&mut out);
        assert_eq!(out, b"cookie: a=1; b=2\r\n", "what one has taken out another does not bring back");
    }
}
