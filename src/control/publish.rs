//! Building snapshots and moving them over to the workers: all are built, or none is published.

use async_channel::Sender;

use crate::config::credentials::Credentials;
use crate::config::{Config, Errors};
use crate::core::random_u64;
use crate::jwt::Source;
use crate::shared::mailbox::ToWorker;
use crate::snapshot::Snapshot;
use crate::snapshot::build::build;
use crate::snapshot::inputs::{Addresses, Inputs, Made};
use crate::tls::Material;

/// The config that runs, and the way to the workers.
pub struct Publisher {
    config: Config,
    made: Made,
    mailboxes: Vec<Sender<ToWorker<Snapshot>>>,
}

impl Publisher {
    /// Builds the first snapshot of each worker.
    ///
    /// # Errors
    /// Everything that is wrong with the config.
    pub fn new(config: Config, made: Made) -> Result<(Self, Vec<Snapshot>), Errors> {
        let publisher = Self { config, made, mailboxes: Vec::new() };
        let snapshots = publisher.build_all()?;
        Ok((publisher, snapshots))
    }

    /// The way to the next worker.
    pub fn add_worker(&mut self, mailbox: Sender<ToWorker<Snapshot>>) {
        self.mailboxes.push(mailbox);
    }

    fn build_all(&self) -> Result<Vec<Snapshot>, Errors> {
        let one = |worker| build(&Inputs { config: &self.config, made: &self.made, worker, seed: random_u64() });
        (0..self.made.workers).map(one).collect()
    }

    /// Publishes the config with other addresses.
    ///
    /// # Errors
    /// As for [`Publisher::new`]; what runs goes on.
    pub async fn follow_names(&mut self, addresses: Addresses) -> Result<(), Errors> {
        self.made.addresses = addresses;
        self.publish().await
    }

    /// Publishes the config with other certificates and keys. Connections that are open keep theirs.
    ///
    /// # Errors
    /// As for [`Publisher::new`]; what runs goes on.
    pub async fn follow_certificates(&mut self, tls: Material) -> Result<(), Errors> {
        self.made.tls = tls;
        self.publish().await
    }

    /// Publishes the config with other keys and passwords.
    ///
    /// # Errors
    /// As for [`Publisher::new`]; what runs goes on.
    pub async fn follow_credentials(&mut self, credentials: Credentials) -> Result<(), Errors> {
        self.made.credentials = credentials;
        self.publish().await
    }

    /// Publishes the config with other keys for the tokens of these filters.
    ///
    /// # Errors
    /// As for [`Publisher::new`]; what runs goes on.
    pub async fn follow_keys(&mut self, filters: impl Iterator<Item = String>, source: &Source) -> Result<(), Errors> {
        self.made.key_sets.extend(filters.map(|filter| (filter, source.clone())));
        self.publish().await
    }

    async fn publish(&self) -> Result<(), Errors> {
        let snapshots = self.build_all()?;
        for (mailbox, snapshot) in self.mailboxes.iter().zip(snapshots) {
            let _ = mailbox.send(ToWorker::Snapshot(Box::new(snapshot))).await; // a worker that has ended reports it itself
        }
        Ok(())
    }

    /// Tells all workers to give up what still runs.
    pub fn cut(&self) {
        for mailbox in &self.mailboxes {
            let _ = mailbox.try_send(ToWorker::Cut); // one that is full belongs to a worker that hangs: the process ends
        }
    }

    /// Tells all workers to finish.
    pub fn drain(&self) {
        for mailbox in &self.mailboxes {
            let _ = mailbox.try_send(ToWorker::Drain); // full only if the worker hangs; the drain time ends that too
        }
    }
}
