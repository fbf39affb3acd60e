//! Filters of others, compiled in: see [`crate::plugin`]. What they do wrong ends one request, never its core.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::Core;
use crate::error::Kind;
use crate::http::reply::Reply;
use crate::plugin::{self, Head, Object, Response};
use crate::request::Request;
use crate::shared::{FilterMetrics, Rules};

use super::{Flow, note_refusal};

/// Bytes of what a plugin says of its failure; it is told to the operator.
const FAILURE_BYTES_MAX: usize = 500;

/// The filter.
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// The name of the plugin.
    pub plugin: &'static str,
    /// Names of the route's path parameters, in the order of its path.
    pub params: Vec<String>,
    /// This core's counters.
    pub metrics: FilterMetrics,
    object: Rules<dyn Object>,
}

impl Plugin {
    /// A filter that does what `object` does.
    pub(crate) fn new(
        name: &str,
        plugin: &'static str,
        object: &Rules<dyn Object>,
        params: &[String],
        metrics: FilterMetrics,
    ) -> Self {
        Self { name: name.to_owned(), plugin, params: params.to_vec(), metrics, object: object.clone() }
    }

    /// Asks the plugin; never waits.
    pub fn on_request(&self, req: &mut Request, core: &Core) -> Flow {
        let decide = || self.object.on_request(&mut plugin::Request::new(req, &self.params, &self.name));
        let flow = match catch_unwind(AssertUnwindSafe(decide)) {
            Ok(Ok(flow)) => flow,
            Ok(Err(failure)) => return Flow::Reply(self.failed("failed", &failure.0, req, core)),
            Err(panic) => {
                return Flow::Reply(self.failed("panicked", &plugin::panic_message(panic), req, core));
            }
        };
        req.plugins.seen += 1;
        match flow {
            plugin::Flow::Continue => {
                self.metrics.passed.add(1);
                Flow::Continue
            }
            plugin::Flow::Answer(answer) => {
                match answer.is_refusal() {
                    true => note_refusal(&self.name, &self.metrics, req),
                    false => self.metrics.passed.add(1),
                }
                Flow::Reply(answer.into_reply(req))
            }
        }
    }

    /// Shows the plugin an answer.
    ///
    /// # Errors
    /// What is answered instead.
    pub(crate) fn on_response(&self, req: &mut Request, head: Head<'_>, core: &Core) -> Result<(), Reply> {
        let decide = || {
            let request = plugin::Request::new(req, &self.params, &self.name);
            self.object.on_response(&mut Response::new(request, head))
        };
        match catch_unwind(AssertUnwindSafe(decide)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(self.failed("failed", &failure.0, req, core)),
            Err(panic) => Err(self.failed("panicked", &plugin::panic_message(panic), req, core)),
        }
    }

    /// Tells operator and client that it failed.
    #[cold]
    fn failed(&self, how: &str, what: &str, req: &mut Request, core: &Core) -> Reply {
        let cut = what.char_indices().take_while(|(at, _)| *at < FAILURE_BYTES_MAX);
        let what: String = cut.map(|(_, c)| if c.is_control() { ' ' } else { c }).collect();
        core.note(format!("error: the plugin {} of the filter `{}` {how}: {what}", self.plugin, self.name));
        self.metrics.failed.add(1);
        req.refused_by.clear();
        req.refused_by.push_str(&self.name);
        Reply::from_error(Kind::PluginFailed, &req.request_id, b"")
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).field("plugin", &self.plugin).finish_non_exhaustive()
    }
}
