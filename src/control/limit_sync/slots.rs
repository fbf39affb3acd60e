//! Which Redis of a cluster has which key (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>). No I/O.

use redis::Value;

use super::fault::Fault;
use crate::config::hosts::Address;

/// A cluster has so many slots, each with one master.
const SLOTS: usize = 16_384;
/// More masters are no cluster that Redis' own authors would run.
const MASTERS_MAX: usize = 1_000;

/// The masters of a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Each once.
    pub(super) masters: Vec<Address>,
    /// The master of each slot, as an index.
    of: Vec<u16>,
}

impl Map {
    /// Which master has this key, as an index.
    pub(super) fn master_of(&self, key: &str) -> usize {
        self.of.get(slot(key)).map_or(0, |index| usize::from(*index))
    }

    /// Reads the answer to `CLUSTER SLOTS`; `asked` is who gave it, and stands for a host that it leaves out.
    pub(super) fn read(reply: &Value, asked: &Address) -> Result<Self, Fault> {
        const WRONG: &str = "a map of its slots that is none";
        let wrong = || Fault::nonsense(WRONG);
        let Value::Array(ranges) = reply else { return Err(wrong()) };
        let (mut masters, mut of) = (Vec::new(), vec![u16::MAX; SLOTS]);
        for range in ranges {
            let Value::Array(range) = range else { return Err(wrong()) };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else {
                return Err(wrong());
            };
            let master = address(master, asked).ok_or_else(wrong)?;
            let index = masters.iter().position(|known| *known == master).unwrap_or_else(|| {
                masters.push(master);
                masters.len() - 1
            });
            let (first, last) = (usize::try_from(*first), usize::try_from(*last));
            let (Ok(first), Ok(last)) = (first, last) else { return Err(wrong()) };
            let slots = of.get_mut(first..=last.max(first)).filter(|_| first <= last).ok_or_else(wrong)?;
            if masters.len() > MASTERS_MAX {
                return Err(wrong());
            }
            slots.fill(u16::try_from(index).map_err(|_| wrong())?);
        }
        if of.contains(&u16::MAX) {
            return Err(Fault::Broken("not every slot of the cluster has a master".into()));
        }
        Ok(Self { masters, of })
    }
}

/// Host and port, as an answer of Redis has them.
fn address(words: &[Value], asked: &Address) -> Option<Address> {
    let [host, Value::Int(port), ..] = words else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::Nil => "",
        _ => return None,
    };
    let port = u16::try_from(*port).ok().filter(|port| *port > 0)?;
    match (host, asked) {
        // It does not know how it is reached; this one was.
        ("" | "?", Address::Ip(ip)) => Some(Address::Ip((ip.ip(), port).into())),
        ("" | "?", Address::Name { host, .. }) => Some(Address::Name { host: host.clone(), port }),
        _ => host_and_port(host, port),
    }
}

/// A host that an answer of Redis names.
pub(super) fn host_and_port(host: &str, port: u16) -> Option<Address> {
    if let Ok(ip) = host.parse::<std::net::IpAddr>() {
        return Some(Address::Ip((ip, port).into()));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(is_name))
        .then(|| Address::Name { host: host.to_ascii_lowercase(), port })
}

/// The slot of a key: of what stands in its first braces, if there are any with something in them.
fn slot(key: &str) -> usize {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    usize::from(crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes())) % SLOTS
}

/// CRC16-CCITT (XMODEM): polynomial 0x1021.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let master =
            Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString("id".into())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    fn seed() -> Address {
        Address::Ip(([127, 0, 0, 1], 7000).into())
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the specification's own example");
        assert_eq!((slot("foo"), slot("{user1000}.following")), (12182, slot("{user1000}.followers")));
        assert_eq!((slot("foo{}{bar}"), slot("foo{{bar}}zap")), (slot("foo{}{bar}"), slot("x{{bar}y")));
    }

    #[test]
    fn a_map_names_the_master_of_every_slot() {
        let reply = Value::Array(vec![
            range(0, 5000, "10.0.0.1", 7000),
            range(5001, 10_000, "redis-2.internal", 7001),
            range(10_001, 16_382, "", 7002),
            range(16_383, 16_383, "10.0.0.1", 7000),
        ]);
        let map = Map::read(&reply, &seed()).unwrap();
        let masters: Vec<String> = map.masters.iter().map(ToString::to_string).collect();
        assert_eq!(masters, ["10.0.0.1:7000", "redis-2.internal:7001", "127.0.0.1:7002"]);
        assert_eq!((map.of[5000], map.of[5001], map.of[16_383]), (0, 1, 0));
        assert_eq!(map.master_of("foo"), 2);
    }

    #[test]
    fn what_is_no_map_is_a_fault() {
        let whole = |range| Map::read(&Value::Array(vec![range]), &seed());
        assert!(whole(range(0, 16_383, "a", 1)).is_ok());
        for wrong in [
            range(0, 16_382, "a", 1),
            range(0, 16_384, "a", 1),
            range(-1, 16_383, "a", 1),
            range(16_383, 0, "a", 1),
            range(0, 16_383, "a", 0),
            range(0, 16_383, "a b", 1),
            range(0, i64::MAX, "a", 1),
            Value::Nil,
            Value::Array(vec![Value::Int(0)]),
        ] {
            assert!(whole(wrong.clone()).is_err(), "{wrong:?}");
        }
        assert!(Map::read(&Value::Okay, &seed()).is_err());
    }
}
