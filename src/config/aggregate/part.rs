//! One part of an aggregation.

use http::Method;

use super::scope::{Scope, Take, Taken, is_of_item};
use super::{Envelope, Fallback, ForEach, OnMissing, Part, data, request};
use crate::config::decode::{Block, Keys, Value};
use crate::config::report::{Located, quote};
use crate::config::templates::Params;
use crate::json::{Filter, Path, Step};
use crate::route::condition::{self, Condition};
use crate::route::template::Template;
use crate::value::{Duration, Invalid, per_million};

pub(in crate::config) const KEYS: Keys = Keys {
    known: &[
        "name",
        "upstream",
        "request",
        "required",
        "timeout",
        "success",
        "propagate_status",
        "content_type",
        "target",
        "allow",
        "deny",
        "rename",
        "into",
        "fallback",
        "when",
        "on_missing",
        "for_each",
        "shadow",
    ],
    later: &[],
};
pub(in crate::config) const FALLBACK_KEYS: Keys = Keys { known: &["stale", "data"], later: &[] };
pub(in crate::config) const FOR_EACH_KEYS: Keys = Keys { known: &["in", "as", "max", "concurrency"], later: &[] };
pub(in crate::config) const SHADOW_KEYS: Keys = Keys { known: &["sample"], later: &[] };

const RANGES_MAX: usize = 64;
/// Each is looked for in every answer; more than this is a mistake.
const PATHS_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 128;
const ITEM_NAME_BYTES_MAX: usize = 64;
/// What templates know by these names would be hidden from them.
const RESERVED: [&str; 5] = ["parts", "path", "query", "header", "tls"];

/// A part as far as it could be read, and what the others are compared with.
pub(super) struct Draft<'d> {
    /// Whether it is one is known even if it is a wrong one; the same goes for the next two.
    pub(super) is_shadow: bool,
    pub(super) is_for_each: bool,
    /// What its upstream is asked with; `None` if it is wrong.
    pub(super) method: Option<Method>,
    pub(super) method_at: Value<'d>,
    /// Its key in the answer, and where it is given; `None` if it has none of its own, or a wrong one.
    pub(super) key: Option<(String, Value<'d>)>,
    /// Which parts it names, and where.
    pub(super) edges: Vec<(usize, Value<'d>)>,
    /// `None` if anything is wrong with it.
    pub(super) part: Option<Part>,
}

/// The part of a list; `name` has been read, `None` if it is wrong.
pub(super) fn decode<'d>(
    item: &Value<'d>,
    block: &Block<'d>,
    name: Option<Located<String>>,
    scope: &Scope<'_>,
) -> Draft<'d> {
    let (is_shadow, is_for_each) = (block.get("shadow").is_some(), block.get("for_each").is_some());
    let upstream = block.required("upstream").and_then(|v| scope.upstreams.one(v));
    let item_name = block.get("for_each").and_then(item_name);
    let taken = Taken::new(scope, item_name);
    let asked = block.required("request").map(|v| request::decode(v, scope, &taken));
    let method_at = asked.as_ref().map_or(item, |asked| &asked.method_at).clone();
    let (asked, method) = asked.map_or((None, None), |asked| (asked.request, asked.method));
    let (values, mut edges) = taken.finish();

    let taken = Taken::new(scope, None);
    let when = block.unless_wrong("when", None, |v| when(v, item_name, scope, &taken).map(Some));
    let (when_values, when_edges) = taken.finish();
    edges.extend(when_edges);
    let for_each = block.unless_wrong("for_each", None, |v| for_each(v, scope).map(Some));
    if let Some((Some(ForEach { items, .. }), at)) = for_each.as_ref().zip(block.get("for_each")) {
        edges.extend(items.part.map(|part| (part, at.clone())));
    }

    let required = block.unless_wrong("required", !is_shadow, Value::boolean);
    let timeout = block.unless_wrong("timeout", None, |v| v.or_none(|v| timeout(v, scope)));
    let success = block.or("success", vec![(200, 299)], |v| v.list_of(1..=RANGES_MAX, |v| v.parse(statuses)));
    let propagate_status = block.or("propagate_status", Vec::new(), |v| propagated(v, &success));
    let any_content_type = block.or("content_type", false, |v| v.word(&[("json", false), ("any", true)], &[]));
    let target = block.or("target", Path::default(), |v| v.parse(target));
    let filter = filter(block);
    let rename = block.or("rename", Vec::new(), rename);
    let into = block.unless_wrong("into", None, |v| v.line(KEY_BYTES_MAX).map(|key| Some(key.value)));
    let fallback = block.unless_wrong("fallback", Fallback::default(), fallback);
    let on_missing = block.unless_wrong("on_missing", OnMissing::Fail, |v| {
        v.word(&[("skip", OnMissing::Skip), ("fail", OnMissing::Fail)], &[])
    });
    let shadow = block.unless_wrong("shadow", None, |v| {
        v.block(&SHADOW_KEYS)?.required("sample").and_then(|v| v.parse(per_million)).map(Some)
    });

    if is_shadow {
        check_shadow(block);
    } else if scope.envelope == Some(Envelope::Merge) {
        check_merged(item, block, required, on_missing, fallback.as_ref());
    }
    let own_key = || match (&into, scope.envelope) {
        (Some(Some(into)), _) => Some((into.clone(), block.get("into").unwrap_or(item).clone())),
        (Some(None), Some(Envelope::Uniform | Envelope::Raw)) => {
            Some((name.as_ref()?.value.clone(), block.get("name").unwrap_or(item).clone()))
        }
        _ => None,
    };
    let key = own_key();
    let whole = || {
        Some(Part {
            name: name?,
            upstream: upstream?,
            request: asked?,
            required: required? && !is_shadow,
            timeout: timeout?,
            success,
            propagate_status,
            any_content_type,
            target,
            filter,
            rename,
            key: key.as_ref().map(|(key, _)| key.clone()),
            fallback: fallback?,
            when: when?,
            on_missing: on_missing?,
            for_each: for_each?,
            shadow_per_million: shadow?,
            values,
            when_values,
        })
    };
    let part = whole();
    Draft { is_shadow, is_for_each, method, method_at, key, edges, part }
}

