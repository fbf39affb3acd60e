//! `filters`: what is done to a request or an answer on its way, named here and used by name.

use std::collections::HashMap;

use super::decode::{Keys, Value, check_name};
use super::headers::{self, Direction, HeaderEdits};
use super::report::{Located, Report, quote};
use super::routes::Draft;
use super::templates::Params;
use crate::route::template::{Template, TemplateError};

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
    // Which parameters its templates may name depends on the routes that use it.
    headers::edits(edits, Direction::Request, &Params::Any).map(Filter::RequestHeaders)
}

impl Filter {
    /// Its templates, all of them for values of header fields.
    fn templates(&self) -> impl Iterator<Item = &Located<String>> {
        match self {
            Self::RequestHeaders(edits) => edits.set.iter().chain(&edits.add).map(|field| &field.value),
        }
    }
}

/// A filter's templates must be right for every route that uses it. What is not is recorded once, whatever the number of
/// such routes. `everywhere` are names of filters of all routes and of listeners.
pub(super) fn check_templates(
    filters: &[NamedFilter],
    routes: &[Draft<'_>],
    everywhere: &[&Located<String>],
    report: &Report,
) {
    let mut used_by: HashMap<&str, Vec<&Draft<'_>>> = HashMap::new();
    for route in routes {
        let refused = |name: &str| route.without.iter().any(|without| without.value == name);
        let inherited = everywhere.iter().map(|name| name.value.as_str()).filter(|name| !refused(name));
        for name in inherited.chain(route.filters.iter().map(|name| name.value.as_str())) {
            used_by.entry(name).or_default().push(route);
        }
    }
    for NamedFilter { name, filter } in filters {
        let users = used_by.get(name.value.as_str()).map(Vec::as_slice).unwrap_or_default();
        for template in filter.templates() {
            let Some((route, fault)) = users.iter().find_map(|route| Some((route, fault(template, route)?))) else {
                continue;
            };
            report.error(&template.at, fault.to_string(), format!("the route {} uses this filter", route.label()));
        }
    }
}

fn fault(template: &Located<String>, route: &Draft<'_>) -> Option<TemplateError> {
    Template::parse_header(&template.value, &route.params.of_template(&template.value)).err()
}
