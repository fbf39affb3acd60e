//! What one core owns, and shares with no other: clock, deadlines, buffers, upstream connections, metrics, its log ring.

pub mod decisions;
pub mod encoders;
pub mod verified;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Kind};
use crate::io::buffers::ANSWER_BYTES;
use crate::io::{Buf, Buffers, Deadlines, Stream};
use crate::jwt;
use crate::limit::CoreWallet;
use crate::limit::queue::Queues;
use crate::observe::access_log::{Record, write_json};
use crate::observe::format::{Format, Rules};
use crate::observe::line::{self, Asked};
use crate::observe::time::TimeCache;
use crate::shared::limits::Wallet;
use crate::shared::log_ring::Producer;
use crate::shared::{CoreMetrics, UpstreamMetrics};
use crate::socket::SocketName;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::last_good::LastGood;
use crate::upstream::pool::PoolLimits;
use crate::upstream::random::XorShift;

use decisions::Decisions;
use encoders::Encoders;
use verified::Verified;

/// An upstream connection: shared by the two directions of one exchange.
pub type UpstreamStream = Rc<Stream>;
/// An endpoint with its idle connections.
pub type CoreEndpoint = Endpoint<UpstreamStream>;

/// One core's own state. It outlives snapshots.
pub struct Core {
    /// Which worker this is, from 0.
    pub worker: usize,
    /// Time, read once per step of a request.
    pub clock: Clock,
    /// What waits, and until when.
    pub deadlines: Rc<Deadlines>,
    /// Free I/O buffers.
    pub buffers: Rc<Buffers>,
    /// This core's counters.
    pub metrics: CoreMetrics,
    /// Set once the worker is to finish what runs and accept no more.
    pub draining: Cell<bool>,
    /// Until when one of its endpoints is avoided, in ms since the process began: picks look no closer after that.
    pub avoids_until_ms: Cell<u64>,
    /// Request ids.
    pub ids: RequestIds,
    /// The last good answers of parts.
    pub last_good: LastGood,
    /// Shadow calls that run now.
    pub shadows: Cell<usize>,
    held: Rc<Memory>,
    shadows_held: Rc<Memory>,
    filters_held: Rc<Memory>,
    copies_held: Rc<Memory>,
    /// For samples.
    pub random: RefCell<XorShift>,
    /// Passwords that were right a short while ago.
    pub verified: Rc<Verified>,
    /// What was said about requests a short while ago.
    pub decisions: Decisions,
    /// Encoders of answers.
    pub encoders: Encoders,
    /// Who waits for a place under a concurrency limit.
    pub queues: Rc<Queues>,
    /// Tokens that were found right.
    pub tokens: RefCell<jwt::Cache>,
    wallets: RefCell<Vec<Option<Rc<CoreWallet>>>>,
    limit_key: RefCell<Vec<u8>>,
    notes: RefCell<Notes>,
    endpoints: RefCell<HashMap<EndpointKey, Rc<CoreEndpoint>, foldhash::fast::RandomState>>,
    log: RefCell<Option<Log>>,
    date: RefCell<Date>,
}

/// Its upstream, its address, and what makes a TLS connection to it one of these (empty without TLS).
type EndpointKey = (Box<str>, SocketName, Box<str>);

struct Log {
    ring: Producer,
    time: TimeCache,
    line: Vec<u8>,
}

