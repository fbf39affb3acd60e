//! Reading bytes that [`super::validate`] has accepted, where they are. On other bytes nothing here panics or hangs;
//! what it finds is meaningless then.
//!
//! No call builds anything: a value is a slice of the text, and what is passed over is passed over by looking for
//! quotes and brackets.

use super::path::Step;
use super::swar::{plain, until_structure};

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are JSON's own")]
pub enum Shape {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// The kind of a value, by its first byte; whitespace before it is skipped.
pub fn shape(value: &[u8]) -> Option<Shape> {
    match trim_start(value).first()? {
        b'{' => Some(Shape::Object),
        b'[' => Some(Shape::Array),
        b'"' => Some(Shape::String),
        b'-' | b'0'..=b'9' => Some(Shape::Number),
        b't' => Some(Shape::True),
        b'f' => Some(Shape::False),
        b'n' => Some(Shape::Null),
        _ => None,
    }
}

const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

pub(super) fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [b, tail @ ..] = value
        && is_space(*b)
    {
        value = tail;
    }
    value
}

/// A value without the JSON whitespace around it (RFC 8259 2).
pub fn trim(value: &[u8]) -> &[u8] {
    let mut value = trim_start(value);
    while let [head @ .., b] = value
        && is_space(*b)
    {
        value = head;
    }
    value
}

/// Goes over a container, a key or an element at a time. It stands before an item or between an item's key and its
/// value, and takes values whole or, where the caller opens them itself, leaves them to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// Past the opening bracket, if there it is.
    pub(super) fn open(&mut self, bracket: u8) -> bool {
        match trim_start(self.0) {
            [b, tail @ ..] if *b == bracket => {
                self.0 = tail;
                true
            }
            _ => false,
        }
    }

    /// Whether the value that begins here is an object or an array.
    pub(super) fn at_container(&self) -> bool {
        matches!(self.0, [b'{' | b'[', ..])
    }

    /// To the next item's first byte; at the closing bracket, past it and `None`.
    fn item(&mut self) -> Option<u8> {
        self.0 = trim_start(self.0);
        if let [b',', tail @ ..] = self.0 {
            self.0 = trim_start(tail);
        }
        match self.0 {
            [] => None,
            [b']' | b'}', tail @ ..] => {
                self.0 = tail;
                None
            }
            [first, ..] => Some(*first),
        }
    }

    /// The next key, raw, of an object that was opened; the cursor then stands at its value.
    pub(super) fn key(&mut self) -> Option<&'a [u8]> {
        let key = match self.item()? {
            b'"' => self.string(),
            _ => None,
        };
        if key.is_none() || !self.open(b':') {
            // Only in bytes that were not validated. Nothing more is found, by whoever stands further out either.
            self.0 = &[];
            return None;
        }
        self.0 = trim_start(self.0);
        key
    }

    /// Whether there is one more element in an array that was opened; the cursor then stands at it.
    pub(super) fn element(&mut self) -> bool {
        self.item().is_some()
    }

    /// The content of the string that begins here.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.0.get(1..)?;
        let mut rest = start;
        loop {
            rest = match rest.get(plain(rest).len..)? {
                [] => return None,
                [b'"', tail @ ..] => {
                    self.0 = tail;
                    return start.get(..start.len() - tail.len() - 1);
                }
                [b'\\', _, tail @ ..] | [_, tail @ ..] => tail,
            };
        }
    }

    /// Takes the value that begins here. Nesting is counted, not followed: brackets match in what was validated.
    pub(super) fn value(&mut self) -> &'a [u8] {
        let start = self.0;
        match start.first() {
            Some(b'"') => {
                if self.string().is_none() {
                    self.0 = &[];
                }
            }
            Some(b'{' | b'[') => self.container(),
            _ => {
                let ends = |b: &u8| matches!(b, b',' | b']' | b'}') || is_space(*b);
                self.0 = start.get(start.iter().position(ends).unwrap_or(start.len())..).unwrap_or_default();
            }
        }
        let value = start.get(..start.len() - self.0.len()).unwrap_or_default();
        if value.is_empty() {
            // Only in bytes that were not validated: without an end here, a caller could stand still for ever.
            self.0 = &[];
        }
        value
    }

    fn container(&mut self) {
        let mut depth = 0_usize;
        loop {
            self.0 = self.0.get(until_structure(self.0)..).unwrap_or_default();
            match self.0 {
                [] => return,
                [b'"', ..] => {
                    if self.string().is_none() {
                        self.0 = &[];
                    }
                    continue;
                }
                [b'{' | b'[', tail @ ..] => {
                    depth += 1;
                    self.0 = tail;
                }
                [_, tail @ ..] => {
                    depth -= 1;
                    self.0 = tail;
                }
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// Iterates over an object; see [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a>(Cursor<'a>);

/// Iterates over an array; see [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a>(Cursor<'a>);

/// The members of an object, in their order: the raw key between its quotes, and the value without whitespace around
/// it. Nothing for other values.
pub fn members(value: &[u8]) -> Members<'_> {
    let mut cursor = Cursor(value);
    Members(if cursor.open(b'{') { cursor } else { Cursor(&[]) })
}

/// The elements of an array, without whitespace around them. Nothing for other values.
pub fn elements(value: &[u8]) -> Elements<'_> {
    let mut cursor = Cursor(value);
    Elements(if cursor.open(b'[') { cursor } else { Cursor(&[]) })
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let Some(key) = self.0.key() else {
            self.0 = Cursor(&[]);
            return None;
        };
        Some((key, self.0.value()))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let value = if self.0.element() { self.0.value() } else { &[] };
        if value.is_empty() {
            self.0 = Cursor(&[]);
            return None;
        }
        Some(value)
    }
}

