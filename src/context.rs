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
    /// How long the client was waited for: for the rest of its head, for its body, for it to take its answer. In µs.
    pub client_us: u64,
    /// What [`Context::client_us`] was when the upstream was first asked.
    pub client_before_us: u64,
    /// What it was when the last byte from the upstream came.
    pub client_until_us: u64,
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
            client_us: 0,
            client_before_us: 0,
            client_until_us: 0,
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

    /// The upstream is asked for the first time.
    #[inline]
    pub fn ask_upstream(&mut self, now_us: u64) {
        self.upstream_from_us = Some(now_us);
        self.client_before_us = self.client_us;
    }

    /// Something came from the upstream, or it was given up.
    #[inline]
    pub fn hear_upstream(&mut self, now_us: u64) {
        self.upstream_until_us = now_us;
        self.client_until_us = self.client_us;
    }

    /// Time spent with the upstream, in µs; `None` when none was asked. While the client is waited for, it is not the
    /// upstream that takes its time.
    pub fn upstream_us(&self) -> Option<u64> {
        let of_client = self.client_until_us.saturating_sub(self.client_before_us);
        let of_both = |from| self.upstream_until_us.saturating_sub(from);
        let of_one = || self.upstream_from_us.map(|from| of_both(from).saturating_sub(of_client));
        self.upstream_spent_us.or_else(of_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_time_is_not_the_upstreams() {
        let mut cx = Context::new(1_000);
        assert_eq!(cx.upstream_us(), None);
        cx.client_us = 500; // its head
        cx.ask_upstream(1_600);
        cx.client_us += 300; // its body
        cx.hear_upstream(2_600);
        assert_eq!(cx.upstream_us(), Some(700));
        cx.client_us += 5_000; // it takes the last of the answer
        assert_eq!(cx.upstream_us(), Some(700));
        cx.hear_upstream(7_700); // it was not the last
        assert_eq!(cx.upstream_us(), Some(800));
    }
}
