//! Copies of requests for other upstreams, which the `mirror` filters have drawn. They are sent beside the request by tasks
//! of their own: nobody waits for them, nobody sees their answers, and beyond a bound they are not sent.
//!
//! A body that is still to come is copied as it passes by, and the copy is sent once it has gone by whole: the request is
//! held up in no way.

use std::rc::Rc;

use http::Method;

use crate::core::Held;
use crate::error::Kind;
use crate::filter::header_edits::HeaderEdits;
use crate::filter::mirror::{MARK, Mirror};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::h1::chunked::{CRLF, LAST_CHUNK, prefix};
use crate::http::head::ResponseHead;
use crate::io::Buf;
use crate::io::buffers::HEADROOM;
use crate::request::{Request, Tee};
use crate::route::rewrite::PathRewrite;
use crate::shared::in_flight::Guard;
use crate::snapshot::{Forward, HostPolicy};

use super::call::{Call, Taker};
use super::checkout::Wanted;
use super::forward::OUT_BYTES;
use super::plane::{Downstream, Live, Plane};
use super::{upload, upstream_head};

/// An answer is read up to this size, so that its connection can be used again; of a larger one the connection is closed.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Sends the copies of a request that is about to be acted on. `action` is how it is forwarded, if it is: copies have the
/// same path, Host policy and fields. What is given back is to see the body pass by.
#[cold]
pub fn send(
    req: &Request,
    action: Option<&Forward>,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Downstream,
) -> Option<Tee> {
    let as_it_came = Forward {
        upstream: usize::MAX,
        split: None,
        rewrite: PathRewrite::Keep,
        host: HostPolicy::Upstream,
        upgrade: Vec::new(),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let mut later = Vec::new();
    for mirror in req.mirrors.iter().filter_map(|number| live.snapshot.mirrors.get(*number)) {
        let announced = match req.framing {
            Framing::Length(n) => n,
            _ => 0,
        };
        let body = upload::with_head(req);
        // Where nothing is forwarded, nothing passes by.
        if announced > mirror.body_bytes_max as u64 || (body.is_none() && action.is_none()) {
            mirror.metrics.dropped.add(1);
            continue;
        }
        let Some((endpoint, out)) = write(mirror, req, action.unwrap_or(&as_it_came), live, plane, down) else {
            mirror.metrics.failed.add(1);
            continue;
        };
        // Also one whose body is yet to come takes a place: so many are at hand, on their way or not.
        let Ok(place) = mirror.in_flight.begin(b"", mirror.in_flight_max) else {
            mirror.metrics.dropped.add(1);
            continue;
        };
        let (method, live, plane) = (req.head.method.clone(), Rc::clone(live), Rc::clone(plane));
        let mut copy = Copy { number: mirror.number, method, endpoint, out, live, plane, place };
        match body {
            Some(n) => {
                copy.out.extend(req.behind_head().get(..n).unwrap_or_default());
                copy.start();
            }
            None => later.extend(Later::new(copy, req.framing == Framing::Chunked)),
        }
    }
    if later.is_empty() {
        return None;
    }
    Some(Box::new(move |piece, is_last| {
        later.iter_mut().for_each(|copy| copy.pass(piece));
        if is_last {
            later.drain(..).for_each(Later::end);
        }
    }))
}

/// The head of a copy, and the endpoint that it is for; `None` if there is nobody to get it.
fn write(
    mirror: &Mirror,
    req: &Request,
    action: &Forward,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
) -> Option<(usize, Buf)> {
    let spec = live.snapshot.upstreams.get(mirror.upstream)?;
    let endpoints = live.endpoints(mirror.upstream);
    let wanted = Wanted { spec, endpoints, core: &plane.core, slot: &down.slot, due_ms: u64::MAX };
    let endpoint = wanted.pick().ok()?;
    let host = spec.host_of(endpoint);
    let mut out = plane.core.buffers.take(OUT_BYTES);
    upstream_head::write(req, action, host, down, out.vec());
    out.truncate(out.len().saturating_sub(2)); // the empty line
    encode::field(MARK.as_bytes(), mirror.name.as_bytes(), out.vec());
    out.extend(b"\r\n");
    Some((endpoint, out))
}

/// A copy that can be sent.
struct Copy {
    number: usize,
    method: Method,
    endpoint: usize,
    out: Buf,
    live: Rc<Live>,
    plane: Rc<Plane>,
    place: Guard,
}

impl Copy {
    fn mirror(&self) -> Option<&Mirror> {
        self.live.snapshot.mirrors.get(self.number).map(|mirror| &**mirror)
    }

    /// Sends it.
    fn start(self) {
        let Some(mirror) = self.mirror() else { return };
        mirror.metrics.sent.add(1);
        let core = Rc::clone(&self.plane.core);
        crate::io::spawn(self.run(), move || core.metrics.panics.add(1));
    }

    async fn run(self) {
        let Self { number, method, endpoint, out, live, plane, place } = self;
        let Some(mirror) = live.snapshot.mirrors.get(number) else { return };
        let Some(spec) = live.snapshot.upstreams.get(mirror.upstream) else { return };
        let core = &plane.core;
        let slot = core.deadlines.slot();
        let due_ms = slot.now_ms().saturating_add(mirror.timeout_ms.into());
        let wanted = Wanted { spec, endpoints: live.endpoints(mirror.upstream), core, slot: &slot, due_ms };
        // Never sent twice, whatever its method: nobody misses it.
        let call = Call { wanted, method: &method, safe: false };
        let (mut head, mut held) = (ResponseHead::default(), core.hold_for_copy());
        match call.ask(endpoint, None, out, &mut head, &mut Drops, &mut held).await {
            Ok(whole) => core.buffers.give(whole.buf),
            Err(_) => mirror.metrics.failed.add(1),
        }
        drop(place);
    }
}

/// A copy whose body is still to pass by. One that does not come to its end is counted as dropped.
struct Later {
    /// `None` once it is lost, or sent.
    copy: Option<Copy>,
    body: Vec<u8>,
    is_chunked: bool,
    held: Held,
}

impl Later {
    /// `None` if there is no room for it.
    fn new(copy: Copy, is_chunked: bool) -> Option<Self> {
        let held = copy.plane.core.hold_for_copy();
        let mut later = Self { copy: None, body: Vec::new(), is_chunked, held };
        let fits = later.held.grow(copy.out.capacity()).is_ok();
        later.copy = Some(copy);
        fits.then_some(later)
    }

    fn pass(&mut self, piece: &[u8]) {
        let Some(mirror) = self.copy.as_ref().and_then(Copy::mirror) else { return };
        let fits = self.body.len().saturating_add(piece.len()) <= mirror.body_bytes_max;
        if fits && self.held.grow(piece.len()).is_ok() {
            self.body.extend_from_slice(piece);
        } else {
            self.lose();
        }
    }

    fn end(mut self) {
        let Some(mut copy) = self.copy.take() else { return };
        if self.is_chunked {
            // In one chunk, whatever it was in.
            let mut line = [0; HEADROOM];
            let n = prefix(self.body.len(), &mut line);
            if !self.body.is_empty() {
                copy.out.extend(line.get(line.len().saturating_sub(n)..).unwrap_or_default());
                copy.out.extend(&self.body);
                copy.out.extend(CRLF);
            }
            copy.out.extend(LAST_CHUNK);
        } else {
            copy.out.extend(&self.body);
        }
        copy.start();
    }

    fn lose(&mut self) {
        if let Some(mirror) = self.copy.take().as_ref().and_then(Copy::mirror) {
            mirror.metrics.dropped.add(1);
        }
        self.body = Vec::new();
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.lose();
    }
}

/// Takes nothing of an answer.
struct Drops;

impl Taker for Drops {
    type Fault = Kind;
    const DROPS_BODY: bool = true;

    fn head(&mut self, _: &ResponseHead, _: &[u8], framing: Framing) -> Result<(), Kind> {
        match framing {
            Framing::Length(n) if n > ANSWER_BYTES_MAX as u64 => Err(TOO_LARGE),
            _ => Ok(()),
        }
    }

    fn piece(&mut self, _: &[u8], len: usize) -> Result<(), Kind> {
        if len > ANSWER_BYTES_MAX { Err(TOO_LARGE) } else { Ok(()) }
    }

    fn end(&mut self, _: usize) -> Result<(), Kind> {
        Ok(())
    }
}

const TOO_LARGE: Kind = Kind::BadResponse("larger than what is thrown away");
