//! Errors of `aether log` and of the letters of a log.

use std::path::PathBuf;

use aether_log::store::{OpenError, ReadError};
use aether_log::{BackupError, DeadError, JetStreamError, ReplayError, RestoreError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
    #[error(transparent)]
    Dead(#[from] DeadError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("{} cannot be watched for changes", folder.display())]
    Watch { folder: PathBuf, source: notify::Error },
    #[error("{} is not watched any more", folder.display())]
    Unwatched { folder: PathBuf },
    #[error(
        "{waves} waves of the log were not opened; the others were. Give the keys of the log: --keys, AETHER_KEYS or [medium] keys"
    )]
    Unopened { waves: u64 },
    #[error("{places} places of the log are damaged; what is before and behind them is whole")]
    Damaged { places: usize },
}
