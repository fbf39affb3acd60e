//! Which CPUs the workers get: the affinity mask and the cgroup's quota decide, never the machine's size alone.

use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::config::Workers;

/// The CPUs that this process may run on.
pub fn allowed() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Keeps this thread, and those it starts from now on, to these CPUs; does nothing if there are none.
///
/// # Errors
/// The kernel refuses, such as when a CPU has gone offline.
pub fn keep_to(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// One CPU per worker. More workers than CPUs share them.
///
/// # Errors
/// A CPU that the process may not use, with the remedy.
pub fn choose(workers: &Workers, allowed: &[usize], quota: Option<f64>) -> Result<Vec<usize>, String> {
    match workers {
        Workers::Auto => {
            // A quota of 1.5 CPUs gets two workers: one would leave half a CPU unused.
            let by_quota = quota.map_or(usize::MAX, |cpus| cpus.ceil().max(1.0) as usize);
            Ok(allowed.iter().copied().take(by_quota.max(1)).collect())
        }
        Workers::Count(n) => {
            let n = usize::try_from(*n).unwrap_or(usize::MAX);
            Ok(allowed.iter().copied().cycle().take(n).collect())
        }
        Workers::Cpus(cpus) => {
            let cpus: Vec<usize> = cpus.iter().filter_map(|&cpu| usize::try_from(cpu).ok()).collect();
            match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(cpu) => Err(format!("workers: CPU {cpu} is not one of those this process may use: {allowed:?}")),
                None => Ok(cpus),
            }
        }
    }
}

/// The CPU quota of this process's cgroup and those above it, in CPUs; `None` where there is none.
pub fn quota() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    quota_in(Path::new("/sys/fs/cgroup"), &text)
}

fn quota_in(root: &Path, proc_self_cgroup: &str) -> Option<f64> {
    let mut least: Option<f64> = None;
    for line in proc_self_cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (base, read): (PathBuf, fn(&Path) -> Option<f64>) = match controllers {
            "" => (root.to_owned(), version_2),
            names if names.split(',').any(|name| name == "cpu") => (root.join("cpu"), version_1),
            _ => continue,
        };
        // Within a container the path may be the host's: every level that exists counts.
        let below = path.trim_start_matches('/');
        for level in Path::new(below).ancestors() {
            if let Some(cpus) = read(&base.join(level)) {
                least = Some(least.map_or(cpus, |least| least.min(cpus)));
            }
        }
    }
    least
}

/// `cpu.max`: `QUOTA PERIOD` in µs, or `max PERIOD`.
fn version_2(dir: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(dir.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota.parse().ok()?, period.parse().ok()?)
}

/// `cpu.cfs_quota_us`, -1 for none, and `cpu.cfs_period_us`.
fn version_1(dir: &Path) -> Option<f64> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok();
    ratio(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_and_quota_bound_auto() {
        let allowed = [2, 3, 6];
        assert_eq!(choose(&Workers::Auto, &allowed, None).unwrap(), [2, 3, 6]);
        assert_eq!(choose(&Workers::Auto, &allowed, Some(1.5)).unwrap(), [2, 3]);
        assert_eq!(choose(&Workers::Auto, &allowed, Some(0.1)).unwrap(), [2]);
        assert_eq!(choose(&Workers::Count(4), &allowed, Some(1.0)).unwrap(), [2, 3, 6, 2]);
        assert_eq!(choose(&Workers::Cpus(vec![6, 2]), &allowed, None).unwrap(), [6, 2]);
        assert!(choose(&Workers::Cpus(vec![0]), &allowed, None).is_err());
    }

    #[test]
    fn the_tightest_level_of_a_cgroup_counts() {
        let root = std::env::temp_dir().join(format!("ringway-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(root.join("pod/app")).unwrap();
        std::fs::write(root.join("pod/cpu.max"), "150000 100000\n").unwrap();
        std::fs::write(root.join("pod/app/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota_in(&root, "0::/pod/app\n"), Some(1.5));
        assert_eq!(quota_in(&root, "0::/elsewhere\n"), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
