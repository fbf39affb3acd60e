//! Listening sockets: one per worker on the same address (SO_REUSEPORT), one accept at a time that is never dropped.
#![allow(unsafe_code)] // a packet filter for the drain has no safe wrapper, nor has borrowing monoio's descriptor

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream as StdTcp};
use std::os::fd::{AsRawFd, OwnedFd};

use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::runtime;
use super::stream::{Stream, TcpIo};

/// Connections the kernel queues for one worker before it accepts them; `net.core.somaxconn` caps it (4096 on Linux).
const BACKLOG: i32 = 4096;

/// Waiting connections closed in one go while descriptors are out.
const SHED_MAX: usize = 64;

/// A bound socket that is not yet on a core: control binds all of them before a worker starts, so that an address in
/// use is one clear error.
pub struct Bound {
    fd: OwnedFd,
    /// The address it is bound to, with the port the kernel chose if 0 was asked for.
    pub address: SocketAddr,
}

/// Binds `address` once per worker: the kernel spreads connections over them.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<Bound>> {
    let mut bound: Vec<Bound> = Vec::with_capacity(workers);
    let mut address = address;
    for _ in 0..workers {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        sockopt::set_tcp_nodelay(&fd, true)?; // accepted sockets inherit it
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, BACKLOG)?;
        let name = rustix::net::getsockname(&fd)?;
        address = SocketAddr::try_from(name).map_err(io::Error::from)?;
        bound.push(Bound { fd, address });
    }
    Ok(bound)
}

/// Why no further connection comes.
pub enum AcceptError {
    /// [`Listener::stop`] was called.
    Stopped,
    /// The client closed its connection before it was accepted; the next is waiting already.
    Aborted,
    /// Any other error: wait before the next try, or the core does nothing but fail.
    Failed {
        /// No descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM).
        exhausted: bool,
    },
}

/// A worker's listening socket.
pub struct Listener {
    inner: TcpListener,
    canceller: Cell<Option<Canceller>>,
    stopped: Cell<bool>,
    reserve: Cell<Option<OwnedFd>>,
}

impl Listener {
    /// Takes a bound socket onto this core.
    pub fn new(bound: Bound) -> io::Result<Self> {
        let std = std::net::TcpListener::from(bound.fd);
        // io_uring wants a blocking descriptor, epoll a non-blocking one (a blocking one there freezes the core).
        std.set_nonblocking(runtime::is_epoll())?;
        Ok(Self {
            inner: TcpListener::from_std(std)?,
            canceller: Cell::new(None),
            stopped: Cell::new(false),
            reserve: Cell::new(reserve_fd()),
        })
    }

    /// The next connection. One task only may call it, and must never drop the future: a dropped accept that had
    /// completed leaks its descriptor. [`Listener::stop`] ends it.
    pub async fn accept(&self) -> Result<(Stream, SocketAddr), AcceptError> {
        if self.stopped.get() {
            return Err(AcceptError::Stopped);
        }
        let canceller = Canceller::new();
        let handle = canceller.handle();
        self.canceller.set(Some(canceller));
        let accepted = self.inner.cancelable_accept(handle).await;
        match accepted {
            Ok((tcp, address)) => Ok((Stream::Tcp(TcpIo::new(tcp)), address)),
            Err(_) if self.stopped.get() => Err(AcceptError::Stopped),
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => Err(AcceptError::Aborted),
            Err(e) => Err(AcceptError::Failed { exhausted: is_exhausted(&e) }),
        }
    }

    /// Uses the reserve descriptor to accept waiting connections and close them, so that clients see a close instead of a
    /// hang while descriptors are out. Call after an exhausted [`AcceptError::Failed`].
    pub fn shed(&self) {
        for _ in 0..SHED_MAX {
            let reserve = self.reserve.take().or_else(reserve_fd);
            let Some(reserve) = reserve else { return }; // others took the last descriptor: the next pause gives another try
            drop(reserve);
            // Closed here and now: a monoio stream would close it at the next turn, too late for the new reserve.
            let is_empty = accept_fd(self.inner_fd()).is_none();
            self.reserve.set(reserve_fd());
            if is_empty {
                return;
            }
        }
    }

