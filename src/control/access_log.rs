//! The access log's writer thread: takes whole lines out of the cores' rings and writes them out in large pieces.
//!
//! It polls. A core must never pay for a wake-up call, and one pass every few ms that finds hundreds of lines costs
//! far less per line than a wake-up for each. Bytes go from the ring to the kernel without a copy in between, and stay
//! in the ring until they are written: a target that fails for a while loses nothing that the rings have room for.
//!
//! Whatever becomes of the target, only this thread notices: a full disk, a directory that is gone, a pipe without a reader.
//! It is told once, tried again, and told again when it is over.
//!
//! It never waits in a write, where it could not tell: a pipe, socket or terminal that it was given is asked first whether it takes
//! something, and gets no more at a time than a pipe takes whole.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use super::cpus;
use super::report::report;
use super::turn::{STANDARD_ERROR, Turn};
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
/// One write to a stream that was inherited, `PIPE_BUF` of Linux: one that has room takes as much without waiting, and in one piece.
const PIECE_BYTES_MAX: usize = 4096;
/// How long `stop` waits for a target that does not take what it is given.
pub const STOP_MAX: Duration = Duration::from_secs(2);
/// How long the thread tries by then: it still says what is lost.
const FINISH_MAX: Duration = Duration::from_millis(1900);

/// How often it is looked whether the file is still there, and a file that could not be opened is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A target that takes nothing for this long is told: a reader that is only slow takes something.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The same failure is told again after this: on a disk that is about full it comes and goes.
const TELL_AGAIN: Duration = Duration::from_secs(60);

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
        let drain = Drain::new(out, target, rings, stats, Arc::clone(&orders));
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
        Target::File(path) => open_file(path),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // Nothing is ever waited for: a named pipe would have the open wait for a reader, and a write for room.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    if std::fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo()) {
        // Whoever can also read it keeps it alive while its reader is away: what it holds by then is not lost.
        let both = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        return both.or_else(|_| OpenOptions::new().write(true).custom_flags(flags).open(path));
    }
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)
}

