//! Filters: what happens to a request between its route and its action, in the order listed: those of all routes, then
//! the listener's, then the route's. One file per filter, one arm per filter here.

pub mod concurrency;
pub mod header_edits;
pub mod limit_key;
pub mod rate_limit;
pub mod request_headers;

use std::future::Future;
use std::pin::Pin;

use crate::core::Core;
use crate::http::reply::Reply;
use crate::request::Request;

use crate::shared::in_flight::Guard;

use concurrency::Concurrency;
use rate_limit::RateLimit;
use request_headers::RequestHeaders;

/// A filter as a snapshot holds it: plain data.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Sets, adds and removes request fields.
    RequestHeaders(RequestHeaders),
    /// A token bucket per key.
    RateLimit(Box<RateLimit>),
    /// Requests in flight per key.
    Concurrency(Box<Concurrency>),
}

/// What a filter decided.
pub enum Flow {
    /// Go on with the next one.
    Continue,
    /// Answer this, and ask no upstream.
    Reply(Reply),
    /// Decide later. The rare filters that wait pay for it; the others cost no await.
    Wait(Pin<Box<dyn Future<Output = Verdict>>>),
}

/// What a filter that waited decided.
pub enum Verdict {
    /// Go on with the next one; the request counts for this to its end.
    Admit(Guard),
    /// Answer this, and ask no upstream.
    Refuse {
        /// The filter's name.
        by: String,
        /// The answer.
        reply: Reply,
    },
}

/// Runs `filters` on a request, all or until one does not let it pass; the count says how many have run.
pub fn on_request(filters: &[Filter], req: &mut Request, core: &Core) -> (usize, Flow) {
    for (index, filter) in filters.iter().enumerate() {
        let flow = match filter {
            Filter::RequestHeaders(filter) => filter.on_request(req, core),
            Filter::RateLimit(filter) => filter.on_request(req, core),
            Filter::Concurrency(filter) => filter.on_request(req, core),
        };
        match flow {
            Flow::Continue => {}
            Flow::Reply(_) => {
                give_back(filters.get(..index).unwrap_or_default(), req, core);
                return (index + 1, flow);
            }
            Flow::Wait(_) => return (index + 1, flow),
        }
    }
    (filters.len(), Flow::Continue)
}

/// What is refused takes no tokens of the limits that let it pass before: or whoever is refused by a limit of his own would
/// use up the one that he shares with others.
#[cold]
fn give_back(filters: &[Filter], req: &Request, core: &Core) {
    for filter in filters {
        if let Filter::RateLimit(limit) = filter {
            limit.give_back(req, core);
        }
    }
}
