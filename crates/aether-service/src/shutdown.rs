//! Shutdown: one cancellation token for the whole process.
//!
//! The main function makes the token. Services take it as an argument and do not handle signals, so that tests and the
//! command line can stop them in the same way.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{logging, service_manager};

/// The exit code after a second signal. Shells use the same code for a program ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// The same signal twice within this time counts once. `timeout` signals the process and then its group, and
/// supervisors forward a signal that the terminal has already sent.
const ECHO: Duration = Duration::from_millis(100);

/// How long a line about a signal may take. Where nobody reads the log, the signal counts nevertheless.
const SAYING: Duration = Duration::from_millis(100);

/// The same for the last line, which is not written if the process ends before.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Returns a token that the first Ctrl-C, SIGTERM or SIGHUP cancels. A second signal ends the process at once with code
/// 130. A repetition of the same signal within 0.1 s is ignored.
///
/// Signals are heard by a thread of their own, so that they count also while all workers of the runtime are blocked.
///
/// # Errors
/// The operating system's error if signal handlers cannot be installed.
pub fn on_signal() -> io::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (token, (listening, listened)) = (shutdown.clone(), mpsc::channel());
    let hear = move || {
        let listens =
            tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
                let signals = runtime.block_on(async { Signals::listen() })?;
                Ok((runtime, signals))
            });
        let ready = match listens {
            Ok(ready) => ready,
            Err(error) => return drop(listening.send(Err(error))),
        };
        // The other end waits for it.
        let _ = listening.send(Ok(()));
        let (runtime, signals) = ready;
        runtime.block_on(hear(signals, &token));
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(hear)?;
    listened.recv().map_err(io::Error::other)??;
    Ok(shutdown)
}

async fn hear(mut signals: Signals, shutdown: &CancellationToken) {
    let signal = signals.next().await;
    say(SAYING, move || tracing::info!(signal, "shutting down; signal again to quit at once"));
    service_manager::stopping();
    shutdown.cancel();
    let (first, since) = (signal, Instant::now());
    let mut signal = signals.next().await;
    while is_echo(signal, first, since.elapsed()) {
        signal = signals.next().await;
    }
    say(LAST_WORDS, move || {
        tracing::warn!(signal, "quitting at once");
        logging::flush(LAST_WORDS);
    });
    std::process::exit(INTERRUPTED);
}

/// Logs a line, in a thread that may be blocked by a subscriber of the author.
fn say(patience: Duration, line: impl FnOnce() + Send + 'static) {
    let (said, done) = mpsc::channel();
    let saying = std::thread::Builder::new().spawn(move || {
        line();
        // Nobody may wait any more.
        let _ = said.send(());
    });
    if saying.is_ok() {
        let _ = done.recv_timeout(patience);
    }
}

/// Whether a signal repeats the first one, instead of being a second request.
fn is_echo(signal: &str, first: &str, after: Duration) -> bool {
    signal == first && after < ECHO
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// The terminal was closed. `nohup` has it ignored, and then it stays so.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = hung_up(&mut self.hangup) => "SIGHUP",
        }
    }
}

#[cfg(unix)]
async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process was started with SIGHUP ignored. Only Linux reports this without unsafe code.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    const HANGUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP != 0)
}

#[cfg(windows)]
struct Signals {
    ctrl_c: tokio::signal::windows::CtrlC,
    ctrl_break: tokio::signal::windows::CtrlBreak,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        Ok(Self { ctrl_c: ctrl_c()?, ctrl_break: ctrl_break()? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.ctrl_c.recv() => "Ctrl-C",
            _ = self.ctrl_break.recv() => "Ctrl-Break",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_repeated_at_once_is_one_request() {
        let echo = |signal, after| is_echo(signal, "SIGTERM", Duration::from_millis(after));
        assert!(echo("SIGTERM", 0) && echo("SIGTERM", 99));
        assert!(!echo("SIGTERM", 100) && !echo("SIGINT", 0));
    }
}
