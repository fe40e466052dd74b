//! Why a log cannot be opened, written or read.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_core::{Durability, Pattern};

/// Why a log was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path is a file.
    #[error("{} is not a folder: a log is a folder of its own", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Another process writes the log, or this one has it open already.
    #[error("the log {} is open in {}: one process at a time may write it", path.display(), holder(*.process))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The number of that process, if it can be read.
        process: Option<u32>,
    },
    /// The folder has no segments.
    #[error("{} holds no log: name the folder of a log", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// A file that is named like a segment is none.
    #[error("{} is not a segment of an Aether log: give the log a folder of its own", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The segment was written by another version.
    #[error("{} has version {version} of the format, and this program reads version 1: use a newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        version: u8,
    },
    /// The log is to be kept for a name that no consumer can have.
    #[error(
        "{name:?} cannot name a consumer that a log is kept for: use 1 to 64 letters, digits, '-' and '_'"
    )]
    KeepFor {
        /// The name.
        name: String,
    },
    /// The keys of the log cannot be used.
    #[error("the keys of the log {} cannot be used", path.display())]
    Keys {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The log is not sealed, and is opened with keys.
    #[error("the log {} is not sealed: give a sealed log a folder of its own, or open this one without keys", path.display())]
    Plain {
        /// The folder.
        path: PathBuf,
    },
    /// The log is sealed, and is opened without keys.
    #[error("the log {} is sealed: open it with its keys", path.display())]
    Sealed {
        /// The folder.
        path: PathBuf,
    },
    /// A folder is on one machine.
    #[error(
        "{pattern} is to be {level}, and a folder is on one machine: use `synced`, or a log in JetStream"
    )]
    Replicated {
        /// The pattern of the channels.
        pattern: Pattern,
        /// The level that was asked for.
        level: Durability,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The attempted operation.
        doing: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), doing, source }
    }

    /// Whether opening may succeed later without a change by an operator.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

/// Why a record was not stored, or did not reach the level that was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The record is larger than a log takes.
    #[error("the record has {bytes} bytes, and the log takes less than {limit}")]
    TooLarge {
        /// The size of the record.
        bytes: usize,
        /// It must have fewer bytes than this.
        limit: usize,
    },
    /// The disk is slower than the emitters: too many bytes wait to be written.
    #[error(
        "{waiting} bytes wait to be written, and at most {max_bytes} may: emit less, or use a faster disk"
    )]
    Behind {
        /// The bytes that wait.
        waiting: usize,
        /// The setting [`StoreOptions::max_queued_bytes`](super::StoreOptions::max_queued_bytes).
        max_bytes: usize,
    },
    /// The operating system did not write the record, for example because the disk is full. Earlier records are whole.
    /// The log takes the next record as soon as there is room.
    #[error("cannot write {}: make room, or check the rights of the folder", path.display())]
    Write {
        /// The segment.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The operating system could not sync, or not take back half of a record. Nobody knows what of the last records
    /// is on the disk, so the log takes nothing more until it is opened again, which checks it.
    #[error("{} could not be synced or repaired: check the disk, then start again", path.display())]
    Failed {
        /// The segment.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The log is as large as it may be, and a consumer that it keeps waves for has not settled the oldest ones. It
    /// takes waves again when that consumer has.
    #[error(
        "the log is full, and the consumer {consumer} has not settled {waves} of its positions: start or repair the consumer, or give the log more room"
    )]
    Held {
        /// The consumer that is farthest behind.
        consumer: String,
        /// The number of positions behind the ones that it has settled.
        waves: u64,
    },
    /// The operating system gave no random numbers to seal with.
    #[error("cannot seal what is stored")]
    Keys(#[source] Arc<dyn Error + Send + Sync>),
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same record may be stored later, without opening the log again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Behind { .. } | Self::Write { .. } | Self::Held { .. })
    }
}

/// Why a log cannot be read. Damage does not count as an error: [`Item::Damaged`](super::Item) reports it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The attempted operation.
        doing: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The log has dropped, by its retention, what a reader without gaps wants next.
    #[error(
        "the log begins at {first} now, and {wanted} was to be read: keep the log for longer, or read faster"
    )]
    Dropped {
        /// The position that was wanted.
        wanted: u64,
        /// The first position of the log.
        first: u64,
    },
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, doing, source } => Self::Io { path, doing, source },
            dropped @ ReadError::Dropped { .. } => {
                let source = io::Error::new(io::ErrorKind::NotFound, dropped);
                Self::Io { path: PathBuf::new(), doing: "read", source }
            }
        }
    }
}

impl ReadError {
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), doing, source }
    }
}
