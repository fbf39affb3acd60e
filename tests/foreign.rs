//! Each protocol rule once more by programs that nobody here wrote: curl, nc, Python's http modules, nginx and HAProxy,
//! as clients, as upstreams, in front of the gateway and behind it.

use crate::support::foreign::{
    Server, curl, curl_trust, haproxy, haproxy_server, nginx, output, output_of, python_server,
};
use crate::support::message::ok;
use crate::support::misbehave::{answers, answers_and_closes, answers_in_pieces};
use crate::support::{Client, Gateway, Seeded, Setup, Upstream, foreign, temp_dir, tls};
use std::time::Duration;

fn to(server: &Server) -> Setup {
    Setup::new().upstream_at("u", &format!("[\"{}\"]", server.addr), "").forward_all("")
}

fn url(gateway: &Gateway, path: &str) -> String {
    foreign::url(gateway.addr) + path
}

/// A file with seeded bytes, and its bytes.
fn body_file(size: usize) -> (String, Vec<u8>) {
    let path = temp_dir("body").join("body");
    let bytes = Seeded(size as u64).bytes(size);
    std::fs::write(&path, &bytes).unwrap();
    (path.display().to_string(), bytes)
}

/// Sends bytes with nc and gives all that came back until the gateway closed.
fn nc(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> String {
    foreign::nc(gateway.addr, bytes.as_ref())
}

#[test]
fn curl_gets_posts_and_reuses_its_connection() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let (u, format) = (url(&gateway, "/a"), "%{http_code} %{num_connects} %{http_version}\n");
    let said = curl(&["-w", format, "-o", "/dev/null", &u, "-o", "/dev/null", &u]);
    assert_eq!(said, "200 1 1.1\n200 0 1.1\n");
    assert_eq!(curl(&["-d", "hello=world", &u]), "hello=world");
    assert_eq!(curl(&["-X", "PUT", "-d", "x", &u]), "x");
    assert_eq!(curl(&["-0", "-d", "old", &u]), "old", "HTTP/1.0");
    assert!(curl(&["-I", &u]).starts_with("HTTP/1.1 200 OK\r\n"), "HEAD");
    upstream.reparse();
}

#[test]
fn curl_uploads_with_a_length_and_chunked_and_with_expect() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let (file, bytes) = body_file(3 << 20);
    let out = temp_dir("curl").join("out");
    let (at, out) = (format!("@{file}"), out.display().to_string());
    for options in [
        &["-H", "Expect:"][..],
        &["-H", "Expect: 100-continue"],
        &["-H", "Transfer-Encoding: chunked"],
        &["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"],
    ] {
        let url = url(&gateway, "/up");
        let code = curl(&[options, &["-w", "%{http_code}", "-o", &out, "--data-binary", &at, &url]].concat());
        assert_eq!(code, "200", "{options:?}");
        assert!(std::fs::read(&out).unwrap() == bytes, "{options:?}");
    }
    upstream.reparse();
}

#[test]
fn curl_is_told_413_by_a_route_with_a_limit() {
    let upstream = Upstream::echo();
    let gateway = Setup::new().upstream("u", &[&upstream], "").forward_all("body_limit: 100KiB").start();
    let (file, _) = body_file(2 << 20);
    for options in [
        &["-H", "Expect:"][..],
        &["-H", "Expect: 100-continue"],
        &["-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
    ] {
        let url = url(&gateway, "/up");
        let data = format!("@{file}");
        let said = crate::support::foreign::output_whatever(
            "curl",
            &[
                &["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--data-binary", &data][..],
                &curl_trust(),
                options,
                &[&url],
            ]
            .concat(),
        );
        assert!(said.ends_with("\n413"), "{options:?}: {said}");
    }
}

#[test]
fn curl_sees_early_hints_trailers_and_redirects() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n";
    let upstream = Upstream::start(answers(answer));
    let gateway = Setup::new()
        .upstream("u", &[&upstream], "")
        .route("match: { path: /old }, redirect: { to: /new, status: 302 }")
        .forward_all("")
        .start();
    let said = curl(&["-i", "-H", "TE: trailers", &url(&gateway, "/x")]);
    assert!(said.starts_with("HTTP/1.1 103 Early Hints\r\n") && said.contains("Link: </a.css>"), "{said}");
    assert!(said.contains("hello") && said.contains("X-Sum: 42"), "{said}");
    assert_eq!(curl(&["-L", "-w", "%{num_redirects}", &url(&gateway, "/old")]), "hello1");
}

