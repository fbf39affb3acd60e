//! The control plane: everything that may wait. One tokio thread; it prepares workers, then watches over them.

pub mod access_log;
pub mod admin;
mod bind;
pub mod certificates;
pub mod cpus;
pub mod credentials;
pub mod demo;
pub mod descriptors;
pub mod doctor;
mod fetch;
pub mod jwks;
pub mod limit_sync;
pub mod passwords;
pub mod prometheus;
pub mod publish;
mod report;
pub mod resolve;
pub mod signal;
mod turn;
mod unix_path;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;

use crate::config::access_log::LogTarget;
use crate::config::credentials::Credentials;
use crate::config::filters::{Filter, NamedFilter};
use crate::config::{Config, hosts};
use crate::shared::limits::Limits;
use crate::shared::log_ring::{self, RING_BYTES_DEFAULT};
use crate::shared::mailbox::{FromWorker, mailbox, to_control};
use crate::shared::metrics::Registry;
use crate::shared::passwords::queue;
use crate::snapshot::Snapshot;
use crate::snapshot::inputs::Made;
use crate::snapshot::start::WorkerStart;
use crate::socket::SocketName;
use crate::tls;

use access_log::{Options, Stopped, Target, Writer};
use admin::AdminState;
use bind::AdminSocket;
use certificates::{Certificates, Loaded};
use jwks::{Fetched, Sets};
use limit_sync::{LimitSync, Shared};
use publish::Publisher;
use report::report;
pub use report::{counted, last_words, say, say_panics};
use resolve::{Names, Resolved};
use signal::Signal;
pub use signal::{Hangup, Signals};

/// Longest time from the start of the workers to all of them being ready.
const START_MAX: Duration = Duration::from_secs(10);

/// Longest time that requests cut off at the end of a drain get to be answered and logged.
const CUT_MAX: Duration = Duration::from_millis(500);

/// Control with all workers prepared, none of them started.
pub struct Control {
    drain: Duration,
    names: Names,
    certificates: Receiver<Loaded>,
    credentials: Receiver<Credentials>,
    key_sets: Receiver<Fetched>,
    publisher: Publisher,
    limit_sync: Option<LimitSync>,
    from_workers: Receiver<FromWorker<Snapshot>>,
    workers: usize,
    writer: Option<Writer>,
    signals: Signals,
    admin: Arc<AdminState>,
    addresses: Vec<(SocketName, bool)>,
    paths: Vec<unix_path::Owned>,
    admin_path: Option<unix_path::Owned>,
}

/// Why the gateway can not start: for people, with the remedy.
pub type StartError = String;

