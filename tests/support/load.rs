//! Open load: requests that are sent when they are due, whatever became of those before, and what came of each; and the
//! oracle that says how much of it may have passed.

use super::{Client, Gateway};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub sent: Instant,
    pub took: Duration,
    pub status: u16,
}

/// One load at a time: what several at once would show is how they keep each other from the processor, so that gateways lose
/// Redis more often than the scenario has it lost.
fn alone() -> MutexGuard<'static, ()> {
    static LOAD: Mutex<()> = Mutex::new(());
    LOAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections to each gateway: one alone would have to wait for its answers.
const CLIENTS: u32 = 4;

/// Sends `rate` requests a second altogether, shared out among the gateways, for `time`; sorted by when they were sent.
pub fn drive(gateways: &[&Gateway], rate: u32, time: Duration, request: &str) -> Vec<Asked> {
    let stop = AtomicBool::new(false);
    drive_until(gateways, rate, request, &stop, || {
        std::thread::sleep(time); // the length of the load
    })
}

/// The same while `meanwhile` runs.
pub fn drive_while(gateways: &[&Gateway], rate: u32, request: &str, meanwhile: impl FnOnce()) -> Vec<Asked> {
    drive_until(gateways, rate, request, &AtomicBool::new(false), meanwhile)
}

fn drive_until(
    gateways: &[&Gateway],
    rate: u32,
    request: &str,
    stop: &AtomicBool,
    meanwhile: impl FnOnce(),
) -> Vec<Asked> {
    let _alone = alone();
    let clients = CLIENTS * gateways.len() as u32;
    let every = Duration::from_secs(1) * clients / rate;
    let start = Instant::now();
    let mut all: Vec<Asked> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (n, gateway) in (0..clients).zip(gateways.iter().cycle()) {
            let (first, gateway): (Instant, &Gateway) = (start + every * n / clients, gateway);
            threads.push(scope.spawn(move || one(gateway, first, every, request, stop)));
        }
        let stopped = Stop(stop);
        meanwhile();
        drop(stopped);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by_key(|asked| asked.sent);
    all
}

/// Ends the load when it is dropped: also when what was to run meanwhile panics, which would wait for the load for ever.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn one(gateway: &Gateway, first: Instant, every: Duration, request: &str, stop: &AtomicBool) -> Vec<Asked> {
    let mut client = Client::connect(gateway);
    let (mut due, mut all) = (first, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(due.saturating_duration_since(Instant::now())); // the pace of the load
        due += every;
        let sent = Instant::now();
        let status = client.ask(request).status;
        all.push(Asked { sent, took: sent.elapsed(), status });
    }
    all
}

/// When requests passed, in µs from the first request on, earliest first.
pub fn passed_us(all: &[Asked]) -> Vec<u64> {
    let Some(start) = all.first().map(|asked| asked.sent) else { return Vec::new() };
    // It was let through after it was sent and before its answer came.
    let mut times: Vec<u64> = all
        .iter()
        .filter(|asked| asked.status == 200)
        .map(|asked| (asked.sent.duration_since(start) + asked.took / 2).as_micros() as u64)
        .collect();
    times.sort_unstable();
    times
}

/// The worst excess over burst and rate, over all intervals that begin and end with a request: the largest number of
/// requests in one minus what a bucket of `burst` that is filled with `per_us` a µs would have let through.
pub fn worst_excess(times_us: &[u64], per_us: f64, burst: u64) -> i64 {
    // The deepest that such a bucket would have gone below zero.
    let (mut level, mut before, mut worst) = (burst as f64, None, 0.0_f64);
    for time in times_us {
        let passed = before.map_or(0.0, |before| (time - before) as f64 * per_us);
        level = (level + passed).min(burst as f64) - 1.0;
        worst = worst.min(level);
        before = Some(*time);
    }
    (-worst).ceil() as i64
}

/// The time that `share` of the requests took at most.
pub fn quantile(all: &[Asked], share: f64) -> Duration {
    let mut times: Vec<Duration> = all.iter().map(|asked| asked.took).collect();
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Measures until the share of the rate that was used is as good as it has to be, thrice at most: on a machine that does
/// other things too, answers of Redis come too late now and then, and what they granted is lost. The promise has to hold
/// each time.
pub fn well_used(name: &str, mut measure: impl FnMut() -> f64) {
    let mut all: Vec<f64> = Vec::new();
    while all.len() < 3 && all.last().is_none_or(|used| *used < 0.95) {
        all.push(measure());
    }
    println!("{name}: {all:.3?} of the rate used");
    assert!(all.last().is_some_and(|used| *used >= 0.95), "{name}: {all:?} of the rate used");
}

#[test]
fn the_oracle_sees_what_is_too_much() {
    let even: Vec<u64> = (0..100).map(|n| n * 10_000).collect();
    assert_eq!(worst_excess(&even, 1e-4, 1), 0);
    assert_eq!(worst_excess(&even, 0.5e-4, 1), 50, "half of them are too many");
    assert_eq!(worst_excess(&[0; 15], 1e-4, 10), 5);
}
