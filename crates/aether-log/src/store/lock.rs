//! The lock of a log's folder: one writing process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use aether_files::disk::Disk;

use super::error::OpenError;
use super::folder::make_folder;

/// Held as long as the log is open. The operating system releases it when the process ends, however it ends.
///
/// The file has the number of the process. The folder is locked as well where the system can do that, because somebody may
/// remove the file, and another one would lock its successor.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    _folder: Option<File>,
}

impl Lock {
    pub(super) fn acquire(disk: &dyn Disk, folder: &Path) -> Result<Self, OpenError> {
        if folder.exists() && !folder.is_dir() {
            return Err(OpenError::NotAFolder { path: folder.to_owned() });
        }
        make_folder(disk, folder).map_err(|source| OpenError::io(folder, "make the folder", source))?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| OpenError::io(&path, "write", source))?;
        let in_use = |file: &mut File| {
            let mut text = String::new();
            let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            OpenError::InUse { path: folder.to_owned(), process }
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&mut file)),
            Err(TryLockError::Error(source)) => return Err(OpenError::io(&path, "lock", source)),
        }
        let itself = if cfg!(unix) { File::open(folder).ok() } else { None };
        // Not every file system locks folders; then there is only the file.
        if itself.as_ref().is_some_and(|itself| matches!(itself.try_lock(), Err(TryLockError::WouldBlock))) {
            return Err(in_use(&mut file));
        }
        // Only for the error of a second process.
        let noted = file.set_len(0).and_then(|()| file.rewind());
        let noted = noted.and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(|source| OpenError::io(&path, "write", source))?;
        Ok(Self { _file: file, _folder: itself })
    }
}
