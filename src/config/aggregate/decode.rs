//! The block as a whole, and what its parts say of each other.

use super::part::{self, Draft};
use super::scope::{Known, Scope};
use super::{Aggregate, AggregationMemory, Envelope, ExposeParts, Limits, OnConflict, Part, StatusPolicy, graph};
use crate::config::decode::{Block, Keys, Value};
use crate::config::headers::{self, Direction, HeaderEdits};
use crate::config::references::Names;
use crate::config::report::{Located, Report, quote};
use crate::config::templates::Params;
use crate::json::Filter;
use crate::value::{ByteSize, Duration, Invalid};

pub(in crate::config) const KEYS: Keys = Keys {
    known: &[
        "envelope",
        "status_policy",
        "on_conflict",
        "expose_parts",
        "limits",
        "headers_from",
        "completed_header",
        "server_timing",
        "response_headers",
        "allow_unsafe_fanout",
        "parts",
    ],
    later: &[],
};
pub(in crate::config) const LIMITS_KEYS: Keys =
    Keys { known: &["max_part_bytes", "max_total_bytes", "max_request_bytes"], later: &[] };
pub(in crate::config) const MEMORY_KEYS: Keys = Keys { known: &["memory", "stale_memory"], later: &[] };

const PARTS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;
const COMPLETED_HEADER: &str = "X-Gateway-Completed";
/// Fields of an answer that the aggregation writes itself.
const OWN_FIELDS: [&str; 5] = ["cache-control", "content-type", "date", "retry-after", "server-timing"];

const KIB: ByteSize = ByteSize::from_kib(1);
const MAX_PART: ByteSize = ByteSize::from_kib(64 << 10);
const MAX_TOTAL: ByteSize = ByteSize::from_kib(1 << 20);

/// The route that the block belongs to.
pub(in crate::config) struct Route<'a> {
    pub(in crate::config) params: &'a Params,
    /// `None` if it is wrong.
    pub(in crate::config) timeout: Option<Duration>,
    pub(in crate::config) upstreams: &'a Names<'a>,
    pub(in crate::config) report: &'a Report,
}

/// `aggregate`.
pub(in crate::config) fn decode(value: &Value<'_>, route: &Route<'_>) -> Option<Aggregate> {
    let block = value.block(&KEYS)?;
    let envelope = block.unless_wrong("envelope", Envelope::Uniform, |v| {
        v.word(&[("uniform", Envelope::Uniform), ("merge", Envelope::Merge), ("raw", Envelope::Raw)], &[])
    });
    let status_policy = block.or("status_policy", StatusPolicy::Required, |v| {
        v.word(&[("required", StatusPolicy::Required), ("all", StatusPolicy::All), ("any", StatusPolicy::Any)], &[])
    });
    let response_headers =
        block.or("response_headers", HeaderEdits::default(), |v| headers::edits(v, Direction::Response, route.params));
    let completed_header = block.or("completed_header", Some(COMPLETED_HEADER.to_owned()), |v| {
        v.or_none(|v| v.parse(|text| completed_header(text).map(|()| text.to_owned())))
    });
    let unsafe_is_allowed = block.unless_wrong("allow_unsafe_fanout", false, Value::boolean);
    let items = block.required("parts").and_then(|v| v.list(1..=PARTS_MAX));
    let (parts, headers_from) = match &items {
        Some(items) => parts(&block, items, envelope, unsafe_is_allowed, route),
        None => (None, None),
    };
    if envelope == Some(Envelope::Merge) && status_policy == StatusPolicy::Any {
        all_are_covered(&block, parts.as_deref().unwrap_or_default());
    }
    let on_conflict = on_conflict(&block, envelope);
    let expose_parts = expose_parts(&block, envelope);
    let limits = block.or("limits", Limits::default(), limits);
    let server_timing = block.or("server_timing", true, Value::boolean);
    Some(Aggregate {
        envelope: envelope?,
        status_policy,
        on_conflict,
        expose_parts,
        limits,
        headers_from,
        completed_header,
        server_timing,
        response_headers,
        parts: parts?,
    })
}

/// Where one part is enough any other may be missing from a merged answer, and its keys with it.
fn all_are_covered(block: &Block<'_>, parts: &[Part]) {
    let has_keys = |part: &Part| {
        let listed = matches!(part.filter, Filter::Allow(_)) || part.fallback.data.is_some();
        part.key.is_some() || listed || part.shadow_per_million.is_some()
    };
    if let Some(part) = parts.iter().find(|part| !has_keys(part)) {
        let what =
            format!("{} may fail, and its keys would then be missing from the merged answer", quote(&part.name.value));
        let at = block.get("status_policy").unwrap_or(block.value());
        at.error(what, "give it `into`, `allow` or `fallback.data`");
    }
}

