//! What the gateway would do with a request, and why: each step is the one that a real request takes, on a snapshot that no
//! connection belongs to. Nothing is opened, resolved or sent.

mod filters;
mod sent;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use http::Method;
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use crate::config::Config;
use crate::core::Core;
use crate::error::Kind;
use crate::filter;
use crate::http::authority::validate_host;
use crate::http::framing::Framing;
use crate::http::head::ResponseHead;
use crate::http::reply::{self, Reply};
use crate::http::upgrade;
use crate::io::{Buf, Stream, memory};
use crate::observe::access_log::UNIX_CLIENT;
use crate::request::Request;
use crate::route::{Verdict, param_names};
use crate::snapshot::{Action, ListenerSpec, Snapshot};
use crate::tls::{ClientIdentity, Session};

use super::plane::{Downstream, Live, Peer, Plane};
use super::receive::{self, Arrival};
use super::{exchange, to_client, unwanted, upload};

pub use filters::Step;
pub use sent::{Endpoint, Sent};

/// What stands for the id that a request would get: as long, and as harmless wherever a template puts it.
pub const REQUEST_ID: &str = "request-id-xxxxxxxxxxxxxxx";

/// A request to be explained.
#[derive(Debug)]
pub struct Asked {
    /// Its head, as a client would send it.
    pub head: Vec<u8>,
    /// The address that it comes from; over a Unix socket none.
    pub from: Option<IpAddr>,
    /// Index of the listener that it comes to.
    pub listener: usize,
    /// The host that the handshake is for, and a port if there is one, where the listener speaks TLS.
    pub server_name: String,
    /// The certificate that the client shows, and those that lead to its authority.
    pub certificates: Vec<CertificateDer<'static>>,
    /// What services that are asked about the request are to have answered.
    pub granted: Granted,
}

/// An answer that lets a request pass.
#[derive(Debug, Default)]
pub struct Granted {
    /// Its head.
    pub head: ResponseHead,
    /// The bytes that it is within.
    pub bytes: Vec<u8>,
}

/// A field that an upstream gets, whose value is not known.
#[derive(Clone, Debug, Serialize)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// Where its value would come from.
    pub from: String,
}

/// What would be done with a request.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// The listener that it comes to.
    pub listener: String,
    /// Why there is no request: the handshake is refused.
    pub handshake_refused: Option<String>,
    /// What of the connection is not known.
    pub unknown: Vec<String>,
    /// How it was understood, unless it is refused before that.
    pub request: Option<Understood>,
    /// The route that it takes.
    pub route: Option<Taken>,
    /// Every other route with what is to be said of it: those whose host and path fit first, in the order in which they are
    /// asked.
    pub others: Vec<Other>,
    /// What runs before the action, in order.
    pub filters: Vec<Step>,
    /// The answer, where the gateway makes it.
    pub answer: Option<Answer>,
    /// What upstreams get.
    pub sent: Vec<Sent>,
    /// The largest body, in bytes.
    pub body_limit: Option<u64>,
    /// What is waited for, and for how long at most, in ms.
    pub deadlines: Vec<Deadline>,
}

/// A request as the gateway reads it.
#[derive(Debug, Serialize)]
pub struct Understood {
    /// Its method.
    pub method: String,
    /// Host that routes are matched with.
    pub host: String,
    /// Path that routes are matched with: normalised.
    pub path: String,
    /// All behind its `?`.
    pub query: Option<String>,
    /// Who calls.
    pub client: String,
}

/// The route that is taken.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its path pattern.
    pub pattern: String,
    /// Names of its parameters, and what they match.
    pub params: Vec<(String, String)>,
}

/// A route that is not taken.
#[derive(Debug, Serialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Its methods, host and pattern.
    pub matches: String,
    /// What does not fit: `host`, `path`, `method`, a predicate, or `nothing` where another comes before it.
    pub differs: &'static str,
    /// The same in words.
    pub why: String,
}

/// An answer that the gateway makes.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Why, where it is an error.
    pub why: Option<&'static str>,
    /// Its head.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// Something that is waited for.
#[derive(Debug, Serialize)]
pub struct Deadline {
    /// Its key in the config.
    pub key: String,
    /// In ms.
    pub ms: u32,
}

