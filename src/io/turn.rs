//! Bounded work per turn, on epoll.
//!
//! On io_uring every operation waits for its completion, so tasks take turns by themselves. On epoll one that finds its
//! bytes ready is done at once: a client that sends faster than it is served would keep the core to itself, and no
//! deadline, accept or other client would get a turn.

use std::cell::Cell;

use super::runtime;

/// Operations that a task may do in one turn; then it lets the loop park once. About 1 ms of small requests.
const OPS_MAX: u32 = 256;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(OPS_MAX) };
}

/// A task gets its turn.
pub(super) fn begin() {
    LEFT.set(OPS_MAX);
}

/// A piece of work was done that took as long as so many operations.
pub fn spend(ops: u32) {
    LEFT.set(LEFT.get().saturating_sub(ops));
}

/// Bytes that take as long to be copied as another small operation.
const BYTES_PER_OP: usize = 8 * 1024;

/// An operation copied `n` bytes.
#[inline]
pub(super) fn copied(n: usize) {
    if n >= BYTES_PER_OP && runtime::is_epoll() {
        spend(u32::try_from(n / BYTES_PER_OP).unwrap_or(u32::MAX));
    }
}

/// Before an operation: waits for the next turn if this one is used up.
#[inline]
pub(super) async fn step() {
    if runtime::is_epoll() {
        match LEFT.get() {
            // A timer, since monoio's loop runs timers and accepts nothing new while any task wakes itself. Boxed: rare.
            0 => Box::pin(super::sleep_ms(1)).await,
            left => LEFT.set(left - 1),
        }
    }
}
