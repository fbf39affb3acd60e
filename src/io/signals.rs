//! Signals that are left to nobody.
#![allow(unsafe_code)] // ignoring a signal has no safe wrapper here

/// A write beyond the limit of a file's size (`ulimit -f`, LimitFSIZE=) fails, and does not end the process: the log may not
/// be written then, and everything else goes on.
pub fn let_long_files_fail() {
    // SAFETY: SIG_IGN is no handler, so that none of ours runs at any moment; the call fails for no reason but a wrong number.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
