//! The times of log lines, of which the second is written once a second.

/// The text of the current second, one per core.
#[derive(Debug, Clone)]
pub struct TimeCache {
    second: u64,
    /// `2026-01-31T23:59:59.` (RFC 3339)
    text: [u8; TEXT_BYTES],
    /// `31/Jan/2026:23:59:59 +0000`
    common: [u8; COMMON_BYTES],
}

/// `YYYY-MM-DDThh:mm:ss.`
const TEXT_BYTES: usize = 20;
/// `DD/Mon/YYYY:hh:mm:ss +0000`
const COMMON_BYTES: usize = 26;
const SECONDS_PER_DAY: u64 = 86_400;
/// 9999-12-31T23:59:59Z: a later clock is shown as this, since RFC 3339 has four digits for the year.
const SECOND_MAX: u64 = 253_402_300_799;
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Default for TimeCache {
    fn default() -> Self {
        let mut cache =
            TimeCache { second: u64::MAX, text: *b"1970-01-01T00:00:00.", common: *b"01/Jan/1970:00:00:00 +0000" };
        cache.refresh(0);
        cache
    }
}

impl TimeCache {
    fn refresh(&mut self, second: u64) {
        self.second = second;
        let shown = second.min(SECOND_MAX);
        let (year, month, day) = civil_from_days(shown / SECONDS_PER_DAY);
        let clock = shown % SECONDS_PER_DAY;
        let [y0, y1] = two_digits(year / 100);
        let [y2, y3] = two_digits(year % 100);
        let [m0, m1] = two_digits(month);
        let [d0, d1] = two_digits(day);
        let [h0, h1] = two_digits(clock / 3600);
        let [i0, i1] = two_digits(clock / 60 % 60);
        let [s0, s1] = two_digits(clock % 60);
        self.text = [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1, b'.'];
        let [n0, n1, n2] = **MONTHS.iter().cycle().nth(month.saturating_sub(1) as usize).unwrap_or(&b"Jan");
        self.common = [
            d0, d1, b'/', n0, n1, n2, b'/', y0, y1, y2, y3, b':', h0, h1, b':', i0, i1, b':', s0, s1, b' ', b'+', b'0',
            b'0', b'0', b'0',
        ];
    }

    fn turn(&mut self, unix_us: u64) {
        let second = unix_us / 1_000_000;
        if second != self.second {
            self.refresh(second);
        }
    }

    /// `2026-01-31T23:59:59.123456Z`
    pub(super) fn write(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        self.turn(unix_us);
        let us = unix_us % 1_000_000;
        let [a, b] = two_digits(us / 10_000);
        let [c, d] = two_digits(us / 100 % 100);
        let [e, f] = two_digits(us % 100);
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&[a, b, c, d, e, f, b'Z']);
    }

    /// `31/Jan/2026:23:59:59 +0000`, as in the common log format.
    pub(super) fn write_common(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        self.turn(unix_us);
        out.extend_from_slice(&self.common);
    }
}

/// The last two decimal digits of `n`.
pub(super) const fn two_digits(n: u64) -> [u8; 2] {
    [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8]
}

/// The proleptic Gregorian date of a day counted from 1970-01-01: H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`, for days that are not negative.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468; // from 0000-03-01, so that a leap day ends its year
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_agree_with_a_calendar_library() {
        let mut cache = TimeCache::default();
        let mut check = |second: i64| {
            let (mut out, mut common) = (Vec::new(), Vec::new());
            let us = u64::try_from(second).unwrap() * 1_000_000 + 7;
            cache.write(us, &mut out);
            cache.write_common(us, &mut common);
            let time = jiff::Timestamp::from_second(second).unwrap();
            let expected = time.strftime("%Y-%m-%dT%H:%M:%S.000007Z").to_string();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            // The English names take time; every 20th is enough for those.
            if second % 20 == 0 {
                let expected = time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
                assert_eq!(String::from_utf8(common).unwrap(), expected);
            }
        };
        // Every 5 days and some hours up to the year 9000, and the last second there is.
        (0..500_000).for_each(|i| check(i * (5 * 86_400 + 12_345)));
        [0, 951_782_399, 951_782_400, 951_868_800, 4_107_542_399, 4_107_542_400].into_iter().for_each(check);
        let mut out = Vec::new();
        cache.write(u64::MAX, &mut out);
        assert!(out.starts_with(b"9999-12-31T23:59:59."));
    }
}
