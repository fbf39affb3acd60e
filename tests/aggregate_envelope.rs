//! One answer from many: the envelopes, what they tell of their parts, the fields around them, log and metrics.

use crate::aggregate::{DELICATE, three, three_pages};
use crate::support::aggregate::{json, json_of, part, part_of, path_of, timeless};
use crate::support::foreign::{curl, output_of, url};
use crate::support::misbehave::answers;
use crate::support::{Setup, Upstream};
use std::time::Duration;

#[test]
fn uniform_has_the_same_keys_whether_parts_work_or_not() {
    let upstream = Upstream::pages(&[("/a", "1"), ("/1", "2")]);
    let parts = [
        part("a", "/a", ""),
        part("b", "/{id}", "required: false"),
        part("c", "/c/{id}", "required: false, fallback: { data: [] }"),
    ];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("envelope: uniform", &parts).start();
    let (data, meta) = gateway.get("/page/1").partial();
    assert_eq!(data, r#"{"a":1,"b":2,"c":[]}"#);
    let c = r#""c":{"state":"fallback","source":"static","reason":"status","status":404,"ms":0}"#;
    assert_eq!(meta, format!("{{\"degraded\":[\"c\"],\"parts\":{{{c}}}}}"));
    let (data, meta) = gateway.get("/page/2").partial();
    assert_eq!(data, r#"{"a":1,"b":null,"c":[]}"#);
    let b = r#""b":{"state":"failed","source":null,"reason":"status","status":404,"ms":0}"#;
    assert_eq!(meta, format!("{{\"degraded\":[\"b\",\"c\"],\"parts\":{{{b},{c}}}}}"));
}

#[test]
fn expose_parts_says_when_the_answer_tells_of_its_parts() {
    let upstream = Upstream::pages(&[("/a", "1"), ("/1", "2")]);
    let parts =
        [part("a", "/a", ""), part("b", "/{id}", "required: false"), part("c", "/c", "shadow: { sample: 100% }")];
    let ask = |keys: &str, page: &str| {
        let gateway = Setup::new().upstream("u", &[&upstream], "").page(keys, &parts).start();
        timeless(&gateway.get(page).body)
    };
    let (whole, part) = (
        r#"{"code":0,"message":"OK","data":{"a":1,"b":2}"#,
        r#"{"code":1,"message":"partial","data":{"a":1,"b":null}"#,
    );
    let a = r#""a":{"state":"ok","source":"upstream","reason":null,"status":200,"ms":0}"#;
    let (b_ok, b) =
        (a.replace("\"a\"", "\"b\""), r#""b":{"state":"failed","source":null,"reason":"status","status":404,"ms":0}"#);
    assert_eq!(ask("expose_parts: never", "/page/1"), format!("{whole}}}"));
    assert_eq!(ask("expose_parts: never", "/page/2"), format!("{part},\"meta\":{{\"degraded\":[\"b\"]}}}}"));
    assert_eq!(ask("expose_parts: on_degraded", "/page/1"), format!("{whole}}}"));
    let told = format!("{part},\"meta\":{{\"degraded\":[\"b\"],\"parts\":{{{b}}}}}}}");
    assert_eq!(ask("expose_parts: on_degraded", "/page/2"), told);
    assert_eq!(ask("", "/page/2"), told, "the default");
    let all = format!("{whole},\"meta\":{{\"degraded\":[],\"parts\":{{{a},{b_ok}}}}}}}");
    assert_eq!(ask("expose_parts: always", "/page/1"), all);
    let all = format!("{part},\"meta\":{{\"degraded\":[\"b\"],\"parts\":{{{a},{b}}}}}}}");
    assert_eq!(ask("expose_parts: always", "/page/2"), all);
}

#[test]
fn raw_is_the_object_of_parts_alone() {
    let upstream = Upstream::pages(&[("/a", DELICATE), ("/1", "2")]);
    let parts = [part("a", "/a", ""), part("b", "/{id}", "required: false")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("envelope: raw", &parts).start();
    let whole = gateway.get("/page/1");
    assert_eq!(
        (whole.text(), whole.fields.get("x-gateway-completed")),
        (latin(&format!("{{\"a\":{DELICATE},\"b\":2}}")), Some("true"))
    );
    let part = gateway.get("/page/2");
    assert_eq!(
        (part.text(), part.fields.get("x-gateway-completed")),
        (latin(&format!("{{\"a\":{DELICATE},\"b\":null}}")), Some("false"))
    );
    assert_eq!((part.status, part.fields.get("cache-control")), (200, Some("no-store")));
}

/// As [`Response::text`](crate::support::message::Response::text) has it.
fn latin(text: &str) -> String {
    crate::support::message::latin1(text.as_bytes())
}

#[test]
fn merge_is_one_flat_object_and_on_conflict_decides_who_is_in_it() {
    let upstream = Upstream::pages(&[
        ("/a", r#"{ "id": 1, "tags" : [1, 2], "a": 9007199254740993 }"#),
        ("/b", r#"{"b": {"x":1}, "\u0069d": "two", "tags":[ 3 ]}"#),
        ("/c", r#"{"tags": 4, "c":null}"#),
        ("/empty", "{}"),
        ("/list", "[]"),
    ]);
    let parts = [part("pa", "/a", ""), part("pb", "/b", ""), part("pc", "/c", "")];
    let ask = |keys: &str, parts: &[String]| {
        let keys = format!("envelope: merge, {keys}");
        Setup::new().upstream("u", &[&upstream], "").page(&keys, parts).start().get("/page/1")
    };
    let merged = |keys: &str| ask(keys, &parts).text();
    assert_eq!(merged("on_conflict: first"), r#"{"id":1,"tags":[1, 2],"a":9007199254740993,"b":{"x":1},"c":null}"#);
    assert_eq!(merged("on_conflict: last"), r#"{"id":"two","tags":4,"a":9007199254740993,"b":{"x":1},"c":null}"#);
    assert_eq!(
        merged("on_conflict: append"),
        r#"{"id":[1,"two"],"tags":[1, 2,3,4],"a":9007199254740993,"b":{"x":1},"c":null}"#
    );
    ask("on_conflict: error", &parts).failed_merge(502, "pb");
    let optional = [
        part("pa", "/a", ""),
        part("pb", "/b", "required: false, allow: [b, id]"),
        part("pc", "/c", "required: false, into: own"),
        part("pd", "/empty", ""),
    ];
    let answer = ask("on_conflict: error", &optional);
    assert_eq!(answer.fields.get("x-gateway-completed"), Some("false"));
    let kept = r#"{"id":1,"tags":[1, 2],"a":9007199254740993,"b":null,"own":{"tags": 4, "c":null}}"#;
    assert_eq!(answer.text(), kept, "the later one fails, and its keys stay");
    ask("on_conflict: first", &[part("pa", "/a", ""), part("pl", "/list", "")]).failed_merge(502, "pl");
}

impl crate::support::message::Response {
    /// Not uniform: its errors are in the envelope all the same, with `meta.failed`.
    fn failed_merge(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["meta"], serde_json::json!({"failed": [part]}), "{self:?}");
        assert!(self.json()["data"].is_null() && self.json()["code"].as_u64().unwrap() / 100 == u64::from(status));
    }
}

#[test]
fn the_field_that_says_complete_may_have_another_name_or_none() {
    let upstream = Upstream::pages(&[("/a", "1")]);
    let parts = [part("a", "/a", ""), part("b", "/{id}", "required: false")];
    for (keys, name) in [("completed_header: X-Whole", Some("x-whole")), ("completed_header: none", None)] {
        let gateway = Setup::new().upstream("u", &[&upstream], "").page(keys, &parts).start();
        let answer = gateway.get("/page/2");
        assert!(!answer.fields.has("x-gateway-completed") && !answer.fields.has("none"), "{answer:?}");
        assert_eq!(name.and_then(|name| answer.fields.get(name)), name.map(|_| "false"), "{answer:?}");
    }
}

#[test]
fn server_timing_has_a_row_for_each_part_that_was_asked() {
    let upstream = Upstream::by(|request| {
        std::thread::sleep(Duration::from_millis(if request.target == "/slow" { 120 } else { 0 }));
        if request.target == "/bad" { json_of(500, "", "{}") } else { json("1") }
    });
    let parts = [
        part("slow", "/slow", ""),
        part("bad", "/bad", "required: false"),
        part("skipped", "/x", "required: false, when: \"parts.slow == 2\""),
        part("shadow", "/y", "shadow: { sample: 100% }"),
    ];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    let answer = gateway.get("/page/1");
    let timing = answer.fields.get("server-timing").unwrap();
    let rows: Vec<&str> = timing.split(", ").collect();
    assert_eq!(rows.len(), 2, "{timing}");
    let slow: f64 = rows[0].strip_prefix("slow;dur=").unwrap().parse().unwrap();
    assert!((119.0..1000.0).contains(&slow), "{timing}");
    let (ms, reason) = rows[1].strip_prefix("bad;dur=").unwrap().split_once(';').unwrap();
    assert!(ms.parse::<f64>().unwrap() < 100.0 && reason == "desc=\"status\"", "{timing}");
}

#[test]
fn fields_of_a_part_are_dropped_unless_headers_from_names_it() {
    let lines = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Own: {}\r\nLink: </n>; rel=next\r\nETag: \"x\"\r\nLast-Modified: Tue\r\n\
                 Content-Language: de\r\nContent-Disposition: attachment\r\nAge: 5\r\nAccept-Ranges: bytes\r\n\
                 x-GATEWAY-completed: forged\r\nCache-Control: max-age=60\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
                 Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nUpgrade: x\r\n";
    let upstream = Upstream::by(move |request| match path_of(request) {
        "/none" => json_of(404, lines, "{}"),
        path => json_of(200, &lines.replace("{}", path), "1"),
    });
    let parts = [part("a", "/a", ""), part("b", "/b", ""), part("c", "/{id}", "required: false")];
    let ask =
        |keys: &str, page: &str| Setup::new().upstream("u", &[&upstream], "").page(keys, &parts).start().get(page);
    let own = [
        "content-type",
        "x-gateway-completed",
        "cache-control",
        "server-timing",
        "date",
        "content-length",
        "x-request-id",
        "connection",
        "via",
    ];
    let rest = |answer: &crate::support::message::Response| {
        let passed = answer.fields.0.iter().filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()));
        passed.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let answer = ask("", "/page/c");
    answer.data();
    assert_eq!(rest(&answer), Vec::<String>::new());
    let answer = ask("headers_from: b", "/page/c");
    assert_eq!(rest(&answer), ["Set-Cookie: a=1", "Set-Cookie: b=2", "X-Own: /b", "Link: </n>; rel=next"]);
    assert_eq!(answer.fields.get("x-gateway-completed"), Some("true"), "what says so is the gateway");
    assert_eq!(answer.fields.get("cache-control"), Some("max-age=60"));
    assert_eq!(answer.fields.get("content-type"), Some("application/json; charset=utf-8"));
    let answer = ask("headers_from: b", "/page/none");
    answer.partial(); // no-store, whatever the part says
    assert_eq!(answer.fields.get("set-cookie-none"), None);
    let answer = ask("headers_from: c", "/page/none");
    answer.partial();
    assert_eq!(rest(&answer), Vec::<String>::new(), "a part that failed gives none");
}

#[test]
fn response_headers_change_what_the_gateway_says() {
    let upstream = Upstream::pages(&[("/a", "1")]);
    let parts = [part("a", "/a", ""), part("b", "/{id}", "required: false")];
    let edits = "response_headers: { set: { cache-control: private, x-id: \"<{id}>\" }, remove: [server-timing] }";
    let gateway = Setup::new().upstream("u", &[&upstream], "").page(edits, &parts).start();
    let answer = gateway.get("/page/2");
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (200, Some(1)));
    assert_eq!(answer.fields.get("cache-control"), Some("private"));
    assert_eq!((answer.fields.get("x-id"), answer.fields.get("server-timing")), (Some("<2>"), None));
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("server_timing: false", &parts).start();
    assert!(!gateway.get("/page/2").fields.has("server-timing"));
}

#[test]
fn response_headers_rename_and_append_as_they_do_on_a_forwarded_answer() {
    let theirs = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Old: 1\r\nx-new: theirs\r\nVary: Accept\r\nvary: Cookie\r\nX-OLD: 2\r\n\
                  X-Dropped: a\r\nx_tag: t\r\nX-Frame-Options: SAMEORIGIN\r\nContent-Length: 1\r\n\r\n1";
    let upstream = Upstream::start(answers(theirs));
    let edits = "response_headers: { rename: { x-old: X-New, x-frame-options: x-framed, x-none: x-dropped, x-tag: x-label }, \
                 remove: [server-timing], set: { x-s: \"{path}\" }, \
                 append: { Vary: Origin, cache-control: must-revalidate, x-s: \"{host}\", x-empty: \"{query.none}\" }, add: { x-s: last } }";
    let page = part("a", "/", "");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top("filters: { safe: { security_headers: { override: true, frame_options: DENY } } }")
        .top("all_routes: { filters: [safe] }")
        .route(&format!("match: {{ path: /forwarded }}, forward: {{ upstream: u, {edits} }}"))
        .route(&format!("match: {{ path: /page }}, aggregate: {{ headers_from: a, {edits}, parts: [{page}] }}"))
        .start();
    // What curl reads of the one is what it reads of the other, but for what each says of its own.
    let read = |path: &str| {
        let url = format!("{}{path}", url(gateway.addr));
        let head = curl(&["-o", "/dev/null", "-D", "-", &url]);
        let is_own = |name: &str| {
            ["http/1.1 200 ok", "content-type", "content-length", "date", "x-gateway-completed", "x-s"].contains(&name)
        };
        let mut lines: Vec<String> = head.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        lines.retain(|line| !is_own(&line.split(':').next().unwrap().trim().to_ascii_lowercase()));
        lines.sort();
        lines
    };
    let forwarded = read("/forwarded");
    assert_eq!(read("/page"), forwarded);
    let of = |name: &str| format!("{name}: ");
    let all = |name: &str| forwarded.iter().filter_map(|line| line.strip_prefix(&of(name))).collect::<Vec<_>>();
    assert_eq!(all("X-New"), ["1", "2"]);
    assert_eq!((all("Vary"), all("x-framed")), (vec!["Accept, Cookie, Origin"], vec!["SAMEORIGIN"]));
    assert_eq!((all("x-label"), all("X-Frame-Options")), (vec!["t"], vec!["DENY"]));
    let answer = gateway.get("/page");
    assert_eq!(answer.fields.all("x-s"), ["/page, gw.test", "last"]);
    assert_eq!((answer.fields.get("cache-control"), answer.fields.has("x-empty")), (Some("must-revalidate"), false));
    assert_eq!(answer.fields.all("x-dropped"), ["a"], "nothing had the old name");
}

#[test]
fn what_the_gateway_says_of_an_aggregation_is_renamed_and_appended_to_as_well() {
    let upstream = Upstream::pages(&[("/a", "1")]);
    let edits = "response_headers: { rename: { x-gateway-completed: X-Whole, date: x-date }, append: { Cache-Control: private } }";
    let parts = [part("a", "/a", ""), part("b", "/{id}", "required: false")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page(edits, &parts).start();
    let answer = gateway.get("/page/2");
    assert_eq!((answer.fields.get("x-whole"), answer.fields.get("x-gateway-completed")), (Some("false"), None));
    assert_eq!(answer.fields.all("cache-control"), ["no-store, private"], "never without no-store");
    assert_eq!((answer.fields.has("date"), answer.fields.has("x-date")), (true, false), "the time is the gateway's");
    // A failed one too.
    let parts = [part("b", "/{id}", "")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page(edits, &parts).start();
    let answer = gateway.get("/page/2");
    assert_eq!((answer.status, answer.fields.get("x-whole")), (502, Some("false")));
    assert_eq!(answer.fields.all("cache-control"), ["no-store, private"]);
}

#[test]
fn edits_of_an_aggregation_are_checked_like_those_of_a_forwarded_answer() {
    let upstream = Upstream::says("");
    for (edits, why) in [
        ("append: { set-cookie: a=b }", "is no list"),
        ("rename: { content-length: x }", "can not be changed"),
        ("rename: { x-a: x-b }, remove: [x-a]", "is renamed, and removed"),
    ] {
        let page = format!("response_headers: {{ {edits} }}");
        let told = Setup::new().upstream("u", &[&upstream], "").page(&page, &[part("a", "/", "")]).refused();
        assert!(told.contains(why), "{edits}: {told}");
    }
}

#[test]
fn the_log_tells_of_each_part_and_metrics_count_them() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/slow" => {
            std::thread::sleep(Duration::from_millis(150));
            json("1")
        }
        "/bad" => json("nonsense"),
        _ => json("2"),
    });
    let parts = [
        part("slow", "/slow", ""),
        part("bad", "/bad", "required: false, fallback: { data: 0 }"),
        part("after", "/after", "required: false, when: \"parts.slow == 7\""),
        part("later", "/later/{parts.slow}", ""),
    ];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    gateway.get("/page/1").partial();
    let line = gateway.log_of("/page/1");
    let told: Vec<String> = line["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{} {} {}", p["name"], p["status"], p["reason"]))
        .collect();
    assert_eq!(
        told,
        ["\"slow\" 200 null", "\"bad\" 200 \"bad_body\"", "\"after\" null \"condition\"", "\"later\" 200 null"],
        "{line}"
    );
    assert!(line["parts"][0]["ms"].as_f64().is_some_and(|ms| (149.0..1000.0).contains(&ms)), "{line}");
    assert!(line["parts"][1]["ms"].as_f64().is_some_and(|ms| ms < 149.0), "{line}");
    assert_eq!((&line["status"], &line["end"], &line["route"]), (&200.into(), &"ok".into(), &"page".into()), "{line}");
    let (total, added) = (line["total_us"].as_u64().unwrap(), line["added_us"].as_u64().unwrap());
    assert!((149_000..1_000_000).contains(&total), "{line}");
    assert!(added < 75_000 && added < total, "a part's time is none of the gateway's: {line}");
    let metrics = gateway.metrics();
    let count = |part: &str, result: &str| {
        metrics.sum("ringway_parts_total", &[("route", "page"), ("part", part), ("result", result)])
    };
    assert_eq!(
        [
            count("slow", "ok"),
            count("bad", "bad_body"),
            count("bad", "ok"),
            count("after", "condition"),
            count("later", "ok")
        ],
        [1.0, 1.0, 0.0, 1.0, 1.0]
    );
    let fallbacks = |source: &str| metrics.sum("ringway_part_fallbacks_total", &[("part", "bad"), ("source", source)]);
    assert_eq!([fallbacks("static"), fallbacks("stale")], [1.0, 0.0]);
    let durations =
        |part: &str| metrics.sum("ringway_part_duration_seconds_count", &[("route", "page"), ("part", part)]);
    assert_eq!([durations("slow"), durations("bad"), durations("after")], [1.0, 1.0, 0.0]);
    assert!(metrics.sum("ringway_part_duration_seconds_sum", &[("part", "slow")]) >= 0.149);
}

/// Reads one answer per line, and says what it found: Python's integers have no bounds, and its dicts keep their order.
const READER: &str = r#"
import json, sys
for line in sys.stdin.buffer.read().split(b"\0"):
    said = json.loads(line.decode())
    data = said["data"]
    print(said["code"], said["message"], list(said), list(data), list(data["zeta"]), data["zeta"]["z"], data["zeta"]["e"] == "\0é/\"\\\U0001f600")
"#;

#[test]
fn pythons_json_reads_what_the_gateway_writes() {
    let upstream = three_pages();
    let parts = [part("zeta", "/zeta", ""), part_of("u", "gone", "/gone", "required: false"), part("mid", "/mid", "")];
    let degraded = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    let bodies = [three(&upstream).get("/page/7").body, degraded.get("/page/7").body];
    let said = output_of("python3", &["-c", READER], &bodies.join(&0));
    let zeta = "['z', 'a', 'n', 'e', '', '日本', 't', 'o'] 9007199254740993 True";
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            format!("0 OK ['code', 'message', 'data'] ['zeta', 'alpha', 'mid'] {zeta}"),
            format!("1 partial ['code', 'message', 'data', 'meta'] ['zeta', 'gone', 'mid'] {zeta}"),
        ]
    );
}

#[test]
fn a_bad_aggregate_is_refused_with_its_line_and_name() {
    let upstream = Upstream::says("never");
    let parts = [part("user", "/a", ""), part("orders", "/b", ""), part("orders", "/c", "")];
    let said = Setup::new().upstream("u", &[&upstream], "").page("", &parts).refused();
    // The parts' lines follow that of their route, the 11th.
    assert!(said.contains("gateway.yaml:14:") && said.contains("`orders` already exists on line 13"), "{said}");
    assert_eq!(said.matches("gateway.yaml:").count(), 1, "{said}");
}
