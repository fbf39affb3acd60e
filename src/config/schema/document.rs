//! The rows of everything but filters and aggregations.

use super::super::{ALL_ROUTES_KEYS, CONNECTIONS_MAX, CPUS_MAX, KEYS};
use super::super::{
    access_log, balance, cookies, errors, forward, headers, listeners, matching, observe, predicates, query,
    rate_limits, rewrite, routes, split, tls, upstreams,
};
use super::*;

/// The whole document.
pub(super) static DOCUMENT: Block = Block {
    name: "config",
    keys: &KEYS,
    rows: &[
        or("workers", Kind::Either(&[Kind::Words(&["auto"]), Kind::Count(1, CPUS_MAX), CPUS]), "auto"),
        or("connections", Kind::Either(&[NONE, Kind::Count(1, CONNECTIONS_MAX)]), "none"),
        or("drain", TIME, "30s"),
        or("errors", Kind::Either(&[ERROR_FORMAT, Kind::Block(&ERRORS)]), "envelope"),
        or("forwarded", Kind::Words(&["x-forwarded", "forwarded", "both"]), "x-forwarded"),
        or("trusted_proxies", Kind::List(&TRUSTED, 0, 1024), "[]"),
        need("listeners", Kind::List(&Kind::Block(&LISTENER), 1, 64)),
        or("upstreams", Kind::Map(&Kind::Block(&UPSTREAM)), "{}"),
        or("filters", Kind::Map(&Kind::Block(&filters::FILTER)), "{}"),
        or("all_routes", Kind::Block(&ALL_ROUTES), "{}"),
        or("routes", Kind::List(&Kind::Block(&ROUTE), 0, 100_000), "[]"),
        or("aggregation", Kind::Block(&aggregate::MEMORY), "{}"),
        may("rate_limits", Kind::Block(&RATE_LIMITS)),
        or("observe", Kind::Block(&OBSERVE), "{}"),
        or("admin", Kind::Either(&[Kind::Words(&["off"]), Kind::Block(&ADMIN)]), "{}"),
    ],
    rule: Rule::None,
};

const CPUS: Kind = Kind::List(&Kind::Count(0, CPUS_MAX - 1), 1, CPUS_MAX);
pub(super) const NETWORK: Kind = Kind::Like("^[0-9a-fA-F.:]+(/[0-9]{1,3})?$");
const TRUSTED: Kind = Kind::Either(&[Kind::Words(&["unix"]), NETWORK]);
/// An address or a host, and a port; or the path of a socket, or its abstract name.
const SOCKET: Kind = Kind::Like(":[0-9]{1,5}$|^unix:[/@]");
/// Permissions of a file, which YAML may read as a number.
const MODE: Kind = Kind::Name("^0[0-7]{3}$");
const CA: Kind = Kind::Either(&[Kind::Words(&["system"]), FILE]);
const MIN_VERSION: Kind = Kind::Words(&["1.2", "1.3"]);

static ALL_ROUTES: Block =
    Block { name: "all_routes", keys: &ALL_ROUTES_KEYS, rows: &[or("filters", NAMES, "[]")], rule: Rule::None };

const ERROR_FORMAT: Kind = Kind::Words(&["envelope", "problem+json", "text"]);
static ERRORS: Block = Block {
    name: "errors",
    keys: &errors::KEYS,
    rows: &[or("format", ERROR_FORMAT, "envelope"), or("bodies", Kind::Map(&Kind::Block(&ERROR_BODY)), "{}")],
    rule: Rule::None,
};
/// The same for a route: what it does not say is said above.
static ROUTE_ERRORS: Block = Block {
    name: "route_errors",
    keys: &errors::KEYS,
    rows: &[may("format", ERROR_FORMAT), or("bodies", Kind::Map(&Kind::Block(&ERROR_BODY)), "{}")],
    rule: Rule::None,
};
static ERROR_BODY: Block = Block {
    name: "error_body",
    keys: &errors::BODY_KEYS,
    rows: &[need("content_type", Kind::Like("^[^/]+/[^/]+")), may("body", Kind::Template), may("file", FILE)],
    rule: Rule::One(&["body", "file"]),
};

