//! Percent-encoding of what a template inserts (RFC 3986 2.1), so that a value can not change the structure around it.
//!
//! | value from \ place | path | query | header |
//! |---|---|---|---|
//! | the path | as it is: what a path may hold, and valid `%XX` | unreserved, valid `%XX` | as it is, controls as `%XX` |
//! | the query | unreserved, valid `%XX` but no encoded slash, backslash or control; `+` becomes `%20` | unreserved, `+`, valid `%XX` | the same |
//! | anything else | unreserved | unreserved | the same |
//!
//! All other bytes become `%XX`. In a path, a slash, backslash or control that did not come from the path is encoded
//! twice (`%252F`): upstreams that decode once and route on the result would otherwise see a segment more.

use crate::text::{self, triplet};

/// Where a value comes from: what its `%XX` mean and which checks it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The request's path: percent-encoded, and its encoded slashes have passed the path policy.
    Path,
    /// One value of the request's query: percent-encoded, `+` for a space.
    Query,
    /// The whole query: as [`Source::Query`], and its separators stay.
    WholeQuery,
    /// Plain text, such as a header value: a `%` is a `%`.
    Text,
}

/// What a value is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Path,
    Query,
    Header,
}

/// RFC 3986 2.3.
const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 3.3 pchar, without `%`, and the slash.
const fn is_path(b: u8) -> bool {
    is_unreserved(b)
        || matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/')
}

const fn breaks_paths(b: u8) -> bool {
    b == b'/' || b == b'\\' || b.is_ascii_control()
}

/// Appends `value`, encoded for its place.
pub(super) fn push(out: &mut Vec<u8>, value: &[u8], from: Source, into: Spot) {
    let mut left = value;
    while let Some((&b, tail)) = left.split_first() {
        left = tail;
        if into == Spot::Header {
            if b.is_ascii_control() {
                push_triplet(out, b)
            } else {
                out.push(b)
            }
            continue;
        }
        if b == b'%'
            && from != Source::Text
            && let Some((byte, tail)) = triplet(left)
        {
            let keep = from == Source::Path || into == Spot::Query || !breaks_paths(byte);
            out.extend_from_slice(if keep { b"%" } else { b"%25" });
            out.extend_from_slice(left.get(..2).unwrap_or_default());
            left = tail;
            continue;
        }
        match (from, into, b) {
            (Source::Path, Spot::Path, _) if is_path(b) => out.push(b),
            (Source::WholeQuery, Spot::Query, _) if is_path(b) || b == b'?' => out.push(b),
            (Source::Query, Spot::Query, b'+') => out.push(b),
            (Source::Query | Source::WholeQuery, Spot::Path, b'+') => out.extend_from_slice(b"%20"),
            _ if is_unreserved(b) => out.push(b),
            (Source::Path, ..) | (_, Spot::Query, _) => push_triplet(out, b),
            _ if breaks_paths(b) => {
                out.extend_from_slice(b"%25");
                out.extend_from_slice(&hex(b));
            }
            _ => push_triplet(out, b),
        }
    }
}

/// Appends a host for the authority of a URL: names and addresses pass, anything else can not end the authority.
pub(super) fn push_host(out: &mut Vec<u8>, host: &str) {
    for b in host.bytes() {
        if is_unreserved(b) || matches!(b, b':' | b'[' | b']') { out.push(b) } else { push_triplet(out, b) }
    }
}

/// Plain text as the name or value of a pair of a query.
pub(super) fn query_text(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    push(&mut out, text.as_bytes(), Source::Text, Spot::Query);
    String::from_utf8(out).unwrap_or_default()
}

/// The first character of a text that can not be in a path as it is. What a `%` stands for is not looked at.
pub(super) fn stranger(text: &str) -> Option<char> {
    text.chars().find(|c| *c != '%' && !u8::try_from(*c).is_ok_and(is_path))
}

/// A character as it is written in a path: `%C3%A4`.
pub(super) fn triplets(c: char) -> String {
    let mut out = Vec::new();
    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_triplet(&mut out, byte));
    String::from_utf8(out).unwrap_or_default()
}

/// Whether a `%` in it stands for itself.
pub(super) fn has_lone_percent(text: &str) -> bool {
    text.split('%').skip(1).any(|behind| triplet(behind.as_bytes()).is_none())
}

/// The text that a percent-encoded value stands for.
pub(super) fn decoded(value: &[u8], from: Source) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    decode(value, from, &mut out);
    out
}

/// Whether a percent-encoded value stands for `text`.
pub(crate) fn means(value: &[u8], from: Source, text: &[u8]) -> bool {
    bytes_of(value, from).eq(text.iter().copied())
}

/// What a percent-encoded value stands for, appended to `out`.
pub(crate) fn decode(value: &[u8], from: Source, out: &mut Vec<u8>) {
    out.extend(bytes_of(value, from));
}

fn bytes_of(value: &[u8], from: Source) -> impl Iterator<Item = u8> {
    text::decoded(value, from == Source::Query)
}

/// Encodes the dots of the dot segments in `out[start..]`, up to its query, once more (`%252E`). Dot segments come about
/// when values are put together or next to literal text; `%2E` would not do, since it means a dot (RFC 3986 6.2.2.2).
pub(super) fn defuse_dot_segments(out: &mut Vec<u8>, start: usize) {
    let path = out.get(start..).unwrap_or_default();
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    if has_dot_segments(path) {
        let end = start + path.len();
        rewrite_dot_segments(out, start, end);
    }
}

/// Whether a path has a dot segment, or one for upstreams that decode `%2F` and `%5C`.
pub(super) fn has_dot_segments(path: &[u8]) -> bool {
    parts(path).any(|part| part.dots.is_some())
}

