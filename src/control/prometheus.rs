//! The metrics as text: sums over cores, made at each scrape.
//!
//! The format is OpenMetrics 1.0, which Prometheus reads. Labels are bounded: routes, upstreams, workers and closed sets
//! of codes. Rows of a closed set that were never counted are left out for routes: 10,000 unused routes would otherwise
//! cost 60 MB a scrape.

mod compression;
mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry as Exposition, Unit};

use crate::end::{Closed, Deadline, End, Failure, Handshake, PartReason};
use crate::shared::metrics::{
    ADDED_BOUNDS_US, BOUNDS, Blocks, ByName, CoreBlock, FilterBlock, Histogram, LogBlock, PARSE_STATUSES, Registry,
    RouteBlock, STATUS_CLASSES, TIME_BOUNDS_US, Times, UpstreamBlock,
};
use crate::shared::wallet::Table;
use crate::tls::server::Expiry;

use super::jwks::KeySetState;
use super::limit_sync;

/// The media type of what [`encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What control itself knows at a scrape.
#[derive(Debug, Default)]
pub struct Facts {
    /// Host names without any address.
    pub unresolved: usize,
    /// The certificates in use.
    pub certificates: Vec<Expiry>,
    /// Their files have changed to something that can not be used.
    pub certificates_stale: bool,
    /// Rate limits with their process wallets.
    pub limits: Vec<(String, Arc<Table>)>,
    /// The state of their Redis, if they have one.
    pub redis: Option<limit_sync::Facts>,
    /// Keys that are fetched for filters.
    pub key_sets: Vec<KeySetState>,
}

/// The whole exposition, with `# EOF` at its end.
///
/// # Errors
/// None in practice: writing to a `String` does not fail.
pub fn encode(registry: &Registry, facts: Facts) -> Result<String, fmt::Error> {
    let mut exposition = Exposition::default();
    let scrape = Scrape { blocks: registry.with(|b| b.clone()), log: registry.log(), facts };
    exposition.register_collector(Box::new(scrape));
    let mut out = String::new();
    text::encode(&mut out, &exposition)?;
    Ok(out)
}

/// The blocks as they are at one scrape. The registry's lock is not held while they are read.
#[derive(Debug)]
struct Scrape {
    blocks: Blocks,
    log: Arc<LogBlock>,
    facts: Facts,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        out.family("ringway_build", "The version that runs.", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        self.connections(&mut out)?;
        self.tls(&mut out)?;
        self.workers(&mut out)?;
        self.requests(&mut out)?;
        self.durations(&mut out)?;
        self.upstreams(&mut out)?;
        self.filters(&mut out)?;
        self.compressions(&mut out)?;
        self.parts(&mut out)?;
        self.limits(&mut out)?;
        self.access_log(&mut out)
    }
}

