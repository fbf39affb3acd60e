//! The loop: connect, ask every few ms, and when that fails wait and begin again.
//!
//! At most one batch is under way. What has no answer after [`ANSWER_MAX_US`] is lost; the batch is waited for some time
//! longer, since a Redis that paused goes on where it was, and a thousand gateways that connect anew would make it pause
//! again. Until then nothing is asked, so that a frozen Redis costs no memory; and after it nothing but a heartbeat, until
//! one is answered in time.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use super::backoff::{Backoff, Pace};
use super::fault::Fault;
use super::link::{Link, Request, value};
use super::place::{Connected, Place};
use super::questions::{Author, Call, alive, answers, calls};
use super::status::Status;
use crate::core::{Clock, random_u64};
use crate::limit::spec::ANSWER_MAX_US;
use crate::limit::sync::{HEARTBEAT_US, PERIOD_URGENT_US, PERIOD_US};
use crate::limit::{Stamps, Sync};

/// A connection that is silent for longer is given up.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How often the map of a cluster is read again at most.
const MAP_EVERY: Duration = Duration::from_secs(1);
/// How long keys are asked about one by one after a call failed because of some of them.
const SINGLY_US: u64 = 1_000_000;

/// Everything of the loop.
pub(super) struct Runner {
    pub(super) place: Place,
    pub(super) author: Author,
    pub(super) cores: u64,
    pub(super) limits: watch::Receiver<Vec<Shared>>,
    pub(super) tls: watch::Receiver<Option<Arc<ClientConfig>>>,
    /// It is to end.
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Clock,
    pub(super) state: State,
}

/// What it remembers.
#[derive(Default)]
pub(super) struct State {
    followed: Vec<Followed>,
    /// Of the process, not of a connection. In a cluster it is the clock of the master that counts processes; that the
    /// others' differ by some ms makes returns count as too old that much earlier or later.
    stamps: Stamps,
    pace: Pace,
    /// The last heartbeat was answered in time.
    may_ask: bool,
    /// The last heartbeat that was answered: when it was sent, and what it said.
    heard: Option<(u64, u64)>,
    heartbeat_us: u64,
    singly_until_us: u64,
    /// Which limit is asked first: each in turn.
    turn: usize,
}

struct Followed {
    shared: Shared,
    sync: Sync,
}

/// What is sent to one Redis at once: scripts, a heartbeat, calls, in this order.
#[derive(Default)]
struct Parcel {
    request: Request,
    has_scripts: bool,
    has_heartbeat: bool,
    calls: Vec<Call>,
}

