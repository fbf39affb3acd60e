//! Where the gateway listens, and where its upstreams do.
#![allow(clippy::unwrap_used)]

use super::Config;
use super::listeners::Listener;

fn read(text: &str) -> Result<Config, String> {
    super::parse("f", text, &|_| None).map_err(|e| e.to_string())
}

/// What is wrong with a document that has a listener and this.
fn errors(text: &str) -> String {
    read(["listeners: [{ address: 127.0.0.1:80 }]\n", text].concat().as_str()).unwrap_err()
}

#[test]
fn unix_sockets_have_paths_and_modes() {
    let config = read(
        "{ listeners: [{ address: unix:/run/a.sock }, { address: unix:/run/b.sock, mode: 0600, name: b }], \
         upstreams: { u: { endpoints: [unix:/run/app.sock, { address: unix:/run/app2.sock, weight: 2 }] } }, \
         trusted_proxies: [unix, 10.0.0.0/8] }",
    )
    .unwrap();
    let of = |l: &Listener| (l.name.value.clone(), l.address.to_string(), l.mode);
    let texts = |name: &str, address: &str, mode| (name.to_owned(), address.to_owned(), mode);
    assert_eq!(of(&config.listeners[0]), texts("unix:/run/a.sock", "unix:/run/a.sock", 0o660));
    assert_eq!(of(&config.listeners[1]), texts("b", "unix:/run/b.sock", 0o600));
    let endpoints = &config.upstreams[0].endpoints;
    assert_eq!(endpoints[0].address.to_string(), "unix:/run/app.sock");
    assert_eq!((endpoints[0].address.host().as_str(), endpoints[1].weight), ("localhost", 2));
    assert!(config.trusted_proxies.unix && config.trusted_proxies.networks.len() == 1);
    let long = format!("unix:/{}", "a".repeat(107));
    for (listener, expected) in [
        ("address: unix:run/x", "it is not the absolute path of a file"),
        ("address: unix:/run/", "it is not the absolute path of a file"),
        ("address: unix:@", "the abstract one has no name (like unix:@app)"),
        ("address: unix:@x, mode: 0660", "an abstract socket has no permissions (remove it (whoever"),
        ("address: unix:@x }, { address: unix:@x, name: y", "unix:@x is the address of another listener"),
        (&*format!("address: {long}"), "it has 108 bytes (Linux takes at most 107)"),
        ("address: unix:/x, mode: 660", "`660` are no permissions"),
        ("address: unix:/x, mode: 0999", "`0999` are no permissions"),
        ("address: unix:/x, mode: rw", "`rw` are no permissions"),
        ("address: 127.0.0.1:1, mode: 0600", "a port has no path"),
        ("address: 127.0.0.1:1, proxy_protocol: {}", "the key `trusted` is missing"),
        ("address: 127.0.0.1:1, proxy_protocol: { trusted: [] }", "trusted"),
        ("address: 127.0.0.1:1, proxy_protocol: { trusted: [10.0.0.1/8] }", "write 10.0.0.0/8"),
        ("address: 127.0.0.1:1, proxy_protocol: { trusted: [unix] }", "nobody connects to a port over a Unix socket"),
        ("address: unix:/x, proxy_protocol: { trusted: [10.0.0.0/8] }", "has no address (write [unix])"),
        ("address: unix:/x }, { address: unix:/x, name: y", "unix:/x is the address of another listener"),
    ] {
        let error = read(&format!("listeners: [{{ {listener} }}]")).unwrap_err();
        assert!(error.contains(expected), "{listener}: {error}");
    }
    assert!(errors("upstreams: { u: { endpoints: [a:1], proxy_protocol: v3 } }").contains("`v3` is not a word"));
    let error = errors("upstreams: { u: { endpoints: [unix:/a], tls: {} } }");
    assert!(error.contains("tls: a Unix socket has no host that its certificate could be for"), "{error}");
    let error = errors("upstreams: { u: { endpoints: [unix:/a, unix:/a, unix:b] } }");
    assert!(error.contains("unix:/a is listed twice") && error.contains("not the absolute path"), "{error}");
}

#[test]
fn the_admin_api_is_on_a_port_or_a_path_of_its_own() {
    let admin = |keys: &str| read(&format!("listeners: [{{ address: unix:/run/a.sock }}]\nadmin: {{ {keys} }}\n"));
    let of = |keys: &str| admin(keys).unwrap().admin.map(|admin| (admin.address.to_string(), admin.mode)).unwrap();
    assert_eq!(of("address: unix:/run/./admin.sock"), ("unix:/run/admin.sock".to_owned(), 0o660));
    assert_eq!(of("address: unix:/run/admin.sock, mode: 0600"), ("unix:/run/admin.sock".to_owned(), 0o600));
    assert_eq!(of("address: unix:@ringway/admin").0, "unix:@ringway/admin");
    assert_eq!(of("address: 127.0.0.1:1"), ("127.0.0.1:1".to_owned(), 0o660));
    assert_eq!(of(""), ("127.0.0.1:9900".to_owned(), 0o660));
    for (keys, expected) in [
        ("mode: 0600", "f:2:16: admin.mode: a port has no path"),
        ("address: 127.0.0.1:1, mode: 0600", "admin.mode: a port has no path"),
        ("address: unix:@x, mode: 0600", "admin.mode: an abstract socket has no permissions"),
        ("address: unix:/x, mode: 600", "admin.mode: `600` are no permissions"),
        ("address: unix:x", "admin.address: `unix:x` is not the path of a socket"),
        ("address: \"unix:/run//a.sock\"", "f:2:1: admin: the admin API and a listener both use unix:/run/a.sock"),
    ] {
        let error = admin(keys).unwrap_err();
        assert!(error.contains(expected) && error.lines().count() == 1, "{keys}: {error}");
    }
    let error = admin("address: unix:x, mode: 0600").unwrap_err();
    assert!(!error.contains("no path that"), "nobody knows whether it has one: {error}");
}

#[test]
fn caps_are_counts_or_their_words() {
    let config = read(
        "{ connections: 5000, listeners: [{ address: a, bounds: {} }] }"
            .replace("address: a", "address: 127.0.0.1:1")
            .as_str(),
    )
    .unwrap();
    assert_eq!((config.connections, config.listeners[0].bounds.connections_per_client), (Some(5000), None));
    let text = "{ connections: none, listeners: [{ address: 127.0.0.1:1, bounds: { connections_per_client: 20 } }] }";
    let config = read(text).unwrap();
    assert_eq!((config.connections, config.listeners[0].bounds.connections_per_client), (None, Some(20)));
    for wrong in ["connections: 0", "connections: auto", "connections: -1"] {
        assert!(errors(wrong).contains("connections"), "{wrong}");
    }
    assert!(read("listeners: [{ address: 127.0.0.1:1, bounds: { connections_per_client: 0 } }]").is_err());
}
