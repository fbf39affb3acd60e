//! Connections to upstreams. Addresses only: names are resolved by control (`connect("host")` would block the core).

use std::io;
use std::net::SocketAddr;

use monoio::net::TcpStream;

use super::stream::{Stream, TcpIo};

/// Connects to `address`, without delay on small writes. Guard it with the upstream's connect deadline.
pub async fn dial(address: SocketAddr) -> io::Result<Stream> {
    let tcp = TcpStream::connect_addr(address).await?;
    tcp.set_nodelay(true)?;
    Ok(Stream::Tcp(TcpIo::new(tcp)))
}
