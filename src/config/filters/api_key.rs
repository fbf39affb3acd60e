//! `api_key`: where keys come in, and which are known. A key itself is never written down, only its SHA-256.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderName;

use super::super::decode::{Block, Keys as BlockKeys, Value, check_name};
use super::super::headers::{self, Direction};
use super::super::report::{Errors, Position, Report, quote};
use super::super::{read_named, tree};
use crate::filter::api_key::{Digest, Keys, Owner};
use crate::shared::Rules;
use crate::value::Invalid;

pub(in crate::config) const KEYS: BlockKeys =
    BlockKeys { known: &["header", "query", "keys", "file", "required_tags", "principal_header"], later: &[] };
pub(in crate::config) const KEY_KEYS: BlockKeys = BlockKeys { known: &["sha256", "owner", "tags"], later: &[] };
const FILE_KEYS: BlockKeys = BlockKeys { known: &["keys"], later: &[] };

const LISTED_MAX: usize = 1_000_000;
const TAGS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 128;

/// `api_key`.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// The field that a key comes in; it or `query` is there.
    pub header: Option<String>,
    /// The query parameter that a key comes in.
    pub query: Option<String>,
    /// Where the known keys are.
    pub source: Source,
    /// Tags of which a key needs all.
    pub required_tags: Vec<String>,
    /// The field by which the upstream is told who calls.
    pub principal_header: Option<String>,
}

/// Where known keys are.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// In the config.
    Inline(Rules<Keys>),
    /// In a file, which may change.
    File(PathBuf),
}

pub(super) fn decode(value: &Value<'_>) -> Option<ApiKey> {
    let block = value.block(&KEYS)?;
    let header = block.unless_wrong("header", None, |v| v.parse(header_name).map(Some));
    let query = block.unless_wrong("query", None, |v| v.parse(query_name).map(Some));
    if (&header, &query) == (&Some(None), &Some(None)) {
        value.error("says not where a key comes in", "give header, query or both");
    }
    let source = match (block.get("keys"), block.get("file")) {
        (Some(list), None) => keys(list).map(|keys| Source::Inline(Rules::new(keys))),
        (None, Some(file)) => key_file(file).map(Source::File),
        (Some(_), Some(file)) => {
            file.error("a second place for keys", "give keys or file");
            None
        }
        (None, None) => {
            value.error("knows no key", "give keys or file");
            None
        }
    };
    let required_tags = block.unless_wrong("required_tags", Vec::new(), tags);
    let principal_header = principal_header(&block);
    Some(ApiKey {
        header: header?,
        query: query?,
        source: source?,
        required_tags: required_tags?,
        principal_header: principal_header?,
    })
}

/// `principal_header`: the field by which upstreams are told who calls.
pub(super) fn principal_header(block: &Block<'_>) -> Option<Option<String>> {
    let read = |text: &str| headers::check_field(text, Direction::Request).map(|()| text.to_owned());
    block.unless_wrong("principal_header", None, |v| v.parse(read).map(Some))
}

fn header_name(text: &str) -> Result<String, Invalid> {
    headers::check_field(text, Direction::Request)?;
    let name = HeaderName::from_bytes(text.as_bytes());
    name.map(|name| name.as_str().to_owned()).map_err(|_| Invalid::new("is not a field name", "like x-api-key"))
}

fn query_name(text: &str) -> Result<String, Invalid> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match !text.is_empty() && text.len() <= NAME_BYTES_MAX && plain {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("is not the name of a query parameter", "letters, digits, `-`, `_` and `.`")),
    }
}

fn key_file(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.parse(absolute)?;
    match read_keys(&path) {
        Ok(_) => Some(path),
        Err(errors) => {
            errors.iter().for_each(|error| value.error(error.to_string(), ""));
            None
        }
    }
}

/// The path of a file.
pub(super) fn absolute(text: &str) -> Result<PathBuf, Invalid> {
    // Relative to which directory would depend on who starts the gateway.
    match text.starts_with('/') && !text.contains(char::is_control) {
        true => Ok(PathBuf::from(text)),
        false => Err(Invalid::new("is not the absolute path of a file", "write it from the `/` on")),
    }
}

/// Reads a file of keys: `keys: [{ sha256, owner, tags }]`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_keys(path: &Path) -> Result<Keys, Errors> {
    let report = Report::new(&path.display().to_string());
    let found = match read_named(path) {
        Ok(text) => tree::read(&text, &|_| None, &report).and_then(|root| {
            let root = Value::root(&root, &report);
            keys(root.block(&FILE_KEYS)?.required("keys")?)
        }),
        Err(fault) => {
            report.error(&Position::default(), fault.what, fault.remedy);
            None
        }
    };
    report.finish(found)
}

/// Keys of a list, all of which are right.
fn keys(value: &Value<'_>) -> Option<Keys> {
    let mut keys = Keys::default();
    let mut all_right = true;
    for item in value.list(0..=LISTED_MAX)? {
        let Some((digest, owner)) = key(&item) else {
            all_right = false;
            continue;
        };
        if keys.0.insert(digest, owner).is_some() {
            item.error("is a key that is there before", "remove one");
            all_right = false;
        }
    }
    all_right.then_some(keys)
}

fn key(value: &Value<'_>) -> Option<(Digest, Owner)> {
    let block = value.block(&KEY_KEYS)?;
    let digest = block.required("sha256").and_then(sha256);
    let owner = block.required("owner").and_then(|v| v.parse(|text| check_name(text).map(|()| text.to_owned())));
    let tags = block.unless_wrong("tags", Vec::new(), tags);
    Some((digest?, Owner { name: owner?, tags: tags? }))
}

fn tags(value: &Value<'_>) -> Option<Vec<String>> {
    let read = |v: &Value<'_>| v.parse(|text| check_name(text).map(|()| text.to_owned()));
    value.each_once(0..=TAGS_MAX, read, String::as_str)
}

/// 64 hex digits. What is none may be the key itself: it is not quoted.
fn sha256(value: &Value<'_>) -> Option<Digest> {
    let text = value.text()?;
    let mut out = Digest::default();
    let digits = |at: usize| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok();
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let whole = is_hex && out.iter_mut().enumerate().all(|(at, byte)| digits(at).map(|n| *byte = n).is_some());
    if !whole {
        let remedy = "64 hex digits, as `printf %s KEY | sha256sum` prints them; the key itself is not written down";
        value.error("is not a SHA-256", remedy);
        return None;
    }
    if out.as_slice() == digest(&SHA256, b"").as_ref() {
        value.error(format!("{} is the SHA-256 of no key at all", quote(text)), "an empty key is none");
        return None;
    }
    Some(out)
}
