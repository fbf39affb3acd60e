//! What a hostile client or upstream found, and what was mended: each scenario is the attack as it was, and it
//! succeeded once.

use crate::support::client::get;
use crate::support::message::{Fields, Framing, ok};
use crate::support::misbehave::{answers, answers_in_pieces};
use crate::support::names::{PARSE_ERRORS, end};
use crate::support::wire::Wire;
use crate::support::{Client, Gate, Link, Setup, Upstream, eventually, eventually_within, tls};
use std::io::Write;
use std::time::{Duration, Instant};

fn pause_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn says_close(fields: &Fields) -> bool {
    fields.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// Response queue poisoning: an upstream that answers before it has the body, and reads that body as a request.
#[test]
fn an_upstream_that_answered_before_the_body_is_never_asked_again() {
    let smuggled = "GET /s/smug HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    let upstream = Upstream::start(|conn| {
        if conn.index > 0 {
            return answers(ok("its own"))(conn);
        }
        // It holds the POST to be bodiless: the body is the next request to it. The rest of the answer leaves when that
        // has arrived, so the gateway has sent all of the body by then.
        conn.head();
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        conn.head();
        conn.write("early");
        // The answer to the smuggled request is late enough to meet another client.
        if conn.head().is_some() {
            conn.write(ok("smuggled"));
            conn.until_ended();
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let mut attacker = Client::connect(&gateway);
    attacker.send(format!("POST /s/post HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
    let mut early = attacker.head().unwrap();
    attacker.send(smuggled);
    early.read_body(&mut attacker.wire).unwrap();
    assert_eq!((early.status, early.text().as_str()), (200, "early"));
    upstream.wait_heads(2);
    let mut victim = Client::connect(&gateway);
    assert_eq!(victim.get("/victim").text(), "its own", "another's answer");
    let victims = upstream.heads().pop().unwrap();
    assert_eq!((victims.target.as_str(), victims.conn), ("/victim", 1), "on the poisoned connection");
    upstream.wait_ended(0);
    assert!(says_close(&early.fields), "{early:?}");
    attacker.is_closed();
}

#[test]
fn the_end_of_the_upload_does_not_free_a_client_that_does_not_read_from_its_write_deadline() {
    let upstream = Upstream::start(|conn| {
        if conn.head().is_some() {
            conn.write(ok(vec![b'x'; 64 << 20]));
        }
    });
    let gateway = Setup::forward(&upstream).listener("timeouts: { write: 1s }").start();
    let mut client = Client::connect(&gateway);
    client.send("POST /stuck HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 10\r\n\r\n");
    assert_eq!(client.head().unwrap().framing, Framing::Length(64 << 20));
    // By now the gateway waits for us to read, within its deadline. What ends is the upload.
    pause_ms(300);
    client.send("0123456789");
    let start = Instant::now();
    let line = eventually_within(Duration::from_secs(6), "the write deadline", || {
        gateway.log_lines().into_iter().find(|line| line["path"] == "/stuck")
    });
    assert_eq!(line["end"], end::WRITE, "{line}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    upstream.wait_over(0);
}

#[test]
fn first_byte_counts_from_the_end_of_the_upload() {
    let upstream = Upstream::start(|conn| {
        while conn.request().is_some() {
            // Of its own time, not of the time that the client took.
            pause_ms(200);
            conn.write(ok("patient"));
        }
    });
    let gateway = Setup::new().upstream("u", &[&upstream], "timeouts: { first_byte: 600ms }").forward_all("").start();
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(&gateway);
        client.send(format!("POST /slow HTTP/1.1\r\nHost: gw.test\r\n{framing}\r\n\r\n"));
        let body = if framing.starts_with('C') { "0123456789" } else { "a\r\n0123456789\r\n0\r\n\r\n" };
        let piece = body.len() / 10;
        client.send_in_pieces(body.as_bytes(), piece, Duration::from_millis(100));
        let answer = client.response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "patient"), "{framing}");
    }
}

#[test]
fn behind_an_interim_answer_only_the_routes_timeout_runs() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let upstream = Upstream::start(move |conn| {
        while let Some(request) = conn.request() {
            conn.write(hint);
            if request.target == "/never" {
                return conn.until_ended();
            }
            pause_ms(900);
            conn.write(ok("at last"));
        }
    });
    let gateway =
        Setup::new().upstream("u", &[&upstream], "timeouts: { first_byte: 300ms }").forward_all("timeout: 2s").start();
    let answer = gateway.get("/late");
    assert_eq!((answer.status, answer.interim.len(), answer.text().as_str()), (200, 1, "at last"), "{answer:?}");
    let start = Instant::now();
    let answer = gateway.get("/never");
    assert_eq!(answer.interim.len(), 1);
    answer.is_gateways_own(504);
    assert!(start.elapsed() > Duration::from_millis(1960), "{:?}", start.elapsed());
    assert_eq!(gateway.log_of("/never")["end"], end::TOTAL);
}

/// In bytes: it would be the whole pipeline. The allowance is for a build without optimisation.
const RSS_GROWTH_MAX: u64 = 4 << 20;

#[test]
fn an_endless_pipeline_of_large_heads_costs_no_memory() {
    const HEADS: usize = 1_700;
    let gateway = Setup::new().route("match: { path: /x }, respond: { status: 200, body: ok }").start();
    let head = format!("GET /x HTTP/1.1\r\nHost: gw.test\r\nX-Pad: {}\r\n\r\n", "p".repeat(30_000));
    let mut client = Client::connect(&gateway);
    for _ in 0..20 {
        assert_eq!(client.ask(&head).status, 200);
    }
    let before = gateway.rss();
    let mut sending = client.wire.stream.clone();
    let most = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..HEADS {
                sending.write_all(head.as_bytes()).unwrap();
            }
        });
        let mut most = 0;
        for n in 0..HEADS {
            assert_eq!(client.response().status, 200, "answer {n}");
            if n % 50 == 0 || n + 1 == HEADS {
                most = most.max(gateway.rss().saturating_sub(before));
            }
        }
        most
    });
    assert!(most < RSS_GROWTH_MAX, "RSS grew by {most} over {} MB of heads", HEADS * head.len() / 1_000_000);
}

