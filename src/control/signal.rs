//! What the operator says with signals.

use std::io;

use tokio::select;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// First SIGTERM or SIGINT: stop accepting, finish what runs, exit 0.
    Drain,
    /// Any further SIGTERM or SIGINT: exit now.
    ExitNow,
    /// SIGUSR1, or SIGHUP of a service: open the access log anew, it was rotated.
    Reopen,
}

/// What SIGHUP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// [`Signal::Reopen`], as log rotation expects of a service.
    Reopen,
    /// The terminal is gone, and with it the reason to run: the same as SIGTERM.
    Drain,
}

/// The process's signals. Make it before the first worker starts: until then the default action ends the process.
#[derive(Debug)]
pub struct Signals {
    term: Stream,
    int: Stream,
    hup: Stream,
    usr1: Stream,
    hangup: Hangup,
    draining: bool,
}

impl Signals {
    /// Takes over the signals, within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub fn listen(hangup: Hangup) -> io::Result<Self> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            hangup,
            draining: false,
        })
    }

    /// The next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        select! {
            _ = self.term.recv() => self.stop(),
            _ = self.int.recv() => self.stop(),
            _ = self.hup.recv() => match self.hangup {
                Hangup::Reopen => Signal::Reopen,
                Hangup::Drain => self.stop(),
            },
            _ = self.usr1.recv() => Signal::Reopen,
        }
    }

    /// Waits for a signal that ends the process. Cancel safe; meant for the start, when there is no log to open anew.
    pub async fn end(&mut self) {
        while self.next().await == Signal::Reopen {}
    }

    fn stop(&mut self) -> Signal {
        if std::mem::replace(&mut self.draining, true) { Signal::ExitNow } else { Signal::Drain }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::process::{Signal as Kill, getpid, kill_process};

    #[test]
    fn the_second_stop_means_now_and_usr1_means_reopen() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = Signals::listen(Hangup::Reopen).unwrap();
            for (sent, expected) in [
                (Kill::USR1, Signal::Reopen),
                (Kill::TERM, Signal::Drain),
                (Kill::HUP, Signal::Reopen),
                (Kill::INT, Signal::ExitNow),
            ] {
                kill_process(getpid(), sent).unwrap();
                assert_eq!(signals.next().await, expected);
            }
            let mut signals = Signals::listen(Hangup::Drain).unwrap();
            kill_process(getpid(), Kill::HUP).unwrap();
            assert_eq!(signals.next().await, Signal::Drain);
        });
    }
}
