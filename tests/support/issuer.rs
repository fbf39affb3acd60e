//! An issuer of tokens: PyJWT signs and checks them, in one process for the whole run, and a scripted server publishes its
//! keys. Keys are known by name: `rsa…`, `p256…`, `p384…`, `ed…`; a name that is new makes a new key.

use super::message::ok;
use super::{Upstream, temp_dir, tls};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// The distribution's own: what its package `python3-jwt` is for.
const PYTHON: &str = "/usr/bin/python3";
pub const SECRET: &str = "a secret of 64 bytes, which is long enough for any of the hashes";

struct Python {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn ask(order: &Value) -> Value {
    static PROCESS: LazyLock<Mutex<Python>> = LazyLock::new(|| {
        // It ends with its input, which ends with this process.
        let mut child = Command::new(PYTHON)
            .args(["-c", include_str!("issuer.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Mutex::new(Python { _child: child, input, output })
    });
    let mut process = PROCESS.lock().unwrap();
    process.input.write_all(format!("{order}\n").as_bytes()).unwrap();
    let mut line = String::new();
    process.output.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{order}: {e}: {line}"))
}

fn text(value: Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims, and these.
pub fn claims(more: Value) -> Value {
    let mut all = json!({"iss": "https://id.test", "aud": "api", "sub": "ada", "exp": now() + 600});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// A token as PyJWT makes it.
pub fn token(key: &str, alg: &str, header: Value, claims: &Value) -> String {
    let mut order = json!({"op": "sign", "alg": alg, "header": header, "claims": claims});
    order[if alg.starts_with("HS") { "secret" } else { "key" }] = key.into();
    text(ask(&order))
}

/// A good token of the key `p256` by that name, with further claims.
pub fn es256(more: Value) -> String {
    token("p256", "ES256", json!({"kid": "p256"}), &claims(more))
}

/// A token whose header and payload are these texts, signed all the same.
pub fn crafted(key: &str, alg: &str, header: &str, payload: &str) -> String {
    let mut order = json!({"op": "sign", "alg": alg, "header_text": header, "payload_text": payload});
    order[if alg.starts_with("HS") { "secret" } else { "key" }] = key.into();
    text(ask(&order))
}

/// What PyJWT says of a token: `ok`, or the name of its error.
pub fn verdict(token: &str, key: &str, alg: &str, aud: &str) -> String {
    let mut order = json!({"op": "check", "token": token, "alg": alg, "aud": aud});
    order[if alg.starts_with("HS") { "secret" } else { "key" }] = key.into();
    text(ask(&order))
}

pub fn pem(key: &str) -> String {
    text(ask(&json!({"op": "pem", "key": key})))
}

/// The same as a file.
pub fn pem_file(key: &str) -> PathBuf {
    let path = temp_dir("key").join(format!("{key}.pem"));
    std::fs::write(&path, pem(key)).unwrap();
    path
}

/// A key set of these keys, each under its own name.
pub fn key_set(keys: &[&str]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| json!({"key": key, "more": {"kid": key}})).collect();
    ask(&json!({"op": "jwks", "keys": keys})).to_string()
}

/// A server that publishes a key set, or whatever else it is told to answer; over TLS in a run over TLS.
pub struct KeyServer {
    pub server: Upstream,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl KeyServer {
    pub fn start(keys: &[&str]) -> KeyServer {
        KeyServer::listen(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), keys)
    }

    pub fn listen(listener: std::net::TcpListener, keys: &[&str]) -> KeyServer {
        let answer = Arc::new(Mutex::new(ok(key_set(keys))));
        let current = answer.clone();
        let server = Upstream::listen(listener, move |conn| {
            while conn.request().is_some() {
                let answer = current.lock().unwrap().clone();
                // Nothing: it never answers.
                if answer.is_empty() || !conn.write(answer) {
                    return conn.until_ended();
                }
            }
        });
        KeyServer { server, answer }
    }

    /// From now on it answers this.
    pub fn answers(&self, answer: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = answer.into();
    }

    pub fn publishes(&self, keys: &[&str]) {
        self.answers(ok(key_set(keys)));
    }

    pub fn fetches(&self) -> usize {
        self.server.requests().len()
    }

    /// The `jwks` key of a config, with further keys.
    pub fn jwks(&self, more: &str) -> String {
        jwks_at(self.server.addr, more)
    }
}

pub fn jwks_at(addr: std::net::SocketAddr, more: &str) -> String {
    let scheme = tls::either("https", "http");
    let ca = if tls::is_on() { format!("ca: {}, ", tls::files().ca.display()) } else { String::new() };
    format!("jwks: {{ url: \"{scheme}://{addr}/jwks.json?x=1\", {ca}{more} }}")
}