#[test]
fn a_refused_head_is_not_logged_through_the_spans_of_the_one_before() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).start();
    let secret = "c2VjcmV0LW9mLWFub3RoZXI";
    let target = format!("/{}", "t".repeat(93));
    let fields = format!("Authorization: Bearer {secret}\r\nHost: gw.test\r\nX-Pad: {}\r\n", "p".repeat(100));
    // What its own line may show: the target only where the request line was good.
    let refused = [
        (format!("GET /r HTTP/1.1\r\n{fields}Bad Name: x\r\n\r\n"), ""),
        (format!("GET  /r HTTP/1.1\r\n{fields}\r\n"), ""),
        (format!("G\0T /r HTTP/1.1\r\n{fields}\r\n"), ""),
        (format!("GET /r HTTP/1.1\r\n{fields}X: a\n\r\n"), "/r"),
        (format!("GET /r HTTP/1.1\r\n{fields}Host: other.test\r\n\r\n"), "/r"),
    ];
    for (request, _) in &refused {
        // On the connection of the request before, and on another one of the same worker.
        let mut first = Client::connect(&gateway);
        assert_eq!(first.get(&target).status, 200);
        first.ask(request).is_gateways_own(400);
        assert_eq!(gateway.get(&target).status, 200);
        gateway.ask(request).is_gateways_own(400);
    }
    let lines = eventually("a line for each", || {
        let lines = gateway.log_lines();
        (lines.len() == 4 * refused.len()).then_some(lines)
    });
    let text = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!text.contains(secret) && !text.contains("uthorization"), "{text}");
    assert!(lines.iter().step_by(2).all(|line| line["path"] == target.as_str() && line["status"] == 200), "{text}");
    for (n, line) in lines.iter().skip(1).step_by(2).enumerate() {
        assert_eq!((&line["status"], &line["end"]), (&400.into(), &end::BAD_REQUEST.into()), "{line}");
        let (path, method) = match refused[n / 2].1 {
            "" => ("", ""),
            own => (own, "GET"),
        };
        assert_eq!((&line["path"], &line["method"]), (&path.into(), &method.into()), "{line}");
    }
    assert_eq!(gateway.metrics().sum(PARSE_ERRORS, &[]), 2.0 * refused.len() as f64);
}

