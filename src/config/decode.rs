//! From the tree to typed values. Every wrong value is recorded and decoding goes on with its default, so that all errors
//! are found at once. A block reads as one row per key: `block.or("idle", default, |v| v.count(0..=100_000))`.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::hints;
use super::report::{Located, Position, Report, did_you_mean, nearest, quote};
use super::secrets;
use super::tree::{Key, Kind, Node, Scalar};
use crate::value::{ByteSize, Duration, Invalid};

/// What the longest name of an upstream, listener, filter or route may be: names are labels of every metric.
const NAME_BYTES_MAX: usize = 128;

/// Unknown keys of one block that are compared with what is missing.
const UNKNOWN_MAX: usize = 20;

const A_LIST: &str = "a list";
const A_MAPPING: &str = "a mapping of keys";
const A_NAME: &str = "a name";

/// The keys of a block.
pub(super) struct Keys {
    /// Those that can be used.
    pub(super) known: &'static [&'static str],
    /// Those of a later version, each with what brings it.
    pub(super) later: &'static [(&'static str, &'static str)],
}

/// A value of the document and the way of keys to it.
#[derive(Clone)]
pub(super) struct Value<'d> {
    node: &'d Node,
    line: u32,
    column: u32,
    key_path: String,
    report: &'d Report,
}

/// A mapping whose keys are known.
pub(super) struct Block<'d> {
    value: Value<'d>,
    /// Keys that were meant by others which are unknown: they are not missing too.
    meant: Vec<&'static str>,
    entries: Vec<(&'d Key, Value<'d>)>,
}

impl<'d> Value<'d> {
    /// The whole document.
    pub(super) fn root(node: &'d Node, report: &'d Report) -> Self {
        Self { node, line: node.line, column: node.column, key_path: String::new(), report }
    }

    /// Where it stands.
    pub(super) fn at(&self) -> Position {
        Position { line: self.line, column: self.column, key_path: self.key_path.clone() }
    }

    /// Something typed, with the place of this value.
    pub(super) fn locate<T>(&self, value: T) -> Located<T> {
        Located { value, at: self.at() }
    }

    /// Records that something about this value is wrong.
    pub(super) fn error(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.report.error(&self.at(), what, remedy);
    }

    fn kind_error(&self, wanted: &str) {
        match &self.node.kind {
            Kind::Broken => {}
            Kind::Scalar(scalar) if scalar.is_null() && self.key_path.is_empty() => {
                self.error("the file is empty", "ten lines are enough: see config/examples/minimal.yaml");
            }
            Kind::Scalar(scalar) if scalar.is_null() => {
                self.error(format!("is empty, {wanted} is expected"), "write it, or remove the key");
            }
            Kind::Scalar(_) => {
                let remedy = match wanted {
                    A_LIST => "put it in brackets: [a, b]",
                    A_MAPPING => "write its keys, each as `key: value` with a space behind the colon",
                    _ => "",
                };
                self.error(format!("must be {wanted}, not a single value"), remedy);
            }
            Kind::Sequence(_) => {
                let remedy = match wanted {
                    A_MAPPING => "write its keys without `-` and `[ ]`, each as `key: value`",
                    _ => "text with `[` in it needs quotes",
                };
                self.error(format!("must be {wanted}, not a list"), remedy);
            }
            Kind::Mapping(_) => {
                let remedy = match wanted {
                    A_LIST => "begin each item with `- `",
                    A_NAME => "it is defined elsewhere by a name of its own, and named here",
                    _ => "text with `{` or `: ` in it needs quotes",
                };
                self.error(format!("must be {wanted}, not a mapping of keys"), remedy);
            }
        }
    }

