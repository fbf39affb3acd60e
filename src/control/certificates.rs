//! Certificates and keys stay what their files say, see [`watch`](super::watch); and tickets' secrets are replaced.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_channel::Sender;

use crate::config::Config;
use crate::tls::server::{Expiry, Parts};
use crate::tls::tickets::Secrets;
use crate::tls::{ClientFiles, Material, ServerFiles, Upstream, files};

use super::report::report;
use super::watch::{Watched, look_again};

/// Secrets that this process makes for itself are replaced after this long; a ticket lives as long at most.
const ROTATE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Days before its end from which on a certificate is spoken of at the start.
const EXPIRY_WARN_DAYS: i64 = 14;

/// The files of a config, and what of them is in use.
pub struct Certificates {
    listeners: Vec<Server>,
    upstreams: Vec<Client>,
    redis: Client,
    workers: usize,
    secrets: Secrets,
    rotated: Instant,
    watched: Watched,
}

struct Server {
    name: String,
    files: Option<ServerFiles>,
    parts: Parts,
}

/// An upstream, or Redis.
struct Client {
    name: String,
    files: Option<ClientFiles>,
    cores: Vec<Upstream>,
    expiries: Vec<Expiry>,
}

impl Client {
    /// Reads its files, for so many cores; what was read before stays where they can not be used.
    fn load(&mut self, cores: usize, faults: &mut Vec<String>) {
        match self.files.as_ref().map(|files| files.load(cores)) {
            None => {}
            Some(Ok(loaded)) => (self.cores, self.expiries) = loaded,
            Some(Err(fault)) => faults.push(format!("{}: {fault}", self.name)),
        }
    }
}

/// What is in use.
pub struct Loaded {
    /// For the snapshots.
    pub material: Material,
    /// When certificates end.
    pub expiries: Vec<Expiry>,
    /// Files have changed to something that can not be used.
    pub stale: bool,
}

impl Certificates {
    /// Reads all files of a config, for so many workers.
    ///
    /// # Errors
    /// Everything that is wrong with the files, a line each.
    pub fn load(config: &Config, workers: usize) -> Result<(Self, Loaded), String> {
        let server = |l: &crate::config::listeners::Listener| Server {
            name: l.name.value.clone(),
            files: l.tls.as_ref().map(|tls| tls.files.clone()),
            parts: Parts::default(),
        };
        let client = |name, files: &Option<ClientFiles>| Client {
            name,
            files: files.clone(),
            cores: Vec::new(),
            expiries: Vec::new(),
        };
        let redis = config.rate_limits.redis.as_ref().and_then(|redis| redis.tls.clone());
        let mut certificates = Self {
            listeners: config.listeners.iter().map(server).collect(),
            upstreams: config.upstreams.iter().map(|u| client(format!("upstream {}", u.name.value), &u.tls)).collect(),
            redis: client("rate_limits.redis".to_owned(), &redis),
            workers,
            secrets: Secrets::default().rotated()?,
            rotated: Instant::now(),
            watched: Watched::new(Vec::new()),
        };
        let mut paths: Vec<PathBuf> = certificates.servers().flat_map(ServerFiles::paths).collect();
        paths.extend(certificates.clients().flat_map(ClientFiles::paths));
        certificates.watched = Watched::new(paths);
        let (material, faults) = certificates.read();
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let loaded = Loaded { material, expiries: certificates.expiries(), stale: false };
        Ok((certificates, loaded))
    }

    fn servers(&self) -> impl Iterator<Item = &ServerFiles> {
        self.listeners.iter().filter_map(|server| server.files.as_ref())
    }

    fn clients(&self) -> impl Iterator<Item = &ClientFiles> {
        self.all_clients().filter_map(|client| client.files.as_ref())
    }

    fn all_clients(&self) -> impl Iterator<Item = &Client> {
        self.upstreams.iter().chain([&self.redis])
    }

    /// What the files say, or said before where they can not be used; and what is wrong with these.
    fn read(&mut self) -> (Material, Vec<String>) {
        let mut material = Material::default();
        let mut faults: Vec<String> = Vec::new();
        for Server { name, files, parts } in &mut self.listeners {
            let mut found = Vec::new();
            let listener = files.as_ref().and_then(|files| files.load(&self.secrets, parts, &mut found));
            faults.extend(found.into_iter().map(|fault| format!("listener {name}: {fault}")));
            material.listeners.push(listener);
        }
        for client in &mut self.upstreams {
            client.load(self.workers, &mut faults);
            material.upstreams.push(client.cores.clone());
        }
        self.redis.load(1, &mut faults);
        material.redis = self.redis.cores.first().cloned();
        (material, faults)
    }

    fn expiries(&self) -> Vec<Expiry> {
        let servers = self.listeners.iter().flat_map(|server| server.parts.expiries());
        let mut all: Vec<Expiry> =
            servers.chain(self.all_clients().flat_map(|client| client.expiries.iter().cloned())).collect();
        all.sort_by(|a, b| a.file.cmp(&b.file));
        all.dedup();
        all
    }

    /// What is in use from now on, if that is something new.
    fn look(&mut self) -> Option<Loaded> {
        let changed = self.watched.have_changed();
        let rotate = self.rotated.elapsed() >= ROTATE_EVERY;
        if !changed && !rotate && !self.watched.is_faulty() {
            return None;
        }
        if rotate && let Ok(secrets) = self.secrets.rotated() {
            self.secrets = secrets;
            self.rotated = Instant::now();
        }
        let (material, faults) = self.read();
        let is_new = self.watched.were_read(changed, faults, "certificates and keys") || rotate;
        is_new.then(|| Loaded { material, expiries: self.expiries(), stale: self.watched.is_faulty() })
    }

    /// Watches the files from a thread of its own, for as long as the process lives; nothing if there are none.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch(mut self, tell: Sender<Loaded>) -> io::Result<()> {
        if self.servers().next().is_none() && self.clients().next().is_none() {
            return Ok(());
        }
        look_again("certificates", tell, move || self.look())
    }

    /// Says what an operator should know at every start.
    pub fn warn(&self, expiries: &[Expiry]) {
        for Client { name, files, .. } in self.all_clients() {
            if files.as_ref().is_some_and(|files| files.insecure_skip_verify) {
                report(format_args!(
                    "warning: {name}: insecure_skip_verify: whoever answers is believed, and can read and change \
                     everything; use `ca` and `server_name` instead"
                ));
            }
        }
        let of_servers = self.servers().flat_map(ServerFiles::secret_paths);
        let secrets = of_servers.chain(self.clients().flat_map(ClientFiles::secret_paths));
        for path in secrets.filter(|path| files::is_exposed(path)) {
            let path = path.display();
            report(format_args!("warning: {path} can be read by others than its owner; `chmod 600 {path}`"));
        }
        for expiry in expiries.iter().filter(|expiry| expiry.days() < EXPIRY_WARN_DAYS) {
            report(format_args!("warning: {} expires in {} days", expiry.file.display(), expiry.days()));
        }
    }
}
