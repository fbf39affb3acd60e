//! `mirror`: a share of the requests is copied to another upstream, whose answers are thrown away.

use super::super::decode::{Keys, Value};
use super::super::references::Names;
use super::super::report::Located;
use crate::value::{ByteSize, Duration, per_million};

pub(in crate::config) const KEYS: Keys =
    Keys { known: &["upstream", "percent", "unsafe_methods", "max_body", "max_in_flight", "timeout"], later: &[] };

/// A copy is held while its body passes by.
const BODY_MAX: ByteSize = ByteSize::from_kib(64);

/// `mirror`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Who gets the copies: the name of an upstream, which exists.
    pub upstream: Located<String>,
    /// Of how many of a million requests.
    pub per_million: u32,
    /// Also requests that may change something (RFC 9110 9.2.1).
    pub unsafe_methods: bool,
    /// The largest body that is copied.
    pub max_body: ByteSize,
    /// Copies at a time, per process.
    pub max_in_flight: u32,
    /// How long one may take.
    pub timeout: Duration,
}

pub(super) fn decode(value: &Value<'_>, upstreams: &Names<'_>) -> Option<Mirror> {
    let block = value.block(&KEYS)?;
    let upstream = block.required("upstream").and_then(|v| upstreams.one(v));
    Some(Mirror {
        per_million: block.or("percent", 1_000_000, |v| v.parse(per_million)),
        unsafe_methods: block.or("unsafe_methods", false, Value::boolean),
        max_body: block.or("max_body", ByteSize::from_kib(8), |v| v.size(ByteSize::from_bytes(0)..=BODY_MAX)),
        max_in_flight: block.or("max_in_flight", 100, |v| v.count(1..=10_000)),
        timeout: block
            .or("timeout", Duration::from_secs(5), |v| v.duration(Duration::from_millis(10)..=Duration::from_secs(60))),
        upstream: upstream?,
    })
}
