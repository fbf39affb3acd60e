//! `security_headers`: what browsers are told about every answer.

use super::super::decode::{Block, Keys, Value};
use crate::value::Invalid;

pub(in crate::config) const KEYS: Keys = Keys {
    known: &[
        "override",
        "content_type_options",
        "frame_options",
        "content_security_policy",
        "referrer_policy",
        "permissions_policy",
        "cross_domain_policies",
        "opener_policy",
        "embedder_policy",
        "resource_policy",
    ],
    later: &[],
};

const VALUE_BYTES_MAX: usize = 4096;

/// `security_headers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// An upstream's own fields of these names are replaced; otherwise they are kept.
    pub is_override: bool,
    /// Name and value of each.
    pub fields: Vec<(&'static str, String)>,
}

// The words of each field.
pub(in crate::config) const CONTENT_TYPES: [&str; 2] = ["nosniff", "off"];
pub(in crate::config) const FRAMES: [&str; 3] = ["DENY", "SAMEORIGIN", "off"];
pub(in crate::config) const REFERRERS: [&str; 8] = [
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "off",
];
pub(in crate::config) const DOMAINS: [&str; 6] =
    ["none", "master-only", "by-content-type", "all", "none-this-response", "off"];
pub(in crate::config) const OPENERS: [&str; 4] =
    ["off", "same-origin", "same-origin-allow-popups", "noopener-allow-popups"];
pub(in crate::config) const EMBEDDERS: [&str; 3] = ["off", "require-corp", "credentialless"];
pub(in crate::config) const RESOURCES: [&str; 4] = ["off", "same-origin", "same-site", "cross-origin"];

pub(super) fn decode(value: &Value<'_>) -> Option<SecurityHeaders> {
    let block = value.block(&KEYS)?;
    let mut fields = Vec::new();
    let mut add = |name: &'static str, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    add("X-Content-Type-Options", word(&block, "content_type_options", Some("nosniff"), &CONTENT_TYPES));
    add("X-Frame-Options", word(&block, "frame_options", Some("DENY"), &FRAMES));
    add("Content-Security-Policy", text(&block, "content_security_policy", "frame-ancestors 'none'"));
    add("Referrer-Policy", word(&block, "referrer_policy", Some("strict-origin-when-cross-origin"), &REFERRERS));
    add("Permissions-Policy", text(&block, "permissions_policy", "camera=(), geolocation=(), microphone=()"));
    add("X-Permitted-Cross-Domain-Policies", word(&block, "cross_domain_policies", Some("none"), &DOMAINS));
    add("Cross-Origin-Opener-Policy", word(&block, "opener_policy", None, &OPENERS));
    add("Cross-Origin-Embedder-Policy", word(&block, "embedder_policy", None, &EMBEDDERS));
    add("Cross-Origin-Resource-Policy", word(&block, "resource_policy", None, &RESOURCES));
    let is_override = block.or("override", false, Value::boolean);
    if fields.is_empty() {
        value.error("all of its fields are off", "remove the filter");
        return None;
    }
    Some(SecurityHeaders { is_override, fields })
}

/// One of these words as it is to be sent, or `off`.
fn word(block: &Block<'_>, key: &str, default: Option<&str>, words: &[&str]) -> Option<String> {
    let known: Vec<(&str, &str)> = words.iter().filter(|word| **word != "off").map(|word| (*word, *word)).collect();
    let read = |v: &Value<'_>| v.or_word("off", |v| v.word(&known, &[]).map(str::to_owned));
    block.unless_wrong(key, default.map(str::to_owned), read).flatten()
}

/// A text as it is to be sent, or `off`.
fn text(block: &Block<'_>, key: &str, default: &str) -> Option<String> {
    let ascii = |text: &str| match text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        true if text.len() <= VALUE_BYTES_MAX && !text.trim().is_empty() => Ok(text.trim().to_owned()),
        true => Err(Invalid::new("is no value of a field", format!("1 to {VALUE_BYTES_MAX} characters, or off"))),
        false => Err(Invalid::new("has a character that this field can not have", "write ASCII, in one line")),
    };
    block.unless_wrong(key, Some(default.to_owned()), |v| v.or_word("off", |v| v.parse(ascii))).flatten()
}
