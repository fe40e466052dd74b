//! The window of a detector: the time in which evidence halves.

use std::time::Duration;

use crate::timeline::{Moment, nanos};

/// The time in which evidence decays from one value to less than another. At least a millisecond, so that rounding does
/// not cause a second check at the same moment.
pub(super) fn time_to(from: f64, below: f64, window: Window) -> Duration {
    let windows = (from / below).log2().max(0.0);
    let seconds = windows * window.length.as_secs_f64();
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).saturating_add(Duration::from_millis(1))
}

/// The time in which evidence halves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    length: Duration,
    nanos: i64,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, nanos: nanos(length) }
    }

    pub(super) fn nanos(self) -> i64 {
        self.nanos
    }

    /// The length of several windows.
    pub(super) fn times(self, windows: u32) -> Duration {
        self.length * windows
    }

    /// The length of a part of the window.
    pub(super) fn part(self, of: u32) -> Duration {
        self.length / of
    }

    /// Splits a moment into whole windows and a remainder in [0, 1).
    pub(super) fn split(self, moment: Moment) -> (i64, f64) {
        // Integer division is slower. If the quotient is off by one, the remainder compensates.
        let mut windows = (moment.nanos() as f64 / self.nanos as f64).floor() as i64;
        let mut left = moment.nanos().saturating_sub(windows.saturating_mul(self.nanos));
        while left < 0 {
            (windows, left) = (windows - 1, left + self.nanos);
        }
        while left >= self.nanos {
            (windows, left) = (windows + 1, left - self.nanos);
        }
        (windows, left as f64 / self.nanos as f64)
    }
}
