//! The admin listener: metrics, liveness and readiness. Read only; by default it listens on loopback alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::bind::AdminSocket;
use super::jwks::KeySetState;
use super::limit_sync::Status;
use super::prometheus;
use super::resolve::Unresolved;
use crate::shared::metrics::{Driver, Registry};
use crate::shared::wallet::Table;
use crate::tls::server::Expiry;

/// What the admin listener tells. Control writes it, requests read it.
#[derive(Debug)]
pub struct AdminState {
    metrics: Arc<Registry>,
    workers: usize,
    phase: Mutex<Phase>,
    /// Numbers the requests that bring no id of their own.
    requests: AtomicU64,
}

#[derive(Debug, Default)]
struct Phase {
    running: BTreeSet<usize>,
    draining: bool,
    unresolved: Vec<Unresolved>,
    certificates: Vec<Expiry>,
    certificates_stale: bool,
    redis: Option<Arc<Status>>,
    limits: Vec<(String, Arc<Table>)>,
    /// By filter.
    key_sets: BTreeMap<String, KeySetState>,
}

/// A longer id of a request is not repeated in the answer.
const REQUEST_ID_BYTES_MAX: usize = 128;

impl AdminState {
    /// Not ready until `workers` workers run.
    #[must_use]
    pub fn new(metrics: Arc<Registry>, workers: usize) -> Self {
        AdminState { metrics, workers, phase: Mutex::default(), requests: AtomicU64::new(0) }
    }

    /// Worker number `worker` accepts connections.
    pub fn worker_running(&self, worker: usize) {
        self.phase().running.insert(worker);
    }

    /// Worker number `worker` has ended, as planned or not.
    pub fn worker_stopped(&self, worker: usize) {
        self.phase().running.remove(&worker);
    }

    /// The gateway stops: not ready from here on.
    pub fn drain(&self) {
        self.phase().draining = true;
    }

    /// The host names that have no address now, each with its cause.
    pub fn set_unresolved(&self, names: Vec<Unresolved>) {
        self.phase().unresolved = names;
    }

    /// The certificates in use; `stale` if their files have changed to something that can not be used.
    pub fn set_certificates(&self, certificates: Vec<Expiry>, stale: bool) {
        let mut phase = self.phase();
        (phase.certificates, phase.certificates_stale) = (certificates, stale);
    }

    /// The rate limits of the config, each with its process wallet; and the state of Redis, if they have one.
    pub fn set_limits(&self, limits: Vec<(String, Arc<Table>)>, redis: Option<Arc<Status>>) {
        let mut phase = self.phase();
        (phase.limits, phase.redis) = (limits, redis);
    }

    /// What is known of the key sets of these filters; that of others stays.
    pub fn set_key_sets(&self, states: Vec<KeySetState>) {
        self.phase().key_sets.extend(states.into_iter().map(|state| (state.filter.clone(), state)));
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        // Nothing that can panic runs under the lock, and half of a change would still be readable.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers on `socket` until the task is dropped.
///
/// # Errors
/// None in practice: failed accepts are retried.
pub(super) async fn serve(socket: AdminSocket, state: Arc<AdminState>) -> io::Result<()> {
    match socket {
        AdminSocket::Tcp(listener) => axum::serve(listener, router(state)).await,
        AdminSocket::Unix(listener) => axum::serve(listener, router(state)).await,
    }
}

fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || answer(StatusCode::OK, json!({"status": "ok"}))))
        .route("/readyz", get(readiness))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
}

async fn metrics(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    let facts = {
        let phase = state.phase();
        prometheus::Facts {
            unresolved: phase.unresolved.len(),
            certificates: phase.certificates.clone(),
            certificates_stale: phase.certificates_stale,
            limits: phase.limits.clone(),
            redis: phase.redis.as_ref().map(|status| status.facts()),
            key_sets: phase.key_sets.values().cloned().collect(),
        }
    };
    match prometheus::encode(&state.metrics, facts) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response(),
        Err(_) => envelope(&state, &headers, StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"),
    }
}

