//! Errors of fields.

use aether_core::wave::ChannelError;
use aether_core::{CreateError, JoinError};

use super::clock::ClockOffset;
use crate::core::{Refusal, RefusalReason};

/// A field cannot be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinFieldError {
    /// The name of the field is not allowed in a channel.
    #[error("{name:?} cannot be the name of a field: it becomes a part of channels")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: ChannelError,
    },
    /// A peer may not be silent for so short a time.
    #[error(
        "a peer must be allowed to be silent for at least {allowed:?}, because it speaks about once a second"
    )]
    Silence {
        /// The minimum.
        allowed: std::time::Duration,
    },
    /// The name of the identity is too long.
    #[error("the name of the identity is refused")]
    Identity(#[source] Refusal),
    /// The vibrator of the replica cannot be made.
    #[error("the vibrator of the field cannot be made")]
    Create(#[from] CreateError),
    /// The channels of the field cannot be heard.
    #[error("the channels of the field cannot be subscribed to")]
    Join(#[from] JoinError),
    /// The store cannot be opened.
    #[cfg(feature = "store")]
    #[error("the store of the field cannot be opened")]
    Store(#[from] super::store::StoreError),
}

/// A read or a write of a field failed. A failed write changes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// The field does not take the change.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The value cannot be written as JSON.
    #[error("the value cannot be written as JSON")]
    Serialize(#[source] serde_json::Error),
    /// The value is `null`, which means nothing: remove the key instead.
    #[error("a field holds no null; remove {name:?} instead")]
    Null {
        /// The name.
        name: String,
    },
    /// The value cannot be read as JSON of this type.
    #[error("the value of {name:?} cannot be read as the type that was asked for")]
    Deserialize {
        /// The name.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// Another replica has refused entries of this one, so they are not there.
    #[error("the replica {replica:?} did not take {refused} of the entries: {reason}{}", clock_of(*clock))]
    NotTaken {
        /// Its name.
        replica: String,
        /// How many.
        refused: u64,
        /// Why.
        reason: RefusalReason,
        /// Its clock, if that is why.
        clock: Option<ClockOffset>,
    },
    /// This replica has refused entries of another one because of their time, so what is written here may not stand.
    #[error(
        "{refused} of the entries of the replica {replica:?} were refused here: their stamps are too far ahead of the clock of this \
         machine{}", clock_of(*clock)
    )]
    ClockBehind {
        /// Its name.
        replica: String,
        /// How many.
        refused: u64,
        /// Its clock.
        clock: Option<ClockOffset>,
    },
    /// The replica has no identity, so it owns nothing.
    #[error("the replica has no identity; `FieldBuilder::identity` gives it one")]
    NoIdentity,
    /// The next identity of a rotation has another name.
    #[error("an owner keeps its name when it rotates its key: it is {name:?}, and not {given:?}")]
    OtherName {
        /// The name of the owner.
        name: String,
        /// The name of the next identity.
        given: String,
    },
    /// The replica has no store.
    #[error("the field has no store; `FieldBuilder::store` gives it one")]
    NoStore,
    /// The store failed. Everything durable before still is.
    #[cfg(feature = "store")]
    #[error("the store of the field failed")]
    Store(#[source] std::sync::Arc<super::store::StoreError>),
    /// The field is closed.
    #[error("the field is closed")]
    Closed,
}

fn clock_of(clock: Option<ClockOffset>) -> String {
    clock.map_or_else(String::new, |clock| format!("; its clock is {clock} the one here: set the clocks"))
}
