//! One upstream call of a part: connection, request, and an answer that is read whole, bounded, and validated as it comes.
//!
//! It owns all that it needs, so that it can run in a recycled box beside the other calls of its request. Dropping it
//! closes its connection.

use std::rc::Rc;

use crate::core::Held;
use crate::end::PartReason;
use crate::error::{Error, Kind, Retry};
use crate::http::encode::copy_fields;
use crate::http::framing::{self, Framing};
use crate::http::h1::payload::Payload;
use crate::http::head::{Field, ResponseHead, Scan};
use crate::http::known::Known;
use crate::io::buffers::ANSWER_BYTES;
use crate::io::{Buf, Slot, guard};
use crate::json::Validator;
use crate::snapshot::aggregate::{Aggregate, Part};
use crate::snapshot::{Action, UpstreamSpec};

use super::super::checkout::{Lease, Wanted, count_failure};
use super::super::forward::{ANSWER_BOUNDS, INTERIM_MAX, bad_head};
use super::super::plane::{Live, Plane};
use super::super::upload::write_upstream;

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
    /// Asking again does no harm: the connection was about to be closed anyway.
    pub retry: bool,
}

impl Failed {
    /// A failure without an answer.
    pub fn because(reason: PartReason) -> Self {
        Self { reason, status: None, retry_after: None, lines: Vec::new(), fatal: None, retry: false }
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
            Kind::Connect | Kind::UpstreamTls | Kind::NoEndpoint => PartReason::Connect,
            Kind::Reset | Kind::Truncated => PartReason::Reset,
            Kind::BadResponse(_) => PartReason::BadBody,
            kind => {
                fatal = Some(kind);
                PartReason::Cancelled
            }
        };
        Self { retry: e.retry == Retry::Safe, fatal, ..Self::because(reason) }
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
    let Order { plane, live, route, part: index, endpoint, lease, out, due_ms, held } = order;
    let internal = Failed::from(Kind::Internal.never());
    let Some((plan, part)) = plan_of(&live, route, index) else { return Err(internal) };
    let Some(spec) = live.snapshot.upstreams.get(part.upstream) else { return Err(internal) };
    let core = &plane.core;
    let slot = core.deadlines.slot();
    let endpoints = live.endpoints(part.upstream);
    let wanted = Wanted { spec, endpoints, core, slot: &slot, due_ms };
    let mut memory = plane.take_call();
    let keep_fields = plan.headers_from == Some(index);
    let asked = Asked { plan, part, spec, wanted, slot: &slot, keep_fields };
    let result = asked.ask(endpoint, lease, out, &mut memory, held).await;
    plane.give_call(memory);
    result
}

struct Asked<'a> {
    plan: &'a Aggregate,
    part: &'a Part,
    spec: &'a UpstreamSpec,
    wanted: Wanted<'a>,
    slot: &'a Slot,
    keep_fields: bool,
}

