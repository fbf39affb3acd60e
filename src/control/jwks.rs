//! Key sets of issuers: fetched before the workers start, then again when they are due or when a token names a key that is
//! not there. What was fetched stays in use whatever comes later, until a better set does.

use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Config;
use crate::config::filters::Filter;
use crate::config::filters::jwt::Jwks;
use crate::jwt::{Key, Source, jwks};
use crate::shared::doorbell::Doorbell;
use crate::snapshot::inputs::KeySets;
use crate::tls::files;

use super::report::report;
use super::{counted, fetch};

/// Longest time that the start waits for key sets: without them the gateway starts all the same.
const FIRST_MAX: Duration = Duration::from_secs(2);
/// A hundred keys of the longest kind have 150 KB.
const BYTES_MAX: usize = 1024 * 1024;
/// A failed fetch is tried again after 1 s, then 2 s, and so on up to 1 min, or when the keys are due if that is sooner.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// All places of a config where keys are fetched.
#[derive(Debug, Default)]
pub struct Sets(Vec<Set>);

/// One place, and all filters that use it.
#[derive(Debug)]
struct Set {
    filters: Vec<String>,
    from: Jwks,
    bell: Doorbell,
    heard: Receiver<()>,
    keys: Option<Arc<[Key]>>,
    /// When the last good answer came.
    fetched: Option<Instant>,
    fault: Option<String>,
    failures: u32,
    due: Instant,
    /// When an unknown key last led to a fetch.
    asked: Option<Instant>,
}

/// What control knows of a filter's key set, for metrics and readiness.
#[derive(Debug, Clone)]
pub struct KeySetState {
    /// The filter.
    pub filter: String,
    /// Keys that can be used.
    pub keys: usize,
    /// When they were last confirmed.
    pub fetched: Option<Instant>,
    /// What is wrong with the last fetch, if anything is.
    pub fault: Option<String>,
}

/// The outcome of a fetch.
#[derive(Debug)]
pub struct Fetched {
    /// One for each filter that uses the place.
    pub states: Vec<KeySetState>,
    /// What is in use there from now on; `None` if that has not changed.
    pub source: Option<Source>,
}

impl Sets {
    /// The places that filters of a config name; filters that say the same of it share one. Says what an operator should know
    /// of its secrets.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut sets: Vec<Set> = Vec::new();
        for named in &config.filters {
            let Filter::Jwt(jwt) = &named.filter else { continue };
            for path in jwt.secret_files.iter().filter(|path| files::is_exposed(path)) {
                let path = path.display();
                report(format_args!("warning: {path} can be read by others than its owner; `chmod 600 {path}`"));
            }
            let Some(from) = &jwt.jwks else { continue };
            let name = named.name.value.clone();
            match sets.iter_mut().find(|set| set.from == *from) {
                Some(set) => set.filters.push(name),
                None => sets.push(Set::new(name, from.clone())),
            }
        }
        Self(sets)
    }

    /// The same after a first fetch of each, within 2 s; what is not there by then is tried again later.
    pub async fn fetched(self) -> Self {
        let mut fetches = JoinSet::new();
        for mut set in self.0 {
            fetches.spawn(async move {
                set.warn();
                if timeout(FIRST_MAX, set.fetch()).await.is_err() {
                    set.learn(Err("no answer within 2 s".to_owned()), Instant::now());
                    set.due = Instant::now();
                }
                set
            });
        }
        Self(fetches.join_all().await)
    }

    /// What is in use.
    #[must_use]
    pub fn key_sets(&self) -> KeySets {
        let of = |set: &Set| set.filters.iter().map(|name| (name.clone(), set.source())).collect::<Vec<_>>();
        self.0.iter().flat_map(of).collect()
    }

    /// What is known of each.
    #[must_use]
    pub fn states(&self) -> Vec<KeySetState> {
        self.0.iter().flat_map(Set::states).collect()
    }

    /// Keeps them fresh, in tasks of their own, for as long as someone listens.
    pub fn watch(self, tell: &Sender<Fetched>) {
        for set in self.0 {
            tokio::spawn(set.watch(tell.clone()));
        }
    }
}

impl Set {
    fn new(filter: String, from: Jwks) -> Self {
        let (bell, heard) = Doorbell::new();
        Self {
            filters: vec![filter],
            from,
            bell,
            heard,
            keys: None,
            fetched: None,
            fault: None,
            failures: 0,
            due: Instant::now(),
            asked: None,
        }
    }

    /// Where it is, for people: what stands behind `?` may be nobody else's business.
    fn place(&self) -> String {
        let url = &self.from.url;
        format!("{}://{}{}", url.scheme_str().unwrap_or(""), url.authority().map_or("", |a| a.as_str()), url.path())
    }

    fn warn(&self) {
        let host = self.from.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if self.from.tls.is_none() && !is_local {
            let (place, filter) = (self.place(), self.filters.join(", "));
            report(format_args!(
                "warning: filter {filter}: {place}: whoever stands between can put in keys of their own; use https"
            ));
        }
    }

