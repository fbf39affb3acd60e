//! `request_headers`, `response_headers` and the `headers` of an answer: which fields may be changed, and how.

use super::decode::{Keys, Value};
use super::report::{Located, quote};
use super::templates::{self, Params};
use crate::http::head::is_token;
use crate::http::known::{Known, is_same_name};
use crate::route::facts::LEFT;
use crate::route::template::Template;
use crate::value::Invalid;

pub(super) const EDIT_KEYS: Keys = Keys { known: &["rename", "remove", "set", "append", "add"], later: &[] };

/// Each is work for every request; more than this is a mistake.
const FIELDS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 128;
/// Fits into the head of a message beside everything else.
const VALUE_BYTES_MAX: usize = 4096;

/// Changes to the header fields of a message, in the order `rename`, `remove`, `set`, `append`, `add`. No name is both
/// removed and given, or renamed and removed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeaderEdits {
    /// Old names and new ones.
    pub rename: Vec<(String, String)>,
    /// Becomes the last member of the list that the field has.
    pub append: Vec<HeaderTemplate>,
    /// Replaces every field of that name.
    pub set: Vec<HeaderTemplate>,
    /// Comes after what the message has.
    pub add: Vec<HeaderTemplate>,
    /// Names of fields that are taken out.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        let Self { rename, remove, set, append, add } = self;
        rename.is_empty() && remove.is_empty() && set.is_empty() && append.is_empty() && add.is_empty()
    }
}

/// A header field to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderTemplate {
    /// A token of RFC 9110 5.6.2, in the case that the operator wrote.
    pub name: String,
    /// A template, see [`Template::parse_header`]; that of a filter is one for every route that uses it.
    pub value: Located<String>,
}

/// Whose fields they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    /// A request whose fields are written when it is sent to the upstream.
    Sent,
    /// A request of the gateway's own, of a part of an aggregation or of a filter.
    Part,
    Response,
}

/// Fields that belong to one connection or say where a message ends: the gateway writes them itself, since one wrong
/// value would let a message be cut in two (RFC 9110 7.6.1, RFC 9112 6).
const OWN_FIELDS: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// With these the answer would be coded, cut, left out or put off, and it is needed whole. `if-` is a prefix.
const WHOLE_ANSWER_FIELDS: [&str; 4] = ["accept-encoding", "expect", "if-", "range"];

/// Fields that are no lists: a second member would be another meaning, or none (RFC 9110 5.6.1, RFC 6265 3).
const NO_LISTS: [&str; 34] = [
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "access-control-max-age",
    "access-control-request-method",
    "age",
    "authorization",
    "content-disposition",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "date",
    "etag",
    "expires",
    "from",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "user-agent",
    "x-content-type-options",
    "x-frame-options",
];

/// The changes to a message; `params` are what their templates may name.
pub(super) fn edits(value: &Value<'_>, direction: Direction, params: &Params) -> Option<HeaderEdits> {
    let block = value.block(&EDIT_KEYS)?;
    let set = block.or("set", Vec::new(), |v| fields(v, direction, params));
    let add = block.or("add", Vec::new(), |v| fields(v, direction, params));
    let remove = block.or("remove", Vec::new(), |v| v.list_of(0..=FIELDS_MAX, |item| removed(item, direction)));
    for (name, value) in &remove {
        if set.iter().chain(&add).any(|field| is_same(&field.name, name)) {
            value.error(format!("{} is both given and removed", quote(name)), "`set` alone replaces what was there");
        }
    }
    let append = block.or("append", Vec::new(), |v| {
        // An append is made before the request is sent.
        let is_sent = direction == Direction::Sent;
        let direction = if is_sent { Direction::Request } else { direction };
        let appended = fields(v, direction, params)?;
        for field in &appended {
            if let Err(fault) = check_append(&field.name) {
                v.error(format!("{} {}", quote(&field.name), fault.what), fault.remedy);
            }
            // What is set only when the request is sent is not there yet.
            let is_timed = |other: &HeaderTemplate| Template::names(&other.value.value).contains(&LEFT);
            if is_sent && set.iter().any(|other| is_same(&other.name, &field.name) && is_timed(other)) {
                let what = format!("{} is set to a time that is known when the request is sent", quote(&field.name));
                v.error(format!("{what}: nothing can be appended to it"), "write all of it in `set`");
            }
        }
        Some(appended)
    });
    let rename = block.or("rename", Vec::new(), |v| rename(v, direction));
    if let Some(at) = block.get("rename") {
        for name in rename.iter().flat_map(|(old, new)| [old, new]) {
            let same = |other: &str| is_same(other, name);
            if remove.iter().any(|(removed, _)| same(removed)) || set.iter().any(|field| same(&field.name)) {
                let what = format!("{} is renamed, and removed or set as well", quote(name));
                at.error(what, "rename comes first: remove one of the two");
            }
        }
    }
    Some(HeaderEdits { rename, set, append, add, remove: remove.into_iter().map(|(name, _)| name).collect() })
}

