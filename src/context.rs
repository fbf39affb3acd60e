//! The facts of one request that its log line and its metrics are made of.

use crate::end::End;

/// What is known about a request so far.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// When its first byte came, in µs since the process began.
    pub started_us: u64,
    /// Index of its route in the snapshot.
    pub route: Option<usize>,
    /// Index of its upstream in the snapshot.
    pub upstream: Option<usize>,
    /// Index of the endpoint that was asked last, in its upstream.
    pub endpoint: Option<usize>,
    /// The status sent, 0 when none was.
    pub status: u16,
    /// Bytes received from the client.
    pub bytes_in: u64,
    /// Bytes sent to the client.
    pub bytes_out: u64,
    /// When the upstream was first asked (to be dialled or sent to), in µs since the process began.
    pub upstream_from_us: Option<u64>,
    /// When the last byte from the upstream came.
    pub upstream_until_us: u64,
    /// How long several upstreams were waited for, their times taken together: what overlaps counts once. In µs.
    pub upstream_spent_us: Option<u64>,
    /// Who ended it, and why.
    pub end: End,
}

impl Context {
    /// A request that begins now.
    pub fn new(started_us: u64) -> Self {
        Self {
            started_us,
            route: None,
            upstream: None,
            endpoint: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            upstream_from_us: None,
            upstream_until_us: 0,
            upstream_spent_us: None,
            end: End::Ok,
        }
    }

    /// Time spent with the upstream, in µs; `None` when none was asked.
    pub fn upstream_us(&self) -> Option<u64> {
        let of_one = || self.upstream_from_us.map(|from| self.upstream_until_us.saturating_sub(from));
        self.upstream_spent_us.or_else(of_one)
    }
}
