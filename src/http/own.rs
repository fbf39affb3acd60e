//! Lines that filters put into every answer to a request: an upstream's, one that was put together, and those that the
//! gateway makes itself, refusals by later filters included. They are kept with the request and written last, by
//! whoever writes the head.
//!
//! A line either replaces all others of its name, or gives way to one that is there already: which lines are there is
//! seen in the head that was written so far, so that it is the same for every kind of answer.

use super::encode::field_of;
use super::known::is_same_name;

/// The lines. Their memory is reused from request to request.
#[derive(Debug, Default)]
pub struct OwnLines {
    text: Vec<u8>,
    lines: Vec<Line>,
    prefix: Option<&'static [u8]>,
}

#[derive(Debug)]
struct Line {
    start: usize,
    name_len: usize,
    end: usize,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// No other line of its name is written.
    Replaces,
    /// It is written where there is no other.
    GivesWay,
    /// It stands beside others: what it says is a list.
    Adds,
    /// The same, in the answer of an upstream only.
    AddsToUpstreams,
}

impl OwnLines {
    /// Forgets them.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        self.prefix = None;
    }

    /// Whether there are none: the common case.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.prefix.is_none()
    }

    /// A line that replaces all others of that name, those given here before included.
    pub fn set(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.forget(name);
        self.push(name, write, Mode::Replaces);
    }

    /// A line for answers that have none of that name. One given here before is replaced: a later filter is the more
    /// special one.
    pub fn set_unless_given(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.forget(name);
        self.push(name, write, Mode::GivesWay);
    }

    /// A line beside others of that name, unless the very same is there.
    pub fn add(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.push(name, write, Mode::Adds);
        let text = |line: &Line| self.text.get(line.start..line.end);
        if let Some((last, others)) = self.lines.split_last()
            && others.iter().any(|line| text(line) == text(last))
        {
            self.lines.pop();
        }
    }

    /// A line beside others of that name, as long as what the client gets is an upstream's answer.
    pub fn add_to_upstreams(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.push(name, write, Mode::AddsToUpstreams);
    }

    /// What the client gets is no upstream's answer after all.
    pub fn is_not_upstreams(&mut self) {
        self.lines.retain(|line| line.mode != Mode::AddsToUpstreams);
    }

    /// No line of others passes whose name begins with `prefix`, in small letters; lines given here before are forgotten.
    pub fn replace_all_of(&mut self, prefix: &'static [u8]) {
        let Self { text, lines, .. } = self;
        lines.retain(|line| !begins_with(name_of(text, line), prefix));
        self.prefix = Some(prefix);
    }

    /// Whether lines of others of that name are left out.
    pub fn replaces(&self, name: &[u8]) -> bool {
        self.prefix.is_some_and(|prefix| begins_with(name, prefix))
            || self
                .lines
                .iter()
                .any(|line| line.mode == Mode::Replaces && is_same_name(name_of(&self.text, line), name))
    }

    /// The values of its lines of that name.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.iter().filter(move |line| is_same_name(name_of(&self.text, line), name));
        lines.map(|line| {
            let value = self.text.get(line.start + line.name_len + b": ".len()..line.end).unwrap_or_default();
            value.strip_suffix(b"\r\n").unwrap_or(value)
        })
    }

    /// Whether lines of others are left out at all.
    pub fn replaces_any(&self) -> bool {
        self.prefix.is_some() || self.lines.iter().any(|line| line.mode == Mode::Replaces)
    }

    /// Appends them to a head, of which `out` has all lines so far.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        if !self.lines.is_empty() {
            self.write_lines(out);
        }
    }

    fn write_lines(&self, out: &mut Vec<u8>) {
        let there = self.there(out);
        for (index, line) in self.lines.iter().enumerate() {
            if there & bit(index) == 0 {
                out.extend_from_slice(self.text.get(line.start..line.end).unwrap_or_default());
            }
        }
    }

    /// Which of the lines that give way are in `head`, a bit each. One look at each line of the head, and a comparison only
    /// where the colon is in the right place.
    fn there(&self, head: &[u8]) -> u64 {
        let mut found = 0;
        let gives_way = |(_, line): &(usize, &Line)| line.mode == Mode::GivesWay;
        if !self.lines.iter().enumerate().any(|line| gives_way(&line)) {
            return 0;
        }
        // The first line is the status.
        for at in memchr::memchr_iter(b'\n', head) {
            let other = head.get(at + 1..).unwrap_or_default();
            for (index, line) in self.lines.iter().enumerate().filter(gives_way) {
                if other.get(line.name_len) == Some(&b':') && begins_with(other, name_of(&self.text, line)) {
                    found |= bit(index);
                }
            }
        }
        found
    }

    fn forget(&mut self, name: &[u8]) {
        let Self { text, lines, .. } = self;
        let adds = |line: &Line| matches!(line.mode, Mode::Adds | Mode::AddsToUpstreams);
        lines.retain(|line| adds(line) || !is_same_name(name_of(text, line), name));
    }

    fn push(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>), mode: Mode) {
        let start = self.text.len();
        field_of(name, write, &mut self.text);
        self.lines.push(Line { start, name_len: name.len(), end: self.text.len(), mode });
    }
}

