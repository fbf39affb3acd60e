//! TLS towards clients, as programs that nobody here wrote see it (openssl s_client, curl): which certificate they get,
//! versions, protocols, resumption, reloads, and what becomes of bytes that are no handshake.

use crate::support::authority::{Authority, Issued};
use crate::support::foreign::{curl, openssl_client};
use crate::support::gateway::run;
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::{Gateway, Seeded, Setup, Upstream, eventually, temp_dir};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

pub const HANDSHAKES: &str = "ringway_tls_handshakes_total";

/// A gateway whose listener speaks TLS with these keys of its `tls` block, and answers `/hello` itself.
pub fn secure(tls: &str) -> Setup {
    Setup::new().plain().listener(&format!("tls: {{ {tls} }}")).route(
        "match: { path: /hello }, respond: { body: hello, headers: { x-tls: \"{tls.version} {tls.server_name}\" } }",
    )
}

fn with(certificates: &[&Issued]) -> String {
    let list: Vec<String> = certificates.iter().map(|c| c.yaml()).collect();
    format!("certificates: [{}]", list.join(", "))
}

/// How many handshakes ended so.
pub fn handshakes(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum(HANDSHAKES, &[("result", result)])
}

pub fn counted(gateway: &Gateway, result: &str, n: f64) {
    gateway.wait_sum(HANDSHAKES, &[("result", result)], n);
}

/// curl to `https://NAME`, whatever it resolves to elsewhere.
pub fn curl_to(gateway: &Gateway, authority: &Authority, name: &str, path: &str, options: &[&str]) -> String {
    let port = gateway.addr.port();
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}{path}"));
    curl(&[&["--cacert", authority.ca.to_str().unwrap(), "--resolve", &resolve, &url], options].concat())
}

/// The subject of the certificate that a client gets who asks for `name`.
fn shown(gateway: &Gateway, name: Option<&str>, options: &[&str]) -> String {
    let ask = name.map_or(vec!["-noservername"], |name| vec!["-servername", name]);
    let said = openssl_client(gateway, &[&ask[..], options].concat(), b"");
    let subject = said.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_else(|| panic!("{said}"));
    subject.replace("CN = ", "CN=").trim().to_string()
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let (first, exact, wild) =
        (authority.issue(&["first.test"]), authority.issue(&["a.gw.test", "gw.test"]), authority.issue(&["*.gw.test"]));
    let gateway = secure(&with(&[&first, &exact, &wild])).start();
    for (name, expected) in [
        (Some("a.gw.test"), "CN=a.gw.test"),
        (Some("A.GW.test"), "CN=a.gw.test"),
        (Some("gw.test"), "CN=a.gw.test"),
        (Some("b.gw.test"), "CN=*.gw.test"),
        (Some("c.b.gw.test"), "CN=first.test"),
        (Some("nobody.test"), "CN=first.test"),
        (Some("first.test"), "CN=first.test"),
        (None, "CN=first.test"),
    ] {
        assert_eq!(shown(&gateway, name, &[]), expected, "{name:?}");
    }
    assert_eq!(
        curl_to(&gateway, &authority, "b.gw.test", "/hello", &["-w", " %header{x-tls}"]),
        "hello TLSv1.3 b.gw.test"
    );
}

#[test]
fn a_name_that_no_certificate_is_for_can_be_refused() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let gateway = secure(&format!("{}, unknown_name: refuse", with(&[&site]))).start();
    assert_eq!(shown(&gateway, Some("gw.test"), &[]), "CN=gw.test");
    assert_eq!(shown(&gateway, None, &[]), "CN=gw.test", "who names none is served");
    let said = openssl_client(&gateway, &["-servername", "other.test"], b"");
    assert!(said.contains("alert") && said.contains("no peer certificate"), "{said}");
    counted(&gateway, "unknown_name", 1.0);
}

