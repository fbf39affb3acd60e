//! So many at a time; the others wait in the order they came.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A door that lets a bounded number through at a time.
#[derive(Default)]
pub struct Gate {
    inside: Cell<usize>,
    next: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
}

/// Being inside; leaving on drop.
pub struct Inside(Rc<Gate>);

impl Gate {
    /// Waits until fewer than `max` are inside. Whoever gives up waiting loses nothing for the others.
    pub fn enter(self: &Rc<Self>, max: usize) -> Enter {
        Enter { gate: Rc::clone(self), max: max.max(1), place: None }
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.get()
    }

    fn wake_first(&self) {
        // It leaves the queue when it enters, or gives up: a waiter that is gone never holds up the rest.
        if let Some((_, waker)) = self.waiting.borrow().front() {
            waker.wake_by_ref();
        }
    }

    fn forget(&self, place: u64) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(index) = waiting.iter().position(|(other, _)| *other == place) {
            waiting.remove(index);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get().saturating_sub(1));
        self.0.wake_first();
    }
}

/// See [`Gate::enter`].
pub struct Enter {
    gate: Rc<Gate>,
    max: usize,
    place: Option<u64>,
}

impl Future for Enter {
    type Output = Inside;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Inside> {
        let gate = Rc::clone(&self.gate);
        let is_first = gate.waiting.borrow().front().is_none_or(|(place, _)| Some(*place) == self.place);
        if is_first && gate.inside.get() < self.max {
            gate.inside.set(gate.inside.get() + 1);
            if let Some(place) = self.place.take() {
                gate.forget(place);
            }
            if gate.inside.get() < self.max {
                gate.wake_first();
            }
            return Poll::Ready(Inside(gate));
        }
        let mut waiting = gate.waiting.borrow_mut();
        match self.place {
            Some(mine) => {
                if let Some((_, waker)) = waiting.iter_mut().find(|(place, _)| *place == mine) {
                    waker.clone_from(cx.waker());
                }
            }
            None => {
                let place = gate.next.get();
                gate.next.set(place + 1);
                waiting.push_back((place, cx.waker().clone()));
                drop(waiting);
                self.place = Some(place);
            }
        }
        Poll::Pending
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.gate.forget(place);
            self.gate.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(enter: &mut Enter) -> Poll<Inside> {
        Pin::new(enter).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn no_more_than_the_bound_are_inside_and_the_rest_enter_in_order() {
        let gate = Rc::new(Gate::default());
        let (mut a, mut b, mut c) = (gate.enter(1), gate.enter(1), gate.enter(1));
        let Poll::Ready(inside) = poll(&mut a) else { panic!("the first enters") };
        assert!(poll(&mut b).is_pending() && poll(&mut c).is_pending());
        drop(inside);
        assert!(poll(&mut c).is_pending(), "b came before");
        let Poll::Ready(inside) = poll(&mut b) else { panic!("b enters") };
        assert_eq!(gate.inside(), 1);
        drop(inside);
        assert!(poll(&mut c).is_ready());
    }

    #[test]
    fn whoever_gives_up_makes_room_in_the_queue() {
        let gate = Rc::new(Gate::default());
        let (mut a, mut b, mut c) = (gate.enter(1), gate.enter(1), gate.enter(1));
        let Poll::Ready(inside) = poll(&mut a) else { panic!("the first enters") };
        assert!(poll(&mut b).is_pending() && poll(&mut c).is_pending());
        drop(b);
        drop(inside);
        assert!(poll(&mut c).is_ready());
        assert_eq!(gate.waiting.borrow().len(), 0);
    }
}
