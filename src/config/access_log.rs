//! `observe.access_log`: where lines go, what they are like, what they must not show, and which requests have one.

use std::path::PathBuf;

use super::decode::{Block, Keys, Value, is_word};
use super::headers::check_field_name;
use super::report::{Located, did_you_mean, quote};
use crate::observe::format::{ALL, Fault, Format, NAMED, names};
use crate::observe::redact::Redact;
use crate::value::{Duration, Invalid, per_million};

pub(super) const KEYS: Keys =
    Keys { known: &["to", "format", "fields", "query", "redact", "sample", "slow"], later: &[] };
pub(super) const FORMAT_KEYS: Keys = Keys { known: &["template"], later: &[] };
pub(super) const REDACT_KEYS: Keys = Keys { known: &["headers", "query"], later: &[] };

/// A line longer than this is no line for anybody.
const TEMPLATE_BYTES_MAX: usize = 4096;
const FIELDS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;
/// Each is compared with each pair of a query.
const NAMES_MAX: usize = 64;

/// A line per request.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where they go.
    pub to: LogTarget,
    /// What they are like.
    pub format: LogFormat,
    /// Fields beside those of plain JSON, each a name and a template; none with another format.
    pub fields: Vec<(String, Located<String>)>,
    /// Whether the common and the combined format show queries.
    pub query: bool,
    /// What is hidden beside credentials that are known by their names.
    pub redact: Names,
    /// How many of a million requests have one.
    pub sample: u32,
    /// Requests that took so long have one in any case.
    pub slow: Option<Duration>,
}

/// Names whose values are hidden.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Names {
    /// Of header fields.
    pub headers: Vec<String>,
    /// Of query keys.
    pub query: Vec<String>,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// Appended to this file; the path is absolute.
    File(PathBuf),
}

/// What lines are like.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// The common log format.
    Common,
    /// The combined log format.
    Combined,
    /// The operator's own.
    Template(Located<String>),
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            to: LogTarget::default(),
            format: LogFormat::default(),
            fields: Vec::new(),
            query: false,
            redact: Names::default(),
            sample: ALL,
            slow: Some(SLOW),
        }
    }
}

const SLOW: Duration = Duration::from_secs(1);

pub(super) fn decode(value: &Value<'_>) -> Option<AccessLog> {
    let block = value.block(&KEYS)?;
    let log = AccessLog {
        to: block.or("to", LogTarget::default(), |v| v.parse(target)),
        format: block.or("format", LogFormat::default(), format),
        fields: block.or("fields", Vec::new(), fields),
        query: block.or("query", false, Value::boolean),
        redact: block.or("redact", Names::default(), redact),
        sample: block.or("sample", ALL, |v| v.parse(per_million)),
        slow: block.or("slow", Some(SLOW), |v| {
            v.or_none(|v| v.duration(Duration::from_millis(1)..=Duration::from_secs(24 * 3600)))
        }),
    };
    // A format that is wrong was told: nothing is known of what goes with it.
    if block.get("format").is_none_or(|given| format_is_known(given, &log.format)) {
        check_together(&block, &log);
    }
    Some(log)
}

fn format_is_known(given: &Value<'_>, format: &LogFormat) -> bool {
    *format != LogFormat::Json || given.plain_text() == Some("json")
}

/// Keys that mean nothing with this format.
fn check_together(block: &Block<'_>, log: &AccessLog) {
    if let (Some(fields), false) = (block.get("fields"), log.fields.is_empty() || log.format == LogFormat::Json) {
        fields
            .error("are fields of JSON objects, and the format is another", "remove them, or put them into a template");
    }
    let remedy = match log.format {
        LogFormat::Json => "give a field: `fields: { query: \"{query}\" }`",
        LogFormat::Template(_) => "write {query}, or {target} for path and query, into the template",
        LogFormat::Common | LogFormat::Combined => return,
    };
    if let (Some(query), true) = (block.get("query"), log.query) {
        query.error("is for the formats common and combined", remedy);
    }
}

