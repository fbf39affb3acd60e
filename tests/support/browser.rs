//! A script on a page of some origin, as a browser lets it ask: the CORS protocol of the Fetch standard, step by step
//! (https://fetch.spec.whatwg.org, 4.8 CORS-preflight fetch, 4.10 CORS check). It knows nothing of the gateway.

use super::message::Response;
use super::{Client, Gateway};
use std::collections::HashMap;

/// 4.8, where the answer says nothing.
const MAX_AGE_DEFAULT_S: u64 = 5;

/// What a script asks.
#[derive(Clone, Default)]
pub struct Fetch {
    pub method: String,
    pub path: String,
    pub fields: Vec<(String, String)>,
    /// `credentials: "include"`: cookies go along.
    pub credentials: bool,
    /// The page is public and the server is not.
    pub private_network: bool,
}

impl Fetch {
    pub fn new(method: &str, path: &str) -> Fetch {
        Fetch { method: method.into(), path: path.into(), ..Fetch::default() }
    }

    pub fn field(mut self, name: &str, value: &str) -> Fetch {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub fn with_credentials(mut self) -> Fetch {
        self.credentials = true;
        self
    }
}

/// What a script can see of an answer.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A browser with a page of `origin` open.
pub struct Page<'g> {
    gateway: &'g Gateway,
    pub origin: String,
    /// Preflights that were sent.
    pub preflights: usize,
    /// By path and credentials: methods and field names that may be sent, see 4.9.
    cache: HashMap<(String, bool), (Vec<String>, Vec<String>)>,
}

impl<'g> Page<'g> {
    pub fn of(origin: &str, gateway: &'g Gateway) -> Page<'g> {
        Page { gateway, origin: origin.into(), preflights: 0, cache: HashMap::new() }
    }

    /// What the script sees, or the reason that the console shows for a network error.
    pub fn fetch(&mut self, fetch: &Fetch) -> Result<Seen, String> {
        let unsafe_names = unsafe_names(&fetch.fields);
        if (!is_safe_method(&fetch.method) || !unsafe_names.is_empty()) && !self.is_cached(fetch, &unsafe_names) {
            self.preflight(fetch, &unsafe_names)?;
        }
        let mut head = format!("{} {} HTTP/1.1\r\nHost: gw.test\r\nAccept: */*\r\n", fetch.method, fetch.path);
        head.push_str(&format!("Origin: {}\r\n", self.origin));
        for (name, value) in &fetch.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if fetch.credentials {
            head.push_str("Cookie: sid=1\r\n");
        }
        if fetch.method == "POST" || fetch.method == "PUT" {
            head.push_str("Content-Length: 2\r\n\r\n{}");
        } else {
            head.push_str("\r\n");
        }
        let answer = Client::connect(self.gateway).ask(head);
        self.check(&answer, fetch.credentials)?;
        let exposed = list(&answer, "access-control-expose-headers");
        const SAFE: [&str; 7] = [
            "cache-control",
            "content-language",
            "content-length",
            "content-type",
            "expires",
            "last-modified",
            "pragma",
        ];
        let is_seen = |name: &str| {
            let any = !fetch.credentials && exposed.iter().any(|e| e == "*");
            SAFE.contains(&name) || any || exposed.iter().any(|e| e.eq_ignore_ascii_case(name))
        };
        let lower = answer.fields.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let fields = lower.filter(|(name, _)| is_seen(name)).collect();
        Ok(Seen { status: answer.status, fields, body: answer.text() })
    }

    fn is_cached(&self, fetch: &Fetch, names: &[String]) -> bool {
        self.cache.get(&(fetch.path.clone(), fetch.credentials)).is_some_and(|(methods, headers)| {
            (is_safe_method(&fetch.method) || methods.contains(&fetch.method))
                && names.iter().all(|n| headers.contains(n))
        })
    }

    /// 4.8: without credentials, whatever the request has.
    fn preflight(&mut self, fetch: &Fetch, names: &[String]) -> Result<(), String> {
        self.preflights += 1;
        let mut head = format!("OPTIONS {} HTTP/1.1\r\nHost: gw.test\r\nAccept: */*\r\n", fetch.path);
        head.push_str(&format!("Access-Control-Request-Method: {}\r\n", fetch.method));
        if !names.is_empty() {
            head.push_str(&format!("Access-Control-Request-Headers: {}\r\n", names.join(",")));
        }
        if fetch.private_network {
            head.push_str("Access-Control-Request-Private-Network: true\r\n");
        }
        head.push_str(&format!("Origin: {}\r\n\r\n", self.origin));
        let answer = Client::connect(self.gateway).ask(head);
        self.check(&answer, fetch.credentials)?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("the preflight's status is {}", answer.status));
        }
        let (methods, headers) =
            (list(&answer, "access-control-allow-methods"), list(&answer, "access-control-allow-headers"));
        let any = |list: &[String]| !fetch.credentials && list.iter().any(|item| item == "*");
        if !methods.contains(&fetch.method) && !is_safe_method(&fetch.method) && !any(&methods) {
            return Err(format!("{} is not in Access-Control-Allow-Methods {methods:?}", fetch.method));
        }
        for name in names {
            let named = headers.iter().any(|h| h.eq_ignore_ascii_case(name));
            // Authorization is the one "CORS non-wildcard request-header name".
            if !named && (name == "authorization" || !any(&headers)) {
                return Err(format!("{name} is not in Access-Control-Allow-Headers {headers:?}"));
            }
        }
        if fetch.private_network && answer.fields.get("access-control-allow-private-network") != Some("true") {
            return Err("no Access-Control-Allow-Private-Network".into());
        }
        let max_age = answer.fields.get("access-control-max-age").map_or(MAX_AGE_DEFAULT_S, |s| s.parse().unwrap());
        if max_age > 0 {
            let key = (fetch.path.clone(), fetch.credentials);
            self.cache.insert(key, (vec![fetch.method.clone()], names.to_vec()));
        }
        Ok(())
    }

    /// 4.10. Several lines of one name are one list (2.2.2 "get"), which no origin is.
    fn check(&self, answer: &Response, credentials: bool) -> Result<(), String> {
        let allowed = answer.fields.all("access-control-allow-origin").join(", ");
        if allowed.is_empty() {
            return Err(format!("no Access-Control-Allow-Origin: {}", answer.status));
        }
        if !credentials && allowed == "*" {
            return Ok(());
        }
        if allowed != self.origin {
            return Err(format!("Access-Control-Allow-Origin is {allowed}"));
        }
        let with = answer.fields.all("access-control-allow-credentials").join(", ");
        if credentials && with != "true" {
            return Err(format!("Access-Control-Allow-Credentials is {with:?}"));
        }
        Ok(())
    }
}

fn list(answer: &Response, name: &str) -> Vec<String> {
    let all = answer.fields.all(name).join(",");
    all.split(',').map(|item| item.trim().to_string()).filter(|item| !item.is_empty()).collect()
}

fn is_safe_method(method: &str) -> bool {
    ["GET", "HEAD", "POST"].contains(&method)
}

/// 2.2.2 "CORS-unsafe request-header names", sorted and in small letters.
fn unsafe_names(fields: &[(String, String)]) -> Vec<String> {
    let is_safe = |name: &str, value: &str| match name {
        "accept" | "accept-language" | "content-language" => true,
        "content-type" => {
            let essence = value.split(';').next().unwrap().trim().to_ascii_lowercase();
            ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"].contains(&essence.as_str())
        }
        _ => false,
    };
    let lower = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let mut names: Vec<String> = lower.filter(|(name, value)| !is_safe(name, value)).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names
}
