//! The lock of a store: one process at a time.

use std::path::{Path, PathBuf};

use aether_files::lock_file::{LockError, LockFile};

use crate::error::OpenError;

/// Holds the store in a file. The lock is another file, as databases lock their own.
pub(crate) fn lock(store: &Path) -> Result<LockFile, OpenError> {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    LockFile::acquire(&path).map_err(|error| match error {
        LockError::Held { process } => OpenError::InUse { path: store.to_owned(), process },
        LockError::Io { doing, source } => OpenError::io(&path, doing, source),
    })
}
