//! The line of a request in the access log: whether it has one, and what of the request it may show.

use crate::context::Context;
use crate::core::Core;
use crate::http::head::Version;
use crate::observe::access_log::Record;
use crate::observe::format::{ALL, Rules};
use crate::observe::line::Asked;
use crate::observe::redact::shown_path;
use crate::request::Request;
use crate::socket::SocketName;

use super::finish::times;
use super::plane::Downstream;

/// From this status on an answer is a failure of the gateway or of an upstream.
const FAILED_FROM: u16 = 500;

/// How the log line calls what it is about; empty for what there was not.
pub struct Names<'n> {
    /// The route.
    pub route: &'n str,
    /// Its upstream.
    pub upstream: &'n str,
    /// Its endpoint that was asked last.
    pub endpoint: Option<&'n SocketName>,
}

/// Writes the line of a request that ended at `now_us`.
pub fn write(
    req: &Request,
    down: &Downstream,
    rules: &Rules,
    core: &Core,
    cx: &Context,
    names: Names<'_>,
    now_us: u64,
) {
    let (total_us, upstream_us, added_us) = times(cx, now_us);
    if rules.sample < ALL && core.has_log() && !is_drawn(rules, core, cx, total_us) {
        core.metrics.log_lines_unsampled.add(1);
        return;
    }
    let record = Record {
        unix_us: core.clock.unix_us(cx.started_us),
        client: req.client.or_else(|| down.peer().ip()),
        method: if has_head(req) { req.head.method.as_str() } else { "" },
        host: &req.authority,
        path: shown_path(req.head.target.of(req.bytes())),
        route: names.route,
        upstream: names.upstream,
        endpoint: names.endpoint,
        status: cx.status,
        bytes_in: cx.bytes_in,
        bytes_out: cx.bytes_out,
        total_us,
        upstream_us: upstream_us.unwrap_or(0),
        added_us,
        end: cx.end.code(),
        request_id: &req.request_id,
        parts: &req.parts,
        coding: req.compression.done().map(|done| (done.coding.name(), done.bytes)),
        refused_by: &req.refused_by,
        would_refuse: &req.would_refuse,
        plugins: &req.plugins.log,
        notes: &req.notes,
    };
    let answer_head = req.answer_head.borrow();
    core.log(&record, rules, &Facts { req, answer_head: &answer_head, body_bytes: cx.body_bytes_out() });
}

/// Whether a request is logged where not all are: what an operator looks for is.
fn is_drawn(rules: &Rules, core: &Core, cx: &Context, total_us: u64) -> bool {
    let failed = cx.status == 0 || cx.status >= FAILED_FROM || cx.end.is_broken();
    failed || total_us >= rules.slow_us || core.random.borrow_mut().draws(rules.sample)
}

/// Whether its head could be read.
fn has_head(req: &Request) -> bool {
    req.head.target.end() != 0
}

/// What formats other than plain JSON may show.
struct Facts<'r> {
    req: &'r Request,
    answer_head: &'r [u8],
    body_bytes: u64,
}

impl Asked for Facts<'_> {
    fn protocol(&self) -> &str {
        match self.req.head.version {
            _ if !has_head(self.req) => "",
            Version::H10 => "HTTP/1.0",
            Version::H11 => "HTTP/1.1",
        }
    }

    fn query(&self) -> Option<&[u8]> {
        self.req.query.map(|query| query.of(self.req.bytes()))
    }

    fn principal(&self) -> Option<&str> {
        self.req.principal.get()
    }

    fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut came = self.req.head.fields.came(name.as_bytes(), self.req.bytes());
        came.next().map(|field| field.value.of(self.req.bytes()))
    }

    fn answer_header(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.answer_head.split(|b| *b == b'\n').skip(1);
        lines.find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let is_it = line.get(..colon)?.eq_ignore_ascii_case(name.as_bytes());
            is_it.then(|| line.get(colon + 1..).unwrap_or_default().trim_ascii())
        })
    }
}
