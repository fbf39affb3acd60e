//! Plugins: filters of others, in a gateway that is built outside of ringway's crate (`tests/plugin`). What they may do, and
//! what becomes of those that do it wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::client::{post, post_chunked};
use crate::support::foreign::{output, output_of};
use crate::support::gateway::BINARY;
use crate::support::message::{Response, ok};
use crate::support::misbehave::{answers, closes_before_the_answer};
use crate::support::{Client, Gateway, Setup, Upstream, eventually, root, temp_dir};

/// The gateway with plugins: built once, with what ringway was built with and into the same place, so that only its own crate
/// and what differs is compiled.
fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(BINARY).parent().and_then(Path::parent).unwrap();
        // A copy, beside which there is the lock file of ringway: the same versions, and nothing is asked of a registry.
        let dir = target.join("acme-gateway");
        let from = root().join("tests/plugin");
        std::fs::create_dir_all(dir.join("src")).unwrap();
        let manifest = std::fs::read_to_string(from.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("path = \"../..\""), "{manifest}");
        let manifest = manifest.replace("path = \"../..\"", &format!("path = {:?}", root()));
        // The same profile, or what both depend on would be built twice.
        let profile = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let (from_here, to_here) = ("\n[profile.dev]", "\n# For trying things out");
        let profile = profile.split_once(from_here).unwrap().1.split_once(to_here).unwrap().0;
        let manifest = format!("{manifest}{from_here}{profile}");
        put(&dir.join("Cargo.toml"), &manifest);
        for file in ["src/main.rs", "src/hostile.rs"] {
            put(&dir.join(file), &std::fs::read_to_string(from.join(file)).unwrap());
        }
        std::fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What cargo tells a test about its package would be another environment to build scripts.
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        for (name, _) in std::env::vars_os() {
            if of_this_package.iter().any(|of| name.to_string_lossy().starts_with(of)) {
                cargo.env_remove(name);
            }
        }
        cargo.args(["build", "--offline", "--quiet", "--manifest-path"]).arg(dir.join("Cargo.toml"));
        let built = cargo.env("CARGO_TARGET_DIR", target).current_dir(root()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("debug/acme-gateway")
    })
}

/// What is the same is left alone: it would be compiled again.
fn put(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    std::fs::write(path, text).unwrap();
}

fn run(args: &[&str]) -> (i32, String) {
    let out = Command::new(binary()).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap_or(-1), said)
}

/// A gateway with these filters on its only route.
fn with(upstream: &Upstream, filters: &str, used: &str) -> Setup {
    Setup::new()
        .binary(binary())
        .upstream("u", &[upstream], "")
        .top(&format!("filters: {{ {filters} }}"))
        .route(&format!("name: all, match: {{ path: \"/{{id}}\" }}, forward: {{ upstream: u }}, filters: [{used}]"))
}

/// Two that do what the query says, `a` before `b`.
fn hostile(upstream: &Upstream) -> Gateway {
    let filters = "a: { acme-hostile: { mark: a } }, b: { acme-hostile: { mark: b } }";
    let mut gateway = with(upstream, filters, "a, b").start();
    gateway.may_panic = true;
    gateway
}

fn passed(answer: &Response) -> Vec<&str> {
    answer.fields.all("x-passed")
}

