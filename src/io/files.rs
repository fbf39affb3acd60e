//! How many files the process may have open, and how many of them are for clients that are only told no.

/// Connections over a cap that one worker answers at the same time, where there are descriptors for that.
const REFUSALS_MAX: u64 = 256;
/// The part of all descriptors that such connections may have.
const REFUSALS_PART: u64 = 16;

/// The soft limit of open files.
pub fn limit() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connections over a cap that each of `workers` answers at the same time with so many descriptors: those that it serves
/// must not lack them.
pub fn refusals(limit: u64, workers: usize) -> u64 {
    let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
    (limit / REFUSALS_PART / workers).min(REFUSALS_MAX)
}
