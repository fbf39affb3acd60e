//! Receiving a request: its head within its deadline and bounds, then what routing needs, decided once.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::Method;

use crate::core::Core;
use crate::error::Kind;
use crate::http::authority::validate_host;
use crate::http::encode;
use crate::http::forwarded::{self, Tells};
use crate::http::framing::{self, FramingError};
use crate::http::head::{Bounds, HeadError, RequestHead, Scan, Span, Version, empty_lines};
use crate::http::known::Known;
use crate::http::target::{Normalized, Target, normalize, split};
use crate::io::{Buf, guard};
use crate::request::{Request, Said};
use crate::snapshot::{ListenerSpec, Snapshot};

use super::finish::kind_of;
use super::plane::Downstream;

/// Method and space before a target, at most, where its bound is looked at before its end has come.
const LINE_START_MAX: usize = 32;
/// Empty lines before a request line, in bytes.
pub(super) const EMPTY_BYTES_MAX: usize = 16;
/// Longest request id that is taken over from a trusted proxy.
const REQUEST_ID_MAX: usize = 128;

/// A head as it arrives: what of it was looked at, and when to look again. It reads no clock and does no I/O.
pub struct Arrival {
    scan: Scan,
    parse_at: usize,
    skipped: usize,
    /// The first size at which an unfinished target can be over its bound.
    look_at_target: usize,
}

impl Arrival {
    /// Of which nothing has come.
    pub fn new(bounds: &Bounds) -> Self {
        let look_at_target = bounds.target.saturating_add(LINE_START_MAX);
        Self { scan: Scan::default(), parse_at: 0, skipped: 0, look_at_target }
    }

    /// Looks at all that has come, with what was there before. `Ok(true)`: the head is whole.
    ///
    /// # Errors
    /// What the client is to be told; more bytes change nothing about it.
    #[inline]
    pub fn look(&mut self, buf: &mut Buf, head: &mut RequestHead, bounds: &Bounds) -> Result<bool, Kind> {
        let skip = empty_lines(buf.bytes());
        buf.consume(skip);
        self.skipped += skip;
        if self.skipped > EMPTY_BYTES_MAX {
            return Err(Kind::Malformed("too many empty lines"));
        }
        let bytes = buf.bytes();
        // A head that comes in one piece is parsed at once, without a scan. One that drips in is scanned for its end,
        // and parsed again only when it has doubled, to see malformed ones early.
        let over = bytes.len() >= bounds.head || bytes.len() >= self.look_at_target;
        let nothing_yet = bytes.is_empty() || bytes == b"\r"; // which may become an empty line
        if !nothing_yet && (bytes.len() >= self.parse_at || over || self.scan.has_end(bytes)) {
            if bytes.len() >= self.look_at_target {
                self.look_at_target = usize::MAX;
            }
            if head.parse(bytes, bounds).map_err(head_error)? {
                return Ok(true);
            }
            self.parse_at = bytes.len() * 2;
        }
        Ok(false)
    }
}

/// Reads a whole head into `req`, of which some bytes may be there. Errors are the client's; [`Kind::ClientGone`] means
/// there is nobody to answer.
pub async fn head(down: &Downstream, rules: &ListenerSpec, core: &Core, req: &mut Request) -> Result<(), Kind> {
    let due_ms = down.slot.now_ms().saturating_add(rules.request_header_ms.into());
    let mut arrival = Arrival::new(&rules.bounds);
    loop {
        if arrival.look(&mut req.buf, &mut req.head, &rules.bounds)? {
            return Ok(());
        }
        if req.buf.spare() == 0 {
            let larger = req.buf.larger();
            req.buf.grow(larger, &core.buffers);
        }
        let buf = std::mem::take(&mut req.buf);
        match guard(&down.slot, due_ms, down.stream.read(buf)).await {
            Ok((Ok(n), buf)) => {
                req.buf = buf;
                if n == 0 {
                    return Err(Kind::ClientGone);
                }
                req.received += n as u64;
            }
            Ok((Err(_), buf)) => {
                req.buf = buf;
                return Err(Kind::ClientGone);
            }
            Err(fired) => return Err(kind_of(fired, Kind::HeaderTimeout)),
        }
    }
}