    /// Where errors are recorded.
    pub(super) fn report(&self) -> &'d Report {
        self.report
    }

    /// What the tree has there: for values whose form is the operator's choice.
    pub(super) fn node(&self) -> &'d Node {
        self.node
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::Sequence(_))
    }

    /// Whether it is a mapping.
    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.kind, Kind::Mapping(_))
    }

    /// A mapping with these keys and no others.
    pub(super) fn block(&self, keys: &Keys) -> Option<Block<'d>> {
        self.block_with(keys, &[])
    }

    /// A mapping with these keys, those that are `more`, and no others.
    pub(super) fn block_with(&self, keys: &Keys, more: &[&str]) -> Option<Block<'d>> {
        let mut entries = self.entries(usize::MAX)?;
        let is_known = |key: &str| keys.known.contains(&key) || more.contains(&key);
        let unknown = entries.iter().map(|(key, _)| key.text.as_str()).filter(|key| !is_known(key));
        let meant = unknown.take(UNKNOWN_MAX).filter_map(|key| nearest(key, keys.known.iter().copied())).collect();
        entries.retain(|(key, value)| is_known(&key.text) || value.refuse_key(key, keys, more));
        Some(Block { value: self.clone(), meant, entries })
    }

    /// Records why a key can not be used.
    fn refuse_key(&self, key: &Key, keys: &Keys, more: &[&str]) -> bool {
        let here = self.at_key(key);
        let key = key.text.as_str();
        if let Some((_, comes_with)) = keys.later.iter().find(|(later, _)| *later == key) {
            here.later(key, comes_with);
        } else if !self.report.is_full() {
            let known = || format!("the keys here are {}", [keys.known, more].concat().join(", "));
            let candidates = keys.known.iter().chain(more).chain(keys.later.iter().map(|(key, _)| key)).copied();
            let hint = hints::foreign(key).map(str::to_owned).or_else(|| hints::odd_space(key));
            let hint = hint.or_else(|| hints::below(keys, key)).or_else(|| did_you_mean(key, candidates));
            here.error("unknown key", hint.unwrap_or_else(known));
        } else {
            here.error("unknown key", "");
        }
        false
    }

    /// The same value, for errors about its key.
    pub(super) fn at_key(&self, key: &Key) -> Self {
        Self { line: key.line, column: key.column, ..self.clone() }
    }

    fn later(&self, word: &str, comes_with: &str) {
        let what = format!("{} is not part of this version yet", quote(word));
        self.error(what, format!("it comes with {comes_with}; remove it"));
    }

    /// The keys of a mapping, known or not, whatever their values are worth; none if it is no mapping.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        let entries = match &self.node.kind {
            Kind::Mapping(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.text.as_str())
    }

    /// A mapping whose keys the operator chooses, at most `entries_max` of them. Values stand at their own place, or at
    /// their key's if a mapping or nothing follows.
    pub(super) fn entries(&self, entries_max: usize) -> Option<Vec<(&'d Key, Value<'d>)>> {
        let Kind::Mapping(entries) = &self.node.kind else {
            self.kind_error(A_MAPPING);
            return None;
        };
        if entries.len() > entries_max {
            self.error(format!("has {} entries", entries.len()), format!("at most {entries_max}"));
            return None;
        }
        let value = |(key, node): &'d (Key, Node)| {
            let dot = if self.key_path.is_empty() { "" } else { "." };
            let key_path = format!("{}{dot}{}", self.key_path, key.text);
            // A block mapping begins at its first key, which would be a misleading place for an error about all of it.
            let (line, column) = match &node.kind {
                Kind::Scalar(_) => (node.line, node.column),
                _ => (key.line, key.column),
            };
            (key, Value { node, line, column, key_path, report: self.report })
        };
        Some(entries.iter().map(value).collect())
    }

    /// A list of so many items.
    pub(super) fn list(&self, length: RangeInclusive<usize>) -> Option<Vec<Value<'d>>> {
        let Kind::Sequence(items) = &self.node.kind else {
            self.kind_error(A_LIST);
            return None;
        };
        if !length.contains(&items.len()) {
            self.error(format!("has {} items", items.len()), range_of(&length));
            return None;
        }
        let value = |(index, node): (usize, &'d Node)| {
            let key_path = format!("{}[{index}]", self.key_path);
            Value { node, line: node.line, column: node.column, key_path, report: self.report }
        };
        Some(items.iter().enumerate().map(value).collect())
    }

    /// A list of which each item is read in the same way; items that are wrong are recorded and left out.
    pub(super) fn list_of<T>(
        &self,
        length: RangeInclusive<usize>,
        read: impl Fn(&Value<'d>) -> Option<T>,
    ) -> Option<Vec<T>> {
        Some(self.list(length)?.iter().filter_map(read).collect())
    }

    fn scalar(&self, wanted: &str) -> Option<&'d Scalar> {
        match &self.node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            _ => {
                self.kind_error(wanted);
                None
            }
        }
    }

    /// A single value, as text.
    pub(super) fn text(&self) -> Option<&'d str> {
        self.scalar("text").map(|scalar| scalar.text.as_str())
    }

    /// The same, for who looks twice: that it is no text is for another to record.
    pub(super) fn plain_text(&self) -> Option<&'d str> {
        match &self.node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// A single value that `parse` understands.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        self.parse_as("text", parse)
    }

    fn parse_as<T>(&self, wanted: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        let scalar = self.scalar(wanted)?;
        match parse(&scalar.text) {
            Ok(value) => Some(value),
            Err(Invalid { what, .. }) if hints::has_typographic_quotes(&scalar.text) => {
                self.error(format!("{} {what}", self.quoted(scalar)), "these quotes are a part of the text: use \"\"");
                None
            }
            Err(Invalid { what, remedy }) => {
                self.error(format!("{} {what}", self.quoted(scalar)), remedy);
                None
            }
        }
    }

    /// What it says, as it may be shown to whoever does not run the gateway: without what variables put into it, and masked if
    /// it is a secret.
    pub(super) fn shown(&self, is_secret: bool) -> String {
        let Kind::Scalar(Scalar { text, written, .. }) = &self.node.kind else { return secrets::MASK.to_owned() };
        let written = written.as_deref().filter(|written| written.contains("${")).unwrap_or(text);
        if is_secret { secrets::masked(written) } else { secrets::without_passwords(written).into_owned() }
    }

    /// In a message, as the operator wrote it.
    fn quoted(&self, scalar: &'d Scalar) -> String {
        quote(&self.hidden(scalar))
    }

    fn hidden(&self, scalar: &'d Scalar) -> Cow<'d, str> {
        secrets::in_message(&self.key_path, scalar.written.as_deref().unwrap_or(&scalar.text))
    }

    /// The same of a value that was read as `text`.
    fn hidden_as<'t>(&'t self, text: &'t str) -> Cow<'t, str> {
        match &self.node.kind {
            Kind::Scalar(scalar) if scalar.written.is_some() => self.hidden(scalar),
            _ => secrets::in_message(&self.key_path, text),
        }
    }

    /// `none`, or else what `read` makes of it.
    pub(super) fn or_none<T>(&self, read: impl FnOnce(&Self) -> Option<T>) -> Option<Option<T>> {
        self.or_word("none", read)
    }

    /// `None` for that word, or else what `read` makes of it.
    pub(super) fn or_word<T>(&self, word: &str, read: impl FnOnce(&Self) -> Option<T>) -> Option<Option<T>> {
        match &self.node.kind {
            Kind::Scalar(scalar) if is_word(&scalar.text, word) => Some(None),
            _ => read(self).map(Some),
        }
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, range: RangeInclusive<u32>) -> Option<u32> {
        self.parse(|text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if digits { text.parse().unwrap_or(u32::MAX) } else { return Err(not_a_count(&range)) };
            within(number, range)
        })
    }

    /// A whole number within bounds, which may be negative.
    pub(super) fn integer(&self, range: RangeInclusive<i32>) -> Option<i32> {
        self.parse(|text| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(not_a_count(&range));
            }
            within(text.parse().unwrap_or(i32::MAX), range)
        })
    }

    /// A time within bounds.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.parse(|text| within(text.parse()?, range))
    }

    /// A size within bounds.
    pub(super) fn size(&self, range: RangeInclusive<ByteSize>) -> Option<ByteSize> {
        self.parse(|text| within(text.parse()?, range))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.word(&[("true", true), ("false", false)], &[])
    }

    /// One of a few words; `later` are those of a later version, each with what brings it.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)], later: &[(&str, &str)]) -> Option<T> {
        let scalar = self.scalar("one word")?;
        if let Some((_, value)) = words.iter().find(|(word, _)| is_word(&scalar.text, word)) {
            return Some(*value);
        }
        if let Some((word, comes_with)) = later.iter().find(|(word, _)| *word == scalar.text) {
            self.later(word, comes_with);
            return None;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let meant = match scalar.text.to_ascii_lowercase().as_str() {
            "yes" | "on" => "true",
            "no" | "off" => "false",
            _ => &scalar.text,
        };
        let remedy = did_you_mean(meant, known.iter().copied());
        let remedy = remedy.unwrap_or_else(|| format!("allowed: {}", known.join(", ")));
        self.error(format!("{} is not a word that is known here", self.quoted(scalar)), remedy);
        None
    }

    /// A name that others refer to, or the reference.
    pub(super) fn name(&self) -> Option<Located<String>> {
        let name = self.parse_as(A_NAME, |text| check_name(text).map(|()| text.to_owned()))?;
        Some(self.locate(name))
    }

    /// A list of names, each only once.
    pub(super) fn names(&self) -> Option<Vec<Located<String>>> {
        // Each is a step on the way of every request; more than this is a mistake.
        self.each_once(0..=64, Value::name, |name| &name.value)
    }

    /// A list of which each item is read in the same way and stands there only once, by its text.
    pub(super) fn each_once<T>(
        &self,
        length: RangeInclusive<usize>,
        read: impl Fn(&Value<'d>) -> Option<T>,
        text: impl Fn(&T) -> &str,
    ) -> Option<Vec<T>> {
        let mut list: Vec<T> = Vec::new();
        for item in self.list(length)? {
            let Some(next) = read(&item) else { continue };
            if list.iter().any(|earlier| text(earlier) == text(&next)) {
                item.error(format!("{} is listed twice", quote(&item.hidden_as(text(&next)))), "remove one");
            } else {
                list.push(next);
            }
        }
        Some(list)
    }

    /// Text for a header, a path or an address: not empty, no control characters, no more than `bytes_max`.
    pub(super) fn line(&self, bytes_max: usize) -> Option<Located<String>> {
        let line = self.parse(|text| match text {
            "" => Err(Invalid::new("is empty", "")),
            _ if text.len() > bytes_max => Err(Invalid::new("is too long", format!("at most {bytes_max} bytes"))),
            _ if text.contains(char::is_control) => Err(Invalid::new("has a control character in it", "remove it")),
            _ => Ok(text.to_owned()),
        })?;
        Some(self.locate(line))
    }
}

