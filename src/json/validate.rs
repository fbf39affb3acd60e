//! The gate: whether bytes are one JSON text (RFC 8259), told while they arrive.
//!
//! What passes can be put into an answer as it is: it can not end early, add members to what stands around it, or mean
//! one thing to one parser and another to the next. So beyond the grammar, strings are valid UTF-8 (8.1), no byte order
//! mark comes first, containers nest at most [`DEPTH_MAX`] levels deep, and no object has a key twice: RFC 8259 4 leaves
//! open which of the two counts, RFC 7493 2.3 forbids it.
//!
//! Keys are told apart by 64-bit hashes with a random seed, new for each text: two different keys are taken for the same
//! with a probability of about 2⁻⁶⁴, so an object with n keys is refused by mistake with n²/2⁶⁵: 3·10⁻¹⁰ for 100,000. A
//! key that comes twice is always seen, and to ask for the text again is to ask with another seed.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::str::from_utf8;

use foldhash::{fast, quality};

use super::scan::unescape;
use super::swar::plain;

/// Containers within each other. Deeper ones are attacks: it bounds the recursion of all that reads the text later.
pub const DEPTH_MAX: usize = 64;
/// Up to so many keys of one object, comparing hashes one by one is cheaper than a set.
const SCANNED_KEYS_MAX: usize = 16;
/// Memory for keys that is kept for the next text: an ordinary answer's needs.
const KEPT_KEY_BYTES: usize = 4096;
const KEPT_KEYS: usize = 4096;

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A byte that the grammar does not allow here.
    Syntax,
    /// A string that is not UTF-8.
    Utf8,
    /// More than [`DEPTH_MAX`] containers within each other.
    Depth,
    /// A key that its object has already.
    Duplicate,
    /// The text ended within the value, or before it.
    Incomplete,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "it is not JSON",
            Self::Utf8 => "a string is not UTF-8",
            Self::Depth => "it is nested too deeply",
            Self::Duplicate => "an object has a key twice",
            Self::Incomplete => "it ends too early",
        })
    }
}

impl std::error::Error for Fault {}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// After `[`.
    FirstElement,
    /// After `{`.
    FirstKey,
    Key,
    Colon,
    /// After a value: a comma or the end of its container, or nothing but whitespace.
    After,
    /// These three only where a piece ends within the token.
    Text,
    Number(Number),
    Literal,
    /// For good: nothing after a fault can be trusted.
    Failed(Fault),
}

/// Within a string, after its opening quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Plain,
    /// After `\`.
    Escape,
    /// After `\u`, with so many digits to come.
    Hex(u8),
    /// Within a UTF-8 sequence that the end of a piece has cut.
    Cut,
}

/// What of a number was there (RFC 8259 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Int,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Int | Self::Fraction | Self::Exponent)
    }
}

/// An open object.
#[derive(Clone, Copy, Debug)]
struct Object {
    /// Where its hashes begin among [`Keys::scanned`].
    start: usize,
    /// Other than 0: its hashes are in [`Keys::set`], made different by this number.
    serial: u64,
}

/// The keys of the open objects.
#[derive(Debug, Default)]
struct Keys {
    seed: quality::RandomState,
    objects: Vec<Object>,
    /// Of each open object the first keys, those of the outermost first: at most 16 for each level.
    scanned: Vec<u64>,
    /// The keys of objects with more. They stay until the text ends: with the room that a set leaves, at most 20 bytes
    /// for each key, which took five of the text or more.
    set: HashSet<u64, fast::RandomState>,
    serials: u64,
}

impl Keys {
    fn reset(&mut self) {
        self.seed = quality::RandomState::default();
        self.objects.clear();
        self.scanned.clear();
        self.set.clear();
        self.set.shrink_to(KEPT_KEYS);
        self.serials = 0;
    }

    #[inline]
    fn open(&mut self) {
        self.objects.push(Object { start: self.scanned.len(), serial: 0 });
    }

