//! The access log's writer thread: takes whole lines out of the cores' rings and writes them out in large pieces.
//!
//! It polls. A core must never pay for a wake-up call, and one pass every few ms that finds hundreds of lines costs
//! far less per line than a wake-up for each. Bytes go from the ring to the kernel without a copy in between, and stay
//! in the ring until they are written: a target that fails for a while loses nothing that the rings have room for.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::cpus;
use super::report::report;
use crate::shared::log_ring::Consumer;
use crate::shared::metrics::LogBlock;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, made with mode 0640 if it is not there, appended to if it is.
    File(PathBuf),
}

/// How to run the thread.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where lines go.
    pub target: Target,
    /// CPUs that it may run on, usually those without a worker. Empty: all that the process may use.
    pub cpus: Vec<usize>,
}

/// The running thread. Dropping it leaves the thread running: call [`Writer::stop`].
#[derive(Debug)]
pub struct Writer {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
    left: Receiver<u64>,
}

/// How [`Writer::stop`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All lines that were pushed before are written.
    Flushed,
    /// The target failed: so many lines are lost.
    Lost(u64),
    /// The target took nothing for [`STOP_MAX`], such as a pipe that nobody reads; the thread was left behind.
    Stuck,
}

/// The longest sleep: a lone line is out after this. 50 passes a second that find nothing cost about 0.02 % of a CPU.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// The shortest sleep, for cores that fill their rings faster than [`SLEEP_MAX`] allows.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// Sleeps are shortened so that the fullest ring is about this full after one.
const FILL_PERCENT: u32 = 25;
/// One write takes at most this from a ring, so that its core has room again while the rest is written.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// How long `stop` waits for a target that does not take what it is given.
pub const STOP_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    reopen: AtomicBool,
}

impl Writer {
    /// Opens the target and starts the thread that drains `rings` into it.
    ///
    /// # Errors
    /// The target can not be opened, or no thread can be made. The message names the target.
    pub fn start(options: Options, rings: Vec<Consumer>, stats: Arc<LogBlock>) -> io::Result<Writer> {
        let out = open(&options.target).map_err(|e| cannot_open(&options.target, &e))?;
        let orders = Arc::new(Orders::default());
        let (done, left) = mpsc::sync_channel(1);
        let target = options.target;
        let drain =
            Drain { out, target, rings, first: 0, torn: false, stats, orders: Arc::clone(&orders), failing: None };
        let cpus = options.cpus;
        let thread = thread::Builder::new().name("access-log".into()).spawn(move || drain.run(&cpus, &done));
        let thread =
            thread.map_err(|e| io::Error::new(e.kind(), format!("the access log's thread can not start: {e}")))?;
        Ok(Writer { orders, thread, left })
    }

    /// Opens the file anew by its name, after it was rotated away. If that fails the old one stays in use.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Writes all lines that were pushed before this call, and ends the thread. Takes at most [`STOP_MAX`].
    #[must_use = "lines may be lost"]
    pub fn stop(self) -> Stopped {
        self.stop_within(STOP_MAX)
    }

    fn stop_within(self, wait_max: Duration) -> Stopped {
        self.orders.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let Ok(lines) = self.left.recv_timeout(wait_max) else { return Stopped::Stuck };
        // It has said its last word, so this does not wait.
        let _ = self.thread.join();
        if lines == 0 { Stopped::Flushed } else { Stopped::Lost(lines) }
    }
}

fn open(target: &Target) -> io::Result<File> {
    // A duplicate, not the std handle: that one looks for line ends and flushes at each.
    match target {
        Target::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        Target::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        Target::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
    }
}

