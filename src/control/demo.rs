//! Three small JSON services to put the gateway in front of: users, orders and permissions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Path, Query, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::try_join;

/// Where the services listen.
#[derive(Debug)]
pub struct Listeners {
    /// `/user/{id}`, `/users`
    pub users: TcpListener,
    /// `/order/{id}`, `/orders?user={id}`; `POST /order/service/off` makes it fail, `…/on` work again
    pub orders: TcpListener,
    /// `/permission/{id}`
    pub permissions: TcpListener,
}

/// Runs all three until the task is dropped.
///
/// # Errors
/// None in practice: failed accepts are retried.
pub async fn serve(listeners: Listeners) -> io::Result<()> {
    let Listeners { users, orders, permissions } = listeners;
    try_join!(
        async { axum::serve(users, users_service()).await },
        async { axum::serve(orders, orders_service()).await },
        async { axum::serve(permissions, permissions_service()).await },
    )?;
    Ok(())
}

/// Commands for a stranger, with what they show. `gateway` and `admin` are `host:port`.
#[must_use]
pub fn requests_to_try(gateway: &str, admin: &str) -> String {
    format!(
        "\
curl -i http://{gateway}/user/1            # forwarded to the users service
curl -i http://{gateway}/order/1001        # forwarded to the orders service
curl -s http://{gateway}/user/echo         # what the service saw: X-Forwarded-*, Via, X-Request-Id
curl -i http://{gateway}/user/99           # the service's own 404, passed on
curl -i http://{gateway}/nowhere           # the gateway's 404: no route matches
curl -i http://{gateway}/api/v1/report/1   # one answer made of all three services
curl -X POST http://{gateway}/order/service/off   # the orders service fails from now on ...
curl -i http://{gateway}/api/v1/report/1   # ... and the report has its last orders, then none, and says so
curl -X POST http://{gateway}/order/service/on
curl -i http://{gateway}/api/v1/report/99  # no such user: the 404 of the part that is required
curl -s http://{admin}/readyz              # workers, driver, names that do not resolve
curl -s http://{admin}/metrics | grep -E 'ringway_(requests|parts)_total'
"
    )
}

fn users_service() -> Router {
    Router::new()
        .route("/user/echo", any(async |request: Request| echo("users", &request)))
        .route("/user/{id}", get(async |Path(id): Path<String>| found("user", &id, user(&id))))
        .route("/users", get(async || Json(Value::from_iter(["1", "2", "3"].into_iter().filter_map(user)))))
        .fallback(async |request: Request| no_page("users", &request))
}

fn orders_service() -> Router {
    let off = Arc::new(AtomicBool::new(false));
    let switched = Arc::clone(&off);
    let switch = async move |Path(state): Path<String>| {
        let to = match state.as_str() {
            "off" => true,
            "on" => false,
            _ => return (StatusCode::NOT_FOUND, Json(json!({"error": "it is switched on or off"}))),
        };
        switched.store(to, Ordering::Relaxed);
        (StatusCode::OK, Json(json!({"service": "orders", "state": state})))
    };
    let gate = move |request: Request, next: Next| {
        let is_off = off.load(Ordering::Relaxed);
        async move {
            match is_off {
                true => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": "switched off"}))).into_response(),
                false => next.run(request).await,
            }
        }
    };
    Router::new()
        .route("/order/echo", any(async |request: Request| echo("orders", &request)))
        .route("/order/{id}", get(async |Path(id): Path<String>| found("order", &id, order(&id))))
        .route("/orders", get(async |Query(wanted): Query<OrdersOf>| Json(orders_of(wanted.user.as_deref()))))
        .fallback(async |request: Request| no_page("orders", &request))
        .layer(from_fn(gate))
        .route("/order/service/{state}", post(switch))
}

fn permissions_service() -> Router {
    Router::new()
        .route("/permission/echo", any(async |request: Request| echo("permissions", &request)))
        .route("/permission/{id}", get(async |Path(id): Path<String>| found("permission", &id, permission(&id))))
        .fallback(async |request: Request| no_page("permissions", &request))
}

#[derive(Deserialize)]
struct OrdersOf {
    user: Option<String>,
}

fn user(id: &str) -> Option<Value> {
    match id {
        "1" => Some(json!({"id": 1, "name": "Ada Lovelace", "email": "ada@example.com", "tier": "gold"})),
        "2" => Some(json!({"id": 2, "name": "Grace Hopper", "email": "grace@example.com", "tier": "silver"})),
        "3" => Some(json!({"id": 3, "name": "Edsger Dijkstra", "email": "edsger@example.com", "tier": "basic"})),
        _ => None,
    }
}

const ORDERS: [&str; 4] = ["1001", "1002", "1003", "1004"];

