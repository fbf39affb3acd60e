//! The upstream of the load tests: answers as cheaply as it can, so that it is never what is measured.
//!
//! `origin ADDRESS…`, for example `origin 127.0.0.1:9000`: one thread per address, HTTP/1.1, connections are always kept.
//!
//! | request | answer |
//! |---|---|
//! | any target | 200 with 128 bytes |
//! | a target with `bytes=N` in its query, or `/bytes/N` in its path | 200 with N bytes, streamed where there are many |
//! | a target ending in `?echo` | 200 with the request head as it arrived: shows what a gateway added |
//! | `/part/user/ID`, `/part/orders/ID`, `/part/permissions/ID` | 200 with a JSON object of 150 bytes that holds ID |
//! | the same with the ID `echo` | 200 with `{"head":"…"}`, the request head as JSON: shows what an aggregator passes on |
//! | a request with a body (Content-Length or chunked, any size) | the same, but instead of the 128 bytes: `{"received":N}` |
//!
//! Requests arrive through multishot recv on provided buffers, answers leave with one send (MSG_WAITALL). It trusts its client
//! about what costs time to check: bodies are looked for only where the method is not GET or HEAD, and `Connection: close` is ignored.

mod ring;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, opcode, types};
use memchr::memmem;
use ring::{push, tag, untag};

/// Provided buffers of one thread. Power of two, as the kernel wants.
const BUFFERS: u16 = 256;
/// Size of one: a 1 GiB upload takes 16,384 of them.
const BUFFER: usize = 64 * 1024;
const GROUP: u16 = 1;
/// Bodies up to this size are kept ready with their head; longer ones are sent in pieces of this size.
const PIECE: usize = 1 << 20;
/// How many different ready answers are kept (32 MiB at most).
const READY_MAX: usize = 32;
/// Size of a part of an aggregation: a small record, as most parts are.
const PART: usize = 150;
/// A head longer than this is not an HTTP request that we would understand.
const HEAD_MAX: usize = 256 * 1024;

/// The owner of operations that belong to no connection.
const LISTENER: usize = usize::MAX >> 8;
const ACCEPT: u8 = 0;
const RECV: u8 = 1;
const SEND: u8 = 2;

/// One connection.
struct Conn {
    fd: RawFd,
    /// A head that has not wholly arrived.
    partial: Vec<u8>,
    body: Body,
    /// Body bytes of the current request so far.
    received: u64,
    /// The target of the request whose body is being read.
    asked: Answer,
    answers: VecDeque<Out>,
    /// How much of the first answer's piece was sent.
    sent: usize,
    sending: bool,
    receiving: bool,
    closing: bool,
}

/// What is still to come of a request's body.
enum Body {
    None,
    Length(u64),
    Chunked(Chunk),
}

/// Where a chunked body is (RFC 9112 section 7.1).
#[derive(Clone, Copy)]
enum Chunk {
    Size(u64),
    Extension(u64),
    Data(u64),
    DataEnd,
    TrailerStart,
    TrailerLine,
}

/// What a request asked for.
enum Answer {
    Small,
    Bytes(u64),
    Echo(Vec<u8>),
    Part(Vec<u8>),
}

