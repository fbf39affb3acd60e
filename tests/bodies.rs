//! Bodies of any size, both ways, in every framing: unchanged, in order, in a fixed window.

use crate::support::client::{get, post, post_chunked};
use crate::support::message::{Framing, Request, chunked, ok};
use crate::support::misbehave::{answers, answers_before_the_body, answers_in_pieces};
use crate::support::{Client, Gate, Gateway, Seeded, Setup, Upstream, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SIZES: [usize; 18] = [
    0, 1, 2, 1023, 1024, 4095, 4096, 8191, 8192, 8193, 16_384, 32_767, 65_535, 65_536, 65_537, 131_073, 262_144,
    1_048_577,
];
const MIB: u64 = 1 << 20;

#[test]
fn bodies_with_a_length_pass_unchanged_both_ways() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    for size in SIZES {
        let body = Seeded(size as u64).bytes(size);
        let answer = client.ask(post("/x", &body));
        assert!(answer.body == body, "{size} bytes came back as {}", answer.body.len());
        assert_eq!(answer.framing, Framing::Length(size as u64), "a known length stays known");
    }
    assert_eq!(upstream.connections(), 1);
    for (request, size) in upstream.reparse().concat().iter().zip(SIZES) {
        assert_eq!(request.framing, Framing::Length(size as u64));
    }
}

#[test]
fn chunked_bodies_pass_unchanged_both_ways() {
    // The answer is chunked too, in other pieces than the request's.
    let upstream = Upstream::start(|conn| {
        while let Some(request) = conn.request() {
            let body = chunked(&request.body, 5000);
            if !conn.write([&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &body].concat()) {
                return;
            }
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    for size in SIZES {
        let body = Seeded(size as u64).bytes(size);
        for piece in [7, 1000, 65_536, 300_000] {
            if size / piece < 20_000 {
                let answer = client.ask(post_chunked("/x", &body, piece));
                assert!(answer.body == body, "{size} bytes in pieces of {piece} came back as {}", answer.body.len());
            }
        }
    }
    assert_eq!(upstream.connections(), 1);
    upstream.reparse();
}

#[test]
fn sixty_four_mebibytes_pass_unchanged_both_ways() {
    let upstream = Upstream::start(|conn| {
        conn.keep_no_bytes();
        while let Some(mut request) = conn.head() {
            let mut body = Vec::new();
            if conn.body(&mut request, &mut |piece| body.extend_from_slice(piece)).is_none() {
                return;
            }
            let answer = match request.framing {
                Framing::Chunked => {
                    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(&body, 100_000)]
                        .concat()
                }
                _ => ok(&body),
            };
            conn.write(answer);
        }
    });
    let gateway = Setup::forward(&upstream).start();
    let body = Seeded(64).bytes(64 << 20);
    let mut client = Client::connect(&gateway);
    assert!(client.ask(post("/x", &body)).body == body);
    assert!(client.ask(post_chunked("/x", &body, 1_000_000)).body == body);
}

#[test]
fn a_body_in_every_cut_is_the_same_body() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let request = post_chunked("/x", b"cut me anywhere", 4);
    let mut client = Client::connect(&gateway);
    for at in 1..request.len() {
        client.send(&request[..at]);
        std::thread::sleep(Duration::from_millis(1));
        client.send(&request[at..]);
        assert_eq!(client.response().text(), "cut me anywhere", "cut at {at}");
    }
    assert_eq!(upstream.reparse().concat().len(), request.len() - 1);
}

#[test]
fn an_answer_in_odd_pieces_is_the_same_answer() {
    let body = Seeded(9).bytes(40_000);
    let whole = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(&body, 999)].concat();
    let mut seeded = Seeded(10);
    let mut pieces = Vec::new();
    let mut rest = &whole[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + seeded.below(1500)).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    let upstream = Upstream::start(answers_in_pieces(pieces, Duration::from_millis(1)));
    let gateway = Setup::forward(&upstream).start();
    assert!(gateway.get("/x").body == body);
}

#[test]
fn a_get_with_a_body_keeps_it() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let answer = gateway.ask("GET /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(answer.text(), "hello");
    assert_eq!(upstream.only_request().method, "GET");
}

