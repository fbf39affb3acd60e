//! The blocks of plugins: their keys are theirs, read by serde; what is wrong with them is told like everything else.

use super::super::decode::Value;
use super::super::report::{Position, did_you_mean};
use super::super::tree::{Kind, Node};
use crate::plugin::{Object, Registry, Settings, SettingsKey, SettingsKind, Wrong};
use crate::shared::Rules;

/// A filter that a plugin makes.
#[derive(Clone)]
pub struct Plugin {
    /// The name that it is compiled in under.
    pub name: &'static str,
    /// The instance.
    pub(crate) object: Rules<dyn Object>,
}

impl PartialEq for Plugin {
    /// Whether it is the same instance.
    fn eq(&self, other: &Self) -> bool {
        Rules::ptr_eq(&self.object, &other.object)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes the instance of a block.
pub(super) fn decode(value: &Value<'_>, name: &'static str, plugins: &Registry) -> Option<Plugin> {
    let here = value.at();
    let settings = settings(value.node(), here.line, here.column)?;
    match plugins.make(name, &settings)? {
        Ok(object) => Some(Plugin { name, object }),
        Err(wrong) => {
            tell(value, wrong);
            None
        }
    }
}

fn tell(value: &Value<'_>, wrong: Wrong) {
    let Position { line, column, key_path } = value.at();
    let (line, column) = wrong.place.unwrap_or((line, column));
    let dot = if wrong.path.is_empty() || wrong.path.starts_with('[') { "" } else { "." };
    let at = Position { line, column, key_path: format!("{key_path}{dot}{}", wrong.path) };
    let meant = wrong.word.as_ref().and_then(|(word, known)| did_you_mean(word, known.iter().copied()));
    value.report().error(&at, wrong.what, meant.unwrap_or(wrong.remedy));
}

/// A value of the document, for others to read. `None`: something about it is wrong, and told already. Its place is its own, or
/// its key's if a mapping or nothing follows, as for all values.
fn settings(node: &Node, line: u32, column: u32) -> Option<Settings> {
    let kind = match &node.kind {
        Kind::Broken => return None,
        Kind::Scalar(scalar) => {
            SettingsKind::Text { text: scalar.text.clone(), written: scalar.written.clone(), is_quoted: scalar.quoted }
        }
        Kind::Sequence(items) => {
            let item = |item: &Node| settings(item, item.line, item.column);
            SettingsKind::List(items.iter().map(item).collect::<Option<_>>()?)
        }
        Kind::Mapping(entries) => {
            let entry = |(key, value): &(super::super::tree::Key, Node)| {
                let (line, column) = match &value.kind {
                    Kind::Scalar(_) => (value.line, value.column),
                    _ => (key.line, key.column),
                };
                let value = settings(value, line, column)?;
                Some((SettingsKey { line: key.line, column: key.column, text: key.text.clone() }, value))
            };
            SettingsKind::Map(entries.iter().map(entry).collect::<Option<_>>()?)
        }
    };
    Some(Settings { line, column, kind })
}
