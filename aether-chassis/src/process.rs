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

/// How long [`close`] waits for a broker that does not answer: a process that was told to end shall be gone within a
/// second.
const CLOSE_PATIENCE: Duration = Duration::from_millis(250);

/// Closes the medium at the end of a process. What could not be sent in a short time is logged: it is no error of the
/// service, whose work is done.
///
/// # Cancel safety
/// Cancelled before completion, the medium may still be sending.
pub async fn close(aether: &Aether) {
    match tokio::time::timeout(CLOSE_PATIENCE, aether.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = error_chain(&error), "the last waves may not have left"),
        Err(_) => {
            tracing::warn!(patience = ?CLOSE_PATIENCE, "the broker is away: the last waves may not have left")
        }
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
