//! Rules of the source itself, from ARCHITECTURE.md and STYLE.md, that no compiler checks.

use crate::support::root;
use std::path::{Path, PathBuf};

/// Each line may import only from the lines above it; modules on one line do not import each other.
const LAYERS: [&[&str]; 18] = [
    &["value", "error", "end", "socket", "text"],
    &["expression"],
    &["io", "http", "json", "shared", "observe"],
    // The process wallet (shared) is a table of words; what they mean is limit's business, so limit comes after it.
    &["tls", "limit", "coding"],
    &["jwt"],
    &["context", "route", "upstream"],
    &["request"],
    &["core"],
    &["plugin"],
    &["filter"],
    &["config"],
    &["snapshot"],
    &["proxy", "control"],
    &["worker"],
    &["cli"],
    &["run"],
    &["lib"],
    &["main"],
];

fn files(dir: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in dir.read_dir().unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The lines of code of a file: comments are left out, and so are unit tests (by convention at its end).
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]"
            && text.lines().nth(n + 1).is_some_and(|l| l.starts_with("mod ") && l.ends_with('{'))
        {
            break;
        }
        let line = line.split("//").next().unwrap_or_default().trim();
        if !line.is_empty() {
            lines.push((n + 1, line.to_string()));
        }
    }
    lines
}

/// Whether a word stands alone in a line.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

/// Lines of `dirs` that contain one of the words, but for files whose path begins with one of `except`.
fn finds(dirs: &[&str], words: &[&str], except: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in dirs.iter().flat_map(|dir| files(dir)) {
        let name = name(&path);
        if except.iter().any(|e| name.starts_with(e)) {
            continue;
        }
        for (n, line) in code(&path) {
            for word in words.iter().filter(|word| has_word(&line, word)) {
                found.push(format!("{name}:{n}: {word}: {line}"));
            }
        }
    }
    found
}

