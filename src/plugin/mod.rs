//! Filters of your own, compiled in.
//!
//! A plugin is a filter in Rust: it sees each request of the routes that use it before it is forwarded, and each answer before
//! its head is sent. A gateway with plugins is a program of a few lines, which has all that `ringway` has:
//!
//! ```no_run
//! use ringway::plugin::{Answer, Failure, Fault, Flow, Plugin, Registry, Request, Response};
//!
//! /// Lets tenants in that are known, and tells upstream and log which one it is.
//! struct Tenant {
//!     header: String,
//!     known: Vec<String>,
//! }
//!
//! // Its block in the config: { filters: { who: { acme-tenant: { known: [red, blue] } } } }
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     #[serde(default = "default_header")]
//!     header: String,
//!     known: Vec<String>,
//! }
//!
//! fn default_header() -> String {
//!     "x-tenant".into()
//! }
//!
//! impl Plugin for Tenant {
//!     const NAME: &'static str = "acme-tenant";
//!     const ABOUT: &'static str = "lets known tenants in";
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, Fault> {
//!         if config.known.is_empty() {
//!             return Err(Fault::new("nobody could call", "list at least one tenant").at("known"));
//!         }
//!         Ok(Tenant { header: config.header, known: config.known })
//!     }
//!
//!     fn on_request(&self, request: &mut Request<'_>) -> Result<Flow, Failure> {
//!         let tenant = request.text(&self.header).filter(|name| self.known.iter().any(|known| known == name));
//!         let Some(tenant) = tenant.map(str::to_owned) else {
//!             return Ok(Answer::envelope(403, 90, "this tenant is not known here").into());
//!         };
//!         request.set_principal(&tenant)?;
//!         request.set_field("x-acme-tenant", &tenant)?;
//!         request.log("tenant", &tenant);
//!         Ok(Flow::Continue)
//!     }
//!
//!     fn on_response(&self, response: &mut Response<'_>) -> Result<(), Failure> {
//!         response.remove_field("x-powered-by")?;
//!         response.log("cached", response.field("age").is_some());
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     ringway::run(Registry::new().with::<Tenant>())
//! }
//! ```
//!
//! # Rules
//!
//! - **One instance** is made for each filter of the config that names the plugin, before anything is served (and by `check`). All
//!   cores share it, which is why it is `Send + Sync`; what a core writes there costs the others their caches.
//! - **Nothing may wait.** Both events run on the core that serves the connection, between two system calls: whatever blocks or
//!   computes for long stops all connections of that core. There are no asynchronous events, and bodies are not seen.
//! - **Order**: requests pass the filters in the order of the config. Answers come back the other way: the plugin that saw the
//!   request last sees the answer first. A plugin sees the answer to each request that it has seen, whoever made it: the
//!   upstream, a filter behind it, the gateway (a 502), or itself. It does not see requests that an earlier filter answers, that no
//!   route matches or that are no HTTP. Where sending an answer fails before its first byte, the error's own answer is seen as well.
//! - **Failing**: a plugin that panics or gives a [`Failure`] ends that request with 500, in the gateway's envelope and with `end`
//!   `plugin_failed` in the log (with `panic = "abort"` in its Cargo profile, a panic ends the process instead); it is counted (`ringway_filter_requests_total{outcome="failed"}`), and the operator is told its name.
//! - **Safety**: field names and values are checked; nothing can end a line, change where a message ends or write a field that belongs
//!   to a connection. What a client says about itself in `X-Forwarded-*`, or in a field that an earlier filter sets, is not shown.
//! - **Values of the config** are read by serde, with errors at their file, line and column. [`Duration`], [`ByteSize`] and [`Rate`]
//!   are written with units as everywhere, and a [`Secret`] is never printed.

mod answer;
mod registry;
mod request;
mod response;
mod settings;

pub use crate::observe::log_fields::LogValue;
pub use crate::value::{ByteSize, Duration, Rate, Secret};
pub use answer::Answer;
pub use registry::Registry;
pub use request::Request;
pub use response::Response;

pub(crate) use registry::{Object, panic_message};
pub(crate) use response::Head;
pub(crate) use settings::{Settings, SettingsKey, SettingsKind, Wrong};

use std::fmt;

use crate::http::head::is_token;
use crate::http::known::Known;

/// A filter of your own. See the [module](self) for what it may do, and for an example.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// What it is called in configs: small letters, digits and hyphens, at least one hyphen, as in `acme-tenant`. Filters of
    /// ringway itself never have one, so that a later version can not take the name.
    const NAME: &'static str;
    /// What it does, for `ringway plugins`: one line.
    const ABOUT: &'static str;
    /// Its block in the config. `#[serde(deny_unknown_fields)]` lets a misspelt key be told.
    type Config: serde::de::DeserializeOwned;

    /// Makes the instance of one filter.
    ///
    /// # Errors
    /// What is wrong with its config, beyond what its type says.
    fn new(config: Self::Config) -> Result<Self, Fault>;

    /// A request has come, and the filters before this one let it pass.
    ///
    /// # Errors
    /// It can not be decided: the client gets 500.
    fn on_request(&self, request: &mut Request<'_>) -> Result<Flow, Failure> {
        let _ = request;
        Ok(Flow::Continue)
    }

    /// The head of the answer is about to be sent.
    ///
    /// # Errors
    /// It can not be sent so: the client gets 500 instead.
    fn on_response(&self, response: &mut Response<'_>) -> Result<(), Failure> {
        let _ = response;
        Ok(())
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Flow {
    /// It goes on to the next filter, then to the route's action.
    Continue,
    /// It is answered with this, and no upstream is asked. A status of 400 and more counts as a refusal.
    Answer(Answer),
}

impl From<Answer> for Flow {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Why an event failed: for the operator, not for the client. Every error can be one (`?`).
#[derive(Debug)]
pub struct Failure(pub(crate) String);

impl Failure {
    /// Says what failed. No secrets: it is reported.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// What is wrong with a config.
#[derive(Debug)]
pub struct Fault {
    pub(crate) what: String,
    pub(crate) remedy: String,
    pub(crate) key: String,
}

impl Fault {
    /// What is wrong, and what would be right (which may be empty).
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), key: String::new() }
    }

    /// The key of the plugin's block that it is about, as a path: `known`, `cache.size`, `rules[2].name`. Without one, or if there is
    /// none of that name, it is told of the block.
    #[must_use]
    pub fn at(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::new(error.to_string(), "")
    }
}

/// A field that can not be written: its name is none, it belongs to the connection, or its value would end the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    what: String,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for InvalidField {}

/// Bytes of a name of a field.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of a value: fits into a head beside everything else.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Whether a plugin may write, or remove, fields of this name.
fn check_name(name: &str) -> Result<(), InvalidField> {
    let wrong = |why: &str| Err(InvalidField { what: format!("the field {name:.128?} {why}") });
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return wrong("has no name that can be written");
    }
    match Known::of(name.as_bytes()) {
        // RFC 9110 7.6.1 and RFC 9112 6: one wrong value would let a message be cut in two.
        Known::Host
        | Known::Connection
        | Known::ContentLength
        | Known::TransferEncoding
        | Known::Te
        | Known::Trailer
        | Known::HopByHop
        // Answered by the gateway (RFC 9110 10.1.1).
        | Known::Expect => wrong("is the gateway's own, and can not be changed"),
        _ => Ok(()),
    }
}

