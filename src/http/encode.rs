//! Writing heads: what passes is copied in runs of whole lines, as it came; what changes is an edit.

use super::head::{Field, Fields, Span};
use super::known::is_same_name;

/// Copies the field lines that `drop` does not name, in order, in as few pieces as possible.
pub fn copy_fields(fields: &Fields, bytes: &[u8], mut drop: impl FnMut(&Field) -> bool, out: &mut Vec<u8>) {
    let mut run: Option<usize> = None;
    for field in fields.iter() {
        let line = field.name.start();
        match (drop(field), run) {
            (true, Some(from)) => {
                out.extend_from_slice(bytes.get(from..line).unwrap_or_default());
                run = None;
            }
            (false, None) => run = Some(line),
            _ => {}
        }
    }
    if let Some(from) = run {
        // The head's last two bytes are its empty line.
        out.extend_from_slice(bytes.get(from..fields.len.saturating_sub(2)).unwrap_or_default());
    }
}

/// `name: value` CRLF
pub fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    field_of(name, |out| out.extend_from_slice(value), out);
}

/// The same with a value that `write` appends.
pub fn field_of(name: &[u8], write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    write(out);
    out.extend_from_slice(b"\r\n");
}

/// A decimal number.
pub fn number(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Changes to a head's fields, kept beside it: names removed, lines added. Reused from request to request.
#[derive(Debug, Default)]
pub struct Edits {
    arena: Vec<u8>,
    removed: Vec<Name>,
    added: Vec<Line>,
}

/// One whose lines that came are left out.
#[derive(Debug)]
struct Name {
    start: usize,
    end: usize,
    /// What they say is not believed either.
    is_disowned: bool,
}

#[derive(Debug)]
struct Line {
    start: usize,
    name_len: usize,
    end: usize,
}

impl Edits {
    /// Whether there are none: the common case, in which lines are copied in runs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.removed.clear();
        self.added.clear();
    }

    /// Removes all lines of that name, those added before included; names with `_` for `-` are the same, here as everywhere.
    pub fn remove(&mut self, name: &[u8]) {
        let Self { arena, added, .. } = self;
        added.retain(|line| !is_same_name(line_name(arena, line), name));
        self.leave_out(name, false);
    }

    /// Leaves out the lines of that name that came with the message, and what they say decides nothing; those added before stay.
    pub fn drop_came(&mut self, name: &[u8]) {
        self.leave_out(name, true);
    }

    fn leave_out(&mut self, name: &[u8], is_disowned: bool) {
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.removed.push(Name { start, end: self.arena.len(), is_disowned });
    }

    /// Adds a line whose value `write` appends.
    pub fn add(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        field_of(name, write, &mut self.arena);
        self.added.push(Line { start, name_len: name.len(), end: self.arena.len() });
    }

    /// Replaces all lines of that name by one.
    pub fn set(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.remove(name);
        self.add(name, write);
    }

    /// Whether lines of that name that came with the message are to be left out.
    pub fn removes(&self, name: Span, bytes: &[u8]) -> bool {
        !self.removed.is_empty() && self.replaces(name.of(bytes))
    }

    /// Whether lines of that name are removed or set: the gateway's own line of that name is then left out.
    pub fn replaces(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| self.is_of(removed, name))
    }

    /// Whether what lines of that name say that came with the message is not believed.
    pub fn disowns(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| removed.is_disowned && self.is_of(removed, name))
    }

    fn is_of(&self, removed: &Name, name: &[u8]) -> bool {
        self.arena.get(removed.start..removed.end).is_some_and(|removed| is_same_name(removed, name))
    }

    /// Names and values of the added lines.
    pub fn added(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.added.iter().map(|line| {
            let text = self.arena.get(line.start..line.end).unwrap_or_default();
            let (name, rest) = text.split_at_checked(line.name_len).unwrap_or_default();
            (name, rest.strip_prefix(b": ").unwrap_or(rest).strip_suffix(b"\r\n").unwrap_or_default())
        })
    }

    /// Writes the added lines of that name.
    pub fn write_added_of(&self, name: &[u8], out: &mut Vec<u8>) {
        for line in self.added.iter().filter(|line| is_same_name(line_name(&self.arena, line), name)) {
            out.extend_from_slice(self.arena.get(line.start..line.end).unwrap_or_default());
        }
    }

    /// Writes the added lines but those whose names `leave_out` tells.
    pub fn write_added_but(&self, leave_out: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
        for line in self.added.iter().filter(|line| !leave_out(line_name(&self.arena, line))) {
            out.extend_from_slice(self.arena.get(line.start..line.end).unwrap_or_default());
        }
    }

    /// Writes the added lines.
    pub fn write_added(&self, out: &mut Vec<u8>) {
        for line in &self.added {
            out.extend_from_slice(self.arena.get(line.start..line.end).unwrap_or_default());
        }
    }
}

fn line_name<'a>(arena: &'a [u8], line: &Line) -> &'a [u8] {
    arena.get(line.start..line.start + line.name_len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Bounds, RequestHead};
    use crate::http::known::Known;

    #[test]
    fn lines_pass_as_they_came_and_dropped_ones_leave_no_trace() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\nA:  1 \r\nConnection: close\r\nb: 2\r\nB: 3\r\n\r\nbody";
        let mut head = RequestHead::default();
        assert!(head.parse(text, &Bounds { head: 1000, fields: 10, target: 10 }).unwrap());
        let mut edits = Edits::default();
        edits.remove(b"a");
        assert!(edits.replaces(b"A") && !edits.replaces(b"ab"));
        let mut out = Vec::new();
        let drop = |f: &Field| matches!(f.known, Known::Host | Known::Connection) || edits.removes(f.name, text);
        copy_fields(&head.fields, text, drop, &mut out);
        assert_eq!(out, b"b: 2\r\nB: 3\r\n");
        out.clear();
        copy_fields(&head.fields, text, |_| false, &mut out);
        assert_eq!(out, &text[16..text.len() - 6]);
    }

    #[test]
    fn set_replaces_and_add_repeats() {
        let mut edits = Edits::default();
        edits.add(b"a", |out| out.push(b'1'));
        edits.add(b"A", |out| out.push(b'2'));
        edits.add(b"b", |out| out.push(b'3'));
        edits.set(b"a", |out| out.push(b'4'));
        let mut out = Vec::new();
        edits.write_added(&mut out);
        assert_eq!(out, b"b: 3\r\na: 4\r\n");
        assert!(edits.replaces(b"A") && !edits.replaces(b"b"));
        edits.clear();
        edits.add(b"x-user", |out| out.push(b'1'));
        edits.set(b"X_User", |out| out.push(b'2'));
        assert_eq!(edits.added().collect::<Vec<_>>(), [(&b"X_User"[..], &b"2"[..])], "its twin is it");
        edits.remove(b"x-user");
        assert_eq!(edits.added().count(), 0);
        assert!(edits.replaces(b"x_user") && !edits.disowns(b"x-user"));
        edits.drop_came(b"x_user");
        assert!(edits.disowns(b"x-user"));
        edits.clear();
        assert!(edits.is_empty());
    }
}
