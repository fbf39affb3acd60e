//! One upstream call of a part: its answer is bounded by the plan, and validated as it comes.
//!
//! It owns all that it needs, so that it can run in a recycled box beside the other calls of its request.

use std::rc::Rc;

use crate::core::Held;
use crate::end::PartReason;
use crate::error::{Error, Kind};
use crate::http::encode::copy_fields;
use crate::http::framing::Framing;
use crate::http::head::{Field, ResponseHead};
use crate::http::known::Known;
use crate::io::Buf;
use crate::json::Validator;
use crate::snapshot::Action;
use crate::snapshot::aggregate::{Aggregate, Part};

use super::super::call::{Broken, Call, Taker, Whole};
use super::super::checkout::{Lease, Wanted};
use super::super::plane::{Live, Plane};

/// Fields about one body (RFC 9110 8, RFC 9530), or about how long it was kept: not about what is made of several.
const ABOUT_BODY: [&str; 14] = [
    "accept-ranges",
    "age",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "digest",
    "etag",
    "last-modified",
    "repr-digest",
];
/// Seconds after which to come again, if an upstream that limits its callers does not say.
const RETRY_AFTER_DEFAULT: u32 = 1;

/// What a call needs to be made.
pub struct Order {
    /// The worker's data plane.
    pub plane: Rc<Plane>,
    /// The snapshot of the request.
    pub live: Rc<Live>,
    /// Index of the route.
    pub route: usize,
    /// Index of the part.
    pub part: usize,
    /// The endpoint to ask.
    pub endpoint: usize,
    /// What it was chosen by, if it was.
    pub key: Option<u64>,
    /// An idle connection to it that was quiet a moment ago.
    pub lease: Option<Lease>,
    /// The whole request.
    pub out: Buf,
    /// When its time is over, in ms since the process began.
    pub due_ms: u64,
    /// What its request counts against the core's memory; its answer is added.
    pub held: Held,
}

/// Memory of a call that is used again by the next.
#[derive(Default)]
pub struct CallMemory {
    head: ResponseHead,
    validator: Validator,
}

/// An answer that is a success: whole, within bounds, and JSON.
#[derive(Default)]
pub struct Answered {
    /// The answer; its body begins at `at`.
    pub buf: Buf,
    /// Where the body begins. It ends with the buffer.
    pub at: usize,
    /// The status.
    pub status: u16,
    /// The field lines that go into the answer, if they are wanted.
    pub lines: Vec<u8>,
    /// What the buffer counts against the core's memory.
    pub held: Option<Held>,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub reason: PartReason,
    /// The status that the upstream answered.
    pub status: Option<u16>,
    /// Seconds after which to come again, as an upstream that limits its callers says.
    pub retry_after: Option<u32>,
    /// Field lines that belong to its status, should that become the whole's.
    pub lines: Vec<u8>,
    /// It is not the part's doing, and the whole request can not go on: memory is out, or the gateway stops.
    pub fatal: Option<Kind>,
}

impl Failed {
    /// A failure without an answer.
    pub fn because(reason: PartReason) -> Self {
        Self { reason, status: None, retry_after: None, lines: Vec::new(), fatal: None }
    }

    fn with(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        let mut fatal = None;
        let reason = match e.kind {
            Kind::ConnectTimeout | Kind::FirstByteTimeout | Kind::RouteTimeout | Kind::UpstreamBodyTimeout => {
                PartReason::Timeout
            }
            Kind::Connect | Kind::Exhausted | Kind::UpstreamTls | Kind::NoEndpoint => PartReason::Connect,
            Kind::Reset | Kind::Truncated => PartReason::Reset,
            Kind::BadResponse(_) => PartReason::BadBody,
            kind => {
                fatal = Some(kind);
                PartReason::Cancelled
            }
        };
        Self { fatal, ..Self::because(reason) }
    }
}

/// The part and its plan.
pub fn plan_of(live: &Live, route: usize, part: usize) -> Option<(&Aggregate, &Part)> {
    match &live.snapshot.routes.get(route)?.action {
        Action::Aggregate(plan) => Some((plan, plan.parts.get(part)?)),
        _ => None,
    }
}

/// Makes the call.
pub async fn call(order: Order) -> Result<Answered, Failed> {
    let Order { plane, live, route, part: index, endpoint, key, lease, out, due_ms, mut held } = order;
    let internal = Failed::from(Kind::Internal.never());
    let Some((plan, part)) = plan_of(&live, route, index) else { return Err(internal) };
    let Some(spec) = live.snapshot.upstreams.get(part.upstream) else { return Err(internal) };
    let core = &plane.core;
    let slot = core.deadlines.slot();
    let endpoints = live.endpoints(part.upstream);
    let wanted = Wanted { spec, endpoints, core, slot: &slot, client: None, due_ms };
    let mut memory = plane.take_call();
    let CallMemory { head, validator } = &mut *memory;
    let keep_fields = plan.headers_from == Some(index);
    let mut taken = Taken { plan, part, keep_fields, validator, status: 0, lines: Vec::new() };
    let call = Call { wanted, key, method: &part.method, safe: part.safe };
    let result = call.ask(endpoint, lease, out, head, &mut taken, &mut held).await;
    let Taken { status, lines, .. } = taken;
    plane.give_call(memory);
    match result {
        Ok(Whole { buf, at }) => Ok(Answered { buf, at, status, lines, held: Some(held) }),
        Err(Broken::Transport(e)) => Err(Failed::from(e)),
        Err(Broken::Answer(failed)) => Err(failed),
    }
}

