//! Why `aether bench` failed.

use aether_bench::{OverloadError, ReceiverError, ReportError, RunError, ScheduleError, StormError};
use aether_core::ConnectError;

/// Why a benchmark has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Overload(#[from] OverloadError),
    #[error(transparent)]
    Storm(#[from] StormError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the counts do not add up")]
    Report(#[from] ReportError),
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    #[error("the path of this program is unknown, so it cannot start itself as a receiver")]
    Program(#[source] std::io::Error),
    #[error("the result cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl BenchError {
    /// Whether the error is wrong usage that the argument parser cannot detect.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        use aether_bench::ContestantError::Connect;
        match self {
            Self::Schedule(_)
            | Self::Overload(OverloadError::Schedule(_))
            | Self::Storm(StormError::Schedule(_)) => true,
            Self::Run(RunError::Contestant(Connect(error)))
            | Self::Storm(StormError::Contestant(Connect(error)))
            | Self::Overload(OverloadError::Run { source: RunError::Contestant(Connect(error)), .. }) => {
                !matches!(error, ConnectError::Unreachable { .. })
            }
            _ => false,
        }
    }
}