/// Binds, resolves and builds everything. Nothing has been accepted and no thread of a worker runs when it fails, or
/// when it gives `None`: a signal ended it before it was done. The admin API answers as soon as it is bound.
///
/// # Errors
/// What is wrong, and what helps.
pub async fn prepare(
    mut config: Config,
    mut signals: Signals,
) -> Result<Option<(Control, Vec<WorkerStart>)>, StartError> {
    let allowed = cpus::allowed();
    let cpus = cpus::choose(&config.workers, &allowed, cpus::quota())?;
    // Control and the log's thread keep off the workers' CPUs where there are others. Threads inherit it; each worker
    // binds itself to its own.
    let spare: Vec<usize> = allowed.iter().copied().filter(|cpu| !cpus.contains(cpu)).collect();
    if let Err(e) = cpus::keep_to(&spare) {
        report(format_args!("control runs on any CPU, since it can not be bound to {spare:?}: {e}"));
    }
    let workers = cpus.len();
    for cut in descriptors::fit(&mut config, workers, descriptors::limit())? {
        report(format_args!("warning: {cut}"));
    }
    let used = cpus.iter().collect::<BTreeSet<_>>().len();
    if used < workers {
        let used = counted(used, "CPU");
        report(format_args!("warning: {workers} workers share {used}, which costs speed; `workers: auto` fits them"));
    }
    let registry = Arc::new(Registry::default());
    let admin = Arc::new(AdminState::new(Arc::clone(&registry), workers));
    let mut admin_path = None;
    if let Some(at) = &config.admin {
        let (socket, path) = bind::bind_admin(at)?;
        admin_path = path;
        tokio::spawn(serve_admin(socket, Arc::clone(&admin)));
    }
    let names = tokio::select! {
        names = resolve::resolve_once(host_names(&config)) => names,
        () = signals.end() => return Ok(None),
    };
    let resolved = names.resolved();
    // In one piece: a thousand names are no reason to lose any of them.
    say(resolved.unresolved.iter().map(|unresolved| format!("ringway: warning: {unresolved}\n")).collect());
    let drain = config.drain.get();
    let log = match &config.observe.access_log.to {
        LogTarget::Off => None,
        LogTarget::Stdout => Some(Target::Stdout),
        LogTarget::Stderr => Some(Target::Stderr),
        LogTarget::File(path) => Some(Target::File(path.clone())),
    };
    let (mut per_worker, paths) = bind::bind(&config, workers)?;
    let bound = per_worker.first().into_iter().flatten();
    let addresses =
        bound.zip(&config.listeners).map(|(bound, raw)| (bound.address.clone(), raw.tls.is_some())).collect();
    let (certificates, Loaded { material, expiries, .. }) = Certificates::load(&config, workers)?;
    certificates.warn(&expiries);
    admin.set_certificates(expiries, false);
    let (read_again, certificates_read) = async_channel::bounded(1);
    certificates.watch(read_again).map_err(|e| format!("the thread that watches certificates can not start: {e}"))?;
    let sets = tokio::select! {
        sets = Sets::new(&config).fetched() => sets,
        () = signals.end() => return Ok(None),
    };
    admin.set_key_sets(sets.states());
    let key_sets = sets.key_sets();
    let (keys_fetched, fetched_keys) = async_channel::unbounded();
    sets.watch(&keys_fetched);
    let limits = Arc::new(Limits::new(workers));
    let limit_sync = start_limits(&config, &limits, material.redis.as_ref(), workers, &admin);
    let (watch, credentials) = credentials::Watch::load(&config)?;
    let (read_again, credentials_read) = async_channel::bounded(1);
    watch.watch(read_again).map_err(|e| format!("the thread that watches credentials can not start: {e}"))?;
    let (asker, questions) = queue(passwords::QUEUE_LENGTH);
    if !credentials.users.is_empty() {
        passwords::start(&questions, workers).map_err(|e| format!("the threads for passwords can not start: {e}"))?;
    }
    let made = Made {
        metrics: Arc::clone(&registry),
        limits,
        workers,
        tls: material,
        credentials,
        key_sets,
        passwords: asker,
        addresses: resolved.addresses,
    };
    let (mut publisher, snapshots) = Publisher::new(config, made).map_err(|e| e.to_string())?;
    admin.set_unresolved(resolved.unresolved);

    let (to_control, from_workers) = to_control();
    let mut rings = Vec::new();
    let mut starts = Vec::new();
    for (worker, (snapshot, cpu)) in snapshots.into_iter().zip(&cpus).enumerate() {
        let metrics = registry.core(worker);
        let log = log.as_ref().map(|_| {
            let (producer, consumer) = log_ring::ring(RING_BYTES_DEFAULT, Arc::clone(&metrics));
            rings.push(consumer);
            producer
        });
        let (to_worker, mailbox) = mailbox();
        publisher.add_worker(to_worker);
        let listeners = if per_worker.is_empty() { Vec::new() } else { per_worker.remove(0) };
        let to_control = to_control.clone();
        let snapshot = Box::new(snapshot);
        starts.push(WorkerStart { worker, cpu: *cpu, snapshot, listeners, mailbox, to_control, metrics, log });
    }
    let writer = match log {
        Some(target) => {
            let writer = Writer::start(Options { target, cpus: spare }, rings, registry.log());
            Some(writer.map_err(|e| e.to_string())?)
        }
        None => None,
    };
    if let Some(limit_sync) = &limit_sync {
        limit_sync.first_contact().await;
    }
    let control = Control {
        drain,
        names,
        certificates: certificates_read,
        credentials: credentials_read,
        key_sets: fetched_keys,
        publisher,
        limit_sync,
        from_workers,
        workers,
        writer,
        signals,
        admin,
        addresses,
        paths,
        admin_path,
    };
    Ok(Some((control, starts)))
}

/// All rate limits of a config, used or not.
fn all_limits(config: &Config, limits: &Limits) -> Vec<Shared> {
    let of = |named: &NamedFilter| {
        let Filter::RateLimit(raw) = &named.filter else { return None };
        // One that is no limit is told when the snapshots are built.
        let spec = config.spec_of(&named.name.value, raw).ok()?;
        let wallet = limits.wallet(&named.name.value, spec.set().is_shared, raw.keys_max);
        Some(Shared { name: named.name.value.clone(), spec, table: wallet.table })
    };
    config.filters.iter().filter_map(of).collect()
}

/// Starts what keeps limits in step with Redis, if there is one; it is asked at once, while the start goes on.
fn start_limits(
    config: &Config,
    limits: &Limits,
    tls: Option<&tls::Upstream>,
    workers: usize,
    admin: &AdminState,
) -> Option<LimitSync> {
    let all = all_limits(config, limits);
    let tables = all.iter().map(|limit| (limit.name.clone(), Arc::clone(&limit.table))).collect();
    let limit_sync = config.rate_limits.redis.as_ref().map(|redis| LimitSync::start(redis, tls, workers as u64));
    if let Some(limit_sync) = &limit_sync {
        limit_sync.follow(all.into_iter().filter(|limit| limit.spec.set().is_shared).collect());
    }
    admin.set_limits(tables, limit_sync.as_ref().map(|limit_sync| Arc::clone(limit_sync.status())));
    limit_sync
}

