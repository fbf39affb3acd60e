//! Whether requests can wait for each other in a circle: where one holds its place under a concurrency limit and waits for
//! one under another, and on another way it is the other way round, both stand still until `queue_timeout`.
//!
//! A limit that nobody waits for is in no circle: without a queue one is refused, and with `dry_run` let through.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::listeners::Listener;
use super::super::report::{Located, Report, quote};
use super::super::routes::Draft;
use super::{Filter, NamedFilter, acting};

/// `second` is waited for on this way while `first` is held, where both are named.
struct Wait<'c> {
    first: &'c Located<String>,
    second: &'c Located<String>,
    route: String,
}

/// By the names of what is held and what is waited for.
type Waits<'c> = BTreeMap<&'c str, BTreeMap<&'c str, Wait<'c>>>;

/// Records each pair of limits in the order that closes a circle, once.
pub(in crate::config) fn check<'c>(
    filters: &[NamedFilter],
    all_routes: &'c [Located<String>],
    listeners: &'c [Listener],
    routes: &'c [Draft<'_>],
    report: &Report,
) {
    let is_waited_for = |named: &&NamedFilter| match &named.filter {
        Filter::Concurrency(limit) => limit.queue > 0 && !limit.dry_run,
        _ => false,
    };
    let waited: HashSet<&str> = filters.iter().filter(is_waited_for).map(|named| named.name.value.as_str()).collect();
    if waited.len() < 2 {
        return;
    }
    let mut waits = Waits::new();
    let mut told: HashMap<&str, HashSet<&str>> = HashMap::new();
    for route in routes {
        for listener in listeners {
            let chain = chain(all_routes, listener, route, &waited);
            for (i, second) in chain.iter().enumerate() {
                for first in chain.iter().take(i) {
                    let (held, wanted) = (first.value.as_str(), second.value.as_str());
                    if waits.get(held).is_some_and(|of| of.contains_key(wanted)) {
                        continue;
                    }
                    match way(&waits, wanted, held) {
                        // It is not taken in, so that one mistake is told once and not with every pair behind it.
                        Some(other) if told.entry(held).or_default().insert(wanted) => {
                            tell(first, second, route, other, report);
                        }
                        Some(_) => {}
                        None => {
                            let wait = Wait { first, second, route: route.label() };
                            waits.entry(held).or_default().insert(wanted, wait);
                        }
                    }
                }
            }
        }
    }
}

/// The limits of a route on a listener that are waited for, in their order, each once.
fn chain<'c>(
    all_routes: &'c [Located<String>],
    listener: &'c Listener,
    route: &'c Draft<'_>,
    waited: &HashSet<&str>,
) -> Vec<&'c Located<String>> {
    let mut chain = acting(all_routes, listener, &route.filters, &route.without);
    chain.retain(|name| waited.contains(name.value.as_str()));
    chain
}

/// The last wait on a way from what is held to what is waited for, over any number of others.
fn way<'w, 'c>(waits: &'w Waits<'c>, from: &str, to: &str) -> Option<&'w Wait<'c>> {
    let mut seen = HashSet::from([from]);
    let mut next: Vec<&Wait<'c>> = waits.get(from).into_iter().flat_map(BTreeMap::values).collect();
    while let Some(wait) = next.pop() {
        let name = wait.second.value.as_str();
        if name == to {
            return Some(wait);
        }
        if seen.insert(name) {
            next.extend(waits.get(name).into_iter().flat_map(BTreeMap::values));
        }
    }
    None
}

fn tell(first: &Located<String>, second: &Located<String>, route: &Draft<'_>, other: &Wait<'_>, report: &Report) {
    let (held, wanted) = (quote(&first.value), quote(&second.value));
    let what = format!(
        "requests of the route {} hold {held} and wait for {wanted}, those of the route {} hold {} and wait for {} (line {}, \
         column {}): they can wait for each other",
        route.label(),
        other.route,
        quote(&other.first.value),
        quote(&other.second.value),
        other.second.at.line,
        other.second.at.column,
    );
    report.error(&second.at, what, "list them in the same order everywhere, or give one of them no queue");
}
