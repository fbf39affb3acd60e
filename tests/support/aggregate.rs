//! What scenarios of `aggregate` are told with: a route whose answer is put together, upstreams that answer JSON by path,
//! and how the answers are read.

use super::message::{Request, Response};
use super::upstream::Conn;
use super::wire::show;
use super::{Setup, Upstream};

/// A part that asks upstream `u` for a path, with further keys as in a flow map.
pub fn part(name: &str, path: &str, keys: &str) -> String {
    part_of("u", name, path, keys)
}

/// The same of another upstream.
pub fn part_of(upstream: &str, name: &str, path: &str, keys: &str) -> String {
    asks(name, upstream, &format!("path: \"{path}\""), keys)
}

/// The same with the keys of its `request` spelled out.
pub fn asks(name: &str, upstream: &str, request: &str, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!("{{ name: {name}, upstream: {upstream}, request: {{ {request} }}{comma}{keys} }}")
}

impl Setup {
    /// A route `page` for `/page/{id}` and any method, made of these parts, with further keys of `aggregate`.
    pub fn page(self, keys: &str, parts: &[String]) -> Setup {
        self.page_within("10s", keys, parts)
    }

    /// The same with a deadline for the whole.
    pub fn page_within(self, timeout: &str, keys: &str, parts: &[String]) -> Setup {
        let route = format!("name: page, match: {{ path: \"/page/{{id}}\" }}, timeout: {timeout}");
        self.aggregate(&route, keys, parts)
    }

    /// A route with these keys whose answer is put together.
    pub fn aggregate(self, route: &str, keys: &str, parts: &[String]) -> Setup {
        let comma = if keys.is_empty() { "" } else { ", " };
        let parts = parts.join(",\n      ");
        self.route(&format!("{route}, aggregate: {{ {keys}{comma}parts: [\n      {parts}\n    ] }}"))
    }
}

impl Upstream {
    /// Answers each request with what `say` makes of it.
    pub fn by(say: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Upstream {
        Upstream::start(by(say))
    }

    /// Answers JSON by path, whatever the query; 404 to all else.
    pub fn pages(pages: &[(&str, &str)]) -> Upstream {
        let pages: Vec<(String, Vec<u8>)> = pages.iter().map(|(path, body)| ((*path).into(), json(body))).collect();
        Upstream::by(move |request| {
            let page = pages.iter().find(|(path, _)| path == path_of(request));
            page.map_or_else(|| json_of(404, "", r#"{"error":"no such page"}"#), |(_, answer)| answer.clone())
        })
    }

    /// The targets that were asked for, in the order of their arrival.
    pub fn targets(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.target).collect()
    }
}

/// The script of [`Upstream::by`].
pub fn by(say: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    move |conn| {
        while let Some(request) = conn.request() {
            if !conn.write(say(&request)) {
                return;
            }
        }
    }
}

/// What is asked for, up to its `?`.
pub fn path_of(request: &Request) -> &str {
    request.target.split('?').next().unwrap()
}

/// A 200 of JSON.
pub fn json(body: impl AsRef<[u8]>) -> Vec<u8> {
    json_of(200, "", body)
}

/// An answer of JSON with this status, and further field lines that each end in CRLF.
pub fn json_of(status: u16, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!(
        "HTTP/1.1 {status} Any\r\n{lines}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

/// A body with each `"ms":…` as `"ms":0`: how long a part took differs from run to run.
pub fn timeless(body: &[u8]) -> String {
    let text = String::from_utf8(body.to_vec()).unwrap_or_else(|_| panic!("not UTF-8: {}", show(body)));
    let mut pieces = text.split("\"ms\":");
    let mut out = pieces.next().unwrap().to_string();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        assert!(rest.len() < piece.len(), "ms without a number: {text}");
        out = out + "\"ms\":0" + rest;
    }
    out
}

impl Response {
    fn is_aggregated(&self, status: u16, completed: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.fields.get("content-type"), Some("application/json; charset=utf-8"), "{self:?}");
        assert_eq!(self.fields.get("x-gateway-completed"), Some(completed), "{self:?}");
        let cache = if completed == "true" { None } else { Some("no-store") };
        assert_eq!(self.fields.get("cache-control"), cache, "{self:?}");
    }

    /// Asserts that every part is well, and gives the bytes of `data`.
    pub fn data(&self) -> String {
        self.is_aggregated(200, "true");
        let text = timeless(&self.body);
        let data = text.strip_prefix("{\"code\":0,\"message\":\"OK\",\"data\":").and_then(|t| t.strip_suffix('}'));
        data.unwrap_or_else(|| panic!("not the envelope of a success: {self:?}")).to_string()
    }

    /// Asserts that the answer is partial: the bytes of `data` and of `meta`, without the time that parts took.
    pub fn partial(&self) -> (String, String) {
        self.is_aggregated(200, "false");
        let text = timeless(&self.body);
        let data = text.strip_prefix("{\"code\":1,\"message\":\"partial\",\"data\":").and_then(|t| t.strip_suffix('}'));
        let cut = data.and_then(|data| data.rsplit_once(",\"meta\":"));
        let (data, meta) = cut.unwrap_or_else(|| panic!("not the envelope of a partial answer: {self:?}"));
        (data.to_string(), meta.to_string())
    }

    /// Asserts that the whole failed with this status because of these parts, and gives its meta.
    pub fn failed(&self, status: u16, parts: &[&str]) -> serde_json::Value {
        self.is_aggregated(status, "false");
        let envelope = self.json();
        let mut keys: Vec<&String> = envelope.as_object().unwrap().keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "data", "message", "meta", "request_id"], "{self:?}");
        let text = self.text();
        assert!(text.starts_with(&format!("{{\"code\":{status}")), "{text}");
        assert_eq!(envelope["code"].as_u64().unwrap() / 100, u64::from(status), "{text}");
        assert!(envelope["data"].is_null() && !envelope["message"].as_str().unwrap().is_empty(), "{text}");
        assert!(!envelope["request_id"].as_str().unwrap().is_empty(), "{text}");
        assert_eq!(envelope["meta"]["failed"], serde_json::json!(parts), "{text}");
        envelope["meta"].clone()
    }

    /// The reason of a part that is not well, from the meta of an answer.
    pub fn reason(&self, part: &str) -> String {
        let reason = &self.json()["meta"]["parts"][part]["reason"];
        reason.as_str().unwrap_or_else(|| panic!("no reason of {part}: {self:?}")).to_string()
    }
}
