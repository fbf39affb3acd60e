//! `check --print`: the config with every default written out, as YAML. What it says is read again before it is shown, and
//! must be the same config; secrets are masked only then.

use std::collections::HashMap;

mod declared;

use super::decode::{check_name, is_word};
use super::filters::Filter;
use super::schema::{self, Block, Default, Kind, WHOLE};
use super::secrets;
use super::tree::{self, Key, Kind as NodeKind, Node, Scalar};
use super::{Config, Errors, Position, Report, parse_with};
use crate::plugin::Registry;
use crate::value::Rate;

/// Lists that would make longer lines have a line for each item.
const LINE_BYTES_MAX: usize = 100;

/// The config in `text` with its defaults, as YAML for people: without secrets.
///
/// # Errors
/// What is wrong with the config.
pub fn effective(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    plugins: &Registry,
) -> Result<String, Errors> {
    let config = parse_with(file_name, text, env, plugins)?;
    let report = Report::new(file_name);
    let root = tree::read(text, env, &report).map(|root| filled(&root, &WHOLE));
    let mut root = report.finish(root)?;
    name_all(&mut root, &config);
    let whole = root.write(false);
    // Every default that is written must be the decoder's own: who runs what was printed runs the same.
    let again = parse_with(file_name, &whole, env, plugins)?;
    if !same(&config, again) {
        let report = Report::new(file_name);
        let what = "what would be printed is not the same config; this is a defect of ringway";
        report.error(&Position::default(), what, "please report it");
        return report.finish(None);
    }
    declared::hide(&mut root, &config);
    Ok(root.write(true))
}

/// Whether two configs are the same, wherever what they say stands. Plugins can not be compared: their names are.
fn same(config: &Config, mut other: Config) -> bool {
    for (one, other) in config.filters.iter().zip(&mut other.filters) {
        match (&one.filter, &mut other.filter) {
            (Filter::Plugin(one), Filter::Plugin(other)) if one.name == other.name => other.clone_from(one),
            _ => {}
        }
    }
    *config == other
}

/// A document as it will be written.
enum Shown {
    Mapping(Vec<(String, Shown)>),
    List(Vec<Shown>),
    Text(Text),
}

/// A single value.
struct Text {
    text: String,
    /// With variables, as the operator wrote it.
    written: Option<String>,
    quoted: bool,
    class: Class,
}

/// Who may see a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Everyone, also what variables put into it.
    Plain,
    /// Everyone, but not what variables put into it.
    Written,
    /// The same, and whether it is in quotes matters.
    Foreign,
    /// Nobody.
    Secret,
    /// Everyone, but for its password.
    Url,
}

/// The node with the defaults of its kind.
fn filled(node: &Node, kind: &'static Kind) -> Shown {
    match (&node.kind, fitting(kind, &node.kind)) {
        (NodeKind::Mapping(entries), Kind::Block(block)) => block_filled(entries, block),
        (NodeKind::Mapping(entries), kind) => {
            let of = match kind {
                Kind::Map(of) => of,
                Kind::Secret => kind,
                _ => &Kind::Any,
            };
            let is_cookie = std::ptr::eq(of, &schema::COOKIE_PREDICATE);
            // Of a field its value, or what its value is compared with.
            let holds_value = |node: &Node| match &node.kind {
                NodeKind::Scalar(_) => matches!(of, Kind::Template | Kind::Any),
                NodeKind::Mapping(_) => std::ptr::eq(of, &schema::PREDICATE) || is_cookie,
                _ => false,
            };
            let entry = |(key, node): &(Key, Node)| {
                let kind =
                    if holds_value(node) && (is_cookie || secrets::is_likely(&key.text)) { &Kind::Secret } else { of };
                (key.text.clone(), filled(node, kind))
            };
            Shown::Mapping(entries.iter().map(entry).collect())
        }
        (NodeKind::Sequence(items), kind) => {
            let of = match kind {
                Kind::List(of, ..) => of,
                Kind::Secret => kind,
                _ => &Kind::Any,
            };
            Shown::List(items.iter().map(|item| filled(item, of)).collect())
        }
        (NodeKind::Scalar(scalar), kind) => {
            let class = match kind {
                Kind::Template => Class::Written,
                Kind::Any => Class::Foreign,
                Kind::Secret => Class::Secret,
                Kind::Url => Class::Url,
                // A query may hold what should not be shown.
                _ if scalar.text.contains('?') => Class::Written,
                Kind::Words(words) if words.contains(&"off") && is_word(&scalar.text, "off") => {
                    return Shown::plain("off");
                }
                _ => Class::Plain,
            };
            text_of(scalar, class)
        }
        (NodeKind::Broken, _) => Shown::plain(""),
    }
}

