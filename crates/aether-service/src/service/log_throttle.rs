//! Limits repeated log lines: when everything fails, one line a second is enough.
//!
//! Only the log is limited. The service's report counts every failure, and every asker receives its own.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The minimum time between two log lines.
const PAUSE: Duration = Duration::from_secs(1);

/// The time of the last line, and the number of lines suppressed since.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Mutex<(Option<Instant>, u64)>);

impl LogThrottle {
    /// Returns `Some` if a line may be logged now, with the number of lines suppressed since the last one.
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