#[test]
fn a_request_without_a_body_is_given_none() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    for method in ["GET", "DELETE", "OPTIONS", "PURGE"] {
        assert_eq!(gateway.ask(format!("{method} /x HTTP/1.1\r\nHost: gw.test\r\n\r\n")).status, 200);
    }
    for request in upstream.requests() {
        assert_eq!(request.framing, Framing::Nothing, "{request:?}");
    }
}

#[test]
fn trailers_pass_both_ways_and_forbidden_ones_are_dropped() {
    let trailers =
        "X-Check: 1\r\nContent-Length: 5\r\nHost: evil\r\nTransfer-Encoding: x\r\nAuthorization: x\r\nX-Sum: 2\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n");
    let upstream = Upstream::start(answers(answer));
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    for _ in 0..2 {
        let head = "POST /x HTTP/1.1\r\nHost: gw.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
        let got = client.ask(format!("{head}5\r\nhello\r\n0\r\n{trailers}\r\n"));
        assert_eq!(got.text(), "ok");
        let kept = [("X-Check".to_string(), "1".to_string()), ("X-Sum".to_string(), "2".to_string())];
        assert_eq!(got.trailers.0, kept);
        let sent = upstream.requests().pop().unwrap();
        assert_eq!((sent.body.as_slice(), sent.trailers.0), (&b"hello"[..], kept.to_vec()));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    let body = |n: usize| format!("body {n} {}", "x".repeat(n * 37 % 3000));
    let mut batch = Vec::new();
    for n in 0..60 {
        match n % 3 {
            0 => batch.extend(post("/x", body(n))),
            1 => batch.extend(post_chunked("/x", body(n).as_bytes(), 700)),
            _ => batch.extend(get("/x").into_bytes()),
        }
    }
    client.send(batch);
    for n in 0..60 {
        let answer = client.response();
        assert_eq!(answer.text(), if n % 3 == 2 { String::new() } else { body(n) });
    }
    client.is_silent();
    assert_eq!(upstream.reparse().concat().len(), 60);
}

#[test]
fn http_1_0_closes_unless_it_asks_to_keep_the_connection() {
    let upstream = Upstream::says("hello");
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    let answer = client.ask("GET /x HTTP/1.0\r\nHost: gw.test\r\n\r\n");
    assert_eq!(answer.text(), "hello");
    assert!(answer.fields.get("connection").is_none_or(|c| c.eq_ignore_ascii_case("close")), "{answer:?}");
    client.is_closed();
    let mut client = Client::connect(&gateway);
    for _ in 0..3 {
        let answer = client.ask("GET /x HTTP/1.0\r\nHost: gw.test\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(answer.text(), "hello");
        assert!(answer.fields.get("connection").unwrap().eq_ignore_ascii_case("keep-alive"), "{answer:?}");
    }
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(sent.version, "HTTP/1.1");
    assert!(!sent.fields.all("connection").iter().any(|c| c.eq_ignore_ascii_case("close")), "{sent:?}");
}

#[test]
fn connection_close_is_answered_and_obeyed() {
    let upstream = Upstream::says("hello");
    let gateway = Setup::forward(&upstream).start();
    for value in ["close", "Close", "x, close", "keep-alive, close"] {
        let mut client = Client::connect(&gateway);
        let answer = client.ask(format!("GET /x HTTP/1.1\r\nHost: gw.test\r\nConnection: {value}\r\n\r\n"));
        assert_eq!(answer.fields.get("connection").map(str::to_lowercase).as_deref(), Some("close"), "{value}");
        client.is_closed();
    }
    assert_eq!(upstream.connections(), 1, "the client's close says nothing about the upstream's connection");
}

#[test]
fn head_requests_are_answered_without_a_body_also_by_the_gateway_itself() {
    let upstream = Upstream::says("never");
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route("match: { path: /here }, respond: { status: 200, body: hello }")
        .start();
    let mut client = Client::connect(&gateway);
    for (path, status) in [("/here", 200), ("/nowhere", 404)] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: gw.test\r\n\r\n"));
        assert_eq!(client.response_to_head().status, status);
    }
    assert_eq!(client.get("/here").text(), "hello", "nothing was left on the wire");
}

