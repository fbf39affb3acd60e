//! `forward.upgrade`: the protocols that a client's connection may switch to.

use super::decode::Value;
use crate::http::head::is_token;
use crate::http::upgrade::REQUESTS_AGAIN;
use crate::value::Invalid;

/// What may pass without being named: what nearly every service has, and what peers pass.
pub(super) const DEFAULT: &str = "websocket";

const PROTOCOLS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 64;

/// Names in small letters, each once; none for `off`, or where they are wrong, which is recorded.
pub(super) fn decode(value: &Value<'_>) -> Vec<String> {
    let names = value.or_word("off", |v| v.each_once(1..=PROTOCOLS_MAX, |v| v.parse(name), String::as_str));
    names.flatten().unwrap_or_default()
}

fn name(text: &str) -> Result<String, Invalid> {
    let name = text.to_ascii_lowercase();
    if REQUESTS_AGAIN.contains(&name.as_str()) {
        let what = "can not be let through: requests follow, which no filter would see";
        return Err(Invalid::new(what, "remove it: such clients go on without an upgrade"));
    }
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_token) {
        return Err(Invalid::new("is not a protocol", "a name without a version, like websocket"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::routes::Action;
    use crate::config::{Config, parse};

    fn read(forward: &str, timeouts: &str) -> Result<Config, String> {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:80 }}]\n\
             upstreams: {{ u: {{ endpoints: [127.0.0.1:1], timeouts: {{ {timeouts} }} }} }}\n\
             routes: [{{ match: {{ path: /a }}, forward: {{ upstream: u{forward} }} }}]"
        );
        parse("f", &text, &|_| None).map_err(|e| e.to_string())
    }

    fn upgrade(forward: &str) -> Vec<String> {
        let config = read(forward, "").unwrap();
        let Action::Forward(forward) = &config.routes[0].action else { panic!() };
        forward.upgrade.clone()
    }

    #[test]
    fn websockets_pass_unless_the_operator_says_otherwise() {
        assert_eq!(upgrade(""), ["websocket"]);
        assert_eq!(upgrade(", upgrade: [WebSocket, spdy-ish]"), ["websocket", "spdy-ish"]);
        assert!(upgrade(", upgrade: off").is_empty());
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (forward, expected) in [
            (", upgrade: [h2c]", "f:3:67: routes[0].forward.upgrade[0]: `h2c` can not be let through"),
            (", upgrade: [HTTP]", "requests follow, which no filter would see"),
            (", upgrade: [websocket/13]", "is not a protocol (a name without a version, like websocket)"),
            (", upgrade: [websocket, WEBSOCKET]", "`websocket` is listed twice"),
            (", upgrade: []", "upgrade"),
            (", upgrade: websocket", "upgrade"),
            (", upgrade: [a b]", "is not a protocol"),
        ] {
            let error = read(forward, "").unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{forward}: {error}");
        }
    }

    #[test]
    fn a_silent_tunnel_ends_within_a_day() {
        let idle = |text: &str| read("", text).map(|config| config.upstreams[0].timeouts.tunnel_idle.get().as_secs());
        assert_eq!((idle(""), idle("tunnel_idle: 24h")), (Ok(3600), Ok(86_400)));
        assert!(
            idle("tunnel_idle: 25h").is_err() && idle("tunnel_idle: none").is_err() && idle("tunnel_idle: 0s").is_err()
        );
    }
}