fn name_of<'t>(text: &'t [u8], line: &Line) -> &'t [u8] {
    text.get(line.start..line.start + line.name_len).unwrap_or_default()
}

fn begins_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|front| front.eq_ignore_ascii_case(prefix))
}

/// The bit of a line. There are far fewer than 64: filters give a handful each, and names only once.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(own: &OwnLines, head: &str) -> String {
        let mut out = head.as_bytes().to_vec();
        own.write(&mut out);
        String::from_utf8(out).unwrap_or_default().split_off(head.len())
    }

    #[test]
    fn a_line_gives_way_or_replaces_or_stands_beside() {
        let mut own = OwnLines::default();
        own.set_unless_given(b"X-Frame-Options", |out| out.extend_from_slice(b"DENY"));
        own.set(b"X-A", |out| out.push(b'1'));
        own.add(b"Vary", |out| out.extend_from_slice(b"Origin"));
        assert_eq!(
            written(&own, "HTTP/1.1 200 OK\r\nVary: Accept\r\n"),
            "X-Frame-Options: DENY\r\nX-A: 1\r\nVary: Origin\r\n"
        );
        let theirs = "HTTP/1.1 200 OK\r\nA: b\r\nx-frame-options: SAMEORIGIN\r\n";
        assert_eq!(written(&own, theirs), "X-A: 1\r\nVary: Origin\r\n");
        // Neither a longer name nor a value is that name.
        assert!(written(&own, "HTTP/1.1 200 X-Frame-Options: OK\r\nX-Frame-Options-B: 1\r\n").contains("DENY"));
        assert!(own.replaces(b"x-a") && own.replaces(b"X_A") && !own.replaces(b"X-Frame-Options"));
        assert!(!own.replaces(b"vary") && own.replaces_any());
    }

    #[test]
    fn of_one_name_the_later_wins() {
        let mut own = OwnLines::default();
        own.set_unless_given(b"A", |out| out.push(b'1'));
        own.set(b"a", |out| out.push(b'2'));
        assert_eq!(written(&own, ""), "a: 2\r\n");
        own.set_unless_given(b"A", |out| out.push(b'3'));
        assert_eq!(written(&own, ""), "A: 3\r\n");
        own.add(b"A", |out| out.push(b'4'));
        own.add(b"A", |out| out.push(b'4'));
        assert_eq!(written(&own, ""), "A: 3\r\nA: 4\r\n");
        own.add_to_upstreams(b"A", |out| out.push(b'5'));
        own.set(b"A", |out| out.push(b'6'));
        assert_eq!(written(&own, ""), "A: 4\r\nA: 5\r\nA: 6\r\n");
        own.is_not_upstreams();
        assert_eq!(written(&own, ""), "A: 4\r\nA: 6\r\n");
        own.clear();
        assert!(own.is_empty() && written(&own, "").is_empty());
    }

    #[test]
    fn a_family_of_names_is_replaced_as_a_whole() {
        let mut own = OwnLines::default();
        own.set(b"Access-Control-Max-Age", |out| out.push(b'1'));
        own.replace_all_of(b"access-control-");
        own.set(b"Access-Control-Allow-Origin", |out| out.push(b'*'));
        assert!(own.replaces(b"ACCESS-Control-Expose-Headers") && !own.replaces(b"Access-Contro"));
        assert_eq!(written(&own, ""), "Access-Control-Allow-Origin: *\r\n");
    }
}
