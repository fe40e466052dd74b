//! Why `aether lan` failed.

use std::time::Duration;

use aether::lan::LanError;

/// Why nothing is known about a local network, or no router runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LanCommandError {
    #[error("{medium} is not a local network: use --medium lan: or leave it out")]
    OtherMedium { medium: String },
    #[error(
        "nobody else was found within {within:?}: `aether lan doctor` explains why somebody may not be seen"
    )]
    Nobody { within: Duration },
    #[error(
        "no peer is called {name:?}, out of {there} that are there: `aether lan peers` prints their names and ids"
    )]
    UnknownPeer { name: String, there: usize },
    #[error("none of {pings} pings was answered")]
    Unanswered { pings: u64 },
    #[error("the router does not run")]
    Router(#[source] LanError),
}

impl LanCommandError {
    /// Whether the arguments cannot be.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        match self {
            Self::OtherMedium { .. } => true,
            Self::Router(error) => !matches!(error, LanError::Network { .. }),
            _ => false,
        }
    }
}
