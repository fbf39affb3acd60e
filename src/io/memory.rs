//! A connection in memory: two byte queues in one thread. Benches and tests of the exchange run on it, without a kernel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::buffers::Buf;

#[derive(Default)]
struct Queue {
    bytes: RefCell<VecDeque<u8>>,
    closed: Cell<bool>,
    reader: RefCell<Option<Waker>>,
}

/// One end of a connection in memory.
pub struct MemoryStream {
    incoming: Rc<Queue>,
    outgoing: Rc<Queue>,
}

/// Two connected ends.
pub fn pair() -> (MemoryStream, MemoryStream) {
    let (a, b) = (Rc::new(Queue::default()), Rc::new(Queue::default()));
    (MemoryStream { incoming: Rc::clone(&a), outgoing: Rc::clone(&b) }, MemoryStream { incoming: b, outgoing: a })
}

impl MemoryStream {
    pub(super) async fn read(&self, mut buf: Buf) -> (io::Result<usize>, Buf) {
        let n = poll_fn(|cx| {
            let mut bytes = self.incoming.bytes.borrow_mut();
            if bytes.is_empty() && !self.incoming.closed.get() {
                *self.incoming.reader.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let (front, _) = bytes.as_slices();
            let n = front.len().min(buf.spare());
            buf.extend(front.get(..n).unwrap_or_default());
            bytes.drain(..n);
            Poll::Ready(n)
        })
        .await;
        (Ok(n), buf)
    }

    pub(super) fn write(&self, buf: &Buf) -> io::Result<usize> {
        if self.outgoing.closed.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.outgoing.bytes.borrow_mut().extend(buf.bytes());
        if let Some(reader) = self.outgoing.reader.borrow_mut().take() {
            reader.wake();
        }
        Ok(buf.len())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.incoming.bytes.borrow().is_empty() && !self.incoming.closed.get()
    }

    pub(super) fn shut(&self, incoming: bool) {
        let queue = if incoming { &self.incoming } else { &self.outgoing };
        queue.closed.set(true);
        if let Some(reader) = queue.reader.borrow_mut().take() {
            reader.wake();
        }
    }

    /// Puts `bytes` where the other end reads them.
    pub fn send(&self, bytes: &[u8]) {
        self.outgoing.bytes.borrow_mut().extend(bytes);
        if let Some(reader) = self.outgoing.reader.borrow_mut().take() {
            reader.wake();
        }
    }

    /// Takes all bytes that have arrived; how many there were.
    pub fn drain(&self, into: &mut Vec<u8>) -> usize {
        let mut bytes = self.incoming.bytes.borrow_mut();
        // Not byte by byte: what a bench measures would mostly be this.
        let (front, back) = bytes.as_slices();
        into.extend_from_slice(front);
        into.extend_from_slice(back);
        let n = bytes.len();
        bytes.clear();
        n
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shut(false);
    }
}
