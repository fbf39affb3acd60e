//! One answer from many, as its reader sees it: the order of parts, their bytes, the envelopes, and the fields around them.

use crate::support::aggregate::{json, part, path_of};
use crate::support::client::get;
use crate::support::message::{Framing, chunked};
use crate::support::misbehave::{answers, answers_and_closes, drips};
use crate::support::upstream::Conn;
use crate::support::{Client, Gateway, Seeded, Setup, Upstream};
use std::time::Duration;

/// What a careless gateway would change: numbers that a double can not hold, escapes, the order of keys, whitespace.
pub const DELICATE: &str = r#"{ "z" : 9007199254740993 , "a":1e400,"n":-0.0, "e":"\u0000\u00e9\/\"\\\ud83d\ude00", "":[ 1 ,	2 ],"日本":"ünïcödé","t":1E+2,"o":{}}"#;

/// Three parts of one upstream, and what `data` is made of them.
pub fn three(upstream: &Upstream) -> Gateway {
    let parts = [part("zeta", "/zeta", ""), part("alpha", "/alpha/{id}", ""), part("mid", "/mid", "required: false")];
    Setup::new().upstream("u", &[upstream], "").page("", &parts).start()
}

pub fn three_pages() -> Upstream {
    Upstream::pages(&[("/zeta", DELICATE), ("/alpha/7", "[1, 2]"), ("/mid", "\"m\"")])
}

fn three_data() -> String {
    format!("{{\"zeta\":{DELICATE},\"alpha\":[1, 2],\"mid\":\"m\"}}")
}

#[test]
fn parts_stand_in_declared_order_and_not_in_that_of_their_arrival() {
    let names = ["d", "a", "c", "b"];
    for first in 0..names.len() {
        let upstream = Upstream::by(move |request| {
            let place = names.iter().position(|name| path_of(request)[1..] == **name).unwrap();
            std::thread::sleep(Duration::from_millis(20) * ((place + first) % 4) as u32);
            json(format!("\"{}\"", names[place]))
        });
        let parts = names.map(|name| part(name, &format!("/{name}"), ""));
        let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
        assert_eq!(gateway.get("/page/1").data(), r#"{"d":"d","a":"a","c":"c","b":"b"}"#);
    }
}

#[test]
fn ten_thousand_runs_with_random_delays_are_byte_identical() {
    const CLIENTS: usize = 20;
    let upstream = Upstream::start(|conn: &mut Conn| {
        conn.keep_no_bytes();
        let mut dice = Seeded(conn.index as u64);
        while let Some(request) = conn.request() {
            // 0 to 3 ms, none at all for every fourth.
            std::thread::sleep(Duration::from_micros(dice.below(4) as u64 * dice.below(1001) as u64));
            let body = match path_of(&request) {
                "/zeta" => DELICATE,
                "/mid" => "\"m\"",
                _ => "[1, 2]",
            };
            if !conn.write(json(body)) {
                return;
            }
        }
    });
    let gateway = three(&upstream);
    let first = gateway.get("/page/7");
    assert_eq!(first.data(), three_data());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(&gateway);
                for n in 0..10_000 / CLIENTS {
                    let answer = client.get("/page/7");
                    assert!(answer.status == 200 && answer.body == first.body, "run {n}: {answer:?}");
                }
            });
        }
    });
    assert!(upstream.connections() <= 3 * (CLIENTS + 1), "{} connections", upstream.connections());
}

