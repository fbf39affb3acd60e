//! Commands that are more than a call.

pub(crate) mod explain;
pub(crate) mod help;
mod hide;
mod told;

use std::sync::Arc;

use crate::config::Config;
use crate::control::certificates::{Certificates, Loaded};
use crate::control::credentials;
use crate::shared::metrics::Registry;
use crate::snapshot::Snapshot;
use crate::snapshot::build::build;
use crate::snapshot::inputs::{Inputs, Made};

/// The snapshot of a config for a worker that never runs: the files that it names are read, no name is resolved, and
/// nothing is fetched. The counters come with it.
///
/// # Errors
/// What is wrong with a file, or with the config.
pub(crate) fn snapshot(config: &Config) -> Result<(Snapshot, Arc<Registry>), String> {
    let (_, Loaded { material: tls, .. }) = Certificates::load(config, 1)?;
    let (_, credentials) = credentials::Watch::load(config)?;
    let made = Made { tls, credentials, ..Made::alone() };
    let inputs = Inputs { config, made: &made, worker: 0, seed: 0 };
    let snapshot = build(&inputs).map_err(|e| e.to_string())?;
    Ok((snapshot, made.metrics))
}
