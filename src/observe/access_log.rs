//! The access log's line: one JSON object per request, written on the core that served it.
//!
//! It runs for every request, so it allocates nothing once the buffer has grown, formats the date once a second,
//! and copies a field at once when nothing in it needs escaping.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::log_fields::LogFields;
use super::time::{TimeCache, two_digits};
use crate::socket::SocketName;

/// What stands for the address of a client that has none.
pub const UNIX_CLIENT: &str = "unix:";

/// The facts of one finished request. Bytes are as they came from the wire; sizes count message bytes on the wire.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When the request's first byte came, in µs since 1970-01-01T00:00:00Z.
    pub unix_us: u64,
    /// The client's address, after `trusted_proxies`; one that came over a Unix socket has none, and is shown as `unix:`.
    pub client: Option<IpAddr>,
    /// The request method, empty when the head could not be read.
    pub method: &'a str,
    /// The authority asked for, raw.
    pub host: &'a [u8],
    /// The request target up to its `?`, raw. Queries carry tokens and personal data: none is logged.
    pub path: &'a [u8],
    /// The route's name, or empty (shown as null).
    pub route: &'a str,
    /// The upstream's name, or empty (shown as null).
    pub upstream: &'a str,
    /// The endpoint that answered or failed last.
    pub endpoint: Option<&'a SocketName>,
    /// The status sent to the client, 0 when none was sent.
    pub status: u16,
    /// Bytes received from the client for this request.
    pub bytes_in: u64,
    /// Bytes sent to the client for this request.
    pub bytes_out: u64,
    /// From the first byte of the request to the last byte of the answer, in µs.
    pub total_us: u64,
    /// The part of it spent waiting for the upstream, in µs.
    pub upstream_us: u64,
    /// The part of it that the gateway itself added, in µs: neither the upstream's nor the client's.
    pub added_us: u64,
    /// The code of [`End`](crate::end::End).
    pub end: &'a str,
    /// The request id that was forwarded and answered.
    pub request_id: &'a str,
    /// The parts of an aggregation, as [`write_part`] writes them; empty without one.
    pub parts: &'a [u8],
    /// The content coding that the gateway gave the answer's body, and how many bytes it had before (not shown without).
    pub coding: Option<(&'a str, u64)>,
    /// The filter that refused it, or empty (not shown).
    pub refused_by: &'a str,
    /// Filters that would have refused it but for their `dry_run`, as [`write_name`] writes them; empty (not shown) without.
    pub would_refuse: &'a [u8],
    /// What plugins add; empty (not shown) without.
    pub plugins: &'a LogFields,
    /// What else filters say, as [`write_note`] writes it; empty (not shown) without.
    pub notes: &'a [u8],
}

/// The line without its host and path is smaller than this unless names are very long.
const LINE_BYTES_TYPICAL: usize = 512;

