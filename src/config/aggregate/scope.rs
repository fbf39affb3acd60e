//! The names of parts: what templates and conditions take from other parts, and what is wrong with it.

use std::cell::RefCell;

use super::{Envelope, Reference};
use crate::config::decode::Value;
use crate::config::references::Names;
use crate::config::report::{Report, did_you_mean, quote};
use crate::config::templates::Params;
use crate::json::{Path, Step};
use crate::value::Duration;

/// Each is looked up for every request; more than this is a mistake.
const VALUES_MAX: usize = 32;

/// What one part may know of the others, and of the route.
pub(super) struct Scope<'a> {
    pub(super) parts: Vec<Known<'a>>,
    /// `None` if it is wrong.
    pub(super) envelope: Option<Envelope>,
    pub(super) params: &'a Params,
    /// `None` if it is wrong.
    pub(super) route_timeout: Option<Duration>,
    pub(super) upstreams: &'a Names<'a>,
    pub(super) report: &'a Report,
}

/// One part as the others see it, whatever else is wrong with it.
pub(super) struct Known<'a> {
    /// `None` if it has none that could be read: any name may have been meant to be there.
    pub(super) name: Option<&'a str>,
    pub(super) is_shadow: bool,
    pub(super) is_for_each: bool,
}

/// How many values a reference may lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// A scalar, for a template, or one value of any kind, for a condition.
    One,
    /// Also all elements of an array.
    Many,
}

impl Scope<'_> {
    /// The index of the part of this name. That there is none, or none whose answer can be used, is recorded; `used` says
    /// what names it.
    pub(super) fn part(&self, value: &Value<'_>, name: &str, used: &str) -> Option<usize> {
        let Some(index) = self.parts.iter().position(|part| part.name == Some(name)) else {
            let names = || self.parts.iter().filter_map(|part| part.name);
            if self.parts.iter().all(|part| part.name.is_some()) {
                let near = if self.report.is_full() { None } else { did_you_mean(name, names()) };
                let known = || format!("the parts are {}", names().collect::<Vec<_>>().join(", "));
                value.error(format!("{used} names an unknown part {}", quote(name)), near.unwrap_or_else(known));
            }
            return None;
        };
        if self.parts.get(index).is_some_and(|part| part.is_shadow) {
            let what = format!("{used} names the shadow {}, whose answer is thrown away", quote(name));
            value.error(what, "name another part");
            return None;
        }
        Some(index)
    }

    /// `parts.user.tier`, or `order.id` for an item called `order`.
    pub(super) fn reference(&self, value: &Value<'_>, text: &str, item: Option<&str>, take: Take) -> Option<Reference> {
        let (is_part, from_name) = match text.strip_prefix("parts.") {
            Some(rest) if !is_of_item(text, item) => (true, rest),
            _ => (false, text),
        };
        let path = match from_name {
            "" => Err("a name is missing: write it like parts.user.id".to_owned()),
            _ => Path::parse(from_name),
        };
        let first = from_name.split(['.', '[']).next().unwrap_or_default();
        // A name that leads nowhere is told even if what follows it is wrong too.
        let part =
            if is_part && !first.is_empty() { self.part(value, first, &quote(text)).map(Some) } else { Some(None) };
        let steps = match path {
            Ok(Path(steps)) => steps,
            Err(fault) => {
                value.error(format!("{} leads nowhere: {fault}", quote(text)), "");
                return None;
            }
        };
        if take == Take::One && steps.contains(&Step::Each) {
            let what = format!("{} is many values, and one is needed", quote(text));
            value.error(what, "write an index like [0], or make it a part with for_each");
            return None;
        }
        let path = Path(steps.into_iter().skip(1).collect());
        Some(Reference { text: text.to_owned(), part: part?, path })
    }
}

/// Whether `text` is the item of a `for_each`, or something in it.
pub(super) fn is_of_item(text: &str, item: Option<&str>) -> bool {
    let rest = item.and_then(|item| text.strip_prefix(item));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What the templates of one part take from others, each once, in order.
pub(super) struct Taken<'s, 'd> {
    scope: &'s Scope<'s>,
    item: Option<&'d str>,
    found: RefCell<Vec<Reference>>,
    /// Which part is named where, with repetitions: the edges of the graph.
    edges: RefCell<Vec<(usize, Value<'d>)>>,
}

impl<'s, 'd> Taken<'s, 'd> {
    /// Nothing yet; `item` is what an item is called, in a part that has them.
    pub(super) fn new(scope: &'s Scope<'s>, item: Option<&'d str>) -> Self {
        Self { scope, item, found: RefCell::default(), edges: RefCell::default() }
    }

    /// Takes those of `names` that are of other parts or of the item; gives them back, also those that are wrong
    /// (recorded), since the text around them is checked all the same.
    pub(super) fn take(&self, value: &Value<'d>, names: &[impl AsRef<str>]) -> Vec<String> {
        let names = names.iter().map(AsRef::as_ref);
        let mut taken: Vec<String> = Vec::new();
        for name in names.filter(|name| name.starts_with("parts.") || is_of_item(name, self.item)) {
            if taken.iter().any(|known| known == name) {
                continue;
            }
            taken.push(name.to_owned());
            if let Some(reference) = self.scope.reference(value, name, self.item, Take::One) {
                self.add(value, reference);
            }
        }
        taken
    }

    fn add(&self, value: &Value<'d>, reference: Reference) {
        let mut found = self.found.borrow_mut();
        self.edges.borrow_mut().extend(reference.part.map(|part| (part, value.clone())));
        if found.iter().any(|known| known.text == reference.text) {
            return;
        }
        if found.len() == VALUES_MAX {
            value.error(format!("takes more than {VALUES_MAX} values from other parts"), "take fewer");
        }
        found.push(reference);
    }

    /// What was taken, and from which parts, with the place.
    pub(super) fn finish(self) -> (Vec<Reference>, Vec<(usize, Value<'d>)>) {
        (self.found.into_inner(), self.edges.into_inner())
    }
}
