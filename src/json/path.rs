//! Paths into a JSON value, as they stand in the config: `user.address[0].street`, `orders[*].id`.

use std::fmt;

/// Steps of one path: far more than any document needs, and few enough that an error can print the whole path.
pub const STEPS_MAX: usize = 16;
/// The largest index: an answer is bounded to megabytes, so no array in it is longer.
pub const INDEX_MAX: usize = 1_000_000;

/// One step from a value to a value within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the member of an object with this key, escapes decoded.
    Key(String),
    /// To one element of an array, counted from 0.
    Index(usize),
    /// To every element of an array, in its order.
    Each,
}

/// The way from a value to one or, with [`Step::Each`], several values within it; without steps, the value itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// Reads a path. Empty text is the whole value.
    ///
    /// # Errors
    /// What is wrong and the remedy, as a sentence fragment for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(format!("more than {STEPS_MAX} steps: shorten the path"));
            }
            let step;
            (step, rest) = match rest.strip_prefix('[') {
                Some(inner) => bracket(inner)?,
                None if steps.is_empty() => key(rest)?,
                None => key(rest.strip_prefix('.').ok_or("a key after `]` needs a dot: write `a[0].b`")?)?,
            };
            steps.push(step);
        }
        Ok(Self(steps))
    }

    /// Whether the path can lead to several values.
    pub fn has_each(&self) -> bool {
        self.0.contains(&Step::Each)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Each => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

/// The rest of an index or `*`, after its `[`.
fn bracket(inner: &str) -> Result<(Step, &str), String> {
    let (text, rest) = inner.split_once(']').ok_or("a `[` without its `]`: write `[0]` or `[*]`")?;
    if text == "*" {
        return Ok((Step::Each, rest));
    }
    // `parse` alone would take a sign, and two spellings of one path would be two paths.
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let index = text.parse().ok().filter(|index| plain && *index <= INDEX_MAX);
    let index = index.ok_or_else(|| {
        format!("`[{text}]` is no index: write a number from 0 to {INDEX_MAX} without leading zeros, or `*`")
    })?;
    Ok((Step::Index(index), rest))
}

/// A key, up to the next dot or bracket.
fn key(text: &str) -> Result<(Step, &str), String> {
    let (key, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    if key.is_empty() {
        return Err("an empty key: a path has no dot at its ends or before a bracket, and no two in a row".into());
    }
    match key.chars().find(|c| matches!(c, ']' | '{' | '}') || c.is_control() || c.is_whitespace()) {
        Some(c) => Err(format!("{c:?} can not stand in a key: write keys, `[0]` and `[*]` with dots between keys")),
        None => Ok((Step::Key(key.into()), rest)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn k(key: &str) -> Step {
        Step::Key(key.into())
    }

    #[test]
    fn paths_are_read_and_written_alike() {
        for (text, steps) in [
            ("", vec![]),
            ("a", vec![k("a")]),
            ("user.address[0].street", vec![k("user"), k("address"), Step::Index(0), k("street")]),
            ("[*].id", vec![Step::Each, k("id")]),
            ("orders[*].id", vec![k("orders"), Step::Each, k("id")]),
            ("[1000000][*][2]", vec![Step::Index(INDEX_MAX), Step::Each, Step::Index(2)]),
            ("$id.é-ü_1.*.0", vec![k("$id"), k("é-ü_1"), k("*"), k("0")]),
            ("a\"b\\c.d", vec![k("a\"b\\c"), k("d")]),
            ("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", vec![k("a"); STEPS_MAX]),
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!(path.0, steps, "{text}");
            assert_eq!(path.to_string(), text);
            assert_eq!(path.has_each(), text.contains("[*]"));
        }
    }

    #[test]
    fn wrong_paths_name_the_remedy() {
        for (text, part) in [
            (".", "an empty key"),
            (".a", "an empty key"),
            ("a.", "an empty key"),
            ("a..b", "an empty key"),
            ("a.[0]", "an empty key"),
            ("[0]a", "write `a[0].b`"),
            ("a[0]]", "write `a[0].b`"),
            ("a[0", "without its `]`"),
            ("a[", "without its `]`"),
            ("a[]", "`[]` is no index"),
            ("a[+1]", "`[+1]` is no index"),
            ("a[-1]", "`[-1]` is no index"),
            ("a[01]", "`[01]` is no index"),
            ("a[1000001]", "from 0 to 1000000"),
            ("a[99999999999999999999]", "from 0 to 1000000"),
            ("a[**]", "or `*`"),
            ("a[b]", "or `*`"),
            ("a]", "']' can not stand"),
            ("{a}", "'{' can not stand"),
            ("a b", "' ' can not stand"),
            ("a\u{a0}b", "can not stand"),
            ("a\u{7f}", "can not stand"),
            ("a\n", "'\\n' can not stand"),
            ("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "more than 16 steps"),
        ] {
            let error = Path::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
