//! `observe` and `admin`: what the gateway tells about itself, and where.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::decode::{Keys, Value};
use super::hosts;
use crate::value::Invalid;

pub(super) const OBSERVE_KEYS: Keys = Keys { known: &["access_log"], later: &[("tracing", "tracing")] };
pub(super) const ACCESS_LOG_KEYS: Keys = Keys { known: &["to", "format"], later: &[] };
pub(super) const ADMIN_KEYS: Keys = Keys { known: &["address"], later: &[] };

/// What the gateway tells about requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observe {
    /// One JSON line per request.
    pub access_log: AccessLog,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum AccessLog {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// Appended to this file; the path is absolute.
    File(PathBuf),
}

/// Where the admin API listens unless the config says otherwise.
pub fn default_admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9900))
}

/// The `observe` block.
pub(super) fn decode(value: &Value<'_>) -> Option<Observe> {
    let block = value.block(&OBSERVE_KEYS)?;
    Some(Observe { access_log: block.or("access_log", AccessLog::default(), access_log) })
}

fn access_log(value: &Value<'_>) -> Option<AccessLog> {
    let block = value.block(&ACCESS_LOG_KEYS)?;
    // There is one format so far; the key exists so that a config can already say which one it counts on.
    block.or("format", (), |v| v.word(&[("json", ())], &[("text", "more log formats")]));
    Some(block.or("to", AccessLog::default(), |v| v.parse(log_target)))
}

fn log_target(text: &str) -> Result<AccessLog, Invalid> {
    match text {
        "stdout" => Ok(AccessLog::Stdout),
        "stderr" => Ok(AccessLog::Stderr),
        "off" => Ok(AccessLog::Off),
        // Relative to which directory would depend on who starts the gateway.
        path if path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control) => {
            Ok(AccessLog::File(PathBuf::from(path)))
        }
        _ => Err(Invalid::new("is not a place for a log", "stdout, stderr, off, or the absolute path of a file")),
    }
}

/// The `admin` block: an address, or `None` for `off`.
pub(super) fn admin(value: &Value<'_>) -> Option<Option<SocketAddr>> {
    if !value.is_mapping() {
        return value.word(&[("off", None)], &[]);
    }
    let block = value.block(&ADMIN_KEYS)?;
    Some(Some(block.or("address", default_admin(), |v| v.parse(hosts::listen_address))))
}
