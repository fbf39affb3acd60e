//! Whether Redis answers, as operators see it: readiness and metrics, which follow at once, and a line in the log per
//! change, which does not follow each. It decides nothing: a core knows by itself when there was no answer for too long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::report::{counted, report};
use super::fault::Fault;
use crate::limit::sync::Flows;
use crate::shared::metrics::{Counter, Histogram, TIME_BOUNDS_US, Times};

/// Without an answer for so long it is away: as long as limits wait by default.
const AWAY_AFTER: Duration = Duration::from_millis(250);
/// Having answered in time for so long, and lost nothing, it is said to be back.
const BACK_AFTER: Duration = Duration::from_secs(1);
/// A Redis that comes and goes is said to be away so often at most: four lines a minute, whatever it does.
const AWAY_EVERY: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is known of Redis.
#[derive(Debug)]
pub struct Status {
    place: String,
    /// The first answer was there.
    pub(super) first: Notify,
    /// Keys asked about.
    pub(super) questions: Counter,
    /// Questions without an answer.
    pub(super) lost: Counter,
    /// Connections made after the first.
    pub(super) reconnects: Counter,
    /// Times of answers.
    pub(super) answers: Histogram,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    /// `None` until it is known.
    is_up: Option<bool>,
    since: Instant,
    /// When a heartbeat that was answered in time was sent; before the first, when this began.
    contact: Instant,
    has_contact: bool,
    /// When something failed last.
    failed: Option<Instant>,
    /// Since when it is away, as far as the log has said.
    told_since: Option<Instant>,
    /// When that was said last.
    told: Option<Instant>,
    processes: u64,
    cause: String,
    flows: Vec<(String, Flows)>,
}

/// The same, to be shown.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Whether it answers.
    pub is_up: bool,
    /// For how long that has been so.
    pub since_s: u64,
    /// Processes that live, as counted last.
    pub processes: u64,
    /// Why it does not answer; empty when it does.
    pub cause: String,
    /// Keys asked about.
    pub questions: u64,
    /// Questions without an answer.
    pub lost: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Times of answers.
    pub answers: Times,
    /// By the name of a limit.
    pub flows: Vec<(String, Flows)>,
}

impl Status {
    pub(super) fn new(place: String) -> Self {
        let now = Instant::now();
        Self {
            place,
            first: Notify::new(),
            questions: Counter::default(),
            lost: Counter::default(),
            reconnects: Counter::default(),
            answers: Histogram::new(&TIME_BOUNDS_US),
            now: Mutex::new(Now {
                is_up: None,
                since: now,
                contact: now,
                has_contact: false,
                failed: None,
                told_since: None,
                told: None,
                processes: 0,
                cause: "there was no answer yet".into(),
                flows: Vec::new(),
            }),
        }
    }

