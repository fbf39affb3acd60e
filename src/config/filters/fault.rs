//! `fault`: requests that are made to wait or to fail, to see how callers bear it.

use super::super::decode::{Block, Keys, Value};
use super::super::headers::{self, Direction};
use super::super::report::{Located, Report};
use super::super::routes::Draft;
use crate::value::{Duration, per_million};

pub(in crate::config) const KEYS: Keys = Keys { known: &["delay", "abort", "when", "max_delayed"], later: &[] };
pub(in crate::config) const DELAY_KEYS: Keys = Keys { known: &["time", "percent"], later: &[] };
pub(in crate::config) const ABORT_KEYS: Keys = Keys { known: &["status", "percent"], later: &[] };

const FIELDS_MAX: usize = 16;
const VALUE_BYTES_MAX: usize = 256;
/// All requests.
const ALL: u32 = 1_000_000;

/// `fault`: a delay, a failure, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// How long a request waits.
    pub delay: Option<Located<Delay>>,
    /// How it fails.
    pub abort: Option<Abort>,
    /// Fields that a request must have for it, all of them, by their name in lower case; `None`: with any value.
    pub when: Vec<(String, Option<String>)>,
    /// Requests that may be made to wait at a time, per process.
    pub max_delayed: u32,
}

/// `delay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// So many of a million requests.
    pub per_million: u32,
}

/// `abort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// 400 to 599.
    pub status: u16,
    /// So many of a million requests.
    pub per_million: u32,
}

pub(super) fn decode(value: &Value<'_>) -> Option<Fault> {
    let block = value.block(&KEYS)?;
    let delay = block.unless_wrong("delay", None, |v| delay(v).map(|delay| Some(v.locate(delay))));
    let abort = block.unless_wrong("abort", None, |v| abort(v).map(Some));
    let when = block.unless_wrong("when", Vec::new(), when);
    let max_delayed = block.or("max_delayed", 100, |v| v.count(1..=10_000));
    if let (Some(None), Some(None)) = (&delay, &abort) {
        value.error("injects nothing", "give delay, abort or both");
        return None;
    }
    Some(Fault { delay: delay?, abort: abort?, when: when?, max_delayed })
}

fn delay(value: &Value<'_>) -> Option<Delay> {
    let block = value.block(&DELAY_KEYS)?;
    let time = block.required("time").and_then(|v| v.duration(Duration::from_millis(1)..=Duration::from_secs(3600)));
    Some(Delay { per_million: percent(&block)?, time: time? })
}

fn abort(value: &Value<'_>) -> Option<Abort> {
    let block = value.block(&ABORT_KEYS)?;
    let status = block.unless_wrong("status", 503, |v| v.count(400..=599));
    Some(Abort { per_million: percent(&block)?, status: status.and_then(|status| u16::try_from(status).ok())? })
}

fn percent(block: &Block<'_>) -> Option<u32> {
    block.unless_wrong("percent", ALL, |v| v.parse(per_million))
}

fn when(value: &Value<'_>) -> Option<Vec<(String, Option<String>)>> {
    let mut fields: Vec<(String, Option<String>)> = Vec::new();
    let mut all_right = true;
    for (key, value) in value.entries(FIELDS_MAX)? {
        let name = key.text.to_ascii_lowercase();
        let wanted = value.or_word("present", |v| v.line(VALUE_BYTES_MAX).map(|line| line.value));
        if let Err(fault) = headers::check_field(&name, Direction::Request) {
            value.at_key(key).error(format!("`{name}` {}", fault.what), fault.remedy);
        } else if fields.iter().any(|(other, _)| headers::is_same(other, &name)) {
            value.at_key(key).error(format!("`{name}` is given twice"), format!("{}; remove one", headers::NAMES));
        } else if let Some(wanted) = wanted {
            fields.push((name, wanted));
            continue;
        }
        all_right = false;
    }
    if all_right && fields.is_empty() {
        value.error("names no field", "remove it, or give one, like { x-fault: present }");
        return None;
    }
    all_right.then_some(fields)
}

/// What waits for longer than its route may take is no delay, but always the same 504.
pub(super) fn check_delay(fault: &Fault, users: &[&Draft<'_>], report: &Report) {
    let Some(Located { value: delay, at }) = &fault.delay else { return };
    if let Some(route) = users.iter().find(|route| delay.time >= route.timeout) {
        let what = format!("a delay of {} is not within the timeout of the route {}", delay.time, route.label());
        report.error(at, what, format!("shorten it below {}, or raise the route's timeout", route.timeout));
    }
}