static LISTENER: Block = Block {
    name: "listener",
    keys: &listeners::KEYS,
    rows: &[
        may("name", NAME),
        need("address", SOCKET),
        mostly("mode", MODE, "0660"),
        may("proxy_protocol", Kind::Block(&PROXY_PROTOCOL)),
        may("tls", Kind::Block(&LISTENER_TLS)),
        or("https_redirect", Kind::Either(&[NONE, HTTP_PORT]), "none"),
        or("bounds", Kind::Block(&BOUNDS), "{}"),
        or("timeouts", Kind::Block(&LISTENER_TIMEOUTS), "{}"),
        or("max_requests", Kind::Either(&[NONE, Kind::Count(1, 1_000_000_000)]), "10000"),
        or("max_age", Kind::Either(&[NONE, TIME]), "none"),
        or("half_close", Kind::Words(&["gone", "answer"]), "gone"),
        or("paths", Kind::Block(&PATHS), "{}"),
        or("filters", NAMES, "[]"),
    ],
    rule: Rule::None,
};
static PROXY_PROTOCOL: Block = Block {
    name: "proxy_protocol",
    keys: &listeners::PROXY_PROTOCOL_KEYS,
    rows: &[need("trusted", Kind::List(&TRUSTED, 1, 1024))],
    rule: Rule::None,
};
static BOUNDS: Block = Block {
    name: "bounds",
    keys: &listeners::BOUNDS_KEYS,
    rows: &[
        or("connections", Kind::Count(1, 1_000_000), "20000"),
        or("connections_per_client", Kind::Either(&[NONE, Kind::Count(1, 1_000_000)]), "none"),
        or("handshakes", Kind::Count(1, 1_000_000), "1000"),
        or("head", SIZE, "32KiB"),
        or("headers", Kind::Count(1, 256), "100"),
        or("target", SIZE, "8KiB"),
    ],
    rule: Rule::None,
};
static LISTENER_TIMEOUTS: Block = Block {
    name: "listener_timeouts",
    keys: &listeners::TIMEOUTS_KEYS,
    rows: &[
        or("tls_handshake", TIME, "5s"),
        or("request_header", TIME, "10s"),
        or("request_body", TIME, "30s"),
        or("keep_alive", TIME, "60s"),
        or("write", TIME, "30s"),
    ],
    rule: Rule::None,
};
static PATHS: Block = Block {
    name: "paths",
    keys: &listeners::PATHS_KEYS,
    rows: &[
        or("merge_slashes", Kind::Boolean, "false"),
        or("encoded_slashes", Kind::Words(&["reject", "keep"]), "reject"),
    ],
    rule: Rule::None,
};

static LISTENER_TLS: Block = Block {
    name: "listener_tls",
    keys: &tls::LISTENER_KEYS,
    rows: &[
        need("certificates", Kind::List(&Kind::Block(&CERTIFICATE), 1, 1000)),
        or("min_version", MIN_VERSION, "1.2"),
        may("client", Kind::Block(&TLS_CLIENTS)),
        may("ticket_secrets", Kind::List(&FILE, 1, 8)),
        or("unknown_name", Kind::Words(&["default", "refuse"]), "default"),
        may("hsts", Kind::Block(&HSTS)),
    ],
    rule: Rule::None,
};
static CERTIFICATE: Block = Block {
    name: "certificate",
    keys: &tls::CERTIFICATE_KEYS,
    rows: &[need("cert", FILE), need("key", FILE), may("ocsp", FILE)],
    rule: Rule::None,
};
static TLS_CLIENTS: Block = Block {
    name: "tls_clients",
    keys: &tls::CLIENT_KEYS,
    rows: &[need("ca", FILE), may("crl", FILE), or("mode", Kind::Words(&["required", "optional"]), "required")],
    rule: Rule::None,
};
static HSTS: Block = Block {
    name: "hsts",
    keys: &tls::HSTS_KEYS,
    rows: &[
        or("max_age", TIME, "365d"),
        or("include_subdomains", Kind::Boolean, "false"),
        or("preload", Kind::Boolean, "false"),
    ],
    rule: Rule::None,
};
static UPSTREAM_TLS: Block = Block {
    name: "upstream_tls",
    keys: &tls::UPSTREAM_KEYS,
    rows: &[
        may("server_name", Kind::Text),
        or("ca", CA, "system"),
        may("client", Kind::Block(&OWN_CERTIFICATE)),
        or("min_version", MIN_VERSION, "1.2"),
        or("insecure_skip_verify", Kind::Boolean, "false"),
    ],
    rule: Rule::None,
};
static OWN_CERTIFICATE: Block = Block {
    name: "own_certificate",
    keys: &tls::UPSTREAM_CLIENT_KEYS,
    rows: &[need("cert", FILE), need("key", FILE)],
    rule: Rule::None,
};

