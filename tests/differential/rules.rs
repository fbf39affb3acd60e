//! Who is right where the codecs disagree: a row for each way in which they do, with the section that decides. What a
//! row claims of a message is looked for in its bytes, by readers that neither codec uses: a refusal alone explains nothing.

use super::codecs::{End, Message, Way};
use regex::bytes::Regex;
use std::net::Ipv6Addr;
use std::sync::LazyLock;

/// A disagreement about one message.
pub struct Dispute<'a> {
    pub way: Way,
    /// From its first byte.
    pub bytes: &'a [u8],
    pub ours: Result<&'a Message, &'a End>,
    pub theirs: Result<&'a Message, &'a End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    HugeName,
    Bounds,
    FieldCount,
    StrictLines,
    Early,
    EmptyPath,
    Target,
    Host,
    Connection,
    BothLengths,
    LengthsDiffer,
    LengthList,
    OneCoding,
    ChunkedOn10,
    NoSize,
    SizeDigits,
    HugeChunk,
    Extensions,
    Trailers,
    Status,
    EmptyLineFirst,
    NoBody,
    UntilClose,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Who {
    /// The gateway; the other is a danger or of no use.
    Ours,
    /// The section allows both.
    Both,
}

pub struct Row {
    pub right: Right,
    pub section: &'static str,
    pub who: Who,
    pub says: &'static str,
    /// Whether this is it.
    pub holds: fn(&Dispute<'_>) -> bool,
}

use Right::*;
use Who::*;

const fn row(
    right: Right,
    section: &'static str,
    who: Who,
    says: &'static str,
    holds: fn(&Dispute<'_>) -> bool,
) -> Row {
    Row { right, section, who, says, holds }
}

/// The first row that holds decides.
#[rustfmt::skip]
pub const ROWS: [Row; 23] = [
    row(HugeName, "RFC 9110 5.4", Ours, "a field too large to be processed is answered 4xx; theirs panics on a name of 64 KiB",
        |d| matches!(d.theirs, Err(End::Panicked(_))) && d.ours_refuse("431|502") && d.head().fields.iter().any(|f| f.0.len() > 65_535)),
    row(Bounds, "RFC 9110 5.4, 15.5.15; RFC 6585 5", Ours, "a head has bounds, checked before memory grows; theirs buffers whatever comes",
        |d| d.ours_refuse("414|431|502") && (d.head().len > 32 * 1024 || d.head().target().len() > 8 * 1024 || d.head().fields.len() > 100)),
    row(FieldCount, "RFC 9110 5.4", Both, "no section says how many fields are too many: 100 for ours, 96 for theirs",
        |d| d.ours.is_ok() && d.they_refuse("too many headers") && (97..=100).contains(&d.head().fields.len())),
    row(StrictLines, "RFC 9112 2.2, 7.1", Ours, "CRLF ends a line; a single LF MAY be recognised, and where one does and the next does not, requests are smuggled",
        |d| d.ours_refuse("400|502|chunk") && has_bare_line_end(d.bytes)),
    row(Early, "RFC 9112 3", Ours, "what can become no message is refused as soon as that is clear; theirs waits for an empty line that may never come",
        |d| matches!(d.ours, Err(End::Refused(_))) && d.theirs == Err(&End::More) && !contains(d.bytes, b"\r\n\r\n")),
    row(EmptyPath, "RFC 9110 4.2.3", Both, "an empty path is the same as `/`: ours writes it when it forwards, theirs when it reads",
        |d| matches!((d.ours, d.theirs), (Ok(a), Ok(b)) if a.fields == b.fields && a.body == b.body) && d.head().target().iter().filter(|b| **b == b'/').count() == 2),
    row(Target, "RFC 9112 3.2; RFC 3986 3", Ours, "a target has one of four forms, that its method allows, and no byte that must be escaped; what two readers split differently is refused",
        |d| d.way == Way::Requests && d.ours_refuse("400") && !is_target(d.head().method(), d.head().target())),
    row(Host, "RFC 9112 3.2", Ours, "400 for no Host, more than one, or one that is no authority",
        |d| d.way == Way::Requests && d.ours_refuse("400") && !has_one_host(&d.head())),
    row(Connection, "RFC 9110 7.6.1", Ours, "Connection lists field names, which are removed; theirs never looks at it",
        |d| d.ours_refuse("400|502") && !has_sound_connection(&d.head())),
    row(BothLengths, "RFC 9112 6.1, 6.3 (3)", Ours, "both Content-Length and Transfer-Encoding: ought to be handled as an error, it is how requests are smuggled",
        |d| d.ours_refuse("400|502") && d.head().has("content-length") && d.head().has("transfer-encoding")),
    row(LengthsDiffer, "RFC 9112 6.3 (5)", Ours, "Content-Length values that are not one number are unrecoverable; theirs reads the first and passes all of them on",
        |d| d.ours_refuse("400|502") && !d.head().has("transfer-encoding") && !has_one_length(&d.head())),
    row(LengthList, "RFC 9110 8.6", Both, "a list of the same number MAY be refused, or replaced by one",
        |d| !matches!(d.ours, Err(End::Refused(_))) && d.they_refuse("invalid header") && has_one_length(&d.head()) && d.head().values("content-length").any(|v| v.contains(&b','))),
    row(OneCoding, "RFC 9112 6.1, 7", Ours, "the whole of Transfer-Encoding must be `chunked`, once; theirs reads its first line, and takes `identity`, which is none any more, for no coding",
        |d| d.ours_refuse("400|501|502") && d.head().has("transfer-encoding") && !d.head().is_chunked()),
    row(ChunkedOn10, "RFC 9112 6.1", Ours, "Transfer-Encoding on HTTP/1.0 is faulty framing",
        |d| d.ours_refuse("400|502") && d.head().has("transfer-encoding") && d.head().line.windows(8).any(|w| w == b"HTTP/1.0")),
    row(NoSize, "RFC 9112 7.1", Ours, "a chunk size has at least one digit; theirs takes an empty line for the last chunk, and what follows for a request",
        |d| d.ours_refuse("chunk") && d.chunks().sizes.iter().any(|size| size.is_empty())),
    row(SizeDigits, "RFC 9112 7.1", Both, "sizes must not overflow: ours reads 16 digits, theirs any number of zeros before them",
        |d| d.ours_refuse("chunk") && d.chunks().sizes.iter().any(|size| size.len() > 16)),
    row(HugeChunk, "RFC 9112 7.1", Both, "no section says which chunk is too large; theirs must hold it whole, ours lets it pass through",
        |d| d.ours == Err(&End::More) && d.they_refuse("chunked") && d.chunks().sizes.iter().any(|size| size.len() == 16)),
    row(Extensions, "RFC 9112 7.1.1", Ours, "a recipient MUST ignore chunk extensions that it does not know; theirs refuses them",
        |d| !matches!(d.ours, Err(End::Refused(_))) && d.they_refuse("chunked") && d.chunks().has_extension),
    row(Trailers, "RFC 9112 7.1.2", Ours, "trailer fields end a chunked message; theirs refuses them",
        |d| !matches!(d.ours, Err(End::Refused(_))) && d.they_refuse("chunked") && d.chunks().has_trailers),
    row(Status, "RFC 9110 15", Ours, "a status is 100 to 599: a client should treat others as 5xx, a gateway can not tell what they mean",
        |d| d.way == Way::Answers && d.ours_refuse("502") && d.head().status().is_some_and(|status| !(100..600).contains(&status))),
    row(EmptyLineFirst, "RFC 9112 2.2, 4", Ours, "empty lines may stand before a request line, never before a status line",
        |d| d.way == Way::Answers && d.ours_refuse("502") && d.bytes.starts_with(b"\r\n")),
    row(NoBody, "RFC 9112 6.3 (1)", Ours, "1xx, 204 and 304 have no body whatever their fields say; theirs waits for one",
        |d| d.way == Way::Answers && d.ours.is_ok() && d.head().status().is_some_and(|status| matches!(status, 100..200 | 204 | 304))),
    row(UntilClose, "RFC 9112 6.3 (8)", Ours, "without a length an answer ends with its connection; theirs takes its body for the next answer",
        |d| d.way == Way::Answers && d.ours.is_ok() && !d.head().has("content-length") && !d.head().has("transfer-encoding")),
];

/// Which row decides, if one does.
pub fn decide(dispute: &Dispute<'_>) -> Option<Right> {
    ROWS.iter().find(|row| (row.holds)(dispute)).map(|row| row.right)
}

impl Dispute<'_> {
    /// Ours refuses it, with one of these.
    fn ours_refuse(&self, with: &str) -> bool {
        matches!(self.ours, Err(End::Refused(why)) if with.split('|').any(|with| why.starts_with(with)))
    }

    fn they_refuse(&self, with: &str) -> bool {
        matches!(self.theirs, Err(End::Refused(why)) if why.contains(with))
    }

    fn head(&self) -> Head<'_> {
        Head::of(self.bytes)
    }

