//! Host names of endpoints become addresses, and stay right: control asks, the workers only ever see addresses.
//!
//! /etc/hosts comes first, then the name servers of /etc/resolv.conf. Both files are read anew at each round, so a
//! change of either is followed. A name that has both gives its IPv4 addresses; IPv6 ones are used where there are no
//! others, since a host without an IPv6 route would fail half of its connections otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};

use super::report::report;

/// One round of look-ups takes no longer; at start the gateway waits for one.
const ROUND_MAX: Duration = Duration::from_secs(5);
/// How long a name server has to answer before the next is asked, so that a round has time for a second one.
const NAME_SERVER_WAIT_MAX: Duration = Duration::from_secs(2);
/// An answer is used at least so long, so that a TTL of 0 does not become a busy loop.
const TTL_MIN: Duration = Duration::from_secs(5);
/// An answer is used at most so long, so that a long TTL set by mistake does not hold an old address for a day.
const TTL_MAX: Duration = Duration::from_secs(300);
/// A failed look-up is tried again after 1 to 2 s, then 2 to 4 s, and so on up to 15 to 30 s.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Look-ups under way at a time: each takes a socket or two.
const LOOKUPS_AT_ONCE_MAX: usize = 64;

/// What the names stand for now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Sorted addresses by name; none if the name has not resolved yet.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The names without any address.
    pub unresolved: Vec<Unresolved>,
}

/// A name without any address. Its text is a warning for the operator, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The host name as configured.
    pub name: String,
    /// What the last look-up said.
    pub cause: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unresolved { name, cause } = self;
        write!(
            f,
            "host name {name} does not resolve ({cause}): its endpoint gets no requests until it does, it is looked up \
             again every 1 to 30 s; check its spelling, /etc/hosts and the name servers in /etc/resolv.conf"
        )
    }
}

/// Names with their last good answers, and when each is to be looked up again. It reads no clock and does no I/O.
#[derive(Debug, Default)]
pub struct Names {
    table: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    /// `None` until the first look-up.
    due: Option<Instant>,
    failures: u32,
    cause: String,
}

/// A good answer: at least one address, and until when it holds.
#[derive(Debug, Clone)]
struct Answer {
    addresses: Vec<IpAddr>,
    valid_until: Instant,
}

impl Names {
    fn new(names: impl IntoIterator<Item = String>) -> Self {
        Names { table: names.into_iter().map(|name| (name, Entry::default())).collect() }
    }

    /// What the names stand for now.
    #[must_use]
    pub fn resolved(&self) -> Resolved {
        let without = self.table.iter().filter(|(_, e)| e.addresses.is_empty());
        Resolved {
            addresses: self.table.iter().map(|(name, e)| (name.clone(), e.addresses.clone())).collect(),
            unresolved: without.map(|(name, e)| Unresolved { name: name.clone(), cause: e.cause.clone() }).collect(),
        }
    }

    /// The names to look up now. Each is put off until [`Self::learn`] says more: a look-up that never reports back must
    /// not make its name due again at once.
    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.table.iter_mut().filter(|(_, e)| e.due.is_none_or(|due| due <= now));
        due.map(|(name, e)| {
            e.due = Some(now + RETRY_MAX);
            name.clone()
        })
        .collect()
    }

    fn next_due(&self) -> Option<Instant> {
        self.table.values().filter_map(|e| e.due).min()
    }

    /// Takes in the outcome of one look-up; `jitter` is random in 0..1. True if the addresses changed.
    fn learn(&mut self, name: &str, outcome: Result<Answer, String>, now: Instant, jitter: f64) -> bool {
        let Some(entry) = self.table.get_mut(name) else { return false };
        match outcome {
            Ok(mut answer) => {
                if entry.failures > 0 {
                    report(format_args!("host name {name} resolves again"));
                }
                entry.failures = 0;
                entry.cause.clear();
                entry.due = Some(now + answer.valid_until.saturating_duration_since(now).clamp(TTL_MIN, TTL_MAX));
                answer.addresses.sort_unstable();
                answer.addresses.dedup();
                let changed = answer.addresses != entry.addresses;
                entry.addresses = answer.addresses;
                changed
            }
            Err(cause) => {
                // A name that never resolved is the caller's to report, as `Unresolved`.
                if entry.failures == 0 && !entry.addresses.is_empty() {
                    report(format_args!(
                        "host name {name} does not resolve any more ({cause}): its last addresses stay in use"
                    ));
                }
                let base = RETRY_MIN.saturating_mul(1 << entry.failures.min(8)).min(RETRY_MAX / 2);
                entry.due = Some(now + base + base.mul_f64(jitter.clamp(0.0, 1.0)));
                entry.failures = entry.failures.saturating_add(1);
                entry.cause = cause;
                false
            }
        }
    }
}