impl<'d> Block<'d> {
    /// The block as a value: its place, and errors about all of it.
    pub(super) fn value(&self) -> &Value<'d> {
        &self.value
    }

    /// The value of a key, if it is given.
    pub(super) fn get(&self, key: &str) -> Option<&Value<'d>> {
        self.entries.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// The value of a key that must be given.
    pub(super) fn required(&self, key: &str) -> Option<&Value<'d>> {
        let value = self.get(key);
        if value.is_none() && !self.meant.contains(&key) {
            self.value.error(format!("the key {} is missing", quote(key)), "add it");
        }
        value
    }

    /// What `read` makes of a key; the default if it is not given, `None` if it is wrong (recorded): for what other keys
    /// are compared with.
    pub(super) fn unless_wrong<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Value<'d>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).map_or(Some(default), read)
    }

    /// What `read` makes of a key; the default if it is not given, or wrong (recorded).
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&Value<'d>) -> Option<T>) -> T {
        self.get(key).and_then(read).unwrap_or(default)
    }
}

/// Names and references: visible ASCII, so that they read the same in a log, a metric and an error.
pub(super) fn check_name(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(Invalid::new("is not a name", format!("1 to {NAME_BYTES_MAX} characters")));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\\')) {
        None => Ok(()),
        Some(c) => {
            let what = format!("is not a name: {:?} can not be part of it", c);
            Err(Invalid::new(what, "use letters, digits and signs such as `-`, `_` and `.`"))
        }
    }
}

