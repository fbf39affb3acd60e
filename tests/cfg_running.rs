//! The files that run it: the systemd unit, log rotation, kernel settings, the Dockerfile.

use crate::support::foreign::output;
use crate::support::gateway::{BINARY, Process};
use crate::support::setup::Setup;
use crate::support::{eventually, root, temp_dir};
use rustix::process::Signal;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join("config").join(name)).unwrap()
}

fn systemd_analyze(args: &[&str]) -> Output {
    Command::new("systemd-analyze").args(args).output().expect("systemd-analyze, which tests/run.sh installs")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_little_exposed() {
    let unit = temp_dir("unit").join("ringway.service");
    // The binary that was built, and no manual page, which is not installed here.
    let text = file("ringway.service").replace("/usr/local/bin/ringway", BINARY);
    let text = text.replace("Documentation=man:ringway(1)\n", "");
    std::fs::write(&unit, text).unwrap();
    let unit = unit.to_str().unwrap();
    let verified = systemd_analyze(&["verify", unit]);
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "{said}");
    // 0.0 to 10.0, in tenths; most services of distributions have more than 9.
    let secure = systemd_analyze(&["security", "--offline=true", "--threshold=20", unit]);
    assert!(secure.status.success(), "{}", String::from_utf8_lossy(&secure.stdout));
}

#[test]
fn logrotate_moves_the_log_and_the_gateway_goes_on_in_a_new_one() {
    let gateway = Setup::new().route("match: { path: /a }, respond: { body: a }").start();
    assert_eq!(gateway.get("/a?before").status, 200);
    gateway.log_of("/a");
    // The file of the project, for this log and this process.
    let asked =
        "! systemctl is-active --quiet ringway.service || systemctl kill --kill-who=main --signal=USR1 ringway.service";
    let text = file("ringway.logrotate");
    assert!(text.contains(asked) && text.contains("/var/log/ringway/*.log"), "{text}");
    let text = text.replace(asked, &format!("kill -USR1 {}", gateway.process.pid()));
    let text = text.replace("/var/log/ringway/*.log", gateway.log.to_str().unwrap());
    let rotate = |file: &Path, state: &Path| {
        let done = Command::new("logrotate")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["-f", "-s", state.to_str().unwrap(), file.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let dir = temp_dir("logrotate");
    std::fs::write(dir.join("conf"), text).unwrap();
    // It takes no file that others may write.
    std::fs::set_permissions(dir.join("conf"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&gateway.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    rotate(&dir.join("conf"), &dir.join("state"));
    eventually("a new log", || gateway.log.exists().then_some(()));
    assert_eq!(gateway.get("/a").status, 200);
    eventually("its line in the new log", || (gateway.log_lines().len() == 1).then_some(()));
    let moved = std::fs::read_to_string(gateway.log.with_extension("log.1")).unwrap();
    assert_eq!(moved.lines().count(), 1, "{moved}");
}

#[test]
fn kernel_settings_exist_and_have_a_reason() {
    let mut reason = false;
    for line in file("sysctl.conf").lines() {
        if let Some((key, value)) = line.split_once(" = ") {
            assert!(reason, "no reason for {key}");
            assert!(value.split(' ').all(|number| number.parse::<u64>().is_ok()), "{line}");
            let path = Path::new("/proc/sys").join(key.replace('.', "/"));
            // With `-` in front one that a kernel does not know is passed over: Linux has had it since 6.6.
            assert!(path.exists() || key == "-kernel.io_uring_disabled", "{key} is no setting of this kernel");
        }
        reason = line.starts_with('#') || (reason && !line.is_empty());
    }
}

#[test]
fn readme_and_dockerfile_say_the_same_of_seccomp() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let dockerfile = file("Dockerfile");
    let filter = dockerfile.lines().find(|line| line.contains("jq '")).unwrap().trim_start_matches(['#', ' ']);
    assert!(readme.contains(filter), "{filter}");
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(filter.contains(name) && file("ringway.service").contains(name));
    }
    let rust = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = rust.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{version}-")), "another Rust than the project's");
}

#[test]
fn a_signal_for_the_log_while_the_config_is_read_does_not_end_it() {
    let dir = temp_dir("early");
    let path = dir.join("gateway.yaml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let mut process = Process::spawn(Command::new(BINARY).args(["run", "-c"]).arg(&path));
    // It is open for writing once the gateway reads.
    let mut config = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    process.signal(Signal::HUP);
    process.signal(Signal::USR1);
    config.write_all(b"listeners: [{ address: 127.0.0.1:0 }]\nadmin: off\n").unwrap();
    drop(config);
    eventually("it listens", || process.output().contains("listening on").then_some(()));
    assert!(process.exited().is_none());
    process.signal(Signal::TERM);
    assert!(process.wait_exit(Duration::from_secs(10)).success());
}

#[test]
fn verifying_passwords_gives_way_under_the_unit_and_where_it_may_not_it_is_told() {
    let unit = file("ringway.service");
    let (_, allowed_again) = unit.split_once("SystemCallFilter=~").unwrap();
    assert!(allowed_again.contains(" setpriority "), "it is in @resources, which is taken away");
    let dir = temp_dir("nice");
    let (users, config) = (dir.join("users"), dir.join("gateway.yaml"));
    output("htpasswd", &["-cbB", "-C", "4", users.to_str().unwrap(), "ann", "right"]);
    std::fs::set_permissions(&users, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: off\nfilters: {{ b: {{ basic: {{ file: {} }} }} }}\n\
         routes: [{{ match: {{ path: /a }}, filters: [b], respond: {{}} }}]\n",
        users.display()
    );
    std::fs::write(&config, yaml).unwrap();
    let script = root().join("tests/support/refuse.py");
    let mut command = Command::new("/usr/bin/python3");
    let process = Process::spawn(command.arg(&script).args(["setpriority", BINARY, "run", "-c"]).arg(&config));
    eventually("it is told", || process.output().contains("SystemCallFilter=setpriority").then_some(()));
    eventually("it listens", || process.output().contains("listening on").then_some(()));
    assert_eq!(process.output().matches("setpriority (").count(), 1, "{}", process.output());
}
