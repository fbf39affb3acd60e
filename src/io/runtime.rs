//! One runtime per worker: io_uring with the three flags where the kernel has them, epoll where io_uring is refused.
#![allow(unsafe_code)] // pushing onto a submission queue is unsafe: entries may point to memory

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Submission queue entries, best first. More are charged to the user's locked memory and showed no gain that could be
/// measured; a round that begins more operations costs one more submit.
const ENTRIES: [u32; 2] = [1024, 256];
const PROBE_ENTRIES: u32 = 8;

thread_local! {
    static EPOLL: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's runtime runs on epoll.
pub fn is_epoll() -> bool {
    EPOLL.get()
}

/// What a worker's runtime runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, with the flags this kernel accepted.
    IoUring(Flags),
    /// epoll, with the reason why not io_uring.
    Epoll(String),
}

/// Set-up flags of io_uring; all three are worth 20–25 % of a request's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// SINGLE_ISSUER | COOP_TASKRUN | DEFER_TASKRUN (Linux 6.1).
    All,
    /// COOP_TASKRUN (Linux 5.19).
    Coop,
    /// None of them.
    None,
}

impl Flags {
    const BEST_FIRST: [Self; 3] = [Self::All, Self::Coop, Self::None];

    fn builder(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        match self {
            Self::All => {
                builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
            }
            Self::Coop => {
                builder.setup_coop_taskrun();
            }
            Self::None => {}
        }
        builder
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUring(Flags::All) => f.write_str("io_uring (SINGLE_ISSUER, COOP_TASKRUN, DEFER_TASKRUN)"),
            Self::IoUring(Flags::Coop) => f.write_str("io_uring (COOP_TASKRUN)"),
            Self::IoUring(Flags::None) => f.write_str("io_uring"),
            Self::Epoll(_) => f.write_str("epoll"),
        }
    }
}

/// Finds the best driver by trying: a small ring is set up, one operation goes through it, and it is thrown away.
/// monoio's own detection ignores the flags, so it is not asked. `MONOIO_FORCE_LEGACY_DRIVER=1` forces epoll, as it does
/// in monoio.
fn probe() -> Driver {
    if is_epoll_forced() {
        return Driver::Epoll("MONOIO_FORCE_LEGACY_DRIVER is set; unset it for io_uring".to_owned());
    }
    let mut refused = None;
    for flags in Flags::BEST_FIRST {
        match try_ring(flags) {
            Ok(()) => return Driver::IoUring(flags),
            Err(e) => refused = Some(e),
        }
    }
    Driver::Epoll(refused.map_or_else(String::new, |e| explain(&e)))
}

/// What of io_uring works on this machine, for who wants to know without serving: each set of flags, best first, by its
/// own name, with what refused it and the remedy.
pub fn survey() -> Vec<(String, Result<(), String>)> {
    raise_locked_memory();
    let tried = |flags| (Driver::IoUring(flags).to_string(), try_ring(flags).map_err(|e| explain(&e)));
    Flags::BEST_FIRST.into_iter().map(tried).collect()
}

/// Whether rings as large as the workers' can be had, so many at a time: with how many entries, or what helps.
///
/// # Errors
/// Not even the smallest ones can.
pub fn survey_rings(workers: usize) -> Result<u32, String> {
    let mut refused = String::new();
    for entries in ENTRIES {
        let rings = (0..workers).map(|_| Flags::None.builder().build(entries)).collect::<io::Result<Vec<_>>>();
        match rings {
            Ok(_) => return Ok(entries),
            Err(e) => refused = explain(&e),
        }
    }
    Err(refused)
}

/// Whether the environment forces epoll.
pub fn is_epoll_forced() -> bool {
    std::env::var_os("MONOIO_FORCE_LEGACY_DRIVER").is_some_and(|v| v == "1" || v == "true")
}

/// A seccomp profile may allow the set-up and refuse the use: only an operation that completes proves anything.
fn try_ring(flags: Flags) -> io::Result<()> {
    let mut ring = flags.builder().build(PROBE_ENTRIES)?;
    // SAFETY: a no-op refers to no memory.
    unsafe { ring.submission().push(&io_uring::opcode::Nop::new().build()) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    Ok(())
}

fn explain(e: &io::Error) -> String {
    let remedy = match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            true => "try `sysctl -w kernel.io_uring_disabled=0`",
            false => "a seccomp profile forbids it; allow io_uring_setup, io_uring_enter and io_uring_register",
        },
        Some(libc::ENOSYS) => {
            "a seccomp profile forbids it, or this kernel was built without it; allow io_uring_setup, io_uring_enter and \
             io_uring_register, or use Linux 5.19 or later, 6.1 for full speed"
        }
        Some(libc::ENOMEM) => "raise the locked-memory limit (`ulimit -l`, LimitMEMLOCK=)",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (`ulimit -n`, LimitNOFILE=)",
        _ => "see `dmesg`",
    };
    format!("io_uring_setup: {e}; {remedy}")
}

fn disabled_by_sysctl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|v| v.trim() != "0")
}

/// Builds this thread's runtime on the best driver there is, and runs the future that `make` gives for it to its end.
///
/// # Errors
/// Not even epoll can be set up.
pub fn run<F: Future>(make: impl FnOnce(Driver) -> F) -> io::Result<F::Output> {
    raise_locked_memory();
    let mut driver = probe();
    if let Driver::IoUring(flags) = driver {
        // The kernel charges a ring to the user's locked memory (about 0.15 MB at 1024 entries): a smaller one is slower
        // only where more operations begin in one round than it has entries.
        let mut refused = None;
        for entries in ENTRIES {
            let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).uring_builder(flags.builder());
            match builder.enable_timer().build() {
                Ok(mut runtime) => {
                    EPOLL.set(false);
                    return Ok(runtime.block_on(make(driver)));
                }
                Err(e) => refused = Some(e),
            }
        }
        driver = Driver::Epoll(refused.map_or_else(String::new, |e| explain(&e)));
    }
    EPOLL.set(true);
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
    Ok(runtime.block_on(make(driver)))
}

/// Rings are charged to RLIMIT_MEMLOCK on kernels that still do so; the hard limit is what the operator allows.
fn raise_locked_memory() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum }); // then the soft one stays
}

/// Binds this thread to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Runs `future` on whatever driver this machine has.
#[cfg(test)]
pub(crate) fn block_on_for_tests<F: Future>(future: F) -> F::Output {
    run(|_| future).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_remedy() {
        for (errno, word) in [(libc::EPERM, "allow"), (libc::ENOSYS, "kernel"), (libc::ENOMEM, "ulimit -l")] {
            let text = explain(&io::Error::from_raw_os_error(errno));
            assert!(text.contains(word) || text.contains("sysctl"), "{text}");
        }
    }
}
