//! `security_headers`: what browsers are told about every answer, also those that the gateway makes itself.
//!
//! What an upstream says of its own is kept unless `override` is set: an application knows best which pages may frame it,
//! and the preset is for those that say nothing (as Caddy's `?` and Spring's `addIfAbsent`; others replace, and break it).

use crate::core::Core;
use crate::request::Request;
use crate::shared::FilterMetrics;

use super::Flow;

/// The filter.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    /// Name and value of each field.
    pub fields: Vec<(&'static str, String)>,
    /// They replace an upstream's own.
    pub is_override: bool,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

impl SecurityHeaders {
    /// Notes the fields; never waits, never answers.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        for (name, value) in &self.fields {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(value.as_bytes());
            match self.is_override {
                true => req.own.set(name.as_bytes(), write),
                false => req.own.set_unless_given(name.as_bytes(), write),
            }
        }
        self.metrics.passed.add(1);
        Flow::Continue
    }
}
