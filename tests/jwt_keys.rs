//! Keys that are fetched: at the start, when they are due, when a token names one that is not there; and whatever their
//! server does instead of answering.

use crate::support::issuer::{KeyServer, claims, es256, jwks_at, key_set, now, pem_file, token};
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, eventually, gateway, tls};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

fn guarded(upstream: &Upstream, keys: &str) -> Gateway {
    let filter = format!("who: {{ jwt: {{ issuer: https://id.test, audience: api, {keys} }} }}");
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ {filter} }}"))
        .forward_all("filters: [who]")
        .start()
}

fn bearer(token: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn signed_by(key: &str) -> String {
    let alg = if key.starts_with("rsa") { "RS256" } else { "ES256" };
    token(key, alg, json!({ "kid": key }), &claims(json!({})))
}

fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.ask(bearer(token)).status
}

fn ready(gateway: &Gateway) -> Value {
    gateway::get(gateway.admin, "/readyz").unwrap().json()["jwks"][0].clone()
}

fn metric(gateway: &Gateway, name: &str) -> f64 {
    gateway.metrics().sum(name, &[("filter", "who")])
}

#[test]
fn keys_are_there_when_the_first_request_comes() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256", "rsa"]));
    let gateway = guarded(&upstream, &server.jwks(""));
    assert_eq!([status(&gateway, &signed_by("p256")), status(&gateway, &signed_by("rsa"))], [200, 200]);
    // A key without `alg` is for all of its kind, unless the config says less.
    assert_eq!(status(&gateway, &token("rsa", "PS512", json!({"kid": "rsa"}), &claims(json!({})))), 200);
    let ready = ready(&gateway);
    assert_eq!(
        (&ready["filter"], &ready["up"], &ready["keys"], &ready["error"]),
        (&"who".into(), &true.into(), &2.into(), &Value::Null)
    );
    assert!(ready["age_s"].as_u64().unwrap() < 60, "{ready}");
    assert_eq!((metric(&gateway, "ringway_jwks_up"), metric(&gateway, "ringway_jwks_keys")), (1.0, 2.0));
    let asked = server.server.only_request();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/jwks.json?x=1"));
    let narrow = guarded(&upstream, &format!("algorithms: [RS256], {}", server.jwks("")));
    assert_eq!([status(&narrow, &signed_by("rsa")), status(&narrow, &signed_by("p256"))], [200, 401]);
}

#[test]
fn a_new_key_is_accepted_after_one_refused_request_and_an_old_one_ends() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256-old"]));
    let gateway = guarded(&upstream, &server.jwks("cooldown: 1s"));
    let (old, new) = (signed_by("p256-old"), signed_by("p256-new"));
    let mut client = Client::connect(&gateway);
    assert_eq!([client.ask(bearer(&old)).status, client.ask(bearer(&old)).status], [200, 200]);
    server.publishes(&["p256-new"]);
    let start = Instant::now();
    let refused = client.ask(bearer(&new));
    assert!(start.elapsed() < Duration::from_secs(2), "a request does not wait for a fetch");
    assert_eq!(refused.status, 401);
    assert!(refused.fields.get("www-authenticate").unwrap().contains("the key is not known"));
    eventually("the new key", || (status(&gateway, &new) == 200).then_some(()));
    assert_eq!(client.ask(bearer(&old)).status, 401, "it was remembered as right under a key that is gone");
    gateway.process.wait_said("1 key fetched");
}

#[test]
fn unknown_keys_lead_to_one_fetch_in_a_while() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256"]));
    let gateway = guarded(&upstream, &server.jwks("cooldown: 1h"));
    let mut client = Client::connect(&gateway);
    for n in 0..200 {
        let unknown = format!("p256-{}", n % 3);
        assert_eq!(client.ask(bearer(&signed_by(&unknown))).status, 401);
    }
    assert_eq!(client.ask(bearer(&signed_by("p256"))).status, 200);
    eventually("a fetch", || (server.fetches() == 2).then_some(()));
    (0..50).for_each(|_| assert_eq!(client.ask(bearer(&signed_by("p256-0"))).status, 401));
    assert_eq!(server.fetches(), 2, "at the start, and once for all of them");
}

#[test]
fn keys_are_fetched_again_when_they_are_due() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256-a"]));
    let with_age = |key: &str, age: &str| {
        let set = key_set(&[key]);
        format!("HTTP/1.1 200 OK\r\nCache-Control: {age}\r\nContent-Length: {}\r\n\r\n{set}", set.len())
    };
    server.answers(with_age("p256-a", "max-age=1"));
    let gateway = guarded(&upstream, &server.jwks("refresh_min: 1s, refresh_max: 1h, cooldown: 1h"));
    assert_eq!(status(&gateway, &signed_by("p256-a")), 200);
    server.answers(with_age("p256-b", "public, max-age=3600"));
    eventually("the other key, which no request asked for", || {
        (metric(&gateway, "ringway_jwks_age_seconds") == 0.0 && server.fetches() >= 2).then_some(())
    });
    eventually("it is in use", || (status(&gateway, &signed_by("p256-b")) == 200).then_some(()));
    assert_eq!(status(&gateway, &signed_by("p256-a")), 401);
    let fetches = server.fetches();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(server.fetches() <= fetches + 1, "it is good for an hour, and one unknown key was asked for");
}

