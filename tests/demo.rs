//! `ringway demo`: what a stranger does first.

use crate::support::foreign::{curl, output};
use crate::support::gateway::{BINARY, Process, get as get_admin};
use crate::support::message::Response;
use crate::support::wire::Wire;
use crate::support::{Client, Link, PATIENCE, eventually};
use rustix::process::Signal;
use std::process::Command;

#[test]
fn the_demo_starts_where_it_says_and_the_requests_it_prints_work() {
    let mut demo = Process::spawn(Command::new(BINARY).arg("demo"));
    eventually("the demo is ready", || {
        assert!(demo.exited().is_none(), "{}", demo.output());
        get_admin(([127, 0, 0, 1], 9900).into(), "/readyz").filter(|r| r.status == 200)
    });
    let printed = eventually("requests to try", || {
        let said = demo.output();
        let lines: Vec<String> =
            said.lines().map(str::trim).filter(|l| l.starts_with("curl ")).map(String::from).collect();
        (lines.len() >= 2).then_some(lines)
    });
    assert!(printed.iter().any(|l| l.contains("127.0.0.1:8080/user/")), "{printed:?}");
    assert!(printed.iter().any(|l| l.contains("127.0.0.1:8080/order/")), "{printed:?}");
    for line in &printed {
        let said = output("sh", &["-c", line]);
        assert!(!said.trim().is_empty(), "{line} printed nothing");
    }
    let user: serde_json::Value = serde_json::from_str(&curl(&["-f", "http://127.0.0.1:8080/user/1"])).unwrap();
    assert!(user.is_object(), "{user}");
    let order: serde_json::Value = serde_json::from_str(&curl(&["-f", "http://127.0.0.1:8080/order/1001"])).unwrap();
    assert!(order.is_object(), "{order}");
    one_answer_of_three_services();
    let status = curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/nowhere"]);
    assert_eq!(status, "404");
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_exit(PATIENCE).code(), Some(0));
    assert!(!demo.output().contains("panicked"), "{}", demo.output());
}

/// On a connection for each request, as curl does it: what was good before is remembered per core. The demo speaks no TLS,
/// whatever run this is.
fn one_answer_of_three_services() {
    let get = |path| Client { wire: Wire::new(Link::dial_plain(([127, 0, 0, 1], 8080).into()).unwrap()) }.get(path);
    let switch = |to: &str| curl(&["-f", "-X", "POST", &format!("http://127.0.0.1:8080/order/service/{to}")]);
    let orders = |answer: &Response| answer.json()["data"]["orders"].as_array().map(Vec::len);
    let source = |answer: &Response| answer.json()["meta"]["parts"]["orders"]["source"].clone();
    let whole = get("/api/v1/report/1");
    let data: serde_json::Value = serde_json::from_str(&whole.data()).unwrap();
    assert_eq!((&data["user"]["id"], &data["permissions"]["user"]), (&1.into(), &1.into()), "{data}");
    assert_eq!(orders(&whole), Some(2));
    switch("off");
    // On any core.
    for _ in 0..8 {
        let stale = get("/api/v1/report/1");
        stale.partial();
        assert_eq!((orders(&stale), source(&stale)), (Some(2), "stale".into()), "the last good ones");
    }
    let fixed = get("/api/v1/report/2");
    fixed.partial();
    assert_eq!((orders(&fixed), source(&fixed)), (Some(0), "static".into()), "there were none before");
    get("/api/v1/report/99").failed(404, &["user"]);
    switch("on");
    get("/api/v1/report/1").data();
    assert_eq!(orders(&get("/api/v1/report/2")), Some(1));
}
