//! Listening sockets: one per worker on the same address (SO_REUSEPORT), one accept at a time that is never dropped. Of a Unix
//! socket there is one, which all workers share: each waits until a connection is there, and tries to be the first.
#![allow(unsafe_code)] // a packet filter for the drain has no safe wrapper, nor has borrowing monoio's descriptor

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::task::{Poll, Waker};

use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use super::dial::unix_address;
use super::runtime;
use super::stream::{Stream, TcpIo};
use crate::socket::{SocketName, is_abstract};

/// Connections the kernel queues for one worker before it accepts them; `net.core.somaxconn` caps it (4096 on Linux).
const BACKLOG: i32 = 4096;

/// Waiting connections closed in one go while descriptors are out.
const SHED_MAX: usize = 64;

/// A bound socket that is not yet on a core: control binds all of them before a worker starts, so that an address in
/// use is one clear error.
pub struct Bound {
    fd: OwnedFd,
    /// The address it is bound to, with the port the kernel chose if 0 was asked for.
    pub address: SocketName,
}

impl From<Bound> for OwnedFd {
    fn from(bound: Bound) -> Self {
        bound.fd
    }
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
        bound.push(Bound { fd, address: address.into() });
    }
    Ok(bound)
}

/// Binds the Unix socket at `path`, where nothing may be, for all workers. Whoever may do what `mode` says may connect; to an
/// abstract one, whoever is in the same network namespace.
pub fn bind_unix(path: &str, mode: u32, workers: usize) -> io::Result<Vec<Bound>> {
    let fd = hold_unix(path)?;
    if !is_abstract(path) {
        // Before it listens nobody can connect: there is no moment at which others may.
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode))?;
    }
    rustix::net::listen(&fd, BACKLOG)?;
    let again = |_| Ok(Bound { fd: fd.try_clone()?, address: SocketName::Unix(path.into()) });
    (0..workers).map(again).collect()
}

/// Has that name, and does not listen.
///
/// # Errors
/// `AddrInUse` if another has it.
pub fn hold_unix(path: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&fd, &unix_address(path)?)?;
    Ok(fd)
}

/// Between two looks at whether this worker is to stop as well, in ms.
const SHUT_DOWN_MS: u64 = 1;

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
    inner: Inner,
    stopped: Cell<bool>,
    reserve: Cell<Option<OwnedFd>>,
}

enum Inner {
    Tcp {
        listener: TcpListener,
        canceller: Cell<Option<Canceller>>,
    },
    /// Always non-blocking: the workers share its flags. monoio's type for a stream is what can wait for a socket to have
    /// something, which loses nothing when it is dropped.
    Unix {
        ready: TcpStream,
        stop: RefCell<Option<Waker>>,
        /// One was accepted in this turn.
        was_first: Cell<bool>,
        /// There is no path that is gone by the time it is closed.
        is_abstract: bool,
    },
}

impl Listener {
    /// Takes a bound socket onto this core.
    pub fn new(bound: Bound) -> io::Result<Self> {
        let inner = match bound.address {
            SocketName::Ip(_) => {
                let std = std::net::TcpListener::from(bound.fd);
                // io_uring wants a blocking descriptor, epoll a non-blocking one (a blocking one there freezes the core).
                std.set_nonblocking(runtime::is_epoll())?;
                Inner::Tcp { listener: TcpListener::from_std(std)?, canceller: Cell::new(None) }
            }
            SocketName::Unix(name) => Inner::Unix {
                is_abstract: is_abstract(&name),
                ready: TcpStream::from_std(bound.fd.into())?,
                stop: RefCell::default(),
                was_first: Cell::new(false),
            },
        };
        Ok(Self { inner, stopped: Cell::new(false), reserve: Cell::new(reserve_fd()) })
    }

    /// The next connection. One task only may call it, and must never drop the future: a dropped accept that had
    /// completed leaks its descriptor. [`Listener::stop`] ends it.
    pub async fn accept(&self) -> Result<(Stream, Option<SocketAddr>), AcceptError> {
        if self.stopped.get() {
            return Err(AcceptError::Stopped);
        }
        let accepted = match &self.inner {
            Inner::Tcp { listener, canceller } => {
                let new = Canceller::new();
                let handle = new.handle();
                canceller.set(Some(new));
                let accepted = listener.cancelable_accept(handle).await;
                accepted.map(|(tcp, address)| (Stream::Tcp(TcpIo::new(tcp)), Some(address)))
            }
            Inner::Unix { ready, stop, was_first, .. } => self.accept_unix(ready, stop, was_first).await,
        };
        match accepted {
            Ok(accepted) => Ok(accepted),
            Err(_) if self.stopped.get() => Err(AcceptError::Stopped),
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => Err(AcceptError::Aborted),
            Err(e) => Err(AcceptError::Failed { exhausted: is_exhausted(&e) }),
        }
    }

