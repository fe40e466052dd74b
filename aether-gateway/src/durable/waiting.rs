//! The waves that wait for a consumer, and which program answers for a log in a folder.

use std::path::{Path, PathBuf};

use aether_chassis::letters::store_of_log;
use aether_core::Pattern;
use aether_log::store::{OpenError, ReadError, View};
use aether_log::{JetStreamError, LogItem, LogReader, StoredWave};

use super::Durable;
use super::lines::{LogLine, StandingLine};
use super::stores::store_of_stream;

/// The name of a log: that of its stream, or its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogName {
    Stream(String),
    Folder(String),
}

/// Why the waves of a consumer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownLog {
    #[error("no such log, or no such consumer of it, is shown")]
    Unknown,
    #[error("the consumer has not begun: its pattern is not known")]
    NotBegun,
    #[error("the folder cannot be read")]
    Folder(#[from] OpenError),
    #[error("the folder cannot be read")]
    Waves(#[from] ReadError),
    #[error("the server cannot be read")]
    Server(#[from] JetStreamError),
    #[error("the disk does not answer")]
    Thread,
}

impl LogName {
    fn is_of(&self, log: &LogLine) -> bool {
        match self {
            Self::Stream(name) => log.folder.is_none() && log.name == *name,
            Self::Folder(folder) => log.folder.as_ref() == Some(folder),
        }
    }

    /// The store whose channel the right to change the log is about.
    pub(crate) fn store(&self) -> Option<u64> {
        match self {
            Self::Stream(name) => Some(store_of_stream(name)),
            Self::Folder(folder) => store_of_log(Path::new(folder)),
        }
    }
}

impl Durable {
    /// The first waves behind the position of a consumer, at most so many: those that wait, and those in flight. Only logs that
    /// are shown are read, whatever a request names.
    ///
    /// # Errors
    /// [`UnknownLog`].
    pub(crate) async fn waiting(
        &self,
        log: &LogName,
        consumer: &str,
        most: usize,
    ) -> Result<Vec<StoredWave>, UnknownLog> {
        let (pattern, from) = self.place(log, consumer).await?;
        match log {
            LogName::Stream(name) => {
                let view = self.streams(name)?.view().await?;
                Ok(view.waves(name, &pattern, from, most).await?)
            }
            LogName::Folder(folder) => {
                let folder = PathBuf::from(folder);
                let read = tokio::task::spawn_blocking(move || in_folder(&folder, &pattern, from, most));
                read.await.map_err(|_| UnknownLog::Thread)?
            }
        }
    }

    /// The pattern of a consumer, and the position behind its own.
    async fn place(&self, log: &LogName, consumer: &str) -> Result<(Pattern, u64), UnknownLog> {
        let all = self.now().await;
        let line = all.logs().find(|line| log.is_of(line)).ok_or(UnknownLog::Unknown)?;
        let found = line.consumers.iter().find(|line| line.name == consumer).ok_or(UnknownLog::Unknown)?;
        found.standing.as_ref().and_then(StandingLine::place).ok_or(UnknownLog::NotBegun)
    }

    /// Whether a log is shown.
    pub(crate) async fn has(&self, log: &LogName) -> bool {
        self.now().await.logs().any(|line| log.is_of(line))
    }

    /// Forgets a consumer of a log in JetStream. Returns whether there was one.
    ///
    /// # Errors
    /// [`JetStreamError`].
    pub(crate) async fn forget_in_stream(&self, log: &str, consumer: &str) -> Result<bool, JetStreamError> {
        self.streams(log)?.view().await?.forget_consumer(log, consumer).await
    }
}

fn in_folder(
    folder: &Path,
    pattern: &Pattern,
    from: u64,
    most: usize,
) -> Result<Vec<StoredWave>, UnknownLog> {
    let view = View::open(folder)?;
    let mut reader = LogReader::new(view.cursor(from)).only(pattern);
    let mut waves = Vec::new();
    while waves.len() < most
        && let Some(item) = reader.next_item()?
    {
        if let LogItem::Wave(wave) = item {
            waves.push(*wave);
        }
    }
    Ok(waves)
}
