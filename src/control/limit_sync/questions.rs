//! What is asked of Redis, and whether what comes back is an answer. No I/O.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, Value};

use super::fault::Fault;
use super::link::Request;
use crate::limit::sync::ALIVE_US;
use crate::limit::{Answer, Ask, HEARTBEAT, SCRIPT, Spec};

/// Keys of one call of the script: Redis does nothing else while it runs, for some 0.5 ms.
const KEYS_PER_CALL: usize = 64;
/// Redis' clock in µs: from 2001 on, and exact in a double.
const REDIS_US: std::ops::Range<u64> = 1_000_000_000_000_000..1 << 52;
/// No installation has as many gateways.
const PROCESSES_MAX: u64 = 1_000_000;

/// What makes this process' questions its own.
#[derive(Debug)]
pub(super) struct Author {
    /// The begin of all keys' names.
    prefix: String,
    /// This process, among those that share Redis: another one after each start.
    name: String,
    limits_sha: String,
    heartbeat_sha: String,
}

/// A call of the script: some keys of one limit.
#[derive(Debug)]
pub(super) struct Call {
    /// Which limit, as an index.
    pub(super) limit: usize,
    /// Its keys.
    pub(super) asks: Vec<Ask>,
}

/// What a heartbeat's answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alive {
    /// Redis' clock.
    pub(super) redis_us: u64,
    /// Processes that live, this one among them.
    pub(super) processes: u64,
}

impl Author {
    /// `random`: what no other process has.
    pub(super) fn new(prefix: &str, random: u64) -> Self {
        Self {
            prefix: prefix.to_owned(),
            name: format!("{random:016x}"),
            limits_sha: sha(SCRIPT),
            heartbeat_sha: sha(HEARTBEAT),
        }
    }

    /// Loads both scripts: two commands.
    pub(super) fn load_scripts(&self, request: &mut Request) {
        request.add(&["SCRIPT", "LOAD", SCRIPT]);
        request.add(&["SCRIPT", "LOAD", HEARTBEAT]);
    }

    /// Whether these are the answers.
    pub(super) fn check_loaded(&self, replies: &[Value]) -> Result<(), Fault> {
        let is_sha = |reply: &Value, sha: &str| matches!(reply, Value::BulkString(got) if got == sha.as_bytes());
        match replies {
            [limits, heartbeat] if is_sha(limits, &self.limits_sha) && is_sha(heartbeat, &self.heartbeat_sha) => Ok(()),
            _ => Err(Fault::nonsense("what is no digest of its script")),
        }
    }

    /// The key that counts processes. No limit's key has that name: they end in a digest.
    pub(super) fn heartbeat_key(&self) -> String {
        format!("{}:processes", self.prefix)
    }

    /// Asks whether Redis is there, and says that this process is.
    pub(super) fn heartbeat(&self) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.heartbeat_sha).arg(1).arg(self.heartbeat_key()).arg(&self.name).arg(ALIVE_US);
        command
    }

    /// Says that this process does not count any more.
    pub(super) fn sign_off(&self, request: &mut Request) {
        request.add(&["ZREM", &self.heartbeat_key(), &self.name]);
    }

    /// A limit's key in Redis: `ringway:fair:100/1000000/200:0123…`, at most 64 + 128 + 100 bytes. Its numbers are part of it:
    /// two gateways of which one has another config have two buckets, where in one each would count by its own numbers
    /// and undo the other's debt.
    pub(super) fn key(&self, limit: &str, spec: &Spec, ask: &Ask) -> String {
        let ([high, low], set) = (ask.name, spec.set());
        let (tokens, per_us, burst) = (set.tokens, set.per_us, set.burst);
        format!("{}:{limit}:{tokens}/{per_us}/{burst}:{high:016x}{low:016x}", self.prefix)
    }

    /// The script's call.
    pub(super) fn call(&self, limit: &str, spec: &Spec, stamp: u64, asks: &[Ask]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.limits_sha).arg(asks.len());
        for ask in asks {
            command.arg(self.key(limit, spec, ask));
        }
        command.arg(&self.name).arg(stamp).arg(spec.set().life_us);
        for number in asks.iter().flat_map(Ask::args) {
            command.arg(number);
        }
        command
    }
}

