//! One byte stream to a client or an upstream, whatever it runs on.
//!
//! Methods take `&self`: one reader and one writer at a time, so that both directions of a connection can be two pinned
//! futures of one task (monoio's `into_split` allocates, and dropping its write half sends FIN).
#![allow(unsafe_code)] // a shared reference to a stream whose monoio methods want `&mut self`

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::Shutdown;
use rustix::time::Timespec;
use rustls::ServerConfig;

use super::buffers::{Buf, Buffers};
use super::memory::MemoryStream;
use super::tls::TlsIo;
use super::turn;

/// A stream of any kind. Unix sockets are a further arm.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpIo),
    /// TLS over TCP.
    Tls(Box<TlsIo>),
    /// In memory, for benches and tests.
    Memory(MemoryStream),
}

/// A TCP connection on this core's driver.
pub struct TcpIo {
    tcp: UnsafeCell<TcpStream>,
    reading: Cell<bool>,
    writing: Cell<bool>,
}

/// Marks a direction as busy; a second reader or writer is a bug here, never something a client can cause.
struct Busy<'a>(&'a Cell<bool>);

impl<'a> Busy<'a> {
    fn enter(busy: &'a Cell<bool>) -> Self {
        debug_assert!(!busy.replace(true), "one reader and one writer at a time");
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl TcpIo {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp: UnsafeCell::new(tcp), reading: Cell::new(false), writing: Cell::new(false) }
    }

    // monoio's methods take `&mut self` but only clone the shared descriptor into the operation, which owns it; the
    // exclusive reference ends before the returned future is first polled.
    #[allow(clippy::mut_from_ref)]
    fn tcp(&self) -> &mut TcpStream {
        // SAFETY: single-threaded (monoio's streams are not Send), and no two of these references live at once: each
        // is used for one call that returns an operation which holds no part of it.
        unsafe { &mut *self.tcp.get() }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the stream lives.
        unsafe { BorrowedFd::borrow_raw(self.tcp().as_raw_fd()) }
    }

    /// Reads once, behind the bytes in `buf`.
    pub(super) async fn read(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        let _busy = Busy::enter(&self.reading);
        turn::step().await;
        let (n, buf) = self.tcp().read(buf).await;
        turn::copied(n.as_ref().copied().unwrap_or(0));
        (n, buf)
    }

    /// Writes once; how many bytes were taken.
    pub(super) async fn write(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        let _busy = Busy::enter(&self.writing);
        turn::step().await;
        let (n, buf) = self.tcp().write(buf).await;
        turn::copied(n.as_ref().copied().unwrap_or(0));
        (n, buf)
    }

    /// No bytes wait, and the other side neither closed nor reset. One `poll(2)` that does not wait: it takes no lock on
    /// the socket, where a `recv(MSG_PEEK)` does.
    pub(super) fn is_quiet(&self) -> bool {
        let [quiet] = quiet([self.fd()], 1);
        quiet
    }

