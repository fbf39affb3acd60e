//! ringway: an API gateway for Linux. One process, one pinned, shared-nothing io_uring runtime per core.

pub mod config;
pub mod context;
pub mod control;
pub mod core;
pub mod end;
pub mod error;
pub mod filter;
pub mod http;
pub mod io;
pub mod observe;
pub mod proxy;
pub mod request;
pub mod route;
pub mod shared;
pub mod snapshot;
pub mod upstream;
pub mod value;
pub mod worker;
