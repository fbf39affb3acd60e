//! ringway
pub mod end;
pub mod error;
pub mod io;
pub mod http;
pub mod shared;
pub mod observe;
