//! The chunked transfer coding (RFC 9112 7.1), for requests and responses.
//!
//! The decoder works in the buffer that was read into: payload moves to its front over the framing that was there.
//! It keeps its place between calls, so bytes may come in any pieces, and takes none of the message that follows.
//! Anything but the exact grammar is refused: where two readers disagree on the end of a chunk, one of them can be
//! made to see a second request.

use std::{fmt, mem};

use super::trailers::{self, TrailerError};

/// Hex digits of a chunk size: 64 bits, so that the size can not overflow.
const SIZE_DIGITS_MAX: u8 = 16;

/// Ends a chunk's payload.
pub const CRLF: &[u8] = b"\r\n";
/// Ends a message without trailers. With trailers: `0\r\n`, the lines, [`CRLF`].
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The most headroom that [`prefix`] uses.
pub const PREFIX_BYTES_MAX: usize = 18;

/// Bounds of what a message may carry besides payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of chunk extensions in the whole message.
    pub extension_bytes: u32,
    /// Bytes of the trailer section, dropped fields and line ends included.
    pub trailer_bytes: u32,
    /// Fields of the trailer section, dropped ones included.
    pub trailer_count: u16,
}

impl Default for Limits {
    /// 16 KiB of extensions, which nobody uses; 8 KiB and 64 fields of
    /// trailers.
    fn default() -> Self {
        Self { extension_bytes: 16 * 1024, trailer_bytes: 8 * 1024, trailer_count: 64 }
    }
}

/// Why a chunked body is refused. From a downstream: 400 and close; from an upstream: 502, or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// A chunk size that is not 1 to 16 hex digits followed by CRLF or an extension.
    Size,
    /// CR without LF, LF without CR, or no CRLF after the payload.
    LineEnd,
    /// A control character or an open quote in an extension.
    Extension,
    /// More extension bytes than [`Limits::extension_bytes`].
    ExtensionsLarge,
    /// More trailers than [`Limits::trailer_bytes`] or [`Limits::trailer_count`].
    TrailersLarge,
    /// A trailer line that is not a field.
    Trailer(TrailerError),
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "a chunk size is not 1 to 16 hex digits",
            Self::LineEnd => "a line or a chunk does not end in CRLF",
            Self::Extension => "a chunk extension is malformed",
            Self::ExtensionsLarge => "the chunk extensions are larger than the limit",
            Self::TrailersLarge => "the trailers are larger than the limit",
            Self::Trailer(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for ChunkError {}

/// What one call of [`Decoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the buffer that were read: all, unless the message ended before.
    pub consumed: usize,
    /// Bytes of payload, now at the front of the buffer; never more than `consumed`.
    pub data: usize,
    /// The message is complete, its trailer section included.
    pub done: bool,
}

/// Where in the grammar the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    Quoted,
    QuotedPair,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    EndLf,
    Done,
    /// A framing fault is for good: nothing after it can be trusted.
    Failed(ChunkError),
}

/// Decodes one chunked message.
#[derive(Debug)]
pub struct Decoder {
    /// The size while it is read, then the payload bytes still to come in this chunk.
    left: u64,
    /// Clean lines, then the raw line that is being read.
    trailers: Vec<u8>,
    /// Where the raw line begins.
    line_start: u32,
    extension_bytes_left: u32,
    trailer_bytes_left: u32,
    trailer_count_left: u16,
    size_digits: u8,
    state: State,
}

impl Decoder {
    /// A decoder at the start of a body. It allocates only when trailers come.
    pub fn new(limits: Limits) -> Self {
        Self {
            left: 0,
            trailers: Vec::new(),
            line_start: 0,
            extension_bytes_left: limits.extension_bytes,
            trailer_bytes_left: limits.trailer_bytes,
            trailer_count_left: limits.trailer_count,
            size_digits: 0,
            state: State::Size,
        }
    }

