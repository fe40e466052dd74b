//! The dead letters of a log, wherever they are kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aether_core::Emitter;

#[cfg(feature = "jetstream")]
use crate::dead::StreamLetters;
use crate::dead::{DeadError, DeadStore, DeadWave, FOLDER, SentAgain};
use crate::store::ReadError;

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

    /// The number of letters in a folder that were dropped for newer ones since the log was opened: it keeps 65,536
    /// letters of 1 GiB in total. Always 0 in JetStream.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        match self {
            Self::Folder(letters) => letters.overflowed(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(_) => 0,
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

    /// At most `most` letters with higher numbers than this, the oldest first. In a folder, unreadable letters are left
    /// out.
    ///
    /// # Errors
    /// [`DeadError`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn after(&self, number: u64, most: usize) -> Result<Vec<DeadWave>, DeadError> {
        match self {
            Self::Folder(letters) => {
                let letters = Arc::clone(letters);
                blocking(move || Ok(letters.after(number, most))).await
            }
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.after(number, most).await,
        }
    }

    /// A letter.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or it cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        match self {
            Self::Folder(letters) => {
                let letters = Arc::clone(letters);
                blocking(move || letters.show(number)).await
            }
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

    /// Emits the wave of a letter again, under its identity, and drops the letter once the broker has confirmed it. On
    /// a durable channel the wave is stored again before that.
    ///
    /// # Errors
    /// [`DeadError`]. If the wave was emitted and the letter could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been emitted, and the letter stays.
    pub async fn replay(&self, number: u64, emitter: &Emitter) -> Result<SentAgain, DeadError> {
        match self {
            Self::Folder(letters) => letters.replay(number, emitter).await,
            #[cfg(feature = "jetstream")]
            Self::JetStream(letters) => letters.replay(number, emitter).await,
        }
    }
}

/// Reads files outside of the async tasks.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, DeadError> + Send + 'static,
) -> Result<T, DeadError> {
    aether_files::disk::spawn_blocking(read).await.unwrap_or_else(|error| {
        let source = io::Error::other(error);
        Err(ReadError::Io { path: FOLDER.into(), doing: "read", source }.into())
    })
}
