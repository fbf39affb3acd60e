//! The rows of filters.

use super::super::filters::{
    KEYS, api_key, basic, compress, cors, ext_auth, fault, ip, jwt, limits, mirror, request_limits, security_headers,
};
use super::document::{HEADERS, NETWORK, ON_UNAVAILABLE};
use super::*;

/// A filter says one thing that it does.
pub(super) static FILTER: Block = Block {
    name: "filter",
    keys: &KEYS,
    rows: &[
        may("request_headers", Kind::Block(&HEADERS)),
        may("security_headers", Kind::Block(&SECURITY_HEADERS)),
        may("compress", Kind::Block(&COMPRESS)),
        may("cors", Kind::Block(&CORS)),
        may("ip", Kind::Block(&IP)),
        may("request_limits", Kind::Block(&REQUEST_LIMITS)),
        may("api_key", Kind::Block(&API_KEY)),
        may("jwt", Kind::Block(&JWT)),
        may("basic", Kind::Block(&BASIC)),
        may("ext_auth", Kind::Block(&EXT_AUTH)),
        may("rate_limit", Kind::Block(&RATE_LIMIT)),
        may("concurrency", Kind::Block(&CONCURRENCY)),
        may("fault", Kind::Block(&FAULT)),
        may("mirror", Kind::Block(&MIRROR)),
    ],
    rule: Rule::Filter,
};

static SECURITY_HEADERS: Block = Block {
    name: "security_headers",
    keys: &security_headers::KEYS,
    rows: &[
        or("override", Kind::Boolean, "false"),
        or("content_type_options", Kind::Words(&security_headers::CONTENT_TYPES), "nosniff"),
        or("frame_options", Kind::Words(&security_headers::FRAMES), "DENY"),
        or("content_security_policy", Kind::Text, "frame-ancestors 'none'"),
        or("referrer_policy", Kind::Words(&security_headers::REFERRERS), "strict-origin-when-cross-origin"),
        or("permissions_policy", Kind::Text, "camera=(), geolocation=(), microphone=()"),
        or("cross_domain_policies", Kind::Words(&security_headers::DOMAINS), "none"),
        or("opener_policy", Kind::Words(&security_headers::OPENERS), "off"),
        or("embedder_policy", Kind::Words(&security_headers::EMBEDDERS), "off"),
        or("resource_policy", Kind::Words(&security_headers::RESOURCES), "off"),
    ],
    rule: Rule::None,
};

