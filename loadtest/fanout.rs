//! The floor of an aggregation: one request, three upstream calls, one answer, with the very operations that `relay.rs` has
//! (single-shot recv and send, one `io_uring_enter` per turn of the loop). Eight operations per request where the relay has four.
//!
//! `fanout LISTEN ORIGIN`, for example `fanout 127.0.0.1:8081 127.0.0.1:9000`: one thread; the caller pins it.
//!
//! Each client connection owns three connections to the origin, which are kept. Of HTTP it knows just what a right answer takes:
//! where a request ends, the ID behind `GET /report/`, and where an answer ends (`Content-Length: N`, as the origin writes it).
//! It validates nothing, logs nothing, has no deadlines, and closes a client that sends a request before it has its answer.
//! (Sends that complete silently, IOSQE_CQE_SKIP_SUCCESS, were tried: no difference beyond noise.)

mod ring;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{IntoRawFd, RawFd};

use io_uring::{IoUring, opcode, types};
use memchr::memmem::Finder;
use ring::{push, tag, untag};

const PARTS: [&str; 3] = ["user", "orders", "permissions"];
/// What a request must begin with; its ID follows.
const TARGET: &[u8] = b"GET /report/";
/// One recv: a whole request, or a whole part with its head. Longer ones are refused.
const BUFFER: usize = 16 * 1024;
/// The owner of operations that belong to no client.
const WORKER: usize = usize::MAX >> 8;
/// Connections of a client, among its descriptors: 0 … 2 are the parts.
const CLIENT: usize = 3;

// Operations; all have the number of their connection added.
const ACCEPT: u8 = 0;
const CONNECT: u8 = 4;
const RECV: u8 = 8;
const SEND: u8 = 12;

/// A client connection and its three origin connections.
struct Client {
    lines: [Line; 4],
    /// Origin connections that are not yet there, or parts whose answer is not: the next step is taken when it is 0.
    waiting: usize,
    /// Operations the kernel still has: fds and buffers stay while there are any.
    in_flight: u8,
    closing: bool,
}

/// One connection: what came from it, and what goes to it.
struct Line {
    fd: RawFd,
    received: Box<[u8]>,
    filled: usize,
    out: Vec<u8>,
    sent: usize,
    /// Where the body lies in what was received, once it is there.
    body: Range<usize>,
}

struct Worker {
    ring: IoUring,
    listener: RawFd,
    origin: Box<libc::sockaddr_in>,
    clients: Vec<Option<Box<Client>>>,
    free: Vec<usize>,
    answers: Answers,
}

/// Finds where an answer ends.
struct Answers {
    head_end: Finder<'static>,
    length: Finder<'static>,
}

fn main() {
    if let Err(message) = start() {
        eprintln!("fanout: {message}");
        std::process::exit(1);
    }
}

fn start() -> Result<(), String> {
    let usage = "usage: fanout LISTEN ORIGIN (ip:port each)";
    let addresses: Result<Vec<SocketAddr>, _> = std::env::args().skip(1).map(|a| a.parse()).collect();
    let Ok(&[listen, SocketAddr::V4(origin)]) = addresses.as_deref() else { return Err(usage.to_owned()) };
    ring::raise_fd_limit();
    Worker::new(listen, origin).and_then(Worker::run).map_err(|e| e.to_string())
}

#[allow(unsafe_code)] // the buffers of a client live in its box, which is dropped only when `in_flight` is 0
impl Worker {
    fn new(listen: SocketAddr, origin: SocketAddrV4) -> io::Result<Self> {
        let ring = ring::ring()?;
        let listener = ring::listen(listen)?.into_raw_fd();
        let origin = Box::new(ring::sockaddr(origin));
        let answers = Answers { head_end: Finder::new(b"\r\n\r\n"), length: Finder::new(b"Content-Length: ") };
        Ok(Self { ring, listener, origin, clients: Vec::new(), free: Vec::new(), answers })
    }

