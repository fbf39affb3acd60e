//! How request and answer differ between client and upstream: path, query, fields, Location, cookies, who calls.

use crate::support::foreign::{curl, curl_trust, nginx, url};
use crate::support::message::{Request, ok};
use crate::support::misbehave::{answers, answers_and_closes};
use crate::support::{Client, Gateway, Setup, Upstream, tls};

/// A gateway with one route for everything, with these keys of `forward`.
fn forwards(upstream: &Upstream, keys: &str) -> Gateway {
    Setup::new().upstream("u", &[upstream], "").forward_path("/{*rest}", keys).start()
}

/// What the upstream sees of each of these targets, asked one after the other.
fn targets(keys: &str, cases: &[(&str, &str)]) {
    let upstream = Upstream::says("");
    let gateway = forwards(&upstream, keys);
    let mut client = Client::connect(&gateway);
    for (asked, _) in cases {
        assert_eq!(client.get(asked).status, 200, "{asked}");
    }
    upstream.reparse();
    let seen: Vec<String> = upstream.requests().iter().map(|request| request.target.clone()).collect();
    let expected: Vec<String> = cases.iter().map(|(_, seen)| (*seen).to_string()).collect();
    assert_eq!(seen, expected);
}

/// The last request that the upstream has seen.
fn last(upstream: &Upstream) -> Request {
    upstream.reparse();
    upstream.requests().pop().unwrap()
}

#[test]
fn a_regex_makes_the_path_of_its_groups_and_other_paths_stay() {
    targets(
        r#"rewrite: { regex: { match: "^/old/([0-9]+)/(?<rest>.*)", to: "/new/{1}/{rest}" } }"#,
        &[
            ("/old/7/a/b?q=/old/1/", "/new/7/a/b?q=/old/1/"),
            ("/old/7/", "/new/7/"),
            ("/old/x/a", "/old/x/a"),
            ("/x/old/7/a", "/x/old/7/a"),
            ("/old/./7/%61", "/new/7/a"), // what is matched is the normal form
            ("/old/7/a%20b%3Bc", "/new/7/a%20b%3Bc"),
        ],
    );
}

