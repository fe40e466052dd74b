//! How long a server may be away before nobody waits for it any more.

use std::time::Duration;

use tokio::time::timeout;

use super::Link;

/// Closing and flushing give up after this long without any progress while the connection is down, and so does what was dropped.
pub(in super::super) const AWAY_PATIENCE: Duration = Duration::from_millis(500);

impl Link {
    /// Waits until the server stays away for as long as closing waits for it.
    pub(in super::super) async fn stays_away(&self) {
        let mut away = self.away.subscribe();
        loop {
            // Both would fail only if `self` had been dropped.
            let _ = away.wait_for(|away| *away).await;
            if timeout(AWAY_PATIENCE, away.wait_for(|away| !*away)).await.is_err() {
                return;
            }
        }
    }
}
