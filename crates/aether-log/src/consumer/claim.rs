//! A wave that one consumer has taken.

use std::sync::Arc;

use tokio::time::Instant;

use crate::consumer::window::{Fate, Pending, Window};
use crate::dead::Attempt;

/// A wave in flight. Dropped, it is ready again.
#[derive(Debug)]
pub(super) struct Claim {
    window: Arc<Window>,
    pending: Option<Pending>,
    position: u64,
}

impl Claim {
    pub(super) fn new(window: Arc<Window>, pending: Pending) -> Self {
        let position = pending.order.position;
        Self { window, pending: Some(pending), position }
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn settle(mut self, fate: Fate) {
        self.pending = None;
        self.window.settle(self.position, fate);
    }

    /// The wave waits for its key.
    pub(super) fn hold_back(mut self, until: Instant) {
        if let Some(pending) = self.pending.take() {
            self.window.hold_back(pending, until);
        }
    }

    /// The wave is ready again, now that its key is known.
    pub(super) fn give_back_with_key(mut self, key: Option<Arc<str>>) {
        if let Some(pending) = &mut self.pending {
            pending.order.key = key;
        }
    }

    pub(super) fn fail(mut self, attempt: Attempt, is_final: bool, until: impl FnOnce(u32) -> Instant) {
        if let Some(pending) = self.pending.take() {
            self.window.delay(pending, attempt, is_final, until);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.window.put_back(pending);
        }
    }
}