/// Checks a stream of repeated blocks without keeping it.
struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    fn new() -> Pattern {
        Pattern { block: Seeded(1).bytes(1 << 20), at: 0 }
    }

    fn check(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let from = self.at % self.block.len();
            let n = piece.len().min(self.block.len() - from);
            assert!(piece[..n] == self.block[from..from + n], "wrong bytes near {}", self.at);
            self.at += n;
            piece = &piece[n..];
        }
    }
}

/// Waits until a counter has come to rest: whoever writes is blocked by the other end.
fn at_rest(what: &str, counter: impl Fn() -> u64) -> u64 {
    let (mut last, mut same) = (0, 0);
    eventually(what, || {
        let now = counter();
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        std::thread::sleep(Duration::from_millis(20));
        (same > 15).then_some(now)
    })
}

fn grew(gateway: &Gateway, before: u64) -> u64 {
    gateway.rss().saturating_sub(before)
}

/// The bound of issue 2 is 2 MiB for 1 GiB; the rest is allowance for a build without optimisation.
const RSS_GROWTH_MAX: u64 = 4 * MIB;

#[test]
fn a_slow_reader_of_256_mib_costs_no_memory() {
    let upstream = Upstream::start(|conn| {
        let block = Pattern::new().block;
        while let Some(request) = conn.request() {
            let mib: usize = request.target.trim_start_matches('/').parse().unwrap();
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", mib << 20));
            for _ in 0..mib {
                if !conn.write(&block) {
                    return;
                }
            }
        }
    });
    let gateway = Setup::forward(&upstream).start();
    assert_eq!(gateway.get("/4").body.len(), 4 << 20);
    let before = gateway.rss();
    let already = upstream.total_written();
    let mut client = Client::connect(&gateway);
    client.send(get("/256"));
    let written = at_rest("the upstream is held back", || upstream.total_written() - already);
    assert!(written < 64 * MIB, "{written} bytes were taken from the upstream while nobody read");
    assert!(grew(&gateway, before) < RSS_GROWTH_MAX, "RSS grew by {}", grew(&gateway, before));
    let head = client.head().unwrap();
    assert_eq!(head.framing, Framing::Length(256 * MIB));
    let (mut pattern, mut most, mut next) = (Pattern::new(), 0, 0);
    client
        .wire
        .exact(256 * MIB, &mut |piece| {
            pattern.check(piece);
            if pattern.at > next {
                next += 8 << 20;
                most = most.max(grew(&gateway, before));
            }
        })
        .unwrap();
    assert!(most < RSS_GROWTH_MAX, "RSS grew by {most}");
}

#[test]
fn a_slow_upstream_is_sent_256_mib_without_memory() {
    let (gate, seen) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let (open, counter) = (gate.clone(), seen.clone());
    let upstream = Upstream::start(move |conn| {
        conn.keep_no_bytes();
        let Some(mut request) = conn.head() else { return };
        if request.target == "/4" {
            conn.body(&mut request, &mut |_| {});
            conn.write(ok("done"));
            return;
        }
        open.wait();
        let mut pattern = Pattern::new();
        conn.body(&mut request, &mut |piece| pattern.check(piece));
        counter.store(pattern.at as u64, Ordering::SeqCst);
        conn.write(ok("done"));
    });
    // However long a loaded machine takes for it.
    let gateway = Setup::new().upstream("u", &[&upstream], "").forward_all("timeout: 5m").start();
    assert_eq!(gateway.ask(post("/4", vec![b'x'; 4 << 20])).text(), "done");
    let before = gateway.rss();
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let mut client = Client::connect(&gateway);
        let (sent, block) = (&sent, Pattern::new().block);
        let uploading = scope.spawn(move || {
            client.send(format!("POST /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {}\r\n\r\n", 256 * MIB));
            for _ in 0..256 * 16 {
                client.send(&block[(sent.load(Ordering::SeqCst) % MIB) as usize..][..65_536]);
                sent.fetch_add(65_536, Ordering::SeqCst);
            }
            client.response()
        });
        let taken = at_rest("the client is held back", || sent.load(Ordering::SeqCst));
        assert!(taken < 64 * MIB, "{taken} bytes were taken from the client while nobody read");
        assert!(grew(&gateway, before) < RSS_GROWTH_MAX, "RSS grew by {}", grew(&gateway, before));
        gate.open();
        let mut most = 0;
        while !uploading.is_finished() {
            most = most.max(grew(&gateway, before));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(uploading.join().unwrap().text(), "done");
        assert!(most < RSS_GROWTH_MAX, "RSS grew by {most}");
    });
    assert_eq!(seen.load(Ordering::SeqCst), 256 * MIB);
}