#[test]
fn versions_and_protocols() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let gateway = secure(&with(&[&site])).start();
    for (option, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let said = openssl_client(&gateway, &[option, "-servername", "gw.test", "-alpn", "h2,http/1.1"], b"");
        assert!(said.contains(&format!("New, {version}")), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    let tls12 = curl_to(&gateway, &authority, "gw.test", "/hello", &["--tls-max", "1.2", "-w", " %header{x-tls}"]);
    assert_eq!(tls12, "hello TLSv1.2 gw.test");
    let said = openssl_client(&gateway, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], b"");
    assert!(said.contains("no peer certificate"), "{said}");
    let said = openssl_client(&gateway, &["-alpn", "h2"], b"");
    assert!(said.contains("no application protocol"), "{said}");
    counted(&gateway, "nothing_in_common", 2.0);

    let strict = secure(&format!("{}, min_version: 1.3", with(&[&site]))).start();
    assert!(openssl_client(&strict, &["-tls1_2"], b"").contains("no peer certificate"));
    assert!(openssl_client(&strict, &["-tls1_3"], b"").contains("New, TLSv1.3"));
}

/// Asks once and keeps the ticket in `file`, or resumes with the one in it.
fn session(gateway: &Gateway, keep: bool, file: &str, options: &[&str]) -> String {
    let request = b"GET /hello HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";
    let way = if keep { "-sess_out" } else { "-sess_in" };
    openssl_client(gateway, &[&["-servername", "gw.test", "-ign_eof", way, file], options].concat(), request)
}

#[test]
fn sessions_resume_on_every_core_and_in_both_versions() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let gateway = secure(&with(&[&site])).workers("2").start();
    for version in ["-tls1_3", "-tls1_2"] {
        let file = temp_dir("session").join("ticket").display().to_string();
        assert!(session(&gateway, true, &file, &[version]).contains("New, "), "{version}");
        for n in 0..8 {
            let said = session(&gateway, false, &file, &[version]);
            assert!(said.contains("Reused, ") && said.contains("hello"), "{version} {n}: {said}");
        }
    }
    counted(&gateway, "resumed", 16.0);
    counted(&gateway, "full", 2.0);
}

#[test]
fn with_shared_secrets_sessions_resume_on_every_machine_and_through_a_rotation() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let dir = temp_dir("secrets");
    let secret = |name: &str, byte: u8| {
        let path = dir.join(name);
        std::fs::write(&path, [byte; 48]).unwrap();
        path.display().to_string()
    };
    let (old, new) = (secret("old", 1), secret("new", 2));
    let machine = |secrets: &str| secure(&format!("{}, ticket_secrets: [{secrets}]", with(&[&site]))).start();
    let (a, b, rotated) = (machine(&old), machine(&old), machine(&format!("{new}, {old}")));
    let stranger = secure(&with(&[&site])).start();
    let file = dir.join("ticket").display().to_string();
    session(&a, true, &file, &[]);
    assert!(session(&b, false, &file, &[]).contains("Reused, "));
    assert!(session(&rotated, false, &file, &[]).contains("Reused, "), "the secret before the newest still opens");
    assert!(session(&stranger, false, &file, &[]).contains("New, "), "a machine without the secret starts anew");
    session(&rotated, true, &file, &[]);
    assert!(session(&a, false, &file, &[]).contains("New, "), "tickets are sealed with the newest");
    // The file's content is what counts: a secret that is exchanged in place takes effect.
    secret("old", 3);
    eventually("the exchanged secret to be used", || session(&b, false, &file, &[]).contains("New, ").then_some(()));
}

#[test]
fn certificates_are_exchanged_under_running_connections_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let (site, next, other) =
        (authority.issue(&["gw.test"]), authority.issue(&["next.test"]), authority.issue(&["x.test"]));
    let upstream = Upstream::start(answers(ok("from upstream")));
    let setup = secure(&with(&[&site])).upstream("u", &[&upstream], "").forward_all("");
    let gateway = setup.start();
    let mut open = crate::support::foreign::s_client(&gateway, &["-servername", "gw.test"]);
    let mut ask =
        |path: &str| open.ask(format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\n\r\n").as_bytes(), "from upstream");
    ask("/before");

    // Half of an exchange: the new certificate with the old key.
    std::fs::copy(&next.cert, &site.cert).unwrap();
    let stale = || gateway.metrics().sum("ringway_tls_files_stale", &[]);
    eventually("the fault to be seen", || (stale() == 1.0).then_some(()));
    assert_eq!(shown(&gateway, Some("gw.test"), &[]), "CN=gw.test", "the pair that was read before stays");
    eventually("the fault to be said", || {
        let said = gateway.process.stderr.lock().unwrap().clone();
        (said.contains(site.key.to_str().unwrap()) && said.contains("is not the key of this certificate")).then_some(())
    });

    site.replace_by(&next);
    eventually("the new pair to be used", || (shown(&gateway, Some("gw.test"), &[]) == "CN=next.test").then_some(()));
    assert_eq!(stale(), 0.0);
    ask("/after");
    site.replace_by(&other);
    eventually("the third pair to be used", || (shown(&gateway, Some("gw.test"), &[]) == "CN=x.test").then_some(()));
    ask("/and-after");
    assert!(gateway.metrics().sum("ringway_tls_certificate_days", &[]) > 300.0);
}

