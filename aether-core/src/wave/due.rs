//! Waves for later: the time from which a wave may be delivered.
//!
//! It travels as a metadata entry, so that other waves do not pay for it. A durable log keeps such a wave until then; the
//! emitter refuses it where no log does.

use std::time::{Duration, SystemTime};

use super::{Metadata, MetadataError, Wave};

/// The metadata entry with the time at which a wave is due, in microseconds since 1970.
pub const DUE: &str = "aether-due";

impl Metadata {
    /// The same entries, due at this time.
    pub(super) fn due_at(&self, time: SystemTime) -> Result<Self, MetadataError> {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.replaced(DUE, &since_1970.as_micros().to_string())
    }
}

impl Wave {
    /// The time at which the wave is due, if it was emitted [for later](crate::WaveBuilder::at). It stays in the wave
    /// when it has come.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        if self.is_bare() {
            return None;
        }
        let micros = self.metadata().value(DUE)?.parse().ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))
    }

    /// The time at which the wave is due, if that has not come yet.
    #[must_use]
    pub fn due_later(&self) -> Option<SystemTime> {
        self.due().filter(|due| *due > crate::clock::wall_time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_due_time_counts_and_passes() {
        let hour = Duration::from_secs(3600);
        let wave = Wave::builder("jobs.run").at(SystemTime::UNIX_EPOCH).metadata("a", "b").after(hour);
        let wave = wave.build().unwrap();
        let due = wave.due().unwrap();
        assert_eq!(
            (wave.due_later(), wave.metadata().value("a"), wave.metadata().len()),
            (Some(due), Some("b"), 2)
        );
        tokio::time::advance(hour).await;
        assert_eq!((wave.due_later(), wave.due()), (None, Some(due)));
        assert_eq!(Wave::builder("jobs.run").build().unwrap().due(), None);
    }
}
