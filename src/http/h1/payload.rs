//! A body as it arrives, whatever delimits it: what of a piece belongs to it, and whether it has ended.

use super::chunked::{ChunkError, Decoder, Limits, Step};
use crate::http::framing::Framing;

/// What is still to come of a body.
#[derive(Debug)]
pub enum Payload {
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 7.1).
    Chunked(Decoder),
    /// All that comes before the connection's end.
    Close,
}

impl Payload {
    /// All of a body that is delimited like this.
    pub fn of(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(n) => Self::Length(n),
            Framing::Chunked => Self::Chunked(Decoder::new(Limits::default())),
            Framing::Close => Self::Close,
        }
    }

    /// Takes the next piece, as [`Decoder::decode`] does.
    ///
    /// # Errors
    /// A [`ChunkError`].
    #[inline]
    pub fn take(&mut self, buf: &mut [u8]) -> Result<Step, ChunkError> {
        match self {
            Self::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= n as u64;
                Ok(Step { consumed: n, data: n, done: *left == 0 })
            }
            Self::Chunked(decoder) => decoder.decode(buf),
            Self::Close => Ok(Step { consumed: buf.len(), data: buf.len(), done: false }),
        }
    }

    /// Bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<usize> {
        match self {
            Self::Length(left) => Some(usize::try_from(*left).unwrap_or(usize::MAX)),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// See [`Decoder::take_trailers`].
    pub fn take_trailers(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Chunked(decoder) => decoder.take_trailers(),
            Self::Length(_) | Self::Close => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ends_where_it_says() {
        let step = |consumed, data, done| Ok(Step { consumed, data, done });
        let mut bytes = *b"abcdef";
        let mut payload = Payload::of(Framing::Length(8));
        assert_eq!((payload.take(&mut bytes), payload.left()), (step(6, 6, false), Some(2)));
        assert_eq!((payload.take(&mut bytes), payload.left()), (step(2, 2, true), Some(0)));
        assert_eq!(Payload::of(Framing::None).take(&mut bytes), step(0, 0, true));
        let mut payload = Payload::of(Framing::Close);
        assert_eq!((payload.take(&mut bytes), payload.left()), (step(6, 6, false), None));
        let mut chunks = *b"2\r\nab\r\n0\r\nx: y\r\n\r\nGET";
        let mut payload = Payload::of(Framing::Chunked);
        assert_eq!(payload.take(&mut chunks), step(18, 2, true));
        assert_eq!((&chunks[..2], payload.take_trailers().as_deref()), (&b"ab"[..], Some(&b"x: y\r\n"[..])));
    }
}
