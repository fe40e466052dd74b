//! A wave that was delivered and has to be acknowledged.

use std::sync::Arc;

use aether_core::Wave;
use aether_core::wire::micros_since_1970;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::consumer::attempts::Begun;
use crate::consumer::claim::Claim;
use crate::consumer::error::AckError;
use crate::consumer::journal::Journal;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::window::{Fate, Window};
use crate::dead::Attempt;
use crate::store::AppendError;
use crate::stored_wave::StoredWave;

/// A wave that was delivered. Dropped without [`Delivery::ack`], it is delivered again, and this counts as a failed attempt.
#[derive(Debug)]
#[must_use = "a delivery that is dropped is delivered again"]
pub struct Delivery {
    pub(super) stored: StoredWave,
    pub(super) attempt: u32,
    pub(super) claim: Option<Claim>,
    pub(super) _begun: Option<Begun>,
    pub(super) journal: Arc<Journal>,
    pub(super) window: Arc<Window>,
    pub(super) options: ConsumerOptions,
}

impl Delivery {
    /// The wave.
    #[must_use]
    pub const fn wave(&self) -> &Wave {
        &self.stored.wave
    }

    /// The wave, its position, and when it was stored.
    #[must_use]
    pub const fn stored(&self) -> &StoredWave {
        &self.stored
    }

    /// Its position in the log.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.stored.position
    }

    /// Which attempt this is, from 1. Attempts that ended with the process are counted.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Acknowledges the wave: it is not delivered again, also after a restart. The acknowledgement is stored, or synced, by
    /// [`ConsumerOptions::acknowledgements`].
    ///
    /// # Errors
    /// [`AckError`] if it was not written. Then the wave is delivered again.
    ///
    /// # Cancel safety
    /// Cancelled after the first poll, the acknowledgement is written all the same.
    pub async fn ack(mut self) -> Result<(), AckError> {
        let position = self.position();
        let Some(claim) = self.claim.take() else { return Ok(()) };
        let (answer, done) = oneshot::channel();
        let answering = move |result| drop(answer.send(result));
        self.journal.settle(claim, position, Fate::Acknowledged, &self.window, answering);
        let written = done.await.unwrap_or(Err(AppendError::Closed));
        written.map_err(|source| AckError { position, source })
    }

    /// Reports a failure. The wave is delivered again after a pause, or becomes a dead letter.
    pub fn nack(mut self, error: &str) {
        self.fail(error);
    }

    fn fail(&mut self, error: &str) {
        let Some(claim) = self.claim.take() else { return };
        let attempt = Attempt { micros: micros_since_1970(), error: shortened(error) };
        self.journal.note_failure(self.stored.position, &attempt);
        let options = self.options;
        claim.fail(attempt, |failures| Instant::now() + options.pause_after(failures));
    }
}

/// At most 512 bytes.
fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(512)].to_owned()
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.fail("the delivery was dropped without an acknowledgement");
    }
}
