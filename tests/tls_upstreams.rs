//! TLS towards upstreams: nginx and openssl's own server on the other side, and servers that cut their answers.

use crate::support::authority::Authority;
use crate::support::foreign::{Server, nginx, python_server};
use crate::support::{Client, Setup, Upstream, eventually};
use crate::tls::{curl_to, secure};

/// nginx with a certificate; says in its answer who asked, and how.
fn tls_nginx(authority: &Authority, names: &[&str], more: &str) -> Server {
    let site = authority.issue(names);
    nginx(&format!(
        "server {{ listen @listen@ ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; {more}\n\
         location / {{ return 200 \"$ssl_server_name $ssl_protocol $ssl_session_reused $ssl_client_s_dn $scheme $http_x_forwarded_proto\\n\"; }} }}",
        site.cert.display(),
        site.key.display()
    ))
}

fn to(server: &Server, tls: &str) -> Setup {
    Setup::new().plain().plain_upstream_at("u", &format!("[\"{}\"]", server.addr), tls).forward_all("")
}

#[test]
fn all_pairs_of_http_and_https_work() {
    let authority = Authority::new();
    let server = tls_nginx(&authority, &["users.test"], "");
    let tls = format!("tls: {{ ca: {}, server_name: users.test }}", authority.ca.display());
    let plain_to_tls = to(&server, &tls).start();
    assert_eq!(plain_to_tls.get("/").text(), "users.test TLSv1.3 .  https http\n");
    let site = authority.issue(&["gw.test"]);
    let certificates = format!("certificates: [{}]", site.yaml());
    let tls_to_tls =
        secure(&certificates).plain_upstream_at("u", &format!("[\"{}\"]", server.addr), &tls).forward_all("").start();
    assert_eq!(curl_to(&tls_to_tls, &authority, "gw.test", "/", &[]), "users.test TLSv1.3 .  https https\n");
    let plain = Upstream::echo();
    let tls_to_plain = secure(&certificates).upstream("u", &[&plain], "").forward_all("").start();
    let body = "x".repeat(300_000);
    let file = crate::support::temp_dir("body").join("body");
    std::fs::write(&file, &body).unwrap();
    let said = curl_to(&tls_to_plain, &authority, "gw.test", "/", &["--data-binary", &format!("@{}", file.display())]);
    assert!(said == body, "{} bytes", said.len());
}

#[test]
fn an_endpoint_without_tls_is_left_for_one_that_has_it() {
    let authority = Authority::new();
    let server = tls_nginx(&authority, &["users.test"], "");
    let plain = Upstream::start(|_| {});
    let endpoints = format!("[\"{}\", \"{}\"]", plain.addr, server.addr);
    let keys = format!("balance: round_robin, tls: {{ ca: {}, server_name: users.test }}", authority.ca.display());
    let gateway = Setup::new().plain().plain_upstream_at("u", &endpoints, &keys).forward_all("").start();
    let mut client = Client::connect(&gateway);
    for _ in 0..6 {
        assert_eq!(client.ask(crate::support::client::post("/", "body")).status, 200, "nothing had been sent");
    }
    let failures = gateway.metrics().sum("ringway_upstream_failures_total", &[("reason", "tls")]);
    assert!(failures >= 1.0 && plain.connections() >= 1, "{failures}");
}

