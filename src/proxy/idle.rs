//! Waiting for a request. Between two of them a connection holds nothing but a small buffer and this wait.

use std::rc::Rc;

use crate::end::{Closed, Deadline};
use crate::io::{Buf, Fired, guard};

use super::plane::{Downstream, Plane};
use super::receive::EMPTY_BYTES_MAX;

/// Whether no request has begun with these bytes: nothing came, or empty lines, as some clients send one behind a body
/// (RFC 9112 2.2). Of more than are allowed a request is made, which is refused.
#[inline]
pub(super) fn is_before_request(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == b'\r')
        && bytes.len() <= EMPTY_BYTES_MAX
        && bytes.chunks(2).all(|line| b"\r\n".starts_with(line))
}

/// Waits for the first bytes of a request, in a buffer of the size `class`; those of `buf` are kept, which are before it.
pub(super) async fn await_request(
    down: &Rc<Downstream>,
    plane: &Plane,
    class: usize,
    mut buf: Buf,
) -> Result<Buf, Closed> {
    let core = &plane.core;
    if buf.capacity() != class || !buf.is_empty() {
        buf.grow(class, &core.buffers);
    }
    let (first, idle_ms, header_ms) = {
        let live = plane.live();
        let rules = live.snapshot.listeners.get(down.listener);
        let times = rules.map_or((0, 0), |rules| (rules.keep_alive_ms, rules.request_header_ms));
        (down.served.get() == 0, times.0, times.1)
    };
    let wait_ms = if first { header_ms } else { idle_ms };
    let due_ms = down.slot.now_ms().saturating_add(wait_ms.into());
    down.idle_since_ms.set(Some(down.slot.now_ms()));
    let read = loop {
        match guard(&down.slot, due_ms, down.stream.read(buf)).await {
            Ok((Ok(n), filled)) if n > 0 && is_before_request(filled.bytes()) => buf = filled,
            read => break read,
        }
    };
    down.idle_since_ms.set(None);
    match read {
        Ok((Ok(n), buf)) if n > 0 => Ok(buf),
        Ok(_) if core.draining.get() => Err(Closed::Drain),
        Ok(_) | Err(Fired::Gone) => Err(Closed::Client),
        Err(Fired::Shutdown) => Err(Closed::Drain),
        Err(Fired::Deadline) => {
            core.metrics.deadlines.add(Deadline::KeepAlive.index(), 1);
            Err(Closed::KeepAlive)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_begin_no_request_unless_there_are_too_many() {
        for bytes in ["", "\r", "\r\n", "\r\n\r", "\r\n\r\n", &"\r\n".repeat(EMPTY_BYTES_MAX / 2)] {
            assert!(is_before_request(bytes.as_bytes()), "{bytes:?}");
        }
        for bytes in ["G", "\n", "\r\r", "\r\nG", "\rG", "\r\n\n", &"\r\n".repeat(EMPTY_BYTES_MAX / 2 + 1)] {
            assert!(!is_before_request(bytes.as_bytes()), "{bytes:?}");
        }
    }
}