impl Core {
    /// A core that has not served anything. `log` is its end of the access log's ring, if there is one.
    pub fn new(worker: usize, metrics: CoreMetrics, log: Option<Producer>) -> Self {
        Self {
            worker,
            clock: Clock::start(),
            deadlines: Rc::default(),
            buffers: Rc::default(),
            metrics,
            draining: Cell::new(false),
            avoids_until_ms: Cell::new(0),
            ids: RequestIds::new(random_u64()),
            last_good: LastGood::default(),
            shadows: Cell::new(0),
            held: Rc::default(),
            shadows_held: Rc::default(),
            filters_held: Memory::of(FILTERS_BYTES_MAX),
            copies_held: Memory::of(COPIES_BYTES_MAX),
            random: RefCell::new(XorShift::new(random_u64())),
            verified: Rc::default(),
            decisions: Decisions::default(),
            encoders: Encoders::default(),
            queues: Rc::default(),
            tokens: RefCell::default(),
            wallets: RefCell::default(),
            limit_key: RefCell::default(),
            notes: RefCell::default(),
            endpoints: RefCell::default(),
            log: RefCell::new(log.map(|ring| Log { ring, time: TimeCache::default(), line: Vec::new() })),
            date: RefCell::default(),
        }
    }

    /// The endpoint at `address` of the upstream `name`: the same one from snapshot to snapshot. `identity` stands for all
    /// else that a connection to it depends on: a connection never serves under another one.
    pub fn endpoint(
        &self,
        name: &str,
        address: &SocketName,
        identity: &str,
        metrics: &UpstreamMetrics,
    ) -> Rc<CoreEndpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        let key = (name.into(), address.clone(), identity.into());
        Rc::clone(endpoints.entry(key).or_insert_with(|| Rc::new(Endpoint::new(address.clone(), metrics.clone()))))
    }

    /// This core's wallet on a limit's process wallet: the same one from snapshot to snapshot.
    #[inline]
    pub fn wallet(&self, of: &Wallet) -> Rc<CoreWallet> {
        if let Some(Some(wallet)) = self.wallets.borrow().get(of.index) {
            return Rc::clone(wallet);
        }
        self.open_wallet(of)
    }

    #[cold]
    fn open_wallet(&self, of: &Wallet) -> Rc<CoreWallet> {
        let mut wallets = self.wallets.borrow_mut();
        if wallets.len() <= of.index {
            wallets.resize(of.index + 1, None);
        }
        let wallet = Rc::new(CoreWallet::new(of.table.clone(), of.cores));
        if let Some(place) = wallets.get_mut(of.index) {
            *place = Some(Rc::clone(&wallet));
        }
        wallet
    }

    /// Runs `with` on the key that `write` appends to an empty buffer, which is kept for the next one.
    #[inline]
    pub fn with_limit_key<T>(&self, write: impl FnOnce(&mut Vec<u8>), with: impl FnOnce(&[u8]) -> T) -> T {
        self.with_key_buffer(|key| {
            write(key);
            with(key)
        })
    }

    /// Runs `with` on an empty buffer, which is kept for the next one.
    #[inline]
    pub fn with_key_buffer<T>(&self, with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut key = self.limit_key.borrow_mut();
        key.clear();
        with(&mut key)
    }

    /// Closes idle upstream connections that are spent or dead, or whose endpoint gets no more requests, and forgets
    /// endpoints that no snapshot uses.
    pub fn prune(&self, now_ms: u64, limits_of: impl Fn(&str) -> Option<PoolLimits>) {
        let mut discarded = 0;
        self.endpoints.borrow_mut().retain(|(name, ..), endpoint| {
            let mut pool = endpoint.pool.borrow_mut();
            if endpoint.drains.get() {
                pool.clear();
            } else if let Some(limits) = limits_of(name) {
                discarded += pool.prune(now_ms, &limits, |stream| stream.is_quiet());
            }
            drop(pool);
            Rc::strong_count(endpoint) > 1
        });
        self.metrics.pool_discarded.add(discarded as u64);
    }

    /// From now on aggregations may hold `bytes_max`, and shadows a part of as much. What they hold already stays.
    pub fn set_memory(&self, bytes_max: usize) {
        self.held.max.set(bytes_max);
        self.shadows_held.max.set(bytes_max / SHADOWS_PART);
    }

    /// A share of the memory that aggregations may hold, empty at first.
    pub fn hold(&self) -> Held {
        Held { memory: Rc::clone(&self.held), bytes: 0 }
    }

    /// The same for a shadow: what is thrown away can not take anything from an answer.
    pub fn hold_for_shadow(&self) -> Held {
        Held { memory: Rc::clone(&self.shadows_held), bytes: 0 }
    }

    /// The same for a call of a filter, apart from both.
    pub fn hold_for_filter(&self) -> Held {
        Held { memory: Rc::clone(&self.filters_held), bytes: 0 }
    }

    /// The same for a copy of a request, apart from all others: whoever sends bodies that are copied can take nothing else.
    pub fn hold_for_copy(&self) -> Held {
        Held { memory: Rc::clone(&self.copies_held), bytes: 0 }
    }

    /// Tells the metrics what aggregations and remembered tokens hold. Called once a second.
    pub fn report_memory(&self) {
        let as_gauge = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.aggregation_bytes.set(as_gauge(self.held.bytes.get()));
        self.metrics.stale_bytes.set(as_gauge(self.last_good.bytes()));
        self.metrics.token_bytes.set(as_gauge(self.tokens.borrow().bytes()));
    }

    /// Where notes for the operator go.
    pub fn set_operator(&self, tell: impl Fn(String) + 'static) {
        self.notes.borrow_mut().tell = Some(Box::new(tell));
    }

    /// Tells the operator about something that goes wrong again and again: the same is told once a minute.
    #[cold]
    pub fn note(&self, text: String) {
        let now_ms = self.deadlines.now_ms();
        let mut notes = self.notes.borrow_mut();
        notes.told.retain(|_, since_ms| now_ms.saturating_sub(*since_ms) < NOTE_AGAIN_MS);
        if notes.told.len() < NOTES_MAX && !notes.told.contains_key(text.as_str()) {
            notes.told.insert(text.as_str().into(), now_ms);
            if let Some(tell) = &notes.tell {
                tell(text);
            }
        }
    }

    /// Whether there is an access log.
    pub fn has_log(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// Writes an access log line into the ring.
    pub fn log(&self, record: &Record<'_>, rules: &Rules, asked: &dyn Asked) {
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.line.clear();
            match rules.format {
                Format::Json => write_json(record, &mut log.time, &mut log.line),
                _ => line::write(rules, record, asked, &mut log.time, &mut log.line),
            }
            log.ring.push(&log.line); // a full ring drops the line and counts it
        }
    }

    /// Appends the value of a Date field (RFC 9110 6.6.1).
    pub fn write_date(&self, out: &mut Vec<u8>) {
        let second = self.clock.unix_us(self.clock.now_us()) / 1_000_000;
        let mut date = self.date.borrow_mut();
        if date.second != second {
            date.second = second;
            date.text.clear();
            let time = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            let _ = write!(date.text, "{}", time.strftime("%a, %d %b %Y %H:%M:%S GMT")); // a String takes all
        }
        out.extend_from_slice(date.text.as_bytes());
    }
}

