//! What a core writes about the requests it served.

pub mod access_log;
pub mod format;
pub mod line;
pub mod log_fields;
pub mod redact;
pub mod time;
