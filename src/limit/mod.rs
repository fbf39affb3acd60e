//! Rate limits: a token bucket per key that holds across cores and machines, and a decision that waits for nothing.
//!
//! Three levels. Redis has the truth: a bucket per key, kept by one script. A process leases some of its tokens for a
//! second ([`Sync`], with the [process wallet](crate::shared::wallet) that its cores share), and a core takes a few of
//! those into its own ([`CoreWallet`]). Without Redis the process wallet is the bucket, exactly. What can pass at worst
//! is a formula ([`Promise`]); a simulation checks it.
//!
//! # How it is used
//!
//! The process makes one [`Table`](crate::shared::wallet::Table) per limit and keeps it by the limit's name and whether it
//! is shared, outside of any config. Each core makes one [`CoreWallet`] on it, control one [`Sync`] if the limit is shared. A config brings a
//! [`Spec`], which is plain numbers: a reload passes another one to the same wallets.
//!
//! ```
//! use std::sync::Arc;
//! use ringway::limit::{CoreWallet, Decision, Promise, Settings, Spec, Stamps, Sync};
//! use ringway::shared::wallet::Table;
//!
//! let spec = Spec::new(Settings::new(100, 1_000_000, 100).shared()).unwrap(); // 100/s, burst 100, through Redis
//! assert_eq!(Promise::new(spec, 4).bound(1_000_000), 273); // what `describe()` says in words
//!
//! let table = Arc::new(Table::new(100_000)); // keys at most; it says how many bytes it takes
//! let core = CoreWallet::new(Arc::clone(&table), 2); // on each of 2 cores
//! let mut control = Sync::new(Arc::clone(&table), 2);
//! control.heard(1_000_000, 4); // a heartbeat sent at 1 s was answered: 4 processes live
//!
//! // The filter. Time is µs since the process began, the same on all its threads.
//! match core.check(&spec, b"203.0.113.7", 1, 1_000_100) {
//!     Decision::Allow { remaining } => assert!(remaining < 100),
//!     Decision::Deny { retry_after_ms, .. } => panic!("429, {retry_after_ms} ms"),
//! }
//!
//! // Control, every 20 ms, or 5 ms after the last time when `table.is_urgent()`.
//! let mut stamps = Stamps::default(); // one per process
//! stamps.heard(1_700_000_000_000_000, 1_000_000); // Redis' clock, from the heartbeat
//! for ask in control.drain(&spec, 1_005_000, 1024) {
//!     let _keys_and_args = (ask.name, ask.args(), stamps.next(1_005_000)); // EVALSHA script.lua, 50 ms at most, once
//!     // The answer; without one: control.lost(&ask).
//!     control.apply(&spec, &ask, &ringway::limit::Answer { granted: 10, left: 89, wait_us: 0 }, 1_006_000);
//! }
//!
//! core.sweep(&spec, 1_030_000); // every few ms on each core: idle chunks go back
//! ```
//!
//! Redis being away needs no call: a core sees by itself that there was no answer for `away_after_us`, be it that Redis,
//! the network or control is stuck. Control sends a heartbeat every [`HEARTBEAT_US`](sync::HEARTBEAT_US) and tells
//! [`Sync::heard`]; for readiness and logs it may look at [`contact_us`](crate::shared::wallet::Table::contact_us).

pub mod bucket;
pub mod charges;
pub mod lease;
pub mod model;
mod pocket;
pub mod promise;
pub mod queue;
#[cfg(test)]
mod sim;
pub mod spec;
pub mod sync;
pub mod wallet;
mod words;

pub use promise::Promise;
pub use spec::{OnUnavailable, Settings, Spec};
pub use sync::{Answer, Ask, Stamps, Sync};
pub use wallet::CoreWallet;

/// The script that control runs in Redis.
pub const SCRIPT: &str = include_str!("script.lua");
/// The script that counts processes.
pub const HEARTBEAT: &str = include_str!("heartbeat.lua");

/// May it pass?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow {
        /// Tokens left at hand. For `RateLimit: r` see [`CoreWallet::check_and_tell`], for `t` [`Spec::reset_ms`].
        remaining: u64,
    },
    /// No.
    Deny {
        /// When to try again, in ms. `Retry-After` is this in seconds, rounded up.
        retry_after_ms: u64,
        /// Tokens left, fewer than the request costs.
        remaining: u64,
    },
}

impl Decision {
    /// Whether it may pass.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow { .. })
    }
}
