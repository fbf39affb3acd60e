//! The gate.

/// Containers within containers.
pub const DEPTH_MAX: usize = 64;