static UPSTREAM: Block = Block {
    name: "upstream",
    keys: &upstreams::KEYS,
    rows: &[
        need("endpoints", Kind::List(&Kind::Either(&[SOCKET, Kind::Block(&ENDPOINT)]), 1, 1024)),
        or("balance", Kind::Either(&[BALANCERS, Kind::Block(&BALANCE)]), "p2c"),
        or("pool", Kind::Block(&POOL), "{}"),
        or("timeouts", Kind::Block(&UPSTREAM_TIMEOUTS), "{}"),
        or("proxy_protocol", Kind::Words(&["off", "v1", "v2"]), "off"),
        may("tls", Kind::Block(&UPSTREAM_TLS)),
    ],
    rule: Rule::None,
};
static ENDPOINT: Block = Block {
    name: "endpoint",
    keys: &upstreams::ENDPOINT_KEYS,
    rows: &[need("address", SOCKET), or("weight", Kind::Count(1, 1000), "1"), or("drain", Kind::Boolean, "false")],
    rule: Rule::None,
};
const BALANCERS: Kind = Kind::Words(&["p2c", "round_robin", "least_request"]);
static BALANCE: Block = Block {
    name: "balance",
    keys: &balance::KEYS,
    rows: &[need("hash", Kind::Block(&HASH)), or("max_load", Kind::Either(&[NONE, LOAD]), "125%")],
    rule: Rule::None,
};
/// Of the average.
const LOAD: Kind = Kind::Like("^[0-9]{3,4}%$");
static HASH: Block = Block {
    name: "hash",
    keys: &balance::HASH_KEYS,
    rows: &[
        may("ip", Kind::Boolean),
        may("header", FIELD),
        may("cookie", FIELD),
        may("query", Kind::Text),
        may("path", Kind::Text),
    ],
    rule: Rule::One(&balance::FACTS),
};
static POOL: Block = Block {
    name: "pool",
    keys: &upstreams::POOL_KEYS,
    rows: &[
        or("idle", Kind::Count(0, 100_000), "64"),
        or("idle_timeout", TIME, "60s"),
        or("max_age", TIME, "1h"),
        or("max_requests", Kind::Count(1, 1_000_000_000), "10000"),
    ],
    rule: Rule::None,
};
static UPSTREAM_TIMEOUTS: Block = Block {
    name: "upstream_timeouts",
    keys: &upstreams::TIMEOUTS_KEYS,
    rows: &[
        or("connect", TIME, "3s"),
        or("first_byte", TIME, "15s"),
        or("body", TIME, "30s"),
        or("tunnel_idle", TIME, "1h"),
    ],
    rule: Rule::None,
};

