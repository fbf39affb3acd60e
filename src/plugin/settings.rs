//! A plugin's block of the config: values that know where they stand, and serde's way to read them.
//!
//! serde stops at the first thing that is wrong, so of each plugin's block one error is told at a time. Its place is that of
//! the innermost value it is about. What variables put into the config is never quoted: it may be a secret.

use std::fmt::{self, Display};

use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::Fault;

/// A value of the config.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) kind: SettingsKind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum SettingsKind {
    /// A text, or a number: that is decided by who reads it. `written` is what the file has there, if that is something else.
    Text { text: String, written: Option<String>, is_quoted: bool },
    /// A list.
    List(Vec<Settings>),
    /// Keys, each once.
    Map(Vec<(SettingsKey, Settings)>),
}

/// A key and its place.
#[derive(Debug, Clone)]
pub(crate) struct SettingsKey {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) text: String,
}

/// What is wrong, and where.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    /// Line and column, once they are known.
    pub(crate) place: Option<(u32, u32)>,
    /// The way of keys from the block to it.
    pub(crate) path: String,
    pub(crate) what: String,
    pub(crate) remedy: String,
    /// A word that is not known here, and those that are.
    pub(crate) word: Option<(Box<str>, &'static [&'static str])>,
    /// The value is to be quoted in front.
    of_value: bool,
}

impl Settings {
    /// Reads all of it.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Wrong> {
        T::deserialize(At(self)).map_err(|wrong| wrong.placed(self))
    }

    /// A plugin's own words, at the place that they name.
    pub(crate) fn fault(&self, fault: Fault) -> Wrong {
        let Fault { what, remedy, key } = fault;
        match self.find(&key) {
            Some(value) => Wrong { path: key, ..Wrong::at(value, what, remedy) },
            None => Wrong::at(self, what, remedy),
        }
    }

    /// The value that a path like `rules[2].name` leads to.
    fn find(&self, path: &str) -> Option<&Settings> {
        let mut value = self;
        let mut steps = path.split(['.', '[']).filter(|step| !step.is_empty());
        steps.try_for_each(|step| {
            value = match (&value.kind, step.strip_suffix(']')) {
                (SettingsKind::List(items), Some(index)) => items.get(index.parse::<usize>().ok()?)?,
                (SettingsKind::Map(entries), None) => {
                    entries.iter().find(|(key, _)| key.text == step).map(|(_, v)| v)?
                }
                _ => return None,
            };
            Some(())
        })?;
        Some(value)
    }

    /// Whether nothing is written there.
    fn is_null(&self) -> bool {
        matches!(&self.kind, SettingsKind::Text { text, is_quoted: false, .. } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What it is, for a message.
    fn wrong_kind(&self, wanted: &str) -> Wrong {
        let what = match &self.kind {
            _ if self.is_null() => format!("is empty, {wanted} is expected"),
            SettingsKind::Text { .. } => format!("must be {wanted}, not a single value"),
            SettingsKind::List(_) => format!("must be {wanted}, not a list"),
            SettingsKind::Map(_) => format!("must be {wanted}, not a mapping of keys"),
        };
        Wrong::at(self, what, String::new())
    }
}

impl Wrong {
    /// Something about this value.
    pub(crate) fn at(value: &Settings, what: String, remedy: String) -> Self {
        Self { place: Some((value.line, value.column)), what, remedy, ..Self::default() }
    }

    fn of_value(what: String) -> Self {
        Self { what, of_value: true, ..Self::default() }
    }

    /// It is about this value, unless it is about one within.
    fn placed(mut self, value: &Settings) -> Self {
        if self.place.is_some() {
            return self;
        }
        self.place = Some((value.line, value.column));
        let SettingsKind::Text { text, written, .. } = &value.kind else { return self };
        if let Some(written) = written.as_ref().filter(|_| !text.is_empty()) {
            self.what = self.what.replace(text.as_str(), written);
        }
        if self.of_value {
            let colon = if self.what.starts_with("is ") { "" } else { ":" };
            self.what = format!("{}{colon} {}", quote(written.as_ref().unwrap_or(text)), self.what);
        }
        self
    }

    fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

/// Longer quotations say no more.
const QUOTE_CHARS_MAX: usize = 60;

fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: Display>(message: T) -> Self {
        Self::of_value(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self { what: format!("must be {}", readable(wanted)), ..Self::default() }
    }

    fn invalid_value(_: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::of_value(format!("is not {}", readable(wanted)))
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        Self { what: format!("has {length} items, where {wanted} is expected"), ..Self::default() }
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let word = Some((word.into(), known));
        let remedy = format!("allowed: {}", known.join(", "));
        Self { remedy, word, ..Self::of_value("is not a word that is known here".into()) }
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let remedy = format!("the keys here are {}", known.join(", "));
        Self { what: "unknown key".into(), remedy, word: Some((key.into(), known)), ..Self::default() }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { what: format!("the key {} is missing", quote(key)), remedy: "add it".into(), ..Self::default() }
    }
}

/// What serde calls its types is not what operators do.
fn readable(wanted: &dyn Expected) -> String {
    let wanted = wanted.to_string();
    match wanted.as_str() {
        "a sequence" => "a list".into(),
        "a map" => "a mapping of keys".into(),
        "a string" => "text".into(),
        "a boolean" => "true or false".into(),
        _ if wanted.starts_with("struct ") => "a mapping of keys".into(),
        _ => wanted,
    }
}

/// A value that is being read.
#[derive(Clone, Copy)]
struct At<'d>(&'d Settings);

impl<'d> At<'d> {
    /// The text of a single value.
    fn text(self, wanted: &str) -> Result<&'d str, Wrong> {
        match &self.0.kind {
            SettingsKind::Text { text, .. } if !self.0.is_null() => Ok(text),
            _ => Err(self.0.wrong_kind(wanted)),
        }
    }

    fn read<T>(self, result: Result<T, Wrong>) -> Result<T, Wrong> {
        result.map_err(|wrong| wrong.placed(self.0))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $number:ty;)*) => {$(
        fn $method<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let number = self.text("a whole number")?.parse::<$number>().map_err(|_| {
                Wrong::of_value(format!("is not a whole number from {} to {}", <$number>::MIN, <$number>::MAX))
            });
            self.read(number.and_then(|number| visitor.$visit(number)))
        }
    )*};
}

