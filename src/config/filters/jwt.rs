//! `jwt`: whose tokens are accepted, what they must say, and what is made of it. Keys in files are read at once: what is
//! wrong with one stands among the other errors, at the place of its name. No secret stands in the config itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderName, Uri};

use super::super::decode::{Block, Keys, Value};
use super::super::headers::{Direction, check_field, is_same};
use super::super::report::quote;
use super::super::secrets;
use super::super::tls;
use super::super::tree::{Kind, Scalar};
use crate::http::known::is_same_name;
use crate::jwt::algorithm::{Algorithms, NAMES};
use crate::jwt::jwks::{KEYS_MAX, KID_BYTES_MAX};
use crate::jwt::key::Key;
use crate::jwt::rules::{Rules, Scopes, Wanted};
use crate::tls::{ClientFiles, files};
use crate::value::{ByteSize, Duration, Invalid};

pub(in crate::config) const KEYS: Keys = Keys {
    known: &[
        "issuer",
        "audience",
        "jwks",
        "keys",
        "algorithms",
        "from",
        "leeway",
        "expiry",
        "claims",
        "scopes",
        "principal",
        "claim_headers",
        "forward",
        "optional",
        "realm",
        "max_token",
    ],
    later: &[],
};
pub(in crate::config) const JWKS_KEYS: Keys =
    Keys { known: &["url", "ca", "refresh_min", "refresh_max", "cooldown"], later: &[] };
pub(in crate::config) const KEY_KEYS: Keys =
    Keys { known: &["kid", "algorithm", "public_key", "secret", "secret_file"], later: &[] };
pub(in crate::config) const SCOPES_KEYS: Keys = Keys { known: &["any", "all"], later: &[] };

/// Longer lists of texts are a mistake: each is compared with each of a token's.
const TEXTS_MAX: usize = 100;
const TEXT_BYTES_MAX: usize = 1024;
/// Places of a token that are looked at for every request.
const PLACES_MAX: usize = 4;
const HEADERS_MAX: usize = 32;
/// A token fits into a head.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// `jwt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    /// What a token must say.
    pub rules: Rules,
    /// Keys of the config.
    pub keys: Arc<[Key]>,
    /// Where secrets among them were read.
    pub secret_files: Vec<PathBuf>,
    /// Where further keys are fetched.
    pub jwks: Option<Jwks>,
    /// Where a token may be, in order.
    pub from: Vec<Place>,
    /// Longer tokens are refused.
    pub token_max: ByteSize,
    /// Names of the fields that tell of [`Rules::taken`], in its order.
    pub headers: Vec<String>,
    /// The token goes on to the upstream.
    pub forward: bool,
    /// Requests without a token pass.
    pub optional: bool,
    /// For WWW-Authenticate.
    pub realm: String,
}

/// Where keys are fetched, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks {
    /// http or https, with a host.
    pub url: Uri,
    /// Whom to trust there, for https.
    pub tls: Option<ClientFiles>,
    /// Keys are used at least so long, whatever the server says of it.
    pub refresh_min: Duration,
    /// And at most so long.
    pub refresh_max: Duration,
    /// Between two fetches for keys that are not known.
    pub cooldown: Duration,
}

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A header field, in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

