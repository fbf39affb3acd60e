//! YAML text → a tree that knows line and column of every key and value, with variables replaced.
//!
//! Scalars stay text: what is a number or a time is decided by the key that reads it, so `no`, `1e3` or `0x10` never
//! turn into something else. Anchors, aliases, merge keys, tags and directives are refused: they hide what is configured
//! and are the usual way to make a small file large.

use std::collections::HashSet;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::hints;
use super::report::{Position, Report, quote};
use super::variables::{self, Environment};

/// Nothing that an operator writes comes near; reading a file of this size takes a few seconds.
pub(super) const FILE_BYTES_MAX: usize = 16 << 20;
/// The document of CONFIG.md needs 7. Reading recurses, so this also bounds the stack.
const DEPTH_MAX: usize = 32;
/// Keys appear in messages; the longest keys are names and header names.
const KEY_CHARS_MAX: usize = 256;

/// A value of the document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) kind: Kind,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
    /// An error about it is recorded; to whoever reads the tree it is neither there nor missing.
    Broken,
}

/// A key of a mapping, unique in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) text: String,
}

/// A single value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    /// The text after quotes, escapes and variables are resolved.
    pub(super) text: String,
    /// The text before variables were replaced, if there were any. Messages quote this one, since a variable may hold a secret.
    pub(super) written: Option<String>,
    /// Whether it was quoted or a block (`|`, `>`): then it is a text even if it is empty.
    pub(super) quoted: bool,
}

impl Scalar {
    /// Whether there is no value at all: nothing, `~` or `null`, not in quotes.
    pub(super) fn is_null(&self) -> bool {
        !self.quoted && matches!(self.text.as_str(), "" | "~" | "null")
    }
}

/// Reads the one document of `text`. Errors go to `report`; `None` means that there is no tree to go on with.
pub(super) fn read(text: &str, env: Environment<'_>, report: &Report) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        let whole_file = Position::default();
        report.error(&whole_file, "the file is too large", format!("at most {} MiB", FILE_BYTES_MAX >> 20));
        return None;
    }
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_comments: false,
        // Lets an alias be told about like every other refused feature.
        emit_unresolved_aliases: true,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    Reader { parser, env, report, variable_bytes_left: FILE_BYTES_MAX }.document()
}

/// The events of the parser, turned into nodes. Its methods give `None` once there is no way to go on.
struct Reader<'t, 'e> {
    parser: Parser<'t, StrInput<'t>>,
    env: Environment<'e>,
    report: &'e Report,
    /// How much text variables may still add: each of many references can be replaced by a long value.
    variable_bytes_left: usize,
}

impl<'t> Reader<'t, '_> {
    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        while let Some((event, span)) = self.next() {
            match event {
                Event::StreamEnd => return Some(root.unwrap_or_else(nothing)),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    self.error(span.start, "a second document begins", "one file holds one document");
                    return None;
                }
                Event::DocumentStart(..) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {
                    self.error(span.start, "unexpected content after the document", "");
                    return None;
                }
            }
        }
        None
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            self.error(span.start, "nested too deeply", format!("at most {DEPTH_MAX} levels"));
            return None;
        }
        let (line, column) = place(span.start);
        self.refuse_anchor_and_tag(&event, span.start);
        let kind = match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span.start),
            Event::SequenceStart(..) => self.sequence(depth)?,
            Event::MappingStart(..) => self.mapping(depth)?,
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.error(
                    span.start,
                    "aliases (`*name`) are not supported",
                    "write the value out; text that begins with `*` needs quotes",
                );
                Kind::Broken
            }
            _ => {
                self.error(span.start, "unexpected end of the value", "");
                return None;
            }
        };
        Some(Node { line, column, kind })
    }

    fn sequence(&mut self, depth: usize) -> Option<Kind> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(Kind::Sequence(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Option<Kind> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Some(Kind::Mapping(entries));
            }
            let key = self.key(event, span, depth)?;
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            let Some(key) = key else { continue };
            if matches!(&value.kind, Kind::Scalar(scalar) if scalar.is_null()) {
                // What is not there has no place; the key that lacks it does.
                (value.line, value.column) = (key.line, key.column);
            }
            if seen.insert(key.text.clone()) {
                entries.push((key, value));
            } else {
                let at = Position { line: key.line, column: key.column, key_path: String::new() };
                self.report.error(&at, format!("the key {} is already given above", quote(&key.text)), "remove one");
            }
        }
    }

    /// A key; `Some(None)` if it is one that can not be used (recorded) and its value is to be left out.
    fn key(&mut self, event: Event<'t>, span: Span, depth: usize) -> Option<Option<Key>> {
        self.refuse_anchor_and_tag(&event, span.start);
        let Event::Scalar(text, style, ..) = event else {
            self.error(span.start, "a key must be plain text", "");
            self.node(event, span, depth + 1)?;
            return Some(None);
        };
        if text == "<<" && style == ScalarStyle::Plain {
            self.error(span.start, "merge keys (`<<`) are not supported", "write the keys out");
            return Some(None);
        }
        if text.chars().nth(KEY_CHARS_MAX).is_some() {
            self.error(span.start, "the key is too long", format!("at most {KEY_CHARS_MAX} characters"));
            return Some(None);
        }
        let (line, column) = place(span.start);
        Some(Some(Key { line, column, text: text.into_owned() }))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, start: Marker) -> Kind {
        let quoted = style != ScalarStyle::Plain;
        match variables::replace(text, self.env, self.variable_bytes_left) {
            Ok(None) => Kind::Scalar(Scalar { text: text.to_owned(), written: None, quoted }),
            Ok(Some(replaced)) => {
                self.variable_bytes_left = self.variable_bytes_left.saturating_sub(replaced.len());
                Kind::Scalar(Scalar { text: replaced, written: Some(text.to_owned()), quoted })
            }
            Err(fault) => {
                // What stands before a variable may be a part of a secret.
                let shown = text.find("${").map_or(text, |at| text.get(at..).unwrap_or_default());
                self.error(start, format!("{} {}", quote(shown), fault.what), fault.remedy);
                Kind::Broken
            }
        }
    }

    fn refuse_anchor_and_tag(&mut self, event: &Event<'t>, start: Marker) {
        let (anchor, tagged) = match event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag) => (*anchor, tag.is_some()),
            _ => return,
        };
        if anchor != 0 {
            self.error(start, "anchors (`&name`) are not supported", "remove it, and write the value out where needed");
        }
        if tagged {
            self.error(
                start,
                "tags (`!name`) are not supported",
                "remove it, for one file holds the whole config; put the value in quotes if it begins with `!`",
            );
        }
    }

    /// The next event. `None` after a fault of the syntax, which is recorded: nothing after it can be trusted.
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        match self.parser.next()? {
            Ok(next) => Some(next),
            Err(fault) => {
                let what = format!("this is not YAML: {}", fault.info());
                self.error(*fault.marker(), what, hints::syntax(&fault.info()));
                None
            }
        }
    }

    fn error(&self, start: Marker, what: impl Into<String>, remedy: impl Into<String>) {
        let (line, column) = place(start);
        self.report.error(&Position { line, column, key_path: String::new() }, what, remedy);
    }
}

