//! Owned I/O buffers and the per-core free lists they come from.
//!
//! io_uring needs buffers by ownership: the kernel writes into them while the task is away. A [`Buf`] is a `Vec` with a
//! read cursor, so a read appends after what is there and a write sends what is left, without slices that allocate.
#![allow(unsafe_code)] // IoBuf and IoBufMut are unsafe traits: the kernel gets raw pointers into the Vec.

use std::cell::RefCell;

use monoio::buf::{IoBuf, IoBufMut};

/// Smallest class: what an idle keep-alive connection holds.
pub const IDLE_BYTES: usize = 1024;
/// What an upstream's answer is read into first: heads and small bodies fit.
pub const ANSWER_BYTES: usize = 8 * 1024;
/// What large bodies pass through; 64 KiB reads cost 0.84 × HAProxy at 256 KiB answers, 16 KiB ones more than it.
pub const BODY_BYTES: usize = 64 * 1024;
/// Room before a body's bytes for a chunk-size line (16 hex digits and CRLF), so that a chunk leaves in one write.
pub const HEADROOM: usize = 18;
/// Room after a body's bytes for CRLF and the last chunk.
pub const TAILROOM: usize = 16;

const SMALLEST_SHIFT: u32 = IDLE_BYTES.trailing_zeros();
const CLASSES: usize = 8; // 1 to 64 KiB, and 128 KiB for a body buffer's worth of TLS records
/// A free list keeps at most this many bytes per class: beyond it, memory goes back to the allocator.
const FREE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes `start..len` of one allocation; a read appends, a write sends what is left.
#[derive(Default)]
pub struct Buf {
    mem: Vec<u8>,
    start: usize,
    limit: usize,
}

impl Buf {
    /// A buffer of at least `capacity` bytes, not from any free list.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from_vec(Vec::with_capacity(capacity))
    }

    fn from_vec(mem: Vec<u8>) -> Self {
        let limit = mem.capacity();
        Self { mem, start: 0, limit }
    }

    /// The bytes between the cursors.
    pub fn bytes(&self) -> &[u8] {
        self.mem.get(self.start..).unwrap_or_default()
    }

    /// The bytes between the cursors, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.mem.get_mut(self.start..).unwrap_or_default()
    }

    /// Bytes between the cursors.
    pub fn len(&self) -> usize {
        self.mem.len() - self.start
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the allocation.
    pub fn capacity(&self) -> usize {
        self.mem.capacity()
    }

    /// Bytes a read may still append.
    pub fn spare(&self) -> usize {
        self.limit.saturating_sub(self.mem.len())
    }

    /// Forgets `n` bytes at the front (fewer if fewer are there).
    pub fn consume(&mut self, n: usize) {
        self.start += n.min(self.len());
        if self.start == self.mem.len() && self.limit == self.mem.capacity() {
            self.clear();
        }
    }

    /// The last `n` bytes, to be changed in place.
    pub fn last_mut(&mut self, n: usize) -> &mut [u8] {
        let from = self.len().saturating_sub(n);
        self.bytes_mut().get_mut(from..).unwrap_or_default()
    }

    /// Keeps only the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        self.mem.truncate(self.start + n);
    }

    /// Forgets everything, and any reserve.
    pub fn clear(&mut self) {
        self.mem.clear();
        self.start = 0;
        self.limit = self.mem.capacity();
    }

    /// Empties the buffer and sets room aside before and after the next read: see [`Buf::prepend`].
    pub fn reserve_ends(&mut self) {
        self.mem.clear();
        self.mem.resize(HEADROOM, 0);
        self.start = HEADROOM;
        self.limit = self.mem.capacity().saturating_sub(TAILROOM).max(HEADROOM);
    }

    /// Room before the bytes.
    pub fn headroom(&mut self) -> &mut [u8] {
        let start = self.start;
        self.mem.get_mut(..start).unwrap_or_default()
    }

    /// Takes the last `n` bytes of the headroom, written there before, into the bytes.
    pub fn prepend(&mut self, n: usize) {
        self.start -= n.min(self.start);
    }

    /// Appends (may use the reserve at the end; grows the allocation if even that is full).
    pub fn extend(&mut self, bytes: &[u8]) {
        self.mem.extend_from_slice(bytes);
        self.limit = self.limit.max(self.mem.len()).min(self.mem.capacity());
    }

    /// Lets `write` fill the room that a read would have, and takes in as many bytes as it says.
    ///
    /// # Errors
    /// That of `write`, and nothing is taken in.
    pub fn fill<T, E>(&mut self, write: impl FnOnce(&mut [u8]) -> Result<(usize, T), E>) -> Result<T, E> {
        let before = self.mem.len();
        self.mem.resize(self.limit.max(before), 0);
        let written = write(self.mem.get_mut(before..).unwrap_or_default());
        let n = written.as_ref().map_or(0, |(n, _)| *n);
        self.mem.truncate(before + n);
        written.map(|(_, told)| told)
    }

    /// The whole allocation as a `Vec` to append to; only for a buffer whose cursor is at its start.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        debug_assert_eq!(self.start, 0);
        &mut self.mem
    }

    /// The capacity to grow to when a read finds no room: by what is still there, not by what has been consumed before
    /// it, so that a long pipeline does not grow its buffer.
    pub fn larger(&self) -> usize {
        (self.len() + IDLE_BYTES).next_power_of_two()
    }

    /// Moves the bytes into an allocation of at least `capacity`, to its front.
    pub fn grow(&mut self, capacity: usize, buffers: &Buffers) {
        let mut larger = buffers.take(capacity);
        larger.mem.extend_from_slice(self.bytes());
        buffers.give(std::mem::replace(self, larger));
    }
}