/// Shadows may hold this part of what aggregations may, beside it.
const SHADOWS_PART: usize = 8;
/// What calls of filters may hold: 6000 with the usual small answers.
const FILTERS_BYTES_MAX: usize = 64 << 20;
/// What copies of requests may hold.
const COPIES_BYTES_MAX: usize = 32 << 20;

#[derive(Default)]
struct Memory {
    bytes: Cell<usize>,
    max: Cell<usize>,
}

impl Memory {
    fn of(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self { bytes: Cell::new(0), max: Cell::new(bytes_max) })
    }
}

/// How many times its size a buffer may grow to at once.
const GROWTH_MAX: usize = 16;
/// Less room than this is not worth a read, in bytes.
const ROOM_MIN: usize = ANSWER_BYTES / 2;

/// Bytes that one call of an aggregation holds; they count until it is dropped.
pub struct Held {
    memory: Rc<Memory>,
    bytes: usize,
}

impl Held {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`Kind::MemoryFull`], and none are taken, if they are not to be had.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let total = self.memory.bytes.get().saturating_add(bytes);
        if total > self.memory.max.get() {
            return Err(Kind::MemoryFull.never());
        }
        self.memory.bytes.set(total);
        self.bytes += bytes;
        Ok(())
    }

    /// Makes room in a buffer that counts here for what is still to come of a body: `left` bytes, if that is known. It
    /// grows to at most so many times its size at once: memory is for what was sent, not for what is announced.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub fn make_room(&mut self, buf: &mut Buf, left: Option<usize>, buffers: &Buffers) -> Result<(), Error> {
        let wanted = match left {
            Some(left) => buf.len().saturating_add(left),
            None if buf.spare() < ROOM_MIN => buf.capacity() * 2,
            None => return Ok(()),
        };
        if wanted > buf.capacity() {
            let larger = wanted.min(buf.capacity() * GROWTH_MAX).next_power_of_two();
            self.grow(larger - buf.capacity().min(larger))?;
            buf.grow(larger, buffers);
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.bytes.set(self.memory.bytes.get().saturating_sub(self.bytes));
    }
}

