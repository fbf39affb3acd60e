//! Tokens from outside: whose are accepted, what is told about the others, what the upstream gets. All are made by PyJWT.

use crate::support::issuer::{SECRET, claims, crafted, es256, now, pem_file, token, verdict};
use crate::support::message::{Response, ok};
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

/// A filter `who` with the key `p256` and further keys of the config.
fn who(more: &str) -> String {
    let issuer = if more.contains("issuer:") { "" } else { "issuer: \"https://id.test\", " };
    let audience = if more.contains("audience:") { "" } else { "audience: [other, api], " };
    let leeway = if more.contains("leeway:") { "" } else { "leeway: 0s, " };
    let key = format!("keys: [{{ kid: p256, public_key: {} }}]", pem_file("p256").display());
    format!("who: {{ jwt: {{ {issuer}{audience}{leeway}{key}, {more} }} }}")
}

/// A gateway whose one route has that filter.
fn guarded(upstream: &Upstream, more: &str) -> Gateway {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ {} }}", who(more)))
        .forward_all("filters: [who]")
        .start()
}

fn with(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn bearer(token: &str) -> String {
    with(&format!("Authorization: Bearer {token}\r\n"))
}

fn challenge(response: &Response) -> &str {
    response.fields.get("www-authenticate").unwrap_or_else(|| panic!("{response:?}"))
}

#[test]
fn every_algorithm_is_accepted_with_its_key_alone() {
    let upstream = upstream();
    let secret_file = pem_file("p256").with_file_name("secret");
    std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
    let rows: [(&str, &str); 12] = [
        ("HS256", SECRET),
        ("HS384", SECRET),
        ("HS512", SECRET),
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
    ];
    let key = |(alg, key): &(&str, &str)| match *alg {
        "HS256" => "{ kid: HS256, algorithm: HS256, secret: \"${JWT_SECRET}\" }".to_owned(),
        alg if alg.starts_with("HS") => {
            format!("{{ kid: {alg}, algorithm: {alg}, secret_file: {} }}", secret_file.display())
        }
        alg => format!("{{ kid: {alg}, algorithm: {alg}, public_key: {} }}", pem_file(key).display()),
    };
    let keys: Vec<String> = rows.iter().map(key).collect();
    let filter = format!("who: {{ jwt: {{ issuer: https://id.test, audience: api, keys: [{}] }} }}", keys.join(", "));
    let gateway = Setup::new()
        .env("JWT_SECRET", SECRET)
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ {filter} }}"))
        .forward_all("filters: [who]")
        .start();
    let mut client = Client::connect(&gateway);
    for (alg, key) in rows {
        let good = token(key, alg, json!({"kid": alg}), &claims(json!({})));
        assert_eq!(verdict(&good, key, alg, "api"), "ok", "{alg}");
        for _ in 0..2 {
            assert_eq!(client.ask(bearer(&good)).status, 200, "{alg}");
        }
        // Under the name of each other key it is none of theirs, whatever their kind.
        for (other, _) in rows.iter().filter(|(other, _)| *other != alg) {
            let borrowed = token(key, alg, json!({ "kid": other }), &claims(json!({})));
            let refused = client.ask(bearer(&borrowed));
            assert_eq!(
                (refused.status, challenge(&refused)),
                (401, INVALID_ALGORITHM),
                "{alg} under the name of {other}"
            );
        }
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let forged: String = signature.chars().rev().collect();
        let forged = format!("{signed}.{forged}");
        let refused = client.ask(bearer(&forged));
        assert_eq!(refused.status, 401, "{alg}");
        assert_ne!(verdict(&forged, key, alg, "api"), "ok", "{alg}");
    }
    assert_eq!(upstream.requests().len(), 24, "what is refused is not forwarded");
    let lookups = |result| gateway.metrics().sum("ringway_token_lookups_total", &[("result", result)]);
    assert_eq!(lookups("known"), 12.0);
}

const INVALID_ALGORITHM: &str =
    "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"the algorithm is not accepted\"";

