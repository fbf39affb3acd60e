//! Paths of Unix sockets that the gateway listens on. What a gateway left behind that was killed is taken over; what belongs
//! to anybody else never is.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::io::listen;
use crate::socket::is_abstract;

/// How long another gateway may take over a path in the same folder; it takes it a moment.
const LOCK_MAX: Duration = Duration::from_secs(1);

/// Which file it is: another gateway may have taken the path over by then, and may have been given the same number. Device,
/// number, and when it was made.
type File = (u64, u64, i64, i64);

/// A path that is this gateway's own; it is removed when this is dropped.
pub(super) struct Owned {
    path: Box<str>,
    file: File,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&*self.path); // what stays is taken over by the next one
        }
    }
}

/// Listens at `path`, for all workers.
///
/// # Errors
/// Why it can not be had, and what helps.
pub(super) fn bind_at(path: &str, mode: u32, workers: usize) -> Result<(Vec<listen::Bound>, Option<Owned>), Obstacle> {
    let other = |cause| Obstacle::Other(cause);
    if is_abstract(path) {
        // It goes with the last who holds it: nothing is left behind, and nothing is to be removed.
        return Ok((listen::bind_unix(path, mode, workers).map_err(|e| no_name(&e))?, None));
    }
    // Two that find the same dead socket must not both take it over: the second would remove what is the first's by then.
    let _lock = lock_folder(path);
    if examine(path)? {
        fs::remove_file(path)
            .map_err(|e| other(format!("the socket that is left there can not be removed: {e}; remove it")))?;
    }
    let bound = listen::bind_unix(path, mode, workers).map_err(|e| other(cannot_listen(&e)))?;
    let file = file_at(path).map_err(|e| other(format!("it is gone again: {e}; who else writes to that folder?")))?;
    Ok((bound, Some(Owned { path: path.into(), file })))
}

/// Why a path can not be had, and what helps.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// Somebody listens there.
    InUse(String),
    /// Anything else.
    Other(String),
}

impl Obstacle {
    /// Whether it may be gone in a moment.
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self, Obstacle::InUse(_))
    }

    /// What it is, and what helps.
    pub(super) fn into_cause(self) -> String {
        let (Obstacle::InUse(cause) | Obstacle::Other(cause)) = self;
        cause
    }
}

/// Whether there is a socket at `path` that nobody listens on any more; false if there is nothing at all.
///
/// # Errors
/// What is there instead, and what helps.
pub(super) fn examine(path: &str) -> Result<bool, Obstacle> {
    if is_abstract(path) {
        return listen::hold_unix(path).map(|_| false).map_err(|e| no_name(&e));
    }
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Obstacle::Other(cannot_listen(&e))),
        Ok(there) if there.file_type().is_socket() => {}
        Ok(there) => {
            let kind = match there.file_type() {
                kind if kind.is_dir() => "a folder",
                kind if kind.is_symlink() => "a symbolic link",
                _ => "a file",
            };
            return Err(Obstacle::Other(format!(
                "there is {kind} that is no socket: move it away, or choose another path"
            )));
        }
    }
    // Non-blocking: a listener whose queue is full is one that listens.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&fd, &address)
    });
    match connected {
        Err(Errno::CONNREFUSED) => Ok(true),
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
            Err(Obstacle::InUse("another process listens there: stop it, or choose another path".to_owned()))
        }
        Err(e) => {
            let cause =
                format!("whether anybody listens there can not be told: {e}; remove it, or choose another path");
            Err(Obstacle::Other(cause))
        }
    }
}

fn file_at(path: &str) -> io::Result<File> {
    fs::symlink_metadata(path).map(|there| (there.dev(), there.ino(), there.mtime(), there.mtime_nsec()))
}

/// Held until it is dropped. Without it, as where the folder can not be read, two gateways that start in the same moment may
/// end with one of them unreachable, no worse.
fn lock_folder(path: &str) -> Option<std::os::fd::OwnedFd> {
    let folder = Path::new(path).parent()?;
    let fd = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let until = Instant::now() + LOCK_MAX;
    while rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10)); // nothing is served yet
    }
    Some(fd)
}

/// Why an abstract name can not be had.
fn no_name(e: &io::Error) -> Obstacle {
    match e.kind() {
        io::ErrorKind::AddrInUse => {
            Obstacle::InUse("another process has that name: stop it, or choose another".to_owned())
        }
        _ => Obstacle::Other(cannot_listen(e)),
    }
}

fn cannot_listen(e: &io::Error) -> String {
    let remedy = match Errno::from_io_error(e) {
        Some(Errno::NOENT) => "its folder does not exist: make it (RuntimeDirectory= of systemd)",
        Some(Errno::NOTDIR) => "what should be its folder is none",
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => "the gateway may not write to its folder",
        Some(Errno::ADDRINUSE) => "something has just come to be there: who else writes to that folder?",
        Some(Errno::MFILE) => "raise the limit of open files (`ulimit -n`, LimitNOFILE=)",
        _ => "choose another path",
    };
    format!("{e}; {remedy}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("ringway-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_path_is_taken_over_from_the_dead_only_and_removed_by_its_owner_only() {
        let folder = folder("owned");
        let at = folder.join("a.sock");
        let path = at.to_str().unwrap();
        drop(UnixListener::bind(path).unwrap());
        let (bound, owned) = bind_at(path, 0o640, 2).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
        UnixStream::connect(path).unwrap();
        assert!(bind_at(path, 0o600, 1).err().unwrap().into_cause().contains("another process listens there"));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640, "nothing was done to it");
        drop(bound);
        std::thread::sleep(Duration::from_millis(20)); // files are dated by the kernel's tick
        let (next, next_owned) = bind_at(path, 0o600, 1).unwrap();
        drop(owned);
        UnixStream::connect(path).unwrap();
        drop((next, next_owned));
        assert!(!at.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_abstract_name_is_held_as_long_as_its_socket() {
        let name = format!("@ringway-owned-{}", std::process::id());
        let (bound, owned) = bind_at(&name, 0o660, 2).unwrap();
        assert!(owned.is_none());
        assert!(examine(&name).is_err_and(|obstacle| obstacle.is_in_use()));
        assert!(bind_at(&name, 0o660, 1).err().unwrap().into_cause().contains("another process has that name"));
        drop(bound);
        assert!(!examine(&name).unwrap(), "it can be had");
        assert!(!Path::new(&name).exists());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let folder = folder("no-socket");
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        fs::write(at("file"), "mine").unwrap();
        symlink(at("file"), at("link")).unwrap();
        for (path, said) in [
            (at("file"), "a file that is no socket"),
            (at("link"), "a symbolic link"),
            (at(""), "a folder"),
            (at("none/a.sock"), "RuntimeDirectory="),
            (at("file/a.sock"), "what should be its folder is none"),
        ] {
            let e = bind_at(path.trim_end_matches('/'), 0o600, 1).err().unwrap().into_cause();
            assert!(e.contains(said), "{path}: {e}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "mine");
        fs::remove_dir_all(folder).unwrap();
    }
}
