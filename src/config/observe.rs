//! `observe` and `admin`: what the gateway tells about itself, and where.

use std::net::SocketAddr;

use super::access_log::{self, AccessLog};
use super::decode::{Keys, Value};
use super::{hosts, listeners};
use crate::socket::SocketName;

pub(super) const OBSERVE_KEYS: Keys = Keys { known: &["access_log"], later: &[("tracing", "tracing")] };
pub(super) const ADMIN_KEYS: Keys = Keys { known: &["address", "mode"], later: &[] };

/// What the gateway tells about requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observe {
    /// A line per request.
    pub access_log: AccessLog,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// A socket that no listener has.
    pub address: SocketName,
    /// Permissions of a Unix socket's path: who may write may connect.
    pub mode: u32,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9900)).into(), mode: listeners::MODE_DEFAULT }
    }
}

/// The `observe` block.
pub(super) fn decode(value: &Value<'_>) -> Option<Observe> {
    let block = value.block(&OBSERVE_KEYS)?;
    Some(Observe { access_log: block.or("access_log", AccessLog::default(), access_log::decode) })
}

/// The `admin` block, or `None` for `off`.
pub(super) fn admin(value: &Value<'_>) -> Option<Option<Admin>> {
    if !value.is_mapping() {
        return value.word(&[("off", ())], &[]).map(|()| None);
    }
    let block = value.block(&ADMIN_KEYS)?;
    let address = block.unless_wrong("address", Admin::default().address, |v| v.parse(hosts::listen_name));
    let mode = listeners::mode(&block, address.as_ref());
    Some(Some(Admin { address: address?, mode }))
}
