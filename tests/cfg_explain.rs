//! `ringway explain`: what it says of a request is what the running gateway does with it.

use crate::support::authority::{Authority, Wanted};
use crate::support::foreign::{curl, url};
use crate::support::gateway::{Gateway, run};
use crate::support::message::ok;
use crate::support::misbehave::answers_and_closes;
use crate::support::{Setup, Upstream, temp_dir, tls};
use crate::tls::{curl_to, secure};
use serde_json::Value;

/// Exit code and what `ringway explain` prints and complains about.
fn explain(gateway: &Gateway, args: &[&str]) -> (i32, String, String) {
    let config = gateway.dir.join("gateway.yaml");
    run(&[&["explain"], args, &["-c", config.to_str().unwrap()]].concat())
}

fn json(gateway: &Gateway, args: &[&str]) -> Value {
    let (code, said, complaint) = explain(gateway, &[args, &["--json", "--credentials"]].concat());
    assert_eq!((code, complaint.as_str()), (0, ""), "{args:?}: {said}");
    serde_json::from_str(&said).unwrap()
}

/// The same of a config that is not run.
fn of_text(yaml: &str, args: &[&str]) -> (i32, String, String) {
    let path = temp_dir("explain").join("gateway.yaml");
    std::fs::write(&path, yaml).unwrap();
    run(&[&["explain"], args, &["-c", path.to_str().unwrap()]].concat())
}

/// What came on a connection, with what `explain` says for the id where the gateway made one.
fn arrived(upstream: &Upstream, conn: usize) -> String {
    let text = String::from_utf8(upstream.bytes(conn)).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("X-Request-Id: ")).unwrap_or("none").to_owned();
    if id.len() == REQUEST_ID.len() { text.replace(&id, REQUEST_ID) } else { text }
}

const REQUEST_ID: &str = "request-id-xxxxxxxxxxxxxxx";

/// A request to be sent by curl, and to be explained.
struct Case {
    method: &'static str,
    target: &'static str,
    headers: &'static [&'static str],
    /// Sent by curl alone; of its framing the headers tell.
    body: &'static str,
}

const fn case(method: &'static str, target: &'static str, headers: &'static [&'static str]) -> Case {
    Case { method, target, headers, body: "" }
}

/// Sends each by curl, and compares what the upstream got with what is explained.
fn compare(upstream: &Upstream, gateway: &Gateway, cases: &[Case]) {
    for (conn, Case { method, target, headers, body }) in cases.iter().enumerate() {
        let url = url(gateway.addr) + target;
        let mut args = vec!["--path-as-is", "-g", "-o", "/dev/null", "-w", "%{http_code}"];
        // Told that it is only the method's name, curl would wait for a body.
        args.extend(if *method == "HEAD" { ["-I", "-q"] } else { ["-X", method] });
        // What curl would add by itself.
        let headers: Vec<&str> = ["User-Agent: test", "Accept: */*"].iter().chain(*headers).copied().collect();
        for header in headers.iter().filter(|header| !header.starts_with("Content-Length")) {
            args.extend(["-H", header]);
        }
        if !body.is_empty() {
            args.extend(["--data-binary", body]);
        }
        args.push(&url);
        assert_eq!(curl(&args), "200", "{method} {target}");
        let mut asked = vec![*method, &url];
        headers.iter().for_each(|header| asked.extend(["-H", header]));
        let told = json(gateway, &asked);
        assert_eq!(told["sent"].as_array().unwrap().len(), 1, "{told}");
        let expected = told["sent"][0]["request"].as_str().unwrap();
        let got = arrived(upstream, conn);
        // Behind the head the explanation has nothing of the client's body.
        let head = got.split_inclusive("\r\n\r\n").next().unwrap();
        assert_eq!(head, expected, "{method} {target} {headers:?}");
    }
}