fn completed_header(text: &str) -> Result<(), Invalid> {
    if matches!(text, "false" | "true" | "off") {
        return Err(Invalid::new("is not the name of a field", "write none to leave it out"));
    }
    headers::check_field(text, Direction::Response)?;
    match OWN_FIELDS.iter().find(|own| headers::is_same(text, own)) {
        None => Ok(()),
        Some(own) => Err(Invalid::new(format!("already means something: the gateway writes {own}"), "another name")),
    }
}

fn on_conflict(block: &Block<'_>, envelope: Option<Envelope>) -> OnConflict {
    let words = [
        ("error", OnConflict::Error),
        ("first", OnConflict::First),
        ("last", OnConflict::Last),
        ("append", OnConflict::Append),
    ];
    if let (Some(given), Some(Envelope::Uniform | Envelope::Raw)) = (block.get("on_conflict"), envelope) {
        given.error("only in a merged answer can parts have the same key", "remove it, or write envelope: merge");
    }
    block.or("on_conflict", OnConflict::Error, |v| v.word(&words, &[]))
}

/// Only a uniform answer has a place for it.
fn expose_parts(block: &Block<'_>, envelope: Option<Envelope>) -> ExposeParts {
    let words =
        [("never", ExposeParts::Never), ("on_degraded", ExposeParts::OnDegraded), ("always", ExposeParts::Always)];
    let default = if envelope == Some(Envelope::Uniform) { ExposeParts::OnDegraded } else { ExposeParts::Never };
    let expose_parts = block.or("expose_parts", default, |v| v.word(&words, &[]));
    if let (Some(given), Some(Envelope::Merge | Envelope::Raw), ExposeParts::OnDegraded | ExposeParts::Always) =
        (block.get("expose_parts"), envelope, expose_parts)
    {
        given.error("only a uniform answer has a `meta` for it", "write never, or envelope: uniform");
    }
    expose_parts
}

fn limits(value: &Value<'_>) -> Option<Limits> {
    let block = value.block(&LIMITS_KEYS)?;
    let default = Limits::default();
    let part = block.get("max_part_bytes").and_then(|v| v.size(KIB..=MAX_PART));
    let total = block.get("max_total_bytes").and_then(|v| v.size(KIB..=MAX_TOTAL));
    if let (Some(part), Some(total), Some(at)) = (part, total, block.get("max_total_bytes"))
        && total < part
    {
        at.error(format!("`{total}` is less than one part may have ({part})"), "raise it, or lower max_part_bytes");
    }
    let part = part.unwrap_or(default.max_part_bytes);
    Some(Limits {
        max_part_bytes: part,
        // Who raises the bound of a part alone means it.
        max_total_bytes: total.unwrap_or(default.max_total_bytes.max(part)),
        max_request_bytes: block.or("max_request_bytes", default.max_request_bytes, |v| v.size(KIB..=MAX_PART)),
    })
}

/// `aggregation`.
pub(in crate::config) fn memory(value: &Value<'_>) -> Option<AggregationMemory> {
    let block = value.block(&MEMORY_KEYS)?;
    let default = AggregationMemory::default();
    let most = ByteSize::from_kib(64 << 20);
    Some(AggregationMemory {
        memory: block.or("memory", default.memory, |v| v.size(ByteSize::from_kib(1 << 10)..=most)),
        stale_memory: block.or("stale_memory", default.stale_memory, |v| v.size(ByteSize::from_bytes(0)..=most)),
    })
}

/// All parts, if they are right, and the index of the one that gives its header fields.
fn parts<'d>(
    block: &Block<'d>,
    items: &[Value<'d>],
    envelope: Option<Envelope>,
    unsafe_is_allowed: Option<bool>,
    route: &Route<'_>,
) -> (Option<Vec<super::Part>>, Option<usize>) {
    let blocks: Vec<Option<Block<'d>>> = items.iter().map(|item| item.block(&part::KEYS)).collect();
    let names: Vec<Option<Located<String>>> = blocks.iter().map(|block| name(block.as_ref()?)).collect();
    let known = |block: &Option<Block<'d>>| {
        let given = |key| block.as_ref().and_then(|block| block.get(key));
        Known {
            name: given("name").and_then(|v| v.plain_text()),
            is_shadow: given("shadow").is_some(),
            is_for_each: given("for_each").is_some(),
        }
    };
    let scope = Scope {
        parts: blocks.iter().map(known).collect(),
        envelope,
        params: route.params,
        route_timeout: route.timeout,
        upstreams: route.upstreams,
        report: route.report,
    };
    check_names(&blocks, &names);
    let draft = |((item, block), name): ((&Value<'d>, &Option<Block<'d>>), Option<Located<String>>)| {
        Some(part::decode(item, block.as_ref()?, name, &scope))
    };
    let drafts: Vec<Option<Draft<'d>>> = items.iter().zip(&blocks).zip(names).map(draft).collect();

    let at = block.get("parts").unwrap_or(block.value());
    if drafts.iter().all(|draft| draft.as_ref().is_some_and(|draft| draft.is_shadow)) {
        at.error("every part is a shadow, so nothing is answered", "remove `shadow` from one of them");
    }
    check_keys(&drafts, &scope);
    check_circles(&drafts, &scope);
    if unsafe_is_allowed == Some(false) {
        check_unsafe(&drafts, &scope);
    }
    let headers_from = block.get("headers_from").and_then(|v| headers_from(v, &scope));
    (drafts.into_iter().map(|draft| draft?.part).collect(), headers_from)
}

