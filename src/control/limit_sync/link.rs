//! One connection to one Redis: a request, then its replies, in turn. Nothing is ever sent a second time, which is why
//! the managed connections of the `redis` crate are not used: they replay and retry. Its encoder, decoder and errors are.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use redis::{Cmd, Value};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::fault::Fault;
use super::frames::Frames;
use crate::config::hosts::Address;
use crate::config::rate_limits::Login;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection. One whose [`Link::ask`] was dropped midway must be dropped too.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    address: Address,
    /// The scripts are not there any more.
    pub(super) wants_scripts: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link to {}", self.address)
    }
}

impl Link {
    /// Connects; over TLS with its handshake. Names are resolved each time.
    pub(super) async fn dial(address: &Address, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Fault> {
        let tcp = connect(address).await?;
        let _ = tcp.set_nodelay(true); // a small delay is no fault
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = match address {
                    Address::Ip(ip) => ServerName::from(ip.ip()),
                    Address::Name { host, .. } => {
                        ServerName::try_from(host.clone()).map_err(|e| Fault::Broken(format!("TLS: {host}: {e}")))?
                    }
                };
                let connecting = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
                Box::new(connecting.await.map_err(|e| Fault::Broken(format!("TLS: {e}")))?)
            }
        };
        Ok(Self { stream, address: address.clone(), wants_scripts: false })
    }

    /// Where it leads.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request and gives its replies. Errors of Redis are among these.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Vec<Value>, Fault> {
        self.stream.write_all(&request.bytes).await?;
        self.stream.flush().await?;
        let (mut bytes, mut frames) = (Vec::with_capacity(READ_BYTES), Frames::new(request.replies));
        while !frames.is_done() {
            let before = bytes.len();
            if self.stream.read_buf(&mut bytes).await? == 0 {
                return Err(Fault::Broken("the connection was closed".into()));
            }
            frames.feed(bytes.get(before..).unwrap_or_default())?;
        }
        let mut parser = redis::Parser::new();
        let mut rest = bytes.as_slice();
        let value = |_| parser.parse_value(&mut rest).map_err(|_| Fault::nonsense("what is no answer of Redis"));
        (0..request.replies).map(value).collect()
    }

    /// The same, when any error is one of all.
    pub(super) async fn demand(&mut self, request: &Request) -> Result<Vec<Value>, Fault> {
        self.ask(request).await?.into_iter().map(value).collect()
    }
}

/// A reply that is no error.
pub(super) fn value(reply: Value) -> Result<Value, Fault> {
    match reply {
        Value::ServerError(error) => Err(Fault::refused(&error)),
        value => Ok(value),
    }
}

async fn connect(address: &Address) -> Result<TcpStream, Fault> {
    let cause = |e: std::io::Error| Fault::Broken(e.to_string());
    match address {
        Address::Ip(address) => TcpStream::connect(address).await.map_err(cause),
        Address::Name { host, port } => {
            let found = super::super::resolve::lookup(host).await;
            let found = found.map_err(|e| Fault::Broken(format!("{host} does not resolve: {e}")))?;
            let mut last = Fault::Broken(format!("{host} has no address"));
            for ip in found {
                match TcpStream::connect(SocketAddr::new(ip, *port)).await {
                    Ok(stream) => return Ok(stream),
                    Err(e) => last = cause(e),
                }
            }
            Err(last)
        }
    }
}

/// Commands that are sent together.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
    replies: usize,
}

impl Request {
    /// One more command.
    pub(super) fn add(&mut self, words: &[&str]) {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        self.add_command(&command);
    }

    /// The same.
    pub(super) fn add_command(&mut self, command: &Cmd) {
        self.bytes.extend_from_slice(&command.get_packed_command());
        self.replies += 1;
    }

    /// `AUTH`, if there is a password.
    pub(super) fn log_in(&mut self, login: &Login) {
        match (&login.user, &login.password) {
            (_, None) => {}
            (None, Some(password)) => self.add(&["AUTH", password.expose()]),
            (Some(user), Some(password)) => self.add(&["AUTH", user, password.expose()]),
        }
    }

    /// How many commands these are.
    pub(super) fn len(&self) -> usize {
        self.replies
    }
}