fn timeout(value: &Value<'_>, scope: &Scope<'_>) -> Option<Duration> {
    let timeout = value.duration(Duration::from_millis(10)..=Duration::from_secs(3600))?;
    if let Some(route) = scope.route_timeout.filter(|route| timeout > *route) {
        let what = format!("`{timeout}` is longer than the route's timeout ({route}), which ends it");
        value.error(what, "shorten it, or raise timeout of the route");
    }
    Some(timeout)
}

/// `200` or `200-299`.
fn statuses(text: &str) -> Result<(u16, u16), Invalid> {
    let status = |text: &str| text.parse().ok().filter(|status| text.len() == 3 && (200..=599_u16).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(Invalid::new("is no status that an answer has", "like 200 or 200-299, from 200 to 599")),
    }
}

fn propagated(value: &Value<'_>, success: &[(u16, u16)]) -> Option<Vec<u16>> {
    let mut statuses = Vec::new();
    for item in value.list(0..=RANGES_MAX)? {
        let Some(status) = item.count(400..=599).and_then(|status| u16::try_from(status).ok()) else { continue };
        if success.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
            item.error(format!("`{status}` is a success of this part"), "remove it here or from success");
        } else if statuses.contains(&status) {
            item.error(format!("`{status}` is listed twice"), "remove one");
        } else {
            statuses.push(status);
        }
    }
    Some(statuses)
}

fn path(text: &str) -> Result<Path, Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("is empty", "write a path like user.address, or remove it"));
    }
    Path::parse(text).map_err(|fault| Invalid::new(format!("is not a path: {fault}"), ""))
}

fn target(text: &str) -> Result<Path, Invalid> {
    let target = path(text)?;
    if target.has_each() {
        return Err(Invalid::new("leads to many values", "take the whole array, or one element like [0]"));
    }
    Ok(target)
}

/// A path of `allow`, `deny` and `rename`.
fn keys(text: &str) -> Result<Path, Invalid> {
    let Path(steps) = path(text)?;
    if steps.iter().all(|step| matches!(step, Step::Key(_))) {
        return Ok(Path(steps));
    }
    let without: Vec<&str> = text.split('.').map(|step| step.split('[').next().unwrap_or_default()).collect();
    let without: Vec<&str> = without.into_iter().filter(|key| !key.is_empty()).collect();
    let remedy = format!("arrays on the way are gone through by themselves: write {}", without.join("."));
    Err(Invalid::new("has a `[…]` in it", remedy))
}

fn filter(block: &Block<'_>) -> Filter {
    let read = |key| block.get(key).map(|v| v.list_of(1..=PATHS_MAX, |v| v.parse(keys)).unwrap_or_default());
    match (read("allow"), read("deny")) {
        (None, None) => Filter::All,
        (Some(paths), None) => Filter::Allow(paths),
        (None, Some(paths)) => Filter::Deny(paths),
        (Some(paths), Some(_)) => {
            if let Some(deny) = block.get("deny") {
                deny.error("allow already says what is kept", "use either allow or deny");
            }
            Filter::Allow(paths)
        }
    }
}

fn rename(value: &Value<'_>) -> Option<Vec<(Path, String)>> {
    let mut renamed: Vec<(Path, String)> = Vec::new();
    for (key, value) in value.entries(PATHS_MAX)? {
        let to = value.line(KEY_BYTES_MAX);
        let path = match keys(&key.text) {
            Ok(path) => path,
            Err(Invalid { what, remedy }) => {
                value.at_key(key).error(format!("{} {what}", quote(&key.text)), remedy);
                continue;
            }
        };
        let Some(to) = to else { continue };
        let parent = |path: &Path| path.0.split_last().map(|(_, parent)| parent.to_vec());
        if renamed.iter().any(|(other, name)| *name == to.value && parent(other) == parent(&path)) {
            value.error(format!("two keys of one object become {}", quote(&to.value)), "give one another name");
        }
        renamed.push((path, to.value));
    }
    Some(renamed)
}