/// An empty document.
fn nothing() -> Node {
    Node { line: 1, column: 1, kind: Kind::Scalar(Scalar { text: String::new(), written: None, quoted: false }) }
}

/// Line and column, both from 1; the parser counts columns from 0.
fn place(marker: Marker) -> (u32, u32) {
    let column = marker.col().saturating_add(1);
    (u32::try_from(marker.line()).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn tree(text: &str) -> Node {
        let report = Report::new("f");
        let node = read(text, &|_| Some("a: b\n- c".to_owned()), &report);
        report.finish(node).unwrap()
    }

    fn errors(text: &str) -> String {
        let report = Report::new("f");
        let node = read(text, &|_| None, &report);
        report.finish(node).unwrap_err().to_string()
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let Kind::Mapping(entries) = tree("# hi\na: 'x'\nb:\n  - 1\n  - { c: [ äö, z ] }\nd:\n").kind else {
            panic!()
        };
        let places: Vec<_> = entries.iter().map(|(k, v)| (k.line, k.column, v.line, v.column)).collect();
        assert_eq!(places, [(2, 1, 2, 4), (3, 1, 4, 3), (6, 1, 6, 1)]);
        let Kind::Sequence(items) = &entries[1].1.kind else { panic!() };
        let Kind::Mapping(inner) = &items[1].kind else { panic!() };
        let Kind::Sequence(letters) = &inner[0].1.kind else { panic!() };
        assert_eq!((letters[1].line, letters[1].column), (5, 16));
    }

    #[test]
    fn a_variable_is_one_scalar_whatever_it_holds() {
        let Kind::Mapping(entries) = tree("x: ${V}\n$y: 1").kind else { panic!() };
        let Kind::Scalar(scalar) = &entries[0].1.kind else { panic!() };
        assert_eq!((scalar.text.as_str(), scalar.written.as_deref()), ("a: b\n- c", Some("${V}")));
        assert_eq!(entries[1].0.text, "$y", "keys are never replaced");
    }

    #[test]
    fn what_hides_or_multiplies_is_refused_by_line() {
        let all = errors("a: &x 1\nb: *x\nc:\n  <<: { d: 1 }\ne: !!str 1\na: 2\n? [k]\n: 3\nf: ${NO}\n");
        let starts: Vec<_> = all.lines().map(|line| line.split_at(line.find(": ").unwrap()).0).collect();
        assert_eq!(starts, ["f:1:7", "f:2:4", "f:4:3", "f:5:10", "f:6:1", "f:7:3", "f:9:4"], "{all}");
        assert!(errors("a: 1\n---\nb: 2\n").contains("f:2:1: a second document"));
        assert!(errors("%YAML 1.2\n---\na: 1\n").contains("f:1:1"));
        assert!(errors("a: [1, 2\nb: 3\n").contains("this is not YAML"));
    }

    #[test]
    fn depth_keys_and_size_are_bounded() {
        for (open, close) in [("[", "]"), ("- ", "x"), ("{a: ", "}")] {
            let nested = |levels| errors(&format!("{}{}", open.repeat(levels), close.repeat(levels)));
            assert!(nested(60).contains("nested too deeply"), "{open}");
            assert_eq!(nested(100_000).lines().count(), 1, "{open}");
        }
        assert!(errors(&format!("? {}\n: 1", "k".repeat(300))).contains("key is too long"));
        assert!(errors(&"#".repeat(FILE_BYTES_MAX + 1)).contains("too large"));
        let report = Report::new("f");
        let long = "v".repeat(1 << 20);
        assert!(read(&"- ${V}\n".repeat(50), &|_| Some(long.clone()), &report).is_some());
        assert!(report.finish(Some(())).unwrap_err().to_string().contains("too long"));
    }
}