    fn source(&self) -> Source {
        Source { keys: self.keys.clone(), bell: self.bell.clone() }
    }

    fn states(&self) -> Vec<KeySetState> {
        let keys = self.keys.as_ref().map_or(0, |keys| keys.len());
        let state = |filter: &String| KeySetState {
            filter: filter.clone(),
            keys,
            fetched: self.fetched,
            fault: self.fault.clone(),
        };
        self.filters.iter().map(state).collect()
    }

    async fn watch(mut self, tell: Sender<Fetched>) {
        loop {
            tokio::select! {
                () = sleep_until(self.due) => {}
                _ = self.heard.recv() => {
                    let not_before = self.asked.map_or_else(Instant::now, |asked| asked + self.from.cooldown.get());
                    sleep_until(not_before.min(self.due)).await;
                    self.asked = Some(Instant::now());
                }
            }
            let changed = self.fetch().await;
            // Who rang meanwhile did not know yet what has come; if it was not that, the next one rings again.
            let _ = self.heard.try_recv();
            let source = changed.then(|| self.source());
            if tell.send(Fetched { states: self.states(), source }).await.is_err() {
                return;
            }
        }
    }

    /// Fetches, and takes in what comes. True if other keys are in use from now on.
    async fn fetch(&mut self) -> bool {
        let got = fetch::get(&self.from.url, self.from.tls.as_ref(), BYTES_MAX).await;
        let outcome = got.and_then(|document| match jwks::parse(&document.bytes) {
            Ok(keys) => Ok((keys, document.max_age)),
            Err(fault) => Err(format!("what it answers is no key set: {fault}")),
        });
        self.learn(outcome, Instant::now())
    }

    fn learn(&mut self, outcome: Result<(Vec<Key>, Option<Duration>), String>, now: Instant) -> bool {
        let (filter, place) = (self.filters.join(", "), self.place());
        match outcome {
            Ok((keys, max_age)) => {
                let (min, max) = (self.from.refresh_min.get(), self.from.refresh_max.get());
                self.due = now + max_age.unwrap_or(min).min(max).max(min);
                self.fetched = Some(now);
                self.failures = 0;
                let again = self.fault.take().is_some();
                let changed = self.keys.as_deref() != Some(keys.as_slice());
                if again || (changed && self.keys.is_some()) {
                    let count = counted(keys.len(), "key");
                    report(format_args!(
                        "filter {filter}: {place}: {count} fetched{}",
                        if again { " again" } else { "" }
                    ));
                }
                if changed {
                    self.keys = Some(keys.into());
                }
                changed
            }
            Err(fault) => {
                let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(8)).min(RETRY_MAX);
                self.due = now + wait;
                self.failures = self.failures.saturating_add(1);
                if self.fault.as_ref() != Some(&fault) {
                    let meanwhile = match self.keys {
                        Some(_) => "the keys that were fetched before stay in use",
                        None => "tokens that need its keys are answered 503 until they come",
                    };
                    report(format_args!(
                        "error: filter {filter}: {place}: {fault}; {meanwhile}, it is tried again every 1 s to 1 min"
                    ));
                }
                self.fault = Some(fault);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set() -> Set {
        let text = "listeners: [{ address: 127.0.0.1:80 }]\nfilters:\n  \
                    a: { jwt: { issuer: any, audience: any, jwks: \"http://127.0.0.1:1/k?secret\" } }\n  \
                    b: { jwt: { issuer: x, audience: any, jwks: \"http://127.0.0.1:1/k?secret\" } }";
        let config = crate::config::parse("f", text, &|_| None).unwrap();
        let mut sets = Sets::new(&config);
        assert_eq!(sets.0.len(), 1, "one place for both");
        sets.0.pop().unwrap()
    }

    fn keys(kid: &str) -> Vec<Key> {
        let x = "A".repeat(43);
        let text = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#);
        jwks::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn good_keys_stay_and_are_due_within_bounds() {
        let mut set = set();
        let now = Instant::now();
        let s = Duration::from_secs;
        assert!(set.learn(Ok((keys("a"), None)), now) && set.due == now + s(300));
        assert!(!set.learn(Ok((keys("a"), Some(s(1)))), now) && set.due == now + s(300));
        assert!(!set.learn(Ok((keys("a"), Some(s(1000)))), now) && set.due == now + s(1000));
        assert!(set.learn(Ok((keys("b"), Some(s(100_000)))), now) && set.due == now + s(3600));
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!set.learn(Err("gone".into()), now + s(9)) && set.due == now + s(9 + wait), "{wait}");
        }
        let states = set.states();
        let names: Vec<&str> = states.iter().map(|state| state.filter.as_str()).collect();
        assert_eq!((names, states[0].keys, states[0].fetched), (vec!["a", "b"], 1, Some(now)));
        assert_eq!(states[1].fault.as_deref(), Some("gone"));
        assert_eq!(set.place(), "http://127.0.0.1:1/k");
        assert!(!set.learn(Ok((keys("b"), None)), now) && set.fault.is_none() && set.failures == 0);
    }
}
