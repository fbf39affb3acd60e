//! The config of a scenario's gateway, put together from the parts that the scenario names; everything else is small
//! and the same everywhere: one worker, log to a file, ports of its own.

use super::{Gateway, Upstream, tls};
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct Setup {
    workers: Option<String>,
    log: Option<String>,
    log_keys: Option<String>,
    pub descriptors: Option<u32>,
    pub env: Vec<(String, String)>,
    /// The listener speaks no TLS, whatever run this is.
    pub is_plain: bool,
    /// Another program than ringway's own.
    pub binary: Option<PathBuf>,
    top: Vec<String>,
    listener: Vec<String>,
    others: Vec<String>,
    upstreams: Vec<String>,
    routes: Vec<String>,
}

impl Setup {
    pub fn new() -> Setup {
        Setup::default()
    }

    /// Everything goes to one upstream.
    pub fn forward(upstream: &Upstream) -> Setup {
        Setup::new().upstream("u", &[upstream], "").forward_all("")
    }

    /// Another program that has all of ringway's commands.
    pub fn binary(mut self, path: &Path) -> Setup {
        self.binary = Some(path.into());
        self
    }

    pub fn workers(mut self, workers: &str) -> Setup {
        self.workers = Some(workers.into());
        self
    }

    /// The access log goes elsewhere than to the scenario's file: `stdout`, `off`.
    pub fn log(mut self, to: &str) -> Setup {
        self.log = Some(to.into());
        self
    }

    /// Keys of the access log instead of `format: json`.
    pub fn log_keys(mut self, keys: &str) -> Setup {
        self.log_keys = Some(keys.into());
        self
    }

    /// The process may have no more descriptors than this.
    pub fn descriptors(mut self, n: u32) -> Setup {
        self.descriptors = Some(n);
        self
    }

    /// The listener speaks no TLS, whatever run this is. The upstreams are as in every scenario.
    pub fn plain(mut self) -> Setup {
        self.is_plain = true;
        self
    }

    /// A top-level line, as `drain: 1s`.
    pub fn top(mut self, line: &str) -> Setup {
        self.top.push(line.into());
        self
    }

    /// A key of the listener, as `timeouts: { keep_alive: 1s }`.
    pub fn listener(mut self, key: &str) -> Setup {
        self.listener.push(key.into());
        self
    }

    /// A second listener, as a flow map without its braces.
    pub fn another_listener(mut self, keys: &str) -> Setup {
        self.others.push(format!("  - {{ {keys} }}\n"));
        self
    }

    /// An upstream of the given endpoints, with further keys as in a flow map.
    pub fn upstream(self, name: &str, endpoints: &[&Upstream], keys: &str) -> Setup {
        let endpoints: Vec<String> = endpoints.iter().map(|u| format!("\"{}\"", u.addr)).collect();
        self.upstream_at(name, &format!("[{}]", endpoints.join(", ")), keys)
    }

    /// The same with endpoints as written in the config.
    pub fn upstream_at(self, name: &str, endpoints: &str, keys: &str) -> Setup {
        let tls = tls::of_upstream();
        let comma = if keys.is_empty() || tls.is_empty() { "" } else { ", " };
        self.plain_upstream_at(name, endpoints, &format!("{keys}{comma}{tls}"))
    }

    /// The same, spoken to without TLS, whatever run this is.
    pub fn plain_upstream_at(mut self, name: &str, endpoints: &str, keys: &str) -> Setup {
        let comma = if keys.is_empty() { "" } else { ", " };
        self.upstreams.push(format!("{name}: {{ endpoints: {endpoints}{comma}{keys} }}"));
        self
    }

    /// A route as a flow map without its braces.
    pub fn route(mut self, route: &str) -> Setup {
        self.routes.push(format!("- {{ {route} }}"));
        self
    }

    /// A route `all` that sends everything to upstream `u`, with further keys of the route.
    pub fn forward_all(self, keys: &str) -> Setup {
        let comma = if keys.is_empty() { "" } else { ", " };
        self.route(&format!("name: all, match: {{ path: \"/{{*rest}}\" }}, forward: {{ upstream: u }}{comma}{keys}"))
    }

    /// A route that forwards `path` to upstream `u`, with further keys of `forward`.
    pub fn forward_path(self, path: &str, forward_keys: &str) -> Setup {
        let comma = if forward_keys.is_empty() { "" } else { ", " };
        self.route(&format!("match: {{ path: \"{path}\" }}, forward: {{ upstream: u{comma}{forward_keys} }}"))
    }

    pub fn start(self) -> Gateway {
        Gateway::start(self)
    }

    /// A variable in the environment of the gateway.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Asserts that the gateway refuses this config, and gives what it says.
    pub fn refused(self) -> String {
        let dir = super::temp_dir("refused");
        let config = dir.join("gateway.yaml");
        let yaml = self.yaml(super::free_port(), super::free_port(), &dir.join("access.log"));
        std::fs::write(&config, &yaml).unwrap();
        let (code, _, stderr) = super::gateway::run(&["run", "-c", config.to_str().unwrap()]);
        assert_eq!(code, 1, "{stderr}\n{yaml}");
        stderr
    }

    pub fn yaml(&self, port: u16, admin: u16, log: &Path) -> String {
        let mut yaml = format!(
            "workers: {}\nadmin: {{ address: \"127.0.0.1:{admin}\" }}\nobserve: {{ access_log: {{ to: {}, {} }} }}\n",
            self.workers.as_deref().unwrap_or("1"),
            self.log.clone().unwrap_or_else(|| log.display().to_string()),
            self.log_keys.as_deref().unwrap_or("format: json"),
        );
        for line in &self.top {
            yaml.push_str(line);
            yaml.push('\n');
        }
        yaml.push_str(&format!("listeners:\n  - name: public\n    address: \"127.0.0.1:{port}\"\n"));
        if !self.is_plain {
            yaml.push_str(&format!("    {}\n", tls::of_listener()));
        }
        for key in &self.listener {
            yaml.push_str(&format!("    {key}\n"));
        }
        yaml.extend(self.others.iter().map(String::as_str));
        for (block, lines) in [("upstreams", &self.upstreams), ("routes", &self.routes)] {
            if !lines.is_empty() {
                yaml.push_str(&format!("{block}:\n"));
            }
            for line in lines {
                yaml.push_str(&format!("  {line}\n"));
            }
        }
        yaml
    }
}
