//! Addresses and host names as they are written in a config.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::report::quote;
use crate::socket::{SocketName, UNIX_PATH_BYTES_MAX, is_abstract};
use crate::value::Invalid;

/// RFC 1035 2.3.4.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// An abstract name with its `@`, which stands for the NUL.
const ABSTRACT_BYTES_MAX: usize = UNIX_PATH_BYTES_MAX + 1;

/// Where something listens that is connected to over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `ip:port`.
    Ip(SocketAddr),
    /// `host:port`; control resolves the name, and does so again when its record expires.
    Name {
        /// In lower case, without a final dot.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address or a name, and a port.
    Tcp(Address),
    /// The path of a Unix socket, as `unix:/path`, or `@` and an abstract name, as `unix:@name`.
    Unix(String),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl EndpointAddress {
    /// The Host that it is asked by, if nothing else is said: a Unix socket has none of its own.
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// The hosts that a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// One host, in lower case.
    Exact(String),
    /// Every host under this one, not itself: `*.example.com` is kept as `example.com`.
    Under(String),
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Under(host) => write!(f, "*.{host}"),
        }
    }
}

/// `ip:port` to listen on; port 0 lets the kernel choose one.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Invalid> {
    const FORM: &str = "write ip:port, like 0.0.0.0:8080 or \"[::]:8080\"";
    text.parse().map_err(|_| {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let everywhere =
            || format!("write 0.0.0.0:{port} for all addresses, or 127.0.0.1:{port} for this machine alone");
        match host {
            _ if text.parse::<IpAddr>().is_ok() => Invalid::new("is not an address: it has no port", FORM),
            _ if !is_number => Invalid::new("is not an address", FORM),
            _ if port.parse::<u16>().is_err() => Invalid::new("is not an address: no port is that large", "1 to 65535"),
            "" | "*" => Invalid::new("is not an address: it has a port alone", everywhere()),
            "localhost" => Invalid::new("is not an address: it has a name", format!("write 127.0.0.1:{port}")),
            _ => Invalid::new("is not an address", FORM),
        }
    })
}

/// The same, or `unix:/path`, or `unix:@name`.
pub(super) fn listen_name(text: &str) -> Result<SocketName, Invalid> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(|path| SocketName::Unix(path.into())),
        None => listen_address(text).map(SocketName::Ip),
    }
}

/// The path of a Unix socket, or its abstract name, in the one spelling that it is compared and shown by.
fn unix_path(path: &str) -> Result<String, Invalid> {
    let invalid =
        |what: &str, remedy: String| Err(Invalid::new(format!("is not the path of a socket: {what}"), remedy));
    if path.contains(char::is_control) {
        return invalid("it has control characters", "remove them".into());
    }
    if is_abstract(path) {
        return match path.len() {
            // Without a name the kernel chooses one, which nobody could know.
            1 => invalid("the abstract one has no name", "like unix:@app".into()),
            2..=ABSTRACT_BYTES_MAX => Ok(path.to_owned()),
            long => {
                let what = format!("its abstract name has {} bytes", long - 1);
                invalid(&what, format!("Linux takes at most {UNIX_PATH_BYTES_MAX}"))
            }
        };
    }
    // Relative to which directory would depend on who starts the gateway.
    if !path.starts_with('/') || path.ends_with('/') || path.ends_with("/.") {
        return invalid("it is not the absolute path of a file", "like unix:/run/app.sock".into());
    }
    // Where it leads depends on what is a link: two spellings of one path could not be told.
    if path.split('/').any(|part| part == "..") {
        return invalid("it has `..`", "write the path that is meant, like unix:/run/app.sock".into());
    }
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let path: String = parts.flat_map(|part| ["/", part]).collect();
    if path.len() > UNIX_PATH_BYTES_MAX {
        let what = format!("it has {} bytes", path.len());
        return invalid(&what, format!("Linux takes at most {UNIX_PATH_BYTES_MAX}"));
    }
    Ok(path)
}

/// Whether some connection could be meant for either of two sockets: `0.0.0.0` and `[::]` stand for every address of the
/// machine (on Linux `[::]` takes IPv4 as well). Port 0 is a port of its own.
pub(super) fn overlap(a: &SocketName, b: &SocketName) -> bool {
    let (SocketName::Ip(a), SocketName::Ip(b)) = (a, b) else { return a == b };
    let (a, b) = (*a, *b);
    // `::ffff:1.2.3.4` is the same as `1.2.3.4`.
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let same = if ip_a.is_ipv4() { ip_a == ip_b } else { a == b };
    a.port() == b.port() && a.port() != 0 && (same || covers(ip_a, ip_b) || covers(ip_b, ip_a))
}

/// `ip:port`, `host:port`, `unix:/path` or `unix:@name` of an endpoint.
pub(super) fn endpoint_address(text: &str) -> Result<EndpointAddress, Invalid> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(EndpointAddress::Unix),
        None => address(text).map(EndpointAddress::Tcp),
    }
}

/// `ip:port` or `host:port`.
pub(super) fn address(text: &str) -> Result<Address, Invalid> {
    if text.contains("://") {
        return Err(Invalid::new("is not an address but a URL", "write host:port, without scheme and path"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(port_invalid()) } else { Ok(Address::Ip(address)) };
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Invalid::new("has no port", format!("write host:port, like {}:80", quote(text).replace('`', ""))));
    };
    Ok(Address::Name { host: host_name(host)?, port: parse_port(port)? })
}

/// The `host` of a route.
pub(super) fn host_match(text: &str) -> Result<HostMatch, Invalid> {
    match text.strip_prefix("*.") {
        Some(under) => host_name(under).map(HostMatch::Under),
        None if text == "*" => Err(Invalid::new("is not a host", "remove the key: a route without a host matches any")),
        None => host(text).map(HostMatch::Exact),
    }
}

