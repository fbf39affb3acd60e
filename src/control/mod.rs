//! The control plane: everything that may wait. One tokio thread; it prepares workers, then watches over them.

pub mod access_log;
pub mod admin;
pub mod cpus;
pub mod demo;
pub mod descriptors;
pub mod prometheus;
pub mod publish;
mod report;
pub mod resolve;
pub mod signal;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use tokio::net::TcpListener;

use crate::config::observe::AccessLog;
use crate::config::{Config, hosts};
use crate::io::listen;
use crate::shared::log_ring::{self, RING_BYTES_DEFAULT};
use crate::shared::mailbox::{FromWorker, mailbox, to_control};
use crate::shared::metrics::Registry;
use crate::snapshot::Snapshot;
use crate::snapshot::start::WorkerStart;

use access_log::{Options, Stopped, Target, Writer};
use admin::AdminState;
use publish::Publisher;
use report::report;
use resolve::Names;
use signal::{Signal, Signals};

/// Longest time from the start of the workers to all of them being ready.
const START_MAX: Duration = Duration::from_secs(10);

/// Longest time that requests cut off at the end of a drain get to be answered and logged.
const CUT_MAX: Duration = Duration::from_millis(500);

/// Control with all workers prepared, none of them started.
pub struct Control {
    drain: Duration,
    names: Names,
    publisher: Publisher,
    from_workers: Receiver<FromWorker<Snapshot>>,
    workers: usize,
    writer: Option<Writer>,
    signals: Signals,
    admin: Arc<AdminState>,
    admin_listener: Option<TcpListener>,
    addresses: Vec<SocketAddr>,
}

/// Why the gateway can not start: for people, with the remedy.
pub type StartError = String;

/// Binds, resolves and builds everything. Nothing has been accepted and no thread of a worker runs when it fails.
///
/// # Errors
/// What is wrong, and what helps.
pub async fn prepare(mut config: Config) -> Result<(Control, Vec<WorkerStart>), StartError> {
    let signals = Signals::listen().map_err(|e| format!("signals: {e}"))?;
    let allowed = cpus::allowed();
    let cpus = cpus::choose(&config.workers, &allowed, cpus::quota())?;
    let workers = cpus.len();
    for cut in descriptors::fit(&mut config, workers, descriptors::limit()) {
        report(format_args!("warning: {cut}"));
    }
    let registry = Arc::new(Registry::default());
    let admin = Arc::new(AdminState::new(Arc::clone(&registry), workers));
    let admin_listener = match config.admin {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|e| in_use("admin", address, &e))?),
        None => None,
    };
    let names = resolve::resolve_once(host_names(&config)).await;
    let resolved = names.resolved();
    for unresolved in &resolved.unresolved {
        report(format_args!("warning: {unresolved}"));
    }
    admin.set_unresolved(resolved.unresolved.iter().map(|unresolved| unresolved.name.clone()).collect());
    let drain = config.drain.get();
    let log = match &config.observe.access_log {
        AccessLog::Off => None,
        AccessLog::Stdout => Some(Target::Stdout),
        AccessLog::Stderr => Some(Target::Stderr),
        AccessLog::File(path) => Some(Target::File(PathBuf::from(path))),
    };
    let mut per_worker = bind(&config, workers)?;
    let addresses = per_worker.first().map(|bound| bound.iter().map(|b| b.address).collect()).unwrap_or_default();
    let (mut publisher, snapshots) =
        Publisher::new(config, Arc::clone(&registry), workers, &resolved.addresses).map_err(|e| e.to_string())?;

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
    // The log's thread keeps off the workers' CPUs where there are others.
    let spare: Vec<usize> = allowed.into_iter().filter(|cpu| !cpus.contains(cpu)).collect();
    let writer = match log {
        Some(target) => {
            let shown = format!("{target:?}");
            let writer = Writer::start(Options { target, cpus: spare }, rings, registry.log());
            Some(writer.map_err(|e| format!("access log: {shown}: {e}; check path and permissions"))?)
        }
        None => None,
    };
    let control =
        Control { drain, names, publisher, from_workers, workers, writer, signals, admin, admin_listener, addresses };
    Ok((control, starts))
}