#[test]
fn a_plugin_decides_tells_the_upstream_and_writes_into_the_log() {
    let upstream = Upstream::start(answers(
        "HTTP/1.1 200 OK\r\nX-Powered-By: x\r\nAge: 12\r\nX-Served-For: forged\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let gateway = with(&upstream, "who: { acme-tenant: { known: [red, blue] } }", "who").start();
    let ask = |tenant: &str| gateway.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\n{tenant}\r\n"));
    for refused in ["", "X-Tenant: green\r\n", "X-Tenant: red\r\nX-Tenant: red\r\n", "X-Tenant: \r\n"] {
        let answer = ask(refused);
        answer.is_gateways_own(403);
        let body = answer.json();
        assert_eq!((&body["code"], &body["message"]), (&40390.into(), &"this tenant is not known here".into()));
        assert_eq!(answer.fields.get("x-tenants"), Some("red, blue"));
    }
    upstream.heard_nothing();
    let answer = ask("X-Tenant: red\r\nX-Acme-Tenant: blue\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    assert_eq!((answer.fields.all("x-served-for"), answer.fields.has("x-powered-by")), (vec!["red"], false));
    let forwarded = upstream.only_request();
    assert_eq!((forwarded.fields.all("x-acme-tenant"), forwarded.fields.has("x-tenant")), (vec!["red"], false));
    let line = gateway.wait_log(|line| line["status"] == 200);
    assert_eq!(line["plugins"], serde_json::json!({"who": {"tenant": "red", "age": 12}}));
    let line = gateway.wait_log(|line| line["status"] == 403);
    assert_eq!((&line["end"], &line["refused_by"]), (&"filter_refused".into(), &"who".into()));
    assert!(line.get("plugins").is_none(), "{line}");
    let count =
        |outcome| gateway.metrics().sum("ringway_filter_requests_total", &[("filter", "who"), ("outcome", outcome)]);
    assert_eq!((count("passed"), count("refused"), count("failed")), (1.0, 4.0, 0.0));
}

#[test]
fn whom_a_plugin_makes_out_is_the_principal_of_limits() {
    let upstream = Upstream::start(answers(ok("hi")));
    let filters =
        "who: { acme-tenant: { known: [red, blue] } }, fair: { rate_limit: { rate: 1/h, burst: 2, key: principal } }";
    let gateway = with(&upstream, filters, "who, fair").start();
    let status = |tenant: &str| gateway.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\nX-Tenant: {tenant}\r\n\r\n")).status;
    assert_eq!([status("red"), status("red"), status("red"), status("blue")], [200, 200, 429, 200]);
    // The answer of a filter behind it has its field too.
    let refused = gateway.ask("GET /a HTTP/1.1\r\nHost: h\r\nX-Tenant: red\r\n\r\n");
    assert_eq!((refused.status, refused.fields.get("x-served-for")), (429, Some("red")));
}

#[test]
fn requests_pass_in_order_and_answers_come_back_the_other_way() {
    let upstream =
        Upstream::start(answers("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"));
    let gateway = hostile(&upstream);
    let answer = gateway.get("/7?response.b=type");
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.only_request().fields.all("x-seen"), ["a", "b"]);
    assert_eq!(passed(&answer), ["b 200 true", "a 200 true"]);
    assert_eq!((answer.fields.get("x-asked-a"), answer.fields.get("x-asked-b")), (Some("a GET 7"), Some("b GET 7")));
    assert_eq!(answer.fields.all("content-type"), ["text/x-edited"], "and not both");
    assert_eq!(gateway.get("/8?response.a=own").fields.all("x-asked-a"), ["a GET 8"]);
    let line = gateway.log_of("/7");
    assert!(line["plugins"]["a"]["kept"] == true && line["plugins"]["b"]["kept"] == true, "{line}");
    let names = |filter: &str| line["plugins"][filter]["names"].as_str().unwrap().to_lowercase();
    assert_eq!(
        (names("b").as_str(), names("a").as_str()),
        ("content-type content-length", "content-length x-passed content-type")
    );
}

#[test]
fn a_filter_that_waits_between_two_plugins_changes_nothing() {
    let upstream = Upstream::start(answers(ok("hi")));
    let users = temp_dir("plugins").join("users");
    output("htpasswd", &["-cbB", "-C", "5", users.to_str().unwrap(), "ann", "secret"]);
    let filters = format!(
        "a: {{ acme-hostile: {{ mark: a }} }}, staff: {{ basic: {{ file: {} }} }}, b: {{ acme-hostile: {{ mark: b }} }}",
        users.display()
    );
    let gateway = with(&upstream, &filters, "a, staff, b").start();
    let ask = |password: &str| {
        let credentials = output_of("base64", &["-w0"], format!("ann:{password}").as_bytes());
        gateway.ask(format!("GET /7 HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {credentials}\r\n\r\n"))
    };
    let refused = ask("wrong");
    assert_eq!((refused.status, passed(&refused)), (401, vec!["a 401 false"]), "`b` has not seen it");
    let answer = ask("secret");
    assert_eq!((answer.status, passed(&answer)), (200, vec!["b 200 true", "a 200 true"]));
    assert_eq!(upstream.only_request().fields.all("x-seen"), ["a", "b"], "each once");
}

#[test]
fn a_plugin_can_answer_itself() {
    let upstream = Upstream::start(answers(ok("hi")));
    let gateway = hostile(&upstream);
    let mut client = Client::connect(&gateway);
    let answer = client.get("/7?request.a=answer");
    assert_eq!((answer.status, answer.text().as_str(), passed(&answer)), (200, "made here", vec!["a 200 false"]));
    assert_eq!(answer.fields.get("content-type"), Some("text/plain"));
    assert_eq!(answer.fields.all("x-asked-a"), ["a GET 7"], "what is in every answer is there once");
    let line = gateway.log_of("/7");
    assert!(line["end"] == "ok" && line.get("refused_by").is_none(), "{line}");
    let answer = client.get("/8?request.b=teapot");
    assert_eq!((answer.status, passed(&answer)), (418, vec!["b 418 false", "a 418 false"]));
    assert_eq!(gateway.log_of("/8")["refused_by"], "b");
    let answer = client.get("/9?request.a=empty");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    // Its body is not asked for, and the connection is kept where it came whole.
    let answer = client.ask(post("/7?request.a=answer", "body"));
    assert_eq!(answer.text(), "made here");
    client.send("HEAD /7?request.a=answer HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response_to_head().fields.get("content-length"), Some("9"));
    assert_eq!(client.ask(post_chunked("/7?request.a=answer", b"abc", 2)).text(), "made here");
    upstream.heard_nothing();
}

#[test]
fn a_plugin_that_panics_or_fails_ends_one_request() {
    let upstream = Upstream::start(answers(ok("hi")));
    let gateway = hostile(&upstream);
    let mut client = Client::connect(&gateway);
    let mut failures = 0.0;
    for (path, by, reached) in [
        ("/1?request.a=panic", "a", false),
        ("/2?request.b=panic", "b", false),
        ("/3?request.a=object", "a", false),
        ("/4?request.a=fail", "a", false),
        ("/5?request.b=line", "b", false),
        ("/6?request.a=length", "a", false),
        ("/7?request.a=host", "a", false),
        ("/8?response.a=panic", "a", true),
        ("/9?response.b=panic", "b", true),
        ("/10?response.b=fail", "b", true),
        ("/11?response.a=line", "a", true),
    ] {
        let before = upstream.requests().len();
        let answer = client.get(path);
        answer.is_gateways_own(500);
        assert_eq!(answer.json()["code"], 50002, "{path}");
        // Those that did not fail see the 500.
        let seen: &[&str] = match (by, reached) {
            ("a", false) => &[],
            ("b", _) => &["a 500 false"],
            _ => &[],
        };
        assert_eq!(passed(&answer), seen, "{path}");
        assert_eq!(upstream.requests().len() - before, usize::from(reached), "{path}");
        let line = gateway.log_of(path.split('?').next().unwrap());
        assert_eq!((&line["end"], &line["refused_by"]), (&"plugin_failed".into(), &by.into()), "{line}");
        failures += 1.0;
    }
    let answer = client.get("/12");
    assert_eq!((answer.status, upstream.connections() >= 1), (200, true), "the same connection, on the same core");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringway_filter_requests_total", &[("outcome", "failed")]), failures);
    assert_eq!(metrics.sum("ringway_worker_panics_total", &[]), 0.0);
    let told = |what: &str| {
        eventually(what, || gateway.process.stderr.lock().unwrap().contains(what).then_some(()));
    };
    told("error: the plugin acme-hostile of the filter `a` panicked: on a request");
    told("error: the plugin acme-hostile of the filter `a` panicked: without a message");
    told("error: the plugin acme-hostile of the filter `a` failed: invalid digit found in string");
    told("error: the plugin acme-hostile of the filter `b` failed: does not like  the answer");
    told("error: the plugin acme-hostile of the filter `a` failed: the field \"Content-Length\" is the gateway's own");
}

#[test]
fn a_plugin_sees_answers_of_the_gateway_as_well() {
    let upstream = Upstream::start(closes_before_the_answer);
    let gateway = hostile(&upstream);
    let answer = gateway.get("/7");
    assert_eq!((answer.status, passed(&answer)), (502, vec!["b 502 false", "a 502 false"]));
    assert_eq!(gateway.get("/7?response.b=own").fields.all("x-asked-b"), ["b GET 7"]);
    let answer = gateway.get("/7?response.a=panic");
    answer.is_gateways_own(500);
    // A head that is broken behind its own end: nothing was sent yet, so that another answer is.
    let upstream = Upstream::start(answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"));
    let gateway = hostile(&upstream);
    let answer = gateway.get("/7");
    assert_eq!((answer.status, passed(&answer)), (502, vec!["b 502 false", "a 502 false"]));
    // No plugin has seen a request without a route, or one that is none.
    let answer = gateway.get("/a/b");
    assert_eq!((answer.status, answer.fields.has("x-asked-a"), passed(&answer).len()), (404, false, 0));
    let answer = gateway.ask("GET /7 HTTP/1.1\r\nHost: h\r\nBad Field: 1\r\n\r\n");
    assert_eq!((answer.status, passed(&answer).len()), (400, 0));
}

#[test]
fn an_answer_that_a_plugin_spoils_while_a_body_comes_closes_its_connection() {
    let upstream = Upstream::start(answers(ok("hi")));
    let gateway = hostile(&upstream);
    let mut client = Client::connect(&gateway);
    let answer = client.ask(post_chunked("/7?response.b=panic", &vec![b'x'; 300_000], 10_000));
    answer.is_gateways_own(500);
    client.is_closed();
    assert_eq!(gateway.get("/8").status, 200);
    let mut client = Client::connect(&gateway);
    client.send("GET /9?response.b=panic HTTP/1.1\r\nHost: h\r\n\r\nGET /10 HTTP/1.1\r\nHost: h\r\n\r\n");
    client.response().is_gateways_own(500);
    assert_eq!(client.response().status, 200, "what comes behind is a request of its own");
}

#[test]
fn aggregations_pass_plugins_too() {
    let upstream = Upstream::start(answers(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
    ));
    let parts =
        "{ name: one, upstream: u, request: { path: /one } }, { name: two, upstream: u, request: { path: /two } }";
    let mut gateway = Setup::new()
        .binary(binary())
        .upstream("u", &[&upstream], "")
        .top("filters: { a: { acme-hostile: { mark: a } } }")
        .route(&format!(
            "match: {{ path: \"/{{id}}\" }}, filters: [a], aggregate: {{ envelope: raw, parts: [{parts}] }}"
        ))
        .start();
    gateway.may_panic = true;
    let answer = gateway.get("/7?response.a=type");
    assert_eq!((answer.status, answer.fields.all("content-type")), (200, vec!["text/x-edited"]));
    assert_eq!(passed(&answer), ["a 200 false"]);
    assert_eq!(answer.text(), "{\"one\":{\"a\":1},\"two\":{\"a\":1}}");
    for _ in 0..20 {
        gateway.get("/7?response.a=panic").is_gateways_own(500);
    }
    assert_eq!(gateway.get("/8").status, 200);
    gateway.wait_sum("ringway_aggregation_memory_bytes", &[], 0.0);
}

#[test]
fn what_a_plugin_logs_is_bounded_and_can_not_break_the_line() {
    let upstream = Upstream::start(answers(ok("hi")));
    let gateway = hostile(&upstream);
    assert_eq!(gateway.get("/7?request.a=log").status, 200);
    let line = gateway.log_of("/7");
    let fields = line["plugins"]["a"].as_object().unwrap();
    assert!(fields["key0"] == "\u{1}\"é\r\n".repeat(20) && !fields.contains_key("bad key"), "{line}");
    assert!(
        fields.len() > 10 && line.to_string().len() < 6000,
        "{} fields, {} bytes",
        fields.len(),
        line.to_string().len()
    );
    assert_eq!(gateway.get("/8").status, 200);
    assert!(gateway.log_of("/8")["plugins"]["a"].get("key0").is_none(), "nothing of the one before");
}

#[test]
fn plugins_run_on_each_core_with_one_instance() {
    let upstream = Upstream::start(answers(ok("hi")));
    let filters = "who: { acme-tenant: { header: x-who, known: [red] } }, other: { acme-tenant: { known: [blue] } }";
    let gateway = with(&upstream, filters, "who, other").workers("2").start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(&gateway);
                for _ in 0..25 {
                    let answer = client.ask("GET /a HTTP/1.1\r\nHost: h\r\nX-Who: red\r\nX-Tenant: blue\r\n\r\n");
                    assert_eq!((answer.status, answer.fields.get("x-served-for")), (200, Some("blue")));
                }
            });
        }
    });
    let line = gateway.wait_log(|line| line["status"] == 200);
    assert_eq!(line["plugins"], serde_json::json!({"who": {"tenant": "red"}, "other": {"tenant": "blue"}}));
}

