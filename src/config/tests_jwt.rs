//! What is wrong with `jwt`, and what is right. Secrets are in no error.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::filters::Filter;
use super::filters::jwt::{Jwt, Place};
use super::parse;
use crate::jwt::rules::{Scopes, Wanted};
use crate::value::{ByteSize, Duration};

const SECRET: &str = "correct horse battery staple, and more";

/// The filter of a config that says this of it. The variables are SECRET, and SHORT.
fn read(keys: &str) -> Result<Jwt, String> {
    let text = format!("listeners: [{{ address: 127.0.0.1:80 }}]\nfilters: {{ f: {{ jwt: {{ {keys} }} }} }}");
    let env = |name: &str| match name {
        "SECRET" => Some(SECRET.to_owned()),
        "SHORT" => Some("hunter2".to_owned()),
        _ => None,
    };
    let config = parse("f", &text, &env).map_err(|e| e.to_string())?;
    match &config.filters[0].filter {
        Filter::Jwt(jwt) => Ok(Jwt::clone(jwt)),
        other => panic!("{other:?}"),
    }
}

/// With issuer, audience and a key.
fn with(keys: &str) -> Result<Jwt, String> {
    read(&format!("issuer: i, audience: a, jwks: \"http://h/k\", {keys}"))
}

fn file(name: &str, content: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("ringway-jwt-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn issuer_audience_and_keys_are_enough() {
    let jwt = read("issuer: i, audience: [a, b], jwks: \"http://h:1/k\"").unwrap();
    assert_eq!((&jwt.rules.issuers, &jwt.rules.audiences), (&vec!["i".to_owned()], &vec!["a".into(), "b".into()]));
    assert_eq!((jwt.rules.leeway_s, jwt.rules.expiry_required, jwt.rules.scopes), (60.0, true, Scopes::None));
    assert_eq!((jwt.rules.principal.as_deref(), jwt.from), (Some("sub"), vec![Place::Header("authorization".into())]));
    assert_eq!((jwt.forward, jwt.optional, jwt.token_max), (true, false, ByteSize::from_kib(8)));
    let jwks = jwt.jwks.unwrap();
    assert_eq!((jwks.refresh_min, jwks.refresh_max), (Duration::from_secs(300), Duration::from_secs(3600)));
    assert_eq!((jwks.cooldown, jwks.tls), (Duration::from_secs(30), None));
    let any = read("issuer: any, audience: any, keys: [{ secret: \"${SECRET}\" }]").unwrap();
    assert!(any.rules.issuers.is_empty() && any.rules.audiences.is_empty() && any.jwks.is_none());
    assert_eq!(any.keys[0].algorithms().names().collect::<Vec<_>>(), ["HS256"]);
    assert!(!format!("{any:?}").contains("horse"), "{any:?}");
    let more = with(
        "claims: { a: present, b: [x, 1] }, scopes: { any: [r] }, principal: none, claim_headers: { X-A: b }, \
         from: [header.X-Token, cookie.t, query.q]",
    )
    .unwrap();
    let wanted = [("a".to_owned(), Wanted::Present), ("b".to_owned(), Wanted::OneOf(vec!["x".into(), "1".into()]))];
    assert_eq!((more.rules.claims, more.rules.scopes), (wanted.to_vec(), Scopes::Any(vec!["r".into()])));
    assert_eq!(
        (more.rules.principal, more.headers, more.rules.taken),
        (None, vec!["X-A".to_owned()], vec!["b".into()])
    );
    assert_eq!(more.from, [Place::Header("x-token".into()), Place::Cookie("t".into()), Place::Query("q".into())]);
}

#[test]
fn keys_are_read_from_their_files() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = file("public.pem", &pair.public_key_pem());
    let private = file("private.pem", &pair.serialize_pem());
    let secret = file("secret", &format!("{SECRET}\n"));
    let key = |key: String| read(&format!("issuer: i, audience: a, keys: [{key}]"));
    let names = |jwt: &Jwt| jwt.keys[0].algorithms().names().collect::<Vec<_>>().join(" ");
    let jwt = key(format!("{{ kid: k, public_key: {} }}", public.display())).unwrap();
    assert_eq!((jwt.keys[0].kid(), names(&jwt).as_str()), (Some("k"), "ES256"));
    let by_file = key(format!("{{ secret_file: {} }}", secret.display())).unwrap();
    assert_eq!(by_file.secret_files, std::slice::from_ref(&secret));
    assert_eq!(by_file.keys, key("{ secret: \"${SECRET}\" }".into()).unwrap().keys, "without its line end");
    for (text, expected) in [
        (
            format!("{{ public_key: {}, algorithm: HS256 }}", public.display()),
            "is not for this algorithm (it is for ES256)",
        ),
        (format!("{{ public_key: {} }}", private.display()), "holds a private key"),
        (format!("{{ public_key: {} }}", secret.display()), "holds no public key in PEM"),
        ("{ public_key: key.pem }".into(), "is not the absolute path of a file"),
        ("{ public_key: /nowhere/key.pem }".into(), "can not be read"),
        (format!("{{ secret_file: {}, algorithm: HS512 }}", secret.display()), "is a secret of 38 bytes (at least 64"),
        (format!("{{ secret_file: {}, algorithm: RS256 }}", secret.display()), "one of HS256, HS384 and HS512"),
        (
            "{ secret: \"${SHORT}\" }".into(),
            "f:2:65: filters.f.jwt.keys[0].secret: is a secret of 7 bytes (at least 32",
        ),
        (format!("{{ secret: {SECRET:?} }}"), "a secret does not stand in the config (write secret: \"${NAME}\""),
        ("{ secret: \"${SECRET}\", public_key: /a }".into(), "exactly one of public_key, secret and secret_file"),
        ("{ kid: a }".into(), "exactly one of public_key, secret and secret_file"),
        ("{ secret: \"${SECRET}\", algorithm: none }".into(), "`none` is not a word that is known here"),
        ("{ secret: \"${SECRET}\", algorithm: [] }".into(), "has 0 items"),
    ] {
        let error = key(text.clone()).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{text}: nothing follows from it: {error}");
        assert!(!error.contains("horse") && !error.contains("hunter2"), "{error}");
    }
    let unlisted = read("issuer: i, audience: a, algorithms: ES256, keys: [{ secret: \"${SECRET}\" }]").unwrap_err();
    assert!(unlisted.contains("is for HS256, which `algorithms` does not list"), "{unlisted}");
}

