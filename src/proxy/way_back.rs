//! The fields of an upstream's answer as the client is to read them: what leads to the upstream leads through the gateway,
//! then the route's own changes are made.

use crate::filter::header_edits::Came;
use crate::http::authority::validate_host;
use crate::http::encode::Edits;
use crate::request::Request;
use crate::route::back::{self, Ends, without_default_port};
use crate::snapshot::{Forward, HostPolicy, UpstreamSpec, WayBack};

/// The fields that a [`WayBack`] changes.
pub const LED_BACK: [&[u8]; 3] = [b"Location", b"Content-Location", b"Set-Cookie"];

/// Notes the changes to the answer that has come; `bytes` are those that its head is in.
pub fn edit(action: &Forward, spec: &UpstreamSpec, req: &mut Request, bytes: &[u8]) {
    let mut edits = std::mem::take(&mut req.answer_edits); // all else of the request is read
    let came = Came { fields: &req.answer.fields, bytes, is_trusted: true, is_request: false };
    if let Some(way_back) = &action.way_back {
        lead_back(way_back, action, spec, req, came, &mut edits);
    }
    action.response_headers.apply(req, Some(came), &mut edits);
    req.answer_edits = edits;
}

fn lead_back(
    way_back: &WayBack,
    action: &Forward,
    spec: &UpstreamSpec,
    req: &Request,
    came: Came<'_>,
    edits: &mut Edits,
) {
    if way_back.location {
        let is_own = |authority: &str, scheme: &str| is_own(authority, scheme, action, spec, req);
        // What a proxy in front says of the client is believed, and looked at all the same: it becomes part of a URL.
        let said = |bytes| std::str::from_utf8(bytes).ok();
        let is_scheme = |scheme: &&str| matches!(*scheme, "http" | "https");
        let own_scheme = if req.session.is_some() { "https" } else { "http" };
        let host = said(req.asked_host()).filter(|host| validate_host(host.as_bytes()).is_ok());
        let ends = Ends {
            scheme: if spec.tls.is_some() { "https" } else { "http" },
            is_own: &is_own,
            client_scheme: said(req.scheme()).filter(is_scheme).unwrap_or(own_scheme),
            client_authority: host.or_else(|| said(&req.authority)).unwrap_or_default(),
            asked: req.path_str(),
        };
        for name in [&b"Location"[..], b"Content-Location"] {
            change_each(name, came, edits, |value, out| {
                std::str::from_utf8(value).is_ok_and(|value| back::location(value, &action.rewrite, &ends, out))
            });
        }
    }
    if !way_back.cookies.is_empty() {
        change_each(b"Set-Cookie", came, edits, |value, out| way_back.cookies.apply(value, out));
    }
}

/// Whether the upstream may call itself so: the Host that it was asked by, or an endpoint's name or address.
fn is_own(authority: &str, scheme: &str, action: &Forward, spec: &UpstreamSpec, req: &Request) -> bool {
    let same = |own: &str| without_default_port(own, scheme).eq_ignore_ascii_case(authority);
    let asked_by = match &action.host {
        HostPolicy::Upstream => None,
        HostPolicy::Pass => std::str::from_utf8(&req.authority).ok(),
        HostPolicy::Literal(host) => Some(host.as_str()),
    };
    asked_by.is_some_and(same)
        || spec.endpoints.iter().any(|endpoint| same(&endpoint.host) || same(&endpoint.address.to_string()))
}

/// Writes all fields of that name anew, in their order, if `change` changes one of them. What filters have decided stays.
fn change_each(name: &[u8], came: Came<'_>, edits: &mut Edits, change: impl Fn(&[u8], &mut Vec<u8>) -> bool) {
    if edits.replaces(name) {
        return;
    }
    let goes_on = came.fields.named(name, came.bytes).filter(|field| !came.fields.is_listed(field, came.bytes));
    let mut is_changed = false;
    let mut lines = Vec::new();
    for field in goes_on {
        let mut value = Vec::new();
        if change(field.value.of(came.bytes), &mut value) {
            is_changed = true;
        } else {
            value.extend_from_slice(field.value.of(came.bytes));
        }
        lines.push((field.name.of(came.bytes), value));
    }
    if is_changed {
        edits.drop_came(name);
        for (name, value) in lines {
            edits.add(name, |out| out.extend_from_slice(&value));
        }
    }
}
