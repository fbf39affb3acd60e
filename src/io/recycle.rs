//! Futures that live in recycled boxes: the memory of a request's exchange is a core's, not a connection's.
//!
//! An idle keep-alive connection then holds only its own small future; no allocation is made per request.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Boxes kept for the next request; more than this many concurrent requests go through the allocator.
const FREE_MAX: usize = 256;

/// A recycled box: pinned once, filled and emptied in place.
type Place<F> = Pin<Box<Option<F>>>;

/// A free list of boxes for futures of one type.
pub struct Recycler<F> {
    free: RefCell<Vec<Place<F>>>,
}

impl<F> Default for Recycler<F> {
    fn default() -> Self {
        Self { free: RefCell::default() }
    }
}

impl<F: Future> Recycler<F> {
    /// Makes a future in a recycled box, and runs it there. It is made by a function and not handed over, so that the
    /// caller's own future never has room for it. If the returned future is dropped, so is the one that runs.
    pub fn run(&self, make: impl FnOnce() -> F) -> Running<'_, F> {
        let mut place = self.free.borrow_mut().pop().unwrap_or_else(|| Box::pin(None));
        place.as_mut().set(Some(make()));
        Running { place: Some(place), recycler: self }
    }
}

/// See [`Recycler::run`].
pub struct Running<'a, F> {
    place: Option<Place<F>>,
    recycler: &'a Recycler<F>,
}

impl<F: Future> Future for Running<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = self.place.as_mut().and_then(|place| place.as_mut().as_pin_mut()) else {
            return Poll::Pending; // polled again after it was done
        };
        let Poll::Ready(output) = future.poll(cx) else { return Poll::Pending };
        if let Some(mut place) = self.place.take() {
            place.as_mut().set(None);
            let mut free = self.recycler.free.borrow_mut();
            if free.len() < FREE_MAX {
                free.push(place);
            }
        }
        Poll::Ready(output)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    async fn echo(n: u32) -> u32 {
        n
    }

    #[test]
    fn the_box_is_used_again() {
        let recycler = Recycler::default();
        for n in 0..3 {
            let mut run = std::pin::pin!(recycler.run(|| echo(n)));
            assert_eq!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(n));
        }
        assert_eq!(recycler.free.borrow().len(), 1);
    }

    #[test]
    fn the_caller_carries_a_pointer_not_the_future() {
        async fn large() -> usize {
            let bytes = [7_u8; 4096];
            echo(1).await;
            bytes.len()
        }
        let recycler = Recycler::default();
        assert!(size_of_val(&recycler.run(large)) <= 2 * size_of::<usize>());
    }
}