/// `host` or `host:port`, as the Host field of a request to an upstream.
pub(super) fn authority(text: &str) -> Result<String, Invalid> {
    match text.rsplit_once(':') {
        // The last colon of a bracketed IPv6 address without a port is inside of the brackets.
        Some((name, port)) if !port.ends_with(']') => Ok(format!("{}:{}", host(name)?, parse_port(port)?)),
        _ => host(text),
    }
}

/// A name, an IPv4 address or a bracketed IPv6 address.
fn host(text: &str) -> Result<String, Invalid> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(ip) if ip.parse::<std::net::Ipv6Addr>().is_ok() => Ok(text.to_ascii_lowercase()),
        Some(_) => Err(Invalid::new("is not an IPv6 address", "like [::1]")),
        None if text.parse::<std::net::Ipv4Addr>().is_ok() => Ok(text.to_owned()),
        None => host_name(text),
    }
}

/// A DNS name in lower case, RFC 1123 2.1 and underscores, which names of services have.
fn host_name(text: &str) -> Result<String, Invalid> {
    let invalid = |what: &str, remedy: &str| Err(Invalid::new(format!("is not a host name: {what}"), remedy));
    if text.is_empty() || text.len() > HOST_BYTES_MAX {
        return invalid("it is empty or too long", "1 to 253 characters");
    }
    if text.contains(':') {
        return invalid("it has a `:`", "no scheme and no port here; an IPv6 address goes in brackets, like [::1]");
    }
    if text.ends_with('.') {
        return invalid("it ends with a dot", "remove the dot");
    }
    if text.contains('*') {
        return invalid(
            "`*` stands only in front, for whole labels",
            "write *.example.com, or list the hosts as routes",
        );
    }
    for label in text.split('.') {
        let characters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !characters {
            return invalid(
                &format!("{} is not a label", quote(label)),
                "1 to 63 letters, digits, `-` or `_`; international names in their xn-- form",
            );
        }
        if label.starts_with('-') || label.ends_with('-') {
            return invalid(&format!("{} begins or ends with `-`", quote(label)), "remove it");
        }
    }
    // Resolvers would take such a name for a mistyped IPv4 address, and no top-level domain is a number.
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return invalid("it ends like an IP address and is none", "write four numbers from 0 to 255");
    }
    Ok(text.to_ascii_lowercase())
}

fn parse_port(text: &str) -> Result<u16, Invalid> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(port_invalid)
}

fn port_invalid() -> Invalid {
    Invalid::new("has no valid port", "1 to 65535")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_are_addresses_or_names() {
        let name = Address::Name { host: "users.internal".to_owned(), port: 9000 };
        assert_eq!(address("Users.Internal:9000"), Ok(name));
        assert_eq!(endpoint_address("unix:/run/a"), Ok(EndpointAddress::Unix("/run/a".to_owned())));
        assert!(endpoint_address(&format!("unix:/{}", "a".repeat(106))).is_ok());
        assert!(endpoint_address(&format!("unix:/{}", "a".repeat(107))).is_err());
        assert_eq!(endpoint_address("unix:@app/x"), Ok(EndpointAddress::Unix("@app/x".to_owned())));
        assert!(endpoint_address(&format!("unix:@{}", "a".repeat(107))).is_ok());
        assert!(endpoint_address(&format!("unix:@{}", "a".repeat(108))).is_err());
        assert_eq!(address("[::1]:80"), Ok(Address::Ip("[::1]:80".parse().unwrap())));
        for wrong in [
            "10.0.0.1",
            "10.0.0.1:0",
            "a:99999",
            "a:+80",
            ":80",
            "10.0.0:80",
            "1.2.3.256:80",
            "::1:80",
            "http://a:80",
            "unix:",
            "unix:x",
            "unix:/x/",
            "unix:/x/.",
            "unix:/x/../y",
            "unix:/..",
            "unix:@",
            "unix:@a\nb",
            "unix:@a\0b",
            "unix:/a\nb",
            "a b:80",
            "-a:80",
            "a..b:80",
            "a.:80",
            "*.a:80",
            "é.de:80",
            "",
        ] {
            assert!(endpoint_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sockets_overlap_where_one_connection_could_be_for_both() {
        let pairs = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "0.0.0.0:2", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/d/a", "unix://d//a", true),
            ("unix:/d/a", "unix:/./d/./a", true),
            ("unix:@a", "unix:@a", true),
            ("unix:@/a", "unix:/a", false),
            ("unix:@a", "unix:@./a", false),
            ("unix:/a", "127.0.0.1:1", false),
        ];
        for (a, b, expected) in pairs {
            let [x, y] = [a, b].map(|text| listen_name(text).unwrap());
            assert_eq!((overlap(&x, &y), overlap(&y, &x)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn hosts_of_routes_and_requests() {
        assert_eq!(host_match("API.example.com"), Ok(HostMatch::Exact("api.example.com".to_owned())));
        assert_eq!(host_match("*.Example.com").unwrap().to_string(), "*.example.com");
        assert_eq!(host_match("[::1]"), Ok(HostMatch::Exact("[::1]".to_owned())));
        assert!(["*", "*.", "a.*.b", "api.example.com:80", "*.10.0.0.1", "[x]"].iter().all(|h| host_match(h).is_err()));
        assert_eq!(authority("Users.internal:80").as_deref(), Ok("users.internal:80"));
        assert_eq!(authority("[::1]").as_deref(), Ok("[::1]"));
        assert_eq!(authority("[::1]:80").as_deref(), Ok("[::1]:80"));
        assert!(["", "a:", "a:b", "::1", "[::1]x", "a/b"].iter().all(|text| authority(text).is_err()));
    }
}