    /// What is known now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let mut answers = Times::default();
        self.answers.add_to(&mut answers);
        let now = self.now();
        let is_up = now.is_up == Some(true);
        Facts {
            is_up,
            since_s: now.since.elapsed().as_secs(),
            processes: now.processes,
            cause: if is_up { String::new() } else { now.cause.clone() },
            questions: self.questions.get(),
            lost: self.lost.get(),
            reconnects: self.reconnects.get(),
            answers,
            flows: now.flows.clone(),
        }
    }

    /// A heartbeat was answered, `ago` after it was sent.
    pub(super) fn heard(&self, ago: Duration, processes: u64) {
        let mut now = self.now();
        let at = Instant::now();
        now.contact = at.checked_sub(ago).unwrap_or(at);
        now.processes = processes;
        if !std::mem::replace(&mut now.has_contact, true) {
            (now.is_up, now.since) = (Some(true), at);
            self.first.notify_one();
        }
    }

    /// Why there is no answer.
    pub(super) fn failed(&self, fault: &Fault) {
        let mut now = self.now();
        now.cause = fault.to_string();
        now.failed = Some(Instant::now());
    }

    /// What became of the limits' tokens.
    pub(super) fn set_flows<'a>(&self, flows: impl Iterator<Item = (&'a str, Flows)>) {
        let now = &mut *self.now();
        let mut n = 0;
        for (i, (name, flows)) in flows.enumerate() {
            match now.flows.get_mut(i) {
                Some(known) if known.0 == name => known.1 = flows,
                Some(other) => *other = (name.to_owned(), flows),
                None => now.flows.push((name.to_owned(), flows)),
            }
            n = i + 1;
        }
        now.flows.truncate(n);
    }

    /// Says when it goes away and comes back, for as long as it runs.
    pub(super) async fn watch(&self) {
        let mut was_silent = false;
        loop {
            sleep(LOOK_EVERY).await;
            let is_silent = self.now().contact.elapsed() > AWAY_AFTER;
            // Once more: when control itself was busy for long, the answer may be there and not read.
            if let Some(line) = self.judge(Instant::now(), is_silent && was_silent, is_silent) {
                report(format_args!("{line}"));
            }
            was_silent = is_silent;
        }
    }

    /// Takes in how it is `at` this moment. What is to be said.
    fn judge(&self, at: Instant, is_away: bool, is_silent: bool) -> Option<String> {
        let now = &mut *self.now();
        match now.is_up {
            Some(true) | None if is_away => (now.is_up, now.since) = (Some(false), at),
            Some(false) if !is_silent && now.has_contact => (now.is_up, now.since) = (Some(true), at),
            _ => {}
        }
        let lasted = |since: Instant, time: Duration| at.saturating_duration_since(since) >= time;
        match (now.is_up, now.told_since) {
            (Some(false), None) if now.told.is_none_or(|told| lasted(told, AWAY_EVERY)) => {
                (now.told_since, now.told) = (Some(now.since), Some(at));
                let (place, cause) = (&self.place, &now.cause);
                Some(format!(
                    "rate limits: Redis at {place} is away: {cause}; limits do what their on_unavailable says until it is back"
                ))
            }
            (Some(true), Some(away))
                if lasted(now.since, BACK_AFTER) && now.failed.is_none_or(|f| lasted(f, BACK_AFTER)) =>
            {
                now.told_since = None;
                let after = time(now.since.saturating_duration_since(away));
                Some(format!("rate limits: Redis at {} is back after {after}", self.place))
            }
            _ => None,
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Nothing that can panic runs under the lock.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `300 ms`, `12 s`, `3 minutes`.
fn time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        s @ 1..120 => format!("{s} s"),
        s => counted(usize::try_from(s / 60).unwrap_or(usize::MAX), "minute"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_change_is_one_line_and_readiness_follows_at_once() {
        let status = Status::new("10.0.0.5:6379".into());
        let begin = Instant::now();
        assert_eq!(status.judge(begin, false, false), None, "it has just begun");
        status.failed(&Fault::Broken("Connection refused".into()));
        let away = status.judge(begin, true, true).unwrap();
        assert_eq!(
            away,
            "rate limits: Redis at 10.0.0.5:6379 is away: Connection refused; limits do what their on_unavailable says until \
             it is back"
        );
        assert_eq!(status.judge(begin, true, true), None);
        assert_eq!((status.facts().is_up, status.facts().cause.as_str()), (false, "Connection refused"));
        assert_eq!(status.judge(begin, false, false), None, "a quarter of a second without contact is no contact");
        assert!(!status.facts().is_up);
        status.now().has_contact = true;
        status.heard(Duration::ZERO, 3);
        let back = begin + 3 * S;
        assert_eq!(status.judge(back, false, false), None, "not yet said");
        assert_eq!((status.facts().is_up, status.facts().processes, status.facts().cause.as_str()), (true, 3, ""));
        assert_eq!(status.judge(back + 999 * MS, false, false), None);
        assert_eq!(
            status.judge(back + S, false, false).unwrap(),
            "rate limits: Redis at 10.0.0.5:6379 is back after 3 s"
        );
        assert_eq!(status.judge(back + S, false, true), None, "once is no time");
    }

    #[test]
    fn it_is_not_back_while_anything_is_lost() {
        let status = Status::new("a".into());
        let begin = Instant::now();
        status.heard(Duration::ZERO, 1);
        assert!(status.judge(begin, true, true).unwrap().contains("away"));
        assert_eq!(status.judge(begin + S, false, false), None);
        status.now().failed = Some(begin + 2 * S);
        assert_eq!(status.judge(begin + 2 * S + 900 * MS, false, false), None);
        assert!(status.judge(begin + 3 * S, false, false).unwrap().ends_with("back after 1 s"));
    }

    #[test]
    fn a_redis_that_comes_and_goes_is_a_few_lines_a_minute() {
        for period_ms in [100, 300, 700, 1_500, 4_000, 20_000] {
            let status = Status::new("a".into());
            let begin = Instant::now();
            status.heard(Duration::ZERO, 1);
            let mut changes = 0;
            let lines: Vec<String> = (0..12_000_u32)
                .filter_map(|i| {
                    let at = 50 * i;
                    let (is_silent, was) = (at / period_ms % 2 == 0, status.facts().is_up);
                    let line = status.judge(begin + at * MS, is_silent, is_silent);
                    changes += u32::from(status.facts().is_up != was);
                    line
                })
                .collect();
            assert!(!lines.is_empty() && lines.len() <= 40, "{period_ms} ms: {} lines in 10 minutes", lines.len());
            assert!(changes >= 29, "the gauge follows: {changes}");
            let is_away = |line: &String| line.contains(" is away: ");
            assert!(lines.iter().step_by(2).all(is_away) && !lines.iter().skip(1).step_by(2).any(is_away), "in turn");
        }
    }

    #[test]
    fn times_are_in_their_largest_unit() {
        let said = [300, 12_500, 119_999, 180_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(said, ["300 ms", "12 s", "119 s", "3 minutes"]);
    }

    #[test]
    fn flows_follow_the_limits_of_the_config() {
        let status = Status::new("a".into());
        let flows = |granted| Flows { granted, ..Flows::default() };
        status.set_flows([("a", flows(1)), ("b", flows(2))].into_iter());
        status.set_flows([("b", flows(3))].into_iter());
        assert_eq!(status.facts().flows, [("b".to_owned(), flows(3))]);
    }
}
