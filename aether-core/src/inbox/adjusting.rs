//! Changing the floor and the bounds of an inbox that is in use.

use std::sync::atomic::Ordering;
use std::task::Waker;

use super::Inbox;
use super::control::Adjustable;
use crate::amplitude::Floor;

impl Inbox {
    /// The configured floor.
    #[inline]
    pub(crate) fn floor(&self) -> Floor {
        self.live.floor()
    }

    /// The capacity in waves.
    #[inline]
    pub(super) fn max_waves(&self) -> usize {
        self.live.max_waves.load(Ordering::Relaxed)
    }

    /// The capacity in bytes.
    #[inline]
    pub(super) fn max_bytes(&self) -> usize {
        self.live.max_bytes.load(Ordering::Relaxed)
    }
}

impl Adjustable for Inbox {
    fn set_floor(&self, floor: Floor) {
        self.live.set_floor(floor);
    }

    fn resize(&self, max_waves: usize, max_bytes: usize) -> Vec<Waker> {
        let mut state = self.state.lock();
        let was_all = state.ahead_unheld == self.max_waves();
        self.live.max_waves.store(max_waves, Ordering::Relaxed);
        self.live.max_bytes.store(max_bytes, Ordering::Relaxed);
        // A bound that an outbox has set for running ahead stays, within the capacity.
        state.ahead_unheld = if was_all { max_waves } else { state.ahead_unheld.min(max_waves) };
        // A prefetch that is larger than half the inbox would delay evictions.
        self.return_prefetched(&mut state);
        self.set_ahead(&mut state);
        self.publish(&state);
        // Also those that wait although their wave could never fit: they see the new bounds when they try again.
        self.call_all(&mut state)
    }
}