#[test]
fn curl_can_tell_a_truncated_answer_from_a_whole_one() {
    for (answer, code) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", "18"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "18"),
    ] {
        let upstream = Upstream::start(answers_and_closes(answer));
        let gateway = Setup::forward(&upstream).start();
        let trust = curl_trust().join(" ");
        let command = format!("curl -s --max-time 20 {trust} -o /dev/null {}; echo $?", url(&gateway, "/x"));
        let exit = output("sh", &["-c", &command]);
        assert!([code, "56"].contains(&exit.trim()), "curl exits {exit} for {answer:?}");
    }
}

#[test]
fn nc_pipelines_and_gets_its_answers_in_order() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let said = nc(
        &gateway,
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\noneGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nthree\r\n0\r\n\r\n",
    );
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 3, "{said}");
    assert!(said.find("one").unwrap() < said.find("three").unwrap(), "{said}");
    assert_eq!(upstream.reparse().concat().len(), 3);
}

#[test]
fn nc_smuggles_nothing() {
    let upstream = Upstream::says("never");
    let gateway = Setup::forward(&upstream).start();
    for (bytes, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n5c\r\nGPOST", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n5c\r\nGPOST",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhelloG", "400"),
        ("GET / HTTP/1.1\nHost: a\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nX: y\r\n\r\n", "400"),
        ("GET / HTTP/3.1\r\nHost: a\r\n\r\n", "505"),
    ] {
        let said = nc(&gateway, bytes);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {said}");
        assert_eq!(said.matches("{\"code\":").count(), 1, "one answer, then the end: {said}");
    }
    upstream.heard_nothing();
}

#[test]
fn nc_can_not_take_host_or_authorization_away_with_connection() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).start();
    let said = nc(
        &gateway,
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nConnection: close, Host, Authorization, X-Forwarded-For\r\n\r\n",
    );
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    let request = upstream.only_request();
    assert_eq!(request.fields.get("authorization"), Some("Bearer x"));
    assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn nc_as_upstream_shows_the_bytes_that_are_sent() {
    let port = crate::support::free_port();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let seen = std::thread::spawn(move || {
        output_of("nc", &["-l", "-w", "5", "127.0.0.1", &port.to_string()], answer.as_bytes())
    });
    // Without TLS, which nc does not speak: the bytes are to be seen as they are sent.
    let setup = Setup::new().plain_upstream_at("u", &format!("[\"127.0.0.1:{port}\"]"), "");
    let gateway = setup.forward_all("").start();
    let answer = crate::support::eventually("nc to listen", || Some(gateway.get("/x?y")).filter(|r| r.status == 200));
    assert_eq!(answer.text(), "hello");
    let seen = seen.join().unwrap();
    assert!(seen.starts_with("GET /x?y HTTP/1.1\r\n") && seen.ends_with("\r\n\r\n"), "{seen:?}");
    assert!(
        seen.contains("X-Forwarded-For: 127.0.0.1\r\n") && seen.to_lowercase().contains("\r\nvia: 1.1 "),
        "{seen:?}"
    );
}

/// A client in Python's http.client: keep-alive, every method, chunked by an iterator, a large body, many fields.
const PYTHON_CLIENT: &str = r#"
import http.client, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2:]
if ca:
    c = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=ssl.create_default_context(cafile=ca[0]))
else:
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
c.connect()
first = c.sock
for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]:
    body = None if method in ("GET", "DELETE", "OPTIONS") else method.encode() * 1000
    c.request(method, "/py?x=1", body=body, headers={"X-A": "b"})
    r = c.getresponse()
    assert r.status == 200, r.status
    assert r.read() == (body or b""), method
    assert c.sock is first, "the connection was not kept"
