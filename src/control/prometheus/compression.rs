//! Answers that were compressed, and why others were not.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Out, Scrape};
use crate::coding::Coding;
use crate::end::Skip;
use crate::shared::metrics::CompressionBlock;

impl Scrape {
    pub(super) fn compressions(&self, out: &mut Out<'_>) -> fmt::Result {
        let filters = &self.blocks.compressions;
        let sum = |workers: &std::collections::BTreeMap<usize, std::sync::Arc<CompressionBlock>>,
                   count: &dyn Fn(&CompressionBlock) -> u64|
         -> u64 { workers.values().map(|block| count(block)).sum() };
        let rows = filters.iter().flat_map(|(name, workers)| {
            let of = move |coding: &Coding| sum(workers, &|block| block.answers.get(coding.index()));
            Coding::ALL.iter().map(move |coding| (["filter", "coding"], [&**name, coding.name()], of(coding)))
        });
        out.counters("ringway_compressed_answers", "Answers that were compressed, by coding.", None, rows)?;
        let rows = filters.iter().flat_map(|(name, workers)| {
            let of = move |skip: &Skip| sum(workers, &|block| block.skipped.get(skip.index()));
            Skip::ALL.iter().map(move |skip| (["filter", "reason"], [&**name, skip.code()], of(skip)))
        });
        out.counters("ringway_compression_skipped", "Answers that a filter did not compress, and why.", None, rows)?;
        let rows = filters.iter().flat_map(|(name, workers)| {
            let rows = [
                ("in", sum(workers, &|block| block.bytes_in.get())),
                ("out", sum(workers, &|block| block.bytes_out.get())),
            ];
            rows.map(|(direction, n)| (["filter", "direction"], [&**name, direction], n))
        });
        let help = "Bytes of compressed answers: in before, out after.";
        out.counters("ringway_compression", help, Some(&Unit::Bytes), rows)
    }
}