/// Explains a request to a data plane that serves by the snapshot of `config`.
#[must_use]
pub fn explain(plane: &Rc<Plane>, config: &Config, asked: &Asked) -> Explanation {
    let live = plane.live();
    let snapshot = &live.snapshot;
    let Some(rules) = snapshot.listeners.get(asked.listener) else { return Explanation::default() };
    let mut told = Explanation { listener: rules.name.clone(), ..Explanation::default() };
    listener_deadlines(rules, &mut told);
    let client = client(rules, asked, &mut told);
    let down = downstream(plane, rules, asked, client);
    if told.handshake_refused.is_none() {
        told.handshake_refused = handshake_refused(&down, rules);
    }
    if told.handshake_refused.is_some() {
        return told;
    }
    let (mut req, decided) = receive(&down, rules, snapshot, &plane.core, asked);
    if let Err(kind) = decided {
        filter::on_unread(&rules.filters, &mut req, &plane.core);
        told.answer = Some(error(kind, None, &req, &live, plane, rules));
        return told;
    }
    told.request = Some(Understood {
        method: req.head.method.as_str().to_owned(),
        host: req.host_str().to_owned(),
        path: req.path_str().to_owned(),
        query: req.query_str().map(str::to_owned),
        client: req.client.map_or_else(|| UNIX_CLIENT.to_owned(), |ip| ip.to_string()),
    });
    let found = exchange::route_of(&mut req, &live, plane, &down);
    let index = found.as_ref().map_or_else(|(route, _)| *route, |index| Some(*index));
    routes(&req, snapshot, config, index, &mut told);
    let index = match found {
        Ok(index) => index,
        Err((_, mut reply)) => {
            snapshot.shape(&mut reply, index, &req.request_id);
            told.answer = Some(answer(&reply, &req, &plane.core, rules));
            return told;
        }
    };
    let (Some(route), Some(raw)) = (snapshot.routes.get(index), config.routes.get(index)) else { return told };
    told.deadlines.push(Deadline { key: route.timeout_key(), ms: route.timeout_ms });
    req.body_limit = route.body_limit;
    receive::count_forward(&mut req);
    let about = sent::About { live: &live, down: &down, config };
    let (steps, unknown) = filters::run(&mut req, route, raw, &about, plane, asked);
    told.filters = steps;
    told.body_limit = req.body_limit;
    req.cut_query();
    match &route.action {
        Action::Forward(_) if is_connect_with_body(&req) => {
            told.answer = Some(error(Kind::Malformed("CONNECT with a body"), Some(index), &req, &live, plane, rules));
        }
        action if unwanted::is_bounded(action, &req) && upload::announces_too_much(&req) => {
            told.answer = Some(error(Kind::BodyTooLarge, Some(index), &req, &live, plane, rules));
        }
        Action::Forward(action) => {
            about.forward(action, raw, route.timeout_ms, &plane.core, &mut req, &mut told);
            told.sent.iter_mut().for_each(|sent| sent.unknown.clone_from(&unknown));
        }
        Action::Aggregate(plan) => about.aggregate(plan, raw, route.timeout_ms, &req, &mut told),
        Action::Respond(respond) => {
            let reply = exchange::responded(respond, &req);
            told.answer = Some(answer(&reply, &req, &plane.core, rules));
        }
        Action::Redirect(redirect) => {
            let reply = exchange::redirected(redirect, &req);
            told.answer = Some(answer(&reply, &req, &plane.core, rules));
        }
    }
    told
}

/// Who the client is by the certificate that it shows, which is verified as in a handshake.
fn client(rules: &ListenerSpec, asked: &Asked, told: &mut Explanation) -> Option<ClientIdentity> {
    let tls = &rules.tls.as_ref()?.rules;
    match (asked.certificates.is_empty(), tls.wants_certificate()) {
        (_, None) => {}
        (true, Some(true)) => {
            told.unknown.push("the client's certificate, without which the handshake is refused".into())
        }
        (true, Some(false)) => told.unknown.push("the client's certificate, which it may show or not".into()),
        // As in a resumed session: all that a handshake would look at is looked at.
        (false, Some(_)) => match tls.admit(&asked.certificates, true) {
            Ok(client) => return client,
            Err(e) => told.handshake_refused = Some(format!("the client's certificate: {e}")),
        },
    }
    None
}

/// A connection that nobody is at the other end of.
fn downstream(plane: &Plane, rules: &ListenerSpec, asked: &Asked, client: Option<ClientIdentity>) -> Downstream {
    let (near, _) = memory::pair();
    let down = Downstream {
        stream: Stream::Memory(near),
        peer: Peer::new(asked.from.map(|ip| SocketAddr::new(ip, 0))),
        told: Default::default(),
        place: Default::default(),
        client: Default::default(),
        listener: asked.listener,
        slot: plane.core.deadlines.slot(),
        session: Default::default(),
        half_answered: Default::default(),
        idle_since_ms: Default::default(),
        served: Default::default(),
        opened_ms: 0,
    };
    if rules.tls.is_some() {
        let host = validate_host(asked.server_name.as_bytes()).map(|host| host.name.to_ascii_lowercase());
        // Addresses are named in no handshake (RFC 6066 3).
        let is_name = |host: &String| !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err();
        let session =
            Session { server_name: host.ok().filter(is_name).unwrap_or_default(), version: "TLSv1.3", client };
        let _ = down.session.set(Rc::new(session)); // it was empty
    }
    down
}

/// Who names no host in the handshake gets the first certificate.
fn handshake_refused(down: &Downstream, rules: &ListenerSpec) -> Option<String> {
    let name = &down.session.get()?.server_name;
    let is_refused = !name.is_empty() && rules.tls.as_ref()?.rules.refuses(name);
    is_refused.then(|| format!("no certificate is for {name}, and unknown_name is refuse"))
}