    /// The kernel drops new SYNs from now on, while handshakes that have begun complete and can be accepted: nothing is
    /// in the queue, or on its way to it, when the socket is closed a little later. A client that is dropped here tries
    /// again within a second and is refused, or reaches whoever listens there next; it is never reset.
    pub fn refuse_new(&self) -> io::Result<()> {
        let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let (load_byte, jump_if_set, ret) =
            (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, libc::BPF_RET);
        // The filter sees the TCP header: its byte 13 holds the flags, bit 1 of it SYN.
        let mut program = [
            instruction(load_byte, 0, 0, 13),
            instruction(jump_if_set, 0, 1, 0x02),
            instruction(ret | libc::BPF_K, 0, 0, 0),
            instruction(ret | libc::BPF_K, 0, 0, u32::MAX),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: the kernel copies the program during the call; descriptor and program live longer than that.
        let done = unsafe {
            let fd = self.inner.as_raw_fd();
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Ends the pending accept, and all later ones.
    pub fn stop(&self) {
        self.stopped.set(true);
        if let Some(canceller) = self.canceller.take() {
            drop(canceller.cancel());
        }
    }

    /// After [`Listener::stop`]: the connections that the kernel had already queued. Serve them, then drop the
    /// listener: closing one of several SO_REUSEPORT sockets resets what is still in its queue.
    pub fn drain_queue(&self) -> Vec<(Stream, SocketAddr)> {
        let mut queued = Vec::new();
        while let Some(next) = accept_now(self.inner_fd()) {
            queued.extend(next);
        }
        queued
    }

    fn inner_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the listener owns the descriptor and outlives the borrow.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}

/// One queued connection without waiting: `None` when the queue is empty, `Some(None)` for one that failed.
fn accept_now(listener: std::os::fd::BorrowedFd<'_>) -> Option<Option<(Stream, SocketAddr)>> {
    accept_fd(listener).map(|accepted| accepted.and_then(|(fd, address)| adopt(fd, address)))
}

/// A descriptor just accepted, not yet on the core's driver, and whose it is.
type Accepted = (OwnedFd, Option<rustix::net::SocketAddrAny>);

fn accept_fd(listener: std::os::fd::BorrowedFd<'_>) -> Option<Option<Accepted>> {
    // The listener itself may be a blocking descriptor (io_uring): make it non-blocking for the look.
    let flags = rustix::fs::fcntl_getfl(listener).ok()?;
    rustix::fs::fcntl_setfl(listener, flags | rustix::fs::OFlags::NONBLOCK).ok()?;
    let accepted = rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC);
    let _ = rustix::fs::fcntl_setfl(listener, flags);
    match accepted {
        Ok(accepted) => Some(Some(accepted)),
        Err(rustix::io::Errno::AGAIN) => None,
        Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => Some(None),
        Err(_) => None,
    }
}

fn adopt(fd: OwnedFd, address: Option<rustix::net::SocketAddrAny>) -> Option<(Stream, SocketAddr)> {
    let address = SocketAddr::try_from(address?).ok()?;
    let std = StdTcp::from(fd);
    std.set_nonblocking(runtime::is_epoll()).ok()?;
    let tcp = TcpStream::from_std(std).ok()?;
    Some((Stream::Tcp(TcpIo::new(tcp)), address))
}

fn reserve_fd() -> Option<OwnedFd> {
    // Not cloned: that would take a second descriptor, when one is all there is.
    File::open("/dev/null").ok().map(OwnedFd::from)
}

fn is_exhausted(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::rc::Rc;

    use super::*;
    use crate::io::Buf;

    #[test]
    fn queued_connections_survive_a_stop() {
        runtime::block_on_for_tests(async {
            let mut bound = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            let address = bound[0].address;
            let listener = Rc::new(Listener::new(bound.remove(0)).unwrap());
            let accepting = Rc::clone(&listener);
            let accept = monoio::spawn(async move { accepting.accept().await.map(drop) });
            crate::io::sleep_ms(2).await;
            listener.stop();
            assert!(matches!(accept.await, Err(AcceptError::Stopped)));
            let mut clients: Vec<_> = (0..5).map(|_| StdTcp::connect(address).unwrap()).collect();
            for client in &mut clients {
                client.write_all(b"hello").unwrap();
            }
            let queued = listener.drain_queue();
            assert_eq!(queued.len(), 5);
            for (stream, _) in queued {
                let (n, buf) = stream.read(Buf::with_capacity(16)).await;
                assert_eq!((n.unwrap(), buf.bytes()), (5, &b"hello"[..]));
            }
        });
    }

    #[test]
    fn once_new_ones_are_refused_no_connection_comes_about_but_the_queue_is_kept() {
        runtime::block_on_for_tests(async {
            let mut bound = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            let address = bound[0].address;
            let listener = Listener::new(bound.remove(0)).unwrap();
            let _queued = StdTcp::connect(address).unwrap();
            listener.refuse_new().unwrap();
            let late = StdTcp::connect_timeout(&address, std::time::Duration::from_millis(50));
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut, "dropped, not reset");
            assert_eq!(listener.drain_queue().len(), 1);
        });
    }

    #[test]
    fn accepted_sockets_do_not_delay_small_writes() {
        runtime::block_on_for_tests(async {
            let mut bound = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
            assert_eq!(bound[0].address, bound[1].address, "one address, two sockets");
            bound.truncate(1);
            let address = bound[0].address;
            let listener = Listener::new(bound.remove(0)).unwrap();
            let _client = StdTcp::connect(address).unwrap();
            let (stream, _) = listener.accept().await.ok().unwrap();
            // SAFETY: the stream lives to the end of the block.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(stream.watch_fd()) };
            assert!(sockopt::tcp_nodelay(fd).unwrap());
        });
    }
}