pub(super) fn jwt(value: &Value<'_>) -> Option<Jwt> {
    let block = value.block(&KEYS)?;
    // What nobody checks is the most common hole there is: to leave it out takes a word.
    let issuers = block.required("issuer").and_then(any_or_texts);
    let audiences = block.required("audience").and_then(any_or_texts);
    let algorithms = block.unless_wrong("algorithms", Algorithms::ALL, algorithms);
    let keys = block.or("keys", Vec::new(), |v| v.list_of(1..=KEYS_MAX, |v| key(v, algorithms)));
    let (keys, secret_files): (Vec<Key>, Vec<Option<PathBuf>>) = keys.into_iter().unzip();
    let jwks = block.get("jwks").and_then(jwks);
    if block.get("keys").or(block.get("jwks")).is_none() {
        value.error("has no keys to check tokens with", "give keys, or jwks: the URL of a key set");
    }
    if algorithms.is_some_and(|given| given.and(Algorithms::HMAC) == given) && jwks.is_some() {
        let what = "lists none that a fetched key can be for";
        block.get("algorithms").unwrap_or(value).error(what, "a key set has public keys: RS256, ES256, EdDSA, …");
    }
    let claim_headers = block.or("claim_headers", Vec::new(), claim_headers);
    let from = block.or("from", vec![Place::Header("authorization".to_owned())], places);
    let is_in =
        |place: &Place, name: &str| matches!(place, Place::Header(of) if is_same_name(of.as_bytes(), name.as_bytes()));
    let holds_token = |name: &str| from.iter().any(|place| is_in(place, name));
    let has_cookie = from.iter().any(|place| matches!(place, Place::Cookie(_)));
    let holds_token = |name: &str| holds_token(name) || (is_same_name(name.as_bytes(), b"cookie") && has_cookie);
    if let Some((name, _)) = claim_headers.iter().find(|(name, _)| holds_token(name)) {
        let at = block.get("claim_headers").unwrap_or(value);
        at.error(format!("{} is where the token is", quote(name)), "give the claim a field of its own");
    }
    let (headers, taken): (Vec<String>, Vec<String>) = claim_headers.into_iter().unzip();
    let leeway =
        block.or("leeway", Duration::from_secs(60), |v| v.duration(Duration::from_secs(0)..=Duration::from_secs(600)));
    let rules = Rules {
        algorithms: algorithms?,
        issuers: issuers?,
        audiences: audiences?,
        leeway_s: leeway.get().as_secs_f64(),
        expiry_required: block.or("expiry", true, |v| v.word(&[("required", true), ("optional", false)], &[])),
        claims: block.or("claims", Vec::new(), claims),
        scopes: block.or("scopes", Scopes::None, scopes),
        principal: block.or("principal", Some("sub".to_owned()), |v| v.or_none(text)),
        taken,
    };
    Some(Jwt {
        rules,
        keys: keys.into(),
        secret_files: secret_files.into_iter().flatten().collect(),
        jwks,
        from,
        token_max: block.or("max_token", ByteSize::from_kib(8), |v| {
            v.size(ByteSize::from_bytes(64)..=ByteSize::from_bytes(TOKEN_BYTES_MAX))
        }),
        headers,
        forward: block.or("forward", true, Value::boolean),
        optional: block.or("optional", false, Value::boolean),
        realm: block.or("realm", "api".to_owned(), |v| v.parse(quotable)),
    })
}

fn text(value: &Value<'_>) -> Option<String> {
    value.line(TEXT_BYTES_MAX).map(|text| text.value)
}

/// One text or a list of them.
fn texts(value: &Value<'_>) -> Option<Vec<String>> {
    if value.is_list() { value.each_once(1..=TEXTS_MAX, text, |text| text) } else { Some(vec![text(value)?]) }
}

/// None for `any`.
fn any_or_texts(value: &Value<'_>) -> Option<Vec<String>> {
    value.or_word("any", texts).map(Option::unwrap_or_default)
}

fn algorithms(value: &Value<'_>) -> Option<Algorithms> {
    let one = |v: &Value<'_>| v.word(&NAMES, &[]).map(Algorithms::only);
    if !value.is_list() {
        return one(value);
    }
    Some(value.list_of(1..=NAMES.len(), one)?.into_iter().fold(Algorithms::default(), Algorithms::or))
}

