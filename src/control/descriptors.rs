//! How many connections there are descriptors for. A listener that may have more than that is cut down at the start, and
//! answers 503 at its cap: a process that runs out of descriptors can not even accept to say so.

use crate::config::Config;
use crate::io::files;
pub use crate::io::files::limit;

/// What the process has open beside connections: log, admin, signals, timers, and the admin's own connections.
const RESERVED: u64 = 32;
/// What each worker has open beside connections: ring, event descriptor, listening sockets, a reserve.
const PER_WORKER: u64 = 8;

/// Descriptors without which nothing starts.
fn fixed(workers: usize) -> u64 {
    RESERVED.saturating_add(PER_WORKER.saturating_mul(u64::try_from(workers).unwrap_or(u64::MAX)))
}

/// Downstream connections that fit into `limit` descriptors. A quarter is kept for upstreams: more connections are idle
/// than not, and a request that finds no descriptor for its upstream is answered 503. Those that are only told no need some too.
fn room(limit: u64, workers: usize) -> u32 {
    let left = limit.saturating_sub(fixed(workers));
    let refusals = files::refusals(limit, workers).saturating_mul(u64::try_from(workers).unwrap_or(u64::MAX));
    u32::try_from((left - left / 4).saturating_sub(refusals)).unwrap_or(u32::MAX).max(1)
}

/// Cuts listeners down to the room there is, only those that may have more than an equal part of it; what was cut, for the operator.
///
/// # Errors
/// There are not even enough to start with.
pub fn fit(config: &mut Config, workers: usize, limit: u64) -> Result<Vec<String>, String> {
    let least = fixed(workers).saturating_add(2); // one connection, and its upstream's
    if limit < least {
        return Err(format!(
            "`ulimit -n` {limit} is too few files to start with: at least {least}, and two a connection"
        ));
    }
    let room = u64::from(room(limit, workers));
    if let Some(wanted) = config.connections {
        // With a cap of their own the listeners share what there is.
        if u64::from(wanted) <= room {
            return Ok(Vec::new());
        }
        config.connections = u32::try_from(room).ok();
        return Ok(vec![format!(
            "{wanted} connections are allowed, but `ulimit -n` {limit} has room for {room}; raise it (LimitNOFILE=), or \
             lower connections"
        )]);
    }
    let all: u64 = config.listeners.iter().map(|listener| u64::from(listener.bounds.connections)).sum();
    if all <= room {
        return Ok(Vec::new());
    }
    let together = if config.listeners.len() > 1 { format!(" of {all} together") } else { String::new() };
    let mut cut = Vec::new();
    let most = equal_part(config.listeners.iter().map(|listener| listener.bounds.connections.into()).collect(), room);
    for listener in &mut config.listeners {
        let wanted = listener.bounds.connections;
        let share = u64::from(wanted).min(most);
        if share == u64::from(wanted) {
            continue;
        }
        listener.bounds.connections = u32::try_from(share).unwrap_or(u32::MAX);
        cut.push(format!(
            "listener {}: {wanted} connections{together} are allowed, but `ulimit -n` {limit} has room for {share}; raise \
             it (LimitNOFILE=), or lower bounds.connections",
            listener.name.value
        ));
    }
    Ok(cut)
}

/// What each may have at most, so that all together have no more than `room`: what those do not want that want little is the
/// others'.
fn equal_part(mut wanted: Vec<u64>, mut room: u64) -> u64 {
    wanted.sort_unstable();
    let mut left = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
    for wanted in wanted {
        let part = room / left.max(1);
        if wanted > part {
            return part.max(1);
        }
        room -= wanted;
        left -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_leaves_descriptors_for_everything_else() {
        assert_eq!(room(64, 1), 14);
        assert_eq!(room(20_000, 2), 14_452);
        assert_eq!(room(8, 4), 1, "never none");
        let text = "listeners: [{ address: 127.0.0.1:1, bounds: { connections: 90 } }, { address: 127.0.0.1:2, \
                    bounds: { connections: 10 } }]";
        let mut config = crate::config::parse("x", text, &|_| None).unwrap();
        assert_eq!(fit(&mut config, 1, 1000), Ok(Vec::new()));
        assert!(fit(&mut config, 1, 41).unwrap_err().contains("at least 42"));
        let cut = fit(&mut config, 1, 64).unwrap();
        assert!(cut[0].contains("90 connections of 100 together") && cut.len() == 2, "{cut:?}");
        let caps = |config: &Config| [0, 1].map(|i| config.listeners[i].bounds.connections);
        assert_eq!(caps(&config), [7, 7], "the room of 14 in equal parts");
        config.listeners[0].bounds.connections = 1000;
        config.listeners[1].bounds.connections = 5;
        assert_eq!(fit(&mut config, 1, 64).unwrap().len(), 1, "one that wants little keeps it");
        assert_eq!(caps(&config), [9, 5]);
        config.connections = Some(14);
        assert_eq!(fit(&mut config, 1, 64), Ok(Vec::new()));
        config.connections = Some(15);
        assert!(fit(&mut config, 1, 64).unwrap()[0].starts_with("15 connections are allowed"));
        assert_eq!(config.connections, Some(14));
    }
}
