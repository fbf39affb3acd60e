//! Clients that show certificates: whom the gateway lets in, what it tells the upstream about them, and what it does not
//! believe.

use crate::support::authority::{Authority, Issued, Wanted};
use crate::support::foreign::openssl_client;
use crate::support::message::ok;
use crate::support::misbehave::answers;
use crate::support::{Gateway, Setup, Upstream, eventually, tls_client};
use crate::tls::{counted, curl_to, handshakes, secure};
use std::io::{Read, Write};

fn setup(site: &Issued, clients: &Authority, client: &str) -> Setup {
    let ca = clients.ca.display();
    secure(&format!("certificates: [{}], client: {{ ca: {ca}, {client} }}", site.yaml()))
}

fn shows(issued: &Issued) -> Vec<String> {
    ["--cert", issued.cert.to_str().unwrap(), "--key", issued.key.to_str().unwrap()].map(String::from).to_vec()
}

fn hello(gateway: &Gateway, authority: &Authority, shown: &Issued) -> String {
    let shown = shows(shown);
    let options: Vec<&str> = shown.iter().map(String::as_str).collect();
    curl_to(gateway, authority, "gw.test", "/hello", &options)
}

/// What becomes of a client that shows this, as openssl tells it.
fn refused(gateway: &Gateway, shown: Option<&Issued>) -> String {
    let request = b"GET /hello HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";
    let mut args = vec!["-servername", "gw.test", "-ign_eof"];
    if let Some(issued) = shown {
        args.extend(["-cert", issued.cert.to_str().unwrap(), "-key", issued.key.to_str().unwrap()]);
    }
    let said = openssl_client(gateway, &args, request);
    assert!(!said.contains("HTTP/1.1"), "{said}");
    assert!(said.contains("alert"), "it is told why: {said}");
    said
}

