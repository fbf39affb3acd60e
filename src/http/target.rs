//! The request target: which of the four forms it is, and the one path that is both matched and forwarded.
//!
//! RFC 9112 3.2 (forms), RFC 3986 3.3, 3.4 (characters), 5.2.4 (dot segments), 6.2.2 (equivalent spellings).
//! A filter that guards `/admin` must see `/admin` however it was spelled, so the path is normalised before it is
//! matched, and what was matched is what goes upstream. What two readers might read differently is refused.

use std::fmt;

use ::http::Method;

use super::authority::validate_host;

/// Bytes looked at together: one SSE2 or NEON register.
const LANES: usize = 16;

/// How a path is normalised; a key of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathPolicy {
    /// `//` becomes `/`, before dot segments are removed (as nginx does).
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub encoded_slashes: EncodedSlashes,
}

/// What happens to `%2F` and `%5C`, which some upstreams decode into separators and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// 400.
    Reject,
    /// They stay encoded and are part of their segment; a `..` next to one is still refused.
    Keep,
}

/// A request target, split but not normalised. All its bytes were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query` (RFC 9112 3.2.1).
    Origin {
        /// Begins with `/`.
        path: &'a [u8],
        /// What follows the first `?`, which may be empty; `None` without `?`.
        query: Option<&'a [u8]>,
    },
    /// `http://authority/path?query` (RFC 9112 3.2.2).
    Absolute {
        /// `https` rather than `http`.
        scheme_https: bool,
        /// Passed [`validate_host`]; it replaces the Host field.
        authority: &'a [u8],
        /// Begins with `/`; `/` when the target had none.
        path: &'a [u8],
        /// As in `Origin`.
        query: Option<&'a [u8]>,
    },
    /// `host:port`, for CONNECT only (RFC 9112 3.2.3); passed [`validate_host`] and has a port.
    Authority(&'a [u8]),
    /// `*`, for OPTIONS only (RFC 9112 3.2.4).
    Asterisk,
}

/// Why a target is refused; always 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// None of the four forms, or one that the method does not allow.
    Form,
    /// The authority is not a valid host and port.
    Authority,
    /// A `#`: fragments are never sent (RFC 9112 3.2).
    Fragment,
    /// A control, space, non-ASCII or other byte that must be percent-encoded.
    Byte,
    /// A `%` without two hex digits.
    Escape,
    /// `%00`.
    Nul,
    /// `%2F` or `%5C` where the policy refuses them, or `..` beside one where it keeps them.
    EncodedSlash,
    /// `..` above the root.
    AboveRoot,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "the request target has no form that its method allows",
            Self::Authority => "the request target's authority is not a valid host and port",
            Self::Fragment => "the request target has a fragment",
            Self::Byte => "the request target has a byte that must be percent-encoded",
            Self::Escape => "the request target has a % without two hex digits",
            Self::Nul => "the path has an encoded NUL",
            Self::EncodedSlash => "the path has an encoded slash or backslash",
            Self::AboveRoot => "the path leaves the root",
        })
    }
}

impl std::error::Error for TargetError {}

/// What [`normalize`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalized<'a> {
    /// The path is in normal form as it was sent.
    AsIs(&'a str),
    /// The normal form is in `out`; it is ASCII.
    Changed,
}

/// Finds the form of a request target, checks it against the method, and checks every byte.
///
/// A path takes `pchar` and `/` only (RFC 3986 3.3). A query also takes ``[ ] { } | ^ ` \``, which browsers send raw
/// there (WHATWG URL, query percent-encode set) and which mean nothing to a gateway.
///
/// # Errors
/// A [`TargetError`], always 400.
pub fn split<'a>(method: &Method, raw: &'a [u8]) -> Result<Target<'a>, TargetError> {
    if *method == Method::CONNECT {
        // RFC 9112 3.2.3: host and port, both required; nothing listens on port 0 (RFC 9110 9.3.6).
        let host = validate_host(raw).map_err(|_| TargetError::Authority)?;
        return host.port.filter(|port| *port != 0).map(|_| Target::Authority(raw)).ok_or(TargetError::Authority);
    }
    match raw.first() {
        Some(b'/') => split_query(raw).map(|(path, query)| Target::Origin { path, query }),
        // RFC 9112 3.2.4
        Some(b'*') if raw.len() == 1 && *method == Method::OPTIONS => Ok(Target::Asterisk),
        _ => split_absolute(raw),
    }
}

