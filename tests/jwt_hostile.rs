//! Tokens that are meant to deceive: each gets its 4xx, none reaches the upstream, and nothing of any of them is in an
//! answer, a log or a metric. PyJWT, asked for the same key and algorithm, must not accept any either.

use crate::support::issuer::{claims, crafted, es256, key_set, now, pem, pem_file, token, verdict};
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, eventually};
use serde_json::json;

fn gateway(upstream: &Upstream, listener: &str) -> Gateway {
    let keys = [("p256", "ES256"), ("rsa", "RS256")]
        .map(|(key, alg)| format!("{{ kid: {key}, algorithm: {alg}, public_key: {} }}", pem_file(key).display()));
    let filter = format!("who: {{ jwt: {{ issuer: https://id.test, audience: api, keys: [{}] }} }}", keys.join(", "));
    Setup::new()
        .upstream("u", &[upstream], "")
        .listener(listener)
        .top(&format!("filters: {{ {filter} }}"))
        .forward_all("filters: [who]")
        .start()
}

fn bearer(token: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Pieces of a token that would be recognised anywhere.
fn pieces(token: &str) -> impl Iterator<Item = &str> {
    token.split(['.', ' ']).filter(|piece| piece.len() >= 8).map(|piece| piece.get(..24).unwrap_or(piece))
}

#[test]
fn each_gets_its_401_and_leaves_no_trace() {
    let upstream = Upstream::start(answers(ok("hello")));
    let gateway = gateway(&upstream, "bounds: { head: 256KiB }");
    let payload = claims(json!({})).to_string();
    let (good, rsa) = (es256(json!({})), token("rsa", "RS256", json!({"kid": "rsa"}), &claims(json!({"sub": "eve"}))));
    let [header, body, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let with_header = |header: &str| crafted("p256", "ES256", header, &payload);
    let hmac = |key: &str, alg: &str, header: &str| crafted(key, alg, header, &payload);
    let secret = pem("rsa");
    let long = "k".repeat(5000);
    let mut hostile: Vec<(String, &str)> = vec![
        // No token at all.
        ("x".into(), "malformed"),
        ("..".into(), "malformed"),
        (good.replace('.', ""), "malformed"),
        (format!("{header}.{body}"), "malformed"),
        (format!("{good}.{signature}"), "malformed"),
        (format!("{header}..{signature}"), "signature"),
        (format!("{good}="), "malformed"),
        (format!("{good},{good}"), "malformed"),
        (format!("{header} .{body}.{signature}"), "malformed"),
        (format!("{header}.{body}\t.{signature}"), "malformed"),
        (format!("{}\u{e9}{good}", '\u{202e}'), "malformed"),
        (format!("{header}.{body}.{}", &signature[..40]), "signature"),
        (format!("{header}.{body}."), "signature"),
        (format!("{good}{}", "A".repeat(100_000)), "too long"),
        ("a.".repeat(50_000), "too long"),
        ("A".repeat(100_000), "too long"),
        // Another payload, another header, another key.
        (format!("{header}.{}.{signature}", rsa.split('.').nth(1).unwrap()), "signature"),
        (format!("{}.{body}.{signature}", rsa.split('.').next().unwrap()), "signature"),
        (token("p256-other", "ES256", json!({"kid": "p256"}), &claims(json!({}))), "signature"),
        // No signature is none.
        (hmac("", "none", r#"{"alg":"none"}"#), "algorithm"),
        (hmac("", "none", r#"{"alg":"None","kid":"p256"}"#), "algorithm"),
        (hmac("", "none", r#"{"alg":"nOnE","kid":"rsa"}"#), "algorithm"),
        (hmac("", "none", r#"{"alg":"ES256","kid":"p256"}"#), "signature"),
        (hmac("", "none", r#"{"alg":"","kid":"p256"}"#), "algorithm"),
        // A public key is no secret.
        (hmac(&secret, "HS256", r#"{"alg":"HS256","kid":"rsa"}"#), "algorithm"),
        (hmac(secret.trim(), "HS512", r#"{"alg":"HS512","kid":"rsa"}"#), "algorithm"),
        (hmac(&secret, "HS256", r#"{"alg":"HS256"}"#), "key is not known"),
        (hmac(&secret, "HS256", r#"{"alg":"RS256","kid":"rsa"}"#), "signature"),
        (token("rsa", "PS256", json!({"kid": "rsa"}), &claims(json!({}))), "algorithm"),
        (token("rsa", "RS384", json!({"kid": "rsa"}), &claims(json!({}))), "algorithm"),
        // Keys that it brings itself, or says where to find.
        (with_header(&format!(r#"{{"alg":"ES256","kid":"p256","jwk":{}}}"#, "{}")).replace(body, "e30"), "signature"),
        (
            crafted(
                "p256-other",
                "ES256",
                &format!(
                    r#"{{"alg":"ES256","jku":"http://127.0.0.1:{}/","x5u":"http://127.0.0.1/","x5c":["AAAA"]}}"#,
                    upstream.addr.port()
                ),
                &payload,
            ),
            "signature",
        ),
        (
            crafted("p256-other", "ES256", &format!(r#"{{"alg":"ES256","jwk":{}}}"#, key_of("p256-other")), &payload),
            "signature",
        ),
        // Extensions that must be understood.
        (with_header(r#"{"alg":"ES256","kid":"p256","crit":["exp"],"exp":1}"#), "malformed"),
        (with_header(r#"{"alg":"ES256","kid":"p256","crit":["b64"],"b64":false}"#), "malformed"),
        (with_header(r#"{"alg":"ES256","kid":"p256","crit":"b64"}"#), "malformed"),
        // Names that stand twice.
        (with_header(r#"{"alg":"ES256","kid":"p256","kid":"rsa"}"#), "malformed"),
        (with_header(r#"{"alg":"none","alg":"ES256","kid":"p256"}"#), "malformed"),
        (crafted("p256", "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &twice("sub", &payload)), "malformed"),
        (crafted("p256", "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &twice("exp", &payload)), "malformed"),
        // Payloads that are no claims.
        (crafted("p256", "ES256", r#"{"alg":"ES256","kid":"p256"}"#, "[]"), "malformed"),
        (crafted("p256", "ES256", r#"{"alg":"ES256","kid":"p256"}"#, "\"claims\""), "malformed"),
        (crafted("p256", "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &"[".repeat(5000)), "malformed"),
        (crafted("p256", "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &format!("{payload}x")), "malformed"),
    ];
    // Names of keys that try to be something else.
    for kid in
        ["../../../../dev/null", "/etc/passwd", "p256' OR '1'='1", "p256\\u0000", "p256 ", "P256", "", "${JWT_SECRET}"]
    {
        hostile.push((with_header(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)), "key is not known"));
    }
    for kid in [r#"["p256"]"#, r#"{"p256":1}"#, "256", "null", "true", &format!("\"{long}\"")] {
        hostile.push((with_header(&format!(r#"{{"alg":"ES256","kid":{kid}}}"#)), "malformed"));
    }
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask(bearer(&good)).status, 200);
    let mut answers = String::new();
    for (token, words) in &hostile {
        let shown = token.get(..200).unwrap_or(token);
        let answer = client.ask(bearer(token));
        assert_eq!(answer.status, 401, "{shown}: {answer:?}");
        answer.is_gateways_own(401);
        let challenge = answer.fields.get("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(words), "{shown}: {challenge}");
        answers += &format!("{answer:?}\n");
        for (key, alg) in [("p256", "ES256"), ("rsa", "RS256")] {
            // Two are matters of taste: which of two names counts, and how long a token may be.
            let is_taste = words == &"malformed" && token.len() > 300 && token.starts_with(&header[..8]);
            let said = if token.len() < 20_000 && !token.contains(['\u{202e}', '\t', ' ']) {
                verdict(token, key, alg, "api")
            } else {
                String::new()
            };
            assert!(
                said != "ok" || is_taste || words == &"key is not known" || words == &"malformed",
                "{shown}: PyJWT accepts it"
            );
        }
    }
    assert_eq!(client.ask(bearer(&good)).status, 200, "the good one is as good as before");
    assert_eq!(client.ask(bearer(&rsa)).status, 200);
    assert_eq!(upstream.requests().len(), 3);
    let lines = hostile.len() + 3;
    let log = eventually("all lines of the log", || Some(gateway.log_lines()).filter(|log| log.len() >= lines));
    assert_eq!(log.iter().filter(|line| line["end"] == "unauthenticated").count(), hostile.len());
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    let metrics = crate::support::gateway::get(gateway.admin, "/metrics").unwrap().text();
    let said = gateway.process.output();
    for (token, _) in hostile.iter().chain([&(good.clone(), ""), &(rsa.clone(), "")]) {
        for piece in pieces(token) {
            for (place, text) in [("answers", &answers), ("log", &log), ("metrics", &metrics), ("output", &said)] {
                assert!(!text.contains(piece), "{piece} is in {place}");
            }
        }
    }
    assert!(!log.contains(&"k".repeat(20)) && !said.contains("passwd"));
}

/// The payload with a name in front that stands there once more.
fn twice(name: &str, payload: &str) -> String {
    format!("{{\"{name}\":\"admin\",{}", payload.strip_prefix('{').unwrap())
}

fn key_of(name: &str) -> String {
    let set: serde_json::Value = serde_json::from_str(&key_set(&[name])).unwrap();
    set["keys"][0].to_string()
}

#[test]
fn heads_that_hold_too_much_are_the_codecs_to_refuse() {
    let upstream = Upstream::start(answers(ok("hello")));
    let gateway = gateway(&upstream, "max_requests: 100");
    let mut client = Client::connect(&gateway);
    client.send(bearer(&"A".repeat(100_000)).get(..60_000).unwrap());
    assert_eq!(client.response().status, 431);
    for value in ["Bearer a\u{0}b", "Bearer a\rb", "Bearer \u{7f}", "Bearer a\n b"] {
        let mut client = Client::connect(&gateway);
        let answer = client.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: {value}\r\n\r\n"));
        assert!([400, 401].contains(&answer.status), "{value:?}: {answer:?}");
    }
    upstream.heard_nothing();
}

#[test]
fn memory_is_bounded_however_many_tokens_there_are() {
    let upstream = Upstream::start(answers(ok("hello")));
    let gateway = gateway(&upstream, "max_requests: none");
    let mut client = Client::connect(&gateway);
    let mut ask = |from: u64, to: u64| {
        for n in from..to {
            // What is not right is not remembered: each is checked anew.
            let forged = es256_forged(n);
            assert_eq!(client.ask(bearer(&forged)).status, 401);
        }
    };
    ask(0, 300);
    let before = gateway.rss();
    ask(300, 2000);
    assert!(gateway.rss() < before + (4 << 20), "{before} to {}", gateway.rss());
    let counted = |result| gateway.metrics().sum("ringway_token_lookups_total", &[("result", result)]);
    assert_eq!((counted("known"), counted("new")), (0.0, 2000.0));
    assert_eq!(gateway.metrics().sum("ringway_token_memory", &[]), 0.0);
}

/// A good token with another end.
fn es256_forged(n: u64) -> String {
    static GOOD: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| es256(json!({"exp": now() + 600})));
    let (signed, signature) = GOOD.rsplit_once('.').unwrap();
    format!("{signed}.{n:08}{}", &signature[8..])
}
