//! An aggregation as it runs: the graph of its parts, with everything looked up that a request would have to look for.

use bytes::Bytes;
use http::Method;

pub use crate::config::aggregate::{Envelope, ExposeParts, OnConflict, OnMissing};
use crate::filter::header_edits::HeaderEdits;
use crate::json::{Edit, Step};
use crate::route::body::BodyTemplate;
use crate::route::condition::Condition;
use crate::route::template::Template;
use crate::shared::PartMetrics;

/// Parts as bits, by their index.
pub type Parts = u64;

/// One request, several upstream calls, one answer.
pub struct Aggregate {
    /// How the answers are put together.
    pub envelope: Envelope,
    /// For a merged answer: what becomes of a key that several parts have.
    pub on_conflict: OnConflict,
    /// When the answer tells about its parts.
    pub expose_parts: ExposeParts,
    /// Most bytes of one part.
    pub part_bytes_max: usize,
    /// Most bytes of all parts.
    pub total_bytes_max: usize,
    /// Most bytes of the client's body, where it is passed on.
    pub request_bytes_max: u64,
    /// Whether a part passes the client's body on.
    pub passes_body: bool,
    /// The part whose fields go into the answer.
    pub headers_from: Option<usize>,
    /// The field that says whether the answer is complete.
    pub completed_header: Option<String>,
    /// Whether the answer tells how long its parts took.
    pub server_timing: bool,
    /// Changes to the answer's fields.
    pub response_headers: HeaderEdits,
    /// In the order of the answer.
    pub parts: Vec<Part>,
}

/// One call, or one for each item of an array.
pub struct Part {
    /// A token, for log, metrics and the answer's meta.
    pub name: String,
    /// Index into the snapshot's upstreams.
    pub upstream: usize,
    /// Of its request.
    pub method: Method,
    /// Path and query of its request.
    pub target: Template,
    /// The client's query parameters that are passed on.
    pub query: Vec<String>,
    /// The client's fields that are passed on, in lower case.
    pub headers: Vec<String>,
    /// Fields that are set.
    pub set_headers: Vec<(String, Template)>,
    /// What it sends.
    pub body: Body,
    /// Without it there is no answer: what its own key and the status policy come to. Never for a shadow.
    pub needed: bool,
    /// Its own deadline in ms; `u32::MAX`: none but the route's.
    pub timeout_ms: u32,
    /// Statuses that are a success, as inclusive ranges.
    pub success: Vec<(u16, u16)>,
    /// Statuses that become the whole answer's.
    pub propagate_status: Vec<u16>,
    /// Whether an answer that does not call itself JSON is read all the same.
    pub any_content_type: bool,
    /// The sub-document that is taken.
    pub document: Vec<Step>,
    /// What becomes of it.
    pub edit: Edit,
    /// `"key":`, ready to be written; empty for one that lies flat in a merged answer.
    pub key: Box<[u8]>,
    /// The keys that it adds to a flat answer even when it failed, as JSON writes them, without quotes.
    pub promised: Vec<Box<[u8]>>,
    /// Up to what age in ms the last good answer stands for a failed one.
    pub stale_ms: Option<u64>,
    /// The JSON that stands for a failed one.
    pub fallback: Option<Bytes>,
    /// Whether it is asked at all; its values are `when_values`.
    pub when: Option<Condition>,
    /// What happens when one of `values` is missing.
    pub on_missing: OnMissing,
    /// One call for each item.
    pub for_each: Option<ForEach>,
    /// In how many of a million requests it is asked, if its answer is thrown away.
    pub shadow_per_million: Option<u32>,
    /// What its request takes from other parts.
    pub values: Vec<Reference>,
    /// What `when` takes from them.
    pub when_values: Vec<Reference>,
    /// Parts without whose answers it can not be asked.
    pub needs: Parts,
    /// Parts that must have ended before it can begin: those, and those that `when` names.
    pub after: Parts,
    /// Whether its request changes nothing (RFC 9110 9.2.1), so that it may be sent twice.
    pub safe: bool,
    /// This core's counters for it.
    pub metrics: PartMetrics,
}

impl Part {
    /// What its deadline is called in the config.
    pub fn timeout_key(&self) -> String {
        format!("parts.{}.timeout", self.name)
    }

    /// Whether its answer is thrown away.
    pub fn is_shadow(&self) -> bool {
        self.shadow_per_million.is_some()
    }
}

/// What a part's request carries.
pub enum Body {
    /// Nothing.
    None,
    /// The client's body.
    Pass,
    /// JSON.
    Template(BodyTemplate),
}

/// One call for each item of an array.
pub struct ForEach {
    /// Where the items are.
    pub items: Reference,
    /// Most items.
    pub max: usize,
    /// Calls at a time.
    pub concurrency: usize,
}

/// A place in a part's answer, or in the item of a `for_each`.
pub struct Reference {
    /// Index of the part; `None` for the item.
    pub part: Option<usize>,
    /// The place in it.
    pub path: Vec<Step>,
}
