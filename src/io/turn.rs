//! Bounded work per turn, on epoll.
//!
//! On io_uring every operation waits for its completion, so tasks take turns by themselves. On epoll one that finds its
//! bytes ready is done at once: a client that sends faster than it is served would keep the core to itself, and no
//! deadline, accept or other client would get a turn.

use std::cell::Cell;
use std::io;

use monoio::net::TcpStream;
use rustix::event::{EventfdFlags, eventfd};

use super::runtime;

/// Operations that a task may do in one turn; then it lets the loop park once. About 0.3 ms of small requests.
const OPS_MAX: u32 = 64;

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

/// Ready when the loop has parked: a task that wakes itself would be run again before any timer, event or accept. What is waited
/// for is an event of its own that has already happened, which the loop hears of together with all others.
async fn next_turn() {
    let event = eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(io::Error::from);
    // monoio's type for a stream is what can wait for any descriptor.
    match event.and_then(|event| TcpStream::from_std(event.into())) {
        Ok(event) => drop(event.readable(false).await),
        Err(_) => super::sleep_ms(1).await, // no descriptor is left
    }
}

/// Before an operation: waits for the next turn if this one is used up.
#[inline]
pub(super) async fn step() {
    if runtime::is_epoll() {
        match LEFT.get() {
            // Boxed: rare.
            0 => Box::pin(next_turn()).await,
            left => LEFT.set(left - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_next_turn_comes_as_soon_as_all_others_had_theirs_and_leaves_no_descriptor_behind() {
        runtime::block_on_for_tests(async {
            let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let (before, start, other) = (open(), Instant::now(), Rc::new(Cell::new(0)));
            let counting = Rc::clone(&other);
            drop(monoio::spawn(async move {
                loop {
                    next_turn().await;
                    counting.set(counting.get() + 1);
                }
            }));
            for _ in 0..500 {
                next_turn().await;
            }
            assert!((400..=600).contains(&other.get()), "in turn: {}", other.get());
            assert!(start.elapsed().as_millis() < 500, "no timer is waited for: {:?}", start.elapsed());
            assert!(open() <= before + 200, "{} of {before}", open());
        });
    }
}
