//! One request, on one screen: find its route, run the filters, act.

use std::rc::Rc;

use http::Method;

use crate::context::Context;
use crate::core::ms;
use crate::error::Kind;
use crate::filter::{self, Filter, Flow, cors};
use crate::http::encode;
use crate::http::reply::Reply;
use crate::request::Request;
use crate::route::Lookup;
use crate::route::template::Place;
use crate::snapshot::{Action, Redirect, Respond, Route};

use super::aggregate::{Merged, aggregate};
use super::answer::Answer;
use super::connect::{self, Connected};
use super::forward::forward;
use super::mirror;
use super::plane::{Downstream, Live, Plane};
use super::wait::wait_for_filters;
use super::{receive, unwanted};

/// Methods that the gateway itself knows, for Allow where no route speaks.
const ALLOW_ANY: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What the client is to get.
pub enum Response {
    /// An upstream's answer: its head has come, its body is to be pulled.
    Answer(Answer),
    /// An answer put together from those of several upstreams.
    Merged(Box<Merged>),
    /// The upstream is connected to for a tunnel, and the client is to be told.
    Connected(Box<Connected>),
    /// An answer made here.
    Reply(Reply),
}

/// Answers a request whose head has been read and decided.
pub async fn exchange(
    req: &mut Request,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    cx: &mut Context,
) -> Response {
    let index = match route_of(req, live, plane, down) {
        Ok(index) => index,
        Err((route, reply)) => {
            cx.route = route;
            return Response::Reply(reply);
        }
    };
    let Some(route) = live.snapshot.routes.get(index) else {
        return Response::Reply(Reply::from_error(Kind::Internal, &req.request_id, b""));
    };
    cx.route = Some(index);
    req.body_limit = route.body_limit;
    receive::count_forward(req);
    let filters = route.filters.get(down.listener).map(Vec::as_slice).unwrap_or_default();
    let (index_of_it, flow) = filter::on_request(filters, 0, req, &plane.core);
    let refused = match flow {
        Flow::Continue => None,
        Flow::Reply(reply) => Some(reply),
        waits => Box::pin(wait_for_filters(waits, filters, index_of_it, req, route, live, plane, down, cx)).await,
    };
    if let Some(reply) = refused {
        return Response::Reply(reply);
    }
    req.cut_query();
    act(index, route, req, live, plane, down, cx).await
}

/// The route that a request takes, or the answer of the gateway to one that takes none, with the route that made it.
///
/// # Errors
/// That answer.
#[inline]
pub(super) fn route_of(
    req: &mut Request,
    live: &Live,
    plane: &Plane,
    down: &Downstream,
) -> Result<usize, (Option<usize>, Reply)> {
    if receive::is_for_the_gateway(req) {
        without_route(req, live, plane, down);
        return Err((None, about_the_gateway(req)));
    }
    if let Some(port) = live.snapshot.listeners.get(down.listener).and_then(|rules| rules.https_redirect) {
        without_route(req, live, plane, down);
        return Err((None, to_https(req, port)));
    }
    match find(req, live, down) {
        Lookup::Found { route, params } => {
            req.params = params;
            Ok(route)
        }
        Lookup::MethodNotAllowed { allow } => {
            without_route(req, live, plane, down);
            Err((None, not_allowed(req, allow.as_bytes())))
        }
        Lookup::Redirect { route, path } => {
            without_route(req, live, plane, down);
            Err((Some(route), to_path(req, &path)))
        }
        Lookup::NotFound => {
            without_route(req, live, plane, down);
            if req.head.method == Method::CONNECT {
                return Err((None, not_allowed(req, ALLOW_ANY)));
            }
            Err((None, Reply::from_error(Kind::NoRoute, &req.request_id, b"")))
        }
    }
}

async fn act(
    index: usize,
    route: &Route,
    req: &mut Request,
    live: &Rc<Live>,
    plane: &Rc<Plane>,
    down: &Rc<Downstream>,
    cx: &mut Context,
) -> Response {
    if !req.mirrors.is_empty() && !matches!(route.action, Action::Forward(_)) {
        req.tee = mirror::send(req, Some(index), None, live, plane, down);
    }
    if req.body_limit.is_some() && unwanted::is_bounded(&route.action, req) {
        let rules = live.snapshot.listeners.get(down.listener);
        let due_ms = ms(cx.started_us).saturating_add(route.timeout_ms.into());
        if let Some(rules) = rules
            && let Err(e) = Box::pin(unwanted::read_away(req, down, rules, plane, due_ms, cx)).await
        {
            return Response::Reply(Reply::from_error(e.kind, &req.request_id, b""));
        }
    }
    match &route.action {
        Action::Forward(action) if req.head.method == Method::CONNECT => {
            match Box::pin(connect::open(req, route, action, live, plane, down, cx)).await {
                Ok(connected) => Response::Connected(Box::new(connected)),
                Err(e) => Response::Reply(Reply::from_error(e.kind, &req.request_id, b"")),
            }
        }
        Action::Forward(action) => match forward(req, route, action, live, plane, down, cx).await {
            Ok(answer) => Response::Answer(answer),
            Err(e) => Response::Reply(Reply::from_error(e.kind, &req.request_id, b"")),
        },
        // Boxed: its state is large, and a forwarded request would carry it.
        Action::Aggregate(plan) => match Box::pin(aggregate(req, index, route, plan, live, plane, down, cx)).await {
            Ok(merged) => Response::Merged(Box::new(merged)),
            Err(e) => Response::Reply(Reply::from_error(e.kind, &req.request_id, b"")),
        },
        Action::Respond(respond) => Response::Reply(responded(respond, req)),
        Action::Redirect(redirect) => Response::Reply(redirected(redirect, req)),
    }
}