#[cold]
fn rewrite_dot_segments(out: &mut Vec<u8>, start: usize, end: usize) {
    let tail = out.split_off(start);
    let (path, query) = tail.split_at(end - start);
    for part in parts(path) {
        match part.dots {
            Some(count) => (0..count).for_each(|_| out.extend_from_slice(b"%252E")),
            None => out.extend_from_slice(part.text),
        }
        out.extend_from_slice(part.behind);
    }
    out.extend_from_slice(query);
}

/// A part of a path, between slashes, plain or encoded.
struct Part<'p> {
    text: &'p [u8],
    /// The divider behind it, empty at the end.
    behind: &'p [u8],
    /// How many dots it is, if it leads elsewhere: `.` beside an encoded divider does not, and clients may send it as well.
    dots: Option<usize>,
}

fn parts(path: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let (mut left, mut before) = (Some(path), &b""[..]);
    std::iter::from_fn(move || {
        let rest = left?;
        let (at, len) = divider(rest).unwrap_or((rest.len(), 0));
        let (text, behind) = (rest.get(..at)?, rest.get(at..at + len)?);
        left = if len > 0 { rest.get(at + len..) } else { None };
        let is_segment = before.len().max(len) <= 1;
        before = behind;
        Some(Part { text, behind, dots: dots(text).filter(|count| *count == 2 || is_segment) })
    })
}

/// Where the first slash is, or what upstreams may decode into one or into a backslash, and its length.
fn divider(path: &[u8]) -> Option<(usize, usize)> {
    memchr::memchr2_iter(b'/', b'%', path).find_map(|at| match path.get(at..)? {
        [b'%', b'2', b'F' | b'f', ..] | [b'%', b'5', b'C' | b'c', ..] => Some((at, 3)),
        [b'/', ..] => Some((at, 1)),
        _ => None,
    })
}

/// How many dots a segment consists of, plain or encoded, if it is a dot segment.
pub(super) fn dots(segment: &[u8]) -> Option<usize> {
    let mut left = segment;
    for count in 0..=2 {
        left = match left {
            [] => return (count > 0).then_some(count),
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => tail,
            _ => return None,
        };
    }
    None
}

fn push_triplet(out: &mut Vec<u8>, b: u8) {
    out.push(b'%');
    out.extend_from_slice(&hex(b));
}

fn hex(b: u8) -> [u8; 2] {
    let digit = |d: u8| if d < 10 { b'0' + d } else { b'A' + d - 10 };
    [digit(b >> 4), digit(b & 15)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pushed(value: &str, from: Source, into: Spot) -> String {
        let mut out = Vec::new();
        push(&mut out, value.as_bytes(), from, into);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn knows_dot_segments() {
        for yes in [".", "..", "%2e", "%2E.", ".%2e", "%2e%2E"] {
            assert!(dots(yes.as_bytes()).is_some(), "{yes}");
        }
        for no in ["", "...", "a", ".a", "%2f", "%2e%2", "..%2e", "é."] {
            assert!(dots(no.as_bytes()).is_none(), "{no}");
        }
    }

    #[test]
    fn values_are_encoded_for_their_place() {
        let cases = [
            ("a;b=c@d:e+f/g%2Fh", Source::Path, Spot::Path, "a;b=c@d:e+f/g%2Fh"),
            ("a?b#c d\"é%zz%4", Source::Path, Spot::Path, "a%3Fb%23c%20d%22%C3%A9%25zz%254"),
            ("a/b%2fc%20d+e&f", Source::Query, Spot::Path, "a%252Fb%252fc%20d%20e%26f"),
            ("%00%5c\r\n", Source::Query, Spot::Path, "%2500%255c%250D%250A"),
            ("a/b%2Fc d;", Source::Text, Spot::Path, "a%252Fb%252Fc%20d%3B"),
            ("a/b&c=d+e%26", Source::Query, Spot::Query, "a%2Fb%26c%3Dd+e%26"),
            ("a=b&c=/?#%26 ", Source::WholeQuery, Spot::Query, "a=b&c=/?%23%26%20"),
            ("/a&b%20", Source::Path, Spot::Query, "%2Fa%26b%20"),
            ("a&b%20+", Source::Text, Spot::Query, "a%26b%2520%2B"),
            ("a\r\nb: c\0\x7f\té", Source::Text, Spot::Header, "a%0D%0Ab: c%00%7F%09é"),
        ];
        for (value, from, into, expected) in cases {
            assert_eq!(pushed(value, from, into), expected, "{value:?} {from:?} {into:?}");
        }
    }

    #[test]
    fn dot_segments_are_defused_up_to_the_query() {
        let cases = [
            ("/a/../b", "/a/%252E%252E/b"),
            ("/./%2e", "/%252E/%252E"),
            ("/.%2E/x?/../", "/%252E%252E/x?/../"),
            ("/.../.a/a./..b", "/.../.a/a./..b"),
            ("/a/..%2Fb%2f%2e.", "/a/%252E%252E%2Fb%2f%252E%252E"),
            ("/..%5cb%5C.%2E/..%252F", "/%252E%252E%5cb%5C%252E%252E/..%252F"),
            ("/a%2F.%2Fb/.%5C", "/a%2F.%2Fb/.%5C"),
            ("/...%2F..b%2Fb..", "/...%2F..b%2Fb.."),
            ("/..%2", "/..%2"),
        ];
        for (path, expected) in cases {
            let mut out = b"../".to_vec();
            out.extend_from_slice(path.as_bytes());
            defuse_dot_segments(&mut out, 3);
            assert_eq!(String::from_utf8(out).unwrap(), format!("../{expected}"));
        }
    }
}
