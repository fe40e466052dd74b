//! Making a redb file: beside its place, so that a disk that is full leaves no half of one. For the stores of our other
//! crates.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, StorageError};

/// The maximum size of a file that was never whole. redb makes files of 73,728 bytes.
const UNFINISHED: u64 = 1 << 20;

/// The bytes at the beginning that redb writes last.
const MAGIC: usize = 9;

/// Opens a file, or makes it if there is none, or only one that was never whole. Blocks.
///
/// # Errors
/// As [`Builder::open`]: [`DatabaseError::DatabaseAlreadyOpen`] also if a file that was never whole is being made.
pub fn open_or_make(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let is_unfinished = match std::fs::metadata(path) {
        Ok(about) if about.len() == 0 => true,
        Ok(about) => about.len() <= UNFINISHED && was_never_whole(path).unwrap_or(false),
        Err(error) if error.kind() == ErrorKind::NotFound => return make(builder, path),
        Err(error) => return Err(io(error)),
    };
    if !is_unfinished {
        return builder.open(path);
    }
    // Nobody may have it open, such as a process that is about to make it.
    if let Err(TryLockError::WouldBlock) = File::open(path).map_err(io)?.try_lock() {
        return Err(DatabaseError::DatabaseAlreadyOpen);
    }
    tracing::warn!(path = %path.display(), "the file was never whole, as on a full disk; a new one replaces it");
    std::fs::remove_file(path).map_err(io)?;
    make(builder, path)
}

fn make(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let new = beside(path);
    let made = builder.create(&new).map(drop).and_then(|()| match std::fs::hard_link(&new, path) {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Not all file systems have links.
        Err(_) => std::fs::rename(&new, path).map_err(io),
        Ok(()) => Ok(()),
    });
    // After a rename there is nothing to remove.
    let _ = std::fs::remove_file(&new);
    made?;
    builder.open(path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    PathBuf::from(name)
}

/// Whether a file is what redb leaves if it cannot end a new one: zeros, or a header that lacks the mark of redb.
fn was_never_whole(path: &Path) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(UNFINISHED).read_to_end(&mut bytes)?;
    let has_no_mark = bytes.iter().take(MAGIC).all(|byte| *byte == 0);
    let has_page_size = bytes.get(12..16) == Some(&4096_u32.to_le_bytes());
    Ok(has_no_mark && (has_page_size || bytes.iter().all(|byte| *byte == 0)))
}

fn io(error: std::io::Error) -> DatabaseError {
    DatabaseError::Storage(StorageError::Io(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_never_whole_is_made_anew_and_another_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        for unfinished in [&[0_u8; 73_728][..], &[]] {
            std::fs::write(&path, unfinished).unwrap();
            drop(open_or_make(&Database::builder(), &path).unwrap());
            drop(Database::open(&path).unwrap());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        std::fs::write(&path, "a text").unwrap();
        open_or_make(&Database::builder(), &path).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"a text");
    }
}
