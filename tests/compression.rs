//! `compress`: what clients get is decoded by programs that nobody here wrote (`support/decoders.rs`).

use crate::support::decoders::{decode, is_whole};
use crate::support::foreign::{self, curl, curl_trust};
use crate::support::gateway::Process;
use crate::support::message::{Framing, Response, chunked};
use crate::support::misbehave::{answers, starts_and_closes, starts_and_resets};
use crate::support::upstream::Conn;
use crate::support::wire::Fault;
use crate::support::{Client, Gate, Gateway, Seeded, Setup, Upstream, eventually, temp_dir};
use std::process::Command;

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];
const MIB: usize = 1 << 20;

fn with(upstream: &Upstream, keys: &str) -> Setup {
    Setup::new()
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ small: {{ compress: {{ {keys} }} }} }}"))
        .forward_all("filters: [small]")
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn accepting(path: &str, coding: &str) -> String {
    get(path, &format!("Accept-Encoding: {coding}\r\n"))
}

fn body(kind: &str, size: usize) -> Vec<u8> {
    match kind {
        "noise" => Seeded(size as u64 + 1).bytes(size),
        _ => (0..).flat_map(|n| format!("{{\"id\":{n},\"name\":\"user {n}\"}},\n").into_bytes()).take(size).collect(),
    }
}

/// Answers `/kind/size/framing` with such a body: framings are `length`, `close`, and the size of chunks.
fn by_path(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        let parts: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
        let body = body(parts[0], parts[1].parse().unwrap());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        let (fields, body) = match parts[2] {
            "length" => (format!("Content-Length: {}\r\n\r\n", body.len()), body),
            "close" => ("Connection: close\r\n\r\n".to_owned(), body),
            size => ("Transfer-Encoding: chunked\r\n\r\n".to_owned(), chunked(&body, size.parse().unwrap())),
        };
        let body = if request.method == "HEAD" { Vec::new() } else { body };
        if !conn.write([head.as_bytes(), fields.as_bytes(), &body].concat()) || parts[2] == "close" {
            return;
        }
    }
}

/// The answer's own bytes, by what it says of its coding.
fn decoded(answer: &Response) -> Vec<u8> {
    match answer.fields.get("content-encoding") {
        Some(coding) => decode(coding, &answer.body),
        None => answer.body.clone(),
    }
}

fn skipped(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().sum("ringway_compression_skipped_total", &[("filter", "small"), ("reason", reason)])
}

#[test]
fn bodies_of_every_size_come_out_as_they_went_in() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "").start();
    let mut client = Client::connect(&gateway);
    for coding in CODINGS {
        for size in [0, 1, 1023, 1024, 1025, 16_383, 16_384, 16_385, MIB] {
            for (kind, framing) in [("json", "length"), ("json", "777"), ("noise", "length"), ("noise", "40000")] {
                let path = format!("/{kind}/{size}/{framing}");
                let answer = client.ask(accepting(&path, coding));
                let is_coded = framing != "length" || size >= 1024;
                let coded = answer.fields.get("content-encoding");
                assert_eq!(
                    (answer.status, coded),
                    (200, is_coded.then_some(coding)),
                    "{coding} {path}: {answer:.300?}"
                );
                assert!(decoded(&answer) == body(kind, size), "{coding} {path}");
                if is_coded {
                    assert_eq!(answer.fields.all("vary"), ["Accept-Encoding"], "{coding} {path}");
                }
                if is_coded && kind == "json" && size > 1024 {
                    assert!(answer.body.len() < size / 2, "{coding} {path}: {}", answer.body.len());
                }
            }
        }
    }
    // An upstream that ends its answer with its connection.
    for path in ["/json/70000/close", "/json/0/close"] {
        let answer = client.ask(accepting(path, "br"));
        assert_eq!(decoded(&answer), body("json", if path.contains("70000") { 70_000 } else { 0 }));
    }
}

#[test]
fn curl_decodes_what_it_asks_for() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "").start();
    let out = temp_dir("curl").join("out").display().to_string();
    let (url, mut ways) = (foreign::url(gateway.addr) + "/json/300000/1000", vec![vec!["--compressed"]]);
    ways.extend(CODINGS.map(|coding| vec!["--compressed", "-H", accept(coding)]));
    ways.push(vec!["--compressed", "-0"]);
    for options in ways {
        curl(&[&options[..], &["-o", &out, &url]].concat());
        assert!(std::fs::read(&out).unwrap() == body("json", 300_000), "{options:?}");
    }
    for (coding, n) in [("zstd", 3.0), ("br", 1.0), ("gzip", 1.0)] {
        gateway.wait_sum("ringway_compressed_answers_total", &[("filter", "small"), ("coding", coding)], n);
    }
}