#[cold]
fn split_absolute(raw: &[u8]) -> Result<Target<'_>, TargetError> {
    let (scheme_https, rest) = match (strip_scheme(raw, b"http://"), strip_scheme(raw, b"https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(TargetError::Form),
    };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    validate_host(authority).map_err(|_| TargetError::Authority)?;
    let (path, query) = split_query(rest)?;
    // RFC 9110 4.2.3: an empty path is `/`.
    let path = if path.is_empty() { b"/" } else { path };
    Ok(Target::Absolute { scheme_https, authority, path, query })
}

/// Schemes are case-insensitive (RFC 3986 3.1).
fn strip_scheme<'a>(raw: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = raw.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn split_query(raw: &[u8]) -> Result<(&[u8], Option<&[u8]>), TargetError> {
    let (path, query) = match memchr::memchr(b'?', raw).and_then(|at| raw.split_at_checked(at)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (raw, None),
    };
    if any(path, not_plain_path, PATH) {
        check_slowly(path, PATH)?;
    }
    if let Some(query) = query
        && any(query, not_plain_query, QUERY)
    {
        check_slowly(query, QUERY)?;
    }
    Ok((path, query))
}

/// Tells why a part is not plain: it has an escape, which may be well formed, or a byte that is refused.
#[cold]
fn check_slowly(part: &[u8], allowed: u8) -> Result<(), TargetError> {
    let mut rest = part;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => escape(after)?.1,
            b'#' => return Err(TargetError::Fragment),
            _ if class(byte) & allowed == 0 => return Err(TargetError::Byte),
            _ => after,
        };
    }
    Ok(())
}

/// The two hex digits after a `%`: the byte they stand for, and what follows them.
fn escape(after: &[u8]) -> Result<(u8, &[u8]), TargetError> {
    let (&[high, low], rest) = after.split_first_chunk().ok_or(TargetError::Escape)?;
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|v| u8::try_from(v).ok()).ok_or(TargetError::Escape);
    Ok(((digit(high)? << 4) | digit(low)?, rest))
}

/// Brings a path into its normal form, so that one resource has one spelling.
///
/// - Dot segments are removed, also those written `%2e` (RFC 3986 5.2.4); `..` above the root is refused.
/// - Encoded unreserved characters are decoded (6.2.2.2): `/%61dmin` is `/admin`.
/// - Other escapes stay, with hex digits in upper case (6.2.2.1): `%3a` and `%3A` must match alike.
/// - `%00` is refused; `%2F` and `%5C` follow the policy; a raw backslash is refused like any byte outside `pchar`.
///
/// `out` is scratch: it holds the result when that is [`Normalized::Changed`], and nothing of use otherwise.
/// It is not touched, and nothing is allocated, when no byte of the path calls for a closer look.
/// The result is at most as long as the path, and normalising it again changes nothing.
///
/// # Errors
/// A [`TargetError`], always 400. The path must begin with `/`, else [`TargetError::Form`].
#[inline]
pub fn normalize<'a>(path: &'a [u8], policy: &PathPolicy, out: &mut Vec<u8>) -> Result<Normalized<'a>, TargetError> {
    if !is_normal(path, policy.merge_slashes) {
        rewrite(path, policy, out)?;
        if out.as_slice() != path {
            return Ok(Normalized::Changed);
        }
    }
    str::from_utf8(path).map(Normalized::AsIs).map_err(|_| TargetError::Byte)
}