#[test]
fn who_is_refused_is_told_how_to_do_better_and_nothing_of_the_token() {
    let upstream = upstream();
    let gateway = guarded(&upstream, "realm: \"the api\", scopes: { any: [read, \"orders:all\"] }");
    let mut client = Client::connect(&gateway);
    let none = client.get("/none");
    none.is_gateways_own(401);
    assert_eq!((&none.json()["code"], challenge(&none)), (&40101.into(), "Bearer realm=\"the api\""));
    assert_eq!(challenge(&client.ask(with("Authorization: Basic YTpi\r\n"))), "Bearer realm=\"the api\"");
    let expired = client.ask(bearer(&es256(json!({"exp": now() - 1}))));
    expired.is_gateways_own(401);
    assert_eq!(expired.json()["code"], 40102);
    let invalid = "Bearer realm=\"the api\", error=\"invalid_token\", error_description=";
    assert_eq!(challenge(&expired), format!("{invalid}\"the token has expired\""));
    let without = client.ask(bearer(&es256(json!({"scope": "write"}))));
    without.is_gateways_own(403);
    assert_eq!(
        (&without.json()["code"], challenge(&without)),
        (
            &40303.into(),
            "Bearer realm=\"the api\", error=\"insufficient_scope\", error_description=\"the token does not have this \
             right\", scope=\"read orders:all\""
        )
    );
    let twice =
        client.ask(with(&format!("Authorization: Bearer {0}\r\nAuthorization: Bearer {0}\r\n", es256(json!({})))));
    twice.is_gateways_own(400);
    assert!(challenge(&twice).contains("error=\"invalid_request\""), "{twice:?}");
    upstream.heard_nothing();
    assert_eq!(client.ask(bearer(&es256(json!({"scope": "write read"})))).status, 200);
    assert_eq!(client.ask(bearer(&es256(json!({"scp": ["orders:all"]})))).status, 200);
    let line = gateway.log_of("/none");
    assert_eq!((&line["end"], &line["refused_by"]), (&"unauthenticated".into(), &"who".into()));
    assert_eq!(gateway.wait_log(|line| line["status"] == 403)["end"], "forbidden");
    let counted =
        |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "who"), ("outcome", outcome)]);
    assert_eq!((counted("passed"), counted("refused")), (2.0, 5.0));
    client.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!((head.status, challenge(&head)), (401, "Bearer realm=\"the api\""));
}

