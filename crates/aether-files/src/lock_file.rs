//! Files that one process at a time holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

/// A file or folder that this process holds until the value is dropped. The operating system releases it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct LockFile(File);

/// Why a file is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it, or this one does already.
    #[error("it is held")]
    Held {
        /// The number of that process, if it can be read.
        process: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {doing} it")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl LockFile {
    /// Holds a file, which is made if there is none, and notes the number of this process in it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|source| LockError::Io { doing: "write", source })?;
        let mut held = Self::hold(file)?;
        // Only for the error of a second process, so a full disk does not matter.
        let noted = held.0.set_len(0).and_then(|()| held.0.rewind());
        if let Err(error) = noted.and_then(|()| writeln!(held.0, "{}", std::process::id())) {
            tracing::debug!(path = %path.display(), %error, "the process number was not noted");
        }
        Ok(held)
    }

    /// Holds a folder itself. `None` where the system cannot do that.
    ///
    /// # Errors
    /// [`LockError::Held`].
    pub fn acquire_folder(path: &Path) -> Result<Option<Self>, LockError> {
        match File::open(path).map(Self::hold) {
            Ok(Err(held @ LockError::Held { .. })) => Err(held),
            held => Ok(held.ok().and_then(Result::ok)),
        }
    }

    fn hold(mut file: File) -> Result<Self, LockError> {
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                Err(LockError::Held { process })
            }
            Err(TryLockError::Error(source)) => Err(LockError::Io { doing: "lock", source }),
        }
    }
}

impl Drop for LockFile {
    /// Closing the file is not enough: a process that is being started has it open, too, until it becomes its program.
    fn drop(&mut self) {
        // The lock ends with the last process that has the file open, at the latest.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_once_and_names_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = LockFile::acquire(&path).unwrap();
        let second = LockFile::acquire(&path);
        assert!(
            matches!(second, Err(LockError::Held { process }) if process == Some(std::process::id())),
            "{second:?}"
        );
        drop(held);
        LockFile::acquire(&path).unwrap();
        let refused = LockFile::acquire(&folder.path().join("absent").join("lock"));
        assert!(matches!(refused, Err(LockError::Io { doing: "write", .. })), "{refused:?}");
    }

    /// As a child does between its beginning and its program.
    #[test]
    fn a_file_is_free_when_it_is_dropped_although_another_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        for acquire in
            [|path: &Path| LockFile::acquire(&path.join("lock")).map(Some), LockFile::acquire_folder]
        {
            let held = acquire(folder.path()).unwrap().unwrap();
            let inherited = held.0.try_clone().unwrap();
            assert!(matches!(acquire(folder.path()), Err(LockError::Held { .. })));
            drop(held);
            assert!(acquire(folder.path()).unwrap().is_some());
            drop(inherited);
        }
    }
}
