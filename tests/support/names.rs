//! Names of the gateway's own that scenarios rely on: metrics and end reasons. In one place, so that a rename shows up
//! as one change here.

/// Requests finished, by whatever labels.
pub const REQUESTS: &str = "ringway_requests_total";
/// Panics caught by `io::spawn`.
pub const PANICS: &str = "ringway_panics_total";
/// One per worker, labelled with the driver it runs on.
pub const DRIVER: &str = "ringway_worker_driver";
/// Access log lines that did not fit the ring.
pub const LOG_DROPPED: &str = "ringway_access_log_dropped_total";
/// Downstream connections open now.
pub const CONNECTIONS: &str = "ringway_downstream_connections";

/// End reasons in the access log: who ended a request, and why.
pub mod end {
    pub const OK: &str = "ok";
    pub const CLIENT_GONE: &str = "client_gone";
    pub const REQUEST_HEADER: &str = "request_header_timeout";
    pub const REQUEST_BODY: &str = "request_body_timeout";
    pub const WRITE: &str = "write_timeout";
    pub const CONNECT: &str = "connect_timeout";
    pub const FIRST_BYTE: &str = "first_byte_timeout";
    pub const UPSTREAM_BODY: &str = "upstream_body_timeout";
    pub const TOTAL: &str = "route_timeout";
}
