//! Whole documents: the files in `config/`, every refused key, and mutations that must never panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::access_log::{AccessLog, LogTarget};
use super::balance::Balance;
use super::listeners::{Bounds, HalfClose, Paths};
use super::rewrite::{HostRewrite, PathRewrite, Rewrite};
use super::routes::Action;
use super::split::Target;
use super::upstreams::Pool;
use super::*;
use crate::plugin::Registry;

const GATEWAY: &str = include_str!("../../config/gateway.yaml");
const EXAMPLES: [(&str, &str); 17] = [
    ("demo", include_str!("../../config/demo.yaml")),
    ("minimal", include_str!("../../config/examples/minimal.yaml")),
    ("hosts-and-methods", include_str!("../../config/examples/hosts-and-methods.yaml")),
    ("matching", include_str!("../../config/examples/matching.yaml")),
    ("rewrite-and-headers", include_str!("../../config/examples/rewrite-and-headers.yaml")),
    ("rewrite-answers", include_str!("../../config/examples/rewrite-answers.yaml")),
    ("weights", include_str!("../../config/examples/weights.yaml")),
    ("sticky", include_str!("../../config/examples/sticky.yaml")),
    ("redirect-and-respond", include_str!("../../config/examples/redirect-and-respond.yaml")),
    ("aggregate", include_str!("../../config/examples/aggregate.yaml")),
    ("behind-a-proxy", include_str!("../../config/examples/behind-a-proxy.yaml")),
    ("sockets", include_str!("../../config/examples/sockets.yaml")),
    ("tls", include_str!("../../config/examples/tls.yaml")),
    ("jwt", include_str!("../../config/examples/jwt.yaml")),
    ("ext-auth", include_str!("../../config/examples/ext-auth.yaml")),
    ("faults-and-mirrors", include_str!("../../config/examples/faults-and-mirrors.yaml")),
    ("mtls", include_str!("../../config/examples/mtls.yaml")),
];

pub(super) fn read(text: &str) -> Result<Config, String> {
    parse("f", text, &|_| None).map_err(|errors| errors.to_string())
}

/// Certificates under the names that examples use.
pub(super) struct Files {
    pub(super) dir: String,
}

