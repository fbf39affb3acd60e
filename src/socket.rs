//! How a socket is called: by an IP address and a port, or by the path of a Unix socket.

use std::fmt;
use std::net::SocketAddr;

/// `sun_path` of Linux without the NUL behind a path, or in front of an abstract name (unix(7)): how long either may be.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Where a listener or an endpoint is. As text `ip:port`, `unix:/path` or `unix:@name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketName {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The absolute path of a Unix socket, at most [`UNIX_PATH_BYTES_MAX`] long; or `@` and an abstract name, as long.
    Unix(Box<str>),
}

/// Whether a Unix socket has a name of the kernel's and no path: there is no file, and so there are no permissions.
pub fn is_abstract(unix: &str) -> bool {
    unix.starts_with('@')
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