/// A key of the config, and the file of its secret. `accepted` is `None` if what is accepted is wrong, which was said.
fn key(value: &Value<'_>, accepted: Option<Algorithms>) -> Option<(Key, Option<PathBuf>)> {
    let block = value.block(&KEY_KEYS)?;
    let kid = block.unless_wrong("kid", None, |v| v.line(KID_BYTES_MAX).map(|kid| Some(kid.value)))?;
    let wanted = block.unless_wrong("algorithm", None, |v| algorithms(v).map(Some));
    let given: Vec<_> = ["public_key", "secret", "secret_file"].iter().filter_map(|key| block.get(key)).collect();
    let [source] = given.as_slice() else {
        value.error("is no key", "give it exactly one of public_key, secret and secret_file");
        return None;
    };
    let wanted = wanted?;
    let secrets = wanted.unwrap_or_else(|| Algorithms::only(jsonwebtoken::Algorithm::HS256));
    let key = if block.get("public_key").is_some() {
        file(source, |bytes| Key::from_pem(kid.as_deref(), bytes, wanted))
    } else if block.get("secret_file").is_some() {
        file(source, |bytes| Key::from_secret(kid.as_deref(), without_line_end(bytes), secrets))
    } else {
        secret(source, kid.as_deref(), secrets)
    }?;
    if accepted.is_some_and(|accepted| key.algorithms().and(accepted).is_empty()) {
        let what = format!("is for {}, which `algorithms` does not list", names(key.algorithms()));
        value.error(what, "add it there, or remove the key");
    }
    Some((key, block.get("secret_file").and_then(Value::text).map(PathBuf::from)))
}

fn names(algorithms: Algorithms) -> String {
    algorithms.names().collect::<Vec<_>>().join(", ")
}

/// A secret from a variable. It is in no error.
fn secret(value: &Value<'_>, kid: Option<&str>, wanted: Algorithms) -> Option<Key> {
    let text = value.text()?;
    let written = |scalar: &Scalar| scalar.written.as_deref().is_some_and(secrets::is_one_variable);
    let is_variable = matches!(&value.node().kind, Kind::Scalar(scalar) if written(scalar));
    if !is_variable {
        value.error("a secret does not stand in the config", "write secret: \"${NAME}\", or secret_file: /path/of/it");
        return None;
    }
    match Key::from_secret(kid, text.as_bytes(), wanted) {
        Ok(key) => Some(key),
        Err(fault) => {
            value.error(fault.what, fault.remedy);
            None
        }
    }
}

/// What an editor or `echo` puts at the end of a file is not part of a secret.
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn file(value: &Value<'_>, read: impl FnOnce(&[u8]) -> Result<Key, Invalid>) -> Option<Key> {
    value.parse(|text| {
        if !text.starts_with('/') || text.contains(char::is_control) {
            return Err(Invalid::new("is not the absolute path of a file", "write it from the `/` on"));
        }
        read(&files::read(Path::new(text))?)
    })
}

fn jwks(value: &Value<'_>) -> Option<Jwks> {
    if !value.is_mapping() {
        return jwks_of(value.parse(url)?, None, value);
    }
    let block = value.block(&JWKS_KEYS)?;
    let url = block.required("url").and_then(|v| v.parse(url));
    let refreshes = [("refresh_min", 300), ("refresh_max", 3600), ("cooldown", 30)].map(|(key, default)| {
        block.or(key, Duration::from_secs(default), |v| {
            v.duration(Duration::from_secs(1)..=Duration::from_secs(24 * 3600))
        })
    });
    let [refresh_min, refresh_max, cooldown] = refreshes;
    if refresh_min > refresh_max {
        let at = block.get("refresh_min").or(block.get("refresh_max")).unwrap_or(value);
        at.error(format!("{refresh_min} is more than refresh_max, which is {refresh_max}"), "");
    }
    let jwks = jwks_of(url?, Some(&block), value)?;
    Some(Jwks { refresh_min, refresh_max, cooldown, ..jwks })
}

fn jwks_of(url: Uri, block: Option<&Block<'_>>, value: &Value<'_>) -> Option<Jwks> {
    let ca = block.and_then(|block| block.get("ca"));
    let is_https = url.scheme_str() == Some("https");
    let tls = match ca {
        Some(ca) if !is_https => {
            ca.error("there is no TLS with an http URL", "write https, or remove it");
            return None;
        }
        None if !is_https => None,
        _ => Some(ClientFiles { ca: tls::authorities(ca, value)?, ..ClientFiles::default() }),
    };
    Some(Jwks {
        url,
        tls,
        refresh_min: Duration::from_secs(300),
        refresh_max: Duration::from_secs(3600),
        cooldown: Duration::from_secs(30),
    })
}