/// Old names and new ones: each name is only once in it, so that the order does not matter.
fn rename(value: &Value<'_>, direction: Direction) -> Option<Vec<(String, String)>> {
    let mut list: Vec<(String, String)> = Vec::new();
    for (key, value) in value.entries(FIELDS_MAX)? {
        let check = |name: &str| check_field(name, direction).and_then(|()| check_passes(name));
        let old = key.text.as_str();
        let new = value.parse(|text| check(text).map(|()| text.to_owned()));
        if let Err(fault) = check(old) {
            value.at_key(key).error(format!("{} {}", quote(old), fault.what), fault.remedy);
            continue;
        }
        let Some(new) = new else { continue };
        let same = |other: &str| is_same(other, old) || is_same(other, &new);
        if is_same(old, &new) {
            value.error(format!("{} keeps its name: {NAMES}", quote(old)), "remove it");
        } else if list.iter().any(|(old, new)| same(old) || same(new)) {
            value.error(format!("{} or {} is renamed already", quote(old), quote(&new)), "name each field only once");
        } else {
            list.push((old.to_owned(), new));
        }
    }
    Some(list)
}

fn check_append(name: &str) -> Result<(), Invalid> {
    if NO_LISTS.iter().any(|other| is_same(name, other)) {
        let remedy = "use set; or add, for another field of that name";
        return Err(Invalid::new("is no list that a member can be appended to", remedy));
    }
    check_passes(name)
}

/// What the gateway writes itself, or believes from nobody, can not be made of what came.
fn check_passes(name: &str) -> Result<(), Invalid> {
    match Known::of(name.as_bytes()) {
        Known::Other | Known::Authorization | Known::Date | Known::StrictTransportSecurity => Ok(()),
        _ => {
            Err(Invalid::new("can not be made of what came: the gateway decides about it", "use set, with a template"))
        }
    }
}

/// A mapping of field names to templates.
pub(super) fn fields(value: &Value<'_>, direction: Direction, params: &Params) -> Option<Vec<HeaderTemplate>> {
    let parse = |text: &str, params: &[String]| match direction {
        Direction::Sent => Template::parse_sent_header(text, params, &[]),
        _ => Template::parse_header(text, params),
    };
    fields_read_by(value, direction, |value, text| templates::checked(value, text, params, parse))
}

/// The same; `read` gives a template back if nothing is wrong with it.
pub(super) fn fields_read_by<'d>(
    value: &Value<'d>,
    direction: Direction,
    read: impl Fn(&Value<'d>, Located<String>) -> Option<Located<String>>,
) -> Option<Vec<HeaderTemplate>> {
    let mut fields: Vec<HeaderTemplate> = Vec::new();
    for (key, value) in value.entries(FIELDS_MAX)? {
        let name = key.text.as_str();
        let template = field_text(&value).and_then(|text| read(&value, text));
        if let Err(fault) = check_field(name, direction) {
            value.at_key(key).error(format!("{} {}", quote(name), fault.what), fault.remedy);
        } else if fields.iter().any(|field| is_same(&field.name, name)) {
            value.at_key(key).error(format!("{} is given twice", quote(name)), format!("{NAMES}; remove one"));
        } else if let Some(value) = template {
            fields.push(HeaderTemplate { name: name.to_owned(), value });
        }
    }
    Some(fields)
}

/// An empty value is allowed (RFC 9110 5.5), but only in quotes: without them it is more likely forgotten.
fn field_text(value: &Value<'_>) -> Option<Located<String>> {
    match value.text()? {
        "" => Some(value.locate(String::new())),
        _ => value.line(VALUE_BYTES_MAX),
    }
}

fn removed<'d>(item: &Value<'d>, direction: Direction) -> Option<(String, Value<'d>)> {
    let name = item.parse(|text| check_field(text, direction).map(|()| text.to_owned()))?;
    Some((name, item.clone()))
}

/// Why two names are one.
pub(super) const NAMES: &str = "field names do not differ by case, nor by `_` for `-`";

/// Whether two names are one: to some upstreams `_` and `-` are the same.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    is_same_name(a.as_bytes(), b.as_bytes())
}

/// The name of any field.
pub(super) fn check_field_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        let remedy = "1 to 128 letters, digits and signs such as `-`; no spaces, no `:`";
        return Err(Invalid::new("is not a field name", remedy));
    }
    Ok(())
}

