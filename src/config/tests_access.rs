//! What is wrong with filters that say who may call, and what is right.
#![allow(clippy::unwrap_used)]

use super::filters::Filter;
use super::parse;

/// A config whose one filter `f` says this, used by one route.
fn read(filter: &str) -> Result<Filter, String> {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:80 }}]\nfilters: {{ f: {{ {filter} }} }}\n\
         routes: [{{ match: {{ path: /a }}, filters: [f], respond: {{}} }}]"
    );
    parse("f", &text, &|_| None).map(|config| config.filters[0].filter.clone()).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    for (filter, expected) in cases {
        let error = read(filter).unwrap_err();
        assert!(error.contains(expected), "{filter}: {error}");
        assert_eq!(error.lines().count(), 1, "{filter}: nothing follows from it: {error}");
    }
}

#[test]
fn security_headers_are_words_or_texts_or_off() {
    let Filter::SecurityHeaders(preset) = read("security_headers: {}").unwrap() else { panic!() };
    assert!(!preset.is_override && preset.fields.len() == 6, "{preset:?}");
    let changed =
        "security_headers: { frame_options: SAMEORIGIN, permissions_policy: off, resource_policy: same-site }";
    let Filter::SecurityHeaders(changed) = read(changed).unwrap() else { panic!() };
    assert!(changed.fields.contains(&("X-Frame-Options", "SAMEORIGIN".into())));
    assert!(changed.fields.contains(&("Cross-Origin-Resource-Policy", "same-site".into())));
    assert!(changed.fields.iter().all(|(name, _)| *name != "Permissions-Policy"));
    refused(&[
        (
            "security_headers: { frame_options: deny }",
            "f:2:52: filters.f.security_headers.frame_options: `deny` is not a word",
        ),
        ("security_headers: { content_security_policy: \"a\\nb\" }", "has a character that this field can not have"),
        ("security_headers: { content_security_policy: ' ' }", "is no value of a field"),
        ("security_headers: { framing: off }", "unknown key"),
        (
            "security_headers: { content_type_options: off, frame_options: off, content_security_policy: off, \
             referrer_policy: off, permissions_policy: off, cross_domain_policies: off }",
            "all of its fields are off (remove the filter)",
        ),
    ]);
}

#[test]
fn networks_are_told_once_and_in_one_form() {
    let Filter::Ip(ip) = read("ip: { allow: [10.0.0.0/8, '::1'], deny: [10.0.0.1] }").unwrap() else { panic!() };
    assert_eq!((ip.allow.len(), ip.deny[0].to_string().as_str()), (2, "10.0.0.1/32"));
    refused(&[
        ("ip: {}", "f:2:17: filters.f.ip: names no network (give allow, deny or both)"),
        ("ip: { allow: [] }", "names no network"),
        ("ip: { allow: [10.0.0.1/8] }", "has bits set beyond its prefix (write 10.0.0.0/8"),
        ("ip: { allow: [localhost] }", "is not a network"),
        ("ip: { allow: [10.0.0.0/8], deny: [10.0.0.0/8] }", "filters.f.ip.deny[0]: 10.0.0.0/8 is there twice"),
        ("ip: { deny: ['::ffff:10.0.0.0/104'] }", "is an IPv4 network in another form (write 10.0.0.0/8)"),
        ("ip: { deny: ['::ffff:10.0.0.1'] }", "(write 10.0.0.1/32)"),
    ]);
}

#[test]
fn limits_on_requests_have_bounds_and_methods_bring_head() {
    let keys = "body: 1MiB, headers: 20, methods: [POST, GET], content_types: [Application/JSON, 'image/*']";
    let Filter::RequestLimits(limits) = read(&format!("request_limits: {{ {keys} }}")).unwrap() else { panic!() };
    let methods: Vec<&str> = limits.methods.iter().map(http::Method::as_str).collect();
    assert_eq!((methods, limits.headers), (vec!["GET", "HEAD", "POST"], Some(20)));
    assert!(limits.content_types[0].holds(b"application", b"json") && limits.content_types[1].holds(b"Image", b"x"));
    refused(&[
        ("request_limits: {}", "limits nothing (give one of body, headers,"),
        ("request_limits: { body: 10 }", "it has no unit"),
        ("request_limits: { headers: 0 }", "allowed: 1 to 256"),
        ("request_limits: { methods: [get] }", "methods are in capitals: GET"),
        ("request_limits: { methods: [] }", "has 0 items"),
        ("request_limits: { content_types: [json] }", "`json` is not a media type (like application/json"),
        ("request_limits: { content_types: ['*/*'] }", "is not a media type"),
        ("request_limits: { content_types: [text/html; charset=utf-8] }", "without parameters"),
    ]);
}