#[test]
fn what_is_wrong_is_refused_with_its_remedy() {
    for (keys, expected) in [
        ("audience: a, jwks: \"http://h/k\"", "f:2:17: filters.f.jwt: the key `issuer` is missing"),
        ("issuer: a, jwks: \"http://h/k\"", "the key `audience` is missing"),
        ("issuer: i, audience: a", "has no keys to check tokens with (give keys, or jwks"),
        ("issuer: [], audience: a, jwks: \"http://h/k\"", "has 0 items"),
        ("issuer: [i, i], audience: a, jwks: \"http://h/k\"", "is listed twice"),
        ("issuer: i, audience: a, jwks: h/k", "is not a URL (write it whole, like https://"),
        ("issuer: i, audience: a, jwks: \"ftp://h/k\"", "is not a URL with http or https"),
        ("issuer: i, audience: a, jwks: \"http://u:p@h/k\"", "has a user name in it"),
        ("issuer: i, audience: a, jwks: \"http://h:99999/k\"", "has a port that is none (one of 1 to 65535)"),
        ("issuer: i, audience: a, jwks: { ca: system }", "the key `url` is missing"),
        ("issuer: i, audience: a, jwks: { url: \"http://h/k\", ca: system }", "there is no TLS with an http URL"),
        ("issuer: i, audience: a, jwks: { url: \"https://h/k\", ca: /nowhere }", "can not be read"),
        (
            "issuer: i, audience: a, jwks: { url: \"http://h/k\", refresh_min: 2h }",
            "2h is more than refresh_max, which is 1h",
        ),
        ("issuer: i, audience: a, jwks: { url: \"http://h/k\", cooldown: 0s }", "allowed: 1s to 1d"),
        (
            "issuer: i, audience: a, algorithms: [HS256], jwks: \"http://h/k\"",
            "lists none that a fetched key can be for",
        ),
    ] {
        let error = read(keys).unwrap_err();
        assert!(error.contains(expected), "{keys}: {error}");
        assert_eq!(error.lines().count(), 1, "{keys}: nothing follows from it: {error}");
    }
    for (keys, expected) in [
        ("algorithms: [RS256, none]", "`none` is not a word that is known here"),
        ("leeway: 1h", "allowed: 0s to 10m"),
        ("expiry: maybe", "allowed: required, optional"),
        ("from: body.token", "is no place of a token (write header.NAME, cookie.NAME, query.NAME"),
        ("from: header.", "is no place of a token"),
        ("from: query.a=b", "is no place of a token"),
        ("scopes: [a]", "must be a mapping of keys, not a list"),
        ("scopes: { any: [a], all: [b] }", "exactly one of any and all"),
        ("scopes: { any: [\"a b\"] }", "is not a scope"),
        ("claims: { a: {} }", "must be text, not a mapping"),
        ("claim_headers: { Host: sub }", "can not be changed here"),
        ("claim_headers: { Content-Length: sub }", "can not be changed"),
        ("claim_headers: { x: sub, X: sub }", "is given twice"),
        ("claim_headers: { Authorization: sub }", "`Authorization` is where the token is"),
        ("from: header.x_token, claim_headers: { X-Token: sub }", "`X-Token` is where the token is"),
        ("from: cookie.t, claim_headers: { Cookie: sub }", "`Cookie` is where the token is"),
        ("realm: 'a\"b'", "is not a realm"),
        ("max_token: 1MiB", "allowed: 64B to 64KiB"),
        ("isuer: x", "did you mean `issuer`?"),
    ] {
        let error = with(keys).unwrap_err();
        assert!(error.contains(expected), "{keys}: {error}");
        assert_eq!(error.lines().count(), 1, "{keys}: nothing follows from it: {error}");
    }
}