/// Whether a raw key is `name` once its escapes are decoded.
pub fn key_is(raw: &[u8], name: &str) -> bool {
    let mut left = name.as_bytes();
    if memchr::memchr(b'\\', raw).is_none() {
        return raw == left;
    }
    for piece in (Pieces { rest: raw }) {
        let Some(tail) = left.strip_prefix(piece.bytes(&mut [0; 4])) else { return false };
        left = tail;
    }
    left.is_empty()
}

/// The value at a path of keys and indices, without whitespace around it; [`Step::Each`] finds nothing.
pub fn find<'a>(value: &'a [u8], path: &[Step]) -> Option<&'a [u8]> {
    let mut value = trim(value);
    for step in path {
        value = match step {
            Step::Key(name) => members(value).find(|(key, _)| key_is(key, name))?.1,
            Step::Index(index) => elements(value).nth(*index)?,
            Step::Each => return None,
        };
    }
    Some(value)
}

/// Appends the values at a path, in the document's order, without whitespace around them. [`Step::Each`] expands
/// arrays; where the path leads nowhere, nothing is found. At most `max` are appended; `false` if there were more.
pub fn find_all<'a>(value: &'a [u8], path: &[Step], found: &mut Vec<&'a [u8]>, max: usize) -> bool {
    let Some(each) = path.iter().position(|step| *step == Step::Each) else {
        let Some(value) = find(value, path) else { return true };
        if max > 0 {
            found.push(value);
        }
        return max > 0;
    };
    let (before, after) = path.split_at(each);
    let Some(array) = find(value, before) else { return true };
    let already = found.len();
    // As deep as the path has such steps: the operator's doing, and bounded when it is read.
    elements(array).all(|element| {
        let left = max - (found.len() - already);
        find_all(element, after.get(1..).unwrap_or_default(), found, left)
    })
}

/// Appends what the content of a string means, as UTF-8. Lone surrogates become U+FFFD.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    for piece in (Pieces { rest: raw }) {
        out.extend_from_slice(piece.bytes(&mut [0; 4]));
    }
}

/// Appends the text of a scalar: the decoded content of a string; numbers, `true` and `false` as they are. For null,
/// objects and arrays nothing, and `false`.
pub fn scalar_text(value: &[u8], out: &mut Vec<u8>) -> bool {
    let mut cursor = Cursor(trim_start(value));
    match shape(cursor.0) {
        Some(Shape::String) => unescape(cursor.string().unwrap_or_default(), out),
        Some(Shape::Number | Shape::True | Shape::False) => out.extend_from_slice(cursor.value()),
        Some(Shape::Null | Shape::Object | Shape::Array) | None => return false,
    }
    true
}

/// The content of a string, cut at its escapes.
struct Pieces<'a> {
    rest: &'a [u8],
}

enum Piece<'a> {
    Plain(&'a [u8]),
    Char(char),
}

impl<'a> Piece<'a> {
    fn bytes<'b>(&self, buffer: &'b mut [u8; 4]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Char(c) => c.encode_utf8(buffer).as_bytes(),
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let [b'\\', escape, tail @ ..] = self.rest else {
            // A backslash at the end stands only in bytes that were not validated: it is taken for text.
            let len = match self.rest {
                [] => return None,
                [_, tail @ ..] => 1 + memchr::memchr(b'\\', tail).unwrap_or(tail.len()),
            };
            let (plain, rest) = self.rest.split_at_checked(len)?;
            self.rest = rest;
            return Some(Piece::Plain(plain));
        };
        self.rest = tail;
        Some(Piece::Char(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.code_point(),
            other => char::from(*other),
        }))
    }
}

