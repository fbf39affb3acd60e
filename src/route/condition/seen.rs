//! What two sides of a comparison are, and how they compare. What an answer said is hostile: it can be of any type and
//! size, so nothing here converts one type to another.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::json::{self, Shape};

/// A value as a comparison sees it.
#[derive(Debug, PartialEq)]
pub(super) enum Seen<'a> {
    /// Also what is not there.
    Null,
    Bool(bool),
    /// Its text.
    Number(&'a [u8]),
    /// Without quotes and escapes.
    Text(Cow<'a, [u8]>),
    /// An array or an object.
    Whole,
}

impl<'a> Seen<'a> {
    pub(super) fn text(text: &'a [u8]) -> Self {
        Seen::Text(Cow::Borrowed(text))
    }

    /// Of JSON that was validated; of nothing if there was none.
    pub(super) fn json(json: &'a [u8]) -> Self {
        let json = json::trim(json);
        match json::shape(json) {
            None | Some(Shape::Null) => Seen::Null,
            Some(Shape::True) => Seen::Bool(true),
            Some(Shape::False) => Seen::Bool(false),
            Some(Shape::Number) => Seen::Number(json),
            Some(Shape::Array | Shape::Object) => Seen::Whole,
            Some(Shape::String) => {
                let content = json.strip_prefix(b"\"").and_then(|json| json.strip_suffix(b"\"")).unwrap_or_default();
                if !content.contains(&b'\\') {
                    return Seen::text(content);
                }
                let mut text = Vec::with_capacity(content.len());
                json::unescape(content, &mut text);
                Seen::Text(text.into())
            }
        }
    }

    /// Whether an array has it; of any other JSON, no.
    pub(super) fn is_in(&self, json: &[u8]) -> bool {
        json::shape(json) == Some(Shape::Array) && json::elements(json).any(|element| self.equals(&Seen::json(element)))
    }

    /// Values of different types are unequal, and an array or object is equal to nothing: two of the same content can
    /// be written in many ways.
    pub(super) fn equals(&self, other: &Seen<'_>) -> bool {
        match (self, other) {
            (Seen::Null, Seen::Null) => true,
            (Seen::Bool(a), Seen::Bool(b)) => a == b,
            (Seen::Number(..), Seen::Number(..)) | (Seen::Text(_), Seen::Text(_)) => {
                self.order(other) == Some(Ordering::Equal)
            }
            _ => false,
        }
    }

    /// Only two numbers and two texts have an order, the latter that of their bytes.
    pub(super) fn order(&self, other: &Seen<'_>) -> Option<Ordering> {
        match (self, other) {
            (Seen::Number(a), Seen::Number(b)) => numbers(a, b),
            (Seen::Text(a), Seen::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// Integers of any length are compared exactly: ids beyond 2^53 are common. Others are compared as what a double can
/// tell apart, and those beyond its range have no order.
fn numbers(a: &[u8], b: &[u8]) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => Some(match (a.0, b.0) {
            (true, true) => b.1.cmp(&a.1),
            (a_is_negative, b_is_negative) if a_is_negative == b_is_negative => a.1.cmp(&b.1),
            (a_is_negative, _) => {
                if a_is_negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }),
        _ => double(a)?.partial_cmp(&double(b)?),
    }
}

/// Whether it is negative, and its digits behind their number: JSON has no leading zeros, so these order as they are.
fn integer(text: &[u8]) -> Option<(bool, (usize, &[u8]))> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let negative = digits.len() < text.len() && digits != b"0";
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some((negative, (digits.len(), digits)))
}

fn double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}