#[test]
fn an_ocsp_answer_is_stapled() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let answer = authority.ocsp(&site);
    let item = format!("{{ cert: {}, key: {}, ocsp: {} }}", site.cert.display(), site.key.display(), answer.display());
    let gateway = secure(&format!("certificates: [{item}]")).start();
    let said = openssl_client(&gateway, &["-status", "-servername", "gw.test"], b"");
    assert!(said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"), "{said}");
    let refused = secure(&format!("certificates: [{}]", item.replace("ocsp.der", "ca.pem"))).refused();
    assert!(refused.contains("is not an OCSP response in DER"), "{refused}");
}

#[test]
fn plain_requests_are_sent_to_https_and_answers_carry_hsts() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let upstream = Upstream::start(answers(
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok",
    ));
    let tls = format!("{}, hsts: {{ include_subdomains: true, preload: true }}", with(&[&site]));
    let gateway = secure(&tls).upstream("u", &[&upstream], "").forward_path("/up", "").start();
    for path in ["/hello", "/up", "/missing"] {
        let value = curl_to(
            &gateway,
            &authority,
            "gw.test",
            path,
            &["-o", "/dev/null", "-w", "%header{strict-transport-security}"],
        );
        assert_eq!(value, "max-age=31536000; includeSubDomains; preload", "{path}");
    }
    let plain = Setup::new().plain().listener("https_redirect: 8443").start();
    let at = |path: &str| {
        curl(&[
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
            "-X",
            "POST",
            &format!("http://{}{path}", plain.addr),
        ])
    };
    assert_eq!(at("/a/b%20c?d=e&f"), "308 https://127.0.0.1:8443/a/b%20c?d=e&f");
    let default = Setup::new().plain().listener("https_redirect: 443").start();
    let said = default.ask("GET /x HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n");
    assert_eq!((said.status, said.fields.get("location")), (308, Some("https://shop.example/x")));
}

/// What is read from a raw connection until it ends, or is given up.
fn raw(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(gateway.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said); // a reset is an end too
    said
}

#[test]
fn http_without_tls_is_told_so_and_garbage_is_closed() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let mut gateway = secure(&with(&[&site])).start();
    let body = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS * HTTP/1.0\r\n\r\n", &body] {
        let said = String::from_utf8(raw(&gateway, request.as_bytes())).unwrap();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n") && said.ends_with("use https://\n"), "{said:?}");
        assert!(said.contains("Content-Type: text/plain\r\n"), "{said:?}");
    }
    counted(&gateway, "plain_http", 3.0);
    let garbage: [&[u8]; 7] = [
        b"\x00\x01\x02\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80], // a hello of SSL 2
        &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],                           // a hello of one byte
        &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 1, 0],                     // a record that is too long
        &[22, 9, 9, 0, 5, 1, 0, 0, 1, 0],                           // a version that is none
        &[23, 3, 3, 0, 4, 1, 2, 3, 4],                              // data before a handshake
    ];
    for bytes in garbage {
        let said = raw(&gateway, bytes);
        assert!(said.is_empty() || said[0] == 21, "nothing, or an alert: {said:?}");
    }
    let failed = |g: &Gateway| handshakes(g, "not_tls") + handshakes(g, "protocol");
    eventually("all to be counted", || (failed(&gateway) == 7.0).then_some(()));
    assert_eq!(curl_to(&gateway, &authority, "gw.test", "/hello", &[]), "hello");
    gateway.is_well();
}