#[test]
fn origins_are_written_as_browsers_do_and_credentials_go_with_no_wildcard() {
    let keys = "origins: ['https://App.example.com', 'https://*.example.com:8443', 'null', 'capacitor://localhost']";
    let Filter::Cors(cors) = read(&format!("cors: {{ {keys} }}")).unwrap() else { panic!() };
    assert!(cors.origins.exact.contains("https://app.example.com") && cors.origins.exact.contains("null"));
    assert_eq!(cors.origins.wildcards, [("https://".into(), ".example.com:8443".into())]);
    assert!(cors.headers.is_empty() && !cors.credentials && cors.max_age.get().as_secs() == 600);
    refused(&[
        ("cors: {}", "the key `origins` is missing"),
        ("cors: { origins: [] }", "has 0 items"),
        (
            "cors: { origins: ['https://a.com/'] }",
            "is more than an origin (end it behind host and port, without a slash)",
        ),
        ("cors: { origins: ['https://a.com:443'] }", "has the port that browsers leave out (write https://a.com)"),
        ("cors: { origins: ['https://a.com:x'] }", "has no valid port"),
        ("cors: { origins: ['https://a.com:080'] }", "has no valid port"),
        ("cors: { origins: [a.com] }", "`a.com` is not an origin"),
        ("cors: { origins: ['https://a.*.com'] }", "has a `*` that is not its host's first label"),
        ("cors: { origins: ['https://*'] }", "has a `*`"),
        ("cors: { origins: ['https://a..com'] }", "has no valid host"),
        ("cors: { origins: ['*', 'https://a.com'] }", "is every origin, and others stand beside it"),
        ("cors: { origins: ['*'], credentials: true }", "would let every page on the web act as the user"),
        ("cors: { origins: ['null'], credentials: true }", "any page in a sandboxed frame"),
        (
            "cors: { origins: ['https://a.com'], credentials: true, methods: ['*'] }",
            "stands for nothing where credentials",
        ),
        (
            "cors: { origins: ['https://a.com'], credentials: true, headers: ['*'] }",
            "stands for nothing where credentials",
        ),
        ("cors: { origins: ['https://a.com'], methods: [get] }", "methods are in capitals"),
        ("cors: { origins: ['https://a.com'], headers: ['x y'] }", "is not a field name"),
        ("cors: { origins: ['https://a.com'], max_age: 2d }", "allowed: 0s to 1d"),
    ]);
}

#[test]
fn keys_are_known_by_their_digest_and_never_told() {
    const ONE: &str = "sha256: 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed, owner: acme";
    let keys = format!("api_key: {{ header: X-Api-Key, keys: [{{ {ONE}, tags: [a, b] }}], required_tags: [a] }}");
    let Filter::ApiKey(filter) = read(&keys).unwrap() else { panic!() };
    let super::filters::api_key::Source::Inline(keys) = &filter.source else { panic!() };
    let owner = keys.owner(b"one").unwrap();
    assert_eq!((owner.name.as_str(), owner.tags.len(), filter.header.as_deref()), ("acme", 2, Some("x-api-key")));
    assert!(keys.owner(b"two").is_none() && keys.owner(b"").is_none());
    let empty = "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, owner: x";
    refused(&[
        (&format!("api_key: {{ keys: [{{ {ONE} }}] }}"), "says not where a key comes in (give header, query or both)"),
        ("api_key: { header: x-a }", "knows no key (give keys or file)"),
        (&format!("api_key: {{ header: x-a, file: /x, keys: [{{ {ONE} }}] }}"), "a second place for keys"),
        ("api_key: { header: x-a, file: keys.yaml }", "is not the absolute path of a file"),
        ("api_key: { header: x-a, file: /no/such/file }", "/no/such/file: can not be read"),
        (
            "api_key: { header: x-a, keys: [{ sha256: my-secret-key, owner: x }] }",
            "keys[0].sha256: is not a SHA-256 (64 hex digits",
        ),
        (&format!("api_key: {{ header: x-a, keys: [{{ {empty} }}] }}"), "is the SHA-256 of no key at all"),
        (
            &format!("api_key: {{ header: x-a, keys: [{{ {ONE} }}, {{ {ONE} }}] }}"),
            "keys[1]: is a key that is there before",
        ),
        ("api_key: { header: x-a, keys: [{ owner: x }] }", "the key `sha256` is missing"),
    ]);
    for secret in ["my-secret-key", "\u{e4}"] {
        let error =
            read(&format!("api_key: {{ header: x-a, keys: [{{ sha256: '{secret}', owner: x }}] }}")).unwrap_err();
        assert!(!error.contains(secret), "{error}");
    }
    for (filter, expected) in [
        ("api_key: { header: host, keys: [] }", "can not be changed here"),
        ("api_key: { header: content-length, keys: [] }", "can not be changed"),
        ("api_key: { query: 'a&b', keys: [] }", "is not the name of a query parameter"),
        ("api_key: { header: x-a, keys: [], principal_header: connection }", "can not be changed"),
    ] {
        let error = read(filter).unwrap_err();
        assert!(error.contains(expected), "{filter}: {error}");
    }
}