/// Looks all names up once, within 5 s. Names that fail are not fatal: they are in [`Resolved::unresolved`], and
/// [`watch`] goes on with them.
pub async fn resolve_once(names: impl IntoIterator<Item = String>) -> Names {
    let mut names = Names::new(names);
    let all = names.take_due(Instant::now());
    round(&mut names, all).await;
    names
}

/// Looks one name up now, within 5 s, for who connects seldom and keeps no addresses.
///
/// # Errors
/// Why it has no address.
pub(super) async fn lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    let answer = tokio::time::timeout(ROUND_MAX, System::load().lookup(name)).await;
    Ok(answer.unwrap_or_else(|_| Err("no answer within 5 s".into()))?.addresses)
}

/// Keeps the names resolved. Calls `on_round` after each round of look-ups with what all names stand for, and whether the
/// addresses of any have changed. Returns only if there are no names; drop it to stop.
pub async fn watch(mut names: Names, mut on_round: impl FnMut(Resolved, bool)) {
    while let Some(due) = names.next_due() {
        sleep_until(due.into()).await;
        let due = names.take_due(Instant::now());
        let changed = round(&mut names, due).await;
        on_round(names.resolved(), changed);
    }
}

/// The addresses of one name that control itself asks, now.
///
/// # Errors
/// Why it has none.
pub async fn addresses_of(name: &str) -> Result<Vec<IpAddr>, String> {
    let answer = System::load().lookup(name).await;
    answer.map(|answer| answer.addresses).map_err(|cause| format!("its host does not resolve: {cause}"))
}

/// Looks up `due`, all at once. True if the addresses of any have changed.
async fn round(names: &mut Names, due: Vec<String>) -> bool {
    if due.is_empty() {
        return false;
    }
    let system = Arc::new(System::load());
    let turns = Arc::new(Semaphore::new(LOOKUPS_AT_ONCE_MAX));
    let until = tokio::time::Instant::now() + ROUND_MAX;
    let mut lookups = JoinSet::new();
    for name in due {
        let (system, turns) = (Arc::clone(&system), Arc::clone(&turns));
        lookups.spawn(async move {
            let lookup = async {
                let _turn = turns.acquire().await.map_err(|e| e.to_string())?;
                system.lookup(&name).await
            };
            let outcome = timeout_at(until, lookup).await.unwrap_or_else(|_| Err("no answer within 5 s".into()));
            (name, outcome)
        });
    }
    let mut changed = false;
    while let Some(done) = lookups.join_next().await {
        if let Ok((name, outcome)) = done {
            changed |= names.learn(&name, outcome, Instant::now(), random());
        }
    }
    changed
}

/// A random number in 0..1, for jitter: std's hash keys are random.
fn random() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// The system's ways to resolve names, as configured now.
struct System {
    hosts: Hosts,
    dns: Result<TokioResolver, String>,
}

impl System {
    fn load() -> Self {
        System { hosts: Hosts::from_system().unwrap_or_default(), dns: name_servers().map_err(|e| cause(&e)) }
    }

    async fn lookup(&self, name: &str) -> Result<Answer, String> {
        if let Some(addresses) = self.static_addresses(name) {
            // No TTL: look again soon, the file is cheap to read.
            return Ok(Answer { addresses, valid_until: Instant::now() });
        }
        let dns = self.dns.as_ref().map_err(Clone::clone)?;
        let found = dns.lookup_ip(name).await.map_err(|e| cause(&e))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err("it has no addresses".into());
        }
        Ok(Answer { addresses, valid_until: found.valid_until() })
    }

    /// Addresses that need no network: those in /etc/hosts, and of `localhost` (RFC 6761 section 6.3). Asked before
    /// hickory does, which would try the search domains of a short name first.
    fn static_addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut fqdn = Name::from_utf8(name).ok()?;
        fqdn.set_fqdn(true);
        for kind in [RecordType::A, RecordType::AAAA] {
            let found = self.hosts.lookup_static_host(&Query::query(fqdn.clone(), kind));
            let addresses: Vec<IpAddr> =
                found.iter().flat_map(|l| l.answers()).filter_map(|record| record.data.ip_addr()).collect();
            if !addresses.is_empty() {
                return Some(addresses);
            }
        }
        fqdn.is_localhost().then(|| vec![IpAddr::from([127, 0, 0, 1])])
    }
}

