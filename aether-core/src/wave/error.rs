//! Why a wave could not be built or answered.

use super::content::ContentTypeError;
use super::metadata::MetadataError;
use crate::amplitude::{AmplitudeError, HalfLifeError};
use crate::channel::ChannelError;
use crate::phase::PhaseError;

/// The maximum length of a hint on the wire, in bytes; the rest is cut off.
pub const MAX_HINT_BYTES: usize = 256;

/// The maximum length of a coherence key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// Why a wave could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaveError {
    /// The channel is invalid.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The amplitude is outside of (0, 1].
    #[error(transparent)]
    Amplitude(#[from] AmplitudeError),
    /// The half-life is zero.
    #[error(transparent)]
    HalfLife(#[from] HalfLifeError),
    /// The phase is not finite.
    #[error(transparent)]
    Phase(#[from] PhaseError),
    /// The coherence key is empty or too long.
    #[error("a coherence key of {bytes} bytes is not allowed: use 1 to {MAX_KEY_BYTES}")]
    Key {
        /// The size of the key as given.
        bytes: usize,
    },
    /// A metadata entry is invalid or does not fit.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The content type is invalid.
    #[error(transparent)]
    ContentType(#[from] ContentTypeError),
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A wave that has to have an identity has none.
    #[error("the wave has no identity: give it one with Wave::identified")]
    NoIdentity,
    /// A wave for later is unique by the key of its schedule.
    #[error(
        "a wave for later cannot be unique: put it as a schedule with a key, which replaces the one before"
    )]
    UniqueLater,
}

/// Why an answer could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The wave is not a question: no asker waits for an answer, or no vibrator received it.
    #[error(
        "this wave is not a question: only a wave that came from ask() and was received by a vibrator can be answered"
    )]
    NotAsked,
    /// The asker has an answer already or gave up. Detected in process only.
    #[error("the asker no longer waits: it was answered already or gave up")]
    AskerGone,
    /// The answer could not be built.
    #[error("the answer could not be built")]
    Wave(#[from] WaveError),
    /// The answer exceeds the medium's maximum size.
    #[error("the answer has {bytes} bytes on the wire: the medium takes at most {max_bytes}")]
    TooLarge {
        /// The size of the answer, in bytes.
        bytes: usize,
        /// The medium's maximum, in bytes.
        max_bytes: usize,
    },
    /// The medium is closed.
    #[error("the medium is closed")]
    Closed,
}