#[cold]
fn head_error(e: HeadError) -> Kind {
    match e {
        HeadError::Malformed(what) => Kind::Malformed(what),
        HeadError::TooLarge => Kind::HeadTooLarge,
        HeadError::TooManyFields => Kind::TooManyFields,
        HeadError::TargetTooLong => Kind::TargetTooLong,
        HeadError::Version => Kind::Version,
    }
}

/// Decides path, host, framing and client from a head that was read from `peer`.
///
/// # Errors
/// What the client is to be told.
pub fn decide(peer: Option<IpAddr>, rules: &ListenerSpec, snapshot: &Snapshot, req: &mut Request) -> Result<(), Kind> {
    let Request { buf, head, path, query, host, authority, framing: body, .. } = req;
    let bytes = buf.bytes();
    *body = framing::of_request(head, bytes).map_err(|e| match e {
        FramingError::Malformed(what) => Kind::Malformed(what),
        FramingError::UnknownCoding => Kind::UnknownCoding,
    })?;
    let bad_target = |_| Kind::Malformed("not a request target");
    let target = split(&head.method, head.target.of(bytes)).map_err(bad_target)?;
    let mut from_target: Option<&[u8]> = None;
    let raw_path: &[u8] = match target {
        Target::Origin { path, query: q } => {
            *query = q.map(|q| Span::within(bytes, q));
            path
        }
        Target::Absolute { authority, path, query: q, .. } => {
            *query = q.map(|q| Span::within(bytes, q));
            from_target = Some(authority);
            path
        }
        Target::Authority(authority) => {
            from_target = Some(authority);
            b""
        }
        Target::Asterisk => b"",
    };
    // RFC 9112 3.2.4: OPTIONS for a URL without a path is about the server as a whole.
    let is_whole = head.method == Method::OPTIONS && from_target.is_some() && query.is_none() && {
        !head.target.of(bytes).ends_with(b"/") && raw_path == b"/"
    };
    if raw_path.is_empty() || is_whole {
        // CONNECT names a host alone: it is matched as the root of it.
        path.push(if head.method == Method::CONNECT { b'/' } else { b'*' });
    } else if let Normalized::AsIs(same) = normalize(raw_path, &rules.paths, path).map_err(bad_target)? {
        path.clear();
        path.extend_from_slice(same.as_bytes());
    }

    // Exactly one Host on 1.1 (RFC 9112 3.2), and a valid one even where an absolute target wins over it.
    if head.fields.all(Known::Host).nth(1).is_some() {
        return Err(Kind::Malformed("more than one Host"));
    }
    let field = head.fields.all(Known::Host).next().map(|field| field.value.of(bytes));
    if field.is_none() && head.version == Version::H11 {
        return Err(Kind::Malformed("no Host"));
    }
    let bad_host = |_| Kind::Malformed("not a valid Host");
    if let Some(field) = field {
        let valid = validate_host(field).map_err(bad_host)?;
        if from_target.is_none() {
            valid.lowercase_into(host);
            authority.extend_from_slice(field);
        }
    }
    if let Some(target) = from_target {
        validate_host(target).map_err(bad_host)?.lowercase_into(host);
        authority.extend_from_slice(target);
    }
    if rules.tls.as_ref().is_some_and(|tls| tls.rules.required) && is_misdirected(req) {
        return Err(Kind::Misdirected);
    }
    decide_client(peer, snapshot, req);
    Ok(())
}

/// Whether the request is for another host than the handshake was (RFC 9110 15.5.20): a certificate that was asked for in
/// one host's name must not open another. Addresses are named in no handshake (RFC 6066 3).
fn is_misdirected(req: &Request) -> bool {
    let named = req.session.as_ref().map_or("", |session| session.server_name.as_str());
    let host = req.host_str();
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    named != host && !(named.is_empty() && is_address)
}

