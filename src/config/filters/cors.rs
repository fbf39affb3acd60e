//! `cors`: which pages of other origins may read the answers.

use http::HeaderName;

use super::super::decode::{Block, Keys, Value};
use super::super::matching;
use super::super::report::quote;
use crate::filter::cors::Origins;
use crate::value::{Duration, Invalid};

pub(in crate::config) const KEYS: Keys = Keys {
    known: &["origins", "methods", "headers", "expose_headers", "credentials", "max_age", "private_network"],
    later: &[],
};

const ORIGINS_MAX: usize = 10_000;
const NAMES_MAX: usize = 100;
/// What browsers keep to at most is a day (Firefox) or two hours (Chromium).
const MAX_AGE_MAX: Duration = Duration::from_secs(86_400);
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// `cors`: with credentials nothing in it stands for all.
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// At least one.
    pub origins: Origins,
    /// As they are to be sent.
    pub methods: String,
    /// As they are to be sent; empty: none.
    pub headers: String,
    /// As they are to be sent; empty: none.
    pub expose_headers: String,
    /// Whether requests may come with cookies and the like.
    pub credentials: bool,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
    /// Whether pages of a public network may ask a private one.
    pub private_network: bool,
}

pub(super) fn decode(value: &Value<'_>) -> Option<Cors> {
    let block = value.block(&KEYS)?;
    let credentials = block.or("credentials", false, Value::boolean);
    let origins = block.required("origins").and_then(|v| origins(v, credentials));
    let method = |text: &str| matching::method(text).map(|method| method.as_str().to_owned());
    Some(Cors {
        methods: list(&block, "methods", credentials, method).unwrap_or(METHODS.to_owned()),
        headers: list(&block, "headers", credentials, field_name).unwrap_or_default(),
        expose_headers: list(&block, "expose_headers", credentials, field_name).unwrap_or_default(),
        credentials,
        max_age: block.or("max_age", Duration::from_secs(600), |v| v.duration(Duration::from_secs(0)..=MAX_AGE_MAX)),
        private_network: block.or("private_network", false, Value::boolean),
        origins: origins?,
    })
}

fn field_name(text: &str) -> Result<String, Invalid> {
    let name = HeaderName::from_bytes(text.as_bytes());
    name.map(|_| text.to_owned()).map_err(|_| Invalid::new("is not a field name", "like content-type"))
}

/// A list as a field has it; `*` among its items stands for all.
fn list(
    block: &Block<'_>,
    key: &str,
    credentials: bool,
    read: impl Fn(&str) -> Result<String, Invalid>,
) -> Option<String> {
    let items = block.get(key)?.list_of(0..=NAMES_MAX, |item| {
        item.parse(|text| match text {
            // Fetch 3.2.2: with credentials it is a name like any other.
            "*" if credentials => {
                Err(Invalid::new("stands for nothing where credentials are sent", "write all of them"))
            }
            "*" => Ok(text.to_owned()),
            _ => read(text),
        })
    })?;
    Some(items.join(", "))
}

fn origins(value: &Value<'_>, credentials: bool) -> Option<Origins> {
    let mut origins = Origins::default();
    let items = value.list(1..=ORIGINS_MAX)?;
    let total = items.len();
    let mut all_right = true;
    for item in items {
        let taken = item.parse(|text| match text {
            "*" if credentials => Err(Invalid::new(
                "would let every page on the web act as the user who visits it",
                "with credentials, write the origins that may",
            )),
            "*" if total > 1 => {
                Err(Invalid::new("is every origin, and others stand beside it", "remove it, or the others"))
            }
            "null" if credentials => Err(Invalid::new(
                "is the origin of any page in a sandboxed frame",
                "with credentials it would let them all in; remove it",
            )),
            _ => origin(text),
        });
        match taken {
            Some(Origin::Any) => origins.any = true,
            Some(Origin::Exact(origin)) => drop(origins.exact.insert(origin)),
            Some(Origin::Wildcard(front, end)) => origins.wildcards.push((front, end)),
            None => all_right = false,
        }
    }
    all_right.then_some(origins)
}

enum Origin {
    Any,
    Exact(String),
    Wildcard(String, String),
}

/// `https://app.example.com`, `https://*.example.com:8443`, `*` or `null`, as browsers write it (RFC 6454 6.1).
fn origin(text: &str) -> Result<Origin, Invalid> {
    const LIKE: &str = "like https://app.example.com, https://*.example.com, * or \"null\"";
    let invalid = |what: &str, remedy: &str| Err(Invalid::new(what, remedy));
    match text {
        "*" => return Ok(Origin::Any),
        "null" => return Ok(Origin::Exact("null".to_owned())),
        _ => {}
    }
    let Some((scheme, rest)) = text.split_once("://") else { return invalid("is not an origin", LIKE) };
    let plain = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    if scheme.is_empty() || !plain(scheme, b"+-.") || text.len() > 512 {
        return invalid("is not an origin", LIKE);
    }
    if rest.contains(['/', '?', '#', '@']) {
        return invalid("is more than an origin", "end it behind host and port, without a slash");
    }
    let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.to_ascii_lowercase());
    let port_at = rest.rfind(':').filter(|at| !rest.get(*at..).unwrap_or_default().contains(']'));
    let (host, port) = rest.split_at(port_at.unwrap_or(rest.len()));
    let default = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    if !port.is_empty() {
        if port == default {
            return invalid("has the port that browsers leave out", &format!("write {scheme}://{host}"));
        }
        if port.get(1..).and_then(|digits| digits.parse::<u16>().ok()).is_none_or(|n| format!(":{n}") != port) {
            return invalid("has no valid port", LIKE);
        }
    }
    let (name, is_wildcard) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
    let is_address = host.starts_with('[') && host.ends_with(']');
    if name.contains('*') {
        return invalid("has a `*` that is not its host's first label", LIKE);
    }
    let named = !name.is_empty() && name.split('.').all(|label| !label.is_empty() && plain(label, b"-_"));
    let addressed = is_address && plain(name, b"[]:.");
    if !named && !addressed {
        return invalid(&format!("has no valid host: {}", quote(host)), LIKE);
    }
    Ok(match is_wildcard {
        true => Origin::Wildcard(format!("{scheme}://"), format!(".{name}{port}")),
        false => Origin::Exact(format!("{scheme}://{host}{port}")),
    })
}
