//! The representative profile of the load tests, for benches: its requests and its config.

use crate::gateway::{ENDPOINT, UPSTREAM};

/// Sizes of request heads, in bytes: the least a client sends, and what a browser sends.
pub(crate) const HEAD_BYTES: [usize; 2] = [60, 1229];
/// With these, 99 routes that overlap, and a catch-all.
const RESOURCES: usize = 33;

/// What the upstream answers: a body of 128 bytes.
pub(crate) fn answer() -> Vec<u8> {
    let mut answer =
        b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/json\r\nContent-Length: 128\r\n\r\n".to_vec();
    answer.extend([b'x'; 128]);
    answer
}

/// One request for each route, each head of `bytes` bytes, in an order that jumps about.
pub(crate) fn requests(bytes: usize) -> Vec<Vec<u8>> {
    let mut paths = vec!["/assets/app.js".to_owned()];
    for i in 1..=RESOURCES {
        let (resource, id) = (format!("/api/v1/res{i}"), 1000 + i * 37);
        paths.extend([format!("{resource}/{id}"), format!("{resource}/{id}/sub"), format!("{resource}/list")]);
    }
    (0..paths.len()).map(|i| padded(&paths[i * 37 % paths.len()], bytes)).collect()
}

/// The host pads the short head, a cookie the long one.
fn padded(path: &str, bytes: usize) -> Vec<u8> {
    let line = format!("GET {path} HTTP/1.1\r\nHost: ");
    let text = if bytes < 100 {
        let pad = bytes - line.len() - ".test\r\n\r\n".len();
        format!("{line}{}.test\r\n\r\n", "h".repeat(pad))
    } else {
        let fields = include_str!("../loadtest/headers.txt").replace('\n', "\r\n");
        let front = format!("{line}api.example.com\r\n{fields}Cookie: session=");
        let pad = bytes - front.len() - "\r\n\r\n".len();
        format!("{front}{}\r\n\r\n", "c".repeat(pad))
    };
    assert_eq!(text.len(), bytes);
    text.into_bytes()
}

/// All deadlines and bounds at their defaults, behind further lines `top`; only connections do not end, since a bench has one.
pub(crate) fn config(top: &str) -> String {
    let mut text = format!(
        "{top}listeners:
  - {{ address: 127.0.0.1:8080, max_requests: none }}
upstreams:
  {UPSTREAM}: {{ endpoints: [\"{ENDPOINT}\"], pool: {{ max_requests: 1000000000 }} }}
admin: off
routes:
  - {{ name: rest, match: {{ path: \"/{{*rest}}\" }}, forward: {{ upstream: {UPSTREAM} }} }}
"
    );
    for i in 1..=RESOURCES {
        for (name, tail) in [("", "/{id}"), ("_sub", "/{id}/sub"), ("_list", "/list")] {
            text += &format!(
                "  - {{ name: res{i}{name}, match: {{ path: \"/api/v1/res{i}{tail}\" }}, forward: {{ upstream: {UPSTREAM} }} }}\n"
            );
        }
    }
    text
}
