//! Which plugins are compiled in.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::settings::{Settings, Wrong};
use super::{Failure, Flow, Plugin, Request, Response};

/// Bytes of a name: it is a word of the config.
const NAME_BYTES_MAX: usize = 64;

/// The plugins that are compiled in, by name.
#[derive(Default)]
pub struct Registry {
    entries: BTreeMap<&'static str, Entry>,
    wrong: Vec<String>,
}

struct Entry {
    about: &'static str,
    make: fn(&Settings) -> Result<Arc<dyn Object>, Wrong>,
}

/// A plugin's instance. One table serves all types of plugins.
pub(crate) trait Object: Send + Sync {
    fn on_request(&self, request: &mut Request<'_>) -> Result<Flow, Failure>;
    fn on_response(&self, response: &mut Response<'_>) -> Result<(), Failure>;
}

impl<P: Plugin> Object for P {
    fn on_request(&self, request: &mut Request<'_>) -> Result<Flow, Failure> {
        Plugin::on_request(self, request)
    }

    fn on_response(&self, response: &mut Response<'_>) -> Result<(), Failure> {
        Plugin::on_response(self, response)
    }
}

impl Registry {
    /// Without plugins.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this one too. A name that is none, or is there already, is told by [`run`](crate::run()), which then does not start.
    #[must_use]
    pub fn with<P: Plugin>(mut self) -> Self {
        let name = P::NAME;
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.len() > NAME_BYTES_MAX || !name.contains('-') || !name.bytes().all(is_plain) {
            self.wrong.push(format!(
                "{name:?} is no name of a plugin: small letters, digits and hyphens, at least one hyphen, as in \"acme-tenant\""
            ));
        } else if self.entries.insert(name, Entry { about: P::ABOUT, make: make::<P> }).is_some() {
            self.wrong.push(format!("the plugin {name:?} is registered twice"));
        }
        self
    }

    /// Their names, each with what it does.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.entries.iter().map(|(name, entry)| (*name, entry.about))
    }

    /// What is wrong with their names.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.wrong.is_empty() { Ok(()) } else { Err(self.wrong.join("\n")) }
    }

    /// The name as it is compiled in.
    pub(crate) fn find(&self, name: &str) -> Option<&'static str> {
        self.entries.get_key_value(name).map(|(name, _)| *name)
    }

    /// Makes an instance.
    pub(crate) fn make(&self, name: &str, settings: &Settings) -> Option<Result<Arc<dyn Object>, Wrong>> {
        self.entries.get(name).map(|entry| (entry.make)(settings))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.keys()).finish()
    }
}

fn make<P: Plugin>(settings: &Settings) -> Result<Arc<dyn Object>, Wrong> {
    let make = || P::new(settings.read()?).map_err(|fault| settings.fault(fault));
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(made) => Ok(Arc::new(made?)),
        Err(panic) => Err(Wrong::at(
            settings,
            format!("the plugin {} panicked: {}", P::NAME, panic_message(panic)),
            String::new(),
        )),
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<&'static str>() {
        Ok(text) => (*text).to_owned(),
        Err(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => {
                // Dropping what is not known could panic again, where nothing catches it.
                std::mem::forget(other);
                "without a message".to_owned()
            }
        },
    }
}
