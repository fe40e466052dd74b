//! The lock of a store: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Held as long as the store is open. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn acquire(store: &Path) -> Result<Self, OpenError> {
        let mut name = store.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|source| OpenError::io(&path, "write", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { path: store.to_owned(), process });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::io(&path, "lock", source)),
        }
        // Only for the error of a second process, so a full disk does not matter.
        let noted = file.set_len(0).and_then(|()| file.rewind());
        if let Err(error) = noted.and_then(|()| writeln!(file, "{}", std::process::id())) {
            tracing::debug!(path = %path.display(), %error, "the process number was not noted");
        }
        Ok(Self { _file: file })
    }
}