/// True when the path surely needs no change: plain bytes, and no `/` followed by `.` (or by `/` when those merge).
/// May be false for a normal path such as `/.well-known`.
#[inline]
fn is_normal(path: &[u8], merge_slashes: bool) -> bool {
    let (Some((b'/', rest)), Some((_, before))) = (path.split_first(), path.split_last()) else { return false };
    let second = if merge_slashes { b'/' } else { b'.' };
    let odd = |prev: u8, byte: u8| not_plain_path(byte) | ((prev == b'/') & ((byte == b'.') | (byte == second)));
    // `before` and `rest` are the path without its last and without its first byte: side by side they are the pairs.
    let mut found = false;
    for (prev, bytes) in before.as_chunks::<LANES>().0.iter().zip(rest.as_chunks::<LANES>().0) {
        found |= prev.iter().zip(bytes).fold(false, |acc, (p, b)| acc | odd(*p, *b));
    }
    // The last block may overlap the one before it: looking twice does no harm, and a byte loop would be slower.
    if let (Some(prev), Some(bytes)) = (before.last_chunk::<LANES>(), rest.last_chunk::<LANES>()) {
        found |= prev.iter().zip(bytes).fold(false, |acc, (p, b)| acc | odd(*p, *b));
    } else {
        for (&prev, &byte) in before.iter().zip(rest) {
            let dotted = (prev == b'/') & ((byte == b'.') | (byte == second));
            found |= (class(byte) & PATH == 0) | dotted;
        }
    }
    !found
}

#[cold]
fn rewrite(path: &[u8], policy: &PathPolicy, out: &mut Vec<u8>) -> Result<(), TargetError> {
    let Some((b'/', mut rest)) = path.split_first() else { return Err(TargetError::Form) };
    out.clear();
    out.reserve(path.len());
    loop {
        let end = memchr::memchr(b'/', rest);
        let (segment, after) = end.and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, &[]));
        let start = out.len();
        out.push(b'/');
        decode_segment(segment, policy.encoded_slashes, out)?;
        let drop = match out.get(start + 1..).unwrap_or_default() {
            b"." => true,
            b".." => {
                let parent = out.get(..start).and_then(|above| memchr::memrchr(b'/', above));
                out.truncate(parent.ok_or(TargetError::AboveRoot)?);
                true
            }
            b"" => policy.merge_slashes && end.is_some(),
            _ => false,
        };
        if drop {
            out.truncate(start);
        }
        if end.is_none() {
            // `/a/.` and `/a/b/..` name the directory: they end in a slash.
            if drop {
                out.push(b'/');
            }
            return Ok(());
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

fn decode_segment(segment: &[u8], slashes: EncodedSlashes, out: &mut Vec<u8>) -> Result<(), TargetError> {
    // Where the part since the last kept `%2F` or `%5C` began: an upstream that decodes them takes it for a segment.
    let mut part = out.len();
    let mut divided = false;
    let mut rest = segment;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            if class(byte) & PATH == 0 {
                return Err(if byte == b'#' { TargetError::Fragment } else { TargetError::Byte });
            }
            out.push(byte);
            rest = after;
            continue;
        }
        let (decoded, next) = escape(after)?;
        let divider = matches!(decoded, b'/' | b'\\');
        if decoded == 0 {
            return Err(TargetError::Nul);
        }
        if divider && (slashes == EncodedSlashes::Reject || out.get(part..) == Some(b"..")) {
            return Err(TargetError::EncodedSlash);
        }
        if class(decoded) & UNRESERVED != 0 {
            out.push(decoded);
        } else {
            out.push(b'%');
            out.extend(after.iter().take(2).map(u8::to_ascii_uppercase));
        }
        if divider {
            part = out.len();
            divided = true;
        }
        rest = next;
    }
    if divided && out.get(part..) == Some(b"..") {
        return Err(TargetError::EncodedSlash);
    }
    Ok(())
}

