//! Errors of `aether log` and `aether dead`.

use aether_log::DeadError;
use aether_log::store::{OpenError, ReadError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Dead(#[from] DeadError),
    #[error("{places} places of the log are damaged; what is before and behind them is whole")]
    Damaged { places: usize },
}
