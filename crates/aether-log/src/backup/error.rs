//! Why a backup was not made or restored.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::OpenError;

/// Why a backup was not made. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is something of this name.
    #[error("{} exists: a backup makes a new folder", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] OpenError),
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

impl BackupError {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}

/// Why a backup was not restored. Nothing is left of the new folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is something of this name.
    #[error("{} exists: a backup is restored into a new folder", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has no list of files, or it is not what was written.
    #[error("{} is not the list of files of a backup: name the folder of a backup, or use another one", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
    },
    /// Another version made the backup.
    #[error("{} has version {version} of the format, and this program reads version 1: use a newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        version: u32,
    },
    /// A file is not what was copied.
    #[error("{} is damaged: use another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The restored log cannot be used.
    #[error(transparent)]
    Log(#[from] OpenError),
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

impl RestoreError {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}
