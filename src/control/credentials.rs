//! Keys and passwords stay what their files say, see [`watch`](super::watch).

use std::io;

use async_channel::Sender;

use crate::config::Config;
use crate::config::credentials::Credentials;

use super::watch::{Watched, look_again};

/// The files of a config, and what of them is in use.
pub struct Watch {
    config: Config,
    credentials: Credentials,
    files: Watched,
}

impl Watch {
    /// Reads all files of a config.
    ///
    /// # Errors
    /// Everything that is wrong with the files, a line each.
    pub fn load(config: &Config) -> Result<(Self, Credentials), String> {
        let files = Watched::new(Credentials::paths(config));
        let mut credentials = Credentials::default();
        let faults = credentials.read(config);
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let watch = Self { config: config.clone(), credentials: credentials.clone(), files };
        Ok((watch, credentials))
    }

    /// What is in use from now on, if that is something new.
    fn look(&mut self) -> Option<Credentials> {
        // Each file stands for itself: one that is faulty stays so until it changes.
        if !self.files.have_changed() {
            return None;
        }
        let faults = self.credentials.read(&self.config);
        self.files.were_read(true, faults, "keys and passwords").then(|| self.credentials.clone())
    }

    /// Watches the files from a thread of its own, for as long as the process lives; nothing if there are none.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch(mut self, tell: Sender<Credentials>) -> io::Result<()> {
        if self.files.is_empty() { Ok(()) } else { look_again("credentials", tell, move || self.look()) }
    }
}
