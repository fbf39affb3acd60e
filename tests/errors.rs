//! The form of the answers that the gateway makes when something goes wrong: problem details, text, bodies of the operator's
//! own. The envelope is what all other scenarios see.

use crate::support::foreign::{curl, output_of, url};
use crate::support::message::Response;
use crate::support::misbehave::answers;
use crate::support::{Client, Gateway, Setup, Upstream, temp_dir};

/// RFC 9457, Appendix A, as it stands there but for the example's own members.
const PROBLEM_SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "An RFC 7807 problem object",
  "type": "object",
  "properties": {
    "type": { "type": "string", "format": "uri-reference" },
    "title": { "type": "string" },
    "status": { "type": "integer", "minimum": 100, "maximum": 599 },
    "detail": { "type": "string" },
    "instance": { "type": "string", "format": "uri-reference" }
  }
}"#;

/// Every way to an error: before routing, by routing, in filters, by upstreams, in aggregations.
fn failing(upstream: &Upstream, errors: &str) -> Gateway {
    let dead = crate::support::free_port();
    Setup::new()
        .top(errors)
        .top("filters: { locked: { ip: { deny: [0.0.0.0/0] } }, broken: { fault: { abort: { status: 418, percent: 100% } } } }")
        .listener("timeouts: { request_header: 500ms }")
        .listener("bounds: { head: 4KiB, headers: 20, target: 1KiB }")
        .upstream("u", &[upstream], "")
        .upstream_at("dead", &format!("[\"127.0.0.1:{dead}\"]"), "")
        .route("match: { path: /get, methods: [GET] }, forward: { upstream: u }")
        .route("match: { path: /locked }, filters: [locked], forward: { upstream: u }")
        .route("match: { path: /broken }, filters: [broken], forward: { upstream: u }")
        .route("match: { path: /dead }, forward: { upstream: dead }")
        .route("match: { path: /page }, aggregate: { parts: [{ name: a, upstream: dead, request: { path: / } }] }")
        .route("match: { path: /says }, respond: { status: 404, body: mine }")
        .start()
}

/// Requests and the statuses of their answers.
fn cases() -> Vec<(String, u16)> {
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let fields: String = (0..30).map(|n| format!("x{n}: y\r\n")).collect();
    vec![
        (get("/none", ""), 404),
        ("POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".into(), 405),
        (get("/locked", ""), 403),
        (get("/broken", ""), 418),
        (get("/dead", ""), 503),
        (get("/page", ""), 503),
        (get("/a b", ""), 400),
        (get(&format!("/{}", "a".repeat(2000)), ""), 414),
        (get("/get", &format!("x: {}\r\n", "y".repeat(6000))), 431),
        (get("/get", &fields), 431),
        ("GET /get HTTP/1.1\r\nHo".into(), 408),
    ]
}

fn ask(gateway: &Gateway, request: &str) -> Response {
    let mut client = Client::connect(gateway);
    client.send(request);
    client.response()
}

#[test]
fn problem_details_are_valid_wherever_an_error_comes_from() {
    let upstream = Upstream::says("");
    let gateway = failing(&upstream, "errors: problem+json");
    let mut bodies = Vec::new();
    for (request, status) in cases() {
        let answer = ask(&gateway, &request);
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
        assert_eq!(answer.fields.get("content-type"), Some("application/problem+json"), "{answer:?}");
        let body = answer.json();
        assert_eq!(body["status"].as_u64(), Some(u64::from(status)), "{body}");
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["code"].as_u64().unwrap() / 100, u64::from(status));
        for text in ["title", "detail", "request_id"] {
            assert!(!body[text].as_str().unwrap().is_empty(), "{text}: {body}");
        }
        bodies.push(body);
    }
    assert_eq!(bodies[0]["title"], "Not Found");
    assert_eq!(bodies[5]["meta"]["failed"][0], "a", "what an aggregation tells of its parts stays: {}", bodies[5]);
    // A validator of others, with the schema of the RFC.
    let program = format!(
        "import json, sys, jsonschema\nschema = json.loads('''{PROBLEM_SCHEMA}''')\n\
         jsonschema.Draft202012Validator.check_schema(schema)\n\
         all = json.load(sys.stdin)\n[jsonschema.validate(body, schema) for body in all]\nprint(len(all))"
    );
    let said = output_of("/usr/bin/python3", &["-c", &program], serde_json::to_string(&bodies).unwrap().as_bytes());
    assert_eq!(said.trim(), bodies.len().to_string());
    assert_eq!(
        ask(&gateway, "GET /says HTTP/1.1\r\nHost: a\r\n\r\n").text(),
        "mine",
        "an operator's answer is no error"
    );
}

