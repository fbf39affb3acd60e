//! `ip: { allow, deny }`: who may call, by the client's address.
//!
//! The longest prefix that holds the address decides, so that an exception of a network can be written down, and one of
//! that exception; the order of the lists says nothing. An address that no prefix holds may call, unless `allow` names
//! any; nor has a client of a Unix socket any address that a prefix could hold. A look-up walks the bits of one address, however many prefixes there are.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::core::Core;
use crate::error::Kind;
use crate::http::reply::Reply;
use crate::request::Request;
use crate::route::template::Facts;
use crate::shared::FilterMetrics;

use super::{Flow, note_refusal};

/// The filter.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Its name.
    pub name: String,
    /// Who may call.
    pub networks: Networks,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

/// Networks that may call, and networks that may not.
#[derive(Clone, Debug)]
pub struct Networks {
    v4: PrefixMap<Ipv4Net, bool>,
    v6: PrefixMap<Ipv6Net, bool>,
    others: bool,
}

impl Networks {
    /// Of two lists that have no network in common.
    #[must_use]
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        let mut networks = Self { v4: PrefixMap::new(), v6: PrefixMap::new(), others: allow.is_empty() };
        for (list, allowed) in [(allow, true), (deny, false)] {
            for net in list {
                match net {
                    IpNet::V4(net) => networks.v4.insert(*net, allowed),
                    IpNet::V6(net) => networks.v6.insert(*net, allowed),
                };
            }
        }
        networks
    }

    /// Whether this address may call.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let longest = match address {
            IpAddr::V4(v4) => self.v4.get_lpm(&v4.into()).map(|(_, allowed)| *allowed),
            IpAddr::V6(v6) => self.v6.get_lpm(&v6.into()).map(|(_, allowed)| *allowed),
        };
        longest.unwrap_or(self.others)
    }
}

impl Ip {
    /// Lets pass who may call, and answers others 403.
    pub fn on_request(&self, req: &mut Request, _core: &Core) -> Flow {
        if req.client_ip().map_or(self.networks.others, |address| self.networks.allows(address)) {
            self.metrics.passed.add(1);
            return Flow::Continue;
        }
        note_refusal(&self.name, &self.metrics, req);
        Flow::Reply(Reply::from_error(Kind::AddressDenied, &req.request_id, b""))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn networks(allow: &[&str], deny: &[&str]) -> Networks {
        let read = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        Networks::new(&read(allow), &read(deny))
    }

    fn allows(networks: &Networks, address: &str) -> bool {
        networks.allows(address.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_decides() {
        let nets = networks(&["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"], &["10.1.0.0/16", "2001:db8:bad::/48"]);
        for (address, allowed) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("192.0.2.1", false),
            ("2001:db8:1::1", true),
            ("2001:db8:bad::1", false),
            ("::1", false),
        ] {
            assert_eq!(allows(&nets, address), allowed, "{address}");
        }
    }

    #[test]
    fn others_may_call_unless_some_are_allowed() {
        assert!(allows(&networks(&[], &["10.0.0.0/8"]), "192.0.2.1"));
        assert!(!allows(&networks(&["10.0.0.0/8"], &[]), "::1"));
        let none = networks(&["10.0.0.0/8"], &["0.0.0.0/0", "::/0"]);
        assert!(allows(&none, "10.9.9.9") && !allows(&none, "11.0.0.0"));
    }

    /// Against the definition, read off all prefixes one by one.
    #[test]
    fn it_is_what_comparing_all_prefixes_gives() {
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(seed >> 33).unwrap()
        };
        // Few different bits, so that prefixes nest.
        let mut address = || std::net::Ipv4Addr::from((next() & 0x0303_0303) | 0x0A00_0000);
        let mut nets: Vec<(Ipv4Net, bool)> = Vec::new();
        for i in 0..300_u32 {
            let net = Ipv4Net::new(address(), u8::try_from(i % 33).unwrap()).unwrap().trunc();
            if nets.iter().all(|(other, _)| *other != net) {
                nets.push((net, i % 2 == 0));
            }
        }
        let of = |wanted: bool| -> Vec<IpNet> {
            nets.iter().filter(|(_, allowed)| *allowed == wanted).map(|(net, _)| IpNet::V4(*net)).collect()
        };
        let built = Networks::new(&of(true), &of(false));
        for _ in 0..5000 {
            let address = address();
            let holding = nets.iter().filter(|(net, _)| net.contains(&address));
            let expected = holding.max_by_key(|(net, _)| net.prefix_len()).is_some_and(|(_, allowed)| *allowed);
            assert_eq!(built.allows(address.into()), expected, "{address}");
        }
    }
}
