//! Content codings (RFC 9110 8.4.1): which one a client takes ([`accept`]), whether an answer may have one and what its head
//! says then ([`head`]), and the encoders behind one face ([`encoder`]). Bytes in, bytes and decisions out: no I/O.

pub mod accept;
pub mod encoder;
pub mod head;

use std::cell::Cell;

use crate::shared::{CompressionMetrics, Rules};

/// A content coding that answers can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in Accept-Encoding and Content-Encoding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The levels that may be chosen. At higher ones 16 KiB of the worst input keep a core for more than a millisecond or
    /// two (gzip 9: 25 ms), or one stream takes several MiB.
    #[must_use]
    pub const fn level_max(self) -> u8 {
        match self {
            Self::Gzip => 6,
            Self::Brotli => 5,
            Self::Zstd => 7,
        }
    }

    /// The level that is used unless another is chosen: what more costs much time for little size.
    #[must_use]
    pub const fn level_default(self) -> u8 {
        match self {
            Self::Gzip => 5,
            Self::Brotli => 4,
            Self::Zstd => 3,
        }
    }
}

/// What is compressed, and how.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The codings with their levels; where a client likes several alike, the first of them.
    pub codings: Vec<(Coding, u8)>,
    /// Types of answers that are worth it.
    pub types: Vec<TypeRange>,
    /// Shorter ones are not, in bytes; those that do not say how long they are might be.
    pub bytes_min: u64,
    /// How many answers this core compresses at a time.
    pub streams_max: usize,
    /// This core's counters.
    pub metrics: CompressionMetrics,
}

/// `application/json`, `text/*` or `application/*+json`; in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRange {
    /// In front of the slash.
    pub kind: String,
    /// Behind it.
    pub subtype: Subtype,
}

/// What stands behind the slash of a [`TypeRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtype {
    /// Anything but event streams: they must be named.
    Any,
    /// This.
    Is(String),
    /// Anything with this suffix, `+` included (RFC 6838 4.2.8).
    EndsWith(String),
}

impl TypeRange {
    /// Whether a type is within it.
    #[must_use]
    pub fn holds(&self, kind: &[u8], subtype: &[u8]) -> bool {
        let ends_with = |end: &str| {
            let at = subtype.len().checked_sub(end.len()).filter(|at| *at > 0);
            at.and_then(|at| subtype.get(at..)).is_some_and(|own| own.eq_ignore_ascii_case(end.as_bytes()))
        };
        kind.eq_ignore_ascii_case(self.kind.as_bytes())
            && match &self.subtype {
                Subtype::Any => !subtype.eq_ignore_ascii_case(b"event-stream"),
                Subtype::Is(own) => subtype.eq_ignore_ascii_case(own.as_bytes()),
                Subtype::EndsWith(end) => ends_with(end),
            }
    }
}

/// What is known of one request's answer: may it be compressed, and what became of that.
#[derive(Debug, Default)]
pub struct Compression {
    policy: Option<Rules<Policy>>,
    wanted: Option<(Coding, u8)>,
    is_forbidden: bool,
    done: Cell<Option<Done>>,
}

/// An answer that was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// How.
    pub coding: Coding,
    /// How many bytes it had before.
    pub bytes: u64,
}

impl Compression {
    /// The answer may be compressed by these rules, as the client `wanted`; `is_forbidden`: it wants its bytes as they are
    /// (RFC 9111 5.2.1.6).
    pub fn begin(&mut self, policy: &Rules<Policy>, wanted: Option<(Coding, u8)>, is_forbidden: bool) {
        *self = Self { policy: Some(Rules::clone(policy)), wanted, is_forbidden, done: Cell::new(None) };
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        if self.policy.is_some() {
            *self = Self::default();
        }
    }

    /// The rules, if the answer may be compressed at all: the one question that every answer is asked.
    #[inline]
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_deref()
    }

    /// The coding that the client takes, and its level.
    #[must_use]
    pub fn wanted(&self) -> Option<(Coding, u8)> {
        self.wanted
    }

    /// Whether the client wants its bytes as they are.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.is_forbidden
    }

    /// Notes that it was compressed.
    pub fn note(&self, done: Done) {
        self.done.set(Some(done));
    }

    /// Whether and how it was compressed.
    #[must_use]
    pub fn done(&self) -> Option<Done> {
        self.done.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_types_by_name_suffix_or_all() {
        let range = |kind: &str, subtype| TypeRange { kind: kind.into(), subtype };
        let json = range("application", Subtype::EndsWith("+json".into()));
        assert!(json.holds(b"application", b"vnd.api+json") && json.holds(b"Application", b"LD+JSON"));
        assert!(!json.holds(b"application", b"json") && !json.holds(b"application", b"+json"));
        assert!(!json.holds(b"text", b"a+json") && !json.holds(b"application", b""));
        let text = range("text", Subtype::Any);
        assert!(text.holds(b"text", b"html") && text.holds(b"TEXT", b"x") && !text.holds(b"text", b"Event-Stream"));
        let events = range("text", Subtype::Is("event-stream".into()));
        assert!(events.holds(b"text", b"event-stream") && !events.holds(b"text", b"event-streams"));
    }
}
