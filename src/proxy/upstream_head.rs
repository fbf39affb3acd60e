//! The head of a forwarded request: what passes, what is replaced, what the gateway adds (HTTP.md, Requests).

use crate::http::encode::{self, copy_fields};
use crate::http::forwarded::{self, Tells};
use crate::http::framing::Framing;
use crate::http::head::Field;
use crate::http::known::Known;
use crate::http::upgrade;
use crate::request::Request;
use crate::route::facts::Timed;
use crate::route::rewrite::PathRewrite;
use crate::route::template::Place;
use crate::snapshot::{Forward, HostPolicy};

use super::upload;

/// A target that the gateway makes itself is no request if it is longer than this: most servers refuse 8 KiB.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// How the gateway calls itself in Via (RFC 9110 7.6.3).
const VIA: &[u8] = b"1.1 ringway";

/// Appends the head of `req` as the endpoint that is asked as `endpoint_host` gets it: nothing but the request, the route's
/// action and the client's address is needed for it, no connection. `left_ms` is what is left of the route's time. False if
/// its target has become too long to be sent.
#[must_use]
pub fn write(
    req: &Request,
    action: &Forward,
    endpoint_host: &str,
    peer: &str,
    left_ms: u64,
    out: &mut Vec<u8>,
) -> bool {
    let fits = write_line(req, action, out);
    if fits {
        write_fields(req, action, endpoint_host, peer, left_ms, out);
    }
    fits
}

/// Appends the first line, without its end: it is the same for every endpoint. False if its target has become too long.
#[must_use]
pub fn write_line(req: &Request, action: &Forward, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(req.head.method.as_str().as_bytes());
    out.push(b' ');
    // Nor is one a request for an expression: matching would keep the core, and what it does not see would go on as it is.
    if matches!(action.rewrite, PathRewrite::Regex(_)) && req.path.len() > TARGET_BYTES_MAX {
        return false;
    }
    let start = out.len();
    write_target(req, action, out);
    // One that the client has sent as long as this was allowed to.
    let len = out.len() - start;
    len <= TARGET_BYTES_MAX || len <= req.head.target.end() - req.head.target.start()
}

