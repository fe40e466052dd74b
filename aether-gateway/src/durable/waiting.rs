//! The waves that wait for a consumer, and which program answers for a log in a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use aether_core::Pattern;
use aether_log::store::{OpenError, ReadError, View};
use aether_log::{JetStreamError, LogItem, LogReader, StoredWave, Unopened};
use aether_service::letters::{store_of_log, store_of_stream};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Durable;
use super::lines::{LogLine, StandingLine};

/// The number of requests that hold waves at the same time, and the bytes after which none of them reads another wave.
pub(super) const READERS: usize = 4;
const MOST_BYTES: usize = 16 << 20;
/// The number of waves that are read from JetStream between two looks at the bytes.
const AT_ONCE: usize = 20;

/// The name of a log: the name of its stream, or its folder.
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
    #[error("the waves cannot be opened: give the gateway the keys of the log")]
    Unopened(#[source] Unopened),
    #[error("the server cannot be read")]
    Server(#[from] JetStreamError),
    #[error("the thread that read the log has ended without an answer; ask again")]
    Thread,
}

/// The first waves that wait for a consumer.
#[derive(Debug)]
pub(crate) struct FirstWaves {
    pub(crate) waves: Vec<StoredWave>,
    /// Whether more wait.
    pub(crate) more: bool,
    bytes: usize,
    most: usize,
    /// Given back when the waves are no longer held, and the thread that reads them has ended.
    _turn: OwnedSemaphorePermit,
}

impl FirstWaves {
    fn new(most: usize, turn: OwnedSemaphorePermit) -> Self {
        Self { waves: Vec::new(), more: false, bytes: 0, most, _turn: turn }
    }

    /// Takes a wave if there is room for it. Returns whether there was.
    fn take(&mut self, wave: StoredWave) -> bool {
        self.more = self.waves.len() == self.most || self.bytes >= MOST_BYTES;
        if !self.more {
            self.bytes += wave.wave.weight();
            self.waves.push(wave);
        }
        !self.more
    }
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
    /// The first waves behind the position of a consumer, at most `most` and about 16 MiB: the waiting ones, and the
    /// ones in flight. Only logs that are shown are read, whatever a request names. Waits for its turn; if the caller
    /// stops waiting, the reading ends.
    ///
    /// # Errors
    /// [`UnknownLog`].
    pub(crate) async fn waiting(
        &self,
        log: &LogName,
        consumer: &str,
        most: usize,
    ) -> Result<FirstWaves, UnknownLog> {
        let (pattern, from) = self.place(log, consumer).await?;
        // The semaphore is never closed.
        let turn = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| UnknownLog::Thread)?;
        let waiting = FirstWaves::new(most, turn);
        match log {
            LogName::Stream(name) => self.in_stream(name, &pattern, from, waiting).await,
            LogName::Folder(folder) => {
                let folder = (PathBuf::from(folder), self.keys.clone());
                in_folder(folder, pattern, from, waiting).await
            }
        }
    }

    async fn in_stream(
        &self,
        log: &str,
        pattern: &Pattern,
        mut from: u64,
        mut waiting: FirstWaves,
    ) -> Result<FirstWaves, UnknownLog> {
        let view = self.streams(log)?.view().await?;
        loop {
            // One more shows that more wait.
            let wanted = AT_ONCE.min(waiting.most + 1 - waiting.waves.len());
            let waves = view.waves(log, pattern, from, wanted).await?;
            let is_end = waves.len() < wanted;
            for wave in waves {
                from = wave.position.saturating_add(1);
                if !waiting.take(wave) {
                    return Ok(waiting);
                }
            }
            if is_end {
                return Ok(waiting);
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

/// Reads in a thread of its own, for which the end of the program does not wait: a disk may not answer.
async fn in_folder(
    folder: (PathBuf, Option<PathBuf>),
    pattern: Pattern,
    from: u64,
    mut waiting: FirstWaves,
) -> Result<FirstWaves, UnknownLog> {
    let (done, read) = oneshot::channel();
    let reading = move || {
        let result = read_folder(&folder, &pattern, from, &mut waiting, || done.is_closed());
        // Nobody waits any more if the request has ended.
        let _ = done.send(result.map(|()| waiting));
    };
    thread::Builder::new()
        .name("aether-waiting".to_owned())
        .spawn(reading)
        .map_err(|_| UnknownLog::Thread)?;
    read.await.map_err(|_| UnknownLog::Thread)?
}

/// Looks at every wave, so that it can end at each: a log may have very many that the consumer does not want. Fails if all
/// that are wanted are sealed and none can be opened.
fn read_folder(
    (folder, keys): &(PathBuf, Option<PathBuf>),
    pattern: &Pattern,
    from: u64,
    waiting: &mut FirstWaves,
    is_over: impl Fn() -> bool,
) -> Result<(), UnknownLog> {
    let mut reader = LogReader::new(View::open(folder)?.cursor(from));
    if let Some(keys) = keys
        && aether_log::is_sealed(folder)? == Some(true)
    {
        reader = reader.keys(keys)?;
    }
    let mut unopened = None;
    while !is_over()
        && let Some(item) = reader.next_item()?
    {
        let wave = match item {
            LogItem::Wave(wave) if pattern.matches(wave.wave.channel()) => *wave,
            LogItem::Unopened { channel: Some(channel), reason, .. } if pattern.matches(&channel) => {
                unopened = Some(reason);
                continue;
            }
            _ => continue,
        };
        if !waiting.take(wave) {
            break;
        }
    }
    match unopened {
        Some(reason) if waiting.waves.is_empty() => Err(UnknownLog::Unopened(reason)),
        _ => Ok(()),
    }
}
