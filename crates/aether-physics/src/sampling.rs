//! The share of the traffic that was observed.

use std::time::Duration;

/// The share of the traffic that was observed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Waves passed to the engine. Waves that passed while the observer had left the bus are not included.
    pub seen: u64,
    /// Waves that were observed.
    pub shown: u64,
    /// The time of the completed observations.
    pub looked: Duration,
    /// The time of the pauses.
    pub away: Duration,
    /// The number of pauses.
    pub times_away: u64,
    /// The observed share of the time, by the latest observation and its pause; 1 while no pause is needed.
    pub lately: f64,
}

impl Sampling {
    /// The observed share of the time, over all completed observations and pauses. For an even stream it is also the
    /// share of the waves.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let (looked, away) = (self.looked.as_secs_f64(), self.away.as_secs_f64());
        if away == 0.0 { 1.0 } else { looked / (looked + away) }
    }
}
