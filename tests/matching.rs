//! Predicates, priorities and slashes of routes; splits over upstreams, and what sticks to one of them.

use crate::routes::{naming, table};
use crate::support::client::post;
use crate::support::foreign::{curl, curl_trust, nginx, url};
use crate::support::gateway::run;
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, free_port, temp_dir, tls};
use std::collections::HashMap;
use std::time::Instant;

/// What a request with these field lines is answered: the body, or the status where that is not 200.
fn asked(gateway: &Gateway, path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let answer = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    if answer.status == 200 { answer.text() } else { answer.status.to_string() }
}

/// All requests that were not answered as expected.
fn ask_all(gateway: &Gateway, cases: &[(&str, &[&str], &str)]) {
    let mut wrong = Vec::new();
    for (path, lines, expected) in cases {
        let got = asked(gateway, path, lines);
        if got != *expected {
            wrong.push(format!("{path} {lines:.80?}: {got} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_guarded_path_is_guarded_in_every_spelling_or_refused() {
    let guarded = |path: &str| {
        format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]
filters: {{ office: {{ ip: {{ allow: [10.0.0.0/8] }} }} }}
routes:
  - {{ match: {{ path: '/{{*r}}' }}, respond: {{ body: open }} }}
  - {{ match: {{ path: '{path}' }}, filters: [office], respond: {{ body: secret }} }}
admin: off
"
        )
    };
    let file = temp_dir("fb2").join("gateway.yaml");
    for (path, remedy) in [
        ("/%c3%a4dmin/{*r}", "write `%C3%A4dmin`"),
        ("/%61pi", "write `api`"),
        ("/api/*", "write `{*rest}`"),
        ("/api/:id", "write `{id}`"),
        ("/a%2fb", "write `a%2Fb`"),
        ("/a%2Fb", "no listener lets %2F and %5C into a path"),
    ] {
        std::fs::write(&file, guarded(path)).unwrap();
        let (code, _, complaint) = run(&["check", "-c", file.to_str().unwrap()]);
        assert!(code == 1 && complaint.contains(remedy), "{path}: {code} {complaint}");
    }
    let gateway =
        naming(&[("any", "path: '/{*r}'"), ("admin", "path: '/%C3%A4dmin/{*r}'"), ("api", "path: /api/%7Bx%7D")]);
    ask_all(
        &gateway.start(),
        &[
            ("/%C3%A4dmin/1", &[], "admin"),
            ("/%c3%a4dmin/1", &[], "admin"),
            ("/%c3%a4%64min/1", &[], "admin"),
            ("/%61pi/%7bx%7D", &[], "api"),
            ("/other", &[], "any"),
        ],
    );
}

#[test]
fn fields_cookies_and_queries_choose_the_route() {
    let gateway = naming(&[
        ("plain", "path: /a"),
        ("there", "path: /a, headers: { X-Beta: present }"),
        ("version", "path: /a, headers: { x-version: { equals: [v2, v3] } }"),
        ("agent", "path: /a, headers: { user-agent: { regex: '(?i)curl/[0-9]+' } }"),
        ("canary", "path: /a, cookies: { canary: { prefix: yes } }"),
        ("quoted", "path: /a, cookies: { q: { equals: '\"v\"' } }"),
        ("query", "path: /a, query: { q: { equals: 'a b/c' } }"),
        ("nul", r#"path: /a, query: { "k e": { equals: "\0" } }"#),
        ("both", "path: /a, headers: { x-beta: present }, query: { debug: present }"),
        ("alone", "path: /absent, headers: { authorization: absent }"),
    ])
    .start();
    ask_all(
        &gateway,
        &[
            ("/a", &[], "plain"),
            ("/a", &["x-bEtA:"], "there"),
            ("/a", &["X_Beta: 1"], "there"), // to some upstreams it is the same name
            ("/a", &["X-Version: v2"], "version"),
            ("/a", &["X-Version: V2"], "plain"),
            ("/a", &["X-Version: v1", "x-VERSION: v3"], "version"), // any of the values
            ("/a", &["X-Version: v1, v3"], "plain"),                // a value is not cut
            ("/a", &["User-Agent: a CURL/8"], "agent"),
            ("/a", &["Cookie: a=1; canary=yes-1"], "canary"),
            ("/a", &["Cookie: a=1", "cookie: canary=yes"], "canary"),
            ("/a", &["Cookie: canary=no; canary=yes"], "canary"),
            ("/a", &["Cookie: Canary=yes"], "plain"),
            ("/a", &["Cookie: xcanary=yes; canary"], "plain"),
            ("/a", &["Cookie: q=\"v\""], "quoted"),
            ("/a", &["Cookie: q=v"], "plain"),
            ("/a?q=a+b/c", &[], "query"),
            ("/a?x&%71=%61%20b%2Fc", &[], "query"),
            ("/a?q=a%2520b/c", &[], "plain"),
            ("/a?Q=a+b/c", &[], "plain"),
            ("/a?k%20e=%00", &[], "nul"),
            ("/a?k+e=", &[], "plain"),
            ("/a?x=1;debug=1", &["X-Beta: 1"], "there"), // `;` separates nothing
            ("/a?debug", &["X-Beta: 1"], "both"),        // more predicates come first
            ("/a?debug=", &[], "plain"),
            ("/absent", &[], "alone"),
            ("/absent", &["Authorization: x"], "404"),
        ],
    );
}

#[test]
fn what_a_client_claims_of_its_way_chooses_no_route() {
    let routes = || {
        naming(&[
            ("anyone", "path: /p"),
            ("office", "path: /p, headers: { x-forwarded-for: { prefix: '10.' } }"),
            ("secure", "path: /p, headers: { x-forwarded-proto: { equals: https } }"),
            ("certified", "path: /p, headers: { client-cert: present }"),
            ("traced", "path: /p, headers: { x-request-id: { prefix: trace- } }"),
            ("upgrades", "path: /p, headers: { upgrade: present }"), // hop-by-hop, and no claim
        ])
    };
    let (office, twin) = ("X-Forwarded-For: 10.9.9.9", "X_Forwarded_For: 10.9.9.9");
    let claims = [office, "x-forwarded-proto: https", "Client-Cert: :YQ==:", "X-Request-Id: trace-1"];
    let stranger = routes().start();
    for claim in claims.into_iter().chain([twin, "X_Forwarded-Proto: https", "client_cert: :YQ==:"]) {
        assert_eq!(asked(&stranger, "/p", &[claim]), "anyone", "{claim}");
    }
    assert_eq!(asked(&stranger, "/p", &["Upgrade: h2c"]), "upgrades");
    // Of a trusted proxy all of this is believed, but for names that are not as it writes them.
    let proxy = routes().top("trusted_proxies: [127.0.0.1]").start();
    for (claim, route) in claims.into_iter().zip(["office", "secure", "certified", "traced"]) {
        assert_eq!(asked(&proxy, "/p", &[claim]), route, "{claim}");
    }
    for claim in [twin, "X_Forwarded-Proto: https", "client_cert: :YQ==:"] {
        assert_eq!(asked(&proxy, "/p", &["X-Forwarded-For: 203.0.113.5", claim]), "anyone", "{claim}");
    }
    // One that speaks Forwarded lets through what its client says in the others.
    let forwards = routes().top("trusted_proxies: [127.0.0.1]").top("forwarded: forwarded").start();
    assert_eq!(asked(&forwards, "/p", &["Forwarded: for=203.0.113.5", office]), "anyone");
}

#[test]
fn what_fails_by_its_method_alone_is_405_and_all_else_404() {
    let gateway = naming(&[
        ("put", "path: /a, methods: [PUT], headers: { x-a: present }"),
        ("get", "path: /a, methods: [GET], headers: { x-b: present }"),
        ("rest", "path: '/a/{*rest}', methods: [DELETE]"),
    ])
    .start();
    let ask = |method: &str, field: &str| {
        gateway.ask(format!("{method} /a HTTP/1.1\r\nHost: a\r\n{field}: 1\r\nContent-Length: 0\r\n\r\n"))
    };
    assert_eq!((ask("PUT", "x-a").text(), ask("GET", "x-b").text()), ("put".into(), "get".into()));
    let mut client = Client::connect(&gateway);
    client.send("HEAD /a HTTP/1.1\r\nHost: a\r\nx-b: 1\r\n\r\n");
    assert_eq!(client.response_to_head().status, 200, "where GET is, HEAD is");
    client.send("HEAD /a HTTP/1.1\r\nHost: a\r\nx-a: 1\r\n\r\n");
    assert_eq!(client.response_to_head().fields.get("allow"), Some("DELETE, PUT"));
    let answer = ask("GET", "x-a");
    answer.is_gateways_own(405);
    assert_eq!(answer.fields.get("allow"), Some("DELETE, PUT"), "that of x-b does not count");
    let gateway = naming(&[("put", "path: /a, methods: [PUT], headers: { x-a: present }")]).start();
    assert_eq!(asked(&gateway, "/a", &["x-a: 1"]), "405");
    assert_eq!(asked(&gateway, "/a", &[]), "404");
}

#[test]
fn a_higher_priority_comes_before_the_more_specific_path_but_not_before_the_host() {
    let gateway = naming(&[
        ("exact", "path: /a/b"),
        ("high", "path: '/a/{*rest}', priority: 10, query: { x: present }"),
        ("low", "path: /a/c, priority: -1"),
        ("rest", "path: '/{*rest}'"),
        ("host", "host: h.test, path: '/a/{*rest}', priority: -5, methods: [GET]"),
    ])
    .start();
    table(
        &gateway,
        &[
            ("a", "/a/b", "exact"),
            ("a", "/a/b?x", "high"),
            ("a", "/a/c", "rest"),
            ("a", "/a/c?x", "high"),
            ("h.test", "/a/b?x", "host"),
            ("h.test", "/b", "rest"),
        ],
    );
}

#[test]
fn a_slash_at_the_end_is_another_path_the_same_or_one_to_be_sent_to() {
    let upstream = Upstream::says("ok");
    let gateway = naming(&[
        ("strict", "path: /strict"),
        ("same", "path: /same, trailing_slash: match"),
        ("same2", "path: '/same2/{id}/', trailing_slash: match"),
        ("without", "path: '/to/{id}', trailing_slash: redirect"),
        ("with", "path: /with/, trailing_slash: redirect, methods: [GET]"),
        ("taken", "path: /taken, trailing_slash: redirect"),
        ("other", "path: /taken/"),
        ("double", "path: '//{x}', trailing_slash: redirect"),
        ("beta", "path: /beta, trailing_slash: redirect, headers: { x: present }"),
    ])
    .upstream("u", &[&upstream], "")
    .route("match: { path: /up, trailing_slash: match }, forward: { upstream: u }")
    .start();
    table(
        &gateway,
        &[
            ("a", "/strict", "strict"),
            ("a", "/strict/", "404"),
            ("a", "/same", "same"),
            ("a", "/same/", "same"),
            ("a", "/same//", "404"),
            ("a", "/same2/7", "same2"),
            ("a", "/same2/7/", "same2"),
            ("a", "/same2/", "404"),
            ("a", "/to/7", "without"),
            ("a", "/to/", "404"),
            ("a", "/with/", "with"),
            ("a", "/with//", "404"),
            ("a", "/taken", "taken"),
            ("a", "/taken/", "other"),
            ("a", "//evil.test", "double"),
            ("a", "//evil.test/", "404"), // no location that browsers take for another host
            ("a", "/beta/", "404"),
        ],
    );
    for (path, location) in [
        ("/to/7/", "/to/7"),
        ("/to/7/?a=/x&b=%2F", "/to/7?a=/x&b=%2F"),
        ("/with", "/with/"),
        ("/with?", "/with/?"),
        ("/to/evil.test%0d%0aX:1/", "/to/evil.test%0D%0AX:1"),
    ] {
        let answer = gateway.get(path);
        assert_eq!((answer.status, answer.fields.get("location")), (308, Some(location)), "{path}");
    }
    assert_eq!(gateway.ask(post("/to/7/", "body")).status, 308, "308 keeps the method");
    assert_eq!(gateway.ask(post("/with", "body")).status, 404, "GET alone is known there");
    assert_eq!(gateway.log_of("/to/7/")["route"], "without");
    for path in ["/up", "/up/"] {
        assert_eq!(gateway.get(path).status, 200);
        assert_eq!(upstream.heads().pop().unwrap().target, path, "forwarded as it came");
    }
    // A client that follows, as curl does.
    let got = curl(
        &[&curl_trust()[..], &["-L", "-w", " %{num_redirects} %{url_effective}", &(url(gateway.addr) + "/to/9/?q=1")]]
            .concat(),
    );
    assert!(got.starts_with("without 1 ") && got.ends_with("/to/9?q=1"), "{got}");
}

#[test]
fn a_preflight_finds_the_route_of_the_fields_that_it_announces() {
    let gateway = Setup::new()
        .top("filters:\n  one: { cors: { origins: ['https://one.test'], headers: [x-version] } }\n  two: { cors: { origins: ['https://two.test'], headers: [x-version] } }")
        .route("name: one, match: { path: /a, methods: [GET] }, filters: [one], respond: {}")
        .route("name: two, match: { path: /a, methods: [GET], headers: { x-version: { equals: v2 } } }, filters: [two], respond: {}")
        .start();
    let preflight = |origin: &str, headers: &str| {
        let answer = gateway.ask(format!(
            "OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\n{headers}\r\n"
        ));
        answer.fields.get("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(preflight("https://one.test", "").as_deref(), Some("https://one.test"));
    assert_eq!(preflight("https://two.test", ""), None);
    let announces = "Access-Control-Request-Headers: accept, X-Version\r\n";
    assert_eq!(preflight("https://two.test", announces).as_deref(), Some("https://two.test"));
    assert_eq!(preflight("https://one.test", announces), None);
    // However many predicates were asked about before.
    let others: Vec<String> =
        (0..5).map(|i| format!("a{i}: present, b{i}: present, c{i}: present, d{i}: present")).collect();
    let matches = |i: usize, keys: &str| format!("path: /a, methods: [GET], headers: {{ {keys}, z{i}: present }}");
    let setup = Setup::new().top("filters: { two: { cors: { origins: ['https://two.test'] } } }");
    let setup = (0..5).fold(setup, |setup, i| {
        setup.route(&format!("name: r{i}, match: {{ {} }}, respond: {{}}", matches(i, &others[i])))
    });
    let gateway = setup
        .route("name: two, match: { path: /a, methods: [GET], headers: { x-version: { equals: v2 }, x-not: absent } }, filters: [two], respond: {}")
        .route("name: one, match: { path: /a, methods: [GET] }, respond: {}")
        .start();
    let allowed = |headers: &str| {
        let answer = gateway.ask(format!(
            "OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: https://two.test\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: {headers}\r\n\r\n"
        ));
        answer.fields.has("access-control-allow-origin")
    };
    let all = "a0,b0,c0,d0, a1,b1,c1,d1, a2,b2,c2,d2, a3,b3,c3,d3, a4,b4,c4,d4";
    assert!(allowed(&format!("{all}, X_Version")) && !allowed(all));
    assert!(!allowed(&format!("{all}, x-version, x-not")));
}

#[test]
fn hostile_requests_have_named_outcomes_and_block_no_core() {
    // The most that is let in: an automaton as large as it may be, over and over.
    let worst: Vec<(String, String)> = (0..16)
        .map(|i| (format!("r{i}"), format!("path: /r, headers: {{ x: {{ regex: '(?-u)a.{{11}}b{i}$$' }} }}")))
        .collect();
    let worst: Vec<(&str, &str)> = worst.iter().map(|(name, matches)| (name.as_str(), matches.as_str())).collect();
    let mut routes = vec![
        ("cookie", "path: /a, cookies: { last: { equals: z } }"),
        ("query", "path: /a, query: { last: { equals: z } }"),
        ("plain", "path: /a"),
        ("no", "path: /r"),
    ];
    routes.extend(worst);
    let mut gateway = naming(&routes).listener("bounds: { head: 64KiB, target: 48KiB }").start();
    let long = format!("Cookie: a={}; last=z", "x".repeat(8 << 10));
    let many = format!("Cookie: {}last=z", "a=b; ".repeat(4000));
    let hostile = format!("x: {}", "acab".repeat(8 << 10));
    let cases: [(String, &[&str], &str); 10] = [
        ("/a".into(), &[&long], "cookie"),
        ("/a".into(), &[&many], "cookie"),
        ("/a".into(), &["Cookie: ;;;=;==;last", "Cookie: last=\"z\"", "Cookie:"], "plain"),
        (format!("/a?{}last=z", "a&".repeat(10_000)), &[], "query"),
        (format!("/a?{}", "last=%7B&".repeat(5_000)), &[], "plain"),
        ("/a?last=z%00".into(), &[], "plain"),
        ("/a?last=%7A".into(), &[], "query"),
        ("/a?last=%7".into(), &[], "400"),
        ("/a?&&==&=last&last".into(), &[], "plain"),
        ("/r".into(), &[&hostile], "no"),
    ];
    for (path, lines, expected) in &cases {
        let begin = Instant::now();
        assert_eq!(asked(&gateway, path, lines), *expected, "{path:.40} {lines:.40?}");
        // In a debug build on a busy machine; one engine that backtracks or is rebuilt for each byte takes seconds.
        assert!(begin.elapsed().as_millis() < 1000, "{path:.40} {:?}", begin.elapsed());
    }
    // As many predicates as one pattern may have, over as many pairs as are let in: read for each of them, it took 140 ms
    // in a release build and seconds in this one.
    let many: Vec<(String, String)> = (0..256)
        .map(|i| {
            let of = |kind: &str| (0..8).map(|k| format!("{kind}{k}: absent, ")).collect::<String>();
            let last = format!("z: {{ equals: v{i} }}");
            (format!("m{i}"), format!("path: /m, query: {{ {}{last} }}, cookies: {{ {}{last} }}", of("q"), of("c")))
        })
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, matches)| (name.as_str(), matches.as_str())).collect();
    let full = naming(&many).listener("bounds: { head: 64KiB, target: 16KiB }").start();
    let cookies = format!("Cookie: {}z=v255", "n=;".repeat(15_000));
    let begin = Instant::now();
    assert_eq!(asked(&full, &format!("/m?{}z=v255", "x&".repeat(3900)), &[&cookies]), "m255");
    assert!(begin.elapsed().as_millis() < 1000, "{:?}", begin.elapsed());
    let strict = naming(&[("query", "path: /a, query: { last: present }")]).start();
    let answer = strict.get(&format!("/a?{}last", "a&".repeat(10_000)));
    assert_eq!(answer.status, 414, "beyond the bound of targets nothing is looked at");
    gateway.is_well();
}

#[test]
fn regexes_that_explode_and_conflicts_are_refused_at_the_start() {
    for regex in ["(a{100}){100}", "[01]*1[01]{20}", "(?:a?){300}a{300}"] {
        let said = naming(&[("a", &format!("path: /a, headers: {{ x: {{ regex: '{regex}' }} }}"))]).refused();
        assert!(said.contains("is a regular expression that explodes"), "{regex}: {said}");
    }
    let said =
        naming(&[("one", "path: /a, query: { q: present }"), ("other", "path: /a, query: { q: present }")]).refused();
    assert!(said.contains("see the route `one` on line "), "{said}");
}

/// Two upstreams that say their names.
fn two(keys: &str) -> (Upstream, Upstream, Gateway) {
    let (old, next) = (Upstream::says("old"), Upstream::says("next"));
    let gateway = Setup::new()
        .upstream("old", &[&old], "")
        .upstream("next", &[&next], "")
        .upstream("none", &[&next], "")
        .route(&format!("name: r, match: {{ path: '/{{*rest}}' }}, forward: {{ {keys} }}"))
        .start();
    (old, next, gateway)
}

#[test]
fn a_split_follows_its_weights_and_is_told_in_log_and_metrics() {
    let (_old, _next, gateway) = two("split: { old: 75, next: 25, none: 0 }");
    let mut client = Client::connect(&gateway);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for i in 0..400 {
        let said = client.get(&format!("/{i}")).text();
        if i < 20 {
            assert_eq!(gateway.log_of(&format!("/{i}"))["upstream"], said.as_str());
        }
        *counts.entry(said).or_default() += 1;
    }
    // Five standard deviations around 300.
    assert!((257..=343).contains(&counts["old"]), "{counts:?}");
    let of = |upstream: &str| gateway.metrics().sum("ringway_upstream_requests_total", &[("upstream", upstream)]);
    assert_eq!((of("old") as usize, of("next") as usize), (counts["old"], counts["next"]));
    assert_eq!(of("none"), 0.0);
}

#[test]
fn a_cookie_keeps_a_client_with_one_upstream_and_names_nothing() {
    let (_old, _next, gateway) = two("split: { old: 50, next: 50 }, sticky: { cookie: v, max_age: 1h }");
    let secure = if tls::is_on() { "; Secure" } else { "" };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for _ in 0..40 {
        let mut client = Client::connect(&gateway);
        let answer = client.get("/");
        let cookie = answer.fields.get("set-cookie").unwrap().to_owned();
        let (value, attributes) = cookie.split_once(';').unwrap();
        assert_eq!(format!(";{attributes}"), format!("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600{secure}"));
        assert!(value.strip_prefix("v=").is_some_and(|v| v.len() == 16 && v.bytes().all(|b| b.is_ascii_hexdigit())));
        for _ in 0..5 {
            let again = client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; {value}\r\n\r\n"));
            assert_eq!((again.text(), again.fields.has("set-cookie")), (answer.text(), false));
        }
        *seen.entry(answer.text()).or_default() += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    // What a client makes up is hashed as any value is: names and numbers of upstreams mean nothing.
    let mut forged: HashMap<String, usize> = HashMap::new();
    for i in 0..40 {
        for name in ["old", "next"] {
            let answer = gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: v={name}{i}\r\n\r\n"));
            assert!(!answer.fields.has("set-cookie"));
            *forged.entry(format!("{name}>{}", answer.text())).or_default() += 1;
        }
    }
    assert_eq!(forged.len(), 4, "{forged:?}");
    let junk = format!("v={}", "\"%00,".repeat(1600));
    assert_eq!(gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {junk}\r\n\r\n")).status, 200);
    assert!(gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nCookie: v=\r\n\r\n").fields.has("set-cookie"), "empty is none");
}

/// nginx as a cache in front that is told to store what sets cookies, as CDNs do where their rules say "cache everything".
#[test]
fn no_shared_cache_gives_a_clients_cookie_to_another() {
    let says =
        |fields: &str| Upstream::start(answers(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nfresh")));
    for (fields, keys, expected) in [
        ("Cache-Control: public, max-age=60\r\n", "", Some("private, max-age=60")),
        ("Cache-Control: s-maxage=600\r\nCache-Control: max-age=60\r\n", "", Some("private, max-age=60")),
        ("Cache-Control: max-age=60\r\nCDN-Cache-Control: max-age=99\r\nSurrogate-Control: max-age=99\r\n", "", None),
        ("Expires: Thu, 01 Dec 2099 16:00:00 GMT\r\n", "", Some("private")),
        ("Cache-Control: public, max-age=60\r\n", ", cache_control: keep", Some("public, max-age=60")),
    ] {
        let upstream = says(fields);
        let gateway = Setup::new()
            .upstream("up", &[&upstream], "")
            .route(&format!(
                r#"match: {{ path: "/{{*rest}}" }}, forward: {{ split: {{ up: 1 }}, sticky: {{ cookie: v{keys} }} }}"#
            ))
            .start();
        let answer = gateway.get("/");
        assert_eq!(
            answer.fields.all("cache-control"),
            expected.map_or(vec!["max-age=60", "private"], |one| vec![one]),
            "{fields}"
        );
        let for_networks = ["cdn-cache-control", "surrogate-control"].map(|name| answer.fields.has(name));
        assert_eq!(for_networks, [false; 2], "{fields}");
        let cookie = answer.fields.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let again = gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
        let lines = fields.lines().map(|line| line.split_once(": ").unwrap());
        assert!(lines.clone().all(|(name, value)| again.fields.all(name).contains(&value)), "{fields}");
        assert!(!again.fields.all("cache-control").contains(&"private") && !again.fields.has("set-cookie"));

        let cache = nginx(&format!(
            "proxy_cache_path @dir@/cache keys_zone=c:1m;\nserver {{ listen @listen@; location / {{ proxy_pass {}; proxy_cache c; \
             proxy_ignore_headers Set-Cookie; add_header X-Cache $upstream_cache_status; }} }}",
            url(gateway.addr)
        ));
        let ask = |more: &str| {
            let answer = Client::to(cache.addr).ask(format!("GET /page HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
            (answer.fields.get("x-cache").unwrap().to_owned(), answer.fields.get("set-cookie").map(str::to_owned))
        };
        let (first, second) = (ask(""), ask(""));
        assert_eq!((first.0.as_str(), first.1.is_some(), second.1.is_some()), ("MISS", true, true), "{fields}");
        if keys.is_empty() {
            assert!(second.0 == "MISS" && first.1 != second.1, "{fields}: {second:?}");
            assert_eq!(ask(&format!("Cookie: {cookie}\r\n")), ("MISS".to_owned(), None));
            assert_eq!(ask(""), ("HIT".to_owned(), None), "{fields}: what no cookie came with is for all");
        } else {
            assert_eq!(second, ("HIT".to_owned(), first.1), "as the operator wants it");
        }
    }
}

#[test]
fn what_an_operator_says_of_caches_counts_too() {
    let upstream = Upstream::says("up");
    for (edits, expected) in [
        ("set: { cache-control: \"public, max-age=5\", cdn-cache-control: max-age=9 }", vec!["private, max-age=5"]),
        ("set: { cache-control: no-store }", vec!["no-store"]),
        ("remove: [cache-control]", vec!["private"]),
    ] {
        let gateway = Setup::new()
            .upstream("up", &[&upstream], "")
            .route(&format!(
                r#"match: {{ path: "/{{*rest}}" }}, forward: {{ split: {{ up: 1 }}, sticky: {{ cookie: v }}, response_headers: {{ {edits} }} }}"#
            ))
            .start();
        let answer = gateway.get("/");
        assert_eq!(answer.fields.all("cache-control"), expected, "{edits}");
        assert!(!answer.fields.has("cdn-cache-control") && answer.fields.has("set-cookie"));
    }
}

#[test]
fn an_upstream_that_does_not_answer_keeps_no_client() {
    let port = free_port();
    let gateway = Setup::new()
        .upstream_at("dead", &format!("[\"127.0.0.1:{port}\"]"), "")
        .route(r#"match: { path: "/{*rest}" }, forward: { split: { dead: 1 }, sticky: { cookie: v } }"#)
        .start();
    for _ in 0..2 {
        let answer = gateway.get("/");
        assert_eq!((answer.status, answer.fields.has("set-cookie")), (503, false));
    }
}

#[test]
fn an_answer_of_the_gateway_s_own_keeps_no_client_though_the_upstream_has_said_something() {
    for said in [
        "101 X\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
        "200 OK\r\nContent-Length: z\r\n\r\n",
    ] {
        let upstream = Upstream::start(answers(format!("HTTP/1.1 {said}")));
        let gateway = Setup::new()
            .upstream("u", &[&upstream], "")
            .route(r#"match: { path: "/{*rest}" }, forward: { split: { u: 1 }, sticky: { cookie: v } }"#)
            .start();
        let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!((answer.status, answer.fields.has("set-cookie")), (502, false), "{said}");
    }
}

#[test]
fn a_proxy_that_writes_the_scheme_in_capitals_gets_a_secure_cookie() {
    let up = Upstream::says("up");
    let gateway = Setup::new()
        .upstream("up", &[&up], "")
        .top("trusted_proxies: [127.0.0.1/32]")
        .route(r#"match: { path: "/{*rest}" }, forward: { split: { up: 1 }, sticky: { cookie: v } }"#)
        .start();
    for (scheme, is_secure) in [("https", true), ("HTTPS", true), ("https, http", true), ("http", false)] {
        let answer = gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: {scheme}\r\n\r\n"));
        let cookie = answer.fields.get("set-cookie").unwrap();
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{scheme}: {cookie}");
    }
}

#[test]
fn curl_with_a_cookie_jar_sticks() {
    let (_old, _next, gateway) = two("split: { old: 50, next: 50 }, sticky: { cookie: v }");
    let jar = temp_dir("jar").join("cookies").display().to_string();
    let target = url(gateway.addr) + "/";
    let ask = || curl(&[&curl_trust()[..], &["-b", &jar, "-c", &jar, &target]].concat());
    let first = ask();
    assert!((0..15).all(|_| ask() == first), "{first}");
}

#[test]
fn a_field_keeps_a_user_with_one_upstream_on_every_worker() {
    let (old, next) = (Upstream::says("old"), Upstream::says("next"));
    let gateway = Setup::new()
        .workers("2")
        .upstream("old", &[&old], "")
        .upstream("next", &[&next], "")
        .route("match: { path: '/{*rest}' }, forward: { split: { old: 50, next: 50 }, sticky: { header: X-User } }")
        .start();
    let ask = |user: &str| gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nx-user: {user}\r\n\r\n")).text();
    let users: Vec<String> = (0..30).map(|i| format!("user-{i}")).collect();
    let first: Vec<String> = users.iter().map(|user| ask(user)).collect();
    assert!(first.contains(&"old".to_owned()) && first.contains(&"next".to_owned()));
    for _ in 0..3 {
        assert_eq!(users.iter().map(|user| ask(user)).collect::<Vec<_>>(), first);
    }
    let without: Vec<String> = (0..60).map(|_| gateway.get("/").text()).collect();
    assert!(without.contains(&"old".to_owned()) && without.contains(&"next".to_owned()), "by chance");
}

#[test]
fn what_the_upstream_gets_decides_and_not_what_the_client_says() {
    let (old, next) = (Upstream::says("old"), Upstream::says("next"));
    let gateway = Setup::new()
        .top(
            "filters: { \
             who: { api_key: { header: x-key, principal_header: x-user, keys: [{ owner: o, sha256: 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 }] } }, \
             fixed: { request_headers: { set: { x-user: fixed } } }, \
             old_name: { request_headers: { rename: { x-old: x-user } } } }",
        )
        .upstream("old", &[&old], "")
        .upstream("next", &[&next], "")
        .upstream("hashed", &[&old, &next], "balance: { hash: { header: x-user }, max_load: none }")
        .route("match: { path: /who }, filters: [who], forward: { split: { old: 1, next: 1 }, sticky: { header: x-user } }")
        .route("match: { path: /fixed }, filters: [fixed], forward: { split: { old: 1, next: 1 }, sticky: { header: x-user } }")
        .route("match: { path: /renamed }, filters: [old_name], forward: { split: { old: 1, next: 1 }, sticky: { header: x-user } }")
        .route("match: { path: /own }, forward: { split: { old: 1, next: 1 }, sticky: { header: x-user }, request_headers: { set: { x-user: \"{header.x-old}\" } } }")
        .route("match: { path: /hash/who }, filters: [who], forward: { upstream: hashed }")
        .route("match: { path: /hash/fixed }, filters: [fixed], forward: { upstream: hashed }")
        .route("match: { path: /hash/own }, forward: { upstream: hashed, request_headers: { set: { x-user: q } } }")
        .start();
    let mut client = Client::connect(&gateway);
    for path in ["/who", "/fixed", "/renamed", "/own", "/hash/who", "/hash/fixed", "/hash/own"] {
        let says = (0..24).map(|n| {
            let claim = if n % 2 == 0 { format!("X-User: {n}\r\n") } else { String::new() };
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: key\r\nX-Old: one\r\n{claim}\r\n");
            client.ask(head).text()
        });
        let says: Vec<String> = says.collect();
        assert!(says.iter().all(|text| *text == says[0]), "{path}: {says:?}");
    }
}

#[test]
fn a_field_that_the_gateway_writes_keeps_a_user_and_not_what_it_says_there() {
    let (_old, _next, gateway) = two("split: { old: 50, next: 50 }, sticky: { header: X-User }, \
         request_headers: { rename: { x-session: x-user } }");
    let ask = |lines: &str| gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).text();
    let kept: Vec<String> = (0..40).map(|i| ask(&format!("X-Session: s\r\nX-User: {i}\r\n"))).collect();
    assert!(kept.iter().all(|said| *said == kept[0]), "{kept:?}");
    let claimed: Vec<String> = (0..60).map(|_| ask("X-User: s\r\n")).collect();
    assert!(claimed.contains(&"old".to_owned()) && claimed.contains(&"next".to_owned()), "by chance");
}

#[test]
fn a_retry_stays_with_the_upstream_that_was_chosen() {
    // It answers once, and closes whatever connection it has answered on as the next request comes.
    let flaky = Upstream::start(|conn| {
        if conn.request().is_some() && conn.write(crate::support::message::ok("flaky")) {
            let _ = conn.head();
        }
    });
    let other = Upstream::says("other");
    let gateway = Setup::new()
        .upstream("flaky", &[&flaky], "")
        .upstream("other", &[&other], "")
        .route("match: { path: '/{*rest}' }, forward: { split: { flaky: 50, other: 50 }, sticky: { header: x-user } }")
        .start();
    let ask = |user: usize| gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nx-user: {user}\r\n\r\n"));
    let user = (0..).find(|user| ask(*user).text() == "flaky").unwrap();
    for _ in 0..5 {
        let answer = ask(user);
        assert_eq!((answer.status, answer.text().as_str()), (200, "flaky"));
    }
    assert!(flaky.connections() > 3, "there were retries");
}
