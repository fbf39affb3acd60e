//! Futures that live in recycled boxes: the memory of a request's exchange is a core's, not a connection's.
//!
//! An idle keep-alive connection then holds only its own small future; no allocation is made per request.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

/// Boxes kept for the next request; more than this many concurrent requests go through the allocator.
const FREE_MAX: usize = 256;

/// A free list of boxes for futures of one type.
pub struct Recycler<F> {
    free: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

impl<F> Default for Recycler<F> {
    fn default() -> Self {
        Self { free: RefCell::default() }
    }
}

impl<F: Future> Recycler<F> {
    /// Runs `future` in a recycled box. If this call is dropped, so is `future`.
    pub async fn run(&self, future: F) -> F::Output {
        let mut place = self.free.borrow_mut().pop().unwrap_or_else(|| Box::pin(None));
        place.as_mut().set(Some(future));
        let output = match place.as_mut().as_pin_mut() {
            Some(future) => future.await,
            None => std::future::pending().await, // it was set two lines above
        };
        place.as_mut().set(None);
        let mut free = self.free.borrow_mut();
        if free.len() < FREE_MAX {
            free.push(place);
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn the_box_is_used_again() {
        async fn echo(n: u32) -> u32 {
            n
        }
        let recycler = Recycler::default();
        for n in 0..3 {
            let mut run = std::pin::pin!(recycler.run(echo(n)));
            assert_eq!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(n));
        }
        assert_eq!(recycler.free.borrow().len(), 1);
    }
}
