//! Why a projection cannot go on.

use std::error::Error;

use aether_core::wave::ChannelError;
use aether_core::{Pattern, WaveId};
use aether_log::store::ReadError;

use crate::error::StoreError;

/// Why a projection was not opened, or has stopped. The waves applied before are kept, and calling it again goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The name cannot name a projection.
    #[error("{name:?} cannot name a projection: use 1 to 64 letters, digits, '-' and '_'")]
    Name {
        /// The name.
        name: String,
    },
    /// The pattern is not valid.
    #[error(transparent)]
    Invalid(#[from] ChannelError),
    /// The name belongs to a projection of another pattern.
    #[error("the projection {name} is of {stored} and not of {given}: use another name, or rebuild it")]
    OtherPattern {
        /// The name of the projection.
        name: String,
        /// Its pattern.
        stored: String,
        /// The pattern that was given.
        given: Pattern,
    },
    /// The log has another wave, or none, where the projection has read one: it is another log, or a power cut or a restore
    /// has taken its end.
    #[error(
        "the projection {name} has applied wave {id} at position {position}, and the log does not have it there: use the log that it was made of, or rebuild it"
    )]
    OtherLog {
        /// The name of the projection.
        name: String,
        /// The wave that was applied.
        id: Box<WaveId>,
        /// Where it was.
        position: u64,
    },
    /// The log has dropped waves that were not applied.
    #[error(
        "the log has dropped positions {from} to {to}, which the projection {name} has not applied: keep more of the log, and rebuild the projection"
    )]
    Dropped {
        /// The name of the projection.
        name: String,
        /// The first position that is missing.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// A wave is sealed with a key that this process does not have. The waves before it are applied.
    #[error(
        "the projection {name} waits at position {position} for the key of a sealed wave: add it to the file of keys"
    )]
    Locked {
        /// The name of the projection.
        name: String,
        /// The position of the wave.
        position: u64,
    },
    /// The projection refused a wave. Nothing of this wave is kept.
    #[error("the projection {name} refused the wave at position {position}: repair it, and go on")]
    Refused {
        /// The name of the projection.
        name: String,
        /// The position of the wave.
        position: u64,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The projection panicked. Nothing of this wave is kept.
    #[error("the projection {name} panicked at the wave at position {position}: {message}")]
    Panicked {
        /// The name of the projection.
        name: String,
        /// The position of the wave.
        position: u64,
        /// Its message.
        message: String,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// The store cannot be read or written.
    #[error("the projection cannot be stored")]
    Store(#[from] StoreError),
}
