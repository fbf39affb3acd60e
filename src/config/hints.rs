//! What who wrote something wrong has probably meant: remedies that depend on more than the value that is wrong.

use std::ptr;

use super::decode::Keys;
use super::schema::{Block, Kind, WHOLE};

/// What helps with a fault of the syntax, by what the parser says of it.
pub(super) fn syntax(fault: &str) -> &'static str {
    let about = |words: &[&str]| words.iter().any(|word| fault.contains(word));
    if about(&["tabs disallowed", "tab"]) {
        "indent with spaces: YAML takes no tabs there"
    } else if about(&["flow mapping", "flow sequence"]) {
        "a `{` or `[` is not closed, or a text with one of `{ } [ ] ,` in it needs quotes, like \"/user/{id}\""
    } else if about(&["expected key", "block mapping", "block collection", "expected '-'"]) {
        "keys of one block begin in the same column: compare the indentation of this line with those above it"
    } else if about(&["mapping values are not allowed"]) {
        "this line is indented further than those that it belongs to, or a text with `: ` in it needs quotes"
    } else if about(&["escape"]) {
        "within \"…\" a `\\` begins an escape: write `\\\\`, or use single quotes"
    } else if about(&["quoted scalar"]) {
        "a quote that was opened above this line is not closed"
    } else if about(&["directive"]) {
        "remove the line that begins with `%`"
    } else if fault.contains(char::is_control) || about(&["\\u{"]) {
        "the file has a character that is no text: remove it"
    } else {
        "text with any of `{ } [ ] , : # * & !` in it is best put in quotes"
    }
}

/// Where a key that is unknown in the block of these keys would be right: in a block below it.
pub(super) fn below(keys: &Keys, key: &str) -> Option<String> {
    let block = block_of(keys, &WHOLE, &mut Vec::new())?;
    let has = |kind: &'static Kind| inner(kind).iter().any(|block| block.keys.known.contains(&key));
    let row = block.rows.iter().find(|row| has(&row.kind))?;
    let list = if matches!(row.kind, Kind::List(..)) { ", in an item of its list" } else { "" };
    Some(format!("it belongs under `{}`{list}", row.key))
}

/// Keys that other gateways have, and this one has not.
pub(super) fn foreign(key: &str) -> Option<&'static str> {
    match key {
        "include" | "includes" | "import" => Some("one file holds the whole config"),
        "<<" => Some("write the keys out"),
        _ => None,
    }
}

/// A character in a key that looks like a space, and is none to YAML.
pub(super) fn odd_space(key: &str) -> Option<String> {
    let odd = key.chars().find(|c| *c != ' ' && (c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}')))?;
    Some(format!("it has U+{:04X} in it, which looks like a space: type a space there", u32::from(odd)))
}

/// Quotes that word processors make are a part of the text.
pub(super) fn has_typographic_quotes(text: &str) -> bool {
    text.starts_with(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}'])
}

fn block_of(keys: &Keys, kind: &'static Kind, seen: &mut Vec<*const Block>) -> Option<&'static Block> {
    inner(kind).into_iter().find_map(|block| {
        if block.keys.known == keys.known {
            return Some(block);
        }
        if seen.contains(&ptr::from_ref(block)) {
            return None;
        }
        seen.push(block);
        block.rows.iter().find_map(|row| block_of(keys, &row.kind, seen))
    })
}

/// The blocks that a value of this kind can be, or that are its items.
fn inner(kind: &'static Kind) -> Vec<&'static Block> {
    match kind {
        Kind::Block(block) => vec![*block],
        Kind::List(of, ..) | Kind::Map(of) => inner(of),
        Kind::Either(kinds) => kinds.iter().flat_map(inner).collect(),
        _ => Vec::new(),
    }
}