impl Pieces<'_> {
    /// What follows `\u`; the two of a surrogate pair make one (RFC 8259 7).
    fn code_point(&mut self) -> char {
        let Some((unit, rest)) = unit(self.rest) else { return char::REPLACEMENT_CHARACTER };
        self.rest = rest;
        if matches!(unit, 0xD800..0xDC00)
            && let Some((low @ 0xDC00..0xE000, rest)) = rest.strip_prefix(b"\\u").and_then(self::unit)
        {
            self.rest = rest;
            let code_point = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            return char::from_u32(code_point).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, b| Some(unit << 4 | char::from(*b).to_digit(16)?))?;
    Some((unit, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::super::path::Path;
    use super::super::samples::Random;
    use super::*;

    fn text(of: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        of(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn shapes() {
        for (value, expected) in [
            ("{}", Some(Shape::Object)),
            (" \t\r\n[]", Some(Shape::Array)),
            ("\"a\"", Some(Shape::String)),
            ("-1", Some(Shape::Number)),
            ("0", Some(Shape::Number)),
            ("true", Some(Shape::True)),
            ("false ", Some(Shape::False)),
            ("null", Some(Shape::Null)),
            ("", None),
            (" ", None),
            ("+", None),
        ] {
            assert_eq!(shape(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(trim(b" \r\n\t a b\x0C \t"), b"a b\x0C");
        assert_eq!(trim(b" \n"), b"");
    }

    #[test]
    fn values_are_found_as_they_came() {
        let value = br#" {"user": {"id" : 9007199254740993, "n\u0061me":"A \"B\" [", "tags":[ "x", [1 ,2], {} ]},
            "list":[{"id":1.50,"x":[{"y":true}]},{"id":"two"},7,{"no":0},{"id":null}], "": [] } "#;
        for (at, expected) in [
            ("user.id", Some("9007199254740993")),
            ("user.name", Some(r#""A \"B\" [""#)),
            ("user.tags[0]", Some("\"x\"")),
            ("user.tags[1]", Some("[1 ,2]")),
            ("user.tags[1][1]", Some("2")),
            ("user.tags[2]", Some("{}")),
            ("user.tags[3]", None),
            ("user.tags.x", None),
            ("user[0]", None),
            ("user.id.x", None),
            ("list[1].id", Some("\"two\"")),
            ("list[*].id", None),
            ("none", None),
        ] {
            assert_eq!(find(value, &path(at).0), expected.map(str::as_bytes), "{at}");
        }
        assert_eq!(find(value, &[]), Some(trim(value)));
        for (at, max, expected, all) in [
            ("list[*].id", 9, vec!["1.50", "\"two\"", "null"], true),
            ("list[*].id", 3, vec!["1.50", "\"two\"", "null"], true),
            ("list[*].id", 2, vec!["1.50", "\"two\""], false),
            ("list[*].id", 0, vec![], false),
            ("list[*].x[*].y", 9, vec!["true"], true),
            ("user.tags[*]", 9, vec!["\"x\"", "[1 ,2]", "{}"], true),
            ("user.tags[*][*]", 9, vec!["1", "2"], true),
            ("user[*]", 0, vec![], true),
            ("none", 0, vec![], true),
            ("user.id", 1, vec!["9007199254740993"], true),
            ("user.id", 0, vec![], false),
        ] {
            let mut found = vec![&b"before"[..]];
            assert_eq!(find_all(value, &path(at).0, &mut found, max), all, "{at} {max}");
            let found: Vec<_> = found[1..].iter().map(|value| str::from_utf8(value).unwrap()).collect();
            assert_eq!(found, expected, "{at} {max}");
        }
    }

    #[test]
    fn escapes_are_decoded() {
        for (raw, expected) in [
            ("", ""),
            ("plain é", "plain é"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{C}\n\r\t"),
            (r"\u0041\u00e9\u6F22x", "Aé漢x"),
            (r"\ud83d\ude00\uD83D\uDE00", "😀😀"),
            (r"\ud83d", "\u{FFFD}"),
            (r"\ude00\ud83d!", "\u{FFFD}\u{FFFD}!"),
            (r"\ud83d\ud83d\ude00", "\u{FFFD}😀"),
            (r"\ud83d\u0041", "\u{FFFD}A"),
            (r"\ud83d\n", "\u{FFFD}\n"),
            (r"\u0000", "\0"),
        ] {
            assert_eq!(text(|out| unescape(raw.as_bytes(), out)), expected, "{raw}");
            assert!(key_is(raw.as_bytes(), expected) && !key_is(raw.as_bytes(), &format!("{expected}x")), "{raw}");
            let mut shorter = expected.to_string();
            assert!(shorter.pop().is_none() || !key_is(raw.as_bytes(), &shorter), "{raw}");
        }
        for (value, expected) in [
            (r#" "a\nb" "#, Some("a\nb")),
            ("\"\"", Some("")),
            (" 1.50 ", Some("1.50")),
            ("true", Some("true")),
            ("false\n", Some("false")),
            ("null", None),
            ("{}", None),
            ("[1]", None),
            ("", None),
        ] {
            let mut out = b">".to_vec();
            assert_eq!(scalar_text(value.as_bytes(), &mut out), expected.is_some(), "{value}");
            assert_eq!(out, format!(">{}", expected.unwrap_or_default()).as_bytes(), "{value}");
        }
    }

    fn assert_same(bytes: &[u8], value: &Value) {
        assert_eq!(bytes, trim(bytes));
        match value {
            Value::Null => assert_eq!((shape(bytes), bytes), (Some(Shape::Null), &b"null"[..])),
            Value::Bool(is) => assert_eq!(shape(bytes), Some(if *is { Shape::True } else { Shape::False })),
            Value::Number(number) => {
                assert_eq!(serde_json::from_slice::<Value>(bytes).unwrap().as_number(), Some(number))
            }
            Value::String(string) => assert_eq!(text(|out| assert!(scalar_text(bytes, out))), *string),
            Value::Array(array) => {
                assert_eq!(elements(bytes).count(), array.len());
                elements(bytes).zip(array).for_each(|(element, value)| assert_same(element, value));
            }
            Value::Object(object) => {
                assert_eq!(members(bytes).count(), object.len());
                for (key, member) in members(bytes) {
                    let key = text(|out| unescape(key, out));
                    assert_same(member, &object[&key]);
                    assert_eq!(find(bytes, &[Step::Key(key)]), Some(member));
                }
            }
        }
        assert!(shape(bytes) == Some(Shape::Array) || elements(bytes).next().is_none());
        assert!(shape(bytes) == Some(Shape::Object) || members(bytes).next().is_none());
    }

    fn all<'a>(value: &'a Value, path: &[Step], found: &mut Vec<&'a Value>) {
        match path {
            [] => found.push(value),
            [Step::Key(key), rest @ ..] => value.get(key).into_iter().for_each(|value| all(value, rest, found)),
            [Step::Index(index), rest @ ..] => value.get(index).into_iter().for_each(|value| all(value, rest, found)),
            [Step::Each, rest @ ..] => value.as_array().into_iter().flatten().for_each(|value| all(value, rest, found)),
        }
    }

    #[test]
    fn what_is_found_is_what_serde_json_finds() {
        let mut random = Random(0x0BAD_F00D_0BAD_F00D);
        let mut hits = 0;
        for _ in 0..5000 {
            let document = random.document(true);
            let value: Value = serde_json::from_str(&document).unwrap();
            assert_same(trim(document.as_bytes()), &value);
            for _ in 0..5 {
                let path: Vec<Step> = (0..random.below(4))
                    .map(|_| match random.below(3) {
                        0 => Step::Each,
                        1 => Step::Index(random.below(3)),
                        _ => Step::Key(random.key().into()),
                    })
                    .collect();
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                let max = random.below(8);
                all(&value, &path, &mut expected);
                assert_eq!(find_all(document.as_bytes(), &path, &mut found, max), expected.len() <= max);
                assert_eq!(found.len(), expected.len().min(max));
                found.iter().zip(&expected).for_each(|(bytes, value)| assert_same(bytes, value));
                if !path.contains(&Step::Each) {
                    assert_eq!(find(document.as_bytes(), &path).is_some(), expected.len() == 1);
                }
                hits += found.len();
            }
        }
        assert!(hits > 5000, "{hits}");
    }

    #[test]
    fn other_bytes_do_no_harm() {
        let mut random = Random(0x1357_9BDF_0246_8ACE);
        let paths = [path("a.b[0]"), path("[*].id"), path("[0][*]"), path("user.items[*].a")];
        for round in 0..20_000 {
            let mut bytes = random.document(false).into_bytes();
            for _ in 0..=round % 5 {
                random.mutate(&mut bytes);
            }
            let (mut found, mut out) = (Vec::new(), Vec::new());
            for value in [&bytes[..], bytes.get(random.below(bytes.len() + 1)..).unwrap()] {
                assert!(members(value).count() <= value.len() && elements(value).count() <= value.len());
                for path in &paths {
                    find(value, &path.0);
                    find_all(value, &path.0, &mut found, usize::MAX);
                }
                unescape(value, &mut out);
                scalar_text(value, &mut out);
                key_is(value, "a");
            }
        }
        // Deep nesting is counted; nothing recurses.
        let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
        assert_eq!(elements(&deep).next().map(<[u8]>::len), Some(deep.len() - 2));
        for text in
            ["[,,,,]", "[}", "[:", "{:}", "{\"a\"", "{\"a\"}", "{\"a\":", "{\"a\":}", "[\"a", "\"", "\\", "[\"\\"]
        {
            members(text.as_bytes()).for_each(drop);
            elements(text.as_bytes()).for_each(drop);
            scalar_text(text.as_bytes(), &mut Vec::new());
        }
    }
}