fn accept(coding: &str) -> &'static str {
    match coding {
        "gzip" => "Accept-Encoding: gzip",
        "br" => "Accept-Encoding: br",
        _ => "Accept-Encoding: zstd",
    }
}

#[test]
fn a_pipeline_stays_in_sync() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "").start();
    let mut client = Client::connect(&gateway);
    let asked =
        [("/json/50000/length", "gzip"), ("/json/10/length", "br"), ("/json/2000/100", "zstd"), ("/noise/40000/7", "")];
    client.send(asked.map(|(path, coding)| accepting(path, coding)).concat());
    for (path, _) in asked {
        let parts: Vec<&str> = path.split('/').collect();
        assert!(decoded(&client.response()) == body(parts[1], parts[2].parse().unwrap()), "{path}");
    }
    client.is_silent();
}

#[test]
fn a_streamed_request_has_its_answer_compressed_and_the_next_one_follows() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "").start();
    let mut client = Client::connect(&gateway);
    for coding in CODINGS {
        let head = format!("POST /json/90000/5000 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {coding}\r\n");
        let sent =
            [head.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", &chunked(&body("noise", MIB), 30_000)].concat();
        client.send([&sent[..], accepting("/json/3000/length", coding).as_bytes()].concat());
        assert!(decoded(&client.response()) == body("json", 90_000), "{coding}");
        assert!(decoded(&client.response()) == body("json", 3000), "{coding}: pipelined behind it");
    }
    // An answer that comes before the request's end is sent, and both connections are closed.
    let early = Upstream::start(|conn: &mut Conn| {
        conn.head();
        let body = chunked(&body("json", 50_000), 999);
        conn.write(
            [&b"HTTP/1.1 200 OK\r\nContent-Type: text/a\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &body].concat(),
        );
        conn.until_ended();
    });
    let gateway = with(&early, "").start();
    let mut client = Client::connect(&gateway);
    client.send("POST /a HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let answer = client.response();
    assert_eq!(answer.fields.get("connection"), Some("close"));
    assert!(decoded(&answer) == body("json", 50_000));
}

#[test]
fn the_client_chooses() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "codings: [br, gzip, zstd]").start();
    let mut client = Client::connect(&gateway);
    for (fields, expected) in [
        ("", None),
        ("Accept-Encoding:\r\n", None),
        ("Accept-Encoding: gzip, deflate, br, zstd\r\n", Some("br")),
        ("Accept-Encoding: gzip, zstd\r\n", Some("gzip")),
        ("Accept-Encoding: zstd, gzip;q=0.9\r\n", Some("zstd")),
        ("Accept-Encoding: GZIP;q=0.5, br;q=0.4\r\n", Some("gzip")),
        ("Accept-Encoding: *\r\n", Some("br")),
        ("Accept-Encoding: *;q=0.5, br;q=0\r\n", Some("gzip")),
        ("Accept-Encoding: x-gzip\r\n", Some("gzip")),
        ("Accept-Encoding: identity\r\n", None),
        ("Accept-Encoding: identity, gzip;q=0.5\r\n", None),
        ("Accept-Encoding: identity;q=0\r\n", None),
        ("Accept-Encoding: identity;q=0, zstd;q=0.1\r\n", Some("zstd")),
        ("Accept-Encoding: *;q=0\r\n", None),
        ("Accept-Encoding: gzip;q=0\r\n", None),
        ("Accept-Encoding: gzip;q=5\r\n", None),
        ("Accept-Encoding: deflate, compress, dcb\r\n", None),
        ("Accept-Encoding: zstd;q=0.1\r\nAccept-Encoding: gzip;q=0.2\r\n", Some("gzip")),
        ("Accept-Encoding: ,,;q,gzip;;,\r\n", None),
    ] {
        let answer = client.ask(get("/json/5000/length", fields));
        assert_eq!(answer.fields.get("content-encoding"), expected, "{fields}");
        assert_eq!(answer.fields.all("vary"), ["Accept-Encoding"], "compressed or not: {fields}");
        assert!(decoded(&answer) == body("json", 5000), "{fields}");
    }
    let long = format!("Accept-Encoding: {} gzip\r\n", "a;q=0.1,".repeat(3000));
    assert_eq!(client.ask(get("/json/5000/length", &long)).fields.get("content-encoding"), Some("gzip"));
    assert_eq!(skipped(&gateway, "not_accepted"), 10.0);
}

