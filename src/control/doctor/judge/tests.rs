//! Machines that are good, and machines that are not.

use super::super::Level;
use super::*;

fn level(found: &[Finding]) -> Level {
    found.iter().map(|finding| finding.level).max().unwrap()
}

#[test]
fn kernels() {
    let of = |release: &str| kernel(&Facts { release: release.to_owned(), ..Facts::default() }).level;
    for good in ["6.1.0-28-amd64", "6.12", "7.0.0-rc1"] {
        assert_eq!(of(good), Level::Ok, "{good}");
    }
    for old in ["5.19.0", "6.0.9", "4.18.0-553.el8", "", "next"] {
        assert_eq!(of(old), Level::Warning, "{old}");
    }
}

#[test]
fn flags_that_are_refused_name_the_cause() {
    let facts = |disabled, seccomp| Facts { io_uring_disabled: disabled, seccomp, ..Facts::default() };
    let tried = |results: [bool; 3]| {
        let result = |works: bool| if works { Ok(()) } else { Err("EPERM".to_owned()) };
        results.map(|works| ("io_uring".to_owned(), result(works)))
    };
    assert_eq!(io_uring(&facts(None, None), &tried([true, true, true])).level, Level::Ok);
    let some = io_uring(&facts(None, None), &tried([false, true, true]));
    assert!(some.level == Level::Warning && some.what.contains("EPERM"), "{some}");
    for (disabled, seccomp, word) in
        [(Some(2), Some(2), "is 2"), (Some(1), None, "io_uring_group"), (None, Some(2), "seccomp")]
    {
        let none = io_uring(&facts(disabled, seccomp), &tried([false; 3]));
        assert!(none.level == Level::Warning && none.remedy.contains(word) && none.what.contains("epoll"), "{none}");
    }
}

#[test]
fn limits_and_quotas() {
    let facts = |cpus, quota| Facts { cpus, quota, ..Facts::default() };
    assert_eq!(cpus(&facts(4, None), 4).level, Level::Ok);
    assert_eq!(cpus(&facts(4, Some(2.0)), 2).level, Level::Ok);
    assert_eq!(cpus(&facts(2, None), 4).level, Level::Warning);
    assert_eq!(cpus(&facts(4, Some(1.0)), 4).level, Level::Warning);
    assert_eq!(cpus(&facts(4, Some(1.5)), 2).level, Level::Warning);
    assert_eq!(descriptors(1024, None, 1).level, Level::Warning);
    assert_eq!(descriptors(1 << 20, None, 1).level, Level::Ok);
    let text = "listeners: [{ address: 127.0.0.1:1, bounds: { connections: 100 } }]";
    let config = crate::config::parse("f", text, &|_| None).unwrap();
    assert_eq!(descriptors(64, Some(&config), 1).level, Level::Warning);
    assert_eq!(descriptors(1024, Some(&config), 1).level, Level::Ok);
    assert_eq!(memory(&Facts::default(), 2, Ok(1024)).level, Level::Ok);
    assert_eq!(memory(&Facts::default(), 2, Ok(256)).level, Level::Warning);
    assert!(memory(&Facts::default(), 2, Err("x".to_owned())).remedy.contains("LimitMEMLOCK"));
}

#[test]
fn clocks_and_networks() {
    let facts = |source: &str, is_synchronised| Facts {
        clock_source: Some(source.to_owned()),
        clock_is_synchronised: Some(is_synchronised),
        ..Facts::default()
    };
    assert_eq!(level(&clock(&facts("tsc", true))), Level::Ok);
    assert_eq!(level(&clock(&facts("hpet", true))), Level::Warning);
    assert_eq!(level(&clock(&facts("tsc", false))), Level::Warning);
    let unknown = clock(&Facts::default());
    assert!(level(&unknown) == Level::Ok && unknown[0].what.contains("not known"), "what is not known is not judged");
    let facts = |somaxconn, local_ports| Facts { somaxconn, local_ports, ..Facts::default() };
    assert_eq!(level(&network(&facts(Some(4096), Some((32768, 60999))))), Level::Ok);
    assert_eq!(level(&network(&facts(Some(128), None))), Level::Warning);
    assert_eq!(level(&network(&facts(None, Some((60000, 60999))))), Level::Warning);
}
