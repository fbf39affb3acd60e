//! Names of the gateway's own that scenarios rely on: metrics and end reasons. In one place, so that a rename shows up
//! as one change here.

/// Requests finished, by route and status class.
pub const REQUESTS: &str = "ringway_requests_total";
/// Requests finished, by route and end reason.
pub const ENDS: &str = "ringway_request_ends_total";
/// Panics caught, by worker.
pub const PANICS: &str = "ringway_worker_panics_total";
/// One per worker, labelled with the driver it runs on.
pub const DRIVER: &str = "ringway_io_driver";
/// Access log lines that did not fit the ring.
pub const LOG_DROPPED: &str = "ringway_log_lines_dropped_total";
/// Access log lines left out by sampling.
pub const LOG_UNSAMPLED: &str = "ringway_log_lines_unsampled_total";
/// Downstream connections open now.
pub const REFUSED: &str = "ringway_connections_refused_total";
pub const CONNECTIONS: &str = "ringway_connections_active";
pub const ACCEPTED: &str = "ringway_connections_accepted_total";
pub const REQUESTS_ACTIVE: &str = "ringway_requests_active";
pub const RECEIVED: &str = "ringway_received_bytes_total";
pub const SENT: &str = "ringway_sent_bytes_total";
pub const DURATION: &str = "ringway_request_duration_seconds";
pub const PARSE_ERRORS: &str = "ringway_parse_errors_total";
pub const UPSTREAM_REQUESTS: &str = "ringway_upstream_requests_total";
pub const TUNNELS: &str = "ringway_tunnels_active";
pub const TUNNELS_OPENED: &str = "ringway_tunnels_opened_total";
pub const RETRIES: &str = "ringway_retries_total";

/// End reasons in the access log: who ended a request, and why.
pub mod end {
    pub const OK: &str = "ok";
    pub const NO_ENDPOINT: &str = "no_endpoint";
    pub const CLIENT_GONE: &str = "client_gone";
    pub const BAD_REQUEST: &str = "client_bad_request";
    pub const REQUEST_HEADER: &str = "client_timeout_header";
    pub const REQUEST_BODY: &str = "client_timeout_body";
    pub const WRITE: &str = "client_timeout_write";
    pub const NOT_FOUND: &str = "route_not_found";
    pub const TRUNCATED: &str = "upstream_truncated";
    pub const RESET: &str = "upstream_reset";
    pub const CONNECT: &str = "upstream_connect_timeout";
    pub const FIRST_BYTE: &str = "upstream_timeout_first_byte";
    pub const UPSTREAM_BODY: &str = "upstream_timeout_body";
    pub const TOTAL: &str = "route_timeout";
    pub const TUNNEL_CLIENT: &str = "tunnel_client";
    pub const TUNNEL_UPSTREAM: &str = "tunnel_upstream";
    pub const TUNNEL_IDLE: &str = "tunnel_idle";
    pub const DRAIN: &str = "drain";
}
