//! `ringway explain`: the request that its arguments describe, and what the gateway would do with it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::{Args, ValueHint};
use rustls::pki_types::CertificateDer;

use crate::config::Config;
use crate::config::listeners::Listener;
use crate::core::Core;
use crate::http::head::{Bounds, ResponseHead};
use crate::proxy::explain::{Asked, Explanation, Granted, explain};
use crate::proxy::plane::Plane;
use crate::tls::files;

use super::{hide, snapshot, told};

/// A head that no upstream's answer may exceed by far.
const GRANTED: Bounds = Bounds { head: 64 * 1024, fields: 256, target: 0 };

/// Takes the request that it would be, and says what it would do with it
#[derive(Args)]
pub(crate) struct Options {
    /// The request's method
    #[arg(value_hint = ValueHint::Other)]
    method: String,
    /// A path with its query, or a whole URL: its scheme chooses a listener with TLS or one without, its host is the Host
    /// unless a field says another, and the name in the handshake
    #[arg(value_hint = ValueHint::Url)]
    url: String,
    /// A header field of the request, as often as needed
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_hint = ValueHint::Other)]
    headers: Vec<String>,
    /// The address that it comes from; else 127.0.0.1, or none where the listener is a Unix socket
    #[arg(long, value_name = "IP", value_hint = ValueHint::Other)]
    from: Option<IpAddr>,
    /// The listener that it comes to, by its name; else the first that speaks what the URL's scheme says
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    listener: Option<String>,
    /// The certificate that the client shows, with those that lead to its authority (PEM)
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// A header field of the answer that lets the request pass, of whoever ext_auth asks; as often as needed
    #[arg(long, value_name = "NAME: VALUE", value_hint = ValueHint::Other)]
    ext_auth_header: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print credentials as they would be sent, not as ***
    #[arg(long)]
    credentials: bool,
    /// The config (YAML)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// What the command prints, and its exit code: 0 where a route is taken, 1 where none is.
///
/// # Errors
/// What is wrong with the arguments, or with what the config names.
pub(crate) fn run(options: &Options, config: &Config) -> Result<(String, u8), String> {
    let asked = asked(options, config)?;
    let (snapshot, metrics) = snapshot(config)?;
    let redact = snapshot.access_log.redact.clone();
    let core = Rc::new(Core::new(0, metrics.core(0), None));
    let mut explanation = explain(&Rc::new(Plane::new(core, Box::new(snapshot))), config, &asked);
    if !options.credentials {
        hide::credentials(&mut explanation, &asked.head, &redact);
    }
    let code = u8::from(explanation.route.is_none());
    Ok((text(&explanation, options.json)?, code))
}

fn text(explanation: &Explanation, json: bool) -> Result<String, String> {
    if !json {
        return Ok(told::text(explanation));
    }
    let text = serde_json::to_string_pretty(explanation).map_err(|e| e.to_string())?;
    Ok(text + "\n")
}

/// The request that the arguments describe, byte for byte: what is wrong with it is the gateway's to say. Only what would end
/// a line makes another request of it than was meant.
fn asked(options: &Options, config: &Config) -> Result<Asked, String> {
    let url = options.url.as_str();
    one_line("METHOD", &options.method)?;
    one_line("URL", url)?;
    for line in &options.headers {
        one_line("--header", line)?;
        if line.is_empty() {
            return Err("--header is empty, which would end the head; write `NAME: VALUE`".to_owned());
        }
    }
    let has_scheme = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let is_tls = match (has_scheme("https://"), has_scheme("http://")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let named = options.headers.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    });
    let index = listener(options.listener.as_deref(), is_tls, config)?;
    let listener = config.listeners.get(index).ok_or("there are no listeners")?;
    let from = from(options.from, listener)?;
    let (authority, target) = match is_tls.and_then(|_| url.split_once("://")) {
        Some((_, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, target) = rest.split_at(end);
            let slash = if target.starts_with('/') { "" } else { "/" };
            (Some(authority.to_owned()), format!("{slash}{target}"))
        }
        None => (None, url.to_owned()),
    };
    // What a client of a Unix socket calls it, which has no name.
    let address = || match listener.address.ip() {
        // It listens everywhere; the client's own machine is one of these places.
        Some(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        Some(address) => address.to_string(),
        None => "localhost".to_owned(),
    };
    let host = authority.clone().unwrap_or_else(address);
    let mut head = format!("{} {target} HTTP/1.1\r\n", options.method);
    if named.is_none() {
        head += &format!("Host: {host}\r\n");
    }
    for line in &options.headers {
        head += &format!("{line}\r\n");
    }
    head += "\r\n";
    // Who gives no URL means by the Host both.
    let server_name = authority.or(named).unwrap_or(host);
    let certificates = certificates(options.client_cert.as_deref(), listener)?;
    let granted = granted(&options.ext_auth_header)?;
    Ok(Asked { head: head.into_bytes(), from, listener: index, server_name, certificates, granted })
}

fn certificates(file: Option<&Path>, listener: &Listener) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(file) = file else { return Ok(Vec::new()) };
    if listener.tls.as_ref().is_none_or(|tls| tls.files.client.is_none()) {
        let name = &listener.name.value;
        return Err(format!(
            "--client-cert: the listener `{name}` asks for none; leave it out, or choose another listener"
        ));
    }
    files::chain(file).map_err(|e| format!("--client-cert: {} {}; {}", file.display(), e.what, e.remedy))
}

/// The head of an answer with these fields.
fn granted(lines: &[String]) -> Result<Granted, String> {
    let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
    for line in lines {
        one_line("--ext-auth-header", line)?;
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut head = ResponseHead::default();
    match head.parse(&bytes, &GRANTED) {
        Ok(true) if head.fields.iter().count() == lines.len() => Ok(Granted { head, bytes }),
        _ => Err("--ext-auth-header is no field; write `NAME: VALUE`".to_owned()),
    }
}

fn one_line(what: &str, text: &str) -> Result<(), String> {
    match text.contains(['\r', '\n']) {
        true => Err(format!("{what} has the end of a line in it, and would be more than one")),
        false => Ok(()),
    }
}

/// Who comes over a Unix socket has an address only where a PROXY header tells it.
fn from(given: Option<IpAddr>, listener: &Listener) -> Result<Option<IpAddr>, String> {
    let is_unix = listener.address.ip().is_none();
    match given {
        None if is_unix => Ok(None),
        None => Ok(Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        Some(_) if is_unix && listener.proxy_protocol.is_none() => Err(format!(
            "--from: the listener `{}` is a Unix socket, and who comes over it has no address; leave it out",
            listener.name.value
        )),
        Some(ip) => Ok(Some(ip)),
    }
}

fn listener(name: Option<&str>, is_tls: Option<bool>, config: &Config) -> Result<usize, String> {
    let speaks = |index: &usize| {
        let listener = config.listeners.get(*index);
        listener.is_some_and(|listener| is_tls.is_none_or(|is_tls| listener.tls.is_some() == is_tls))
    };
    let Some(name) = name else {
        let what = if is_tls == Some(true) { "with TLS" } else { "without TLS" };
        let remedy = "choose one with --listener, or another scheme";
        return (0..config.listeners.len()).find(speaks).ok_or(format!("no listener {what}; {remedy}"));
    };
    let names = || config.listeners.iter().map(|listener| listener.name.value.as_str());
    let found = names().position(|listener| listener == name);
    found.ok_or_else(|| format!("no listener `{name}`; there are {}", names().collect::<Vec<_>>().join(", ")))
}