    #[inline]
    fn close(&mut self) {
        if let Some(object) = self.objects.pop() {
            self.scanned.truncate(object.start);
        }
    }

    /// Takes note of a decoded key of the innermost object.
    #[inline]
    fn add(&mut self, key: &[u8]) -> Result<(), Fault> {
        let mut hasher = self.seed.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        let Some(object) = self.objects.last() else { return Err(Fault::Syntax) };
        let own = self.scanned.get(object.start..).unwrap_or_default();
        if own.contains(&hash) {
            return Err(Fault::Duplicate);
        }
        if object.serial != 0 || own.len() == SCANNED_KEYS_MAX {
            return self.add_to_set(hash);
        }
        self.scanned.push(hash);
        Ok(())
    }

    #[cold]
    fn add_to_set(&mut self, hash: u64) -> Result<(), Fault> {
        let Some(object) = self.objects.last_mut() else { return Err(Fault::Syntax) };
        if object.serial == 0 {
            self.serials += 1;
            object.serial = self.serials;
            let mark = mark(object.serial);
            self.set.extend(self.scanned.drain(object.start..).map(|hash| hash ^ mark));
        }
        if self.set.insert(hash ^ mark(object.serial)) { Ok(()) } else { Err(Fault::Duplicate) }
    }
}