#[test]
fn claims_are_held_to_what_the_config_says() {
    let upstream = upstream();
    let gateway = guarded(
        &upstream,
        "issuer: [\"https://id.test\", \"https://other.test\"], leeway: 5s, \
         claims: { tenant: [acme, umbrella], realm.roles: admin, email: present }",
    );
    let mut client = Client::connect(&gateway);
    let right = json!({"tenant": "acme", "realm": {"roles": ["dev", "admin"]}, "email": "a@b.c"});
    let mut ask = |more: Value| {
        let mut all = right.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = client.ask(bearer(&es256(all)));
        let words = answer.fields.get("www-authenticate").and_then(|c| c.split("error_description=\"").nth(1));
        (answer.status, words.unwrap_or_default().trim_end_matches('"').to_owned())
    };
    let now = now();
    for good in [
        json!({}),
        json!({"iss": "https://other.test"}),
        json!({"aud": ["x", "other"]}),
        json!({"exp": now + 3, "nbf": now + 3, "iat": now + 3}),
        json!({"exp": now - 2}),
        json!({"exp": f64::from(u32::try_from(now).unwrap()) + 9.5}),
        json!({"exp": 1e18}),
        json!({"tenant": ["x", "umbrella"]}),
    ] {
        assert_eq!(ask(good.clone()), (200, String::new()), "{good}");
    }
    for (bad, status, words) in [
        (json!({"iss": "https://id.test/"}), 401, "the issuer is not accepted"),
        (json!({"iss": null}), 401, "the issuer is not accepted"),
        (json!({"aud": "apis"}), 401, "the token is for another audience"),
        (json!({"aud": []}), 401, "the token is for another audience"),
        (json!({"exp": now - 9}), 401, "the token has expired"),
        (json!({"exp": -1}), 401, "the token has expired"),
        (json!({"nbf": now + 30}), 401, "the token is not valid yet"),
        (json!({"iat": now + 30}), 401, "the token is not valid yet"),
        (json!({"tenant": "other"}), 403, "the token does not have this right"),
        (json!({"realm": {"roles": "dev"}}), 403, "the token does not have this right"),
        (json!({"email": null}), 403, "the token does not have this right"),
    ] {
        assert_eq!(ask(bad.clone()), (status, words.to_owned()), "{bad}");
    }
    // PyJWT would not write these.
    let header = r#"{"alg":"ES256","kid":"p256"}"#;
    for exp in ["\"9999999999\"", "[9999999999]", "null", "1e999", "9999999999999999999999e999", "true"] {
        let payload = format!(r#"{{"iss":"https://id.test","aud":"api","exp":{exp}}}"#);
        let answer = client.ask(bearer(&crafted("p256", "ES256", header, &payload)));
        assert_eq!(answer.status, 401, "{exp}");
        assert!(challenge(&answer).contains("malformed"), "{exp}: {answer:?}");
    }
    let unlimited = client.ask(bearer(&crafted("p256", "ES256", header, r#"{"iss":"https://id.test","aud":"api"}"#)));
    assert!(challenge(&unlimited).contains("does not say when it ends"), "{unlimited:?}");
}

#[test]
fn a_token_is_taken_from_where_the_config_says() {
    let upstream = upstream();
    let gateway = guarded(&upstream, "from: [header.x-token, cookie.session, query.access_token]");
    let stripped =
        guarded(&upstream, "from: [header.authorization, cookie.session, query.access_token], forward: false");
    let good = es256(json!({}));
    let evil = good.replace("ey", "ex");
    for gateway in [&gateway, &stripped] {
        let mut client = Client::connect(gateway);
        let header = if gateway.addr == stripped.addr { "Authorization: bearer" } else { "X-Token:" };
        let asks = [
            with(&format!("{header} {good}\r\nCookie: a=1\r\n")),
            with(&format!("Cookie: a=1; session={good}; b=2\r\n")),
            format!("GET /q?a=1&access_token={good}&b=%20 HTTP/1.1\r\nHost: h\r\n\r\n"),
            format!("GET /q?access_token={good} HTTP/1.1\r\nHost: h\r\n\r\n"),
        ];
        for ask in asks {
            assert_eq!(client.ask(&ask).status, 200, "{ask}");
        }
        let wrong = good.replace("ey", "ex");
        assert_eq!(client.ask(with(&format!("Cookie: session={wrong}\r\n"))).status, 401);
        for several in [
            with(&format!("Cookie: session={good}; session={good}\r\n")),
            with(&format!("Cookie: session={good}\r\nCookie: session={wrong}\r\n")),
            format!("GET /q?access_token={good}&access_token={good} HTTP/1.1\r\nHost: h\r\n\r\n"),
            format!("GET /q?access_token={good}&access%5Ftoken={evil} HTTP/1.1\r\nHost: h\r\n\r\n"),
        ] {
            assert_eq!(client.ask(&several).status, 400, "{several}");
        }
    }
    let requests = upstream.requests();
    let (kept, taken) = requests.split_at(4);
    assert!(kept.iter().all(|request| format!("{request:?}").contains(&good)), "{kept:?}");
    assert_eq!(kept[2].target, format!("/q?a=1&access_token={good}&b=%20"));
    assert!(taken.iter().all(|request| !format!("{request:?}").contains(&good)), "{taken:?}");
    assert!(!taken[0].fields.has("authorization") && taken[0].fields.get("cookie") == Some("a=1"));
    assert_eq!(taken[1].fields.get("cookie"), Some("a=1; b=2"));
    assert_eq!((taken[2].target.as_str(), taken[3].target.as_str()), ("/q?a=1&b=%20", "/q"));
    // What stands in another place was not looked at, and goes no further.
    let both = format!(
        "GET /both?access%5Ftoken={evil}&a HTTP/1.1\r\nHost: h\r\nX_Token: {good}\r\nCookie: session={evil}; b=2\r\n\r\n"
    );
    assert_eq!(gateway.ask(&both).status, 200);
    let seen = upstream.requests().pop().unwrap();
    assert_eq!((seen.target.as_str(), seen.fields.get("cookie")), ("/both?a", Some("b=2")));
    assert!(!format!("{seen:?}").contains(&evil), "{seen:?}");
}

#[test]
fn where_a_token_is_optional_one_that_is_not_good_is_refused_however_it_is_written() {
    let upstream = upstream();
    let gateway = guarded(&upstream, "from: [header.authorization, header.x-token, query.t], optional: true");
    let (good, evil) = (es256(json!({})), es256(json!({})).replace("ey", "ex"));
    for (ask, status) in [
        (with("Authorization: Basic YTpi\r\n"), 200),
        (with(&format!("Authorization: Bearer\t{evil}\r\n")), 401),
        (with(&format!("Authorization: Bearer,{evil}\r\n")), 401),
        (with(&format!("Authorization: Basic YTpi\r\nAuthorization: Bearer {good}\r\n")), 400),
        (with(&format!("Authorization: Bearer\t{evil}\r\nAuthorization: Bearer {good}\r\n")), 400),
        (with(&format!("X_Token: {evil}\r\n")), 401),
        (with(&format!("X-Token: {good}\r\nX_Token: {evil}\r\n")), 400),
        (format!("GET /q?%74={evil} HTTP/1.1\r\nHost: h\r\n\r\n"), 401),
    ] {
        assert_eq!(gateway.ask(&ask).status, status, "{ask}");
    }
}

#[test]
fn identity_fields_are_the_gateways_word_alone() {
    let upstream = upstream();
    let gateway = guarded(
        &upstream,
        "optional: true, claim_headers: { X-User: sub, X-Groups: groups, X-Mail: email, X-Level: level }",
    );
    let mut client = Client::connect(&gateway);
    let forged = "X-User: root\r\nx-user: root2\r\nX_USER: root3\r\nX-Groups: all\r\nx-mail: root@x\r\nX-Level: 9\r\n";
    assert_eq!(client.ask(with(forged)).status, 200, "without a token");
    let some = es256(json!({"groups": ["dev", "a,b"], "level": 3, "email": "é\r\nX-Evil: 1"}));
    let fields = format!("{forged}Authorization: Bearer {some}\r\nConnection: x-user\r\n");
    for _ in 0..2 {
        assert_eq!(client.ask(with(&fields)).status, 200);
    }
    let refused = with(&format!("{forged}Authorization: Bearer {}\r\n", es256(json!({"exp": 1}))));
    assert_eq!(client.ask(refused).status, 401, "a token that is there must be good");
    let requests = upstream.requests();
    for name in ["x-user", "x_user", "x-groups", "x-mail", "x-level"] {
        assert!(!requests[0].fields.has(name), "{name}: {:?}", requests[0]);
    }
    for request in &requests[1..] {
        let fields = &request.fields;
        assert_eq!((fields.get("x-user"), fields.get("x-groups")), (Some("ada"), Some("dev,a%2Cb")));
        assert_eq!((fields.get("x-mail"), fields.get("x-level")), (Some("%C3%A9%0D%0AX-Evil: 1"), Some("3")));
        assert!(!fields.has("x-evil") && !fields.has("x_user"));
        assert_eq!(fields.get("authorization"), Some(format!("Bearer {some}").as_str()), "it is forwarded");
    }
    assert_eq!(requests.len(), 3);
    let chunked = format!(
        "POST /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {some}\r\nTransfer-Encoding: chunked\r\nTrailer: X-User\r\n\r\n\
         1\r\na\r\n0\r\nX-User: root\r\n\r\n"
    );
    assert_eq!(client.ask(chunked).status, 200);
    assert!(!upstream.requests().pop().unwrap().trailers.has("x-user"), "nor behind the body");
    let lacks = es256(json!({"email": null}));
    assert_eq!(client.ask(with(&format!("{forged}Authorization: Bearer {lacks}\r\n"))).status, 200);
    let last = upstream.requests().pop().unwrap();
    assert!(!last.fields.has("x-mail") && !last.fields.has("x-groups") && last.fields.get("x-user") == Some("ada"));
}

#[test]
fn forged_identity_fields_are_there_for_nobody() {
    let upstream = upstream();
    let filters = format!(
        "{}, copy: {{ request_headers: {{ set: {{ x-copy: \"<{{header.x-user}}>\" }} }} }}, \
         fair: {{ rate_limit: {{ rate: 2/h, key: header.x-user }} }}",
        who("optional: true, claim_headers: { x-user: sub }")
    );
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ {filters} }}"))
        .route(
            "match: { path: /a }, filters: [who, copy, fair], forward: { upstream: u, request_headers: { set: { x-again: \
             \"<{header.x-user}>\" } } }",
        )
        .start();
    let mut client = Client::connect(&gateway);
    let mut ask =
        |name: &str| client.ask(with(&format!("A: 1\r\nX-User: {name}\r\nB: 2\r\nx-user: {name}2\r\nC: 3\r\n"))).status;
    assert_eq!([ask("root"), ask("admin"), ask("nobody")], [200, 200, 429], "no limit counts by what a client made up");
    for request in upstream.requests() {
        let fields = &request.fields;
        assert_eq!((fields.get("x-copy"), fields.get("x-again")), (Some("<>"), Some("<>")));
        assert!(!fields.has("x-user") && !format!("{request:?}").contains("root"), "{request:?}");
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), (Some("1"), Some("2"), Some("3")));
    }
}