/// The trailers that arrived at the upstream and at the client, of a request with `connection` (a field line or
/// nothing) and an answer with `answer_connection`.
fn trailers_through(keys: &str, connection: &str, answer_connection: &str) -> [bool; 2] {
    let start = format!("HTTP/1.1 200 OK\r\n{answer_connection}Transfer-Encoding: chunked\r\n\r\n");
    let rest = b"2\r\nok\r\n0\r\nX-Check: answer\r\n\r\n";
    let whole = Upstream::start(answers([start.as_bytes(), &rest[..]].concat()));
    let pieces = vec![start.into_bytes(), rest[..7].to_vec(), rest[7..].to_vec()];
    let in_pieces = Upstream::start(answers_in_pieces(pieces, Duration::from_millis(20)));
    let mut found = Vec::new();
    for upstream in [&whole, &in_pieces] {
        let gateway = Setup::new().upstream("u", &[upstream], "").forward_path("/{*rest}", keys).start();
        let mut client = Client::connect(&gateway);
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: gw.test\r\nTE: trailers\r\n{connection}Transfer-Encoding: chunked\r\n\r\n"
        );
        let body = "5\r\nhello\r\n0\r\nX-Check: request\r\n\r\n";
        for at in [0, 10, body.len()] {
            client.send(format!("{head}{}", &body[..at]));
            pause_ms(10);
            client.send(&body[at..]);
            let answer = client.response();
            assert_eq!(answer.text(), "ok");
            let sent = upstream.requests().pop().unwrap();
            assert_eq!(sent.body, b"hello");
            found.push([sent.trailers.get("x-check") == Some("request"), answer.trailers.get("x-check").is_some()]);
        }
    }
    assert!(found.iter().all(|one| *one == found[0]), "however the bytes arrive: {found:?}");
    found[0]
}

#[test]
fn trailers_do_not_pass_where_fields_are_edited_or_listed_by_connection() {
    assert_eq!(trailers_through("", "", ""), [true, true], "nothing stands against them");
    for edits in ["set: { x-check: mine }", "remove: [x-check]", "add: { x-other: a }"] {
        let of_requests = trailers_through(&format!("request_headers: {{ {edits} }}"), "", "");
        assert_eq!(of_requests, [false, true], "request_headers {edits}");
        let of_answers = trailers_through(&format!("response_headers: {{ {edits} }}"), "", "");
        assert_eq!(of_answers, [true, false], "response_headers {edits}");
    }
    let listed = "Connection: X-Check\r\n";
    assert_eq!(trailers_through("", listed, ""), [false, true], "listed by the client");
    assert_eq!(trailers_through("", "", listed), [true, false], "listed by the upstream");
}

#[test]
fn an_upstream_that_breaks_behind_an_interim_answer_is_not_asked_again() {
    let upstream = Upstream::start(|conn| {
        if conn.index == 0 && conn.request().is_some() {
            conn.write(ok("first"));
            if conn.request().is_some() {
                conn.write("HTTP/1.1 103 Early Hints\r\n\r\n");
            }
            return;
        }
        answers(ok("asked twice"))(conn);
    });
    let gateway = Setup::forward(&upstream).start();
    assert_eq!(gateway.get("/x").text(), "first");
    let answer = gateway.get("/x");
    answer.is_gateways_own(502);
    assert_eq!(answer.interim.len(), 1, "it had begun to answer");
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 2), "on a reused connection, once");
}

#[test]
fn names_with_an_underscore_do_not_pass_for_those_that_only_the_gateway_writes() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .forward_path("/{*rest}", "request_headers: { remove: [x-secret], set: { x-user: nobody } }")
        .start();
    let disguised = [
        "X_Forwarded_For: 6.6.6.6",
        "X-Forwarded_For: 6.6.6.6",
        "x_forwarded_host: evil.test",
        "X_FORWARDED_PROTO: https",
        "X_Real_IP: 6.6.6.6",
        "X_Request_Id: forged",
        "Content_Length: 30",
        "Transfer_Encoding: chunked",
        "x_secret: 1",
        "X_Secret: 2",
        "X_User: root",
    ];
    let answer = gateway.ask(format!(
        "GET /x HTTP/1.1\r\nHost: gw.test\r\n{}\r\napi_key: k1\r\nX_Own_Thing: t\r\n\r\n",
        disguised.join("\r\n")
    ));
    assert_eq!(answer.status, 200);
    let sent = upstream.only_request();
    assert_eq!((sent.fields.get("api_key"), sent.fields.get("X_Own_Thing")), (Some("k1"), Some("t")), "innocent");
    assert_eq!(sent.framing, Framing::Nothing);
    // As those who take `_` for `-` read it.
    let folded = Fields(sent.fields.0.iter().map(|(n, v)| (n.replace('_', "-"), v.clone())).collect());
    for name in ["content-length", "transfer-encoding", "x-secret", "x-real-ip"] {
        assert!(!folded.has(name), "{name}: {sent:?}");
    }
    assert_eq!(folded.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(folded.get("x-forwarded-host"), Some("gw.test"));
    assert_eq!(folded.get("x-forwarded-proto"), Some(tls::either("https", "http")));
    assert_eq!(folded.get("x-user"), Some("nobody"));
    assert_ne!(folded.get("x-request-id"), Some("forged"));
}