fn text_of(scalar: &Scalar, class: Class) -> Shown {
    let Scalar { text, written, quoted } = scalar.clone();
    Shown::Text(Text { text, written, quoted, class })
}

/// The kind, or that of several which a value of this form can be.
fn fitting(kind: &'static Kind, node: &NodeKind) -> &'static Kind {
    let Kind::Either(kinds) = kind else { return kind };
    let fits = |kind: &&Kind| match node {
        NodeKind::Mapping(_) => matches!(kind, Kind::Block(_) | Kind::Map(_)),
        NodeKind::Sequence(_) => matches!(kind, Kind::List(..)),
        NodeKind::Scalar(_) | NodeKind::Broken => !matches!(kind, Kind::Block(_) | Kind::Map(_) | Kind::List(..)),
    };
    kinds.iter().find(fits).unwrap_or(kind)
}

/// The given entries in their order, then the defaults of what is not given.
fn block_filled(entries: &[(Key, Node)], block: &'static Block) -> Shown {
    let given = |key: &str| entries.iter().find(|(given, _)| given.text == key).map(|(_, node)| &node.kind);
    let mut shown = Vec::new();
    for (key, node) in entries {
        let value = match block.rows.iter().find(|row| row.key == key.text) {
            Some(row) => filled(node, &row.kind),
            None => plugin(node, ""),
        };
        shown.push((key.text.clone(), value));
        if let (("rate_limit", "rate"), None, NodeKind::Scalar(rate)) =
            ((block.name, &*key.text), given("burst"), &node.kind)
        {
            let burst = rate.text.parse::<Rate>().ok().map(|rate| rate.count().to_string());
            shown.extend(burst.map(|burst| ("burst".to_owned(), Shown::plain(&burst))));
        }
    }
    for row in block.rows.iter().filter(|row| given(row.key).is_none()) {
        let is_on = |kind: &NodeKind| !matches!(kind, NodeKind::Scalar(text) if matches!(&*text.text, "0" | "none"));
        let default = match row.default {
            Default::Is(text) => text,
            Default::With(other, text) if given(other).is_some_and(is_on) => text,
            Default::Without(other, text) if given(other).is_none() => text,
            _ => continue,
        };
        shown.push((row.key.to_owned(), default_of(default, &row.kind)));
    }
    Shown::Mapping(shown)
}

fn default_of(text: &str, kind: &'static Kind) -> Shown {
    if text == "{}" {
        let block = fitting(kind, &NodeKind::Mapping(Vec::new()));
        return if let Kind::Block(block) = block { block_filled(&[], block) } else { Shown::Mapping(Vec::new()) };
    }
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(items) => Shown::List(items.iter().map(|item| Shown::plain(item)).collect()),
        Err(_) => Shown::plain(text),
    }
}

/// What a plugin reads. What looks like a secret by its key is none of others' business.
fn plugin(node: &Node, key: &str) -> Shown {
    match &node.kind {
        NodeKind::Mapping(entries) => {
            Shown::Mapping(entries.iter().map(|(key, node)| (key.text.clone(), plugin(node, &key.text))).collect())
        }
        NodeKind::Sequence(items) => Shown::List(items.iter().map(|item| plugin(item, key)).collect()),
        NodeKind::Scalar(scalar) => {
            text_of(scalar, if secrets::is_likely(key) { Class::Secret } else { Class::Foreign })
        }
        NodeKind::Broken => Shown::plain(""),
    }
}

/// Names that the config derives, where they can be written: a route's is one only if it is its alone.
fn name_all(root: &mut Shown, config: &Config) {
    let listeners = config.listeners.iter().map(|listener| listener.name.value.as_str());
    root.name_items("listeners", &listeners.collect::<Vec<_>>());
    let routes: Vec<&str> = config.routes.iter().map(|route| route.name.value.as_str()).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    routes.iter().for_each(|name| *seen.entry(name).or_default() += 1);
    let names = routes.iter().map(|name| match (seen.get(name), check_name(name)) {
        (Some(1), Ok(())) => name,
        _ => "",
    });
    root.name_items("routes", &names.collect::<Vec<_>>());
}

impl Shown {
    fn plain(text: &str) -> Self {
        Self::Text(Text { text: text.to_owned(), written: None, quoted: false, class: Class::Plain })
    }