/// How a piece of a path, without dot segments, is spelled in every request that was let in: the normal form where encoded
/// slashes are kept. What is spelled in another way is in no request.
///
/// # Errors
/// A request with it is refused by every policy.
pub fn spelling(piece: &str) -> Result<String, TargetError> {
    let mut out = Vec::with_capacity(piece.len());
    decode_segment(piece.as_bytes(), EncodedSlashes::Keep, &mut out)?;
    String::from_utf8(out).map_err(|_| TargetError::Byte)
}

/// True when `odd` holds for any byte. Without early exit, so that whole blocks are compared at once.
#[inline]
fn any(bytes: &[u8], odd: impl Fn(u8) -> bool, allowed: u8) -> bool {
    let mut found = false;
    for block in bytes.as_chunks::<LANES>().0 {
        found |= block.iter().fold(false, |acc, b| acc | odd(*b));
    }
    match bytes.last_chunk::<LANES>() {
        Some(block) => found | block.iter().fold(false, |acc, b| acc | odd(*b)),
        None => bytes.iter().fold(found, |acc, b| acc | (class(*b) & allowed == 0)),
    }
}

/// Not `pchar` or `/`; `%` counts as odd. Written as ranges and `|`, which compile to vector comparisons.
/// A test holds it against the table.
#[inline]
fn not_plain_path(b: u8) -> bool {
    let letter = (b | 0x20).wrapping_sub(b'a') < 26;
    // & ' ( ) * + , - . / 0-9 : ;
    let middle = b.wrapping_sub(b'&') <= b';' - b'&';
    !(letter | middle | (b == b'!') | (b == b'$') | (b == b'=') | (b == b'@') | (b == b'_') | (b == b'~'))
}

/// As [`not_plain_path`], for the lenient set of a query.
#[inline]
fn not_plain_query(b: u8) -> bool {
    // From `?` to `~` all but DEL are in; below it the path's own.
    let upper = b.wrapping_sub(b'?') <= b'~' - b'?';
    let middle = b.wrapping_sub(b'&') <= b';' - b'&';
    !(upper | middle | (b == b'!') | (b == b'$') | (b == b'='))
}