const CODING: Kind = Kind::Words(&["zstd", "br", "gzip"]);
const TYPES: Kind = Kind::List(&Kind::Like("^[^/ ;]{1,126}/[^/ ;]{1,126}$"), 1, 100);
const ALL_TYPES: &str = r#"["text/*", "application/json", "application/*+json", "application/x-ndjson", "application/xml", "application/*+xml", "application/javascript", "application/x-javascript", "application/wasm", "image/svg+xml", "image/vnd.microsoft.icon", "font/ttf", "font/otf"]"#;
static COMPRESS: Block = Block {
    name: "compress",
    keys: &compress::KEYS,
    rows: &[
        or("codings", Kind::List(&CODING, 1, 3), r#"["zstd", "br", "gzip"]"#),
        mostly("levels", Kind::Block(&LEVELS), "{}"),
        or("types", TYPES, ALL_TYPES),
        or("min_size", SIZE, "1KiB"),
        or("streams", Kind::Count(1, 100_000), "256"),
        or("accept_encoding", Kind::Words(&["pass", "identity"]), "pass"),
    ],
    rule: Rule::None,
};
/// A level of a coding that is not used must not be written.
static LEVELS: Block = Block {
    name: "levels",
    keys: &compress::LEVEL_KEYS,
    rows: &[
        mostly("gzip", Kind::Count(1, 6), "5"),
        mostly("br", Kind::Count(0, 5), "4"),
        mostly("zstd", Kind::Count(1, 7), "3"),
    ],
    rule: Rule::None,
};

static CORS: Block = Block {
    name: "cors",
    keys: &cors::KEYS,
    rows: &[
        need("origins", Kind::List(&Kind::Text, 1, 10_000)),
        or("methods", Kind::List(&METHOD, 0, 100), r#"["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]"#),
        or("headers", Kind::List(&FIELD, 0, 100), "[]"),
        or("expose_headers", Kind::List(&FIELD, 0, 100), "[]"),
        or("credentials", Kind::Boolean, "false"),
        or("max_age", TIME, "10m"),
        or("private_network", Kind::Boolean, "false"),
    ],
    rule: Rule::None,
};
static IP: Block = Block {
    name: "ip",
    keys: &ip::KEYS,
    rows: &[or("allow", Kind::List(&NETWORK, 0, 200_000), "[]"), or("deny", Kind::List(&NETWORK, 0, 200_000), "[]")],
    rule: Rule::Some(&["allow", "deny"]),
};
static REQUEST_LIMITS: Block = Block {
    name: "request_limits",
    keys: &request_limits::KEYS,
    rows: &[
        may("body", SIZE),
        may("headers", Kind::Count(1, 256)),
        may("header_bytes", SIZE),
        may("methods", METHODS),
        may("content_types", Kind::List(&Kind::Like("^[^/ ;]+/[^/ ;]+$"), 1, 64)),
    ],
    rule: Rule::Some(&["body", "headers", "header_bytes", "methods", "content_types"]),
};
static API_KEY: Block = Block {
    name: "api_key",
    keys: &api_key::KEYS,
    rows: &[
        may("header", FIELD),
        may("query", Kind::Name("^[A-Za-z0-9_.-]{1,128}$")),
        may("keys", Kind::List(&Kind::Block(&KNOWN_KEY), 0, 1_000_000)),
        may("file", FILE),
        or("required_tags", NAMES, "[]"),
        may("principal_header", FIELD),
    ],
    rule: Rule::One(&["keys", "file"]),
};
static KNOWN_KEY: Block = Block {
    name: "known_key",
    keys: &api_key::KEY_KEYS,
    rows: &[need("sha256", Kind::Like("^[0-9A-Fa-f]{64}$")), need("owner", NAME), or("tags", NAMES, "[]")],
    rule: Rule::None,
};
static BASIC: Block = Block {
    name: "basic",
    keys: &basic::KEYS,
    rows: &[
        need("file", FILE),
        or("realm", Kind::Text, "restricted"),
        or("forward", Kind::Boolean, "false"),
        may("principal_header", FIELD),
        or("cache", TIME, "60s"),
    ],
    rule: Rule::None,
};

/// What an answer of the service can depend on: it is told neither of routes nor of listeners.
const ASKED_FACT: Kind = Kind::Like("^(ip|principal|none|(header|cookie|query)\\..+)$");
const ASKED_FIELDS: Kind = Kind::List(&FIELD, 0, 64);
static EXT_AUTH: Block = Block {
    name: "ext_auth",
    keys: &ext_auth::KEYS,
    rows: &[
        need("upstream", NAME),
        need("path", Kind::Like("^/")),
        or("method", METHOD, "GET"),
        or("headers", ASKED_FIELDS, r#"["authorization", "cookie"]"#),
        or("response_headers", ASKED_FIELDS, "[]"),
        or("client_headers", ASKED_FIELDS, "[]"),
        or("refusal_headers", ASKED_FIELDS, REFUSAL_HEADERS),
        or("principal", Kind::Either(&[NONE, FIELD]), "none"),
        or("timeout", TIME, "1s"),
        or("on_failure", Kind::Words(&["deny", "allow"]), "deny"),
        or("max_body", SIZE, "16KiB"),
        may("cache", Kind::Block(&EXT_AUTH_CACHE)),
    ],
    rule: Rule::None,
};
const REFUSAL_HEADERS: &str = r#"["www-authenticate", "location", "set-cookie", "retry-after", "cache-control"]"#;
static EXT_AUTH_CACHE: Block = Block {
    name: "ext_auth_cache",
    keys: &ext_auth::CACHE_KEYS,
    rows: &[
        need("ttl", TIME),
        may("key", Kind::Either(&[ASKED_FACT, Kind::List(&ASKED_FACT, 1, 8)])),
        or("max_entries", Kind::Count(16, 1_000_000), "10000"),
    ],
    rule: Rule::None,
};

const FACT: Kind = Kind::Like("^(ip|route|listener|principal|none|(header|cookie|query|path)\\..+)$");
const COUNTED_BY: Kind = Kind::Either(&[FACT, Kind::List(&FACT, 1, 8)]);
const KEYS_TOLD_APART: Kind = Kind::Count(1, crate::shared::wallet::MOST_KEYS);
static RATE_LIMIT: Block = Block {
    name: "rate_limit",
    keys: &limits::RATE_LIMIT_KEYS,
    rows: &[
        need("rate", Kind::Like("^[0-9]+/[0-9]*(ms|s|m|h|d)$")),
        may("burst", Kind::Count(1, u32::MAX)),
        or("key", COUNTED_BY, "ip"),
        or("headers", Kind::Words(&["draft", "legacy", "off"]), "draft"),
        or("dry_run", Kind::Boolean, "false"),
        or("keys", KEYS_TOLD_APART, "100000"),
        may("shared", Kind::Boolean),
        may("on_unavailable", ON_UNAVAILABLE),
        mostly("reserve", Kind::Boolean, "false"),
        mostly("overdraft", Kind::Either(&[Kind::Words(&["auto"]), Kind::Count(0, 1_000_000)]), "auto"),
        mostly("lease", TIME, "1s"),
    ],
    rule: Rule::None,
};
static CONCURRENCY: Block = Block {
    name: "concurrency",
    keys: &limits::CONCURRENCY_KEYS,
    rows: &[
        need("max", Kind::Count(1, 1_000_000)),
        or("key", COUNTED_BY, "ip"),
        or("queue", Kind::Count(0, 10_000), "0"),
        Row { key: "queue_timeout", kind: TIME, default: Default::With("queue", "500ms") },
        or("dry_run", Kind::Boolean, "false"),
        or("keys", KEYS_TOLD_APART, "100000"),
    ],
    rule: Rule::None,
};

static FAULT: Block = Block {
    name: "fault",
    keys: &fault::KEYS,
    rows: &[
        may("delay", Kind::Block(&DELAY)),
        may("abort", Kind::Block(&ABORT)),
        may("when", FIELDS),
        or("max_delayed", Kind::Count(1, 10_000), "100"),
    ],
    rule: Rule::Some(&["delay", "abort"]),
};
static DELAY: Block = Block {
    name: "delay",
    keys: &fault::DELAY_KEYS,
    rows: &[need("time", TIME), or("percent", SHARE, "100%")],
    rule: Rule::None,
};
static ABORT: Block = Block {
    name: "abort",
    keys: &fault::ABORT_KEYS,
    rows: &[or("status", Kind::Count(400, 599), "503"), or("percent", SHARE, "100%")],
    rule: Rule::None,
};
static MIRROR: Block = Block {
    name: "mirror",
    keys: &mirror::KEYS,
    rows: &[
        need("upstream", NAME),
        or("percent", SHARE, "100%"),
        or("unsafe_methods", Kind::Boolean, "false"),
        or("max_body", SIZE, "8KiB"),
        or("max_in_flight", Kind::Count(1, 10_000), "100"),
        or("timeout", TIME, "5s"),
    ],
    rule: Rule::None,
};

const ALGORITHM: Kind = Kind::Words(&[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
]);
const ALL_ALGORITHMS: &str =
    r#"["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]"#;
const ALGORITHMS: Kind = Kind::Either(&[ALGORITHM, Kind::List(&ALGORITHM, 1, 12)]);
const TEXT_OR_TEXTS: Kind = Kind::Either(&[Kind::Text, TEXTS]);
const PLACE: Kind = Kind::Like("^(header|cookie|query)\\..+$");
static JWT: Block = Block {
    name: "jwt",
    keys: &jwt::KEYS,
    rows: &[
        need("issuer", TEXT_OR_TEXTS),
        need("audience", TEXT_OR_TEXTS),
        may("jwks", Kind::Either(&[Kind::Url, Kind::Block(&JWKS)])),
        may("keys", Kind::List(&Kind::Block(&JWT_KEY), 1, 100)),
        or("algorithms", ALGORITHMS, ALL_ALGORITHMS),
        or("from", Kind::Either(&[PLACE, Kind::List(&PLACE, 1, 4)]), "header.authorization"),
        or("leeway", TIME, "60s"),
        or("expiry", Kind::Words(&["required", "optional"]), "required"),
        or("claims", Kind::Map(&TEXT_OR_TEXTS), "{}"),
        may("scopes", Kind::Block(&SCOPES)),
        or("principal", Kind::Text, "sub"),
        or("claim_headers", Kind::Map(&Kind::Text), "{}"),
        or("forward", Kind::Boolean, "true"),
        or("optional", Kind::Boolean, "false"),
        or("realm", Kind::Text, "api"),
        or("max_token", SIZE, "8KiB"),
    ],
    rule: Rule::Some(&["jwks", "keys"]),
};
static JWKS: Block = Block {
    name: "jwks",
    keys: &jwt::JWKS_KEYS,
    rows: &[
        need("url", Kind::Url),
        mostly("ca", Kind::Either(&[Kind::Words(&["system"]), FILE]), "system"),
        or("refresh_min", TIME, "5m"),
        or("refresh_max", TIME, "1h"),
        or("cooldown", TIME, "30s"),
    ],
    rule: Rule::None,
};
static JWT_KEY: Block = Block {
    name: "jwt_key",
    keys: &jwt::KEY_KEYS,
    rows: &[
        may("kid", Kind::Text),
        may("algorithm", ALGORITHMS),
        may("public_key", FILE),
        may("secret", Kind::Secret),
        may("secret_file", FILE),
    ],
    rule: Rule::One(&["public_key", "secret", "secret_file"]),
};
static SCOPES: Block = Block {
    name: "scopes",
    keys: &jwt::SCOPES_KEYS,
    rows: &[may("any", TEXTS), may("all", TEXTS)],
    rule: Rule::One(&["any", "all"]),
};