/// An upstream whose answers are made of what the request says in `x-answer`: status, then field lines.
fn as_asked(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        let wanted = request.fields.get("x-answer").unwrap_or("200").to_owned();
        let (status, fields) = wanted.split_once('|').unwrap_or((&wanted, ""));
        let fields: String = fields.split('|').filter(|f| !f.is_empty()).map(|field| format!("{field}\r\n")).collect();
        let has_body = request.method != "HEAD" && !["204", "304"].contains(&status);
        let length = if status == "204" { "" } else { "Content-Length: 3000\r\n" };
        let body = if has_body { "hello ".repeat(500) } else { String::new() };
        if !conn.write(format!("HTTP/1.1 {status} X\r\n{fields}{length}\r\n{body}")) {
            return;
        }
    }
}

#[test]
fn what_is_left_alone() {
    let upstream = Upstream::start(as_asked);
    let gateway = with(&upstream, "").start();
    let mut client = Client::connect(&gateway);
    let (json, varies) = ("Content-Type: application/json", vec!["Accept-Encoding"]);
    for (answer, coded, vary) in [
        (format!("200|{json}"), true, varies.clone()),
        (format!("404|{json}"), true, varies.clone()),
        (format!("503|{json}; charset=utf-8"), true, varies.clone()),
        ("200|Content-Type: application/problem+json".into(), true, varies.clone()),
        ("200|Content-Type: image/svg+xml".into(), true, varies.clone()),
        (format!("200|{json}|Content-Encoding: identity"), true, varies.clone()),
        (format!("200|{json}|Vary: Origin, ACCEPT-ENCODING"), true, vec!["Origin, ACCEPT-ENCODING"]),
        (format!("200|{json}|Vary: Origin"), true, vec!["Origin", "Accept-Encoding"]),
        (format!("200|{json}|Vary: *"), true, vec!["*"]),
        (format!("206|{json}|Content-Range: bytes 0-2999/9000"), false, varies.clone()),
        (format!("200|{json}|Content-Range: bytes 0-2999/9000"), false, varies.clone()),
        (format!("200|{json}|Content-Encoding: br"), false, varies.clone()),
        (format!("200|{json}|Content-Encoding: x-own"), false, varies.clone()),
        (format!("200|{json}|Cache-Control: public, No-Transform"), false, vec![]),
        (format!("204|{json}"), false, vec![]),
        (format!("304|{json}"), false, varies.clone()),
        ("200".into(), false, vec![]),
        ("200|Content-Type: image/png".into(), false, vec![]),
        ("200|Content-Type: text/event-stream".into(), false, vec![]),
        (format!("200|{json}|Content-Type: text/html"), false, vec![]),
    ] {
        let seen = client.ask(get("/a", &format!("Accept-Encoding: gzip\r\nX-Answer: {answer}\r\n")));
        let coding = seen.fields.get("content-encoding");
        assert_eq!(coding == Some("gzip") && !answer.contains("x-own"), coded, "{answer}: {seen:.300?}");
        assert_eq!(seen.fields.all("vary"), vary, "{answer}");
        if !answer.starts_with("204") && !answer.starts_with("304") && coding.is_none_or(|c| c == "gzip") {
            assert_eq!(decoded(&seen), "hello ".repeat(500).into_bytes(), "{answer}");
        }
    }
    let asked = format!("Accept-Encoding: gzip\r\nCache-Control: no-transform\r\nX-Answer: 200|{json}\r\n");
    let seen = client.ask(get("/a", &asked));
    assert_eq!((seen.fields.get("content-encoding"), seen.fields.all("vary")), (None, varies));
    for (reason, n) in [("partial", 2.0), ("encoded", 2.0), ("no_transform", 2.0), ("no_body", 2.0), ("type", 4.0)] {
        assert_eq!(skipped(&gateway, reason), n, "{reason}");
    }
}

