//! One stream, two writers. With `2>&1`, and as systemd has it, what the gateway says goes where its access log goes: whoever
//! begins a line there has the turn until the line is whole, however long its reader lets it wait in the middle.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The turn at standard error.
pub(super) static STANDARD_ERROR: Turn = Turn::new();

/// Held by one writer at a time, who gives it back behind the end of a line.
#[derive(Debug)]
pub(super) struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    is_taken: bool,
    /// Somebody waits in [`Turn::take`].
    is_wanted: bool,
}

impl Turn {
    pub(super) const fn new() -> Self {
        Self { state: Mutex::new(State { is_taken: false, is_wanted: false }), changed: Condvar::new() }
    }

    /// Takes the turn without waiting. False if somebody has it, or waits for it: who asks again and again, as the access log
    /// does, would always be the first.
    pub(super) fn try_take(&self) -> bool {
        let mut state = self.state();
        let is_free = !state.is_taken && !state.is_wanted;
        state.is_taken |= is_free;
        is_free
    }

    /// Takes the turn as soon as it is free. One thread at most waits here.
    pub(super) fn take(&self) {
        let mut state = self.state();
        state.is_wanted = true;
        while state.is_taken {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state = State { is_taken: true, is_wanted: false };
    }

    /// Ends the caller's turn.
    pub(super) fn give_back(&self) {
        self.state().is_taken = false;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_wanted(&self) -> bool {
        self.state().is_wanted
    }
}