impl Asked<'_> {
    /// One try, and a second one if the first met a connection that the upstream was about to close.
    async fn ask(
        &self,
        endpoint: usize,
        mut idle: Option<Lease>,
        mut out: Buf,
        memory: &mut CallMemory,
        mut held: Held,
    ) -> Result<Answered, Failed> {
        let core = self.wanted.core;
        let mut again = false;
        loop {
            let lease = match idle.take() {
                Some(lease) => lease,
                None => self.wanted.check_out(endpoint, core.clock.now_us(), again).await.map_err(|e| {
                    count_failure(self.spec, e);
                    Failed::from(e)
                })?,
            };
            let replayable = lease.is_reused() && self.part.safe && !again;
            if replayable {
                held.grow(out.len())?;
            }
            let replay = replayable.then(|| copy(&out, core));
            self.spec.metrics.requests.add(1);
            let result = self.exchange(lease, out, memory, &mut held).await;
            let failed = match result {
                Err(Broken::Transport(e)) => {
                    count_failure(self.spec, e);
                    Failed::from(e)
                }
                Err(Broken::Answer(failed)) => failed,
                Ok(answered) => {
                    if let Some(replay) = replay {
                        core.buffers.give(replay);
                    }
                    return Ok(Answered { held: Some(held), ..answered });
                }
            };
            match replay {
                Some(replay) if failed.retry => out = replay,
                _ => return Err(failed),
            }
            core.metrics.retries.add(1);
            again = true;
        }
    }

    async fn exchange(
        &self,
        lease: Lease,
        out: Buf,
        memory: &mut CallMemory,
        held: &mut Held,
    ) -> Result<Answered, Broken> {
        let buffers = &self.wanted.core.buffers;
        let out = write_upstream(&lease.stream, self.slot, self.spec.body_ms, self.wanted.due_ms, out).await?;
        buffers.give(out);
        held.grow(ANSWER_BYTES)?;
        let buf = self.read_head(&lease, memory).await?;
        let head = &memory.head;
        let framing = framing::of_response(&self.part.method, head, buf.bytes());
        let framing = framing.map_err(|_| Kind::BadResponse("no one can say where it ends").never())?;
        let (status, at) = (head.status, head.fields.len);
        let whole = || match framing {
            Framing::None => buf.len() == at,
            Framing::Length(n) => usize::try_from(n).is_ok_and(|n| buf.len() - at == n),
            Framing::Chunked | Framing::Close => false,
        };
        if let Some(failed) = self.refused(head, buf.bytes(), framing) {
            // A failing upstream is not made to accept a new connection for each failure as well.
            if whole() && head.keeps_alive() {
                lease.give_back(self.spec, self.slot.now_ms());
            }
            buffers.give(buf);
            return Err(Broken::Answer(failed));
        }
        let lines = if self.keep_fields { self.lines(head, buf.bytes()) } else { Vec::new() };
        let keeps_alive = head.keeps_alive();
        memory.validator.reset();
        let body = Body { asked: self, lease: &lease, at, status, validator: &mut memory.validator };
        let (buf, surplus) = body.read(buf, framing, held).await?;
        if keeps_alive && !surplus && framing != Framing::Close {
            lease.give_back(self.spec, self.slot.now_ms());
        }
        Ok(Answered { buf, at, status, lines, held: None })
    }

    /// Reads up to the end of the final answer's head.
    async fn read_head(&self, lease: &Lease, memory: &mut CallMemory) -> Result<Buf, Error> {
        let buffers = &self.wanted.core.buffers;
        let mut buf = buffers.take(ANSWER_BYTES);
        let mut due_ms = self.wanted.due_ms.min(self.slot.now_ms().saturating_add(self.spec.first_byte_ms.into()));
        let (mut scan, mut parse_at, mut interim) = (Scan::default(), 0, 0);
        loop {
            buf = match guard(self.slot, due_ms, lease.stream.read(buf)).await {
                Ok((Ok(n), filled)) if n > 0 => filled,
                Ok((_, filled)) if filled.is_empty() && interim == 0 => return Err(Kind::Reset.safe()),
                Ok(_) => return Err(Kind::Reset.never()),
                Err(fired) => return Err(self.wanted.fired(fired, Kind::FirstByteTimeout).never()),
            };
            due_ms = self.wanted.due_ms;
            while buf.len() >= parse_at || buf.len() >= ANSWER_BOUNDS.head || scan.has_end(buf.bytes()) {
                if !memory.head.parse(buf.bytes(), &ANSWER_BOUNDS).map_err(bad_head)? {
                    parse_at = (buf.len() * 2).max(1);
                    break;
                }
                match memory.head.status {
                    101 => return Err(Kind::BadResponse("101 without an upgrade").never()),
                    200.. => return Ok(buf),
                    _ => {}
                }
                // Interim answers (RFC 9110 15.2) are about this call alone: nobody is told.
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(Kind::BadResponse("too many interim answers").never());
                }
                buf.consume(memory.head.fields.len);
                (scan, parse_at) = (Scan::default(), 0);
            }
            if buf.spare() == 0 {
                let larger = Buf::larger(&buf);
                buf.grow(larger, buffers);
            }
        }
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
        let all = |name: &'static [u8]| {
            let named = move |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name);
            head.fields.iter().filter(named).map(|field| field.value.of(bytes))
        };
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

/// How a call broke.
enum Broken {
    /// Its connection, or what came on it is no HTTP.
    Transport(Error),
    /// The answer can not be used.
    Answer(Failed),
}

impl From<Error> for Broken {
    fn from(e: Error) -> Self {
        Self::Transport(e)
    }
}

/// A body that is read.
struct Body<'a> {
    asked: &'a Asked<'a>,
    lease: &'a Lease,
    at: usize,
    status: u16,
    validator: &'a mut Validator,
}

impl Body<'_> {
    /// The whole body behind the head in `buf`, and whether more came that belongs to no answer.
    async fn read(self, mut buf: Buf, framing: Framing, held: &mut Held) -> Result<(Buf, bool), Broken> {
        let Self { asked, lease, at, status, validator } = self;
        let buffers = &asked.wanted.core.buffers;
        let failed = |reason| Broken::Answer(Failed::because(reason).with(status));
        let mut payload = Payload::of(framing);
        let mut fresh = buf.len() - at;
        let surplus = loop {
            let from = buf.len() - fresh;
            let step = payload.take(buf.last_mut(fresh)).map_err(|_| Kind::BadResponse("bad chunk").never())?;
            buf.truncate(from + step.data);
            if buf.len() - at > asked.plan.part_bytes_max {
                return Err(failed(PartReason::TooLarge));
            }
            validator.feed(buf.bytes().get(from..).unwrap_or_default()).map_err(|_| failed(PartReason::BadBody))?;
            if step.done {
                break fresh > step.consumed;
            }
            held.make_room(&mut buf, payload.left(), buffers)?;
            let due_ms = asked.wanted.due_ms.min(asked.slot.now_ms().saturating_add(asked.spec.body_ms.into()));
            fresh = match guard(asked.slot, due_ms, lease.stream.read(buf)).await {
                Ok((Ok(n), filled)) if n > 0 => {
                    buf = filled;
                    n
                }
                Ok((Ok(_), filled)) if matches!(payload, Payload::Close) => {
                    buf = filled;
                    break false;
                }
                Ok(_) => return Err(Kind::Truncated.never().into()),
                Err(fired) => return Err(asked.wanted.fired(fired, Kind::UpstreamBodyTimeout).never().into()),
            };
        };
        // No body at all stands for null: 204, or an empty one.
        if buf.len() > at {
            validator.finish().map_err(|_| failed(PartReason::BadBody))?;
        }
        Ok((buf, surplus))
    }
}

fn copy(out: &Buf, core: &crate::core::Core) -> Buf {
    let mut replay = core.buffers.take(out.len());
    replay.extend(out.bytes());
    replay
}
