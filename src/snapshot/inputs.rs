//! What a snapshot is built from: the config, and what control has made beside it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::config::credentials::Credentials;
use crate::jwt::Source;
use crate::shared::limits::Limits;
use crate::shared::metrics::Registry;
use crate::shared::passwords::Asker;
use crate::tls::Material;

/// Addresses by host name, as control resolved them.
pub type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// Keys that control has fetched, by the name of the filter that they are for.
pub type KeySets = BTreeMap<String, Source>;

/// What one worker's snapshot is built from.
pub struct Inputs<'a> {
    /// The config.
    pub config: &'a Config,
    /// What control has made beside it.
    pub made: &'a Made,
    /// Which worker it is for, from 0.
    pub worker: usize,
    /// Random bits for the balancers: workers must not choose in step.
    pub seed: u64,
}

/// What the snapshots of all workers are made of beside the config: it changes while a config runs, and outlives it.
pub struct Made {
    /// Where counters come from.
    pub metrics: Arc<Registry>,
    /// Where limits keep their keys.
    pub limits: Arc<Limits>,
    /// How many workers share what is counted per process.
    pub workers: usize,
    /// Certificates and keys.
    pub tls: Material,
    /// Keys and passwords of callers.
    pub credentials: Credentials,
    /// What was fetched for filters that check tokens.
    pub key_sets: KeySets,
    /// Who compares passwords with hashes.
    pub passwords: Asker,
    /// Addresses by host name.
    pub addresses: Addresses,
}

impl Made {
    /// For one worker without control: nothing has been read, resolved or fetched, and nobody compares passwords.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            metrics: Arc::default(),
            limits: Arc::new(Limits::new(1)),
            workers: 1,
            tls: Material::default(),
            credentials: Credentials::default(),
            key_sets: KeySets::new(),
            passwords: Asker::alone(),
            addresses: Addresses::new(),
        }
    }
}
