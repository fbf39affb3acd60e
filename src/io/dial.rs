//! Connections to upstreams. Addresses only: names are resolved by control (`connect("host")` would block the core).

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use monoio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::buffers::{Buf, Buffers};
use super::stream::{Stream, TcpIo};
use super::tls::{HandshakeError, TlsIo};
use crate::socket::SocketName;

/// Why there is no connection.
pub enum DialError {
    /// No connection.
    Connect(io::Error),
    /// A connection, but no TLS on it.
    Tls(HandshakeError),
}

/// Connects, without delay on small writes, and writes `preface`. Guard it with the upstream's connect deadline.
pub async fn dial(name: &SocketName, preface: Vec<u8>) -> io::Result<Stream> {
    connect(name, preface).await.map(Stream::Tcp)
}

/// Connects, writes `preface` and speaks TLS behind it, with whoever can show a certificate for `name`.
pub async fn dial_tls(
    to: &SocketName,
    preface: Vec<u8>,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    buffers: &Rc<Buffers>,
) -> Result<Stream, DialError> {
    let tcp = connect(to, preface).await.map_err(DialError::Connect)?;
    let made = TlsIo::client(tcp, config, name.clone(), buffers);
    let io = Box::new(made.map_err(|e| DialError::Tls(HandshakeError::Tls(e)))?);
    io.handshake(Buf::default()).await.map_err(DialError::Tls)?;
    Ok(Stream::Tls(io))
}

async fn connect(to: &SocketName, preface: Vec<u8>) -> io::Result<TcpIo> {
    let io = reach(to).await?;
    if !preface.is_empty() {
        let mut left = Buf::default();
        left.extend(&preface);
        while !left.is_empty() {
            let (result, rest) = io.write(left).await;
            left = rest;
            match result? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => left.consume(n),
            }
        }
    }
    Ok(io)
}

async fn reach(to: &SocketName) -> io::Result<TcpIo> {
    match to {
        SocketName::Ip(address) => {
            let tcp = TcpStream::connect_addr(*address).await?;
            tcp.set_nodelay(true)?;
            Ok(TcpIo::new(tcp))
        }
        SocketName::Unix(path) => unix(path).await,
    }
}

/// What the kernel calls a Unix socket: as many bytes as its name has. (HAProxy's `abns@` fills up with NULs, which is another
/// name; its `abnsz@`, systemd, curl and Go do as this.)
///
/// # Errors
/// It is too long, or has a NUL.
pub fn unix_address(unix: &str) -> Result<SocketAddrUnix, Errno> {
    match unix.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(unix),
    }
}

/// How long to wait, in ms, before a listener whose queue is full is asked again.
const FULL_MS: u64 = 2;

/// A Unix socket connects at once or not at all, but for a listener whose queue is full: a blocking socket would hold up the
/// core until there is room, and nothing tells when that is.
async fn unix(path: &str) -> io::Result<TcpIo> {
    let address = unix_address(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return TcpIo::adopt(fd),
            Err(Errno::AGAIN) => super::sleep_ms(FULL_MS).await,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
