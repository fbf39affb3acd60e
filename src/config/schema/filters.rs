//! The rows of filters.

use super::super::filters::{KEYS, api_key, basic, cors, ip, jwt, limits, request_limits, security_headers};
use super::document::{HEADERS, NETWORK, ON_UNAVAILABLE};
use super::*;

/// A filter says one thing that it does.
pub(super) static FILTER: Block = Block {
    name: "filter",
    keys: &KEYS,
    rows: &[
        may("request_headers", Kind::Block(&HEADERS)),
        may("security_headers", Kind::Block(&SECURITY_HEADERS)),
        may("cors", Kind::Block(&CORS)),
        may("ip", Kind::Block(&IP)),
        may("request_limits", Kind::Block(&REQUEST_LIMITS)),
        may("api_key", Kind::Block(&API_KEY)),
        may("jwt", Kind::Block(&JWT)),
        may("basic", Kind::Block(&BASIC)),
        may("rate_limit", Kind::Block(&RATE_LIMIT)),
        may("concurrency", Kind::Block(&CONCURRENCY)),
    ],
    rule: Rule::Filter,
};

static SECURITY_HEADERS: Block = Block {
    name: "security_headers",
    keys: &security_headers::KEYS,
    rows: &[
        or("override", Kind::Boolean, "false"),
        or("content_type_options", Kind::Words(&["nosniff", "off"]), "nosniff"),
        or("frame_options", Kind::Words(&["DENY", "SAMEORIGIN", "off"]), "DENY"),
        or("content_security_policy", Kind::Text, "frame-ancestors 'none'"),
        or("referrer_policy", REFERRER, "strict-origin-when-cross-origin"),
        or("permissions_policy", Kind::Text, "camera=(), geolocation=(), microphone=()"),
        or("cross_domain_policies", DOMAINS, "none"),
        or("opener_policy", OPENERS, "off"),
        or("embedder_policy", Kind::Words(&["off", "require-corp", "credentialless"]), "off"),
        or("resource_policy", Kind::Words(&["off", "same-origin", "same-site", "cross-origin"]), "off"),
    ],
    rule: Rule::None,
};
const REFERRER: Kind = Kind::Words(&[
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "off",
]);
const DOMAINS: Kind = Kind::Words(&["none", "master-only", "by-content-type", "all", "none-this-response", "off"]);
const OPENERS: Kind = Kind::Words(&["off", "same-origin", "same-origin-allow-popups", "noopener-allow-popups"]);

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
