//! What control and a worker tell each other. Nothing per request crosses it: 1 µs a message when idle.

use async_channel::{Receiver, Sender};

/// Messages one mailbox holds before control waits; snapshots and drains are rare.
const MAILBOX_MAX: usize = 16;

/// From control to one worker.
pub enum ToWorker<S> {
    /// Serve new requests by this from now on.
    Snapshot(Box<S>),
    /// Accept no more, finish what runs, then say [`FromWorker::Drained`].
    Drain,
    /// The drain time is over: give up what still runs.
    Cut,
}

/// From a worker to control.
pub enum FromWorker<S> {
    /// The runtime is up and the listeners accept.
    Ready {
        /// Which worker.
        worker: usize,
        /// What its runtime runs on, for people.
        driver: String,
        /// Why it is not io_uring, with the remedy.
        fallback: Option<String>,
    },
    /// Its last request is done.
    Drained {
        /// Which worker.
        worker: usize,
    },
    /// Something the operator should know.
    Note(String),
    /// It could not start, or its thread ended.
    Failed {
        /// Which worker.
        worker: usize,
        /// The cause, for people.
        cause: String,
    },
    /// A snapshot that no request uses any more: dropped on control's side, never on a core that serves.
    Retired(Box<S>),
}

/// Control's end of one worker's mailbox, and the worker's.
pub fn mailbox<S>() -> (Sender<ToWorker<S>>, Receiver<ToWorker<S>>) {
    async_channel::bounded(MAILBOX_MAX)
}

/// The way back, one for all workers. Unbounded: a worker must not wait for control.
pub fn to_control<S>() -> (Sender<FromWorker<S>>, Receiver<FromWorker<S>>) {
    async_channel::unbounded()
}