fn cannot_open(target: &Target, e: &io::Error) -> io::Error {
    let remedy = match (target, e.kind()) {
        (Target::File(_), ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory) => {
            "; the directory must exist and be writable for the gateway's user"
        }
        _ if matches!(Errno::from_io_error(e), Some(Errno::NXIO)) => "; nobody reads this pipe or socket",
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

/// Whether two descriptors are of one file, pipe or socket.
fn is_same(a: impl AsFd, b: impl AsFd) -> bool {
    matches!((fstat(a), fstat(b)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Whether a stream takes something, now or soon.
fn takes_some(out: &File) -> io::Result<bool> {
    let wait_max = Timespec { tv_sec: 0, tv_nsec: SLEEP_MAX.subsec_nanos().into() };
    Ok(poll(&mut [PollFd::new(out, PollFlags::OUT)], Some(&wait_max))? > 0)
}

/// Whether a file ends within a line: of a process that ended, or was killed, while its disk was full.
fn ends_in_half_a_line(target: &Target) -> bool {
    let Target::File(path) = target else { return false };
    let Ok(about) = std::fs::metadata(path) else { return false };
    let (Some(last), true) = (about.len().checked_sub(1), about.is_file()) else { return false };
    let mut byte = [b'\n'];
    // One that may be written and not read is taken as whole.
    File::open(path).is_ok_and(|file| file.read_exact_at(&mut byte, last).is_ok() && byte != [b'\n'])
}

/// What two slices hold, without the line at the end that is not whole, unless that is all.
fn whole_lines<'a>(a: &'a [u8], b: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match (memchr::memrchr(b'\n', a), memchr::memrchr(b'\n', b)) {
        (_, Some(end)) => (a, b.get(..=end).unwrap_or(b)),
        (Some(end), None) => (a.get(..=end).unwrap_or(a), &[]),
        (None, None) => (a, b),
    }
}

/// The thread's state.
struct Drain {
    out: File,
    target: Target,
    /// It is a stream that was inherited, which may block.
    in_pieces: bool,
    /// Standard error is the same stream.
    turn: Option<&'static Turn>,
    has_turn: bool,
    /// What was there before ends within a line.
    behind_half_a_line: bool,
    rings: Vec<Consumer>,
    /// The ring to begin a pass with: the one in which the last write failed.
    first: usize,
    /// The last byte written was not the end of a line; the rest of that line is next in ring `first`.
    torn: bool,
    stats: Arc<LogBlock>,
    orders: Arc<Orders>,
    /// What goes wrong now, by its errno, and whether that was told.
    failing: Option<(Option<i32>, bool)>,
    /// What was told last, and when.
    told: Option<(Option<i32>, Instant)>,
    /// Since when a full target has taken nothing.
    full_since: Option<Instant>,
    /// The file could not be opened anew: the old one is in use.
    is_stale: bool,
    look_at: Instant,
}

/// How a pass over the rings ended.
enum Pass {
    /// All that was in the rings at its start is written.
    Done,
    /// The target is full.
    Full,
    /// The target failed, which was reported.
    Failed,
}

impl Drain {
    fn new(out: File, target: Target, rings: Vec<Consumer>, stats: Arc<LogBlock>, orders: Arc<Orders>) -> Self {
        let look_at = Instant::now() + LOOK_EVERY;
        let mut drain = Self {
            out,
            target,
            in_pieces: false,
            turn: None,
            has_turn: false,
            behind_half_a_line: false,
            rings,
            first: 0,
            torn: false,
            stats,
            orders,
            failing: None,
            told: None,
            full_since: None,
            is_stale: false,
            look_at,
        };
        drain.look_at_out();
        drain
    }

    /// Finds out what was opened.
    fn look_at_out(&mut self) {
        let is_inherited = !matches!(self.target, Target::File(_));
        self.in_pieces = is_inherited && self.out.metadata().is_ok_and(|about| !about.is_file());
        self.turn = is_same(&self.out, io::stderr()).then_some(&STANDARD_ERROR);
        self.behind_half_a_line = ends_in_half_a_line(&self.target);
    }

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
            } else if Instant::now() >= self.look_at {
                self.look();
            }
            sleep = next_sleep(sleep, self.rings.iter().map(fill_percent).max().unwrap_or(0));
            let before = self.stats.bytes_written.get();
            match self.pass() {
                Pass::Full => self.full(before),
                Pass::Done | Pass::Failed => self.full_since = None,
            }
            thread::park_timeout(sleep);
        }
    }

    /// The last pass. Returns how many lines are lost.
    fn finish(mut self) -> u64 {
        let until = Instant::now() + FINISH_MAX;
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
                        // Nothing is wrong, it is only full.
                        if e.kind() == ErrorKind::WouldBlock {
                            return Pass::Full;
                        }
                        self.failed(&e);
                        return Pass::Failed;
                    }
                }
            }
        }
        self.recovered();
        Pass::Done
    }

    /// One write of at most `due` bytes of a ring; what was written is taken off the ring.
    fn write(&mut self, ring: usize, due: usize) -> io::Result<usize> {
        // Whoever has the turn instead waits for room as well, or is done in no time.
        if !self.take_turn() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = self.write_in_turn(ring, due);
        if !self.torn {
            self.give_turn_back();
        }
        result
    }

    fn take_turn(&mut self) -> bool {
        self.has_turn = self.has_turn || self.turn.is_none_or(Turn::try_take);
        self.has_turn
    }

    fn give_turn_back(&mut self) {
        if std::mem::take(&mut self.has_turn)
            && let Some(turn) = self.turn
        {
            turn.give_back();
        }
    }

    fn write_in_turn(&mut self, ring: usize, due: usize) -> io::Result<usize> {
        if self.in_pieces && !takes_some(&self.out)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.behind_half_a_line {
            self.out.write_all(b"\n")?;
            self.behind_half_a_line = false;
            self.stats.bytes_written.add(1);
        }
        let Some(ring) = self.rings.get_mut(ring) else { return Ok(due) };
        let (out, torn, in_pieces, mut result) = (&mut self.out, &mut self.torn, self.in_pieces, Ok(0));
        let bytes_max = if in_pieces { PIECE_BYTES_MAX } else { WRITE_BYTES_MAX };
        ring.consume(due.min(bytes_max), |a, b| {
            let (a, b) = if in_pieces { whole_lines(a, b) } else { (a, b) };
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

    fn failed(&mut self, e: &io::Error) {
        self.stats.errors.add(1);
        self.tell(e.raw_os_error(), format_args!("can not be written to {}: {e}", self.target.clone()));
    }

    /// The target is full; `before` is what was written to it before this pass.
    fn full(&mut self, before: u64) {
        let now = Instant::now();
        if self.stats.bytes_written.get() != before {
            self.full_since = None;
        }
        let since = *self.full_since.get_or_insert(now);
        if now.duration_since(since) >= STUCK_AFTER {
            let what = format_args!("waits for {}, which takes nothing", self.target.clone());
            self.tell(Some(Errno::AGAIN.raw_os_error()), what);
        }
    }

    /// Says so once for each kind of failure, not each 20 ms.
    fn tell(&mut self, errno: Option<i32>, what: std::fmt::Arguments<'_>) {
        if self.failing.is_some_and(|(known, _)| known == errno) {
            return;
        }
        let now = Instant::now();
        let is_known = self.told.is_some_and(|(told, at)| told == errno && now.duration_since(at) < TELL_AGAIN);
        self.failing = Some((errno, !is_known));
        if !is_known {
            self.told = Some((errno, now));
            report(format_args!(
                "the access log {what}; lines wait in memory, and are dropped and counted in \
                 ringway_log_lines_dropped_total once that is full"
            ));
        }
    }

    fn recovered(&mut self) {
        if let Some((_, true)) = self.failing.take() {
            report(format_args!("the access log is written to {} again", self.target));
        }
    }

    /// Whether nobody can read what is written: the file has no name any more. One that was renamed still has.
    fn is_removed(&self) -> bool {
        matches!(self.target, Target::File(_))
            && self.out.metadata().is_ok_and(|about| about.is_file() && about.nlink() == 0)
    }

    fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        if self.is_stale || self.is_removed() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match open(&self.target) {
            Ok(file) => {
                // The rest of a line belongs to its first half: where nothing was rotated that is where it was.
                if !is_same(&file, &self.out) {
                    self.end_torn_line();
                    self.out = file;
                    self.look_at_out();
                }
                if std::mem::replace(&mut self.is_stale, false) {
                    report(format_args!("the access log {} is open", self.target));
                }
            }
            Err(e) => {
                self.stats.errors.add(1);
                if !std::mem::replace(&mut self.is_stale, true) {
                    let what = cannot_open(&self.target, &e);
                    report(format_args!("{what}; the old file stays in use, and it is tried again every second"));
                }
            }
        }
    }

    /// The file that is left gets the rest of its last line, or that line is lost: the next file does not begin with half a line.
    fn end_torn_line(&mut self) {
        let Some(ring) = self.rings.get_mut(self.first).filter(|_| self.torn) else { return };
        let (out, mut written, mut rest) = (&mut self.out, 0, 0);
        ring.consume(usize::MAX, |a, b| {
            rest = match (memchr::memchr(b'\n', a), memchr::memchr(b'\n', b)) {
                (Some(end), _) => end + 1,
                (None, Some(end)) => a.len() + end + 1,
                (None, None) => 0,
            };
            let (a, b) = (a.get(..rest).unwrap_or(a), b.get(..rest.saturating_sub(a.len())).unwrap_or_default());
            written = out.write_vectored(&[IoSlice::new(a), IoSlice::new(b)]).unwrap_or(0);
            rest
        });
        self.torn = false;
        self.give_turn_back();
        self.stats.bytes_written.add(written as u64);
        self.stats.lines_lost.add(u64::from(written < rest));
    }
}

/// Also when the thread ends in a panic: who says so would wait for it.
impl Drop for Drain {
    fn drop(&mut self) {
        self.give_turn_back();
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
        Drain::new(out, Target::File(path), consumers, Arc::default(), Arc::default())
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
        assert_eq!(state.stats.lines_lost.get(), 1);
        drop(reader);
    }

    #[test]
    fn a_file_that_is_rotated_away_gets_the_rest_of_its_last_line_and_one_that_is_not_goes_on_with_it() {
        let folder = Folder::new("rest");
        let rotated = folder.0.join("access.log.1");
        let (mut producers, consumers) = rings(1, 4096);
        let mut state = drain(open_file(&folder.file()).unwrap(), consumers, folder.file());
        assert!(producers[0].push(b"first\n") && producers[0].push(b"second\n") && producers[0].push(b"third\n"));
        assert_eq!(state.write(0, 3).unwrap(), 3, "as much as the disk had room for");
        state.reopen();
        assert_eq!(state.write(0, 6).unwrap(), 6);
        assert!(state.torn);
        std::fs::rename(folder.file(), &rotated).unwrap();
        state.reopen();
        assert!(matches!(state.pass(), Pass::Done));
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "first\nsecond\n");
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), "third\n");
        assert_eq!((state.stats.lines_lost.get(), state.stats.bytes_written.get()), (0, 19));
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_gone_on_with_on_the_next() {
        let folder = Folder::new("half");
        let (mut producers, consumers) = rings(1, 4096);
        std::fs::write(folder.file(), "half a l").unwrap();
        let mut state = drain(open_file(&folder.file()).unwrap(), consumers, folder.file());
        assert!(matches!(state.pass(), Pass::Done));
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), "half a l", "nothing to write yet");
        assert!(producers[0].push(b"one\n") && matches!(state.pass(), Pass::Done));
        assert!(producers[0].push(b"two\n") && matches!(state.pass(), Pass::Done));
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), "half a l\none\ntwo\n");
    }

    #[test]
    fn a_stream_that_blocks_is_not_waited_for_and_gets_whole_lines_at_a_time() {
        let (reader, pipe) = io::pipe().unwrap();
        let (mut producers, consumers) = rings(1, 1 << 20);
        let lines = (0..500).map(|n| format!("{n} {}\n", "x".repeat(n))).collect::<Vec<_>>();
        lines.iter().for_each(|line| assert!(producers[0].push(line.as_bytes())));
        let file = std::os::fd::OwnedFd::from(pipe).into();
        let mut state = Drain::new(file, Target::Stdout, consumers, Arc::default(), Arc::default());
        assert!(matches!(state.pass(), Pass::Full));
        assert!(!state.torn);
        let text = thread::spawn(move || io::read_to_string(reader).unwrap());
        eventually_done(&mut state);
        drop(state);
        assert_eq!(text.join().unwrap(), lines.concat());
    }

    fn eventually_done(state: &mut Drain) {
        let until = Instant::now() + Duration::from_secs(5);
        while !matches!(state.pass(), Pass::Done) {
            assert!(Instant::now() < until, "the reader takes nothing");
        }
    }

    #[test]
    fn what_is_said_on_the_same_stream_waits_for_the_end_of_the_line() {
        let turn: &'static Turn = Box::leak(Box::new(Turn::new()));
        let (reader, pipe) = io::pipe().unwrap();
        let other: File = pipe.try_clone().map(|pipe| std::os::fd::OwnedFd::from(pipe).into()).unwrap();
        let (mut producers, consumers) = rings(1, 1 << 20);
        let long = "x".repeat(100 << 10);
        assert!(producers[0].push(format!("{long}\n").as_bytes()));
        let file = std::os::fd::OwnedFd::from(pipe).into();
        let mut state = Drain::new(file, Target::Stdout, consumers, Arc::default(), Arc::default());
        state.turn = Some(turn);
        assert!(matches!(state.pass(), Pass::Full));
        assert!(state.torn && state.has_turn);
        let says = thread::spawn(move || {
            turn.take();
            (&other).write_all(b"said\n").unwrap();
            turn.give_back();
        });
        eventually(|| turn.is_wanted());
        let text = thread::spawn(move || io::read_to_string(reader).unwrap());
        eventually_done(&mut state);
        assert!(!state.has_turn);
        says.join().unwrap();
        assert!(producers[0].push(b"next\n"));
        eventually_done(&mut state);
        drop(state);
        assert_eq!(text.join().unwrap(), format!("{long}\nsaid\nnext\n"));
    }

    #[test]
    fn a_failure_is_told_once_and_neither_is_one_that_comes_and_goes() {
        let (reader, pipe) = io::pipe().unwrap();
        let mut state = drain(std::os::fd::OwnedFd::from(pipe).into(), vec![], PathBuf::new());
        let full = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        state.failed(&full);
        let told = state.told.unwrap();
        state.failed(&full);
        assert!(matches!(state.pass(), Pass::Done) && state.failing.is_none());
        state.failed(&full);
        assert_eq!((state.told, state.failing), (Some(told), Some((told.0, false))));
        state.failed(&io::Error::from_raw_os_error(Errno::IO.raw_os_error()));
        assert_ne!(state.told, Some(told), "another failure is news");
        drop(reader);
    }

    #[test]
    fn a_named_pipe_is_neither_waited_for_nor_lost_with_its_reader() {
        use std::io::Read;
        let folder = Folder::new("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, folder.file(), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let (mut producers, consumers) = rings(1, 1 << 20);
        let writer = Writer::start(options(folder.file()), consumers, Arc::default()).unwrap();
        assert!(producers[0].push(b"before\n"));
        let mut text = [0; 7];
        File::open(folder.file()).unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"before\n");
        assert!(producers[0].push(b"after!\n"));
        File::open(folder.file()).unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"after!\n");
        assert_eq!(writer.stop(), Stopped::Flushed);
    }

    #[test]
    fn a_file_that_was_removed_is_made_anew_and_a_directory_that_is_gone_is_waited_for() {
        let folder = Folder::new("removed");
        let inner = folder.0.join("inner");
        std::fs::create_dir(&inner).unwrap();
        let file = inner.join("access.log");
        let (mut producers, consumers) = rings(1, 1 << 20);
        let mut state = drain(open_file(&file).unwrap(), consumers, file.clone());
        state.look();
        std::fs::remove_dir_all(&inner).unwrap();
        state.look();
        assert!(state.is_stale && state.stats.errors.get() == 1);
        state.look();
        std::fs::create_dir(&inner).unwrap();
        state.look();
        assert!(!state.is_stale && state.stats.errors.get() == 2);
        assert!(producers[0].push(b"line\n") && matches!(state.pass(), Pass::Done));
        assert_eq!(std::fs::read(&file).unwrap(), b"line\n");
        std::fs::remove_file(&file).unwrap();
        state.look();
        assert!(producers[0].push(b"next\n") && matches!(state.pass(), Pass::Done));
        assert_eq!(std::fs::read(&file).unwrap(), b"next\n");
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
