//! `aggregate`: one request, several upstream calls, one answer.
//!
//! `decode` reads the block and checks what its parts say of each other, `part` and `request` read one part, `scope` finds
//! what a template takes from other parts, `graph` finds circles of parts, and `data` turns YAML into JSON.

use http::Method;

use super::headers::{HeaderEdits, HeaderTemplate};
use super::report::Located;
use crate::json::{Filter, Path};
use crate::value::{ByteSize, Duration};

mod data;
pub(super) mod decode;
mod graph;
pub(super) mod part;
pub(super) mod request;
mod scope;

pub(super) use decode::{Route, decode, memory};

/// `aggregate`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// How the answers are put together.
    pub envelope: Envelope,
    /// When the whole is a success.
    pub status_policy: StatusPolicy,
    /// For [`Envelope::Merge`]: what becomes of a key that several parts have.
    pub on_conflict: OnConflict,
    /// When the answer tells about its parts.
    pub expose_parts: ExposeParts,
    /// Bounds of what is held in memory.
    pub limits: Limits,
    /// Index of the part whose header fields go into the answer.
    pub headers_from: Option<usize>,
    /// The field that says whether the answer is complete; `None`: none does.
    pub completed_header: Option<String>,
    /// Whether the answer tells how long its parts took.
    pub server_timing: bool,
    /// Changes to the answer's fields.
    pub response_headers: HeaderEdits,
    /// In the order of the answer. They make no cycle.
    pub parts: Vec<Part>,
}

/// How the answers are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// `{"code":0,"message":"OK","data":{…}}`, an object of parts in it.
    Uniform,
    /// One flat object of what the parts' objects hold.
    Merge,
    /// An object of parts.
    Raw,
}

/// When the whole is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPolicy {
    /// Every required part is well.
    Required,
    /// Every part is well.
    All,
    /// One part is well.
    Any,
}

/// What becomes of a key that several parts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The part that is declared later fails.
    Error,
    /// That of the part declared first is kept.
    First,
    /// That of the part declared last is kept.
    Last,
    /// All of them, in one array.
    Append,
}

/// When the answer tells about its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExposeParts {
    /// Never.
    Never,
    /// About those that failed.
    OnDegraded,
    /// About all, in every answer.
    Always,
}

/// Bounds of what is held in memory for one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// One part's answer, or all items of a `for_each` together.
    pub max_part_bytes: ByteSize,
    /// All answers.
    pub max_total_bytes: ByteSize,
    /// The client's body, where a part passes it on.
    pub max_request_bytes: ByteSize,
}

/// One call, or one for each item of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Unique; letters, digits and `_`.
    pub name: Located<String>,
    /// The name of an upstream, which exists.
    pub upstream: Located<String>,
    /// What it is asked.
    pub request: Request,
    /// Without it there is no answer. Never for a shadow.
    pub required: bool,
    /// Its own deadline; `None`: the route's.
    pub timeout: Option<Duration>,
    /// Statuses that are a success, as inclusive ranges.
    pub success: Vec<(u16, u16)>,
    /// Statuses that become the whole answer's, should this part decide it.
    pub propagate_status: Vec<u16>,
    /// Whether an answer that does not call itself JSON is read all the same.
    pub any_content_type: bool,
    /// The sub-document that is taken.
    pub target: Path,
    /// What of it is kept.
    pub filter: Filter,
    /// Keys that get another name.
    pub rename: Vec<(Path, String)>,
    /// Its key in the answer; `None` in a merged answer whose parts lie flat.
    pub key: Option<String>,
    /// What stands for it when it fails.
    pub fallback: Fallback,
    /// Whether it is asked at all.
    pub when: Option<Located<String>>,
    /// What happens when a value that its request needs is missing.
    pub on_missing: OnMissing,
    /// One call for each item.
    pub for_each: Option<ForEach>,
    /// In how many of a million requests it is asked, if its answer is thrown away.
    pub shadow_per_million: Option<u32>,
    /// What its templates take from other parts, by the name in their braces.
    pub values: Vec<Reference>,
    /// The same for `when`.
    pub when_values: Vec<Reference>,
}

/// What a part's upstream is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// GET if none is given.
    pub method: Method,
    /// A template of path and query, see `Template::parse_target`.
    pub path: Located<String>,
    /// Names of the client's header fields that are passed on, in lower case.
    pub headers: Vec<String>,
    /// Fields that are set.
    pub set_headers: Vec<HeaderTemplate>,
    /// Names of the client's query parameters that are passed on.
    pub query: Vec<String>,
    /// What is sent.
    pub body: Body,
}

/// What a part's request carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// The client's body.
    Pass,
    /// JSON made from a template, see `BodyTemplate`.
    Template(Located<String>),
}

/// What stands for a part that failed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fallback {
    /// The last good answer to the same request, up to this age.
    pub stale: Option<Duration>,
    /// This JSON.
    pub data: Option<String>,
}

/// What happens when a value is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// The part is left out, as if `when` were false.
    Skip,
    /// The part fails.
    Fail,
}

/// One call for each item of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct ForEach {
    /// Where the items are.
    pub items: Reference,
    /// What an item is called in templates.
    pub name: String,
    /// Most items; those beyond it are not asked for, and make the part partial.
    pub max: u32,
    /// Calls at a time.
    pub concurrency: u32,
}

/// A place in a part's answer, or in the item of a `for_each`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// As it is written: `parts.user.tier`, `id`, `order.id`.
    pub text: String,
    /// Index of the part; `None` for the item.
    pub part: Option<usize>,
    /// The place in it.
    pub path: Path,
}

/// `aggregation`: what all aggregations of the process may hold in memory. It is shared out among workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AggregationMemory {
    /// Answers of parts, until the whole is sent.
    pub memory: ByteSize,
    /// Last good answers, kept for `fallback.stale`; none are kept if it is 0.
    pub stale_memory: ByteSize,
}

impl Default for AggregationMemory {
    fn default() -> Self {
        Self { memory: ByteSize::from_kib(256 << 10), stale_memory: ByteSize::from_kib(64 << 10) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let mib = |count: u64| ByteSize::from_kib(count << 10);
        Self { max_part_bytes: mib(1), max_total_bytes: mib(4), max_request_bytes: mib(1) }
    }
}

#[cfg(test)]
mod tests;
