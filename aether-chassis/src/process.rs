//! The frame of a service's main function: logging, runtime, signals, exit code.
//!
//! Called by the binaries of the sample services; the services themselves are libraries that only get a token.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use aether_core::Aether;
use tokio_util::sync::CancellationToken;

use crate::service::panics;
use crate::{logging, shutdown};

/// Runs a service: sets up logging, a runtime and the signals, and turns the outcome into an exit code.
///
/// Panics of handlers are printed once a second at most from here on; each is counted in the report of its service.
/// The service gets the token that Ctrl-C or SIGTERM cancels. An error is printed to stderr in one line with its
/// causes, and the code is 1.
pub fn run<F, S, E>(service: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> S,
    S: Future<Output = Result<(), E>>,
    E: Error,
{
    if let Err(error) = logging::init() {
        return failed(&error);
    }
    panics::print_seldom();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(async {
        match shutdown::on_signal() {
            Ok(shutdown) => service(shutdown).await.map_err(|error| error_chain(&error)),
            Err(error) => Err(error_chain(&error)),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => failed_with(&text),
    }
}

fn failed(error: &dyn Error) -> ExitCode {
    failed_with(&error_chain(error))
}

fn failed_with(text: &str) -> ExitCode {
    // A closed stderr must not turn an error into a panic.
    let _ = writeln!(std::io::stderr(), "error: {text}");
    ExitCode::FAILURE
}

/// How long [`close`] waits. With a broker that does not answer, closing takes 3 s: longer than that it takes only while
/// waves are still being confirmed, and whoever ends a process is less patient than [`Aether::close`] may be then.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Closes the medium at the end of a process, within 5 s. What is not settled then is logged: it is no error of the
/// service, whose work is done.
///
/// # Cancel safety
/// Cancelled before completion, the medium may still be sending; receivers end.
pub async fn close(aether: &Aether) {
    match tokio::time::timeout(CLOSE_PATIENCE, aether.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = error_chain(&error), "the medium was closed before all was settled")
        }
        Err(_) => tracing::warn!(
            patience = ?CLOSE_PATIENCE,
            waiting = aether.status().outbox.queued,
            "closing the medium takes too long and is given up: waves that wait are lost when the process ends"
        ),
    }
}

/// An error and its causes in one line: `cannot connect: connection refused`.
///
/// Line breaks become spaces, and a cause that an error has in its own text already is not repeated.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = one_line(&error.to_string());
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    line
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, PoisonError};

    use aether_core::Vibrator;
    use aether_core::conformance::NatsServer;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
        }
    }

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_was_not_settled_with_a_stuck_server_is_logged() {
        for (waves, logged) in [(0, "did not answer"), (1, "the broker did not confirm 1 waves")] {
            let log = Log::default();
            let writer = log.clone();
            let subscriber =
                tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
            let server = NatsServer::start().await.unwrap();
            let aether = Aether::connect(&server.url()).await.unwrap();
            let shop = Vibrator::create("shop", &aether).await.unwrap();
            let pid = server.pid().unwrap().to_string();
            let signal = |name: &str| std::process::Command::new("kill").args([name, &pid]).status().unwrap();
            assert!(signal("-STOP").success());
            // Until then it may go on answering.
            let stopped = nix::sys::wait::waitpid(
                nix::unistd::Pid::from_raw(server.pid().unwrap().try_into().unwrap()),
                Some(nix::sys::wait::WaitPidFlag::WUNTRACED),
            );
            assert!(matches!(stopped, Ok(nix::sys::wait::WaitStatus::Stopped(..))), "{stopped:?}");
            for _ in 0..waves {
                shop.emit_bytes("a", "x").await.unwrap();
            }
            let logging = tracing::subscriber::set_default(subscriber);
            close(&aether).await;
            drop(logging);
            assert!(signal("-CONT").success());
            let text = log.text();
            assert!(text.contains("closed before all was settled") && text.contains(logged), "{text}");
            assert!(!text.contains(" 0 waves"), "{text}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Option<Box<Link>> {
        let (text, rest) = texts.split_first()?;
        Some(Box::new(Link { text, source: chain(rest) }))
    }

    #[test]
    fn causes_stand_in_one_line_and_none_twice() {
        let line = |texts: &[&'static str]| error_chain(&*chain(texts).unwrap());
        assert_eq!(line(&["no order"]), "no order");
        assert_eq!(line(&["no order", "no answer", "timed out"]), "no order: no answer: timed out");
        assert_eq!(line(&["no order: timed out", "timed out"]), "no order: timed out");
        assert_eq!(line(&["two\n  lines", "end\n"]), "two lines: end");
    }
}