#[test]
fn parts_of_an_aggregation_get_the_gateways_word_too() {
    let upstream = Upstream::says("{\"a\":1}");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ {} }}", who("claim_headers: { x-user: sub }")))
        .route(
            "match: { path: /all }, filters: [who], aggregate: { parts: [{ name: a, upstream: u, request: { path: /a, \
             headers: [x-user] } }] }",
        )
        .start();
    let fields = format!("X-User: root\r\nAuthorization: Bearer {}\r\n", es256(json!({})));
    assert_eq!(gateway.ask(with(&fields).replace("/a", "/all")).status, 200);
    assert_eq!(upstream.only_request().fields.get("x-user"), Some("ada"));
}

#[test]
fn limits_count_who_the_token_names() {
    let upstream = upstream();
    let filters = format!("{}, fair: {{ rate_limit: {{ rate: 2/h, key: principal }} }}", who("optional: true"));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ {filters} }}"))
        .forward_all("filters: [who, fair]")
        .start();
    let mut client = Client::connect(&gateway);
    let mut statuses = |fields: &str| -> Vec<u16> { (0..3).map(|_| client.ask(with(fields)).status).collect() };
    for sub in ["ada", "bob"] {
        let token = es256(json!({ "sub": sub }));
        assert_eq!(statuses(&format!("Authorization: Bearer {token}\r\n")), [200, 200, 429], "{sub}");
    }
    let again = es256(json!({"sub": "ada", "jti": "another token"}));
    assert_eq!(statuses(&format!("Authorization: Bearer {again}\r\n")), [429, 429, 429], "who counts, not the token");
    assert_eq!(statuses(""), [200, 200, 429], "nobody is one as well, and none of the two");
}

