//! Metric blocks: what a core counts and control sums up at a scrape.
//!
//! Each block has one writer, its core, so a counter is a relaxed load and a relaxed store, never a locked
//! read-modify-write. Readers may see counters of one block at slightly different moments, never a torn value.
//! Blocks are kept by stable names in the [`Registry`], so they outlive a config (and so do their counts).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::end::{Closed, Deadline, End, Failure, Handshake, PartReason, Skip};

/// A count that only grows. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the block's core may call it: two writers would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative. Only the block's core may call it.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets the value. Only the block's core may call it.
    #[inline]
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One counter per row of a closed set; a row that does not exist counts nowhere.
#[derive(Debug)]
pub struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Counters(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Counters<N> {
    /// Adds `n` to row `index`.
    #[inline]
    pub fn add(&self, index: usize, n: u64) {
        if let Some(counter) = self.0.get(index) {
            counter.add(n);
        }
    }

    /// The count of row `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, Counter::get)
    }

    /// All counts, in row order.
    #[must_use]
    pub fn read(&self) -> [u64; N] {
        std::array::from_fn(|i| self.get(i))
    }
}

/// How many bounds a histogram has; one more bucket takes what is over the last.
pub const BOUNDS: usize = 19;
/// Buckets of a histogram.
pub const BUCKETS: usize = BOUNDS + 1;

/// Upper bounds in µs for times that a client or an upstream is part of: 50 µs to 60 s, the longest default deadline.
pub const TIME_BOUNDS_US: [u64; BOUNDS] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Upper bounds in µs for what the gateway itself adds, usually tens of µs: 5 µs to 5 s.
pub const ADDED_BOUNDS_US: [u64; BOUNDS] =
    [5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

/// Times in buckets, and their sum. One writer.
#[derive(Debug)]
pub struct Histogram {
    bounds_us: &'static [u64; BOUNDS],
    buckets: Counters<BUCKETS>,
    sum_us: Counter,
}

impl Histogram {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new(bounds_us: &'static [u64; BOUNDS]) -> Self {
        Histogram { bounds_us, buckets: Counters::default(), sum_us: Counter::default() }
    }

    /// Counts one time of `us` µs.
    #[inline]
    pub fn observe(&self, us: u64) {
        // Most times fall into the first few buckets, so a scan beats a binary search.
        let bucket = self.bounds_us.iter().position(|&bound| us <= bound).unwrap_or(BOUNDS);
        self.buckets.add(bucket, 1);
        self.sum_us.add(us);
    }

    /// Adds what was counted here to `total`.
    pub fn add_to(&self, total: &mut Times) {
        for (sum, n) in total.buckets.iter_mut().zip(self.buckets.read()) {
            *sum += n;
        }
        total.sum_us += self.sum_us.get();
    }
}

/// A histogram as read, summed over cores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// Counts per bucket, not cumulative; the last bucket has no bound.
    pub buckets: [u64; BUCKETS],
    /// The sum of all times, in µs.
    pub sum_us: u64,
}

impl Times {
    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What a worker's runtime runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// epoll, where io_uring is refused.
    Epoll,
    /// io_uring.
    IoUring,
}

impl Driver {
    /// The label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Epoll => "epoll",
            Driver::IoUring => "io_uring",
        }
    }
}

/// Statuses that the codec refuses a request with; `CoreBlock::parse_error` counts by them.
pub const PARSE_STATUSES: [u16; 8] = [400, 408, 413, 414, 421, 431, 501, 505];

