//! A wave that one consumer has taken.

use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use crate::consumer::attempts::Slot;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::window::{Fate, Pending, Window};
use crate::dead::Attempt;
use crate::store::Record;

/// A wave in flight. Dropped, it is ready again.
#[derive(Debug)]
pub(super) struct Claim {
    window: Arc<Window>,
    pending: Option<Pending>,
    position: u64,
    slot: Option<Slot>,
}

impl Claim {
    /// With the slot for its attempt, unless it is taken for something else.
    pub(super) fn new(window: Arc<Window>, pending: Pending, slot: Option<Slot>) -> Self {
        let position = pending.order.position;
        Self { window, pending: Some(pending), position, slot }
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// The contents of the wave, if they are held. Ready again, it is read again.
    pub(super) fn take_record(&mut self) -> Option<Record> {
        self.pending.as_mut().and_then(|pending| pending.record.take())
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Notes that this attempt begins.
    pub(super) fn begin(&self, attempt: u32) -> io::Result<()> {
        // The number of deliveries in flight allows one.
        let Some(slot) = self.slot else { return Ok(()) };
        self.window.attempts().note(slot, self.position, attempt)
    }

    /// The wave is ready again, and its attempt has not taken place.
    pub(super) fn release(self) {
        if let Some(slot) = self.slot {
            self.window.attempts().forget(slot);
        }
    }

    pub(super) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    pub(super) fn options(&self) -> &ConsumerOptions {
        self.window.options()
    }

    /// Settles waves of one window together.
    pub(super) fn settle(claims: Vec<Self>, fate: Fate) {
        let Some(window) = claims.first().map(|claim| Arc::clone(&claim.window)) else { return };
        window.settle(claims.iter().map(Self::position), fate);
        for mut claim in claims {
            drop(claim.pending.take());
        }
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

    pub(super) fn fail(mut self, attempt: Attempt, is_final: bool) {
        if let Some(pending) = self.pending.take() {
            self.window.delay(pending, attempt, is_final);
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
