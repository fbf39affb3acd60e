//! Where answers end. Bytes from Redis are counted before anything is made of them: the decoder behind this reserves
//! memory for as many items as a header announces, and an array of 2^63 would end the process. No I/O.

use super::fault::Fault;

/// An answer to everything that is asked at once: 2,048 keys take 60 KiB, the map of a large cluster as much.
const BYTES_MAX: usize = 1 << 20;
/// Values in it, with those in arrays.
const VALUES_MAX: u64 = 1 << 16;
/// Digits of a length.
const DIGITS_MAX: usize = 20;

/// Counts replies (RESP 2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>) as their bytes come in.
#[derive(Debug)]
pub(super) struct Frames {
    /// Replies that have not ended.
    left: usize,
    /// Values until the reply ends that is coming in.
    pending: u64,
    values: u64,
    bytes: usize,
    at: At,
}

#[derive(Debug)]
enum At {
    /// A value begins.
    Start,
    /// In a line that is a value.
    Line,
    /// In the line with a length of an array or a string.
    Length { is_array: bool, digits: [u8; DIGITS_MAX], n: usize },
    /// In a string: so many bytes are left, with the line's end after it.
    Text(u64),
}

impl Frames {
    /// So many replies are to come.
    pub(super) fn new(replies: usize) -> Self {
        Self { left: replies, pending: 1, values: 0, bytes: 0, at: At::Start }
    }

    /// Whether all of them are there.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// These bytes have come.
    ///
    /// # Errors
    /// They are no replies, too large, or more than were asked for.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        self.bytes += bytes.len();
        if self.bytes > BYTES_MAX {
            return Err(Fault::nonsense("an answer that is too large"));
        }
        while let Some((byte, rest)) = bytes.split_first() {
            if self.left == 0 {
                return Err(Fault::nonsense("more than what was asked for"));
            }
            if let At::Text(left) = &mut self.at {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= n as u64;
                bytes = bytes.get(n..).unwrap_or_default();
                if *left == 0 {
                    self.value_ends();
                }
                continue;
            }
            bytes = rest;
            self.byte(*byte)?;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        match &mut self.at {
            At::Start => {
                self.values += 1;
                if self.values > VALUES_MAX {
                    return Err(Fault::nonsense("an answer with too many values"));
                }
                self.at = match byte {
                    b'+' | b'-' | b':' => At::Line,
                    b'$' | b'*' => At::Length { is_array: byte == b'*', digits: [0; DIGITS_MAX], n: 0 },
                    _ => return Err(Fault::nonsense("what is no answer of Redis")),
                };
            }
            At::Line if byte == b'\n' => self.value_ends(),
            At::Line | At::Text(_) => {}
            At::Length { is_array, digits, n } => {
                if byte != b'\n' {
                    *digits.get_mut(*n).ok_or_else(|| Fault::nonsense("a length that is none"))? = byte;
                    *n += 1;
                    return Ok(());
                }
                let text = digits.get(..*n).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
                let length: i64 = text.trim().parse().map_err(|_| Fault::nonsense("a length that is none"))?;
                let is_array = *is_array;
                self.length(is_array, length)?;
            }
        }
        Ok(())
    }

    fn length(&mut self, is_array: bool, length: i64) -> Result<(), Fault> {
        match (is_array, u64::try_from(length)) {
            // -1 is no value.
            (_, Err(_)) => self.value_ends(),
            (true, Ok(items)) if items > VALUES_MAX => {
                return Err(Fault::nonsense("an array that is too long"));
            }
            (true, Ok(items)) => {
                self.pending += items;
                self.value_ends();
            }
            (false, Ok(bytes)) if bytes > BYTES_MAX as u64 => {
                return Err(Fault::nonsense("a string that is too long"));
            }
            (false, Ok(bytes)) => self.at = At::Text(bytes + 2),
        }
        Ok(())
    }

    fn value_ends(&mut self) {
        self.at = At::Start;
        self.pending -= 1;
        if self.pending == 0 {
            self.left -= 1;
            self.pending = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ends_at(text: &str, replies: usize) -> Option<usize> {
        let mut frames = Frames::new(replies);
        for (i, byte) in text.bytes().enumerate() {
            frames.feed(&[byte]).unwrap();
            if frames.is_done() {
                return Some(i + 1);
            }
        }
        None
    }

    #[test]
    fn a_reply_ends_where_it_ends_however_it_comes() {
        for text in ["+OK\r\n", "-ERR no\r\n", ":-5\r\n", "$3\r\nabc\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n"]
        {
            assert_eq!(ends_at(text, 1), Some(text.len()), "{text:?}");
        }
        let nested = "*3\r\n*2\r\n:1\r\n$2\r\n\r\n\r\n*0\r\n+x\r\n";
        assert_eq!(ends_at(nested, 1), Some(nested.len()));
        let two = format!("{nested}:1\r\n");
        assert_eq!((ends_at(&two, 2), ends_at(nested, 2)), (Some(two.len()), None));
        let mut whole = Frames::new(2);
        whole.feed(two.as_bytes()).unwrap();
        assert!(whole.is_done());
    }

    #[test]
    fn what_is_no_answer_is_refused_before_it_costs_memory() {
        for text in [
            "*9223372036854775807\r\n",
            "*65537\r\n",
            "$9223372036854775807\r\n",
            "$1048577\r\n",
            "$x\r\n",
            "*1e3\r\n",
            "*000000000000000000000000001\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "%1\r\n",
            ":1\r\n:2\r\n",
            "*65536\r\n*65536\r\n",
        ] {
            let mut frames = Frames::new(1);
            let fed = frames.feed(text.as_bytes());
            assert!(fed.is_err() || !frames.is_done(), "{text:?}");
        }
        let mut endless = Frames::new(1);
        let refused = (0..2_000).any(|_| endless.feed(&[b'+'; 1000]).is_err());
        assert!(refused, "a line without an end");
        let mut values = Frames::new(1);
        assert!((0..70_000).any(|_| values.feed(b"*9\r\n").is_err()), "arrays in arrays");
    }
}