/// What is taken of a part's answer.
struct Taken<'a> {
    plan: &'a Aggregate,
    part: &'a Part,
    keep_fields: bool,
    validator: &'a mut Validator,
    status: u16,
    lines: Vec<u8>,
}

impl Taker for Taken<'_> {
    type Fault = Failed;
    const DROPS_BODY: bool = false;

    fn head(&mut self, head: &ResponseHead, bytes: &[u8], framing: Framing) -> Result<(), Failed> {
        self.status = head.status;
        if let Some(failed) = self.refused(head, bytes, framing) {
            return Err(failed);
        }
        if self.keep_fields {
            self.lines = self.lines(head, bytes);
        }
        self.validator.reset();
        Ok(())
    }

    fn piece(&mut self, piece: &[u8], len: usize) -> Result<(), Failed> {
        if len > self.plan.part_bytes_max {
            return Err(self.failed(PartReason::TooLarge));
        }
        self.validator.feed(piece).map_err(|_| self.failed(PartReason::BadBody))
    }

    fn end(&mut self, len: usize) -> Result<(), Failed> {
        // No body at all stands for null: 204, or an empty one.
        if len == 0 {
            return Ok(());
        }
        self.validator.finish().map_err(|_| self.failed(PartReason::BadBody))
    }
}

impl Taken<'_> {
    fn failed(&self, reason: PartReason) -> Failed {
        Failed::because(reason).with(self.status)
    }

    /// What can be told from the head: an answer that is none, or one that can not be used.
    fn refused(&self, head: &ResponseHead, bytes: &[u8], framing: Framing) -> Option<Failed> {
        let failed = |reason| Some(Failed::because(reason).with(head.status));
        if !self.part.success.iter().any(|(from, to)| (*from..=*to).contains(&head.status)) {
            let mut lines = Vec::new();
            if head.status == 401 && self.part.propagate_status.contains(&401) {
                // RFC 9110 15.5.2: a 401 says how to come in.
                let other = |field: &Field| !field.name.of(bytes).eq_ignore_ascii_case(b"www-authenticate");
                copy_fields(&head.fields, bytes, other, &mut lines);
            }
            if head.status != 429 {
                return Some(Failed { lines, ..Failed::because(PartReason::Status).with(head.status) });
            }
            let said = head.fields.get(b"retry-after", bytes).and_then(|value| std::str::from_utf8(value).ok());
            let seconds = said.and_then(|value| value.parse().ok()).unwrap_or(RETRY_AFTER_DEFAULT);
            return Some(Failed { retry_after: Some(seconds), ..Failed::because(PartReason::RateLimited).with(429) });
        }
        let all = |name: &'static [u8]| head.fields.named(name, bytes).map(|field| field.value.of(bytes));
        // It was asked to send it plainly. What it made of that is not unpacked: a small bomb would be a large body.
        if all(b"content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return failed(PartReason::BadBody);
        }
        let says_json = all(b"content-type").all(is_json);
        if !says_json && !self.part.any_content_type && framing != Framing::None && framing != Framing::Length(0) {
            return failed(PartReason::BadBody);
        }
        match framing {
            Framing::Length(n) if usize::try_from(n).is_ok_and(|n| n <= self.plan.part_bytes_max) => None,
            Framing::Length(_) => failed(PartReason::TooLarge),
            _ => None,
        }
    }

    /// The fields that go into the answer: all that are about more than this body and this connection.
    fn lines(&self, head: &ResponseHead, bytes: &[u8]) -> Vec<u8> {
        let about_body = |name: &[u8]| {
            let completed = self.plan.completed_header.as_deref().unwrap_or_default();
            let own = ABOUT_BODY.iter().copied().chain([completed]);
            own.into_iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        };
        let dropped = |field: &Field| {
            let own = !matches!(field.known, Known::Other | Known::Authorization);
            own || head.fields.is_listed(field, bytes) || about_body(field.name.of(bytes))
        };
        let mut lines = Vec::new();
        copy_fields(&head.fields, bytes, dropped, &mut lines);
        lines
    }
}

/// `application/json`, `text/json` and all `+json` (RFC 6839 3.1), with any parameters.
fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let is = |name: &[u8]| media_type.eq_ignore_ascii_case(name);
    let suffix = media_type.len().checked_sub(b"+json".len()).and_then(|at| media_type.get(at..));
    is(b"application/json") || is(b"text/json") || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}
