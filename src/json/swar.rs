//! Looking for bytes eight at once, in a word: strings of API answers are mostly shorter than what a call into a vector
//! routine is worth.
//!
//! A mask has the top bit of each byte that matches. The subtractions borrow across bytes, so a byte above a match may
//! match wrongly; the lowest match is always right, and it is the only one that is used.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const BYTES: usize = size_of::<u64>();

#[inline(always)]
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(LOW * u64::from(bound)) & !word & HIGH
}

#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (LOW * u64::from(byte)), 1)
}

/// What [`plain`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) len: usize,
    /// All its bytes are below 0x80.
    pub(super) ascii: bool,
}

/// The bytes before the first `"`, `\` or control byte (RFC 8259 7): what a string holds as it is, if it is UTF-8.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> Run {
    let (mut rest, mut seen) = (bytes, 0);
    while let Some((chunk, tail)) = rest.split_first_chunk::<BYTES>() {
        let word = u64::from_le_bytes(*chunk);
        let hit = equal(word, b'"') | equal(word, b'\\') | below(word, b' ');
        if hit != 0 {
            // The bytes below the hit: all bits under the lowest bit of its byte.
            let before = ((hit & hit.wrapping_neg()) >> 7) - 1;
            seen |= word & before;
            return Run { len: bytes.len() - rest.len() + before.count_ones() as usize / 8, ascii: seen & HIGH == 0 };
        }
        seen |= word;
        rest = tail;
    }
    let tail = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..b' ')).unwrap_or(rest.len());
    let ascii = seen & HIGH == 0 && rest.iter().take(tail).all(u8::is_ascii);
    Run { len: bytes.len() - rest.len() + tail, ascii }
}

/// How many bytes come before the first quote or bracket of either kind.
#[inline]
pub(super) fn until_structure(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<BYTES>() {
        let word = u64::from_le_bytes(*chunk);
        // `[` and `{`, `]` and `}` differ in one bit, and no other bytes become the same with it.
        let folded = word | (LOW * 0x20);
        let hit = equal(word, b'"') | equal(folded, b'{') | equal(folded, b'}');
        if hit != 0 {
            return bytes.len() - rest.len() + hit.trailing_zeros() as usize / 8;
        }
        rest = tail;
    }
    let tail = rest.iter().position(|b| matches!(b, b'"' | b'[' | b']' | b'{' | b'}'));
    bytes.len() - rest.len() + tail.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_found_or_passed_at_each_place() {
        for byte in 0..=u8::MAX {
            for filler in [b'a', 0x7F, b' ', b'!', b'#', b']' - 1, b'~', 0x80, 0xFF] {
                for at in 0..20 {
                    let mut text = [filler; 20];
                    text[at] = byte;
                    let stop = |b: u8| b == b'"' || b == b'\\' || b < 0x20;
                    let len = text.iter().position(|b| stop(*b)).unwrap_or(20);
                    let run = Run { len, ascii: text[..len].is_ascii() };
                    assert_eq!(plain(&text), run, "{byte:#x} at {at} in {filler:#x}");
                    let len = text.iter().position(|b| b"\"[]{}".contains(b)).unwrap_or(20);
                    assert_eq!(until_structure(&text), len, "{byte:#x} at {at} in {filler:#x}");
                }
            }
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(plain(b"ab\"\"\\\0\"\"cdef"), Run { len: 2, ascii: true });
        assert_eq!(plain(b"ab\x1f !\"\xff\xffcdef"), Run { len: 2, ascii: true });
        assert_eq!(plain("aé\"é".as_bytes()), Run { len: 3, ascii: false });
        assert_eq!(plain(b""), Run { len: 0, ascii: true });
        assert_eq!(until_structure(b"abc|}{]"), 4);
    }
}
