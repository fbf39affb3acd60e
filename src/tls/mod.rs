//! Certificates, keys and what follows from them: which one a client gets, who a client is, how sessions are resumed.
//!
//! Files are read by control, at the start and when they change ([`files`]); the result is shared by all cores and never
//! changed ([`server`], [`client`]). Handshakes run on it without a lock of ours. No private key leaves this module: it is
//! in no error, no log and no debug output.

pub mod client;
pub mod files;
pub mod identity;
pub mod server;
pub mod tickets;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use client::{ClientFiles, Upstream};
pub use identity::{ClientIdentity, Session};
pub use server::{Listener, ServerFiles};

/// The lowest protocol version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static rustls::SupportedProtocolVersion] {
        static TLS13: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => &TLS13,
        }
    }
}

/// What the files of a config say now: for each listener and upstream of it, in their order.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// `None` for a listener without TLS.
    pub listeners: Vec<Option<Listener>>,
    /// For each core; none for an upstream without TLS.
    pub upstreams: Vec<Vec<Upstream>>,
    /// For the connection to Redis; `None` without TLS.
    pub redis: Option<Upstream>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