/// What one core counts, apart from routes and upstreams.
///
/// Two cache lines wide in alignment (the prefetcher works on pairs), so that no other core's counters share a line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreBlock {
    /// Downstream connections accepted.
    pub connections_accepted: Counter,
    /// Downstream connections open now.
    pub connections_active: Gauge,
    /// Downstream connections closed, by [`Closed::index`].
    pub connections_closed: Counters<{ Closed::COUNT }>,
    /// Connections closed at a cap, with 503 or without a word.
    pub connections_refused: Counter,
    /// TLS handshakes with clients, by [`Handshake::index`].
    pub handshakes: Counters<{ Handshake::COUNT }>,
    /// TLS handshakes with upstreams that resumed a session.
    pub upstream_handshakes_resumed: Counter,
    /// TLS handshakes with upstreams that did not.
    pub upstream_handshakes_full: Counter,
    /// Failed accepts: out of file descriptors or memory.
    pub accept_errors: Counter,
    /// Requests in progress now.
    pub requests_active: Gauge,
    /// Tunnels open now.
    pub tunnels_active: Gauge,
    /// Tunnels that were opened.
    pub tunnels_opened: Counter,
    /// Panics caught in tasks of this worker.
    pub panics: Counter,
    /// Refused requests, in the order of [`PARSE_STATUSES`]; see [`Self::parse_error`].
    pub parse_errors: Counters<{ PARSE_STATUSES.len() }>,
    /// Deadlines that fired, by [`Deadline::index`].
    pub deadlines: Counters<{ Deadline::COUNT }>,
    /// Requests sent on a pooled upstream connection.
    pub pool_hits: Counter,
    /// Requests for which no pooled connection was there.
    pub pool_misses: Counter,
    /// Pooled connections thrown away: closed, bytes waiting, too old.
    pub pool_discarded: Counter,
    /// Requests sent a second time.
    pub retries: Counter,
    /// Upstream connections established.
    pub connects: Counter,
    /// Upstream connections that could not be established.
    pub connect_failures: Counter,
    /// Bytes that aggregations hold now.
    pub aggregation_bytes: Gauge,
    /// Bytes of last good answers that are kept now.
    pub stale_bytes: Gauge,
    /// Tokens that were known to be right.
    pub tokens_known: Counter,
    /// Tokens that were checked.
    pub tokens_checked: Counter,
    /// Bytes that known tokens hold now.
    pub token_bytes: Gauge,
    /// Access log lines that found the ring full.
    pub log_lines_dropped: Counter,
    /// Access log lines that were not drawn for the sample.
    pub log_lines_unsampled: Counter,
    /// 0 until the runtime is up, then 1 + the [`Driver`].
    driver: Gauge,
}

impl CoreBlock {
    /// Counts a request that the codec refused with `status`; one that is not in the table counts as 400.
    #[cold]
    pub fn parse_error(&self, status: u16) {
        self.parse_errors.add(PARSE_STATUSES.iter().position(|&s| s == status).unwrap_or(0), 1);
    }

    /// Says what this worker runs on, once its runtime is up.
    pub fn set_driver(&self, driver: Driver) {
        self.driver.set(match driver {
            Driver::Epoll => 1,
            Driver::IoUring => 2,
        });
    }

    /// What this worker runs on; `None` until its runtime is up.
    #[must_use]
    pub fn driver(&self) -> Option<Driver> {
        match self.driver.get() {
            1 => Some(Driver::Epoll),
            2 => Some(Driver::IoUring),
            _ => None,
        }
    }
}

/// Label values of a status class: by `status / 100`, and `none` when no status was sent.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The name under which requests are counted that no route matched, or whose head could not be read.
pub const NO_ROUTE: &str = "(none)";

/// What one core counts for one route.
#[derive(Debug)]
#[repr(align(128))]
pub struct RouteBlock {
    /// Requests by status class, in the order of [`STATUS_CLASSES`].
    pub by_class: Counters<{ STATUS_CLASSES.len() }>,
    /// Requests by [`End::index`].
    pub by_end: Counters<{ End::COUNT }>,
    /// Bytes received from clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Whole time of a request; bounds [`TIME_BOUNDS_US`].
    pub total: Histogram,
    /// Time spent waiting for the upstream, of requests that went there; bounds [`TIME_BOUNDS_US`].
    pub upstream: Histogram,
    /// Time that the gateway added; bounds [`ADDED_BOUNDS_US`].
    pub added: Histogram,
}

/// The countable facts of one finished request.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// The status sent, 0 when none was.
    pub status: u16,
    /// How it ended.
    pub end: End,
    /// Bytes received from the client.
    pub bytes_in: u64,
    /// Bytes sent to the client.
    pub bytes_out: u64,
    /// Whole time in µs.
    pub total_us: u64,
    /// Time spent waiting for the upstream in µs; `None` when no upstream was asked.
    pub upstream_us: Option<u64>,
    /// Time that the gateway added in µs.
    pub added_us: u64,
}

impl Default for RouteBlock {
    fn default() -> Self {
        RouteBlock {
            by_class: Counters::default(),
            by_end: Counters::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            total: Histogram::new(&TIME_BOUNDS_US),
            upstream: Histogram::new(&TIME_BOUNDS_US),
            added: Histogram::new(&ADDED_BOUNDS_US),
        }
    }
}

impl RouteBlock {
    /// Counts one finished request.
    #[inline]
    pub fn finish(&self, f: &Finished) {
        self.by_class.add(usize::from(f.status / 100), 1);
        self.by_end.add(f.end.index(), 1);
        self.bytes_in.add(f.bytes_in);
        self.bytes_out.add(f.bytes_out);
        self.total.observe(f.total_us);
        if let Some(us) = f.upstream_us {
            self.upstream.observe(us);
        }
        self.added.observe(f.added_us);
    }
}

