//! The floor of the load tests: a bare io_uring relay on layer 4. It knows nothing of HTTP; it moves bytes with the very
//! operations that a gateway on monoio has (single-shot recv and send, one `io_uring_enter` per turn of the loop), so its
//! CPU per request is what such a gateway pays before it does any work of its own.
//!
//! `relay [--threads N] LISTEN UPSTREAM`, for example `relay 127.0.0.1:8081 127.0.0.1:9000`.
//!
//! Each downstream connection gets one upstream connection; each direction is a loop of recv and send of its own. (Arming a side
//! only when it is its turn to speak, as a gateway can, was tried: no difference beyond noise in paired rounds.) Half-closed
//! connections are not kept: when one side ends, both are closed.

mod ring;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{IntoRawFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, types};
use ring::{push, tag, untag};

/// One recv: large enough for 256 KiB bodies to cost few operations; small messages touch its first page only.
const BUFFER: usize = 64 * 1024;
/// The owner of operations that belong to no pair.
const WORKER: usize = usize::MAX >> 8;

// The sides of a pair: where bytes come from.
const DOWN: usize = 0;
const UP: usize = 1;

// Operations; RECV and SEND have the side added.
const ACCEPT: u8 = 0;
const CONNECT: u8 = 2;
const RECV: u8 = 4;
const RECV_UP: u8 = RECV + UP as u8;
const SEND: u8 = 6;
const SEND_UP: u8 = SEND + UP as u8;

/// A downstream connection and its upstream connection.
struct Pair {
    fds: [RawFd; 2],
    /// Bytes that came from each side.
    flows: [Flow; 2],
    /// Operations the kernel still has: fds and buffers stay while there are any.
    in_flight: u8,
    closing: bool,
}

struct Flow {
    buffer: Box<[u8]>,
    sent: usize,
    filled: usize,
}

struct Worker {
    ring: IoUring,
    listener: RawFd,
    upstream: Box<libc::sockaddr_in>,
    pairs: Vec<Option<Box<Pair>>>,
    free: Vec<usize>,
}

fn main() {
    if let Err(message) = start() {
        eprintln!("relay: {message}");
        std::process::exit(1);
    }
}

fn start() -> Result<(), String> {
    let usage = "usage: relay [--threads N] LISTEN UPSTREAM (ip:port each)";
    let (mut threads, mut addresses) = (1, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => threads = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0).ok_or(usage)?,
            address => addresses.push(address.parse::<SocketAddr>().map_err(|e| format!("{address}: {e}; {usage}"))?),
        }
    }
    let &[listen, SocketAddr::V4(upstream)] = addresses.as_slice() else { return Err(usage.to_owned()) };

    ring::raise_fd_limit();
    let cpus = allowed_cpus();
    let workers: Vec<_> = (0..threads)
        .map(|i| {
            let cpu = cpus.get(i % cpus.len().max(1)).copied();
            std::thread::spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                Worker::new(listen, upstream).and_then(Worker::run).map_err(|e| e.to_string())
            })
        })
        .collect();
    workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err("a worker panicked".to_owned())))
}

