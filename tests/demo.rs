//! `ringway demo`: what a stranger does first.

use crate::support::foreign::{curl, output};
use crate::support::gateway::{BINARY, Process, get};
use crate::support::{PATIENCE, eventually};
use rustix::process::Signal;
use std::process::Command;

#[test]
fn the_demo_starts_where_it_says_and_the_requests_it_prints_work() {
    let mut demo = Process::spawn(Command::new(BINARY).arg("demo"));
    eventually("the demo is ready", || {
        assert!(demo.exited().is_none(), "{}", demo.output());
        get(([127, 0, 0, 1], 9900).into(), "/readyz").filter(|r| r.status == 200)
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
    let status = curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/nowhere"]);
    assert_eq!(status, "404");
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_exit(PATIENCE).code(), Some(0));
    assert!(!demo.output().contains("panicked"), "{}", demo.output());
}
