//! Filters: what happens to a request between its route and its action, in the order listed: those of all routes, then
//! the listener's, then the route's. Those that are about answers (`cors`, `security_headers`, `compress`) come before all
//! others, wherever they are listed: answers of filters that refuse must have what they add. One file per filter, one arm per
//! filter here.

pub mod api_key;
pub mod basic;
pub mod compress;
pub mod concurrency;
pub mod cors;
pub mod ext_auth;
pub mod fault;
pub mod header_edits;
pub mod ip;
pub mod jwt;
pub mod limit_key;
pub mod mirror;
pub mod plugin;
pub mod rate_limit;
pub mod request_headers;
pub mod request_limits;
pub mod security_headers;

use std::future::Future;
use std::pin::Pin;

use crate::core::Core;
use crate::http::reply::Reply;
use crate::request::Request;

use crate::shared::in_flight::Guard;
use crate::shared::{FilterMetrics, Rules};

use api_key::ApiKey;
use basic::Basic;
use compress::Compress;
use concurrency::Concurrency;
use cors::Cors;
use ext_auth::ExtAuth;
use fault::Fault;
use ip::Ip;
use jwt::Jwt;
use mirror::Mirror;
use plugin::Plugin;
use rate_limit::RateLimit;
use request_headers::RequestHeaders;
use request_limits::RequestLimits;
use security_headers::SecurityHeaders;

/// A filter as a snapshot holds it: plain data.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Sets, adds and removes request fields.
    RequestHeaders(RequestHeaders),
    /// What browsers are told in every answer.
    SecurityHeaders(Rules<SecurityHeaders>),
    /// Which answers are compressed.
    Compress(Rules<Compress>),
    /// Which pages of other origins may read the answers.
    Cors(Rules<Cors>),
    /// Who may call, by address.
    Ip(Rules<Ip>),
    /// What a request may be like.
    RequestLimits(Rules<RequestLimits>),
    /// Callers that show a key.
    ApiKey(Rules<ApiKey>),
    /// Callers that send name and password.
    Basic(Rules<Basic>),
    /// A token bucket per key.
    RateLimit(Box<RateLimit>),
    /// Requests in flight per key.
    Concurrency(Box<Concurrency>),
    /// A signed token.
    Jwt(Rules<Jwt>),
    /// One of others, compiled in.
    Plugin(Rules<Plugin>),
    /// A service that is asked.
    ExtAuth(Rules<ExtAuth>),
    /// Delays and failures on purpose.
    Fault(Rules<Fault>),
    /// Copies for another upstream.
    Mirror(Rules<Mirror>),
}

/// What a filter decided.
pub enum Flow {
    /// Go on with the next one.
    Continue,
    /// Answer this, and ask no upstream.
    Reply(Reply),
    /// Decide later. The rare filters that wait pay for it; the others cost no await.
    Wait(Pin<Box<dyn Future<Output = Verdict>>>),
    /// An upstream is to be asked, and the filter decides by the answer: [`ExtAuth::on_answer`].
    Ask,
}

/// What a filter that waited decided.
pub enum Verdict {
    /// Go on with the next one; the request counts for this to its end.
    Admit(Guard),
    /// Go on with the next one.
    Pass,
    /// Ask the same filter again: what it waited for is there.
    Again,
    /// Answer this, and ask no upstream.
    Refuse {
        /// The filter's name.
        by: String,
        /// The answer.
        reply: Reply,
    },
}

/// Runs `filters` on a request from the one with index `from` on, all or until one does not let it pass: its index comes
/// with what it decided.
pub fn on_request(filters: &[Filter], from: usize, req: &mut Request, core: &Core) -> (usize, Flow) {
    for (index, filter) in filters.iter().enumerate().skip(from) {
        let flow = match filter {
            Filter::RequestHeaders(filter) => filter.on_request(req, core),
            Filter::SecurityHeaders(filter) => filter.on_request(req, core),
            Filter::Compress(filter) => filter.on_request(req, core),
            Filter::Cors(filter) => filter.on_request(req, core),
            Filter::Ip(filter) => filter.on_request(req, core),
            Filter::RequestLimits(filter) => filter.on_request(req, core),
            Filter::ApiKey(filter) => filter.on_request(req, core),
            Filter::Basic(filter) => filter.on_request(req, core),
            Filter::RateLimit(filter) => filter.on_request(index, req, core),
            Filter::Concurrency(filter) => filter.on_request(req, core),
            Filter::Jwt(filter) => filter.on_request(req, core),
            Filter::Plugin(filter) => filter.on_request(req, core),
            Filter::ExtAuth(filter) => filter.on_request(req, core),
            Filter::Fault(filter) => filter.on_request(req, core),
            Filter::Mirror(filter) => filter.on_request(req, core),
        };
        match flow {
            Flow::Continue => {}
            Flow::Reply(_) => {
                refused(filters, index, req, core);
                return (index, flow);
            }
            Flow::Wait(_) | Flow::Ask => return (index, flow),
        }
    }
    (filters.len(), Flow::Continue)
}

/// Notes what goes into the answer to a request that could not be read, or was not: of the filters that are about answers
/// only those that ask nothing of the request, of which nothing can be believed.
#[cold]
pub fn on_unread(filters: &[Filter], req: &mut Request, core: &Core) {
    for filter in filters {
        if let Filter::SecurityHeaders(filter) = filter {
            let _ = filter.on_request(req, core); // it never answers
        }
    }
}

/// The filter with this index has refused the request. If it is a limit, the request takes no tokens of those that let it
/// pass before: or whoever is refused by a limit of his own would use up the one that he shares with others. Attempts that
/// fail because of who calls are what limits before them count.
#[cold]
pub fn refused(filters: &[Filter], index: usize, req: &mut Request, core: &Core) {
    if !matches!(filters.get(index), Some(Filter::RateLimit(_) | Filter::Concurrency(_))) {
        return;
    }
    let charges = std::mem::take(&mut req.charges);
    for (index, key) in charges.iter() {
        if let Some(Filter::RateLimit(limit)) = filters.get(index) {
            limit.give_back(key, req, core);
        }
    }
}

/// The filter of this name answers the request itself.
fn note_refusal(name: &str, metrics: &FilterMetrics, req: &mut Request) {
    metrics.refused.add(1);
    req.refused_by.push_str(name);
}
