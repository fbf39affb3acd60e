//! Answers that were compressed, and why others were not.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Out, Scrape, over};
use crate::coding::Coding;
use crate::end::Skip;

impl Scrape {
    pub(super) fn compressions(&self, out: &mut Out<'_>) -> fmt::Result {
        let filters = &self.blocks.compressions;
        let rows = filters.iter().flat_map(|(name, workers)| {
            let of = move |coding: &Coding| over(workers, |block| block.answers.get(coding.index()));
            Coding::ALL.iter().map(move |coding| (["filter", "coding"], [&**name, coding.name()], of(coding)))
        });
        out.counters("ringway_compressed_answers", "Answers that were compressed, by coding.", None, rows)?;
        let rows = filters.iter().flat_map(|(name, workers)| {
            let of = move |skip: &Skip| over(workers, |block| block.skipped.get(skip.index()));
            Skip::ALL.iter().map(move |skip| (["filter", "reason"], [&**name, skip.code()], of(skip)))
        });
        out.counters("ringway_compression_skipped", "Answers that a filter did not compress, and why.", None, rows)?;
        let rows = filters.iter().flat_map(|(name, workers)| {
            let rows = [
                ("in", over(workers, |block| block.bytes_in.get())),
                ("out", over(workers, |block| block.bytes_out.get())),
            ];
            rows.map(|(direction, n)| (["filter", "direction"], [&**name, direction], n))
        });
        let help = "Bytes of compressed answers: in before, out after.";
        out.counters("ringway_compression", help, Some(&Unit::Bytes), rows)
    }
}
