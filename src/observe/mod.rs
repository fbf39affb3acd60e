//! What a core writes about the requests it served.

pub mod access_log;
pub mod log_fields;