/// The bytes of a ClientHello, as a client of today sends them.
pub fn client_hello() -> Vec<u8> {
    let config =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut conn = rustls::ClientConnection::new(config.into(), "gw.test".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    conn.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_handshake_has_a_deadline_however_it_drips() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let gateway = secure(&with(&[&site])).listener("timeouts: { tls_handshake: 300ms }").start();
    let hello = client_hello();
    let began = Instant::now();
    let mut silent = TcpStream::connect(gateway.addr).unwrap();
    let mut half = TcpStream::connect(gateway.addr).unwrap();
    half.write_all(&hello[..hello.len() / 2]).unwrap();
    let mut stalled = TcpStream::connect(gateway.addr).unwrap();
    stalled.write_all(&hello).unwrap();
    let mut dripping = TcpStream::connect(gateway.addr).unwrap();
    for byte in &hello {
        if dripping.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for stream in [&mut silent, &mut half, &mut stalled, &mut dripping] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    counted(&gateway, "timeout", 4.0);
    assert_eq!(gateway.metrics().sum("ringway_deadlines_fired_total", &[("deadline", "tls_handshake")]), 4.0);
    // One that leaves in the middle is no timeout.
    let mut leaving = TcpStream::connect(gateway.addr).unwrap();
    leaving.write_all(&hello[..100]).unwrap();
    leaving.shutdown(Shutdown::Both).unwrap();
    counted(&gateway, "closed", 1.0);
}

#[test]
fn only_so_many_handshakes_run_at_a_time_and_the_others_wait_their_turn() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let gateway = secure(&with(&[&site]))
        .listener("bounds: { handshakes: 2 }")
        .listener("timeouts: { tls_handshake: 1s }")
        .start();
    let held = Instant::now();
    let mut holding: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(gateway.addr).unwrap()).collect();
    for stream in &mut holding {
        stream.write_all(&client_hello()[..50]).unwrap();
    }
    // Long before its own deadline, which has to be later than theirs.
    eventually("half of their time to be over", || (held.elapsed() >= Duration::from_millis(500)).then_some(()));
    let began = Instant::now();
    // Both places are taken until their deadline: this one waits, and is served then.
    let said = curl_to(&gateway, &authority, "gw.test", "/hello", &["-w", " %{time_appconnect}"]);
    assert!(said.starts_with("hello "), "{said}");
    assert!(began.elapsed() >= Duration::from_millis(200), "it waited: {said}");
    counted(&gateway, "timeout", 2.0);
    counted(&gateway, "full", 1.0);
}

#[test]
fn a_client_that_renegotiates_or_breaks_a_record_loses_its_connection_only() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let mut gateway = secure(&with(&[&site])).start();
    // `R` asks openssl to renegotiate.
    let said = openssl_client(&gateway, &["-tls1_2", "-servername", "gw.test"], b"R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(!said.contains("HTTP/1.1"), "{said}");
    // A record that does not decrypt, and one that is cut.
    for broken in [&[23, 3, 3, 0, 32][..], &[23, 3, 3, 0, 4, 1, 2, 3, 4]] {
        let mut client = crate::support::tls_client::shaken(&gateway, &authority);
        let stream = client.sock.try_clone().unwrap();
        (&stream).write_all(broken).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    assert_eq!(curl_to(&gateway, &authority, "gw.test", "/hello", &[]), "hello");
    gateway.is_well();
}

#[test]
fn keys_that_are_renewed_within_a_connection_change_nothing() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let gateway = secure(&with(&[&site])).start();
    let mut tls = crate::support::tls_client::shaken(&gateway, &authority);
    for round in 0..20 {
        // Asks the gateway for new keys, too; its answer leaves in front of the next response.
        for _ in 0..round % 3 {
            tls.conn.refresh_traffic_keys().unwrap();
        }
        tls.write_all(b"GET /hello HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"hello") {
            let mut piece = [0; 1000];
            let n = tls.read(&mut piece).unwrap();
            assert!(n > 0, "round {round}");
            said.extend_from_slice(&piece[..n]);
        }
    }
}

#[test]
fn handshakes_and_requests_may_come_in_the_smallest_records() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let upstream = Upstream::echo();
    let gateway = secure(&with(&[&site])).upstream("u", &[&upstream], "").forward_path("/echo", "").start();
    let body = Seeded(7).bytes(100_000);
    for size in [32, 33, 100, 1000, 16_389] {
        let mut config = rustls::ClientConfig::clone(&crate::support::tls_client::config(&authority, None));
        config.max_fragment_size = Some(size);
        let mut tls = crate::support::tls_client::to(&gateway, &config.into(), "gw.test");
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        tls.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut said = Vec::new();
        tls.read_to_end(&mut said).unwrap();
        assert!(said.ends_with(&body), "{size}: {} bytes", said.len());
    }
}