impl<'d> Deserializer<'d> for At<'d> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let SettingsKind::Text { text, is_quoted, .. } = &self.0.kind else {
            return match &self.0.kind {
                SettingsKind::List(_) => self.deserialize_seq(visitor),
                _ => self.deserialize_map(visitor),
            };
        };
        self.read(match (text.as_str(), text.parse::<i64>(), text.parse::<f64>()) {
            _ if *is_quoted => visitor.visit_borrowed_str(text),
            _ if self.0.is_null() => visitor.visit_unit(),
            ("true", ..) => visitor.visit_bool(true),
            ("false", ..) => visitor.visit_bool(false),
            (_, Ok(number), _) => visitor.visit_i64(number),
            (_, _, Ok(number)) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                visitor.visit_f64(number)
            }
            _ => visitor.visit_borrowed_str(text),
        })
    }

    fn deserialize_bool<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.read(match self.text("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Wrong::of_value("is neither true nor false".into())),
        })
    }

    numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
    }

    fn deserialize_f32<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let number = self.text("a number")?.parse::<f64>().ok().filter(|number| number.is_finite());
        let number = number.ok_or_else(|| Wrong::of_value("is not a number".into()));
        self.read(number.and_then(|number| visitor.visit_f64(number)))
    }

    fn deserialize_char<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = self.text("text")?;
        self.read(visitor.visit_borrowed_str(text))
    }

    fn deserialize_string<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = self.text("text")?;
        self.read(visitor.visit_borrowed_bytes(text.as_bytes()))
    }

    fn deserialize_byte_buf<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.read(if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) })
    }

    fn deserialize_newtype_struct<V: Visitor<'d>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.read(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let SettingsKind::List(items) = &self.0.kind else { return Err(self.0.wrong_kind("a list")) };
        let mut items = Items { items, next: 0 };
        let value = self.read(visitor.visit_seq(&mut items))?;
        match items.items.get(items.next) {
            None => Ok(value),
            Some(surplus) => {
                let what = format!("is one more than the {} items that are expected", items.next);
                Err(Wrong::at(surplus, what, "remove it".into()).below(&format!("[{}]", items.next)))
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'d>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'d>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let SettingsKind::Map(entries) = &self.0.kind else { return Err(self.0.wrong_kind("a mapping of keys")) };
        self.read(visitor.visit_map(Entries { entries, at: None }))
    }

    fn deserialize_struct<V: Visitor<'d>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'d>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let access = match &self.0.kind {
            SettingsKind::Text { .. } => Word { word: self.text("one word")?, at: self.0, content: None },
            SettingsKind::Map(entries) => match entries.as_slice() {
                [(key, content)] => Word { word: &key.text, at: self.0, content: Some(content) },
                _ => return Err(self.0.wrong_kind("one word, or one key")),
            },
            SettingsKind::List(_) => return Err(self.0.wrong_kind("one word, or one key")),
        };
        self.read(visitor.visit_enum(access))
    }

    fn deserialize_ignored_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    fn deserialize_identifier<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_unit<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_null() { visitor.visit_unit() } else { Err(self.0.wrong_kind("nothing")) }
    }

    fn deserialize_unit_struct<V: Visitor<'d>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }
}

