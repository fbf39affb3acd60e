//! May a request be sent again?
//!
//! Once, on a fresh connection, when a reused one broke before any byte of the answer: the upstream had most likely closed
//! it while idle. Only idempotent methods, since it can not be known (RFC 9110 9.2.2), and only if the whole request is
//! still at hand.
//!
//! A connection that did not come about is another matter, since nothing was sent: see `checkout.rs`.

use crate::error::{Error, Retry};

/// What is known about the failed try.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// It went over a connection that had carried a request before.
    pub reused: bool,
    /// It was a second try already.
    pub again: bool,
    /// The method is idempotent.
    pub idempotent: bool,
    /// All of the request's bytes are still at hand.
    pub replayable: bool,
}

/// Whether to send the request again.
pub fn may_retry(error: &Error, tried: Try) -> bool {
    error.retry == Retry::Safe && tried.reused && !tried.again && tried.idempotent && tried.replayable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn each_condition_is_needed() {
        let good = Try { reused: true, again: false, idempotent: true, replayable: true };
        let broke = Kind::Reset.safe();
        assert!(may_retry(&broke, good));
        assert!(!may_retry(&Kind::Reset.never(), good));
        for bad in [
            Try { reused: false, ..good },
            Try { again: true, ..good },
            Try { idempotent: false, ..good },
            Try { replayable: false, ..good },
        ] {
            assert!(!may_retry(&broke, bad));
        }
    }
}