impl Scrape {
    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let active = self.cores_gauge(|c| c.connections_active.get());
        out.gauge("ringway_connections_active", "Downstream connections open now.", active)?;
        let accepted = self.cores(|c| c.connections_accepted.get());
        out.counter("ringway_connections_accepted", "Downstream connections accepted.", None, accepted)?;
        let refused = self.cores(|c| c.connections_refused.get());
        let help =
            "Downstream connections closed at a cap, with 503 or without a word; accepted and closed count them too.";
        out.counter("ringway_connections_refused", help, None, refused)?;
        let rows =
            Closed::ALL.iter().map(|r| (["reason"], [r.code()], self.cores(|c| c.connections_closed.get(r.index()))));
        out.counters("ringway_connections_closed", "Downstream connections closed, by reason.", None, rows)?;
        let errors = self.cores(|c| c.accept_errors.get());
        out.counter("ringway_accept_errors", "Failed accepts: out of file descriptors or memory.", None, errors)
    }

    fn tls(&self, out: &mut Out<'_>) -> fmt::Result {
        let rows = Handshake::ALL.iter().map(|h| (["result"], [h.code()], self.cores(|c| c.handshakes.get(h.index()))));
        out.counters("ringway_tls_handshakes", "TLS handshakes with clients, by what became of them.", None, rows)?;
        let full = self.cores(|c| c.upstream_handshakes_full.get());
        let resumed = self.cores(|c| c.upstream_handshakes_resumed.get());
        let rows = [("full", full), ("resumed", resumed)].map(|(result, n)| (["result"], [result], n));
        let help = "TLS handshakes with upstreams; those that failed are in ringway_upstream_failures.";
        out.counters("ringway_upstream_tls_handshakes", help, None, rows.into_iter())?;
        let certificates: Vec<(String, i64)> =
            self.facts.certificates.iter().map(|c| (c.file.display().to_string(), c.days())).collect();
        let rows = certificates.iter().map(|(file, days)| (["file"], [file.as_str()], *days));
        out.gauges("ringway_tls_certificate_days", "Days until a certificate expires; negative once it has.", rows)?;
        let help = "1 if certificate files have changed to something that can not be used: the old ones are.";
        out.gauge("ringway_tls_files_stale", help, i64::from(self.facts.certificates_stale))
    }

    fn workers(&self, out: &mut Out<'_>) -> fmt::Result {
        let workers: Vec<(String, &CoreBlock)> =
            self.blocks.cores.iter().map(|(worker, core)| (worker.to_string(), &**core)).collect();
        let rows = workers.iter().map(|(w, core)| (["worker"], [w.as_str()], core.connections_active.get()));
        out.gauges("ringway_worker_connections", "Downstream connections open now, by worker.", rows)?;
        let rows =
            workers.iter().filter_map(|(w, core)| Some((["worker", "driver"], [w.as_str(), core.driver()?.name()], 1)));
        out.gauges("ringway_io_driver", "What a worker's runtime runs on.", rows)?;
        let rows = workers.iter().map(|(w, core)| (["worker"], [w.as_str()], core.panics.get()));
        out.counters("ringway_worker_panics", "Panics caught; each closed one connection.", None, rows)
    }

    fn requests(&self, out: &mut Out<'_>) -> fmt::Result {
        let active = self.cores_gauge(|c| c.requests_active.get());
        out.gauge("ringway_requests_active", "Requests in progress now.", active)?;

        let tunnels = self.cores_gauge(|c| c.tunnels_active.get());
        out.gauge("ringway_tunnels_active", "Tunnels open now; each is a request in progress too.", tunnels)?;
        let opened = self.cores(|c| c.tunnels_opened.get());
        out.counter("ringway_tunnels_opened", "Connections that have switched to another protocol.", None, opened)?;

        let routes = &self.blocks.routes;
        let rows = by_code(routes, "code", &STATUS_CLASSES, |r, i| r.by_class.get(i));
        out.counters("ringway_requests", "Finished requests, by status class.", None, rows)?;
        let codes: Vec<&str> = End::ALL.iter().map(|e| e.code()).collect();
        let rows = by_code(routes, "end", &codes, |r, i| r.by_end.get(i));
        out.counters("ringway_request_ends", "Finished requests, by who ended them and why.", None, rows)?;

        let rows = by_name(routes, "route", |r| r.bytes_in.get());
        out.counters("ringway_received", "Bytes received from clients.", Some(&Unit::Bytes), rows)?;
        let rows = by_name(routes, "route", |r| r.bytes_out.get());
        out.counters("ringway_sent", "Bytes sent to clients.", Some(&Unit::Bytes), rows)?;

        let statuses = PARSE_STATUSES.map(|s| s.to_string());
        let rows =
            statuses.iter().enumerate().map(|(i, s)| (["code"], [s.as_str()], self.cores(|c| c.parse_errors.get(i))));
        out.counters("ringway_parse_errors", "Requests refused by the codec, by status.", None, rows)?;
        let rows = Deadline::ALL.iter().map(|d| (["deadline"], [d.code()], self.cores(|c| c.deadlines.get(d.index()))));
        out.counters("ringway_deadlines_fired", "Deadlines that fired, by config key.", None, rows)
    }

    fn durations(&self, out: &mut Out<'_>) -> fmt::Result {
        let routes = &self.blocks.routes;
        let help = "From the first byte of the request to the last of the answer.";
        out.histograms("ringway_request_duration", help, &TIME_BOUNDS_US, routes, |r| &r.total)?;
        let help = "The part of it spent waiting for the upstream.";
        out.histograms("ringway_upstream_duration", help, &TIME_BOUNDS_US, routes, |r| &r.upstream)?;
        let help = "The part of it that the gateway added; neither the upstream's nor the client's.";
        out.histograms("ringway_gateway_added", help, &ADDED_BOUNDS_US, routes, |r| &r.added)
    }

    fn upstreams(&self, out: &mut Out<'_>) -> fmt::Result {
        let upstreams = &self.blocks.upstreams;
        let rows = by_name(upstreams, "upstream", |u| u.requests.get());
        out.counters("ringway_upstream_requests", "Requests sent upstream, each try counted.", None, rows)?;
        let rows = upstreams.iter().flat_map(|(name, workers)| {
            Failure::ALL.iter().map(move |f| {
                let n = over(workers, |u: &UpstreamBlock| u.failures.get(f.index()));
                (["upstream", "reason"], [&**name, f.code()], n)
            })
        });
        out.counters("ringway_upstream_failures", "Failed tries, by reason.", None, rows)?;
        let rows = upstreams
            .iter()
            .map(|(name, workers)| (["upstream"], [&**name], workers.values().map(|u| u.in_flight.get()).sum()));
        out.gauges("ringway_upstream_in_flight", "Requests waiting for an upstream now.", rows)?;
        let rows = by_name(upstreams, "upstream", |u| u.hash_spills.get());
        let help = "Tries that max_load sent to another endpoint than their key's first choice.";
        out.counters("ringway_upstream_hash_spills", help, None, rows)?;

        let help = "Host names without any address: their endpoints get no requests.";
        out.gauge("ringway_names_unresolved", help, i64::try_from(self.facts.unresolved).unwrap_or(i64::MAX))?;

        let rows = [("ok", self.cores(|c| c.connects.get())), ("failed", self.cores(|c| c.connect_failures.get()))];
        let rows = rows.map(|(result, n)| (["result"], [result], n));
        out.counters("ringway_upstream_connects", "Upstream connections tried.", None, rows.into_iter())?;
        let rows = [("hit", self.cores(|c| c.pool_hits.get())), ("miss", self.cores(|c| c.pool_misses.get()))];
        let rows = rows.map(|(result, n)| (["result"], [result], n));
        out.counters("ringway_pool_checkouts", "Looks for a pooled connection.", None, rows.into_iter())?;
        let discarded = self.cores(|c| c.pool_discarded.get());
        let help = "Pooled connections thrown away: closed, bytes waiting, too old.";
        out.counter("ringway_pool_discarded", help, None, discarded)?;
        out.counter("ringway_retries", "Requests sent a second time.", None, self.cores(|c| c.retries.get()))
    }

    fn filters(&self, out: &mut Out<'_>) -> fmt::Result {
        let rows = self.blocks.filters.iter().flat_map(|(name, workers)| {
            let sum = |count: &dyn Fn(&FilterBlock) -> u64| over(workers, count);
            let rows = [
                ("passed", sum(&|b| b.passed.get())),
                ("refused", sum(&|b| b.refused.get())),
                ("would_refuse", sum(&|b| b.would_refuse.get())),
                ("waited", sum(&|b| b.waited.get())),
            ];
            let more = [
                ("cached", sum(&|b| b.cached.get())),
                ("failed", sum(&|b| b.failed.get())),
                ("sent", sum(&|b| b.sent.get())),
                ("dropped", sum(&|b| b.dropped.get())),
            ];
            // Few filters know these words.
            let more = more.into_iter().filter(|(_, n)| *n > 0);
            rows.into_iter().chain(more).map(|(outcome, n)| (["filter", "outcome"], [&**name, outcome], n))
        });
        out.counters(
            "ringway_filter_requests",
            "Requests that a filter decided on; who waited is passed or refused later.",
            None,
            rows,
        )?;
        self.key_sets(out)?;
        let rows = [("known", self.cores(|c| c.tokens_known.get())), ("new", self.cores(|c| c.tokens_checked.get()))];
        let rows = rows.map(|(result, n)| (["result"], [result], n));
        let help = "Looks for a token among those found right before; a new one is checked.";
        out.counters("ringway_token_lookups", help, None, rows.into_iter())?;
        let held = self.cores_gauge(|c| c.token_bytes.get());
        out.gauge("ringway_token_memory", "Bytes of remembered tokens, as of the last second.", held)
    }

    fn key_sets(&self, out: &mut Out<'_>) -> fmt::Result {
        let rows = |value: fn(&KeySetState) -> Option<i64>| {
            self.facts.key_sets.iter().filter_map(move |set| Some((["filter"], [set.filter.as_str()], value(set)?)))
        };
        let up = rows(|set| Some(i64::from(set.fault.is_none())));
        out.gauges("ringway_jwks_up", "1 if the last fetch of a filter's key set was good.", up)?;
        let keys = rows(|set| Some(i64::try_from(set.keys).unwrap_or(i64::MAX)));
        out.gauges("ringway_jwks_keys", "Fetched keys that a filter uses.", keys)?;
        let age = rows(|set| Some(i64::try_from(set.fetched?.elapsed().as_secs()).unwrap_or(i64::MAX)));
        out.gauges("ringway_jwks_age_seconds", "Seconds since the last good fetch of a filter's key set.", age)
    }

    fn parts(&self, out: &mut Out<'_>) -> fmt::Result {
        let blocks =
            || self.blocks.parts.iter().flat_map(|(route, parts)| parts.iter().map(move |(p, w)| (&**route, &**p, w)));
        let rows = blocks().flat_map(|(route, part, workers)| {
            let ok = ("ok", over(workers, |b| b.ok.get()));
            let failed = PartReason::ALL.iter().map(|r| (r.code(), over(workers, |b| b.failed.get(r.index()))));
            let rows: Vec<_> = std::iter::once(ok).chain(failed.filter(|(_, n)| *n > 0)).collect();
            rows.into_iter().map(move |(result, n)| (["route", "part", "result"], [route, part, result], n))
        });
        out.counters("ringway_parts", "Parts of aggregations, by what became of them.", None, rows)?;
        let rows = blocks().flat_map(|(route, part, workers)| {
            let stale = over(workers, |b| b.fallback_stale.get());
            let fixed = over(workers, |b| b.fallback_static.get());
            [("stale", stale), ("static", fixed)]
                .map(|(source, n)| (["route", "part", "source"], [route, part, source], n))
        });
        out.counters("ringway_part_fallbacks", "Fallbacks that stood for a part.", None, rows)?;
        let held = self.cores_gauge(|c| c.aggregation_bytes.get());
        out.gauge("ringway_aggregation_memory", "Bytes that running aggregations hold, as of the last second.", held)?;
        let stale = self.cores_gauge(|c| c.stale_bytes.get());
        out.gauge("ringway_stale_memory", "Bytes of last good answers, as of the last second.", stale)?;
        let rows = blocks().map(|(route, part, workers)| {
            let mut times = Times::default();
            workers.values().for_each(|block| block.duration.add_to(&mut times));
            (vec![("route", route), ("part", part)], times)
        });
        out.histogram_rows("ringway_part_duration", "From a part's request to its end.", &TIME_BOUNDS_US, rows)
    }

    fn access_log(&self, out: &mut Out<'_>) -> fmt::Result {
        let dropped = self.cores(|c| c.log_lines_dropped.get());
        out.counter("ringway_log_lines_dropped", "Access log lines that found their ring full.", None, dropped)?;
        let unsampled = self.cores(|c| c.log_lines_unsampled.get());
        out.counter("ringway_log_lines_unsampled", "Access log lines left out by sampling.", None, unsampled)?;
        let lost = self.log.lines_lost.get();
        out.counter("ringway_log_lines_lost", "Access log lines that could not be written.", None, lost)?;
        out.counter("ringway_log_errors", "Failed writes of the access log.", None, self.log.errors.get())?;
        let written = self.log.bytes_written.get();
        out.counter("ringway_log_written", "Access log written.", Some(&Unit::Bytes), written)
    }

    fn cores(&self, count: impl Fn(&CoreBlock) -> u64) -> u64 {
        self.blocks.cores.values().map(|core| count(core)).sum()
    }

    fn cores_gauge(&self, value: impl Fn(&CoreBlock) -> i64) -> i64 {
        self.blocks.cores.values().map(|core| value(core)).sum()
    }
}

