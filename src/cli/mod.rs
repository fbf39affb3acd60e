//! Commands that are more than a call.

pub(crate) mod explain;
mod hide;
mod told;

use crate::config::Config;
use crate::control::certificates::{Certificates, Loaded};
use crate::control::credentials;
use crate::shared::limits::Limits;
use crate::shared::metrics::Registry;
use crate::shared::passwords::Asker;
use crate::snapshot::Snapshot;
use crate::snapshot::build::{Inputs, build};

/// The snapshot of a config for a worker that never runs: the files that it names are read, no name is resolved, and
/// nothing is fetched. The counters come with it.
///
/// # Errors
/// What is wrong with a file, or with the config.
pub(crate) fn snapshot(config: &Config) -> Result<(Snapshot, Registry), String> {
    let (metrics, limits) = (Registry::default(), Limits::new(1));
    let (_, Loaded { material: tls, .. }) = Certificates::load(config, 1)?;
    let (_, credentials) = credentials::Watch::load(config)?;
    let inputs = Inputs {
        config,
        addresses: &Default::default(),
        tls: &tls,
        credentials: &credentials,
        passwords: &Asker::alone(),
        key_sets: &Default::default(),
        worker: 0,
        workers: 1,
        metrics: &metrics,
        limits: &limits,
        seed: 0,
    };
    let snapshot = build(&inputs).map_err(|e| e.to_string())?;
    Ok((snapshot, metrics))
}