fn name(block: &Block<'_>) -> Option<Located<String>> {
    let value = block.required("name")?;
    let name = value.parse(|text| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_plain && (1..=NAME_BYTES_MAX).contains(&text.len()) {
            return Ok(text.to_owned());
        }
        Err(Invalid::new("is not a name of a part", format!("1 to {NAME_BYTES_MAX} letters, digits and _")))
    })?;
    Some(value.locate(name))
}

fn check_names(blocks: &[Option<Block<'_>>], names: &[Option<Located<String>>]) {
    for (index, (name, block)) in names.iter().zip(blocks).enumerate() {
        let (Some(name), Some(at)) = (name, block.as_ref().and_then(|block| block.get("name"))) else { continue };
        let earlier = names.iter().take(index).flatten().find(|earlier| earlier.value == name.value);
        if let Some(earlier) = earlier {
            let what = format!("a part {} already exists on line {}", quote(&name.value), earlier.at.line);
            at.error(what, "give it another name");
        }
    }
}

/// Two parts of one name, which is told, may well have one key.
fn check_keys(drafts: &[Option<Draft<'_>>], scope: &Scope<'_>) {
    let name = |index: usize| scope.parts.get(index).and_then(|part| part.name).unwrap_or_default();
    let mut seen: Vec<(usize, &str)> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let Some(draft) = draft.as_ref().filter(|draft| !draft.is_shadow) else { continue };
        let Some((key, at)) = &draft.key else { continue };
        match seen.iter().find(|(_, earlier)| earlier == key) {
            Some((earlier, _)) if name(*earlier) != name(index) => {
                let what = format!("{} is already the key of the part {}", quote(key), quote(name(*earlier)));
                at.error(what, "give one of them another `into`");
            }
            _ => seen.push((index, key)),
        }
    }
}

fn check_circles<'d>(drafts: &[Option<Draft<'d>>], scope: &Scope<'_>) {
    let edges_of = |draft: &Option<Draft<'d>>| draft.as_ref().map(|draft| draft.edges.clone()).unwrap_or_default();
    let edges: Vec<_> = drafts.iter().map(edges_of).collect();
    for (circle, at) in graph::circles(&edges) {
        let names = circle.iter().filter_map(|index| scope.parts.get(*index)).filter_map(|part| part.name);
        let way = names.collect::<Vec<_>>().join(" → ");
        at.error(format!("parts wait for each other in a circle: {way}"), "let one of them do without the other");
    }
}

/// If one of several calls with an effect fails, the others have happened all the same.
fn check_unsafe(drafts: &[Option<Draft<'_>>], scope: &Scope<'_>) {
    let is_unsafe = |draft: &&Draft<'_>| draft.method.as_ref().is_some_and(|method| !method.is_safe());
    let indexed = drafts.iter().enumerate().filter_map(|(index, draft)| Some((index, draft.as_ref()?)));
    let calls: Vec<_> = indexed.filter(|(_, draft)| is_unsafe(draft)).collect();
    let count: usize = calls.iter().map(|(_, draft)| if draft.is_for_each { 2 } else { 1 }).sum();
    let Some((_, last)) = calls.last().filter(|_| count > 1) else { return };
    let name = |index: &usize| scope.parts.get(*index).and_then(|part| part.name).map(quote).unwrap_or_default();
    let named = calls.iter().filter_map(|(index, draft)| {
        let method = draft.method.as_ref()?;
        Some(format!("{} ({method}{})", name(index), if draft.is_for_each { " for each item" } else { "" }))
    });
    let what = format!(
        "more than one call may change something: {}; if one fails, the others have happened",
        named.collect::<Vec<_>>().join(", ")
    );
    last.method_at.error(what, "allow_unsafe_fanout: true if that is meant");
}

fn headers_from(value: &Value<'_>, scope: &Scope<'_>) -> Option<usize> {
    let index = scope.part(value, value.text()?, "it")?;
    if scope.parts.get(index).is_some_and(|part| part.is_for_each) {
        value.error("a part with for_each has many answers, and their fields differ", "name another part");
        return None;
    }
    Some(index)
}
