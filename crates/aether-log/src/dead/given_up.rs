//! How many waves the consumers of this process have given up, and the lines in its log about them.
//!
//! Only the log lines are limited. Each wave is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::letter::Attempt;
use crate::log_lines::LogLines;
use crate::stored_wave::StoredWave;

/// The minimum time between two lines about the same.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// The waves that the consumers of a process have given up since the log was opened. It has an entry for each name of a
/// consumer; a program has a fixed number of them.
#[derive(Debug, Default)]
pub(super) struct GivenUp(Mutex<BTreeMap<String, OfConsumer>>);

#[derive(Debug, Clone, Copy, Default)]
struct OfConsumer {
    waves: u64,
    lines: LogLines,
}

impl GivenUp {
    /// A consumer that has given up nothing yet, so that its first wave is an increase of its number.
    pub(super) fn begin(&self, consumer: &str) {
        self.0.lock().entry(consumer.to_owned()).or_default();
    }

    /// Counts a wave. It is logged at once, or as part of a number with the next line that is due.
    pub(super) fn count(&self, consumer: &str, stored: &StoredWave, attempts: u32, failed: &[Attempt]) {
        let Some(left_out) = self.due(consumer, Instant::now()) else { return };
        let (position, channel) = (stored.position, stored.wave.channel().as_str());
        let error = failed.last().map_or("", |attempt| attempt.error.as_str());
        tracing::warn!(
            consumer,
            position,
            channel,
            attempts,
            error,
            left_out,
            "a wave is given up and becomes a dead letter; the next line about this consumer comes after {PAUSE:?}"
        );
    }

    /// `Some` if a line may be logged now, with the number of waves before it that had none.
    fn due(&self, consumer: &str, now: Instant) -> Option<u64> {
        let mut consumers = self.0.lock();
        let of = consumers.entry(consumer.to_owned()).or_default();
        of.waves += 1;
        of.lines.due(PAUSE, now)
    }

    /// The number of waves by consumer.
    pub(super) fn waves(&self) -> BTreeMap<String, u64> {
        self.0.lock().iter().map(|(consumer, of)| (consumer.clone(), of.waves)).collect()
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        for (consumer, of) in self.0.get_mut() {
            let waves = of.lines.left_out();
            if waves > 0 {
                tracing::warn!(consumer, waves, "more waves were given up and became dead letters");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_minute_for_each_consumer_and_every_wave_is_counted() {
        let (given_up, start) = (GivenUp::default(), Instant::now());
        given_up.begin("billing");
        assert_eq!(given_up.waves(), [("billing".to_owned(), 0)].into());
        assert_eq!(given_up.due("billing", start), Some(0));
        for second in 1..60 {
            assert_eq!(given_up.due("billing", start + Duration::from_secs(second)), None);
        }
        assert_eq!(given_up.due("stock", start + PAUSE / 2), Some(0), "a flood of one hides no other");
        assert_eq!(given_up.due("billing", start + PAUSE), Some(59));
        assert_eq!(given_up.due("billing", start + 3 * PAUSE), Some(0));
        assert_eq!(given_up.waves(), [("billing".to_owned(), 62), ("stock".to_owned(), 1)].into());
    }
}
