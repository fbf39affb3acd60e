//! `ip`: which networks may call.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::decode::{Block, Keys, Value};
use super::super::network;
use crate::value::Invalid;

pub(in crate::config) const KEYS: Keys = Keys { known: &["allow", "deny"], later: &[] };

/// A list that is longer belongs into a packet filter.
const NETWORKS_MAX: usize = 200_000;

/// `ip`: no network is in both lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// They may call; if there are any, others may not.
    pub allow: Vec<IpNet>,
    /// They may not.
    pub deny: Vec<IpNet>,
}

pub(super) fn decode(value: &Value<'_>) -> Option<Ip> {
    let block = value.block(&KEYS)?;
    let mut seen = HashSet::new();
    let allow = networks(&block, "allow", &mut seen);
    let deny = networks(&block, "deny", &mut seen);
    if allow.as_ref().zip(deny.as_ref()).is_some_and(|(allow, deny)| allow.is_empty() && deny.is_empty()) {
        value.error("names no network", "give allow, deny or both");
        return None;
    }
    Some(Ip { allow: allow?, deny: deny? })
}

/// The networks of a list; `None` if one is wrong, or was seen before: which of two contradicting lines holds must not
/// be a matter of taste.
fn networks(block: &Block<'_>, key: &str, seen: &mut HashSet<IpNet>) -> Option<Vec<IpNet>> {
    let Some(list) = block.get(key) else { return Some(Vec::new()) };
    let mut all = Some(Vec::new());
    for item in list.list(0..=NETWORKS_MAX)? {
        match item.parse(client_network) {
            Some(net) if !seen.insert(net) => {
                item.error(format!("{net} is there twice"), "remove one");
                all = None;
            }
            Some(net) => {
                if let Some(all) = &mut all {
                    all.push(net);
                }
            }
            None => all = None,
        }
    }
    all
}

/// Clients on IPv4 are known by their IPv4 address, whatever socket they come by.
fn client_network(text: &str) -> Result<IpNet, Invalid> {
    match network(text)? {
        IpNet::V6(net) if net.prefix_len() >= 96 && net.addr().to_ipv4_mapped().is_some() => {
            let v4 = IpAddr::V6(net.addr()).to_canonical();
            Err(Invalid::new("is an IPv4 network in another form", format!("write {v4}/{}", net.prefix_len() - 96)))
        }
        net => Ok(net),
    }
}
