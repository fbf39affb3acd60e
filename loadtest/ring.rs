//! What the relay and the origin share: a ring, a listening socket, and completions that carry their owner.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, squeue};

/// Entries of the submission queue: what a ringway worker has.
const ENTRIES: u32 = 4096;
/// Connections the kernel may hold for us before we accept them.
const BACKLOG: libc::c_int = 4096;

/// A ring with the three flags that a ringway worker uses. To be made by the thread that drives it.
///
/// # Errors
/// The kernel is older than 6.1, or refuses io_uring (`kernel.io_uring_disabled`, a seccomp profile).
pub(crate) fn ring() -> io::Result<IoUring> {
    let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun().build(ENTRIES);
    ring.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("io_uring is not available ({e}); try Linux 6.1 or newer and sysctl -w kernel.io_uring_disabled=0"),
        )
    })
}

/// Queues one entry, and hands the queue to the kernel first where it is full.
///
/// # Errors
/// What `io_uring_enter` says.
///
/// # Safety
/// What the entry points at must stay valid until its (last) completion was seen.
#[allow(unsafe_code)]
pub(crate) unsafe fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: passed on to the caller.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit()?;
    }
    Ok(())
}

/// Submits what is queued, waits for one completion and moves all that are there into `done`: one system call per turn.
///
/// # Errors
/// What `io_uring_enter` says, except for interruptions.
pub(crate) fn turn(ring: &mut IoUring, done: &mut Vec<cqueue::Entry>) -> io::Result<()> {
    match ring.submit_and_wait(1) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted && e.raw_os_error() != Some(libc::EBUSY) => return Err(e),
        _ => done.extend(ring.completion()),
    }
    Ok(())
}

/// The user data of an operation: whose it is, and which of its operations.
pub(crate) fn tag(owner: usize, op: u8) -> u64 {
    (owner as u64) << 8 | u64::from(op)
}

/// The owner and the operation that [`tag`] packed.
pub(crate) fn untag(user_data: u64) -> (usize, u8) {
    ((user_data >> 8) as usize, user_data as u8)
}

/// A listening TCP socket with SO_REUSEPORT; accepted connections inherit its TCP_NODELAY.
///
/// # Errors
/// What `socket`, `setsockopt`, `bind` and `listen` say.
#[allow(unsafe_code)]
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let SocketAddr::V4(v4) = address else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only IPv4 addresses, such as 127.0.0.1:9000"));
    };
    // SAFETY: plain system calls; the name is a complete sockaddr_in that outlives the call, the fd is owned at once.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(fd);
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        ] {
            set_on(fd, level, name)?;
        }
        let name = sockaddr(v4);
        check(libc::bind(fd, (&raw const name).cast(), size_of::<libc::sockaddr_in>() as u32))?;
        check(libc::listen(fd, BACKLOG))?;
        Ok(TcpListener::from_raw_fd(socket.into_raw_fd()))
    }
}

/// `address` as the kernel wants it.
pub(crate) fn sockaddr(address: std::net::SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// Sets a boolean socket option.
///
/// # Errors
/// What `setsockopt` says.
#[allow(unsafe_code)]
pub(crate) fn set_on(fd: RawFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is a live c_int of the size that is passed.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), size_of::<libc::c_int>() as u32) })?;
    Ok(())
}

/// Wakes whatever waits on `fd` (with 0 or an error) and says FIN to the other side; the fd stays ours to close.
#[allow(unsafe_code)]
pub(crate) fn shut(fd: RawFd) {
    // SAFETY: a system call on an integer; on a socket that is gone it fails, which is fine.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Closes `fd`, which no operation uses any more.
#[allow(unsafe_code)]
pub(crate) fn close(fd: RawFd) {
    // SAFETY: the caller owns the fd and forgets it.
    unsafe { libc::close(fd) };
}

/// Lifts the soft limit of open files to the hard one, so that 10,000 connections fit.
#[allow(unsafe_code)]
pub(crate) fn raise_fd_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit; a failure leaves the limit as it was, and accept will say so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// The result of a system call, as Rust says it.
///
/// # Errors
/// errno, where the call returned -1.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
