//! What a config can look like, as data: one row a key, with what it takes and its default. The decoder stays the judge;
//! from these rows come the JSON Schema that editors complete by (`ringway schema`) and the defaults that `ringway check
//! --print` fills in. What a key means is said once, in the comments of `config/gateway.yaml`.
//!
//! Tests hold the four together: a block's rows are the decoder's keys; every row has its comment; a config with all
//! defaults written out is the same config; and an independent validator says of every example that it is right.

use serde_json::{Map, Value, json};

use super::decode::Keys;
use comments::Comments;

mod aggregate;
mod comments;
mod document;
mod filters;
#[cfg(test)]
mod tests;

use document::DOCUMENT;
pub(super) use document::{COOKIE_PREDICATE, PREDICATE};

/// The whole document.
pub(super) static WHOLE: Kind = Kind::Block(&DOCUMENT);

/// A mapping whose keys are known.
pub(super) struct Block {
    /// How it is called among the schema's definitions; unique.
    pub(super) name: &'static str,
    /// The decoder's keys.
    pub(super) keys: &'static Keys,
    /// The same keys, and what they take.
    pub(super) rows: &'static [Row],
    /// What must be given beside the keys that are always needed.
    pub(super) rule: Rule,
}

/// What must be given beside the keys that are always needed.
pub(super) enum Rule {
    /// Nothing.
    None,
    /// Exactly one of these.
    One(&'static [&'static str]),
    /// At least one of these.
    Some(&'static [&'static str]),
    /// One key and no more; plugins are keys too.
    Filter,
}

/// A key.
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
}