fn target(text: &str) -> Result<LogTarget, Invalid> {
    match text {
        "stdout" => Ok(LogTarget::Stdout),
        "stderr" => Ok(LogTarget::Stderr),
        off if is_word(off, "off") => Ok(LogTarget::Off),
        // Relative to which directory would depend on who starts the gateway.
        path if path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control) => {
            Ok(LogTarget::File(PathBuf::from(path)))
        }
        _ => Err(Invalid::new("is not a place for a log", "stdout, stderr, off, or the absolute path of a file")),
    }
}

fn format(value: &Value<'_>) -> Option<LogFormat> {
    if value.is_mapping() {
        let text = value.block(&FORMAT_KEYS)?.required("template").and_then(template)?;
        return Some(LogFormat::Template(text));
    }
    let format = value.word(&[("json", 0), ("common", 1), ("combined", 2)], &[])?;
    Some(match format {
        0 => LogFormat::Json,
        1 => LogFormat::Common,
        _ => LogFormat::Combined,
    })
}

/// A text with names in braces, in which tabs are allowed: they part the columns of many readers.
fn template(value: &Value<'_>) -> Option<Located<String>> {
    let text = value.parse(|text| match text {
        "" => Err(Invalid::new("is empty", "")),
        _ if text.len() > TEMPLATE_BYTES_MAX => {
            Err(Invalid::new("is too long", format!("at most {TEMPLATE_BYTES_MAX} bytes")))
        }
        _ if text.contains(|c: char| c.is_control() && c != '\t') => {
            Err(Invalid::new("has a control character in it", "remove it; a line ends by itself"))
        }
        _ => Ok(text.to_owned()),
    })?;
    match Format::template(&text, &Redact::default()) {
        Ok(_) => Some(value.locate(text)),
        Err(Fault::Braces(what)) => {
            value.error(what, "");
            None
        }
        Err(Fault::Unknown(name)) => {
            let meant = did_you_mean(&name, names().chain(NAMED));
            let known =
                || format!("known: {}, {}", names().collect::<Vec<_>>().join(", "), NAMED.join("NAME, ") + "NAME");
            value.error(format!("there is no value {} of a request", quote(&name)), meant.unwrap_or_else(known));
            None
        }
    }
}

fn fields(value: &Value<'_>) -> Option<Vec<(String, Located<String>)>> {
    let mut fields = Vec::new();
    for (key, value) in value.entries(FIELDS_MAX)? {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if key.text.is_empty() || key.text.len() > NAME_BYTES_MAX || !key.text.bytes().all(is_plain) {
            let what = format!("{} is no name of a field", quote(&key.text));
            value.at_key(key).error(what, format!("1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"));
        } else if let Some(text) = template(&value) {
            fields.push((key.text.clone(), text));
        }
    }
    Some(fields)
}

fn redact(value: &Value<'_>) -> Option<Names> {
    let block = value.block(&REDACT_KEYS)?;
    let list = |key: &str, check: fn(&str) -> Result<(), Invalid>| {
        block.or(key, Vec::new(), |v| {
            v.each_once(0..=NAMES_MAX, |v| v.parse(|text| check(text).map(|()| text.to_ascii_lowercase())), |name| name)
        })
    };
    Some(Names { headers: list("headers", check_field_name), query: list("query", check_key) })
}