/// The answer of a route that asks no upstream.
pub(super) fn responded(respond: &Respond, req: &Request) -> Reply {
    let mut fields = Vec::new();
    for (name, value) in respond.fields.iter().filter(|(name, _)| !req.own.replaces(name.as_bytes())) {
        encode::field_of(name.as_bytes(), |out| value.render(req, Place::Header, out), &mut fields);
    }
    Reply { body: respond.body.clone(), ..Reply::without_body(respond.status, fields) }
}

/// The answer of a route that sends the client elsewhere.
pub(super) fn redirected(redirect: &Redirect, req: &Request) -> Reply {
    let mut fields = Vec::new();
    encode::field_of(b"Location", |out| redirect.to.render(req, Place::Location, out), &mut fields);
    Reply::without_body(redirect.status, fields)
}

/// The route. A preflight's is the one of the request that it announces, if a filter there answers preflights; otherwise it
/// is a request like any other, which an upstream may answer.
fn find(req: &mut Request, live: &Live, down: &Downstream) -> Lookup {
    let router = &live.snapshot.router;
    if let Some(method) = cors::announced(req)
        && let found @ Lookup::Found { route, .. } =
            router.find(req.host_str(), req.path_str(), &method, &cors::Announced(req))
    {
        let filters = live.snapshot.routes.get(route).and_then(|route| route.filters.get(down.listener));
        if filters.is_some_and(|filters| filters.iter().any(|filter| matches!(filter, Filter::Cors(_)))) {
            req.is_preflight = true;
            return found;
        }
    }
    router.find(req.host_str(), req.path_str(), &req.head.method, req)
}

/// Notes what goes into answers to requests that no route matches.
#[cold]
fn without_route(req: &mut Request, live: &Live, plane: &Plane, down: &Downstream) {
    if let Some(rules) = live.snapshot.listeners.get(down.listener) {
        let _ = filter::on_request(&rules.filters, 0, req, &plane.core); // filters that only add to answers
    }
}

/// The same URL with `https`.
fn to_https(req: &Request, port: u16) -> Reply {
    if req.head.method == Method::CONNECT {
        return not_allowed(req, ALLOW_ANY);
    }
    if req.host.is_empty() {
        return Reply::from_error(Kind::Malformed("no Host to be redirected to"), &req.request_id, b"");
    }
    let mut fields = b"Location: https://".to_vec();
    fields.extend_from_slice(&req.host);
    if port != 443 {
        fields.push(b':');
        encode::number(port.into(), &mut fields);
    }
    req.write_uri(&mut fields);
    fields.extend_from_slice(b"\r\n");
    // 308 keeps method and body (RFC 9110 15.4.9).
    Reply::without_body(308, fields)
}

/// The same URL with this path, which begins with one slash.
#[cold]
fn to_path(req: &Request, path: &str) -> Reply {
    let mut fields = b"Location: ".to_vec();
    fields.extend_from_slice(path.as_bytes());
    if let Some(query) = req.query_str() {
        fields.push(b'?');
        fields.extend_from_slice(query.as_bytes());
    }
    fields.extend_from_slice(b"\r\n");
    // As for `https_redirect`.
    Reply::without_body(308, fields)
}

#[cold]
fn about_the_gateway(req: &Request) -> Reply {
    if req.head.method != Method::OPTIONS {
        return not_allowed(req, ALLOW_ANY);
    }
    let mut fields = Vec::new();
    encode::field(b"Allow", ALLOW_ANY, &mut fields);
    Reply::without_body(204, fields)
}

#[cold]
fn not_allowed(req: &Request, allow: &[u8]) -> Reply {
    let mut line = Vec::new();
    encode::field(b"Allow", allow, &mut line);
    Reply::from_error(Kind::MethodNotAllowed, &req.request_id, &line)
}
