//! Dead letters of others than consumers: a saga that cannot be undone, for example.

use aether_core::Wave;
use aether_core::clock::micros_since_1970;

use crate::dead::{Attempt, DeadStore};
use crate::store::AppendError;
use crate::stored_wave::StoredWave;

impl Attempt {
    /// An attempt that failed now. Of the error at most 512 bytes are kept.
    #[must_use]
    pub fn now(error: &str) -> Self {
        Self { micros: micros_since_1970(), error: error[..error.floor_char_boundary(512)].to_owned() }
    }
}

impl DeadStore {
    /// Keeps a wave that somebody has given up, synced to the disk, and returns the number of its letter. The wave is in no
    /// log, so its position is 0. `by` is shown as the consumer.
    ///
    /// # Errors
    /// [`AppendError`] if it was not written.
    ///
    /// # Cancel safety
    /// Cancelled after the first poll, the letter may have been kept.
    pub async fn keep(&self, by: &str, wave: &Wave, failed: &[Attempt]) -> Result<u64, AppendError> {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_micros(micros_since_1970());
        let stored = StoredWave { position: 0, at, wave: wave.clone() };
        let attempts = u32::try_from(failed.len()).unwrap_or(u32::MAX);
        let listed = &failed[failed.len().saturating_sub(crate::dead::MAX_FAILED)..];
        self.bury(by, &stored, attempts, listed).await
    }
}