/// The name of a query key, as it is meant: `a b`, not `a%20b`.
fn check_key(text: &str) -> Result<(), Invalid> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"=&;#%+[]".contains(&b));
    match !text.is_empty() && text.len() <= NAME_BYTES_MAX && plain {
        true => Ok(()),
        false => {
            let remedy = format!("1 to {NAME_BYTES_MAX} visible characters without = & ; # % + and brackets");
            Err(Invalid::new("is no query key", remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Config, Errors, parse};
    use super::*;

    fn read(log: &str) -> Result<Config, Errors> {
        let text = format!("listeners: [{{ address: 127.0.0.1:0 }}]\nobserve:\n  access_log: {{ {log} }}\n");
        parse("f", &text, &|_| None)
    }

    fn errors(log: &str) -> Vec<String> {
        read(log).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_that_can_be_said_of_it_is_read() {
        let log = read(
            "to: /var/log/a.log, format: { template: \"a\\t{path}{{\" }, redact: { headers: [X-A], query: [Token, a.b] }, \
             sample: 0.5%, slow: none",
        );
        let log = log.unwrap().observe.access_log;
        assert_eq!(log.to, LogTarget::File("/var/log/a.log".into()));
        assert!(matches!(&log.format, LogFormat::Template(text) if text.value == "a\t{path}{{"));
        assert_eq!(
            (log.redact.headers, log.redact.query),
            (vec!["x-a".to_owned()], vec!["token".into(), "a.b".into()])
        );
        assert_eq!((log.sample, log.slow), (5_000, None));
        let log = read("fields: { ua: \"{header.user-agent}\" }").unwrap().observe.access_log;
        assert_eq!((log.fields.len(), log.sample, log.slow), (1, ALL, Some(SLOW)));
        assert!(read("format: common, query: true, fields: {}").is_ok() && read("query: false").is_ok());
    }

    #[test]
    fn every_error_has_its_place_and_remedy() {
        let template = |text: &str| errors(&format!("format: {{ template: \"{text}\" }}")).remove(0);
        for (text, what) in [
            (
                "{stauts}",
                "f:3:37: observe.access_log.format.template: there is no value `stauts` of a request (did you mean `status`?)",
            ),
            (
                "{a",
                "f:3:37: observe.access_log.format.template: a brace is opened and not closed; close it, or write `{{` for a literal brace",
            ),
            ("", "f:3:37: observe.access_log.format.template: `` is empty"),
            (
                "a\\nb",
                "f:3:37: observe.access_log.format.template: `a\\nb` has a control character in it (remove it; a line ends by itself)",
            ),
        ] {
            assert_eq!(template(text), what);
        }
        assert!(template("{client}").contains("known: time, time_common, client_ip,"), "{}", template("{client}"));
        assert!(template("{client}").ends_with("header.NAME, response_header.NAME, query.NAME)"));
        assert_eq!(
            errors("format: combnied, sample: 10, slow: 0s, query: yes, colour: red"),
            [
                "f:3:25: observe.access_log.format: `combnied` is not a word that is known here (did you mean `combined`?)",
                "f:3:43: observe.access_log.sample: `10` is no share of the requests (write a percentage from 0% to 100%, like 5% or 0.1%)",
                "f:3:53: observe.access_log.slow: `0s` is out of bounds (allowed: 1ms to 1d)",
                "f:3:64: observe.access_log.query: `yes` is not a word that is known here (did you mean `true`?)",
                "f:3:69: observe.access_log.colour: unknown key (the keys here are to, format, fields, query, redact, sample, slow)",
            ]
        );
        assert_eq!(
            errors("redact: { headers: [\"a b\", x, X], query: [\"a=b\", a, A] }").len(),
            4,
            "what is no name, and what is listed twice"
        );
        assert_eq!(
            errors("format: common, fields: { a: \"{path}\" }"),
            [
                "f:3:33: observe.access_log.fields: are fields of JSON objects, and the format is another (remove them, or put them into a template)"
            ]
        );
        for (log, remedy) in [("query: true", "give a field"), ("format: { template: a }, query: true", "{target}")] {
            assert!(errors(log)[0].contains(remedy), "{:?}", errors(log));
        }
        assert!(errors("fields: { \"a b\": \"{path}\" }")[0].contains("is no name of a field"));
        assert!(errors("fields: { a: \"{nothing}\" }")[0].contains("observe.access_log.fields.a"));
    }
}
