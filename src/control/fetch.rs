//! One document from an HTTP server, for control itself: one connection, one answer, and a bound on everything that the
//! server could draw out. Redirects are not followed: the operator named the server that is trusted, not one it names.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::resolve;
use crate::tls::ClientFiles;

/// From the look-up of the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Head of the answer; servers send a few KiB.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 100;

/// A document, and how long its server says that it is good.
#[derive(Debug)]
pub(super) struct Document {
    /// Its bytes, as many as were asked for at most.
    pub(super) bytes: Vec<u8>,
    /// `max-age` of Cache-Control (RFC 9111 5.2.2.1); zero if it is not to be kept at all.
    pub(super) max_age: Option<Duration>,
}

/// What stands at `url`, if it has no more than `bytes_max` bytes. `tls` is for https.
///
/// # Errors
/// What went wrong, for people: nothing of the answer but its status is in it.
pub(super) async fn get(url: &Uri, tls: Option<&ClientFiles>, bytes_max: usize) -> Result<Document, String> {
    let got = tokio::time::timeout(DEADLINE, get_patiently(url, tls, bytes_max)).await;
    got.unwrap_or_else(|_| Err("no answer within 5 s".to_owned()))
}

async fn get_patiently(url: &Uri, tls: Option<&ClientFiles>, bytes_max: usize) -> Result<Document, String> {
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve::addresses_of(host).await?,
    };
    let stream = connect(&addresses, port).await?;
    let Some(files) = tls.cloned() else { return ask(stream, url, bytes_max).await };
    // Files are read on a thread that may wait; anew each time, so that a new authority is followed.
    let loaded = tokio::task::spawn_blocking(move || files.load(1)).await.map_err(|e| e.to_string())?;
    let (cores, _) = loaded?;
    let config = cores.into_iter().next().map(|core| core.config).ok_or("no TLS")?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("its host is no name for TLS: {e}"))?;
    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
    ask(stream.map_err(|e| format!("no TLS: {e}"))?, url, bytes_max).await
}

async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, String> {
    let mut cause = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(e) => cause = format!("no connection: {e}"),
        }
    }
    Err(cause)
}

async fn ask<S>(stream: S, url: &Uri, bytes_max: usize) -> Result<Document, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |e: hyper::Error| format!("no good answer: {e}");
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("ringway/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<&[u8]>::new())
        .map_err(|e| e.to_string())?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!(
                    "answered {}, and redirects are not followed: name the place itself",
                    status.as_u16()
                ));
            }
            status => return Err(format!("answered {}", status.as_u16())),
        }
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|e| match e.downcast_ref::<LengthLimitError>() {
            Some(_) => format!("the answer is longer than {bytes_max} bytes"),
            None => format!("no whole answer: {e}"),
        })?;
        Ok(Document { bytes: body.to_bytes().into(), max_age })
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        document = &mut answer => document,
        // What it has received is still read.
        _ = &mut connection => answer.await,
    }
}

fn max_age(fields: &HeaderMap) -> Option<Duration> {
    let values = fields.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut found = None;
    for directive in values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            None if matches!(directive.as_str(), "no-store" | "no-cache") => return Some(Duration::ZERO),
            Some(("max-age", seconds)) => found = seconds.trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn how_long_it_is_good() {
        let of = |values: &[&'static str]| {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(CACHE_CONTROL, value.parse().unwrap());
            }
            max_age(&fields).map(|age| age.as_secs())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["public, Max-Age=600"]), Some(600));
        assert_eq!(of(&["public", "max-age=\"60\""]), Some(60));
        assert_eq!(of(&["max-age=600, no-cache"]), Some(0));
        assert_eq!(of(&["max-age=-1"]), None);
        assert_eq!(of(&["s-maxage=600, max-age=99999999999999999999999"]), None);
    }
}
