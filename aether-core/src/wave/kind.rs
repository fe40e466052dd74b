//! The kinds of waves: their names and how they differ.
//!
//! Chosen when a wave is built, carried on the wire, and read by handlers, the outbox and the reflector.

use std::fmt;

use crate::amplitude::HalfLife;

/// The purpose of a wave. The bus treats all kinds alike, except for the default half-life and that commands are never
/// batched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Kind {
    /// Something happened. Decays: 8 s half-life by default.
    #[default]
    Event,
    /// A request for an action. Does not decay by default. On a network each command is a message of its own, so that
    /// the members of a group share a burst of them evenly; waves of other kinds share messages.
    Command,
    /// A question that expects an answer. Does not decay by default.
    Query,
    /// The answer to a query. Does not decay by default.
    Response,
    /// An announcement to any interested receiver. Decays: 8 s half-life by default.
    Broadcast,
}

impl Kind {
    /// All kinds, in the order of their wire codes (0 to 4).
    pub const ALL: [Self; 5] = [Self::Event, Self::Command, Self::Query, Self::Response, Self::Broadcast];

    /// Its code on the wire, which is its place in [`Kind::ALL`].
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The lower-case name: `event`, `command`, `query`, `response`, `broadcast`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Command => "command",
            Self::Query => "query",
            Self::Response => "response",
            Self::Broadcast => "broadcast",
        }
    }

    /// The half-life of a wave of this kind if none was set.
    #[must_use]
    pub const fn default_half_life(self) -> HalfLife {
        match self {
            Self::Event | Self::Broadcast => HalfLife::EIGHT_SECONDS,
            Self::Command | Self::Query | Self::Response => HalfLife::NEVER,
        }
    }

    /// Whether a failure returns a wave of this kind to its source as an [`Echo`](crate::Echo). True for commands and
    /// queries. Waves of other kinds can [ask](crate::WaveBuilder::echo).
    #[must_use]
    pub const fn reflects(self) -> bool {
        matches!(self, Self::Command | Self::Query)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not a kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a kind: use event, command, query, response or broadcast")]
pub struct KindError {
    given: String,
}

impl std::str::FromStr for Kind {
    type Err = KindError;
    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| KindError { given: text.to_owned() })
    }
}
