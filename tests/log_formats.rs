//! The access log's formats, read by programs of others: goaccess and jq. What clients send can not break a line, secrets are
//! in none, and a sample has the lines that an operator looks for.

use crate::support::foreign::{output, output_of};
use crate::support::gateway::Gateway;
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::{Client, Setup, Upstream, eventually, names, temp_dir};
use serde_json::Value;
use std::time::Duration;

/// The log once it has so many lines.
fn lines(gateway: &Gateway, n: usize) -> Vec<String> {
    eventually("the lines of the access log", || {
        let text = std::fs::read_to_string(&gateway.log).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(String::from).collect();
        assert!(lines.len() <= n, "more lines than requests:\n{text}");
        (lines.len() == n && text.ends_with('\n')).then_some(lines)
    })
}

/// What goaccess makes of the log.
fn goaccess(gateway: &Gateway, format: &str) -> Value {
    let out = temp_dir("goaccess").join("report.json");
    let format = format!("--log-format={format}");
    let (log, report) = (gateway.log.to_str().unwrap(), out.to_str().unwrap());
    output("goaccess", &[log, &format, "--no-global-config", "--no-progress", "-o", report]);
    serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap()
}

/// The columns of a line: parted by spaces, in double quotes or brackets where they have some. Nothing but visible ASCII.
fn columns(line: &str) -> Vec<String> {
    assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line:?}");
    let mut columns = Vec::new();
    let mut left = line;
    while !left.is_empty() {
        let (column, rest) = match left.as_bytes()[0] {
            b'"' => {
                let mut escaped = false;
                let end = left[1..].bytes().position(|b| {
                    let ends = b == b'"' && !escaped;
                    escaped = b == b'\\' && !escaped;
                    ends
                });
                let end = end.unwrap_or_else(|| panic!("an open quote: {line}")) + 1;
                (&left[1..end], &left[end + 1..])
            }
            b'[' => left[1..].split_once(']').unwrap(),
            _ => left.split_at(left.find(' ').unwrap_or(left.len())),
        };
        columns.push(column.to_string());
        left = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None if rest.is_empty() => "",
            None => panic!("a column that goes on behind its end: {line}"),
        };
    }
    columns
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn upstream() -> Upstream {
    Upstream::start(answers(ok("hello")))
}

