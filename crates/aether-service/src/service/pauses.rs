//! The waves of a set that pause before they are handled again.
//!
//! They occupy no place of the concurrency: a dependency that is broken must not keep the waves waiting that do not need it.
//! The loops of handlers own them (`serve_loop.rs`, `batch_loop.rs`).

use std::task::{Context, Poll, ready};

use aether_core::Wave;
use tokio::task::{JoinError, JoinSet};

use super::attempt::Again;

/// While this many waves of a set pause, or wait to be reported, it takes no others out of its inbox, whose bounds then
/// hold.
const MOST: usize = 1024;

/// Failed attempts in the pause before the next one.
#[derive(Default)]
pub(super) struct Pauses(JoinSet<Again>);

impl Pauses {
    /// Whether the set may take another wave, beside `others` that wait to be reported.
    pub(super) fn leave_room_beside(&self, others: usize) -> bool {
        self.0.len() + others < MOST
    }

    /// Begins the pause before the next attempt.
    pub(super) fn begin(&mut self, again: Again) {
        self.0.spawn(again.paused());
    }

    /// The next wave to put back into the inbox; pending also while none pauses.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Wave> {
        loop {
            match ready!(self.0.poll_join_next(context)) {
                Some(ended) => {
                    if let Some(again) = unless_panicked(ended) {
                        return Poll::Ready(again.into_wave());
                    }
                }
                None => return Poll::Pending,
            }
        }
    }

    /// Ends all pauses without another attempt. They are short now, because the service ends.
    pub(super) async fn give_up(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Some(again) = unless_panicked(ended) {
                again.give_up().await;
            }
        }
    }

    /// Drops the attempts that are left.
    pub(super) fn abort(&mut self) {
        self.0.abort_all();
    }
}

/// The result of a task. A panic here is outside of handlers and layers; its wave was counted when the task unwound.
pub(super) fn unless_panicked<T>(ended: Result<T, JoinError>) -> Option<T> {
    ended.inspect_err(|error| tracing::error!(%error, "a task of a service panicked")).ok()
}