fn limited(upstream: &Upstream) -> Gateway {
    Setup::new().upstream("u", &[upstream], "").forward_all("body_limit: 1KiB").start()
}

#[test]
fn a_length_over_the_routes_limit_is_413_and_nothing_goes_upstream() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream);
    assert_eq!(gateway.ask(post("/x", vec![b'x'; 1024])).status, 200, "at the limit");
    assert_eq!(gateway.ask(post_chunked("/x", &[b'x'; 1024], 100)).status, 200, "at the limit, chunked");
    let before = upstream.heads().len();
    let mut client = Client::connect(&gateway);
    client.send(post("/x", vec![b'x'; 1025]));
    client.response().is_gateways_own(413);
    let mut client = Client::connect(&gateway);
    client.send("POST /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 99999999999\r\n\r\n");
    client.response().is_gateways_own(413);
    client.is_gone();
    assert_eq!(upstream.heads().len(), before);
}

#[test]
fn a_chunked_body_that_passes_the_limit_is_413_and_the_upstream_is_cut_off() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream);
    let mut client = Client::connect(&gateway);
    client.send("POST /x HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n");
    client.send([&[b'x'; 0x200][..], b"\r\n"].concat());
    let at_upstream = upstream.wait_heads(1);
    assert_eq!(at_upstream.len(), 1, "it streams until it is too much");
    client.send([b"201\r\n", &[b'x'; 0x201][..], b"\r\n0\r\n\r\n"].concat());
    client.response().is_gateways_own(413);
    client.is_gone();
    upstream.wait_ended(0);
    let whole: Vec<Request> = upstream.reparse().concat();
    assert!(whole.is_empty(), "finished cleanly: {whole:?}");
}

#[test]
fn expect_100_continue_is_answered_by_the_gateway_when_the_route_takes_the_body() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream);
    let mut client = Client::connect(&gateway);
    for expect in ["100-continue", "100-Continue"] {
        client.send(format!("POST /x HTTP/1.1\r\nHost: gw.test\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n"));
        assert_eq!(client.wire.line().unwrap(), b"HTTP/1.1 100 Continue");
        while !client.wire.line().unwrap().is_empty() {}
        client.send("hello");
        let answer = client.response();
        assert_eq!((answer.text().as_str(), answer.interim.len()), ("hello", 0));
    }
    for request in upstream.requests() {
        assert!(!request.fields.has("expect"), "the gateway has answered it: {request:?}");
    }
}

#[test]
fn expect_100_continue_is_refused_without_a_body_when_it_would_be_too_large() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream);
    let mut client = Client::connect(&gateway);
    client.send("POST /x HTTP/1.1\r\nHost: gw.test\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n");
    let answer = client.response();
    answer.is_gateways_own(413);
    assert!(answer.interim.is_empty());
    upstream.heard_nothing();
    let old =
        gateway.ask("POST /x HTTP/1.0\r\nHost: gw.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((old.text().as_str(), old.interim.len()), ("hello", 0), "a 1.0 client is never sent a 100");
}

#[test]
fn the_answer_reaches_a_client_that_is_still_uploading() {
    let upstream = Upstream::start(answers_before_the_body("HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\nfull"));
    let gateway = Setup::forward(&upstream).start();
    let mut client = Client::connect(&gateway);
    client.send("POST /x HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        if client.try_send([b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat()).is_err() {
            break;
        }
    }
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (413, "full"));
}
