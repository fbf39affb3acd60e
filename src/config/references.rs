//! Names of upstreams and filters: what the document defines, and whether a name that is used is among it. They are
//! checked where they are read, so that nothing else that is wrong there can hide one that leads nowhere.

use std::collections::HashSet;

use super::decode::{Block, Value};
use super::report::{Located, Report, did_you_mean, quote};

/// What a document defines.
pub(super) struct Defined<'d> {
    pub(super) upstreams: Names<'d>,
    pub(super) filters: Names<'d>,
}

/// The names of one kind. What is defined wrongly is still known by its name.
pub(super) struct Names<'d> {
    kind: &'static str,
    /// `None` if the block that defines them is no mapping (recorded): any name may have been meant to be there.
    known: Option<HashSet<&'d str>>,
    report: &'d Report,
}

impl<'d> Defined<'d> {
    pub(super) fn of(document: &Block<'d>, report: &'d Report) -> Self {
        let names = |kind, key| {
            let value = document.get(key);
            let readable = value.is_none_or(Value::is_mapping);
            let known = readable.then(|| value.into_iter().flat_map(Value::keys).collect());
            Names { kind, known, report }
        };
        Self { upstreams: names("upstream", "upstreams"), filters: names("filter", "filters") }
    }
}

impl Names<'_> {
    /// One name; that it is not defined is recorded, and it is given all the same.
    pub(super) fn one(&self, value: &Value<'_>) -> Option<Located<String>> {
        value.name().inspect(|name| self.check(name))
    }

    /// A list of names, each only once; as for [`Names::one`].
    pub(super) fn list(&self, value: &Value<'_>) -> Option<Vec<Located<String>>> {
        value.names().inspect(|names| names.iter().for_each(|name| self.check(name)))
    }

    /// Records it if there is none of this name.
    pub(super) fn check(&self, name: &Located<String>) {
        let Some(known) = self.known.as_ref().filter(|known| !known.contains(name.value.as_str())) else { return };
        let kind = self.kind;
        // Comparing with every name is left out once nobody would see it.
        let near = if self.report.is_full() { None } else { did_you_mean(&name.value, known.iter().copied()) };
        let remedy = near.unwrap_or_else(|| format!("define it under {kind}s"));
        self.report.error(&name.at, format!("unknown {kind} {}", quote(&name.value)), remedy);
    }
}
