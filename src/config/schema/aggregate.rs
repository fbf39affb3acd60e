//! The rows of aggregations.

use super::super::aggregate::{decode, part, request};
use super::document::HEADERS;
use super::*;

/// `aggregate` of a route.
pub(super) static AGGREGATE: Block = Block {
    name: "aggregate",
    keys: &decode::KEYS,
    rows: &[
        or("envelope", Kind::Words(&["uniform", "merge", "raw"]), "uniform"),
        or("status_policy", Kind::Words(&["required", "all", "any"]), "required"),
        mostly("on_conflict", Kind::Words(&["error", "first", "last", "append"]), "error"),
        Row {
            key: "expose_parts",
            kind: Kind::Words(&["never", "on_degraded", "always"]),
            default: Default::Without("envelope", "on_degraded"),
        },
        or("limits", Kind::Block(&LIMITS), "{}"),
        may("headers_from", NAME),
        or("completed_header", Kind::Text, "X-Gateway-Completed"),
        or("server_timing", Kind::Boolean, "true"),
        or("response_headers", Kind::Block(&HEADERS), "{}"),
        or("allow_unsafe_fanout", Kind::Boolean, "false"),
        need("parts", Kind::List(&Kind::Block(&PART), 1, 32)),
    ],
    rule: Rule::None,
};
static LIMITS: Block = Block {
    name: "aggregate_limits",
    keys: &decode::LIMITS_KEYS,
    rows: &[
        or("max_part_bytes", SIZE, "1MiB"),
        Row { key: "max_total_bytes", kind: SIZE, default: Default::Without("max_part_bytes", "4MiB") },
        or("max_request_bytes", SIZE, "1MiB"),
    ],
    rule: Rule::None,
};
/// `aggregation` of the document.
pub(super) static MEMORY: Block = Block {
    name: "aggregation",
    keys: &decode::MEMORY_KEYS,
    rows: &[or("memory", SIZE, "256MiB"), or("stale_memory", SIZE, "64MiB")],
    rule: Rule::None,
};

const PATHS: Kind = Kind::List(&Kind::Text, 1, 64);
const STATUSES: Kind = Kind::Like("^[2-5][0-9]{2}(-[2-5][0-9]{2})?$");
static PART: Block = Block {
    name: "part",
    keys: &part::KEYS,
    rows: &[
        need("name", Kind::Name("^[A-Za-z0-9_]{1,64}$")),
        need("upstream", NAME),
        need("request", Kind::Block(&REQUEST)),
        Row { key: "required", kind: Kind::Boolean, default: Default::Without("shadow", "true") },
        or("timeout", Kind::Either(&[NONE, TIME]), "none"),
        or("success", Kind::List(&Kind::Either(&[Kind::Count(200, 599), STATUSES]), 1, 64), r#"["200-299"]"#),
        or("propagate_status", Kind::List(&Kind::Count(400, 599), 0, 64), "[]"),
        or("content_type", Kind::Words(&["json", "any"]), "json"),
        may("target", Kind::Text),
        may("allow", PATHS),
        may("deny", PATHS),
        may("rename", Kind::Map(&Kind::Text)),
        may("into", Kind::Text),
        may("fallback", Kind::Block(&FALLBACK)),
        may("when", Kind::Text),
        or("on_missing", Kind::Words(&["fail", "skip"]), "fail"),
        may("for_each", Kind::Block(&FOR_EACH)),
        may("shadow", Kind::Block(&SHADOW)),
    ],
    rule: Rule::None,
};
static REQUEST: Block = Block {
    name: "part_request",
    keys: &request::KEYS,
    rows: &[
        or("method", METHOD, "GET"),
        need("path", Kind::Like("^/")),
        or("headers", Kind::List(&FIELD, 0, 100), "[]"),
        or("set_headers", FIELDS, "{}"),
        or("query", Kind::List(&Kind::Text, 0, 100), "[]"),
        or("body", Kind::Any, "none"),
    ],
    rule: Rule::None,
};
static FALLBACK: Block = Block {
    name: "fallback",
    keys: &part::FALLBACK_KEYS,
    rows: &[may("stale", Kind::Either(&[NONE, TIME])), may("data", Kind::Any)],
    rule: Rule::Some(&["stale", "data"]),
};
static FOR_EACH: Block = Block {
    name: "for_each",
    keys: &part::FOR_EACH_KEYS,
    rows: &[
        need("in", Kind::Like("^parts\\.")),
        need("as", Kind::Like("^[A-Za-z_][A-Za-z0-9_]*$")),
        or("max", Kind::Count(1, 1000), "20"),
        or("concurrency", Kind::Count(1, 64), "8"),
    ],
    rule: Rule::None,
};
static SHADOW: Block =
    Block { name: "shadow", keys: &part::SHADOW_KEYS, rows: &[need("sample", SHARE)], rule: Rule::None };
