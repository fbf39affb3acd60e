//! Texts with `{…}` in them. They are read here once to find what is wrong with them, and again where snapshots are
//! built: what a parameter stands for depends on the route, and a filter serves many routes.

use std::borrow::Cow;

use super::decode::Value;
use super::report::Located;
use crate::route::facts::LEFT;
use crate::route::param_names;
use crate::route::template::{Template, TemplateError};

/// The path parameters that a template may name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Params {
    /// These.
    Named(Vec<String>),
    /// Nothing is known of them: whatever can be a parameter is taken for one.
    Any,
}

impl Params {
    /// Those of a route's pattern. One that is wrong, which is for others to say, still shows what its parameters are.
    pub(super) fn of(pattern: &str) -> Self {
        Self::Named(param_names(pattern).unwrap_or_else(|_| in_braces(pattern)))
    }

    /// Whether there may be one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|known| known == name),
            Self::Any => true,
        }
    }

    /// The parameters for reading this template.
    pub(super) fn of_template(&self, text: &str) -> Cow<'_, [String]> {
        match self {
            Self::Named(names) => Cow::Borrowed(names),
            Self::Any => {
                let mut names = in_braces(text);
                // A parameter that is named like a fact of the request would make the fact ambiguous.
                let is_left = |name: &String| name == LEFT && text.contains(&format!("{{{LEFT}}}"));
                names.retain(|name| !is_left(name) && Template::parse(&format!("{{{name}}}"), &[]).is_err());
                Cow::Owned(names)
            }
        }
    }

    /// The parameters for reading a text that has these names in it.
    pub(super) fn of_names(&self, names: &[String]) -> Cow<'_, [String]> {
        match self {
            Self::Named(known) => Cow::Borrowed(known),
            Self::Any => {
                let braces: String = names.iter().map(|name| format!("{{{name}}}")).collect();
                Cow::Owned(self.of_template(&braces).into_owned())
            }
        }
    }
}

/// Records what is wrong with a template; gives it back if nothing is.
pub(super) fn checked(
    value: &Value<'_>,
    template: Located<String>,
    params: &Params,
    parse: impl FnOnce(&str, &[String]) -> Result<Template, TemplateError>,
) -> Option<Located<String>> {
    match parse(&template.value, &params.of_template(&template.value)) {
        Ok(_) => Some(template),
        Err(fault) => {
            value.error(fault.to_string(), "");
            None
        }
    }
}

/// `a`, `b` and `c` of `/{a}/{path.b}/{*c}`: what can be the name of a parameter, each once.
fn in_braces(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for inner in text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)) {
        let name = inner.strip_prefix('*').or(inner.strip_prefix("path.")).unwrap_or(inner);
        let fits = param_names(&format!("/{{{name}}}")).is_ok();
        if fits && !names.iter().any(|earlier| earlier == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_wrong_still_shows_its_parameters() {
        let named = |names: &[&str]| Params::Named(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(Params::of("/{a}/{*b}"), named(&["a", "b"]));
        assert_eq!(Params::of("{a}/{*b}/{a}/{x y}/c{"), named(&["a", "b"]));
    }

    #[test]
    fn without_a_pattern_only_parameters_are_taken_on_trust() {
        let wrong = |text: &str| Template::parse(text, &Params::Any.of_template(text)).is_err();
        for text in ["{a}", "{path.a}-{a}", "{host}{hostname}{query.q}{header.x}", "{{"] {
            assert!(!wrong(text), "{text}");
        }
        for text in ["{", "a}", "{x.y}", "{header.a b}", "{query.}"] {
            assert!(wrong(text), "{text}");
        }
    }
}