/// Appends what follows the first line, up to the empty line.
pub fn write_fields(req: &Request, action: &Forward, endpoint_host: &str, peer: &str, left_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(match &action.host {
        HostPolicy::Upstream => endpoint_host.as_bytes(),
        HostPolicy::Pass if req.authority.is_empty() => endpoint_host.as_bytes(),
        HostPolicy::Pass => &req.authority,
        HostPolicy::Literal(host) => host.as_bytes(),
    });
    out.extend_from_slice(b"\r\n");
    copy_fields(&req.head.fields, req.bytes(), |field| !passes(req, field), out);
    write_who(req, peer, |name| req.edits.replaces(name), out);
    if req.asks_upgrade {
        // In place of TE: several Connection fields are more than some servers read.
        upgrade::write_asked(upgrade::asked(&req.head, req.bytes(), &action.upgrade), out);
    } else {
        write_te(req, out);
    }
    upload::write_framing(req.framing, out);
    req.edits.write_added(out);
    for (name, value) in &action.timed {
        let facts = Timed { base: req, left_ms };
        encode::field_of(name.as_bytes(), |out| value.render(&facts, Place::Header, out), out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_target(req: &Request, action: &Forward, out: &mut Vec<u8>) {
    action.rewrite.apply(req.path_str(), req, out);
    match (&action.query, req.query_str()) {
        (Some(query), asked) => query.apply(asked, req, out),
        (None, Some(asked)) => {
            out.push(b'?');
            out.extend_from_slice(asked.as_bytes());
        }
        (None, None) => {}
    }
}

/// Whether a field of the client goes on as it is.
fn passes(req: &Request, field: &Field) -> bool {
    let allowed = match field.known {
        Known::Other | Known::Authorization | Known::Date | Known::StrictTransportSecurity => true,
        // Written anew, from what was decided about them.
        Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Via | Known::RequestId => false,
        Known::ForwardedFor | Known::ForwardedProto | Known::ForwardedHost => false,
        // Answered by the gateway, or meant for it alone.
        Known::Expect | Known::Connection | Known::HopByHop | Known::Te => false,
        Known::Unbelieved => false,
        Known::Trailer => req.framing == Framing::Chunked,
        // One that the gateway continues is written anew.
        Known::Forwarded => req.from_trusted && req.tells == Tells::XForwarded,
        Known::ForwardedOther => req.from_trusted,
    };
    allowed && !req.head.fields.is_listed(field, req.bytes()) && !req.edits.removes(field.name, req.bytes())
}

/// Who calls and how, the id, and the way it came; but for those of which the operator's own are written.
pub fn write_who(req: &Request, peer: &str, replaced: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    let wanted = |name: &[u8]| !replaced(name);
    if req.tells != Tells::XForwarded && wanted(b"forwarded") {
        out.extend_from_slice(b"Forwarded: ");
        write_hops(req, out);
        forwarded::write(peer, &req.authority, req.own_scheme(), out);
        out.extend_from_slice(b"\r\n");
    }
    let wanted_x = |name: &[u8]| req.tells != Tells::Forwarded && wanted(name);
    if wanted_x(b"x-forwarded-for") {
        write_way(req, peer, out);
    }
    if wanted_x(b"x-forwarded-proto") {
        encode::field(b"X-Forwarded-Proto", req.scheme(), out);
    }
    if wanted_x(b"x-forwarded-host") && !req.authority.is_empty() {
        encode::field(b"X-Forwarded-Host", req.asked_host(), out);
    }
    if wanted(b"x-request-id") {
        encode::field(b"X-Request-Id", req.request_id.as_bytes(), out);
    }
    if wanted(b"via") {
        out.extend_from_slice(b"Via: ");
        write_trusted(req, Known::Via, out);
        out.extend_from_slice(VIA);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a trusted proxy said of the hops before. A field that is malformed is no beginning, as what follows would be lost in
/// it, and nor is what stands in front of it: it would pass for what that hop has said.
fn write_hops(req: &Request, out: &mut Vec<u8>) {
    if !req.from_trusted {
        return;
    }
    let said = || req.head.fields.all(Known::Forwarded).map(|field| forwarded::trimmed(field.value.of(req.bytes())));
    let malformed = said().enumerate().filter(|(_, value)| forwarded::elements(value).is_none()).last();
    for value in said().skip(malformed.map_or(0, |(at, _)| at + 1)).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// The addresses on the way here. One that came over a Unix socket adds none to what a trusted proxy said, and without that
/// there is no such field: what is no address would be taken for one, or for the end of the way.
fn write_way(req: &Request, peer: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"X-Forwarded-For: ");
    let told = out.len();
    write_trusted(req, Known::ForwardedFor, out);
    match (peer.is_empty(), out.len() > told) {
        (false, _) => out.extend_from_slice(peer.as_bytes()),
        (true, true) => out.truncate(out.len().saturating_sub(2)), // the comma behind it
        (true, false) => return out.truncate(start),
    }
    out.extend_from_slice(b"\r\n");
}

fn write_te(req: &Request, out: &mut Vec<u8>) {
    // RFC 9110 10.1.4: the one value of TE that a proxy may pass on, and it must list TE in Connection.
    let has_trailers = |field: &Field| {
        field
            .value
            .of(req.bytes())
            .split(|&b| b == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    if req.head.fields.all(Known::Te).any(has_trailers) {
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
}

/// What a trusted proxy said in that field, to be continued.
fn write_trusted(req: &Request, known: Known, out: &mut Vec<u8>) {
    if !req.from_trusted {
        return;
    }
    for field in req.head.fields.all(known).filter(|field| !field.value.of(req.bytes()).is_empty()) {
        out.extend_from_slice(field.value.of(req.bytes()));
        out.extend_from_slice(b", ");
    }
}