impl Files {
    /// In a directory of this test's own.
    pub(super) fn make(test: &str) -> Self {
        use rcgen::{CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair};
        let dir = std::env::temp_dir().join(format!("ringway-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["site.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().pem();
        for name in ["site", "api", "clients", "internal", "gw"] {
            std::fs::write(dir.join(name).with_extension("pem"), &cert).unwrap();
            std::fs::write(dir.join(name).with_extension("key"), key.serialize_pem()).unwrap();
        }
        std::fs::write(dir.join("ticket.key"), [7; 80]).unwrap();
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::new(params, key);
        std::fs::write(dir.join("clients.crl"), list.signed_by(&issuer).unwrap().pem().unwrap()).unwrap();
        Self { dir: dir.display().to_string() }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The errors of a document that consists of `text` and a listener.
fn errors(text: &str) -> String {
    read(&format!("{text}\nlisteners: [{{ address: 127.0.0.1:80 }}]\n")).expect_err(text)
}

/// The errors of a route with these keys.
fn route_errors(keys: &str) -> String {
    errors(&format!("upstreams: {{ users: {{ endpoints: [a:1] }} }}\nroutes: [{{ {keys} }}]"))
}

#[test]
fn gateway_yaml_shows_the_defaults() {
    let shown = read(GATEWAY).unwrap();
    let minimal = read(EXAMPLES[1].1).unwrap();
    assert_eq!((&shown.workers, shown.drain), (&minimal.workers, minimal.drain));
    assert_eq!(shown.trusted_proxies, minimal.trusted_proxies);
    assert_eq!((&shown.observe, &shown.admin), (&minimal.observe, &minimal.admin));
    assert_eq!((shown.observe.access_log.clone(), shown.admin), (AccessLog::default(), Some(Admin::default())));

    let (shown_listener, listener) = (&shown.listeners[0], &minimal.listeners[0]);
    assert_eq!((&shown_listener.name.value, &shown_listener.address), (&listener.name.value, &listener.address));
    assert_eq!((&shown_listener.bounds, &listener.bounds), (&Bounds::default(), &Bounds::default()));
    let timeouts = listeners::Timeouts::default();
    assert_eq!((&shown_listener.timeouts, &listener.timeouts), (&timeouts, &timeouts));
    assert_eq!((&shown_listener.paths, &listener.paths), (&Paths::default(), &Paths::default()));
    let rest = |l: &Listener| (l.max_requests, l.max_age, l.half_close, l.filters.clone());
    assert_eq!(rest(shown_listener), rest(listener));
    assert_eq!(rest(listener), (Some(10_000), None, HalfClose::Gone, vec![]));

    let (shown_upstream, upstream) = (&shown.upstreams[0], &minimal.upstreams[0]);
    assert_eq!(shown_upstream.endpoints[0], upstream.endpoints[0]);
    assert_eq!((&shown_upstream.balance, &upstream.balance), (&Balance::P2c, &Balance::P2c));
    assert_eq!((&shown_upstream.pool, &upstream.pool), (&Pool::default(), &Pool::default()));
    let timeouts = upstreams::Timeouts::default();
    assert_eq!((&shown_upstream.timeouts, &upstream.timeouts), (&timeouts, &timeouts));

    let (shown_route, route) = (&shown.routes[0], &minimal.routes[0]);
    assert_eq!(shown_route.name.value, route.name.value);
    assert_eq!((shown_route.timeout, shown_route.body_limit), (route.timeout, route.body_limit));
    assert_eq!((&shown_route.filters, &shown_route.without), (&route.filters, &route.without));
    assert_eq!((&shown_route.matches.host, &shown_route.matches.methods), (&None, &vec![]));
    let (Action::Forward(shown_forward), Action::Forward(forward)) = (&shown_route.action, &route.action) else {
        panic!("both forward");
    };
    assert_eq!(shown_forward.target, forward.target);
    assert_eq!((&shown_forward.rewrite, &forward.rewrite), (&Rewrite::default(), &Rewrite::default()));
    assert!(shown_forward.request_headers.is_empty() && shown_forward.response_headers.is_empty());

    let action = |text: &str| {
        read(&format!("listeners: [{{ address: '0.0.0.0:1' }}]\n{text}")).unwrap().routes[0].action.clone()
    };
    assert_eq!(shown.routes[1].action, action("routes: [{ match: { path: / }, respond: {} }]"));
    let Action::Redirect(to) = action("routes: [{ match: { path: / }, redirect: { to: / } }]") else { panic!() };
    assert!(matches!(&shown.routes[2].action, Action::Redirect(shown) if shown.status == to.status));
    assert_eq!((shown.aggregation, minimal.aggregation), (Default::default(), Default::default()));
}

#[test]
fn gateway_yaml_names_every_key() {
    let blocks = [
        &KEYS,
        &ALL_ROUTES_KEYS,
        &listeners::KEYS,
        &listeners::BOUNDS_KEYS,
        &listeners::TIMEOUTS_KEYS,
        &listeners::PATHS_KEYS,
        &tls::LISTENER_KEYS,
        &tls::CERTIFICATE_KEYS,
        &tls::CLIENT_KEYS,
        &tls::HSTS_KEYS,
        &tls::UPSTREAM_KEYS,
        &tls::UPSTREAM_CLIENT_KEYS,
        &filters::jwt::KEYS,
        &filters::jwt::JWKS_KEYS,
        &filters::jwt::KEY_KEYS,
        &filters::jwt::SCOPES_KEYS,
        &upstreams::KEYS,
        &upstreams::ENDPOINT_KEYS,
        &upstreams::POOL_KEYS,
        &upstreams::TIMEOUTS_KEYS,
        &filters::KEYS,
        &filters::security_headers::KEYS,
        &filters::cors::KEYS,
        &filters::ext_auth::KEYS,
        &filters::ext_auth::CACHE_KEYS,
        &filters::fault::KEYS,
        &filters::fault::DELAY_KEYS,
        &filters::fault::ABORT_KEYS,
        &filters::mirror::KEYS,
        &filters::compress::KEYS,
        &filters::compress::LEVEL_KEYS,
        &filters::api_key::KEYS,
        &filters::basic::KEYS,
        &filters::api_key::KEY_KEYS,
        &filters::ip::KEYS,
        &filters::request_limits::KEYS,
        &headers::EDIT_KEYS,
        &routes::KEYS,
        &matching::KEYS,
        &forward::KEYS,
        &aggregate::decode::KEYS,
        &aggregate::decode::LIMITS_KEYS,
        &aggregate::decode::MEMORY_KEYS,
        &aggregate::part::KEYS,
        &aggregate::part::FALLBACK_KEYS,
        &aggregate::part::FOR_EACH_KEYS,
        &aggregate::part::SHADOW_KEYS,
        &aggregate::request::KEYS,
        &routes::RESPOND_KEYS,
        &routes::REDIRECT_KEYS,
        &rewrite::KEYS,
        &predicates::PREDICATE_KEYS,
        &split::STICKY_KEYS,
        &rewrite::REGEX_KEYS,
        &query::KEYS,
        &errors::KEYS,
        &errors::BODY_KEYS,
        &cookies::KEYS,
        &rate_limits::KEYS,
        &rate_limits::REDIS_KEYS,
        &observe::OBSERVE_KEYS,
        &access_log::KEYS,
        &access_log::FORMAT_KEYS,
        &access_log::REDACT_KEYS,
        &observe::ADMIN_KEYS,
    ];
    for key in blocks.iter().flat_map(|keys| keys.known) {
        let named = GATEWAY.match_indices(&format!("{key}:")).any(|(at, _)| GATEWAY[..at].ends_with([' ', '\n']));
        assert!(named, "{key} is not in config/gateway.yaml");
    }
}

#[test]
fn a_redirect_to_https_leads_to_another_port() {
    let listener = |keys: &str| read(&format!("listeners: [{{ address: 127.0.0.1:80, {keys} }}]"));
    assert_eq!(listener("https_redirect: 443").unwrap().listeners[0].https_redirect, Some(443));
    let circle = listener("https_redirect: 80").unwrap_err();
    assert!(circle.starts_with("f:1:54: listeners[0].https_redirect: ") && circle.contains("in circles"), "{circle}");
}

#[test]
fn the_files_of_config_load() {
    let files = Files::make("examples");
    for (name, text) in EXAMPLES {
        assert!(text.starts_with("# "), "{name} says what it shows");
        read(&text.replace("/etc/ringway", &files.dir)).unwrap_or_else(|errors| panic!("{name}: {errors}"));
    }
    let demo = read(EXAMPLES[0].1).unwrap();
    let ports: Vec<_> = demo.upstreams.iter().map(|u| u.endpoints[0].address.to_string()).collect();
    assert_eq!(ports, ["127.0.0.1:9101", "127.0.0.1:9102", "127.0.0.1:9103"]);
}

#[test]
fn every_error_is_told_at_once_in_order() {
    let text = "\
listeners:
  - address: 10.0.0.1
    bounds: { head: 1KiB, target: 8KiB }
upstreams:
  users: { endpoints: [http://a:1], balance: p3c }
routes:
  - match: { path: user, methods: [get] }
    forward: { upstream: usrs, request_headers: { set: { Content-Length: '1' } } }
  - match: { path: /x }
    filters: [who]
    forward: { upstream: usrs }
admin: 127.0.0.1:9900
";
    let expected = "\
f:2:14: listeners[0].address: `10.0.0.1` is not an address: it has no port (write ip:port, like 0.0.0.0:8080 or \"[::]:8080\")
f:3:35: listeners[0].bounds.target: target (8KiB) is larger than head (1KiB), which contains it (raise head or lower target)
f:5:24: upstreams.users.endpoints[0]: `http://a:1` is not an address but a URL (write host:port, without scheme and path)
f:5:46: upstreams.users.balance: `p3c` is not a word that is known here (did you mean `p2c`?)
f:7:20: routes[0].match.path: `user` does not begin with `/` (a path is matched from its start, like /user/{id})
f:7:36: routes[0].match.methods[0]: `get` is not a method (methods are in capitals: GET)
f:8:26: routes[0].forward.upstream: unknown upstream `usrs` (did you mean `users`?)
f:8:58: routes[0].forward.request_headers.set.Content-Length: `Content-Length` can not be changed: the gateway itself writes content-length (remove it)
f:10:15: routes[1].filters[0]: unknown filter `who` (define it under filters)
f:11:26: routes[1].forward.upstream: unknown upstream `usrs` (did you mean `users`?)
f:12:8: admin: `127.0.0.1:9900` is not a word that is known here (allowed: off)";
    assert_eq!(read(text).unwrap_err(), expected);
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    let listener = |keys: &str| read(&format!("listeners: [{{ address: 127.0.0.1:80, {keys} }}]")).unwrap_err();
    let upstream = |keys: &str| errors(&format!("upstreams: {{ u: {{ endpoints: [a:1], {keys} }} }}"));
    let refused = [
        listener("protocols: [h2]"),
        upstream("budget: {}"),
        upstream("health: {}"),
        upstream("eject: {}"),
        upstream("breaker: {}"),
        upstream("retry: {}"),
        route_errors("match: { path: / }, forward: { upstream: users, retry: {} }"),
        errors("source: {}"),
        errors("observe: { tracing: {} }"),
    ];
    for error in refused {
        assert!(error.contains("is not part of this version yet (it comes with "), "{error}");
        assert_eq!(error.lines().count(), 1, "nothing follows from it: {error}");
    }
}

#[test]
fn a_route_is_one_match_and_one_action() {
    for (keys, expected) in [
        ("respond: {}", "the key `match` is missing"),
        ("match: { path: / }", "has no action"),
        ("match: { path: / }, respond: {}, redirect: { to: / }", "a second action"),
        ("match: { path: / }, forward: {}", "the key `upstream` is missing"),
        ("match: { path: / }, respond: { status: 101 }", "allowed: 200 to 599"),
        ("match: { path: / }, respond: { status: 204, body: x }", "has no body"),
        ("match: { path: / }, redirect: { to: 'javascript:x' }", "does not begin"),
        ("match: { path: / }, redirect: { to: /, status: 200 }", "allowed: 301"),
        ("match: { path: /, host: 'a:80' }, respond: {}", "no scheme and no port here"),
        ("match: { path: '/a/../b' }, respond: {}", "segment"),
        ("match: { path: /, methods: [CONNECT] }, respond: {}", "use `forward`"),
        ("match: { path: / }, respond: {}, timeout: 2d", "allowed: 10ms to 1d"),
        ("match: { path: / }, respond: {}, filters: [a], without: [a]", "both filters and without"),
        ("match: { path: /user }, forward: { upstream: users, rewrite: { strip_prefix: /us } }", "no path of"),
        ("match: { path: /u }, forward: { upstream: users, rewrite: { add_prefix: /a/ } }", "does not end with it"),
        ("match: { path: /u }, forward: { upstream: users, rewrite: { path: /, add_prefix: /a } }", "whole path"),
        ("match: { path: /u }, forward: { upstream: users, rewrite: { host: 'a b' } }", "is not a label"),
        (
            "match: { path: /a }, respond: {} }, { match: { path: /a }, respond: {}",
            "same pattern as an earlier route's",
        ),
        (
            "name: /b, match: { path: /a }, respond: {} }, { match: { path: /b }, respond: {}",
            "already exists on line 2",
        ),
    ] {
        let errors = route_errors(keys);
        assert!(errors.contains(expected), "{keys}: {errors}");
    }
}

#[test]
fn what_is_written_arrives() {
    let config = parse(
        "f",
        "\
workers: [0, 2]
listeners: [{ name: in, address: \"[::1]:0\", max_requests: none, paths: { encoded_slashes: keep }, filters: [mark] }]
upstreams: { users: { endpoints: [\"users:${PORT}\"] } }
filters: { mark: { request_headers: { remove: [x-a] } } }
routes:
  - match: { host: '*.Example.com', path: '/u/{id}', methods: [POST, GET, GET] }
    body_limit: 1MiB
    forward: { upstream: users, rewrite: { strip_prefix: /u, host: Pass.example:81 } }
observe: { access_log: { to: /var/log/x.log } }
admin: off
",
        &|name| (name == "PORT").then(|| "9000".to_owned()),
    )
    .unwrap();
    assert_eq!((config.workers, config.admin), (Workers::Cpus(vec![0, 2]), None));
    assert_eq!(config.listeners[0].max_requests, None);
    assert_eq!(config.upstreams[0].endpoints[0].address.to_string(), "users:9000");
    assert_eq!(config.observe.access_log.to, LogTarget::File("/var/log/x.log".into()));
    let route = &config.routes[0];
    assert_eq!(route.name.value, "GET,POST *.example.com/u/{id}");
    let Action::Forward(forward) = &route.action else { panic!() };
    let Target::Upstream(upstream) = &forward.target else { panic!() };
    let at = &upstream.at;
    assert_eq!((at.line, at.column, at.key_path.as_str()), (8, 26, "routes[0].forward.upstream"));
    assert!(matches!(&forward.rewrite.path, PathRewrite::Prefix { strip: Some(p), add: None } if p.value == "/u"));
    assert_eq!(forward.rewrite.host, HostRewrite::Literal("pass.example:81".to_owned()));
}

#[test]
fn documents_that_lack_or_repeat_something() {
    assert_eq!(
        read("").unwrap_err(),
        "f:1:1: the file is empty (ten lines are enough: see config/examples/minimal.yaml)"
    );
    assert!(read("drain: 1s").unwrap_err().contains("`listeners` is missing"));
    assert!(read("listeners: []").unwrap_err().contains("has 0 items"));
    assert!(read("listeners: [{ address: '1.1.1.1:1', name: a }, { address: '1.1.1.1:2', name: a }]").is_err());
    assert!(read("listeners: [{ address: '1.1.1.1:1', name: a }, { address: '1.1.1.1:1', name: b }]").is_err());
    assert!(read("listeners: [{ address: '1.1.1.1:0', name: a }, { address: '1.1.1.1:0', name: b }]").is_ok());
    assert!(read("listeners: [{ address: '127.0.0.1:9900' }]").unwrap_err().contains("both use 127.0.0.1:9900"));
    assert!(read("listeners: [{ address: '0.0.0.0:9900' }]").unwrap_err().contains("f:1:24: listeners[0].address: "));
    let shared = "listeners: [{ address: '127.0.0.1:80' }, { address: '[::1]:81' }]\nadmin: { address: '0.0.0.0:80' }";
    assert!(
        read(shared).unwrap_err().contains("f:2:1: admin: 0.0.0.0:80 of the admin API and 127.0.0.1:80 of a listener")
    );
    assert!(read(&shared.replace("0.0.0.0:80", "0.0.0.0:81")).is_ok(), "IPv4 and IPv6 are told apart");
    let both = read("listeners: [{ address: '127.0.0.1:80' }, { address: '0.0.0.0:80' }]").unwrap_err();
    assert!(both.contains("0.0.0.0:80 and 127.0.0.1:80 of another listener overlap"), "{both}");
    assert!(errors("workers: 0").contains("allowed: 1 to 1024"));
    assert!(errors("workers: [1, 1]").contains("listed twice"));
    assert!(errors("trusted_proxies: [10.0.0.1/8]").contains("write 10.0.0.0/8"));
    assert!(errors("upstreams: { u: { endpoints: [a:1, A:1] } }").contains("listed twice"));
    assert!(errors("upstreams: { 'a b': { endpoints: [a:1] } }").contains("is not a name"));
    assert!(errors("filters: { f: {} }").contains("says nothing"));
    assert!(
        load(Path::new("/nonexistent/x.yaml"), &Registry::default())
            .unwrap_err()
            .to_string()
            .contains("x.yaml: can not be read")
    );
}

#[test]
fn no_mutation_of_a_file_panics() {
    // splitmix64: the same mutations in every run.
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below.max(1) as u64).unwrap()
    };
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        "- ",
        "\n",
        "\t",
        "'",
        "\"",
        "#",
        "&a ",
        "*a",
        "!t ",
        "|\n",
        ">\n",
        "${",
        "${X}",
        "$",
        "%",
        "---\n",
        "...\n",
        "? ",
        "<<: ",
        "\0",
        "\u{feff}",
        "é",
        "\r",
        "none",
        "-1",
        "99999999999999999999s",
        "~",
    ];
    for _ in 0..400 {
        let mut text: Vec<char> = GATEWAY.chars().collect();
        for _ in 0..=random(4) {
            let (at, length) = (random(text.len()), random(30));
            let end = (at + length).min(text.len());
            match random(4) {
                0 => drop(text.drain(at..end)),
                1 => drop(text.splice(at..at, pieces[random(pieces.len())].chars())),
                2 => text[at] = char::from(u8::try_from(random(128)).unwrap()),
                _ => {
                    let moved: Vec<char> = text[at..end].to_vec();
                    let to = random(text.len());
                    drop(text.splice(to..to, moved));
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse("f", &text, &|_| None) {
            assert!(errors.iter().count() > 0 && !errors.to_string().contains('\0'));
        }
    }
}