fn name_servers() -> Result<TokioResolver, NetError> {
    // Without name servers /etc/hosts still works.
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
    });
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = options.timeout.min(NAME_SERVER_WAIT_MAX);
    builder.build()
}

fn cause(e: &NetError) -> String {
    match e {
        NetError::Dns(DnsError::NoRecordsFound(none)) => format!("no address found, {}", none.response_code),
        NetError::Timeout => "no answer from the name servers".into(),
        NetError::NoConnections => "no name server to ask".into(),
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answer(addresses: &[&str], now: Instant, ttl: Duration) -> Result<Answer, String> {
        Ok(Answer { addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(), valid_until: now + ttl })
    }

    fn wait(names: &Names, now: Instant) -> Duration {
        names.next_due().unwrap() - now
    }

    #[test]
    fn only_another_set_of_addresses_is_a_change() {
        let now = Instant::now();
        let mut names = Names::new(["a".to_owned()]);
        assert_eq!(names.take_due(now), ["a"], "new names are due at once");
        assert!(names.learn("a", answer(&["10.0.0.2", "10.0.0.1"], now, SECOND), now, 0.0));
        assert!(!names.learn("a", answer(&["10.0.0.1", "10.0.0.2", "10.0.0.1"], now, SECOND), now, 0.0));
        assert!(names.learn("a", answer(&["10.0.0.1"], now, SECOND), now, 0.0));
        assert!(!names.learn("unknown", answer(&["10.0.0.1"], now, SECOND), now, 0.0));
    }

    #[test]
    fn ttls_are_clamped() {
        let now = Instant::now();
        let mut names = Names::new(["a".to_owned()]);
        for (ttl, expected) in [(0, 5), (60, 60), (86_400, 300)] {
            names.learn("a", answer(&["10.0.0.1"], now, SECOND * ttl), now, 0.5);
            assert_eq!(wait(&names, now), SECOND * expected);
        }
        assert!(names.take_due(now).is_empty());
        assert_eq!(names.take_due(now + TTL_MAX), ["a"]);
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_and_backs_off() {
        let now = Instant::now();
        let mut names = Names::new(["a".to_owned(), "b".to_owned()]);
        names.learn("a", answer(&["10.0.0.1"], now, TTL_MAX), now, 0.0);
        for (jitter, expected) in [(0.0, 1.0), (0.5, 3.0), (0.0, 4.0), (0.0, 8.0), (0.0, 15.0), (1.0, 30.0)] {
            assert!(!names.learn("b", Err("no address found".into()), now, jitter));
            assert_eq!(wait(&names, now).as_secs_f64(), expected);
        }
        assert!(!names.learn("a", Err("timeout".into()), now, 0.0));
        let resolved = names.resolved();
        assert_eq!(resolved.addresses["a"], ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(resolved.addresses["b"].is_empty());
        assert_eq!(resolved.unresolved, [Unresolved { name: "b".into(), cause: "no address found".into() }]);
        assert!(resolved.unresolved[0].to_string().contains("/etc/resolv.conf"), "the remedy is named");
        names.learn("b", answer(&["::1"], now, TTL_MAX), now, 0.0);
        names.learn("b", Err("again".into()), now, 0.0);
        assert_eq!(wait(&names, now), SECOND, "a good answer ends the back-off");
    }

    #[test]
    fn localhost_and_addresses_need_no_network() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let names = runtime.block_on(resolve_once(["localhost".to_owned(), "x.localhost".into(), "127.0.0.9".into()]));
        let resolved = names.resolved();
        assert_eq!(resolved.unresolved, []);
        assert_eq!(resolved.addresses["localhost"], [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(resolved.addresses["x.localhost"], [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(resolved.addresses["127.0.0.9"], [IpAddr::from([127, 0, 0, 9])]);
    }
}
