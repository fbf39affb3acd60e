//! One upstream call whose answer the gateway takes in itself, instead of passing it on: connection, request, and an answer
//! that is bounded and looked at while it comes. Parts of aggregations are such calls, questions of filters, and copies of
//! requests; what each makes of the answer is its [`Taker`].
//!
//! Dropping a call closes its connection.

use http::Method;

use crate::core::{Core, Held};
use crate::error::{Error, Kind, Retry};
use crate::http::framing::{self, Framing};
use crate::http::h1::payload::Payload;
use crate::http::head::{ResponseHead, Scan};
use crate::io::buffers::ANSWER_BYTES;
use crate::io::{Buf, guard};

use super::checkout::{Lease, Picked, Wanted, count_failure};
use super::forward::{ANSWER_BOUNDS, INTERIM_MAX, bad_head};
use super::upload::write_upstream;

/// What becomes of an answer while it comes.
pub trait Taker {
    /// Why an answer can not be used.
    type Fault;
    /// The body is dropped piece by piece, instead of being collected.
    const DROPS_BODY: bool;

    /// Looks at the head. An answer that is refused here is read no further.
    ///
    /// # Errors
    /// When it can not be used.
    fn head(&mut self, head: &ResponseHead, bytes: &[u8], framing: Framing) -> Result<(), Self::Fault>;

    /// Looks at the next piece of the body, which has `len` bytes with it. Every bound on a body is the taker's.
    ///
    /// # Errors
    /// When it can not be used.
    fn piece(&mut self, piece: &[u8], len: usize) -> Result<(), Self::Fault>;

    /// The body has ended with `len` bytes.
    ///
    /// # Errors
    /// When it can not be used.
    fn end(&mut self, len: usize) -> Result<(), Self::Fault>;
}

/// How a call broke.
pub enum Broken<F> {
    /// Its connection, or what came on it is no HTTP.
    Transport(Error),
    /// The answer can not be used.
    Answer(F),
}

impl<F> From<Error> for Broken<F> {
    fn from(e: Error) -> Self {
        Self::Transport(e)
    }
}

/// A whole answer: head and, unless it was dropped, body.
pub struct Whole {
    /// Head and body.
    pub buf: Buf,
    /// Where the body begins. It ends with the buffer.
    pub at: usize,
}

/// A call that is to be made.
pub struct Call<'a> {
    /// Where to, and until when.
    pub wanted: Wanted<'a>,
    /// What its endpoint was chosen by, if it was.
    pub key: Option<u64>,
    /// The method of its request.
    pub method: &'a Method,
    /// Sending the request twice does no harm.
    pub safe: bool,
}

