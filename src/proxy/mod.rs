//! The data plane: the life of a request, one step a file.
//!
//! 1. [`accept`]: one accept task per listener and core
//! 2. [`handshake`]: TLS, if the listener speaks it; so many at a time ([`gate`])
//! 3. [`connection`]: the keep-alive loop of one downstream connection (`idle` while no request has begun); it alone writes the final answer
//! 4. [`exchange`]: one request: [`receive`] its head, find the route, run the filters ([`wait`] for those that must), act; a body that this does not want is thrown away (`unwanted`)
//! 5. [`forward`]: of several upstreams one is chosen (`split`), [`checkout`] a connection to an endpoint, send ([`upload`]), hand the [`answer`] back as a body;
//!    [`aggregate`] the same, fanned out; what the gateway asks for itself is a [`call`]; a [`mirror`] gets a copy before that;
//!    where a filter says so, the answer is sent by [`compress`]
//! 6. [`retry`]: may it be sent again?
//! 7. [`tunnel`]: what is left of a request whose upstream has switched protocols, or that was a `connect`
//! 8. [`finish`]: exactly once per request: [`log`] line and metrics

pub mod accept;
pub mod aggregate;
pub mod answer;
pub mod call;
pub mod checkout;
pub mod compress;
mod connect;
pub mod connection;
pub mod exchange;
pub mod explain;
pub mod finish;
pub mod forward;
pub mod gate;
pub mod greet;
pub mod handshake;
mod idle;
pub mod log;
pub mod mirror;
pub mod plane;
mod plugins;
pub mod question;
pub mod receive;
pub mod retry;
mod split;
pub mod to_client;
pub mod tunnel;
mod unwanted;
pub mod upload;
pub mod upstream_head;
pub mod wait;
pub mod way_back;
mod write;