    fn chunks(&self) -> Chunks<'_> {
        Chunks::of(self.bytes.get(self.head().len..).unwrap_or_default())
    }
}

/// A head as a lenient reader sees it.
struct Head<'a> {
    line: &'a [u8],
    fields: Vec<(&'a [u8], &'a [u8])>,
    len: usize,
}

impl<'a> Head<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let (mut line, mut fields, mut len) = (&bytes[..0], Vec::new(), 0);
        for raw in bytes.split_inclusive(|b| *b == b'\n') {
            len += raw.len();
            let text = raw.trim_ascii_end();
            if line.is_empty() {
                line = text; // empty ones before it are skipped
            } else if text.is_empty() {
                break;
            } else if let Some(colon) = text.iter().position(|b| *b == b':') {
                fields.push((&text[..colon], text[colon + 1..].trim_ascii()));
            } else {
                fields.push((text, b""));
            }
        }
        Self { line, fields, len }
    }

    fn words(&self) -> impl Iterator<Item = &'a [u8]> {
        self.line.split(|b| *b == b' ')
    }

    fn method(&self) -> &'a [u8] {
        self.words().next().unwrap_or_default()
    }

    fn target(&self) -> &'a [u8] {
        self.words().nth(1).unwrap_or_default()
    }

    fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.target()).ok()?.parse().ok()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.1)
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn is_chunked(&self) -> bool {
        let all: Vec<_> = self.values("transfer-encoding").collect();
        all.len() == 1 && all[0].eq_ignore_ascii_case(b"chunked")
    }
}