/// What gets no tunnel: no one could say where its bytes begin.
fn is_connect_with_body(req: &Request) -> bool {
    req.head.method == Method::CONNECT && !matches!(req.framing, Framing::None | Framing::Length(0))
}

/// Reads and decides a request as a connection does.
fn receive(
    down: &Downstream,
    rules: &ListenerSpec,
    snapshot: &Snapshot,
    core: &Core,
    asked: &Asked,
) -> (Request, Result<(), Kind>) {
    let mut req = Request { buf: Buf::with_capacity(asked.head.len()), ..Request::default() };
    req.session = down.session.get().map(Rc::clone);
    req.buf.extend(&asked.head);
    let whole = Arrival::new(&rules.bounds).look(&mut req.buf, &mut req.head, &rules.bounds);
    let decided = match whole {
        Ok(true) => receive::decide(down.peer().ip(), rules, snapshot, &mut req),
        Ok(false) => Err(Kind::HeaderTimeout),
        Err(kind) => Err(kind),
    };
    receive::name(core, &mut req);
    // A trusted proxy's stays; one that is made here is another each time.
    let given = req.head.fields.get(b"x-request-id", req.bytes());
    if given != Some(req.request_id.as_bytes()) {
        REQUEST_ID.clone_into(&mut req.request_id);
    }
    (req, decided)
}

/// The answer to a request that takes this route, or none, and fails.
fn error(kind: Kind, route: Option<usize>, req: &Request, live: &Live, plane: &Plane, rules: &ListenerSpec) -> Answer {
    let mut reply = Reply::from_error(kind, &req.request_id, b"");
    live.snapshot.shape(&mut reply, route, &req.request_id);
    answer(&reply, req, &plane.core, rules)
}

fn answer(reply: &Reply, req: &Request, core: &Core, rules: &ListenerSpec) -> Answer {
    let mut head = Vec::new();
    // Behind a request for a tunnel, or for another protocol, may come what is no request.
    let is_request_next = req.head.method != Method::CONNECT && !upgrade::leaves_http(&req.head, req.bytes());
    let keep = !reply.close && req.head.wants_keep_alive() && is_request_next;
    to_client::write_reply_head(reply, req, core, keep, &rules.hsts, &mut head);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let why = reply.kind.map(|kind| reply::row(kind).message);
    Answer { status: reply.status, why, head: text(&head), body: text(&reply.body) }
}

/// What is to be said of each route.
fn routes(req: &Request, snapshot: &Snapshot, config: &Config, taken: Option<usize>, told: &mut Explanation) {
    let candidates = snapshot.router.explain(req.host_str(), req.path_str(), &req.head.method, req);
    for candidate in candidates {
        let Some(raw) = config.routes.get(candidate.route) else { continue };
        let name = raw.name.value.clone();
        if taken == Some(candidate.route) {
            let names = param_names(&raw.matches.path.value).unwrap_or_default();
            let path = req.path_str();
            let params =
                names.into_iter().enumerate().map(|(i, name)| (name, candidate.params.get(i, path).to_owned()));
            told.route = Some(Taken { name, pattern: raw.matches.path.value.clone(), params: params.collect() });
            continue;
        }
        let methods: Vec<&str> = raw.matches.methods.iter().map(http::Method::as_str).collect();
        let host = raw.matches.host.as_ref().map(|host| host.value.to_string());
        let (differs, why) = match candidate.verdict {
            Verdict::Matches => ("nothing", "it fits too, and the one that is taken comes before it".to_owned()),
            Verdict::Redirects => ("path", "its path has, or lacks, the slash at the end".to_owned()),
            // CONNECT must be named.
            Verdict::Method if methods.is_empty() => ("method", "it takes any but CONNECT".to_owned()),
            Verdict::Method => ("method", format!("it takes {}", methods.join(", "))),
            Verdict::Predicate { name, why, .. } => ("predicate", format!("{name}: {why}")),
            Verdict::OtherHost => ("host", format!("it is for {}", host.as_deref().unwrap_or("any host"))),
            Verdict::OtherPath => ("path", format!("it is for {}", raw.matches.path.value)),
        };
        let words = [methods.join(","), format!("{}{}", host.unwrap_or_default(), raw.matches.path.value)];
        let matches = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        told.others.push(Other { name, matches, differs, why });
    }
}

fn listener_deadlines(rules: &ListenerSpec, told: &mut Explanation) {
    let mut add = |key: &str, ms| {
        told.deadlines.push(Deadline { key: format!("listeners.{}.timeouts.{key}", rules.name), ms });
    };
    if let Some(tls) = &rules.tls {
        add("tls_handshake", tls.handshake_ms);
    }
    add("request_header", rules.request_header_ms);
    add("request_body", rules.request_body_ms);
    add("keep_alive", rules.keep_alive_ms);
    add("write", rules.write_ms);
}