#[test]
fn a_file_of_users_has_names_and_safe_hashes() {
    let path = std::env::temp_dir().join(format!("ringway-users-{}", std::process::id()));
    let hash = bcrypt::hash("secret", 4).unwrap();
    let said = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read(&format!("basic: {{ file: {} }}", path.display())).map(drop).err().unwrap_or_default()
    };
    assert_eq!(said(&format!("# staff\n\n ann:{hash}\r\nbob:{hash}")), "");
    assert_eq!(said("# nobody\n"), "");
    for (text, expected) in [
        ("", "has no user (add one: `htpasswd -B FILE NAME`"),
        (" \n", "has no user"),
        ("ann", ":1:1: is no user (write name:hash)"),
        (&format!("\nann:{hash}\nann:{hash}"), ":3:1: the user `ann` is there before"),
        (&format!(":{hash}"), ":1:1: the user's name is not a name"),
        (&format!("a b:{hash}"), "the user's name is not a name"),
        (
            "ann:$apr1$abcdefgh$0123456789",
            ":1:1: the user `ann` has a hash of a kind that is not understood, or no longer safe",
        ),
        ("ann:secret-in-plain-text", "a kind that is not understood"),
    ] {
        let error = said(text);
        assert!(error.starts_with("f:2:") && error.contains(expected), "{text}: {error}");
        assert!(!error.contains("secret-in") && !error.contains("0123456789") && !error.contains(&hash), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    refused(&[
        ("basic: {}", "the key `file` is missing"),
        ("basic: { file: users }", "is not the absolute path of a file"),
        ("basic: { file: /no/such/file }", "/no/such/file: can not be read"),
    ]);
    for (filter, expected) in [
        ("basic: { file: /no/such/file, realm: 'a\"b' }", "is not a realm"),
        ("basic: { file: /no/such/file, cache: 1h }", "allowed: 1s to 10m"),
    ] {
        assert!(read(filter).unwrap_err().contains(expected), "{filter}");
    }
}

#[test]
fn compression_has_codings_levels_and_types() {
    use crate::coding::{Coding, Subtype, TypeRange};
    let Filter::Compress(all) = read("compress: {}").unwrap() else { panic!() };
    assert_eq!(all.codings, [(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)]);
    assert_eq!((all.min_size.bytes(), all.streams, all.asks_identity, all.types.len()), (1024, 256, false, 13));
    let keys = "codings: [gzip, br], levels: { br: 0, gzip: 6 }, types: ['Text/*', image/x, 'application/*+JSON'], \
                min_size: 0B, accept_encoding: identity";
    let Filter::Compress(some) = read(&format!("compress: {{ {keys} }}")).unwrap() else { panic!() };
    assert_eq!((some.codings.as_slice(), some.asks_identity), (&[(Coding::Gzip, 6), (Coding::Brotli, 0)][..], true));
    let range = |kind: &str, subtype| TypeRange { kind: kind.into(), subtype };
    let json = Subtype::EndsWith("+json".into());
    assert_eq!(
        some.types,
        [range("text", Subtype::Any), range("image", Subtype::Is("x".into())), range("application", json)]
    );
    refused(&[
        ("compress: { codings: [] }", "has 0 items"),
        (
            "compress: { codings: [gzip, gzip] }",
            "f:2:45: filters.f.compress.codings[1]: `gzip` is listed twice (remove one)",
        ),
        ("compress: { codings: [deflate] }", "`deflate` is not a word that is known here (allowed: zstd, br, gzip)"),
        ("compress: { levels: { gzip: 9 } }", "`9` is out of bounds (allowed: 1 to 6)"),
        ("compress: { levels: { gzip: 0 } }", "`0` is out of bounds"),
        ("compress: { levels: { br: 6 } }", "`6` is out of bounds (allowed: 0 to 5)"),
        ("compress: { levels: { zstd: 8 } }", "`8` is out of bounds"),
        ("compress: { levels: { deflate: 1 } }", "unknown key"),
        (
            "compress: { codings: [br], levels: { gzip: 1 } }",
            "filters.f.compress.levels.gzip: this coding is not among `codings` (add it there, or remove its level)",
        ),
        ("compress: { types: [] }", "has 0 items"),
        ("compress: { types: [json] }", "`json` is not a media type (like application/json, text/*"),
        ("compress: { types: ['*/*'] }", "is not a media type"),
        ("compress: { types: ['text/*html'] }", "is not a media type"),
        ("compress: { types: ['text/*+'] }", "is not a media type"),
        ("compress: { types: ['text/html; charset=utf-8'] }", "is not a media type"),
        ("compress: { min_size: 2GiB }", "allowed"),
        ("compress: { streams: 0 }", "allowed: 1 to 100000"),
        ("compress: { accept_encoding: gzip }", "allowed: pass, identity"),
    ]);
}
