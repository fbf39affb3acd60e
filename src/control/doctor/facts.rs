//! What /proc, /sys and the limits of this process say. Nothing is judged here: what can not be read is `None`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use rustix::fs::Access;
use rustix::process::{Resource, getrlimit};

use super::super::{bind, cpus};

/// Of the kernel's files no more is read: these are numbers and words.
const FILE_BYTES_MAX: usize = 64 << 10;
/// `CAP_NET_BIND_SERVICE` of capabilities(7).
const CAP_NET_BIND_SERVICE: u32 = 10;

/// What is so on this machine, for this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// `6.1.0-28-amd64`.
    pub(super) release: String,
    /// 0: everyone may use it, 1: one group and root, 2: nobody.
    pub(super) io_uring_disabled: Option<u32>,
    /// Whether system calls are filtered: `Seccomp` of /proc/self/status, 0, 1 or 2.
    pub(super) seccomp: Option<u32>,
    /// The hard limit of locked memory, in bytes; `None`: no limit.
    pub(super) memlock: Option<u64>,
    /// CPUs that this process may use.
    pub(super) cpus: usize,
    /// Of the cgroup, in CPUs.
    pub(super) quota: Option<f64>,
    /// Ports below need a capability.
    pub(super) first_free_port: Option<u16>,
    /// Whether this process has it.
    pub(super) may_bind_low: bool,
    /// `tsc`, or something slower.
    pub(super) clock_source: Option<String>,
    /// Whether something keeps the clock right; `None`: the kernel does not say.
    pub(super) clock_is_synchronised: Option<bool>,
    /// Connections that a listener may have in its queue.
    pub(super) somaxconn: Option<u64>,
    /// Ports for connections to upstreams, first and last.
    pub(super) local_ports: Option<(u16, u16)>,
    /// Files that the whole system may have open.
    pub(super) file_max: Option<u64>,
    /// `cubic`, `bbr`, …
    pub(super) congestion: Option<String>,
    /// Whether half-open connections are answered with cookies when there are too many: 0 is never.
    pub(super) syncookies: Option<u32>,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let status = text("/proc/self/status").unwrap_or_default();
        Self {
            release: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
            seccomp: field(&status, "Seccomp:").and_then(|text| text.parse().ok()),
            memlock: getrlimit(Resource::Memlock).maximum,
            cpus: cpus::allowed().len(),
            quota: cpus::quota(),
            first_free_port: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
            may_bind_low: field(&status, "CapEff:").is_some_and(|text| has_capability(text, CAP_NET_BIND_SERVICE)),
            clock_source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            clock_is_synchronised: crate::io::clock_is_synchronised(),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            local_ports: text("/proc/sys/net/ipv4/ip_local_port_range").and_then(|text| two(&text)),
            file_max: number("/proc/sys/fs/file-max"),
            congestion: text("/proc/sys/net/ipv4/tcp_congestion_control"),
            syncookies: number("/proc/sys/net/ipv4/tcp_syncookies"),
        }
    }
}

/// Whether an address can be listened on.
pub(super) enum Listening {
    Can,
    /// Something does already.
    InUse(String),
    Not(String),
}

/// It is tried, and let go of.
pub(super) fn listening(what: &str, address: SocketAddr) -> Listening {
    let Err(e) = bind::probe(address) else { return Listening::Can };
    let cause = bind::cannot_listen(what, address, &e);
    if e.kind() == std::io::ErrorKind::AddrInUse { Listening::InUse(cause) } else { Listening::Not(cause) }
}

/// Whether this process may write to a file, or make it.
pub(super) fn may_write(path: &Path) -> std::io::Result<()> {
    let asked = match path.try_exists() {
        Ok(false) => path.parent().unwrap_or(Path::new("/")),
        _ if path.is_dir() => return Err(std::io::ErrorKind::IsADirectory.into()),
        _ => path,
    };
    Ok(rustix::fs::access(asked, Access::WRITE_OK)?)
}

fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    (text.len() <= FILE_BYTES_MAX).then(|| text.trim().to_owned())
}

fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    text(path)?.parse().ok()
}

/// The first word behind a name in /proc/self/status.
fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()
}

fn has_capability(hex: &str, capability: u32) -> bool {
    u64::from_str_radix(hex, 16).is_ok_and(|set| set >> capability & 1 == 1)
}

fn two(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace().map(|text| text.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let status = "Name:\tx\nSeccomp:\t2\nCapEff:\t0000000000000400\n";
        assert_eq!(field(status, "Seccomp:"), Some("2"));
        assert!(has_capability("0000000000000400", 10) && !has_capability("00000000000003ff", 10));
        assert!(!has_capability("", 10) && field("", "CapEff:").is_none());
        assert_eq!(two("32768\t60999"), Some((32768, 60999)));
        assert_eq!(two("32768"), None);
        assert!(!Facts::gather().release.is_empty());
    }
}
