//! What is around a gateway in memory: its idle upstream connections, the client's keep-alive loop, a worker's chores.

use std::rc::Rc;

use ringway::core::ms;
use ringway::io::memory::{MemoryStream, pair};
use ringway::io::recycle::Recycler;
use ringway::io::{Stream, guard};
use ringway::proxy::connection::{Next, request};
use ringway::proxy::plane::{Downstream, Plane};
use ringway::shared::log_ring::Consumer;
use ringway::upstream::pool::Pooled;

use crate::gateway::{ENDPOINT, UPSTREAM};

/// What a worker does beside requests, once in so many: a tick, and the log writer's part.
pub(crate) struct Chores {
    every: usize,
    left: usize,
}

impl Chores {
    pub(crate) fn once_in(every: usize) -> Self {
        Self { every, left: every }
    }

    /// Whether they were due.
    pub(crate) fn before_request(&mut self, plane: &Plane, log: &mut Consumer) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.every;
            plane.core.deadlines.scan(ms(plane.core.clock.now_us()));
            log.consume(usize::MAX, |a, b| a.len() + b.len());
            return true;
        }
        false
    }
}

/// An idle connection to the upstream in its pool, and the upstream's end.
pub(crate) fn idle_connection(plane: &Plane) -> MemoryStream {
    let (near, far) = pair();
    let pooled = Pooled { conn: Rc::new(Stream::Memory(near)), opened_ms: 0, requests: 1 };
    let limits = plane.live().snapshot.upstreams[0].pool;
    plane.core.endpoint(UPSTREAM, &ENDPOINT.into(), "", &Default::default()).pool.borrow_mut().put(pooled, 0, &limits);
    far
}

/// The keep-alive loop, without what only accepted connections have: the count of open ones.
pub(crate) async fn serve(down: Rc<Downstream>, plane: Rc<Plane>) {
    let keep_alive_ms = plane.live().snapshot.listeners[0].keep_alive_ms;
    let requests = Recycler::default();
    let mut buf = plane.core.buffers.take(2048);
    loop {
        let due_ms = down.slot.now_ms().saturating_add(keep_alive_ms.into());
        let Ok((Ok(1..), filled)) = guard(&down.slot, due_ms, down.stream.read(buf)).await else { return };
        match requests.run(|| request(Rc::clone(&down), Rc::clone(&plane), filled)).await {
            Next::Keep(rest) => buf = rest,
            Next::Close(_) | Next::Tunnel(_) => return,
        }
    }
}
