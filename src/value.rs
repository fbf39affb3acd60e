//! Values that carry their unit, as an operator writes them: [`Duration`] `250ms`, [`ByteSize`] `64KiB` and [`Rate`]
//! `100/s`. There is one way to write each: a whole number directly followed by its unit. And [`Secret`]s.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a value: a predicate about the text ("is not a time: it has no unit") and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong, to be read after the text it is about.
    pub what: String,
    /// What would be right; empty where nothing better can be said.
    pub remedy: String,
}

impl Invalid {
    /// A fault and its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", self.remedy) }
    }
}

impl std::error::Error for Invalid {}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A length of time in whole milliseconds, written `250ms`, `5s`, `1m`, `1h` or `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// Largest first, so that Display picks the largest unit that divides exactly. Lengths are in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Duration {
    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(std::time::Duration::from_millis(ms))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// The same length in the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = Invalid;

    /// # Errors
    /// When the text is not a whole number directly followed by a unit, or is longer than 2^64 ms.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ms = quantity(text, "a time", "5s", &TIME_UNITS)?;
        Ok(Self::from_millis(ms))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, length_ms) in TIME_UNITS {
            let length_ms = u128::from(length_ms);
            if ms != 0 && ms.is_multiple_of(length_ms) {
                return write!(f, "{}{unit}", ms / length_ms);
            }
        }
        f.write_str("0s")
    }
}

/// A number of bytes, written `512B`, `64KiB`, `1MiB`, `1GiB` (powers of 1024) or `10KB`, `10MB`, `1GB` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Largest first, so that Display picks the largest unit that divides exactly.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many units of 1024 bytes; more than fit are as many as fit.
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1024))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = Invalid;

    /// # Errors
    /// When the text is not a whole number directly followed by a unit, or is more than 2^64 bytes.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        quantity(text, "a size", "64KiB", &SIZE_UNITS).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in SIZE_UNITS {
            if self.0 != 0 && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        f.write_str("0B")
    }
}

/// How many in which time, written `100/s`, `10/m`, `1000/h`, `5/d`, or `20/10s` for a time of another length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    per: Duration,
}

impl Rate {
    /// `count` in `per`.
    pub const fn new(count: u64, per: Duration) -> Self {
        Self { count, per }
    }

    /// How many.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// In which time.
    pub const fn per(self) -> Duration {
        self.per
    }
}

impl FromStr for Rate {
    type Err = Invalid;

    /// # Errors
    /// When the text is not a whole number, a slash and a time, or one of the two is zero.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXAMPLE: &str = "write how many in which time, like 100/s, 10/m or 20/10s";
        let (count, per) = text.split_once('/').ok_or_else(|| Invalid::new("is not a rate", EXAMPLE))?;
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            let what = format!("is not a rate: `{count}` is not a whole number");
            // A fraction has a whole number in a longer time.
            return Err(Invalid::new(what, format!("{EXAMPLE}; for 1.5/s write 3/2s")));
        }
        let count: u64 = count.parse().map_err(|_| too_large("a rate"))?;
        // The number of a time may be left out here: `/s` is short for `/1s`.
        let alone = per.starts_with(|c: char| c.is_ascii_alphabetic());
        let per = if alone { format!("1{per}").parse() } else { per.parse::<Duration>() };
        let per = per.map_err(|fault| Invalid::new(format!("is not a rate: its time {}", fault.what), EXAMPLE))?;
        if count == 0 || per.get().is_zero() {
            return Err(Invalid::new("is not a rate: it lets nothing pass", EXAMPLE));
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.to_string();
        let alone = per.strip_prefix('1').filter(|unit| unit.starts_with(|c: char| c.is_ascii_alphabetic()));
        write!(f, "{}/{}", self.count, alone.unwrap_or(&per))
    }
}

/// Read as an operator writes them.
macro_rules! read_by_text {
    ($($value:ty)*) => {$(
        impl<'de> serde::Deserialize<'de> for $value {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
read_by_text!(Duration ByteSize Rate);

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

/// A whole number and a unit, as the product of both.
fn quantity(text: &str, kind: &str, example: &str, units: &[(&str, u64)]) -> Result<u64, Invalid> {
    let known = || units.iter().rev().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ");
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    if number.is_empty() {
        return Err(Invalid::new(format!("is not {kind}"), format!("write a whole number and a unit, like {example}")));
    }
    if unit.is_empty() {
        let remedy = format!("write a unit directly after the number, like {example}: {}", known());
        return Err(Invalid::new(format!("is not {kind}: it has no unit"), remedy));
    }
    if unit.starts_with('.') {
        let what = format!("is not {kind}: it has a fraction");
        return Err(Invalid::new(what, format!("write a whole number of a smaller unit: {}", known())));
    }
    if unit.trim_start() != unit {
        let remedy = format!("write the unit directly after the number, like {example}");
        return Err(Invalid::new(format!("is not {kind}: it has a space in it"), remedy));
    }
    let Some((_, length)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(Invalid::new(format!("is not {kind}: its unit is unknown"), format!("the units are {}", known())));
    };
    let number: u64 = number.parse().map_err(|_| too_large(kind))?;
    number.checked_mul(*length).ok_or_else(|| too_large(kind))
}

fn too_large(kind: &str) -> Invalid {
    Invalid::new(format!("is not {kind} that can be counted: it is too large"), "")
}

/// A share as so many of a million: `5%`, `0.1%`; at most four digits behind the point, which is one of a million.
///
/// # Errors
/// It is none.
pub fn per_million(text: &str) -> Result<u32, Invalid> {
    let invalid = || Invalid::new("is no share of the requests", "write a percentage from 0% to 100%, like 5% or 0.1%");
    let number = text.strip_suffix('%').ok_or_else(invalid)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 3) || !digits(fraction, 4) {
        return Err(invalid());
    }
    let parts: Option<u32> = format!("{whole}{fraction:0<4}").parse().ok();
    parts.filter(|parts| *parts <= 1_000_000).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_and_sizes_read_back_as_written() {
        for text in ["250ms", "5s", "1m", "90m", "1h", "1d", "0s"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        for text in ["64KiB", "1MiB", "10MB", "512B", "3GiB", "1KB", "0B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("1h".parse(), Ok(Duration::from_secs(3600)));
        assert_eq!("60s".parse::<Duration>().unwrap().to_string(), "1m");
        assert_eq!("10MB".parse(), Ok(ByteSize::from_bytes(10_000_000)));
    }

    #[test]
    fn rates_read_back_as_written() {
        for text in ["100/s", "10/m", "1000/h", "5/d", "20/10s", "1/250ms"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("60/60s".parse::<Rate>().unwrap().to_string(), "60/m");
        let error = |text: &str| text.parse::<Rate>().unwrap_err().to_string();
        assert_eq!(error("100"), "is not a rate (write how many in which time, like 100/s, 10/m or 20/10s)");
        for text in ["0/s", "1/0s"] {
            assert!(error(text).contains("lets nothing pass"), "{text}");
        }
        for text in ["/s", "-1/s", "1.5/s", "a/s"] {
            assert!(error(text).contains("is not a whole number"), "{text}");
        }
        assert!(error("1/").contains("its time is not a time") && error("1/w").contains("unit is unknown"));
        assert!(error("99999999999999999999/s").contains("too large"));
    }

    #[test]
    fn a_wrong_text_is_told_what_is_right() {
        let error = |text: &str| text.parse::<Duration>().unwrap_err().to_string();
        assert_eq!(
            error("5"),
            "is not a time: it has no unit (write a unit directly after the number, like 5s: ms, s, m, h, d)"
        );
        assert_eq!(
            error("5 s"),
            "is not a time: it has a space in it (write the unit directly after the number, like 5s)"
        );
        assert_eq!(error("fast"), "is not a time (write a whole number and a unit, like 5s)");
        assert!(error("1.5s").contains("fraction"));
        assert!(error("-1s").contains("whole number"));
        assert!(error("99999999999999999999ms").contains("too large"));
        assert!(error("999999999999999999d").contains("too large"));
        assert!("64k".parse::<ByteSize>().unwrap_err().to_string().contains("B, KB, KiB"));
        assert!("".parse::<ByteSize>().is_err() && "５KiB".parse::<ByteSize>().is_err());
    }
}
