//! `compress`: answers get a content coding that the client takes.

use super::super::decode::{Block, Keys, Value};
use crate::coding::{Coding, Subtype, TypeRange};
use crate::value::{ByteSize, Invalid};

pub(in crate::config) const KEYS: Keys =
    Keys { known: &["codings", "levels", "types", "min_size", "streams", "accept_encoding"], later: &[] };
pub(in crate::config) const LEVEL_KEYS: Keys = Keys { known: &["gzip", "br", "zstd"], later: &[] };

const WORDS: [(&str, Coding); 3] = [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];
const TYPES_MAX: usize = 100;
const TYPE_BYTES_MAX: usize = 128;
const MIN_SIZE_DEFAULT: ByteSize = ByteSize::from_kib(1);
/// 256 of the dearest take about 430 MiB.
const STREAMS_DEFAULT: u32 = 256;
/// What becomes much smaller: text, whatever it is called, and fonts and icons without compression of their own.
const TYPES_DEFAULT: [&str; 13] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/x-javascript",
    "application/wasm",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
    "font/ttf",
    "font/otf",
];

/// `compress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// With their levels, in the order of preference.
    pub codings: Vec<(Coding, u8)>,
    /// Types of answers that are worth it.
    pub types: Vec<TypeRange>,
    /// Shorter ones are not.
    pub min_size: ByteSize,
    /// Answers that are compressed at a time, in the whole process.
    pub streams: u32,
    /// Upstreams are asked for bytes as they are.
    pub asks_identity: bool,
}

pub(super) fn decode(value: &Value<'_>) -> Option<Compress> {
    let block = value.block(&KEYS)?;
    let all = WORDS.map(|(_, coding)| coding).to_vec();
    let codings =
        block.or("codings", all, |v| v.each_once(1..=WORDS.len(), |v| v.word(&WORDS, &[]), |coding| coding.name()));
    let levels = block.get("levels").and_then(|v| v.block(&LEVEL_KEYS));
    let level = |coding: Coding| {
        let default = coding.level_default();
        levels.as_ref().map_or(default, |levels| level(levels, coding, codings.contains(&coding)).unwrap_or(default))
    };
    let with_levels = WORDS.map(|(_, coding)| (coding, level(coding)));
    let default: Vec<TypeRange> = TYPES_DEFAULT.iter().filter_map(|text| type_range(text).ok()).collect();
    Some(Compress {
        codings: codings
            .iter()
            .filter_map(|coding| with_levels.iter().find(|(own, _)| own == coding))
            .copied()
            .collect(),
        types: block.or("types", default, |v| v.list_of(1..=TYPES_MAX, |v| v.parse(type_range))),
        min_size: block
            .or("min_size", MIN_SIZE_DEFAULT, |v| v.size(ByteSize::from_bytes(0)..=ByteSize::from_kib(1 << 20))),
        streams: block.or("streams", STREAMS_DEFAULT, |v| v.count(1..=100_000)),
        asks_identity: block.or("accept_encoding", false, |v| v.word(&[("pass", false), ("identity", true)], &[])),
    })
}

fn level(levels: &Block<'_>, coding: Coding, is_used: bool) -> Option<u8> {
    let value = levels.get(coding.name())?;
    if !is_used {
        value.error("this coding is not among `codings`", "add it there, or remove its level");
        return None;
    }
    // brotli's 0 is its fastest; zlib's and zstd's stand for something else.
    let least = u32::from(coding != Coding::Brotli);
    value.count(least..=coding.level_max().into()).and_then(|level| u8::try_from(level).ok())
}

/// `text/html`, `text/*` or `application/*+json`.
fn type_range(text: &str) -> Result<TypeRange, Invalid> {
    let invalid = || {
        Invalid::new("is not a media type", "like application/json, text/* or application/*+json, without parameters")
    };
    let is_token =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| crate::http::head::is_token(byte) && byte != b'*');
    let (kind, subtype) = text.split_once('/').filter(|_| text.len() <= TYPE_BYTES_MAX).ok_or_else(invalid)?;
    let subtype = match subtype.strip_prefix('*') {
        Some("") => Subtype::Any,
        Some(end) if end.len() > 1 && end.starts_with('+') && is_token(end) => {
            Subtype::EndsWith(end.to_ascii_lowercase())
        }
        None if is_token(subtype) => Subtype::Is(subtype.to_ascii_lowercase()),
        _ => return Err(invalid()),
    };
    if !is_token(kind) {
        return Err(invalid());
    }
    Ok(TypeRange { kind: kind.to_ascii_lowercase(), subtype })
}