/// Whether a text is this word. Programs that write YAML 1.1 (Helm, Ansible) take `off` for a boolean and print `false`, which
/// is nowhere a word of another meaning beside `off`.
pub(super) fn is_word(text: &str, word: &str) -> bool {
    text == word || (word == "off" && text == "false")
}

fn not_a_count<T: PartialOrd + Display>(range: &RangeInclusive<T>) -> Invalid {
    Invalid::new("is not a whole number", range_of(range))
}

fn within<T: PartialOrd + Display>(value: T, range: RangeInclusive<T>) -> Result<T, Invalid> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Invalid::new("is out of bounds", range_of(&range)))
}

fn range_of<T: Display + PartialOrd>(range: &RangeInclusive<T>) -> String {
    format!("allowed: {} to {}", range.start(), range.end())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree;
    use super::*;

    const KEYS: Keys = Keys { known: &["idle", "timeout", "mode", "list"], later: &[("tls", "TLS")] };

    /// The errors that reading `text` as a block with [`KEYS`] records.
    fn errors(text: &str) -> Vec<String> {
        let report = Report::new("f");
        let root = tree::read(text, &|_| Some("secret".to_owned()), &report).unwrap();
        if let Some(block) = Value::root(&root, &report).block(&KEYS) {
            block.or("idle", 64, |v| v.count(1..=100));
            block.or("timeout", None, |v| v.or_none(|v| v.duration(Duration::from_secs(1)..=Duration::from_secs(60))));
            block.or("mode", 0, |v| v.word(&[("p2c", 1), ("round_robin", 2)], &[("hash", "hashing")]));
            block.or("list", Vec::new(), |v| v.names());
        }
        report.finish::<()>(None).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_error_is_recorded_with_its_way_and_remedy() {
        assert_eq!(
            errors("idle: 0\ntimeout: 2m\nmode: p2\nlist: [a, b, a]\ntls: {}\nidel: 1\nzzzzzz: 1\n"),
            [
                "f:1:7: idle: `0` is out of bounds (allowed: 1 to 100)",
                "f:2:10: timeout: `2m` is out of bounds (allowed: 1s to 1m)",
                "f:3:7: mode: `p2` is not a word that is known here (did you mean `p2c`?)",
                "f:4:14: list[2]: `a` is listed twice (remove one)",
                "f:5:1: tls: `tls` is not part of this version yet (it comes with TLS; remove it)",
                "f:6:1: idel: unknown key (did you mean `idle`?)",
                "f:7:1: zzzzzz: unknown key (the keys here are idle, timeout, mode, list)",
            ]
        );
        assert_eq!(
            errors("idle: +1\ntimeout:\nmode: hash\nlist: x\n"),
            [
                "f:1:7: idle: `+1` is not a whole number (allowed: 1 to 100)",
                "f:2:1: timeout: is empty, text is expected (write it, or remove the key)",
                "f:3:7: mode: `hash` is not part of this version yet (it comes with hashing; remove it)",
                "f:4:7: list: must be a list, not a single value (put it in brackets: [a, b])",
            ]
        );
        assert_eq!(errors("idle: ${SECRET}"), ["f:1:7: idle: `${SECRET}` is not a whole number (allowed: 1 to 100)"]);
        assert_eq!(errors("timeout: none\nidle: '7'"), ["f: could not be read"], "nothing is wrong");
    }
}
