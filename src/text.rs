//! Texts that hold something else: names in braces, and bytes that are percent-encoded.

/// A piece of a text with names in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// As it is meant: `{{` and `}}` stand for a brace.
    Literal(String),
    /// What stands in a pair of braces.
    Name(&'t str),
}

/// The pieces of a text, of which no literal is empty.
///
/// # Errors
/// Braces that do not fit, and the remedy.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut pieces = Vec::new();
    let mut chars = text.chars();
    let mut literal = String::new();
    let push = |literal: &mut String, pieces: &mut Vec<Piece<'_>>| {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(literal)));
        }
    };
    while let Some(c) = chars.next() {
        let left = chars.as_str();
        match c {
            '{' | '}' if left.starts_with(c) => {
                chars.next();
                literal.push(c);
            }
            '{' => {
                let Some((name, left)) = left.split_once('}') else {
                    return Err("a brace is opened and not closed; close it, or write `{{` for a literal brace");
                };
                push(&mut literal, &mut pieces);
                pieces.push(Piece::Name(name));
                chars = left.chars();
            }
            '}' => return Err("a brace is closed that was not opened; write `}}` for a literal brace"),
            c => literal.push(c),
        }
    }
    push(&mut literal, &mut pieces);
    Ok(pieces)
}

/// What percent-encoded bytes stand for (RFC 3986 2.1); a `%` that begins no triplet is a `%`. In a query a `+` is a space.
pub fn decoded(value: &[u8], is_query: bool) -> impl Iterator<Item = u8> {
    let mut left = value;
    std::iter::from_fn(move || {
        let (&b, tail) = left.split_first()?;
        left = tail;
        Some(match (b, triplet(left)) {
            (b'%', Some((byte, tail))) => {
                left = tail;
                byte
            }
            (b'+', _) if is_query => b' ',
            _ => b,
        })
    })
}

/// The byte that two digits behind a `%` stand for, and what follows them.
pub fn triplet(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match after_percent {
        [high, low, tail @ ..] => Some((digit(*high)? << 4 | digit(*low)?, tail)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_names_and_doubled_ones_are_braces() {
        let literal = |text: &str| Piece::Literal(text.to_owned());
        assert_eq!(pieces("a{b}{c}}}{{d"), Ok(vec![literal("a"), Piece::Name("b"), Piece::Name("c"), literal("}{d")]));
        assert_eq!(pieces(""), Ok(vec![]));
        assert!(pieces("{a").is_err() && pieces("a}").is_err());
    }

    #[test]
    fn what_is_no_triplet_is_itself() {
        let text = |value: &str, is_query| decoded(value.as_bytes(), is_query).collect::<Vec<_>>();
        assert_eq!(text("%41%4a+%4%zz%", true), b"AJ %4%zz%");
        assert_eq!(text("a+b", false), b"a+b");
    }
}