#[test]
fn only_the_right_certificate_is_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = tls_nginx(&authority, &["users.test"], "");
    let ca = authority.ca.display();
    for (tls, says) in [
        (format!("ca: {ca}, server_name: orders.test"), "certificate not valid for name"),
        (format!("ca: {ca}"), "certificate not valid for name"), // the endpoint's address is not in it
        (format!("ca: {}, server_name: users.test", stranger.ca.display()), "UnknownIssuer"),
    ] {
        let gateway = to(&server, &format!("tls: {{ {tls} }}")).start();
        let said = gateway.get("/");
        assert_eq!(said.status, 502, "{tls}");
        assert!(said.text().contains("\"code\":50204"), "{}", said.text());
        assert_eq!(gateway.log_of("/")["end"], "upstream_tls");
        eventually("the operator to be told", || {
            let stderr = gateway.process.stderr.lock().unwrap().clone();
            (stderr.contains("upstream u") && stderr.contains(says)).then_some(())
        });
        assert_eq!(gateway.metrics().sum("ringway_upstream_failures_total", &[("reason", "tls")]), 1.0);
    }
    let careless = to(&server, "tls: { insecure_skip_verify: true }").start();
    assert_eq!(careless.get("/").status, 200);
    careless.process.wait_said("insecure_skip_verify");
    let expired = authority.expired(&["users.test"]);
    let old = nginx(&format!(
        "server {{ listen @listen@ ssl; ssl_certificate {}; ssl_certificate_key {}; }}",
        expired.cert.display(),
        expired.key.display()
    ));
    let gateway = to(&old, &format!("tls: {{ ca: {ca}, server_name: users.test }}")).start();
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn the_gateway_shows_its_own_certificate_and_the_name_comes_from_the_endpoint() {
    let authority = Authority::new();
    let ask = format!("ssl_verify_client on; ssl_client_certificate {};", authority.ca.display());
    let server = tls_nginx(&authority, &["localhost"], &ask);
    let me = authority.issue(&["gateway.test"]);
    let tls = format!("tls: {{ ca: {}, client: {} }}", authority.ca.display(), me.yaml());
    let endpoint = format!("[\"localhost:{}\"]", server.addr.port());
    let gateway = Setup::new().plain().plain_upstream_at("u", &endpoint, &tls).forward_all("").start();
    let said = gateway.get("/").text();
    assert!(said.starts_with("localhost TLSv1.3 ") && said.contains("CN=gateway.test"), "{said}");
    let anonymous = format!("tls: {{ ca: {} }}", authority.ca.display());
    let gateway = Setup::new().plain().plain_upstream_at("u", &endpoint, &anonymous).forward_all("").start();
    assert_eq!(gateway.get("/").status, 400, "nginx's own answer");
}

#[test]
fn a_connection_never_serves_under_another_identity() {
    let authority = Authority::new();
    let ask = format!("ssl_verify_client on; ssl_client_certificate {};", authority.ca.display());
    let server = tls_nginx(&authority, &["users.test"], &ask);
    let (me, renewed) = (authority.issue(&["first.test"]), authority.issue(&["second.test"]));
    let tls = format!("tls: {{ ca: {}, server_name: users.test, client: {} }}", authority.ca.display(), me.yaml());
    let gateway = to(&server, &tls).start();
    assert!(gateway.get("/").text().contains("CN=first.test"));
    me.replace_by(&renewed);
    eventually("the renewed certificate to be shown", || {
        gateway.get("/").text().contains("CN=second.test").then_some(())
    });
    for _ in 0..10 {
        assert!(gateway.get("/").text().contains("CN=second.test"), "no kept connection of the old one is used");
    }
}

