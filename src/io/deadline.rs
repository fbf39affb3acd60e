//! Deadlines as a table, not timers: one due time per waiting unit, set by one store, scanned every few milliseconds.
//!
//! A timer per operation costs 110 ns; a store and a flag cost 5. Earlier and later deadlines cost the same. The table
//! also knows which units wait for an upstream on behalf of which client socket, so that clients that left are found by
//! one `poll(2)` for many ([`Deadlines::sweep`]).
#![allow(unsafe_code)] // pin projection comes from pin_project_lite; poll(2) takes raw descriptors

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// The table is scanned at least this often, in ms, and when the next deadline is due: a deadline that was set less than
/// this before it is due may fire this late, any other within a millisecond or two.
pub const TICK_MS: u64 = 4;
/// A client is looked at once its request has waited this long for an upstream, and as often again, in ms.
const SWEEP_AFTER_MS: u64 = 50;
/// Sockets per `poll(2)`: 256 take about 15 µs.
const SWEEP_MAX: usize = 256;
const NEVER: u64 = u64::MAX;
const NO_FD: RawFd = -1;

/// Why a guarded operation was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Its due time passed.
    Deadline,
    /// The client it works for has left.
    Gone,
    /// The process ends: nothing waits any longer.
    Shutdown,
}

#[derive(Clone, Copy)]
struct Watch {
    fd: RawFd,
    next_ms: u64,
    half_close_is_gone: bool,
}

const UNWATCHED: Watch = Watch { fd: NO_FD, next_ms: NEVER, half_close_is_gone: true };

#[derive(Default)]
struct State {
    fired: Option<Fired>,
    waker: Option<Waker>,
}

/// A core's deadlines.
pub struct Deadlines {
    now_ms: Cell<u64>,
    due: RefCell<Vec<u64>>,
    watch: RefCell<Vec<Watch>>,
    states: RefCell<Vec<State>>,
    free: RefCell<Vec<u32>>,
    sweep_from: Cell<usize>,
    over: Cell<bool>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            now_ms: Cell::new(0),
            due: RefCell::default(),
            watch: RefCell::default(),
            states: RefCell::default(),
            free: RefCell::default(),
            sweep_from: Cell::new(0),
            over: Cell::new(false),
        }
    }
}

impl Deadlines {
    /// A place in the table for one waiting unit.
    pub fn slot(self: &Rc<Self>) -> Slot {
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut due = self.due.borrow_mut();
            due.push(NEVER);
            self.watch.borrow_mut().push(UNWATCHED);
            self.states.borrow_mut().push(State::default());
            u32::try_from(due.len() - 1).unwrap_or(u32::MAX)
        });
        Slot { table: Rc::clone(self), index: index as usize }
    }

    /// Milliseconds since the process began, as of the last scan or [`Deadlines::set_now`]: at most a tick old. Deadlines
    /// are set from it, which saves reading the clock for each of them.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Sets the time without a scan, when a core that was quiet gets work.
    pub fn set_now(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
    }

    /// Fires what is due at `now_ms`. When the next one will be.
    pub fn scan(&self, now_ms: u64) -> u64 {
        self.set_now(now_ms);
        let mut next_ms = NEVER;
        let mut due = self.due.borrow_mut();
        for (index, at) in due.iter_mut().enumerate() {
            if *at <= now_ms {
                *at = NEVER;
                self.fire(index, Fired::Deadline);
            }
            next_ms = next_ms.min(*at);
        }
        next_ms
    }

    /// Looks at the client sockets of units that have waited long, and fires those whose client has left. FIN behind
    /// unread bytes and RST are both seen, and nothing is read.
    pub fn sweep(&self, now_ms: u64) {
        let mut watch = self.watch.borrow_mut();
        if watch.is_empty() {
            return;
        }
        let mut indexes: Vec<usize> = Vec::new();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let count = watch.len();
        let from = self.sweep_from.get() % count;
        for step in 0..count {
            let index = (from + step) % count;
            let Some(entry) = watch.get_mut(index) else { continue };
            if entry.fd == NO_FD || entry.next_ms > now_ms {
                continue;
            }
            if fds.len() == SWEEP_MAX {
                self.sweep_from.set(index);
                break;
            }
            entry.next_ms = now_ms.saturating_add(SWEEP_AFTER_MS);
            let flags = if entry.half_close_is_gone { PollFlags::RDHUP } else { PollFlags::empty() };
            // SAFETY: a watch ends before its stream is closed (Slot::unwatch, and Slot's drop), so the fd is open.
            let fd = unsafe { BorrowedFd::borrow_raw(entry.fd) };
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            indexes.push(index);
        }
        if fds.is_empty() || !poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0) {
            return;
        }
        for (polled, index) in fds.iter().zip(indexes) {
            if polled.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
                self.fire(index, Fired::Gone);
            }
        }
    }

    /// Gives up everything that waits.
    pub fn fire_all(&self) {
        self.over.set(true);
        let count = self.due.borrow().len();
        for index in 0..count {
            self.fire(index, Fired::Shutdown);
        }
    }

    /// Whether everything was given up: what never stops of itself must look.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    fn fire(&self, index: usize, why: Fired) {
        let mut states = self.states.borrow_mut();
        if let Some(state) = states.get_mut(index) {
            state.fired = Some(why);
            if let Some(waker) = state.waker.take() {
                waker.wake(); // only queues the task: it can not come back into the table here
            }
        }
    }
}

