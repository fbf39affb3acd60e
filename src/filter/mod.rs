//! Filters: what happens to a request between its route and its action, in the order listed: those of all routes, then
//! the listener's, then the route's. One file per filter, one arm per filter here.

pub mod header_edits;
pub mod request_headers;

use std::future::Future;
use std::pin::Pin;

use crate::core::Core;
use crate::http::reply::Reply;
use crate::request::Request;

use request_headers::RequestHeaders;

/// A filter as a snapshot holds it: plain data.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Sets, adds and removes request fields.
    RequestHeaders(RequestHeaders),
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
    /// Go on with the next one.
    Continue,
    /// Answer this, and ask no upstream.
    Reply(Reply),
}

/// Runs `filters` on a request, all or until one does not let it pass; the count says how many have run.
pub fn on_request(filters: &[Filter], req: &mut Request, core: &Core) -> (usize, Flow) {
    for (index, filter) in filters.iter().enumerate() {
        let flow = match filter {
            Filter::RequestHeaders(filter) => filter.on_request(req, core),
        };
        if !matches!(flow, Flow::Continue) {
            return (index + 1, flow);
        }
    }
    (filters.len(), Flow::Continue)
}