/// The items of a list.
struct Items<'d> {
    items: &'d [Settings],
    next: usize,
}

impl<'d> SeqAccess<'d> for &mut Items<'d> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'d>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        self.next += 1;
        let index = self.next - 1;
        seed.deserialize(At(item)).map(Some).map_err(|wrong| wrong.placed(item).below(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.next))
    }
}

/// The keys of a mapping.
struct Entries<'d> {
    entries: &'d [(SettingsKey, Settings)],
    /// The one whose key was read.
    at: Option<&'d (SettingsKey, Settings)>,
}

impl<'d> MapAccess<'d> for Entries<'d> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'d>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some((first, rest)) = self.entries.split_first() else { return Ok(None) };
        (self.at, self.entries) = (Some(first), rest);
        let key = &first.0;
        let text: StrDeserializer<'_, Wrong> = key.text.as_str().into_deserializer();
        seed.deserialize(text).map(Some).map_err(|wrong| {
            let place = wrong.place.or(Some((key.line, key.column)));
            Wrong { place, ..wrong }.below(&key.text)
        })
    }

    fn next_value_seed<V: DeserializeSeed<'d>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let Some((key, value)) = self.at else { return Err(de::Error::custom("a value without its key")) };
        seed.deserialize(At(value)).map_err(|wrong| wrong.placed(value).below(&key.text))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// One of several words: alone, or as the one key of a mapping that holds more.
struct Word<'d> {
    word: &'d str,
    at: &'d Settings,
    content: Option<&'d Settings>,
}

impl<'d> EnumAccess<'d> for Word<'d> {
    type Error = Wrong;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'d>>(self, seed: V) -> Result<(V::Value, Self), Wrong> {
        let word: StrDeserializer<'_, Wrong> = self.word.into_deserializer();
        Ok((seed.deserialize(word).map_err(|wrong| wrong.placed(self.at))?, self))
    }
}

impl<'d> Word<'d> {
    fn content(&self) -> Result<At<'d>, Wrong> {
        let alone = || Wrong::at(self.at, format!("{} needs a value", quote(self.word)), String::new());
        self.content.map(At).ok_or_else(alone)
    }

    fn below<T>(&self, result: Result<T, Wrong>) -> Result<T, Wrong> {
        result.map_err(|wrong| wrong.below(self.word))
    }
}

impl<'d> VariantAccess<'d> for Word<'d> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.content {
            None => Ok(()),
            Some(content) if content.is_null() => Ok(()),
            Some(content) => Err(Wrong::at(content, format!("{} has no value", quote(self.word)), "remove it".into())),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'d>>(self, seed: T) -> Result<T::Value, Wrong> {
        let content = self.content()?;
        self.below(seed.deserialize(content).map_err(|wrong| wrong.placed(content.0)))
    }

    fn tuple_variant<V: Visitor<'d>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        let content = self.content()?;
        self.below(content.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'d>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        let content = self.content()?;
        self.below(content.deserialize_map(visitor))
    }
}
