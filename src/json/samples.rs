//! Random JSON for the tests: the same on every run.

/// xorshift64.
pub(super) struct Random(pub(super) u64);

/// What keys mean, and another way to write each of them.
const KEYS: [(&str, &str); 9] = [
    ("a", r"\u0061"),
    ("b", r"\u0062"),
    ("id", r"\u0069d"),
    ("user", r"u\u0073er"),
    ("items", r"item\u0073"),
    ("secret", r"\u0073ecre\u0074"),
    ("é", r"\u00E9"),
    ("😀/", r"\uD83d\ude00\/"),
    ("a key of more than one word", r"a key of more than\u0020one word"),
];

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % n
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A key of [`Self::document`] as a path names it.
    pub(super) fn key(&mut self) -> &'static str {
        self.of(&KEYS[..6]).0
    }

    /// A JSON text; keys are unique in their object, unless wanted otherwise.
    pub(super) fn document(&mut self, unique: bool) -> String {
        let mut out = String::new();
        self.value(5, unique, &mut out);
        out
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(self.of(&["", "", "", "", "", " ", "\n  ", "\t\r\n"]));
    }

    fn value(&mut self, depth: usize, unique: bool, out: &mut String) {
        self.space(out);
        match self.below(if depth == 0 { 4 } else { 10 }) {
            0 => out.push_str(self.of(&["null", "true", "false"])),
            1 => {
                out.push_str(self.of(&["0", "-0", "7", "-12", "9007199254740993", "1.50", "0.1e1", "12E+3", "-4e-07"]))
            }
            2 | 3 => self.string(unique, out),
            4..=6 => {
                out.push('[');
                for i in 0..self.below(5) {
                    out.push_str(if i > 0 { "," } else { "" });
                    self.value(depth - 1, unique, out);
                }
                self.space(out);
                out.push(']');
            }
            _ => self.object(depth, unique, out),
        }
        self.space(out);
    }

    fn object(&mut self, depth: usize, unique: bool, out: &mut String) {
        out.push('{');
        let mut left = KEYS.to_vec();
        for i in 0..self.below(6) {
            out.push_str(if i > 0 { "," } else { "" });
            let at = self.below(left.len());
            let (plain, escaped) = if unique || self.below(3) > 0 { left.swap_remove(at) } else { left[at] };
            self.space(out);
            out.push('"');
            out.push_str(if self.below(4) == 0 { escaped } else { plain });
            out.push('"');
            self.space(out);
            out.push(':');
            self.value(depth - 1, unique, out);
        }
        self.space(out);
        out.push('}');
    }

    fn string(&mut self, unique: bool, out: &mut String) {
        const PIECES: [&str; 18] = [
            "a",
            "[",
            "}",
            ",",
            ":",
            " ",
            "/",
            "\u{7F}",
            "é",
            "漢字",
            "😀",
            r"\n",
            r#"\""#,
            r"\\",
            r"\/",
            r"\u0000",
            r"\ud83d\ude00",
            "plain text of some length",
        ];
        out.push('"');
        for _ in 0..self.below(6) {
            out.push_str(self.of(&PIECES));
        }
        if !unique && self.below(20) == 0 {
            out.push_str(self.of(&[r"\ud800", r"\udc00\ud800", r"\ud800\u0041"]));
        }
        out.push('"');
    }

    /// Up to three bytes changed, put in or left out, or an end cut off.
    pub(super) fn mutate(&mut self, text: &mut Vec<u8>) {
        const BYTES: &[u8] = b"\"\\[]{},:01-+.eEut nfalse\t\n\0\x1f\x7f\x80\xa0\xbf\xc0\xc3\xe2\xed\xf0\xf4\xff/";
        for _ in 0..self.below(4) {
            let at = self.below(text.len() + 1);
            let byte = self.of(BYTES);
            match (self.below(10), text.get_mut(at)) {
                (0, _) => text.truncate(at),
                (1..4, Some(old)) => *old = byte,
                (4..7, Some(_)) => drop(text.remove(at)),
                _ => text.insert(at, byte),
            }
        }
    }
}