fn host_names(config: &Config) -> Vec<String> {
    // One that drains may be gone already: nobody asks where it was.
    let endpoints = config.upstreams.iter().flat_map(|upstream| &upstream.endpoints).filter(|endpoint| !endpoint.drain);
    let name = |endpoint: &crate::config::upstreams::Endpoint| match &endpoint.address {
        hosts::EndpointAddress::Tcp(hosts::Address::Name { host, .. }) => Some(host.clone()),
        _ => None,
    };
    endpoints.filter_map(name).collect()
}

impl Control {
    /// Where the gateway listens, with the ports the kernel chose, and whether it speaks TLS there.
    pub fn addresses(&self) -> &[(SocketName, bool)] {
        &self.addresses
    }

    /// Watches over the started workers until the gateway is to end; `beside` runs along (the demo's services). Returns
    /// the exit code.
    pub async fn run(mut self, beside: impl Future<Output = ()>, on_ready: impl FnOnce()) -> u8 {
        let names = std::mem::take(&mut self.names);
        let (resolved_tx, resolved_rx) = async_channel::unbounded();
        let watch = resolve::watch(names, move |resolved, changed| drop(resolved_tx.try_send((resolved, changed))));
        let background = async { tokio::join!(watch, beside) };
        let foreground = self.serve(&resolved_rx, on_ready);
        tokio::pin!(background, foreground);
        let mut background_done = false;
        loop {
            tokio::select! {
                code = &mut foreground => return code,
                _ = &mut background, if !background_done => background_done = true,
            }
        }
    }