    fn run(mut self) -> io::Result<()> {
        self.accept()?;
        let mut done = Vec::new();
        loop {
            ring::turn(&mut self.ring, &mut done)?;
            for completion in done.drain(..) {
                let (owner, op) = untag(completion.user_data());
                if owner == WORKER {
                    if completion.result() >= 0 {
                        self.open(completion.result())?;
                    }
                    self.accept()?;
                } else {
                    self.complete(owner, op, completion.result())?;
                }
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

    /// A client connection was accepted: dial its three origin connections.
    fn open(&mut self, client: RawFd) -> io::Result<()> {
        let mut lines = [client; 4].map(Line::new);
        for line in &mut lines[..CLIENT] {
            // SAFETY: plain system call.
            line.fd = ring::check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
            ring::set_on(line.fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
        }
        let owner = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        for (i, line) in lines[..CLIENT].iter().enumerate() {
            let length = size_of::<libc::sockaddr_in>() as u32;
            let connect = opcode::Connect::new(types::Fd(line.fd), (&raw const *self.origin).cast(), length)
                .build()
                .user_data(tag(owner, CONNECT + i as u8));
            // SAFETY: the address is boxed and lives as long as the worker.
            unsafe { push(&mut self.ring, &connect)? };
        }
        let (waiting, in_flight) = (PARTS.len(), PARTS.len() as u8);
        self.clients[owner] = Some(Box::new(Client { lines, waiting, in_flight, closing: false }));
        Ok(())
    }

    fn complete(&mut self, owner: usize, op: u8, result: i32) -> io::Result<()> {
        let Some(Some(client)) = self.clients.get_mut(owner) else { return Ok(()) };
        client.in_flight -= 1;
        let (op, i) = (op & !3, usize::from(op & 3));
        let line = &mut client.lines[i];
        match (op, usize::try_from(result)) {
            _ if client.closing => {}
            (CONNECT, Ok(_)) => {
                client.waiting -= 1;
                if client.waiting == 0 {
                    self.recv(owner, CLIENT)?;
                }
            }
            (RECV, Ok(n @ 1..)) => {
                line.filled += n;
                let received = &line.received[..line.filled];
                if i == CLIENT {
                    if !received.ends_with(b"\r\n\r\n") {
                        self.recv(owner, CLIENT)?;
                    } else if client.in_flight == 0 && client.ask() {
                        for part in 0..PARTS.len() {
                            self.send(owner, part)?;
                            self.recv(owner, part)?;
                        }
                    } else {
                        client.close();
                    }
                } else if let Some(body) = self.answers.body(received) {
                    line.body = body;
                    client.waiting -= 1;
                    if client.waiting == 0 {
                        client.answer();
                        self.send(owner, CLIENT)?;
                        self.recv(owner, CLIENT)?;
                    }
                } else {
                    self.recv(owner, i)?;
                }
            }
            (SEND, Ok(n @ 1..)) => {
                line.sent += n;
                if line.sent < line.out.len() {
                    self.send(owner, i)?;
                }
            }
            _ => client.close(),
        }
        self.release(owner);
        Ok(())
    }

    /// Reads more from a connection. With its buffer full it asks for 0 bytes, and gets the end.
    fn recv(&mut self, owner: usize, i: usize) -> io::Result<()> {
        let Some(Some(client)) = self.clients.get_mut(owner) else { return Ok(()) };
        client.in_flight += 1;
        let line = &mut client.lines[i];
        let rest = &mut line.received[line.filled..];
        let recv = opcode::Recv::new(types::Fd(line.fd), rest.as_mut_ptr(), rest.len() as u32)
            .build()
            .user_data(tag(owner, RECV + i as u8));
        // SAFETY: see the impl.
        unsafe { push(&mut self.ring, &recv) }
    }

    /// Sends what is left of what goes to a connection.
    fn send(&mut self, owner: usize, i: usize) -> io::Result<()> {
        let Some(Some(client)) = self.clients.get_mut(owner) else { return Ok(()) };
        client.in_flight += 1;
        let line = &client.lines[i];
        let rest = &line.out[line.sent..];
        let send = opcode::Send::new(types::Fd(line.fd), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(tag(owner, SEND + i as u8));
        // SAFETY: see the impl; `out` is written anew only when the kernel has no operation of this client.
        unsafe { push(&mut self.ring, &send) }
    }

    /// Frees a client whose operations are all back.
    fn release(&mut self, owner: usize) {
        let Some(slot) = self.clients.get_mut(owner) else { return };
        if let Some(client) = slot.take_if(|client| client.in_flight == 0) {
            client.lines.iter().for_each(|line| ring::close(line.fd));
            self.free.push(owner);
        }
    }
}

impl Client {
    /// The request is there: writes the three that it becomes. False where it is none of ours.
    fn ask(&mut self) -> bool {
        let (parts, client) = self.lines.split_at_mut(CLIENT);
        let request = &client[0].received[..client[0].filled];
        let Some(rest) = request.strip_prefix(TARGET) else { return false };
        let Some(end) = memchr::memchr(b' ', rest) else { return false };
        for (line, name) in parts.iter_mut().zip(PARTS) {
            line.begin();
            let pieces: [&[u8]; 5] =
                [b"GET /part/", name.as_bytes(), b"/", &rest[..end], b" HTTP/1.1\r\nHost: origin\r\n\r\n"];
            for piece in pieces {
                line.out.extend_from_slice(piece);
            }
        }
        client[0].filled = 0;
        self.waiting = PARTS.len();
        true
    }

    /// The parts are there: writes the answer.
    fn answer(&mut self) {
        let (parts, client) = self.lines.split_at_mut(CLIENT);
        client[0].begin();
        let out = &mut client[0].out;
        // `"NAME":` and a comma or brace for each part, and one brace more.
        let length = parts.iter().zip(PARTS).map(|(line, name)| line.body.len() + name.len() + 4).sum::<usize>() + 1;
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        for (i, (line, name)) in parts.iter().zip(PARTS).enumerate() {
            let pieces: [&[u8]; 4] =
                [if i == 0 { b"{\"" } else { b",\"" }, name.as_bytes(), b"\":", &line.received[line.body.clone()]];
            for piece in pieces {
                out.extend_from_slice(piece);
            }
        }
        out.push(b'}');
    }

    fn close(&mut self) {
        self.closing = true;
        self.lines.iter().for_each(|line| ring::shut(line.fd));
    }
}

impl Line {
    fn new(fd: RawFd) -> Self {
        Self { fd, received: vec![0; BUFFER].into_boxed_slice(), filled: 0, out: Vec::new(), sent: 0, body: 0..0 }
    }

    /// Something new goes out, and what comes will answer it.
    fn begin(&mut self) {
        (self.filled, self.sent) = (0, 0);
        self.out.clear();
    }
}

impl Answers {
    /// Where the body of the answer lies, once all of it is there.
    fn body(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let start = self.head_end.find(bytes)? + 4;
        let digits = &bytes[self.length.find(&bytes[..start])? + self.length.needle().len()..];
        let digits = &digits[..memchr::memchr(b'\r', digits)?];
        let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let end = start.checked_add(length)?;
        (end <= bytes.len()).then_some(start..end)
    }
}
