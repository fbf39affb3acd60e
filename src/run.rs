//! The `ringway` command: arguments → config → control → workers → wait → drain.

use std::future::pending;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use crate::config::{self, Config};
use crate::control::{self, Control, Hangup, Signals, counted, demo};
use crate::limit::Promise;
use crate::plugin;
use crate::socket::SocketName;
use crate::worker;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// The config of `ringway demo`.
const DEMO: &str = include_str!("../config/demo.yaml");

/// An API gateway for Linux: one pinned, shared-nothing io_uring runtime per core.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 all is well, 1 the config or the start failed, 2 wrong usage.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    ///
    /// Until SIGTERM or SIGINT; a second one ends it at once. SIGUSR1 and SIGHUP re-open the access log.
    Run {
        /// The config (YAML); config/gateway.yaml shows every key
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say everything that is wrong with a config
    ///
    /// With file, line and column, and exit code 1. Of a config that is right, what can pass each rate limit at worst.
    Check {
        /// The config (YAML)
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// How many gateways share the rate limits through Redis, for what can pass at worst
        #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        processes: u64,
        /// Print the config as it takes effect instead: YAML with every default written out, and without secrets
        #[arg(long)]
        print: bool,
    },
    /// Say what the gateway would do with a request
    ///
    /// The route that it takes and why not the others, its filters, what the upstream gets, deadlines; no connection is
    /// opened. Exit code 1 if no route is taken, 2 if the config is wrong.
    Explain(cli::explain::Options),
    /// Say whether this machine is fit for the gateway, and what to do where it is not
    ///
    /// Exit code 1 if there is an error.
    Doctor {
        /// The config (YAML) that is to run here
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of the config, by which editors complete and check it
    Schema,
    /// Print the completions of a shell
    ///
    /// To try them: `source <(ringway completions bash)`, the same for zsh after `compinit`, and
    /// `ringway completions fish | source`. To keep them, write them to /etc/bash_completion.d/ringway, to _ringway in a
    /// directory of zsh's $fpath, or to ~/.config/fish/completions/ringway.fish.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    ///
    /// To read it: `ringway man | man -l -`.
    Man,
    /// List the plugins that are compiled in
    Plugins,
    /// Run the gateway with three embedded services behind it, and print requests to try
    ///
    /// On 127.0.0.1:8080.
    Demo,
}

/// Runs the command that the process was started with, with these plugins beside the filters of ringway itself: all that a
/// gateway's `main` does. It takes over the process, and comes back only where nothing was started.
#[must_use]
pub fn run(plugins: plugin::Registry) -> ExitCode {
    let command = Args::parse().command;
    let load = |path: &Path| plugins.check().and_then(|()| config::load(path, &plugins).map_err(|e| e.to_string()));
    let done = match command {
        Command::Run { config } => serve(|| load(&config), false),
        Command::Check { config, processes, print } => {
            plugins.check().and_then(|()| check(&config, processes, print, &plugins)).map(|text| say(&text))
        }
        Command::Explain(options) => return explain(&options, load(&options.config)),
        Command::Doctor { config } => config.as_deref().map(load).transpose().map(|config| doctor(config.as_ref())),
        Command::Schema => plugins.check().map(|()| say(&config::json_schema(&plugins.list().collect::<Vec<_>>()))),
        Command::Completions { shell } => Ok(say(&cli::help::completions(Args::command(), shell))),
        Command::Man => cli::help::man(&Args::command()).map(|text| say(&text)),
        Command::Plugins => plugins.check().map(|()| list(&plugins)),
        Command::Demo => {
            let parsed = config::parse("demo.yaml", DEMO, &|_| None);
            serve(|| parsed.map_err(|e| e.to_string()), true)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(what) => {
            let _ = writeln!(std::io::stderr(), "{what}");
            ExitCode::from(1)
        }
    }
}

/// Prints what was asked for.
fn say(text: &str) -> u8 {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => 0,
        // Who stops reading has what they wanted.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "standard output: {e}");
            1
        }
    }
}

fn list(plugins: &plugin::Registry) -> u8 {
    let width = plugins.list().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = plugins.list().map(|(name, about)| format!("{name:width$}  {about}\n")).collect();
    match lines.as_slice() {
        [] => say("no plugins are compiled in\n"),
        lines => say(&lines.concat()),
    }
}

fn explain(options: &cli::explain::Options, config: Result<Config, String>) -> ExitCode {
    match config.and_then(|config| cli::explain::run(options, &config)) {
        Ok((text, code)) => ExitCode::from(code.max(say(&text))),
        Err(what) => {
            let _ = writeln!(std::io::stderr(), "{what}");
            ExitCode::from(2)
        }
    }
}