/// One row: label names, label values, value.
type Row<'a, const N: usize, V> = ([&'static str; N], [&'a str; N], V);

/// What all workers have counted together.
fn over<B>(workers: &BTreeMap<usize, Arc<B>>, count: impl Fn(&B) -> u64) -> u64 {
    workers.values().map(|block| count(block)).sum()
}

/// One row per name.
fn by_name<'a, B>(
    blocks: &'a ByName<B>,
    label: &'static str,
    count: impl Fn(&B) -> u64,
) -> impl Iterator<Item = Row<'a, 1, u64>> {
    blocks.iter().map(move |(name, workers)| ([label], [&**name], over(workers, &count)))
}

/// One row per route and code that was counted.
fn by_code<'a>(
    routes: &'a ByName<RouteBlock>,
    label: &'static str,
    codes: &'a [&'a str],
    count: impl Fn(&RouteBlock, usize) -> u64 + Copy,
) -> impl Iterator<Item = Row<'a, 2, u64>> {
    routes.iter().flat_map(move |(name, workers)| {
        codes.iter().enumerate().filter_map(move |(i, code)| {
            let n = over(workers, |r| count(r, i));
            (n > 0).then_some((["route", label], [&**name, *code], n))
        })
    })
}

/// The encoder, with one method for each kind of metric.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<prometheus_client::encoding::MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, n: u64) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter)?.encode_counter::<NoLabelSet, u64, u64>(&n, None)
    }

    fn gauge(&mut self, name: &str, help: &str, n: i64) -> fmt::Result {
        self.family(name, help, None, MetricType::Gauge)?.encode_gauge(&n)
    }

    fn counters<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        rows: impl Iterator<Item = Row<'r, N, u64>>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, unit, MetricType::Counter)?;
        for (labels, values, n) in rows {
            let labels = pairs(labels, values);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&n, None)?;
        }
        Ok(())
    }

    fn gauges<'r, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = Row<'r, N, i64>>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Gauge)?;
        for (labels, values, n) in rows {
            let labels = pairs(labels, values);
            family.encode_family(&labels)?.encode_gauge(&n)?;
        }
        Ok(())
    }

    /// One histogram in seconds per route.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        bounds_us: &[u64; BOUNDS],
        routes: &ByName<RouteBlock>,
        histogram: impl Fn(&RouteBlock) -> &Histogram,
    ) -> fmt::Result {
        let rows = routes.iter().map(|(route, workers)| {
            let mut times = Times::default();
            workers.values().for_each(|r| histogram(r).add_to(&mut times));
            (vec![("route", &**route)], times)
        });
        self.histogram_rows(name, help, bounds_us, rows)
    }

    /// One histogram in seconds per row that has counted anything.
    fn histogram_rows<'r>(
        &mut self,
        name: &str,
        help: &str,
        bounds_us: &[u64; BOUNDS],
        rows: impl Iterator<Item = (Vec<(&'static str, &'r str)>, Times)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let bounds: Vec<f64> = bounds_us.iter().map(|&us| seconds(us)).chain([f64::INFINITY]).collect();
        for (labels, times) in rows.filter(|(_, times)| times.count() > 0) {
            let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(times.buckets).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                seconds(times.sum_us),
                times.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn pairs<'a, const N: usize>(labels: [&'static str; N], values: [&'a str; N]) -> Vec<(&'static str, &'a str)> {
    labels.into_iter().zip(values).collect()
}