    /// Bytes written that the other side has not acknowledged yet.
    fn unacknowledged(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int, and the descriptor is open.
        let done = unsafe { libc::ioctl(self.fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if done == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
    }
}

/// Of which of the first `n` sockets nothing is to be told: no bytes wait, and nobody closed or reset.
fn quiet<const N: usize>(sockets: [BorrowedFd<'_>; N], n: usize) -> [bool; N] {
    // Errors and hang-ups are told without being asked for.
    let mut fds = sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN | PollFlags::RDHUP));
    let asked = fds.get_mut(..n).unwrap_or_default();
    let told = poll(asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    fds.map(|fd| told.is_ok() && fd.revents().is_empty())
}

/// What one write did: `Ok(0)` is none, and moves `buf` behind what was sent otherwise.
fn sent(result: io::Result<usize>, mut buf: Buf) -> (io::Result<()>, Buf) {
    match result {
        Ok(0) => (Err(io::ErrorKind::WriteZero.into()), buf),
        Ok(n) => {
            buf.consume(n);
            (Ok(()), buf)
        }
        Err(e) => (Err(e), buf),
    }
}

impl Stream {
    /// Speaks TLS on an accepted connection from now on, as the server. The handshake is yet to be done.
    pub fn into_tls(self, config: &Arc<ServerConfig>, buffers: &Rc<Buffers>) -> Result<Self, rustls::Error> {
        match self {
            Self::Tcp(tcp) => Ok(Self::Tls(Box::new(TlsIo::server(tcp, config, buffers)?))),
            other => Ok(other),
        }
    }

    /// Reads once, behind the bytes already in `buf`. `Ok(0)` is the end of the stream (or a full buffer: do not ask); on
    /// TLS it is an end that the other side announced, and one without that (RFC 8446 6.1) is an error.
    /// If the future is dropped before it is done, bytes may be lost: close the stream then.
    pub async fn read(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        match self {
            Self::Tcp(io) => io.read(buf).await,
            // Boxed, here and below: its state is large, and a plain connection would carry it through every operation.
            Self::Tls(io) => Box::pin(io.read(buf)).await,
            Self::Memory(memory) => memory.read(buf).await,
        }
    }

    /// Writes once and moves the buffer's cursor behind what was sent: what is left is written by the next call, which
    /// must get the same buffer. Each call is progress, so a deadline around it is a stall deadline, however slow the
    /// other side is.
    pub async fn write(&self, buf: Buf) -> (io::Result<()>, Buf) {
        match self {
            Self::Tcp(io) => {
                let (result, buf) = io.write(buf).await;
                sent(result, buf)
            }
            Self::Tls(io) => Box::pin(io.write(buf)).await,
            Self::Memory(memory) => sent(memory.write(&buf), buf),
        }
    }

    /// Reads once and takes nothing in: behind [`Self::shutdown_write`], for the other side's end alone. `Ok(0)` is the end of
    /// the connection under TLS. What comes is not decrypted, as a read that was dropped may have lost a part of a record.
    pub async fn read_away(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        match self.tcp() {
            Some(io) => io.read(buf).await,
            None => self.read(buf).await,
        }
    }

    /// Whether an idle connection may still be used: the other side neither closed it nor sent bytes nobody asked for.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_quiet(),
            Self::Tls(io) => io.is_quiet(),
            Self::Memory(memory) => memory.is_quiet(),
        }
    }

    /// Whether a read would find something at once: bytes, or the end. Unlike [`Self::is_quiet`] it takes nothing in, so it
    /// may be asked within a message. Under TLS what comes may be a part of a record, which is nothing yet.
    pub fn has_more(&self) -> bool {
        match self {
            Self::Tcp(io) => !io.is_quiet(),
            Self::Tls(io) => io.has_more(),
            Self::Memory(memory) => !memory.is_quiet(),
        }
    }

