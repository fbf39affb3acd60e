//! Bounds of an aggregation: what one part, all of them and all requests together may hold; and whose bytes those are.

use crate::aggregate_hostile::{WITHOUT, beside, fine};
use crate::support::aggregate::{json, json_of, part, path_of};
use crate::support::message::chunked;
use crate::support::upstream::Conn;
use crate::support::{Client, Seeded, Setup, Upstream, eventually};
use std::time::Duration;

#[test]
fn two_hundred_mebibytes_are_not_read() {
    const TOTAL: usize = 200 << 20;
    let heads = [
        format!("Content-Length: {TOTAL}\r\n\r\n["),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n[", TOTAL),
        "\r\n[".to_string(),
        format!("Content-Length: {}\r\n\r\n[", u64::MAX >> 1),
    ];
    let upstream = Upstream::start(move |conn| {
        let Some(request) = conn.request() else { return };
        let n: usize = request.target[1..].parse().unwrap();
        conn.write(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{}", heads[n]));
        let piece = vec![b' '; 64 << 10];
        for _ in 0..TOTAL / piece.len() {
            if !conn.write(&piece) {
                return;
            }
        }
    });
    let fine = fine();
    let gateway = beside(&upstream, &fine, "required: false, timeout: 9s").start();
    gateway.get("/page/0").partial();
    let before = gateway.rss();
    for n in 0..4 {
        let answer = gateway.get(&format!("/page/{n}"));
        assert_eq!((answer.partial().0.as_str(), answer.reason("it").as_str()), (WITHOUT, "too_large"), "{n}");
    }
    (0..5).for_each(|n| upstream.wait_over(n));
    assert!(upstream.total_written() < 100 << 20, "{} bytes were taken", upstream.total_written());
    // Buffers of a part's largest size are kept for the next one.
    assert!(gateway.rss() < before + (24 << 20), "{} to {}", before, gateway.rss());
}

#[test]
fn limits_are_exact_and_the_total_is_blamed_in_declared_order() {
    let upstream = Upstream::by(|request| {
        let size: usize = path_of(request)[1..].parse().unwrap();
        let body = format!("\"{}\"", "x".repeat(size - 2));
        match request.target.ends_with("?chunked") {
            false => json(body),
            true => [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(body.as_bytes(), 100)]
                .concat(),
        }
    });
    let limits = "limits: { max_part_bytes: 2KiB, max_total_bytes: 4KiB }";
    let ask = |sizes: [&str; 3]| {
        let parts = [("a", sizes[0]), ("b", sizes[1]), ("c", sizes[2])]
            .map(|(name, size)| part(name, &format!("/{size}"), "required: false"));
        let gateway = Setup::new().upstream("u", &[&upstream], "").page(limits, &parts).start();
        let answer = gateway.get("/page/1");
        let degraded = answer.json()["meta"]["degraded"].clone();
        let names: Vec<String> =
            degraded.as_array().into_iter().flatten().map(|n| n.as_str().unwrap().into()).collect();
        names.iter().for_each(|name| assert_eq!(answer.reason(name), "too_large"));
        names.concat()
    };
    assert_eq!(ask(["2048", "1024", "1024"]), "");
    assert_eq!(ask(["2048?chunked", "2048?chunked", "2"]), "c", "two bytes more than all may have");
    assert_eq!(ask(["2049", "2048", "2048"]), "a");
    assert_eq!(ask(["2049?chunked", "2", "2"]), "a");
    assert_eq!(ask(["1500", "2000", "1000"]), "c");
    assert_eq!(ask(["1500", "2000", "596"]), "");
    assert_eq!(ask(["2000", "2000", "97"]), "c");
}

#[test]
fn the_total_bounds_what_stands_for_a_part_as_well() {
    let upstream = Upstream::by(|request| {
        json(format!("\"{}\"", "x".repeat(path_of(request)[1..].parse::<usize>().unwrap() - 2)))
    });
    let parts = [
        part("a", "/2000", ""),
        part("b", "/2000", ""),
        part("c", "/{id}", "required: false, fallback: { stale: 5m, data: 0 }"),
    ];
    let limits = "limits: { max_part_bytes: 2KiB, max_total_bytes: 4KiB }";
    let gateway = Setup::new().upstream("u", &[&upstream], "").page(limits, &parts).start();
    assert!(gateway.get("/page/50").data().ends_with("x\"}"));
    for _ in 0..2 {
        let answer = gateway.get("/page/500");
        assert!(
            answer.partial().0.ends_with("\"c\":0}"),
            "the answer that was too much is no last good one: {answer:?}"
        );
        assert_eq!(answer.reason("c"), "too_large");
    }
}

#[test]
fn with_its_memory_used_up_it_says_503_and_serves_again_later() {
    let upstream = Upstream::by(|request| match path_of(request) {
        "/small" => json("1"),
        _ => json(format!("\"{}\"", "x".repeat(700 << 10))),
    });
    let parts: Vec<String> = (0..4).map(|n| part(&format!("p{n}"), "/{id}", "required: false")).collect();
    let setup = Setup::new().upstream("u", &[&upstream], "").top("aggregation: { memory: 1MiB }").page("", &parts);
    let gateway = setup.start();
    for _ in 0..20 {
        let answer = gateway.get("/page/big");
        assert_eq!(answer.status, 503, "four parts of 700 KiB do not fit 1 MiB: {answer:?}");
        assert_eq!(answer.json()["code"].as_u64().unwrap() / 100, 503);
        assert_eq!(gateway.get("/page/small").data(), r#"{"p0":1,"p1":1,"p2":1,"p3":1}"#, "nothing stays taken");
    }
    let line = gateway.log_of("/page/big");
    assert_eq!((&line["status"], &line["end"]), (&503.into(), &"overloaded".into()), "{line}");
    eventually("their connections are closed", || (gateway.sockets() < 30).then_some(()));
}

#[test]
fn nobody_gets_what_is_anothers() {
    // Every answer names whom it is for, in every length; others fail, break and hang in between.
    let upstream = Upstream::start(|conn: &mut Conn| {
        conn.keep_no_bytes();
        let mut dice = Seeded(conn.index as u64 + 1000);
        while let Some(request) = conn.request() {
            let id = path_of(&request)[1..].split('/').next().unwrap();
            let most = 8 << dice.below(10);
            let body = format!("[{}]", vec![id; 1 + dice.below(most)].join(","));
            std::thread::sleep(Duration::from_micros(dice.below(2000) as u64));
            let going_on = match dice.below(12) {
                0 => conn.write(json_of(500, "", body)),
                1 => {
                    let whole = json(body);
                    conn.write(&whole[..whole.len() - 1]);
                    return;
                }
                2 => return conn.until_ended(),
                3 => conn.write(
                    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(body.as_bytes(), 50)]
                        .concat(),
                ),
                _ => conn.write(json(body)),
            };
            if !going_on {
                return;
            }
        }
    });
    let mut parts: Vec<String> =
        (0..5).map(|n| part(&format!("p{n}"), &format!("/{{id}}/{n}"), "required: false, timeout: 60ms")).collect();
    parts.push(part("stale", "/{id}/s", "required: false, timeout: 60ms, fallback: { stale: 5m }"));
    parts.push(part("edited", "/{id}/e", "required: false, timeout: 60ms, target: \"[0]\""));
    parts.push(part("needed", "/{id}/n", "timeout: 60ms, fallback: { data: [] }"));
    parts.push(part("last", "/{id}/l", "timeout: 60ms"));
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = Client::connect(gateway);
                for run in 0..60 {
                    let id: u64 = 100 + n * 100 + run;
                    let answer = client.get(&format!("/page/{id}"));
                    let Some(data) = answer.json()["data"].as_object().cloned() else { continue };
                    let mine = |value: &serde_json::Value| value.as_u64() == Some(id);
                    for (part, value) in &data {
                        let fine =
                            value.is_null() || mine(value) || value.as_array().is_some_and(|all| all.iter().all(mine));
                        assert!(fine, "{id} got {part}: {value}");
                    }
                }
            });
        }
    });
}

#[test]
fn clients_that_read_slowly_get_whole_answers() {
    let body = |n: usize| format!("[\"{}\"]", ((b'a' + n as u8) as char).to_string().repeat(100_000));
    let upstream = Upstream::by(move |request| json(body(request.target[1..].parse().unwrap())));
    let parts: Vec<String> = (0..16).map(|n| part(&format!("p{n}"), &format!("/{n}"), "")).collect();
    let gateway = Setup::new().upstream("u", &[&upstream], "").page("", &parts).start();
    let wanted: Vec<String> = (0..16).map(|n| format!("\"p{n}\":{}", body(n))).collect();
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(&gateway)).collect();
    for client in &mut clients {
        // Less than an answer, more than a TLS record: windows below one make the kernel wait for its timers.
        rustix::net::sockopt::set_socket_recv_buffer_size(&client.wire.stream.0.tcp, 128 << 10).unwrap();
        client.send(crate::support::client::get("/page/1"));
    }
    upstream.wait_requests(96);
    for client in clients.iter_mut().rev() {
        assert!(client.response().data() == format!("{{{}}}", wanted.join(",")));
    }
}