fn order(id: &str) -> Option<Value> {
    match id {
        "1001" => Some(
            json!({"id": 1001, "user": 1, "item": "Analytical engine, gear set", "cents": 129_900, "state": "shipped"}),
        ),
        "1002" => Some(
            json!({"id": 1002, "user": 1, "item": "Punched cards, box of 500", "cents": 2_450, "state": "delivered"}),
        ),
        "1003" => {
            Some(json!({"id": 1003, "user": 2, "item": "Nanosecond wire, 29.98 cm", "cents": 199, "state": "open"}))
        }
        "1004" => Some(json!({"id": 1004, "user": 3, "item": "Fountain pen", "cents": 8_900, "state": "open"})),
        _ => None,
    }
}

fn orders_of(user: Option<&str>) -> Value {
    let all = ORDERS.into_iter().filter_map(order);
    all.filter(|order| user.is_none_or(|user| order["user"].as_u64() == user.parse().ok())).collect()
}

fn permission(id: &str) -> Option<Value> {
    match id {
        "1" => Some(json!({"user": 1, "roles": ["admin"], "permissions": ["users:write", "orders:write"]})),
        "2" => Some(json!({"user": 2, "roles": ["clerk"], "permissions": ["users:read", "orders:write"]})),
        "3" => Some(json!({"user": 3, "roles": ["reader"], "permissions": ["users:read", "orders:read"]})),
        _ => None,
    }
}

fn found(what: &str, id: &str, value: Option<Value>) -> Response {
    match value {
        Some(value) => Json(value).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": format!("{what} {id} does not exist")}))).into_response(),
    }
}

fn no_page(service: &str, request: &Request) -> Response {
    let error = format!("the {service} service has no {}", request.uri().path());
    (StatusCode::NOT_FOUND, Json(json!({"error": error}))).into_response()
}

/// What arrived: repeated header fields are shown as a list.
fn echo(service: &str, request: &Request) -> Json<Value> {
    let headers: Map<String, Value> = request
        .headers()
        .keys()
        .map(|name| {
            let values =
                request.headers().get_all(name).iter().map(|v| Value::from(String::from_utf8_lossy(v.as_bytes())));
            let values: Vec<Value> = values.collect();
            (name.to_string(), if let [one] = values.as_slice() { one.clone() } else { values.into() })
        })
        .collect();
    Json(json!({
        "service": service,
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, target: &str) -> (String, Value) {
        send(address, "GET", target).await
    }

    async fn send(address: SocketAddr, method: &str, target: &str) -> (String, Value) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: demo\r\nx-a: 1\r\nx-a: 2\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.get(9..12).unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn each_service_answers_json() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listeners = Listeners { users: bind().await, orders: bind().await, permissions: bind().await };
            let [users, orders, permissions] = [&listeners.users, &listeners.orders, &listeners.permissions]
                .map(|listener| listener.local_addr().unwrap());
            tokio::spawn(serve(listeners));

            let (status, body) = ask(users, "/user/1").await;
            assert_eq!((status.as_str(), &body["name"]), ("200", &json!("Ada Lovelace")));
            let (status, body) = ask(users, "/user/99").await;
            assert_eq!((status.as_str(), &body["error"]), ("404", &json!("user 99 does not exist")));
            let (_, body) = ask(orders, "/order/1001").await;
            assert_eq!(body["user"], 1);
            let (_, body) = ask(orders, "/orders?user=1").await;
            assert_eq!(body.as_array().unwrap().len(), 2);
            let (status, _) = send(orders, "POST", "/order/service/off").await;
            assert_eq!(status, "200");
            assert_eq!(ask(orders, "/orders?user=1").await.0, "503");
            assert_eq!(ask(users, "/user/1").await.0, "200", "the others work on");
            let _ = send(orders, "POST", "/order/service/on").await;
            assert_eq!(ask(orders, "/orders?user=1").await.0, "200");
            let (_, body) = ask(permissions, "/permission/2").await;
            assert_eq!(body["roles"], json!(["clerk"]));
            let (status, body) = ask(permissions, "/nothing").await;
            assert_eq!((status.as_str(), &body["error"]), ("404", &json!("the permissions service has no /nothing")));
            let (_, body) = ask(orders, "/order/echo?x=%20y").await;
            assert_eq!((&body["service"], &body["target"]), (&json!("orders"), &json!("/order/echo?x=%20y")));
            assert_eq!(body["headers"]["x-a"], json!(["1", "2"]));
        });
    }

    #[test]
    fn the_requests_to_try_name_both_addresses() {
        let text = requests_to_try("127.0.0.1:8080", "127.0.0.1:9900");
        assert!(text.lines().all(|line| line.starts_with("curl ")));
        assert!(text.contains("http://127.0.0.1:8080/user/1") && text.contains("http://127.0.0.1:9900/metrics"));
    }
}