/// The same note is told again after this long, in ms.
const NOTE_AGAIN_MS: u64 = 60_000;
/// Different notes in that time; an operator reads no more.
const NOTES_MAX: usize = 32;

#[derive(Default)]
struct Notes {
    told: HashMap<Box<str>, u64, foldhash::fast::RandomState>,
    tell: Option<Box<dyn Fn(String)>>,
}

#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

/// When the process began, as far as its clocks go: the cores and control count from the same moment, since what they
/// know together (leases, buckets) is kept in times.
static START: OnceLock<Instant> = OnceLock::new();

/// Monotonic time since the process began, and what the wall clock said then.
pub struct Clock {
    start: Instant,
    unix_us_at_start: Cell<u64>,
}

impl Clock {
    /// The clock of this thread: it shows the same time as those of all others.
    pub fn start() -> Self {
        let start = *START.get_or_init(Instant::now);
        let clock = Self { start, unix_us_at_start: Cell::new(0) };
        clock.follow_wall_clock();
        clock
    }

    /// µs since the process began (25 ns a call).
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The wall clock at `us` µs since the process began, in µs since 1970.
    pub fn unix_us(&self, us: u64) -> u64 {
        self.unix_us_at_start.get() + us
    }

    /// Takes over a step of the wall clock. Called once a second.
    pub fn follow_wall_clock(&self) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = u64::try_from(unix.as_micros()).unwrap_or(0);
        self.unix_us_at_start.set(unix_us.saturating_sub(self.now_us()));
    }
}

/// `us` as ms in the table of deadlines.
pub fn ms(us: u64) -> u64 {
    us / 1000
}

/// Ids that no other core and no other run repeats: 64 random bits of the core, then a count, in hex.
pub struct RequestIds {
    prefix: String,
    count: Cell<u64>,
}

impl RequestIds {
    fn new(random: u64) -> Self {
        Self { prefix: format!("{random:016x}"), count: Cell::new(0) }
    }

    /// Writes the next id into `out`, replacing what is there.
    pub fn next(&self, out: &mut String) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let n = self.count.get();
        self.count.set(n + 1);
        out.clear();
        out.push_str(&self.prefix);
        for shift in (0..10).rev() {
            let nibble = (n >> (shift * 4)) & 15;
            out.push(char::from(*HEX.get(nibble as usize).unwrap_or(&b'0')));
        }
    }
}

/// Random bits that differ from core to core and from start to start.
pub fn random_u64() -> u64 {
    std::hash::RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let ids = RequestIds::new(random_u64());
        let (mut a, mut b) = (String::new(), String::new());
        ids.next(&mut a);
        ids.next(&mut b);
        assert_ne!(a, b);
        assert_eq!(a.len(), 26);
    }

    #[test]
    fn dates_are_in_the_format_of_http() {
        let core = Core::new(0, CoreMetrics::default(), None);
        let mut out = Vec::new();
        core.write_date(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.len() == 29 && text.ends_with(" GMT"), "{text}");
    }
}