#[test]
fn bytes_go_into_the_answer_as_they_came() {
    let values = [
        DELICATE,
        "0",
        "-0",
        "1e400",
        "123456789012345678901234567890.10",
        "1E-7",
        "true",
        "false",
        "null",
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[[],[{}],\n\t[null , -1]]",
        r#""\u0000\b\f\n\r\t\/\\\"""#,
        "\"\u{7f}\u{80}\u{10ffff}\"",
        r#"{"b":1,"a":{"b":1,"a":2},"B":3}"#,
        r#"[9007199254740993,0.1000,1.0e+05]"#,
    ];
    let bodies: Vec<Vec<u8>> = values.iter().map(|value| format!(" \r\n\t{value}\n ").into_bytes()).collect();
    let upstream = Upstream::by(move |request| json(&bodies[request.target[1..].parse::<usize>().unwrap()]));
    let parts = [part("x", "/{id}", "")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    let mut client = Client::connect(&gateway);
    for (n, value) in values.iter().enumerate() {
        let answer = client.get(&format!("/page/{n}"));
        assert_eq!(answer.data(), format!("{{\"x\":{value}}}"), "without the whitespace around it, with that within");
    }
}

#[test]
fn an_empty_answer_is_null() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/205" => b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let parts = [part("a", "/204", ""), part("b", "/205", ""), part("c", "/empty", ""), part("d", "/chunked", "")];
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    assert_eq!(gateway.get("/page/1").data(), r#"{"a":null,"b":null,"c":null,"d":null}"#);
}

#[test]
fn large_parts_and_many_of_them_arrive_whole() {
    let text =
        |n: usize, seed: usize| format!("[\"{}\"]", ((b'a' + (seed % 26) as u8) as char).to_string().repeat(n - 4));
    let upstream = Upstream::by(move |request| {
        let (size, seed) = path_of(request)[1..].split_once('/').unwrap();
        json(text(size.parse().unwrap(), seed.parse().unwrap()))
    });
    let sixteen: Vec<String> = (0..16).map(|n| part(&format!("p{n}"), &format!("/{{id}}/{n}"), "")).collect();
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .page("", &sixteen)
        .aggregate(
            "match: { path: \"/big/{id}\" }, timeout: 20s",
            "",
            &[part("a", "/{id}/1", ""), part("b", "/16/2", ""), part("c", "/{id}/3", "required: false")],
        )
        .start();
    let mut client = Client::connect(&gateway);
    for size in [1024, 8 << 10, 16 << 10, 64 << 10, 100_003] {
        let wanted: Vec<String> = (0..16).map(|n| format!("\"p{n}\":{}", text(size, n))).collect();
        let answer = client.get(&format!("/page/{size}"));
        assert!(answer.data() == format!("{{{}}}", wanted.join(",")), "{size}: {answer:?}");
    }
    let mib = 1 << 20;
    let answer = client.get(&format!("/big/{mib}"));
    let wanted = format!("{{\"a\":{},\"b\":{},\"c\":{}}}", text(mib, 1), text(16, 2), text(mib, 3));
    assert!(answer.data() == wanted, "{answer:?}");
    let answer = client.get(&format!("/big/{}", mib + 1));
    assert_eq!((answer.status, answer.reason("a").as_str()), (502, "too_large"));
}

#[test]
fn it_does_not_matter_how_an_upstream_frames_its_answer() {
    let long = format!("[{}1]", "12345678, ".repeat(5000));
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{lines}\r\n").into_bytes();
    let old = |body: &str| format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}").into_bytes();
    let coded = |size| [head("Transfer-Encoding: chunked\r\n"), chunked(long.as_bytes(), size)].concat();
    let early = [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(), json(&long)].concat();
    let kept: Vec<Vec<u8>> = vec![json(&long), coded(1000), coded(7), coded(100_000), early];
    let last = head(&format!("Connection: close\r\nContent-Length: {}\r\n", long.len()));
    let closed: Vec<Vec<u8>> = [head(""), last].map(|head| [head, long.clone().into_bytes()].concat()).into();
    let closed = [closed, vec![old(&long)]].concat();
    for answer in kept.iter().chain(&closed) {
        let closes = closed.contains(answer);
        let upstream = match closes {
            true => Upstream::start(answers_and_closes(answer.clone())),
            false => Upstream::start(answers(answer.clone())),
        };
        let parts = [part("a", "/a", ""), part("b", "/b", "")];
        let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
        let mut client = Client::connect(&gateway);
        for _ in 0..3 {
            assert!(client.get("/page/1").data() == format!("{{\"a\":{long},\"b\":{long}}}"));
        }
        assert_eq!(upstream.connections(), if closes { 6 } else { 2 }, "connections are used again where they may be");
    }
    let upstream = Upstream::start(drips(json(DELICATE), Duration::from_micros(200)));
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &[part("a", "/a", "")]).start();
    assert_eq!(gateway.get("/page/1").data(), format!("{{\"a\":{DELICATE}}}"), "a byte at a time");
}

#[test]
fn every_kind_of_client_gets_it() {
    let upstream = three_pages();
    let gateway = three(&upstream);
    let mut client = Client::connect(&gateway);
    let answer = client.get("/page/7");
    assert_eq!(answer.data(), three_data());
    assert_eq!(answer.framing, Framing::Length(answer.body.len() as u64), "its length is known");
    client.send("HEAD /page/7 HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!(head.fields.get("content-length"), answer.fields.get("content-length"));
    assert_eq!((head.status, head.fields.get("x-gateway-completed")), (200, Some("true")));
    client.send("HEAD /page/8 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().status, 502);
    client.send(get("/page/7") + &get("/page/8") + &get("/nowhere") + &get("/page/7"));
    assert_eq!(client.response().data(), three_data());
    client.response().failed(502, &["alpha"]);
    assert_eq!(client.response().status, 404);
    assert_eq!(client.response().data(), three_data());
    let mut old = Client::connect(&gateway);
    assert_eq!(old.ask("GET /page/7 HTTP/1.0\r\n\r\n").data(), three_data());
    old.is_closed();
    let mut last = Client::connect(&gateway);
    assert_eq!(last.ask("GET /page/7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").data(), three_data());
    last.is_closed();
    assert!(upstream.requests().iter().all(|request| request.method == "GET"), "also for a HEAD");
}

#[test]
fn connections_to_upstreams_are_kept_and_used_again() {
    let upstream = three_pages();
    let gateway = three(&upstream);
    let mut client = Client::connect(&gateway);
    for _ in 0..200 {
        assert_eq!(client.get("/page/7").data(), three_data());
    }
    assert_eq!((upstream.connections(), upstream.reparse().concat().len()), (3, 600));
}
