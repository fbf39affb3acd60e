//! The comments of `config/gateway.yaml`, which say what each key means: one text for who reads the file, for editors and
//! for the JSON Schema.

use std::collections::HashMap;

use super::{Block, Kind, WHOLE};

const GATEWAY: &str = include_str!("../../../config/gateway.yaml");
/// Comments that begin further right belong to the line above.
const CONTINUES_FROM: usize = 20;

/// Comments, by block and key.
pub(super) struct Comments(HashMap<(&'static str, String), String>);

/// What a line is.
enum Line<'t> {
    /// A key at this column, which may be commented out, and what is said of it.
    Key(usize, &'t str, &'t str),
    /// More about the key above.
    More(&'t str),
    /// About the key below.
    Before(&'t str),
    Nothing,
}

impl Comments {
    pub(super) fn read() -> Self {
        let mut comments = Self(HashMap::new());
        let mut way: Vec<(usize, &str)> = Vec::new();
        let mut last = None;
        let mut before: Vec<&str> = Vec::new();
        // What comes first is about the file.
        let body = GATEWAY.split_once("\n\n").map_or(GATEWAY, |(_, body)| body);
        for line in body.lines() {
            match Line::read(line) {
                Line::Key(column, key, about) => {
                    way.retain(|(at, _)| *at < column);
                    way.push((column, key));
                    let about = before.drain(..).chain([about]).filter(|text| !text.is_empty());
                    let about = about.collect::<Vec<_>>().join(" ");
                    let keys: Vec<&str> = way.iter().map(|(_, key)| *key).collect();
                    last = block_of(&WHOLE, &keys).map(|block| (block.name, key.to_owned()));
                    if let Some(place) = last.clone().filter(|_| !about.is_empty()) {
                        comments.0.entry(place).or_insert(about);
                    }
                }
                Line::More(text) => {
                    if let Some(about) = last.as_ref().and_then(|place| comments.0.get_mut(place)) {
                        about.push(' ');
                        about.push_str(text);
                    }
                }
                Line::Before(text) => before.push(text),
                Line::Nothing => before.clear(),
            }
        }
        comments
    }

    pub(super) fn of(&self, block: &'static str, key: &str) -> Option<&str> {
        self.0.get(&(block, key.to_owned())).map(String::as_str)
    }
}

impl<'t> Line<'t> {
    fn read(line: &'t str) -> Self {
        let column = |text: &str| text.len() - text.trim_start().len();
        let text = line.trim_start();
        let Some(commented) = text.strip_prefix('#') else { return Self::of(column(line), text) };
        if column(line) >= CONTINUES_FROM {
            return Self::More(commented.trim());
        }
        let inner = commented.trim_start();
        // A comment within what is commented out.
        let at = column(line) + column(commented).saturating_sub(1);
        match inner.strip_prefix('#') {
            Some(more) if at >= CONTINUES_FROM => Self::More(more.trim()),
            Some(more) => match Self::of(at, more.trim_start()) {
                Self::Nothing => Self::Before(more.trim()),
                key => key,
            },
            None => match Self::of(at, inner) {
                Self::Nothing => Self::Before(inner.trim()),
                key => key,
            },
        }
    }

    /// `- key: value  # about`, else nothing.
    fn of(column: usize, text: &'t str) -> Self {
        let (dash, text) = match text.strip_prefix("- ") {
            Some(text) => (2, text),
            None => (0, text),
        };
        let Some((key, rest)) = text.split_once(':') else { return Self::Nothing };
        let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if key.is_empty() || !is_key || !(rest.is_empty() || rest.starts_with(' ')) {
            return Self::Nothing;
        }
        let about = rest.split_once(" # ").map_or("", |(_, about)| about);
        Self::Key(column + dash, key, about.trim())
    }
}

/// The block that the last of these keys belongs to.
fn block_of(kind: &'static Kind, keys: &[&str]) -> Option<&'static Block> {
    let (key, rest) = keys.split_first()?;
    match kind {
        Kind::Block(block) => {
            let row = block.rows.iter().find(|row| row.key == *key)?;
            if rest.is_empty() { Some(block) } else { block_of(&row.kind, rest) }
        }
        Kind::List(of, ..) => block_of(of, keys),
        Kind::Map(of) => block_of(of, rest),
        Kind::Either(kinds) => kinds.iter().find_map(|kind| block_of(kind, keys)),
        _ => None,
    }
}
