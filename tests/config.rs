//! The config file from outside: what `check` accepts, what it refuses and how it says so, exit codes.

use crate::support::authority::Authority;
use crate::support::gateway::run;
use crate::support::{root, temp_dir};
use std::path::PathBuf;

const GOOD: &str = "listeners: [{ address: \"127.0.0.1:8080\" }]\n\
                    upstreams:\n  users: { endpoints: [\"10.0.0.11:9000\", \"10.0.0.12:9000\"] }\n\
                    routes:\n  - match: { path: \"/user/{*rest}\" }\n    forward: { upstream: users }\n";

fn file(text: &str) -> PathBuf {
    let path = temp_dir("config").join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `check` on a text; gives the exit code and everything it said.
fn check(text: &str) -> (i32, String) {
    let path = file(text);
    let (code, stdout, stderr) = run(&["check", "-c", path.to_str().unwrap()]);
    (code, format!("{stdout}{stderr}").replace(path.to_str().unwrap(), "FILE"))
}

/// Asserts that a text is refused and that what is said contains all of `says`.
fn refused(text: &str, says: &[&str]) -> String {
    let (code, said) = check(text);
    assert_eq!(code, 1, "{said}\n{text}");
    for part in says {
        assert!(said.contains(part), "no {part:?} in:\n{said}\nfor\n{text}");
    }
    said
}

#[test]
fn ten_lines_are_enough() {
    let (code, said) = check(GOOD);
    assert_eq!((code, said.as_str()), (0, "FILE: ok: 1 listener, 1 route, 1 upstream\n"));
    assert!(GOOD.lines().count() <= 10);
}

#[test]
fn every_error_is_reported_at_once_with_its_place() {
    let text = "worker: 1\n\
                drain: 10\n\
                listeners:\n  - address: nonsense\n    timeouts: { keep_alive: -5s }\n  - adress: \"127.0.0.1:1\"\n\
                upstreams:\n  u: { endpoints: [\"127.0.0.1:99999\"], balance: p3c }\n\
                routes:\n  - match: { path: no-slash }\n    forward: { upstream: nobody }\n";
    let said = refused(text, &["FILE:1:1", "FILE:2:8", "FILE:4:14", "FILE:5:", "FILE:6:5", "FILE:8:", "FILE:10:"]);
    let places = said.lines().filter(|l| l.starts_with("FILE:")).count();
    assert!(places >= 8, "{said}");
}

#[test]
fn a_typo_hides_no_error_of_another_kind() {
    let text = "worker: 1\n\
                listeners: [{ address: \"127.0.0.1:8080\" }]\n\
                upstreams:\n  u: { endpoints: [\"127.0.0.1:1\"] }\n\
                filters:\n  mark: { request_headers: { set: { x: \"{nope}\" } } }\n\
                all_routes: { filters: [mark] }\n\
                routes:\n\
                \x20 - match: { path: \"/a/{id}/{id}\" }\n    forward: { upstream: nobody }\n\
                \x20 - match: { path: \"/b/{id}\" }\n    redirect: { to: \"/{ids}\" }\n\
                \x20 - match: { path: \"/b/{name}\" }\n    forward: { upstream: u }\n";
    let said =
        refused(text, &["did you mean `workers`", "twice", "`nobody`", "did you mean `{path.id}`? Known", "overlap"]);
    let lines: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix("FILE:")?.split(':').next()).collect();
    assert_eq!(lines, ["1", "6", "9", "10", "12", "13"], "{said}");
    let nope = said.lines().find(|l| l.contains("{nope}")).unwrap();
    assert!(nope.contains("`{nope}`. Known") && !nope.contains("did you mean"), "{nope}");
    let path = file(text);
    let (code, _, stderr) = run(&["run", "-c", path.to_str().unwrap()]);
    assert_eq!((code, stderr.replace(path.to_str().unwrap(), "FILE")), (1, said), "run says the same");
}

#[test]
fn a_variable_in_a_flow_mapping_needs_quotes() {
    let unquoted = GOOD.replace("\"127.0.0.1:8080\"", "${LISTEN}");
    refused(&unquoted, &["FILE:1:", "lone `$`", "needs quotes: \"${NAME}\""]);
    refused(&GOOD.replace("\"10.0.0.11:9000\"", "10.0.0.11:${PORT}"), &["FILE:3:", "needs quotes"]);
}