/// What one core counts for one upstream.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamBlock {
    /// Requests sent, each try counted.
    pub requests: Counter,
    /// Failed tries, by [`Failure::index`].
    pub failures: Counters<{ Failure::COUNT }>,
    /// Requests in flight now.
    pub in_flight: Gauge,
    /// Tries that went to another endpoint than their key's first, since that one was overloaded.
    pub hash_spills: Counter,
}

/// What one core counts for one filter that may refuse.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct FilterBlock {
    /// Requests that it let pass.
    pub passed: Counter,
    /// Requests that it answered itself.
    pub refused: Counter,
    /// Requests that it would have refused but for its `dry_run`.
    pub would_refuse: Counter,
    /// Requests that had to wait for it, whatever became of them.
    pub waited: Counter,
    /// Requests that it decided on by an answer that it remembered.
    pub cached: Counter,
    /// Calls of its own that failed, or requests and answers on which its plugin did.
    pub failed: Counter,
    /// Copies of requests that it sent.
    pub sent: Counter,
    /// Requests that it left alone, since it does only so much at a time.
    pub dropped: Counter,
}

/// How many codings there are.
pub const CODINGS: usize = 3;

/// What one core counts for one filter that compresses.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CompressionBlock {
    /// Answers that were compressed, by coding.
    pub answers: Counters<CODINGS>,
    /// Those that were not, by [`Skip::index`].
    pub skipped: Counters<{ Skip::COUNT }>,
    /// Bytes before.
    pub bytes_in: Counter,
    /// Bytes after.
    pub bytes_out: Counter,
}

/// What one core counts for one part of an aggregation.
#[derive(Debug)]
#[repr(align(128))]
pub struct PartBlock {
    /// Answers that were a success.
    pub ok: Counter,
    /// Those that were none, by [`PartReason::index`].
    pub failed: Counters<{ PartReason::COUNT }>,
    /// How often a value of the config stood for it.
    pub fallback_static: Counter,
    /// How often its last good answer did.
    pub fallback_stale: Counter,
    /// From its start to its end, of parts that were asked; bounds [`TIME_BOUNDS_US`].
    pub duration: Histogram,
}

impl PartBlock {
    /// Counts a part that was asked and took `us` µs; without a reason it was a success.
    #[inline]
    pub fn ended(&self, reason: Option<PartReason>, us: u64) {
        match reason {
            None => self.ok.add(1),
            Some(reason) => self.failed.add(reason.index(), 1),
        }
        self.duration.observe(us);
    }
}

impl Default for PartBlock {
    fn default() -> Self {
        PartBlock {
            ok: Counter::default(),
            failed: Counters::default(),
            fallback_static: Counter::default(),
            fallback_stale: Counter::default(),
            duration: Histogram::new(&TIME_BOUNDS_US),
        }
    }
}

/// What the log's writer thread counts; it is the one writer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LogBlock {
    /// Bytes written.
    pub bytes_written: Counter,
    /// Failed writes and re-opens.
    pub errors: Counter,
    /// Lines that left a ring but never reached the target.
    pub lines_lost: Counter,
}

/// All blocks, by worker and stable name. Control and a starting worker lock it; the request path holds the `Arc`s.
#[derive(Debug, Default)]
pub struct Registry {
    blocks: Mutex<Blocks>,
    log: Arc<LogBlock>,
}

/// Blocks of one kind, by name and then by worker.
pub type ByName<B> = BTreeMap<Box<str>, BTreeMap<usize, Arc<B>>>;

/// What a [`Registry`] holds.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// By worker.
    pub cores: BTreeMap<usize, Arc<CoreBlock>>,
    /// By route and worker.
    pub routes: ByName<RouteBlock>,
    /// By upstream and worker.
    pub upstreams: ByName<UpstreamBlock>,
    /// By filter and worker.
    pub filters: ByName<FilterBlock>,
    /// By filter and worker, of filters that compress.
    pub compressions: ByName<CompressionBlock>,
    /// By route, part and worker.
    pub parts: BTreeMap<Box<str>, ByName<PartBlock>>,
}

impl Registry {
    /// The block of worker number `worker`, made if it is not there.
    #[must_use]
    pub fn core(&self, worker: usize) -> Arc<CoreBlock> {
        self.with(|b| Arc::clone(b.cores.entry(worker).or_default()))
    }

    /// The block of route `name` on `worker`, made if it is not there. [`NO_ROUTE`] is for requests without one.
    #[must_use]
    pub fn route(&self, worker: usize, name: &str) -> Arc<RouteBlock> {
        self.with(|b| get_or_create(&mut b.routes, worker, name))
    }