fn cannot_open(target: &Target, e: &io::Error) -> io::Error {
    let remedy = match (target, e.kind()) {
        (Target::File(_), ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory) => {
            "; the directory must exist and be writable for the gateway's user"
        }
        _ if matches!(Errno::from_io_error(e), Some(Errno::MFILE)) => {
            "; raise the limit of open files (`ulimit -n`, LimitNOFILE=)"
        }
        _ => "",
    };
    io::Error::new(e.kind(), format!("cannot open the access log {target}: {e}{remedy}"))
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Stdout => f.write_str("stdout"),
            Target::Stderr => f.write_str("stderr"),
            Target::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The thread's state.
struct Drain {
    out: File,
    target: Target,
    rings: Vec<Consumer>,
    /// The ring to begin a pass with: the one in which the last write failed.
    first: usize,
    /// The last byte written was not the end of a line; the rest of that line is next in ring `first`.
    torn: bool,
    stats: Arc<LogBlock>,
    orders: Arc<Orders>,
    /// The error that was reported last, by its errno, until a write succeeds.
    failing: Option<Option<i32>>,
}

/// How a pass over the rings ended.
enum Pass {
    /// All that was in the rings at its start is written.
    Done,
    /// The target is non-blocking and full.
    Full,
    /// The target failed, which was reported.
    Failed,
}

impl Drain {
    fn run(mut self, cpus: &[usize], done: &SyncSender<u64>) {
        if let Err(e) = cpus::keep_to(cpus) {
            report(format_args!("the access log's thread runs on any CPU, since it can not be bound to {cpus:?}: {e}"));
        }
        let mut sleep = SLEEP_MAX;
        loop {
            // Read before the rings are: what was pushed before `stop` was called is then seen below.
            if self.orders.stop.load(Ordering::Acquire) {
                // If `stop` has given up waiting, nobody wants to know.
                let lost = self.finish();
                let _ = done.send(lost);
                return;
            }
            if self.orders.reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            sleep = next_sleep(sleep, self.rings.iter().map(fill_percent).max().unwrap_or(0));
            self.pass();
            thread::park_timeout(sleep);
        }
    }

    /// The last pass. Returns how many lines are lost.
    fn finish(mut self) -> u64 {
        let until = Instant::now() + STOP_MAX;
        loop {
            match self.pass() {
                Pass::Done => return 0,
                Pass::Full if Instant::now() < until => thread::park_timeout(SLEEP_MIN),
                Pass::Full | Pass::Failed => break,
            }
        }
        let mut lines = 0;
        for ring in &mut self.rings {
            ring.consume(usize::MAX, |a, b| {
                lines += [a, b].iter().flat_map(|s| memchr::memchr_iter(b'\n', s)).count() as u64;
                a.len() + b.len()
            });
        }
        self.stats.lines_lost.add(lines);
        lines
    }

    /// Writes what is in the rings now, one after the other. What comes in meanwhile waits for the next pass.
    fn pass(&mut self) -> Pass {
        let count = self.rings.len();
        for ring in (0..count).map(|i| (self.first + i) % count).collect::<Vec<_>>() {
            let mut due = self.rings.get(ring).map_or(0, Consumer::len);
            while due > 0 {
                match self.write(ring, due) {
                    Ok(written) => due = due.saturating_sub(written),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.first = ring;
                        // Whoever shares our stdout made it non-blocking: nothing is wrong, it is only full.
                        if e.kind() == ErrorKind::WouldBlock {
                            return Pass::Full;
                        }
                        self.failed(&e);
                        return Pass::Failed;
                    }
                }
                self.recovered();
            }
        }
        Pass::Done
    }

    /// One write of at most `due` bytes of a ring; what was written is taken off the ring.
    fn write(&mut self, ring: usize, due: usize) -> io::Result<usize> {
        let Some(ring) = self.rings.get_mut(ring) else { return Ok(due) };
        let (out, torn, mut result) = (&mut self.out, &mut self.torn, Ok(0));
        ring.consume(due.min(WRITE_BYTES_MAX), |a, b| {
            result = out.write_vectored(&[IoSlice::new(a), IoSlice::new(b)]);
            let written = *result.as_ref().unwrap_or(&0);
            let last = if written > a.len() { b.get(written - a.len() - 1) } else { a.get(written.wrapping_sub(1)) };
            *torn = last.map_or(*torn, |&byte| byte != b'\n');
            written
        });
        match result {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.stats.bytes_written.add(written as u64);
                Ok(written)
            }
            Err(e) => Err(e),
        }
    }

    /// Says so once for each kind of failure, not each 20 ms.
    fn failed(&mut self, e: &io::Error) {
        self.stats.errors.add(1);
        if self.failing != Some(e.raw_os_error()) {
            self.failing = Some(e.raw_os_error());
            report(format_args!(
                "the access log can not be written to {}: {e}; lines wait in memory, and are dropped and counted in \
                 ringway_log_lines_dropped_total once that is full",
                self.target
            ));
        }
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            report(format_args!("the access log is written to {} again", self.target));
        }
    }

    fn reopen(&mut self) {
        match open(&self.target) {
            Ok(file) => {
                self.out = file;
                self.skip_torn_line();
            }
            Err(e) => {
                self.stats.errors.add(1);
                report(format_args!("{}; the old file stays in use", cannot_open(&self.target, &e)));
            }
        }
    }

    /// The new file does not begin with the second half of a line.
    fn skip_torn_line(&mut self) {
        let Some(ring) = self.rings.get_mut(self.first).filter(|_| self.torn) else { return };
        ring.consume(usize::MAX, |a, b| match (memchr::memchr(b'\n', a), memchr::memchr(b'\n', b)) {
            (Some(end), _) => end + 1,
            (None, Some(end)) => a.len() + end + 1,
            (None, None) => 0,
        });
        self.torn = false;
        self.stats.lines_lost.add(1);
    }
}