    /// [`Self::is_quiet`] of several, in one system call, by a bit each: the first in the lowest. What is not there is not
    /// quiet.
    pub fn are_quiet<const N: usize>(streams: &[Option<&Self>; N]) -> u32 {
        fn tcp<'s>(stream: &Option<&'s Stream>) -> Option<&'s TcpIo> {
            stream.and_then(Stream::tcp)
        }
        let told = match streams.iter().find_map(tcp) {
            // A place without a socket asks about the first once more; those at the end are not asked about.
            Some(first) => {
                let sockets = streams.each_ref().map(|stream| tcp(stream).unwrap_or(first).fd());
                let there = streams.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
                quiet(sockets, there)
            }
            None => [false; N],
        };
        let is_quiet = |(stream, told): (&Option<&Self>, bool)| match stream {
            Some(Self::Tcp(_)) => told,
            Some(Self::Tls(io)) => io.is_quiet_if(told),
            Some(Self::Memory(memory)) => memory.is_quiet(),
            None => false,
        };
        streams.iter().zip(told).enumerate().fold(0, |bits, (i, each)| bits | u32::from(is_quiet(each)) << i)
    }

    /// Bytes written that the other side has not acknowledged yet: a reader that is slow, not gone, makes it shrink.
    pub fn unacknowledged(&self) -> usize {
        match self {
            Self::Tcp(io) => io.unacknowledged(),
            Self::Tls(io) => io.tcp().unacknowledged() + io.unsent(),
            Self::Memory(_) => 0,
        }
    }

    /// Says that nothing more comes, where the protocol can: TLS does, and to its other side an end without it is a cut.
    /// Call it before a stream is closed after its last whole message, never after half of one.
    pub fn say_end(&self) {
        if let Self::Tls(io) = self {
            io.say_end();
        }
    }

    /// Ends our side: the other reads to the end of what was sent.
    pub fn shutdown_write(&self) {
        self.say_end();
        self.shut(Shutdown::Write, false);
    }

    /// Completes a pending read with 0 and leaves writes working: the cheap way to end an idle connection.
    pub fn shutdown_read(&self) {
        self.shut(Shutdown::Read, true);
    }

    fn shut(&self, how: Shutdown, incoming: bool) {
        match self.tcp() {
            // Fails when the connection is gone already, which is what was wanted.
            Some(io) => drop(rustix::net::shutdown(io.fd(), how)),
            None => {
                if let Self::Memory(memory) = self {
                    memory.shut(incoming);
                }
            }
        }
    }

    /// Makes the coming close a reset: the other side can not take a cut message for a whole one.
    pub fn reset_on_close(&self) {
        if let Some(io) = self.tcp() {
            let _ = rustix::net::sockopt::set_socket_linger(io.fd(), Some(Duration::ZERO)); // then the close is a plain one
        }
    }

    /// Makes the coming close a cut: no TLS says that it was meant, and TCP says that it was not.
    pub fn cut(&self) {
        if let Self::Tls(io) = self {
            io.say_nothing_more();
        }
        self.reset_on_close();
    }

    /// The TLS session, if it is one.
    pub fn tls(&self) -> Option<&TlsIo> {
        match self {
            Self::Tls(io) => Some(io),
            Self::Tcp(_) | Self::Memory(_) => None,
        }
    }

    fn tcp(&self) -> Option<&TcpIo> {
        match self {
            Self::Tcp(io) => Some(io),
            Self::Tls(io) => Some(io.tcp()),
            Self::Memory(_) => None,
        }
    }

    /// The descriptor to watch for the other side's departure; -1 for a stream without one.
    pub fn watch_fd(&self) -> RawFd {
        self.tcp().map_or(-1, |io| io.tcp().as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdTcp};
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::io::runtime;

    async fn connected() -> (Stream, StdTcp) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = crate::io::dial::dial(address).await.unwrap();
        (stream, listener.accept().unwrap().0)
    }

    #[test]
    fn reads_append_and_writes_send_all() {
        runtime::block_on_for_tests(async {
            let (stream, mut far) = connected().await;
            let mut buf = Buf::with_capacity(64);
            buf.extend(b"ab");
            far.write_all(b"cd").unwrap();
            let (n, buf) = stream.read(buf).await;
            assert_eq!((n.unwrap(), buf.bytes()), (2, &b"abcd"[..]));
            let (result, _) = stream.write(buf).await;
            result.unwrap();
            let mut got = [0; 4];
            far.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"abcd");
        });
    }

    #[test]
    fn quiet_means_open_and_without_bytes() {
        runtime::block_on_for_tests(async {
            let (stream, mut far) = connected().await;
            assert!(stream.is_quiet());
            far.write_all(b"x").unwrap();
            while stream.is_quiet() {}
            let (n, _) = stream.read(Buf::with_capacity(8)).await;
            assert_eq!(n.unwrap(), 1, "the peek took nothing");
            assert!(stream.is_quiet());
            drop(far);
            while stream.is_quiet() {}
        });
    }

    #[test]
    fn several_are_asked_at_once() {
        runtime::block_on_for_tests(async {
            let ((a, _far_a), (b, mut far_b), (c, far_c)) = (connected().await, connected().await, connected().await);
            assert_eq!(Stream::are_quiet(&[Some(&a), None, Some(&b), Some(&c)]), 0b1101);
            far_b.write_all(b"x").unwrap();
            drop(far_c);
            while b.is_quiet() || c.is_quiet() {}
            assert_eq!(Stream::are_quiet(&[Some(&c), Some(&b), Some(&a), None]), 0b100);
            assert_eq!(Stream::are_quiet(&[None, None]), 0);
        });
    }

    #[test]
    fn shutdown_of_reading_completes_a_pending_read_and_leaves_writes_working() {
        runtime::block_on_for_tests(async {
            let (stream, mut far) = connected().await;
            let stream = std::rc::Rc::new(stream);
            let reader = std::rc::Rc::clone(&stream);
            let read = monoio::spawn(async move { reader.read(Buf::with_capacity(8)).await.0 });
            crate::io::sleep_ms(2).await;
            stream.shutdown_read();
            assert_eq!(read.await.unwrap(), 0);
            let mut buf = Buf::with_capacity(8);
            buf.extend(b"bye");
            stream.write(buf).await.0.unwrap();
            let mut got = [0; 3];
            far.read_exact(&mut got).unwrap();
        });
    }

    #[test]
    fn a_reset_is_seen_as_one() {
        runtime::block_on_for_tests(async {
            let (stream, mut far) = connected().await;
            stream.reset_on_close();
            drop(stream);
            crate::io::sleep_ms(2).await;
            let error = far.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(far.as_raw_fd() >= 0);
        });
    }
}