/// `pchar` (RFC 3986 3.3) without `%`, and `/`.
const PATH: u8 = 1;
/// What a query takes, without `%`.
const QUERY: u8 = 2;
/// RFC 3986 2.3.
const UNRESERVED: u8 = 4;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 128 {
        let c = b as u8;
        if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~') {
            table[b] = PATH | QUERY | UNRESERVED;
        } else if matches!(c, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
            || matches!(c, b':' | b'@' | b'/')
        {
            table[b] = PATH | QUERY;
        } else if matches!(c, b'?' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`' | b'\\') {
            table[b] = QUERY;
        }
        b += 1;
    }
    table
};

#[inline]
fn class(b: u8) -> u8 {
    // The table has a row for every byte: there is nothing to check.
    CLASS[usize::from(b)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STRICT: PathPolicy = PathPolicy { merge_slashes: true, encoded_slashes: EncodedSlashes::Reject };
    const LOOSE: PathPolicy = PathPolicy { merge_slashes: false, encoded_slashes: EncodedSlashes::Keep };

    fn normal(path: &str, policy: &PathPolicy) -> Result<String, TargetError> {
        let mut out = b"left over".to_vec();
        Ok(match normalize(path.as_bytes(), policy, &mut out)? {
            Normalized::AsIs(same) => {
                assert_eq!(same, path);
                same.to_owned()
            }
            Normalized::Changed => {
                assert_ne!(out, path.as_bytes(), "changed, but not different");
                String::from_utf8(out).unwrap()
            }
        })
    }

    #[test]
    fn ranges_and_table_agree_on_every_byte() {
        for b in 0..=255 {
            assert_eq!(not_plain_path(b), class(b) & PATH == 0, "path {b:#x}");
            assert_eq!(not_plain_query(b), class(b) & QUERY == 0, "query {b:#x}");
        }
    }

    #[test]
    fn forms_follow_the_method() {
        let get = |raw: &'static str| split(&Method::GET, raw.as_bytes());
        assert_eq!(get("/a?b?c"), Ok(Target::Origin { path: b"/a", query: Some(b"b?c") }));
        assert_eq!(get("/?"), Ok(Target::Origin { path: b"/", query: Some(b"") }));
        assert_eq!(get("/?a=[{|}]^`\\"), Ok(Target::Origin { path: b"/", query: Some(b"a=[{|}]^`\\") }));
        let absolute = |scheme_https, authority: &'static [u8], path: &'static [u8], query: Option<&'static [u8]>| {
            Ok(Target::Absolute { scheme_https, authority, path, query })
        };
        assert_eq!(get("http://h:8080/a?b"), absolute(false, b"h:8080", b"/a", Some(b"b")));
        assert_eq!(get("HTTPS://[::1]"), absolute(true, b"[::1]", b"/", None));
        assert_eq!(get("http://h?b"), absolute(false, b"h", b"/", Some(b"b")));
        assert_eq!(split(&Method::OPTIONS, b"*"), Ok(Target::Asterisk));
        assert_eq!(split(&Method::CONNECT, b"h:443"), Ok(Target::Authority(b"h:443")));
        assert_eq!(split(&Method::CONNECT, b"h:0"), Err(TargetError::Authority));

        for bad in ["", "*", "a", "h:443", "ftp://h/", "http:/h", "http:h", "?a", "*?a", "//"] {
            assert_eq!(get(bad).is_ok(), bad == "//", "{bad}");
        }
        for bad in ["http://", "http:///a", "http://u@h/", "http://u:p@h/", "http://h:x/", "http://h h/", "http://h\\a"]
        {
            assert_eq!(get(bad), Err(TargetError::Authority), "{bad}");
        }
        for bad in ["/", "h", "h:", "h:443/", "http://h:443", "*", ""] {
            assert_eq!(split(&Method::CONNECT, bad.as_bytes()), Err(TargetError::Authority), "{bad}");
        }
        assert_eq!(split(&Method::OPTIONS, b"**"), Err(TargetError::Form));
    }

    #[test]
    fn every_byte_that_must_be_encoded_is_refused_wherever_it_stands() {
        for b in 0..=255u8 {
            for lead in [1, 5, 15, 16, 17, 31, 40] {
                for part in [&b"/"[..], &b"/?"[..]] {
                    let mut raw = part.to_vec();
                    raw.extend(std::iter::repeat_n(b'a', lead));
                    raw.push(b);
                    raw.extend(std::iter::repeat_n(b'a', lead / 2));
                    let allowed =
                        if part.len() == 1 { class(b) & PATH != 0 || b == b'?' } else { class(b) & QUERY != 0 };
                    let got = split(&Method::GET, &raw);
                    match b {
                        // Followed by `aa` it is an escape.
                        b'%' => assert_eq!(got.is_ok(), lead > 3, "{raw:?}"),
                        b'#' => assert_eq!(got, Err(TargetError::Fragment)),
                        _ if allowed => assert!(got.is_ok(), "{raw:?}"),
                        _ => assert_eq!(got, Err(TargetError::Byte), "{raw:?}"),
                    }
                }
            }
        }
        for bad in ["/%", "/%4", "/%4g", "/%%41", "/?%", "/?a=%zz"] {
            assert_eq!(split(&Method::GET, bad.as_bytes()), Err(TargetError::Escape), "{bad}");
        }
    }

    #[test]
    fn normal_forms() {
        for (path, strict) in [
            ("/", "/"),
            ("/.well-known/a", "/.well-known/a"),
            ("/a/...", "/a/..."),
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/./b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2E/b", "/b"),
            ("/%61dmin", "/admin"),
            ("/a%20b%3a%c3%a9", "/a%20b%3A%C3%A9"),
            ("/a%252e%252e", "/a%252e%252e"),
            ("//a///b//", "/a/b/"),
            ("//", "/"),
            ("/a//../b", "/b"),
            ("/abcdefghijklmnopqrstuvwxyz/0123456789/../x", "/abcdefghijklmnopqrstuvwxyz/x"),
            ("/abcdefghijklmn//x", "/abcdefghijklmn/x"),
            ("/abcdefghijklmno//x", "/abcdefghijklmno/x"),
        ] {
            assert_eq!(normal(path, &STRICT).as_deref(), Ok(strict), "{path}");
        }
        for (path, loose) in [
            ("//a///b//", "//a///b//"),
            ("/a//../b", "/a/b"),
            ("/g%2fp/x%5cy", "/g%2Fp/x%5Cy"),
            ("/a%2F.%2Fb", "/a%2F.%2Fb"),
            ("/a%2F...", "/a%2F..."),
        ] {
            assert_eq!(normal(path, &LOOSE).as_deref(), Ok(loose), "{path}");
        }
    }

    #[test]
    fn refused_paths() {
        use TargetError::*;
        for (path, error) in [
            ("", Form),
            ("a", Form),
            ("*", Form),
            ("/..", AboveRoot),
            ("/a/../../b", AboveRoot),
            ("/%2e%2e/b", AboveRoot),
            ("/a//../../b", AboveRoot),
            ("/a%00", Nul),
            ("/a%2Fb", EncodedSlash),
            ("/a%5cb", EncodedSlash),
            ("/a\\b", Byte),
            ("/a b", Byte),
            ("/a?b", Byte),
            ("/é", Byte),
            ("/a#b", Fragment),
            ("/a%", Escape),
            ("/a%+1", Escape),
        ] {
            assert_eq!(normal(path, &STRICT), Err(error), "{path}");
        }
        for path in ["/a/..%2Fb", "/a%2F..", "/a%2F%2e%2E/b", "/a%5C..%2fb", "/..%5Cb"] {
            assert_eq!(normal(path, &LOOSE), Err(EncodedSlash), "{path}");
        }
        assert_eq!(normal("/a%00", &LOOSE), Err(Nul));
        assert_eq!(normal("/a\\b", &LOOSE), Err(Byte));
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        const PARTS: [&str; 21] = [
            "/",
            "/",
            "/",
            ".",
            "..",
            "a",
            "b;c",
            "%2e",
            "%2E",
            "%2F",
            "%5c",
            "%61",
            "%25",
            "%3a",
            "%7e",
            "~",
            "%",
            "2e",
            "long-segment-name",
            "%20",
            "%4",
        ];
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap() % n
        };
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut path = String::from("/");
            for _ in 0..random(12) {
                path.push_str(PARTS[random(PARTS.len())]);
            }
            for merge_slashes in [false, true] {
                for encoded_slashes in [EncodedSlashes::Reject, EncodedSlashes::Keep] {
                    let policy = PathPolicy { merge_slashes, encoded_slashes };
                    let Ok(once) = normal(&path, &policy) else { continue };
                    accepted += 1;
                    assert_eq!(normal(&once, &policy).as_ref(), Ok(&once), "{path}");
                    assert!(once.starts_with('/') && once.len() <= path.len(), "{path}");
                    assert!(!once.split('/').any(|s| s == "." || s == ".."), "{path} -> {once}");
                    assert!(!merge_slashes || !once.contains("//"), "{path} -> {once}");
                    assert!(split(&Method::GET, once.as_bytes()).is_ok(), "{once}");
                }
            }
        }
        assert!(accepted > 50_000, "{accepted}");
    }
}
