//! Making a redb file: beside its place, so that a disk that is full leaves no half of one. For the stores of our other
//! crates.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend, StorageError};

use crate::disk::{self, Disk, Writing};

/// The maximum size of a file that was never whole. redb makes files of 73,728 bytes.
const UNFINISHED: u64 = 1 << 20;

/// The end of the name of a note that the file could not be synced.
const UNSYNCED: &str = "unsynced";

/// The bytes at the beginning that redb writes last.
const MAGIC: usize = 9;

/// Opens a file, or makes it if there is none, or only one that was never whole. Blocks.
///
/// # Errors
/// As [`Builder::open`]: [`DatabaseError::DatabaseAlreadyOpen`] also if a file that was never whole is being made.
pub fn open_or_make(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    settle(path)?;
    let is_unfinished = match std::fs::metadata(path) {
        Ok(about) if about.len() == 0 => true,
        Ok(about) => about.len() <= UNFINISHED && was_never_whole(path).unwrap_or(false),
        Err(error) if error.kind() == ErrorKind::NotFound => return make(builder, path),
        Err(error) => return Err(refused(error)),
    };
    if !is_unfinished {
        return open_settled(builder, path);
    }
    // Nobody may have it open, such as a process that is about to make it.
    if let Err(TryLockError::WouldBlock) = File::open(path).map_err(refused)?.try_lock() {
        return Err(DatabaseError::DatabaseAlreadyOpen);
    }
    tracing::warn!(path = %path.display(), "the file was never whole, as on a full disk; a new one replaces it");
    std::fs::remove_file(path).map_err(refused)?;
    make(builder, path)
}

fn make(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let new = beside(path);
    let made = create(builder, &new).map(drop).and_then(|()| match std::fs::hard_link(&new, path) {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Not all file systems have links.
        Err(_) => std::fs::rename(&new, path).map_err(refused).map(|()| true),
        Ok(()) => Ok(true),
    });
    // After a rename there is nothing to remove.
    let _ = std::fs::remove_file(&new);
    // A power cut would take the name, with all that is synced in the file later.
    if made? && let Err(error) = sync_folder_of(path) {
        let _ = std::fs::remove_file(path);
        return Err(refused(error));
    }
    open_settled(builder, path)
}

/// Makes a change of this name last.
///
/// # Errors
/// If the folder cannot be synced.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    disk::current().sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Opens a file that there is. Blocks.
///
/// # Errors
/// As [`Builder::open`].
pub fn open(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    settle(path)?;
    open_settled(builder, path)
}

fn open_settled(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(refused)?;
    if file.metadata().map_err(refused)?.len() == 0 {
        return Err(refused(ErrorKind::InvalidData.into()));
    }
    with_backend(builder, path, file)
}

/// Makes a file. Blocks.
///
/// # Errors
/// As [`Builder::create`].
pub fn create(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    with_backend(builder, path, file.map_err(refused)?)
}

fn with_backend(builder: &Builder, path: &Path, file: File) -> Result<Database, DatabaseError> {
    let (path, disk) = (path.to_owned(), disk::current());
    if disk::is_simulated() {
        let inner = Simulated { file, disk: Arc::clone(&disk) };
        return builder.create_with_backend(Noting { inner, path, disk });
    }
    builder.create_with_backend(Noting { inner: FileBackend::new(file)?, path, disk })
}

/// A file that notes a sync that fails, for the one who opens it next: the system may report contents that are not on the
/// disk, and would not try again to write them.
#[derive(Debug)]
struct Noting<B> {
    inner: B,
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl<B: StorageBackend> StorageBackend for Noting<B> {
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| {
            if !self.disk.is_gone()
                && let Err(error) = File::create(named(&self.path, UNSYNCED))
            {
                let path = self.path.display();
                tracing::warn!(%path, %error, "it was not noted that the file could not be synced");
            }
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.inner.set_len(length)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(offset, bytes)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// A file on a simulated disk. Nobody locks it, because the processes of a simulation have files of their own.
#[derive(Debug)]
struct Simulated {
    file: File,
    disk: Arc<dyn Disk>,
}

impl StorageBackend for Simulated {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(out))
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.disk.set_len(&self.file, length)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.disk.sync_data(&self.file)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), io::Error> {
        self.disk.write_at(&self.file, bytes, offset)
    }
}

/// Puts a synced copy in the place of a file that could not be synced.
fn settle(path: &Path) -> Result<(), DatabaseError> {
    let note = named(path, UNSYNCED);
    if !note.exists() {
        return Ok(());
    }
    let mut from = match File::open(path) {
        // Somebody has removed the file, and the note is about nothing.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return std::fs::remove_file(&note).map_err(refused);
        }
        opened => opened.map_err(refused)?,
    };
    if let Err(TryLockError::WouldBlock) = from.try_lock() {
        return Err(DatabaseError::DatabaseAlreadyOpen);
    }
    let (new, disk) = (beside(path), disk::current());
    // Not by the system's own copying, which may share what was never written.
    let copied = disk::create(&new).and_then(|file| {
        let mut to = BufWriter::new(Writing { disk: &*disk, file: &file });
        io::copy(&mut from, &mut to)?;
        to.flush()?;
        disk.sync_all(&file)
    });
    let replaced = copied.and_then(|()| std::fs::rename(&new, path)).and_then(|()| sync_folder_of(path));
    if replaced.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    replaced.and_then(|()| std::fs::remove_file(&note)).map_err(refused)
}

fn beside(path: &Path) -> PathBuf {
    named(path, &format!("new-{}", std::process::id()))
}

fn named(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    PathBuf::from(name)
}

/// Whether a file is what redb leaves if it cannot end a new one: zeros, or a header that lacks the mark of redb.
fn was_never_whole(path: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(UNFINISHED).read_to_end(&mut bytes)?;
    let has_no_mark = bytes.iter().take(MAGIC).all(|byte| *byte == 0);
    let has_page_size = bytes.get(12..16) == Some(&4096_u32.to_le_bytes());
    Ok(has_no_mark && (has_page_size || bytes.iter().all(|byte| *byte == 0)))
}

fn refused(error: io::Error) -> DatabaseError {
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

    #[cfg(unix)]
    #[test]
    fn after_a_sync_that_failed_a_synced_copy_takes_the_place_of_a_file() {
        use std::os::unix::fs::MetadataExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        drop(open_or_make(&Database::builder(), &path).unwrap());
        let number = || std::fs::metadata(&path).unwrap().ino();
        let before = number();
        drop(open_or_make(&Database::builder(), &path).unwrap());
        assert_eq!(number(), before);
        File::create(named(&path, UNSYNCED)).unwrap();
        drop(open(&Database::builder(), &path).unwrap());
        assert_ne!(number(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        // A note is about nothing once the file was removed.
        std::fs::remove_file(&path).unwrap();
        File::create(named(&path, UNSYNCED)).unwrap();
        drop(open_or_make(&Database::builder(), &path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