#[test]
fn sockets_that_overlap_are_refused() {
    for (listeners, admin) in [
        ("{ address: \"127.0.0.1:8080\" }", "0.0.0.0:8080"),
        ("{ address: \"127.0.0.1:8080\" }", "[::]:8080"),
        ("{ address: \"0.0.0.0:8080\" }", "127.0.0.1:8080"),
        ("{ address: \"0.0.0.0:8080\" }, { address: \"127.0.0.1:8080\" }", "127.0.0.1:1"),
    ] {
        refused(&format!("listeners: [{listeners}]\nadmin: {{ address: \"{admin}\" }}\n"), &["FILE:", "overlap"]);
    }
}

#[test]
fn errors_come_in_the_order_of_the_file() {
    let said = refused("listenrs: []\nworkers: -1\nroute: []\n", &[]);
    let lines: Vec<u32> =
        said.lines().filter_map(|l| l.strip_prefix("FILE:")?.split(':').next()?.parse().ok()).collect();
    assert!(lines.is_sorted() && lines.len() >= 3, "{said}");
}

#[test]
fn an_unknown_key_is_an_error_that_knows_what_was_meant() {
    for (wrong, right) in [
        ("listners: []", "listeners"),
        ("upstream: {}", "upstreams"),
        ("worker: 1", "workers"),
        ("trusted_proxy: []", "trusted_proxies"),
    ] {
        refused(&format!("{GOOD}{wrong}\n"), &["FILE:", "did you mean", right]);
    }
    let typo = GOOD.replace("endpoints:", "endpionts:");
    refused(&typo, &["FILE:3:12", "endpionts", "did you mean", "endpoints"]);
    refused(&format!("{GOOD}zzzzqqqq: 1\n"), &["zzzzqqqq"]);
}

#[test]
fn a_value_of_the_wrong_kind_says_what_would_be_right() {
    for (line, says) in [
        ("drain: soon", "drain"),
        ("drain: 30", "drain"),
        ("workers: many", "workers"),
        ("workers: 0", "workers"),
        ("workers: [0, 0]", "workers"),
        ("trusted_proxies: [nonsense]", "nonsense"),
        ("trusted_proxies: [10.0.0.0/33]", "10.0.0.0/33"),
        ("admin: { address: 9900 }", "address"),
        ("observe: { access_log: { to: [] } }", "to"),
        ("observe: { access_log: { format: xml } }", "xml"),
        ("filters: { f: { request_headers: { set: { \"a b\": c } } } }", "a b"),
    ] {
        refused(&format!("{GOOD}{line}\n"), &["FILE:7:", says]);
    }
}

#[test]
fn keys_of_later_issues_are_refused_by_name() {
    for (text, key) in [
        (format!("{GOOD}source: {{ etcd: {{}} }}\n"), "source"),
        (format!("{GOOD}observe: {{ tracing: {{}} }}\n"), "tracing"),
        (GOOD.replace("address: \"127.0.0.1:8080\"", "address: \"127.0.0.1:8080\", tls: {}"), "tls"),
        (GOOD.replace("\"10.0.0.12:9000\"]", "\"10.0.0.12:9000\"], health: {}"), "health"),
        (GOOD.replace("\"10.0.0.12:9000\"]", "\"10.0.0.12:9000\"], breaker: {}"), "breaker"),
        (format!("{GOOD}filters: {{ f: {{ jwt: {{}} }} }}\n"), "jwt"),
    ] {
        let said = refused(&text, &["FILE:", key]);
        assert!(!said.contains("did you mean"), "{key} is known, it only comes later:\n{said}");
    }
}

#[test]
fn names_that_lead_nowhere_are_errors() {
    refused(&GOOD.replace("upstream: users", "upstream: user"), &["FILE:6:", "user", "did you mean"]);
    refused(&GOOD.replace("forward:", "filters: [nobody]\n    forward:"), &["FILE:6:", "nobody"]);
    refused(&format!("{GOOD}all_routes: {{ filters: [nobody] }}\n"), &["FILE:7:", "nobody"]);
}

