//! `observe` and `admin`: what the gateway tells about itself, and where.

use std::net::SocketAddr;

use super::access_log::{self, AccessLog};
use super::decode::{Keys, Value};
use super::hosts;

pub(super) const OBSERVE_KEYS: Keys = Keys { known: &["access_log"], later: &[("tracing", "tracing")] };
pub(super) const ADMIN_KEYS: Keys = Keys { known: &["address"], later: &[] };

/// What the gateway tells about requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observe {
    /// A line per request.
    pub access_log: AccessLog,
}

/// Where the admin API listens unless the config says otherwise.
pub fn default_admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9900))
}

/// The `observe` block.
pub(super) fn decode(value: &Value<'_>) -> Option<Observe> {
    let block = value.block(&OBSERVE_KEYS)?;
    Some(Observe { access_log: block.or("access_log", AccessLog::default(), access_log::decode) })
}

/// The `admin` block: an address, or `None` for `off`.
pub(super) fn admin(value: &Value<'_>) -> Option<Option<SocketAddr>> {
    if !value.is_mapping() {
        return value.word(&[("off", None)], &[]);
    }
    let block = value.block(&ADMIN_KEYS)?;
    Some(Some(block.or("address", default_admin(), |v| v.parse(hosts::listen_address))))
}