#[test]
fn without_a_server_the_gateway_starts_and_says_so() {
    let upstream = upstream();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let own = format!("keys: [{{ kid: own, public_key: {} }}]", pem_file("p256").display());
    let gateway = guarded(&upstream, &format!("{own}, {}", jwks_at(addr, "")));
    let answer = gateway.ask(bearer(&signed_by("p256-far")));
    answer.is_gateways_own(503);
    assert_eq!(answer.json()["code"], 50307);
    assert!(!answer.fields.has("www-authenticate"), "another token would not help");
    let line = gateway.wait_log(|line| line["status"] == 503);
    assert_eq!((&line["end"], &line["refused_by"]), (&"keys_missing".into(), &"who".into()));
    assert_eq!(status(&gateway, &token("p256", "ES256", json!({"kid": "own"}), &claims(json!({})))), 200);
    assert_eq!(gateway.get("/a").status, 401);
    let ready = ready(&gateway);
    assert_eq!((&ready["up"], &ready["keys"], &ready["age_s"]), (&false.into(), &0.into(), &Value::Null));
    assert!(ready["error"].as_str().unwrap().contains("no connection"), "{ready}");
    assert_eq!(metric(&gateway, "ringway_jwks_up"), 0.0);
    let said = gateway.process.wait_said("answered 503 until they come");
    assert!(said.contains("filter who: "), "{said}");
    assert!(!said.contains("x=1"), "a query may hold a secret: {said}");
    let server = KeyServer::listen(std::net::TcpListener::bind(addr).unwrap(), &["p256-far"]);
    eventually("keys", || (status(&gateway, &signed_by("p256-far")) == 200).then_some(()));
    assert!(server.fetches() >= 1 && metric(&gateway, "ringway_jwks_up") == 1.0);
}

#[test]
fn whatever_a_server_answers_instead_keys_that_are_there_stay() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256"]));
    let gateway = guarded(&upstream, &server.jwks("refresh_min: 1s, cooldown: 1s"));
    let (good, evil) = (signed_by("p256"), signed_by("p256-evil"));
    let huge = format!("{{\"keys\":[{}]}}", " ".repeat(2 << 20));
    let many = format!("{{\"keys\":[{}]}}", vec!["{}"; 101].join(","));
    let private =
        key_set(&["rsa"]).replace("\"kty\":\"RSA\"", "\"kty\":\"oct\"").replace("\"kty\": \"RSA\"", "\"kty\":\"oct\"");
    let elsewhere = KeyServer::start(&["p256-evil"]);
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}://{}/\r\nContent-Length: 0\r\n\r\n",
        tls::either("https", "http"),
        elsewhere.server.addr
    );
    let cases: [(Vec<u8>, &str); 10] = [
        (ok("<html>nothing here</html>"), "no key set: it is no JSON object"),
        (ok("{\"keys\":[]}"), "no key that can be used"),
        (ok(many), "more than 100 keys"),
        (ok(private), "no key that can be used"),
        (ok(huge), "longer than 1048576 bytes"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(), "answered 500"),
        (redirect.into_bytes(), "redirects are not followed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\"".to_vec(), "no answer within 5 s"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "no good answer"),
        (ok(key_set(&["p256"]).replacen('{', "{\"keys\":[],", 1)), "each name stands once"),
    ];
    for (answer, fault) in cases {
        server.answers(answer);
        let error = eventually(fault, || {
            // Asking for a key that is not there shortens the wait, which grows with every failure.
            assert_eq!(status(&gateway, &evil), 401, "{fault}");
            let error = ready(&gateway)["error"].as_str().unwrap_or_default().to_owned();
            error.contains(fault).then_some(error)
        });
        let start = Instant::now();
        assert_eq!(status(&gateway, &good), 200, "{fault}");
        // A fetch that it waited for would take 5 s.
        assert!(start.elapsed() < Duration::from_secs(4), "{fault}: {:?}", start.elapsed());
        assert_eq!((metric(&gateway, "ringway_jwks_up"), metric(&gateway, "ringway_jwks_keys")), (0.0, 1.0), "{error}");
    }
    assert_eq!(elsewhere.fetches(), 0);
    let said = gateway.process.wait_said("answered 500");
    assert_eq!(said.matches("answered 500").count(), 1, "a fault is told once: {said}");
    assert!(!said.contains("nothing here"), "{said}");
    server.publishes(&["p256", "p256-next"]);
    let next = signed_by("p256-next");
    eventually("the next key", || (status(&gateway, &next) == 200).then_some(()));
    assert_eq!(status(&gateway, &good), 200);
}

#[test]
fn a_server_that_never_answers_holds_up_nobody() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256"]));
    server.answers("");
    let start = Instant::now();
    let gateway = guarded(&upstream, &server.jwks("cooldown: 1s"));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let mut client = Client::connect(&gateway);
    let token = signed_by("p256");
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(client.ask(bearer(&token)).status, 503);
        // A fetch that it waited for would take 5 s.
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
    server.publishes(&["p256"]);
    eventually("keys", || (status(&gateway, &token) == 200).then_some(()));
}

#[test]
fn filters_of_one_issuer_share_its_keys() {
    let (upstream, server) = (upstream(), KeyServer::start(&["p256"]));
    let jwt = |scope: &str| {
        format!(
            "{{ jwt: {{ issuer: https://id.test, audience: api, scopes: {{ all: [{scope}] }}, {} }} }}",
            server.jwks("")
        )
    };
    let gateway = Setup::new()
        .workers("2")
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ read: {}, write: {} }}", jwt("read"), jwt("write")))
        .route("match: { path: /a, methods: [GET] }, filters: [read], forward: { upstream: u }")
        .route("match: { path: /a, methods: [POST] }, filters: [write], forward: { upstream: u }")
        .start();
    let token = es256(json!({"scope": "read", "exp": now() + 60}));
    for _ in 0..4 {
        assert_eq!(status(&gateway, &token), 200);
        assert_eq!(gateway.ask(bearer(&token).replace("GET", "POST")).status, 403);
    }
    assert_eq!(server.fetches(), 1);
}
