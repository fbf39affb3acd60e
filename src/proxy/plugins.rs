//! Answers on their way past the plugins that have seen the request, the last one first.

use crate::context::Context;
use crate::error::Kind;
use crate::filter::Filter;
use crate::filter::plugin::Plugin;
use crate::http::reply::Reply;
use crate::plugin::Head;
use crate::request::Request;

use super::connect;
use super::exchange::Response;
use super::plane::{Downstream, Live, Plane};

/// Shows them an answer, which they may edit. It is another one if a plugin fails. Only for requests that one has seen.
#[cold]
pub(super) fn on_response(
    response: &mut Response,
    req: &mut Request,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
    cx: &Context,
) {
    for plugin in seen(req.plugins.seen, live, down, cx) {
        let failed = match response {
            Response::Answer(answer) => plugin.on_response(req, Head::Upstream(answer.buf.bytes()), &plane.core).err(),
            Response::Merged(merged) => {
                let head = Head::Own(merged.status, &mut merged.memory.fields);
                plugin.on_response(req, head, &plane.core).err()
            }
            Response::Connected(connected) => {
                plugin.on_response(req, Head::Own(connect::STATUS, &mut connected.fields), &plane.core).err()
            }
            Response::Reply(reply) => {
                show(plugin, reply, req, plane);
                None
            }
        };
        if let Some(reply) = failed
            && let Response::Merged(merged) = std::mem::replace(response, Response::Reply(reply))
        {
            plane.give_fanout(merged.memory);
        }
    }
}

/// The same for an answer that the gateway makes.
#[cold]
pub(super) fn on_reply(
    reply: &mut Reply,
    req: &mut Request,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
    cx: &Context,
) {
    for plugin in seen(req.plugins.seen, live, down, cx) {
        show(plugin, reply, req, plane);
    }
}

/// Those that have seen a request: the first so many of its route's, since they run in order and each once.
fn seen<'l>(count: usize, live: &'l Live, down: &Downstream, cx: &Context) -> impl Iterator<Item = &'l Plugin> {
    let route = cx.route.and_then(|index| live.snapshot.routes.get(index));
    let filters = route.and_then(|route| route.filters.get(down.listener)).map(Vec::as_slice).unwrap_or_default();
    let plugin = |filter: &'l Filter| match filter {
        Filter::Plugin(plugin) => Some(&**plugin),
        _ => None,
    };
    let plugins = filters.iter().filter_map(plugin);
    let later = plugins.clone().count().saturating_sub(count);
    plugins.rev().skip(later)
}

fn show(plugin: &Plugin, reply: &mut Reply, req: &mut Request, plane: &Plane) {
    if reply.kind == Some(Kind::ClientGone) {
        return; // nobody gets it
    }
    let mut lines = Vec::from(std::mem::take(&mut reply.fields));
    match plugin.on_response(req, Head::Own(reply.status, &mut lines), &plane.core) {
        Ok(()) => reply.fields = lines.into(),
        Err(failed) => *reply = failed,
    }
}
