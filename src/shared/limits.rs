//! Process wallets and counts of requests in flight, by the name of their limit: what a config that comes later finds
//! again. A limit of which the kind or the number of keys changed is another one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::in_flight::InFlight;
use super::places::Places;
use super::wallet::Table;

/// All limits of this process. Control locks it where snapshots are built; the request path holds what it gives.
#[derive(Debug)]
pub struct Limits {
    cores: u64,
    wallets: Mutex<BTreeMap<WalletKey, Wallet>>,
    in_flight: Mutex<BTreeMap<(Box<str>, u32), InFlight>>,
    places: Mutex<BTreeMap<Box<str>, Places>>,
}

/// Its name, whether processes share it, and for how many keys it is.
type WalletKey = (Box<str>, bool, u32);

/// A rate limit's process wallet, as everyone who shares it holds it.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// Where each core has its own wallet on it: counted from 0 in this process.
    pub index: usize,
    /// How many cores share it.
    pub cores: u64,
    /// What they know together.
    pub table: Arc<Table>,
}

impl Limits {
    /// No limits yet, in a process with `cores` cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self { cores: cores as u64, wallets: Mutex::default(), in_flight: Mutex::default(), places: Mutex::default() }
    }

    /// The process wallet of the rate limit `name`, for `keys_max` keys, made if it is not there.
    #[must_use]
    pub fn wallet(&self, name: &str, is_shared: bool, keys_max: u32) -> Wallet {
        let mut wallets = self.wallets.lock().unwrap_or_else(PoisonError::into_inner);
        let index = wallets.len();
        let new = || Wallet { index, cores: self.cores, table: Arc::new(Table::new(keys_max)) };
        wallets.entry((name.into(), is_shared, keys_max)).or_insert_with(new).clone()
    }

    /// The counts of the concurrency limit `name`, for `keys_max` keys, made if they are not there.
    #[must_use]
    pub fn in_flight(&self, name: &str, keys_max: u32) -> InFlight {
        let mut all = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((name.into(), keys_max)).or_insert_with(|| InFlight::new(keys_max)).clone()
    }

    /// The places of the cap `name`, made if they are not there.
    #[must_use]
    pub fn places(&self, name: &str) -> Places {
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.into()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_found_again_by_what_it_is() {
        let limits = Limits::new(2);
        let wallet = limits.wallet("fair", false, 10);
        let same = |other: &Wallet| Arc::ptr_eq(&wallet.table, &other.table) && wallet.index == other.index;
        assert!(same(&limits.wallet("fair", false, 10)));
        assert!(!same(&limits.wallet("fair", true, 10)) && !same(&limits.wallet("fair", false, 11)));
        assert_eq!(limits.wallet("other", false, 10).index, 3);
        let guard = limits.in_flight("busy", 10).begin(b"a", 1);
        assert!(guard.is_ok() && limits.in_flight("busy", 10).begin(b"a", 1).is_err());
    }
}
