//! The field lines of an answer that is put together: the gateway's own and those of a part, changed as the route says.

use crate::filter::header_edits::Came;
use crate::http::encode::{self, copy_fields};
use crate::http::error_form::Written;
use crate::http::head::Fields;
use crate::request::Request;
use crate::snapshot::aggregate::Aggregate;

use super::outcome::{Failure, Outcome, shown};

/// What every aggregated answer is (RFC 8259 11 defines no charset, which some clients want to see all the same).
const CONTENT_TYPE: &[u8] = b"application/json; charset=utf-8";

/// Writes the field lines of an answer, but for Content-Length, Date and Connection.
pub fn write(
    req: &mut Request,
    plan: &Aggregate,
    outcomes: &[Outcome],
    complete: bool,
    failure: Option<&Failure>,
    written: Option<&Written<'_>>,
    out: &mut Vec<u8>,
) {
    out.clear();
    let content_type = written.filter(|written| !written.content_type.eq(b"application/json"));
    let content_type = content_type.map_or(CONTENT_TYPE, |written| written.content_type);
    encode::field(b"Content-Type", content_type, out);
    if written.is_some_and(|written| written.is_own) {
        encode::field(b"X-Request-Id", req.request_id.as_bytes(), out);
    }
    if let Some(name) = &plan.completed_header {
        encode::field(name.as_bytes(), if complete { b"true" } else { b"false" }, out);
    }
    if !complete {
        encode::field(b"Cache-Control", b"no-store", out);
    }
    if let Some(seconds) = failure.and_then(|failure| failure.retry_after) {
        encode::field_of(b"Retry-After", |out| encode::number(seconds.into(), out), out);
    }
    if plan.server_timing && outcomes.iter().any(|outcome| outcome.from_us.is_some()) {
        encode::field_of(b"Server-Timing", |out| server_timing(plan, outcomes, out), out);
    }
    let lines = match failure {
        Some(failure) => failure.part.filter(|_| failure.row.status == 401),
        None => plan.headers_from,
    };
    let lines = lines.and_then(|index| outcomes.get(index)).map(|outcome| outcome.lines.as_slice()).unwrap_or_default();
    let is_edited = !plan.response_headers.is_empty();
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        // Where the route changes lines, it sees those too that are left out for the sake of filters.
        let is_replaced = !is_edited && (req.answer_edits.replaces(name) || req.own.replaces(name));
        if !is_replaced && (complete || !name.eq_ignore_ascii_case(b"cache-control")) {
            out.extend_from_slice(line);
        }
    }
    if is_edited {
        edit(req, plan, out);
    }
}

/// Makes the route's changes to these lines, as to those of an upstream's answer.
#[cold]
fn edit(req: &mut Request, plan: &Aggregate, out: &mut Vec<u8>) {
    let lines = std::mem::take(out);
    let fields = Fields::of_lines(&lines);
    let mut edits = std::mem::take(&mut req.answer_edits); // all else of the request is read
    let came = Came { fields: &fields, bytes: &lines, is_trusted: true, is_request: false };
    plan.response_headers.apply(req, Some(came), &mut edits);
    copy_fields(
        &fields,
        &lines,
        |field| edits.removes(field.name, &lines) || req.own.replaces(field.name.of(&lines)),
        out,
    );
    edits.write_added_but(|name| req.own.replaces(name), out);
    req.answer_edits = edits;
}

/// `user;dur=12.3, orders;dur=200.1;desc="timeout"` (W3C Server Timing), of those parts that were asked.
fn server_timing(plan: &Aggregate, outcomes: &[Outcome], out: &mut Vec<u8>) {
    let start = out.len();
    for (_, part, outcome) in shown(plan, outcomes).filter(|(_, _, outcome)| outcome.from_us.is_some()) {
        if out.len() > start {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(part.name.as_bytes());
        out.extend_from_slice(b";dur=");
        encode::number(outcome.took_us / 1000, out);
        out.push(b'.');
        encode::number(outcome.took_us % 1000 / 100, out);
        if let Some(reason) = outcome.reason {
            out.extend_from_slice(b";desc=\"");
            out.extend_from_slice(reason.code().as_bytes());
            out.push(b'"');
        }
    }
}
