//! A wave that was delivered and has to be acknowledged.

use std::sync::Arc;

use aether_core::Wave;
use aether_core::clock::micros_since_1970;
use futures_util::future::join_all;

use crate::consumer::claim::Claim;
use crate::consumer::error::AckError;
use crate::consumer::journal::Journal;
#[cfg(feature = "jetstream")]
use crate::consumer::stream::StreamClaim;
use crate::consumer::window::Fate;
use crate::dead::Attempt;
#[cfg(feature = "jetstream")]
use crate::jetstream::JetStreamError;
use crate::stored_wave::StoredWave;

/// A wave that was delivered. Dropped without [`Delivery::ack`], it is delivered again, and this counts as a failed attempt.
#[derive(Debug)]
#[must_use = "a delivery that is dropped is delivered again"]
pub struct Delivery {
    stored: StoredWave,
    attempt: u32,
    ending: Option<Ending>,
}

/// How a delivery ends: where it is acknowledged.
#[derive(Debug)]
pub(super) enum Ending {
    Journal {
        claim: Claim,
        journal: Arc<Journal>,
    },
    #[cfg(feature = "jetstream")]
    Stream(StreamClaim),
}

/// Waves that are acknowledged in one journal, and the position of the first.
type OfJournal = (u64, Arc<Journal>, Vec<Claim>);

impl Delivery {
    pub(super) const fn new(stored: StoredWave, attempt: u32, ending: Ending) -> Self {
        Self { stored, attempt, ending: Some(ending) }
    }

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

    /// Which attempt this is, from 1. Attempts that ended with the process count as described at
    /// [`max_attempts`](crate::ConsumerOptions::max_attempts).
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the wave becomes a dead letter if this attempt fails.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        let options = match &self.ending {
            None => return false,
            Some(Ending::Journal { claim, .. }) => claim.options(),
            #[cfg(feature = "jetstream")]
            Some(Ending::Stream(claim)) => claim.options(),
        };
        self.attempt >= options.max_attempts.get()
    }

    /// Acknowledges the wave: it is not delivered again, also after a restart. In a folder the acknowledgement is stored, or
    /// synced, by [`acknowledgements`](crate::ConsumerOptions::acknowledgements). In JetStream the server has confirmed it.
    ///
    /// # Errors
    /// [`AckError`] if it was not written. Then the wave is delivered again.
    ///
    /// # Cancel safety
    /// Cancelled after the first poll, the acknowledgement is written all the same.
    pub async fn ack(mut self) -> Result<(), AckError> {
        let position = self.position();
        match self.ending.take() {
            None => Ok(()),
            Some(Ending::Journal { claim, journal }) => {
                let written = journal.settled(vec![claim], Fate::Acknowledged).await;
                written.map_err(|error| AckError { position, source: error.into() })
            }
            #[cfg(feature = "jetstream")]
            Some(Ending::Stream(claim)) => {
                let acknowledged = claim.acknowledge().await;
                acknowledged.map_err(|error| AckError { position, source: error.into() })
            }
        }
    }

    /// As [`ack`](Self::ack), and in JetStream without waiting for the server, which confirms one acknowledgement in 256.
    /// After a crash of the process or the server, another process may get up to 255 acknowledged waves once more.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As [`ack`](Self::ack).
    pub async fn ack_soon(
        #[cfg_attr(
            not(feature = "jetstream"),
            expect(unused_mut, reason = "only JetStream takes the ending")
        )]
        mut self,
    ) -> Result<(), AckError> {
        #[cfg(feature = "jetstream")]
        if let Some(Ending::Stream(claim)) = self.ending.take_if(|ending| matches!(ending, Ending::Stream(_)))
        {
            let position = self.position();
            let acknowledged = claim.acknowledge_soon().await;
            return acknowledged.map_err(|error| AckError { position, source: error.into() });
        }
        self.ack().await
    }

    /// Acknowledges waves as [`ack_soon`](Self::ack_soon) does, in a folder with one write for all of them.
    ///
    /// # Errors
    /// [`AckError`] if one was not written. Those that were not are delivered again.
    ///
    /// # Cancel safety
    /// As [`ack`](Self::ack).
    pub async fn ack_all(deliveries: impl IntoIterator<Item = Self>) -> Result<(), AckError> {
        let mut journals: Vec<OfJournal> = Vec::new();
        #[cfg(feature = "jetstream")]
        let mut streams = Vec::new();
        for mut delivery in deliveries {
            let position = delivery.position();
            match delivery.ending.take() {
                None => {}
                Some(Ending::Journal { claim, journal }) => {
                    match journals.iter_mut().find(|(_, known, _)| Arc::ptr_eq(known, &journal)) {
                        Some((.., claims)) => claims.push(claim),
                        None => journals.push((position, journal, vec![claim])),
                    }
                }
                #[cfg(feature = "jetstream")]
                Some(Ending::Stream(claim)) => streams.push(claim),
            }
        }
        let journals = join_all(journals.into_iter().map(|(position, journal, claims)| async move {
            let written = journal.settled(claims, Fate::Acknowledged).await;
            written.map_err(|error| AckError { position, source: error.into() })
        }));
        #[cfg(not(feature = "jetstream"))]
        let written = journals.await;
        #[cfg(feature = "jetstream")]
        let written = {
            let (mut written, acknowledged) = tokio::join!(journals, StreamClaim::acknowledge_all(streams));
            let failed =
                |(position, error): (u64, JetStreamError)| AckError { position, source: error.into() };
            written.push(acknowledged.map_err(failed));
            written
        };
        written.into_iter().collect()
    }

    /// Reports a failure. The wave is delivered again after a pause, or becomes a dead letter.
    pub fn nack(mut self, error: &str) {
        self.fail(error, false);
    }

    /// Reports a failure that no further attempt would mend, such as a payload that cannot be read. The wave becomes a
    /// dead letter now, whatever [`max_attempts`](crate::ConsumerOptions::max_attempts) allows. If the process ends before
    /// that, the wave is delivered once more.
    pub fn give_up(mut self, error: &str) {
        self.fail(error, true);
    }

    /// Gives the wave back as if it had not been delivered: it is delivered again at once, here or elsewhere, and no
    /// attempt is counted. For a process that ends.
    pub fn release(mut self) {
        match self.ending.take() {
            None => {}
            Some(Ending::Journal { claim, .. }) => claim.release(),
            #[cfg(feature = "jetstream")]
            Some(Ending::Stream(claim)) => claim.release(),
        }
    }

    fn fail(&mut self, error: &str, is_final: bool) {
        let Some(ending) = self.ending.take() else { return };
        let attempt = Attempt { micros: micros_since_1970(), error: shortened(error) };
        match ending {
            Ending::Journal { claim, journal } => {
                journal.note_failure(self.stored.position, &attempt);
                claim.fail(attempt, is_final);
            }
            #[cfg(feature = "jetstream")]
            Ending::Stream(claim) => claim.fail(attempt, is_final),
        }
    }
}

/// At most 512 bytes.
fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(512)].to_owned()
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.fail("the delivery was dropped without an acknowledgement", false);
    }
}
