//! Connections to upstreams. Addresses only: names are resolved by control (`connect("host")` would block the core).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use monoio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::buffers::Buffers;
use super::stream::{Stream, TcpIo};
use super::tls::{HandshakeError, TlsIo};

/// Why there is no connection.
pub enum DialError {
    /// No TCP connection.
    Connect(io::Error),
    /// A TCP connection, but no TLS on it.
    Tls(HandshakeError),
}

/// Connects to `address`, without delay on small writes. Guard it with the upstream's connect deadline.
pub async fn dial(address: SocketAddr) -> io::Result<Stream> {
    tcp(address).await.map(Stream::Tcp)
}

/// Connects to `address` and speaks TLS there, with whoever can show a certificate for `name`.
pub async fn dial_tls(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    buffers: &Rc<Buffers>,
) -> Result<Stream, DialError> {
    let tcp = tcp(address).await.map_err(DialError::Connect)?;
    let made = TlsIo::client(tcp, config, name.clone(), buffers);
    let io = Box::new(made.map_err(|e| DialError::Tls(HandshakeError::Tls(e)))?);
    io.handshake().await.map_err(DialError::Tls)?;
    Ok(Stream::Tls(io))
}

async fn tcp(address: SocketAddr) -> io::Result<TcpIo> {
    let tcp = TcpStream::connect_addr(address).await?;
    tcp.set_nodelay(true)?;
    Ok(TcpIo::new(tcp))
}