#[test]
fn the_head_is_true_of_what_is_sent() {
    let upstream = Upstream::start(as_asked);
    let gateway = with(&upstream, "").start();
    let fields = "Content-Type: text/html|ETag: \"a\"|Accept-Ranges: bytes|Content-Digest: sha-256=:x:|Repr-Digest: sha-256=:y:|\
                  Digest: z|Content-MD5: m|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT|X-Odd: \"a\"";
    let ask = |method: &str, accept: &str| {
        let mut client = Client::connect(&gateway);
        client.send(format!(
            "{method} /a HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {accept}\r\nX-Answer: 200|{fields}\r\n\r\n"
        ));
        let answer = if method == "HEAD" { client.response_to_head() } else { client.response() };
        client.send(get("/next", "X-Answer: 200\r\n"));
        assert_eq!(client.response().body.len(), 3000, "the connection stays in sync");
        answer
    };
    let coded = ask("GET", "zstd");
    let get = |name: &str| coded.fields.get(name);
    assert_eq!((get("content-encoding"), get("etag"), get("x-odd")), (Some("zstd"), Some("W/\"a\""), Some("\"a\"")));
    for name in ["accept-ranges", "content-digest", "repr-digest", "digest", "content-md5"] {
        assert!(!coded.fields.has(name), "{name}: {coded:.500?}");
    }
    assert_eq!(coded.framing, Framing::Length(coded.body.len() as u64), "what is here as a whole has its length");
    let plain = ask("GET", "identity");
    let get = |name: &str| plain.fields.get(name);
    assert_eq!(
        (get("etag"), get("accept-ranges"), get("content-digest")),
        (Some("\"a\""), Some("bytes"), Some("sha-256=:x:"))
    );
    // HEAD: the same but for the length, which nobody knows.
    let names = |answer: &Response| {
        let shown = |(name, value): &(String, String)| format!("{}: {value}", name.to_lowercase());
        let kept = |line: &String| !["date", "content-length"].iter().any(|name| line.starts_with(name));
        answer.fields.0.iter().map(shown).filter(kept).collect::<Vec<_>>()
    };
    let head = ask("HEAD", "zstd");
    assert_eq!(names(&head), names(&coded));
    assert!(!head.fields.has("content-length") && !head.fields.has("transfer-encoding"));
    let head = ask("HEAD", "identity");
    assert_eq!((names(&head), head.fields.get("content-length")), (names(&plain), Some("3000")));
    // A 304 stands for what the client has, which has a weak tag.
    let not_modified = |accept: &str| {
        let asked =
            format!("GET /a HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {accept}\r\nX-Answer: 304|ETag: \"a\"\r\n\r\n");
        gateway.ask(asked).fields.get("etag").map(str::to_owned)
    };
    assert_eq!(not_modified("gzip").as_deref(), Some("W/\"a\""));
    let request =
        "GET /a HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\nX-Answer: 304|Repr-Digest: sha-256=:AA==:\r\n\r\n";
    assert!(!gateway.ask(request).fields.has("repr-digest"), "other bytes than those");
    assert_eq!(not_modified("identity").as_deref(), Some("\"a\""));
}

#[test]
fn trailers_are_left_out() {
    let mut answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let body = chunked(&body("json", 100_000), 5000);
    answer.extend_from_slice(&body[..body.len() - 2]);
    answer.extend_from_slice(b"X-Sum: 1\r\n\r\n");
    let upstream = Upstream::start(answers(answer));
    let gateway = with(&upstream, "").start();
    let mut client = Client::connect(&gateway);
    let plain = client.ask(get("/a", ""));
    assert_eq!((plain.trailers.get("x-sum"), plain.fields.get("trailer")), (Some("1"), Some("X-Sum")));
    let coded = client.ask(accepting("/a", "br"));
    assert!(coded.trailers.0.is_empty() && !coded.fields.has("trailer"), "{coded:.300?}");
    assert!(decoded(&coded) == plain.body);
}