fn host_names(config: &Config) -> Vec<String> {
    let endpoints = config.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let name = |endpoint: &crate::config::upstreams::Endpoint| match &endpoint.address {
        hosts::Address::Name { host, .. } => Some(host.clone()),
        hosts::Address::Ip(_) => None,
    };
    endpoints.filter_map(name).collect()
}

/// Every listener's sockets, by worker.
fn bind(config: &Config, workers: usize) -> Result<Vec<Vec<listen::Bound>>, StartError> {
    let mut per_worker: Vec<Vec<listen::Bound>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let bound =
            listen::bind(listener.address, workers).map_err(|e| in_use(&listener.name.value, listener.address, &e))?;
        for (worker, bound) in per_worker.iter_mut().zip(bound) {
            worker.push(bound);
        }
    }
    Ok(per_worker)
}

fn in_use(name: &str, address: SocketAddr, e: &io::Error) -> StartError {
    let remedy = match e.kind() {
        io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another address",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: `setcap cap_net_bind_service=+ep ringway`, or choose another"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        _ => "check the address",
    };
    format!("listener {name}: {address}: {e}; {remedy}")
}

impl Control {
    /// Where the gateway listens, with the ports the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Watches over the started workers until the gateway is to end; `beside` runs along (the demo's services). Returns
    /// the exit code.
    pub async fn run(mut self, beside: impl Future<Output = ()>, on_ready: impl FnOnce()) -> u8 {
        let names = std::mem::take(&mut self.names);
        let admin = Arc::clone(&self.admin);
        let serve_admin = serve_admin(self.admin_listener.take(), Arc::clone(&admin));
        let (resolved_tx, resolved_rx) = async_channel::unbounded();
        let watch = resolve::watch(names, move |resolved| drop(resolved_tx.try_send(resolved)));
        let background = async { tokio::join!(serve_admin, watch, beside) };
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

    async fn serve(mut self, resolved: &Receiver<resolve::Resolved>, on_ready: impl FnOnce()) -> u8 {
        if let Err(cause) = self.await_ready().await {
            report(format_args!("error: {cause}"));
            return self.end(1);
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
                    Ok(_) => {} // a retired snapshot is dropped here
                    Err(_) => break 1,
                },
                Ok(resolved) = resolved.recv() => self.publish(resolved).await,
            }
        };
        self.end(code)
    }

    async fn publish(&mut self, resolved: resolve::Resolved) {
        self.admin.set_unresolved(resolved.unresolved.iter().map(|unresolved| unresolved.name.clone()).collect());
        if let Err(e) = self.publisher.publish(&resolved.addresses).await {
            report(format_args!("error: new addresses are not used: {e}"));
        }
    }

    async fn await_ready(&mut self) -> Result<(), StartError> {
        let mut ready = 0;
        let mut told = false;
        while ready < self.workers {
            let message = tokio::time::timeout(START_MAX, self.from_workers.recv()).await;
            match message {
                Ok(Ok(FromWorker::Ready { worker, driver, fallback })) => {
                    ready += 1;
                    self.admin.worker_running(worker);
                    if !std::mem::replace(&mut told, true) {
                        report(format_args!("{} workers on {driver}", self.workers));
                        if let Some(cause) = fallback {
                            report(format_args!("warning: io_uring is not used, which costs speed: {cause}"));
                        }
                    }
                }
                Ok(Ok(FromWorker::Failed { worker, cause })) => return Err(format!("worker {worker}: {cause}")),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Err("the workers did not start within 10 s".to_owned()),
            }
        }
        Ok(())
    }

    /// Lets what runs finish, up to the drain time; a second signal ends it at once.
    async fn drain(&mut self) -> u8 {
        report(format_args!("draining, at most {} s; a second signal ends it", self.drain.as_secs_f64()));
        self.admin.drain();
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

    /// Writes out the access log; the process ends next.
    fn end(self, code: u8) -> u8 {
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

async fn serve_admin(listener: Option<TcpListener>, state: Arc<AdminState>) {
    let Some(listener) = listener else { return };
    if let Err(e) = admin::serve(listener, state).await {
        report(format_args!("error: admin: {e}"));
    }
}
