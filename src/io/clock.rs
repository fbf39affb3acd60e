//! What the kernel knows of its clock.
#![allow(unsafe_code)] // adjtimex has no safe wrapper here

/// Whether something keeps the clock right, by what it told the kernel; `None` where that can not be asked.
pub fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: a timex of zeros is a valid one, which asks and sets nothing (`modes` is 0).
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: it points to a timex that lives as long as the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state != -1).then_some(state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0)
}
