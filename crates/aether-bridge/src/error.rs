//! Why a bridge could not be made.

use std::fmt;

use aether_core::wave::MAX_HOPS;
use aether_core::{CreateError, JoinError, Pattern};

/// The two sides of a bridge, as its errors name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// The first medium.
    Here,
    /// The second medium.
    There,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Here => "the first medium",
            Self::There => "the second medium",
        })
    }
}

/// Error when making a bridge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// There is nothing to relay.
    #[error("a bridge without patterns relays nothing: name at least one, such as \"sensors.>\"")]
    NoPatterns,
    /// The pattern is of channels that belong to the framework.
    #[error("{pattern} is reserved for the framework: its channels are about one medium and are not relayed")]
    Reserved {
        /// The pattern as given.
        pattern: Pattern,
    },
    /// Waves are to be relayed never, or too often.
    #[error("{given} hops are not allowed: use 1 to {MAX_HOPS}")]
    Hops {
        /// The number as given.
        given: u8,
    },
    /// The vibrator that hears on one side could not be made.
    #[error("cannot make the vibrator of the bridge on {side}")]
    Create {
        /// Where.
        side: Side,
        /// The error.
        source: CreateError,
    },
    /// One side refused a subscription.
    #[error("cannot hear {pattern} on {side}")]
    Join {
        /// Where.
        side: Side,
        /// The pattern.
        pattern: Pattern,
        /// The error.
        source: JoinError,
    },
    /// One side refused to say who is there.
    #[error("cannot learn who is on {side}")]
    Roster {
        /// Where.
        side: Side,
        /// The error.
        source: JoinError,
    },
}
