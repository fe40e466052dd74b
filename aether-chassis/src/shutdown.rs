//! Shutdown: one token that everything in a process listens to.
//!
//! The main function makes the token; services take it as an argument and know nothing of signals, so that tests and
//! the command line can end them in the same way.

use std::io;

use tokio_util::sync::CancellationToken;

/// The exit code after a second signal, as shells have it for a program ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// A token that the first Ctrl-C or SIGTERM cancels. A second signal ends the process at once with code 130.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// The operating system's error if the signals cannot be listened to.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "shutting down; once more to quit at once");
        token.cancel();
        let signal = signals.next().await;
        tracing::warn!(signal, "quitting at once");
        std::process::exit(INTERRUPTED);
    });
    Ok(shutdown)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
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
            _ = self.ctrl_c.recv() => "Ctrl-C",
            _ = self.ctrl_break.recv() => "Ctrl-Break",
        }
    }
}