    /// Decodes `buf` in place: payload goes to its front, and `buf[consumed..]` (the next message, when done) stays
    /// where it is. What lies between `data` and `consumed` is rubbish. Call it with each piece once.
    ///
    /// # Errors
    /// A [`ChunkError`]; every later call gives the same one. The payload in this piece is lost, as the message is.
    #[inline]
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Step, ChunkError> {
        let result = self.run(buf);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// The message is complete, its trailer section included.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers to forward, as `name: value\r\n` lines; `None` before the end, without any, or when taken before.
    pub fn take_trailers(&mut self) -> Option<Vec<u8>> {
        (self.is_done() && !self.trailers.is_empty()).then(|| mem::take(&mut self.trailers))
    }

    fn run(&mut self, buf: &mut [u8]) -> Result<Step, ChunkError> {
        // data <= consumed <= buf.len() holds throughout.
        let (mut consumed, mut data) = (0, 0);
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        while let Some(&byte) = buf.get(consumed) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len() - consumed);
                    if data != consumed {
                        buf.copy_within(consumed..consumed + here, data);
                    }
                    data += here;
                    consumed += here;
                    self.left -= here as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                State::TrailerStart if !matches!(byte, b'\r' | b'\n') => self.start_trailer()?,
                State::TrailerLine => consumed += self.trailer_line(buf.get(consumed..).unwrap_or_default())?,
                _ => {
                    self.state = self.next(byte)?;
                    consumed += 1;
                }
            }
        }
        Ok(Step { consumed, data, done: self.is_done() })
    }

    /// The framing between payload and trailers, a byte at a time.
    #[inline]
    fn next(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            // RFC 9112 7.1: chunk = chunk-size [ chunk-ext ] CRLF. The BWS before `;` that 7.1.1 tolerates is refused.
            (State::Size, b'\r') if self.size_digits > 0 => Ok(State::SizeLf),
            (State::Size, b';') if self.size_digits > 0 => self.extension(State::Extension),
            (State::Size, b'\n') if self.size_digits > 0 => Err(ChunkError::LineEnd),
            (State::Size, _) => self.size_digit(byte),
            // 7.1.1: skipped, but a quoted string is followed to its end, so that a line end inside is not one.
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension | State::Quoted | State::QuotedPair, b'\n') => Err(ChunkError::LineEnd),
            (State::Extension | State::Quoted | State::QuotedPair, b) if (b < b' ' && b != b'\t') || b == 0x7F => {
                Err(ChunkError::Extension)
            }
            (State::Extension, b'"') | (State::QuotedPair, _) => self.extension(State::Quoted),
            (State::Quoted, b'"') => self.extension(State::Extension),
            (State::Quoted, b'\\') => self.extension(State::QuotedPair),
            (state @ (State::Extension | State::Quoted), _) => self.extension(state),
            (State::SizeLf, b'\n') => {
                self.size_digits = 0;
                Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err(ChunkError::LineEnd),
        }
    }

    #[inline]
    fn size_digit(&mut self, byte: u8) -> Result<State, ChunkError> {
        let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
        if self.size_digits == SIZE_DIGITS_MAX {
            return Err(ChunkError::Size);
        }
        self.size_digits += 1;
        self.left = (self.left << 4) | u64::from(digit);
        Ok(State::Size)
    }

    fn extension(&mut self, next: State) -> Result<State, ChunkError> {
        self.extension_bytes_left = self.extension_bytes_left.checked_sub(1).ok_or(ChunkError::ExtensionsLarge)?;
        Ok(next)
    }

    #[cold]
    fn start_trailer(&mut self) -> Result<(), ChunkError> {
        self.trailer_count_left = self.trailer_count_left.checked_sub(1).ok_or(ChunkError::TrailersLarge)?;
        self.line_start = u32::try_from(self.trailers.len()).map_err(|_| ChunkError::TrailersLarge)?;
        self.state = State::TrailerLine;
        Ok(())
    }

    /// Collects up to the end of the line, and finishes the line there; gives the bytes it took.
    #[cold]
    fn trailer_line(&mut self, rest: &[u8]) -> Result<usize, ChunkError> {
        let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
        let taken = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        self.trailer_bytes_left = u32::try_from(taken.len())
            .ok()
            .and_then(|bytes| self.trailer_bytes_left.checked_sub(bytes))
            .ok_or(ChunkError::TrailersLarge)?;
        self.trailers.extend_from_slice(taken);
        if end.is_some() {
            if !self.trailers.ends_with(CRLF) {
                return Err(ChunkError::LineEnd);
            }
            self.trailers.truncate(self.trailers.len() - CRLF.len());
            let start = usize::try_from(self.line_start).map_err(|_| ChunkError::TrailersLarge)?;
            trailers::finish_line(&mut self.trailers, start).map_err(ChunkError::Trailer)?;
            self.state = State::TrailerStart;
        }
        Ok(taken.len())
    }
}