    /// Gives the items of a list names, unless they have one.
    fn name_items(&mut self, list: &str, names: &[&str]) {
        let Self::Mapping(entries) = self else { return };
        let list = entries.iter_mut().find(|(key, _)| key == list);
        let Some((_, Self::List(items))) = list else { return };
        for (item, name) in items.iter_mut().zip(names) {
            match item {
                Self::Mapping(entries) if !name.is_empty() && !entries.iter().any(|(key, _)| key == "name") => {
                    entries.insert(0, ("name".to_owned(), Self::plain(name)));
                }
                _ => {}
            }
        }
    }

    /// As YAML. `mask`: without secrets.
    fn write(&self, mask: bool) -> String {
        self.lines(mask).iter().fold(String::new(), |text, line| text + line + "\n")
    }

    fn lines(&self, mask: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |first: &str, rest: &str, value: &Self| match value.inline(mask) {
            Some(text) => lines.push(format!("{first} {text}")),
            None if rest.is_empty() => {
                lines.push(first.to_owned());
                lines.extend(value.lines(mask).iter().map(|line| format!("  {line}")));
            }
            None => {
                let inner = value.lines(mask);
                let begin = |at: usize| if at == 0 { first } else { rest };
                lines.extend(inner.iter().enumerate().map(|(at, line)| format!("{} {line}", begin(at))));
            }
        };
        match self {
            Self::Mapping(entries) => {
                entries.iter().for_each(|(key, value)| add(&format!("{}:", text_scalar(key)), "", value));
            }
            Self::List(items) => items.iter().for_each(|item| add("-", " ", item)),
            Self::Text(text) => lines.push(text.write(mask)),
        }
        lines
    }

    /// What fits behind a key: `None` for what needs lines of its own.
    fn inline(&self, mask: bool) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.write(mask)),
            Self::Mapping(entries) if entries.is_empty() => Some("{}".to_owned()),
            Self::List(items) => {
                let one = |item: &Self| match item {
                    // A variable without quotes would begin a mapping there.
                    Self::Text(text) => Some(text.write(mask)).filter(|text| !text.starts_with('$')),
                    _ => None,
                };
                let items: Vec<String> = items.iter().map(one).collect::<Option<_>>()?;
                Some(format!("[{}]", items.join(", "))).filter(|text| text.len() <= LINE_BYTES_MAX)
            }
            Self::Mapping(_) => None,
        }
    }
}

impl Text {
    fn write(&self, mask: bool) -> String {
        let whole = || self.written.clone().unwrap_or_else(|| self.text.replace('$', "$$"));
        match self.class {
            // Who takes it for a boolean writes `false`, which is the same.
            Class::Plain if self.text == "off" => self.text.clone(),
            Class::Plain => text_scalar(&self.text.replace('$', "$$")),
            Class::Secret if mask => text_scalar(&secrets::masked(&whole())),
            Class::Url if mask && whole().starts_with('$') => text_scalar(&secrets::masked(&whole())),
            Class::Written | Class::Url if mask => text_scalar(&secrets::without_passwords(&whole())),
            Class::Written | Class::Secret | Class::Url => text_scalar(&whole()),
            Class::Foreign if self.quoted => scalar(&whole(), false),
            // In quotes a number would be a text.
            Class::Foreign if self.written.is_some() && secrets::is_one_variable(&whole()) => whole(),
            Class::Foreign if matches!(&*self.text, "" | "~" | "null") => "null".to_owned(),
            Class::Foreign => scalar(&whole(), true),
        }
    }
}

/// A scalar of YAML, in quotes where it needs them, or if it may not do without.
fn scalar(text: &str, may_be_plain: bool) -> String {
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'));
    let begins =
        begins(text) || text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | ':' | '-' | '+' | '@' | '%');
    if may_be_plain && begins && text.chars().all(inner) && !text.ends_with(':') && text != "null" {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // What YAML does not take as it is, or takes for the end of a line.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A scalar that is a text to every reader, or the same number to each.
fn text_scalar(text: &str) -> String {
    scalar(text, !is_misread(text))
}

/// Whether a reader of YAML 1.1, which many programs have, makes something else of it without quotes: a boolean, or a number
/// of base 8 or 60.
fn is_misread(text: &str) -> bool {
    if ["yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return true;
    }
    let whole = text.split('.').next().unwrap_or_default();
    let has = |c: char| whole.contains(c);
    let is_number = whole.starts_with(|c: char| c.is_ascii_digit())
        && whole.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '_' | '-'));
    is_number && (has(':') || has('_') || has('-') || (whole.starts_with('0') && whole.len() > 1))
}

#[cfg(test)]
mod tests;