/// What holds where a key is not given.
pub(super) enum Default {
    /// It must be given.
    Needed,
    /// Nothing that could be written.
    Nothing,
    /// This.
    Is(&'static str),
    /// This, if the other key is given, and neither 0 nor none.
    With(&'static str, &'static str),
    /// This, if the other key is not given.
    Without(&'static str, &'static str),
    /// This in most cases; it depends on what else is given, and means something else when it is written.
    Mostly(&'static str),
}

/// What a value may be.
pub(super) enum Kind {
    Block(&'static Block),
    /// So many of them.
    List(&'static Kind, u32, u32),
    /// By keys that the operator chooses.
    Map(&'static Kind),
    Count(u32, u32),
    /// A whole number that may be negative.
    Integer(i32, i32),
    Boolean,
    Words(&'static [&'static str]),
    /// A text that matches an expression, and can not look like a number.
    Like(&'static str),
    /// A text that matches an expression, also one of digits alone.
    Name(&'static str),
    Text,
    /// A text that may hold what should not be shown, if it comes from a variable.
    Template,
    /// Never shown.
    Secret,
    /// A URL whose password is never shown.
    Url,
    /// What others read: a plugin, or a JSON document.
    Any,
    Either(&'static [Kind]),
}

/// A key that must be given.
const fn need(key: &'static str, kind: Kind) -> Row {
    Row { key, kind, default: Default::Needed }
}

/// A key without a default that could be written.
const fn may(key: &'static str, kind: Kind) -> Row {
    Row { key, kind, default: Default::Nothing }
}

/// A key with this default; `{}` is a block with all of its own.
const fn or(key: &'static str, kind: Kind, default: &'static str) -> Row {
    Row { key, kind, default: Default::Is(default) }
}

/// A key whose default depends on others.
const fn mostly(key: &'static str, kind: Kind, default: &'static str) -> Row {
    Row { key, kind, default: Default::Mostly(default) }
}

const TIME: Kind = Kind::Like("^[0-9]+(ms|s|m|h|d)$");
const SIZE: Kind = Kind::Like("^[0-9]+(B|KB|KiB|MB|MiB|GB|GiB)$");
const NONE: Kind = Kind::Words(&["none"]);
const NAME: Kind = Kind::Name("^[!-~]{1,128}$");
const NAMES: Kind = Kind::List(&NAME, 0, 64);
const FILE: Kind = Kind::Like("^/");
const FIELD: Kind = Kind::Name("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$");
const METHOD: Kind = Kind::Name("^[!#$%&'*+.^_`|~0-9A-Z-]{1,32}$");
const METHODS: Kind = Kind::List(&METHOD, 1, 32);
const TEXTS: Kind = Kind::List(&Kind::Text, 1, 100);
const FIELDS: Kind = Kind::Map(&Kind::Template);
/// A share of the requests.
const SHARE: Kind = Kind::Like("^[0-9]{1,3}(\\.[0-9]{1,4})?%$");
const HTTP_PORT: Kind = Kind::Count(1, 65_535);

/// The JSON Schema (draft 2020-12) of the config, with these plugins, each a name and what it does.
#[must_use]
pub fn json_schema(plugins: &[(&str, &str)]) -> String {
    let mut writer = Writer { comments: Comments::read(), definitions: Map::new(), plugins };
    let root = writer.block(&DOCUMENT);
    let variable = json!({
        "type": "string",
        "pattern": "\\$\\{[A-Za-z_]",
        "description": "A variable of the environment: ${NAME} or ${NAME:-default}",
    });
    writer.definitions.insert("variable".into(), variable);
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A config of ringway",
        "$ref": root,
        "$defs": writer.definitions,
    });
    format!("{schema:#}\n")
}

struct Writer<'p> {
    comments: Comments,
    definitions: Map<String, Value>,
    plugins: &'p [(&'p str, &'p str)],
}

impl Writer<'_> {
    /// The reference to a block's definition, which is made at its first use.
    fn block(&mut self, block: &Block) -> Value {
        let reference = json!(format!("#/$defs/{}", block.name));
        if self.definitions.contains_key(block.name) {
            return reference;
        }
        // Holds the place, so that a block within itself would not go on for ever.
        self.definitions.insert(block.name.to_owned(), Value::Null);
        let mut properties = Map::new();
        for key in block.keys.known {
            let Some(row) = block.rows.iter().find(|row| row.key == *key) else { continue };
            let mut property = self.kind(&row.kind);
            if let Some(about) = self.comments.of(block.name, row.key) {
                property.insert("description".into(), about.into());
            }
            if let Some(default) = row.default.text() {
                property.insert("default".into(), as_json(default, &row.kind));
            }
            properties.insert(row.key.to_owned(), property.into());
        }
        let mut definition = Map::new();
        if let Rule::Filter = block.rule {
            for (name, about) in self.plugins {
                properties.insert((*name).to_owned(), json!({ "description": about }));
            }
            definition.insert("minProperties".into(), 1.into());
            definition.insert("maxProperties".into(), 1.into());
        }
        definition.insert("type".into(), "object".into());
        definition.insert("properties".into(), properties.into());
        definition.insert("additionalProperties".into(), false.into());
        let needed = block.rows.iter().filter(|row| matches!(row.default, Default::Needed)).map(|row| row.key);
        let needed: Vec<&str> = needed.collect();
        if !needed.is_empty() {
            definition.insert("required".into(), json!(needed));
        }
        let given = |keys: &[&str]| json!(keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>());
        match block.rule {
            Rule::One(keys) => drop(definition.insert("oneOf".into(), given(keys))),
            Rule::Some(keys) => drop(definition.insert("anyOf".into(), given(keys))),
            Rule::None | Rule::Filter => {}
        }
        self.definitions.insert(block.name.to_owned(), definition.into());
        reference
    }

    fn kind(&mut self, kind: &Kind) -> Map<String, Value> {
        let or_variable = |this: Value| json!({ "anyOf": [this, { "$ref": "#/$defs/variable" }] });
        let schema = match kind {
            Kind::Block(block) => json!({ "$ref": self.block(block) }),
            Kind::List(of, least, most) => {
                json!({ "type": "array", "items": self.kind(of), "minItems": least, "maxItems": most })
            }
            Kind::Map(of) => json!({ "type": "object", "additionalProperties": self.kind(of) }),
            Kind::Count(least, most) => or_variable(json!({ "type": "integer", "minimum": least, "maximum": most })),
            Kind::Integer(least, most) => or_variable(json!({ "type": "integer", "minimum": least, "maximum": most })),
            Kind::Boolean => or_variable(json!({ "enum": [true, false, "true", "false"] })),
            Kind::Words(words) => {
                let given = json!({ "enum": words.iter().flat_map(|w| word(w)).collect::<Vec<_>>() });
                // How YAML 1.1 reads and writes it; editors complete the word.
                let as_boolean = json!({ "enum": [false, "false"], "doNotSuggest": true });
                let mut any = vec![given, json!({ "$ref": "#/$defs/variable" })];
                any.extend(words.contains(&"off").then_some(as_boolean));
                json!({ "anyOf": any })
            }
            Kind::Like(like) => or_variable(json!({ "type": "string", "pattern": like })),
            Kind::Name(like) => or_variable(json!({ "type": ["string", "number", "boolean"], "pattern": like })),
            // Without quotes a number is a text too.
            Kind::Text | Kind::Template | Kind::Url | Kind::Secret => {
                json!({ "type": ["string", "number", "boolean"] })
            }
            Kind::Any => json!({}),
            Kind::Either(kinds) => {
                json!({ "anyOf": kinds.iter().map(|kind| self.kind(kind)).collect::<Vec<_>>() })
            }
        };
        match schema {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }
}

/// A word as YAML reads it: `1.2` is a number there.
fn word(word: &str) -> Vec<Value> {
    let number = serde_json::from_str::<Value>(word).ok().filter(Value::is_number);
    [Some(word.into()), number].into_iter().flatten().collect()
}

impl Default {
    /// What is told to people as the default.
    fn text(&self) -> Option<&'static str> {
        match self {
            Self::Needed | Self::Nothing => None,
            Self::Is(text) | Self::With(_, text) | Self::Without(_, text) | Self::Mostly(text) => Some(text),
        }
    }
}

/// A default as JSON: numbers, booleans and blocks where the kind takes them, else text.
fn as_json(text: &str, kind: &Kind) -> Value {
    let is_text = matches!(kind, Kind::Text | Kind::Template | Kind::Words(_) | Kind::Like(_) | Kind::Name(_));
    let parsed = || serde_json::from_str::<Value>(text).ok();
    if is_text { text.into() } else { parsed().unwrap_or_else(|| text.into()) }
}