/// Writes a chunk's size line at the end of `headroom`, so that it stands directly before the payload; gives the bytes
/// used. After the payload comes [`CRLF`]. A `len` of 0 is the last chunk: the trailer section must follow.
///
/// The caller provides [`PREFIX_BYTES_MAX`] bytes; where they do not suffice, nothing is written and 0 is returned.
#[inline]
pub fn prefix(len: usize, headroom: &mut [u8]) -> usize {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let digits = (len | 1).ilog2() as usize / 4 + 1;
    let used = digits + CRLF.len();
    let Some((size, end)) =
        headroom.len().checked_sub(used).and_then(|at| headroom.get_mut(at..)?.split_at_mut_checked(digits))
    else {
        debug_assert!(false, "a chunk's size line needs {used} bytes of headroom");
        return 0;
    };
    let mut rest = len;
    for slot in size.iter_mut().rev() {
        *slot = HEX[rest & 15];
        rest >>= 4;
    }
    end.copy_from_slice(CRLF);
    used
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// xorshift64: the same sequence on every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % n
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        payload: Vec<u8>,
        consumed: usize,
        done: bool,
        trailers: Option<Vec<u8>>,
    }

    /// Decodes `wire` in pieces whose sizes `piece` chooses (never 0).
    fn decode(wire: &[u8], limits: Limits, mut piece: impl FnMut() -> usize) -> Result<Outcome, ChunkError> {
        let mut decoder = Decoder::new(limits);
        let (mut payload, mut consumed) = (Vec::new(), 0);
        while consumed < wire.len() && !decoder.is_done() {
            let end = wire.len().min(consumed + piece());
            let mut buf = wire[consumed..end].to_vec();
            let step = decoder.decode(&mut buf).inspect_err(|error| {
                assert_eq!(decoder_again(&mut decoder), Err(*error), "a fault is for good");
            })?;
            assert!(step.data <= step.consumed && step.consumed <= buf.len());
            assert!(step.done || step.consumed == buf.len());
            assert_eq!(step.done, decoder.is_done());
            assert_eq!(buf[step.consumed..], wire[consumed + step.consumed..end], "what follows was moved");
            payload.extend_from_slice(&buf[..step.data]);
            consumed += step.consumed;
        }
        let done = decoder.is_done();
        let trailers = decoder.take_trailers();
        assert_eq!(decoder.take_trailers(), None);
        Ok(Outcome { payload, consumed, done, trailers })
    }

    fn decoder_again(decoder: &mut Decoder) -> Result<Step, ChunkError> {
        decoder.decode(&mut b"0\r\n\r\n".to_vec())
    }

    fn whole(wire: &[u8]) -> Result<Outcome, ChunkError> {
        let result = decode(wire, Limits::default(), || usize::MAX / 2);
        assert_eq!(result, decode(wire, Limits::default(), || 1), "{}", wire.escape_ascii());
        result
    }

    #[test]
    fn decoder_is_small() {
        assert!(size_of::<Decoder>() <= 48, "{}", size_of::<Decoder>());
    }

    #[test]
    fn messages_end_where_they_end() {
        for (wire, payload, trailers) in [
            (&b"0\r\n\r\n"[..], &b""[..], None),
            (b"0000000000000000\r\n\r\n", b"", None),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", None),
            (b"0000000000000005\r\nhello\r\n00;x\r\n\r\n", b"hello", None),
            (b"A\r\n0123456789\r\na;b=c\r\n0\r\n\r\n56789\r\n0\r\n\r\n", b"01234567890\r\n\r\n56789", None),
            (b"1;a=\"x;\\\"y\\\\\";\tb \xff\r\nz\r\n0\r\n\r\n", b"z", None),
            (b"0\r\nA:b\r\nHost: evil\r\n_c:\r\n\r\n", b"", Some(&b"A: b\r\n_c: \r\n"[..])),
            (b"0\r\nContent-Length: 3\r\n\r\n", b"", None),
        ] {
            let follows = b"GET / HTTP/1.1\r\n";
            let outcome = whole(&[wire, follows].concat()).unwrap();
            let trailers = trailers.map(<[u8]>::to_vec);
            assert_eq!(outcome, Outcome { payload: payload.to_vec(), consumed: wire.len(), done: true, trailers });
        }
    }

    #[test]
    fn refused_messages() {
        use ChunkError::*;
        let name = Trailer(TrailerError::Name);
        for (wire, error) in [
            (&b"\r\n"[..], Size),
            (b"\n", Size),
            (b";a\r\n", Size),
            (b"g\r\n", Size),
            (b"-1\r\n", Size),
            (b"+1\r\n", Size),
            (b"0x1\r\n", Size),
            (b" 1\r\n", Size),
            (b"1 \r\n", Size),
            (b"1\t;a\r\n", Size),
            (b"1_0\r\n", Size),
            (b"1\0\r\n", Size),
            (b"00000000000000001\r\n", Size),
            (b"10000000000000000\r\n", Size),
            (b"\xef\xbc\x91\r\n", Size),
            (b"1\nx", LineEnd),
            (b"1\rx", LineEnd),
            (b"1\r\r\n", LineEnd),
            (b"1\r\nxy", LineEnd),
            (b"1\r\nx\n", LineEnd),
            (b"1\r\nx\rx", LineEnd),
            (b"1\r\nx0\r\n", LineEnd),
            (b"1\r\nx\r\n\r\n", Size),
            (b"1;a\nx", LineEnd),
            (b"1;a\rx", LineEnd),
            (b"1;a\0\r\n", Extension),
            (b"1;a=\"\r\n\"\r\n", Extension),
            (b"1;a=\"\n", LineEnd),
            (b"1;a=\"\\\r\n", Extension),
            (b"1;a\x7f\r\n", Extension),
            (b"0\n\r\n", LineEnd),
            (b"0\r\n\n", LineEnd),
            (b"0\r\n\rx", LineEnd),
            (b"0\r\na: b\n\r\n", LineEnd),
            (b"0\r\na: b\r\r\n\r\n", Trailer(TrailerError::Value)),
            (b"0\r\na: b\rc: d\r\n\r\n", Trailer(TrailerError::Value)),
            (b"0\r\na: b\0\r\n\r\n", Trailer(TrailerError::Value)),
            (b"0\r\na\r\n\r\n", name),
            (b"0\r\n: a\r\n\r\n", name),
            (b"0\r\na : b\r\n\r\n", name),
            (b"0\r\na: b\r\n c\r\n\r\n", name),
            (b"0\r\n a: b\r\n\r\n", name),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", name),
        ] {
            assert_eq!(whole(wire), Err(error), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn the_largest_size_is_read_and_does_not_overflow() {
        let outcome = whole(b"ffffffffffffffff\r\nabc").unwrap();
        assert_eq!((outcome.payload.as_slice(), outcome.done), (&b"abc"[..], false));
    }

    #[test]
    fn limits_hold_exactly_and_over_the_whole_message() {
        let limits = Limits { extension_bytes: 6, trailer_bytes: 12, trailer_count: 2 };
        for (wire, fits) in [
            (&b"1;ab\r\nx\r\n0;cd\r\n\r\n"[..], Ok(())),
            (b"1;ab\r\nx\r\n0;cde\r\n\r\n", Err(ChunkError::ExtensionsLarge)),
            (b"1;\"ab\"cd\r\n", Err(ChunkError::ExtensionsLarge)),
            (b"0\r\na: b\r\nc: d\r\n\r\n", Ok(())),
            (b"0\r\na: b\r\nc: de\r\n\r\n", Err(ChunkError::TrailersLarge)),
            (b"0\r\na:\r\nb:\r\nc:\r\n\r\n", Err(ChunkError::TrailersLarge)),
            (b"0\r\nte:\r\nte:\r\nc:\r\n\r\n", Err(ChunkError::TrailersLarge)),
            (b"0\r\nabcdefghijklm", Err(ChunkError::TrailersLarge)),
        ] {
            for piece in [1, 3, 1000] {
                let got = decode(wire, limits, || piece).map(|outcome| assert!(outcome.done));
                assert_eq!(got, fits, "{}", wire.escape_ascii());
            }
        }
    }

    /// A message of random payload, chunk sizes, spellings, extensions and trailers.
    fn random_message(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        let (mut wire, mut payload) = (Vec::new(), Vec::new());
        for _ in 0..random.below(6) {
            let size_max = [1, 3, 20, 5000][random.below(4)];
            let chunk: Vec<u8> = (0..=random.below(size_max)).map(|_| b"\r\n0a;:\0\xff"[random.below(8)]).collect();
            let extension = ["", "", ";a", ";a=\"\\\"\"", "; b = c"][random.below(5)];
            let zeros = "0".repeat(random.below(3));
            let upper = random.below(2) == 0;
            let size = if upper { format!("{:X}", chunk.len()) } else { format!("{:x}", chunk.len()) };
            wire.extend_from_slice(format!("{zeros}{size}{extension}\r\n").as_bytes());
            wire.extend_from_slice(&chunk);
            wire.extend_from_slice(CRLF);
            payload.extend_from_slice(&chunk);
        }
        wire.extend_from_slice(["0\r\n", "000\r\n", "0;x\r\n"][random.below(3)].as_bytes());
        wire.extend_from_slice(["", "", "a: b\r\n", "a:b\r\nhost: c\r\n"][random.below(4)].as_bytes());
        wire.extend_from_slice(CRLF);
        (wire, payload)
    }

    #[test]
    fn any_chunking_in_any_pieces_gives_the_same_payload() {
        let mut random = Random(0x1234_5678_9ABC_DEF1);
        for round in 0..3000 {
            let (message, payload) = random_message(&mut random);
            let wire = [&message[..], b"0\r\n\r\nGET"].concat();
            let piece_max = [1, 2, 7, 100, 10_000][round % 5];
            let outcome = decode(&wire, Limits::default(), || 1 + random.below(piece_max)).unwrap();
            assert!(outcome.done);
            assert_eq!(outcome.consumed, message.len());
            assert_eq!(outcome.payload, payload);
        }
    }

    #[test]
    fn a_truncated_message_is_not_done_and_no_error() {
        let mut random = Random(0xDEAD_BEEF_0000_0001);
        for _ in 0..40 {
            let (message, payload) = random_message(&mut random);
            for end in (0..message.len()).rev().take(200).chain(0..message.len().min(200)) {
                let outcome = decode(&message[..end], Limits::default(), || 1 + random.below(64)).unwrap();
                assert_eq!((outcome.done, outcome.consumed, &outcome.trailers), (false, end, &None));
                assert!(payload.starts_with(&outcome.payload));
            }
        }
    }

    #[test]
    fn mutated_messages_never_panic_and_read_alike_in_any_pieces() {
        let mut random = Random(0x0BAD_F00D_0BAD_F00D);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (mut wire, _) = random_message(&mut random);
            for _ in 0..=random.below(3) {
                let at = random.below(wire.len());
                match random.below(3) {
                    0 => wire[at] = b"\r\n0fF;\": \t\0x\xff"[random.below(12)],
                    1 => wire.insert(at, b"\r\n0fF;\": \t\0x\xff"[random.below(12)]),
                    _ => drop(wire.remove(at)),
                }
            }
            let at_once = decode(&wire, Limits::default(), || wire.len());
            let in_pieces = decode(&wire, Limits::default(), || 1 + random.below(9));
            assert_eq!(at_once, in_pieces, "{}", wire.escape_ascii());
            *if at_once.is_ok() { &mut accepted } else { &mut refused } += 1;
        }
        assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
    }

    #[test]
    fn prefix_stands_directly_before_the_payload() {
        for len in [0, 1, 9, 10, 15, 16, 255, 256, 4096, 65_535, 65_536, usize::MAX >> 1, usize::MAX] {
            let mut headroom = [b'.'; 20];
            let used = prefix(len, &mut headroom);
            assert_eq!(headroom[20 - used..], *format!("{len:x}\r\n").as_bytes());
            assert!(used <= PREFIX_BYTES_MAX && headroom[..20 - used].iter().all(|b| *b == b'.'));
        }
        let mut wire = [&[0; PREFIX_BYTES_MAX][..], b"hello", CRLF, LAST_CHUNK].concat();
        let used = prefix(5, &mut wire[..PREFIX_BYTES_MAX]);
        let outcome = whole(&wire[PREFIX_BYTES_MAX - used..]).unwrap();
        assert_eq!((outcome.payload.as_slice(), outcome.done), (&b"hello"[..], true));
    }
}
