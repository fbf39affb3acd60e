//! Fields that tell a client how much of its limits is left: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4), and by option the `X-RateLimit-*` that came before them.
//!
//! `q` is the burst and `w` how long it takes to come in, in seconds: a client that keeps to that is never over the rate.
//! Every policy is told, but only the tightest limit's state: the one of which the smallest share is left. `r` is what is
//! left and `t` when it will be whole again; after a refusal both `t` and `Retry-After` say when to come again.

use super::encode;

/// What a request was told of its limits. Its memory is reused from request to request.
#[derive(Debug, Default)]
pub struct Quota {
    policies: Vec<u8>,
    tightest: Option<Left>,
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy)]
struct Left {
    /// Its name, with quotes, within [`Quota::policies`].
    name: (usize, usize),
    quota: u64,
    remaining: u64,
    wait_s: u64,
    is_refused: bool,
    legacy: bool,
}

/// A limit's policy, ready to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The whole line.
    line: Box<[u8]>,
    /// Where the name is in it, with quotes.
    name: (usize, usize),
    quota: u64,
    legacy: bool,
}

/// The names that came before the draft; an upstream's own would contradict ours.
pub const LEGACY: [&str; 3] = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

impl Policy {
    /// The policy of the limit `name`, which is visible ASCII without `"` and `\\`: `quota` tokens at most, which come in
    /// within `window_s` seconds. With `legacy` `X-RateLimit-*` is written as well.
    #[must_use]
    pub fn new(name: &str, quota: u64, window_s: u64, legacy: bool) -> Self {
        let mut line = b"RateLimit-Policy: ".to_vec();
        let start = line.len();
        line.push(b'"');
        line.extend_from_slice(name.as_bytes());
        line.push(b'"');
        let end = line.len();
        line.extend_from_slice(b";q=");
        encode::number(quota, &mut line);
        line.extend_from_slice(b";w=");
        encode::number(window_s, &mut line);
        line.extend_from_slice(b"\r\n");
        Self { line: line.into(), name: (start, end), quota, legacy }
    }

    /// Whether `X-RateLimit-*` is written as well.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        self.legacy
    }
}

impl Quota {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.policies.clear();
        self.tightest = None;
    }

    /// A limit decided: `remaining` of it is left, whole again or (if it refused) enough again in `wait_s` seconds.
    pub fn add(&mut self, policy: &Policy, remaining: u64, wait_s: u64, is_refused: bool) {
        let at = self.policies.len();
        self.policies.extend_from_slice(&policy.line);
        let Policy { name: (start, end), quota, legacy, .. } = *policy;
        let left = Left { name: (at + start, at + end), quota, remaining, wait_s, is_refused, legacy };
        if self.tightest.is_none_or(|tightest| left.is_tighter_than(&tightest)) {
            self.tightest = Some(left);
        }
    }

    /// Appends the lines, each with its CRLF; none if no limit decided.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Some(left) = self.tightest else { return };
        out.extend_from_slice(&self.policies);
        out.extend_from_slice(b"RateLimit: ");
        out.extend_from_slice(self.policies.get(left.name.0..left.name.1).unwrap_or_default());
        out.extend_from_slice(b";r=");
        encode::number(left.remaining, out);
        out.extend_from_slice(b";t=");
        encode::number(left.wait_s, out);
        out.extend_from_slice(b"\r\n");
        if left.legacy {
            for (name, n) in LEGACY.iter().zip([left.quota, left.remaining, left.wait_s]) {
                encode::field_of(name.as_bytes(), |out| encode::number(n, out), out);
            }
        }
    }
}

impl Left {
    fn is_tighter_than(&self, other: &Left) -> bool {
        let share = |of: &Left, by: &Left| u128::from(of.remaining) * u128::from(by.quota);
        (other.is_refused, share(self, other)) < (self.is_refused, share(other, self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(quota: &Quota) -> String {
        let mut out = Vec::new();
        quota.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn second() -> Policy {
        Policy::new("second", 10, 1, false)
    }

    fn day() -> Policy {
        Policy::new("day", 1000, 86_400, true)
    }

    #[test]
    fn nothing_is_said_without_a_limit() {
        let mut quota = Quota::default();
        assert_eq!(text(&quota), "");
        quota.add(&second(), 9, 1, false);
        quota.clear();
        assert_eq!(text(&quota), "");
    }

    #[test]
    fn all_policies_and_the_tightest_state() {
        let mut quota = Quota::default();
        quota.add(&second(), 9, 1, false);
        quota.add(&day(), 901, 8554, false);
        assert_eq!(
            text(&quota),
            "RateLimit-Policy: \"second\";q=10;w=1\r\nRateLimit-Policy: \"day\";q=1000;w=86400\r\n\
             RateLimit: \"second\";r=9;t=1\r\n"
        );
        quota.add(&day(), 5, 3, false);
        assert!(text(&quota).ends_with(
            "RateLimit: \"day\";r=5;t=3\r\nX-RateLimit-Limit: 1000\r\nX-RateLimit-Remaining: 5\r\nX-RateLimit-Reset: 3\r\n"
        ));
    }

    #[test]
    fn a_refusal_is_the_tightest_whatever_is_left() {
        let mut quota = Quota::default();
        quota.add(&second(), 4, 7, true); // a request that costs 5
        quota.add(&day(), 1, 3, false);
        assert!(text(&quota).contains("RateLimit: \"second\";r=4;t=7\r\n"));
        let mut quota = Quota::default();
        quota.add(&day(), 1, 3, false);
        quota.add(&second(), 4, 7, true);
        assert!(text(&quota).contains("RateLimit: \"second\";r=4;t=7\r\n"));
    }
}
