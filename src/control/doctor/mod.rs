//! `ringway doctor`: whether this machine is one that the gateway runs well on, and what to do where it is not. Each
//! check is a line: ok, warning or error, and the remedy. It asks as the process that it is: run it as the gateway's user,
//! with the gateway's limits.

use std::fmt;

use crate::config::{Config, Workers};
use crate::io::runtime;

use super::{cpus, descriptors};

mod facts;
mod judge;

use facts::Facts;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// The gateway runs, but not as well as it could.
    Warning,
    /// The gateway does not start, or not as its config says.
    Error,
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How well it is.
    pub level: Level,
    /// Which thing.
    pub about: &'static str,
    /// What is so.
    pub what: String,
    /// What helps; empty where all is well.
    pub remedy: String,
}

impl Finding {
    fn ok(about: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, what: what.into(), remedy: String::new() }
    }

    fn warning(about: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, about, what: what.into(), remedy: remedy.into() }
    }

    fn error(about: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Error, ..Self::warning(about, what, remedy) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level:<8} {:<12} {}", self.about, self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// Everything that was found out, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis(pub Vec<Finding>);

impl Diagnosis {
    /// The worst of all.
    pub fn level(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

/// A line each, and one that sums up.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        writeln!(f, "{}, {}", super::counted(errors, "error"), super::counted(warnings, "warning"))
    }
}

/// Examines the machine, for this config if there is one.
#[must_use]
pub fn examine(config: Option<&Config>) -> Diagnosis {
    let facts = Facts::gather();
    let mut found = vec![judge::kernel(&facts)];
    let workers = workers(config, &mut found);
    found.extend(io_uring(&facts, workers));
    found.push(judge::descriptors(descriptors::limit(), config, workers));
    found.push(judge::cpus(&facts, workers));
    found.extend(judge::ports(&facts, config));
    found.extend(config.and_then(judge::access_log));
    found.extend(judge::clock(&facts));
    found.extend(judge::network(&facts));
    Diagnosis(found)
}

/// How many workers there would be.
fn workers(config: Option<&Config>, found: &mut Vec<Finding>) -> usize {
    let wanted = config.map_or(&Workers::Auto, |config| &config.workers);
    match cpus::choose(wanted, &cpus::allowed(), cpus::quota()) {
        Ok(cpus) => cpus.len(),
        Err(what) => {
            found.push(Finding::error("workers", what, "list others, or write workers: auto"));
            1
        }
    }
}

fn io_uring(facts: &Facts, workers: usize) -> Vec<Finding> {
    if runtime::is_epoll_forced() {
        let what = "not used: MONOIO_FORCE_LEGACY_DRIVER is set";
        return vec![Finding::warning("io_uring", what, "unset it")];
    }
    let tried = runtime::survey();
    let works = tried.iter().any(|(_, result)| result.is_ok());
    let rings = works.then(|| runtime::survey_rings(workers));
    let mut found = vec![judge::io_uring(facts, &tried)];
    found.extend(rings.map(|rings| judge::memory(facts, workers, rings)));
    found
}