static ROUTE: Block = Block {
    name: "route",
    keys: &routes::KEYS,
    rows: &[
        may("name", NAME),
        need("match", Kind::Block(&MATCH)),
        or("filters", NAMES, "[]"),
        or("without", NAMES, "[]"),
        mostly("cost", Kind::Either(&[COST, Kind::Map(&COST)]), "1"),
        or("timeout", TIME, "30s"),
        or("body_limit", Kind::Either(&[NONE, SIZE]), "none"),
        may("errors", Kind::Either(&[ERROR_FORMAT, Kind::Block(&ROUTE_ERRORS)])),
        may("forward", Kind::Block(&FORWARD)),
        may("aggregate", Kind::Block(&aggregate::AGGREGATE)),
        may("respond", Kind::Block(&RESPOND)),
        may("redirect", Kind::Block(&REDIRECT)),
    ],
    rule: Rule::One(&["forward", "aggregate", "respond", "redirect"]),
};
const COST: Kind = Kind::Count(0, 60_000);
static MATCH: Block = Block {
    name: "match",
    keys: &matching::KEYS,
    rows: &[
        may("host", Kind::Text),
        need("path", Kind::Like("^/")),
        may("methods", METHODS),
        or("headers", PREDICATES, "{}"),
        or("cookies", Kind::Map(&COOKIE_PREDICATE), "{}"),
        or("query", PREDICATES, "{}"),
        or("priority", Kind::Integer(-matching::PRIORITY_MAX, matching::PRIORITY_MAX), "0"),
        or("trailing_slash", Kind::Words(&["strict", "match", "redirect"]), "strict"),
    ],
    rule: Rule::None,
};
const PREDICATES: Kind = Kind::Map(&PREDICATE);
const VALUES_MAX: u32 = predicates::VALUES_MAX as u32;
/// What is wanted of the values of a name.
pub(in crate::config) static PREDICATE: Kind =
    Kind::Either(&[Kind::Words(&["present", "absent"]), Kind::Block(&COMPARISON)]);
/// The same of a cookie, which is a credential whatever its name.
pub(in crate::config) static COOKIE_PREDICATE: Kind =
    Kind::Either(&[Kind::Words(&["present", "absent"]), Kind::Block(&COMPARISON)]);
