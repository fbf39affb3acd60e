//! `request_headers: { set, add, remove }`: changes to the fields that go to the upstream.

use crate::core::Core;
use crate::request::Request;

use super::Flow;
use super::header_edits::{Came, HeaderEdits};

/// The filter.
#[derive(Clone, Debug)]
pub struct RequestHeaders {
    /// What it changes.
    pub edits: HeaderEdits,
}

impl RequestHeaders {
    /// Changes the request; never waits, never answers.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        let mut edits = std::mem::take(&mut req.edits); // its templates read the rest of the request
        self.edits.apply(req, Some(Came::with(req)), &mut edits);
        req.edits = edits;
        Flow::Continue
    }
}
