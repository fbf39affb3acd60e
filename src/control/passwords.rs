//! The threads that compare passwords with hashes. They are few and give way to everything else: hashing is the dearest
//! thing that a stranger can ask for, and must not take time away from the cores that serve.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

use async_channel::Receiver;

use super::report::report;
use crate::shared::passwords::Question;

/// Questions that may wait, of all cores: at a tenth of a second each, the last one waits for a few seconds.
pub const QUEUE_LENGTH: usize = 64;
/// Threads, for a quarter of the processors and within these bounds. Each may need the memory of one hash.
const THREADS_MIN: usize = 2;
const THREADS_MAX: usize = 8;
/// Beside whatever else wants to run, they get about a tenth of a processor.
const NICE: i32 = 10;
/// Whether it was told that they can not be made to give way.
static TOLD: Once = Once::new();

/// Starts the threads, for as long as somebody may ask.
///
/// # Errors
/// The system gives no thread.
pub fn start(questions: &Receiver<Question>, workers: usize) -> io::Result<()> {
    for _ in 0..(workers / 4).clamp(THREADS_MIN, THREADS_MAX) {
        let questions = questions.clone();
        thread::Builder::new().name("passwords".into()).spawn(move || work(&questions))?;
    }
    Ok(())
}

fn work(questions: &Receiver<Question>) {
    // On Linux a thread has a priority of its own. Where it may not be lowered, it stays as it is.
    if let Err(e) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        // The threads are alike.
        TOLD.call_once(|| {
            report(format_args!(
                "warning: passwords are verified at the priority of requests, and take time from them: {e}; allow the system \
                 call setpriority (in a systemd unit: SystemCallFilter=setpriority)"
            ));
        });
    }
    while let Ok(question) = questions.recv_blocking() {
        // A defect in a hash costs one answer, not the thread: who asked is told that the password is wrong.
        let _ = catch_unwind(AssertUnwindSafe(|| question.work()));
    }
}
