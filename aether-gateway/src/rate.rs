//! The recent rate in waves a second.
//!
//! [`Observed`](crate::Observed) keeps one. Pure: the caller passes the time as a [`Duration`] since the start.

use std::time::Duration;

/// The number of whole seconds in the window, in addition to the current one.
const SECONDS: usize = 10;
const SLOTS: usize = SECONDS + 1;

/// Counts by second, for the last ten seconds and the current one.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    counts: [u64; SLOTS],
    /// The second of the newest count.
    newest: u64,
}

impl Rate {
    /// Counts one wave.
    pub(crate) fn note(&mut self, elapsed: Duration) {
        let second = self.turn_to(elapsed);
        self.counts[second as usize % SLOTS] += 1;
    }

    /// Waves a second over the last ten to eleven seconds, or since the start if that is shorter.
    pub(crate) fn per_second(&mut self, elapsed: Duration) -> f64 {
        let second = self.turn_to(elapsed);
        let begin = Duration::from_secs(second.saturating_sub(SECONDS as u64));
        // Right after the start the rate would be meaningless.
        let window = elapsed.saturating_sub(begin).max(Duration::from_secs(1));
        self.counts.iter().sum::<u64>() as f64 / window.as_secs_f64()
    }

    /// Clears the slots of the seconds since the last call.
    fn turn_to(&mut self, elapsed: Duration) -> u64 {
        let second = elapsed.as_secs().max(self.newest);
        let begun = (second - self.newest).min(SLOTS as u64);
        for slot in (second + 1 - begun)..=second {
            self.counts[slot as usize % SLOTS] = 0;
        }
        self.newest = second;
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_steady_stream_has_its_rate_and_silence_none() {
        let mut rate = Rate::default();
        for wave in 0..20_000 {
            rate.note(at(wave)); // 1000 a second, for 20 s
        }
        assert!((rate.per_second(at(19_999)) - 1000.0).abs() < 1.0);
        // Six seconds of silence: the window of 10.5 s still holds 5 s of waves.
        assert!((rate.per_second(at(25_500)) - 5000.0 / 10.5).abs() < 1.0);
        assert_eq!(rate.per_second(at(40_000)), 0.0);
    }

    #[test]
    fn the_start_is_not_a_burst_and_time_never_runs_back() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(at(0)), 0.0);
        rate.note(at(1));
        assert_eq!(rate.per_second(at(2)), 1.0);
        rate.note(at(5_000));
        rate.note(at(4_000)); // read from the clock before, noted after
        assert_eq!(rate.per_second(at(5_000)), 3.0 / 5.0);
    }
}
