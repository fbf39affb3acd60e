//! Rate limits: what found no room in their tables, what Redis said, what became of tokens.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Out, Scrape, seconds};
use crate::limit::sync::Flows;
use crate::shared::metrics::TIME_BOUNDS_US;

impl Scrape {
    pub(super) fn limits(&self, out: &mut Out<'_>) -> fmt::Result {
        let limits = &self.facts.limits;
        let rows = limits.iter().map(|(name, table)| (["filter"], [name.as_str()], table.pressure().0));
        let help = "Looks for a key that found no room and used the one bucket of all such keys.";
        out.counters("ringway_limit_overflow", help, None, rows)?;
        let rows = limits.iter().map(|(name, table)| (["filter"], [name.as_str()], table.pressure().1));
        out.counters("ringway_limit_evictions", "Keys that gave their place to another.", None, rows)?;

        let Some(redis) = &self.facts.redis else { return Ok(()) };
        out.gauge("ringway_redis_up", "Whether the Redis of rate limits answers.", i64::from(redis.is_up))?;
        let processes = i64::try_from(redis.processes).unwrap_or(i64::MAX);
        out.gauge("ringway_redis_processes", "Gateways that share the rate limits, as Redis counts them.", processes)?;
        out.counter("ringway_redis_questions", "Keys that Redis was asked about.", None, redis.questions)?;
        out.counter("ringway_redis_lost", "Questions that it did not answer in time.", None, redis.lost)?;
        out.counter("ringway_redis_reconnects", "Connections to it after the first.", None, redis.reconnects)?;
        let help = "From a batch of questions to its answers, of those in time.";
        let bounds = TIME_BOUNDS_US.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(redis.answers.buckets).collect();
        let (sum, count) = (seconds(redis.answers.sum_us), redis.answers.count());
        out.family("ringway_redis_answer", help, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        let rows = redis.flows.iter().flat_map(|(name, flows)| {
            let Flows { granted, returned, expired, charged, paid } = *flows;
            let flows = [
                ("granted", granted),
                ("returned", returned),
                ("expired", expired),
                ("charged", charged),
                ("paid", paid),
            ];
            flows.map(|(flow, n)| (["filter", "flow"], [name.as_str(), flow], n))
        });
        let help =
            "Tokens: granted by Redis, returned to it, expired unspent, charged and paid for what was spent ahead.";
        out.counters("ringway_limit_tokens", help, None, rows)
    }
}