    /// The block of upstream `name` on `worker`, made if it is not there.
    #[must_use]
    pub fn upstream(&self, worker: usize, name: &str) -> Arc<UpstreamBlock> {
        self.with(|b| get_or_create(&mut b.upstreams, worker, name))
    }

    /// The block of filter `name` on `worker`, made if it is not there.
    #[must_use]
    pub fn filter(&self, worker: usize, name: &str) -> Arc<FilterBlock> {
        self.with(|b| get_or_create(&mut b.filters, worker, name))
    }

    /// The block of the compressing filter `name` on `worker`, made if it is not there.
    #[must_use]
    pub fn compression(&self, worker: usize, name: &str) -> Arc<CompressionBlock> {
        self.with(|b| get_or_create(&mut b.compressions, worker, name))
    }

    /// The block of part `name` of route `route` on `worker`, made if it is not there.
    #[must_use]
    pub fn part(&self, worker: usize, route: &str, name: &str) -> Arc<PartBlock> {
        self.with(|b| get_or_create(b.parts.entry(route.into()).or_default(), worker, name))
    }

    /// The block of the log's writer thread.
    #[must_use]
    pub fn log(&self) -> Arc<LogBlock> {
        Arc::clone(&self.log)
    }

    /// Reads all blocks under the lock, for a scrape.
    pub fn with<T>(&self, read: impl FnOnce(&mut Blocks) -> T) -> T {
        // No code that can panic runs under the lock; if one did, counters are still counters.
        read(&mut self.blocks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn get_or_create<B: Default>(blocks: &mut ByName<B>, worker: usize, name: &str) -> Arc<B> {
    if !blocks.contains_key(name) {
        blocks.insert(name.into(), BTreeMap::new());
    }
    match blocks.get_mut(name) {
        Some(workers) => Arc::clone(workers.entry(worker).or_default()),
        None => Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(status: u16, end: End, total_us: u64) -> Finished {
        Finished { status, end, bytes_in: 10, bytes_out: 20, total_us, upstream_us: None, added_us: 7 }
    }

    #[test]
    fn a_request_is_counted_once_in_each_view() {
        let route = RouteBlock::default();
        route.finish(&finished(204, End::Ok, 50));
        route.finish(&finished(0, End::ClientGone, 51));
        route.finish(&finished(502, End::UpstreamReset, u64::MAX >> 1));
        assert_eq!(route.by_class.read(), [1, 0, 1, 0, 0, 1]);
        assert_eq!(route.by_end.read().iter().sum::<u64>(), 3);
        assert_eq!(route.by_end.get(End::ClientGone.index()), 1);
        assert_eq!((route.bytes_in.get(), route.bytes_out.get()), (30, 60));
        let mut total = Times::default();
        route.total.add_to(&mut total);
        assert_eq!((total.buckets[0], total.buckets[1], total.buckets[BOUNDS]), (1, 1, 1), "bounds are inclusive");
        let (mut upstream, mut added) = (Times::default(), Times::default());
        route.upstream.add_to(&mut upstream);
        route.added.add_to(&mut added);
        assert_eq!((upstream.count(), added.count(), added.sum_us), (0, 3, 21));
    }

    #[test]
    fn bounds_grow() {
        assert!(TIME_BOUNDS_US.is_sorted_by(|a, b| a < b) && ADDED_BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn an_unknown_status_counts_as_400_and_an_unknown_row_nowhere() {
        let core = CoreBlock::default();
        core.parse_error(431);
        core.parse_error(418);
        assert_eq!(core.parse_errors.read(), [1, 0, 0, 0, 0, 1, 0, 0]);
        core.connections_closed.add(usize::MAX, 1);
        assert_eq!(core.connections_closed.read().iter().sum::<u64>(), 0);
    }

    #[test]
    fn blocks_are_kept_by_name_and_share_no_cache_line() {
        let registry = Registry::default();
        registry.route(0, "users").bytes_in.add(1);
        registry.route(0, "users").bytes_in.add(1);
        registry.route(1, "users").bytes_in.add(5);
        assert_eq!(registry.route(0, "users").bytes_in.get(), 2);
        assert_eq!(align_of::<CoreBlock>(), 128);
        assert!(!Arc::ptr_eq(&registry.upstream(0, "a"), &registry.upstream(1, "a")));
        assert_eq!(registry.core(3).driver(), None);
        registry.core(3).set_driver(Driver::IoUring);
        assert_eq!(registry.core(3).driver().map(Driver::name), Some("io_uring"));
    }
}