// SAFETY: the pointers stay valid while the Buf is owned by the operation: moving a Buf does not move its heap memory,
// and nothing else can reach it. `start ≤ mem.len() ≤ limit ≤ capacity` except for a len grown by `extend`, for which
// `spare` saturates to zero.
unsafe impl IoBuf for Buf {
    fn read_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; `set_init(n)` gets what the kernel wrote behind the present bytes, never more than `bytes_total`.
unsafe impl IoBufMut for Buf {
    fn write_ptr(&mut self) -> *mut u8 {
        self.mem.spare_capacity_mut().as_mut_ptr().cast()
    }

    fn bytes_total(&mut self) -> usize {
        self.spare()
    }

    unsafe fn set_init(&mut self, n: usize) {
        let len = self.mem.len() + n;
        // SAFETY: the kernel initialised n bytes at `write_ptr`.
        unsafe { self.mem.set_len(len) };
    }
}

/// A core's free buffers, one list per power of two from 1 to 128 KiB.
pub struct Buffers {
    free: [RefCell<Vec<Vec<u8>>>; CLASSES],
}

impl Default for Buffers {
    fn default() -> Self {
        Self { free: std::array::from_fn(|_| RefCell::new(Vec::new())) }
    }
}

impl Buffers {
    /// An empty buffer of at least `bytes`, from the free list of its class if it has one.
    pub fn take(&self, bytes: usize) -> Buf {
        let size = bytes.next_power_of_two().max(IDLE_BYTES);
        let recycled = self.free.get(class_of(size)).and_then(|list| list.borrow_mut().pop());
        Buf::from_vec(recycled.unwrap_or_else(|| Vec::with_capacity(size)))
    }

    /// Takes a buffer back for the next user; drops it when its list is full or it is of no class.
    pub fn give(&self, mut buf: Buf) {
        let capacity = buf.mem.capacity();
        if !capacity.is_power_of_two() {
            return; // an empty default, or one grown by hand
        }
        if let Some(list) = self.free.get(class_of(capacity)).filter(|_| capacity >= IDLE_BYTES) {
            let mut list = list.borrow_mut();
            if (list.len() + 1) * capacity <= FREE_BYTES_MAX {
                buf.mem.clear();
                list.push(buf.mem);
            }
        }
    }
}

fn class_of(size: usize) -> usize {
    (size.trailing_zeros().saturating_sub(SMALLEST_SHIFT)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_appends_and_never_overwrites_what_is_there() {
        let mut buf = Buf::with_capacity(16);
        buf.extend(b"abc");
        assert_eq!(buf.bytes_total(), 13);
        // SAFETY: the byte is written before it is declared initialised.
        unsafe {
            buf.write_ptr().write(b'd');
            buf.set_init(1);
        }
        assert_eq!(buf.bytes(), b"abcd");
        buf.consume(2);
        assert_eq!(buf.bytes(), b"cd");
        buf.consume(9);
        assert!(buf.is_empty());
        assert_eq!(buf.spare(), buf.capacity(), "an emptied buffer starts over");
    }

    #[test]
    fn a_chunk_line_fits_before_and_after_a_full_read() {
        let mut buf = Buf::with_capacity(64);
        buf.reserve_ends();
        let spare = buf.spare();
        assert_eq!(spare, buf.capacity() - HEADROOM - TAILROOM);
        buf.extend(&vec![b'x'; spare]);
        assert_eq!(buf.spare(), 0);
        let room = buf.headroom();
        let end = room.len();
        room[end - 4..].copy_from_slice(b"1e\r\n");
        buf.prepend(4);
        buf.extend(b"\r\n0\r\n\r\n");
        assert_eq!(buf.capacity(), 64, "no growth");
        assert!(buf.bytes().starts_with(b"1e\r\nxxx"));
        buf.clear();
        assert_eq!(buf.spare(), 64);
    }

    #[test]
    fn consumed_bytes_do_not_make_a_buffer_grow() {
        let buffers = Buffers::default();
        let mut buf = buffers.take(8192);
        for _ in 0..100 {
            let spare = buf.spare();
            buf.extend(&vec![b'x'; spare]);
            buf.consume(buf.len() - 100);
            let larger = buf.larger();
            buf.grow(larger, &buffers);
            assert!(buf.spare() > 0 && buf.capacity() <= 8192 && buf.len() == 100);
        }
    }

    #[test]
    fn buffers_return_to_their_class_and_the_list_is_bounded() {
        let buffers = Buffers::default();
        let first = buffers.take(1500);
        assert_eq!(first.capacity(), 2048);
        let at = first.mem.as_ptr();
        buffers.give(first);
        assert_eq!(buffers.take(2048).mem.as_ptr(), at);
        for _ in 0..100 {
            buffers.give(Buf::with_capacity(BODY_BYTES));
        }
        let kept = buffers.free[class_of(BODY_BYTES)].borrow().len();
        assert_eq!(kept * BODY_BYTES, FREE_BYTES_MAX);
    }
}
