//! A TLS client of which a scenario can break every byte: rustls over a plain socket.

use super::authority::{Authority, Issued};
use super::{Gateway, PATIENCE};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Trusts the authority and shows a certificate, if there is one. Sessions are kept in it.
pub fn config(authority: &Authority, shown: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for der in certificates(&authority.ca) {
        roots.add(der).unwrap();
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
            builder.with_client_auth_cert(certificates(&issued.cert), key).unwrap()
        }
    };
    Arc::new(config)
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect()
}

/// A connection to the gateway as `name`; hands are shaken with its first bytes.
pub fn to(gateway: &Gateway, config: &Arc<ClientConfig>, name: &str) -> Tls {
    let sock = TcpStream::connect(gateway.addr).unwrap();
    sock.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap(), sock)
}

/// A connection to the gateway as `gw.test`, hands shaken.
pub fn shaken(gateway: &Gateway, authority: &Authority) -> Tls {
    let mut tls = to(gateway, &config(authority, None), "gw.test");
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).unwrap();
    }
    tls
}
