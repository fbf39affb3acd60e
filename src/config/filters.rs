//! `filters`: what is done to a request or an answer on its way, named here and used by name.

use super::decode::{Keys, Value, check_name};
use super::headers::{self, Direction, HeaderEdits};
use super::report::{Located, quote};

pub(super) const KEYS: Keys = Keys {
    known: &["request_headers"],
    later: &[("jwt", "JWT authentication"), ("api_key", "API keys"), ("rate_limit", "rate limits"), ("cors", "CORS")],
};

const FILTERS_MAX: usize = 1000;

/// A filter and the name it is used by.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedFilter {
    /// Unique among filters.
    pub name: Located<String>,
    /// What it does.
    pub filter: Filter,
}

/// What a filter does.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Changes the header fields of the request before it is forwarded.
    RequestHeaders(HeaderEdits),
}

/// All filters, in the order of the file.
pub(super) fn decode(value: &Value<'_>) -> Option<Vec<NamedFilter>> {
    let mut filters = Vec::new();
    for (key, value) in value.entries(FILTERS_MAX)? {
        let at_key = value.at_key(key);
        if let Err(fault) = check_name(&key.text) {
            at_key.error(format!("{} {}", quote(&key.text), fault.what), fault.remedy);
        }
        if let Some(filter) = filter(&value) {
            filters.push(NamedFilter { name: at_key.locate(key.text.clone()), filter });
        }
    }
    Some(filters)
}

fn filter(value: &Value<'_>) -> Option<Filter> {
    let block = value.block(&KEYS)?;
    let Some(edits) = block.get("request_headers") else {
        // A filter of a later version is already told about.
        if value.keys().next().is_none() {
            value.error("says nothing", format!("give it exactly one of {}", KEYS.known.join(", ")));
        }
        return None;
    };
    headers::edits(edits, Direction::Request).map(Filter::RequestHeaders)
}