    async fn serve(mut self, resolved: &Receiver<(Resolved, bool)>, on_ready: impl FnOnce()) -> u8 {
        match self.await_ready().await {
            Ok(true) => {}
            Ok(false) => return self.end(0),
            Err(cause) => {
                report(format_args!("error: {cause}"));
                return self.end(1);
            }
        }
        on_ready();
        let code = loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signal::Drain => break self.drain().await,
                    Signal::ExitNow => break 1,
                    Signal::Reopen => if let Some(writer) = &self.writer { writer.reopen() },
                },
                message = self.from_workers.recv() => match message {
                    Ok(FromWorker::Failed { worker, cause }) => {
                        report(format_args!("error: worker {worker} has ended: {cause}"));
                        break 1;
                    }
                    Ok(FromWorker::Note(note)) => report(format_args!("{note}")),
                    Ok(_) => {} // a retired snapshot is dropped here
                    Err(_) => break 1,
                },
                Ok((resolved, changed)) = resolved.recv() => self.follow(resolved, changed).await,
                Ok(loaded) = self.certificates.recv() => self.follow_certificates(loaded).await,
                Ok(credentials) = self.credentials.recv() => self.follow_credentials(credentials).await,
                Ok(fetched) = self.key_sets.recv() => self.follow_keys(fetched).await,
            }
        };
        if code == 0
            && let Some(limit_sync) = self.limit_sync.take()
        {
            limit_sync.leave().await;
        }
        self.end(code)
    }

    /// Takes in a round of look-ups.
    async fn follow(&mut self, resolved: Resolved, changed: bool) {
        let Resolved { addresses, unresolved } = resolved;
        self.admin.set_unresolved(unresolved);
        if changed && let Err(e) = self.publisher.follow_names(addresses).await {
            report(format_args!("error: new addresses are not used: {e}"));
        }
    }

    /// Takes in certificates and keys that were read again.
    async fn follow_certificates(&mut self, loaded: Loaded) {
        let Loaded { material, expiries, stale } = loaded;
        self.admin.set_certificates(expiries, stale);
        if let Some(limit_sync) = &self.limit_sync {
            limit_sync.follow_tls(material.redis.as_ref());
        }
        if let Err(e) = self.publisher.follow_certificates(material).await {
            report(format_args!("error: new certificates are not used: {e}"));
        }
    }

    /// Takes in keys and passwords that were read again.
    async fn follow_credentials(&mut self, credentials: Credentials) {
        if let Err(e) = self.publisher.follow_credentials(credentials).await {
            report(format_args!("error: new keys and passwords are not used: {e}"));
        }
    }

    /// Takes in the outcome of a fetch of keys.
    async fn follow_keys(&mut self, fetched: Fetched) {
        let Fetched { states, source } = fetched;
        let filters: Vec<String> = states.iter().map(|state| state.filter.clone()).collect();
        self.admin.set_key_sets(states);
        if let Some(source) = source
            && let Err(e) = self.publisher.follow_keys(filters.into_iter(), &source).await
        {
            report(format_args!("error: new keys are not used: {e}"));
        }
    }

    /// True once all workers run, false if a signal ends it before.
    async fn await_ready(&mut self) -> Result<bool, StartError> {
        let mut drivers = Drivers::default();
        let until = tokio::time::Instant::now() + START_MAX;
        let mut ready = 0;
        while ready < self.workers {
            let message = tokio::select! {
                message = self.from_workers.recv() => message,
                () = self.signals.end() => return Ok(false),
                () = tokio::time::sleep_until(until) => return Err("the workers did not start within 10 s".to_owned()),
            };
            match message {
                Ok(FromWorker::Ready { worker, driver, fallback }) => {
                    ready += 1;
                    self.admin.worker_running(worker);
                    drivers.add(driver, fallback);
                }
                Ok(FromWorker::Failed { worker, cause }) => return Err(format!("worker {worker}: {cause}")),
                Ok(_) => {}
                Err(_) => return Err("the workers' threads have ended".to_owned()),
            }
        }
        drivers.announce();
        Ok(true)
    }

    /// Lets what runs finish, up to the drain time; a second signal ends it at once.
    async fn drain(&mut self) -> u8 {
        report(format_args!("draining, at most {} s; a second signal ends it", self.drain.as_secs_f64()));
        self.admin.drain();
        // Who connects from now on is refused, or reaches the gateway that comes next.
        self.paths.clear();
        self.publisher.drain();
        let mut until = tokio::time::Instant::now() + self.drain;
        let mut left = self.workers;
        let mut cut = false;
        while left > 0 {
            tokio::select! {
                message = self.from_workers.recv() => match message {
                    Ok(FromWorker::Drained { worker }) => {
                        left -= 1;
                        self.admin.worker_stopped(worker);
                    }
                    Ok(_) => {}
                    Err(_) => return 1,
                },
                signal = self.signals.next() => if signal == Signal::ExitNow { return 1 },
                () = tokio::time::sleep_until(until) => {
                    if std::mem::replace(&mut cut, true) {
                        return 0;
                    }
                    report(format_args!("the drain time is over; requests that still run are cut off"));
                    self.publisher.cut();
                    until += CUT_MAX;
                }
            }
        }
        0
    }

    /// Writes out the access log; the process ends next. Up to here the admin API tells that it drains, on a path as on a port.
    fn end(self, code: u8) -> u8 {
        drop(self.admin_path);
        match self.writer.map(Writer::stop) {
            Some(Stopped::Lost(lines)) => report(format_args!("error: {lines} access log lines could not be written")),
            Some(Stopped::Stuck) => {
                report(format_args!("error: the access log's target takes nothing; lines are lost"))
            }
            Some(Stopped::Flushed) | None => {}
        }
        code
    }
}

/// What the workers run on, to be said once for all of them.
#[derive(Default)]
struct Drivers {
    workers: BTreeMap<String, usize>,
    causes: BTreeSet<String>,
}

impl Drivers {
    fn add(&mut self, driver: String, fallback: Option<String>) {
        *self.workers.entry(driver).or_default() += 1;
        self.causes.extend(fallback);
    }

    fn announce(&self) {
        report(format_args!("{self}"));
        for cause in &self.causes {
            report(format_args!("warning: io_uring is not used, which costs speed: {cause}"));
        }
    }
}

/// `2 workers on io_uring`, or `6 workers on io_uring, 2 on epoll`.
impl fmt::Display for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_count: Vec<(&String, &usize)> = self.workers.iter().collect();
        by_count.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (i, (driver, n)) in by_count.into_iter().enumerate() {
            match i {
                0 => write!(f, "{} on {driver}", counted(*n, "worker"))?,
                _ => write!(f, ", {n} on {driver}")?,
            }
        }
        Ok(())
    }
}

async fn serve_admin(socket: AdminSocket, state: Arc<AdminState>) {
    if let Err(e) = admin::serve(socket, state).await {
        report(format_args!("error: admin: {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_one_line_and_each_cause_is_kept_once() {
        let mut drivers = Drivers::default();
        drivers.add("epoll".into(), Some("no memory".into()));
        assert_eq!(drivers.to_string(), "1 worker on epoll");
        (0..2).for_each(|_| drivers.add("io_uring (COOP)".into(), None));
        assert_eq!(drivers.to_string(), "2 workers on io_uring (COOP), 1 on epoll");
        drivers.add("epoll".into(), Some("no memory".into()));
        assert_eq!(drivers.causes.len(), 1);
    }
}
