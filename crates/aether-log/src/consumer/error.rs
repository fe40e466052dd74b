//! Why a consumer cannot go on.

use aether_core::Pattern;
use aether_core::wave::ChannelError;

#[cfg(feature = "jetstream")]
use crate::jetstream::JetStreamError;
use crate::store::{AppendError, OpenError, ReadError};

/// Why a consumer was not opened, or has nothing to deliver now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The name cannot name a consumer.
    #[error("{name:?} cannot name a consumer: use 1 to 64 letters, digits, '-' and '_'")]
    Name {
        /// The name.
        name: String,
    },
    /// The pattern is not valid.
    #[error(transparent)]
    Invalid(#[from] ChannelError),
    /// The name belongs to a consumer of another pattern.
    #[error("the consumer {name} hears {stored} and not {given}: use another name, or the same pattern")]
    OtherPattern {
        /// The name of the consumer.
        name: String,
        /// Its pattern.
        stored: Pattern,
        /// The pattern that was given.
        given: Pattern,
    },
    /// A limit counts the waves of each tenant, and the consumer has no tenants.
    #[error("a limit counts the waves of each tenant: name the tenants with fair_by")]
    NoTenants,
    /// The server cannot pin one client of a consumer, which the order of each key and limits need.
    #[cfg(feature = "jetstream")]
    #[error(
        "a consumer by key or with a limit needs NATS 2.11 or newer, and the server has {version}: update it, or leave these out"
    )]
    ByKey {
        /// The version of the server.
        version: String,
    },
    /// Its journal cannot be opened.
    #[error("the journal of the consumer cannot be opened")]
    Open(#[from] OpenError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// A dead letter or an acknowledgement was not written. Its wave stays.
    #[error("the consumer cannot write")]
    Write(#[from] AppendError),
    /// The server refused, or did not answer.
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    Server(#[from] JetStreamError),
    /// The beginning of an attempt cannot be noted. Its wave stays.
    #[error("the beginning of an attempt cannot be noted: check the folder of the consumer")]
    Attempt(#[source] std::io::Error),
    /// The runtime is being shut down.
    #[error("the runtime is being shut down")]
    ShutDown,
}

/// Why the weight of a tenant was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// The consumer does not divide its deliveries among tenants.
    #[error("the consumer has no tenants: open it with fair_by")]
    NotFair,
    /// The table of weights is full.
    #[error("65,536 tenants have a weight other than 1: give some of them the weight 1")]
    TooMany,
}

/// Why an acknowledgement was not written. The wave is delivered again.
#[derive(Debug, thiserror::Error)]
#[error("the acknowledgement of the wave at position {position} was not written, so it is delivered again")]
#[non_exhaustive]
pub struct AckError {
    /// The position of the wave.
    pub position: u64,
    /// Why.
    pub source: NotAcknowledged,
}

/// Why an acknowledgement was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAcknowledged {
    /// The journal of the consumer cannot be written.
    #[error(transparent)]
    Write(#[from] AppendError),
    /// The server did not confirm it.
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    Server(#[from] JetStreamError),
}

impl NotAcknowledged {
    /// Whether the same may succeed later without a change of the program.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Write(error) => error.is_transient(),
            #[cfg(feature = "jetstream")]
            Self::Server(error) => error.is_transient(),
        }
    }
}

impl From<AckError> for ConsumeError {
    fn from(error: AckError) -> Self {
        match error.source {
            NotAcknowledged::Write(error) => Self::Write(error),
            #[cfg(feature = "jetstream")]
            NotAcknowledged::Server(error) => Self::Server(error),
        }
    }
}
