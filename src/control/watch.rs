//! Files that are read again when they change: their stamps are looked at once a second, which needs no notice from a file
//! system that may give none, and sees swapped links. What is wrong with a new file is said, and what was read of it before
//! stays. A thread of its own does it: a file system may hang, and the signals must be heard all the same.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use async_channel::Sender;

use crate::tls::files;

use super::report::report;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files, how they were when they were last read, and what was wrong with them then.
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    stamps: Vec<files::Stamp>,
    faults: Vec<String>,
}

impl Watched {
    /// Files that are about to be read: a change within that time is seen at the next look.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let stamps = files::stamp(&paths);
        Self { paths, stamps, faults: Vec::new() }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether something was wrong with them when they were last read: one that was half written, or one of a pair, is read
    /// again until it is whole.
    pub(super) fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Whether they have changed since the last look.
    pub(super) fn have_changed(&mut self) -> bool {
        let stamps = files::stamp(&self.paths);
        std::mem::replace(&mut self.stamps, stamps) != self.stamps
    }

    /// They were read again, with these faults: says what an operator does not know yet. Whether anything is new; with the
    /// same faults and the same files nothing is. `what` they are, for people.
    pub(super) fn were_read(&mut self, changed: bool, faults: Vec<String>, what: &str) -> bool {
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            report(format_args!("error: {fault}; what was read of it before stays in use"));
        }
        let is_new = changed || faults != self.faults;
        if faults.is_empty() && is_new {
            report(format_args!("{what} were read again"));
        }
        self.faults = faults;
        is_new
    }
}

/// Calls `look` once a second from a thread of this name, for as long as the process lives, and tells what it gives.
///
/// # Errors
/// The system gives no thread.
pub(super) fn look_again<T: Send + 'static>(
    name: &str,
    tell: Sender<T>,
    mut look: impl FnMut() -> Option<T> + Send + 'static,
) -> io::Result<()> {
    let watching = move || {
        loop {
            thread::sleep(LOOK_EVERY);
            if let Some(found) = look()
                && tell.send_blocking(found).is_err()
            {
                return;
            }
        }
    };
    thread::Builder::new().name(name.into()).spawn(watching).map(drop)
}
