//! What upstreams would get, byte for byte, as the endpoint that is named first would.

use std::rc::Rc;

use serde::Serialize;

use crate::config::balance::Balance;
use crate::config::split::{Sticky, Target};
use crate::config::{Config, aggregate as raw_aggregate, routes};
use crate::core::Core;
use crate::http::proxy_protocol::Version;
use crate::request::Request;
use crate::snapshot::aggregate::{Aggregate, Body, Part};
use crate::snapshot::{Forward, UpstreamSpec};

use super::super::aggregate::render::{PartFacts, Sender, Values};
use super::super::forward::{ask_upgrade, edit};
use super::super::plane::{Downstream, Live};
use super::super::{split, upstream_head};
use super::{Deadline, Explanation};

/// What one upstream gets.
#[derive(Debug, Serialize)]
pub struct Sent {
    /// The part of an aggregation that it is.
    pub part: Option<String>,
    /// The upstream's name.
    pub upstream: String,
    /// How one of its endpoints is chosen.
    pub balance: &'static str,
    /// The endpoints, of which the first is asked here.
    pub endpoints: Vec<Endpoint>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The head, and the body of a part that has one of its own.
    pub request: String,
    /// When it is asked, and what else is to be known.
    pub notes: Vec<String>,
}

/// Where an upstream may be asked.
#[derive(Debug, Serialize)]
pub struct Endpoint {
    /// As the config writes it: no name is resolved.
    pub address: String,
    /// Its share relative to the others.
    pub weight: u32,
}

/// What is at hand to tell what is sent.
pub(super) struct About<'a> {
    pub(super) live: &'a Rc<Live>,
    pub(super) down: &'a Downstream,
    pub(super) config: &'a Config,
}

impl About<'_> {
    pub(super) fn forward(
        &self,
        action: &Forward,
        raw: &routes::Route,
        left_ms: u32,
        core: &Core,
        req: &mut Request,
        told: &mut Explanation,
    ) {
        edit(req, action);
        let (index, _) = split::upstream(action, req, core);
        let Some(mut sent) = self.upstream(index) else { return };
        sent.notes.extend(chosen(raw));
        ask_upgrade(req, action);
        let host = self.host(index);
        if req.head.method == http::Method::CONNECT {
            sent.notes.push("nothing is sent: the client gets a tunnel".to_owned());
        } else {
            let mut out = Vec::new();
            if !upstream_head::write(req, action, &host, self.down.peer().text(), left_ms.into(), &mut out) {
                sent.notes.push("its target is too long: it is answered 414".to_owned());
            }
            sent.request = String::from_utf8_lossy(&out).into_owned();
        }
        self.deadlines(index, req.asks_upgrade || req.head.method == http::Method::CONNECT, told);
        told.sent.push(sent);
    }

    pub(super) fn aggregate(
        &self,
        plan: &Aggregate,
        raw: &routes::Route,
        left_ms: u32,
        req: &Request,
        told: &mut Explanation,
    ) {
        let routes::Action::Aggregate(raw) = &raw.action else { return };
        for (part, raw_part) in plan.parts.iter().zip(&raw.parts) {
            let Some(mut sent) = self.upstream(part.upstream) else { continue };
            let host = self.host(part.upstream);
            let mut values = Values::default();
            for value in &raw_part.values {
                let text = placeholder(&value.text);
                let json = serde_json::to_vec(&text).unwrap_or_default();
                values.push(&json, |_, out| {
                    out.extend_from_slice(text.as_bytes());
                    true
                });
            }
            let facts = PartFacts { req, values: &values, left_ms: Some(left_ms.min(part.timeout_ms).into()) };
            let mut out = Vec::new();
            if !(Sender { part, facts, body: b"", down: self.down }).write(&host, &mut out) {
                sent.notes.push("its target is too long: it is not asked".to_owned());
            }
            sent.part = Some(part.name.clone());
            sent.request = String::from_utf8_lossy(&out).into_owned();
            notes(plan, part, raw_part, &mut sent.notes);
            told.sent.push(sent);
            if part.timeout_ms != u32::MAX {
                told.deadlines.push(Deadline { key: part.timeout_key(), ms: part.timeout_ms });
            }
        }
        let mut named: Vec<usize> = plan.parts.iter().map(|part| part.upstream).collect();
        named.sort_unstable();
        named.dedup();
        named.into_iter().for_each(|index| self.deadlines(index, false, told));
    }

    /// What is known of an upstream, yet without what it gets.
    pub(super) fn upstream(&self, index: usize) -> Option<Sent> {
        let raw = self.config.upstreams.get(index)?;
        let endpoint = |raw: &crate::config::upstreams::Endpoint| Endpoint {
            address: raw.address.to_string(),
            weight: raw.weight,
        };
        Some(Sent {
            part: None,
            upstream: raw.name.value.clone(),
            balance: match &raw.balance {
                Balance::P2c => "p2c",
                Balance::RoundRobin => "round_robin",
                Balance::LeastRequest => "least_request",
                Balance::Hash(_) => "hash",
            },
            endpoints: raw.endpoints.iter().filter(|endpoint| !endpoint.drain).map(endpoint).collect(),
            tls: raw.tls.is_some(),
            request: String::new(),
            notes: raw.proxy_protocol.map(proxy_header).into_iter().collect(),
        })
    }

    /// The Host that the first endpoint is asked by.
    pub(super) fn host(&self, index: usize) -> String {
        let asked =
            self.config.upstreams.get(index).and_then(|raw| raw.endpoints.iter().find(|endpoint| !endpoint.drain));
        asked.map(|endpoint| endpoint.address.host()).unwrap_or_default()
    }

    fn deadlines(&self, index: usize, tunnel: bool, told: &mut Explanation) {
        let Some(spec) = self.live.snapshot.upstreams.get(index) else { return };
        let UpstreamSpec { name, connect_ms, first_byte_ms, body_ms, tunnel_idle_ms, .. } = spec;
        let mut add = |key: &str, ms: &u32| {
            told.deadlines.push(Deadline { key: format!("upstreams.{name}.timeouts.{key}"), ms: *ms });
        };
        add("connect", connect_ms);
        add("first_byte", first_byte_ms);
        add("body", body_ms);
        if tunnel {
            add("tunnel_idle", tunnel_idle_ms);
        }
    }
}