    async fn accept_unix(
        &self,
        ready: &TcpStream,
        stop: &RefCell<Option<Waker>>,
        was_first: &Cell<bool>,
    ) -> io::Result<(Stream, Option<SocketAddr>)> {
        loop {
            // One in a turn: a worker that takes whatever waits would leave nothing to the others.
            if !was_first.take() {
                match rustix::net::accept_with(self.inner_fd(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(fd) => {
                        was_first.set(true);
                        return Ok((Stream::Tcp(TcpIo::adopt(fd)?), None));
                    }
                    // Another worker's drain has begun, and this one's is about to: the socket is ready and has nothing.
                    Err(rustix::io::Errno::AGAIN) if self.is_shut_down() => {
                        if self.stopped.get() {
                            return Err(io::ErrorKind::Interrupted.into());
                        }
                        super::sleep_ms(SHUT_DOWN_MS).await;
                        continue;
                    }
                    Err(rustix::io::Errno::AGAIN) => {} // nothing yet, or another worker was the first
                    Err(e) => return Err(e.into()),
                }
            }
            let mut readable = pin!(ready.readable(false));
            let stopped_or_ready = poll_fn(|cx| {
                if self.stopped.get() {
                    return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
                }
                *stop.borrow_mut() = Some(cx.waker().clone());
                readable.as_mut().poll(cx)
            });
            stopped_or_ready.await?;
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
    /// A Unix socket has no such handshakes: who is not in the queue is refused once its path is gone.
    pub fn refuse_new(&self) -> io::Result<()> {
        let Inner::Tcp { listener, .. } = &self.inner else { return Ok(()) };
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
            let fd = listener.as_raw_fd();
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Ends the pending accept, and all later ones.
    pub fn stop(&self) {
        self.stopped.set(true);
        match &self.inner {
            Inner::Tcp { canceller, .. } => {
                if let Some(canceller) = canceller.take() {
                    drop(canceller.cancel());
                }
            }
            Inner::Unix { stop, .. } => {
                if let Some(waker) = stop.take() {
                    waker.wake();
                }
            }
        }
    }

    /// After [`Listener::stop`]: the connections that the kernel had already queued. Serve them, then drop the
    /// listener: closing one of several SO_REUSEPORT sockets resets what is still in its queue.
    pub fn drain_queue(&self) -> Vec<(Stream, Option<SocketAddr>)> {
        let mut queued = Vec::new();
        if matches!(self.inner, Inner::Unix { is_abstract: true, .. }) {
            // Refuses from now on, for all workers, who are about to stop too: none comes into the queue behind the last look.
            let _ = rustix::net::shutdown(self.inner_fd(), Shutdown::Read);
        }
        while let Some(next) = accept_now(self.inner_fd()) {
            queued.extend(next);
        }
        queued
    }

    /// Whether [`Listener::drain_queue`] of another worker has made it refuse.
    fn is_shut_down(&self) -> bool {
        let mut asked = [PollFd::from_borrowed_fd(self.inner_fd(), PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(self.inner, Inner::Unix { is_abstract: true, .. }) && poll(&mut asked, Some(&now)).is_ok_and(|n| n > 0)
    }

    fn inner_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the listener owns the descriptor and outlives the borrow.
        unsafe {
            std::os::fd::BorrowedFd::borrow_raw(match &self.inner {
                Inner::Tcp { listener, .. } => listener.as_raw_fd(),
                Inner::Unix { ready, .. } => ready.as_raw_fd(),
            })
        }
    }
}

/// One queued connection without waiting: `None` when the queue is empty, `Some(None)` for one that failed.
fn accept_now(listener: std::os::fd::BorrowedFd<'_>) -> Option<Option<(Stream, Option<SocketAddr>)>> {
    accept_fd(listener).map(|accepted| accepted.and_then(|(fd, address)| adopt(fd, address)))
}

/// A descriptor just accepted, not yet on the core's driver, and whose it is.
type Accepted = (OwnedFd, Option<rustix::net::SocketAddrAny>);

fn accept_fd(listener: std::os::fd::BorrowedFd<'_>) -> Option<Option<Accepted>> {
    // The listener itself may be a blocking descriptor (io_uring): make it non-blocking for the look. A Unix socket is not,
    // and its flags are all workers'.
    let flags = rustix::fs::fcntl_getfl(listener).ok()?;
    let is_blocking = !flags.contains(rustix::fs::OFlags::NONBLOCK);
    if is_blocking {
        rustix::fs::fcntl_setfl(listener, flags | rustix::fs::OFlags::NONBLOCK).ok()?;
    }
    let accepted = rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC);
    if is_blocking {
        let _ = rustix::fs::fcntl_setfl(listener, flags);
    }
    match accepted {
        Ok(accepted) => Some(Some(accepted)),
        Err(rustix::io::Errno::AGAIN) => None,
        Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => Some(None),
        Err(_) => None,
    }
}

fn adopt(fd: OwnedFd, address: Option<rustix::net::SocketAddrAny>) -> Option<(Stream, Option<SocketAddr>)> {
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Some((Stream::Tcp(TcpIo::adopt(fd).ok()?), address))
}

fn reserve_fd() -> Option<OwnedFd> {
    // Not cloned: that would take a second descriptor, when one is all there is.
    File::open("/dev/null").ok().map(OwnedFd::from)
}

/// Whether it is for want of descriptors or memory: this process' own, or the system's.
pub fn is_exhausted(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream as StdTcp;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    use super::*;
    use crate::io::Buf;

    #[test]
    fn queued_connections_survive_a_stop() {
        runtime::block_on_for_tests(async {
            let mut bound = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            let address = bound[0].address.ip().unwrap();
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
            let address = bound[0].address.ip().unwrap();
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
            let address = bound[0].address.ip().unwrap();
            let listener = Listener::new(bound.remove(0)).unwrap();
            let _client = StdTcp::connect(address).unwrap();
            let (stream, _) = listener.accept().await.ok().unwrap();
            // SAFETY: the stream lives to the end of the block.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(stream.watch_fd()) };
            assert!(sockopt::tcp_nodelay(fd).unwrap());
        });
    }

    #[test]
    fn an_abstract_socket_refuses_once_its_queue_was_taken() {
        use std::os::linux::net::SocketAddrExt;
        runtime::block_on_for_tests(async {
            let name = format!("ringway-listen-{}", std::process::id());
            let mut bound = bind_unix(&format!("@{name}"), 0, 2).unwrap();
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
            let [b, a] = [(); 2].map(|()| Rc::new(Listener::new(bound.pop().unwrap()).unwrap()));
            let _queued = UnixStream::connect_addr(&address).unwrap();
            a.stop();
            assert_eq!(a.drain_queue().len(), 1);
            let late = UnixStream::connect_addr(&address).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused, "not taken into a queue that nobody looks at");
            // The other one waits for its own stop, and lets everybody else have their turn.
            let accepting = Rc::clone(&b);
            let accept = monoio::spawn(async move { accepting.accept().await.map(drop) });
            crate::io::sleep_ms(5).await;
            b.stop();
            assert!(matches!(accept.await, Err(AcceptError::Stopped)));
            assert_eq!(b.drain_queue().len(), 0);
            assert_eq!(hold_unix(&format!("@{name}")).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn a_unix_socket_is_shared_and_a_stop_loses_no_one_in_its_queue() {
        runtime::block_on_for_tests(async {
            let path = std::env::temp_dir().join(format!("ringway-listen-{}", std::process::id()));
            let path = path.to_str().unwrap();
            let listeners = bind_unix(path, 0o600, 2).unwrap().into_iter().map(|bound| Listener::new(bound).unwrap());
            let [a, b]: [Rc<Listener>; 2] = listeners.map(Rc::new).collect::<Vec<_>>().try_into().ok().unwrap();
            let accepting = [&a, &b].map(|listener| {
                let listener = Rc::clone(listener);
                monoio::spawn(async move {
                    let mut accepted = Vec::new();
                    while let Ok((stream, address)) = listener.accept().await {
                        assert!(address.is_none());
                        accepted.push(stream);
                    }
                    accepted
                })
            });
            crate::io::sleep_ms(2).await;
            let mut clients: Vec<_> = (0..4).map(|_| UnixStream::connect(path).unwrap()).collect();
            crate::io::sleep_ms(2).await;
            a.stop();
            b.stop();
            let mut streams = Vec::new();
            for accepting in accepting {
                streams.extend(accepting.await);
            }
            assert_eq!(streams.len(), 4);
            let _late = UnixStream::connect(path).unwrap();
            assert_eq!(b.drain_queue().len(), 1);
            clients[0].write_all(b"hello").unwrap();
            let mut heard = 0;
            for stream in &streams {
                heard += usize::from(!stream.is_quiet());
            }
            assert_eq!(heard, 1);
            std::fs::remove_file(path).unwrap();
        });
    }
}