#[test]
fn templates_and_routes_are_checked_too() {
    let templated = |t: &str| {
        GOOD.replace("upstream: users", &format!("upstream: users, request_headers: {{ set: {{ x: \"{t}\" }} }}"))
    };
    refused(&templated("{nope}"), &["FILE:6:", "nope"]);
    refused(&templated("{path.other}"), &["FILE:6:", "other"]);
    refused(&templated("{client_ip"), &["FILE:6:"]);
    assert_eq!(check(&templated("{client_ip} {request_id} {host} {path} {path.rest} {query.q} {header.x-y}")).0, 0);
    let conflict = format!("{GOOD}  - match: {{ path: \"/user/{{*other}}\" }}\n    forward: {{ upstream: users }}\n");
    refused(&conflict, &["FILE:7:"]);
    refused(&GOOD.replace("/user/{*rest}", "/user/{*rest}/x"), &["FILE:5:"]);
    refused(&GOOD.replace("/user/{*rest}", "/user/{id}/{id}"), &["FILE:5:"]);
    refused(&GOOD.replace("/user/{*rest}", "/user/{"), &["FILE:5:"]);
    refused(&GOOD.replace("forward:", "respond: { status: 200 }\n    forward:"), &["FILE:"]);
    let overlapping = format!("{GOOD}  - match: {{ path: \"/user/{{id}}\" }}\n    forward: {{ upstream: users }}\n");
    assert_eq!(check(&overlapping).0, 0, "overlap is not a conflict");
}

#[test]
fn broken_yaml_is_reported_with_its_place() {
    for text in [
        "listeners: [",
        "a: b: c\n",
        "\tlisteners: []\n",
        "listeners: []\nlisteners: []\n",
        "- 1\n",
        "",
        "\"",
        "a: &x 1\nb: *x\n",
    ] {
        let said = refused(text, &["FILE"]);
        assert!(!said.contains("panicked"), "{said}");
    }
    let path = temp_dir("config").join("binary.yaml");
    std::fs::write(&path, [0xff, 0xfe, 0, 1, 2]).unwrap();
    assert_eq!(run(&["check", "-c", path.to_str().unwrap()]).0, 1);
}

#[test]
fn variables_are_replaced_inside_scalars_only() {
    let upstream = GOOD.replace("10.0.0.11:9000", "${RINGWAY_TEST_NOT_SET:-10.0.0.13:9000}");
    assert_eq!(check(&upstream).0, 0);
    refused(&GOOD.replace("10.0.0.11:9000", "${RINGWAY_TEST_NOT_SET}"), &["FILE:3:", "RINGWAY_TEST_NOT_SET"]);
    // The value of a variable can never become a key: here it would be one if the text were replaced.
    let sneaky = GOOD.replace("users: {", "users: { pool: \"${RINGWAY_TEST_NOT_SET:-{ idle: 1 }}\",");
    assert_eq!(check(&sneaky).0, 1);
}

#[test]
fn deep_and_large_files_do_not_bring_it_down() {
    let deep = "a: ".to_string() + &"[".repeat(20_000);
    assert_eq!(check(&deep).0, 1);
    let wide = format!("{GOOD}{}", (0..3000).map(|n| format!("key{n}: 1\n")).collect::<String>());
    let (code, said) = check(&wide);
    assert_eq!(code, 1);
    assert!(said.lines().count() < 500, "{} lines", said.lines().count());
}

#[test]
fn every_file_in_config_passes_check() {
    let mut files = Vec::new();
    for dir in ["config", "config/examples"] {
        for entry in root().join(dir).read_dir().unwrap_or_else(|e| panic!("{dir}: {e}")) {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                files.push(path);
            }
        }
    }
    assert!(files.iter().any(|f| f.ends_with("config/gateway.yaml")), "{files:?}");
    assert!(files.iter().any(|f| f.ends_with("config/demo.yaml")), "{files:?}");
    assert!(files.iter().any(|f| f.parent().unwrap().ends_with("examples")), "{files:?}");
    let etc = Authority::new().etc();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().replace("/etc/ringway", &etc);
        let (code, said) = check(&text);
        assert_eq!(code, 0, "{}:\n{said}", file.display());
    }
}