fn proxy_header(version: Version) -> String {
    let version = match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    format!("a PROXY header ({version}), which names the client, begins each connection")
}

/// What an upstream was chosen from, where there are several.
fn chosen(raw: &routes::Route) -> Option<String> {
    let routes::Action::Forward(forward) = &raw.action else { return None };
    let Target::Split(split) = &forward.target else { return None };
    let weights: Vec<String> =
        split.weights.iter().map(|(name, weight)| format!("{} ({weight})", name.value)).collect();
    let by = match &split.sticky {
        None => "by chance, by weight".to_owned(),
        Some(Sticky::Header(name)) => format!("by the field {name}, or by chance"),
        Some(Sticky::Cookie { name, .. }) => format!("by the cookie {name}, which who has none gets"),
    };
    Some(format!("one of {}, chosen {by}", weights.join(", ")))
}

/// What stands for a value of an earlier answer: nothing in it is escaped anywhere.
fn placeholder(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '.' };
    format!("~{}~", text.chars().map(plain).collect::<String>())
}

fn notes(plan: &Aggregate, part: &Part, raw: &raw_aggregate::Part, notes: &mut Vec<String>) {
    let earlier = |bits: u64| {
        let names = plan
            .parts
            .iter()
            .enumerate()
            .filter(|(i, _)| bits.checked_shr((*i).try_into().unwrap_or(64)).is_some_and(|b| b & 1 == 1));
        names.map(|(_, part)| part.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match part.after {
        0 => notes.push("asked at once".to_owned()),
        bits => notes.push(format!("asked when these have ended: {}", earlier(bits))),
    }
    if !part.values.is_empty() {
        notes.push("~…~ stands for a value of an earlier answer".to_owned());
    }
    if let Some(when) = &raw.when {
        notes.push(format!("only when {}", when.value));
    }
    if let Some(for_each) = &part.for_each {
        notes.push(format!("once for each of at most {} items, {} at a time", for_each.max, for_each.concurrency));
    }
    if part.is_shadow() {
        notes.push("a shadow: its answer is thrown away".to_owned());
    } else if part.needed {
        notes.push("without it the whole answer fails".to_owned());
    }
    if matches!(part.body, Body::Pass) {
        notes.push("with the client's body".to_owned());
    }
}
