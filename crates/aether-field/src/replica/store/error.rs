//! Errors of stores.

use std::path::PathBuf;

use crate::core::Refusal;

/// The layout of the file. Other versions are refused.
pub(super) const VERSION: u8 = 2;

/// The store of a replica failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("{} is open in another process; a store serves one process at a time", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is of another version.
    #[error("{} has version {version} of the store; this program reads version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The file is not a store of a field. It is not touched.
    #[error("{} is not a store of a field, or damaged beyond recognition; it is left as it is", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, and what is left of it cannot be saved beside it.
    #[error("{} is damaged, and what is readable cannot be saved in a new file", path.display())]
    Salvage {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file has an entry that is out of bounds.
    #[error("{} has an entry that this field does not allow", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Refusal,
    },
    /// The file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// The thread of the store cannot be started.
    #[error("the thread of the store cannot be started")]
    Thread(#[source] std::io::Error),
}

/// An error and its causes, for the log.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