/// Who calls: the downstream address, or behind trusted proxies the last one that none of them vouches for.
fn decide_client(peer: Option<IpAddr>, snapshot: &Snapshot, req: &mut Request) {
    req.client = peer;
    req.tells = snapshot.forwarded;
    let trusted = &snapshot.trusted_proxies;
    let bytes = req.buf.bytes();
    req.from_trusted = trusted.contains(peer);
    let (from_trusted, tells) = (req.from_trusted, req.tells);
    req.head.fields.disbelieve(|known| from_trusted && is_told_by_proxies(known, tells), bytes);
    if !from_trusted {
        return;
    }
    if req.tells == Tells::Forwarded {
        for field in req.head.fields.all(Known::Forwarded).rev() {
            let Some(elements) = forwarded::elements(field.value.of(bytes)) else { return };
            for element in elements.iter().rev() {
                let within = |said: &[u8]| Span::within(bytes, said);
                req.said = Said { proto: element.proto.map(within), host: element.host.map(within) };
                // What is not told (`unknown`, or a name that hides it) ends it as nonsense does.
                let Some(ip) = element.node.and_then(address_of) else { return };
                req.client = Some(ip);
                if !trusted.contains(Some(ip)) {
                    return;
                }
            }
        }
        return;
    }
    let fields: Vec<&[u8]> = req.head.fields.all(Known::ForwardedFor).map(|f| f.value.of(bytes)).collect();
    let hops = fields.iter().rev().flat_map(|value| value.rsplit(|&b| b == b','));
    for hop in hops {
        let Some(ip) = address_of(hop.trim_ascii()) else { break }; // what stands left of nonsense can not be believed
        req.client = Some(ip);
        if !trusted.contains(Some(ip)) {
            break;
        }
    }
}

/// Whether a trusted proxy says it itself: what it may have let through from its client is not believed either.
fn is_told_by_proxies(known: Known, tells: Tells) -> bool {
    match known {
        Known::ForwardedFor | Known::ForwardedProto | Known::ForwardedHost => tells != Tells::Forwarded,
        _ => true,
    }
}

/// The address that a hop of X-Forwarded-For names: `192.0.2.1`, `2001:db8::1`, and as some proxies write it (Azure's with
/// the client's port, which is no part of who it is) `192.0.2.1:5555`, `[2001:db8::1]:5555`, `[2001:db8::1]`.
fn address_of(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let ip = text.parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.or_else(|| bracketed().map(IpAddr::V6)).map(|ip| ip.to_canonical())
}

/// Gives the request its id: that of a trusted proxy if it is harmless, else a new one.
pub fn name(core: &Core, req: &mut Request) {
    // Two ids are none.
    let mut ids = req.head.fields.all(Known::RequestId).filter(|_| req.from_trusted);
    let given = ids.next().filter(|_| ids.next().is_none()).map(|field| field.value.of(req.buf.bytes()));
    let harmless = |id: &&[u8]| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_MAX
            && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
    };
    match given.filter(harmless).and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => {
            req.request_id.clear();
            req.request_id.push_str(id);
        }
        None => core.ids.next(&mut req.request_id),
    }
}

/// `OPTIONS *` is about the gateway itself (RFC 9110 9.3.7), and so is what may be forwarded no further.
pub fn is_for_the_gateway(req: &Request) -> bool {
    let method = &req.head.method;
    req.path == b"*" || (is_counted(method) && forwards_left(req) == Some(0))
}

/// Methods that a client may send on a limited way (RFC 9110 7.6.2).
fn is_counted(method: &Method) -> bool {
    *method == Method::OPTIONS || *method == Method::TRACE
}

fn forwards_left(req: &Request) -> Option<u64> {
    let value = req.head.fields.get(b"max-forwards", req.bytes())?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Counts this gateway on the way of an OPTIONS or TRACE that is to be forwarded so many times only.
pub fn count_forward(req: &mut Request) {
    if !is_counted(&req.head.method) {
        return;
    }
    if let Some(left) = forwards_left(req) {
        req.edits.set(b"Max-Forwards", |out| encode::number(left.saturating_sub(1), out));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hop_is_an_address_with_or_without_a_port() {
        for (hop, ip) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:5555", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ] {
            assert_eq!(address_of(hop.as_bytes()), Some(ip.parse().unwrap()), "{hop}");
        }
        for hop in
            ["", "unknown", "192.0.2.1:", "192.0.2.1:99999", "[192.0.2.1]", "[2001:db8::1", "192.0.2.1:80:80", "[]:80"]
        {
            assert_eq!(address_of(hop.as_bytes()), None, "{hop}");
        }
    }
}
