//! Watching the participants of a field.

use std::sync::Arc;

use tokio::time::Instant;

use super::pending::{Pending, PresenceUpdate};
use super::state::PresenceState;

/// The participants of a field as they come, change and leave: first all that are there.
///
/// Updates of one participant that were not taken yet become one, so a slow watcher costs at most one update for each.
#[derive(Debug)]
pub struct PresenceWatch {
    state: Arc<PresenceState>,
    pending: Arc<Pending>,
}

impl PresenceWatch {
    pub(super) const fn new(state: Arc<PresenceState>, pending: Arc<Pending>) -> Self {
        Self { state, pending }
    }

    /// The next update; `None` when the field is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no update was taken.
    pub async fn next(&mut self) -> Option<PresenceUpdate> {
        loop {
            let taken = self.state.participants.lock().take(&self.pending, Instant::now());
            match taken {
                Ok(Some(update)) => return Some(update),
                Ok(None) => self.pending.wake.notified().await,
                Err(()) => return None,
            }
        }
    }
}
