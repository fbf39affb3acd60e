//! Where the two planes meet, one small file per meeting point.

pub mod log_ring;
pub mod mailbox;
pub mod metrics;
