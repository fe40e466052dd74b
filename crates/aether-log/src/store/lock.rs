//! The lock of a log's folder: one writing process at a time.

use std::path::Path;

use aether_files::disk::Disk;
use aether_files::lock_file::{LockError, LockFile};

use super::error::OpenError;
use super::folder::make_folder;

/// Held as long as the log is open.
///
/// The folder is locked as well where the system can do that, because somebody may remove the file, and another one would
/// lock its successor.
#[derive(Debug)]
pub(super) struct Lock {
    _file: LockFile,
    _folder: Option<LockFile>,
}

impl Lock {
    pub(super) fn acquire(disk: &dyn Disk, folder: &Path) -> Result<Self, OpenError> {
        if folder.exists() && !folder.is_dir() {
            return Err(OpenError::NotAFolder { path: folder.to_owned() });
        }
        make_folder(disk, folder).map_err(|source| OpenError::io(folder, "make the folder", source))?;
        let path = folder.join("lock");
        let refused = |error| match error {
            LockError::Held { process } => OpenError::InUse { path: folder.to_owned(), process },
            LockError::Io { doing, source } => OpenError::io(&path, doing, source),
        };
        let folder_itself = || if cfg!(unix) { LockFile::acquire_folder(folder) } else { Ok(None) };
        Ok(Self {
            _file: LockFile::acquire(&path).map_err(refused)?,
            _folder: folder_itself().map_err(refused)?,
        })
    }
}
