//! Where the two planes meet, one small file per meeting point.

pub mod doorbell;
pub mod in_flight;
pub mod limits;
pub mod log_ring;
pub mod mailbox;
pub mod metrics;
pub mod passwords;
pub mod places;
pub mod wallet;

use std::sync::Arc;

/// One core's counters, as the core and control hold them.
pub type CoreMetrics = Arc<metrics::CoreBlock>;
/// One core's counters for one route.
pub type RouteMetrics = Arc<metrics::RouteBlock>;
/// One core's counters for one upstream.
pub type UpstreamMetrics = Arc<metrics::UpstreamBlock>;
/// One core's counters for one filter.
pub type FilterMetrics = Arc<metrics::FilterBlock>;
/// One core's counters for one filter that compresses.
pub type CompressionMetrics = Arc<metrics::CompressionBlock>;
/// The rules of a filter that is the same for many routes: made once for them, and never changed.
pub type Rules<T> = Arc<T>;
/// One core's counters for one part of an aggregation.
pub type PartMetrics = Arc<metrics::PartBlock>;
