//! The access log's rules from the config. What must not be shown is known only here: it depends on filters too.

use crate::config::access_log::{AccessLog, LogFormat};
use crate::config::filters::Filter;
use crate::config::filters::jwt::Place;
use crate::config::{Config, Position, Report};
use crate::observe::format::{Fault, Format, Rules};
use crate::observe::redact::Redact;

/// The rules; a template that is wrong, which the config does not let pass, is recorded.
pub(super) fn rules(config: &Config, report: &Report) -> Rules {
    let AccessLog { format, fields, query, sample, slow, .. } = &config.observe.access_log;
    let redact = redact(config);
    let checked = |format: Result<Format, Fault>, at: &Position| {
        format.unwrap_or_else(|fault| {
            report.error(at, format!("{fault:?}"), "");
            Format::Json
        })
    };
    let format = match format {
        LogFormat::Json => {
            let at = fields.first().map(|(_, text)| text.at.clone()).unwrap_or_default();
            let fields: Vec<_> = fields.iter().map(|(name, text)| (name.as_str(), text.value.as_str())).collect();
            checked(Format::json_with(&fields, &redact), &at)
        }
        LogFormat::Common => Format::common(*query),
        LogFormat::Combined => Format::combined(*query, &redact),
        LogFormat::Template(text) => checked(Format::template(&text.value, &redact), &text.at),
    };
    let slow_us = slow.map(|slow| u64::try_from(slow.get().as_micros()).unwrap_or(u64::MAX));
    Rules { format, redact, sample: *sample, slow_us: slow_us.unwrap_or(u64::MAX) }
}

/// What is hidden: what the operator names, and where filters take keys and tokens from.
fn redact(config: &Config) -> Redact {
    let log = &config.observe.access_log;
    let mut headers: Vec<&str> = log.redact.headers.iter().map(String::as_str).collect();
    let mut query: Vec<&str> = log.redact.query.iter().map(String::as_str).collect();
    for named in &config.filters {
        match &named.filter {
            Filter::ApiKey(filter) => {
                headers.extend(filter.header.as_deref());
                query.extend(filter.query.as_deref());
            }
            Filter::Jwt(filter) => filter.from.iter().for_each(|place| match place {
                Place::Header(name) => headers.push(name),
                Place::Query(name) => query.push(name),
                Place::Cookie(_) => {} // all cookies are hidden
            }),
            _ => {}
        }
    }
    Redact::new(&headers, &query)
}
