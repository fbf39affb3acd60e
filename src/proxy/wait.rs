//! Filters that wait before they decide, or ask an upstream: the rare case, which no other request pays for.

use crate::context::Context;
use crate::core::ms;
use crate::error::Kind;
use crate::filter::{self, Filter, Flow, Verdict};
use crate::http::reply::Reply;
use crate::io::{Fired, guard};
use crate::request::Request;
use crate::snapshot::Route;

use super::finish::kind_of;
use super::plane::{Downstream, Live, Plane};
use super::question;

/// A filter waits, the one with this index. Then the others follow in order, any of which may wait as well. The answer to the
/// request, if one of them gives it.
#[allow(clippy::too_many_arguments)] // each is another owner's; a struct of them would be built for this call alone
pub async fn wait_for_filters(
    mut flow: Flow,
    filters: &[Filter],
    mut index: usize,
    req: &mut Request,
    route: &Route,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
    cx: &Context,
) -> Option<Reply> {
    // The route's time is the client's, whoever uses it; and nothing waits for a client that has left.
    let due_ms = ms(cx.started_us).saturating_add(route.timeout_ms.into());
    let half_close_is_gone = live.snapshot.listeners.get(down.listener).is_none_or(|rules| rules.half_close_is_gone);
    loop {
        down.slot.watch(down.stream.watch_fd(), half_close_is_gone);
        let decided = match flow {
            Flow::Wait(verdict) => guard(&down.slot, due_ms, verdict).await.map(|verdict| follow(verdict, req)),
            Flow::Ask => ask(filters.get(index), req, cx.route, live, plane, down, due_ms).await,
            decided => Ok(Some(decided)),
        };
        down.slot.unwatch();
        req.received_us = plane.core.clock.now_us(); // for those that follow it comes now
        match decided {
            Ok(Some(Flow::Reply(reply))) => {
                filter::refused(filters, index, req, &plane.core);
                return Some(reply);
            }
            Ok(Some(_)) => index += 1,
            Ok(None) => {}
            Err(fired) => return Some(Reply::from_error(kind_of(fired, Kind::RouteTimeout), &req.request_id, b"")),
        }
        let (stopped, next) = filter::on_request(filters, index, req, &plane.core);
        index = stopped;
        flow = match next {
            Flow::Continue => return None,
            Flow::Reply(reply) => return Some(reply),
            waits => waits,
        };
    }
}

/// What a filter has decided that waited; `None`: it is to be asked again.
fn follow(verdict: Verdict, req: &mut Request) -> Option<Flow> {
    match verdict {
        Verdict::Admit(guard) => {
            req.in_flight.push(guard);
            Some(Flow::Continue)
        }
        Verdict::Pass => Some(Flow::Continue),
        Verdict::Again => None,
        Verdict::Refuse { by, reply } => {
            req.refused_by = by;
            Some(Flow::Reply(reply))
        }
    }
}

/// Puts the question of a filter, and lets it decide by the answer.
async fn ask(
    filter: Option<&Filter>,
    req: &mut Request,
    route: Option<usize>,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
    due_ms: u64,
) -> Result<Option<Flow>, Fired> {
    let Some(Filter::ExtAuth(filter)) = filter else { return Ok(Some(Flow::Continue)) };
    // What filters before it have read is told to nobody else.
    let whole = req.begin_without_read_pairs();
    let said = guard(&down.slot, u64::MAX, question::ask(filter, req, route, live, plane, down, due_ms)).await?;
    req.end_without_read_pairs(whole);
    // Whoever it lets pass would find no time left.
    if said.is_err() && down.slot.now_ms() >= due_ms {
        return Err(Fired::Deadline);
    }
    Ok(Some(filter.on_answer(said, req, &plane.core)))
}