#[test]
fn only_clients_with_a_good_certificate_come_in() {
    let (sites, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (site, good) = (sites.issue(&["gw.test"]), clients.issue(&["client.test"]));
    let (expired, revoked, foreign) =
        (clients.expired(&["old.test"]), clients.issue(&["thief.test"]), strangers.issue(&["client.test"]));
    let crl = clients.revoke(&[&revoked]);
    let mut gateway = setup(&site, &clients, &format!("crl: {}, mode: required", crl.display())).start();
    assert_eq!(hello(&gateway, &sites, &good), "hello");
    assert!(refused(&gateway, None).contains("certificate required"));
    counted(&gateway, "certificate_missing", 1.0);
    assert!(refused(&gateway, Some(&expired)).contains("certificate expired"));
    counted(&gateway, "certificate_expired", 1.0);
    assert!(refused(&gateway, Some(&revoked)).contains("certificate revoked"));
    counted(&gateway, "certificate_revoked", 1.0);
    assert!(refused(&gateway, Some(&foreign)).contains("unknown ca"));
    counted(&gateway, "certificate_invalid", 1.0);
    counted(&gateway, "full", 1.0);
    gateway.is_well();
}

#[test]
fn where_certificates_are_optional_a_bad_one_is_still_refused() {
    let (sites, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let site = sites.issue(&["gw.test"]);
    let upstream = Upstream::start(answers(ok("hi")));
    let gateway = setup(&site, &clients, "mode: optional")
        .upstream("u", &[&upstream], "")
        .forward_path("/who", "request_headers: { set: { x-client: \"{tls.client.subject}\" } }")
        .start();
    assert_eq!(curl_to(&gateway, &sites, "gw.test", "/who", &[]), "hi");
    assert_eq!(upstream.wait_requests(1)[0].fields.get("x-client"), Some(""), "nobody");
    let good = clients.issue(&["client.test"]);
    let shown = shows(&good);
    curl_to(&gateway, &sites, "gw.test", "/who", &shown.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(upstream.wait_requests(2)[1].fields.get("x-client").map(|v| v.contains("CN=client.test")), Some(true));
    refused(&gateway, Some(&strangers.issue(&["client.test"])));
}

#[test]
fn the_upstream_is_told_who_the_client_is_and_forged_copies_are_removed() {
    let (sites, clients) = (Authority::new(), Authority::new());
    let site = sites.issue(&["gw.test"]);
    let wanted = Wanted {
        names: &["billing.internal", "10.1.2.3"],
        common_name: "billing, \"x\"\u{1b}",
        uri: Some("spiffe://example/billing,URI:admin"),
        expired: false,
    };
    let client = clients.issue_as(&wanted);
    let upstream = Upstream::start(answers(ok("hi")));
    let headers = "rewrite: { path: \"/by/{tls.client.fingerprint}\" }, \
                   request_headers: { set: { x-subject: \"{tls.client.subject}\", x-san: \"{tls.client.san}\", \
                   x-print: \"{tls.client.fingerprint}\", x-serial: \"{tls.client.serial}\", x-sni: \"{tls.server_name}\" } }";
    let gateway =
        setup(&site, &clients, "mode: required").upstream("u", &[&upstream], "").forward_path("/who", headers).start();
    let shown = shows(&client);
    let forged = [
        "X-Subject: CN=root",
        "X_Subject: CN=root",
        "x-print: 00",
        "Client-Cert: :AAAA:",
        "X-Forwarded-Client-Cert: x",
    ];
    let mut options: Vec<&str> = shown.iter().map(String::as_str).collect();
    options.extend(forged.iter().flat_map(|h| ["-H", h]));
    assert_eq!(curl_to(&gateway, &sites, "gw.test", "/who", &options), "hi");
    let seen = upstream.only_request();
    let subject = seen.fields.get("x-subject").unwrap();
    assert!(subject.contains("CN=billing") && !subject.contains('\u{1b}'), "{subject}");
    let san = seen.fields.get("x-san").unwrap();
    assert_eq!(san, "DNS:billing.internal,IP:10.1.2.3,URI:spiffe://example/billing%2CURI:admin");
    let print = crate::support::foreign::output(
        "openssl",
        &["x509", "-in", client.cert.to_str().unwrap(), "-noout", "-fingerprint", "-sha256"],
    );
    let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(seen.fields.get("x-print"), Some(print.as_str()));
    assert_eq!(seen.target, format!("/by/{print}"));
    assert_eq!(seen.fields.get("x-serial"), Some(format!("{:04x}", client.serial).as_str()));
    assert_eq!(seen.fields.get("x-sni"), Some("gw.test"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
    for forged in ["x_subject", "client-cert", "x-forwarded-client-cert"] {
        assert!(!seen.fields.has(forged), "{forged}: {seen:?}");
    }
}

#[test]
fn a_host_other_than_the_one_the_handshake_was_for_is_misdirected() {
    let (sites, clients) = (Authority::new(), Authority::new());
    let (site, client) = (sites.issue(&["gw.test", "other.test", "127.0.0.1"]), clients.issue(&["c.test"]));
    let gateway = setup(&site, &clients, "mode: required").start();
    let shown = shows(&client);
    let options = |host: &str| -> Vec<String> {
        [&shown[..], &["-H".into(), format!("Host: {host}"), "-w".into(), " %{http_code}".into()]].concat()
    };
    let ask = |name: &str, host: &str| {
        let options = options(host);
        curl_to(&gateway, &sites, name, "/hello", &options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(ask("gw.test", "gw.test"), "hello 200");
    assert_eq!(ask("gw.test", "GW.test:8443"), "hello 200");
    assert!(ask("gw.test", "other.test").ends_with(" 421"));
    assert!(ask("gw.test", "127.0.0.1").ends_with(" 421"));
    assert_eq!(ask("127.0.0.1", "127.0.0.1"), "hello 200", "addresses are named in no handshake");
    assert!(ask("127.0.0.1", "gw.test").ends_with(" 421"));
    let line = gateway.wait_log(|line| line["status"] == 421);
    assert_eq!(line["end"], "misdirected");
    // Without required certificates there is nothing to get around.
    let open = setup(&site, &clients, "mode: optional").start();
    assert_eq!(curl_to(&open, &sites, "gw.test", "/hello", &["-H", "Host: other.test"]), "hello");
}

/// One request on a connection of its own; whether the session was resumed, and what came back.
fn resume(gateway: &Gateway, config: &std::sync::Arc<rustls::ClientConfig>) -> (Option<rustls::HandshakeKind>, String) {
    let mut tls = tls_client::to(gateway, config, "gw.test");
    let _ = tls.write_all(b"GET /hello HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
    let mut said = String::new();
    let _ = tls.read_to_string(&mut said);
    (tls.conn.handshake_kind(), said)
}

#[test]
fn a_resumed_session_does_not_get_around_a_revocation() {
    let (sites, clients) = (Authority::new(), Authority::new());
    let (site, client, other) = (sites.issue(&["gw.test"]), clients.issue(&["c.test"]), clients.issue(&["other.test"]));
    let crl = clients.revoke(&[&other]);
    let gateway = setup(&site, &clients, &format!("crl: {}", crl.display())).start();
    let config = tls_client::config(&sites, Some(&client));
    assert!(resume(&gateway, &config).1.ends_with("hello"));
    let (kind, said) = resume(&gateway, &config);
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));
    assert!(said.ends_with("hello"), "{said}");
    clients.revoke(&[&other, &client]);
    eventually("the revocation to count", || (!resume(&gateway, &config).1.contains("hello")).then_some(()));
    assert!(handshakes(&gateway, "certificate_revoked") >= 1.0);
    assert_eq!(hello(&gateway, &sites, &clients.issue(&["third.test"])), "hello");
}

#[test]
fn a_fault_in_another_file_does_not_keep_a_revocation_from_counting() {
    let (sites, clients) = (Authority::new(), Authority::new());
    let (site, client) = (sites.issue(&["gw.test"]), clients.issue(&["c.test"]));
    let crl = clients.revoke(&[]);
    let gateway = setup(&site, &clients, &format!("crl: {}", crl.display())).start();
    assert_eq!(hello(&gateway, &sites, &client), "hello");
    std::fs::write(&site.key, "no key").unwrap();
    eventually("the fault to be seen", || (gateway.metrics().sum("ringway_tls_files_stale", &[]) == 1.0).then_some(()));
    clients.revoke(&[&client]);
    eventually("the revocation to count", || {
        let config = tls_client::config(&sites, Some(&client));
        (!resume(&gateway, &config).1.contains("hello")).then_some(())
    });
    assert_eq!(hello(&gateway, &sites, &clients.issue(&["other.test"])), "hello", "with the pair that was read before");
    let said = gateway.process.wait_said("holds no private key");
    assert_eq!(said.matches("holds no private key").count(), 1, "said once: {said}");
}

#[test]
fn authorities_and_their_lists_must_fit() {
    let (sites, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let (site, leaf) = (sites.issue(&["gw.test"]), clients.issue(&["c.test"]));
    let ca = |ca: &std::path::Path, more: &str| {
        secure(&format!("certificates: [{}], client: {{ ca: {}{more} }}", site.yaml(), ca.display())).refused()
    };
    let said = ca(&leaf.cert, "");
    assert!(said.contains("is no authority's"), "{said}");
    let said = ca(&clients.ca, &format!(", crl: {}", others.revoke(&[]).display()));
    assert!(said.contains("has no list of"), "{said}");
}

#[test]
fn a_ticket_from_a_listener_without_certificates_opens_none_that_requires_them() {
    let (sites, clients) = (Authority::new(), Authority::new());
    let site = sites.issue(&["gw.test"]);
    let secret = crate::support::temp_dir("secret").join("secret");
    std::fs::write(&secret, [7; 48]).unwrap();
    let secrets = format!("ticket_secrets: [{}]", secret.display());
    let open = secure(&format!("certificates: [{}], {secrets}", site.yaml())).start();
    let ca = clients.ca.display();
    let closed = secure(&format!("certificates: [{}], {secrets}, client: {{ ca: {ca} }}", site.yaml())).start();
    let config = tls_client::config(&sites, None);
    assert!(resume(&open, &config).1.ends_with("hello"));
    let (kind, said) = resume(&closed, &config);
    assert_ne!(kind, Some(rustls::HandshakeKind::Resumed));
    assert!(!said.contains("hello"), "{said}");
    counted(&closed, "certificate_missing", 1.0);
    assert!(resume(&open, &config).1.ends_with("hello"));
}
