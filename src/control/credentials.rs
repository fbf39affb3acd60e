//! Keys and passwords stay what their files say: their stamps are looked at once a second, as those of certificates are,
//! from a thread of its own. What is wrong with a new file is said, and what was read of it before stays.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use async_channel::Sender;

use crate::config::Config;
use crate::config::credentials::Credentials;
use crate::tls::files;

use super::report::report;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files of a config, and what of them is in use.
pub struct Watch {
    config: Config,
    credentials: Credentials,
    paths: Vec<PathBuf>,
    stamps: Vec<(u64, u64, i64, i64, u64)>,
    faults: Vec<String>,
}

impl Watch {
    /// Reads all files of a config.
    ///
    /// # Errors
    /// Everything that is wrong with the files, a line each.
    pub fn load(config: &Config) -> Result<(Self, Credentials), String> {
        let paths = Credentials::paths(config);
        // Before they are read: a change within that time is seen at the next look.
        let stamps = files::stamp(&paths);
        let mut credentials = Credentials::default();
        let faults = credentials.read(config);
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let watch = Self { config: config.clone(), credentials: credentials.clone(), paths, stamps, faults };
        Ok((watch, credentials))
    }

    /// What is in use from now on, if that is something new.
    fn look(&mut self) -> Option<Credentials> {
        let stamps = files::stamp(&self.paths);
        // A file that was half written is looked at again until it is whole.
        if stamps == self.stamps && self.faults.is_empty() {
            return None;
        }
        let changed = std::mem::replace(&mut self.stamps, stamps) != self.stamps;
        let faults = self.credentials.read(&self.config);
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            report(format_args!("error: {fault}; what was read of it before stays in use"));
        }
        let is_new = changed || faults != self.faults;
        self.faults = faults;
        if self.faults.is_empty() && is_new {
            report(format_args!("keys and passwords were read again"));
        }
        is_new.then(|| self.credentials.clone())
    }

    /// Watches the files from a thread of its own, for as long as the process lives; nothing if there are none.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch(mut self, tell: Sender<Credentials>) -> io::Result<()> {
        if self.paths.is_empty() {
            return Ok(());
        }
        let watching = move || {
            loop {
                thread::sleep(LOOK_EVERY);
                if let Some(credentials) = self.look()
                    && tell.send_blocking(credentials).is_err()
                {
                    return;
                }
            }
        };
        thread::Builder::new().name("credentials".into()).spawn(watching).map(drop)
    }
}
