//! What keeps the waves of an emitter back before they have a number, with the counts of those.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::emission::EmissionRate;

/// Floors that are respected, or a limit. Emitters without either have none.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) respects_floors: bool,
    pub(super) rate: Option<EmissionRate>,
    /// Waves that no receiver would have heard.
    pub(super) stopped: AtomicU64,
    /// Waves whose turn did not come.
    pub(super) limited: AtomicU64,
}

impl Guard {
    /// A wave begins to wait for its turn.
    pub(super) const fn turn(&self) -> Turn<'_> {
        Turn(Some(self))
    }
}

/// A wave that waits for its turn. Dropped before that came, it counts as refused by the limit.
pub(super) struct Turn<'a>(Option<&'a Guard>);

impl Turn<'_> {
    pub(super) fn came(mut self) {
        self.0 = None;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(guard) = self.0 {
            guard.limited.fetch_add(1, Ordering::Relaxed);
        }
    }
}