impl Call<'_> {
    /// Sends `out`, which is the whole request, to endpoint number `endpoint`: one try, and a second one if the first met a
    /// connection that the upstream was about to close, or none; to another endpoint, if there is one. `idle` is a connection that was quiet a moment ago.
    ///
    /// # Errors
    /// How it broke. Failures of the upstream are counted here.
    pub async fn ask<T: Taker>(
        &self,
        mut endpoint: usize,
        mut idle: Option<Lease>,
        mut out: Buf,
        head: &mut ResponseHead,
        taker: &mut T,
        held: &mut Held,
    ) -> Result<Whole, Broken<T::Fault>> {
        let Wanted { core, spec, .. } = self.wanted;
        let mut again = false;
        loop {
            let lease = match idle.take() {
                Some(lease) => lease,
                None => {
                    let mut picked = Picked { index: endpoint, key: self.key, fresh_only: again, again };
                    let checked_out = self.wanted.check_out(&mut picked, core.clock.now_us()).await;
                    let lease = checked_out.inspect_err(|e| count_failure(spec, *e))?;
                    if picked.index != endpoint {
                        rename(out.vec(), spec.host_of(endpoint), spec.host_of(picked.index));
                        endpoint = picked.index;
                    }
                    lease
                }
            };
            let replayable = lease.is_reused() && self.safe && !again;
            if replayable {
                held.grow(out.len())?;
            }
            let replay = replayable.then(|| copy(&out, core));
            spec.metrics.requests.add(1);
            let broken = match self.exchange(lease, out, head, taker, held).await {
                Err(broken) => broken,
                Ok(whole) => {
                    if let Some(replay) = replay {
                        core.buffers.give(replay);
                    }
                    return Ok(whole);
                }
            };
            if let Broken::Transport(e) = &broken {
                count_failure(spec, *e);
            }
            match (replay, &broken) {
                (Some(replay), Broken::Transport(e)) if e.retry == Retry::Safe => {
                    (endpoint, out) = self.elsewhere(endpoint, replay)?;
                }
                _ => return Err(broken),
            }
            core.metrics.retries.add(1);
            again = true;
        }
    }

    /// Another endpoint than the one that failed, if there is one, and the request as it gets it.
    #[cold]
    fn elsewhere(&self, failed: usize, mut out: Buf) -> Result<(usize, Buf), Error> {
        let spec = self.wanted.spec;
        let endpoint = self.wanted.pick_again(self.key, Some(failed))?;
        rename(out.vec(), spec.host_of(failed), spec.host_of(endpoint));
        Ok((endpoint, out))
    }

    async fn exchange<T: Taker>(
        &self,
        lease: Lease,
        out: Buf,
        head: &mut ResponseHead,
        taker: &mut T,
        held: &mut Held,
    ) -> Result<Whole, Broken<T::Fault>> {
        let Wanted { core, spec, slot, due_ms, .. } = self.wanted;
        let out = write_upstream(&lease.stream, slot, spec.body_ms, due_ms, out).await?;
        core.buffers.give(out);
        held.grow(ANSWER_BYTES)?;
        let buf = self.read_head(&lease, head).await?;
        let framing = framing::of_response(self.method, head, buf.bytes());
        let framing = framing.map_err(|_| Kind::BadResponse("no one can say where it ends").never())?;
        let at = head.fields.len;
        let whole = || match framing {
            Framing::None => buf.len() == at,
            Framing::Length(n) => usize::try_from(n).is_ok_and(|n| buf.len() - at == n),
            Framing::Chunked | Framing::Close => false,
        };
        let keeps_alive = head.keeps_alive();
        if let Err(fault) = taker.head(head, buf.bytes(), framing) {
            // A failing upstream is not made to accept a new connection for each failure as well.
            if whole() && keeps_alive {
                lease.give_back(spec, slot.now_ms());
            }
            core.buffers.give(buf);
            return Err(Broken::Answer(fault));
        }
        let (buf, surplus) = self.read_body(&lease, at, framing, buf, taker, held).await?;
        if keeps_alive && !surplus && framing != Framing::Close {
            lease.give_back(spec, slot.now_ms());
        }
        Ok(Whole { buf, at })
    }

    /// Reads up to the end of the final answer's head.
    async fn read_head(&self, lease: &Lease, head: &mut ResponseHead) -> Result<Buf, Error> {
        let Wanted { core, spec, slot, .. } = self.wanted;
        let mut buf = core.buffers.take(ANSWER_BYTES);
        let mut due_ms = self.wanted.due_ms.min(slot.now_ms().saturating_add(spec.first_byte_ms.into()));
        let (mut scan, mut parse_at, mut interim) = (Scan::default(), 0, 0);
        loop {
            buf = match guard(slot, due_ms, lease.stream.read(buf)).await {
                Ok((Ok(n), filled)) if n > 0 => filled,
                Ok((_, filled)) if filled.is_empty() && interim == 0 => return Err(Kind::Reset.safe()),
                Ok(_) => return Err(Kind::Reset.never()),
                Err(fired) => return Err(self.wanted.fired(fired, Kind::FirstByteTimeout).never()),
            };
            due_ms = self.wanted.due_ms;
            while buf.len() >= parse_at || buf.len() >= ANSWER_BOUNDS.head || scan.has_end(buf.bytes()) {
                if !head.parse(buf.bytes(), &ANSWER_BOUNDS).map_err(bad_head)? {
                    parse_at = (buf.len() * 2).max(1);
                    break;
                }
                match head.status {
                    101 => return Err(Kind::BadResponse("101 without an upgrade").never()),
                    200.. => return Ok(buf),
                    _ => {}
                }
                // Interim answers (RFC 9110 15.2) are about this call alone: nobody is told.
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(Kind::BadResponse("too many interim answers").never());
                }
                buf.consume(head.fields.len);
                (scan, parse_at) = (Scan::default(), 0);
            }
            if buf.spare() == 0 {
                let larger = Buf::larger(&buf);
                buf.grow(larger, &core.buffers);
            }
        }
    }

    /// The whole body behind the head in `buf`, which ends at `at`, and whether more came that belongs to no answer.
    async fn read_body<T: Taker>(
        &self,
        lease: &Lease,
        at: usize,
        framing: Framing,
        mut buf: Buf,
        taker: &mut T,
        held: &mut Held,
    ) -> Result<(Buf, bool), Broken<T::Fault>> {
        let Wanted { core, spec, slot, due_ms, .. } = self.wanted;
        let mut payload = Payload::of(framing);
        let (mut fresh, mut len) = (buf.len() - at, 0_usize);
        let surplus = loop {
            let from = buf.len() - fresh;
            let step = payload.take(buf.last_mut(fresh)).map_err(|_| Kind::BadResponse("bad chunk").never())?;
            buf.truncate(from + step.data);
            len = len.saturating_add(step.data);
            taker.piece(buf.bytes().get(from..).unwrap_or_default(), len).map_err(Broken::Answer)?;
            if T::DROPS_BODY {
                buf.truncate(from);
            }
            if step.done {
                break fresh > step.consumed;
            }
            match T::DROPS_BODY {
                true if buf.spare() == 0 => {
                    let larger = Buf::larger(&buf);
                    buf.grow(larger, &core.buffers);
                }
                true => {}
                false => held.make_room(&mut buf, payload.left(), &core.buffers)?,
            }
            let due_ms = due_ms.min(slot.now_ms().saturating_add(spec.body_ms.into()));
            fresh = match guard(slot, due_ms, lease.stream.read(buf)).await {
                Ok((Ok(n), filled)) if n > 0 => {
                    buf = filled;
                    n
                }
                Ok((Ok(_), filled)) if matches!(payload, Payload::Close) => {
                    buf = filled;
                    break false;
                }
                Ok(_) => return Err(Kind::Truncated.never().into()),
                Err(fired) => return Err(self.wanted.fired(fired, Kind::UpstreamBodyTimeout).never().into()),
            };
        };
        taker.end(len).map_err(Broken::Answer)?;
        Ok((buf, surplus))
    }
}

