//! How often a service complains in its log: when everything fails, one line a second says as much as ten thousand.
//!
//! Every failure is counted in the service's report and told to whoever asked; this is about the log only.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time from one complaint to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// When there was the last complaint, and how many were left out since.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Mutex<(Option<Instant>, u64)>);

impl LogThrottle {
    /// Whether to complain now; then how many were left out since the last complaint.
    pub(super) fn due(&self, now: Instant) -> Option<u64> {
        let (last, left_out) = &mut *self.0.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_complaint_a_second_that_says_how_many_there_were() {
        let (log_throttle, start) = (LogThrottle::default(), Instant::now());
        assert_eq!(log_throttle.due(start), Some(0));
        for millisecond in 1..1000 {
            assert_eq!(log_throttle.due(start + Duration::from_millis(millisecond)), None);
        }
        assert_eq!(log_throttle.due(start + PAUSE), Some(999));
        assert_eq!(log_throttle.due(start + 3 * PAUSE), Some(0));
    }
}
