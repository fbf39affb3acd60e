//! JSON strings (RFC 8259 7) out of text.

use super::swar::plain;

/// Appends a JSON string with its quotes; what is not UTF-8 becomes U+FFFD. DEL is escaped like the controls, since
/// terminals and logs take it for one.
pub fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_string_content(text, out);
    out.push(b'"');
}

/// As [`push_string`], without the quotes: for strings that are put together.
pub fn push_string_content(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        push_valid(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

fn push_valid(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let run = rest.get(..plain(rest).len).unwrap_or_default();
        let run = run.get(..memchr::memchr(0x7F, run).unwrap_or(run.len())).unwrap_or_default();
        out.extend_from_slice(run);
        let Some((&byte, tail)) = rest.get(run.len()..).and_then(<[u8]>::split_first) else { return };
        rest = tail;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: [u8; 16] = *b"0123456789abcdef";
                let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::samples::Random;
    use super::*;

    fn string(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped() {
        for (text, expected) in [
            (&b""[..], r#""""#),
            (b"plain / text", r#""plain / text""#),
            (b"\"\\\"", r#""\"\\\"""#),
            (b"\0\x08\x0C\n\r\t\x1F\x7F", r#""\u0000\u0008\u000c\n\r\t\u001f\u007f""#),
            ("é 漢 😀 \u{2028}".as_bytes(), "\"é 漢 😀 \u{2028}\""),
            (b"a\xFFb\xE2\x82c\xED\xA0\x80", "\"a\u{FFFD}b\u{FFFD}c\u{FFFD}\u{FFFD}\u{FFFD}\""),
            (b"0123456789\x7F0123456789\"", "\"0123456789\\u007f0123456789\\\"\""),
        ] {
            assert_eq!(string(text), expected);
        }
    }

    #[test]
    fn any_bytes_become_a_string_that_reads_back_as_they_are() {
        let mut random = Random(0x1234_5678_9ABC_DEF1);
        for _ in 0..5000 {
            let len = random.below(40);
            // Half of it ASCII, or there would hardly be a run of anything.
            let text: Vec<u8> =
                (0..len).map(|_| random.below(256).to_le_bytes()[0] & random.of(&[0x7F, 0xFF])).collect();
            let written = string(&text);
            assert!(!written.bytes().any(|b| b.is_ascii_control()));
            let read: String = serde_json::from_str(&written).unwrap();
            assert_eq!(read, String::from_utf8_lossy(&text));
        }
    }
}