/// One waiting unit's place in the table; given back on drop.
pub struct Slot {
    table: Rc<Deadlines>,
    index: usize,
}

impl Slot {
    /// Sets the due time (ms since the process began) and forgets what fired before.
    pub fn arm(&self, due_ms: u64) {
        if let Some(due) = self.table.due.borrow_mut().get_mut(self.index) {
            *due = due_ms;
        }
        if let Some(state) = self.table.states.borrow_mut().get_mut(self.index) {
            // A client that left stays gone; the others are per operation.
            if state.fired != Some(Fired::Gone) {
                state.fired = None;
            }
        }
    }

    /// Milliseconds since the process began, as of the last scan.
    pub fn now_ms(&self) -> u64 {
        self.table.now_ms()
    }

    /// From now on this unit works for the client behind `fd`: its leaving fires [`Fired::Gone`].
    pub fn watch(&self, fd: RawFd, half_close_is_gone: bool) {
        let next_ms = self.table.now_ms().saturating_add(SWEEP_AFTER_MS);
        self.set_watch(Watch { fd, next_ms, half_close_is_gone });
    }

    /// Ends the watch, and forgets that the client left if that was seen.
    pub fn unwatch(&self) {
        self.set_watch(UNWATCHED);
        if let Some(state) = self.table.states.borrow_mut().get_mut(self.index) {
            state.fired = None;
        }
    }

    fn set_watch(&self, watch: Watch) {
        if let Some(entry) = self.table.watch.borrow_mut().get_mut(self.index) {
            *entry = watch;
        }
    }

    fn poll_fired(&self, cx: &Context<'_>) -> Poll<Fired> {
        let mut states = self.table.states.borrow_mut();
        let Some(state) = states.get_mut(self.index) else { return Poll::Pending };
        if let Some(why) = state.fired {
            return Poll::Ready(why);
        }
        // The task of a connection is the same for all its operations: the waker is cloned once.
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.arm(NEVER);
        self.set_watch(UNWATCHED);
        if let Some(state) = self.table.states.borrow_mut().get_mut(self.index) {
            *state = State::default();
        }
        self.table.free.borrow_mut().push(u32::try_from(self.index).unwrap_or(u32::MAX));
    }
}

pin_project_lite::pin_project! {
    /// See [`guard`].
    pub struct Guard<'a, F> {
        slot: &'a Slot,
        #[pin]
        op: F,
    }
}

/// Runs `op` until it is done, `due_ms` passes, or the watched client leaves. After it fired, the stream the operation
/// was on must be closed: bytes that had arrived may be lost (a write on it is still allowed).
pub fn guard<F: Future>(slot: &Slot, due_ms: u64, op: F) -> Guard<'_, F> {
    slot.arm(due_ms);
    Guard { slot, op }
}

