//! What the gateway has to say to its operator apart from the access log: lines on standard error, written by a thread
//! of their own. Whoever reads that pipe may stop reading; control, which hears the signals, must not stop with it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::turn::{STANDARD_ERROR, Turn};

/// Messages that wait for standard error; later ones are lost, and how many is told once it takes lines again. More than
/// this at once is said only by a fault that repeats.
const QUEUE_MAX: usize = 256;

/// How long the process waits at its end for its last lines to be written.
const LAST_WORDS_MAX: Duration = Duration::from_millis(200);

static OPERATOR: LazyLock<Arc<Operator>> = LazyLock::new(|| {
    let operator = Arc::new(Operator::default());
    // A duplicate, not std's handle: whoever holds that one's lock in a write that blocks would block its other users.
    if let Ok(out) = io::stderr().as_fd().try_clone_to_owned().map(File::from) {
        let writing = Arc::clone(&operator);
        let thread =
            thread::Builder::new().name("operator".into()).spawn(move || writing.write_out(out, &STANDARD_ERROR));
        operator.queue().has_writer = thread.is_ok();
    }
    operator
});

/// Says one line. Never waits.
pub(crate) fn report(message: fmt::Arguments<'_>) {
    say(format!("ringway: {message}\n"));
}

/// Says whole lines as they are. Never waits.
pub fn say(lines: String) {
    OPERATOR.say(lines);
}

/// Waits until all that was said is written, for at most 200 ms. The process ends next.
pub fn last_words() {
    OPERATOR.wait_written(LAST_WORDS_MAX);
}

/// Has panics said like everything else. The standard hook writes to standard error itself: a panic that a worker
/// survives would stop the worker if that is full.
pub fn say_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        report(format_args!("error: thread {}: {panic}", thread.name().unwrap_or("without a name")));
        // Nothing catches one on the main thread.
        if thread.name() == Some("main") {
            last_words();
        }
    }));
}

/// `1 worker`, `2 workers`.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The way to standard error: any thread says, one writes.
#[derive(Default)]
struct Operator {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<String>,
    /// The writer has taken a message out and is not done with it.
    writing: bool,
    lost: u64,
    has_writer: bool,
}

impl Queue {
    fn is_written(&self) -> bool {
        self.waiting.is_empty() && !self.writing
    }
}

impl Operator {
    fn say(&self, lines: String) {
        if lines.is_empty() {
            return;
        }
        let mut queue = self.queue();
        if !queue.has_writer {
            // No thread or descriptor is to be had: the start fails too, and this says why.
            drop(queue);
            let _ = io::stderr().write_all(lines.as_bytes());
        } else if queue.waiting.len() < QUEUE_MAX {
            queue.waiting.push_back(lines);
            drop(queue);
            self.changed.notify_all();
        } else {
            queue.lost += 1;
        }
    }

    fn wait_written(&self, wait_max: Duration) {
        let queue = self.queue();
        let _ = self.changed.wait_timeout_while(queue, wait_max, |queue| queue.has_writer && !queue.is_written());
    }

    /// Writes what is said, for as long as the process lives.
    fn write_out(&self, mut out: File, turn: &Turn) {
        loop {
            let next = self.next();
            turn.take();
            // A standard error that is closed must not stop anything either.
            let written = write_whole(&mut out, next.as_bytes()).is_ok();
            turn.give_back();
            let mut queue = self.queue();
            queue.writing = false;
            if !written {
                queue.lost += 1;
            } else if queue.lost > 0 && queue.waiting.is_empty() {
                let lost = std::mem::take(&mut queue.lost);
                let lost = counted(usize::try_from(lost).unwrap_or(usize::MAX), "message");
                queue.waiting.push_back(format!("ringway: {lost} lost before this: standard error took nothing\n"));
            }
            drop(queue);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> String {
        let mut queue = self.queue();
        loop {
            if let Some(next) = queue.waiting.pop_front() {
                queue.writing = true;
                return next;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it, however long that takes: whoever shares the stream may have made it non-blocking.
fn write_whole(out: &mut File, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                // What goes wrong here, the next write says.
                let _ = poll(&mut [PollFd::new(out, PollFlags::OUT)], None);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader};

    #[test]
    fn a_full_pipe_stops_nobody_and_what_was_lost_is_told_later() {
        let (reader, pipe) = io::pipe().unwrap();
        let operator = Arc::new(Operator::default());
        operator.queue().has_writer = true;
        let writing = Arc::clone(&operator);
        thread::spawn(move || writing.write_out(File::from(std::os::fd::OwnedFd::from(pipe)), &Turn::new()));
        operator.say(format!("{}\n", "x".repeat(200 << 10))); // more than a pipe takes
        while !operator.queue().writing {
            thread::yield_now();
        }
        for n in 0..QUEUE_MAX + 3 {
            operator.say(format!("{n}\n"));
        }
        operator.wait_written(Duration::from_millis(20));
        assert!(!operator.queue().is_written(), "given up waiting");
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap().len(), 200 << 10);
        for n in 0..QUEUE_MAX {
            assert_eq!(lines.next().unwrap(), n.to_string());
        }
        assert!(lines.next().unwrap().starts_with("ringway: 3 messages lost"));
        operator.say("after\n".into());
        operator.wait_written(Duration::from_secs(5));
        assert!(operator.queue().is_written());
        assert_eq!(lines.next().unwrap(), "after");
    }
    #[test]
    fn a_pipe_that_was_made_non_blocking_loses_nothing_while_its_reader_is_slow() {
        let (reader, pipe) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let text = "x".repeat(200 << 10); // more than a pipe takes
        let length = text.len();
        let writes = thread::spawn(move || {
            let mut out = File::from(std::os::fd::OwnedFd::from(pipe));
            write_whole(&mut out, text.as_bytes())
        });
        assert_eq!(io::read_to_string(reader).unwrap().len(), length);
        writes.join().unwrap().unwrap();
    }
}