/// The keys of one limit in calls: `singly` each in its own, as a cluster needs it.
pub(super) fn calls(limit: usize, asks: Vec<Ask>, singly: bool) -> impl Iterator<Item = Call> {
    let at_once = if singly { 1 } else { KEYS_PER_CALL };
    let chunks: Vec<Vec<Ask>> = asks.chunks(at_once).map(<[Ask]>::to_vec).collect();
    chunks.into_iter().map(move |asks| Call { limit, asks })
}

/// The answer to a heartbeat.
pub(super) fn alive(reply: &Value) -> Result<Alive, Fault> {
    let [redis_us, processes] = numbers(reply)?[..] else { return Err(wrong()) };
    let redis_us = u64::try_from(redis_us).ok().filter(|us| REDIS_US.contains(us));
    let redis_us = redis_us.ok_or_else(|| Fault::nonsense("a time that can not be"))?;
    let processes = u64::try_from(processes).ok().filter(|n| (1..=PROCESSES_MAX).contains(n));
    let processes = processes.ok_or_else(|| Fault::nonsense("a number of processes that can not be"))?;
    Ok(Alive { redis_us, processes })
}

/// The answer to a call about these keys.
pub(super) fn answers(reply: &Value, asks: &[Ask]) -> Result<Vec<Answer>, Fault> {
    let numbers = numbers(reply)?;
    let (Some((_, rest)), true) = (numbers.split_first(), numbers.len() == 1 + 3 * asks.len()) else {
        return Err(wrong());
    };
    rest.chunks_exact(3).zip(asks).map(|(numbers, ask)| answer(numbers, ask)).collect()
}

fn answer(numbers: &[i64], ask: &Ask) -> Result<Answer, Fault> {
    let [granted, left, wait_us] = *numbers else { return Err(wrong()) };
    let granted = u64::try_from(granted).ok().filter(|granted| *granted <= ask.most);
    let granted = granted.ok_or_else(|| Fault::nonsense("more tokens than it was asked for"))?;
    let full = ask.cap / ask.p.max(1);
    if u64::try_from(left).is_ok_and(|left| left > full) {
        return Err(Fault::nonsense("more tokens than the limit has"));
    }
    // From the deepest debt to what is needed, and rounded up: longer would lock the key out for no reason.
    let longest_us = ask.deepest.saturating_add(ask.need.saturating_mul(ask.p)) / ask.n.max(1) + 1;
    let wait_us = u64::try_from(wait_us).ok().filter(|wait_us| *wait_us <= longest_us);
    let wait_us = wait_us.ok_or_else(|| Fault::nonsense("a time to wait that can not be"))?;
    Ok(Answer { granted, left, wait_us })
}

fn wrong() -> Fault {
    Fault::nonsense("what is no answer of its script")
}

/// Whole numbers as the scripts give them: decimal texts, exact in a double.
fn numbers(reply: &Value) -> Result<Vec<i64>, Fault> {
    let Value::Array(items) = reply else { return Err(wrong()) };
    let number = |item: &Value| {
        let Value::BulkString(text) = item else { return Err(wrong()) };
        let number: Option<i64> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.filter(|number| number.unsigned_abs() < 1 << 53).ok_or_else(wrong)
    };
    items.iter().map(number).collect()
}