/// What is to be sent.
enum Out {
    /// A whole answer that is kept for ever.
    Ready(&'static [u8]),
    /// Bytes made for this answer, then that many more.
    Made(Vec<u8>, u64),
    /// That many body bytes.
    More(u64),
}

struct Origin {
    ring: IoUring,
    listener: RawFd,
    buffers: Provided,
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    small: &'static [u8],
    filler: &'static [u8],
    ready: HashMap<u64, &'static [u8]>,
}

fn main() {
    let addresses: Result<Vec<SocketAddr>, _> = std::env::args().skip(1).map(|a| a.parse()).collect();
    let addresses = match addresses {
        Ok(a) if !a.is_empty() => a,
        _ => {
            eprintln!("usage: origin IP:PORT…");
            std::process::exit(1);
        }
    };
    ring::raise_fd_limit();
    let threads: Vec<_> = addresses
        .into_iter()
        .map(|address| std::thread::spawn(move || Origin::new(address).and_then(Origin::run)))
        .collect();
    for thread in threads {
        if let Ok(Err(e)) = thread.join() {
            eprintln!("origin: {e}");
            std::process::exit(1);
        }
    }
}

#[allow(unsafe_code)] // what entries point at: leaked buffers, or an answer that stays queued until its send is done
impl Origin {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let ring = ring::ring()?;
        let buffers = Provided::register(&ring)?;
        let listener = ring::listen(address)?.into_raw_fd();
        let filler: &'static [u8] = Box::leak(body(PIECE).into_boxed_slice());
        let small = ready(128);
        Ok(Self {
            ring,
            listener,
            buffers,
            conns: Vec::new(),
            free: Vec::new(),
            small,
            filler,
            ready: HashMap::from([(128, small)]),
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.accept()?;
        let mut done = Vec::new();
        loop {
            ring::turn(&mut self.ring, &mut done)?;
            for completion in done.drain(..) {
                match untag(completion.user_data()) {
                    (LISTENER, _) => self.on_accept(&completion)?,
                    (owner, RECV) => self.on_recv(owner, &completion)?,
                    (owner, _) => self.on_sent(owner, completion.result())?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag(LISTENER, ACCEPT));
        // SAFETY: points at nothing.
        unsafe { push(&mut self.ring, &accept) }
    }

    fn on_accept(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if completion.result() >= 0 {
            let owner = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            self.conns[owner] = Some(Box::new(Conn::new(completion.result())));
            self.recv(owner)?;
        }
        if cqueue::more(completion.flags()) { Ok(()) } else { self.accept() }
    }

    fn recv(&mut self, owner: usize) -> io::Result<()> {
        let Some(Some(conn)) = self.conns.get_mut(owner) else { return Ok(()) };
        conn.receiving = true;
        let recv = opcode::RecvMulti::new(types::Fd(conn.fd), GROUP).build().user_data(tag(owner, RECV));
        // SAFETY: the provided buffers are leaked.
        unsafe { push(&mut self.ring, &recv) }
    }

    fn on_recv(&mut self, owner: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let Some(Some(conn)) = self.conns.get_mut(owner) else { return Ok(()) };
        let armed = cqueue::more(completion.flags());
        conn.receiving = armed;
        let result = completion.result();
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            let bytes = self.buffers.filled(id, usize::try_from(result).unwrap_or(0));
            if !conn.closing {
                conn.take(bytes, self.small, &mut self.ready);
            }
            self.buffers.give_back(id);
        }
        // Out of provided buffers is not the end of the connection; they are back by the next turn.
        let ended = result <= 0 && result != -libc::ENOBUFS;
        if ended || conn.closing {
            return self.end(owner);
        }
        self.send(owner)?;
        if armed { Ok(()) } else { self.recv(owner) }
    }

    /// Sends the next piece, unless one is on its way.
    fn send(&mut self, owner: usize) -> io::Result<()> {
        let Some(Some(conn)) = self.conns.get_mut(owner) else { return Ok(()) };
        if conn.sending {
            return Ok(());
        }
        let Some(first) = conn.answers.front() else { return Ok(()) };
        let rest = &first.piece(self.filler)[conn.sent..];
        conn.sending = true;
        let send = opcode::Send::new(types::Fd(conn.fd), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(tag(owner, SEND));
        // SAFETY: see the impl.
        unsafe { push(&mut self.ring, &send) }
    }

    fn on_sent(&mut self, owner: usize, result: i32) -> io::Result<()> {
        let Some(Some(conn)) = self.conns.get_mut(owner) else { return Ok(()) };
        conn.sending = false;
        if result <= 0 || conn.closing {
            return self.end(owner);
        }
        conn.sent += result as usize;
        if let Some(first) = conn.answers.front_mut()
            && conn.sent == first.piece(self.filler).len()
        {
            conn.sent = 0;
            match first.left(self.filler) {
                0 => drop(conn.answers.pop_front()),
                left => *first = Out::More(left),
            }
        }
        self.send(owner)
    }

    /// Shuts the connection down, and frees it when the kernel has given back its operations.
    fn end(&mut self, owner: usize) -> io::Result<()> {
        let Some(slot) = self.conns.get_mut(owner) else { return Ok(()) };
        if let Some(conn) = slot
            && !conn.closing
        {
            conn.closing = true;
            ring::shut(conn.fd);
        }
        if let Some(conn) = slot.take_if(|conn| !conn.sending && !conn.receiving) {
            ring::close(conn.fd);
            self.free.push(owner);
        }
        Ok(())
    }
}

impl Conn {
    fn new(fd: RawFd) -> Self {
        Self {
            fd,
            partial: Vec::new(),
            body: Body::None,
            received: 0,
            asked: Answer::Small,
            answers: VecDeque::new(),
            sent: 0,
            sending: false,
            receiving: false,
            closing: false,
        }
    }

    /// Takes bytes that arrived; queues the answers of the requests that they complete.
    fn take(&mut self, mut bytes: &[u8], small: &'static [u8], ready: &mut HashMap<u64, &'static [u8]>) {
        while !bytes.is_empty() && !self.closing {
            if let Some(used) = self.take_body(bytes) {
                bytes = &bytes[used..];
                if matches!(self.body, Body::None) {
                    let received = std::mem::take(&mut self.received);
                    let out = match std::mem::replace(&mut self.asked, Answer::Small) {
                        Answer::Small => counted(received),
                        asked => out(asked, ready),
                    };
                    self.answers.push_back(out);
                }
                continue;
            }
            let head = if self.partial.is_empty() {
                match memmem::find(bytes, b"\r\n\r\n") {
                    Some(at) => {
                        let (head, rest) = bytes.split_at(at + 4);
                        bytes = rest;
                        self.head(head, small, ready)
                    }
                    None => {
                        self.partial.extend_from_slice(bytes);
                        return;
                    }
                }
            } else {
                // The end of the head may lie across what came before and what came now.
                let before = self.partial.len();
                self.partial.extend_from_slice(bytes);
                let from = before.saturating_sub(3);
                match memmem::find(&self.partial[from..], b"\r\n\r\n") {
                    Some(at) => {
                        let end = from + at + 4;
                        bytes = &bytes[end - before..];
                        let head: Vec<u8> = std::mem::take(&mut self.partial);
                        self.head(&head[..end], small, ready)
                    }
                    None => {
                        self.closing = self.partial.len() > HEAD_MAX;
                        return;
                    }
                }
            };
            self.closing |= head.is_none();
        }
    }

    /// A whole head: queues its answer, or remembers it until the body was read. None where it makes no sense.
    fn head(&mut self, head: &[u8], small: &'static [u8], ready: &mut HashMap<u64, &'static [u8]>) -> Option<()> {
        let method = memchr::memchr(b' ', head)?;
        let target = &head[method + 1..];
        let target = &target[..memchr::memchr(b' ', target)?];
        let asked = asked(target, head)?;
        self.body = match &head[..method] {
            b"GET" | b"HEAD" => Body::None,
            _ => framing(head)?,
        };
        if head.starts_with(b"HEAD") {
            self.answers.push_back(Out::Made(b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n".to_vec(), 0));
        } else if !matches!(self.body, Body::None) {
            self.asked = asked;
        } else {
            self.answers.push_back(match asked {
                Answer::Small => Out::Ready(small),
                asked => out(asked, ready),
            });
        }
        Some(())
    }

    /// Takes body bytes: how many, or None where no body is expected. `self.body` is `None` after the last.
    fn take_body(&mut self, bytes: &[u8]) -> Option<usize> {
        match &mut self.body {
            Body::None => None,
            Body::Length(left) => {
                let used = (bytes.len() as u64).min(*left);
                *left -= used;
                self.received += used;
                if *left == 0 {
                    self.body = Body::None;
                }
                Some(used as usize)
            }
            Body::Chunked(at) => {
                let mut used = 0;
                while let Some(&byte) = bytes.get(used) {
                    used += 1;
                    *at = match *at {
                        Chunk::Size(n) | Chunk::Extension(n) if byte == b'\n' => {
                            if n == 0 {
                                Chunk::TrailerStart
                            } else {
                                Chunk::Data(n)
                            }
                        }
                        Chunk::Size(n) => match (byte as char).to_digit(16) {
                            Some(digit) => Chunk::Size(n << 4 | u64::from(digit)),
                            None => Chunk::Extension(n),
                        },
                        Chunk::Data(n) => {
                            let all = n.min((bytes.len() - used + 1) as u64);
                            used += all as usize - 1;
                            self.received += all;
                            if all == n { Chunk::DataEnd } else { Chunk::Data(n - all) }
                        }
                        Chunk::DataEnd if byte == b'\n' => Chunk::Size(0),
                        Chunk::TrailerStart if byte == b'\n' => {
                            self.body = Body::None;
                            return Some(used);
                        }
                        Chunk::TrailerStart if byte != b'\r' => Chunk::TrailerLine,
                        Chunk::TrailerLine if byte == b'\n' => Chunk::TrailerStart,
                        same => same,
                    };
                }
                Some(used)
            }
        }
    }
}

impl Out {
    /// What can be sent at once.
    fn piece<'a>(&'a self, filler: &'a [u8]) -> &'a [u8] {
        match self {
            Out::Ready(bytes) => bytes,
            Out::Made(bytes, _) => bytes,
            Out::More(left) => &filler[..filler.len().min(usize::try_from(*left).unwrap_or(usize::MAX))],
        }
    }

    /// How many body bytes follow that piece.
    fn left(&self, filler: &[u8]) -> u64 {
        match self {
            Out::Ready(_) => 0,
            Out::Made(_, more) => *more,
            Out::More(left) => left - self.piece(filler).len() as u64,
        }
    }
}

/// What a target asks for. None where its number is none.
fn asked(target: &[u8], head: &[u8]) -> Option<Answer> {
    if target.ends_with(b"?echo") {
        return Some(Answer::Echo(head.to_vec()));
    }
    if let Some(body) = target.strip_prefix(b"/part/").and_then(|rest| part(rest, head)) {
        return Some(Answer::Part(body));
    }
    let number = match memmem::find(target, b"bytes=").or_else(|| memmem::find(target, b"/bytes/").map(|at| at + 1)) {
        Some(at) => &target[at + 6..],
        None => return Some(Answer::Small),
    };
    let digits = number.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&number[..digits]).ok()?.parse().ok().map(Answer::Bytes)
}

/// How the body of a request is delimited (RFC 9112 section 6).
fn framing(head: &[u8]) -> Option<Body> {
    for line in head.split(|b| *b == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Some(Body::Chunked(Chunk::Size(0)));
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok()?.parse().ok()?;
            return Some(if length == 0 { Body::None } else { Body::Length(length) });
        }
    }
    Some(Body::None)
}

fn out(asked: Answer, ready_answers: &mut HashMap<u64, &'static [u8]>) -> Out {
    match asked {
        Answer::Small => Out::Ready(ready_answers.entry(128).or_insert_with(|| ready(128))),
        Answer::Echo(body) | Answer::Part(body) => Out::Made([head_of(body.len() as u64), body].concat(), 0),
        Answer::Bytes(n) => match ready_answers.get(&n) {
            Some(answer) => Out::Ready(answer),
            None if n <= PIECE as u64 && ready_answers.len() < READY_MAX => {
                let answer = ready(n as usize);
                ready_answers.insert(n, answer);
                Out::Ready(answer)
            }
            None => Out::Made(head_of(n), n),
        },
    }
}

/// The answer to a request with a body.
fn counted(received: u64) -> Out {
    let body = format!("{{\"received\":{received}}}");
    Out::Made([head_of(body.len() as u64), body.into_bytes()].concat(), 0)
}

fn head_of(length: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
        .into_bytes()
}

/// The JSON object of one part of an aggregation, `KIND/ID`: numbers, arrays and objects, so that reading it is work.
/// None where there is no such kind, or the ID would need escaping.
fn part(rest: &[u8], head: &[u8]) -> Option<Vec<u8>> {
    let slash = memchr::memchr(b'/', rest)?;
    let (kind, id) = (&rest[..slash], &rest[slash + 1..]);
    let (before, after): (&[u8], &[u8]) = match kind {
        b"user" => (
            b"{\"id\":\"",
            b"\",\"name\":\"Ada Lovelace\",\"tier\":\"gold\",\"age\":36,\"active\":true,\"home\":{\"city\":\"London\"},\"note\":\"",
        ),
        b"orders" => (
            b"{\"user\":\"",
            b"\",\"count\":2,\"items\":[{\"id\":71,\"total\":19.9},{\"id\":72,\"total\":-5e-1}],\"next\":null,\"note\":\"",
        ),
        b"permissions" => (
            b"{\"user\":\"",
            b"\",\"roles\":[\"reader\",\"editor\"],\"scopes\":[\"orders:read\",\"orders:write\"],\"admin\":false,\"note\":\"",
        ),
        _ => return None,
    };
    if id == b"echo" {
        let head = String::from_utf8_lossy(head);
        return serde_json::to_vec(&serde_json::json!({ "head": head })).ok();
    }
    if !id.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let mut body = Vec::with_capacity(PART);
    for piece in [before, id, after] {
        body.extend_from_slice(piece);
    }
    body.resize(body.len().max(PART - 2), b'x');
    body.extend_from_slice(b"\"}");
    Some(body)
}

/// `length` bytes of a JSON string.
fn body(length: usize) -> Vec<u8> {
    let mut body = vec![b'x'; length];
    if let [first, .., last] = body.as_mut_slice() {
        (*first, *last) = (b'"', b'"');
    }
    body
}

/// An answer with its head, kept for ever.
fn ready(length: usize) -> &'static [u8] {
    Box::leak([head_of(length as u64), body(length)].concat().into_boxed_slice())
}

/// Buffers that the kernel picks from when bytes arrive.
struct Provided {
    entries: *mut types::BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

#[allow(unsafe_code)] // both areas are leaked, every index is masked or comes from the kernel and is bounded by BUFFERS
impl Provided {
    fn register(ring: &IoUring) -> io::Result<Self> {
        let size = usize::from(BUFFERS) * size_of::<types::BufRingEntry>();
        // SAFETY: an anonymous mapping of its own: page-aligned and zeroed, as a buffer ring must be.
        let area = unsafe {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE);
            libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0)
        };
        if area == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory: &'static mut [u8] = Box::leak(vec![0; BUFFER * usize::from(BUFFERS)].into_boxed_slice());
        // SAFETY: the area is never unmapped.
        unsafe { ring.submitter().register_buf_ring(area as u64, BUFFERS, GROUP)? };
        let mut provided = Self { entries: area.cast(), memory: memory.as_mut_ptr(), tail: 0 };
        (0..BUFFERS).for_each(|id| provided.give_back(id));
        Ok(provided)
    }

    /// The bytes that the kernel put into buffer `id`.
    fn filled(&self, id: u16, length: usize) -> &'static [u8] {
        // SAFETY: the kernel filled `length` ≤ BUFFER bytes, and does not touch the buffer until it is given back.
        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id % BUFFERS) * BUFFER), length.min(BUFFER)) }
    }

    fn give_back(&mut self, id: u16) {
        // SAFETY: the slot at the tail is ours until the new tail is published, with release, for the kernel to see.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(self.memory.add(usize::from(id % BUFFERS) * BUFFER) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