pub(super) fn check_field(name: &str, direction: Direction) -> Result<(), Invalid> {
    check_field_name(name)?;
    if let Some(own) = OWN_FIELDS.iter().find(|own| is_same(name, own)) {
        return Err(Invalid::new(format!("can not be changed: the gateway itself writes {own}"), "remove it"));
    }
    if name.eq_ignore_ascii_case("host") {
        let remedy = match direction {
            Direction::Request | Direction::Sent => "use rewrite.host of the route",
            Direction::Part => "the upstream gets the address of its endpoint; remove it",
            Direction::Response => "it is a field of requests; remove it",
        };
        return Err(Invalid::new("can not be changed here", remedy));
    }
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let cuts = |field: &str| if field.ends_with('-') { lower.starts_with(field) } else { lower == field };
    if direction == Direction::Part && WHOLE_ANSWER_FIELDS.iter().any(|field| cuts(field)) {
        return Err(Invalid::new("can not be sent: the answer is needed whole and plain", "remove it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{report::Report, tree};
    use super::*;

    fn read(text: &str) -> Result<HeaderEdits, String> {
        let report = Report::new("f");
        let root = tree::read(text, &|_| None, &report).unwrap();
        let edits = edits(&Value::root(&root, &report), Direction::Request, &Params::Any);
        report.finish(edits).map_err(|errors| errors.to_string())
    }

    #[test]
    fn edits_keep_order_case_and_place() {
        let edits = read("set: { X-B: '{host}', x-a: '' }\nadd: { Vary: Accept }\nremove: [x-debug]").unwrap();
        let set: Vec<_> = edits.set.iter().map(|field| (field.name.as_str(), field.value.value.as_str())).collect();
        assert_eq!(set, [("X-B", "{host}"), ("x-a", "")]);
        assert_eq!((edits.set[0].value.at.line, edits.set[0].value.at.key_path.as_str()), (1, "set.X-B"));
        assert_eq!(edits.remove, ["x-debug"]);
        assert!(HeaderEdits::default().is_empty() && !edits.is_empty());
    }

    #[test]
    fn fields_that_would_break_a_message_are_refused() {
        let twins = ["Content_Length", "transfer_encoding", "KEEP_alive"];
        for name in OWN_FIELDS.iter().copied().chain(twins).chain(["Host", "Content-LENGTH", "x y", "x:", "é", ""]) {
            assert!(read(&format!("set: {{ {name:?}: x }}")).is_err(), "{name}");
            assert!(read(&format!("remove: [{name:?}]")).is_err(), "{name}");
        }
        assert!(read("set: { Host: a }").unwrap_err().contains("rewrite.host"));
        assert!(read(r#"set: { x: "a\r\nb: c" }"#).unwrap_err().contains("control character"));
        assert!(read("set: { x: }").unwrap_err().contains("is empty"));
        assert!(read("set: { x: a, X: b }").unwrap_err().contains("given twice"));
        assert!(read("set: { x: a }\nremove: [X]").unwrap_err().contains("both given and removed"));
        assert!(read("set: { x-a: a, X_A: b }").unwrap_err().contains("given twice"));
        assert!(read("set: { x-a: a }\nremove: [x_a]").unwrap_err().contains("both given and removed"));
        for text in ["rename: { x-a: Content-Length }", "rename: { Host: x }", "append: { Connection: close }"] {
            assert!(read(text).unwrap_err().contains("can not be changed"), "{text}");
        }
    }

    #[test]
    fn what_is_renamed_or_appended_to_is_decided_by_nobody_else() {
        let edits = read("rename: { x-Old: X-New }\nappend: { Accept-Language: de }\nadd: { x-new: a }").unwrap();
        assert_eq!(edits.rename, [("x-Old".to_owned(), "X-New".to_owned())]);
        for (text, why) in [
            ("rename: { a: b, B: c }", "renamed already"),
            ("rename: { a: b, c: B }", "renamed already"),
            ("rename: { a: b, A: c }", "renamed already"),
            ("rename: { x-a: X-A }", "keeps its name"),
            ("rename: { x-a: X_A }", "keeps its name"),
            ("rename: { a-b: c, d: a_b }", "renamed already"),
            ("rename: { a-b: c }\nset: { a_b: d }", "removed or set as well"),
            ("append: { set_cookie: a=b }", "is no list"),
            ("rename: { a: b }\nremove: [A]", "is renamed, and removed"),
            ("rename: { a: b }\nset: { B: c }", "removed or set as well"),
            ("rename: { a: x-forwarded-for }", "the gateway decides"),
            ("rename: { x-real-ip: a }", "the gateway decides"),
            ("append: { via: a }", "the gateway decides"),
            ("append: { Set-Cookie: a=b }", "is no list"),
            ("append: { Cookie: a=b }", "is no list"),
            ("append: { origin: a }", "is no list"),
            ("append: { range: a }", "is no list"),
            ("append: { If-Modified-Since: a }", "is no list"),
            ("append: { Strict-Transport-Security: a }", "is no list"),
            ("set: { a: '{deadline_ms}' }", "when its request is sent"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