/// What a script is called by `EVALSHA`.
fn sha(script: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, script.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limit::{CoreWallet, Settings, Sync};
    use crate::shared::wallet::Table;
    use std::sync::Arc;

    fn asks(keys: u32) -> (Spec, Vec<Ask>) {
        let spec = Spec::new(Settings::new(100, 1_000_000, 100).shared()).unwrap();
        let table = Arc::new(Table::new(1000));
        let core = CoreWallet::new(Arc::clone(&table), 1);
        let mut sync = Sync::new(Arc::clone(&table), 1);
        sync.heard(1_000_000, 2);
        assert!((0..keys).all(|key| core.check(&spec, &key.to_le_bytes(), 1, 1_000_100).is_allowed()));
        let asks = sync.drain(&spec, 1_001_000, 1000);
        (spec, asks)
    }

    fn reply(numbers: &[&str]) -> Value {
        Value::Array(numbers.iter().map(|n| Value::BulkString((*n).into())).collect())
    }

    const NOW: &str = "1700000000000000";

    #[test]
    fn a_call_has_the_scripts_arguments_and_names_of_bounded_length() {
        let (spec, asks) = asks(2);
        let author = Author::new("ringway", 0xabc);
        let command = author.call("fair", &spec, 7, &asks);
        let text = String::from_utf8(command.get_packed_command()).unwrap();
        let words: Vec<&str> = text.split("\r\n").skip(2).step_by(2).collect();
        assert_eq!((words[0], words[1].len(), words[2], words.len()), ("EVALSHA", 40, "2", 3 + 2 + 3 + 20));
        assert!(
            words[3].starts_with("ringway:fair:100/1000000/100:") && words[3].len() == 29 + 32 && words[3] != words[4]
        );
        assert_eq!(words[5..8], ["0000000000000abc", "7", "1000000"]);
        let longest = Author::new(&"p".repeat(64), 1).key(&"n".repeat(128), &spec, &asks[0]);
        assert!(longest.len() <= 64 + 128 + 100);
        assert_eq!(calls(3, asks.clone(), true).map(|c| (c.limit, c.asks.len())).collect::<Vec<_>>(), [(3, 1), (3, 1)]);
        assert_eq!(calls(3, asks, false).count(), 1);
        assert_eq!(sha("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "as redis-cli says");
    }

    #[test]
    fn a_heartbeat_says_a_time_and_a_number_that_can_be() {
        assert_eq!(alive(&reply(&[NOW, "3"])), Ok(Alive { redis_us: 1_700_000_000_000_000, processes: 3 }));
        for wrong in [
            reply(&[NOW, "0"]),
            reply(&[NOW, "-1"]),
            reply(&[NOW, "1000001"]),
            reply(&["0", "1"]),
            reply(&["-1700000000000000", "1"]),
            reply(&["4503599627370496", "1"]),
            reply(&[NOW]),
            reply(&[NOW, "1", "1"]),
            reply(&["1e15", "1"]),
            reply(&["nan", "1"]),
            reply(&["99999999999999999999", "1"]),
            Value::Array(vec![Value::Int(1_700_000_000_000_000), Value::Int(1)]),
            Value::Array(vec![Value::Nil, Value::Nil]),
            Value::BulkString(NOW.into()),
            Value::Nil,
            Value::Okay,
        ] {
            assert!(alive(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_grants_no_more_and_locks_out_no_longer_than_the_limit_can() {
        let (_, asks) = asks(1);
        let (most, more) = (asks[0].most.to_string(), (asks[0].most + 1).to_string());
        let one = |numbers: [&str; 3]| answers(&reply(&[NOW, numbers[0], numbers[1], numbers[2]]), &asks);
        assert_eq!(one(["5", "-7", "0"]).unwrap(), [Answer { granted: 5, left: -7, wait_us: 0 }]);
        assert!(one([&most, "100", "0"]).is_ok() && one(["0", "-200", "2020000"]).is_ok());
        for wrong in [
            [more.as_str(), "0", "0"],
            ["-1", "0", "0"],
            ["0", "101", "0"],
            ["0", "0", "-1"],
            ["0", "0", "9000000000"],
            ["0", "9007199254740992", "0"],
            ["", "0", "0"],
            ["0.5", "0", "0"],
        ] {
            assert!(one(wrong).is_err(), "{wrong:?}");
        }
        assert!(answers(&reply(&[NOW]), &asks).is_err() && answers(&reply(&[]), &asks).is_err());
        assert!(answers(&reply(&[NOW, "0", "0", "0", "0", "0", "0"]), &asks).is_err());
    }
}