/// Makes the same key another entry for each object: multiplication by an odd number gives no number twice.
fn mark(serial: u64) -> u64 {
    serial.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Validates one text, piece by piece.
#[derive(Debug)]
pub struct Validator {
    state: State,
    text: Text,
    /// Whether the string that is being read is a key.
    in_key: bool,
    depth: usize,
    /// One bit for each open container, the innermost lowest: an object?
    kinds: u64,
    /// What is left of the literal that the end of a piece has cut.
    literal: &'static [u8],
    /// A UTF-8 sequence that the end of a piece has cut.
    cut: ([u8; 4], usize),
    /// A key, raw, that has escapes or came in several pieces.
    key: Vec<u8>,
    decoded: Vec<u8>,
    keys: Keys,
}

const _: () = assert!(DEPTH_MAX == u64::BITS as usize, "`kinds` has a bit for each level");

impl Default for Validator {
    fn default() -> Self {
        Self {
            state: State::Value,
            text: Text::Plain,
            in_key: false,
            depth: 0,
            kinds: 0,
            literal: &[],
            cut: ([0; 4], 0),
            key: Vec::new(),
            decoded: Vec::new(),
            keys: Keys::default(),
        }
    }
}

impl Validator {
    /// Ready for a new text. Memory stays, but for what an extraordinary text has needed.
    pub fn reset(&mut self) {
        self.state = State::Value;
        (self.depth, self.kinds) = (0, 0);
        for buffer in [&mut self.key, &mut self.decoded] {
            buffer.clear();
            buffer.shrink_to(KEPT_KEY_BYTES);
        }
        self.keys.reset();
    }

    /// Takes the next piece of the text, which may be cut anywhere. Memory grows with keys only: with the length of a
    /// cut or escaped one, and with their number in an object that has many.
    ///
    /// # Errors
    /// The first [`Fault`] of the text, as soon as it is certain; every later call gives the same one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.run(bytes).inspect_err(|fault| self.state = State::Failed(*fault))
    }

    /// The text has ended.
    ///
    /// # Errors
    /// [`Fault::Incomplete`], or the fault that [`Self::feed`] has given.
    pub fn finish(&mut self) -> Result<(), Fault> {
        match self.state {
            State::Failed(fault) => return Err(fault),
            State::After if self.depth == 0 => {}
            State::Number(number) if self.depth == 0 && number.is_whole() => self.state = State::After,
            _ => {
                self.state = State::Failed(Fault::Incomplete);
                return Err(Fault::Incomplete);
            }
        }
        Ok(())
    }

    fn run(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        let mut state = match self.state {
            State::Failed(fault) => return Err(fault),
            State::Text if self.in_key => self.cut_key(&mut rest)?,
            State::Text => self.string(&mut rest)?,
            State::Number(state) => number(state, &mut rest)?,
            State::Literal => self.literal(self.literal, &mut rest)?,
            state => state,
        };
        // Within a token, nothing is left of the piece.
        while let Some((byte, tail)) = next_token(rest) {
            rest = tail;
            state = match (state, byte) {
                (State::FirstElement, b']') => self.close(),
                (State::Value | State::FirstElement, _) => self.value(byte, &mut rest)?,
                (State::FirstKey | State::Key, b'"') => self.key(&mut rest)?,
                (State::FirstKey, b'}') => self.close(),
                (State::Colon, b':') => State::Value,
                (State::After, b',') if self.depth > 0 => self.next_item(),
                (State::After, b'}') if self.depth > 0 && self.in_object() => self.close(),
                (State::After, b']') if self.depth > 0 && !self.in_object() => self.close(),
                _ => return Err(Fault::Syntax),
            };
        }
        self.state = state;
        Ok(())
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }

    #[inline]
    fn next_item(&self) -> State {
        if self.in_object() { State::Key } else { State::Value }
    }

    #[inline]
    fn open(&mut self, is_object: bool) -> Result<(), Fault> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::Depth);
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | u64::from(is_object);
        if is_object {
            self.keys.open();
        }
        Ok(())
    }

    #[inline]
    fn close(&mut self) -> State {
        if self.in_object() {
            self.keys.close();
        }
        self.depth -= 1;
        self.kinds >>= 1;
        State::After
    }

    /// A value, after its first byte.
    #[inline]
    fn value(&mut self, first: u8, rest: &mut &[u8]) -> Result<State, Fault> {
        match first {
            b'"' => {
                let run = plain(rest);
                if let Some((content, [b'"', tail @ ..])) = rest.split_at_checked(run.len)
                    && (run.ascii || from_utf8(content).is_ok())
                {
                    *rest = tail;
                    return Ok(State::After);
                }
                (self.in_key, self.text) = (false, Text::Plain);
                self.string(rest)
            }
            b'{' => self.open(true).map(|()| State::FirstKey),
            b'[' => self.open(false).map(|()| State::FirstElement),
            b'-' => number(Number::Minus, rest),
            b'0' => number(Number::Zero, rest),
            b'1'..=b'9' => number(Number::Int, rest),
            b't' => self.literal(b"rue", rest),
            b'f' => self.literal(b"alse", rest),
            b'n' => self.literal(b"ull", rest),
            _ => Err(Fault::Syntax),
        }
    }

    fn literal(&mut self, expected: &'static [u8], rest: &mut &[u8]) -> Result<State, Fault> {
        if let Some(tail) = rest.strip_prefix(expected) {
            *rest = tail;
            return Ok(State::After);
        }
        self.literal = expected.strip_prefix(*rest).ok_or(Fault::Syntax)?;
        *rest = &[];
        Ok(State::Literal)
    }

    /// A key, after its quote: most come whole and without escapes, and are hashed where they are.
    #[inline]
    fn key(&mut self, rest: &mut &[u8]) -> Result<State, Fault> {
        let run = plain(rest);
        if let Some((key, [b'"', tail @ ..])) = rest.split_at_checked(run.len)
            && (run.ascii || from_utf8(key).is_ok())
        {
            self.keys.add(key)?;
            // Nearly always the colon comes at once.
            let (state, tail) = tail.strip_prefix(b":").map_or((State::Colon, tail), |tail| (State::Value, tail));
            *rest = tail;
            return Ok(state);
        }
        (self.in_key, self.text) = (true, Text::Plain);
        self.key.clear();
        self.cut_key(rest)
    }

    /// A key that has escapes or is cut.
    fn cut_key(&mut self, rest: &mut &[u8]) -> Result<State, Fault> {
        let piece = *rest;
        let state = self.string(rest)?;
        let len = piece.len() - rest.len();
        if state == State::Text {
            self.key.extend_from_slice(piece);
            return Ok(state);
        }
        // Without the closing quote.
        self.key.extend_from_slice(piece.get(..len.saturating_sub(1)).unwrap_or_default());
        if memchr::memchr(b'\\', &self.key).is_none() {
            self.keys.add(&self.key)?;
        } else {
            self.decoded.clear();
            unescape(&self.key, &mut self.decoded);
            self.keys.add(&self.decoded)?;
        }
        Ok(State::Colon)
    }

    /// A string up to its closing quote, from anywhere in it.
    fn string(&mut self, rest: &mut &[u8]) -> Result<State, Fault> {
        loop {
            if self.text == Text::Plain {
                let run = plain(rest);
                let (content, after) = rest.split_at_checked(run.len).ok_or(Fault::Syntax)?;
                *rest = after;
                if !run.ascii {
                    self.check_utf8(content)?;
                }
            }
            let Some((&byte, tail)) = rest.split_first() else { return Ok(State::Text) };
            *rest = tail;
            self.text = match (self.text, byte) {
                (Text::Plain, b'"') => return Ok(State::After),
                (Text::Plain, b'\\') => Text::Escape,
                (Text::Escape, b'u') => Text::Hex(4),
                (Text::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Text::Plain,
                (Text::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => match left {
                    0 | 1 => Text::Plain,
                    more => Text::Hex(more - 1),
                },
                (Text::Cut, _) => self.continue_utf8(byte)?,
                _ => return Err(Fault::Syntax),
            };
        }
    }

    /// A run of a string. If its last sequence is not whole, the next byte must go on with it: it may come with the next
    /// piece, and what ends a run never does.
    fn check_utf8(&mut self, run: &[u8]) -> Result<(), Fault> {
        let Err(error) = from_utf8(run) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(Fault::Utf8);
        }
        let cut = run.get(error.valid_up_to()..).unwrap_or_default();
        let (bytes, len) = &mut self.cut;
        bytes.get_mut(..cut.len()).ok_or(Fault::Utf8)?.copy_from_slice(cut);
        *len = cut.len();
        self.text = Text::Cut;
        Ok(())
    }

    #[cold]
    fn continue_utf8(&mut self, byte: u8) -> Result<Text, Fault> {
        let (bytes, len) = &mut self.cut;
        *bytes.get_mut(*len).ok_or(Fault::Utf8)? = byte;
        *len += 1;
        match from_utf8(bytes.get(..*len).unwrap_or_default()) {
            Ok(_) => Ok(Text::Plain),
            Err(error) if error.error_len().is_none() => Ok(Text::Cut),
            Err(_) => Err(Fault::Utf8),
        }
    }
}