fn fill_percent(ring: &Consumer) -> u32 {
    u32::try_from(ring.len() * 100 / ring.capacity().max(1)).unwrap_or(100)
}

/// The next sleep, after one of `last` in which the fullest ring filled to `percent`.
fn next_sleep(last: Duration, percent: u32) -> Duration {
    (last * FILL_PERCENT / percent.max(1)).clamp(SLEEP_MIN, SLEEP_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shared::log_ring::{Producer, ring};
    use crate::shared::metrics::CoreBlock;
    use std::os::unix::fs::PermissionsExt;

    fn rings(n: usize, bytes: usize) -> (Vec<Producer>, Vec<Consumer>) {
        (0..n).map(|_| ring(bytes, Arc::new(CoreBlock::default()))).unzip()
    }

    /// A folder of its own for each test, removed at its end.
    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringway-log-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
        fn file(&self) -> PathBuf {
            self.0.join("access.log")
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn options(path: PathBuf) -> Options {
        Options { target: Target::File(path), cpus: vec![] }
    }

    fn eventually(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(5);
        while !what() {
            assert!(Instant::now() < until, "did not happen within 5 s");
            thread::yield_now();
        }
    }

    /// A thread's state around any file, to drive passes by hand.
    fn drain(out: File, consumers: Vec<Consumer>, path: PathBuf) -> Drain {
        Drain {
            out,
            target: Target::File(path),
            rings: consumers,
            first: 0,
            torn: false,
            stats: Arc::default(),
            orders: Arc::default(),
            failing: None,
        }
    }

    #[test]
    fn every_line_of_every_ring_arrives_whole_and_in_order() {
        let folder = Folder::new("whole");
        let (mut producers, consumers) = rings(3, 4096);
        let writer = Writer::start(options(folder.file()), consumers, Arc::default()).unwrap();
        for i in 0..20_000 {
            for (core, producer) in producers.iter_mut().enumerate() {
                let line = format!("{core} {i} {}\n", "x".repeat(i % 50));
                eventually_pushed(producer, line.as_bytes());
            }
        }
        assert_eq!(writer.stop(), Stopped::Flushed);
        let text = std::fs::read_to_string(folder.file()).unwrap();
        let mut next = [0; 3];
        for line in text.lines() {
            let mut words = line.split(' ');
            let core: usize = words.next().unwrap().parse().unwrap();
            let i: usize = words.next().unwrap().parse().unwrap();
            assert_eq!((i, words.next().unwrap().len()), (next[core], i % 50), "{line}");
            next[core] += 1;
        }
        assert_eq!(next, [20_000; 3]);
        let mode = std::fs::metadata(folder.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "no more than 0640");
    }

    fn eventually_pushed(producer: &mut Producer, line: &[u8]) {
        while !producer.push(line) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_lone_line_appears_without_a_stop_and_reopen_follows_a_rotation() {
        let folder = Folder::new("rotate");
        let rotated = folder.0.join("access.log.1");
        let (mut producers, consumers) = rings(1, 4096);
        let writer = Writer::start(options(folder.file()), consumers, Arc::default()).unwrap();
        assert!(producers[0].push(b"before\n"));
        eventually(|| std::fs::read(folder.file()).unwrap() == b"before\n");
        std::fs::rename(folder.file(), &rotated).unwrap();
        writer.reopen();
        eventually(|| folder.file().exists());
        assert!(producers[0].push(b"after\n"));
        assert_eq!(writer.stop(), Stopped::Flushed);
        assert_eq!(std::fs::read(folder.file()).unwrap(), b"after\n");
        assert_eq!(std::fs::read(rotated).unwrap(), b"before\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_does_not_hang_stop() {
        let (reader, pipe) = io::pipe().unwrap();
        let (mut producers, consumers) = rings(1, 1 << 20);
        assert!(producers[0].push(&[b'x'; 512 << 10]), "more than a pipe takes");
        let orders = Arc::new(Orders::default());
        let (done, left) = mpsc::sync_channel(1);
        let mut state = drain(std::os::fd::OwnedFd::from(pipe).into(), consumers, PathBuf::new());
        state.orders = Arc::clone(&orders);
        let thread = thread::spawn(move || state.run(&[], &done));
        let start = Instant::now();
        let stopped = Writer { orders, thread, left }.stop_within(Duration::from_millis(50));
        assert_eq!(stopped, Stopped::Stuck);
        assert!(start.elapsed() < STOP_MAX);
        drop(reader); // frees the thread
    }

    #[test]
    fn a_failed_target_keeps_lines_in_the_ring_and_counts_what_is_lost_at_the_end() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let (mut producers, consumers) = rings(2, 4096);
        let mut state = drain(std::os::fd::OwnedFd::from(pipe).into(), consumers, PathBuf::new());
        let stats = Arc::clone(&state.stats);
        producers.iter_mut().for_each(|p| assert!(p.push(b"one\n") && p.push(b"two\n")));
        assert!(matches!(state.pass(), Pass::Failed));
        assert!(state.failing.is_some());
        assert_eq!(state.rings.iter().map(Consumer::len).sum::<usize>(), 16, "nothing is thrown away");
        assert_eq!(state.finish(), 4);
        assert_eq!((stats.lines_lost.get(), stats.errors.get(), stats.bytes_written.get()), (4, 2, 0));
    }

    #[test]
    fn the_second_half_of_a_torn_line_never_begins_a_new_file() {
        let folder = Folder::new("torn");
        let (reader, pipe) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let (mut producers, consumers) = rings(2, 1 << 20);
        // A line longer than the pipe's room is cut in the middle.
        assert!(producers[1].push(&[&[b'x'; 100 << 10][..], b"\n"].concat()));
        assert!(producers[1].push(b"next\n") && producers[0].push(b""));
        let mut state = drain(std::os::fd::OwnedFd::from(pipe).into(), consumers, folder.file());
        assert!(matches!(state.pass(), Pass::Full));
        assert!(state.torn && state.first == 1);
        assert!(producers[0].push(b"other\n"));
        state.reopen();
        assert!(matches!(state.pass(), Pass::Done));
        assert_eq!(std::fs::read(folder.file()).unwrap(), b"next\nother\n");
        drop(reader);
    }

    #[test]
    fn sleeps_follow_the_load() {
        assert_eq!(next_sleep(SLEEP_MAX, 0), SLEEP_MAX);
        assert_eq!(next_sleep(SLEEP_MAX, 25), SLEEP_MAX);
        assert_eq!(next_sleep(SLEEP_MAX, 50), SLEEP_MAX / 2);
        assert_eq!(next_sleep(SLEEP_MIN, 100), SLEEP_MIN);
        assert_eq!(next_sleep(SLEEP_MIN, 1), SLEEP_MAX);
    }

    #[test]
    fn a_target_that_can_not_be_opened_is_named() {
        let e = Writer::start(options("/nonexistent/access.log".into()), vec![], Arc::default()).unwrap_err();
        assert!(e.to_string().contains("/nonexistent/access.log"), "{e}");
    }
}
