//! Why a dead letter was not read or changed.

#[cfg(feature = "jetstream")]
use crate::jetstream::JetStreamError;
use crate::sealing::Unopened;
use crate::store::{AppendError, ReadError};

/// Why a dead letter was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadError {
    /// There is no such letter, or another caller of this process replays it.
    #[error("there is no dead letter {number}: it was replayed or dropped, or is being replayed")]
    Unknown {
        /// The number.
        number: u64,
    },
    /// Its wave was never in a log.
    #[error("the wave of dead letter {number} was in no log: emit it again on its bus")]
    OfNoLog {
        /// The number.
        number: u64,
    },
    /// The letter cannot be opened, or is not sealed in a log with keys.
    #[error("dead letter {number} cannot be opened")]
    Unopened {
        /// The number.
        number: u64,
        /// Why.
        source: Unopened,
    },
    /// The letter cannot be read.
    #[error("the dead letters cannot be read")]
    Read(#[from] ReadError),
    /// The change was not written.
    #[error("the dead letters cannot be written")]
    Write(#[from] AppendError),
    /// The server did not answer or refused.
    #[cfg(feature = "jetstream")]
    #[error("the dead letters cannot be reached")]
    Server(#[from] JetStreamError),
    /// The wave was not emitted. The letter stays.
    #[error("dead letter {number} was not sent again and stays")]
    Emit {
        /// The number.
        number: u64,
        /// Why.
        source: aether_core::ConfirmError,
    },
}
