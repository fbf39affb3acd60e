//! One worker: a pinned thread, its runtime, its accept tasks, its tick, its mailbox.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;

use async_channel::{Receiver, Sender};

use crate::core::{Core, ms};
use crate::io::deadline::TICK_MS;
use crate::io::listen::Listener;
use crate::io::runtime::{self, Driver};
use crate::io::{sleep_ms, spawn};
use crate::proxy::accept::accept;
use crate::proxy::plane::Plane;
use crate::shared::mailbox::{FromWorker, ToWorker};
use crate::shared::metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::start::WorkerStart;

/// The tick of a worker without connections, in ms: it costs nothing when nothing runs.
const QUIET_TICK_MS: u64 = 20;
/// Chores that are not a request's: idle upstream connections, retired snapshots, the wall clock.
const CHORES_MS: u64 = 1_000;
/// A connection that has been idle for less than this, in ms, is given as much to send one more request, whose answer
/// says that it is the last: on a busy connection the next request is on its way already.
const BUSY_GRACE_MS: u64 = 1_000;
/// Handshakes that had begun when a drain began get this long to complete and be accepted, in ms: a round trip around
/// the world.
const HANDSHAKES_MS: u64 = 300;
/// How often a draining worker looks whether it is done, in ms.
const DRAIN_POLL_MS: u64 = 5;

/// Starts the worker's thread. Its runtime is never dropped while the process lives: operations in flight own buffers
/// that the kernel may still write to.
pub fn start(start: WorkerStart) -> io::Result<()> {
    let builder = thread::Builder::new().name(format!("worker-{}", start.worker));
    builder.spawn(move || {
        let (worker, to_control) = (start.worker, start.to_control.clone());
        let failed = |cause: String| drop(to_control.try_send(FromWorker::Failed { worker, cause }));
        if let Err(e) = runtime::pin(start.cpu) {
            return failed(format!("can not be pinned to CPU {}: {e}; choose others with `workers:`", start.cpu));
        }
        match runtime::run(|driver| run(start, driver)) {
            Ok(Ok(())) => {}
            Ok(Err(e)) | Err(e) => failed(format!("{e}")),
        }
    })?;
    Ok(())
}

async fn run(start: WorkerStart, driver: Driver) -> io::Result<()> {
    let WorkerStart { worker, snapshot, listeners, mailbox, to_control, metrics, log, .. } = start;
    metrics.set_driver(match driver {
        Driver::IoUring(_) => metrics::Driver::IoUring,
        Driver::Epoll(_) => metrics::Driver::Epoll,
    });
    let core = Rc::new(Core::new(worker, metrics, log));
    let operator = to_control.clone();
    core.set_operator(move |text| drop(operator.try_send(FromWorker::Note(text))));
    let plane = Rc::new(Plane::new(Rc::clone(&core), snapshot));
    let accepting = Rc::new(Cell::new(0_usize));
    let mut stops = Vec::new();
    for (index, bound) in listeners.into_iter().enumerate() {
        let listener = Rc::new(Listener::new(bound)?);
        stops.push(Rc::clone(&listener));
        accepting.set(accepting.get() + 1);
        let (plane, running) = (Rc::clone(&plane), Rc::clone(&accepting));
        let on_panic = ends_worker(&core, &to_control);
        spawn(
            async move {
                accept(listener, index, plane).await;
                running.set(running.get() - 1);
            },
            on_panic,
        );
    }
    spawn(tick(Rc::clone(&plane), to_control.clone()), ends_worker(&core, &to_control));
    let fallback = match &driver {
        Driver::IoUring(_) => None,
        Driver::Epoll(cause) => Some(cause.clone()),
    };
    let _ = to_control.try_send(FromWorker::Ready { worker, driver: driver.to_string(), fallback });
    while let Ok(ToWorker::Snapshot(snapshot)) = mailbox.recv().await {
        plane.publish(snapshot);
    }
    core.draining.set(true);
    for listener in &stops {
        // Without it the short window stays in which closing one of several sockets can reset a client.
        let _ = listener.refuse_new();
    }
    sleep_ms(HANDSHAKES_MS).await;
    for listener in stops {
        listener.stop();
    }
    drain(&plane, &accepting, &mailbox).await;
    let _ = to_control.try_send(FromWorker::Drained { worker });
    // Control ends the process; until then the runtime stays.
    std::future::pending().await
}

/// A panic of a task that all connections of this worker need: better no worker than one without deadlines.
fn ends_worker(core: &Rc<Core>, to_control: &Sender<FromWorker<Snapshot>>) -> impl FnOnce() + 'static {
    let (core, to_control) = (Rc::clone(core), to_control.clone());
    move || {
        core.metrics.panics.add(1);
        let cause = "a task that all its connections need has panicked: a defect of the gateway".to_owned();
        let _ = to_control.try_send(FromWorker::Failed { worker: core.worker, cause });
    }
}

/// Until every connection has had its last answer.
async fn drain(plane: &Rc<Plane>, accepting: &Cell<usize>, mailbox: &Receiver<ToWorker<Snapshot>>) {
    let core = &plane.core;
    while accepting.get() > 0 || plane.open() > 0 {
        plane.end_idle(ms(core.clock.now_us()), BUSY_GRACE_MS);
        if matches!(mailbox.try_recv(), Ok(ToWorker::Cut)) {
            core.deadlines.fire_all();
        }
        sleep_ms(DRAIN_POLL_MS).await;
    }
}

/// Deadlines every 4 ms or when one is due, chores every second.
async fn tick(plane: Rc<Plane>, to_control: Sender<FromWorker<Snapshot>>) {
    let core = Rc::clone(&plane.core);
    let (mut chores_ms, mut next_ms) = (0, 0);
    loop {
        sleep_ms(if plane.open() > 0 { next_ms } else { QUIET_TICK_MS }).await;
        let now_ms = ms(core.clock.now_us());
        next_ms = core.deadlines.scan(now_ms).saturating_sub(now_ms).min(TICK_MS);
        core.deadlines.sweep(now_ms);
        plane.sweep_limits();
        if now_ms.saturating_sub(chores_ms) >= CHORES_MS {
            chores_ms = now_ms;
            core.clock.follow_wall_clock();
            core.report_memory();
            plane.prune(now_ms);
            for snapshot in plane.retired() {
                let _ = to_control.try_send(FromWorker::Retired(snapshot));
            }
        }
    }
}