fn url(text: &str) -> Result<Uri, Invalid> {
    const REMEDY: &str = "write it whole, like https://id.example.com/jwks.json";
    let url: Uri = text.parse().map_err(|_| Invalid::new("is not a URL", REMEDY))?;
    let authority = url.authority().filter(|authority| !authority.host().is_empty());
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.is_none() {
        return Err(Invalid::new("is not a URL with http or https and a host", REMEDY));
    }
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Invalid::new("has a user name in it", "key sets are public; remove it"));
    }
    // A port that is none would be taken for the usual one.
    if authority.is_some_and(|authority| authority.port_u16().is_none() && has_port(authority.as_str())) {
        return Err(Invalid::new("has a port that is none", "one of 1 to 65535"));
    }
    Ok(url)
}

/// Whether a port is named behind host and brackets.
fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
}

fn claims(value: &Value<'_>) -> Option<Vec<(String, Wanted)>> {
    let mut claims = Vec::new();
    for (key, value) in value.entries(TEXTS_MAX)? {
        if let Some(wanted) = value.or_word("present", texts) {
            claims.push((key.text.clone(), wanted.map_or(Wanted::Present, Wanted::OneOf)));
        }
    }
    Some(claims)
}

fn scopes(value: &Value<'_>) -> Option<Scopes> {
    let block = value.block(&SCOPES_KEYS)?;
    let read = |key| {
        let list = |v: &Value<'_>| v.each_once(1..=TEXTS_MAX, |v| v.parse(scope), |scope| scope);
        block.get(key).map(|v| list(v).unwrap_or_default())
    };
    match (read("any"), read("all")) {
        (Some(any), None) => Some(Scopes::Any(any)),
        (None, Some(all)) => Some(Scopes::All(all)),
        _ => {
            value.error("says how many of which scopes", "give it exactly one of any and all, like { any: [read] }");
            None
        }
    }
}

/// RFC 6749 3.3
fn scope(text: &str) -> Result<String, Invalid> {
    let is_whole = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if is_whole {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("is not a scope", "visible ASCII, each one by itself"))
    }
}

/// What can stand in quotes in a field.
fn quotable(text: &str) -> Result<String, Invalid> {
    let is_plain = |b: u8| (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'"' | b'\\');
    if !text.is_empty() && text.len() <= 128 && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("is not a realm", "1 to 128 characters of visible ASCII, without `\"` and `\\`"))
}

/// Fields and the claims that they tell of.
fn claim_headers(value: &Value<'_>) -> Option<Vec<(String, String)>> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for (key, value) in value.entries(HEADERS_MAX)? {
        let name = key.text.as_str();
        let claim = text(&value);
        if let Err(fault) = check_field(name, Direction::Request) {
            value.at_key(key).error(format!("{} {}", quote(name), fault.what), fault.remedy);
        } else if fields.iter().any(|(field, _)| is_same(field, name)) {
            value.at_key(key).error(format!("{} is given twice", quote(name)), "remove one");
        } else if let Some(claim) = claim {
            fields.push((name.to_owned(), claim));
        }
    }
    Some(fields)
}

fn places(value: &Value<'_>) -> Option<Vec<Place>> {
    if value.is_list() {
        return value.list_of(1..=PLACES_MAX, |v| v.parse(place));
    }
    Some(vec![value.parse(place)?])
}

fn place(text: &str) -> Result<Place, Invalid> {
    let place = match text.split_once('.') {
        Some((_, name)) if name.is_empty() || name.len() > 128 => None,
        Some(("header", name)) => HeaderName::from_bytes(name.as_bytes()).ok().map(|n| Place::Header(n.to_string())),
        // RFC 6265 4.1.1: a cookie's name is a token.
        Some(("cookie", name)) => HeaderName::from_bytes(name.as_bytes()).ok().map(|_| Place::Cookie(name.to_owned())),
        Some(("query", name)) if !name.contains(['=', '&', '#', '%', '+']) => Some(Place::Query(name.to_owned())),
        _ => None,
    };
    place.ok_or_else(|| {
        Invalid::new("is no place of a token", "write header.NAME, cookie.NAME, query.NAME or a list of these")
    })
}