#[test]
fn a_token_ends_while_it_is_remembered() {
    let upstream = upstream();
    let gateway = guarded(&upstream, "leeway: 0s, claim_headers: { x-user: sub }");
    let mut client = Client::connect(&gateway);
    let exp = now() + 3;
    let token = es256(json!({ "exp": exp }));
    let start = Instant::now();
    let mut passed = 0;
    let refused = loop {
        let before = now();
        let answer = client.ask(bearer(&token));
        if answer.status != 200 {
            break answer;
        }
        passed += 1;
        assert!(before < exp, "it passed although it was over");
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(now() >= exp && passed > 1, "{passed}");
    assert!(challenge(&refused).contains("the token has expired"), "{refused:?}");
    let known = gateway.metrics().sum("ringway_token_lookups_total", &[("result", "known")]);
    assert_eq!(known, f64::from(passed), "it was known from the second time on, and when it ended");
    assert_eq!(client.ask(bearer(&token)).status, 401);
}

#[test]
fn a_token_of_one_filter_is_none_of_another() {
    let upstream = upstream();
    let both = format!(
        "{}, {}",
        who("audience: api"),
        who("audience: admin, claim_headers: { x-admin: sub }").replace("who:", "admin:")
    );
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ {both} }}"))
        .route("match: { path: /a }, filters: [who], forward: { upstream: u }")
        .route("match: { path: /admin }, filters: [admin], forward: { upstream: u }")
        .start();
    let mut client = Client::connect(&gateway);
    let token = es256(json!({}));
    let mut ask = |path: &str| client.ask(bearer(&token).replace("/a ", &format!("{path} "))).status;
    assert_eq!([ask("/a"), ask("/admin"), ask("/a"), ask("/admin")], [200, 401, 200, 401]);
}