/// One connection on which some flights pass as they are and one is broken: a bit flipped, bytes cut, doubled or put in.
fn talk_brokenly(gateway: &Gateway, config: &std::sync::Arc<rustls::ClientConfig>, random: &mut Seeded) {
    let mut conn = rustls::ClientConnection::new(config.clone(), "gw.test".try_into().unwrap()).unwrap();
    let mut sock = TcpStream::connect(gateway.addr).unwrap();
    sock.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let break_at = random.below(6);
    'talk: for flight in 0..8 {
        let mut wire = Vec::new();
        if !conn.is_handshaking() {
            conn.writer().write_all(b"GET /hello HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap();
        }
        while conn.wants_write() {
            conn.write_tls(&mut wire).unwrap();
        }
        if wire.is_empty() {
            break;
        }
        if flight == break_at {
            let at = random.below(wire.len());
            match random.below(5) {
                0 => wire[at] ^= 1 << random.below(8),
                1 => wire.truncate(at),
                2 => wire.insert(at, random.next() as u8),
                3 => wire = [&wire[..at], &wire[..]].concat(),
                _ => drop(wire.remove(at)),
            }
        }
        let cut = random.below(wire.len() + 1);
        for piece in [&wire[..cut], &wire[cut..]] {
            if sock.write_all(piece).is_err() {
                break 'talk;
            }
        }
        match conn.read_tls(&mut sock) {
            Ok(n) if n > 0 && conn.process_new_packets().is_ok() => {}
            _ => break,
        }
    }
}

#[test]
fn mutated_handshakes_and_records_hurt_nobody() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let mut gateway = secure(&with(&[&site]))
        .listener("timeouts: { tls_handshake: 150ms, request_header: 150ms, keep_alive: 150ms }")
        .start();
    let config = crate::support::tls_client::config(&authority, None);
    let rounds = 50;
    std::thread::scope(|scope| {
        for seed in 0..6 {
            let (gateway, config) = (&gateway, &config);
            scope.spawn(move || {
                let mut random = Seeded(0x715 + seed);
                (0..rounds).for_each(|_| talk_brokenly(gateway, config, &mut random));
            });
        }
    });
    assert_eq!(curl_to(&gateway, &authority, "gw.test", "/hello", &[]), "hello");
    let all = gateway.metrics().sum(HANDSHAKES, &[]);
    eventually("all handshakes to have ended", || {
        (gateway.metrics().sum(HANDSHAKES, &[]) == f64::from(6 * rounds) + 1.0).then_some(())
    });
    assert!(all > 0.0);
    gateway.is_well();
}

