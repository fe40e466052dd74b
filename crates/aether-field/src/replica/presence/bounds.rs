//! Bounds on participants, and the errors of what is out of them.

use std::time::Duration;

/// The sync engine's demos take cursors away after 8 s; two lost repetitions need 9.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);
pub(super) const MAX_ID: usize = 256;
pub(super) const MAX_VALUE: usize = 4096;
pub(super) const MAX_PARTICIPANTS: usize = 10_000;
pub(super) const MAX_BYTES: usize = 4 << 20;

/// A participant cannot be announced. Nothing changes then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// The id is empty.
    #[error("the id of a participant has at least one byte")]
    EmptyId,
    /// The id is too long.
    #[error("the id of the participant has {bytes} bytes; {allowed} are allowed")]
    IdTooLong {
        /// Its size.
        bytes: usize,
        /// The bound.
        allowed: usize,
    },
    /// The JSON is too large.
    #[error("the JSON of the participant has {bytes} bytes; {allowed} are allowed")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        allowed: usize,
    },
    /// The value cannot be written as JSON.
    #[error("the value cannot be written as JSON")]
    Serialize(#[source] serde_json::Error),
    /// This replica has announced too much.
    #[error(
        "this replica has announced {participants} participants of {bytes} bytes together, which is its bound"
    )]
    Full {
        /// The participants that it has announced and that are there.
        participants: usize,
        /// The size of their ids and their JSON.
        bytes: usize,
    },
    /// The field is closed.
    #[error("the field is closed")]
    Closed,
}
