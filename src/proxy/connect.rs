//! CONNECT (RFC 9110 9.3.6): the client asks for a tunnel to the host that it names. It gets one only where a route names
//! the method, and then to that route's upstream: where it leads is the operator's choice and never the client's, so that
//! the gateway is no open proxy.

use std::rc::Rc;

use crate::context::Context;
use crate::core::{Core, ms};
use crate::error::{Error, Kind};
use crate::http::encode;
use crate::http::framing::Framing;
use crate::http::reply;
use crate::request::Request;
use crate::snapshot::{Forward, ListenerSpec, Route};

use super::checkout::{Lease, Picked, Wanted, count_failure};
use super::forward::OUT_BYTES;
use super::plane::{Downstream, Live, Plane};
use super::split;
use super::to_client::{begin_answer, write_downstream};
use super::tunnel::{self, Switched};

/// The answer that says that the tunnel is open.
pub(super) const STATUS: u16 = 200;

/// A connection to the upstream that carries nothing yet.
pub struct Connected {
    lease: Lease,
    /// Field lines of the answer beside the gateway's own.
    pub(super) fields: Vec<u8>,
}

/// Connects to the route's upstream; never over a connection that has carried requests.
pub(super) async fn open(
    req: &mut Request,
    route: &Route,
    action: &Forward,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
    cx: &mut Context,
) -> Result<Connected, Error> {
    let (upstream, new_cookie) = split::upstream(action, req, &plane.core);
    let (Some(spec), Some(rules)) = (live.snapshot.upstreams.get(upstream), live.snapshot.listeners.get(down.listener))
    else {
        return Err(Kind::Internal.never());
    };
    // A body of CONNECT means nothing, and no one could say where the tunnel's bytes begin.
    if !matches!(req.framing, Framing::None | Framing::Length(0)) {
        return Err(Kind::Malformed("CONNECT with a body").never());
    }
    let core = &plane.core;
    cx.upstream = Some(upstream);
    let endpoints = live.endpoints(upstream);
    let due_ms = ms(cx.started_us).saturating_add(route.timeout_ms.into());
    let wanted = Wanted { spec, endpoints, core, slot: &down.slot, client: Some(down), due_ms };
    down.slot.watch(down.stream.watch_fd(), rules.half_close_is_gone);
    let now_us = core.clock.now_us();
    cx.ask_upstream(now_us);
    let key = spec.key_of(req, cx.route, core);
    let mut picked = Picked { index: wanted.pick(key)?, key, fresh_only: true, again: false };
    let checked_out = wanted.check_out(&mut picked, now_us).await;
    cx.endpoint = Some(picked.index);
    cx.hear_upstream(core.clock.now_us());
    let lease = checked_out.inspect_err(|e| count_failure(spec, *e))?;
    spec.metrics.requests.add(1);
    if let Some(cookie) = new_cookie {
        cookie.give_alone(action, req);
    }
    Ok(Connected { lease, fields: Vec::new() })
}

/// Tells the client that its tunnel is open: an answer without any framing, behind which the tunnel begins.
pub(super) async fn confirm(
    connected: Connected,
    req: &Request,
    live: &Live,
    down: &Rc<Downstream>,
    rules: &ListenerSpec,
    core: &Core,
    cx: &mut Context,
) -> Result<Box<Switched>, Error> {
    let Connected { lease, fields } = connected;
    let route = cx.route.and_then(|index| live.snapshot.routes.get(index));
    let spec = cx.upstream.and_then(|index| live.snapshot.upstreams.get(index));
    let (Some(route), Some(spec)) = (route, spec) else { return Err(Kind::Internal.never()) };
    let mut out = core.buffers.take(OUT_BYTES);
    reply::status_line(STATUS, out.vec());
    out.extend(&fields);
    encode::field_of(b"Date", |out| core.write_date(out), out.vec());
    req.write_own(out.vec());
    out.extend(b"\r\n");
    let early = tunnel::early(req, core);
    begin_answer(STATUS, out.bytes(), req, rules, cx);
    // From now on a client that ends its side has not left: that is passed on.
    down.slot.unwatch();
    core.buffers.give(write_downstream(down, rules.write_ms, out, cx).await?);
    Ok(Switched::new(lease, early, route, spec, rules, cx))
}
