//! A bounded wait for something that needs others.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Flushing and closing give up after this long even with continuous progress. An outbox that is emptied this slowly is not
/// empty before the person ending the process loses patience.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// Waits for something. Gives up when there is no progress for the `patience` of that moment, and after
/// `SETTLE_WITHIN` in any case. The error is the time limit that was exceeded.
///
/// Cancel safety: as `wait`.
pub async fn patiently<T>(
    mut progress: watch::Receiver<u64>,
    patience: impl Fn() -> Duration,
    wait: impl Future<Output = T>,
) -> Result<T, Duration> {
    let waiting = async {
        let mut wait = pin!(wait);
        loop {
            progress.borrow_and_update();
            let patience = patience();
            tokio::select! {
                biased;
                done = &mut wait => return Ok(done),
                moved = timeout(patience, progress.changed()) => if moved.is_err() { return Err(patience) },
            }
        }
    };
    timeout(SETTLE_WITHIN, waiting).await.unwrap_or(Err(SETTLE_WITHIN))
}
