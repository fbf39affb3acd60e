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
    /// How many of them were sent up to the end of the answer's head.
    pub head_bytes_out: u32,
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
            head_bytes_out: 0,
            upstream_from_us: None,
            upstream_until_us: 0,
            upstream_spent_us: None,
            end: End::Ok,
        }
    }

    /// The answer's head is about to be sent, in so many bytes.
    #[inline]
    pub fn begin_answer(&mut self, status: u16, head_bytes: usize) {
        self.status = status;
        self.head_bytes_out = u32::try_from(self.bytes_out)
            .unwrap_or(u32::MAX)
            .saturating_add(u32::try_from(head_bytes).unwrap_or(u32::MAX));
    }

    /// Bytes that were sent behind the answer's head.
    pub fn body_bytes_out(&self) -> u64 {
        self.bytes_out.saturating_sub(self.head_bytes_out.into())
    }

    /// Time spent with the upstream, in µs; `None` when none was asked.
    pub fn upstream_us(&self) -> Option<u64> {
        let of_one = || self.upstream_from_us.map(|from| self.upstream_until_us.saturating_sub(from));
        self.upstream_spent_us.or_else(of_one)
    }
}