fn none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of this crate that a line names: `crate::a`, and each of `crate::{a, b::c}`.
fn imports(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let (mut depth, mut start) = (0, true);
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.push(word(&list[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn each_layer_imports_only_the_ones_before_it() {
    let mut found = Vec::new();
    for path in files("src") {
        let name = name(&path);
        let module = name.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs").to_string();
        let Some(own) = layer_of(&module) else {
            found.push(format!("{name}: `{module}` has no layer"));
            continue;
        };
        // A `use` may go over several lines: they are read as one statement.
        let mut statement = String::new();
        let mut began = 0;
        for (n, line) in code(&path) {
            if statement.is_empty() {
                began = n;
            }
            statement.push_str(&line);
            if statement.contains("use crate::{") && !line.ends_with(';') {
                continue;
            }
            for import in imports(&std::mem::take(&mut statement)) {
                let Some(layer) = layer_of(&import) else { continue };
                if import != module && layer >= own {
                    found.push(format!("{name}:{began}: {module} imports {import}"));
                }
            }
        }
    }
    none("each layer imports only the ones before it", found);
}

#[test]
fn unsafe_code_is_in_io_alone_and_says_why() {
    none("unsafe outside of src/io", finds(&["src"], &["unsafe", "unsafe_code"], &["src/io/"]));
    let mut silent = Vec::new();
    for path in files("src/io") {
        let lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(String::from).collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let reason = lines[n.saturating_sub(6)..=n]
                .iter()
                .any(|l| l.to_lowercase().contains("safety") || l.contains("reason ="));
            if (code.contains("unsafe {") || code.contains("unsafe impl")) && !reason {
                silent.push(format!("{}:{}: {line}", name(&path), n + 1));
            }
        }
    }
    none("unsafe without a reason", silent);
}

#[test]
fn nothing_shared_is_named_on_the_request_path() {
    let mut words = vec!["Arc", "Mutex", "RwLock", "OnceLock", "LazyLock"];
    let atomics = [
        "AtomicBool",
        "AtomicU8",
        "AtomicU16",
        "AtomicU32",
        "AtomicU64",
        "AtomicUsize",
        "AtomicI64",
        "AtomicPtr",
        "atomic",
    ];
    words.extend(atomics);
    none("shared state in the data plane", finds(&["src/proxy", "src/route", "src/filter"], &words, &[]));
}

#[test]
fn the_two_planes_do_not_know_each_others_runtime() {
    none(
        "the data plane names tokio",
        finds(
            &["src/proxy", "src/route", "src/filter", "src/upstream", "src/http", "src/io"],
            &["tokio", "redis", "axum", "hyper"],
            &[],
        ),
    );
    none("monoio is named outside of io", finds(&["src"], &["monoio"], &["src/io/"]));
}

#[test]
fn what_monoio_does_badly_is_not_used() {
    // Each word stands in RUNTIME_RULES.md, with what it does.
    let never = [
        "write_vectored_all",
        "into_split",
        "into_raw_fd",
        "UnixListener",
        "bind_with_config",
        "detect_uring",
        "FusionDriver",
        "setup_sqpoll",
        "timeout",
        "yield_now",
    ];
    none("monoio's traps", finds(&["src/io", "src/proxy"], &never, &[]));
    none("tasks are spawned without catching unwinds", finds(&["src/io"], &["monoio::spawn"], &["src/io/spawn.rs"]));
    none("names are resolved on a core", finds(&["src/io"], &["connect", "ToSocketAddrs"], &["src/io/dial.rs"]));
    let dial = std::fs::read_to_string(root().join("src/io/dial.rs")).unwrap();
    assert!(dial.contains("TcpStream::connect_addr("), "dial by address only");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let monoio = manifest.lines().find(|line| line.starts_with("monoio =")).unwrap();
    // `async-cancel` is among the default features: without it each operation that was given up leaks its descriptor.
    assert!(!monoio.contains("default-features") && !monoio.contains("zero-copy"), "{monoio}");
    assert!(manifest.contains("panic = \"unwind\""), "a panic must unwind to end one connection only");
    let run = std::fs::read_to_string(root().join("src/run.rs")).unwrap();
    assert!(run.contains("process::exit"), "runtimes with operations in flight are never dropped");
}

#[test]
fn what_decides_about_an_aggregation_does_no_io_and_reads_no_clock() {
    let pure = ["outcome.rs", "merge.rs", "render.rs"].map(|file| format!("src/proxy/aggregate/{file}"));
    let found =
        finds(&["src/proxy/aggregate", "src/json"], &["await", "async", "Instant", "now_us", "now_ms", "clock"], &[]);
    let found = found
        .into_iter()
        .filter(|line| line.starts_with("src/json/") || pure.iter().any(|file| line.starts_with(file)));
    none("I/O or a clock in what only decides", found.collect());
    assert!(pure.iter().all(|file| root().join(file).exists()), "{pure:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let mut found = Vec::new();
    for path in ["src", "tests", "benches", "loadtest"].iter().flat_map(|dir| files(dir)) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (n, line) in text.lines().enumerate() {
            let unfinished = [
                concat!("to", "do!("),
                concat!("unimple", "mented!("),
                concat!("allow(dead", "_code"),
                concat!("#[ign", "ore"),
            ];
            if words.iter().any(|w| has_word(line, w)) || unfinished.iter().any(|u| line.contains(u)) {
                found.push(format!("{}:{}: {line}", name(&path), n + 1));
            }
        }
    }
    none("unfinished", found);
}

#[test]
fn every_file_says_what_it_is_about_and_stays_readable() {
    let mut found = Vec::new();
    for path in ["src", "tests", "benches", "loadtest"].iter().flat_map(|dir| files(dir)) {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            found.push(format!("{}: no //! at its beginning", name(&path)));
        }
        if name(&path).starts_with("src/") && code(&path).len() > 450 {
            found.push(format!("{}: {} lines of code: look for the second subject", name(&path), code(&path).len()));
        }
    }
    none("files", found);
}

#[test]
fn one_word_for_one_thing() {
    none("words of other proxies", finds(&["src"], &["backend", "backends", "Backend"], &[]));
    // But for a Redis Cluster, which is called that.
    let redis = ["src/config/rate_limits", "src/control/limit_sync/"];
    none("words of other proxies", finds(&["src"], &["cluster", "Cluster"], &redis));
}

#[test]
fn the_guards_themselves_can_go_red() {
    assert!(has_word("let x: Arc<u8>;", "Arc") && !has_word("Archive", "Arc") && !has_word("MyArc", "Arc"));
    assert_eq!(imports("use crate::{io, http::{a, b}, core::Core};"), ["io", "http", "core"]);
    assert_eq!(imports("crate::io::x(crate::http::Y)"), ["io", "http"]);
    assert!(layer_of("proxy") > layer_of("core") && layer_of("nothing").is_none());
    assert!(!files("src").is_empty() && !files("tests").is_empty());
}