#[test]
fn combined_is_what_goaccess_reads_whatever_clients_send() {
    let upstream = upstream();
    let gateway = Setup::forward(&upstream)
        .upstream_at("gone", "[\"127.0.0.1:1\"]", "")
        .route("match: { path: /gone }, forward: { upstream: gone }")
        .log_keys("format: combined")
        .start();
    let mut sent: Vec<Vec<u8>> = vec![
        get("/plain?token=secret", "User-Agent: curl/8\r\nReferer: https://ex.test/from?token=secret\r\n").into(),
        get("/a%0a%22b", "").into(),
        get("/gone", "").into(),
    ];
    let hostile =
        b"GET /agent HTTP/1.1\r\nHost: h\r\nUser-Agent: \" 200 1 \"\\\x80\xff\t\xc2\x9b\"\r\nReferer: \\\r\n\r\n";
    sent.push(hostile.to_vec());
    for request in &sent {
        gateway.ask(request);
    }
    let mut client = Client::connect(&gateway);
    client.send("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n");
    client.response_to_head();
    // Neither is a request: a field with ESC in it, and nonsense.
    assert_eq!(gateway.ask(b"GET /esc HTTP/1.1\r\nHost: h\r\nUser-Agent: \x1b[2J\r\n\r\n").status, 400);
    assert_eq!(gateway.ask("nonsense\r\n\r\n").status, 400);
    let lines = lines(&gateway, 7);
    let text = lines.join("\n");
    assert!(!text.contains("secret"), "{text}");
    for line in &lines {
        let columns = columns(line);
        assert_eq!(columns.len(), 9, "{line}");
        assert_eq!((&*columns[0], &*columns[1], &*columns[2]), ("127.0.0.1", "-", "-"), "{line}");
        assert!(columns[3].ends_with(" +0000") && columns[3].len() == 26, "{line}");
    }
    assert!(lines[0].ends_with("\"GET /plain HTTP/1.1\" 200 5 \"https://ex.test/from\" \"curl/8\""), "{text}");
    assert!(lines[1].contains("\"GET /a%0a%22b HTTP/1.1\" 200 5 \"-\" \"-\""), "{text}");
    assert!(lines[2].contains("\"GET /gone HTTP/1.1\" 503 "), "{text}");
    assert!(lines[3].ends_with(r#" 200 5 "\\" "\" 200 1 \"\\\x80\xff\t\xc2\x9b\"""#), "{text}");
    assert!(lines[4].contains("\"HEAD /head HTTP/1.1\" 200 - "), "{text}");
    let report = goaccess(&gateway, "COMBINED");
    assert_eq!((&report["general"]["valid_requests"], &report["general"]["failed_requests"]), (&7.into(), &0.into()));
    let paths: Vec<&str> =
        report["requests"]["data"].as_array().unwrap().iter().map(|row| row["data"].as_str().unwrap()).collect();
    assert!(["/plain", "/agent", "/head", "/gone"].iter().all(|path| paths.contains(path)), "{paths:?}");
}

#[test]
fn common_names_the_caller_and_with_query_says_what_was_asked_for() {
    let upstream = upstream();
    let (user, password) = ("ann", "s3cret");
    let hash = output("htpasswd", &["-nbBC", "4", user, password]);
    let users = temp_dir("users").join("users");
    std::fs::write(&users, hash).unwrap();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(&format!("filters: {{ who: {{ basic: {{ file: {} }} }} }}", users.display()))
        .forward_all("filters: [who]")
        .log_keys("format: common, query: true")
        .start();
    let login = output_of("base64", &[], format!("{user}:{password}").as_bytes());
    let login = format!("Authorization: Basic {}\r\n", login.trim());
    assert_eq!(gateway.ask(get("/a?b=c&password=x", &login)).status, 200);
    assert_eq!(gateway.ask(get("/a", "Authorization: Basic Ym9iOng=\r\n")).status, 401);
    let lines = lines(&gateway, 2);
    assert!(lines[0].starts_with("127.0.0.1 - ann ["), "{lines:?}");
    assert!(lines[0].ends_with("\"GET /a?b=c&password=*** HTTP/1.1\" 200 5"), "{lines:?}");
    // A name that nobody has proved is no name.
    assert!(lines[1].starts_with("127.0.0.1 - - [") && lines[1].contains("\" 401 "), "{lines:?}");
    assert_eq!(goaccess(&gateway, "COMMON")["general"]["valid_requests"], 2);
}

const SECRET: &str = "s3cr3t";

/// Formats that show everything there is.
fn formats() -> Vec<String> {
    let headers = ["authorization", "cookie", "x-token", "X-Partner", "referer", "user-agent"];
    let headers = headers.map(|name| format!("\"{{header.{name}}}\"")).join(" ");
    let all = format!(
        "{{target}} {{query}} \"{{request_line}}\" {{query.token}} {{query.partner}} {headers} \
         {{response_header.set-cookie}} {{response_header.location}} {{status}}"
    );
    let redact = "redact: { headers: [x-token], query: [token] }";
    let quoted = all.replace('\'', "''");
    vec![
        format!("format: combined, query: true, {redact}"),
        format!("format: common, query: true, {redact}"),
        format!("format: {{ template: '{quoted}' }}, {redact}"),
        format!("format: json, fields: {{ all: '{quoted}', cookie: \"{{header.cookie}}\" }}, {redact}"),
    ]
}

#[test]
fn secrets_are_in_no_format() {
    let answer = format!(
        "HTTP/1.1 302 Found\r\nSet-Cookie: a={SECRET}\r\nLocation: https://me:{SECRET}@ex.test/?x=1&token={SECRET}#{SECRET}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let upstream = Upstream::start(answers(answer));
    let sha = output_of("sha256sum", &[], b"k1");
    let sha = sha.split_whitespace().next().unwrap();
    for keys in formats() {
        let gateway = Setup::new()
            .upstream("u", &[&upstream], "")
            .top(&format!(
                "filters: {{ who: {{ api_key: {{ header: x-partner, query: partner, keys: [{{ sha256: {sha}, owner: acme }}] }} }} }}"
            ))
            .forward_path("/open", "")
            .route("match: { path: /keyed }, forward: { upstream: u }, filters: [who]")
            .log_keys(&keys)
            .start();
        let query = format!(
            "a=1&token={SECRET}&TOKEN={SECRET}&%74o%6Ben={SECRET}&token[]={SECRET}&token%5B0%5D={SECRET}&b=2;token={SECRET}\
             &access_token={SECRET}&partner={SECRET}&z=9"
        );
        let fields = format!(
            "Authorization: Bearer {SECRET}\r\nCookie: {SECRET}={SECRET}\r\nX-Token: {SECRET}\r\nx-TOKEN: {SECRET}\r\n\
             X-Partner: {SECRET}\r\nReferer: https://u:{SECRET}@ex.test/?token={SECRET}&x=1#{SECRET}\r\nUser-Agent: me\r\n"
        );
        let asked = [
            (get(&format!("/open?{query}"), &fields), 302),
            (get(&format!("/keyed?{query}"), &fields), 401),
            (get("/keyed?a=1&partner=k1", ""), 302),
            (get(&format!("http://u:{SECRET}@h/open?{query}"), &fields), 400),
            (get(&format!("/open#token={SECRET}"), &fields), 400),
        ];
        for (request, status) in &asked {
            assert_eq!(gateway.ask(request).status, *status, "{request}");
        }
        let text = lines(&gateway, asked.len()).join("\n");
        assert!(!text.contains(SECRET) && !text.contains("k1"), "{keys}:\n{text}");
        assert!(text.contains("***") && text.contains("a=1") && text.contains("&z=9"), "{keys}:\n{text}");
    }
}

#[test]
fn json_has_fields_of_ones_own_that_jq_reads_whatever_clients_send() {
    let upstream = upstream();
    let gateway = Setup::forward(&upstream)
        .route("name: moved, match: { path: /moved }, redirect: { to: \"/new\" }")
        .log_keys("fields: { agent: \"{header.user-agent}\", type: \"{response_header.content-length}\", to: \"{response_header.location}\", \"q.a\": \"{query.a}\" }")
        .start();
    let mut hostile =
        b"GET /x?a=%0a%22b HTTP/1.1\r\nHost: h\r\nUser-Agent: \"},{\\\x80\xed\xa0\x80\tz\r\nCookie: ".to_vec();
    hostile.extend(std::iter::repeat_n(b'c', 8 * 1024));
    hostile.extend_from_slice(b"\r\n\r\n");
    assert_eq!(gateway.ask(&hostile).status, 200);
    assert_eq!(gateway.get("/moved").status, 308);
    lines(&gateway, 2);
    let log = gateway.log.to_str().unwrap();
    let shown =
        output("jq", &["-c", "[.path, .status, .fields.agent, .fields.type, .fields.to, .fields[\"q.a\"]]", log]);
    let rows: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let agent = "\"},{\\\u{fffd}\u{fffd}\u{fffd}\u{fffd}\tz";
    assert_eq!(rows[0], serde_json::json!(["/x", 200, agent, "5", null, "%0a%22b"]));
    assert_eq!(rows[1], serde_json::json!(["/moved", 308, null, "0", "/new", null]));
}

#[test]
fn a_template_has_its_columns_whatever_clients_send() {
    let upstream = upstream();
    let template = "{client_ip} {method} {path} {status} {body_bytes} {duration_ms} {route} {end} {header.user-agent} \
                    \\\"{header.cookie2}\\\" {protocol} {response_header.content-encoding}";
    let gateway = Setup::forward(&upstream)
        .top("filters: { zip: { compress: { min_size: 1B } } }")
        .route(&format!("name: zipped, match: {{ path: /zip }}, respond: {{ body: \"{}\", headers: {{ content-type: text/plain }} }}, filters: [zip]", "a".repeat(5000)))
        .log_keys(&format!("format: {{ template: \"{template}\" }}"))
        .workers("2")
        .start();
    let cookie = "c\" ".repeat(2700);
    let hostile = format!("User-Agent: a b\" 200 c\\\r\nCookie2: {cookie}\r\n");
    assert_eq!(gateway.ask(get("/a%22b?c", &hostile)).status, 200);
    let line = lines(&gateway, 1).remove(0);
    let found = columns(&line);
    assert_eq!(found[..5], ["127.0.0.1", "GET", "/a%22b", "200", "5"], "{line}");
    assert!(found[5].parse::<f64>().is_ok_and(|ms| ms < 15_000.0), "{line}");
    assert_eq!(found[6..9], ["all", "ok", "a\\x20b\\\"\\x20200\\x20c\\\\"], "{line}");
    assert!(found[9].starts_with("c\\\" c\\\" ") && found[9].ends_with("...") && found[9].len() < 2000, "{line}");
    assert_eq!(found[10..], ["HTTP/1.1", "-"]);
    // What is no request target is no column either.
    assert_eq!(gateway.ask(get("/a\"b", "")).status, 400);
    let line = lines(&gateway, 2).remove(1);
    assert!(line.starts_with("127.0.0.1 GET /a\\\"b 400 "), "{line}");
    assert_eq!(columns(&line)[6..10], ["-", "client_bad_request", "-", "-"], "{line}");
    let zipped = gateway.ask(get("/zip", "Accept-Encoding: gzip\r\n"));
    let line = lines(&gateway, 3).remove(2);
    let found = columns(&line);
    assert_eq!((&*found[6], &*found[11]), ("zipped", "gzip"), "{line}");
    assert_eq!(Some(&*found[4]), zipped.fields.get("content-length"), "{line}");
}

#[test]
fn a_sample_has_its_share_and_all_that_failed_or_was_slow() {
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            if request.target.starts_with("/slow") {
                std::thread::sleep(Duration::from_millis(150)); // what is slow
            }
            if request.target.starts_with("/cut") {
                conn.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                return;
            }
            conn.write(ok("ok"));
        }
    });
    let gateway = Setup::forward(&upstream)
        .route("name: broken, match: { path: /broken }, respond: { status: 503 }")
        .route("name: none, match: { path: /none }, respond: { status: 404 }")
        .log_keys("sample: 10%, slow: 100ms")
        .workers("2")
        .start();
    const FAST: usize = 3000;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::connect(&gateway);
                for n in 0..FAST / 3 {
                    client.get(if n % 2 == 0 { "/fast" } else { "/none" });
                }
            });
        }
    });
    for _ in 0..20 {
        gateway.get("/broken");
        let mut client = Client::connect(&gateway);
        client.send(get("/cut", ""));
        assert!(client.rest().0.ends_with(b"half"));
    }
    (0..3).for_each(|_| drop(gateway.get("/slow")));
    let all = FAST + 43;
    let (lines, unsampled) = eventually("all requests are logged or left out", || {
        let (metrics, lines) = (gateway.metrics(), gateway.log_lines());
        let unsampled = metrics.sum(names::LOG_UNSAMPLED, &[]) as usize;
        assert_eq!(metrics.sum(names::LOG_DROPPED, &[]), 0.0);
        (lines.len() + unsampled == all && metrics.sum(names::REQUESTS, &[]) as usize == all)
            .then_some((lines, unsampled))
    });
    let of = |path: &str| lines.iter().filter(|line| line["path"] == path).count();
    assert_eq!((of("/broken"), of("/cut"), of("/slow")), (20, 20, 3));
    // Of 3000 draws of a tenth 99.999 % are within 72 of 300; one that takes longer than `slow` is drawn in any case.
    let slow = |line: &&Value| line["total_us"].as_u64().unwrap() >= 100_000 && line["path"] != "/slow";
    let drawn = of("/fast") + of("/none") - lines.iter().filter(slow).count().min(of("/fast") + of("/none"));
    assert!((200..=400).contains(&drawn), "{drawn} of {FAST}, {unsampled} left out");
    assert!(of("/none") > 50, "a 404 is drawn like any other");
}

#[test]
fn what_is_wrong_with_the_log_is_told_at_once() {
    let said = Setup::new()
        .route("match: { path: / }, respond: { status: 204 }")
        .log_keys("format: { template: \"{client} {stauts}\" }, query: true, redact: { query: [\"a=b\"] }, sample: 10, slow: 1")
        .refused();
    for part in ["access_log.format.template", "redact.query[0]", "access_log.sample", "access_log.slow"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