impl<F: Future> Future for Guard<'_, F> {
    type Output = Result<F::Output, Fired>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.op.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        this.slot.poll_fired(cx).map(Err)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn fires_at_its_due_time_and_not_before() {
        let table = Rc::new(Deadlines::default());
        let slot = table.slot();
        let mut op = std::pin::pin!(guard(&slot, 100, pending::<()>()));
        table.scan(99);
        assert!(poll_once(op.as_mut()).is_pending());
        table.scan(100);
        assert_eq!(poll_once(op.as_mut()), Poll::Ready(Err(Fired::Deadline)));
    }

    #[test]
    fn a_result_wins_over_a_deadline_and_a_later_operation_starts_fresh() {
        let table = Rc::new(Deadlines::default());
        let slot = table.slot();
        table.scan(50);
        assert_eq!(poll_once(std::pin::pin!(guard(&slot, 10, ready(7)))), Poll::Ready(Ok(7)));
        table.scan(60);
        let mut next = std::pin::pin!(guard(&slot, 200, pending::<()>()));
        assert!(poll_once(next.as_mut()).is_pending());
    }

    #[test]
    fn a_core_that_runs_for_months_keeps_time() {
        let table = Rc::new(Deadlines::default());
        let (slot, unarmed) = (table.slot(), table.slot());
        let now_ms = u64::from(u32::MAX) + 5; // 49.7 days
        let mut op = std::pin::pin!(guard(&slot, now_ms + 10, pending::<()>()));
        let mut other = std::pin::pin!(guard(&unarmed, NEVER, pending::<()>()));
        assert_eq!(table.scan(now_ms), now_ms + 10, "when the next one is due");
        assert!(poll_once(op.as_mut()).is_pending() && poll_once(other.as_mut()).is_pending());
        table.scan(now_ms + 10);
        assert_eq!(poll_once(op.as_mut()), Poll::Ready(Err(Fired::Deadline)));
        assert!(poll_once(other.as_mut()).is_pending());
    }

    #[test]
    fn places_are_reused() {
        let table = Rc::new(Deadlines::default());
        let first = table.slot();
        let index = first.index;
        first.arm(5);
        drop(first);
        table.scan(10);
        let second = table.slot();
        assert_eq!(second.index, index);
        assert!(poll_once(std::pin::pin!(guard(&second, 100, pending::<()>()))).is_pending(), "nothing inherited");
    }

    #[test]
    fn sweep_sees_a_fin_behind_unread_bytes_and_reads_nothing() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let table = Rc::new(Deadlines::default());
        let slot = table.slot();
        slot.watch(ours.as_raw_fd(), true);
        theirs.write_all(b"pipelined").unwrap();
        table.sweep(SWEEP_AFTER_MS);
        let mut op = std::pin::pin!(guard(&slot, NEVER, pending::<()>()));
        assert!(poll_once(op.as_mut()).is_pending(), "bytes are not a departure");
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        table.sweep(SWEEP_AFTER_MS * 2 - 1);
        assert!(poll_once(op.as_mut()).is_pending(), "looked at every 50 ms only");
        table.sweep(SWEEP_AFTER_MS * 2);
        assert_eq!(poll_once(op.as_mut()), Poll::Ready(Err(Fired::Gone)));
        let mut bytes = [0; 16];
        assert_eq!(std::io::Read::read(&mut &ours, &mut bytes).unwrap(), 9);
    }

    #[test]
    fn half_close_is_no_departure_when_the_listener_answers_it() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let table = Rc::new(Deadlines::default());
        let slot = table.slot();
        slot.watch(ours.as_raw_fd(), false);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        table.sweep(SWEEP_AFTER_MS);
        let mut op = std::pin::pin!(guard(&slot, NEVER, pending::<()>()));
        assert!(poll_once(op.as_mut()).is_pending());
        drop(theirs);
        table.sweep(SWEEP_AFTER_MS * 2);
        assert_eq!(poll_once(op.as_mut()), Poll::Ready(Err(Fired::Gone)));
    }
}
