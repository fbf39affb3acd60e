//! What the gateway has to say to its operator apart from the access log: single lines on standard error.

use std::fmt;
use std::io::Write;

/// Writes one line, in one write. A standard error that is closed or full must not stop anything, so failures are
/// ignored (`eprintln!` would panic).
pub(crate) fn report(message: fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(format!("ringway: {message}\n").as_bytes());
}