impl Runner {
    /// Runs until it is dropped, or signed off.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut attempts = 0_u64;
        loop {
            self.follow();
            let tls = self.tls.borrow_and_update().clone();
            let fault = match self.place.connect(tls, &self.author).await {
                Ok(connected) => {
                    self.status.reconnects.add(u64::from(attempts > 0));
                    attempts += 1;
                    let since = Instant::now();
                    let Some(fault) = self.serve(connected).await else { return };
                    backoff.held(since.elapsed());
                    fault
                }
                Err(fault) => fault,
            };
            self.status.failed(&fault);
            self.state.may_ask = false;
            sleep(backoff.next(random_u64())).await;
        }
    }

    /// Asks until something fails, or this process leaves.
    async fn serve(&mut self, mut connected: Connected) -> Option<Fault> {
        let since = Instant::now();
        loop {
            if *self.leaving.borrow() {
                self.sign_off(&mut connected).await;
                return None;
            }
            self.follow();
            let started_us = self.clock.now_us();
            match self.round(&mut connected, started_us).await {
                Ok(()) => {}
                Err(moved) if moved.is_moved() && since.elapsed() < MAP_EVERY => self.status.failed(&moved),
                Err(fault) => return Some(fault),
            }
            self.wait(started_us).await;
        }
    }

    /// Tells Redis that this process ends, so that the others have its share at once. Nothing is said after it.
    async fn sign_off(&mut self, connected: &mut Connected) {
        let at = connected.link_of(&self.author.heartbeat_key());
        let mut request = Request::default();
        self.author.sign_off(&mut request);
        if let Some(link) = connected.links.get_mut(at).and_then(Option::as_mut) {
            let _ = link.ask(&request).await; // it is no loss: the entry ages
        }
    }

    /// Takes over the limits of a new config.
    fn follow(&mut self) {
        if !self.limits.has_changed().unwrap_or(false) && !self.state.followed.is_empty() {
            return;
        }
        let limits = self.limits.borrow_and_update().clone();
        let mut before = std::mem::take(&mut self.state.followed);
        for shared in limits {
            let known = before.iter().position(|f| Arc::ptr_eq(&f.shared.table, &shared.table));
            let sync = match known {
                Some(i) => before.swap_remove(i).sync,
                None => {
                    let mut sync = Sync::new(Arc::clone(&shared.table), self.cores);
                    if let Some((sent_us, processes)) = self.state.heard {
                        sync.heard(sent_us, processes);
                    }
                    sync
                }
            };
            self.state.followed.push(Followed { shared, sync });
        }
    }

    /// Until the next round.
    async fn wait(&mut self, started_us: u64) {
        loop {
            let is_urgent = self.state.may_ask && self.state.followed.iter().any(|f| f.shared.table.is_urgent());
            let period_us = if is_urgent { PERIOD_URGENT_US } else { PERIOD_US };
            let left_us = (started_us + period_us).saturating_sub(self.clock.now_us());
            if left_us == 0 || *self.leaving.borrow() {
                return;
            }
            // Without limits nothing can become urgent.
            let look_us = if self.state.followed.is_empty() { left_us } else { left_us.min(PERIOD_URGENT_US) };
            sleep(Duration::from_micros(look_us)).await;
        }
    }

    /// Asks once, and takes in the answers.
    async fn round(&mut self, connected: &mut Connected, started_us: u64) -> Result<(), Fault> {
        let (mut parcels, keys) = self.pack(connected, started_us);
        let mut asking = JoinSet::new();
        let deadline = Instant::now() + Duration::from_micros(ANSWER_MAX_US);
        for (i, parcel) in parcels.iter_mut().enumerate() {
            let link = if parcel.request.len() > 0 { connected.links.get_mut(i).and_then(Option::take) } else { None };
            let Some(mut link) = link else { continue };
            let request = std::mem::take(&mut parcel.request);
            asking.spawn(async move {
                let replies = link.ask(&request).await;
                (i, link, replies)
            });
        }
        if asking.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        let mut is_late = false;
        loop {
            let until = if is_late { deadline + SILENT_MAX } else { deadline };
            let (i, mut link, replies) = match timeout_at(until, asking.join_next()).await {
                Ok(Some(Ok(replied))) => replied,
                Ok(Some(Err(panic))) => return self.give_up(&mut parcels, Fault::Broken(panic.to_string())),
                Ok(None) => break,
                Err(_) if !is_late => {
                    is_late = true;
                    self.lose_all(&mut parcels);
                    self.state.pace.took(keys, None);
                    self.state.may_ask = false;
                    self.status.failed(&Fault::Silent("no answer within 50 ms"));
                    continue;
                }
                Err(_) => return self.give_up(&mut parcels, Fault::Silent("no answer within 1 s")),
            };
            let Some(parcel) = parcels.get_mut(i) else { continue };
            let parcel = std::mem::take(parcel);
            let taken = match replies {
                Ok(replies) => self.take_in(parcel, replies, &mut link, started_us),
                Err(fault) => self.lose(parcel, fault),
            };
            outcome = outcome.and(taken);
            if let Some(place) = connected.links.get_mut(i) {
                *place = Some(link);
            }
        }
        if !is_late {
            let us = self.clock.now_us().saturating_sub(started_us);
            self.status.answers.observe(us);
            self.state.pace.took(keys, Some(us));
        }
        let flows = self.state.followed.iter().map(|f| (f.shared.name.as_str(), f.sync.flows()));
        self.status.set_flows(flows);
        outcome
    }

    /// What to send over each link, and about how many keys that is.
    fn pack(&mut self, connected: &Connected, now_us: u64) -> (Vec<Parcel>, usize) {
        let mut parcels: Vec<Parcel> = connected.links.iter().map(|_| Parcel::default()).collect();
        let is_due = now_us + PERIOD_US / 2 >= self.state.heartbeat_us + HEARTBEAT_US;
        if is_due || !self.state.may_ask {
            let at = connected.link_of(&self.author.heartbeat_key());
            if let Some(parcel) = parcels.get_mut(at) {
                parcel.has_heartbeat = true;
            }
            self.state.heartbeat_us = now_us;
        }
        let mut keys = 0;
        let mut commands: Vec<Vec<redis::Cmd>> = parcels.iter().map(|_| Vec::new()).collect();
        for call in self.calls(connected, now_us) {
            let Some(followed) = self.state.followed.get(call.limit) else { continue };
            let (name, spec) = (&followed.shared.name, &followed.shared.spec);
            let at = call.asks.first().map_or(0, |ask| connected.link_of(&self.author.key(name, spec, ask)));
            let (Some(stamp), Some(parcel), Some(commands)) =
                (self.state.stamps.next(now_us), parcels.get_mut(at), commands.get_mut(at))
            else {
                continue;
            };
            keys += call.asks.len();
            commands.push(self.author.call(name, spec, stamp, &call.asks));
            parcel.calls.push(call);
        }
        self.status.questions.add(keys as u64);
        for ((parcel, commands), link) in parcels.iter_mut().zip(&commands).zip(&connected.links) {
            parcel.has_scripts = link.as_ref().is_some_and(|link| link.wants_scripts);
            if parcel.has_scripts {
                self.author.load_scripts(&mut parcel.request);
            }
            if parcel.has_heartbeat {
                parcel.request.add_command(&self.author.heartbeat());
            }
            commands.iter().for_each(|command| parcel.request.add_command(command));
        }
        (parcels, keys)
    }

    /// The questions of all limits. What one does not use of its share of the batch is the next one's.
    fn calls(&mut self, connected: &Connected, now_us: u64) -> Vec<Call> {
        let n = self.state.followed.len();
        if !self.state.may_ask || n == 0 {
            return Vec::new();
        }
        let singly = connected.is_spread() || now_us < self.state.singly_until_us;
        self.state.turn = (self.state.turn + 1) % n;
        let mut room = self.state.pace.keys();
        let mut all = Vec::new();
        for i in 0..n {
            let index = (self.state.turn + i) % n;
            let Some(Followed { shared, sync }) = self.state.followed.get_mut(index) else { continue };
            let asks = sync.drain(&shared.spec, now_us, (room / (n - i)).max(1));
            room = room.saturating_sub(asks.len());
            all.extend(calls(index, asks, singly));
        }
        all
    }

    /// The replies to a parcel that was sent at `sent_us`.
    fn take_in(&mut self, parcel: Parcel, replies: Vec<Value>, link: &mut Link, sent_us: u64) -> Result<(), Fault> {
        let now_us = self.clock.now_us();
        let Parcel { has_scripts, has_heartbeat, calls, .. } = parcel;
        let mut outcome = Ok(());
        let mut replies = replies.into_iter();
        let mut next = || replies.next().map_or(Err(Fault::nonsense("too few answers")), value);
        if has_scripts {
            let loaded = next().and_then(|limits| Ok([limits, next()?]));
            outcome = loaded.and_then(|loaded| self.author.check_loaded(&loaded));
            link.wants_scripts = outcome.is_err();
        }
        if has_heartbeat {
            let heard = next().and_then(|reply| alive(&reply));
            outcome = outcome.and(heard).map(|alive| {
                // Redis' clock is not earlier than that now.
                self.state.stamps.heard(alive.redis_us, now_us);
                if now_us < sent_us + ANSWER_MAX_US {
                    self.state.may_ask = true;
                    self.state.heard = Some((sent_us, alive.processes));
                    self.state.followed.iter_mut().for_each(|f| f.sync.heard(sent_us, alive.processes));
                    self.status.heard(Duration::from_micros(now_us.saturating_sub(sent_us)), alive.processes);
                }
            });
        }
        for call in calls {
            let answered = next().and_then(|reply| answers(&reply, &call.asks));
            let Some(Followed { shared, sync }) = self.state.followed.get_mut(call.limit) else { continue };
            match answered {
                Ok(answers) if now_us < sent_us + ANSWER_MAX_US => {
                    let each = call.asks.iter().zip(&answers);
                    each.for_each(|(ask, answer)| sync.apply(&shared.spec, ask, answer, now_us));
                }
                Ok(_) => self.lose_call(&call),
                Err(fault) => {
                    self.lose_call(&call);
                    if fault.is_of_question() {
                        self.state.singly_until_us = now_us + SINGLY_US;
                    } else {
                        outcome = outcome.and(Err(fault));
                    }
                }
            }
        }
        match outcome {
            Err(fault) if fault.is_no_script() => {
                link.wants_scripts = true;
                self.status.failed(&fault);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn lose_call(&mut self, call: &Call) {
        self.status.lost.add(call.asks.len() as u64);
        if let Some(Followed { sync, .. }) = self.state.followed.get_mut(call.limit) {
            call.asks.iter().for_each(|ask| sync.lost(ask));
        }
    }

    fn lose(&mut self, parcel: Parcel, fault: Fault) -> Result<(), Fault> {
        parcel.calls.iter().for_each(|call| self.lose_call(call));
        Err(fault)
    }

    /// Nothing that is still out counts any more. What comes of heartbeats and scripts does.
    fn lose_all(&mut self, parcels: &mut [Parcel]) {
        for call in parcels.iter_mut().flat_map(|parcel| std::mem::take(&mut parcel.calls)) {
            self.lose_call(&call);
        }
    }

    fn give_up(&mut self, parcels: &mut [Parcel], fault: Fault) -> Result<(), Fault> {
        self.lose_all(parcels);
        Err(fault)
    }
}
