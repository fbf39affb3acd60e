//! Control's side of rate limits through Redis: a task that asks Redis for what the process wallets want, every 20 ms, and
//! tells them what it answered. No request ever waits for it; what a wallet does without an answer is its own business
//! ([`crate::limit`]).
//!
//! **Keys.** `ringway:LIMIT:DIGEST` is a bucket, `ringway:processes` the set of processes; the first word is `prefix`. In a
//! Redis Cluster the keys of a limit are spread over all masters, by their digests, and each is asked about in a call of
//! its own: a call's keys would have to share a slot, and a limit with all keys in one slot would be one master's.
//!
//! **Never twice.** A question is sent once, or its tokens would be granted twice and returned twice.
//!
//! **Nothing is trusted.** Replies are bounded before they are decoded (`frames`), numbers are checked against what the limit
//! can be (`questions`); an error of any kind is no answer.

mod backoff;
mod fault;
mod frames;
mod link;
mod place;
mod questions;
mod run;
mod slots;
mod status;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::rate_limits::Redis;
use crate::core::{Clock, random_u64};
use crate::limit::Spec;
use crate::shared::wallet::Table;
use crate::tls::Upstream;

use place::Place;
use questions::Author;
use run::{Runner, State};
pub use status::{Facts, Status};

/// The start waits no longer for the first answer.
const FIRST_MAX: Duration = Duration::from_millis(250);
/// An orderly end waits no longer to be signed off: two rounds, and without it a process counts for some seconds more.
const LEAVE_MAX: Duration = Duration::from_millis(50);

/// A limit that holds across processes.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Its filter's name: part of its keys' names in Redis.
    pub name: String,
    /// Its numbers.
    pub spec: Spec,
    /// Its process wallet: the same one from config to config.
    pub table: Arc<Table>,
}

/// The running task. It ends when this is dropped.
#[derive(Debug)]
pub struct LimitSync {
    limits: watch::Sender<Vec<Shared>>,
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
    leaving: watch::Sender<bool>,
    status: Arc<Status>,
    started: Instant,
    tasks: [JoinHandle<()>; 2],
}

impl LimitSync {
    /// Starts it on the tokio runtime it is called on, for a process with `cores` cores. `tls` is what `redis.tls` was read
    /// to, if there is one.
    pub fn start(redis: &Redis, tls: Option<&Upstream>, cores: u64) -> Self {
        let status = Arc::new(Status::new(redis.place()));
        let (limits, limits_of_runner) = watch::channel(Vec::new());
        let (tls, tls_of_runner) = watch::channel(tls.map(without_alpn));
        let (leaving, leaving_of_runner) = watch::channel(false);
        let runner = Runner {
            place: Place::new(redis.clone()),
            author: Author::new(&redis.prefix, random_u64()),
            cores,
            limits: limits_of_runner,
            tls: tls_of_runner,
            leaving: leaving_of_runner,
            status: Arc::clone(&status),
            clock: Clock::start(),
            state: State::default(),
        };
        let watched = Arc::clone(&status);
        // Two, so that the state is true whatever becomes of the other.
        let tasks = [tokio::spawn(runner.run()), tokio::spawn(async move { watched.watch().await })];
        Self { limits, tls, leaving, status, started: Instant::now(), tasks }
    }

    /// The limits of a config, from now on.
    pub fn follow(&self, limits: Vec<Shared>) {
        self.limits.send_replace(limits);
    }

    /// What its files say, from the next connection on.
    pub fn follow_tls(&self, tls: Option<&Upstream>) {
        self.tls.send_replace(tls.map(without_alpn));
    }

    /// Waits for the first answer, until at most 250 ms after the start.
    pub async fn first_contact(&self) {
        // None in time is no fault: limits begin as if Redis were away.
        let _ = timeout_at(self.started + FIRST_MAX, self.status.first.notified()).await;
    }

    /// Ends it, and tells Redis that this process does not count any more; takes 50 ms at most.
    pub async fn leave(mut self) {
        self.leaving.send_replace(true);
        let [runner, _] = &mut self.tasks;
        // Without it the others count this process until it was not heard of for some time.
        let _ = timeout(LEAVE_MAX, runner).await;
    }

    /// What is known of Redis.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }
}

impl Drop for LimitSync {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Redis speaks no HTTP, and a TLS proxy before it may refuse who says so.
fn without_alpn(tls: &Upstream) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&tls.config);
    config.alpn_protocols.clear();
    Arc::new(config)
}