#[allow(unsafe_code)] // the buffers of a pair live in its box, which is dropped only when `in_flight` is 0
impl Worker {
    fn new(listen: SocketAddr, upstream: SocketAddrV4) -> io::Result<Self> {
        let ring = ring::ring()?;
        let listener = ring::listen(listen)?.into_raw_fd();
        let upstream = Box::new(ring::sockaddr(upstream));
        Ok(Self { ring, listener, upstream, pairs: Vec::new(), free: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        self.accept()?;
        let mut done = Vec::new();
        loop {
            ring::turn(&mut self.ring, &mut done)?;
            for completion in done.drain(..) {
                self.complete(&completion)?;
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::Accept::new(types::Fd(self.listener), std::ptr::null_mut(), std::ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag(WORKER, ACCEPT));
        // SAFETY: points at nothing.
        unsafe { push(&mut self.ring, &accept) }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (owner, op) = untag(completion.user_data());
        let result = completion.result();
        if owner == WORKER {
            if result >= 0 {
                self.open(result)?;
            }
            return self.accept();
        }
        let Some(Some(pair)) = self.pairs.get_mut(owner) else { return Ok(()) };
        pair.in_flight -= 1;
        match (op, usize::try_from(result)) {
            _ if pair.closing => {}
            (CONNECT, Ok(_)) => {
                self.recv(owner, DOWN)?;
                return self.recv(owner, UP);
            }
            (RECV | RECV_UP, Ok(count @ 1..)) => {
                let side = usize::from(op - RECV);
                let flow = &mut pair.flows[side];
                (flow.sent, flow.filled) = (0, count);
                return self.send(owner, side);
            }
            (SEND | SEND_UP, Ok(count @ 1..)) => {
                let side = usize::from(op - SEND);
                let flow = &mut pair.flows[side];
                flow.sent += count;
                if flow.sent < flow.filled {
                    return self.send(owner, side);
                }
                return self.recv(owner, side);
            }
            _ => {
                pair.closing = true;
                pair.fds.into_iter().for_each(ring::shut);
            }
        }
        self.release(owner);
        Ok(())
    }

    /// A downstream connection was accepted: dial its upstream connection.
    fn open(&mut self, downstream: RawFd) -> io::Result<()> {
        // SAFETY: plain system call.
        let upstream = ring::check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) });
        let Ok(upstream) = upstream else {
            ring::close(downstream);
            return Ok(());
        };
        ring::set_on(upstream, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
        let owner = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let flow = || Flow { buffer: vec![0; BUFFER].into_boxed_slice(), sent: 0, filled: 0 };
        self.pairs[owner] =
            Some(Box::new(Pair { fds: [downstream, upstream], flows: [flow(), flow()], in_flight: 1, closing: false }));
        let length = size_of::<libc::sockaddr_in>() as u32;
        let connect = opcode::Connect::new(types::Fd(upstream), (&raw const *self.upstream).cast(), length)
            .build()
            .user_data(tag(owner, CONNECT));
        // SAFETY: the address is boxed and lives as long as the worker.
        unsafe { push(&mut self.ring, &connect) }
    }

    /// Reads the next bytes of `side`.
    fn recv(&mut self, owner: usize, side: usize) -> io::Result<()> {
        let Some(Some(pair)) = self.pairs.get_mut(owner) else { return Ok(()) };
        let flow = &mut pair.flows[side];
        pair.in_flight += 1;
        let recv = opcode::Recv::new(types::Fd(pair.fds[side]), flow.buffer.as_mut_ptr(), BUFFER as u32)
            .build()
            .user_data(tag(owner, RECV + side as u8));
        // SAFETY: see the impl.
        unsafe { push(&mut self.ring, &recv) }
    }

    /// Sends what is left of the bytes from `side` to the other side.
    fn send(&mut self, owner: usize, side: usize) -> io::Result<()> {
        let Some(Some(pair)) = self.pairs.get_mut(owner) else { return Ok(()) };
        let flow = &pair.flows[side];
        let rest = &flow.buffer[flow.sent..flow.filled];
        let send = opcode::Send::new(types::Fd(pair.fds[1 - side]), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(tag(owner, SEND + side as u8));
        pair.in_flight += 1;
        // SAFETY: see the impl.
        unsafe { push(&mut self.ring, &send) }
    }

    /// Frees a pair whose operations are all back.
    fn release(&mut self, owner: usize) {
        let Some(slot) = self.pairs.get_mut(owner) else { return };
        if let Some(pair) = slot.take_if(|pair| pair.in_flight == 0) {
            pair.fds.into_iter().for_each(ring::close);
            self.free.push(owner);
        }
    }
}

/// The CPUs this process may use.
#[allow(unsafe_code)]
fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, and its size is passed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Pins this thread; where that is refused it runs unpinned.
#[allow(unsafe_code)]
fn pin(cpu: usize) {
    // SAFETY: a cpu_set_t is plain bits, and its size is passed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