/// The first byte that is not whitespace (RFC 8259 2), and what follows it.
#[inline(always)]
fn next_token(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let (&byte, tail) = rest.split_first()?;
        if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            return Some((byte, tail));
        }
        rest = tail;
    }
}

/// A number, from anywhere in it.
#[inline]
fn number(from: Number, rest: &mut &[u8]) -> Result<State, Fault> {
    let mut number = from;
    loop {
        if matches!(number, Number::Int | Number::Fraction | Number::Exponent) {
            while let [b'0'..=b'9', tail @ ..] = *rest {
                *rest = tail;
            }
        }
        let Some((&byte, tail)) = rest.split_first() else { return Ok(State::Number(number)) };
        number = match (number, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus, b'1'..=b'9') => Number::Int,
            (Number::Zero | Number::Int, b'.') => Number::Point,
            (Number::Point, b'0'..=b'9') => Number::Fraction,
            (Number::Zero | Number::Int | Number::Fraction, b'e' | b'E') => Number::E,
            (Number::E, b'+' | b'-') => Number::Sign,
            (Number::E | Number::Sign, b'0'..=b'9') => Number::Exponent,
            _ if number.is_whole() => return Ok(State::After),
            _ => return Err(Fault::Syntax),
        };
        *rest = tail;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use rustix::time::{ClockId, clock_gettime};
    use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

    use super::super::samples::Random;
    use super::*;

    /// The verdict on a text that comes in pieces whose sizes `piece` chooses (never 0).
    fn verdict(validator: &mut Validator, text: &[u8], mut piece: impl FnMut() -> usize) -> Result<(), Fault> {
        validator.reset();
        let mut rest = text;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(piece().min(rest.len()));
            rest = tail;
            validator.feed(head).inspect_err(|fault| {
                assert_eq!(validator.feed(b" "), Err(*fault), "a fault is for good");
                assert_eq!(validator.finish(), Err(*fault), "a fault is for good");
            })?;
        }
        validator.finish().inspect_err(|fault| {
            assert_eq!(*fault, Fault::Incomplete);
            assert_eq!(validator.feed(b" "), Err(*fault), "a fault is for good");
        })
    }

    fn whole(text: &[u8]) -> Result<(), Fault> {
        let mut validator = Validator::default();
        let at_once = verdict(&mut validator, text, || usize::MAX);
        for size in [1, 2, 3, 7] {
            assert_eq!(verdict(&mut validator, text, || size), at_once, "{} by {size}", text.escape_ascii());
        }
        at_once
    }

    /// What this thread has used: other tests run at the same time.
    fn cpu_ms() -> i64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    #[test]
    fn accepted_texts() {
        for text in [
            // Structure.
            "[]",
            "{}",
            " [ ] ",
            "\t\r\n {\n}\n",
            "[[],{}]",
            "[[[[]]]]",
            "[1,null,\"a\",true]",
            r#"{"":0}"#,
            r#"{"a":{"a":{"a":[{"a":1},{"a":2}]}}}"#,
            r#"{"a":1,"b":2,"A":3,"a ":4}"#,
            "[ 1 , 2 ]",
            "{ \"a\" : 1 , \"b\" : [ ] }",
            // Literals and scalars at the top.
            "true",
            "false",
            "null",
            " null ",
            "\"\"",
            "\"a\"",
            "0",
            "-0",
            "12 ",
            // Numbers.
            "[0,-0,1,-1,10,1234567890]",
            "[0.0,-0.5,1.0,1.25,123.456789]",
            "[0e0,0E0,1e1,1E1,1e+1,1e-1,1.5e10,0e+00,1E22,1e01]",
            "[123123e100000,-1e-999999]",
            "[100000000000000000000000000000000000000000000000000000000000000000000000000000000]",
            // Strings.
            r#"["\"\\\/\b\f\n\r\t"]"#,
            r#"["\u0000\u001f\u00e9\uABCD\uabcd"]"#,
            r#"["\ud83d\ude00","\uD834\uDd1e"]"#,
            r#"["\ud800","\udc00","\udc00\ud800","\ud800\ud800","\ud800a","\ud800\n"]"#,
            "[\"\u{7F}\u{80}\u{7FF}\u{800}\u{FFFF}\u{10000}\u{10FFFF}\"]",
            "[\"\u{FEFF}\u{2028}\u{2029}\u{200B}\"]",
            "[\"/* comment */ // # [ { ] }\"]",
            "\"01234567\"",
            "\"0123456789abcdef0123456789abcdef\"",
            r#""0123456\"789abcdef01234567\\89abcdef""#,
        ] {
            assert_eq!(whole(text.as_bytes()), Ok(()), "{text}");
            let padded = format!("\r\n {text}\t ");
            assert_eq!(whole(padded.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn refused_texts() {
        for text in [
            // Structure.
            &b"]"[..],
            b"}",
            b",",
            b":",
            b"[,]",
            b"[,1]",
            b"[1,]",
            b"[1,,2]",
            b"[1 2]",
            b"[1:2]",
            b"[\"a\":1]",
            b"[1}",
            b"[}",
            b"{]",
            b"{\"a\":1]",
            b"{,}",
            b"{\"a\"}",
            b"{\"a\",",
            b"{\"a\":}",
            b"{\"a\"::1}",
            b"{\"a\":1,}",
            b"{\"a\":1,,\"b\":2}",
            b"{\"a\" 1}",
            b"{\"a\":1 \"b\":2}",
            b"{\"a\":1 2}",
            b"{a:1}",
            b"{'a':1}",
            b"{1:1}",
            b"{null:1}",
            b"{[]:1}",
            b"{{}}",
            b"[]]",
            b"{}}",
            b"[][]",
            b"{}{}",
            b"{},",
            b"[],1",
            b"1 1",
            b"\"a\"\"b\"",
            b"\"a\":1",
            b"nullnull",
            // Literals.
            b"tru3",
            b"trUe",
            b"True",
            b"nul ",
            b"[fals]",
            b"[nulll]",
            b"[truefalse]",
            b"undefined",
            b"NaN",
            b"[nan]",
            b"Infinity",
            b"[-Infinity]",
            b"[inf]",
            // Numbers.
            b"+1",
            b"[+1]",
            b"[-]",
            b"[--1]",
            b"[-a]",
            b"[- 1]",
            b"[01]",
            b"[-01]",
            b"[00]",
            b"[0 1]",
            b"[1.]",
            b"[.5]",
            b"[-.5]",
            b"[1.e1]",
            b"[0.e1]",
            b"[1e]",
            b"[1e+]",
            b"[1e+-1]",
            b"[1e1.5]",
            b"[1e1e1]",
            b"[1.2.3]",
            b"[1.-2]",
            b"[0x1F]",
            b"[1_000]",
            b"[1a]",
            b"[1+2]",
            b"[\xEF\xBC\x91]",
            // Strings.
            b"['a']",
            b"\"\\a\"",
            b"\"\\\n\"",
            b"\"\\'\"",
            b"\"\\x00\"",
            b"\"\\0\"",
            b"\"\\U0041\"",
            b"\"\\u12\"",
            b"\"\\u123g\"",
            b"\"\\u 123\"",
            b"\"\\u\\u00\"",
            b"\"\\\xC3\xA9\"",
            b"\"\\u00\xC3\xA9\"",
            b"\"\0\"",
            b"\"\n\"",
            b"\"\t\"",
            b"\"01234567\x1F\"",
            b"\\u0022",
            // What is no whitespace.
            b"[\x0C]",
            b"[\x0B1]",
            b"\x00[]",
            b"[]\x00",
            b"\xC2\xA0[]",
            b"[\xE2\x80\xA8]",
            b"\xE2\x81\xA0[]",
            b"\xEF\xBB\xBF{}",
            b"\xFF\xFE[\0]\0",
            // What other formats have.
            b"[1]// comment",
            b"/* */[]",
            b"[1]#",
            b"<null>",
            b"[/]",
            b"\"a\";",
        ] {
            assert_eq!(whole(text), Err(Fault::Syntax), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn texts_that_end_too_early() {
        for text in [
            "",
            " ",
            "\n\t",
            "[",
            "[1",
            "[1,",
            "[[]",
            "{",
            "{\"",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "t",
            "nul",
            "fals",
            "-",
            "1.",
            "0e",
            "1e+",
            "\"",
            "\"a",
            "\"\\",
            "\"\\u",
            "\"\\u00",
            "\"\\\"",
            "[\"é",
        ] {
            assert_eq!(whole(text.as_bytes()), Err(Fault::Incomplete), "{text}");
        }
        assert_eq!(whole(b"\"\xE2\x82"), Err(Fault::Incomplete));
    }

    #[test]
    fn strings_are_utf8() {
        for bytes in [
            &b"\x80"[..],
            b"\xBF",
            b"\xFF",
            b"\xFE",
            b"\xC0\x80",
            b"\xC1\xBF",
            b"\xC0\xAF",
            b"\xC3",
            b"\xC3\x28",
            b"\xC3\\n",
            b"\xE0\x80\x80",
            b"\xE0\x9F\xBF",
            b"\xE2\x82",
            b"\xE2\x28\xA1",
            b"\xED\xA0\x80",
            b"\xED\xBF\xBF",
            b"\xF0\x80\x80\x80",
            b"\xF0\x8F\xBF\xBF",
            b"\xF0\x9F\x98",
            b"\xF4\x90\x80\x80",
            b"\xF5\x80\x80\x80",
            b"\xF8\x88\x80\x80\x80",
            b"\xC3\xA9\xA9",
        ] {
            for (before, after) in
                [("[\"", "\"]"), ("{\"", "\":1}"), ("\"0123456789é\\n", "0123456789\""), ("{\"\\n", "\"")]
            {
                let text = [before.as_bytes(), bytes, after.as_bytes()].concat();
                assert_eq!(whole(&text), Err(Fault::Utf8), "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn a_key_comes_once_in_an_object() {
        let many = |last: &str| {
            let keys: String = (0..40).map(|i| format!("\"key{i}\":{{\"key\":0,\"a\":1}},")).collect();
            format!("{{{keys}{last}:0}}")
        };
        for (text, fits) in [
            (r#"{"a":1,"a":2}"#, false),
            (r#"{"a":1,"b":2,"a":1}"#, false),
            (r#"{"":1,"":1}"#, false),
            (r#"{"a":1,"\u0061":2}"#, false),
            (r#"{"\u0061":1,"\u0061":2}"#, false),
            (r#"{"a\/b":1,"a/b":2}"#, false),
            (r#"{"é":1,"\u00e9":2}"#, false),
            (r#"{"😀":1,"\uD83D\uDE00":2}"#, false),
            // What reads them as text has the same for both.
            (r#"{"\ud800":1,"\udfff":2}"#, false),
            (r#"{"\ud800":1,"\ufffd":2}"#, false),
            (r#"[{"x":{"a":1,"b":{"a":1},"a":2}}]"#, false),
            (r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#, true),
            (r#"{"a":{"b":1},"b":{"a":1}}"#, true),
            (r#"{"a":1,"\\u0061":2,"\\\\u0061":3}"#, true),
            (r#"{"a":1,"A":2,"á":3,"a\u0301":4}"#, true),
            (&many(r#""key40""#), true),
            (&many(r#""key""#), true),
            (&many(r#""a""#), true),
            (&many(r#""key0""#), false),
            (&many(r#""key15""#), false),
            (&many(r#""key16""#), false),
            (&many(r#""key3\u0039""#), false),
            (&format!("[{0},{0},{{\"x\":{0},\"y\":{0}}}]", many("\"z\"")), true),
        ] {
            assert_eq!(whole(text.as_bytes()), if fits { Ok(()) } else { Err(Fault::Duplicate) }, "{text}");
        }
    }

    #[test]
    fn containers_nest_to_the_limit() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let levels = DEPTH_MAX / open.matches(['[', '{']).count();
            let fits = open.repeat(levels) + "1" + &close.repeat(levels);
            assert_eq!(whole(fits.as_bytes()), Ok(()));
            let mut validator = Validator::default();
            assert_eq!(validator.feed(open.repeat(levels).as_bytes()), Ok(()));
            assert_eq!(validator.feed(b"["), Err(Fault::Depth));
            assert_eq!(whole((open.repeat(levels) + "{").as_bytes()), Err(Fault::Depth));
        }
        let siblings = format!("[{}[]]", "[[[]]],{\"a\":[]},".repeat(1000));
        assert_eq!(whole(siblings.as_bytes()), Ok(()));
        let text = "[".repeat(4 << 20);
        let started = cpu_ms();
        assert_eq!(Validator::default().feed(text.as_bytes()), Err(Fault::Depth));
        assert!(cpu_ms() - started < 50, "it was read on");
    }

    #[test]
    fn many_keys_and_pieces_take_linear_time_and_memory() {
        let keys: Vec<String> = (0..100_000).map(|i| format!("\"{i}\":0")).collect();
        let text = format!("{{{}}}", keys.join(","));
        let mut validator = Validator::default();
        let started = cpu_ms();
        assert_eq!(verdict(&mut validator, text.as_bytes(), || usize::MAX), Ok(()));
        let took = cpu_ms() - started;
        assert!(took < 1000, "{took} ms: each key is compared with all before it");
        assert_eq!(verdict(&mut validator, text.as_bytes(), || 5), Ok(()));
        let twice = text.replace("\"99999\"", "\"\\u0030\"");
        assert_eq!(verdict(&mut validator, twice.as_bytes(), || usize::MAX), Err(Fault::Duplicate));
        // At most 7 of 8 places are taken, and a place is 8 bytes and one more.
        assert!(validator.keys.set.capacity() * 8 / 7 * 9 < text.len() * 4);
        assert!(validator.keys.scanned.capacity() <= 2 * DEPTH_MAX * SCANNED_KEYS_MAX);

        let long = format!("{{\"{}\":1}}", "k".repeat(1 << 20));
        assert_eq!(verdict(&mut validator, long.as_bytes(), || 4096), Ok(()));
        validator.reset();
        assert!(validator.key.capacity() <= KEPT_KEY_BYTES && validator.keys.set.capacity() <= 2 * KEPT_KEYS);
    }

    /// Finds keys that come twice by means of serde_json.
    struct Unique;

    impl<'de> Deserialize<'de> for Unique {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Self)
        }
    }

    impl<'de> Visitor<'de> for Unique {
        type Value = Self;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
        fn visit_unit<E>(self) -> Result<Self, E> {
            Ok(Self)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
            Ok(Self)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
            Ok(Self)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
            Ok(Self)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
            Ok(Self)
        }
        fn visit_str<E>(self, _: &str) -> Result<Self, E> {
            Ok(Self)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
            while seq.next_element::<Self>()?.is_some() {}
            Ok(Self)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
            let mut keys = HashSet::new();
            while let Some((key, _)) = map.next_entry::<String, Self>()? {
                if !keys.insert(key) {
                    return Err(Error::custom("comes twice"));
                }
            }
            Ok(Self)
        }
    }

    #[test]
    fn verdicts_are_serde_jsons_in_any_pieces() {
        let mut random = Random(0x1234_5678_9ABC_DEF1);
        let mut validator = Validator::default();
        let (mut accepted, mut refused, mut duplicates) = (0, 0, 0);
        for _ in 0..60_000 {
            let mut text = random.document(false).into_bytes();
            random.mutate(&mut text);
            let shown = text.escape_ascii();
            let at_once = verdict(&mut validator, &text, || usize::MAX);
            assert_eq!(verdict(&mut validator, &text, || 1), at_once, "{shown}");
            assert_eq!(verdict(&mut validator, &text, || 1 + random.below(12)), at_once, "{shown}");

            // Ignoring a value, serde_json checks its grammar, but no UTF-8.
            let is_grammar = from_utf8(&text).is_ok() && serde_json::from_slice::<IgnoredAny>(&text).is_ok();
            if !is_grammar {
                assert!(at_once.is_err(), "{shown}");
                refused += 1;
                continue;
            }
            match serde_json::from_slice::<Unique>(&text) {
                Ok(_) => assert_eq!(at_once, Ok(()), "{shown}"),
                Err(error) if error.to_string().starts_with("comes twice") => {
                    assert_eq!(at_once, Err(Fault::Duplicate), "{shown}");
                    duplicates += 1;
                }
                // Lone surrogates and numbers beyond f64, which are grammatical.
                Err(error) => assert!(matches!(at_once, Ok(()) | Err(Fault::Duplicate)), "{shown}: {error}"),
            }
            if at_once.is_ok() {
                let begun = &text[..random.below(text.len())];
                let verdict = verdict(&mut validator, begun, || usize::MAX);
                assert!(matches!(verdict, Ok(()) | Err(Fault::Incomplete)), "{}", begun.escape_ascii());
                accepted += 1;
            }
        }
        assert!(accepted > 10_000 && refused > 10_000 && duplicates > 1000, "{accepted} {refused} {duplicates}");
    }
}