fn fallback(value: &Value<'_>) -> Option<Fallback> {
    let block = value.block(&FALLBACK_KEYS)?;
    if value.keys().next().is_none() {
        value.error("says nothing", "give it stale, data or both");
    }
    let stale = block.unless_wrong("stale", None, |v| {
        v.or_none(|v| v.duration(Duration::from_secs(1)..=Duration::from_secs(86_400)))
    });
    let data = block.unless_wrong("data", None, |v| data::json(v).map(Some));
    Some(Fallback { stale: stale?, data: data? })
}

/// What an item is called, if that can be read; `for_each` says what is wrong with it.
fn item_name<'d>(value: &Value<'d>) -> Option<&'d str> {
    if !value.is_mapping() {
        return None;
    }
    let entries = value.entries(usize::MAX)?;
    let (_, name) = entries.iter().find(|(key, _)| key.text == "as")?;
    name.plain_text().filter(|name| !name.is_empty())
}

fn for_each(value: &Value<'_>, scope: &Scope<'_>) -> Option<ForEach> {
    let block = value.block(&FOR_EACH_KEYS)?;
    let items = block.required("in").and_then(|v| {
        let text = v.text()?;
        if !text.starts_with("parts.") {
            let what = format!("{} is not in the answer of another part", quote(text));
            v.error(what, "write it like parts.orders[*].id");
            return None;
        }
        scope.reference(v, text, None, Take::Many)
    });
    let name = block.required("as").and_then(|v| v.parse(|text| plain_name(text, scope.params)));
    let max = block.unless_wrong("max", 20, |v| v.count(1..=1000));
    let concurrency = block.unless_wrong("concurrency", 8, |v| v.count(1..=64));
    Some(ForEach { items: items?, name: name?, max: max?, concurrency: concurrency? })
}

fn plain_name(text: &str, params: &Params) -> Result<String, Invalid> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || text.len() > ITEM_NAME_BYTES_MAX || !text.chars().all(is_plain) {
        let remedy = format!("1 to {ITEM_NAME_BYTES_MAX} letters, digits and _, a letter first, like id");
        return Err(Invalid::new("is no name for an item", remedy));
    }
    if RESERVED.contains(&text) || Template::parse(&format!("{{{text}}}"), &[]).is_ok() {
        return Err(Invalid::new("means something else in templates", "choose another name"));
    }
    match params {
        Params::Named(names) if names.iter().any(|name| name == text) => {
            Err(Invalid::new("is a parameter of the route's path", "choose another name"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn when<'d>(
    value: &Value<'d>,
    item: Option<&str>,
    scope: &Scope<'_>,
    taken: &Taken<'_, 'd>,
) -> Option<Located<String>> {
    let text = value.text()?;
    let names = condition::names(text);
    if let Some(name) = names.iter().find(|name| is_of_item(name, item)) {
        let what = format!("{} has no value here: `when` is asked once, before there are items", quote(name));
        value.error(what, "ask for something else");
        return None;
    }
    let values = taken.take(value, &names);
    match Condition::parse(text, &scope.params.of_names(&names), &values) {
        Ok(_) => Some(value.locate(text.to_owned())),
        Err(fault) => {
            value.error(fault.to_string(), "");
            None
        }
    }
}

fn check_shadow(block: &Block<'_>) {
    if let Some(required) = block.get("required").filter(|v| v.plain_text() == Some("true")) {
        required.error("no answer waits for a shadow", "remove it");
    }
    for key in ["fallback", "into", "target", "allow", "deny", "rename"] {
        if let Some(given) = block.get(key) {
            given.error("the answer of a shadow is thrown away", "remove it, or remove shadow");
        }
    }
}

/// Parts of a merged answer that lie flat in it must leave no keys out when they are left out themselves.
fn check_merged(
    item: &Value<'_>,
    block: &Block<'_>,
    required: Option<bool>,
    on_missing: Option<OnMissing>,
    fallback: Option<&Fallback>,
) {
    if block.get("into").is_some() {
        return;
    }
    if let Some(for_each) = block.get("for_each") {
        for_each.error("makes an array, which has no keys to be merged", "give the part `into`");
        return;
    }
    let data = fallback.and_then(|fallback| fallback.data.as_deref());
    if data.is_some_and(|data| !data.starts_with('{')) {
        let at = block.get("fallback").unwrap_or(item);
        at.error(
            "fallback.data is no mapping, so it has no keys to be merged",
            "write a mapping, or give the part `into`",
        );
    }
    // What is wrong with the fallback is told; it may have had data.
    let covered = fallback.is_none() || data.is_some() || block.get("allow").is_some();
    let causes = [
        (required == Some(false), "required", "the part is optional"),
        (block.get("when").is_some(), "when", "the part is not always asked"),
        (on_missing == Some(OnMissing::Skip), "on_missing", "the part may be left out"),
    ];
    if let Some((_, key, cause)) = causes.iter().find(|(is_so, ..)| *is_so && !covered) {
        let what = format!("{cause}, and its keys would then be missing from the merged answer");
        block.get(key).unwrap_or(item).error(what, "give it `into`, `allow` or `fallback.data`");
    }
}