#[test]
fn sessions_with_upstreams_resume() {
    let authority = Authority::new();
    let server = tls_nginx(&authority, &["users.test"], "");
    let tls = format!("pool: {{ idle: 0 }}, tls: {{ ca: {}, server_name: users.test }}", authority.ca.display());
    let gateway = to(&server, &tls).start();
    assert!(gateway.get("/").text().starts_with("users.test TLSv1.3 . "));
    for _ in 0..4 {
        assert!(gateway.get("/").text().starts_with("users.test TLSv1.3 r "), "reused");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringway_upstream_tls_handshakes_total", &[("result", "resumed")]), 4.0);
    assert_eq!(metrics.sum("ringway_upstream_tls_handshakes_total", &[("result", "full")]), 1.0);
}

#[test]
fn connections_are_kept_and_tickets_that_wait_on_them_are_no_reason_to_throw_them_away() {
    let authority = Authority::new();
    let server = tls_nginx(&authority, &["users.test"], "");
    let gateway = to(&server, &format!("tls: {{ ca: {}, server_name: users.test }}", authority.ca.display())).start();
    let mut client = Client::connect(&gateway);
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringway_upstream_tls_handshakes_total", &[]), 1.0);
    assert_eq!(metrics.sum("ringway_pool_discarded_total", &[]), 0.0);
}

#[test]
fn system_authorities_are_believed_by_default_and_new_files_are_followed() {
    let authority = Authority::new();
    let server = tls_nginx(&authority, &["localhost"], "");
    let endpoint = format!("[\"localhost:{}\"]", server.addr.port());
    // What the system trusts is read from where OpenSSL's variable says, if it is set.
    let gateway = Setup::new()
        .plain()
        .env("SSL_CERT_FILE", authority.ca.to_str().unwrap())
        .plain_upstream_at("u", &endpoint, "tls: {}")
        .forward_all("")
        .start();
    assert_eq!(gateway.get("/").status, 200);
    let other = Authority::new();
    let trusted = crate::support::temp_dir("ca").join("ca.pem");
    std::fs::copy(&other.ca, &trusted).unwrap();
    let tls = format!("tls: {{ ca: {} }}", trusted.display());
    let gateway = Setup::new().plain().plain_upstream_at("u", &endpoint, &tls).forward_all("").start();
    assert_eq!(gateway.get("/").status, 502);
    std::fs::copy(&authority.ca, &trusted).unwrap();
    eventually("the new authority to be believed", || (gateway.get("/").status == 200).then_some(()));
}

/// Python's TLS server: answers as `answer` says, and leaves with or without a close_notify.
fn python_tls(authority: &Authority, answer: &str, announce: bool) -> Server {
    let site = authority.issue(&["users.test"]);
    let end = if announce { "c.unwrap()" } else { "pass" };
    python_server(&format!(
        "import socket, ssl, sys, threading\n\
         ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); ctx.load_cert_chain({:?}, {:?})\n\
         s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
         def serve(c):\n\
         \x20   try:\n\
         \x20       c = ctx.wrap_socket(c, server_side=True)\n\
         \x20       c.recv(65536)\n\
         \x20       c.sendall({answer:?}.encode())\n\
         \x20       {end}\n\
         \x20       c.close()\n\
         \x20   except Exception: pass\n\
         while True:\n\
         \x20   c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()\n",
        site.cert.display().to_string(),
        site.key.display().to_string()
    ))
}

#[test]
fn an_answer_without_an_end_is_never_passed_on_as_a_whole_one() {
    let authority = Authority::new();
    let tls = format!("tls: {{ ca: {}, server_name: users.test }}", authority.ca.display());
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhalf or whole?";
    let server = python_tls(&authority, until_close, true);
    let announced = to(&server, &tls).start();
    assert_eq!(announced.get("/").text(), "half or whole?");
    let server = python_tls(&authority, until_close, false);
    let gateway = to(&server, &tls).start();
    let mut client = Client::connect(&gateway);
    client.send("GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert!(client.try_response().is_err(), "the chunked answer has no last chunk");
    assert_eq!(gateway.log_of("/")["end"], "upstream_truncated");
    let mut old = Client::connect(&gateway);
    old.send("GET /old HTTP/1.0\r\n\r\n");
    let mut head = old.head().unwrap();
    assert!(head.read_body(&mut old.wire).is_err(), "a client of HTTP/1.0 sees a reset, not an end");
    let server = python_tls(&authority, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", true);
    let short = to(&server, &tls).start();
    let mut client = Client::connect(&short);
    client.send("GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert!(client.try_response().is_err());
    // And a TLS client never gets an announced end behind half an answer.
    let site = authority.issue(&["gw.test"]);
    let server = python_tls(&authority, until_close, false);
    let endpoint = format!("[\"{}\"]", server.addr);
    let gateway = secure(&format!("certificates: [{}]", site.yaml()))
        .plain_upstream_at("u", &endpoint, &tls)
        .forward_all("")
        .start();
    let mut tls = crate::support::tls_client::shaken(&gateway, &authority);
    std::io::Write::write_all(&mut tls, b"GET /cut HTTP/1.0\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let end = std::io::Read::read_to_end(&mut tls, &mut said);
    assert!(end.is_err(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_server_that_speaks_no_tls_is_a_named_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"220 mail.test ESMTP\r\n");
        }
    });
    let endpoint = format!("[\"{address}\"]");
    let tls = "tls: { insecure_skip_verify: true }";
    let gateway = Setup::new().plain().plain_upstream_at("u", &endpoint, tls).forward_all("").start();
    assert_eq!(gateway.get("/").status, 502);
    assert_eq!(gateway.log_of("/")["end"], "upstream_tls");
}
