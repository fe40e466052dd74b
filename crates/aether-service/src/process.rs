//! The main function of a service: logging, runtime, signals, exit code.
//!
//! The binaries of the sample services call it. The services themselves are libraries that only receive a shutdown
//! token.

use std::error::Error;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::Duration;

use aether_core::Aether;
use tokio_util::sync::CancellationToken;
use tracing::Dispatch;

use crate::error_chain::error_chain;
use crate::letters::KeptLetters;
use crate::logging::FLUSH_PATIENCE;
use crate::service::panics;
use crate::{connecting, logging, shutdown, telemetry};

/// Runs a service: sets up logging, a runtime and signal handling, and turns the result into an exit code.
///
/// From then on panics of handlers are printed at most once a second; the report of the service counts all of them. A panic
/// elsewhere is logged and cancels the token; the process ends with an account and the exit code 101, after 20 s at the
/// latest. Ctrl-C or SIGTERM cancels the token, and a second one ends the process at once, whatever its threads do. An
/// error, also a `Box<dyn Error>`, is printed to stderr in one line with its causes, and the exit code is 1.
pub fn run<F, S, E>(service: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> S,
    S: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error>>,
{
    match logging::init() {
        Ok(()) => run_logged(service),
        Err(error) => failed(&error),
    }
}

/// Like [`run`], with a subscriber of one's own for the logs instead of the default one, which writes to stderr.
/// [`logging::env_filter`] reads `AETHER_LOG` for it.
///
/// ```no_run
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let filter = aether_service::logging::env_filter().expect("AETHER_LOG is a filter");
/// let subscriber = tracing_subscriber::registry().with(filter).with(tracing_subscriber::fmt::layer().compact());
/// let code = aether_service::run_with(subscriber, async |shutdown| {
///     shutdown.cancelled().await;
///     Ok::<(), std::io::Error>(())
/// });
/// ```
pub fn run_with<F, S, E>(subscriber: impl Into<Dispatch>, service: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> S,
    S: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error>>,
{
    match logging::init_with(subscriber) {
        Ok(()) => run_logged(service),
        Err(error) => failed(&error),
    }
}

fn run_logged<F, S, E>(service: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> S,
    S: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error>>,
{
    let panicked = panics::set_hook();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    // A panic of the service itself ends here, so that the account is still written.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            match shutdown::on_signal() {
                Ok(shutdown) => {
                    tokio::spawn(end_after_a_panic(panicked.clone(), shutdown.clone()));
                    service(shutdown).await.map_err(|error| error_chain(&*error.into()))
                }
                Err(error) => Err(error_chain(&error)),
            }
        })
    }));
    // After the service, whose last lines and spans are exported, too.
    telemetry::end_with_process();
    if panicked.is_cancelled() {
        log_accounts();
    }
    logging::flush(FLUSH_PATIENCE);
    if panicked.is_cancelled() {
        return ExitCode::from(PANICKED);
    }
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(text)) => failed_with(&text),
        // The hook has cancelled the token.
        Err(panic) => resume_unwind(panic),
    }
}

/// The exit code after a panic outside of handlers, as in the standard library.
const PANICKED: u8 = 101;

/// How long the program has to end in an orderly way after a panic outside of handlers.
const PANIC_GRACE: Duration = Duration::from_secs(20);

/// Ends the process after a panic outside of handlers: like a signal does, and at the latest after 20 s.
async fn end_after_a_panic(panicked: CancellationToken, shutdown: CancellationToken) {
    panicked.cancelled().await;
    shutdown.cancel();
    tokio::time::sleep(PANIC_GRACE).await;
    tracing::error!("the program did not end within {PANIC_GRACE:?} after the panic");
    log_accounts();
    logging::flush(FLUSH_PATIENCE);
    std::process::exit(PANICKED.into());
}

/// Logs what the inboxes of this process received. The hook of the panic has kept the buses.
fn log_accounts() {
    for ledger in connecting::buses().accounts() {
        let (offered, delivered, queued, lost) =
            (ledger.offered, ledger.delivered, ledger.queued, ledger.lost());
        tracing::error!(
            offered,
            delivered,
            queued,
            lost,
            "the account of the inboxes after a panic, in waves"
        );
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

/// How long [`close`] waits. With an unresponsive broker [`Aether::close`] takes 3 s; it takes longer only while waves
/// are still being confirmed, and a process that was asked to end should not wait for that.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Closes the medium at the end of a process, within 5 s. Unsettled waves are logged and not an error, because the work
/// of the service is done. So are the dead letters that are kept, which end with the process.
///
/// # Cancel safety
/// Cancelled before completion, the medium may still be sending; receivers end.
pub async fn close(aether: &Aether) {
    match tokio::time::timeout(CLOSE_PATIENCE, aether.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = error_chain(&error), "the medium was closed before all waves were settled")
        }
        Err(_) => tracing::warn!(
            patience = ?CLOSE_PATIENCE,
            waiting = aether.status().outbox.queued,
            "closing the medium took too long; waiting waves are lost when the process ends"
        ),
    }
    let letters = KeptLetters::of(&aether.dead_letters());
    if !letters.is_empty() {
        tracing::warn!("ends with the process: {letters}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, PoisonError};

    #[test]
    fn boxed_errors_end_a_program_like_others() {
        let boxed = || -> Box<dyn Error> { "the shelf is empty".into() };
        assert_eq!(run_logged(async |_| Err::<(), _>(boxed())), ExitCode::FAILURE);
        assert_eq!(run_logged(async |_| Err::<(), _>(std::fmt::Error)), ExitCode::FAILURE);
        assert_eq!(run_logged(async |_| Ok::<(), Box<dyn Error>>(())), ExitCode::SUCCESS);
    }

    use aether_conformance::NatsServer;
    use aether_core::{Kind, Vibrator, Wave};

    /// The captured log.
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
    async fn waves_that_a_stuck_server_did_not_settle_are_logged() {
        for (waves, logged) in [(0, "did not answer"), (1, "the broker did not confirm 1 waves")] {
            let log = Log::default();
            let writer = log.clone();
            let subscriber =
                tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
            let server = NatsServer::start().await.unwrap();
            let aether = aether::connect(&server.url()).await.unwrap();
            let shop = Vibrator::create("shop", &aether).await.unwrap();
            server.stop().await.unwrap();
            for _ in 0..waves {
                shop.emit_bytes("a", "x").await.unwrap();
            }
            let logging = tracing::subscriber::set_default(subscriber);
            // Nothing but its patience ends it.
            tokio::time::pause();
            close(&aether).await;
            tokio::time::resume();
            drop(logging);
            server.resume().unwrap();
            let text = log.text();
            assert!(text.contains("closed before all waves were settled") && text.contains(logged), "{text}");
            assert!(!text.contains(" 0 waves"), "{text}");
        }
    }

    #[tokio::test]
    async fn letters_that_end_with_the_process_are_logged() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let aether = Aether::local();
        close(&aether).await;
        assert_eq!(log.text(), "", "nothing is kept");
        let aether = Aether::local();
        let shop = aether.emitter("shop").unwrap();
        shop.emit(Wave::builder("orders.pay").kind(Kind::Command).build().unwrap()).await.unwrap();
        close(&aether).await;
        let kept = "ends with the process: dead letters: 1 buried = 1 kept + 0 taken + 0 overflowed \
                    (kept: 1 orders.pay no_resonator)";
        assert!(log.text().contains(kept), "{}", log.text());
    }
}