/// µs in the base unit of Prometheus. A sum is exact up to 2^53 µs, 285 years.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shared::metrics::{Driver, Finished};

    fn filled() -> Registry {
        let registry = Registry::default();
        for worker in 0..2 {
            let core = registry.core(worker);
            core.connections_accepted.add(3);
            core.connections_active.add(2);
            core.set_driver(if worker == 0 { Driver::IoUring } else { Driver::Epoll });
            core.parse_error(431);
            let finished = Finished {
                status: 200,
                end: End::Ok,
                bytes_in: 100,
                bytes_out: 1000,
                total_us: 1_500,
                upstream_us: Some(1_480),
                added_us: 20,
            };
            registry.route(worker, "us\"er\\s").finish(&finished);
            registry.upstream(worker, "users").requests.add(1);
            let part = registry.part(worker, "us\"er\\s", "orders");
            part.ended(None, 1_500);
            part.ended(Some(PartReason::Timeout), 200_000);
            part.fallback_static.add(1);
        }
        let _unused = registry.route(0, "unused");
        registry
    }

    #[test]
    fn cores_are_summed_and_units_are_base_units() {
        let text = encode(&filled(), Facts { unresolved: 3, ..Facts::default() }).unwrap();
        for line in [
            "ringway_build_info{version=\"0.1.0\"} 1",
            "ringway_connections_accepted_total 6",
            "ringway_connections_active 4",
            "ringway_worker_connections{worker=\"1\"} 2",
            "ringway_io_driver{worker=\"0\",driver=\"io_uring\"} 1",
            "ringway_io_driver{worker=\"1\",driver=\"epoll\"} 1",
            "ringway_requests_total{route=\"us\\\"er\\\\s\",code=\"2xx\"} 2",
            "ringway_request_ends_total{route=\"us\\\"er\\\\s\",end=\"ok\"} 2",
            "ringway_sent_bytes_total{route=\"us\\\"er\\\\s\"} 2000",
            "ringway_request_duration_seconds_sum{route=\"us\\\"er\\\\s\"} 0.003",
            "ringway_request_duration_seconds_bucket{le=\"0.001\",route=\"us\\\"er\\\\s\"} 0",
            "ringway_request_duration_seconds_bucket{le=\"0.0025\",route=\"us\\\"er\\\\s\"} 2",
            "ringway_request_duration_seconds_bucket{le=\"+Inf\",route=\"us\\\"er\\\\s\"} 2",
            "ringway_gateway_added_seconds_count{route=\"us\\\"er\\\\s\"} 2",
            "ringway_parse_errors_total{code=\"431\"} 2",
            "ringway_upstream_requests_total{upstream=\"users\"} 2",
            "ringway_parts_total{route=\"us\\\"er\\\\s\",part=\"orders\",result=\"ok\"} 2",
            "ringway_parts_total{route=\"us\\\"er\\\\s\",part=\"orders\",result=\"timeout\"} 2",
            "ringway_part_fallbacks_total{route=\"us\\\"er\\\\s\",part=\"orders\",source=\"static\"} 2",
            "ringway_part_duration_seconds_bucket{le=\"0.0025\",route=\"us\\\"er\\\\s\",part=\"orders\"} 2",
            "ringway_names_unresolved 3",
            "ringway_log_lines_dropped_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("seconds_count{route=\"unused\"}"), "an unused route has no histogram");
    }

    #[test]
    fn every_family_is_described_once_and_every_sample_belongs_to_it() {
        let text = encode(&filled(), Facts { unresolved: 3, ..Facts::default() }).unwrap();
        let mut family = String::new();
        let mut seen = std::collections::HashSet::new();
        for line in text.lines().take_while(|l| *l != "# EOF") {
            if let Some(described) = line.strip_prefix("# HELP ") {
                family = described.split(' ').next().unwrap().to_owned();
                assert!(family.starts_with("ringway_") && seen.insert(family.clone()), "{family} twice");
                assert!(described.ends_with('.'));
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} under {family}");
            }
        }
        // For a look by a strict reader nobody here wrote: python's prometheus_client.
        if let Some(path) = std::env::var_os("RINGWAY_METRICS_OUT") {
            std::fs::write(path, text).unwrap();
        }
    }
}