#[test]
fn the_command_lists_and_checks_plugins() {
    let (code, said) = run(&["plugins"]);
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("acme-hostile  does") && lines[1].starts_with("acme-tenant   lets")
    );
    let check = |filters: &str, uses: &str| {
        let path = temp_dir("plugins").join("gateway.yaml");
        let text = format!(
            "listeners: [{{ address: \"127.0.0.1:8080\" }}]\nroutes: [{{ match: {{ path: /a }}, respond: {{}}, filters: [{uses}] }}]\n"
        );
        std::fs::write(&path, format!("{text}filters:\n{filters}")).unwrap();
        let (code, said) = run(&["check", "-c", path.to_str().unwrap()]);
        (code, said.replace(path.to_str().unwrap(), "FILE"))
    };
    assert_eq!(check("  who:\n    acme-tenant:\n      known: [a]\n", "who").0, 0);
    for (filters, told) in [
        ("  who: { acme-tenat: {} }\n", "FILE:4:10: filters.who.acme-tenat: unknown key (did you mean `acme-tenant`?)"),
        ("  who: { acme-tenant: {} }\n", "FILE:4:10: filters.who.acme-tenant: the key `known` is missing (add it)"),
        (
            "  who:\n    acme-tenant:\n      known: []\n",
            "FILE:6:7: filters.who.acme-tenant.known: nobody could call (list at least one tenant)",
        ),
        (
            "  who:\n    acme-tenant:\n      known: [a]\n      heder: b\n",
            "FILE:7:7: filters.who.acme-tenant.heder: unknown key (did you mean `header`?)",
        ),
        (
            "  who: { acme-hostile: { mark: panic } }\n",
            "FILE:4:10: filters.who.acme-hostile: the plugin acme-hostile panicked: a plugin that can not be made",
        ),
    ] {
        let (code, said) = check(filters, "who");
        assert!(code == 1 && said.contains(told), "{said}\nis not\n{told}");
    }
    let (code, said, _) = crate::support::gateway::run(&["plugins"]);
    assert_eq!((code, said.as_str()), (0, "no plugins are compiled in\n"));
}

#[test]
fn the_readmes_plugin_is_the_one_that_is_tested() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let block =
        |fence: &str| readme.split(fence).nth(1).unwrap_or_else(|| panic!("no {fence:?}")).split("```").next().unwrap();
    let code = std::fs::read_to_string(root().join("tests/plugin/src/main.rs")).unwrap();
    let from = code.find("/// The filter.").unwrap();
    assert_eq!(block("```rust\n"), &code[from..], "the README shows another plugin");
    let path = temp_dir("plugins").join("gateway.yaml");
    std::fs::write(&path, block("```yaml plugin\n")).unwrap();
    let (code, said) = run(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
}
