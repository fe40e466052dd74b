//! The lock of a log's folder: one writing process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::error::OpenError;

/// Held as long as the log is open. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn acquire(folder: &Path) -> Result<Self, OpenError> {
        if folder.exists() && !folder.is_dir() {
            return Err(OpenError::NotAFolder { path: folder.to_owned() });
        }
        std::fs::create_dir_all(folder).map_err(|source| OpenError::io(folder, "make the folder", source))?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| OpenError::io(&path, "write", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { path: folder.to_owned(), process });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::io(&path, "lock", source)),
        }
        // Only for the error of a second process.
        let noted = file.set_len(0).and_then(|()| file.rewind());
        let noted = noted.and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(|source| OpenError::io(&path, "write", source))?;
        Ok(Self { _file: file })
    }
}
