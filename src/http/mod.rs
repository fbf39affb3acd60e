//! HTTP as the gateway reads and writes it: bytes and limits in, bytes and decisions out. Nothing here does I/O.

pub mod authority;
pub mod cache_control;
pub mod encode;
pub mod error_form;
pub mod forwarded;
pub mod framing;
pub mod h1;
pub mod head;
pub mod known;
pub mod own;
pub mod proxy_protocol;
pub mod quota;
pub mod reply;
pub mod set_cookie;
pub mod target;
pub mod upgrade;