/// Appends the line for `r`, with its newline, to `out`. Text that is not UTF-8 is shown with U+FFFD in its place;
/// control characters, C1 and DEL among them, and what breaks or turns round a line of Unicode are escaped, so that a line is
/// safe to show on a terminal.
pub fn write_json(r: &Record<'_>, clock: &mut TimeCache, out: &mut Vec<u8>) {
    out.reserve(LINE_BYTES_TYPICAL + r.host.len() + r.path.len());
    out.extend_from_slice(b"{\"time\":\"");
    clock.write(r.unix_us, out);
    out.extend_from_slice(b"\",\"client\":\"");
    match r.client {
        Some(address) => ip(address, out),
        None => out.extend_from_slice(UNIX_CLIENT.as_bytes()),
    }
    out.extend_from_slice(b"\",\"method\":");
    string(r.method.as_bytes(), out);
    out.extend_from_slice(b",\"host\":");
    string(r.host, out);
    out.extend_from_slice(b",\"path\":");
    string(r.path, out);
    out.extend_from_slice(b",\"route\":");
    name(r.route, out);
    out.extend_from_slice(b",\"upstream\":");
    name(r.upstream, out);
    out.extend_from_slice(b",\"endpoint\":");
    endpoint(r.endpoint, out);
    out.extend_from_slice(b",\"status\":");
    number(u64::from(r.status), out);
    out.extend_from_slice(b",\"bytes_in\":");
    number(r.bytes_in, out);
    out.extend_from_slice(b",\"bytes_out\":");
    number(r.bytes_out, out);
    out.extend_from_slice(b",\"total_us\":");
    number(r.total_us, out);
    out.extend_from_slice(b",\"upstream_us\":");
    number(r.upstream_us, out);
    out.extend_from_slice(b",\"added_us\":");
    number(r.added_us, out);
    out.extend_from_slice(b",\"end\":");
    string(r.end.as_bytes(), out);
    out.extend_from_slice(b",\"request_id\":");
    string(r.request_id.as_bytes(), out);
    if !r.parts.is_empty() {
        out.extend_from_slice(b",\"parts\":[");
        out.extend_from_slice(r.parts);
        out.push(b']');
    }
    if let Some((coding, bytes)) = r.coding {
        out.extend_from_slice(b",\"coding\":");
        string(coding.as_bytes(), out);
        out.extend_from_slice(b",\"bytes_uncoded\":");
        number(bytes, out);
    }
    if !r.refused_by.is_empty() {
        out.extend_from_slice(b",\"refused_by\":");
        string(r.refused_by.as_bytes(), out);
    }
    if !r.would_refuse.is_empty() {
        out.extend_from_slice(b",\"would_refuse\":[");
        out.extend_from_slice(r.would_refuse);
        out.push(b']');
    }
    if !r.plugins.is_empty() {
        out.extend_from_slice(b",\"plugins\":");
        r.plugins.write(out);
    }
    if !r.notes.is_empty() {
        out.extend_from_slice(b",\"notes\":[");
        out.extend_from_slice(r.notes);
        out.push(b']');
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a name to a list, and a comma if one is there: `"fair"`.
pub fn write_name(name: &str, out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
    string(name.as_bytes(), out);
}

/// Appends what a filter says, in one word of letters and `_`, and a comma if one is there: `"gate:unchecked"`.
pub fn write_note(filter: &str, word: &str, out: &mut Vec<u8>) {
    write_name(filter, out);
    let quote = out.pop();
    out.push(b':');
    out.extend_from_slice(word.as_bytes());
    out.extend(quote);
}

/// Appends one part of an aggregation, and a comma if one is there: `{"name":"user","status":200,"reason":null,"ms":12.345}`.
/// Its status is that of its upstream's answer, its reason the code of a [`PartReason`](crate::end::PartReason).
pub fn write_part(part: &str, status: Option<u16>, reason: Option<&str>, us: u64, out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"name\":");
    string(part.as_bytes(), out);
    out.extend_from_slice(b",\"status\":");
    match status {
        Some(status) => number(status.into(), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"reason\":");
    name(reason.unwrap_or_default(), out);
    out.extend_from_slice(b",\"ms\":");
    millis(us, out);
    out.push(b'}');
}

/// `us` in ms: `12.345`.
pub(super) fn millis(us: u64, out: &mut Vec<u8>) {
    number(us / 1000, out);
    let [tens, ones] = two_digits(us % 100);
    out.extend_from_slice(&[b'.', b'0' + (us % 1000 / 100) as u8, tens, ones]);
}

pub(super) fn number(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn name(text: &str, out: &mut Vec<u8>) {
    if text.is_empty() { out.extend_from_slice(b"null") } else { string(text.as_bytes(), out) }
}

fn endpoint(at: Option<&SocketName>, out: &mut Vec<u8>) {
    let Some(at) = at else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    match at {
        SocketName::Ip(at) => address(*at, out),
        SocketName::Unix(path) => {
            out.extend_from_slice(b"unix:");
            text(path.as_bytes(), out);
        }
    }
    out.push(b'"');
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`
pub(super) fn address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        v4 @ IpAddr::V4(_) => ip(v4, out),
        v6 @ IpAddr::V6(_) => {
            out.push(b'[');
            ip(v6, out);
            out.push(b']');
        }
    }
    out.push(b':');
    number(u64::from(address.port()), out);
}

pub(super) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            octet(a, out);
            out.push(b'.');
            octet(b, out);
            out.push(b'.');
            octet(c, out);
            out.push(b'.');
            octet(d, out);
        }
        // Writing to a Vec can not fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

fn octet(n: u8, out: &mut Vec<u8>) {
    let digits = [b'0' + n / 100, b'0' + n / 10 % 10, b'0' + n % 10];
    match n {
        100.. => out.extend_from_slice(&digits),
        10.. => out.extend_from_slice(&[digits[1], digits[2]]),
        _ => out.push(digits[2]),
    }
}

/// A JSON string (RFC 8259 section 7).
pub(super) fn string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    text(value, out);
    out.push(b'"');
}

/// What stands between the quotes of a JSON string.
#[inline]
pub(super) fn text(value: &[u8], out: &mut Vec<u8>) {
    if value.iter().fold(false, |dirty, &b| dirty | special(b)) {
        escaped(value, out);
    } else {
        out.extend_from_slice(value);
    }
}

/// True for a byte that can not be copied as it is without a closer look. Branch-free, so that the scan vectorizes.
const fn special(b: u8) -> bool {
    (b < 0x20) | (b == b'"') | (b == b'\\') | (b >= 0x7f)
}

/// What breaks a line for readers that know Unicode, or shows text in another order than it has.
const fn moves_text(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cold]
fn escaped(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c.is_control() || moves_text(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::Value;

    static NO_FIELDS: LogFields = LogFields::new();
    static ENDPOINT: std::sync::OnceLock<SocketName> = std::sync::OnceLock::new();

    /// The line of an ordinary request.
    pub(in super::super) fn record() -> Record<'static> {
        Record {
            unix_us: 1_790_000_000_123_456,
            client: "192.0.2.107".parse().ok(),
            method: "GET",
            host: b"api.example.com:8080",
            path: b"/api/v1/user/18446744073709551615/orders",
            route: "user_orders",
            upstream: "users",
            endpoint: Some(ENDPOINT.get_or_init(|| SocketName::Ip("10.20.30.41:9000".parse().unwrap()))),
            status: 200,
            bytes_in: 1234,
            bytes_out: 345,
            total_us: 1543,
            upstream_us: 1500,
            added_us: 43,
            end: "ok",
            request_id: "0192f0c1a2b3c4d5e6f708192a3b4c5d",
            parts: b"",
            coding: None,
            refused_by: "",
            would_refuse: b"",
            plugins: &NO_FIELDS,
            notes: b"",
        }
    }

    fn line(r: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write_json(r, &mut TimeCache::default(), &mut out);
        out
    }

    fn parse(r: &Record<'_>) -> Value {
        let out = line(r);
        assert_eq!(out.iter().position(|&b| b == b'\n'), Some(out.len() - 1), "one line");
        serde_json::from_slice(&out).expect("valid JSON")
    }

    #[test]
    fn a_line_reads_as_documented() {
        assert_eq!(
            String::from_utf8(line(&record())).unwrap(),
            "{\"time\":\"2026-09-21T14:13:20.123456Z\",\"client\":\"192.0.2.107\",\"method\":\"GET\",\
             \"host\":\"api.example.com:8080\",\
             \"path\":\"/api/v1/user/18446744073709551615/orders\",\"route\":\"user_orders\",\
             \"upstream\":\"users\",\"endpoint\":\"10.20.30.41:9000\",\"status\":200,\"bytes_in\":1234,\
             \"bytes_out\":345,\"total_us\":1543,\"upstream_us\":1500,\"added_us\":43,\"end\":\"ok\",\
             \"request_id\":\"0192f0c1a2b3c4d5e6f708192a3b4c5d\"}\n"
        );
    }

    #[test]
    fn parts_are_a_list() {
        let mut parts = Vec::new();
        write_part("user", Some(200), None, 12_045, &mut parts);
        write_part("orders", None, Some("timeout"), 200_999, &mut parts);
        let v = parse(&Record { parts: &parts, ..record() });
        assert_eq!(v["parts"][0], serde_json::json!({"name": "user", "status": 200, "reason": null, "ms": 12.045}));
        assert_eq!(
            v["parts"][1],
            serde_json::json!({"name": "orders", "status": null, "reason": "timeout", "ms": 200.999})
        );
    }

    #[test]
    fn what_is_missing_is_null() {
        let r = Record { route: "", upstream: "", endpoint: None, client: "2001:db8::1".parse().ok(), ..record() };
        let v = parse(&r);
        assert!(v["route"].is_null() && v["upstream"].is_null() && v["endpoint"].is_null());
        assert_eq!(v["client"], "2001:db8::1");
        let endpoint = SocketName::Ip("[2001:db8::2]:443".parse().unwrap());
        let v6 = parse(&Record { endpoint: Some(&endpoint), ..record() });
        assert_eq!(v6["endpoint"], "[2001:db8::2]:443");
    }

    #[test]
    fn no_line_is_broken_or_turned_round_by_unicode() {
        let moving = ['\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
        let still = ['\u{2027}', '\u{202f}', '\u{2065}', '\u{206a}', 'é'];
        for c in moving.into_iter().chain(still) {
            let path = format!("/a{c}b");
            let r = Record { path: path.as_bytes(), ..record() };
            let shown = String::from_utf8(line(&r)).unwrap();
            assert_eq!(shown.contains(c), still.contains(&c), "{:04x}", u32::from(c));
            assert_eq!(parse(&r)["path"], *path);
        }
    }

    #[test]
    fn hostile_text_is_shown_lossily_and_never_breaks_the_line() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..random() % 40 {
                match random() % 6 {
                    0 => bytes.push((random() % 0x20) as u8),
                    1 => bytes.extend(b"\"\\/\x7f\r\n".get((random() % 6) as usize)),
                    2 => bytes.push((random() % 256) as u8),
                    3 => bytes.extend("\u{85}é\u{2028}\u{202e}🦀\u{fffd}".as_bytes()),
                    _ => bytes.push(b'a' + (random() % 26) as u8),
                }
            }
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let r = Record { host: &bytes, path: &bytes, route: &shown, request_id: &shown, ..record() };
            let out = line(&r);
            assert!(
                !String::from_utf8(out).unwrap().trim_end_matches('\n').contains(char::is_control),
                "round {round}: no raw control character"
            );
            let v = parse(&r);
            assert_eq!(v["host"], *shown, "round {round}");
            assert_eq!(v["path"], *shown, "round {round}");
            assert_eq!(v["request_id"], *shown, "round {round}");
        }
    }
}
