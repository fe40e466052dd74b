//! The dead letters of a log, wherever they are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::{Emitter, Receipt};

#[cfg(feature = "jetstream")]
use crate::dead::StreamLetters;
use crate::dead::{DeadError, DeadStore, DeadWave};

/// The dead letters of a [`DurableLog`](crate::DurableLog).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DeadLetters {
    /// Those in a folder.
    Folder(Arc<DeadStore>),
    /// Those in JetStream.
    #[cfg(feature = "jetstream")]
    JetStream(Arc<StreamLetters>),
}

impl DeadLetters {
    /// The number of waves that the consumers of this process have given up since it opened the log, by consumer.
    #[must_use]
    pub fn given_up(&self) -> BTreeMap<String, u64> {
        match self {
            Self::Folder(letters) => letters.given_up(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.given_up(),
        }
    }

    /// The numbers of all letters, the oldest first.
    ///
    /// # Errors
    /// [`DeadError`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn numbers(&self) -> Result<Vec<u64>, DeadError> {
        match self {
            Self::Folder(letters) => Ok(letters.numbers()),
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.numbers().await,
        }
    }

    /// A letter. Blocks on the disk, where it is kept in a folder.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or it cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        match self {
            Self::Folder(letters) => letters.show(number),
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.show(number).await,
        }
    }

    /// Drops a letter for good.
    ///
    /// # Errors
    /// [`DeadError`]; the letter then stays, if there is one.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the letter is dropped or stays.
    pub async fn drop_letter(&self, number: u64) -> Result<(), DeadError> {
        match self {
            Self::Folder(letters) => letters.drop_letter(number).await,
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.drop_letter(number).await,
        }
    }

    /// Emits the wave of a letter again, under its identity, and drops the letter once the broker has confirmed it. On a durable
    /// channel the wave is stored again before that.
    ///
    /// # Errors
    /// [`DeadError`]. If the wave was emitted and the letter could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been emitted, and the letter stays.
    pub async fn replay(&self, number: u64, emitter: &Emitter) -> Result<Receipt, DeadError> {
        match self {
            Self::Folder(letters) => letters.replay(number, emitter).await,
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.replay(number, emitter).await,
        }
    }
}