static COMPARISON: Block = Block {
    name: "predicate",
    keys: &predicates::PREDICATE_KEYS,
    rows: &[
        may("equals", Kind::Either(&[Kind::Template, Kind::List(&Kind::Template, 1, VALUES_MAX)])),
        may("prefix", Kind::Template),
        may("regex", Kind::Template),
    ],
    rule: Rule::One(&["equals", "prefix", "regex"]),
};
const PROTOCOL: Kind = Kind::Name("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$");
static FORWARD: Block = Block {
    name: "forward",
    keys: &forward::KEYS,
    rows: &[
        may("upstream", NAME),
        may("split", Kind::Map(&Kind::Count(0, split::WEIGHT_MAX))),
        may("sticky", Kind::Block(&STICKY)),
        or("rewrite", Kind::Block(&REWRITE), "{}"),
        or("upgrade", Kind::Either(&[Kind::Words(&["off"]), Kind::List(&PROTOCOL, 1, 8)]), r#"["websocket"]"#),
        or("request_headers", Kind::Block(&HEADERS), "{}"),
        or("response_headers", Kind::Block(&HEADERS), "{}"),
    ],
    rule: Rule::One(&["upstream", "split"]),
};
static STICKY: Block = Block {
    name: "sticky",
    keys: &split::STICKY_KEYS,
    rows: &[
        may("cookie", FIELD),
        may("header", FIELD),
        may("max_age", TIME),
        Row {
            key: "cache_control",
            kind: Kind::Words(&["private", "keep"]),
            default: Default::With("cookie", "private"),
        },
    ],
    rule: Rule::One(&["cookie", "header"]),
};
static REWRITE: Block = Block {
    name: "rewrite",
    keys: &rewrite::KEYS,
    rows: &[
        may("strip_prefix", Kind::Like("^/")),
        may("add_prefix", Kind::Like("^/")),
        may("path", Kind::Like("^[/{]")),
        may("regex", Kind::Block(&REGEX)),
        or("query", Kind::Block(&QUERY), "{}"),
        or("host", Kind::Text, "upstream"),
        or("location", Kind::Boolean, "false"),
        or("cookies", Kind::Block(&COOKIES), "{}"),
    ],
    rule: Rule::None,
};
static REGEX: Block = Block {
    name: "rewrite_regex",
    keys: &rewrite::REGEX_KEYS,
    rows: &[need("match", Kind::Text), need("to", Kind::Like("^/"))],
    rule: Rule::None,
};
static QUERY: Block = Block {
    name: "rewrite_query",
    keys: &query::KEYS,
    rows: &[or("set", FIELDS, "{}"), or("add", FIELDS, "{}"), or("remove", Kind::List(&Kind::Text, 0, 32), "[]")],
    rule: Rule::None,
};
static COOKIES: Block = Block {
    name: "rewrite_cookies",
    keys: &cookies::KEYS,
    rows: &[or("domain", Kind::Map(&Kind::Text), "{}"), or("path", Kind::Map(&Kind::Like("^/")), "{}")],
    rule: Rule::None,
};
/// Changes to the header fields of a message.
pub(super) static HEADERS: Block = Block {
    name: "header_edits",
    keys: &headers::EDIT_KEYS,
    rows: &[
        or("rename", Kind::Map(&FIELD), "{}"),
        or("remove", Kind::List(&FIELD, 0, 100), "[]"),
        or("set", FIELDS, "{}"),
        or("append", FIELDS, "{}"),
        or("add", FIELDS, "{}"),
    ],
    rule: Rule::None,
};
static RESPOND: Block = Block {
    name: "respond",
    keys: &routes::RESPOND_KEYS,
    rows: &[or("status", Kind::Count(200, 599), "200"), or("headers", FIELDS, "{}"), or("body", Kind::Template, "")],
    rule: Rule::None,
};
static REDIRECT: Block = Block {
    name: "redirect",
    keys: &routes::REDIRECT_KEYS,
    rows: &[need("to", Kind::Template), or("status", Kind::Words(&["301", "302", "303", "307", "308"]), "308")],
    rule: Rule::None,
};

static RATE_LIMITS: Block = Block {
    name: "rate_limits",
    keys: &rate_limits::KEYS,
    rows: &[
        may("redis", Kind::Block(&REDIS)),
        Row { key: "on_unavailable", kind: ON_UNAVAILABLE, default: Default::With("redis", "local_share") },
    ],
    rule: Rule::None,
};
/// What limits do while Redis is away.
pub(super) const ON_UNAVAILABLE: Kind = Kind::Words(&["local_share", "deny", "allow", "local_full"]);
static REDIS: Block = Block {
    name: "redis",
    keys: &rate_limits::REDIS_KEYS,
    rows: &[
        need("url", Kind::Url),
        mostly("ca", CA, "system"),
        may("client", Kind::Block(&OWN_CERTIFICATE)),
        or("prefix", Kind::Name("^[A-Za-z0-9_.-]{1,64}$"), "ringway"),
    ],
    rule: Rule::None,
};

static OBSERVE: Block = Block {
    name: "observe",
    keys: &observe::OBSERVE_KEYS,
    rows: &[or("access_log", Kind::Block(&ACCESS_LOG), "{}")],
    rule: Rule::None,
};
static ACCESS_LOG: Block = Block {
    name: "access_log",
    keys: &access_log::KEYS,
    rows: &[
        or("to", Kind::Either(&[Kind::Words(&["stdout", "stderr", "off"]), FILE]), "stdout"),
        or("format", Kind::Either(&[Kind::Words(&["json", "common", "combined"]), Kind::Block(&LOG_FORMAT)]), "json"),
        or("fields", FIELDS, "{}"),
        or("query", Kind::Boolean, "false"),
        or("redact", Kind::Block(&LOG_REDACT), "{}"),
        or("sample", SHARE, "100%"),
        or("slow", Kind::Either(&[NONE, TIME]), "1s"),
    ],
    rule: Rule::None,
};
static LOG_FORMAT: Block = Block {
    name: "log_format",
    keys: &access_log::FORMAT_KEYS,
    rows: &[need("template", Kind::Template)],
    rule: Rule::None,
};
const QUERY_KEY: Kind = Kind::Name("^[^=&;#%+\\[\\] ]{1,64}$");
static LOG_REDACT: Block = Block {
    name: "log_redact",
    keys: &access_log::REDACT_KEYS,
    rows: &[or("headers", Kind::List(&FIELD, 0, 64), "[]"), or("query", Kind::List(&QUERY_KEY, 0, 64), "[]")],
    rule: Rule::None,
};
static ADMIN: Block = Block {
    name: "admin",
    keys: &observe::ADMIN_KEYS,
    rows: &[or("address", SOCKET, "127.0.0.1:9900"), mostly("mode", MODE, "0660")],
    rule: Rule::None,
};
