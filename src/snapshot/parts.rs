//! From the config of an aggregation to the graph that runs: names become indexes, texts become templates.

use crate::config::aggregate::{self as raw, StatusPolicy};
use crate::config::{Located, Report};
use crate::filter::header_edits::HeaderEdits;
use crate::json::edit::{Edit, Filter};
use crate::json::path::{Path, Step};
use crate::json::write::{push_string, push_string_content};
use crate::route::body::BodyTemplate;
use crate::route::condition::Condition;
use crate::route::template::{Template, TemplateError};
use crate::shared::PartMetrics;

use super::aggregate::{Aggregate, Body, Envelope, ForEach, Part, Parts, Reference};
use super::build::millis;

/// What an aggregation is built from, beside its own config.
pub(super) struct Inputs<'a> {
    /// Parameters of the route's path.
    pub(super) params: &'a [String],
    /// The index of the upstream of that name.
    pub(super) upstream: &'a dyn Fn(&str) -> Option<usize>,
    /// The counters of the part of that name.
    pub(super) metrics: &'a dyn Fn(&str) -> PartMetrics,
    /// Changes to the answer's fields.
    pub(super) response_headers: HeaderEdits,
    /// Where errors go.
    pub(super) report: &'a Report,
}

/// Builds an aggregation. Errors are recorded; there are none for a config that was read.
pub(super) fn aggregate(raw: &raw::Aggregate, inputs: Inputs<'_>) -> Option<Aggregate> {
    let parts: Vec<Part> = raw.parts.iter().filter_map(|part| self::part(part, raw, &inputs)).collect();
    let bytes = |size: crate::value::ByteSize| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    (parts.len() == raw.parts.len()).then(|| Aggregate {
        envelope: raw.envelope,
        on_conflict: raw.on_conflict,
        expose_parts: raw.expose_parts,
        part_bytes_max: bytes(raw.limits.max_part_bytes),
        total_bytes_max: bytes(raw.limits.max_total_bytes),
        request_bytes_max: raw.limits.max_request_bytes.bytes(),
        passes_body: raw.parts.iter().any(|part| part.request.body == raw::Body::Pass),
        headers_from: raw.headers_from,
        completed_header: raw.completed_header.clone(),
        server_timing: raw.server_timing,
        response_headers: inputs.response_headers,
        parts,
    })
}

fn part(raw: &raw::Part, plan: &raw::Aggregate, inputs: &Inputs<'_>) -> Option<Part> {
    let Inputs { params, report, .. } = inputs;
    let names: Vec<String> = raw.values.iter().map(|value| value.text.clone()).collect();
    let when_names: Vec<String> = raw.when_values.iter().map(|value| value.text.clone()).collect();
    let request = &raw.request;
    let target = read(&request.path, report, |text| Template::parse_target(text, params, &names))?;
    let body = match &request.body {
        raw::Body::None => Body::None,
        raw::Body::Pass => Body::Pass,
        raw::Body::Template(text) => {
            Body::Template(read(text, report, |text| BodyTemplate::parse(text, params, &names))?)
        }
    };
    let when = match &raw.when {
        Some(text) => Some(read(text, report, |text| Condition::parse(text, params, &when_names))?),
        None => None,
    };
    let mut set_headers = Vec::new();
    for field in &request.set_headers {
        let value = read(&field.value, report, |text| Template::parse_sent_header(text, params, &names))?;
        set_headers.push((field.name.clone(), value));
    }
    let needs = bits(raw.values.iter().chain(raw.for_each.iter().map(|for_each| &for_each.items)));
    let key = match &raw.key {
        Some(key) => {
            let mut text = Vec::new();
            push_string(key.as_bytes(), &mut text);
            text.push(b':');
            text
        }
        None => Vec::new(),
    };
    let shadow = raw.shadow_per_million.is_some();
    Some(Part {
        name: raw.name.value.clone(),
        upstream: (inputs.upstream)(&raw.upstream.value)?,
        method: request.method.clone(),
        target,
        query: request.query.clone(),
        headers: request.headers.clone(),
        set_headers,
        body,
        needed: match plan.status_policy {
            _ if shadow => false,
            StatusPolicy::Required => raw.required,
            StatusPolicy::All => true,
            StatusPolicy::Any => false,
        },
        timeout_ms: raw.timeout.map_or(u32::MAX, |timeout| millis(timeout.get())),
        success: raw.success.clone(),
        propagate_status: raw.propagate_status.clone(),
        any_content_type: raw.any_content_type,
        document: raw.target.0.clone(),
        edit: Edit::new(raw.filter.clone(), raw.rename.clone()),
        key: key.into(),
        promised: if plan.envelope == Envelope::Merge { promised(&raw.filter, &raw.rename) } else { Vec::new() },
        stale_ms: raw.fallback.stale.map(|age| u64::from(millis(age.get()))),
        fallback: raw.fallback.data.clone().map(Into::into),
        when,
        on_missing: raw.on_missing,
        for_each: raw.for_each.as_ref().map(|raw| ForEach {
            items: reference(&raw.items),
            max: usize::try_from(raw.max).unwrap_or(usize::MAX),
            concurrency: usize::try_from(raw.concurrency).unwrap_or(usize::MAX),
        }),
        shadow_per_million: raw.shadow_per_million,
        values: raw.values.iter().map(reference).collect(),
        when_values: raw.when_values.iter().map(reference).collect(),
        needs,
        after: needs | bits(raw.when_values.iter()),
        safe: request.method.is_safe(),
        metrics: (inputs.metrics)(&raw.name.value),
    })
}

fn read<T>(text: &Located<String>, report: &Report, parse: impl FnOnce(&str) -> Result<T, TemplateError>) -> Option<T> {
    parse(&text.value).map_err(|e| report.error(&text.at, e.to_string(), "")).ok()
}

fn reference(raw: &raw::Reference) -> Reference {
    Reference { part: raw.part, path: raw.path.0.clone() }
}

fn bits<'a>(references: impl Iterator<Item = &'a raw::Reference>) -> Parts {
    let bit = |part: usize| 1_u64.checked_shl(u32::try_from(part).unwrap_or(u32::MAX)).unwrap_or(0);
    references.filter_map(|reference| reference.part).fold(0, |all, part| all | bit(part))
}

/// The keys at the top that an allow list names, by the names that they get: a flat part has them even when it failed.
fn promised(filter: &Filter, rename: &[(Path, String)]) -> Vec<Box<[u8]>> {
    let Filter::Allow(paths) = filter else { return Vec::new() };
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    for path in paths {
        let Some(Step::Key(key)) = path.0.first() else { continue };
        let renamed = rename.iter().find(|(path, _)| path.0 == [Step::Key(key.clone())]).map(|(_, name)| name);
        let mut text = Vec::new();
        push_string_content(renamed.unwrap_or(key).as_bytes(), &mut text);
        if !keys.iter().any(|earlier| **earlier == *text) {
            keys.push(text.into());
        }
    }
    keys
}