async fn readiness(State(state): State<Arc<AdminState>>) -> Response {
    let drivers: Vec<Driver> = state.metrics.with(|b| b.cores.values().filter_map(|core| core.driver()).collect());
    let count = |driver| drivers.iter().filter(|d| **d == driver).count();
    let phase = state.phase();
    let running = phase.running.len();
    let (status, word) = match (phase.draining, running >= state.workers) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (false, true) => (StatusCode::OK, "ready"),
    };
    let unresolved = phase.unresolved.iter().map(|u| json!({"name": u.name, "cause": u.cause}));
    // Redis being away is no reason to take the gateway out of service: limits go on without it.
    let redis = phase.redis.as_ref().map(|status| {
        let facts = status.facts();
        let cause = if facts.is_up { json!(null) } else { json!(facts.cause) };
        let state = if facts.is_up { "up" } else { "away" };
        json!({"state": state, "since_s": facts.since_s, "processes": facts.processes, "cause": cause})
    });
    let key_sets = phase.key_sets.values().map(|set| {
        let age_s = set.fetched.map(|at| at.elapsed().as_secs());
        json!({"filter": set.filter, "up": set.fault.is_none(), "keys": set.keys, "age_s": age_s, "error": set.fault})
    });
    let body = json!({
        "status": word,
        "workers": {"configured": state.workers, "running": running},
        "driver": {"io_uring": count(Driver::IoUring), "epoll": count(Driver::Epoll)},
        "unresolved": unresolved.collect::<Vec<_>>(),
        "redis": redis,
        "jwks": key_sets.collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    answer(status, body)
}

async fn not_found(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    envelope(&state, &headers, StatusCode::NOT_FOUND, "no such page: try /metrics, /healthz or /readyz")
}

/// axum adds the Allow field.
async fn method_not_allowed(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    envelope(&state, &headers, StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD")
}

/// The gateway's error envelope; its code is the status × 100 + 1.
fn envelope(state: &AdminState, headers: &HeaderMap, status: StatusCode, message: &str) -> Response {
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let request_id = match given.filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX) {
        Some(id) => id.to_owned(),
        None => format!("admin-{:08x}", state.requests.fetch_add(1, Ordering::Relaxed)),
    };
    let code = u32::from(status.as_u16()) * 100 + 1;
    answer(status, json!({"code": code, "message": message, "data": null, "request_id": request_id}))
}

/// JSON that no cache on the way may keep, as readiness is about now; a line of its own in a terminal.
fn answer(status: StatusCode, body: serde_json::Value) -> Response {
    let fields = [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/json")];
    (status, fields, format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Asks a running admin listener; gives the head and the body.
    async fn ask(address: std::net::SocketAddr, request_line: &str) -> (String, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("{request_line} HTTP/1.1\r\nhost: admin\r\nx-request-id: r1\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn with_admin(workers: usize, test: impl AsyncFnOnce(Arc<AdminState>, std::net::SocketAddr)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let state = Arc::new(AdminState::new(Arc::new(Registry::default()), workers));
            tokio::spawn(serve(AdminSocket::Tcp(listener), Arc::clone(&state)));
            test(state, address).await;
        });
    }

    #[test]
    fn ready_only_between_the_last_start_and_the_drain() {
        with_admin(2, async |state, address| {
            let status = async || {
                let (head, body) = ask(address, "GET /readyz").await;
                let body: Value = serde_json::from_str(&body).unwrap();
                (head.get(9..12).unwrap().to_owned(), body)
            };
            state.worker_running(0);
            state.worker_running(0);
            let (code, body) = status().await;
            assert_eq!((code.as_str(), &body["status"]), ("503", &json!("starting")));
            state.metrics.core(0).set_driver(Driver::Epoll);
            state.worker_running(1);
            state.set_unresolved(vec![Unresolved { name: "a.internal".into(), cause: "no answer".into() }]);
            let (code, body) = status().await;
            assert_eq!((code.as_str(), &body["status"]), ("200", &json!("ready")));
            assert_eq!(body["workers"], json!({"configured": 2, "running": 2}));
            assert_eq!(body["driver"], json!({"io_uring": 0, "epoll": 1}));
            assert_eq!(body["unresolved"], json!([{"name": "a.internal", "cause": "no answer"}]));
            let (_, metrics) = ask(address, "GET /metrics").await;
            assert!(metrics.contains("\nringway_names_unresolved 1\n"), "{metrics}");
            state.drain();
            let (code, body) = status().await;
            assert_eq!((code.as_str(), &body["status"]), ("503", &json!("draining")));
            let (head, body) = ask(address, "GET /healthz").await;
            assert!(head.starts_with("http/1.1 200"), "alive while it drains");
            assert!(head.contains("content-type: application/json") && body.ends_with("}\n"), "{head}{body}");
        });
    }

    #[test]
    fn metrics_carry_their_media_type_and_the_rest_is_an_envelope() {
        with_admin(1, async |_, address| {
            let (head, body) = ask(address, "GET /metrics").await;
            assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
            assert!(body.ends_with("# EOF\n"));
            let (head, body) = ask(address, "GET /nothing").await;
            assert!(head.starts_with("http/1.1 404"), "{head}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&body["code"], &body["request_id"], &body["data"]),
                (&json!(40401), &json!("r1"), &Value::Null)
            );
            let (head, body) = ask(address, "DELETE /metrics").await;
            assert!(head.starts_with("http/1.1 405") && head.contains("allow: get,head"), "{head}");
            assert!(body.contains("40501"));
        });
    }
}
