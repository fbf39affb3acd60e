//! A value of the config as JSON text: `fallback.data`, and the body of a request that is written as YAML.

use crate::config::decode::Value;
use crate::config::tree::{Kind, Node, Scalar};
use crate::json;

/// Every worker holds it.
const BYTES_MAX: usize = 64 << 10;

/// The value as JSON. Text in quotes is a string; without them `true`, `false` and numbers are what they look like, the
/// latter as they are written, and nothing, `~` and `null` are null.
pub(super) fn json(value: &Value<'_>) -> Option<String> {
    let mut out = Vec::new();
    push(value.node(), &mut out)?;
    if out.len() > BYTES_MAX {
        value.error(format!("is {} bytes of JSON", out.len()), format!("at most {} KiB", BYTES_MAX >> 10));
        return None;
    }
    String::from_utf8(out).ok()
}

/// `None` below a value that is recorded as broken. The depth is that of the tree, which bounds it.
fn push(node: &Node, out: &mut Vec<u8>) -> Option<()> {
    match &node.kind {
        Kind::Broken => return None,
        Kind::Scalar(scalar) => push_scalar(scalar, out),
        Kind::Sequence(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push(item, out)?;
            }
            out.push(b']');
        }
        Kind::Mapping(entries) => {
            out.push(b'{');
            for (index, (key, node)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json::push_string(key.text.as_bytes(), out);
                out.push(b':');
                push(node, out)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn push_scalar(scalar: &Scalar, out: &mut Vec<u8>) {
    let text = scalar.text.as_str();
    if scalar.is_null() {
        out.extend_from_slice(b"null");
    } else if !scalar.quoted && (matches!(text, "true" | "false") || is_number(text)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        json::push_string(text.as_bytes(), out);
    }
}

fn is_number(text: &str) -> bool {
    let mut check = json::Validator::default();
    // Nothing else of JSON ends with a digit but begins with one or a minus; white space may stand around a number there.
    text.bytes().all(|byte| !byte.is_ascii_whitespace())
        && json::shape(text.as_bytes()) == Some(json::Shape::Number)
        && check.feed(text.as_bytes()).and_then(|()| check.finish()).is_ok()
}
