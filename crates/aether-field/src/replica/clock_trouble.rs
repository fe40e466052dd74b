//! Finds out whether a wrong clock, here or at the others, keeps replicas from taking each other's writes.

use std::time::Duration;

use super::clock::ClockTrouble;
use super::field::Field;
use super::shared::{Shared, wall};

impl Field {
    /// Whether clocks keep other replicas from taking what is written here, or the reverse: for a readiness check.
    #[must_use]
    pub fn clock_trouble(&self) -> Option<ClockTrouble> {
        self.shared().clock_trouble()
    }
}

impl Shared {
    pub(super) fn clock_trouble(&self) -> Option<ClockTrouble> {
        let (last, allowed) = {
            let state = self.state();
            (state.last_stamp(), state.limits().max_drift)
        };
        let ahead = Duration::from_micros(last.micros.saturating_sub(wall()));
        if ahead > allowed {
            return Some(ClockTrouble::OwnStamps { ahead });
        }
        let (replica, clock) = self.peers.lock().most_clocks_off(allowed)?;
        Some(ClockTrouble::Peers { replica, clock })
    }
}