fn doctor(config: Option<&Config>) -> u8 {
    raise_open_files();
    let diagnosis = control::doctor::examine(config);
    let said = say(&diagnosis.to_string());
    said.max(u8::from(diagnosis.level() == control::doctor::Level::Error))
}

/// What is said of a config that is right.
fn check(path: &Path, processes: u64, print: bool, plugins: &plugin::Registry) -> Result<String, String> {
    let name = path.display().to_string();
    let env = |name: &str| std::env::var(name).ok();
    // Read once: it may come through a pipe.
    let read = config::read_text(path).map_err(|e| e.to_string())?;
    let config = &config::parse_with(&name, &read, &env, plugins).map_err(|e| e.to_string())?;
    let (snapshot, _) = cli::snapshot(config)?;
    if print {
        return config::effective(&name, &read, &env, plugins).map_err(|e| e.to_string());
    }
    let listeners = counted(config.listeners.len(), "listener");
    let (routes, upstreams) = (counted(config.routes.len(), "route"), counted(config.upstreams.len(), "upstream"));
    let mut text = format!("{}: ok: {listeners}, {routes}, {upstreams}\n", path.display());
    for limit in &snapshot.rate_limits {
        text += &format!("\nThe rate limit `{}`, of each key:\n", limit.name);
        for line in Promise::new(limit.spec, processes).describe() {
            text += &format!("  {line}\n");
        }
    }
    Ok(text)
}

fn serve(load: impl FnOnce() -> Result<Config, String>, is_demo: bool) -> Result<u8, String> {
    raise_open_files();
    crate::io::let_long_files_fail();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|e| format!("the control runtime can not start: {e}; check the limit of open files (`ulimit -n`)"))?;
    let hangup = if is_demo { Hangup::Drain } else { Hangup::Reopen };
    control::say_panics();
    let done = runtime.block_on(async {
        // Before anything that takes time: until then a signal that is meant for the log ends the process.
        let signals = Signals::listen(hangup).map_err(|e| format!("signals: {e}"))?;
        let config = load()?;
        let admin = config.admin.as_ref().map(|admin| admin.address.clone());
        let services = if is_demo { Some(demo_listeners().await?) } else { None };
        let Some((control, starts)) = control::prepare(config, signals).await? else { return Ok(0) };
        for start in starts {
            worker::start(start).map_err(|e| format!("a worker's thread can not start: {e}"))?;
        }
        let text = ready_text(&control, admin.as_ref(), is_demo);
        let beside = async {
            match services {
                Some(services) => drop(demo::serve(services).await),
                None => pending().await,
            }
        };
        Ok(control.run(beside, || control::say(text)).await)
    });
    let code = done.unwrap_or_else(|what: String| {
        // At once: what is said while it runs never waits for who reads it, and may not be read by the end.
        let _ = writeln!(std::io::stderr(), "{what}");
        1
    });
    control::last_words();
    // Not a return: a runtime dropped with operations in flight frees buffers that the kernel may still write to.
    std::process::exit(i32::from(code));
}

fn ready_text(control: &Control, admin: Option<&SocketName>, is_demo: bool) -> String {
    let url = |name: &SocketName, is_tls: bool| match name {
        SocketName::Ip(address) => format!("http{}://{address}", if is_tls { "s" } else { "" }),
        SocketName::Unix(_) => name.to_string(),
    };
    let listening: Vec<String> = control.addresses().iter().map(|(name, is_tls)| url(name, *is_tls)).collect();
    let mut text = format!("ringway: listening on {}", listening.join(", "));
    if let Some(admin) = admin {
        text += &format!(", admin on {}", url(admin, false));
    }
    text.push('\n');
    if let (true, Some(gateway), Some(admin)) = (is_demo, control.addresses().first(), admin) {
        let requests = demo::requests_to_try(&gateway.0.to_string(), &admin.to_string());
        text += &format!("\nTry:\n\n{requests}\nThe JSON lines that follow are its access log, one per request.\n\n");
    }
    text
}

async fn demo_listeners() -> Result<demo::Listeners, String> {
    let bind = async |port: u16| {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
        listener.map_err(|e| format!("demo service: 127.0.0.1:{port}: {e}; stop what listens there"))
    };
    Ok(demo::Listeners { users: bind(9101).await?, orders: bind(9102).await?, permissions: bind(9103).await? })
}

/// The soft limit of open files is for programs that use select(2); the hard one is what the operator allows.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }); // then the soft one stays
}
