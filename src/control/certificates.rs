//! Certificates and keys stay what their files say. Their stamps are looked at once a second, which needs no notice from
//! a file system that may give none, and sees swapped links; what is wrong with a new file is said, and the old one stays.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::tls::server::Expiry;
use crate::tls::tickets::Secrets;
use crate::tls::{ClientFiles, Material, ServerFiles, Upstream, files};

use super::report::report;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Secrets that this process makes for itself are replaced after this long; a ticket lives as long at most.
const ROTATE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Days before its end from which on a certificate is spoken of at the start.
const EXPIRY_WARN_DAYS: i64 = 14;

/// The files of a config, and what of them is in use.
pub struct Certificates {
    listeners: Vec<(String, Option<ServerFiles>)>,
    upstreams: Vec<(String, Option<ClientFiles>)>,
    workers: usize,
    secrets: Secrets,
    rotated: Instant,
    paths: Vec<PathBuf>,
    stamps: Vec<(u64, u64, i64, i64, u64)>,
    fault: Option<String>,
}

/// What the files say now, and when certificates end.
pub type Loaded = (Material, Vec<Expiry>);

impl Certificates {
    /// Reads all files of a config, for so many workers.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn load(config: &Config, workers: usize) -> Result<(Self, Loaded), String> {
        let listeners =
            config.listeners.iter().map(|l| (l.name.value.clone(), l.tls.as_ref().map(|t| t.files.clone())));
        let upstreams = config.upstreams.iter().map(|u| (u.name.value.clone(), u.tls.clone()));
        let mut certificates = Self {
            listeners: listeners.collect(),
            upstreams: upstreams.collect(),
            workers,
            secrets: Secrets::default().rotated()?,
            rotated: Instant::now(),
            paths: Vec::new(),
            stamps: Vec::new(),
            fault: None,
        };
        let mut paths: Vec<PathBuf> = certificates.servers().flat_map(ServerFiles::paths).collect();
        paths.extend(certificates.clients().flat_map(ClientFiles::paths));
        certificates.paths = paths;
        // Before they are read: a change within that time is seen at the next look.
        certificates.stamps = files::stamp(&certificates.paths);
        let loaded = certificates.read()?;
        Ok((certificates, loaded))
    }

    fn servers(&self) -> impl Iterator<Item = &ServerFiles> {
        self.listeners.iter().filter_map(|(_, files)| files.as_ref())
    }

    fn clients(&self) -> impl Iterator<Item = &ClientFiles> {
        self.upstreams.iter().filter_map(|(_, files)| files.as_ref())
    }

    /// Whether there is anything to watch.
    pub fn is_empty(&self) -> bool {
        self.servers().next().is_none() && self.clients().next().is_none()
    }

    fn read(&self) -> Result<Loaded, String> {
        let mut material = Material::default();
        let mut expiries: Vec<Expiry> = Vec::new();
        for (name, files) in &self.listeners {
            let loaded = match files {
                None => None,
                Some(files) => {
                    let (listener, ends) = files.load(&self.secrets).map_err(|e| format!("listener {name}: {e}"))?;
                    expiries.extend(ends);
                    Some(listener)
                }
            };
            material.listeners.push(loaded);
        }
        for (name, files) in &self.upstreams {
            let loaded: Vec<Upstream> = match files {
                None => Vec::new(),
                Some(files) => {
                    let (cores, ends) = files.load(self.workers).map_err(|e| format!("upstream {name}: {e}"))?;
                    expiries.extend(ends);
                    cores
                }
            };
            material.upstreams.push(loaded);
        }
        expiries.sort_by(|a, b| a.file.cmp(&b.file));
        expiries.dedup();
        Ok((material, expiries))
    }

    /// What the files say, if that is something new. A fault is said once, and all stays as it was.
    pub fn look(&mut self) -> Option<Loaded> {
        if self.is_empty() {
            return None;
        }
        let stamps = files::stamp(&self.paths);
        let changed = stamps != self.stamps;
        let rotate = self.rotated.elapsed() >= ROTATE_EVERY;
        // A file that was half written, or one of a pair, is looked at again until it is whole.
        if !changed && !rotate && self.fault.is_none() {
            return None;
        }
        if rotate && let Ok(secrets) = self.secrets.rotated() {
            self.secrets = secrets;
            self.rotated = Instant::now();
        }
        self.stamps = stamps;
        match self.read() {
            Ok(loaded) => {
                if changed || self.fault.is_some() {
                    report(format_args!("certificates and keys were read again"));
                }
                self.fault = None;
                Some(loaded)
            }
            Err(fault) => {
                if self.fault.as_ref() != Some(&fault) {
                    report(format_args!("error: {fault}; the certificates and keys that were read before stay in use"));
                }
                self.fault = Some(fault);
                None
            }
        }
    }

    /// Whether files have changed that can not be used.
    pub fn is_stale(&self) -> bool {
        self.fault.is_some()
    }

    /// Says what an operator should know at every start.
    pub fn warn(&self, expiries: &[Expiry]) {
        for (name, files) in &self.upstreams {
            if files.as_ref().is_some_and(|files| files.insecure_skip_verify) {
                report(format_args!(
                    "warning: upstream {name}: insecure_skip_verify: whoever answers is believed, and can read and change \
                     everything; use `ca` and `server_name` instead"
                ));
            }
        }
        let secrets: Vec<&PathBuf> = self
            .servers()
            .flat_map(ServerFiles::secret_paths)
            .chain(self.clients().flat_map(ClientFiles::secret_paths))
            .collect();
        for path in secrets.into_iter().filter(|path| files::is_exposed(path)) {
            let path = path.display();
            report(format_args!("warning: {path} can be read by others than its owner; `chmod 600 {path}`"));
        }
        for expiry in expiries.iter().filter(|expiry| expiry.days() < EXPIRY_WARN_DAYS) {
            report(format_args!("warning: {} expires in {} days", expiry.file.display(), expiry.days()));
        }
    }
}