#[test]
fn an_early_answer_goes_on_when_the_client_stops_uploading() {
    let upstream = Upstream::start(|conn| {
        if conn.head().is_none() {
            return;
        }
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for n in 0..12 {
            pause_ms(100);
            if !conn.write(format!("1\r\n{}\r\n", n % 10)) {
                return;
            }
        }
        conn.write("0\r\n\r\n");
        conn.until_ended();
    });
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_body: 300ms }").start();
    let mut client = Client::connect(&gateway);
    client.send("POST /events HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 100\r\n\r\nsome of it");
    let mut answer = client.head().unwrap();
    answer.read_body(&mut client.wire).unwrap_or_else(|e| panic!("cut after {:?}: {e:?}", answer.text()));
    assert_eq!((answer.status, answer.text().as_str()), (200, "012345678901"));
    assert!(says_close(&answer.fields), "{answer:?}");
    client.is_closed();
    upstream.wait_ended(0);
    assert_eq!(gateway.log_of("/events")["end"], end::OK);
}

#[test]
fn only_crlf_may_stand_before_a_request_line_and_only_single_spaces_in_it() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).start();
    for line in [
        "\nGET /x HTTP/1.1",
        "\n\nGET /x HTTP/1.1",
        "\r\n\nGET /x HTTP/1.1",
        "\n\r\nGET /x HTTP/1.1",
        "\r\r\nGET /x HTTP/1.1",
        " GET /x HTTP/1.1",
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET /x HTTP/1.1 ",
        "GET /x y HTTP/1.1",
        "GET /x y HTTP/1.0",
    ] {
        let mut client = Client::connect(&gateway);
        let answer = client.ask(format!("{line}\r\nHost: gw.test\r\n\r\n"));
        assert_eq!(answer.status, 400, "{line:?}: {answer:?}");
        answer.is_gateways_own(400);
        client.is_gone();
    }
    upstream.heard_nothing();
    let mut client = Client::connect(&gateway);
    for split in ["\r", "\r\n", "\r\n\r"] {
        client.send(split);
        pause_ms(30);
        client.is_silent();
        let rest = &"\r\n\r\n"[split.len()..];
        assert_eq!(client.ask(format!("{rest}{}", get("/x"))).status, 200, "an empty line cut behind {split:?}");
    }
}