#[test]
fn what_an_upstream_has_sent_is_there_before_it_goes_on() {
    let gates: [Gate; 3] = Default::default();
    let at = gates.clone();
    let upstream = Upstream::start(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            let gate = &at[request.serial];
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            conn.write(format!("{head}b\r\ndata: one\n\n\r\n"));
            gate.wait();
            conn.write("b\r\ndata: two\n\n\r\n0\r\n\r\n");
        }
    });
    let gateway = with(&upstream, "types: [text/event-stream]").start();
    for (coding, gate) in CODINGS.iter().zip(&gates) {
        let url = foreign::url(gateway.addr) + "/events";
        let options = ["-sSN", "--max-time", "20", "--compressed", "-H", accept(coding)];
        let reader = Process::spawn(Command::new("curl").args(options).args(curl_trust()).arg(&url));
        let said = |text: &str| eventually(text, || Some(()).filter(|()| *reader.stdout.lock().unwrap() == text));
        said("data: one\n\n");
        gate.open();
        said("data: one\n\ndata: two\n\n");
        drop(reader);
    }
    // The head does not wait for a first event.
    let gate = Gate::default();
    let begun = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let upstream = Upstream::start(starts_and_closes(begun, gate.clone()));
    let gateway = with(&upstream, "types: [text/event-stream]").start();
    let mut client = Client::connect(&gateway);
    client.send(accepting("/events", "gzip"));
    assert_eq!(client.head().unwrap().fields.get("content-encoding"), Some("gzip"));
    gate.open();
    client.is_cut_off();
}

#[test]
fn an_upstream_that_breaks_is_a_cut_and_never_an_end() {
    let text = String::from_utf8(body("json", 60_000)).unwrap();
    for framing in ["Content-Length: 90000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nea60\r\n"] {
        let start = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}{text}\r\n");
        for (coding, resets) in [("gzip", false), ("br", true), ("zstd", false)] {
            let gate = Gate::default();
            let upstream = match resets {
                false => Upstream::start(starts_and_closes(start.clone(), gate.clone())),
                true => Upstream::start(starts_and_resets(start.clone(), gate.clone())),
            };
            let gateway = with(&upstream, "").start();
            let mut client = Client::connect(&gateway);
            client.send(accepting("/a", coding));
            let mut answer = client.head().unwrap();
            assert_eq!(answer.framing, Framing::Chunked);
            gate.open();
            let end = answer.read_body(&mut client.wire);
            assert!(matches!(end, Err(Fault::Cut | Fault::Reset | Fault::End)), "{coding} {framing}: {end:?}");
            assert!(!is_whole(coding, &answer.body), "{coding}: half a stream is none");
            assert_eq!(gateway.wait_log(|_| true)["end"], "upstream_truncated");
            // To a client that knows no chunks only a reset can say it.
            let mut old = Client::connect(&gateway);
            old.send(format!("GET /a HTTP/1.0\r\nHost: h\r\nAccept-Encoding: {coding}\r\n\r\n"));
            assert_eq!(old.head().unwrap().framing, Framing::Close);
            assert!(old.rest().1.is_err(), "an end that is none");
        }
    }
    // Before anything was sent it is an answer.
    let upstream =
        Upstream::start(answers("HTTP/1.1 200 OK\r\nContent-Type: text/a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"));
    let gateway = with(&upstream, "").start();
    assert_eq!(gateway.ask(accepting("/a", "gzip")).status, 502);
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let gate = Gate::default();
    let (at, events) =
        (gate.clone(), "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    let upstream = Upstream::start(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            if request.target == "/events" {
                conn.write(format!("HTTP/1.1 200 OK\r\n{events}"));
                conn.until_ended();
                at.open();
                return;
            }
            let body = "hello ".repeat(500);
            conn.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/a\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    });
    let mut gateway = with(&upstream, "types: [\"text/*\", text/event-stream], streams: 1").start();
    let mut events = Client::connect(&gateway);
    events.send(accepting("/events", "gzip"));
    assert_eq!(events.head().unwrap().fields.get("content-encoding"), Some("gzip"));
    // It takes the one place there is: others get their bytes as they are, and know that this may differ.
    let coding = |gateway: &Gateway| {
        let answer = gateway.ask(accepting("/a", "gzip"));
        assert_eq!((decoded(&answer).len(), answer.fields.all("vary")), (3000, vec!["Accept-Encoding"]));
        answer.fields.get("content-encoding").map(str::to_owned)
    };
    assert_eq!((coding(&gateway), skipped(&gateway, "busy")), (None, 1.0));
    events.reset();
    gate.wait();
    eventually("the place is free", || coding(&gateway));
    assert_eq!(gateway.log_of("/events")["end"], "client_gone");
    gateway.is_well();
}

