//! A simulated process: its cores, its control, and its clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::oracle::Oracle;
use super::setup::{Random, Setup};
use crate::limit::{CoreWallet, Stamps, Sync};
use crate::shared::wallet::Table;

pub(super) struct Process {
    pub(super) life: u32,
    pub(super) who: Box<str>,
    pub(super) begun_us: u64,
    pub(super) drift_ppm: i64,
    pub(super) cores: Vec<CoreWallet>,
    pub(super) sync: Sync,
    pub(super) stamps: Stamps,
    pub(super) drained_us: u64,
    pub(super) beat_us: u64,
    /// Nothing runs until then.
    pub(super) paused_until: u64,
    /// Control does not run until then.
    pub(super) stuck_until: u64,
    /// No message passes until then.
    pub(super) cut_until: u64,
    /// When Redis last granted tokens of a key.
    pub(super) granted_us: BTreeMap<u64, u64>,
    /// The local bucket's oracle, and the last contact when it was used last.
    pub(super) share: Vec<(Oracle, u64)>,
}

impl Process {
    pub(super) fn new(setup: &Setup, number: usize, life: u32, now: u64, random: &mut Random) -> Self {
        let table = Arc::new(Table::new(u32::try_from(setup.keys).unwrap_or(1) * 2));
        let wallet = || CoreWallet::new(Arc::clone(&table), setup.cores);
        Self {
            life,
            who: format!("p{number}-{life}").into(),
            // A process' clock is as old as its machine, or its first µs would be in every test.
            begun_us: now - 3_000_000,
            drift_ppm: random.below(400) as i64 - 200,
            cores: (0..setup.cores).map(|_| wallet()).collect(),
            sync: Sync::new(Arc::clone(&table), setup.cores),
            stamps: Stamps::default(),
            drained_us: 0,
            beat_us: 0,
            paused_until: 0,
            stuck_until: 0,
            cut_until: 0,
            granted_us: BTreeMap::new(),
            share: (0..setup.keys).map(|_| (Oracle::of_share(&setup.spec, setup.processes as u64), 0)).collect(),
        }
    }

    pub(super) fn clock(&self, now: u64) -> u64 {
        let us = (now - self.begun_us) as i64;
        (us + us / 1_000_000 * self.drift_ppm + us % 1_000_000 * self.drift_ppm / 1_000_000) as u64
    }

    pub(super) fn contact(&self) -> u64 {
        self.begun_us + self.sync.table().contact_us()
    }
}
