//! A stdout that nobody reads: a pipe that is full holds the write up, and with it the command, which then would not hear
//! that it shall end.
//!
//! Writes are done inside of [`writing`]; [`run`] runs beside the command and ends the process where the command cannot.

use std::io::{Write as _, stderr};
use std::time::Duration;

use aether_chassis::CancellationToken;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a write may take once the command was told to end. A reader takes milliseconds for what fits into a pipe.
const PATIENCE: Duration = Duration::from_millis(500);

/// Since when something is being written.
static SINCE: Mutex<Option<Instant>> = Mutex::new(None);
static BEGUN: Notify = Notify::const_new();

/// Writes to stdout. There is one task that does.
pub(crate) fn writing<T>(write: impl FnOnce() -> T) -> T {
    *SINCE.lock() = Some(Instant::now());
    BEGUN.notify_one();
    let written = write();
    *SINCE.lock() = None;
    written
}

/// Ends the process with code 1 if it was told to end and a write takes too long for that. Else it never returns.
///
/// Cancel safety: cancelled before completion, nothing has happened.
pub(crate) async fn run(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    let told = Instant::now();
    loop {
        let since = *SINCE.lock();
        let Some(since) = since else {
            BEGUN.notified().await;
            continue;
        };
        sleep_until(since.max(told) + PATIENCE).await;
        if *SINCE.lock() == Some(since) {
            let _ = writeln!(stderr(), "error: stdout: nobody reads it; the last waves were not printed");
            std::process::exit(1);
        }
    }
}
