//! The PROXY protocol: who a proxy in front says that the client is, from whom that is believed, and what is said to upstreams.
//! HAProxy and curl as senders, HAProxy as receiver, and everything that can be wrong with a header.

use crate::support::client::get;
use crate::support::foreign::{curl, haproxy};
use crate::support::message::ok;
use crate::support::names::{CONNECTIONS, end};
use crate::support::{Client, Gateway, Setup, Upstream, eventually, foreign, free_port, temp_dir, tls};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn v2(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let len = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, behind].concat()
}

/// 192.0.2.7:56324 to 198.51.100.1:443.
fn v2_tcp4() -> Vec<u8> {
    v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb])
}

/// A gateway that believes headers from this machine.
fn trusting(setup: Setup) -> Gateway {
    setup.listener("proxy_protocol: { trusted: [127.0.0.1] }").start()
}

/// What a client of the gateway got: all bytes until the end, sent in one piece without TLS.
fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.addr).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        // Closed with bytes unread: a reset is a close.
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("{e} behind {said:?}"),
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn closed(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().sum("ringway_connections_closed_total", &[("reason", reason)])
}

#[test]
fn the_address_of_the_header_is_the_clients_everywhere() {
    let upstream = Upstream::says("ok");
    let setup = Setup::new()
        .upstream("u", &[&upstream], "")
        .top(
            "filters: { few: { rate_limit: { rate: 1/h, burst: 1, key: ip } }, \
             some: { ip: { allow: [192.0.2.0/24, \"2001:db8::/32\"] } } }",
        )
        .route("match: { path: /few }, filters: [few], respond: { body: ok }")
        .route("match: { path: /some }, filters: [some], respond: { body: ok }")
        .forward_path("/{*rest}", "request_headers: { set: { x-ip: \"{client_ip}\" } }");
    let gateway = trusting(setup);
    for (header, ip) in [
        (V1.as_bytes().to_vec(), "192.0.2.7"),
        (v2_tcp4(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.9 2001:db8::1 1 2\r\n".to_vec(), "192.0.2.9"),
        ([&v2(0x21, 0x11, &[&v2_tcp4()[16..], &[4, 0, 1, 0]].concat())[..]].concat(), "192.0.2.7"),
    ] {
        let mut client = Client::behind(&gateway, &header);
        for n in 0..2 {
            assert_eq!(client.get(&format!("/a{n}")).text(), "ok");
            let fields = upstream.requests().pop().unwrap().fields;
            assert_eq!((fields.get("x-ip"), fields.get("x-forwarded-for")), (Some(ip), Some(ip)));
        }
        assert_eq!(client.get("/some").status, 200);
        eventually("the log", || (gateway.log_lines().iter().filter(|l| l["client"] == ip).count() >= 3).then_some(()));
    }
    let from = |ip: &str| format!("PROXY TCP4 {ip} 198.51.100.1 1 2\r\n");
    let few = |ip: &str| Client::behind(&gateway, from(ip).as_bytes()).get("/few").status;
    assert_eq!([few("192.0.2.1"), few("192.0.2.1"), few("192.0.2.2")], [200, 429, 200]);
    assert_eq!(Client::behind(&gateway, from("203.0.113.1").as_bytes()).get("/some").status, 403);
}

#[test]
fn a_header_without_a_client_leaves_the_proxys_own_address() {
    let upstream = Upstream::says("ok");
    let gateway = trusting(Setup::forward(&upstream));
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN ffff::1 whatever 65536 -1\r\n",
        LOCAL,
        &v2(0x20, 0x11, &v2_tcp4()[16..]),
        &v2(0x21, 0x00, b"anything"),
        &v2(0x21, 0x31, &[b'x'; 216]),
    ] {
        assert_eq!(Client::behind(&gateway, header).get("/x").status, 200, "{header:?}");
        assert_eq!(upstream.requests().pop().unwrap().fields.get("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[test]
fn trusted_proxies_are_asked_about_the_address_of_the_header() {
    let upstream = Upstream::says("ok");
    for (trusted, told) in [("192.0.2.0/24", "203.0.113.5, 192.0.2.7"), ("127.0.0.1", "192.0.2.7")] {
        let gateway = trusting(Setup::forward(&upstream).top(&format!("trusted_proxies: [{trusted}]")));
        let request = "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.5\r\n\r\n";
        assert_eq!(Client::behind(&gateway, V1.as_bytes()).ask(request).status, 200);
        assert_eq!(upstream.requests().pop().unwrap().fields.get("x-forwarded-for"), Some(told), "{trusted}");
    }
}

#[test]
fn nothing_behind_a_header_is_lost_wherever_it_is_cut() {
    let upstream = Upstream::echo();
    let gateway = trusting(Setup::forward(&upstream).plain());
    let request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let long = v2(0x21, 0x11, &[&v2_tcp4()[16..], &[4, 7, 0xf1], &[7; 2033]].concat());
    for header in [V1.as_bytes(), &v2_tcp4(), &long] {
        let all = [header, request].concat();
        let cuts: Vec<usize> =
            if header.len() < 100 { (1..all.len()).collect() } else { vec![16, 1023, 1024, 1025, 2063] };
        for cut in cuts {
            let mut stream = TcpStream::connect(gateway.addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            stream.write_all(&all[..cut]).unwrap();
            if cut % 8 == 0 {
                std::thread::sleep(Duration::from_millis(2)); // so that the first part comes alone
            }
            stream.write_all(&all[cut..]).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\nabc"), "{cut}: {said}");
        }
    }
    upstream.reparse();
}

#[test]
fn what_is_no_header_is_closed_at_once_and_counted() {
    let upstream = Upstream::says("never");
    let gateway = trusting(Setup::forward(&upstream).plain());
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
    let endless = "PROXY TCP4 ".repeat(1000);
    let mut bad: Vec<Vec<u8>> = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 99999 2\r\n",
        "PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &too_long,
        &endless,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bad.extend([
        v2(0x31, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x12, &[0; 12]),
        v2(0x21, 0x51, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 12]),
        v2(0x21, 0x11, &[0; 65_535]),
        v2(0x20, 0x00, &[0; 2049]),
        v2(0x21, 0x11, &[&v2_tcp4()[16..], &[3, 0, 4, 1, 2, 3, 4]].concat()),
        v2(0x21, 0x11, &[&v2_tcp4()[16..], &[3, 0, 2, 1, 2]].concat()),
        v2(0x21, 0x11, &[&v2_tcp4()[16..], &[4, 0, 9, 1]].concat()),
        v2(0x20, 0x00, &[3, 0, 4, 1, 2, 3, 4]),
    ]);
    let before = closed(&gateway, "proxy_header");
    for (n, bytes) in bad.iter().enumerate() {
        let began = Instant::now();
        assert_eq!(raw(&gateway, bytes), "", "{:?}", String::from_utf8_lossy(bytes));
        assert!(began.elapsed() < Duration::from_secs(5), "at once: {bytes:?}");
        eventually("the count", || (closed(&gateway, "proxy_header") - before == (n + 1) as f64).then_some(()));
    }
    upstream.heard_nothing();
    assert!(gateway.log_lines().is_empty(), "no request came");
    assert_eq!(Client::behind(&gateway, V1.as_bytes()).get("/x").status, 200);
}

#[test]
fn half_of_a_header_is_waited_for_until_the_deadline_however_it_drips() {
    let upstream = Upstream::says("ok");
    let setup = Setup::forward(&upstream).listener("timeouts: { request_header: 600ms, tls_handshake: 600ms }");
    let gateway = trusting(setup);
    for header in [V1.as_bytes().to_vec(), v2_tcp4()] {
        for part in [1, 5, header.len() / 2, header.len() - 1] {
            let began = Instant::now();
            assert_eq!(raw(&gateway, &header[..part]), "");
            assert!(began.elapsed() >= Duration::from_millis(500), "{part}");
        }
        let mut stream = TcpStream::connect(gateway.addr).unwrap();
        let began = Instant::now();
        let dripped = header.iter().take_while(|byte| {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(&[**byte]).is_ok() && began.elapsed() < Duration::from_secs(5)
        });
        assert!(dripped.count() < header.len(), "a slow header does not move the deadline");
    }
    let deadline = tls::either("tls_handshake", "request_header");
    assert!(gateway.metrics().sum("ringway_deadlines_fired_total", &[("deadline", deadline)]) >= 10.0);
    // Truncated by its end: closed as well, also where nothing was sent.
    for header in [V1.as_bytes().to_vec(), v2_tcp4()] {
        for part in 0..header.len() {
            let mut stream = TcpStream::connect(gateway.addr).unwrap();
            stream.write_all(&header[..part]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
        }
    }
    eventually("all to be closed", || (gateway.metrics().sum(CONNECTIONS, &[]) == 0.0).then_some(()));
    upstream.heard_nothing();
}

#[test]
fn a_header_from_who_is_not_trusted_is_a_bad_request_and_he_is_served_without() {
    let upstream = Upstream::says("ok");
    let setup = Setup::forward(&upstream).plain().listener("proxy_protocol: { trusted: [127.0.0.2, 10.0.0.0/8] }");
    let gateway = setup.start();
    assert_eq!(gateway.get("/x").text(), "ok");
    assert_eq!(upstream.only_request().fields.get("x-forwarded-for"), Some("127.0.0.1"));
    for header in [V1.as_bytes(), &v2_tcp4()] {
        let said = raw(&gateway, &[header, b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        assert_eq!(said.matches("{\"code\":").count(), 1, "and the end: {said}");
    }
    upstream.only_request();
}

#[test]
fn a_second_header_and_one_between_requests_are_bad_requests() {
    let upstream = Upstream::says("ok");
    let gateway = trusting(Setup::forward(&upstream).plain());
    for header in [V1.as_bytes().to_vec(), v2_tcp4()] {
        let said = raw(&gateway, &[&header[..], &header, b"GET /twice HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        let said = raw(&gateway, &[&header[..], b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", &header[..]].concat());
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
        assert_eq!((said.matches("HTTP/1.1 200").count(), said.matches("HTTP/1.1 400").count()), (1, 1), "{said}");
    }
    assert!(upstream.requests().iter().all(|request| request.target == "/1"));
}

#[test]
fn a_flood_of_half_headers_costs_little_and_takes_nobodys_place_for_long() {
    let upstream = Upstream::says("ok");
    let gateway = trusting(Setup::forward(&upstream).plain().listener("timeouts: { request_header: 3s }"));
    assert_eq!(Client::behind(&gateway, V1.as_bytes()).get("/x").status, 200);
    let before = gateway.rss();
    let held: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.addr).unwrap();
            stream.write_all(&v2(0x21, 0x11, &[0; 2048])[..40]).unwrap();
            stream
        })
        .collect();
    eventually("all to be there", || (gateway.metrics().sum(CONNECTIONS, &[]) >= 1000.0).then_some(()));
    let each = gateway.rss().saturating_sub(before) / 1000;
    assert!(each < 8 * 1024, "{each} bytes for each half header");
    assert_eq!(Client::behind(&gateway, V1.as_bytes()).get("/y").status, 200);
    eventually("their end", || (gateway.metrics().sum(CONNECTIONS, &[]) <= 2.0).then_some(()));
    drop(held);
}

#[test]
fn a_drain_waits_for_no_header() {
    let mut gateway = trusting(Setup::new().listener("timeouts: { request_header: 1h, tls_handshake: 1h }"));
    let mut silent = TcpStream::connect(gateway.addr).unwrap();
    silent.write_all(&V1.as_bytes()[..10]).unwrap();
    eventually("it to be there", || (gateway.metrics().sum(CONNECTIONS, &[]) == 1.0).then_some(()));
    gateway.term();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn over_a_unix_socket_a_header_tells_the_address_that_there_is_none_of() {
    let upstream = Upstream::says("ok");
    let path = temp_dir("proxied").join("a.sock");
    let keys = format!("name: local, address: \"unix:{}\", proxy_protocol: {{ trusted: [unix] }}", path.display());
    let gateway = Setup::forward(&upstream).another_listener(&keys).start();
    let mut client = Client::unix(&path);
    client.send(V1);
    assert_eq!(client.get("/a").status, 200);
    assert_eq!(upstream.only_request().fields.get("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(gateway.log_of("/a")["client"], "192.0.2.7");
}

#[test]
fn curl_and_haproxy_say_who_calls() {
    let upstream = Upstream::says("ok");
    let gateway = trusting(Setup::forward(&upstream));
    assert_eq!(curl(&["--haproxy-protocol", &format!("{}/curl", foreign::url(gateway.addr))]), "ok");
    for option in
        ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "send-proxy-v2-ssl-cn"]
    {
        // TCP both ways: what the client speaks, TLS or not, the gateway speaks.
        let port = free_port();
        let _proxy = haproxy(&format!(
            "frontend ready\n  bind @listen@\nlisten through\n  mode tcp\n  bind 127.0.0.1:{port}\n  unique-id-format %ci\n  \
             server s {} source 127.0.0.1 {option}\n",
            gateway.addr
        ));
        let url = format!("{}://127.0.0.1:{port}/{}", tls::either("https", "http"), option.replace([' ', ','], "-"));
        let said = curl(&["--interface", "127.0.0.9", &url, &url]);
        assert_eq!(said, "okok", "{option}");
        let request = upstream.requests().pop().unwrap();
        assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.9"), "{option}");
    }
}

/// HAProxy's own header, which is taken down on its way, with each of its bytes changed in turn.
#[test]
fn a_checksum_of_haproxys_that_is_wrong_closes_the_connection() {
    let upstream = Upstream::says("ok");
    let gateway = trusting(Setup::forward(&upstream).plain());
    for options in ["crc32c", "crc32c,unique-id"] {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free_port();
        let _proxy = haproxy(&format!(
            "frontend ready\n  bind @listen@\nlisten through\n  mode tcp\n  bind 127.0.0.1:{port}\n  unique-id-format %ci\n  \
             server s {} send-proxy-v2 proxy-v2-options {options}\n",
            taken.local_addr().unwrap()
        ));
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"G").unwrap();
        let (mut stream, _) = taken.accept().unwrap();
        let mut header = [0; 16].to_vec();
        stream.read_exact(&mut header).unwrap();
        let mut behind = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
        stream.read_exact(&mut behind).unwrap();
        assert!(behind[12..].windows(3).any(|tlv| tlv == [3, 0, 4]), "it has a checksum: {behind:?}");
        header.extend(behind);
        let request = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let said = raw(&gateway, &[&header[..], request].concat());
        assert!(said.starts_with("HTTP/1.1 200 "), "{options}: {said}");
        let heard = upstream.requests().len();
        let before = closed(&gateway, "proxy_header");
        // Another length makes another header of it, and without what calls it a checksum there is none.
        let kind = 28 + header[28..].windows(3).position(|tlv| tlv == [3, 0, 4]).unwrap();
        let changed: Vec<usize> = (12..14).chain(16..header.len()).filter(|at| *at != kind).collect();
        for at in &changed {
            let mut wrong = header.clone();
            wrong[*at] ^= 0x10;
            assert_eq!(raw(&gateway, &[&wrong[..], request].concat()), "", "{options}: byte {at}");
        }
        eventually("the count", || (closed(&gateway, "proxy_header") - before == changed.len() as f64).then_some(()));
        assert_eq!(upstream.requests().len(), heard, "nothing of them was a request");
    }
}

#[test]
fn haproxy_hears_who_calls_and_no_connection_is_shared() {
    let server = haproxy(
        "frontend f\n  bind @listen@ accept-proxy\n  http-request return status 200 content-type text/plain lf-string \
         \"%[src] %[dst] %[dst_port]\"\n",
    );
    for version in ["v1", "v2"] {
        let setup = Setup::new()
            .upstream_at("u", &format!("[\"{}\"]", server.addr), &format!("proxy_protocol: {version}"))
            .forward_all("")
            .top("trusted_proxies: [127.0.0.3]");
        let gateway = setup.start();
        let url = format!("{}/x", foreign::url(gateway.addr));
        let port = gateway.addr.port();
        for _ in 0..3 {
            for ip in ["127.0.0.1", "127.0.0.9"] {
                assert_eq!(curl(&["--interface", ip, &url]), format!("{ip} 127.0.0.1 {port}"), "{version}");
            }
            let forwarded = curl(&["--interface", "127.0.0.3", "-H", "X-Forwarded-For: 2001:db8::5", &url]);
            assert_eq!(forwarded, format!("2001:db8::5 ::ffff:127.0.0.1 {port}"), "{version}");
        }
    }
}

#[test]
fn what_the_header_said_is_said_on() {
    let server = haproxy(
        "frontend f\n  bind @listen@ accept-proxy\n  http-request return status 200 content-type text/plain lf-string \
         \"%[src] %[src_port] %[dst] %[dst_port]\"\n",
    );
    for version in ["v1", "v2"] {
        let keys = format!("proxy_protocol: {version}");
        let setup = Setup::new().upstream_at("u", &format!("[\"{}\"]", server.addr), &keys).forward_all("");
        let gateway = trusting(setup);
        let said = Client::behind(&gateway, V1.as_bytes()).get("/x").text();
        assert_eq!(said, "192.0.2.7 56324 198.51.100.1 443");
    }
}

#[test]
fn a_client_that_a_proxy_on_a_unix_socket_names_is_told_with_a_destination_that_says_nothing() {
    let server = haproxy(
        "frontend f\n  bind @listen@ accept-proxy\n  http-request return status 200 content-type text/plain lf-string \
         \"%[src] %[src_port] %[dst] %[dst_port]\"\n",
    );
    let path = temp_dir("named").join("a.sock");
    for version in ["v1", "v2"] {
        let keys = format!("proxy_protocol: {version}");
        let gateway = Setup::new()
            .top("trusted_proxies: [unix]")
            .upstream_at("u", &format!("[\"{}\"]", server.addr), &keys)
            .another_listener(&format!("name: local, address: \"unix:{}\"", path.display()))
            .forward_all("")
            .start();
        // HAProxy shows no port where it is 0.
        for (client, told) in [("192.0.2.9", "192.0.2.9  0.0.0.0 "), ("2001:db8::9", "2001:db8::9  :: ")] {
            let request = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
            assert_eq!(Client::unix(&path).ask(request).text(), told, "{version}");
        }
        drop(gateway);
    }
}

#[test]
fn each_request_has_a_connection_with_a_header_of_its_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mut stream, tell) = (stream, tell.clone());
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") && head.len() > 16 {
                        stream.write_all(&ok("ok")).unwrap();
                        tell.send(std::mem::take(&mut head)).unwrap();
                    }
                }
            });
        }
    });
    for (version, begins) in
        [("v1", &b"PROXY TCP4 127.0.0.1 127.0.0.1 "[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c")]
    {
        let setup =
            Setup::new().plain_upstream_at("u", &format!("[\"{addr}\"]"), &format!("proxy_protocol: {version}"));
        let gateway = setup.forward_all("").start();
        let mut client = Client::connect(&gateway);
        for n in 0..4 {
            assert_eq!(client.get(&format!("/{n}")).text(), "ok");
            let head = heard.recv_timeout(crate::support::PATIENCE).unwrap();
            assert!(head.starts_with(begins), "{}", String::from_utf8_lossy(&head));
        }
        client.send([get("/p1"), get("/p2")].concat());
        for _ in 0..2 {
            client.response();
            assert!(heard.recv_timeout(crate::support::PATIENCE).unwrap().starts_with(begins));
        }
        assert_eq!(gateway.log_of("/p2")["end"], end::OK);
    }
}

#[test]
fn who_has_no_address_is_unknown_and_the_gateways_own_calls_are_its_own() {
    let server = haproxy(
        "frontend f\n  bind @listen@ accept-proxy\n  http-request return status 200 content-type application/json \
         lf-string '{\"src\":\"%[src]\"}'\n",
    );
    let path = temp_dir("unknown").join("a.sock");
    for version in ["v1", "v2"] {
        let setup = Setup::new()
            .upstream_at("u", &format!("[\"{}\"]", server.addr), &format!("proxy_protocol: {version}"))
            .another_listener(&format!("name: local, address: \"unix:{}\"", path.display()))
            .route("match: { path: /parts }, aggregate: { parts: [{ name: a, upstream: u, request: { path: /a } }] }")
            .forward_all("");
        let gateway = setup.start();
        assert_eq!(Client::unix(&path).get("/x").text(), "{\"src\":\"127.0.0.1\"}");
        let answer = gateway.get("/parts").text();
        assert!(answer.contains("{\"src\":\"127.0.0.1\"}"), "{answer}");
        drop(gateway);
    }
}

#[test]
fn one_client_has_no_more_connections_than_he_may_and_others_have_theirs() {
    let upstream = Upstream::says("ok");
    let setup = Setup::forward(&upstream).workers("2").listener("bounds: { connections_per_client: 2 }");
    let gateway = trusting(setup);
    let of = |ip: &str| {
        let family = if ip.contains(':') { "TCP6" } else { "TCP4" };
        let other = if ip.contains(':') { "2001:db8::1" } else { "198.51.100.1" };
        Client::behind(&gateway, format!("PROXY {family} {ip} {other} 1 2\r\n").as_bytes())
    };
    let mut held = Vec::new();
    for ip in ["192.0.2.7", "192.0.2.7", "192.0.2.8", "2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"] {
        let mut client = of(ip);
        assert_eq!(client.get("/x").status, 200, "{ip}");
        held.push(client);
    }
    for ip in ["192.0.2.7", "2001:db8:0:1::3"] {
        let mut client = of(ip);
        let _ = client.try_send(get("/x"));
        assert!(client.try_response().is_err(), "closed without a word: {ip}");
    }
    assert!(gateway.metrics().sum("ringway_connections_refused_total", &[]) >= 2.0);
    held.remove(0);
    eventually("his place to be free", || {
        let mut client = of("192.0.2.7");
        client.try_send(get("/x")).ok()?;
        client.try_response().ok().filter(|answer| answer.status == 200).map(drop)
    });
}
