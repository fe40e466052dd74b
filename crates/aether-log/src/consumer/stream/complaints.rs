//! Limits what is logged about messages that are passed over: who may store on the stream decides how many there are.
//!
//! Only the log is limited. Each of them is counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::log_lines::LogLines;

/// The minimum time between two lines about the same.
const PAUSE: Duration = Duration::from_secs(5);

/// What is wrong with a message. A flood of one hides no other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Complaint {
    /// Its key is not here.
    Locked,
    /// It is not sealed as it should be.
    Refused,
    /// It cannot be read as a wave.
    NoWave,
    /// Its signer may not use the name.
    Name,
    /// The rules refuse it.
    Rules,
    /// Its parts are not all there.
    Incomplete,
}

/// The last complaint of each kind.
#[derive(Debug, Default)]
pub(super) struct Complaints([LogLines; 6]);

impl Complaints {
    /// `Some` if a line may be logged now, with the number of those that were left out before it.
    pub(super) fn due(&mut self, of: Complaint, now: Instant) -> Option<u64> {
        self.0[of as usize].due(PAUSE, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_now_and_then_that_says_how_many_there_were_and_hides_nothing_else() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.due(Complaint::Refused, start), Some(0));
        for number in 1..1000 {
            let now = start + PAUSE * number / 1000;
            assert_eq!(complaints.due(Complaint::Refused, now), None);
        }
        assert_eq!(complaints.due(Complaint::Rules, start + PAUSE / 2), Some(0));
        assert_eq!(complaints.due(Complaint::Refused, start + PAUSE), Some(999));
        assert_eq!(complaints.due(Complaint::Refused, start + 3 * PAUSE), Some(0));
    }
}