#[test]
fn answers_of_the_gateway_and_those_put_together_are_compressed_too() {
    let upstream = Upstream::start(answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let parts = Upstream::start(|conn: &mut Conn| {
        while let Some(request) = conn.request() {
            let text = "a\u{e9} ".repeat(if request.target == "/large" { 50_000 } else { 500 });
            let body = format!("{{\"text\":\"{text}\"}}");
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            conn.write(head + &body);
        }
    });
    let page = "hello ".repeat(40_000);
    let part = |path: &str| format!("{{ name: {}, upstream: p, request: {{ path: {path} }} }}", &path[1..]);
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .upstream("p", &[&parts], "")
        .top("filters: { small: { compress: { min_size: 0B } }, closed: { ip: { deny: [127.0.0.1] } } }")
        .top("all_routes: { filters: [small] }")
        .route(&format!("match: {{ path: /page }}, respond: {{ headers: {{ Content-Type: text/html, ETag: '\"1\"' }}, body: \"{page}\" }}"))
        .route("match: { path: /short }, respond: { headers: { Content-Type: text/html }, body: hello }")
        .route("match: { path: /empty }, respond: { headers: { Content-Type: text/html } }")
        .route("match: { path: /closed }, filters: [closed], forward: { upstream: u }")
        .route("match: { path: /secret }, without: [small], respond: { headers: { Content-Type: text/html }, body: hello }")
        .route(&format!("match: {{ path: /many }}, aggregate: {{ parts: [{}, {}] }}", part("/few"), part("/large")))
        .route(&format!("match: {{ path: /few }}, aggregate: {{ parts: [{}] }}", part("/few")))
        .start();
    let mut client = Client::connect(&gateway);
    for coding in CODINGS {
        let page_seen = client.ask(accepting("/page", coding));
        assert_eq!(page_seen.fields.get("etag"), Some("W/\"1\""));
        assert_eq!((page_seen.framing, decoded(&page_seen) == page.as_bytes()), (Framing::Chunked, true));
        let short = client.ask(accepting("/short", coding));
        assert_eq!((short.fields.get("content-encoding"), decoded(&short)), (Some(coding), b"hello".to_vec()));
        assert_eq!(short.framing, Framing::Length(short.body.len() as u64));
        for (path, status) in [("/closed", 403), ("/none", 404)] {
            let refused = client.ask(accepting(path, coding));
            assert_eq!((refused.status, refused.fields.get("content-encoding")), (status, Some(coding)), "{path}");
            let envelope: serde_json::Value = serde_json::from_slice(&decoded(&refused)).unwrap();
            assert_eq!(envelope["code"].as_u64().unwrap() / 100, u64::from(status));
        }
        for path in ["/many", "/few"] {
            let plain = client.ask(get(path, ""));
            let coded = client.ask(accepting(path, coding));
            assert_eq!(coded.fields.get("content-encoding"), Some(coding), "{path}");
            let read = |bytes: &[u8]| {
                let mut json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                json.as_object_mut().unwrap().remove("request_id");
                json
            };
            assert!(read(&decoded(&coded)) == read(&plain.body), "{path} {coding}");
        }
    }
    let empty = client.ask(accepting("/empty", "gzip"));
    assert_eq!((empty.fields.get("content-encoding"), empty.body.len()), (None, 0));
    let secret = client.ask(accepting("/secret", "gzip"));
    assert_eq!(
        (secret.text(), secret.fields.get("content-encoding"), secret.fields.has("vary")),
        ("hello".into(), None, false)
    );
    client.send("HEAD /page HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!((head.fields.get("content-encoding"), head.fields.has("content-length")), (Some("br"), false));
    assert_eq!(client.ask(get("/short", "")).text(), "hello");
}

#[test]
fn old_clients_get_a_length_or_the_end_of_the_connection() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "").start();
    let ask = |client: &mut Client, path: &str| {
        client
            .send(format!("GET {path} HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nAccept-Encoding: gzip\r\n\r\n"));
        client.response()
    };
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        let short = ask(&mut client, "/json/5000/length");
        assert_eq!(
            (short.framing, short.fields.get("connection")),
            (Framing::Length(short.body.len() as u64), Some("keep-alive"))
        );
        assert!(decoded(&short) == body("json", 5000));
    }
    for path in ["/json/200000/length", "/json/200000/999"] {
        let mut client = Client::connect(&gateway);
        let long = ask(&mut client, path);
        assert_eq!((long.framing, long.fields.all("connection")), (Framing::Close, vec!["close"]), "{path}");
        assert!(decoded(&long) == body("json", 200_000), "{path}");
        client.is_closed();
    }
}

