//! Limits lines in the log about what may happen without end. Only the lines are limited.

use std::time::Duration;

use tokio::time::Instant;

/// The lines about one thing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogLines {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLines {
    /// `Some` if a line may be logged now, `pause` after the one before, with the number of those that were left out since.
    pub(crate) fn due(&mut self, pause: Duration, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }

    /// Those that were left out since the last line.
    pub(crate) const fn left_out(&self) -> u64 {
        self.left_out
    }
}
