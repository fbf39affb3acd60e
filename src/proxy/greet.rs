//! What comes before the first request of a connection: the PROXY header of a proxy that passes on bytes alone, then TLS.

use std::rc::Rc;

use crate::end::{Closed, Deadline};
use crate::http::proxy_protocol::{Found, NoHeader, read};
use crate::io::buffers::IDLE_BYTES;
use crate::io::{Buf, Fired, guard};
use crate::snapshot::ListenerSpec;

use super::handshake::shake;
use super::plane::{Downstream, Plane};

/// Whether anything comes before the requests of this listener.
pub fn is_wanted(down: &Downstream, rules: Option<&ListenerSpec>) -> bool {
    down.stream.tls().is_some() || rules.is_some_and(|rules| rules.proxy_protocol.is_some())
}

/// Hears who is there. What came behind it of the first request is given back.
///
/// # Errors
/// Why the connection is to be closed.
pub async fn greet(down: &Rc<Downstream>, plane: &Rc<Plane>) -> Result<Buf, Closed> {
    let live = plane.live();
    let rules = live.snapshot.listeners.get(down.listener);
    let first = match rules {
        Some(rules) if is_from_proxy(down, rules) => {
            let first = header(down, plane, rules).await?;
            if down.take_place(rules).is_err() {
                plane.core.metrics.connections_refused.add(1);
                return Err(Closed::Overloaded);
            }
            first
        }
        _ => Buf::default(),
    };
    if down.stream.tls().is_none() {
        return Ok(first);
    }
    shake(down, plane, first).await.map(|()| Buf::default())
}

/// Only a proxy that is trusted sends a header: from anybody else its bytes are a request like any, and not a good one.
pub fn is_from_proxy(down: &Downstream, rules: &ListenerSpec) -> bool {
    rules.proxy_protocol.as_ref().is_some_and(|trusted| trusted.contains(down.peer().ip()))
}

/// Reads the header; what came behind it is given back. The deadline is that of what follows, TLS or a head.
async fn header(down: &Downstream, plane: &Plane, rules: &ListenerSpec) -> Result<Buf, Closed> {
    let core = &plane.core;
    let (wait_ms, deadline) = match &rules.tls {
        Some(tls) => (tls.handshake_ms, Deadline::TlsHandshake),
        None => (rules.request_header_ms, Deadline::RequestHeader),
    };
    let due_ms = down.opened_ms.saturating_add(wait_ms.into());
    let mut buf = core.buffers.take(IDLE_BYTES);
    // A drain ends who has sent nothing yet.
    down.idle_since_ms.set(Some(down.slot.now_ms()));
    let read = loop {
        match read(buf.bytes()) {
            Ok(Found::Header(len, ends)) => {
                buf.consume(len);
                break Ok(ends);
            }
            Err(NoHeader) => break Err(Closed::ProxyHeader),
            Ok(Found::Part) => {}
        }
        if buf.spare() == 0 {
            let larger = buf.larger();
            buf.grow(larger, &core.buffers);
        }
        let began = !buf.is_empty();
        match guard(&down.slot, due_ms, down.stream.read_away(std::mem::take(&mut buf))).await {
            Ok((Ok(n), filled)) if n > 0 => buf = filled,
            Ok(_) if core.draining.get() => break Err(Closed::Drain),
            Ok(_) if began => break Err(Closed::ProxyHeader),
            // Who asks whether the port is open leaves without a word.
            Ok(_) | Err(Fired::Gone) => break Err(Closed::Client),
            Err(Fired::Shutdown) => break Err(Closed::Drain),
            Err(Fired::Deadline) => {
                core.metrics.deadlines.add(deadline.index(), 1);
                break Err(Closed::ProxyHeader);
            }
        }
    };
    down.idle_since_ms.set(None);
    match read {
        Ok(ends) => {
            if let Some(ends) = ends {
                down.tell(ends);
            }
            Ok(buf)
        }
        Err(why) => {
            core.buffers.give(buf);
            Err(why)
        }
    }
}
