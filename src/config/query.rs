//! `rewrite.query` of a route that forwards: pairs of the query that the upstream gets otherwise than the client sent them.

use super::decode::{Keys, Value};
use super::report::{Located, quote};
use super::templates::{self, Params};
use crate::route::template::Template;
use crate::value::Invalid;

pub(super) const KEYS: Keys = Keys { known: &["set", "add", "remove"], later: &[] };

/// Each is compared with every pair of every request; more than this is a mistake.
const NAMES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 1024;

/// Changes to a query. Names are plain text, as they are meant, and not as a URL encodes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryEdits {
    /// Each stands for all pairs of its name: see [`Template::parse_query_value`].
    pub set: Vec<(String, Located<String>)>,
    /// Each comes behind what the query has.
    pub add: Vec<(String, Located<String>)>,
    /// Names of pairs that are taken out.
    pub remove: Vec<String>,
}

impl QueryEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

pub(super) fn decode(value: &Value<'_>, params: &Params) -> Option<QueryEdits> {
    let block = value.block(&KEYS)?;
    let set = block.or("set", Vec::new(), |v| pairs(v, params));
    let add = block.or("add", Vec::new(), |v| pairs(v, params));
    let remove = block.or("remove", Vec::new(), |v| {
        let name = |item: &Value<'_>| Some(item.locate(item.parse(|text| check_name(text).map(|()| text.to_owned()))?));
        v.each_once(0..=NAMES_MAX, name, |name| &name.value)
    });
    if let Some(at) = block.get("remove") {
        for (name, _) in set.iter().chain(&add).filter(|(name, _)| remove.iter().any(|removed| removed.value == *name))
        {
            at.error(format!("{} is both given and removed", quote(name)), "`set` alone replaces what was there");
        }
    }
    if let Some(at) = block.get("add") {
        for (name, _) in add.iter().filter(|(name, _)| set.iter().any(|(other, _)| other == name)) {
            at.error(format!("{} is both set and added", quote(name)), "upstreams differ in which they take; use one");
        }
    }
    Some(QueryEdits { set, add, remove: remove.into_iter().map(|name| name.value).collect() })
}

fn pairs(value: &Value<'_>, params: &Params) -> Option<Vec<(String, Located<String>)>> {
    let mut pairs = Vec::new();
    for (key, value) in value.entries(NAMES_MAX)? {
        if let Err(fault) = check_name(&key.text) {
            value.at_key(key).error(format!("{} {}", quote(&key.text), fault.what), fault.remedy);
            continue;
        }
        let text = match value.text() {
            Some("") => Some(value.locate(String::new())),
            Some(_) => value.line(VALUE_BYTES_MAX),
            None => None,
        };
        let text = text.and_then(|text| templates::checked(&value, text, params, Template::parse_query_value));
        pairs.extend(text.map(|text| (key.text.clone(), text)));
    }
    Some(pairs)
}

fn check_name(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(char::is_control) {
        let remedy = format!("1 to {NAME_BYTES_MAX} characters, none of them a control character");
        return Err(Invalid::new("is not the name of a query parameter", remedy));
    }
    Ok(())
}