/// Whether a value can stand in a line (RFC 9110 5.5).
fn check_value(name: &str, value: &[u8]) -> Result<(), InvalidField> {
    let is_text = |byte: &u8| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t';
    if value.len() > VALUE_BYTES_MAX {
        return Err(InvalidField {
            what: format!("the field {name:?} has a value of more than {VALUE_BYTES_MAX} bytes"),
        });
    }
    if !value.iter().all(is_text) {
        return Err(InvalidField { what: format!("the field {name:?} has a value with a control character in it") });
    }
    Ok(())
}

fn check(name: &str, value: &[u8]) -> Result<(), InvalidField> {
    check_name(name).and_then(|()| check_value(name, value))
}

/// The same for a field of an answer.
fn check_of_answer(name: &str, value: &[u8]) -> Result<(), InvalidField> {
    check(name, value).and_then(|()| not_date(name))
}

/// The gateway says when it answers, once (RFC 9110 6.6.1).
fn not_date(name: &str) -> Result<(), InvalidField> {
    match Known::of(name.as_bytes()) {
        Known::Date => Err(InvalidField {
            what: "the field Date of an answer is the gateway's own, and can not be changed".into(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_would_break_a_message_are_refused() {
        for name in [
            "Host",
            "content-length",
            "Content_Length",
            "Connection",
            "Upgrade",
            "TE",
            "Expect",
            "keep-alive",
            "",
            "a b",
            "a:",
            "é",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["x-a", "Set-Cookie", "via", "x-forwarded-for", "authorization"] {
            assert!(check(name, "é\tb".as_bytes()).is_ok(), "{name}");
        }
        assert!(check_of_answer("dAte", b"x").is_err() && check_of_answer("age", b"1").is_ok());
        for value in ["a\r\nb: c", "\n", "\0", "\x7f"] {
            assert!(check("x-a", value.as_bytes()).is_err(), "{value:?}");
        }
        assert!(check("x-a", &[b'x'; VALUE_BYTES_MAX + 1]).is_err() && check("x-a", b"").is_ok());
    }

    #[test]
    fn every_error_can_be_a_failure() {
        fn fails() -> Result<(), Failure> {
            "x".parse::<u8>()?;
            Ok(())
        }
        assert!(fails().is_err_and(|failure| failure.0.contains("invalid digit")));
    }
}