#[test]
fn a_connection_over_the_cap_is_told_in_the_same_form() {
    let upstream = Upstream::says("");
    // Over TLS it is closed without an answer.
    let setup = Setup::forward(&upstream).plain().top("errors: problem+json");
    let gateway = setup.listener("bounds: { connections: 1 }").start();
    let mut first = Client::connect(&gateway);
    assert_eq!(first.get("/x").status, 200);
    let answer = Client::connect(&gateway).response();
    assert_eq!((answer.status, answer.fields.get("retry-after")), (503, Some("1")));
    assert_eq!(answer.fields.get("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json()["code"], 50303);
}

#[test]
fn text_says_what_the_envelope_says() {
    let upstream = Upstream::says("");
    let gateway = failing(&upstream, "errors: text");
    for (request, status) in cases() {
        let answer = ask(&gateway, &request);
        assert_eq!(answer.status, status);
        assert_eq!(answer.fields.get("content-type"), Some("text/plain; charset=utf-8"), "{answer:?}");
        let text = answer.text();
        assert!(text.starts_with(&status.to_string()) && text.contains(&format!("(code {status}")), "{text}");
    }
    let answer = ask(&gateway, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let log = gateway.wait_log(|line| line["path"] == "/none" && line["status"] == 404);
    let id = log["request_id"].as_str().unwrap();
    assert!(answer.text().contains("404 Not Found: no route matches (code 40401, request "), "{}", answer.text());
    assert!(!id.is_empty());
}

#[test]
fn own_bodies_stand_for_statuses_and_classes_and_keep_all_other_fields() {
    let file = temp_dir("errors").join("sorry.html");
    std::fs::write(&file, "<style>p { color: red }</style><p>{status} {message} {request_id}</p>").unwrap();
    let upstream = Upstream::start(answers("HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\ntheirs"));
    let errors = format!(
        r#"errors: {{ format: problem+json, bodies: {{ 405: {{ content_type: application/json, body: '{{"why": "{{message}}", "id": "{{request_id}}", "code": {{code}}}}' }}, 4xx: {{ content_type: text/plain, body: "no {{status}}" }}, 5xx: {{ content_type: text/html, file: {} }} }} }}"#,
        file.display()
    );
    let gateway = failing(&upstream, &errors);
    for (request, status) in cases() {
        let answer = ask(&gateway, &request);
        assert_eq!(answer.status, status, "{answer:?}");
        let id = answer.fields.get("x-request-id").unwrap().to_string();
        let expected = match status {
            405 => {
                assert_eq!(answer.fields.get("allow"), Some("GET, HEAD"));
                assert_eq!(answer.json()["id"], id);
                assert_eq!(answer.json()["code"], 40501);
                continue;
            }
            400..=499 => format!("no {status}"),
            _ => {
                assert_eq!(answer.fields.get("content-type"), Some("text/html"));
                let text = answer.text();
                assert!(
                    text.starts_with("<style>p { color: red }</style><p>503 ") && text.ends_with(&format!(" {id}</p>")),
                    "{text}"
                );
                continue;
            }
        };
        assert_eq!(answer.text(), expected);
    }
    assert_eq!(
        ask(&gateway, "GET /get HTTP/1.1\r\nHost: a\r\n\r\n").text(),
        "theirs",
        "an upstream's answer is its own"
    );
    // HEAD has the length and no body; the connection goes on.
    let mut client = Client::connect(&gateway);
    client.send("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!((head.status, head.fields.get("content-length")), (404, Some("6")));
    assert_eq!(client.get("/none").text(), "no 404");
}

#[test]
fn a_large_body_of_ones_own_is_sent_whole_and_an_id_of_a_client_is_only_text_in_it() {
    let file = temp_dir("errors").join("large.html");
    std::fs::write(&file, format!("{}<i>{{request_id}}</i>", "x".repeat(60 << 10))).unwrap();
    let upstream = Upstream::says("");
    let errors = format!("errors: {{ bodies: {{ 404: {{ content_type: text/html, file: {} }} }} }}", file.display());
    let gateway = failing(&upstream, &format!("{errors}\ntrusted_proxies: [127.0.0.0/8]"));
    let mut client = Client::connect(&gateway);
    for id in ["<script>", "a'b\"c", "&lt"] {
        let answer = client.ask(format!("GET /none HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n"));
        let text = answer.text();
        assert!(text.len() > 60 << 10 && text.ends_with("</i>"));
        assert!(!text.contains(id), "an id like this is not taken over at all");
    }
}

/// Routes that say themselves how errors are told, and one that does not.
fn by_route(upstream: &Upstream) -> Gateway {
    let dead = crate::support::free_port();
    let all = r#"errors: { format: text, bodies: { 403: { content_type: text/plain, body: "all {status}" }, 5xx: { content_type: text/html, body: "<p>all {status}</p>" } } }"#;
    let own = r#"errors: { bodies: { 403: { content_type: text/html, body: "<h1>{status} {message}</h1>" }, 4xx: { content_type: application/json, body: '{"own": {code}}' } } }"#;
    let both =
        r#"errors: { format: problem+json, bodies: { 503: { content_type: text/plain, body: "both {status}" } } }"#;
    let mut setup = Setup::new()
        .top(all)
        .top("filters: { locked: { ip: { deny: [0.0.0.0/0] } }, slow: { fault: { abort: { status: 504, percent: 100% } } } }")
        .listener("timeouts: { request_header: 500ms }")
        .upstream("u", &[upstream], "")
        .upstream_at("dead", &format!("[\"127.0.0.1:{dead}\"]"), "");
    for (name, errors) in [("all", ""), ("own", own), ("both", both), ("word", "errors: envelope")] {
        let comma = if errors.is_empty() { "" } else { ", " };
        let page = "aggregate: { parts: [{ name: a, upstream: dead, request: { path: / } }] }";
        for route in [
            format!("match: {{ path: /{name}/get, methods: [GET] }}, forward: {{ upstream: u }}"),
            format!("match: {{ path: /{name}/locked }}, filters: [locked], forward: {{ upstream: u }}"),
            format!("match: {{ path: /{name}/slow }}, filters: [slow], forward: {{ upstream: u }}"),
            format!("match: {{ path: /{name}/dead }}, forward: {{ upstream: dead }}"),
            format!("match: {{ path: /{name}/page }}, {page}"),
            format!("match: {{ path: /{name}/post }}, forward: {{ upstream: u }}, body_limit: 10B"),
            format!("match: {{ path: /{name}/says }}, respond: {{ body: mine }}, body_limit: 10B"),
        ] {
            setup = setup.route(&format!("{route}{comma}{errors}"));
        }
    }
    setup.start()
}

#[test]
fn a_route_tells_errors_in_its_own_way_and_the_nearest_holds() {
    let upstream = Upstream::start(answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ntheirs"));
    let gateway = by_route(&upstream);
    let (html, text, problem) = ("text/html", "text/plain; charset=utf-8", "application/problem+json");
    for (path, status, kind, begin) in [
        ("/all/locked", 403, "text/plain", "all 403"),
        ("/all/dead", 503, html, "<p>all 503</p>"),
        ("/all/page", 503, html, "<p>all 503</p>"),
        ("/all/post", 413, text, "413 "),
        // Its own bodies, by status and class; all else as for all.
        ("/own/locked", 403, html, "<h1>403 this address may not call</h1>"),
        ("/own/post", 413, "application/json", "{\"own\": 41301}"),
        ("/own/says", 413, "application/json", "{\"own\": 41301}"),
        ("/own/dead", 503, html, "<p>all 503</p>"),
        ("/own/page", 503, html, "<p>all 503</p>"),
        // A format of its own leaves none of the bodies for all.
        ("/both/dead", 503, "text/plain", "both 503"),
        ("/both/page", 503, "text/plain", "both 503"),
        ("/both/slow", 504, problem, "{\"type\""),
        ("/both/locked", 403, problem, "{\"type\""),
        ("/both/post", 413, problem, "{\"type\""),
        ("/word/locked", 403, "application/json", "{\"code\":40301"),
        ("/word/dead", 503, "application/json", "{\"code\":50302"),
        ("/word/says", 413, "application/json", "{\"code\":41301"),
    ] {
        let body = if path.ends_with("post") || path.ends_with("says") { "0123456789a" } else { "" };
        // In chunks: the limit is found to be passed while the body is read.
        let request = match body {
            "" => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => {
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{body}\r\n0\r\n\r\n")
            }
        };
        let answer = ask(&gateway, &request);
        let told = (answer.status, answer.fields.all("content-type"));
        assert_eq!(told, (status, vec![kind]), "{path}: {answer:?}");
        assert!(answer.text().starts_with(begin), "{path}: {}", answer.text());
        assert_eq!(gateway.log_of(path)["status"], status);
    }
    // An aggregation's own envelope, with what it tells of its parts.
    let page = ask(&gateway, "GET /word/page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((page.status, &page.json()["meta"]["failed"][0]), (503, &"a".into()));
    assert_eq!(page.fields.all("content-type"), ["application/json; charset=utf-8"]);
    // What is not the gateway's stays, and so does what is no error.
    assert_eq!(ask(&gateway, "GET /own/get HTTP/1.1\r\nHost: a\r\n\r\n").text(), "theirs");
    assert_eq!(ask(&gateway, "GET /own/says HTTP/1.1\r\nHost: a\r\n\r\n").text(), "mine");
    // Before a route is known, that for all: also 405, about which several routes may decide.
    for (request, status) in [
        ("POST /own/get HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /own/none HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /own/get HTTP/1.1\r\n\r\n", 400),
        ("GET /own/get HTTP/1.1\r\nHo", 408),
    ] {
        let answer = ask(&gateway, request);
        assert_eq!((answer.status, answer.fields.get("content-type")), (status, Some(text)), "{answer:?}");
    }
    // One connection, several routes: each answer has the form of its own.
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        assert!(client.get("/own/locked").text().starts_with("<h1>403"));
        assert_eq!(client.get("/all/locked").text(), "all 403");
        assert!(client.get("/word/locked").text().starts_with("{\"code\":40301"));
    }
}

#[test]
fn curl_gets_the_pages_of_the_route() {
    let upstream = Upstream::says("");
    let gateway = by_route(&upstream);
    let shows = ["-w", " %{http_code} %{content_type}"];
    let read = |path: &str| curl(&[&shows[..], &[&format!("{}{path}", url(gateway.addr))]].concat());
    assert_eq!(read("/own/locked"), "<h1>403 this address may not call</h1> 403 text/html");
    assert_eq!(read("/own/dead"), "<p>all 503</p> 503 text/html");
    assert_eq!(read("/both/dead"), "both 503 503 text/plain");
    assert!(read("/both/locked").ends_with(" 403 application/problem+json"));
}

#[test]
fn what_is_wrong_with_the_errors_of_a_route_is_told_with_its_place() {
    for (errors, why) in [
        ("problem", "routes[0].errors: `problem` "),
        ("{ format: html }", "routes[0].errors.format: "),
        ("{ bodies: { 200: { content_type: text/plain, body: x } } }", "is not a status that tells of an error"),
        ("{ bodies: { 404: { content_type: text/html, body: '{requestid}' } } }", "did you mean `request_id`?"),
        ("{ body: x }", "routes[0].errors.body: "),
    ] {
        let told = Setup::new().route(&format!("match: {{ path: / }}, respond: {{}}, errors: {errors}")).refused();
        assert!(told.contains(why), "{errors}: {told}");
    }
}

#[test]
fn what_can_not_be_is_told_at_the_start() {
    for (errors, why) in [
        ("errors: problem", "allowed: envelope, problem+json, text"),
        (
            "errors: { bodies: { 200: { content_type: text/plain, body: x } } }",
            "is not a status that tells of an error",
        ),
        ("errors: { bodies: { 404: { content_type: text/plain, file: /no/such } } }", "can not be read"),
        ("errors: { bodies: { 404: { content_type: text/html, body: '{requestid}' } } }", "did you mean `request_id`?"),
    ] {
        let told = Setup::new().top(errors).refused();
        assert!(told.contains(why), "{errors}: {told}");
    }
}
