//! How many connections there are descriptors for. A listener that may have more than that is cut down at the start, and
//! answers 503 at its cap: a process that runs out of descriptors can not even accept to say so.

use crate::config::Config;

/// What the process has open beside connections: log, admin, signals, timers, and the admin's own connections.
const RESERVED: u64 = 32;
/// What each worker has open beside connections: ring, event descriptor, listening sockets, a reserve.
const PER_WORKER: u64 = 8;

/// The soft limit of open files.
pub fn limit() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Downstream connections that fit into `limit` descriptors. A quarter is kept for upstreams: more connections are idle
/// than not, and a request that finds no descriptor for its upstream is answered 503.
fn room(limit: u64, workers: usize) -> u32 {
    let workers = u64::try_from(workers).unwrap_or(u64::MAX);
    let fixed = RESERVED.saturating_add(PER_WORKER.saturating_mul(workers));
    let left = limit.saturating_sub(fixed);
    u32::try_from(left - left / 4).unwrap_or(u32::MAX).max(1)
}

/// Cuts listeners down to the room there is; what was cut, for the operator.
pub fn fit(config: &mut Config, workers: usize, limit: u64) -> Vec<String> {
    let room = room(limit, workers);
    let mut cut = Vec::new();
    // Listeners that have room each may not have it together.
    if let Some(wanted) = config.connections.filter(|wanted| *wanted > room) {
        cut.push(format!(
            "{wanted} connections are allowed, but `ulimit -n` {limit} has room for {room}; raise it (LimitNOFILE=), or \
             lower connections"
        ));
    }
    config.connections = Some(config.connections.map_or(room, |wanted| wanted.min(room)));
    for listener in &mut config.listeners {
        let wanted = listener.bounds.connections;
        if wanted > room {
            listener.bounds.connections = room;
            cut.push(format!(
                "listener {}: {wanted} connections are allowed, but `ulimit -n` {limit} has room for {room}; raise it \
                 (LimitNOFILE=), or lower bounds.connections",
                listener.name.value
            ));
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_leaves_descriptors_for_everything_else() {
        assert_eq!(room(64, 1), 18);
        assert_eq!(room(20_000, 2), 14_964);
        assert_eq!(room(8, 4), 1, "never none");
        let text = "listeners: [{ address: 127.0.0.1:1, bounds: { connections: 100 } }, { address: 127.0.0.1:2, \
                    bounds: { connections: 5 } }]";
        let mut config = crate::config::parse("x", text, &|_| None).unwrap();
        let cut = fit(&mut config, 1, 64);
        assert_eq!(cut.len(), 1, "{cut:?}");
        assert_eq!(config.connections, Some(18));
        config.connections = Some(7);
        assert!(fit(&mut config, 1, 64).is_empty() && config.connections == Some(7));
        config.connections = Some(19);
        assert!(fit(&mut config, 1, 64)[0].starts_with("19 connections are allowed"));
        assert_eq!(config.listeners[0].bounds.connections, 18);
        assert_eq!(config.listeners[1].bounds.connections, 5);
    }
}
