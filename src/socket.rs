//! How a socket is called: by an IP address and a port, or by the path of a Unix socket.

use std::fmt;
use std::net::SocketAddr;

/// `sun_path` of Linux without the NUL behind it (unix(7)): what a path of a Unix socket may be long.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Where a listener or an endpoint is. As text `ip:port` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketName {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The absolute path of a Unix socket, at most [`UNIX_PATH_BYTES_MAX`] long.
    Unix(Box<str>),
}

impl SocketName {
    /// The address and port, if it has any.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for SocketName {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
