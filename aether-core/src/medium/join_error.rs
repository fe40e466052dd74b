//! Why a subscription is not in force.

use std::time::Duration;

use crate::channel::{Channel, ChannelError};

/// The reason why joining a pattern failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The medium was closed.
    #[error("the medium is closed")]
    Closed,
    /// The receiver was dropped, so the pattern no longer has a receiver.
    #[error("the receiver was dropped")]
    Dropped,
    /// The pattern or the group name is invalid.
    #[error(transparent)]
    Invalid(#[from] ChannelError),
    /// An observer cannot join a group, because it would take waves away from the members that process them.
    #[error("an observer cannot be a member of the group {group}")]
    Observer {
        /// The group.
        group: Channel,
    },
    /// The medium does not support groups; see [`Promises::groups`](super::Promises::groups).
    #[error("the medium has no groups: cannot be a member of the group {group}")]
    NoGroups {
        /// The group.
        group: Channel,
    },
    /// The [guard](super::Guard) of this process refuses the pattern.
    #[error(transparent)]
    NotAllowed(Box<super::ForeignError>),
    /// The vibrator has as many patterns already as it may have. What it hears in several groups counts once for each.
    #[error("a vibrator hears at most {most} patterns: use wider patterns, or another vibrator")]
    TooManyPatterns {
        /// The most patterns.
        most: usize,
    },
    /// This process has as many subscriptions already as its peers on a local network take.
    #[error(
        "a process on a local network has at most {most} subscriptions, in {most_bytes} bytes of patterns: use wider patterns"
    )]
    TooMany {
        /// The most subscriptions.
        most: usize,
        /// The most bytes, each subscription with 128 more than its pattern and its group.
        most_bytes: usize,
    },
    /// Some peers on a local network did not confirm the subscription; those without room for it do not. What they emit may not
    /// arrive.
    #[error(
        "{} did not confirm the subscription within {within:?}: their tables of peers may be full",
        peers.join(", ")
    )]
    Unconfirmed {
        /// Some of them, by name and number.
        peers: Vec<String>,
        /// The time waited.
        within: Duration,
    },
    /// The server does not permit the subscription.
    #[error("the server does not permit to subscribe to {subject}: allow it in the permissions of this user")]
    NotPermitted {
        /// The subject.
        subject: String,
    },
    /// The broker's client rejected the subscription.
    #[error("the broker's client did not take the subscription")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}