const FORWARDED: [Case; 17] = [
    case("GET", "/plain/a?b=c&d", &["X-A: 1", "x-b:2", "X-A: 3"]),
    case("GET", "/plain/%7Ea/../b/./c%2c", &[]),
    case("HEAD", "/plain/", &["Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: 5"]),
    case("GET", "/plain/te", &["TE: trailers, gzip", "Connection: TE"]),
    case("GET", "/plain/ws", &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="]),
    case("GET", "/plain/no-upgrade", &["Connection: Upgrade", "Upgrade: x"]),
    case("OPTIONS", "/plain/x", &["Max-Forwards: 5"]),
    case("GET", "/plain/who", &["X-Forwarded-For: 192.0.2.1", "Forwarded: for=x", "Via: 1.0 y", "X-Request-Id: mine"]),
    case("GET", "/plain/own-host", &["Host: Other.Test:81", "Authorization: Basic eDp5", "Cookie: a=b"]),
    Case {
        method: "POST",
        target: "/plain/post",
        headers: &["Content-Type: text/plain", "Content-Length: 5"],
        body: "hello",
    },
    Case {
        method: "PUT",
        target: "/plain/put",
        headers: &["Content-Type: x", "Transfer-Encoding: chunked", "Expect:"],
        body: "hello",
    },
    case("GET", "/strip/a/b?c=1", &[]),
    case("GET", "/add/a", &["X-Debug: 1"]),
    case("GET", "/v1/42/rest/of/it?keep=1&x=%20y", &["X-In: é in", "X-Debug: 1"]),
    case("GET", "/pass/a", &["Host: gw.test:8080"]),
    case("GET", "/literal/a", &[]),
    case("GET", "/keyed/a?b=1&key=sesame&c=2", &["X-Owner: forged"]),
];

#[test]
fn what_an_upstream_gets_is_what_was_explained() {
    let upstream = Upstream::start(answers_and_closes(ok("hello")));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("filters:")
        .top("  key: { api_key: { query: key, keys: [{ sha256: d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272, owner: partner }], principal_header: x-owner } }")
        .top("  edit: { request_headers: { set: { x-route: \"{path}\" }, remove: [x-debug] } }")
        .forward_path("/plain/{*rest}", "")
        .forward_path("/strip/{*rest}", "rewrite: { strip_prefix: /strip }")
        .forward_path("/add/{*rest}", "rewrite: { add_prefix: /base }")
        .route(
            "match: { path: \"/v1/{id}/{*rest}\" }, filters: [edit], forward: { upstream: u, rewrite: { path: \"/v2/{rest}/x-{id}\" }, \
             request_headers: { set: { x-id: \"{request_id}\", x-ip: \"{client_ip}\", x-q: \"{query.x}{path.id}\", user-agent: gateway }, add: { x-in: \"{header.x-in}\" }, remove: [accept] } }",
        )
        .forward_path("/pass/{*rest}", "rewrite: { host: pass }")
        .forward_path("/literal/{*rest}", "rewrite: { host: inner.test }, request_headers: { set: { via: mine, x-forwarded-for: \"-\" } }")
        .route("match: { path: \"/keyed/{*rest}\" }, filters: [key, edit], forward: { upstream: u }")
        .start();
    compare(&upstream, &gateway, &FORWARDED);
}

#[test]
fn what_trusted_proxies_say_is_explained_as_it_is_passed_on() {
    let upstream = Upstream::start(answers_and_closes(ok("hello")));
    let gateway = Setup::forward(&upstream).top("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]").start();
    let cases = [
        case(
            "GET",
            "/a",
            &["X-Forwarded-For: 192.0.2.1, 10.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: outer.test"],
        ),
        case("GET", "/b", &["Via: 1.1 edge", "Forwarded: for=192.0.2.1", "X-Request-Id: given-1"]),
        case("GET", "/c", &["X-Request-Id: a", "X-Request-Id: b", "X-Forwarded-For: nonsense"]),
    ];
    compare(&upstream, &gateway, &cases);
    let told = json(&gateway, &["GET", "/a", "-H", "X-Forwarded-For: 192.0.2.1, 10.1.1.1"]);
    assert_eq!(told["request"]["client"], "192.0.2.1");
    let told = json(&gateway, &["GET", "/a", "--from", "2001:db8::1", "-H", "X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(told["request"]["client"], "2001:db8::1");
    assert!(told["sent"][0]["request"].as_str().unwrap().contains("X-Forwarded-For: 2001:db8::1\r\n"), "{told}");
}

#[test]
fn each_part_of_an_aggregation_gets_what_was_explained() {
    let [user, orders] = ["{\"id\":7}", "[]"].map(|json| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        );
        Upstream::start(answers_and_closes(head))
    });
    let gateway = Setup::new()
        .upstream("users", &[&user], "")
        .upstream("orders", &[&orders], "")
        .route(
            "name: report, match: { path: \"/report/{id}\" }, timeout: 5s, aggregate: { parts: [\
             { name: user, upstream: users, request: { path: \"/user/{path.id}\", query: [page], headers: [x-a], set_headers: { x-b: \"{client_ip}\" } } }, \
             { name: orders, upstream: orders, timeout: 2s, request: { path: \"/orders?user={parts.user.id}\" } }] }",
        )
        .start();
    let url = url(gateway.addr) + "/report/7?page=2&x=3";
    assert!(curl(&["-H", "X-A: 1", &url]).contains("\"id\":7"));
    let told = json(&gateway, &["GET", &url, "-H", "X-A: 1"]);
    assert_eq!(told["sent"][0]["request"], arrived(&user, 0));
    let second = told["sent"][1]["request"].as_str().unwrap();
    assert_eq!(second.replace("~parts.user.id~", "7"), arrived(&orders, 0));
    assert!(told["sent"][1]["notes"][0].as_str().unwrap().ends_with("ended: user"), "{told}");
    let deadline =
        |key: &str| told["deadlines"].as_array().unwrap().iter().find(|d| d["key"] == key).unwrap()["ms"].clone();
    assert_eq!((deadline("routes.report.timeout"), deadline("parts.orders.timeout")), (5000.into(), 2000.into()));
}

/// A head without its date and without what its connection says.
fn undated(head: &str) -> String {
    let id = |line: &&str| !line.starts_with("Date: ") && !line.starts_with("Connection: ");
    head.lines().filter(id).collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[test]
fn answers_of_the_gateway_are_explained_with_their_heads() {
    let upstream = Upstream::says("never");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("filters: { web: { security_headers: {} } }")
        .route("match: { path: /robots.txt }, filters: [web], respond: { status: 203, headers: { content-type: text/plain, x-path: \"{path}\" }, body: hello }")
        .route("match: { path: \"/old/{id}\" }, redirect: { to: \"https://new.test/{path.id}?{query}\", status: 307 }")
        .route("match: { path: /post, methods: [POST] }, forward: { upstream: u }")
        .route("match: { path: /slash/, trailing_slash: redirect }, forward: { upstream: u }")
        .start();
    for (method, target, code) in [
        ("GET", "/robots.txt", 0),
        ("GET", "/old/7?a=b", 0),
        ("GET", "/post", 1),
        ("GET", "/slash", 0),
        ("GET", "/nowhere", 1),
        ("GET", "/%00", 1),
        ("OPTIONS", "/post", 1),
    ] {
        let url = url(gateway.addr) + target;
        let answered = curl(&["-i", "-X", method, &url]);
        let (head, body) = answered.split_once("\r\n\r\n").unwrap();
        let (exit, said, complaint) = explain(&gateway, &[method, &url, "--json"]);
        assert_eq!((exit, complaint.as_str()), (code, ""), "{method} {target}: {said}");
        let told: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(undated(told["answer"]["head"].as_str().unwrap()), undated(head), "{method} {target}");
        let body_told = told["answer"]["body"].as_str().unwrap();
        let before_id = |text: &str| text.split("\"request_id\"").next().unwrap().to_owned();
        assert_eq!(before_id(body_told), before_id(body), "{method} {target}");
        assert!(told["sent"].as_array().unwrap().is_empty(), "{told}");
    }
    assert!(upstream.requests().is_empty(), "nothing is opened");
}

#[test]
fn errors_are_explained_in_the_form_that_clients_get() {
    let upstream = Upstream::says("never");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("filters: { web: { security_headers: {} } }")
        .top("all_routes: { filters: [web] }")
        .top("errors: { format: text, bodies: { 404: { content_type: text/html, body: \"<p>{status}</p>\" } } }")
        .route("match: { path: /says }, respond: { body: mine }, body_limit: 10B")
        .route("match: { path: /own }, redirect: { to: /says }, body_limit: 10B, errors: problem+json")
        .start();
    let body = "01234567890123456789";
    for (target, body, status, begin) in [
        ("/nowhere", "", 404, "<p>404</p>"),
        ("/%00", "", 400, "400 Bad Request: "),
        ("/says", body, 413, "413 Payload Too Large: "),
        ("/own", body, 413, "{\"type\":\"about:blank\""),
        ("/says", "", 200, "mine"),
    ] {
        let url = url(gateway.addr) + target;
        let sent = if body.is_empty() { vec![] } else { vec!["--data-binary", body] };
        let answered = curl(&[&["-i", &url][..], &sent].concat());
        let (head, got) = answered.split_once("\r\n\r\n").unwrap();
        let announced = if body.is_empty() { vec![] } else { vec!["-H", "Content-Length: 20"] };
        let method = if body.is_empty() { "GET" } else { "POST" };
        let (_, told, complaint) = explain(&gateway, &[&[method, &url, "--json"][..], &announced].concat());
        assert_eq!(complaint, "", "{target}");
        let told: Value = serde_json::from_str(&told).unwrap();
        let of_its_own = |head: &str| {
            let lines = undated(head);
            let is_same = |line: &&str| !line.starts_with("X-Request-Id: ");
            lines.lines().filter(is_same).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(of_its_own(told["answer"]["head"].as_str().unwrap()), of_its_own(head), "{target}");
        assert_eq!(told["answer"]["status"], status, "{told}");
        let said = told["answer"]["body"].as_str().unwrap();
        assert!(said.starts_with(begin) && got.starts_with(begin), "{target}: {said} {got}");
    }
}

const ROUTES: &str = "listeners:
  - { name: inside, address: 127.0.0.1:18080 }
  - { name: outside, address: 127.0.0.1:18081, filters: [limit] }
upstreams:
  u: { endpoints: [{ address: no-such-host.invalid:9000, weight: 3 }, 127.0.0.1:1], balance: round_robin, timeouts: { connect: 1s } }
  v: { endpoints: [127.0.0.1:2] }
filters:
  limit: { rate_limit: { rate: 1/s, key: [ip, header.x-token] } }
  who: { api_key: { header: x-token, keys: [{ sha256: d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272, owner: partner }] } }
  chaos: { fault: { abort: { status: 503, percent: 100% } } }
  ask: { ext_auth: { upstream: v, path: /verify } }
  small: { request_limits: { body: 1KiB } }
routes:
  - { name: beta, match: { host: api.test, path: \"/user/{id}\", headers: { x-beta: present } }, forward: { upstream: u } }
  - { name: post, match: { host: api.test, path: \"/user/{id}\", methods: [POST] }, forward: { upstream: u } }
  - { name: user, match: { host: api.test, path: \"/user/{id}\", methods: [GET] }, filters: [who, chaos, ask, small], timeout: 7s, forward: { upstream: u } }
  - { name: rest, match: { host: api.test, path: \"/user/{*rest}\" }, forward: { upstream: u } }
  - { name: elsewhere, match: { host: other.test, path: \"/user/{id}\" }, forward: { upstream: u } }
  - { name: split, match: { host: api.test, path: /split }, forward: { split: { u: 0, v: 1 } } }
admin: off
";

#[test]
fn every_route_says_why_it_is_not_taken() {
    let (code, said, complaint) =
        of_text(ROUTES, &["GET", "http://api.test/user/7", "-H", "X-Token: sesame", "--listener", "outside"]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{said}");
    for line in [
        "route     user (/user/{id})",
        "id = 7",
        "post (POST api.test/user/{id}): method: it takes POST",
        "rest (api.test/user/{*rest}): nothing: it fits too",
        "1. limit (rate_limit): key = ip 127.0.0.1 + header.x-token (present); takes 1",
        "2. who (api_key): needs a key in the field x-token",
        "3. chaos (fault): answers 503 to 100 %",
        "4. ask (ext_auth): asks v: GET /verify HTTP/1.1",
        "5. small (request_limits)",
        "body      at most 1024 bytes",
        "upstream  u, at one of no-such-host.invalid:9000 (weight 3), 127.0.0.1:1, by round_robin",
        "| Host: no-such-host.invalid:9000",
        "routes.user.timeout 7s",
        "upstreams.u.timeouts.connect 1s",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    assert!(said.contains("beta (api.test/user/{id}): predicate: x-beta"), "{said}");
    assert!(!said.contains("elsewhere"), "what is for another host is no candidate:\n{said}");
    let (_, whole, _) = of_text(ROUTES, &["GET", "http://api.test/user/7", "--json"]);
    let told: Value = serde_json::from_str(&whole).unwrap();
    let differs = |name: &str| {
        told["others"].as_array().unwrap().iter().find(|other| other["name"] == name).unwrap()["differs"].clone()
    };
    let all = ["beta", "post", "rest", "elsewhere", "split"].map(differs);
    assert_eq!(all, ["predicate", "method", "nothing", "host", "path"]);
    assert_eq!(told["filters"][0]["answers"], 401, "{told}");
}

#[test]
fn of_a_split_one_upstream_is_shown_with_what_it_is_chosen_from() {
    let (code, said, _) = of_text(ROUTES, &["GET", "http://api.test/split"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("upstream  v, at 127.0.0.1:2") && said.contains("one of u (0), v (1)"), "{said}");
}

#[test]
fn where_no_route_is_taken_the_nearest_ones_are_told() {
    let (code, said, _) = of_text(ROUTES, &["GET", "http://api.test/usr/7"]);
    assert_eq!(code, 1, "{said}");
    let near = said.find("post (").unwrap();
    assert!(said.contains("route     none") && said.contains("answer    404: no route matches"), "{said}");
    assert!(near < said.find("split (").unwrap(), "{said}");
    let (code, said, _) = of_text(ROUTES, &["GET", "http://third.test/user/7"]);
    assert!(code == 1 && said.contains("host: it is for api.test"), "{said}");
}

#[test]
fn no_credential_is_printed_unless_it_is_asked_for() {
    let yaml = ROUTES.replace("header: x-token", "header: x-token, query: key");
    let args = [
        "GET",
        "http://api.test/user/7?key=sesame&a=b",
        "-H",
        "Authorization: Bearer sesame",
        "-H",
        "Cookie: s=sesame",
    ];
    for more in [&[][..], &["--json"], &["-H", "X-Token: sesame"]] {
        let (code, said, _) = of_text(&yaml, &[&args[..], more].concat());
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("sesame") && said.contains("***"), "{said}");
    }
    let (_, said, _) = of_text(&yaml, &[&args[..], &["--credentials"]].concat());
    assert!(said.contains("Authorization: Bearer sesame"), "{said}");
}

#[test]
fn what_the_config_keeps_secret_is_told_neither_by_predicates_nor_by_fields() {
    let yaml = r#"
listeners: [{ address: "127.0.0.1:1" }]
upstreams: { a: { endpoints: ["127.0.0.1:2"] } }
routes:
  - { name: r1, match: { path: /a, headers: { authorization: { equals: "Bearer opensesame" } } }, forward: { upstream: a } }
  - { name: r2, match: { path: /a, query: { access_token: { equals: [opensesame-1, opensesame-2] } } }, forward: { upstream: a } }
  - { name: r3, match: { path: /a, cookies: { session: { prefix: opensesame } } }, forward: { upstream: a } }
  - { name: r4, match: { path: /a, headers: { x-api-key: { regex: opensesame } } }, forward: { upstream: a } }
  - { name: r5, match: { path: /a, headers: { x-tenant: { equals: "${EXPLAIN_NOT_SET:-opensesame}" } } }, forward: { upstream: a } }
  - { name: r6, match: { path: /a, headers: { x-version: { equals: [v2, v3] } } }, forward: { upstream: a } }
  - { name: taken, match: { path: /a }, forward: { upstream: a, request_headers: { set: { x-vault-token: opensesame } } } }
"#;
    let args = ["GET", "http://h/a?access_token=b", "-H", "authorization: Bearer c", "-H", "cookie: session=d"];
    let args = [&args[..], &["-H", "x-api-key: e", "-H", "x-tenant: f", "-H", "x-version: g"]].concat();
    let (code, said, complaint) = of_text(yaml, &args);
    assert_eq!(code, 0, "{said}{complaint}");
    for line in [
        "authorization: is not Bearer ***",
        "access_token: is not ***",
        "session: does not begin with ***",
        "x-api-key: is not like ***",
        "x-tenant: is not ${EXPLAIN_NOT_SET:-",
        "x-version: is not v2 or v3",
        "x-vault-token: ***",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    let secrets = said.matches("opensesame").count();
    assert_eq!(secrets, said.matches("${EXPLAIN_NOT_SET:-opensesame}").count(), "{said}");
}

const LISTENERS: &str = "trusted_proxies: [unix]
listeners:
  - { name: far, address: 127.0.0.1:18080 }
  - { name: near, address: \"unix:/tmp/never-bound.sock\" }
upstreams:
  u: { endpoints: [127.0.0.1:1] }
  p: { endpoints: [127.0.0.1:1], proxy_protocol: v2 }
filters:
  key: { api_key: { query: api-key, keys: [{ sha256: d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272, owner: partner }] } }
  local: { ip: { allow: [127.0.0.0/8] } }
routes:
  - { match: { path: /key }, filters: [key], forward: { upstream: u } }
  - { match: { path: /moved }, forward: { upstream: u, request_headers: { set: { x-a: \"{header.authorization}\", x-b: \"{query.api_key}\" }, add: { x-c: \"{header.cookie}\" } } } }
  - { match: { path: /gone }, redirect: { to: \"https://new.test/?{query}\" } }
  - { match: { path: /local }, filters: [local], forward: { upstream: u } }
  - { match: { path: /proxied }, forward: { upstream: p } }
  - { match: { host: db.test, path: /, methods: [CONNECT] }, forward: { upstream: u } }
  - { match: { host: web.test, path: / }, forward: { upstream: u } }
observe: { access_log: { redact: { headers: [x-mine], query: [pin] } } }
admin: off
";

#[test]
fn credentials_are_hidden_by_the_rules_of_the_log_wherever_they_are_put() {
    let cases: &[&[&str]] = &[
        &["GET", "/key?%61pi-key=sesame"],
        &["GET", "/key?API-KEY=sesame&a=1;api-key=sesame"],
        &["GET", "/gone?a=1;password=sesame&Access_Token=sesame&pin=sesame"],
        &["GET", "/moved", "-H", "Authorization: Bearer sesame", "-H", "Cookie: a=b; c=sesame"],
        &["GET", "/moved?api_key=ses%61me"],
        &["GET", "/local", "-H", "X-Auth-Token: sesame", "-H", "X_Api_Key: sesame", "-H", "X-Mine: sesame"],
        &["GET", "/local", "-H", "Referer: https://ann:sesame@h/?id_token=sesame"],
    ];
    for args in cases {
        for more in [&[][..], &["--json"]] {
            let (code, said, complaint) = of_text(LISTENERS, &[*args, more].concat());
            assert_eq!((code, complaint.as_str()), (0, ""), "{args:?}: {said}");
            assert!(!said.contains("sesame") && !said.contains("ses%61me") && said.contains("***"), "{args:?}: {said}");
        }
        let (_, said, _) = of_text(LISTENERS, &[*args, &["--credentials"]].concat());
        assert!(said.contains("sesame") || said.contains("ses%61me"), "{args:?}: {said}");
    }
}

#[test]
fn who_comes_over_a_unix_socket_has_no_address() {
    let of = |args: &[&str]| of_text(LISTENERS, &[args, &["--listener", "near"]].concat()).1;
    let said = of(&["GET", "/local"]);
    assert!(said.contains("host localhost, from unix:, listener near") && said.contains("answers 403"), "{said}");
    let said = of(&["GET", "/moved", "-H", "X-Forwarded-For: 192.0.2.1"]);
    assert!(said.contains("from 192.0.2.1") && said.contains("| X-Forwarded-For: 192.0.2.1"), "{said}");
    let (_, said, _) = of_text(LISTENERS, &["GET", "/local", "-H", "X-Forwarded-For: 192.0.2.1"]);
    assert!(said.contains("from 127.0.0.1") && !said.contains("answers 403"), "{said}");
}

#[test]
fn what_connect_gets_and_a_proxy_header_are_told() {
    let (_, said, _) = of_text(LISTENERS, &["CONNECT", "db.test:1", "-H", "Host: db.test:1"]);
    assert!(said.contains("the client gets a tunnel"), "{said}");
    let (_, said, _) =
        of_text(LISTENERS, &["CONNECT", "db.test:1", "-H", "Host: db.test:1", "-H", "Content-Length: 3"]);
    assert!(said.contains("answer    400: CONNECT with a body") && said.contains("| Connection: close"), "{said}");
    assert!(!said.contains("tunnel"), "{said}");
    let (code, said, _) = of_text(LISTENERS, &["CONNECT", "web.test:1", "-H", "Host: web.test:1"]);
    assert!(code == 1 && said.contains("it takes any but CONNECT") && said.contains("| Connection: close"), "{said}");
    let (_, said, _) = of_text(LISTENERS, &["GET", "/proxied"]);
    assert!(said.contains("a PROXY header (v2)"), "{said}");
}

#[test]
fn the_name_in_the_handshake_is_that_of_the_url() {
    let cert = tls::files();
    let certificate = format!("{{ cert: {}, key: {} }}", cert.cert.display(), cert.key.display());
    let yaml = format!(
        "listeners: [{{ address: \"127.0.0.1:18443\", tls: {{ certificates: [{certificate}], unknown_name: refuse }} }}]\n\
         routes: [{{ match: {{ path: /sni }}, redirect: {{ to: \"https://x/{{tls.server_name}}\" }} }}]\nadmin: off\n"
    );
    let (code, said, _) = of_text(&yaml, &["GET", "https://gw.test/sni", "-H", "Host: other.test"]);
    assert!(code == 0 && said.contains("| Location: https://x/gw.test\n"), "{said}");
    let (code, said, _) = of_text(&yaml, &["GET", "https://127.0.0.1:1/sni"]);
    assert!(code == 0 && said.contains("| Location: https://x/\n"), "{said}");
    let (code, said, _) = of_text(&yaml, &["GET", "https://other.test/sni", "-H", "Host: gw.test"]);
    assert_eq!(
        (code, &*said),
        (1, "handshake refused: no certificate is for other.test, and unknown_name is refuse\n")
    );
}

#[test]
fn what_a_service_would_say_is_unknown_or_supplied() {
    let upstream = Upstream::start(answers_and_closes(ok("hello")));
    let service = Upstream::start(answers_and_closes("HTTP/1.1 200 OK\r\nX-User: ann\r\nContent-Length: 0\r\n\r\n"));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream("login", &[&service], "")
        .top("filters:")
        .top("  gate: { ext_auth: { upstream: login, path: /verify, response_headers: [x-user], client_headers: [set-cookie], principal: x-user } }")
        .top("  fair: { rate_limit: { rate: 100/s, key: principal } }")
        .forward_all("filters: [gate, fair]")
        .start();
    let url = url(gateway.addr) + "/a";
    let sent = ["-H", "User-Agent: test", "-H", "Accept: */*", "-H", "X-User: forged"];
    assert_eq!(curl(&[&sent[..], &[&url]].concat()), "hello");
    let asked = [&["GET", &url][..], &sent[..]].concat();
    let told = json(&gateway, &[&asked[..], &["--ext-auth-header", "X-User: ann"]].concat());
    assert_eq!(told["sent"][0]["request"].as_str().unwrap(), arrived(&upstream, 0));
    assert!(told["filters"][1]["does"].as_str().unwrap().contains("principal ann"), "{told}");
    assert!(told["sent"][0]["unknown"].as_array().unwrap().is_empty(), "{told}");
    let (code, said, _) = explain(&gateway, &asked);
    assert_eq!(code, 0, "{said}");
    for line in [
        "             ? whether it lets the request pass\n",
        "             ? set-cookie for the client: from its answer\n",
        "             ? who calls, for limits and the log: x-user of its answer\n",
        "          ? x-user: from login's answer, or --ext-auth-header\n",
        "?         is not known here",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    assert!(!said.contains("forged"), "what a client says under that name never passes:\n{said}");
    for header in ["x user: ann", "x-user", "x-user: a\r\nb: c"] {
        let (code, said, complaint) = explain(&gateway, &[&asked[..], &["--ext-auth-header", header]].concat());
        assert!(code == 2 && complaint.contains("--ext-auth-header"), "{said}{complaint}");
    }
}

#[test]
fn credentials_that_can_not_be_checked_here_are_taken_for_right() {
    let users = temp_dir("explain").join("users");
    std::fs::write(&users, "ann:$2b$04$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu\n").unwrap();
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:18080 }}]\nupstreams: {{ u: {{ endpoints: [127.0.0.1:1] }} }}\nfilters:\n  \
         token: {{ jwt: {{ issuer: any, audience: any, jwks: \"http://127.0.0.1:1/keys\", claim_headers: {{ x-user: sub }}, forward: false }} }}\n  \
         people: {{ basic: {{ file: {}, principal_header: x-user }} }}\n\
         routes:\n  - {{ match: {{ path: /token }}, filters: [token], forward: {{ upstream: u }} }}\n  \
         - {{ match: {{ path: /basic }}, filters: [people], forward: {{ upstream: u }} }}\nadmin: off\n",
        users.display()
    );
    // {"alg":"RS256"}, {"sub":"ann"} and a signature that nobody made.
    let token = "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
    let (code, said, _) = of_text(&yaml, &["GET", "/token", "-H", token]);
    assert!(code == 0 && !said.contains("refused") && !said.contains("| Authorization"), "{said}");
    assert!(said.contains("? the keys of 127.0.0.1") && said.contains("? whether the token is right"), "{said}");
    assert!(said.contains("  ? x-user: from the token that token accepts"), "{said}");
    let (_, said, _) = of_text(&yaml, &["GET", "/token"]);
    assert!(said.contains("answers 401: a token is required") && !said.contains("the keys of"), "{said}");
    assert!(said.contains("  ? x-user: from the token"), "{said}");
    let (_, said, _) = of_text(&yaml, &["GET", "/basic"]);
    assert!(said.contains("answers 401") && said.contains("  ? x-user: who calls, as people makes it out"), "{said}");
}

#[test]
fn who_a_certificate_says_the_client_is_is_told() {
    let (sites, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let site = sites.issue(&["gw.test"]);
    let wanted = Wanted { names: &["client.test"], common_name: "billing", uri: None, expired: false };
    let (good, foreign) = (clients.issue_as(&wanted), strangers.issue(&["client.test"]));
    let upstream = Upstream::start(answers_and_closes(ok("hello")));
    let tls = format!("certificates: [{}], client: {{ ca: {}, mode: required }}", site.yaml(), clients.ca.display());
    let set =
        "request_headers: { set: { x-partner: \"{tls.client.subject}\", x-print: \"{tls.client.fingerprint}\" } }";
    let gateway = secure(&tls)
        .upstream("named", &[&upstream], "")
        .route(&format!("match: {{ path: /a }}, forward: {{ upstream: named, {set} }}"))
        .start();
    let [cert, key, other] = [&good.cert, &good.key, &foreign.cert].map(|path| path.to_str().unwrap());
    let fields = ["-H", "User-Agent: test", "-H", "Accept: */*"];
    let shows = ["--cert", cert, "--key", key];
    assert_eq!(curl_to(&gateway, &sites, "gw.test", "/a", &[&shows[..], &fields].concat()), "hello");
    let url = format!("https://gw.test:{}/a", gateway.addr.port());
    let asked = [&["GET", &url][..], &fields].concat();
    let told = json(&gateway, &[&asked[..], &["--client-cert", cert]].concat());
    assert_eq!(told["sent"][0]["request"].as_str().unwrap(), arrived(&upstream, 0));
    assert!(arrived(&upstream, 0).contains("CN=billing"), "{told}");
    let (code, said, _) = explain(&gateway, &asked);
    assert!(code == 0 && said.contains("? the client's certificate, without which the handshake is refused"), "{said}");
    let (code, said, _) = explain(&gateway, &[&asked[..], &["--client-cert", other]].concat());
    assert!(code == 1 && said.contains("handshake refused: the client's certificate: "), "{said}");
    for file in ["/nonexistent", key] {
        let (code, _, said) = explain(&gateway, &[&asked[..], &["--client-cert", file]].concat());
        assert!(code == 2 && said.starts_with(&format!("--client-cert: {file} ")), "{said}");
    }
    let (code, _, said) = of_text(LISTENERS, &["GET", "/local", "--client-cert", cert]);
    assert!(code == 2 && said.contains("asks for none"), "{said}");
}

#[test]
fn an_explanation_that_can_not_be_written_is_exit_code_1() {
    let path = temp_dir("explain").join("gateway.yaml");
    std::fs::write(&path, LISTENERS).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringway"));
    let status =
        command.args(["explain", "GET", "/local", "-c"]).arg(&path).stdout(full).stderr(std::process::Stdio::null());
    assert_eq!(status.status().unwrap().code(), Some(1));
}

#[test]
fn hostile_arguments_get_the_answer_that_they_would_get() {
    let pairs = (0..10_000).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join("&");
    let (many, large, long) = (
        format!("http://api.test/user/7?{pairs}"),
        format!("X: {}", "y".repeat(40_000)),
        format!("/{}", "a".repeat(9000)),
    );
    for (args, answer) in [
        (vec!["GET", "/a b"], "answer    400: the request line must end with HTTP/1.1"),
        (vec!["GET", "/x#y"], "answer    400: not a request target"),
        (vec!["G ET", "/x"], "answer    400"),
        (vec!["GET", "http://a_b:99999/x"], "answer    400: not a valid Host"),
        (vec!["GET", "/x", "-H", "Host: a", "-H", "Host: b"], "answer    400: more than one Host"),
        (
            vec!["POST", "/x", "-H", "Content-Length: 5", "-H", "Transfer-Encoding: chunked"],
            "answer    400: both Transfer-Encoding",
        ),
        (vec!["POST", "/x", "-H", "Transfer-Encoding: gzip"], "answer    501"),
        (vec!["GET", "/x", "-H", &large], "answer    431"),
        (vec!["GET", &long], "answer    414"),
        (vec!["GET", &many], "answer    414"),
        (vec!["", ""], "answer    400"),
    ] {
        let (code, said, complaint) = of_text(ROUTES, &args);
        assert_eq!((code, complaint.as_str()), (1, ""), "{args:?}: {said}");
        assert!(said.contains(answer), "{args:?}: {said}");
    }
}

#[test]
fn wrong_usage_and_wrong_configs_are_exit_code_2() {
    for (yaml, args, complaint) in [
        ("listenrs: []", &["GET", "/"][..], "gateway.yaml:1:1: "),
        (ROUTES, &["GET", "https://api.test/"], "no listener with TLS"),
        (ROUTES, &["GET", "/", "--listener", "nowhere"], "no listener `nowhere`; there are inside, outside"),
        (ROUTES, &["GET", "/", "--from", "nobody"], "--from"),
        (ROUTES, &["GET"], "<URL>"),
        (ROUTES, &["GET", "/", "-H", ""], "--header is empty"),
        (ROUTES, &["GET", "/", "-H", "A: b\r\nB: c"], "--header has the end of a line in it"),
        (ROUTES, &["GET", "/ HTTP/1.1\r\nA: b"], "URL has the end of a line in it"),
        (ROUTES, &["GET\n", "/"], "METHOD has the end of a line in it"),
        (LISTENERS, &["GET", "/", "--listener", "near", "--from", "127.0.0.1"], "`near` is a Unix socket"),
    ] {
        let (code, said, stderr) = of_text(yaml, args);
        assert_eq!((code, said.as_str()), (2, ""), "{args:?}");
        assert!(stderr.contains(complaint), "{complaint}: {stderr}");
    }
    let (code, ..) = run(&["explain", "GET", "/", "-c", "/nonexistent"]);
    assert_eq!(code, 2);
}

#[test]
fn a_scheme_chooses_the_listener_and_tls_is_explained() {
    if !tls::is_on() {
        return; // which certificates there are is the TLS run's
    }
    let upstream = Upstream::says("never");
    let gateway = Setup::forward(&upstream).start();
    let told = json(&gateway, &["GET", "https://gw.test/x"]);
    assert!(told["sent"][0]["request"].as_str().unwrap().contains("X-Forwarded-Proto: https\r\n"), "{told}");
    assert_eq!(told["sent"][0]["tls"], true);
    assert_eq!(explain(&gateway, &["GET", "http://gw.test/x"]).0, 2);
}
