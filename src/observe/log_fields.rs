//! Fields that plugins add to the line of a request: `"plugins":{"tenant":{"name":"acme","seats":12}}`, by the filter that gave
//! them. What a plugin can write is bounded, and can neither end the line nor take the place of one of its own fields.

use super::access_log::string;

/// Fields of one request; more is no log line.
const FIELDS_MAX: usize = 32;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 64;
/// Bytes of a text; what is longer is cut.
const VALUE_BYTES_MAX: usize = 1024;
/// Bytes of all of them as they are written: the log's ring has room for lines of ordinary size.
const BYTES_MAX: usize = 4096;

/// The value of a field in the access log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LogValue<'v> {
    /// A text, at most 1,024 bytes; what is longer is cut.
    Text(&'v str),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
}

impl<'v> From<&'v str> for LogValue<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v String> for LogValue<'v> {
    fn from(text: &'v String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for LogValue<'_> {
    fn from(is: bool) -> Self {
        Self::Bool(is)
    }
}

macro_rules! from_numbers {
    ($($number:ty)*) => {$(
        impl From<$number> for LogValue<'_> {
            fn from(number: $number) -> Self {
                Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }
    )*};
}
from_numbers!(i32 i64 u8 u16 u32 u64 usize);

/// The fields of one request. Their memory is reused.
#[derive(Debug, Clone, Default)]
pub struct LogFields {
    /// Names, keys and values as they are written, with their quotes.
    text: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
struct Field {
    owner: (usize, usize),
    key: (usize, usize),
    value: (usize, usize),
}

impl LogFields {
    /// None.
    pub const fn new() -> Self {
        Self { text: Vec::new(), fields: Vec::new() }
    }

    /// Whether there are none: the common case.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }

    /// Notes a field; of one key the last value counts. `false`: it is left out, since its key is none (1 to 64 letters, digits
    /// and `_`, `-`, `.`) or since there are too many.
    pub fn set(&mut self, owner: &str, key: &str, value: LogValue<'_>) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(is_plain) {
            return false;
        }
        let before = self.text.len();
        let owner = self.push(|out| string(owner.as_bytes(), out));
        let key = self.push(|out| string(key.as_bytes(), out));
        let value = self.push(|out| match value {
            LogValue::Text(text) => string(cut(text).as_bytes(), out),
            LogValue::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            LogValue::Bool(is) => out.extend_from_slice(if is { b"true" } else { b"false" }),
        });
        let Self { text, fields } = self;
        let same = |field: &Field| of(text, field.owner) == of(text, owner) && of(text, field.key) == of(text, key);
        let there = fields.iter().position(same);
        if text.len() > BYTES_MAX || (there.is_none() && fields.len() >= FIELDS_MAX) {
            text.truncate(before);
            return false;
        }
        match there.and_then(|index| fields.get_mut(index)) {
            Some(field) => field.value = value,
            None => fields.push(Field { owner, key, value }),
        }
        true
    }

    /// Appends them as a JSON object.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut owners = 0;
        for (index, first) in self.fields.iter().enumerate() {
            let owner = self.of(first.owner);
            let is_its = |field: &&Field| self.of(field.owner) == owner;
            if self.fields.iter().take(index).any(|field| is_its(&field)) {
                continue;
            }
            if owners > 0 {
                out.push(b',');
            }
            owners += 1;
            out.extend_from_slice(owner);
            out.extend_from_slice(b":{");
            for (n, field) in self.fields.iter().filter(is_its).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(self.of(field.key));
                out.push(b':');
                out.extend_from_slice(self.of(field.value));
            }
            out.push(b'}');
        }
        out.push(b'}');
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> (usize, usize) {
        let start = self.text.len();
        write(&mut self.text);
        (start, self.text.len())
    }

    fn of(&self, span: (usize, usize)) -> &[u8] {
        of(&self.text, span)
    }
}

fn of(text: &[u8], (from, to): (usize, usize)) -> &[u8] {
    text.get(from..to).unwrap_or_default()
}

/// As much of a text as is written, up to the end of a character.
fn cut(text: &str) -> &str {
    let mut end = VALUE_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn shown(fields: &LogFields) -> Value {
        let mut out = Vec::new();
        fields.write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn fields_are_by_filter_and_of_one_key_the_last_counts() {
        let mut fields = LogFields::default();
        assert!(fields.is_empty());
        assert!(fields.set("a.b", "x", "\"\r\n\u{7f}é".into()) && fields.set("c", "n", (-3).into()));
        assert!(fields.set("a.b", "is", true.into()) && fields.set("c", "n", 4_u64.into()));
        assert_eq!(shown(&fields), json!({"a.b": {"x": "\"\r\n\u{7f}é", "is": true}, "c": {"n": 4}}));
        fields.clear();
        assert_eq!(shown(&fields), json!({}));
    }

    #[test]
    fn what_a_plugin_can_write_is_bounded() {
        let mut fields = LogFields::default();
        for key in ["", "a b", "a\"", "é", &"k".repeat(65)] {
            assert!(!fields.set("f", key, 1.into()), "{key}");
        }
        assert!(fields.is_empty());
        assert!(fields.set("f", "long", (&"é".repeat(5000)).into()));
        assert_eq!(shown(&fields)["f"]["long"].as_str().unwrap().len(), 1024);
        let noted = (0..100).filter(|n| fields.set("f", &format!("k{n}"), 1.into())).count();
        assert_eq!(noted, FIELDS_MAX - 1);
        fields.clear();
        // Escapes make a text longer: it is the written one that is bounded.
        assert!(!fields.set("f", "x", (&"\u{1}".repeat(1024)).into()) && fields.is_empty());
        assert!((0..10_000).all(|n| fields.set("f", "same", n.into()) || fields.text.len() > BYTES_MAX - 40));
        assert!(fields.text.len() <= BYTES_MAX);
    }
}