/// Changes the Host of a request that was written for an endpoint: its first field.
fn rename(out: &mut Vec<u8>, from: &str, to: &str) {
    let from = format!("\r\nHost: {from}\r\n");
    let line =
        memchr::memchr(b'\r', out).filter(|at| out.get(*at..).is_some_and(|rest| rest.starts_with(from.as_bytes())));
    if let Some(at) = line {
        out.splice(at..at + from.len(), format!("\r\nHost: {to}\r\n").into_bytes());
    }
}

fn copy(out: &Buf, core: &Core) -> Buf {
    let mut replay = core.buffers.take(out.len());
    replay.extend(out.bytes());
    replay
}

#[cfg(test)]
mod tests {
    use super::rename;

    #[test]
    fn only_the_first_field_is_renamed_and_only_where_it_is_the_endpoint() {
        let of = |text: &str, from: &str, to: &str| {
            let mut out = text.as_bytes().to_vec();
            rename(&mut out, from, to);
            String::from_utf8(out).unwrap()
        };
        let rest = "X-A: 1\r\n\r\nHost: a:1\r\n";
        let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n{rest}");
        assert_eq!(of(&request("a:1"), "a:1", "longer:22"), request("longer:22"));
        assert_eq!(of(&request("a:1"), "a:1", "b"), request("b"));
        assert_eq!(of(&request("given"), "a:1", "b:1"), request("given"));
        assert_eq!(of("", "a:1", "b:1"), "");
    }
}
