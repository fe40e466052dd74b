//! Why a store cannot be opened, or a transaction not be made.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use aether_core::WaveError;
use aether_core::wave::SourceError;
use aether_link::wire::EncodeError;

/// The version of the layout that this program writes.
pub(crate) const VERSION: u8 = 1;

/// Why a store was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the store open, or this one has.
    #[error("the store {} is open in {}: one process at a time may use it", path.display(), holder(*.process))]
    InUse {
        /// The file.
        path: PathBuf,
        /// The number of that process, if it can be read.
        process: Option<u32>,
    },
    /// A newer program wrote the file.
    #[error("{} has version {version} of the store, and this program reads version {VERSION}: use a newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        version: u8,
    },
    /// The file belongs to a service of another name.
    #[error("{} is the store of {stored} and not of {given}: give each service a file of its own", path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// The name in the file.
        stored: String,
        /// The name that was given.
        given: String,
    },
    /// The name cannot name a source of waves.
    #[error(transparent)]
    Name(#[from] SourceError),
    /// The file is damaged, or no database of this kind.
    #[error("{} is damaged, or none of the files of this kind of store: it is left as it is", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The error of the database.
        source: Box<dyn Error + Send + Sync>,
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
    /// The first transaction failed.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
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

/// Why something was not done in a transaction. Nothing of the transaction is kept unless its `commit` returned Ok.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full, or the operating system refused in another way. Everything committed before is whole. The
    /// store goes on as soon as the cause is gone.
    #[error("cannot read or write {}: make room on the disk or check it, and try again", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the database.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A row is not what this program wrote.
    #[error("the row {key} of {area} in {} is damaged: restore the file from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The table.
        area: String,
        /// The key, as text.
        key: String,
    },
    /// A value cannot be written or read as JSON.
    #[error("the value of {key:?} in the table {table} does not fit its type")]
    Value {
        /// The table.
        table: String,
        /// The key.
        key: String,
        /// Where, and why.
        source: serde_json::Error,
    },
    /// A table or a key without a name.
    #[error("{name:?} cannot name a {what}: use 1 to {most} bytes")]
    Name {
        /// The name.
        name: String,
        /// A table or a key.
        what: &'static str,
        /// The maximum length.
        most: usize,
    },
    /// Too many waves wait for the relay.
    #[error(
        "{waiting} waves wait to be relayed, and at most {most} may: see why the relay makes no progress, or raise max_waiting"
    )]
    Full {
        /// The waves that wait.
        waiting: u64,
        /// The setting.
        most: u64,
    },
    /// The wave cannot be built.
    #[error(transparent)]
    Wave(#[from] WaveError),
    /// The channel belongs to the framework.
    #[error("channel {channel} is reserved for the framework")]
    Reserved {
        /// The channel.
        channel: String,
    },
    /// The wave cannot be written as a frame.
    #[error("the wave cannot be stored")]
    Encode(#[from] EncodeError),
    /// The wave has no identity, so nobody can remember whether it was handled.
    #[error("the wave was never emitted: only a wave with an identity can be handled once")]
    NoIdentity,
    /// The runtime is being shut down.
    #[error("the runtime is being shut down")]
    ShutDown,
    /// An error of the service's own code, made by [`StoreError::other`], or of its own statements.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// An error of the service's own code, so that a closure of [`Store::write`](crate::Store::write) or
    /// [`Run::change`](crate::Run::change) can return it. [`StoreError::Other`] hands it back.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// Whether the same transaction may succeed later: the disk is full, or has failed at one moment, or too many
    /// waves wait. Also for errors of the service's own statements on the file.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::File { .. } | Self::Full { .. } => true,
            Self::Other(error) => is_of_the_file(error.as_ref()),
            _ => false,
        }
    }
}

fn is_of_the_file(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.downcast_ref::<rusqlite::Error>() {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        let code = error.sqlite_error_code();
        return matches!(code, Some(CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure));
    }
    #[cfg(feature = "postgres")]
    if let Some(error) = error.downcast_ref::<sqlx::Error>() {
        return is_of_the_server(error);
    }
    matches!(error.downcast_ref(), Some(redb::Error::Io(_) | redb::Error::PreviousIo))
}

/// The connection is gone, the server is full, starts or stops, or has ended one of two transactions that were in each
/// other's way.
#[cfg(feature = "postgres")]
fn is_of_the_server(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class))
        }
        _ => false,
    }
}

/// Of the statements of `PostgresStore`, and of a service's own.
#[cfg(feature = "postgres")]
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::other(error)
    }
}

/// Of the statements of [`Transaction::sql`](crate::Transaction::sql).
#[cfg(feature = "sqlite")]
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::other(error)
    }
}

/// Of the tables of [`Transaction::redb`](crate::Transaction::redb).
impl From<redb::TableError> for StoreError {
    fn from(error: redb::TableError) -> Self {
        Self::other(redb::Error::from(error))
    }
}

/// Of the tables of [`Transaction::redb`](crate::Transaction::redb).
impl From<redb::StorageError> for StoreError {
    fn from(error: redb::StorageError) -> Self {
        Self::other(redb::Error::from(error))
    }
}

impl From<Infallible> for StoreError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
