//! The listeners' sockets: all are bound before any worker starts, so that an address in use is one clear error.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use crate::config::Config;
use crate::config::listeners::Listener;
use crate::config::observe::Admin;
use crate::io::listen;
use crate::socket::SocketName;

use super::unix_path::{Obstacle, Owned, bind_at};

/// How long an address that is in use is tried again: of a process that was killed, the kernel closes the sockets that its
/// io_uring still had in hand a moment after its end.
const IN_USE_MAX: Duration = Duration::from_secs(1);

/// Between two tries.
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// Every listener's sockets, by worker, and the paths of the Unix sockets among them.
///
/// # Errors
/// An address that can not be had, with the remedy.
pub(super) fn bind(config: &Config, workers: usize) -> Result<(Vec<Vec<listen::Bound>>, Vec<Owned>), StartError> {
    let refused = |name: &str, address: SocketAddr, e: &io::Error| {
        // One without a name is called by its address.
        let what = if name == address.to_string() { "listener".to_owned() } else { format!("listener {name}") };
        cannot_listen(&what, address, e)
    };
    // All of them first: two listeners of one config may overlap, such as 0.0.0.0 and 127.0.0.1 on one port.
    for listener in &config.listeners {
        if let SocketName::Ip(address) = listener.address {
            settled(|| probe(address), |e| e.kind() == io::ErrorKind::AddrInUse)
                .map_err(|e| refused(&listener.name.value, address, &e))?;
        }
    }
    let mut per_worker: Vec<Vec<listen::Bound>> = (0..workers).map(|_| Vec::new()).collect();
    let mut paths = Vec::new();
    for Listener { name, address, mode, .. } in &config.listeners {
        let bound = match address {
            SocketName::Ip(address) => {
                listen::bind(*address, workers).map_err(|e| refused(&name.value, *address, &e))?
            }
            SocketName::Unix(path) => {
                let (bound, owned) = settled(|| bind_at(path, *mode, workers), Obstacle::is_in_use)
                    .map_err(|obstacle| format!("listener {}: {path}: {}", name.value, obstacle.into_cause()))?;
                paths.extend(owned);
                bound
            }
        };
        for (worker, bound) in per_worker.iter_mut().zip(bound) {
            worker.push(bound);
        }
    }
    Ok((per_worker, paths))
}

/// The socket of the admin API.
pub(super) enum AdminSocket {
    /// On a port.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

/// The same for the admin API, which is no worker's.
///
/// # Errors
/// The same.
pub(super) fn bind_admin(admin: &Admin) -> Result<(AdminSocket, Option<Owned>), StartError> {
    let cannot = |e: &io::Error| format!("admin: {}: {e}; check the limit of open files (`ulimit -n`)", admin.address);
    match &admin.address {
        SocketName::Ip(address) => {
            let bound = settled(|| std::net::TcpListener::bind(address), |e| e.kind() == io::ErrorKind::AddrInUse)
                .map_err(|e| cannot_listen("admin", *address, &e))?;
            bound.set_nonblocking(true).map_err(|e| cannot(&e))?;
            Ok((AdminSocket::Tcp(TcpListener::from_std(bound).map_err(|e| cannot(&e))?), None))
        }
        SocketName::Unix(path) => {
            let (bound, owned) = settled(|| bind_at(path, admin.mode, 1), Obstacle::is_in_use)
                .map_err(|obstacle| format!("admin: {path}: {}", obstacle.into_cause()))?;
            let bound = bound.into_iter().next().map(OwnedFd::from).ok_or("admin: nothing was bound")?;
            Ok((AdminSocket::Unix(UnixListener::from_std(bound.into()).map_err(|e| cannot(&e))?), owned))
        }
    }
}

/// What `attempt` ends with once nothing is in use, or time is up. Nothing is served yet, so this may block.
fn settled<T, E>(mut attempt: impl FnMut() -> Result<T, E>, is_in_use: impl Fn(&E) -> bool) -> Result<T, E> {
    let until = Instant::now() + IN_USE_MAX;
    loop {
        match attempt() {
            Err(e) if is_in_use(&e) && Instant::now() < until => std::thread::sleep(IN_USE_PAUSE),
            ended => return ended,
        }
    }
}

/// Binds `address` once without SO_REUSEPORT, and lets go of it. The workers' sockets share the port with any other
/// socket of this user that allows it: a second gateway would silently take half of the first one's connections.
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(()); // the kernel chooses one that is free
    }
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // With it, connections that an earlier gateway still drains, or has closed, are no obstacle; a live listener is.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    Ok(rustix::net::bind(&fd, &address)?)
}

/// Why `what` can not listen on `address`, and what helps.
pub(super) fn cannot_listen(what: &str, address: SocketAddr, e: &io::Error) -> StartError {
    let remedy = match Errno::from_io_error(e) {
        Some(Errno::ADDRINUSE) => "another process listens there: stop it, or choose another address",
        Some(Errno::ACCESS | Errno::PERM) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: `setcap cap_net_bind_service=+ep ringway`, or choose another"
        }
        Some(Errno::ADDRNOTAVAIL) => "no interface of this machine has that address",
        Some(Errno::MFILE) => "raise the limit of open files (`ulimit -n`, LimitNOFILE=)",
        Some(Errno::NFILE) => "raise the system's limit of open files (`sysctl fs.file-max`)",
        _ => "check the address",
    };
    format!("{what}: {address}: {e}; {remedy}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_live_listener_is_an_obstacle_even_if_it_shares_and_its_old_connections_are_none() {
        let bound = listen::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = bound[0].address.ip().unwrap();
        let _open = TcpStream::connect(address).unwrap();
        let e = probe(address).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AddrInUse);
        assert!(cannot_listen("listener a", address, &e).ends_with("stop it, or choose another address"));
        drop(bound);
        probe(address).unwrap();
    }

    #[test]
    fn what_is_let_go_of_in_a_moment_is_waited_for() {
        let mut held = Some(listen::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap());
        let address = held.as_ref().unwrap()[0].address.ip().unwrap();
        let attempt = || {
            let tried = probe(address);
            held.take();
            tried
        };
        settled(attempt, |e| e.kind() == io::ErrorKind::AddrInUse).unwrap();
    }

    #[test]
    fn out_of_descriptors_names_the_limit() {
        let e = io::Error::from(Errno::MFILE);
        let text = cannot_listen("admin", "127.0.0.1:1".parse().unwrap(), &e);
        assert!(text.starts_with("admin: 127.0.0.1:1: ") && text.contains("ulimit -n"), "{text}");
    }
}
