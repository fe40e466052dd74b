//! A watchdog for a stdout that nobody reads. A full pipe blocks the write and with it the command, which then could
//! not react to a signal.
//!
//! All writes happen inside of [`writing`]. [`run`] runs beside the command and ends the process when the command is
//! blocked.

use std::io::{Write as _, stderr};
use std::time::Duration;

use aether_service::CancellationToken;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The time limit of a write after a shutdown signal. A reader empties a full pipe within milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// The start of the current write.
static SINCE: Mutex<Option<Instant>> = Mutex::new(None);
static BEGUN: Notify = Notify::const_new();

/// Runs a write to stdout. Only one task writes.
pub(crate) fn writing<T>(write: impl FnOnce() -> T) -> T {
    *SINCE.lock() = Some(Instant::now());
    BEGUN.notify_one();
    let written = write();
    *SINCE.lock() = None;
    written
}

/// After `shutdown`, ends the process with code 1 if a write takes too long. Otherwise it never returns.
///
/// Cancel safety: cancelled before completion, it has no effect.
pub(crate) async fn run(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    let signalled = Instant::now();
    loop {
        let since = *SINCE.lock();
        let Some(since) = since else {
            BEGUN.notified().await;
            continue;
        };
        sleep_until(since.max(signalled) + PATIENCE).await;
        if *SINCE.lock() == Some(since) {
            let _ = writeln!(stderr(), "error: stdout: nobody reads it; the last waves were not printed");
            std::process::exit(1);
        }
    }
}