#[test]
fn upstreams_see_what_the_client_takes_or_nothing_of_it() {
    for (keys, expected) in [("", "br;q=0.5, gzip"), ("accept_encoding: identity", "identity")] {
        let upstream = Upstream::start(by_path);
        let gateway = with(&upstream, keys).start();
        let answer = gateway.ask(get("/json/5000/length", "Accept-Encoding: br;q=0.5, gzip\r\n"));
        assert_eq!(answer.fields.get("content-encoding"), Some("gzip"));
        assert_eq!(upstream.only_request().fields.all("accept-encoding"), [expected], "{keys}");
    }
}

#[test]
fn log_and_metrics_say_what_was_saved() {
    let upstream = Upstream::start(by_path);
    let gateway = with(&upstream, "").start();
    let answer = gateway.ask(accepting("/json/100000/length", "zstd"));
    let line = gateway.log_of("/json/100000/length");
    assert_eq!((&line["coding"], &line["bytes_uncoded"]), (&"zstd".into(), &100_000.into()));
    let sent = line["bytes_out"].as_u64().unwrap();
    assert!(sent > answer.body.len() as u64 && sent < answer.body.len() as u64 + 2000, "{line}");
    gateway.ask(accepting("/json/100/length", "zstd"));
    assert!(gateway.log_of("/json/100/length").get("coding").is_none());
    let bytes =
        |way| gateway.metrics().sum("ringway_compression_bytes_total", &[("filter", "small"), ("direction", way)]);
    assert_eq!((bytes("in"), bytes("out")), (100_000.0, answer.body.len() as f64));
    assert_eq!(skipped(&gateway, "small"), 1.0);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringway_filter_requests_total", &[("filter", "small"), ("outcome", "passed")]), 2.0);
}

#[test]
fn many_at_a_time_are_each_whole() {
    let upstream = Upstream::start(by_path);
    let mut gateway = with(&upstream, "streams: 8").start();
    let threads: Vec<_> = (0..12)
        .map(|n: usize| {
            let mut client = Client::connect(&gateway);
            std::thread::spawn(move || {
                for round in 0..6 {
                    let (coding, size) = (CODINGS[(n + round) % 3], 1000 + 37_000 * ((n + round) % 5));
                    let answer = client.ask(accepting(&format!("/json/{size}/{}", 100 + n * 977), coding));
                    assert!(decoded(&answer) == body("json", size), "{coding} {size}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    gateway.is_well();
}

#[test]
fn answers_under_way_take_bounded_memory() {
    const STREAMS: usize = 40;
    const MIB: u64 = 1 << 20;
    let gate = Gate::default();
    let at = gate.clone();
    let upstream = Upstream::start(move |conn: &mut Conn| {
        conn.request();
        conn.write("HTTP/1.1 200 OK\r\nContent-Type: text/a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let pieces = chunked(&body("json", 400_000), 16_000);
        conn.write(&pieces[..pieces.len() - 5]);
        at.wait();
        conn.write(&pieces[pieces.len() - 5..]);
    });
    let gateway = with(&upstream, &format!("levels: {{ br: 5 }}, streams: {STREAMS}")).start();
    let before = gateway.rss();
    let mut clients: Vec<Client> = (0..STREAMS + 4)
        .map(|_| {
            let mut client = Client::connect(&gateway);
            client.send(accepting("/a", "br"));
            client
        })
        .collect();
    let heads: Vec<Response> = clients.iter_mut().map(|client| client.head().unwrap()).collect();
    let is_coded = |answer: &&Response| answer.fields.has("content-encoding");
    assert_eq!((heads.iter().filter(is_coded).count(), skipped(&gateway, "busy")), (STREAMS, 4.0));
    eventually("all of it is on its way", || (upstream.total_written() >= 44 * 400_000).then_some(()));
    let grown = gateway.rss().saturating_sub(before);
    // 1.7 MiB an encoder; the rest are buffers, and TLS.
    assert!(grown < STREAMS as u64 * 2 * MIB + 16 * MIB, "{} MiB", grown / MIB);
    gate.open();
    for (client, mut answer) in clients.iter_mut().zip(heads) {
        answer.read_body(&mut client.wire).unwrap();
        assert!(decoded(&answer) == body("json", 400_000));
    }
}
