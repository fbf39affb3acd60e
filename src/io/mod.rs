//! System calls only: the one place that names monoio, and the only one that may hold `unsafe`.
//!
//! Everything above sees streams, deadlines and buffers. The defects of monoio 0.2.4 are contained here by the rules of
//! RUNTIME_RULES.md; each has a test at the end of the file that keeps it.

pub mod buffers;
mod clock;
pub mod deadline;
pub mod dial;
pub mod files;
pub mod listen;
pub mod memory;
pub mod records;
pub mod recycle;
pub mod runtime;
mod signals;
pub mod spawn;
pub mod stream;
pub mod tls;
mod turn;

pub use buffers::{Buf, Buffers};
pub use clock::clock_is_synchronised;
pub use deadline::{Deadlines, Fired, Slot, guard};
pub use signals::let_long_files_fail;
pub use spawn::spawn;
pub use stream::Stream;
pub use turn::spend;

/// Waits `ms` milliseconds on the core's timer (1 ms resolution; it runs only when the loop parks).
pub async fn sleep_ms(ms: u64) {
    monoio::time::sleep(std::time::Duration::from_millis(ms)).await;
}
