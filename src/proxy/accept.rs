//! Accepting: one task per listener and core, never dropped; a cap, a back-off when descriptors are out, a clean stop.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::context::Context;
use crate::core::{Core, ms};
use crate::end::{Closed, End, Handshake};
use crate::error::Kind;
use crate::filter;
use crate::http::reply::{self, Reply};
use crate::io::listen::{AcceptError, Listener};
use crate::io::recycle::Recycler;
use crate::io::{self, Buf, Stream, guard};
use crate::shared::places::Place;
use crate::snapshot::{ListenerSpec, Snapshot};

use super::connection::{Next, request, serve};
use super::finish::finish;
use super::greet;
use super::plane::{Downstream, Peer, Plane};

/// First pause after descriptors ran out, in ms; it doubles up to the last.
const BACK_OFF_MS: (u64, u64) = (10, 1_000);
/// Longest time the answer to a connection over the cap may take, in ms.
const REFUSAL_MS: u64 = 1_000;

/// Accepts on `listener`, number `index` of the config, until it is stopped; then serves what the kernel had queued.
pub async fn accept(listener: Rc<Listener>, index: usize, plane: Rc<Plane>) {
    let requests = Rc::new(Recycler::default());
    let mut back_off_ms = BACK_OFF_MS.0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                back_off_ms = BACK_OFF_MS.0;
                start(stream, peer, index, &plane, &requests, request);
            }
            Err(AcceptError::Stopped) => break,
            Err(AcceptError::Aborted) => plane.core.metrics.accept_errors.add(1),
            Err(AcceptError::Failed { exhausted }) => {
                plane.core.metrics.accept_errors.add(1);
                if exhausted {
                    listener.shed();
                }
                io::sleep_ms(back_off_ms).await;
                back_off_ms = (back_off_ms * 2).min(BACK_OFF_MS.1);
            }
        }
    }
    for (stream, peer) in listener.drain_queue() {
        start(stream, peer, index, &plane, &requests, request);
    }
}

/// Starts to serve one accepted connection.
pub fn start<F, M>(
    stream: Stream,
    peer: Option<SocketAddr>,
    listener: usize,
    plane: &Rc<Plane>,
    requests: &Rc<Recycler<F>>,
    make: M,
) where
    F: std::future::Future<Output = Next> + 'static,
    M: Fn(Rc<Downstream>, Rc<Plane>, Buf) -> F + 'static,
{
    plane.core.deadlines.set_now(ms(plane.core.clock.now_us()));
    let live = plane.live();
    let rules = live.snapshot.listeners.get(listener);
    let counted = rules.and_then(|rules| Counted::take(&live.snapshot, rules));
    let stream = match rules.and_then(|rules| rules.tls.as_ref()) {
        None => stream,
        // A handshake only to say no would cost more than it says.
        Some(_) if counted.is_none() => return count_refused(&plane.core),
        Some(tls) => match stream.into_tls(&tls.rules.config, &plane.core.buffers) {
            Ok(stream) => stream,
            Err(_) => {
                plane.core.metrics.handshakes.add(Handshake::Protocol.index(), 1);
                plane.core.metrics.connections_accepted.add(1);
                return plane.core.metrics.connections_closed.add(Closed::TlsHandshake.index(), 1);
            }
        },
    };
    let core = Rc::clone(&plane.core);
    let on_panic = move || core.metrics.panics.add(1);
    let down = Rc::new(Downstream {
        stream,
        peer: Peer::new(peer),
        told: OnceCell::new(),
        client: Cell::new(None),
        place: OnceCell::new(),
        listener,
        slot: plane.core.deadlines.slot(),
        session: OnceCell::new(),
        half_answered: Cell::new(false),
        idle_since_ms: Cell::new(None),
        served: Cell::new(0),
        opened_ms: plane.core.deadlines.now_ms(),
    });
    // Behind a proxy it is not known yet who the client is.
    let is_over = |rules| !greet::is_from_proxy(&down, rules) && down.take_place(rules).is_err();
    let counted = counted.filter(|_| !rules.is_some_and(is_over));
    let Some(counted) = counted else {
        count_refused(&plane.core);
        if down.stream.tls().is_some() || plane.refusing.get() >= live.snapshot.refusals_max {
            return; // closed without a word: the answer must not cost more than the cap saves
        }
        plane.refusing.set(plane.refusing.get() + 1);
        io::spawn(refuse(down, Rc::clone(plane)), on_panic);
        return;
    };
    io::spawn(serve(down, Rc::clone(plane), Rc::clone(requests), make, counted), on_panic);
}

/// A connection's places under the caps of its listener and of the process.
pub struct Counted {
    _listener: Place,
    _process: Option<Place>,
}

impl Counted {
    /// `None` if either has no place left.
    fn take(snapshot: &Snapshot, rules: &ListenerSpec) -> Option<Self> {
        let process = match &snapshot.connections {
            Some(cap) => Some(cap.take()?),
            None => None,
        };
        Some(Self { _listener: rules.connections.take()?, _process: process })
    }
}

/// Over a cap: accepted, refused and closed at once.
#[cold]
fn count_refused(core: &Core) {
    core.metrics.connections_accepted.add(1);
    core.metrics.connections_refused.add(1);
    core.metrics.connections_closed.add(Closed::Overloaded.index(), 1);
}

/// A connection over the cap: 503 and closed, without waiting for its request.
#[cold]
async fn refuse(down: Rc<Downstream>, plane: Rc<Plane>) {
    refuse_answered(&down, &plane).await;
    plane.refusing.set(plane.refusing.get().saturating_sub(1));
}

async fn refuse_answered(down: &Downstream, plane: &Plane) {
    let core = &plane.core;
    let mut req = plane.take_request();
    core.ids.next(&mut req.request_id);
    let mut answer = Reply::from_error(Kind::Overloaded, &req.request_id, b"Retry-After: 1\r\nConnection: close\r\n");
    let live = plane.live();
    live.snapshot.shape(&mut answer, None, &req.request_id);
    if let Some(rules) = live.snapshot.listeners.get(down.listener) {
        filter::on_unread(&rules.filters, &mut req, core);
    }
    let mut out = Buf::with_capacity(512);
    reply::status_line(answer.status, out.vec());
    out.extend(&answer.fields);
    out.extend(b"Date: ");
    core.write_date(out.vec());
    out.extend(format!("\r\nContent-Length: {}\r\n", answer.body.len()).as_bytes());
    req.write_own(out.vec());
    out.extend(b"\r\n");
    out.extend(&answer.body);
    let cx = Context {
        status: answer.status,
        bytes_out: out.len() as u64,
        head_bytes_out: u32::try_from(out.len() - answer.body.len()).unwrap_or(0),
        end: End::Overloaded,
        ..Context::new(core.clock.now_us())
    };
    finish(&mut req, down, &live, core, &cx);
    plane.give_request(req);
    let due_ms = down.slot.now_ms().saturating_add(REFUSAL_MS);
    if guard(&down.slot, due_ms, down.stream.write(out)).await.is_err() {
        return;
    }
    down.stream.shutdown_write();
    // Read the request that comes anyway, so that closing does not reset the answer away.
    while let Ok((Ok(n), _)) = guard(&down.slot, due_ms, down.stream.read(Buf::with_capacity(4096))).await {
        if n == 0 {
            return;
        }
    }
}
