//! The gateway from outside, as one binary of scenarios: a gateway is started from the built binary with a scripted
//! upstream, and what a client, the upstream, the log and the metrics see is compared with the design documents.
//! `tests/run.sh` runs all of it four times: plain and over TLS (RINGWAY_TEST_TLS=1, see `support/tls.rs`), on io_uring
//! and on epoll (MONOIO_FORCE_LEGACY_DRIVER=1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    reason = "a scenario ends by panicking, and a test binary has no public interface"
)]

mod abstract_sockets;
mod access;
mod aggregate;
mod aggregate_envelope;
mod aggregate_fallback;
mod aggregate_graph;
mod aggregate_hostile;
mod aggregate_items;
mod aggregate_lessons;
mod aggregate_limits;
mod aggregate_requests;
mod aggregate_status;
mod api_keys;
mod attacks;
mod balance;
mod basic_auth;
mod bodies;
mod cfg;
mod cfg_completions;
mod cfg_doctor;
mod cfg_explain;
mod cfg_running;
mod client_gone;
mod compression;
mod config;
mod connect;
mod cors;
mod deadlines;
mod demo;
mod differential;
mod drain;
mod errors;
mod ext_auth;
mod faults;
mod foreign;
mod house_rules;
mod jwt;
mod jwt_hostile;
mod jwt_keys;
mod limits;
mod limits_measured;
mod limits_redis;
mod log_files;
mod log_formats;
mod matching;
mod mirrors;
mod mutation;
mod numbers;
mod observe;
mod plugins;
mod proxy_protocol;
mod requests_strict;
mod responses_strict;
mod rewrites;
mod robustness;
mod routes;
mod security_headers;
mod support;
mod tls;
mod tls_clients;
mod tls_upstreams;
mod tunnels;
mod unix_sockets;
mod upstreams;
mod websockets;