c.request("HEAD", "/py")
r = c.getresponse(); assert r.status == 200 and r.read() == b""
c.request("POST", "/py", body=(b"x" * n for n in range(1, 300)), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
r = c.getresponse(); assert r.read() == b"x" * sum(range(1, 300))
big = bytes(range(256)) * 40000
c.request("POST", "/py", body=big)
r = c.getresponse(); assert r.read() == big
c.request("GET", "/py", headers={f"X-{n}": "v" * 50 for n in range(80)})
r = c.getresponse(); assert r.status == 200; r.read()
assert c.sock is first
print("fine")
"#;

#[test]
fn pythons_client_is_content() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let port = gateway.addr.port().to_string();
    let ca = if tls::is_on() { vec![tls::files().ca.to_str().unwrap()] } else { Vec::new() };
    let said = output("python3", &[&["-c", PYTHON_CLIENT, &port], &ca[..]].concat());
    assert_eq!(said.trim(), "fine");
    upstream.reparse();
}

/// A server in Python's http.server: HTTP/1.1 with lengths and chunks under /11, close-delimited HTTP/1.0 under /10.
const PYTHON_SERVER: &str = r#"
import http.server, ssl, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            out = b""
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                out += self.rfile.read(n); self.rfile.readline()
                if n == 0: return out
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    def answer(self):
        body = self.body() or b"nothing"
        self.send_response(200)
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for i in range(0, len(body), 1000):
                piece = body[i:i+1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path.startswith("/close"):
            self.close_connection = True
            self.send_header("Connection", "close"); self.end_headers(); self.wfile.write(body)
            if certificate: # Python closes without the close_notify that makes this end one (RFC 8446 6.1)
                try: self.connection.unwrap()
                except OSError: pass
        else:
            self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST = do_PUT = answer
    def do_HEAD(self):
        self.send_response(200); self.send_header("Content-Length", "7"); self.end_headers()
server, certificate = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H), sys.argv[2:]
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn pythons_server_is_understood_and_understands() {
    let server = python_server(PYTHON_SERVER);
    let gateway = to(&server).start();
    let mut client = Client::connect(&gateway);
    let body = Seeded(3).bytes(50_000);
    for path in ["/length", "/chunked", "/close", "/length"] {
        assert_eq!(client.get(path).text(), "nothing", "{path}");
        assert!(client.ask(crate::support::client::post(path, &body)).body == body, "{path}");
        assert!(client.ask(crate::support::client::post_chunked(path, &body, 777)).body == body, "{path}");
    }
    client.send("HEAD /length HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().fields.get("content-length"), Some("7"));
}

#[test]
fn nginx_behind_the_gateway() {
    let (file, bytes) = body_file(5 << 20);
    let dir = std::path::Path::new(&file).parent().unwrap().display().to_string();
    let server = nginx(&format!(
        "server {{ listen @listen@; keepalive_requests 1000; client_max_body_size 0; root {dir};
           location = /hello {{ return 200 \"hello $http_x_forwarded_for $host\\n\"; }}
           location = /empty {{ return 204; }}
           location = /echo {{ client_body_buffer_size 1m; proxy_pass @url@/sink; }}
           location = /sink {{ return 200 \"$request_method $content_length\"; }}
           location = /moved {{ return 301 /elsewhere; }} }}"
    ));
    let gateway = to(&server).start();
    let mut client = Client::connect(&gateway);
    for _ in 0..3 {
        assert_eq!(client.get("/hello").text(), format!("hello 127.0.0.1 {}\n", server.addr.ip()));
        assert_eq!(client.get("/empty").status, 204);
        assert!(client.get("/body").body == bytes);
        assert_eq!(client.get("/moved").status, 301);
        assert_eq!(client.get("/missing").status, 404);
    }
    assert_eq!(client.ask(crate::support::client::post("/echo", &bytes[..300_000])).text(), "POST 300000");
    let chunked = client.ask(crate::support::client::post_chunked("/sink", &bytes[..10_000], 999));
    assert!(chunked.text().starts_with("POST "), "{chunked:?}");
    // `return` answers before the body has come: then both connections are closed behind the answer.
    let mut client = Client::connect(&gateway);
    let part = client.ask("GET /body HTTP/1.1\r\nHost: a\r\nRange: bytes=100-199\r\n\r\n");
    assert_eq!((part.status, part.body), (206, bytes[100..200].to_vec()));
    let etag = client.get("/body").fields.get("etag").unwrap().to_string();
    let same = client.ask(format!("GET /body HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n"));
    assert_eq!((same.status, same.body.len()), (304, 0));
}

#[test]
fn nginx_in_front_of_the_gateway() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).top("trusted_proxies: [127.0.0.1/32]").start();
    let front = nginx(&format!(
        "upstream gw {{ server {}; keepalive 4; }}
         server {{ listen @listen@; client_max_body_size 0; location / {{ proxy_pass {}://gw; proxy_http_version 1.1;
           proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
           proxy_request_buffering off; proxy_buffering off; }} }}",
        gateway.addr,
        tls::either("https", "http"),
    ));
    let mut client = Client::to(front.addr);
    let body = Seeded(5).bytes(1 << 20);
    for _ in 0..5 {
        assert_eq!(client.get("/x").status, 200);
        assert!(client.ask(crate::support::client::post("/x", &body)).body == body);
        assert!(client.ask(crate::support::client::post_chunked("/x", &body, 5000)).body == body);
    }
    assert_eq!(upstream.requests()[0].fields.all("x-forwarded-for").join(", "), "127.0.0.1, 127.0.0.1");
    assert_eq!(gateway.metrics().sum(crate::support::names::ACCEPTED, &[]), 1.0, "nginx kept its connection");
}

#[test]
fn haproxy_behind_the_gateway() {
    let upstream = Upstream::echo();
    let behind = haproxy(&format!(
        "frontend f\n  bind @listen@\n  http-request deny deny_status 403 if {{ path /deny }}\n  default_backend b\n\
         backend b\n  server s {}\n",
        haproxy_server(upstream.addr)
    ));
    let gateway = to(&behind).start();
    let mut client = Client::connect(&gateway);
    let body = Seeded(6).bytes(1 << 20);
    for _ in 0..5 {
        assert_eq!(client.get("/x").status, 200);
        assert_eq!(client.get("/deny").status, 403);
        assert!(client.ask(crate::support::client::post("/x", &body)).body == body);
        assert!(client.ask(crate::support::client::post_chunked("/x", &body, 5000)).body == body);
    }
    upstream.reparse();
}

#[test]
fn haproxy_in_front_of_the_gateway() {
    let upstream = Upstream::echo();
    let gateway = Setup::forward(&upstream).start();
    let front = haproxy(&format!(
        "frontend f\n  bind @listen@\n  default_backend b\nbackend b\n  http-reuse always\n  option forwardfor\n\
         \x20 option httpchk GET /check\n  server s {} check inter 2s\n",
        haproxy_server(gateway.addr)
    ));
    let mut client = Client::to(front.addr);
    let body = Seeded(7).bytes(1 << 20);
    for _ in 0..5 {
        assert_eq!(client.get("/x").status, 200);
        assert!(client.ask(crate::support::client::post("/x", &body)).body == body);
        assert!(client.ask(crate::support::client::post_chunked("/x", &body, 5000)).body == body);
    }
    upstream.wait_requests(15);
}

#[test]
fn haproxy_finds_no_fault_in_answers_that_came_in_pieces() {
    let pieces: Vec<Vec<u8>> = ok("a".repeat(3000)).chunks(100).map(<[u8]>::to_vec).collect();
    let upstream = Upstream::start(answers_in_pieces(pieces, Duration::from_millis(1)));
    let gateway = Setup::forward(&upstream).start();
    let front = haproxy(&format!("listen l\n  bind @listen@\n  server s {}\n", haproxy_server(gateway.addr)));
    let mut client = Client::to(front.addr);
    for _ in 0..3 {
        assert_eq!(client.get("/x").body.len(), 3000);
    }
}

#[test]
fn wrk_gets_no_errors() {
    let upstream = Upstream::says("ok");
    let gateway = Setup::forward(&upstream).workers("2").start();
    let said = output("wrk", &["-t1", "-c32", "-d1s", &url(&gateway, "/x")]);
    assert!(said.contains("requests in") && !said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}
