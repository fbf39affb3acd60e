//! What control hands to a worker at its start.

use async_channel::{Receiver, Sender};

use crate::io::listen::Bound;
use crate::shared::CoreMetrics;
use crate::shared::log_ring::Producer;
use crate::shared::mailbox::{FromWorker, ToWorker};

use super::Snapshot;

/// One worker, ready to run.
pub struct WorkerStart {
    /// Which one, from 0.
    pub worker: usize,
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// What it serves first.
    pub snapshot: Box<Snapshot>,
    /// Its own socket of each listener, in the order of the config.
    pub listeners: Vec<Bound>,
    /// What control tells it.
    pub mailbox: Receiver<ToWorker<Snapshot>>,
    /// What it tells control.
    pub to_control: Sender<FromWorker<Snapshot>>,
    /// Its counters.
    pub metrics: CoreMetrics,
    /// Its end of the access log.
    pub log: Option<Producer>,
}