#[test]
fn no_path_that_is_put_together_leads_elsewhere() {
    targets(
        r#"rewrite: { regex: { match: "/r(.)([^/]*)/(.*)", to: "/{1}{2}/{3}" } }"#,
        &[
            ("/r..x/../y", "/y"), // removed before anything is matched
            ("/r../etc", "/%252E%252E/etc"),
            ("/r.%2e/etc", "/%252E%252E/etc"),
            ("/r//evil.example/x", "/evil.example/x"),
            ("/r%2e/x", "/%252E/x"),
        ],
    );
    targets(
        r#"rewrite: { regex: { match: "/go(/.*)", to: "/{1}" } }"#,
        &[("/go//evil.example/x", "/evil.example/x"), ("/go/x", "/x")],
    );
    targets(r#"rewrite: { path: "/{rest}" }"#, &[("//evil.example/x", "/evil.example/x")]);
    targets(
        r#"rewrite: { regex: { match: "/c(.*)%(.*)", to: "/{1}{2}" } }"#,
        &[("/ca%0d%0aX:%20y", "/a%0D%0AX:20y"), ("/c%20", "/20")],
    );
}

#[test]
fn no_dot_segment_comes_about_beside_a_slash_that_is_kept() {
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .listener("paths: { encoded_slashes: keep }")
        .upstream("u", &[&upstream], "")
        .forward_path("/rx/{*rest}", r#"rewrite: { regex: { match: "/rx/(.*?)x(.*)", to: "/files/{1}{2}" } }"#)
        .forward_path("/t/{name}", r#"rewrite: { path: "/files/{query.d}{path.name}" }"#)
        .forward_path("/d/{name}", r#"rewrite: { path: "/files/.{path.name}" }"#)
        .start();
    let mut client = Client::connect(&gateway);
    for (asked, seen) in [
        ("/rx/.x.%2fetc%2fpasswd", "/files/%252E%252E%2Fetc%2Fpasswd"),
        ("/rx/a%2f.x.", "/files/a%2F%252E%252E"),
        ("/t/%2Fetc?d=..", "/files/%252E%252E%2Fetc?d=.."),
        ("/t/%5Cetc?d=%2e.", "/files/%252E%252E%5Cetc?d=%2e."),
        ("/d/%2e%5cetc", "/files/%252E%252E%5Cetc"),
        ("/d/%2fetc", "/files/.%2Fetc"), // it leads nowhere, and clients may send it as well
        ("/t/a%2fb", "/files/a%2Fb"),
    ] {
        assert_eq!(client.get(asked).status, 200, "{asked}");
        assert_eq!(last(&upstream).target, seen, "{asked}");
    }
}

#[test]
fn a_target_that_grows_too_long_is_414_and_costs_no_connection() {
    let upstream = Upstream::says("");
    let to = format!("/{}", "{0}".repeat(8));
    let gateway = forwards(&upstream, &format!(r#"rewrite: {{ regex: {{ match: "/x.*", to: "{to}" }} }}"#));
    let mut client = Client::connect(&gateway);
    assert_eq!(client.get("/a").status, 200);
    let answer = client.get(&format!("/x{}", "a".repeat(2000)));
    answer.is_gateways_own(414);
    assert_eq!(gateway.get("/a").status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_target_that_grows_too_long_asks_nobody_for_anything() {
    let (upstream, copy) = (Upstream::says(""), Upstream::says(""));
    let gone = crate::support::free_port();
    let gateway = Setup::new()
        .top("filters: { copy: { mirror: { upstream: m, unsafe_methods: true } } }")
        .upstream("u", &[&upstream], "")
        .upstream("m", &[&copy], "")
        .upstream_at("dead", &format!("[\"127.0.0.1:{gone}\"]"), "")
        .route(r#"match: { path: "/{*rest}" }, filters: [copy], forward: { upstream: u, rewrite: { add_prefix: /12345678901234567890 } }"#)
        .route(r#"match: { path: "/dead/{*rest}" }, forward: { upstream: dead, rewrite: { add_prefix: /12345678901234567890 } }"#)
        .start();
    let long = "x".repeat(8180);
    for path in ["/", "/dead/"] {
        let mut client = Client::connect(&gateway);
        client.send(format!(
            "POST {path}{long} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        let answer = client.response();
        answer.is_gateways_own(414);
        assert!(answer.interim.is_empty(), "{path}: the body is not asked for");
    }
    assert_eq!(gateway.get("/a").status, 200);
    copy.wait_requests(1);
    let metrics = gateway.metrics();
    let asked = ["u", "dead", "m"].map(|name| metrics.sum("ringway_upstream_requests_total", &[("upstream", name)]));
    assert_eq!(asked, [1.0, 0.0, 1.0]);
}

#[test]
fn a_regex_over_a_long_path_keeps_no_core() {
    let upstream = Upstream::says("");
    // Backtracking would take for ever, and what is compiled is near the bound.
    let gateway = forwards(&upstream, r#"rewrite: { regex: { match: "((a*)*b?){1,20}(x|y)(.*)", to: "/{4}" } }"#);
    let path = format!("/{}", "a".repeat(8000));
    assert_eq!(gateway.get(&path).status, 200);
    let added_us = gateway.log_of(&path)["added_us"].as_u64().unwrap();
    println!("{added_us} µs");
    assert!(added_us < 1_000_000, "{added_us} µs");
}

#[test]
fn pairs_of_the_query_are_removed_set_and_added_and_the_others_stay() {
    targets(
        r#"rewrite: { query: { set: { v: "2 &", "user id": "{header.x-user}" }, add: { tag: "{rest}" }, remove: [debug, "a b"] } }"#,
        &[
            ("/p", "/p?v=2%20%26&user%20id=&tag=p"),
            ("/p?", "/p?v=2%20%26&user%20id=&tag=p"),
            ("/p?x=%2f;/?&&y&v=1&tag=t&user+id=7", "/p?x=%2f;/?&&y&tag=t&v=2%20%26&user%20id=&tag=p"),
            ("/p?%64ebug=1&a+b&a%20b=2&debugs", "/p?debugs&v=2%20%26&user%20id=&tag=p"),
        ],
    );
    targets(
        "rewrite: { query: { remove: [k] } }",
        &[("/p?k=1", "/p"), ("/p?k=1&k&%6b=2", "/p"), ("/p?a&k", "/p?a"), ("/p?kk=1#", "/p?kk=1")]
            .map(|(asked, seen)| (asked.trim_end_matches('#'), seen)),
    );
}

#[test]
fn values_of_clients_add_no_pairs_and_no_lines() {
    let upstream = Upstream::says("");
    let gateway = forwards(
        &upstream,
        r#"rewrite: { query: { set: { u: "{header.x-user}", q: "{query.q}" } } }, request_headers: { set: { x-q: "{query.q}" }, append: { x-list: "{path.rest}" } }"#,
    );
    let request = "GET /a%0d%0aX-Evil:%201?q=1%0d%0aX-Evil:%202 HTTP/1.1\r\nHost: a\r\nX-User: a&admin=1#?%0d%0a\r\nX-List: b\r\n\r\n";
    assert_eq!(gateway.ask(request).status, 200);
    let seen = last(&upstream);
    let query = "u=a%26admin%3D1%23%3F%250d%250a&q=1%0d%0aX-Evil%3A%202";
    assert_eq!(seen.target, format!("/a%0D%0AX-Evil:%201?{query}"));
    assert_eq!(seen.fields.get("x-q"), Some("1%0d%0aX-Evil:%202"));
    assert_eq!(seen.fields.get("x-list"), Some("b, a%0D%0AX-Evil:%201"));
    assert!(!seen.fields.has("x-evil"));
}

#[test]
fn ten_thousand_pairs_and_thirty_two_names_keep_no_core() {
    let upstream = Upstream::says("");
    let names: Vec<String> = (0..32).map(|n| format!("k{n}")).collect();
    let gateway = Setup::new()
        .listener("bounds: { head: 128KiB, target: 128KiB }")
        .upstream("u", &[&upstream], "")
        .forward_path("/{*rest}", &format!("rewrite: {{ query: {{ remove: [{}] }} }}", names.join(", ")))
        .start();
    let pairs: Vec<String> = (0..10_000).map(|n| format!("k{}=1", n % 64)).collect();
    assert_eq!(gateway.get(&format!("/p?{}", pairs.join("&"))).status, 200);
    let added_us = gateway.log_of("/p")["added_us"].as_u64().unwrap();
    println!("{added_us} µs");
    assert!(added_us < 1_000_000, "{added_us} µs");
    let kept: Vec<String> = pairs.into_iter().enumerate().filter(|(n, _)| n % 64 >= 32).map(|(_, pair)| pair).collect();
    assert_eq!(last(&upstream).target, format!("/p?{}", kept.join("&")));
}

#[test]
fn a_key_of_the_query_is_neither_forwarded_nor_in_what_is_set() {
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .top("filters: { who: { api_key: { query: key, keys: [{ owner: o, sha256: 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 }] } } }")
        .upstream("u", &[&upstream], "")
        .route(r#"match: { path: "/{*rest}" }, filters: [who], forward: { upstream: u, rewrite: { query: { set: { seen: "{query.key}" }, remove: [b] } } }"#)
        .start();
    assert_eq!(gateway.get("/p?a=1&key=key&b=2&c").status, 200);
    assert_eq!(last(&upstream).target, "/p?a=1&c&seen=");
}

#[test]
fn fields_are_renamed_removed_set_appended_to_and_added_in_that_order() {
    let upstream = Upstream::start(answers(
        "HTTP/1.1 200 OK\r\nX-Old: 1\r\nx-new: theirs\r\nVary: Accept\r\nvary: Cookie\r\nX-OLD: 2\r\nContent-Length: 0\r\n\r\n",
    ));
    let gateway = forwards(
        &upstream,
        r#"request_headers: { rename: { x-legacy-user: X-User }, remove: [x-debug], set: { x-a: s }, append: { Accept-Language: de, x-a: "{client_ip}" }, add: { x-a: last } },
           response_headers: { rename: { x-old: X-New }, append: { Vary: "Origin" }, set: { x-s: "{path}" } }"#
            .replace('\n', " ")
            .as_str(),
    );
    let answer = gateway.ask(
        "GET /p HTTP/1.1\r\nHost: a\r\nX-LEGACY-USER: u\r\nx-user: forged\r\nX-Debug: 1\r\naccept-language: en\r\nAccept-Language: fr, it\r\nX-A: client\r\n\r\n",
    );
    let seen = last(&upstream).fields;
    assert_eq!(seen.get("x-user"), Some("u"));
    assert!(!seen.has("x-legacy-user") && !seen.has("x-debug"));
    assert_eq!(seen.get("accept-language"), Some("en, fr, it, de"));
    assert_eq!(seen.all("x-a"), ["s, 127.0.0.1", "last"]);
    assert_eq!(answer.fields.all("x-new"), ["1", "2"]);
    assert!(!answer.fields.has("x-old"));
    assert_eq!((answer.fields.get("vary"), answer.fields.get("x-s")), (Some("Accept, Cookie, Origin"), Some("/p")));
    // The twin with `_` is the same name, as it is to `remove`, `set` and predicates.
    gateway.ask("GET /p HTTP/1.1\r\nHost: a\r\nX_Legacy_User: twin\r\naccept_language: en\r\n\r\n");
    let seen = last(&upstream).fields;
    assert_eq!((seen.all("x-user"), seen.has("x_legacy_user")), (vec!["twin"], false));
    assert_eq!((seen.all("accept-language"), seen.has("accept_language")), (vec!["en, de"], false));
    // Without the old name the client can not say the new one either.
    for lines in ["x-user: own\r\nx_user: own", "X-Legacy-User: a\r\nConnection: x-legacy-user\r\nx-user: own"] {
        gateway.ask(format!("GET /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
        let seen = last(&upstream).fields;
        assert!(!seen.has("x-user") && !seen.has("x_user") && !seen.has("x-legacy-user"), "{lines}");
    }
}

#[test]
fn a_filter_renames_and_appends_like_a_route_and_before_it() {
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .top("filters: { mark: { request_headers: { rename: { x-a: x-b }, append: { x-list: filter } } } }")
        .upstream("u", &[&upstream], "")
        .route(r#"match: { path: "/{*rest}" }, filters: [mark], forward: { upstream: u, request_headers: { rename: { x-b: x-c }, append: { x-list: "{path.rest}" } } }"#)
        .start();
    assert_eq!(gateway.ask("GET /p HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-List: c1\r\nx-list: c2\r\n\r\n").status, 200);
    let seen = last(&upstream).fields;
    assert_eq!((seen.get("x-c"), seen.get("x-list")), (Some("1"), Some("c1, c2, filter, p")));
    assert!(!seen.has("x-a") && !seen.has("x-b"));
}

#[test]
fn a_twin_with_an_underscore_is_the_same_field_to_every_change() {
    let upstream =
        Upstream::start(answers("HTTP/1.1 200 OK\r\nX_Internal: s\r\nX-Internal: t\r\nContent-Length: 0\r\n\r\n"));
    let gateway = Setup::new()
        .top("filters: { first: { request_headers: { set: { x-user: acme, x-own: a } } } }")
        .upstream("u", &[&upstream], "")
        .route(
            r#"match: { path: "/{*rest}" }, filters: [first], forward: { upstream: u,
               request_headers: { remove: [x_user], set: { X_Own: b }, append: { x_list: c } },
               response_headers: { set: { x_internal: mine } } }"#,
        )
        .start();
    let answer = gateway.ask("GET /p HTTP/1.1\r\nHost: a\r\nX_User: root\r\nX-List: a\r\nX_List: b\r\n\r\n");
    assert_eq!((answer.fields.all("x_internal"), answer.fields.has("x-internal")), (vec!["mine"], false));
    let seen = last(&upstream).fields;
    assert!(!seen.has("x-user") && !seen.has("x_user") && !seen.has("x-own") && !seen.has("x-list"));
    assert_eq!((seen.all("x_own"), seen.all("x_list")), (vec!["b"], vec!["a, b, c"]));
}

#[test]
fn a_rename_opens_no_way_around_what_a_filter_decides() {
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .top("filters: { who: { api_key: { header: x-key, keys: [{ owner: o, sha256: 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683 }], principal_header: x-who } } }")
        .upstream("u", &[&upstream], "")
        .route(r#"match: { path: "/{*rest}" }, filters: [who], forward: { upstream: u, request_headers: { rename: { x-free: x-who } } }"#)
        .start();
    let answer = gateway
        .ask("GET /p HTTP/1.1\r\nHost: a\r\nx-key: key\r\nx-free: admin\r\nX_Who: admin\r\nConnection: x-who\r\n\r\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(last(&upstream).fields.get("x-who"), Some("o"));
}

#[test]
fn a_client_can_not_claim_under_the_new_name_what_a_service_did_not_say() {
    let says = Upstream::start(answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .top("filters: { ask: { ext_auth: { upstream: auth, path: /auth, response_headers: [x-role] } } }")
        .upstream("auth", &[&says], "")
        .upstream("u", &[&upstream], "")
        .route(r#"match: { path: "/{*rest}" }, filters: [ask], forward: { upstream: u, request_headers: { rename: { x-role: x-legacy-role } } }"#)
        .start();
    for name in ["X-Legacy-Role", "x_legacy_role", "X-Role", "x_role"] {
        assert_eq!(gateway.ask(format!("GET /p HTTP/1.1\r\nHost: a\r\n{name}: admin\r\n\r\n")).status, 200);
        let seen = last(&upstream);
        let role = ["x-role", "x_role", "x-legacy-role", "x_legacy_role"].iter().find(|name| seen.fields.has(name));
        assert_eq!(role, None, "{name}");
    }
}

#[test]
fn a_value_of_the_query_is_the_one_that_predicates_have_compared() {
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route(r#"match: { path: /n, query: { user: { equals: admin } } }, forward: { upstream: u, request_headers: { set: { x-user: "{query.user}" } } }"#)
        .start();
    for query in ["user=admin", "us%65r=admin", "user=a%64min&user=bob", "%75ser=admin&user=bob"] {
        assert_eq!(gateway.get(&format!("/n?{query}")).status, 200, "{query}");
        let user = last(&upstream).fields.get("x-user").map(str::to_owned);
        assert!(matches!(user.as_deref(), Some("admin" | "a%64min")), "{query}: {user:?}");
    }
}

#[test]
fn a_path_too_long_for_an_expression_is_414_and_not_passed_on_as_it_is() {
    let upstream = Upstream::says("");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .listener("bounds: { head: 64KiB, target: 60KiB }")
        .route(r#"match: { path: "/{*rest}" }, forward: { upstream: u, rewrite: { regex: { match: "/(.*)", to: "/public/{1}" } } }"#)
        .start();
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(8000))).status, 200);
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(8 << 10))).status, 414);
    upstream.reparse();
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn what_is_left_of_the_route_s_time_is_told_and_told_anew_by_a_retry() {
    // The first request finds a connection that breaks off, and goes to another.
    let upstream = Upstream::start(answers_and_closes(ok("")));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route(r#"match: { path: "/{*rest}" }, timeout: 5s, forward: { upstream: u, request_headers: { set: { X-Left: "{deadline_ms}" } } }"#)
        .route(r#"match: { path: "/page" }, timeout: 5s, aggregate: { envelope: raw, parts: [{ name: a, upstream: u, timeout: 2s, success: [200-599], content_type: any, required: false, request: { path: /x, set_headers: { X-Left: "{deadline_ms}" } } }] }"#)
        .start();
    let mut client = Client::connect(&gateway);
    assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: a\r\nX-Left: 999999\r\n\r\n").status, 200);
    assert_eq!(client.get("/b").status, 200);
    for request in {
        upstream.reparse();
        upstream.requests()
    } {
        let left: u64 = request.fields.get("x-left").unwrap().parse().unwrap();
        assert!((1..=5000).contains(&left), "{left}");
    }
    gateway.get("/page");
    let left: u64 = last(&upstream).fields.get("x-left").unwrap().parse().unwrap();
    assert!((1..=2000).contains(&left), "{left}");
}

#[test]
fn a_location_of_the_upstream_leads_through_the_gateway() {
    // What the request's path asks for is what the upstream says.
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            let location = request.fields.get("x-say").unwrap_or("").replace("UP", request.fields.get("host").unwrap());
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Location: {location}\r\nContent-Length: 0\r\n\r\n"
            );
            if !conn.write(head) {
                return;
            }
        }
    });
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/user/{*rest}", "rewrite: { strip_prefix: /user, add_prefix: /v2, location: true }")
        .forward_path("/plain/{*rest}", "rewrite: { strip_prefix: /plain, add_prefix: /v2 }")
        .start();
    let scheme = tls::either("https", "http");
    let own = upstream.addr.to_string();
    let mut client = Client::connect(&gateway);
    let mut ask = |path: &str, say: &str| {
        let answer = client.ask(format!("GET {path} HTTP/1.1\r\nHost: gw.example:81\r\nX-Say: {say}\r\n\r\n"));
        let location = answer.fields.get("location").unwrap().to_string();
        assert_eq!(answer.fields.get("content-location"), Some(location.as_str()));
        location
    };
    for (said, led) in [
        ("http://UP/v2/login?next=http://UP/#x", format!("{scheme}://gw.example:81/user/login?next=http://{own}/#x")),
        ("https://UP/v2", format!("{scheme}://gw.example:81/user")),
        ("//UP/v2/", format!("{scheme}://gw.example:81/user/")),
        ("/v2/login", "/user/login".into()),
        ("http://UP/other", format!("http://{own}/other")),
        ("http://UP@evil.example/v2/", format!("http://{own}@evil.example/v2/")),
        ("http://UP\\@evil.example/v2/", format!("http://{own}\\@evil.example/v2/")),
        ("https://accounts.example/v2/login", "https://accounts.example/v2/login".into()),
        ("//evil.example/v2/", "//evil.example/v2/".into()),
        ("login", "login".into()),
        ("", String::new()),
    ] {
        assert_eq!(ask("/user/7", said), led, "{said}");
        assert_eq!(ask("/plain/7", said), said.replace("UP", &own), "{said}");
    }
    let long = format!("http://UP/v2/{}", "a".repeat(8 * 1024));
    assert!(ask("/user/7", &long).starts_with(&format!("{scheme}://gw.example:81/user/aaa")));
}

#[test]
fn cookies_get_domain_and_path_and_broken_ones_pass() {
    let long = format!("big={}; Path=/v2", "x".repeat(8 * 1024));
    let cookies = [
        "a=1; Domain=users.internal; Path=/v2/x; HttpOnly",
        "b=2; domain=.Users.Internal;path=/v2",
        "c=3; Domain=other.example; Path=/v22",
        "; =; Domain; Path=; ;;",
        "e=5; Domain=gone.internal",
        &long,
    ];
    let lines: String = cookies.iter().map(|cookie| format!("Set-Cookie: {cookie}\r\n")).collect();
    let upstream = Upstream::start(answers(format!("HTTP/1.1 200 OK\r\n{lines}X-A: b\r\nContent-Length: 0\r\n\r\n")));
    let gateway = forwards(
        &upstream,
        "rewrite: { cookies: { domain: { users.internal: example.com, gone.internal: none }, path: { /v2: /user } } }, response_headers: { add: { set-cookie: own=1 } }",
    );
    let answer = gateway.get("/");
    let seen = answer.fields.all("set-cookie");
    let expected = [
        "a=1; Domain=example.com; Path=/user/x; HttpOnly",
        "b=2; domain=example.com;path=/user",
        cookies[2],
        cookies[3],
        "e=5",
        &long.replace("/v2", "/user"),
        "own=1",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn nginx_and_the_gateway_lead_the_same_locations_back() {
    // One nginx redirects as an application does; a second is the proxy to compare with, by its proxy_redirect default.
    let origin = nginx(
        "server { listen @listen@; absolute_redirect on; server_name_in_redirect off;
           location /v2/dir { return 302 @url@/v2/dir/; } location /v2/out { return 302 https://elsewhere.example/v2/; }
           location /v2/cookie { add_header Set-Cookie \"s=1; Domain=users.internal; Path=/v2/\"; return 200 ok; } }",
    );
    let tls_server = tls::either("proxy_ssl_name localhost;", "");
    let proxy = nginx(&format!(
        "server {{ listen @listen@; location /user/ {{ proxy_pass {}/v2/; {tls_server}
           proxy_cookie_domain users.internal example.com; proxy_cookie_path /v2/ /user/; }} }}",
        url(origin.addr)
    ));
    let gateway = Setup::new()
        .upstream_at("u", &format!("[\"{}\"]", origin.addr), "")
        .forward_path(
            "/user/{*rest}",
            "rewrite: { strip_prefix: /user, add_prefix: /v2, location: true, cookies: { domain: { users.internal: example.com }, path: { /v2: /user } } }",
        )
        .start();
    let ask = |addr: std::net::SocketAddr, path: &str| {
        let target = format!("{}{path}", url(addr));
        let mut args = curl_trust();
        args.extend(["-s", "-D", "-", "-o", "/dev/null", &target]);
        let head = curl(&args);
        let line =
            |name: &str| head.lines().find(|line| line.to_ascii_lowercase().starts_with(name)).map(str::to_string);
        (line("location:"), line("set-cookie:").map(|l| l.split_once(' ').unwrap().1.to_string()))
    };
    for path in ["/user/dir", "/user/out", "/user/cookie"] {
        let (theirs, their_cookie) = ask(proxy.addr, path);
        let (ours, our_cookie) = ask(gateway.addr, path);
        let bare = |l: Option<String>, at: std::net::SocketAddr| l.map(|l| l.replace(&at.to_string(), "HERE"));
        assert_eq!(bare(ours, gateway.addr), bare(theirs, proxy.addr), "{path}");
        assert_eq!(our_cookie, their_cookie, "{path}");
    }
}

#[test]
fn forwarded_is_written_instead_of_or_beside_the_x_fields() {
    let scheme = tls::either("https", "http");
    let element = format!("for=127.0.0.1;host=\"a.example:81\";proto={scheme}");
    let ask = |mode: &str, trusted: &str, lines: &str| {
        let upstream = Upstream::says("");
        let gateway = Setup::new()
            .top(&format!("forwarded: {mode}"))
            .top(&format!("trusted_proxies: [{trusted}]"))
            .upstream("u", &[&upstream], "")
            .forward_path("/{*rest}", r#"request_headers: { set: { x-client: "{client_ip}" } }"#)
            .start();
        let answer = gateway.ask(format!("GET / HTTP/1.1\r\nHost: a.example:81\r\n{lines}\r\n"));
        assert_eq!(answer.status, 200);
        last(&upstream).fields
    };
    let forged = "Forwarded: for=10.9.9.9\r\nX-Forwarded-For: 10.8.8.8\r\nX-Forwarded-Proto: ftp\r\n";
    for (mode, has_x, has_forwarded) in [("x-forwarded", true, false), ("forwarded", false, true), ("both", true, true)]
    {
        let seen = ask(mode, "", forged);
        assert_eq!(seen.get("x-forwarded-for"), has_x.then_some("127.0.0.1"), "{mode}");
        assert_eq!(seen.get("forwarded"), has_forwarded.then_some(element.as_str()), "{mode}");
        assert_eq!(seen.get("x-client"), Some("127.0.0.1"));
    }
    // A trusted proxy's chain goes on, and says who calls.
    let chain = "Forwarded: for=\"[2001:db8::7]:4711\";proto=https;host=shop.example\r\nForwarded: for=127.0.0.2\r\n";
    let seen = ask("forwarded", "127.0.0.0/8", &format!("{chain}X-Forwarded-For: 10.8.8.8\r\n"));
    let before = "for=\"[2001:db8::7]:4711\";proto=https;host=shop.example, for=127.0.0.2, ";
    assert_eq!(seen.get("forwarded"), Some(format!("{before}{element}").as_str()));
    assert_eq!((seen.get("x-client"), seen.get("x-forwarded-for")), (Some("2001:db8::7"), None));
    // With both, the X fields decide; a Forwarded that would swallow what follows is dropped.
    let seen = ask("both", "127.0.0.0/8", "Forwarded: for=\"10.9.9.9\r\nX-Forwarded-For: 10.8.8.8\r\n");
    assert_eq!((seen.get("x-client"), seen.get("forwarded")), (Some("10.8.8.8"), Some(element.as_str())));
    // In front of a hop that is malformed the client may have said anything.
    let malformed = "Forwarded: for=10.9.9.9\r\nForwarded: for=10.8.8.8:99\r\nForwarded: for=127.0.0.2\r\n";
    let seen = ask("forwarded", "127.0.0.0/8", malformed);
    assert_eq!(seen.get("forwarded"), Some(format!("for=127.0.0.2, {element}").as_str()));
    // Empty elements are none, and none are written.
    for chain in ["for=10.7.7.7,", "for=10.7.7.7 , ,", ",for=10.7.7.7"] {
        let seen = ask("forwarded", "127.0.0.0/8", &format!("Forwarded: {chain}\r\nForwarded: ,\r\n"));
        assert_eq!(seen.get("forwarded"), Some(format!("for=10.7.7.7, {element}").as_str()), "{chain}");
        assert_eq!(seen.get("x-client"), Some("10.7.7.7"), "{chain}");
    }
    for hidden in ["for=unknown", "for=_secret", "for=a b", "for=[::1]"] {
        let seen = ask("forwarded", "127.0.0.0/8", &format!("Forwarded: for=10.9.9.9, {hidden}\r\n"));
        assert_eq!(seen.get("x-client"), Some("127.0.0.1"), "{hidden}");
    }
}

#[test]
fn templates_pass_on_no_claim_of_a_client() {
    let ask = |trusted: &str, lines: &str| {
        let upstream = Upstream::says("");
        let gateway = Setup::new()
            .top(&format!("trusted_proxies: [{trusted}]"))
            .log_keys("format: json, fields: { claimed: '{header.x-real-ip}' }")
            .upstream("u", &[&upstream], "")
            .forward_path(
                "/{*rest}",
                r#"rewrite: { query: { set: { ip: "{header.x-forwarded-for}" } } }, request_headers: { set: {
                   x-client: "{header.x-real-ip}", x-twin: "{header.x_real_ip}" } }"#,
            )
            .start();
        assert_eq!(gateway.ask(format!("GET /t HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).status, 200);
        assert_eq!(gateway.log_of("/t")["fields"]["claimed"], "10.8.8.8", "the log shows what came");
        last(&upstream)
    };
    let lines = "X-Forwarded-For: 10.9.9.9\r\nX-Real-IP: 10.8.8.8\r\nX_Real_IP: 10.7.7.7\r\n";
    let seen = ask("", lines);
    assert_eq!(
        (seen.target.as_str(), seen.fields.get("x-client"), seen.fields.get("x-twin")),
        ("/t?ip=", Some(""), Some(""))
    );
    let seen = ask("127.0.0.1", lines);
    assert_eq!((seen.target.as_str(), seen.fields.get("x-client")), ("/t?ip=10.9.9.9", Some("10.8.8.8")));
    assert_eq!(seen.fields.get("x-twin"), Some(""));
}

#[test]
fn what_can_not_be_is_told_at_the_start() {
    let refused = |forward: &str| {
        let upstream = Upstream::says("");
        Setup::new().upstream("u", &[&upstream], "").forward_path("/{*rest}", forward).refused()
    };
    for (forward, why) in [
        (r#"rewrite: { regex: { match: "/(a)", to: "/{2}" } }"#, "there is no value `{2}`"),
        (r#"rewrite: { regex: { match: "/(a)", to: "/$$1" } }"#, "a group is written in braces here: {1}"),
        (r#"rewrite: { regex: { match: "(a{100}){100}", to: "/" } }"#, "explodes"),
        (r#"rewrite: { path: "/files/..%2F{rest}" }"#, "dot segment"),
        (r#"rewrite: { regex: { match: "/a", to: "/b" }, strip_prefix: /a }"#, "use either regex, or strip_prefix"),
        (r#"rewrite: { regex: { match: "/a", to: "/b" }, path: /c }"#, "use one of path and regex"),
        ("rewrite: { query: { set: { a: b }, remove: [a] } }", "`a` is both given and removed"),
        ("rewrite: { cookies: { domain: { 'a b': c } } }", "is not a label"),
        (r#"response_headers: { set: { a: "{deadline_ms}" } }"#, "when its request is sent"),
        ("response_headers: { append: { set-cookie: a } }", "is no list"),
        ("request_headers: { rename: { X-A: b, x-a: c } }", "renamed already"),
        ("request_headers: { set: { transfer_encoding: chunked } }", "the gateway itself writes transfer-encoding"),
        ("response_headers: { set: { content_length: '5' } }", "the gateway itself writes content-length"),
        ("request_headers: { set: { x-user: a, x_user: b } }", "is given twice"),
        (
            r#"request_headers: { set: { x-b: "{deadline_ms}" }, append: { X_B: q } }"#,
            "`X_B` is set to a time that is known when the request is sent: nothing can be appended to it",
        ),
    ] {
        let told = refused(forward);
        assert!(told.contains(why), "{forward}: {told}");
    }
}
