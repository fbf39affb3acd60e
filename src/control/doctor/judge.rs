//! What is good, and what helps. Facts in, findings out.

use crate::config::Config;
use crate::config::access_log::LogTarget;

use super::super::{counted, descriptors};
use super::Finding;
use super::facts::{self, Facts, Listening};

/// All of what the driver uses: SINGLE_ISSUER, COOP_TASKRUN, DEFER_TASKRUN.
const KERNEL_BEST: (u32, u32) = (6, 1);
/// The first with COOP_TASKRUN.
const KERNEL_GOOD: (u32, u32) = (5, 19);
/// With fewer, a burst of new connections is dropped before anyone sees it; it is what listeners ask for.
const SOMAXCONN_MIN: u64 = 1024;
/// Each connection to an endpoint takes one for about a minute after it ended.
const LOCAL_PORTS_MIN: u16 = 20_000;
/// For many connections, and upstreams'.
const DESCRIPTORS_MIN: u64 = 65_536;

pub(super) fn kernel(facts: &Facts) -> Finding {
    let about = "kernel";
    let release = &facts.release;
    match version(release) {
        Some(version) if version >= KERNEL_BEST => Finding::ok(about, format!("Linux {release}")),
        Some(version) if version >= KERNEL_GOOD => {
            Finding::warning(about, format!("Linux {release} lacks DEFER_TASKRUN"), "6.1 or later is faster")
        }
        Some(_) => Finding::warning(about, format!("Linux {release} is old"), "5.19 or later is faster, 6.1 more so"),
        None => Finding::warning(about, format!("{release:?} is no release that is known"), "Linux 6.1 or later"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// `tried`: sets of flags, best first.
pub(super) fn io_uring(facts: &Facts, tried: &[(String, Result<(), String>)]) -> Finding {
    let about = "io_uring";
    let refused = |result: &Result<(), String>| result.as_ref().err().cloned().unwrap_or_default();
    match tried.iter().position(|(_, result)| result.is_ok()) {
        Some(0) => Finding::ok(about, tried.first().map(|(name, _)| name.clone()).unwrap_or_default()),
        Some(at) => {
            let works = tried.get(at).map(|(name, _)| name.as_str()).unwrap_or_default();
            let best = tried.first().map(|(_, result)| refused(result)).unwrap_or_default();
            Finding::warning(about, format!("{works} works, with more flags: {best}"), "Linux 6.1 has all of them")
        }
        None => {
            let cause = tried.last().map(|(_, result)| refused(result)).unwrap_or_default();
            let more = match (facts.io_uring_disabled, facts.seccomp) {
                (Some(2), _) => "kernel.io_uring_disabled is 2: nobody may use it",
                (Some(1), _) => {
                    "kernel.io_uring_disabled is 1: only kernel.io_uring_group and CAP_SYS_ADMIN may use it"
                }
                (_, Some(2)) => {
                    "a seccomp filter is on, as in containers: config/Dockerfile says how to allow io_uring"
                }
                _ => "no seccomp filter is on",
            };
            Finding::warning(about, format!("refused, the gateway runs on epoll: {cause}"), more)
        }
    }
}

/// `rings`: the entries of the workers' rings that could be had, all at a time.
pub(super) fn memory(facts: &Facts, workers: usize, rings: Result<u32, String>) -> Finding {
    let about = "memlock";
    let limit = facts.memlock.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    let rings_of = counted(workers, "ring");
    const REMEDY: &str = "LimitMEMLOCK=infinity, or 1 MiB a worker (`ulimit -l`)";
    match rings {
        Ok(entries) if entries >= 1024 => {
            Finding::ok(about, format!("{limit}: room for {rings_of} of {entries} entries"))
        }
        Ok(entries) => Finding::warning(about, format!("{limit}: rings of {entries} entries only"), REMEDY),
        Err(cause) => Finding::warning(about, format!("{limit}: no room for {rings_of}: {cause}"), REMEDY),
    }
}

pub(super) fn descriptors(limit: u64, config: Option<&Config>, workers: usize) -> Finding {
    let about = "descriptors";
    const REMEDY: &str = "raise it (LimitNOFILE=, `ulimit -n`)";
    let Some(config) = config else {
        return match limit {
            DESCRIPTORS_MIN.. => Finding::ok(about, format!("`ulimit -n` {limit}")),
            _ => Finding::warning(about, format!("`ulimit -n` {limit} is room for few connections"), REMEDY),
        };
    };
    let cut = match descriptors::fit(&mut config.clone(), workers, limit) {
        Ok(cut) => cut,
        Err(what) => return Finding::error(about, what, REMEDY),
    };
    match cut.as_slice() {
        [] => Finding::ok(about, format!("`ulimit -n` {limit}: room for what bounds.connections allow")),
        cut => Finding::warning(about, cut.join("; "), ""),
    }
}

/// Whether the file of the access log can be opened, without making it.
pub(super) fn access_log(config: &Config) -> Option<Finding> {
    let LogTarget::File(path) = &config.observe.access_log.to else { return None };
    let about = "access_log";
    Some(match facts::may_write(path) {
        Ok(()) => Finding::ok(about, format!("{} can be written", path.display())),
        Err(e) => Finding::error(
            about,
            format!("{} can not be written: {e}", path.display()),
            "run it as the gateway's user; see LogsDirectory=",
        ),
    })
}

pub(super) fn cpus(facts: &Facts, workers: usize) -> Finding {
    let about = "cpus";
    let quota = facts.quota.map(|quota| format!(", a cgroup quota of {quota:.2}")).unwrap_or_default();
    let what = format!("{}{quota}: {}", counted(facts.cpus, "CPU"), counted(workers, "worker"));
    let quota = facts.quota.unwrap_or(f64::MAX);
    let many = u32::try_from(workers).unwrap_or(u32::MAX);
    if workers > facts.cpus {
        return Finding::warning(about, what, "workers share CPUs, which costs speed: `workers: auto`");
    }
    if f64::from(many) > quota.ceil() {
        return Finding::warning(about, what, "the quota stops workers again and again: `workers: auto`, or raise it");
    }
    if quota.fract() != 0.0 && quota < f64::from(many) {
        return Finding::warning(
            about,
            what,
            "workers are stopped for a while when they are busy: a whole number is better",
        );
    }
    Finding::ok(about, what)
}

/// One of each address that the config listens on.
pub(super) fn ports(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let about = "ports";
    let first = facts.first_free_port.unwrap_or(1024);
    let Some(config) = config else {
        let right = if facts.may_bind_low { "any port may be used" } else { "without CAP_NET_BIND_SERVICE" };
        return vec![match (facts.may_bind_low, first) {
            (false, 81..) => Finding::ok(about, format!("{right}: from {first} on, so not 80 and 443")),
            _ => Finding::ok(about, right),
        }];
    };
    let listeners =
        config.listeners.iter().map(|listener| (format!("listener {}", listener.name.value), listener.address.clone()));
    let admin = config.admin.as_ref().map(|admin| ("admin".to_owned(), admin.address.clone()));
    let tried = listeners.chain(admin).map(|(what, address)| match facts::listening(&what, &address) {
        Listening::Can => Finding::ok(about, format!("{what}: {address} can be had")),
        Listening::InUse(cause) => Finding::warning(about, cause, "all is well if it is the gateway itself"),
        Listening::Not(cause) => Finding::error(about, cause, ""),
    });
    tried.collect()
}

pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    let about = "clock";
    let source = match facts.clock_source.as_deref() {
        None => None,
        // These are read without entering the kernel.
        Some(
            source @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" | "riscv_clocksource"),
        ) => Some(Finding::ok(about, format!("source {source}"))),
        Some(source) => {
            let what = format!("source {source}: each look at the clock enters the kernel");
            Some(Finding::warning(about, what, "see available_clocksource beside it; tsc is the fast one"))
        }
    };
    let synchronised = match facts.clock_is_synchronised {
        Some(true) => Finding::ok(about, "synchronised"),
        Some(false) => {
            let what =
                "nothing keeps it right, as far as the kernel knows: tokens, certificates and shared limits need it";
            Finding::warning(about, what, "run chrony or systemd-timesyncd, here or on the host")
        }
        None => Finding::ok(about, "whether it is synchronised is not known: this process may not ask (adjtimex)"),
    };
    source.into_iter().chain([synchronised]).collect()
}

pub(super) fn network(facts: &Facts) -> Vec<Finding> {
    let about = "network";
    let mut found = Vec::new();
    let mut is_at_least = |name: &str, value: Option<u64>, least: u64, why: &str| {
        let Some(value) = value else { return };
        let what = format!("{name} = {value}");
        found.push(match value >= least {
            true => Finding::ok(about, what),
            false => Finding::warning(about, what, format!("{why}: `sysctl -w {name}={least}`")),
        });
    };
    is_at_least("net.core.somaxconn", facts.somaxconn, SOMAXCONN_MIN, "bursts of connections are dropped");
    is_at_least(
        "net.ipv4.tcp_syncookies",
        facts.syncookies.map(u64::from),
        1,
        "a flood of half-open connections shuts clients out",
    );
    is_at_least("fs.file-max", facts.file_max, DESCRIPTORS_MIN, "the whole system may have so many files open");
    if let Some((first, last)) = facts.local_ports {
        let what = format!("net.ipv4.ip_local_port_range = {first} {last}");
        found.push(match last.saturating_sub(first) >= LOCAL_PORTS_MIN {
            true => Finding::ok(about, what),
            false => Finding::warning(
                about,
                what,
                "few connections to each endpoint: `sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\"`",
            ),
        });
    }
    if let Some(congestion) = &facts.congestion {
        found.push(Finding::ok(about, format!("net.ipv4.tcp_congestion_control = {congestion}")));
    }
    found
}

#[cfg(test)]
mod tests;