#[test]
fn an_answer_without_a_date_is_given_one_and_a_date_is_kept() {
    let dated = "Mon, 01 Jan 2001 00:00:00 GMT";
    let upstream = Upstream::start(move |conn| {
        while let Some(request) = conn.request() {
            let date = if request.target == "/dated" { format!("dAtE: {dated}\r\n") } else { String::new() };
            conn.write(format!("HTTP/1.1 200 OK\r\n{date}Content-Length: 2\r\n\r\nok"));
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let given = gateway.get("/plain");
    let date = given.fields.get("date").expect("no Date");
    assert!(date.len() == dated.len() && date.ends_with(" GMT") && !date.contains(" 2001 "), "{date}");
    assert_eq!(gateway.get("/dated").fields.all("date"), [dated]);
}

#[test]
fn an_unfinished_target_over_its_bound_is_answered_at_once() {
    let upstream = Upstream::says("never");
    let gateway = Setup::forward(&upstream).listener("timeouts: { request_header: 10s }").start();
    for second in [4_000, 5_000] {
        // Less than the bound of 8 KiB, then more of it: together not yet twice the first.
        let mut client = Client::connect(&gateway);
        client.send(format!("GET /{}", "t".repeat(5_000)));
        pause_ms(50);
        client.is_silent();
        let start = Instant::now();
        client.send("t".repeat(second));
        client.response().is_gateways_own(414);
        assert!(start.elapsed() < Duration::from_secs(5), "not at its deadline: {:?}", start.elapsed());
        client.is_gone();
    }
    upstream.heard_nothing();
}

#[test]
fn connection_may_list_32_names_and_no_more() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).start();
    let names = |from: usize, to: usize| (from..to).map(|n| format!("X-{n}")).collect::<Vec<_>>().join(", ");
    for (listed, status) in [
        (format!("Connection: {}", names(0, 32)), 200),
        (format!("Connection: {}, keep-alive", names(0, 32)), 200),
        (format!("Connection: {}", names(0, 33)), 400),
        (format!("Connection: {}\r\nConnection: {}", names(0, 20), names(20, 33)), 400),
        (format!("Connection: {}", ["x"; 33].join(",")), 400),
    ] {
        let answer = gateway.ask(format!("GET /x HTTP/1.1\r\nHost: gw.test\r\nX-31: a\r\n{listed}\r\n\r\n"));
        assert_eq!(answer.status, status, "{listed}");
    }
    assert_eq!(upstream.requests().len(), 2);
    assert!(upstream.requests().iter().all(|request| !request.fields.has("x-31")));
}

#[test]
fn max_forwards_is_obeyed() {
    let upstream = Upstream::says("fine");
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    let mut ask = |method: &str, left: &str| {
        client.ask(format!("{method} /x HTTP/1.1\r\nHost: gw.test\r\nMax-Forwards: {left}\r\n\r\n"))
    };
    let own = ask("OPTIONS", "0");
    assert_eq!(own.status, 204);
    assert!(own.fields.get("allow").is_some_and(|allow| allow.contains("GET")), "{own:?}");
    assert_eq!(ask("TRACE", "0").status, 405);
    upstream.heard_nothing();
    assert_eq!(ask("OPTIONS", "5").status, 200);
    assert_eq!(ask("GET", "0").status, 200, "it is for OPTIONS and TRACE alone");
    let sent: Vec<String> =
        upstream.requests().iter().map(|r| r.fields.get("max-forwards").unwrap().to_string()).collect();
    assert_eq!(sent, ["4", "0"]);
}

/// Asks again and again, and comes back only when told that a connection is at its end. Gives how many requests were
/// answered, or which was lost and how.
fn closed_loop(gateway_addr: std::net::SocketAddr, think: Duration, warm: impl Fn()) -> Result<usize, String> {
    let mut answered = 0;
    loop {
        // A refused connection is fine: nothing was sent.
        let Ok(link) = Link::dial(gateway_addr) else { return Ok(answered) };
        let mut client = Client { wire: Wire::new(link) };
        loop {
            client.try_send(get("/x")).map_err(|e| format!("send after {answered} answers: {e}"))?;
            let answer = client.try_response().map_err(|e| format!("after {answered} answers: {e:?}"))?;
            if answer.status != 200 {
                return Err(format!("{answer:?}"));
            }
            answered += 1;
            if answered == 50 {
                warm();
            }
            if says_close(&answer.fields) {
                match client.rest() {
                    (more, Ok(())) if more.is_empty() => break,
                    other => return Err(format!("not closed after Connection: close: {other:?}")),
                }
            }
            std::thread::sleep(think);
        }
    }
}

#[test]
fn a_drain_loses_no_request_of_busy_connections() {
    let upstream = Upstream::says("ok");
    let mut gateway = Setup::forward(&upstream).workers("2").start();
    let addr = gateway.addr;
    let warm: Vec<Gate> = (0..8).map(|_| Gate::default()).collect();
    let outcomes: Vec<Result<usize, String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = warm
            .iter()
            .zip(0..)
            .map(|(gate, n)| scope.spawn(move || closed_loop(addr, Duration::from_millis(n), || gate.open())))
            .collect();
        warm.iter().for_each(Gate::wait);
        gateway.term();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let lost: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(lost.is_empty(), "{} of 8 clients lost a request: {lost:?}", lost.len());
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let answered: usize = outcomes.iter().map(|outcome| outcome.as_ref().unwrap()).sum();
    assert_eq!(upstream.requests().len(), answered, "and asked for each once");
}

#[test]
fn a_connection_over_the_cap_is_logged() {
    let upstream = Upstream::says("fine");
    // Over TLS it is closed without an answer: a handshake only to say no would cost more than it says.
    let gateway = Setup::forward(&upstream).plain().listener("bounds: { connections: 1 }").start();
    let mut first = Client::connect(&gateway);
    assert_eq!(first.get("/x").status, 200);
    let mut over = Client::connect(&gateway);
    over.response().is_gateways_own(503);
    let line = gateway.wait_log(|line| line["end"] == "overloaded");
    assert_eq!((&line["status"], &line["path"]), (&503.into(), &"".into()), "{line}");
    assert_eq!(first.get("/x").status, 200, "who was there stays");
    assert_eq!(upstream.requests().len(), 2);
}
