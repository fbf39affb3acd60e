//! `compress`: answers get a content coding that the client takes (RFC 9110 8.4, 12.5.3).
//!
//! Here the client's wish is read; the answer is judged and compressed where it is sent (`proxy/compress.rs`), since it may be
//! an upstream's, one that was put together, or the gateway's own.

use crate::coding::head::says_no_transform;
use crate::coding::{Policy, accept};
use crate::core::Core;
use crate::request::Request;
use crate::shared::{FilterMetrics, Rules};

use super::Flow;

/// The filter.
#[derive(Clone, Debug)]
pub struct Compress {
    /// What is compressed, and how.
    pub policy: Rules<Policy>,
    /// Upstreams are asked for bytes as they are, and all compressing is done here.
    pub asks_identity: bool,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

impl Compress {
    /// Notes what the client takes; never waits, never answers. Of two such filters the later holds.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        let bytes = req.bytes();
        // Under its own name alone: caches that vary by it do not know another one.
        let wishes = req.head.fields.named(b"accept-encoding", bytes).map(|field| field.value.of(bytes));
        let wanted = accept::choose(wishes, &self.policy.codings);
        let is_forbidden = req.fields_named(b"cache-control").any(|value| says_no_transform(value.of(bytes)));
        req.compression.begin(&self.policy, wanted, is_forbidden);
        if self.asks_identity {
            req.edits.set(b"Accept-Encoding", |out| out.extend_from_slice(b"identity"));
        }
        self.metrics.passed.add(1);
        Flow::Continue
    }
}