/// Chunks as a lenient reader sees them.
#[derive(Default)]
struct Chunks<'a> {
    sizes: Vec<&'a [u8]>,
    has_extension: bool,
    has_trailers: bool,
}

impl<'a> Chunks<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        let mut chunks = Self::default();
        while let Some(end) = find(bytes, b"\r\n") {
            let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
            let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            chunks.sizes.push(&line[..digits]);
            chunks.has_extension |= line.get(digits) == Some(&b';');
            let size = std::str::from_utf8(&line[..digits]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            match size {
                Some(0) => {
                    chunks.has_trailers = !rest.starts_with(b"\r\n") && contains(rest, b"\r\n\r\n");
                    return chunks;
                }
                Some(size) => bytes = rest.get(size.saturating_add(2)..).unwrap_or_default(),
                None => return chunks,
            }
        }
        chunks
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    find(bytes, part).is_some()
}

fn has_bare_line_end(bytes: &[u8]) -> bool {
    let bare = |at: usize| match bytes[at] {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\r' => bytes.get(at + 1).is_some_and(|next| *next != b'\n'),
        _ => false,
    };
    (0..bytes.len()).any(bare)
}

/// `pchar` and `/`; in the query also what browsers send raw.
static ORIGIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]{}|^`\\-]|%[0-9A-Fa-f]{2})*)?$").unwrap()
});
static AUTHORITY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:\[([^\]]*)\]|((?:[A-Za-z0-9_~-]+\.)*[A-Za-z0-9_~-]+\.?))(?::([0-9]{0,5}))?$").unwrap()
});

fn is_target(method: &[u8], target: &[u8]) -> bool {
    if method == b"CONNECT" {
        return is_authority(target) && !target.ends_with(b":") && find(target, b":").is_some();
    }
    if target == b"*" {
        return method == b"OPTIONS";
    }
    let lower = target.to_ascii_lowercase();
    let after_scheme = lower.strip_prefix(b"http://").or_else(|| lower.strip_prefix(b"https://"));
    let origin = match after_scheme {
        None => target.to_vec(),
        Some(rest) => {
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
            if !is_authority(&rest[..end]) {
                return false;
            }
            let rest = &target[target.len() - (rest.len() - end)..];
            if rest.starts_with(b"/") { rest.to_vec() } else { [b"/", rest].concat() }
        }
    };
    ORIGIN.is_match(&origin) && is_split_by_all_alike(origin.split(|b| *b == b'?').next().unwrap_or_default())
}

/// No escaped separators and NULs, and never above the root.
fn is_split_by_all_alike(path: &[u8]) -> bool {
    let lower = String::from_utf8_lossy(path).to_ascii_lowercase();
    let mut depth = 0;
    let segments = lower.replace("%2e", ".");
    for segment in segments.split('/').skip(1) {
        depth += match segment {
            ".." => -1,
            "." => 0,
            _ => 1,
        };
        if depth < 0 {
            return false;
        }
    }
    !["%2f", "%5c", "%00"].iter().any(|escape| lower.contains(escape))
}

fn is_authority(text: &[u8]) -> bool {
    let Some(found) = AUTHORITY.captures(text) else { return false };
    let part = |i| found.get(i).and_then(|m| std::str::from_utf8(m.as_bytes()).ok());
    let in_range = part(3).is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok());
    in_range && part(1).is_none_or(|v6| v6.parse::<Ipv6Addr>().is_ok()) && part(2).is_none_or(|name| name.len() <= 255)
}

fn has_one_host(head: &Head<'_>) -> bool {
    let hosts: Vec<_> = head.values("host").collect();
    match hosts.as_slice() {
        [] => head.line.ends_with(b"HTTP/1.0"),
        [host] => is_authority(host),
        _ => false,
    }
}

fn has_sound_connection(head: &Head<'_>) -> bool {
    let options: Vec<_> =
        head.values("connection").flat_map(|v| v.split(|b| *b == b',')).map(<[u8]>::trim_ascii).collect();
    let is_token = |option: &&[u8]| option.iter().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(b));
    options.len() <= 32 && options.iter().all(is_token)
}

fn has_one_length(head: &Head<'_>) -> bool {
    let mut numbers: Vec<Option<u64>> = Vec::new();
    for part in head.values("content-length").flat_map(|v| v.split(|b| *b == b',')).map(<[u8]>::trim_ascii) {
        let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        numbers.push(std::str::from_utf8(part).ok().filter(|_| digits).and_then(|text| text.parse().ok()));
    }
    numbers.windows(2).all(|pair| pair[0] == pair[1]) && !numbers.contains(&None)
}