#[test]
fn files_that_can_not_be_used_are_config_errors_that_name_them() {
    let authority = Authority::new();
    let (site, other, old) =
        (authority.issue(&["gw.test"]), authority.issue(&["x.test"]), authority.expired(&["gw.test"]));
    let dir = temp_dir("files");
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (site.cert.display().to_string(), site.key.display().to_string());
    let pem = |path: &str| std::fs::read_to_string(path).unwrap();
    let dh =
        file("dh.pem", &format!("{}-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n", pem(&cert)));
    let encrypted =
        file("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let empty = file("empty.pem", "");
    let traditional = file(
        "trad.key",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAA=\n-----END EC PRIVATE KEY-----\n",
    );
    let half = file("half.pem", &pem(&cert)[..300]);
    // A key that went through an environment variable, say.
    let one_line = file("line.key", &pem(&key).replace('\n', " "));
    let one_line_too = file("line2.key", &pem(&key).trim_end().replace('\n', " "));
    let carriage = file("cr.key", &pem(&key).replace('\n', "\r"));
    let literal = file("literal.key", &pem(&key).replace('\n', "\\n"));
    let fifo = dir.join("fifo").display().to_string();
    crate::support::foreign::output("mkfifo", &[&fifo]);
    for (cert, key, says) in [
        (cert.as_str(), other.key.to_str().unwrap(), "is not the key of this certificate"),
        (old.cert.to_str().unwrap(), old.key.to_str().unwrap(), "its certificate expired at"),
        (&dh, &key, "holds a PEM block \"DH PARAMETERS\""),
        (&cert, &encrypted, "holds an encrypted private key"),
        (&broken, &key, "holds a certificate that can not be read"),
        (&empty, &key, "holds no certificate"),
        (&cert, &empty, "holds no private key"),
        (&cert, &cert, "holds no private key"),
        (&cert, &traditional, "holds an encrypted private key"),
        (&half, &key, "a PEM block has no END"),
        (&cert, &one_line, "only begins like a PEM block"),
        (&cert, &one_line_too, "only begins like a PEM block"),
        (&cert, &carriage, "only begins like a PEM block"),
        (&cert, &literal, "only begins like a PEM block"),
        (&fifo, &key, "is not a regular file"),
        (&cert, &fifo, "is not a regular file"),
        ("/nowhere/cert.pem", &key, "can not be read"),
        ("/dev/zero", &key, "is not a regular file"),
        (dir.to_str().unwrap(), &key, "is not a regular file"),
        ("cert.pem", &key, "is not the absolute path of a file"),
    ] {
        let said = secure(&format!("certificates: [{{ cert: {cert}, key: {key} }}]")).refused();
        assert!(said.contains(says) && said.contains("certificates[0]."), "{says}:\n{said}");
        assert!(!said.contains(pem(site.key.to_str().unwrap()).lines().nth(1).unwrap()), "{said}");
        assert!(!said.contains("[45, 45"), "{said}");
    }
    let said = secure(&format!("{}, hsts: {{ preload: true }}", with(&[&site]))).refused();
    assert!(said.contains("preload"), "{said}");
    let said = secure(&with(&[&site])).listener("https_redirect: 443").refused();
    assert!(said.contains("speaks HTTPS itself"), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_warned_about_and_no_key_is_ever_told() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    std::fs::set_permissions(&site.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let gateway = secure(&with(&[&site])).start();
    curl_to(&gateway, &authority, "gw.test", "/hello", &[]);
    let said = gateway.process.wait_said(&format!("chmod 600 {}", site.key.display()));
    gateway.log_of("/hello");
    let secret = std::fs::read_to_string(&site.key).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    let metrics = crate::support::gateway::get(gateway.admin, "/metrics").unwrap().text();
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!said.contains(secret) && !metrics.contains(secret) && !log.contains(secret));
    let days = gateway.metrics().sum("ringway_tls_certificate_days", &[("file", site.cert.to_str().unwrap())]);
    assert!(days > 365.0, "{days}");
}

#[test]
fn a_pipe_in_the_place_of_a_key_keeps_nobody_from_hearing_signals() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let mut gateway = secure(&with(&[&site])).start();
    std::fs::remove_file(&site.key).unwrap();
    crate::support::foreign::output("mkfifo", &[site.key.to_str().unwrap()]);
    eventually("the fault to be said", || {
        let said = gateway.process.stderr.lock().unwrap().clone();
        (said.contains("is not a regular file") && said.contains("what was read of it before stays in use"))
            .then_some(())
    });
    assert_eq!(curl_to(&gateway, &authority, "gw.test", "/hello", &[]), "hello");
    gateway.is_well();
    gateway.term();
    assert!(gateway.wait_exit().success());
}

#[test]
fn check_reads_the_files_too() {
    let authority = Authority::new();
    let site = authority.issue(&["gw.test"]);
    let config = temp_dir("check").join("gateway.yaml");
    let text = |key: &str| {
        format!(
            "listeners: [{{ address: \"127.0.0.1:8443\", tls: {{ certificates: [{{ cert: {}, key: {key} }}] }} }}]\n",
            site.cert.display()
        )
    };
    std::fs::write(&config, text(site.key.to_str().unwrap())).unwrap();
    assert_eq!(run(&["check", "-c", config.to_str().unwrap()]).0, 0);
    std::fs::write(&config, text("/nowhere/site.key")).unwrap();
    let (code, _, stderr) = run(&["check", "-c", config.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains(":1:") && stderr.contains("/nowhere/site.key") && stderr.contains("can not be read"),
        "{stderr}"
    );
}
