//! Writing all of a buffer to either side, as fast as it is taken: who is slow is waited for, who takes nothing is not.

use crate::io::{Buf, Fired, Slot, Stream, guard};

/// How often within its deadline a pending write is looked at for progress. The kernel takes more only when a good part
/// of its send buffer is free, which may be megabytes: a slow reader makes progress long before.
const LOOKS: u32 = 4;

/// Why a write ended before all was taken.
pub(super) enum Unwritten {
    /// The connection is broken.
    Broken,
    /// Nothing was taken for too long.
    Stalled,
    /// The wait was given up.
    Fired(Fired),
}

/// Writes all of `out` and gives it back emptied. The other side may take nothing for `stall_ms`, and all of it is done by
/// `until_ms`, in ms since the process began.
pub(super) async fn write_all(
    stream: &Stream,
    slot: &Slot,
    stall_ms: u32,
    until_ms: u64,
    mut out: Buf,
) -> Result<Buf, Unwritten> {
    while !out.is_empty() {
        let mut write = std::pin::pin!(stream.write(out));
        let mut progress_ms = slot.now_ms();
        let mut before = usize::MAX;
        out = loop {
            let due_ms = slot.now_ms().saturating_add((stall_ms / LOOKS).max(1).into()).min(until_ms);
            match guard(slot, due_ms, write.as_mut()).await {
                Ok((Ok(()), rest)) => break rest,
                Ok((Err(_), _)) => return Err(Unwritten::Broken),
                Err(Fired::Deadline) => {
                    let left = stream.unacknowledged();
                    if left < std::mem::replace(&mut before, left) && before != usize::MAX {
                        progress_ms = slot.now_ms();
                    }
                    let now_ms = slot.now_ms();
                    if now_ms >= until_ms || now_ms.saturating_sub(progress_ms) >= stall_ms.into() {
                        return Err(Unwritten::Stalled);
                    }
                }
                Err(fired) => return Err(Unwritten::Fired(fired)),
            }
        };
    }
    out.clear();
    Ok(out)
}