#[test]
fn the_tls_blocks_that_gateway_yaml_comments_out_are_valid_too() {
    let authority = Authority::new();
    let etc = authority.etc();
    let text = std::fs::read_to_string(root().join("config/gateway.yaml")).unwrap();
    let uncommented: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with("    format: json ")) // the other form is what a comment shows
        .map(|line| line.strip_prefix("    # ").map_or(line.to_owned(), |rest| format!("    {rest}")))
        .collect();
    // The address of the listener is none that could have a mode.
    let text = uncommented.join("\n").replace("/etc/ringway", &etc).replace("\n    mode: \"", "\n    # mode: \"");
    std::fs::copy(authority.ocsp(&authority.issue(&["site"])), format!("{etc}/site.ocsp")).unwrap();
    assert_eq!(text.matches("\n    tls:").count(), 2);
    let (code, said) = check(&text);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_gateway_yaml_comments_out_for_want_of_redis_is_valid_too() {
    let text = std::fs::read_to_string(root().join("config/gateway.yaml")).unwrap();
    let of_redis = |line: &str| {
        let behind = line.strip_prefix("      # ").map(|rest| format!("      {rest}"));
        let of_limit =
            ["shared", "on_unavailable", "reserve", "overdraft", "lease"].map(|key| format!("      {key}: "));
        behind.filter(|line| of_limit.iter().any(|key| line.starts_with(key)))
    };
    let (before, block) = text.split_once("\n# rate_limits:").unwrap();
    let (block, behind) = block.split_once("\n\n").unwrap();
    let block: Vec<&str> = block.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let before: Vec<String> = before.lines().map(|line| of_redis(line).unwrap_or(line.to_owned())).collect();
    assert_eq!(before.iter().filter(|line| line.contains("what it leased")).count(), 1, "the commented keys are there");
    let text = format!("{}\nrate_limits:{}\n\n{behind}", before.join("\n"), block.join("\n"));
    let text = text.replace("${REDIS_PASSWORD}", "secret").replace("redis://", "rediss://");
    let (code, said) = check(&text.replace("/etc/ringway", &Authority::new().etc()));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_readmes_config_passes_check() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks = readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).peekable();
    assert!(blocks.peek().is_some(), "the README shows no config");
    let etc = Authority::new().etc();
    for block in blocks {
        let (code, said) = check(&block.replace("/etc/ringway", &etc));
        assert_eq!(code, 0, "{said}\n{block}");
    }
}

#[test]
fn check_says_of_each_rate_limit_what_can_pass_at_worst() {
    let path = file(&std::fs::read_to_string(root().join("config/examples/rate-limits.yaml")).unwrap());
    let (code, said, stderr) = run(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    for line in [
        "The rate limit `customer`, of each key:",
        "  Each process by itself lets 200 pass at once and 100 each second.",
        "  In any second never more than 301.",
        "  Each process by itself lets 1000 pass at once and 1000 each hour.",
    ] {
        assert!(said.contains(&format!("{line}\n")), "{line}\n{said}");
    }
}

#[test]
fn run_refuses_a_bad_config_like_check_does() {
    let path = file("listenrs: []\n");
    let (code, _, stderr) = run(&["run", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(stderr.contains("did you mean"), "{stderr}");
}

#[test]
fn run_says_what_is_wrong_when_an_address_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let admin = crate::support::free_port();
    let text =
        format!("{}admin: {{ address: \"127.0.0.1:{admin}\" }}\n", GOOD.replace("127.0.0.1:8080", &addr.to_string()));
    let path = file(&text);
    let (code, _, stderr) = run(&["run", "-c", path.to_str().unwrap()]);
    assert_ne!(code, 0);
    assert!(stderr.contains(&addr.to_string()), "{stderr}");
}

#[test]
fn help_and_version_and_usage() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in ["run", "check", "demo", "--version"] {
        assert!(stdout.contains(word), "no {word} in {stdout}");
    }
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!((code, stdout.trim()), (0, concat!("ringway ", env!("CARGO_PKG_VERSION"))));
    for usage in [&["nonsense"][..], &["run", "--nonsense"], &["check", "-c"], &[]] {
        let (code, _, stderr) = run(usage);
        assert_eq!(code, 2, "{usage:?}: {stderr}");
        assert!(stderr.contains("Usage") || stderr.contains("--help"), "{usage:?}: {stderr}");
    }
    let (code, _, stderr) = run(&["check", "-c", "/nowhere/at/all.yaml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("/nowhere/at/all.yaml"), "{stderr}");
}
