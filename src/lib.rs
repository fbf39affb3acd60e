//! ringway: an API gateway for Linux. One process, one pinned, shared-nothing runtime per core on io_uring.
//!
//! # The life of a request
//!
//! A worker ([`worker`]) is a pinned thread with a runtime, its own listening sockets, its own copy of the rules
//! ([`snapshot`]) and its own upstream connections. A connection is accepted ([`proxy::accept`]) and served until it
//! ends ([`proxy::connection`]). Of each request the head is read and decided once ([`proxy::receive`]), its route is
//! found ([`route::Router::find`]), its filters run ([`filter`]), and its action answers it ([`proxy::exchange`]):
//! most are forwarded ([`proxy::forward`]), and the answer is streamed back ([`proxy::answer`]); some are fanned out, and
//! the answers put together ([`proxy::aggregate`]); and where the upstream switches to another protocol the connection becomes a
//! tunnel ([`proxy::tunnel`]). Then one log line is written and everything is counted, exactly once
//! ([`proxy::finish`]).
//!
//! # Two planes
//!
//! The data plane waits for clients and upstreams only; everything that may wait longer is [`control`]'s: names,
//! signals, the admin API, the log's file. They meet in [`shared`], one small file per meeting point.
//!
//! # The import rule
//!
//! Each layer knows only the ones before it, and siblings do not know each other:
//! `value error end socket text` · `expression` · `io http json shared observe` · `tls limit coding` · `jwt` · `context route upstream` · `request` · `core` · `plugin` · `filter` · `config` ·
//! `snapshot` · `proxy | control` · `worker` · `cli` · `run` · `main`. Proxy code never names tokio, control never names monoio, and
//! monoio is named under `io` alone. A test checks it.
//!
//! ```
//! let text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ match: { path: /a }, respond: { body: hello } }]";
//! let config = ringway::config::parse("example.yaml", text, &|_| None).unwrap();
//! assert_eq!(config.routes.len(), 1);
//!
//! let wrong = ringway::config::parse("example.yaml", "listenrs: []", &|_| None).unwrap_err();
//! assert!(wrong.to_string().starts_with("example.yaml:1:1: "), "{wrong}");
//! ```

mod cli;
pub mod coding;
pub mod config;
pub mod context;
pub mod control;
pub mod core;
pub mod end;
pub mod error;
pub mod expression;
pub mod filter;
pub mod http;
pub mod io;
pub mod json;
pub mod jwt;
pub mod limit;
pub mod observe;
pub mod plugin;
pub mod proxy;
pub mod request;
pub mod route;
mod run;
pub mod shared;
pub mod snapshot;
pub mod socket;
pub mod text;
pub mod tls;
pub mod upstream;
pub mod value;
pub mod worker;

/// The allocator that ringway is measured with: `#[global_allocator]` of a gateway's `main`.
pub use mimalloc::MiMalloc as Allocator;
pub use run::run;
