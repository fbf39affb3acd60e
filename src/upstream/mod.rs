//! Policy of upstreams: which endpoint to ask, which idle connection to use again. No I/O, and no clock.

pub mod balance;
pub mod endpoint;
pub mod last_good;
pub mod pool;
pub mod random;
pub mod split;
